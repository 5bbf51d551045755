//! What vouches for writers' keys: checked before it is kept, counted against the key and the node that it names, and read again
//! with the same check.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use super::database::{Database, DatabaseError};
use super::durable::FjallStore;
use super::findings::Findings;
use super::rows::{self, META_OWN, Space};
use crate::adapters::x509::X509;
use crate::domain::ids::{LoomId, WriterKey};
use crate::domain::limits::{PREDECESSORS_PER_KEY_MAX, RECORDS_PER_KEY_MAX, RECORDS_PER_NODE_MAX};
use crate::domain::members::{Attestation, CheckedAttestation, MemberRecord, RecordError, Vouched, relied_on};
use crate::ports::{LoomStore as _, StoreError};

/// 4 096 results of checks are remembered: a chain costs some hundred microseconds, and is read again with each decision.
const CHECKS_KEPT: usize = 4_096;

/// The check, with the results that it had.
#[derive(Debug, Default)]
pub(super) struct Checks(Mutex<HashMap<[u8; 32], CheckedAttestation>>);

impl Checks {
    pub(super) fn check(&self, attestation: &Attestation) -> Result<CheckedAttestation, RecordError> {
        let mut hasher = blake3::Hasher::new();
        let name = *hasher.update(&[attestation.kind()]).update(&attestation.to_bytes()).finalize().as_bytes();
        let known = |checks: &Self| checks.0.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        if let Some(checked) = known(self) {
            return Ok(checked);
        }
        let checked = attestation.check(&X509)?;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= CHECKS_KEPT {
            all.clear();
        }
        all.insert(name, checked.clone());
        Ok(checked)
    }

    /// All of these, if they hold.
    pub(super) fn all(&self, all: &[Attestation]) -> Result<Vouched, RecordError> {
        all.iter().map(|one| self.check(one)).collect::<Result<Vec<_>, _>>().map(|all| all.into_iter().collect())
    }

    /// What holds of these.
    pub(super) fn vouched(&self, all: &[Attestation]) -> Vouched {
        all.iter().filter_map(|one| self.check(one).ok()).collect()
    }
}

/// How many of a kind one key may have, and what they are called.
pub(super) const fn most_of(attestation: &Attestation) -> (usize, &'static str) {
    match attestation {
        Attestation::Member(_) => (RECORDS_PER_KEY_MAX, "member records of this key"),
        Attestation::Succession(_) => (PREDECESSORS_PER_KEY_MAX, "keys whose place this one takes"),
    }
}

/// Refuses what would be one too many. The counts are of what is kept before it.
pub(super) fn counted(attestation: &Attestation, of_key: usize, of_node: usize) -> Result<(), RecordError> {
    let (max, what) = most_of(attestation);
    if of_key >= max {
        return Err(RecordError::Full { what, count: of_key });
    }
    if of_node >= RECORDS_PER_NODE_MAX {
        return Err(RecordError::Full { what: "member records that name this node", count: of_node });
    }
    Ok(())
}

/// The rows below a prefix. One that cannot be read is left out: a verification names it.
fn below(database: &Database, prefix: &[u8]) -> Result<BTreeMap<Vec<u8>, Attestation>, DatabaseError> {
    let mut found = BTreeMap::new();
    database.each(Space::Meta, prefix, |key, value| {
        found.extend(rows::attestation(value).map(|it| (key.to_vec(), it)));
        Ok(ControlFlow::<()>::Continue(()))
    })?;
    Ok(found)
}

fn count(database: &Database, prefix: &[u8]) -> Result<usize, DatabaseError> {
    let mut count = 0_usize;
    database.each(Space::Meta, prefix, |_, _| {
        count = count.saturating_add(1);
        Ok(ControlFlow::<()>::Continue(()))
    })?;
    Ok(count)
}

/// What vouches for this node's own keys.
pub(super) fn own(database: &Database) -> Result<Vec<Attestation>, DatabaseError> {
    Ok(below(database, META_OWN)?.into_values().collect())
}

/// What vouches for one key: of this node's own in every loom.
pub(super) fn of_key(database: &Database, loom: LoomId, key: WriterKey) -> Result<Vec<Attestation>, DatabaseError> {
    let mut found = below(database, &rows::attested_of(loom, key))?.into_values().collect::<BTreeSet<_>>();
    found.extend(below(database, &rows::own_of(key))?.into_values());
    Ok(found.into_iter().collect())
}

/// What vouches for the keys of a loom's writers.
pub(super) fn of_loom(database: &Database, loom: LoomId) -> Result<Vec<Attestation>, DatabaseError> {
    let mut found = below(database, &rows::attested_in(loom))?.into_values().collect::<BTreeSet<_>>();
    let own = own(database)?;
    if !own.is_empty() {
        let mut relied = BTreeSet::new();
        for (log, _) in database.lines(loom.as_bytes())? {
            let older = |key| {
                let of_key = own.iter().filter(|it| it.key() == key);
                Ok::<_, DatabaseError>(of_key.filter_map(Attestation::predecessor).collect())
            };
            relied.extend(relied_on(log.writer, older)?);
        }
        found.extend(own.into_iter().filter(|it| relied.contains(&it.key())));
    }
    Ok(found.into_iter().collect())
}

/// Whoever takes the place of a key.
pub(super) fn successors(database: &Database, loom: LoomId, old: WriterKey) -> Result<Vec<WriterKey>, DatabaseError> {
    let prefix = rows::succeeded_in(loom, old);
    let mut keys = BTreeSet::new();
    database.each(Space::Meta, &prefix, |key, _| {
        let new = key.strip_prefix(prefix.as_slice()).and_then(|rest| <[u8; 32]>::try_from(rest).ok());
        keys.extend(new.map(WriterKey::from_bytes));
        Ok(ControlFlow::<()>::Continue(()))
    })?;
    keys.extend(own(database)?.iter().filter(|it| it.predecessor() == Some(old)).map(Attestation::key));
    Ok(keys.into_iter().collect())
}

/// Names the rows of a loom that do not hold.
pub(super) fn verify(database: &Database, loom: LoomId, findings: &mut Findings) {
    for prefix in [rows::attested_in(loom), META_OWN.to_vec()] {
        let read = database.each(Space::Meta, &prefix, |_, value| {
            let wrong = match rows::attestation(value) {
                None => Some("something that should vouch for a writer's key cannot be read".to_owned()),
                Some(it) => it.check(&X509).err().map(|error| {
                    let cause = super::committer::chain(&error);
                    format!("what should vouch for writer {} does not hold: {cause}", it.key())
                }),
            };
            if let Some(what) = wrong {
                findings.loom(loom, what);
            }
            Ok(ControlFlow::<()>::Continue(()))
        });
        if let Err(error) = read {
            findings.loom(loom, format!("reading what vouches for its writers failed: {error}"));
        }
    }
}

/// What is to be written together, with what it counts against.
#[derive(Default)]
struct Gathered {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    counts: HashMap<Vec<u8>, usize>,
}

impl Gathered {
    /// How many rows there are below a prefix, with those that are gathered.
    fn count(&mut self, database: &Database, prefix: &[u8]) -> Result<usize, DatabaseError> {
        if let Some(count) = self.counts.get(prefix) {
            return Ok(*count);
        }
        let kept = count(database, prefix)?;
        self.counts.insert(prefix.to_vec(), kept);
        Ok(kept)
    }

    fn add(&mut self, prefix: &[u8], key: Vec<u8>, value: Vec<u8>) {
        self.rows.insert(key, value);
        let counted = self.counts.entry(prefix.to_vec()).or_default();
        *counted = counted.saturating_add(1);
    }
}

impl FjallStore {
    fn gather(
        &self,
        loom: LoomId,
        attestation: &Attestation,
        gathered: &mut Gathered,
    ) -> Result<Result<bool, RecordError>, DatabaseError> {
        let checked = match self.checks.check(attestation) {
            Ok(checked) => checked,
            Err(error) => return Ok(Err(error)),
        };
        let (database, tag) = (&self.database, checked.tag());
        let of_key = rows::attested_kind(loom, attestation);
        let row = [of_key.as_slice(), &tag].concat();
        let own = rows::own_attestation(attestation, &tag);
        let is_kept = |row: &[u8]| database.get(Space::Meta, row).map(|found| found.is_some());
        if gathered.rows.contains_key(&row) || is_kept(&row)? || is_kept(&own)? {
            return Ok(Ok(false));
        }
        let of_node = match &checked {
            CheckedAttestation::Member(record) => Some(rows::named_in(loom, record.node())),
            CheckedAttestation::Succession(_) => None,
        };
        let counts = (
            gathered.count(database, &of_key)?,
            of_node.as_ref().map_or(Ok(0), |node| gathered.count(database, node))?,
        );
        if let Err(error) = counted(attestation, counts.0, counts.1) {
            return Ok(Err(error));
        }
        gathered.add(&of_key, row, rows::attestation_value(attestation));
        if let Some(node) = of_node {
            let row = [node.as_slice(), attestation.key().as_bytes(), &tag].concat();
            gathered.add(&node, row, Vec::new());
        }
        if let Some(old) = attestation.predecessor() {
            let older = rows::succeeded_in(loom, old);
            let row = [older.as_slice(), attestation.key().as_bytes()].concat();
            gathered.add(&older, row, Vec::new());
        }
        Ok(Ok(true))
    }

    pub(super) fn keep_attested(
        &self,
        loom: LoomId,
        all: &[Attestation],
    ) -> Result<Vec<Result<bool, RecordError>>, StoreError> {
        let _turn = self.receiving.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gathered = Gathered::default();
        let kept = all.iter().map(|it| self.gather(loom, it, &mut gathered)).collect::<Result<Vec<_>, _>>()?;
        if !gathered.rows.is_empty() {
            self.database.note_all(&gathered.rows.into_iter().collect::<Vec<_>>())?;
        }
        Ok(kept)
    }

    pub(super) fn keep_own(&self, record: &MemberRecord) -> Result<bool, StoreError> {
        let refused = |source| StoreError::Attestation { writer: record.key, source };
        let _turn = self.receiving.lock().unwrap_or_else(PoisonError::into_inner);
        let own = self.writer();
        if record.key != own {
            return Err(refused(RecordError::Unsigned { key: own }));
        }
        let attestation = Attestation::Member(record.clone());
        let checked = self.checks.check(&attestation).map_err(refused)?;
        let row = rows::own_attestation(&attestation, &checked.tag());
        if self.database.get(Space::Meta, &row)?.is_some() {
            return Ok(false);
        }
        let kept = below(&self.database, &rows::own_of(own))?;
        let kept = kept.values().filter(|it| it.kind() == attestation.kind()).count();
        counted(&attestation, kept, 0).map_err(refused)?;
        self.database.note(&row, &rows::attestation_value(&attestation))?;
        Ok(true)
    }
}

#[cfg(test)]
#[path = "attested_tests.rs"]
mod tests;
