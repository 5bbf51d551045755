//! What goes into a step of the loop and what comes out of it.

use std::sync::Arc;

use cantrip_gates::{Exposure, GateError, GateSpec};
use serde_json::Value;
use thiserror::Error;

use crate::domain::budget::Ledger;
use crate::domain::cantrip::{Folding, Identity};
use crate::domain::circle::Circle;
use crate::domain::delegation::ChildPlan;
use crate::domain::end::EndReason;
use crate::domain::event::EventKind;
use crate::domain::guest::Shape;
use crate::domain::ids::{CallId, CastId, EntityId, EntryId, NodeAddress, WriterKey};
use crate::domain::loom::{Blob, Body, CutOff, Minted, Reserve, Spent};
use crate::domain::medium::{CallArguments, Evaluated, GateAnswer};
use crate::domain::model::{ModelError, Question, RawAnswer};
use crate::domain::outcome::Outcome;

/// What is fixed for an entity's life.
#[derive(Debug)]
pub struct Nature {
    /// Its name.
    pub id: EntityId,
    /// How deep below the root.
    pub depth: u32,
    /// Who it is.
    pub identity: Identity,
    /// Where it works.
    pub circle: Arc<Circle>,
    /// When its past is folded.
    pub folding: Folding,
    /// How much its model takes, where known.
    pub context_tokens: Option<u64>,
    /// Every gate that its cantrip has equipped, for children.
    pub equipped: Vec<GateSpec>,
    /// The code media of this host.
    pub code_media: Arc<[String]>,
    /// The models that its cantrip names.
    pub models: Vec<String>,
    /// The nodes that this one is connected to.
    pub nodes: Arc<[NodeAddress]>,
    /// What it may spend.
    pub ledger: Arc<Ledger>,
    /// The guest that does the work in a model's place.
    pub guest: Option<GuestNature>,
}

/// What an entity has to know of its guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestNature {
    /// `name@sha256:…`.
    pub reference: String,
    /// Whether its work is one call or one for each turn.
    pub shape: Shape,
}

/// Why an episode is stopped from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    /// Somebody cancelled the cast.
    Cancelled,
    /// The parent ended (COMP-9).
    ParentTerminated,
    /// Somebody interrupted the episode; a summoned entity lives on.
    Interrupted,
    /// `timeout_ms` is over.
    Timeout,
}

impl StopCause {
    /// The reason as it is recorded.
    pub const fn reason(self) -> EndReason {
        match self {
            Self::Cancelled => EndReason::Cancelled,
            Self::ParentTerminated => EndReason::ParentTerminated,
            Self::Interrupted => EndReason::Interrupted,
            Self::Timeout => EndReason::Timeout,
        }
    }
}

/// The world as a step sees it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Now {
    /// Microseconds since 1970.
    pub us: u64,
    /// Whether somebody wants the episode stopped.
    pub stop: Option<StopCause>,
    /// For how long processes have had the episode, in microseconds.
    pub spent_us: u64,
}

/// What the children of a call have met and spent.
#[derive(Debug, Clone, Default)]
pub struct OfChildren {
    /// What they have met.
    pub seen: Exposure,
    /// What they have spent.
    pub spent: Spent,
    /// What was set aside for those whose end is unknown.
    pub reserves: Vec<Reserve>,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// An intent: begins an episode.
    Intent {
        /// What to do.
        text: String,
        /// Whether the `opened` entry already holds it.
        recorded: bool,
        /// The caller's name for the episode, where it came from a peer.
        cast: Option<CastId>,
    },
    /// Goes on with an episode that a crash cut off, without a new intent.
    Continue,
    /// Takes a turn up again that a crash cut off.
    Rejoin {
        /// What is recorded of it.
        cut_off: Box<CutOff>,
        /// The keys of this node, former ones included.
        own: Vec<WriterKey>,
    },
    /// The model answered.
    Answered {
        /// The answer, unchecked.
        answer: RawAnswer,
        /// How often it was asked again.
        retries: u32,
    },
    /// The model gave no answer, retries included.
    Unanswered(ModelError),
    /// The question was given up because of [`Now::stop`].
    Abandoned,
    /// The code calls a function.
    GateAsked {
        /// The name it used.
        gate: String,
        /// The arguments.
        arguments: CallArguments,
    },
    /// A gate has run, or its children have.
    GateReturned {
        /// What came of it.
        result: Result<Value, GateError>,
        /// What its children have met and spent.
        children: OfChildren,
    },
    /// The code has run.
    Evaluated {
        /// What came of it.
        evaluated: Evaluated,
        /// The seed it ran with.
        seed: u64,
        /// Where its clock stood at the start.
        clock_us: u64,
    },
}

/// A child that is recorded.
#[derive(Debug, Clone)]
pub struct KnownChild {
    /// Its place in a batch.
    pub index: u32,
    /// The entity.
    pub entity: EntityId,
    /// What its id commits to.
    pub minted: Option<Minted>,
    /// The entry that says so.
    pub delegated: EntryId,
}

/// What is to be done, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Append an entry.
    Record {
        /// What happened.
        body: Body,
        /// Its large texts.
        blobs: Vec<Blob>,
    },
    /// Drop the instance of the medium: what it was is made anew from the record.
    Lose,
    /// Go on when everything so far is durable.
    Sync,
    /// Tell observers.
    Tell(EventKind),
    /// Ask the model; comes back as `Answered`, `Unanswered` or `Abandoned`.
    Ask(Question),
    /// Ask the model for the code that runs; comes back as [`Effect::Ask`] does.
    Query(Question),
    /// Reads the entity's own record for the code or the model: what it returns comes back as `GateReturned`.
    ReadLoom {
        /// The arguments.
        arguments: Value,
    },
    /// Call a gate; comes back as `GateReturned`.
    Call {
        /// The gate.
        gate: String,
        /// Its arguments, checked.
        arguments: Value,
    },
    /// Cast children; comes back as `GateReturned`.
    Cast {
        /// The call.
        call: CallId,
        /// The children, or why one cannot be.
        children: Vec<(Value, Result<Box<ChildPlan>, GateError>)>,
        /// Whether the answer is a list.
        batch: bool,
        /// Those of them that are recorded already.
        known: Vec<KnownChild>,
        /// Whether what came of them all is recorded, too: then nothing of them is done again.
        has_returned: bool,
    },
    /// Run code; comes back as `GateAsked` or `Evaluated`.
    Evaluate {
        /// The code.
        source: String,
        /// Feeds its random numbers: always the same for the same call.
        seed: u64,
        /// Where its clock stands, in microseconds since 1970: at the entry before it.
        clock_us: u64,
        /// How many answers of gates come from the record.
        recorded: u64,
    },
    /// Let the code go on; comes back as `GateAsked` or `Evaluated`.
    Resume {
        /// What it is told.
        answer: GateAnswer,
        /// Where its clock stands now, in microseconds since 1970.
        clock_us: u64,
    },
    /// The episode is over.
    Finish(Box<Outcome>),
}

impl Effect {
    /// Whether somebody else is asked or something else is done by it: only the entity's owner may.
    pub const fn reaches_out(&self) -> bool {
        match self {
            Self::Ask(_) | Self::Query(_) | Self::Call { .. } | Self::Cast { .. } => true,
            Self::Record { .. }
            | Self::Lose
            | Self::Sync
            | Self::Tell(_)
            | Self::ReadLoom { .. }
            | Self::Evaluate { .. }
            | Self::Resume { .. }
            | Self::Finish(_) => false,
        }
    }
}

/// An input that does not fit the state: a defect of the driver, never of a guest.
#[derive(Debug, Error)]
#[error("the entity got the input {input} while it was {phase}")]
pub struct OutOfStep {
    pub(super) input: &'static str,
    pub(super) phase: &'static str,
}

impl Input {
    /// A gate has returned that has no children and was not begun before.
    pub fn returned(result: Result<Value, GateError>) -> Self {
        Self::GateReturned { result, children: OfChildren::default() }
    }

    /// Its name, for [`OutOfStep`].
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Intent { .. } => "Intent",
            Self::Continue => "Continue",
            Self::Rejoin { .. } => "Rejoin",
            Self::Answered { .. } => "Answered",
            Self::Unanswered(_) => "Unanswered",
            Self::Abandoned => "Abandoned",
            Self::GateAsked { .. } => "GateAsked",
            Self::GateReturned { .. } => "GateReturned",
            Self::Evaluated { .. } => "Evaluated",
        }
    }
}
