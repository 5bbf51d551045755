//! Copies of looms on other nodes: what is shared with whom, what each has, and when a turn counts as recorded.
//!
//! Owns who may see which loom: a node is served a loom only if it is one of its keepers, and is told of no other. A session
//! ([`Session`]) speaks with one other keeper; it knows no wire. What comes is recomputed before it is stored.

mod accuse;
mod acks;
mod arrange;
mod ask;
mod attest;
mod casts;
mod cost;
mod fences;
mod fencing;
mod held;
mod keeping;
mod link;
mod restored;
mod sending;
mod session;
mod shares;
mod writers;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::watch;

use crate::domain::copies::{CopyKind, Keeper, LoomCopies};
use crate::domain::ids::{EntityId, LoomId, NodeName, WriterKey};
use crate::domain::loom::{CastBatch, CheckedSegment, Sealed, Segment, SignedFence};
use crate::domain::members::Principal;
use crate::domain::steps;
use crate::driver::refusals::Refusals;
use crate::ports::{Clock, CopyBook, CopyStore, LogState, StoreError, Taken, Verified};

pub use acks::{AcksError, NoCopies};
pub use arrange::{Arrangement, CopyError, arrange};
pub use ask::NoAnswers;
pub(super) use casts::Hearing;
pub(super) use fencing::Fencing;
pub use fencing::NotFenced;
pub use held::KeeperState;
pub use keeping::ACKS_WAIT_MS;
pub(super) use keeping::Due;
pub use link::{CopyWire, Linking};
pub use session::Session;
use shares::{Admitted, Brought, named};

/// What may come from a peer that keeps nothing with this node yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyTerms {
    /// Whether it may have looms kept here on disk.
    pub disk: bool,
    /// Whether it may have looms kept here in memory.
    pub memory: bool,
    /// How many bytes of others' writing are taken from it, in this run of the process.
    pub bytes_max: u64,
    /// How many looms it may have kept here. Its naming one counts, whether anything comes of it or not.
    pub looms_max: usize,
}

impl CopyTerms {
    /// Nothing.
    pub const NONE: Self = Self { disk: false, memory: false, bytes_max: 0, looms_max: 0 };

    const fn allow(self, kind: CopyKind) -> bool {
        match kind {
            CopyKind::None => true,
            CopyKind::Disk => self.disk,
            CopyKind::Memory => self.memory,
        }
    }
}

/// Says what each peer may.
pub trait CopyPolicy: Send + Sync + std::fmt::Debug {
    /// The terms of a keeper.
    fn terms(&self, peer: &Keeper) -> CopyTerms;
}

#[derive(Debug, Default)]
struct State {
    looms: BTreeMap<LoomId, LoomCopies>,
    keepers: HashMap<(LoomId, Keeper), KeeperState>,
    /// Bytes that each peer has brought, its clients included; nothing stands for the machine's own user.
    brought: HashMap<Option<NodeName>, u64>,
    /// Looms that each peer has brought.
    named: HashMap<NodeName, usize>,
    /// Logs of a loom that each peer has brought, in this run of the process.
    writers: HashMap<(LoomId, Option<NodeName>), BTreeSet<WriterKey>>,
    /// Conversations with each peer.
    talking: HashMap<Keeper, usize>,
    /// What the keepers of each loom have said since this process began.
    asked: HashMap<LoomId, ask::Asked>,
    /// Entities that another node goes on with, and under which key.
    fenced: HashMap<EntityId, WriterKey>,
    /// Entities of this node's own that somebody is about to adopt.
    fenced_own: HashMap<EntityId, SignedFence>,
    /// What this node is about to adopt.
    askings: fencing::Askings,
    /// Keepers of looms of which it is not known as whom they write, and when that was asked last.
    unnamed: HashMap<(LoomId, Keeper), u64>,
    /// Adoptions of entities in each loom, as far as that was asked.
    fences: HashMap<LoomId, Arc<fences::Fences>>,
    fences_at: HashMap<LoomId, u64>,
    /// How often there may have been other members of each loom, and who they are as of the last time.
    members_at: HashMap<LoomId, u64>,
    principals: HashMap<LoomId, Arc<BTreeSet<Principal>>>,
    /// Whom each loom has admitted for which casts, as of the same time.
    hosts: HashMap<LoomId, Arc<casts::Hosts>>,
    /// What is here of the casts of each loom, and in how many this node hears of casts from their hosts.
    casts: casts::AllCasts,
    hearing: HashMap<LoomId, usize>,
    /// The writers whose logs are kept, as far as that was asked.
    writers_kept: HashMap<LoomId, HashSet<WriterKey>>,
    /// How often something came that vouches for a key, in each loom.
    attested: HashMap<LoomId, u64>,
    /// When each loom has grown, counted, and which had grown when: what is asked is what has grown since.
    grown: HashMap<LoomId, u64>,
    grown_at: BTreeMap<u64, LoomId>,
}

/// Everything that a process keeps of looms together with others.
#[derive(Debug)]
pub struct Copies {
    node: Keeper,
    disk: Arc<dyn CopyStore>,
    memory: Arc<dyn CopyStore>,
    book: Arc<dyn CopyBook>,
    policy: Arc<dyn CopyPolicy>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Counts up whenever there may be something to send, or to connect for.
    news: watch::Sender<u64>,
    /// Counts up whenever somebody has said what it has.
    heard: watch::Sender<u64>,
    refusals: Refusals,
    /// The way to other keepers, once there is one.
    links: OnceLock<Arc<dyn Linking>>,
}

/// Does work that waits for the disk, not on a thread that serves.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::runtime::Handle::try_current() {
        // Without a runtime, as in tests of conversations, it is done where it stands.
        Err(_) => work(),
        Ok(runtime) => match runtime.spawn_blocking(work).await {
            Ok(done) => done,
            Err(error) => Err(StoreError::Read(Box::new(error))),
        },
    }
}

impl Copies {
    /// Keeps looms in these stores, and who keeps them in this book.
    ///
    /// # Errors
    /// A book that cannot be read.
    pub fn new(
        node: Keeper,
        disk: Arc<dyn CopyStore>,
        memory: Arc<dyn CopyStore>,
        book: Arc<dyn CopyBook>,
        policy: Arc<dyn CopyPolicy>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, StoreError> {
        let (news, heard) = (watch::Sender::new(0), watch::Sender::new(0));
        let (state, refusals) = (Mutex::default(), Refusals::new());
        let links = OnceLock::new();
        let copies = Self { node, disk, memory, book, policy, clock, state, news, heard, refusals, links };
        copies.reread()?;
        // Whatever is in the book at the start was kept by others before: of that they are asked.
        copies.lock().asked.clear();
        Ok(Arc::new(copies))
    }

    /// Reaches other keepers this way from now on, if there is none yet.
    pub fn reach_by(&self, links: Arc<dyn Linking>) {
        // The first way is as good as another.
        drop(self.links.set(links));
    }

    /// As what this process keeps looms.
    pub const fn node(&self) -> &Keeper {
        &self.node
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is more of a loom to send.
    pub fn grown(&self, loom: LoomId) {
        let mut state = self.lock();
        if !state.looms.contains_key(&loom) {
            return;
        }
        self.news.send_modify(|count| {
            *count = count.saturating_add(1);
            if let Some(before) = state.grown.insert(loom, *count) {
                state.grown_at.remove(&before);
            }
            state.grown_at.insert(*count, loom);
        });
    }

    fn grown_everywhere(&self) {
        let looms: Vec<LoomId> = self.lock().looms.keys().copied().collect();
        for loom in looms {
            self.grown(loom);
        }
    }

    /// The looms that have grown behind a count, and the count now.
    fn grown_since(&self, seen: u64) -> (Vec<LoomId>, u64) {
        let state = self.lock();
        let grown: Vec<LoomId> = state.grown_at.range(seen.saturating_add(1)..).map(|(_, loom)| *loom).collect();
        steps::count(grown.len() as u64);
        (grown, *self.news.borrow())
    }

    /// Reads the book again: another process may have written into it.
    ///
    /// # Errors
    /// A book that cannot be read.
    pub fn reread(&self) -> Result<(), StoreError> {
        let mut read: BTreeMap<LoomId, LoomCopies> =
            self.book.load()?.into_iter().map(|copies| (copies.loom, copies)).collect();
        for copies in read.values_mut() {
            copies.keepers.entry(self.node.clone()).or_default();
        }
        let mut state = self.lock();
        if state.looms == read {
            return Ok(());
        }
        let is_new = |copies: &&LoomCopies| {
            let known = state.looms.get(&copies.loom);
            known.is_none_or(|known| known.others(&self.node).next().is_none())
        };
        let new: Vec<LoomId> = read.values().filter(is_new).map(|copies| copies.loom).collect();
        for loom in new {
            state.needs_no_asking(loom);
        }
        state.named = named(read.values());
        state.looms = read;
        drop(state);
        self.grown_everywhere();
        Ok(())
    }

    /// The looms that are kept together with others.
    pub fn looms(&self) -> Vec<LoomCopies> {
        self.lock().looms.values().cloned().collect()
    }

    /// The looms that others keep too, or are to.
    fn shared(&self) -> BTreeSet<LoomId> {
        let state = self.lock();
        let shared = state.looms.values().filter(|copies| copies.others(&self.node).next().is_some());
        shared.map(|copies| copies.loom).collect()
    }

    /// One loom's copies.
    pub fn of(&self, loom: LoomId) -> Option<LoomCopies> {
        self.lock().looms.get(&loom).cloned()
    }

    /// Another node goes on with an entity, or, with nothing, this one does.
    pub(super) fn fence(&self, entity: EntityId, owner: Option<WriterKey>) {
        let mut state = self.lock();
        match owner {
            Some(owner) => {
                state.fenced.insert(entity, owner);
                state.fenced_own.remove(&entity);
            }
            None => {
                state.fenced.remove(&entity);
            }
        }
        drop(state);
        // Whoever waits for acknowledgements of it waits for nothing.
        self.heard.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Who goes on with an entity, where that is known to be somebody else.
    pub(super) fn fenced(&self, entity: EntityId) -> Option<WriterKey> {
        self.lock().fenced.get(&entity).copied()
    }

    /// What is known of its other keepers.
    pub fn states(&self, loom: LoomId) -> BTreeMap<Keeper, KeeperState> {
        let state = self.lock();
        let others = |copies: &LoomCopies| copies.others(&self.node).map(|(keeper, _)| keeper.clone()).collect();
        let keepers: Option<Vec<Keeper>> = state.looms.get(&loom).map(others);
        let known = |keeper: Keeper| {
            let known = state.keepers.get(&(loom, keeper.clone())).cloned().unwrap_or_default();
            (keeper, known)
        };
        keepers.unwrap_or_default().into_iter().map(known).collect()
    }

    /// Has a loom kept by another node too, or in another way, or no longer. A turn of it is recorded once `acks` others have it
    /// on disk; it waits for them so many milliseconds, or, with 0, as long as it takes.
    ///
    /// # Errors
    /// Too many keepers, more acknowledgements than disks, or a book that cannot be written.
    pub fn share_with(&self, loom: LoomId, with: &Keeper, arrangement: Arrangement) -> Result<(), CopyError> {
        self.change(loom, |copies| arrange(copies, &self.node, with, arrangement))
    }

    /// The same, where nothing that was acknowledged may be lost.
    ///
    /// # Errors
    /// Too many keepers, more acknowledgements than disks, or a book that cannot be written.
    pub fn share(
        &self,
        loom: LoomId,
        with: &Keeper,
        kind: CopyKind,
        acks: Option<(u32, u64)>,
    ) -> Result<(), CopyError> {
        self.share_with(loom, with, Arrangement { kind, acks, accept_loss: false })
    }

    fn change(
        &self,
        loom: LoomId,
        change: impl FnOnce(&mut LoomCopies) -> Result<(), CopyError>,
    ) -> Result<(), CopyError> {
        let mut state = self.lock();
        let before = state.looms.get(&loom).cloned();
        let mut after = before.clone().unwrap_or_else(|| LoomCopies::new(loom, &self.node));
        change(&mut after)?;
        if before.as_ref() == Some(&after) {
            return Ok(());
        }
        self.book.save(&after)?;
        if let Some(peer) = after.brought_by.clone().filter(|_| before.is_none()) {
            let named = state.named.entry(peer).or_default();
            *named = named.saturating_add(1);
        }
        if before.is_none_or(|before| before.others(&self.node).next().is_none()) {
            state.needs_no_asking(loom);
        }
        state.looms.insert(loom, after);
        drop(state);
        self.grown(loom);
        Ok(())
    }

    /// The looms that a node keeps together with this one.
    fn shared_with(&self, peer: &Keeper) -> Vec<LoomCopies> {
        let state = self.lock();
        state.looms.values().filter(|copies| copies.kind(peer) != CopyKind::None).cloned().collect()
    }

    /// The looms that a node keeps together with this one, or did.
    fn named_to(&self, peer: &Keeper) -> Vec<LoomCopies> {
        let state = self.lock();
        steps::count(state.looms.len() as u64);
        state.looms.values().filter(|copies| copies.keepers.contains_key(peer)).cloned().collect()
    }

    /// The nodes that keep one of these looms together with this one.
    fn keepers_of(&self, looms: &[LoomId]) -> BTreeSet<Keeper> {
        let state = self.lock();
        let kept = looms.iter().filter_map(|loom| state.looms.get(loom));
        kept.flat_map(|copies| copies.others(&self.node)).map(|(keeper, _)| keeper.clone()).collect()
    }

    /// The nodes that keep anything together with this one.
    pub fn keepers(&self) -> BTreeSet<Keeper> {
        let state = self.lock();
        let others = state.looms.values().flat_map(|copies| copies.others(&self.node));
        others.map(|(keeper, _)| keeper.clone()).collect()
    }

    /// Keeps a loom in another way from now on: what is here of others is carried over.
    fn convert(&self, loom: LoomId, from: CopyKind, to: CopyKind) -> Result<(), StoreError> {
        if to == CopyKind::None {
            self.lock().casts.remove(&loom);
        }
        let (from, to) = match (from, to) {
            (CopyKind::Memory, CopyKind::Disk) => (&self.memory, &self.disk),
            (CopyKind::Disk, CopyKind::Memory) => (&self.disk, &self.memory),
            (CopyKind::Memory, CopyKind::None) => return self.memory.forget(loom),
            (CopyKind::Disk, CopyKind::None) => return self.disk.forget(loom),
            (CopyKind::None, _) | (CopyKind::Disk, CopyKind::Disk) | (CopyKind::Memory, CopyKind::Memory) => {
                return Ok(());
            }
        };
        Self::carry_attestations(&**from, &**to, loom)?;
        for log in from.logs(loom)?.into_iter().filter(|log| log.writer != self.disk.writer()) {
            let mut after = 0;
            while let Some(segment) = from.segment(loom, log.writer, after)? {
                after = segment.signed.head.sequence;
                let checked = segment.check().map_err(|error| StoreError::Read(Box::new(error)))?;
                for id in checked.entries().iter().flat_map(Sealed::text_ids) {
                    if let Some(text) = from.blob(id)? {
                        to.keep_text(&text)?;
                    }
                }
                to.take(checked)?;
            }
        }
        Self::carry_casts(&**from, &**to, loom)?;
        self.lock().casts.remove(&loom);
        from.forget(loom)
    }

    /// Carries over what came of casts that this node has not cast itself.
    fn carry_casts(from: &dyn CopyStore, to: &dyn CopyStore, loom: LoomId) -> Result<(), StoreError> {
        if from.head(loom)?.sequence > 0 {
            return Ok(());
        }
        from.steps_received(loom, &mut |entries, heads| {
            for id in entries.iter().flat_map(Sealed::text_ids) {
                if let Some(text) = from.blob(id)? {
                    to.keep_text(&text)?;
                }
            }
            to.receive(CastBatch { loom, entries, heads })
        })
    }

    /// Where others' logs of a loom are kept.
    fn keeper(&self, loom: LoomId) -> (&Arc<dyn CopyStore>, CopyKind) {
        match self.lock().looms.get(&loom).map_or(CopyKind::Disk, |copies| copies.kind(&self.node)) {
            CopyKind::Disk | CopyKind::None => (&self.disk, CopyKind::Disk),
            CopyKind::Memory => (&self.memory, CopyKind::Memory),
        }
    }

    fn store_of(&self, loom: LoomId, writer: WriterKey) -> &Arc<dyn CopyStore> {
        if writer == self.disk.writer() { &self.disk } else { self.keeper(loom).0 }
    }

    /// How far each log of a loom is here, wherever it is kept.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub fn logs(&self, loom: LoomId) -> Result<Vec<LogState>, StoreError> {
        let own = self.disk.writer();
        let (keeper, kind) = self.keeper(loom);
        let mut logs = keeper.logs(loom)?;
        if kind == CopyKind::Memory {
            logs.extend(self.disk.logs(loom)?.into_iter().filter(|log| log.writer == own));
        }
        Ok(logs)
    }

    /// Whether a node is served a loom.
    pub fn is_keeper(&self, loom: LoomId, peer: &Keeper) -> bool {
        *peer == Keeper::Local || self.of(loom).is_some_and(|copies| copies.kind(peer) != CopyKind::None)
    }

    /// Recomputes what is kept of a loom.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub fn verify(&self, loom: LoomId) -> Result<(Verified, Vec<LogState>), StoreError> {
        let (keeper, kind) = self.keeper(loom);
        let mut verified = keeper.verify(Some(loom))?;
        if kind == CopyKind::Memory {
            let own = self.disk.verify(Some(loom))?;
            verified.entries += own.entries;
            verified.blobs += own.blobs;
            verified.findings.extend(own.findings);
        }
        Ok((verified, self.logs(loom)?))
    }

    fn segment(&self, loom: LoomId, writer: WriterKey, after: u64) -> Result<Option<Segment>, StoreError> {
        self.store_of(loom, writer).segment(loom, writer, after)
    }

    fn take(&self, segment: CheckedSegment) -> Result<Taken, StoreError> {
        self.keeper(segment.signed().loom).0.take(segment)
    }

    fn text(&self, loom: LoomId, id: crate::domain::ids::BlobId) -> Result<Option<Vec<u8>>, StoreError> {
        match self.keeper(loom).0.blob(id)? {
            Some(text) => Ok(Some(text)),
            None => self.disk.blob(id),
        }
    }

    fn note(&self, loom: LoomId, peer: &Keeper, note: impl FnOnce(&mut KeeperState)) {
        let mut state = self.lock();
        note(state.keepers.entry((loom, peer.clone())).or_default());
        drop(state);
        self.heard.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Notes for everything that is shared with a peer.
    fn note_all(&self, peer: &Keeper, mut note: impl FnMut(&mut KeeperState)) {
        for copies in self.shared_with(peer) {
            self.note(copies.loom, peer, &mut note);
        }
    }
}
