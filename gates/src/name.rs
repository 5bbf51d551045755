//! The name of a gate.
//!
//! Owns the one spelling rule for gate names: what a person writes in a cantrip file, what a model calls and what a
//! guest imports is the same identifier. It never knows which gates exist.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::GATE_NAME_CHARS_MAX;

/// A gate's name: `[A-Za-z_][A-Za-z0-9_]{0,63}`, an identifier in every code medium. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GateName(Arc<str>);

/// Why a text is not a gate name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateNameError {
    /// The text is empty.
    #[error("a gate name cannot be empty")]
    Empty,
    /// The text is longer than [`GATE_NAME_CHARS_MAX`].
    #[error("a gate name has at most {GATE_NAME_CHARS_MAX} characters, this one has {chars}")]
    TooLong {
        /// How many characters came.
        chars: usize,
    },
    /// A character that an identifier cannot hold at that place.
    #[error(
        "gate name `{name}` holds {character:?}: a name is letters, digits and `_`, and does not start with a digit"
    )]
    Character {
        /// The refused name, with the character escaped if it does not print.
        name: String,
        /// The first character that does not fit.
        character: char,
    },
}

impl GateName {
    /// Parses a gate name.
    ///
    /// # Errors
    ///
    /// [`GateNameError`] says which part of the rule the text breaks.
    ///
    /// ```
    /// use cantrip_gates::GateName;
    /// assert_eq!(GateName::parse("read_file")?.as_str(), "read_file");
    /// assert!(GateName::parse("read-file").is_err());
    /// # Ok::<(), cantrip_gates::GateNameError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, GateNameError> {
        if text.is_empty() {
            return Err(GateNameError::Empty);
        }
        let chars = text.chars().count();
        if chars > GATE_NAME_CHARS_MAX {
            return Err(GateNameError::TooLong { chars });
        }
        let misfit = text.chars().enumerate().find(|&(at, character)| {
            let letter = character.is_ascii_alphabetic() || character == '_';
            !(letter || at > 0 && character.is_ascii_digit())
        });
        match misfit {
            Some((_, character)) => Err(GateNameError::Character { name: text.escape_debug().to_string(), character }),
            None => Ok(Self(Arc::from(text))),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for GateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Borrow<str> for GateName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for GateName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for GateName {
    type Err = GateNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for GateName {
    type Error = GateNameError;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        Self::parse(text)
    }
}

impl Serialize for GateName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for GateName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_names() {
        for text in ["done", "_", "a1", "Read_File", &"x".repeat(64)] {
            let name = GateName::parse(text).expect("a name");
            assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn what_is_not_an_identifier_is_refused_and_named() {
        for text in ["1a", "read-file", "read file", "é", "a.b", "a\u{0}"] {
            let error = GateName::parse(text).expect_err("not a name");
            assert!(matches!(error, GateNameError::Character { .. }), "{text:?} gave {error}");
        }
        assert_eq!(GateName::parse(""), Err(GateNameError::Empty));
        assert_eq!(GateName::parse(&"x".repeat(65)), Err(GateNameError::TooLong { chars: 65 }));
    }

    #[test]
    fn serde_validates() {
        assert_eq!(serde_json::to_string(&GateName::parse("done").expect("name")).expect("json"), "\"done\"");
        assert!(serde_json::from_str::<GateName>("\"no no\"").is_err());
    }
}
