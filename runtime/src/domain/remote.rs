//! Work for another node: what is asked of a host, and what the host grants of it.
//!
//! Owns the rule that nothing widens on its way: a host meets the wards that it is sent with its own ceiling for that peer,
//! and refuses what the ceiling does not hold. Knows no wire and no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cantrip_gates::{Exposure, GateError, GateSpec, Wards, suggest};

use crate::domain::limits::CAST_DEPTH_MAX;

use super::cantrip::{Folding, Identity};
use super::circle::RuntimeGate;
use super::guest::LLM_QUERY;
use super::ids::{CastId, EntityId, EntryId, LoomId, NodeAddress, NodeName, WriterKey};
use super::loom::{Minted, Origin};
use super::members::{Attestation, Principal, ProvedEntry};
use super::place::CallPlace;

/// Which node runs a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// One of these; with several, the one that has least to do.
    OneOf(Vec<NodeAddress>),
    /// Any that grants it; the one that has least to do.
    Any,
}

impl From<&Place> for CallPlace {
    fn from(place: &Place) -> Self {
        match place {
            Place::OneOf(nodes) => Self::Nodes(nodes.clone()),
            Place::Any => Self::Any,
        }
    }
}

/// A gate of an order.
#[derive(Debug, Clone, PartialEq)]
pub struct GateOrder {
    /// Its name.
    pub name: String,
    /// How it is declared, where its calls come back to the caller; otherwise the host's own gate of that name is meant.
    pub at_caller: Option<GateSpec>,
}

impl GateOrder {
    /// Checks where it is placed.
    ///
    /// # Errors
    /// A gate at the caller that the runtime itself runs, or that is declared under another name than it is asked for.
    pub fn check(&self) -> Result<(), Refusal> {
        let Some(spec) = &self.at_caller else { return Ok(()) };
        let refused = |what: String| Err(Refusal::new("gates", GateError::Invalid(what)));
        if RuntimeGate::named(&self.name).is_some() {
            return refused(format!("the gate `{}` runs where the entity runs: leave `at` out", self.name));
        }
        if spec.name.as_str() != self.name {
            return refused(format!("the gate `{}` is declared as `{}`", self.name, spec.name.as_str()));
        }
        Ok(())
    }
}

/// The model of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelOrder {
    /// One of the host's, by the name that it has there; without a name, the host's default.
    AtHost(Option<String>),
    /// The caller's: questions come back.
    AtCaller {
        /// Its name, for the record.
        name: String,
        /// The length of its context in tokens, where known.
        context_tokens: Option<u64>,
        /// Whether its provider keeps `tool_choice = required`.
        can_require_calls: bool,
    },
}

/// A cantrip as it travels: names instead of things, and nothing secret.
#[derive(Debug, Clone, PartialEq)]
pub struct CantripOrder {
    /// Who the entity is.
    pub identity: Identity,
    /// Its medium; absent: the conversation, or the guest.
    pub medium: Option<String>,
    /// `name@sha256:…`, where a guest is the cantrip or its medium.
    pub guest: Option<String>,
    /// Its gates.
    pub gates: Vec<GateOrder>,
    /// parent ∧ proposal, with what is left of what is spent by the whole tree.
    pub wards: Wards,
    /// When its past is folded.
    pub folding: Folding,
    /// Its model.
    pub model: ModelOrder,
}

/// Which ids the host mints for a caller that has no record, and so no key, of its own. What stands in their place is not sent; the
/// caller is told the ids when the order is accepted, and the same ones for the same cast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ByHost {
    /// None: the caller has minted them.
    #[default]
    Nothing,
    /// The entity's: the loom is there already.
    Entity,
    /// Both: the host founds the loom.
    LoomAndEntity,
}

/// One episode that another node is asked to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// The caller's name for the episode: the same one never runs twice.
    pub cast: CastId,
    /// The loom that it is recorded in.
    pub loom: LoomId,
    /// The entity.
    pub entity: EntityId,
    /// What the entity's id commits to; nothing where the host knows the entity.
    pub minted: Option<Minted>,
    /// Which of the two ids the host mints.
    pub by_host: ByHost,
    /// What it follows; nothing for a root.
    pub parent: Option<EntryId>,
    /// Who spawned it.
    pub spawned_by: Option<EntityId>,
    /// How deep below the root it is.
    pub depth: u32,
    /// What it is.
    pub cantrip: CantripOrder,
    /// What it is to do.
    pub intent: String,
    /// W3C trace context.
    pub trace: Option<String>,
    /// How long it may take, wards aside.
    pub deadline: Option<Duration>,
    /// After which silence of the caller the host stops it; absent: the host's default.
    pub lease: Option<Duration>,
    /// Whether the entity exists and this is a further intent.
    pub again: bool,
    /// Whether the entity is kept for further intents.
    pub keep: bool,
    /// The thread that it continues, and how many turns of it.
    pub fork: Option<(EntityId, u64)>,
    /// What its caller has met.
    pub seen: Exposure,
    /// What shows that the host may open the entity.
    pub credentials: Arc<Credentials>,
    /// Through which nodes it was called, from the root on. A host adds the node that it is called by.
    pub origins: Vec<Origin>,
}

/// The rule by which an order is refused whose host was not admitted for it.
pub const MEMBERS: &str = "members";

/// What shows a host that it may open an entity that its caller has minted. Nothing of it is believed before it is checked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Credentials {
    /// Proved entries: the loom's founding, the admissions that lead from there to the host's, and the entry that delegates the entity.
    pub proofs: Vec<ProvedEntry>,
    /// What vouches for the keys of their writers, and for the host's.
    pub attestations: Vec<Attestation>,
}

/// As whom a host writes, as far as its caller could check it.
#[derive(Debug, Clone, PartialEq)]
pub struct HostIdentity {
    /// The key under which it writes.
    pub key: WriterKey,
    /// Whose key that is: a node's whose certificate the connection has shown too, or nobody else's than its own.
    pub principal: Principal,
    /// What says so.
    pub attestations: Vec<Attestation>,
}

/// Why a host does not run an order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}{}", if rule == BY_HOST { String::new() } else { format!(" (rule: {rule})") })]
pub struct Refusal {
    /// The rule, as a person finds it: a key of the node's file.
    pub rule: String,
    /// What is refused, and what would be granted.
    pub error: GateError,
}

/// Stands in place of a rule where none of the node's file is in the way, but something that happened there.
pub const BY_HOST: &str = "host";

impl Refusal {
    /// Whether a key of the node's file is in the way.
    pub fn is_by_rule(&self) -> bool {
        self.rule != BY_HOST
    }

    /// A refusal by a rule.
    pub fn new(rule: impl Into<String>, error: GateError) -> Self {
        Self { rule: rule.into(), error }
    }
}

/// What a host lets one peer do.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the node's file")]
pub struct Ceiling {
    /// Where it is written, such as `peers.analysis`.
    pub rule: String,
    /// Whether it may cast.
    pub cast: bool,
    /// Whether it may bring guests.
    pub deploy: bool,
    /// What no circle of it may exceed.
    pub wards: Wards,
    /// The host's gates that it may use; `done` needs no permission.
    pub gates: BTreeSet<String>,
    /// Whether gates may be placed at the caller.
    pub gates_at_caller: bool,
    /// On which nodes its entities may have children cast.
    pub nodes: Onward,
    /// The host's models that it may use.
    pub models: BTreeSet<String>,
    /// The one of them that is meant where none is named.
    pub default_model: Option<String>,
    /// Whether the model may be placed at the caller.
    pub model_at_caller: bool,
    /// The digests of the guests that it may run; absent: all that are kept here.
    pub guests: Option<BTreeSet<String>>,
    /// Nodes through which nothing that it has run here may have been called, each with the key that says so.
    pub refuse_origins: BTreeMap<NodeName, String>,
}

/// The nodes on which the entities of a caller may have children cast: with each hop at most what the one before had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Onward {
    /// All that this node is connected to.
    All,
    /// Those that its part of the node file names.
    Only(BTreeSet<NodeName>),
}

impl Default for Onward {
    fn default() -> Self {
        Self::Only(BTreeSet::new())
    }
}

impl Onward {
    /// Those of these nodes that are allowed.
    pub fn of(&self, known: &[NodeAddress]) -> Vec<NodeAddress> {
        let allows = |node: &&NodeAddress| match self {
            Self::All => true,
            Self::Only(names) => names.contains(node.name()),
        };
        known.iter().filter(allows).cloned().collect()
    }
}

/// A gate that is granted, as what runs it. Whoever makes the cantrip goes by this and not by the name again.
#[derive(Debug, Clone, PartialEq)]
pub enum GrantedGate {
    /// The runtime.
    Runtime(RuntimeGate),
    /// The host's own gate of this name.
    Host(String),
    /// The caller, who declares it so.
    Caller(Box<GateSpec>),
}

/// What is granted of an order.
#[derive(Debug, Clone, PartialEq)]
pub struct Granted {
    /// parent ∧ proposal ∧ host.
    pub wards: Wards,
    /// Its gates, each once.
    pub gates: Vec<GrantedGate>,
    /// Where its children may be cast.
    pub nodes: Onward,
    /// The host's model, by its name here; absent: at the caller, or none is needed.
    pub model: Option<String>,
}

impl Ceiling {
    /// Says what an order may be.
    ///
    /// # Errors
    /// The first rule that refuses, with what it would let through.
    pub fn grant(&self, order: &Order) -> Result<Granted, Refusal> {
        let rule = |key: &str| format!("{}.{key}", self.rule);
        if !self.cast {
            let error = GateError::Denied("this peer may not cast here".to_owned());
            return Err(Refusal::new(rule("may"), error));
        }
        let refused =
            order.origins.iter().find_map(|origin| Some((&origin.node, self.refuse_origins.get(&origin.node)?)));
        if let Some((node, key)) = refused {
            let error =
                GateError::Denied(format!("it was called through the node {node}, and nothing from there runs here"));
            return Err(Refusal::new(key.as_str(), error));
        }
        if order.depth > CAST_DEPTH_MAX {
            let error = GateError::Denied(format!("an entity at depth {}; the limit is {CAST_DEPTH_MAX}", order.depth));
            return Err(Refusal::new("depth", error));
        }
        let cantrip = &order.cantrip;
        let (mut names, mut gates) = (BTreeSet::new(), Vec::with_capacity(cantrip.gates.len()));
        for gate in &cantrip.gates {
            if !names.insert(gate.name.as_str()) {
                let error = GateError::Invalid(format!("the gate `{}` is asked for twice", gate.name));
                return Err(Refusal::new("gates", error));
            }
            gates.push(self.gate(gate)?);
        }
        if let (Some(guest), Some(allowed)) = (&cantrip.guest, &self.guests) {
            let digest = guest.rsplit_once('@').map_or(guest.as_str(), |(_, digest)| digest);
            if !allowed.contains(digest) {
                let error = GateError::Denied(format!("the guest {guest} is none of those that this peer may run"));
                return Err(Refusal::new(rule("guests"), error));
            }
        }
        let model = self.model(cantrip)?;
        Ok(Granted { wards: cantrip.wards.meet(&self.wards), gates, nodes: self.nodes.clone(), model })
    }

    fn gate(&self, gate: &GateOrder) -> Result<GrantedGate, Refusal> {
        let name = gate.name.as_str();
        let runtime = RuntimeGate::named(name);
        if let Some(spec) = &gate.at_caller {
            gate.check()?;
            if self.gates_at_caller {
                return Ok(GrantedGate::Caller(Box::new(spec.clone())));
            }
            let error = GateError::Denied(format!(
                "the gate `{name}` is placed at the caller, and this host runs no such gates"
            ));
            return Err(Refusal::new(format!("{}.gates_at_caller", self.rule), error));
        }
        match runtime {
            Some(gate) if gate == RuntimeGate::Done || self.gates.contains(name) => {
                return Ok(GrantedGate::Runtime(gate));
            }
            None if self.gates.contains(name) => return Ok(GrantedGate::Host(name.to_owned())),
            Some(_) | None => {}
        }
        let known = listed(self.gates.iter().map(String::as_str));
        let hint = suggest::hint(name, self.gates.iter().map(String::as_str));
        let error = GateError::Denied(format!("this host does not grant the gate `{name}`; it grants {known}{hint}"));
        Err(Refusal::new(format!("{}.gates", self.rule), error))
    }

    fn model(&self, cantrip: &CantripOrder) -> Result<Option<String>, Refusal> {
        let rule = format!("{}.models", self.rule);
        match &cantrip.model {
            ModelOrder::AtCaller { .. } if self.model_at_caller => Ok(None),
            ModelOrder::AtCaller { .. } => {
                let error = GateError::Denied(
                    "the model is placed at the caller, and this host does not ask callers".to_owned(),
                );
                Err(Refusal::new(format!("{}.model_at_caller", self.rule), error))
            }
            ModelOrder::AtHost(Some(name)) if self.models.contains(name) => Ok(Some(name.clone())),
            ModelOrder::AtHost(Some(name)) => {
                let known = listed(self.models.iter().map(String::as_str));
                let hint = suggest::hint(name, self.models.iter().map(String::as_str));
                let what = format!("this host has no model `{name}` for this peer; it has {known}{hint}");
                Err(Refusal::new(rule, GateError::NotFound(what)))
            }
            ModelOrder::AtHost(None) => match &self.default_model {
                Some(name) => Ok(Some(name.clone())),
                // A guest does not need one, unless it says so.
                None if cantrip.guest.is_some() && !cantrip.gates.iter().any(|gate| gate.name == LLM_QUERY) => Ok(None),
                None => {
                    let known = listed(self.models.iter().map(String::as_str));
                    let what = format!("no model is named, and this host has no default for this peer; it has {known}");
                    Err(Refusal::new(rule, GateError::NotFound(what)))
                }
            },
        }
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
