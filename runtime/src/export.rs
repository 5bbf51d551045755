//! Looms as they leave the machine: whole, and with secrets taken out unless somebody says otherwise (PROD-8).

pub mod car;
pub mod trajectory;

use cantrip_gates::redact_json;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::domain::ids::{EntryId, LoomId};
use crate::domain::loom::{How, NoJson, Payload, Sealed, Turn, body_json, plain_json};
use crate::ports::{LoomStore, StoreError};

/// What happens to secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Redaction {
    /// They are taken out.
    #[default]
    Default,
    /// They stay.
    None,
}

/// Why a loom could not be exported.
#[derive(Debug, Error)]
pub enum ExportError {
    /// It could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An entry could not be written as JSON.
    #[error("entry {id} could not be written as JSON")]
    Json {
        /// Which.
        id: EntryId,
        /// Why.
        #[source]
        source: NoJson,
    },
}

enum Unwritten {
    Store(StoreError),
    Json(NoJson),
}

impl From<NoJson> for Unwritten {
    fn from(error: NoJson) -> Self {
        Self::Json(error)
    }
}

/// A loom as JSON lines: one entry a line, in the order of the logs, with large texts put in.
///
/// # Errors
/// A loom that cannot be read.
pub fn jsonl(store: &dyn LoomStore, loom: LoomId, redaction: Redaction) -> Result<Vec<String>, ExportError> {
    store.entries(loom)?.iter().map(|sealed| line(store, sealed, redaction)).collect()
}

fn line(store: &dyn LoomStore, sealed: &Sealed, redaction: Redaction) -> Result<String, ExportError> {
    let entry = &sealed.entry;
    let text_of = |payload: &Payload| store.text(payload).map_err(Unwritten::Store);
    let mut body = body_json(entry, &text_of).map_err(|error| match error {
        Unwritten::Store(error) => ExportError::Store(error),
        Unwritten::Json(source) => ExportError::Json { id: sealed.id, source },
    })?;
    if redaction == Redaction::Default {
        redact_json(&mut body);
    }
    let mut object = Map::new();
    object.insert("id".to_owned(), json!(sealed.id.to_string()));
    object.insert("v".to_owned(), json!(entry.format));
    object.insert("loom".to_owned(), json!(entry.loom.to_string()));
    object.insert("writer".to_owned(), json!(entry.writer.to_string()));
    object.insert("sequence".to_owned(), json!(entry.sequence));
    object.insert("at_us".to_owned(), json!(entry.at_us));
    object.insert("entity".to_owned(), json!(entry.entity.map(|entity| entity.to_string())));
    object.insert("parent".to_owned(), json!(entry.parent.map(|id| id.to_string())));
    for (name, id) in [("relies", entry.relies), ("was", entry.was)] {
        if let Some(id) = id {
            object.insert(name.to_owned(), json!(id.to_string()));
        }
    }
    for (key, other) in entry.others.of_entry() {
        let mut other = plain_json(other);
        if redaction == Redaction::Default {
            redact_json(&mut other);
        }
        object.insert(key.to_owned(), other);
    }
    if let Value::Object(fields) = body {
        object.extend(fields);
    }
    Ok(Value::Object(object).to_string())
}

/// A turn as JSON.
pub fn turn(turn: &Turn, redaction: Redaction) -> Value {
    let gates = turn.gates.iter().map(|gate| {
        let (result, is_error) = match &gate.result {
            Some(Ok(value)) => (value.clone(), json!(false)),
            Some(Err(error)) => (json!(error.message()), json!(true)),
            None => (Value::Null, Value::Null),
        };
        json!({ "gate": gate.gate, "arguments": gate.arguments, "result": result, "is_error": is_error, "duration_us": gate.duration_us })
    });
    let said = turn.said.as_ref().map(|said| {
        let calls = said.calls.iter().map(|call| {
            json!({ "id": call.id, "gate": call.gate, "arguments": call.arguments.clone().unwrap_or_else(Value::String) })
        });
        json!({ "content": said.content, "calls": calls.collect::<Vec<_>>(), "usage": said.usage, "model": said.model })
    });
    let observation = turn.observation.as_ref().map(|seen| {
        let answers = seen
            .answers
            .iter()
            .map(|answer| json!({ "call": answer.call, "content": answer.content, "is_error": answer.is_error }));
        answers.collect::<Vec<_>>()
    });
    let mut value = json!({
        "id": turn.id.to_string(),
        "parent": turn.parent.map(|id| id.to_string()),
        "entity": turn.entity.to_string(),
        "sequence": turn.sequence,
        "at_us": turn.at_us,
        "duration_us": turn.duration_us,
        "said": said,
        "gates": gates.collect::<Vec<_>>(),
        "children": turn.children.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "observation": observation,
        "terminated": matches!(turn.ended, Some((How::Terminated, _))),
        "truncated": matches!(turn.ended, Some((How::Truncated, _))),
        "reason": turn.ended.as_ref().map(|(_, reason)| reason),
        "reward": turn.reward,
    });
    if let (Some(loom), Some(object)) = (turn.from, value.as_object_mut()) {
        object.insert("loom".to_owned(), json!(loom.to_string()));
    }
    if redaction == Redaction::Default {
        redact_json(&mut value);
    }
    value
}
