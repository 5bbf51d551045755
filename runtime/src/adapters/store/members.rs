//! The stores on disk as keepers of what says who may write.

use super::attested;
use super::durable::FjallStore;
use super::proved;
use super::reading::ReadingStore;
use super::rows::Log;
use crate::domain::ids::{EntryId, LoomId, WriterKey};
use crate::domain::loom::Head;
use crate::domain::members::{Attestation, CheckedProof, ProofError, RecordError, Vouched};
use crate::ports::{LoomStore as _, MemberStore, StoreError};

impl MemberStore for FjallStore {
    fn attestations(&self, loom: LoomId) -> Result<Vec<Attestation>, StoreError> {
        Ok(attested::of_loom(&self.database, loom)?)
    }

    fn attestations_of(&self, loom: LoomId, key: WriterKey) -> Result<Vec<Attestation>, StoreError> {
        Ok(attested::of_key(&self.database, loom, key)?)
    }

    fn vouched(&self, loom: LoomId) -> Result<Vouched, StoreError> {
        // What this node may do here is read before it has written anything, too.
        let mut all = self.attestations(loom)?;
        all.extend(attested::own(&self.database)?);
        Ok(self.checks.vouched(&all))
    }

    fn checked(&self, all: &[Attestation]) -> Result<Vouched, RecordError> {
        self.checks.all(all)
    }

    fn attest(&self, loom: LoomId, all: &[Attestation]) -> Result<Vec<Result<bool, RecordError>>, StoreError> {
        self.keep_attested(loom, all)
    }

    fn proved(&self, loom: LoomId) -> Result<Vec<CheckedProof>, StoreError> {
        Ok(proved::of_loom(&self.database, &self.proof_checks, loom)?)
    }

    fn proved_entry(&self, loom: LoomId, id: EntryId) -> Result<Option<CheckedProof>, StoreError> {
        Ok(proved::one(&self.database, &self.proof_checks, loom, id)?)
    }

    fn keep_proved(&self, all: &[CheckedProof]) -> Result<Result<usize, ProofError>, StoreError> {
        self.keep_proofs(all)
    }

    fn prove(&self, id: EntryId) -> Result<Option<CheckedProof>, StoreError> {
        let Some(sealed) = self.entry(id)? else { return Ok(None) };
        let (key, log) = (self.key(), Log { loom: sealed.entry.loom, writer: sealed.entry.writer });
        let sign = (key.writer() == log.writer).then_some(|head: Head| {
            let signed = key.sign(log.loom, head);
            self.database.keep_signed(&signed)?;
            Ok(signed)
        });
        proved::prove(&(self, log, self.durable_head(log)?), sealed, sign)
    }
}

impl MemberStore for ReadingStore {
    fn attestations(&self, loom: LoomId) -> Result<Vec<Attestation>, StoreError> {
        Ok(attested::of_loom(self.database(), loom)?)
    }

    fn attestations_of(&self, loom: LoomId, key: WriterKey) -> Result<Vec<Attestation>, StoreError> {
        Ok(attested::of_key(self.database(), loom, key)?)
    }

    fn vouched(&self, loom: LoomId) -> Result<Vouched, StoreError> {
        // What this node may do here is read before it has written anything, too.
        let mut all = self.attestations(loom)?;
        all.extend(attested::own(self.database())?);
        Ok(self.checks.vouched(&all))
    }

    fn checked(&self, all: &[Attestation]) -> Result<Vouched, RecordError> {
        self.checks.all(all)
    }

    fn attest(&self, _: LoomId, _: &[Attestation]) -> Result<Vec<Result<bool, RecordError>>, StoreError> {
        Err(self.refused())
    }

    fn proved(&self, loom: LoomId) -> Result<Vec<CheckedProof>, StoreError> {
        Ok(proved::of_loom(self.database(), &self.proof_checks, loom)?)
    }

    fn proved_entry(&self, loom: LoomId, id: EntryId) -> Result<Option<CheckedProof>, StoreError> {
        Ok(proved::one(self.database(), &self.proof_checks, loom, id)?)
    }

    fn keep_proved(&self, _: &[CheckedProof]) -> Result<Result<usize, ProofError>, StoreError> {
        Err(self.refused())
    }

    fn prove(&self, _: EntryId) -> Result<Option<CheckedProof>, StoreError> {
        Err(self.refused())
    }
}
