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
mod tests {
    use std::sync::Arc;

    use cantrip_gates::Wards;
    use ipld_core::ipld::Ipld;

    use super::*;
    use crate::adapters::clock::SystemClock;
    use crate::adapters::store::{FjallStore, MemoryStore, NodeKey, StoreOptions};
    use crate::domain::cantrip::Folding;
    use crate::domain::ids::{CastId, LoomId, WriterKey};
    use crate::domain::loom::{
        CastUnit, Entry, EquivocationProof, Fork, ForkSource, ForkStrategy, IdentityRecord, Minted, Payload, Segment,
    };
    use crate::domain::members::Nonce;
    use crate::driver::recorder::Looms;
    use crate::ports::{Clock, CopyStore};

    const MINTED: Minted = Minted { by: WriterKey::from_bytes([9; 32]), nonce: Nonce::from_bytes([9; 16]) };

    fn loom() -> LoomId {
        LoomId::from_parts(1, [1; 16])
    }

    fn entity() -> EntityId {
        EntityId::mint(1, &MINTED.by, &MINTED.nonce)
    }

    fn host() -> NodeKey {
        NodeKey::from_secret(&[9; 32])
    }

    fn opening() -> Body {
        Body::Opened(Box::new(Opened {
            identity: IdentityRecord::default(),
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
        }))
    }

    fn entry(sequence: u64, parent: Option<EntryId>, body: Body) -> Sealed {
        let entry = Entry::new(loom(), (host().writer(), sequence), 1, entity(), parent, body);
        Sealed::new(entry, Vec::new()).unwrap()
    }

    /// What the host tells: so many entries of the cast.
    fn told(entries: u64) -> Vec<Sealed> {
        let mut told = vec![entry(1, None, opening())];
        while (told.len() as u64) < entries {
            let text = Payload::Inline(told.len().to_string());
            let parent = told.last().map(|sealed| sealed.id);
            told.push(entry(told.len() as u64 + 1, parent, Body::intent(text, false, None)));
        }
        told
    }

    /// The host's word for all of these.
    fn head(told: &[Sealed]) -> CastHead {
        let mut unit = CastUnit::of(entity());
        assert!(told.iter().all(|sealed| unit.takes(sealed)));
        host().sign_cast(loom(), entity(), unit.at())
    }

    fn memory() -> Arc<dyn LoomStore> {
        MemoryStore::new(WriterKey::from_bytes([1; 32]))
    }

    fn written(store: &Arc<dyn LoomStore>) -> Loom {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        Looms::default().open(loom(), None, store, &clock, None).unwrap()
    }

    fn intake(store: &Arc<dyn LoomStore>) -> Intake {
        Intake::new(written(store), (entity(), None)).unwrap()
    }

    fn take(intake: &Intake, told: &[Sealed]) {
        for sealed in told {
            intake.take(sealed.clone()).unwrap();
        }
    }

    #[test]
    fn what_a_host_sends_of_a_later_version_breaks_its_cast() {
        let store = memory();
        let intake = intake(&store);
        let mut told = told(2);
        let mut whole: Ipld = serde_ipld_dagcbor::from_slice(&told[1].bytes).unwrap();
        let Ipld::Map(map) = &mut whole else { panic!("no map") };
        let Some(Ipld::Map(body)) = map.get_mut("body") else { panic!("no body") };
        body.insert("kind".to_owned(), Ipld::String("dreamt".to_owned()));
        told[1] = Sealed::read(serde_ipld_dagcbor::to_vec(&whole).unwrap()).unwrap();
        take(&intake, &told);
        let refused = intake.cover(vec![head(&told)]).unwrap_err().to_string();
        assert!(refused.contains("a `dreamt` is of a kind that this version does not know"), "{refused}");
        assert!(store.entries(loom()).unwrap().is_empty());
    }

    #[test]
    fn a_host_cannot_send_without_end() {
        let intake = intake(&memory());
        intake.lock().bytes = RECEIVED_BYTES_MAX;
        take(&intake, &told(1));
        let refused = intake.cover(vec![head(&told(1))]).unwrap_err().to_string();
        assert!(refused.contains("more than 268435456 bytes"), "{refused}");
        intake.lock().bytes = 0;
        take(&intake, &told(1));
        intake.cover(vec![head(&told(1))]).unwrap();
    }

    #[test]
    fn entries_that_no_head_covers_are_bounded_and_never_recorded() {
        let store = memory();
        let many = intake(&store);
        let told = told(NEAR_UNCOVERED_ENTRIES_MAX as u64 + 1);
        take(&many, &told[..NEAR_UNCOVERED_ENTRIES_MAX]);
        let refused = many.take(told[NEAR_UNCOVERED_ENTRIES_MAX].clone()).unwrap_err().to_string();
        assert!(refused.contains("1024 entries"), "{refused}");
        assert!(many.finish().unwrap_err().to_string().contains("under no cast head"));
        let long = intake(&store);
        let mut sealed = told[0].clone();
        let bytes = vec![0; NEAR_UNCOVERED_BYTES_MAX];
        sealed.blobs.push(Blob { id: crate::domain::ids::BlobId::of(&bytes), bytes });
        long.take(sealed).unwrap();
        let refused = long.take(told[1].clone()).unwrap_err().to_string();
        assert!(refused.contains("with 2097152 may wait for one"), "{refused}");
        assert!(store.entries(loom()).unwrap().is_empty());
    }

    #[test]
    fn what_is_told_is_recorded_with_the_head_over_it_and_not_before() {
        let (store, told) = (memory(), told(4));
        let intake = intake(&store);
        take(&intake, &told);
        assert!(intake.is_uncovered() && store.entries(loom()).unwrap().is_empty());
        intake.cover(vec![head(&told)]).unwrap();
        assert!(!intake.is_uncovered());
        assert_eq!((intake.heads(), store.cast_heads(loom()).unwrap()), (vec![head(&told)], vec![head(&told)]));
        intake.finish().unwrap();
        assert!(store.verify(None).unwrap().findings.is_empty());
    }

    #[test]
    fn what_came_before_a_connection_broke_and_was_under_no_head_comes_again() {
        let (store, told) = (memory(), told(6));
        for cut in 0..told.len() {
            let intake = intake(&store);
            take(&intake, &told[..cut]);
            // It breaks here, and everything comes from its beginning.
            intake.connected();
            for step in told.chunks(2) {
                take(&intake, step);
                let to = told.iter().position(|sealed| sealed.id == step[1].id).unwrap() + 1;
                intake.cover(vec![head(&told[..to])]).unwrap();
            }
            intake.finish().unwrap();
            assert_eq!(store.entries(loom()).unwrap().len(), told.len(), "each once");
        }
        assert_eq!(store.covered(loom(), 0, 99).unwrap().len(), 3, "what comes again is not kept again");
    }

    #[test]
    fn a_host_that_contradicts_what_it_signed_before_the_caller_stopped_is_refused() {
        let (store, told) = (memory(), told(4));
        let before = intake(&store);
        take(&before, &told);
        before.cover(vec![head(&told)]).unwrap();
        // The caller starts again: what it has of the cast is in its record.
        let after = intake(&store);
        assert_eq!(after.heads(), vec![head(&told)]);
        let mut other = told[..3].to_vec();
        let text = Payload::Inline("another history".to_owned());
        other.push(entry(4, Some(other[2].id), Body::intent(text, false, None)));
        take(&after, &other);
        let refused = after.cover(vec![head(&other)]).unwrap_err().to_string();
        assert!(refused.contains("has signed two histories of this cast"), "{refused}");
        let short = intake(&store);
        take(&short, &told[..2]);
        short.cover(vec![head(&told[..2])]).unwrap();
        let refused = short.finish().unwrap_err().to_string();
        assert!(refused.contains("ends the cast at entry 2 of its log, and has signed it up to entry 4"), "{refused}");
    }

    #[test]
    fn an_entry_in_the_name_of_this_node_that_its_record_does_not_have_is_refused() {
        let store: Arc<dyn LoomStore> = MemoryStore::with_key(host());
        let intake = intake(&store);
        take(&intake, &told(1));
        let refused = intake.cover(vec![head(&told(1))]).unwrap_err().to_string();
        assert!(refused.contains("it says that this node has written it"), "{refused}");
    }

    #[tokio::test]
    async fn a_caller_that_stops_at_any_moment_has_each_entry_under_a_head_or_not_at_all() {
        let told = told(6);
        for synced in 0..=3 {
            let folder = tempfile::tempdir().unwrap();
            {
                let store = FjallStore::open(folder.path(), StoreOptions::default()).unwrap();
                let store: Arc<dyn LoomStore> = store;
                let intake = intake(&store);
                for step in 1..=3 {
                    take(&intake, &told[(step - 1) * 2..step * 2]);
                    intake.cover(vec![head(&told[..step * 2])]).unwrap();
                    if step <= synced {
                        store.sync(loom()).await.unwrap();
                    }
                }
                take(&intake, &told[4..]);
            }
            let store: Arc<dyn LoomStore> = FjallStore::open(folder.path(), StoreOptions::default()).unwrap();
            let kept = store.entries(loom()).unwrap().len();
            assert!(kept >= synced * 2 && kept.is_multiple_of(2), "{kept} after {synced} steps on disk");
            assert_eq!(store.cast_heads(loom()).unwrap(), vec![head(&told[..kept])]);
            assert!(store.verify(None).unwrap().findings.is_empty());
            // All of it comes again, and is taken as far as it is new.
            let intake = intake(&store);
            take(&intake, &told);
            intake.cover(vec![head(&told)]).unwrap();
            store.sync(loom()).await.unwrap();
            assert_eq!(store.entries(loom()).unwrap().len(), told.len());
            assert!(store.verify(None).unwrap().findings.is_empty());
        }
    }

    #[test]
    fn a_host_cannot_open_an_entity_whose_id_nobody_has_minted() {
        let (store, ground) = (memory(), EntityId::from_parts(1, [0; 16]));
        let intake = Intake::of_new(written(&store), (ground, None));
        let entry = Entry::new(loom(), (host().writer(), 1), 1, ground, None, opening());
        take(&intake, &[Sealed::new(entry, Vec::new()).unwrap()]);
        let refused = intake.cover(Vec::new()).unwrap_err().to_string();
        assert!(refused.contains("whose id does not commit to"), "{refused}");
    }
    #[test]
    fn a_host_cannot_open_an_entity_as_one_that_continues_a_thread_of_another_loom() {
        let intake = Intake::of_new(written(&memory()), (entity(), None));
        let Body::Opened(opened) = opening() else { unreachable!("it opens") };
        let piece = Blob { id: crate::domain::ids::BlobId::of(&[0xff; 9]), bytes: vec![0xff; 9] };
        let from = Box::new(ForkSource { loom: LoomId::from_parts(2, [2; 16]), after: None, pieces: vec![piece.id] });
        let fork = Fork { of: entity(), turns: 1, strategy: ForkStrategy::Replay, from: Some(from) };
        let body = Body::Opened(Box::new(Opened { fork: Some(fork), ..*opened }));
        let entry = Entry::new(loom(), (host().writer(), 1), 1, entity(), None, body);
        take(&intake, &[Sealed::new(entry, vec![piece]).unwrap()]);
        let refused = intake.cover(Vec::new()).unwrap_err().to_string();
        assert!(refused.contains("continues a thread of another loom"), "{refused}");
    }

    /// The host's log with these entries in it, as somebody else has brought it.
    fn logged(store: &Arc<MemoryStore>, log: &[Sealed]) {
        let head = log.iter().fold(Head::default(), |head, sealed| head.after(&sealed.id));
        let entries = log.iter().map(|sealed| sealed.bytes.clone()).collect();
        let signed = host().sign(loom(), head);
        let segment = Segment { from: Head::default(), entries, blobs: Vec::new(), signed };
        store.take(segment.check().unwrap()).unwrap();
    }

    /// What the host tells if it exchanges the last entry.
    fn exchanged(entries: u64) -> Vec<Sealed> {
        let mut told = told(entries);
        let last = told.pop().unwrap();
        let other = Body::intent(Payload::Inline("another".to_owned()), false, None);
        told.push(entry(last.entry.sequence, last.entry.parent, other));
        told
    }

    #[test]
    fn a_host_that_signs_another_history_of_a_cast_is_proved_to_have_two() {
        let store = memory();
        let intake = intake(&store);
        take(&intake, &told(4));
        intake.cover(vec![head(&told(4))]).unwrap();
        intake.connected();
        take(&intake, &exchanged(4));
        let refused = intake.cover(vec![head(&exchanged(4))]).unwrap_err().to_string();
        assert!(refused.contains("has signed two histories of this cast"), "{refused}");
        let proofs = store.proofs().unwrap();
        assert_eq!(
            proofs.iter().map(|proof| (proof.writer, proof.place())).collect::<Vec<_>>(),
            [(host().writer(), 4)]
        );
        assert!(proofs[0].holds());
        // What its writer has not signed proves nothing.
        let store = memory();
        let intake = self::intake(&store);
        take(&intake, &told(4));
        intake.cover(vec![head(&told(4))]).unwrap();
        intake.connected();
        take(&intake, &exchanged(4));
        intake.cover(vec![CastHead { signature: [1; 64], ..head(&exchanged(4)) }]).unwrap_err();
        assert_eq!(store.proofs().unwrap(), []);
    }

    #[test]
    fn a_host_whose_log_is_not_what_it_signed_of_a_cast_is_proved_to_have_two_histories() {
        for (log, place) in
            [(told(4), None), (exchanged(4), Some(4)), ([exchanged(4), told(5)[4..].to_vec()].concat(), Some(4))]
        {
            let memory = MemoryStore::new(WriterKey::from_bytes([1; 32]));
            logged(&memory, &log);
            let store: Arc<dyn LoomStore> = memory;
            let intake = intake(&store);
            take(&intake, &told(4));
            intake.cover(vec![head(&told(4))]).unwrap();
            let finished = intake.finish();
            let proofs = store.proofs().unwrap();
            assert_eq!(proofs.iter().map(EquivocationProof::place).next(), place);
            assert_eq!(finished.is_err(), place.is_some());
        }
    }

    #[test]
    fn what_came_of_a_cast_is_read_once_however_long_the_loom_is() {
        let store = memory();
        for place in 1..=500 {
            let other = EntityId::from_parts(place, [3; 16]);
            let said = Body::intent(Payload::Inline(String::new()), false, None);
            let entry = Entry::new(loom(), (store.writer(), place), 1, other, None, said);
            store.append(Sealed::new(entry, Vec::new()).unwrap()).unwrap();
        }
        let open = written(&store);
        let begin = || Intake::new(open.clone(), (entity(), None)).unwrap();
        let first = begin();
        take(&first, &told(4));
        first.cover(vec![head(&told(4))]).unwrap();
        first.finish().unwrap();
        drop(first);
        // What this intake has recorded itself is seen again once; nothing of it and of the rest is read any more.
        assert!(steps::of(|| drop(begin())) <= 10);
        let mut again = None;
        assert_eq!(steps::of(|| again = Some(begin())), 0);
        let again = again.unwrap();
        take(&again, &told(6)[4..]);
        again.cover(vec![head(&told(6))]).unwrap();
        again.finish().unwrap();
        assert_eq!(again.heads(), [head(&told(6))]);
        // What was refused halfway is read from the record again.
        let open = written(&store);
        let refused = Intake::new(open.clone(), (entity(), None)).unwrap();
        take(&refused, &told(9)[6..8]);
        refused.cover(vec![head(&told(7))]).unwrap_err();
        drop(refused);
        let last = Intake::new(open, (entity(), None)).unwrap();
        take(&last, &told(8)[6..]);
        last.cover(vec![head(&told(8))]).unwrap();
        last.finish().unwrap();
    }

    #[test]
    fn the_admissions_for_casts_are_read_once_however_long_the_loom_is() {
        let store = memory();
        let open = written(&store);
        for place in 1..=500 {
            let other = EntityId::from_parts(place, [3; 16]);
            let said = Body::intent(Payload::Inline(String::new()), false, None);
            let entry = Entry::new(loom(), (store.writer(), place), 1, other, None, said);
            store.append(Sealed::new(entry, Vec::new()).unwrap()).unwrap();
        }
        assert!(steps::of(|| drop(open.given().unwrap())) >= 500);
        assert_eq!(steps::of(|| drop(open.given().unwrap())), 0);
    }
}
