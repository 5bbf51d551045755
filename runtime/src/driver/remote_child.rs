//! A child that runs on another node: what it is sent with, who runs it, and what its parent is told. One that a crash cut off is asked
//! for again where it was asked for before, under the same name: so it runs once.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use cantrip_gates::GateError;

use crate::domain::cantrip::Identity;
use crate::domain::delegation::{There, ThereModel};
use crate::domain::ids::{CastId, EntryId, NodeAddress};
use crate::domain::loom::{Body, Sealed};
use crate::domain::members::Principal;
use crate::domain::remote::{ByHost, CantripOrder, ModelOrder, Order, Place as NodePlace};
use crate::ports::{PeerError, Peers};

use super::actor::Actor;
use super::admitting::Child;
use super::delegate::{ChildEnd, NamedChild};
use super::fault::Fault;
use super::intake::Intake;
use super::near_place::Place;
use super::remote::{NearSide, Share, at_caller, checked, nothing, unknown};

/// Finds the node of a place: the only one named, or the one that has least to do.
async fn locate(
    peers: &dyn Peers,
    place: &NodePlace,
    known: &[NodeAddress],
    order: &Order,
) -> Result<NodeAddress, PeerError> {
    match place {
        NodePlace::OneOf(nodes) => match nodes.as_slice() {
            [one] => Ok(one.clone()),
            several => peers.choose(several, order).await,
        },
        NodePlace::Any => peers.choose(known, order).await,
    }
}

impl Actor {
    /// Has a child run elsewhere. A host that cannot be had is an ordinary failure of the call.
    pub(super) async fn run_there(
        &self,
        named: NamedChild,
        (intent, identity): (String, Identity),
        there: There,
        (shares, is_lost): (u64, bool),
    ) -> Result<ChildEnd, Fault> {
        let NamedChild { entity, minted, delegated, is_known } = named;
        let Some(peers) = self.host.peers.clone() else {
            return Ok((Err(GateError::NotFound("this runtime has no peers".to_owned())), None));
        };
        // Whoever was asked for it before is asked again, and nobody else: it runs once.
        let (asked, given) = if is_known { self.asked_for(named)? } else { None }.unzip();
        let parent = self.entity.nature();
        let depth = parent.depth.saturating_add(1);
        let There { place, medium, guest, gates, mut wards, model } = there;
        let share = Share::reserve(&parent.ledger, &mut wards, shares);
        let lost = || Some(share.reserve_of(entity));
        if is_lost {
            let what = "its end is unknown".to_owned();
            return Ok((Err(GateError::Unknown(what)), lost()));
        }
        let llm = match &model {
            ThereModel::AtHost(_) => None,
            ThereModel::AtCaller(name) => {
                let named = self.cantrip.model_for_child(name.as_deref(), depth);
                Some(named.unwrap_or_else(|| Arc::clone(&self.llm)))
            }
        };
        let model = match (&llm, model) {
            (Some(llm), _) => at_caller(&**llm),
            (None, ThereModel::AtHost(name)) => ModelOrder::AtHost(name),
            (None, ThereModel::AtCaller(_)) => ModelOrder::AtHost(None),
        };
        let equipped = self.cantrip.equipped();
        let near_gates = gates.iter().filter(|gate| gate.at_caller.is_some());
        let near_gates = near_gates.filter_map(|gate| equipped.get(&gate.name).map(Arc::clone));
        let deadline = self.time_left();
        let follows = (entity, Some(delegated));
        let intake = match &asked {
            Some(_) => Intake::new(self.loom.clone(), follows)?,
            None => Intake::of_new(self.loom.clone(), follows),
        };
        let near = NearSide {
            place: Place::known(self.loom.clone(), intake),
            parent: Some(parent.id),
            depth,
            observer: self.observer.clone(),
            control: self.control.child(),
            gates: checked(near_gates),
            llm,
            guest: None,
            wards: wards.clone(),
            deadline: deadline.and_then(|left| Instant::now().checked_add(left)),
            gate_calls: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
        };
        let order = Order {
            // Of the name that is on record here already: whoever takes this entity up again means the same cast.
            cast: CastId::of_child(&entity),
            loom: self.loom.id(),
            entity,
            minted: Some(minted),
            by_host: ByHost::Nothing,
            parent: Some(delegated),
            spawned_by: Some(parent.id),
            depth,
            cantrip: CantripOrder { identity, medium, guest, gates, wards, folding: parent.folding.clone(), model },
            intent,
            trace: self.trace.clone(),
            deadline,
            lease: None,
            again: false,
            keep: false,
            fork: None,
            seen: self.entity.seen(),
            credentials: Arc::default(),
            origins: self.origins.clone(),
        };
        let child = Child { entity, minted, delegated: Some((parent.id, delegated)), may_be_known: is_known, given };
        let mut admission = None;
        let node = match &asked {
            Some(asked) => same_node(&*peers, asked, &place, &parent.nodes).await,
            None => locate(&*peers, &place, &parent.nodes, &order).await,
        };
        let ended = match node {
            Ok(node) => {
                let to = (&*peers, node.name().as_str());
                match child.cast(&self.loom, to, order, &mut admission, &near).await {
                    // Nothing ran.
                    Err(fault @ Fault::Unproved { .. }) => {
                        share.settle(Some(&nothing()));
                        return Ok((Err(GateError::Denied(fault.to_string())), None));
                    }
                    ended => ended?,
                }
            }
            Err(error) => Err(error),
        };
        // However it ended, the parent is told now, and nothing that comes later of the cast is asked for.
        if let Ok(place) = near.place.get() {
            child.settle(&self.loom, &mut admission, &place.intake)?;
        }
        // A cast that never ran has spent nothing; of one that is lost nobody knows.
        let reserve = match &ended {
            Ok(end) => {
                share.settle(Some(end));
                None
            }
            Err(error) if asked.is_none() && !error.may_have_run() => {
                share.settle(Some(&nothing()));
                None
            }
            Err(_) => lost(),
        };
        match ended {
            Ok(end) => Ok((Ok(end.outcome(entity)), reserve)),
            Err(PeerError::Store(error)) => Err(Fault::Store(error)),
            Err(error) => Ok((Err(error.for_entity()), reserve)),
        }
    }

    /// Who was asked for a child before a crash, and by which admission, the last first; nothing where nobody was.
    fn asked_for(&self, named: NamedChild) -> Result<Option<(Principal, EntryId)>, Fault> {
        let store = self.loom.store();
        for id in store.children(named.delegated)?.into_iter().rev() {
            if let Some(Sealed { entry, .. }) = store.entry(id)?
                && let Body::Admitted(admitted) = entry.body
                && admitted.scope.is_some_and(|scope| scope.entity == named.entity)
            {
                return Ok(Some((admitted.principal, id)));
            }
        }
        Ok(None)
    }

    /// Says that a cast elsewhere is over whose end the record has.
    pub(super) fn settle_known(&self, named: NamedChild) -> Result<(), Fault> {
        let follows = (named.entity, Some(named.delegated));
        let given = self.asked_for(named)?.map(|(_, given)| given);
        let delegated = Some((self.entity.nature().id, named.delegated));
        let child = Child { entity: named.entity, minted: named.minted, delegated, may_be_known: true, given };
        child.settle_given(&self.loom, &Intake::new(self.loom.clone(), follows)?)
    }
}

/// The node of a principal, as this node knows it: by the name in its certificate, or by the key that it shows.
async fn same_node(
    peers: &dyn Peers,
    asked: &Principal,
    place: &NodePlace,
    known: &[NodeAddress],
) -> Result<NodeAddress, PeerError> {
    let candidates = match place {
        NodePlace::OneOf(nodes) => nodes.as_slice(),
        NodePlace::Any => known,
    };
    if let [only] = candidates {
        return Ok(only.clone());
    }
    if let Principal::Node(id) = asked {
        let named = candidates.iter().chain(known).find(|node| id.name == *node.name()).cloned();
        return named.ok_or_else(|| not_known(asked, known));
    }
    let mut failed = None;
    for node in candidates {
        match peers.identify(node.name().as_str(), false).await {
            Ok(identity) if identity.principal == *asked => return Ok(node.clone()),
            Ok(_) => {}
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| not_known(asked, known)))
}

fn not_known(asked: &Principal, known: &[NodeAddress]) -> PeerError {
    let names = known.iter().map(|node| node.name().to_string()).collect::<Vec<_>>();
    unknown(&asked.to_string(), &names)
}
