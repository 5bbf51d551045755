//! A new key for a folder that was copied or restored: it takes the place of the old one, and says so.
//!
//! Nobody but the old key can make the new one its successor, so its word is on disk before its file goes. There are three steps, and
//! after a kill between any two the next opening goes on: the next key's file, one batch that says who writes from now on and whose
//! place it takes, and the file in its place.

use std::collections::BTreeSet;

use super::database::{Database, DatabaseError};
use super::key::{NEXT_FILE, NodeKey};
use super::open::Folder;
use super::rows::{self, META_FILE, META_WRITER};
use crate::domain::ids::LoomId;
use crate::domain::members::Attestation;
use crate::ports::StoreError;

/// How far the old key signs its logs before it goes: whoever goes on with an entity of it names a head that it has signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signing<'a> {
    /// To their ends: nothing was written under it since the folder was copied.
    All,
    /// Those of looms that nobody else keeps. Of these others may have another history than the one that is here.
    Unshared(&'a BTreeSet<LoomId>),
}

/// Makes this node write under a new key.
pub(super) fn renew(
    folder: &Folder<'_>,
    database: &Database,
    old: &NodeKey,
    signing: Signing<'_>,
) -> Result<NodeKey, StoreError> {
    sign(database, old, signing).map_err(|error| folder.engine(error))?;
    let next = make(folder)?;
    switch(folder, database, old, &next)?;
    finish(folder)?;
    Ok(next)
}

/// These rows are on disk with the next synced write: the second step's.
fn sign(database: &Database, old: &NodeKey, signing: Signing<'_>) -> Result<(), DatabaseError> {
    for (log, line) in database.lines(&[])?.into_iter().filter(|(log, _)| log.writer == old.writer()) {
        let known = database.signed_until(log, line.head.sequence)?;
        let is_due = match signing {
            Signing::All => known.is_none_or(|known| known.head.sequence < line.head.sequence),
            Signing::Unshared(shared) => known.is_none() && !shared.contains(&log.loom),
        };
        if is_due && line.head.sequence > 0 {
            database.keep_signed(&old.sign(log.loom, line.head))?;
        }
    }
    Ok(())
}

/// The first step. Whatever an earlier try has left is replaced: it may have been copied, too.
fn make(folder: &Folder<'_>) -> Result<NodeKey, StoreError> {
    NodeKey::create_next(folder.0).map_err(folder.cannot("make a new key"))
}

/// The second step, whole or not at all: the word of both keys is on disk once the new one writes.
fn switch(folder: &Folder<'_>, database: &Database, old: &NodeKey, next: &NodeKey) -> Result<(), StoreError> {
    let mark = NodeKey::file_mark(folder.0, NEXT_FILE).map_err(folder.cannot("look at the new key"))?;
    let succession = Attestation::Succession(old.succeed(next));
    let rows = [
        (rows::former_key(old.writer()), Vec::new()),
        (rows::own_attestation(&succession, old.writer().as_bytes()), rows::attestation_value(&succession)),
        (META_WRITER.to_vec(), next.writer().as_bytes().to_vec()),
        (META_FILE.to_vec(), mark.to_vec()),
    ];
    database.note_all(&rows).map_err(|error| folder.engine(error))
}

/// The third step: the old key goes. An opening that finds the next key beside the old one does it too.
pub(super) fn finish(folder: &Folder<'_>) -> Result<(), StoreError> {
    NodeKey::promote(folder.0).map_err(folder.cannot("put the new key in its place"))
}

#[cfg(test)]
#[path = "renewal_tests.rs"]
mod tests;
