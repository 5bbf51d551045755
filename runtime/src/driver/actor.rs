//! One entity at work: takes the effects of its state machine one after the other, and hands it what came of each.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cantrip_gates::{CallContext, Exposure, GateError, OUTPUT_BYTES_MAX_DEFAULT};
use serde_json::Value;

use crate::domain::circle::MediumKind;
use crate::domain::end::EndReason;
use crate::domain::entity::{Effect, Entity, Input, Nature, Now, Past, StopCause};
use crate::domain::event::{Event, EventKind};
use crate::domain::ids::{CastId, EntityId, EntryId};
use crate::domain::loom::{
    Blob, Body, CutOff, Ended, Fork, GateRecord, How, IdentityRecord, Minted, Observed, Opened, Origin, Payloads,
    Replay, Restored, Standing,
};
use crate::domain::medium::{Evaluation, EvaluationOutcome, MediumOpening, SnapshotPolicy};
use crate::domain::outcome::Outcome;
use crate::domain::short;
use crate::ports::{Llm, Medium, Observer, Yielded};

use super::cantrip::{Cantrip, opening};
use super::control::Control;
use super::fault::{Fault, chain};
use super::host::Host;
use super::hosting::ChildSlots;
use super::recorder::Loom;
use super::replay;
use super::snapshot::{self, Taken};

pub(super) struct Actor {
    pub(super) host: Arc<Host>,
    pub(super) cantrip: Cantrip,
    pub(super) llm: Arc<dyn Llm>,
    pub(super) loom: Loom,
    pub(super) control: Control,
    pub(super) observer: Option<Arc<dyn Observer>>,
    pub(super) entity: Entity,
    /// The entity's last entry: what the next one follows.
    pub(super) head: Option<EntryId>,
    /// The entry of the gate call that runs: what its result follows.
    called: Option<EntryId>,
    /// In a lock only so that the actor can be shared with its children's runs: it is never contended.
    medium: Mutex<Option<Box<dyn Medium>>>,
    /// What makes a fresh instance what the entity left; taken when the first one is made.
    replays: Vec<Replay>,
    /// Whether an instance was lost, so that what it was has to be read from the record.
    lost: bool,
    /// The turn that a crash cut off, until it is taken up again.
    cut_off: Option<CutOff>,
    /// Whether what is recorded of that turn is counted already, with what is recorded of its parent's.
    pub(super) is_prepaid: bool,
    /// The seed and clock of the code that runs.
    running: (u64, u64),
    /// When the episode has to end.
    pub(super) deadline_us: Option<u64>,
    /// W3C trace context, for whatever it casts.
    pub(super) trace: Option<String>,
    pub(super) children: Option<ChildSlots>,
    /// Through which nodes it was called.
    pub(super) origins: Vec<Origin>,
    now_us: u64,
    /// For how long processes had the episode before this one, and since when this one has it, in microseconds.
    before_us: u64,
    since_us: u64,
    snapshots: SnapshotPolicy,
    /// The newest record of the medium's memory in this thread.
    snapshot: Option<Taken>,
}

impl std::fmt::Debug for Actor {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Actor")
            .field("entity", &self.entity.nature().id)
            .field("loom", &self.loom.id())
            .finish_non_exhaustive()
    }
}

/// Everything an actor is made with.
pub(super) struct ActorParts {
    pub(super) host: Arc<Host>,
    pub(super) cantrip: Cantrip,
    pub(super) llm: Arc<dyn Llm>,
    pub(super) loom: Loom,
    pub(super) control: Control,
    pub(super) observer: Option<Arc<dyn Observer>>,
    pub(super) nature: Nature,
    pub(super) seen: Exposure,
    /// What the first entry follows.
    pub(super) follows: Option<EntryId>,
    pub(super) deadline_us: Option<u64>,
    pub(super) trace: Option<String>,
    pub(super) snapshots: SnapshotPolicy,
    /// Where it was cast by a peer: how many children that peer's entities may have at once.
    pub(super) children: Option<ChildSlots>,
    /// Through which nodes it was called, from the root on.
    pub(super) origins: Vec<Origin>,
}

/// What an `opened` entry says beside what the entity is.
#[derive(Debug, Default)]
pub(super) struct Opening {
    pub(super) cast: Option<CastId>,
    pub(super) trace: Option<String>,
    pub(super) spawned_by: Option<EntityId>,
    pub(super) fork: Option<Fork>,
    pub(super) caller: Option<String>,
    /// What the entity's id commits to.
    pub(super) minted: Option<Minted>,
    /// What is true of it at the start and nothing else says.
    pub(super) standing: Option<Box<Standing>>,
}

impl Actor {
    pub(super) fn new(parts: ActorParts) -> Self {
        Self {
            host: parts.host,
            cantrip: parts.cantrip,
            llm: parts.llm,
            loom: parts.loom,
            control: parts.control,
            observer: parts.observer,
            entity: Entity::new(parts.nature, parts.seen),
            head: parts.follows,
            called: None,
            medium: Mutex::new(None),
            replays: Vec::new(),
            lost: false,
            cut_off: None,
            is_prepaid: false,
            running: (0, 0),
            deadline_us: parts.deadline_us,
            trace: parts.trace,
            children: parts.children,
            origins: parts.origins,
            now_us: 0,
            before_us: 0,
            since_us: 0,
            snapshots: parts.snapshots,
            snapshot: None,
        }
    }

    /// An actor that continues a thread. Nothing of it runs now: the medium is made when code first needs it.
    pub(super) fn continuing(parts: ActorParts, restored: Restored, same_entity: bool) -> Result<Self, Fault> {
        let mut parts = parts;
        parts.follows = restored.head;
        let past = Past {
            history: restored.history,
            turns: restored.turns,
            episode_turns: restored.episode_turns,
            spent: restored.spent,
            reserves: restored.reserves,
            seen: restored.seen,
            intent: restored.intent,
            heard: restored.heard,
            same_entity,
        };
        let mut actor = Self::new(parts);
        actor.entity.continue_from(past);
        actor.go_on_from(restored.replays, restored.snapshot)?;
        actor.cut_off = restored.cut_off;
        if same_entity {
            actor.before_us = restored.spent_us;
        }
        Ok(actor)
    }

    /// Takes what makes a fresh instance what the entity left: the newest image that fits its medium, and the code behind it.
    fn go_on_from(&mut self, mut replays: Vec<Replay>, snapshot: Option<(EntryId, usize)>) -> Result<(), Fault> {
        self.snapshot = None;
        if let Some((entry, done)) = snapshot
            && let Some(taken) = self.host.images.load(self.loom.store(), entry, self.entity.turns())?
            && self.host.media.fits(&self.opening(), &taken.image)
        {
            replays.drain(..done.min(replays.len()));
            self.snapshot = Some(taken);
        }
        self.replays = replays;
        Ok(())
    }

    /// Whether it begins with an image of its medium.
    pub(super) const fn has_image(&self) -> bool {
        self.snapshot.is_some()
    }

    fn opening(&self) -> MediumOpening {
        let nature = self.entity.nature();
        opening(&nature.circle, nature.ledger.left(crate::domain::budget::Quantity::Fuel).is_some())
    }

    /// Records the medium's memory, where that is due.
    fn take_snapshot(&mut self, is_over: bool) -> Result<bool, Fault> {
        let turns = self.entity.turns();
        let since = turns.saturating_sub(self.snapshot.as_ref().map_or(0, |taken| taken.turns));
        if !self.snapshots.is_due(since, is_over) {
            return Ok(false);
        }
        let before = self.snapshot.clone();
        let image = self.medium().as_mut().and_then(|medium| medium.image(before.as_ref().map(|taken| &*taken.image)));
        let Some((image, entry)) = image.and_then(|image| {
            let entry = snapshot::entry(&image, before.as_ref())?;
            Some((image, entry))
        }) else {
            return Ok(false);
        };
        let (body, blobs, chain) = entry;
        let entry = self.record(body, blobs)?;
        let taken = snapshot::taken(entry, image, turns, chain);
        self.host.images.keep(&taken);
        self.snapshot = Some(taken);
        Ok(true)
    }

    /// Has its memory recorded at least when it rests.
    pub(super) fn record_at_rest(&mut self) {
        if self.snapshots == SnapshotPolicy::Never {
            self.snapshots = SnapshotPolicy::Idle;
        }
    }

    /// Gives the medium's instance back: the next code finds it again as it was, from its image and the code behind it.
    pub(super) fn rest(&mut self) -> Result<(), Fault> {
        if self.medium().is_some() {
            self.take_snapshot(true)?;
        }
        if self.medium().take().is_some() {
            self.lost = true;
        }
        Ok(())
    }

    /// Takes a turn up again that a crash cut off, or says what is known of it where something else is to be done.
    fn take_up(&mut self, cut_off: CutOff, input: Input) -> Result<Input, Fault> {
        if matches!(input, Input::Continue) {
            if !self.is_prepaid {
                self.entity.nature().ledger.prepay(&cut_off.spent);
            }
            let store = self.loom.store();
            let own = store.formerly()?.into_iter().chain([store.writer()]).collect();
            return Ok(Input::Rejoin { cut_off: Box::new(cut_off), own });
        }
        // What it came to is on record, and its end is what the next intent follows.
        if cut_off.is_observed {
            self.entity.give_up(&cut_off, self.spent_us());
            return Ok(input);
        }
        let mut payloads = Payloads::default();
        let answers = cut_off.answers.iter().map(|shown| shown.recorded(&mut payloads)).collect();
        let standing = Some(Box::new(self.entity.give_up(&cut_off, self.spent_us())));
        let body = Body::Observation(Box::new(Observed { answers, standing, ..Observed::default() }));
        self.record(body, payloads.into_blobs())?;
        Ok(input)
    }

    /// Returns once this node may write into its loom.
    pub(super) async fn ready(&self) -> Result<(), Fault> {
        self.loom.ready().await
    }

    /// Records the entity's root context (IDENTITY-4).
    /// `pieces` are those of the thread of another loom that it continues.
    pub(super) fn open(&mut self, intent: &str, opening: Opening, pieces: Vec<Blob>) -> Result<(), Fault> {
        self.now_us = self.host.clock.now_us();
        let nature = self.entity.nature();
        let circle = &nature.circle;
        let medium = circle.medium().name().to_owned();
        let mut payloads = Payloads::default();
        let gates = circle.gates().map(|spec| GateRecord {
            name: spec.name.to_string(),
            reach: spec.reach,
            exposure: spec.exposure,
            ephemeral: spec.ephemeral,
        });
        let opened = Opened {
            identity: IdentityRecord::new(&nature.identity, &mut payloads),
            medium_digest: self.medium_digest(&medium),
            medium,
            gates: gates.collect(),
            wards: circle.declared().clone(),
            folding: nature.folding.clone(),
            model: self.llm.name().to_owned(),
            guest: nature.guest.as_ref().map(|guest| guest.reference.clone()).or_else(|| self.cantrip.guest_medium()),
            intent: payloads.text(intent),
            node: self.host.node.clone(),
            depth: nature.depth,
            cast: opening.cast.unwrap_or_else(|| self.host.cast_id()),
            trace: opening.trace,
            spawned_by: opening.spawned_by,
            fork: opening.fork,
            caller: opening.caller,
            minted: opening.minted,
            delegated: opening.spawned_by.and(self.head),
            origins: self.origins.clone(),
            standing: opening.standing,
            pins: Vec::new(),
            by: None,
            note: None,
            mode: None,
            file: None,
        };
        opened.fits()?;
        let blobs = pieces.into_iter().chain(payloads.into_blobs()).collect();
        self.record(Body::Opened(Box::new(opened)), blobs)?;
        Ok(())
    }

    /// Runs an episode to its end.
    pub(super) async fn episode(&mut self, input: Input) -> Result<Outcome, Fault> {
        self.now_us = self.host.clock.now_us();
        self.since_us = self.host.clock.elapsed_us();
        if !matches!(input, Input::Continue) {
            self.before_us = 0;
        }
        // Time during which no process has the entity does not count.
        let own = self.entity.nature().circle.declared().timeout_ms.map(|ms| {
            let left_us = ms.saturating_mul(1_000).saturating_sub(self.before_us);
            self.since_us.saturating_add(left_us)
        });
        let inherited = self.deadline_us;
        self.deadline_us = [own, inherited].into_iter().flatten().min();
        let outcome = self.drive(input).await;
        if let Err(fault @ (Fault::Entry(_) | Fault::OutOfStep(_) | Fault::NoResult(_))) = &outcome {
            self.end_unrecorded(fault).await;
        }
        self.deadline_us = inherited;
        self.control.episode_over();
        outcome
    }

    /// Ends an episode in the record that a defect of ours ended: what stays open, a node takes up again at each start.
    async fn end_unrecorded(&mut self, fault: &Fault) {
        let mut payloads = Payloads::default();
        let ended = Ended {
            how: How::Truncated,
            reason: EndReason::RecordFailed,
            result: None,
            summary: Some(payloads.text(&short::why(chain(fault)))),
            spent: self.entity.spent(),
        };
        let written = self.record(Body::Ended(Box::new(ended)), payloads.into_blobs());
        if let Err(error) = async { written.map(drop).and(self.loom.sync().await) }.await {
            tracing::warn!(entity = %self.entity.nature().id, error = chain(&error), "the end of an episode was not recorded");
        }
    }

    async fn drive(&mut self, mut input: Input) -> Result<Outcome, Fault> {
        if let Some(cut_off) = self.cut_off.take() {
            input = self.take_up(cut_off, input)?;
        }
        loop {
            self.now_us = self.host.clock.now_us();
            for text in self.control.take_steers() {
                self.entity.steer(text);
            }
            let now = Now { us: self.now_us, stop: self.stop_cause(), spent_us: self.spent_us() };
            let mut next = None;
            for effect in self.entity.step(input, &now)? {
                if effect.reaches_out() {
                    self.loom.goes_on(self.entity.nature().id)?;
                }
                match effect {
                    Effect::Record { body, blobs } => {
                        self.record(body, blobs)?;
                        self.loom.relieve().await?;
                    }
                    Effect::Sync => self.loom.sync_of(self.entity.nature().id).await?,
                    Effect::Tell(kind) => self.tell(kind),
                    Effect::Ask(question) => {
                        self.take_snapshot(false)?;
                        next = Some(self.ask(question).await);
                    }
                    Effect::Query(question) => next = Some(self.ask(question).await),
                    Effect::Call { gate, arguments } => {
                        let result = self.call(&gate, arguments).await;
                        next = Some(Input::returned(result));
                    }
                    Effect::ReadLoom { arguments } => {
                        let result = self.read_loom(arguments).await;
                        next = Some(Input::returned(result));
                    }
                    Effect::Cast { call, children, batch, known, has_returned } => {
                        next = Some(self.cast_children(call, children, batch, (known, has_returned)).await?);
                    }
                    Effect::Evaluate { source, seed, clock_us, recorded } => {
                        next = Some(self.evaluate(source, (seed, clock_us), recorded).await?);
                    }
                    Effect::Lose => self.lose(),
                    Effect::Resume { answer, clock_us } => {
                        let medium = self.medium().as_mut().ok_or(Fault::NoResult("resume without a medium"))?;
                        let yielded = medium.resume(answer, clock_us).await;
                        next = Some(self.yielded(yielded));
                    }
                    Effect::Finish(outcome) => {
                        if self.take_snapshot(true)? {
                            self.loom.sync().await?;
                        }
                        return Ok(*outcome);
                    }
                }
            }
            input = next.ok_or(Fault::NoResult("a step neither waits nor finishes"))?;
        }
    }

    pub(super) fn record(&mut self, body: Body, blobs: Vec<Blob>) -> Result<EntryId, Fault> {
        // A result follows its call, whatever children came between the two.
        let called = if matches!(body, Body::GateReturned { .. }) { self.called.take() } else { None };
        let parent = called.or(self.head);
        let calls = matches!(body, Body::GateCalled { .. });
        let id = self.loom.append_at(self.now_us, (self.entity.nature().id, parent), body, blobs)?;
        if calls {
            self.called = Some(id);
        }
        self.head = Some(id);
        Ok(id)
    }

    /// Tells the observer, cut to what is shown and with secrets taken out (PROD-8).
    pub(super) fn tell(&self, kind: EventKind) {
        let Some(observer) = self.observer.as_ref().filter(|observer| observer.listens()) else { return };
        let nature = self.entity.nature();
        observer.event(&Event { entity: nature.id, depth: nature.depth, kind: kind.redacted() });
    }

    /// For how long processes have had the episode, in microseconds.
    fn spent_us(&self) -> u64 {
        self.before_us.saturating_add(self.host.clock.elapsed_us().saturating_sub(self.since_us))
    }

    /// Drops the instance of the medium: what it was is read from the record.
    fn lose(&mut self) {
        *self.medium() = None;
        self.lost = true;
    }

    fn medium(&mut self) -> &mut Option<Box<dyn Medium>> {
        self.medium.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop_cause(&self) -> Option<StopCause> {
        let late = self.deadline_us.is_some_and(|deadline| self.host.clock.elapsed_us() >= deadline);
        self.control.cause().or(late.then_some(StopCause::Timeout))
    }

    pub(super) fn time_left(&self) -> Option<Duration> {
        self.deadline_us.map(|deadline| Duration::from_micros(deadline.saturating_sub(self.host.clock.elapsed_us())))
    }

    /// Returns when the episode has to stop at once: from outside, or because its time is over.
    pub(super) async fn stopped(&self) {
        match self.time_left() {
            None => self.control.stopped().await,
            Some(left) => tokio::select! {
                () = self.control.stopped() => {}
                () = self.host.clock.sleep(left) => {}
            },
        }
    }

    fn medium_digest(&self, medium: &str) -> Option<String> {
        let guest = self.cantrip.guest().map(|guest| guest.manifest()).filter(|manifest| manifest.name == medium);
        guest.map(|manifest| manifest.digest.clone()).or_else(|| self.host.media.digest(medium))
    }

    async fn call(&self, name: &str, arguments: Value) -> Result<Value, GateError> {
        let Some(gate) = self.cantrip.equipped().get(name) else {
            return Err(GateError::Failed(format!("{name}: declared, but nothing is behind it")));
        };
        let nature = self.entity.nature();
        let wards = nature.circle.wards();
        let context = CallContext {
            deadline: self.time_left().and_then(|left| Instant::now().checked_add(left)),
            allow_hosts: wards.declared.allow_hosts.clone(),
            // In code a result is a value to work on, and what of it is shown is bounded elsewhere; in a conversation all of
            // it goes to the model.
            output_bytes_max: match nature.circle.medium() {
                MediumKind::Code(_) | MediumKind::Guest(_) => OUTPUT_BYTES_MAX_DEFAULT,
                MediumKind::Conversation => wards.max_output_bytes,
            },
        };
        tokio::select! {
            biased;
            result = gate.call(arguments, &context) => result,
            () = self.stopped() => Err(GateError::TimedOut(format!("{name}: given up, because the episode was stopped"))),
        }
    }

    async fn evaluate(&mut self, source: String, running: (u64, u64), recorded: u64) -> Result<Input, Fault> {
        self.running = running;
        self.ready_medium().await?;
        let evaluation = self.evaluation(source, recorded);
        let medium = self.medium().as_mut().ok_or(Fault::NoResult("evaluate without a medium"))?;
        let yielded = medium.evaluate(evaluation).await;
        Ok(self.yielded(yielded))
    }

    fn evaluation(&self, source: String, recorded: u64) -> Evaluation {
        let nature = self.entity.nature();
        let wards = nature.circle.wards();
        let time_max = Duration::from_millis(wards.max_eval_ms);
        Evaluation {
            source,
            seed: self.running.0,
            clock_us: self.running.1,
            time_max: self.time_left().map_or(time_max, |left| left.min(time_max)),
            output_bytes_max: wards.max_output_bytes,
            fuel_max: nature.ledger.left(crate::domain::budget::Quantity::Fuel),
            stop_at_poll: None,
            recorded,
            stop: self.control.flag(),
        }
    }

    fn yielded(&mut self, yielded: Yielded) -> Input {
        match yielded {
            Yielded::Gate { gate, arguments } => Input::GateAsked { gate, arguments },
            Yielded::Finished(evaluated) => {
                if matches!(evaluated.outcome, EvaluationOutcome::Lost { .. }) {
                    self.lose();
                }
                let (seed, clock_us) = self.running;
                Input::Evaluated { evaluated: *evaluated, seed, clock_us }
            }
        }
    }

    /// Makes an instance where there is none, and makes it what the entity left: a trap costs the instance, not the
    /// entity.
    async fn ready_medium(&mut self) -> Result<(), Fault> {
        if self.medium().is_some() {
            return Ok(());
        }
        if self.lost {
            self.loom.sync().await?;
            let restored = self.loom.tree()?.restore(self.entity.nature().id, None)?;
            self.go_on_from(restored.replays, restored.snapshot)?;
        }
        let opening = self.opening();
        let image = self.snapshot.as_ref().map(|taken| Arc::clone(&taken.image));
        let mut medium = match self.cantrip.guest() {
            Some(guest) if *guest.manifest().name == *opening.medium => guest.open(&opening).await?,
            _ => match &image {
                Some(image) => self.host.media.open_image(&opening, image).await?,
                None => self.host.media.open(&opening).await?,
            },
        };
        for step in std::mem::take(&mut self.replays) {
            replay::run(&mut *medium, step, opening.metered.then_some(u64::MAX), self.control.flag()).await;
        }
        self.lost = false;
        *self.medium() = Some(medium);
        Ok(())
    }
}
