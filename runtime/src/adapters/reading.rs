//! Reads files that somebody named or left: up to a bound, and nothing that is no file.
//!
//! The one place that reads a file whole. A pipe would be waited for and a device read without end, so neither is opened as if it
//! were a file: what was opened is looked at, and not what its name led to before.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a file for reading; a folder, a pipe or a device is an error at once.
///
/// # Errors
/// What is no file, and a file that cannot be opened.
pub fn open(path: &Path) -> io::Result<File> {
    // Without it, opening a pipe waits for whoever writes into it. For a file it says nothing.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is a folder, a pipe or a device")) }
}

/// Reads a file whole.
///
/// # Errors
/// As [`open`], and a file that has more bytes; of that one nothing is kept.
pub fn bytes(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let length = file.metadata()?.len();
    let mut content = Vec::new();
    if length <= bytes_max {
        // It may have grown since.
        file.take(bytes_max.saturating_add(1)).read_to_end(&mut content)?;
    }
    let length = length.max(content.len() as u64);
    if length > bytes_max {
        let what = format!("it has {length} bytes, and the limit is {bytes_max}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(content)
}

/// Reads a file of text whole.
///
/// # Errors
/// As [`bytes()`], and a file that is no text.
pub fn text(path: &Path, bytes_max: u64) -> io::Result<String> {
    String::from_utf8(bytes(path, bytes_max)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "makes the files that are read")]

    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_bound_and_a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "12345").unwrap();
        assert_eq!(text(&at("file"), 5).unwrap(), "12345");
        assert_eq!(bytes(&at("file"), 4).unwrap_err().to_string(), "it has 5 bytes, and the limit is 4");
        File::create(at("hole")).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(bytes(&at("hole"), 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        std::fs::write(at("bytes"), [0xff]).unwrap();
        assert_eq!(text(&at("bytes"), 5).unwrap_err().kind(), io::ErrorKind::InvalidData);
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::RUSR).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("device")).unwrap();
        for name in ["pipe", "device", "."] {
            assert!(bytes(&at(name), 5).unwrap_err().to_string().contains("a pipe or a device"), "{name}");
        }
        assert_eq!(bytes(&at("nothing"), 5).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
