//! What copies of looms cost: replication beside a raw gRPC stream, catching up, verifying and reopening a long record, and forks
//! by snapshot beside forks by replay. `CANTRIP_BENCH_ENTRIES` says how long the record is.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark prints, reads files, and may stop"
)]

#[path = "../../tests/copy_support/book.rs"]
mod book;
#[path = "../../tests/peer_support/mod.rs"]
mod peer_support;
#[path = "../../tests/store_support/mod.rs"]
mod store_support;

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use book::{Book, OPEN, Terms, key};
use cantrip_runtime::adapters::clock::SystemClock;
use cantrip_runtime::adapters::llm::Scripted;
use cantrip_runtime::adapters::peer::{TcpNet, Way, over_tls, v1};
use cantrip_runtime::adapters::store::{FjallStore, MemoryStore, StoreOptions};
use cantrip_runtime::adapters::wasm::{Javascript, Sandbox};
use cantrip_runtime::domain::copies::CopyKind;
use cantrip_runtime::domain::ids::{LoomId, NodeAddress};
use cantrip_runtime::domain::loom::{Body, Entry, Sealed};
use cantrip_runtime::domain::medium::{Evaluation, MediumOpening, SnapshotPolicy, StopFlag};
use cantrip_runtime::domain::members::Nonce;
use cantrip_runtime::driver::{Copies, HostLimits};
use cantrip_runtime::ports::{CopyStore, LoomStore, MediumFactory, Yielded};
use cantrip_runtime::{Cantrip, CastOptions, NoMedia, Runtime, Wards, builtin};
use futures_util::{Stream, StreamExt};
use peer_support::{Cluster, Node, Parts, TestHost, Told, at, limits};
use serde_json::json;
use store_support::{entity, said};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

const ENTRIES_DEFAULT: u64 = 1_000_000;
/// Entries are about 1 KiB, as in the store's own benchmark; larger ones are measured beside them.
const TEXT_BYTES: usize = 760;

fn entries() -> u64 {
    std::env::var("CANTRIP_BENCH_ENTRIES").ok().and_then(|text| text.parse().ok()).unwrap_or(ENTRIES_DEFAULT)
}

fn disk_bytes(folder: &Path) -> u64 {
    let listed = std::fs::read_dir(folder).unwrap().flatten();
    listed
        .map(|entry| {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                return disk_bytes(&entry.path());
            }
            std::os::unix::fs::MetadataExt::blocks(&metadata) * 512
        })
        .sum()
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap()
}

fn row(what: &str, ours: &str, beside: &str) {
    println!("| {what} | {ours} | {beside} |");
}

/// A node that only swallows segments: the floor of what a stream can carry, without TLS and without any check.
#[derive(Clone, Default)]
struct Sink(Arc<AtomicU64>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl v1::node_server::Node for Sink {
    type CastStream = Answers<v1::HostMessage>;
    type SyncStream = Answers<v1::CopyMessage>;

    async fn describe(&self, _: Request<v1::DescribeRequest>) -> Result<Response<v1::DescribeResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn identify(&self, _: Request<v1::IdentifyRequest>) -> Result<Response<v1::IdentifyResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn cast(&self, _: Request<Streaming<v1::CallerMessage>>) -> Result<Response<Self::CastStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn sync(&self, request: Request<Streaming<v1::CopyMessage>>) -> Result<Response<Self::SyncStream>, Status> {
        let mut messages = request.into_inner();
        while let Some(message) = messages.message().await? {
            if let Some(v1::copy_message::Message::Segment(segment)) = message.message {
                let bytes: usize = segment.entries.iter().map(bytes::Bytes::len).sum();
                self.0.fetch_add(bytes as u64, Ordering::Relaxed);
            }
        }
        Ok(Response::new(Box::pin(futures_util::stream::empty())))
    }

    async fn adopt(&self, _: Request<v1::AdoptRequest>) -> Result<Response<v1::AdoptResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn reward(&self, _: Request<v1::RewardRequest>) -> Result<Response<v1::RewardResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn change_members(
        &self,
        _: Request<v1::ChangeMembersRequest>,
    ) -> Result<Response<v1::ChangeMembersResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn copy_state(&self, _: Request<v1::CopyStateRequest>) -> Result<Response<v1::CopyStateResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn verify(&self, _: Request<v1::VerifyRequest>) -> Result<Response<v1::VerifyResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn takes_part(&self, _: Request<v1::TakesPartRequest>) -> Result<Response<v1::TakesPartResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_guests(&self, _: Request<v1::ListGuestsRequest>) -> Result<Response<v1::ListGuestsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn upload_status(
        &self,
        _: Request<v1::UploadStatusRequest>,
    ) -> Result<Response<v1::UploadStatusResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn deploy(&self, _: Request<Streaming<v1::DeployRequest>>) -> Result<Response<v1::DeployResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// The bytes a second of the same segments over a bare stream.
async fn raw_stream(store: &FjallStore, loom: LoomId) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sink = Sink::default();
    let service = v1::node_server::NodeServer::new(sink.clone()).max_decoding_message_size(16 * 1024 * 1024);
    let incoming = futures_util::stream::unfold(listener, |listener| async move {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        Some((Ok::<_, std::io::Error>(stream), listener))
    });
    tokio::spawn(
        tonic::transport::Server::builder()
            .initial_stream_window_size(1024 * 1024)
            .initial_connection_window_size(4 * 1024 * 1024)
            .add_service(service)
            .serve_with_incoming(Box::pin(incoming)),
    );
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    let channel = channel
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024)
        .connect()
        .await
        .unwrap();
    let mut client = v1::node_client::NodeClient::new(channel).max_encoding_message_size(16 * 1024 * 1024);
    let segment = store.segment(loom, store.writer(), 0).unwrap().unwrap();
    let entries: Vec<bytes::Bytes> = segment.entries.into_iter().map(bytes::Bytes::from).collect();
    let message = v1::CopyMessage {
        message: Some(v1::copy_message::Message::Segment(v1::Segment { entries, ..v1::Segment::default() })),
    };
    let start = Instant::now();
    client.sync(futures_util::stream::repeat(message).take(500)).await.unwrap();
    sink.0.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64()
}

struct Keeper {
    store: Arc<FjallStore>,
    copies: Arc<Copies>,
    node: Node,
    stop: CancellationToken,
}

/// A node that keeps copies, served over mutual TLS.
fn keeper(cluster: &Cluster, folder: &Path, name: &str, listener: TcpListener, other: &NodeAddress) -> Keeper {
    let store = FjallStore::open(folder, StoreOptions::default()).unwrap();
    let memory = MemoryStore::with_key((*store.key()).clone());
    let clock = Arc::new(SystemClock::default());
    let copies = Copies::new(
        name.parse().unwrap(),
        Arc::clone(&store) as _,
        memory,
        Arc::new(Book::default()),
        Arc::new(Terms(OPEN)),
        clock,
    );
    let copies = copies.unwrap();
    let clock = Arc::new(SystemClock::default());
    let address = at(name, &listener.local_addr().unwrap().to_string());
    let mut host = TestHost::new(std::slice::from_ref(other), Vec::new(), Arc::new(Told(clock)));
    host.copies = Some(Arc::clone(&copies));
    let identity = cluster.identity(name);
    let parts = Parts {
        address,
        store: Arc::clone(&store) as _,
        clock: Arc::new(SystemClock::default()),
        media: Arc::new(NoMedia),
        way: Way::Tls { net: Arc::new(TcpNet), identity: Arc::clone(&identity) },
        limits: limits(),
        host_limits: HostLimits::default(),
        others: vec![other.clone()],
        host,
    };
    let node = Node::start(parts, over_tls(listener, identity));
    let stop = CancellationToken::new();
    tokio::spawn(Arc::clone(&copies).keep_up(Arc::clone(&node.peers) as _, stop.clone()));
    Keeper { store, copies, node, stop }
}

/// Founds a loom: of one that nobody has founded no keeper takes anything.
fn found(store: &FjallStore) -> LoomId {
    let nonce = Nonce::from_bytes([1; 16]);
    let loom = LoomId::mint(1_790_000_000_000, &store.writer(), &nonce, None);
    let entry = Entry::new(loom, (store.writer(), 1), 1, None, None, Body::Founded { nonce, member: None });
    store.append(Sealed::new(entry, Vec::new()).unwrap()).unwrap();
    loom
}

/// Writes a record of so many entries, has another node catch up, and, where all is asked for, measures the rest.
async fn replication(data: &Path, count: u64, text_bytes: usize, all: bool) {
    let (loom, bytes) = {
        let store = FjallStore::open(data, StoreOptions::default()).unwrap();
        let loom = found(&store);
        let start = Instant::now();
        let text = "x".repeat(text_bytes);
        let mut bytes = 0_u64;
        let mut parent = None;
        for number in 0..count {
            let sealed = said(&*store, loom, entity(1), parent, &format!("{number} {text}")).unwrap();
            bytes += sealed.bytes.len() as u64;
            parent = Some(sealed.id);
            store.append(sealed).unwrap();
            if number % 1_000 == 0 {
                store.sync(loom).await.unwrap();
            }
        }
        store.sync(loom).await.unwrap();
        let took = start.elapsed().as_secs_f64();
        store.close().unwrap();
        row(
            &format!("writing {count} entries of {} bytes", bytes / count),
            &format!("{:.0} entries/s, {:.0} MB/s", count as f64 / took, bytes as f64 / took / 1e6),
            "",
        );
        (loom, bytes)
    };
    row(
        "on disk, each entry",
        &format!("{} bytes", disk_bytes(data) / count),
        &format!("its own {} bytes", bytes / count),
    );
    let cluster = Cluster::new();
    let listeners = [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
    let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
    let [a, b] = [at("a", &address(&listeners[0])), at("b", &address(&listeners[1]))];
    let copy = tempfile::tempdir().unwrap();
    let [one, other] = listeners;
    let one = keeper(&cluster, data, "a", one, &b);
    let other = keeper(&cluster, copy.path(), "b", other, &a);
    let raw = raw_stream(&one.store, loom).await;
    let start = Instant::now();
    one.copies.share(loom, &"b".parse().unwrap(), CopyKind::Disk, None).unwrap();
    assert!(one.copies.settled(loom, &"b".parse().unwrap()).await.unwrap());
    let took = start.elapsed().as_secs_f64();
    let rate = bytes as f64 / took;
    row(
        &format!("catching up {count} entries, verified and durable"),
        &format!("{:.1} s, {:.0} entries/s, {:.0} MB/s", took, count as f64 / took, rate / 1e6),
        &format!("the same segments over a bare gRPC stream: {:.0} MB/s, ×{:.2}", raw / 1e6, rate / raw),
    );
    if !all {
        return;
    }
    // One entry at a time: here alone, and acknowledged by the other's disk.
    for acks in [0, 1] {
        one.copies.share(loom, &"b".parse().unwrap(), CopyKind::Disk, Some((acks, 0))).unwrap();
        let mut times = Vec::new();
        for number in 0..300 {
            let sealed = said(&*one.store, loom, entity(1), None, &format!("live {number}")).unwrap();
            let start = Instant::now();
            one.store.append(sealed).unwrap();
            one.store.sync(loom).await.unwrap();
            one.copies.grown(loom);
            one.copies.acknowledged(loom, None).await.unwrap();
            times.push(start.elapsed());
        }
        let what = if acks == 0 { "an entry, durable here" } else { "an entry, durable here and there (acks = 1)" };
        row(what, &format!("{:.0} µs", median(times).as_secs_f64() * 1e6), "");
    }
    assert!(one.copies.settled(loom, &"b".parse().unwrap()).await.unwrap());
    let start = Instant::now();
    let verified = other.store.verify(Some(loom)).unwrap();
    assert!(verified.findings.is_empty() && verified.entries >= count);
    let took = start.elapsed().as_secs_f64();
    row(
        &format!("verifying a copy of {count} entries: hashes, chain, signatures, parents, indexes"),
        &format!("{took:.1} s, {:.0} entries/s", count as f64 / took),
        "",
    );
    for keeper in [one, other] {
        keeper.stop.cancel();
        keeper.node.stopped().await;
        keeper.store.close().unwrap();
    }
    let start = Instant::now();
    let reopened = loop {
        match FjallStore::open(copy.path(), StoreOptions::default()) {
            Ok(store) => break store,
            // The last who had it lets go of it.
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    row(
        &format!("reopening a record of {count} entries"),
        &format!("{:.0} ms", start.elapsed().as_secs_f64() * 1e3),
        "",
    );
    let (before, part) = (resident_bytes(), count.min(100_000));
    let memory = MemoryStore::with_key(key(9));
    let mut after = 0;
    let writer = reopened.logs(loom).unwrap().iter().max_by_key(|log| log.head.sequence).unwrap().writer;
    while after < part {
        let segment = reopened.segment(loom, writer, after).unwrap().unwrap();
        after = segment.signed.head.sequence;
        memory.take(segment.check().unwrap()).unwrap();
    }
    let each = resident_bytes().saturating_sub(before) / after;
    row("a copy in memory, each entry", &format!("{each} bytes"), &format!("its own {} bytes", bytes / count));
}

async fn forks() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-artefacts");
    let sandbox = Sandbox::new(200, Some(folder)).unwrap();
    let media = Arc::new(Javascript::new(sandbox));
    let opening = MediumOpening {
        medium: "javascript".to_owned(),
        gates: vec!["done".to_owned()],
        memory_bytes_max: 64 << 20,
        metered: false,
    };
    let evaluation = |source: &str| Evaluation {
        source: source.to_owned(),
        seed: 1,
        clock_us: 1,
        time_max: Duration::from_mins(1),
        output_bytes_max: 1_000,
        fuel_max: None,
        stop_at_poll: None,
        recorded: 0,
        stop: StopFlag::default(),
    };
    let mut medium = media.open(&opening).await.unwrap();
    let made =
        medium.evaluate(evaluation("var big = new Uint8Array(3_000_000).map((_, i) => i * 7); var n = 0; 1")).await;
    assert!(matches!(made, Yielded::Finished(_)));
    let first = Instant::now();
    let mut image = medium.image(None).unwrap();
    let all = first.elapsed();
    let (mut taken, mut dirty) = (Vec::new(), 0);
    for _ in 0..50 {
        drop(medium.evaluate(evaluation("n += 1; [n, 'x'.repeat(n)]")).await);
        let start = Instant::now();
        let next = medium.image(Some(&image)).unwrap();
        taken.push(start.elapsed());
        dirty = next.pages.iter().filter(|(place, page)| image.pages.get(place) != Some(page)).count();
        image = next;
    }
    let mebibytes = image.memory_bytes as f64 / f64::from(1 << 20);
    row(
        &format!("an image of {mebibytes:.1} MiB: the first, and a later one ({dirty} pages changed), by comparing"),
        &format!("{:.2} ms, {:.0} µs", all.as_secs_f64() * 1e3, median(taken).as_secs_f64() * 1e6),
        "",
    );
    let mut opened = Vec::new();
    for _ in 0..50 {
        let start = Instant::now();
        let fork = media.open_image(&opening, &image).await.unwrap();
        opened.push(start.elapsed());
        drop(fork);
    }
    row(
        &format!("an instance from an image of {mebibytes:.1} MiB at hand"),
        &format!("{:.2} ms", median(opened).as_secs_f64() * 1e3),
        "the goal: 1 ms for 8 MiB",
    );
    // A whole fork of an entity of 500 turns, up to its first turn.
    let data = tempfile::tempdir().unwrap();
    let store = FjallStore::open(data.path(), StoreOptions::default()).unwrap();
    let cantrip = |media: &dyn MediumFactory, script: Vec<serde_json::Value>| {
        Cantrip::builder()
            .llm(Arc::new(Scripted::from_values(script).unwrap()))
            .medium("javascript")
            .gate(builtin::done())
            .wards(&Wards { max_turns: Some(600), ..Wards::default() })
            .snapshots(SnapshotPolicy::Every(std::num::NonZeroU64::new(50).unwrap()))
            .build(media)
            .unwrap()
    };
    let runtime =
        || Runtime::new(Arc::clone(&store) as _, Arc::clone(&media) as _, Arc::new(SystemClock::default()), "bench");
    let warm = runtime();
    let mut script = vec![json!({"code": "var n = 0; var list = []; n"})];
    script
        .extend((0..498).map(|_| json!({"code": "n += 1; for (let i = 0; i < 2000; i++) list[i % 5000] = i * n; n"})));
    script.push(json!({"code": "done(n)"}));
    let mut entity = warm.summon(&cantrip(&*media, script), CastOptions::default()).unwrap();
    entity.send("count").await.unwrap();
    let (loom, of) = (entity.loom(), entity.entity());
    drop(entity);
    let only_replay = Runtime::new(
        Arc::clone(&store) as _,
        Arc::new(WithoutImages(Arc::clone(&media))),
        Arc::new(SystemClock::default()),
        "bench",
    );
    for (what, times) in [("by snapshot, at hand", 20), ("by snapshot, read from the record", 10), ("by replay", 5)] {
        let mut taken = Vec::new();
        for _ in 0..times {
            let cold = runtime();
            let runtime = match what {
                "by replay" => &only_replay,
                "by snapshot, at hand" => &warm,
                _ => &cold,
            };
            let start = Instant::now();
            let script = vec![json!({"code": "done(n)"})];
            let mut fork =
                runtime.fork(&cantrip(runtime.media(), script), loom, of, 450, CastOptions::default()).unwrap();
            assert_eq!(fork.send("n?").await.unwrap().result, Some(json!(449)));
            taken.push(start.elapsed());
        }
        row(
            &format!("a fork after turn 450 of 500, with its first turn, durable: {what}"),
            &format!("{:.1} ms", median(taken).as_secs_f64() * 1e3),
            "",
        );
    }
}

/// The medium without its images.
#[derive(Debug)]
struct WithoutImages(Arc<Javascript>);

impl MediumFactory for WithoutImages {
    fn names(&self) -> Vec<String> {
        self.0.names()
    }

    fn digest(&self, medium: &str) -> Option<String> {
        self.0.digest(medium)
    }

    fn open<'a>(
        &'a self,
        opening: &'a MediumOpening,
    ) -> cantrip_runtime::ports::BoxFuture<
        'a,
        Result<Box<dyn cantrip_runtime::ports::Medium>, cantrip_runtime::ports::MediumFault>,
    > {
        self.0.open(opening)
    }
}

fn main() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let data = tempfile::tempdir().unwrap();
    tokio.block_on(async {
        println!("| what | ours | beside it |\n|---|---|---|");
        replication(&data.path().join("long"), entries(), TEXT_BYTES, true).await;
        replication(&data.path().join("large"), entries() / 10, 4_096, false).await;
        forks().await;
    });
}
