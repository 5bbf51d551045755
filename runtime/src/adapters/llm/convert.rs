//! A question in genai's shape.
//!
//! Owns the direction towards the provider. It drops nothing and reorders nothing: a call and its result keep their
//! order and their ids (LLM-7), and every provider gets an argument object for every call that was made, also for one
//! whose arguments could not be read when it came.

use std::time::Duration;

use genai::chat::{
    CacheControl, ChatMessage, ChatOptions, ChatRequest, ContentPart, MessageContent, ReasoningEffort, Tool, ToolCall,
    ToolChoice as WireChoice, ToolResponse,
};
use serde_json::{Map, Value, json};

use super::catalogue::{Entry, Wire};
use super::seal::{self, Block};
use crate::domain::ids::CallId;
use crate::domain::model::{Call, Message, ModelError, Question, Sampling, ToolChoice};

/// The conversation and the tools.
pub(super) fn request(entry: &Entry, question: &Question) -> ChatRequest {
    let mut messages: Vec<ChatMessage> = Vec::with_capacity(question.messages.len());
    let mut results: Vec<ContentPart> = Vec::new();
    for message in &question.messages {
        if let Message::Tool { call, content, is_error } = &**message {
            results.push(result(entry, call, content, *is_error));
            // Ollama has one result in a message; everybody else wants the results of an utterance together.
            if entry.wire == Wire::Ollama {
                flush(&mut messages, &mut results);
            }
            continue;
        }
        flush(&mut messages, &mut results);
        match &**message {
            Message::System(text) => messages.push(ChatMessage::system(text.as_str())),
            Message::User(text) => messages.push(ChatMessage::user(text.as_str())),
            Message::Assistant { content, thinking, calls } => {
                let parts = utterance(entry, content.as_deref(), thinking.as_deref(), calls);
                messages.push(ChatMessage::assistant(MessageContent::from_parts(parts)));
            }
            Message::Tool { .. } => {}
        }
    }
    flush(&mut messages, &mut results);
    if entry.name == "anthropic" {
        mark_for_cache(&mut messages);
    }
    let request = ChatRequest::new(messages);
    if question.tools.is_empty() {
        return request;
    }
    request.with_tools(question.tools.iter().map(|tool| {
        Tool::new(tool.name.as_str()).with_description(tool.description.as_str()).with_schema(tool.parameters.clone())
    }))
}

/// Sampling, the choice of tools, and what is to be captured.
///
/// # Errors
/// An effort that has no meaning.
pub(super) fn options(
    entry: &Entry,
    model: &str,
    question: &Question,
    idle: Duration,
) -> Result<ChatOptions, ModelError> {
    let Sampling { temperature, top_p, max_output_tokens, reasoning_effort } = &question.sampling;
    let effort = reasoning_effort.as_deref().map(parse_effort).transpose()?;
    let mut options = ChatOptions::default()
        .with_capture_usage(true)
        .with_capture_tool_calls(true)
        .with_stream_header_timeout(idle)
        .with_stream_read_timeout(idle);
    // Gemini takes the wish to see reasoning for a setting, and refuses it on models that do not reason.
    let reasons = entry.wire != Wire::Gemini || effort.is_some() || gemini_reasons(model);
    options.capture_reasoning_content = Some(reasons);
    options.temperature = *temperature;
    options.top_p = *top_p;
    options.max_tokens = *max_output_tokens;
    if !question.tools.is_empty() {
        options.tool_choice = Some(choice(entry, question.tool_choice, effort.as_ref()));
    }
    options.reasoning_effort = effort.or_else(|| keep_name(entry, model));
    Ok(options)
}

fn parse_effort(text: &str) -> Result<ReasoningEffort, ModelError> {
    ReasoningEffort::from_keyword(text).ok_or_else(|| ModelError::Setup {
        message: format!(
            "reasoning_effort `{text}` is not known; it is one of none, minimal, low, medium, high, xhigh, max"
        ),
    })
}

/// genai reads `mistral-medium` as the model `mistral` with medium effort. A budget has no meaning on the wire of
/// `openai` and is not sent there, but an effort that is set keeps the name whole.
fn keep_name(entry: &Entry, model: &str) -> Option<ReasoningEffort> {
    // DeepSeek's adapter would turn reasoning on for it; none of DeepSeek's names ends in an effort.
    let applies = matches!(entry.wire, Wire::OpenAi | Wire::Responses) && entry.name != "deepseek";
    (applies && ReasoningEffort::from_model_name(model).0.is_some()).then_some(ReasoningEffort::Budget(0))
}

fn gemini_reasons(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    !["gemini-1", "gemini-2.0", "gemma"].iter().any(|old| name.starts_with(old))
}

fn choice(entry: &Entry, choice: ToolChoice, effort: Option<&ReasoningEffort>) -> WireChoice {
    match choice {
        ToolChoice::Auto => WireChoice::Auto,
        ToolChoice::None => WireChoice::None,
        // Anthropic answers 400 to a forced call while it thinks.
        ToolChoice::Required
            if entry.wire == Wire::Anthropic
                && effort.is_some_and(|effort| !matches!(effort, ReasoningEffort::Zero)) =>
        {
            WireChoice::Auto
        }
        ToolChoice::Required => WireChoice::Required,
    }
}

fn flush(messages: &mut Vec<ChatMessage>, results: &mut Vec<ContentPart>) {
    if !results.is_empty() {
        messages.push(ChatMessage::tool(MessageContent::from_parts(std::mem::take(results))));
    }
}

/// The instructions do not change, and the conversation only grows at its end: both are worth keeping at the provider.
fn mark_for_cache(messages: &mut [ChatMessage]) {
    let system = messages.iter().rposition(|message| message.role == genai::chat::ChatRole::System);
    let last = messages.len().checked_sub(1);
    for index in [system, last].into_iter().flatten() {
        if let Some(message) = messages.get_mut(index) {
            message.options = Some(CacheControl::Ephemeral.into());
        }
    }
}

fn utterance(entry: &Entry, content: Option<&str>, thinking: Option<&str>, calls: &[Call]) -> Vec<ContentPart> {
    let mut parts = Vec::new();
    let mut signatures: Vec<Option<Vec<String>>> = vec![None; calls.len()];
    if let Some(thinking) = thinking {
        for block in seal::open(entry.name, thinking) {
            match block {
                Block::Signed { text, signature } => {
                    parts.push(ContentPart::ThoughtSignature(signature));
                    // The Responses wire has signatures without text, and takes text for a message of its own.
                    if entry.wire == Wire::Anthropic {
                        parts.push(ContentPart::ReasoningContent(text));
                    }
                }
                Block::Opaque(data) => parts.push(ContentPart::from_custom(data, None)),
                Block::Call { index, signature } => {
                    if let Some(slot) = signatures.get_mut(index) {
                        slot.get_or_insert_default().push(signature);
                    }
                }
            }
        }
        let visible = seal::visible_thinking(thinking);
        if entry.wants_thinking && !visible.is_empty() {
            parts.push(ContentPart::ReasoningContent(visible.to_owned()));
        }
    }
    if let Some(content) = content.filter(|content| !content.is_empty()) {
        parts.push(ContentPart::from_text(content));
    }
    for (call, thought_signatures) in calls.iter().zip(signatures) {
        parts.push(ContentPart::ToolCall(ToolCall {
            call_id: wire_id(entry, &call.id),
            fn_name: call.gate.clone(),
            fn_arguments: arguments(&call.arguments),
            thought_signatures,
        }));
    }
    parts
}

fn result(entry: &Entry, call: &CallId, content: &str, is_error: bool) -> ContentPart {
    let id = wire_id(entry, call);
    // Only Anthropic has a word for a failed call, and genai none: the block is built as Anthropic wants it.
    if is_error && entry.wire == Wire::Anthropic {
        let block = json!({"type": "tool_result", "tool_use_id": id, "content": content, "is_error": true});
        return ContentPart::from_custom(block, None);
    }
    ContentPart::ToolResponse(ToolResponse::new(id, content))
}

/// Gemini has its own ids or none. An id that was minted here is marked in genai's way, so that it stays off the wire.
fn wire_id(entry: &Entry, id: &CallId) -> String {
    let minted = id
        .as_str()
        .strip_prefix("call_")
        .and_then(|rest| rest.split_once('_'))
        .is_some_and(|(turn, index)| turn.parse::<u64>().is_ok() && index.parse::<u64>().is_ok());
    if entry.wire == Wire::Gemini && minted { format!("call#{id}#0") } else { id.to_string() }
}

/// Every wire wants an object; what the model wrote instead is shown to it under a name that says so.
fn arguments(arguments: &Result<Value, String>) -> Value {
    match arguments {
        Ok(object @ Value::Object(_)) => object.clone(),
        Ok(Value::Null) => Value::Object(Map::new()),
        Ok(other) => json!({"arguments_not_an_object": other}),
        Err(text) => json!({"arguments_not_json": text}),
    }
}
