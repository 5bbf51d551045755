//! A process that is killed at any moment loses nothing that it was told is durable.
//!
//! The child is this test binary, run again with an environment variable: it appends, syncs and prints what was
//! acknowledged. The parent kills it after a random number of lines and reopens the record.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "the child is a process, and tells what was acknowledged"
)]

mod store_support;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use cantrip_runtime::adapters::store::FjallStore;
use cantrip_runtime::ports::LoomStore;
use store_support::{entity, loom, open, said, wait};

const CHILD: &str = "CANTRIP_CRASH_CHILD";
const WRITERS: u8 = 3;
/// A third of the entries carries a text of five times as many bytes: after some rounds the journal is full, and a kill
/// hits its change and the flushes that come with it.
const LONG: usize = 40_000;
/// So many rounds are played with one record: each verifies all of it.
const ROUNDS_EACH: u64 = 60;

/// Not a test of its own: the process that is killed.
#[test]
fn the_process_that_is_killed() -> Result<()> {
    let Some(folder) = std::env::var_os(CHILD) else { return Ok(()) };
    let store = open(Path::new(&folder))?;
    let threads: Vec<_> = (1..=WRITERS)
        .map(|writer| {
            let store = Arc::clone(&store);
            std::thread::spawn(move || write_for_ever(&store, writer))
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??;
    }
    Ok(())
}

fn write_for_ever(store: &FjallStore, writer: u8) -> Result<()> {
    loop {
        let own = loom(writer);
        for number in 0..=store.head(own)?.sequence % 3 {
            let text = if number == 1 { "long ".repeat(LONG) } else { "short".to_owned() };
            store.append(said(store, own, entity(writer), None, &text)?)?;
        }
        let sequence = store.head(own)?.sequence;
        wait(store.sync(own))?;
        // One write for one line, so that the parent never sees a part of one.
        std::io::stdout().write_all(format!("acknowledged {writer} {sequence}\n").as_bytes())?;
    }
}

/// This binary, also when it was built anew meanwhile.
fn this_binary() -> Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    Ok(if running.exists() { running.to_owned() } else { std::env::current_exe()? })
}

fn one_round(folder: &Path, lines_until_kill: u64, acknowledged: &mut [u64]) -> Result<()> {
    let mut child = Command::new(this_binary()?)
        .args(["the_process_that_is_killed", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("the child's output")?).lines();
    let mut note = |line: &str| -> bool {
        // The test harness prints the name of the test on the same line as what the test prints first.
        let Some((_, said)) = line.split_once("acknowledged ") else { return false };
        let mut numbers = said.split(' ').filter_map(|word| word.parse::<u64>().ok());
        if let (Some(writer), Some(sequence)) = (numbers.next(), numbers.next())
            && let Some(known) = usize::try_from(writer).ok().and_then(|writer| acknowledged.get_mut(writer))
        {
            *known = sequence.max(*known);
        }
        true
    };
    let mut seen = 0;
    while seen < lines_until_kill {
        let line = lines.next().context("the child ended by itself")??;
        seen += u64::from(note(&line));
    }
    child.kill()?;
    child.wait()?;
    // What it still printed before it was gone was acknowledged as well. A last line may be cut.
    for line in lines.map_while(Result::ok) {
        note(&line);
    }
    Ok(())
}

fn check(folder: &Path, acknowledged: &[u64]) -> Result<()> {
    let examined = FjallStore::examine(folder)?;
    ensure!(examined.findings.is_empty(), "{:?}", examined.findings);
    let store = open(folder)?;
    let verified = store.verify(None)?;
    ensure!(verified.findings.is_empty(), "{:?}", verified.findings);
    for (writer, sequence) in acknowledged.iter().enumerate().skip(1) {
        let head = store.head(loom(u8::try_from(writer)?))?;
        ensure!(
            head.sequence >= *sequence,
            "loom {writer}: {sequence} was acknowledged, and the head is {}",
            head.sequence
        );
    }
    Ok(())
}

#[test]
fn a_killed_process_loses_nothing_that_was_acknowledged() -> Result<()> {
    if std::env::var_os(CHILD).is_some() {
        return Ok(());
    }
    let rounds: u64 = std::env::var("CANTRIP_CRASH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).map_err(|error| anyhow::anyhow!("{error}"))?;
    let seed =
        std::env::var("CANTRIP_CRASH_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(u64::from_le_bytes(seed));
    println!("CANTRIP_CRASH_SEED={seed} CANTRIP_CRASH_ROUNDS={rounds}");
    let mut state = seed;
    let mut record = tempfile::tempdir()?;
    let mut acknowledged = [0; WRITERS as usize + 1];
    for round in 1..=rounds {
        if round % ROUNDS_EACH == 0 {
            record = tempfile::tempdir()?;
            acknowledged.fill(0);
        }
        // xorshift: which moment is hit has to differ between rounds, no more.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // In its first round a record is there before the child is killed.
        let lines = (state % 60).max(u64::from(acknowledged.iter().all(|&sequence| sequence == 0)));
        one_round(record.path(), lines, &mut acknowledged)?;
        check(record.path(), &acknowledged).with_context(|| format!("round {round} of seed {seed}"))?;
    }
    println!("{rounds} rounds, the last record acknowledged {acknowledged:?}");
    Ok(())
}
