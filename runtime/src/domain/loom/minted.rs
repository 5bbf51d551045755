//! Whether the ids that an entry brings into the record commit to those who minted them.
//!
//! This is decided from one entry alone, so everybody decides alike: whoever writes one, keeps one, is sent one or reads one.

use thiserror::Error;

use super::body::Body;
use super::entry::Entry;
use crate::domain::ids::{EntityId, LoomId, WriterKey};

/// Why an id in an entry is not its minter's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unminted {
    /// A founding entry behind others.
    #[error("it founds the loom at place {sequence} of its log, and only the first entry of a log can")]
    LateFounding {
        /// Its place.
        sequence: u64,
    },
    /// A founding entry of somebody who did not make the loom's id.
    #[error("it founds the loom {loom}, whose id does not commit to {writer}, the nonce and the member record in it")]
    Loom {
        /// The loom.
        loom: LoomId,
        /// Who wrote the entry.
        writer: WriterKey,
    },
    /// An opening that does not say what the entity's id commits to.
    #[error("it opens the entity {entity} and does not say who minted its id")]
    Unsaid {
        /// The entity.
        entity: EntityId,
    },
    /// An opening with another key or nonce than the id commits to.
    #[error("it opens the entity {entity}, whose id does not commit to {by} and the nonce in it")]
    Entity {
        /// The entity.
        entity: EntityId,
        /// Who is said to have minted it.
        by: WriterKey,
    },
    /// A child whose id is not its caller's.
    #[error("it delegates to the entity {child}, whose id does not commit to {writer} and the nonce in it")]
    Child {
        /// The child.
        child: EntityId,
        /// Who wrote the entry.
        writer: WriterKey,
    },
}

impl Entry {
    /// Checks that what the entry founds, opens or delegates to has an id that commits to who minted it.
    ///
    /// # Errors
    /// The id that does not.
    pub fn check_minted(&self) -> Result<(), Unminted> {
        match &self.body {
            Body::Founded { .. } if self.sequence != 1 => Err(Unminted::LateFounding { sequence: self.sequence }),
            Body::Founded { nonce, member } => {
                let member = member.as_ref().map(|member| member.as_slice());
                let is_theirs = self.loom.is_minted_by(&self.writer, nonce, member);
                is_theirs.then_some(()).ok_or(Unminted::Loom { loom: self.loom, writer: self.writer })
            }
            Body::Opened(opened) => {
                // An opening without an entity is refused where entries are decoded.
                let Some(entity) = self.entity else { return Ok(()) };
                let minted = opened.minted.ok_or(Unminted::Unsaid { entity })?;
                let is_theirs = entity.is_minted_by(&minted.by, &minted.nonce);
                is_theirs.then_some(()).ok_or(Unminted::Entity { entity, by: minted.by })
            }
            Body::Delegated { child, nonce, .. } => {
                let is_theirs = nonce.as_ref().is_some_and(|nonce| child.is_minted_by(&self.writer, nonce));
                is_theirs.then_some(()).ok_or(Unminted::Child { child: *child, writer: self.writer })
            }
            Body::Intent(_)
            | Body::Utterance(_)
            | Body::GateCalled { .. }
            | Body::GateReturned { .. }
            | Body::Observation(_)
            | Body::Snapshot { .. }
            | Body::Folded { .. }
            | Body::Decided(_)
            | Body::Ended(_)
            | Body::Rewarded { .. }
            | Body::Replayed { .. }
            | Body::Adopted { .. }
            | Body::Admitted(_)
            | Body::Expelled(_)
            | Body::Settled(_)
            | Body::Keeping { .. }
            | Body::Unknown(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Minted, Opened};
    use super::*;
    use crate::domain::ids::CallId;
    use crate::domain::loom::Payload;
    use crate::domain::members::Nonce;
    use crate::domain::place::CallPlace;

    const MINE: WriterKey = WriterKey::from_bytes([1; 32]);
    const THEIRS: WriterKey = WriterKey::from_bytes([2; 32]);
    const NONCE: Nonce = Nonce::from_bytes([3; 16]);

    fn entry(writer: WriterKey, sequence: u64, entity: Option<EntityId>, body: Body) -> Entry {
        let loom = LoomId::mint(1, &MINE, &NONCE, None);
        Entry::new(loom, (writer, sequence), 1, entity, None, body)
    }

    fn founding(writer: WriterKey, sequence: u64, nonce: Nonce, member: Option<&[u8]>) -> Entry {
        let member = member.map(|member| serde_bytes::ByteBuf::from(member.to_vec()));
        entry(writer, sequence, None, Body::Founded { nonce, member })
    }

    fn opening(entity: EntityId, minted: Option<Minted>) -> Entry {
        let opened = Opened { minted, ..Opened::default() };
        entry(MINE, 2, Some(entity), Body::Opened(Box::new(opened)))
    }

    fn delegation(writer: WriterKey, child: EntityId, nonce: Option<Nonce>) -> Entry {
        let (call, place) = (CallId::new("call"), CallPlace::Here);
        let body = Body::Delegated { call, index: 0, child, proposal: Payload::default(), place, nonce };
        entry(writer, 3, Some(EntityId::mint(1, &MINE, &NONCE)), body)
    }

    #[test]
    fn only_who_minted_a_looms_id_founds_it_and_only_at_the_start_of_its_log() {
        assert_eq!(founding(MINE, 1, NONCE, None).check_minted(), Ok(()));
        let loom = LoomId::mint(1, &MINE, &NONCE, None);
        // A copied id, somebody else's nonce, and a member record that came later.
        let other = Err(Unminted::Loom { loom, writer: THEIRS });
        assert_eq!(founding(THEIRS, 1, NONCE, None).check_minted(), other);
        let wrong = Err(Unminted::Loom { loom, writer: MINE });
        assert_eq!(founding(MINE, 1, Nonce::from_bytes([4; 16]), None).check_minted(), wrong);
        assert_eq!(founding(MINE, 1, NONCE, Some(b"record")).check_minted(), wrong);
        assert_eq!(founding(MINE, 2, NONCE, None).check_minted(), Err(Unminted::LateFounding { sequence: 2 }));
    }

    #[test]
    fn an_entity_is_opened_with_the_key_and_the_nonce_that_its_id_commits_to() {
        let entity = EntityId::mint(7, &MINE, &NONCE);
        let by = |by, nonce| Some(Minted { by, nonce });
        assert_eq!(opening(entity, by(MINE, NONCE)).check_minted(), Ok(()));
        assert_eq!(opening(entity, None).check_minted(), Err(Unminted::Unsaid { entity }));
        assert_eq!(opening(entity, by(THEIRS, NONCE)).check_minted(), Err(Unminted::Entity { entity, by: THEIRS }));
        let other = by(MINE, Nonce::from_bytes([4; 16]));
        assert_eq!(opening(entity, other).check_minted(), Err(Unminted::Entity { entity, by: MINE }));
        // An id that was chosen and not minted.
        let ground = EntityId::from_parts(7, [0; 16]);
        assert!(opening(ground, by(MINE, NONCE)).check_minted().is_err());
    }

    #[test]
    fn a_child_is_delegated_to_by_who_minted_its_id() {
        let child = EntityId::mint(7, &MINE, &NONCE);
        assert_eq!(delegation(MINE, child, Some(NONCE)).check_minted(), Ok(()));
        for wrong in [delegation(THEIRS, child, Some(NONCE)), delegation(MINE, child, None)] {
            let writer = wrong.writer;
            assert_eq!(wrong.check_minted(), Err(Unminted::Child { child, writer }));
        }
    }
}
