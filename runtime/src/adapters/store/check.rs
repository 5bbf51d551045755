//! What every store checks of an entry before it takes it.

use crate::domain::ids::{BlobId, EntryId, WriterKey};
use crate::domain::loom::{Blob, EntryError, Sealed};
use crate::ports::StoreError;

use super::rows::RECEIVED;

/// An entry that another node wrote: whole, and in nobody else's name. `has_blob` says which texts are there already.
pub(super) fn check_received(
    sealed: &Sealed,
    own: WriterKey,
    has_blob: &dyn Fn(BlobId) -> Result<bool, StoreError>,
) -> Result<(), StoreError> {
    // What was decoded is what the bytes say, in the one form that they can have.
    let opened = Sealed::open(sealed.id, sealed.bytes.clone());
    let opened = opened.map_err(|source| StoreError::Entry { id: sealed.id, source })?;
    let writer = opened.entry.writer;
    if writer == own || writer == RECEIVED {
        return Err(StoreError::Foreign { id: sealed.id, writer });
    }
    check_whole(sealed, writer)?;
    check_texts(std::iter::once(&opened), &sealed.blobs, &|id, _| has_blob(id))
}

/// The texts that entries refer to are among those that came with them, or here already.
pub(super) fn check_texts<'a>(
    entries: impl Iterator<Item = &'a Sealed>,
    came: &[Blob],
    has_blob: &dyn Fn(BlobId, bool) -> Result<bool, StoreError>,
) -> Result<(), StoreError> {
    for sealed in entries {
        for id in sealed.text_ids() {
            let is_text = sealed.entry.body.is_text(&id);
            let fits = match came.iter().find(|blob| blob.id == id) {
                Some(blob) => !is_text || std::str::from_utf8(&blob.bytes).is_ok(),
                None => has_blob(id, is_text)?,
            };
            if !fits {
                return Err(StoreError::Blob { id });
            }
        }
    }
    Ok(())
}

/// The bytes are what the ids say, and the entry is this writer's.
pub(super) fn check_whole(sealed: &Sealed, writer: WriterKey) -> Result<(), StoreError> {
    let actual = EntryId::of(&sealed.bytes);
    if actual != sealed.id {
        return Err(StoreError::Entry { id: sealed.id, source: EntryError::Hash { expected: sealed.id, actual } });
    }
    if sealed.entry.writer != writer {
        let what = format!("an entry of writer {} was handed to the log of writer {writer}", sealed.entry.writer);
        return Err(StoreError::Read(what.into()));
    }
    match sealed.blobs.iter().find(|blob| !blob.is_whole()) {
        Some(blob) => Err(StoreError::Blob { id: blob.id }),
        None => Ok(()),
    }
}
