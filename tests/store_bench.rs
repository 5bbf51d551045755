//! The durable store beside its floors, in one run: a raw file with fdatasync, and a raw fjall batch.
//!
//! As a test it only shows that all of it runs; with `CANTRIP_BENCH=1` it measures for a while and prints figures.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::expect_used,
    reason = "figures are printed for people, and a failure is a failed test"
)]

mod store_support;

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use cantrip_runtime::ports::LoomStore;
use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use store_support::{entity, loom, open, said};

const RECORD_BYTES: usize = 1024;

fn span() -> Duration {
    Duration::from_millis(if std::env::var_os("CANTRIP_BENCH").is_some() { 3000 } else { 20 })
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times.get(times.len() * percent / 100).copied().unwrap_or_default()
}

fn report(what: &str, mut times: Vec<Duration>, took: Duration) -> f64 {
    let rate = times.len() as f64 / took.as_secs_f64();
    let (half, most) = (percentile(&mut times, 50), percentile(&mut times, 99));
    println!(
        "{what:<44} {rate:>9.0}/s  p50 {:>7.1} µs  p99 {:>7.1} µs",
        half.as_nanos() as f64 / 1e3,
        most.as_nanos() as f64 / 1e3
    );
    half.as_secs_f64()
}

fn timed(mut work: impl FnMut() -> Result<()>) -> Result<(Vec<Duration>, Duration)> {
    let start = Instant::now();
    let mut times = Vec::new();
    while start.elapsed() < span() {
        let one = Instant::now();
        work()?;
        times.push(one.elapsed());
    }
    Ok((times, start.elapsed()))
}

fn raw_file() -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let mut file = File::create(folder.path().join("log"))?;
    let record = [7_u8; RECORD_BYTES];
    let (times, took) = timed(|| {
        file.write_all(&record)?;
        Ok(file.sync_data()?)
    })?;
    Ok(report("file append + fdatasync", times, took))
}

fn raw_fjall(records: u64) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let database = Database::builder(folder.path()).open()?;
    let keyspace = database.keyspace("log", KeyspaceCreateOptions::default)?;
    let record = [7_u8; RECORD_BYTES];
    let mut sequence: u64 = 0;
    let (times, took) = timed(|| {
        let mut batch = database.batch().durability(Some(PersistMode::SyncData));
        for _ in 0..records {
            sequence += 1;
            batch.insert(&keyspace, sequence.to_be_bytes(), record.as_slice());
        }
        Ok(batch.commit()?)
    })?;
    println!("    = {:.0} records/s", sequence as f64 / took.as_secs_f64());
    Ok(report(&format!("fjall, one batch of {records}, fdatasync"), times, took))
}

fn ours(writers: u8, looms: bool) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let store = open(folder.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let commits = Arc::new(AtomicU64::new(0));
    let text = "x".repeat(RECORD_BYTES - 200);
    let start = Instant::now();
    let times = runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 1..=writers {
            let (store, text, commits) = (Arc::clone(&store), text.clone(), Arc::clone(&commits));
            tasks.spawn(async move {
                let own = loom(if looms { writer } else { 1 });
                let mut parent = None;
                let mut times = Vec::new();
                while start.elapsed() < span() {
                    let sealed = said(&*store, own, entity(writer), parent, &text).expect("an entry");
                    parent = Some(sealed.id);
                    let one = Instant::now();
                    store.append(sealed).expect("appended");
                    store.sync(own).await.expect("synced");
                    times.push(one.elapsed());
                    commits.fetch_add(1, Ordering::Relaxed);
                }
                times
            });
        }
        tasks.join_all().await.concat()
    });
    Ok(report(&format!("ours, {writers} writers, a loom each"), times, start.elapsed()))
}

/// How many writers wait at once: as `CANTRIP_BENCH_WRITERS` says, for a profile of one case.
fn writers() -> Vec<u8> {
    let one = std::env::var("CANTRIP_BENCH_WRITERS").ok().and_then(|text| text.parse().ok());
    one.map_or_else(|| vec![1, 4, 16, 64], |one| vec![one])
}

/// A long record: how fast it grows, opens, answers and is verified.
#[test]
fn a_long_record_opens_and_answers_quickly() -> Result<()> {
    let entries: u64 = if std::env::var_os("CANTRIP_BENCH").is_some() { 300_000 } else { 300 };
    let folder = tempfile::tempdir()?;
    let store = open(folder.path())?;
    let text = "x".repeat(RECORD_BYTES - 200);
    let start = Instant::now();
    let mut parent = None;
    for number in 0..entries {
        let own = loom(u8::try_from(number % 200)?);
        let sealed = said(&*store, own, entity(1), None, &text)?;
        parent = Some(sealed.id);
        store.append(sealed)?;
        if number % 64 == 63 {
            store_support::wait(store.sync(own))?;
        }
    }
    println!("{entries} entries, 64 in a batch: {:.0}/s", entries as f64 / start.elapsed().as_secs_f64());
    store.close()?;
    drop(store);
    let journals: u64 = std::fs::read_dir(folder.path().join("db"))?
        .filter_map(Result::ok)
        .filter(|file| file.path().extension().is_some_and(|extension| extension == "jnl"))
        .filter_map(|file| file.metadata().ok())
        .map(|file| file.len())
        .sum();
    for round in ["first", "second"] {
        let start = Instant::now();
        let store = open(folder.path())?;
        println!("{round} reopen with {journals} bytes of journals: {:?}", start.elapsed());
        let start = Instant::now();
        store.entry(parent.expect("the last"))?;
        let first = start.elapsed();
        let start = Instant::now();
        let read = store.entries(loom(7))?.len();
        println!("first get {first:?}, a loom of {read} entries {:?}", start.elapsed());
        store.close()?;
    }
    let start = Instant::now();
    let verified = cantrip_runtime::adapters::store::FjallStore::examine(folder.path())?;
    println!("examined {} entries in {:?}", verified.entries, start.elapsed());
    anyhow::ensure!(verified.findings.is_empty(), "{:?}", verified.findings);
    Ok(())
}

#[test]
fn the_durable_store_beside_its_floors() -> Result<()> {
    let floor = raw_file()?;
    let engine = raw_fjall(1)?;
    for writers in writers() {
        let half = ours(writers, true)?;
        println!("    p50 = {:.2} × fdatasync, {:.2} × one fjall batch", half / floor, half / engine);
        raw_fjall(u64::from(writers))?;
    }
    raw_file()?;
    Ok(())
}
