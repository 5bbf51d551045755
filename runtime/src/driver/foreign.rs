//! Threads of looms in which this node may not write: taken out with what proves them, and gone on with in a loom of its own.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use cantrip_gates::Exposure;

use crate::domain::ids::{EntityId, EntryId, LoomId, WriterKey};
use crate::domain::limits::FOREIGN_THREAD_BYTES_MAX;
use crate::domain::loom::{
    Blob, Body, CastUnit, Foreign, ForeignBudget, ForeignError, ForeignThread, Fork, ForkSource, ForkStrategy, Head,
    Restored, Sealed, Standing, ThreadCast, ThreadLog, Tree,
};
use crate::domain::members::{Attestation, Reader, relied_on};
use crate::ports::{LoomStore, StoreError};

use super::actor::Actor;
use super::cantrip::Cantrip;
use super::fault::Fault;
use super::runtime::{CastOptions, Runtime, Summoned};

/// A thread of another loom up to a turn, ready to be continued in one of this node's own. Several may continue it.
#[derive(Debug)]
pub struct TakenThread {
    source: ForkSource,
    of: EntityId,
    turns: u64,
    /// What its record says had been met, what its children met included.
    seen: Exposure,
    /// Its pieces, until the first entity that continues it is recorded with them.
    pieces: Mutex<Vec<Blob>>,
    tree: Tree,
}

impl TakenThread {
    /// The intent of the episode that is continued.
    ///
    /// # Errors
    /// None that was not met when it was taken.
    pub fn intent(&self) -> Result<String, Fault> {
        Ok(self.tree.restore(self.of, Some(self.turns))?.intent)
    }

    /// Hands out the pieces, to the first who asks, for as long as that one records them.
    pub(super) fn with_pieces<T>(&self, record: impl FnOnce(Vec<Blob>) -> T) -> T {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        record(std::mem::take(&mut pieces))
    }

    fn restored(&self) -> Result<Restored, Fault> {
        let mut restored = self.tree.restore(self.of, Some(self.turns))?;
        // The memory that a stranger has recorded is not gone on with: the code is run.
        (restored.head, restored.snapshot) = (None, None);
        restored.seen = restored.seen.union(self.seen);
        Ok(restored)
    }
}

impl Runtime {
    /// Takes a thread out of a loom, up to a number of turns, with what proves it.
    ///
    /// # Errors
    /// No such entity or turn, a thread that is too long, or a store that cannot be read.
    pub fn take_thread(&self, loom: LoomId, of: EntityId, turns: u64) -> Result<TakenThread, Fault> {
        let store = &*self.host.store;
        let tree = self.tree(loom)?;
        let restored = tree.restore(of, Some(turns))?;
        let pieces = taken_out(store, &tree, (loom, of, turns), restored.head)?.to_pieces()?;
        let after = restored.head.filter(|_| turns > 0);
        let source = ForkSource { loom, after, pieces: pieces.iter().map(|piece| piece.id).collect() };
        // It is gone on with as everybody else will read it.
        let piece = |id| pieces.iter().find(|piece| piece.id == id).map(|piece| piece.bytes.clone());
        let budget = ForeignBudget::default();
        let foreign = Foreign::read(&source, &piece, &|all| store.checked(all), &budget)?;
        foreign.tree.restore(of, Some(turns)).map_err(ForeignError::from)?;
        let seen = restored.seen.union(Exposure { untrusted: true, ..Exposure::default() });
        Ok(TakenThread { source, of, turns, seen, pieces: Mutex::new(pieces), tree: foreign.tree })
    }

    /// Makes an entity in a loom of this node's own that continues a thread of another. It begins with what that thread had met, and as
    /// one that has seen something untrusted.
    ///
    /// # Errors
    /// A loom that this node may not write, or a store that cannot be read.
    pub fn fork_taken(
        &self,
        cantrip: &Cantrip,
        taken: &Arc<TakenThread>,
        loom: LoomId,
        mut options: CastOptions,
    ) -> Result<Summoned, Fault> {
        self.may_write(loom)?;
        if self.host.peers.is_some() {
            options.trace.get_or_insert_with(|| self.host.trace());
        }
        let (entity, minted) = self.named(&options);
        let parts = self.parts(cantrip, self.host.open(loom)?, entity, &options);
        let actor = Actor::continuing(parts, taken.restored()?, false)?;
        let TakenThread { source, of, turns, seen, .. } = &**taken;
        let from = Some(Box::new(source.clone()));
        let fork = Fork { of: *of, turns: *turns, strategy: ForkStrategy::Replay, from };
        let standing = Standing { exposure: Some(*seen), ..Standing::default() };
        Ok(Summoned::forked(actor, (options, minted, fork), (Arc::clone(taken), standing)))
    }
}

/// The entities whose entries make up a thread: the entity, those that it forks, and those that spawned one of them, by whose entries it
/// is seen that its writer may write of it.
fn family(tree: &Tree, of: EntityId) -> HashSet<EntityId> {
    let (mut family, mut next) = (HashSet::from([of]), vec![of]);
    while let Some(view) = next.pop().map(|entity| tree.entity(entity)) {
        let Ok(view) = view else { continue };
        let forked = view.opened.fork.as_ref().filter(|fork| fork.from.is_none()).map(|fork| fork.of);
        next.extend(forked.into_iter().chain(view.opened.spawned_by).filter(|entity| family.insert(*entity)));
    }
    family
}

/// Whether an entry says who may write, wherever it stands.
const fn is_membership(body: &Body) -> bool {
    matches!(body, Body::Founded { .. } | Body::Admitted(_) | Body::Expelled(_) | Body::Settled(_))
}

/// A thread with what proves it, as far as this store has it.
fn taken_out(
    store: &dyn LoomStore,
    tree: &Tree,
    (loom, of, turns): (LoomId, EntityId, u64),
    last: Option<EntryId>,
) -> Result<ForeignThread, Fault> {
    let batch = store.batch(loom)?;
    let reader = Reader::of(&batch);
    let family = family(tree, of);
    let all = store.entries(loom)?;
    let is_part = |sealed: &&Sealed| {
        let is_of_thread = sealed.entry.entity.is_some_and(|entity| family.contains(&entity));
        (is_of_thread || is_membership(&sealed.entry.body)) && reader.counts(sealed.id).is_ok()
    };
    let mut needed: Vec<&Sealed> = all.iter().filter(is_part).collect();
    // What comes behind the last turn that is kept is left out, where one writer alone has written the thread.
    let own = |sealed: &&&Sealed| sealed.entry.entity == Some(of) && !is_membership(&sealed.entry.body);
    let writers: HashSet<WriterKey> = needed.iter().filter(own).map(|sealed| sealed.entry.writer).collect();
    let end = needed.iter().find(|sealed| Some(sealed.id) == last && turns > 0).map(|sealed| sealed.entry.sequence);
    if let (Some(end), 1) = (end, writers.len()) {
        needed.retain(|sealed| !own(&sealed) || sealed.entry.sequence <= end);
    }
    let mut thread = ForeignThread {
        loom,
        entity: of,
        logs: Vec::new(),
        casts: Vec::new(),
        attestations: Vec::new(),
        proved: Vec::new(),
        divided: Vec::new(),
        entries: Vec::new(),
        texts: Vec::new(),
    };
    let mut left: BTreeMap<EntryId, &Sealed> = needed.iter().map(|sealed| (sealed.id, *sealed)).collect();
    cover(store, (loom, &all), &mut thread, &mut left)?;
    let mut proved: Vec<Sealed> = Vec::new();
    for proof in store.proved(loom)? {
        let is_of_thread = proof.sealed().entry.entity.is_some_and(|entity| family.contains(&entity));
        if is_membership(&proof.sealed().entry.body) || is_of_thread {
            proved.push(proof.sealed().clone());
            left.remove(&proof.id());
            thread.proved.push(proof.to_proof());
        }
    }
    // What no head covers its writer can prove, if that is this node.
    let unproved: Vec<EntryId> = left.keys().copied().collect();
    for id in unproved {
        if let Some(proof) = store.prove(id)? {
            left.remove(&id);
            thread.proved.push(proof.to_proof());
        }
    }
    needed.retain(|sealed| !left.contains_key(&sealed.id));
    texts(store, &needed, &mut thread)?;
    thread.entries = needed.iter().map(|sealed| sealed.bytes.clone()).collect();
    vouch(store, loom, needed.into_iter().chain(&proved), &mut thread)?;
    Ok(thread)
}

/// Finds the logs and casts that cover entries, and takes those out of the list.
fn cover(
    store: &dyn LoomStore,
    (loom, all): (LoomId, &[Sealed]),
    thread: &mut ForeignThread,
    left: &mut BTreeMap<EntryId, &Sealed>,
) -> Result<(), StoreError> {
    let needed: HashSet<EntryId> = left.keys().copied().collect();
    let mut of_writer: HashMap<WriterKey, BTreeMap<u64, &Sealed>> =
        left.values().map(|sealed| (sealed.entry.writer, BTreeMap::new())).collect();
    for sealed in all {
        if let Some(own) = of_writer.get_mut(&sealed.entry.writer) {
            own.insert(sealed.entry.sequence, sealed);
        }
    }
    for signed in store.logs(loom)?.into_iter().filter_map(|log| log.signed) {
        let Some(own) = of_writer.get(&signed.writer) else { continue };
        let ids: Vec<EntryId> = own.range(1..=signed.head.sequence).map(|(_, sealed)| sealed.id).collect();
        if ids.iter().fold(Head::default(), |head, id| head.after(id)) == signed.head {
            for id in &ids {
                left.remove(id);
            }
            thread.logs.push(ThreadLog { signed, ids });
        }
    }
    for head in store.cast_heads(loom)? {
        let Some(own) = of_writer.get(&head.writer) else { continue };
        let mut unit = CastUnit::of(head.cast);
        let of_cast = own.range(..=head.at.place).filter(|(_, sealed)| unit.takes(sealed));
        let ids: Vec<(u64, EntryId)> = of_cast.map(|(place, sealed)| (*place, sealed.id)).collect();
        // Other entries may name the ends of a cast whose writer has a log here, too.
        if unit.at() == head.at && ids.iter().any(|(_, id)| needed.contains(id)) {
            for (_, id) in &ids {
                left.remove(id);
            }
            thread.casts.push(ThreadCast { head, ids });
        }
    }
    Ok(())
}

/// Adds the texts that entries refer to. The pages of a memory are left out: the code is run instead.
fn texts(store: &dyn LoomStore, needed: &[&Sealed], thread: &mut ForeignThread) -> Result<(), Fault> {
    let mut met = HashSet::new();
    let mut bytes = needed.iter().fold(0_u64, |sum, sealed| sum.saturating_add(sealed.bytes.len() as u64));
    for sealed in needed.iter().filter(|sealed| !matches!(sealed.entry.body, Body::Snapshot { .. })) {
        for id in sealed.text_ids().into_iter().filter(|id| met.insert(*id)) {
            let text = store.blob(id)?.ok_or(StoreError::Blob { id })?;
            bytes = bytes.saturating_add(text.len() as u64);
            // More is not even gathered.
            if bytes > FOREIGN_THREAD_BYTES_MAX {
                return Err(ForeignError::Size { bytes }.into());
            }
            thread.texts.push(text);
        }
    }
    Ok(())
}

/// Adds what vouches for the keys that entries have something to do with, and what accuses them.
fn vouch<'a>(
    store: &dyn LoomStore,
    loom: LoomId,
    entries: impl Iterator<Item = &'a Sealed>,
    thread: &mut ForeignThread,
) -> Result<(), StoreError> {
    let mut keys: HashSet<WriterKey> = HashSet::new();
    for sealed in entries {
        keys.insert(sealed.entry.writer);
        if let Body::Admitted(admitted) = &sealed.entry.body {
            keys.extend(admitted.scope.map(|scope| scope.opener));
        }
    }
    let all = store.attestations(loom)?;
    let mut relied = HashSet::new();
    for key in &keys {
        let before = |key| {
            let own = all.iter().filter(|it| it.key() == key);
            Ok::<_, StoreError>(own.filter_map(Attestation::predecessor).collect())
        };
        relied.extend(relied_on(*key, before)?);
    }
    thread.attestations = all.into_iter().filter(|it| relied.contains(&it.key())).collect();
    let divided = store.proofs()?.into_iter();
    thread.divided = divided.filter(|proof| proof.loom == loom && keys.contains(&proof.writer)).collect();
    Ok(())
}
