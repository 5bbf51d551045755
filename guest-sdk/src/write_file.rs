//! The gate `write_file`: writes whole files below a root.

use crate::{Error, host};

/// Writes a whole file, relative to the gate's root; returns how many bytes it has.
///
/// # Errors
/// `Denied` for a path that leaves the root, `NotFound` for a missing directory, `Exhausted` for more than the gate's bound.
pub fn write(path: &str, content: &str) -> Result<u64, Error> {
    host::write(path, content, false)
}

/// The same, and makes the directories that are missing.
///
/// # Errors
/// As [`write()`].
pub fn write_with_dirs(path: &str, content: &str) -> Result<u64, Error> {
    host::write(path, content, true)
}
