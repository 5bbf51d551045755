//! Guests: components that stand in a model's place, drive several turns, or are a medium.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "the tests may stop, and write files"
)]

mod guest_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cantrip_runtime::adapters::llm::Scripted;
use cantrip_runtime::{
    Cantrip, CantripBuilder, CastOptions, Control, Exposure, FunctionGate, GateError, GateName, GateSpec, HttpPolicy,
    Reach, Root, Runtime, Wards, builtin,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use guest_support::{Ran, assemble, builder, built, cast, cast_with, guest, guests, runtime, wards};

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(files.0.path().join("docs")).unwrap();
        std::fs::write(files.0.path().join("a.txt"), "hello").unwrap();
        std::fs::write(files.0.path().join("docs/b.md"), "one\ntwo\ntwo again").unwrap();
        files
    }

    fn root(&self) -> Root {
        Root::open(self.0.path()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_cast_like_a_model_and_its_gate_calls_are_recorded() {
    let files = Files::new();
    let ran = cast(builder(guest("first"), &wards()).gate(builtin::read_file(files.root())), "a.txt").await;
    assert_eq!(ran.outcome.result, Some(json!("hello")), "{ran:?}");
    assert_eq!(ran.outcome.reason.as_str(), "returned");
    let turns = ran.turns();
    assert_eq!(turns.len(), 1);
    assert_eq!(turns[0].gates[0].gate, "read_file");
    assert_eq!(turns[0].gates[0].arguments, json!({ "path": "a.txt" }));
    let (_, entity) = ran.tree.entities().next().unwrap();
    assert!(entity.opened.guest.as_ref().unwrap().starts_with("guest@sha256:"), "{entity:?}");
    assert_eq!((entity.opened.medium.as_str(), entity.opened.model.as_str()), ("guest", "none"));
}

/// The guest that calls what its intent says, with all gates.
fn everything(files: &Files, answers: Vec<Value>) -> CantripBuilder {
    builder(guests().load("everything", built("everything")).unwrap(), &wards())
        .llm(Arc::new(Scripted::from_values(answers).unwrap()))
        .gate(builtin::echo())
        .gate(builtin::read_file(files.root()))
        .gate(builtin::list_dir(files.root()))
        .gate(builtin::search(files.root()))
        .gate(builtin::write_file(files.root()))
        .gate(
            builtin::http_fetch(serde_json::from_value::<HttpPolicy>(json!({ "hosts": ["example.org"] })).unwrap())
                .unwrap(),
        )
        .hold("llm_query")
        .hold("read_loom")
        .delegation()
}

async fn run(files: &Files, answers: Vec<Value>, tasks: Value) -> Ran {
    cast(everything(files, answers), &tasks.to_string()).await
}

async fn check(tasks: Value, expected: Value) {
    let files = Files::new();
    let ran = run(&files, Vec::new(), tasks).await;
    assert_eq!(ran.outcome.result, Some(expected), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_read_listed_searched_and_written_through_typed_gates() {
    check(
        json!([{ "call": "read", "with": "a.txt" }, { "call": "pieces", "with": "a.txt" }]),
        json!(["hello", ["hell", "o"]]),
    )
    .await;
    check(json!([{ "call": "list", "with": "docs" }]), json!([[{ "name": "b.md", "kind": "file", "bytes": 17 }]]))
        .await;
    let hit = json!({ "path": "docs/b.md", "line": 2, "text": "two" });
    check(json!([{ "call": "search", "with": "docs", "text": "two" }]), json!([{ "hits": [hit], "truncated": true }]))
        .await;
    let files = Files::new();
    let ran = run(&files, Vec::new(), json!([{ "call": "write", "with": "new/c.txt", "text": "three" }])).await;
    assert_eq!(ran.outcome.result, Some(json!([5])), "{ran:?}");
    assert_eq!(std::fs::read_to_string(files.0.path().join("new/c.txt")).unwrap(), "three");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gate_refuses_is_the_guests_error_with_its_kind() {
    let files = Files::new();
    for (task, kind) in [
        (json!([{ "call": "read", "with": "nothing" }]), "not_found"),
        (json!([{ "call": "read", "with": "../a" }]), "denied"),
        (json!([{ "call": "fetch", "with": "http://elsewhere.example/" }]), "denied"),
        (json!([{ "call": "gate", "with": "nothing" }]), "not_found"),
        (json!([{ "call": "what" }]), "invalid"),
        (json!("no list"), "invalid"),
    ] {
        let ran = run(&files, Vec::new(), task.clone()).await;
        assert_eq!(ran.outcome.reason.as_str(), "guest_failed", "{task}");
        assert!(ran.failure.as_ref().unwrap().contains(kind), "{task}: {ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn children_a_model_and_the_record_are_there_for_a_guest() {
    let files = Files::new();
    let done = |answer: &str| json!({ "tool_calls": [{ "gate": "done", "args": { "answer": answer } }] });
    let ran = run(&files, vec![done("a child's")], json!([{ "call": "child", "text": "do it" }])).await;
    assert_eq!(ran.outcome.result, Some(json!(["a child's"])), "{ran:?}");
    assert_eq!(ran.tree.entities().count(), 2);
    let ran = run(&files, vec![done("one")], json!([{ "call": "children" }])).await;
    assert_eq!(ran.outcome.result, Some(json!([["one", "not_found"]])), "{ran:?}");
    let ran = run(&files, vec![done("first"), done("second")], json!([{ "call": "cantrip" }])).await;
    assert_eq!(ran.outcome.result, Some(json!([["first", ["second"]]])), "{ran:?}");
    let usage = json!({ "content": "42", "usage": { "prompt_tokens": 7, "completion_tokens": 2 } });
    let ran = run(&files, vec![usage], json!([{ "call": "ask", "text": "6 × 7?" }])).await;
    let answer = &ran.outcome.result.as_ref().unwrap()[0];
    assert_eq!((&answer["text"], &answer["prompt_tokens"]), (&json!("42"), &json!(7)), "{ran:?}");
    assert_eq!(ran.outcome.spent.usage.total(), 9);
    let ran = run(&files, Vec::new(), json!([{ "call": "read", "with": "a.txt" }, { "call": "loom" }])).await;
    let kinds = &ran.outcome.result.as_ref().unwrap()[1];
    assert_eq!(*kinds, json!(["opened", "utterance", "gate_called", "gate_returned", "gate_called"]), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_without_tokens_left_is_told_so() {
    let files = Files::new();
    let answer = json!({ "content": "yes", "usage": { "prompt_tokens": 50, "completion_tokens": 60 } });
    let tasks = json!([{ "call": "ask", "text": "one?" }, { "call": "ask", "text": "two?" }]).to_string();
    let few = Wards { max_tokens: Some(100), ..Wards::default() };
    let ran = cast(everything(&files, vec![answer.clone(), answer]).wards(&few), &tasks).await;
    assert!(ran.failure.as_ref().unwrap().contains("max_tokens"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_prints_is_observed_and_its_last_words_are_kept() {
    let files = Files::new();
    let ran = run(&files, Vec::new(), json!([{ "call": "print" }])).await;
    assert!(ran.seen().starts_with("printed\ncomplained\nwarning: logged\n"), "{}", ran.seen());
    let ran = run(&files, Vec::new(), json!([{ "call": "panic" }])).await;
    assert!(ran.seen().contains("as asked"), "{}", ran.seen());
    assert_eq!(ran.outcome.reason.as_str(), "guest_trapped");
}

#[tokio::test(flavor = "multi_thread")]
async fn wasi_gives_a_clock_and_randomness_and_no_files() {
    let files = Files::new();
    let ran = run(&files, Vec::new(), json!([{ "call": "clock" }, { "call": "random" }, { "call": "random" }])).await;
    let result = ran.outcome.result.as_ref().unwrap();
    assert_eq!(result[0]["slept"], true, "{ran:?}");
    assert!(result[0]["year"].as_u64().unwrap() >= 2026);
    assert!(result[1].is_u64() && result[1] != json!(0));
    let ran = run(&files, Vec::new(), json!([{ "call": "folder", "with": "/etc/hostname" }])).await;
    assert!(ran.failure.as_ref().unwrap().contains("not_found"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn done_ends_the_cast_whatever_is_returned() {
    let files = Files::new();
    let ran = run(&files, Vec::new(), json!([{ "call": "done", "text": "this" }])).await;
    assert_eq!((ran.outcome.result, ran.outcome.reason.as_str()), (Some(json!("this")), "done"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_of_steps_has_a_turn_for_each_and_keeps_its_memory() {
    let files = Files::new();
    let counter = guests().load("counter", built("counter")).unwrap();
    let cantrip = builder(counter, &wards()).gate(builtin::read_file(files.root())).build(runtime().media()).unwrap();
    let mut entity = runtime().summon(&cantrip, CastOptions::default()).unwrap();
    let first = entity.send("3").await.unwrap();
    assert_eq!(first.result, Some(json!({ "count": 3, "turn": 3 })));
    assert!(entity.control().steer("be quick"));
    let second = entity.send("5").await.unwrap();
    assert_eq!(second.result, Some(json!({ "count": 5, "turn": 5 })), "what it counted stays between sends");
    let tree = runtime().tree(entity.loom()).unwrap();
    let turns = tree.thread(entity.entity()).unwrap();
    assert_eq!(turns.len(), 5);
    let seen = |turn: usize| turns[turn].observation.as_ref().unwrap().answers[0].content.clone();
    assert!(seen(0).starts_with("turn 1 says hello"), "{}", seen(0));
    assert!(seen(3).starts_with("turn 4 says hello be quick"), "{}", seen(3));
    // A fork after its second turn goes on counting from there; no gate is called for what it repeats.
    std::fs::write(files.0.path().join("a.txt"), "changed").unwrap();
    let mut fork = runtime().fork(&cantrip, entity.loom(), entity.entity(), 2, CastOptions::default()).unwrap();
    assert_eq!(fork.send("4").await.unwrap().result, Some(json!({ "count": 4, "turn": 4 })));
}

fn spec(name: &str, reach: Reach) -> GateSpec {
    GateSpec {
        name: GateName::parse(name).unwrap(),
        description: "A gate of a test.".to_owned(),
        parameters: json!({ "type": "object", "properties": { "text": { "type": "string" } } }),
        positional: vec!["text".to_owned()],
        reach,
        exposure: Exposure::default(),
        ephemeral: false,
    }
}

/// A gate that answers with how often it was called, and never answers once.
fn stuck_at(name: &str, reach: Reach, stuck: u64) -> (Arc<FunctionGate>, Arc<AtomicU64>) {
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let gate = FunctionGate::new(spec(name, reach), move |_| {
        let call = counted.fetch_add(1, Ordering::SeqCst) + 1;
        async move {
            if call == stuck {
                std::future::pending::<()>().await;
            }
            Ok::<Value, GateError>(json!(call))
        }
    });
    (Arc::new(gate), calls)
}

/// The guest calls a gate three times; the process is gone in the second call; another one goes on.
async fn crash_in_the_second_call(reach: Reach) -> (Result<Value, String>, u64, Ran) {
    let files = Files::new();
    let (gate, calls) = stuck_at("count", reach, 2);
    let cantrip = everything(&files, Vec::new()).gate(gate).build(runtime().media()).unwrap();
    let task = json!({ "call": "gate", "with": "count", "text": "" });
    let intent = json!([{ "call": "random" }, task, { "call": "print" }, task, task, { "call": "clock" }]).to_string();
    let mut entity = runtime().summon(&cantrip, CastOptions::default()).unwrap();
    let (loom, id) = (entity.loom(), entity.entity());
    let running = tokio::spawn(async move { entity.send(&intent).await.map(|_| ()) });
    while calls.load(Ordering::SeqCst) < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The task is dropped where it stands, as a kill would.
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    let again: Runtime = runtime().clone();
    let mut entity = again.resume(&cantrip, loom, id, &CastOptions::default()).unwrap();
    assert!(entity.is_unfinished());
    let (outcome, failure) = match entity.go_on().await {
        Ok(outcome) => (outcome, None),
        Err(cantrip_runtime::CastError::Failed { failure, outcome }) => (*outcome, Some(failure.to_string())),
        Err(error) => panic!("{error}"),
    };
    let result = failure.clone().map_or_else(|| Ok(outcome.result.clone().unwrap()), Err);
    (result, calls.load(Ordering::SeqCst), Ran { outcome, failure, tree: again.tree(loom).unwrap() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_a_crash_cut_off_goes_on_where_its_record_ends() {
    let (result, calls, ran) = crash_in_the_second_call(Reach::Read).await;
    let result = result.unwrap();
    // The first answer came from the record; the call that was running only looks, so it was made again.
    assert_eq!((&result[1], &result[3], &result[4]), (&json!(1), &json!(3), &json!(4)), "{ran:?}");
    assert_eq!(calls, 4);
    assert!(ran.seen().starts_with("printed"), "{}", ran.seen());
    let turns = ran.turns();
    assert_eq!((turns.len(), turns[0].gates.len()), (1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_may_have_changed_the_world_is_not_made_again_after_a_crash() {
    let (result, calls, ran) = crash_in_the_second_call(Reach::External).await;
    assert!(result.unwrap_err().contains("may or may not have run"), "{ran:?}");
    assert_eq!(calls, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_goes_on_only_with_the_guest_that_it_was() {
    let files = Files::new();
    let cantrip = builder(guest("first"), &wards()).gate(builtin::read_file(files.root()));
    let cantrip = cantrip.build(runtime().media()).unwrap();
    let mut entity = runtime().summon(&cantrip, CastOptions::default()).unwrap();
    entity.send("a.txt").await.unwrap();
    let other = everything(&files, Vec::new()).build(runtime().media()).unwrap();
    let error = runtime().resume(&other, entity.loom(), entity.entity(), &CastOptions::default()).unwrap_err();
    assert!(error.to_string().contains("this entity's guest is guest@sha256:"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_guest_is_stopped_from_outside() {
    let control = Control::new();
    let options = CastOptions { control: Some(control.clone()), ..CastOptions::default() };
    let stopping = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        control.cancel();
    });
    let ran = cast_with(builder(guest("hostile/spin_in_run"), &wards()), "go", options).await;
    stopping.await.unwrap();
    assert_eq!(ran.outcome.reason.as_str(), "cancelled", "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn instructions_are_metered_where_a_ward_asks_for_it() {
    let few = Wards { max_fuel: Some(1_000_000), ..wards() };
    let ran = cast(builder(guest("hostile/spin_in_run"), &few), "go").await;
    assert_eq!(ran.outcome.reason.as_str(), "max_fuel", "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_circle_has_to_have_is_demanded_of_guests_too() {
    let refused = |builder: CantripBuilder| builder.build(runtime().media()).unwrap_err().to_string();
    let error = refused(Cantrip::builder().guest(guest("first")).wards(&wards()));
    assert!(error.contains("done gate"), "{error}");
    let error = refused(builder(guest("first"), &wards()));
    assert!(error.contains("cantrip:guest/read-file@0.1.0 needs the gate read_file: add \"read_file\" to circle.gates and `[gate.read_file]` with `root = \"…\"`"), "{error}");
    let error = refused(builder(guest("first"), &wards()).medium("javascript"));
    assert!(error.contains("javascript and the guest guest"), "{error}");
    let error = refused(builder(guest("first"), &wards()).delegation());
    assert!(error.contains("needs the cantrip's model"), "{error}");
}

/// A medium whose language has three words: `gate:arguments` calls a gate, `!text` throws, and anything else is a value.
fn tiny_medium() -> Vec<u8> {
    assemble(&std::fs::read_to_string(guest_support::folder().join("medium.wat")).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_is_a_medium_that_a_models_code_runs_in() {
    let medium = guests().load("tiny", tiny_medium()).unwrap();
    let codes = ["echo[\"hi\"]", "!wrong", "done[\"the end\"]"];
    let model = Scripted::from_values(codes.iter().map(|code| json!({ "code": code })).collect()).unwrap();
    let cantrip = Cantrip::builder()
        .llm(Arc::new(model))
        .guest(medium)
        .gate(builtin::done())
        .gate(builtin::echo())
        .wards(&wards());
    let ran = cast(cantrip, "say hi").await;
    assert_eq!(ran.outcome.result, Some(json!("the end")), "{ran:?}");
    let turns = ran.turns();
    let seen = |turn: usize| turns[turn].observation.as_ref().unwrap().answers[0].clone();
    assert_eq!(seen(0).content, "=> \"hi\"");
    assert!(seen(1).is_error && seen(1).content.starts_with("Wrong: wrong"), "{:?}", seen(1));
    assert_eq!(turns[0].gates[0].gate, "echo");
    let (_, entity) = ran.tree.entities().next().unwrap();
    assert_eq!(entity.opened.medium, "tiny");
    assert!(entity.opened.medium_digest.as_ref().unwrap().starts_with("sha256:"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_the_network_is_typed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 2048];
        let length = stream.read(&mut request).await.unwrap();
        let request = String::from_utf8_lossy(&request[..length]).to_lowercase();
        let body = if request.starts_with("post /x") && request.contains("x-test: 1") { "right" } else { "wrong" };
        let answer =
            format!("HTTP/1.1 201 Created\r\nx-kind: test\r\ncontent-length: 5\r\nconnection: close\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await.unwrap();
    });
    let policy = json!({ "hosts": [format!("127.0.0.1:{}", address.port())], "methods": ["POST"], "private_addresses": ["127.0.0.1"] });
    let policy: HttpPolicy = serde_json::from_value(policy).unwrap();
    let files = Files::new();
    let cantrip = builder(guests().load("everything", built("everything")).unwrap(), &wards())
        .llm(Arc::new(Scripted::from_values(Vec::new()).unwrap()))
        .gate(builtin::read_file(files.root()))
        .gate(builtin::list_dir(files.root()))
        .gate(builtin::search(files.root()))
        .gate(builtin::write_file(files.root()))
        .gate(builtin::http_fetch(policy).unwrap())
        .hold("llm_query")
        .hold("read_loom")
        .delegation();
    let task = json!([{ "call": "fetch", "with": format!("http://127.0.0.1:{}/x", address.port()), "text": "{}" }]);
    let ran = cast(cantrip, &task.to_string()).await;
    server.await.unwrap();
    let response = &ran.outcome.result.as_ref().unwrap_or_else(|| panic!("{ran:?}"))[0];
    assert_eq!((&response["status"], &response["body"]), (&json!(201), &json!("right")), "{ran:?}");
    assert_eq!(response["headers"]["x-kind"], "test");
}
