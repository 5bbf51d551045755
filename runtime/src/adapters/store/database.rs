//! The database: the only file that calls fjall. Opens it, writes batches, reads rows.
//!
//! It knows nothing of marks or queues. A panic inside fjall, as damage can cause, becomes an error here.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use fjall::{CompressionType, Keyspace, KeyspaceCreateOptions, PersistMode, Readable as _};
use thiserror::Error;

use super::committer::Item;
use super::rows::{self, Commit, Log, LogLine, META_COMMIT, META_LAYOUT, META_WRITER, Place, Space};
use crate::domain::ids::{BlobId, EntityId, EntryId, LoomId, WriterKey};
use crate::domain::loom::{CastHead, Head, Sealed, SignedHead};
use crate::ports::StoreError;

/// The name of the database's folder in the record's folder.
pub(super) const DATABASE_FOLDER: &str = "db";
/// 64 MiB of journals beside the one that is written, which fjall changes at 64 MB: what a reopen reads is bounded.
const JOURNAL_BYTES: u64 = 64 * 1024 * 1024;
/// 16 MiB for each keyspace. The smaller, the sooner a full journal can go, and the more often writers meet a flush.
const MEMTABLE_BYTES: u64 = 16 * 1024 * 1024;
/// 8 MiB: hot entries are few, and an idle process has to stay small.
pub(super) const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// Flushes and compactions; more would only take cores from the guests.
const WORKERS: usize = 1;

/// Why the database refused.
#[derive(Debug, Error)]
pub(super) enum DatabaseError {
    #[error("the disk refused")]
    Disk(#[source] std::io::Error),
    #[error("the database engine refused: {0:?}")]
    Engine(fjall::Error),
    #[error("the database engine stopped with: {0}")]
    Panicked(String),
    #[error("a row of `{space}` is unreadable")]
    Row { space: &'static str },
    #[error("a row of `{space}` is missing that another refers to")]
    Dangling { space: &'static str },
}

impl From<fjall::Error> for DatabaseError {
    fn from(error: fjall::Error) -> Self {
        if let fjall::Error::Io(error) = error {
            return Self::Disk(error);
        }
        Self::Engine(error)
    }
}

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        Self::Read(Box::new(error))
    }
}

/// Turns a panic of the engine into an error.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, DatabaseError>) -> Result<T, DatabaseError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic".to_owned());
        Err(DatabaseError::Panicked(text))
    })
}

/// The open database.
#[derive(Clone)]
pub(super) struct Database {
    engine: fjall::Database,
    meta: Keyspace,
    entries: Keyspace,
    ids: Keyspace,
    children: Keyspace,
    entities: Keyspace,
    heads: Keyspace,
    blobs: Keyspace,
    /// Where reads look: at this moment of the database, or at what is newest.
    moment: Option<Arc<fjall::Snapshot>>,
}

impl fmt::Debug for Database {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Database").finish_non_exhaustive()
    }
}

/// What goes into the database in one step.
pub(super) struct Batch<'a> {
    pub(super) items: &'a [Item],
    pub(super) lines: &'a [(Log, LogLine)],
    pub(super) commit: Commit,
}

impl Database {
    /// Opens or makes the database in this folder.
    pub(super) fn open(folder: &Path, cache_bytes: u64) -> Result<Self, DatabaseError> {
        guarded(|| {
            let engine = fjall::Database::builder(folder)
                .cache_size(cache_bytes)
                .max_journaling_size(JOURNAL_BYTES)
                .worker_threads(WORKERS)
                // fjall's journal checksum covers values compressed again at recovery: another version of the
                // compressor would make a sound journal unreadable.
                .journal_compression(CompressionType::None)
                .open()?;
            let keyspace = |space: Space| {
                engine.keyspace(space.name(), || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES))
            };
            Ok(Self {
                meta: keyspace(Space::Meta)?,
                entries: keyspace(Space::Entries)?,
                ids: keyspace(Space::Ids)?,
                children: keyspace(Space::Children)?,
                entities: keyspace(Space::Entities)?,
                heads: keyspace(Space::Heads)?,
                blobs: keyspace(Space::Blobs)?,
                engine,
                moment: None,
            })
        })
    }

    const fn space(&self, space: Space) -> &Keyspace {
        match space {
            Space::Meta => &self.meta,
            Space::Entries => &self.entries,
            Space::Ids => &self.ids,
            Space::Children => &self.children,
            Space::Entities => &self.entities,
            Space::Heads => &self.heads,
            Space::Blobs => &self.blobs,
        }
    }

    /// The layout and writer that the database was made with; nothing for a new one.
    pub(super) fn made_by(&self) -> Result<Option<(u16, WriterKey)>, DatabaseError> {
        let row = |_| DatabaseError::Row { space: "meta" };
        let Some(layout) = self.get(Space::Meta, META_LAYOUT)? else { return Ok(None) };
        let writer = self.get(Space::Meta, META_WRITER)?.ok_or(DatabaseError::Row { space: "meta" })?;
        let layout = u16::from_be_bytes(layout.as_ref().try_into().map_err(row)?);
        Ok(Some((layout, WriterKey::from_bytes(writer.as_ref().try_into().map_err(row)?))))
    }

    /// Marks a new database as ours, before anything else is written.
    pub(super) fn make(&self, writer: &WriterKey) -> Result<(), DatabaseError> {
        guarded(|| {
            let mut batch = self.engine.batch().durability(Some(PersistMode::SyncAll));
            batch.insert(&self.meta, META_LAYOUT, rows::LAYOUT.to_be_bytes());
            batch.insert(&self.meta, META_WRITER, writer.as_bytes().as_slice());
            Ok(batch.commit()?)
        })
    }

    /// Writes a batch. It is on disk when this returns.
    pub(super) fn commit(&self, content: &Batch<'_>) -> Result<(), DatabaseError> {
        guarded(|| {
            let mut batch = self.engine.batch().durability(Some(PersistMode::SyncData));
            for item in content.items {
                let (place, sealed) = (item.place(), &*item.sealed);
                let digest = sealed.id.digest();
                batch.insert(&self.entries, place.to_bytes(), rows::entry_value(sealed));
                if let Some(signature) = &item.beside.signature {
                    batch.insert(&self.meta, place.as_signed(), rows::signed_value(&item.head.chain, signature));
                }
                if !item.beside.casts.is_empty() {
                    batch.insert(&self.meta, place.as_covered(), CastHead::to_bytes(&item.beside.casts));
                }
                for head in &item.beside.casts {
                    batch.insert(&self.meta, rows::cast_key(head), CastHead::to_bytes(std::slice::from_ref(head)));
                }
                if item.beside.indexed {
                    continue;
                }
                batch.insert(&self.ids, digest.as_slice(), place.to_bytes());
                if let Some(parent) = &sealed.entry.parent {
                    batch.insert(&self.children, place.under_parent(parent), digest.as_slice());
                }
                if let Some(entity) = sealed.entry.entity {
                    batch.insert(&self.entities, place.under_entity(entity), digest.as_slice());
                }
                for blob in &sealed.blobs {
                    batch.insert(&self.blobs, blob.id.digest().as_slice(), blob.bytes.as_slice());
                }
            }
            for (log, line) in content.lines {
                batch.insert(&self.heads, log.to_bytes(), line.to_bytes());
            }
            batch.insert(&self.meta, META_COMMIT, content.commit.to_bytes());
            Ok(batch.commit()?)
        })
    }

    /// Keeps a row about the store itself. It is on disk when this returns.
    pub(super) fn note(&self, key: &[u8], value: &[u8]) -> Result<(), DatabaseError> {
        guarded(|| {
            let mut batch = self.engine.batch().durability(Some(PersistMode::SyncData));
            batch.insert(&self.meta, key, value);
            Ok(batch.commit()?)
        })
    }

    /// Keeps several rows about the store itself, all or none. They are on disk when this returns.
    pub(super) fn note_all(&self, rows: &[(Vec<u8>, Vec<u8>)]) -> Result<(), DatabaseError> {
        guarded(|| {
            let mut batch = self.engine.batch().durability(Some(PersistMode::SyncData));
            for (key, value) in rows {
                batch.insert(&self.meta, key.as_slice(), value.as_slice());
            }
            Ok(batch.commit()?)
        })
    }

    /// Takes the rows about the store itself out whose keys begin with one of these.
    pub(super) fn forget_notes(&self, prefixes: &[Vec<u8>]) -> Result<(), DatabaseError> {
        guarded(|| {
            let mut batch = self.engine.batch().durability(Some(PersistMode::SyncData));
            for prefix in prefixes {
                self.each(Space::Meta, prefix, |key, _| {
                    batch.remove(&self.meta, key);
                    Ok(ControlFlow::<()>::Continue(()))
                })?;
            }
            Ok(batch.commit()?)
        })
    }

    /// Keeps a large text. It is on disk with the next batch.
    pub(super) fn keep_text(&self, id: &BlobId, bytes: &[u8]) -> Result<(), DatabaseError> {
        guarded(|| Ok(self.blobs.insert(id.digest().as_slice(), bytes)?))
    }

    /// Keeps a signed head that can be signed again if it is lost.
    pub(super) fn keep_signed(&self, signed: &SignedHead) -> Result<(), DatabaseError> {
        let place = Log { loom: signed.loom, writer: signed.writer }.at(signed.head.sequence);
        guarded(|| {
            Ok(self.meta.insert(place.as_signed(), rows::signed_value(&signed.head.chain, &signed.signature))?)
        })
    }

    /// The newest cast heads of a loom.
    pub(super) fn cast_heads(&self, loom: LoomId) -> Result<Vec<CastHead>, DatabaseError> {
        let mut heads = Vec::new();
        self.each(Space::Meta, &rows::casts_of(loom), |_, value| {
            heads.extend(CastHead::parse(value).ok_or(DatabaseError::Row { space: "meta" })?);
            Ok(ControlFlow::<()>::Continue(()))
        })?;
        Ok(heads)
    }

    /// The cast heads that came with what was received, behind a place.
    pub(super) fn covered(
        &self,
        loom: LoomId,
        after: u64,
        max: usize,
    ) -> Result<Vec<(u64, Vec<CastHead>)>, DatabaseError> {
        let log = Log::received(loom);
        let (from, to) = (log.at(after.saturating_add(1)).as_covered(), log.at(u64::MAX).as_covered());
        let rows = match &self.moment {
            Some(moment) => moment.range(&self.meta, from..=to),
            None => self.meta.range(from..=to),
        };
        let row = |row: fjall::Guard| {
            let (key, value) = row.into_inner()?;
            let found = rows::covered_place(&key).zip(CastHead::parse(&value));
            let (place, heads) = found.ok_or(DatabaseError::Row { space: "meta" })?;
            Ok((place.sequence, heads))
        };
        rows.take(max).map(row).collect()
    }

    /// The newest signed head of a log at or before a place.
    pub(super) fn signed_until(&self, log: Log, sequence: u64) -> Result<Option<SignedHead>, DatabaseError> {
        let (from, to) = (rows::signed_of(log), log.at(sequence).as_signed());
        let mut rows = match &self.moment {
            Some(moment) => moment.range(&self.meta, from..=to),
            None => self.meta.range(from..=to),
        };
        rows.next_back().map(signed_row).transpose()
    }

    /// The signed heads of a log from a place on, in order.
    pub(super) fn signed_from(&self, log: Log, sequence: u64, max: usize) -> Result<Vec<SignedHead>, DatabaseError> {
        let (from, to) = (log.at(sequence).as_signed(), log.at(u64::MAX).as_signed());
        let rows = match &self.moment {
            Some(moment) => moment.range(&self.meta, from..=to),
            None => self.meta.range(from..=to),
        };
        rows.take(max).map(signed_row).collect()
    }

    /// Reads the raw entries of a log from a place on, until `visit` has enough.
    pub(super) fn raw_from(
        &self,
        log: Log,
        sequence: u64,
        mut visit: impl FnMut(u64, EntryId, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), DatabaseError> {
        let (from, to) = (log.at(sequence).to_bytes(), log.at(u64::MAX).to_bytes());
        let unreadable = || DatabaseError::Row { space: "entries" };
        let rows = match &self.moment {
            Some(moment) => moment.range(&self.entries, from..=to),
            None => self.entries.range(from..=to),
        };
        for row in rows {
            let (key, value) = row.into_inner()?;
            let place = Place::parse(&key).ok_or_else(unreadable)?;
            let (id, bytes) = rows::split_entry(&value).ok_or_else(unreadable)?;
            if visit(place.sequence, id, bytes).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Takes logs out, with everything that leads to them. Their texts stay: others may refer to them.
    pub(super) fn forget(&self, logs: &[Log], commit: Commit) -> Result<(), DatabaseError> {
        guarded(|| {
            let mut batch = self.engine.batch().durability(Some(PersistMode::SyncData));
            let received = self.received_of(logs)?;
            for log in logs {
                self.each(Space::Entries, &log.to_bytes(), |key, value| {
                    self.take_out(&mut batch, &received, (key, value))?;
                    Ok(ControlFlow::<()>::Continue(()))
                })?;
                for signed in self.signed_from(*log, 0, usize::MAX)? {
                    batch.remove(&self.meta, log.at(signed.head.sequence).as_signed());
                }
                batch.remove(&self.heads, log.to_bytes());
            }
            batch.insert(&self.meta, META_COMMIT, commit.to_bytes());
            Ok(batch.commit()?)
        })
    }

    /// Takes what is behind a place out of a log, with everything that leads to it, and keeps the entries beside the logs. `line` is what
    /// is left.
    pub(super) fn set_aside(
        &self,
        (log, after): (Log, u64),
        line: Option<LogLine>,
        commit: Commit,
    ) -> Result<(), DatabaseError> {
        guarded(|| {
            let mut batch = self.engine.batch().durability(Some(PersistMode::SyncData));
            let received = self.received_of(&[log])?;
            let mut behind = Vec::new();
            self.raw_from(log, after.saturating_add(1), |sequence, id, bytes| {
                behind.push((log.at(sequence), [id.digest().as_slice(), bytes].concat()));
                ControlFlow::Continue(())
            })?;
            for (place, value) in &behind {
                self.take_out(&mut batch, &received, (&place.to_bytes(), value))?;
                batch.insert(&self.meta, place.as_aside(), value.as_slice());
            }
            for signed in self.signed_from(log, after.saturating_add(1), usize::MAX)? {
                batch.remove(&self.meta, log.at(signed.head.sequence).as_signed());
            }
            match line {
                Some(line) => batch.insert(&self.heads, log.to_bytes(), line.to_bytes()),
                None => batch.remove(&self.heads, log.to_bytes()),
            }
            batch.insert(&self.meta, META_COMMIT, commit.to_bytes());
            Ok(batch.commit()?)
        })
    }

    /// Takes an entry out, with everything that leads to it.
    fn take_out(
        &self,
        batch: &mut fjall::OwnedWriteBatch,
        received: &HashMap<EntryId, Place>,
        (key, value): (&[u8], &[u8]),
    ) -> Result<(), DatabaseError> {
        let unreadable = || DatabaseError::Row { space: "entries" };
        let place = Place::parse(key).ok_or_else(unreadable)?;
        let (id, bytes) = rows::split_entry(value).ok_or_else(unreadable)?;
        batch.remove(&self.entries, key);
        let is_indexed_here = self.get(Space::Ids, &id.digest())?.is_some_and(|row| *row == *key);
        let Some(sealed) = Sealed::open(id, bytes.to_vec()).ok().filter(|_| is_indexed_here) else { return Ok(()) };
        batch.remove(&self.ids, id.digest().as_slice());
        if let Some(entity) = sealed.entry.entity {
            batch.remove(&self.entities, place.under_entity(entity));
        }
        if let Some(parent) = &sealed.entry.parent {
            batch.remove(&self.children, place.under_parent(parent));
        }
        // It came with a cast too, and stays there.
        let Some(place) = received.get(&id) else { return Ok(()) };
        batch.insert(&self.ids, id.digest().as_slice(), place.to_bytes());
        if let Some(entity) = sealed.entry.entity {
            batch.insert(&self.entities, place.under_entity(entity), id.digest().as_slice());
        }
        if let Some(parent) = &sealed.entry.parent {
            batch.insert(&self.children, place.under_parent(parent), id.digest().as_slice());
        }
        Ok(())
    }

    /// Where the entries are that came outside of logs, in the looms of these logs.
    fn received_of(&self, logs: &[Log]) -> Result<HashMap<EntryId, Place>, DatabaseError> {
        let goes = |loom: &LoomId| logs.contains(&Log::received(*loom));
        let looms: BTreeSet<LoomId> = logs.iter().map(|log| log.loom).filter(|loom| !goes(loom)).collect();
        let mut places = HashMap::new();
        for loom in looms {
            let log = Log::received(loom);
            self.raw_from(log, 1, |sequence, id, _| {
                places.entry(id).or_insert(log.at(sequence));
                ControlFlow::Continue(())
            })?;
        }
        Ok(places)
    }

    /// The database as it is now, whatever is written later.
    pub(super) fn frozen(&self) -> Self {
        Self { moment: Some(Arc::new(self.engine.snapshot())), ..self.clone() }
    }

    /// Writes how far the marks were synced, when nothing else is to be written any more.
    pub(super) fn settle(&self, commit: Commit) -> Result<(), DatabaseError> {
        guarded(|| {
            let mut batch = self.engine.batch().durability(Some(PersistMode::SyncData));
            batch.insert(&self.meta, META_COMMIT, commit.to_bytes());
            Ok(batch.commit()?)
        })
    }

    pub(super) fn get(&self, space: Space, key: &[u8]) -> Result<Option<fjall::Slice>, DatabaseError> {
        let keyspace = self.space(space);
        Ok(match &self.moment {
            Some(moment) => moment.get(keyspace, key)?,
            None => keyspace.get(key)?,
        })
    }

    /// The first key of a keyspace at or after this one.
    pub(super) fn first_from(&self, space: Space, key: &[u8]) -> Result<Option<fjall::Slice>, DatabaseError> {
        let keyspace = self.space(space);
        let mut rows = match &self.moment {
            Some(moment) => moment.range(keyspace, key..),
            None => keyspace.range(key..),
        };
        Ok(rows.next().map(fjall::Guard::key).transpose()?)
    }

    /// Reads the rows whose key begins with `prefix`, in order, until `visit` has enough.
    pub(super) fn each<B>(
        &self,
        space: Space,
        prefix: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<B>, DatabaseError>,
    ) -> Result<Option<B>, DatabaseError> {
        let keyspace = self.space(space);
        let rows = match &self.moment {
            Some(moment) => moment.prefix(keyspace, prefix),
            None => keyspace.prefix(prefix),
        };
        for row in rows {
            let (key, value) = row.into_inner()?;
            if let ControlFlow::Break(found) = visit(&key, &value)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    pub(super) fn commit_row(&self) -> Result<Commit, DatabaseError> {
        match self.get(Space::Meta, META_COMMIT)? {
            Some(row) => Commit::parse(&row).ok_or(DatabaseError::Row { space: "meta" }),
            None => Ok(Commit::default()),
        }
    }

    pub(super) fn line(&self, log: Log) -> Result<Option<LogLine>, DatabaseError> {
        match self.get(Space::Heads, &log.to_bytes())? {
            Some(row) => LogLine::parse(&row).map(Some).ok_or(DatabaseError::Row { space: "heads" }),
            None => Ok(None),
        }
    }

    pub(super) fn head(&self, log: Log) -> Result<Head, DatabaseError> {
        Ok(self.line(log)?.map(|line| line.head).unwrap_or_default())
    }

    /// The logs whose key begins with `prefix`.
    pub(super) fn lines(&self, prefix: &[u8]) -> Result<Vec<(Log, LogLine)>, DatabaseError> {
        let mut lines = Vec::new();
        self.each(Space::Heads, prefix, |key, value| {
            let parsed = Log::parse(key).zip(LogLine::parse(value));
            lines.push(parsed.ok_or(DatabaseError::Row { space: "heads" })?);
            Ok(ControlFlow::<()>::Continue(()))
        })?;
        Ok(lines)
    }

    pub(super) fn entry(&self, id: EntryId) -> Result<Option<Sealed>, StoreError> {
        let Some(place) = self.get(Space::Ids, &id.digest())? else { return Ok(None) };
        let row = self.get(Space::Entries, &place)?.ok_or(DatabaseError::Dangling { space: "entries" })?;
        let (found, bytes) = rows::split_entry(&row).ok_or(DatabaseError::Row { space: "entries" })?;
        if found != id {
            return Err(DatabaseError::Dangling { space: "entries" }.into());
        }
        open_entry(id, bytes).map(Some)
    }

    /// All entries of a loom in the order of their keys.
    pub(super) fn entries(&self, loom: LoomId) -> Result<Vec<(Place, Sealed)>, StoreError> {
        let mut raw = Vec::new();
        let unreadable = || DatabaseError::Row { space: "entries" };
        self.each(Space::Entries, loom.as_bytes(), |key, value| {
            let place = Place::parse(key).ok_or_else(unreadable)?;
            let (id, bytes) = rows::split_entry(value).ok_or_else(unreadable)?;
            raw.push((place, id, bytes.to_vec()));
            Ok(ControlFlow::<()>::Continue(()))
        })?;
        raw.into_iter().map(|(place, id, bytes)| Ok((place, open_entry(id, &bytes)?))).collect()
    }

    /// The entries of a log behind a place, at most so many.
    pub(super) fn entries_after(&self, log: Log, after: u64, max: usize) -> Result<Vec<(u64, Sealed)>, StoreError> {
        let from = log.at(after.saturating_add(1)).to_bytes();
        let unreadable = || DatabaseError::Row { space: "entries" };
        let rows = match &self.moment {
            Some(moment) => moment.range(&self.entries, from..),
            None => self.entries.range(from..),
        };
        let mut found = Vec::new();
        for row in rows.take(max) {
            let (key, value) = row.into_inner().map_err(DatabaseError::from)?;
            let place = Place::parse(&key).ok_or_else(unreadable)?;
            if place.log != log {
                break;
            }
            let (id, bytes) = rows::split_entry(&value).ok_or_else(unreadable)?;
            found.push((place.sequence, open_entry(id, bytes)?));
        }
        Ok(found)
    }

    /// The places and ids in an index below a prefix, in the order of their places.
    pub(super) fn indexed(&self, space: Space, prefix: &[u8]) -> Result<Vec<(Place, EntryId)>, DatabaseError> {
        let mut found = Vec::new();
        let unreadable = || DatabaseError::Row { space: space.name() };
        self.each(space, prefix, |key, value| {
            let place = key.strip_prefix(prefix).and_then(Place::parse).ok_or_else(unreadable)?;
            found.push((place, rows::digest(value).ok_or_else(unreadable)?));
            Ok(ControlFlow::<()>::Continue(()))
        })?;
        Ok(found)
    }

    /// The entry at a place that an index names.
    pub(super) fn entry_at(&self, place: Place, id: EntryId) -> Result<Sealed, StoreError> {
        let row = self.get(Space::Entries, &place.to_bytes())?.ok_or(DatabaseError::Dangling { space: "entries" })?;
        let (found, bytes) = rows::split_entry(&row).ok_or(DatabaseError::Row { space: "entries" })?;
        if found != id {
            return Err(DatabaseError::Dangling { space: "entries" }.into());
        }
        open_entry(id, bytes)
    }

    pub(super) fn loom_of(&self, entity: EntityId) -> Result<Option<LoomId>, DatabaseError> {
        self.each(Space::Entities, entity.as_bytes(), |key, _| {
            let (_, place) =
                rows::split_indexed::<{ rows::ENTITY_BYTES }>(key).ok_or(DatabaseError::Row { space: "entities" })?;
            Ok(ControlFlow::Break(place.log.loom))
        })
    }

    pub(super) fn has(&self, space: Space, digest: &[u8; 32]) -> Result<bool, DatabaseError> {
        Ok(self.get(space, digest)?.is_some())
    }

    pub(super) fn blob(&self, id: BlobId) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(bytes) = self.get(Space::Blobs, &id.digest())? else { return Ok(None) };
        if BlobId::of(&bytes) != id {
            return Err(StoreError::Blob { id });
        }
        Ok(Some(bytes.to_vec()))
    }
}

fn signed_row(row: fjall::Guard) -> Result<SignedHead, DatabaseError> {
    let (key, value) = row.into_inner()?;
    rows::signed_head(&key, &value).ok_or(DatabaseError::Row { space: "meta" })
}

fn open_entry(id: EntryId, bytes: &[u8]) -> Result<Sealed, StoreError> {
    Sealed::open(id, bytes.to_vec()).map_err(|source| StoreError::Entry { id, source })
}
