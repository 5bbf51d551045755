//! Journals and head marks: whatever is changed in valid ones, nothing is believed that was not written, and what is repaired is whole.

#![expect(clippy::disallowed_methods, reason = "a test may stop, and writes the files that it reads")]

use xxhash_rust::xxh3::Xxh3Default;

use super::journal;
use super::key::NodeKey;
use super::marks::{MARKS_FILE, Mark, MarkWriter, Marks};
use super::rows::{Commit, Log, META_COMMIT};
use crate::domain::ids::{LoomId, WriterKey};
use crate::domain::loom::Head;
use crate::fuzz_targets::target_of;

fn item(key: &[u8], value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).unwrap().to_le_bytes();
    let key_length = u16::try_from(key.len()).unwrap().to_le_bytes();
    [[2].as_slice(), &[0; 10], &key_length, &length, &length, key, value].concat()
}

/// A commit with a text beside it, as the engine writes it.
fn batch(number: u64, id: [u8; 16], text: &[u8]) -> Vec<u8> {
    let commit = Commit { number, marked: number.saturating_sub(1), id: Some(id) };
    let items = [item(META_COMMIT, &commit.to_bytes()), item(b"text", text)].concat();
    let mut hasher = Xxh3Default::new();
    hasher.update(&items);
    let start = [[1].as_slice(), &2_u32.to_le_bytes(), &number.to_le_bytes()].concat();
    [start, items, vec![3], hasher.digest().to_le_bytes().to_vec(), b"FJL\x03".to_vec()].concat()
}

#[test]
fn journal_files() {
    let folder = tempfile::tempdir().unwrap();
    let id = NodeKey::create(folder.path()).unwrap().commit_id();
    let database = folder.path().join("db");
    std::fs::create_dir(&database).unwrap();
    let three = [batch(1, id, b"one"), batch(2, id, &[7; 300]), batch(3, id, b"three")].concat();
    // A text that holds a batch, the zeros that a journal is laid out with, and a torn end.
    let within = [batch(1, id, &batch(2, [9; 16], b"made up")), vec![0; 4_096]].concat();
    let mut torn = [batch(1, id, b"one"), batch(2, id, b"two")].concat();
    torn.truncate(torn.len() - 6);
    target_of("journal", &[three, within, torn], 2_000, |bytes| {
        std::fs::write(database.join("0.jnl"), &bytes).unwrap();
        let found = journal::scan(&database).unwrap();
        let file = found.files.first().unwrap();
        assert!(file.valid_bytes <= bytes.len() as u64);
        if !found.damage.is_empty() {
            return false;
        }
        // What is taken for a torn end is cut, and then nothing is torn and the same was committed.
        journal::cut_torn_end(&found).unwrap();
        let again = journal::scan(&database).unwrap();
        assert_eq!(again.damage, Vec::<String>::new());
        assert!(again.files.iter().all(|file| !file.torn));
        let number = |commit: Option<Commit>| commit.map(|commit| commit.number);
        assert_eq!(number(again.commit), number(found.commit));
        found.commit.is_some()
    });
}

fn mark(loom: u8, commit: u64) -> Mark {
    let log = Log { loom: LoomId::from_bytes([loom; 22]), writer: WriterKey::from_bytes([9; 32]) };
    Mark { log, head: Head { sequence: commit, chain: [loom; 32] }, commit }
}

#[test]
fn mark_files() {
    let folder = tempfile::tempdir().unwrap();
    let written: Vec<Mark> = vec![mark(1, 1), mark(2, 2), mark(1, 3), mark(3, 4)];
    let seed = |marks: &[Mark]| {
        MarkWriter::create(folder.path(), marks.iter()).unwrap();
        std::fs::read(folder.path().join(MARKS_FILE)).unwrap()
    };
    let seeds = [seed(&written), seed(&written[..1]), seed(&[])];
    target_of("marks", &seeds, 2_000, |bytes| {
        std::fs::write(folder.path().join(MARKS_FILE), bytes).unwrap();
        let found = Marks::load(folder.path()).unwrap().unwrap();
        // A mark that nobody wrote is never believed, and a file that is believed says all that was synced.
        assert!(found.by_log.values().all(|mark| written.contains(mark)));
        for synced in 0..6 {
            assert!(found.damage(synced).is_some() || found.commit >= synced, "{synced}");
        }
        if found.damage(found.commit).is_some() {
            return false;
        }
        // Whoever goes on with it loses nothing that it says.
        let mut writer = MarkWriter::resume(folder.path(), &found).unwrap();
        writer.append(&[mark(7, 9)]).unwrap();
        let again = Marks::load(folder.path()).unwrap().unwrap();
        assert!(again.broken.is_none() && again.commit == 9 && again.by_log.len() == found.by_log.len() + 1);
        assert!(found.by_log.iter().all(|(log, mark)| again.by_log.get(log) == Some(mark)));
        !found.by_log.is_empty()
    });
}
