//! The loop. One entity as a state machine: an input comes in, effects go out.
//!
//! Owns every decision of an episode: what the model is asked, what of its utterance runs and in which order, what is
//! recorded and when that must be durable, when it ends and why. Never performs anything: no I/O, no clock, no await.
//! Keeps LOOP-1 to LOOP-7, INTENT-1 to INTENT-3, ENTITY-3 and ENTITY-5, CIRCLE-3 to CIRCLE-8, LOOM-1, PROD-3 to PROD-5.
//!
//! An episode goes: `Intent` → (fold) → ask → utterance → calls, one after the other → observation → ask … → ended. A call
//! of the medium runs code; the code's gate calls come back in here as `GateAsked`, so every gate call of every medium
//! passes `Entity::admit`, in `entity/calls.rs`.

mod acting;
mod calls;
mod rejoin;
mod step;

use std::sync::Arc;

use cantrip_gates::{Exposure, GateError};
use serde_json::{Value, json};

use self::acting::{Acting, Broken, Running};
pub use self::calls::MORE;
use self::rejoin::Recorded;
pub use self::step::{Effect, GuestNature, Input, KnownChild, Nature, Now, OfChildren, OutOfStep, StopCause};
use super::budget::Quantity;
use super::cantrip::Summary;
use super::circle::MediumKind;
use super::context::{FoldPlan, History, Shown, Told};
use super::end::EndReason;
use super::event::{EventKind, head};
use super::guest::Shape;
use super::ids::{CallId, CastId, EntityId};
use super::limits::ANSWER_CALLS_MAX;
use super::loom::{Body, CallRecord, Ended, How, Observed, Payloads, Reserve, Said, Spent, Standing};
use super::model::{self, Message, Question, RawAnswer, Sampling, ToolChoice, Usage, Utterance};
use super::outcome::{Failure, Outcome};
use super::short;

/// 12 KiB of why an episode was truncated: the last thing seen has room behind it.
const WHY_BYTES: usize = 12 * 1024;

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
    /// What was set aside for children whose end is unknown.
    reserves: Vec<Reserve>,
    steers: Vec<String>,
    /// What this episode is about, and what was said into it since the last turn: what a guest is told.
    intent: String,
    heard: Vec<String>,
}

/// What an entity has behind it when it is taken up again.
#[derive(Debug, Default)]
pub struct Past {
    /// What is shown of it.
    pub history: History,
    /// How many turns it has had, and how many of them in its last episode.
    pub turns: u64,
    /// See `turns`.
    pub episode_turns: u64,
    /// What it and its children have spent.
    pub spent: Spent,
    /// What was set aside for children whose end is unknown.
    pub reserves: Vec<Reserve>,
    /// What was met.
    pub seen: Exposure,
    /// What the last episode is about, and what was said into it since its last turn.
    pub intent: String,
    /// See `intent`.
    pub heard: Vec<String>,
    /// Whether it is this entity's own past, and not that of the one it forks.
    pub same_entity: bool,
}

type Effects = Vec<Effect>;

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
            reserves: Vec::new(),
            steers: Vec::new(),
            intent: String::new(),
            heard: Vec::new(),
        }
    }

    /// Continues a recorded thread.
    pub fn continue_from(&mut self, past: Past) {
        self.history = past.history;
        self.turn = past.turns;
        self.usage = past.spent.usage;
        self.seen = self.seen.union(past.seen);
        self.intent = past.intent;
        self.heard = past.heard;
        if past.same_entity {
            // A crash does not refill what was spent.
            self.episode_turns = past.episode_turns;
            self.children_usage = past.spent.children_usage;
            self.nature.ledger.charge_all_recorded(&past.spent);
            let reserved = Reserve::tokens_of(&past.reserves);
            self.nature.ledger.charge_recorded(Quantity::Tokens, reserved);
            self.reserves = past.reserves;
        }
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
            (Phase::Idle, Input::Intent { text, recorded, cast }) => {
                self.begin(&text, recorded, cast, now, &mut effects);
            }
            (Phase::Idle, Input::Continue) => self.turn_boundary(now, &mut effects),
            (Phase::Idle, Input::Rejoin { cut_off, own }) => self.rejoin(*cut_off, own, now, &mut effects),
            (Phase::Asking { since_us }, Input::Answered { answer, retries }) => {
                self.answered(answer, retries, since_us, now, &mut effects);
            }
            (Phase::Asking { .. }, Input::Unanswered(error)) => self.fail(Failure::Model(error), &mut effects),
            (phase @ (Phase::Asking { .. } | Phase::Folding(_)), Input::Abandoned) => {
                if matches!(phase, Phase::Asking { .. }) {
                    self.unask();
                }
                let cause = now.stop.unwrap_or(StopCause::Cancelled);
                self.end(How::Truncated, cause.reason(), None, None, &mut effects);
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
            (Phase::Acting(acting), Input::GateReturned { result, children }) => {
                self.seen = self.seen.union(children.seen);
                self.children_usage += children.spent.usage + children.spent.children_usage;
                self.reserves.extend(children.reserves);
                self.gate_returned(acting, result, now, &mut effects)?;
            }
            (Phase::Acting(acting), Input::Evaluated { evaluated, seed, clock_us }) => {
                self.evaluated(acting, &evaluated, seed, clock_us, now, &mut effects)?;
            }
            (Phase::Acting(acting), Input::Answered { answer, .. }) => {
                self.queried(acting, Ok(answer), now, &mut effects)?;
            }
            (Phase::Acting(acting), Input::Unanswered(error)) => {
                self.queried(acting, Err(error), now, &mut effects)?;
            }
            (Phase::Acting(acting), Input::Abandoned) => {
                let error =
                    GateError::TimedOut("the question was given up, because the episode was stopped".to_owned());
                self.gate_returned(acting, Err(error), now, &mut effects)?;
            }
            (phase, input) => {
                let error = OutOfStep { input: input.name(), phase: phase.name() };
                self.phase = phase;
                return Err(error);
            }
        }
        Ok(effects)
    }

    fn begin(&mut self, text: &str, recorded: bool, cast: Option<CastId>, now: &Now, effects: &mut Effects) {
        if !recorded {
            let mut payloads = Payloads::default();
            let text = payloads.text(text);
            effects.push(Effect::Record { body: Body::intent(text, false, cast), blobs: payloads.into_blobs() });
        }
        self.history.intent(text);
        text.clone_into(&mut self.intent);
        self.heard.clear();
        self.episode_turns = 0;
        self.turn_boundary(now, effects);
    }

    /// Between two turns: everything that may end, change or fold the past happens here.
    fn turn_boundary(&mut self, now: &Now, effects: &mut Effects) {
        for text in std::mem::take(&mut self.steers) {
            let mut payloads = Payloads::default();
            let payload = payloads.text(&text);
            effects.push(Effect::Record { body: Body::intent(payload, true, None), blobs: payloads.into_blobs() });
            self.history.intent(&text);
            if self.nature.guest.is_some() {
                self.heard.push(text);
            }
        }
        if let Some((reason, why)) = self.ward_met(now) {
            return self.end(How::Truncated, reason, None, why, effects);
        }
        // LOOM-1: the turn is recorded before the next begins.
        if self.turn > 0 {
            effects.push(Effect::Sync);
        }
        // A guest is shown nothing of its past, so there is nothing to fold.
        let fold_due = match self.nature.guest {
            Some(_) => None,
            None => self.history.fold_due(&self.nature.folding, self.nature.context_tokens),
        };
        match fold_due {
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

    fn ward_met(&self, now: &Now) -> Option<(EndReason, Option<String>)> {
        if let Some(cause) = now.stop {
            return Some((cause.reason(), None));
        }
        let wards = self.nature.circle.declared();
        if let Some(max) = wards.max_turns.filter(|&max| self.episode_turns >= max) {
            return Some((EndReason::MaxTurns, Some(format!("the ward max_turns = {max} is used up"))));
        }
        let exhausted = self.nature.ledger.exhausted(Quantity::Tokens)?;
        Some((EndReason::MaxTokens, Some(exhausted.to_string())))
    }

    fn ask(&mut self, now: &Now, effects: &mut Effects) {
        self.turn += 1;
        self.episode_turns += 1;
        effects.push(Effect::Tell(EventKind::TurnStarted { turn: self.turn }));
        if let Some(guest) = self.nature.guest.clone() {
            return self.run_guest(guest, now, effects);
        }
        effects.push(Effect::Ask(self.question()));
        self.phase = Phase::Asking { since_us: now.us };
    }

    /// A guest takes the model's place: its call is the utterance. Everything that a second run needs to be the same is in
    /// it and recorded first, so that a run that a crash cuts off goes on where its record ends.
    fn run_guest(&mut self, guest: GuestNature, now: &Now, effects: &mut Effects) {
        let (seed, clock_us) = (seed(&self.nature.id, self.turn, 0), now.us);
        let id = CallId::new(&format!("turn_{}", self.turn));
        let heard = std::mem::take(&mut self.heard);
        let arguments = match guest.shape {
            Shape::Steps => {
                json!({ "intent": self.intent, "number": self.turn, "heard": heard, "seed": seed, "clock_us": clock_us })
            }
            Shape::Run | Shape::Medium => json!({ "intent": self.intent, "seed": seed, "clock_us": clock_us }),
        };
        let call = model::Call { id: id.clone(), gate: guest.shape.function().to_owned(), arguments: Ok(arguments) };
        let said = Utterance { calls: vec![call], model: guest.reference, ..Utterance::default() };
        effects.push(record_utterance(&said, 0, 0));
        effects.push(Effect::Tell(EventKind::MessageComplete { said: spoken(&said) }));
        self.evaluate_guest(said, now.us, Recorded::default(), effects);
    }

    /// Runs what a guest's call says.
    fn evaluate_guest(&mut self, said: Utterance, since_us: u64, recorded: Recorded, effects: &mut Effects) {
        let call = said.calls.first();
        let id = call.map_or_else(|| CallId::new(&format!("turn_{}", self.turn)), |call| call.id.clone());
        let arguments = call.and_then(|call| call.arguments.as_ref().ok()).cloned().unwrap_or_default();
        let number = |key: &str| arguments.get(key).and_then(Value::as_u64).unwrap_or_default();
        let (seed, clock_us) = (number("seed"), number("clock_us"));
        let (source, answers) = (arguments.to_string(), recorded.answers_of(&id));
        effects.push(Effect::Evaluate { source, seed, clock_us, recorded: answers });
        let acting = Acting::running(said, since_us, Running::new(id, Some(clock_us)));
        self.phase = Phase::Acting(Box::new(Acting { recorded, ..acting }));
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

    fn answered(&mut self, mut answer: RawAnswer, retries: u32, since_us: u64, now: &Now, effects: &mut Effects) {
        let usage = answer.usage;
        self.charge(usage);
        let calls_left_out = answer.calls.len().saturating_sub(ANSWER_CALLS_MAX);
        answer.calls.truncate(ANSWER_CALLS_MAX);
        let said = match model::check(answer, self.turn, self.history.calls()) {
            Ok(said) => said,
            Err(error) => return self.fail(Failure::Contract(error), effects),
        };
        // Recorded before it is executed.
        effects.push(record_utterance(&said, now.us.saturating_sub(since_us), retries));
        effects.push(Effect::Tell(EventKind::MessageComplete { said: spoken(&said) }));
        effects.push(Effect::Tell(EventKind::Usage { usage }));
        self.act(Box::new(Acting { calls_left_out, ..Acting::new(said, since_us, now.us) }), now, effects);
    }

    /// Does what was said.
    fn act(&mut self, acting: Box<Acting>, now: &Now, effects: &mut Effects) {
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
            acting.done = Some((EndReason::Text, Value::String(text)));
            return self.finish_turn(*acting, now, effects);
        }
        let how = match self.nature.circle.medium() {
            MediumKind::Conversation | MediumKind::Guest(_) => "call the gate done with the answer".to_owned(),
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

    fn finish_turn(&mut self, mut acting: Acting, now: &Now, effects: &mut Effects) {
        if acting.calls_left_out > 0
            && let Some(last) = acting.answers.last_mut()
        {
            let left_out = acting.calls_left_out;
            let note = format!("\n[{left_out} more calls were not run: an answer has at most {ANSWER_CALLS_MAX}]");
            last.content.push_str(&note);
        }
        if !acting.recorded.is_observed {
            self.observe(&acting, now, effects);
        }
        self.history.turn(Told { number: self.turn, said: acting.said, answers: acting.answers });
        match (acting.done, acting.broken) {
            (Some((reason, value)), _) => self.end(How::Terminated, reason, Some(value), None, effects),
            (None, Some(Broken { reason, why, failed })) => {
                let failure = failed.then(|| Failure::Guest(why.clone()));
                self.end_with(How::Truncated, reason, None, Some(why), failure, effects);
            }
            (None, None) => self.turn_boundary(now, effects),
        }
    }

    /// Records what the entity sees of a turn.
    fn observe(&self, acting: &Acting, now: &Now, effects: &mut Effects) {
        let duration_us = now.us.saturating_sub(acting.since_us);
        let mut payloads = Payloads::default();
        let answers = acting.answers.iter().map(|shown| shown.recorded(&mut payloads)).collect();
        let evaluations = acting.evaluations.iter().map(|it| it.recorded(&mut payloads)).collect();
        let observation = acting.answers.iter().map(|shown| shown.content.as_str()).collect::<Vec<_>>().join("\n");
        let is_error = acting.answers.iter().any(|shown| shown.is_error);
        let body = Body::Observation(Box::new(Observed {
            answers,
            output_dropped_bytes: acting.output_dropped_bytes,
            evaluations,
            duration_us,
            standing: Some(Box::new(self.standing(now))),
        }));
        effects.push(Effect::Record { body, blobs: payloads.into_blobs() });
        effects.push(Effect::Tell(EventKind::TurnComplete {
            turn: self.turn,
            observation: head(&observation),
            is_error,
            duration_us,
        }));
    }

    /// A question that nothing was said to is no turn: the record, which numbers the turns again when it is read, has none.
    fn unask(&mut self) {
        self.turn = self.turn.saturating_sub(1);
        self.episode_turns = self.episode_turns.saturating_sub(1);
    }

    fn fail(&mut self, failure: Failure, effects: &mut Effects) {
        self.unask();
        let reason = match failure {
            Failure::Model(_) => EndReason::ModelFailed,
            Failure::Contract(_) => EndReason::ContractBroken,
            Failure::Guest(_) => EndReason::GuestFailed,
            Failure::Remote(_) => EndReason::RemoteFailed,
        };
        let why = failure.to_string();
        self.end_with(How::Truncated, reason, None, Some(why), Some(failure), effects);
    }

    fn end(&mut self, how: How, reason: EndReason, result: Option<Value>, why: Option<String>, effects: &mut Effects) {
        self.end_with(how, reason, result, why, None, effects);
    }

    fn end_with(
        &mut self,
        how: How,
        reason: EndReason,
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
            short::why(format!(
                "[truncated by {reason} after {} turns{}]{last}",
                spent.turns,
                short::text(why, WHY_BYTES)
            ))
        });
        let mut payloads = Payloads::default();
        let body = Body::Ended(Box::new(Ended {
            how,
            reason: reason.clone(),
            result: result.as_ref().map(|value| payloads.json(value)),
            summary: summary.as_deref().map(|text| payloads.text(text)),
            spent,
        }));
        effects.push(Effect::Record { body, blobs: payloads.into_blobs() });
        effects.push(Effect::Sync);
        effects.push(Effect::Tell(EventKind::Final { how, reason: reason.clone(), result: result.clone() }));
        let outcome = Outcome { entity: self.nature.id, how, reason, result, summary, spent, seen: self.seen, failure };
        effects.push(Effect::Finish(Box::new(outcome)));
        self.phase = Phase::Idle;
    }

    /// What is true of it now and nothing else in the record says, so that whoever resumes it goes on as it would have.
    fn standing(&self, now: &Now) -> Standing {
        Standing {
            spent: Some(self.spent()),
            spent_us: Some(now.spent_us),
            reserves: self.reserves.clone(),
            ..Standing::default()
        }
    }

    /// What was spent so far.
    pub(crate) fn spent(&self) -> Spent {
        let ledger = &self.nature.ledger;
        Spent {
            turns: self.turn,
            gate_calls: ledger.spent(Quantity::GateCalls),
            fuel: ledger.spent(Quantity::Fuel),
            children: ledger.spent(Quantity::Children),
            usage: self.usage,
            children_usage: self.children_usage,
        }
    }
}

/// The seed of a call of a turn: of an entity's name, half of which is random, so no other run has it; and always the same for
/// this one.
fn seed(entity: &EntityId, turn: u64, call: usize) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(entity.as_bytes());
    hasher.update(&turn.to_le_bytes());
    hasher.update(&u64::try_from(call).unwrap_or(u64::MAX).to_le_bytes());
    let mut seed = [0; 8];
    hasher.finalize_xof().fill(&mut seed);
    u64::from_le_bytes(seed)
}

fn spoken(said: &Utterance) -> String {
    let mut parts: Vec<String> = said.content.iter().cloned().collect();
    for call in &said.calls {
        // Of a guest's call only the intent was said by anybody.
        let arguments = call.arguments.as_ref().ok();
        let intent = arguments.filter(|it| it.get("clock_us").is_some()).and_then(|it| it.get("intent"));
        parts.push(match (intent, calls::code_of(call)) {
            (Some(intent), _) => format!("{}({intent})", call.gate),
            (None, Ok(code)) => code,
            (None, Err(_)) => {
                format!("{}({})", call.gate, call.arguments.as_ref().map_or_else(Clone::clone, Value::to_string))
            }
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
        estimated: false,
        cache_written_tokens: None,
        cost_nano: None,
        thinking_blocks: None,
        fallback_of: None,
        finish: None,
    }));
    Effect::Record { body, blobs: payloads.into_blobs() }
}

fn summary_question(plan: &FoldPlan) -> Question {
    Question {
        messages: vec![
            Arc::new(Message::System("You shorten the record of an agent's work. Keep facts, values, names, decisions and open ends. No preamble.".to_owned())),
            Arc::new(Message::User(format!("Summarise turns {} to {} in at most 200 words:\n\n{}", plan.first, plan.last, plan.summary))),
        ],
        tools: Arc::default(),
        tool_choice: ToolChoice::None,
        sampling: Sampling::default(),
    }
}
