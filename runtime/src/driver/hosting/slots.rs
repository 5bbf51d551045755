//! What one caller may take of a host at once, in all of its casts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cantrip_gates::GateError;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::limits::{
    HOSTED_PER_PEER_MAX, LARGE_ENTRIES_SENT_MAX, PEER_CASTS_DEFAULT, PEER_CHILDREN_DEFAULT, PEER_QUEUE_DEFAULT,
    VERIFICATIONS_WAITING_MAX,
};
use crate::ports::Clock;

/// Bounds of what one caller takes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotLimits {
    /// Episodes that run.
    pub running: usize,
    /// Episodes that wait.
    pub waiting: usize,
    /// Entities in memory, those that wait for a further intent included.
    pub entities: usize,
    /// Children of its entities that run, at whatever depth.
    pub children: usize,
}

impl Default for SlotLimits {
    fn default() -> Self {
        Self {
            running: PEER_CASTS_DEFAULT,
            waiting: PEER_QUEUE_DEFAULT,
            entities: HOSTED_PER_PEER_MAX,
            children: PEER_CHILDREN_DEFAULT,
        }
    }
}

/// What one caller takes at once.
#[derive(Debug)]
pub struct Slots {
    pub(super) running: Semaphore,
    pub(super) running_max: usize,
    pub(super) waiting: AtomicUsize,
    pub(super) waiting_max: usize,
    pub(super) entities_max: usize,
    children: ChildSlots,
    /// Entries with large texts that are on their way to it: each is in memory as long as it does not listen.
    large: Arc<Semaphore>,
    verifications: Arc<Verifications>,
}

impl Slots {
    /// So many run, so many wait; more are refused.
    pub fn new(running: usize, waiting: usize) -> Arc<Self> {
        Self::within(SlotLimits { running, waiting, ..SlotLimits::default() })
    }

    /// The same, with so many entities in memory.
    pub fn with_entities(running: usize, waiting: usize, entities: usize) -> Arc<Self> {
        Self::within(SlotLimits { running, waiting, entities, ..SlotLimits::default() })
    }

    /// Within these bounds; of entities there is always room for those that run and wait.
    pub fn within(limits: SlotLimits) -> Arc<Self> {
        let SlotLimits { running, waiting, entities, children } = limits;
        Arc::new(Self {
            running: Semaphore::new(running),
            running_max: running,
            waiting: AtomicUsize::new(0),
            waiting_max: waiting,
            entities_max: entities.max(running.saturating_add(waiting)),
            children: ChildSlots { free: Arc::new(Semaphore::new(children)), max: children },
            large: Arc::new(Semaphore::new(LARGE_ENTRIES_SENT_MAX)),
            verifications: Arc::default(),
        })
    }

    /// How many run, how many wait, and how many may run.
    pub fn load(&self) -> (usize, usize, usize) {
        let running = self.running_max.saturating_sub(self.running.available_permits());
        (running, self.waiting.load(Ordering::Relaxed), self.running_max)
    }

    pub(super) fn children(&self) -> ChildSlots {
        self.children.clone()
    }

    pub(super) fn large(&self) -> Arc<Semaphore> {
        Arc::clone(&self.large)
    }

    /// Its verifications of looms.
    pub fn verifications(&self) -> Arc<Verifications> {
        Arc::clone(&self.verifications)
    }
}

/// How many children of one caller's entities run at once. Where none is free a child is refused: one that waited while its parent
/// runs could wait for its own.
#[derive(Debug, Clone)]
pub struct ChildSlots {
    free: Arc<Semaphore>,
    max: usize,
}

impl ChildSlots {
    /// Takes one for as long as what is returned is kept.
    ///
    /// # Errors
    /// None is free.
    pub fn take(&self) -> Result<OwnedSemaphorePermit, GateError> {
        Arc::clone(&self.free).try_acquire_owned().map_err(|_| {
            GateError::Exhausted(format!(
                "{} children of this caller's entities run on this node, and no more may at once (`concurrent_children` in its node \
                 file)",
                self.max
            ))
        })
    }
}

/// The verifications that one caller asks for: one after the other, and each rests for as long as the one before has taken, so that
/// whoever asks again and again takes half of one core at most.
#[derive(Debug)]
pub struct Verifications {
    turn: Arc<tokio::sync::Mutex<()>>,
    waiting: AtomicUsize,
    next_us: Mutex<u64>,
}

impl Default for Verifications {
    fn default() -> Self {
        Self { turn: Arc::default(), waiting: AtomicUsize::new(0), next_us: Mutex::new(0) }
    }
}

/// The turn of a verification; it ends when this is dropped.
pub struct VerificationTurn {
    all: Arc<Verifications>,
    clock: Arc<dyn Clock>,
    begun_us: u64,
    _guard: tokio::sync::OwnedMutexGuard<()>,
}

impl std::fmt::Debug for VerificationTurn {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("VerificationTurn").field("begun_us", &self.begun_us).finish_non_exhaustive()
    }
}

/// No more verifications are taken for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{before} verifications run or wait, and no more are taken before one has ended")]
pub struct Busy {
    /// How many run and wait.
    pub before: usize,
}

/// Counts one that waits, for as long as it does.
struct Waits<'a>(&'a AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Verifications {
    /// Runs one in its turn, away from the threads that serve: it reads much. The turn lasts as long, whoever still listens.
    ///
    /// # Errors
    /// Too many wait already.
    pub async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        clock: &Arc<dyn Clock>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Result<T, tokio::task::JoinError>, Busy> {
        let turn = self.turn(clock).await?;
        let work = move || {
            let _turn = turn;
            work()
        };
        Ok(tokio::task::spawn_blocking(work).await)
    }

    /// Waits for the turn of one more.
    ///
    /// # Errors
    /// Too many wait already.
    pub async fn turn(self: &Arc<Self>, clock: &Arc<dyn Clock>) -> Result<VerificationTurn, Busy> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waits = Waits(&self.waiting);
        if before >= VERIFICATIONS_WAITING_MAX {
            return Err(Busy { before });
        }
        let guard = Arc::clone(&self.turn).lock_owned().await;
        let next_us = *self.next_us.lock().unwrap_or_else(PoisonError::into_inner);
        let left_us = next_us.saturating_sub(clock.elapsed_us());
        if left_us > 0 {
            clock.sleep(Duration::from_micros(left_us)).await;
        }
        Ok(VerificationTurn {
            all: Arc::clone(self),
            clock: Arc::clone(clock),
            begun_us: clock.elapsed_us(),
            _guard: guard,
        })
    }
}

impl Drop for VerificationTurn {
    fn drop(&mut self) {
        let now_us = self.clock.elapsed_us();
        let taken_us = now_us.saturating_sub(self.begun_us);
        *self.all.next_us.lock().unwrap_or_else(PoisonError::into_inner) = now_us.saturating_add(taken_us);
    }
}
