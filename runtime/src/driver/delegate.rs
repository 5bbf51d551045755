//! Children: cast at once, each in its own circle, all in their parent's loom.

use std::sync::Arc;

use cantrip_gates::GateError;
use futures_util::StreamExt;
use serde_json::Value;

use crate::domain::budget::{Ledger, Quantity};
use crate::domain::delegation::{ChildPlan, There, Work};
use crate::domain::entity::{Input, KnownChild, Nature, OfChildren};
use crate::domain::ids::{CallId, EntityId, EntryId};
use crate::domain::loom::{Body, Minted, Payloads, Reserve, Restored, Tree};
use crate::domain::medium::SnapshotPolicy;
use crate::domain::members::Reader;
use crate::domain::outcome::{Outcome, batch_answer};
use crate::domain::place::CallPlace;
use crate::ports::{BoxFuture, RemoteEnd};

use super::actor::{Actor, ActorParts, Opening};
use super::adopting::take_over;
use super::ending::end_of;
use super::fault::{Fault, chain};
use super::hosting::ChildSlots;
use super::remote::Share;

struct Child {
    named: NamedChild,
    plan: Box<ChildPlan>,
}

/// A child as the entry of its parent names it.
#[derive(Debug, Clone, Copy)]
pub(super) struct NamedChild {
    pub(super) entity: EntityId,
    pub(super) minted: Minted,
    pub(super) delegated: EntryId,
    /// Whether that entry is from before a crash: it may have been cast already.
    pub(super) is_known: bool,
}

/// What came of a child, and what is set aside for it if its end is unknown.
pub(super) type ChildEnd = (Result<Outcome, GateError>, Option<Reserve>);

/// What the record has of the children of a call that a crash cut off.
#[derive(Debug)]
struct KnownChildren {
    tree: Tree,
    /// Whether what came of them all is recorded, too.
    has_returned: bool,
}

impl Actor {
    /// Casts the children of one call and waits for all of them (COMP-2, COMP-3).
    pub(super) async fn cast_children(
        &mut self,
        call: CallId,
        requests: Vec<(Value, Result<Box<ChildPlan>, GateError>)>,
        batch: bool,
        (known, has_returned): (Vec<KnownChild>, bool),
    ) -> Result<Input, Fault> {
        let recorded = if known.is_empty() {
            None
        } else {
            self.loom.sync().await?;
            Some(KnownChildren { tree: self.loom.tree()?, has_returned })
        };
        let at_once =
            usize::try_from(self.entity.nature().circle.wards().max_concurrent_children).unwrap_or(usize::MAX).max(1);
        let mut children = Vec::with_capacity(requests.len());
        for (index, (proposal, plan)) in requests.into_iter().enumerate() {
            children.push(match plan {
                Ok(plan) => Ok(self.delegate(&call, index, &proposal, plan, &known)?),
                Err(error) => Err(error),
            });
        }
        let (this, recorded) = (&*self, recorded.as_ref());
        let shares = u64::try_from(children.len().min(at_once)).unwrap_or(u64::MAX);
        let runs = children.into_iter().map(|child| async move {
            match child {
                Ok(child) => this.run_child(child, shares, recorded).await,
                Err(error) => Ok((Err(error), None)),
            }
        });
        let ended: Vec<Result<ChildEnd, Fault>> = futures_util::stream::iter(runs).buffered(at_once).collect().await;
        let (mut children, mut answers) = (OfChildren::default(), Vec::with_capacity(ended.len()));
        for child in ended {
            let (ended, reserve) = child?;
            children.reserves.extend(reserve);
            answers.push(ended.and_then(|outcome| {
                children.seen = children.seen.union(outcome.seen);
                children.spent.usage += outcome.spent.usage;
                children.spent.children_usage += outcome.spent.children_usage;
                outcome.for_parent()
            }));
        }
        let result = if batch {
            Ok(batch_answer(answers))
        } else {
            answers.pop().unwrap_or_else(|| Err(GateError::Failed("no child was cast".to_owned())))
        };
        Ok(Input::GateReturned { result, children })
    }

    fn delegate(
        &mut self,
        call: &CallId,
        index: usize,
        proposal: &Value,
        plan: Box<ChildPlan>,
        known: &[KnownChild],
    ) -> Result<Child, Fault> {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        if let Some(KnownChild { entity, minted: Some(minted), delegated, .. }) =
            known.iter().find(|known| known.index == index)
        {
            let (entity, minted, delegated) = (*entity, *minted, *delegated);
            return Ok(Child { named: NamedChild { entity, minted, delegated, is_known: true }, plan });
        }
        let (entity, minted) = self.host.entity_id();
        let mut payloads = Payloads::default();
        let body = Body::Delegated {
            call: call.clone(),
            index,
            child: entity,
            proposal: payloads.json(proposal),
            place: match &plan.work {
                Work::Here { .. } => CallPlace::Here,
                Work::There(there) => CallPlace::from(&there.place),
            },
            nonce: Some(minted.nonce),
        };
        let delegated = self.record(body, payloads.into_blobs())?;
        Ok(Child { named: NamedChild { entity, minted, delegated, is_known: false }, plan })
    }

    /// Boxed, because a child may have children.
    fn run_child<'a>(
        &'a self,
        child: Child,
        shares: u64,
        recorded: Option<&'a KnownChildren>,
    ) -> BoxFuture<'a, Result<ChildEnd, Fault>> {
        let Child { named, plan } = child;
        let ChildPlan { intent, identity, work } = *plan;
        let recorded = recorded.filter(|_| named.is_known);
        if let Some(recorded) = recorded
            && let Some(end) = end_of(self.loom.store(), &recorded.tree, named.entity).transpose()
        {
            return Box::pin(async move { Ok((Ok(self.ended(named, end?, work, (shares, &recorded.tree))?), None)) });
        }
        let (circle, model) = match work {
            Work::Here { circle, model } => (circle, model),
            Work::There(there) => {
                // Its end was awaited, and nobody knows of one.
                let is_lost = recorded.is_some_and(|recorded| recorded.has_returned);
                return Box::pin(self.run_there(named, (intent, identity), *there, (shares, is_lost)));
            }
        };
        let slot = match self.children.as_ref().map(ChildSlots::take).transpose() {
            Ok(slot) => slot,
            Err(error) => return Box::pin(std::future::ready(Ok((Err(error), None)))),
        };
        let parent = self.entity.nature();
        let depth = parent.depth.saturating_add(1);
        let llm = self.cantrip.model_for_child(model.as_deref(), depth).unwrap_or_else(|| Arc::clone(&self.llm));
        let ledger = Ledger::new(circle.wards(), Some(Arc::clone(&parent.ledger)));
        let nature = Nature {
            id: named.entity,
            depth,
            identity,
            circle: Arc::from(circle),
            folding: parent.folding.clone(),
            context_tokens: llm.context_tokens(),
            equipped: parent.equipped.clone(),
            code_media: Arc::clone(&parent.code_media),
            models: parent.models.clone(),
            nodes: Arc::clone(&parent.nodes),
            ledger,
            guest: None,
        };
        let parts = ActorParts {
            host: Arc::clone(&self.host),
            cantrip: self.cantrip.clone(),
            llm,
            loom: self.loom.clone(),
            control: self.control.child(),
            observer: self.observer.clone(),
            nature,
            seen: self.entity.seen(),
            follows: Some(named.delegated),
            deadline_us: self.deadline_us,
            snapshots: SnapshotPolicy::Never,
            trace: self.trace.clone(),
            children: self.children.clone(),
            origins: self.origins.clone(),
        };
        let (trace, minted) = (self.trace.clone(), Some(named.minted));
        let opening = Opening { spawned_by: Some(parent.id), trace, minted, ..Opening::default() };
        Box::pin(async move {
            let _slot = slot;
            if recorded.is_some_and(|recorded| recorded.tree.entity(named.entity).is_ok()) {
                let restored = match self.begun(named.entity).await {
                    Ok(restored) => restored,
                    Err(fault) if fault.is_anothers() => {
                        let what = format!("the child {} was begun by another node: {}", named.entity, chain(&fault));
                        return Ok((Err(GateError::Unknown(what)), None));
                    }
                    Err(fault) => return Err(fault),
                };
                let mut actor = Self::continuing(parts, restored, true)?;
                actor.is_prepaid = true;
                return actor.episode(Input::Continue).await.map(|outcome| (Ok(outcome), None));
            }
            let mut actor = Self::new(parts);
            match actor.open(&intent, opening, Vec::new()) {
                // What was proposed is too large: that is for whoever proposed it.
                Err(Fault::Opening(error)) => return Ok((Err(GateError::Invalid(error.to_string())), None)),
                opened => opened?,
            }
            let input = Input::Intent { text: intent, recorded: true, cast: None };
            actor.episode(input).await.map(|outcome| (Ok(outcome), None))
        })
    }

    /// A child that was begun before, as this node's: whoever adopts an entity adopts those that it has cast on its node.
    async fn begun(&self, child: EntityId) -> Result<Restored, Fault> {
        let own = self.loom.store().writer();
        let owner = self.loom.tree()?.owner(child).map(|owner| owner.writer);
        if let Some(owner) = owner.filter(|owner| *owner != own) {
            let is_same = {
                let batch = self.loom.store().batch(self.loom.id())?;
                Reader::of(&batch).is_same_member(owner, own)
            };
            if is_same {
                take_over(&self.loom, child, &self.host.node)?;
            } else {
                self.loom.adopt(child, &self.host.node, false).await?;
            }
            self.loom.sync().await?;
        }
        Ok(self.loom.tree()?.restore(child, None)?)
    }

    /// What came of a child that has ended by the record: what it and those below it have spent is counted as it was.
    fn ended(
        &self,
        named: NamedChild,
        end: RemoteEnd,
        work: Work,
        (shares, tree): (u64, &Tree),
    ) -> Result<Outcome, Fault> {
        let ledger = &self.entity.nature().ledger;
        match work {
            Work::Here { .. } => {
                ledger.charge_all_recorded(&end.spent);
                ledger.charge_recorded(Quantity::Tokens, tree.reserved_tokens(named.entity));
            }
            Work::There(there) => {
                let There { mut wards, .. } = *there;
                Share::reserve(ledger, &mut wards, shares).settle(Some(&end));
                self.settle_known(named)?;
            }
        }
        Ok(end.outcome(named.entity))
    }
}
