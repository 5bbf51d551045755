//! Why an episode ended, as the record names it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::short;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What was decisive for the end of an episode. The text of a record is parsed here and nowhere else.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum EndReason {
            $($(#[$doc])* $name,)*
            /// A reason of another version, kept as it is. It never counts as a success.
            Other(String),
        }

        impl EndReason {
            /// The reason as it is recorded.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Other(text) => text,
                }
            }
        }

        impl From<&str> for EndReason {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$name,)*
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        #[cfg(test)]
        const TEXTS: &[&str] = &[$($text),*];
    };
}

reasons! {
    /// The gate `done` was called.
    Done = "done",
    /// The model answered with text alone, and its cantrip takes that for the answer.
    Text = "text",
    /// The guest returned.
    Returned = "returned",
    /// The ward of that name is used up.
    MaxTurns = "max_turns",
    /// The ward of that name is used up.
    MaxTokens = "max_tokens",
    /// The ward of that name is over, or the time that a caller had left.
    Timeout = "timeout_ms",
    /// A guest reached the ward of that name.
    MaxEvalMs = "max_eval_ms",
    /// A guest reached the ward of that name.
    MaxFuel = "max_fuel",
    /// A guest reached the ward of that name.
    MaxMemoryBytes = "max_memory_bytes",
    /// Somebody cancelled the cast.
    Cancelled = "cancelled",
    /// The parent ended (COMP-9).
    ParentTerminated = "parent_terminated",
    /// Somebody interrupted the episode; a summoned entity lives on.
    Interrupted = "interrupted",
    /// The model gave no answer.
    ModelFailed = "model_failed",
    /// The model's answer broke the contract.
    ContractBroken = "contract_broken",
    /// The guest said that it failed.
    GuestFailed = "guest_failed",
    /// The guest broke down.
    GuestTrapped = "guest_trapped",
    /// The node that ran it failed.
    RemoteFailed = "remote_failed",
    /// What happened could not be recorded.
    RecordFailed = "record_failed",
}

impl EndReason {
    /// Tells whether the episode failed: the model, the guest or the node could not go on. A reason that this version does not
    /// know is a failure, whatever it says.
    pub const fn is_failure(&self) -> bool {
        match self {
            Self::ModelFailed
            | Self::ContractBroken
            | Self::GuestFailed
            | Self::GuestTrapped
            | Self::RemoteFailed
            | Self::RecordFailed
            | Self::Other(_) => true,
            Self::Done
            | Self::Text
            | Self::Returned
            | Self::MaxTurns
            | Self::MaxTokens
            | Self::Timeout
            | Self::MaxEvalMs
            | Self::MaxFuel
            | Self::MaxMemoryBytes
            | Self::Cancelled
            | Self::ParentTerminated
            | Self::Interrupted => false,
        }
    }

    /// The reason with a text of another version cut to a name's length.
    #[must_use]
    pub fn short(self) -> Self {
        if let Self::Other(text) = self { Self::Other(short::name(text)) } else { self }
    }

    /// Tells whether somebody or something outside stopped the episode (COMP-8).
    pub const fn is_stop(&self) -> bool {
        matches!(self, Self::Cancelled | Self::ParentTerminated | Self::Interrupted)
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

impl Serialize for EndReason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for EndReason {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::from(text.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_prints_and_parses_to_itself_and_an_unknown_one_stays_as_it_is() {
        for text in TEXTS {
            let reason = EndReason::from(*text);
            assert!(!matches!(reason, EndReason::Other(_)) && reason.as_str() == *text, "{text}");
        }
        for text in ["", "Done", "done ", "vanished", "wholly_failed", "max_turns\0"] {
            let reason = EndReason::from(text);
            assert!(reason == EndReason::Other(text.to_owned()) && reason.as_str() == text && reason.is_failure());
        }
    }

    #[test]
    fn what_a_ward_or_the_entity_ended_is_no_failure() {
        let failures: Vec<&str> = TEXTS.iter().copied().filter(|text| EndReason::from(*text).is_failure()).collect();
        let known =
            ["model_failed", "contract_broken", "guest_failed", "guest_trapped", "remote_failed", "record_failed"];
        assert_eq!(failures, known);
    }
}
