//! Many writers at once: into one loom and into many, with readers and verifications in between.

#![expect(clippy::expect_used, reason = "a failed task is a failed test")]

mod store_support;

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use cantrip_runtime::adapters::store::{FjallStore, MemoryStore};
use cantrip_runtime::domain::ids::{LoomId, WriterKey};
use cantrip_runtime::ports::{LoomStore, StoreError};
use store_support::{entity, fill, loom, open, said, wait};
use tokio::sync::Mutex;

const TASKS: u8 = 64;
const EACH: u64 = 20;

/// Every task appends and syncs; `of` says into which loom. One loom's writers share its sequence, as the driver does.
async fn write(store: Arc<dyn LoomStore>, of: fn(u8) -> LoomId) {
    let turn = Arc::new(Mutex::new(()));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 1..=TASKS {
        let (store, turn) = (Arc::clone(&store), Arc::clone(&turn));
        tasks.spawn(async move {
            let own = of(task);
            let mut last = None;
            for number in 0..EACH {
                let held = turn.lock().await;
                let sealed = said(&*store, own, entity(task), last, &format!("{task} {number}")).expect("an entry");
                last = Some(sealed.id);
                store.append(sealed).expect("appended");
                drop(held);
                store.sync(own).await.expect("synced");
                let read = store.entry(last.expect("just written")).expect("readable");
                assert!(read.is_some_and(|sealed| sealed.entry.entity == Some(entity(task))));
            }
        });
    }
    tasks.join_all().await;
}

fn check(store: &dyn LoomStore, looms: u64) -> Result<()> {
    let verified = store.verify(None)?;
    assert_eq!((verified.looms, verified.entries), (looms, u64::from(TASKS) * EACH));
    ensure!(verified.findings.is_empty(), "{:?}", verified.findings);
    for task in 1..=TASKS {
        let own = store.entries_of(entity(task))?;
        let said: Vec<u64> = own.iter().map(|sealed| sealed.entry.sequence).collect();
        assert_eq!(own.len() as u64, EACH);
        ensure!(said.is_sorted(), "{said:?}");
    }
    Ok(())
}

fn both(of: fn(u8) -> LoomId, looms: u64) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
    let memory = MemoryStore::new(WriterKey::from_bytes([1; 32]));
    runtime.block_on(write(Arc::<MemoryStore>::clone(&memory), of));
    check(&*memory, looms)?;
    let folder = tempfile::tempdir()?;
    let store = open(folder.path())?;
    runtime.block_on(write(Arc::<FjallStore>::clone(&store), of));
    check(&*store, looms)?;
    store.close()?;
    drop(store);
    check(&*open(folder.path())?, looms)
}

#[test]
fn sixty_four_writers_share_one_loom() -> Result<()> {
    both(|_| loom(1), 1)
}

#[test]
fn sixty_four_writers_have_a_loom_each() -> Result<()> {
    both(loom, u64::from(TASKS))
}

#[test]
fn a_record_is_verified_and_read_while_it_is_written() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = open(folder.path())?;
    fill(&*store, loom(1), 5, 100, 1)?;
    let writing = {
        let store = Arc::clone(&store);
        std::thread::spawn(move || fill(&*store, loom(2), 400, 100, 1).map(|ids| ids.len()))
    };
    while !writing.is_finished() {
        let verified = store.verify(None)?;
        ensure!(verified.findings.is_empty(), "{:?}", verified.findings);
        let examined = FjallStore::examine(folder.path())?;
        ensure!(examined.findings.is_empty(), "{:?}", examined.findings);
        let reading = FjallStore::open_reading(folder.path())?;
        assert_eq!(reading.entries(loom(1))?.len(), 5);
        ensure!(reading.append(said(&*reading, loom(1), entity(1), None, "no")?).is_err());
    }
    let written = writing.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    assert_eq!((written, store.entries(loom(2))?.len()), (400, 400));
    Ok(())
}

#[test]
fn a_second_process_is_told_that_the_record_is_in_use() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = open(folder.path())?;
    let error = open(folder.path()).err().context("a second store")?;
    ensure!(matches!(error.downcast_ref(), Some(StoreError::Locked { .. })), "{error:#}");
    drop(store);
    open(folder.path())?;
    Ok(())
}

#[test]
fn an_entry_out_of_order_is_refused_and_nothing_else_is() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = open(folder.path())?;
    let first = said(&*store, loom(1), entity(1), None, "first")?;
    store.append(first.clone())?;
    let again = store.append(first).err().context("the same entry twice")?;
    ensure!(matches!(again, StoreError::Sequence { head: 1, got: 1, .. }), "{again}");
    store.append(said(&*store, loom(1), entity(1), None, "second")?)?;
    wait(store.sync(loom(1)))?;
    assert_eq!(store.entries(loom(1))?.len(), 2);
    let mut forged = said(&*store, loom(1), entity(1), None, "third")?;
    forged.bytes.push(0);
    ensure!(matches!(store.append(forged), Err(StoreError::Entry { .. })));
    Ok(())
}

#[test]
fn a_closed_record_takes_nothing_and_can_be_read() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = open(folder.path())?;
    let ids = fill(&*store, loom(1), 3, 100, 10)?;
    store.close()?;
    let refused = store.append(said(&*store, loom(1), entity(1), None, "late")?);
    ensure!(matches!(refused, Err(StoreError::Poisoned { .. })));
    for id in ids {
        ensure!(store.entry(id)?.is_some());
    }
    Ok(())
}

#[test]
fn what_nobody_synced_is_written_when_the_record_is_dropped() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = open(folder.path())?;
    store.append(said(&*store, loom(1), entity(1), None, "unsynced")?)?;
    drop(store);
    assert_eq!(open(folder.path())?.entries(loom(1))?.len(), 1);
    Ok(())
}
