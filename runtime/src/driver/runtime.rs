//! The doors: cast, summon, fork, resume, and what may be changed afterwards.

use std::sync::Arc;

use cantrip_gates::Exposure;
use thiserror::Error;

use crate::domain::budget::Ledger;
use crate::domain::entity::{Input, Nature};
use crate::domain::ids::{CastId, EntityId, EntryId, LoomId};
use crate::domain::loom::{Body, Fork, ForkStrategy, Minted, Standing, Tree};
use crate::domain::members::{Deed, Reader};
use crate::domain::outcome::{Failure, Outcome};
use crate::domain::remote::Onward;
use crate::ports::{Clock, LoomStore, MediumFactory, Observer, Peers};

use super::actor::{Actor, ActorParts, Opening};
use super::adopting::take_over;
use super::cantrip::Cantrip;
use super::control::Control;
use super::copies::Copies;
use super::fault::Fault;
use super::foreign::TakenThread;
use super::host::Host;
use super::hosting::ChildSlots;
use super::members::permission;
use super::recorder::{Loom, Looms, read_tree};
use super::reexecute::Replayed;
use super::snapshot::Images;

/// Casts and summons. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Runtime {
    pub(super) host: Arc<Host>,
}

/// Where an entity comes from that another node had cast here.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Who had it cast.
    pub caller: String,
    /// Its name, which the caller minted.
    pub entity: EntityId,
    /// What the name commits to.
    pub minted: Option<Minted>,
    /// What it follows there.
    pub parent: Option<EntryId>,
    /// Who spawned it there.
    pub spawned_by: Option<EntityId>,
    /// How deep below the root it is.
    pub depth: u32,
    /// What its caller has met.
    pub seen: Exposure,
    /// On which nodes its children may be cast.
    pub nodes: Onward,
    /// When its episode has to end, in microseconds since 1970 by this node's clock.
    pub deadline_us: Option<u64>,
    /// How many children its caller's entities may have at once.
    pub children: ChildSlots,
    /// Through which nodes it was called, from the root on.
    pub origins: Vec<crate::domain::loom::Origin>,
}

/// What a cast is given beside its cantrip and its intent.
#[derive(Clone, Default)]
pub struct CastOptions {
    /// Is told what happens. Default: nobody.
    pub observer: Option<Arc<dyn Observer>>,
    /// Stops and steers it from outside. Default: nobody does.
    pub control: Option<Control>,
    /// The loom to write into; it has to be there ([`Runtime::found`]). Default: a new one.
    pub loom: Option<LoomId>,
    /// The caller's name for the cast. Default: minted.
    pub cast: Option<CastId>,
    /// The trace that it belongs to, as W3C trace context.
    pub trace: Option<String>,
    /// Where it comes from, where that is another node.
    pub origin: Option<Origin>,
}

impl std::fmt::Debug for CastOptions {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("CastOptions").field("loom", &self.loom).field("cast", &self.cast).finish_non_exhaustive()
    }
}

/// Why a cast gave no outcome of the entity's own.
#[derive(Debug, Error)]
pub enum CastError {
    /// INTENT-1.
    #[error("intent is required")]
    NoIntent,
    /// The model could not go on. What was done until then is recorded.
    #[error("{failure}")]
    Failed {
        /// Why.
        failure: Failure,
        /// How it ended.
        outcome: Box<Outcome>,
    },
    /// Ours.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A change that somebody asks of what is recorded.
#[derive(Debug, Clone, PartialEq)]
pub enum Amendment {
    /// Judge a turn.
    Reward {
        /// The judgement.
        value: f64,
        /// Whose it is.
        by: String,
    },
    /// Give the entity another system prompt.
    Identity {
        /// The prompt.
        system_prompt: String,
    },
    /// Take a turn out.
    Delete,
}

/// Why a change is refused.
#[derive(Debug, Error)]
pub enum AmendError {
    /// LOOM-3.
    #[error("loom is append-only: a turn can be judged and forked, never changed or deleted")]
    AppendOnly,
    /// IDENTITY-1.
    #[error("identity is immutable: make another cantrip, or fork the thread with one")]
    IdentityImmutable,
    /// A judgement that is not a number.
    #[error("a reward must be a finite number, and this is {0}")]
    NotFinite(f64),
    /// No such entry.
    #[error("the loom {loom} has no entry {entry}")]
    NoEntry {
        /// The loom.
        loom: LoomId,
        /// What was to be judged.
        entry: EntryId,
    },
    /// An entry that is no entity's.
    #[error(
        "the entry {entry} is about the loom as a whole: what an entity did can be judged, and this is no entity's"
    )]
    NoThread {
        /// What was to be judged.
        entry: EntryId,
    },
    /// Ours.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Runtime {
    /// A runtime on these parts. `node` is its name in the record.
    pub fn new(
        store: Arc<dyn LoomStore>,
        media: Arc<dyn MediumFactory>,
        clock: Arc<dyn Clock>,
        node: impl Into<String>,
    ) -> Self {
        let (peers, copies, images, looms) = (None, None, Images::default(), Looms::default());
        let is_client = false;
        Self {
            host: Arc::new(Host { store, media, clock, node: node.into(), peers, copies, images, is_client, looms }),
        }
    }

    /// The same parts, connected to other nodes.
    #[must_use]
    pub fn with_peers(self, peers: Arc<dyn Peers>) -> Self {
        self.rebuilt(|host| host.peers = Some(peers))
    }

    /// The same parts, with looms kept on other nodes too: what they write is sent there, and waits for them where it should.
    #[must_use]
    pub fn with_copies(self, copies: Arc<Copies>) -> Self {
        self.rebuilt(|host| host.copies = Some(copies))
    }

    /// The same parts, of a process that keeps no record: the looms and the entities that it has cast elsewhere are founded and named
    /// by the node that it asks.
    #[must_use]
    pub fn without_record(self) -> Self {
        self.rebuilt(|host| host.is_client = true)
    }

    fn rebuilt(self, change: impl FnOnce(&mut Host)) -> Self {
        let Host { store, media, clock, node, peers, copies, is_client, .. } = &*self.host;
        let mut host = Host {
            store: Arc::clone(store),
            media: Arc::clone(media),
            clock: Arc::clone(clock),
            node: node.clone(),
            peers: peers.clone(),
            copies: copies.clone(),
            images: Images::default(),
            is_client: *is_client,
            looms: Looms::default(),
        };
        change(&mut host);
        Self { host: Arc::new(host) }
    }

    /// Its name in the record.
    pub fn node(&self) -> &str {
        &self.host.node
    }

    /// The media of this runtime, for checking cantrips.
    pub fn media(&self) -> &dyn MediumFactory {
        &*self.host.media
    }

    /// Where the looms are kept.
    pub fn store(&self) -> &Arc<dyn LoomStore> {
        &self.host.store
    }

    /// Founds a loom for several casts to be recorded in.
    ///
    /// # Errors
    /// A record that cannot be written.
    pub fn found(&self) -> Result<LoomId, Fault> {
        let loom = self.host.new_loom()?;
        loom.found()?;
        Ok(loom.id())
    }

    /// Runs one intent to its end.
    ///
    /// # Errors
    /// No intent, a model that could not go on, or a fault of ours. Truncation is not an error.
    pub async fn cast(&self, cantrip: &Cantrip, intent: &str, options: CastOptions) -> Result<Outcome, CastError> {
        self.summon(cantrip, options)?.send(intent).await
    }

    /// Makes an entity that lives across sends (ENTITY-1, ENTITY-5). It is recorded with its first intent.
    ///
    /// # Errors
    /// A store that does not open the loom.
    pub fn summon(&self, cantrip: &Cantrip, mut options: CastOptions) -> Result<Summoned, Fault> {
        if self.host.peers.is_some() {
            // What is done elsewhere for it is found by this.
            options.trace.get_or_insert_with(|| self.host.trace());
        }
        let loom = match (options.loom, &options.origin) {
            (None, _) => self.host.new_loom()?,
            (Some(loom), None) => {
                let open = self.host.join(loom)?;
                open.permission()?;
                open
            }
            // It is the caller's, and may be new here.
            (Some(loom), Some(_)) => self.host.open(loom)?,
        };
        let (entity, minted) = self.named(&options);
        let parts = self.parts(cantrip, loom, entity, &options);
        let opening = opening(options, minted, None);
        Ok(Summoned { actor: Actor::new(parts), opening: Some(opening), taken: None, unfinished: false, cast: None })
    }

    /// Makes an entity that continues another's thread after a number of turns (LOOM-4). The original is untouched, and
    /// neither a model nor a gate is called for what is recorded (LOOM-13).
    ///
    /// # Errors
    /// No such entity or turn, or a store that cannot be read.
    pub fn fork(
        &self,
        cantrip: &Cantrip,
        loom: LoomId,
        of: EntityId,
        turns: u64,
        options: CastOptions,
    ) -> Result<Summoned, Fault> {
        let tree = if options.origin.is_none() { self.host.join(loom)?.tree_to_write()? } else { self.tree(loom)? };
        let restored = tree.restore(of, Some(turns))?;
        let (entity, minted) = self.named(&options);
        let parts = self.parts(cantrip, self.host.open(loom)?, entity, &options);
        let actor = Actor::continuing(parts, restored, false)?;
        let strategy = if actor.has_image() { ForkStrategy::Snapshot } else { ForkStrategy::Replay };
        let opening = opening(options, minted, Some(Fork { of, turns, strategy, from: None }));
        Ok(Summoned { actor, opening: Some(opening), taken: None, unfinished: false, cast: None })
    }

    /// Returns once this node may write into a loom that is kept together with others: they were asked whether they have more of its own
    /// log than is here, and that was fetched back.
    ///
    /// # Errors
    /// Too few that answer, where so many copies have to acknowledge; a record that cannot be read.
    pub async fn ready(&self, loom: LoomId) -> Result<(), Fault> {
        self.host.open(loom)?.ready().await
    }

    /// Continues an entity where its record ends: after a crash, or in another process. Neither a model nor a gate is
    /// called for what is recorded; a gate that was running when the record ends is reported to the entity as unknown,
    /// and not repeated.
    ///
    /// # Errors
    /// No such entity, or a store that cannot be read.
    pub fn resume(
        &self,
        cantrip: &Cantrip,
        loom: LoomId,
        entity: EntityId,
        options: &CastOptions,
    ) -> Result<Summoned, Fault> {
        let mut tree = self.tree(loom)?;
        tree.may_go_on(entity)?;
        if let Some(owner) = tree.owner(entity)
            && owner.writer != self.host.store.writer()
        {
            // This node itself, under an earlier key; anybody else's is taken over by an explicit act.
            let batch = self.batch(loom)?;
            if !Reader::of(&batch).is_same_member(owner.writer, self.host.store.writer()) {
                permission(&Reader::of(&batch), self.host.store.writer(), loom, Deed::Adopt(entity))?;
                return Err(Fault::Elsewhere { entity, owner: owner.writer });
            }
            take_over(&self.host.open(loom)?, entity, &self.host.node)?;
            tree = self.tree(loom)?;
        }
        let unfinished = tree.entity(entity)?.ended.is_none();
        let recorded = tree.entity(entity)?.opened.guest.clone();
        let given = cantrip.guest().map(|guest| guest.manifest().reference());
        if digest_of(recorded.as_deref()) != digest_of(given.as_deref()) {
            return Err(Fault::OtherGuest {
                recorded: recorded.unwrap_or_else(|| "no guest".to_owned()),
                given: given.unwrap_or_else(|| "no guest".to_owned()),
            });
        }
        let restored = tree.restore(entity, None)?;
        let open = self.host.open(loom)?;
        open.recall(entity)?;
        let mut parts = self.parts(cantrip, open, entity, options);
        if options.origin.is_none() {
            parts.origins.clone_from(&tree.entity(entity)?.opened.origins);
        }
        Ok(Summoned {
            actor: Actor::continuing(parts, restored, true)?,
            opening: None,
            taken: None,
            unfinished,
            cast: None,
        })
    }

    /// Reads a loom as turns.
    ///
    /// # Errors
    /// A store that cannot be read, or an entry that is damaged.
    pub fn tree(&self, loom: LoomId) -> Result<Tree, Fault> {
        read_tree(&*self.host.store, loom)
    }

    /// Changes what is recorded, as far as that is possible: a judgement is one more entry, everything else is refused.
    ///
    /// # Errors
    /// LOOM-3, IDENTITY-1, an unknown entry, or a fault of ours.
    pub async fn amend(&self, loom: LoomId, entry: EntryId, amendment: Amendment) -> Result<EntryId, AmendError> {
        let (value, by) = match amendment {
            Amendment::Delete => return Err(AmendError::AppendOnly),
            Amendment::Identity { .. } => return Err(AmendError::IdentityImmutable),
            Amendment::Reward { value, .. } if !value.is_finite() => return Err(AmendError::NotFinite(value)),
            Amendment::Reward { value, by } => (value, by),
        };
        let judged = self.host.store.entry(entry).map_err(Fault::from)?.filter(|sealed| sealed.entry.loom == loom);
        let judged = judged.ok_or(AmendError::NoEntry { loom, entry })?;
        let entity = judged.entry.entity.ok_or(AmendError::NoThread { entry })?;
        // What is fetched back is read with the rest.
        self.ready(loom).await?;
        let batch = self.batch(loom)?;
        let reader = Reader::of(&batch);
        let relies = permission(&reader, self.host.store.writer(), loom, Deed::Write)?;
        let loom = self.host.open(loom)?;
        let body = Body::Rewarded { value, by, note: None, ends: reader.reward_ends(entry) };
        let id = loom.append_by(relies, (Some(entity), Some(entry)), body)?;
        loom.sync().await?;
        Ok(id)
    }

    /// Records what came of running a thread again, beside the thread.
    ///
    /// # Errors
    /// A record that cannot be written.
    pub async fn record_replay(&self, replayed: &Replayed) -> Result<EntryId, Fault> {
        self.ready(replayed.loom).await?;
        let relies = self.write_permission(replayed.loom)?;
        let loom = self.host.open(replayed.loom)?;
        let body = Body::Replayed {
            node: self.host.node.clone(),
            turns: replayed.turns,
            evaluations: replayed.evaluations,
            gate_calls: replayed.gate_calls,
            medium: replayed.medium.clone(),
            difference: replayed.difference.as_ref().map(|it| format!("turn {} ({}): {}", it.turn, it.entry, it.what)),
        };
        let id = loom.append_by(relies, (Some(replayed.entity), Some(replayed.head)), body)?;
        loom.sync().await?;
        Ok(id)
    }

    /// The name of an entity that is about to be opened, and what it commits to: its caller's, or a new one.
    pub(super) fn named(&self, options: &CastOptions) -> (EntityId, Option<Minted>) {
        let new = || {
            let (entity, minted) = self.host.entity_id();
            (entity, Some(minted))
        };
        options.origin.as_ref().map_or_else(new, |origin| (origin.entity, origin.minted))
    }

    pub(super) fn parts(&self, cantrip: &Cantrip, loom: Loom, id: EntityId, options: &CastOptions) -> ActorParts {
        let circle = cantrip.circle();
        let origin = options.origin.as_ref();
        let nature = Nature {
            id,
            depth: origin.map_or(0, |origin| origin.depth),
            identity: cantrip.identity().clone(),
            circle: Arc::clone(circle),
            folding: cantrip.folding().clone(),
            context_tokens: cantrip.llm().context_tokens(),
            equipped: cantrip.equipped_specs().to_vec(),
            code_media: cantrip.code_media(&*self.host.media).into(),
            models: cantrip.model_names(),
            nodes: origin.map_or_else(|| self.host.nodes(), |origin| origin.nodes.of(&self.host.nodes()).into()),
            ledger: Ledger::new(circle.wards(), None),
            guest: cantrip.guest_nature(),
        };
        ActorParts {
            host: Arc::clone(&self.host),
            cantrip: cantrip.clone(),
            llm: Arc::clone(cantrip.llm()),
            loom,
            control: options.control.clone().unwrap_or_default(),
            observer: options.observer.clone(),
            nature,
            seen: origin.map(|origin| origin.seen).unwrap_or_default(),
            follows: origin.and_then(|origin| origin.parent),
            deadline_us: origin.and_then(|origin| origin.deadline_us),
            trace: options.trace.clone(),
            snapshots: cantrip.snapshots(),
            children: origin.map(|origin| origin.children.clone()),
            origins: origin.map(|origin| origin.origins.clone()).unwrap_or_default(),
        }
    }
}

fn opening(options: CastOptions, minted: Option<Minted>, fork: Option<Fork>) -> Opening {
    let (spawned_by, caller) = options.origin.map(|origin| (origin.spawned_by, origin.caller)).unzip();
    let (cast, trace, spawned_by) = (options.cast, options.trace, spawned_by.flatten());
    Opening { cast, trace, spawned_by, fork, caller, minted, standing: None }
}

/// A guest is its digest: its name may change.
fn digest_of(reference: Option<&str>) -> Option<&str> {
    reference.map(|reference| reference.rsplit_once('@').map_or(reference, |(_, digest)| digest))
}

/// An entity that lives across sends. Its medium keeps its state between them (MEDIUM-3).
#[derive(Debug)]
pub struct Summoned {
    pub(super) actor: Actor,
    /// What its `opened` entry will say; taken when it is recorded.
    opening: Option<Opening>,
    /// The thread of another loom that it continues, until it is recorded.
    taken: Option<Arc<TakenThread>>,
    unfinished: bool,
    /// The caller's name for the next episode, where it comes from a peer.
    pub(super) cast: Option<CastId>,
}

impl Summoned {
    /// An entity that continues a thread of another loom.
    pub(super) fn forked(
        actor: Actor,
        (options, minted, fork): (CastOptions, Option<Minted>, Fork),
        taken: (Arc<TakenThread>, Standing),
    ) -> Self {
        let (taken, standing) = taken;
        let opening = Opening { standing: Some(Box::new(standing)), ..opening(options, minted, Some(fork)) };
        Self { actor, opening: Some(opening), taken: Some(taken), unfinished: false, cast: None }
    }

    /// Its name.
    pub fn entity(&self) -> EntityId {
        self.actor.entity.nature().id
    }

    /// The loom that it is recorded in.
    pub fn loom(&self) -> LoomId {
        self.actor.loom.id()
    }

    /// Stops and steers it.
    pub fn control(&self) -> Control {
        self.actor.control.clone()
    }

    /// Gives it another observer and control: those of the next episode's caller.
    pub(super) fn take_over(&mut self, options: &CastOptions) {
        self.actor.observer.clone_from(&options.observer);
        if let Some(control) = &options.control {
            self.actor.control = control.clone();
        }
    }

    /// Bounds its next episode from outside.
    pub(super) fn until(&mut self, deadline_us: Option<u64>) {
        self.actor.deadline_us = deadline_us;
    }

    /// Gives the memory of its medium back, recorded if its cantrip says so: its next code finds everything as it was, from the
    /// newest image and the code behind it.
    ///
    /// # Errors
    /// A record that does not take the image.
    pub fn rest(&mut self) -> Result<(), Fault> {
        self.actor.rest()
    }

    /// The same, with the memory recorded whatever its cantrip says: it may wait for long.
    pub(super) fn rest_on_record(&mut self) -> Result<(), Fault> {
        self.actor.record_at_rest();
        self.actor.rest()
    }

    /// How many turns it has had.
    pub fn turns(&self) -> u64 {
        self.actor.entity.turns()
    }

    /// Whether its last episode was cut off and can be continued without a new intent.
    pub const fn is_unfinished(&self) -> bool {
        self.unfinished
    }

    /// Gives it an intent and waits for the end of the episode.
    ///
    /// # Errors
    /// As [`Runtime::cast`].
    pub async fn send(&mut self, intent: &str) -> Result<Outcome, CastError> {
        if intent.trim().is_empty() {
            return Err(CastError::NoIntent);
        }
        self.actor.ready().await?;
        let recorded = match self.opening.take() {
            Some(opening) => {
                match self.taken.take() {
                    Some(taken) => taken.with_pieces(|pieces| self.actor.open(intent, opening, pieces))?,
                    None => self.actor.open(intent, opening, Vec::new())?,
                }
                true
            }
            None => false,
        };
        let cast = self.cast.take();
        self.run(Input::Intent { text: intent.to_owned(), recorded, cast }).await
    }

    /// Goes on with an episode that was cut off, without a new intent.
    ///
    /// # Errors
    /// As [`Runtime::cast`].
    pub async fn go_on(&mut self) -> Result<Outcome, CastError> {
        self.actor.ready().await?;
        self.run(Input::Continue).await
    }

    async fn run(&mut self, input: Input) -> Result<Outcome, CastError> {
        self.unfinished = false;
        let outcome = self.actor.episode(input).await?;
        match outcome.failure.clone() {
            Some(failure) => Err(CastError::Failed { failure, outcome: Box::new(outcome) }),
            None => Ok(outcome),
        }
    }
}
