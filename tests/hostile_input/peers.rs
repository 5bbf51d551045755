//! Peers that open, announce, repeat and hold on: each is bounded in the unit that costs, and none costs the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cantrip_runtime::adapters::peer::{
    AcceptLimits, ConnectionLimits, PROTOCOL, PeerLimits, PeerNodes, TcpNet, Way, over_tls, v1,
};
use cantrip_runtime::domain::event::Event;
use cantrip_runtime::domain::ids::{BlobId, CastId, EntityId, LoomId};
use cantrip_runtime::domain::limits::{
    HANDSHAKES_PER_ADDRESS_MAX, NEAR_QUESTION_BYTES_MAX, NEAR_QUESTIONS_MAX, NEAR_TEXTS_MAX, NEAR_UNSYNCED_BYTES_MAX,
    REFUSAL_CHARS_MAX, REFUSAL_SOURCES_MAX, REFUSED_CONNECTION_BYTES_MAX, REFUSED_CONNECTIONS_MAX,
};
use cantrip_runtime::domain::loom::{Body, CastHead, Entry, Payload, Sealed};
use cantrip_runtime::domain::model::{ModelError, Question, RawAnswer};
use cantrip_runtime::domain::remote::ByHost;
use cantrip_runtime::domain::remote::Order;
use cantrip_runtime::driver::Refusals;
use cantrip_runtime::ports::{BoxFuture, Home, HomeError, Pieces, Signal};
use cantrip_runtime::{Exposure, GateError};
use futures_util::{FutureExt, Stream, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::peer_support::{Plain, limits, minted_by_hand, number, remote, turns};
use crate::raw::{self, Keys, client, node, serve, writer};

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_keep_no_peer_out() {
    let keys = Keys::new();
    let (_node, at) = serve(&keys, AcceptLimits::default(), ConnectionLimits::default(), |_| {}).await;
    let mut silent = Vec::new();
    for _ in 0..3 * HANDSHAKES_PER_ADDRESS_MAX {
        silent.push(TcpStream::connect(&at).await.unwrap());
    }
    raw::peers(&keys, "a", &at).describe("b").await.unwrap();
    // Those that came first were ended for those that came later, the peer's among them.
    for stream in silent.iter_mut().take(2 * HANDSHAKES_PER_ADDRESS_MAX) {
        drop(stream.read(&mut [0; 1]).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_is_not_finished_is_ended() {
    let keys = Keys::new();
    let accept = AcceptLimits { handshake: Duration::from_millis(50), ..AcceptLimits::default() };
    let (_node, at) = serve(&keys, accept, ConnectionLimits::default(), |_| {}).await;
    let mut half = TcpStream::connect(&at).await.unwrap();
    // The beginning of a TLS record that never ends.
    half.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    drop(half.read_to_end(&mut Vec::new()).await);
    raw::peers(&keys, "a", &at).describe("b").await.unwrap();
}

async fn describe(channel: tonic::transport::Channel) -> Result<Response<v1::DescribeResponse>, Status> {
    client(channel).describe(v1::DescribeRequest {}).await
}

/// A call that stays open: the state of health, followed.
async fn held(channel: tonic::transport::Channel) -> Result<Streaming<tonic_health::pb::HealthCheckResponse>, Status> {
    Ok(HealthClient::new(channel).watch(HealthCheckRequest { service: String::new() }).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_counted_for_each_peer_and_the_quiet_ones_go_first() {
    let keys = Keys::new();
    let bounds = ConnectionLimits { per_peer: 3, ..ConnectionLimits::default() };
    let (_node, at) = serve(&keys, AcceptLimits::default(), bounds, |_| {}).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(keys.channel("a", &at).await);
        describe(open[open.len() - 1].clone()).await.unwrap();
    }
    // A fourth takes the place of the one that has been quiet longest.
    let fourth = keys.channel("a", &at).await;
    describe(fourth.clone()).await.unwrap();
    assert!(describe(open[0].clone()).await.is_err(), "the first has ended");
    let mut calls = Vec::new();
    for channel in [&open[1], &open[2], &fourth] {
        calls.push(held(channel.clone()).await.unwrap());
    }
    // All are at work: one more is told why it is not served.
    let refused = describe(keys.channel("a", &at).await).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(
        refused.message().contains("3 connections") && refused.message().contains("connections_per_peer"),
        "{refused}"
    );
    drop(calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_has_a_bounded_number_of_calls_open() {
    let keys = Keys::new();
    let bounds = ConnectionLimits { streams: 4, ..ConnectionLimits::default() };
    let (_node, at) = serve(&keys, AcceptLimits::default(), bounds, |_| {}).await;
    let channel = keys.channel("a", &at).await;
    let mut calls = Vec::new();
    for _ in 0..4 {
        calls.push(held(channel.clone()).await.unwrap());
    }
    let mut fifth = Box::pin(held(channel));
    assert!(fifth.as_mut().now_or_never().is_none());
    // Another connection is not held up by that.
    describe(keys.channel("a", &at).await).await.unwrap();
    assert!(fifth.as_mut().now_or_never().is_none(), "it waits for one of the four to end");
    calls.pop();
    fifth.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_a_call_is_closed() {
    let keys = Keys::new();
    let bounds = ConnectionLimits { idle: Duration::from_millis(50), ..ConnectionLimits::default() };
    let (_node, at) = serve(&keys, AcceptLimits::default(), bounds, |_| {}).await;
    let mut quiet = keys.tls("a", &at).await;
    drop(quiet.read_to_end(&mut Vec::new()).await);
    // One with a call is not, however little is said on it.
    let channel = keys.channel("a", &at).await;
    let mut call = held(channel.clone()).await.unwrap();
    call.message().await.unwrap();
    let mut other = keys.tls("a", &at).await;
    drop(other.read_to_end(&mut Vec::new()).await);
    describe(channel).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_is_not_listed_is_told_so_and_no_body_of_it_is_read() {
    let keys = Keys::new();
    let (_node, at) = serve(&keys, AcceptLimits::default(), ConnectionLimits::default(), |_| {}).await;
    let refused = describe(keys.channel("mallory", &at).await).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("`mallory` is not listed as a peer of b@"), "{refused}");
    // Bodies without end are not read: what was written into the connection was cut where its window ended.
    let (channel, written) = keys.counted("mallory", &at).await;
    let large = |_| {
        let mut client = client(channel.clone());
        async move {
            let loom = "x".repeat(7 * 1024 * 1024);
            client.verify(v1::VerifyRequest { loom, node: String::new(), client: false }).await
        }
    };
    for answer in futures_util::future::join_all((0..20).map(large)).await {
        assert!(answer.is_err());
    }
    let written = written.load(Ordering::Relaxed);
    assert!(written < 20 * REFUSED_CONNECTION_BYTES_MAX as u64, "{written} bytes were taken of 140 MiB");
    // Nor do a hundred such connections keep a peer out.
    let mut strangers = Vec::new();
    for _ in 0..4 * REFUSED_CONNECTIONS_MAX {
        strangers.push(keys.tls("mallory", &at).await);
    }
    describe(keys.channel("a", &at).await).await.unwrap();
    for mut stranger in strangers {
        drop(stranger.read_to_end(&mut Vec::new()).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_are_for_listed_peers() {
    let keys = Keys::new();
    let (_node, at) = serve(&keys, AcceptLimits::default(), ConnectionLimits::default(), |_| {}).await;
    let check = async |name: &str| {
        let mut health = HealthClient::new(keys.channel(name, &at).await);
        health.check(HealthCheckRequest { service: String::new() }).await.map(|_| ()).map_err(|status| status.code())
    };
    let reflect = async |name: &str| {
        let channel = keys.channel(name, &at).await;
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.unwrap();
        let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo".parse().unwrap();
        let codec = tonic_prost::ProstCodec::<v1::DescribeRequest, v1::DescribeRequest>::default();
        let asked = futures_util::stream::iter([v1::DescribeRequest {}]);
        client.streaming(Request::new(asked), path, codec).await.map(|_| ()).map_err(|status| status.code())
    };
    assert_eq!([check("a").await, reflect("a").await], [Ok(()), Ok(())]);
    assert_eq!([check("mallory").await, reflect("mallory").await], [Err(Code::PermissionDenied); 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_of_another_protocol_is_refused_with_both_numbers() {
    let keys = Keys::new();
    let (_node, at) = serve(&keys, AcceptLimits::default(), ConnectionLimits::default(), |_| {}).await;
    let asked = async |said: Option<&str>| {
        let mut request = Request::new(v1::DescribeRequest {});
        if let Some(said) = said {
            request.metadata_mut().insert("cantrip-protocol", said.parse().unwrap());
        }
        client(keys.channel("a", &at).await).describe(request).await
    };
    for (said, named) in
        [("1", "protocol 1 of"), ("3", "protocol 3 of"), ("later", "protocol later of"), ("", "protocol  of")]
    {
        let refused = asked(Some(said)).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        let both = refused.message().contains(named) && refused.message().contains(&format!("speaks {PROTOCOL}"));
        assert!(both, "{}", refused.message());
    }
    let refused = asked(Some(&"9".repeat(4_000))).await.unwrap_err();
    assert!(refused.message().contains("of no number") && refused.message().len() < 300, "{}", refused.message());
    // This node says its own; a client that was made from the description says none.
    asked(Some(&PROTOCOL.to_string())).await.unwrap();
    asked(None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_a_call_are_bounded() {
    let keys = Keys::new();
    let (_node, at) = serve(&keys, AcceptLimits::default(), ConnectionLimits::default(), |_| {}).await;
    let mut request = Request::new(v1::DescribeRequest {});
    request.metadata_mut().insert("x-long", "y".repeat(64 * 1024).parse().unwrap());
    assert!(client(keys.channel("a", &at).await).describe(request).await.is_err());
    describe(keys.channel("a", &at).await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_resets_its_calls_is_ended() {
    let keys = Keys::new();
    let (_node, at) = serve(&keys, AcceptLimits::default(), ConnectionLimits::default(), |_| {}).await;
    let mut raw = keys.tls("a", &at).await;
    let frame = |kind: u8, flags: u8, stream: u32, body: &[u8]| {
        let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(body);
        frame
    };
    let mut said = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    said.extend(frame(4, 0, 0, &[]));
    for call in (1..4_001_u32).step_by(2) {
        // POST, http, `/`, and an authority: a call that is reset before it can be looked at.
        said.extend(frame(1, 4, call, &[0x83, 0x86, 0x84, 0x41, 1, b'b']));
        said.extend(frame(3, 0, call, &8_u32.to_be_bytes()));
    }
    drop(raw.write_all(&said).await);
    drop(raw.read_to_end(&mut Vec::new()).await);
    describe(keys.channel("a", &at).await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_of_one_peer_come_through_one_after_the_other() {
    let keys = Keys::new();
    let bounds = ConnectionLimits { message_bytes_per_peer: 8 * 1024 * 1024, ..ConnectionLimits::default() };
    let (_node, at) = serve(&keys, AcceptLimits::default(), bounds, |_| {}).await;
    let channel = keys.channel("a", &at).await;
    let large = |_| {
        let mut client = client(channel.clone());
        async move {
            let loom = "x".repeat(6 * 1024 * 1024);
            client.verify(v1::VerifyRequest { loom, node: String::new(), client: false }).await
        }
    };
    for answer in futures_util::future::join_all((0..12).map(large)).await {
        assert_eq!(answer.unwrap_err().code(), Code::InvalidArgument, "it was read, and is no loom");
    }
}

#[test]
fn refusals_cost_one_line_a_minute_and_bounded_memory() {
    let (refusals, start) = (Refusals::new(), Instant::now());
    let lines: Vec<_> = (0..10_000).flat_map(|_| refusals.count("mallory", "refused", start)).collect();
    assert_eq!(lines.iter().map(|line| line.times).collect::<Vec<_>>(), [1]);
    let later = refusals.count("mallory", "refused", start + Duration::from_secs(61));
    assert_eq!(later.iter().map(|line| line.times).collect::<Vec<_>>(), [10_000]);
    let mut written = 0;
    for source in 0..20 * REFUSAL_SOURCES_MAX {
        written += refusals.count(&source.to_string(), "refused", start).len();
    }
    assert!(refusals.len() <= REFUSAL_SOURCES_MAX + 1, "{}", refusals.len());
    assert!(written <= REFUSAL_SOURCES_MAX + 1, "{written} lines");
}

/// A host that says what a test has it say. Where its connections are counted it breaks each off then.
#[derive(Clone)]
struct Host(Arc<dyn Fn() -> Vec<v1::host_message::Message> + Send + Sync>, Option<Arc<AtomicU64>>);

type Answers<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn none<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not here"))
}

#[tonic::async_trait]
impl v1::node_server::Node for Host {
    type CastStream = Answers<v1::HostMessage>;
    type SyncStream = Answers<v1::CopyMessage>;

    async fn describe(&self, asked: Request<v1::DescribeRequest>) -> Result<Response<v1::DescribeResponse>, Status> {
        // As a node of a later protocol answers.
        let said = asked.metadata().get("cantrip-protocol").and_then(|said| said.to_str().ok()).unwrap_or("none");
        Err(Status::failed_precondition(format!("the caller speaks protocol {said} of cantrip.v1, and b speaks 99")))
    }

    async fn identify(&self, _: Request<v1::IdentifyRequest>) -> Result<Response<v1::IdentifyResponse>, Status> {
        Ok(Response::new(v1::IdentifyResponse { writer: vec![9; 32].into(), vouching: None }))
    }

    async fn cast(&self, request: Request<Streaming<v1::CallerMessage>>) -> Result<Response<Self::CastStream>, Status> {
        let said = (self.0)().into_iter().map(|message| Ok(v1::HostMessage { message: Some(message) }));
        // It listens on, and never ends by itself.
        let said = futures_util::stream::iter(said.collect::<Vec<_>>());
        if let Some(opened) = &self.1 {
            opened.fetch_add(1, Ordering::Relaxed);
            return Ok(Response::new(Box::pin(said)));
        }
        let heard = request.into_inner().filter_map(|_| std::future::ready(None));
        Ok(Response::new(Box::pin(said.chain(heard))))
    }

    async fn sync(&self, _: Request<Streaming<v1::CopyMessage>>) -> Result<Response<Self::SyncStream>, Status> {
        none()
    }

    async fn takes_part(&self, _: Request<v1::TakesPartRequest>) -> Result<Response<v1::TakesPartResponse>, Status> {
        none()
    }

    async fn adopt(&self, _: Request<v1::AdoptRequest>) -> Result<Response<v1::AdoptResponse>, Status> {
        none()
    }

    async fn change_members(
        &self,
        _: Request<v1::ChangeMembersRequest>,
    ) -> Result<Response<v1::ChangeMembersResponse>, Status> {
        none()
    }

    async fn reward(&self, _: Request<v1::RewardRequest>) -> Result<Response<v1::RewardResponse>, Status> {
        none()
    }

    async fn copy_state(&self, _: Request<v1::CopyStateRequest>) -> Result<Response<v1::CopyStateResponse>, Status> {
        none()
    }

    async fn verify(&self, _: Request<v1::VerifyRequest>) -> Result<Response<v1::VerifyResponse>, Status> {
        none()
    }

    async fn list_guests(&self, _: Request<v1::ListGuestsRequest>) -> Result<Response<v1::ListGuestsResponse>, Status> {
        none()
    }

    async fn upload_status(
        &self,
        _: Request<v1::UploadStatusRequest>,
    ) -> Result<Response<v1::UploadStatusResponse>, Status> {
        none()
    }

    async fn deploy(&self, _: Request<Streaming<v1::DeployRequest>>) -> Result<Response<v1::DeployResponse>, Status> {
        none()
    }
}

/// A caller whose gates never answer, and which counts how often its disk is waited for.
#[derive(Debug, Default)]
struct Patient {
    synced: AtomicU64,
    /// Entries under no head yet.
    waiting: AtomicU64,
}

impl Home for Patient {
    fn named(&self, _: LoomId, _: EntityId) -> Result<(), HomeError> {
        Ok(())
    }

    fn receive(&self, _: Sealed) -> Result<(), HomeError> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn cover(&self, _: Vec<CastHead>) -> Result<(), HomeError> {
        self.waiting.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn is_uncovered(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    fn finish(&self) -> Result<(), HomeError> {
        if self.is_uncovered() { Err(HomeError::Refused("it ends uncovered".to_owned())) } else { Ok(()) }
    }

    fn sync(&self) -> BoxFuture<'_, Result<(), HomeError>> {
        self.synced.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(Ok(())))
    }

    fn is_watched(&self) -> bool {
        false
    }

    fn event(&self, _: Event) {}

    fn gate<'a>(&'a self, _: &'a str, _: Value) -> BoxFuture<'a, Result<Value, GateError>> {
        Box::pin(std::future::pending())
    }

    fn ask<'a>(&'a self, _: &'a Question, _: &'a dyn Pieces) -> BoxFuture<'a, Result<RawAnswer, ModelError>> {
        Box::pin(std::future::pending())
    }

    fn guest<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Option<Vec<u8>>> {
        Box::pin(std::future::pending())
    }

    fn signal(&self) -> BoxFuture<'_, Signal> {
        Box::pin(std::future::pending())
    }
}

pub(crate) fn order() -> Order {
    let (n, random) = (number(), [1; 16]);
    let (loom, entity, minted) = minted_by_hand(n, random);
    Order {
        cast: CastId::from_parts(n, *random.first_chunk().unwrap()),
        loom,
        entity,
        minted: Some(minted),
        by_host: ByHost::Nothing,
        parent: None,
        spawned_by: None,
        depth: 0,
        cantrip: remote(&[], turns(2)).order,
        intent: r#"[{ "done": 1 }]"#.to_owned(),
        trace: None,
        deadline: None,
        lease: None,
        again: false,
        keep: false,
        fork: None,
        seen: Exposure::default(),
        credentials: Arc::default(),
        origins: Vec::new(),
    }
}

/// Casts on a host that says these things; returns what came of it, and how often the disk was waited for.
async fn cast_on(said: impl Fn() -> Vec<v1::host_message::Message> + Send + Sync + 'static) -> (String, u64) {
    cast_on_host(Host(Arc::new(said), None), limits()).await
}

/// The way of `a` to a host that serves as `b`.
async fn way_to(host: Host, limits: PeerLimits) -> Arc<PeerNodes> {
    let keys = Keys::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let connections = over_tls(listener, keys.identity("b")).map(|(io, _)| Ok::<_, std::io::Error>(Plain(io)));
    let service = v1::node_server::NodeServer::new(host);
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(Box::pin(connections)));
    let way = Way::Tls { net: Arc::new(TcpNet), identity: keys.identity("a") };
    PeerNodes::new(vec![node("b", &at)], way, limits)
}

async fn cast_on_host(host: Host, limits: PeerLimits) -> (String, u64) {
    let peers = way_to(host, limits).await;
    let home = Patient::default();
    let error = cantrip_runtime::ports::Peers::cast(&*peers, "b", &order(), &home).await.unwrap_err();
    (error.to_string(), home.synced.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_speaks_another_protocol_says_both_numbers_and_is_not_asked_again() {
    let peers = way_to(Host(Arc::new(Vec::new), None), limits()).await;
    let error = peers.describe("b").await.unwrap_err().to_string();
    assert!(
        error.contains(&format!("the caller speaks protocol {PROTOCOL} of cantrip.v1, and b speaks 99")),
        "{error}"
    );
    assert!(error.contains("refused"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_asks_and_sends_without_end_is_left() {
    use v1::host_message::Message;
    let (error, _) = cast_on(|| {
        let call = |call| Message::GateCall(v1::GateCall { call, gate: "echo".to_owned(), arguments: "{}".to_owned() });
        (1..=2 * NEAR_QUESTIONS_MAX as u64).map(call).collect()
    })
    .await;
    assert!(error.contains(&format!("asks more than {NEAR_QUESTIONS_MAX} questions at once")), "{error}");
    let (error, _) = cast_on(|| {
        let part = |number: usize| {
            let (id, bytes) = (BlobId::of(&number.to_be_bytes()).to_string(), number.to_be_bytes().to_vec().into());
            Message::TextPart(v1::TextPart { id, bytes, last: true })
        };
        (0..2 * NEAR_TEXTS_MAX).map(part).collect()
    })
    .await;
    assert!(error.contains(&format!("more than {NEAR_TEXTS_MAX} texts that no entry refers to")), "{error}");
    let (error, _) = cast_on(|| {
        let arguments = format!("\"{}\"", "x".repeat(4_000_000));
        let call =
            |call| Message::GateCall(v1::GateCall { call, gate: "echo".to_owned(), arguments: arguments.clone() });
        (1..=20).map(call).collect()
    })
    .await;
    assert!(error.contains(&format!("and {NEAR_QUESTION_BYTES_MAX} may be open")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_accepts_and_breaks_off_again_and_again_is_left_within_the_lease() {
    let opened = Arc::new(AtomicU64::new(0));
    let said = || vec![v1::host_message::Message::Accepted(v1::Accepted::default())];
    let host = Host(Arc::new(said), Some(Arc::clone(&opened)));
    let (error, _) = cast_on_host(host, PeerLimits { lease: Duration::from_secs(1), ..limits() }).await;
    assert!(error.contains("the host ended the stream without an end"), "{error}");
    let opened = opened.load(Ordering::Relaxed);
    assert!(opened < 10, "it was asked {opened} times in a second");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_says_of_a_refusal_is_cut() {
    use v1::host_message::Message;
    let (error, _) = cast_on(|| {
        let text = |letter: &str| letter.repeat(1_000_000);
        vec![Message::Refused(v1::Refused { kind: "denied".to_owned(), rule: text("r"), message: text("m") })]
    })
    .await;
    assert!(error.len() < 3 * REFUSAL_CHARS_MAX, "{} bytes", error.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_sends_entries_without_end_waits_for_the_disk() {
    use v1::host_message::Message;
    const ENTRIES: usize = 40;
    let (_, synced) = cast_on(|| {
        let order = order();
        let by = writer();
        let entry = |sequence: u64| {
            let text = Payload::Inline("x".repeat(500_000));
            let body = Body::intent(text, false, None);
            let (loom, entity) = (order.loom, order.entity);
            let entry = Entry::new(loom, (by, sequence), 1, entity, None, body);
            let sealed = Sealed::new(entry, Vec::new()).unwrap();
            let entry = v1::Entry { id: sealed.id.to_string(), bytes: sealed.bytes.into() };
            [Message::Entry(entry), Message::Heads(v1::CastHeads { heads: Vec::new(), cursor: vec![1].into() })]
        };
        let questions = (1..=2 * NEAR_QUESTIONS_MAX as u64)
            .map(|call| Message::GateCall(v1::GateCall { call, gate: "echo".to_owned(), arguments: "{}".to_owned() }));
        (1..=ENTRIES as u64).flat_map(entry).chain(questions).collect()
    })
    .await;
    let expected = (ENTRIES * 500_000 / NEAR_UNSYNCED_BYTES_MAX) as u64;
    assert!(synced >= expected - 1, "the disk was waited for {synced} times in 20 MB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_asks_or_ends_before_it_has_signed_what_it_told_is_left() {
    use v1::host_message::Message;
    let entry = || {
        let order = order();
        let body = Body::intent(Payload::Inline("told".to_owned()), false, None);
        let entry = Entry::new(order.loom, (writer(), 1), 1, order.entity, None, body);
        let sealed = Sealed::new(entry, Vec::new()).unwrap();
        Message::Entry(v1::Entry { id: sealed.id.to_string(), bytes: sealed.bytes.into() })
    };
    let told = move |last: Message| vec![Message::Accepted(v1::Accepted::default()), entry(), last];
    let early = "it asks before a cast head covers what it has told";
    let gate = || Message::GateCall(v1::GateCall { call: 1, gate: "echo".to_owned(), arguments: "{}".to_owned() });
    let (error, _) = cast_on(move || told(gate())).await;
    assert!(error.contains(early), "{error}");
    let (error, _) = cast_on(move || told(Message::ModelCall(v1::ModelCall::default()))).await;
    assert!(error.contains(early), "{error}");
    let ended = || v1::Ended { how: "terminated".to_owned(), reason: "done".to_owned(), ..v1::Ended::default() };
    let (error, _) = cast_on(move || told(Message::Ended(ended()))).await;
    assert!(error.contains("it ends uncovered"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_sends_one_text_without_end_is_left() {
    use v1::host_message::Message;
    let (error, _) = cast_on(|| {
        let id = BlobId::of(b"a text").to_string();
        let part = |_| {
            let bytes = vec![0; 256 * 1024].into();
            Message::TextPart(v1::TextPart { id: id.clone(), bytes, last: false })
        };
        (0..260).map(part).collect()
    })
    .await;
    assert!(error.contains("more than 67108864 bytes of texts that no entry refers to"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_bounded() {
    let keys = Keys::new();
    let (_node, at) = serve(&keys, AcceptLimits::default(), ConnectionLimits::default(), |_| {}).await;
    let mut client = client(keys.channel("a", &at).await).max_encoding_message_size(usize::MAX);
    let loom = "x".repeat(9 * 1024 * 1024);
    let refused = client.verify(v1::VerifyRequest { loom, node: String::new(), client: false }).await.unwrap_err();
    assert!(refused.code() != Code::InvalidArgument && refused.message().contains("8388608"), "{refused}");
    describe(keys.channel("a", &at).await).await.unwrap();
}
