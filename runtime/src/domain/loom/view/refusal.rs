//! What cannot be read as turns, and which entries are part of no thread.

use std::fmt;

use thiserror::Error;

use crate::domain::ids::{EntityId, EntryId};
use crate::domain::members::Refused;

use super::ForeignError;

/// A record that cannot be read as turns.
#[derive(Debug, Error)]
pub enum ViewError {
    /// A text that an entry keeps beside it.
    #[error("the text {id} of entry {entry} is missing")]
    Text {
        /// The entry.
        entry: EntryId,
        /// The text.
        id: String,
    },
    /// No such entity in the loom.
    #[error("the loom has no entity {0}")]
    NoEntity(EntityId),
    /// An entity whose `opened` entry is put aside.
    #[error("the entity {entity} is no part of the loom: {why}")]
    Aside {
        /// Which.
        entity: EntityId,
        /// Why it was put aside.
        why: Why,
    },
    /// An entity with an entry that a later version wrote.
    #[error(
        "entry {entry} of entity {entity} is a `{kind}`, which this version does not know: the entity can be read here, and gone on with \
         by a version that knows it"
    )]
    Unknown {
        /// Whose.
        entity: EntityId,
        /// The entry.
        entry: EntryId,
        /// What it says that it is.
        kind: String,
    },
    /// A loom about which a later version says something, by somebody who has a say over all of it.
    #[error(
        "entry {entry} is a `{kind}` of the loom as a whole, which this version does not know: the loom can be read here, and written \
         by a version that knows it"
    )]
    Later {
        /// The entry.
        entry: EntryId,
        /// What it says that it is.
        kind: String,
    },
    /// An entity whose wards nothing here enforces.
    #[error(
        "entity {entity} was opened with wards that this version does not enforce ({}): it can be read here, and gone on with by a \
         version that enforces them", .wards.join(", ")
    )]
    Unenforced {
        /// Whose.
        entity: EntityId,
        /// Their names.
        wards: Vec<String>,
    },
    /// An entity that continues a thread of another loom, which cannot be had.
    #[error("the entity {entity} continues a thread of another loom, which cannot be read here")]
    Foreign {
        /// Whose.
        entity: EntityId,
        /// Why.
        #[source]
        source: ForeignError,
    },
    /// A fork beyond the end.
    #[error("the thread of {entity} has {turns} turns, so it cannot be forked after turn {asked}")]
    NoTurn {
        /// Whose.
        entity: EntityId,
        /// How many it has.
        turns: u64,
        /// What was asked for.
        asked: u64,
    },
}

impl ViewError {
    /// Whether it is refused because a later version has written something.
    pub const fn is_of_a_later_version(&self) -> bool {
        match self {
            Self::Unknown { .. } | Self::Later { .. } | Self::Unenforced { .. } => true,
            Self::Text { .. } | Self::NoEntity(_) | Self::Aside { .. } | Self::NoTurn { .. } | Self::Foreign { .. } => {
                false
            }
        }
    }
}

/// Why an entry is no part of any thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It decides nothing: its writer may not say it, or does not own the entity there.
    Refused(Refused),
    /// There is nothing before it that it could belong to.
    Orphan,
    /// It follows an entry that comes after it.
    Follows,
    /// Its entity forks one that was not opened before.
    Fork,
    /// Its entity was spawned by one that this loom has, and that was not opened before.
    Spawned,
    /// It casts a child that was opened before.
    Child,
    /// A later version opened it.
    Unknown,
}

impl Why {
    /// Whether no honest node writes such an entry; the others are what a copy that is not whole yet has, too.
    pub const fn is_wrong(self) -> bool {
        match self {
            Self::Refused(_) | Self::Orphan | Self::Unknown => false,
            Self::Follows | Self::Fork | Self::Spawned | Self::Child => true,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Refused(why) => return why.fmt(out),
            Self::Orphan => "what it belongs to is not there",
            Self::Follows => "it follows an entry that comes after it",
            Self::Fork => "it forks an entity that was not opened before it in this loom",
            Self::Spawned => "it says it was spawned by an entity that was not opened before it",
            Self::Child => "it casts a child that was opened before it",
            Self::Unknown => "a later version opened it, in a form that this version does not know",
        })
    }
}

/// An entry that is no part of any thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// The entry.
    pub entry: EntryId,
    /// Whose it says it is.
    pub entity: EntityId,
    /// Its kind.
    pub kind: String,
    /// Why.
    pub why: Why,
}

/// Why an entry is not added.
pub(super) enum Unplaced {
    Aside(Why),
    View(ViewError),
}

impl From<ViewError> for Unplaced {
    fn from(error: ViewError) -> Self {
        Self::View(error)
    }
}
