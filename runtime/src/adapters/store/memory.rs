//! The record in memory: the same contract without a disk, for tests and scratch casts.
//!
//! Kept simple on purpose: it is what the durable store is compared with.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::check::check_whole;
use super::durable::bare;
use super::findings::{self, Findings};
use super::rows::{Log, Place};
use crate::domain::ids::{BlobId, EntityId, EntryId, LoomId, WriterKey};
use crate::domain::loom::{Head, Sealed};
use crate::ports::{BoxFuture, LoomStore, LoomSummary, StoreError, Verified};

/// The record in memory.
#[derive(Debug)]
pub struct MemoryStore {
    writer: WriterKey,
    looms: Mutex<Looms>,
}

#[derive(Debug, Default)]
struct Looms {
    logs: BTreeMap<LoomId, Vec<Sealed>>,
    heads: HashMap<LoomId, Head>,
    ids: HashMap<EntryId, Place>,
    entities: HashMap<EntityId, Vec<Place>>,
    children: HashMap<EntryId, Vec<Place>>,
    blobs: HashMap<BlobId, Vec<u8>>,
}

impl Looms {
    fn at(&self, place: &Place) -> Option<&Sealed> {
        let index = usize::try_from(place.sequence.checked_sub(1)?).ok()?;
        self.logs.get(&place.log.loom)?.get(index)
    }

    fn check(&self, place: Place, sealed: &Sealed, findings: &mut Findings) {
        if let Err(error) = Sealed::open(sealed.id, sealed.bytes.clone()) {
            findings.place(place, Some(sealed.id), super::committer::chain(&error));
        }
        if let Some(what) = findings::misplaced(sealed, place) {
            findings.place(place, Some(sealed.id), what);
        }
        if let Some(parent) = &sealed.entry.parent {
            let what = match self.ids.get(parent) {
                None => Some(format!("its parent {parent} is missing")),
                Some(at) if at.log.loom != place.log.loom && !findings::may_cross_looms(&sealed.entry.body) => {
                    Some(format!("its parent {parent} belongs to loom {}", at.log.loom))
                }
                Some(_) => None,
            };
            if let Some(what) = what {
                findings.place(place, Some(sealed.id), what);
            }
        }
        let known: HashSet<[u8; 32]> = self.blobs.keys().map(BlobId::digest).collect();
        for (digest, link) in findings::blob_links(&sealed.bytes) {
            if findings.meet_blob(digest) && !known.contains(&digest) {
                findings.place(place, Some(sealed.id), format!("the text {link} it refers to is missing"));
            }
        }
    }
}

impl MemoryStore {
    /// An empty record of this writer.
    ///
    /// ```
    /// use cantrip_runtime::adapters::store::MemoryStore;
    /// use cantrip_runtime::domain::ids::WriterKey;
    /// use cantrip_runtime::ports::LoomStore;
    ///
    /// let store = MemoryStore::new(WriterKey::from_bytes([7; 32]));
    /// assert_eq!(store.looms().map(|looms| looms.len()).ok(), Some(0));
    /// ```
    pub fn new(writer: WriterKey) -> Arc<Self> {
        Arc::new(Self { writer, looms: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Looms> {
        self.looms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LoomStore for MemoryStore {
    fn writer(&self) -> WriterKey {
        self.writer
    }

    fn head(&self, loom: LoomId) -> Result<Head, StoreError> {
        Ok(self.lock().heads.get(&loom).copied().unwrap_or_default())
    }

    fn append(&self, mut sealed: Sealed) -> Result<(), StoreError> {
        check_whole(&sealed, self.writer)?;
        let mut looms = self.lock();
        let loom = sealed.entry.loom;
        let head = looms.heads.get(&loom).copied().unwrap_or_default();
        let after = head.after(&sealed.id);
        if sealed.entry.sequence != after.sequence {
            return Err(StoreError::Sequence { loom, head: head.sequence, got: sealed.entry.sequence });
        }
        let place = Place::of(&sealed);
        looms.heads.insert(loom, after);
        looms.ids.insert(sealed.id, place);
        looms.entities.entry(sealed.entry.entity).or_default().push(place);
        if let Some(parent) = sealed.entry.parent {
            looms.children.entry(parent).or_default().push(place);
        }
        looms.blobs.extend(std::mem::take(&mut sealed.blobs).into_iter().map(|blob| (blob.id, blob.bytes)));
        looms.logs.entry(loom).or_default().push(sealed);
        Ok(())
    }

    fn sync(&self, _: LoomId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn entry(&self, id: EntryId) -> Result<Option<Sealed>, StoreError> {
        let looms = self.lock();
        Ok(looms.ids.get(&id).and_then(|place| looms.at(place)).map(bare))
    }

    fn entries(&self, loom: LoomId) -> Result<Vec<Sealed>, StoreError> {
        Ok(self.lock().logs.get(&loom).into_iter().flatten().map(bare).collect())
    }

    fn entries_of(&self, entity: EntityId) -> Result<Vec<Sealed>, StoreError> {
        let looms = self.lock();
        let mut places = looms.entities.get(&entity).cloned().unwrap_or_default();
        places.sort();
        Ok(places.iter().filter_map(|place| looms.at(place)).map(bare).collect())
    }

    fn children(&self, id: EntryId) -> Result<Vec<EntryId>, StoreError> {
        let looms = self.lock();
        let mut places = looms.children.get(&id).cloned().unwrap_or_default();
        places.sort();
        Ok(places.iter().filter_map(|place| looms.at(place)).map(|sealed| sealed.id).collect())
    }

    fn loom_of(&self, entity: EntityId) -> Result<Option<LoomId>, StoreError> {
        let looms = self.lock();
        Ok(looms.entities.get(&entity).and_then(|places| places.iter().min()).map(|place| place.log.loom))
    }

    fn blob(&self, id: BlobId) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.lock().blobs.get(&id).cloned())
    }

    fn looms(&self) -> Result<Vec<LoomSummary>, StoreError> {
        let looms = self.lock();
        let summary = |(loom, entries): (&LoomId, &Vec<Sealed>)| {
            let first = entries.first()?;
            Some(LoomSummary {
                loom: *loom,
                entries: entries.len() as u64,
                first_us: first.entry.at_us,
                last_us: entries.iter().map(|sealed| sealed.entry.at_us).max()?,
                root: first.entry.entity,
            })
        };
        Ok(looms.logs.iter().rev().filter_map(summary).collect())
    }

    fn verify(&self, loom: Option<LoomId>) -> Result<Verified, StoreError> {
        let looms = self.lock();
        let mut findings = Findings::default();
        for (id, entries) in looms.logs.iter().filter(|(id, _)| loom.is_none_or(|loom| loom == **id)) {
            findings.count_loom(*id);
            let log = Log { loom: *id, writer: self.writer };
            let mut head = Head::default();
            for sealed in entries {
                head = head.after(&sealed.id);
                findings.count_entry();
                looms.check(log.at(head.sequence), sealed, &mut findings);
            }
            if looms.heads.get(id) != Some(&head) {
                findings.loom(*id, "the head is not what its entries say");
            }
        }
        if loom.is_none() {
            for (id, bytes) in &looms.blobs {
                if findings.meet_blob(id.digest()) && BlobId::of(bytes) != *id {
                    findings.store("a text that no entry refers to is damaged");
                }
            }
        }
        Ok(findings.finish())
    }
}
