//! What somebody has of a loom: the one input of [`Reader`](super::Reader).
//!
//! Whoever fills it in has checked signatures and certificates: nothing here looks at one again. What is left out only makes
//! the answer smaller.

use std::collections::BTreeMap;

use super::proved::CheckedProof;
use super::record::{CheckedRecord, Vouched};
use crate::domain::ids::{EntityId, EntryId, LoomId, WriterKey};
use crate::domain::loom::{Division, EquivocationProof, Head, Sealed};

/// One entry of a history: its place in its writer's log, and its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Item {
    pub(super) place: u64,
    pub(super) id: EntryId,
}

/// A stretch of one history of one writer, of its log or of its entries of one cast.
#[derive(Debug, Clone)]
pub(super) struct Stretch {
    pub(super) writer: WriterKey,
    pub(super) cast: Option<EntityId>,
    pub(super) from: Head,
    pub(super) items: Vec<Item>,
    /// How many of them a signature covers.
    pub(super) covered: usize,
}

/// The logs, cast heads, proved entries, member records, successions and proofs of equivocation of one loom, as far as they are here.
#[derive(Debug, Clone)]
pub struct Known<'a> {
    pub(super) loom: LoomId,
    pub(super) founder: Option<CheckedRecord>,
    pub(super) vouched: Vouched,
    pub(super) entries: Vec<&'a Sealed>,
    pub(super) stretches: Vec<Stretch>,
    pub(super) proofs: BTreeMap<WriterKey, u64>,
    pub(super) here: Vec<WriterKey>,
}

impl<'a> Known<'a> {
    /// Of this loom nothing, with what vouches for its writers' keys.
    pub fn new(loom: LoomId, vouched: Vouched) -> Self {
        let (founder, entries, stretches, proofs, here) = (None, Vec::new(), Vec::new(), BTreeMap::new(), Vec::new());
        Self { loom, founder, vouched, entries, stretches, proofs, here }
    }

    /// A key of this node's own. As a host of a host it has not the log that shows below what its child is: as long as nothing that is here
    /// says so, what it opens by an admission for that very child is where the order has put it. Nobody else reads it so.
    pub fn is_here(&mut self, key: WriterKey) {
        self.here.push(key);
    }

    /// The member record in the founding entry, checked: the founder is its node then, under all its keys.
    pub fn founded_by(&mut self, record: CheckedRecord) {
        self.founder = Some(record);
    }

    /// A log from its first entry. Of those, a signature covers the first `covered`, or they are this node's own and on its disk.
    pub fn log(&mut self, writer: WriterKey, entries: impl IntoIterator<Item = &'a Sealed>, covered: usize) {
        self.stretch(writer, Head::default(), entries, covered);
    }

    /// Entries of one log behind a head of it.
    pub fn stretch(
        &mut self,
        writer: WriterKey,
        from: Head,
        entries: impl IntoIterator<Item = &'a Sealed>,
        covered: usize,
    ) {
        let first = self.entries.len();
        self.entries.extend(entries);
        let ids = self.entries.iter().skip(first).map(|sealed| sealed.id);
        let items = (from.sequence..).skip(1).zip(ids).map(|(place, id)| Item { place, id }).collect();
        self.stretches.push(Stretch { writer, cast: None, from, items, covered });
    }

    /// The ids that lead from one head of a log to a signed one: what a proof or a pin vouches for, with or without the entries.
    pub fn ids(&mut self, writer: WriterKey, from: Head, ids: impl IntoIterator<Item = EntryId>) {
        let items: Vec<Item> = (from.sequence..).skip(1).zip(ids).map(|(place, id)| Item { place, id }).collect();
        let covered = items.len();
        self.stretches.push(Stretch { writer, cast: None, from, items, covered });
    }

    /// All ids of a log or of a cast from its first entry up to a signed head, with places in the log, and some of its entries.
    pub(super) fn part(
        &mut self,
        writer: WriterKey,
        cast: Option<EntityId>,
        ids: &[(u64, EntryId)],
        entries: impl IntoIterator<Item = &'a Sealed>,
    ) {
        self.entries.extend(entries);
        let items: Vec<Item> = ids.iter().map(|(place, id)| Item { place: *place, id: *id }).collect();
        let covered = items.len();
        if covered > 0 {
            self.stretches.push(Stretch { writer, cast, from: Head::default(), items, covered });
        }
    }

    /// A proved entry: the head before it, and the ids behind it up to a signed one.
    pub fn proved(&mut self, proof: &'a CheckedProof) {
        let (sealed, behind) = (proof.sealed(), proof.behind().iter().copied());
        self.entries.push(sealed);
        self.ids(sealed.entry.writer, proof.before(), std::iter::once(sealed.id).chain(behind));
    }

    /// The entries of a cast that one writer has chained for it, in the order of its log, the first `covered` of them under its
    /// word. `from` counts the cast's entries.
    pub fn cast(
        &mut self,
        writer: WriterKey,
        root: EntityId,
        from: Head,
        entries: impl IntoIterator<Item = &'a Sealed>,
        covered: usize,
    ) {
        let first = self.entries.len();
        self.entries.extend(entries);
        let of_cast = self.entries.iter().skip(first);
        let items = of_cast.map(|sealed| Item { place: sealed.entry.sequence, id: sealed.id }).collect();
        self.stretches.push(Stretch { writer, cast: Some(root), from, items, covered });
    }

    /// A proof of two histories that holds, with the head at which they divide.
    pub fn divides(&mut self, proof: &EquivocationProof) {
        match &proof.division {
            Division::Logs { common, sides } => {
                for side in sides {
                    self.ids(proof.writer, *common, side.ids.iter().copied());
                }
            }
            // What it shows of a cast need not go on from anything that is here.
            Division::Rows(_) | Division::LeftOut { .. } => self.equivocates_from(proof.writer, proof.place()),
        }
    }

    /// That a writer's histories are proved to be two from one place on.
    pub fn equivocates_from(&mut self, writer: WriterKey, place: u64) {
        let held = self.proofs.entry(writer).or_insert(place);
        *held = place.min(*held);
    }
}
