//! Keys. Owns the one type that holds one; it never prints it.

use std::fmt;

/// A key. Printing it gives `***`.
#[derive(Clone)]
pub(super) struct Secret(String);

impl Secret {
    /// Takes the key as it is.
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    /// The key itself, for the request and for taking it out of texts.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}
