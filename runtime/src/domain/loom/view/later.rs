//! What a later version says of a loom as a whole: this version reads such a loom, and does not write it.

use super::super::body::Body;
use super::super::entry::{Entry, Sealed};
use super::ViewError;
use crate::domain::ids::EntryId;

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
    /// Those of a loom. Whoever else has written some stops nobody.
    pub fn of(entries: &[Sealed]) -> Vec<Self> {
        let unknown = entries.iter().filter(|sealed| sealed.entry.entity.is_none()).filter_map(|sealed| {
            let Body::Unknown(unknown) = &sealed.entry.body else { return None };
            Some((sealed, unknown))
        });
        let unknown = unknown.collect::<Vec<_>>();
        if unknown.is_empty() {
            return Vec::new();
        }
        let founder = entries.iter().find(|sealed| founds(&sealed.entry)).map(|sealed| sealed.entry.writer);
        let later = unknown.into_iter().map(|(sealed, unknown)| Self {
            entry: sealed.id,
            kind: unknown.kind.clone(),
            stops: founder == Some(sealed.entry.writer),
        });
        later.collect()
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

/// Whether an entry founds its loom.
fn founds(entry: &Entry) -> bool {
    let Body::Founded { nonce, member } = &entry.body else { return false };
    let record = member.as_ref().map(|bytes| bytes.as_slice());
    (entry.sequence, entry.parent) == (1, None) && entry.loom.is_minted_by(&entry.writer, nonce, record)
}
