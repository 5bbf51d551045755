//! Cast heads: a host's word for everything that it has written of one cast.
//!
//! Whoever has an entity cast elsewhere gets only the entries of that cast, and no log that a head could vouch for. So the host
//! chains them apart from its log: each of its own entries of the entity and of what is below it, by place and id, in the order
//! of the log. A signature over that chain says as much of the cast as a signed head says of a log: what is in it, in which order,
//! and that nothing between was left out. The same code makes the chain on one side and checks it on the other.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::body::Body;
use super::cast_history::CastHistory;
use super::entry::{Entry, Sealed};
use crate::domain::ids::{EntityId, EntryId, LoomId, WriterKey};
use crate::domain::members::LogEnd;

/// Says what is signed, so that no other signature of the key can be taken for it.
const STATEMENT: &[u8] = b"cantrip cast head v1\0";

/// How far one writer's entries of a cast are: `chain(n) = BLAKE3(chain(n-1) ‖ place(n) ‖ id(n))`, from 32 zero bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct CastChain {
    /// The place of the last of them in its writer's log; 0: there is none.
    pub place: u64,
    /// The chained hash.
    #[serde(with = "serde_bytes")]
    pub chain: [u8; 32],
}

impl CastChain {
    /// The chain after one more entry.
    #[must_use]
    pub fn after(&self, place: u64, id: &EntryId) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.chain).update(&place.to_be_bytes()).update(&id.digest());
        Self { place, chain: *hasher.finalize().as_bytes() }
    }
}

/// A writer's word for its entries of one cast up to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CastHead {
    /// The loom.
    pub loom: LoomId,
    /// Who wrote the entries, and signs.
    pub writer: WriterKey,
    /// The entity at the root of the cast, over all its episodes.
    pub cast: EntityId,
    /// How far.
    pub at: CastChain,
    /// Ed25519 over [`CastHead::statement`].
    pub signature: [u8; 64],
}

/// A head as it is written.
#[derive(Serialize, Deserialize)]
struct Written(LoomId, WriterKey, EntityId, CastChain, serde_bytes::ByteArray<64>);

impl CastHead {
    /// What is signed: loom, writer, cast, place and chain, each of one length.
    pub fn statement(loom: LoomId, writer: WriterKey, cast: EntityId, at: &CastChain) -> Vec<u8> {
        [
            STATEMENT,
            loom.as_bytes().as_slice(),
            writer.as_bytes().as_slice(),
            cast.as_bytes().as_slice(),
            at.place.to_be_bytes().as_slice(),
            at.chain.as_slice(),
        ]
        .concat()
    }

    /// Whether the writer has signed this.
    pub fn is_signed(&self) -> bool {
        let statement = Self::statement(self.loom, self.writer, self.cast, &self.at);
        VerifyingKey::from_bytes(self.writer.as_bytes())
            .is_ok_and(|key| key.verify_strict(&statement, &Signature::from_bytes(&self.signature)).is_ok())
    }

    /// Heads as they are kept: DAG-CBOR.
    pub fn to_bytes(heads: &[Self]) -> Vec<u8> {
        let written = |head: &Self| {
            Written(head.loom, head.writer, head.cast, head.at, serde_bytes::ByteArray::new(head.signature))
        };
        let written: Vec<Written> = heads.iter().map(written).collect();
        // Strings, numbers and bytes: DAG-CBOR holds all of them.
        serde_ipld_dagcbor::to_vec(&written).unwrap_or_default()
    }

    /// Reads heads that were kept; nothing where the bytes are none. Their signatures are not looked at.
    pub fn parse(bytes: &[u8]) -> Option<Vec<Self>> {
        let written: Vec<Written> = serde_ipld_dagcbor::from_slice(bytes).ok()?;
        let head = |Written(loom, writer, cast, at, signature): Written| Self {
            loom,
            writer,
            cast,
            at,
            signature: signature.into_array(),
        };
        Some(written.into_iter().map(head).collect())
    }
}

/// The entities of a cast, as one writer's own log shows them: the root, whoever it opened below them, and whom they delegated to.
/// It depends on nothing that came from others, so that the same log always gives the same chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CastFamily(BTreeSet<EntityId>);

impl CastFamily {
    /// Of the cast of this entity.
    pub fn of(cast: EntityId) -> Self {
        Self(BTreeSet::from([cast]))
    }

    /// Whether an entry belongs to the cast. Asked of every entry of a log, in its order.
    pub fn takes(&mut self, entry: &Entry) -> bool {
        let parent = if let Body::Opened(opened) = &entry.body { opened.spawned_by } else { None };
        let Some(entity) = entry.entity else { return false };
        if !self.0.contains(&entity) && !parent.is_some_and(|parent| self.0.contains(&parent)) {
            return false;
        }
        self.0.insert(entity);
        if let Body::Delegated { child, .. } = &entry.body {
            self.0.insert(*child);
        }
        true
    }

    /// All of them.
    pub fn entities(&self) -> impl Iterator<Item = EntityId> + '_ {
        self.0.iter().copied()
    }

    /// Whether an entity is in it.
    pub fn has(&self, entity: EntityId) -> bool {
        self.0.contains(&entity)
    }
}

/// Follows one writer's entries of a cast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CastUnit {
    family: CastFamily,
    at: CastChain,
    count: u64,
}

impl CastUnit {
    /// Before its first entry.
    pub fn of(cast: EntityId) -> Self {
        Self { family: CastFamily::of(cast), at: CastChain::default(), count: 0 }
    }

    /// How far it is.
    pub const fn at(&self) -> CastChain {
        self.at
    }

    /// The place that it has reached, as entries name it.
    pub const fn end(&self, writer: WriterKey, cast: EntityId) -> LogEnd {
        LogEnd { writer, sequence: self.count, chain: self.at.chain, cast: Some(cast) }
    }

    /// Adds the next entry of the writer's log if it is one of the cast. Returns whether it is.
    pub fn takes(&mut self, sealed: &Sealed) -> bool {
        let takes = self.family.takes(&sealed.entry);
        if takes {
            self.at = self.at.after(sealed.entry.sequence, &sealed.id);
            self.count = self.count.saturating_add(1);
        }
        takes
    }
}

/// Why entries that came with cast heads are refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CastHeadError {
    /// A head of something else.
    #[error("a cast head is of loom {said}, and this cast is recorded in {loom}")]
    Loom {
        /// What it says.
        said: LoomId,
        /// What it should say.
        loom: LoomId,
    },
    /// A head of something else.
    #[error("a cast head of {writer} is of the cast of {cast}, which nobody of this cast has delegated to")]
    Cast {
        /// Whose head.
        writer: WriterKey,
        /// The root of the cast that it is of.
        cast: EntityId,
    },
    /// Two heads where one is enough.
    #[error("two cast heads of {writer} for the cast of {cast} came at once")]
    Twice {
        /// Whose.
        writer: WriterKey,
        /// Of which cast.
        cast: EntityId,
    },
    /// An entry at a place that has been passed.
    #[error("entry {place} of {writer} came again, or behind a later one, within one connection")]
    Order {
        /// Whose.
        writer: WriterKey,
        /// Its place.
        place: u64,
    },
    /// Not what the head was signed over.
    #[error(
        "the cast head of {writer} is of entry {signed} of its log, and what came leads to entry {came} by another way: an entry \
         was left out, added, moved or exchanged"
    )]
    Chain {
        /// Whose.
        writer: WriterKey,
        /// Where the head is.
        signed: u64,
        /// Where the entries lead.
        came: u64,
    },
    /// Two histories.
    #[error(
        "{writer} has signed two histories of this cast: what came is not what it has signed up to entry {place} of its log before"
    )]
    Contradiction {
        /// Whose.
        writer: WriterKey,
        /// Where they part at the latest.
        place: u64,
    },
    /// Less than there was.
    #[error("{writer} ends the cast at entry {came} of its log, and has signed it up to entry {known} before")]
    Short {
        /// Whose.
        writer: WriterKey,
        /// Where it ends.
        came: u64,
        /// How far it was known.
        known: u64,
    },
    /// Not the writer's word.
    #[error("the cast head of entry {place} is not signed by {writer}")]
    Signature {
        /// Who should have signed.
        writer: WriterKey,
        /// The place.
        place: u64,
    },
    /// An entry that nobody vouches for.
    #[error("entry {id} is under no cast head of its writer {writer}")]
    Uncovered {
        /// Which.
        id: EntryId,
        /// Whose.
        writer: WriterKey,
    },
}

/// Entries of a cast that their writers have signed, to be kept in one step.
#[derive(Debug, Clone)]
pub struct CastBatch {
    pub(crate) loom: LoomId,
    pub(crate) entries: Vec<Sealed>,
    pub(crate) heads: Vec<CastHead>,
}

impl CastBatch {
    /// The loom.
    pub const fn loom(&self) -> LoomId {
        self.loom
    }

    /// The entries that are new, in the order in which they came; none that this node wrote itself.
    pub fn entries(&self) -> &[Sealed] {
        &self.entries
    }

    /// The heads that are newer than those before.
    pub fn heads(&self) -> &[CastHead] {
        &self.heads
    }
}

/// What is known of one writer's entries of a cast that come over a connection.
#[derive(Debug, Clone)]
struct Coming {
    unit: CastUnit,
    /// The newest head that was taken.
    known: Option<CastHead>,
    /// That head as entries name it.
    end: Option<LogEnd>,
    /// Nothing of it has come over this connection.
    is_fresh: bool,
    /// What came over this connection from the beginning of the cast, and the newest head over it.
    came: Vec<(u64, EntryId)>,
    word: Option<CastHead>,
}

impl Coming {
    fn of(cast: EntityId) -> Self {
        let (unit, came) = (CastUnit::of(cast), Vec::new());
        Self { unit, known: None, end: None, is_fresh: true, came, word: None }
    }

    fn know(&mut self, head: CastHead) {
        self.known = Some(head);
        self.end = Some(self.unit.end(head.writer, head.cast)).filter(|_| self.unit.at == head.at);
    }

    /// Notes the writer's word for what came, if it is that.
    fn hear(&mut self, head: &CastHead) -> bool {
        let is_signed = head.is_signed();
        if is_signed && self.unit.at == head.at {
            self.word = Some(*head);
        }
        is_signed
    }

    fn follow(&mut self, sealed: &Sealed) {
        if sealed.entry.sequence > self.unit.at.place && self.unit.takes(sealed) {
            self.came.push((sealed.entry.sequence, sealed.id));
        }
    }

    fn known_place(&self) -> u64 {
        self.known.map_or(0, |known| known.at.place)
    }

    /// Takes an entry if it is one of the cast. Over a new connection everything may come again from its beginning.
    fn takes(&mut self, cast: EntityId, sealed: &Sealed) -> Result<bool, CastHeadError> {
        let (writer, place) = (sealed.entry.writer, sealed.entry.sequence);
        let before = self.unit.at.place;
        if place > before {
            let takes = self.unit.takes(sealed);
            if !takes {
                return Ok(false);
            }
            self.is_fresh = false;
            self.came.push((place, sealed.id));
            let known = self.known_place();
            let is_other = self.known.is_some_and(|known| known.at.place == place && known.at != self.unit.at);
            if is_other || (before < known && known < place) {
                return Err(CastHeadError::Contradiction { writer, place: known });
            }
            return Ok(true);
        }
        if !sealed.entry.entity.is_some_and(|entity| self.unit.family.has(entity)) {
            return Ok(false);
        }
        if !self.is_fresh || place == 0 {
            return Err(CastHeadError::Order { writer, place });
        }
        self.unit = CastUnit::of(cast);
        (self.came, self.word) = (Vec::new(), None);
        self.takes(cast, sealed)
    }
}

/// Checks what comes of one cast: every entry under a head of its writer, each head over exactly the entries that came.
#[derive(Debug, Clone)]
pub struct CastStream {
    loom: LoomId,
    own: WriterKey,
    root: Option<EntityId>,
    casts: BTreeSet<EntityId>,
    units: BTreeMap<(WriterKey, EntityId), Coming>,
    /// What was not as it was signed: part of the step may have been followed already.
    refused: Option<CastHeadError>,
}

impl CastStream {
    /// Of the cast of this entity, for the node that writes under this key.
    pub fn new(loom: LoomId, own: WriterKey, root: EntityId) -> Self {
        Self { root: Some(root), ..Self::of_all(loom, own) }
    }

    /// Of whatever casts of a loom there are, as an archive has them.
    pub const fn of_all(loom: LoomId, own: WriterKey) -> Self {
        Self { loom, own, root: None, casts: BTreeSet::new(), units: BTreeMap::new(), refused: None }
    }

    /// Goes on behind what is kept already, which was checked when it came: the entries and heads of one step, in their order.
    pub fn restore(&mut self, entries: &[Sealed], heads: &[CastHead]) {
        self.delegations(entries);
        for head in heads {
            let coming = self.units.entry((head.writer, head.cast)).or_insert_with(|| Coming::of(head.cast));
            if head.at.place <= coming.known_place() {
                continue;
            }
            for sealed in entries.iter().filter(|sealed| sealed.entry.writer == head.writer) {
                if sealed.entry.sequence > coming.unit.at.place {
                    coming.unit.takes(sealed);
                }
            }
            coming.know(*head);
        }
    }

    /// Is told that a new connection begins: what was on its way is sent again.
    pub fn connected(&mut self) {
        for coming in self.units.values_mut() {
            coming.is_fresh = true;
        }
    }

    /// The newest heads of the cast itself: whoever joins it shows them to its host.
    pub fn shown(&self) -> Vec<CastHead> {
        let own = self.units.iter().filter(|((_, cast), _)| Some(*cast) == self.root);
        own.filter_map(|(_, coming)| coming.known).collect()
    }

    /// What each writer has signed of a cast over this connection: where it is not what was signed before, it proves that.
    pub fn said(&self) -> Vec<CastHistory> {
        let said = self.units.iter().filter_map(|((writer, cast), coming)| {
            let word = coming.word?;
            Some(CastHistory::new((self.loom, *writer, *cast), coming.came.clone(), [word]))
        });
        said.collect()
    }

    /// How far each writer of the cast has signed.
    pub fn heads(&self) -> Vec<CastHead> {
        self.units.values().filter_map(|coming| coming.known).collect()
    }

    /// The same as entries name it.
    pub fn ends(&self) -> Vec<LogEnd> {
        self.units.values().filter_map(|coming| coming.end).collect()
    }

    fn delegations(&mut self, entries: &[Sealed]) {
        for sealed in entries {
            if let Body::Delegated { child, .. } = &sealed.entry.body {
                self.casts.insert(*child);
            }
        }
    }

    /// Checks the entries that came since the heads before, and the heads that come with them.
    ///
    /// # Errors
    /// The first thing that is not as it was signed. Nothing more is taken after that: who goes on begins with what was kept.
    pub fn check(&mut self, entries: Vec<Sealed>, heads: Vec<CastHead>) -> Result<CastBatch, CastHeadError> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        let checked = self.check_step(entries, heads);
        self.refused = checked.as_ref().err().cloned();
        checked
    }

    fn check_step(&mut self, entries: Vec<Sealed>, heads: Vec<CastHead>) -> Result<CastBatch, CastHeadError> {
        self.delegations(&entries);
        // For each entry whether it is covered, and whether anything of it is new.
        let mut marks = vec![(false, false); entries.len()];
        let mut met = BTreeSet::new();
        let mut newer = Vec::new();
        for head in heads {
            if head.loom != self.loom {
                return Err(CastHeadError::Loom { said: head.loom, loom: self.loom });
            }
            let CastHead { writer, cast, .. } = head;
            if self.root.is_some_and(|root| root != cast) && !self.casts.contains(&cast) {
                return Err(CastHeadError::Cast { writer, cast });
            }
            if !met.insert((writer, cast)) {
                return Err(CastHeadError::Twice { writer, cast });
            }
            if self.cover(&head, &entries, &mut marks)? {
                newer.push(head);
            }
        }
        let uncovered = entries.iter().zip(&marks).find(|(_, (is_covered, _))| !is_covered);
        if let Some((sealed, _)) = uncovered {
            return Err(CastHeadError::Uncovered { id: sealed.id, writer: sealed.entry.writer });
        }
        let own = self.own;
        let new = entries.into_iter().zip(marks).filter(|(sealed, (_, is_new))| *is_new && sealed.entry.writer != own);
        let entries = new.map(|(sealed, _)| sealed).collect();
        newer.retain(|head| head.writer != own);
        Ok(CastBatch { loom: self.loom, entries, heads: newer })
    }

    /// Follows the entries that a head is over. Returns whether the head is newer than what was known.
    fn cover(
        &mut self,
        head: &CastHead,
        entries: &[Sealed],
        marks: &mut [(bool, bool)],
    ) -> Result<bool, CastHeadError> {
        let CastHead { writer, cast, at, .. } = *head;
        let coming = self.units.entry((writer, cast)).or_insert_with(|| Coming::of(cast));
        let known = coming.known_place();
        let mut of_writer = entries.iter().zip(marks).filter(|(sealed, _)| sealed.entry.writer == writer);
        while let Some((sealed, mark)) = of_writer.next() {
            match coming.takes(cast, sealed) {
                Ok(true) => *mark = (true, mark.1 || sealed.entry.sequence > known),
                Ok(false) => {}
                Err(error) => {
                    // What contradicts is looked at as far as the writer has signed it: it proves that.
                    of_writer.for_each(|(sealed, _)| coming.follow(sealed));
                    coming.hear(head);
                    return Err(error);
                }
            }
        }
        if coming.unit.at != at {
            return Err(CastHeadError::Chain { writer, signed: at.place, came: coming.unit.at.place });
        }
        if coming.known.is_some_and(|known| known == *head) {
            return Ok(false);
        }
        if !coming.hear(head) {
            return Err(CastHeadError::Signature { writer, place: at.place });
        }
        let is_newer = at.place > known;
        if is_newer {
            coming.know(*head);
        }
        Ok(is_newer)
    }

    /// Goes on behind what is here with what one more head covers; what is here already is passed over. Returns nothing for a head
    /// that is no newer.
    ///
    /// # Errors
    /// A head that is not its writer's word for these entries. Nothing more of its cast is to be taken after that.
    pub fn go_on(&mut self, entries: &[Sealed], head: &CastHead) -> Result<Option<CastBatch>, CastHeadError> {
        let CastHead { loom, writer, cast, at, .. } = *head;
        if loom != self.loom {
            return Err(CastHeadError::Loom { said: loom, loom: self.loom });
        }
        let coming = self.units.entry((writer, cast)).or_insert_with(|| Coming::of(cast));
        if at.place <= coming.known_place() {
            return Ok(None);
        }
        if !head.is_signed() {
            return Err(CastHeadError::Signature { writer, place: at.place });
        }
        let mut new = Vec::new();
        for sealed in entries.iter().filter(|sealed| sealed.entry.writer == writer) {
            let is_next = sealed.entry.sequence > coming.unit.at.place && sealed.entry.sequence <= at.place;
            if is_next && coming.unit.takes(sealed) {
                new.push(sealed.clone());
            }
        }
        if coming.unit.at != at {
            return Err(CastHeadError::Chain { writer, signed: at.place, came: coming.unit.at.place });
        }
        coming.know(*head);
        Ok(Some(CastBatch { loom, entries: new, heads: vec![*head] }))
    }

    /// Says that nothing more comes.
    ///
    /// # Errors
    /// A writer of which less came than it has signed before.
    pub fn finish(&self) -> Result<(), CastHeadError> {
        for ((writer, _), coming) in &self.units {
            let (came, known) = (coming.unit.at.place, coming.known_place());
            if !coming.is_fresh && came < known {
                return Err(CastHeadError::Short { writer: *writer, came, known });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "cast_head_tests.rs"]
mod tests;
