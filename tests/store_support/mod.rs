//! What the tests of the record share: entries to write, and a way to run a future without a runtime.

#![expect(dead_code, clippy::disallowed_methods, reason = "each test file uses a part of it, and it copies records")]

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use cantrip_runtime::adapters::store::{FjallStore, StoreOptions};
use cantrip_runtime::domain::ids::{EntityId, EntryId, LoomId, WriterKey};
use cantrip_runtime::domain::loom::{Body, Entry, Minted, Payload, Payloads, Sealed};
use cantrip_runtime::domain::members::Nonce;
use cantrip_runtime::ports::LoomStore;

pub(crate) fn loom(number: u8) -> LoomId {
    LoomId::from_parts(1_790_000_000_000 + u64::from(number), [number; 16])
}

/// What the ids of all entities of these tests commit to.
pub(crate) const MINTED: Minted = Minted { by: WriterKey::from_bytes([7; 32]), nonce: Nonce::from_bytes([7; 16]) };

pub(crate) fn entity(number: u8) -> EntityId {
    EntityId::mint(1_790_000_000_000 + u64::from(number), &MINTED.by, &MINTED.nonce)
}

pub(crate) fn open(folder: &Path) -> Result<Arc<FjallStore>> {
    Ok(FjallStore::open(folder, StoreOptions::default())?)
}

/// An entry that says something. A long text is a blob.
pub(crate) fn said(
    store: &dyn LoomStore,
    loom: LoomId,
    entity: EntityId,
    parent: Option<EntryId>,
    text: &str,
) -> Result<Sealed> {
    let mut payloads = Payloads::default();
    let text: Payload = payloads.text(text);
    made(store, loom, entity, parent, Body::intent(text, false, None), payloads)
}

/// An entry that judges another, of whichever loom.
pub(crate) fn rewarded(store: &dyn LoomStore, loom: LoomId, entity: EntityId, of: EntryId) -> Result<Sealed> {
    made(store, loom, entity, Some(of), Body::rewarded(0.5, "a test".to_owned()), Payloads::default())
}

fn made(
    store: &dyn LoomStore,
    loom: LoomId,
    entity: EntityId,
    parent: Option<EntryId>,
    body: Body,
    payloads: Payloads,
) -> Result<Sealed> {
    let sequence = store.head(loom)?.sequence + 1;
    let at_us = 1_790_000_000_000_000 + sequence;
    let entry = Entry::new(loom, (store.writer(), sequence), at_us, entity, parent, body);
    Ok(Sealed::new(entry, payloads.into_blobs())?)
}

/// Appends a chain of entries to a loom, of about this size each, a blob now and then. Synced every `batch` entries.
pub(crate) fn fill(store: &dyn LoomStore, loom: LoomId, count: u64, bytes: usize, batch: u64) -> Result<Vec<EntryId>> {
    let mut ids = Vec::new();
    for number in 1..=count {
        let length = if number % 16 == 0 { 20_000 } else { bytes };
        let text = format!("{number} ").repeat(length / 2).chars().take(length).collect::<String>();
        let sealed = said(store, loom, entity(1), ids.last().copied(), &text)?;
        ids.push(sealed.id);
        store.append(sealed)?;
        if number % batch == 0 {
            wait(store.sync(loom))?;
        }
    }
    wait(store.sync(loom))?;
    Ok(ids)
}

/// Runs a future to its end.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    use std::task::{Context, Poll, Wake, Waker};
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        std::thread::park();
    }
}

/// Copies a folder with all that is in it.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            copy_sparse(&entry.path(), &target)?;
        }
    }
    Ok(())
}

/// A fresh journal is 64 MiB, nearly all of it a hole: only what is not zeros is copied.
fn copy_sparse(from: &Path, to: &Path) -> Result<()> {
    use std::io::{Read, Seek, SeekFrom, Write};
    let mut source = std::fs::File::open(from)?;
    let mut target = std::fs::File::create(to)?;
    let length = source.metadata()?.len();
    target.set_len(length)?;
    let mut chunk = vec![0; 1 << 16];
    let mut position = 0;
    while position < length {
        let read = source.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        if chunk.iter().take(read).any(|&byte| byte != 0) {
            target.seek(SeekFrom::Start(position))?;
            target.write_all(chunk.get(..read).context("read more than there is room for")?)?;
        }
        position += read as u64;
    }
    Ok(())
}
