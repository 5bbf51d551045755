//! What every store checks of an entry before it takes it.

use crate::domain::ids::{BlobId, EntryId, WriterKey};
use crate::domain::loom::{EntryError, Sealed};
use crate::ports::StoreError;

/// The bytes are what the ids say, and the entry is this node's.
pub(super) fn check_whole(sealed: &Sealed, writer: WriterKey) -> Result<(), StoreError> {
    let actual = EntryId::of(&sealed.bytes);
    if actual != sealed.id {
        return Err(StoreError::Entry { id: sealed.id, source: EntryError::Hash { expected: sealed.id, actual } });
    }
    if sealed.entry.writer != writer {
        let what = format!("an entry of writer {} was handed to the log of writer {writer}", sealed.entry.writer);
        return Err(StoreError::Read(what.into()));
    }
    match sealed.blobs.iter().find(|blob| BlobId::of(&blob.bytes) != blob.id) {
        Some(blob) => Err(StoreError::Blob { id: blob.id }),
        None => Ok(()),
    }
}
