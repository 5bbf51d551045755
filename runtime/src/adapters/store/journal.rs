//! Reads the database's journal without the database.
//!
//! fjall recovers by cutting a journal at the first thing it cannot read, whatever comes after: one zeroed page in the
//! middle costs everything behind it, silently and for good. So before fjall may touch a journal, it is read here,
//! which never writes: a journal that ends early is only a torn end if nothing whole follows, and only a harmless one
//! if everything that was marked is there (see `marks`).
//!
//! The format is fjall 3's: a batch is a start (tag 1, number of items, sequence), items (tag 2, lengths, key, value)
//! and an end (tag 3, XXH3 of the items, trailer). The start is outside of fjall's checksum; its sequence is checked
//! here to ascend.
//!
//! What follows a place that cannot be read is whatever entities have printed, too: a text may hold a whole batch. So only a commit
//! of this store counts, which has an id in it that nobody else knows; and since a commit is on disk before the next begins, only
//! the last one can be torn: one more behind it is damage.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3Default;

use super::key::NodeKey;
use super::rows::{Commit, META_COMMIT};
use crate::adapters::reading;

const TAG_START: u8 = 1;
const TAG_ITEM: u8 = 2;
const TAG_END: u8 = 3;
const TAG_CLEAR: u8 = 4;
/// The last bytes of a batch.
const TRAILER: [u8; 4] = *b"FJL\x03";
/// The row of a commit as an item has it: its key, two numbers and the id.
const COMMIT_ROW_BYTES: usize = META_COMMIT.len() + 32;
/// 256 KiB: a journal is read at some GB/s with it.
const BUFFER_BYTES: usize = 256 * 1024;

/// What the journals hold.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Each file, the oldest first. The last is the one that fjall goes on writing.
    pub(super) files: Vec<Journal>,
    /// The newest of our commits that can be read.
    pub(super) commit: Option<Commit>,
    /// What is wrong, each with file and place.
    pub(super) damage: Vec<String>,
    /// What this store's commits have in them.
    ids: Vec<[u8; 16]>,
}

/// The ids of this node's key, and of the one that it may be about to take.
fn own_ids(database: &Path) -> Vec<[u8; 16]> {
    let keys = database.parent().into_iter().flat_map(|folder| [NodeKey::load(folder), NodeKey::load_next(folder)]);
    // A key that cannot be read is told when the record is opened with it.
    keys.filter_map(Result::ok).flatten().map(|key| key.commit_id()).collect()
}

/// One journal file.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) path: PathBuf,
    pub(super) number: u64,
    /// How much of it, from its beginning, is whole batches.
    pub(super) valid_bytes: u64,
    /// Whether something that is not zeros follows.
    pub(super) torn: bool,
}

/// Reads all journals of a database folder.
pub(super) fn scan(database: &Path) -> io::Result<Scan> {
    let mut scan = Scan { ids: own_ids(database), ..Scan::default() };
    let mut found = journals(database)?;
    found.sort();
    if found.is_empty() {
        scan.damage.push("the database has no journal".to_owned());
    }
    let last = found.len().saturating_sub(1);
    let mut sequence = None;
    for (index, (number, path)) in found.into_iter().enumerate() {
        if let Some(before) = scan.files.last()
            && before.number.checked_add(1) != Some(number)
        {
            scan.damage.push(format!("the journal {}.jnl is missing", before.number.saturating_add(1)));
        }
        match scan.read_file(path, number, index == last, &mut sequence) {
            // The database removed it meanwhile: all of it is in tables.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => read?,
        }
    }
    Ok(scan)
}

fn journals(database: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(database)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jnl")
            && let Some(number) = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok())
        {
            found.push((number, path));
        }
    }
    Ok(found)
}

impl Scan {
    fn read_file(&mut self, path: PathBuf, number: u64, active: bool, sequence: &mut Option<u64>) -> io::Result<()> {
        let mut reader = Batches::open(&path)?;
        let mut broken_at = None;
        let mut torn = false;
        while self.read_batches(&mut reader, number, sequence)? {
            let at = reader.valid_bytes;
            let mut ids = self.ids.clone();
            ids.extend(self.commit.and_then(|commit| commit.id));
            let rest = reader.look_behind(at, &ids, self.commit.map(|commit| commit.number))?;
            torn = rest.is_something;
            let Some(whole) = rest.commit_at else {
                if torn && !active {
                    let what = format!("the journal {number}.jnl is damaged at byte {at}, and a newer one follows");
                    self.damage.push(what);
                }
                break;
            };
            // A writer may have gone on since: what stays broken while more follows is damage.
            if broken_at == Some(at) {
                let what = "whole records follow at byte";
                self.damage.push(format!("the journal {number}.jnl is damaged at byte {at}: {what} {whole}"));
                break;
            }
            broken_at = Some(at);
            reader.back_to(at)?;
        }
        self.files.push(Journal { path, number, valid_bytes: reader.valid_bytes, torn });
        Ok(())
    }

    /// Reads whole batches. Returns whether something that is none follows.
    fn read_batches(&mut self, reader: &mut Batches, number: u64, sequence: &mut Option<u64>) -> io::Result<bool> {
        loop {
            match reader.next()? {
                Next::Batch(batch) if sequence.is_some_and(|before| batch.sequence <= before) => {
                    let at = reader.valid_bytes;
                    self.damage.push(format!("the journal {number}.jnl is damaged at byte {at}: its order is broken"));
                    return Ok(false);
                }
                Next::Batch(batch) => {
                    *sequence = Some(batch.sequence);
                    self.follow(number, &batch);
                    reader.valid_bytes = reader.valid_bytes.saturating_add(batch.bytes);
                }
                Next::End => return Ok(false),
                Next::Broken => return Ok(true),
            }
        }
    }

    fn follow(&mut self, number: u64, batch: &Batch) {
        let Some(commit) = batch.commit else { return };
        if let Some(before) = self.commit
            && before.number != commit.number
            && before.number.checked_add(1) != Some(commit.number)
        {
            self.damage.push(format!(
                "the journal {number}.jnl goes from commit {} to commit {}: what is between them is missing",
                before.number, commit.number
            ));
        }
        self.commit = Some(commit);
    }
}

/// A whole batch.
#[derive(Debug)]
struct Batch {
    sequence: u64,
    bytes: u64,
    commit: Option<Commit>,
}

enum Next {
    Batch(Batch),
    /// The file ends after a whole batch.
    End,
    /// What follows is no whole batch.
    Broken,
}

/// What follows the readable part of a journal.
struct Rest {
    is_something: bool,
    /// The place of a commit that was on disk when what cannot be read was, too.
    commit_at: Option<u64>,
}

struct Batches {
    reader: BufReader<File>,
    valid_bytes: u64,
}

impl Batches {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { reader: BufReader::with_capacity(BUFFER_BYTES, reading::open(path)?), valid_bytes: 0 })
    }

    fn back_to(&mut self, offset: u64) -> io::Result<()> {
        self.reader.seek(SeekFrom::Start(offset)).map(drop)
    }

    fn next(&mut self) -> io::Result<Next> {
        match read_batch(&mut self.reader) {
            Ok(Some(batch)) => Ok(Next::Batch(batch)),
            Ok(None) => Ok(Next::End),
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
                Ok(Next::Broken)
            }
            Err(error) => Err(error),
        }
    }

    /// Looks for anything in what could not be read, and for commits of this store in particular, in one pass.
    fn look_behind(&mut self, from: u64, ids: &[[u8; 16]], last: Option<u64>) -> io::Result<Rest> {
        let mut rest = Rest { is_something: false, commit_at: None };
        let mut found = Found { last, commit_at: None };
        // What is left of the piece before, so that a row across two pieces is seen.
        let mut window: Vec<u8> = Vec::with_capacity(BUFFER_BYTES + COMMIT_ROW_BYTES);
        let (zeros, mut chunk) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
        let mut offset = from;
        self.back_to(from)?;
        loop {
            let read = self.reader.read(&mut chunk)?;
            let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            crate::domain::steps::count(read as u64);
            // The end of a journal that was laid out beforehand is 64 MB of zeros: compared at the speed of memory, and no row.
            let is_empty = zeros.get(..read) == Some(bytes);
            rest.is_something |= !is_empty;
            if is_empty && window.iter().all(|&byte| byte == 0) {
                offset = offset.saturating_add(read as u64);
                window.clear();
                continue;
            }
            let start = offset.saturating_sub(window.len() as u64);
            window.extend_from_slice(bytes);
            found.look_at(&window, start, ids);
            offset = offset.saturating_add(read as u64);
            window.drain(..window.len().saturating_sub(COMMIT_ROW_BYTES - 1));
        }
        rest.commit_at = found.commit_at;
        Ok(rest)
    }
}

/// The commits that were met behind what cannot be read.
struct Found {
    /// The last commit that is known to be before them: the next one may be torn.
    last: Option<u64>,
    commit_at: Option<u64>,
}

impl Found {
    fn look_at(&mut self, window: &[u8], start: u64, ids: &[[u8; 16]]) {
        for (at, row) in window.windows(COMMIT_ROW_BYTES).enumerate() {
            let Some(value) = row.strip_prefix(META_COMMIT) else { continue };
            let Some(commit) = Commit::parse(value).filter(|commit| commit.id.is_some_and(|id| ids.contains(&id)))
            else {
                continue;
            };
            // Where nothing is known, the first that is met may be the torn one.
            let last = *self.last.get_or_insert(commit.number.saturating_sub(1));
            if commit.number > last.saturating_add(1) {
                self.commit_at.get_or_insert(start.saturating_add(at as u64));
            }
        }
    }
}

fn broken() -> io::Error {
    io::Error::from(io::ErrorKind::InvalidData)
}

fn take<const N: usize>(reader: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Reads one batch; nothing where the file ends before it.
fn read_batch(reader: &mut impl Read) -> io::Result<Option<Batch>> {
    let mut tag = [0_u8; 1];
    if reader.read(&mut tag)? == 0 {
        return Ok(None);
    }
    if tag != [TAG_START] {
        return Err(broken());
    }
    let mut left = u32::from_le_bytes(take(reader)?);
    let mut batch = Batch { sequence: u64::from_le_bytes(take(reader)?), bytes: 13, commit: None };
    let mut hasher = Xxh3Default::new();
    loop {
        let [tag] = take(reader)?;
        match tag {
            TAG_ITEM => read_item(reader, &mut hasher, &mut batch)?,
            TAG_CLEAR => {
                let keyspace: [u8; 8] = take(reader)?;
                hasher.update(&[tag]);
                hasher.update(&keyspace);
                batch.bytes = batch.bytes.saturating_add(9);
            }
            TAG_END => {
                let expected = u64::from_le_bytes(take(reader)?);
                let trailer: [u8; 4] = take(reader)?;
                batch.bytes = batch.bytes.saturating_add(13);
                let whole = left == 0 && trailer == TRAILER && hasher.digest() == expected;
                return if whole { Ok(Some(batch)) } else { Err(broken()) };
            }
            _ => return Err(broken()),
        }
        left = left.checked_sub(1).ok_or_else(broken)?;
    }
}

fn read_item(reader: &mut impl Read, hasher: &mut Xxh3Default, batch: &mut Batch) -> io::Result<()> {
    let head: [u8; 10] = take(reader)?;
    let key_length: [u8; 2] = take(reader)?;
    let value_length: [u8; 4] = take(reader)?;
    let stored_length: [u8; 4] = take(reader)?;
    hasher.update(&[TAG_ITEM]);
    for part in [head.as_slice(), &key_length, &value_length, &stored_length] {
        hasher.update(part);
    }
    let mut key = vec![0; usize::from(u16::from_le_bytes(key_length))];
    reader.read_exact(&mut key)?;
    hasher.update(&key);
    let stored = u64::from(u32::from_le_bytes(stored_length));
    let mut value = Vec::new();
    let is_commit = key == META_COMMIT;
    let mut chunk = [0_u8; 4096];
    let mut left = stored;
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(chunk.len()).min(chunk.len());
        let part = chunk.get_mut(..length).ok_or_else(broken)?;
        reader.read_exact(part)?;
        hasher.update(part);
        if is_commit && value.len() < 64 {
            value.extend_from_slice(part);
        }
        left = left.saturating_sub(length as u64);
    }
    if is_commit {
        batch.commit = Commit::parse(&value);
    }
    let fixed: u64 = 21;
    batch.bytes = batch.bytes.saturating_add(fixed).saturating_add(key.len() as u64).saturating_add(stored);
    Ok(())
}

/// Cuts what is torn off the newest journal, as fjall would; fjall refuses a torn end whose checksum is off.
pub(super) fn cut_torn_end(scan: &Scan) -> io::Result<()> {
    if let Some(journal) = scan.files.last().filter(|journal| journal.torn) {
        let file = std::fs::OpenOptions::new().write(true).open(&journal.path)?;
        file.set_len(journal.valid_bytes)?;
        file.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::steps;

    type Tested = Result<(), Box<dyn std::error::Error>>;

    fn item(key: &[u8], value: &[u8]) -> Vec<u8> {
        let length = u32::try_from(value.len()).unwrap_or(0).to_le_bytes();
        let key_length = u16::try_from(key.len()).unwrap_or(0).to_le_bytes();
        [[TAG_ITEM].as_slice(), &[0; 10], &key_length, &length, &length, key, value].concat()
    }

    /// A whole batch as the engine writes it.
    fn batch(sequence: u64, items: &[Vec<u8>]) -> Vec<u8> {
        let count = u32::try_from(items.len()).unwrap_or(0);
        let mut bytes = [[TAG_START].as_slice(), &count.to_le_bytes(), &sequence.to_le_bytes()].concat();
        let items = items.concat();
        let mut hasher = Xxh3Default::new();
        hasher.update(&items);
        bytes.extend(items);
        bytes.push(TAG_END);
        bytes.extend(hasher.digest().to_le_bytes());
        bytes.extend(TRAILER);
        bytes
    }

    fn commit(number: u64, id: Option<[u8; 16]>) -> Vec<u8> {
        item(META_COMMIT, &Commit { number, marked: 0, id }.to_bytes())
    }

    /// A folder with a key and a journal, and the id of the key.
    fn folder() -> io::Result<(tempfile::TempDir, [u8; 16])> {
        let folder = tempfile::tempdir()?;
        let key = NodeKey::create(folder.path())?;
        std::fs::create_dir_all(folder.path().join("db"))?;
        Ok((folder, key.commit_id()))
    }

    fn scanned(folder: &tempfile::TempDir, journal: &[Vec<u8>]) -> io::Result<Scan> {
        std::fs::write(folder.path().join("db/0.jnl"), journal.concat())?;
        scan(&folder.path().join("db"))
    }

    /// The last batch, torn at its end, with this text in it.
    fn torn(sequence: u64, number: u64, id: Option<[u8; 16]>, text: &[u8]) -> Vec<u8> {
        let mut bytes = batch(sequence, &[commit(number, id), item(b"text", text)]);
        bytes.truncate(bytes.len() - 5);
        bytes
    }

    #[test]
    fn a_text_that_holds_a_whole_batch_is_no_damage() -> Tested {
        let (folder, id) = folder()?;
        // Trailers, whole batches, and batches with commits that somebody else made up.
        for made_up in [None, Some([0x61; 16])] {
            let crafted = [batch(90, &[commit(91, made_up)]), batch(91, &[commit(92, made_up)])].concat();
            let text = [b"print: ".to_vec(), TRAILER.to_vec(), crafted, TRAILER.repeat(100)].concat();
            for own in [Some(id), None] {
                let found = scanned(&folder, &[batch(1, &[commit(1, own)]), torn(2, 2, own, &text)])?;
                assert_eq!(found.damage, Vec::<String>::new());
                assert!(found.files.first().is_some_and(|file| file.torn));
                assert_eq!(found.commit.map(|commit| commit.number), Some(1));
            }
            // Nothing can be read before the tear.
            let found = scanned(&folder, &[torn(1, 1, Some(id), &text)])?;
            assert_eq!(found.damage, Vec::<String>::new());
        }
        Ok(())
    }

    #[test]
    fn a_commit_of_this_store_behind_the_tear_is_damage() -> Tested {
        let (folder, id) = folder()?;
        let whole = |number: u64| batch(number, &[commit(number, Some(id)), item(b"text", &[7; 10_000])]);
        let mut broken = whole(2);
        broken.iter_mut().skip(20).take(60).for_each(|byte| *byte = 0);
        for before in [vec![whole(1)], Vec::new()] {
            let found = scanned(&folder, &[before, vec![broken.clone(), whole(3), whole(4)]].concat())?;
            assert!(found.damage.iter().any(|what| what.contains("whole records follow")), "{:?}", found.damage);
        }
        Ok(())
    }

    #[test]
    fn what_is_behind_a_tear_is_read_once_whatever_it_holds() -> Tested {
        let (folder, id) = folder()?;
        let mut counted = Vec::new();
        for count in [100_000, 200_000] {
            let text = TRAILER.repeat(count);
            let journal = [batch(1, &[commit(1, Some(id))]), torn(2, 2, Some(id), &text)];
            counted.push(steps::of(|| drop(scanned(&folder, &journal))));
        }
        assert!(matches!(counted.as_slice(), [once, twice] if *once > 0 && twice * 2 <= once * 5), "{counted:?}");
        Ok(())
    }
}
