//! `loom status` and `loom verify --node`: who keeps a loom, and what each of them says of its own disk when it is asked.
//!
//! A keeper is asked each time. What it has said before is shown only where it does not answer now, and with the time.

use std::collections::BTreeMap;

use serde_json::{Value, json as object};

use crate::adapters::clock::SystemClock;
use crate::adapters::peer::CopyState;
use crate::adapters::store::{FileBook, ReadingStore};
use crate::domain::copies::{CopyKind, Keeper, LogState, LoomCopies, Recorded};
use crate::domain::ids::{LoomId, NodeName, WriterKey, hex};
use crate::domain::loom::EquivocationProof;
use crate::ports::{Clock as _, CopyBook as _, LoomStore as _, StoreError};

use super::args::StatusArgs;
use super::copies::{ToldKeeper, place, read_told};
use super::exit::{CliError, Exit};
use super::names::find_loom;
use super::output::print_json;
use super::settings::{self, Settings};
use super::show::count;
use super::{members, node, print, say};

/// Question interval: a keeper that does not have everything yet is asked again after 500 ms.
const ASK_AGAIN: std::time::Duration = std::time::Duration::from_millis(500);

/// What a keeper says that it has, as far as it is what is here.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// When it said so, in microseconds since 1970.
    at_us: u64,
    /// Where it keeps it.
    pub(super) kind: CopyKind,
    /// How far each log is there.
    has: BTreeMap<WriterKey, u64>,
    /// How many entries that is.
    pub(super) entries: u64,
    /// How many entries that are here are not there.
    lacks: u64,
    /// Of how many writers it has another history.
    others: u64,
}

impl Answer {
    /// Compares what is there with what is here, by the chains of the logs.
    fn of(store: &ReadingStore, loom: LoomId, at_us: u64, state: &CopyState) -> Result<Self, StoreError> {
        let mut answer = Self { at_us, kind: state.kind, has: BTreeMap::new(), entries: 0, lacks: 0, others: 0 };
        for LogState { writer, head, .. } in store.logs(loom)? {
            let there = state.logs.iter().find(|log| log.writer == writer);
            let up_to = there.map_or(0, |log| log.head.sequence.min(head.sequence));
            let is_same = match there {
                Some(log) if log.head.sequence <= head.sequence => {
                    store.chain_at(loom, writer, log.head.sequence)? == Some(log.head.chain)
                }
                // It is ahead of what is here: so far as its writer has signed that.
                Some(log) => log.signed.is_some_and(|signed| signed.head == log.head && signed.is_signed()),
                None => true,
            };
            let has = if is_same { up_to } else { 0 };
            answer.others = answer.others.saturating_add(u64::from(!is_same));
            answer.entries = answer.entries.saturating_add(has);
            answer.lacks = answer.lacks.saturating_add(head.sequence.saturating_sub(has));
            if there.is_some() {
                answer.has.insert(writer, has);
            }
        }
        Ok(answer)
    }

    /// In words.
    fn words(&self) -> String {
        if self.kind == CopyKind::None {
            return "keeps nothing of it".to_owned();
        }
        let has = match self.lacks {
            0 => "has everything".to_owned(),
            lacks => format!("lacks {}", count(lacks, "entry", "entries")),
        };
        let others = match self.others {
            0 => String::new(),
            others => format!("; of {} it has another history", count(others, "writer", "writers")),
        };
        format!("{has}, {}{others}", place(self.kind))
    }
}

/// Asks a keeper. `serving` is the node that serves this record, where one does: it asks as itself.
async fn ask(serving: Option<&str>, store: &ReadingStore, loom: LoomId, keeper: &NodeName) -> Result<Answer, String> {
    let whys = |error: CliError| format!("{:#}", error.source);
    let (nodes, whole) = node::reach_by(serving, keeper.as_str()).await.map_err(whys)?;
    let state = nodes.copy_state(whole.name().as_str(), loom).await.map_err(|error| whys(node::node_error(error)))?;
    Answer::of(store, loom, SystemClock::default().now_us(), &state).map_err(|error| whys(CliError::fault(error)))
}

/// Asks a keeper until it says that it has everything, in the way that it was asked for; fails where it does not answer.
pub(super) async fn kept(
    serving: Option<&str>,
    store: &ReadingStore,
    loom: LoomId,
    (keeper, kind): (&NodeName, CopyKind),
) -> Result<Answer, String> {
    loop {
        let answer = ask(serving, store, loom, keeper).await?;
        if answer.lacks == 0 && answer.kind == kind {
            return Ok(answer);
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// One keeper, as `loom status` shows it.
struct Shown<'a> {
    keeper: &'a Keeper,
    /// How it is to keep the loom.
    kind: CopyKind,
    /// What the process that has the record knows of it.
    known: ToldKeeper,
    answer: Result<Answer, String>,
}

/// How long ago something was, in words.
fn ago(now_us: u64, at_us: u64) -> String {
    let seconds = now_us.saturating_sub(at_us) / 1_000_000;
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7_200 => format!("{} min ago", seconds / 60),
        7_200..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

impl Shown<'_> {
    /// How many entries it lacks, by its answer, or by what was heard of it last.
    fn lacks(&self, logs: &[LogState]) -> u64 {
        let known = |log: &LogState| self.known.has.get(&log.writer.to_string()).copied().unwrap_or_default();
        let behind = logs.iter().map(|log| log.head.sequence.saturating_sub(known(log)));
        self.answer.as_ref().map_or_else(|_| behind.sum(), |answer| answer.lacks)
    }

    fn json(&self, logs: &[LogState]) -> Value {
        let named = |has: &BTreeMap<WriterKey, u64>| -> BTreeMap<String, u64> {
            has.iter().map(|(writer, at)| (writer.to_string(), *at)).collect()
        };
        let (mut has, mut durable) = (self.known.has.clone(), self.known.durable.clone());
        let (mut said_at_us, mut is_at, mut no_answer) = (self.known.said_at_us, None, None);
        match &self.answer {
            Ok(answer) => {
                has = named(&answer.has);
                durable = if answer.kind == CopyKind::Disk { has.clone() } else { BTreeMap::new() };
                (said_at_us, is_at) = (Some(answer.at_us), Some(answer.kind.as_str()));
            }
            Err(why) => no_answer = Some(why),
        }
        object!({
            "node": self.keeper, "kind": self.kind.as_str(), "connected": self.known.connected,
            "fresh": self.answer.is_ok(), "said_at_us": said_at_us, "no_answer": no_answer, "kept": is_at,
            "lag_entries": self.lacks(logs), "has": has, "durable": durable,
            "wrong_answers": self.known.wrong_answers,
            "last_error": self.known.last_error, "last_error_at_us": self.known.last_error_at_us,
        })
    }

    fn print(&self, logs: &[LogState], now_us: u64) -> Result<(), CliError> {
        let state = if self.known.connected { "connected" } else { "not connected" };
        let what = match &self.answer {
            Ok(answer) => answer.words(),
            Err(_) => "does not say what it has".to_owned(),
        };
        print(&format!("  keeper {:<12}  {:<6}  {state}, {what}", self.keeper, self.kind.as_str()))?;
        if let Err(why) = &self.answer {
            print(&format!("         no answer: {why}"))?;
            let before = match self.known.said_at_us {
                Some(at_us) if self.lacks(logs) == 0 => format!("{} it had everything", ago(now_us, at_us)),
                Some(at_us) => {
                    let lacks = count(self.lacks(logs), "entry", "entries");
                    format!("{} it had all but {lacks}", ago(now_us, at_us))
                }
                None => "nothing was ever heard of it".to_owned(),
            };
            print(&format!("         {before}"))?;
        }
        if self.known.wrong_answers > 0 {
            let times = count(self.known.wrong_answers, "time", "times");
            print(&format!("         said {times} that it has what it cannot have"))?;
        }
        if let Some(what) = &self.known.last_error {
            let at = self.known.last_error_at_us.map(|at_us| format!(" ({})", ago(now_us, at_us)));
            print(&format!("         last error{}: {what}", at.unwrap_or_default()))?;
        }
        Ok(())
    }
}

/// Asks all other keepers at once.
async fn shown<'a>(
    settings: &Settings,
    store: &ReadingStore,
    copies: Option<&'a LoomCopies>,
    loom: LoomId,
) -> Vec<Shown<'a>> {
    let told = read_told(settings);
    let is_live = told.as_ref().is_some_and(|told| told.is_live(SystemClock::default().now_us()));
    let own = told.as_ref().map_or(Keeper::Local, |told| told.node.clone());
    let serving = own.node().filter(|_| is_live).map(ToString::to_string);
    let of_keeper = |keeper: &Keeper| {
        let keepers = told.as_ref().and_then(|told| told.looms.get(&loom));
        let mut known = keepers.and_then(|keepers| keepers.get(keeper)).cloned().unwrap_or_default();
        known.connected &= is_live;
        known
    };
    let others: Vec<(&Keeper, CopyKind)> = copies
        .iter()
        .flat_map(|copies| &copies.keepers)
        .filter(|(keeper, keeping)| !keeper.is_same(&own) && keeping.kind != CopyKind::None)
        .map(|(keeper, keeping)| (keeper, keeping.kind))
        .collect();
    let asked = others.into_iter().map(|(keeper, kind)| {
        let (known, serving) = (of_keeper(keeper), serving.as_deref());
        async move {
            let answer = match keeper.node() {
                Some(name) => ask(serving, store, loom, name).await,
                None => Err("it is no node, and comes by itself".to_owned()),
            };
            Shown { keeper, kind, known, answer }
        }
    });
    futures_util::future::join_all(asked).await
}

pub(super) async fn status(settings: &Settings, args: &StatusArgs) -> Result<Exit, CliError> {
    let store = settings.reading_copies()?;
    let loom = find_loom(&*store, args.loom.as_deref())?;
    let folder = settings.folder();
    let failed = |error| settings::store_error(error, &folder);
    let logs = store.logs(loom).map_err(failed)?;
    let proofs = store.proofs().map_err(failed)?;
    let book = FileBook::new(&settings.copies()).load().map_err(failed)?;
    let copies = book.into_iter().find(|copies| copies.loom == loom);
    let keepers = shown(settings, &store, copies.as_ref(), loom).await;
    let goes_on = members::who_goes_on(std::sync::Arc::clone(&store) as _, loom);
    if args.json {
        let writers: Vec<_> = logs.iter().map(|log| writer_json(log, store.writer(), &proofs, loom)).collect();
        let keepers: Vec<_> = keepers.iter().map(|shown| shown.json(&logs)).collect();
        let goes_on: Vec<_> = goes_on.iter().map(members::principal_json).collect();
        let acks = copies.as_ref().map_or(0, |copies| copies.acks);
        let recorded = copies.as_ref().and_then(|copies| in_force(copies, store.writer()));
        let counting: Vec<String> = recorded.iter().flat_map(|it| &it.keepers).map(ToString::to_string).collect();
        let waits = copies.as_ref().map_or(0, |copies| copies.recorded.len().saturating_sub(1));
        print_json(&object!({
            "loom": loom.to_string(), "acks": acks, "acks_recorded": recorded.map(|it| it.acks), "counting": counting,
            "changes_unacknowledged": waits, "writers": writers, "keepers": keepers, "may_go_on": goes_on,
        }))?;
        return Ok(Exit::Done);
    }
    print(&format!("loom {loom}"))?;
    for log in &logs {
        print_writer(log, store.writer(), &proofs, loom)?;
    }
    let now_us = SystemClock::default().now_us();
    for shown in &keepers {
        shown.print(&logs, now_us)?;
    }
    for principal in &goes_on {
        print(&format!("  may go on  {principal}"))?;
    }
    match &copies {
        None => say("nobody else keeps it; `loom replicate LOOM --to NODE` changes that"),
        Some(copies) => say_acks(copies, store.writer()),
    }
    let kept_by = keepers.first().map_or_else(|| "NODE".to_owned(), |shown| shown.keeper.to_string());
    if let Some(what) = members::nobody_else(store, loom, &kept_by) {
        say(&what);
    }
    Ok(Exit::Done)
}

/// What this node's log says of acknowledgements.
fn in_force(copies: &LoomCopies, own: WriterKey) -> Option<&Recorded> {
    copies.recorded.last().filter(|it| it.writer == own)
}

fn say_acks(copies: &LoomCopies, own: WriterKey) {
    let acks = copies.acks;
    match in_force(copies, own).filter(|it| it.acks > 0) {
        Some(it) => {
            let named: Vec<String> = it.keepers.iter().map(ToString::to_string).collect();
            say(&format!("a turn is recorded once {} of {} have it on disk", it.acks, named.join(", ")));
            if it.acks != acks || copies.recorded.len() > 1 {
                say("a change of that waits to be recorded, or to be acknowledged by those who count now");
            }
        }
        None if acks > 0 => say(&format!(
            "a turn is recorded once {acks} of them have it on disk; the record itself will say so with what is written next"
        )),
        None => {}
    }
}

fn has_two(proofs: &[EquivocationProof], loom: LoomId, writer: WriterKey) -> bool {
    proofs.iter().any(|proof| (proof.loom, proof.writer) == (loom, writer))
}

fn writer_json(log: &LogState, own: WriterKey, proofs: &[EquivocationProof], loom: LoomId) -> Value {
    object!({
        "writer": log.writer.to_string(),
        "own": log.writer == own,
        "entries": log.head.sequence,
        "chain": hex(&log.head.chain),
        "signed": log.signed.map(|signed| signed.head.sequence),
        "two_histories": has_two(proofs, loom, log.writer),
    })
}

fn print_writer(log: &LogState, own: WriterKey, proofs: &[EquivocationProof], loom: LoomId) -> Result<(), CliError> {
    let own = if log.writer == own { "  this node" } else { "" };
    let signed = log.signed.map_or_else(|| "not signed yet".to_owned(), |at| format!("signed to {}", at.head.sequence));
    let cheats = if has_two(proofs, loom, log.writer) { "  HAS SIGNED TWO HISTORIES" } else { "" };
    let writer = log.writer.to_string();
    let short = writer.get(..12).unwrap_or(&writer);
    print(&format!("  writer {short}…  {:>7}  {signed}{own}{cheats}", count(log.head.sequence, "entry", "entries")))
}

/// Has another node recompute its copy, and compares how far it is with the one here.
pub(super) async fn verify_at(settings: &Settings, loom: &str, node: &str, as_json: bool) -> Result<Exit, CliError> {
    let here = settings.reading_copies().ok();
    let id = match (&here, loom.parse::<LoomId>()) {
        (_, Ok(id)) => id,
        (Some(store), Err(_)) => find_loom(&**store, Some(loom))?,
        (None, Err(error)) => return Err(CliError::usage(error)),
    };
    let serving = super::copies::serving(settings);
    let (nodes, whole) = node::reach_by(serving.as_deref(), node).await?;
    let verified = nodes.verify(whole.name().as_str(), id).await.map_err(node::node_error)?;
    let logs = here.map(|store| store.logs(id)).transpose().map_err(CliError::fault)?.unwrap_or_default();
    let lacks: u64 = logs
        .iter()
        .map(|log| {
            let there = verified.logs.iter().find(|it| *it.writer == log.writer.as_bytes()[..]);
            log.head.sequence.saturating_sub(there.map_or(0, |it| it.sequence))
        })
        .sum();
    if as_json {
        print_json(&object!({
            "loom": id.to_string(), "node": whole, "entries": verified.entries, "blobs": verified.texts,
            "lacks_entries": lacks, "findings": verified.findings,
        }))?;
    } else {
        for finding in &verified.findings {
            print(finding)?;
        }
        say(&format!(
            "{whole}: {}, {} recomputed: {}{}",
            count(verified.entries, "entry", "entries"),
            count(verified.texts, "text", "texts"),
            if verified.findings.is_empty() {
                "clean".to_owned()
            } else {
                count(verified.findings.len() as u64, "finding", "findings")
            },
            if lacks == 0 {
                String::new()
            } else {
                format!("; it lacks {} that are here", count(lacks, "entry", "entries"))
            }
        ));
    }
    Ok(if verified.findings.is_empty() { Exit::Done } else { Exit::Damaged })
}
