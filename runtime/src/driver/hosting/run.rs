//! One hosted episode, from its turn in the queue to its end: here, or passed on to a peer.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use cantrip_gates::GateError;
use serde_json::Value;

use crate::domain::caller::Caller;
use crate::domain::event::Event;
use crate::domain::ids::{EntityId, LoomId, NodeAddress, WriterKey};
use crate::domain::limits::GUEST_BYTES_MAX;
use crate::domain::loom::{Body, CastHead, Minted, Sealed};
use crate::domain::model::{ModelError, Question, RawAnswer};
use crate::domain::outcome::Outcome;
use crate::domain::remote::{ByHost, MEMBERS, Onward, Order, Refusal};
use crate::driver::admitting::Child;
use crate::driver::fault::Fault;
use crate::driver::intake::Intake;
use crate::driver::runtime::{CastError, CastOptions, Origin};
use crate::ports::{BoxFuture, Home, HomeError, PeerError, Pieces, RemoteEnd, Signal};

use super::{Begin, Build, Casts, Hosted, Slots, Stage, Where, ours, refuse};

/// One episode on its way to its end.
pub(super) struct Run {
    pub(super) casts: Casts,
    pub(super) hosted: Arc<Hosted>,
    pub(super) slots: Arc<Slots>,
}

impl Drop for Run {
    fn drop(&mut self) {
        // Whatever becomes of the task, nobody waits for it for ever.
        self.hosted.stage.send_if_modified(|stage| {
            if matches!(stage, Stage::Ended(_)) {
                return false;
            }
            let what = "the host gave the cast up; its log says why".to_owned();
            *stage = Stage::Ended(Arc::new(Err(refuse("host", GateError::Failed(what)))));
            true
        });
        self.casts.ended(&self.hosted, &self.slots);
    }
}

impl Run {
    pub(super) async fn finish(self, order: Order, place: Where, begin: Begin) {
        let (inner, hosted) = (&self.casts.0, &self.hosted);
        let waited = inner.limits.queue;
        let permit = tokio::select! {
            biased;
            permit = self.slots.running.acquire() => permit.map_err(|_| "this node is shutting down".to_owned()),
            () = hosted.control.stopped() => Err("the cast was stopped before its turn came".to_owned()),
            () = self.silence(&order) => Err("its caller fell silent before its turn came".to_owned()),
            () = inner.runtime.host.clock.sleep(waited) => {
                Err(format!("no cast ended within {} ms to make room for it", waited.as_millis()))
            }
        };
        self.slots.waiting.fetch_sub(1, Ordering::Relaxed);
        let permit = match permit {
            Ok(permit) => permit,
            Err(what) => return self.ended(Err(refuse("concurrent_casts", GateError::TimedOut(what)))),
        };
        let ended = {
            let work = self.work(order.clone(), place, begin);
            tokio::pin!(work);
            tokio::select! {
                ended = &mut work => ended,
                () = self.silence(&order) => {
                    hosted.control.orphan();
                    work.await
                }
            }
        };
        // What the caller is told next has to be durable.
        let ended = match ended {
            Ok(end) => hosted.loom.sync().await.map(|()| end).map_err(|fault| ours(&fault)),
            // What has failed, perhaps for want of copies, does not wait for copies again.
            Err(refusal) => match hosted.loom.sync_here().await {
                Ok(()) => Err(refusal),
                Err(error) => Err(ours(&error)),
            },
        };
        hosted.heard_us.store(inner.runtime.host.clock.elapsed_us(), Ordering::Relaxed);
        drop(permit);
        self.ended(ended);
    }

    fn ended(&self, end: Result<RemoteEnd, Refusal>) {
        self.hosted.stage.send_replace(Stage::Ended(Arc::new(end)));
        self.casts.ended(&self.hosted, &self.slots);
    }

    /// Returns when the caller has been silent for longer than its lease.
    async fn silence(&self, order: &Order) {
        let inner = &self.casts.0;
        let lease = order.lease.unwrap_or(inner.limits.lease).min(inner.limits.lease_max);
        let clock = &inner.runtime.host.clock;
        loop {
            let silent = clock.elapsed_us().saturating_sub(self.hosted.heard_us.load(Ordering::Relaxed));
            let left = lease.saturating_sub(Duration::from_micros(silent));
            if left.is_zero() {
                return;
            }
            clock.sleep(left).await;
        }
    }

    async fn work(&self, order: Order, place: Where, begin: Begin) -> Result<RemoteEnd, Refusal> {
        self.hosted.loom.ready().await.map_err(|fault| ours(&fault))?;
        match place {
            Where::At(node) => self.relay(&node, &order).await,
            Where::Here(build, nodes) => {
                let host = &self.casts.0.runtime.host;
                host.regain(order.loom, order.entity).await.map_err(|fault| ours(&fault))?;
                self.here(order, (build, nodes), begin).await
            }
        }
    }

    async fn here(&self, order: Order, (build, nodes): (Build, Onward), begin: Begin) -> Result<RemoteEnd, Refusal> {
        let (inner, hosted) = (&self.casts.0, &self.hosted);
        let clock = &inner.runtime.host.clock;
        let cantrip = tokio::select! {
            cantrip = build(Arc::clone(&hosted.line)) => cantrip?,
            () = hosted.control.stopped() => {
                return Err(refuse("cast", GateError::TimedOut("the cast was stopped before it began".to_owned())));
            }
            () = clock.sleep(inner.limits.build) => {
                let limit = inner.limits.build.as_millis();
                let what = format!("the cantrip could not be made within {limit} ms");
                return Err(refuse("limits.build_timeout_ms", GateError::TimedOut(what)));
            }
        };
        let deadline_us = order
            .deadline
            .map(|left| clock.elapsed_us().saturating_add(u64::try_from(left.as_micros()).unwrap_or(u64::MAX)));
        let options = CastOptions {
            observer: Some(Arc::clone(&hosted.line) as _),
            control: Some(hosted.control.clone()),
            loom: Some(order.loom),
            cast: Some(order.cast),
            trace: order.trace.clone(),
            origin: Some(Origin {
                caller: hosted.caller.recorded.clone(),
                entity: order.entity,
                minted: order.minted,
                parent: order.parent,
                spawned_by: order.spawned_by,
                depth: order.depth,
                seen: order.seen,
                origins: order.origins.clone(),
                nodes,
                deadline_us,
                children: self.slots.children(),
            }),
        };
        let wards = Arc::new(cantrip.circle().declared().clone());
        let runtime = &inner.runtime;
        let mut goes_on = false;
        let summoned = match begin {
            Begin::Kept(mut kept) => {
                kept.take_over(&options);
                Ok(*kept)
            }
            Begin::Recorded { unfinished } => {
                goes_on = unfinished;
                runtime.resume(&cantrip, order.loom, order.entity, &options)
            }
            Begin::Fresh if order.by_host == ByHost::Entity && !self.is_known()? => {
                let what = format!("there is no loom {} here; without `loom` this node founds one", order.loom);
                return Err(refuse("loom", GateError::NotFound(what)));
            }
            Begin::Fresh => match order.fork {
                None => runtime.summon(&cantrip, options),
                Some((of, turns)) => {
                    self.may_fork(&order, of)?;
                    runtime.fork(&cantrip, order.loom, of, turns, options)
                }
            },
        };
        let mut summoned = summoned.map_err(|fault| ours(&fault))?;
        self.found().await?;
        summoned.until(deadline_us);
        summoned.cast = Some(order.cast);
        hosted.stage.send_replace(Stage::Running { wards });
        let ended = if goes_on { summoned.go_on().await } else { summoned.send(&order.intent).await };
        let outcome = match ended {
            Ok(outcome) => outcome,
            Err(CastError::Failed { outcome, .. }) => *outcome,
            Err(CastError::NoIntent) => {
                return Err(refuse("intent", GateError::Invalid("intent is required".to_owned())));
            }
            Err(CastError::Fault(fault)) => return Err(ours(&fault)),
        };
        if hosted.keep {
            *hosted.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(summoned);
        }
        Ok(told(outcome))
    }

    fn is_known(&self) -> Result<bool, Refusal> {
        self.hosted.loom.is_known().map_err(|fault| ours(&fault))
    }

    /// Has a loom that this node founds for its caller on disk before the caller is told of it.
    async fn found(&self) -> Result<(), Refusal> {
        let loom = &self.hosted.loom;
        if loom.found().map_err(|fault| ours(&fault))? {
            loom.sync().await.map_err(|fault| ours(&fault))?;
        }
        Ok(())
    }

    fn may_fork(&self, order: &Order, of: EntityId) -> Result<(), Refusal> {
        let tree = self.casts.0.runtime.tree(order.loom).map_err(|fault| ours(&fault))?;
        let caller = tree.entity(of).ok().and_then(|view| view.opened.caller.clone());
        let caller = caller.and_then(|caller| Caller::of_record(&caller));
        if caller.is_some_and(|caller| caller.is_same(&self.hosted.caller.caller)) {
            return Ok(());
        }
        let what = format!("the loom {} has no entity {of} of this caller", order.loom);
        Err(refuse("fork", GateError::NotFound(what)))
    }

    /// What the id of an entity commits to that this node has minted for a caller without a record: now, or with an earlier intent.
    fn minted_here(&self, order: &Order) -> Result<Option<Minted>, Refusal> {
        if order.by_host != ByHost::Nothing {
            return Ok(order.minted);
        }
        if !order.again || !order.credentials.proofs.is_empty() {
            return Ok(None);
        }
        let store = &self.casts.0.runtime.host.store;
        let own = store.formerly().map_err(|error| ours(&error))?.into_iter().chain([store.writer()]);
        let own: Vec<WriterKey> = own.collect();
        let entries = store.entries_of(order.entity).map_err(|error| ours(&error))?;
        let minted = entries
            .iter()
            .find_map(|sealed| if let Body::Opened(opened) = &sealed.entry.body { opened.minted } else { None });
        Ok(minted.filter(|minted| own.contains(&minted.by)))
    }

    async fn relay(&self, node: &NodeAddress, order: &Order) -> Result<RemoteEnd, Refusal> {
        let (inner, hosted) = (&self.casts.0, &self.hosted);
        let Some(peers) = inner.runtime.host.peers.clone() else {
            return Err(refuse(
                "node",
                GateError::NotFound(format!("there is no node `{node}`: this one has no peers")),
            ));
        };
        // What came before is read from what is durable.
        hosted.loom.sync().await.map_err(|fault| ours(&fault))?;
        let intake = Intake::new(hosted.loom.clone(), (hosted.entity, order.parent)).map_err(|fault| ours(&fault))?;
        let home = Passing { hosted: Arc::clone(hosted), intake };
        self.found().await?;
        hosted.stage.send_replace(Stage::Running { wards: Arc::new(order.cantrip.wards.clone()) });
        let to = (&*peers, node.name().as_str());
        let ended = match self.minted_here(order)? {
            Some(minted) => {
                // Whatever was left to this node is named now, and who runs it is admitted by this node.
                let child = Child { entity: order.entity, minted, delegated: None, may_be_known: true, given: None };
                let order = Order { by_host: ByHost::Nothing, ..order.clone() };
                let mut admission = None;
                let cast = child.cast(&hosted.loom, to, order, &mut admission, &home).await;
                let ended = cast.map_err(|fault| {
                    let is_unproved = matches!(fault, Fault::Unproved { .. });
                    if is_unproved { refuse(MEMBERS, GateError::Denied(fault.to_string())) } else { ours(&fault) }
                })?;
                // What is lost may be joined again, by the same admission.
                if ended.is_ok() {
                    let settled = child.settle(&hosted.loom, &mut admission, &home.intake);
                    settled.map_err(|fault| ours(&fault))?;
                }
                ended
            }
            None => peers.cast(to.1, order, &home).await,
        };
        ended.map_err(|error| {
            let told = error.for_entity();
            match error {
                PeerError::Refused { refusal, node } => {
                    Refusal::new(format!("{node}: {}", refusal.rule), refusal.error)
                }
                PeerError::Unknown { .. }
                | PeerError::Unreachable { .. }
                | PeerError::NoAnswer { .. }
                | PeerError::Lost { .. }
                | PeerError::Broken { .. }
                | PeerError::Store(_) => Refusal::new("node", told),
            }
        })
    }
}

fn told(outcome: Outcome) -> RemoteEnd {
    RemoteEnd {
        how: outcome.how,
        reason: outcome.reason,
        result: outcome.result,
        summary: outcome.summary,
        spent: outcome.spent,
        seen: outcome.seen,
        failure: outcome.failure.map(|failure| failure.to_string()),
    }
}

/// Passes an episode on that a client of this node has on a peer.
struct Passing {
    hosted: Arc<Hosted>,
    intake: Intake,
}

impl Home for Passing {
    fn named(&self, _: LoomId, _: EntityId) -> Result<(), HomeError> {
        // This node has named them.
        Ok(())
    }

    fn connected(&self) {
        self.intake.connected();
    }

    fn heads(&self) -> Vec<CastHead> {
        self.intake.heads()
    }

    fn receive(&self, sealed: Sealed) -> Result<(), HomeError> {
        self.intake.take(sealed)
    }

    fn cover(&self, heads: Vec<CastHead>) -> Result<(), HomeError> {
        self.intake.cover(heads)
    }

    fn is_uncovered(&self) -> bool {
        self.intake.is_uncovered()
    }

    fn finish(&self) -> Result<(), HomeError> {
        self.intake.finish()
    }

    fn sync(&self) -> BoxFuture<'_, Result<(), HomeError>> {
        Box::pin(async move {
            match self.hosted.loom.sync().await {
                Ok(()) => Ok(()),
                Err(Fault::Store(error)) => Err(HomeError::Store(error)),
                Err(other) => Err(HomeError::Refused(other.to_string())),
            }
        })
    }

    fn is_watched(&self) -> bool {
        self.hosted.line.is_watched()
    }

    fn event(&self, event: Event) {
        crate::ports::Observer::event(&*self.hosted.line, &event);
    }

    fn gate<'a>(&'a self, gate: &'a str, arguments: Value) -> BoxFuture<'a, Result<Value, GateError>> {
        Box::pin(self.hosted.line.gate(gate, arguments))
    }

    fn ask<'a>(
        &'a self,
        question: &'a Question,
        pieces: &'a dyn Pieces,
    ) -> BoxFuture<'a, Result<RawAnswer, ModelError>> {
        Box::pin(self.hosted.line.model(Arc::new(question.clone()), pieces))
    }

    fn guest<'a>(&'a self, digest: &'a str) -> BoxFuture<'a, Option<Vec<u8>>> {
        Box::pin(async move { self.hosted.line.guest(digest, GUEST_BYTES_MAX).await.ok() })
    }

    fn signal(&self) -> BoxFuture<'_, Signal> {
        Box::pin(self.hosted.control.signal())
    }
}
