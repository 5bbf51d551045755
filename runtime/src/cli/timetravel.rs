//! `loom fork`, `replay`, `diff`, `reward`, `adopt`: what was, run again; what might have been; and who goes on.

use std::sync::Arc;

use futures_util::StreamExt;
use serde_json::{Value, json as object};

use crate::domain::context::cut;
use crate::domain::ids::{EntityId, EntryId, LoomId};
use crate::domain::loom::{Body, ForeignError, How, Tree, Turn};
use crate::driver::{
    Amendment, Cantrip, CastError, CastOptions, Control, Fault, ReplayError, Runtime, Summoned, TakenThread,
};
use crate::export;
use crate::ports::{Guest, LoomStore};

use super::args::{ForkArgs, ReplayArgs, ThreadsArgs};
use super::exit::{CliError, Exit};
use super::names::{find_loom, find_thread};
use super::output::print_json;
use super::settings::Settings;
use super::show::count;
use super::{file, node, print, say};

/// 8 forks run at once: each asks a model.
const FORKS_AT_ONCE: usize = 8;

/// The turn that an entry belongs to: whose, and how many turns its thread has up to there.
fn place(tree: &Tree, store: &dyn LoomStore, entry: EntryId) -> Result<(EntityId, u64), CliError> {
    let sealed = store.entry(entry).map_err(CliError::fault)?;
    let sealed = sealed.ok_or_else(|| {
        CliError::usage(anyhow::anyhow!("there is no entry {entry}")).hint("`loom show` names turns by their entries")
    })?;
    let entity = sealed.entry.entity.ok_or_else(|| {
        let kind = sealed.entry.body.kind();
        CliError::usage(anyhow::anyhow!("the entry {entry} is `{kind}` of the loom as a whole, and of no turn"))
            .hint("`loom show` names turns by their entries")
    })?;
    let thread = tree.thread(entity).map_err(CliError::fault)?;
    let mut spoken = thread.iter().filter(|turn| turn.said.is_some());
    let turns = match tree.turn_of(entry) {
        Some(turn) => spoken.position(|of| of.id == turn).map_or(0, |before| before + 1),
        None if matches!(sealed.entry.body, Body::Opened(_)) => 0,
        // It is in no turn: those that were made before it are kept.
        None => spoken.take_while(|turn| turn.from.is_some() || turn.at_us <= sealed.entry.at_us).count(),
    };
    Ok((entity, turns as u64))
}

/// The loom that an entry is in.
fn loom_of(settings: &Settings, entry: EntryId) -> Result<LoomId, CliError> {
    let sealed = settings.reading()?.entry(entry).map_err(CliError::fault)?;
    let sealed = sealed.ok_or_else(|| {
        CliError::usage(anyhow::anyhow!("there is no entry {entry}")).hint("`loom show` names turns by their entries")
    })?;
    Ok(sealed.entry.loom)
}

/// What is forked, and into which loom.
struct Forking {
    loom: LoomId,
    of: EntityId,
    turns: u64,
    /// The thread of the loom `of` is in, where this node may not write into that one: the forks are in a loom of their own.
    taken: Option<Arc<TakenThread>>,
}

impl Forking {
    fn find(runtime: &Runtime, loom: LoomId, entry: EntryId) -> Result<Self, CliError> {
        let tree = runtime.tree(loom).map_err(CliError::fault)?;
        let (of, turns) = place(&tree, &**runtime.store(), entry)?;
        let taken = match runtime.may_write(loom) {
            Ok(()) => None,
            Err(Fault::NotPermitted { .. }) => {
                let taken = runtime.take_thread(loom, of, turns).map_err(|fault| {
                    let is_long = matches!(fault, Fault::Foreign(ForeignError::Size { .. }));
                    let error = CliError::driver(fault);
                    if is_long { error.hint("fork it after fewer turns") } else { error }
                });
                Some(Arc::new(taken?))
            }
            Err(other) => return Err(CliError::driver(other)),
        };
        Ok(Self { loom, of, turns, taken })
    }

    fn intent(&self, runtime: &Runtime) -> Result<String, CliError> {
        if let Some(taken) = &self.taken {
            return taken.intent().map_err(CliError::driver);
        }
        let tree = runtime.tree(self.loom).map_err(CliError::fault)?;
        Ok(tree.restore(self.of, Some(self.turns)).map_err(CliError::fault)?.intent)
    }

    /// Founds a loom for the forks, where this node may not write into theirs.
    fn into_own(self, runtime: &Runtime) -> Result<Self, CliError> {
        if self.taken.is_none() {
            return Ok(self);
        }
        let own = runtime.found().map_err(CliError::driver)?;
        say(&format!(
            "this node may not write into the loom {}: its thread goes on in a loom of your own, {own}",
            self.loom
        ));
        Ok(Self { loom: own, ..self })
    }

    fn entity(&self, runtime: &Runtime, cantrip: &Cantrip) -> Result<Summoned, CliError> {
        let options = CastOptions { control: Some(Control::new()), ..CastOptions::default() };
        let forked = match &self.taken {
            Some(taken) => runtime.fork_taken(cantrip, taken, self.loom, options),
            None => runtime.fork(cantrip, self.loom, self.of, self.turns, options),
        };
        forked.map_err(CliError::driver)
    }
}

pub(super) async fn fork(settings: &Settings, args: ForkArgs) -> Result<Exit, CliError> {
    let entry: EntryId = args.entry.parse().map_err(CliError::usage)?;
    let loom = loom_of(settings, entry)?;
    let path = match args.cantrip.clone() {
        Some(path) => path,
        None => settings.origin(loom).ok_or_else(|| {
            CliError::usage(anyhow::anyhow!("which cantrip file the loom {loom} was cast from is not known here"))
                .hint("name it: --cantrip FILE; gates are made from it, as for the first cast")
        })?,
    };
    let sandboxed = settings.sandbox()?;
    let sets = args.set.iter().map(|set| file::Change::parse(set)).collect::<Result<Vec<_>, _>>();
    let sets = sets.map_err(|what| CliError::usage(anyhow::anyhow!(what)))?;
    // The file is checked before a loom is founded.
    sandboxed.cantrip_with(&path, &sets)?;
    let runtime = settings.runtime(&sandboxed, false)?;
    let forking = Forking::find(&runtime, loom, entry)?;
    let intent = match &args.intent {
        Some(intent) => intent.clone(),
        None => forking.intent(&runtime)?,
    };
    let (of, turns) = (forking.of, forking.turns);
    say(&format!("{} after turn {turns} of {of}, on: {}", count(args.n as u64, "fork", "forks"), cut(&intent, 100)));
    let forking = forking.into_own(&runtime)?;
    if forking.taken.is_some() {
        settings.remember_origin(forking.loom, &path);
    }
    let run = |number: usize| {
        let (runtime, sandboxed, sets, path, intent, args) = (&runtime, &sandboxed, &sets, &path, &intent, &args);
        let forking = &forking;
        async move {
            // Each has a model of its own: a script is used up.
            let mut cantrip = sandboxed.cantrip_with(path, sets)?;
            if let Some(model) = &args.model {
                let folder = path.parent().unwrap_or(std::path::Path::new("."));
                cantrip = cantrip.with_llm(super::familiar::model_named(settings, model, "--model", folder)?.llm);
            }
            let mut entity = forking.entity(runtime, &cantrip)?;
            forked(runtime, &mut entity, intent, number + 1).await
        }
    };
    let mut running = futures_util::stream::iter((0..args.n.max(1)).map(run)).buffered(FORKS_AT_ONCE);
    let mut all = Vec::new();
    while let Some(done) = running.next().await {
        let done = done?;
        if !args.json {
            print(&in_a_line(&done))?;
        }
        all.push(done);
    }
    if args.json {
        let from = forking.taken.is_some().then(|| loom.to_string());
        print_json(
            &object!({ "loom": forking.loom.to_string(), "of": of.to_string(), "turns": turns, "from": from, "forks": all }),
        )?;
    }
    let is_done = all.iter().all(|fork| fork.get("how").and_then(Value::as_str) == Some(How::Terminated.as_str()));
    Ok(if is_done { Exit::Done } else { Exit::Failed })
}

/// Runs a fork, and says what came of it.
async fn forked(runtime: &Runtime, entity: &mut Summoned, intent: &str, number: usize) -> Result<Value, CliError> {
    let (outcome, failure) = match entity.send(intent).await {
        Ok(outcome) => (outcome, None),
        Err(CastError::Failed { failure, outcome }) => (*outcome, Some(failure.to_string())),
        Err(CastError::NoIntent) => return Err(CliError::usage(CastError::NoIntent)),
        Err(CastError::Fault(fault)) => return Err(CliError::driver(fault)),
    };
    let tree = runtime.tree(entity.loom()).map_err(CliError::fault)?;
    let fork = tree.entity(entity.entity()).ok().and_then(|view| view.opened.fork.as_ref());
    Ok(object!({
        "fork": number, "entity": outcome.entity.to_string(), "strategy": fork.map(|fork| fork.strategy),
        "how": outcome.how, "reason": outcome.reason, "result": outcome.result, "failure": failure,
        "spent": outcome.spent,
    }))
}

fn in_a_line(fork: &Value) -> String {
    let text = |key: &str| fork.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let result = fork.get("result").filter(|result| !result.is_null()).map(ToString::to_string);
    let answer = cut(&result.unwrap_or_else(|| text("failure")), 200);
    format!("{}  {} ({})  by {}  {answer}", text("entity"), text("how"), text("reason"), text("strategy"))
}

pub(super) async fn replay(settings: &Settings, args: ReplayArgs) -> Result<Exit, CliError> {
    let sandboxed = settings.sandbox()?;
    let runtime = if args.record {
        settings.runtime(&sandboxed, false)?
    } else {
        Settings::runtime_on(&sandboxed, crate::domain::copies::LOCAL, settings.reading()?)
    };
    let (loom, entity) = find_thread(&**runtime.store(), &args.thread)?;
    let opened = runtime.tree(loom).map_err(CliError::fault)?.entity(entity).map_err(CliError::fault)?.opened.clone();
    let guest: Option<Arc<dyn Guest>> = match &opened.guest {
        Some(reference) => Some(sandboxed.kept_guest(reference)?),
        None => None,
    };
    if args.record {
        // Said before anything runs.
        runtime.may_write(loom).map_err(CliError::driver)?;
    }
    let replayed = runtime.replay(loom, entity, guest).await.map_err(|error| match error {
        error @ ReplayError::OtherMedium { .. } => {
            CliError::usage(error).hint("use the version that it was recorded with")
        }
        ReplayError::Fault(fault) => CliError::driver(fault),
    })?;
    let mut entry = None;
    if args.record {
        entry = Some(runtime.record_replay(&replayed).await.map_err(CliError::driver)?);
    }
    let difference = replayed.difference.as_ref();
    if args.json {
        let difference =
            difference.map(|it| object!({ "turn": it.turn, "entry": it.entry.to_string(), "what": it.what }));
        print_json(&object!({
            "loom": loom.to_string(), "entity": entity.to_string(), "head": replayed.head.to_string(),
            "turns": replayed.turns, "evaluations": replayed.evaluations, "gate_calls": replayed.gate_calls,
            "medium": replayed.medium, "same": difference.is_none(), "difference": difference,
            "statement": entry.map(|id| id.to_string()),
        }))?;
    } else {
        let ran = format!(
            "{}, {} run again, {} answered from the record",
            count(replayed.turns, "turn", "turns"),
            count(replayed.evaluations, "piece of code", "pieces of code"),
            count(replayed.gate_calls, "gate call", "gate calls")
        );
        match difference {
            None => print(&format!("the same: {ran}"))?,
            Some(it) => print(&format!("turn {} ({}) is otherwise: {}", it.turn, it.entry, it.what))?,
        }
        if let Some(entry) = entry {
            say(&format!("recorded beside the thread as {entry}; the log that it is in is signed when it is copied"));
        }
    }
    Ok(if difference.is_none() { Exit::Done } else { Exit::Failed })
}

/// What of a turn is compared: everything but ids and times.
fn essence(turn: &Turn) -> Value {
    let mut value = export::turn(turn, export::Redaction::Default);
    if let Value::Object(map) = &mut value {
        map.retain(|key, _| {
            ["said", "gates", "observation", "terminated", "truncated", "reason"].contains(&key.as_str())
        });
        let inner = [("gates", "duration_us"), ("said", "usage"), ("said", "model")];
        for (key, field) in inner {
            match map.get_mut(key) {
                Some(Value::Array(items)) => {
                    items.iter_mut().filter_map(Value::as_object_mut).for_each(|item| drop(item.remove(field)));
                }
                Some(Value::Object(item)) => drop(item.remove(field)),
                _ => {}
            }
        }
    }
    value
}

/// What one side of a difference did, in a line.
fn line(turn: Option<&Turn>) -> String {
    let Some(turn) = turn else { return "(no such turn)".to_owned() };
    let said = turn.said.iter().flat_map(|said| {
        let code = said.calls.iter().filter_map(|call| {
            let arguments = call.arguments.as_ref().ok()?;
            Some(
                arguments
                    .get("code")
                    .and_then(Value::as_str)
                    .map_or_else(|| format!("{}({arguments})", call.gate), str::to_owned),
            )
        });
        said.content.clone().into_iter().chain(code)
    });
    let said = said.collect::<Vec<_>>().join("\n");
    let seen = turn.observation.iter().flat_map(|seen| &seen.answers).map(|answer| answer.content.as_str());
    let seen = seen.collect::<Vec<_>>().join("\n");
    let flat = |text: &str| {
        let shown = cantrip_gates::redact_start(text, 4_000).0;
        cut(&shown.split_whitespace().collect::<Vec<_>>().join(" "), 160)
    };
    format!("{}  = {}", flat(&said), flat(&seen))
}

pub(super) fn diff(settings: &Settings, args: &ThreadsArgs) -> Result<Exit, CliError> {
    let reader = settings.reader()?;
    let thread = |named: &str| {
        let (loom, entity) = find_thread(&**reader.store(), named)?;
        let tree = reader.tree(loom).map_err(CliError::fault)?;
        let turns = tree.thread(entity).map_err(CliError::fault)?;
        Ok::<_, CliError>((entity, turns))
    };
    let ((one, left), (other, right)) = (thread(&args.one)?, thread(&args.other)?);
    let same = left.iter().zip(&right).take_while(|(left, right)| essence(left) == essence(right)).count();
    let differ: Vec<(Option<&Turn>, Option<&Turn>)> = (same..left.len().max(right.len()))
        .map(|at| (left.get(at), right.get(at)))
        .filter(|(left, right)| left.map(essence) != right.map(essence))
        .collect();
    if args.json {
        let side = |turn: Option<&Turn>| turn.map(|turn| export::turn(turn, export::Redaction::Default));
        let differ: Vec<Value> =
            differ.iter().map(|(left, right)| object!({ "one": side(*left), "other": side(*right) })).collect();
        print_json(&object!({
            "one": one.to_string(), "other": other.to_string(), "turns": [left.len(), right.len()],
            "same_turns": same, "differences": differ,
        }))?;
    } else {
        print(&format!("{} the same", count(same as u64, "turn is", "turns are")))?;
        for (left, right) in &differ {
            let number = left.or(*right).map_or(0, |turn| turn.sequence);
            print(&format!("turn {number}"))?;
            print(&format!("  - {}", line(*left)))?;
            print(&format!("  + {}", line(*right)))?;
        }
    }
    Ok(if differ.is_empty() { Exit::Done } else { Exit::Failed })
}

pub(super) async fn adopt(settings: &Settings, named: &str, accept_loss: bool) -> Result<Exit, CliError> {
    let sandboxed = settings.sandbox()?;
    match super::copies::runtime(settings, &sandboxed, "local", None).await {
        Ok((runtime, keeping)) => {
            let (loom, entity) = find_thread(&**runtime.store(), named)?;
            let adopted = runtime.adopt(loom, entity, accept_loss).await.map_err(adoption_error);
            if let Some(keeping) = keeping.filter(|_| adopted.is_ok()) {
                keeping.end(loom).await;
            }
            let (entry, epoch) = adopted?;
            print(&entry.to_string())?;
            say(&format!(
                "{entity} is this node's now, as of epoch {epoch}; what its former owner writes of it from here on is set aside. \
                 `cast CANTRIP --resume {loom}` goes on with it"
            ));
        }
        Err(error) => {
            // A node that serves has the record: it adopts, and goes on.
            let Some(node) = super::copies::serving(settings).filter(|_| super::copies::is_locked(&error)) else {
                return Err(error);
            };
            let (loom, entity) = find_thread(&*settings.reading()?, named)?;
            let (nodes, whole) = node::reach(&node, None).await?;
            let adopted =
                nodes.adopt(whole.name().as_str(), (loom, entity), accept_loss).await.map_err(node::node_error)?;
            if !adopted.refused.is_empty() {
                let error = CliError::usage(anyhow::anyhow!(adopted.refused));
                return Err(if adopted.too_few { error.too_few_keepers(entity) } else { error });
            }
            print(&adopted.entry)?;
            say(&format!("{entity} is {whole}'s now, as of epoch {}", adopted.epoch));
            if !adopted.waits.is_empty() {
                say(&format!("it does not go on by itself: {}", adopted.waits));
            }
        }
    }
    Ok(Exit::Done)
}

/// What is in the way of an adoption is for whoever asked.
fn adoption_error(fault: Fault) -> CliError {
    if matches!(fault, Fault::NotFenced(_) | Fault::Unanswered(_)) {
        CliError::driver(fault)
    } else {
        CliError::usage(fault)
    }
}

pub(super) async fn reward(
    settings: &Settings,
    (loom, entry): (&str, &str),
    (value, by): (f64, String),
) -> Result<Exit, CliError> {
    let entry: EntryId = entry.parse().map_err(CliError::usage)?;
    let recorded = match settings.runtime(&settings.sandbox()?, false) {
        Ok(runtime) => {
            let loom = find_loom(&**runtime.store(), Some(loom))?;
            let reward = Amendment::Reward { value, by };
            runtime.amend(loom, entry, reward).await.map_err(CliError::usage)?.to_string()
        }
        Err(error) => {
            // A node that serves has the record: it judges.
            let Some(node) = super::copies::serving(settings).filter(|_| super::copies::is_locked(&error)) else {
                return Err(error);
            };
            let loom = find_loom(&*settings.reading()?, Some(loom))?;
            let (nodes, whole) = node::reach(&node, None).await?;
            let judged = nodes.reward(whole.name().as_str(), (loom, entry), (value, by)).await;
            let judged = judged.map_err(node::node_error)?;
            if !judged.refused.is_empty() {
                return Err(CliError::usage(anyhow::anyhow!(judged.refused)));
            }
            judged.entry
        }
    };
    print(&recorded)?;
    Ok(Exit::Done)
}
