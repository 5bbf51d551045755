//! Logs of other writers: what a segment is to the copy that is here, for every store alike.
//!
//! A copy always ends at a head that its writer has signed, so it can be handed on as it is.

use crate::domain::ids::EntryId;
use crate::domain::limits::{SEGMENT_BYTES, SEGMENT_ENTRIES_MAX};
use crate::domain::loom::{CheckedSegment, EquivocationProof, Head, Side, SignedHead};
use crate::ports::{StoreError, Taken};

/// What a store knows of the log that a segment belongs to.
pub(super) trait KnownLog {
    /// Its end.
    fn head(&self) -> Head;
    /// The chain at a place before the end.
    fn chain_at(&self, sequence: u64) -> Result<Option<[u8; 32]>, StoreError>;
    /// The first signed head at or behind a place.
    fn signed_from(&self, sequence: u64) -> Result<Option<SignedHead>, StoreError>;
    /// The ids behind one place, up to another.
    fn ids(&self, after: u64, to: u64) -> Result<Vec<EntryId>, StoreError>;
}

/// What is to be done with a segment.
#[derive(Debug)]
pub(super) enum Fit {
    /// Nothing.
    Done(Taken),
    /// Everything behind so many of its entries is new.
    New { skip: usize },
}

/// Compares a segment with the copy. `proved` is the place from which on its writer's histories are proved to be two: from there on
/// nothing more is taken, and before it everything.
pub(super) fn fit(segment: &CheckedSegment, known: &impl KnownLog, proved: Option<u64>) -> Result<Fit, StoreError> {
    let (from, signed, here) = (segment.from.sequence, segment.signed, known.head());
    let cheater = Err(StoreError::Cheater { loom: signed.loom, writer: signed.writer });
    if from > here.sequence {
        return Ok(Fit::Done(Taken::Gap(here.sequence)));
    }
    let at = here.sequence.min(signed.head.sequence);
    let skip = usize::try_from(at.saturating_sub(from)).unwrap_or(usize::MAX);
    let theirs = segment.heads().nth(skip).unwrap_or(signed.head).chain;
    let chain_at = |at: u64| if at == here.sequence { Ok(Some(here.chain)) } else { known.chain_at(at) };
    if chain_at(at)? == Some(theirs) {
        if signed.head.sequence <= here.sequence {
            return Ok(Fit::Done(Taken::Known));
        }
        // What is here leads up to where the histories divide.
        let is_complete = proved.is_some_and(|place| here.sequence >= place.saturating_sub(1));
        return if is_complete { cheater } else { Ok(Fit::New { skip }) };
    }
    if chain_at(from)? != Some(segment.from.chain) {
        return if proved.is_some_and(|place| from >= place) { cheater } else { Ok(Fit::Done(Taken::Divided)) };
    }
    let proof = divided(segment, known, at)?;
    if proved.is_some_and(|place| proof.place() >= place) {
        return cheater;
    }
    Err(StoreError::Forked { loom: signed.loom, writer: signed.writer, proof: Box::new(proof) })
}

/// Proves that a segment and the copy go on from one head in two ways, somewhere up to a place.
fn divided(segment: &CheckedSegment, known: &impl KnownLog, at: u64) -> Result<EquivocationProof, StoreError> {
    let SignedHead { loom, writer, signature, .. } = segment.signed;
    let ours = known.ids(segment.from.sequence, at)?;
    let same = segment.entries.iter().zip(&ours).take_while(|(sealed, id)| sealed.id == **id).count();
    let common = segment.heads().nth(same).unwrap_or(segment.from);
    let theirs = segment.entries.iter().skip(same).map(|sealed| sealed.id).collect();
    let theirs = Side { ids: theirs, signature };
    let end = known.signed_from(common.sequence.saturating_add(1))?;
    let ours = end.map(|end| {
        let ids = known.ids(common.sequence, end.head.sequence)?;
        Ok::<_, StoreError>(Side { ids, signature: end.signature })
    });
    let proof = ours.transpose()?.map(|ours| EquivocationProof::new(loom, writer, common, [ours, theirs]));
    proof.filter(EquivocationProof::holds).ok_or(StoreError::Unsigned { loom, writer, after: common.sequence })
}

/// Collects the entries of a segment as far as one may be.
#[derive(Debug, Default)]
pub(super) struct Cut {
    pub(super) entries: Vec<Vec<u8>>,
    pub(super) ids: Vec<EntryId>,
    bytes: usize,
}

impl Cut {
    /// Adds an entry. Returns whether another one may follow.
    pub(super) fn add(&mut self, id: EntryId, bytes: &[u8]) -> bool {
        self.bytes = self.bytes.saturating_add(bytes.len());
        self.ids.push(id);
        self.entries.push(bytes.to_vec());
        self.bytes <= SEGMENT_BYTES && self.entries.len() < SEGMENT_ENTRIES_MAX
    }

    /// The head behind the entries.
    pub(super) fn head(&self, from: Head) -> Head {
        self.ids.iter().fold(from, |head, id| head.after(id))
    }

    /// Leaves out what is behind a place.
    pub(super) fn truncate(&mut self, from: u64, to: u64) {
        let length = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
        self.entries.truncate(length);
        self.ids.truncate(length);
    }
}
