//! The shape of a provider's stream, checked and made small before genai reads it.
//!
//! genai trusts a provider: it parses JSON of any number of values, makes room for as many calls as an index says, and copies the
//! whole of a call for every piece of it. So events are put together here, counted, and handed on one by one; pieces of calls wait
//! here and are handed on together, numbered from 0. Owns no connection.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::catalogue::Wire;
use crate::domain::json::{self, JsonError};
use crate::domain::limits::{
    MODEL_ANSWER_BYTES_MAX, PROVIDER_CALL_NAME_BYTES_MAX, PROVIDER_LARGE_BYTES_MAX, PROVIDER_LINE_BYTES_MAX,
};

/// 64 KiB. What is larger is read by genai in many pieces, and copied for each.
const LARGE_EVENT_BYTES: usize = 64 * 1024;
/// 256 KiB. So much of a call's arguments is handed on at once.
const PIECE_BYTES: usize = 256 * 1024;
/// 128 bytes. What a call takes beside its texts.
const CALL_COST_BYTES: usize = 128;
/// What stands for an event that genai has no use for: it only says that the provider is alive.
const ALIVE: &[u8] = b":\n\n";

/// A call whose pieces have come so far.
#[derive(Debug, Default)]
struct Held {
    id: Option<String>,
    name: String,
    arguments: String,
    /// Where pieces are events of their own: what such an event looks like.
    event: Option<Template>,
}

/// An event that brings a piece of a call: its name, the whole of it, and where in it the piece stands.
#[derive(Debug)]
struct Template {
    name: Vec<u8>,
    value: Value,
    place: &'static str,
}

/// A stream that is being read.
#[derive(Debug)]
pub(super) struct Framing {
    wire: Wire,
    line: Vec<u8>,
    /// The last byte was a carriage return, which a line feed may follow.
    is_returned: bool,
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    large_bytes: usize,
    held: BTreeMap<u64, Held>,
    held_bytes: usize,
}

impl Framing {
    pub(super) const fn new(wire: Wire) -> Self {
        Self {
            wire,
            line: Vec::new(),
            is_returned: false,
            name: Vec::new(),
            data: Vec::new(),
            has_data: false,
            large_bytes: 0,
            held: BTreeMap::new(),
            held_bytes: 0,
        }
    }

    /// Takes what came, and adds what is whole to `out`.
    ///
    /// # Errors
    /// What is too large, and for which bound.
    pub(super) fn take(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (begun, rest) = bytes.split_at(end);
            let Some((last, rest)) = rest.split_first() else { break };
            bytes = rest;
            let is_second_half = self.is_returned && *last == b'\n' && begun.is_empty();
            self.is_returned = *last == b'\r';
            if is_second_half {
                continue;
            }
            self.grow(begun)?;
            let line = std::mem::take(&mut self.line);
            self.line(&line, out)?;
        }
        self.is_returned &= bytes.is_empty();
        self.grow(bytes)
    }

    /// The stream has ended: what has begun is handed on as it is.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(super) fn end(&mut self, out: &mut Vec<u8>) -> Result<(), String> {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.line(&line, out)?;
        }
        if self.has_data { self.event(out) } else { Ok(()) }
    }

    fn grow(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.line.extend_from_slice(bytes);
        if self.line.len() > PROVIDER_LINE_BYTES_MAX {
            return Err(format!("one line of it is longer than {PROVIDER_LINE_BYTES_MAX} bytes"));
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let line = line.trim_ascii();
        if self.wire == Wire::Ollama {
            self.count_large(line.len())?;
            if let Err(error @ (JsonError::Values | JsonError::Depth)) = json::parse_bytes(line) {
                return Err(format!("one line of it is refused: {error}"));
            }
            out.extend_from_slice(line);
            out.push(b'\n');
            return Ok(());
        }
        if line.is_empty() {
            if !self.has_data {
                self.name.clear();
                out.extend_from_slice(ALIVE);
                return Ok(());
            }
            return self.event(out);
        }
        if let Some(name) = line.strip_prefix(b"event:") {
            self.name = name.trim_ascii().to_vec();
        } else if let Some(data) = line.strip_prefix(b"data:") {
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.has_data = true;
            self.data.extend_from_slice(data.trim_ascii());
        }
        if self.data.len().saturating_add(self.name.len()) > PROVIDER_LINE_BYTES_MAX {
            return Err(format!("one event of it is longer than {PROVIDER_LINE_BYTES_MAX} bytes"));
        }
        Ok(())
    }

    fn count_large(&mut self, bytes: usize) -> Result<(), String> {
        if bytes > LARGE_EVENT_BYTES {
            self.large_bytes = self.large_bytes.saturating_add(bytes);
        }
        if self.large_bytes > PROVIDER_LARGE_BYTES_MAX {
            return Err(format!(
                "its events of more than {LARGE_EVENT_BYTES} bytes are longer than {PROVIDER_LARGE_BYTES_MAX} bytes together"
            ));
        }
        Ok(())
    }

    /// An event is whole.
    fn event(&mut self, out: &mut Vec<u8>) -> Result<(), String> {
        let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
        self.has_data = false;
        self.count_large(name.len().saturating_add(data.len()))?;
        if data == b"[DONE]" {
            self.release(out);
            write(&name, &data, out);
            return Ok(());
        }
        let value = match json::parse_bytes(&data) {
            Ok(value) => value,
            Err(error @ (JsonError::Values | JsonError::Depth)) => {
                return Err(format!("one event of it is refused: {error}"));
            }
            // What it is then, genai says.
            Err(JsonError::Syntax(_)) => {
                write(&name, &data, out);
                return Ok(());
            }
        };
        match self.wire {
            Wire::OpenAi => self.openai(value, (&name, &data), out),
            Wire::Responses => self.responses(value, (&name, &data), out),
            Wire::Anthropic => self.anthropic(value, (&name, &data), out),
            Wire::Gemini | Wire::Ollama => {
                write(&name, &data, out);
                Ok(())
            }
        }
    }

    /// Keeps the pieces of calls back; the rest of the event goes on.
    fn openai(&mut self, mut value: Value, raw: (&[u8], &[u8]), out: &mut Vec<u8>) -> Result<(), String> {
        let delta = value.pointer_mut("/choices/0/delta").and_then(Value::as_object_mut);
        let calls = delta.filter(|delta| delta.get("tool_calls").is_some_and(Value::is_array));
        let Some(Value::Array(calls)) = calls.and_then(|delta| delta.remove("tool_calls")) else {
            write(raw.0, raw.1, out);
            return Ok(());
        };
        for call in calls {
            // genai takes no other entries, either.
            let index = call.get("index").and_then(Value::as_u64).filter(|index| u32::try_from(*index).is_ok());
            let Some((index, function)) = index.zip(call.get("function")) else { continue };
            let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
            let (id, name) = (text(call.get("id")), text(function.get("name")));
            let arguments = text(function.get("arguments"));
            self.hold(index, (id, name), &arguments)?;
        }
        if says_nothing(&value) {
            out.extend_from_slice(ALIVE);
        } else {
            write(raw.0, value.to_string().as_bytes(), out);
        }
        Ok(())
    }

    fn responses(&mut self, value: Value, raw: (&[u8], &[u8]), out: &mut Vec<u8>) -> Result<(), String> {
        let index = value.get("output_index").and_then(Value::as_u64).unwrap_or_default();
        match value.get("type").and_then(Value::as_str).unwrap_or_default() {
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                return self.piece(index, value, "/delta", raw, out);
            }
            "response.output_item.done" => {
                let places = ["/item/arguments", "/item/input"];
                let says = |place: &&str| value.pointer(place).and_then(Value::as_str).is_some_and(|it| !it.is_empty());
                if places.iter().any(says) {
                    // It says the whole of them again.
                    self.held.remove(&index);
                }
            }
            "response.completed" | "response.incomplete" | "response.failed" => self.release(out),
            _ => {}
        }
        write(raw.0, raw.1, out);
        Ok(())
    }

    fn anthropic(&mut self, value: Value, raw: (&[u8], &[u8]), out: &mut Vec<u8>) -> Result<(), String> {
        match raw.0 {
            b"content_block_delta" if value.pointer("/delta/partial_json").is_some() => {
                return self.piece(0, value, "/delta/partial_json", raw, out);
            }
            // One block after the other: whatever begins or ends one ends the call before it.
            b"content_block_start" | b"content_block_stop" | b"message_stop" => self.release(out),
            _ => {}
        }
        write(raw.0, raw.1, out);
        Ok(())
    }

    /// Keeps an event back that brings nothing but a piece of a call.
    fn piece(
        &mut self,
        index: u64,
        value: Value,
        place: &'static str,
        raw: (&[u8], &[u8]),
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let Some(piece) = value.pointer(place).and_then(Value::as_str).map(str::to_owned) else {
            write(raw.0, raw.1, out);
            return Ok(());
        };
        self.hold(index, <_>::default(), &piece)?;
        if let Some(held) = self.held.get_mut(&index) {
            held.event.get_or_insert_with(|| Template { name: raw.0.to_vec(), value, place });
        }
        out.extend_from_slice(ALIVE);
        Ok(())
    }

    fn hold(&mut self, index: u64, (id, name): (String, String), arguments: &str) -> Result<(), String> {
        for (what, text) in [("an id", &id), ("a name", &name)] {
            if text.len() > PROVIDER_CALL_NAME_BYTES_MAX {
                return Err(format!(
                    "a call of it has {what} of {} bytes, and {PROVIDER_CALL_NAME_BYTES_MAX} are taken",
                    text.len()
                ));
            }
        }
        let cost = if self.held.contains_key(&index) { 0 } else { CALL_COST_BYTES };
        self.held_bytes = self.held_bytes.saturating_add(cost).saturating_add(arguments.len());
        if self.held_bytes > MODEL_ANSWER_BYTES_MAX {
            return Err(format!("its calls are longer than {MODEL_ANSWER_BYTES_MAX} bytes together"));
        }
        let held = self.held.entry(index).or_default();
        // Providers that say the name again say the id again, too.
        if !id.is_empty() && (held.id.is_none() || !name.is_empty()) {
            held.id = Some(id);
        }
        if !name.is_empty() {
            held.name = name;
        }
        held.arguments.push_str(arguments);
        Ok(())
    }

    /// Hands the calls on that have come.
    fn release(&mut self, out: &mut Vec<u8>) {
        for (index, held) in std::mem::take(&mut self.held).into_values().enumerate() {
            let Held { id, name, arguments, mut event } = held;
            let (mut rest, mut is_first) = (arguments.as_str(), true);
            while is_first || !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE_BYTES.min(rest.len())));
                rest = after;
                if let Some(Template { name, value, place }) = &mut event {
                    if let Some(stands) = value.pointer_mut(place) {
                        *stands = Value::String(piece.to_owned());
                    }
                    write(name, value.to_string().as_bytes(), out);
                } else {
                    let mut call = Map::from_iter([("index".to_owned(), json!(index))]);
                    if let Some(id) = id.as_ref().filter(|_| is_first) {
                        call.insert("id".to_owned(), json!(id));
                    }
                    let name = if is_first { name.as_str() } else { "" };
                    call.insert("function".to_owned(), json!({ "name": name, "arguments": piece }));
                    let value = json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [call] } }] });
                    write(b"", value.to_string().as_bytes(), out);
                }
                is_first = false;
            }
        }
    }
}

/// Whether nothing is left of an event without its pieces of calls.
fn says_nothing(value: &Value) -> bool {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => false,
    };
    let delta = value.pointer("/choices/0/delta").and_then(Value::as_object);
    let is_silent = |delta: &Map<String, Value>| delta.iter().all(|(key, value)| key == "role" || is_empty(value));
    delta.is_some_and(is_silent)
        && ["/choices/0/finish_reason", "/usage", "/error"]
            .iter()
            .all(|place| value.pointer(place).is_none_or(is_empty))
}

fn write(name: &[u8], data: &[u8], out: &mut Vec<u8>) {
    if !name.is_empty() {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name);
        out.push(b'\n');
    }
    for line in data.split(|byte| *byte == b'\n') {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is handed on of a stream that comes in pieces of this length.
    fn framed(wire: Wire, said: &str, piece: usize) -> Result<String, String> {
        let (mut framing, mut out) = (Framing::new(wire), Vec::new());
        for bytes in said.as_bytes().chunks(piece) {
            framing.take(bytes, &mut out)?;
        }
        framing.end(&mut out)?;
        Ok(String::from_utf8(out).unwrap().replace(":\n\n", ""))
    }

    fn data(values: &[Value]) -> String {
        values.iter().fold(String::new(), |text, value| text + &format!("data: {value}\n\n"))
    }

    fn call(index: u64, id: &str, name: &str, arguments: &str) -> Value {
        let call = json!({ "index": index, "id": id, "function": { "name": name, "arguments": arguments } });
        json!({ "choices": [{ "delta": { "tool_calls": [call] } }] })
    }

    fn held(said: &str) -> Vec<(u64, String, String)> {
        let values = said.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
        let calls = values.filter_map(|value| value.pointer("/choices/0/delta/tool_calls/0").cloned());
        let text = |call: &Value, place: &str| call.pointer(place).unwrap().as_str().unwrap().to_owned();
        calls
            .map(|it| (it["index"].as_u64().unwrap(), text(&it, "/function/name"), text(&it, "/function/arguments")))
            .collect()
    }

    #[test]
    fn an_index_makes_no_room_for_calls_that_did_not_come() {
        let said =
            data(&[call(4_294_967_295, "a", "one", "{"), call(7, "b", "two", "{}"), call(4_294_967_295, "", "", "}")]);
        let framed = framed(Wire::OpenAi, &format!("{said}data: [DONE]\n\n"), 50).unwrap();
        let calls = held(&framed);
        assert_eq!(calls, [(0, "two".into(), "{}".into()), (1, "one".into(), "{}".into())]);
        assert!(framed.ends_with("data: [DONE]\n\n"), "{framed}");
    }

    #[test]
    fn pieces_of_a_call_are_handed_on_together() {
        let pieces: Vec<Value> = (0..1_000).map(|_| call(0, "", "", "é")).collect();
        let said = data(&[call(0, "a", "one", "")]) + &data(&pieces) + "data: [DONE]\n\n";
        assert_eq!(held(&framed(Wire::OpenAi, &said, 1_000).unwrap()), [(0, "one".into(), "é".repeat(1_000))]);
        let delta = |at| json!({ "type": "response.function_call_arguments.delta", "output_index": at, "delta": "x" });
        let done = json!({ "type": "response.output_item.done", "output_index": 1, "item": { "arguments": "xx" } });
        let end = json!({ "type": "response.completed", "response": {} });
        let framed_responses =
            framed(Wire::Responses, &data(&[delta(0), delta(1), delta(1), done, delta(0), end]), 9).unwrap();
        assert_eq!(framed_responses.matches(".delta").count(), 1, "{framed_responses}");
        assert!(framed_responses.contains(r#""delta":"xx""#), "{framed_responses}");
        let block = "event: content_block_delta\ndata: {\"delta\":{\"partial_json\":\"y\"}}\n\n";
        let said = format!("{block}event: ping\ndata: {{}}\n\n{block}event: content_block_stop\ndata: {{}}\n\n");
        let framed = framed(Wire::Anthropic, &said, 7).unwrap();
        assert_eq!(framed.matches("content_block_delta").count(), 1, "{framed}");
        assert!(framed.contains(r#"{"partial_json":"yy"}"#), "{framed}");
    }

    #[test]
    fn what_is_no_piece_of_a_call_stays_as_it_is() {
        let said = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\nevent: x\ndata: no json\ndata: at all\n\ndata: [DONE]\n\n";
        for ends in ["\n", "\r\n", "\r"] {
            for piece in [1, 3, 1_000] {
                assert_eq!(framed(Wire::OpenAi, &said.replace('\n', ends), piece).unwrap(), said, "{ends:?} {piece}");
            }
        }
        let mixed = json!({ "choices": [{ "delta": { "content": "a", "tool_calls": [] }, "finish_reason": "stop" }] });
        let framed_mixed = framed(Wire::OpenAi, &data(&[mixed]), 9).unwrap();
        assert!(framed_mixed.contains("stop") && framed_mixed.contains(r#""content":"a""#), "{framed_mixed}");
        let lines = "{\"done\":false}\n{\"done\":true}\n";
        assert_eq!(framed(Wire::Ollama, lines, 4).unwrap(), lines);
    }

    #[test]
    fn an_event_is_counted_before_it_is_read() {
        let wide = format!("[{}0]", "0,".repeat(100_000));
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for wire in [Wire::OpenAi, Wire::Responses, Wire::Anthropic, Wire::Gemini, Wire::Ollama] {
            for (json, what) in [(&wide, "100000 values"), (&deep, "127 deep")] {
                let said = if wire == Wire::Ollama { format!("{json}\n") } else { format!("data: {json}\n\n") };
                let error = framed(wire, &said, 4_096).unwrap_err();
                assert!(error.contains(what), "{wire:?}: {error}");
            }
        }
    }

    #[test]
    fn what_waits_of_a_stream_is_bounded() {
        let line = "a".repeat(1_000_000);
        let event = format!("data: {line}\n").repeat(PROVIDER_LINE_BYTES_MAX / line.len() + 1);
        assert!(framed(Wire::OpenAi, &event, 100_000).unwrap_err().contains("one event of it is longer"));
        let events = format!("data: {line}\n\n").repeat(PROVIDER_LARGE_BYTES_MAX / line.len() + 1);
        assert!(framed(Wire::OpenAi, &events, 100_000).unwrap_err().contains("more than 65536 bytes"));
        let piece = data(&[call(0, "", "", &"a".repeat(60_000))]);
        let pieces = piece.repeat(MODEL_ANSWER_BYTES_MAX / 60_000 + 1);
        assert!(framed(Wire::OpenAi, &pieces, 100_000).unwrap_err().contains("its calls are longer"));
        let many: Vec<Value> = (0..=u64::try_from(MODEL_ANSWER_BYTES_MAX / CALL_COST_BYTES).unwrap())
            .map(|index| call(index, "", "", ""))
            .collect();
        assert!(framed(Wire::OpenAi, &data(&many), 100_000).unwrap_err().contains("its calls are longer"));
        let named = data(&[call(0, "", &"a".repeat(PROVIDER_CALL_NAME_BYTES_MAX + 1), "")]);
        assert!(framed(Wire::OpenAi, &named, 100_000).unwrap_err().contains("a name of 65537 bytes"));
    }
}
