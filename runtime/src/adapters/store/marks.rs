//! The head marks: how far each log is, kept outside the database's journal.
//!
//! A damaged journal can open "successfully" with its end missing, so the database cannot vouch for itself. After each
//! durable batch, and before anybody is told of it, the heads it moved are written here. A mark is therefore never
//! newer than the journal. It is not synced each time: after a kill it is exact, after a loss of power it may be up to
//! a second older. The database remembers how far the marks were synced, so a cut, exchanged or deleted file shows.
//!
//! The file is a header and then records, all of [`RECORD`] bytes and each with its own check; the last record of a
//! log counts. It is rewritten whole, beside and then renamed, when most of it is outdated.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::files;
use super::rows::Log;
use crate::adapters::{private, reading};
use crate::domain::loom::Head;

/// The name of the file in the record's folder.
pub(super) const MARKS_FILE: &str = "heads";
/// The length of the header and of each record, in bytes: a page holds a whole number of them.
pub(super) const RECORD: usize = 128;
/// How much of a record is covered by its check.
const COVERED: usize = 56 + Log::BYTES;
/// The version of the file.
const VERSION: u32 = 2;
const HEADER: [u8; 4] = *b"CTH0";
const MARK: [u8; 4] = *b"CTH1";
/// 8 MiB, some 65 000 batches: below it the file is not worth a rewrite, and it is read in some 20 ms at open.
const REWRITE_BYTES_MIN: u64 = 8 * 1024 * 1024;
/// The file is rewritten when it is this many times as long as it has to be.
const REWRITE_FACTOR: u64 = 4;

/// How far a log is, and with which batch it came there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) log: Log,
    pub(super) head: Head,
    pub(super) commit: u64,
}

impl Mark {
    fn to_bytes(self) -> Vec<u8> {
        seal(
            [
                MARK.as_slice(),
                &VERSION.to_be_bytes(),
                &self.commit.to_be_bytes(),
                &self.log.to_bytes(),
                &self.head.sequence.to_be_bytes(),
                &self.head.chain,
            ]
            .concat(),
        )
    }

    fn parse(record: &[u8]) -> Option<Self> {
        let rest = unseal(record)?.strip_prefix(&MARK)?.strip_prefix(&VERSION.to_be_bytes())?;
        let (commit, rest) = rest.split_first_chunk::<8>()?;
        let (log, rest) = rest.split_at_checked(Log::BYTES)?;
        let (sequence, chain) = rest.split_first_chunk::<8>()?;
        Some(Self {
            log: Log::parse(log)?,
            head: Head { sequence: u64::from_be_bytes(*sequence), chain: chain.try_into().ok()? },
            commit: u64::from_be_bytes(*commit),
        })
    }
}

fn header() -> Vec<u8> {
    let mut bytes = [HEADER.as_slice(), &VERSION.to_be_bytes()].concat();
    bytes.resize(COVERED, 0);
    seal(bytes)
}

/// The header of layout 1, whose records covered 104 bytes.
fn header_of_layout_1() -> Vec<u8> {
    let mut bytes = [HEADER.as_slice(), &1_u32.to_be_bytes()].concat();
    bytes.resize(104, 0);
    seal(bytes)
}

fn seal(mut covered: Vec<u8>) -> Vec<u8> {
    let check = blake3::hash(&covered);
    covered.extend(check.as_bytes().iter().take(RECORD - covered.len()));
    covered
}

fn unseal(record: &[u8]) -> Option<&[u8]> {
    let (covered, check) = record.split_at_checked(COVERED)?;
    let expected = blake3::hash(covered);
    (expected.as_bytes().get(..RECORD - COVERED)? == check).then_some(covered)
}

/// What the file says.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// The last mark of each log.
    pub(super) by_log: HashMap<Log, Mark>,
    /// The newest commit that is marked.
    pub(super) commit: u64,
    /// The first record that is not readable.
    pub(super) broken: Option<Broken>,
    /// The header is not ours.
    pub(super) headless: bool,
    /// The header is that of a store of layout 1.
    pub(super) layout_1: bool,
}

/// A record that is not readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken {
    /// Where it is.
    pub(super) offset: u64,
    /// The commit of the next readable record; nothing when it is the end of the file.
    pub(super) before: Option<u64>,
}

impl Marks {
    /// Whether anything was ever recorded.
    pub(super) fn is_empty(&self) -> bool {
        self.by_log.is_empty() && self.broken.is_none() && !self.headless
    }

    /// Reads the file; nothing when there is none.
    pub(super) fn load(folder: &Path) -> io::Result<Option<Self>> {
        let mut file = match reading::open(&folder.join(MARKS_FILE)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut marks = Self::default();
        let mut chunk = vec![0; RECORD * 8192];
        let mut offset: u64 = 0;
        loop {
            let filled = files::fill(&mut file, &mut chunk)?;
            let read = chunk.get(..filled).unwrap_or_default();
            for record in read.chunks(RECORD) {
                marks.take(offset, record);
                offset = offset.saturating_add(RECORD as u64);
            }
            if filled < chunk.len() {
                break;
            }
        }
        marks.headless |= offset == 0;
        Ok(Some(marks))
    }

    fn take(&mut self, offset: u64, record: &[u8]) {
        if offset == 0 {
            self.headless = record != header().as_slice();
            self.layout_1 = record == header_of_layout_1().as_slice();
            return;
        }
        match Mark::parse(record) {
            Some(mark) => {
                if let Some(broken) = self.broken.as_mut() {
                    broken.before.get_or_insert(mark.commit);
                }
                self.commit = self.commit.max(mark.commit);
                let known = self.by_log.entry(mark.log).or_insert(mark);
                if mark.commit >= known.commit {
                    *known = mark;
                }
            }
            None => {
                self.broken.get_or_insert(Broken { offset, before: None });
            }
        }
    }

    /// What is wrong with the file itself, given how far it is known to have been synced.
    pub(super) fn damage(&self, synced: u64) -> Option<String> {
        if self.headless {
            return Some(format!("the file `{MARKS_FILE}` does not begin as it should"));
        }
        if let Some(Broken { offset, before: Some(before) }) = self.broken
            && before <= synced
        {
            return Some(format!("the file `{MARKS_FILE}` is damaged at byte {offset}"));
        }
        (self.commit < synced).then(|| {
            format!("the file `{MARKS_FILE}` ends at commit {}, and it was synced up to commit {synced}", self.commit)
        })
    }
}

/// Appends marks. Belongs to the committer.
#[derive(Debug)]
pub(super) struct MarkWriter {
    folder: PathBuf,
    file: File,
    /// Its length.
    bytes: u64,
    /// Its length after the last rewrite.
    needed_bytes: u64,
    /// Whether something is not synced.
    dirty: bool,
}

impl MarkWriter {
    /// Makes the file, durably, with these marks.
    pub(super) fn create<'a>(folder: &Path, marks: impl Iterator<Item = &'a Mark>) -> io::Result<Self> {
        let mut content = header();
        marks.for_each(|mark| content.extend(mark.to_bytes()));
        let bytes = content.len() as u64;
        let file = private::replace_open(&folder.join(MARKS_FILE), &content)?;
        Ok(Self { folder: folder.to_owned(), file, bytes, needed_bytes: bytes, dirty: false })
    }

    /// Goes on with the file that was read, or makes it anew where it is long or has an unreadable record.
    pub(super) fn resume(folder: &Path, marks: &Marks) -> io::Result<Self> {
        let needed_bytes = (marks.by_log.len() as u64).saturating_add(1).saturating_mul(RECORD as u64);
        let bytes = std::fs::metadata(folder.join(MARKS_FILE))?.len();
        if marks.broken.is_some() || outdated(bytes, needed_bytes) {
            return Self::create(folder, marks.by_log.values());
        }
        let mut file = OpenOptions::new().read(true).write(true).open(folder.join(MARKS_FILE))?;
        file.seek(SeekFrom::Start(bytes))?;
        Ok(Self { folder: folder.to_owned(), file, bytes, needed_bytes, dirty: true })
    }

    /// Writes marks. They survive the process from here on.
    pub(super) fn append(&mut self, marks: &[Mark]) -> io::Result<()> {
        if outdated(self.bytes, self.needed_bytes) {
            let known = Marks::load(&self.folder)?.unwrap_or_default();
            *self = Self::create(&self.folder, known.by_log.values())?;
        }
        let content: Vec<u8> = marks.iter().flat_map(|mark| mark.to_bytes()).collect();
        self.file.write_all(&content)?;
        self.bytes = self.bytes.saturating_add(content.len() as u64);
        self.dirty = true;
        Ok(())
    }

    pub(super) const fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Makes them survive a loss of power.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.dirty {
            self.file.sync_data()?;
            self.dirty = false;
        }
        Ok(())
    }
}

const fn outdated(bytes: u64, needed: u64) -> bool {
    bytes > REWRITE_BYTES_MIN && bytes > needed.saturating_mul(REWRITE_FACTOR)
}

#[cfg(test)]
mod tests {
    use super::super::open::Folder;
    use super::*;
    use crate::domain::ids::{LoomId, WriterKey};

    fn mark(loom: u8, sequence: u64) -> Mark {
        Mark {
            log: Log { loom: LoomId::from_bytes([loom; 22]), writer: WriterKey::from_bytes([9; 32]) },
            head: Head { sequence, chain: [loom; 32] },
            commit: sequence,
        }
    }

    fn written(marks: &[Mark]) -> io::Result<tempfile::TempDir> {
        let folder = tempfile::tempdir()?;
        let mut writer = MarkWriter::create(folder.path(), [].iter())?;
        writer.append(marks)?;
        Ok(folder)
    }

    fn load(folder: &Path) -> io::Result<Marks> {
        Marks::load(folder)?.ok_or_else(|| io::Error::other("no file"))
    }

    #[test]
    fn the_last_mark_of_a_log_counts() -> io::Result<()> {
        let folder = written(&[mark(1, 1), mark(2, 2), mark(1, 3)])?;
        let marks = load(folder.path())?;
        assert_eq!((marks.by_log.len(), marks.commit, marks.damage(3)), (2, 3, None));
        assert_eq!(marks.by_log.get(&mark(1, 0).log), Some(&mark(1, 3)));
        Ok(())
    }

    #[test]
    fn a_torn_end_is_ignored_and_written_over() -> io::Result<()> {
        let folder = written(&[mark(1, 1), mark(1, 2)])?;
        let path = folder.path().join(MARKS_FILE);
        let bytes = std::fs::read(&path)?;
        for length in RECORD * 2..bytes.len() {
            std::fs::write(&path, bytes.get(..length).unwrap_or_default())?;
            let marks = load(folder.path())?;
            assert_eq!((marks.commit, marks.damage(1)), (1, None), "{length}");
            assert!(marks.damage(2).is_some(), "a synced mark is missing at {length}");
            let mut writer = MarkWriter::resume(folder.path(), &marks)?;
            writer.append(&[mark(1, 5)])?;
            assert_eq!(load(folder.path())?.commit, 5);
        }
        Ok(())
    }

    #[test]
    fn a_flipped_byte_anywhere_in_synced_marks_is_damage() -> io::Result<()> {
        let folder = written(&[mark(1, 1), mark(1, 2), mark(1, 3)])?;
        let path = folder.path().join(MARKS_FILE);
        let bytes = std::fs::read(&path)?;
        for index in 0..bytes.len() {
            let mut flipped = bytes.clone();
            if let Some(byte) = flipped.get_mut(index) {
                *byte ^= 1;
            }
            std::fs::write(&path, &flipped)?;
            assert!(load(folder.path())?.damage(3).is_some(), "{index}");
        }
        Ok(())
    }

    #[test]
    fn a_long_file_is_rewritten_with_what_counts() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let mut writer = MarkWriter::create(folder.path(), [].iter())?;
        let many: Vec<Mark> = (1..70_000).map(|sequence| mark(1, sequence)).collect();
        writer.append(&many)?;
        writer.append(&[mark(1, 70_000), mark(2, 70_001)])?;
        assert!(std::fs::metadata(folder.path().join(MARKS_FILE))?.len() < 1024);
        let marks = load(folder.path())?;
        assert_eq!((marks.by_log.len(), marks.commit), (2, 70_001));
        Ok(())
    }

    #[test]
    fn the_file_of_a_store_of_layout_1_is_told_from_a_damaged_one() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let mut header = b"CTH0\0\0\0\x01".to_vec();
        std::fs::write(folder.path().join(MARKS_FILE), &header)?;
        assert!(!load(folder.path())?.layout_1, "only the whole header says so");
        header.resize(104, 0);
        let check = blake3::hash(&header);
        header.extend(check.as_bytes().iter().take(24));
        std::fs::write(folder.path().join(MARKS_FILE), &header)?;
        let refused = Folder(folder.path()).marks().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains("layout 1") && refused.contains("4e523ed"), "{refused}");
        Ok(())
    }
}
