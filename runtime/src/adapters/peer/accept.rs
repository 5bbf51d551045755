//! Connections as they come in: each with the caller that its certificate names, known before a call is read.
//!
//! A connection that has not shaken hands yet is of nobody, and counts in a pool of its own: by address, and in all. Where a
//! pool is full its oldest handshake ends and the newest begins, so that whoever shakes hands at once always gets in, however
//! many others hold connections open and say nothing.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::identity::Identity;
use super::net::BoxIo;
use crate::domain::caller::Caller;
use crate::domain::limits::{ACCEPTED_WAITING_MAX, HANDSHAKE_MS_MAX, HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX};
use crate::driver::Refusals;

/// A connection as it was accepted, and the address that it comes from.
pub type Incoming = (BoxIo, IpAddr);

/// How many handshakes go on at once, and how long each may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptLimits {
    /// From all addresses together.
    pub handshakes: usize,
    /// From one address.
    pub handshakes_per_address: usize,
    /// How long one may take.
    pub handshake: Duration,
}

impl Default for AcceptLimits {
    fn default() -> Self {
        Self {
            handshakes: HANDSHAKES_MAX,
            handshakes_per_address: HANDSHAKES_PER_ADDRESS_MAX,
            handshake: Duration::from_millis(HANDSHAKE_MS_MAX),
        }
    }
}

/// The handshakes that go on, oldest first, and the number of the next.
#[derive(Debug, Default)]
struct Open {
    next: u64,
    going_on: BTreeMap<u64, (IpAddr, CancellationToken)>,
}

/// The pool of connections that have not shaken hands yet.
#[derive(Debug)]
struct Handshakes {
    limits: AcceptLimits,
    open: Mutex<Open>,
}

/// One handshake; it counts as long as this is kept.
struct Handshake {
    all: Arc<Handshakes>,
    number: u64,
    given_up: CancellationToken,
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.all.lock().going_on.remove(&self.number);
    }
}

impl Handshakes {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins one, and ends the oldest of the same address, or of all, where there are too many.
    fn begin(self: &Arc<Self>, address: IpAddr) -> Handshake {
        let given_up = CancellationToken::new();
        let mut open = self.lock();
        let of_address = open.going_on.iter().filter(|(_, (from, _))| *from == address);
        let oldest = if of_address.clone().count() >= self.limits.handshakes_per_address {
            of_address.map(|(number, _)| *number).next()
        } else if open.going_on.len() >= self.limits.handshakes {
            open.going_on.keys().next().copied()
        } else {
            None
        };
        if let Some((_, displaced)) = oldest.and_then(|oldest| open.going_on.remove(&oldest)) {
            displaced.cancel();
        }
        let number = open.next;
        open.next = open.next.saturating_add(1);
        open.going_on.insert(number, (address, given_up.clone()));
        drop(open);
        Handshake { all: Arc::clone(self), number, given_up }
    }
}

/// What became of a handshake.
enum Shaken {
    Known(BoxIo, Caller),
    Failed(io::Error),
    Slow,
    Displaced,
}

async fn shake(handshake: &Handshake, identity: &Identity, io: BoxIo) -> Shaken {
    tokio::select! {
        biased;
        () = handshake.given_up.cancelled() => Shaken::Displaced,
        shaken = timeout(handshake.all.limits.handshake, identity.accept(io)) => match shaken {
            Ok(Ok((io, caller))) => Shaken::Known(io, caller),
            Ok(Err(error)) => Shaken::Failed(error),
            Err(_) => Shaken::Slow,
        },
    }
}

/// Accepts connections over TLS; one that fails to shake hands costs the others nothing.
pub fn accepting(
    accept: impl Fn() -> Pin<Box<dyn Future<Output = io::Result<Incoming>> + Send>> + Send + 'static,
    identity: Arc<Identity>,
    limits: AcceptLimits,
) -> impl Stream<Item = (BoxIo, Caller)> + Send + 'static {
    let (sender, receiver) = mpsc::channel(ACCEPTED_WAITING_MAX);
    let all = Arc::new(Handshakes { limits, open: Mutex::default() });
    let refusals = Arc::new(Refusals::new());
    let accepting = async move {
        let mut handshakes = tokio::task::JoinSet::new();
        loop {
            let io = tokio::select! {
                io = accept() => io,
                () = sender.closed() => return,
            };
            while handshakes.try_join_next().is_some() {}
            let (io, address) = match io {
                Ok(accepted) => accepted,
                Err(error) => {
                    refusals.note("this machine", "a connection could not be accepted", &error);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let handshake = all.begin(address);
            let (identity, sender, refusals) = (Arc::clone(&identity), sender.clone(), Arc::clone(&refusals));
            handshakes.spawn(async move {
                let shaken = shake(&handshake, &identity, io).await;
                let from = address.to_string();
                match shaken {
                    // It counts until it is taken: what waits to be served is bounded too.
                    Shaken::Known(io, caller) => drop(sender.send((io, caller)).await),
                    Shaken::Failed(error) => refusals.note(&from, "a connection did not shake hands", &error),
                    Shaken::Slow => {
                        let what = format!("nothing within {} ms (limits.handshake_timeout_ms)", ms(limits.handshake));
                        refusals.note(&from, "a connection did not shake hands", &what);
                    }
                    Shaken::Displaced => {
                        let what = format!(
                            "newer ones took its place: {} at once from one address (limits.handshakes_per_address), {} in \
                             all (limits.handshakes)",
                            limits.handshakes_per_address, limits.handshakes
                        );
                        refusals.note(&from, "a connection did not shake hands", &what);
                    }
                }
                drop(handshake);
            });
        }
    };
    driven(accepting, ReceiverStream::new(receiver))
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Runs a task as long as its stream is read.
fn driven<T: Send + 'static>(
    task: impl Future<Output = ()> + Send + 'static,
    stream: impl Stream<Item = T> + Send + Unpin + 'static,
) -> impl Stream<Item = T> + Send + 'static {
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(task);
    // The set aborts its task when the stream is dropped.
    futures_util::stream::unfold((stream, tasks), |(mut stream, tasks)| async move {
        stream.next().await.map(|item| (item, (stream, tasks)))
    })
}

/// The connections of a TCP listener, each with its caller, within the limits that hold where nothing else is said.
pub fn over_tls(
    listener: TcpListener,
    identity: Arc<Identity>,
) -> impl Stream<Item = (BoxIo, Caller)> + Send + 'static {
    over_tls_within(listener, identity, AcceptLimits::default())
}

/// The connections of a TCP listener, each with its caller.
pub fn over_tls_within(
    listener: TcpListener,
    identity: Arc<Identity>,
    limits: AcceptLimits,
) -> impl Stream<Item = (BoxIo, Caller)> + Send + 'static {
    let listener = Arc::new(listener);
    accepting(
        move || {
            let listener = Arc::clone(&listener);
            Box::pin(async move {
                let (stream, from) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Box::new(stream) as BoxIo, whole_network(from.ip())))
            })
        },
        identity,
        limits,
    )
}

/// The address that is counted: of IPv6 the network, because one machine has 2^64 addresses in it.
fn whole_network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => six.to_ipv4_mapped().map_or_else(
            || {
                let network = u128::from(six) & (u128::MAX << 64);
                IpAddr::V6(network.into())
            },
            |four: Ipv4Addr| IpAddr::V4(four),
        ),
    }
}

/// The connections of the node's own socket.
pub fn over_socket(listener: UnixListener) -> impl Stream<Item = (BoxIo, Caller)> + Send + 'static {
    futures_util::stream::unfold(listener, |listener| async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return Some(((Box::new(stream) as BoxIo, Caller::Socket), listener)),
                Err(error) => {
                    tracing::warn!(%error, "a local connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshakes(all: usize, per_address: usize) -> Arc<Handshakes> {
        let limits = AcceptLimits { handshakes: all, handshakes_per_address: per_address, ..AcceptLimits::default() };
        Arc::new(Handshakes { limits, open: Mutex::default() })
    }

    #[test]
    fn the_oldest_handshake_of_an_address_ends_for_its_newest_and_no_other_address_pays() {
        let all = handshakes(100, 3);
        let [loud, quiet] = ["10.0.0.1", "10.0.0.2"].map(|it| it.parse::<IpAddr>().unwrap());
        let first = all.begin(quiet);
        let loud: Vec<Handshake> = (0..50).map(|_| all.begin(loud)).collect();
        assert!(!first.given_up.is_cancelled());
        let open: Vec<bool> = loud.iter().map(|it| !it.given_up.is_cancelled()).collect();
        assert_eq!(open.iter().filter(|open| **open).count(), 3);
        assert_eq!(open[47..], [true; 3]);
        drop(loud);
        assert_eq!(all.lock().going_on.len(), 1, "a handshake that is over counts no more");
    }

    #[test]
    fn the_oldest_handshake_of_all_ends_where_too_many_addresses_shake_hands() {
        let all = handshakes(10, 3);
        let addresses = (0..40_u8).map(|last| IpAddr::from([10, 0, 0, last]));
        let open: Vec<Handshake> = addresses.map(|address| all.begin(address)).collect();
        assert_eq!(open.iter().filter(|it| !it.given_up.is_cancelled()).count(), 10);
        assert!(!open[39].given_up.is_cancelled());
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one() {
        let [a, b, c] =
            ["2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"].map(|it| whole_network(it.parse().unwrap()));
        assert_eq!(a, b);
        assert_ne!(a, c);
        assert_eq!(whole_network("::ffff:10.0.0.1".parse().unwrap()), IpAddr::from([10, 0, 0, 1]));
    }
}
