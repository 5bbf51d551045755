//! What a thread is continued from: the past as the model is shown it, the code that makes its medium what it was, and the
//! turn that a crash cut off (LOOM-4, LOOM-13).

use std::cell::Cell;
use std::collections::HashMap;

use cantrip_gates::{Exposure, GateError};
use serde_json::Value;

use crate::domain::context::{History, Shown, Told, cut};
use crate::domain::ids::{CallId, EntityId, EntryId};
use crate::domain::limits::{ANSWER_CALLS_MAX, TURN_GATE_CALLS_MAX};
use crate::domain::medium::GateAnswer;
use crate::domain::model::{Call, Usage, Utterance};

use super::super::said::EvaluationRecord;
use super::spoken::Spoken;
use super::{GateRun, Observation, Step, Tree, ViewError};

/// An evaluation that a replay runs again, with what its gates had returned.
#[derive(Debug, Clone)]
pub struct Replay {
    /// The code.
    pub source: String,
    /// Seed, clocks and where it was stopped.
    pub record: EvaluationRecord,
    /// What each of its gate calls is answered, in order.
    pub answers: Vec<GateAnswer>,
}

/// A thread up to a turn, ready to be continued.
#[derive(Debug)]
pub struct Restored {
    /// What the model is shown of it.
    pub history: History,
    /// How many turns it has.
    pub turns: u64,
    /// The last entry of it: what a continuation follows; nothing where that is in another loom.
    pub head: Option<EntryId>,
    /// Tokens that it cost.
    pub usage: Usage,
    /// What was met in it.
    pub seen: Exposure,
    /// The code that makes its medium what it was.
    pub replays: Vec<Replay>,
    /// The newest record of the medium's memory, and how many of the replays are in it.
    pub snapshot: Option<(EntryId, usize)>,
    /// The turn that a crash cut off, closed: what is to be observed of it before anything else happens.
    pub cut_off: Option<CutOff>,
    /// What its last episode is about, steers left out.
    pub intent: String,
    /// What was said into that episode since its last turn.
    pub heard: Vec<String>,
    /// How many turns that episode has.
    pub episode_turns: u64,
    /// How many gates it has called.
    pub gate_calls: u64,
}

/// A turn as it can be run again and compared.
#[derive(Debug)]
pub struct Again {
    /// The entry that it begins with.
    pub id: EntryId,
    /// The gate calls in it.
    pub gates: Vec<GateRun>,
    /// The code in it, each piece with what was observed of it.
    pub evaluations: Vec<(Replay, Option<Shown>)>,
}

/// A turn that was begun and never observed.
#[derive(Debug, Clone)]
pub struct CutOff {
    /// What was said.
    pub said: Utterance,
    /// What the entity is told of it: which gate calls ran, and which may have.
    pub answers: Vec<Shown>,
    /// The gate calls that are recorded of it.
    pub gates: Vec<GateRun>,
}

impl CutOff {
    /// The guest's call, where a guest was at work: it can be taken up again.
    pub fn guest_call(&self) -> Option<&Value> {
        self.said.calls.first()?.arguments.as_ref().ok().filter(|arguments| is_guest_call(arguments))
    }

    /// Where the guest's clock stood at the start.
    pub fn clock_us(&self) -> u64 {
        self.guest_number("clock_us")
    }

    /// What the guest's random numbers came from.
    pub fn seed(&self) -> u64 {
        self.guest_number("seed")
    }

    fn guest_number(&self, key: &str) -> u64 {
        self.guest_call().and_then(|arguments| arguments.get(key)).and_then(Value::as_u64).unwrap_or(0)
    }

    /// The calls whose results are recorded.
    pub fn returned(&self) -> impl Iterator<Item = &GateRun> {
        self.gates.iter().filter(|run| run.result.is_some())
    }

    /// The call that was running when the record ends.
    pub fn in_flight(&self) -> Option<&GateRun> {
        self.gates.last().filter(|run| run.result.is_none())
    }

    /// The answer, where `done` had been called.
    pub fn done(&self) -> Option<Value> {
        self.returned().find(|run| run.gate == crate::domain::circle::DONE).and_then(|run| run.result.clone()?.ok())
    }
}

/// Whether the arguments of a call are those of a guest's, which hold all that a second run needs.
fn is_guest_call(arguments: &Value) -> bool {
    arguments.get("intent").is_some() && arguments.get("clock_us").is_some() && arguments.get("seed").is_some()
}

impl Tree {
    fn steps(&self, entity: EntityId) -> Result<Vec<&Step>, ViewError> {
        let mut steps = Vec::new();
        for piece in self.lines.pieces(self.place(entity)?) {
            let own = self.order.get(piece.place).and_then(|entity| self.entities.get(entity));
            let own = own.map(|view| view.steps.as_slice()).unwrap_or_default();
            match piece.kept {
                None => steps.extend(own),
                Some(turns) => {
                    let inherited = self.lines.inherited(piece.place).spoken;
                    Self::first_turns(own, turns.saturating_sub(inherited), &mut steps);
                }
            }
        }
        crate::domain::steps::count(steps.len() as u64);
        Ok(steps)
    }

    /// The first steps of a thread, up to and with a number of turns.
    pub(super) fn first_steps(&self, entity: EntityId, turns: u64) -> Result<Vec<&Step>, ViewError> {
        let mut first = Vec::new();
        Self::first_turns(self.steps(entity)?, turns, &mut first);
        Ok(first)
    }

    /// What had been met, by the record, when an entity and those that it continues were opened.
    fn recorded_at_opening(&self, entity: EntityId) -> Result<Exposure, ViewError> {
        let pieces = self.lines.pieces(self.place(entity)?);
        let views = pieces.iter().filter_map(|piece| self.entities.get(self.order.get(piece.place)?));
        let standing = views.filter_map(|view| view.opened.standing.as_ref()?.exposure);
        Ok(standing.fold(Exposure::default(), Exposure::union))
    }

    /// The steps up to and with a number of turns; what comes between that turn and the next is left out.
    fn first_turns<'a>(steps: impl IntoIterator<Item = &'a Step>, turns: u64, kept: &mut Vec<&'a Step>) {
        let mut spoken = 0;
        for step in steps {
            if matches!(step, Step::Turn(_)) {
                spoken += 1;
            }
            let is_of_the_turn = matches!(step, Step::Turn(_) | Step::Snapshot(_));
            if spoken > turns || (spoken == turns && !is_of_the_turn && turns > 0) {
                return;
            }
            kept.push(step);
        }
    }

    /// A thread ready to be continued: all of it, or its first turns for a fork (LOOM-4, LOOM-13).
    ///
    /// A turn that a crash cut off is left out of the history: it was not acknowledged.
    ///
    /// # Errors
    /// No such entity, or fewer turns than asked for.
    pub fn restore(&self, entity: EntityId, turns: Option<u64>) -> Result<Restored, ViewError> {
        let view = self.entity(entity)?;
        self.may_go_on(entity)?;
        let all = self.steps(entity)?;
        let whole = |step: &&&Step| matches!(step, Step::Turn(turn) if self.spoken.get(*turn).is_some_and(|turn| turn.observation.is_some()));
        let count = u64::try_from(all.iter().filter(whole).count()).unwrap_or(u64::MAX);
        let steps = match turns {
            None => all,
            Some(asked) if asked > count => return Err(ViewError::NoTurn { entity, turns: count, asked }),
            Some(asked) => {
                let mut first = Vec::new();
                Self::first_turns(all, asked, &mut first);
                first
            }
        };
        let mut restored = Restored {
            history: History::default(),
            turns: 0,
            head: Some(if turns.is_some() { view.id } else { view.head }),
            usage: view.folding_usage,
            seen: self.recorded_at_opening(entity)?,
            replays: Vec::new(),
            snapshot: None,
            cut_off: None,
            intent: String::new(),
            heard: Vec::new(),
            episode_turns: 0,
            gate_calls: 0,
        };
        for step in steps {
            match step {
                Step::Intent { text, steer } => {
                    restored.history.intent(text);
                    if *steer {
                        restored.heard.push(text.clone());
                    } else {
                        restored.intent.clone_from(text);
                        restored.heard.clear();
                        restored.episode_turns = 0;
                    }
                }
                Step::Snapshot(id) => restored.snapshot = Some((*id, restored.replays.len())),
                Step::Folded { first, last, summary } => restored.history.fold(*first, *last, summary),
                Step::Turn(turn) => {
                    let Some(spoken) = self.spoken.get(*turn) else { continue };
                    let Some(seen) = &spoken.observation else {
                        if turns.is_none() {
                            restored.cut_off = Some(spoken.cut_off());
                        }
                        continue;
                    };
                    restored.turns += 1;
                    restored.episode_turns += 1;
                    restored.heard.clear();
                    restored.gate_calls += u64::try_from(spoken.gates.len()).unwrap_or(u64::MAX);
                    restored.usage += spoken.said.usage;
                    if turns.is_some() {
                        restored.head = Some(seen.id).filter(|_| spoken.from.is_none());
                    }
                    restored.seen = restored.seen.union(spoken.exposure);
                    restored.replays.extend(spoken.replays(seen));
                    restored.history.turn(Told {
                        number: restored.turns,
                        said: spoken.said.clone(),
                        answers: seen.answers.clone(),
                    });
                }
            }
        }
        Ok(restored)
    }

    /// A thread's turns as they can be run again, those that were never observed left out.
    ///
    /// # Errors
    /// No such entity.
    pub fn again(&self, entity: EntityId) -> Result<Vec<Again>, ViewError> {
        let steps = self.steps(entity)?;
        let turns = steps.into_iter().filter_map(|step| match step {
            Step::Turn(turn) => self.spoken.get(*turn),
            Step::Intent { .. } | Step::Folded { .. } | Step::Snapshot(_) => None,
        });
        let again = turns.filter_map(|spoken| {
            let seen = spoken.observation.as_ref()?;
            let answers: HashMap<Option<&CallId>, &Shown> =
                seen.answers.iter().rev().map(|shown| (shown.call.as_ref(), shown)).collect();
            let shown = |replay: &Replay| answers.get(&Some(&replay.record.call)).map(|shown| (*shown).clone());
            let evaluations = spoken.replays(seen).into_iter().map(|replay| {
                let shown = shown(&replay);
                (replay, shown)
            });
            Some(Again { id: spoken.id, gates: spoken.gates.clone(), evaluations: evaluations.collect() })
        });
        Ok(again.collect())
    }
}

impl Spoken {
    /// Says of each call of a turn that was never observed what is known of it. Nothing of it is run again: what has
    /// returned is in the record, and what may have run is said to be unknown.
    fn cut_off(&self) -> CutOff {
        let runs = self.runs_by_call();
        let told = |call: &Call| {
            let lines: Vec<String> = runs
                .get(call.id.as_str())
                .into_iter()
                .flatten()
                .map(|run| match &run.result {
                    Some(Ok(value)) => format!("{} returned {}", run.gate, cut(&value.to_string(), 400)),
                    Some(Err(error)) => format!("{} failed: {error}", run.gate),
                    None => format!("{}({}) may or may not have run", run.gate, cut(&run.arguments.to_string(), 200)),
                })
                .collect();
            let known = if lines.is_empty() { "No gate had been called.".to_owned() } else { lines.join("\n") };
            Shown {
                call: Some(call.id.clone()),
                content: format!(
                    "The runtime was stopped during this call; bindings are as they were before it.\n{known}"
                ),
                is_error: true,
                shown_instead: None,
            }
        };
        // A record of another node may have more calls than an answer here has.
        let said =
            Utterance { calls: self.said.calls.iter().take(ANSWER_CALLS_MAX).cloned().collect(), ..self.said.clone() };
        let mut answers: Vec<Shown> = said.calls.iter().map(told).collect();
        if answers.is_empty() {
            answers.push(Shown {
                call: None,
                content: "The runtime was stopped after this.".to_owned(),
                is_error: true,
                shown_instead: None,
            });
        }
        CutOff { said, answers, gates: self.gates.clone() }
    }

    fn replays(&self, seen: &Observation) -> Vec<Replay> {
        let calls_of_turn = Cell::new(0);
        let runs = self.runs_by_call();
        let calls: HashMap<&CallId, &Call> = self.said.calls.iter().rev().map(|call| (&call.id, call)).collect();
        let replay = |record: &EvaluationRecord| {
            let call = calls.get(&record.call)?;
            let arguments = call.arguments.as_ref().ok()?;
            let source = if is_guest_call(arguments) {
                arguments.to_string()
            } else {
                arguments.get("code")?.as_str()?.to_owned()
            };
            let own = runs.get(record.call.as_str()).into_iter().flatten().filter(|run| run.call != record.call);
            let mut answers: Vec<GateAnswer> = own.map(|run| run.answer()).collect();
            // What is not recorded is what follows too many refusals.
            answers.resize_with(answers.len().max(record.gate_clocks_us.len()), GateAnswer::nothing_more);
            calls_of_turn.set(calls_of_turn.get() + record.gate_clocks_us.len());
            if calls_of_turn.get() >= TURN_GATE_CALLS_MAX {
                answers.push(GateAnswer::Stop);
            }
            Some(Replay { source, record: record.clone(), answers })
        };
        // What a lost instance ran left nothing behind.
        seen.evaluations.iter().filter(|record| !record.lost).filter_map(replay).collect()
    }
}

impl GateRun {
    /// What the code that called it is told again in a replay.
    pub(crate) fn answer(&self) -> GateAnswer {
        match &self.result {
            Some(Ok(_)) if self.gate == crate::domain::circle::DONE => GateAnswer::Stop,
            Some(result) => GateAnswer::Returned(result.clone()),
            None => GateAnswer::Returned(Err(GateError::Failed(format!(
                "{}: the record ends before it returned",
                self.gate
            )))),
        }
    }
}
