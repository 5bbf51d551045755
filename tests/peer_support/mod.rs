//! What the tests of peers share: nodes in one process, over whatever network, with policies made in place.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop")]
#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use cantrip_runtime::adapters::peer::{
    BoxIo, ConnectionLimits, GuestLine, Hosting, Identity, NodeServer, PeerLimits, PeerNodes, Terms, Way,
    make_authority, make_certificate,
};
use cantrip_runtime::adapters::store::NodeKey;
use cantrip_runtime::domain::caller::Caller;
use cantrip_runtime::domain::cantrip::{Folding, Identity as CantripIdentity};
use cantrip_runtime::domain::circle::RuntimeGate;
use cantrip_runtime::domain::ids::{EntityId, EntryId, LoomId, NodeAddress, NodeName, WriterKey};
use cantrip_runtime::domain::loom::{Body, Entry, Head, Minted, Sealed};
use cantrip_runtime::domain::members::{Admitted, Nonce, Principal, ProvedEntry, Right, Scope};
use cantrip_runtime::domain::model::Sampling;
use cantrip_runtime::domain::model::{Message, ModelError, Question, RawAnswer, RawCall, Usage};
use cantrip_runtime::domain::remote::{
    CantripOrder, Ceiling, Credentials, GateOrder, Granted, GrantedGate, ModelOrder, Onward, Order, Refusal,
};
use cantrip_runtime::driver::{Build, CallerGate, CallerLlm, Casts, Copies, HostLimits, Line, RemoteCantrip, Slots};
use cantrip_runtime::ports::{
    BoxFuture, Clock, Guest, Home, Llm, LoomStore, MediumFactory, PeerError, Peers, Pieces, RemoteEnd,
};
use cantrip_runtime::{
    Cantrip, Exposure, FunctionGate, Gate, GateError, GateName, GateSpec, NoMedia, Reach, Runtime, Wards, builtin,
};
use futures_util::Stream;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

/// A model that says what the first intent tells it: a JSON list of responses, one a turn, such as
/// `[{"call": "echo", "args": {"text": "a"}}, {"wait_ms": 50, "done": 7}]`. It keeps nothing (LLM-1), so that a host which
/// starts again goes on as it would have.
#[derive(Debug, Clone)]
pub(crate) struct Told(pub(crate) Arc<dyn Clock>);

impl Llm for Told {
    fn name(&self) -> &'static str {
        "told"
    }

    fn ask<'a>(&'a self, question: &'a Question, _: &'a dyn Pieces) -> BoxFuture<'a, Result<RawAnswer, ModelError>> {
        Box::pin(async move {
            let mut script: Vec<Value> = Vec::new();
            let mut said = 0;
            for message in &question.messages {
                match &**message {
                    Message::User(text) => script.extend(serde_json::from_str::<Vec<Value>>(text).unwrap_or_default()),
                    Message::Assistant { .. } => said += 1,
                    Message::System(_) | Message::Tool { .. } => {}
                }
            }
            let Some(next) = script.get(said) else { return Err(ModelError::ScriptExhausted { used: script.len() }) };
            if let Some(ms) = next["wait_ms"].as_u64() {
                self.0.sleep(Duration::from_millis(ms)).await;
            }
            let call =
                |gate: &str, arguments: Value| RawCall { id: None, gate: gate.to_owned(), arguments: Ok(arguments) };
            let calls = match (&next["call"], &next["done"], &next["code"]) {
                (Value::String(gate), _, _) => vec![call(gate, next["args"].clone())],
                (_, _, Value::String(code)) => vec![call("javascript", json!({ "code": code }))],
                (_, answer, _) => vec![call("done", json!({ "answer": answer }))],
            };
            let usage = Usage { prompt_tokens: 10, completion_tokens: 5, cached_tokens: 0 };
            let (content, thinking, provider_results) = (None, None, Vec::new());
            Ok(RawAnswer { content, thinking, calls, provider_results, usage, model: "told".to_owned() })
        })
    }
}

/// Counts what was really done, by what was to be done.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deeds(Arc<Mutex<BTreeMap<String, u64>>>);

impl Deeds {
    pub(crate) fn count(&self, deed: &str) -> u64 {
        self.0.lock().unwrap().get(deed).copied().unwrap_or(0)
    }

    pub(crate) fn all(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap().clone()
    }

    /// A gate that does something that must not be done twice.
    pub(crate) fn gate(&self, name: &str) -> Arc<dyn Gate> {
        let spec = GateSpec {
            name: GateName::parse(name).unwrap(),
            description: "Does a deed.".to_owned(),
            parameters: json!({"type": "object", "properties": {"deed": {"type": "string"}}, "required": ["deed"]}),
            positional: vec!["deed".to_owned()],
            reach: Reach::Write,
            exposure: Exposure::default(),
            ephemeral: false,
        };
        let deeds = self.clone();
        Arc::new(FunctionGate::new(spec, move |arguments: Value| {
            let deeds = deeds.clone();
            async move {
                let deed = arguments["deed"].as_str().unwrap_or_default().to_owned();
                *deeds.0.lock().unwrap().entry(deed.clone()).or_default() += 1;
                Ok(json!(format!("done: {deed}")))
            }
        }))
    }
}

/// The certificates of one cluster.
pub(crate) struct Cluster {
    authority: String,
    key: String,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let (authority, key) = make_authority().unwrap();
        Self { authority, key }
    }

    /// The authority's certificate and its key.
    pub(crate) fn pems(&self) -> (String, String) {
        (self.authority.clone(), self.key.clone())
    }

    pub(crate) fn identity(&self, name: &str) -> Arc<Identity> {
        let (certificate, key) = make_certificate(&self.key, &name.parse().unwrap()).unwrap();
        Arc::new(Identity::from_pem(&self.authority, &certificate, &key).unwrap())
    }
}

/// A node and where it is.
pub(crate) fn at(name: &str, address: &str) -> NodeAddress {
    NodeAddress::new(name.parse().unwrap(), address).unwrap()
}

/// What a node grants each of its peers.
pub(crate) fn ceiling(peer: &str) -> Ceiling {
    Ceiling {
        rule: format!("peers.{peer}"),
        cast: true,
        deploy: true,
        wards: Wards { max_turns: Some(50), ..Wards::default() },
        gates: ["echo", "deed", "call_entity", "call_entity_batch"].map(str::to_owned).into(),
        gates_at_caller: true,
        nodes: Onward::All,
        models: BTreeSet::from(["told".to_owned()]),
        default_model: Some("told".to_owned()),
        model_at_caller: true,
        guests: None,
        refuse_origins: BTreeMap::new(),
    }
}

/// A node's policies.
#[derive(Debug)]
pub(crate) struct TestHost {
    pub(crate) peers: BTreeMap<NodeName, (NodeAddress, Terms)>,
    pub(crate) gates: BTreeMap<String, Arc<dyn Gate>>,
    pub(crate) model: Arc<dyn Llm>,
    pub(crate) media: Arc<dyn MediumFactory>,
    /// What is meant by any guest.
    pub(crate) guest: Option<Arc<dyn Guest>>,
    pub(crate) copies: Option<Arc<Copies>>,
}

impl TestHost {
    pub(crate) fn new(peers: &[NodeAddress], gates: Vec<Arc<dyn Gate>>, model: Arc<dyn Llm>) -> Self {
        let terms = |peer: &NodeAddress| Terms {
            ceiling: Arc::new(ceiling(peer.name().as_str())),
            slots: Slots::new(64, 256),
            uploads: None,
            may_relay: false,
        };
        let all = gates.into_iter().chain([builtin::echo(), builtin::done()]);
        Self {
            peers: peers.iter().map(|peer| (peer.name().clone(), (peer.clone(), terms(peer)))).collect(),
            gates: all.map(|gate| (gate.spec().name.to_string(), gate)).collect(),
            model,
            media: Arc::new(NoMedia),
            guest: None,
            copies: None,
        }
    }

    pub(crate) fn change(&mut self, peer: &str, change: impl FnOnce(&mut Terms, &mut Ceiling)) {
        let (_, terms) = self.peers.get_mut(peer).unwrap();
        let mut ceiling = (*terms.ceiling).clone();
        change(terms, &mut ceiling);
        terms.ceiling = Arc::new(ceiling);
    }
}

impl Hosting for TestHost {
    fn terms(&self, caller: &Caller) -> Option<Terms> {
        self.peers.get(caller.peer()?).map(|(_, terms)| terms.clone())
    }

    fn known_as(&self, caller: &Caller) -> String {
        let listed = caller.peer().and_then(|name| self.peers.get(name));
        listed.map_or_else(|| caller.to_string(), |(address, _)| address.to_string())
    }

    fn build(&self, _: &Terms, order: &Order, granted: &Granted) -> Result<Build, Refusal> {
        let (cantrip, granted) = (order.cantrip.clone(), granted.gates.clone());
        let (gates, model, media) = (self.gates.clone(), Arc::clone(&self.model), Arc::clone(&self.media));
        let guest = self.guest.clone().filter(|_| cantrip.guest.is_some());
        Ok(Box::new(move |line: Arc<Line>| {
            Box::pin(async move {
                let mut builder = Cantrip::builder().wards(&cantrip.wards).folding(cantrip.folding);
                builder = match cantrip.model {
                    ModelOrder::AtHost(_) => builder.llm(model),
                    ModelOrder::AtCaller { name, context_tokens, can_require_calls } => {
                        let line = Arc::clone(&line);
                        builder.llm(Arc::new(CallerLlm { name, context_tokens, can_require_calls, line }))
                    }
                };
                for gate in granted {
                    builder = match gate {
                        GrantedGate::Caller(spec) => {
                            builder.gate_at_caller(Arc::new(CallerGate::new(*spec, Arc::clone(&line))))
                        }
                        GrantedGate::Host(name) => builder.gate(Arc::clone(&gates[&name])),
                        GrantedGate::Runtime(RuntimeGate::Done) => builder.gate(builtin::done()),
                        GrantedGate::Runtime(gate) => builder.hold(gate.as_str()),
                    };
                }
                if let Some(guest) = guest {
                    builder = builder.guest(guest);
                }
                if let Some(medium) = cantrip.medium {
                    builder = builder.medium(medium);
                }
                builder.build(&*media).map_err(|error| Refusal::new("cantrip", GateError::Invalid(error.to_string())))
            })
        }))
    }

    fn guests(&self, _: &Caller) -> Vec<GuestLine> {
        Vec::new()
    }

    fn peers(&self) -> Vec<NodeAddress> {
        self.peers.values().map(|(address, _)| address.clone()).collect()
    }

    fn media(&self) -> Vec<String> {
        self.media.names()
    }

    fn go_on_with(&self, _: &Casts, _: LoomId, _: EntityId) -> Result<(), String> {
        Err("a test goes on with nothing".to_owned())
    }

    fn copies(&self) -> Option<Arc<Copies>> {
        self.copies.clone()
    }

    fn way_to_peers(&self) -> Option<Arc<PeerNodes>> {
        None
    }
}

/// The key of callers whose orders a test writes by hand.
pub(crate) fn hand() -> NodeKey {
    NodeKey::from_secret(&[7; 32])
}

/// A loom and an entity of theirs, and what both ids commit to.
pub(crate) fn minted_by_hand(unix_ms: u64, nonce: [u8; 16]) -> (LoomId, EntityId, Minted) {
    let minted = Minted { by: hand().writer(), nonce: Nonce::from_bytes(nonce) };
    let entity = EntityId::mint(unix_ms, &minted.by, &minted.nonce);
    (LoomId::mint(unix_ms, &minted.by, &minted.nonce, None), entity, minted)
}

/// The entries of a hand's log that show that somebody was admitted, each with its word for it.
pub(crate) fn proofs_by_hand(loom: LoomId, nonce: Nonce, admitted: Admitted) -> Vec<ProvedEntry> {
    log_by_hand(loom, nonce, vec![admitted])
}

/// The same for several in one loom.
pub(crate) fn log_by_hand(loom: LoomId, nonce: Nonce, admitted: Vec<Admitted>) -> Vec<ProvedEntry> {
    bodies_by_hand(loom, nonce, admitted.into_iter().map(|admitted| Body::Admitted(Box::new(admitted))).collect())
}

/// The same for whatever is said of the loom.
pub(crate) fn bodies_by_hand(loom: LoomId, nonce: Nonce, bodies: Vec<Body>) -> Vec<ProvedEntry> {
    let writer = hand().writer();
    let bodies = std::iter::once(Body::Founded { nonce, member: None }).chain(bodies);
    let sealed = (1..).zip(bodies).map(|(sequence, body)| {
        Sealed::new(Entry::new(loom, (writer, sequence), 1, None, None, body), Vec::new()).unwrap()
    });
    let sealed: Vec<Sealed> = sealed.collect();
    let ids: Vec<EntryId> = sealed.iter().map(|sealed| sealed.id).collect();
    let end = ids.iter().fold(Head::default(), |head, id| head.after(id));
    let signature = hand().sign(loom, end).signature;
    let mut before = Head::default();
    let proof = |(at, sealed): (usize, &Sealed)| {
        let proof = ProvedEntry { before, entry: sealed.bytes.clone(), behind: ids[at + 1..].to_vec(), signature };
        before = before.after(&sealed.id);
        proof
    };
    sealed.iter().enumerate().map(proof).collect()
}

/// The admission of a host for a child of a hand's.
pub(crate) fn host_admitted(entity: EntityId, minted: Minted, opener: WriterKey) -> Admitted {
    Admitted {
        principal: Principal::Key(opener),
        rights: std::iter::once(Right::Write).collect(),
        scope: Some(Scope { entity, minted, opener, bytes_max: u64::MAX }),
        again: Vec::new(),
        by: None,
        note: None,
    }
}

/// Has an order of a loom and an entity that were [minted by hand](minted_by_hand) show that a host was admitted for it.
pub(crate) fn shown(order: Order, host: WriterKey) -> Order {
    let minted = order.minted.unwrap();
    let proofs = proofs_by_hand(order.loom, minted.nonce, host_admitted(order.entity, minted, host));
    Order { credentials: Arc::new(Credentials { proofs, attestations: Vec::new() }), ..order }
}

/// Has a node run an order that shows that it was admitted for it.
pub(crate) async fn cast_shown(
    peers: &PeerNodes,
    node: &str,
    order: &Order,
    home: &dyn Home,
) -> Result<RemoteEnd, PeerError> {
    let host = peers.identify(node, false).await?;
    peers.cast(node, &shown(order.clone(), host.key), home).await
}

/// What a cast elsewhere is made of: these gates at the host, the host's model.
pub(crate) fn remote(gates: &[&str], wards: Wards) -> RemoteCantrip {
    let gate = |name: &&str| GateOrder { name: (*name).to_owned(), at_caller: None };
    let done = GateOrder { name: "done".to_owned(), at_caller: None };
    let order = CantripOrder {
        identity: CantripIdentity::new(None, Sampling::default(), None),
        medium: None,
        guest: None,
        gates: gates.iter().map(gate).chain([done]).collect(),
        wards,
        folding: Folding::default(),
        model: ModelOrder::AtHost(None),
    };
    RemoteCantrip { order, gates: Vec::new(), llm: None, guest: None }
}

pub(crate) fn turns(max: u64) -> Wards {
    Wards { max_turns: Some(max), ..Wards::default() }
}

/// Short enough for a test, long enough for a busy machine.
pub(crate) fn limits() -> PeerLimits {
    PeerLimits { connect: Duration::from_secs(5), rpc: Duration::from_secs(10), lease: Duration::from_secs(20) }
}

/// A node that serves until it is dropped.
pub(crate) struct Node {
    pub(crate) address: NodeAddress,
    pub(crate) runtime: Runtime,
    pub(crate) store: Arc<dyn LoomStore>,
    pub(crate) peers: Arc<PeerNodes>,
    pub(crate) casts: Casts,
    pub(crate) stop: CancellationToken,
    serving: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
    }
}

/// The parts of a node.
pub(crate) struct Parts {
    pub(crate) address: NodeAddress,
    pub(crate) store: Arc<dyn LoomStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) media: Arc<dyn MediumFactory>,
    pub(crate) way: Way,
    pub(crate) limits: PeerLimits,
    pub(crate) host_limits: HostLimits,
    pub(crate) others: Vec<NodeAddress>,
    pub(crate) host: TestHost,
}

impl Node {
    /// Starts a node on these connections.
    pub(crate) fn start(parts: Parts, connections: impl Stream<Item = (BoxIo, Caller)> + Send + 'static) -> Self {
        Self::start_within(parts, connections, ConnectionLimits::default())
    }

    /// The same, with other bounds of its connections.
    pub(crate) fn start_within(
        parts: Parts,
        connections: impl Stream<Item = (BoxIo, Caller)> + Send + 'static,
        bounds: ConnectionLimits,
    ) -> Self {
        let peers = PeerNodes::new(parts.others, parts.way, parts.limits);
        let whole = parts.address.to_string();
        let runtime = Runtime::new(Arc::clone(&parts.store), parts.media, parts.clock, whole);
        let runtime = runtime.with_peers(Arc::clone(&peers) as _);
        let casts = Casts::new(runtime.clone(), parts.host_limits);
        let server = NodeServer::new(casts.clone(), Arc::new(parts.host), parts.limits.rpc).within(bounds);
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let serving = tokio::spawn(async move {
            if let Err(error) = server.serve(connections, stopping, Duration::from_secs(5)).await {
                panic!("{error}");
            }
        });
        Self { address: parts.address, runtime, store: parts.store, peers, casts, stop, serving: Some(serving) }
    }

    /// Waits until it has shut down.
    pub(crate) async fn stopped(mut self) {
        self.stop.cancel();
        if let Some(serving) = self.serving.take() {
            serving.await.unwrap();
        }
    }
}

/// Counts up, for keys of stores.
pub(crate) fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A connection of a server that is none of ours.
pub(crate) struct Plain(pub(crate) BoxIo);

impl tonic::transport::server::Connected for Plain {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(ctx, buffer)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(mut self: Pin<&mut Self>, ctx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(ctx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(ctx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(ctx)
    }
}
