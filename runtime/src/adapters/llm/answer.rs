//! What a provider streamed, in our shape (LLM-6).
//!
//! Owns the direction from the provider. An answer that broke off is never handed over as if it were whole; ids that
//! genai made up are dropped, so that the domain mints ids that are unique in the whole conversation.

use std::sync::{Mutex, MutexGuard, PoisonError};

use genai::chat::{ChatStreamEvent, ContentPart, RawFrameRef, StopReason, StreamEnd, ToolCall};
use serde_json::{Map, Value};

use super::catalogue::{Entry, Wire};
use super::seal::{self, Block};
use crate::domain::json;
use crate::domain::limits::MODEL_ANSWER_BYTES_MAX;
use crate::domain::model::{ModelError, RawAnswer, RawCall, Usage};
use crate::ports::Pieces;

/// Frames that are searched for the model's name: it is in the first one, or behind a ping.
const NAMED_WITHIN_FRAMES: usize = 4;

/// What genai's events do not tell, read from the raw frames.
#[derive(Debug, Default)]
pub(super) struct Frames(Mutex<Seen>);

#[derive(Debug, Default, Clone)]
struct Seen {
    count: usize,
    model: Option<String>,
    ended: bool,
    error: Option<String>,
}

impl Frames {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a frame.
    pub(super) fn note(&self, wire: Wire, frame: RawFrameRef<'_>) {
        if frame.data.trim().is_empty() {
            return;
        }
        let mut seen = self.seen();
        seen.count += 1;
        let by_line = wire == Wire::Ollama;
        if !by_line && (seen.model.is_some() || seen.count > NAMED_WITHIN_FRAMES) {
            return;
        }
        let Some(frame) = frame.json() else { return };
        if seen.model.is_none() {
            let places = ["/model", "/message/model", "/modelVersion", "/response/model"];
            seen.model =
                places.iter().find_map(|place| frame.pointer(place)).and_then(Value::as_str).map(str::to_owned);
        }
        if by_line {
            seen.ended |= frame.get("done").and_then(Value::as_bool).unwrap_or_default();
            if let Some(error) = frame.get("error") {
                seen.error = Some(error.as_str().map_or_else(|| error.to_string(), str::to_owned));
            }
        }
    }

    /// The error that Ollama writes into a stream, which genai passes over.
    pub(super) fn error(&self) -> Option<String> {
        self.seen().error.clone()
    }

    /// Whether anything came that could be an event.
    pub(super) fn any(&self) -> bool {
        self.seen().count > 0
    }
}

/// An answer that is being put together.
#[derive(Debug)]
pub(super) struct Assembly {
    entry: &'static Entry,
    text: String,
    thinking: String,
    /// Gemini's calls come whole, each with its own signature; genai's capture moves signatures between them.
    whole_calls: Vec<ToolCall>,
    bytes: usize,
}

impl Assembly {
    pub(super) fn new(entry: &'static Entry) -> Self {
        Self { entry, text: String::new(), thinking: String::new(), whole_calls: Vec::new(), bytes: 0 }
    }

    /// Takes an event; gives its end back.
    ///
    /// # Errors
    /// The answer outgrows its bound.
    pub(super) fn take(
        &mut self,
        event: ChatStreamEvent,
        pieces: &dyn Pieces,
    ) -> Result<Option<StreamEnd>, ModelError> {
        match event {
            ChatStreamEvent::Start | ChatStreamEvent::Heartbeat | ChatStreamEvent::ThoughtSignatureChunk(_) => {}
            ChatStreamEvent::Chunk(chunk) if chunk.content.is_empty() => {}
            ChatStreamEvent::Chunk(chunk) => {
                self.grow(chunk.content.len())?;
                self.text.push_str(&chunk.content);
                pieces.text(&chunk.content);
            }
            ChatStreamEvent::ReasoningChunk(chunk) if chunk.content.is_empty() => {}
            ChatStreamEvent::ReasoningChunk(chunk) => {
                self.grow(chunk.content.len())?;
                self.thinking.push_str(&chunk.content);
                pieces.thinking(&chunk.content);
            }
            ChatStreamEvent::ToolCallChunk(chunk) => {
                let call = chunk.tool_call;
                if call.fn_arguments.as_str().is_some_and(|text| text.len() > MODEL_ANSWER_BYTES_MAX) {
                    return Err(too_large());
                }
                if self.entry.wire == Wire::Gemini {
                    self.whole_calls.push(call);
                }
            }
            ChatStreamEvent::End(end) => return Ok(Some(end)),
        }
        Ok(None)
    }

    fn grow(&mut self, bytes: usize) -> Result<(), ModelError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > MODEL_ANSWER_BYTES_MAX { Err(too_large()) } else { Ok(()) }
    }

    /// The whole answer; nothing if the stream ended before its end.
    ///
    /// # Errors
    /// The provider withheld the answer, or announced calls that could not be read.
    pub(super) fn finish(self, end: StreamEnd, frames: &Frames, model: &str) -> Result<Option<RawAnswer>, ModelError> {
        let seen = frames.seen().clone();
        // On these wires genai makes up an end when the connection closes.
        let whole = match self.entry.wire {
            Wire::Gemini | Wire::Responses => end.captured_stop_reason.is_some(),
            Wire::Ollama => seen.ended,
            Wire::OpenAi | Wire::Anthropic => true,
        };
        if !whole {
            return Ok(None);
        }
        let parts = end.captured_content.map(genai::chat::MessageContent::into_parts).unwrap_or_default();
        let (blocks, captured) = sort(self.entry.wire, parts, &self.whole_calls);
        let wire_calls = if self.entry.wire == Wire::Gemini { self.whole_calls } else { captured };
        let calls: Vec<RawCall> =
            wire_calls.into_iter().enumerate().map(|(index, call)| raw_call(self.entry.wire, index, call)).collect();
        let empty = self.text.is_empty() && calls.is_empty();
        match end.captured_stop_reason {
            Some(StopReason::ToolCall(reason)) if calls.is_empty() => {
                let message = format!("it ended with `{reason}`, but holds no call that can be read");
                return Err(ModelError::Malformed { message });
            }
            Some(StopReason::ContentFilter(reason)) if empty => {
                let message = format!("the provider withheld it (`{reason}`)");
                return Err(ModelError::Malformed { message });
            }
            Some(StopReason::MaxTokens(_)) if empty => {
                let message = "it reached its longest length (max_output_tokens) before it said anything".to_owned();
                return Err(ModelError::Malformed { message });
            }
            _ => {}
        }
        Ok(Some(RawAnswer {
            content: (!self.text.is_empty()).then_some(self.text),
            thinking: seal::close(self.entry.name, &self.thinking, blocks),
            calls,
            provider_results: Vec::new(),
            usage: end.captured_usage.map(usage).unwrap_or_default(),
            model: seen.model.unwrap_or_else(|| model.to_owned()),
        }))
    }
}

fn too_large() -> ModelError {
    ModelError::Malformed { message: format!("it is longer than {MODEL_ANSWER_BYTES_MAX} bytes") }
}

/// What goes back next time, and the calls.
fn sort(wire: Wire, parts: Vec<ContentPart>, whole_calls: &[ToolCall]) -> (Vec<Block>, Vec<ToolCall>) {
    let mut blocks = Vec::new();
    let mut calls = Vec::new();
    for (index, call) in whole_calls.iter().enumerate() {
        let signatures = call.thought_signatures.iter().flatten();
        blocks.extend(signatures.map(|signature| Block::Call { index, signature: signature.clone() }));
    }
    for part in parts {
        match part {
            // Where calls carry Gemini's signatures, the loose copies of them are not wanted.
            ContentPart::ThoughtSignature(_) if wire == Wire::Gemini && !whole_calls.is_empty() => {}
            ContentPart::ThoughtSignature(signature) => blocks.push(Block::Signed { text: String::new(), signature }),
            ContentPart::ReasoningContent(reasoning) => {
                if let Some(Block::Signed { text, .. }) = blocks.last_mut() {
                    *text = reasoning;
                }
            }
            ContentPart::Custom(custom) => blocks.push(Block::Opaque(custom.data)),
            ContentPart::ToolCall(call) => calls.push(call),
            ContentPart::Text(_) | ContentPart::Binary(_) | ContentPart::ToolResponse(_) => {}
        }
    }
    (blocks, calls)
}

fn raw_call(wire: Wire, index: usize, call: ToolCall) -> RawCall {
    let ToolCall { call_id, fn_name, fn_arguments, .. } = call;
    let made_up = match wire {
        // Where a provider gives no id, genai counts from 0 in every answer, or in every chunk.
        Wire::OpenAi => call_id == format!("call_{index}"),
        Wire::Gemini => call_id.starts_with("call#"),
        // Random, and never sent back.
        Wire::Ollama => true,
        Wire::Responses | Wire::Anthropic => false,
    };
    let arguments = match fn_arguments {
        Value::Null => Ok(Value::Object(Map::new())),
        Value::String(text) if text.trim().is_empty() => Ok(Value::Object(Map::new())),
        Value::String(text) => match json::parse(&text) {
            Ok(object @ Value::Object(_)) => Ok(object),
            Ok(_) | Err(_) => Err(text),
        },
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => Ok(other),
    };
    RawCall { id: (!made_up && !call_id.is_empty()).then_some(call_id), gate: fn_name, arguments }
}

fn usage(usage: genai::chat::Usage) -> Usage {
    let count = |tokens: Option<i32>| tokens.and_then(|tokens| u64::try_from(tokens).ok()).unwrap_or_default();
    Usage {
        prompt_tokens: count(usage.prompt_tokens),
        completion_tokens: count(usage.completion_tokens),
        cached_tokens: count(usage.prompt_tokens_details.and_then(|details| details.cached_tokens)),
    }
}
