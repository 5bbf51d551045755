//! Why an entry decides nothing.

use thiserror::Error;

use super::terms::Right;
use crate::domain::ids::{EntityId, EntryId};

/// Why an entry decides nothing: what `verify` says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refused {
    /// Nothing is known of it.
    #[error("it is not here")]
    Absent,
    /// Nobody has signed for it.
    #[error("no signature of its writer covers it")]
    Uncovered,
    /// Its writer is not the founder and says by which admission it writes nowhere.
    #[error("its writer is not the founder, and it names no admission")]
    Unnamed,
    /// The admission has not come.
    #[error("the admission {0} that it relies on is not here")]
    Missing(EntryId),
    /// Something else than an admission.
    #[error("it relies on {0}, which admits nobody")]
    NoAdmission(EntryId),
    /// An admission of somebody else.
    #[error("the admission {0} is of another than its writer")]
    Another(EntryId),
    /// An admission that does not give what it takes.
    #[error("the admission {admission} does not give the right `{}`", right.as_str())]
    Right {
        /// The admission.
        admission: EntryId,
        /// What it takes.
        right: Right,
    },
    /// It admits to more than its writer has.
    #[error("it gives more than the admission {0} gives its writer")]
    More(EntryId),
    /// A host for what somebody else minted.
    #[error("it admits a host for {0}, which its writer has not minted")]
    NotItsChild(EntityId),
    /// The admission decides nothing itself.
    #[error("the admission {0} that it relies on decides nothing itself")]
    Admission(EntryId),
    /// Too many admissions between it and the founder.
    #[error("more than {max} admissions lead from the founder to it")]
    Depth {
        /// How many may.
        max: u32,
    },
    /// Its writer was expelled.
    #[error("its writer was expelled by {0}, and it is not among what was kept of that one's entries")]
    Expelled(EntryId),
    /// Who admitted its writer was expelled before.
    #[error("the admission {admission} that it relies on is ended: {by} expelled its writer")]
    Ended {
        /// The admission.
        admission: EntryId,
        /// The expulsion.
        by: EntryId,
    },
    /// Its writer has signed two histories.
    #[error("its writer has signed two histories that divide at entry {place} of its log, and nobody has pinned it")]
    Equivocated {
        /// Where they divide.
        place: u64,
    },
    /// The admission is for another cast.
    #[error("the admission that it relies on is for {0} and what is below it, and its entity is not")]
    Scope(EntityId),
    /// Its cast was over for who had admitted its writer.
    #[error("{0} settled its cast without it: whoever admitted its writer takes nothing more of it")]
    Settled(EntryId),
    /// More than an admission has room for.
    #[error("it is beyond the {max} bytes of entries that the admission of its writer allows for the cast")]
    Bytes {
        /// How many bytes may be.
        max: u64,
    },
    /// An entity that is opened by somebody else.
    #[error("its writer has neither minted the entity nor been named to open it")]
    Opener,
    /// Of several openings or adoptions another holds.
    #[error("it begins nothing: another opening or adoption of its entity holds")]
    Superseded,
    /// Its writer does not own the entity there.
    #[error("its writer does not own the entity there")]
    Owner,
    /// A founding entry that is not the loom's.
    #[error("the loom's id does not commit to it")]
    Founding,
}

impl Refused {
    /// What kind of reason it is, without what tells one entry from another.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Absent => "not here",
            Self::Uncovered => "under no signature of their writer",
            Self::Unnamed => "of writers that nobody has admitted",
            Self::Missing(_) => "behind an admission that is not here",
            Self::NoAdmission(_) | Self::Another(_) => "behind somebody else's admission",
            Self::Right { .. } | Self::More(_) | Self::NotItsChild(_) => "beyond their writer's rights",
            Self::Admission(_) | Self::Depth { .. } => "behind an admission that decides nothing",
            Self::Expelled(_) | Self::Ended { .. } => "of expelled writers",
            Self::Equivocated { .. } => "of writers with two histories",
            Self::Scope(_) => "outside the cast that their writer was admitted for",
            Self::Settled(_) => "of casts that were settled without them",
            Self::Bytes { .. } => "beyond the bytes of their cast",
            Self::Opener | Self::Superseded | Self::Owner => "of entities that are another's",
            Self::Founding => "foundings of another loom",
        }
    }
}
