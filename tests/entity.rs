//! The loop, asked directly: inputs go into `step`, effects come out. No model, no gate, no store, no clock.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop")]

use std::sync::Arc;

use cantrip_runtime::domain::budget::{Ledger, Quantity};
use cantrip_runtime::domain::cantrip::{Folding, Identity, Summary};
use cantrip_runtime::domain::circle::{Circle, CircleDraft};
use cantrip_runtime::domain::context::Shown;
use cantrip_runtime::domain::entity::{Effect, Entity, Input, Nature, Now, StopCause};
use cantrip_runtime::domain::ids::{CallId, EntityId, EntryId, WriterKey};
use cantrip_runtime::domain::loom::{Body, CutOff, Returned, Spent, TurnEntry, TurnPart};
use cantrip_runtime::domain::medium::{CallArguments, Evaluated, EvaluationOutcome, GateAnswer};
use cantrip_runtime::domain::model::{
    Call, Message, ModelError, Question, RawAnswer, RawCall, Sampling, Usage, Utterance,
};
use cantrip_runtime::{Exposure, GateError, GateName, GateSpec, How, Outcome, Reach, Wards, builtin};
use serde_json::{Value, json};

fn gate(name: &str, reach: Reach, exposure: Exposure, ephemeral: bool) -> GateSpec {
    GateSpec {
        name: GateName::parse(name).unwrap(),
        description: "A gate of a test.".to_owned(),
        parameters: json!({"type": "object", "properties": {"text": {"type": "string"}}}),
        positional: vec!["text".to_owned()],
        reach,
        exposure,
        ephemeral,
    }
}

/// What an entity is made of.
struct Setup {
    medium: &'static str,
    gates: Vec<GateSpec>,
    wards: Wards,
    folding: Folding,
    context_tokens: Option<u64>,
}

impl Default for Setup {
    fn default() -> Self {
        let exposure = |private, untrusted, outbound| Exposure { private, untrusted, outbound };
        let gates = vec![
            builtin::done().spec().clone(),
            gate("look", Reach::Read, Exposure::default(), false),
            gate("write", Reach::Write, Exposure::default(), false),
            gate("glance", Reach::Read, Exposure::default(), true),
            gate("diary", Reach::Read, exposure(true, false, false), false),
            gate("web", Reach::Read, exposure(false, true, false), false),
            gate("send", Reach::External, exposure(false, false, true), false),
        ];
        let wards = Wards { max_turns: Some(20), ..Wards::default() };
        Self { medium: "conversation", gates, wards, folding: Folding::default(), context_tokens: None }
    }
}

/// An entity, the effects of its last step, and every entry it recorded.
struct Run {
    entity: Entity,
    effects: Vec<Effect>,
    recorded: Vec<Body>,
    now: Now,
}

impl Setup {
    fn wards(wards: Wards) -> Self {
        Self { wards: Wards { max_turns: wards.max_turns.or(Some(20)), ..wards }, ..Self::default() }
    }

    fn code(wards: Wards) -> Self {
        Self { medium: "javascript", ..Self::wards(wards) }
    }

    /// The entity, with its first intent.
    fn start(self) -> Run {
        let mut run = self.at_rest();
        run.step(Input::Intent { text: "do it".to_owned(), recorded: true, cast: None });
        run
    }

    /// The entity, about to take up a turn that a crash cut off: what was said, and what is recorded behind it. `own` says whether this
    /// node recorded it.
    fn cut_off(self, calls: Vec<RawCall>, parts: Vec<TurnPart>, own: bool) -> Run {
        let mut run = self.at_rest();
        let calls: Vec<Call> = (1..)
            .zip(calls)
            .map(|(at, call)| Call { id: CallId::new(&format!("c{at}")), gate: call.gate, arguments: call.arguments })
            .collect();
        let known = |call: &Call| Shown {
            call: Some(call.id.clone()),
            content: "It was stopped.".to_owned(),
            is_error: true,
            shown_instead: None,
        };
        let answers = calls.iter().map(known).collect();
        let (writer, id) = (WriterKey::from_bytes([1; 32]), EntryId::from_digest([2; 32]));
        let entries = parts.into_iter().map(|part| TurnEntry { id, at_us: 5, writer, part }).collect();
        let said = Utterance { calls, ..Utterance::default() };
        let cut_off = CutOff { at_us: 5, said, answers, entries, spent: Spent::default(), is_observed: false };
        run.step(Input::Rejoin { cut_off: Box::new(cut_off), own: own.then_some(writer).into_iter().collect() });
        run
    }

    fn at_rest(self) -> Run {
        let code_media: Arc<[String]> = vec!["javascript".to_owned()].into();
        let draft = CircleDraft {
            media: vec![self.medium.to_owned()],
            gates: self.gates,
            wards: self.wards,
            ..CircleDraft::default()
        };
        let circle = Arc::new(Circle::new(draft, &code_media, true).unwrap());
        let nature = Nature {
            id: EntityId::from_parts(1, [0; 16]),
            depth: 0,
            identity: Identity::new(Some("You are tested.".to_owned()), Sampling::default(), None),
            ledger: Ledger::new(circle.wards(), None),
            circle,
            folding: self.folding,
            context_tokens: self.context_tokens,
            equipped: Vec::new(),
            code_media,
            models: Vec::new(),
            nodes: Arc::default(),
            guest: None,
        };
        let entity = Entity::new(nature, Exposure::default());
        Run { entity, effects: Vec::new(), recorded: Vec::new(), now: Now::default() }
    }
}

/// An effect in a word.
fn word(effect: &Effect) -> String {
    match effect {
        Effect::Record { body, .. } => body.kind().to_owned(),
        Effect::Sync => "sync".to_owned(),
        Effect::Lose => "lose".to_owned(),
        Effect::Tell(_) => "tell".to_owned(),
        Effect::Ask(_) | Effect::Query(_) => "ask".to_owned(),
        Effect::Call { gate, .. } => format!("call {gate}"),
        Effect::ReadLoom { .. } => "read loom".to_owned(),
        Effect::Cast { .. } => "cast".to_owned(),
        Effect::Evaluate { .. } => "evaluate".to_owned(),
        Effect::Resume { answer: GateAnswer::Stop, .. } => "stop".to_owned(),
        Effect::Resume { answer: GateAnswer::Returned(_), .. } => "resume".to_owned(),
        Effect::Finish(_) => "finish".to_owned(),
    }
}

fn call(gate: &str, text: &str) -> RawCall {
    let key = if gate == "done" { "answer" } else { "text" };
    RawCall { id: None, gate: gate.to_owned(), arguments: Ok(json!({ key: text })) }
}

fn code(source: &str) -> RawCall {
    RawCall { id: None, gate: "javascript".to_owned(), arguments: Ok(json!({ "code": source })) }
}

impl Run {
    fn step(&mut self, input: Input) {
        self.effects = self.entity.step(input, &self.now).unwrap();
        let bodies = self.effects.iter().filter_map(|effect| match effect {
            Effect::Record { body, .. } => Some(body.clone()),
            Effect::Sync
            | Effect::Lose
            | Effect::Tell(_)
            | Effect::Ask(_)
            | Effect::Call { .. }
            | Effect::ReadLoom { .. }
            | Effect::Cast { .. }
            | Effect::Evaluate { .. }
            | Effect::Resume { .. }
            | Effect::Query(_)
            | Effect::Finish(_) => None,
        });
        self.recorded.extend(bodies);
    }

    fn answer(&mut self, answer: RawAnswer) {
        self.step(Input::Answered { answer, retries: 0 });
    }

    fn says(&mut self, text: &str) {
        self.answer(RawAnswer { content: Some(text.to_owned()), ..RawAnswer::default() });
    }

    fn calls(&mut self, calls: Vec<RawCall>) {
        self.answer(RawAnswer { calls, ..RawAnswer::default() });
    }

    fn returns(&mut self, result: Result<Value, GateError>) {
        self.step(Input::returned(result));
    }

    /// One whole turn: a gate is called and answers.
    fn turn(&mut self, gate: &str, result: &str) {
        self.calls(vec![call(gate, "x")]);
        self.returns(Ok(json!(result)));
    }

    fn asks_gate(&mut self, gate: &str, argument: &str) {
        self.step(Input::GateAsked {
            gate: gate.to_owned(),
            arguments: CallArguments::Positional(vec![json!(argument)]),
        });
    }

    fn evaluated(&mut self, outcome: EvaluationOutcome) {
        let evaluated =
            Evaluated { outcome, output: String::new(), output_dropped_bytes: 0, fuel: 0, stopped_at_poll: None };
        self.step(Input::Evaluated { evaluated, seed: 0, clock_us: 0 });
    }

    /// The effects of the last step, without what is told to observers.
    fn words(&self) -> Vec<String> {
        self.effects.iter().map(word).filter(|word| word != "tell").collect()
    }

    fn question(&self) -> &Question {
        let asked = self
            .effects
            .iter()
            .find_map(|effect| if let Effect::Ask(question) = effect { Some(question) } else { None });
        asked.unwrap_or_else(|| panic!("nothing was asked: {:?}", self.words()))
    }

    /// The last message of the question.
    fn heard(&self) -> String {
        self.question().messages.last().unwrap().content().to_owned()
    }

    fn outcome(&self) -> &Outcome {
        match self.effects.last() {
            Some(Effect::Finish(outcome)) => outcome,
            _ => panic!("it has not ended: {:?}", self.words()),
        }
    }

    fn ended(&self, how: How, reason: &str) {
        let outcome = self.outcome();
        assert_eq!((outcome.how, outcome.reason.as_str()), (how, reason));
    }

    fn kinds(&self) -> Vec<&str> {
        self.recorded.iter().map(Body::kind).collect()
    }
}

#[test]
fn loop_1_turns_alternate_and_each_is_durable_before_the_next() {
    let mut run = Setup::default().start();
    assert_eq!(run.words(), ["ask"]);
    run.calls(vec![call("look", "x")]);
    assert_eq!(run.words(), ["utterance", "gate_called", "call look"]);
    run.returns(Ok(json!("seen")));
    assert_eq!(run.words(), ["gate_returned", "observation", "sync", "ask"]);
    run.calls(vec![call("done", "end")]);
    run.returns(Ok(json!("end")));
    assert_eq!(run.words(), ["gate_returned", "observation", "ended", "sync", "finish"]);
    run.ended(How::Terminated, "done");
    assert_eq!(run.outcome().result, Some(json!("end")));
    assert_eq!(run.outcome().spent.turns, 2);
}

#[test]
fn an_utterance_is_recorded_before_anything_of_it_runs() {
    for (setup, calls, runs) in [
        (Setup::default(), vec![call("look", "x")], "call look"),
        (Setup::code(Wards::default()), vec![code("1")], "evaluate"),
    ] {
        let mut run = setup.start();
        run.calls(calls);
        let words = run.words();
        assert_eq!((words.first().unwrap().as_str(), words.last().unwrap().as_str()), ("utterance", runs));
    }
}

#[test]
fn what_changes_the_world_is_durable_before_it_runs() {
    for gate in ["write", "send"] {
        let mut run = Setup::default().start();
        run.calls(vec![call(gate, "x")]);
        assert_eq!(run.words(), ["utterance", "gate_called", "sync", &format!("call {gate}")]);
        let mut run = Setup::code(Wards::default()).start();
        run.calls(vec![code("…")]);
        run.asks_gate(gate, "x");
        assert_eq!(run.words(), ["gate_called", "sync", &format!("call {gate}")]);
    }
}

#[test]
fn loop_3_after_done_the_rest_does_not_run() {
    let mut run = Setup::default().start();
    run.calls(vec![call("look", "1"), call("done", "end"), call("write", "never")]);
    run.returns(Ok(json!("seen")));
    assert_eq!(run.words(), ["gate_returned", "gate_called", "call done"]);
    run.returns(Ok(json!("end")));
    run.ended(How::Terminated, "done");
    let Some(Body::Observation(observed)) = run.recorded.iter().find(|body| matches!(body, Body::Observation(_)))
    else {
        panic!("no observation");
    };
    assert_eq!(observed.answers.len(), 3, "every call has its answer");
    assert_eq!(run.kinds().iter().filter(|kind| **kind == "gate_called").count(), 2);
}

#[test]
fn done_in_code_stops_the_code() {
    let mut run = Setup::code(Wards::default()).start();
    run.calls(vec![code("done('end')"), code("never")]);
    run.asks_gate("done", "end");
    assert_eq!(run.words(), ["gate_called", "call done"]);
    run.returns(Ok(json!("end")));
    assert_eq!(run.words(), ["gate_returned", "stop"]);
    run.evaluated(EvaluationOutcome::Done);
    run.ended(How::Terminated, "done");
}

#[test]
fn a_done_that_failed_is_not_done() {
    let mut run = Setup::default().start();
    run.calls(vec![call("done", "x")]);
    run.returns(Err(GateError::Failed("not now".to_owned())));
    assert_eq!(run.heard(), "not now");
}

#[test]
fn loop_4_max_turns_truncates_with_what_was_done() {
    let mut run = Setup::wards(Wards { max_turns: Some(2), ..Wards::default() }).start();
    run.turn("look", "one");
    run.turn("look", "two");
    run.ended(How::Truncated, "max_turns");
    let summary = run.outcome().summary.clone().unwrap();
    assert!(summary.contains("max_turns = 2") && summary.contains("two"), "{summary}");
    // Another intent has turns of its own (ENTITY-5), and the past is still there.
    run.step(Input::Intent { text: "again".to_owned(), recorded: false, cast: None });
    assert_eq!(run.words(), ["intent", "sync", "ask"]);
    assert_eq!(run.question().messages.len(), 1 + 1 + 4 + 1);
}

#[test]
fn tokens_are_counted_after_each_answer() {
    let mut run = Setup::wards(Wards { max_tokens: Some(100), ..Wards::default() }).start();
    let usage = Usage { prompt_tokens: 60, completion_tokens: 40, cached_tokens: 0 };
    run.answer(RawAnswer { calls: vec![call("look", "x")], usage, ..RawAnswer::default() });
    run.returns(Ok(json!("seen")));
    run.ended(How::Truncated, "max_tokens");
    assert_eq!(run.outcome().spent.usage, usage);
}

#[test]
fn loop_5_the_intent_stays_in_front_and_is_never_changed() {
    let mut run = Setup::default().start();
    for _ in 0..5 {
        run.turn("look", "seen");
        let messages = &run.question().messages;
        assert_eq!(*messages[0], Message::System("You are tested.".to_owned()));
        assert_eq!(*messages[1], Message::User("do it".to_owned()));
    }
}

#[test]
fn loop_6_text_alone_ends_unless_done_is_required() {
    let mut run = Setup::default().start();
    run.says("the answer");
    assert_eq!(run.words(), ["utterance", "observation", "ended", "sync", "finish"]);
    run.ended(How::Terminated, "text");
    assert_eq!(run.outcome().result, Some(json!("the answer")));

    let mut run = Setup::wards(Wards { require_done_tool: true, ..Wards::default() }).start();
    run.says("the answer");
    assert!(run.heard().contains("call the gate done"), "{}", run.heard());
    let mut run = Setup::code(Wards { require_done_tool: true, ..Wards::default() }).start();
    run.says("the answer");
    assert!(run.heard().contains("call javascript with code that calls done(answer)"), "{}", run.heard());
}

#[test]
fn loop_7_the_end_says_by_whom() {
    for (how, reason, input) in [
        (How::Truncated, "model_failed", Input::Unanswered(ModelError::ScriptExhausted { used: 0 })),
        (How::Truncated, "contract_broken", Input::Answered { answer: RawAnswer::default(), retries: 0 }),
    ] {
        let mut run = Setup::default().start();
        run.step(input);
        run.ended(how, reason);
        assert!(run.outcome().failure.is_some());
        assert_eq!(run.outcome().spent.turns, 0, "nothing was said, so there was no turn");
        assert!(
            matches!(run.recorded.last(), Some(Body::Ended(ended)) if ended.reason.as_str() == reason && ended.how == how)
        );
    }
}

#[test]
fn a_stop_from_outside_has_its_cause() {
    for (cause, reason) in [
        (StopCause::Cancelled, "cancelled"),
        (StopCause::ParentTerminated, "parent_terminated"),
        (StopCause::Interrupted, "interrupted"),
        (StopCause::Timeout, "timeout_ms"),
    ] {
        // While the model is asked.
        let mut run = Setup::default().start();
        run.now.stop = Some(cause);
        run.step(Input::Abandoned);
        run.ended(How::Truncated, reason);
        // While a gate runs: the turn is finished and recorded first.
        let mut run = Setup::default().start();
        run.calls(vec![call("look", "x"), call("write", "y")]);
        run.now.stop = Some(cause);
        run.returns(Ok(json!("seen")));
        if cause == StopCause::Interrupted {
            assert_eq!(run.words().last().unwrap(), "call write", "an interrupt lets the turn end");
            run.returns(Ok(json!("written")));
        }
        run.ended(How::Truncated, reason);
        assert!(run.kinds().contains(&"observation"));
    }
}

#[test]
fn a_steer_is_heard_at_the_next_turn() {
    let mut run = Setup::default().start();
    run.calls(vec![call("look", "x")]);
    run.entity.steer("the other one".to_owned());
    run.returns(Ok(json!("seen")));
    assert_eq!(run.words(), ["gate_returned", "observation", "intent", "sync", "ask"]);
    assert_eq!(run.heard(), "the other one");
    assert_eq!(*run.question().messages[1], Message::User("do it".to_owned()), "the intent itself stays");
    assert!(run.recorded.iter().any(|body| matches!(body, Body::Intent(told) if told.steer)));
}

#[test]
fn prod_4_older_turns_are_folded_and_the_rest_stays() {
    let folding = Folding { trigger_after_turns: Some(4), keep_turns: 2, ..Folding::default() };
    let mut run = Setup { folding, ..Setup::default() }.start();
    for result in ["one", "two", "three"] {
        run.turn("look", result);
        assert!(!run.kinds().contains(&"folded"), "after {result}");
    }
    run.turn("look", "four");
    assert_eq!(run.words(), ["gate_returned", "observation", "sync", "folded", "ask"]);
    assert!(matches!(run.recorded.last(), Some(Body::Folded { first: 1, last: 2, .. })));
    let texts: Vec<&str> = run.question().messages.iter().map(|message| message.content()).collect();
    assert_eq!((texts[0], texts[1]), ("You are tested.", "do it"));
    assert!(texts[2].starts_with("[Folded: turns 1-2]") && texts[2].contains("one"), "{texts:?}");
    assert_eq!(texts[3..], ["", "three", "", "four"]);
    assert_eq!(run.question().tools.len(), 7, "the gates are never part of a fold");
    // Two unfolded turns stand; two more, and they are folded too.
    run.turn("look", "five");
    run.turn("look", "six");
    assert!(matches!(run.recorded.last(), Some(Body::Folded { first: 3, last: 4, .. })));
}

#[test]
fn a_full_context_is_folded_at_its_share() {
    let usage = |prompt_tokens| Usage { prompt_tokens, completion_tokens: 0, cached_tokens: 0 };
    for (tokens, folds) in [(799, false), (800, true)] {
        let mut run = Setup { context_tokens: Some(1_000), ..Setup::default() }.start();
        for _ in 0..3 {
            run.answer(RawAnswer { calls: vec![call("look", "x")], usage: usage(tokens), ..RawAnswer::default() });
            run.returns(Ok(json!("seen")));
        }
        assert_eq!(run.kinds().contains(&"folded"), folds, "{tokens}");
    }
}

#[test]
fn a_summary_of_the_model_costs_a_question_and_falls_back() {
    let folding =
        Folding { trigger_after_turns: Some(2), keep_turns: 1, summary: Summary::Model, ..Folding::default() };
    let usage = Usage { prompt_tokens: 5, completion_tokens: 5, cached_tokens: 0 };
    let good = || Input::Answered {
        answer: RawAnswer { content: Some("in short".to_owned()), usage, ..RawAnswer::default() },
        retries: 0,
    };
    for (input, expected) in [(good(), "in short"), (Input::Unanswered(ModelError::ScriptExhausted { used: 0 }), "one")]
    {
        let mut run = Setup { folding: folding.clone(), ..Setup::default() }.start();
        run.turn("look", "one");
        run.turn("look", "two");
        assert!(run.question().tools.is_empty(), "the summary may call nothing");
        run.step(input);
        assert_eq!(run.words(), ["folded", "ask"]);
        assert!(run.question().messages[2].content().contains(expected));
        assert_eq!(run.entity.turns(), 3, "a summary is no turn");
    }
}

#[test]
fn prod_5_an_ephemeral_result_is_recorded_and_not_shown() {
    let mut run = Setup::default().start();
    run.turn("glance", "a long secret page");
    assert_eq!(run.heard(), "[ephemeral result of glance: 18 bytes, not kept in the context]");
    let kept = run
        .recorded
        .iter()
        .any(|body| matches!(body, Body::GateReturned { ephemeral: true, result: Returned::Ok(_), .. }));
    assert!(kept);
}

#[test]
fn circle_5_a_failed_gate_is_an_observation() {
    let mut run = Setup::default().start();
    run.calls(vec![call("look", "x"), call("look", "y")]);
    run.returns(Err(GateError::Failed("no luck".to_owned())));
    run.returns(Ok(json!("luck")));
    let messages = &run.question().messages;
    assert!(
        matches!(&*messages[3], Message::Tool { content, is_error: true, .. } if content == "no luck"),
        "{messages:?}"
    );
    assert!(matches!(&*messages[4], Message::Tool { content, is_error: false, .. } if content == "luck"));
}

#[test]
fn what_cannot_be_called_is_said_and_recorded() {
    let mut run = Setup::default().start();
    let broken = RawCall { id: None, gate: "look".to_owned(), arguments: Err("{text".to_owned()) };
    let wrong = RawCall { id: None, gate: "look".to_owned(), arguments: Ok(json!({"text": 3})) };
    run.calls(vec![call("loook", "x"), broken, wrong]);
    let messages = &run.question().messages;
    let expect = |index: usize, text: &str| {
        assert!(
            matches!(&*messages[index], Message::Tool { content, is_error: true, .. } if content.contains(text)),
            "{:?}",
            messages[index]
        );
    };
    expect(3, "did you mean `look`?");
    expect(4, "not JSON");
    expect(5, "`text`");
    assert_eq!(run.kinds().iter().filter(|kind| **kind == "gate_returned").count(), 3);
}

#[test]
fn refusals_are_recorded_up_to_a_bound_and_counted_beyond() {
    let mut run = Setup::code(Wards::default()).start();
    run.calls(vec![code("…")]);
    for number in 1..=200 {
        run.asks_gate("nothing", "x");
        assert_eq!(run.words().last().unwrap(), "resume");
        assert_eq!(run.words().len(), if number <= 64 { 3 } else { 1 }, "refusal {number}");
    }
    // Not even what would be answered otherwise: a replay has no other answers than the recorded ones.
    run.asks_gate("look", "x");
    assert_eq!(run.words(), ["resume"]);
    run.evaluated(EvaluationOutcome::Value { value: None, text: String::new(), kind: "undefined".to_owned() });
    assert!(run.heard().contains("[201 refused gate calls, the first 64 of them recorded]"), "{}", run.heard());
    assert_eq!(run.kinds().iter().filter(|kind| **kind == "gate_called").count(), 64);
}

#[test]
fn max_gate_calls_refuses_what_is_too_much() {
    let mut run = Setup::wards(Wards { max_gate_calls: Some(2), ..Wards::default() }).start();
    run.calls(vec![call("look", "1"), call("look", "2"), call("look", "3")]);
    run.returns(Ok(json!("one")));
    run.returns(Ok(json!("two")));
    assert!(run.heard().contains("max_gate_calls"), "{}", run.heard());
}

#[test]
fn no_trifecta_closes_the_way_out_once_both_are_seen() {
    let mut run = Setup::wards(Wards { no_trifecta: true, ..Wards::default() }).start();
    run.turn("diary", "private");
    run.turn("send", "sent");
    assert_eq!(run.heard(), "sent", "one of the two is no reason");
    // A failed read shows nothing.
    run.calls(vec![call("web", "x")]);
    run.returns(Err(GateError::Failed("offline".to_owned())));
    run.turn("send", "sent");
    run.turn("web", "page");
    run.calls(vec![call("send", "x")]);
    assert!(run.heard().contains("refused by the ward no_trifecta"), "{}", run.heard());
    // Also in a later episode.
    run.says("text");
    run.step(Input::Intent { text: "again".to_owned(), recorded: false, cast: None });
    run.calls(vec![call("send", "x")]);
    assert!(run.heard().contains("no_trifecta"), "{}", run.heard());
}

#[test]
fn an_input_out_of_step_is_refused_and_changes_nothing() {
    let mut run = Setup::default().start();
    let result = Input::returned(Ok(json!(1)));
    let error = run.entity.step(result, &run.now).unwrap_err().to_string();
    assert_eq!(error, "the entity got the input GateReturned while it was asking");
    run.says("still here");
    run.ended(How::Terminated, "text");
}

#[test]
fn prod_4_a_summary_keeps_the_beginning_of_what_was_said() {
    let folding = Folding { trigger_after_turns: Some(2), keep_turns: 1, ..Folding::default() };
    let mut run = Setup { folding, ..Setup::default() }.start();
    run.turn("look", &"a".repeat(1_000));
    run.turn("look", "b");
    let Some(Body::Folded { .. }) = run.recorded.last() else { panic!("{:?}", run.kinds()) };
    let summary = run.question().messages[2].content().to_owned();
    assert!(summary.contains(&format!("{}…", "a".repeat(160))) && summary.chars().count() < 250, "{summary}");
}

#[test]
fn what_a_turn_has_cost_that_is_given_up_for_something_else_is_spent() {
    let mut run = Setup::default().at_rest();
    let tokens = |prompt_tokens| Usage { prompt_tokens, ..Usage::default() };
    let spent = Spent { gate_calls: 3, children: 1, usage: tokens(7), children_usage: tokens(5), ..Spent::default() };
    let said = Utterance { usage: tokens(7), ..Utterance::default() };
    let cut_off = CutOff { at_us: 5, said, answers: Vec::new(), entries: Vec::new(), spent, is_observed: false };
    let standing = run.entity.give_up(&cut_off, 9);
    assert_eq!((standing.spent, standing.spent_us), (Some(Spent { turns: 1, ..spent }), Some(9)));
    assert_eq!(run.entity.nature().ledger.spent(Quantity::Tokens), 12);
    run.step(Input::Intent { text: "something else".to_owned(), recorded: false, cast: None });
    run.says("text");
    assert_eq!(run.outcome().spent.gate_calls, 3);
}

fn called(call: &str, gate: &str, refused: bool) -> TurnPart {
    TurnPart::Called { call: CallId::new(call), gate: gate.to_owned(), refused }
}

fn returned(call: &str, value: &str) -> TurnPart {
    TurnPart::Returned { call: CallId::new(call), result: Ok(json!(value)), duration_us: 7 }
}

#[test]
fn what_is_recorded_of_a_turn_is_neither_recorded_nor_done_again() {
    let calls = || vec![call("write", "1"), call("look", "2"), call("write", "3")];
    let recorded = vec![called("c1", "write", false), returned("c1", "written"), called("c2", "look", false)];
    let mut run = Setup::default().cut_off(calls(), recorded, true);
    // The second only looks, and its result is missing.
    assert_eq!(run.words(), ["call look"]);
    run.returns(Ok(json!("seen")));
    assert_eq!(run.words(), ["gate_returned", "gate_called", "sync", "call write"]);
    run.returns(Ok(json!("written, too")));
    assert_eq!(run.kinds(), ["gate_returned", "gate_called", "gate_returned", "observation"]);
    let heard: Vec<&str> = run.question().messages.iter().skip(2).map(|message| message.content()).collect();
    assert_eq!(heard, ["written", "seen", "written, too"]);
}

#[test]
fn a_call_without_a_result_is_unknown_unless_it_only_looks_and_is_this_nodes() {
    for (gate, own, runs) in
        [("look", true, true), ("look", false, false), ("write", true, false), ("send", false, false)]
    {
        let run = Setup::default().cut_off(vec![call(gate, "x")], vec![called("c1", gate, false)], own);
        if runs {
            assert_eq!(run.words(), [format!("call {gate}")]);
            continue;
        }
        assert_eq!(run.words(), ["gate_returned", "observation", "sync", "ask"], "{gate}");
        let Body::GateReturned { result: Returned::Error(error), .. } = &run.recorded[0] else {
            panic!("{run:?}", run = run.words())
        };
        assert_eq!(error.kind(), "unknown");
        assert!(run.heard().contains("may or may not have run"), "{}", run.heard());
    }
    // `done` does nothing but end: it is known what it would have done.
    let run = Setup::default().cut_off(vec![call("done", "x")], vec![called("c1", "done", false)], false);
    assert_eq!(run.words(), ["call done"]);
}

#[test]
fn a_call_that_was_refused_is_refused_and_not_unknown() {
    let run = Setup::default().cut_off(vec![call("absent", "x")], vec![called("c1", "absent", true)], true);
    assert_eq!(run.words(), ["gate_returned", "observation", "sync", "ask"]);
    assert!(run.heard().contains("absent"), "{}", run.heard());
    // Even if it would be let through by now.
    let run = Setup::default().cut_off(vec![call("write", "x")], vec![called("c1", "write", true)], true);
    assert!(run.heard().contains("refused before the runtime was stopped"), "{}", run.heard());
}

#[test]
fn a_turn_that_comes_out_otherwise_than_its_record_ends_with_what_is_known() {
    let recorded = || vec![called("c1.1", "write", false), returned("c1.1", "written"), called("c1.2", "write", false)];
    let mut run = Setup::code(Wards::default()).cut_off(vec![code("…"), code("…")], recorded(), true);
    assert_eq!(run.words(), ["evaluate"]);
    run.asks_gate("write", "x");
    assert_eq!(run.words(), ["resume"]);
    run.asks_gate("look", "x");
    assert_eq!(run.words(), ["lose", "observation", "sync", "ask"]);
    assert!(run.heard().contains("it called look where its record has a call of write"), "{}", run.heard());
    // It ends before it has asked for what it has asked for.
    let mut run = Setup::code(Wards::default()).cut_off(vec![code("…"), code("…")], recorded(), true);
    run.asks_gate("write", "x");
    run.evaluated(EvaluationOutcome::Done);
    assert_eq!(run.words(), ["lose", "observation", "sync", "ask"]);
    assert!(run.heard().contains("it ended where its record has a call of write"), "{}", run.heard());
}
