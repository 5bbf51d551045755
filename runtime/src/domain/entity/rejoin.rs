//! A turn that a crash cut off, taken up again: everything behind its utterance is done again, and answered from the record as far as
//! that goes. What is recorded is neither decided nor recorded a second time.
//!
//! Keeps `membership.md` 10.1 and 10.5: a resumed run equals the uncut run, and no recorded call runs twice.

use std::collections::VecDeque;

use cantrip_gates::{GateError, Reach};
use serde_json::Value;

use super::acting::{Acting, Waiting};
use super::step::{Effect, KnownChild, Now};
use super::{Effects, Entity};
use crate::domain::budget::Quantity;
use crate::domain::circle::RuntimeGate;
use crate::domain::context::{Shown, Told};
use crate::domain::event::EventKind;
use crate::domain::ids::{CallId, WriterKey};
use crate::domain::loom::{CutOff, Minted, Spent, Standing, TurnEntry, TurnPart, is_guest_call};
use crate::domain::medium::{EvaluationOutcome, StopReason};
use crate::domain::model::Usage;

/// What is recorded of a turn that is done again, until it is used up.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    entries: VecDeque<TurnEntry>,
    /// What is known of each of its calls, for the case that it comes out otherwise.
    answers: Vec<Shown>,
    /// The keys of this node.
    own: Vec<WriterKey>,
    /// Whether its observation is recorded, too.
    pub(super) is_observed: bool,
}

/// A gate call that is recorded.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordedCall {
    /// When it was written, in microseconds since 1970.
    pub(super) at_us: u64,
    /// Whether this node wrote it.
    pub(super) is_own: bool,
    /// Whether its result is recorded, too; and whether it was refused.
    pub(super) has_returned: bool,
    pub(super) was_refused: bool,
}

/// The result of a gate call that is recorded.
#[derive(Debug)]
pub(super) struct RecordedResult {
    pub(super) at_us: u64,
    pub(super) result: Result<Value, GateError>,
    pub(super) duration_us: u64,
}

impl Recorded {
    /// Whether the turn is where its record ends.
    pub(super) fn is_used_up(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many answers the code of a call is given from the record.
    pub(super) fn answers_of(&self, call: &CallId) -> u64 {
        let returned =
            |entry: &&TurnEntry| matches!(&entry.part, TurnPart::Returned { call: of, .. } if is_of(of, call));
        u64::try_from(self.entries.iter().filter(returned).count()).unwrap_or(u64::MAX)
    }

    /// Takes the entry of a call, if that is what the record has next.
    pub(super) fn call(&mut self, call: &CallId, gate: &str) -> Option<RecordedCall> {
        let is_it = |entry: &mut TurnEntry| matches!(&entry.part, TurnPart::Called { call: of, gate: named, .. } if of == call && named == gate);
        let entry = self.entries.pop_front_if(is_it)?;
        let has_returned = |entry: &TurnEntry| matches!(&entry.part, TurnPart::Returned { call: of, .. } if of == call);
        Some(RecordedCall {
            at_us: entry.at_us,
            is_own: self.own.contains(&entry.writer),
            has_returned: self.entries.iter().any(has_returned),
            was_refused: matches!(entry.part, TurnPart::Called { refused: true, .. }),
        })
    }

    /// What the record has in the place of a call.
    pub(super) fn otherwise(&self, gate: &str) -> Option<String> {
        let next = self.entries.front()?;
        Some(format!("it called {gate} where its record has {}", described(&next.part)))
    }

    /// Takes the children of a call that are recorded.
    pub(super) fn children(&mut self, call: &CallId) -> Vec<KnownChild> {
        let mut children = Vec::new();
        while let Some(TurnEntry { id, writer, part, .. }) = self.entries.front() {
            let TurnPart::Delegated { call: of, index, child, nonce, .. } = part else { break };
            if of != call {
                break;
            }
            let minted = nonce.map(|nonce| Minted { by: *writer, nonce });
            children.push(KnownChild { index: *index, entity: *child, minted, delegated: *id });
            self.entries.pop_front();
        }
        children
    }

    /// Takes the result of a call.
    pub(super) fn result(&mut self, call: &CallId) -> Option<RecordedResult> {
        let entry = self
            .entries
            .pop_front_if(|entry| matches!(&entry.part, TurnPart::Returned { call: of, .. } if of == call))?;
        let TurnPart::Returned { result, duration_us, .. } = entry.part else { return None };
        Some(RecordedResult { at_us: entry.at_us, result, duration_us })
    }

    /// What the record has of code that has ended.
    fn more_of(&self, call: &CallId) -> Option<String> {
        let next = self.entries.front().filter(|entry| is_of(entry.part.call(), call))?;
        Some(format!("it ended where its record has {}", described(&next.part)))
    }
}

/// Whether a gate call is of the code of another: its id is that one's, a dot, and a number.
fn is_of(call: &CallId, code: &CallId) -> bool {
    call.as_str().rsplit_once('.').is_some_and(|(of, _)| of == code.as_str())
}

fn described(part: &TurnPart) -> String {
    match part {
        TurnPart::Called { gate, .. } => format!("a call of {gate}"),
        TurnPart::Returned { call, .. } => format!("the result of {call}"),
        TurnPart::Delegated { child, .. } => format!("the child {child}"),
    }
}

impl Entity {
    /// Takes up a turn whose utterance is recorded.
    pub(super) fn rejoin(&mut self, cut_off: CutOff, own: Vec<WriterKey>, now: &Now, effects: &mut Effects) {
        let CutOff { at_us, said, answers, entries, is_observed, .. } = cut_off;
        self.turn += 1;
        self.episode_turns += 1;
        self.charge_recorded(said.usage);
        // What was heard before it was in its question.
        self.heard.clear();
        effects.push(Effect::Tell(EventKind::TurnStarted { turn: self.turn }));
        let recorded = Recorded { entries: entries.into(), answers, own, is_observed };
        let is_guest = said.calls.first().and_then(|call| call.arguments.as_ref().ok()).is_some_and(is_guest_call);
        if self.nature.guest.is_some() && is_guest {
            return self.evaluate_guest(said, at_us, recorded, effects);
        }
        self.act(Box::new(Acting { recorded, ..Acting::new(said, at_us, at_us) }), now, effects);
    }

    /// Says what is known of a turn that a crash cut off, where something else is done than going on with it.
    /// What is true of the entity then is for the entry that says so.
    pub fn give_up(&mut self, cut_off: &CutOff, spent_us: u64) -> Standing {
        self.children_usage += cut_off.spent.children_usage;
        self.nature.ledger.charge_all_recorded(&Spent { usage: Usage::default(), ..cut_off.spent });
        self.turn += 1;
        self.episode_turns += 1;
        self.charge_recorded(cut_off.said.usage);
        self.heard.clear();
        let (said, answers) = (cut_off.said.clone(), cut_off.answers.clone());
        self.history.turn(Told { number: self.turn, said, answers });
        self.standing(&Now { spent_us, ..Now::default() })
    }

    /// What becomes of a call that is recorded and has no result: a call that only reads runs again where this node wrote it, and of
    /// everything else nobody knows whether it has run.
    pub(super) fn in_flight(&self, gate: &str, call: &RecordedCall) -> Option<GateError> {
        let held = self.nature.circle.gate(gate);
        let is_harmless = match held.and_then(|held| held.runtime) {
            // They look at the record, or at nothing.
            Some(RuntimeGate::Done | RuntimeGate::ReadLoom) => true,
            Some(RuntimeGate::LlmQuery) => call.is_own,
            Some(RuntimeGate::CallEntity | RuntimeGate::CallEntityBatch) => false,
            None => call.is_own && held.is_some_and(|held| held.spec.reach == Reach::Read),
        };
        (!is_harmless).then(|| {
            GateError::Unknown(format!("{gate}: the runtime was stopped during this call: it may or may not have run"))
        })
    }

    /// Ends the turn where its code has ended although the record has more of it.
    pub(super) fn ended_early(&mut self, acting: Box<Acting>, now: &Now, effects: &mut Effects) -> Option<Box<Acting>> {
        let more = match &acting.waiting {
            Waiting::Evaluation(running) => acting.recorded.more_of(&running.call),
            Waiting::Nothing | Waiting::Gate(_) => None,
        };
        match more {
            None => Some(acting),
            Some(detail) => {
                self.diverged(*acting, &detail, now, effects);
                None
            }
        }
    }

    /// Ends a turn that does otherwise than its record says: nothing of it runs a second time, and nothing more of it runs.
    pub(super) fn diverged(&mut self, mut acting: Acting, detail: &str, now: &Now, effects: &mut Effects) {
        if let Waiting::Evaluation(running) = std::mem::replace(&mut acting.waiting, Waiting::Nothing) {
            // Its instance is lost: what it was is made of what came before this code.
            acting.evaluations.push(running.lost());
            effects.push(Effect::Lose);
        }
        let known = std::mem::take(&mut acting.recorded).answers;
        let answered: Vec<CallId> = acting.answers.iter().filter_map(|shown| shown.call.clone()).collect();
        for mut shown in known.into_iter().filter(|shown| shown.call.as_ref().is_none_or(|id| !answered.contains(id))) {
            shown.content = format!("{}\nIt was run again and came out otherwise: {detail}.", shown.content);
            acting.answers.push(shown);
        }
        if let Some(guest) = &self.nature.guest {
            let shape = guest.shape;
            let detail = format!("the guest does not do again what it did before the crash: {detail}");
            self.guest_returned(&mut acting, shape, &EvaluationOutcome::Lost { reason: StopReason::Trap, detail }, now);
        }
        self.finish_turn(acting, now, effects);
    }

    fn charge_recorded(&mut self, usage: Usage) {
        self.usage += usage;
        self.nature.ledger.charge_recorded(Quantity::Tokens, usage.total());
    }

    /// Charges what a question of code has cost whose answer is recorded.
    pub(super) fn charge_recorded_query(&mut self, answer: &Value) {
        let tokens = |key: &str| answer.get(key).and_then(Value::as_u64).unwrap_or_default();
        self.charge_recorded(Usage {
            prompt_tokens: tokens("prompt_tokens"),
            completion_tokens: tokens("completion_tokens"),
            ..Usage::default()
        });
    }
}
