//! What an order shows of its caller's right to have this node open an entity: checked before anything of it is recorded, and kept.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use cantrip_gates::GateError;

use crate::domain::ids::{EntityId, EntryId, LoomId, WriterKey};
use crate::domain::loom::{Body, Sealed, ViewError};
use crate::domain::members::{
    Attestation, CheckedProof, CheckedRecord, Deed, Known, MemberRecord, ProvedEntry, Reader, Refused, relied_on,
};
use crate::domain::remote::{ByHost, Credentials, MEMBERS, Order, Refusal};
use crate::driver::fault::{Fault, chain};
use crate::driver::remembered::Remembered;
use crate::ports::LoomStore;

use super::{Casts, ours, refuse};

/// What an order is about, as far as it has to be shown.
struct Shown {
    loom: LoomId,
    entity: EntityId,
    parent: Option<EntryId>,
    spawned_by: Option<EntityId>,
    credentials: Arc<Credentials>,
}

pub(super) fn denied(what: String) -> Refusal {
    refuse(MEMBERS, GateError::Denied(what))
}

impl Casts {
    /// Checks by which admission this node opens an entity that its caller has minted, or goes on with it, and keeps what shows it.
    /// Nothing for an entity that this node has minted itself.
    pub(super) async fn shown(&self, order: &Order) -> Result<Option<EntryId>, Refusal> {
        // Whoever shows nothing with a further intent gets by it what the one before had.
        if order.by_host != ByHost::Nothing || (order.again && order.credentials.proofs.is_empty()) {
            return Ok(None);
        }
        let shown = Shown {
            loom: order.loom,
            entity: order.entity,
            parent: order.parent,
            spawned_by: order.spawned_by,
            credentials: Arc::clone(&order.credentials),
        };
        let casts = self.clone();
        // Signatures are checked, and what holds is written and synced: not on a thread that serves.
        let admission =
            tokio::task::spawn_blocking(move || shown.keep(&*casts.0.runtime.host.store, &casts.0.standing)).await;
        admission.map_err(|error| ours(&error))?.map(Some)
    }
}

impl Shown {
    /// Checks everything, and keeps it once all of it holds.
    fn keep(&self, store: &dyn LoomStore, standing: &Standing) -> Result<EntryId, Refusal> {
        let proofs = checked(&self.credentials, self.loom)?;
        let attestations = &self.credentials.attestations;
        let admission = self.admission(store, &proofs)?;
        self.delegation(&proofs)?;
        self.standing(store, standing, &proofs)?;
        // What leads nowhere is not kept: whoever sends it does so for nothing.
        let proofs = self.needed(proofs, admission);
        let attestations = needed_of(attestations, proofs.iter().map(writer_of).chain([store.writer()]));
        for kept in store.attest(self.loom, &attestations).map_err(|error| ours(&error))? {
            kept.map_err(|error| denied(format!("what vouches for a key is not kept: {}", chain(&error))))?;
        }
        match store.keep_proved(&proofs).map_err(|error| ours(&error))? {
            Ok(_) => Ok(admission),
            Err(full) => Err(refuse(MEMBERS, GateError::Exhausted(chain(&full)))),
        }
    }

    /// The founding entry, the admissions that lead from there to this one, and the delegation.
    fn needed(&self, proofs: Vec<CheckedProof>, admission: EntryId) -> Vec<CheckedProof> {
        let mut needed: HashSet<EntryId> = self.parent.into_iter().collect();
        let mut next = Some(admission);
        while let Some(id) = next.filter(|id| needed.insert(*id)) {
            next = proofs.iter().find(|proof| proof.id() == id).and_then(|proof| proof.sealed().entry.relies);
        }
        let founds = |proof: &CheckedProof| matches!(proof.sealed().entry.body, Body::Founded { .. });
        proofs.into_iter().filter(|proof| founds(proof) || needed.contains(&proof.id())).collect()
    }

    /// The admission by which this node may open the entity.
    fn admission(&self, store: &dyn LoomStore, proofs: &[CheckedProof]) -> Result<EntryId, Refusal> {
        let entity = self.entity;
        read_shown(store, self.loom, (&self.credentials, proofs), |reader| {
            let own = store.writer();
            let why = match reader.may(own, Deed::Host(entity)) {
                Ok(Some(admission)) => return Ok(admission),
                Ok(None) => {
                    return Err(denied(format!(
                        "the order does not show that this node, whose key is {own}, was admitted for {entity}"
                    )));
                }
                Err(why) => why,
            };
            let of_entity = |proof: &&CheckedProof| matches!(&proof.sealed().entry.body, Body::Admitted(admitted) if admitted.scope.is_some_and(|scope| scope.entity == entity));
            Err(denied(match proofs.iter().rev().find(of_entity) {
                None => format!("the order shows no admission of a host for {entity}"),
                Some(proof) => match reader.counts(proof.id()) {
                    Err(refused) => {
                        format!("the admission {} of a host for {entity} decides nothing: {refused}", proof.id())
                    }
                    Ok(()) => format!("this node, whose key is {own}, may not open {entity}: {why}"),
                },
            }))
        })
    }

    /// That this node, if it keeps the loom, knows nothing against those who have admitted anybody. What they show was theirs to say once.
    fn standing(&self, store: &dyn LoomStore, standing: &Standing, proofs: &[CheckedProof]) -> Result<(), Refusal> {
        let loom = self.loom;
        let logs = store.logs(loom).map_err(|error| ours(&error))?;
        if logs.iter().all(|log| log.writer == store.writer()) {
            return Ok(());
        }
        for proof in proofs.iter().filter(|proof| matches!(proof.sealed().entry.body, Body::Admitted(_))) {
            let key = writer_of(proof);
            let against = standing.against(store, loom, key).map_err(|fault| ours(&fault))?;
            if let Some(why) = against {
                return Err(denied(format!(
                    "the admission {} is by {key}, of whom this node's copy of the loom says: {why}",
                    proof.id()
                )));
            }
        }
        Ok(())
    }

    /// That the entry which the entity follows delegates it.
    fn delegation(&self, proofs: &[CheckedProof]) -> Result<(), Refusal> {
        let entity = self.entity;
        let (parent, by) = match (self.parent, self.spawned_by) {
            (None, None) => return Ok(()),
            (Some(parent), Some(by)) => (parent, by),
            (Some(_), None) | (None, Some(_)) => {
                return Err(denied(format!(
                    "the order names only one of the entity that spawned {entity} and the entry that says so"
                )));
            }
        };
        let delegates = |sealed: &Sealed| {
            sealed.id == parent
                && sealed.entry.entity == Some(by)
                && matches!(&sealed.entry.body, Body::Delegated { child, .. } if *child == entity)
        };
        if proofs.iter().any(|proof| delegates(proof.sealed())) {
            return Ok(());
        }
        Err(denied(format!("the order does not show that {by} has delegated {entity} with the entry {parent}")))
    }
}

/// The proved entries of an order, checked.
pub(super) fn checked(credentials: &Credentials, loom: LoomId) -> Result<Vec<CheckedProof>, Refusal> {
    let check = |proof: &ProvedEntry| {
        let proof = proof.clone().check();
        let proof =
            proof.map_err(|error| denied(format!("a proved entry of the order does not hold: {}", chain(&error))))?;
        if proof.loom() == loom {
            return Ok(proof);
        }
        let (id, of) = (proof.id(), proof.loom());
        Err(denied(format!("the proved entry {id} is of loom {of}, and the order is of {loom}")))
    };
    credentials.proofs.iter().map(check).collect()
}

/// Reads what an order shows of a loom, before anything of it is kept.
pub(super) fn read_shown<T>(
    store: &dyn LoomStore,
    loom: LoomId,
    (credentials, proofs): (&Credentials, &[CheckedProof]),
    read: impl FnOnce(&Reader<'_>) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    let vouched = store.checked(&credentials.attestations);
    let vouched =
        vouched.map_err(|error| denied(format!("what vouches for a key does not hold: {}", chain(&error))))?;
    let founding = proofs.iter().find(|proof| matches!(proof.sealed().entry.body, Body::Founded { .. }));
    let founding = founding.ok_or_else(|| denied(format!("the order does not show who founded the loom {loom}")))?;
    let mut known = Known::new(loom, vouched);
    if let Some(record) = founder(store, founding.sealed())? {
        known.founded_by(record);
    }
    for proof in proofs {
        known.proved(proof);
    }
    let divided = store.proofs().map_err(|error| ours(&error))?;
    for proof in divided.iter().filter(|proof| proof.loom == loom) {
        known.divides(proof);
    }
    let reader = Reader::new(&known);
    if let Some(Sealed { id, entry, .. }) = reader.later().next() {
        let later = ViewError::Later { entry: *id, kind: entry.body.kind().to_owned() };
        return Err(denied(later.to_string()));
    }
    read(&reader)
}

/// 1 000 keys. Of so many it is remembered; then all of it is asked for anew.
const STANDING_KEPT: usize = 1_000;

/// What is known against a key.
type Against = Arc<Remembered<Option<Refused>>>;

/// Whether a copy of a loom says that a key decides nothing there any more.
#[derive(Debug, Default)]
pub(super) struct Standing(Mutex<HashMap<(LoomId, WriterKey), Against>>);

impl Standing {
    /// What was written against a key: that it was expelled, or has two histories.
    pub(super) fn against(
        &self,
        store: &dyn LoomStore,
        loom: LoomId,
        key: WriterKey,
    ) -> Result<Option<Refused>, Fault> {
        let remembered = {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= STANDING_KEPT && !known.contains_key(&(loom, key)) {
                known.clear();
            }
            Arc::clone(known.entry((loom, key)).or_default())
        };
        remembered.get(store, loom, |reader| {
            let why = reader.may(key, Deed::Write).err();
            Ok(why.filter(|why| matches!(why, Refused::Expelled(_) | Refused::Equivocated { .. })))
        })
    }
}

fn writer_of(proof: &CheckedProof) -> WriterKey {
    proof.sealed().entry.writer
}

/// What vouches for these keys, and for those whose place they take.
fn needed_of(all: &[Attestation], keys: impl Iterator<Item = WriterKey>) -> Vec<Attestation> {
    let older = |key| {
        let of_key = all.iter().filter(|it| it.key() == key);
        Ok::<_, std::convert::Infallible>(of_key.filter_map(Attestation::predecessor).collect())
    };
    let relied: HashSet<WriterKey> = keys.flat_map(|key| relied_on(key, older).unwrap_or_default()).collect();
    all.iter().filter(|it| relied.contains(&it.key())).cloned().collect()
}

/// The member record in a founding entry.
fn founder(store: &dyn LoomStore, founding: &Sealed) -> Result<Option<CheckedRecord>, Refusal> {
    let Body::Founded { member: Some(member), .. } = &founding.entry.body else { return Ok(None) };
    let record = MemberRecord::parse(member).and_then(|record| store.checked(&[Attestation::Member(record)]));
    let record = record
        .map_err(|error| denied(format!("the member record that founds the loom does not hold: {}", chain(&error))))?;
    Ok(record.records.into_iter().next())
}
