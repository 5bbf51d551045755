//! What a later version says of a loom as a whole: this version reads such a loom, and does not write it.

use super::super::body::Body;
use super::super::entry::Sealed;
use super::ViewError;
use crate::domain::ids::EntryId;
use crate::domain::members::Reader;

/// An entry about the loom as a whole that a later version wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Later {
    /// The entry.
    pub entry: EntryId,
    /// What it says that it is.
    pub kind: String,
    /// Whether the loom is not written here because of it: its writer has a say over all of it.
    pub stops: bool,
}

impl Later {
    /// Those of a loom. Whoever may not decide about it stops nobody by one.
    pub(super) fn of(entries: &[Sealed], reader: &Reader<'_>) -> Vec<Self> {
        let unknown = entries.iter().filter(|sealed| sealed.entry.entity.is_none()).filter_map(|sealed| {
            let Body::Unknown(unknown) = &sealed.entry.body else { return None };
            let stops = reader.counts(sealed.id).is_ok();
            Some(Self { entry: sealed.id, kind: unknown.kind.clone(), stops })
        });
        unknown.collect()
    }

    /// Whether the loom of these can be written here.
    ///
    /// # Errors
    /// The first that stops it.
    pub fn refuse(all: &[Self]) -> Result<(), ViewError> {
        match all.iter().find(|later| later.stops) {
            Some(later) => Err(ViewError::Later { entry: later.entry, kind: later.kind.clone() }),
            None => Ok(()),
        }
    }
}
