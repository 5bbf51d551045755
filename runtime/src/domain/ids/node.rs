//! The names of nodes: what a certificate names, and where that node is reached.
//!
//! A node's name is an authority, so it has one parse. `local` is nobody's name: it stands for the machine's own user.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::domain::limits::{NODE_ADDRESS_CHARS_MAX, NODE_NAME_CHARS_MAX, NODE_SHOWN_CHARS_MAX};

/// The word for the machine's own user, which no node can have as its name.
const RESERVED: &str = "local";
const EXPECTED: &str = "expected name@host:port, such as agents@127.0.0.1:7432";

/// Why a text names no node.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NodeNameError {
    /// The length or a character is off.
    #[error("`{0}` cannot name a node: up to {NODE_NAME_CHARS_MAX} of a-z, 0-9 and - inside; {EXPECTED}")]
    Name(String),
    /// The name stands for the machine's own user.
    #[error("`{RESERVED}` cannot name a node: it stands for the user of the machine; {EXPECTED}")]
    Reserved,
    /// There is no `@`.
    #[error("`{0}` is no node: {EXPECTED}")]
    NoAddress(String),
    /// What follows the `@` is not a host and a port.
    #[error("`{0}` is no address of at most {NODE_ADDRESS_CHARS_MAX} characters: {EXPECTED}")]
    Address(String),
}

fn shown(text: &str) -> String {
    text.chars().take(NODE_SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect()
}

/// A node's name, as its certificate has it: up to 63 of `a-z`, `0-9` and `-` inside. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = NodeNameError;

    fn from_str(text: &str) -> Result<Self, NodeNameError> {
        let fits = !text.is_empty()
            && text.len() <= NODE_NAME_CHARS_MAX
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        match text {
            _ if !fits => Err(NodeNameError::Name(shown(text))),
            RESERVED => Err(NodeNameError::Reserved),
            _ => Ok(Self(text.into())),
        }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "NodeName({self})")
    }
}

impl Borrow<str> for NodeName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A node's name and where it is reached, `name@host:port`. Only the name is an authority: an address may change.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeAddress {
    name: NodeName,
    address: Arc<str>,
}

impl NodeAddress {
    /// Joins a name and a `host:port`.
    ///
    /// # Errors
    /// [`NodeNameError::Address`] if the address lacks a host or a port.
    pub fn new(name: NodeName, address: &str) -> Result<Self, NodeNameError> {
        let is_plain = |host: &str| {
            let inner = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]%".contains(&byte);
            !host.is_empty() && host.bytes().all(inner)
        };
        let fits = address.len() <= NODE_ADDRESS_CHARS_MAX
            && address.rsplit_once(':').is_some_and(|(host, port)| is_plain(host) && port.parse::<u16>().is_ok());
        if fits { Ok(Self { name, address: address.into() }) } else { Err(NodeNameError::Address(shown(address))) }
    }

    /// The name in the node's certificate.
    pub const fn name(&self) -> &NodeName {
        &self.name
    }

    /// The `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Tells whether a text means this node: its name, or its name and address.
    pub fn is_meant_by(&self, text: &str) -> bool {
        let rest = text.strip_prefix(self.name.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('@') == Some(&*self.address))
    }
}

impl FromStr for NodeAddress {
    type Err = NodeNameError;

    fn from_str(text: &str) -> Result<Self, NodeNameError> {
        let (name, address) = text.split_once('@').ok_or_else(|| NodeNameError::NoAddress(shown(text)))?;
        Self::new(name.parse()?, address)
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}@{}", self.name, self.address)
    }
}

impl fmt::Debug for NodeAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "NodeAddress({self})")
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

as_text!(NodeName);
as_text!(NodeAddress);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_label_of_lower_case_letters_digits_and_dashes_inside() {
        for text in ["a", "agents", "node-2", "0", &"a".repeat(63)] {
            assert_eq!(text.parse::<NodeName>().map(|name| name.to_string()), Ok(text.to_owned()));
        }
        let long = "a".repeat(64);
        for text in ["", "A", "a.b", "-a", "a-", "a b", "a@b", "a/local", "ä", "\u{430}gents", "a\0", "a\n", &long] {
            assert!(matches!(text.parse::<NodeName>(), Err(NodeNameError::Name(_))), "{text:?}");
        }
    }

    #[test]
    fn local_is_nobodys_name() {
        assert_eq!("local".parse::<NodeName>(), Err(NodeNameError::Reserved));
        assert_eq!("local@127.0.0.1:7432".parse::<NodeAddress>(), Err(NodeNameError::Reserved));
        assert!("locals".parse::<NodeName>().is_ok());
    }

    #[test]
    fn a_node_with_its_address_prints_and_parses_to_itself() {
        for text in ["agents@127.0.0.1:7432", "b@node.example:1", "c@[::1]:7432", "d@local:0"] {
            assert_eq!(text.parse::<NodeAddress>().map(|node| node.to_string()), Ok(text.to_owned()));
        }
        for text in ["agents", "agents@", "agents@host", "agents@:1", "agents@h:65536", "a@h or b:1", "a@b@h:1", "@h:1"]
        {
            assert!(text.parse::<NodeAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_node_is_meant_by_its_name_or_by_all_of_it() {
        let node: NodeAddress = "agents@127.0.0.1:7432".parse().unwrap();
        assert!(node.is_meant_by("agents") && node.is_meant_by("agents@127.0.0.1:7432"));
        for other in ["", "agent", "agents2", "agents@", "agents@127.0.0.1:7433", "agents@evil:1", "Agents"] {
            assert!(!node.is_meant_by(other), "{other}");
        }
    }
}
