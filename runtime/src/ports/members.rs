//! What a store keeps of who may write a loom beside its logs: what vouches for writers' keys, and single entries of logs that are not
//! here.

use std::fmt::Debug;

use super::StoreError;
use crate::domain::ids::{EntryId, LoomId, WriterKey};
use crate::domain::members::{Attestation, CheckedProof, ProofError, RecordError, Vouched};

/// The part of a [`LoomStore`](super::LoomStore) that is read to decide who may write.
pub trait MemberStore: Send + Sync + Debug {
    /// What vouches for the keys of a loom's writers, as it is kept and sent: of others what came with their entries, of this node's
    /// own keys what belongs to its logs there.
    ///
    /// # Errors
    /// A record that cannot be read.
    fn attestations(&self, loom: LoomId) -> Result<Vec<Attestation>, StoreError>;

    /// What vouches for one key in a loom, as it is kept and sent.
    ///
    /// # Errors
    /// A record that cannot be read.
    fn attestations_of(&self, loom: LoomId, key: WriterKey) -> Result<Vec<Attestation>, StoreError>;

    /// What vouches for the keys of a loom's writers, checked: what decisions are made by. What does not hold is left out, and
    /// [`LoomStore::verify`](super::LoomStore::verify) names it.
    ///
    /// # Errors
    /// A record that cannot be read.
    fn vouched(&self, loom: LoomId) -> Result<Vouched, StoreError>;

    /// Checks what should vouch for keys, and keeps nothing.
    ///
    /// # Errors
    /// The first that does not hold.
    fn checked(&self, all: &[Attestation]) -> Result<Vouched, RecordError>;

    /// Checks what should vouch for keys of a loom's writers, and keeps what does, durably. Returns for each whether it is new, or why
    /// it is not kept.
    ///
    /// # Errors
    /// A failed read or write.
    fn attest(&self, loom: LoomId, all: &[Attestation]) -> Result<Vec<Result<bool, RecordError>>, StoreError>;

    /// The proved entries that are kept of a loom. What does not hold is left out, and
    /// [`LoomStore::verify`](super::LoomStore::verify) names it.
    ///
    /// # Errors
    /// A record that cannot be read.
    fn proved(&self, loom: LoomId) -> Result<Vec<CheckedProof>, StoreError>;

    /// One of them, by the id of its entry.
    ///
    /// # Errors
    /// A record that cannot be read.
    fn proved_entry(&self, loom: LoomId, id: EntryId) -> Result<Option<CheckedProof>, StoreError>;

    /// Keeps proved entries, each once, durably: all of them or none. Returns how many are new, or why they are not kept.
    ///
    /// # Errors
    /// A failed read or write.
    fn keep_proved(&self, all: &[CheckedProof]) -> Result<Result<usize, ProofError>, StoreError>;

    /// Proves a durable entry of a log that is here to whoever has not the log. This node signs its own log for it where no signed head
    /// is near. Nothing for an entry that is in no log, or in one of another that nobody has signed so far.
    ///
    /// # Errors
    /// A record that cannot be read.
    fn prove(&self, id: EntryId) -> Result<Option<CheckedProof>, StoreError>;
}
