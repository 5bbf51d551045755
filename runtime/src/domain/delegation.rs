//! Children: what may be proposed, and what a proposal becomes.
//!
//! A child's circle is its own (COMP-1), but never wider than what stands above it: its wards are the meet of the parent's
//! and the proposal's (WARD-1), its gates come from what the cantrip's author has equipped, and depth falls by one a
//! level (COMP-6).

use std::collections::BTreeSet;

use cantrip_gates::{GateError, GateSpec, Wards, suggest};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::cantrip::Identity;
use super::circle::{
    CANTRIP_CAST, CANTRIP_CAST_BATCH, CANTRIP_NEW, Circle, CircleDraft, DONE, JAVASCRIPT, MediumKind, RuntimeGate,
    canonical_medium, delegates,
};
use super::ids::NodeAddress;
use super::model::Sampling;
use super::remote::{GateOrder, Place};

/// The prompt of a child that was given none: never the parent's (COMP-10).
pub const GENERIC_PROMPT: &str =
    "You are a helpful assistant working on one task. Use the gates you have, and end by calling done with the answer.";
/// The key under which `cantrip.new` hands a proposal back to the code.
const HANDLE: &str = "$cantrip";

/// What a parent proposes for a child.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Proposal {
    /// What the child is to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intent: Option<String>,
    /// Anything it should know; shown below the intent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Value>,
    /// Its system prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// Its identity, in the long form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<ProposedIdentity>,
    /// Its model, by the name that the cantrip gives it; for a child elsewhere, by the name that it has there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub llm: Option<ProposedModel>,
    /// Its medium.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub medium: Option<String>,
    /// A guest that works in a model's place, by `name@sha256:…`; for a child elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest: Option<String>,
    /// Its gates: exactly these, and `done`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gates: Option<Vec<ProposedGate>>,
    /// Its wards, as a list or an object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wards: Option<Value>,
    /// Its circle, in the long form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circle: Option<ProposedCircle>,
    /// The node that it should run on: a name, a list of which the least busy is taken, or `any`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<ProposedNode>,
}

/// Where a child should run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a node's name, a list of them, or \"any\"")]
pub enum ProposedNode {
    /// One node, or `any`.
    One(String),
    /// The least busy of these.
    OneOf(Vec<String>),
}

/// A gate in a proposal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a gate's name, or {name, at}")]
pub enum ProposedGate {
    /// Where the child runs.
    Name(String),
    /// Where it says.
    Placed(PlacedGate),
}

/// A gate with its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacedGate {
    /// The gate.
    pub name: String,
    /// Where its calls run.
    #[serde(default)]
    pub at: At,
}

/// A model in a proposal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a model's name, or {name, at}")]
pub enum ProposedModel {
    /// By its name.
    Name(String),
    /// Where it says.
    Placed(PlacedModel),
}

/// A model with its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacedModel {
    /// Its name; absent: the default of the place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it is asked.
    #[serde(default)]
    pub at: At,
}

/// Where a gate or a model of a child elsewhere is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum At {
    /// With the child.
    #[default]
    Host,
    /// With whoever casts it.
    Caller,
}

impl ProposedGate {
    fn name(&self) -> &str {
        match self {
            Self::Name(name) | Self::Placed(PlacedGate { name, .. }) => name,
        }
    }

    const fn is_at_caller(&self) -> bool {
        matches!(self, Self::Placed(PlacedGate { at: At::Caller, .. }))
    }
}

impl ProposedModel {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Placed(PlacedModel { name, .. }) => name.as_deref(),
        }
    }

    const fn is_at_caller(&self) -> bool {
        matches!(self, Self::Placed(PlacedModel { at: At::Caller, .. }))
    }
}

/// The long form of an identity.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProposedIdentity {
    /// The system prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// The sampling temperature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
}

/// The long form of a circle.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProposedCircle {
    /// The medium.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub medium: Option<String>,
    /// The gates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gates: Option<Vec<ProposedGate>>,
    /// The wards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wards: Option<Value>,
}

/// A child that may be cast.
#[derive(Debug)]
pub struct ChildPlan {
    /// What it is told.
    pub intent: String,
    /// Who it is.
    pub identity: Identity,
    /// Where it works.
    pub work: Work,
}

/// Where a child works.
#[derive(Debug)]
pub enum Work {
    /// On this node.
    Here {
        /// Its circle.
        circle: Box<Circle>,
        /// Its model, where it is not the parent's.
        model: Option<String>,
    },
    /// On another node.
    There(Box<There>),
}

/// What a child elsewhere is sent with. Its circle is made there.
#[derive(Debug)]
pub struct There {
    /// Which node.
    pub place: Place,
    /// Its medium.
    pub medium: Option<String>,
    /// The guest that is the cantrip.
    pub guest: Option<String>,
    /// Its gates.
    pub gates: Vec<GateOrder>,
    /// parent ∧ proposal.
    pub wards: Wards,
    /// Its model there, or one of this node's.
    pub model: ThereModel,
}

/// The model of a child elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ThereModel {
    /// One of the host's.
    AtHost(Option<String>),
    /// One of this cantrip's; absent: the parent's own.
    AtCaller(Option<String>),
}

/// What a parent has to give.
#[derive(Debug, Clone, Copy)]
pub struct Grant<'a> {
    /// The parent's circle.
    pub circle: &'a Circle,
    /// Every gate that the cantrip's author has equipped, held by the parent or not.
    pub equipped: &'a [GateSpec],
    /// The code media of this host.
    pub code_media: &'a [String],
    /// The models that the cantrip names.
    pub models: &'a [String],
    /// The nodes that this one is connected to.
    pub nodes: &'a [NodeAddress],
}

fn invalid(what: impl Into<String>) -> GateError {
    GateError::Invalid(what.into())
}

impl Proposal {
    /// Reads a proposal from a gate's arguments.
    ///
    /// # Errors
    /// An unknown key, or a value of the wrong type.
    pub fn parse(value: &Value) -> Result<Self, GateError> {
        let value = match value.get(HANDLE) {
            Some(inner) => inner,
            None => value,
        };
        serde_json::from_value(value.clone()).map_err(|error| invalid(format!("the child's proposal: {error}")))
    }

    fn wards(&self) -> Result<Wards, GateError> {
        let long = self.circle.as_ref().and_then(|circle| circle.wards.as_ref());
        [self.wards.as_ref(), long].into_iter().flatten().try_fold(Wards::default(), |sum, value| {
            let wards = Wards::from_value(value).map_err(|error| invalid(format!("the child's wards: {error}")))?;
            Ok(sum.meet(&wards))
        })
    }

    fn gates(&self) -> Option<&Vec<ProposedGate>> {
        self.gates.as_ref().or_else(|| self.circle.as_ref().and_then(|circle| circle.gates.as_ref()))
    }

    fn media(&self) -> Vec<String> {
        let long = self.circle.as_ref().and_then(|circle| circle.medium.clone());
        self.medium.iter().cloned().chain(long).collect()
    }

    fn identity(&self) -> Identity {
        let long = self.identity.as_ref();
        let prompt = self.system_prompt.clone().or_else(|| long.and_then(|identity| identity.system_prompt.clone()));
        let sampling = Sampling { temperature: long.and_then(|identity| identity.temperature), ..Sampling::default() };
        Identity::new(Some(prompt.unwrap_or_else(|| GENERIC_PROMPT.to_owned())), sampling, None)
    }

    /// Makes a child of a proposal.
    ///
    /// # Errors
    /// What the proposal asks for and the parent cannot give, with what it could.
    pub fn plan(&self, grant: Grant<'_>) -> Result<ChildPlan, GateError> {
        let intent = self
            .intent
            .as_deref()
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| invalid("call_entity: intent is required"))?;
        let intent = match &self.context {
            None | Some(Value::Null) => intent.to_owned(),
            Some(Value::String(text)) => format!("{intent}\n\nContext:\n{text}"),
            Some(value) => format!("{intent}\n\nContext:\n{value}"),
        };
        let identity = self.identity();
        let work = match &self.node {
            None => self.here(grant)?,
            Some(node) => Work::There(Box::new(self.there(place(node, grant.nodes)?, grant)?)),
        };
        Ok(ChildPlan { intent, identity, work })
    }

    fn here(&self, grant: Grant<'_>) -> Result<Work, GateError> {
        if self.guest.is_some() {
            return Err(invalid("the child's proposal: `guest` is for children on another node: name it with `node`"));
        }
        // Whoever casts a child here is where it runs.
        let model = self.llm.as_ref().and_then(ProposedModel::name).map(str::to_owned);
        if let Some(name) = &model {
            Self::known_model(name, grant)?;
        }
        Ok(Work::Here { circle: Box::new(self.circle(grant)?), model })
    }

    fn known_model(name: &str, grant: Grant<'_>) -> Result<(), GateError> {
        if grant.models.iter().any(|known| known == name) {
            return Ok(());
        }
        let known = if grant.models.is_empty() { "none beside its own".to_owned() } else { grant.models.join(", ") };
        Err(GateError::NotFound(format!(
            "this cantrip names no model `{name}`; it names {known}{}",
            suggest::hint(name, grant.models.iter().map(String::as_str))
        )))
    }

    /// The wards of a child: never wider than its parent's, defaults included.
    fn narrowed(&self, parent: &Circle) -> Result<Wards, GateError> {
        let mut wards = parent.wards().to_wards().meet(&self.wards()?);
        // The parent's own depth is what its children may at most have, less the level between them.
        let below = parent.wards().max_depth.saturating_sub(1);
        wards.max_depth = Some(wards.max_depth.map_or(below, |depth| depth.min(below)));
        Ok(wards)
    }

    fn there(&self, place: Place, grant: Grant<'_>) -> Result<There, GateError> {
        let parent = grant.circle;
        let wards = self.narrowed(parent)?;
        let mut media = self.media();
        media.dedup();
        let medium = match (media.as_slice(), parent.medium()) {
            ([], _) if self.guest.is_some() => None,
            // Another node need not have the medium that a cantrip brings.
            ([], MediumKind::Conversation | MediumKind::Guest(_)) => None,
            ([], MediumKind::Code(name)) => (name == JAVASCRIPT).then(|| name.clone()),
            ([one], _) => Some(one.clone()),
            (several, _) => {
                let several = several.join(" and ");
                return Err(invalid(format!(
                    "the child's circle: exactly one medium, and this one declares {several}"
                )));
            }
        };
        if let (Some(allowed), Some(medium)) = (&parent.declared().child_media, &medium)
            && !allowed.contains(canonical_medium(medium))
        {
            return Err(medium_denied(canonical_medium(medium), allowed));
        }
        let model = match &self.llm {
            None => ThereModel::AtHost(None),
            Some(model) if model.is_at_caller() => {
                if let Some(name) = model.name() {
                    Self::known_model(name, grant)?;
                }
                ThereModel::AtCaller(model.name().map(str::to_owned))
            }
            Some(model) => ThereModel::AtHost(model.name().map(str::to_owned)),
        };
        Ok(There { place, medium, guest: self.guest.clone(), gates: self.gates_there(grant)?, wards, model })
    }

    /// The gates of a child elsewhere: the host says what it grants of its own, and what stays here has to be equipped here.
    fn gates_there(&self, grant: Grant<'_>) -> Result<Vec<GateOrder>, GateError> {
        let allowed = grant.circle.declared().child_gates.as_ref();
        let permitted = |name: &str| name == DONE || allowed.is_none_or(|names| names.contains(name));
        let held: Vec<ProposedGate>;
        let asked: &[ProposedGate] = if let Some(asked) = self.gates() {
            asked
        } else {
            let names = grant.circle.gates().map(|spec| spec.name.to_string()).filter(|name| permitted(name));
            held = names.map(ProposedGate::Name).collect();
            &held
        };
        let mut names: BTreeSet<&str> = BTreeSet::new();
        let mut gates = vec![GateOrder { name: DONE.to_owned(), at_caller: None }];
        for gate in asked {
            let name = gate.name();
            if gate.is_at_caller() && RuntimeGate::named(name).is_some() {
                return Err(invalid(format!("the gate `{name}` runs where the child runs: leave `at` out")));
            }
            if name == DONE || !names.insert(name) {
                continue;
            }
            if !permitted(name) {
                return Err(GateError::Denied(format!("the ward child_gates does not allow the gate `{name}`")));
            }
            let at_caller = if gate.is_at_caller() { Some(Self::equipped(name, grant)?.clone()) } else { None };
            gates.push(GateOrder { name: name.to_owned(), at_caller });
        }
        Ok(gates)
    }

    fn equipped<'a>(name: &str, grant: Grant<'a>) -> Result<&'a GateSpec, GateError> {
        let known = || grant.equipped.iter().map(|spec| spec.name.as_str());
        grant.equipped.iter().find(|spec| spec.name.as_str() == name).ok_or_else(|| {
            GateError::NotFound(format!(
                "no gate `{name}` is equipped for children; there are {}{}",
                known().collect::<Vec<_>>().join(", "),
                suggest::hint(name, known())
            ))
        })
    }

    fn circle(&self, grant: Grant<'_>) -> Result<Circle, GateError> {
        let parent = grant.circle;
        let wards = self.narrowed(parent)?;
        let media = match self.media() {
            // A guest's children have a model: nothing else could be said to them.
            none if none.is_empty() && matches!(parent.medium(), MediumKind::Guest(_)) => Vec::new(),
            none if none.is_empty() => vec![parent.medium().name().to_owned()],
            some => some,
        };
        let gates = self.child_gates(grant)?;
        let draft = CircleDraft { media, gates, wards, ..CircleDraft::default() };
        let circle = Circle::new(draft, grant.code_media, false)
            .map_err(|error| invalid(format!("the child's circle: {error}")))?;
        if let Some(allowed) = &parent.declared().child_media
            && !allowed.contains(circle.medium().name())
        {
            return Err(medium_denied(circle.medium().name(), allowed));
        }
        Ok(circle)
    }

    fn child_gates(&self, grant: Grant<'_>) -> Result<Vec<GateSpec>, GateError> {
        let allowed = grant.circle.declared().child_gates.as_ref();
        let permitted = |name: &str| name == DONE || allowed.is_none_or(|names| names.contains(name));
        let Some(asked) = self.gates() else {
            // Without a list the child holds what its parent holds, within what the ward lets through.
            return Ok(grant.circle.gates().filter(|spec| permitted(spec.name.as_str())).cloned().collect());
        };
        let mut names: BTreeSet<&str> = BTreeSet::new();
        let mut gates = Vec::new();
        for name in std::iter::once(DONE).chain(asked.iter().map(ProposedGate::name)) {
            if !names.insert(name) {
                continue;
            }
            if !permitted(name) {
                return Err(GateError::Denied(format!("the ward child_gates does not allow the gate `{name}`")));
            }
            match Self::equipped(name, grant) {
                Ok(spec) => gates.push(spec.clone()),
                Err(_) if delegates(name) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(gates)
    }
}

fn medium_denied(medium: &str, allowed: &BTreeSet<String>) -> GateError {
    let allowed = allowed.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    GateError::Denied(format!("the ward child_media does not allow the medium `{medium}`; it allows {allowed}"))
}

/// The nodes that a proposal means, by their whole names. A name that is not known goes no further.
fn place(node: &ProposedNode, known: &[NodeAddress]) -> Result<Place, GateError> {
    let whole = |name: &str| {
        let found = known.iter().find(|node| node.is_meant_by(name));
        found.cloned().ok_or_else(|| no_node(name, known))
    };
    match node {
        ProposedNode::One(any) if any == "any" => {
            if known.is_empty() {
                Err(no_node(any, known))
            } else {
                Ok(Place::Any)
            }
        }
        ProposedNode::One(name) => Ok(Place::OneOf(vec![whole(name)?])),
        ProposedNode::OneOf(names) if names.is_empty() => Err(invalid("the child's proposal: `node` is an empty list")),
        ProposedNode::OneOf(names) => names.iter().map(|name| whole(name)).collect::<Result<_, _>>().map(Place::OneOf),
    }
}

fn no_node(name: &str, known: &[NodeAddress]) -> GateError {
    if known.is_empty() {
        return GateError::NotFound(format!(
            "there is no node \"{name}\": this runtime has no peers, so children run here; leave `node` out"
        ));
    }
    let known: Vec<String> = known.iter().map(NodeAddress::to_string).collect();
    let (listed, hint) = (known.join(", "), suggest::hint(name, known.iter().map(String::as_str)));
    GateError::NotFound(format!("there is no node `{name}`; this node knows {listed}{hint}"))
}

/// What a call of a delegating gate asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// `cantrip.new`: checks a proposal and hands it back.
    New(Proposal),
    /// One child.
    One(Proposal),
    /// Several at once.
    Many(Vec<Value>),
}

/// Brings the arguments of all forms into the one of `call_entity` and `call_entity_batch`.
///
/// # Errors
/// Arguments that are none of the forms.
pub fn arguments(name: &str, positional: Vec<Value>) -> Result<Value, GateError> {
    let mut positional = positional.into_iter();
    match name {
        CANTRIP_NEW => match positional.next() {
            Some(Value::Object(map)) => Ok(Value::Object(map)),
            _ => Err(invalid(
                "cantrip.new: expected an object such as {identity: {system_prompt}, circle: {medium, gates, wards}}",
            )),
        },
        CANTRIP_CAST => cast_form(positional.next(), positional.next()),
        CANTRIP_CAST_BATCH => match positional.next() {
            Some(Value::Array(items)) => {
                let requests: Result<Vec<Value>, GateError> = items
                    .into_iter()
                    .map(|item| match item {
                        Value::Object(mut map) if map.contains_key("cantrip") => {
                            cast_form(map.remove("cantrip"), map.remove("intent"))
                        }
                        other @ (Value::Null
                        | Value::Bool(_)
                        | Value::Number(_)
                        | Value::String(_)
                        | Value::Array(_)
                        | Value::Object(_)) => Ok(other),
                    })
                    .collect();
                Ok(json!({ "requests": requests? }))
            }
            _ => Err(invalid("cantrip.cast_batch: expected a list of {cantrip, intent}")),
        },
        // In code the arguments stand alone: a list of requests, or an intent.
        _ => Ok(match positional.next() {
            Some(Value::Array(requests)) => json!({ "requests": requests }),
            Some(Value::String(intent)) => json!({ "intent": intent }),
            other => other.unwrap_or(Value::Null),
        }),
    }
}

fn cast_form(cantrip: Option<Value>, intent: Option<Value>) -> Result<Value, GateError> {
    let Some(Value::Object(mut map)) = cantrip.map(|value| match value {
        Value::Object(mut map) if map.contains_key(HANDLE) => map.remove(HANDLE).unwrap_or(Value::Null),
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_)) => other,
    }) else {
        return Err(invalid("cantrip.cast: the first argument must be a cantrip made by cantrip.new"));
    };
    if let Some(intent) = intent {
        map.insert("intent".to_owned(), intent);
    }
    Ok(Value::Object(map))
}

/// Reads what a delegating call asks for.
///
/// # Errors
/// An unreadable proposal, or a batch above the ward.
pub fn request(name: &str, arguments: &Value, batch_size_max: u64) -> Result<Request, GateError> {
    if name == CANTRIP_NEW {
        return Proposal::parse(arguments).map(Request::New);
    }
    match arguments.get("requests") {
        Some(Value::Array(items)) if name != "call_entity" && name != CANTRIP_CAST => {
            let count = u64::try_from(items.len()).unwrap_or(u64::MAX);
            if count > batch_size_max {
                return Err(GateError::Exhausted(format!(
                    "a batch of {count} children is over the ward max_batch_size = {batch_size_max}"
                )));
            }
            Ok(Request::Many(items.clone()))
        }
        _ => Proposal::parse(arguments).map(Request::One),
    }
}

/// What `cantrip.new` hands back to the code: the proposal itself. Nothing is gained by forging one, because it is
/// checked again at every cast.
pub fn handle(proposal: &Proposal) -> Value {
    let mut map = Map::new();
    map.insert(HANDLE.to_owned(), serde_json::to_value(proposal).unwrap_or(Value::Null));
    Value::Object(map)
}
