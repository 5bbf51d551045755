//! What an observer is told while an entity works. Events observe and never control.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::end::EndReason;
use super::ids::EntityId;
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
        /// The code or text of it, redacted.
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
        /// The arguments, redacted.
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
        /// The answer.
        result: Option<Value>,
    },
}

impl EventKind {
    /// The same with secrets taken out (PROD-8). Pieces of a stream are left as they are: a secret can lie across two of
    /// them, so what goes to logs is the whole message.
    #[must_use]
    pub fn redacted(self) -> Self {
        let clean = |text: String| cantrip_gates::redact(&text).into_owned();
        let clean_json = |mut value: Value| {
            cantrip_gates::redact_json(&mut value);
            value
        };
        match self {
            Self::MessageComplete { said } => Self::MessageComplete { said: clean(said) },
            Self::GateCalled { gate, arguments } => Self::GateCalled { gate, arguments: clean_json(arguments) },
            Self::GateReturned { gate, is_error, preview, duration_us } => {
                Self::GateReturned { gate, is_error, preview: clean(preview), duration_us }
            }
            Self::TurnComplete { turn, observation, is_error, duration_us } => {
                Self::TurnComplete { turn, observation: clean(observation), is_error, duration_us }
            }
            Self::Final { how, reason, result } => Self::Final { how, reason, result: result.map(clean_json) },
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
