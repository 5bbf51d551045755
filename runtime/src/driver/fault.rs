//! What is our fault, as opposed to what an entity may see. A fault ends the run.

use thiserror::Error;

use super::copies::{AcksError, NoAnswers, NoCopies, NotFenced};
use crate::domain::entity::OutOfStep;
use crate::domain::ids::{EntityId, EntryId, LoomId, NodeName, WriterKey};
use crate::domain::loom::{EntryError, ForeignError, OpenedTooLarge, Unminted, ViewError};
use crate::domain::members::{Principal, Refused, Right};
use crate::ports::{MediumFault, StoreError};

/// Why a run could not go on. Nothing that was recorded is lost by it.
#[derive(Debug, Error)]
pub enum Fault {
    /// The record did not take an entry: what is not recorded does not happen.
    #[error("the episode stopped because it could not be recorded")]
    Store(#[from] StoreError),
    /// Too few other nodes have it on disk.
    #[error("the episode stopped because it is not on as many nodes as it should be")]
    Copies(#[from] NoCopies),
    /// Too few of those who keep it have said what they have of this node's log.
    #[error("the episode did not begin: it cannot be known whether this node's record is whole")]
    Unanswered(#[from] NoAnswers),
    /// Entries were about to be written into a loom whose keepers were not asked.
    #[error("nobody has asked the keepers of loom {loom} what they have of this node's log")]
    NotAsked {
        /// Which.
        loom: LoomId,
    },
    /// The record could not be read.
    #[error("the record could not be continued")]
    View(#[from] ViewError),
    /// An entry could not be encoded.
    #[error("the episode stopped because an entry could not be made")]
    Entry(#[from] EntryError),
    /// An entity that is too large to be recorded. Nothing of it has run.
    #[error("the entity cannot be opened")]
    Opening(#[from] OpenedTooLarge),
    /// No instance of the medium could be had.
    #[error("the episode stopped because its medium could not be had")]
    Medium(#[from] MediumFault),
    /// What ran was another guest: its record would not be what this one does.
    #[error("this entity's guest is {recorded}, and the cantrip has {given}")]
    OtherGuest {
        /// What the record says.
        recorded: String,
        /// What the cantrip says.
        given: String,
    },
    /// This node cannot show by which right it writes into a loom.
    #[error("no other node can be admitted to the loom {loom}: {what} is not here under its writer's signature")]
    Unproved {
        /// Which.
        loom: LoomId,
        /// What is missing.
        what: String,
    },
    /// What this node has written of an entity divides from what others have of it.
    #[error(
        "the episode stopped: this node's folder was put back to an older state, and others have another history of entity {entity}; what \
         was written here of it goes on as a fork of that thread, as soon as this loom is written again"
    )]
    SetAside {
        /// Which.
        entity: EntityId,
    },
    /// Work in the background that did not come to its end.
    #[error("the work stopped: {0}")]
    Stopped(String),
    /// A thread of another loom that cannot be gone on with.
    #[error("the thread cannot be taken out of its loom")]
    Foreign(#[from] ForeignError),
    /// There is nothing to adopt.
    #[error("the entity {entity} is this node's own")]
    OwnEntity {
        /// Which.
        entity: EntityId,
    },
    /// Another node goes on with it.
    #[error(
        "the entity {entity} belongs to another node, whose key is {owner}; `loom adopt {entity}` goes on with it here"
    )]
    Elsewhere {
        /// Which.
        entity: EntityId,
        /// Whose it is.
        owner: WriterKey,
    },
    /// Another node is about to go on with it.
    #[error(
        "the entity {entity} is about to be adopted by another node, whose key is {by}, and its keepers acknowledge nothing more of it here; \
         if that node does not go on with it, `loom adopt {entity}` does so here"
    )]
    Fenced {
        /// Which.
        entity: EntityId,
        /// Who is.
        by: WriterKey,
    },
    /// Too few keepers have promised to acknowledge nothing more of an entity.
    #[error("the entity is not adopted: something that was acknowledged to its owner could be lost")]
    NotFenced(#[from] NotFenced),
    /// Others want to go on with an entity at the same time.
    #[error(
        "the entity {entity} is not adopted: other nodes are adopting it at the same time; try again, or see `loom members` for who may"
    )]
    Contended {
        /// Which.
        entity: EntityId,
    },
    /// It may not, by what the loom's record says.
    #[error("this node may not {deed} the loom {loom}: {why}{}", allowing(*.loom, *.allow))]
    NotPermitted {
        /// Where.
        loom: LoomId,
        /// What it wanted to do there.
        deed: &'static str,
        /// What is in the way.
        why: Refused,
        /// The right that would allow it.
        allow: Option<Right>,
    },
    /// Somebody was expelled by somebody else, who alone can take it back.
    #[error("{principal} was expelled from the loom {loom} by {by}, and this node has no say over that")]
    Expelled {
        /// From where.
        loom: LoomId,
        /// Who.
        principal: Principal,
        /// The entry that says so.
        by: EntryId,
    },
    /// The founder is no member that could be expelled.
    #[error(
        "the loom {loom} was founded by that node: a founder is not expelled, but for single keys and lost certificates of it"
    )]
    Founder {
        /// Which.
        loom: LoomId,
    },
    /// A name that more than one authority has given.
    #[error(
        "more than one node is called {name} in this loom: name the writer's key instead (`loom members` lists them)"
    )]
    Nodes {
        /// The name.
        name: NodeName,
    },
    /// Nobody is known under a name.
    #[error(
        "nobody knows which key or authority the node {name} has: connect to it, or name its writer's key (its own `loom members` says it)"
    )]
    NoNode {
        /// The name.
        name: NodeName,
    },
    /// What was recorded decides nothing.
    #[error("it is recorded in the loom {loom} and decides nothing: {why}")]
    Void {
        /// Where.
        loom: LoomId,
        /// Why.
        why: Refused,
    },
    /// Nothing of an entity is signed here: there is nothing from which another could go on.
    #[error(
        "the entity {entity} cannot be gone on with: nothing that {owner} has written of it is here under its signature"
    )]
    Unsigned {
        /// Which.
        entity: EntityId,
        /// Whose it is.
        owner: WriterKey,
    },
    /// A loom is founded before anything is written into it: nobody founds one by naming an id.
    #[error("there is no loom {loom} here; a new one gets its id when it is founded")]
    NoLoom {
        /// Which.
        loom: LoomId,
    },
    /// The id of the new loom commits to a key that is not this node's any more.
    #[error("this node took a new key before the loom {loom} was founded; cast again for another loom")]
    NewKey {
        /// Which.
        loom: LoomId,
    },
    /// A defect of ours: an id that does not commit to who minted it.
    #[error("the entry cannot be recorded")]
    Unminted(#[from] Unminted),
    /// A defect of ours.
    #[error("the driver and the entity disagree")]
    OutOfStep(#[from] OutOfStep),
    /// A defect of ours.
    #[error("an effect had no result: {0}")]
    NoResult(&'static str),
}

/// What would make it possible, as a command.
fn allowing(loom: LoomId, right: Option<Right>) -> String {
    let Some(right) = right else { return String::new() };
    let own = match right {
        Right::Write | Right::Adopt => "; `loom fork` makes a loom of your own of a thread",
        Right::Admit => "",
    };
    format!("; whoever may admit there allows it by `loom admit {loom} NODE --may {}`{own}", right.as_str())
}

impl Fault {
    /// Whether it says that something is another node's for good, and not only at the moment.
    pub(super) const fn is_anothers(&self) -> bool {
        matches!(
            self,
            Self::NotPermitted { .. } | Self::Elsewhere { .. } | Self::Unsigned { .. } | Self::SetAside { .. }
        )
    }
}

/// An error and its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}

impl From<AcksError> for Fault {
    fn from(error: AcksError) -> Self {
        match error {
            AcksError::Missing(missing) => Self::Copies(missing),
            AcksError::Adopted { entity, owner } => Self::Elsewhere { entity, owner },
            AcksError::Fenced { entity, by } => Self::Fenced { entity, by },
            AcksError::Unanswered(silent) => Self::Unanswered(silent),
            AcksError::Store(error) => Self::Store(error),
        }
    }
}
