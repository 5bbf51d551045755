//! The near side of episodes that run on other nodes: what they are sent with, what comes back, and what stays here.
//!
//! A host is not trusted. What it sends is checked before it is recorded; a gate or a model that is placed here is called within
//! this side's wards; what the episode may spend was set aside before it began. Owns no connection: that is the port's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cantrip_gates::{ArgumentCheck, CallContext, Gate, GateError, OUTPUT_BYTES_MAX_DEFAULT, Reach, Wards};
use serde_json::Value;

use crate::domain::budget::{Ledger, Quantity};
use crate::domain::circle::RuntimeGate;
use crate::domain::end::EndReason;
use crate::domain::event::Event;
use crate::domain::ids::{CastId, EntityId, LoomId};
use crate::domain::loom::{CastHead, Minted, Reserve, Sealed};
use crate::domain::model::{ModelError, Question, RawAnswer};
use crate::domain::outcome::{Failure, Outcome};
use crate::domain::remote::{ByHost, CantripOrder, ModelOrder, Order};
use crate::domain::short;
use crate::ports::{BoxFuture, Home, HomeError, Llm, Observer, PeerError, Peers, Pieces, RemoteEnd, Signal};

use super::admitting::{Child, HostAdmission};
use super::control::Control;
use super::fault::Fault;
use super::intake::Intake;
use super::near_place::{Place, home_error};
use super::recorder::Loom;
use super::runtime::{CastError, CastOptions, Runtime};

/// The quantities that a tree of entities spends together.
const SHARED: [Quantity; 4] = [Quantity::Tokens, Quantity::GateCalls, Quantity::Children, Quantity::Fuel];

/// What is set aside of a budget for an episode elsewhere.
#[derive(Debug)]
pub(super) struct Share {
    ledger: Arc<Ledger>,
    reserved: [Option<u64>; SHARED.len()],
}

impl Share {
    /// Sets aside what is left, at most what the wards let through, divided among so many. The wards become what was set aside.
    pub(super) fn reserve(ledger: &Arc<Ledger>, wards: &mut Wards, shares: u64) -> Self {
        let mut reserved = [None; SHARED.len()];
        for (quantity, kept) in SHARED.into_iter().zip(&mut reserved) {
            let ward = match quantity {
                Quantity::Tokens => &mut wards.max_tokens,
                Quantity::GateCalls => &mut wards.max_gate_calls,
                Quantity::Children => &mut wards.max_children,
                Quantity::Fuel => &mut wards.max_fuel,
            };
            *kept = ledger.reserve(quantity, *ward, shares);
            *ward = kept.or(*ward);
        }
        Self { ledger: Arc::clone(ledger), reserved }
    }

    /// What stays set aside for a child of whose end nobody knows.
    pub(super) fn reserve_of(&self, child: EntityId) -> Reserve {
        let [tokens, gate_calls, children, _] = self.reserved;
        Reserve { child, tokens: tokens.unwrap_or(0), gate_calls, children }
    }

    /// Gives back what was not spent. Nothing is given back of what nobody accounts for.
    pub(super) fn settle(&self, spent: Option<&RemoteEnd>) {
        let Some(end) = spent else { return };
        let tokens = end.spent.usage.total().saturating_add(end.spent.children_usage.total());
        let used = [tokens, end.spent.gate_calls, end.spent.children, end.spent.fuel];
        for ((quantity, reserved), used) in SHARED.into_iter().zip(self.reserved).zip(used) {
            match reserved {
                Some(reserved) => self.ledger.refund(quantity, reserved.saturating_sub(used)),
                None => self.ledger.charge(quantity, used),
            }
        }
    }
}

/// What an episode elsewhere can use of this node.
pub(super) struct NearSide {
    pub(super) place: Place,
    /// Whose child it is, where it is one.
    pub(super) parent: Option<EntityId>,
    pub(super) depth: u32,
    pub(super) observer: Option<Arc<dyn Observer>>,
    pub(super) control: Control,
    pub(super) gates: BTreeMap<String, (ArgumentCheck, Arc<dyn Gate>)>,
    pub(super) llm: Option<Arc<dyn Llm>>,
    pub(super) guest: Option<(String, Vec<u8>)>,
    pub(super) wards: Wards,
    pub(super) deadline: Option<Instant>,
    pub(super) gate_calls: AtomicU64,
    pub(super) tokens: AtomicU64,
}

impl NearSide {
    async fn call(&self, name: &str, arguments: Value) -> Result<Value, GateError> {
        let Some((check, gate)) = self.gates.get(name) else {
            return Err(GateError::Denied(format!("{name}: not placed at the caller")));
        };
        check.check(&arguments)?;
        if let Some(max) = self.wards.max_gate_calls
            && self.gate_calls.fetch_add(1, Ordering::Relaxed) >= max
        {
            return Err(GateError::Exhausted(format!("{name}: the ward max_gate_calls = {max} is used up")));
        }
        if gate.spec().reach != Reach::Read {
            // That it may have run has to be known here too.
            let synced = self.sync().await;
            synced.map_err(|_| GateError::Failed(format!("{name}: the caller cannot record that it runs")))?;
        }
        let context = CallContext {
            deadline: self.deadline,
            allow_hosts: self.wards.allow_hosts.clone(),
            output_bytes_max: OUTPUT_BYTES_MAX_DEFAULT,
        };
        tokio::select! {
            biased;
            () = self.control.stopped() => Err(GateError::TimedOut(format!("{name}: given up, because the cast was stopped"))),
            result = gate.call(arguments, &context) => result,
        }
    }
}

impl Home for NearSide {
    fn named(&self, loom: LoomId, entity: EntityId) -> Result<(), HomeError> {
        self.place.named(loom, entity)
    }

    fn connected(&self) {
        if let Ok(place) = self.place.get() {
            place.intake.connected();
        }
    }

    fn heads(&self) -> Vec<CastHead> {
        self.place.get().map(|place| place.intake.heads()).unwrap_or_default()
    }

    fn receive(&self, sealed: Sealed) -> Result<(), HomeError> {
        self.place.get()?.intake.take(sealed)
    }

    fn cover(&self, heads: Vec<CastHead>) -> Result<(), HomeError> {
        self.place.get()?.intake.cover(heads)
    }

    fn is_uncovered(&self) -> bool {
        self.place.get().is_ok_and(|place| place.intake.is_uncovered())
    }

    fn finish(&self) -> Result<(), HomeError> {
        // What has no place yet has recorded nothing.
        self.place.get().map_or(Ok(()), |place| place.intake.finish())
    }

    fn sync(&self) -> BoxFuture<'_, Result<(), HomeError>> {
        Box::pin(async move {
            // What has no place yet has recorded nothing.
            let Ok(place) = self.place.get() else { return Ok(()) };
            match self.parent {
                Some(parent) => place.loom.sync_of(parent).await,
                None => place.loom.sync().await,
            }
            .map_err(home_error)
        })
    }

    fn is_watched(&self) -> bool {
        self.observer.is_some()
    }

    fn event(&self, event: Event) {
        let Some(observer) = &self.observer else { return };
        // Events run ahead of the entries that make an entity known. One of whoever is above the cast is none of its host's.
        if event.depth >= self.depth {
            observer.event(&event);
        }
    }

    fn gate<'a>(&'a self, gate: &'a str, arguments: Value) -> BoxFuture<'a, Result<Value, GateError>> {
        Box::pin(self.call(gate, arguments))
    }

    fn ask<'a>(
        &'a self,
        question: &'a Question,
        pieces: &'a dyn Pieces,
    ) -> BoxFuture<'a, Result<RawAnswer, ModelError>> {
        Box::pin(async move {
            let setup = |message: String| ModelError::Setup { message };
            let Some(llm) = &self.llm else { return Err(setup("it is not placed at the caller".to_owned())) };
            if let Some(max) = self.wards.max_tokens
                && self.tokens.load(Ordering::Relaxed) >= max
            {
                return Err(setup(format!("the ward max_tokens = {max} is used up")));
            }
            let answer = llm.ask(question, pieces).await?;
            self.tokens.fetch_add(answer.usage.total(), Ordering::Relaxed);
            Ok(answer)
        })
    }

    fn guest<'a>(&'a self, digest: &'a str) -> BoxFuture<'a, Option<Vec<u8>>> {
        let found = self.guest.as_ref().filter(|(own, _)| own == digest).map(|(_, bytes)| bytes.clone());
        Box::pin(std::future::ready(found))
    }

    fn signal(&self) -> BoxFuture<'_, Signal> {
        Box::pin(self.control.signal())
    }
}

impl RemoteEnd {
    pub(super) fn outcome(self, entity: EntityId) -> Outcome {
        Outcome {
            entity,
            how: self.how,
            reason: self.reason.short(),
            result: self.result,
            summary: self.summary.map(short::why),
            spent: self.spent,
            seen: self.seen,
            failure: self.failure.map(|failure| Failure::Remote(short::why(failure))),
        }
    }
}

pub(super) fn at_caller(llm: &dyn Llm) -> ModelOrder {
    ModelOrder::AtCaller {
        name: llm.name().to_owned(),
        context_tokens: llm.context_tokens(),
        can_require_calls: llm.can_require_calls(),
    }
}

pub(super) fn checked(gates: impl Iterator<Item = Arc<dyn Gate>>) -> BTreeMap<String, (ArgumentCheck, Arc<dyn Gate>)> {
    let with_check = |gate: Arc<dyn Gate>| {
        let check = ArgumentCheck::new(gate.spec()).ok()?;
        if RuntimeGate::named(gate.spec().name.as_str()).is_some() {
            return None;
        }
        Some((gate.spec().name.to_string(), (check, gate)))
    };
    gates.filter_map(with_check).collect()
}

pub(super) fn nothing() -> RemoteEnd {
    RemoteEnd {
        how: crate::domain::loom::How::Truncated,
        reason: EndReason::Cancelled,
        result: None,
        summary: None,
        spent: crate::domain::loom::Spent::default(),
        seen: cantrip_gates::Exposure::default(),
        failure: None,
    }
}

/// A cantrip for another node: what travels, and what stays here.
#[derive(Debug, Clone)]
pub struct RemoteCantrip {
    /// What travels.
    pub order: CantripOrder,
    /// The gates that are placed here.
    pub gates: Vec<Arc<dyn Gate>>,
    /// The model, where it is placed here.
    pub llm: Option<Arc<dyn Llm>>,
    /// The digest and the bytes of its guest, for a host that lacks it.
    pub guest: Option<(String, Vec<u8>)>,
}

/// An entity that lives on another node. It has only what works there: nothing of it can run here.
pub struct RemoteEntity {
    runtime: Runtime,
    peers: Arc<dyn Peers>,
    node: String,
    cantrip: RemoteCantrip,
    loom: Loom,
    entity: EntityId,
    minted: Minted,
    /// Which of the ids are still to be had from the host: for a process without a record of its own.
    by_host: ByHost,
    control: Control,
    observer: Option<Arc<dyn Observer>>,
    trace: Option<String>,
    /// The name of the next episode; minted where nobody gave one.
    cast: Option<CastId>,
    fork: Option<(EntityId, u64)>,
    /// The admission of its node, once there is one.
    admission: Option<HostAdmission>,
    keep: bool,
    is_open: bool,
    /// What was sent and has no end that is known here: sending it again joins it.
    pending: Option<(CastId, String)>,
}

impl std::fmt::Debug for RemoteEntity {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("RemoteEntity").field("node", &self.node).field("entity", &self.entity).finish_non_exhaustive()
    }
}

/// Why an episode elsewhere gave no outcome of the entity's own.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The node, or the way to it.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// As for an entity here.
    #[error(transparent)]
    Cast(#[from] CastError),
}

impl Runtime {
    /// Makes an entity on another node that lives across sends. It begins with its first intent; nothing is connected before.
    ///
    /// # Errors
    /// A node that is not known, or a store that does not open the loom.
    pub fn summon_at(
        &self,
        node: &str,
        cantrip: RemoteCantrip,
        options: CastOptions,
    ) -> Result<RemoteEntity, RemoteError> {
        let peers = self.host.peers.clone().ok_or_else(|| unknown(node, &[]))?;
        for gate in &cantrip.order.gates {
            gate.check().map_err(|refusal| PeerError::Refused { node: node.to_owned(), refusal })?;
        }
        let (loom, by_host) = match (options.loom, self.host.is_client) {
            (None, false) => (self.host.new_loom(), ByHost::Nothing),
            (None, true) => (self.host.new_loom(), ByHost::LoomAndEntity),
            (Some(loom), false) => (self.host.join(loom), ByHost::Nothing),
            (Some(loom), true) => (self.host.open(loom), ByHost::Entity),
        };
        let loom = loom.map_err(CastError::from)?;
        let (entity, minted) = self.host.entity_id();
        Ok(RemoteEntity {
            runtime: self.clone(),
            peers,
            node: node.to_owned(),
            cantrip,
            loom,
            entity,
            minted,
            by_host,
            control: options.control.unwrap_or_default(),
            observer: options.observer,
            trace: options.trace,
            cast: options.cast,
            fork: None,
            admission: None,
            keep: true,
            is_open: false,
            pending: None,
        })
    }

    /// Runs one intent on another node to its end.
    ///
    /// # Errors
    /// No intent, a node that cannot be had or refuses, a model that could not go on, or a fault of ours.
    pub async fn cast_at(
        &self,
        node: &str,
        cantrip: RemoteCantrip,
        intent: &str,
        options: CastOptions,
    ) -> Result<Outcome, RemoteError> {
        let mut entity = self.summon_at(node, cantrip, options)?;
        entity.keep = false;
        entity.send(intent).await
    }
}

pub(super) fn unknown(node: &str, known: &[String]) -> PeerError {
    let known = if known.is_empty() { "no other".to_owned() } else { known.join(", ") };
    PeerError::Unknown { node: node.to_owned(), known, hint: String::new() }
}

impl RemoteEntity {
    /// The node that it lives on.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Whether its name and its loom are known: a process without a record is told them when its first intent is taken.
    pub fn is_named(&self) -> bool {
        self.by_host == ByHost::Nothing
    }

    /// Its name.
    pub const fn entity(&self) -> EntityId {
        self.entity
    }

    /// The loom that it is recorded in: here as there.
    pub fn loom(&self) -> crate::domain::ids::LoomId {
        self.loom.id()
    }

    /// Stops, interrupts and steers it.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Gives it an intent and waits for the end of the episode. After an error of the connection the same intent can be sent
    /// again: if it runs or has ended there, it is joined and does not run twice.
    ///
    /// # Errors
    /// As [`Runtime::cast_at`].
    pub async fn send(&mut self, intent: &str) -> Result<Outcome, RemoteError> {
        if intent.trim().is_empty() {
            return Err(CastError::NoIntent.into());
        }
        let cast = match self.pending.take() {
            Some((cast, pending)) if pending == intent => cast,
            _ => self.cast.take().unwrap_or_else(|| self.runtime.host.cast_id()),
        };
        self.pending = Some((cast, intent.to_owned()));
        let place = self.place().await?;
        let near = NearSide {
            place,
            parent: None,
            depth: 0,
            observer: self.observer.clone(),
            control: self.control.clone(),
            gates: checked(self.cantrip.gates.iter().map(Arc::clone)),
            llm: self.cantrip.llm.clone(),
            guest: self.cantrip.guest.clone(),
            wards: self.cantrip.order.wards.clone(),
            deadline: None,
            gate_calls: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
        };
        let order = Order {
            cast,
            loom: self.loom.id(),
            entity: self.entity,
            minted: Some(self.minted).filter(|_| !self.is_open),
            by_host: self.by_host,
            parent: None,
            spawned_by: None,
            depth: 0,
            cantrip: self.cantrip.order.clone(),
            intent: intent.to_owned(),
            trace: self.trace.clone(),
            deadline: self.cantrip.order.wards.timeout_ms.map(Duration::from_millis),
            lease: None,
            again: self.is_open,
            keep: self.keep,
            fork: self.fork,
            seen: cantrip_gates::Exposure::default(),
            credentials: Arc::default(),
            origins: Vec::new(),
        };
        let ended = if self.by_host == ByHost::Nothing {
            let child =
                Child { entity: self.entity, minted: self.minted, delegated: None, may_be_known: false, given: None };
            let to = (&*self.peers, self.node.as_str());
            let ended = child.cast(&self.loom, to, order, &mut self.admission, &near).await;
            // After an error of the connection the same intent joins what runs, by the same admission.
            if let (Ok(Ok(_)), Ok(place)) = (&ended, near.place.get()) {
                child.settle(&self.loom, &mut self.admission, &place.intake).map_err(CastError::from)?;
            }
            ended.map_err(CastError::from)?
        } else {
            // Whoever names the entity has it opened, and admits its host.
            self.peers.cast(&self.node, &order, &near).await
        };
        self.control.episode_over();
        if let Some((loom, entity)) = near.place.told() {
            (self.loom, self.entity, self.by_host) = (loom, entity, ByHost::Nothing);
        }
        let end = match ended {
            Ok(end) => end,
            Err(PeerError::Store(error)) => return Err(CastError::Fault(Fault::Store(error)).into()),
            Err(error) => return Err(error.into()),
        };
        self.pending = None;
        self.is_open = true;
        let outcome = end.outcome(self.entity);
        match outcome.failure.clone() {
            Some(failure) => Err(CastError::Failed { failure, outcome: Box::new(outcome) }.into()),
            None => Ok(outcome),
        }
    }

    /// Where its entries go. A new loom of a node with a record is founded on its disk before anybody else hears of it.
    async fn place(&self) -> Result<Place, CastError> {
        if self.by_host != ByHost::Nothing {
            return Ok(Place::asked(Arc::clone(&self.runtime.host)));
        }
        self.loom.ready().await?;
        if self.loom.found()? {
            self.loom.sync().await?;
        }
        // What came before is read from what is durable.
        self.loom.sync().await?;
        let intake = Intake::new(self.loom.clone(), (self.entity, None))?;
        Ok(Place::known(self.loom.clone(), intake))
    }

    /// Another entity on the same node that continues this one's thread after a number of turns. The original is untouched.
    #[must_use]
    pub fn fork(&self, turns: u64) -> Self {
        let (entity, minted) = self.runtime.host.entity_id();
        Self {
            runtime: self.runtime.clone(),
            peers: Arc::clone(&self.peers),
            node: self.node.clone(),
            cantrip: self.cantrip.clone(),
            loom: self.loom.clone(),
            entity,
            minted,
            by_host: if self.runtime.host.is_client { ByHost::Entity } else { ByHost::Nothing },
            control: Control::new(),
            observer: self.observer.clone(),
            trace: self.trace.clone(),
            cast: None,
            fork: Some((self.entity, turns)),
            admission: None,
            keep: true,
            is_open: false,
            pending: None,
        }
    }
}
