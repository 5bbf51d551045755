//! Recomputes a database: every hash, chain, parent, blob and index, and compares with the marks outside of it.
//!
//! Reads one snapshot, so a store can be verified while it is written to. Never writes.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::ControlFlow;

use super::attested;
use super::database::{Database, DatabaseError};
use super::findings::{self, Findings};
use super::marks::{MARKS_FILE, Marks};
use super::proved;
use super::rows::{self, Log, LogLine, Place, Space};
use super::{casts, durable_copies};
use crate::domain::ids::{EntryId, LoomId};
use crate::domain::loom::{Head, Sealed, SignedHead};

/// Checks one loom, or all and the store itself. The marks must have been read before the snapshot was taken, and
/// `synced` before the marks.
pub(super) fn run(view: &Database, marks: Option<&Marks>, synced: u64, loom: Option<LoomId>, findings: &mut Findings) {
    check_marks(view, marks, synced, findings);
    let logs = match logs(view, marks, loom) {
        Ok(logs) => logs,
        Err(error) => return findings.store(unreadable("the list of logs", &error)),
    };
    let mut expected = Indexes::default();
    match durable_copies::proofs(view) {
        Ok(proofs) => {
            proofs.iter().filter(|proof| loom.is_none_or(|loom| loom == proof.loom)).for_each(|it| {
                let next = attested::successors(view, it.loom, it.writer).unwrap_or_default();
                findings.divided(it, &next);
            });
        }
        Err(error) => findings.store(format!("reading the proofs failed: {error}")),
    }
    for log in &logs {
        findings.count_loom(log.loom);
        let known = HashSet::new();
        let has_loose = logs.contains(&Log::received(log.loom));
        Walk { view, findings, log: *log, line: None, expected: &mut expected, known, has_loose }.run(marks);
        if log.is_received() {
            check_casts(view, log.loom, findings);
        }
    }
    for loom in logs.iter().map(|log| log.loom).collect::<BTreeSet<_>>() {
        attested::verify(view, loom, findings);
        proved::verify(view, loom, findings);
    }
    match indexes(view, loom, findings) {
        Ok(found) if found == expected => {}
        Ok(_) => {
            for log in logs {
                name_missing_rows(view, log, findings);
            }
            for space in INDEXES {
                name_wrong_rows(view, space, loom, findings);
            }
        }
        Err(error) => findings.store(unreadable("the indexes", &error)),
    }
    if loom.is_none()
        && let Err(error) = check_blobs(view, findings)
    {
        findings.store(unreadable("blobs", &error));
    }
}

/// What came by casts, against the heads that came with it.
fn check_casts(view: &Database, loom: LoomId, findings: &mut Findings) {
    let log = Log::received(loom);
    let (end, newest) = match (view.head(log), view.cast_heads(loom)) {
        (Ok(head), Ok(newest)) => (head.sequence, newest),
        (Err(error), _) | (_, Err(error)) => return findings.loom(loom, unreadable("the cast heads", &error)),
    };
    let next = |after: u64| {
        let Some((to, heads)) = view.covered(loom, after, 1)?.pop() else { return Ok(None) };
        let many = usize::try_from(to.saturating_sub(after)).unwrap_or(usize::MAX);
        let entries = view.entries_after(log, after, many)?;
        Ok(Some((to, entries.into_iter().map(|(_, sealed)| sealed).collect(), heads)))
    };
    casts::check(loom, end, &newest, next, findings);
}

/// The spaces that only say in another order what the entries say.
const INDEXES: [Space; 3] = [Space::Ids, Space::Children, Space::Entities];

/// What the indexes hold, as sums over their rows: two equal sums are two equal sets of rows, whatever the order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Indexes {
    rows: [u64; INDEXES.len()],
    sums: [u128; INDEXES.len()],
}

impl Indexes {
    fn add(&mut self, space: Space, key: &[u8], value: &[u8]) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(key.len() as u64).to_be_bytes()).update(key).update(value);
        let hash = hasher.finalize();
        let hash = hash.as_bytes().first_chunk::<16>().copied().unwrap_or_default();
        for ((rows, sum), own) in self.rows.iter_mut().zip(&mut self.sums).zip(INDEXES) {
            if own == space {
                *rows = rows.wrapping_add(1);
                *sum = sum.wrapping_add(u128::from_be_bytes(hash));
            }
        }
    }
}

/// The rows that the indexes must have for an entry.
fn index_rows(place: Place, sealed: &Sealed) -> Vec<(Space, Vec<u8>, Vec<u8>)> {
    let digest = sealed.id.digest();
    let mut rows = vec![(Space::Ids, digest.to_vec(), place.to_bytes())];
    if let Some(entity) = sealed.entry.entity {
        rows.push((Space::Entities, place.under_entity(entity), digest.to_vec()));
    }
    if let Some(parent) = &sealed.entry.parent {
        rows.push((Space::Children, place.under_parent(parent), digest.to_vec()));
    }
    rows
}

/// Which entry a row of an index is about.
fn subject(space: Space, key: &[u8], value: &[u8]) -> Option<(Place, EntryId)> {
    match space {
        Space::Ids => Place::parse(value).zip(rows::digest(key)),
        Space::Children => rows::split_indexed::<32>(key).map(|(_, place)| place).zip(rows::digest(value)),
        Space::Entities => {
            rows::split_indexed::<{ rows::ENTITY_BYTES }>(key).map(|(_, place)| place).zip(rows::digest(value))
        }
        Space::Meta | Space::Entries | Space::Heads | Space::Blobs => None,
    }
}

/// What the indexes hold of one loom, or of all.
fn indexes(view: &Database, loom: Option<LoomId>, findings: &mut Findings) -> Result<Indexes, DatabaseError> {
    let mut found = Indexes::default();
    for space in INDEXES {
        view.each(space, &[], |key, value| {
            match subject(space, key, value) {
                None => findings.store(format!("a row of `{}` is unreadable", space.name())),
                Some((place, _)) if loom.is_some_and(|loom| loom != place.log.loom) => {}
                Some(_) => found.add(space, key, value),
            }
            Ok(ControlFlow::<()>::Continue(()))
        })?;
    }
    Ok(found)
}

fn unreadable(what: &str, error: &DatabaseError) -> String {
    format!("reading {what} failed: {error}")
}

fn check_marks(view: &Database, marks: Option<&Marks>, synced: u64, findings: &mut Findings) {
    let Some(marks) = marks else {
        return findings.store(format!("the file `{MARKS_FILE}` is missing: nothing vouches for the newest entries"));
    };
    if let Some(what) = marks.damage(synced) {
        findings.store(what);
    }
    match view.commit_row() {
        Ok(commit) if commit.number < marks.commit => findings.store(format!(
            "commit {} was acknowledged, and the database is at commit {}",
            marks.commit, commit.number
        )),
        Ok(_) => {}
        Err(error) => findings.store(unreadable("the commit number", &error)),
    }
}

/// The logs that anything knows of.
fn logs(view: &Database, marks: Option<&Marks>, loom: Option<LoomId>) -> Result<BTreeSet<Log>, DatabaseError> {
    let prefix = loom.map(|loom| loom.as_bytes().to_vec()).unwrap_or_default();
    let mut logs: BTreeSet<Log> = view.lines(&prefix)?.into_iter().map(|(log, _)| log).collect();
    let marked = marks.iter().flat_map(|marks| marks.by_log.keys()).copied();
    logs.extend(marked.filter(|log| loom.is_none_or(|loom| loom == log.loom)));
    let mut from = prefix.clone();
    while let Some(key) = view.first_from(Space::Entries, &from)? {
        let Some(log) = key.get(..Log::BYTES).and_then(Log::parse).filter(|_| key.starts_with(&prefix)) else { break };
        logs.insert(log);
        from = [log.to_bytes().as_slice(), &[u8::MAX; 9]].concat();
    }
    Ok(logs)
}

/// So many ids of a log are remembered while it is read.
const IDS_KEPT: usize = 65_536;

/// Goes through one log.
struct Walk<'a> {
    view: &'a Database,
    findings: &'a mut Findings,
    log: Log,
    /// What its line should be.
    line: Option<LogLine>,
    /// What the indexes should hold.
    expected: &'a mut Indexes,
    /// Ids of this log that were read before: most parents are among them.
    known: HashSet<[u8; 32]>,
    /// Whether entries of this loom came outside of their writers' logs.
    has_loose: bool,
}

impl Walk<'_> {
    fn run(&mut self, marks: Option<&Marks>) {
        let mark = marks.and_then(|marks| marks.by_log.get(&self.log)).map(|mark| mark.head);
        let line = match self.view.line(self.log) {
            Ok(line) => line,
            Err(error) => {
                self.findings.loom(self.log.loom, unreadable("the head", &error));
                None
            }
        };
        let stored = line.map(|line| line.head).unwrap_or_default();
        let of = stored.sequence.max(mark.unwrap_or_default().sequence);
        let mut head = Head::default();
        let view = self.view;
        let signed = match view.signed_from(self.log, 0, usize::MAX) {
            Ok(signed) => signed,
            Err(error) => {
                self.findings.loom(self.log.loom, unreadable("the signed heads", &error));
                Vec::new()
            }
        };
        let mut chains: BTreeMap<u64, [u8; 32]> = BTreeMap::new();
        let mut awaited = signed.iter().map(|signed| signed.head.sequence).peekable();
        let walked = view.each(Space::Entries, &self.log.to_bytes(), |key, value| {
            let Some(place) = Place::parse(key) else {
                self.findings.loom(self.log.loom, "a key of `entries` is unreadable");
                return Ok(ControlFlow::<()>::Continue(()));
            };
            let expected = head.sequence.saturating_add(1);
            if place.sequence > expected {
                self.findings.missing(self.log, expected, place.sequence.saturating_sub(1), of);
            }
            self.entry(place, value, &mut head);
            self.compare(&head, mark, "the mark outside the journal");
            self.compare(&head, Some(stored), "the stored head");
            if awaited.next_if(|&sequence| sequence <= head.sequence).is_some() {
                chains.insert(head.sequence, head.chain);
            }
            Ok(ControlFlow::Continue(()))
        });
        if let Err(error) = walked {
            let place = self.log.at(head.sequence.saturating_add(1));
            self.findings.place(place, None, unreadable("the log from here on", &error));
            return;
        }
        self.signatures(&chains, &signed);
        if head.sequence < of {
            self.findings.missing(self.log, head.sequence.saturating_add(1), of, of);
        }
        if let Some((line, own)) = line.zip(self.line).filter(|(line, own)| line.head == own.head && line != own) {
            let what = format!("its line says {line:?}, and its entries say {own:?}");
            self.findings.loom(self.log.loom, what);
        }
        if stored.sequence < head.sequence {
            let what = format!("the stored head is {} and the log goes on", stored.sequence);
            self.findings.place(self.log.at(stored.sequence.saturating_add(1)), None, what);
        }
    }

    fn compare(&mut self, head: &Head, other: Option<Head>, name: &str) {
        if other.is_some_and(|other| other.sequence == head.sequence && other.chain != head.chain) {
            let place = self.log.at(head.sequence);
            self.findings.place(place, None, format!("{name} has another chain: an entry up to here was exchanged"));
        }
    }

    fn entry(&mut self, place: Place, value: &[u8], head: &mut Head) {
        let Some((id, bytes)) = rows::split_entry(value) else {
            head.sequence = place.sequence;
            return self.findings.place(place, None, "the row is cut short");
        };
        head.sequence = place.sequence.saturating_sub(1);
        *head = head.after(&id);
        self.findings.count_entry();
        let sealed = match Sealed::open(id, bytes.to_vec()) {
            Ok(sealed) => sealed,
            Err(error) => return self.findings.place(place, Some(id), super::committer::chain(&error)),
        };
        if let Some(what) = findings::misplaced(&sealed, place) {
            self.findings.place(place, Some(id), what);
        }
        if let Err(unminted) = sealed.entry.check_minted() {
            self.findings.place(place, Some(id), unminted.to_string());
        }
        self.line = Some(LogLine::after(self.line, &sealed, *head));
        if !(self.has_loose && is_indexed_elsewhere(self.view, place, id)) {
            for (space, key, value) in index_rows(place, &sealed) {
                self.expected.add(space, &key, &value);
            }
        }
        if let Err(error) = self.neighbours(place, &sealed) {
            self.findings.place(place, Some(id), unreadable("what belongs to it", &error));
        }
    }

    /// The writer's signatures of this log.
    fn signatures(&mut self, chains: &BTreeMap<u64, [u8; 32]>, signed: &[SignedHead]) {
        for signed in signed {
            let place = self.log.at(signed.head.sequence);
            if chains.get(&signed.head.sequence) != Some(&signed.head.chain) {
                self.findings.place(place, None, "the log is not what its writer has signed up to here");
            } else if !signed.is_signed() {
                self.findings.place(place, None, format!("the head is not signed by {}", signed.writer));
            }
        }
    }

    /// Its parent and its blobs.
    fn neighbours(&mut self, place: Place, sealed: &Sealed) -> Result<(), DatabaseError> {
        let id = sealed.id;
        if let Some(parent) = sealed.entry.parent.as_ref().filter(|parent| !self.known.contains(&parent.digest())) {
            self.parent(place, sealed, parent)?;
        }
        if self.known.len() > IDS_KEPT {
            self.known.clear();
        }
        self.known.insert(id.digest());
        for (digest, link) in findings::blob_links(&sealed.bytes) {
            if !self.findings.meet_blob(digest) {
                continue;
            }
            match self.view.get(Space::Blobs, &digest)? {
                None => self.findings.place(place, Some(id), format!("the text {link} it refers to is missing")),
                Some(bytes) if *blake3::hash(&bytes).as_bytes() != digest => {
                    self.findings.place(place, Some(id), format!("the text {link} it refers to is damaged"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn parent(&mut self, place: Place, sealed: &Sealed, parent: &EntryId) -> Result<(), DatabaseError> {
        let found = self.view.get(Space::Ids, &parent.digest())?;
        let what = match found.map(|row| Place::parse(&row)) {
            None if findings::may_follow_what_is_elsewhere(&sealed.entry.body) => return Ok(()),
            None => format!("its parent {parent} is missing"),
            Some(None) => format!("the place of its parent {parent} is unreadable"),
            Some(Some(at)) if at.log.loom != place.log.loom && !findings::may_cross_looms(&sealed.entry.body) => {
                format!("its parent {parent} belongs to loom {}", at.log.loom)
            }
            Some(Some(at)) if at.log == place.log && at.sequence >= place.sequence => {
                format!("its parent {parent} comes after it")
            }
            Some(Some(_)) => return Ok(()),
        };
        self.findings.place(place, Some(sealed.id), what);
        Ok(())
    }
}

/// What came outside of its writer's log and then in it is there twice, and indexed once.
fn is_indexed_elsewhere(view: &Database, place: Place, id: EntryId) -> bool {
    let Ok(Some(row)) = view.get(Space::Ids, &id.digest()) else { return false };
    let Some(other) = Place::parse(&row).filter(|other| *other != place) else { return false };
    let same = view.get(Space::Entries, &other.to_bytes());
    same.is_ok_and(|row| row.as_deref().and_then(rows::split_entry).is_some_and(|(found, _)| found == id))
}

/// Names the entries of a log that an index does not lead to.
fn name_missing_rows(view: &Database, log: Log, findings: &mut Findings) {
    let walked = view.each(Space::Entries, &log.to_bytes(), |key, value| {
        // What does not parse has been reported by the walk.
        let Some((place, (id, bytes))) = Place::parse(key).zip(rows::split_entry(value)) else {
            return Ok(ControlFlow::<()>::Continue(()));
        };
        let Ok(sealed) = Sealed::open(id, bytes.to_vec()) else { return Ok(ControlFlow::Continue(())) };
        if is_indexed_elsewhere(view, place, id) {
            return Ok(ControlFlow::Continue(()));
        }
        for (space, key, value) in index_rows(place, &sealed) {
            if view.get(space, &key)?.is_none_or(|row| *row != *value) {
                findings.place(place, Some(id), format!("the index `{}` does not lead to it", space.name()));
            }
        }
        Ok(ControlFlow::Continue(()))
    });
    if let Err(error) = walked {
        findings.loom(log.loom, unreadable("the indexes of its entries", &error));
    }
}

/// Names the rows of an index that lead to nothing, or to an entry that does not belong there.
fn name_wrong_rows(view: &Database, space: Space, loom: Option<LoomId>, findings: &mut Findings) {
    let walked = view.each(space, &[], |key, value| {
        let subject = subject(space, key, value).filter(|(place, _)| loom.is_none_or(|loom| loom == place.log.loom));
        let Some((place, id)) = subject else { return Ok(ControlFlow::<()>::Continue(())) };
        let row = view.get(Space::Entries, &place.to_bytes())?;
        let what = match row.as_deref().and_then(rows::split_entry).filter(|(found, _)| *found == id) {
            None => "leads to an entry that is not there",
            // An entry that is no entry has been reported by the walk.
            Some((_, bytes)) if Sealed::open(id, bytes.to_vec()).is_ok_and(|sealed| !belongs(space, key, &sealed)) => {
                "puts it where it does not belong"
            }
            Some(_) => return Ok(ControlFlow::Continue(())),
        };
        findings.place(place, Some(id), format!("the index `{}` {what}", space.name()));
        Ok(ControlFlow::Continue(()))
    });
    if let Err(error) = walked {
        findings.store(unreadable(space.name(), &error));
    }
}

fn belongs(space: Space, key: &[u8], sealed: &Sealed) -> bool {
    match space {
        Space::Children => sealed.entry.parent.is_some_and(|parent| key.starts_with(&parent.digest())),
        Space::Entities => sealed.entry.entity.is_some_and(|entity| key.starts_with(entity.as_bytes())),
        Space::Meta | Space::Entries | Space::Ids | Space::Heads | Space::Blobs => true,
    }
}

/// Blobs that no entry refers to any more are none of ours to judge, but they have to be what they say.
fn check_blobs(view: &Database, findings: &mut Findings) -> Result<(), DatabaseError> {
    view.each(Space::Blobs, &[], |key, value| {
        let digest = <[u8; 32]>::try_from(key).ok();
        if digest.is_none_or(|digest| findings.meet_blob(digest)) && digest != Some(*blake3::hash(value).as_bytes()) {
            findings.store("a text that no entry refers to is damaged");
        }
        Ok(ControlFlow::<()>::Continue(()))
    })?;
    Ok(())
}

/// Which logs end before their marks, in words; the newest first.
pub(super) fn shortfall(view: &Database, marks: &Marks, marks_max: usize) -> Result<Vec<String>, DatabaseError> {
    let mut newest: Vec<_> = marks.by_log.values().collect();
    newest.sort_by_key(|mark| std::cmp::Reverse((mark.commit, mark.log)));
    let mut said = Vec::new();
    for mark in newest.into_iter().take(marks_max) {
        let head = view.head(mark.log)?;
        let (there, of) = (head.sequence, mark.head.sequence);
        if there < of {
            let what = findings::missing(there.saturating_add(1), of, of);
            said.push(format!("loom {}: {what}", mark.log.loom));
        } else if there == of && head.chain != mark.head.chain {
            said.push(format!("loom {}: its {of} entries are not those that were acknowledged", mark.log.loom));
        }
    }
    Ok(said)
}
