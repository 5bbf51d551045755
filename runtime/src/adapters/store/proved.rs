//! Single entries of logs that are not here, each with its writer's word for it: checked before they are kept, counted against their
//! loom, and read again with the same check.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use super::committer::chain;
use super::copies::KnownLog;
use super::database::{Database, DatabaseError};
use super::durable::FjallStore;
use super::findings::Findings;
use super::rows::{self, Space};
use crate::domain::ids::{EntryId, LoomId};
use crate::domain::limits::PROVED_IDS_MAX;
use crate::domain::loom::{Head, Sealed, SignedHead};
use crate::domain::members::{CheckedProof, ProofCount, ProofError, ProvedEntry};
use crate::ports::StoreError;

/// 16 MiB of proved entries are remembered as checked: a signature costs some ten microseconds, and is asked for with each decision.
const CHECKED_BYTES: usize = 16 * 1024 * 1024;

/// The check, with the results that it had.
#[derive(Debug, Default)]
pub(super) struct ProofChecks(Mutex<(HashMap<[u8; 32], CheckedProof>, usize)>);

impl ProofChecks {
    fn check(&self, bytes: &[u8]) -> Result<CheckedProof, ProofError> {
        let name = *blake3::hash(bytes).as_bytes();
        let known = |checks: &Self| checks.0.lock().unwrap_or_else(PoisonError::into_inner).0.get(&name).cloned();
        if let Some(checked) = known(self) {
            return Ok(checked);
        }
        let checked = ProvedEntry::parse(bytes)?.check()?;
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, held) = &mut *kept;
        if held.saturating_add(bytes.len()) > CHECKED_BYTES {
            all.clear();
            *held = 0;
        }
        *held = held.saturating_add(bytes.len());
        all.insert(name, checked.clone());
        Ok(checked)
    }
}

/// The proved entries of a loom that hold.
pub(super) fn of_loom(
    database: &Database,
    checks: &ProofChecks,
    loom: LoomId,
) -> Result<Vec<CheckedProof>, DatabaseError> {
    let mut found = Vec::new();
    database.each(Space::Meta, &rows::proved_in(loom), |key, value| {
        found.extend(checks.check(value).ok().filter(|proof| rows::proved(proof.loom(), proof.id()) == key));
        Ok(ControlFlow::<()>::Continue(()))
    })?;
    Ok(found)
}

/// One of them.
pub(super) fn one(
    database: &Database,
    checks: &ProofChecks,
    loom: LoomId,
    id: EntryId,
) -> Result<Option<CheckedProof>, DatabaseError> {
    let row = database.get(Space::Meta, &rows::proved(loom, id))?;
    Ok(row.and_then(|value| checks.check(&value).ok()).filter(|proof| (proof.loom(), proof.id()) == (loom, id)))
}

fn count(database: &Database, loom: LoomId) -> Result<ProofCount, DatabaseError> {
    let row = database.get(Space::Meta, &rows::proved_count(loom))?;
    Ok(row.and_then(|value| rows::proof_count(&value)).unwrap_or_default())
}

/// Names the rows of a loom that do not hold.
pub(super) fn verify(database: &Database, loom: LoomId, findings: &mut Findings) {
    let mut found = ProofCount::default();
    let read = database.each(Space::Meta, &rows::proved_in(loom), |key, value| {
        found.count = found.count.saturating_add(1);
        found.bytes = found.bytes.saturating_add(value.len() as u64);
        let wrong = match ProvedEntry::parse(value).and_then(ProvedEntry::check) {
            Err(error) => Some(format!("a proved entry does not hold: {}", chain(&error))),
            Ok(proof) if rows::proved(proof.loom(), proof.id()) != key => {
                Some(format!("a proved entry is kept as another: it is {} of loom {}", proof.id(), proof.loom()))
            }
            Ok(_) => None,
        };
        if let Some(what) = wrong {
            findings.loom(loom, what);
        }
        Ok(ControlFlow::<()>::Continue(()))
    });
    if let Err(error) = read {
        findings.loom(loom, format!("reading its proved entries failed: {error}"));
    }
    match count(database, loom) {
        Ok(counted) if counted == found => {}
        Ok(counted) => findings
            .loom(loom, format!("{} proved entries are kept of it, and {} were counted", found.count, counted.count)),
        Err(error) => findings.loom(loom, format!("reading the count of its proved entries failed: {error}")),
    }
}

/// What proves an entry of a log: up to the next signed head, or to one that is signed for it.
pub(super) fn prove(
    log: &impl KnownLog,
    sealed: Sealed,
    sign: Option<impl FnOnce(Head) -> Result<SignedHead, StoreError>>,
) -> Result<Option<CheckedProof>, StoreError> {
    let sequence = sealed.entry.sequence;
    let Some(last) = sequence.checked_sub(1) else { return Ok(None) };
    // It may have come outside of that log.
    if log.ids(last, sequence)? != [sealed.id] {
        return Ok(None);
    }
    let Some(chain) = log.chain_at(last)? else { return Ok(None) };
    let before = Head { sequence: last, chain };
    let near = |signed: &SignedHead| signed.head.sequence.saturating_sub(sequence) <= PROVED_IDS_MAX as u64;
    let (behind, signed) = match (log.signed_from(sequence)?.filter(near), sign) {
        (Some(signed), _) => (log.ids(sequence, signed.head.sequence)?, signed),
        (None, Some(sign)) => (Vec::new(), sign(before.after(&sealed.id))?),
        (None, None) => return Ok(None),
    };
    // What is damaged proves nothing; a verification names it.
    Ok(ProvedEntry { before, entry: sealed.bytes, behind, signature: signed.signature }.check().ok())
}

impl FjallStore {
    pub(super) fn keep_proofs(&self, all: &[CheckedProof]) -> Result<Result<usize, ProofError>, StoreError> {
        let _turn = self.receiving.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut new, mut counts) = (BTreeMap::new(), BTreeMap::new());
        for proof in all {
            let (loom, row) = (proof.loom(), rows::proved(proof.loom(), proof.id()));
            if new.contains_key(&row) || self.database.get(Space::Meta, &row)?.is_some() {
                continue;
            }
            let bytes = proof.to_proof().to_bytes();
            let counted = match counts.get(&loom) {
                Some(counted) => *counted,
                None => count(&self.database, loom)?,
            };
            match counted.add(bytes.len()) {
                Ok(next) => counts.insert(loom, next),
                Err(full) => return Ok(Err(full)),
            };
            new.insert(row, bytes);
        }
        let many = new.len();
        if many > 0 {
            let counts =
                counts.iter().map(|(loom, count)| (rows::proved_count(*loom), rows::proof_count_value(*count)));
            self.database.note_all(&new.into_iter().chain(counts).collect::<Vec<_>>())?;
        }
        Ok(Ok(many))
    }
}

#[cfg(test)]
#[path = "proved_tests.rs"]
mod tests;
