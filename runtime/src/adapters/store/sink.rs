//! What a durable write is: one batch in the database with its sync, then the marks outside of it.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::ops::ControlFlow;

use super::committer::{Item, Removal, Sink};
use super::database::{Batch, Database, DatabaseError};
use super::marks::{Mark, MarkWriter};
use super::rows::{Commit, Log, LogLine};
use crate::domain::loom::{Head, Sealed};

/// The lines of so many logs are kept in memory.
const LINES_KEPT: usize = 4096;

/// Writes to the database and to the marks.
pub(super) struct RecordSink {
    database: Database,
    marks: MarkWriter,
    commit: Commit,
    /// What the database has of it.
    recorded: Commit,
    lines: HashMap<Log, LogLine>,
}

impl RecordSink {
    /// Goes on after the commit that the database is at.
    pub(super) fn new(database: Database, marks: MarkWriter, commit: Commit) -> Self {
        Self { database, marks, commit, recorded: commit, lines: HashMap::new() }
    }

    /// The lines of the logs that these entries move.
    fn lines(&mut self, items: &[Item]) -> Result<BTreeMap<Log, LogLine>, DatabaseError> {
        if self.lines.len() > LINES_KEPT {
            self.lines.clear();
        }
        let mut moved: BTreeMap<Log, LogLine> = BTreeMap::new();
        for item in items {
            let log = item.log;
            let before = match moved.get(&log).or_else(|| self.lines.get(&log)) {
                Some(known) => Some(*known),
                None => self.database.line(log)?,
            };
            moved.insert(log, LogLine::after(before, &item.sealed, item.head));
        }
        Ok(moved)
    }

    /// The line that a log had at a place: as read from its entries, which happens when a folder was put back.
    fn line_at(&self, log: Log, place: u64) -> Result<Option<LogLine>, DatabaseError> {
        let (mut line, mut unreadable) = (None, false);
        self.database.raw_from(log, 1, |sequence, id, bytes| {
            let Some(sealed) = Sealed::open(id, bytes.to_vec()).ok().filter(|_| sequence <= place) else {
                unreadable = sequence <= place;
                return ControlFlow::Break(());
            };
            let before: Option<LogLine> = line;
            let head = before.map(|before| before.head).unwrap_or_default().after(&id);
            line = Some(LogLine::after(before, &sealed, head));
            ControlFlow::Continue(())
        })?;
        if unreadable { Err(DatabaseError::Row { space: "entries" }) } else { Ok(line) }
    }
}

impl Sink for RecordSink {
    fn write(&mut self, items: &[Item]) -> Result<(), Box<dyn Error + Send + Sync>> {
        let commit = Commit { number: self.commit.number.saturating_add(1), ..self.commit };
        let lines: Vec<(Log, LogLine)> = self.lines(items)?.into_iter().collect();
        self.database.commit(&Batch { items, lines: &lines, commit })?;
        let mark = |(log, line): &(Log, LogLine)| Mark { log: *log, head: line.head, commit: commit.number };
        let marks: Vec<Mark> = lines.iter().map(mark).collect();
        self.marks.append(&marks)?;
        self.commit = commit;
        self.recorded = commit;
        self.lines.extend(lines);
        Ok(())
    }

    fn forget(&mut self, removal: &Removal) -> Result<(), Box<dyn Error + Send + Sync>> {
        let commit = Commit { number: self.commit.number.saturating_add(1), ..self.commit };
        let mut marks = Vec::new();
        match removal {
            Removal::Logs(logs) => {
                self.database.forget(logs, commit)?;
                marks.extend(logs.iter().map(|log| Mark { log: *log, head: Head::default(), commit: commit.number }));
                self.lines.retain(|log, _| !logs.contains(log));
            }
            Removal::Behind(log, after) => {
                let line = self.line_at(*log, *after)?;
                self.database.set_aside((*log, *after), line, commit)?;
                let head = line.map(|line| line.head).unwrap_or_default();
                marks.push(Mark { log: *log, head, commit: commit.number });
                self.lines.remove(log);
            }
        }
        self.marks.append(&marks)?;
        self.commit = commit;
        self.recorded = commit;
        Ok(())
    }

    fn is_unsettled(&self) -> bool {
        self.marks.is_dirty()
    }

    fn settle(&mut self) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.marks.sync()?;
        self.commit.marked = self.commit.number;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.settle()?;
        if self.recorded != self.commit {
            self.database.settle(self.commit)?;
            self.recorded = self.commit;
        }
        Ok(())
    }
}
