//! What code and guests in the sandbox can make a node spend.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use cantrip_runtime::adapters::clock::SystemClock;
use cantrip_runtime::adapters::llm::Scripted;
use cantrip_runtime::adapters::store::MemoryStore;
use cantrip_runtime::adapters::wasm::{Guests, Javascript, Sandbox};
use cantrip_runtime::domain::ids::WriterKey;
use cantrip_runtime::domain::medium::{Evaluation, EvaluationOutcome, MediumOpening, StopFlag};
use cantrip_runtime::ports::Yielded;
use cantrip_runtime::{
    Cantrip, CantripBuilder, CastOptions, Event, EventKind, Observer, Runtime, Wards, builtin, embed,
};
use serde_json::{Value, json};

use crate::guest_support;

pub(super) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| embed::in_memory(Some(crate::node_support::compiled())).unwrap())
}

fn wards() -> Wards {
    Wards {
        max_turns: Some(20),
        max_eval_ms: Some(60_000),
        max_memory_bytes: Some(u64::MAX),
        max_output_bytes: Some(200_000),
        ..Wards::default()
    }
}

fn builder(codes: &[&str]) -> CantripBuilder {
    let model = Scripted::from_values(codes.iter().map(|code| json!({ "code": code })).collect()).unwrap();
    let builder = Cantrip::builder().llm(Arc::new(model)).medium("javascript");
    builder.gate(builtin::done()).gate(builtin::echo()).wards(&wards())
}

#[derive(Default)]
struct Observed(Mutex<Vec<String>>);

impl Observer for Observed {
    fn event(&self, event: &Event) {
        if let EventKind::TurnComplete { observation, .. } = &event.kind {
            self.0.lock().unwrap().push(observation.clone());
        }
    }
}

/// What came of some code: the result, what the entity saw of its first turn, and what an event told of it.
async fn run(codes: &[&str]) -> (Option<Value>, String, String) {
    let watcher = Arc::new(Observed::default());
    let observer: Arc<dyn Observer> = Arc::<Observed>::clone(&watcher);
    let options = CastOptions { observer: Some(observer), ..CastOptions::default() };
    let mut entity = runtime().summon(&builder(codes).build(runtime().media()).unwrap(), options).unwrap();
    let outcome = entity.send("try").await.unwrap();
    let turns = runtime().tree(entity.loom()).unwrap().thread(entity.entity()).unwrap();
    let seen = turns.first().and_then(|turn| turn.observation.as_ref()).unwrap().answers.first().unwrap();
    let told = watcher.0.lock().unwrap().first().cloned().unwrap();
    (outcome.result, seen.content.clone(), told)
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_of_a_call_are_bounded() {
    let code =
        "let why; try { echo('x'.repeat(17 * 1024 * 1024)) } catch (e) { why = e.kind + ': ' + e.message } done(why)";
    let (result, _, _) = run(&[code]).await;
    let why = result.unwrap().as_str().unwrap().to_owned();
    assert!(why.starts_with("invalid: the arguments have 1782579") && why.contains("limit is 16777216"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_bounded() {
    let long = format!("1 // {}", "x".repeat(16 * 1024 * 1024));
    let (result, seen, _) = run(&[&long, "done('on')"]).await;
    assert!(seen.contains("RangeError: the source has 16777221 bytes, and the limit is 16777216"), "{seen}");
    assert_eq!(result, Some(json!("on")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_code_throws_is_cut() {
    let (result, seen, _) = run(&["throw new Error('x'.repeat(17 * 1024 * 1024))", "done('on')"]).await;
    assert!(seen.starts_with("Error: xxx") && seen.len() < 70_000, "{} bytes", seen.len());
    assert_eq!(result, Some(json!("on")));
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded_whatever_the_ward_says() {
    let code = "const all = []; try { while (true) all.push(new Uint8Array(1 << 20)) } catch (e) {} done(all.length)";
    let (result, _, _) = run(&[code]).await;
    let mib = result.as_ref().and_then(Value::as_u64).unwrap();
    assert!((200..256).contains(&mib), "{mib} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_entity_is_shown_of_a_value_is_bounded() {
    let (_, seen, told) = run(&["'x'.repeat(3000)", "done(1)"]).await;
    assert!(seen.contains("string of 3002 characters, the first 2000: \"xxx"), "{seen}");
    assert!(seen.chars().filter(|char| *char == 'x').count() < 2_010, "{seen}");
    assert_eq!(told.chars().count(), 500 + 1, "an event tells less: {told}");
    let (_, seen, _) = run(&["done('y'.repeat(3000))"]).await;
    assert!(seen.contains("done: ") && seen.chars().count() < 2_050, "{seen}");
    let deep = "function down(n) { if (n > 0) { return down(n - 1) + 1 } throw new Error('deep') } down(20)";
    let (_, seen, _) = run(&[deep, "done(1)"]).await;
    assert!(seen.contains("Error: deep") && seen.lines().count() == 1 + 6, "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_are_bounded_and_the_one_too_many_is_told_what_to_do() {
    let sandbox = Sandbox::new(1, Some(crate::node_support::compiled().to_owned())).unwrap();
    let media = Arc::new(Javascript::new(sandbox));
    let store = MemoryStore::new(WriterKey::from_bytes([0; 32]));
    let runtime = Runtime::new(store, media, Arc::new(SystemClock::default()), "test");
    let cantrip = |codes: &[&str]| builder(codes).build(runtime.media()).unwrap();
    let mut first = runtime.summon(&cantrip(&["done(1)"]), CastOptions::default()).unwrap();
    assert_eq!(first.send("go").await.unwrap().result, Some(json!(1)));
    let mut second = runtime.summon(&cantrip(&["done(2)"]), CastOptions::default()).unwrap();
    let error = second.send("go").await.unwrap_err();
    let causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
    let told = causes.fold(error.to_string(), |told, cause| format!("{told}: {cause}"));
    assert!(told.contains("1 instances live at once") && told.contains("end some entities"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_are_bounded_in_one_call() {
    let text = r#"(component
      {{types}}
      (import "wasi:random/random@0.2.0" (instance $random
        (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
      {{libc}}
      (core func $get (canon lower (func $random "get-random-bytes") (memory $memory) (realloc $realloc)))
      (core instance $gate (export "get" (func $get)))
      (core module $main'
        (import "libc" "memory" (memory 1))
        (import "gate" "get" (func $get (param i64 i32)))
        (func (export "run") (param i32 i32) (result i32)
          (call $get (i64.const 65537) (i32.const 2048))
          (unreachable)))
      {{run}}
    )"#;
    let guest = guest_support::guests().load("guest", guest_support::assemble(text)).unwrap();
    let ran = guest_support::cast(guest_support::builder(guest, &guest_support::wards()), "go").await;
    let why = ran.failure.unwrap_or_default();
    assert!(why.contains("asked for 65537 random bytes at once, and the limit is 65536"), "{why}");
}

#[test]
fn what_the_engine_keeps_of_an_instance_is_bounded() {
    let globals = "(global i64 (i64.const 0))".repeat(70_000);
    let text = format!(
        r#"(component {{{{types}}}} {{{{libc}}}}
          (core module $large {globals})
          (core instance (instantiate $large))
          (core module $main' (import "libc" "memory" (memory 1))
            (func (export "run") (param i32 i32) (result i32) (unreachable)))
          {{{{only_run}}}})"#
    );
    let guest = guest_support::guests().load("guest", guest_support::assemble(&text)).unwrap();
    let builder = guest_support::builder(guest, &guest_support::wards());
    let error = builder.build(guest_support::runtime().media()).unwrap_err();
    let causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
    let told = causes.fold(error.to_string(), |told, cause| format!("{told}: {cause}"));
    assert!(told.contains("1048576"), "{told}");
}

#[test]
fn the_name_of_a_guest_is_bounded() {
    let component = || guest_support::component("first");
    assert!(guest_support::guests().load(&"x".repeat(64), component()).is_ok());
    let error = guest_support::guests().load(&"x".repeat(65), component()).unwrap_err();
    assert!(error.to_string().contains("at most 64"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_that_live_at_once_are_bounded() {
    let sandbox = Sandbox::new(1, Some(crate::node_support::compiled().to_owned())).unwrap();
    let guest = Guests::new(sandbox).load("guest", guest_support::component("trivial")).unwrap();
    let opening = MediumOpening {
        medium: "guest".to_owned(),
        gates: vec!["done".to_owned()],
        memory_bytes_max: 1 << 20,
        metered: false,
    };
    guest.prepare(&opening).unwrap();
    let mut living = Vec::new();
    let mut told = None;
    while living.len() <= 1_000 && told.is_none() {
        let mut medium = guest.open(&opening).await.unwrap();
        let evaluation = Evaluation {
            source: json!({ "intent": "go" }).to_string(),
            seed: 1,
            clock_us: 1,
            time_max: Duration::from_mins(1),
            output_bytes_max: 1_000,
            fuel_max: None,
            stop_at_poll: None,
            recorded: 0,
            stop: StopFlag::default(),
        };
        match medium.evaluate(evaluation).await {
            Yielded::Finished(ended) => {
                if let EvaluationOutcome::Lost { detail, .. } = ended.outcome {
                    told = Some(detail);
                } else {
                    living.push(medium);
                }
            }
            Yielded::Gate { gate, .. } => panic!("it calls {gate}"),
        }
    }
    assert_eq!(living.len(), 1_000);
    assert!(told.as_ref().is_some_and(|told| told.contains("1000 live at once in this process")), "{told:?}");
}
