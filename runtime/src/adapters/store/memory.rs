//! The record in memory: the same contract without a disk, for tests and scratch casts.
//!
//! Kept simple on purpose: it is what the durable store is compared with.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::attested::Checks;
use super::casts;
use super::check::{check_received, check_whole};
use super::durable::{bare, in_order, order};
use super::findings::{self, Findings};
use super::key::NodeKey;
use super::rows::{self, Log, LogLine, Place};
use crate::domain::ids::{BlobId, EntityId, EntryId, LoomId, WriterKey};
use crate::domain::loom::{CastBatch, CastChain, CastHead, EquivocationProof, Head, Sealed, SignedFence, SignedHead};
use crate::domain::members::{Attestation, CheckedAttestation, CheckedProof, ProofCount};
use crate::ports::{BoxFuture, By, LogState, LoomStore, LoomSummary, StoreError, Verified};

/// The record in memory.
#[derive(Debug)]
pub struct MemoryStore {
    writer: WriterKey,
    /// Signs this node's logs; without one they cannot be copied.
    pub(super) key: Option<NodeKey>,
    looms: Mutex<Looms>,
    pub(super) checks: Checks,
}

/// What vouches for one key, by kind and tag.
pub(super) type Kept = BTreeMap<(u8, [u8; 32]), (Attestation, CheckedAttestation)>;

#[derive(Debug, Default)]
pub(super) struct Looms {
    pub(super) logs: BTreeMap<Log, Vec<Sealed>>,
    pub(super) heads: HashMap<Log, Head>,
    /// The chained hash after each entry.
    chains: HashMap<Log, Vec<[u8; 32]>>,
    ids: HashMap<EntryId, Place>,
    entities: HashMap<EntityId, Vec<Place>>,
    children: HashMap<EntryId, Vec<Place>>,
    pub(super) blobs: HashMap<BlobId, Vec<u8>>,
    pub(super) signed: BTreeMap<Place, SignedHead>,
    pub(super) proofs: BTreeMap<(LoomId, WriterKey), EquivocationProof>,
    /// What vouches for keys in a loom, and for this node's own key in all of them, each with its tag.
    pub(super) attested: BTreeMap<(LoomId, WriterKey), Kept>,
    pub(super) own: Kept,
    /// The proved entries of each loom, by the digests of their ids.
    pub(super) proved: BTreeMap<LoomId, (ProofCount, BTreeMap<[u8; 32], CheckedProof>)>,
    /// The heads that came with what was received, by the place of the last entry that came with them.
    pub(super) covered: BTreeMap<Place, Vec<CastHead>>,
    pub(super) casts: BTreeMap<(LoomId, WriterKey, EntityId), CastHead>,
    pub(super) fences: BTreeMap<(LoomId, EntityId), SignedFence>,
}

impl Looms {
    fn at(&self, place: &Place) -> Option<&Sealed> {
        let index = usize::try_from(place.sequence.checked_sub(1)?).ok()?;
        self.logs.get(&place.log)?.get(index)
    }

    fn check(&self, place: Place, sealed: &Sealed, findings: &mut Findings) {
        if let Err(error) = Sealed::open(sealed.id, sealed.bytes.clone()) {
            findings.place(place, Some(sealed.id), super::committer::chain(&error));
        }
        if let Some(what) = findings::misplaced(sealed, place) {
            findings.place(place, Some(sealed.id), what);
        }
        if let Err(unminted) = sealed.entry.check_minted() {
            findings.place(place, Some(sealed.id), unminted.to_string());
        }
        if let Some(parent) = &sealed.entry.parent {
            let what = match self.ids.get(parent) {
                None if findings::may_follow_what_is_elsewhere(&sealed.entry.body) => None,
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
        for (digest, link) in findings::blob_links(&sealed.bytes) {
            if findings.meet_blob(digest) && !self.blobs.contains_key(&BlobId::from_digest(digest)) {
                findings.place(place, Some(sealed.id), format!("the text {link} it refers to is missing"));
            }
        }
    }
}

impl Looms {
    pub(super) fn add(&mut self, log: Log, head: Head, mut sealed: Sealed) {
        let place = log.at(head.sequence);
        self.heads.insert(log, head);
        self.chains.entry(log).or_default().push(head.chain);
        if let Entry::Vacant(free) = self.ids.entry(sealed.id) {
            free.insert(place);
            if let Some(entity) = sealed.entry.entity {
                self.entities.entry(entity).or_default().push(place);
            }
            if let Some(parent) = sealed.entry.parent {
                self.children.entry(parent).or_default().push(place);
            }
        }
        self.blobs.extend(std::mem::take(&mut sealed.blobs).into_iter().map(|blob| (blob.id, blob.bytes)));
        self.logs.entry(log).or_default().push(sealed);
    }

    /// Takes whole logs out.
    pub(super) fn forget(&mut self, gone: impl Fn(&Log) -> bool) {
        self.logs.retain(|log, _| !gone(log));
        self.heads.retain(|log, _| !gone(log));
        self.chains.retain(|log, _| !gone(log));
        self.signed.retain(|place, _| !gone(&place.log));
        self.ids.retain(|_, place| !gone(&place.log));
        self.index_received();
        for places in self.entities.values_mut().chain(self.children.values_mut()) {
            places.retain(|place| !gone(&place.log));
        }
        self.entities.retain(|_, places| !places.is_empty());
        self.children.retain(|_, places| !places.is_empty());
    }

    /// What came by casts, against the heads that came with it.
    fn check_casts(&self, loom: LoomId, findings: &mut Findings) {
        let log = Log::received(loom);
        let entries = self.logs.get(&log).map(Vec::as_slice).unwrap_or_default();
        let newest: Vec<CastHead> = self.casts.values().filter(|head| head.loom == loom).copied().collect();
        let next = |after: u64| {
            let mut rows = self.covered.range(log.at(after.saturating_add(1))..=log.at(u64::MAX));
            let Some((place, heads)) = rows.next() else { return Ok(None) };
            let [from, to] = [after, place.sequence].map(|at| usize::try_from(at).unwrap_or(usize::MAX));
            let step = entries.get(from..to).unwrap_or_default().iter().map(bare).collect();
            Ok(Some((place.sequence, step, heads.clone())))
        };
        casts::check(loom, entries.len() as u64, &newest, next, findings);
    }

    /// Leads to what was received and was indexed in a log that is gone.
    fn index_received(&mut self) {
        let Self { logs, ids, entities, children, .. } = self;
        for (log, entries) in logs.iter().filter(|(log, _)| log.is_received()) {
            for (place, sealed) in (1..).map(|sequence| log.at(sequence)).zip(entries) {
                if let Entry::Vacant(free) = ids.entry(sealed.id) {
                    free.insert(place);
                    if let Some(entity) = sealed.entry.entity {
                        entities.entry(entity).or_default().push(place);
                    }
                    if let Some(parent) = sealed.entry.parent {
                        children.entry(parent).or_default().push(place);
                    }
                }
            }
        }
    }

    /// The chained hash after so many entries of a log.
    pub(super) fn chain(&self, log: Log, sequence: u64) -> Option<[u8; 32]> {
        crate::domain::steps::count(1);
        let Some(before) = sequence.checked_sub(1) else { return Some(Head::default().chain) };
        self.chains.get(&log)?.get(usize::try_from(before).ok()?).copied()
    }

    pub(super) fn after(&self, log: Log, id: EntryId) -> Head {
        self.heads.get(&log).copied().unwrap_or_default().after(&id)
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
        Arc::new(Self { writer, key: None, looms: Mutex::default(), checks: Checks::default() })
    }

    /// An empty record of the node with this key, whose logs can be copied.
    pub fn with_key(key: NodeKey) -> Arc<Self> {
        let (looms, checks) = (Mutex::default(), Checks::default());
        Arc::new(Self { writer: key.writer(), key: Some(key), looms, checks })
    }

    pub(super) const fn log(&self, loom: LoomId) -> Log {
        Log { loom, writer: self.writer }
    }

    pub(super) fn signing(&self) -> Result<&NodeKey, StoreError> {
        self.key.as_ref().ok_or_else(|| StoreError::Read("this store in memory has no key to sign with".into()))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Looms> {
        self.looms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LoomStore for MemoryStore {
    fn writer(&self) -> WriterKey {
        self.writer
    }

    fn head(&self, loom: LoomId) -> Result<Head, StoreError> {
        Ok(self.lock().heads.get(&self.log(loom)).copied().unwrap_or_default())
    }

    fn append(&self, sealed: Sealed) -> Result<(), StoreError> {
        check_whole(&sealed, self.writer)?;
        let mut looms = self.lock();
        let loom = sealed.entry.loom;
        let log = self.log(loom);
        let after = looms.after(log, sealed.id);
        if sealed.entry.sequence != after.sequence {
            let head = after.sequence.saturating_sub(1);
            return Err(StoreError::Sequence { loom, head, got: sealed.entry.sequence });
        }
        looms.add(log, after, sealed);
        Ok(())
    }

    fn receive(&self, batch: CastBatch) -> Result<(), StoreError> {
        let mut looms = self.lock();
        let CastBatch { loom, entries, heads } = batch;
        for sealed in &entries {
            if !looms.ids.contains_key(&sealed.id) {
                check_received(sealed, self.writer, &|id| Ok(looms.blobs.contains_key(&id)))?;
            }
            let (writer, sequence) = (sealed.entry.writer, sealed.entry.sequence);
            if looms.proofs.get(&(loom, writer)).is_some_and(|proof| proof.place() <= sequence) {
                return Err(StoreError::Cheater { loom, writer });
            }
        }
        if entries.is_empty() {
            return Ok(());
        }
        let log = Log::received(loom);
        for sealed in entries {
            let after = looms.after(log, sealed.id);
            looms.add(log, after, sealed);
        }
        let end = looms.heads.get(&log).copied().unwrap_or_default();
        for head in &heads {
            looms.casts.insert((loom, head.writer, head.cast), *head);
        }
        if !heads.is_empty() {
            looms.covered.insert(log.at(end.sequence), heads);
        }
        Ok(())
    }

    fn sign_cast(&self, loom: LoomId, cast: EntityId, at: CastChain) -> Result<CastHead, StoreError> {
        Ok(self.signing()?.sign_cast(loom, cast, at))
    }

    fn cast_heads(&self, loom: LoomId) -> Result<Vec<CastHead>, StoreError> {
        let looms = self.lock();
        Ok(looms.casts.values().filter(|head| head.loom == loom).copied().collect())
    }

    fn covered(&self, loom: LoomId, after: u64, max: usize) -> Result<Vec<(u64, Vec<CastHead>)>, StoreError> {
        let log = Log::received(loom);
        let looms = self.lock();
        let rows = looms.covered.range(log.at(after.saturating_add(1))..=log.at(u64::MAX));
        Ok(rows.take(max).map(|(place, heads)| (place.sequence, heads.clone())).collect())
    }

    fn recorded(&self, loom: LoomId, by: By, after: u64, max: usize) -> Result<Vec<(u64, Sealed)>, StoreError> {
        let log = match by {
            By::ThisNode => self.log(loom),
            By::Others => Log::received(loom),
            By::Log(writer) => Log { loom, writer },
        };
        let looms = self.lock();
        let entries = looms.logs.get(&log).map(Vec::as_slice).unwrap_or_default();
        let numbered = (1..).zip(entries).skip(usize::try_from(after).unwrap_or(usize::MAX));
        Ok(numbered.take(max).map(|(sequence, sealed)| (sequence, bare(sealed))).collect())
    }

    fn sync(&self, _: LoomId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn entry(&self, id: EntryId) -> Result<Option<Sealed>, StoreError> {
        let looms = self.lock();
        Ok(looms.ids.get(&id).and_then(|place| looms.at(place)).map(bare))
    }

    fn entries(&self, loom: LoomId) -> Result<Vec<Sealed>, StoreError> {
        let looms = self.lock();
        let logs = looms.logs.iter().filter(|(log, _)| log.loom == loom);
        let placed =
            logs.flat_map(|(log, entries)| (1..).map(|sequence| log.at(sequence)).zip(entries.iter().map(bare)));
        Ok(in_order(self.writer, placed.collect()))
    }

    fn entries_of(&self, entity: EntityId) -> Result<Vec<Sealed>, StoreError> {
        let looms = self.lock();
        let mut places = looms.entities.get(&entity).cloned().unwrap_or_default();
        places.sort_by_key(|place| order(self.writer, place));
        Ok(places.iter().filter_map(|place| looms.at(place)).map(bare).collect())
    }

    fn children(&self, id: EntryId) -> Result<Vec<EntryId>, StoreError> {
        let looms = self.lock();
        let mut places = looms.children.get(&id).cloned().unwrap_or_default();
        places.sort_by_key(|place| order(self.writer, place));
        Ok(places.iter().filter_map(|place| looms.at(place)).map(|sealed| sealed.id).collect())
    }

    fn loom_of(&self, entity: EntityId) -> Result<Option<LoomId>, StoreError> {
        let looms = self.lock();
        Ok(looms.entities.get(&entity).and_then(|places| places.iter().min()).map(|place| place.log.loom))
    }

    fn blob(&self, id: BlobId) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.lock().blobs.get(&id).cloned())
    }

    fn logs(&self, loom: LoomId) -> Result<Vec<LogState>, StoreError> {
        Ok(self.lock().states(loom))
    }

    fn proofs(&self) -> Result<Vec<EquivocationProof>, StoreError> {
        Ok(self.lock().proofs.values().cloned().collect())
    }

    fn accuse(&self, proof: &EquivocationProof) -> Result<bool, StoreError> {
        let mut looms = self.lock();
        let known = looms.proofs.get(&(proof.loom, proof.writer)).map(EquivocationProof::place);
        let is_new = proof.holds() && known.is_none_or(|known| proof.place() < known);
        if is_new {
            looms.proofs.insert((proof.loom, proof.writer), proof.clone());
        }
        Ok(is_new)
    }

    fn looms(&self) -> Result<Vec<LoomSummary>, StoreError> {
        let looms = self.lock();
        let line = |(log, entries): (&Log, &Vec<Sealed>)| {
            let before = |before, sealed: &Sealed| Some(LogLine::after(before, sealed, Head::default()));
            let head = looms.heads.get(log).copied().unwrap_or_default();
            entries.iter().fold(None, before).map(|line| (*log, LogLine { head, ..line }))
        };
        Ok(rows::summaries(looms.logs.iter().filter_map(line)))
    }

    fn verify(&self, loom: Option<LoomId>) -> Result<Verified, StoreError> {
        let looms = self.lock();
        let mut findings = Findings::default();
        let proofs = looms.proofs.values().filter(|proof| loom.is_none_or(|loom| loom == proof.loom));
        proofs.for_each(|proof| {
            let kept =
                looms.attested.iter().filter(|((of, _), _)| *of == proof.loom).flat_map(|(_, kept)| kept.values());
            let next = kept.filter(|(it, _)| it.predecessor() == Some(proof.writer)).map(|(it, _)| it.key());
            findings.divided(proof, &next.collect::<Vec<_>>());
        });
        for (log, entries) in looms.logs.iter().filter(|(log, _)| loom.is_none_or(|loom| loom == log.loom)) {
            findings.count_loom(log.loom);
            let mut head = Head::default();
            for sealed in entries {
                head = head.after(&sealed.id);
                findings.count_entry();
                looms.check(log.at(head.sequence), sealed, &mut findings);
            }
            if looms.heads.get(log) != Some(&head) {
                findings.loom(log.loom, "the head is not what its entries say");
            }
            if log.is_received() {
                looms.check_casts(log.loom, &mut findings);
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
