//! What one writer has signed of one cast, entry by entry, and where that contradicts another word of the same writer.

use std::collections::HashMap;

use super::body::Body;
use super::cast_head::{CastChain, CastFamily, CastHead};
use super::entry::{Entry, Sealed};
use super::equivocation::{Before, Division, EquivocationProof, Row};
use crate::domain::ids::{EntityId, EntryId, LoomId, WriterKey};
use crate::domain::limits::{EQUIVOCATION_IDS_MAX, EQUIVOCATION_SHOWN_MAX, PROOF_BYTES_MAX};
use crate::domain::members::{CheckedProof, ProvedEntry};

/// The entries that one writer has chained for one cast, in the order of its log, and the heads that it has signed over them.
#[derive(Debug, Clone)]
pub struct CastHistory {
    loom: LoomId,
    writer: WriterKey,
    cast: EntityId,
    items: Vec<(u64, EntryId)>,
    heads: Vec<CastHead>,
}

impl CastHistory {
    /// Of these entries, with these heads over them: what is of another cast or writer is left out.
    pub fn new(
        (loom, writer, cast): (LoomId, WriterKey, EntityId),
        mut items: Vec<(u64, EntryId)>,
        heads: impl IntoIterator<Item = CastHead>,
    ) -> Self {
        items.sort_unstable();
        items.dedup();
        let is_its = |head: &CastHead| (head.loom, head.writer, head.cast) == (loom, writer, cast);
        let mut heads: Vec<CastHead> = heads.into_iter().filter(is_its).collect();
        heads.sort_unstable_by_key(|head| head.at.place);
        Self { loom, writer, cast, items, heads }
    }

    /// What comes before some entries, with these behind it and this head over all.
    #[must_use]
    pub fn until(&self, came: Vec<(u64, EntryId)>, head: CastHead) -> Self {
        let first = came.first().map_or(u64::MAX, |(place, _)| *place);
        let before = self.items.iter().copied().take_while(|(place, _)| *place < first);
        Self::new(self.of(), before.chain(came).collect(), [head])
    }

    /// Of which loom, by whom, and of which cast.
    pub const fn of(&self) -> (LoomId, WriterKey, EntityId) {
        (self.loom, self.writer, self.cast)
    }

    /// The entries from one on, up to the first head that covers `shows` of them.
    fn row(&self, from: usize, shows: usize) -> Option<Row> {
        let (before, rest) = self.items.split_at_checked(from)?;
        let (last, _) = rest.get(shows.checked_sub(1)?)?;
        let chain = before.iter().fold(CastChain::default(), |at, (place, id)| at.after(*place, id)).chain;
        let heads = self.heads.iter().filter(|head| head.at.place >= *last);
        let mut rows = heads.filter_map(|head| {
            let items: Vec<_> = rest.iter().take_while(|(place, _)| *place <= head.at.place).copied().collect();
            let at = items.iter().fold(CastChain { place: 0, chain }, |at, (place, id)| at.after(*place, id));
            let before = Before::Cast(self.cast, chain);
            (at == head.at && items.len() <= EQUIVOCATION_IDS_MAX).then_some(Row {
                before,
                items,
                signature: head.signature,
            })
        });
        rows.next()
    }

    fn proof(&self, division: Division) -> Option<EquivocationProof> {
        let proof = EquivocationProof { loom: self.loom, writer: self.writer, division };
        // A larger one nobody else would read.
        Some(proof).filter(EquivocationProof::holds).filter(|proof| proof.to_bytes().len() <= PROOF_BYTES_MAX)
    }

    /// Proves that this and another history of the same cast go on differently from the same entries.
    pub fn divides_from(&self, other: &Self) -> Option<EquivocationProof> {
        let same = self.items.iter().zip(&other.items).take_while(|(one, other)| one == other).count();
        self.proof(Division::Rows([self.row(same, 1)?, other.row(same, 1)?]))
    }

    /// Proves that the log has another entry at the place of one of these.
    fn differs(&self, index: usize, log: &CheckedProof) -> Option<EquivocationProof> {
        let ProvedEntry { before, behind, signature, .. } = log.to_proof();
        let ids = std::iter::once(log.id()).chain(behind);
        let items = (before.sequence..).skip(1).zip(ids).take(EQUIVOCATION_IDS_MAX).collect();
        let log = Row { before: Before::Log(before), items, signature };
        self.proof(Division::Rows([log, self.row(index, 1)?]))
    }

    /// Proves that an entry is left out before one of these. `shown` ends with the entry, and shows that it belongs to the cast.
    fn leaves_out(&self, index: usize, shown: Vec<ProvedEntry>) -> Option<EquivocationProof> {
        let row = match index.checked_sub(1) {
            Some(before) => self.row(before, 2)?,
            None => self.row(0, 1)?,
        };
        self.proof(Division::LeftOut { shown, row })
    }
}

/// Goes through the log of a writer to find where it and what the writer signed of a cast are not the same.
#[derive(Debug)]
pub struct CastInLog<'a> {
    history: &'a CastHistory,
    family: CastFamily,
    /// By which entry each of the family is one.
    joined: HashMap<EntityId, (EntryId, EntityId)>,
    /// How many entries of the history are before the next one of the log.
    passed: usize,
}

impl<'a> CastInLog<'a> {
    /// Before the first entry of the log.
    pub fn new(history: &'a CastHistory) -> Self {
        Self { history, family: CastFamily::of(history.cast), joined: HashMap::new(), passed: 0 }
    }

    /// Whether everything that is signed has been gone through.
    pub fn is_over(&self) -> bool {
        self.passed >= self.history.items.len()
    }

    /// Looks at the next entry of the log, which `prove` proves. Returns the proof of what contradicts it.
    ///
    /// # Errors
    /// What `prove` cannot read.
    pub fn look<E>(
        &mut self,
        sealed: &Sealed,
        prove: impl Fn(EntryId) -> Result<Option<CheckedProof>, E>,
    ) -> Result<Option<EquivocationProof>, E> {
        let is_of_cast = self.takes(&sealed.entry, sealed.id);
        let here = self.history.items.get(self.passed).filter(|(place, _)| *place == sealed.entry.sequence);
        let index = self.passed;
        self.passed = self.passed.saturating_add(usize::from(here.is_some()));
        match here {
            Some((_, id)) if *id == sealed.id => Ok(None),
            Some(_) => Ok(prove(sealed.id)?.and_then(|log| self.history.differs(index, &log))),
            None if !is_of_cast || self.is_over() => Ok(None),
            None => {
                let mut shown = Vec::new();
                let way = self.way_to(sealed);
                if way.len() > EQUIVOCATION_SHOWN_MAX {
                    return Ok(None);
                }
                for id in way {
                    let Some(proof) = prove(id)? else { return Ok(None) };
                    shown.push(proof.to_proof());
                }
                Ok(self.history.leaves_out(index, shown))
            }
        }
    }

    fn takes(&mut self, entry: &Entry, id: EntryId) -> bool {
        let takes = self.family.takes(entry);
        if let Some(entity) = entry.entity.filter(|_| takes) {
            if let Body::Opened(opened) = &entry.body
                && let Some(parent) = opened.spawned_by.filter(|_| entity != self.history.cast)
            {
                self.joined.entry(entity).or_insert((id, parent));
            }
            if let Body::Delegated { child, .. } = &entry.body
                && *child != self.history.cast
            {
                self.joined.entry(*child).or_insert((id, entity));
            }
        }
        takes
    }

    /// The entries that show, one after the other, that one belongs to the cast; itself last.
    fn way_to(&self, sealed: &Sealed) -> Vec<EntryId> {
        let mut way = vec![sealed.id];
        let mut of = sealed.entry.entity;
        // Each entity is joined by one that was of the family before it: the way ends.
        while let Some((id, above)) = of.and_then(|entity| self.joined.get(&entity)) {
            if !way.contains(id) {
                way.push(*id);
            }
            of = Some(*above);
        }
        way.reverse();
        way
    }
}

#[cfg(test)]
#[path = "cast_history_tests.rs"]
mod tests;
