//! Secrets in text.

use std::borrow::Cow;

use serde_json::Value;

/// stub
pub fn redact(text: &str) -> Cow<'_, str> {
    redact_counted(text).0
}

/// stub
pub fn redact_counted(text: &str) -> (Cow<'_, str>, usize) {
    (Cow::Borrowed(text), 0)
}

/// stub
pub fn redact_json(_value: &mut Value) -> usize {
    0
}
