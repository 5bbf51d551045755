//! The calls of an utterance: which of them run, in which order, and what the entity is told of each.

use std::sync::Arc;

use cantrip_gates::{GateError, Reach};
use serde_json::{Value, json as object};

use super::acting::{Acting, Broken, Pending, Running, Waiting};
use super::rejoin::{RecordedCall, RecordedResult};
use super::step::{Effect, Now, OutOfStep, StopCause};
use super::{Effects, Entity, Phase, seed};
use crate::domain::budget::Quantity;
use crate::domain::circle::{MediumKind, RuntimeGate};
use crate::domain::context::cut;
use crate::domain::delegation::{self, ChildPlan, Grant, Proposal, Request};
use crate::domain::end::EndReason;
use crate::domain::event::{EventKind, head};
use crate::domain::guest::{LLM_QUERY, Shape};
use crate::domain::ids::CallId;
use crate::domain::json;
use crate::domain::limits::{GUEST_REFUSALS_MAX, REFUSALS_RECORDED_MAX, TURN_GATE_CALLS_MAX, VALUE_CHARS_MAX};
use crate::domain::loom::{Body, EvaluationRecord, Payloads, Returned};
use crate::domain::medium::{CallArguments, Evaluated, EvaluationOutcome, GateAnswer, StopReason};
use crate::domain::model::{self, Message, Question, RawAnswer, Sampling, ToolChoice};
use crate::domain::observe;
use crate::domain::short;

/// What a decision does with budgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spending {
    /// It spends what the call takes.
    Takes,
    /// It only looks whether something is left.
    Limits,
    /// What the call takes was spent when it was recorded.
    Recorded,
}

/// What becomes of a call that was let through.
#[derive(Debug)]
pub(super) enum Admitted {
    Run(Effect),
    Ready(Value),
}

/// What becomes of a call.
#[derive(Debug)]
pub(super) enum Admission {
    /// It runs.
    Waits(Pending),
    /// It need not run: there is a result.
    Ready(Pending, Result<Value, GateError>),
    /// It does not run.
    Refused(GateError),
    /// The record of this turn has something else in its place.
    Otherwise(String),
}

impl Entity {
    /// CIRCLE-7: the calls of an utterance run in order. LOOP-3: after `done` the rest does not.
    pub(super) fn next_call(&mut self, mut acting: Box<Acting>, now: &Now, effects: &mut Effects) {
        loop {
            let Some(call) = acting.said.calls.get(acting.next).cloned() else {
                return self.finish_turn(*acting, now, effects);
            };
            acting.next += 1;
            let is_stopped = now.stop.is_some_and(|cause| cause != StopCause::Interrupted);
            if acting.done.is_some() || (is_stopped && acting.recorded.is_used_up()) {
                let why = if acting.done.is_some() { "done had been called" } else { "the episode was stopped" };
                acting.answer(&call.id, format!("not run: {why}"), false, None);
                continue;
            }
            if matches!(self.nature.circle.medium(), MediumKind::Code(name) if *name == call.gate) {
                match code_of(&call) {
                    Ok(_) if acting.flooded => {
                        let why = format!(
                            "code of this turn made {TURN_GATE_CALLS_MAX} gate calls, and no more are recorded"
                        );
                        acting.answer(&call.id, format!("not run: {why}"), true, None);
                    }
                    Ok(source) => {
                        let recorded = acting.recorded.answers_of(&call.id);
                        acting.waiting = Waiting::Evaluation(Running::new(call.id, None));
                        let seed = seed(&self.nature.id, self.turn, acting.next);
                        effects.push(Effect::Evaluate { source, seed, clock_us: acting.recorded_us, recorded });
                        self.phase = Phase::Acting(acting);
                        return;
                    }
                    Err(error) => acting.answer(&call.id, error.message().to_owned(), true, None),
                }
                continue;
            }
            let arguments = call.arguments.map_err(|text| {
                GateError::Invalid(format!("{}: the arguments are not JSON: {}", call.gate, cut(&text, 200)))
            });
            match self.admit(&mut acting, call.id.clone(), call.gate, arguments, now, effects) {
                Admission::Waits(pending) => {
                    acting.waiting = Waiting::Gate(pending);
                    self.phase = Phase::Acting(acting);
                    return;
                }
                Admission::Ready(pending, result) => {
                    let (result, _) = self.returned(&mut acting, &pending, result, now, effects);
                    answer(&mut acting, &pending, result);
                }
                Admission::Refused(error) => acting.answer(&call.id, error.message().to_owned(), true, None),
                Admission::Otherwise(detail) => return self.diverged(*acting, &detail, now, effects),
            }
        }
    }

    pub(super) fn gate_asked(
        &mut self,
        mut acting: Box<Acting>,
        gate: String,
        given: CallArguments,
        now: &Now,
        effects: &mut Effects,
    ) -> Result<(), OutOfStep> {
        let refusals_max = self.refusals_max();
        let Waiting::Evaluation(running) = &mut acting.waiting else {
            return Err(OutOfStep { input: "GateAsked", phase: "acting without an evaluation" });
        };
        let call = running.next_call();
        // Nothing runs that could not be recorded: what the clock said at each call is in the observation.
        if acting.evaluated_calls + running.gate_clocks_us.len() >= TURN_GATE_CALLS_MAX {
            acting.flooded = true;
            if self.nature.guest.is_some() && acting.broken.is_none() {
                let why = format!("the guest was ended: it made {TURN_GATE_CALLS_MAX} gate calls in one turn");
                acting.broken = Some(Broken { reason: EndReason::GuestFailed, why, failed: true });
            }
            effects.push(Effect::Resume { answer: GateAnswer::Stop, clock_us: acting.recorded_us });
            self.phase = Phase::Acting(acting);
            return Ok(());
        }
        let gate = short::name(gate);
        if acting.refusals > refusals_max {
            acting.refusals += 1;
            let clock_us = running.gate_answered(acting.recorded_us, 0);
            let answer = if self.nature.guest.is_some() { GateAnswer::Stop } else { GateAnswer::nothing_more() };
            if self.nature.guest.is_some() && acting.broken.is_none() {
                let why = format!("the guest was ended: {refusals_max} of its calls were refused, and it went on");
                acting.broken = Some(Broken { reason: EndReason::GuestFailed, why, failed: true });
            }
            effects.push(Effect::Resume { answer, clock_us });
            self.phase = Phase::Acting(acting);
            return Ok(());
        }
        let arguments = match (self.nature.circle.gate(&gate), given) {
            // LOOP-3. An interpreter stops by itself; a guest may go on as it likes.
            _ if acting.done.is_some() => {
                Err(GateError::Denied(format!("{gate}: done had been called, and no gate answers after it")))
            }
            (None, _) => Err(self.nature.circle.absent(&gate)),
            (Some(_), CallArguments::Named(arguments)) => Ok(arguments),
            (Some(held), CallArguments::Positional(values)) if held.runtime.is_some_and(RuntimeGate::delegates) => {
                delegation::arguments(&gate, values)
            }
            (Some(held), CallArguments::Positional(values)) => held.named(values),
        };
        match self.admit(&mut acting, call, gate, arguments, now, effects) {
            Admission::Waits(pending) => {
                if let Waiting::Evaluation(running) = &mut acting.waiting {
                    running.gate = Some(pending);
                }
            }
            Admission::Ready(pending, result) => {
                if let Waiting::Evaluation(running) = &mut acting.waiting {
                    running.gate = Some(pending);
                }
                return self.gate_returned(acting, result, now, effects);
            }
            Admission::Otherwise(detail) => {
                self.diverged(*acting, &detail, now, effects);
                return Ok(());
            }
            Admission::Refused(error) => {
                let mut clock_us = acting.recorded_us;
                if let Waiting::Evaluation(running) = &mut acting.waiting {
                    clock_us = running.gate_answered(acting.recorded_us, 0);
                }
                let is_recorded = acting.refusals <= refusals_max;
                let answer = if is_recorded { GateAnswer::Returned(Err(error)) } else { GateAnswer::nothing_more() };
                effects.push(Effect::Resume { answer, clock_us });
            }
        }
        self.phase = Phase::Acting(acting);
        Ok(())
    }

    const fn refusals_max(&self) -> u64 {
        match self.nature.guest {
            Some(_) => GUEST_REFUSALS_MAX,
            None => REFUSALS_RECORDED_MAX,
        }
    }

    /// The one door to a gate, for every medium (CIRCLE-6). A refusal is recorded like a call, up to a bound.
    fn admit(
        &mut self,
        acting: &mut Acting,
        call: CallId,
        gate: String,
        arguments: Result<Value, GateError>,
        now: &Now,
        effects: &mut Effects,
    ) -> Admission {
        if let Some(recorded) = acting.recorded.call(&call, &gate) {
            return self.again((call, gate, arguments), recorded, acting, (now, effects));
        }
        let shown = arguments.as_ref().map_or(Value::Null, Clone::clone);
        let decision =
            arguments.and_then(|arguments| self.decide(&call, &gate, arguments, Spending::Takes)).map_err(short::error);
        let held = self.nature.circle.gate(&gate);
        let reach = held.map_or(Reach::Read, |held| held.spec.reach);
        let place = held.map(|held| held.place.clone()).unwrap_or_default();
        if decision.is_err() {
            acting.refusals += 1;
            if acting.refusals > self.refusals_max() {
                return decision.map_or_else(Admission::Refused, |(pending, _)| Admission::Waits(pending));
            }
        }
        if let Some(detail) = acting.recorded.otherwise(&gate) {
            return Admission::Otherwise(detail);
        }
        let mut payloads = Payloads::default();
        let body = Body::GateCalled {
            call: call.clone(),
            gate: gate.clone(),
            arguments: payloads.json(&shown),
            reach,
            place,
            asks: None,
            refused: decision.is_err(),
        };
        effects.push(Effect::Record { body, blobs: payloads.into_blobs() });
        acting.recorded_us = now.us;
        effects.push(Effect::Tell(EventKind::GateCalled { gate: gate.clone(), arguments: shown }));
        match decision {
            Ok((mut pending, admitted)) => {
                pending.since_us = now.us;
                let effect = match admitted {
                    Admitted::Run(effect) => effect,
                    Admitted::Ready(value) => return Admission::Ready(pending, Ok(value)),
                };
                // What may change the world is durable before it runs, so that a crash can tell "not run" from "maybe run".
                // A child's own entries tell that of a delegation.
                if reach != Reach::Read && !matches!(effect, Effect::Cast { .. }) {
                    effects.push(Effect::Sync);
                }
                effects.push(effect);
                Admission::Waits(pending)
            }
            Err(error) => {
                effects.push(Effect::Record {
                    body: Body::GateReturned {
                        call,
                        result: Returned::Error(error.clone()),
                        duration_us: 0,
                        ephemeral: false,
                        partial: None,
                    },
                    blobs: Vec::new(),
                });
                effects.push(Effect::Tell(EventKind::GateReturned {
                    gate,
                    is_error: true,
                    preview: error.message().to_owned(),
                    duration_us: 0,
                }));
                Admission::Refused(error)
            }
        }
    }

    /// A call that is recorded: it is counted as it was, and what it returned is in the record, or has to be found out.
    fn again(
        &mut self,
        (call, gate, arguments): (CallId, String, Result<Value, GateError>),
        recorded: RecordedCall,
        acting: &mut Acting,
        (now, effects): (&Now, &mut Effects),
    ) -> Admission {
        acting.recorded_us = recorded.at_us;
        let known = acting.recorded.children(&call);
        let held = self.nature.circle.gate(&gate);
        let mut pending = Pending {
            call: call.clone(),
            gate: gate.clone(),
            is_done: held.is_some_and(|held| held.runtime == Some(RuntimeGate::Done)),
            ephemeral: held.is_some_and(|held| held.spec.ephemeral),
            exposure: held.map(|held| held.spec.exposure).unwrap_or_default(),
            since_us: now.us,
        };
        if recorded.was_refused {
            acting.refusals += 1;
            let decision = arguments.and_then(|arguments| self.decide(&call, &gate, arguments, Spending::Limits));
            let why = || GateError::Denied(format!("{gate}: it was refused before the runtime was stopped"));
            return Admission::Ready(pending, Err(decision.err().map_or_else(why, short::error)));
        }
        self.nature.ledger.charge_recorded(Quantity::GateCalls, 1);
        let decision = arguments.and_then(|arguments| self.decide(&call, &gate, arguments, Spending::Recorded));
        let effect = match decision.map_err(short::error) {
            Ok((decided, Admitted::Ready(value))) => return Admission::Ready(decided, Ok(value)),
            Ok((decided, Admitted::Run(effect))) => {
                pending = Pending { since_us: now.us, ..decided };
                effect
            }
            // It was let through when it was recorded, and would not be now.
            Err(error) => {
                let may_have_run = held.is_some_and(|held| held.spec.reach != Reach::Read) || !known.is_empty();
                let unknown = self.in_flight(&gate, &recorded).filter(|_| may_have_run);
                return Admission::Ready(pending, Err(unknown.unwrap_or(error)));
            }
        };
        if let Effect::Cast { call, children, batch, .. } = effect {
            let count = u64::try_from(children.len()).unwrap_or(u64::MAX);
            self.nature.ledger.charge_recorded(Quantity::Children, count);
            effects.push(Effect::Cast { call, children, batch, known, has_returned: recorded.has_returned });
            return Admission::Waits(pending);
        }
        if recorded.has_returned {
            return Admission::Ready(pending, Ok(Value::Null));
        }
        if let Some(unknown) = self.in_flight(&gate, &recorded) {
            return Admission::Ready(pending, Err(unknown));
        }
        effects.push(effect);
        Admission::Waits(pending)
    }

    /// Decides about a call.
    fn decide(
        &self,
        call: &CallId,
        gate: &str,
        arguments: Value,
        spending: Spending,
    ) -> Result<(Pending, Admitted), GateError> {
        let circle = &self.nature.circle;
        let held = circle.admit(gate, &arguments)?;
        let spec = &held.spec;
        if circle.declared().no_trifecta && spec.exposure.outbound && self.seen.private && self.seen.untrusted {
            return Err(GateError::Denied(format!(
                "{gate}: refused by the ward no_trifecta: this entity has seen private data and untrusted content, so nothing may go out any more"
            )));
        }
        let spend = |quantity, amount| {
            let ledger = &self.nature.ledger;
            let spent = match spending {
                Spending::Takes => ledger.take(quantity, amount),
                Spending::Limits => ledger.take(quantity, amount).map(|()| ledger.refund(quantity, amount)),
                Spending::Recorded => Ok(()),
            };
            spent.map_err(|error| GateError::Exhausted(format!("{gate}: {error}")))
        };
        spend(Quantity::GateCalls, 1)?;
        let pending = Pending {
            call: call.clone(),
            gate: gate.to_owned(),
            is_done: held.runtime == Some(RuntimeGate::Done),
            ephemeral: spec.ephemeral,
            exposure: spec.exposure,
            since_us: 0,
        };
        match held.runtime {
            None | Some(RuntimeGate::Done) => {
                return Ok((pending, Admitted::Run(Effect::Call { gate: gate.to_owned(), arguments })));
            }
            Some(RuntimeGate::ReadLoom) => return Ok((pending, Admitted::Run(Effect::ReadLoom { arguments }))),
            Some(RuntimeGate::LlmQuery) => {
                if let Some(exhausted) =
                    self.nature.ledger.exhausted(Quantity::Tokens).filter(|_| spending != Spending::Recorded)
                {
                    return Err(GateError::Exhausted(format!("{gate}: {exhausted}")));
                }
                return Ok((pending, Admitted::Run(Effect::Query(query(&arguments)))));
            }
            Some(RuntimeGate::CallEntity | RuntimeGate::CallEntityBatch) => {}
        }
        let (children, batch) = match delegation::request(gate, &arguments, circle.wards().max_batch_size)? {
            Request::New(proposal) => {
                // Planned once so that a mistake shows where it was made, with an intent that only stands in.
                self.plan(&Proposal { intent: Some("-".to_owned()), ..proposal.clone() })?;
                return Ok((pending, Admitted::Ready(delegation::handle(&proposal))));
            }
            Request::One(proposal) => (vec![(arguments, self.plan(&proposal).map(Box::new))], false),
            Request::Many(items) => {
                let plan = |item: Value| {
                    let planned = Proposal::parse(&item).and_then(|proposal| self.plan(&proposal)).map(Box::new);
                    (item, planned)
                };
                (items.into_iter().map(plan).collect::<Vec<_>>(), true)
            }
        };
        if let ([(_, Err(error))], false) = (children.as_slice(), batch) {
            return Err(error.clone());
        }
        spend(Quantity::Children, u64::try_from(children.len()).unwrap_or(u64::MAX))?;
        Ok((
            pending,
            Admitted::Run(Effect::Cast { call: call.clone(), children, batch, known: Vec::new(), has_returned: false }),
        ))
    }

    fn plan(&self, proposal: &Proposal) -> Result<ChildPlan, GateError> {
        let nature = &self.nature;
        proposal.plan(Grant {
            circle: &nature.circle,
            equipped: &nature.equipped,
            code_media: &nature.code_media,
            models: &nature.models,
            nodes: &nature.nodes,
        })
    }

    pub(super) fn gate_returned(
        &mut self,
        mut acting: Box<Acting>,
        result: Result<Value, GateError>,
        now: &Now,
        effects: &mut Effects,
    ) -> Result<(), OutOfStep> {
        let Some(pending) = acting.take_pending() else {
            return Err(OutOfStep { input: "GateReturned", phase: "acting without a gate call" });
        };
        let (result, duration_us) = self.returned(&mut acting, &pending, result, now, effects);
        if let Waiting::Evaluation(running) = &mut acting.waiting {
            let clock_us = running.gate_answered(acting.recorded_us, duration_us);
            let answer = if acting.done.is_some() { GateAnswer::Stop } else { GateAnswer::Returned(result) };
            effects.push(Effect::Resume { answer, clock_us });
            self.phase = Phase::Acting(acting);
            return Ok(());
        }
        answer(&mut acting, &pending, result);
        self.next_call(acting, now, effects);
        Ok(())
    }

    /// Records what a call has returned, unless it is recorded: then that is what it has returned. Says it, and how long it took.
    fn returned(
        &mut self,
        acting: &mut Acting,
        pending: &Pending,
        result: Result<Value, GateError>,
        now: &Now,
        effects: &mut Effects,
    ) -> (Result<Value, GateError>, u64) {
        let recorded = acting.recorded.result(&pending.call);
        let (result, duration_us) = if let Some(RecordedResult { at_us, result, duration_us }) = recorded {
            acting.recorded_us = at_us;
            if let (true, Ok(answer)) = (pending.gate == LLM_QUERY, &result) {
                self.charge_recorded_query(answer);
            }
            (result, duration_us)
        } else {
            let duration_us = now.us.saturating_sub(pending.since_us);
            acting.recorded_us = now.us;
            (self.record_result(pending, result, duration_us, effects), duration_us)
        };
        if let Ok(value) = &result {
            self.seen = self.seen.union(pending.exposure);
            if pending.is_done {
                acting.done = Some((EndReason::Done, value.clone()));
            }
        }
        (result, duration_us)
    }

    fn record_result(
        &self,
        pending: &Pending,
        result: Result<Value, GateError>,
        duration_us: u64,
        effects: &mut Effects,
    ) -> Result<Value, GateError> {
        let result = result.map_err(short::error).and_then(|value| match json::check(&value) {
            Ok(()) => Ok(value),
            Err(error) => Err(GateError::Exhausted(format!("{}: its result was left out: {error}", pending.gate))),
        });
        let mut payloads = Payloads::default();
        let (returned, preview, is_error) = match &result {
            Ok(value) => {
                let text = value.to_string();
                (Returned::Ok(payloads.text(&text)), head(&text), false)
            }
            Err(error) => (Returned::Error(error.clone()), error.message().to_owned(), true),
        };
        let (returned, partial) = returned.without_partial(&mut payloads);
        effects.push(Effect::Record {
            body: Body::GateReturned {
                call: pending.call.clone(),
                result: returned,
                duration_us,
                ephemeral: pending.ephemeral,
                partial,
            },
            blobs: payloads.into_blobs(),
        });
        effects.push(Effect::Tell(EventKind::GateReturned {
            gate: pending.gate.clone(),
            is_error,
            preview,
            duration_us,
        }));
        // A guest's run may be as long as it likes, with no turn boundary in it: what it changed is known to be done as soon
        // as it is, so that a crash later on does not put it in doubt.
        let changes = self.nature.circle.gate(&pending.gate).is_some_and(|held| held.spec.reach != Reach::Read);
        if self.nature.guest.is_some() && changes {
            effects.push(Effect::Sync);
        }
        result
    }

    pub(super) fn evaluated(
        &mut self,
        acting: Box<Acting>,
        evaluated: &Evaluated,
        seed: u64,
        clock_us: u64,
        now: &Now,
        effects: &mut Effects,
    ) -> Result<(), OutOfStep> {
        let Some(mut acting) = self.ended_early(acting, now, effects) else { return Ok(()) };
        let Waiting::Evaluation(running) = std::mem::replace(&mut acting.waiting, Waiting::Nothing) else {
            return Err(OutOfStep { input: "Evaluated", phase: "acting without an evaluation" });
        };
        self.nature.ledger.charge(Quantity::Fuel, evaluated.fuel);
        let (mut content, is_error) = observe::describe(evaluated, self.nature.circle.wards());
        if let Some((_, value)) = &acting.done {
            let separator = if content.is_empty() { "" } else { "\n" };
            content = format!("{content}{separator}done: {}", cut(&value.to_string(), VALUE_CHARS_MAX));
        }
        if acting.refusals > self.refusals_max() {
            content = format!(
                "{content}\n[{} refused gate calls, the first {} of them recorded]",
                acting.refusals,
                self.refusals_max()
            );
        }
        if acting.flooded {
            content =
                format!("{content}\n[stopped: the code of a turn makes at most {TURN_GATE_CALLS_MAX} gate calls]");
        }
        acting.evaluated_calls += running.gate_clocks_us.len();
        acting.output_dropped_bytes += evaluated.output_dropped_bytes;
        acting.evaluations.push(EvaluationRecord {
            call: running.call.clone(),
            seed,
            clock_us,
            gate_clocks_us: running.gate_clocks_us,
            stopped_at_poll: evaluated.stopped_at_poll,
            lost: matches!(evaluated.outcome, EvaluationOutcome::Lost { .. }),
            fuel: Some(evaluated.fuel).filter(|fuel| *fuel > 0),
        });
        acting.answer(&running.call, content, is_error, None);
        if let Some(guest) = &self.nature.guest {
            let shape = guest.shape;
            self.guest_returned(&mut acting, shape, &evaluated.outcome, now);
        }
        self.next_call(acting, now, effects);
        Ok(())
    }

    /// What the end of a guest's call means for its episode. An answer that was given by `done` stands, whatever the guest
    /// did afterwards.
    pub(super) fn guest_returned(&self, acting: &mut Acting, shape: Shape, outcome: &EvaluationOutcome, now: &Now) {
        if acting.done.is_some() || acting.broken.is_some() {
            return;
        }
        let broken = |reason, why: String, failed| Some(Broken { reason, why: short::why(why), failed });
        match outcome {
            EvaluationOutcome::Value { kind, .. } if shape == Shape::Steps && kind == MORE => {}
            EvaluationOutcome::Value { value, .. } => {
                acting.done = Some((EndReason::Returned, value.clone().unwrap_or(Value::Null)));
            }
            EvaluationOutcome::Threw { name, message, .. } => {
                acting.broken = broken(EndReason::GuestFailed, format!("the guest failed: {name}: {message}"), true);
            }
            EvaluationOutcome::Done => acting.done = Some((EndReason::Done, Value::Null)),
            EvaluationOutcome::Stopped(reason) | EvaluationOutcome::Lost { reason, .. } => {
                let detail = match outcome {
                    EvaluationOutcome::Lost { detail, .. } if !detail.is_empty() => format!(" ({detail})"),
                    EvaluationOutcome::Value { .. }
                    | EvaluationOutcome::Threw { .. }
                    | EvaluationOutcome::Done
                    | EvaluationOutcome::Stopped(_)
                    | EvaluationOutcome::Lost { .. } => String::new(),
                };
                let limit = observe::limit(*reason, self.nature.circle.wards());
                let stopped = |ward| broken(ward, format!("the guest was stopped: {limit}{detail}"), false);
                acting.broken = match reason {
                    StopReason::Time => stopped(EndReason::MaxEvalMs),
                    StopReason::Fuel => stopped(EndReason::MaxFuel),
                    StopReason::Memory => stopped(EndReason::MaxMemoryBytes),
                    StopReason::Outside => {
                        let cause = now.stop.unwrap_or(StopCause::Cancelled).reason();
                        broken(cause, "the guest was stopped from outside".to_owned(), false)
                    }
                    StopReason::Stack | StopReason::Trap => {
                        broken(EndReason::GuestTrapped, format!("the guest broke down: {limit}{detail}"), true)
                    }
                };
            }
        }
    }

    /// The model has answered the code that runs. Its words are the gate's result, and its tokens are the entity's.
    pub(super) fn queried(
        &mut self,
        acting: Box<Acting>,
        answer: Result<RawAnswer, model::ModelError>,
        now: &Now,
        effects: &mut Effects,
    ) -> Result<(), OutOfStep> {
        let result = match answer {
            Ok(answer) => {
                self.charge(answer.usage);
                effects.push(Effect::Tell(EventKind::Usage { usage: answer.usage }));
                Ok(object!({
                    "text": answer.content.unwrap_or_default(),
                    "model": answer.model,
                    "prompt_tokens": answer.usage.prompt_tokens,
                    "completion_tokens": answer.usage.completion_tokens,
                }))
            }
            Err(error) => Err(GateError::Failed(format!("{LLM_QUERY}: {error}"))),
        };
        self.gate_returned(acting, result, now, effects)
    }
}

/// Tells the model what its call has returned.
fn answer(acting: &mut Acting, pending: &Pending, result: Result<Value, GateError>) {
    let (content, is_error) = match result {
        Ok(Value::String(text)) => (text, false),
        Ok(value) => (value.to_string(), false),
        Err(error) => (error.message().to_owned(), true),
    };
    let shown_instead = (pending.ephemeral && !is_error)
        .then(|| format!("[ephemeral result of {}: {} bytes, not kept in the context]", pending.gate, content.len()));
    acting.answer(&pending.call, content, is_error, shown_instead);
}

/// What a step of a guest says of itself where there is more to do.
pub const MORE: &str = "more";

fn query(arguments: &Value) -> Question {
    let text = |key: &str| arguments.get(key).and_then(Value::as_str).map(str::to_owned);
    let system = text("system").map(Message::System);
    let prompt = Message::User(text("prompt").unwrap_or_default());
    let max_output_tokens = arguments.get("max_output_tokens").and_then(Value::as_u64);
    Question {
        messages: system.into_iter().chain([prompt]).map(Arc::new).collect(),
        tools: Arc::default(),
        tool_choice: ToolChoice::None,
        sampling: Sampling {
            temperature: arguments.get("temperature").and_then(Value::as_f64),
            max_output_tokens: max_output_tokens.and_then(|tokens| u32::try_from(tokens).ok()),
            ..Sampling::default()
        },
    }
}

pub(super) fn code_of(call: &model::Call) -> Result<String, GateError> {
    let wrong = |what: &str| GateError::Invalid(format!("{}: {what}; expected {{\"code\": \"…\"}}", call.gate));
    match &call.arguments {
        Ok(value) => match value.get("code") {
            Some(Value::String(code)) => Ok(code.clone()),
            Some(_) => Err(wrong("the argument `code` is not a string")),
            None => Err(wrong("missing required argument `code`")),
        },
        Err(text) => Err(wrong(&format!("the arguments are not JSON: {}", cut(text, 200)))),
    }
}
