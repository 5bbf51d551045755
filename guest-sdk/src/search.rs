//! The gate `search`: lines of the files below a root that a regular expression fits.

use serde::{Deserialize, Serialize};

use crate::{Error, host};

/// A line that fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit {
    /// The file, relative to the gate's root.
    pub path: String,
    /// The line, from 1.
    pub line: u64,
    /// The line's text, cut where it is very long.
    pub text: String,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The lines.
    pub hits: Vec<Hit>,
    /// Whether there may be more than was asked for.
    pub truncated: bool,
}

/// A search.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Search {
    pub(crate) pattern: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) glob: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_results: Option<u32>,
}

impl Search {
    /// For the lines that a regular expression fits. `(?i)` ignores case.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self { pattern: pattern.into(), path: None, glob: None, max_results: None }
    }

    /// Only below this directory, or in this file. Default: the gate's root.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Only in files whose names fit: `*`, `?`, `**`, `[ab]`, `{a,b}`. Default: all.
    #[must_use]
    pub fn glob(mut self, glob: impl Into<String>) -> Self {
        self.glob = Some(glob.into());
        self
    }

    /// At most so many lines, 1 000 at most. Default: 100.
    #[must_use]
    pub const fn max_results(mut self, lines: u32) -> Self {
        self.max_results = Some(lines);
        self
    }

    /// Searches.
    ///
    /// # Errors
    /// `Invalid` for a pattern that is none, `Denied` for a path that leaves the root, `Exhausted` for a tree that is too large.
    pub fn run(&self) -> Result<Found, Error> {
        host::search(self)
    }
}

/// The lines that a regular expression fits, anywhere below the gate's root.
///
/// # Errors
/// As [`Search::run`].
pub fn search(pattern: &str) -> Result<Vec<Hit>, Error> {
    Search::new(pattern).run().map(|found| found.hits)
}
