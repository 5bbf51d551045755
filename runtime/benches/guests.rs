//! What guests cost beside the engine alone: a cast that does nothing, a gate call, and the first and the next load of a
//! component. Both sides are measured in one run; what counts is the ratio.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark prints, reads its guests, and may stop"
)]

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cantrip_runtime::adapters::clock::SystemClock;
use cantrip_runtime::adapters::store::MemoryStore;
use cantrip_runtime::adapters::wasm::{Floor, Guests, Javascript, Sandbox};
use cantrip_runtime::domain::ids::WriterKey;
use cantrip_runtime::domain::medium::{Evaluation, GateAnswer, MediumOpening, StopFlag};
use cantrip_runtime::ports::{Guest, Yielded};
use cantrip_runtime::{Cantrip, CastOptions, Runtime, Wards, builtin};
use serde_json::{Value, json};

/// A component of `tests/guests`, its parts put in.
fn component(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests");
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let mut text = read(&folder.join(format!("{name}.wat")));
    while let Some((before, rest)) = text.split_once("{{") {
        let (part, after) = rest.split_once("}}").unwrap();
        text = format!("{before}{}{after}", read(&folder.join(format!("parts/{part}.wat"))).trim());
    }
    wat::parse_str(text).unwrap()
}

/// A component of about a megabyte: many functions that compute something.
fn megabyte() -> Vec<u8> {
    let mut functions = String::new();
    for number in 0..16_000 {
        writeln!(
            functions,
            "(func (export \"f{number}\") (param i32 i32) (result i32) (local i32) (local.set 2 (i32.mul (local.get 0) (i32.const {number}))) \
             (if (i32.gt_s (local.get 2) (local.get 1)) (then (local.set 2 (i32.rem_u (local.get 2) (i32.const 7919))))) \
             (i32.xor (local.get 2) (i32.shl (local.get 1) (i32.const {}))))",
            number % 31
        )
        .unwrap();
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests");
    let text = std::fs::read_to_string(folder.join("trivial.wat")).unwrap();
    let text = text.replace("  {{libc}}", &format!("  (core module {functions})\n  {{{{libc}}}}"));
    let mut text = text;
    while let Some((before, rest)) = text.split_once("{{") {
        let (part, after) = rest.split_once("}}").unwrap();
        let part = std::fs::read_to_string(folder.join(format!("parts/{part}.wat"))).unwrap();
        text = format!("{before}{}{after}", part.trim());
    }
    wat::parse_str(text).unwrap()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn row(what: &str, ours: Duration, floor_name: &str, floor: Duration) {
    let (ours, floor) = (micros(ours), micros(floor));
    println!("| {what} | {ours:.2} µs | {floor_name}: {floor:.2} µs | {:.2} |", ours / floor);
}

fn cantrip(guest: Arc<dyn Guest>, runtime: &Runtime) -> Cantrip {
    let wards = Wards { max_turns: Some(1), max_gate_calls: Some(10_000_000), ..Wards::default() };
    let builder = Cantrip::builder().guest(guest).gate(builtin::done()).gate(builtin::echo()).wards(&wards);
    builder.build(runtime.media()).unwrap()
}

async fn cast(cantrip: &Cantrip, runtime: &Runtime, intent: &str, times: usize) -> Duration {
    let mut measured = Vec::with_capacity(times);
    for _ in 0..times {
        let start = Instant::now();
        runtime.cast(cantrip, intent, CastOptions::default()).await.unwrap();
        measured.push(start.elapsed());
    }
    measured.sort_unstable();
    measured.get(times / 2).copied().unwrap_or_default()
}

/// A gate call out of the sandbox and back, decided by nobody and recorded nowhere.
async fn hop(guest: &Arc<dyn Guest>, thousands: usize) -> Duration {
    let opening = MediumOpening {
        medium: String::new(),
        gates: vec!["echo".to_owned()],
        memory_bytes_max: 1 << 26,
        metered: false,
    };
    let mut medium = guest.open(&opening).await.unwrap();
    let start = Instant::now();
    let mut yielded = medium
        .evaluate(Evaluation {
            source: json!({ "intent": "x".repeat(thousands) }).to_string(),
            seed: 1,
            clock_us: 1,
            time_max: Duration::from_mins(1),
            output_bytes_max: 1_000,
            fuel_max: None,
            stop_at_poll: None,
            recorded: 0,
            stop: StopFlag::default(),
        })
        .await;
    while let Yielded::Gate { .. } = yielded {
        yielded = medium.resume(GateAnswer::Returned(Ok(Value::String("x".to_owned()))), 1).await;
    }
    start.elapsed() / u32::try_from(thousands * 1_000).unwrap()
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::new(100, Some(folder.path().join("artefacts"))).unwrap();
    let guests = Guests::new(Arc::clone(&sandbox));
    let floor = Floor::new(Arc::clone(&sandbox));
    let runtime = Runtime::new(
        MemoryStore::new(WriterKey::from_bytes([0; 32])),
        Arc::new(Javascript::new(Arc::clone(&sandbox))),
        Arc::new(SystemClock::default()),
        "bench",
    );
    println!("| what | ours | floor | ratio |\n|---|---|---|---|");

    let trivial = component("trivial");
    let bare = floor.run(&trivial, "go", 5_000).await.unwrap();
    let cantrip_of_it = cantrip(guests.load("trivial", trivial).unwrap(), &runtime);
    let ours = cast(&cantrip_of_it, &runtime, "go", 5_000).await;
    row("guest cast without I/O, memory loom", ours, "instantiate + call + drop", bare);

    let calls = component("calls");
    let once = floor.run(&calls, "x", 50).await.unwrap();
    let more = floor.run(&calls, &"x".repeat(21), 50).await.unwrap();
    let bare = more.saturating_sub(once) / 20_000;
    let guest = guests.load("calls", calls).unwrap();
    row("gate call out of the sandbox and back", hop(&guest, 100).await, "bare import", bare);
    let calling = cantrip(guest, &runtime);
    let (few, many) = (cast(&calling, &runtime, "x", 5).await, cast(&calling, &runtime, &"x".repeat(9), 5).await);
    row("gate call, decided and recorded", many.saturating_sub(few) / 8_000, "bare import", bare);

    let large = megabyte();
    let kib = large.len() / 1_024;
    let compile = floor.compile(&large).unwrap();
    let start = Instant::now();
    guests.compile("large", large.clone()).unwrap();
    row(&format!("first load of {kib} KiB"), start.elapsed(), "the compiler alone", compile);
    let start = Instant::now();
    guests.compile("large", large).unwrap();
    row(&format!("cached load of {kib} KiB"), start.elapsed(), "the compiler alone", compile);
}
