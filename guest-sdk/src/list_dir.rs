//! The gate `list_dir`: what the directories below a root hold.

use serde::{Deserialize, Serialize};

use crate::{Error, host};

/// What an entry of a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A link, whatever it points to.
    Symlink,
    /// A socket, a device …
    Other,
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name, without the directory's.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The size of a file, in bytes.
    pub bytes: Option<u64>,
}

/// What the gate's root holds, in the order of the names.
///
/// # Errors
/// As [`list`].
pub fn root() -> Result<Vec<Entry>, Error> {
    host::list(None)
}

/// What a directory holds, relative to the gate's root, in the order of the names.
///
/// # Errors
/// `Denied` for a path that leaves the root, `NotFound`, `Exhausted` for more entries than one call returns.
pub fn list(path: &str) -> Result<Vec<Entry>, Error> {
    host::list(Some(path))
}
