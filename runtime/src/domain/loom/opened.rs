//! The root context of an entity, and what changes of it from turn to turn.

use std::collections::BTreeMap;
use std::fmt;

use cantrip_gates::{Exposure, Reach, Wards};
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::said::{Spent, is_false};
use super::text::{Payload, Payloads};
use crate::domain::cantrip::{Folding, Identity, Summary};
use crate::domain::ids::{BlobId, CastId, EntityId, EntryId, LoomId, NodeName, WriterKey};
use crate::domain::members::{AuthorityId, Nonce};
use crate::domain::model::{Sampling, ToolChoice, Usage};
use crate::domain::place::CallPlace;

/// The root context of an entity (IDENTITY-4): everything that was decided before its first turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    /// System prompt and sampling parameters.
    pub identity: IdentityRecord,
    /// The medium's name.
    pub medium: String,
    /// The digest of the medium's code, where it has any.
    pub medium_digest: Option<String>,
    /// The gates that the entity holds.
    pub gates: Vec<GateRecord>,
    /// The wards in force: parent ∧ proposal ∧ host.
    #[serde(deserialize_with = "known_wards")]
    pub wards: Wards,
    /// When older turns are folded.
    #[serde(deserialize_with = "known_folding")]
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
    /// What its id commits to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minted: Option<Minted>,
    /// The entry that delegated it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegated: Option<EntryId>,
    /// Through which nodes it was called, from the root on; empty for what this node cast itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<Origin>,
    /// What is true of it at the start and changes from turn to turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Box<Standing>>,
    /// What its MCP servers were when their tools became its gates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<Pin>,
    /// Who gives the intent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What that one adds to it for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Payload>,
    /// The mode that the intent is given in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The file that the cantrip comes from, as it was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

impl Default for Opened {
    /// An entity with nothing: what a test fills in from.
    fn default() -> Self {
        Self {
            identity: IdentityRecord::default(),
            medium: String::new(),
            medium_digest: None,
            gates: Vec::new(),
            wards: Wards::default(),
            folding: Folding::default(),
            model: String::new(),
            guest: None,
            intent: Payload::default(),
            node: String::new(),
            depth: 0,
            cast: CastId::from_bytes([0; 16]),
            trace: None,
            spawned_by: None,
            fork: None,
            caller: None,
            minted: None,
            delegated: None,
            origins: Vec::new(),
            standing: None,
            pins: Vec::new(),
            by: None,
            note: None,
            mode: None,
            file: None,
        }
    }
}

/// An identity as it is recorded.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct IdentityRecord {
    /// The system prompt.
    pub system_prompt: Option<Payload>,
    /// The sampling parameters.
    pub sampling: Sampling,
    /// Whether a call is required; nothing: as the medium says.
    pub tool_choice: Option<ToolChoice>,
}

impl IdentityRecord {
    /// The record of an identity.
    pub fn new(identity: &Identity, payloads: &mut Payloads) -> Self {
        Self {
            system_prompt: identity.system_prompt().map(|text| payloads.text(text)),
            sampling: identity.sampling().clone(),
            tool_choice: identity.tool_choice(),
        }
    }

    /// The identity, with the text of its system prompt.
    pub fn identity(&self, system_prompt: Option<String>) -> Identity {
        Identity::new(system_prompt, self.sampling.clone(), self.tool_choice)
    }
}

/// Reads the wards that this version knows. Others are kept as what it does not know, and an entity that has some is not gone on with.
fn known_wards<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Wards, D::Error> {
    struct Known;

    impl<'de> Visitor<'de> for Known {
        type Value = Wards;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("a map of wards")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Wards, A::Error> {
            let mut known = serde_json::Map::new();
            while let Some(name) = map.next_key::<String>()? {
                if Wards::NAMES.contains(&name.as_str()) {
                    known.insert(name, map.next_value()?);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Wards::from_value(&serde_json::Value::Object(known)).map_err(|error| A::Error::custom(error.full_message()))
        }
    }

    deserializer.deserialize_map(Known)
}

/// Reads how turns are folded, whatever else a later version says of it. Files are read more strictly.
fn known_folding<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Folding, D::Error> {
    #[derive(Deserialize)]
    struct Known {
        #[serde(default)]
        trigger_after_turns: Option<u64>,
        trigger_at_percent: u64,
        keep_turns: u64,
        summary: Summary,
    }

    let Known { trigger_after_turns, trigger_at_percent, keep_turns, summary } = Known::deserialize(deserializer)?;
    Ok(Folding { trigger_after_turns, trigger_at_percent, keep_turns, summary })
}

/// What the id of an entity commits to, beside its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Minted {
    /// Who made the id.
    pub by: WriterKey,
    /// The random part.
    pub nonce: Nonce,
}

/// A node through which an entity was called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its name.
    pub node: NodeName,
    /// Who vouches for the name; nothing where the caller named none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<AuthorityId>,
}

/// What an MCP server was when its tools were taken as gates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The server's name in the file.
    pub server: String,
    /// The digest of what it offers.
    pub digest: String,
    /// The version that it names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// What is true of an entity at one moment, so that a resumed run goes on as the uncut run would. What is absent is as it was.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Standing {
    /// Where its model and its gates are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// What it has met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposure: Option<Exposure>,
    /// For how long a process has had it, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent_us: Option<u64>,
    /// How long its caller still waits, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_us: Option<u64>,
    /// How long it goes on without a word of its caller, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// What the host's files allowed when it was granted, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Payload>,
    /// Tokens of questions that code asked by `llm_query`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_usage: Option<Usage>,
    /// Tokens of questions that were asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_usage: Option<Usage>,
    /// Whether some of these tokens are estimated.
    #[serde(default, skip_serializing_if = "is_false")]
    pub estimated: bool,
    /// What its questions cost, in billionths of the currency of the prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_nano: Option<u64>,
    /// What it and its children have spent; what is set aside for those whose end is unknown counts as gate calls and children.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent: Option<Spent>,
    /// What is set aside for children whose end is unknown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reserves: Vec<Reserve>,
}

/// Where the model and the gates of an entity are, as far as they are not here.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Placement {
    /// Where its model is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<CallPlace>,
    /// Where its gates run, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gates: BTreeMap<String, CallPlace>,
}

/// What is set aside for a child whose end is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserve {
    /// The child.
    pub child: EntityId,
    /// Its tokens.
    pub tokens: u64,
    /// Its gate calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate_calls: Option<u64>,
    /// Its own children.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub children: Option<u64>,
}

impl Reserve {
    /// The tokens of them all.
    pub fn tokens_of(all: &[Self]) -> u64 {
        all.iter().fold(0, |sum, reserve| sum.saturating_add(reserve.tokens))
    }
}

/// How an entity continues another's thread (LOOM-4, LOOM-13).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fork {
    /// Whose thread it continues.
    pub of: EntityId,
    /// How many of its turns are kept.
    pub turns: u64,
    /// How the state of the medium was obtained.
    pub strategy: ForkStrategy,
    /// Where that thread is, if it is of another loom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Box<ForkSource>>,
}

/// A thread of another loom, kept as a text of the entity that continues it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkSource {
    /// The loom that it is of.
    pub loom: LoomId,
    /// The entry that it was forked behind; nothing: before its first turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<EntryId>,
    /// The pieces of the thread, with all that proves it, one behind the other.
    pub pieces: Vec<BlobId>,
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
