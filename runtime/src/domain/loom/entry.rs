//! The entry: the unit of the record, its encoding and its id.
//!
//! An entry is deterministic DAG-CBOR; its id is the hash of those bytes. JSON values are kept as their text: a map in
//! CBOR would lose the order of a JSON object's keys, and a replay would then show the entity another world.

use cantrip_gates::{Exposure, GateError, Reach, Wards};
use ipld_core::codec::Links;
use serde::{Deserialize, Serialize};
use serde_ipld_dagcbor::codec::DagCborCodec;
use serde_json::Value;
use thiserror::Error;

use crate::domain::cantrip::{Folding, Identity};
use crate::domain::end::EndReason;
use crate::domain::ids::{BlobId, CODEC_RAW, CallId, CastId, EntityId, EntryId, LoomId, WriterKey};
use crate::domain::limits::{ENTRY_BYTES_MAX, INLINE_BYTES_MAX, INLINE_SUM_BYTES_MAX};
use crate::domain::model::Usage;
use crate::domain::place::CallPlace;

/// The version of the encoding that this code writes, and the only one it reads.
pub const FORMAT: u16 = 1;
/// About what a reference takes: a text that is shorter is never kept beside its entry.
const REFERENCE_BYTES: usize = 64;

/// One entry of a loom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The version of the encoding.
    #[serde(rename = "v")]
    pub format: u16,
    /// The tree that it belongs to.
    pub loom: LoomId,
    /// The node that wrote it.
    pub writer: WriterKey,
    /// Its place in that node's log of this loom: 1, 2, 3 … without a gap.
    #[serde(rename = "seq")]
    pub sequence: u64,
    /// Microseconds since 1970 by the writer's clock.
    #[serde(rename = "at")]
    pub at_us: u64,
    /// Whose entry it is.
    pub entity: EntityId,
    /// What it follows; nothing for the root of a tree.
    pub parent: Option<EntryId>,
    /// What happened.
    pub body: Body,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Body {
    /// An entity came to be.
    Opened(Box<Opened>),
    /// A summoned entity got a further intent, or a running one was steered.
    Intent {
        /// What it is told.
        text: Payload,
        /// Whether it was said into a running episode.
        steer: bool,
        /// The caller's name for the episode that it begins, where it came from a peer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cast: Option<CastId>,
    },
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
    /// A person allowed a gate call.
    Approved {
        /// The call.
        call: CallId,
        /// Who.
        by: String,
        /// For how long: this call, this entity …
        scope: String,
    },
    /// A person refused a gate call.
    Denied {
        /// The call.
        call: CallId,
        /// Who.
        by: String,
        /// For how long: this call, this entity …
        scope: String,
    },
    /// An episode ended.
    Ended(Box<Ended>),
    /// Somebody judged an entry.
    Rewarded {
        /// The judgement.
        value: f64,
        /// Whose it is.
        by: String,
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
    },
}

impl Body {
    /// The name of the kind, as it is recorded.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Opened(_) => "opened",
            Self::Intent { .. } => "intent",
            Self::Utterance(_) => "utterance",
            Self::GateCalled { .. } => "gate_called",
            Self::GateReturned { .. } => "gate_returned",
            Self::Delegated { .. } => "delegated",
            Self::Observation(_) => "observation",
            Self::Snapshot { .. } => "snapshot",
            Self::Folded { .. } => "folded",
            Self::Approved { .. } => "approved",
            Self::Denied { .. } => "denied",
            Self::Ended(_) => "ended",
            Self::Rewarded { .. } => "rewarded",
            Self::Replayed { .. } => "replayed",
            Self::Adopted { .. } => "adopted",
        }
    }
}

/// The root context of an entity (IDENTITY-4): everything that was decided before its first turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    /// System prompt and sampling parameters.
    pub identity: Identity,
    /// The medium's name.
    pub medium: String,
    /// The digest of the medium's code, where it has any.
    pub medium_digest: Option<String>,
    /// The gates that the entity holds.
    pub gates: Vec<GateRecord>,
    /// The wards in force: parent ∧ proposal ∧ host.
    pub wards: Wards,
    /// When older turns are folded.
    pub folding: Folding,
    /// The model's name; never its keys.
    pub model: String,
    /// The guest's digest, where a guest runs.
    pub guest: Option<String>,
    /// The first intent (INTENT-1).
    pub intent: Payload,
    /// The node that it runs on.
    pub node: String,
    /// How deep below the root it is: 0 for a root.
    pub depth: u32,
    /// The caller's name for the cast.
    pub cast: CastId,
    /// The trace that it belongs to, as W3C trace context.
    pub trace: Option<String>,
    /// The entity that spawned it.
    pub spawned_by: Option<EntityId>,
    /// Where it continues from, for a fork.
    pub fork: Option<Fork>,
    /// The peer that had it cast here; absent for what this node cast itself. What it follows is kept there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
}

/// A page of a medium's memory: its place, and the hash of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRef(pub u32, pub BlobId);

/// How an entity continues another's thread (LOOM-4, LOOM-13).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fork {
    /// Whose thread it continues.
    pub of: EntityId,
    /// How many of its turns are kept.
    pub turns: u64,
    /// How the state of the medium was obtained.
    pub strategy: ForkStrategy,
}

/// How the state of the medium is obtained for a fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForkStrategy {
    /// The recorded utterances run again; gate results come from the record, and no gate is called.
    Replay,
    /// The pages of a snapshot.
    Snapshot,
}

/// What the record keeps of a gate that an entity holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateRecord {
    /// The gate's name.
    pub name: String,
    /// What it may do.
    pub reach: Reach,
    /// What it can expose.
    pub exposure: Exposure,
    /// Whether its results leave the context.
    pub ephemeral: bool,
}

/// What the model said in one turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// Text for people.
    pub content: Option<Payload>,
    /// The model's reasoning, where the provider gives it.
    pub thinking: Option<Payload>,
    /// Calls of gates, or of the medium with code in it.
    pub calls: Vec<CallRecord>,
    /// What it cost.
    pub usage: Usage,
    /// The model as the provider named it.
    pub model: String,
    /// From the question to the answer, retries included, in microseconds.
    pub duration_us: u64,
    /// How often the question was asked again.
    pub retries: u32,
}

/// One call in an utterance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallRecord {
    /// Its id.
    pub id: CallId,
    /// The gate, or the medium's own name for code.
    pub gate: String,
    /// The arguments: JSON text, or what came in its place.
    pub arguments: Payload,
}

/// What came of a gate call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Returned {
    /// The result, as JSON.
    Ok(Payload),
    /// What the entity sees instead.
    Error(GateError),
}

/// What the entity sees of its turn, and what a replay needs to get there again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// One answer for each call of the utterance, in its order; one without a call where the model only spoke.
    pub answers: Vec<Answer>,
    /// How many bytes of output were dropped at the limit.
    pub output_dropped_bytes: u64,
    /// What a replay of a code turn needs.
    pub evaluations: Vec<EvaluationRecord>,
    /// From the utterance to here, in microseconds.
    pub duration_us: u64,
}

/// One answer in an observation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The call that it answers.
    pub call: Option<CallId>,
    /// What the model sees.
    pub content: Payload,
    /// Whether it is a failure.
    pub is_error: bool,
    /// What stands in its place in the context, where the result is ephemeral (PROD-5).
    pub shown_instead: Option<String>,
}

/// What makes an evaluation repeatable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationRecord {
    /// The call whose code ran.
    pub call: CallId,
    /// Feeds the random numbers of the guest.
    pub seed: u64,
    /// Where the guest's clock stood at the start, in microseconds since 1970.
    pub clock_us: u64,
    /// Where the guest's clock stood when each gate returned.
    pub gate_clocks_us: Vec<u64>,
    /// After how many polls it was stopped, where it was.
    pub stopped_at_poll: Option<u64>,
    /// Whether the instance was lost: a replay then skips the evaluation, because nothing of it is left.
    pub lost: bool,
}

/// How an episode ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// Whether the entity ended it, or a ward did (LOOM-7).
    pub how: How,
    /// What was decisive: `done`, `text`, a ward's name, `cancelled`, `parent_terminated`, `model_failed` …
    pub reason: EndReason,
    /// The answer, as JSON.
    pub result: Option<Payload>,
    /// In words what was done, for a truncated episode (LOOP-4), or the failure.
    pub summary: Option<String>,
    /// What was spent in the episode, children included.
    pub spent: Spent,
}

/// Terminated by the entity, or truncated by the circle. Truncation is not an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The entity ended it.
    Terminated,
    /// The circle ended it.
    Truncated,
}

impl How {
    /// The word for it, as it is recorded.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Terminated => "terminated",
            Self::Truncated => "truncated",
        }
    }
}

/// Totals of an episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spent {
    /// Turns of the entity itself.
    pub turns: u64,
    /// Gate calls, children's included.
    pub gate_calls: u64,
    /// Children, theirs included.
    pub children: u64,
    /// Tokens of the entity itself.
    pub usage: Usage,
    /// Tokens of its children.
    pub children_usage: Usage,
    /// Fuel of code media, children's included, where it is counted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fuel: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A text that is kept in the entry, or beside it when it is large.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// In the entry.
    #[serde(rename = "text")]
    Inline(String),
    /// Beside it.
    Blob {
        /// The hash of the text.
        id: BlobId,
        /// Its length.
        bytes: u64,
    },
}

impl Payload {
    /// The text, if it is in the entry.
    pub fn inline(&self) -> Option<&str> {
        match self {
            Self::Inline(text) => Some(text),
            Self::Blob { .. } => None,
        }
    }
}

/// A text kept beside its entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// The hash of the bytes.
    pub id: BlobId,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Blob {
    /// Whether the bytes are what the name says.
    pub fn is_whole(&self) -> bool {
        BlobId::of(&self.bytes) == self.id
    }
}

/// Collects what an entry keeps beside it while its body is built.
#[derive(Debug)]
pub struct Payloads {
    blobs: Vec<Blob>,
    inline_left: usize,
}

impl Default for Payloads {
    fn default() -> Self {
        Self { blobs: Vec::new(), inline_left: INLINE_SUM_BYTES_MAX }
    }
}

impl Payloads {
    /// Keeps a text, in the entry or beside it.
    pub fn text(&mut self, text: &str) -> Payload {
        let is_small = text.len() <= REFERENCE_BYTES || text.len() <= INLINE_BYTES_MAX.min(self.inline_left);
        if is_small {
            self.inline_left = self.inline_left.saturating_sub(text.len());
            return Payload::Inline(text.to_owned());
        }
        let bytes = text.as_bytes().to_vec();
        let id = BlobId::of(&bytes);
        let length = bytes.len() as u64;
        self.blobs.push(Blob { id, bytes });
        Payload::Blob { id, bytes: length }
    }

    /// Keeps a JSON value as its text.
    pub fn json(&mut self, value: &Value) -> Payload {
        self.text(&value.to_string())
    }

    /// What has to be stored beside the entry.
    pub fn into_blobs(self) -> Vec<Blob> {
        self.blobs
    }
}

/// Why bytes are not an entry.
#[derive(Debug, Error)]
pub enum EntryError {
    /// The bytes could not be encoded.
    #[error("encode the entry")]
    Encode(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The bytes are not DAG-CBOR of an entry.
    #[error("decode the entry")]
    Decode(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A version that this code does not know.
    #[error("the entry has format {found}, and this version reads {FORMAT}")]
    Format {
        /// The version in the bytes.
        found: u16,
    },
    /// Larger than any entry is.
    #[error("the entry has {bytes} bytes, and the limit is {ENTRY_BYTES_MAX}")]
    Size {
        /// Its size.
        bytes: usize,
    },
    /// The bytes are readable, but not in the one form that an entry has.
    #[error("the entry is not in canonical form: written again it has other bytes")]
    NotCanonical,
    /// The bytes are not what the id says.
    #[error("the content hashes to {actual}, and its id is {expected}")]
    Hash {
        /// The id that was asked for.
        expected: EntryId,
        /// The id of the bytes.
        actual: EntryId,
    },
}

/// An entry with its encoding: what is stored and sent.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The hash of the bytes.
    pub id: EntryId,
    /// The encoding.
    pub bytes: Vec<u8>,
    /// The decoded entry.
    pub entry: Entry,
    /// The large texts in it.
    pub blobs: Vec<Blob>,
}

impl Sealed {
    /// Encodes an entry and computes its id.
    ///
    /// # Errors
    /// A value that DAG-CBOR cannot hold, or an entry over [`ENTRY_BYTES_MAX`].
    pub fn new(entry: Entry, blobs: Vec<Blob>) -> Result<Self, EntryError> {
        let bytes = serde_ipld_dagcbor::to_vec(&entry).map_err(|error| EntryError::Encode(Box::new(error)))?;
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(EntryError::Size { bytes: bytes.len() });
        }
        Ok(Self { id: EntryId::of(&bytes), bytes, entry, blobs })
    }

    /// The large texts that it refers to.
    pub fn text_ids(&self) -> Vec<BlobId> {
        text_ids(&self.bytes)
    }

    /// Decodes stored bytes and checks that they are what the id says. Its blobs are not loaded.
    ///
    /// # Errors
    /// Bytes that do not hash to `id`, are no entry, or not in canonical form.
    pub fn open(id: EntryId, bytes: Vec<u8>) -> Result<Self, EntryError> {
        let actual = hash(&bytes)?;
        if actual != id {
            return Err(EntryError::Hash { expected: id, actual });
        }
        Self::decode(id, bytes)
    }

    /// Decodes the bytes of an entry whose id nobody has said: it is their hash.
    ///
    /// # Errors
    /// As [`Sealed::open`].
    pub fn read(bytes: Vec<u8>) -> Result<Self, EntryError> {
        Self::decode(hash(&bytes)?, bytes)
    }

    fn decode(id: EntryId, bytes: Vec<u8>) -> Result<Self, EntryError> {
        let entry: Entry =
            serde_ipld_dagcbor::from_slice(&bytes).map_err(|error| EntryError::Decode(Box::new(error)))?;
        if entry.format != FORMAT {
            return Err(EntryError::Format { found: entry.format });
        }
        let again = serde_ipld_dagcbor::to_vec(&entry).map_err(|error| EntryError::Encode(Box::new(error)))?;
        if again != bytes {
            return Err(EntryError::NotCanonical);
        }
        Ok(Self { id, bytes, entry, blobs: Vec::new() })
    }
}

/// The large texts that the bytes of an entry refer to.
pub fn text_ids(bytes: &[u8]) -> Vec<BlobId> {
    let Ok(links) = DagCborCodec::links(bytes) else { return Vec::new() };
    links
        .filter(|link| link.codec() == CODEC_RAW)
        .filter_map(|link| <[u8; 32]>::try_from(link.hash().digest()).ok().map(BlobId::from_digest))
        .collect()
}

/// The id of bytes that are not too long to have one.
fn hash(bytes: &[u8]) -> Result<EntryId, EntryError> {
    if bytes.len() > ENTRY_BYTES_MAX {
        return Err(EntryError::Size { bytes: bytes.len() });
    }
    Ok(EntryId::of(bytes))
}

/// The chained hash of a log: `head(n) = BLAKE3(head(n-1) ‖ id(n))`, from 32 zero bytes. Equal heads mean equal logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// How many entries the log has.
    pub sequence: u64,
    /// The chained hash.
    pub chain: [u8; 32],
}

impl Head {
    /// The head after one more entry.
    #[must_use]
    pub fn after(&self, id: &EntryId) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.chain);
        hasher.update(&id.digest());
        Self { sequence: self.sequence.saturating_add(1), chain: *hasher.finalize().as_bytes() }
    }
}
