//! The gate `read_loom`: what was recorded of this entity and its children so far.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, host};

/// One entry of the record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name: the hash of its content.
    pub id: String,
    /// What it is: `opened`, `gate_called`, `observation` …
    pub kind: String,
    /// Whose it is.
    pub entity: String,
    /// When, in microseconds since 1970.
    pub at_us: u64,
    /// What it says, secrets taken out.
    pub body: Value,
}

/// A part of the record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// The entries, in the order they were made.
    pub entries: Vec<Entry>,
    /// Where the next page begins; nothing at the end.
    pub next: Option<String>,
}

/// One page: after a cursor, or from the first entry. At most 100 entries.
///
/// # Errors
/// `NotFound` for a cursor that no page has named.
pub fn read(cursor: Option<&str>, limit: Option<u32>) -> Result<Page, Error> {
    host::page(cursor, limit)
}

/// All entries. Each page is one call of the gate, and itself recorded: the last page holds the calls that read the others.
///
/// # Errors
/// As [`read`].
pub fn all() -> Result<Vec<Entry>, Error> {
    let Page { mut entries, mut next } = read(None, None)?;
    while let Some(cursor) = next {
        let page = read(Some(&cursor), None)?;
        entries.extend(page.entries);
        next = page.next;
    }
    Ok(entries)
}
