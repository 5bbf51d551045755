//! Runs a recorded thread again, with the recorded results of gates and models, and compares what comes of it with what is recorded.
//! Calls neither a gate nor a model. So another node can say, without trusting the first, that the code and the results give these
//! observations.

use std::sync::Arc;
use std::time::Duration;

use cantrip_gates::ResolvedWards;
use serde_json::Value;
use thiserror::Error;

use crate::domain::circle::delegates;
use crate::domain::end::EndReason;
use crate::domain::ids::{EntityId, EntryId, LoomId};
use crate::domain::limits::REPLAY_MS_MAX;
use crate::domain::loom::{Again, How};
use crate::domain::medium::{
    CallArguments, Evaluated, Evaluation, EvaluationOutcome, GateAnswer, MediumOpening, StopFlag,
};
use crate::domain::observe;
use crate::ports::{Guest, Medium, Yielded};

use super::fault::Fault;
use super::runtime::Runtime;

/// The first thing that came out otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The number of the turn in its thread.
    pub turn: u64,
    /// The entry that the turn begins with.
    pub entry: EntryId,
    /// What is recorded, and what came.
    pub what: String,
}

/// What came of running a thread again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// The loom.
    pub loom: LoomId,
    /// Whose thread.
    pub entity: EntityId,
    /// The last entry of what was run again.
    pub head: EntryId,
    /// How many turns were read.
    pub turns: u64,
    /// How many pieces of code ran.
    pub evaluations: u64,
    /// How many gate calls they made, answered from the record.
    pub gate_calls: u64,
    /// The digest of the medium or guest that ran it.
    pub medium: Option<String>,
    /// How the thread ended, as it is recorded.
    pub ended: Option<(How, EndReason)>,
    /// Nothing: everything is as recorded.
    pub difference: Option<Difference>,
}

/// Why a thread cannot be run again here.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// Another version of the medium.
    #[error("the thread ran in {medium} {recorded}, and this runtime has {here}: another version may behave otherwise")]
    OtherMedium {
        /// The medium.
        medium: String,
        /// What is recorded.
        recorded: String,
        /// What is here.
        here: String,
    },
    /// Ours.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Runtime {
    /// Runs a thread again and compares. `guest` is the component that the thread's record names, where it names one.
    ///
    /// # Errors
    /// A thread that is not there, or whose medium is another here.
    pub async fn replay(
        &self,
        loom: LoomId,
        entity: EntityId,
        guest: Option<Arc<dyn Guest>>,
    ) -> Result<Replayed, ReplayError> {
        let tree = self.tree(loom)?;
        let view = tree.entity(entity).map_err(Fault::from)?;
        let opened = view.opened.clone();
        let here = match &guest {
            Some(guest) => Some(guest.manifest().digest.clone()),
            None => self.media().digest(&opened.medium),
        };
        if let (Some(recorded), Some(here)) = (&opened.medium_digest, &here)
            && recorded != here
        {
            return Err(ReplayError::OtherMedium {
                medium: opened.medium,
                recorded: recorded.clone(),
                here: here.clone(),
            });
        }
        let turns = tree.again(entity).map_err(Fault::from)?;
        let mut gates: Vec<String> = opened.gates.iter().map(|gate| gate.name.clone()).collect();
        // What a ward took away is called by its name all the same, and refused.
        for run in turns.iter().flat_map(|turn| &turn.gates) {
            if !gates.contains(&run.gate) {
                gates.push(run.gate.clone());
            }
        }
        let wards = opened.wards.resolved();
        let opening = MediumOpening {
            medium: opened.medium.clone(),
            gates: crate::domain::circle::functions(&gates),
            memory_bytes_max: wards.max_memory_bytes,
            metered: opened.wards.max_fuel.is_some(),
        };
        let mut replayed = Replayed {
            loom,
            entity,
            head: view.head,
            turns: 0,
            evaluations: 0,
            gate_calls: 0,
            medium: here.clone(),
            ended: view.ended.as_ref().map(|ended| (ended.how, ended.reason.clone())),
            difference: None,
        };
        let mut medium: Option<Box<dyn Medium>> = None;
        for turn in turns {
            replayed.turns += 1;
            for evaluation in &turn.evaluations {
                if medium.is_none() {
                    medium = Some(match &guest {
                        Some(guest) => guest.open(&opening).await.map_err(Fault::from)?,
                        None => self.host.media.open(&opening).await.map_err(Fault::from)?,
                    });
                }
                let Some(instance) = &mut medium else { continue };
                replayed.evaluations += 1;
                let mut run = Run { turn: &turn, wards: &wards, calls: 0 };
                let found = run.compare(&mut **instance, evaluation).await;
                replayed.gate_calls += run.calls;
                if let Some(what) = found {
                    replayed.difference = Some(Difference { turn: replayed.turns, entry: turn.id, what });
                    return Ok(replayed);
                }
            }
        }
        Ok(replayed)
    }
}

/// One piece of code that runs again.
struct Run<'a> {
    turn: &'a Again,
    wards: &'a ResolvedWards,
    calls: u64,
}

impl Run<'_> {
    /// Runs it. Returns the first thing that is otherwise.
    async fn compare(
        &mut self,
        medium: &mut dyn Medium,
        (replay, shown): &(crate::domain::loom::Replay, Option<crate::domain::context::Shown>),
    ) -> Option<String> {
        let prefix = format!("{}.", replay.record.call);
        let recorded: Vec<_> = self.turn.gates.iter().filter(|run| run.call.as_str().starts_with(&prefix)).collect();
        let evaluation = Evaluation {
            source: replay.source.clone(),
            seed: replay.record.seed,
            clock_us: replay.record.clock_us,
            time_max: Duration::from_millis(REPLAY_MS_MAX),
            output_bytes_max: self.wards.max_output_bytes,
            fuel_max: self.wards.declared.max_fuel.map(|_| u64::MAX),
            stop_at_poll: replay.record.stopped_at_poll,
            recorded: u64::MAX,
            stop: StopFlag::default(),
        };
        let mut clocks = replay.record.gate_clocks_us.iter().copied();
        let mut clock_us = replay.record.clock_us;
        let mut yielded = medium.evaluate(evaluation).await;
        let mut place = 0;
        loop {
            let (gate, arguments) = match yielded {
                Yielded::Gate { gate, arguments } => (gate, arguments),
                Yielded::Finished(evaluated) => return self.end(&evaluated, recorded.get(place..), shown.as_ref()),
            };
            self.calls += 1;
            clock_us = clocks.next().unwrap_or(clock_us);
            let answer = match recorded.get(place) {
                None if place < replay.answers.len() => GateAnswer::nothing_more(),
                None => return Some(format!("it calls {gate}, and the record has no such call")),
                Some(run) if run.gate != gate => {
                    return Some(format!("it calls {gate}, and the record has a call of {}", run.gate));
                }
                Some(run) => {
                    if let Some(what) = other_arguments(&gate, &arguments, &run.arguments) {
                        return Some(what);
                    }
                    run.answer()
                }
            };
            place += 1;
            yielded = medium.resume(answer, clock_us).await;
        }
    }

    fn end(
        &self,
        evaluated: &Evaluated,
        left: Option<&[&crate::domain::loom::GateRun]>,
        shown: Option<&crate::domain::context::Shown>,
    ) -> Option<String> {
        if let Some(run) = left.and_then(<[_]>::first) {
            return Some(format!("it ends, and the record has a call of {} that it did not make", run.gate));
        }
        let shown = shown?;
        let (content, is_error) = observe::describe(evaluated, self.wards);
        // Who stopped it, and what `done` was called with, is said by the host and not by the code.
        let by_host = matches!(evaluated.outcome, EvaluationOutcome::Done | EvaluationOutcome::Stopped(_));
        let is_same = if by_host {
            let said = content.split("stopped: ").next().unwrap_or_default();
            shown.content.starts_with(said)
        } else {
            shown.content == content && shown.is_error == is_error
                || shown.content.starts_with(&format!("{content}\n["))
        };
        (!is_same).then(|| {
            let short = |text: &str| crate::domain::context::cut(text, 300);
            format!("it gives `{}`, and the record has `{}`", short(&content), short(&shown.content))
        })
    }
}

/// Says where the arguments of a call are others than those of the record.
fn other_arguments(gate: &str, given: &CallArguments, recorded: &Value) -> Option<String> {
    // A proposal is recorded as it was completed by the host.
    if delegates(gate) || gate.starts_with("cantrip.") {
        return None;
    }
    let is_same = match (given, recorded) {
        (CallArguments::Named(given), recorded) => given == recorded,
        (CallArguments::Positional(given), Value::Object(recorded)) => {
            given.first().and_then(Value::as_object) == Some(recorded)
                || given.iter().filter(|value| !value.is_null()).all(|value| recorded.values().any(|it| it == value))
        }
        (CallArguments::Positional(given), recorded) => given.iter().any(|value| value == recorded) || given.is_empty(),
    };
    let shown = || match given {
        CallArguments::Named(value) => value.to_string(),
        CallArguments::Positional(values) => Value::Array(values.clone()).to_string(),
    };
    (!is_same).then(|| {
        let short = |text: &str| crate::domain::context::cut(text, 300);
        format!("it calls {gate} with {}, and the record has {}", short(&shown()), short(&recorded.to_string()))
    })
}
