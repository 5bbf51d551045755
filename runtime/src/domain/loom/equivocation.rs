//! The proof that a writer has signed two histories: where they divide, and what leads from there to a signed head on each side.
//!
//! A history is said by a log and, of what belongs to a cast, by the heads over it too ([`super::cast_head`]). So two of a writer's words
//! contradict each other in three ways: two logs go on differently from one head; one place is given to two entries; a cast head leaves
//! out an entry that the log has and that belongs to the cast.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::cast_head::{CastChain, CastFamily, CastHead};
use super::entry::Head;
use super::segment::SignedHead;
use crate::domain::ids::{EntityId, EntryId, LoomId, WriterKey};
use crate::domain::limits::{EQUIVOCATION_IDS_MAX, EQUIVOCATION_SHOWN_MAX};
use crate::domain::members::ProvedEntry;

/// One of two logs, from where they divide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// The entries up to the signed head: at least one, and at most [`EQUIVOCATION_IDS_MAX`].
    pub ids: Vec<EntryId>,
    /// The writer's signature over where they lead.
    pub signature: [u8; 64],
}

/// What a row of entries belongs to, and what is before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Before {
    /// The writer's log, up to this head.
    Log(Head),
    /// What the writer wrote of a cast: its root, and the chain before the row.
    Cast(EntityId, [u8; 32]),
}

/// Entries of one writer that follow one another in its log, or among those of a cast, up to a head that it has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What is before it.
    pub before: Before,
    /// Each with its place in the log: at least one, and at most [`EQUIVOCATION_IDS_MAX`].
    pub items: Vec<(u64, EntryId)>,
    /// The writer's signature over where they lead.
    pub signature: [u8; 64],
}

impl Row {
    fn is_signed(&self, loom: LoomId, writer: WriterKey) -> bool {
        let is_in_order = self.items.windows(2).all(|pair| matches!(pair, [(one, _), (other, _)] if one < other));
        if self.items.is_empty() || self.items.len() > EQUIVOCATION_IDS_MAX || !is_in_order {
            return false;
        }
        match self.before {
            Before::Log(before) => {
                let mut head = before;
                for (place, id) in &self.items {
                    head = head.after(id);
                    if head.sequence != *place {
                        return false;
                    }
                }
                SignedHead { loom, writer, head, signature: self.signature }.is_signed()
            }
            Before::Cast(cast, chain) => {
                let before = CastChain { place: 0, chain };
                let at = self.items.iter().fold(before, |at, (place, id)| at.after(*place, id));
                CastHead { loom, writer, cast, at, signature: self.signature }.is_signed()
            }
        }
    }

    /// Whether it shows that nothing of its cast is at a place: what comes next is behind it, and what was last before it. Of the chain
    /// alone nothing says how far it was, but that it begins with zeros.
    fn leaves_out(&self, place: u64) -> Option<EntityId> {
        let Before::Cast(cast, chain) = self.before else { return None };
        let leaves_out = match self.items.as_slice() {
            [(first, _), ..] if *first > place => chain == CastChain::default().chain,
            [(first, _), (second, _), ..] => *first < place && place < *second,
            _ => false,
        };
        leaves_out.then_some(cast)
    }
}

/// How two of a writer's words contradict each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Division {
    /// Two logs go on differently from one head.
    Logs {
        /// The last head that both have.
        common: Head,
        /// Both, the one with the lower first id first.
        sides: [Side; 2],
    },
    /// Two rows begin with different entries at one place, or go on differently from the same entries of one cast.
    Rows([Row; 2]),
    /// A cast head leaves out an entry of its cast.
    LeftOut {
        /// The entry as the log has it, last, and before it what shows that it belongs to the cast.
        shown: Vec<ProvedEntry>,
        /// What is signed of the cast around the place of the entry.
        row: Row,
    },
}

/// Two histories of one writer. It convinces whoever checks it, and says from which place on nothing of that writer decides anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EquivocationProof {
    /// The loom.
    pub loom: LoomId,
    /// Whose histories they are.
    pub writer: WriterKey,
    /// Where and how they differ.
    pub division: Division,
}

impl EquivocationProof {
    /// That two ways go on from one head of a log.
    pub fn new(loom: LoomId, writer: WriterKey, common: Head, mut sides: [Side; 2]) -> Self {
        sides.sort_by_key(|side| side.ids.first().copied());
        Self { loom, writer, division: Division::Logs { common, sides } }
    }

    /// The first place at which the histories differ.
    pub fn place(&self) -> u64 {
        match &self.division {
            Division::Logs { common, .. } => common.sequence.saturating_add(1),
            Division::Rows(rows) => {
                let first = |row: &Row| row.items.first().map_or(u64::MAX, |(place, _)| *place);
                let [one, other] = rows;
                first(one).min(first(other))
            }
            Division::LeftOut { shown, .. } => {
                shown.last().map_or(u64::MAX, |shown| shown.before.sequence.saturating_add(1))
            }
        }
    }

    /// The last head that two logs have in common.
    pub const fn common(&self) -> Option<Head> {
        match self.division {
            Division::Logs { common, .. } => Some(common),
            Division::Rows(_) | Division::LeftOut { .. } => None,
        }
    }

    /// Whether it proves what it says.
    pub fn holds(&self) -> bool {
        match &self.division {
            Division::Logs { common, sides: [one, other] } => {
                let (first, second) = (one.ids.first(), other.ids.first());
                first.zip(second).is_some_and(|(first, second)| first < second)
                    && [one, other]
                        .iter()
                        .all(|side| side.ids.len() <= EQUIVOCATION_IDS_MAX && self.is_signed(*common, side))
            }
            Division::Rows(rows) => self.rows_divide(rows),
            Division::LeftOut { shown, row } => self.is_left_out(shown, row),
        }
    }

    fn is_signed(&self, common: Head, side: &Side) -> bool {
        let head = side.ids.iter().fold(common, |head, id| head.after(id));
        SignedHead { loom: self.loom, writer: self.writer, head, signature: side.signature }.is_signed()
    }

    fn rows_divide(&self, rows: &[Row; 2]) -> bool {
        let [one, other] = rows;
        let (Some((first, id)), Some((second, other_id))) = (one.items.first(), other.items.first()) else {
            return false;
        };
        // Two logs have the form above.
        let is_of_cast = matches!(other.before, Before::Cast(..));
        let is_one_way = is_of_cast && one.before == other.before && (first, id) != (second, other_id);
        let is_one_place = is_of_cast && first == second && id != other_id;
        (is_one_way || is_one_place) && rows.iter().all(|row| row.is_signed(self.loom, self.writer))
    }

    fn is_left_out(&self, shown: &[ProvedEntry], row: &Row) -> bool {
        let Some(cast) = row.leaves_out(self.place()) else { return false };
        if shown.len() > EQUIVOCATION_SHOWN_MAX || !row.is_signed(self.loom, self.writer) {
            return false;
        }
        let (mut family, mut before) = (CastFamily::of(cast), 0);
        shown.iter().all(|proved| {
            let Ok(proof) = proved.clone().check() else { return false };
            let entry = &proof.sealed().entry;
            let follows = entry.sequence > std::mem::replace(&mut before, entry.sequence);
            follows && (entry.loom, entry.writer) == (self.loom, self.writer) && family.takes(entry)
        })
    }

    /// As it is kept and sent: DAG-CBOR.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (v, loom, writer) = (VERSION, self.loom, self.writer);
        // Strings, numbers and bytes: DAG-CBOR holds all of them.
        match &self.division {
            Division::Logs { common, sides: [one, other] } => {
                let chain = ByteBuf::from(common.chain);
                let sides = (WrittenSide::of(one), WrittenSide::of(other));
                serde_ipld_dagcbor::to_vec(&WrittenLogs { v, loom, writer, seq: common.sequence, chain, sides })
            }
            Division::Rows([one, other]) => {
                let rows = (WrittenRow::of(one), WrittenRow::of(other));
                serde_ipld_dagcbor::to_vec(&WrittenRows { v, loom, writer, rows })
            }
            Division::LeftOut { shown, row } => {
                let shown = shown.iter().map(|shown| ByteBuf::from(shown.to_bytes())).collect();
                serde_ipld_dagcbor::to_vec(&WrittenLeftOut { v, loom, writer, shown, row: WrittenRow::of(row) })
            }
        }
        .unwrap_or_default()
    }

    /// Reads a proof; nothing where the bytes are none, are not in the one form that it has, or prove nothing.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let proof = Self::logs(bytes).or_else(|| Self::rows(bytes)).or_else(|| Self::left_out(bytes))?;
        (proof.to_bytes() == bytes && proof.holds()).then_some(proof)
    }

    fn logs(bytes: &[u8]) -> Option<Self> {
        let it: WrittenLogs = serde_ipld_dagcbor::from_slice(bytes).ok()?;
        let (one, other) = it.sides;
        let common = Head { sequence: it.seq, chain: it.chain.into_vec().try_into().ok()? };
        let division = Division::Logs { common, sides: [one.read()?, other.read()?] };
        Some(Self { loom: it.loom, writer: it.writer, division })
    }

    fn rows(bytes: &[u8]) -> Option<Self> {
        let it: WrittenRows = serde_ipld_dagcbor::from_slice(bytes).ok()?;
        let (one, other) = it.rows;
        Some(Self { loom: it.loom, writer: it.writer, division: Division::Rows([one.read()?, other.read()?]) })
    }

    fn left_out(bytes: &[u8]) -> Option<Self> {
        let it: WrittenLeftOut = serde_ipld_dagcbor::from_slice(bytes).ok()?;
        let shown = it.shown.iter().map(|bytes| ProvedEntry::parse(bytes).ok()).collect::<Option<_>>()?;
        Some(Self { loom: it.loom, writer: it.writer, division: Division::LeftOut { shown, row: it.row.read()? } })
    }
}

/// The version of the form: the format of the entries that it is about.
const VERSION: u16 = 2;

#[derive(Debug, Serialize, Deserialize)]
struct WrittenLogs {
    v: u16,
    loom: LoomId,
    writer: WriterKey,
    seq: u64,
    chain: ByteBuf,
    sides: (WrittenSide, WrittenSide),
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenSide {
    ids: Vec<ByteBuf>,
    signature: ByteBuf,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenRows {
    v: u16,
    loom: LoomId,
    writer: WriterKey,
    rows: (WrittenRow, WrittenRow),
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenLeftOut {
    v: u16,
    loom: LoomId,
    writer: WriterKey,
    shown: Vec<ByteBuf>,
    row: WrittenRow,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenRow {
    /// The root of the cast; nothing for a log.
    cast: Option<EntityId>,
    /// The place before it in a log; 0 for a cast.
    seq: u64,
    chain: ByteBuf,
    places: Vec<u64>,
    ids: Vec<ByteBuf>,
    signature: ByteBuf,
}

fn written_ids<'a>(ids: impl Iterator<Item = &'a EntryId>) -> Vec<ByteBuf> {
    ids.map(|id| ByteBuf::from(id.digest())).collect()
}

fn read_ids(ids: Vec<ByteBuf>) -> Option<Vec<EntryId>> {
    ids.into_iter().map(|id| id.into_vec().try_into().ok().map(EntryId::from_digest)).collect()
}

impl WrittenSide {
    fn of(side: &Side) -> Self {
        Self { ids: written_ids(side.ids.iter()), signature: ByteBuf::from(side.signature) }
    }

    fn read(self) -> Option<Side> {
        Some(Side { ids: read_ids(self.ids)?, signature: self.signature.into_vec().try_into().ok()? })
    }
}

impl WrittenRow {
    fn of(row: &Row) -> Self {
        let (cast, seq, chain) = match row.before {
            Before::Log(head) => (None, head.sequence, head.chain),
            Before::Cast(cast, chain) => (Some(cast), 0, chain),
        };
        Self {
            cast,
            seq,
            chain: ByteBuf::from(chain),
            places: row.items.iter().map(|(place, _)| *place).collect(),
            ids: written_ids(row.items.iter().map(|(_, id)| id)),
            signature: ByteBuf::from(row.signature),
        }
    }

    fn read(self) -> Option<Row> {
        let chain = self.chain.into_vec().try_into().ok()?;
        let before = match self.cast {
            Some(cast) => Before::Cast(cast, chain),
            None => Before::Log(Head { sequence: self.seq, chain }),
        };
        let ids = read_ids(self.ids)?;
        let signature = self.signature.into_vec().try_into().ok()?;
        (ids.len() == self.places.len()).then(|| Row {
            before,
            items: self.places.into_iter().zip(ids).collect(),
            signature,
        })
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};

    use super::*;

    fn id(number: u64) -> EntryId {
        EntryId::of(&number.to_be_bytes())
    }

    /// Two histories behind one entry, of so many entries each.
    fn proof(lengths: [u64; 2]) -> EquivocationProof {
        let key = SigningKey::from_bytes(&[1; 32]);
        let writer = WriterKey::from_bytes(*key.verifying_key().as_bytes());
        let (loom, common) = (LoomId::from_parts(1, [2; 16]), Head::default().after(&id(0)));
        let mut first = 1_000;
        let mut sides = lengths.map(|length| {
            first += 10_000;
            let ids = (first..first + length).map(id).collect::<Vec<_>>();
            let head = ids.iter().fold(common, |head, id| head.after(id));
            let signature = key.sign(&SignedHead::statement(loom, writer, &head)).to_bytes();
            Side { ids, signature }
        });
        sides.sort_by_key(|side| side.ids.first().copied());
        EquivocationProof { loom, writer, division: Division::Logs { common, sides } }
    }

    #[test]
    fn two_signed_ways_on_from_one_head_are_a_proof_and_bytes_lead_back_to_it() {
        let proof = proof([1, 3]);
        assert!(proof.holds());
        assert_eq!(proof.place(), 2);
        assert_eq!(EquivocationProof::parse(&proof.to_bytes()), Some(proof));
    }

    #[test]
    fn what_is_unsigned_the_same_or_too_long_proves_nothing() {
        let changed = |change: fn(&mut Head, &mut [Side; 2])| {
            let mut proof = proof([1, 3]);
            let Division::Logs { common, sides } = &mut proof.division else { panic!("{proof:?}") };
            change(common, sides);
            proof
        };
        let same = changed(|_, sides| sides[1] = sides[0].clone());
        let unsigned = changed(|_, sides| sides[1].signature = [0; 64]);
        let moved = changed(|common, _| *common = Head::default());
        let turned = changed(|_, sides| sides.reverse());
        for proof in [same, unsigned, moved, turned] {
            assert!(!proof.holds() && EquivocationProof::parse(&proof.to_bytes()).is_none(), "{proof:?}");
        }
    }

    #[test]
    fn a_side_of_a_proof_is_bounded() {
        let most = u64::try_from(EQUIVOCATION_IDS_MAX).unwrap_or(0);
        assert!(proof([most, 1]).holds());
        assert!(!proof([most + 1, 1]).holds());
    }
}
