//! By which admission this node may write into a loom: looked for once, and again when something has come that may decide otherwise. So an
//! episode of a member costs the same however long the loom is.

use std::sync::{Mutex, PoisonError};

use crate::domain::ids::{EntryId, LoomId, WriterKey};
use crate::domain::members::{Deed, Reader};
use crate::ports::{LoomStore, StoreError};

use super::fault::Fault;
use super::members::permission;

/// What decides, as far as it is here. What came by casts is left out: a host has no say over whom it works for.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    own: WriterKey,
    others: Vec<(WriterKey, u64, [u8; 32])>,
    proofs: usize,
    attestations: usize,
}

/// The permission to write into one loom.
#[derive(Debug, Default)]
pub(super) struct Permit(Mutex<Option<(Seen, Option<EntryId>)>>);

impl Permit {
    /// The admission that an entry of this node has to name; nothing for the founder.
    ///
    /// # Errors
    /// Why it may not write, or a record that cannot be read.
    pub(super) fn ask(&self, store: &dyn LoomStore, loom: LoomId) -> Result<Option<EntryId>, Fault> {
        let seen = seen(store, loom)?;
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, relies)) = held.as_ref().filter(|(before, _)| *before == seen) {
            return Ok(*relies);
        }
        *held = None;
        let batch = store.batch(loom)?;
        let relies = permission(&Reader::of(&batch), store.writer(), loom, Deed::Write)?;
        *held = Some((seen, relies));
        Ok(relies)
    }

    /// Is told that this node has written something itself that may decide otherwise.
    pub(super) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn seen(store: &dyn LoomStore, loom: LoomId) -> Result<Seen, StoreError> {
    let own = store.writer();
    let others = store.logs(loom)?.into_iter().filter(|log| log.writer != own);
    let others = others.map(|log| (log.writer, log.head.sequence, log.head.chain)).collect();
    let proofs = store.proofs()?.len();
    Ok(Seen { own, others, proofs, attestations: store.attestations(loom)?.len() })
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
        let target = Target::Key(kept.member.writer());
        kept.write(None, Body::Expelled(Box::new(Expelled { target, ends: Vec::new(), by: None, note: None })))?;
        assert!(kept.ask(&permit)?.is_err());
        Ok(())
    }
}
