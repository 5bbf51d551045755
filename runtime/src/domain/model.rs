//! What passes between the driver and a model, and the contract that an answer has to keep.
//!
//! Owns the provider-neutral shapes and the checks of LLM-3, LLM-4 and LLM-7. Knows no provider.

use std::collections::BTreeSet;
use std::ops::{Add, AddAssign};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::ids::CallId;
use super::short;

/// What a model is asked. It is complete: a model keeps nothing between two questions (LLM-1).
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The conversation, the system prompt first (IDENTITY-2).
    pub messages: Vec<Arc<Message>>,
    /// The gates as the circle presents them (CIRCLE-11).
    pub tools: Arc<[ToolDefinition]>,
    /// Whether a call is required.
    pub tool_choice: ToolChoice,
    /// Sampling parameters of the identity.
    pub sampling: Sampling,
}

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// The system prompt.
    System(String),
    /// An intent, a note of the circle, or a folded past.
    User(String),
    /// What the model said.
    Assistant {
        /// Its text.
        content: Option<String>,
        /// Its reasoning, for providers that want it back.
        thinking: Option<String>,
        /// Its calls.
        calls: Vec<Call>,
    },
    /// What a call returned.
    Tool {
        /// The call that it answers.
        call: CallId,
        /// What the model sees.
        content: String,
        /// Whether it is a failure.
        is_error: bool,
    },
}

impl Message {
    /// The wire's word for who speaks.
    pub const fn role(&self) -> &'static str {
        match self {
            Self::System(_) => "system",
            Self::User(_) => "user",
            Self::Assistant { .. } => "assistant",
            Self::Tool { .. } => "tool",
        }
    }

    /// The text of the message; empty for an utterance of calls alone.
    pub fn content(&self) -> &str {
        match self {
            Self::System(text) | Self::User(text) => text,
            Self::Assistant { content, .. } => content.as_deref().unwrap_or_default(),
            Self::Tool { content, .. } => content,
        }
    }
}

/// A gate, or the medium itself, as it is shown to the model.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolDefinition {
    /// The name to call it by.
    pub name: String,
    /// What it does.
    pub description: String,
    /// The JSON schema of its arguments.
    pub parameters: Value,
}

/// Whether the model has to call something (LLM-5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// It may.
    #[default]
    Auto,
    /// It must.
    Required,
    /// It must not.
    None,
}

impl ToolChoice {
    /// The wire's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Required => "required",
            Self::None => "none",
        }
    }
}

/// Sampling parameters. What is absent is left to the provider.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampling {
    /// 0 is the most likely word each time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Nucleus sampling, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// The length of one answer, in tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
    /// How much a reasoning model thinks: `low`, `medium`, `high`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<String>,
}

/// Tokens of one answer or of many (LOOM-9, PROD-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the question.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
    /// Tokens of the question that the provider had kept.
    #[serde(default)]
    pub cached_tokens: u64,
}

impl Usage {
    /// Question and answer together.
    pub const fn total(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            prompt_tokens: self.prompt_tokens.saturating_add(other.prompt_tokens),
            completion_tokens: self.completion_tokens.saturating_add(other.completion_tokens),
            cached_tokens: self.cached_tokens.saturating_add(other.cached_tokens),
        }
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// What a provider answered, already in our shape (LLM-6) but not yet checked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RawAnswer {
    /// Text for people.
    pub content: Option<String>,
    /// Reasoning.
    pub thinking: Option<String>,
    /// Calls.
    pub calls: Vec<RawCall>,
    /// Results that the provider itself claims for calls (tools that run at the provider).
    pub provider_results: Vec<ProviderResult>,
    /// Tokens.
    pub usage: Usage,
    /// The model as the provider names it.
    pub model: String,
}

/// A call as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct RawCall {
    /// The provider's id, where it gave one.
    pub id: Option<String>,
    /// The name that is called.
    pub gate: String,
    /// The arguments: a JSON value, or the text that is not JSON.
    pub arguments: Result<Value, String>,
}

/// A result that came from the provider instead of from a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderResult {
    /// The call that it claims to answer.
    pub call: String,
    /// Its text.
    pub content: String,
}

/// A checked answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Utterance {
    /// Text for people.
    pub content: Option<String>,
    /// Reasoning.
    pub thinking: Option<String>,
    /// Calls with unique ids.
    pub calls: Vec<Call>,
    /// Tokens.
    pub usage: Usage,
    /// The model as the provider names it.
    pub model: String,
}

/// A call with its id.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Unique in its utterance.
    pub id: CallId,
    /// The name that is called.
    pub gate: String,
    /// The arguments: a JSON value, or the text that is not JSON.
    pub arguments: Result<Value, String>,
}

/// How an answer broke the contract. It ends the cast: a model that cannot keep it cannot be driven.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ContractError {
    /// LLM-3.
    #[error("llm returned neither content nor tool_calls")]
    Empty,
    /// LLM-4.
    #[error("duplicate tool call ID `{id}`: every call of an utterance needs an id of its own")]
    DuplicateCall {
        /// The id that came twice.
        id: String,
    },
    /// LLM-7.
    #[error("tool result without matching tool call: `{id}` answers no call that was made")]
    UnmatchedResult {
        /// The id that the result claims.
        id: String,
    },
}

/// Checks an answer and gives every call an id (LLM-3, LLM-4, LLM-7).
///
/// `turn` is the number of the turn for ids that have to be minted; `made` holds the calls of earlier turns.
///
/// # Errors
/// The rule that the answer breaks.
pub fn check(raw: RawAnswer, turn: u64, made: &BTreeSet<CallId>) -> Result<Utterance, ContractError> {
    let mut calls = Vec::with_capacity(raw.calls.len());
    let mut seen = BTreeSet::new();
    for (index, call) in raw.calls.into_iter().enumerate() {
        let id = match call.id.filter(|id| !id.is_empty()) {
            Some(id) => short::call_id(&id),
            None => CallId::new(&format!("call_{turn}_{}", index + 1)),
        };
        if !seen.insert(id.clone()) {
            return Err(ContractError::DuplicateCall { id: id.to_string() });
        }
        calls.push(Call { id, gate: short::name(call.gate), arguments: call.arguments });
    }
    for result in raw.provider_results {
        let id = short::call_id(&result.call);
        if !made.contains(&id) && !seen.contains(&id) {
            return Err(ContractError::UnmatchedResult { id: id.to_string() });
        }
    }
    let content = raw.content.filter(|text| !text.is_empty());
    if content.is_none() && calls.is_empty() {
        return Err(ContractError::Empty);
    }
    Ok(Utterance {
        content,
        thinking: raw.thinking.filter(|text| !text.is_empty()),
        calls,
        usage: raw.usage,
        model: short::name(raw.model),
    })
}

/// Why a model gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ModelError {
    /// The provider answered with a status.
    #[error("the model's provider answered {status}: {message}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// What it said.
        message: String,
        /// When it may be asked again, if it said so.
        retry_after: Option<Duration>,
    },
    /// There was no answer.
    #[error("the model at {address} could not be reached: {message}")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// What went wrong.
        message: String,
    },
    /// LLM-2: the conversation is longer than the model takes.
    #[error("the conversation is longer than the model takes: {message}")]
    TooLong {
        /// What the provider said.
        message: String,
    },
    /// A script has no further turn.
    #[error("the scripted model has no response left: {used} of {used} were used")]
    ScriptExhausted {
        /// How many it had.
        used: usize,
    },
    /// The answer is not one of that provider.
    #[error("the model's answer could not be read: {message}")]
    Malformed {
        /// What is off.
        message: String,
    },
    /// A key or a setting is missing.
    #[error("the model cannot be used: {message}")]
    Setup {
        /// What is missing, and where it is looked for.
        message: String,
    },
}

/// How often, and after how long, a question is asked again (PROD-2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryPolicy {
    /// How often a question is asked again.
    pub max_retries: u32,
    /// The first wait, in milliseconds; it doubles each time.
    pub base_delay_ms: u64,
    /// The longest wait, in milliseconds.
    pub max_delay_ms: u64,
    /// The statuses that are worth another try; absent: 429 and every 5xx.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retryable_status_codes: Option<Vec<u16>>,
}

impl Default for RetryPolicy {
    /// Three retries after 1 s, 2 s and 4 s: PROD-2 asks for backoff from one second, three by default.
    fn default() -> Self {
        Self { max_retries: 3, base_delay_ms: 1_000, max_delay_ms: 60_000, retryable_status_codes: None }
    }
}

impl RetryPolicy {
    /// How long to wait before the question is asked again; nothing if it is not worth it. `attempt` counts from 0.
    pub fn delay(&self, attempt: u32, error: &ModelError) -> Option<Duration> {
        if attempt >= self.max_retries {
            return None;
        }
        let backoff =
            self.base_delay_ms.saturating_mul(1_u64.checked_shl(attempt).unwrap_or(u64::MAX)).min(self.max_delay_ms);
        match error {
            ModelError::Status { status, retry_after, .. } => {
                let worth = match &self.retryable_status_codes {
                    Some(codes) => codes.contains(status),
                    None => *status == 429 || *status >= 500,
                };
                let asked = retry_after.map_or(0, |wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
                worth.then(|| Duration::from_millis(backoff.max(asked).min(self.max_delay_ms)))
            }
            ModelError::Unreachable { .. } => Some(Duration::from_millis(backoff)),
            ModelError::TooLong { .. }
            | ModelError::ScriptExhausted { .. }
            | ModelError::Malformed { .. }
            | ModelError::Setup { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(id: Option<&str>) -> RawCall {
        RawCall { id: id.map(str::to_owned), gate: "echo".to_owned(), arguments: Ok(Value::Null) }
    }

    #[test]
    fn llm_3_an_answer_without_content_and_calls_is_refused() {
        let raw = RawAnswer { content: Some(String::new()), ..RawAnswer::default() };
        assert_eq!(check(raw, 1, &BTreeSet::new()), Err(ContractError::Empty));
    }

    #[test]
    fn llm_4_calls_get_distinct_ids_and_a_doubled_one_is_refused() {
        let raw = RawAnswer { calls: vec![call(None), call(Some("")), call(Some("x"))], ..RawAnswer::default() };
        let ids: Vec<String> = check(raw, 3, &BTreeSet::new())
            .map_or_else(|_| Vec::new(), |said| said.calls.iter().map(|call| call.id.to_string()).collect());
        assert_eq!(ids, ["call_3_1", "call_3_2", "x"]);
        let raw = RawAnswer { calls: vec![call(Some("x")), call(Some("x"))], ..RawAnswer::default() };
        assert_eq!(check(raw, 1, &BTreeSet::new()), Err(ContractError::DuplicateCall { id: "x".to_owned() }));
    }

    #[test]
    fn llm_7_a_result_needs_its_call() {
        let with = |id: &str| RawAnswer {
            content: Some("text".to_owned()),
            provider_results: vec![ProviderResult { call: id.to_owned(), content: String::new() }],
            ..RawAnswer::default()
        };
        let made = BTreeSet::from([CallId::new("call_1")]);
        assert!(check(with("call_1"), 2, &made).is_ok());
        assert_eq!(check(with("call_2"), 2, &made), Err(ContractError::UnmatchedResult { id: "call_2".to_owned() }));
    }

    fn status(status: u16, retry_after: Option<u64>) -> ModelError {
        ModelError::Status { status, message: String::new(), retry_after: retry_after.map(Duration::from_secs) }
    }

    #[test]
    fn prod_2_waits_double_from_one_second_and_end_after_three() {
        let policy = RetryPolicy::default();
        let waits: Vec<_> = (0..4).map(|attempt| policy.delay(attempt, &status(429, None))).collect();
        assert_eq!(
            waits,
            [1, 2, 4].map(|seconds| Some(Duration::from_secs(seconds))).into_iter().chain([None]).collect::<Vec<_>>()
        );
        assert_eq!(policy.delay(0, &status(503, Some(7))), Some(Duration::from_secs(7)));
    }

    #[test]
    fn prod_2_other_4xx_are_never_tried_again() {
        for code in [400, 401, 403, 404, 422] {
            assert_eq!(RetryPolicy::default().delay(0, &status(code, None)), None, "{code}");
        }
    }
}
