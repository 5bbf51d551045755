//! What an entity may see of a failure.
//!
//! Owns the only error type that crosses a gate towards the entity, where it becomes an observation (CIRCLE-5: never
//! swallowed). It never carries a host path, a secret or a backtrace, and a fault of the runtime is never turned into
//! one.

use serde::{Deserialize, Serialize};

/// A gate call that failed, told so that the entity can act on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "kind", content = "message", rename_all = "snake_case")]
pub enum GateError {
    /// The call would leave what was granted. Trying again does not help.
    #[error("{0}")]
    Denied(String),
    /// The arguments are wrong. A corrected call can succeed.
    #[error("{0}")]
    Invalid(String),
    /// What was named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// A bound of size or count was met.
    #[error("{0}")]
    Exhausted(String),
    /// The gate tried and the world said no.
    #[error("{0}")]
    Failed(String),
    /// The time for the call ran out. It may have had an effect.
    #[error("{0}")]
    TimedOut(String),
    /// Nobody can say whether it ran: the record ends before it returned.
    #[error("{0}")]
    Unknown(String),
    /// A person was asked whether it may run, and did not answer in time. It did not run.
    #[error("{0}")]
    Unanswered(String),
    /// A child was truncated before it had an answer.
    #[error("{}", .0.message)]
    Truncated(Box<Truncation>),
}

/// What is known of a child that was truncated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truncation {
    /// The ward or the event that ended it, such as `max_turns`.
    pub reason: String,
    /// What is said of it.
    pub message: String,
    /// The answer as far as there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<String>,
}

impl GateError {
    /// The word for the case, as it is recorded.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Denied(_) => "denied",
            Self::Invalid(_) => "invalid",
            Self::NotFound(_) => "not_found",
            Self::Exhausted(_) => "exhausted",
            Self::Failed(_) => "failed",
            Self::TimedOut(_) => "timed_out",
            Self::Unknown(_) => "unknown",
            Self::Unanswered(_) => "unanswered",
            Self::Truncated(_) => "truncated",
        }
    }

    /// The message alone.
    pub fn message(&self) -> &str {
        match self {
            Self::Denied(message)
            | Self::Invalid(message)
            | Self::NotFound(message)
            | Self::Exhausted(message)
            | Self::Failed(message)
            | Self::TimedOut(message)
            | Self::Unknown(message)
            | Self::Unanswered(message) => message,
            Self::Truncated(truncation) => &truncation.message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circle_5_every_case_reads_back_as_it_was_written() {
        let message = || "why".to_owned();
        for error in [
            GateError::Denied(message()),
            GateError::Invalid(message()),
            GateError::NotFound(message()),
            GateError::Exhausted(message()),
            GateError::Failed(message()),
            GateError::TimedOut(message()),
            GateError::Unknown(message()),
            GateError::Unanswered(message()),
        ] {
            assert_eq!(error.to_string(), "why");
            assert_eq!(error.message(), "why");
            let json = serde_json::to_value(&error).expect("json");
            assert_eq!(json, serde_json::json!({"kind": error.kind(), "message": "why"}));
            assert_eq!(serde_json::from_value::<GateError>(json).expect("back"), error);
        }
    }

    #[test]
    fn what_is_known_of_a_truncated_child_reads_back_as_it_was_written() {
        for partial in [None, Some("half".to_owned())] {
            let known = Truncation { reason: "max_turns".to_owned(), message: "why".to_owned(), partial };
            let error = GateError::Truncated(Box::new(known));
            assert_eq!((error.kind(), error.message()), ("truncated", "why"));
            let json = serde_json::to_value(&error).expect("json");
            assert_eq!(serde_json::from_value::<GateError>(json).expect("back"), error);
        }
    }
}
