//! The doors: cast, summon, fork, resume, and what may be changed afterwards.

use std::sync::Arc;

use cantrip_gates::Exposure;
use thiserror::Error;

use crate::domain::budget::Ledger;
use crate::domain::entity::{Input, Nature};
use crate::domain::ids::{CastId, EntityId, EntryId, LoomId};
use crate::domain::loom::{Body, Fork, ForkStrategy, Tree};
use crate::domain::outcome::{Failure, Outcome};
use crate::ports::{Clock, LoomStore, MediumFactory, Observer};

use super::actor::{Actor, ActorParts, Opening};
use super::cantrip::Cantrip;
use super::control::Control;
use super::fault::Fault;
use super::recorder::{Loom, Looms, read_tree};

/// What every entity of this process shares.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) store: Arc<dyn LoomStore>,
    pub(super) media: Arc<dyn MediumFactory>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) node: String,
    looms: Looms,
}

impl Host {
    fn random(&self) -> [u8; 10] {
        let mut bytes = [0; 10];
        self.clock.random(&mut bytes);
        bytes
    }

    fn now_ms(&self) -> u64 {
        self.clock.now_us() / 1_000
    }

    pub(super) fn entity_id(&self) -> EntityId {
        EntityId::from_parts(self.now_ms(), self.random())
    }

    pub(super) fn cast_id(&self) -> CastId {
        CastId::from_parts(self.now_ms(), self.random())
    }

    fn loom_id(&self) -> LoomId {
        LoomId::from_parts(self.now_ms(), self.random())
    }
}

/// Casts and summons. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Runtime {
    host: Arc<Host>,
}

/// What a cast is given beside its cantrip and its intent.
#[derive(Clone, Default)]
pub struct CastOptions {
    /// Is told what happens. Default: nobody.
    pub observer: Option<Arc<dyn Observer>>,
    /// Stops and steers it from outside. Default: nobody does.
    pub control: Option<Control>,
    /// The loom to write into. Default: a new one.
    pub loom: Option<LoomId>,
    /// The caller's name for the cast. Default: minted.
    pub cast: Option<CastId>,
    /// The trace that it belongs to, as W3C trace context.
    pub trace: Option<String>,
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
        Self { host: Arc::new(Host { store, media, clock, node: node.into(), looms: Looms::default() }) }
    }

    /// The media of this runtime, for checking cantrips.
    pub fn media(&self) -> &dyn MediumFactory {
        &*self.host.media
    }

    /// Where the looms are kept.
    pub fn store(&self) -> &Arc<dyn LoomStore> {
        &self.host.store
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
    pub fn summon(&self, cantrip: &Cantrip, options: CastOptions) -> Result<Summoned, Fault> {
        let loom = options.loom.unwrap_or_else(|| self.host.loom_id());
        let parts = self.parts(cantrip, loom, self.host.entity_id(), &options)?;
        let opening = Opening { cast: options.cast, trace: options.trace, ..Opening::default() };
        Ok(Summoned { actor: Actor::new(parts), opening: Some(opening), unfinished: false })
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
        let restored = self.tree(loom)?.restore(of, Some(turns))?;
        let parts = self.parts(cantrip, loom, self.host.entity_id(), &options)?;
        let fork = Some(Fork { of, turns, strategy: ForkStrategy::Replay });
        let opening = Opening { cast: options.cast, trace: options.trace, spawned_by: None, fork };
        Ok(Summoned { actor: Actor::continuing(parts, restored, false)?, opening: Some(opening), unfinished: false })
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
        let tree = self.tree(loom)?;
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
        let parts = self.parts(cantrip, loom, entity, options)?;
        Ok(Summoned { actor: Actor::continuing(parts, restored, true)?, opening: None, unfinished })
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
        let loom = self.open(loom)?;
        let id = loom.append(judged.entry.entity, Some(entry), Body::Rewarded { value, by }, Vec::new())?;
        loom.sync().await?;
        Ok(id)
    }

    fn open(&self, loom: LoomId) -> Result<Loom, Fault> {
        self.host.looms.open(loom, &self.host.store, &self.host.clock)
    }

    fn parts(&self, cantrip: &Cantrip, loom: LoomId, id: EntityId, options: &CastOptions) -> Result<ActorParts, Fault> {
        let circle = cantrip.circle();
        let nature = Nature {
            id,
            depth: 0,
            identity: cantrip.identity().clone(),
            circle: Arc::clone(circle),
            folding: cantrip.folding().clone(),
            context_tokens: cantrip.llm().context_tokens(),
            equipped: cantrip.equipped_specs().to_vec(),
            code_media: cantrip.code_media(&*self.host.media).into(),
            models: cantrip.model_names(),
            ledger: Ledger::new(circle.wards(), None),
            guest: cantrip.guest_nature(),
        };
        Ok(ActorParts {
            host: Arc::clone(&self.host),
            cantrip: cantrip.clone(),
            llm: Arc::clone(cantrip.llm()),
            loom: self.open(loom)?,
            control: options.control.clone().unwrap_or_default(),
            observer: options.observer.clone(),
            nature,
            seen: Exposure::default(),
            follows: None,
            deadline_us: None,
        })
    }
}

/// A guest is its digest: its name may change.
fn digest_of(reference: Option<&str>) -> Option<&str> {
    reference.map(|reference| reference.rsplit_once('@').map_or(reference, |(_, digest)| digest))
}

/// An entity that lives across sends. Its medium keeps its state between them (MEDIUM-3).
#[derive(Debug)]
pub struct Summoned {
    actor: Actor,
    /// What its `opened` entry will say; taken when it is recorded.
    opening: Option<Opening>,
    unfinished: bool,
}

impl Summoned {
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
        let recorded = match self.opening.take() {
            Some(opening) => {
                self.actor.open(intent, opening)?;
                true
            }
            None => false,
        };
        self.run(Input::Intent { text: intent.to_owned(), recorded }).await
    }

    /// Goes on with an episode that was cut off, without a new intent.
    ///
    /// # Errors
    /// As [`Runtime::cast`].
    pub async fn go_on(&mut self) -> Result<Outcome, CastError> {
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
