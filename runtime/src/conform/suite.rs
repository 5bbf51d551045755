//! The format of a suite. An unknown key is an error everywhere: an expectation that nobody reads is worse than none.

use std::collections::BTreeMap;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::domain::cantrip::Folding;
use crate::domain::model::{RetryPolicy, ToolChoice, Usage};

/// Why a suite cannot be run.
#[derive(Debug, Error)]
pub enum SuiteError {
    /// The file cannot be read.
    #[error("the suite {file} cannot be read")]
    Read {
        /// Which.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is longer than any suite.
    #[error("the suite {file} is longer than {bytes_max} bytes")]
    Size {
        /// Which.
        file: String,
        /// The limit.
        bytes_max: u64,
    },
    /// It is not YAML with a list of cases.
    #[error("the suite is no YAML list of cases: {0}")]
    Yaml(String),
    /// A case has a key or a value that the format does not know.
    #[error("case {number} ({name}) cannot be read")]
    Case {
        /// Counted from 1.
        number: usize,
        /// Its rule and name.
        name: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
}

/// Reads a suite.
///
/// # Errors
/// The case that is wrong, and its key.
pub(super) fn parse(text: &str) -> Result<Vec<Case>, SuiteError> {
    let cases: Vec<Value> = serde_saphyr::from_str(text).map_err(|error| SuiteError::Yaml(error.to_string()))?;
    let case = |(index, value): (usize, Value)| {
        let word = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or("?").to_owned();
        let name = format!("{} {}", word("rule"), word("name"));
        serde_json::from_value(value).map_err(|source| SuiteError::Case { number: index + 1, name, source })
    };
    cases.into_iter().enumerate().map(case).collect()
}

/// One case.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The rule that it is about.
    pub rule: String,
    /// What is claimed.
    pub name: String,
    #[serde(default, rename = "description")]
    _description: Option<String>,
    pub(super) setup: Setup,
    pub(super) action: OneOrMany<Step>,
    pub(super) expect: Expect,
}

/// One thing, or a list of them.
#[derive(Debug, Clone)]
pub(super) struct OneOrMany<T>(pub(super) Vec<T>);

impl<'de, T: DeserializeOwned> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Value::deserialize(from)? {
            Value::Array(items) => items.into_iter().map(read).collect::<Result<_, _>>().map(Self),
            one => Ok(Self(vec![read(one)?])),
        }
    }
}

fn read<T: DeserializeOwned, E: serde::de::Error>(value: Value) -> Result<T, E> {
    serde_json::from_value(value).map_err(E::custom)
}

/// Tells `key: null` from no key.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

/// What is made before the action.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    /// Models by their key; nothing where the case says null.
    pub(super) models: BTreeMap<String, Option<ModelSetup>>,
    pub(super) rest: SetupRest,
}

impl<'de> Deserialize<'de> for Setup {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut models = BTreeMap::new();
        let mut rest = Map::new();
        for (key, value) in Map::deserialize(from)? {
            if key.contains("llm") {
                models.insert(key, read(value)?);
            } else {
                rest.insert(key, value);
            }
        }
        Ok(Self { models, rest: read(Value::Object(rest))? })
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetupRest {
    pub(super) circle: CircleSetup,
    #[serde(default)]
    pub(super) identity: IdentitySetup,
    #[serde(default)]
    pub(super) folding: Option<Folding>,
    #[serde(default)]
    pub(super) retry: Option<RetryPolicy>,
    #[serde(default)]
    pub(super) filesystem: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelSetup {
    pub(super) name: Option<String>,
    /// Says that the responses are code; they say so themselves.
    #[serde(default, rename = "type")]
    _kind: Option<ModelKind>,
    pub(super) provider: Option<ModelProvider>,
    pub(super) responses: Option<Vec<Value>>,
    pub(super) raw_response: Option<Value>,
    pub(super) usage: Option<Usage>,
    pub(super) context_tokens: Option<u64>,
    /// Every model is recorded.
    #[serde(default, rename = "record_inputs")]
    _record_inputs: bool,
    /// No model keeps anything.
    #[serde(default, rename = "stateless")]
    _stateless: bool,
    /// The policy is in `retry`.
    #[serde(default, rename = "retry_behavior")]
    _retry_behavior: bool,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ModelKind {
    CodeCircle,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ModelProvider {
    MockOpenai,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CircleSetup {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) medium: Option<String>,
    pub(super) circle_type: Option<String>,
    #[serde(default)]
    pub(super) gates: Vec<GateSetup>,
    #[serde(default)]
    pub(super) wards: Value,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct IdentitySetup {
    pub(super) system_prompt: Option<String>,
    pub(super) tool_choice: Option<ToolChoice>,
    pub(super) temperature: Option<f64>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct GateSetup {
    pub(super) name: String,
    pub(super) rest: GateRest,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct GateRest {
    pub(super) parameters: Option<Value>,
    pub(super) behavior: Option<Behavior>,
    pub(super) error: Option<String>,
    pub(super) delay_ms: u64,
    pub(super) result: Option<Value>,
    pub(super) ephemeral: bool,
    pub(super) stateful: bool,
    pub(super) dependencies: Option<Dependencies>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Behavior {
    Throw,
    Delay,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dependencies {
    pub(super) root: String,
}

impl<'de> Deserialize<'de> for GateSetup {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Value::deserialize(from)? {
            Value::String(name) => Ok(Self { name, rest: GateRest::default() }),
            Value::Object(mut map) => match map.remove("name") {
                Some(Value::String(name)) => Ok(Self { name, rest: read(Value::Object(map))? }),
                _ => Err(D::Error::custom("a gate has a `name`")),
            },
            other => Err(D::Error::custom(format!("a gate is a name or an object, not {other}"))),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    #[serde(default)]
    pub(super) construct_cantrip: bool,
    pub(super) cast: Option<CastStep>,
    pub(super) then: Option<Then>,
    pub(super) acp_exchange: Option<Vec<AcpRequest>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CastStep {
    pub(super) intent: Option<String>,
    pub(super) llm: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Then {
    MutateIdentity(MutateIdentity),
    DeleteTurn(usize),
    AnnotateReward(AnnotateReward),
    Fork(ForkStep),
    ExtractThread(usize),
    ExportLoom(ExportLoom),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MutateIdentity {
    pub(super) system_prompt: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AnnotateReward {
    pub(super) turn: usize,
    pub(super) reward: f64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ForkStep {
    pub(super) from_turn: u64,
    pub(super) llm: Option<String>,
    pub(super) intent: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExportLoom {
    #[serde(rename = "format")]
    _format: ExportFormat,
    pub(super) redaction: ExportRedaction,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ExportFormat {
    Jsonl,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ExportRedaction {
    Default,
    None,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AcpRequest {
    #[serde(rename = "id")]
    _id: Value,
    #[serde(rename = "method")]
    _method: String,
    #[serde(rename = "params")]
    _params: Value,
}

/// What must hold afterwards.
#[derive(Debug, Clone)]
pub(super) struct Expect {
    /// By the key of the model.
    pub(super) invocations: BTreeMap<String, Invocations>,
    /// By the place of the thread.
    pub(super) numbered: BTreeMap<usize, ExpectThread>,
    pub(super) rest: ExpectRest,
}

impl<'de> Deserialize<'de> for Expect {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (mut invocations, mut numbered, mut rest) = (BTreeMap::new(), BTreeMap::new(), Map::new());
        for (key, value) in Map::deserialize(from)? {
            if let Some(model) = key.strip_suffix("_invocations").filter(|model| model.contains("llm")) {
                invocations.insert(model.to_owned(), read(value)?);
            } else if let Some(number) = key.strip_prefix("thread_").and_then(|number| number.parse().ok()) {
                numbered.insert(number, read(value)?);
            } else {
                rest.insert(key, value);
            }
        }
        Ok(Self { invocations, numbered, rest: read(Value::Object(rest))? })
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ExpectRest {
    pub(super) error: Option<String>,
    #[serde(deserialize_with = "present")]
    pub(super) result: Option<Value>,
    pub(super) result_contains: Option<String>,
    pub(super) results: Option<Vec<Value>>,
    pub(super) entities: Option<usize>,
    pub(super) entity_ids_unique: Option<bool>,
    pub(super) turns: Option<usize>,
    pub(super) terminated: Option<bool>,
    pub(super) truncated: Option<bool>,
    pub(super) gate_calls_executed: Option<Vec<String>>,
    pub(super) gate_call_order: Option<Vec<String>>,
    pub(super) gate_results: Option<Vec<Value>>,
    pub(super) turn_1_observation: Option<ExpectObservation>,
    pub(super) llm_received_tool_choice: Option<ToolChoice>,
    pub(super) llm_received_tools: Option<Vec<ExpectTool>>,
    pub(super) usage: Option<ExpectUsage>,
    pub(super) cumulative_usage: Option<ExpectUsage>,
    pub(super) child_turns: Option<usize>,
    pub(super) child_truncated: Option<bool>,
    pub(super) threads: Option<usize>,
    pub(super) thread: Option<ExpectTrajectory>,
    pub(super) loom: Option<ExpectLoom>,
    pub(super) logs_exclude: Option<OneOrMany<String>>,
    pub(super) loom_export_exclude: Option<OneOrMany<String>>,
    pub(super) acp_responses: Option<Value>,
    /// How often a stub was run, by its name. Ours.
    pub(super) gate_executions: BTreeMap<String, u64>,
    /// The waits before every retry, in milliseconds. Ours.
    pub(super) waits_ms: Option<Vec<u64>>,
    /// What a default export has to hold. Ours.
    pub(super) loom_export_include: Option<OneOrMany<String>>,
}

#[derive(Debug, Clone)]
pub(super) enum Invocations {
    Count(usize),
    List(Vec<ExpectInvocation>),
}

impl<'de> Deserialize<'de> for Invocations {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Value::deserialize(from)? {
            list @ Value::Array(_) => read(list).map(Self::List),
            count => read(count).map(Self::Count),
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ExpectInvocation {
    pub(super) messages: Option<Vec<ExpectMessage>>,
    pub(super) message_count: Option<usize>,
    pub(super) first_message: Option<ExpectMessage>,
    pub(super) messages_include: Option<OneOrMany<String>>,
    pub(super) messages_exclude: Option<OneOrMany<String>>,
    pub(super) message_count_includes: Option<OneOrMany<String>>,
    pub(super) message_count_excludes: Option<OneOrMany<String>>,
    /// The names of the tools, exactly. Ours.
    pub(super) tools: Option<Vec<String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectMessage {
    pub(super) role: String,
    pub(super) content: Option<String>,
    /// Ours.
    pub(super) content_contains: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectObservation {
    pub(super) is_error: Option<bool>,
    pub(super) content: Option<String>,
    pub(super) content_contains: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectTool {
    pub(super) name: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectUsage {
    pub(super) prompt_tokens: Option<u64>,
    pub(super) completion_tokens: Option<u64>,
    pub(super) total_tokens: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectThread {
    pub(super) turns: Option<usize>,
    #[serde(default, deserialize_with = "present")]
    pub(super) result: Option<Value>,
    pub(super) last_turn: Option<ExpectTurn>,
}

/// `thread`: who spoke, or the extracted trajectory.
#[derive(Debug, Clone)]
pub(super) enum ExpectTrajectory {
    Roles(Vec<ExpectRole>),
    Extracted(ExpectExtracted),
}

impl<'de> Deserialize<'de> for ExpectTrajectory {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Value::deserialize(from)? {
            list @ Value::Array(_) => read(list).map(Self::Roles),
            other => read(other).map(Self::Extracted),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectRole {
    pub(super) role: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    Entity,
    Circle,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectExtracted {
    pub(super) length: Option<usize>,
    #[serde(default)]
    pub(super) turns: Vec<ExpectTurn>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectLoom {
    pub(super) turn_count: Option<usize>,
    #[serde(default)]
    pub(super) turns: Vec<ExpectTurn>,
    pub(super) identity: Option<ExpectIdentity>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectIdentity {
    #[serde(default, deserialize_with = "present")]
    pub(super) system_prompt: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    pub(super) temperature: Option<Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ExpectTurn {
    #[serde(deserialize_with = "present")]
    pub(super) id: Option<Value>,
    #[serde(deserialize_with = "present")]
    pub(super) parent_id: Option<Value>,
    pub(super) entity_id: Option<String>,
    #[serde(deserialize_with = "present")]
    pub(super) sequence: Option<Value>,
    pub(super) gate_calls: Option<Vec<String>>,
    pub(super) terminated: Option<bool>,
    pub(super) truncated: Option<bool>,
    #[serde(deserialize_with = "present")]
    pub(super) reward: Option<Value>,
    #[serde(deserialize_with = "present")]
    pub(super) utterance: Option<Value>,
    #[serde(deserialize_with = "present")]
    pub(super) observation: Option<Value>,
    pub(super) observation_contains: Option<String>,
    pub(super) metadata: Option<ExpectMetadata>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ExpectMetadata {
    #[serde(deserialize_with = "present")]
    pub(super) tokens_prompt: Option<Value>,
    #[serde(deserialize_with = "present")]
    pub(super) tokens_completion: Option<Value>,
    #[serde(deserialize_with = "present")]
    pub(super) tokens_cached: Option<Value>,
    #[serde(deserialize_with = "present")]
    pub(super) duration_ms: Option<Value>,
    #[serde(deserialize_with = "present")]
    pub(super) timestamp: Option<Value>,
}
