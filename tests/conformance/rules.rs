//! The rules that a case of the suite cannot express: entities that live across intents, and stops from outside.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop")]

use std::sync::{Arc, Mutex};

use cantrip_runtime::adapters::clock::SteppingClock;
use cantrip_runtime::adapters::llm::Scripted;
use cantrip_runtime::adapters::store::MemoryStore;
use cantrip_runtime::domain::cantrip::Folding;
use cantrip_runtime::domain::ids::WriterKey;
use cantrip_runtime::domain::model::Message;
use cantrip_runtime::{
    Cantrip, CantripBuilder, CastOptions, Control, Event, EventKind, Exposure, FunctionGate, GateName, GateSpec, How,
    NoMedia, Observer, Reach, Runtime, Wards, builtin, export,
};
use serde_json::{Value, json};

fn runtime() -> Runtime {
    let store = MemoryStore::new(WriterKey::from_bytes([3; 32]));
    Runtime::new(store, Arc::new(NoMedia), Arc::new(SteppingClock::new(5)), "test")
}

fn script(responses: Value) -> Arc<Scripted> {
    Arc::new(Scripted::from_values(serde_json::from_value(responses).unwrap()).unwrap().recording())
}

fn cantrip(llm: &Arc<Scripted>) -> CantripBuilder {
    Cantrip::builder()
        .llm(Arc::clone(llm) as _)
        .gate(builtin::done())
        .gate(builtin::echo())
        .wards(&Wards { max_turns: Some(5), ..Wards::default() })
}

fn done(answer: &str) -> Value {
    json!({ "tool_calls": [{ "gate": "done", "args": { "answer": answer } }] })
}

fn echo(text: &str) -> Value {
    json!({ "tool_calls": [{ "gate": "echo", "args": { "text": text } }] })
}

/// What the model was shown in one of its questions.
fn shown(llm: &Scripted, question: usize) -> Vec<(String, String)> {
    let messages = &llm.recorded()[question].messages;
    messages.iter().map(|message| (message.role().to_owned(), Message::content(message).to_owned())).collect()
}

fn said(role: &str, content: &str) -> (String, String) {
    (role.to_owned(), content.to_owned())
}

#[tokio::test]
async fn entity_1_a_cantrip_alone_is_nobody_and_a_summoning_is_one_entity() {
    let (runtime, llm) = (runtime(), script(json!([done("a")])));
    let cantrip = cantrip(&llm).build(runtime.media()).unwrap();
    assert!(runtime.store().looms().unwrap().is_empty());
    let mut summoned = runtime.summon(&cantrip, CastOptions::default()).unwrap();
    summoned.send("work").await.unwrap();
    let tree = runtime.tree(summoned.loom()).unwrap();
    let entities: Vec<_> = tree.entities().map(|(id, _)| id).collect();
    assert_eq!(entities, [summoned.entity()]);
}

#[tokio::test]
async fn entity_3_a_thread_only_grows_also_while_it_is_folded() {
    let (runtime, llm) = (runtime(), script(json!([echo("1"), echo("2"), echo("3"), done("a"), done("b")])));
    let folding = Folding { trigger_after_turns: Some(2), ..Folding::default() };
    let cantrip = cantrip(&llm).folding(folding).build(runtime.media()).unwrap();
    let mut summoned = runtime.summon(&cantrip, CastOptions::default()).unwrap();
    summoned.send("first").await.unwrap();
    let before = runtime.tree(summoned.loom()).unwrap().thread(summoned.entity()).unwrap();
    summoned.send("second").await.unwrap();
    let after = runtime.tree(summoned.loom()).unwrap().thread(summoned.entity()).unwrap();
    assert_eq!((before.len(), after.len()), (4, 5));
    assert_eq!(before, after[..4]);
    assert!(shown(&llm, 3).iter().any(|(_, content)| content.starts_with("[Folded: turns 1-")), "nothing was folded");
}

#[tokio::test]
async fn entity_5_a_summoned_entity_remembers_what_it_was_told_and_did() {
    let (runtime, llm) = (runtime(), script(json!([echo("seen"), done("one"), done("two")])));
    let cantrip = cantrip(&llm).build(runtime.media()).unwrap();
    let mut summoned = runtime.summon(&cantrip, CastOptions::default()).unwrap();
    assert_eq!(summoned.send("first").await.unwrap().result, Some(json!("one")));
    assert_eq!(summoned.send("second").await.unwrap().result, Some(json!("two")));
    assert_eq!(summoned.turns(), 3);
    let expected = [
        said("user", "first"),
        said("assistant", ""),
        said("tool", "seen"),
        said("assistant", ""),
        said("tool", "one"),
        said("user", "second"),
    ];
    assert_eq!(shown(&llm, 2), expected);
}

#[tokio::test]
async fn entity_5_every_intent_has_all_the_turns_of_its_ward() {
    let (runtime, llm) = (runtime(), script(json!([echo("1"), done("one"), echo("2"), done("two")])));
    let two_turns = Wards { max_turns: Some(2), ..Wards::default() };
    let cantrip = cantrip(&llm).wards(&two_turns).build(runtime.media()).unwrap();
    let mut summoned = runtime.summon(&cantrip, CastOptions::default()).unwrap();
    summoned.send("first").await.unwrap();
    assert_eq!(summoned.send("second").await.unwrap().result, Some(json!("two")));
}

#[tokio::test]
async fn entity_6_two_summonings_of_one_cantrip_share_nothing() {
    let (runtime, llm) = (runtime(), script(json!([done("a"), done("b"), done("c")])));
    let cantrip = cantrip(&llm).build(runtime.media()).unwrap();
    let mut one = runtime.summon(&cantrip, CastOptions::default()).unwrap();
    let mut other = runtime.summon(&cantrip, CastOptions::default()).unwrap();
    one.send("to one").await.unwrap();
    other.send("to the other").await.unwrap();
    assert_ne!(one.entity(), other.entity());
    assert_eq!(shown(&llm, 1), [said("user", "to the other")]);
    one.send("again").await.unwrap();
    assert!(!shown(&llm, 2).contains(&said("user", "to the other")));
}

#[tokio::test]
async fn intent_3_a_steer_is_heard_and_the_intent_stays() {
    let (runtime, llm) = (runtime(), script(json!([done("a")])));
    let cantrip = cantrip(&llm).build(runtime.media()).unwrap();
    let control = Control::new();
    assert!(control.steer("by the way"));
    let options = CastOptions { control: Some(control), ..CastOptions::default() };
    runtime.cast(&cantrip, "the intent", options).await.unwrap();
    assert_eq!(shown(&llm, 0), [said("user", "the intent"), said("user", "by the way")]);
}

fn gate(name: &str, run: impl Fn() + Send + Sync + 'static) -> Arc<FunctionGate> {
    let spec = GateSpec {
        name: GateName::parse(name).unwrap(),
        description: "Does something outside.".to_owned(),
        parameters: json!({ "type": "object" }),
        positional: Vec::new(),
        reach: Reach::Read,
        exposure: Exposure::default(),
        ephemeral: false,
    };
    Arc::new(FunctionGate::new(spec, move |_| {
        run();
        std::future::ready(Ok(Value::Null))
    }))
}

#[tokio::test]
async fn comp_9_children_of_a_stopped_parent_are_truncated_and_their_turns_kept() {
    let runtime = runtime();
    let llm = script(json!([
        { "tool_calls": [{ "gate": "call_entity", "args": { "intent": "sub" } }] },
        echo("below"),
        { "tool_calls": [{ "gate": "stop_all" }] },
        done("never said"),
    ]));
    let control = Control::new();
    let stopping = control.clone();
    let cantrip =
        cantrip(&llm).gate(gate("stop_all", move || stopping.cancel())).delegation().build(runtime.media()).unwrap();
    let mut summoned =
        runtime.summon(&cantrip, CastOptions { control: Some(control), ..CastOptions::default() }).unwrap();
    let outcome = summoned.send("go").await.unwrap();
    assert_eq!((outcome.how, outcome.reason.as_str()), (How::Truncated, "cancelled"));
    let tree = runtime.tree(summoned.loom()).unwrap();
    let (child, view) = tree.entities().find(|(_, view)| view.opened.depth == 1).unwrap();
    let ended = view.ended.clone().unwrap();
    assert_eq!((ended.how, ended.reason.as_str()), (How::Truncated, "parent_terminated"));
    let kept = tree.turns().into_iter().filter(|turn| turn.entity == child && turn.observation.is_some()).count();
    assert_eq!(kept, 2);
    assert_eq!(llm.recorded().len(), 3);
}

#[derive(Default)]
struct Ear(Mutex<Vec<Event>>);

impl Observer for Ear {
    fn event(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

#[tokio::test]
async fn prod_2_the_waits_before_retries_double_from_one_second() {
    let failed = json!({ "error": { "status": 503 } });
    let (runtime, llm) = (runtime(), script(json!([failed, failed, failed, done("a")])));
    let cantrip = cantrip(&llm).build(runtime.media()).unwrap();
    let ear = Arc::new(Ear::default());
    let options = CastOptions { observer: Some(Arc::clone(&ear) as _), ..CastOptions::default() };
    runtime.cast(&cantrip, "retry", options).await.unwrap();
    let heard = ear.0.lock().unwrap();
    let waits: Vec<u64> = heard
        .iter()
        .filter_map(|event| if let EventKind::Retry { wait_ms, .. } = event.kind { Some(wait_ms) } else { None })
        .collect();
    assert_eq!(waits, [1_000, 2_000, 4_000]);
}

/// What a door says of a cast, without the names and times that differ between two casts.
fn told(outcome: &Value) -> Value {
    json!({
        "how": outcome["how"], "reason": outcome["reason"], "result": outcome["result"],
        "turns": outcome["spent"]["turns"], "gate_calls": outcome["spent"]["gate_calls"],
    })
}

/// The kinds of the entries, the gates and what came back, in their order.
fn recorded(lines: &[String]) -> Vec<Value> {
    let entries = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    entries.map(|entry| json!([entry["kind"], entry["gate"], entry["arguments"], entry["result"]])).collect()
}

#[tokio::test]
async fn prod_1_the_command_and_the_library_do_and_record_the_same() {
    let turns = [echo("one"), done("two")];
    let llm = script(json!(turns));
    let runtime = runtime();
    let cantrip = cantrip(&llm).build(runtime.media()).unwrap();
    let outcome = runtime.cast(&cantrip, "count", CastOptions::default()).await.unwrap();
    let loom = runtime.store().looms().unwrap()[0].loom;
    let lines = export::jsonl(&**runtime.store(), loom, export::Redaction::Default).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let lines_of_turns = turns.map(|turn| turn.to_string()).join("\n");
    std::fs::write(folder.path().join("turns.jsonl"), lines_of_turns).unwrap();
    let file = folder.path().join("cantrip.toml");
    let text = "[llm]\nprovider = \"scripted\"\npath = \"turns.jsonl\"\n[circle]\nmedium = \"conversation\"\n\
        gates = [\"done\", \"echo\"]\n[circle.wards]\nmax_turns = 5\n";
    std::fs::write(&file, text).unwrap();
    let command = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cantrip-runtime"));
        let output = command.args(arguments).env("CANTRIP_DATA", folder.path().join("data")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let printed = command(&["cast", file.to_str().unwrap(), "count", "--json"]);
    let exported: Vec<String> = command(&["loom", "export"]).lines().map(str::to_owned).collect();

    let by_library = json!({
        "how": "terminated", "reason": outcome.reason, "result": outcome.result,
        "turns": outcome.spent.turns, "gate_calls": outcome.spent.gate_calls,
    });
    assert_eq!(told(&serde_json::from_str(&printed).unwrap()), by_library);
    assert_eq!(recorded(&exported), recorded(&lines));
}
