//! A caller's view of an episode: what comes of it, in order, from the record and from those who ask.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cantrip_gates::Wards;
use tokio::sync::{OwnedSemaphorePermit, broadcast, watch};
use tokio_util::sync::PollSemaphore;

use crate::domain::event::Event;
use crate::domain::ids::{EntityId, LoomId};
use crate::domain::loom::{Blob, Body, Sealed};
use crate::domain::remote::Refusal;
use crate::driver::control::Control;
use crate::driver::line::{Ask, Line};
use crate::ports::{By, RemoteEnd, StoreError};

use super::{Casts, Hosted, Slots, Stage};

/// 256 entries are read at once for a caller.
pub(super) const ENTRIES_READ: usize = 256;

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
        /// How far the caller is with it.
        cursor: Cursor,
        /// Where it has large texts: the room that they take until it is dropped.
        room: Option<OwnedSemaphorePermit>,
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

/// One caller's view of an episode.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that has been seen to, and any may come first")]
pub struct Attached {
    casts: Casts,
    hosted: Arc<Hosted>,
    joined: bool,
    is_accepted: bool,
    is_over: bool,
    /// What has been looked at, and what the caller has.
    at: Cursor,
    has: Cursor,
    family: BTreeSet<EntityId>,
    /// Entries that were read, without their large texts.
    ready: VecDeque<(Box<Sealed>, Cursor)>,
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
        slots: &Slots,
        hosted: Arc<Hosted>,
        joined: bool,
        (after, events): (Option<Cursor>, bool),
    ) -> Self {
        let at = Cursor { own: hosted.begins_after, others: 0 };
        let (stage, grows) = (hosted.stage.subscribe(), hosted.loom.grows());
        let (asks, events) = (hosted.line.asks(), events.then(|| hosted.line.events()));
        Self {
            casts: casts.clone(),
            joined,
            is_accepted: false,
            is_over: false,
            at,
            has: after.unwrap_or_default(),
            family: BTreeSet::from([hosted.entity]),
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
        let now_us = self.casts.0.runtime.host.clock.now_us();
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
            if let Some((sealed, _)) = self.ready.front() {
                let has_texts = !sealed.text_ids().is_empty();
                let room = if has_texts { self.room().await } else { None };
                return self.entry(room);
            }
            if self.is_over {
                return Ok(None);
            }
            let stage = self.stage.borrow_and_update().clone();
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
            // Entries go before questions: what a gate is called for is with the caller before it is called.
            if self.is_behind {
                self.is_behind = self.read()?;
                continue;
            }
            if let Some((number, ask)) = self.hosted.line.open_after(self.asked) {
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

    /// The next entry that was read, with its large texts.
    fn entry(&mut self, room: Option<OwnedSemaphorePermit>) -> Result<Option<HostItem>, StoreError> {
        let Some((mut sealed, cursor)) = self.ready.pop_front() else { return Ok(None) };
        let store = &self.casts.0.runtime.host.store;
        for id in sealed.text_ids() {
            if let Some(bytes) = store.blob(id)? {
                sealed.blobs.push(Blob { id, bytes });
            }
        }
        Ok(Some(HostItem::Entry { sealed, cursor, room }))
    }

    /// Reads what is new of the loom, and whether there was anything.
    fn read(&mut self) -> Result<bool, StoreError> {
        let store = Arc::clone(&self.casts.0.runtime.host.store);
        let loom = self.hosted.loom.id();
        let mut found = false;
        for by in [By::ThisNode, By::Others] {
            let after = if by == By::ThisNode { self.at.own } else { self.at.others };
            for (place, sealed) in store.recorded(loom, by, after, ENTRIES_READ)? {
                found = true;
                let (at, has) = match by {
                    By::ThisNode => (&mut self.at.own, self.has.own),
                    By::Others => (&mut self.at.others, self.has.others),
                };
                *at = place;
                let Some(entity) = sealed.entry.entity else { continue };
                if let Body::Opened(opened) = &sealed.entry.body
                    && opened.spawned_by.is_some_and(|parent| self.family.contains(&parent))
                {
                    self.family.insert(entity);
                }
                if place <= has || !self.family.contains(&entity) {
                    continue;
                }
                self.ready.push_back((Box::new(sealed), self.at));
            }
        }
        Ok(found)
    }
}
