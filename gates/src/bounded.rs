//! Regular expressions that strangers write.
//!
//! Owns the bound on what one of them costs for each byte it is compared with: the engine is linear in the text, but the
//! factor is the number of its states, and a short pattern such as `1[01]{1000}2` has thousands.

use regex::{Regex, RegexBuilder};

/// 2, 8, 32, 128 and 256 KiB of compiled pattern. The first that is enough is taken for its size.
const CLASSES: &[usize] = &[2 * 1024, 8 * 1024, 32 * 1024, 128 * 1024, 256 * 1024];

/// 32 bytes. One state of a compiled pattern takes at least as much.
const STATE_BYTES: usize = 32;

/// A compiled pattern and what it costs.
#[derive(Debug, Clone)]
pub(crate) struct Bounded {
    regex: Regex,
    bytes: usize,
}

impl Bounded {
    /// Compiles a pattern that may take so many bytes. The error is one line.
    pub(crate) fn compile(text: &str, bytes_max: usize) -> Result<Self, String> {
        let mut error = "takes no bytes at all".to_owned();
        for bytes in CLASSES.iter().copied().filter(|bytes| *bytes < bytes_max).chain([bytes_max]) {
            match RegexBuilder::new(text).size_limit(bytes).build() {
                Ok(regex) => return Ok(Self { regex, bytes }),
                Err(regex::Error::CompiledTooBig(_)) => {
                    error = format!("exceeds size limit of {bytes} bytes when it is compiled");
                }
                Err(other) => {
                    let why = other.to_string();
                    let why = why.lines().last().unwrap_or("cannot be read").trim();
                    return Err(why.chars().take(200).collect());
                }
            }
        }
        Err(error)
    }

    /// What one byte of text costs at most.
    pub(crate) fn states(&self) -> usize {
        (self.bytes / STATE_BYTES).max(1)
    }

    /// How many bytes it takes when it is compiled, rounded up.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_match(&self, text: &str) -> bool {
        crate::steps::count(text.len() + 1);
        self.regex.is_match(text)
    }

    pub(crate) fn as_str(&self) -> &str {
        self.regex.as_str()
    }
}
