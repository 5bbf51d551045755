//! The proof that a writer has signed two histories: where they divide, and what leads from there to a signed head on each side.

use serde::{Deserialize, Serialize};

use super::entry::Head;
use super::segment::SignedHead;
use crate::domain::ids::{EntryId, LoomId, WriterKey};
use crate::domain::limits::EQUIVOCATION_IDS_MAX;

/// One of two histories, from where they divide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// The entries up to the signed head: at least one, and at most [`EQUIVOCATION_IDS_MAX`].
    pub ids: Vec<EntryId>,
    /// The writer's signature over where they lead.
    pub signature: [u8; 64],
}

/// Two histories of one writer that go on differently from one head. It convinces whoever checks it, without the entries, and says from
/// which place on nothing of that writer decides anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EquivocationProof {
    /// The loom.
    pub loom: LoomId,
    /// Whose histories they are.
    pub writer: WriterKey,
    /// The last head that both have.
    pub common: Head,
    /// Both, the one with the lower first id first.
    pub sides: [Side; 2],
}

impl EquivocationProof {
    /// That two ways go on from one head.
    pub fn new(loom: LoomId, writer: WriterKey, common: Head, mut sides: [Side; 2]) -> Self {
        sides.sort_by_key(|side| side.ids.first().copied());
        Self { loom, writer, common, sides }
    }

    /// The first place at which the histories differ.
    pub const fn place(&self) -> u64 {
        self.common.sequence.saturating_add(1)
    }

    /// Whether it proves what it says.
    pub fn holds(&self) -> bool {
        let [one, other] = &self.sides;
        let (first, second) = (one.ids.first(), other.ids.first());
        first.zip(second).is_some_and(|(first, second)| first < second)
            && self.sides.iter().all(|side| side.ids.len() <= EQUIVOCATION_IDS_MAX && self.is_signed(side))
    }

    fn is_signed(&self, side: &Side) -> bool {
        let head = side.ids.iter().fold(self.common, |head, id| head.after(id));
        SignedHead { loom: self.loom, writer: self.writer, head, signature: side.signature }.is_signed()
    }

    /// As it is kept and sent: DAG-CBOR.
    pub fn to_bytes(&self) -> Vec<u8> {
        let side = |side: &Side| {
            let ids = side.ids.iter().map(|id| serde_bytes::ByteBuf::from(id.digest())).collect();
            WrittenSide { ids, signature: serde_bytes::ByteBuf::from(side.signature) }
        };
        let [one, other] = &self.sides;
        let written = Written {
            v: 2,
            loom: self.loom,
            writer: self.writer,
            seq: self.common.sequence,
            chain: serde_bytes::ByteBuf::from(self.common.chain),
            sides: (side(one), side(other)),
        };
        // Strings, numbers and bytes: DAG-CBOR holds all of them.
        serde_ipld_dagcbor::to_vec(&written).unwrap_or_default()
    }

    /// Reads a proof; nothing where the bytes are none, are not in the one form that it has, or prove nothing.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let written: Written = serde_ipld_dagcbor::from_slice(bytes).ok()?;
        let side = |side: WrittenSide| {
            let ids = side.ids.into_iter().map(|id| id.into_vec().try_into().ok().map(EntryId::from_digest));
            Some(Side { ids: ids.collect::<Option<_>>()?, signature: side.signature.into_vec().try_into().ok()? })
        };
        let (one, other) = written.sides;
        let proof = Self {
            loom: written.loom,
            writer: written.writer,
            common: Head { sequence: written.seq, chain: written.chain.into_vec().try_into().ok()? },
            sides: [side(one)?, side(other)?],
        };
        (proof.to_bytes() == bytes && proof.holds()).then_some(proof)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Written {
    v: u16,
    loom: LoomId,
    writer: WriterKey,
    seq: u64,
    chain: serde_bytes::ByteBuf,
    sides: (WrittenSide, WrittenSide),
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenSide {
    ids: Vec<serde_bytes::ByteBuf>,
    signature: serde_bytes::ByteBuf,
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
        EquivocationProof { loom, writer, common, sides }
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
        let mut same = proof([1, 3]);
        same.sides[1] = same.sides[0].clone();
        let mut unsigned = proof([1, 3]);
        unsigned.sides[1].signature = [0; 64];
        let mut moved = proof([1, 3]);
        moved.common = Head::default();
        let mut turned = proof([1, 3]);
        turned.sides.reverse();
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
