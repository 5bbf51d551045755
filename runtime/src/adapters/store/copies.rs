//! Logs of other writers: what a segment is to the copy that is here, for every store alike.
//!
//! A copy always ends at a head that its writer has signed, so it can be handed on as it is.

use crate::domain::ids::EntryId;
use crate::domain::limits::{SEGMENT_BYTES, SEGMENT_ENTRIES_MAX};
use crate::domain::loom::{CheckedSegment, ForkProof, Head, SignedHead};
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

/// Compares a segment with the copy.
pub(super) fn fit(segment: &CheckedSegment, known: &impl KnownLog) -> Result<Fit, StoreError> {
    let (from, signed, here) = (segment.from.sequence, segment.signed, known.head());
    if from > here.sequence {
        return Ok(Fit::Done(Taken::Gap(here.sequence)));
    }
    let at = here.sequence.min(signed.head.sequence);
    let skip = usize::try_from(at.saturating_sub(from)).unwrap_or(usize::MAX);
    let theirs = segment.heads().nth(skip).unwrap_or(signed.head).chain;
    let ours = if at == here.sequence { Some(here.chain) } else { known.chain_at(at)? };
    if ours == Some(theirs) {
        let is_known = signed.head.sequence <= here.sequence;
        return Ok(if is_known { Fit::Done(Taken::Known) } else { Fit::New { skip } });
    }
    let proof = if at == signed.head.sequence {
        let late = known.signed_from(at)?;
        let ids = late.map(|late| known.ids(at, late.head.sequence)).transpose()?;
        late.zip(ids).zip(ours).map(|((late, ids), chain)| ForkProof { early: signed, late, chain, ids })
    } else {
        let early = known.signed_from(at)?.filter(|early| early.head.sequence == at);
        let ids = segment.entries.iter().skip(skip).map(|sealed| sealed.id).collect();
        early.map(|early| ForkProof { early, late: signed, chain: theirs, ids })
    };
    let proof = proof.filter(ForkProof::holds).ok_or_else(|| {
        let what = format!("the copy of writer {}'s log of loom {} has no signed head", signed.writer, signed.loom);
        StoreError::Read(what.into())
    })?;
    Err(StoreError::Forked { loom: signed.loom, writer: signed.writer, sequence: at, proof: Box::new(proof) })
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
