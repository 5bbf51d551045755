//! What the runtime costs, beside the raw parts in the same run: `cargo bench --bench runtime`.
//!
//! Prints the table of `docs/benchmarks.md`; `-- store` only its rows of durable turns a second. Figures move between machines and runs; the ratios are what is promised.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark may stop, talks, and measures the raw parts too"
)]

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cantrip_runtime::adapters::clock::SystemClock;
use cantrip_runtime::adapters::llm::Scripted;
use cantrip_runtime::adapters::store::{FjallStore, MemoryStore, StoreOptions};
use cantrip_runtime::adapters::wasm::{Javascript, Sandbox};
use cantrip_runtime::domain::ids::WriterKey;
use cantrip_runtime::domain::medium::{Evaluation, GateAnswer, MediumOpening, StopFlag};
use cantrip_runtime::ports::{LoomStore, Medium, MediumFactory, Yielded};
use cantrip_runtime::{Cantrip, CastOptions, Runtime, Wards, builtin};
use serde_json::{Value, json};

const ENTITIES: u32 = 10_000;

fn opening() -> MediumOpening {
    MediumOpening {
        medium: "javascript".to_owned(),
        gates: vec!["echo".to_owned(), "done".to_owned()],
        memory_bytes_max: 64 * 1024 * 1024,
        metered: false,
    }
}

fn evaluation(source: &str) -> Evaluation {
    Evaluation {
        source: source.to_owned(),
        seed: 1,
        clock_us: 1,
        time_max: Duration::from_secs(30),
        output_bytes_max: 50_000,
        fuel_max: None,
        stop_at_poll: None,
        recorded: 0,
        stop: StopFlag::default(),
    }
}

fn cantrip(media: &dyn MediumFactory, responses: Vec<Value>) -> Cantrip {
    let scripted = Scripted::from_values(responses).expect("a script");
    Cantrip::builder()
        .llm(Arc::new(scripted))
        .medium("javascript")
        .gate(builtin::echo())
        .gate(builtin::done())
        .delegation()
        .wards(&Wards {
            max_turns: Some(1_000_000),
            max_gate_calls: Some(10_000_000),
            max_children: Some(1_000_000),
            ..Wards::default()
        })
        .build(media)
        .expect("a cantrip")
}

fn code(source: &str) -> Value {
    json!({ "code": source })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn row(what: &str, ours: Duration, floor_name: &str, floor: Duration) {
    println!(
        "| {what} | {:.1} µs | {floor_name}: {:.1} µs | {:.2} |",
        micros(ours),
        micros(floor),
        micros(ours) / micros(floor)
    );
}

async fn repeat<F: Future>(times: u32, mut run: impl FnMut() -> F) -> Duration {
    let mut measured = Vec::new();
    for _ in 0..times {
        let start = Instant::now();
        run().await;
        measured.push(start.elapsed());
    }
    median(measured)
}

/// Appends a kilobyte and waits for the disk: the least that a durable turn costs.
fn fdatasync(folder: &Path) -> Duration {
    let mut file = std::fs::File::create(folder.join("floor")).expect("a file");
    let mut times = Vec::new();
    for _ in 0..500 {
        let start = Instant::now();
        file.write_all(&[7; 1024]).expect("a write");
        file.sync_data().expect("a sync");
        times.push(start.elapsed());
    }
    median(times)
}

async fn turns(runtime: &Runtime, count: usize) -> Duration {
    let mut responses = vec![code("let n = 0"); 1];
    responses.extend(vec![code("n += 1"); count]);
    responses.push(code("done(n)"));
    let cantrip = cantrip(runtime.media(), responses);
    let start = Instant::now();
    runtime.cast(&cantrip, "count", CastOptions::default()).await.expect("a cast");
    start.elapsed()
}

async fn cast_once(runtime: &Runtime, times: u32) -> Duration {
    let cantrip = cantrip(runtime.media(), vec![code("done(1)"); times as usize]);
    repeat(times, || async { runtime.cast(&cantrip, "once", CastOptions::default()).await.expect("a cast") }).await
}

/// Turns a second of so many entities at once, each turn durable.
async fn throughput(runtime: &Runtime, entities: usize, turns: usize) -> f64 {
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..entities {
        let mut responses = vec![code("1"); turns];
        responses.push(code("done(1)"));
        let (runtime, cantrip) = (runtime.clone(), cantrip(runtime.media(), responses));
        tasks.spawn(async move { runtime.cast(&cantrip, "count", CastOptions::default()).await.expect("a cast") });
    }
    tasks.join_all().await;
    (entities * (turns + 1)) as f64 / start.elapsed().as_secs_f64()
}

/// The pages that are this process's own, in all and those of guests' memories: a guest's are the ones in mappings of the
/// interpreter's image and in the pool's slots behind it. What only shows the shared image is not counted.
fn private_kib() -> (u64, u64) {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let (mut all, mut guests, mut is_guest, mut image_end) = (0, 0, false, "");
    for line in maps.lines() {
        if let Some((from, to)) = line.split_once(' ').and_then(|(range, _)| range.split_once('-')) {
            let is_image = line.contains("memfd:") || line.contains("/artefacts/");
            is_guest = is_image || (is_guest && from == image_end && line.contains("rw-p"));
            image_end = if is_guest { to } else { "" };
        } else if let Some(kib) = line.strip_prefix("Anonymous:").and_then(|rest| rest.split_whitespace().next()) {
            let kib: u64 = kib.parse().unwrap_or(0);
            all += kib;
            guests += if is_guest { kib } else { 0 };
        }
    }
    (all, guests)
}

/// Turns a second of raw fjall: one thread commits, with one sync, whatever so many writers have handed it.
fn group_commit(folder: &Path, writers: usize, records: usize) -> f64 {
    let database = fjall::Database::builder(folder).open().expect("a database");
    let keyspace = database.keyspace("log", fjall::KeyspaceCreateOptions::default).expect("a keyspace");
    let (sender, receiver) = std::sync::mpsc::sync_channel::<(u64, std::sync::mpsc::SyncSender<()>)>(writers);
    let start = Instant::now();
    let committer = std::thread::spawn(move || {
        while let Ok(first) = receiver.recv() {
            let mut waiting = vec![first];
            waiting.extend(receiver.try_iter());
            let mut batch = database.batch().durability(Some(fjall::PersistMode::SyncData));
            for (key, _) in &waiting {
                batch.insert(&keyspace, key.to_be_bytes(), [7; 1024].as_slice());
            }
            batch.commit().expect("a commit");
            for (_, done) in waiting {
                done.send(()).expect("a writer that waits");
            }
        }
    });
    let writing: Vec<_> = (0..writers)
        .map(|writer| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let (done, is_done) = std::sync::mpsc::sync_channel(1);
                for record in 0..records {
                    sender.send(((writer * records + record) as u64, done.clone())).expect("a committer");
                    is_done.recv().expect("a commit");
                }
            })
        })
        .collect();
    drop(sender);
    for thread in writing.into_iter().chain([committer]) {
        thread.join().expect("a thread that ends");
    }
    (writers * records) as f64 / start.elapsed().as_secs_f64()
}

async fn bare_gate(medium: &mut dyn Medium, calls: u32) -> Duration {
    let start = Instant::now();
    let mut yielded = medium.evaluate(evaluation(&format!("for (let i = 0; i < {calls}; i++) echo('x')"))).await;
    while let Yielded::Gate { .. } = yielded {
        yielded = medium.resume(GateAnswer::Returned(Ok(Value::String("x".to_owned()))), 1).await;
    }
    start.elapsed() / calls
}

async fn side_by_side(durable: &Runtime, folder: &Path) {
    for entities in [1, 16, 64] {
        let rate = throughput(durable, entities, 300).await;
        let raw = group_commit(&folder.join(format!("raw-{entities}")), entities, 300);
        println!(
            "| durable turns a second, {entities} entities | {rate:.0} | fjall, 1 KiB records, one sync a group: {raw:.0} | {:.2} |",
            rate / raw
        );
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let sandbox = Sandbox::new(ENTITIES + 500, Some(folder.path().join("artefacts"))).expect("a sandbox");
    let media = Arc::new(Javascript::new(sandbox));
    let clock = Arc::new(SystemClock::default());
    let memory = Runtime::new(
        MemoryStore::new(WriterKey::from_bytes([0; 32])),
        Arc::<Javascript>::clone(&media),
        Arc::<SystemClock>::clone(&clock),
        "bench",
    );
    let store: Arc<dyn LoomStore> =
        FjallStore::open(&folder.path().join("loom"), StoreOptions::default()).expect("a store");
    let durable = Runtime::new(store, Arc::<Javascript>::clone(&media), clock, "bench");
    media.prepare().expect("the interpreter");
    println!("| what | ours | floor | ratio |\n|---|---|---|---|");
    if std::env::args().any(|argument| argument == "store") {
        return side_by_side(&durable, folder.path()).await;
    }

    let floor = media.instantiate_bare(2_000).await.expect("bare instances");
    let ready = repeat(2_000, || async { media.open(&opening()).await.expect("a medium") }).await;
    row("new JavaScript entity, ready", ready, "instantiate + drop, pooled", floor);

    let evaluate = repeat(2_000, || async {
        let mut medium = media.open(&opening()).await.expect("a medium");
        medium.evaluate(evaluation("1")).await
    })
    .await;
    row("one-turn cast, memory loom", cast_once(&memory, 1_000).await, "medium + evaluate", evaluate);
    let sync = fdatasync(folder.path());
    row("one-turn cast, durable loom", cast_once(&durable, 500).await, "append 1 KiB + fdatasync", sync);
    let extra = |many: Duration, few: Duration| many.saturating_sub(few) / 1_000;
    let in_memory = extra(turns(&memory, 1_001).await, turns(&memory, 1).await);
    row("further turn, memory loom", in_memory, "medium + evaluate", evaluate);
    let on_disk = extra(turns(&durable, 1_001).await, turns(&durable, 1).await);
    row("further turn, durable loom", on_disk, "append 1 KiB + fdatasync", sync);

    let mut medium = media.open(&opening()).await.expect("a medium");
    let hop = bare_gate(&mut *medium, 100_000).await;
    let with_calls = cantrip(memory.media(), vec![code("for (let i = 0; i < 9000; i++) echo('x'); done(1)")]);
    let start = Instant::now();
    memory.cast(&with_calls, "call", CastOptions::default()).await.expect("a cast");
    row("gate call, decided and recorded", start.elapsed() / 9_000, "bare hop through the medium", hop);

    let mut responses = vec![code("for (let i = 0; i < 500; i++) call_entity('sub'); done(1)")];
    responses.extend(vec![code("done(1)"); 500]);
    let with_children = cantrip(memory.media(), responses);
    let start = Instant::now();
    memory.cast(&with_children, "delegate", CastOptions::default()).await.expect("a cast");
    row("child cast in code, memory loom", start.elapsed() / 500, "medium + evaluate", evaluate);

    side_by_side(&durable, folder.path()).await;

    let before = private_kib();
    let mut live = Vec::new();
    for _ in 0..ENTITIES {
        let mut medium = media.open(&opening()).await.expect("a medium");
        medium.evaluate(evaluation("const state = {a: 1}")).await;
        live.push(medium);
    }
    let after = private_kib();
    let each = |after: u64, before: u64| after.saturating_sub(before) as f64 / f64::from(ENTITIES);
    let (all, guest) = (each(after.0, before.0), each(after.1, before.1));
    println!(
        "| memory of a live entity, {} at once | {all:.1} KiB | pages its guest has touched: {guest:.1} KiB | + {:.1} KiB |",
        live.len(),
        all - guest
    );
}
