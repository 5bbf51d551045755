//! The words of membership, as they stand in entries.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::ids::{EntityId, EntryId, NodeName, WriterKey, hex};
use crate::domain::loom::{Minted, Payload};

/// Declares a value of so many bytes, which entries keep as a byte string and people read as hexadecimal.
macro_rules! bytes {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $length]);

        impl $name {
            /// The value from its bytes.
            pub const fn from_bytes(bytes: [u8; $length]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, concat!(stringify!($name), "({})"), self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serde_bytes::Bytes::new(&self.0).serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let bytes: serde_bytes::ByteArray<$length> = Deserialize::deserialize(deserializer)?;
                Ok(Self(bytes.into_array()))
            }
        }
    };
}

bytes!(
    /// The random part that an id commits to. Who mints a loom or an entity shows it in that one's first entry.
    Nonce, 16
);
bytes!(
    /// A certificate authority: BLAKE3 of its public key, as its certificates have it (`SubjectPublicKeyInfo`, DER).
    AuthorityId, 32
);
bytes!(
    /// One certificate: BLAKE3 of its DER.
    CertificateId, 32
);

/// A node: whoever an authority has certified under a name, under whichever keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId {
    /// Who vouches for the name.
    pub authority: AuthorityId,
    /// The name.
    pub name: NodeName,
}

/// Who is admitted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Principal {
    /// A node, under all its keys.
    Node(NodeId),
    /// A single key, and whatever succeeds it: of a folder that has no certificate.
    Key(WriterKey),
}

impl fmt::Display for Principal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => node.fmt(out),
            Self::Key(key) => key.fmt(out),
        }
    }
}

impl fmt::Display for NodeId {
    /// The name, and enough of the authority to tell it from another.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.authority.to_string();
        write!(out, "{} (authority {})", self.name, authority.get(..16).unwrap_or(&authority))
    }
}

/// What a member may do beside reading and keeping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// Open, fork, judge and resume, and admit a host for what it opens there.
    Write,
    /// Go on with entities of others.
    Adopt,
    /// Admit others, with at most its own rights, and expel them again.
    Admit,
}

impl Right {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Write, Self::Adopt, Self::Admit];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Adopt => "adopt",
            Self::Admit => "admit",
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl std::str::FromStr for Right {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|right| right.as_str() == word);
        found.ok_or_else(|| format!("`{word}` is no right in a loom; there are write, adopt and admit"))
    }
}

/// The rights of one member.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rights(pub BTreeSet<Right>);

impl Rights {
    /// Whether a right is among them.
    pub fn has(&self, right: Right) -> bool {
        self.0.contains(&right)
    }

    /// The words for them.
    pub fn words(&self) -> Vec<&'static str> {
        self.0.iter().map(|right| right.as_str()).collect()
    }

    /// Whether each of these is among others.
    pub fn is_within(&self, others: &Self) -> bool {
        self.0.is_subset(&others.0)
    }
}

impl FromIterator<Right> for Rights {
    fn from_iter<I: IntoIterator<Item = Right>>(rights: I) -> Self {
        Self(rights.into_iter().collect())
    }
}

/// What an admission of a host is for: one child, and all that is below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Scope {
    /// The child.
    pub entity: EntityId,
    /// What the child's id commits to: whoever admits a host has minted what it is for.
    pub minted: Minted,
    /// The key that opens it: the host says it when it is chosen.
    pub opener: WriterKey,
    /// How many bytes of each writer's entries of the cast count, in the order of its log.
    pub bytes_max: u64,
}

/// Somebody becomes a member, or a host for one cast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admitted {
    /// Who.
    pub principal: Principal,
    /// What it may do.
    pub rights: Rights,
    /// For which child alone; nothing: in the whole loom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// The expulsions that it ends, and the admissions that ended one of the same principal before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub again: Vec<EntryId>,
    /// Who wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Payload>,
}

/// Who is expelled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A node, under all its keys.
    Node(NodeId),
    /// A single key, and its successors that no certificate binds.
    Key(WriterKey),
    /// The keys that only this certificate binds.
    Certificate(CertificateId),
}

impl From<Principal> for Target {
    fn from(principal: Principal) -> Self {
        match principal {
            Principal::Node(node) => Self::Node(node),
            Principal::Key(key) => Self::Key(key),
        }
    }
}

/// A place in one writer's log, and what leads there: a head that the writer has signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogEnd {
    /// Whose log.
    pub writer: WriterKey,
    /// How many entries lead there.
    #[serde(rename = "seq")]
    pub sequence: u64,
    /// The chained hash there.
    #[serde(with = "serde_bytes")]
    pub chain: [u8; 32],
    /// The root entity of the cast whose entries of that writer are chained; nothing: its whole log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cast: Option<EntityId>,
}

/// Somebody is no member any more: what it writes behind these ends decides nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expelled {
    /// Who.
    pub target: Target,
    /// How far its logs count. A writer that is not listed ends before its first entry.
    pub ends: Vec<LogEnd>,
    /// Who wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Payload>,
}

/// A remote cast is over for its caller: what its host writes behind these ends is no part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The cast: the child that the host was admitted for.
    pub child: EntityId,
    /// The admission of the host, which ends here. A further intent of the same child needs another.
    pub admission: EntryId,
    /// How far each writer's entries of the cast count. One that is not listed has written nothing of it.
    pub ends: Vec<LogEnd>,
    /// Who wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Payload>,
}
