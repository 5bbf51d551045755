//! The durable store: the port on top of database, committer and marks.
//!
//! A read sees what this process handed over, durable or not, so that the driver never waits to read its own entries;
//! only [`LoomStore::sync`] says what is durable.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::attested::Checks;
use super::check::{check_received, check_whole};
use super::committer::{Beside, Committer};
use super::database::{CACHE_BYTES, Database};
use super::findings::Findings;
use super::key::NodeKey;
use super::marks::Marks;
use super::open::{self, Folder, Opened};
use super::proved::ProofChecks;
use super::reading::ReadingStore;
use super::rows::{self, Log, LogLine, Place, Space};
use super::{durable_copies, examine, journal, manifest, verify};
use crate::domain::ids::{BlobId, EntityId, EntryId, LoomId, WriterKey};
use crate::domain::loom::{CastBatch, CastChain, CastHead, EquivocationProof, Head, Sealed};
use crate::ports::{BoxFuture, By, LogState, LoomStore, LoomSummary, StoreError, Verified};

/// What can be chosen when a record is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreOptions {
    /// How much memory is used to keep what was read, in bytes.
    pub cache_bytes: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { cache_bytes: CACHE_BYTES }
    }
}

/// The record on disk, open for writing. One process at a time.
#[derive(Debug)]
pub struct FjallStore {
    pub(super) folder: PathBuf,
    pub(super) key: RwLock<Arc<NodeKey>>,
    pub(super) database: Database,
    pub(super) committer: Committer,
    pub(super) receiving: Mutex<()>,
    pub(super) renewing: Mutex<()>,
    pub(super) checks: Checks,
    pub(super) proof_checks: ProofChecks,
    _lock: File,
}

impl FjallStore {
    /// Opens the record in a folder, or makes one, with the key of its node.
    ///
    /// # Errors
    /// A folder that cannot be used, is in use, or holds less than was acknowledged: the error then names what is
    /// missing, and nothing was changed.
    ///
    /// ```
    /// # use cantrip_runtime::adapters::store::{FjallStore, StoreOptions};
    /// # use cantrip_runtime::ports::LoomStore;
    /// # let folder = tempfile::tempdir()?;
    /// let store = FjallStore::open(folder.path(), StoreOptions::default())?;
    /// assert!(store.looms()?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(folder: &Path, options: StoreOptions) -> Result<Arc<Self>, StoreError> {
        let Opened { key, database, committer, lock } = open::open(folder, options.cache_bytes)?;
        Ok(Arc::new(Self {
            folder: folder.to_owned(),
            key: RwLock::new(Arc::new(key)),
            database,
            committer,
            receiving: Mutex::default(),
            renewing: Mutex::default(),
            checks: Checks::default(),
            proof_checks: ProofChecks::default(),
            _lock: lock,
        }))
    }

    /// Opens a copy of the record for reading, also while another process writes to it.
    ///
    /// # Errors
    /// No record there, or one that cannot be read.
    pub fn open_reading(folder: &Path) -> Result<Arc<ReadingStore>, StoreError> {
        ReadingStore::open(folder).map(Arc::new)
    }

    /// Verifies a record without opening it: whatever can be read is read, whatever is wrong is listed, and nothing of
    /// the record is changed. Works while another process writes to it.
    ///
    /// # Errors
    /// No record there, or a folder that cannot be read at all.
    pub fn examine(folder: &Path) -> Result<Verified, StoreError> {
        examine::examine(folder)
    }

    /// Writes what is left and syncs everything. Nothing is taken afterwards. Dropping the store does the same.
    ///
    /// # Errors
    /// The write that failed, now or earlier.
    pub fn close(&self) -> Result<(), StoreError> {
        self.committer.close()
    }

    fn log(&self, loom: LoomId) -> Log {
        Log { loom, writer: self.writer() }
    }

    pub(super) fn durable_head(&self, log: Log) -> Result<Head, StoreError> {
        Ok(self.database.head(log)?)
    }

    /// The places and ids in an index, with what is on its way.
    fn indexed(
        &self,
        space: Space,
        prefix: &[u8],
        belongs: impl FnMut(&Sealed) -> bool,
    ) -> Result<Vec<(Place, EntryId)>, StoreError> {
        let pending = self.committer.pending(belongs);
        let mut found = self.database.indexed(space, prefix)?;
        found.extend(pending.iter().map(|item| (item.place(), item.sealed.id)));
        let own = self.writer();
        found.sort_by_key(|(place, _)| order(own, place));
        let mut met = HashSet::new();
        found.retain(|(_, id)| met.insert(*id));
        Ok(found)
    }

    /// Whether an entry is here, in whatever log.
    pub(super) fn is_known(&self, id: EntryId) -> Result<bool, StoreError> {
        Ok(self.pending_entry(id).is_some() || self.database.has(Space::Ids, &id.digest())?)
    }

    fn pending_entry(&self, id: EntryId) -> Option<Sealed> {
        self.committer.pending(|sealed| sealed.id == id).first().map(|item| bare(&item.sealed))
    }
}

impl Drop for FjallStore {
    fn drop(&mut self) {
        // Whoever wants to know whether it was written closes or syncs.
        drop(self.close());
    }
}

/// By loom, this node's log first, then as the logs run.
pub(super) fn order(own: WriterKey, place: &Place) -> (LoomId, bool, WriterKey, u64) {
    (place.log.loom, place.log.writer != own, place.log.writer, place.sequence)
}

/// Entries of a loom in the order in which they are read.
pub(super) fn in_order(own: WriterKey, mut entries: Vec<(Place, Sealed)>) -> Vec<Sealed> {
    entries.sort_by_key(|(place, _)| order(own, place));
    // What came outside of its writer's log and then in it is there twice.
    let mut met = HashSet::with_capacity(entries.len());
    entries.retain(|(_, sealed)| met.insert(sealed.id));
    entries.into_iter().map(|(_, sealed)| sealed).collect()
}

/// An entry as it is read: without the texts beside it.
pub(super) fn bare(sealed: &Sealed) -> Sealed {
    Sealed { id: sealed.id, bytes: sealed.bytes.clone(), entry: sealed.entry.clone(), blobs: Vec::new() }
}

/// Where an entry is kept beside the logs.
fn aside_key(loom: LoomId, sealed: &Sealed) -> Vec<u8> {
    Log { loom, writer: sealed.entry.writer }.at(sealed.entry.sequence).as_aside()
}

impl LoomStore for FjallStore {
    fn writer(&self) -> WriterKey {
        self.key().writer()
    }

    fn head(&self, loom: LoomId) -> Result<Head, StoreError> {
        let log = self.log(loom);
        self.committer.head(log, || self.durable_head(log))
    }

    fn append(&self, sealed: Sealed) -> Result<(), StoreError> {
        check_whole(&sealed, self.writer())?;
        let log = self.log(sealed.entry.loom);
        self.committer.append(log, sealed, Beside::default(), || self.durable_head(log))
    }

    fn receive(&self, batch: CastBatch) -> Result<(), StoreError> {
        // One after the other, so that an entry that comes twice at the same time is indexed once.
        let _turn = self.receiving.lock().unwrap_or_else(PoisonError::into_inner);
        let CastBatch { loom, entries, heads } = batch;
        let log = Log::received(loom);
        let mut items = Vec::with_capacity(entries.len());
        for sealed in entries {
            let indexed = self.is_known(sealed.id)?;
            if !indexed {
                check_received(&sealed, self.writer(), &|id| Ok(self.blob(id)?.is_some()))?;
            }
            let (writer, sequence) = (sealed.entry.writer, sealed.entry.sequence);
            if self.divides_at(loom, writer)?.is_some_and(|place| place <= sequence) {
                return Err(StoreError::Cheater { loom, writer });
            }
            items.push((sealed, Beside { indexed, ..Beside::default() }));
        }
        let Some((_, beside)) = items.last_mut() else { return Ok(()) };
        beside.casts = heads;
        self.committer.append_all(log, items, || self.durable_head(log))
    }

    fn sign_cast(&self, loom: LoomId, cast: EntityId, at: CastChain) -> Result<CastHead, StoreError> {
        Ok(self.key().sign_cast(loom, cast, at))
    }

    fn cast_heads(&self, loom: LoomId) -> Result<Vec<CastHead>, StoreError> {
        Ok(self.database.cast_heads(loom)?)
    }

    fn covered(&self, loom: LoomId, after: u64, max: usize) -> Result<Vec<(u64, Vec<CastHead>)>, StoreError> {
        Ok(self.database.covered(loom, after, max)?)
    }

    fn sync(&self, loom: LoomId) -> BoxFuture<'_, Result<(), StoreError>> {
        let logs = [self.log(loom), Log::received(loom)];
        Box::pin(async move { self.committer.sync(&logs).await })
    }

    fn recorded(&self, loom: LoomId, by: By, after: u64, max: usize) -> Result<Vec<(u64, Sealed)>, StoreError> {
        let log = match by {
            By::ThisNode => self.log(loom),
            By::Others => Log::received(loom),
            By::Log(writer) => Log { loom, writer },
        };
        self.database.entries_after(log, after, max)
    }

    fn entry(&self, id: EntryId) -> Result<Option<Sealed>, StoreError> {
        match self.pending_entry(id) {
            Some(sealed) => Ok(Some(sealed)),
            None => self.database.entry(id),
        }
    }

    fn entries(&self, loom: LoomId) -> Result<Vec<Sealed>, StoreError> {
        let pending = self.committer.pending(|sealed| sealed.entry.loom == loom);
        let mut entries = self.database.entries(loom)?;
        entries.extend(pending.iter().map(|item| (item.place(), bare(&item.sealed))));
        Ok(in_order(self.writer(), entries))
    }

    fn entries_of(&self, entity: EntityId) -> Result<Vec<Sealed>, StoreError> {
        let found = self.indexed(Space::Entities, entity.as_bytes(), |sealed| sealed.entry.entity == Some(entity))?;
        let read = |(place, id)| match self.pending_entry(id) {
            Some(sealed) => Ok(sealed),
            None => self.database.entry_at(place, id),
        };
        found.into_iter().map(read).collect()
    }

    fn children(&self, id: EntryId) -> Result<Vec<EntryId>, StoreError> {
        let found = self.indexed(Space::Children, &id.digest(), |sealed| sealed.entry.parent == Some(id))?;
        Ok(found.into_iter().map(|(_, child)| child).collect())
    }

    fn loom_of(&self, entity: EntityId) -> Result<Option<LoomId>, StoreError> {
        let pending = self.committer.pending(|sealed| sealed.entry.entity == Some(entity));
        let durable = self.database.loom_of(entity)?;
        Ok(durable.or_else(|| pending.first().map(|item| item.log.loom)))
    }

    fn blob(&self, id: BlobId) -> Result<Option<Vec<u8>>, StoreError> {
        let pending = self.committer.pending(|sealed| sealed.blobs.iter().any(|blob| blob.id == id));
        let mut blobs = pending.iter().flat_map(|item| &item.sealed.blobs);
        match blobs.find(|blob| blob.id == id) {
            Some(blob) => Ok(Some(blob.bytes.clone())),
            None => self.database.blob(id),
        }
    }

    fn logs(&self, loom: LoomId) -> Result<Vec<LogState>, StoreError> {
        durable_copies::logs(&self.database, loom)
    }

    fn formerly(&self) -> Result<Vec<WriterKey>, StoreError> {
        durable_copies::formerly(&self.database)
    }

    fn aside(&self, loom: LoomId) -> Result<Vec<Sealed>, StoreError> {
        durable_copies::aside(&self.database, loom)
    }

    fn keep_aside(&self, loom: LoomId, entries: &[Sealed]) -> Result<(), StoreError> {
        let row = |sealed: &Sealed| (aside_key(loom, sealed), [sealed.id.digest().as_slice(), &sealed.bytes].concat());
        Ok(self.database.note_all(&entries.iter().map(row).collect::<Vec<_>>())?)
    }

    fn written_anew(&self, loom: LoomId, heads: &[(WriterKey, Head)], entries: &[Sealed]) -> Result<(), StoreError> {
        // In this order: a process that ends between the two writes what is there already anew, and finds that it is.
        self.database.note_all(&heads.iter().map(|head| (rows::anew(loom, *head), Vec::new())).collect::<Vec<_>>())?;
        Ok(self.database.forget_notes(&entries.iter().map(|it| aside_key(loom, it)).collect::<Vec<_>>())?)
    }

    fn was_written_anew(&self, loom: LoomId, head: (WriterKey, Head)) -> Result<bool, StoreError> {
        durable_copies::was_written_anew(&self.database, loom, head)
    }

    fn proofs(&self) -> Result<Vec<EquivocationProof>, StoreError> {
        durable_copies::proofs(&self.database)
    }

    fn accuse(&self, proof: &EquivocationProof) -> Result<bool, StoreError> {
        self.keep_proof(proof)
    }

    fn looms(&self) -> Result<Vec<LoomSummary>, StoreError> {
        let pending = self.committer.pending(|_| true);
        let now = self.database.frozen();
        let mut lines: BTreeMap<Log, LogLine> = now.lines(&[])?.into_iter().collect();
        for item in pending {
            let before = lines.get(&item.log).copied();
            if before.is_none_or(|line| line.head.sequence < item.head.sequence) {
                lines.insert(item.log, LogLine::after(before, &item.sealed, item.head));
            }
        }
        Ok(rows::summaries(lines))
    }

    fn verify(&self, loom: Option<LoomId>) -> Result<Verified, StoreError> {
        let folder = Folder(&self.folder);
        let mut findings = Findings::default();
        let commit = self.database.commit_row()?;
        let marks = Marks::load(&self.folder).map_err(folder.cannot("read the head marks"))?;
        let scan = journal::scan(&folder.database()).map_err(folder.cannot("read the journal"))?;
        for what in &scan.damage {
            findings.store(what.as_str());
        }
        if let Some(found) = scan.commit.filter(|found| found.number < commit.number) {
            findings
                .store(format!("the journal ends at commit {}, and commit {} is durable", found.number, commit.number));
        }
        for what in manifest::damage(&folder.database()) {
            findings.store(what);
        }
        verify::run(&self.database.frozen(), marks.as_ref(), commit.marked, loom, &mut findings);
        Ok(findings.finish())
    }
}
