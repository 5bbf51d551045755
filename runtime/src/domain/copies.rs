//! Copies of looms on several nodes: who keeps what, and what nodes say to each other about it.
//!
//! The merge is set union: a loom is the set of its writers' logs, and each log only grows. So the order in which segments come,
//! how often, and over whom, makes no difference to what is there in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::domain::ids::{EntityId, LoomId, NodeName, WriterKey};
use crate::domain::loom::{CastChain, CastHead, EquivocationProof, Head, Segment, SignedFence, SignedHead};
use crate::domain::members::Attestation;
use crate::domain::members::ProvedEntry;
use crate::domain::remote::Credentials;

pub use crate::domain::limits::KEEPERS_MAX;

/// Where a copy is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyKind {
    /// Nowhere any more: the node is served nothing, and forgets what it kept for others.
    None,
    /// In memory only: gone when the node's process ends. It never counts as an acknowledgement.
    Memory,
    /// Durable: acknowledged once it is on disk.
    #[default]
    Disk,
}

impl CopyKind {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::None, Self::Memory, Self::Disk];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }
}

/// How one node keeps a loom, and how often that was changed: of two opinions the one of the later revision holds, and of two of
/// one revision the safer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keeping {
    /// Counts up with each change; 0 where nobody has said anything yet.
    pub revision: u64,
    /// Where.
    pub kind: CopyKind,
}

/// The name that a process has which is no node: what it writes is its own user's.
pub const LOCAL: &str = "local";
/// Follows the name of a node where a client of it is meant.
const CLIENT: &str = "/local";

/// Whoever keeps a loom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Keeper {
    /// The machine's own user, as the node of that machine has it; and to itself, a client's own record.
    Local,
    /// A node, by the name in its certificate.
    Node(NodeName),
    /// A client of another node.
    ClientOf(NodeName),
}

/// A text that names no keeper.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` keeps no looms: expected a node's name", text.escape_debug())]
pub struct NoKeeper {
    /// What came, cut.
    text: String,
}

impl Keeper {
    /// The node that can be connected to.
    pub const fn node(&self) -> Option<&NodeName> {
        match self {
            Self::Node(name) => Some(name),
            Self::Local | Self::ClientOf(_) => None,
        }
    }

    /// The node that answers for a keeper: itself, or the one whose client it is; nothing for the machine's own user.
    pub const fn answerable(&self) -> Option<&NodeName> {
        match self {
            Self::Node(name) | Self::ClientOf(name) => Some(name),
            Self::Local => None,
        }
    }

    /// Tells whether a keeper is this one, whichever node it was reached through.
    pub fn is_same(&self, own: &Self) -> bool {
        self == own || matches!((self, own), (Self::ClientOf(_), Self::Local))
    }

    /// Says who is meant by a name that somebody else gives: what calls itself local is local there, and never here.
    #[must_use]
    pub fn as_heard(self, from: &Self, own: &Self) -> Self {
        let meant = match (self, from, own) {
            (Self::Local, Self::Node(node), _) => Self::ClientOf(node.clone()),
            (Self::Local, Self::Local | Self::ClientOf(_), _) => from.clone(),
            (Self::ClientOf(node), _, Self::Node(own)) if node == *own => Self::Local,
            (other, _, _) => other,
        };
        if meant.is_same(own) { own.clone() } else { meant }
    }
}

impl FromStr for Keeper {
    type Err = NoKeeper;

    fn from_str(text: &str) -> Result<Self, NoKeeper> {
        if text == LOCAL {
            return Ok(Self::Local);
        }
        let parsed = match text.strip_suffix(CLIENT) {
            Some(node) => node.parse().map(Self::ClientOf),
            None => text.parse().map(Self::Node),
        };
        parsed.map_err(|_| NoKeeper { text: text.chars().take(80).collect() })
    }
}

impl fmt::Display for Keeper {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => out.pad(LOCAL),
            Self::Node(name) => out.pad(name.as_str()),
            Self::ClientOf(name) => out.pad(&format!("{name}{CLIENT}")),
        }
    }
}

impl Serialize for Keeper {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Keeper {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Who keeps a loom, by the names of the nodes' certificates.
pub type Keepers = BTreeMap<Keeper, Keeping>;

/// One loom's copies, as one of its keepers sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoomCopies {
    /// The loom.
    pub loom: LoomId,
    /// The node that has it kept by others. Only that one, or the one that is meant, says that a node keeps it otherwise.
    pub origin: Keeper,
    /// Who keeps it, this node too. Nobody else is served anything of it.
    #[serde(default)]
    pub keepers: Keepers,
    /// A turn counts as recorded once so many others have it on disk.
    #[serde(default)]
    pub acks: u32,
    /// How long a turn waits for them, in milliseconds; then the episode stops. 0: as long as it takes.
    #[serde(default)]
    pub acks_wait_ms: u64,
    /// The peer that brought it here, where one did: it counts against what that one may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brought_by: Option<NodeName>,
    /// Whose acknowledgements are to count, as somebody here has arranged it. What others say of who keeps it changes nothing in it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub counting: BTreeSet<Keeper>,
    /// Whoever is to keep it no longer once nothing waits for its acknowledgement.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub leaving: BTreeSet<Keeper>,
    /// What this node's log says of acknowledgements: the last of them counts, and those before it as long as the change from one to the
    /// next is not acknowledged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recorded: Vec<Recorded>,
    /// The last change of that is acknowledged, and the log does not say it again yet: whoever goes on with an entity of this node has to
    /// ask those who counted before, too, as long as it does not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeats: bool,
    /// Entities that this node has adopted, as long as the keepers of their former owners have not acknowledged that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adopted: Vec<Recorded>,
    /// It goes on although something that was acknowledged may be lost: nobody is asked and nothing is waited for that came before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accept_loss: bool,
}

/// A place in this node's own log, and who has to have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// Under which key this node has written it.
    pub writer: WriterKey,
    /// Where: the entry that says how many acknowledge what follows it, or that adopts.
    pub place: u64,
    /// How many keepers have to have it on disk.
    pub acks: u32,
    /// Of whom.
    pub keepers: BTreeSet<Keeper>,
    /// Which entity it is about; nothing: whatever this node writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<EntityId>,
}

impl LoomCopies {
    /// A loom that only this node keeps.
    pub fn new(loom: LoomId, node: &Keeper) -> Self {
        let keepers = BTreeMap::from([(node.clone(), Keeping::default())]);
        Self {
            loom,
            origin: node.clone(),
            keepers,
            acks: 0,
            acks_wait_ms: 0,
            brought_by: None,
            counting: BTreeSet::new(),
            leaving: BTreeSet::new(),
            recorded: Vec::new(),
            adopted: Vec::new(),
            repeats: false,
            accept_loss: false,
        }
    }

    /// How a node keeps it.
    pub fn kind(&self, node: &Keeper) -> CopyKind {
        self.keepers.get(node).map_or(CopyKind::None, |keeping| keeping.kind)
    }

    /// Whoever keeps it beside this node.
    pub fn others<'a>(&'a self, node: &'a Keeper) -> impl Iterator<Item = (&'a Keeper, CopyKind)> + 'a {
        let others = self
            .keepers
            .iter()
            .filter(move |(keeper, keeping)| !keeper.is_same(node) && keeping.kind != CopyKind::None);
        others.map(|(keeper, keeping)| (keeper, keeping.kind))
    }

    /// Has a node keep it in this way from now on.
    pub fn keep(&mut self, node: &Keeper, kind: CopyKind) {
        let keeping = self.keepers.entry(node.clone()).or_insert(Keeping { revision: 1, kind });
        if keeping.kind != kind {
            *keeping = Keeping { revision: keeping.revision.saturating_add(1), kind };
        }
    }

    /// Takes another keeper's view of it, as far as it may have one: a new keeper may be named by all; how a node keeps it, and that
    /// it does so no longer, is said by the origin, and by that node itself.
    pub fn merge(&mut self, node: &Keeper, peer: &Keeper, theirs: &Keepers) {
        let is_origin = *peer == self.origin;
        for (keeper, keeping) in theirs {
            let is_theirs = is_origin || peer == keeper;
            let is_new = !self.keepers.contains_key(keeper) && keeping.kind != CopyKind::None;
            if !is_theirs && (!is_new || keeper == node) {
                continue;
            }
            let is_full = self.keepers.len() >= KEEPERS_MAX;
            match self.keepers.get_mut(keeper) {
                Some(known) => *known = (*known).max(*keeping),
                None if is_full => {}
                None => {
                    self.keepers.insert(keeper.clone(), *keeping);
                }
            }
        }
    }
}

/// One writer's log of a loom, as far as it is kept somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogState {
    /// Whose.
    pub writer: WriterKey,
    /// How far it is durable there, without a gap.
    pub head: Head,
    /// The newest head that its writer has signed. For every log but the node's own it is `head`.
    pub signed: Option<SignedHead>,
}

/// Entries of casts, and the heads that cover them: what came from a host at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CastStep {
    /// The loom.
    pub loom: LoomId,
    /// DAG-CBOR, in the order in which they came.
    pub entries: Vec<Vec<u8>>,
    /// Each covers those of its writer that belong to its cast, up to its place, behind what was sent before.
    pub heads: Vec<CastHead>,
}

/// What became of what was sent of a cast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CastAnswer {
    /// It is here.
    Held {
        /// How far.
        at: CastChain,
        /// Where.
        kind: CopyKind,
    },
    /// Nobody has admitted its writer for it, as far as is known here. What is here is said again once somebody may have.
    Later,
    /// It is not taken.
    Refused {
        /// Why, and what to do.
        what: String,
    },
}

/// What became of a fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FenceAnswer {
    /// It is on disk here, and these are the logs as far as anything was acknowledged.
    Stored {
        /// The place and the chain of each log.
        logs: Vec<LogState>,
    },
    /// It is not kept.
    Refused {
        /// The epoch that is above it; 0: it is refused for another reason.
        above: u64,
        /// Why.
        what: String,
    },
}

/// What one keeper says to another.
#[derive(Debug, Clone, PartialEq)]
pub enum CopyMessage {
    /// What is here of a loom. Said of every loom that both keep when they meet, and again when it becomes another.
    Have {
        /// The loom.
        loom: LoomId,
        /// The node that has it kept.
        origin: Keeper,
        /// Who keeps it, the sender and the other too.
        keepers: Keepers,
        /// How far each log is here.
        logs: Vec<LogState>,
        /// How far what each writer signed of each cast is here.
        casts: Vec<CastHead>,
    },
    /// What hosts wrote of casts.
    Cast(Box<CastStep>),
    /// What became of what was sent of a cast under one head.
    CastAnswered {
        /// The loom.
        loom: LoomId,
        /// Whose head.
        writer: WriterKey,
        /// Of which cast.
        cast: EntityId,
        /// What became of it.
        answer: CastAnswer,
    },
    /// A large text that a following segment refers to.
    Text {
        /// The loom.
        loom: LoomId,
        /// The text.
        bytes: Vec<u8>,
    },
    /// What vouches for the key of a writer, or for one whose place that key takes. It comes before the entries that rely on it.
    Attestation {
        /// The loom.
        loom: LoomId,
        /// What vouches.
        attestation: Box<Attestation>,
    },
    /// Entries.
    Segment(Box<Segment>),
    /// So much of a log is here.
    Held {
        /// The loom.
        loom: LoomId,
        /// Whose log.
        writer: WriterKey,
        /// How far, and what the chain is there.
        head: Head,
        /// Where it is: only a disk is an acknowledgement.
        kind: CopyKind,
    },
    /// Somebody has adopted an entity: what its former owner writes of it is acknowledged to nobody.
    Fence {
        /// The loom.
        loom: LoomId,
        /// The entity.
        entity: EntityId,
        /// What shows it: without that it counts for nothing.
        credentials: Box<Credentials>,
    },
    /// Somebody is about to adopt an entity: from here on nothing of it is acknowledged to anybody else. Said by the adopter to whoever
    /// keeps it, and by a keeper to the former owner, before anything is acknowledged that goes against it.
    Fencing {
        /// The adopter's word.
        fence: Box<SignedFence>,
        /// The admissions by which it may adopt, and what vouches for the keys of their writers.
        credentials: Box<Credentials>,
    },
    /// What became of a fence.
    Fenced {
        /// The loom.
        loom: LoomId,
        /// Which entity.
        entity: EntityId,
        /// Of which epoch.
        epoch: u64,
        /// What became of it.
        answer: FenceAnswer,
    },
    /// A log is not kept, as long as nothing here says that its writer was admitted. What is here is said again once there may be.
    Later {
        /// The loom.
        loom: LoomId,
        /// Whose log.
        writer: WriterKey,
    },
    /// Something was not taken.
    Refused {
        /// Of which loom.
        loom: LoomId,
        /// Whose log; nothing where the loom as a whole is meant.
        writer: Option<WriterKey>,
        /// Why, and what to do.
        what: String,
    },
    /// A writer has signed two histories.
    Divided {
        /// Where they divide: it convinces everybody.
        proof: Box<EquivocationProof>,
        /// Whom that writer admitted and expelled from there on, in whichever history.
        entries: Vec<ProvedEntry>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeper(text: &str) -> Keeper {
        text.parse().unwrap()
    }

    #[test]
    fn a_keeper_prints_and_parses_to_itself_and_nothing_else_names_one() {
        for text in ["local", "a", "a/local"] {
            assert_eq!(keeper(text).to_string(), text);
        }
        for text in ["", "local/local", "a/b", "A", "a@h:1", "a/local/local", "/local", &"a".repeat(100_000)] {
            assert!(text.parse::<Keeper>().is_err(), "{}", text.len());
        }
    }

    #[test]
    fn what_calls_itself_local_is_local_there_and_never_here() {
        let heard = |said: &str, from: &str, own: &str| keeper(said).as_heard(&keeper(from), &keeper(own)).to_string();
        assert_eq!(heard("local", "a", "b"), "a/local");
        assert_eq!(heard("local", "a/local", "b"), "a/local");
        assert_eq!(heard("local", "local", "b"), "local", "the machine's own user speaks");
        assert_eq!(heard("b/local", "a", "b"), "local", "a client of this node is its own user");
        assert_eq!(heard("c", "a", "b"), "c");
        assert_eq!(heard("b/local", "b", "local"), "local", "a client hears of itself");
    }
}
