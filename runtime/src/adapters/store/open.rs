//! Opening a record: what has to be there, what must agree with what, and what to say when it does not.
//!
//! Everything is read before fjall may write: a record that lost something is left exactly as it was found.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::committer::{Committer, chain};
use super::database::{CACHE_BYTES, DATABASE_FOLDER, Database, DatabaseError};
use super::journal::{self, Scan};
use super::key::{KEY_FILE, NodeKey};
use super::manifest;
use super::marks::{MARKS_FILE, Mark, MarkWriter, Marks};
use super::renewal::{self, Signing};
use super::rows::{self, Commit, LAYOUT, Log, LogLine, META_FILE, Space};
use super::scratch::{self, Scratch};
use super::sink::RecordSink;
use super::verify;
use crate::adapters::private;
use crate::ports::StoreError;

/// So many of the newest marks are compared at each open; all of them by a verification.
const MARKS_COMPARED: usize = 4096;
/// So many logs are named in an error.
const LOGS_NAMED: usize = 8;
const ADVICE: &str = "nothing was changed: `loom verify` lists all of it; restore the folder from a copy";

/// The parts of an open record.
pub(super) struct Opened {
    pub(super) key: NodeKey,
    pub(super) database: Database,
    pub(super) committer: Committer,
    pub(super) lock: File,
}

/// One record's folder, for its errors.
pub(super) struct Folder<'a>(pub(super) &'a Path);

impl Folder<'_> {
    fn named(&self) -> String {
        self.0.display().to_string()
    }

    pub(super) fn refuse(&self, what: impl Into<String>) -> StoreError {
        StoreError::Open { folder: self.named(), what: what.into(), source: None }
    }

    pub(super) fn cannot(&self, what: &str) -> impl FnOnce(io::Error) -> StoreError {
        let (folder, what) = (self.named(), what.to_owned());
        move |error| StoreError::Open { folder, what, source: Some(Box::new(error)) }
    }

    fn damaged(&self, what: impl Into<String>) -> StoreError {
        StoreError::Damaged { folder: self.named(), what: what.into() }
    }

    pub(super) fn engine(&self, error: DatabaseError) -> StoreError {
        let what = format!("{}; {ADVICE}", chain(&error));
        StoreError::Open { folder: self.named(), what, source: Some(Box::new(error)) }
    }

    pub(super) fn database(&self) -> PathBuf {
        self.0.join(DATABASE_FOLDER)
    }

    /// Whether there is a database, whole or not.
    pub(super) fn has_database(&self) -> bool {
        self.database().join("version").exists()
    }

    /// The head marks, if the folder is of this version's layout.
    pub(super) fn marks(&self) -> Result<Option<Marks>, StoreError> {
        let marks = Marks::load(self.0).map_err(self.cannot("read the head marks"))?;
        if marks.as_ref().is_some_and(|marks| marks.layout_1) {
            return Err(self.refuse(rows::other_layout(1)));
        }
        Ok(marks)
    }

    /// Whether a process has it open for writing.
    pub(super) fn is_in_use(&self) -> bool {
        File::open(self.0.join("lock")).is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// Looks through it before anything in it is opened: whoever hands a record in may have put links and pipes into it.
    pub(super) fn has_own_files(&self) -> Result<(), StoreError> {
        private::holds_own_files(self.0).map_err(self.cannot("take what is in it for a record"))
    }

    fn lock(&self) -> Result<File, StoreError> {
        let lock =
            private::options().truncate(true).open(self.0.join("lock")).map_err(self.cannot("make its lock file"))?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked { folder: self.named() }),
            Err(TryLockError::Error(error)) => Err(self.cannot("lock it")(error)),
        }
    }
}

/// Opens the record in a folder, or makes one.
pub(super) fn open(path: &Path, cache_bytes: u64) -> Result<Opened, StoreError> {
    let folder = Folder(path);
    folder.has_own_files()?;
    private::make_folder(path).map_err(folder.cannot("make the folder"))?;
    let lock = folder.lock()?;
    scratch::clean(path).map_err(folder.cannot("remove what an earlier run left"))?;
    let marks = folder.marks()?;
    let key = NodeKey::load(path).map_err(folder.cannot("read the node's key"))?;
    let (key, database, marks) = match marks {
        None if folder.has_database() => {
            let what = format!("the file `{MARKS_FILE}` is missing, which says how much was acknowledged; {ADVICE}");
            return Err(folder.damaged(what));
        }
        Some(marks) if folder.has_database() => existing(&folder, key, marks, cache_bytes)?,
        Some(marks) if !marks.is_empty() => {
            let what = format!("the database is missing, and {} logs were acknowledged; {ADVICE}", marks.by_log.len());
            return Err(folder.damaged(what));
        }
        _ => fresh(&folder, key, cache_bytes)?,
    };
    let commit = database.commit_row().map_err(|error| folder.engine(error))?;
    let writer = mark_writer(&folder, &database, &marks, commit)?;
    let commit = Commit { id: Some(key.commit_id()), ..commit };
    let sink = RecordSink::new(database.clone(), writer, commit);
    let committer = Committer::start(sink).map_err(folder.cannot("start the thread that writes"))?;
    Ok(Opened { key, database, committer, lock })
}

/// Makes a record. The marks come first, so that a database without them is always a damaged one.
fn fresh(
    folder: &Folder<'_>,
    key: Option<NodeKey>,
    cache_bytes: u64,
) -> Result<(NodeKey, Database, Marks), StoreError> {
    let key = match key {
        Some(key) => key,
        None => NodeKey::create(folder.0).map_err(folder.cannot("make the node's key"))?,
    };
    MarkWriter::create(folder.0, [].iter()).map_err(folder.cannot("make the head marks"))?;
    match std::fs::remove_dir_all(folder.database()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(folder.cannot("remove a database that was never finished")(error));
        }
        _ => {}
    }
    let database = Database::open(&folder.database(), cache_bytes).map_err(|error| folder.engine(error))?;
    database.make(&key.writer()).map_err(|error| folder.engine(error))?;
    note_file(folder, &database)?;
    private::sync_folder(folder.0).map_err(folder.cannot("sync the folder"))?;
    Ok((key, database, Marks::default()))
}

/// Opens a record that is there, if all of it is there.
fn existing(
    folder: &Folder<'_>,
    key: Option<NodeKey>,
    marks: Marks,
    cache_bytes: u64,
) -> Result<(NodeKey, Database, Marks), StoreError> {
    let scan = journal::scan(&folder.database()).map_err(folder.cannot("read the journal"))?;
    if !marks.is_empty() {
        before_the_engine(folder, &scan, &marks)?;
    }
    journal::cut_torn_end(&scan).map_err(folder.cannot("cut the torn end of the journal"))?;
    let database = Database::open(&folder.database(), cache_bytes).map_err(|error| folder.engine(error))?;
    let Some((layout, writer)) = database.made_by().map_err(|error| folder.engine(error))? else {
        if marks.is_empty() && scan.commit.is_none() {
            drop(database);
            return fresh(folder, key, cache_bytes);
        }
        return Err(folder.damaged(format!("the database does not know who made it; {ADVICE}")));
    };
    if layout != LAYOUT {
        return Err(folder.refuse(rows::other_layout(layout)));
    }
    let key = match key.filter(|key| key.writer() == writer) {
        Some(key) => key,
        // A kill came between the two steps of a new key.
        None => match NodeKey::load_next(folder.0).map_err(folder.cannot("read the node's next key"))? {
            Some(next) if next.writer() == writer => {
                renewal::finish(folder)?;
                next
            }
            _ => {
                let what =
                    format!("the file `{KEY_FILE}` is missing or another than that of writer {writer}; {ADVICE}");
                return Err(folder.damaged(what));
            }
        },
    };
    compare(folder, &database, &marks)?;
    let key = if is_copied(folder, &database)? {
        tracing::info!("the record was copied or restored: this node goes on under a new writer's key");
        renewal::renew(folder, &database, &key, Signing::All)?
    } else {
        key
    };
    Ok((key, database, marks))
}

/// Whether the folder is a copy of the one that was written to: the original may go on, and two that go on under one key would
/// write two histories.
fn is_copied(folder: &Folder<'_>, database: &Database) -> Result<bool, StoreError> {
    let mark = NodeKey::file_mark(folder.0, KEY_FILE).map_err(folder.cannot("look at the node's key"))?;
    let known = database.get(Space::Meta, META_FILE).map_err(|error| folder.engine(error))?;
    Ok(known.is_some_and(|known| *known != mark))
}

fn note_file(folder: &Folder<'_>, database: &Database) -> Result<(), StoreError> {
    let mark = NodeKey::file_mark(folder.0, KEY_FILE).map_err(folder.cannot("look at the node's key"))?;
    database.note(META_FILE, &mark).map_err(|error| folder.engine(error))
}

/// What can be known without the engine.
fn before_the_engine(folder: &Folder<'_>, scan: &Scan, marks: &Marks) -> Result<(), StoreError> {
    let tables = manifest::damage(&folder.database());
    if !tables.is_empty() {
        return Err(folder.damaged(format!("{}; {ADVICE}", tables.join("; "))));
    }
    let mut damage = scan.damage.clone();
    // The first journal has the first commit in it, whatever has gone into tables since.
    if scan.commit.is_none() && scan.files.first().is_some_and(|journal| journal.number == 0) {
        damage.push(format!("the journal has no commit, and commit {} was acknowledged", marks.commit));
    }
    if let Some(commit) = scan.commit.filter(|commit| commit.number < marks.commit) {
        damage.push(format!(
            "the journal ends at commit {}, and commit {} was acknowledged",
            commit.number, marks.commit
        ));
    }
    if damage.is_empty() {
        return Ok(());
    }
    damage.extend(what_is_missing(folder, marks));
    damage.push(ADVICE.to_owned());
    Err(folder.damaged(damage.join("; ")))
}

/// Opens a copy of what is left, to say what is not in it.
fn what_is_missing(folder: &Folder<'_>, marks: &Marks) -> Vec<String> {
    let Ok((scratch, _)) = Scratch::copy(folder.0) else { return Vec::new() };
    let missing = Database::open(&scratch.database(), CACHE_BYTES)
        .and_then(|database| verify::shortfall(&database, marks, MARKS_COMPARED))
        .unwrap_or_default();
    named(missing)
}

fn named(mut missing: Vec<String>) -> Vec<String> {
    let more = missing.len().saturating_sub(LOGS_NAMED);
    missing.truncate(LOGS_NAMED);
    if more > 0 {
        missing.push(format!("and {more} more"));
    }
    missing
}

/// What the database has and what was acknowledged.
fn compare(folder: &Folder<'_>, database: &Database, marks: &Marks) -> Result<(), StoreError> {
    let engine = |error| folder.engine(error);
    let commit = database.commit_row().map_err(engine)?;
    if let Some(what) = marks.damage(commit.marked) {
        return Err(folder.damaged(format!("{what}; {ADVICE}")));
    }
    let mut damage = named(verify::shortfall(database, marks, MARKS_COMPARED).map_err(engine)?);
    if commit.number < marks.commit {
        let what = format!("commit {} was acknowledged, and the database is at {}", marks.commit, commit.number);
        damage.insert(0, what);
    }
    if damage.is_empty() {
        return Ok(());
    }
    damage.push(ADVICE.to_owned());
    Err(folder.damaged(damage.join("; ")))
}

/// The marks go on where they are; where the database is ahead of them, after a kill between the two, they catch up.
fn mark_writer(
    folder: &Folder<'_>,
    database: &Database,
    marks: &Marks,
    commit: Commit,
) -> Result<MarkWriter, StoreError> {
    let cannot = folder.cannot("write the head marks");
    if commit.number == marks.commit {
        return MarkWriter::resume(folder.0, marks).map_err(cannot);
    }
    let lines = database.lines(&[]).map_err(|error| folder.engine(error))?;
    let mark = |(log, line): (Log, LogLine)| Mark { log, head: line.head, commit: commit.number };
    let marks: Vec<Mark> = lines.into_iter().map(mark).collect();
    MarkWriter::create(folder.0, marks.iter()).map_err(cannot)
}
