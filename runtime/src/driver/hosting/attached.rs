//! A caller's view of an episode: what comes of it, in order, from the record and from those who ask.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cantrip_gates::{GateError, Wards};
use tokio::sync::{OwnedSemaphorePermit, broadcast, watch};
use tokio_util::sync::PollSemaphore;

use crate::domain::caller::{Caller, KnownCaller};
use crate::domain::event::Event;
use crate::domain::ids::{EntityId, LoomId, WriterKey};
use crate::domain::limits::SEGMENT_BYTES;
use crate::domain::loom::{Blob, CastChain, CastFamily, CastHead, CastUnit, Sealed};
use crate::domain::remote::Refusal;
use crate::driver::control::Control;
use crate::driver::line::{Ask, Line};
use crate::ports::{By, RemoteEnd, StoreError};

use super::{Casts, Hosted, Slots, Stage, refuse};

/// 256 entries are read at once for a caller, and signed together.
pub(super) const ENTRIES_READ: usize = 256;
/// 16 steps of what came from others are looked for at once.
const STEPS_READ: usize = 16;

/// How far somebody has the entries of an episode: a place in the host's own log, and one in what it received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Cursor {
    own: u64,
    others: u64,
}

impl Cursor {
    /// As it travels.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let (own, others) = bytes.split_at_mut(8);
        own.copy_from_slice(&self.own.to_be_bytes());
        others.copy_from_slice(&self.others.to_be_bytes());
        bytes
    }

    /// Reads what travelled.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (own, others) = bytes.split_first_chunk::<8>()?;
        Some(Self { own: u64::from_be_bytes(*own), others: u64::from_be_bytes(others.try_into().ok()?) })
    }
}

/// What comes of an episode, one after the other.
#[derive(Debug)]
pub enum HostItem {
    /// It runs, or has run; the first item that is no question.
    Accepted {
        /// The wards in force.
        wards: Arc<Wards>,
        /// How many waited before it.
        waiting: usize,
        /// Whether it was known.
        joined: bool,
        /// The loom that it is recorded in.
        loom: LoomId,
        /// The entity.
        entity: EntityId,
    },
    /// It does not run, or cannot go on. The last item.
    Refused(Refusal),
    /// An entry, durable here.
    Entry {
        /// The entry, with its large texts.
        sealed: Box<Sealed>,
        /// Where it has large texts: the room that they take until it is dropped.
        room: Option<OwnedSemaphorePermit>,
    },
    /// Heads over all entries since the heads before.
    Heads {
        /// One for each writer and cast.
        heads: Vec<CastHead>,
        /// How far the caller is with them.
        cursor: Cursor,
    },
    /// Something happened.
    Event(Arc<Event>),
    /// The caller is asked.
    Ask(u64, Ask),
    /// The end. The last item.
    Ended(Box<RemoteEnd>),
}

/// The next event; never, where none are wanted.
async fn heard(
    events: &mut Option<broadcast::Receiver<Arc<Event>>>,
) -> Result<Arc<Event>, broadcast::error::RecvError> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

/// What was read for the caller, in the order in which it is told.
#[derive(Debug)]
enum Ready {
    /// An entry, without its large texts.
    Entry(Box<Sealed>),
    Heads(Vec<CastHead>, Cursor),
    /// What this node signs when it is told: the entries before are on their way meanwhile.
    Unsigned(CastChain, Cursor),
}

/// One caller's view of an episode.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that has been seen to, and any may come first")]
pub struct Attached {
    casts: Casts,
    caller: Caller,
    hosted: Arc<Hosted>,
    joined: bool,
    is_accepted: bool,
    is_over: bool,
    /// What has been looked at, and what the caller has.
    at: Cursor,
    has: Cursor,
    /// This node's own entries of the cast.
    own: CastUnit,
    /// So many bytes of them are under no head yet.
    unsigned_bytes: usize,
    /// The head of this node that the caller has shown, until its place has been passed.
    shown: Option<CastHead>,
    /// What others wrote of it and of casts below it.
    others: BTreeMap<(WriterKey, EntityId), CastUnit>,
    /// Steps of it that were found, and are told once all that this node wrote before has been.
    steps: VecDeque<(u64, Vec<CastHead>)>,
    /// The entity and everybody below it, whoever runs them.
    kin: CastFamily,
    ready: VecDeque<Ready>,
    /// Room for the entries of this caller that have large texts.
    large: PollSemaphore,
    asked: u64,
    stage: watch::Receiver<Stage>,
    grows: watch::Receiver<u64>,
    /// Whether more may be durable than was read.
    is_behind: bool,
    asks: watch::Receiver<u64>,
    /// Nothing where the caller does not want them.
    events: Option<broadcast::Receiver<Arc<Event>>>,
}

impl Attached {
    pub(super) fn new(
        casts: &Casts,
        (caller, slots): (&KnownCaller, &Slots),
        hosted: Arc<Hosted>,
        joined: bool,
        (after, shown, events): (Option<Cursor>, &[CastHead], bool),
    ) -> Self {
        let at = Cursor { own: hosted.begins_after, others: 0 };
        let writer = casts.0.runtime.host.store.writer();
        let is_of_this = |head: &&CastHead| (head.writer, head.cast) == (writer, hosted.entity);
        let shown = shown.iter().find(is_of_this).copied();
        let mut has = after.unwrap_or_default();
        has.own = has.own.max(shown.map_or(0, |head| head.at.place));
        let (stage, grows) = (hosted.stage.subscribe(), hosted.loom.grows());
        let (asks, events) = (hosted.line.asks(), events.then(|| hosted.line.events()));
        Self {
            casts: casts.clone(),
            caller: caller.caller.clone(),
            joined,
            is_accepted: false,
            is_over: false,
            at,
            has,
            own: CastUnit::of(hosted.entity),
            unsigned_bytes: 0,
            shown,
            others: BTreeMap::new(),
            steps: VecDeque::new(),
            kin: CastFamily::of(hosted.entity),
            ready: VecDeque::new(),
            large: PollSemaphore::new(slots.large()),
            asked: 0,
            stage,
            grows,
            asks,
            events,
            is_behind: true,
            hosted,
        }
    }

    /// The caller has said something: its lease begins anew.
    pub fn heard(&self) {
        let now_us = self.casts.0.runtime.host.clock.elapsed_us();
        self.hosted.heard_us.store(now_us, Ordering::Relaxed);
    }

    /// Where answers go.
    pub fn line(&self) -> Arc<Line> {
        Arc::clone(&self.hosted.line)
    }

    /// Stops, interrupts and steers the episode.
    pub fn control(&self) -> Control {
        self.hosted.control.clone()
    }

    /// Stops it because its parent has ended.
    pub fn orphan(&self) {
        self.hosted.control.orphan();
    }

    /// The next thing that the caller has to know; nothing after the last. Can be given up and called again.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub async fn next(&mut self) -> Result<Option<HostItem>, StoreError> {
        loop {
            if let Some(ready) = self.ready.front() {
                let has_texts = matches!(ready, Ready::Entry(sealed) if !sealed.text_ids().is_empty());
                let room = if has_texts { self.room().await } else { None };
                return self.told(room);
            }
            if self.is_over {
                return Ok(None);
            }
            let stage = self.stage.borrow_and_update().clone();
            let of = (self.hosted.loom.id(), self.hosted.entity, self.hosted.spawned_by);
            if let Err(refusal) = self.casts.is_callers(&self.caller, Some(&self.hosted.caller.caller), of) {
                self.is_over = true;
                return Ok(Some(HostItem::Refused(refusal)));
            }
            if self.grows.has_changed().unwrap_or(true) {
                self.grows.borrow_and_update();
                self.is_behind = true;
            }
            self.asks.borrow_and_update();
            if !self.is_accepted {
                let accepted = match &stage {
                    Stage::Running { wards } => Some(Arc::clone(wards)),
                    Stage::Ended(end) if end.is_ok() => Some(Arc::default()),
                    Stage::Preparing | Stage::Ended(_) => None,
                };
                if let Some(wards) = accepted {
                    self.is_accepted = true;
                    let (loom, entity) = (self.hosted.loom.id(), self.hosted.entity);
                    let (waiting, joined) = (self.hosted.ahead, self.joined);
                    return Ok(Some(HostItem::Accepted { wards, waiting, joined, loom, entity }));
                }
            }
            // Whoever has to be told what this is called can do nothing with what comes before it. The end of what never ran comes too.
            let is_told = self.is_accepted || matches!(stage, Stage::Ended(_));
            // Entries go before questions: what a gate is called for is with the caller before it is called.
            if self.is_behind && is_told {
                self.is_behind = self.read()?;
                if let Some(refusal) = self.contradicted() {
                    self.is_over = true;
                    return Ok(Some(HostItem::Refused(refusal)));
                }
                continue;
            }
            // A guest is wanted before anything runs.
            let is_next = |(_, ask): &(u64, Ask)| is_told || matches!(ask, Ask::Guest { .. });
            if let Some((number, ask)) = self.hosted.line.open_after(self.asked).filter(is_next) {
                self.asked = number;
                return Ok(Some(HostItem::Ask(number, ask)));
            }
            match self.events.as_mut().map(broadcast::Receiver::try_recv) {
                Some(Ok(event)) => return Ok(Some(HostItem::Event(event))),
                Some(Err(broadcast::error::TryRecvError::Lagged(_))) => continue,
                None | Some(Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed)) => {}
            }
            if let Stage::Ended(end) = stage {
                self.is_over = true;
                return Ok(Some(match &*end {
                    Ok(end) => HostItem::Ended(Box::new(end.clone())),
                    Err(refusal) => HostItem::Refused(refusal.clone()),
                }));
            }
            tokio::select! {
                _ = self.stage.changed() => {}
                _ = self.grows.changed() => self.is_behind = true,
                _ = self.asks.changed() => {}
                event = heard(&mut self.events) => {
                    if let Ok(event) = event {
                        return Ok(Some(HostItem::Event(event)));
                    }
                }
            }
        }
    }

    /// Waits for room for the large texts of an entry. Whoever gives up waiting keeps its place.
    async fn room(&mut self) -> Option<OwnedSemaphorePermit> {
        std::future::poll_fn(|ctx| self.large.poll_acquire(ctx)).await
    }

    /// The next thing that was read; an entry with its large texts.
    fn told(&mut self, room: Option<OwnedSemaphorePermit>) -> Result<Option<HostItem>, StoreError> {
        let mut sealed = match self.ready.pop_front() {
            None => return Ok(None),
            Some(Ready::Heads(heads, cursor)) => return Ok(Some(HostItem::Heads { heads, cursor })),
            Some(Ready::Unsigned(at, cursor)) => {
                let heads = vec![self.hosted.loom.sign_cast(self.hosted.entity, at)?];
                return Ok(Some(HostItem::Heads { heads, cursor }));
            }
            Some(Ready::Entry(sealed)) => sealed,
        };
        let store = &self.casts.0.runtime.host.store;
        for id in sealed.text_ids() {
            if let Some(bytes) = store.blob(id)? {
                sealed.blobs.push(Blob { id, bytes });
            }
        }
        Ok(Some(HostItem::Entry { sealed, room }))
    }

    /// Reads what is new of the loom, and whether there was anything. What came from others is looked for first and told last: what
    /// it follows of this node's own is told before.
    fn read(&mut self) -> Result<bool, StoreError> {
        let store = Arc::clone(&self.casts.0.runtime.host.store);
        let loom = self.hosted.loom.id();
        if self.steps.is_empty() {
            self.steps = store.covered(loom, self.at.others, STEPS_READ)?.into();
        }
        let page = store.recorded(loom, By::ThisNode, self.at.own, ENTRIES_READ)?;
        if page.is_empty() {
            let Some((to, heads)) = self.steps.pop_front() else { return Ok(false) };
            let many = usize::try_from(to.saturating_sub(self.at.others)).unwrap_or(usize::MAX);
            let entries = store.recorded(loom, By::Others, self.at.others, many)?;
            self.at.others = to;
            self.step(entries, heads);
            return Ok(true);
        }
        for (place, sealed) in page {
            self.at.own = place;
            self.own_entry(place, sealed);
        }
        self.end_batch();
        Ok(true)
    }

    fn own_entry(&mut self, place: u64, sealed: Sealed) {
        if !self.own.takes(&sealed) {
            return;
        }
        self.kin.takes(&sealed.entry);
        self.shown.take_if(|head| head.at == self.own.at());
        if place <= self.has.own {
            return;
        }
        // A text can be as long as whatever else is told under one head.
        let size = if sealed.text_ids().is_empty() { sealed.bytes.len() } else { SEGMENT_BYTES };
        self.unsigned_bytes = self.unsigned_bytes.saturating_add(size);
        self.ready.push_back(Ready::Entry(Box::new(sealed)));
        if self.unsigned_bytes >= SEGMENT_BYTES {
            self.end_batch();
        }
    }

    /// Puts a head behind this node's own entries of the cast, as far as they are told.
    fn end_batch(&mut self) {
        if self.unsigned_bytes > 0 {
            self.unsigned_bytes = 0;
            self.ready.push_back(Ready::Unsigned(self.own.at(), self.at));
        }
    }

    /// One step of what came from others, with the heads that came with it. A cast that comes round in a ring of nodes comes by
    /// several ways, and is told once.
    fn step(&mut self, entries: Vec<(u64, Sealed)>, mut heads: Vec<CastHead>) {
        let mut is_new = vec![false; entries.len()];
        heads.retain(|head| {
            if !self.kin.has(head.cast) {
                return false;
            }
            let unit = self.others.entry((head.writer, head.cast)).or_insert_with(|| CastUnit::of(head.cast));
            let before = unit.at();
            for ((_, sealed), is_new) in entries.iter().zip(&mut is_new) {
                let is_next = sealed.entry.writer == head.writer && sealed.entry.sequence > unit.at().place;
                if is_next && unit.takes(sealed) {
                    self.kin.takes(&sealed.entry);
                    *is_new = true;
                }
            }
            unit.at() != before
        });
        if self.at.others <= self.has.others || heads.is_empty() {
            return;
        }
        let new = entries.into_iter().zip(is_new).filter(|(_, is_new)| *is_new);
        self.ready.extend(new.map(|((_, sealed), _)| Ready::Entry(Box::new(sealed))));
        self.ready.push_back(Ready::Heads(heads, self.at));
    }

    /// Says where the caller has more of this node's word than this node, or another.
    fn contradicted(&mut self) -> Option<Refusal> {
        let CastChain { place, .. } = self.shown.as_ref()?.at;
        if self.own.at().place < place && self.is_behind {
            return None;
        }
        let shown = self.shown.take()?;
        if !shown.is_signed() {
            let what = "the cast head that the caller shows as this node's is not signed by it".to_owned();
            return Some(refuse("cast_head", GateError::Invalid(what)));
        }
        let what = format!(
            "this node has signed entry {place} of the cast, as the caller shows, and its record does not lead there: the record was \
             restored from an older copy, or is another's; the cast cannot go on here"
        );
        Some(refuse("cast_head", GateError::Failed(what)))
    }
}
