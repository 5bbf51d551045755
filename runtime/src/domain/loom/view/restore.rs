//! What a thread is continued from: the past as the model is shown it, the code that makes its medium what it was, and the
//! turn that a crash cut off (LOOM-4, LOOM-13).

use std::cell::Cell;
use std::collections::HashMap;

use cantrip_gates::{Exposure, GateError};
use serde_json::Value;

use crate::domain::circle::DONE;
use crate::domain::context::{History, Shown, Told, cut};
use crate::domain::ids::{CallId, EntityId, EntryId};
use crate::domain::limits::{ANSWER_CALLS_MAX, TURN_GATE_CALLS_MAX};
use crate::domain::medium::GateAnswer;
use crate::domain::model::{Call, Utterance};

use super::super::opened::Reserve;
use super::super::said::{EvaluationRecord, Spent};
use super::spoken::Spoken;
use super::{EntityView, GateRun, Observation, Step, Tree, TurnEntry, TurnPart, ViewError};

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
    /// What it and its children have spent.
    pub spent: Spent,
    /// What was set aside for children whose end is unknown.
    pub reserves: Vec<Reserve>,
    /// For how long processes have had its last episode, in microseconds.
    pub spent_us: u64,
    /// What was met in it.
    pub seen: Exposure,
    /// The code that makes its medium what it was.
    pub replays: Vec<Replay>,
    /// The newest record of the medium's memory, and how many of the replays are in it.
    pub snapshot: Option<(EntryId, usize)>,
    /// The turn that a crash cut off.
    pub cut_off: Option<CutOff>,
    /// What its last episode is about, steers left out.
    pub intent: String,
    /// What was said into that episode since its last turn.
    pub heard: Vec<String>,
    /// How many turns that episode has.
    pub episode_turns: u64,
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
    /// When what was said was recorded, in microseconds since 1970.
    pub at_us: u64,
    /// What was said.
    pub said: Utterance,
    /// What the entity is told of it: which gate calls ran, and which may have.
    pub answers: Vec<Shown>,
    /// What is recorded of it behind that.
    pub entries: Vec<TurnEntry>,
    /// What is recorded of it that was spent, by its children too; for code that was stopped in it, without its fuel.
    pub spent: Spent,
    /// Whether it was observed, too: then only what follows from it is missing.
    pub is_observed: bool,
}

/// Whether the arguments of a call are those of a guest's, which hold all that a second run needs.
pub(crate) fn is_guest_call(arguments: &Value) -> bool {
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
            spent: Spent { usage: view.folding_usage, ..Spent::default() },
            reserves: Vec::new(),
            spent_us: 0,
            seen: self.recorded_at_opening(entity)?,
            replays: Vec::new(),
            snapshot: None,
            cut_off: None,
            intent: String::new(),
            heard: Vec::new(),
            episode_turns: 0,
        };
        let mut standing = None;
        let last = if turns.is_none() && view.ended.is_none() { self.cut_off_at(&steps) } else { None };
        for step in steps {
            match step {
                Step::Intent { text, steer } => {
                    restored.history.intent(text);
                    if *steer {
                        restored.heard.push(text.clone());
                    } else {
                        restored.intent.clone_from(text);
                        restored.heard.clear();
                        (restored.episode_turns, restored.spent_us) = (0, 0);
                    }
                }
                // It has what is done again.
                Step::Snapshot(_) if restored.cut_off.is_some() => {}
                Step::Snapshot(id) => restored.snapshot = Some((*id, restored.replays.len())),
                Step::Folded { first, last, summary } => restored.history.fold(*first, *last, summary),
                Step::Turn(turn) => {
                    let Some(spoken) = self.spoken.get(*turn) else { continue };
                    if last == Some(*turn) {
                        restored.cut_off = Some(CutOff { spent: self.spent_in(spoken), ..spoken.cut_off() });
                        continue;
                    }
                    let Some(seen) = &spoken.observation else { continue };
                    restored.turns += 1;
                    restored.episode_turns += 1;
                    restored.heard.clear();
                    restored.spent.gate_calls += u64::try_from(spoken.gates.len()).unwrap_or(u64::MAX);
                    restored.spent.usage += spoken.said.usage;
                    standing = spoken.standing.as_deref().filter(|_| spoken.entity == entity);
                    restored.spent_us = standing.and_then(|standing| standing.spent_us).unwrap_or(restored.spent_us);
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
        // Of what a turn's own entries do not say, its observation has the sum.
        if let Some(standing) = standing {
            restored.spent = standing.spent.unwrap_or(restored.spent);
            restored.reserves.clone_from(&standing.reserves);
            if standing.spent.is_some() {
                restored.spent.usage += view.folded_since;
            }
        }
        Ok(restored)
    }

    /// What is recorded of a turn that was spent, with what was spent by the children that were cast in it and by those below them.
    fn spent_in(&self, spoken: &Spoken) -> Spent {
        let mut spent = Spent { usage: spoken.said.usage, ..Spent::default() };
        let mut turns = vec![spoken];
        while let Some(turn) = turns.pop() {
            crate::domain::steps::count(1 + turn.entries.len() as u64);
            let called = |entry: &&TurnEntry| matches!(entry.part, TurnPart::Called { refused: false, .. });
            let calls = u64::try_from(turn.entries.iter().filter(called).count()).unwrap_or_default();
            spent.gate_calls = spent.gate_calls.saturating_add(calls);
            spent.children = spent.children.saturating_add(u64::try_from(turn.children.len()).unwrap_or_default());
            for entry in &turn.entries {
                // What is elsewhere spends what was set aside for it.
                let TurnPart::Delegated { child, is_here: true, .. } = &entry.part else { continue };
                let Some(view) = self.entities.get(child) else { continue };
                let again = match &view.ended {
                    Some(_) => None,
                    None => self.steps(*child).ok().and_then(|steps| self.cut_off_at(&steps)),
                };
                let turns_before = view.spoken().filter(|turn| Some(*turn) != again);
                let before = turns_before.filter_map(|turn| self.spoken.get(turn)?.standing.as_ref()?.spent);
                let of_child =
                    view.ended.as_ref().map_or_else(|| before.last().unwrap_or_default(), |ended| ended.spent);
                let open = again.and_then(|turn| self.spoken.get(turn));
                let usage = open.map(|turn| turn.said.usage).unwrap_or_default();
                spent.children_usage += of_child.usage + of_child.children_usage + view.folded_since + usage;
                spent.gate_calls = spent.gate_calls.saturating_add(of_child.gate_calls);
                spent.children = spent.children.saturating_add(of_child.children);
                spent.fuel = spent.fuel.saturating_add(of_child.fuel);
                turns.extend(open);
            }
        }
        spent
    }

    /// The turn that a thread was cut off in: its newest, if that was not observed or may have ended the episode.
    fn cut_off_at(&self, steps: &[&Step]) -> Option<usize> {
        let begins = |step: &&&Step| matches!(step, Step::Turn(_) | Step::Intent { steer: false, .. });
        let Step::Turn(newest) = steps.iter().rev().find(begins)? else { return None };
        let spoken = self.spoken.get(*newest)?;
        (spoken.from.is_none() && (spoken.observation.is_none() || spoken.may_have_ended())).then_some(*newest)
    }

    /// What an entity and its children have met by the record, with what it had been told when it was opened.
    ///
    /// # Errors
    /// No such entity.
    pub fn seen(&self, entity: EntityId) -> Result<Exposure, ViewError> {
        let steps = self.steps(entity)?.into_iter();
        let turns = steps.filter_map(|step| if let Step::Turn(turn) = step { self.spoken.get(*turn) } else { None });
        Ok(turns.fold(self.recorded_at_opening(entity)?, |seen, turn| seen.union(turn.exposure)))
    }

    /// How many tokens are set aside for children of an entity whose end is unknown.
    pub fn reserved_tokens(&self, entity: EntityId) -> u64 {
        let turns = self.entities.get(&entity).into_iter().flat_map(EntityView::spoken);
        let last = turns.filter_map(|turn| self.spoken.get(turn)?.standing.as_ref()).last();
        last.map_or(0, |standing| Reserve::tokens_of(&standing.reserves))
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
    /// Whether the episode may have ended with this turn: that its end is not recorded says only that the runtime was stopped between
    /// the two.
    fn may_have_ended(&self) -> bool {
        let is_guest = |call: &Call| call.arguments.as_ref().is_ok_and(is_guest_call);
        let is_done = |run: &GateRun| run.gate == DONE && matches!(run.result, Some(Ok(_)));
        self.said.calls.is_empty() || self.said.calls.iter().any(is_guest) || self.gates.iter().any(is_done)
    }

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
        CutOff {
            at_us: self.at_us,
            said,
            answers,
            entries: self.entries.clone(),
            spent: Spent::default(),
            is_observed: self.observation.is_some(),
        }
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
            Some(Ok(_)) if self.gate == DONE => GateAnswer::Stop,
            Some(result) => GateAnswer::Returned(result.clone()),
            None => GateAnswer::Returned(Err(GateError::Failed(format!(
                "{}: the record ends before it returned",
                self.gate
            )))),
        }
    }
}
