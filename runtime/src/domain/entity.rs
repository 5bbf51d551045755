//! The loop. One entity as a state machine: an input comes in, effects go out.
//!
//! Owns every decision of an episode: what the model is asked, what of its utterance runs and in which order, what is
//! recorded and when that must be durable, when it ends and why. Never performs anything: no I/O, no clock, no await.
//! Keeps LOOP-1 to LOOP-7, INTENT-1 to INTENT-3, ENTITY-3 and ENTITY-5, CIRCLE-3 to CIRCLE-8, LOOM-1, PROD-3 to PROD-5.
//!
//! An episode goes: `Intent` → (fold) → ask → utterance → calls, one after the other → observation → ask … → ended. A call
//! of the medium runs code; the code's gate calls come back in here as `GateAsked`, so every gate call of every medium
//! passes `Entity::admit`.

use std::sync::Arc;

use cantrip_gates::{Exposure, GateError, GateSpec, Reach};
use serde_json::Value;
use thiserror::Error;

use super::acting::{Acting, Pending, Running, Waiting};
use super::budget::{Ledger, Quantity};
use super::cantrip::{Folding, Identity, Summary};
use super::circle::{Circle, DONE, MediumKind, delegates};
use super::context::{FoldPlan, History, Shown, Told, cut};
use super::delegation::{self, ChildPlan, Grant, Proposal, Request};
use super::event::EventKind;
use super::ids::{CallId, EntityId};
use super::loom::{Blob, Body, CallRecord, Ended, EvaluationRecord, How, Observed, Payloads, Returned, Said, Spent};
use super::medium::{Evaluated, EvaluationOutcome, GateAnswer};
use super::model::{self, Message, ModelError, Question, RawAnswer, Sampling, ToolChoice, Usage, Utterance};
use super::observe;
use super::outcome::{Failure, Outcome};

/// 64. A guest that calls refused gates in a loop would fill the record with its refusals; the observation counts the rest.
const REFUSALS_RECORDED_MAX: u64 = 64;
/// How much of an observation an event carries, in characters.
const EVENT_PREVIEW_CHARS: usize = 500;

/// What is fixed for an entity's life.
#[derive(Debug)]
pub struct Nature {
    /// Its name.
    pub id: EntityId,
    /// How deep below the root.
    pub depth: u32,
    /// Who it is.
    pub identity: Identity,
    /// Where it works.
    pub circle: Arc<Circle>,
    /// When its past is folded.
    pub folding: Folding,
    /// How much its model takes, where known.
    pub context_tokens: Option<u64>,
    /// Every gate that its cantrip has equipped, for children.
    pub equipped: Vec<GateSpec>,
    /// The code media of this host.
    pub code_media: Arc<[String]>,
    /// The models that its cantrip names.
    pub models: Vec<String>,
    /// What it may spend.
    pub ledger: Arc<Ledger>,
}

/// Why an episode is stopped from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    /// Somebody cancelled the cast.
    Cancelled,
    /// The parent ended (COMP-9).
    ParentTerminated,
    /// Somebody interrupted the episode; a summoned entity lives on.
    Interrupted,
    /// `timeout_ms` is over.
    Timeout,
}

impl StopCause {
    /// The reason as it is recorded.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::ParentTerminated => "parent_terminated",
            Self::Interrupted => "interrupted",
            Self::Timeout => "timeout_ms",
        }
    }
}

/// The world as a step sees it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Now {
    /// Microseconds since 1970.
    pub us: u64,
    /// Whether somebody wants the episode stopped.
    pub stop: Option<StopCause>,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// An intent: begins an episode.
    Intent {
        /// What to do.
        text: String,
        /// Whether the `opened` entry already holds it.
        recorded: bool,
    },
    /// Goes on with an episode that a crash cut off, without a new intent.
    Continue,
    /// The model answered.
    Answered {
        /// The answer, unchecked.
        answer: RawAnswer,
        /// How often it was asked again.
        retries: u32,
    },
    /// The model gave no answer, retries included.
    Unanswered(ModelError),
    /// The question was given up because of [`Now::stop`].
    Abandoned,
    /// The code calls a function.
    GateAsked {
        /// The name it used.
        gate: String,
        /// The arguments in their order.
        arguments: Vec<Value>,
    },
    /// A gate has run, or its children have.
    GateReturned {
        /// What came of it.
        result: Result<Value, GateError>,
        /// What its children have met.
        seen: Exposure,
        /// What its children have spent.
        spent: Spent,
    },
    /// The code has run.
    Evaluated {
        /// What came of it.
        evaluated: Evaluated,
        /// The seed it ran with.
        seed: u64,
        /// Where its clock stood at the start.
        clock_us: u64,
    },
}

/// What is to be done, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Append an entry.
    Record {
        /// What happened.
        body: Body,
        /// Its large texts.
        blobs: Vec<Blob>,
    },
    /// Go on when everything so far is durable.
    Sync,
    /// Tell observers.
    Tell(EventKind),
    /// Ask the model; comes back as `Answered`, `Unanswered` or `Abandoned`.
    Ask(Question),
    /// Call a gate; comes back as `GateReturned`.
    Call {
        /// The gate.
        gate: String,
        /// Its arguments, checked.
        arguments: Value,
    },
    /// Cast children; comes back as `GateReturned`.
    Cast {
        /// The call.
        call: CallId,
        /// The children, or why one cannot be.
        children: Vec<(Value, Result<Box<ChildPlan>, GateError>)>,
        /// Whether the answer is a list.
        batch: bool,
    },
    /// Run code; comes back as `GateAsked` or `Evaluated`.
    Evaluate {
        /// The code.
        source: String,
    },
    /// Let the code go on; comes back as `GateAsked` or `Evaluated`.
    Resume(GateAnswer),
    /// The episode is over.
    Finish(Box<Outcome>),
}

/// An input that does not fit the state: a defect of the driver, never of a guest.
#[derive(Debug, Error)]
#[error("the entity got the input {input} while it was {phase}")]
pub struct OutOfStep {
    input: &'static str,
    phase: &'static str,
}

#[derive(Debug)]
enum Phase {
    Idle,
    Asking { since_us: u64 },
    Folding(FoldPlan),
    Acting(Box<Acting>),
}

impl Phase {
    const fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Asking { .. } => "asking",
            Self::Folding(_) => "folding",
            Self::Acting(_) => "acting",
        }
    }
}

/// One entity.
#[derive(Debug)]
pub struct Entity {
    nature: Nature,
    history: History,
    phase: Phase,
    turn: u64,
    episode_turns: u64,
    seen: Exposure,
    usage: Usage,
    children_usage: Usage,
    steers: Vec<String>,
}

type Effects = Vec<Effect>;

/// What becomes of a call that was let through.
#[derive(Debug)]
enum Admitted {
    Run(Effect),
    Ready(Value),
}

impl Entity {
    /// An entity that has done nothing yet. `seen` is what its parent has met.
    pub fn new(nature: Nature, seen: Exposure) -> Self {
        Self {
            nature,
            history: History::default(),
            phase: Phase::Idle,
            turn: 0,
            episode_turns: 0,
            seen,
            usage: Usage::default(),
            children_usage: Usage::default(),
            steers: Vec::new(),
        }
    }

    /// Continues a recorded thread.
    pub fn continue_from(&mut self, history: History, turns: u64, usage: Usage, seen: Exposure) {
        self.history = history;
        self.turn = turns;
        self.usage = usage;
        self.seen = self.seen.union(seen);
    }

    /// What is fixed for its life.
    pub const fn nature(&self) -> &Nature {
        &self.nature
    }

    /// How many turns it has had.
    pub const fn turns(&self) -> u64 {
        self.turn
    }

    /// What it and its children have met.
    pub const fn seen(&self) -> Exposure {
        self.seen
    }

    /// Says something into the episode: it is heard at the next turn boundary. The intent itself stays (INTENT-3).
    pub fn steer(&mut self, text: String) {
        self.steers.push(text);
    }

    /// Takes an input and says what is to be done.
    ///
    /// # Errors
    /// An input that does not fit the state.
    pub fn step(&mut self, input: Input, now: &Now) -> Result<Effects, OutOfStep> {
        let mut effects = Effects::new();
        match (std::mem::replace(&mut self.phase, Phase::Idle), input) {
            (Phase::Idle, Input::Intent { text, recorded }) => self.begin(&text, recorded, now, &mut effects),
            (Phase::Idle, Input::Continue) => self.turn_boundary(now, &mut effects),
            (Phase::Asking { since_us }, Input::Answered { answer, retries }) => {
                self.answered(answer, retries, since_us, now, &mut effects);
            }
            (Phase::Asking { .. }, Input::Unanswered(error)) => self.fail(Failure::Model(error), &mut effects),
            (phase @ (Phase::Asking { .. } | Phase::Folding(_)), Input::Abandoned) => {
                if matches!(phase, Phase::Asking { .. }) {
                    self.unask();
                }
                let cause = now.stop.unwrap_or(StopCause::Cancelled);
                self.end(How::Truncated, cause.as_str(), None, None, &mut effects);
            }
            (Phase::Folding(plan), Input::Answered { answer, .. }) => {
                let summary =
                    answer.content.filter(|text| !text.trim().is_empty()).unwrap_or_else(|| plan.summary.clone());
                self.fold(&plan, &summary, answer.usage, &mut effects);
                self.ask(now, &mut effects);
            }
            (Phase::Folding(plan), Input::Unanswered(_)) => {
                // A summary is a convenience: without the model's, the mechanical one serves.
                let summary = plan.summary.clone();
                self.fold(&plan, &summary, Usage::default(), &mut effects);
                self.ask(now, &mut effects);
            }
            (Phase::Acting(acting), Input::GateAsked { gate, arguments }) => {
                self.gate_asked(acting, gate, arguments, now, &mut effects)?;
            }
            (Phase::Acting(acting), Input::GateReturned { result, seen, spent }) => {
                self.seen = self.seen.union(seen);
                self.children_usage += spent.usage + spent.children_usage;
                self.gate_returned(acting, result, now, &mut effects)?;
            }
            (Phase::Acting(acting), Input::Evaluated { evaluated, seed, clock_us }) => {
                self.evaluated(acting, &evaluated, seed, clock_us, now, &mut effects)?;
            }
            (phase, input) => {
                let error = OutOfStep { input: input_name(&input), phase: phase.name() };
                self.phase = phase;
                return Err(error);
            }
        }
        Ok(effects)
    }

    fn begin(&mut self, text: &str, recorded: bool, now: &Now, effects: &mut Effects) {
        if !recorded {
            let mut payloads = Payloads::default();
            let text = payloads.text(text);
            effects.push(Effect::Record { body: Body::Intent { text, steer: false }, blobs: payloads.into_blobs() });
        }
        self.history.intent(text);
        self.episode_turns = 0;
        self.turn_boundary(now, effects);
    }

    /// Between two turns: everything that may end, change or fold the past happens here.
    fn turn_boundary(&mut self, now: &Now, effects: &mut Effects) {
        for text in std::mem::take(&mut self.steers) {
            let mut payloads = Payloads::default();
            let payload = payloads.text(&text);
            effects.push(Effect::Record {
                body: Body::Intent { text: payload, steer: true },
                blobs: payloads.into_blobs(),
            });
            self.history.intent(&text);
        }
        if let Some((reason, why)) = self.ward_met(now) {
            return self.end(How::Truncated, reason, None, why, effects);
        }
        // LOOM-1: the turn is recorded before the next begins.
        if self.turn > 0 {
            effects.push(Effect::Sync);
        }
        match self.history.fold_due(&self.nature.folding, self.nature.context_tokens) {
            None => self.ask(now, effects),
            Some(plan) if self.nature.folding.summary == Summary::Mechanical => {
                let summary = plan.summary.clone();
                self.fold(&plan, &summary, Usage::default(), effects);
                self.ask(now, effects);
            }
            Some(plan) => {
                effects.push(Effect::Ask(summary_question(&plan)));
                self.phase = Phase::Folding(plan);
            }
        }
    }

    fn ward_met(&self, now: &Now) -> Option<(&'static str, Option<String>)> {
        if let Some(cause) = now.stop {
            return Some((cause.as_str(), None));
        }
        let wards = self.nature.circle.declared();
        if let Some(max) = wards.max_turns.filter(|&max| self.episode_turns >= max) {
            return Some(("max_turns", Some(format!("the ward max_turns = {max} is used up"))));
        }
        let exhausted = self.nature.ledger.exhausted(Quantity::Tokens)?;
        Some(("max_tokens", Some(exhausted.to_string())))
    }

    fn ask(&mut self, now: &Now, effects: &mut Effects) {
        self.turn += 1;
        self.episode_turns += 1;
        effects.push(Effect::Tell(EventKind::TurnStarted { turn: self.turn }));
        effects.push(Effect::Ask(self.question()));
        self.phase = Phase::Asking { since_us: now.us };
    }

    /// The question of the present moment: identity, intents, the past as it is shown, the circle (CIRCLE-11).
    fn question(&self) -> Question {
        let nature = &self.nature;
        Question {
            messages: self.history.messages(&nature.identity),
            tools: nature.circle.tools(),
            tool_choice: nature.identity.tool_choice().unwrap_or(nature.circle.tool_choice()),
            sampling: nature.identity.sampling().clone(),
        }
    }

    fn fold(&mut self, plan: &FoldPlan, summary: &str, usage: Usage, effects: &mut Effects) {
        let mut payloads = Payloads::default();
        let text = payloads.text(summary);
        self.charge(usage);
        effects.push(Effect::Record {
            body: Body::Folded { first: plan.first, last: plan.last, summary: text, usage },
            blobs: payloads.into_blobs(),
        });
        effects.push(Effect::Tell(EventKind::Folded { first: plan.first, last: plan.last }));
        self.history.fold(plan.first, plan.last, summary);
    }

    fn charge(&mut self, usage: Usage) {
        self.usage += usage;
        self.nature.ledger.charge(Quantity::Tokens, usage.total());
    }

    fn answered(&mut self, answer: RawAnswer, retries: u32, since_us: u64, now: &Now, effects: &mut Effects) {
        let usage = answer.usage;
        self.charge(usage);
        let said = match model::check(answer, self.turn, self.history.calls()) {
            Ok(said) => said,
            Err(error) => return self.fail(Failure::Contract(error), effects),
        };
        // Recorded before it is executed.
        effects.push(record_utterance(&said, now.us.saturating_sub(since_us), retries));
        effects.push(Effect::Tell(EventKind::MessageComplete { said: spoken(&said) }));
        effects.push(Effect::Tell(EventKind::Usage { usage }));
        let acting = Box::new(Acting::new(said, since_us));
        if acting.said.calls.is_empty() {
            self.text_alone(acting, now, effects);
        } else {
            self.next_call(acting, now, effects);
        }
    }

    /// LOOP-6: text without a call ends the episode, unless `done` is required.
    fn text_alone(&mut self, mut acting: Box<Acting>, now: &Now, effects: &mut Effects) {
        let text = acting.said.content.clone().unwrap_or_default();
        if !self.nature.circle.declared().require_done_tool {
            acting.done = Some(("text", Value::String(text)));
            return self.finish_turn(*acting, now, effects);
        }
        let how = match self.nature.circle.medium() {
            MediumKind::Conversation => "call the gate done with the answer".to_owned(),
            MediumKind::Code(name) => format!("call {name} with code that calls done(answer)"),
        };
        acting.answers.push(Shown {
            call: None,
            content: format!("Nothing was called, so nothing happened. To end, {how}."),
            is_error: false,
            shown_instead: None,
        });
        self.finish_turn(*acting, now, effects);
    }

    /// CIRCLE-7: the calls of an utterance run in order. LOOP-3: after `done` the rest does not.
    fn next_call(&mut self, mut acting: Box<Acting>, now: &Now, effects: &mut Effects) {
        loop {
            let Some(call) = acting.said.calls.get(acting.next).cloned() else {
                return self.finish_turn(*acting, now, effects);
            };
            acting.next += 1;
            if acting.done.is_some() || now.stop.is_some_and(|cause| cause != StopCause::Interrupted) {
                let why = if acting.done.is_some() { "done had been called" } else { "the episode was stopped" };
                acting.answer(&call.id, format!("not run: {why}"), false, None);
                continue;
            }
            if matches!(self.nature.circle.medium(), MediumKind::Code(name) if *name == call.gate) {
                match code_of(&call) {
                    Ok(source) => {
                        acting.waiting = Waiting::Evaluation(Running::new(call.id));
                        effects.push(Effect::Evaluate { source });
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
                Ok((pending, _)) => {
                    acting.waiting = Waiting::Gate(pending);
                    self.phase = Phase::Acting(acting);
                    return;
                }
                Err(error) => acting.answer(&call.id, error.message().to_owned(), true, None),
            }
        }
    }

    fn gate_asked(
        &mut self,
        mut acting: Box<Acting>,
        gate: String,
        positional: Vec<Value>,
        now: &Now,
        effects: &mut Effects,
    ) -> Result<(), OutOfStep> {
        let Waiting::Evaluation(running) = &mut acting.waiting else {
            return Err(OutOfStep { input: "GateAsked", phase: "acting without an evaluation" });
        };
        let call = running.next_call();
        let arguments = match self.nature.circle.gate(&gate) {
            None => Err(self.nature.circle.absent(&gate)),
            Some(held) if delegates(held.spec.name.as_str()) => delegation::arguments(&gate, positional),
            Some(held) => held.named(positional),
        };
        match self.admit(&mut acting, call, gate, arguments, now, effects) {
            Ok((pending, ready)) => {
                if let Waiting::Evaluation(running) = &mut acting.waiting {
                    running.gate = Some(pending);
                }
                if let Some(value) = ready {
                    return self.gate_returned(acting, Ok(value), now, effects);
                }
            }
            Err(error) => {
                if let Waiting::Evaluation(running) = &mut acting.waiting {
                    running.gate_clocks_us.push(now.us);
                }
                effects.push(Effect::Resume(GateAnswer::Returned(Err(error))));
            }
        }
        self.phase = Phase::Acting(acting);
        Ok(())
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
    ) -> Result<(Pending, Option<Value>), GateError> {
        let shown = arguments.as_ref().map_or(Value::Null, Clone::clone);
        let decision = arguments.and_then(|arguments| self.decide(&call, &gate, arguments));
        let reach = self.nature.circle.gate(&gate).map_or(Reach::Read, |held| held.spec.reach);
        if decision.is_err() {
            acting.refusals += 1;
            if acting.refusals > REFUSALS_RECORDED_MAX {
                return decision.map(|(pending, _)| (pending, None));
            }
        }
        let mut payloads = Payloads::default();
        let body = Body::GateCalled {
            call: call.clone(),
            gate: gate.clone(),
            arguments: payloads.json(&shown),
            reach,
            place: "here".to_owned(),
        };
        effects.push(Effect::Record { body, blobs: payloads.into_blobs() });
        effects.push(Effect::Tell(EventKind::GateCalled { gate: gate.clone(), arguments: shown }));
        match decision {
            Ok((mut pending, admitted)) => {
                pending.since_us = now.us;
                let effect = match admitted {
                    Admitted::Run(effect) => effect,
                    Admitted::Ready(value) => return Ok((pending, Some(value))),
                };
                // What may change the world is durable before it runs, so that a crash can tell "not run" from "maybe run".
                // A child's own entries tell that of a delegation.
                if reach != Reach::Read && !matches!(effect, Effect::Cast { .. }) {
                    effects.push(Effect::Sync);
                }
                effects.push(effect);
                Ok((pending, None))
            }
            Err(error) => {
                effects.push(Effect::Record {
                    body: Body::GateReturned {
                        call,
                        result: Returned::Error(error.clone()),
                        duration_us: 0,
                        ephemeral: false,
                    },
                    blobs: Vec::new(),
                });
                effects.push(Effect::Tell(EventKind::GateReturned {
                    gate,
                    is_error: true,
                    preview: error.message().to_owned(),
                    duration_us: 0,
                }));
                Err(error)
            }
        }
    }

    fn decide(&self, call: &CallId, gate: &str, arguments: Value) -> Result<(Pending, Admitted), GateError> {
        let circle = &self.nature.circle;
        let held = circle.admit(gate, &arguments)?;
        let spec = &held.spec;
        if circle.declared().no_trifecta && spec.exposure.outbound && self.seen.private && self.seen.untrusted {
            return Err(GateError::Denied(format!(
                "{gate}: refused by the ward no_trifecta: this entity has seen private data and untrusted content, so nothing may go out any more"
            )));
        }
        let spend = |quantity, amount| {
            self.nature.ledger.take(quantity, amount).map_err(|error| GateError::Exhausted(format!("{gate}: {error}")))
        };
        spend(Quantity::GateCalls, 1)?;
        let pending = Pending {
            call: call.clone(),
            gate: gate.to_owned(),
            is_done: spec.name.as_str() == DONE,
            ephemeral: spec.ephemeral,
            exposure: spec.exposure,
            since_us: 0,
        };
        if !delegates(spec.name.as_str()) {
            return Ok((pending, Admitted::Run(Effect::Call { gate: gate.to_owned(), arguments })));
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
        Ok((pending, Admitted::Run(Effect::Cast { call: call.clone(), children, batch })))
    }

    fn plan(&self, proposal: &Proposal) -> Result<ChildPlan, GateError> {
        let nature = &self.nature;
        proposal.plan(Grant {
            circle: &nature.circle,
            equipped: &nature.equipped,
            code_media: &nature.code_media,
            models: &nature.models,
        })
    }

    fn gate_returned(
        &mut self,
        mut acting: Box<Acting>,
        result: Result<Value, GateError>,
        now: &Now,
        effects: &mut Effects,
    ) -> Result<(), OutOfStep> {
        let Some(pending) = acting.take_pending() else {
            return Err(OutOfStep { input: "GateReturned", phase: "acting without a gate call" });
        };
        let duration_us = now.us.saturating_sub(pending.since_us);
        let mut payloads = Payloads::default();
        let (returned, preview, is_error) = match &result {
            Ok(value) => {
                let text = value.to_string();
                (Returned::Ok(payloads.text(&text)), cut(&text, EVENT_PREVIEW_CHARS), false)
            }
            Err(error) => (Returned::Error(error.clone()), error.message().to_owned(), true),
        };
        effects.push(Effect::Record {
            body: Body::GateReturned {
                call: pending.call.clone(),
                result: returned,
                duration_us,
                ephemeral: pending.ephemeral,
            },
            blobs: payloads.into_blobs(),
        });
        effects.push(Effect::Tell(EventKind::GateReturned {
            gate: pending.gate.clone(),
            is_error,
            preview,
            duration_us,
        }));
        if !is_error {
            self.seen = self.seen.union(pending.exposure);
        }
        if pending.is_done
            && let Ok(value) = &result
        {
            acting.done = Some(("done", value.clone()));
        }
        if let Waiting::Evaluation(running) = &mut acting.waiting {
            running.gate_clocks_us.push(now.us);
            let answer = if acting.done.is_some() { GateAnswer::Stop } else { GateAnswer::Returned(result) };
            effects.push(Effect::Resume(answer));
            self.phase = Phase::Acting(acting);
            return Ok(());
        }
        let (content, is_error) = match result {
            Ok(Value::String(text)) => (text, false),
            Ok(value) => (value.to_string(), false),
            Err(error) => (error.message().to_owned(), true),
        };
        let shown_instead = (pending.ephemeral && !is_error).then(|| {
            format!("[ephemeral result of {}: {} bytes, not kept in the context]", pending.gate, content.len())
        });
        acting.answer(&pending.call, content, is_error, shown_instead);
        self.next_call(acting, now, effects);
        Ok(())
    }

    fn evaluated(
        &mut self,
        mut acting: Box<Acting>,
        evaluated: &Evaluated,
        seed: u64,
        clock_us: u64,
        now: &Now,
        effects: &mut Effects,
    ) -> Result<(), OutOfStep> {
        let Waiting::Evaluation(running) = std::mem::replace(&mut acting.waiting, Waiting::Nothing) else {
            return Err(OutOfStep { input: "Evaluated", phase: "acting without an evaluation" });
        };
        self.nature.ledger.charge(Quantity::Fuel, evaluated.fuel);
        let (mut content, is_error) = observe::describe(evaluated, self.nature.circle.wards());
        if let Some((_, value)) = &acting.done {
            let separator = if content.is_empty() { "" } else { "\n" };
            content = format!("{content}{separator}done: {}", cut(&value.to_string(), observe::PREVIEW_CHARS_MAX));
        }
        if acting.refusals > REFUSALS_RECORDED_MAX {
            content = format!(
                "{content}\n[{} refused gate calls, the first {REFUSALS_RECORDED_MAX} of them recorded]",
                acting.refusals
            );
        }
        acting.output_dropped_bytes += evaluated.output_dropped_bytes;
        acting.evaluations.push(EvaluationRecord {
            call: running.call.clone(),
            seed,
            clock_us,
            gate_clocks_us: running.gate_clocks_us,
            stopped_at_poll: evaluated.stopped_at_poll,
            lost: matches!(evaluated.outcome, EvaluationOutcome::Lost { .. }),
        });
        acting.answer(&running.call, content, is_error, None);
        self.next_call(acting, now, effects);
        Ok(())
    }

    fn finish_turn(&mut self, acting: Acting, now: &Now, effects: &mut Effects) {
        let duration_us = now.us.saturating_sub(acting.since_us);
        let mut payloads = Payloads::default();
        let answers = acting.answers.iter().map(|shown| shown.recorded(&mut payloads)).collect();
        let observation = acting.answers.iter().map(|shown| shown.content.as_str()).collect::<Vec<_>>().join("\n");
        let is_error = acting.answers.iter().any(|shown| shown.is_error);
        let body = Body::Observation(Box::new(Observed {
            answers,
            output_dropped_bytes: acting.output_dropped_bytes,
            evaluations: acting.evaluations,
            duration_us,
        }));
        effects.push(Effect::Record { body, blobs: payloads.into_blobs() });
        effects.push(Effect::Tell(EventKind::TurnComplete {
            turn: self.turn,
            observation: cut(&observation, EVENT_PREVIEW_CHARS),
            is_error,
            duration_us,
        }));
        self.history.turn(Told { number: self.turn, said: acting.said, answers: acting.answers });
        match acting.done {
            Some((reason, value)) => self.end(How::Terminated, reason, Some(value), None, effects),
            None => self.turn_boundary(now, effects),
        }
    }

    /// A question that nothing was said to is no turn: the record, which numbers the turns again when it is read, has none.
    fn unask(&mut self) {
        self.turn = self.turn.saturating_sub(1);
        self.episode_turns = self.episode_turns.saturating_sub(1);
    }

    fn fail(&mut self, failure: Failure, effects: &mut Effects) {
        self.unask();
        let reason = match failure {
            Failure::Model(_) => "model_failed",
            Failure::Contract(_) => "contract_broken",
        };
        let why = failure.to_string();
        self.end_with(How::Truncated, reason, None, Some(why), Some(failure), effects);
    }

    fn end(&mut self, how: How, reason: &str, result: Option<Value>, why: Option<String>, effects: &mut Effects) {
        self.end_with(how, reason, result, why, None, effects);
    }

    fn end_with(
        &mut self,
        how: How,
        reason: &str,
        result: Option<Value>,
        why: Option<String>,
        failure: Option<Failure>,
        effects: &mut Effects,
    ) {
        let spent = self.spent();
        let summary = (how == How::Truncated).then(|| {
            let last =
                self.history.last_words().map(|words| format!(" The last thing seen: {words}")).unwrap_or_default();
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            format!("[truncated by {reason} after {} turns{why}]{last}", spent.turns)
        });
        let mut payloads = Payloads::default();
        let body = Body::Ended(Box::new(Ended {
            how,
            reason: reason.to_owned(),
            result: result.as_ref().map(|value| payloads.json(value)),
            summary: summary.clone(),
            spent,
        }));
        effects.push(Effect::Record { body, blobs: payloads.into_blobs() });
        effects.push(Effect::Sync);
        effects.push(Effect::Tell(EventKind::Final { how, reason: reason.to_owned(), result: result.clone() }));
        let outcome = Outcome {
            entity: self.nature.id,
            how,
            reason: reason.to_owned(),
            result,
            summary,
            spent,
            seen: self.seen,
            failure,
        };
        effects.push(Effect::Finish(Box::new(outcome)));
        self.phase = Phase::Idle;
    }

    fn spent(&self) -> Spent {
        let ledger = &self.nature.ledger;
        Spent {
            turns: self.turn,
            gate_calls: ledger.spent(Quantity::GateCalls),
            children: ledger.spent(Quantity::Children),
            usage: self.usage,
            children_usage: self.children_usage,
        }
    }
}

const fn input_name(input: &Input) -> &'static str {
    match input {
        Input::Intent { .. } => "Intent",
        Input::Continue => "Continue",
        Input::Answered { .. } => "Answered",
        Input::Unanswered(_) => "Unanswered",
        Input::Abandoned => "Abandoned",
        Input::GateAsked { .. } => "GateAsked",
        Input::GateReturned { .. } => "GateReturned",
        Input::Evaluated { .. } => "Evaluated",
    }
}

fn code_of(call: &model::Call) -> Result<String, GateError> {
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

fn spoken(said: &Utterance) -> String {
    let mut parts: Vec<String> = said.content.iter().cloned().collect();
    for call in &said.calls {
        parts.push(match code_of(call) {
            Ok(code) => code,
            Err(_) => format!("{}({})", call.gate, call.arguments.as_ref().map_or_else(Clone::clone, Value::to_string)),
        });
    }
    parts.join("\n")
}

fn record_utterance(said: &Utterance, duration_us: u64, retries: u32) -> Effect {
    let mut payloads = Payloads::default();
    let calls = said
        .calls
        .iter()
        .map(|call| CallRecord {
            id: call.id.clone(),
            gate: call.gate.clone(),
            arguments: match &call.arguments {
                Ok(value) => payloads.json(value),
                Err(text) => payloads.text(text),
            },
        })
        .collect();
    let body = Body::Utterance(Box::new(Said {
        content: said.content.as_deref().map(|text| payloads.text(text)),
        thinking: said.thinking.as_deref().map(|text| payloads.text(text)),
        calls,
        usage: said.usage,
        model: said.model.clone(),
        duration_us,
        retries,
    }));
    Effect::Record { body, blobs: payloads.into_blobs() }
}

fn summary_question(plan: &FoldPlan) -> Question {
    Question {
        messages: vec![
            Message::System("You shorten the record of an agent's work. Keep facts, values, names, decisions and open ends. No preamble.".to_owned()),
            Message::User(format!("Summarise turns {} to {} in at most 200 words:\n\n{}", plan.first, plan.last, plan.summary)),
        ],
        tools: Vec::new(),
        tool_choice: ToolChoice::None,
        sampling: Sampling::default(),
    }
}
