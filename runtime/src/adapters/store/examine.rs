//! Verifying a record from outside, damaged or in use, without touching it.

use std::path::Path;

use super::committer::chain;
use super::database::{CACHE_BYTES, Database, guarded};
use super::findings::Findings;
use super::journal::Scan;
use super::key::{KEY_FILE, NodeKey};
use super::open::Folder;
use super::rows::{self, LAYOUT};
use super::scratch::Scratch;
use super::{manifest, verify};
use crate::ports::{StoreError, Verified};

/// A record that is written to meanwhile can look wrong in between; then it is copied again.
const TRIES: usize = 3;

/// A database opened in a copy. The database goes before the copy does.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) database: Database,
    _scratch: Scratch,
}

/// Copies a record and opens the copy. What is wrong with files is found on the way.
pub(super) fn copy(folder: &Folder<'_>, findings: &mut Findings) -> Result<(Option<Copied>, Scan), StoreError> {
    let (scratch, scan) = Scratch::copy(folder.0).map_err(folder.cannot("copy it to look at it"))?;
    for what in &scan.damage {
        findings.store(what.as_str());
    }
    let tables = manifest::damage(&scratch.database());
    if !tables.is_empty() {
        for what in tables {
            findings.store(what);
        }
        return Ok((None, scan));
    }
    match Database::open(&scratch.database(), CACHE_BYTES) {
        Ok(database) => Ok((Some(Copied { database, _scratch: scratch }), scan)),
        Err(error) => {
            findings.store(format!("the database does not open: {}", chain(&error)));
            Ok((None, scan))
        }
    }
}

pub(super) fn examine(path: &Path) -> Result<Verified, StoreError> {
    let folder = Folder(path);
    folder.has_own_files()?;
    let mut tries = 1;
    loop {
        let verified = once(&folder)?;
        if verified.findings.is_empty() || tries == TRIES || !folder.is_in_use() {
            return Ok(verified);
        }
        tries += 1;
    }
}

fn once(folder: &Folder<'_>) -> Result<Verified, StoreError> {
    let mut findings = Findings::default();
    let marks = folder.marks()?;
    if !folder.has_database() {
        return match marks {
            None => Err(folder.refuse("there is no record here")),
            Some(marks) if marks.is_empty() => Ok(findings.finish()),
            Some(marks) => {
                findings.store("the database is missing");
                for mark in marks.by_log.values() {
                    findings.missing(mark.log, 1, mark.head.sequence, mark.head.sequence);
                }
                Ok(findings.finish())
            }
        };
    }
    let (copied, scan) = copy(folder, &mut findings)?;
    if let Some((commit, marks)) =
        scan.commit.zip(marks.as_ref()).filter(|(commit, marks)| commit.number < marks.commit)
    {
        findings.store(format!(
            "the journal ends at commit {}, and commit {} was acknowledged",
            commit.number, marks.commit
        ));
    }
    let Some(copied) = copied else { return Ok(findings.finish()) };
    check_maker(folder, &copied.database, &mut findings);
    let walked = guarded(|| {
        let synced = copied.database.commit_row().map(|commit| commit.marked).unwrap_or_default();
        verify::run(&copied.database, marks.as_ref(), synced, None, &mut findings);
        Ok(())
    });
    if let Err(error) = walked {
        findings.store(format!("the database cannot be read: {}", chain(&error)));
    }
    Ok(findings.finish())
}

fn check_maker(folder: &Folder<'_>, database: &Database, findings: &mut Findings) {
    match database.made_by() {
        Ok(Some((layout, _))) if layout != LAYOUT => {
            findings.store(rows::other_layout(layout));
        }
        Ok(Some((_, writer))) => match NodeKey::load(folder.0) {
            Ok(Some(key)) if key.writer() == writer => {}
            Ok(_) => {
                findings.store(format!("the file `{KEY_FILE}` is missing or another than that of writer {writer}"));
            }
            Err(error) => findings.store(format!("the file `{KEY_FILE}` is unreadable: {error}")),
        },
        Ok(None) => findings.store("the database does not know who made it"),
        Err(error) => findings.store(format!("the database's own rows are unreadable: {}", chain(&error))),
    }
}
