//! A throw-away copy of a database, to look at what must not be touched: a damaged record, or one that another process
//! writes to. Opening a fjall database always writes.
//!
//! Tables and manifests never change once written, so they are linked; journals are copied as far as they are whole.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::database::DATABASE_FOLDER;
use super::journal::{self, Scan};
use crate::adapters::private;

const PREFIX: &str = "scratch-";

/// A folder that is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    /// Held as long as the folder is in use.
    _lock: File,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is removed when the record is opened the next time.
        drop(fs::remove_dir_all(&self.path));
    }
}

impl Scratch {
    /// Makes a folder beside the database, so that links are possible, or in the system's place for such things.
    fn make(folder: &Path) -> io::Result<Self> {
        // A record is private wherever it lies: the folder is this user's alone, and nobody can have made it before.
        let path = private::make_unpredictable(folder, PREFIX)
            .or_else(|_| private::make_unpredictable(&std::env::temp_dir(), &format!("cantrip-{PREFIX}")))?;
        let lock = private::create_new(&path.join("lock"))?;
        lock.lock()?;
        Ok(Self { path, _lock: lock })
    }

    /// Copies a record's database. Returns what its journals hold as well.
    pub(super) fn copy(folder: &Path) -> io::Result<(Self, Scan)> {
        let scratch = Self::make(folder)?;
        let (from, to) = (folder.join(DATABASE_FOLDER), scratch.database());
        // The journals last: what is flushed meanwhile is then missing, which shows, and not there twice.
        link_tree(&from, &to)?;
        let scan = journal::scan(&from)?;
        for journal in &scan.files {
            let name = journal.path.file_name().unwrap_or_default();
            let mut whole = File::open(&journal.path)?.take(journal.valid_bytes);
            io::copy(&mut whole, &mut private::create_new(&to.join(name))?)?;
        }
        Ok((scratch, scan))
    }

    pub(super) fn database(&self) -> PathBuf {
        self.path.join(DATABASE_FOLDER)
    }
}

fn link_tree(from: &Path, to: &Path) -> io::Result<()> {
    private::make_missing(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            link_tree(&path, &target)?;
        } else if entry.file_name() == "lock" {
            private::create_new(&target)?;
        } else if path.extension().is_none_or(|extension| extension != "jnl") {
            link(&path, &target)?;
        }
    }
    Ok(())
}

fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop)) {
        // The database removed it meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes what a killed process left behind. The record must be locked.
pub(super) fn clean(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let in_use = File::open(entry.path().join("lock")).is_ok_and(|lock| lock.try_lock().is_err());
        if !in_use {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
