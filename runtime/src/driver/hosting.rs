//! The far side: episodes that this node runs because another had them cast.
//!
//! Owns who may join which episode, that none runs twice, and that none runs on when nobody is there any more whom it works for.
//! The record is what makes that hold across restarts: an episode is found by its caller's name for it, in memory or in the loom.
//! Knows no wire; whoever speaks to the caller pulls from [`Attached`].

mod attached;
mod credentials;
mod heirs;
mod members;
mod naming;
mod recorded;
mod resumed;
mod run;
mod slots;
mod table;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cantrip_gates::{GateError, Wards};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::caller::KnownCaller;
use crate::domain::ids::{CastId, EntityId, LoomId, NodeAddress, NodeName};
use crate::domain::limits::{
    ENTITY_IDLE_MS_DEFAULT, ENTITY_REST_MS_DEFAULT, HOSTED_MAX, LEASE_MS_DEFAULT, QUEUE_MS_DEFAULT,
};
use crate::domain::loom::CastHead;
use crate::domain::remote::{BY_HOST, ByHost, Onward, Order, Refusal};
use crate::ports::{BoxFuture, Clock, RemoteEnd};

pub use self::attached::{Attached, Cursor, HostItem};
use self::credentials::Standing;
use self::heirs::Heirs;
use self::recorded::Known;
pub use self::resumed::Unfinished;
use self::run::Run;
pub use self::slots::{ChildSlots, SlotLimits, Slots, VerificationTurn, Verifications};
use self::table::{Full, Table};
use super::cantrip::Cantrip;
use super::control::Control;
use super::fault::chain;
use super::line::Line;
use super::recorder::Loom;
use super::runtime::{Runtime, Summoned};

/// 1 000 entries. A longer loom is not read on a thread that serves.
const READ_IN_PLACE_ENTRIES: u64 = 1_000;
/// 1 000 looms. So many permissions to write into one are remembered, so that not every cast reads the whole loom.
const ADMITTED_KEPT: usize = 1_000;

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
            lease: Duration::from_millis(LEASE_MS_DEFAULT),
            lease_max: Duration::from_mins(10),
            queue: Duration::from_millis(QUEUE_MS_DEFAULT),
            build: Duration::from_secs(30),
            rest: Duration::from_millis(ENTITY_REST_MS_DEFAULT),
            idle: Duration::from_millis(ENTITY_IDLE_MS_DEFAULT),
        }
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
    spawned_by: Option<EntityId>,
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
    hosted: Mutex<Table>,
    opening: Openings,
    admitted: Mutex<VecDeque<(LoomId, NodeName)>>,
    /// What is wrong with those who show an admission, where this node keeps a loom and may know better.
    standing: Standing,
    heirs: Heirs,
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
    Refusal::new(BY_HOST, GateError::Failed(chain(error)))
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
            opening: Mutex::default(),
            admitted: Mutex::default(),
            standing: Standing::default(),
            heirs: Heirs::default(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        }))
    }

    /// The runtime underneath.
    pub fn runtime(&self) -> &Runtime {
        &self.0.runtime
    }

    /// The clock of this node.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.runtime.host.clock
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
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
        let running: Vec<Control> = self.lock().all().map(|hosted| hosted.control.clone()).collect();
        for control in running {
            control.orphan();
        }
        self.0.tasks.wait().await;
    }

    /// How many episodes run or wait.
    pub fn running(&self) -> usize {
        self.0.tasks.len()
    }

    /// How many entities are in memory, and how many were looked at by openings of others since the start.
    pub fn in_memory(&self) -> (usize, u64) {
        let all = self.lock();
        (all.len(), all.looked_at())
    }

    /// Runs an episode, or joins it where it is known. `after` is how far the caller has its entries already, `shown` the heads
    /// over them, `events` whether it wants to be told of events.
    ///
    /// # Errors
    /// An entity or a loom of somebody else, an episode that cannot be begun, or too many of them.
    pub async fn open(
        &self,
        caller: &KnownCaller,
        slots: &Arc<Slots>,
        order: Order,
        place: Where,
        (after, shown): (Option<Cursor>, Vec<CastHead>),
        events: bool,
    ) -> Result<Attached, Refusal> {
        self.tidy();
        self.note_heir(&caller.caller, &order).await?;
        if let Found::Same(known) = self.find(caller, &order)? {
            return Ok(Attached::new(self, (caller, slots), known, true, (after, &shown, events)));
        }
        // One opening of an entity after the other; those of others go on meanwhile, however long the record of this one is.
        let turn = Turn::wait(&self.0.opening, order.entity).await;
        let now_us = self.0.runtime.host.clock.now_us();
        let mut begin = Begin::Fresh;
        // Microseconds: nobody asks so often that a later start would not be above what an earlier one had asked.
        let mut line = Arc::new(Line::new(now_us));
        match self.find(caller, &order)? {
            Found::Same(known) => {
                return Ok(Attached::new(self, (caller, slots), known, true, (after, &shown, events)));
            }
            Found::Waits(known) => {
                let kept = known.kept.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(summoned) = kept.filter(|_| order.again) {
                    begin = Begin::Kept(Box::new(summoned));
                    // Its gates and its model know this way back.
                    line = Arc::clone(&known.line);
                }
            }
            Found::Nothing => {}
        }
        if self.0.closing.is_cancelled() {
            let what = "this node is shutting down".to_owned();
            return Err(refuse("host", GateError::Failed(what)));
        }
        // What is passed on is on record where it runs: that node knows whether it has run.
        if matches!((&begin, &place), (Begin::Fresh, Where::Here(..))) {
            match self.look_up(caller, &order).await? {
                Known::Not => {}
                Known::Entity { unfinished } => begin = Begin::Recorded { unfinished },
                Known::Over(end) => {
                    let hosted = self.hosted(caller, &order, 0, line)?;
                    hosted.stage.send_replace(Stage::Ended(Arc::new(Ok(*end))));
                    return Ok(Attached::new(self, (caller, slots), hosted, true, (after, &shown, events)));
                }
            }
        }
        let (running, waiting, running_max) = slots.load();
        if running >= running_max && waiting >= slots.waiting_max {
            let what = format!("{running_max} casts run and {waiting} wait; no more are taken");
            return Err(refuse("concurrent_casts", GateError::Exhausted(what)));
        }
        let admission = match (&begin, &place) {
            // What was taken already goes on by what it was taken with.
            (Begin::Recorded { unfinished: true }, _) | (_, Where::At(_)) => None,
            // A further intent is shown another right: that of the one before may have ended with it.
            (Begin::Fresh | Begin::Kept(_) | Begin::Recorded { .. }, Where::Here(..)) => self.shown(&order).await?,
        };
        let is_joined = matches!(begin, Begin::Recorded { unfinished: true });
        let hosted = self.hosted(caller, &order, waiting, line)?;
        if let Some(admission) = admission {
            hosted.loom.rely_on(order.entity, admission);
        }
        self.take_in(&hosted, slots)?;
        let attached = Attached::new(self, (caller, slots), Arc::clone(&hosted), is_joined, (after, &shown, events));
        let run = Run { casts: self.clone(), hosted, slots: Arc::clone(slots) };
        slots.waiting.fetch_add(1, Ordering::Relaxed);
        self.0.tasks.spawn(run.finish(order, place, begin));
        drop(turn);
        Ok(attached)
    }

    /// What is in memory of an order's entity.
    fn find(&self, caller: &KnownCaller, order: &Order) -> Result<Found, Refusal> {
        let Some(known) = self.lock().get(order.entity) else { return Ok(Found::Nothing) };
        self.is_callers(&caller.caller, Some(&known.caller.caller), (known.loom.id(), known.entity, known.spawned_by))?;
        if known.cast == order.cast {
            known.heard_us.store(self.0.runtime.host.clock.elapsed_us(), Ordering::Relaxed);
            return Ok(Found::Same(known));
        }
        let is_over = matches!(&*known.stage.borrow(), Stage::Ended(_));
        if !is_over {
            let what = format!("the entity {} is at work on {}", order.entity, known.cast);
            return Err(refuse("entity", GateError::Exhausted(what)));
        }
        Ok(Found::Waits(known))
    }

    /// What the record says of an order. A long loom is read away from the threads that serve.
    async fn look_up(&self, caller: &KnownCaller, order: &Order) -> Result<Known, Refusal> {
        let head = self.0.runtime.host.store.head(order.loom).map_err(|error| ours(&error))?;
        if head.sequence <= READ_IN_PLACE_ENTRIES {
            return self.recorded(&caller.caller, order).map_err(|refused| *refused);
        }
        let (casts, caller, order) = (self.clone(), caller.caller.clone(), order.clone());
        let found = tokio::task::spawn_blocking(move || casts.recorded(&caller, &order)).await;
        found.map_err(|error| ours(&error))?.map_err(|refused| *refused)
    }

    fn take_in(&self, hosted: &Arc<Hosted>, slots: &Slots) -> Result<(), Refusal> {
        let now_us = self.0.runtime.host.clock.elapsed_us();
        let due_us = now_us.saturating_add(micros(self.0.limits.rest));
        let taken = self.lock().insert(hosted, slots.entities_max, due_us);
        taken.map_err(|full| match full {
            Full::Share { entities } => {
                let what = format!("{entities} entities of this caller are at work here; no more are taken");
                refuse("entities", GateError::Exhausted(what))
            }
            Full::Table => {
                let what = format!("{HOSTED_MAX} entities are at work here; no more are taken");
                refuse("host", GateError::Exhausted(what))
            }
        })
    }

    fn hosted(
        &self,
        caller: &KnownCaller,
        order: &Order,
        ahead: usize,
        line: Arc<Line>,
    ) -> Result<Arc<Hosted>, Refusal> {
        let host = &self.0.runtime.host;
        let founding = order.minted.filter(|_| order.by_host == ByHost::LoomAndEntity);
        let loom = match founding.filter(|minted| minted.by == host.store.writer()) {
            Some(founding) => host.open_to_found(order.loom, founding),
            None => host.open(order.loom),
        };
        let loom = loom.map_err(|error| ours(&error))?;
        let entries = host.store.entries_of(order.entity).map_err(|error| ours(&error))?;
        let own = host.store.writer();
        let begins_after = match entries.iter().find(|sealed| sealed.entry.writer == own) {
            Some(first) => first.entry.sequence.saturating_sub(1),
            None => host.store.head(order.loom).map_err(|error| ours(&error))?.sequence,
        };
        Ok(Arc::new(Hosted {
            caller: caller.clone(),
            entity: order.entity,
            spawned_by: order.spawned_by,
            loom,
            begins_after,
            cast: order.cast,
            keep: order.keep,
            line,
            control: Control::new(),
            stage: watch::Sender::new(Stage::Preparing),
            heard_us: AtomicU64::new(host.clock.elapsed_us()),
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

    /// Looks at what is due: what nobody has asked for is forgotten, and what waits gives its memory back.
    fn tidy(&self) {
        let limits = &self.0.limits;
        let now_us = self.0.runtime.host.clock.elapsed_us();
        let to_rest = self.lock().tidy(now_us, micros(limits.rest), micros(limits.idle));
        for hosted in to_rest {
            Self::put_to_rest(&hosted);
        }
    }

    /// An episode has ended, and what came of it is on disk. It is forgotten unless it waits for more, or the record does not know
    /// how it ended.
    fn ended(&self, hosted: &Arc<Hosted>, slots: &Slots) {
        let is_recorded = matches!(&*hosted.stage.borrow(), Stage::Ended(end) if end.is_ok());
        let now_us = self.0.runtime.host.clock.elapsed_us();
        // Instances are held by those that run and by half as many that wait: no caller takes the pool.
        let awake_max = (slots.running_max / 2).max(1);
        let to_rest = self.lock().ended(hosted, hosted.keep || !is_recorded, awake_max, now_us);
        if let Some(hosted) = to_rest {
            Self::put_to_rest(&hosted);
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What is in memory of an entity.
enum Found {
    Nothing,
    /// The very episode.
    Same(Arc<Hosted>),
    /// An episode of it has ended, and it waits for another.
    Waits(Arc<Hosted>),
}

type Openings = Mutex<BTreeMap<EntityId, Arc<tokio::sync::Mutex<()>>>>;

/// The turn of an opening among those of its entity.
struct Turn<'a> {
    openings: &'a Openings,
    entity: EntityId,
    guard: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl<'a> Turn<'a> {
    async fn wait(openings: &'a Openings, entity: EntityId) -> Self {
        let own = {
            let mut all = openings.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(entity).or_default())
        };
        // Made first: whoever gives up waiting tidies up too.
        let mut turn = Self { openings, entity, guard: None };
        turn.guard = Some(own.lock_owned().await);
        turn
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.guard = None;
        let mut all = self.openings.lock().unwrap_or_else(PoisonError::into_inner);
        // Those who wait hold it too.
        if all.get(&self.entity).is_some_and(|own| Arc::strong_count(own) == 1) {
            all.remove(&self.entity);
        }
    }
}
