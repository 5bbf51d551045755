//! Who asks something of this node. What a caller may do is decided from this type and never from a text.

use std::fmt;

use super::ids::{NodeAddress, NodeName};

/// How the record has the machine's own user, in the place where a peer's name stands.
const LOCAL: &str = "local";

/// Whoever asks, as the connection proves it.
///
/// A certificate that names a listed peer is that peer. Certificates of clients are for later: they become a case of their own
/// beside [`Caller::Peer`], with less than a peer has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Caller {
    /// The machine's own user at this process's command line: nothing came over a connection.
    CommandLine,
    /// The machine's own user, or whoever else may open the node's own socket.
    Socket,
    /// A node with a certificate of the authority, by the name in it.
    Peer(NodeName),
}

impl Caller {
    /// Tells who a record says had an entity cast: the machine's own user, or a node by its name. An address that stands beside
    /// the name does not count: a peer that has moved is still the same. A text that names nobody is nobody's.
    pub fn of_record(text: &str) -> Option<Self> {
        if text == LOCAL {
            return Some(Self::Socket);
        }
        let named = text.parse::<NodeAddress>().map(|node| node.name().clone());
        named.or_else(|_| text.parse::<NodeName>()).ok().map(Self::Peer)
    }

    /// The peer's name; nothing for the machine's own user.
    pub const fn peer(&self) -> Option<&NodeName> {
        match self {
            Self::CommandLine | Self::Socket => None,
            Self::Peer(name) => Some(name),
        }
    }

    /// Tells whether this is the machine's own user.
    pub const fn is_local(&self) -> bool {
        self.peer().is_none()
    }

    /// Tells whether two callers are one authority, whichever way each came.
    pub fn is_same(&self, other: &Self) -> bool {
        self.peer() == other.peer()
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.peer().map_or(LOCAL, NodeName::as_str))
    }
}

/// A caller, and how a record that is written for it names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownCaller {
    /// Who it is.
    pub caller: Caller,
    /// For people: the name with the address under which it is listed, or `local`. Decides nothing.
    pub recorded: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_caller_is_known_by_its_name_alone() {
        let peer = Caller::of_record("b@127.0.0.1:7432");
        assert!(peer.is_some() && peer == Caller::of_record("b@elsewhere:1") && peer == Caller::of_record("b"));
        assert_eq!(Caller::of_record("local"), Some(Caller::Socket));
        for nobody in ["", "local@127.0.0.1:1", "b/local", "B@h:1", "b@", "@h:1", " b"] {
            assert_eq!(Caller::of_record(nobody), None, "{nobody:?}");
        }
    }

    #[test]
    fn the_machines_own_user_is_one_authority_whichever_way_it_comes() {
        let peer = |name: &str| Caller::of_record(name).unwrap();
        assert!(Caller::CommandLine.is_same(&Caller::Socket) && !Caller::Socket.is_same(&peer("b")));
        assert!(peer("b@h:1").is_same(&peer("b")) && !peer("b").is_same(&peer("c")));
    }
}
