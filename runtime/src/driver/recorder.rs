//! One loom being written: gives every entry its place, time and id, and hands it to the store.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use crate::domain::ids::{CastId, EntityId, EntryId, LoomId, WriterKey};
use crate::domain::loom::{
    Blob, Body, CastBatch, CastChain, CastHead, Entry, EquivocationProof, ForeignBudget, Minted, Payload, Sealed, Tree,
};
use crate::domain::members::{Admitted, Batch, Settled, changes_members};
use tokio::sync::watch;

use crate::domain::limits::UNSYNCED_BYTES_MAX;
use crate::ports::{By, Clock, LoomStore, StoreError};

use super::admitting::Given;
use super::copies::{Copies, Hearing};
use super::fault::Fault;
use super::host;
use super::intake::Intakes;
use super::remembered::Permit;

/// The looms that are written at the moment. Entities of one loom, such as an entity and its fork, go on side by side:
/// they take their places from one sequence.
#[derive(Debug, Default)]
pub(super) struct Looms {
    open: Mutex<BTreeMap<LoomId, Weak<Shared>>>,
    /// Those of looms that nobody writes at the moment too.
    permits: Mutex<BTreeMap<LoomId, Arc<Permit>>>,
}

/// 1 000 looms. Of so many it is remembered by which admission this node may write; then all of it is asked for anew.
const PERMITS_KEPT: usize = 1_000;

impl Looms {
    /// Opens a loom for writing, or joins those who write it. `founding` is what the id of a new one commits to.
    pub(super) fn open(
        &self,
        id: LoomId,
        founding: Option<Founding>,
        store: &Arc<dyn LoomStore>,
        clock: &Arc<dyn Clock>,
        copies: Option<&Arc<Copies>>,
    ) -> Result<Loom, Fault> {
        let mut looms = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = looms.get(&id).and_then(Weak::upgrade) {
            return Ok(Loom(shared));
        }
        looms.retain(|_, shared| shared.strong_count() > 0);
        let permit = self.permit(id);
        let loom = Loom::open((id, founding), Arc::clone(store), Arc::clone(clock), copies.map(Arc::clone), permit)?;
        looms.insert(id, Arc::downgrade(&loom.0));
        Ok(loom)
    }

    fn permit(&self, id: LoomId) -> Arc<Permit> {
        let mut permits = self.permits.lock().unwrap_or_else(PoisonError::into_inner);
        if permits.len() >= PERMITS_KEPT && !permits.contains_key(&id) {
            permits.clear();
        }
        Arc::clone(permits.entry(id).or_default())
    }
}

/// How far it is written.
#[derive(Debug)]
struct Log {
    /// Under which key.
    writer: WriterKey,
    sequence: u64,
    /// The key is another than at the start: who is gone on with has to be taken over.
    renewed: bool,
    taken_over: HashSet<EntityId>,
    /// What this process has written anew: whoever went on from there does not know what follows it now.
    anew: HashSet<EntryId>,
    /// What a new loom's id commits to, until the founding entry is written.
    founding: Option<Founding>,
    /// Whether this node is the founder; nothing: that has not been asked yet.
    is_founder: Option<bool>,
}

/// What a new loom's id commits to, beside its time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Founding {
    pub(super) minted: Minted,
    /// The member record of the node that founds it, where it has one: then the founder is that node, under all its keys.
    pub(super) member: Option<Vec<u8>>,
}

impl From<Minted> for Founding {
    fn from(minted: Minted) -> Self {
        Self { minted, member: None }
    }
}

/// One loom of a store, shared by everybody who writes into it.
#[derive(Debug, Clone)]
pub struct Loom(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    id: LoomId,
    store: Arc<dyn LoomStore>,
    clock: Arc<dyn Clock>,
    copies: Option<Arc<Copies>>,
    log: Mutex<Log>,
    /// By which admission this node writes of an entity, where it needs one.
    relied: Mutex<HashMap<EntityId, EntryId>>,
    /// By which it writes what belongs to no cast of others.
    permit: Arc<Permit>,
    /// The loom's founding entry, once it was looked for.
    founding: OnceLock<EntryId>,
    /// The admissions for casts that this node has written.
    given: Mutex<Given>,
    /// What was read of casts elsewhere, for their further intents.
    intakes: Mutex<Intakes>,
    unsynced_bytes: AtomicU64,
    /// Counts up whenever more of it is durable.
    durable: watch::Sender<u64>,
}

impl Loom {
    fn open(
        (id, founding): (LoomId, Option<Founding>),
        store: Arc<dyn LoomStore>,
        clock: Arc<dyn Clock>,
        copies: Option<Arc<Copies>>,
        permit: Arc<Permit>,
    ) -> Result<Self, Fault> {
        let (writer, sequence) = (store.writer(), store.head(id)?.sequence);
        let founding = founding.filter(|_| sequence == 0);
        let taken_over = HashSet::new();
        let anew = HashSet::new();
        let log = Mutex::new(Log { writer, sequence, renewed: false, taken_over, anew, founding, is_founder: None });
        let (unsynced_bytes, durable) = (AtomicU64::new(0), watch::Sender::new(0));
        let (relied, founding) = (Mutex::default(), OnceLock::new());
        let (given, intakes) = (Mutex::default(), Mutex::default());
        let shared =
            Shared { id, store, clock, copies, log, relied, permit, founding, given, intakes, unsynced_bytes, durable };
        Ok(Self(Arc::new(shared)))
    }

    /// Its name.
    pub fn id(&self) -> LoomId {
        self.0.id
    }

    /// Appends an entry. It is durable after the next [`Loom::sync`].
    pub(super) fn append(
        &self,
        entity: EntityId,
        parent: Option<EntryId>,
        body: Body,
        blobs: Vec<Blob>,
    ) -> Result<EntryId, Fault> {
        self.append_at(self.0.clock.now_us(), (entity, parent), body, blobs)
    }

    /// The same at a moment that has been told to somebody already.
    pub(super) fn append_at(
        &self,
        at_us: u64,
        (entity, parent): (EntityId, Option<EntryId>),
        body: Body,
        blobs: Vec<Blob>,
    ) -> Result<EntryId, Fault> {
        let shared = &*self.0;
        // Held over the hand-over, so that the store sees the entries in the order of their sequence.
        let mut log = shared.log.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_judgement(&body) {
            self.goes_on(entity)?;
        }
        self.may_write()?;
        self.take_key(&mut log)?;
        self.begin(&mut log)?;
        if parent.is_some_and(|parent| log.anew.contains(&parent)) {
            return Err(Fault::SetAside { entity });
        }
        let mut parent = parent;
        let is_own = is_judgement(&body) || matches!(body, Body::Opened(_) | Body::Adopted { .. });
        if log.renewed && !is_own && !log.taken_over.contains(&entity) {
            // What was told of it so far goes on as a fork: see `anew.rs`.
            if shared.store.aside(shared.id)?.iter().any(|sealed| sealed.entry.entity == Some(entity)) {
                return Err(Fault::SetAside { entity });
            }
            log.taken_over.insert(entity);
            parent = self.take_over(&mut log, entity, parent)?;
        }
        let relies = self.relies(&mut log, Some(entity), &body)?;
        self.write_at(at_us, &mut log, (relies, None), (Some(entity), parent), body, blobs)
    }

    /// Appends an entry whose writer has found out by which admission it may say it. It is durable after the next [`Loom::sync`].
    pub(super) fn append_by(
        &self,
        relies: Option<EntryId>,
        place: (Option<EntityId>, Option<EntryId>),
        body: Body,
    ) -> Result<EntryId, Fault> {
        let mut log = self.0.log.lock().unwrap_or_else(PoisonError::into_inner);
        self.may_write()?;
        self.take_key(&mut log)?;
        self.begin(&mut log)?;
        self.write(&mut log, (relies, None), place, body, Vec::new())
    }

    /// Returns once this node may write: whoever else keeps the loom was asked whether it has more of this node's log than is here.
    ///
    /// # Errors
    /// Too few that answer, where so many copies have to acknowledge.
    pub(super) async fn ready(&self) -> Result<(), Fault> {
        match &self.0.copies {
            Some(copies) => copies.asked(self.0.id).await?,
            None => return Ok(()),
        }
        self.write_anew().await?;
        self.say_keeping().await.map(drop)
    }

    /// A name for an entity, and what it commits to.
    pub(super) fn mint(&self) -> (EntityId, Minted) {
        host::entity_id(&*self.0.clock, self.0.store.writer())
    }

    /// A name for a cast.
    pub(super) fn new_cast(&self) -> CastId {
        host::cast_id(&*self.0.clock)
    }

    /// What was written before the keepers were asked could be a second history of this node.
    fn may_write(&self) -> Result<(), Fault> {
        let is_asked = self.0.copies.as_ref().is_none_or(|copies| copies.is_asked(self.0.id));
        if is_asked { Ok(()) } else { Err(Fault::NotAsked { loom: self.0.id }) }
    }

    /// The admission that an entry has to name: that of the cast that its entity belongs to, or of this node; nothing for the founder,
    /// and for an entry that begins and decides nothing.
    fn relies(&self, log: &mut Log, entity: Option<EntityId>, body: &Body) -> Result<Option<EntryId>, Fault> {
        if !names_its_admission(body) {
            return Ok(None);
        }
        if let Some(relies) = entity.and_then(|entity| self.relied(entity, body)) {
            return Ok(Some(relies));
        }
        if log.is_founder == Some(true) {
            return Ok(None);
        }
        let (loom, store) = (self.0.id, &*self.0.store);
        let first = store.recorded(loom, By::ThisNode, 0, 1)?.into_iter().next();
        if first.is_some_and(|(_, sealed)| matches!(sealed.entry.body, Body::Founded { .. })) {
            log.is_founder = Some(true);
            return Ok(None);
        }
        // Whoever may write may admit a host for a child of its own.
        self.permission()
    }

    /// The admission by which this node may write into the loom; nothing for the founder.
    pub(super) fn permission(&self) -> Result<Option<EntryId>, Fault> {
        self.0.permit.ask(&*self.0.store, self.0.id)
    }

    /// Goes on under this node's key, if it is another than before.
    fn take_key(&self, log: &mut Log) -> Result<(), Fault> {
        let writer = self.0.store.writer();
        if log.writer != writer {
            // The node has taken a new key: it begins a new log.
            let (sequence, founding) = (self.0.store.head(self.0.id)?.sequence, log.founding.take());
            let (taken_over, anew) = (HashSet::new(), std::mem::take(&mut log.anew));
            *log = Log { writer, sequence, renewed: true, taken_over, anew, founding, is_founder: None };
        }
        Ok(())
    }

    /// Admits a host for a child: for the entity that delegates it and behind the entry that says so, or for a root.
    pub(super) fn admit(&self, delegated: Option<(EntityId, EntryId)>, admitted: Admitted) -> Result<EntryId, Fault> {
        self.append_beside(delegated, Body::Admitted(Box::new(admitted)))
    }

    /// The admissions for casts that this node has written, as far as they are durable.
    pub(super) fn given(&self) -> Result<MutexGuard<'_, Given>, StoreError> {
        let mut given = self.0.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.go_on(&*self.0.store, self.0.id)?;
        Ok(given)
    }

    /// What was read of casts elsewhere.
    pub(super) fn intakes(&self) -> MutexGuard<'_, Intakes> {
        self.0.intakes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes that a cast elsewhere is over: for the entity that delegated it, or for a root.
    pub(super) fn settle(&self, delegated: Option<(EntityId, EntryId)>, settled: Settled) -> Result<EntryId, Fault> {
        self.append_beside(delegated, Body::Settled(Box::new(settled)))
    }

    /// Writes about a child, beside the thread that delegates it.
    fn append_beside(&self, delegated: Option<(EntityId, EntryId)>, body: Body) -> Result<EntryId, Fault> {
        if let Some((entity, entry)) = delegated {
            return self.append(entity, Some(entry), body, Vec::new());
        }
        let mut log = self.0.log.lock().unwrap_or_else(PoisonError::into_inner);
        self.may_write()?;
        self.take_key(&mut log)?;
        self.begin(&mut log)?;
        let relies = self.relies(&mut log, None, &body)?;
        self.write(&mut log, (relies, None), (None, None), body, Vec::new())
    }

    /// Has everything that decides about an entity, and about those below it, rely on an admission.
    pub(super) fn rely_on(&self, entity: EntityId, admission: EntryId) {
        self.0.relied.lock().unwrap_or_else(PoisonError::into_inner).insert(entity, admission);
    }

    /// The same as the record has it, where this node goes on with an entity and was shown nothing newer.
    pub(super) fn recall(&self, entity: EntityId) -> Result<(), Fault> {
        if self.0.relied.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&entity) {
            return Ok(());
        }
        let store = &self.0.store;
        let (own, former) = (store.writer(), store.formerly()?);
        let entries = store.entries_of(entity)?;
        let mut newest = entries.iter().rev().map(|sealed| &sealed.entry).filter(|entry| {
            (entry.writer == own || former.contains(&entry.writer)) && names_its_admission(&entry.body)
        });
        let Some(admission) = newest.find_map(|entry| entry.relies) else { return Ok(()) };
        // By what this node is a member of the whole loom is asked anew each time: it may have been admitted again.
        let proved = store.proved_entry(self.0.id, admission)?.map(|proof| proof.sealed().clone());
        let sealed = if proved.is_some() { proved } else { store.entry(admission)? };
        let is_of_cast = |sealed: &Sealed| matches!(&sealed.entry.body, Body::Admitted(by) if by.scope.is_some());
        if sealed.as_ref().is_some_and(is_of_cast) {
            self.rely_on(entity, admission);
        }
        Ok(())
    }

    /// The admission for the cast that an entity belongs to. A child belongs to that of its parent.
    fn relied(&self, entity: EntityId, body: &Body) -> Option<EntryId> {
        let mut relied = self.0.relied.lock().unwrap_or_else(PoisonError::into_inner);
        if let Body::Opened(opened) = body
            && !relied.contains_key(&entity)
            && let Some(above) = opened.spawned_by.and_then(|above| relied.get(&above).copied())
        {
            relied.insert(entity, above);
        }
        relied.get(&entity).copied()
    }

    /// The entry that founds the loom, wherever it is kept.
    pub(super) fn founding(&self) -> Result<EntryId, Fault> {
        if let Some(known) = self.0.founding.get() {
            return Ok(*known);
        }
        let store = &self.0.store;
        let founds = |sealed: &Sealed| matches!(sealed.entry.body, Body::Founded { .. }).then_some(sealed.id);
        let first = store.recorded(self.0.id, By::ThisNode, 0, 1)?;
        let mut found = first.iter().find_map(|(_, sealed)| founds(sealed));
        if found.is_none() {
            found = store.proved(self.0.id)?.iter().find_map(|proof| founds(proof.sealed()));
        }
        if found.is_none() {
            found = store.entries(self.0.id)?.iter().find_map(founds);
        }
        let found = found.ok_or_else(|| Fault::Unproved { loom: self.0.id, what: "its founding entry".to_owned() })?;
        Ok(*self.0.founding.get_or_init(|| found))
    }

    /// Writes the founding entry of a new loom, which comes before everything else. Returns whether it was not written before; it is
    /// durable after the next [`Loom::sync`].
    pub(super) fn found(&self) -> Result<bool, Fault> {
        self.begin(&mut self.0.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn begin(&self, log: &mut Log) -> Result<bool, Fault> {
        let Some(Founding { minted, member }) = log.founding.clone() else { return Ok(false) };
        if log.writer != minted.by {
            return Err(Fault::NewKey { loom: self.0.id });
        }
        let body = Body::Founded { nonce: minted.nonce, member: member.map(serde_bytes::ByteBuf::from) };
        self.write(log, (None, None), (None, None), body, Vec::new())?;
        (log.founding, log.is_founder) = (None, Some(true));
        Ok(true)
    }

    /// Whether anything is recorded of it, or is about to be.
    pub(super) fn is_known(&self) -> Result<bool, Fault> {
        let shared = &*self.0;
        let log = shared.log.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = log.sequence > 0 || log.founding.is_some() || !shared.store.logs(shared.id)?.is_empty();
        Ok(begun || !shared.store.recorded(shared.id, By::Others, 0, 1)?.is_empty())
    }

    fn write(
        &self,
        log: &mut Log,
        (relies, was): (Option<EntryId>, Option<EntryId>),
        (entity, parent): (Option<EntityId>, Option<EntryId>),
        body: Body,
        blobs: Vec<Blob>,
    ) -> Result<EntryId, Fault> {
        self.write_at(self.0.clock.now_us(), log, (relies, was), (entity, parent), body, blobs)
    }

    fn write_at(
        &self,
        at_us: u64,
        log: &mut Log,
        (relies, was): (Option<EntryId>, Option<EntryId>),
        (entity, parent): (Option<EntityId>, Option<EntryId>),
        body: Body,
        blobs: Vec<Blob>,
    ) -> Result<EntryId, Fault> {
        let shared = &*self.0;
        let body = body.fit();
        let place = (log.writer, log.sequence.saturating_add(1));
        let entry = Entry { relies, was, ..Entry::new(shared.id, place, at_us, entity, parent, body) };
        entry.check_minted()?;
        let sealed = Sealed::new(entry, blobs)?;
        if changes_members(&sealed) {
            shared.permit.forget();
        }
        let id = sealed.id;
        let bytes = sealed.bytes.len() + sealed.blobs.iter().map(|blob| blob.bytes.len()).sum::<usize>();
        shared.store.append(sealed)?;
        log.sequence += 1;
        shared.unsynced_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(id)
    }

    /// Returns when everything appended before is durable, on as many nodes as the loom asks for.
    pub(super) async fn sync(&self) -> Result<(), Fault> {
        self.sync_for(None).await
    }

    /// The same for what an entity of this node has done. Fails if another has adopted it by then: what was acknowledged to nobody is no
    /// ground for an effect.
    pub(super) async fn sync_of(&self, entity: EntityId) -> Result<(), Fault> {
        self.sync_for(Some(entity)).await
    }

    /// Finds out whether this node may go on with an entity: asked again before each effect, as late as it can be.
    pub(super) fn goes_on(&self, entity: EntityId) -> Result<(), Fault> {
        let goes_on = self.0.copies.as_ref().map_or(Ok(()), |copies| copies.goes_on(entity));
        goes_on.map_err(Fault::from)
    }

    /// Returns when everything appended before is durable on this node, whoever else has it: for what has failed anyway.
    pub(super) async fn sync_here(&self) -> Result<(), StoreError> {
        self.0.unsynced_bytes.store(0, Ordering::Relaxed);
        self.0.store.sync(self.0.id).await?;
        self.0.durable.send_modify(|count| *count = count.wrapping_add(1));
        if let Some(copies) = &self.0.copies {
            copies.grown(self.0.id);
        }
        Ok(())
    }

    async fn sync_for(&self, entity: Option<EntityId>) -> Result<(), Fault> {
        self.sync_here().await?;
        if let Some(copies) = &self.0.copies {
            copies.acknowledged(self.0.id, entity).await?;
            if copies.is_asked(self.0.id) && self.say_keeping().await? {
                self.sync_here().await?;
            }
        }
        Ok(())
    }

    /// Takes what other nodes wrote. It is durable after the next [`Loom::sync`].
    pub(super) fn receive(&self, batch: CastBatch) -> Result<(), StoreError> {
        self.0.store.receive(batch)
    }

    /// Gives this node's word for its own entries of a cast.
    pub(super) fn sign_cast(&self, cast: EntityId, at: CastChain) -> Result<CastHead, StoreError> {
        self.0.store.sign_cast(self.0.id, cast, at)
    }

    /// Is told whenever more of it is durable.
    pub(super) fn grows(&self) -> watch::Receiver<u64> {
        self.0.durable.subscribe()
    }

    /// Waits for the store if much is on its way to it.
    pub(super) async fn relieve(&self) -> Result<(), Fault> {
        if self.0.unsynced_bytes.load(Ordering::Relaxed) > UNSYNCED_BYTES_MAX {
            self.sync().await?;
        }
        Ok(())
    }

    /// This node hears of a cast in this loom from its host, until that is over.
    pub(super) fn hears(&self) -> Option<Hearing> {
        self.0.copies.as_ref().map(|copies| copies.hears(self.0.id))
    }

    /// Keeps the proof that a writer has signed two histories; whoever keeps something of that writer is told.
    pub(super) fn accuse(&self, proof: &EquivocationProof) -> Result<(), StoreError> {
        let is_new = match &self.0.copies {
            Some(copies) => copies.accuse(proof)?,
            None => self.0.store.accuse(proof)?,
        };
        if is_new {
            let (loom, writer, place) = (proof.loom, proof.writer, proof.place());
            tracing::error!(%loom, %writer, place, "a writer has signed two histories");
        }
        Ok(())
    }

    /// Where it is kept together with others.
    pub(super) fn copies(&self) -> Option<&Copies> {
        self.0.copies.as_deref()
    }

    pub(super) fn store(&self) -> &dyn LoomStore {
        &*self.0.store
    }

    /// Reads the loom as turns.
    pub(super) fn tree(&self) -> Result<Tree, Fault> {
        read_tree(&*self.0.store, self.0.id)
    }

    /// The tree of a loom into which this node may write.
    ///
    /// # Errors
    /// That it may not, or a record that cannot be read.
    pub(super) fn tree_to_write(&self) -> Result<Tree, Fault> {
        let store = &*self.0.store;
        tree_of(store, &self.0.permit.ask_and_read(store, self.0.id)?)
    }
}

/// Whether an entry is about a thread and no part of it: whoever writes one need not own the entity.
const fn is_judgement(body: &Body) -> bool {
    matches!(body, Body::Rewarded { .. } | Body::Replayed { .. })
}

/// Whether an entry begins or decides something: then it names the admission that it relies on, and what follows it does not.
const fn names_its_admission(body: &Body) -> bool {
    match body {
        Body::Intent(intent) => !intent.steer,
        Body::Opened(_)
        | Body::Adopted { .. }
        | Body::Admitted(_)
        | Body::Expelled(_)
        | Body::Settled(_)
        | Body::Rewarded { .. }
        | Body::Replayed { .. }
        | Body::Keeping { .. } => true,
        Body::Utterance(_)
        | Body::GateCalled { .. }
        | Body::GateReturned { .. }
        | Body::Delegated { .. }
        | Body::Observation(_)
        | Body::Snapshot { .. }
        | Body::Folded { .. }
        | Body::Decided(_)
        | Body::Ended(_)
        | Body::Founded { .. }
        | Body::Unknown(_) => false,
    }
}

/// Reads a loom as turns.
pub(super) fn read_tree(store: &dyn LoomStore, id: LoomId) -> Result<Tree, Fault> {
    tree_of(store, &store.batch(id)?)
}

fn tree_of(store: &dyn LoomStore, batch: &Batch) -> Result<Tree, Fault> {
    let text = |payload: &Payload| store.text(payload).ok().flatten();
    let budget = ForeignBudget::default();
    Ok(Tree::read_with(batch, &text, &|source| store.foreign(source, &budget))?)
}

mod owning;

#[cfg(test)]
#[path = "recorder_tests.rs"]
mod tests;
