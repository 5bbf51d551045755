//! The durable store as a keeper of copies.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};

use super::attested;
use super::check::check_texts;
use super::committer::{Beside, Removal};
use super::copies::{self, Cut, Fit, KnownLog};
use super::database::Database;
use super::durable::FjallStore;
use super::key::NodeKey;
use super::renewal::Signing;
use super::rows::{self, Log};
use crate::domain::ids::{BlobId, EntityId, EntryId, LoomId, WriterKey};
use crate::domain::loom::{CheckedSegment, EquivocationProof, Head, Sealed, Segment, SignedFence, SignedHead};
use crate::domain::members::MemberRecord;
use crate::ports::{BoxFuture, CopyStore, LogState, LoomStore as _, StoreError, Taken};

impl KnownLog for (&FjallStore, Log, Head) {
    fn head(&self) -> Head {
        self.2
    }

    fn chain_at(&self, sequence: u64) -> Result<Option<[u8; 32]>, StoreError> {
        chain_at(&self.0.database, self.1, sequence)
    }

    fn signed_from(&self, sequence: u64) -> Result<Option<SignedHead>, StoreError> {
        Ok(self.0.database.signed_from(self.1, sequence, 1)?.first().copied())
    }

    fn ids(&self, after: u64, to: u64) -> Result<Vec<EntryId>, StoreError> {
        let mut ids = Vec::new();
        self.0.database.raw_from(self.1, after.saturating_add(1), |sequence, id, _| {
            if sequence > to {
                return ControlFlow::Break(());
            }
            ids.push(id);
            ControlFlow::Continue(())
        })?;
        Ok(ids)
    }
}

/// The chain at a place of a log: from the nearest signed head before it.
pub(super) fn chain_at(database: &Database, log: Log, sequence: u64) -> Result<Option<[u8; 32]>, StoreError> {
    let mut head = database.signed_until(log, sequence)?.map(|signed| signed.head).unwrap_or_default();
    if head.sequence < sequence {
        database.raw_from(log, head.sequence.saturating_add(1), |at, id, _| {
            if at > sequence {
                return ControlFlow::Break(());
            }
            head = head.after(&id);
            ControlFlow::Continue(())
        })?;
    }
    Ok((head.sequence == sequence).then_some(head.chain))
}

/// The logs of a loom in a database.
pub(super) fn logs(database: &Database, loom: LoomId) -> Result<Vec<LogState>, StoreError> {
    let lines = database.lines(loom.as_bytes())?.into_iter().filter(|(log, _)| !log.is_received());
    lines
        .map(|(log, line)| {
            let signed = database.signed_until(log, line.head.sequence)?;
            Ok(LogState { writer: log.writer, head: line.head, signed })
        })
        .collect()
}

/// The keys under which this node has written before.
pub(super) fn formerly(database: &Database) -> Result<Vec<WriterKey>, StoreError> {
    let mut keys = Vec::new();
    database.each(rows::Space::Meta, rows::META_FORMER, |key, _| {
        let bytes = key.strip_prefix(rows::META_FORMER).and_then(|rest| <[u8; 32]>::try_from(rest).ok());
        keys.extend(bytes.map(WriterKey::from_bytes));
        Ok(ControlFlow::<()>::Continue(()))
    })?;
    Ok(keys)
}

/// The entries of a loom that were set aside, as they were written.
pub(super) fn aside(database: &Database, loom: LoomId) -> Result<Vec<Sealed>, StoreError> {
    let mut found = Vec::new();
    database.each(rows::Space::Meta, &rows::aside_of(loom), |_, value| {
        let row = || super::database::DatabaseError::Row { space: "meta" };
        let (id, bytes) = rows::split_entry(value).ok_or_else(row)?;
        found.push(Sealed::open(id, bytes.to_vec()).map_err(|_| row())?);
        Ok(ControlFlow::<()>::Continue(()))
    })?;
    Ok(found)
}

/// Whether a history was written anew up to a head.
pub(super) fn was_written_anew(database: &Database, loom: LoomId, head: (WriterKey, Head)) -> Result<bool, StoreError> {
    Ok(database.get(rows::Space::Meta, &rows::anew(loom, head))?.is_some())
}

/// The proofs in a database.
pub(super) fn proofs(database: &Database) -> Result<Vec<EquivocationProof>, StoreError> {
    let mut proofs = Vec::new();
    database.each(rows::Space::Meta, rows::META_PROOF, |_, value| {
        proofs.extend(EquivocationProof::parse(value));
        Ok(ControlFlow::<()>::Continue(()))
    })?;
    Ok(proofs)
}

impl FjallStore {
    /// Keeps a proof that holds, and is of an earlier place than what is proved.
    pub(super) fn keep_proof(&self, proof: &EquivocationProof) -> Result<bool, StoreError> {
        let (loom, writer) = (proof.loom, proof.writer);
        if !proof.holds() || self.divides_at(loom, writer)?.is_some_and(|known| known <= proof.place()) {
            return Ok(false);
        }
        self.database.note(&rows::proof_key(loom, writer), &proof.to_bytes())?;
        Ok(true)
    }

    /// From which place on a writer's histories are proved to be two.
    pub(super) fn divides_at(&self, loom: LoomId, writer: WriterKey) -> Result<Option<u64>, StoreError> {
        let kept = self.database.get(rows::Space::Meta, &rows::proof_key(loom, writer))?;
        Ok(kept.and_then(|bytes| EquivocationProof::parse(&bytes)).map(|proof| proof.place()))
    }

    /// How far a segment of a log goes, and its last signed head.
    fn end_of(&self, log: Log, from: Head, cut: &mut Cut) -> Result<Option<SignedHead>, StoreError> {
        let key = self.key();
        if log.writer == key.writer() {
            let head = cut.head(from);
            let known = self.database.signed_until(log, head.sequence)?;
            if let Some(known) = known.filter(|known| known.head == head) {
                return Ok(Some(known));
            }
            let signed = key.sign(log.loom, head);
            self.database.keep_signed(&signed)?;
            return Ok(Some(signed));
        }
        let end = from.sequence.saturating_add(cut.ids.len() as u64);
        let signed = self.database.signed_until(log, end)?.filter(|signed| signed.head.sequence > from.sequence);
        if let Some(signed) = &signed {
            cut.truncate(from.sequence, signed.head.sequence);
        }
        Ok(signed)
    }
}

impl CopyStore for FjallStore {
    fn segment(&self, loom: LoomId, writer: WriterKey, after: u64) -> Result<Option<Segment>, StoreError> {
        let log = Log { loom, writer };
        if self.database.head(log)?.sequence <= after {
            return Ok(None);
        }
        let Some(chain) = chain_at(&self.database, log, after)? else { return Ok(None) };
        let from = Head { sequence: after, chain };
        let mut cut = Cut::default();
        self.database.raw_from(log, after.saturating_add(1), |_, id, bytes| {
            if cut.add(id, bytes) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        let signed = self.end_of(log, from, &mut cut)?;
        Ok(signed.map(|signed| Segment { from, entries: cut.entries, blobs: Vec::new(), signed }))
    }

    fn take(&self, segment: CheckedSegment) -> Result<Taken, StoreError> {
        let _turn = self.receiving.lock().unwrap_or_else(PoisonError::into_inner);
        let SignedHead { loom, writer, .. } = segment.signed;
        // One segment after the other is taken: the queue grows by one beyond this at most.
        if self.committer.is_behind() {
            return Err(StoreError::Behind);
        }
        if writer == self.writer() || writer == rows::RECEIVED {
            let id = segment.entries.first().map_or(EntryId::from_digest([0; 32]), |sealed| sealed.id);
            return Err(StoreError::Foreign { id, writer });
        }
        let log = Log { loom, writer };
        let head = self.committer.head(log, || self.durable_head(log))?;
        if self.database.head(log)?.sequence < head.sequence && segment.from.sequence < head.sequence {
            // What is compared has to be on disk; whoever sends sends again.
            return Ok(Taken::Gap(head.sequence));
        }
        let mut fit = copies::fit(&segment, &(self, log, head), self.divides_at(loom, writer)?);
        if let Err(StoreError::Unsigned { after, .. }) = fit
            && self.formerly()?.contains(&writer)
        {
            // What this node wrote under an earlier key after its folder was put back: nobody else has seen it.
            self.set_aside(log, after)?;
            let head = self.committer.head(log, || self.durable_head(log))?;
            fit = copies::fit(&segment, &(self, log, head), self.divides_at(loom, writer)?);
        }
        let skip = match fit? {
            Fit::Done(taken) => return Ok(taken),
            Fit::New { skip } => skip,
        };
        check_texts(segment.entries.iter().skip(skip), &segment.blobs, &|id, is_text| {
            if is_text {
                return Ok(self.blob(id)?.is_some_and(|text| std::str::from_utf8(&text).is_ok()));
            }
            Ok(self.database.has(rows::Space::Blobs, &id.digest())? || self.blob(id)?.is_some())
        })?;
        let has_loose =
            self.committer.head(Log::received(loom), || self.durable_head(Log::received(loom)))?.sequence > 0;
        let new = segment.entries.len().saturating_sub(skip);
        let mut blobs = segment.blobs;
        for (index, mut sealed) in segment.entries.into_iter().skip(skip).enumerate() {
            if index == 0 {
                sealed.blobs = std::mem::take(&mut blobs);
            }
            let signature = (index + 1 == new).then_some(segment.signed.signature);
            let beside = Beside { signature, indexed: has_loose && self.is_known(sealed.id)?, ..Beside::default() };
            self.committer.append(log, sealed, beside, || self.durable_head(log))?;
        }
        Ok(Taken::New(new as u64))
    }

    fn chain_at(&self, loom: LoomId, writer: WriterKey, sequence: u64) -> Result<Option<[u8; 32]>, StoreError> {
        chain_at(&self.database, Log { loom, writer }, sequence)
    }

    fn accused(&self, loom: LoomId, writer: WriterKey) -> Result<Option<u64>, StoreError> {
        self.divides_at(loom, writer)
    }

    fn successors(&self, loom: LoomId, key: WriterKey) -> Result<Vec<WriterKey>, StoreError> {
        Ok(attested::successors(&self.database, loom, key)?)
    }

    fn sign_fence(&self, loom: LoomId, entity: EntityId, epoch: u64) -> Result<SignedFence, StoreError> {
        Ok(self.key().sign_fence(loom, entity, epoch))
    }

    fn fences(&self, loom: LoomId) -> Result<Vec<SignedFence>, StoreError> {
        let mut fences = Vec::new();
        self.database.each(rows::Space::Meta, &rows::fences_in(loom), |key, value| {
            // What is damaged fences nothing.
            let fence = SignedFence::parse(value).filter(|fence| rows::fence(fence.loom, fence.entity) == key);
            fences.extend(fence.filter(SignedFence::is_signed));
            Ok(ControlFlow::<()>::Continue(()))
        })?;
        Ok(fences)
    }

    fn keep_fence(&self, fence: &SignedFence) -> Result<(), StoreError> {
        Ok(self.database.note(&rows::fence(fence.loom, fence.entity), &fence.to_bytes())?)
    }

    fn attest_own(&self, record: &MemberRecord) -> Result<bool, StoreError> {
        self.keep_own(record)
    }

    fn is_behind(&self) -> bool {
        self.committer.is_behind()
    }

    fn keep_text(&self, bytes: &[u8]) -> Result<(), StoreError> {
        Ok(self.database.keep_text(&BlobId::of(bytes), bytes)?)
    }

    fn sync_logs(&self, loom: LoomId, writers: Vec<WriterKey>) -> BoxFuture<'_, Result<(), StoreError>> {
        let logs: Vec<Log> = writers.into_iter().map(|writer| Log { loom, writer }).collect();
        Box::pin(async move { self.committer.sync(&logs).await })
    }

    fn forget(&self, loom: LoomId) -> Result<(), StoreError> {
        let _turn = self.receiving.lock().unwrap_or_else(PoisonError::into_inner);
        let own = self.writer();
        let logs = self.database.lines(loom.as_bytes())?.into_iter().map(|(log, _)| log);
        let former = self.formerly()?;
        let is_own = |log: &Log| log.writer == own || former.contains(&log.writer);
        let (of_own, logs): (Vec<Log>, Vec<Log>) = logs.partition(is_own);
        // Who has cast nothing there has the casts of others.
        let (stays, logs): (Vec<Log>, Vec<Log>) =
            logs.into_iter().partition(|log| log.is_received() && !of_own.is_empty());
        let has_casts = logs.iter().any(|log| log.is_received());
        self.committer.forget(Removal::Logs(logs))?;
        if has_casts {
            self.database.forget_notes(&rows::cast_rows(loom))?;
        }
        let stays: Vec<Log> = of_own.into_iter().chain(stays).collect();
        if stays.is_empty() {
            self.database.forget_notes(&rows::member_rows(loom))?;
        }
        Ok(())
    }

    fn renew(&self, old: WriterKey, shared: &BTreeSet<LoomId>) -> Result<WriterKey, StoreError> {
        // Two at once would leave one's secret in the file and the other's name in the record.
        let _turn = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let key = self.key();
        if key.writer() != old {
            return Ok(key.writer());
        }
        let folder = super::open::Folder(&self.folder);
        let next = super::renewal::renew(&folder, &self.database, &key, Signing::Unshared(shared))?;
        let writer = next.writer();
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        Ok(writer)
    }
}

impl FjallStore {
    /// Takes what divides from what others have out of the log of an earlier key, back to where that key has signed it, and keeps it
    /// beside the logs.
    fn set_aside(&self, log: Log, after: u64) -> Result<(), StoreError> {
        let signed = self.database.signed_until(log, after)?.map_or(0, |signed| signed.head.sequence);
        let count = self.database.head(log)?.sequence.saturating_sub(signed);
        tracing::warn!(loom = %log.loom, writer = %log.writer, count, "entries of an earlier key of this node are set aside");
        self.committer.forget(Removal::Behind(log, signed))
    }

    /// This node's key.
    pub fn key(&self) -> Arc<NodeKey> {
        Arc::clone(&self.key.read().unwrap_or_else(PoisonError::into_inner))
    }
}
