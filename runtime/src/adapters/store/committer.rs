//! The committer: the one thread that writes, and the queue before it.
//!
//! Callers put entries on the queue in the order of their sequence and never wait for a disk; whoever asks for a sync
//! waits. While one batch is on its way to the disk the next gathers, so writers that wait together share one sync
//! (group commit). The queue is bounded: a turn is synced before the next begins, the committer starts by itself at
//! [`EAGER_BYTES`], and copies of others' logs are taken only while [`Committer::is_behind`] says no. Past
//! [`QUEUE_BYTES_MAX`] of what is left, which this node wrote, the disk has failed, and the store is poisoned.
//!
//! The first failed write poisons: nothing is written after it, and everybody who waits or comes later is told of it.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::error::Error;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::rows::{Log, Place};
use crate::domain::limits::{COPIES_QUEUE_BYTES_MAX, QUEUE_BYTES_MAX};
use crate::domain::loom::{CastHead, Head, Sealed};
use crate::ports::StoreError;

/// 1 MiB. So much is written without being asked for.
const EAGER_BYTES: usize = 1024 * 1024;
/// What an entry costs in memory beside its bytes.
const ITEM_BYTES: usize = 512;
/// Entries that nobody asks to sync are written after this time, and marks are synced.
const SETTLE: Duration = Duration::from_secs(1);
/// The heads of so many logs are kept in memory.
const LOGS_KEPT: usize = 4096;

/// Writes what the committer hands it.
pub(super) trait Sink: Send + 'static {
    /// Writes the entries durably, all or none.
    fn write(&mut self, items: &[Item]) -> Result<(), Box<dyn Error + Send + Sync>>;
    /// Takes entries out, all or none.
    fn forget(&mut self, removal: &Removal) -> Result<(), Box<dyn Error + Send + Sync>>;
    /// Whether [`Self::settle`] has something to do.
    fn is_unsettled(&self) -> bool;
    /// Syncs what a write left behind because nobody waits for it.
    fn settle(&mut self) -> Result<(), Box<dyn Error + Send + Sync>>;
    /// Settles for good: nothing is written any more.
    fn finish(&mut self) -> Result<(), Box<dyn Error + Send + Sync>>;
}

/// An entry on its way, and the head of its log after it.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) log: Log,
    pub(super) sealed: Arc<Sealed>,
    pub(super) head: Head,
    pub(super) beside: Beside,
}

/// What is to go out of the logs.
#[derive(Debug, Clone)]
pub(super) enum Removal {
    /// All of these.
    Logs(Vec<Log>),
    /// What is behind a place of one, which is kept beside the logs.
    Behind(Log, u64),
}

impl Removal {
    fn is_about(&self, log: &Log) -> bool {
        match self {
            Self::Logs(logs) => logs.contains(log),
            Self::Behind(of, _) => of == log,
        }
    }
}

/// What goes with an entry.
#[derive(Debug, Clone, Default)]
pub(super) struct Beside {
    /// The writer's signature of the head.
    pub(super) signature: Option<[u8; 64]>,
    /// The cast heads over what was received up to here.
    pub(super) casts: Vec<CastHead>,
    /// It is here already, in another log: the indexes lead to it there.
    pub(super) indexed: bool,
}

impl Item {
    pub(super) const fn place(&self) -> Place {
        self.log.at(self.head.sequence)
    }
}

#[derive(Debug)]
pub(super) struct Committer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    logs: HashMap<Log, Progress>,
    queue: Vec<Item>,
    queue_bytes: usize,
    /// Wait for the queue.
    waiters: Vec<Waiter>,
    flying: Arc<Vec<Item>>,
    /// Wait for what is being written.
    flying_waiters: Vec<Waiter>,
    /// Somebody waits for the queue.
    wanted: bool,
    /// The thread waits until it is woken, without a limit.
    asleep: bool,
    /// What is to go, and who waits for that.
    forgetting: Vec<(Removal, mpsc::Sender<()>)>,
    closing: bool,
    poison: Option<Arc<str>>,
}

type Waiter = oneshot::Sender<Result<(), Arc<str>>>;
type Waiting = oneshot::Receiver<Result<(), Arc<str>>>;

#[derive(Debug, Clone, Copy)]
struct Progress {
    head: Head,
    /// The last sequence that the thread has taken.
    taken: u64,
    /// The last sequence that is on disk.
    durable: u64,
}

enum Work {
    Write(Arc<Vec<Item>>),
    Forget(Removal, mpsc::Sender<()>),
    Settle,
    Close,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poison(&self, what: &str) {
        let mut state = self.lock();
        let first = Arc::clone(state.poison.get_or_insert_with(|| what.into()));
        state.queue = Vec::new();
        state.queue_bytes = 0;
        state.flying = Arc::default();
        state.forgetting = Vec::new();
        let waiters: Vec<Waiter> = state.take_all_waiters();
        drop(state);
        for waiter in waiters {
            answer(waiter, Err(Arc::clone(&first)));
        }
    }

    /// Waits until there is something to do.
    fn next(&self, is_unsettled: bool) -> Work {
        let mut state = self.lock();
        let mut until = None;
        loop {
            let is_due = until.is_some_and(|until| Instant::now() >= until);
            if !state.queue.is_empty()
                && (state.wanted
                    || !state.forgetting.is_empty()
                    || state.closing
                    || is_due
                    || state.queue_bytes > EAGER_BYTES)
            {
                return Work::Write(state.take_queue());
            }
            if state.queue.is_empty()
                && let Some((removal, done)) = state.forgetting.pop()
            {
                state.logs.retain(|log, _| !removal.is_about(log));
                return Work::Forget(removal, done);
            }
            if state.closing || state.poison.is_some() {
                return Work::Close;
            }
            if state.queue.is_empty() && !is_unsettled {
                until = None;
                state.asleep = true;
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.asleep = false;
                continue;
            }
            if is_due {
                return Work::Settle;
            }
            let end = *until.get_or_insert_with(|| Instant::now() + SETTLE);
            let left = end.saturating_duration_since(Instant::now());
            (state, _) = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The batch is on disk: whoever waits for it is told.
    fn written(&self) {
        let mut state = self.lock();
        let done = std::mem::take(&mut state.flying);
        for item in done.iter() {
            if let Some(progress) = state.logs.get_mut(&item.log) {
                progress.durable = item.head.sequence;
            }
        }
        if state.logs.len() > LOGS_KEPT {
            state.logs.retain(|_, progress| progress.head.sequence != progress.durable);
        }
        let waiters = std::mem::take(&mut state.flying_waiters);
        drop(state);
        for waiter in waiters {
            answer(waiter, Ok(()));
        }
    }
}

/// Whoever gave up waiting does not need the answer.
fn answer(waiter: Waiter, result: Result<(), Arc<str>>) {
    drop(waiter.send(result));
}

impl State {
    fn take_queue(&mut self) -> Arc<Vec<Item>> {
        self.wanted = false;
        self.queue_bytes = 0;
        self.flying = Arc::new(std::mem::take(&mut self.queue));
        self.flying_waiters.append(&mut self.waiters);
        for item in self.flying.iter() {
            if let Some(progress) = self.logs.get_mut(&item.log) {
                progress.taken = item.head.sequence;
            }
        }
        Arc::clone(&self.flying)
    }

    fn take_all_waiters(&mut self) -> Vec<Waiter> {
        let mut waiters = std::mem::take(&mut self.waiters);
        waiters.append(&mut self.flying_waiters);
        waiters
    }

    fn check(&self) -> Result<(), StoreError> {
        match &self.poison {
            Some(what) => Err(StoreError::Poisoned { what: what.to_string() }),
            None => Ok(()),
        }
    }

    fn progress(
        &mut self,
        log: Log,
        load: impl FnOnce() -> Result<Head, StoreError>,
    ) -> Result<&mut Progress, StoreError> {
        Ok(match self.logs.entry(log) {
            Slot::Occupied(known) => known.into_mut(),
            Slot::Vacant(free) => {
                let head = load()?;
                free.insert(Progress { head, taken: head.sequence, durable: head.sequence })
            }
        })
    }
}

impl Committer {
    /// Starts the thread.
    pub(super) fn start(sink: impl Sink) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("loom committer".to_owned()).spawn(move || run(&theirs, sink))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// The head of a log, what is on its way included. `load` reads the head that is on disk.
    pub(super) fn head(&self, log: Log, load: impl FnOnce() -> Result<Head, StoreError>) -> Result<Head, StoreError> {
        let known = self.shared.lock().logs.get(&log).map(|progress| progress.head);
        known.map_or_else(load, Ok)
    }

    /// Puts an entry on the queue: one of this node's if it follows the log, one that came from elsewhere behind the others.
    pub(super) fn append(
        &self,
        log: Log,
        sealed: Sealed,
        beside: Beside,
        load: impl FnOnce() -> Result<Head, StoreError>,
    ) -> Result<(), StoreError> {
        self.append_all(log, vec![(sealed, beside)], load)
    }

    /// Puts entries on the queue that are on disk together or not at all.
    pub(super) fn append_all(
        &self,
        log: Log,
        entries: Vec<(Sealed, Beside)>,
        load: impl FnOnce() -> Result<Head, StoreError>,
    ) -> Result<(), StoreError> {
        let mut state = self.shared.lock();
        state.check()?;
        if state.closing {
            return Err(StoreError::Poisoned { what: "the record was closed".to_owned() });
        }
        let mut head = state.progress(log, load)?.head;
        for (sealed, beside) in entries {
            let after = head.after(&sealed.id);
            if sealed.entry.sequence != after.sequence && !log.is_received() {
                let got = sealed.entry.sequence;
                return Err(StoreError::Sequence { loom: log.loom, head: head.sequence, got });
            }
            head = after;
            let bytes = sealed.blobs.iter().fold(sealed.bytes.len(), |sum, blob| sum.saturating_add(blob.bytes.len()));
            state.queue.push(Item { log, sealed: Arc::new(sealed), head, beside });
            state.queue_bytes = state.queue_bytes.saturating_add(bytes).saturating_add(ITEM_BYTES);
            if let Some(progress) = state.logs.get_mut(&log) {
                progress.head = head;
            }
        }
        let too_many = state.queue_bytes > QUEUE_BYTES_MAX;
        let wake = state.asleep || state.queue_bytes > EAGER_BYTES;
        drop(state);
        if too_many {
            self.shared.poison(&format!("more than {QUEUE_BYTES_MAX} bytes wait to be written"));
        }
        if wake {
            self.shared.wake.notify_one();
        }
        Ok(())
    }

    /// Whether so much waits that no copies are taken: the rest of the queue is for what this node writes itself.
    pub(super) fn is_behind(&self) -> bool {
        let state = self.shared.lock();
        state.poison.is_none() && state.queue_bytes > COPIES_QUEUE_BYTES_MAX
    }

    /// Returns when what was handed over for these logs is on disk.
    pub(super) async fn sync(&self, logs: &[Log]) -> Result<(), StoreError> {
        let Some(done) = self.wait_for(logs)? else { return Ok(()) };
        match done.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(what)) => Err(StoreError::Poisoned { what: what.to_string() }),
            Err(_) => Err(StoreError::Poisoned { what: "the thread that writes has ended".to_owned() }),
        }
    }

    fn wait_for(&self, logs: &[Log]) -> Result<Option<Waiting>, StoreError> {
        let mut state = self.shared.lock();
        state.check()?;
        let behind = logs.iter().filter_map(|log| state.logs.get(log));
        let behind: Vec<&Progress> = behind.filter(|progress| progress.durable < progress.head.sequence).collect();
        if behind.is_empty() {
            return Ok(None);
        }
        let is_taken = behind.iter().all(|progress| progress.taken >= progress.head.sequence);
        let (waiter, done) = oneshot::channel();
        if is_taken {
            state.flying_waiters.push(waiter);
            return Ok(Some(done));
        }
        state.waiters.push(waiter);
        let wake = !state.wanted;
        state.wanted = true;
        drop(state);
        if wake {
            self.shared.wake.notify_one();
        }
        Ok(Some(done))
    }

    /// Takes entries out of logs and waits until they are gone. Nothing may be handed over for those logs meanwhile.
    pub(super) fn forget(&self, removal: Removal) -> Result<(), StoreError> {
        if matches!(&removal, Removal::Logs(logs) if logs.is_empty()) {
            return Ok(());
        }
        let (sender, done) = mpsc::channel();
        let mut state = self.shared.lock();
        state.check()?;
        state.forgetting.push((removal, sender));
        drop(state);
        self.shared.wake.notify_one();
        match done.recv() {
            Ok(()) => Ok(()),
            Err(_) => self.shared.lock().check(),
        }
    }

    /// What is on its way and meets a condition, in the order in which it was handed over.
    pub(super) fn pending(&self, mut wanted: impl FnMut(&Sealed) -> bool) -> Vec<Item> {
        let state = self.shared.lock();
        let items = state.flying.iter().chain(&state.queue);
        items.filter(|item| wanted(&item.sealed)).cloned().collect()
    }

    /// Writes what is left and ends the thread.
    pub(super) fn close(&self) -> Result<(), StoreError> {
        self.shared.lock().closing = true;
        self.shared.wake.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            self.shared.poison("the thread that writes has panicked");
        }
        self.shared.lock().check()
    }
}

/// Tells everybody when the thread ends by a panic.
struct Farewell<'a>(&'a Shared);

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison("the thread that writes has panicked");
        }
    }
}

fn run(shared: &Shared, mut sink: impl Sink) {
    let _farewell = Farewell(shared);
    let mut settled = Instant::now();
    loop {
        let result = match shared.next(sink.is_unsettled()) {
            Work::Write(items) => sink.write(&items).and_then(|()| {
                shared.written();
                if settled.elapsed() < SETTLE {
                    return Ok(());
                }
                settled = Instant::now();
                sink.settle()
            }),
            Work::Forget(removal, done) => sink.forget(&removal).map(|()| {
                // Whoever gave up waiting does not need to know.
                let _gone = done.send(());
            }),
            Work::Settle => {
                settled = Instant::now();
                sink.settle()
            }
            Work::Close => {
                if let Err(error) = sink.finish() {
                    shared.poison(&chain(&*error));
                }
                return;
            }
        };
        if let Err(error) = result {
            shared.poison(&chain(&*error));
            return;
        }
    }
}

/// An error and its causes, in one line.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
#[path = "committer_tests.rs"]
mod tests;
