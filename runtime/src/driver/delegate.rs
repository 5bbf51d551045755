//! Children: cast at once, each in its own circle, all in their parent's loom.

use std::sync::Arc;

use cantrip_gates::{Exposure, GateError};
use futures_util::StreamExt;
use serde_json::Value;

use crate::domain::budget::Ledger;
use crate::domain::delegation::{ChildPlan, Work};
use crate::domain::entity::{Input, Nature};
use crate::domain::ids::{CallId, EntityId, EntryId};
use crate::domain::loom::{Body, Minted, Payloads, Spent};
use crate::domain::medium::SnapshotPolicy;
use crate::domain::outcome::{Outcome, batch_answer};
use crate::domain::place::CallPlace;
use crate::ports::BoxFuture;

use super::actor::{Actor, ActorParts, Opening};
use super::fault::Fault;
use super::hosting::ChildSlots;

struct Child {
    entity: EntityId,
    minted: Minted,
    delegated: EntryId,
    plan: Box<ChildPlan>,
}

impl Actor {
    /// Casts the children of one call and waits for all of them (COMP-2, COMP-3).
    pub(super) async fn cast_children(
        &mut self,
        call: CallId,
        requests: Vec<(Value, Result<Box<ChildPlan>, GateError>)>,
        batch: bool,
    ) -> Result<Input, Fault> {
        let at_once =
            usize::try_from(self.entity.nature().circle.wards().max_concurrent_children).unwrap_or(usize::MAX).max(1);
        let mut children = Vec::with_capacity(requests.len());
        for (index, (proposal, plan)) in requests.into_iter().enumerate() {
            children.push(match plan {
                Ok(plan) => Ok(self.delegate(&call, index, &proposal, plan)?),
                Err(error) => Err(error),
            });
        }
        let this = &*self;
        let shares = u64::try_from(children.len().min(at_once)).unwrap_or(u64::MAX);
        let runs = children.into_iter().map(|child| async move {
            match child {
                Ok(child) => this.run_child(child, shares).await,
                Err(error) => Ok(Err(error)),
            }
        });
        let ended: Vec<Result<Result<Outcome, GateError>, Fault>> =
            futures_util::stream::iter(runs).buffered(at_once).collect().await;
        let (mut seen, mut spent, mut answers) =
            (Exposure::default(), Spent::default(), Vec::with_capacity(ended.len()));
        for child in ended {
            answers.push(child?.and_then(|outcome| {
                seen = seen.union(outcome.seen);
                spent.usage += outcome.spent.usage;
                spent.children_usage += outcome.spent.children_usage;
                outcome.for_parent()
            }));
        }
        let result = if batch {
            Ok(batch_answer(answers))
        } else {
            answers.pop().unwrap_or_else(|| Err(GateError::Failed("no child was cast".to_owned())))
        };
        Ok(Input::GateReturned { result, seen, spent })
    }

    fn delegate(
        &mut self,
        call: &CallId,
        index: usize,
        proposal: &Value,
        plan: Box<ChildPlan>,
    ) -> Result<Child, Fault> {
        let (entity, minted) = self.host.entity_id();
        let mut payloads = Payloads::default();
        let body = Body::Delegated {
            call: call.clone(),
            index: u32::try_from(index).unwrap_or(u32::MAX),
            child: entity,
            proposal: payloads.json(proposal),
            place: match &plan.work {
                Work::Here { .. } => CallPlace::Here,
                Work::There(there) => CallPlace::from(&there.place),
            },
            nonce: Some(minted.nonce),
        };
        let delegated = self.record(body, payloads.into_blobs())?;
        Ok(Child { entity, minted, delegated, plan })
    }

    /// Boxed, because a child may have children.
    fn run_child(&self, child: Child, shares: u64) -> BoxFuture<'_, Result<Result<Outcome, GateError>, Fault>> {
        let Child { entity, minted, delegated, plan } = child;
        let ChildPlan { intent, identity, work } = *plan;
        let (circle, model) = match work {
            Work::Here { circle, model } => (circle, model),
            Work::There(there) => {
                return Box::pin(self.run_there((entity, minted, delegated), (intent, identity), *there, shares));
            }
        };
        let slot = match self.children.as_ref().map(ChildSlots::take).transpose() {
            Ok(slot) => slot,
            Err(error) => return Box::pin(std::future::ready(Ok(Err(error)))),
        };
        let parent = self.entity.nature();
        let depth = parent.depth.saturating_add(1);
        let llm = self.cantrip.model_for_child(model.as_deref(), depth).unwrap_or_else(|| Arc::clone(&self.llm));
        let ledger = Ledger::new(circle.wards(), Some(Arc::clone(&parent.ledger)));
        let nature = Nature {
            id: entity,
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
        let mut actor = Self::new(ActorParts {
            host: Arc::clone(&self.host),
            cantrip: self.cantrip.clone(),
            llm,
            loom: self.loom.clone(),
            control: self.control.child(),
            observer: self.observer.clone(),
            nature,
            seen: self.entity.seen(),
            follows: Some(delegated),
            deadline_us: self.deadline_us,
            snapshots: SnapshotPolicy::Never,
            trace: self.trace.clone(),
            children: self.children.clone(),
            origins: self.origins.clone(),
        });
        let (trace, minted) = (self.trace.clone(), Some(minted));
        let opening = Opening { spawned_by: Some(parent.id), trace, minted, ..Opening::default() };
        Box::pin(async move {
            let _slot = slot;
            match actor.open(&intent, opening, Vec::new()) {
                // What was proposed is too large: that is for whoever proposed it.
                Err(Fault::Opening(error)) => return Ok(Err(GateError::Invalid(error.to_string()))),
                opened => opened?,
            }
            actor.episode(Input::Intent { text: intent, recorded: true, cast: None }).await.map(Ok)
        })
    }
}
