//! What an entry says: its kinds.

use cantrip_gates::Reach;
use ipld_core::ipld::Ipld;
use serde::{Deserialize, Serialize, Serializer};

use super::opened::Opened;
use super::said::{Ended, Observed, Returned, Said, is_false};
use super::text::Payload;
use crate::domain::ids::{BlobId, CallId, CastId, EntityId, EntryId};
use crate::domain::members::{Admitted, Expelled, LogEnd, Nonce, Principal, Settled};
use crate::domain::model::Usage;
use crate::domain::place::CallPlace;

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Body {
    /// An entity came to be.
    Opened(Box<Opened>),
    /// A summoned entity got a further intent, or a running one was steered.
    Intent(Box<Intent>),
    /// The model spoke.
    Utterance(Box<Said>),
    /// A gate is about to run.
    GateCalled {
        /// The call.
        call: CallId,
        /// The gate's name.
        gate: String,
        /// The arguments, as JSON.
        arguments: Payload,
        /// What the gate may do.
        reach: Reach,
        /// Where it runs: `here`, or a node's name.
        place: CallPlace,
        /// That a person is asked first; nothing: it runs at once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        asks: Option<Box<Asks>>,
        /// Whether it is refused: nothing runs, whatever becomes of this node before it says why.
        #[serde(default, skip_serializing_if = "is_false")]
        refused: bool,
    },
    /// A gate has run, or was refused.
    GateReturned {
        /// The call.
        call: CallId,
        /// What came of it.
        result: Returned,
        /// How long it took, in microseconds.
        duration_us: u64,
        /// Whether the result leaves the context (PROD-5).
        ephemeral: bool,
        /// The answer of a truncated child, as far as there was one: the error in the result leaves it out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        partial: Option<Payload>,
    },
    /// A child is about to be opened.
    Delegated {
        /// The call that asked for it.
        call: CallId,
        /// Its place in a batch.
        index: u32,
        /// The entity that will run.
        child: EntityId,
        /// What was proposed, as JSON.
        proposal: Payload,
        /// Where it runs: `here`, or a node's name.
        place: CallPlace,
        /// What the child's id commits to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nonce: Option<Nonce>,
    },
    /// What the entity will see of its turn.
    Observation(Box<Observed>),
    /// What the medium has in memory after a turn.
    Snapshot {
        /// Which medium it is of, and how it was opened.
        medium: String,
        /// How large the memory is, in bytes.
        memory_bytes: u64,
        /// The snapshot that has the pages that are not in this one; nothing: a fresh instance has them.
        base: Option<EntryId>,
        /// The pages that are another than in the base.
        pages: Vec<PageRef>,
    },
    /// Older turns are shown to the model as a summary from now on.
    Folded {
        /// The first turn in it.
        first: u64,
        /// The last turn in it.
        last: u64,
        /// What stands for them.
        summary: Payload,
        /// What the summary itself cost.
        usage: Usage,
    },
    /// A gate call that a person was asked about is decided.
    Decided(Box<Decided>),
    /// An episode ended.
    Ended(Box<Ended>),
    /// Somebody judged an entry.
    Rewarded {
        /// The judgement.
        value: f64,
        /// Whose it is.
        by: String,
        /// Why, in words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<Payload>,
        /// The judgements of the same entry that it goes beyond: all ends of their chain that its writer saw.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ends: Vec<EntryId>,
    },
    /// Somebody ran a thread again, with its recorded results of gates and models, and says what came of it. It follows the entry
    /// that the thread ended with, and is no part of the thread.
    Replayed {
        /// The node that ran it.
        node: String,
        /// How many turns were read.
        turns: u64,
        /// How many pieces of code ran.
        evaluations: u64,
        /// How many gate calls they made, answered from the record.
        gate_calls: u64,
        /// The digest of the medium that ran them.
        medium: Option<String>,
        /// The first thing that came out otherwise; nothing: all is as recorded.
        difference: Option<String>,
    },
    /// Another node goes on with an entity. What its former owner writes of it behind the entry that this one follows is no part
    /// of its thread.
    Adopted {
        /// Counts up with each owner; of two of one epoch the later writer's key holds.
        epoch: u64,
        /// The node that goes on.
        node: String,
        /// The signed head that covers the entry that it follows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last: Option<LogEnd>,
        /// Whether it goes on although something that was acknowledged may be lost.
        #[serde(default, skip_serializing_if = "is_false")]
        accept_loss: bool,
        /// Who wants it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// Why, in words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<Payload>,
    },
    /// The loom came to be: the first entry of its founder's log.
    Founded {
        /// What the loom's id commits to.
        nonce: Nonce,
        /// The founder's member record; nothing: the bare key is the founder.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        member: Option<serde_bytes::ByteBuf>,
    },
    /// Somebody becomes a member, or a host for one cast.
    Admitted(Box<Admitted>),
    /// Somebody is no member any more.
    Expelled(Box<Expelled>),
    /// A remote cast is over for its caller.
    Settled(Box<Settled>),
    /// How many keepers acknowledge what its writer writes behind it, and which count.
    Keeping {
        /// How many.
        acks: u32,
        /// Which.
        keepers: Vec<Principal>,
        /// Whether it was changed although something that was acknowledged may be lost.
        #[serde(default, skip_serializing_if = "is_false")]
        accept_loss: bool,
    },
    /// What a later version wrote. No bytes are read as one yet: an entry of an unknown kind is refused.
    #[serde(skip)]
    Unknown(Box<Unknown>),
}

impl Body {
    /// The name of the kind, as it is recorded.
    pub fn kind(&self) -> &str {
        match self {
            Self::Opened(_) => "opened",
            Self::Intent(_) => "intent",
            Self::Utterance(_) => "utterance",
            Self::GateCalled { .. } => "gate_called",
            Self::GateReturned { .. } => "gate_returned",
            Self::Delegated { .. } => "delegated",
            Self::Observation(_) => "observation",
            Self::Snapshot { .. } => "snapshot",
            Self::Folded { .. } => "folded",
            Self::Decided(_) => "decided",
            Self::Ended(_) => "ended",
            Self::Rewarded { .. } => "rewarded",
            Self::Replayed { .. } => "replayed",
            Self::Adopted { .. } => "adopted",
            Self::Founded { .. } => "founded",
            Self::Admitted(_) => "admitted",
            Self::Expelled(_) => "expelled",
            Self::Settled(_) => "settled",
            Self::Keeping { .. } => "keeping",
            Self::Unknown(unknown) => &unknown.kind,
        }
    }

    /// Whether something that is kept beside the entry is text: the pages of a memory are none, nor the pieces of a thread of another
    /// loom.
    pub fn is_text(&self, id: &BlobId) -> bool {
        match self {
            Self::Snapshot { .. } => false,
            Self::Opened(opened) => {
                let from = opened.fork.as_ref().and_then(|fork| fork.from.as_ref());
                from.is_none_or(|from| !from.pieces.contains(id))
            }
            Self::Intent(_)
            | Self::Utterance(_)
            | Self::GateCalled { .. }
            | Self::GateReturned { .. }
            | Self::Delegated { .. }
            | Self::Observation(_)
            | Self::Folded { .. }
            | Self::Decided(_)
            | Self::Ended(_)
            | Self::Rewarded { .. }
            | Self::Replayed { .. }
            | Self::Adopted { .. }
            | Self::Founded { .. }
            | Self::Admitted(_)
            | Self::Expelled(_)
            | Self::Settled(_)
            | Self::Keeping { .. }
            | Self::Unknown(_) => true,
        }
    }

    /// An intent that nothing more is known of.
    pub fn intent(text: Payload, steer: bool, cast: Option<CastId>) -> Self {
        Self::Intent(Box::new(Intent { text, steer, cast, ..Intent::default() }))
    }

    /// A node goes on with an entity, and nothing more is said of it.
    pub const fn adopted(epoch: u64, node: String) -> Self {
        Self::Adopted { epoch, node, last: None, accept_loss: false, by: None, note: None }
    }

    /// A judgement that goes beyond no other.
    pub const fn rewarded(value: f64, by: String) -> Self {
        Self::Rewarded { value, by, note: None, ends: Vec::new() }
    }

    /// Whether an entry of this kind is an entity's; nothing: it may be either.
    pub fn has_entity(&self) -> Option<bool> {
        match self {
            Self::Founded { .. } | Self::Expelled(_) | Self::Keeping { .. } => Some(false),
            Self::Admitted(admitted) if admitted.scope.is_none() => Some(false),
            // A host is admitted for the entity that delegates to it, and settled with; a root on another node has none above it.
            Self::Admitted(_) | Self::Settled(_) | Self::Unknown(_) => None,
            Self::Opened(_)
            | Self::Intent(_)
            | Self::Utterance(_)
            | Self::GateCalled { .. }
            | Self::GateReturned { .. }
            | Self::Delegated { .. }
            | Self::Observation(_)
            | Self::Snapshot { .. }
            | Self::Folded { .. }
            | Self::Decided(_)
            | Self::Ended(_)
            | Self::Rewarded { .. }
            | Self::Replayed { .. }
            | Self::Adopted { .. } => Some(true),
        }
    }
}

/// Writes a body. What a later version wrote is written as it came.
pub(super) fn serialize<S: Serializer>(body: &Body, serializer: S) -> Result<S::Ok, S::Error> {
    if let Body::Unknown(unknown) = body { unknown.value.serialize(serializer) } else { body.serialize(serializer) }
}

/// What an entity is told to do.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Intent {
    /// What it is told.
    pub text: Payload,
    /// Whether it was said into a running episode.
    pub steer: bool,
    /// The caller's name for the episode that it begins, where it came from a peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cast: Option<CastId>,
    /// Who tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What that one adds for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Payload>,
    /// The model from here on, where it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The mode that it is told in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The file that the cantrip comes from, as it was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The trace that the episode belongs to, as W3C trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

/// That a person is asked before a gate runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Asks {
    /// What made it ask, such as the ward `ask`.
    pub rule: String,
    /// What the person is shown, where that is more than the arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<Payload>,
    /// After which time without an answer it is decided as unanswered, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// What was decided of a gate call that a person was asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// The call.
    pub call: CallId,
    /// What.
    pub decision: Decision,
    /// BLAKE3 of the text of the arguments that it is about: it says nothing about others.
    #[serde(with = "serde_bytes")]
    pub arguments: [u8; 32],
    /// For how long: this call, this entity …
    pub scope: String,
    /// Who decided.
    pub by: String,
    /// The front end or the rule by which that one answered.
    pub approver: String,
}

/// What a person said of a gate call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It runs.
    Approved,
    /// It does not run.
    Denied,
    /// Nobody answered in time: it does not run.
    Unanswered,
}

/// What an entry of an unknown kind says.
#[derive(Debug, Clone, PartialEq)]
pub struct Unknown {
    /// The name of the kind.
    pub kind: String,
    /// All of it, the name included.
    pub value: Ipld,
}

/// A page of a medium's memory: its place, and the hash of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRef(pub u32, pub BlobId);
