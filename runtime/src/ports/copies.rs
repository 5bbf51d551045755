//! Copies of looms: the port through which logs of other writers come in and go out, verified.

use std::collections::BTreeSet;

use super::{BoxFuture, LoomStore, StoreError};
use crate::domain::copies::LoomCopies;
use crate::domain::ids::{EntityId, LoomId, WriterKey};
use crate::domain::loom::{CheckedSegment, Segment, SignedFence};
use crate::domain::members::MemberRecord;

/// What came of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// All of it is here already.
    Known,
    /// So many entries are new.
    New(u64),
    /// It begins behind the end of the copy, which is here: what is between them has to come first.
    Gap(u64),
    /// It goes on from another history than the copy, and it does not say from where on: what comes before it says so.
    Divided,
}

/// A store that keeps copies of other writers' logs, and signs its own.
pub trait CopyStore: LoomStore {
    /// A stretch of a log behind a place, ending at a head that its writer has signed; nothing where no more is durable. Its
    /// texts are not in it. This node's own log is signed for the purpose.
    ///
    /// # Errors
    /// A record that cannot be read.
    fn segment(&self, loom: LoomId, writer: WriterKey, after: u64) -> Result<Option<Segment>, StoreError>;

    /// Takes a segment of another writer's log. It counts once [`CopyStore::sync_logs`] returned.
    ///
    /// # Errors
    /// [`StoreError::Forked`] for a log that contradicts the copy, at an earlier place than what is proved; [`StoreError::Cheater`]
    /// for what comes from where a writer's histories are proved to divide,
    /// [`StoreError::Foreign`] for this node's own log, a text that is neither there nor here, or a failed write.
    fn take(&self, segment: CheckedSegment) -> Result<Taken, StoreError>;

    /// Returns when what was taken of these writers is durable.
    fn sync_logs(&self, loom: LoomId, writers: Vec<WriterKey>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The chain of a log at a place; nothing if it is not that long here.
    ///
    /// # Errors
    /// A record that cannot be read.
    fn chain_at(&self, loom: LoomId, writer: WriterKey, sequence: u64) -> Result<Option<[u8; 32]>, StoreError>;

    /// From which place on a writer's histories of a loom are proved to be two.
    ///
    /// # Errors
    /// A record that cannot be read.
    fn accused(&self, loom: LoomId, writer: WriterKey) -> Result<Option<u64>, StoreError>;

    /// The keys that take the place of one, as far as that is known in a loom.
    ///
    /// # Errors
    /// A record that cannot be read.
    fn successors(&self, loom: LoomId, key: WriterKey) -> Result<Vec<WriterKey>, StoreError>;

    /// Checks a member record of this node's own key and keeps it, durably, for every loom in which that key writes. Returns whether
    /// it is new.
    ///
    /// # Errors
    /// [`StoreError::Attestation`] for a record of another key, one that does not hold, or one too many; a failed write.
    fn attest_own(&self, record: &MemberRecord) -> Result<bool, StoreError>;

    /// Whether so much waits for the disk that no copies are taken for now.
    fn is_behind(&self) -> bool {
        false
    }

    /// Keeps a large text for a segment that follows. It is durable with that.
    ///
    /// # Errors
    /// A failed write.
    fn keep_text(&self, bytes: &[u8]) -> Result<(), StoreError>;

    /// Takes every other writer's log of a loom out of this store. Its texts may stay.
    ///
    /// # Errors
    /// A failed write.
    fn forget(&self, loom: LoomId) -> Result<(), StoreError>;

    /// Gives this node's word that it is about to go on with an entity.
    ///
    /// # Errors
    /// A store without a key.
    fn sign_fence(&self, loom: LoomId, entity: EntityId, epoch: u64) -> Result<SignedFence, StoreError>;

    /// The fences of a loom's entities that were kept, one of each at most.
    ///
    /// # Errors
    /// A record that cannot be read.
    fn fences(&self, loom: LoomId) -> Result<Vec<SignedFence>, StoreError>;

    /// Keeps a fence in the place of whichever was kept of its entity. It is durable when this returns, and stays when the loom is
    /// forgotten: a keeper that has promised to acknowledge nothing has promised it for good.
    ///
    /// # Errors
    /// A failed write.
    fn keep_fence(&self, fence: &SignedFence) -> Result<(), StoreError>;

    /// Makes this node write under a new key from now on, unless it writes under another than this one already: several keepers find out
    /// at once that one is needed. Returns the key that it writes under. What it has written stays as another writer's. Its logs of looms that nobody
    /// else keeps are signed to their ends before the old key goes; of `shared` ones others may have another history, signed.
    ///
    /// # Errors
    /// A key that cannot be made.
    fn renew(&self, old: WriterKey, shared: &BTreeSet<LoomId>) -> Result<WriterKey, StoreError>;
}

/// Remembers which looms are kept together with whom.
pub trait CopyBook: Send + Sync + std::fmt::Debug {
    /// Everything in it.
    ///
    /// # Errors
    /// A book that cannot be read.
    fn load(&self) -> Result<Vec<LoomCopies>, StoreError>;

    /// Replaces what it says of one loom, durably.
    ///
    /// # Errors
    /// A book that cannot be written.
    fn save(&self, copies: &LoomCopies) -> Result<(), StoreError>;
}
