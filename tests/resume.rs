//! A run that is cut off anywhere and resumed from its record equals the uncut run: the same answer, the same ledger, the same exposure,
//! and no recorded call runs twice (`membership.md` 10.1, 10.2 and 10.5). Cut behind every entry, and again behind every entry of what was
//! resumed, for fixed and for random runs.
//!
//! `CANTRIP_RESUME_FIRST` and `CANTRIP_RESUME_SEEDS` say which random runs.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test may stop, and reads its own variables"
)]

mod peer_support;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use cantrip_runtime::adapters::clock::SystemClock;
use cantrip_runtime::adapters::store::{MemoryStore, NodeKey};
use cantrip_runtime::adapters::wasm::{Javascript, Sandbox};
use cantrip_runtime::domain::ids::{CallId, EntityId, LoomId};
use cantrip_runtime::domain::loom::{Blob, Body, Sealed, Spent};
use cantrip_runtime::domain::medium::SnapshotPolicy;
use cantrip_runtime::ports::{By, LoomStore};
use cantrip_runtime::{
    Cantrip, CastError, CastOptions, Exposure, FunctionGate, Gate, GateName, GateSpec, How, Outcome, Reach, Runtime,
    Wards, builtin,
};
use peer_support::Told;
use serde_json::{Value, json};

fn sandbox() -> Arc<Sandbox> {
    static SANDBOX: LazyLock<Arc<Sandbox>> = LazyLock::new(|| {
        Sandbox::new(64, Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("resume-artefacts"))).unwrap()
    });
    Arc::clone(&SANDBOX)
}

/// What gates have really done, by what they were to do.
type Done = Arc<Mutex<BTreeMap<String, u64>>>;

fn gate(name: &str, reach: Reach, exposure: Exposure, done: &Done) -> Arc<dyn Gate> {
    let spec = GateSpec {
        name: GateName::parse(name).unwrap(),
        description: "A gate of a test.".to_owned(),
        parameters: json!({"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]}),
        positional: vec!["what".to_owned()],
        reach,
        exposure,
        ephemeral: name == "glance",
    };
    let (done, name) = (Arc::clone(done), name.to_owned());
    Arc::new(FunctionGate::new(spec, move |arguments: Value| {
        let what = format!("{name} {}", arguments["what"].as_str().unwrap_or_default());
        *done.lock().unwrap().entry(what.clone()).or_default() += 1;
        async move { Ok(json!(what)) }
    }))
}

/// What is the same for every run of one script.
#[derive(Clone)]
struct Plan {
    medium: Option<&'static str>,
    script: Value,
    wards: Wards,
    snapshots: SnapshotPolicy,
}

impl Plan {
    fn of(medium: Option<&'static str>, script: Value) -> Self {
        let wards = Wards { max_turns: Some(20), max_tokens: Some(10_000), ..Wards::default() };
        Self { medium, script, wards, snapshots: SnapshotPolicy::Never }
    }

    fn cantrip(&self, runtime: &Runtime, done: &Done) -> Cantrip {
        let met = |private, untrusted| Exposure { private, untrusted, outbound: false };
        let out = Exposure { outbound: true, ..Exposure::default() };
        let mut builder = Cantrip::builder()
            .llm(Arc::new(Told(Arc::new(SystemClock::default()))))
            .gate(builtin::done())
            .gate(gate("look", Reach::Read, met(true, false), done))
            .gate(gate("glance", Reach::Read, met(false, true), done))
            .gate(gate("deed", Reach::Write, Exposure::default(), done))
            .gate(gate("send", Reach::External, out, done))
            .hold("call_entity")
            .hold("call_entity_batch")
            .hold("read_loom")
            .wards(&self.wards)
            .snapshots(self.snapshots);
        if let Some(medium) = self.medium {
            builder = builder.medium(medium);
        }
        builder.build(runtime.media()).unwrap()
    }
}

fn runtime(store: Arc<dyn LoomStore>) -> Runtime {
    Runtime::new(store, Arc::new(Javascript::new(sandbox())), Arc::new(SystemClock::default()), "here")
}

/// One run to its end.
struct Ran {
    outcome: Outcome,
    entries: Vec<Sealed>,
    done: BTreeMap<String, u64>,
    root: (LoomId, EntityId),
}

/// What is recorded, with its large texts.
fn entries(store: &dyn LoomStore, loom: LoomId) -> Vec<Sealed> {
    let whole = |(_, mut sealed): (u64, Sealed)| {
        let texts = sealed.text_ids().into_iter().map(|id| Blob { id, bytes: store.blob(id).unwrap().unwrap() });
        sealed.blobs = texts.collect();
        sealed
    };
    store.recorded(loom, By::ThisNode, 0, usize::MAX).unwrap().into_iter().map(whole).collect()
}

fn store_of(entries: &[Sealed]) -> Arc<MemoryStore> {
    let store = MemoryStore::with_key(NodeKey::from_secret(&[3; 32]));
    for sealed in entries {
        store.append(sealed.clone()).unwrap();
    }
    store
}

/// A model that has nothing more to say ends a run, too.
fn ended(ended: Result<Outcome, CastError>) -> Outcome {
    match ended {
        Err(CastError::Failed { outcome, .. }) => *outcome,
        ended => ended.unwrap(),
    }
}

async fn uncut(plan: &Plan) -> Ran {
    let (store, done) = (store_of(&[]), Done::default());
    let runtime = runtime(Arc::clone(&store) as _);
    let mut entity = runtime.summon(&plan.cantrip(&runtime, &done), CastOptions::default()).unwrap();
    let outcome = ended(entity.send(&plan.script.to_string()).await);
    let root = (entity.loom(), entity.entity());
    let done = done.lock().unwrap().clone();
    Ran { outcome, entries: entries(&*store, root.0), done, root }
}

/// Goes on with what is recorded; nothing where there is nothing to go on with.
async fn resumed(plan: &Plan, kept: &[Sealed], root: (LoomId, EntityId)) -> Option<Ran> {
    let opens = |sealed: &Sealed| sealed.entry.entity == Some(root.1) && matches!(sealed.entry.body, Body::Opened(_));
    if !kept.iter().any(opens) {
        return None;
    }
    let (store, done) = (store_of(kept), Done::default());
    let runtime = runtime(Arc::clone(&store) as _);
    let cantrip = plan.cantrip(&runtime, &done);
    let mut entity = runtime.resume(&cantrip, root.0, root.1, &CastOptions::default()).unwrap();
    if !entity.is_unfinished() {
        return None;
    }
    let outcome = ended(entity.go_on().await);
    let done = done.lock().unwrap().clone();
    Some(Ran { outcome, entries: entries(&*store, root.0), done, root })
}

/// The gate calls of a record that may have done something, by what they were to do: those that are recorded, and of these those
/// whose result is not.
fn deeds(entries: &[Sealed]) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut called, mut open) = (BTreeSet::new(), BTreeMap::<(EntityId, CallId), String>::new());
    for sealed in entries {
        let Some(entity) = sealed.entry.entity else { continue };
        if let Body::GateCalled { call, gate, arguments, reach, refused: false, .. } = &sealed.entry.body {
            let cantrip_runtime::domain::loom::Payload::Inline(arguments) = arguments else { continue };
            let arguments: Value = serde_json::from_str(arguments).unwrap();
            if let (Some(what), true) = (arguments["what"].as_str(), *reach != Reach::Read) {
                called.insert(format!("{gate} {what}"));
                open.insert((entity, call.clone()), format!("{gate} {what}"));
            }
        } else if let Body::GateReturned { call, .. } = &sealed.entry.body {
            open.remove(&(entity, call.clone()));
        }
    }
    (called, open.into_values().collect())
}

fn ledger(outcome: &Outcome) -> (How, String, Spent, Exposure) {
    (outcome.how, outcome.reason.to_string(), outcome.spent, outcome.seen)
}

/// Holds a resumed run against the uncut one.
fn compare(uncut: &Ran, kept: &[Sealed], resumed: &Ran, which: &str) -> bool {
    let (called, open) = deeds(kept);
    for (what, times) in &resumed.done {
        let is_effect = what.starts_with("deed ") || what.starts_with("send ");
        assert!(!is_effect || (*times == 1 && !called.contains(what)), "{which}: {what} ran again, {times} times");
    }
    let said: Vec<String> = resumed.entries.iter().skip(kept.len()).filter_map(returned_error).collect();
    let unknown = said.iter().filter(|message| message.contains("may or may not have run")).count();
    assert_eq!(unknown, open.len(), "{which}: of {open:?} it is said that {said:?}");
    if !open.is_empty() {
        return false;
    }
    assert_eq!(resumed.outcome.result, uncut.outcome.result, "{which}");
    assert_eq!(ledger(&resumed.outcome), ledger(&uncut.outcome), "{which}");
    let kinds = |entries: &[Sealed]| {
        let all = entries.iter().map(|sealed| sealed.entry.body.kind().to_owned());
        // Whether memory is recorded once more says nothing of what happened.
        all.filter(|kind| kind != "snapshot").collect::<Vec<_>>()
    };
    let (mut as_resumed, mut as_uncut) = (kinds(&resumed.entries), kinds(&uncut.entries));
    // Children that run at the same time write in any order.
    as_resumed.sort();
    as_uncut.sort();
    assert_eq!(as_resumed, as_uncut, "{which}: a call is recorded twice, or not at all");
    let effects = |what: &&String| what.starts_with("deed ") || what.starts_with("send ");
    let all: BTreeSet<&String> = called.iter().chain(resumed.done.keys().filter(effects)).collect();
    assert_eq!(all, uncut.done.keys().filter(effects).collect::<BTreeSet<_>>(), "{which}");
    true
}

fn returned_error(sealed: &Sealed) -> Option<String> {
    let Body::GateReturned { result: cantrip_runtime::domain::loom::Returned::Error(error), .. } = &sealed.entry.body
    else {
        return None;
    };
    assert!(!error.message().contains("may or may not") || error.kind() == "unknown", "{error:?}");
    Some(error.message().to_owned())
}

/// 50 cuts of a run, and 4 of what was resumed then: a long run is cut at so many places all over it.
const CUTS: usize = 50;
const SECOND_CUTS: usize = 4;

/// Cuts a run behind its entries, and what was resumed behind some of those that came then. Says how often the two were equal.
async fn cut_everywhere(plan: &Plan, which: &str) -> usize {
    let whole = uncut(plan).await;
    let mut equal = 0;
    for at in (1..whole.entries.len()).step_by(whole.entries.len().div_ceil(CUTS)) {
        let kept = &whole.entries[..at];
        let which = format!("{which}, cut behind entry {at} of {}", whole.entries.len());
        let Some(again) = resumed(plan, kept, whole.root).await else { continue };
        equal += usize::from(compare(&whole, kept, &again, &which));
        // A second crash finds entries of two processes.
        let written = again.entries.len().saturating_sub(at + 1);
        for second in (at + 1..again.entries.len()).step_by(written.div_ceil(SECOND_CUTS).max(1)) {
            let kept = &again.entries[..second];
            let Some(twice) = resumed(plan, kept, whole.root).await else { continue };
            if deeds(&whole.entries[..at]).1.is_empty() {
                equal += usize::from(compare(&whole, kept, &twice, &format!("{which}, and again behind {second}")));
            }
        }
    }
    equal
}

fn call(gate: &str, what: &str) -> Value {
    json!({"call": gate, "args": {"what": what}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_that_is_cut_anywhere_goes_on_as_if_it_had_not_been() {
    let child = json!([call("look", "below"), call("deed", "below"), {"done": "seen"}]).to_string();
    let script = json!([
        call("look", "1"),
        call("deed", "1"),
        call("nothing_that_is_held", "x"),
        {"call": "call_entity", "args": {"intent": child}},
        call("glance", "2"),
        call("send", "after both were met"),
        {"done": {"answer": 7}}
    ]);
    assert!(cut_everywhere(&Plan::of(None, script), "a conversation").await > 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_is_cut_anywhere_goes_on_as_if_it_had_not_been() {
    let child = json!([{"code": "const a = look('child'); deed('child'); done(a)"}]).to_string();
    let script = json!([
        {"code": "var r = [Math.random()]; var t = Date.now(); r.push(look('1'), deed('1'), Math.random()); t <= Date.now()"},
        {"code": "try { absent('x') } catch (e) { r.push(e.name) } glance('2'); r.push(Math.random()); deed('2'); r.length"},
        {"code": format!("r.push(call_entity({{intent: {child:?}}})); deed('3'); r.length")},
        {"code": "done([r, Math.random()])"}
    ]);
    let mut plan = Plan::of(Some("javascript"), script);
    assert!(cut_everywhere(&plan, "code").await > 40);
    plan.wards.max_fuel = Some(1 << 40);
    plan.snapshots = SnapshotPolicy::Every(NonZeroU64::MIN);
    assert!(cut_everywhere(&plan, "metered code with snapshots").await > 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_cut_anywhere_casts_no_child_twice() {
    let child = |name: &str| json!([call("look", name), call("deed", name), {"done": name}]).to_string();
    let grandchild = json!([
        {"call": "call_entity", "args": {"intent": child("below")}}, call("deed", "above"), {"done": "above"}
    ]);
    let script = json!([
        {"call": "call_entity_batch", "args": {"requests": [
            {"intent": child("a")}, {"intent": child("b")}, {"intent": ""}, {"intent": grandchild.to_string()}
        ]}},
        {"done": "all"}
    ]);
    let mut plan = Plan::of(None, script);
    plan.wards.max_depth = Some(4);
    // One after the other: what a run has written is the same each time.
    plan.wards.max_concurrent_children = Some(1);
    assert!(cut_everywhere(&plan, "a batch").await > 40);
}

/// Random scripts: what an entity does in a turn, and its children in theirs.
struct Make {
    state: u64,
    named: u64,
    is_code: bool,
}

impl Make {
    fn number(&mut self, below: u64) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % below
    }

    /// A name that nothing else has.
    fn name(&mut self) -> String {
        self.named += 1;
        format!("n{}", self.named)
    }

    fn script(&mut self, depth: u64) -> Value {
        let turns = self.number(3) + 1;
        let mut script: Vec<Value> =
            (0..turns).map(|_| if self.is_code { self.code(depth) } else { self.call(depth) }).collect();
        script.push(if self.is_code {
            json!({"code": "done(typeof r == 'undefined' ? 0 : r)"})
        } else {
            json!({"done": 1})
        });
        Value::Array(script)
    }

    fn call(&mut self, depth: u64) -> Value {
        let name = self.name();
        match self.number(if depth < 2 { 7 } else { 5 }) {
            0 => call("look", &name),
            1 => call("glance", &name),
            2 => call("deed", &name),
            3 => call("send", &name),
            4 => call("not_held", &name),
            5 => json!({"call": "call_entity", "args": {"intent": self.script(depth + 1).to_string()}}),
            _ => {
                let requests: Vec<Value> =
                    (0..=self.number(3)).map(|_| json!({"intent": self.script(depth + 1).to_string()})).collect();
                json!({"call": "call_entity_batch", "args": {"requests": requests}})
            }
        }
    }

    /// Code that calls several gates, and goes on after those that fail.
    fn code(&mut self, depth: u64) -> Value {
        let calls: Vec<String> = (0..=self.number(4))
            .map(|_| {
                let Value::Object(call) = self.call(depth) else { return String::new() };
                let (gate, args) = (call["call"].as_str().unwrap_or_default().to_owned(), call["args"].clone());
                let given = args.get("what").or(args.get("requests")).cloned().unwrap_or(args);
                format!("try {{ r.push({gate}({given}), Math.random() < 2) }} catch (e) {{ r.push(e.name) }}")
            })
            .collect();
        json!({"code": format!("var r = typeof r == 'undefined' ? [] : r; {}; r.length", calls.join("; "))})
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_runs_that_are_cut_anywhere_go_on_as_if_they_had_not_been() {
    let number = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (first, seeds): (u64, u64) = (number("CANTRIP_RESUME_FIRST", 1), number("CANTRIP_RESUME_SEEDS", 6));
    let mut equal = 0;
    for seed in first..first + seeds {
        let mut make = Make { state: seed, named: 0, is_code: seed % 2 == 0 };
        let script = make.script(0);
        let mut plan = Plan::of((seed % 2 == 0).then_some("javascript"), script);
        plan.wards.max_depth = Some(4);
        plan.wards.max_concurrent_children = (seed % 3 == 0).then_some(1);
        // Some run out of what they may spend: just as the uncut run does.
        plan.wards.max_tokens = Some(if seed % 5 == 0 { 60 } else { 10_000 });
        plan.wards.max_gate_calls = (seed % 7 == 0).then_some(5);
        plan.wards.no_trifecta = seed % 4 == 0;
        if seed % 4 == 2 {
            plan.snapshots = SnapshotPolicy::Every(NonZeroU64::MIN);
        }
        equal += cut_everywhere(&plan, &format!("seed {seed}")).await;
    }
    println!("{seeds} random runs from seed {first}: {equal} resumed runs equal their uncut ones");
    assert!(equal as u64 > seeds * 4);
}
