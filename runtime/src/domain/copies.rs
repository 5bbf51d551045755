//! Copies of looms on several nodes: who keeps what, and what nodes say to each other about it.
//!
//! The merge is set union: a loom is the set of its writers' logs, and each log only grows. So the order in which segments come,
//! how often, and over whom, makes no difference to what is there in the end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::ids::{LoomId, WriterKey};
use crate::domain::loom::{ForkProof, Head, Segment, SignedHead};

/// 64 nodes. More do not keep one loom.
pub const KEEPERS_MAX: usize = 64;

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

/// How a client of a node's own socket is named: to itself, and to that node.
pub const LOCAL: &str = "local";

/// How a client of another node is named.
pub fn client_of(node: &str) -> String {
    format!("{node}/{LOCAL}")
}

/// The node that answers for a keeper: itself, or the one whose client it is.
pub fn answerable(keeper: &str) -> &str {
    keeper.split('/').next().unwrap_or(keeper)
}

/// Whether a keeper is this one, whichever node it was reached through.
pub fn is_same(keeper: &str, node: &str) -> bool {
    keeper == node || (node == LOCAL && keeper.ends_with("/local"))
}

/// Who keeps a loom, by the names of the nodes' certificates.
pub type Keepers = BTreeMap<String, Keeping>;

/// One loom's copies, as one of its keepers sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoomCopies {
    /// The loom.
    pub loom: LoomId,
    /// The node that has it kept by others. Only that one, or the one that is meant, says that a node keeps it otherwise.
    pub origin: String,
    /// Who keeps it, this node too. Nobody else is served anything of it.
    #[serde(default)]
    pub keepers: Keepers,
    /// A turn counts as recorded once so many others have it on disk.
    #[serde(default)]
    pub acks: u32,
    /// How long a turn waits for them, in milliseconds; then the episode stops. 0: as long as it takes.
    #[serde(default)]
    pub acks_wait_ms: u64,
}

impl LoomCopies {
    /// A loom that only this node keeps.
    pub fn new(loom: LoomId, node: &str) -> Self {
        let keepers = BTreeMap::from([(node.to_owned(), Keeping::default())]);
        Self { loom, origin: node.to_owned(), keepers, acks: 0, acks_wait_ms: 0 }
    }

    /// How a node keeps it.
    pub fn kind(&self, node: &str) -> CopyKind {
        self.keepers.get(node).map_or(CopyKind::None, |keeping| keeping.kind)
    }

    /// Whoever keeps it beside this node.
    pub fn others<'a>(&'a self, node: &'a str) -> impl Iterator<Item = (&'a str, CopyKind)> + 'a {
        let others = self
            .keepers
            .iter()
            .filter(move |(keeper, keeping)| !is_same(keeper, node) && keeping.kind != CopyKind::None);
        others.map(|(keeper, keeping)| (keeper.as_str(), keeping.kind))
    }

    /// Has a node keep it in this way from now on.
    pub fn keep(&mut self, node: &str, kind: CopyKind) {
        let keeping = self.keepers.entry(node.to_owned()).or_insert(Keeping { revision: 1, kind });
        if keeping.kind != kind {
            *keeping = Keeping { revision: keeping.revision.saturating_add(1), kind };
        }
    }

    /// Takes another keeper's view of it, as far as it may have one: a new keeper may be named by all; how a node keeps it, and that
    /// it does so no longer, is said by the origin, and by that node itself.
    pub fn merge(&mut self, node: &str, peer: &str, theirs: &Keepers) {
        let is_origin = is_same(peer, &self.origin);
        for (keeper, keeping) in theirs {
            let is_theirs = is_origin || is_same(peer, keeper);
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

/// What one keeper says to another.
#[derive(Debug, Clone, PartialEq)]
pub enum CopyMessage {
    /// What is here of a loom. Said of every loom that both keep when they meet, and again when it becomes another.
    Have {
        /// The loom.
        loom: LoomId,
        /// The node that has it kept.
        origin: String,
        /// Who keeps it, the sender and the other too.
        keepers: Keepers,
        /// How far each log is here.
        logs: Vec<LogState>,
    },
    /// A large text that a following segment refers to.
    Text {
        /// The loom.
        loom: LoomId,
        /// The text.
        bytes: Vec<u8>,
    },
    /// Entries.
    Segment(Box<Segment>),
    /// So much of a log is here, as the copy is to be kept.
    Held {
        /// The loom.
        loom: LoomId,
        /// Whose log.
        writer: WriterKey,
        /// How far.
        sequence: u64,
        /// Whether it is on disk.
        durable: bool,
    },
    /// Something was not taken.
    Refused {
        /// Of which loom.
        loom: LoomId,
        /// Whose log; nothing where the loom as a whole is meant.
        writer: Option<WriterKey>,
        /// Why, and what to do.
        what: String,
        /// What convinces everybody, where a writer cheated.
        proof: Option<Box<ForkProof>>,
    },
}
