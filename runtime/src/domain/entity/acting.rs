//! The part of a turn between its utterance and its observation.

use cantrip_gates::Exposure;
use serde_json::Value;

use super::rejoin::Recorded;
use crate::domain::context::Shown;
use crate::domain::end::EndReason;
use crate::domain::ids::CallId;
use crate::domain::loom::{Answer, EvaluationRecord, Payloads};
use crate::domain::model::Utterance;

/// A turn at work.
#[derive(Debug)]
pub(super) struct Acting {
    pub(super) said: Utterance,
    pub(super) since_us: u64,
    /// When the newest entry of the turn was recorded: where the clock of its code stands, so that a run that was cut off goes on as
    /// it began.
    pub(super) recorded_us: u64,
    /// What is recorded of it already, where it is taken up again.
    pub(super) recorded: Recorded,
    /// The place of the next call in the utterance.
    pub(super) next: usize,
    pub(super) answers: Vec<Shown>,
    pub(super) waiting: Waiting,
    pub(super) evaluations: Vec<EvaluationRecord>,
    pub(super) output_dropped_bytes: u64,
    /// The reason and the answer, once there is one.
    pub(super) done: Option<(EndReason, Value)>,
    /// Why the episode ends with this turn although there is no answer.
    pub(super) broken: Option<Broken>,
    pub(super) refusals: u64,
    /// Calls of the utterance that were left out, because it had too many.
    pub(super) calls_left_out: usize,
    /// Gate calls of the evaluations that are over.
    pub(super) evaluated_calls: usize,
    /// Whether its code was stopped because it made too many.
    pub(super) flooded: bool,
}

/// The end of an episode whose guest could not go on.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) reason: EndReason,
    pub(super) why: String,
    /// Whether that is a failure, and not a ward's truncation.
    pub(super) failed: bool,
}

/// What the turn waits for.
#[derive(Debug)]
pub(super) enum Waiting {
    Nothing,
    Gate(Pending),
    Evaluation(Running),
}

/// A gate call that was let through.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) call: CallId,
    pub(super) gate: String,
    pub(super) is_done: bool,
    pub(super) ephemeral: bool,
    pub(super) exposure: Exposure,
    pub(super) since_us: u64,
}

/// Code that was let run.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) call: CallId,
    pub(super) gate: Option<Pending>,
    pub(super) gate_clocks_us: Vec<u64>,
    asked: u64,
    /// Where the clock of a guest stands: it moves by what its gates took, all of which is recorded, so that a run that was
    /// cut off goes on as it began.
    own_clock_us: Option<u64>,
}

impl Running {
    pub(super) const fn new(call: CallId, own_clock_us: Option<u64>) -> Self {
        Self { call, gate: None, gate_clocks_us: Vec::new(), asked: 0, own_clock_us }
    }

    /// Notes that a gate has answered, and says where the clock of the code stands now.
    pub(super) fn gate_answered(&mut self, recorded_us: u64, duration_us: u64) -> u64 {
        let clock_us = match &mut self.own_clock_us {
            Some(own) => {
                *own = own.saturating_add(duration_us);
                *own
            }
            None => recorded_us,
        };
        self.gate_clocks_us.push(clock_us);
        clock_us
    }

    /// The record of code whose instance is lost: it left nothing behind.
    pub(super) fn lost(self) -> EvaluationRecord {
        EvaluationRecord {
            call: self.call,
            seed: 0,
            clock_us: 0,
            gate_clocks_us: self.gate_clocks_us,
            stopped_at_poll: None,
            lost: true,
            fuel: None,
        }
    }

    /// The id of the code's next gate call: the code's own, a dot, and a number.
    pub(super) fn next_call(&mut self) -> CallId {
        self.asked += 1;
        CallId::new(&format!("{}.{}", self.call, self.asked))
    }
}

impl Acting {
    pub(super) fn new(said: Utterance, since_us: u64, recorded_us: u64) -> Self {
        Self {
            said,
            since_us,
            recorded_us,
            recorded: Recorded::default(),
            next: 0,
            answers: Vec::new(),
            waiting: Waiting::Nothing,
            evaluations: Vec::new(),
            output_dropped_bytes: 0,
            done: None,
            broken: None,
            refusals: 0,
            calls_left_out: 0,
            evaluated_calls: 0,
            flooded: false,
        }
    }

    /// A turn whose one call is running already.
    pub(super) fn running(said: Utterance, since_us: u64, running: Running) -> Self {
        Self { next: said.calls.len(), waiting: Waiting::Evaluation(running), ..Self::new(said, since_us, since_us) }
    }

    pub(super) fn answer(&mut self, call: &CallId, content: String, is_error: bool, shown_instead: Option<String>) {
        self.answers.push(Shown { call: Some(call.clone()), content, is_error, shown_instead });
    }

    /// The gate call that is answered now. An evaluation goes on waiting for its code.
    pub(super) fn take_pending(&mut self) -> Option<Pending> {
        match std::mem::replace(&mut self.waiting, Waiting::Nothing) {
            Waiting::Nothing => None,
            Waiting::Gate(pending) => Some(pending),
            Waiting::Evaluation(mut running) => {
                let pending = running.gate.take();
                self.waiting = Waiting::Evaluation(running);
                pending
            }
        }
    }
}

impl Shown {
    pub(crate) fn recorded(&self, payloads: &mut Payloads) -> Answer {
        Answer {
            call: self.call.clone(),
            content: payloads.text(&self.content),
            is_error: self.is_error,
            shown_instead: self.shown_instead.as_ref().map(|text| payloads.text(text)),
        }
    }
}
