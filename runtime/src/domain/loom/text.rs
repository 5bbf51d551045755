//! The texts of an entry: in it, or beside it where they are large.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::ids::BlobId;
use crate::domain::limits::{INLINE_BYTES_MAX, INLINE_SUM_BYTES_MAX};

/// About what a reference takes: a text that is shorter is never kept beside its entry.
const REFERENCE_BYTES: usize = 64;

/// A text that is kept in the entry, or beside it when it is large.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// In the entry.
    #[serde(rename = "text")]
    Inline(String),
    /// Beside it.
    Blob {
        /// The hash of the text.
        id: BlobId,
        /// Its length.
        bytes: u64,
    },
}

impl Default for Payload {
    fn default() -> Self {
        Self::Inline(String::new())
    }
}

impl Payload {
    /// The text, if it is in the entry.
    pub fn inline(&self) -> Option<&str> {
        match self {
            Self::Inline(text) => Some(text),
            Self::Blob { .. } => None,
        }
    }
}

/// A text kept beside its entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// The hash of the bytes.
    pub id: BlobId,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Blob {
    /// Whether the bytes are what the name says.
    pub fn is_whole(&self) -> bool {
        BlobId::of(&self.bytes) == self.id
    }
}

/// Collects what an entry keeps beside it while its body is built.
#[derive(Debug)]
pub struct Payloads {
    blobs: Vec<Blob>,
    inline_left: usize,
}

impl Default for Payloads {
    fn default() -> Self {
        Self { blobs: Vec::new(), inline_left: INLINE_SUM_BYTES_MAX }
    }
}

impl Payloads {
    /// Keeps a text, in the entry or beside it.
    pub fn text(&mut self, text: &str) -> Payload {
        let is_small = text.len() <= REFERENCE_BYTES || text.len() <= INLINE_BYTES_MAX.min(self.inline_left);
        if is_small {
            self.inline_left = self.inline_left.saturating_sub(text.len());
            return Payload::Inline(text.to_owned());
        }
        let bytes = text.as_bytes().to_vec();
        let id = BlobId::of(&bytes);
        let length = bytes.len() as u64;
        self.blobs.push(Blob { id, bytes });
        Payload::Blob { id, bytes: length }
    }

    /// Keeps a JSON value as its text.
    pub fn json(&mut self, value: &Value) -> Payload {
        self.text(&value.to_string())
    }

    /// What has to be stored beside the entry.
    pub fn into_blobs(self) -> Vec<Blob> {
        self.blobs
    }
}
