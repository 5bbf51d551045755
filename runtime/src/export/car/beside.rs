//! What an archive has beside entries: what vouches for the keys of their writers, and single entries of logs that are not in it.

use std::collections::{HashMap, HashSet};

use serde_bytes::ByteBuf;

use super::taking::{Import, cost};
use super::{CarError, LeftWhy, Manifest};
use crate::domain::ids::{EntryId, WriterKey};
use crate::domain::limits::{ARCHIVE_ATTESTATIONS_MAX, PROOF_BYTES_MAX, PROVED_LOOM_MAX};
use crate::domain::loom::{Body, EquivocationProof, Sealed};
use crate::domain::members::{
    Attestation, CheckedProof, MemberRecord, ProofError, ProvedEntry, RecordError, Succession,
};
use crate::ports::CopyStore;

/// 4 MiB. So much of proved entries is kept in one write.
const WRITTEN_BYTES: usize = 4 * 1024 * 1024;

impl Manifest {
    pub(super) fn attestations(&self) -> Result<Vec<Attestation>, CarError> {
        let count = self.members.len().saturating_add(self.successions.len());
        if count > ARCHIVE_ATTESTATIONS_MAX {
            return Err(CarError::Malformed(format!(
                "it has {count} member records and successions, and the limit is {ARCHIVE_ATTESTATIONS_MAX}"
            )));
        }
        let members = self.members.iter().map(|bytes| MemberRecord::parse(bytes).map(Attestation::Member));
        let successions = self.successions.iter().map(|bytes| Succession::parse(bytes).map(Attestation::Succession));
        let wrong = |error| CarError::Malformed(format!("what should vouch for its writers cannot be read: {error}"));
        members.chain(successions).collect::<Result<_, _>>().map_err(wrong)
    }

    /// The names of the blocks with proved entries.
    pub(super) fn proofs(&self) -> Result<Vec<EntryId>, CarError> {
        let count = self.proved.len();
        if count as u64 > PROVED_LOOM_MAX {
            return Err(CarError::Malformed(format!(
                "it has {count} proved entries, and the limit is {PROVED_LOOM_MAX}"
            )));
        }
        Ok(self.proved.clone())
    }

    /// The proofs that writers have signed two histories. One for each writer is enough.
    pub(super) fn divided(&self) -> Result<Vec<EquivocationProof>, CarError> {
        if self.divided.len() > ARCHIVE_ATTESTATIONS_MAX {
            let count = self.divided.len();
            return Err(CarError::Malformed(format!(
                "it has {count} proofs of two histories, and the limit is {ARCHIVE_ATTESTATIONS_MAX}"
            )));
        }
        let proofs = self.divided.iter().map(|bytes| {
            let proof = Some(bytes).filter(|bytes| bytes.len() <= PROOF_BYTES_MAX);
            proof.and_then(|bytes| EquivocationProof::parse(bytes)).filter(|proof| proof.loom == self.loom)
        });
        let proofs = proofs.collect::<Option<Vec<_>>>();
        proofs
            .ok_or_else(|| CarError::Malformed("a proof of two histories in it proves nothing of its loom".to_owned()))
    }

    /// Fills in what is kept of a loom beside its entries. Returns the bytes of proved entries, which are blocks of their own.
    pub(super) fn beside(&mut self, store: &dyn CopyStore) -> Result<Vec<Vec<u8>>, CarError> {
        for attestation in store.attestations(self.loom)? {
            let bytes = ByteBuf::from(attestation.to_bytes());
            match attestation {
                Attestation::Member(_) => self.members.push(bytes),
                Attestation::Succession(_) => self.successions.push(bytes),
            }
        }
        let divided = store.proofs()?.into_iter().filter(|proof| proof.loom == self.loom);
        self.divided = divided.map(|proof| ByteBuf::from(proof.to_bytes())).collect();
        let proved: Vec<Vec<u8>> = store.proved(self.loom)?.iter().map(|proof| proof.to_proof().to_bytes()).collect();
        self.proved = proved.iter().map(|bytes| EntryId::of(bytes)).collect();
        Ok(proved)
    }
}

impl Import<'_> {
    /// Notes the keys that an entry has something to do with: its writer's, and that of a host that it admits.
    pub(super) fn rely_on(&mut self, sealed: &Sealed) {
        self.writers.insert(sealed.entry.writer);
        if let Body::Admitted(admitted) = &sealed.entry.body {
            self.writers.extend(admitted.scope.map(|scope| scope.opener));
        }
    }

    /// Keeps what vouches for the keys of those whose entries were taken.
    pub(super) fn attest(&mut self) -> Result<(), CarError> {
        let mut older: HashMap<WriterKey, Vec<WriterKey>> = HashMap::new();
        for attestation in &self.attestations {
            older.entry(attestation.key()).or_default().extend(attestation.predecessor());
        }
        let relied = |writers: HashSet<WriterKey>| {
            let (mut relied, mut keys) = (writers.clone(), Vec::from_iter(writers));
            while let Some(key) = keys.pop() {
                keys.extend(older.get(&key).into_iter().flatten().copied().filter(|key| relied.insert(*key)));
            }
            relied
        };
        let named = relied(self.named.union(&self.writers).copied().collect());
        if let Some(stray) = self.attestations.iter().find(|it| !named.contains(&it.key())) {
            let what = format!("nothing in it relies on what vouches for writer {}", stray.key());
            return Err(CarError::Malformed(what));
        }
        let relied = relied(self.writers.clone());
        self.attestations.retain(|it| relied.contains(&it.key()));
        let kept = self.store.attest(self.archived.loom, &self.attestations)?;
        for (attestation, kept) in self.attestations.iter().zip(kept) {
            match kept {
                // The record has as many as it keeps: the rest is left out, as when a peer brings it.
                Ok(_) | Err(RecordError::Full { .. }) => {}
                Err(source) => return Err(CarError::Attestation { writer: attestation.key(), source }),
            }
        }
        Ok(())
    }

    /// Takes a proved entry.
    pub(super) fn proof(&mut self, id: &EntryId) -> Result<(), CarError> {
        let bytes = self.entries.remove(&id.digest());
        let bytes = bytes.ok_or_else(|| CarError::Missing(format!("the proved entry {id}")))?;
        self.held_bytes = self.held_bytes.saturating_sub(cost(&bytes));
        let proof = match self.checked_proof(&bytes) {
            Ok(proof) => proof,
            Err(error) => {
                let why = LeftWhy::of_step(&error).filter(|_| self.keeping.is_some());
                self.leave_out(said_writer(&bytes), 1, why.ok_or(error)?);
                return Ok(());
            }
        };
        self.rely_on(proof.sealed());
        self.proved.push(proof);
        self.proved_bytes = self.proved_bytes.saturating_add(bytes.len());
        if self.proved_bytes > WRITTEN_BYTES { self.keep_proofs() } else { Ok(()) }
    }

    fn checked_proof(&self, bytes: &[u8]) -> Result<CheckedProof, CarError> {
        let proof = ProvedEntry::parse(bytes).and_then(ProvedEntry::check).map_err(CarError::Proof)?;
        let (id, of, loom) = (proof.id(), proof.loom(), self.archived.loom);
        if of == loom { Ok(proof) } else { Err(CarError::AnotherLoom { id, of, loom }) }
    }

    /// Keeps the proofs that writers whose entries were taken have signed two histories.
    pub(super) fn accuse(&self) -> Result<(), CarError> {
        let known = self.divided.iter().filter(|proof| self.writers.contains(&proof.writer));
        for proof in known {
            self.store.accuse(proof)?;
        }
        Ok(())
    }

    /// Keeps the proved entries that have come.
    pub(super) fn keep_proofs(&mut self) -> Result<(), CarError> {
        self.proved_bytes = 0;
        match self.store.keep_proved(&std::mem::take(&mut self.proved))? {
            // The record has as many as it keeps: the rest is left out.
            Ok(_) | Err(ProofError::Full { .. }) => Ok(()),
            Err(error) => Err(CarError::Proof(error)),
        }
    }
}

/// Who is said to have written a proved entry that does not hold; zeros where it says nothing.
fn said_writer(bytes: &[u8]) -> WriterKey {
    let sealed = ProvedEntry::parse(bytes).ok().and_then(|proof| Sealed::read(proof.entry).ok());
    sealed.map_or(WriterKey::from_bytes([0; 32]), |sealed| sealed.entry.writer)
}
