//! What may be recorded of what a host sends: the entries of one cast, each behind what it follows, and nothing that would make the
//! loom here unreadable. A host is not trusted: it writes in its own name, about its own entities, and about nothing else.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use crate::domain::ids::{EntityId, EntryId};
use crate::domain::limits::RECEIVED_BYTES_MAX;
use crate::domain::loom::{Body, Sealed};
use crate::ports::HomeError;

use super::fault::Fault;
use super::recorder::Loom;

/// Takes the entries of one cast.
#[derive(Debug)]
pub(super) struct Intake {
    loom: Loom,
    /// The entity, and what it follows here; nothing for a root.
    root: (EntityId, Option<EntryId>),
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The entity and everybody below it, as far as they have been opened.
    family: BTreeSet<EntityId>,
    /// Those of them that have spoken: what belongs to a turn needs one.
    spoken: BTreeSet<EntityId>,
    ids: HashSet<EntryId>,
    bytes: u64,
}

impl Intake {
    /// For a cast of this entity, with what is recorded of it already.
    pub(super) fn new(loom: Loom, root: (EntityId, Option<EntryId>)) -> Result<Self, Fault> {
        let mut state = State::default();
        for sealed in loom.store().entries(loom.id())? {
            state.note(&sealed, root.0);
        }
        Ok(Self { loom, root, state: Mutex::new(state) })
    }

    /// For a cast whose entity is new: nothing of it can be recorded yet.
    pub(super) fn of_new(loom: Loom, root: (EntityId, Option<EntryId>)) -> Self {
        Self { loom, root, state: Mutex::default() }
    }

    /// Checks an entry and hands it to the record.
    pub(super) fn take(&self, sealed: Sealed) -> Result<(), HomeError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.ids.contains(&sealed.id) {
            return Ok(());
        }
        if self.loom.store().entry(sealed.id)?.is_some() {
            // This node's own writing comes back from where it has worked for others.
            state.note(&sealed, self.root.0);
            return Ok(());
        }
        if let Some(what) = self.refusal(&state, &sealed)? {
            return Err(HomeError::Refused(format!("entry {}: {what}", sealed.id)));
        }
        let size = sealed.blobs.iter().fold(sealed.bytes.len(), |sum, blob| sum.saturating_add(blob.bytes.len()));
        state.bytes = state.bytes.saturating_add(u64::try_from(size).unwrap_or(u64::MAX));
        if state.bytes > RECEIVED_BYTES_MAX {
            return Err(HomeError::Refused(format!("the cast has recorded more than {RECEIVED_BYTES_MAX} bytes")));
        }
        state.note(&sealed, self.root.0);
        self.loom.receive(sealed)?;
        Ok(())
    }

    fn refusal(&self, state: &State, sealed: &Sealed) -> Result<Option<String>, HomeError> {
        let (entry, store) = (&sealed.entry, self.loom.store());
        if entry.loom != self.loom.id() {
            return Ok(Some(format!("it is of loom {}, and this cast is recorded in {}", entry.loom, self.loom.id())));
        }
        if let Err(unminted) = entry.check_minted() {
            return Ok(Some(unminted.to_string()));
        }
        // The pages of a memory are no text; whatever else is kept beside an entry is.
        let is_text = !matches!(entry.body, Body::Snapshot { .. });
        if is_text && sealed.blobs.iter().any(|blob| std::str::from_utf8(&blob.bytes).is_err()) {
            return Ok(Some("a text of it is not UTF-8".to_owned()));
        }
        let follows =
            |parent: &EntryId| Ok::<_, HomeError>(state.ids.contains(parent) || store.entry(*parent)?.is_some());
        // What the entity itself follows is with whoever cast it: a node that passes the cast on need not have it.
        let is_its_root = entry.entity == Some(self.root.0) && entry.parent == self.root.1;
        if let Some(parent) = &entry.parent
            && !(is_its_root && matches!(entry.body, Body::Opened(_)))
            && !follows(parent)?
        {
            return Ok(Some(format!("it follows {parent}, which has not come")));
        }
        let Some(entity) = entry.entity else {
            return Ok(Some(format!("a `{}` is of no entity, and a cast is", entry.body.kind())));
        };
        if let Body::Opened(opened) = &entry.body {
            let is_root = entity == self.root.0 && (opened.fork.is_some() || entry.parent == self.root.1);
            let is_below = opened.spawned_by.is_some_and(|parent| state.family.contains(&parent));
            // Whoever is known here already is somebody else, or opened twice.
            let is_taken = state.family.contains(&entity) || store.loom_of(entity)?.is_some();
            return Ok(match (is_root || is_below, is_taken) {
                (true, false) => None,
                (true, true) => Some(format!("it opens {entity}, which is open already")),
                (false, _) => Some(format!("it opens {entity}, which nobody of this cast has spawned")),
            });
        }
        if !state.family.contains(&entity) {
            return Ok(Some(format!("it is of {entity}, which does not belong to this cast")));
        }
        let is_of_a_turn = matches!(
            entry.body,
            Body::GateCalled { .. } | Body::GateReturned { .. } | Body::Delegated { .. } | Body::Observation(_)
        );
        if (is_of_a_turn && !state.spoken.contains(&entity)) || entry.parent.is_none() {
            return Ok(Some(format!("a `{}` that belongs to no turn", entry.body.kind())));
        }
        Ok(None)
    }
}

impl State {
    fn note(&mut self, sealed: &Sealed, root: EntityId) {
        let Some(entity) = sealed.entry.entity else { return };
        if let Body::Opened(opened) = &sealed.entry.body
            && (entity == root || opened.spawned_by.is_some_and(|parent| self.family.contains(&parent)))
        {
            self.family.insert(entity);
        }
        if !self.family.contains(&entity) {
            return;
        }
        if matches!(sealed.entry.body, Body::Utterance(_)) {
            self.spoken.insert(entity);
        }
        self.ids.insert(sealed.id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cantrip_gates::Wards;

    use super::*;
    use crate::adapters::clock::SystemClock;
    use crate::adapters::store::MemoryStore;
    use crate::domain::cantrip::{Folding, Identity};
    use crate::domain::ids::{CastId, LoomId, WriterKey};
    use crate::domain::loom::{Entry, Minted, Opened, Payload};
    use crate::domain::members::Nonce;
    use crate::driver::recorder::Looms;
    use crate::ports::{Clock, LoomStore};

    const MINTED: Minted = Minted { by: WriterKey::from_bytes([9; 32]), nonce: Nonce::from_bytes([9; 16]) };

    fn opened(loom: LoomId, entity: EntityId) -> Sealed {
        let opened = Opened {
            identity: Identity::default(),
            medium: "conversation".to_owned(),
            medium_digest: None,
            gates: Vec::new(),
            wards: Wards::default(),
            folding: Folding::default(),
            model: "m".to_owned(),
            guest: None,
            intent: Payload::Inline("go".to_owned()),
            node: "b".to_owned(),
            depth: 0,
            cast: CastId::from_parts(3, [3; 10]),
            trace: None,
            spawned_by: None,
            fork: None,
            minted: Some(MINTED),
            ..Opened::default()
        };
        let (writer, body) = (WriterKey::from_bytes([9; 32]), Body::Opened(Box::new(opened)));
        let entry = Entry::new(loom, (writer, 1), 1, entity, None, body);
        Sealed::new(entry, Vec::new()).unwrap()
    }

    #[test]
    fn a_host_cannot_send_without_end() {
        let store: Arc<dyn LoomStore> = MemoryStore::new(WriterKey::from_bytes([1; 32]));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let (id, entity) = (LoomId::from_parts(1, [1; 16]), EntityId::mint(1, &MINTED.by, &MINTED.nonce));
        let loom = Looms::default().open(id, None, &store, &clock, None).unwrap();
        let intake = Intake::of_new(loom, (entity, None));
        intake.state.lock().unwrap().bytes = RECEIVED_BYTES_MAX;
        let refused = intake.take(opened(id, entity)).unwrap_err().to_string();
        assert!(refused.contains("more than 268435456 bytes"), "{refused}");
        intake.state.lock().unwrap().bytes = 0;
        intake.take(opened(id, entity)).unwrap();
    }

    #[test]
    fn a_host_cannot_open_an_entity_whose_id_nobody_has_minted() {
        let store: Arc<dyn LoomStore> = MemoryStore::new(WriterKey::from_bytes([1; 32]));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let (id, ground) = (LoomId::from_parts(1, [1; 16]), EntityId::from_parts(1, [0; 16]));
        let loom = Looms::default().open(id, None, &store, &clock, None).unwrap();
        let refused = Intake::of_new(loom, (ground, None)).take(opened(id, ground)).unwrap_err().to_string();
        assert!(refused.contains("whose id does not commit to"), "{refused}");
    }
}
