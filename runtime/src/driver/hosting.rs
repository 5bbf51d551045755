//! The far side: episodes that this node runs because another had them cast.
//!
//! Owns who may join which episode, that none runs twice, and that none runs on when nobody is there any more whom it works for.
//! The record is what makes that hold across restarts: an episode is found by its caller's name for it, in memory or in the loom.
//! Knows no wire; whoever speaks to the caller pulls from [`Attached`].

mod attached;
mod members;
mod recorded;
mod resumed;
mod run;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cantrip_gates::{GateError, Wards};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::caller::KnownCaller;
use crate::domain::ids::{CastId, EntityId, LoomId, NodeAddress, NodeName};
use crate::domain::remote::{Onward, Order, Refusal};
use crate::ports::{BoxFuture, RemoteEnd};

pub use self::attached::{Attached, Cursor, HostItem};
use self::recorded::Known;
pub use self::resumed::Unfinished;
use self::run::Run;
use super::cantrip::Cantrip;
use super::control::Control;
use super::fault::chain;
use super::line::Line;
use super::recorder::Loom;
use super::runtime::{Runtime, Summoned};

/// 10 000 entities. More are not kept in memory at once.
const HOSTED_MAX: usize = 10_000;
/// 1 000 looms. So many permissions to write into one are remembered, so that not every cast reads the whole loom.
const ADMITTED_MAX: usize = 1_000;

/// Bounds of what is hosted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostLimits {
    /// After which silence of its caller an episode is stopped, where the caller names no lease.
    pub lease: Duration,
    /// The longest lease that a caller may name.
    pub lease_max: Duration,
    /// How long a cast waits for its turn. Without an end, a ring of nodes in which each waits for the next would wait for ever.
    pub queue: Duration,
    /// How long it may take to make a cantrip, its guest included.
    pub build: Duration,
    /// After how long an entity that waits gives the memory of its medium back; its next intent finds it again as it was.
    pub rest: Duration,
    /// How long an entity that was kept waits for a further intent, and the end of an episode for its caller.
    pub idle: Duration,
}

impl Default for HostLimits {
    fn default() -> Self {
        Self {
            lease: Duration::from_mins(1),
            lease_max: Duration::from_mins(10),
            queue: Duration::from_mins(1),
            build: Duration::from_secs(30),
            rest: Duration::from_mins(1),
            idle: Duration::from_mins(10),
        }
    }
}

/// How many episodes of one caller run at once, and how many wait.
#[derive(Debug)]
pub struct Slots {
    running: Semaphore,
    running_max: usize,
    waiting: AtomicUsize,
    waiting_max: usize,
}

impl Slots {
    /// So many run, so many wait; more are refused.
    pub fn new(running_max: usize, waiting_max: usize) -> Arc<Self> {
        let running = Semaphore::new(running_max);
        Arc::new(Self { running, running_max, waiting: AtomicUsize::new(0), waiting_max })
    }

    /// How many run, how many wait, and how many may run.
    pub fn load(&self) -> (usize, usize, usize) {
        let running = self.running_max.saturating_sub(self.running.available_permits());
        (running, self.waiting.load(Ordering::Relaxed), self.running_max)
    }
}

/// Makes the cantrip of an order, with the way back to its caller.
pub type Build = Box<dyn FnOnce(Arc<Line>) -> BoxFuture<'static, Result<Cantrip, Refusal>> + Send>;

/// Where an episode runs.
pub enum Where {
    /// On this node, as what this makes; its children may be cast on these nodes.
    Here(Build, Onward),
    /// On a peer of this node.
    At(NodeAddress),
}

impl std::fmt::Debug for Where {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Here(..) => out.write_str("Here"),
            Self::At(node) => out.debug_tuple("At").field(node).finish(),
        }
    }
}

/// How far an episode is.
#[derive(Debug, Clone)]
enum Stage {
    Preparing,
    Running { wards: Arc<Wards> },
    Ended(Arc<Result<RemoteEnd, Refusal>>),
}

/// One entity that is hosted, and its present episode.
#[derive(Debug)]
struct Hosted {
    caller: KnownCaller,
    entity: EntityId,
    loom: Loom,
    /// Where the entity's first entry of this node's log is, or will be.
    begins_after: u64,
    cast: CastId,
    keep: bool,
    line: Arc<Line>,
    control: Control,
    stage: watch::Sender<Stage>,
    heard_us: AtomicU64,
    ahead: usize,
    /// The entity between two episodes.
    kept: Mutex<Option<Summoned>>,
}

#[derive(Debug)]
struct Inner {
    runtime: Runtime,
    limits: HostLimits,
    hosted: Mutex<BTreeMap<EntityId, Arc<Hosted>>>,
    admitted: Mutex<VecDeque<(LoomId, NodeName)>>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

/// Everything that this node runs for others.
#[derive(Debug, Clone)]
pub struct Casts(Arc<Inner>);

fn refuse(rule: &str, error: GateError) -> Refusal {
    Refusal::new(rule, error)
}

fn ours(error: &dyn std::error::Error) -> Refusal {
    Refusal::new("host", GateError::Failed(chain(error)))
}

/// How an episode is begun.
enum Begin {
    Fresh,
    /// The entity is in memory, and waits.
    Kept(Box<Summoned>),
    /// The entity is in the record.
    Recorded {
        unfinished: bool,
    },
}

impl Casts {
    /// Hosts on this runtime.
    pub fn new(runtime: Runtime, limits: HostLimits) -> Self {
        Self(Arc::new(Inner {
            runtime,
            limits,
            hosted: Mutex::default(),
            admitted: Mutex::default(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        }))
    }

    /// The runtime underneath.
    pub fn runtime(&self) -> &Runtime {
        &self.0.runtime
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<EntityId, Arc<Hosted>>> {
        self.0.hosted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets what runs come to its end, but no longer than this; then stops it. Nothing new is begun.
    pub async fn shut_down(&self, drain: Duration) {
        self.0.closing.cancel();
        self.0.tasks.close();
        let clock = Arc::clone(&self.0.runtime.host.clock);
        tokio::select! {
            () = self.0.tasks.wait() => return,
            () = clock.sleep(drain) => {}
        }
        let running: Vec<Control> = self.lock().values().map(|hosted| hosted.control.clone()).collect();
        for control in running {
            control.orphan();
        }
        self.0.tasks.wait().await;
    }

    /// How many episodes run or wait.
    pub fn running(&self) -> usize {
        self.0.tasks.len()
    }

    /// Runs an episode, or joins it where it is known. `after` is how far the caller has its entries already, `events` whether
    /// it wants to be told of events.
    ///
    /// # Errors
    /// An entity or a loom of somebody else, an episode that cannot be begun, or too many of them.
    pub fn open(
        &self,
        caller: &KnownCaller,
        slots: &Arc<Slots>,
        order: Order,
        place: Where,
        after: Option<Cursor>,
        events: bool,
    ) -> Result<Attached, Refusal> {
        let now_us = self.0.runtime.host.clock.now_us();
        let mut all = self.lock();
        self.purge(&mut all, now_us);
        let mut begin = Begin::Fresh;
        // Microseconds: nobody asks so often that a later start would not be above what an earlier one had asked.
        let mut line = Arc::new(Line::new(now_us));
        if let Some(known) = all.get(&order.entity).map(Arc::clone) {
            if !known.caller.caller.is_same(&caller.caller) {
                return Err(refuse("entity", GateError::Denied(format!("the entity {} is another's", order.entity))));
            }
            let is_over = matches!(&*known.stage.borrow(), Stage::Ended(_));
            if known.cast == order.cast {
                known.heard_us.store(now_us, Ordering::Relaxed);
                drop(all);
                return Ok(Attached::new(self, known, true, (after, events)));
            }
            if !is_over {
                let what = format!("the entity {} is at work on {}", order.entity, known.cast);
                return Err(refuse("entity", GateError::Exhausted(what)));
            }
            let kept = known.kept.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(summoned) = kept.filter(|_| order.again) {
                begin = Begin::Kept(Box::new(summoned));
                // Its gates and its model know this way back.
                line = Arc::clone(&known.line);
            }
        }
        if self.0.closing.is_cancelled() {
            let what = "this node is shutting down".to_owned();
            return Err(refuse("host", GateError::Failed(what)));
        }
        // What is passed on is on record where it runs: that node knows whether it has run.
        if matches!((&begin, &place), (Begin::Fresh, Where::Here(..))) {
            match self.recorded(&caller.caller, &order).map_err(|refused| *refused)? {
                Known::Not => {}
                Known::Entity { unfinished } => begin = Begin::Recorded { unfinished },
                Known::Over(end) => {
                    let hosted = self.hosted(caller, &order, now_us, 0, line)?;
                    hosted.stage.send_replace(Stage::Ended(Arc::new(Ok(*end))));
                    drop(all);
                    return Ok(Attached::new(self, hosted, true, (after, events)));
                }
            }
        }
        if all.len() >= HOSTED_MAX {
            let what = format!("this node hosts {HOSTED_MAX} entities already");
            return Err(refuse("host", GateError::Exhausted(what)));
        }
        let (running, waiting, running_max) = slots.load();
        if running >= running_max && waiting >= slots.waiting_max {
            let what = format!("{running_max} casts run and {waiting} wait; no more are taken");
            return Err(refuse("concurrent_casts", GateError::Exhausted(what)));
        }
        let is_joined = matches!(begin, Begin::Recorded { unfinished: true });
        let hosted = self.hosted(caller, &order, now_us, waiting, line)?;
        all.insert(order.entity, Arc::clone(&hosted));
        drop(all);
        let attached = Attached::new(self, Arc::clone(&hosted), is_joined, (after, events));
        let run = Run { casts: self.clone(), hosted, slots: Arc::clone(slots) };
        slots.waiting.fetch_add(1, Ordering::Relaxed);
        self.0.tasks.spawn(run.finish(order, place, begin));
        Ok(attached)
    }

    fn hosted(
        &self,
        caller: &KnownCaller,
        order: &Order,
        now_us: u64,
        ahead: usize,
        line: Arc<Line>,
    ) -> Result<Arc<Hosted>, Refusal> {
        let host = &self.0.runtime.host;
        let loom = host.open(order.loom).map_err(|error| ours(&error))?;
        let entries = host.store.entries_of(order.entity).map_err(|error| ours(&error))?;
        let own = host.store.writer();
        let begins_after = match entries.iter().find(|sealed| sealed.entry.writer == own) {
            Some(first) => first.entry.sequence.saturating_sub(1),
            None => host.store.head(order.loom).map_err(|error| ours(&error))?.sequence,
        };
        Ok(Arc::new(Hosted {
            caller: caller.clone(),
            entity: order.entity,
            loom,
            begins_after,
            cast: order.cast,
            keep: order.keep,
            line,
            control: Control::new(),
            stage: watch::Sender::new(Stage::Preparing),
            heard_us: AtomicU64::new(now_us),
            ahead,
            kept: Mutex::new(None),
        }))
    }

    /// Has an entity that waits give the memory of its medium back.
    fn put_to_rest(hosted: &Hosted) {
        let mut kept = hosted.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(summoned) = kept.as_mut()
            && let Err(error) = summoned.rest_on_record()
        {
            tracing::error!(%error, entity = %hosted.entity, "an entity that waits could not be put to rest");
        }
    }

    /// Forgets what has ended and nobody has asked for since.
    fn purge(&self, all: &mut BTreeMap<EntityId, Arc<Hosted>>, now_us: u64) {
        let idle_us = u64::try_from(self.0.limits.idle.as_micros()).unwrap_or(u64::MAX);
        let rest_us = u64::try_from(self.0.limits.rest.as_micros()).unwrap_or(u64::MAX);
        for hosted in all.values() {
            let silent_us = now_us.saturating_sub(hosted.heard_us.load(Ordering::Relaxed));
            if silent_us >= rest_us {
                Self::put_to_rest(hosted);
            }
        }
        all.retain(|_, hosted| {
            let is_over = matches!(&*hosted.stage.borrow(), Stage::Ended(_));
            !is_over || now_us.saturating_sub(hosted.heard_us.load(Ordering::Relaxed)) < idle_us
        });
    }
}
