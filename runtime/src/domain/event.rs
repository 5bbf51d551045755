//! What an observer is told while an entity works. Events observe and never control.

use cantrip_gates::limits::CREDENTIAL_BYTES_MAX;
use cantrip_gates::redact_start;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::context::cut;
use super::end::EndReason;
use super::ids::EntityId;
use super::limits::{EVENT_BYTES_MAX, EVENT_PREVIEW_CHARS};
use super::loom::How;
use super::model::Usage;

/// One thing that happened, and to whom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The entity.
    pub entity: EntityId,
    /// How deep below the root it is.
    pub depth: u32,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// A turn began.
    TurnStarted {
        /// Its number, from 1.
        turn: u64,
    },
    /// The model begins to answer.
    MessageStarted,
    /// A piece of text.
    Text {
        /// The piece.
        text: String,
    },
    /// A piece of reasoning.
    Thinking {
        /// The piece.
        text: String,
    },
    /// The answer is whole.
    MessageComplete {
        /// The code or text of it, redacted, and cut where it is long.
        said: String,
    },
    /// Tokens of the answer.
    Usage {
        /// The tokens.
        #[serde(flatten)]
        usage: Usage,
    },
    /// A question is asked again after a wait.
    Retry {
        /// Which try it will be, from 2.
        attempt: u32,
        /// The wait, in milliseconds.
        wait_ms: u64,
        /// Why.
        reason: String,
    },
    /// A gate is about to run.
    GateCalled {
        /// The gate.
        gate: String,
        /// The arguments, redacted, and cut where they are long.
        arguments: Value,
    },
    /// A gate has run.
    GateReturned {
        /// The gate.
        gate: String,
        /// Whether it failed.
        is_error: bool,
        /// The result, redacted and cut.
        preview: String,
        /// How long it took, in microseconds.
        duration_us: u64,
    },
    /// A turn is recorded.
    TurnComplete {
        /// Its number.
        turn: u64,
        /// What the entity sees of it, redacted and cut.
        observation: String,
        /// Whether something failed in it.
        is_error: bool,
        /// How long it took, in microseconds.
        duration_us: u64,
    },
    /// Older turns are folded.
    Folded {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
    /// The episode ended.
    Final {
        /// By whom.
        how: How,
        /// What was decisive.
        reason: EndReason,
        /// The answer, redacted, and cut where it is long.
        result: Option<Value>,
    },
}

/// How much of a text an event holds before it is cut to what is shown: a secret that the cut falls into is still seen.
pub(super) fn head(text: &str) -> String {
    let bytes_max = EVENT_PREVIEW_CHARS * 4 + CREDENTIAL_BYTES_MAX;
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default().to_owned()
}

/// The beginning of a text in one line.
fn preview(text: &str) -> String {
    let (shown, is_cut) = redact_start(text, EVENT_PREVIEW_CHARS * 4);
    let mut short = cut(&shown, EVENT_PREVIEW_CHARS);
    if is_cut && !short.ends_with('…') {
        short.push('…');
    }
    short
}

fn text(text: &str, left: &mut usize) -> String {
    let (shown, is_cut) = redact_start(text, *left);
    *left = left.saturating_sub(shown.len().max(1));
    if is_cut { format!("{shown}…") } else { shown.into_owned() }
}

/// So much of a value as an event may hold; what is left out is `…`.
fn part(value: &Value, left: &mut usize) -> Value {
    /// What one value costs beside its text.
    const VALUE_BYTES: usize = 8;
    *left = left.saturating_sub(VALUE_BYTES);
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        Value::String(content) => Value::String(text(content, left)),
        Value::Array(items) => {
            let mut shown = Vec::new();
            for item in items {
                if *left == 0 {
                    shown.push(Value::from("…"));
                    break;
                }
                shown.push(part(item, left));
            }
            Value::Array(shown)
        }
        Value::Object(entries) => {
            let mut shown = serde_json::Map::new();
            for (key, value) in entries {
                if *left == 0 {
                    shown.insert("…".to_owned(), Value::from("…"));
                    break;
                }
                shown.insert(text(key, left), part(value, left));
            }
            Value::Object(shown)
        }
    }
}

impl EventKind {
    /// The same as it is shown: cut, and with secrets taken out (PROD-8). What it costs is bounded by what is shown, and not
    /// by what a stranger wrote. Pieces of a stream are left as they are: a secret can lie across two of them, so what goes
    /// to logs is the whole message.
    #[must_use]
    pub fn redacted(self) -> Self {
        let json = |value: &Value| {
            let mut shown = part(value, &mut { EVENT_BYTES_MAX });
            cantrip_gates::redact_json(&mut shown);
            shown
        };
        match self {
            Self::MessageComplete { said } => Self::MessageComplete { said: text(&said, &mut { EVENT_BYTES_MAX }) },
            Self::GateCalled { gate, arguments } => {
                Self::GateCalled { gate: preview(&gate), arguments: json(&arguments) }
            }
            Self::GateReturned { gate, is_error, preview: result, duration_us } => {
                Self::GateReturned { gate: preview(&gate), is_error, preview: preview(&result), duration_us }
            }
            Self::TurnComplete { turn, observation, is_error, duration_us } => {
                Self::TurnComplete { turn, observation: preview(&observation), is_error, duration_us }
            }
            Self::Final { how, reason, result } => Self::Final { how, reason, result: result.as_ref().map(json) },
            other @ (Self::TurnStarted { .. }
            | Self::MessageStarted
            | Self::Text { .. }
            | Self::Thinking { .. }
            | Self::Usage { .. }
            | Self::Retry { .. }
            | Self::Folded { .. }) => other,
        }
    }
}
