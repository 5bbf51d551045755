//! Who goes on with the entities that had casts run here, where another node has adopted them since: that one has their casts, and whoever
//! had them before has not (`membership.md` 7.3).
//!
//! A caller shows the entry by which it adopted the parent. It holds where its writer may adopt in that loom and it names the caller; of
//! several the highest epoch holds. It is kept, so that it holds after a restart.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use cantrip_gates::GateError;

use crate::domain::caller::Caller;
use crate::domain::ids::{EntityId, LoomId, NodeAddress, NodeName, WriterKey};
use crate::domain::limits::FENCE_STEP_MAX;
use crate::domain::loom::{Body, Sealed};
use crate::domain::members::{Deed, ProvedEntry};
use crate::domain::remote::{MEMBERS, Order, Refusal};
use crate::driver::fault::chain;
use crate::ports::{LoomStore, StoreError};

use super::credentials::{checked, denied, read_shown};
use super::{Casts, ours, refuse};

/// 1 000 entities. Of so many it is remembered who goes on with them; then it is read again.
const HEIRS_KEPT: usize = 1_000;

/// Whoever goes on with an entity that another had opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heir {
    /// The node, as the adoption names it.
    pub(super) node: NodeName,
    epoch: u64,
    writer: WriterKey,
}

impl Heir {
    /// What an entry says of it, if it is an adoption of this entity.
    fn of(sealed: &Sealed, parent: EntityId) -> Option<Self> {
        let Body::Adopted { epoch, node, .. } = &sealed.entry.body else { return None };
        let named = node.parse::<NodeAddress>().map(|node| node.name().clone());
        let node = named.or_else(|_| node.parse::<NodeName>()).ok()?;
        (sealed.entry.entity == Some(parent)).then_some(Self { node, epoch: *epoch, writer: sealed.entry.writer })
    }

    /// Of two of one epoch the later writer's key holds.
    const fn rank(&self) -> (u64, WriterKey) {
        (self.epoch, self.writer)
    }
}

/// What was read of the adoptions that were shown here.
#[derive(Debug, Default)]
pub(super) struct Heirs(Mutex<HashMap<(LoomId, EntityId), Option<Heir>>>);

impl Heirs {
    fn get(&self, store: &dyn LoomStore, loom: LoomId, parent: EntityId) -> Result<Option<Heir>, StoreError> {
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&(loom, parent)) {
            return Ok(known.clone());
        }
        let kept = store.proved(loom)?;
        let all = kept.iter().filter_map(|proof| Heir::of(proof.sealed(), parent));
        let heir = all.max_by_key(Heir::rank);
        self.set(loom, parent, heir.clone());
        Ok(heir)
    }

    fn set(&self, loom: LoomId, parent: EntityId, heir: Option<Heir>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= HEIRS_KEPT {
            known.clear();
        }
        known.insert((loom, parent), heir);
    }
}

impl Casts {
    /// Whether a cast of this caller's is another's by now, or one that this record names as another's is this caller's: `had` had it run
    /// here, as a child of `parent`.
    pub(super) fn is_callers(
        &self,
        caller: &Caller,
        had: Option<&Caller>,
        (loom, entity, parent): (LoomId, EntityId, Option<EntityId>),
    ) -> Result<(), Refusal> {
        // Whoever may open the node's own socket has what is adopted here, too.
        let Some(peer) = caller.peer() else { return Ok(()) };
        let store = &*self.0.runtime.host.store;
        let heir = match parent {
            Some(parent) => self.0.heirs.get(store, loom, parent).map_err(|error| ours(&error))?,
            None => None,
        };
        match heir {
            Some(heir) if heir.node == *peer => Ok(()),
            Some(heir) => {
                let what =
                    format!("the entity {entity} is another's: {} has adopted whoever had it cast here", heir.node);
                Err(refuse("entity", GateError::Denied(what)))
            }
            None if had.is_some_and(|had| had.is_same(caller)) => Ok(()),
            None => Err(refuse("entity", GateError::Denied(format!("the entity {entity} is another's")))),
        }
    }

    /// Who goes on with the parent of a cast; nothing where that is whoever had it run.
    pub(super) fn heir(&self, loom: LoomId, parent: Option<EntityId>) -> Result<Option<NodeName>, StoreError> {
        let Some(parent) = parent else { return Ok(None) };
        let heir = self.0.heirs.get(&*self.0.runtime.host.store, loom, parent)?;
        Ok(heir.map(|heir| heir.node))
    }

    /// Checks and keeps what an order shows of an adoption of its parent by its caller.
    pub(super) async fn note_heir(&self, caller: &Caller, order: &Order) -> Result<(), Refusal> {
        let (Some(peer), Some(parent)) = (caller.peer(), order.spawned_by) else { return Ok(()) };
        let adopts = |proof: &ProvedEntry| {
            Sealed::read(proof.entry.clone()).is_ok_and(|sealed| Heir::of(&sealed, parent).is_some())
        };
        // Of a cast that is not known here there is nobody who had it run before.
        let is_known = self.lock().get(order.entity).is_some()
            || self.0.runtime.host.store.loom_of(order.entity).map_err(|error| ours(&error))?.is_some();
        if !is_known || !order.credentials.proofs.iter().any(adopts) {
            return Ok(());
        }
        let (casts, order, peer) = (self.clone(), order.clone(), peer.clone());
        // Signatures are checked, and what holds is written and synced: not on a thread that serves.
        let noted = tokio::task::spawn_blocking(move || casts.keep_heir(&peer, &order, parent)).await;
        noted.map_err(|error| ours(&error))?
    }

    fn keep_heir(&self, peer: &NodeName, order: &Order, parent: EntityId) -> Result<(), Refusal> {
        let (store, loom) = (&*self.0.runtime.host.store, order.loom);
        let proofs = checked(&order.credentials, loom)?;
        let heir = proofs.iter().filter_map(|proof| Heir::of(proof.sealed(), parent)).max_by_key(Heir::rank);
        let heir = heir.ok_or_else(|| denied(format!("the order does not show who has adopted {parent}")))?;
        if heir.node != *peer {
            let what = format!("the order shows that {} has adopted {parent}, and comes from {peer}", heir.node);
            return Err(denied(what));
        }
        let key = heir.writer;
        read_shown(store, loom, (&order.credentials, &proofs), |reader| {
            let may = reader.may(key, Deed::AdoptAny);
            may.map_err(|why| {
                denied(format!("who has adopted {parent}, with the key {key}, may not in this loom: {why}"))
            })
        })?;
        // A node that keeps the loom may know better than what it is shown.
        if store.logs(loom).map_err(|error| ours(&error))?.iter().any(|log| log.writer != store.writer())
            && let Some(why) = self.0.standing.against(store, loom, key).map_err(|fault| ours(&fault))?
        {
            return Err(denied(format!(
                "{parent} was adopted by {key}, of whom this node's copy of the loom says: {why}"
            )));
        }
        let before = self.0.heirs.get(store, loom, parent).map_err(|error| ours(&error))?;
        let reach = before.as_ref().map_or(0, |before| before.epoch).saturating_add(FENCE_STEP_MAX);
        if heir.epoch > reach {
            let epoch = heir.epoch;
            return Err(denied(format!(
                "the adoption of {parent} has the epoch {epoch}, and the highest that is taken now is {reach}"
            )));
        }
        if before.as_ref().is_some_and(|before| before.rank() >= heir.rank()) {
            return Ok(());
        }
        for kept in store.attest(loom, &order.credentials.attestations).map_err(|error| ours(&error))? {
            kept.map_err(|error| denied(format!("what vouches for a key is not kept: {}", chain(&error))))?;
        }
        match store.keep_proved(&proofs).map_err(|error| ours(&error))? {
            Ok(_) => {}
            Err(full) => return Err(refuse(MEMBERS, GateError::Exhausted(chain(&full)))),
        }
        tracing::info!(%loom, %parent, node = %heir.node, "another node goes on with whoever had casts run here");
        self.0.heirs.set(loom, parent, Some(heir));
        // Whoever had it before is told so.
        if let Some(hosted) = self.lock().get(order.entity) {
            hosted.stage.send_modify(|_| {});
        }
        Ok(())
    }
}
