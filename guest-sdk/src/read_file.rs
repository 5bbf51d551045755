//! The gate `read_file`: the text of files below a root that the cantrip file names.

use crate::{Error, host};

/// The text of a whole file, relative to the gate's root. At most 1 MiB; longer files are read with [`Reader`].
///
/// # Errors
/// `Denied` for a path that leaves the root, `NotFound`, `Invalid` for what is not UTF-8, `Exhausted` for a longer file.
pub fn read(path: &str) -> Result<String, Error> {
    host::read(path, None, None)
}

/// A part of a file: at most `limit` bytes from the byte `offset` on. A character that the limit cuts is left out.
///
/// # Errors
/// As [`read`], and `Invalid` for an offset inside of a character.
pub fn read_part(path: &str, offset: u64, limit: u64) -> Result<String, Error> {
    host::read(path, Some(offset), Some(limit))
}

/// 64 KiB. How much a [`Reader`] reads at once where nobody says.
pub const PIECE_BYTES_DEFAULT: u64 = 64 * 1024;

/// A file of any size, read piece by piece. Each piece is one call of the gate.
///
/// ```
/// # use cantrip_guest::{read_file::Reader, testing::Gates, Error};
/// let ran = Gates::new().file("log", "one two").run(|| Reader::new("log").piece_bytes(4).collect::<Result<Vec<_>, _>>());
/// assert_eq!(ran.result.unwrap(), ["one ", "two"]);
/// ```
#[derive(Debug, Clone)]
pub struct Reader {
    path: String,
    offset: u64,
    piece_bytes: u64,
    ended: bool,
}

impl Reader {
    /// From the beginning of a file. Reads nothing yet.
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), offset: 0, piece_bytes: PIECE_BYTES_DEFAULT, ended: false }
    }

    /// How much is read at once, in bytes: 4 at least, 1 MiB at most. Default: [`PIECE_BYTES_DEFAULT`].
    #[must_use]
    pub fn piece_bytes(mut self, bytes: u64) -> Self {
        self.piece_bytes = bytes.clamp(4, 1024 * 1024);
        self
    }

    /// Begins at a byte. Default: the first.
    #[must_use]
    pub const fn offset(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }
}

impl Iterator for Reader {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let piece = read_part(&self.path, self.offset, self.piece_bytes);
        match &piece {
            Ok(text) if !text.is_empty() => self.offset += text.len() as u64,
            Ok(_) | Err(_) => self.ended = true,
        }
        Some(piece).filter(|piece| !matches!(piece, Ok(text) if text.is_empty()))
    }
}
