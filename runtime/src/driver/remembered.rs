//! What is read from all of a loom about who may do what in it: read once, and again when something has come that may decide otherwise. So
//! an episode of a member costs the same however long the loom is, and whoever writes into it meanwhile.

use std::sync::{Mutex, PoisonError};

use crate::domain::ids::{EntryId, LoomId, WriterKey};
use crate::domain::members::{Batch, Deed, Reader, changes_members};
use crate::ports::{By, LoomStore, StoreError};

use super::fault::Fault;
use super::members::permission;

/// 1 024 entries, as many as a segment has. So many of a log are looked through at once.
const ENTRIES_AT_ONCE: usize = 1_024;

/// What decides, as far as it is here. What came by casts is left out: a host has no say over whom it works for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    own: WriterKey,
    logs: Vec<(WriterKey, u64, [u8; 32])>,
    proofs: usize,
    attestations: usize,
}

impl Seen {
    fn of(store: &dyn LoomStore, loom: LoomId) -> Result<Self, StoreError> {
        let own = store.writer();
        let logs = store.logs(loom)?.into_iter().filter(|log| log.writer != own);
        let logs = logs.map(|log| (log.writer, log.head.sequence, log.head.chain)).collect();
        let proofs = store.proofs()?.len();
        Ok(Self { own, logs, proofs, attestations: store.attestations(loom)?.len() })
    }

    /// Whether everything decides as it did before, for all that came since: entries that are about no members.
    fn says_the_same(&self, before: &Self, store: &dyn LoomStore, loom: LoomId) -> Result<bool, StoreError> {
        let is_same = (self.own, self.proofs, self.attestations) == (before.own, before.proofs, before.attestations);
        if !is_same || self.logs.len() < before.logs.len() {
            return Ok(false);
        }
        for log in self.logs.iter().filter(|log| !before.logs.contains(log)) {
            let (writer, to, _) = *log;
            let held = before.logs.iter().find(|(key, ..)| *key == writer);
            let (mut after, chain) = held.map_or((0, None), |(_, sequence, chain)| (*sequence, Some(*chain)));
            // A log that is shorter, or another one, was put in its place.
            if to <= after && chain.is_some() {
                return Ok(false);
            }
            while after < to {
                let entries = store.recorded(loom, By::Log(writer), after, ENTRIES_AT_ONCE)?;
                let Some((last, _)) = entries.last() else { return Ok(false) };
                if entries.iter().any(|(_, sealed)| changes_members(sealed)) {
                    return Ok(false);
                }
                after = *last;
            }
        }
        Ok(true)
    }
}

/// Something about one loom.
#[derive(Debug)]
pub(super) struct Remembered<T>(Mutex<Option<(Seen, T)>>);

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Remembered<T> {
    /// What was read, or is read now.
    ///
    /// # Errors
    /// Whatever reading it gives, which is not remembered; or a record that cannot be read.
    pub(super) fn get(
        &self,
        store: &dyn LoomStore,
        loom: LoomId,
        read: impl FnOnce(&Reader<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.get_or_read(store, loom, read).map(|(known, _)| known)
    }

    /// The same, with the loom as it is recorded where all of it was read now: whoever needs that too reads it once.
    fn get_or_read(
        &self,
        store: &dyn LoomStore,
        loom: LoomId,
        read: impl FnOnce(&Reader<'_>) -> Result<T, Fault>,
    ) -> Result<(T, Option<Batch>), Fault> {
        let seen = Seen::of(store, loom)?;
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, known)) = held.as_mut() {
            if seen == *before {
                return Ok((known.clone(), None));
            }
            if seen.says_the_same(before, store, loom)? {
                *before = seen;
                return Ok((known.clone(), None));
            }
        }
        *held = None;
        let batch = store.batch(loom)?;
        let known = read(&Reader::of(&batch))?;
        *held = Some((seen, known.clone()));
        Ok((known, Some(batch)))
    }

    /// Is told that this node has written something itself that may decide otherwise.
    pub(super) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The admission that an entry of this node has to name; nothing for the founder.
pub(super) type Permit = Remembered<Option<EntryId>>;

impl Permit {
    /// By which admission this node may write into a loom.
    ///
    /// # Errors
    /// Why it may not write, or a record that cannot be read.
    pub(super) fn ask(&self, store: &dyn LoomStore, loom: LoomId) -> Result<Option<EntryId>, Fault> {
        self.get(store, loom, |reader| permission(reader, store.writer(), loom, Deed::Write))
    }

    /// All of a loom into which this node may write.
    ///
    /// # Errors
    /// Why it may not write, or a record that cannot be read.
    pub(super) fn ask_and_read(&self, store: &dyn LoomStore, loom: LoomId) -> Result<Batch, Fault> {
        let may = |reader: &Reader<'_>| permission(reader, store.writer(), loom, Deed::Write);
        let (_, read) = self.get_or_read(store, loom, may)?;
        Ok(read.map_or_else(|| store.batch(loom), Ok)?)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::sync::Arc;

    use super::*;
    use crate::adapters::store::{MemoryStore, NodeKey};
    use crate::domain::ids::EntityId;
    use crate::domain::loom::{Body, Entry, Payload, Sealed};
    use crate::domain::members::{Admitted, Expelled, Nonce, Principal, Right, Target};
    use crate::domain::steps;
    use crate::ports::CopyStore;

    type Tested = Result<(), Box<dyn Error>>;

    /// A founder's loom, as a member keeps it.
    struct Kept {
        id: LoomId,
        founder: Arc<MemoryStore>,
        member: Arc<MemoryStore>,
        written: u64,
    }

    impl Kept {
        fn new() -> Result<Self, Box<dyn Error>> {
            let founder = MemoryStore::with_key(NodeKey::from_secret(&[1; 32]));
            let member = MemoryStore::with_key(NodeKey::from_secret(&[2; 32]));
            let nonce = Nonce::from_bytes([1; 16]);
            let id = LoomId::mint(1, &founder.writer(), &nonce, None);
            let mut kept = Self { id, founder, member, written: 0 };
            kept.write(None, Body::Founded { nonce, member: None })?;
            Ok(kept)
        }

        fn write(&mut self, of: Option<EntityId>, body: Body) -> Result<EntryId, Box<dyn Error>> {
            self.written += 1;
            let place = (self.founder.writer(), self.written);
            let sealed = Sealed::new(Entry::new(self.id, place, self.written, of, None, body), Vec::new())?;
            let id = sealed.id;
            self.founder.append(sealed)?;
            Ok(id)
        }

        /// Has the member keep what is new, and asks.
        fn ask(&self, permit: &Permit) -> Result<Result<Option<EntryId>, Fault>, Box<dyn Error>> {
            let (founder, known) = (self.founder.writer(), self.member.logs(self.id)?);
            let known = known.iter().find(|log| log.writer == founder).map_or(0, |log| log.head.sequence);
            if let Some(segment) = self.founder.segment(self.id, founder, known)? {
                self.member.take(segment.check()?)?;
            }
            Ok(permit.ask(&*self.member, self.id))
        }
    }

    #[test]
    fn a_member_looks_for_its_admission_again_only_once_something_has_come() -> Tested {
        let (mut kept, permit) = (Kept::new()?, Permit::default());
        assert!(kept.ask(&permit)?.is_err());
        let (principal, rights) = (Principal::Key(kept.member.writer()), std::iter::once(Right::Write).collect());
        let admitted = Admitted { principal, rights, scope: None, again: Vec::new(), by: None, note: None };
        let admission = kept.write(None, Body::Admitted(Box::new(admitted)))?;
        for number in 0..100 {
            let text = Payload::Inline(String::new());
            kept.write(Some(EntityId::from_parts(number, [1; 16])), Body::intent(text, false, None))?;
        }
        assert_eq!(kept.ask(&permit)?.ok(), Some(Some(admission)));
        let again = steps::of(|| assert_eq!(permit.ask(&*kept.member, kept.id).ok(), Some(Some(admission))));
        assert_eq!(again, 0, "nothing is read");
        // What the founder does otherwise is looked through once, and the loom is not read for it.
        let text = Payload::Inline(String::new());
        kept.write(Some(EntityId::from_parts(1_000, [1; 16])), Body::intent(text, false, None))?;
        assert_eq!(kept.ask(&permit)?.ok(), Some(Some(admission)));
        let again = steps::of(|| assert_eq!(permit.ask(&*kept.member, kept.id).ok(), Some(Some(admission))));
        assert_eq!(again, 0, "nothing is read");
        let target = Target::Key(kept.member.writer());
        kept.write(None, Body::Expelled(Box::new(Expelled { target, ends: Vec::new(), by: None, note: None })))?;
        assert!(kept.ask(&permit)?.is_err());
        Ok(())
    }
}
