//! What may be recorded of what a host sends: the entries of one cast, each behind what it follows, and nothing that would make the
//! loom here unreadable. A host is not trusted: it writes in its own name, about its own entities, and about nothing else.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::ids::{EntityId, EntryId, LoomId};
use crate::domain::limits::{NEAR_UNCOVERED_BYTES_MAX, NEAR_UNCOVERED_ENTRIES_MAX, RECEIVED_BYTES_MAX};
use crate::domain::loom::{Blob, Body, CastFamily, CastHead, CastHeadError, CastStream, Head, Opened, Sealed};
use crate::domain::members::LogEnd;
use crate::domain::steps;
use crate::ports::{By, HomeError, LogState, LoomStore, StoreError};

use super::copies::Hearing;
use super::divided;
use super::fault::Fault;
use super::recorder::Loom;

/// 16 casts. So many are remembered of each loom that is written at the moment; what was read of another is read again.
const INTAKES_KEPT: usize = 16;
/// 64 steps, and 1 024 entries as a segment has: so much of a record is looked through at once.
const STEPS_READ: usize = 64;
const ENTRIES_READ: usize = 1_024;

/// Takes the entries of one cast.
#[derive(Debug)]
pub(super) struct Intake {
    loom: Loom,
    /// The entity, and what it follows here; nothing for a root.
    root: (EntityId, Option<EntryId>),
    state: Mutex<State>,
    /// As long as this node hears of the cast from its host, nobody else tells it of the loom's casts.
    _hearing: Option<Hearing>,
}

#[derive(Debug)]
struct State {
    /// What came and is under no head of its writer yet. Nothing of it is believed.
    waiting: Vec<Sealed>,
    waiting_bytes: usize,
    stream: CastStream,
    /// The entity, everybody below it, and whom they delegated to.
    kin: CastFamily,
    /// Those of them that belong to intents before the last.
    earlier: CastFamily,
    /// Those of them that have been opened.
    family: BTreeSet<EntityId>,
    /// Those of them that have spoken: what belongs to a turn needs one.
    spoken: BTreeSet<EntityId>,
    ids: HashSet<EntryId>,
    bytes: u64,
    /// Up to where this node's own log was read, once its part of the cast was; and what came from others.
    read_own: Option<u64>,
    read_received: u64,
    /// Everything that is noted is on its way to the record.
    is_sound: bool,
}

/// What was read of casts elsewhere: a further intent of one of them costs what has come since.
#[derive(Debug, Default)]
pub(super) struct Intakes(VecDeque<(EntityId, State)>);

impl Intakes {
    fn take(&mut self, root: EntityId) -> Option<State> {
        let at = self.0.iter().position(|(of, _)| *of == root)?;
        self.0.remove(at).map(|(_, state)| state)
    }

    fn keep(&mut self, root: EntityId, state: State) {
        drop(self.take(root));
        self.0.push_front((root, state));
        self.0.truncate(INTAKES_KEPT);
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        let state = std::mem::replace(&mut *self.lock(), State::of(&self.loom, self.root.0));
        // What was refused halfway is read again from what is kept.
        if state.is_sound && state.waiting.is_empty() {
            self.loom.intakes().keep(self.root.0, state);
        }
    }
}

impl Intake {
    /// For a cast of this entity, with what is recorded of it already.
    pub(super) fn new(loom: Loom, root: (EntityId, Option<EntryId>)) -> Result<Self, Fault> {
        let known = loom.intakes().take(root.0);
        let mut intake = Self::of_new(loom, root);
        let state = intake.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known {
            *state = known;
            state.bytes = 0;
            state.stream.connected();
        }
        state.go_on(intake.loom.store(), intake.loom.id(), root.0)?;
        Ok(intake)
    }

    /// For a cast whose entity is new: nothing of it can be recorded yet.
    pub(super) fn of_new(loom: Loom, root: (EntityId, Option<EntryId>)) -> Self {
        let state = State::of(&loom, root.0);
        let hearing = loom.hears();
        Self { loom, root, state: Mutex::new(state), _hearing: hearing }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection begins: what was under no head yet comes again.
    pub(super) fn connected(&self) {
        let mut state = self.lock();
        state.waiting.clear();
        state.waiting_bytes = 0;
        state.stream.connected();
    }

    /// The newest heads of the cast itself.
    pub(super) fn heads(&self) -> Vec<CastHead> {
        self.lock().stream.shown()
    }

    /// How far each writer of the cast has signed what belongs to its last intent, this node among them: of its own log only that it is
    /// on record here.
    pub(super) fn ends(&self) -> Result<Vec<LogEnd>, StoreError> {
        let (own, root) = (self.loom.store().writer(), self.root.0);
        let mut ends = {
            let state = self.lock();
            let is_of_it = |cast| cast == root || (state.kin.has(cast) && !state.earlier.has(cast));
            let mut ends = state.stream.ends();
            ends.retain(|end| end.cast.is_none_or(is_of_it));
            ends
        };
        if ends.iter().any(|end| end.writer == own) {
            let Head { sequence, chain } = self.loom.store().head(self.loom.id())?;
            ends.push(LogEnd { writer: own, sequence, chain, cast: None });
        }
        Ok(ends)
    }

    /// Whether something waits for a head.
    pub(super) fn is_uncovered(&self) -> bool {
        !self.lock().waiting.is_empty()
    }

    /// Keeps an entry until a head of its writer covers it.
    pub(super) fn take(&self, sealed: Sealed) -> Result<(), HomeError> {
        let mut state = self.lock();
        let (entries, bytes) = (state.waiting.len(), state.waiting_bytes);
        if entries >= NEAR_UNCOVERED_ENTRIES_MAX || bytes > NEAR_UNCOVERED_BYTES_MAX {
            return Err(HomeError::Refused(format!(
                "{entries} entries with {bytes} bytes came under no cast head, and at most {NEAR_UNCOVERED_ENTRIES_MAX} with \
                 {NEAR_UNCOVERED_BYTES_MAX} may wait for one"
            )));
        }
        state.waiting_bytes = bytes.saturating_add(size(&sealed));
        state.waiting.push(sealed);
        Ok(())
    }

    /// Checks what waits, and the heads over it, and hands it to the record.
    pub(super) fn cover(&self, heads: Vec<CastHead>) -> Result<(), HomeError> {
        let mut state = self.lock();
        let waiting = std::mem::take(&mut state.waiting);
        state.waiting_bytes = 0;
        state.is_sound = false;
        for sealed in &waiting {
            self.admit(&mut state, sealed)?;
        }
        match state.stream.check(waiting, heads) {
            Ok(batch) => self.loom.receive(batch)?,
            Err(error) => {
                self.contradicts(&state)?;
                return Err(broken(&error));
            }
        }
        state.is_sound = true;
        Ok(())
    }

    /// Says that nothing more comes.
    pub(super) fn finish(&self) -> Result<(), HomeError> {
        let state = self.lock();
        if let Some(first) = state.waiting.first() {
            return Err(broken(&CastHeadError::Uncovered { id: first.id, writer: first.entry.writer }));
        }
        if let Err(error) = state.stream.finish() {
            self.contradicts(&state)?;
            return Err(broken(&error));
        }
        self.is_as_logged(&state)
    }

    /// Something came that is not what was signed before: where its writer has signed that too, it is proved to everybody.
    fn contradicts(&self, state: &State) -> Result<(), StoreError> {
        for said in state.stream.said() {
            let kept = divided::kept(self.loom.store(), said.of())?;
            if let Some(proof) = kept.divides_from(&said) {
                self.loom.accuse(&proof)?;
            }
        }
        Ok(())
    }

    /// Looks whether what each writer has signed of the cast is what its log has, where that is here too.
    fn is_as_logged(&self, state: &State) -> Result<(), HomeError> {
        let (store, loom) = (self.loom.store(), self.loom.id());
        let logs = store.logs(loom)?;
        for head in state.stream.heads() {
            let reaches = |log: &LogState| log.writer == head.writer && log.head.sequence >= head.at.place;
            if head.writer == store.writer() || !logs.iter().any(reaches) {
                continue;
            }
            if divided::Followed::default().leads(store, &head)? {
                continue;
            }
            let history = divided::kept(store, (loom, head.writer, head.cast))?;
            if let Some(proof) = divided::against_log(store, (loom, head.writer), &history)? {
                self.loom.accuse(&proof)?;
                let (writer, place) = (head.writer, proof.place());
                return Err(broken(&CastHeadError::Contradiction { writer, place }));
            }
        }
        Ok(())
    }

    fn admit(&self, state: &mut State, sealed: &Sealed) -> Result<(), HomeError> {
        if state.ids.contains(&sealed.id) {
            return Ok(());
        }
        let store = self.loom.store();
        if store.entry(sealed.id)?.is_some() {
            // This node's own writing comes back from where it has worked for others, or a copy of the log was faster.
            state.note(sealed, self.root.0);
            return Ok(());
        }
        let refused = if sealed.entry.writer == store.writer() {
            Some("it says that this node has written it, whose record does not have it".to_owned())
        } else {
            self.refusal(state, sealed)?
        };
        if let Some(what) = refused {
            return Err(HomeError::Refused(format!("entry {}: {what}", sealed.id)));
        }
        state.bytes = state.bytes.saturating_add(u64::try_from(size(sealed)).unwrap_or(u64::MAX));
        if state.bytes > RECEIVED_BYTES_MAX {
            return Err(HomeError::Refused(format!("the cast has recorded more than {RECEIVED_BYTES_MAX} bytes")));
        }
        state.note(sealed, self.root.0);
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
        if let Body::Unknown(unknown) = &entry.body {
            return Ok(Some(format!("a `{}` is of a kind that this version does not know", unknown.kind)));
        }
        let is_no_text = |blob: &Blob| entry.body.is_text(&blob.id) && std::str::from_utf8(&blob.bytes).is_err();
        if sealed.blobs.iter().any(is_no_text) {
            return Ok(Some("a text of it is not UTF-8".to_owned()));
        }
        let follows =
            |parent: &EntryId| Ok::<_, HomeError>(state.ids.contains(parent) || store.entry(*parent)?.is_some());
        // What the entity itself follows is with whoever cast it: a node that passes the cast on need not have it.
        let is_its_root = entry.entity == Some(self.root.0) && entry.parent == self.root.1;
        // What a node runs for a host of its own may come before what that host has said of it.
        let is_onward =
            |opened: &Opened| opened.caller.is_some() && opened.spawned_by.is_some_and(|it| state.kin.has(it));
        let may_run_ahead = matches!(&entry.body, Body::Opened(opened) if is_its_root || is_onward(opened));
        if let Some(parent) = &entry.parent
            && !may_run_ahead
            && !follows(parent)?
        {
            return Ok(Some(format!("it follows {parent}, which has not come")));
        }
        let Some(entity) = entry.entity else {
            return Ok(Some(format!("a `{}` is of no entity, and a cast is", entry.body.kind())));
        };
        if let Body::Opened(opened) = &entry.body {
            if opened.fork.as_ref().is_some_and(|fork| fork.from.is_some()) {
                return Ok(Some(format!(
                    "it opens {entity} as one that continues a thread of another loom, which no host does"
                )));
            }
            let is_root = entity == self.root.0 && (opened.fork.is_some() || entry.parent == self.root.1);
            let is_below = opened.spawned_by.is_some_and(|parent| state.kin.has(parent));
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

fn broken(error: &CastHeadError) -> HomeError {
    HomeError::Refused(error.to_string())
}

fn size(sealed: &Sealed) -> usize {
    sealed.blobs.iter().fold(sealed.bytes.len(), |sum, blob| sum.saturating_add(blob.bytes.len()))
}

impl State {
    /// Before anything of a cast has come.
    fn of(loom: &Loom, root: EntityId) -> Self {
        Self {
            waiting: Vec::new(),
            waiting_bytes: 0,
            stream: CastStream::new(loom.id(), loom.store().writer(), root),
            kin: CastFamily::of(root),
            earlier: CastFamily::of(root),
            family: BTreeSet::new(),
            spoken: BTreeSet::new(),
            ids: HashSet::new(),
            bytes: 0,
            read_own: None,
            read_received: 0,
            is_sound: true,
        }
    }

    /// Reads what is durable of the cast and was not read yet.
    fn go_on(&mut self, store: &dyn LoomStore, loom: LoomId, root: EntityId) -> Result<(), StoreError> {
        loop {
            let steps = store.covered(loom, self.read_received, STEPS_READ)?;
            if steps.is_empty() {
                break;
            }
            for (to, mut heads) in steps {
                steps::count(1);
                let after = std::mem::replace(&mut self.read_received, to);
                heads.retain(|head| self.kin.has(head.cast));
                if heads.is_empty() {
                    continue;
                }
                let many = usize::try_from(to.saturating_sub(after)).unwrap_or(usize::MAX);
                let entries = store.recorded(loom, By::Others, after, many)?;
                let entries: Vec<Sealed> = entries.into_iter().map(|(_, sealed)| sealed).collect();
                self.note_all(&entries, root);
                self.stream.restore(&entries, &heads);
            }
        }
        let Some(mut after) = self.read_own else {
            self.read_own = Some(store.head(loom)?.sequence);
            return self.own_part(store, root);
        };
        loop {
            let entries = store.recorded(loom, By::ThisNode, after, ENTRIES_READ)?;
            let Some((last, _)) = entries.last() else { break };
            after = *last;
            let entries: Vec<Sealed> = entries.into_iter().map(|(_, sealed)| sealed).collect();
            self.note_all(&entries, root);
        }
        self.read_own = Some(after);
        Ok(())
    }

    /// What this node itself has written of the cast, as the host of a host.
    fn own_part(&mut self, store: &dyn LoomStore, root: EntityId) -> Result<(), StoreError> {
        let (own, mut looked_at) = (store.writer(), BTreeSet::new());
        loop {
            let next: Vec<EntityId> = self.kin.entities().filter(|entity| !looked_at.contains(entity)).collect();
            if next.is_empty() {
                return Ok(());
            }
            for entity in next {
                looked_at.insert(entity);
                let mut entries = store.entries_of(entity)?;
                entries.retain(|sealed| sealed.entry.writer == own);
                self.note_all(&entries, root);
            }
        }
    }

    fn note_all(&mut self, entries: &[Sealed], root: EntityId) {
        steps::count(entries.len() as u64);
        for sealed in entries {
            if !self.ids.contains(&sealed.id) {
                self.note(sealed, root);
            }
        }
    }

    fn note(&mut self, sealed: &Sealed, root: EntityId) {
        let is_kin = self.kin.takes(&sealed.entry);
        let Some(entity) = sealed.entry.entity else { return };
        if entity == root && matches!(&sealed.entry.body, Body::Intent(intent) if !intent.steer) {
            self.earlier = self.kin.clone();
        }
        if matches!(sealed.entry.body, Body::Opened(_)) && (entity == root || is_kin) {
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
#[path = "intake_tests.rs"]
mod tests;
