//! A model whose answers are written down beforehand.
//!
//! Owns the script's format: JSON, one response a line, blank lines and lines that begin with `//` left out. It hands
//! responses out in the order of asking, whoever asks; it has no other state (LLM-1). It judges nothing: an answer that
//! breaks the contract (LLM-3, LLM-4, LLM-7) is handed over like any other.
//!
//! | a response | is |
//! |---|---|
//! | `{"code": "…"}` | a call of the medium with that code |
//! | `{"content": "…"}` | text |
//! | `{"tool_calls": [{"id"?, "gate", "args"?}]}` | calls; a text in place of the arguments is broken JSON |
//! | `{"thinking": "…"}` | reasoning, alone or with any of the above |
//! | `{"tool_result": {"tool_call_id", "content"?}}` | a result that the provider itself claims |
//! | `{"error": {"status", "message"?, "retry_after_ms"?}}` | a refusal |
//!
//! Every response but an error may say `"usage": {"prompt_tokens", "completion_tokens", "cached_tokens"?}`. `content`
//! and `tool_calls` may come together, and may be null.

use std::fmt::Display;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cantrip_gates::suggest::hint;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::failure::refusal;
use crate::adapters::reading;
use crate::domain::limits::SCRIPT_BYTES_MAX;
use crate::domain::model::{ModelError, ProviderResult, Question, RawAnswer, RawCall, Usage};
use crate::ports::{BoxFuture, Llm, Pieces};

/// The keys of a response.
const KEYS: &[&str] = &["code", "content", "tool_calls", "thinking", "tool_result", "error", "usage"];

/// The keys of its tokens.
const USAGE_KEYS: [&str; 3] = ["prompt_tokens", "completion_tokens", "cached_tokens"];

/// One response of a script.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Response {
    /// Code for the medium.
    pub code: Option<String>,
    /// Text.
    pub content: Option<String>,
    /// Reasoning.
    pub thinking: Option<String>,
    /// Calls.
    pub calls: Vec<RawCall>,
    /// A result that the provider claims.
    pub result: Option<ProviderResult>,
    /// Instead of an answer.
    pub error: Option<ModelError>,
    /// Tokens; absent: the script's default.
    pub usage: Option<Usage>,
}

impl Response {
    /// Reads a response.
    ///
    /// # Errors
    /// The key that is wrong, and what it may be.
    pub fn from_value(value: Value) -> Result<Self, ModelError> {
        Self::parse(value).map_err(|message| ModelError::Setup { message })
    }

    fn parse(value: Value) -> Result<Self, String> {
        let Value::Object(fields) = value else {
            return Err("a response is an object".to_owned());
        };
        if fields.keys().all(|key| key == "usage") {
            return Err(format!("a response has one of {}", KEYS.join(", ")));
        }
        let has = |key: &str| fields.get(key).is_some_and(|value| !value.is_null());
        for (one, other) in [("code", "tool_calls"), ("error", "code"), ("error", "content"), ("error", "tool_calls")] {
            if has(one) && has(other) {
                return Err(format!("`{one}` and `{other}` exclude each other"));
            }
        }
        let mut response = Self::default();
        for (key, value) in fields {
            match key.as_str() {
                "code" => response.code = field("code", value)?,
                "content" => response.content = field("content", value)?,
                "thinking" => response.thinking = field("thinking", value)?,
                "usage" if value.is_null() => {}
                // A key that is none of them is a mistake in the script.
                "usage" => response.usage = field("usage", Value::Object(object("usage", value, &USAGE_KEYS)?))?,
                "tool_calls" => {
                    let calls: Option<Vec<Value>> = field("tool_calls", value)?;
                    for (index, call) in calls.unwrap_or_default().into_iter().enumerate() {
                        response.calls.push(call_of(&format!("tool_calls[{index}]"), call)?);
                    }
                }
                "tool_result" => response.result = nullable(value).map(result_of).transpose()?,
                "error" => response.error = nullable(value).map(error_of).transpose()?,
                unknown => return Err(unknown_key("", unknown, KEYS)),
            }
        }
        Ok(response)
    }
}

/// A model whose answers are written down beforehand.
///
/// ```
/// # use cantrip_runtime::adapters::llm::Scripted;
/// let model = Scripted::parse("turns.jsonl", "// the first turn\n{\"code\": \"done(6 * 7)\"}\n")?;
/// assert_eq!(model.responses_left(), 1);
/// # Ok::<(), cantrip_runtime::domain::model::ModelError>(())
/// ```
#[derive(Debug)]
pub struct Scripted {
    responses: Vec<Response>,
    usage: Usage,
    context_tokens: Option<u64>,
    keeps_questions: bool,
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    used: usize,
    questions: Vec<Question>,
}

impl Scripted {
    /// A model that gives these responses.
    pub fn new(responses: Vec<Response>) -> Self {
        Self {
            responses,
            usage: Usage::default(),
            context_tokens: None,
            keeps_questions: false,
            progress: Mutex::default(),
        }
    }

    /// A model that gives these responses, each in the shape of a script's line.
    ///
    /// # Errors
    /// The response that is wrong, counted from 1, and its key.
    pub fn from_values(values: Vec<Value>) -> Result<Self, ModelError> {
        let responses = values.into_iter().enumerate().map(|(index, value)| {
            let at = |what: String| ModelError::Setup { message: format!("response {}: {what}", index + 1) };
            Response::parse(value).map_err(at)
        });
        Ok(Self::new(responses.collect::<Result<_, _>>()?))
    }

    /// Reads a script; `source` is what errors call it.
    ///
    /// # Errors
    /// The line that is wrong, and its key.
    pub fn parse(source: &str, script: &str) -> Result<Self, ModelError> {
        let mut responses = Vec::new();
        for (index, line) in script.lines().enumerate() {
            let text = line.trim();
            if text.is_empty() || text.starts_with("//") {
                continue;
            }
            let at =
                |what: &dyn Display| ModelError::Setup { message: format!("{source}, line {}: {what}", index + 1) };
            let value: Value = serde_json::from_str(text).map_err(|error| {
                // serde_json counts lines too, and here there is only ever one.
                let said = error.to_string();
                let said = said.split(" at line ").next().unwrap_or_default();
                at(&format!("no JSON: {said}, at character {}", error.column()))
            })?;
            responses.push(Response::parse(value).map_err(|what| at(&what))?);
        }
        Ok(Self::new(responses))
    }

    /// Reads a script from a file.
    ///
    /// # Errors
    /// The file cannot be read, or the line that is wrong.
    pub fn from_file(path: &Path) -> Result<Self, ModelError> {
        let source = path.display().to_string();
        let broken = |what: String| ModelError::Setup { message: format!("the script {source} {what}") };
        let script =
            reading::text(path, SCRIPT_BYTES_MAX).map_err(|error| broken(format!("cannot be read: {error}")))?;
        Self::parse(&source, &script)
    }

    /// The tokens of a response that says nothing of them; the default is none.
    #[must_use]
    pub fn with_usage(mut self, usage: Usage) -> Self {
        self.usage = usage;
        self
    }

    /// The length of the context that this model claims; the default is that it is not known.
    #[must_use]
    pub fn with_context_tokens(mut self, context_tokens: Option<u64>) -> Self {
        self.context_tokens = context_tokens;
        self
    }

    /// Keeps every question it is asked; the default is that it keeps none.
    #[must_use]
    pub fn recording(mut self) -> Self {
        self.keeps_questions = true;
        self
    }

    /// The questions it was asked, if it keeps them.
    pub fn recorded(&self) -> Vec<Question> {
        self.progress().questions.clone()
    }

    /// How many responses it has left.
    pub fn responses_left(&self) -> usize {
        self.responses.len().saturating_sub(self.progress().used)
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, question: &Question) -> Result<&Response, ModelError> {
        let mut progress = self.progress();
        if self.keeps_questions {
            progress.questions.push(question.clone());
        }
        let used = progress.used;
        let response = self.responses.get(used).ok_or(ModelError::ScriptExhausted { used })?;
        progress.used += 1;
        Ok(response)
    }

    fn answer(&self, question: &Question, pieces: &dyn Pieces) -> Result<RawAnswer, ModelError> {
        let response = self.next(question)?.clone();
        if let Some(error) = response.error {
            return Err(error);
        }
        let mut calls = response.calls;
        if let Some(code) = response.code {
            calls.push(code_call(question, &code)?);
        }
        stream(response.thinking.as_deref(), |piece| pieces.thinking(piece));
        stream(response.content.as_deref(), |piece| pieces.text(piece));
        Ok(RawAnswer {
            content: response.content,
            thinking: response.thinking,
            calls,
            provider_results: response.result.into_iter().collect(),
            usage: response.usage.unwrap_or(self.usage),
            model: self.name().to_owned(),
        })
    }
}

impl Llm for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn context_tokens(&self) -> Option<u64> {
        self.context_tokens
    }

    fn ask<'a>(
        &'a self,
        question: &'a Question,
        pieces: &'a dyn Pieces,
    ) -> BoxFuture<'a, Result<RawAnswer, ModelError>> {
        Box::pin(async move { self.answer(question, pieces) })
    }
}

/// A text comes in pieces, so that whoever shows them is used with more than one.
fn stream(text: Option<&str>, mut take: impl FnMut(&str)) {
    text.unwrap_or_default().split_inclusive(['\n', ' ']).for_each(&mut take);
}

/// A circle with a code medium shows one tool that takes code.
fn code_call(question: &Question, code: &str) -> Result<RawCall, ModelError> {
    let takes_code = |parameters: &Value| parameters.pointer("/properties/code").is_some();
    let Some(tool) = question.tools.iter().find(|tool| takes_code(&tool.parameters)) else {
        let message = "the script's response is code, but the circle has no code medium to run it".to_owned();
        return Err(ModelError::Malformed { message });
    };
    Ok(RawCall { id: None, gate: tool.name.clone(), arguments: Ok(json!({"code": code})) })
}

fn nullable(value: Value) -> Option<Value> {
    (!value.is_null()).then_some(value)
}

fn field<T: DeserializeOwned>(key: &str, value: Value) -> Result<Option<T>, String> {
    nullable(value).map(|value| serde_json::from_value(value).map_err(|error| format!("`{key}`: {error}"))).transpose()
}

fn unknown_key(of: &str, key: &str, known: &[&str]) -> String {
    let of = if of.is_empty() { String::new() } else { format!("`{of}`: ") };
    format!("{of}there is no key `{key}`{} (known are {})", hint(key, known.iter().copied()), known.join(", "))
}

fn object(at: &str, value: Value, known: &[&str]) -> Result<Map<String, Value>, String> {
    let Value::Object(fields) = value else {
        return Err(format!("`{at}`: an object is expected, not {value}"));
    };
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        Some(unknown) => Err(unknown_key(at, unknown, known)),
        None => Ok(fields),
    }
}

fn optional<T: DeserializeOwned>(at: &str, fields: &mut Map<String, Value>, key: &str) -> Result<Option<T>, String> {
    field(&format!("{at}.{key}"), fields.remove(key).unwrap_or_default())
}

fn required<T: DeserializeOwned>(at: &str, fields: &mut Map<String, Value>, key: &str) -> Result<T, String> {
    optional(at, fields, key)?.ok_or_else(|| format!("`{at}`: `{key}` is missing"))
}

fn call_of(at: &str, value: Value) -> Result<RawCall, String> {
    let mut fields = object(at, value, &["id", "gate", "args"])?;
    let arguments = match fields.remove("args") {
        None | Some(Value::Null) => Ok(Value::Object(Map::new())),
        Some(Value::String(text)) => match crate::domain::json::parse(&text) {
            Ok(object @ Value::Object(_)) => Ok(object),
            Ok(_) | Err(_) => Err(text),
        },
        Some(value) => Ok(value),
    };
    Ok(RawCall { id: optional(at, &mut fields, "id")?, gate: required(at, &mut fields, "gate")?, arguments })
}

fn result_of(value: Value) -> Result<ProviderResult, String> {
    let at = "tool_result";
    let mut fields = object(at, value, &["tool_call_id", "content"])?;
    let content: Option<Value> = optional(at, &mut fields, "content")?;
    let content = match content {
        None => String::new(),
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
    };
    Ok(ProviderResult { call: required(at, &mut fields, "tool_call_id")?, content })
}

fn error_of(value: Value) -> Result<ModelError, String> {
    let at = "error";
    let mut fields = object(at, value, &["status", "message", "retry_after_ms"])?;
    let status: u16 = required(at, &mut fields, "status")?;
    let message: Option<String> = optional(at, &mut fields, "message")?;
    let wait: Option<u64> = optional(at, &mut fields, "retry_after_ms")?;
    Ok(refusal(status, message.unwrap_or_default(), wait.map(Duration::from_millis)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::model::{Sampling, ToolChoice, ToolDefinition};

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Pieces for Heard {
        fn text(&self, piece: &str) {
            self.0.lock().unwrap().push(piece.to_owned());
        }
        fn thinking(&self, piece: &str) {
            self.0.lock().unwrap().push(format!("<{piece}>"));
        }
    }

    fn question(tools: &[&str]) -> Question {
        let tool = |name: &&str| ToolDefinition {
            name: (*name).to_owned(),
            description: String::new(),
            parameters: if *name == "javascript" { json!({"properties": {"code": {}}}) } else { json!({}) },
        };
        Question {
            messages: Vec::new(),
            tools: tools.iter().map(tool).collect(),
            tool_choice: ToolChoice::Auto,
            sampling: Sampling::default(),
        }
    }

    fn answer(line: &str, tools: &[&str]) -> Result<RawAnswer, ModelError> {
        Scripted::parse("s", line).unwrap().answer(&question(tools), &Heard::default())
    }

    fn refused(script: &str, expected: &str) {
        let message = Scripted::parse("turns.jsonl", script).unwrap_err().to_string();
        assert!(message.contains(expected), "{script}: {message}");
    }

    #[test]
    fn code_calls_the_tool_that_takes_code() {
        let call = answer(r#"{"code": "1 + 1"}"#, &["done", "javascript"]).unwrap().calls.remove(0);
        assert_eq!((call.gate.as_str(), call.arguments), ("javascript", Ok(json!({"code": "1 + 1"}))));
        let error = answer(r#"{"code": "1"}"#, &["done"]).unwrap_err().to_string();
        assert!(error.contains("no code medium"), "{error}");
    }

    #[test]
    fn calls_may_have_ids_and_broken_arguments() {
        let line = r#"{"content": "t", "tool_calls": [{"gate": "a"}, {"id": "x", "gate": "b", "args": {"n": 1}},
            {"gate": "c", "args": "{\"n\":2}"}, {"gate": "d", "args": "{n"}]}"#
            .replace('\n', " ");
        let answer = answer(&line, &[]).unwrap();
        let arguments: Vec<_> = answer.calls.iter().map(|call| call.arguments.clone()).collect();
        assert_eq!(arguments, [Ok(json!({})), Ok(json!({"n": 1})), Ok(json!({"n": 2})), Err("{n".to_owned())]);
        assert_eq!(answer.calls.iter().map(|call| call.id.as_deref()).nth(1).flatten(), Some("x"));
        assert_eq!(answer.content.as_deref(), Some("t"));
    }

    #[test]
    fn llm_3_an_empty_answer_is_handed_over_as_it_is() {
        let empty = answer(r#"{"content": null, "tool_calls": null}"#, &[]).unwrap();
        assert!(empty.content.is_none() && empty.calls.is_empty());
    }

    #[test]
    fn llm_7_a_result_of_the_provider_is_handed_over() {
        let answer = answer(r#"{"tool_result": {"tool_call_id": "call_2", "content": "r"}}"#, &[]).unwrap();
        assert_eq!(answer.provider_results, [ProviderResult { call: "call_2".to_owned(), content: "r".to_owned() }]);
    }

    #[test]
    fn an_error_is_an_error() {
        let wait = Some(Duration::from_millis(5));
        let error = answer(r#"{"error": {"status": 429, "message": "slow", "retry_after_ms": 5}}"#, &[]).unwrap_err();
        assert_eq!(error, ModelError::Status { status: 429, message: "slow".to_owned(), retry_after: wait });
        let long = answer(r#"{"error": {"status": 400, "message": "prompt is too long"}}"#, &[]).unwrap_err();
        assert!(matches!(long, ModelError::TooLong { .. }), "{long:?}");
    }

    #[test]
    fn responses_are_handed_out_in_order_and_run_out() {
        let script = "\n// first\n{\"content\": \"a b\"}\n\n{\"thinking\": \"t\", \"content\": \"c\", \"usage\": \
                      {\"prompt_tokens\": 1, \"completion_tokens\": 2}}\n";
        let usage = Usage { prompt_tokens: 7, completion_tokens: 8, cached_tokens: 0 };
        let model = Scripted::parse("s", script).unwrap().with_usage(usage).recording();
        let heard = Heard::default();
        assert_eq!(model.answer(&question(&[]), &heard).unwrap().usage, usage);
        let second = model.answer(&question(&["done"]), &heard).unwrap();
        assert_eq!((second.usage.total(), second.thinking.as_deref()), (3, Some("t")));
        assert_eq!(*heard.0.lock().unwrap(), ["a ", "b", "<t>", "c"]);
        let exhausted = model.answer(&question(&[]), &heard);
        assert_eq!(exhausted, Err(ModelError::ScriptExhausted { used: 2 }));
        assert_eq!(model.recorded().iter().map(|question| question.tools.len()).collect::<Vec<_>>(), [0, 1, 0]);
    }

    #[test]
    fn a_wrong_script_names_file_line_and_key() {
        refused("\n{\"cod\": \"x\"}", "turns.jsonl, line 2: there is no key `cod`; did you mean `code`?");
        refused("{\"content\": 3}", "`content`: invalid type");
        refused("{\"content\": \"x\"", "line 1: no JSON: EOF while parsing an object, at character");
        refused("[]", "a response is an object");
        refused("{}", "a response has one of code");
        refused("{\"usage\": {}}", "a response has one of code");
        refused("{\"content\": \"x\", \"usage\": {\"prompt\": 1}}", "`usage`: there is no key `prompt`");
        refused("{\"tool_calls\": [{\"args\": {}}]}", "`tool_calls[0]`: `gate` is missing");
        refused("{\"tool_calls\": [{\"gate\": \"a\", \"argz\": {}}]}", "did you mean `args`?");
        refused("{\"tool_calls\": {\"gate\": \"a\"}}", "`tool_calls`: invalid type");
        refused("{\"error\": {\"message\": \"x\"}}", "`error`: `status` is missing");
        refused("{\"code\": \"x\", \"tool_calls\": []}", "exclude each other");
        refused("{\"error\": {\"status\": 500}, \"content\": \"x\"}", "exclude each other");
    }
}
