//! Fences: an entity that another has adopted is gone on with there alone.
//!
//! A log is one chain, so an acknowledgement is of a place in it, whatever entities have entries before that. A keeper that takes entries
//! of an adopted entity from its former owner shows the adoption, once on each connection and before it acknowledges them; the former
//! owner counts no acknowledgement for that entity from there on, and its other entities go on.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::cost::cost;
use super::session::Session;
use super::{Copies, blocking};
use crate::domain::copies::CopyMessage;
use crate::domain::ids::{EntityId, EntryId, LoomId, WriterKey};
use crate::domain::limits::ADMISSION_DEPTH_MAX;
use crate::domain::loom::{Body, CheckedSegment, Entry, Sealed, SignedFence};
use crate::domain::members::{CheckedProof, ProvedEntry, Reader, Vouched};
use crate::domain::remote::Credentials;
use crate::driver::fault::chain;
use crate::driver::vouching::vouching;
use crate::ports::StoreError;

/// The adoption that the former owner of an entity has to respect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fence {
    /// The entry that says it.
    adopted: EntryId,
    /// Who goes on with the entity.
    by: WriterKey,
    /// Up to where the adopter had the former owner's log: that is part of the thread that it goes on with.
    had: Option<(WriterKey, u64)>,
}

impl Fence {
    /// Whether it is behind this fence what a writer has written of the entity up to a place.
    fn stops(&self, writer: WriterKey, sequence: u64) -> bool {
        writer != self.by && self.had.is_none_or(|had| had.0 != writer || had.1 < sequence)
    }
}

/// What goes against the owners of a loom's entities.
#[derive(Debug)]
pub(super) struct Fences {
    adopted: BTreeMap<EntityId, Fence>,
    /// What is signed, is kept here, and no adoption has made true yet.
    signed: BTreeMap<EntityId, SignedFence>,
}

fn adopted(reader: &Reader<'_>) -> BTreeMap<EntityId, Fence> {
    let fence = |(entity, adopted): (EntityId, &Sealed)| {
        let Body::Adopted { last, .. } = &adopted.entry.body else { return None };
        let had = last.as_ref().map(|last| (last.writer, last.sequence));
        Some((entity, Fence { adopted: adopted.id, by: adopted.entry.writer, had }))
    };
    reader.fences().into_iter().filter_map(fence).collect()
}

/// What one conversation knows of fences.
#[derive(Debug, Default)]
pub(super) struct Fencing {
    /// The entities that what was taken and is not on disk yet adopts.
    adopted: Vec<(LoomId, EntityId)>,
    /// The looms of which something was taken that may lift a fence.
    lifting: HashSet<LoomId>,
    /// The entities of what was taken and is not acknowledged yet, each with its last place in its writer's log.
    touched: BTreeMap<(LoomId, WriterKey, EntityId), u64>,
    /// The writers of what was taken and changes whose acknowledgements count: it may count for none of their entities that is fenced.
    changing: BTreeSet<(LoomId, WriterKey)>,
    /// The adoptions that the other side was shown.
    shown: HashSet<EntryId>,
    /// It has shown an adoption or a fence that does not hold: no more of them are looked at.
    pub(super) is_mistrusted: bool,
}

impl Copies {
    /// The entities of a loom that somebody has adopted, as of the last adoption that was taken here.
    fn fences(&self, loom: LoomId) -> Result<Arc<Fences>, StoreError> {
        if let Some(known) = self.lock().fences.get(&loom) {
            return Ok(Arc::clone(known));
        }
        let at = self.fences_at(loom);
        let batch = self.batch(loom)?;
        self.note_fences(loom, &Reader::of(&batch), at)
    }

    /// How often what is known of a loom's fences has changed: asked before it is read.
    pub(super) fn fences_at(&self, loom: LoomId) -> u64 {
        self.lock().fences_at.get(&loom).copied().unwrap_or_default()
    }

    /// Takes down what a reading of a loom says of fences, unless there were more of them since it began: what is remembered lacks none.
    pub(super) fn note_fences(&self, loom: LoomId, reader: &Reader<'_>, at: u64) -> Result<Arc<Fences>, StoreError> {
        let fences = Arc::new(Fences { adopted: adopted(reader), signed: self.signed_fences(loom, reader)? });
        let mut state = self.lock();
        if state.fences_at.get(&loom).copied().unwrap_or_default() == at {
            state.fences.insert(loom, Arc::clone(&fences));
        }
        Ok(fences)
    }

    /// Somebody may have been expelled: the fences of whom that ends are lifted.
    pub(in crate::driver) fn reread_fences(&self, loom: LoomId) -> Result<(), StoreError> {
        self.fences_changed(loom);
        let at = self.fences_at(loom);
        let batch = self.batch(loom)?;
        let reader = Reader::of(&batch);
        self.note_fences(loom, &reader, at)?;
        self.reread_signed(loom, &reader);
        let fenced: Vec<EntityId> = self.lock().fenced.keys().copied().collect();
        for entity in fenced.into_iter().filter(|entity| reader.owner(*entity).is_some()) {
            self.fence_by(&reader, entity);
        }
        Ok(())
    }

    /// This node has adopted something: what is known of adoptions is read anew.
    pub(in crate::driver) fn fences_changed(&self, loom: LoomId) {
        let mut state = self.lock();
        let at = state.fences_at.entry(loom).or_default();
        *at = at.saturating_add(1);
        state.fences.remove(&loom);
    }

    /// Proves an entry to whoever has not its log, from wherever it is kept.
    fn prove(&self, loom: LoomId, id: EntryId) -> Result<Option<CheckedProof>, StoreError> {
        for store in [self.keeper(loom).0, &self.disk] {
            if let Some(proof) = store.prove(id)? {
                return Ok(Some(proof));
            }
            if let Some(proof) = store.proved_entry(loom, id)? {
                return Ok(Some(proof));
            }
        }
        Ok(None)
    }

    /// What shows an adoption to somebody: the entry, the admissions by which its writer may say it, and what vouches for their
    /// writers' keys. Nothing where the adoption itself cannot be proved.
    fn credentials(&self, loom: LoomId, adopted: EntryId) -> Result<Option<Credentials>, StoreError> {
        let shown = self.shows(loom, None, Some(adopted))?;
        Ok(Some(shown).filter(|shown| !shown.proofs.is_empty()))
    }

    /// An entry and the admissions from there up to the founder, as far as they can be proved, and what vouches for their writers' keys
    /// and for one more.
    pub(super) fn shows(
        &self,
        loom: LoomId,
        by: Option<WriterKey>,
        first: Option<EntryId>,
    ) -> Result<Credentials, StoreError> {
        let (mut proofs, mut next) = (Vec::new(), first);
        while let Some(id) = next
            && proofs.len() <= ADMISSION_DEPTH_MAX as usize
        {
            let Some(proof) = self.prove(loom, id)? else { break };
            next = proof.sealed().entry.relies;
            proofs.push(proof);
        }
        let keys = by.into_iter().chain(proofs.iter().map(|proof| proof.sealed().entry.writer));
        let attestations = vouching(&**self.keeper(loom).0, loom, keys)?;
        Ok(Credentials { proofs: proofs.iter().map(CheckedProof::to_proof).collect(), attestations })
    }

    /// Takes over what is said here of an entity's owner.
    fn fence_by(&self, reader: &Reader<'_>, entity: EntityId) {
        let own = self.disk.writer();
        let owner = reader.owner(entity).map(|owner| owner.writer).filter(|owner| *owner != own);
        self.fence(entity, owner.or_else(|| reader.fenced_by(entity)));
    }
}

impl Session {
    /// Notes which entities a segment is about that is taken.
    pub(super) fn touches(&mut self, segment: &CheckedSegment) -> Vec<(EntityId, u64, bool)> {
        let entries = segment.entries().iter().map(|sealed| &sealed.entry);
        if segment.entries().iter().any(|sealed| matches!(sealed.entry.body, Body::Expelled(_))) {
            self.fencing.lifting.insert(segment.signed().loom);
        }
        if segment.entries().iter().any(|sealed| matches!(sealed.entry.body, Body::Keeping { .. })) {
            self.fencing.changing.insert((segment.signed().loom, segment.signed().writer));
        }
        let of = |entry: &Entry| {
            let is_adoption = matches!(entry.body, Body::Adopted { .. });
            Some((entry.entity?, entry.sequence, is_adoption))
        };
        entries.filter_map(of).collect()
    }

    /// Takes down what was taken, until it is on disk.
    pub(super) fn touched(&mut self, loom: LoomId, writer: WriterKey, entries: Vec<(EntityId, u64, bool)>) {
        for (entity, sequence, is_adoption) in entries {
            let last = self.fencing.touched.entry((loom, writer, entity)).or_default();
            *last = sequence.max(*last);
            if is_adoption {
                self.fencing.adopted.push((loom, entity));
            }
        }
    }

    /// Whoever was taken over by another node is not gone on with here.
    fn adopted(&mut self, loom: LoomId) -> Result<(), StoreError> {
        let all = std::mem::take(&mut self.fencing.adopted);
        let (adopted, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(of, _)| *of == loom);
        self.fencing.adopted = others;
        if self.fencing.lifting.remove(&loom) {
            self.copies.reread_fences(loom)?;
        }
        if adopted.is_empty() {
            return Ok(());
        }
        self.copies.fences_changed(loom);
        let at = self.copies.fences_at(loom);
        let batch = self.copies.batch(loom)?;
        let reader = Reader::of(&batch);
        for (_, entity) in &adopted {
            self.copies.fence_by(&reader, *entity);
        }
        self.copies.note_fences(loom, &reader, at)?;
        self.copies.reread_signed(loom, &reader);
        Ok(())
    }

    /// What was taken of a loom is on disk and not acknowledged yet: shows the adoptions that it goes against. Returns the writers of
    /// whose logs nothing is acknowledged, since the adoption that they go against cannot be shown.
    pub(super) fn show_fences(&mut self, loom: LoomId) -> Result<HashSet<WriterKey>, StoreError> {
        self.adopted(loom)?;
        let all = std::mem::take(&mut self.fencing.touched);
        let (touched, others): (BTreeMap<_, _>, _) = all.into_iter().partition(|((of, ..), _)| *of == loom);
        self.fencing.touched = others;
        let all = std::mem::take(&mut self.fencing.changing);
        let (changing, others): (BTreeSet<_>, BTreeSet<_>) = all.into_iter().partition(|(of, _)| *of == loom);
        self.fencing.changing = others;
        let mut withheld = HashSet::new();
        if touched.is_empty() && changing.is_empty() {
            return Ok(withheld);
        }
        let fences = self.copies.fences(loom)?;
        let changes = |by: &SignedFence| changing.iter().any(|(_, writer)| *writer != by.by);
        for fence in fences.signed.values().filter(|by| changes(by)) {
            self.show_signed(fence)?;
        }
        for ((_, writer, entity), sequence) in touched {
            if let Some(fence) = fences.signed.get(&entity).filter(|fence| fence.by != writer) {
                self.show_signed(fence)?;
            }
            let fences = &fences.adopted;
            let Some(fence) = fences.get(&entity).filter(|fence| fence.stops(writer, sequence)) else { continue };
            if self.fencing.shown.contains(&fence.adopted) {
                continue;
            }
            let Some(credentials) = self.copies.credentials(loom, fence.adopted)? else {
                withheld.insert(writer);
                continue;
            };
            self.fencing.shown.insert(fence.adopted);
            self.push(CopyMessage::Fence { loom, entity, credentials: Box::new(credentials) });
        }
        Ok(withheld)
    }

    /// The other side shows that somebody has adopted an entity: from here on this node does not go on with it. An adoption that does
    /// not hold counts for nothing, and is the last one that is looked at.
    pub(super) async fn fence_shown(
        &mut self,
        loom: LoomId,
        entity: EntityId,
        credentials: Credentials,
    ) -> Result<(), StoreError> {
        let is_known = self.fencing.is_mistrusted || self.copies.fenced(entity).is_some();
        if is_known || !self.heard.contains(&loom) {
            return Ok(());
        }
        let bytes = credentials.proofs.iter().map(|proof| proof.to_bytes().len()).fold(0, usize::saturating_add);
        if !self.copies.brings(&self.peer, cost(bytes, credentials.proofs.len())) {
            let what = &"keep_max_bytes is used up";
            self.copies.refusals.note(&self.peer, "an adoption that a peer shows was not kept", what);
            return Ok(());
        }
        let copies = Arc::clone(&self.copies);
        // Signatures are checked, and what holds is written and synced: not on a thread that serves.
        match blocking(move || copies.keep_fence(loom, entity, credentials)).await? {
            Ok(Some(by)) => {
                tracing::info!(%loom, %entity, %by, told_by = %self.peer, "another node has adopted an entity");
                self.copies.members_changed(loom);
            }
            // It is known here, or there is a newer one.
            Ok(None) => {}
            Err(what) => {
                self.fencing.is_mistrusted = true;
                self.answers_wrong(loom, format!("it shows that entity {entity} was adopted, and {what}"));
            }
        }
        Ok(())
    }
}

/// Why an adoption that a peer shows counts for nothing.
#[derive(Debug, thiserror::Error)]
enum Unshown {
    #[error("it is not proved: {0}")]
    Unproved(String),
    #[error("what it shows is about something else")]
    Other,
    #[error("nobody who may has adopted it")]
    Nobody,
    #[error("it is not kept: {0}")]
    Full(String),
}

impl Copies {
    /// Checks that somebody has adopted an entity, and keeps what shows it. Returns who, where that was not known here.
    fn keep_fence(
        &self,
        loom: LoomId,
        entity: EntityId,
        credentials: Credentials,
    ) -> Result<Result<Option<WriterKey>, Unshown>, StoreError> {
        let Credentials { proofs, attestations } = credentials;
        let checked: Result<Vec<CheckedProof>, _> = proofs.into_iter().map(ProvedEntry::check).collect();
        let proofs = match checked {
            Ok(proofs) => proofs,
            Err(error) => return Ok(Err(Unshown::Unproved(chain(&error)))),
        };
        let is_adoption = |proof: &&CheckedProof| {
            matches!(proof.sealed().entry.body, Body::Adopted { .. }) && proof.sealed().entry.entity == Some(entity)
        };
        let is_about = |proof: &CheckedProof| {
            let is_right = matches!(proof.sealed().entry.body, Body::Admitted(_)) || is_adoption(&proof);
            proof.loom() == loom && is_right
        };
        let adopted = proofs.iter().find(is_adoption).map(CheckedProof::id);
        let Some(adopted) = adopted.filter(|_| proofs.iter().all(is_about)) else { return Ok(Err(Unshown::Other)) };
        let vouched: Vouched = match self.disk.checked(&attestations) {
            Ok(vouched) => vouched,
            Err(error) => return Ok(Err(Unshown::Unproved(chain(&error)))),
        };
        let own = self.disk.writer();
        let batch = self.batch(loom)?.with_shown(proofs.iter().cloned(), vouched);
        let reader = Reader::of(&batch);
        let by = reader.fences().into_iter().find(|(of, _)| *of == entity).map(|(_, adopted)| adopted);
        if by.is_none() && reader.counts(adopted).is_err() {
            return Ok(Err(Unshown::Nobody));
        }
        let Some(by) = by.filter(|by| by.id == adopted && by.entry.writer != own) else { return Ok(Ok(None)) };
        let store = self.keeper(loom).0;
        let mut new = Vec::new();
        for proof in proofs {
            if store.entry(proof.id())?.is_none() {
                new.push(proof);
            }
        }
        // One too many of a key is left out: what is kept says the same.
        drop(store.attest(loom, &attestations)?);
        if let Err(full) = store.keep_proved(&new)? {
            return Ok(Err(Unshown::Full(chain(&full))));
        }
        self.fence_by(&reader, entity);
        self.fences_changed(loom);
        Ok(Ok(Some(by.entry.writer)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::clock::SystemClock;
    use crate::adapters::store::{FileBook, MemoryStore, NodeKey};
    use crate::domain::copies::Keeper;
    use crate::driver::{CopyPolicy, CopyTerms};

    #[derive(Debug)]
    struct Nobody;

    impl CopyPolicy for Nobody {
        fn terms(&self, _: &Keeper) -> CopyTerms {
            CopyTerms::NONE
        }
    }

    #[test]
    fn a_reading_that_a_fence_has_overtaken_is_not_remembered() {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::new(SystemClock::default()));
        let store = || MemoryStore::with_key(NodeKey::from_secret(&[1; 32]));
        let (disk, memory, book) = (store(), store(), FileBook::new(folder.path()));
        let copies = Copies::new("a".parse().unwrap(), disk, memory, book, Arc::new(Nobody), clock).unwrap();
        let loom = LoomId::from_parts(1, [1; 16]);
        let is_remembered = || copies.lock().fences.contains_key(&loom);
        let at = copies.fences_at(loom);
        let batch = copies.batch(loom).unwrap();
        // Another conversation has stored one in the meantime.
        copies.fences_changed(loom);
        copies.note_fences(loom, &Reader::of(&batch), at).unwrap();
        assert!(!is_remembered());
        copies.fences(loom).unwrap();
        assert!(is_remembered());
    }
}
