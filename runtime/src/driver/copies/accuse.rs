//! Writers with two signed histories: where they divide is found, proved, kept and told to whoever has something of that writer.
//!
//! Nothing that such a writer signed from there on decides anything, but whom it admitted and expelled, in either history: these entries
//! go along with the proof, one by one, since nobody takes the log that they are in.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::session::Session;
use super::{Copies, blocking, cost::cost};
use crate::domain::copies::CopyMessage;
use crate::domain::ids::{EntryId, LoomId, WriterKey};
use crate::domain::limits::{PROOF_BYTES_MAX, PROVED_ORDER_MAX};
use crate::domain::loom::{Body, CastHead, EquivocationProof, Head, Sealed};
use crate::domain::members::{CheckedProof, ProvedEntry};
use crate::driver::divided::{self, Followed};
use crate::ports::StoreError;

/// What one conversation knows of writers with two histories.
#[derive(Debug, Default)]
pub(super) struct Accusing {
    told: HashMap<(LoomId, WriterKey), Told>,
    /// Whose logs were asked for from the beginning, once each: the other side's is not the one that is here.
    asked: HashSet<(LoomId, WriterKey)>,
    /// Which of them are still left out of what is said to be here, so that they come.
    pub(super) awaited: HashSet<(LoomId, WriterKey)>,
    /// How far the other history of an earlier key of this node was fetched.
    pub(super) aside: HashMap<(LoomId, WriterKey), Head>,
    /// The logs that have grown and are not on disk yet, each with where it was before.
    passed: HashMap<(LoomId, WriterKey), u64>,
    followed: Followed,
}

impl Accusing {
    /// A log grows behind a place.
    pub(super) fn grows(&mut self, loom: LoomId, writer: WriterKey, from: u64) {
        let before = self.passed.entry((loom, writer)).or_insert(from);
        *before = from.min(*before);
    }
}

/// What the other side was told of one writer.
#[derive(Debug, Default)]
struct Told {
    place: u64,
    entries: HashSet<EntryId>,
    /// How far the log here was searched.
    searched: u64,
}

/// Whether an entry counts although its writer has two histories.
const fn is_of_members(sealed: &Sealed) -> bool {
    matches!(sealed.entry.body, Body::Admitted(_) | Body::Expelled(_))
}

impl Copies {
    /// Keeps a proof that holds, wherever something of its writer is.
    pub(in crate::driver) fn accuse(&self, proof: &EquivocationProof) -> Result<bool, StoreError> {
        let is_new = self.disk.accuse(proof)?;
        self.memory.accuse(proof)?;
        self.members_changed(proof.loom);
        Ok(is_new)
    }

    /// The newest head of each writer of each cast of a loom, wherever it is kept.
    pub(super) fn cast_heads(&self, loom: LoomId) -> Result<Vec<CastHead>, StoreError> {
        let (keeper, _) = self.keeper(loom);
        let mut heads = self.disk.cast_heads(loom)?;
        if !Arc::ptr_eq(keeper, &self.disk) {
            heads.extend(keeper.cast_heads(loom)?);
        }
        Ok(heads)
    }

    /// The proofs that are kept of writers of a loom.
    fn proofs(&self, loom: LoomId) -> Result<Vec<EquivocationProof>, StoreError> {
        let mut proofs = self.disk.proofs()?;
        proofs.retain(|proof| proof.loom == loom);
        Ok(proofs)
    }

    /// Whom a writer has admitted and expelled from a place on, as proved entries: by its log here, behind `searched`, and by what
    /// came one by one. Returns how far the log was searched, too.
    fn of_members(
        &self,
        (loom, writer): (LoomId, WriterKey),
        place: u64,
        searched: u64,
    ) -> Result<(Vec<ProvedEntry>, u64), StoreError> {
        let mut at = searched.max(place.saturating_sub(1));
        let mut found = Vec::new();
        while let Some(segment) = self.segment(loom, writer, at)? {
            let sealed = segment.entries.iter().filter_map(|bytes| Sealed::read(bytes.clone()).ok());
            let sealed: Vec<Sealed> = sealed.collect();
            let mut before = segment.from;
            for (index, entry) in sealed.iter().enumerate() {
                if is_of_members(entry) {
                    let behind = sealed.iter().skip(index.saturating_add(1)).map(|sealed| sealed.id).collect();
                    let signature = segment.signed.signature;
                    found.push(ProvedEntry { before, entry: entry.bytes.clone(), behind, signature });
                }
                before = before.after(&entry.id);
            }
            at = segment.signed.head.sequence.max(at.saturating_add(1));
        }
        let kept = self.keeper(loom).0.proved(loom)?;
        let kept = kept.iter().filter(|proof| is_its(proof, (loom, writer), place));
        found.extend(kept.map(CheckedProof::to_proof));
        Ok((found, at))
    }
}

/// Whether a proved entry is one that counts though its writer's histories divide before it.
fn is_its(proof: &CheckedProof, (loom, writer): (LoomId, WriterKey), place: u64) -> bool {
    let entry = &proof.sealed().entry;
    (proof.loom(), entry.writer) == (loom, writer) && entry.sequence >= place && is_of_members(proof.sealed())
}

impl Session {
    /// The other side's log of a writer is another than the one that is here, and it is not known from where on: it is asked for from
    /// its beginning, once. Returns whether it is.
    pub(super) fn ask_from_the_beginning(&mut self, loom: LoomId, writer: WriterKey) -> Result<bool, StoreError> {
        let is_new = self.accusing.asked.insert((loom, writer));
        if is_new {
            self.accusing.awaited.insert((loom, writer));
            self.have(loom)?;
        }
        Ok(is_new)
    }

    /// A peer says that a writer has signed two histories. That is kept of a writer whose log is here, in a loom that is kept together
    /// with this peer, once for each place that is earlier than what is known, and counts as something that it brings; of any other
    /// writer it would only fill the disk.
    pub(super) async fn accused(
        &mut self,
        proof: EquivocationProof,
        entries: Vec<ProvedEntry>,
    ) -> Result<(), StoreError> {
        let (loom, writer) = (proof.loom, proof.writer);
        // What was taken a moment ago is in no log yet that is read from the disk.
        let is_here = |session: &Self| -> Result<bool, StoreError> {
            let is_taken = session.taken.contains_key(&(loom, writer));
            let is_here = is_taken || session.copies.logs(loom)?.iter().any(|log| log.writer == writer);
            Ok(is_here || session.copies.cast_heads(loom)?.iter().any(|head| head.writer == writer))
        };
        let bytes = proof.to_bytes().len();
        if !self.heard.contains(&loom) || bytes > PROOF_BYTES_MAX || !is_here(self)? {
            let what =
                format!("loom {loom}: it is of a writer of no loom that is kept here with this peer, or too long");
            self.copies.refusals.note(&self.peer, "a proof of two histories was not kept", &what);
            return Ok(());
        }
        let (place, common) = (proof.place(), proof.common());
        let log = self.copies.store_of(loom, writer);
        let here = common.map(|common| log.chain_at(loom, writer, common.sequence)).transpose()?.flatten();
        if self.copies.disk.accused(loom, writer)?.is_none_or(|known| place < known) {
            if !self.pays(bytes) {
                return Ok(());
            }
            if self.accuse(proof).await? {
                let what = format!("loom {loom}: writer {writer} has, from its entry {place} on");
                self.copies.refusals.note(&self.peer, "a writer has signed two histories", &what);
                // The other history of an earlier key of this node is fetched.
                if self.copies.is_former(writer)? {
                    self.ask_from_the_beginning(loom, writer)?;
                }
            }
        }
        // The log here is a third history, which divides from both before that.
        if here.zip(common).is_some_and(|(chain, common)| chain != common.chain) {
            self.ask_from_the_beginning(loom, writer)?;
        }
        self.keep_of_members((loom, writer), place, entries).await
    }

    fn pays(&self, bytes: usize) -> bool {
        let may = self.copies.brings(&self.peer, cost(bytes, 1));
        if !may {
            let what = &"keep_max_bytes is used up";
            self.copies.refusals.note(&self.peer, "a proof of two histories was not kept", what);
        }
        may
    }

    /// Keeps whom a writer has admitted and expelled in a history that is not the one here.
    async fn keep_of_members(
        &mut self,
        of: (LoomId, WriterKey),
        place: u64,
        entries: Vec<ProvedEntry>,
    ) -> Result<(), StoreError> {
        let mut checked = Vec::new();
        for entry in entries {
            let bytes = entry.to_bytes().len();
            let Ok(proof) = entry.check() else { continue };
            let store = self.copies.keeper(of.0).0;
            let is_new = store.proved_entry(of.0, proof.id())?.is_none() && store.entry(proof.id())?.is_none();
            if is_new && is_its(&proof, of, place) && self.pays(bytes) {
                checked.push(proof);
            }
        }
        if checked.is_empty() {
            return Ok(());
        }
        let store = Arc::clone(self.copies.keeper(of.0).0);
        if let Err(full) = blocking(move || store.keep_proved(&checked)).await? {
            self.copies.refusals.note(&self.peer, "a proved entry was not kept", &full);
        }
        self.copies.members_changed(of.0);
        Ok(())
    }

    /// Keeps a proof. The write is synced: not on a thread that serves. Everybody who has something of its writer is told.
    pub(super) async fn accuse(&mut self, proof: EquivocationProof) -> Result<bool, StoreError> {
        let (loom, writer) = (proof.loom, proof.writer);
        let copies = Arc::clone(&self.copies);
        let is_new = blocking(move || copies.accuse(&proof)).await?;
        self.accusing.awaited.remove(&(loom, writer));
        Ok(is_new)
    }

    /// Goes on along the casts of writers whose logs have grown: what each has signed of a cast is to be what its log has.
    pub(super) async fn compare_casts(&mut self, loom: LoomId) -> Result<(), StoreError> {
        let (passed, others) =
            std::mem::take(&mut self.accusing.passed).into_iter().partition(|((of, _), _)| *of == loom);
        self.accusing.passed = others;
        let passed: HashMap<(LoomId, WriterKey), u64> = passed;
        if passed.is_empty() {
            return Ok(());
        }
        let behind = |head: &CastHead| passed.get(&(loom, head.writer)).is_some_and(|from| head.at.place > *from);
        for head in self.copies.cast_heads(loom)?.into_iter().filter(behind) {
            self.compare_cast(&head).await?;
        }
        Ok(())
    }

    /// Looks whether what a writer has signed of a cast is what its log has, as far as that is here.
    pub(super) async fn compare_cast(&mut self, head: &CastHead) -> Result<(), StoreError> {
        let CastHead { loom, writer, cast, .. } = *head;
        let log = Arc::clone(self.copies.store_of(loom, writer));
        if self.accusing.followed.leads(&*log, head)? {
            return Ok(());
        }
        let known = self.copies.disk.accused(loom, writer)?;
        for casts in [&self.copies.disk, self.copies.keeper(loom).0].map(Arc::clone) {
            let history = divided::kept(&*casts, (loom, writer, cast))?;
            let proof = divided::against_log(&*log, (loom, writer), &history)?;
            if let Some(proof) = proof.filter(|proof| known.is_none_or(|known| proof.place() < known)) {
                return self.report(proof).await;
            }
        }
        Ok(())
    }

    /// What came divides from what is here. Whoever sent it is told, and everybody else.
    pub(super) async fn report(&mut self, proof: EquivocationProof) -> Result<(), StoreError> {
        let (loom, writer, place) = (proof.loom, proof.writer, proof.place());
        self.accuse(proof).await?;
        let what =
            format!("writer {writer} has signed two histories: nothing is taken of it from its entry {place} on");
        let detail = format!("loom {loom}: {what}");
        self.copies.refusals.note(&self.peer, "a writer has signed two histories", &detail);
        self.failed(loom, &what);
        // It has something of that writer.
        self.looms.entry(loom).or_default().entry(writer).or_default();
        self.push(CopyMessage::Refused { loom, writer: Some(writer), what });
        Ok(())
    }

    /// Says what is known of writers with two histories, to a peer that has something of them and was not told.
    pub(super) fn tell_of(&mut self, loom: LoomId) -> Result<bool, StoreError> {
        for proof in self.copies.proofs(loom)? {
            let (writer, place) = (proof.writer, proof.place());
            let has_log = self.looms.get(&loom).is_some_and(|logs| logs.contains_key(&writer));
            if !has_log && !self.casting.has_of(loom, writer) {
                continue;
            }
            let known = self.accusing.told.entry((loom, writer)).or_default();
            let is_told = known.place == place;
            if !is_told {
                *known = Told { place, ..Told::default() };
            }
            let (found, searched) = self.copies.of_members((loom, writer), place, known.searched)?;
            let mut bytes = 0_usize;
            let mut entries = Vec::new();
            let mut is_all = true;
            for entry in found {
                let size = entry.to_bytes().len();
                let Ok(id) = Sealed::read(entry.entry.clone()).map(|sealed| sealed.id) else { continue };
                if known.entries.contains(&id) {
                    continue;
                }
                let is_full = bytes.saturating_add(size) > PROOF_BYTES_MAX || entries.len() >= PROVED_ORDER_MAX;
                if is_full && !entries.is_empty() {
                    is_all = false;
                    break;
                }
                bytes = bytes.saturating_add(size);
                known.entries.insert(id);
                entries.push(entry);
            }
            if is_all {
                known.searched = searched;
            }
            if !is_told || !entries.is_empty() {
                self.push(CopyMessage::Divided { proof: Box::new(proof), entries });
                return Ok(true);
            }
        }
        Ok(false)
    }
}
