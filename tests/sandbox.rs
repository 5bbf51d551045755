//! What the sandbox promises, each promise with code that tries to break it: real JavaScript, a scripted model, a loom in
//! memory. Where code is stopped, the entity goes on.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop")]

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use cantrip_runtime::adapters::llm::Scripted;
use cantrip_runtime::{
    Cantrip, CantripBuilder, CastOptions, Control, Event, EventKind, Exposure, FunctionGate, GateError, GateName,
    GateSpec, How, Observer, Outcome, Reach, Runtime, Tree, Turn, Wards, builtin, embed,
};
use serde_json::{Value, json};

/// One runtime for all tests: the interpreter is compiled once, and entities share the process as they do in use.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        embed::in_memory(Some(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("sandbox-artefacts"))).unwrap()
    })
}

/// Long enough for any turn that behaves, on a busy machine.
fn wards() -> Wards {
    Wards { max_turns: Some(50), max_eval_ms: Some(20_000), ..Wards::default() }
}

fn stopping_after(max_eval_ms: u64) -> Wards {
    Wards { max_eval_ms: Some(max_eval_ms), ..wards() }
}

fn model(codes: &[&str]) -> Arc<Scripted> {
    Arc::new(Scripted::from_values(codes.iter().map(|code| json!({ "code": code })).collect()).unwrap())
}

fn builder(codes: &[&str], wards: &Wards) -> CantripBuilder {
    Cantrip::builder().llm(model(codes)).medium("javascript").gate(builtin::done()).gate(builtin::echo()).wards(wards)
}

/// A cast, and what its loom shows of it.
struct Ran {
    outcome: Outcome,
    tree: Tree,
}

impl Ran {
    fn turns(&self) -> Vec<Turn> {
        self.tree.thread(self.outcome.entity).unwrap()
    }

    /// What the entity saw of a turn, from 1.
    fn seen(&self, turn: usize) -> String {
        seen(&self.turns()[turn - 1])
    }

    fn result(&self) -> &Value {
        self.outcome.result.as_ref().unwrap_or_else(|| panic!("no result: {:?}", self.outcome))
    }
}

fn seen(turn: &Turn) -> String {
    turn.observation.as_ref().unwrap().answers[0].content.clone()
}

async fn cast(cantrip: CantripBuilder) -> Ran {
    cast_with(cantrip, CastOptions::default()).await
}

async fn cast_with(cantrip: CantripBuilder, options: CastOptions) -> Ran {
    let cantrip = cantrip.build(runtime().media()).unwrap();
    let mut entity = runtime().summon(&cantrip, options).unwrap();
    let outcome = entity.send("try").await.unwrap();
    Ran { outcome, tree: runtime().tree(entity.loom()).unwrap() }
}

async fn run(codes: &[&str], wards: &Wards) -> Ran {
    cast(builder(codes, wards)).await
}

fn says(text: &str, expected: &str) {
    assert!(text.contains(expected), "expected {expected:?} in:\n{}", text.chars().take(600).collect::<String>());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_infinite_loop_is_stopped_by_its_ward_and_the_entity_goes_on() {
    let ran =
        run(&["globalThis.kept = 41; let also = 1; while (true) {}", "done(kept + also)"], &stopping_after(150)).await;
    says(&ran.seen(1), "max_eval_ms = 150");
    assert_eq!(*ran.result(), json!(42));
}

#[tokio::test(flavor = "multi_thread")]
async fn code_cannot_catch_the_end_of_its_time() {
    let ran = run(
        &["while (true) { try { while (true) {} } catch (e) {} finally { continue } }", "done('on')"],
        &stopping_after(150),
    )
    .await;
    says(&ran.seen(1), "max_eval_ms = 150");
    assert_eq!(*ran.result(), json!("on"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_bomb_is_cut_at_its_ward() {
    let wards = Wards { max_output_bytes: Some(1_000), ..wards() };
    let ran = run(&["for (let i = 0; i < 2000; i++) console.log('x'.repeat(100)); 7", "done('on')"], &wards).await;
    let text = ran.seen(1);
    says(&text, "more bytes of output dropped: the ward max_output_bytes = 1000");
    says(&text, "=> 7");
    assert!(text.len() < 1_500, "{} bytes were kept", text.len());
    assert_eq!(*ran.result(), json!("on"));
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_bombs_end_and_the_entity_goes_on() {
    let wards = Wards { max_memory_bytes: Some(16 * 1024 * 1024), ..wards() };
    for bomb in [
        "globalThis.kept = 1; let grow = []; while (true) grow.push(new Array(1000).fill(grow.length))",
        "globalThis.kept = 1; let text = 'x'; while (true) text += text",
        "globalThis.kept = 1; let deep = {}; while (true) deep = { deep, more: [1, 2, 3] }",
        "globalThis.kept = 1; const buffers = []; while (true) buffers.push(new Uint8Array(1 << 20))",
    ] {
        let ran = run(&["let before = 7", bomb, "done(before)"], &wards).await;
        let turns = ran.turns();
        let answer = &turns[1].observation.as_ref().unwrap().answers[0];
        assert!(answer.is_error, "{bomb}: {}", answer.content);
        let text = answer.content.to_lowercase();
        let named = text.contains("memory")
            || text.contains("string too long")
            || text.contains("invalid string length")
            || text.contains("max_eval_ms");
        assert!(named, "{bomb}: {text}");
        assert_eq!(*ran.result(), json!(7), "{bomb}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn running_out_of_memory_can_be_caught() {
    let wards = Wards { max_memory_bytes: Some(16 * 1024 * 1024), ..wards() };
    let code = "let name = 'none'; try { const b = []; while (true) b.push(new Uint8Array(1 << 20)) } catch (e) { name = e.name } done(name)";
    let ran = run(&[code], &wards).await;
    assert_eq!(*ran.result(), json!("InternalError"));
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_recursion_can_be_caught() {
    let code = "function down(n) { return 1 + down(n + 1) } let how; try { down(0) } catch (e) { how = e.name + ': ' + e.message } done(how)";
    let ran = run(&[code], &wards()).await;
    says(ran.result().as_str().unwrap(), "stack");
}

#[tokio::test(flavor = "multi_thread")]
async fn gate_calls_without_end_are_bounded_and_so_is_their_record() {
    let wards = Wards { max_gate_calls: Some(20), ..stopping_after(400) };
    let ran = run(&["while (true) { try { echo('x') } catch (e) {} }"], &Wards { max_turns: Some(1), ..wards }).await;
    says(&ran.seen(1), "max_eval_ms = 400");
    says(&ran.seen(1), "refused gate calls, the first 64 of them recorded");
    let gates = &ran.turns()[0].gates;
    assert_eq!(gates.iter().filter(|gate| matches!(gate.result, Some(Ok(_)))).count(), 20);
    assert_eq!(gates.len(), 20 + 64);
    assert!(
        matches!(&gates[20].result, Some(Err(GateError::Exhausted(why))) if why.contains("max_gate_calls")),
        "{:?}",
        gates[20].result
    );
    assert_eq!((ran.outcome.how, ran.outcome.reason.as_str()), (How::Truncated, "max_turns"));
}

#[tokio::test(flavor = "multi_thread")]
async fn done_ends_the_code_even_inside_of_try() {
    let code =
        "try { done('first') } catch (e) { echo('caught') } finally { echo('finally') } echo('after'); done('second')";
    let ran = run(&[code], &wards()).await;
    assert_eq!(*ran.result(), json!("first"));
    let turns = ran.turns();
    let gates: Vec<&str> = turns[0].gates.iter().map(|gate| gate.gate.as_str()).collect();
    assert_eq!(gates, ["done"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bindings_live_across_turns_and_sends() {
    let codes = [
        "const a = 1; let b = 2; var c = 3; function d() { return 4 } class E { f() { return 5 } }; g = 6",
        "done(a + b + c)",
        "b += 10; done([a, b, c, d(), new E().f(), g])",
    ];
    let cantrip = builder(&codes, &wards()).build(runtime().media()).unwrap();
    let mut entity = runtime().summon(&cantrip, CastOptions::default()).unwrap();
    assert_eq!(entity.send("first").await.unwrap().result, Some(json!(6)));
    assert_eq!(entity.send("second").await.unwrap().result, Some(json!([1, 12, 3, 4, 5, 6])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_cannot_see_its_parents_globals() {
    let child = model(&["done([typeof secret, typeof globalThis.secret])"]);
    let parent = builder(
        &["globalThis.secret = 'mine'; done(call_entity({ intent: 'look', llm: 'child', medium: 'javascript' }))"],
        &wards(),
    );
    let ran = cast(parent.delegation().model("child", child)).await;
    assert_eq!(*ran.result(), json!(["undefined", "undefined"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn delegation_at_depth_0_is_refused_with_its_ward() {
    let parent = builder(
        &["let why; try { call_entity({ intent: 'x' }) } catch (e) { why = `${e.kind}: ${e.message}` } done(why)"],
        &Wards { max_depth: Some(0), ..wards() },
    );
    let ran = cast(parent.delegation()).await;
    let why = ran.result().as_str().unwrap();
    says(why, "denied: ");
    says(why, "max_depth is 0");
}

/// Forks the entity after all of its turns, runs the code there, and says how that ended.
async fn fork_and_run(cantrip: &Cantrip, codes: &[&str], entity: &cantrip_runtime::Summoned) -> Value {
    let other = cantrip.with_llm(model(codes));
    let mut fork =
        runtime().fork(&other, entity.loom(), entity.entity(), entity.turns(), CastOptions::default()).unwrap();
    fork.send("compare").await.unwrap().result.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_sees_the_same_random_numbers_and_the_same_time() {
    let compute = "const drawn = [Math.random(), Math.random()]; const at = [Date.now(), new Date().getTime()]; echo('wait'); at.push(Date.now()); drawn.push(Math.random())";
    let codes = [
        compute,
        "const later = [Math.random(), Date.now()]",
        "done({ drawn, at, later })",
        "done({ drawn, at, later })",
    ];
    let cantrip = builder(&codes, &wards()).build(runtime().media()).unwrap();
    let mut entity = runtime().summon(&cantrip, CastOptions::default()).unwrap();
    let first = entity.send("draw").await.unwrap().result.unwrap();
    let forked = fork_and_run(&cantrip, &["done({ drawn, at, later })"], &entity).await;
    assert_eq!(forked, first);
    // The original is as it was.
    assert_eq!(entity.send("again").await.unwrap().result, Some(first.clone()));
    assert_ne!(first["drawn"][0], first["drawn"][1]);
    assert_ne!(first["drawn"][0], first["later"][0], "every turn has its own seed");
    assert!(first["at"][0].as_u64().unwrap() > 1_600_000_000_000, "{first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_time_stopped_is_replayed_to_where_it_stopped() {
    let codes = ["let counter = 0", "while (true) counter++", "done(counter)"];
    let cantrip = builder(&codes, &stopping_after(200)).build(runtime().media()).unwrap();
    let mut entity = runtime().summon(&cantrip, CastOptions::default()).unwrap();
    let reached = entity.send("count").await.unwrap().result.unwrap();
    assert!(reached.as_u64().unwrap() > 0);
    assert_eq!(fork_and_run(&cantrip, &["done(counter)"], &entity).await, reached);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_calls_no_gate_of_the_past() {
    let calls = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let gate = gate("next", move || Ok(json!(counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1)));
    let cantrip =
        builder(&["const mine = next()", "done(mine)"], &wards()).gate(gate).build(runtime().media()).unwrap();
    let mut entity = runtime().summon(&cantrip, CastOptions::default()).unwrap();
    assert_eq!(entity.send("call").await.unwrap().result, Some(json!(1)));
    assert_eq!(fork_and_run(&cantrip, &["done([mine, next()])"], &entity).await, json!([1, 2]));
}

fn gate(name: &str, answer: impl Fn() -> Result<Value, GateError> + Send + Sync + 'static) -> Arc<FunctionGate> {
    let spec = GateSpec {
        name: GateName::parse(name).unwrap(),
        description: "A gate of a test.".to_owned(),
        parameters: json!({"type": "object", "properties": {}}),
        positional: Vec::new(),
        reach: Reach::Read,
        exposure: Exposure::default(),
        ephemeral: false,
    };
    Arc::new(FunctionGate::new(spec, move |_arguments: Value| {
        let answer = answer();
        async move { answer }
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_gates_can_be_caught_with_kind_and_message() {
    let code =
        "let caught; try { broken() } catch (e) { caught = [e instanceof Error, e.kind, e.message] } done(caught)";
    let ran =
        cast(builder(&[code], &wards()).gate(gate("broken", || Err(GateError::Failed("no luck".to_owned()))))).await;
    assert_eq!(*ran.result(), json!([true, "failed", "no luck"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_nobody_catches_is_an_observation() {
    let ran = run(&["echo('before'); throw new TypeError('as planned')", "echo()", "done('on')"], &wards()).await;
    says(&ran.seen(1), "TypeError: as planned");
    assert!(ran.turns()[1].observation.as_ref().unwrap().answers[0].is_error);
    assert_eq!(*ran.result(), json!("on"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_gate_does_not_exist() {
    let code = "done(['read_file', 'fetch', 'require', 'process', 'Deno', 'std', 'os', 'WebAssembly'].filter(name => name in globalThis))";
    let ran = run(&["read_file('/etc/passwd')", code], &wards()).await;
    says(&ran.seen(1), "ReferenceError");
    assert_eq!(*ran.result(), json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_sixty_four_entities_misbehaves_and_the_others_finish() {
    let casts = (0..64).map(|number| {
        tokio::spawn(async move {
            if number == 17 {
                let ran = run(
                    &[
                        "while (true) {}",
                        "const hold = []; while (true) hold.push('x'.repeat(1000) + hold.length)",
                        "done('bad')",
                    ],
                    &stopping_after(300),
                )
                .await;
                says(&ran.seen(1), "max_eval_ms");
                return ran.result().clone();
            }
            let first = format!("const mine = {number}; echo(mine)");
            run(&[&first, "done(mine)"], &wards()).await.result().clone()
        })
    });
    let casts: Vec<_> = casts.collect();
    for (number, cast) in casts.into_iter().enumerate() {
        assert_eq!(cast.await.unwrap(), if number == 17 { json!("bad") } else { json!(number) });
    }
}

/// Cancels when code begins to run: after the utterance, before its end.
struct CancelAtCode(Control);

impl Observer for CancelAtCode {
    fn event(&self, event: &Event) {
        if matches!(event.kind, EventKind::GateReturned { .. }) {
            self.0.cancel();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_ends_an_infinite_loop_at_once() {
    let control = Control::new();
    let options = CastOptions {
        control: Some(control.clone()),
        observer: Some(Arc::new(CancelAtCode(control))),
        ..CastOptions::default()
    };
    let wards = stopping_after(600_000);
    let begun = Instant::now();
    let ran = cast_with(builder(&["echo('started'); while (true) {}", "done('never')"], &wards), options).await;
    assert_eq!((ran.outcome.how, ran.outcome.reason.as_str()), (How::Truncated, "cancelled"));
    assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_cast_stops_its_code() {
    let wards = Wards { timeout_ms: Some(300), ..stopping_after(600_000) };
    let ran = run(&["while (true) {}", "done('never')"], &wards).await;
    assert_eq!((ran.outcome.how, ran.outcome.reason.as_str()), (How::Truncated, "timeout_ms"));
}

#[tokio::test(flavor = "multi_thread")]
async fn fuel_ends_code_and_the_bindings_of_earlier_turns_are_rebuilt() {
    let wards = Wards { max_fuel: Some(50_000_000), ..wards() };
    let codes = ["const drawn = Math.random(); echo(String(drawn))", "globalThis.lost = 1; while (true) {}"];
    let cantrip = builder(&codes, &wards).build(runtime().media()).unwrap();
    let mut entity = runtime().summon(&cantrip, CastOptions::default()).unwrap();
    // The script ends here: the entity lives, and its record says what stopped the code.
    entity.send("burn").await.unwrap_err();
    let turns = runtime().tree(entity.loom()).unwrap().thread(entity.entity()).unwrap();
    says(&seen(&turns[1]), "max_fuel = 50000000");
    says(&seen(&turns[1]), "This code left nothing behind");
    assert_eq!(entity.turns(), 2, "a question without an answer is no turn");
    let drawn = turns[0].gates[0].result.clone().unwrap().unwrap();
    // A fork has fuel of its own: the past is not paid for twice.
    let forked = fork_and_run(&cantrip, &["done([drawn, typeof lost])"], &entity).await;
    assert_eq!(forked, json!([drawn.as_str().unwrap().parse::<f64>().unwrap(), "undefined"]));
}
