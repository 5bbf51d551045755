//! One loom being written: gives every entry its place, time and id, and hands it to the store.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::domain::ids::{EntityId, EntryId, LoomId, WriterKey};
use crate::domain::loom::{Blob, Body, Entry, FORMAT, Payload, Sealed, Tree};
use tokio::sync::watch;

use crate::ports::{Clock, LoomStore, StoreError};

use super::copies::Copies;
use super::fault::Fault;

/// 1 MiB. A turn that records more waits for the store in between, so that a flood of gate calls cannot fill memory.
const UNSYNCED_BYTES_MAX: u64 = 1024 * 1024;

/// The looms that are written at the moment. Entities of one loom, such as an entity and its fork, go on side by side:
/// they take their places from one sequence.
#[derive(Debug, Default)]
pub(super) struct Looms(Mutex<BTreeMap<LoomId, Weak<Shared>>>);

impl Looms {
    /// Opens a loom for writing, or joins those who write it.
    pub(super) fn open(
        &self,
        id: LoomId,
        store: &Arc<dyn LoomStore>,
        clock: &Arc<dyn Clock>,
        copies: Option<&Arc<Copies>>,
    ) -> Result<Loom, Fault> {
        let mut looms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = looms.get(&id).and_then(Weak::upgrade) {
            return Ok(Loom(shared));
        }
        looms.retain(|_, shared| shared.strong_count() > 0);
        let loom = Loom::open(id, Arc::clone(store), Arc::clone(clock), copies.map(Arc::clone))?;
        looms.insert(id, Arc::downgrade(&loom.0));
        Ok(loom)
    }
}

/// One loom of a store, shared by everybody who writes into it.
#[derive(Debug, Clone)]
pub struct Loom(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    id: LoomId,
    store: Arc<dyn LoomStore>,
    clock: Arc<dyn Clock>,
    copies: Option<Arc<Copies>>,
    /// Under which key it is written, and how far that log is.
    log: Mutex<(WriterKey, u64)>,
    unsynced_bytes: AtomicU64,
    /// Counts up whenever more of it is durable.
    durable: watch::Sender<u64>,
}

impl Loom {
    fn open(
        id: LoomId,
        store: Arc<dyn LoomStore>,
        clock: Arc<dyn Clock>,
        copies: Option<Arc<Copies>>,
    ) -> Result<Self, Fault> {
        let log = Mutex::new((store.writer(), store.head(id)?.sequence));
        let (unsynced_bytes, durable) = (AtomicU64::new(0), watch::Sender::new(0));
        Ok(Self(Arc::new(Shared { id, store, clock, copies, log, unsynced_bytes, durable })))
    }

    /// Its name.
    pub fn id(&self) -> LoomId {
        self.0.id
    }

    /// Appends an entry. It is durable after the next [`Loom::sync`].
    pub(super) fn append(
        &self,
        entity: EntityId,
        parent: Option<EntryId>,
        body: Body,
        blobs: Vec<Blob>,
    ) -> Result<EntryId, Fault> {
        let shared = &*self.0;
        // Held over the hand-over, so that the store sees the entries in the order of their sequence.
        let mut log = shared.log.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = shared.store.writer();
        if log.0 != writer {
            // The node has taken a new key: it begins a new log.
            *log = (writer, shared.store.head(shared.id)?.sequence);
        }
        let entry = Entry {
            format: FORMAT,
            loom: shared.id,
            writer,
            sequence: log.1.saturating_add(1),
            at_us: shared.clock.now_us(),
            entity,
            parent,
            body,
        };
        let sealed = Sealed::new(entry, blobs)?;
        let id = sealed.id;
        let bytes = sealed.bytes.len() + sealed.blobs.iter().map(|blob| blob.bytes.len()).sum::<usize>();
        shared.store.append(sealed)?;
        log.1 += 1;
        drop(log);
        shared.unsynced_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(id)
    }

    /// Returns when everything appended before is durable, on as many nodes as the loom asks for.
    pub(super) async fn sync(&self) -> Result<(), Fault> {
        self.0.unsynced_bytes.store(0, Ordering::Relaxed);
        self.0.store.sync(self.0.id).await?;
        self.0.durable.send_modify(|count| *count = count.wrapping_add(1));
        if let Some(copies) = &self.0.copies {
            copies.grown(self.0.id);
            copies.acknowledged(self.0.id).await?;
        }
        Ok(())
    }

    /// Takes an entry that another node wrote. It is durable after the next [`Loom::sync`].
    pub(super) fn receive(&self, sealed: Sealed) -> Result<bool, StoreError> {
        self.0.store.receive(sealed)
    }

    /// Is told whenever more of it is durable.
    pub(super) fn grows(&self) -> watch::Receiver<u64> {
        self.0.durable.subscribe()
    }

    /// Waits for the store if much is on its way to it.
    pub(super) async fn relieve(&self) -> Result<(), Fault> {
        if self.0.unsynced_bytes.load(Ordering::Relaxed) > UNSYNCED_BYTES_MAX {
            self.sync().await?;
        }
        Ok(())
    }

    pub(super) fn store(&self) -> &dyn LoomStore {
        &*self.0.store
    }

    /// Reads the loom as turns.
    pub(super) fn tree(&self) -> Result<Tree, Fault> {
        read_tree(&*self.0.store, self.0.id)
    }
}

/// Reads a loom as turns.
pub(super) fn read_tree(store: &dyn LoomStore, id: LoomId) -> Result<Tree, Fault> {
    let entries = store.entries(id)?;
    let text = |payload: &Payload| store.text(payload).ok().flatten();
    Ok(Tree::read(&entries, &text)?)
}
