//! A record that was damaged says so: each kind of damage is done to a real store, and either it is found or nothing
//! that was acknowledged is affected by it.

#![expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a failed setup is a failed test, and it damages files"
)]

mod store_support;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use cantrip_runtime::adapters::store::FjallStore;
use cantrip_runtime::domain::ids::EntryId;
use cantrip_runtime::ports::{LoomStore, StoreError, Verified};
use store_support::{copy_tree, entity, fill, loom, open, said, wait};

/// The last batch of a closed store only says how far the marks were synced: without it nothing is missing.
const LAST_BATCH: u64 = 13 + 21 + 6 + 32 + 13;

/// A closed store with two looms, and what was acknowledged.
struct Original {
    folder: tempfile::TempDir,
    ids: Vec<EntryId>,
}

fn original(count: u64) -> Result<Original> {
    let folder = tempfile::tempdir()?;
    let store = open(folder.path())?;
    let mut ids = fill(&*store, loom(1), count, 300, 3)?;
    ids.extend(fill(&*store, loom(2), count / 2, 300, 1)?);
    store.close()?;
    drop(store);
    // A fresh journal has 64 MiB, nearly all of it a hole, which the second opening cuts off: copies are cheap then.
    open(folder.path())?.close()?;
    Ok(Original { folder, ids })
}

/// The same with everything in tables, as after a long time.
fn original_in_tables() -> Result<Original> {
    let original = original(120)?;
    let database = fjall::Database::builder(original.folder.path().join("db")).open()?;
    for name in ["meta", "entries", "ids", "children", "entities", "heads", "blobs"] {
        database.keyspace(name, fjall::KeyspaceCreateOptions::default)?.rotate_memtable_and_wait()?;
    }
    drop(database);
    Ok(original)
}

impl Original {
    fn copy(&self) -> Result<tempfile::TempDir> {
        let copy = tempfile::tempdir()?;
        copy_tree(self.folder.path(), copy.path())?;
        Ok(copy)
    }
}

fn journal(folder: &Path) -> PathBuf {
    folder.join("db").join("0.jnl")
}

/// How much of the journal is written: the rest is a hole.
fn written(path: &Path) -> Result<u64> {
    let bytes = std::fs::read(path)?;
    Ok(bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1))
}

/// What opening says, or what a verification of the open store says; nothing if all is well.
fn complaint(folder: &Path, ids: &[EntryId]) -> Result<Option<String>> {
    let examined = FjallStore::examine(folder);
    let opened = match open(folder) {
        Ok(store) => {
            let verified = store.verify(None)?;
            if verified.findings.is_empty() {
                for id in ids {
                    let found = store.entry(*id)?;
                    ensure!(found.is_some(), "entry {id} is gone, and nobody noticed");
                }
                None
            } else {
                Some(said_by(&verified))
            }
        }
        Err(error) => Some(format!("{error:#}")),
    };
    let examined = match examined {
        Ok(verified) if verified.findings.is_empty() => None,
        Ok(verified) => Some(said_by(&verified)),
        Err(error) => Some(error.to_string()),
    };
    // A clean examination of a store that does not open would leave its owner alone with it.
    ensure!(opened.is_none() || examined.is_some(), "opening says {opened:?}, and the examination nothing");
    Ok(examined)
}

fn said_by(verified: &Verified) -> String {
    verified.findings.iter().map(|finding| finding.what.as_str()).collect::<Vec<_>>().join("; ")
}

fn must_complain(folder: &Path, ids: &[EntryId], about: &str) -> Result<()> {
    let complaint = complaint(folder, ids)?.with_context(|| format!("nobody noticed; expected: {about}"))?;
    ensure!(complaint.contains(about), "expected `{about}`, got: {complaint}");
    Ok(())
}

fn overwrite(path: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
    Ok(OpenOptions::new().write(true).open(path)?.write_all_at(bytes, offset)?)
}

fn flip(path: &Path, offset: u64) -> Result<()> {
    let mut byte = [0];
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    file.read_exact_at(&mut byte, offset)?;
    Ok(file.write_all_at(&[byte[0] ^ 0x10], offset)?)
}

#[test]
fn an_undamaged_record_is_clean() -> Result<()> {
    let original = original(60)?;
    ensure!(complaint(original.folder.path(), &original.ids)?.is_none());
    let verified = FjallStore::examine(original.folder.path())?;
    assert_eq!((verified.looms, verified.entries, verified.blobs), (2, 90, 3));
    Ok(())
}

#[test]
fn a_flipped_byte_anywhere_in_the_journal_is_found() -> Result<()> {
    let original = original(60)?;
    let length = written(&journal(original.folder.path()))?;
    let step = length / 40 + 1;
    for offset in (0..length).step_by(usize::try_from(step)?).chain(length - 6..length) {
        let copy = original.copy()?;
        flip(&journal(copy.path()), offset)?;
        let complaint = complaint(copy.path(), &original.ids)?;
        ensure!(complaint.is_some() || offset >= length - LAST_BATCH, "byte {offset} of {length}");
    }
    Ok(())
}

#[test]
fn a_zeroed_page_of_the_journal_is_found_and_the_missing_entries_are_named() -> Result<()> {
    let original = original(60)?;
    let length = written(&journal(original.folder.path()))?;
    for offset in (0..length).step_by(4096) {
        let copy = original.copy()?;
        overwrite(&journal(copy.path()), offset, &[0; 4096])?;
        let error = open(copy.path()).expect_err("an open store");
        ensure!(error.to_string().contains("of 30 w"), "{error:#} ({offset})");
        must_complain(copy.path(), &original.ids, "acknowledged and")?;
    }
    Ok(())
}

#[test]
fn a_journal_cut_at_any_length_is_found_and_left_as_it_is() -> Result<()> {
    let original = original(40)?;
    let length = written(&journal(original.folder.path()))?;
    let step = usize::try_from(length / 40 + 1)?;
    for cut in (0..length - LAST_BATCH).step_by(step).chain(length - LAST_BATCH - 30..length - LAST_BATCH) {
        let copy = original.copy()?;
        OpenOptions::new().write(true).open(journal(copy.path()))?.set_len(cut)?;
        must_complain(copy.path(), &original.ids, "").with_context(|| format!("cut at {cut} of {length}"))?;
        assert_eq!(std::fs::metadata(journal(copy.path()))?.len(), cut);
    }
    Ok(())
}

#[test]
fn a_torn_end_that_nobody_was_told_of_is_cut_off() -> Result<()> {
    let original = original(20)?;
    let length = written(&journal(original.folder.path()))?;
    // A batch that was on its way: a start, an item of 1 000 bytes, an end; once cut, once with its middle lost.
    let start = [[1].as_slice(), &1_u32.to_le_bytes(), &1_000_000_u64.to_le_bytes()].concat();
    let lengths = [1_u16.to_le_bytes().as_slice(), &1000_u32.to_le_bytes(), &1000_u32.to_le_bytes()].concat();
    let item = [[2, 0, 0].as_slice(), &3_u64.to_le_bytes(), &lengths, &[7; 1001]].concat();
    let whole = [start, item, [3].to_vec(), 12_345_u64.to_le_bytes().to_vec(), b"FJL\x03".to_vec()].concat();
    let mut torn = whole.clone();
    torn[200..700].fill(0);
    for end in [&whole[..13], &whole[..900], &torn] {
        let copy = original.copy()?;
        overwrite(&journal(copy.path()), length, end)?;
        ensure!(complaint(copy.path(), &original.ids)?.is_none());
        let store = open(copy.path())?;
        fill(&*store, loom(3), 5, 100, 1)?;
        store.close()?;
        drop(store);
        ensure!(complaint(copy.path(), &original.ids)?.is_none());
    }
    Ok(())
}

#[test]
fn a_flipped_byte_anywhere_in_tables_and_manifests_is_found_or_harmless() -> Result<()> {
    let original = original_in_tables()?;
    ensure!(complaint(original.folder.path(), &original.ids)?.is_none());
    let mut found = 0;
    let mut harmless = 0;
    for file in files(&original.folder.path().join("db").join("keyspaces"))? {
        let length = std::fs::metadata(&file)?.len();
        let inside = file.strip_prefix(original.folder.path())?;
        for offset in (0..length).step_by(usize::try_from(length / 6 + 1)?) {
            let copy = original.copy()?;
            flip(&copy.path().join(inside), offset)?;
            let complaint =
                complaint(copy.path(), &original.ids).with_context(|| format!("{} {offset}", inside.display()))?;
            if complaint.is_some() { found += 1 } else { harmless += 1 }
        }
    }
    ensure!(found > harmless, "{found} found, {harmless} harmless");
    Ok(())
}

#[test]
fn a_zeroed_page_of_the_entries_table_is_found() -> Result<()> {
    let original = original_in_tables()?;
    let tables = files(&original.folder.path().join("db/keyspaces"))?;
    let largest =
        tables.iter().max_by_key(|path| std::fs::metadata(path).map_or(0, |file| file.len())).context("a table")?;
    let inside = largest.strip_prefix(original.folder.path())?;
    let copy = original.copy()?;
    overwrite(&copy.path().join(inside), 4096, &[0; 4096])?;
    must_complain(copy.path(), &original.ids, "")
}

#[test]
fn a_manifest_that_is_gone_is_found_before_the_engine_deletes_what_it_named() -> Result<()> {
    let original = original_in_tables()?;
    let copy = original.copy()?;
    std::fs::remove_file(copy.path().join("db/keyspaces/2/current"))?;
    must_complain(copy.path(), &original.ids, "the list of tables of keyspace 2 is damaged")?;
    ensure!(copy.path().join("db/keyspaces/2/tables").exists());
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// What is done to the database, which keyspaces it gets by their names.
type Change = Box<dyn Fn(&dyn Fn(&str) -> fjall::Keyspace) -> Result<()>>;

/// Opens the database behind the store's back.
fn tamper(
    folder: &Path,
    change: impl FnOnce(&fjall::Database, &dyn Fn(&str) -> fjall::Keyspace) -> Result<()>,
) -> Result<()> {
    let database = fjall::Database::builder(folder.join("db")).open()?;
    change(&database, &|name| database.keyspace(name, fjall::KeyspaceCreateOptions::default).expect("a keyspace"))?;
    database.persist(fjall::PersistMode::SyncAll)?;
    Ok(())
}

fn place(writer: [u8; 32], sequence: u64) -> Vec<u8> {
    [loom(1).as_bytes().as_slice(), &writer, &sequence.to_be_bytes()].concat()
}

#[test]
fn a_removed_newest_entry_is_found_even_with_its_head_rolled_back() -> Result<()> {
    let original = original(40)?;
    let writer = *open(original.folder.path())?.writer().as_bytes();
    for roll_back in [false, true] {
        let copy = original.copy()?;
        tamper(copy.path(), |_, keyspace| {
            let heads = keyspace("heads");
            let newest = *original.ids.get(39).context("the newest entry")?;
            keyspace("entries").remove(place(writer, 40))?;
            keyspace("ids").remove(newest.digest().as_slice())?;
            let parent = original.ids.get(38).context("its parent")?;
            keyspace("children").remove([parent.digest().as_slice(), &place(writer, 40)].concat())?;
            keyspace("entities").remove([entity(1).as_bytes().as_slice(), &place(writer, 40)].concat())?;
            if roll_back {
                let key = [loom(1).as_bytes().as_slice(), &writer].concat();
                let mut row = heads.get(&key)?.context("a head")?.to_vec();
                row[..8].copy_from_slice(&39_u64.to_be_bytes());
                heads.insert(key, row)?;
            }
            Ok(())
        })?;
        must_complain(copy.path(), &original.ids, "entry 40 of 40 was acknowledged and is missing")?;
        if roll_back {
            let error = open(copy.path()).expect_err("an open store");
            ensure!(matches!(error.downcast_ref(), Some(StoreError::Damaged { .. })), "{error:#}");
            ensure!(error.to_string().contains(&loom(1).to_string()), "{error:#}");
        }
    }
    Ok(())
}

#[test]
fn rows_that_were_changed_behind_the_stores_back_are_found() -> Result<()> {
    let original = original(40)?;
    let writer = *open(original.folder.path())?.writer().as_bytes();
    let seventh = *original.ids.get(6).context("the seventh")?;
    let first_of = |keyspace: &fjall::Keyspace| -> Result<Vec<u8>> {
        Ok(keyspace.first_key_value().context("a row")?.key()?.to_vec())
    };
    let changes: Vec<(&str, Change)> = vec![
        ("the index `ids` does not lead to it", Box::new(move |of| Ok(of("ids").remove(seventh.digest().as_slice())?))),
        (
            "the index `children` does not lead to it",
            Box::new(move |of| Ok(of("children").remove(first_of(&of("children"))?)?)),
        ),
        (
            "the index `entities` does not lead to it",
            Box::new(move |of| Ok(of("entities").remove(first_of(&of("entities"))?)?)),
        ),
        (
            "the index `ids` leads to an entry that is not there",
            Box::new(move |of| Ok(of("ids").insert([9; 32], place(writer, 7))?)),
        ),
        (
            "the index `children` puts it where it does not belong",
            Box::new(move |of| {
                let key = [[9; 32].as_slice(), &place(writer, 7)].concat();
                Ok(of("children").insert(key, seventh.digest().as_slice())?)
            }),
        ),
        ("it refers to is missing", Box::new(move |of| Ok(of("blobs").remove(first_of(&of("blobs"))?)?))),
        ("it refers to is damaged", Box::new(move |of| Ok(of("blobs").insert(first_of(&of("blobs"))?, "other")?))),
        (
            "entry 7 of 40 was acknowledged and is missing",
            Box::new(move |of| Ok(of("entries").remove(place(writer, 7))?)),
        ),
        (
            "the content hashes to",
            Box::new(move |of| {
                let mut row = of("entries").get(place(writer, 7))?.context("the seventh")?.to_vec();
                let last = row.len() - 1;
                row[last] ^= 1;
                Ok(of("entries").insert(place(writer, 7), row)?)
            }),
        ),
        (
            "another chain",
            Box::new(move |of| {
                let row = of("entries").get(place(writer, 8))?.context("the eighth")?;
                Ok(of("entries").insert(place(writer, 7), row)?)
            }),
        ),
        (
            "the log goes on",
            Box::new(move |of| {
                let row = of("entries").get(place(writer, 40))?.context("the newest")?;
                Ok(of("entries").insert(place(writer, 41), row)?)
            }),
        ),
    ];
    for (about, change) in changes {
        let copy = original.copy()?;
        tamper(copy.path(), |_, keyspace| change(keyspace))?;
        must_complain(copy.path(), &[], about)?;
    }
    Ok(())
}

#[test]
fn the_first_bad_entry_comes_first() -> Result<()> {
    let original = original(40)?;
    let writer = *open(original.folder.path())?.writer().as_bytes();
    tamper(original.folder.path(), |_, keyspace| {
        for sequence in [9, 7, 20] {
            let mut row = keyspace("entries").get(place(writer, sequence))?.context("an entry")?.to_vec();
            row[100] ^= 1;
            keyspace("entries").insert(place(writer, sequence), row)?;
        }
        Ok(())
    })?;
    let verified = FjallStore::examine(original.folder.path())?;
    let first = verified.findings.first().context("a finding")?;
    assert_eq!((first.loom, first.sequence, first.entry), (Some(loom(1)), Some(7), original.ids.get(6).copied()));
    Ok(())
}

#[test]
fn a_missing_cut_or_older_file_of_marks_is_found() -> Result<()> {
    let original = original(40)?;
    let without = original.copy()?;
    std::fs::remove_file(without.path().join("heads"))?;
    must_complain(without.path(), &original.ids, "the file `heads` is missing")?;
    let length = std::fs::metadata(original.folder.path().join("heads"))?.len();
    for cut in [0, 1, 128, 129, 640, length - 128, length - 1] {
        let copy = original.copy()?;
        OpenOptions::new().write(true).open(copy.path().join("heads"))?.set_len(cut)?;
        must_complain(copy.path(), &original.ids, "the file `heads`").with_context(|| format!("cut at {cut}"))?;
    }
    for offset in (0..length).step_by(61) {
        let copy = original.copy()?;
        flip(&copy.path().join("heads"), offset)?;
        must_complain(copy.path(), &original.ids, "the file `heads`").with_context(|| format!("flipped {offset}"))?;
    }
    Ok(())
}

#[test]
fn an_older_copy_of_the_database_under_newer_marks_is_found() -> Result<()> {
    let original = original(40)?;
    let older = original.copy()?;
    let store = open(original.folder.path())?;
    fill_more(&*store)?;
    store.close()?;
    drop(store);
    std::fs::copy(original.folder.path().join("heads"), older.path().join("heads"))?;
    let error = open(older.path()).expect_err("an open store");
    ensure!(error.to_string().contains("entries 41–45 of 45 were acknowledged and are missing"), "{error:#}");
    must_complain(older.path(), &original.ids, "entries 41–45 of 45 were acknowledged and are missing")
}

fn fill_more(store: &dyn LoomStore) -> Result<()> {
    for _ in 0..5 {
        store.append(said(store, loom(1), entity(1), None, "more")?)?;
    }
    Ok(wait(store.sync(loom(1)))?)
}

#[test]
fn a_missing_database_key_or_journal_is_found() -> Result<()> {
    let original = original(20)?;
    let cases = [
        ("db", "the database is missing"),
        ("node.key", "the file `node.key` is missing"),
        ("db/0.jnl", "the database has no journal"),
    ];
    for (name, about) in cases {
        let copy = original.copy()?;
        let path = copy.path().join(name);
        if path.is_dir() {
            std::fs::remove_dir_all(path)?;
        } else {
            std::fs::remove_file(path)?;
        }
        must_complain(copy.path(), &original.ids, about)?;
    }
    Ok(())
}

#[test]
fn a_record_that_was_begun_and_not_finished_is_made_anew() -> Result<()> {
    let folder = tempfile::tempdir()?;
    open(folder.path())?.close()?;
    std::fs::remove_file(folder.path().join("db/version"))?;
    let store = open(folder.path())?;
    fill(&*store, loom(1), 3, 100, 1)?;
    ensure!(store.verify(None)?.findings.is_empty());
    Ok(())
}
