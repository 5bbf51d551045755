//! The store in memory as a keeper of what says who may write.

use std::collections::{BTreeMap, BTreeSet};

use super::attested::counted;
use super::memory::{Kept, Looms, MemoryStore};
use super::proved;
use super::rows::Log;
use crate::domain::ids::{EntryId, LoomId, WriterKey};
use crate::domain::loom::Head;
use crate::domain::members::{
    Attestation, CheckedAttestation, CheckedProof, ProofCount, ProofError, RecordError, Vouched,
};
use crate::ports::{LoomStore as _, MemberStore, StoreError};

impl Looms {
    fn attest(
        &mut self,
        loom: LoomId,
        attestation: &Attestation,
        checked: CheckedAttestation,
    ) -> Result<bool, RecordError> {
        let place = (attestation.kind(), checked.tag());
        let of_key = self.attested.get(&(loom, attestation.key()));
        if of_key.is_some_and(|kept| kept.contains_key(&place)) {
            return Ok(false);
        }
        let of_kind = of_key.map_or(0, |kept| kept.keys().filter(|(kind, _)| *kind == place.0).count());
        let names_it = |(_, other): &&(Attestation, CheckedAttestation)| match (other, &checked) {
            (CheckedAttestation::Member(other), CheckedAttestation::Member(one)) => other.node() == one.node(),
            _ => false,
        };
        let in_loom = self.attested.iter().filter(|((of, _), _)| *of == loom).flat_map(|(_, kept)| kept.values());
        counted(attestation, of_kind, in_loom.filter(names_it).count())?;
        let kept = self.attested.entry((loom, attestation.key())).or_default();
        kept.insert(place, (attestation.clone(), checked));
        Ok(true)
    }
}

impl MemberStore for MemoryStore {
    fn attestations(&self, loom: LoomId) -> Result<Vec<Attestation>, StoreError> {
        let looms = self.lock();
        let of_others = looms.attested.iter().filter(|((of, _), _)| *of == loom).flat_map(|(_, kept)| kept.values());
        let is_own = looms.heads.contains_key(&self.log(loom));
        let own = looms.own.values().filter(|_| is_own);
        let all = of_others.chain(own).map(|(attestation, _)| attestation.clone());
        Ok(all.collect::<BTreeSet<_>>().into_iter().collect())
    }

    fn attestations_of(&self, loom: LoomId, key: WriterKey) -> Result<Vec<Attestation>, StoreError> {
        let looms = self.lock();
        let of_others = looms.attested.get(&(loom, key)).into_iter().flat_map(Kept::values);
        let own = looms.own.values().filter(|_| key == self.writer());
        let all = of_others.chain(own).map(|(attestation, _)| attestation.clone());
        Ok(all.collect::<BTreeSet<_>>().into_iter().collect())
    }

    fn vouched(&self, loom: LoomId) -> Result<Vouched, StoreError> {
        // What this node may do here is read before it has written anything, too.
        let mut all = self.attestations(loom)?;
        all.extend(self.lock().own.values().map(|(attestation, _)| attestation.clone()));
        Ok(self.checks.vouched(&all))
    }

    fn checked(&self, all: &[Attestation]) -> Result<Vouched, RecordError> {
        self.checks.all(all)
    }

    fn attest(&self, loom: LoomId, all: &[Attestation]) -> Result<Vec<Result<bool, RecordError>>, StoreError> {
        let mut looms = self.lock();
        Ok(all.iter().map(|attestation| looms.attest(loom, attestation, self.checks.check(attestation)?)).collect())
    }

    fn proved(&self, loom: LoomId) -> Result<Vec<CheckedProof>, StoreError> {
        Ok(self.lock().proved.get(&loom).map(|(_, kept)| kept.values().cloned().collect()).unwrap_or_default())
    }

    fn proved_entry(&self, loom: LoomId, id: EntryId) -> Result<Option<CheckedProof>, StoreError> {
        Ok(self.lock().proved.get(&loom).and_then(|(_, kept)| kept.get(&id.digest())).cloned())
    }

    fn keep_proved(&self, all: &[CheckedProof]) -> Result<Result<usize, ProofError>, StoreError> {
        let mut looms = self.lock();
        let mut new: BTreeMap<(LoomId, [u8; 32]), &CheckedProof> = BTreeMap::new();
        let mut counts: BTreeMap<LoomId, ProofCount> = BTreeMap::new();
        for proof in all {
            let (loom, digest) = (proof.loom(), proof.id().digest());
            let kept = looms.proved.get(&loom);
            if kept.is_some_and(|(_, kept)| kept.contains_key(&digest)) || new.contains_key(&(loom, digest)) {
                continue;
            }
            let counted = counts.get(&loom).copied().or_else(|| kept.map(|(count, _)| *count)).unwrap_or_default();
            match counted.add(proof.to_proof().to_bytes().len()) {
                Ok(next) => counts.insert(loom, next),
                Err(full) => return Ok(Err(full)),
            };
            new.insert((loom, digest), proof);
        }
        for ((loom, digest), proof) in &new {
            looms.proved.entry(*loom).or_default().1.insert(*digest, (*proof).clone());
        }
        for (loom, count) in counts {
            looms.proved.entry(loom).or_default().0 = count;
        }
        Ok(Ok(new.len()))
    }

    fn prove(&self, id: EntryId) -> Result<Option<CheckedProof>, StoreError> {
        let Some(sealed) = self.entry(id)? else { return Ok(None) };
        let log = Log { loom: sealed.entry.loom, writer: sealed.entry.writer };
        let key = self.key.as_ref().filter(|key| key.writer() == log.writer);
        let mut looms = self.lock();
        let proof = proved::prove(&(&*looms, log), sealed, key.map(|key| |head: Head| Ok(key.sign(log.loom, head))))?;
        if let (Some(proof), Some(key)) = (&proof, key)
            && proof.behind().is_empty()
        {
            let head = proof.before().after(&proof.id());
            looms.signed.insert(log.at(head.sequence), key.sign(log.loom, head));
        }
        Ok(proof)
    }
}
