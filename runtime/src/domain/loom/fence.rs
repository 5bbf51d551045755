//! Signed fences: a node's word that it is about to go on with an entity.
//!
//! Whoever may adopt an entity whose turns had to be acknowledged first has keepers store its fence. From then on they acknowledge
//! nothing more of the entity to anybody else; what they have of it by then is what the adopter goes on from.

use ed25519_dalek::{Signature, VerifyingKey};

use crate::domain::ids::{EntityId, LoomId, WriterKey};

/// Says what is signed, so that no other signature of the key can be taken for it.
const STATEMENT: &[u8] = b"cantrip loom fence v1\0";

/// That somebody is about to adopt an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedFence {
    /// The loom.
    pub loom: LoomId,
    /// The entity.
    pub entity: EntityId,
    /// The epoch of the adoption that is to follow.
    pub epoch: u64,
    /// Who adopts it.
    pub by: WriterKey,
    /// Ed25519 over [`SignedFence::statement`].
    pub signature: [u8; 64],
}

impl SignedFence {
    /// Bytes of a fence as it is kept.
    const BYTES: usize = 22 + 22 + 8 + 32 + 64;

    /// What is signed: loom, entity, epoch and adopter, each of one length.
    pub fn statement(loom: LoomId, entity: EntityId, epoch: u64, by: WriterKey) -> Vec<u8> {
        [
            STATEMENT,
            loom.as_bytes().as_slice(),
            entity.as_bytes().as_slice(),
            epoch.to_be_bytes().as_slice(),
            by.as_bytes().as_slice(),
        ]
        .concat()
    }

    /// Whether the adopter has signed this.
    pub fn is_signed(&self) -> bool {
        let statement = Self::statement(self.loom, self.entity, self.epoch, self.by);
        VerifyingKey::from_bytes(self.by.as_bytes())
            .is_ok_and(|key| key.verify_strict(&statement, &Signature::from_bytes(&self.signature)).is_ok())
    }

    /// Of two fences of an entity the one with the higher rank holds: as of two adoptions.
    pub const fn rank(&self) -> (u64, WriterKey) {
        (self.epoch, self.by)
    }

    /// The fence as it is kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        [
            self.loom.as_bytes().as_slice(),
            self.entity.as_bytes().as_slice(),
            self.epoch.to_be_bytes().as_slice(),
            self.by.as_bytes().as_slice(),
            self.signature.as_slice(),
        ]
        .concat()
    }

    /// Reads a fence that was kept; nothing where the bytes are none. Its signature is not looked at.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != Self::BYTES {
            return None;
        }
        let (loom, rest) = bytes.split_first_chunk::<22>()?;
        let (entity, rest) = rest.split_first_chunk::<22>()?;
        let (epoch, rest) = rest.split_first_chunk::<8>()?;
        let (by, signature) = rest.split_first_chunk::<32>()?;
        Some(Self {
            loom: LoomId::from_bytes(*loom),
            entity: EntityId::from_bytes(*entity),
            epoch: u64::from_be_bytes(*epoch),
            by: WriterKey::from_bytes(*by),
            signature: signature.try_into().ok()?,
        })
    }
}
