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
use super::circle::{CANTRIP_CAST, CANTRIP_CAST_BATCH, CANTRIP_NEW, Circle, CircleDraft, DONE, MediumKind, delegates};
use super::model::Sampling;

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
    /// Its model, by the name that the cantrip gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub llm: Option<String>,
    /// Its medium.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub medium: Option<String>,
    /// Its gates: exactly these, and `done`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gates: Option<Vec<String>>,
    /// Its wards, as a list or an object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wards: Option<Value>,
    /// Its circle, in the long form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circle: Option<ProposedCircle>,
    /// The node that it should run on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Value>,
}

/// The long form of an identity.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProposedIdentity {
    /// The system prompt.
    pub system_prompt: Option<String>,
    /// The sampling temperature.
    pub temperature: Option<f64>,
}

/// The long form of a circle.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProposedCircle {
    /// The medium.
    pub medium: Option<String>,
    /// The gates.
    pub gates: Option<Vec<String>>,
    /// The wards.
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
    pub circle: Circle,
    /// Its model, where it is not the parent's.
    pub model: Option<String>,
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

    fn gates(&self) -> Option<&Vec<String>> {
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
        if let Some(node) = &self.node {
            return Err(GateError::NotFound(format!(
                "there is no node {node}: this runtime has no peers, so children run here; leave `node` out"
            )));
        }
        if let Some(name) = &self.llm
            && !grant.models.contains(name)
        {
            let known =
                if grant.models.is_empty() { "none beside its own".to_owned() } else { grant.models.join(", ") };
            return Err(GateError::NotFound(format!(
                "this cantrip names no model `{name}`; it names {known}{}",
                suggest::hint(name, grant.models.iter().map(String::as_str))
            )));
        }
        let circle = self.circle(grant)?;
        Ok(ChildPlan { intent, identity: self.identity(), circle, model: self.llm.clone() })
    }

    fn circle(&self, grant: Grant<'_>) -> Result<Circle, GateError> {
        let parent = grant.circle;
        // With the parent's defaults, not only with what it declares: a proposal must not exceed those either.
        let mut wards = parent.wards().to_wards().meet(&self.wards()?);
        // The parent's own depth is what its children may at most have, less the level between them.
        let below = parent.wards().max_depth.saturating_sub(1);
        wards.max_depth = Some(wards.max_depth.map_or(below, |depth| depth.min(below)));
        let media = match self.media() {
            // A guest's children have a model: nothing else could be said to them.
            none if none.is_empty() && matches!(parent.medium(), MediumKind::Guest(_)) => Vec::new(),
            none if none.is_empty() => vec![parent.medium().name().to_owned()],
            some => some,
        };
        let gates = self.child_gates(grant, &media)?;
        let draft = CircleDraft { media, gates, wards, guest: None };
        let circle = Circle::new(draft, grant.code_media, false)
            .map_err(|error| invalid(format!("the child's circle: {error}")))?;
        if let Some(allowed) = &parent.declared().child_media
            && !allowed.contains(circle.medium().name())
        {
            return Err(GateError::Denied(format!(
                "the ward child_media does not allow the medium `{}`; it allows {}",
                circle.medium().name(),
                allowed.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
            )));
        }
        Ok(circle)
    }

    fn child_gates(&self, grant: Grant<'_>, _media: &[String]) -> Result<Vec<GateSpec>, GateError> {
        let allowed = grant.circle.declared().child_gates.as_ref();
        let permitted = |name: &str| name == DONE || allowed.is_none_or(|names| names.contains(name));
        let find = |name: &str| grant.equipped.iter().find(|spec| spec.name.as_str() == name);
        let Some(asked) = self.gates() else {
            // Without a list the child holds what its parent holds, within what the ward lets through.
            return Ok(grant.circle.gates().filter(|spec| permitted(spec.name.as_str())).cloned().collect());
        };
        let mut names: BTreeSet<&str> = BTreeSet::new();
        let mut gates = Vec::new();
        for name in std::iter::once(DONE).chain(asked.iter().map(String::as_str)) {
            if !names.insert(name) {
                continue;
            }
            if !permitted(name) {
                return Err(GateError::Denied(format!("the ward child_gates does not allow the gate `{name}`")));
            }
            match find(name) {
                Some(spec) => gates.push(spec.clone()),
                None if delegates(name) => {}
                None => {
                    let known = || grant.equipped.iter().map(|spec| spec.name.as_str());
                    return Err(GateError::NotFound(format!(
                        "no gate `{name}` is equipped for children; there are {}{}",
                        known().collect::<Vec<_>>().join(", "),
                        suggest::hint(name, known())
                    )));
                }
            }
        }
        Ok(gates)
    }
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
