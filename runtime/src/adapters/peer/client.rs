//! The node as a client of its peers: connections, and episodes that outlive them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cantrip_gates::{GateError, suggest};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};

use super::credentials::{self, Seen};
use super::identity::Identity;
use super::near::{Broken, Near};
use super::net::{BoxIo, Net};
use super::protocol::{self, Client};
use super::wire as v1;
use crate::domain::ids::{LoomId, NodeAddress, NodeName};
use crate::domain::limits::{CONNECT_MS_DEFAULT, LEASE_MS_DEFAULT, MESSAGE_BYTES_MAX, RPC_MS_DEFAULT};
use crate::domain::place::CallPlace;
use crate::domain::remote::{HostIdentity, Order, Refusal};
use crate::ports::{BoxFuture, CONNECT_LIMIT, Home, PeerError, Peers, RemoteEnd};

/// Between two tries to connect: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerLimits {
    /// A connection with its handshake.
    pub connect: Duration,
    /// A single answer: the beginning of a cast, and the silence in one.
    pub rpc: Duration,
    /// How long a broken connection is tried again, and how long the host runs on alone.
    pub lease: Duration,
}

impl Default for PeerLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_millis(CONNECT_MS_DEFAULT),
            rpc: Duration::from_millis(RPC_MS_DEFAULT),
            lease: Duration::from_millis(LEASE_MS_DEFAULT),
        }
    }
}

/// How peers are reached.
#[derive(Debug, Clone)]
pub enum Way {
    /// Over a network, as this node.
    Tls {
        /// The network.
        net: Arc<dyn Net>,
        /// Who this node is.
        identity: Arc<Identity>,
    },
    /// Through the socket of a node of this machine, which passes on what is not for itself.
    Socket(PathBuf),
}

/// The peers of a node.
#[derive(Debug)]
pub struct PeerNodes {
    peers: Vec<NodeAddress>,
    way: Way,
    limits: PeerLimits,
    channels: Mutex<HashMap<NodeName, Channel>>,
    /// As whom peers write, for as long as their connections last.
    hosts: Mutex<HashMap<NodeName, Arc<HostIdentity>>>,
}

impl PeerNodes {
    /// These peers, reached this way.
    pub fn new(peers: Vec<NodeAddress>, way: Way, limits: PeerLimits) -> Arc<Self> {
        Arc::new(Self { peers, way, limits, channels: Mutex::default(), hosts: Mutex::default() })
    }

    /// The bounds.
    pub const fn limits(&self) -> PeerLimits {
        self.limits
    }

    /// What a node has to be told of where something is to go: it is there, or has to pass it on.
    pub(super) fn passed_on_to(&self, peer: &NodeAddress) -> String {
        match self.way {
            Way::Tls { .. } => String::new(),
            Way::Socket(_) => peer.to_string(),
        }
    }

    /// A peer by its name, or by its whole name.
    pub(super) fn find(&self, node: &str) -> Result<&NodeAddress, PeerError> {
        let found = self.peers.iter().find(|peer| peer.is_meant_by(node));
        found.ok_or_else(|| {
            let known: Vec<String> = self.peers.iter().map(NodeAddress::to_string).collect();
            PeerError::Unknown {
                node: node.to_owned(),
                hint: suggest::hint(node, known.iter().map(String::as_str)),
                known: if known.is_empty() { "no other".to_owned() } else { known.join(", ") },
            }
        })
    }

    async fn dial(way: Way, peer: NodeAddress) -> std::io::Result<BoxIo> {
        match way {
            Way::Tls { net, identity } => {
                let io = net.dial(peer.address()).await?;
                identity.connect(peer.name(), io).await
            }
            Way::Socket(path) => Ok(Box::new(UnixStream::connect(&path).await?)),
        }
    }

    /// A connection to a peer: the one that there is, or a new one.
    pub(super) async fn channel(&self, peer: &NodeAddress) -> Result<Channel, PeerError> {
        let known = self.channels.lock().unwrap_or_else(PoisonError::into_inner).get(peer.name()).cloned();
        if let Some(channel) = known {
            return Ok(channel);
        }
        let unreachable = |what: String| PeerError::Unreachable { node: peer.to_string(), what };
        let endpoint = Endpoint::from_static("http://node.cantrip")
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(10))
            .initial_stream_window_size(1024 * 1024)
            .initial_connection_window_size(4 * 1024 * 1024);
        let (way, to) = (self.way.clone(), peer.clone());
        let connector = tower::service_fn(move |_: Uri| {
            let (way, to) = (way.clone(), to.clone());
            async move { Self::dial(way, to).await.map(TokioIo::new) }
        });
        match timeout(self.limits.connect, endpoint.connect_with_connector(connector)).await {
            Ok(Ok(channel)) => {
                let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
                channels.insert(peer.name().clone(), channel.clone());
                Ok(channel)
            }
            Ok(Err(error)) => Err(unreachable(chain(&error))),
            Err(_) => Err(PeerError::NoAnswer {
                node: peer.to_string(),
                limit: CONNECT_LIMIT,
                limit_ms: ms(self.limits.connect),
            }),
        }
    }

    /// Whatever goes wrong on a connection, the next call makes a new one.
    pub(super) fn forget(&self, peer: &NodeAddress) {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).remove(peer.name());
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).remove(peer.name());
    }

    pub(super) async fn client(&self, peer: &NodeAddress) -> Result<Client, PeerError> {
        let client = protocol::client(self.channel(peer).await?);
        Ok(client.max_decoding_message_size(MESSAGE_BYTES_MAX * 2).max_encoding_message_size(MESSAGE_BYTES_MAX * 2))
    }

    /// One answer within `rpc_timeout`.
    pub(super) async fn answer<T>(
        &self,
        peer: &NodeAddress,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, PeerError> {
        match timeout(self.limits.rpc, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => {
                self.forget(peer);
                Err(failed(peer, &status))
            }
            Err(_) => {
                self.forget(peer);
                Err(self.no_answer(peer))
            }
        }
    }

    pub(super) fn no_answer(&self, peer: &NodeAddress) -> PeerError {
        PeerError::NoAnswer { node: peer.to_string(), limit: "rpc_timeout_ms", limit_ms: ms(self.limits.rpc) }
    }

    /// Who a peer says it is, how busy it is, and what it grants.
    ///
    /// # Errors
    /// A peer that is not known, cannot be reached, or refuses.
    pub async fn describe(&self, node: &str) -> Result<v1::DescribeResponse, PeerError> {
        let peer = self.find(node)?;
        let mut client = self.client(peer).await?;
        self.answer(peer, client.describe(v1::DescribeRequest {})).await
    }

    /// As whom a peer writes, as far as what it says was checked.
    async fn identity(&self, peer: &NodeAddress, anew: bool) -> Result<Arc<HostIdentity>, PeerError> {
        let known = self.hosts.lock().unwrap_or_else(PoisonError::into_inner).get(peer.name()).cloned();
        if let Some(known) = known.filter(|_| !anew) {
            return Ok(known);
        }
        let mut client = self.client(peer).await?;
        let request = v1::IdentifyRequest { node: self.passed_on_to(peer) };
        let told = self.answer(peer, client.identify(request)).await?;
        let seen = match &self.way {
            Way::Tls { identity, .. } => Seen::of(identity),
            Way::Socket(_) => Seen::Passed,
        };
        // Checking a chain of certificates takes some hundred microseconds, once for each connection.
        let host = credentials::identity(&told, peer, &seen);
        let host = Arc::new(host.map_err(|what| PeerError::Broken { node: peer.to_string(), what })?);
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).insert(peer.name().clone(), Arc::clone(&host));
        Ok(host)
    }

    async fn run(&self, peer: &NodeAddress, order: &Order, home: &dyn Home) -> Result<RemoteEnd, PeerError> {
        let mut near = Near::new(self, peer, order, home);
        let mut wait = RETRY.0;
        loop {
            let was_lost = near.lost_since.is_some();
            let broken = match near.attempt().await {
                Ok(end) => return Ok(end),
                Err(Broken::Final(error)) => return Err(error),
                Err(broken) => broken,
            };
            self.forget(peer);
            let what = match broken {
                Broken::Connection(what) if near.is_accepted => what,
                Broken::Connection(what) => return Err(PeerError::Unreachable { node: peer.to_string(), what }),
                Broken::Silence | Broken::Final(_) if near.is_accepted => {
                    format!("nothing was heard for {} ms", ms(self.limits.rpc))
                }
                Broken::Silence | Broken::Final(_) => return Err(self.no_answer(peer)),
            };
            if !was_lost || near.lost_since.is_none() {
                wait = RETRY.0;
            }
            let since = *near.lost_since.get_or_insert_with(Instant::now);
            let left = self.limits.lease.saturating_sub(since.elapsed());
            if left.is_zero() || near.is_given_up() {
                return Err(PeerError::Lost { node: peer.to_string(), lease_ms: ms(self.limits.lease), what });
            }
            tracing::info!(node = %peer, what, "the connection to a peer broke; it is made again");
            sleep(wait.min(left)).await;
            wait = (wait * 2).min(RETRY.1);
        }
    }

    async fn least_busy(&self, nodes: &[NodeAddress], order: &Order) -> Result<NodeAddress, PeerError> {
        let looks = nodes.iter().map(|node| async move { (node, self.describe(node.name().as_str()).await) });
        let seen = futures_util::future::join_all(looks).await;
        let mut best: Option<(u64, &NodeAddress)> = None;
        let mut refusals = Vec::new();
        for (node, described) in seen {
            let described = match described {
                Ok(described) => described,
                Err(error) => {
                    refusals.push(error.to_string());
                    continue;
                }
            };
            if let Some(lacks) = lacks(&described, order) {
                refusals.push(format!("{node} {lacks}"));
                continue;
            }
            let busy = u64::from(described.casts_running.saturating_add(described.casts_waiting));
            let load = busy.saturating_mul(1_000) / u64::from(described.casts_max.max(1));
            if best.is_none_or(|(least, _)| load < least) {
                best = Some((load, node));
            }
        }
        best.map(|(_, node)| node.clone()).ok_or_else(|| PeerError::Refused {
            node: CallPlace::Nodes(nodes.to_vec()).to_string(),
            refusal: Refusal::new("node", GateError::NotFound(format!("none can run it: {}", refusals.join("; ")))),
        })
    }
}

/// What a node does not have of what an order needs.
fn lacks(node: &v1::DescribeResponse, order: &Order) -> Option<String> {
    if !node.may_cast {
        return Some("does not let this node cast".to_owned());
    }
    let gates = order.cantrip.gates.iter().filter(|gate| gate.at_caller.is_none());
    for gate in gates {
        if !node.gates.contains(&gate.name) {
            return Some(format!("does not grant the gate `{}`", gate.name));
        }
    }
    match &order.cantrip.medium {
        Some(medium) if medium != "conversation" && order.cantrip.guest.is_none() && !node.media.contains(medium) => {
            Some(format!("has no medium `{medium}`"))
        }
        _ => None,
    }
}

/// An error with its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    let mut said: Vec<String> = Vec::new();
    for text in std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)) {
        // The layers of a transport repeat each other.
        if text != "transport error" && said.last() != Some(&text) {
            said.push(text);
        }
    }
    said.join(": ")
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What a status means. `Unreachable` says that the connection broke: worth another try where the host had accepted.
pub(super) fn failed(peer: &NodeAddress, status: &Status) -> PeerError {
    let node = peer.to_string();
    let refused = |error: GateError| PeerError::Refused { node: node.clone(), refusal: Refusal::new("peers", error) };
    let text = status.message().to_owned();
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated => refused(GateError::Denied(text)),
        Code::InvalidArgument => refused(GateError::Invalid(text)),
        Code::ResourceExhausted => refused(GateError::Exhausted(text)),
        // Another protocol: it would be another the next time.
        Code::FailedPrecondition => refused(GateError::Failed(text)),
        Code::Unimplemented => PeerError::Broken {
            node,
            what: format!("it does not speak cantrip.v1, as this version ({}) does", env!("CARGO_PKG_VERSION")),
        },
        // A message that is larger than what is taken: it would be as large the next time.
        Code::OutOfRange => PeerError::Broken { node, what: text },
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => {
            // What a node says itself is said as it is; of a broken connection the causes say more.
            let is_said = std::error::Error::source(status).is_none() && !text.is_empty();
            PeerError::Unreachable { node, what: if is_said { text } else { chain(status) } }
        }
    }
}

impl Peers for PeerNodes {
    fn known(&self) -> Vec<NodeAddress> {
        self.peers.clone()
    }

    fn choose<'a>(
        &'a self,
        nodes: &'a [NodeAddress],
        order: &'a Order,
    ) -> BoxFuture<'a, Result<NodeAddress, PeerError>> {
        Box::pin(self.least_busy(nodes, order))
    }

    fn identify<'a>(&'a self, node: &'a str, anew: bool) -> BoxFuture<'a, Result<Arc<HostIdentity>, PeerError>> {
        Box::pin(async move { self.identity(self.find(node)?, anew).await })
    }

    fn vouches<'a>(&'a self, node: &'a NodeName, loom: LoomId, about: &'a NodeName) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let Ok(peer) = self.find(node.as_str()) else { return false };
            let Ok(mut client) = self.client(peer).await else { return false };
            let request = v1::TakesPartRequest { loom: loom.to_string(), node: about.to_string() };
            self.answer(peer, client.takes_part(request)).await.is_ok_and(|answer| answer.takes_part)
        })
    }

    fn cast<'a>(
        &'a self,
        node: &'a str,
        order: &'a Order,
        home: &'a dyn Home,
    ) -> BoxFuture<'a, Result<RemoteEnd, PeerError>> {
        Box::pin(async move {
            let peer = self.find(node)?;
            let run = self.run(peer, order, home);
            // The host keeps the episode's deadline; this one is for a host that does not.
            let Some(deadline) = order.deadline else { return run.await };
            let limit = deadline.saturating_add(self.limits.rpc);
            timeout(limit, run).await.unwrap_or_else(|_| {
                Err(PeerError::NoAnswer { node: peer.to_string(), limit: "deadline", limit_ms: ms(limit) })
            })
        })
    }
}
