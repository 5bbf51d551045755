//! The committer on a sink that can fail.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use super::*;
use crate::domain::ids::{EntityId, LoomId, WriterKey};
use crate::domain::loom::{Body, Entry, Payload};

type Failure = Box<dyn Error + Send + Sync>;

/// Counts what is written, waits to be let go on, and fails at a batch.
struct Scripted {
    written: Arc<AtomicU64>,
    batches: Arc<AtomicU64>,
    go_on: Option<mpsc::Receiver<()>>,
    fails_at: u64,
    panics: bool,
}

impl Sink for Scripted {
    fn write(&mut self, items: &[Item]) -> Result<(), Failure> {
        if let Some(go_on) = &self.go_on {
            go_on.recv()?;
        }
        let batch = self.batches.fetch_add(1, Ordering::SeqCst) + 1;
        if batch == self.fails_at {
            assert!(!self.panics, "the disk is on fire");
            return Err(Box::new(std::io::Error::from(std::io::ErrorKind::StorageFull)));
        }
        self.written.fetch_add(items.len() as u64, Ordering::SeqCst);
        Ok(())
    }

    fn forget(&mut self, _: &Removal) -> Result<(), Failure> {
        Ok(())
    }

    fn is_unsettled(&self) -> bool {
        false
    }

    fn settle(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

fn log() -> Log {
    Log { loom: loom(), writer: WriterKey::from_bytes([2; 32]) }
}

fn scripted() -> Scripted {
    Scripted { written: Arc::default(), batches: Arc::default(), go_on: None, fails_at: u64::MAX, panics: false }
}

fn loom() -> LoomId {
    LoomId::from_bytes([1; 22])
}

fn sealed(sequence: u64, text: &str) -> Sealed {
    let (writer, entity) = (WriterKey::from_bytes([2; 32]), EntityId::from_bytes([3; 22]));
    let body = Body::intent(Payload::Inline(text.to_owned()), false, None);
    let entry = Entry::new(loom(), (writer, sequence), 1, entity, None, body);
    let bytes = text.as_bytes().to_vec();
    Sealed { id: crate::domain::ids::EntryId::of(&bytes), bytes, entry, blobs: Vec::new() }
}

fn append(committer: &Committer, sequence: u64) -> Result<(), StoreError> {
    committer.append(log(), sealed(sequence, "text"), Beside::default(), || Ok(Head::default()))
}

fn block_on<T>(future: impl Future<Output = T>) -> std::io::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().build()?.block_on(future))
}

#[test]
fn writers_that_wait_together_share_a_batch() -> Result<(), Failure> {
    let (go, go_on) = mpsc::sync_channel(2);
    let sink = Scripted { go_on: Some(go_on), ..scripted() };
    let (written, batches) = (Arc::clone(&sink.written), Arc::clone(&sink.batches));
    let committer = Committer::start(sink)?;
    append(&committer, 1)?;
    let first =
        committer.wait_for(&[log(), Log::received(loom())])?.ok_or_else(|| Failure::from("nothing to wait for"))?;
    // The thread has taken the first before the others come, or takes them with it: never more than two batches.
    for sequence in 2..=50 {
        append(&committer, sequence)?;
    }
    let last =
        committer.wait_for(&[log(), Log::received(loom())])?.ok_or_else(|| Failure::from("nothing to wait for"))?;
    go.send(())?;
    go.send(())?;
    assert_eq!(block_on(first)??, Ok(()));
    assert_eq!(block_on(last)??, Ok(()));
    assert_eq!(written.load(Ordering::SeqCst), 50);
    assert!(batches.load(Ordering::SeqCst) <= 2);
    assert!(committer.wait_for(&[log(), Log::received(loom())])?.is_none());
    drop(go);
    Ok(committer.close()?)
}

#[test]
fn the_first_failed_write_poisons() -> Result<(), Failure> {
    let sink = Scripted { fails_at: 2, ..scripted() };
    let written = Arc::clone(&sink.written);
    let committer = Committer::start(sink)?;
    append(&committer, 1)?;
    block_on(committer.sync(&[log(), Log::received(loom())]))??;
    append(&committer, 2)?;
    append(&committer, 3)?;
    for _ in 0..2 {
        let refused = block_on(committer.sync(&[log(), Log::received(loom())]))?;
        assert!(
            matches!(&refused, Err(StoreError::Poisoned { what }) if what.contains("no storage space")),
            "{refused:?}"
        );
    }
    assert!(matches!(append(&committer, 4), Err(StoreError::Poisoned { .. })));
    assert!(committer.pending(|_| true).is_empty());
    assert!(committer.close().is_err());
    assert_eq!(written.load(Ordering::SeqCst), 1);
    Ok(())
}

#[test]
fn a_panic_of_the_thread_poisons_and_wakes_whoever_waits() -> Result<(), Failure> {
    let committer = Committer::start(Scripted { fails_at: 1, panics: true, ..scripted() })?;
    append(&committer, 1)?;
    let refused = block_on(committer.sync(&[log(), Log::received(loom())]))?;
    assert!(matches!(&refused, Err(StoreError::Poisoned { what }) if what.contains("panicked")), "{refused:?}");
    assert!(matches!(append(&committer, 2), Err(StoreError::Poisoned { .. })));
    assert!(committer.close().is_err());
    Ok(())
}

#[test]
fn much_is_written_without_being_asked_for() -> Result<(), Failure> {
    let (go, go_on) = mpsc::sync_channel(0);
    let sink = Scripted { go_on: Some(go_on), ..scripted() };
    let written = Arc::clone(&sink.written);
    let committer = Committer::start(sink)?;
    let large = "x".repeat(EAGER_BYTES + 1);
    committer.append(log(), sealed(1, &large), Beside::default(), || Ok(Head::default()))?;
    // Ends only once the thread has taken the batch, which nobody has asked for.
    go.send(())?;
    drop(go);
    committer.close()?;
    assert_eq!(written.load(Ordering::SeqCst), 1);
    Ok(())
}

#[test]
fn what_is_left_is_written_at_the_end() -> Result<(), Failure> {
    let sink = scripted();
    let written = Arc::clone(&sink.written);
    let committer = Committer::start(sink)?;
    for sequence in 1..=10 {
        append(&committer, sequence)?;
    }
    assert_eq!(committer.pending(|sealed| sealed.entry.sequence > 8).len(), 2);
    committer.close()?;
    assert_eq!(written.load(Ordering::SeqCst), 10);
    assert!(matches!(append(&committer, 11), Err(StoreError::Poisoned { .. })));
    Ok(())
}

#[test]
fn a_queue_without_end_poisons() -> Result<(), Failure> {
    let (go, go_on) = mpsc::sync_channel(2);
    let committer = Committer::start(Scripted { go_on: Some(go_on), ..scripted() })?;
    let text = "x".repeat(16 * 1024 * 1024);
    let mut refused = false;
    // One batch may be on its way to a disk that does not answer; the next is bounded.
    for sequence in 1..=40 {
        refused |= committer.append(log(), sealed(sequence, &text), Beside::default(), || Ok(Head::default())).is_err();
    }
    assert!(refused);
    drop(go);
    assert!(committer.close().is_err());
    Ok(())
}
