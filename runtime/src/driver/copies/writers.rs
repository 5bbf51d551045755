//! Whose logs are kept: the founder's, and those of whoever was admitted for the whole loom. Keeping is no right in it.
//!
//! What a host writes of a cast it was admitted for is with its caller. A writer that nobody has admitted as far as is known here is
//! answered `later`: once word of an admission has come, the other side is asked again.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::Copies;
use super::session::Session;
use crate::domain::ids::{LoomId, WriterKey};
use crate::domain::loom::{Body, CheckedSegment, Sealed, Segment};
use crate::domain::members::{Attestation, Batch, Principal, Reader, relied_on};
use crate::ports::StoreError;

/// Whether an entry may change who is known to be a member.
fn is_membership(sealed: &Sealed) -> bool {
    matches!(sealed.entry.body, Body::Founded { .. } | Body::Admitted(_))
}

/// Whether a segment begins with the entry that founds its loom, by whoever has made the loom's id.
fn founds(segment: &Segment) -> bool {
    let first = segment.entries.first().filter(|_| segment.from.sequence == 0);
    first.and_then(|bytes| Sealed::read(bytes.clone()).ok()).is_some_and(|first| {
        let entry = &first.entry;
        matches!(entry.body, Body::Founded { .. })
            && (entry.loom, entry.writer) == (segment.signed.loom, segment.signed.writer)
            && entry.check_minted().is_ok()
    })
}

impl Copies {
    /// What is here of a loom, wherever it is kept.
    pub(super) fn batch(&self, loom: LoomId) -> Result<Batch, StoreError> {
        let (keeper, _) = self.keeper(loom);
        let disk = self.disk.batch(loom)?;
        if Arc::ptr_eq(keeper, &self.disk) { Ok(disk) } else { Ok(disk.joined_with(keeper.batch(loom)?)) }
    }

    /// There may be other members of a loom.
    pub(in crate::driver) fn members_changed(&self, loom: LoomId) {
        let mut state = self.lock();
        let count = state.members_at.entry(loom).or_default();
        *count = count.saturating_add(1);
        state.principals.remove(&loom);
        state.hosts.remove(&loom);
        drop(state);
        self.grown(loom);
    }

    pub(super) fn members_at(&self, loom: LoomId) -> u64 {
        self.lock().members_at.get(&loom).copied().unwrap_or_default()
    }

    /// The founder, and whoever was ever admitted to the whole loom: what was written before an expulsion stays.
    fn principals(&self, loom: LoomId) -> Result<Arc<BTreeSet<Principal>>, StoreError> {
        if let Some(known) = self.lock().principals.get(&loom) {
            return Ok(Arc::clone(known));
        }
        let at = self.members_at(loom);
        let principals: Arc<BTreeSet<Principal>> = {
            let fences_at = self.fences_at(loom);
            let batch = self.batch(loom)?;
            let reader = Reader::of(&batch);
            self.note_fences(loom, &reader, fences_at)?;
            Arc::new(reader.loom_members())
        };
        let mut state = self.lock();
        if state.members_at.get(&loom).copied().unwrap_or_default() == at {
            state.principals.insert(loom, Arc::clone(&principals));
        }
        Ok(principals)
    }

    /// Whether a writer's log is kept here. `waiting` is what came to vouch for keys and is not kept yet.
    fn keeps_log_of(&self, segment: &Segment, waiting: &[Attestation]) -> Result<bool, StoreError> {
        let (loom, writer) = (segment.signed.loom, segment.signed.writer);
        if founds(segment) || writer == self.disk.writer() || self.disk.formerly()?.contains(&writer) {
            return Ok(true);
        }
        self.is_member(loom, writer, waiting)
    }

    /// Whether a writer is the founder, or a member of the whole loom.
    pub(super) fn is_member(
        &self,
        loom: LoomId,
        writer: WriterKey,
        waiting: &[Attestation],
    ) -> Result<bool, StoreError> {
        let principals = self.principals(loom)?;
        let of_key = |key: WriterKey| -> Result<Vec<Attestation>, StoreError> {
            let mut all = self.attestations_of(loom, key)?;
            all.extend(waiting.iter().filter(|it| it.key() == key).cloned());
            Ok(all)
        };
        let keys = relied_on(writer, |key| {
            let older = of_key(key)?.into_iter().filter(|it| match it {
                Attestation::Succession(succession) => succession.check().is_ok(),
                Attestation::Member(_) => false,
            });
            Ok::<_, StoreError>(older.filter_map(|it| it.predecessor()).collect())
        })?;
        for key in keys {
            if principals.contains(&Principal::Key(key)) {
                return Ok(true);
            }
            for attestation in of_key(key)? {
                let Ok(vouched) = self.disk.checked(&[attestation]) else { continue };
                if vouched.records.iter().any(|it| principals.contains(&Principal::Node(it.node().clone()))) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Whether that was asked before, and is so.
    fn is_kept(&self, loom: LoomId, writer: WriterKey) -> bool {
        self.lock().writers_kept.get(&loom).is_some_and(|kept| kept.contains(&writer))
    }

    fn keeps_from_now_on(&self, loom: LoomId, writer: WriterKey) {
        self.lock().writers_kept.entry(loom).or_default().insert(writer);
    }
}

/// What one conversation knows of writers that nobody has admitted yet.
#[derive(Debug, Default)]
pub(super) struct Later {
    /// The looms in which something was put off, and as of which change of their members.
    looms: std::collections::HashMap<LoomId, u64>,
    /// The looms of which something was taken that may change who is a member, and is not on disk yet.
    changing: HashSet<LoomId>,
}

impl Later {
    /// Something of a loom was put off, by what was known of its members.
    pub(super) fn puts_off(&mut self, loom: LoomId, as_of: u64) {
        self.looms.insert(loom, as_of);
    }

    /// Notes whether entries may change who is a member.
    pub(super) fn may_change(&mut self, loom: LoomId, entries: &[Sealed]) {
        if entries.iter().any(is_membership) {
            self.changing.insert(loom);
        }
    }
}

impl Session {
    /// Whether a segment is kept here; else the other side is told that it may be later.
    pub(super) fn keeps(&mut self, segment: &Segment) -> Result<bool, StoreError> {
        let (loom, writer) = (segment.signed.loom, segment.signed.writer);
        if self.copies.is_kept(loom, writer) {
            return Ok(true);
        }
        let as_of = self.copies.members_at(loom);
        let waiting = self.attesting.waiting_in(loom);
        if !self.copies.keeps_log_of(segment, &waiting)? {
            self.later.looms.insert(loom, as_of);
            return Ok(false);
        }
        self.copies.keeps_from_now_on(loom, writer);
        Ok(true)
    }

    /// Notes whether what is taken may change who is a member.
    pub(super) fn may_change_members(&mut self, segment: &CheckedSegment) {
        if segment.entries().iter().any(is_membership) {
            self.later.changing.insert(segment.signed().loom);
        }
    }

    /// What was taken of a loom is on disk.
    pub(super) fn members_kept(&mut self, loom: LoomId) {
        if self.later.changing.remove(&loom) {
            self.copies.members_changed(loom);
        }
    }

    /// The looms in which there may be other members than when something was put off: the other side is asked for that again.
    pub(super) fn due_again(&mut self) -> Vec<LoomId> {
        let copies = Arc::clone(&self.copies);
        let due = self.later.looms.iter().filter(|(loom, as_of)| copies.members_at(**loom) > **as_of);
        let due: Vec<LoomId> = due.map(|(loom, _)| *loom).collect();
        self.later.looms.retain(|loom, _| !due.contains(loom));
        due
    }
}
