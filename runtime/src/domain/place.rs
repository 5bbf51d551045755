//! Where a call or a child runs, as the record has it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ids::{NodeAddress, NodeName};

const HERE: &str = "here";
const CALLER: &str = "caller";
const ANY: &str = "any";
/// Between several nodes of which one is taken.
const OR: &str = " or ";

/// Where a call of a gate, or a child, runs. The text of a record is parsed here and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CallPlace {
    /// On the node that writes the record.
    #[default]
    Here,
    /// At whoever had the entity cast.
    Caller,
    /// On one of these nodes.
    Nodes(Vec<NodeAddress>),
    /// On whichever node grants it.
    Any,
    /// A text of another version, kept as it is. It names nobody.
    Other(String),
}

impl CallPlace {
    /// Tells whether a node is named as one where it runs.
    pub fn names(&self, node: &NodeName) -> bool {
        match self {
            Self::Nodes(nodes) => nodes.iter().any(|named| named.name() == node),
            Self::Here | Self::Caller | Self::Any | Self::Other(_) => false,
        }
    }
}

impl From<&str> for CallPlace {
    fn from(text: &str) -> Self {
        match text {
            HERE => Self::Here,
            CALLER => Self::Caller,
            ANY => Self::Any,
            _ => {
                let nodes: Result<Vec<NodeAddress>, _> = text.split(OR).map(NodeAddress::from_str).collect();
                nodes.map_or_else(|_| Self::Other(text.to_owned()), Self::Nodes)
            }
        }
    }
}

impl fmt::Display for CallPlace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => out.write_str(HERE),
            Self::Caller => out.write_str(CALLER),
            Self::Any => out.write_str(ANY),
            Self::Other(text) => out.write_str(text),
            Self::Nodes(nodes) => {
                for (at, node) in nodes.iter().enumerate() {
                    let before = if at == 0 { "" } else { OR };
                    write!(out, "{before}{node}")?;
                }
                Ok(())
            }
        }
    }
}

impl Serialize for CallPlace {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CallPlace {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::from(text.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_of_a_record_is_printed_as_it_was_read() {
        let texts = [
            "here",
            "caller",
            "any",
            "",
            "Here",
            "a@h:1",
            "a@h:1 or b@h:2",
            "a@h:1 or ",
            " or ",
            "a",
            "a or b",
            "local@h:1",
            "a@h:1  or b@h:2",
            "here or a@h:1",
        ];
        for text in texts {
            assert_eq!(CallPlace::from(text).to_string(), text);
        }
    }

    #[test]
    fn only_nodes_with_their_addresses_are_named() {
        let a: NodeName = "a".parse().unwrap();
        assert!(CallPlace::from("b@h:2 or a@h:1").names(&a));
        for text in ["a", "any", "here", "ab@h:1", "A@h:1", "a@h:1 or nonsense", "a@h:1or b@h:2"] {
            assert!(!CallPlace::from(text).names(&a), "{text}");
        }
    }
}
