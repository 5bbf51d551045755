//! Connections that have shaken hands: how many each caller may have open, when one ends, and how much it may send.
//!
//! A connection counts from its handshake to its end. One that is not served is told why by its first call and lives for a
//! moment only: of what it sends no body is read.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::transport::server::Connected;

use super::net::BoxIo;
use crate::domain::caller::Caller;
use crate::domain::limits::{
    CONNECTION_IDLE_MS, CONNECTIONS_MAX, CONNECTIONS_PER_PEER_MAX, MESSAGE_BYTES_MAX, MESSAGE_BYTES_PER_PEER_MAX,
    REFUSED_CONNECTION_BYTES_MAX, REFUSED_CONNECTION_MS, REFUSED_CONNECTIONS_MAX, STREAMS_PER_CONNECTION_MAX,
};

/// 1 KiB. Bytes of messages are counted in units of it: a semaphore counts to 2^32 at least everywhere.
pub(super) const UNIT_BYTES: usize = 1024;

/// What connections may take of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Of all peers together.
    pub connections: usize,
    /// Of one peer; and as many times sixteen of this machine's own clients.
    pub per_peer: usize,
    /// Calls that one connection has open at once.
    pub streams: u32,
    /// How long one without a call stays open.
    pub idle: Duration,
    /// Bytes of large messages of one peer that are being received at once.
    pub message_bytes_per_peer: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS_MAX,
            per_peer: CONNECTIONS_PER_PEER_MAX,
            streams: STREAMS_PER_CONNECTION_MAX,
            idle: Duration::from_millis(CONNECTION_IDLE_MS),
            message_bytes_per_peer: MESSAGE_BYTES_PER_PEER_MAX,
        }
    }
}

/// One connection as long as it is open.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) caller: Arc<Caller>,
    /// Why nothing is served on it, where that is so.
    pub(super) refused: Option<Status>,
    /// Whether its refusal has been counted.
    pub(super) told: AtomicBool,
    /// What all connections of its caller may still receive of large messages, in [`UNIT_BYTES`].
    pub(super) budget: Arc<Semaphore>,
    /// How many of its calls wait for that.
    pub(super) waiting: AtomicUsize,
    calls: AtomicUsize,
    /// When its last call ended, in milliseconds since it was opened.
    quiet_ms: AtomicU64,
    opened: Instant,
    cut: CancellationToken,
}

/// One call that is open on a connection; it counts as long as this is kept.
#[derive(Debug)]
pub(super) struct Call(Arc<Connection>);

impl Drop for Call {
    fn drop(&mut self) {
        let opened = self.0.opened;
        self.0.quiet_ms.store(u64::try_from(opened.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    pub(super) fn call(self: &Arc<Self>) -> Call {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Call(Arc::clone(self))
    }

    /// Since when nothing has been called on it; nothing while something is.
    fn quiet_since(&self) -> Option<Instant> {
        let is_quiet = self.calls.load(Ordering::Relaxed) == 0;
        is_quiet.then(|| self.opened + Duration::from_millis(self.quiet_ms.load(Ordering::Relaxed)))
    }
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: BTreeMap<u64, Arc<Connection>>,
    budgets: BTreeMap<Caller, Arc<Semaphore>>,
}

/// All connections of a node.
#[derive(Debug)]
pub(super) struct Connections {
    limits: ConnectionLimits,
    table: Mutex<Table>,
}

impl Connections {
    pub(super) fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self { limits, table: Mutex::default() })
    }

    /// Takes a connection of a caller that is served. Where the caller has too many, the one that has been quiet longest ends for
    /// it; where all are at work, this one is refused.
    pub(super) fn admit(self: &Arc<Self>, io: BoxIo, caller: Caller) -> Accepted {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let is_local = caller.is_local();
        let (of_caller, of_all) = if is_local {
            (self.limits.per_peer.saturating_mul(16), usize::MAX)
        } else {
            (self.limits.per_peer, self.limits.connections)
        };
        let is_served = |it: &&Arc<Connection>| it.refused.is_none() && !it.cut.is_cancelled();
        let served = || table.open.values().filter(is_served);
        let own = served().filter(|it| *it.caller == caller).count();
        let all = served().filter(|it| !it.caller.is_local()).count();
        let mut refused = None;
        if own >= of_caller || (!is_local && all >= of_all) {
            let candidates = served().filter(|it| own < of_caller || *it.caller == caller);
            let quiet = candidates.filter_map(|it| Some((it.quiet_since()?, it))).min_by_key(|(since, _)| *since);
            match quiet {
                Some((_, quiet)) => quiet.cut.cancel(),
                None if own >= of_caller => {
                    refused = Some(Status::resource_exhausted(format!(
                        "`{caller}` has {own} connections at work here, and no more are served (limits.connections_per_peer)"
                    )));
                }
                None => {
                    refused = Some(Status::resource_exhausted(format!(
                        "{all} connections are at work here, and no more are served (limits.connections)"
                    )));
                }
            }
        }
        let budget = if let Some(budget) = table.budgets.get(&caller) {
            Arc::clone(budget)
        } else {
            // One message always fits.
            let bytes = self.limits.message_bytes_per_peer.max(MESSAGE_BYTES_MAX);
            let budget = Arc::new(Semaphore::new(bytes / UNIT_BYTES));
            table.budgets.insert(caller.clone(), Arc::clone(&budget));
            budget
        };
        self.open(&mut table, io, caller, refused, budget)
    }

    /// Takes a connection on which every call is refused; nothing where too many of them are open already.
    pub(super) fn refuse(self: &Arc<Self>, io: BoxIo, caller: Caller, why: Status) -> Option<Accepted> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.open.values().filter(|it| it.refused.is_some()).count() >= REFUSED_CONNECTIONS_MAX {
            return None;
        }
        Some(self.open(&mut table, io, caller, Some(why), Arc::new(Semaphore::new(0))))
    }

    fn open(
        self: &Arc<Self>,
        table: &mut Table,
        io: BoxIo,
        caller: Caller,
        refused: Option<Status>,
        budget: Arc<Semaphore>,
    ) -> Accepted {
        let opened = Instant::now();
        let connection = Arc::new(Connection {
            caller: Arc::new(caller),
            refused,
            told: AtomicBool::new(false),
            budget,
            waiting: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            quiet_ms: AtomicU64::new(0),
            opened,
            cut: CancellationToken::new(),
        });
        let number = table.next;
        table.next = table.next.saturating_add(1);
        table.open.insert(number, Arc::clone(&connection));
        let is_refused = connection.refused.is_some();
        let life = if is_refused { Duration::from_millis(REFUSED_CONNECTION_MS) } else { self.limits.idle };
        Accepted {
            io,
            cut: Box::pin(connection.cut.clone().cancelled_owned()),
            alarm: Box::pin(sleep_until(opened + life)),
            idle: self.limits.idle,
            readable: if is_refused { REFUSED_CONNECTION_BYTES_MAX } else { usize::MAX },
            connection,
            number,
            all: Arc::clone(self),
        }
    }
}

/// An accepted connection: it ends when it has been quiet for long, and at once where it is cut.
pub(super) struct Accepted {
    io: BoxIo,
    connection: Arc<Connection>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    alarm: Pin<Box<Sleep>>,
    idle: Duration,
    /// How many bytes are read of it yet.
    readable: usize,
    number: u64,
    all: Arc<Connections>,
}

impl Drop for Accepted {
    fn drop(&mut self) {
        self.all.table.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&self.number);
    }
}

impl Accepted {
    /// Whether it ends now. The alarm is set anew as long as there is something to wait for.
    fn is_over(&mut self, ctx: &mut Context<'_>) -> bool {
        if self.cut.as_mut().poll(ctx).is_ready() {
            return true;
        }
        while self.alarm.as_mut().poll(ctx).is_ready() {
            if self.connection.refused.is_some() {
                return true;
            }
            let now = Instant::now();
            let end = self.connection.quiet_since().unwrap_or(now) + self.idle;
            if end <= now {
                return true;
            }
            self.alarm.as_mut().reset(end);
        }
        false
    }
}

impl Connected for Accepted {
    type ConnectInfo = Arc<Connection>;

    fn connect_info(&self) -> Self::ConnectInfo {
        Arc::clone(&self.connection)
    }
}

impl AsyncRead for Accepted {
    fn poll_read(mut self: Pin<&mut Self>, ctx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Nothing read is the end of the connection.
        if self.is_over(ctx) {
            return Poll::Ready(Ok(()));
        }
        if self.readable == 0 {
            // What it was answered is still written; the alarm ends it.
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(ctx, buffer);
        self.readable = self.readable.saturating_sub(buffer.filled().len().saturating_sub(before));
        read
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, ctx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(ctx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(ctx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(ctx)
    }
}
