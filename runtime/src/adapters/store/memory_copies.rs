//! The store in memory as a keeper of copies.

use std::collections::BTreeSet;

use super::attested::counted;
use super::check::check_texts;
use super::copies::{self, Cut, Fit, KnownLog};
use super::memory::{Looms, MemoryStore};
use super::rows::{Log, RECEIVED};
use crate::domain::ids::{BlobId, EntityId, EntryId, LoomId, WriterKey};
use crate::domain::loom::{CheckedSegment, EquivocationProof, Head, Segment, SignedFence, SignedHead};
use crate::domain::members::{Attestation, MemberRecord, RecordError};
use crate::ports::{BoxFuture, CopyStore, LogState, LoomStore as _, StoreError, Taken};

impl Looms {
    pub(super) fn states(&self, loom: LoomId) -> Vec<LogState> {
        let logs = self.heads.iter().filter(|(log, _)| log.loom == loom && !log.is_received());
        let mut states: Vec<LogState> = logs
            .map(|(log, head)| LogState {
                writer: log.writer,
                head: *head,
                signed: self.signed.range(log.at(0)..=log.at(u64::MAX)).next_back().map(|(_, signed)| *signed),
            })
            .collect();
        states.sort_by_key(|state| state.writer);
        states
    }
}

impl KnownLog for (&Looms, Log) {
    fn head(&self) -> Head {
        self.0.heads.get(&self.1).copied().unwrap_or_default()
    }

    fn chain_at(&self, sequence: u64) -> Result<Option<[u8; 32]>, StoreError> {
        Ok(self.0.chain(self.1, sequence))
    }

    fn signed_from(&self, sequence: u64) -> Result<Option<SignedHead>, StoreError> {
        let rows = self.0.signed.range(self.1.at(sequence)..=self.1.at(u64::MAX));
        Ok(rows.map(|(_, signed)| *signed).next())
    }

    fn ids(&self, after: u64, to: u64) -> Result<Vec<EntryId>, StoreError> {
        let entries = self.0.logs.get(&self.1).map(Vec::as_slice).unwrap_or_default();
        let [after, to] = [after, to].map(|at| usize::try_from(at).unwrap_or(usize::MAX));
        Ok(entries.iter().take(to).skip(after).map(|sealed| sealed.id).collect())
    }
}

impl CopyStore for MemoryStore {
    fn segment(&self, loom: LoomId, writer: WriterKey, after: u64) -> Result<Option<Segment>, StoreError> {
        let log = Log { loom, writer };
        let mut looms = self.lock();
        let Some(chain) = looms.chain(log, after) else { return Ok(None) };
        let from = Head { sequence: after, chain };
        let mut cut = Cut::default();
        let skip = usize::try_from(after).unwrap_or(usize::MAX);
        let entries = looms.logs.get(&log).and_then(|entries| entries.get(skip..)).unwrap_or_default();
        for sealed in entries {
            if !cut.add(sealed.id, &sealed.bytes) {
                break;
            }
        }
        if cut.ids.is_empty() {
            return Ok(None);
        }
        let signed = match &self.key {
            Some(key) if key.writer() == writer => {
                let signed = key.sign(loom, cut.head(from));
                looms.signed.insert(log.at(signed.head.sequence), signed);
                signed
            }
            _ => {
                let end = log.at(after.saturating_add(cut.ids.len() as u64));
                let Some((_, signed)) = looms.signed.range(log.at(after.saturating_add(1))..=end).next_back() else {
                    return Ok(None);
                };
                *signed
            }
        };
        cut.truncate(after, signed.head.sequence);
        Ok(Some(Segment { from, entries: cut.entries, blobs: Vec::new(), signed }))
    }

    fn take(&self, segment: CheckedSegment) -> Result<Taken, StoreError> {
        let SignedHead { loom, writer, .. } = segment.signed;
        let log = Log { loom, writer };
        let mut looms = self.lock();
        if writer == self.writer() || writer == RECEIVED {
            let id = segment.entries.first().map_or(EntryId::from_digest([0; 32]), |sealed| sealed.id);
            return Err(StoreError::Foreign { id, writer });
        }
        let divides = looms.proofs.get(&(loom, writer)).map(EquivocationProof::place);
        let skip = match copies::fit(&segment, &(&*looms, log), divides)? {
            Fit::Done(taken) => return Ok(taken),
            Fit::New { skip } => skip,
        };
        let has = |id, is_text: bool| {
            let blob = looms.blobs.get(&id);
            Ok(blob.is_some_and(|blob| !is_text || std::str::from_utf8(blob).is_ok()))
        };
        check_texts(segment.entries.iter().skip(skip), &segment.blobs, &has)?;
        let new = segment.entries.len().saturating_sub(skip) as u64;
        looms.blobs.extend(segment.blobs.into_iter().map(|blob| (blob.id, blob.bytes)));
        for sealed in segment.entries.into_iter().skip(skip) {
            let after = looms.after(log, sealed.id);
            looms.add(log, after, sealed);
        }
        looms.signed.insert(log.at(segment.signed.head.sequence), segment.signed);
        Ok(Taken::New(new))
    }

    fn chain_at(&self, loom: LoomId, writer: WriterKey, sequence: u64) -> Result<Option<[u8; 32]>, StoreError> {
        Ok(self.lock().chain(Log { loom, writer }, sequence))
    }

    fn accused(&self, loom: LoomId, writer: WriterKey) -> Result<Option<u64>, StoreError> {
        Ok(self.lock().proofs.get(&(loom, writer)).map(EquivocationProof::place))
    }

    fn successors(&self, loom: LoomId, key: WriterKey) -> Result<Vec<WriterKey>, StoreError> {
        let looms = self.lock();
        let in_loom = looms.attested.iter().filter(|((of, _), _)| *of == loom).flat_map(|(_, kept)| kept.values());
        Ok(in_loom.filter(|(it, _)| it.predecessor() == Some(key)).map(|(it, _)| it.key()).collect())
    }

    fn sign_fence(&self, loom: LoomId, entity: EntityId, epoch: u64) -> Result<SignedFence, StoreError> {
        Ok(self.signing()?.sign_fence(loom, entity, epoch))
    }

    fn fences(&self, loom: LoomId) -> Result<Vec<SignedFence>, StoreError> {
        Ok(self.lock().fences.iter().filter(|((of, _), _)| *of == loom).map(|(_, fence)| *fence).collect())
    }

    fn keep_fence(&self, fence: &SignedFence) -> Result<(), StoreError> {
        self.lock().fences.insert((fence.loom, fence.entity), *fence);
        Ok(())
    }

    fn attest_own(&self, record: &MemberRecord) -> Result<bool, StoreError> {
        let refused = |source| StoreError::Attestation { writer: record.key, source };
        let own = self.writer();
        if record.key != own {
            return Err(refused(RecordError::Unsigned { key: own }));
        }
        let attestation = Attestation::Member(record.clone());
        let checked = self.checks.check(&attestation).map_err(refused)?;
        let mut looms = self.lock();
        let place = (attestation.kind(), checked.tag());
        if looms.own.contains_key(&place) {
            return Ok(false);
        }
        counted(&attestation, looms.own.len(), 0).map_err(refused)?;
        looms.own.insert(place, (attestation, checked));
        Ok(true)
    }

    fn keep_text(&self, bytes: &[u8]) -> Result<(), StoreError> {
        self.lock().blobs.insert(BlobId::of(bytes), bytes.to_vec());
        Ok(())
    }

    fn sync_logs(&self, _: LoomId, _: Vec<WriterKey>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn forget(&self, loom: LoomId) -> Result<(), StoreError> {
        let writer = self.writer();
        let mut looms = self.lock();
        // Who has cast nothing there has the casts of others.
        let has_cast = looms.heads.contains_key(&Log { loom, writer });
        looms.forget(|log| log.loom == loom && log.writer != writer && !(log.is_received() && has_cast));
        if !has_cast {
            looms.casts.retain(|(of, ..), _| *of != loom);
            looms.covered.retain(|place, _| place.log.loom != loom);
        }
        if !looms.heads.keys().any(|log| log.loom == loom) {
            looms.attested.retain(|(of, _), _| *of != loom);
            looms.proved.remove(&loom);
        }
        Ok(())
    }

    fn renew(&self, _: WriterKey, _: &BTreeSet<LoomId>) -> Result<WriterKey, StoreError> {
        Err(StoreError::Read("a record in memory is never restored from a copy".into()))
    }
}
