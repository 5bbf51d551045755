//! What work on another node costs beside a bare gRPC call over mutual TLS: a cast, a gate call that comes back to the caller,
//! and many casts at once. Both sides over loopback, measured in one run; what counts is the ratio.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark prints, reads its guests, and may stop"
)]

#[path = "../../tests/peer_support/mod.rs"]
mod peer_support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cantrip_runtime::adapters::clock::SystemClock;
use cantrip_runtime::adapters::peer::{TcpNet, Way, make_authority, make_certificate, over_tls};
use cantrip_runtime::adapters::store::{MemoryStore, NodeKey};
use cantrip_runtime::adapters::wasm::{Guests, Sandbox};
use cantrip_runtime::domain::ids::NodeAddress;
use cantrip_runtime::domain::remote::GateOrder;
use cantrip_runtime::driver::{HostLimits, RemoteCantrip};
use cantrip_runtime::ports::Guest;
use cantrip_runtime::{CastOptions, NoMedia, Wards, builtin};
use hyper_util::rt::TokioIo;
use peer_support::{Cluster, Node, Parts, Plain, TestHost, Told, at, limits, remote};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const AT_ONCE: usize = 64;

fn component(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests");
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let mut text = read(&folder.join(format!("{name}.wat")));
    while let Some((before, rest)) = text.split_once("{{") {
        let (part, after) = rest.split_once("}}").unwrap();
        text = format!("{before}{}{after}", read(&folder.join(format!("parts/{part}.wat"))).trim());
    }
    wat::parse_str(text).unwrap()
}

/// The floor: tonic's own smallest service over mutual TLS, nothing of ours in between.
async fn bare() -> HealthClient<Channel> {
    let (authority, key) = make_authority().unwrap();
    let roots = {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
        Arc::new(roots)
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let pair = |name: &str| {
        let (certificate, key) = make_certificate(&key, &name.parse().unwrap()).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        (chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
    };
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
    let (chain, own) = pair("bare");
    let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, own)
        .unwrap();
    server.alpn_protocols = vec![b"h2".to_vec()];
    let (chain, own) = pair("client");
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, own)
        .unwrap();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let incoming = futures_util::stream::unfold((listener, acceptor), |(listener, acceptor)| async move {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let accepted = acceptor.accept(stream).await.map(|io| Plain(Box::new(io)));
        Some((accepted, (listener, acceptor)))
    });
    let (_, service) = tonic_health::server::health_reporter();
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(Box::pin(incoming)));
    let connector = TlsConnector::from(Arc::new(client));
    let connect = tower::service_fn(move |_: Uri| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(TokioIo::new(
                connector.connect(ServerName::try_from("bare").unwrap(), stream).await?,
            ))
        }
    });
    let channel = Endpoint::from_static("http://bare").connect_with_connector(connect).await.unwrap();
    HealthClient::new(channel)
}

fn node(cluster: &Cluster, name: &str, other: &NodeAddress, listener: TcpListener, guest: Arc<dyn Guest>) -> Node {
    let address = at(name, &listener.local_addr().unwrap().to_string());
    let identity = cluster.identity(name);
    let others = vec![other.clone()];
    let mut host = TestHost::new(&others, Vec::new(), Arc::new(Told(Arc::new(SystemClock::default()))));
    host.guest = Some(guest);
    let more = Wards { max_gate_calls: Some(10_000_000), ..Wards::default() };
    host.change(other.name().as_str(), |terms, ceiling| {
        ceiling.wards = more;
        terms.slots = cantrip_runtime::driver::Slots::new(1_000, 1_000);
    });
    let number = u8::try_from(peer_support::number()).unwrap();
    let parts = Parts {
        address,
        store: MemoryStore::with_key(NodeKey::from_secret(&[number; 32])),
        clock: Arc::new(SystemClock::default()),
        media: Arc::new(NoMedia),
        way: Way::Tls { net: Arc::new(TcpNet), identity: Arc::clone(&identity) },
        limits: limits(),
        host_limits: HostLimits::default(),
        others,
        host,
    };
    Node::start(parts, over_tls(listener, identity))
}

async fn two(guest: &Arc<dyn Guest>) -> (Node, Node) {
    let cluster = Cluster::new();
    let (near, far) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let on = |name: &str, listener: &TcpListener| at(name, &listener.local_addr().unwrap().to_string());
    let (a, b) = (on("a", &near), on("b", &far));
    (node(&cluster, "a", &b, near, Arc::clone(guest)), node(&cluster, "b", &a, far, Arc::clone(guest)))
}

fn median(mut measured: Vec<Duration>) -> Duration {
    measured.sort_unstable();
    measured.get(measured.len() / 2).copied().unwrap_or_default()
}

fn row(what: &str, ours: Duration, floor: Duration) {
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    println!("| {what} | {:.1} µs | {:.1} µs | {:.2} |", micros(ours), micros(floor), micros(ours) / micros(floor));
}

async fn echo(client: &mut HealthClient<Channel>, times: usize) -> Duration {
    let mut measured = Vec::new();
    for _ in 0..times {
        let start = Instant::now();
        client.check(HealthCheckRequest::default()).await.unwrap();
        measured.push(start.elapsed());
    }
    median(measured)
}

async fn cast(node: &Node, cantrip: &RemoteCantrip, intent: &str, times: usize) -> Duration {
    let mut measured = Vec::new();
    for _ in 0..times {
        let start = Instant::now();
        node.runtime.cast_at("b", cantrip.clone(), intent, CastOptions::default()).await.unwrap();
        measured.push(start.elapsed());
    }
    median(measured)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::new(200, Some(folder.path().join("artefacts"))).unwrap();
    let guests = Guests::new(Arc::clone(&sandbox));
    let mut client = bare().await;
    println!("| what | ours | bare call, mutual TLS | ratio |\n|---|---|---|---|");
    echo(&mut client, 2_000).await;

    let (a, _b) = two(&guests.load("trivial", component("trivial")).unwrap()).await;
    let wards = Wards { max_turns: Some(1), max_gate_calls: Some(5_000_000), ..Wards::default() };
    let mut trivial = remote(&[], wards.clone());
    trivial.order.guest = Some("trivial@sha256:0".to_owned());
    cast(&a, &trivial, "go", 200).await;
    let floor = echo(&mut client, 2_000).await;
    row("remote cast of a trivial guest, memory loom", cast(&a, &trivial, "go", 1_000).await, floor);

    let start = Instant::now();
    let echoes = (0..AT_ONCE).map(|_| {
        let mut client = client.clone();
        async move {
            for _ in 0..100 {
                client.check(HealthCheckRequest::default()).await.unwrap();
            }
        }
    });
    futures_util::future::join_all(echoes).await;
    let floor = start.elapsed() / u32::try_from(AT_ONCE * 100).unwrap();
    let start = Instant::now();
    let casts = (0..AT_ONCE).map(|_| async {
        for _ in 0..20 {
            a.runtime.cast_at("b", trivial.clone(), "go", CastOptions::default()).await.unwrap();
        }
    });
    futures_util::future::join_all(casts).await;
    row("64 remote casts at once, each", start.elapsed() / u32::try_from(AT_ONCE * 20).unwrap(), floor);

    let (a, _b) = two(&guests.load("calls", component("calls")).unwrap()).await;
    let mut calls = remote(&[], wards);
    calls.order.guest = Some("calls@sha256:0".to_owned());
    let spec = builtin::echo().spec().clone();
    calls.order.gates.push(GateOrder { name: "echo".to_owned(), at_caller: Some(spec) });
    calls.gates.push(builtin::echo());
    cast(&a, &calls, "x", 2).await;
    let floor = echo(&mut client, 2_000).await;
    let (few, many) = (cast(&a, &calls, "x", 3).await, cast(&a, &calls, "xxxxx", 3).await);
    row("gate call that comes back to the caller", many.saturating_sub(few) / 4_000, floor);
}
