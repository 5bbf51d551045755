//! `loom replicate` and `loom status`: who keeps a loom, and how far each of them is.
//!
//! Who keeps what is written down beside the record, where the process that has the record finds it; how far the others are is
//! written down by that process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::adapters::clock::SystemClock;
use crate::adapters::reading;
use crate::adapters::store::{FileBook, FjallStore, MemoryStore, note_file};
use crate::domain::copies::{CopyKind, Keeper, LoomCopies};
use crate::domain::ids::{LoomId, NodeName, WriterKey};
use crate::domain::limits::STATUS_BYTES_MAX;
use crate::driver::{Arrangement, Copies, CopyPolicy, CopyTerms, KeeperState, Linking, Runtime, arrange};
use crate::ports::{Clock, CopyBook, LoomStore, StoreError};

use super::args::{CopyChoice, ReplicateArgs};
use super::copy_status::{self, Answer};
use super::exit::{CliError, Exit};
use super::names::find_loom;
use super::settings::{Sandboxed, Settings};
use super::show::count;
use super::{members, node, print, say};

/// The name of the file that says how far the others are.
const STATUS_FILE: &str = "copies-status.json";
/// So often it is written, where something has changed; and where nothing has, so that others see that this process lives.
const TELL: Duration = Duration::from_millis(500);
const TELL_ALIVE_US: u64 = 5_000_000;
/// So long `loom replicate` waits for others to have everything; what is not there by then goes on where a process has the record.
const REPLICATE_WAIT: Duration = Duration::from_mins(10);
/// So long a client waits at its end for others to have everything, and for others that were not there until then.
const LAST_WAIT: Duration = Duration::from_secs(5);
const LAST_WAIT_FOR_ABSENT: Duration = Duration::from_secs(1);
/// A process that has not written for so long does not run any more.
const STALE_US: u64 = 10_000_000;

/// The node file's terms, by the names in certificates.
#[derive(Debug)]
pub(super) struct NodePolicy {
    peers: BTreeMap<NodeName, CopyTerms>,
    local: CopyTerms,
}

impl NodePolicy {
    pub(super) fn new(peers: impl IntoIterator<Item = (NodeName, CopyTerms)>, local: CopyTerms) -> Self {
        Self { peers: peers.into_iter().collect(), local }
    }
}

impl CopyPolicy for NodePolicy {
    fn terms(&self, peer: &Keeper) -> CopyTerms {
        match peer.answerable() {
            None => self.local,
            Some(node) => self.peers.get(node).copied().unwrap_or(CopyTerms::NONE),
        }
    }
}

/// A client takes back only what it gave away: copies of the looms that it has others keep.
#[derive(Debug)]
pub(super) struct ClientPolicy;

impl CopyPolicy for ClientPolicy {
    fn terms(&self, _: &Keeper) -> CopyTerms {
        CopyTerms { bytes_max: u64::MAX, looms_max: usize::MAX, ..CopyTerms::NONE }
    }
}

/// Opens what is kept together with others. `node` is this one's name in certificates.
pub(super) fn open(
    settings: &Settings,
    store: &Arc<FjallStore>,
    node: Keeper,
    policy: Arc<dyn CopyPolicy>,
) -> Result<Arc<Copies>, CliError> {
    let memory = MemoryStore::with_key((*store.key()).clone());
    let book = FileBook::new(&settings.copies());
    let clock = Arc::new(SystemClock::default());
    Copies::new(node, Arc::clone(store) as _, memory, book, policy, clock).map_err(CliError::fault)
}

/// What the process that has the record knows of other keepers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) at_us: u64,
    pub(super) node: Keeper,
    pub(super) looms: BTreeMap<LoomId, BTreeMap<Keeper, ToldKeeper>>,
}

impl Told {
    /// Whether the process that has written it lives.
    pub(super) fn is_live(&self, now_us: u64) -> bool {
        now_us.saturating_sub(self.at_us) < STALE_US
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ToldKeeper {
    pub(super) connected: bool,
    pub(super) has: BTreeMap<String, u64>,
    pub(super) durable: BTreeMap<String, u64>,
    #[serde(default)]
    pub(super) said_at_us: Option<u64>,
    #[serde(default)]
    pub(super) wrong_answers: u64,
    pub(super) last_error: Option<String>,
    #[serde(default)]
    pub(super) last_error_at_us: Option<u64>,
}

impl From<KeeperState> for ToldKeeper {
    fn from(state: KeeperState) -> Self {
        let named = |logs: BTreeMap<WriterKey, u64>| logs.into_iter().map(|(key, at)| (key.to_string(), at)).collect();
        Self {
            connected: state.connected,
            has: named(state.has),
            durable: named(state.durable),
            said_at_us: state.said_at_us,
            wrong_answers: state.wrong_answers,
            last_error: state.last_error,
            last_error_at_us: state.last_error_at_us,
        }
    }
}

fn told(copies: &Copies, at_us: u64) -> Told {
    let keepers = |loom| copies.states(loom).into_iter().map(|(keeper, state)| (keeper, state.into())).collect();
    let looms = copies.looms().into_iter().map(|it| (it.loom, keepers(it.loom))).collect();
    Told { at_us, node: copies.node().clone(), looms }
}

/// Writes down how far the others are, as long as it runs.
pub(super) async fn tell(copies: Arc<Copies>, folder: PathBuf) {
    let clock = SystemClock::default();
    let mut tick = tokio::time::interval(TELL);
    let mut before = None;
    loop {
        tick.tick().await;
        let now_us = clock.now_us();
        let now = told(&copies, 0).looms;
        let is_stale =
            before.as_ref().is_none_or(|(at_us, looms)| now_us.saturating_sub(*at_us) > TELL_ALIVE_US || *looms != now);
        if is_stale {
            write_down(&copies, &folder, now_us);
            before = Some((now_us, now));
        }
    }
}

fn write_down(copies: &Copies, folder: &Path, now_us: u64) {
    let written = serde_json::to_vec(&told(copies, now_us)).map_err(std::io::Error::other);
    if let Err(error) = written.and_then(|text| note_file(&folder.join(STATUS_FILE), &text)) {
        tracing::warn!(%error, "how far the copies are cannot be written down");
    }
}

/// As whom a record is kept: that of a node that does not run at the moment is that node's.
fn own(settings: &Settings) -> Keeper {
    read_told(settings).map_or(Keeper::Local, |told| told.node)
}

pub(super) fn read_told(settings: &Settings) -> Option<Told> {
    let text = reading::bytes(&settings.data().join(STATUS_FILE), STATUS_BYTES_MAX).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Keeps conversations up for a client's own record, as long as it lives.
pub(super) struct Keeping {
    stop: CancellationToken,
    task: Option<tokio::task::JoinHandle<()>>,
    copies: Arc<Copies>,
    folder: PathBuf,
}

impl Keeping {
    pub(super) fn begin(copies: &Arc<Copies>, links: Arc<dyn Linking>, settings: &Settings) -> Self {
        let stop = CancellationToken::new();
        let task = Some(tokio::spawn(Arc::clone(copies).keep_up(links, stop.clone())));
        Self { stop, task, copies: Arc::clone(copies), folder: settings.data().to_owned() }
    }

    /// What is kept.
    pub(super) fn copies(&self) -> &Arc<Copies> {
        &self.copies
    }

    /// Gives the others a moment to have everything, then ends.
    pub(super) async fn end(mut self, loom: LoomId) {
        for (keeper, _) in self.copies.of(loom).iter().flat_map(|of| of.others(self.copies.node())) {
            let is_there = self.copies.states(loom).get(keeper).is_some_and(|state| state.connected);
            let wait = if is_there { LAST_WAIT } else { LAST_WAIT_FOR_ABSENT };
            if !matches!(tokio::time::timeout(wait, self.copies.settled(loom, keeper)).await, Ok(Ok(true))) {
                say(&format!("{keeper} does not have everything of loom {loom} yet; `loom status` says what it lacks"));
            }
        }
        write_down(&self.copies, &self.folder, SystemClock::default().now_us());
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            drop(task.await);
        }
    }
}

/// A runtime on this client's record. What others keep of it goes on being sent to them: `with` names one more of them, or
/// nothing where only a loom that exists already is gone on with.
pub(super) async fn runtime(
    settings: &Settings,
    sandboxed: &Sandboxed,
    name: &str,
    with: Option<&str>,
) -> Result<(Runtime, Option<Keeping>), CliError> {
    let store = settings.store()?;
    let book = FileBook::new(&settings.copies()).load().map_err(CliError::fault)?;
    let is_kept = book.iter().any(|copies| copies.others(&own(settings)).next().is_some());
    let runtime = Settings::runtime_on(sandboxed, name, Arc::clone(&store) as _);
    if !is_kept && with.is_none() {
        return Ok((runtime, None));
    }
    if let Some(with) = with {
        // Whoever is named now has to be known now; the others are tried as long as this process lives.
        node::reach(with, None).await?;
    }
    let copies = open(settings, &store, own(settings), Arc::new(ClientPolicy))?;
    let keeping = Keeping::begin(&copies, Arc::new(node::SocketLinks), settings);
    Ok((runtime.with_copies(copies), Some(keeping)))
}

pub(super) async fn replicate(settings: &Settings, args: ReplicateArgs) -> Result<Exit, CliError> {
    let kind = match args.copies {
        CopyChoice::Disk => CopyKind::Disk,
        CopyChoice::Memory => CopyKind::Memory,
        CopyChoice::None => CopyKind::None,
    };
    let acks = args.acks.map(|acks| (acks, args.acks_wait_ms));
    let arrangement = Arrangement { kind, acks, accept_loss: args.accept_loss };
    match settings.store() {
        Ok(store) => {
            let loom = find_loom(&*store, Some(&args.loom))?;
            node::reach(&args.to, None).await?;
            let copies = open(settings, &store, own(settings), Arc::new(ClientPolicy))?;
            let target = node::keeper(&args.to)?;
            if !args.may.is_empty() {
                let runtime = Settings::runtime_on(&settings.sandbox()?, "local", Arc::clone(&store) as _);
                members::admit_here(&runtime, loom, &args.to, &args.may).await?;
            }
            copies.share_with(loom, &target, arrangement).map_err(CliError::usage)?;
            let links: Arc<dyn Linking> = Arc::new(node::SocketLinks);
            copies.reach_by(Arc::clone(&links));
            let runtime = Settings::runtime_on(&settings.sandbox()?, "local", Arc::clone(&store) as _);
            let runtime = runtime.with_copies(Arc::clone(&copies));
            // Whose acknowledgements have counted acknowledges that they do no more.
            let others = runtime.has_to_say(loom).then(|| Keeping::begin(&copies, links, settings));
            if kind == CopyKind::None {
                if others.is_some() {
                    runtime.say_keeping(loom).await.map_err(CliError::driver)?;
                }
                return gone(&copies, loom, &target);
            }
            let Some(name) = target.node() else { return Ok(Exit::Done) };
            let wire = node::SocketLinks.link(name).await.map_err(node::node_error)?;
            let speaking = copies.converse(&target, wire);
            // What it is sent it has once it says so of its own disk.
            let kept = async {
                if others.is_some() {
                    runtime.say_keeping(loom).await.map_err(CliError::driver)?;
                }
                copies.settled(loom, &target).await.map_err(CliError::fault)?;
                let here = settings.reading_copies()?;
                let what = copy_status::kept(None, &here, loom, (name, kind)).await;
                what.map_err(|what| unfinished(&copies, loom, &target, &what))
            };
            let kept = tokio::select! {
                ended = speaking => {
                    let what = ended.map_err(CliError::fault)?;
                    return Err(unfinished(&copies, loom, &target, &what));
                }
                refused = refusal(&copies, loom, &target) => return Err(unfinished(&copies, loom, &target, &refused)),
                kept = tokio::time::timeout(REPLICATE_WAIT, kept) => kept.unwrap_or_else(|_| Err(not_yet(loom, &target)))?,
            };
            write_down(&copies, settings.data(), SystemClock::default().now_us());
            replicated(store as _, loom, &target, &kept)
        }
        Err(error) if is_locked(&error) => replicate_by_its_process(settings, &args, arrangement).await,
        Err(error) => Err(error),
    }
}

/// Says when a node keeps a loom no longer.
fn gone(copies: &Copies, loom: LoomId, target: &Keeper) -> Result<Exit, CliError> {
    match copies.of(loom) {
        Some(of) => parting(&of, target),
        None => Ok(Exit::Done),
    }
}

fn parting(copies: &LoomCopies, target: &Keeper) -> Result<Exit, CliError> {
    let loom = copies.loom;
    if copies.leaving.contains(target) {
        print(&format!(
            "{target} keeps loom {loom} until nothing that is written into it waits for its acknowledgement"
        ))?;
    } else {
        print(&format!("{target} keeps loom {loom} no longer, once it hears of it"))?;
    }
    Ok(Exit::Done)
}

/// Whether another process has the record.
pub(super) fn is_locked(error: &CliError) -> bool {
    error.source.downcast_ref().is_some_and(|error| matches!(error, StoreError::Locked { .. }))
}

/// The node that serves with this record, as far as it has written down that it lives.
pub(super) fn serving(settings: &Settings) -> Option<String> {
    let told = read_told(settings)?;
    (told.is_live(SystemClock::default().now_us()) && told.node != Keeper::Local).then_some(told.node.to_string())
}

pub(super) const fn place(kind: CopyKind) -> &'static str {
    match kind {
        CopyKind::Disk => "on disk",
        CopyKind::Memory => "in memory only: gone when that node ends",
        CopyKind::None => "nowhere",
    }
}

fn not_yet(loom: LoomId, target: &Keeper) -> CliError {
    let error = CliError::usage(anyhow::anyhow!("{target} does not have all of loom {loom} yet"));
    CliError { exit: Exit::Peer, ..error }.hint("it goes on; `loom status` says how far it is")
}

/// Says what a keeper has, by its own word.
fn replicated(store: Arc<dyn LoomStore>, loom: LoomId, target: &Keeper, kept: &Answer) -> Result<Exit, CliError> {
    let entries = count(kept.entries, "entry", "entries");
    print(&format!("{target} has {entries} of loom {loom}, {}", place(kept.kind)))?;
    if let Some(what) = members::nobody_else(store, loom, &target.to_string()) {
        say(&what);
    }
    Ok(Exit::Done)
}

async fn refusal(copies: &Copies, loom: LoomId, keeper: &Keeper) -> String {
    loop {
        if let Some(what) = copies.states(loom).get(keeper).and_then(|state| state.last_error.clone()) {
            return what;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn unfinished(copies: &Copies, loom: LoomId, keeper: &Keeper, what: &str) -> CliError {
    let error = CliError::usage(anyhow::anyhow!("{keeper} does not have all of loom {loom}: {what}"));
    let hint = format!(
        "a node keeps looms of peers that its file allows it: may = [\"keep\"]; what it has already stays there, and the same \
         command goes on ({} is this side's name)",
        copies.node()
    );
    CliError { exit: Exit::Peer, ..error }.hint(hint)
}

/// Another process has the record: it is told, and watched.
async fn replicate_by_its_process(
    settings: &Settings,
    args: &ReplicateArgs,
    arrangement: Arrangement,
) -> Result<Exit, CliError> {
    let kind = arrangement.kind;
    let loom = find_loom(&*settings.reading()?, Some(&args.loom))?;
    let book = FileBook::new(&settings.copies());
    let began_us = SystemClock::default().now_us();
    let own = own(settings);
    let known = book.load().map_err(CliError::fault)?.into_iter().find(|copies| copies.loom == loom);
    let mut copies = known.unwrap_or_else(|| LoomCopies::new(loom, &own));
    let target = node::keeper(&args.to)?;
    arrange(&mut copies, &own, &target, arrangement).map_err(CliError::usage)?;
    if !args.may.is_empty() {
        members::admit_there(settings, loom, &args.to, &args.may).await?;
    }
    book.save(&copies).map_err(CliError::fault)?;
    if kind == CopyKind::None {
        return parting(&copies, &target);
    }
    say("the process that has the record does it; Ctrl-C leaves it to that");
    let Some(name) = target.node() else { return Ok(Exit::Done) };
    let store = settings.reading_copies()?;
    let by = own.node().map(ToString::to_string);
    let kept = async {
        loop {
            tokio::time::sleep(TELL).await;
            let told = read_told(settings);
            let keeper = told.as_ref().and_then(|told| told.looms.get(&loom)).and_then(|all| all.get(&target));
            let Some(keeper) = keeper else { continue };
            // What went wrong before is no answer to this.
            let error = keeper.last_error.as_ref().filter(|_| keeper.last_error_at_us.is_some_and(|at| at >= began_us));
            if let Some(what) = error {
                return Err(what.clone());
            }
            if keeper.connected {
                return copy_status::kept(by.as_deref(), &store, loom, (name, kind)).await;
            }
        }
    };
    match tokio::time::timeout(REPLICATE_WAIT, kept).await {
        Ok(Ok(kept)) => replicated(store as _, loom, &target, &kept),
        Ok(Err(what)) => {
            let error = CliError::usage(anyhow::anyhow!("{target} does not have all of loom {loom}: {what}"));
            Err(CliError { exit: Exit::Peer, ..error }.hint("it is tried again; `loom status` says how it is going"))
        }
        Err(_) => Err(not_yet(loom, &target)),
    }
}
