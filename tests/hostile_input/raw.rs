//! A node of a test's own, and connections to it that say whatever a test wants.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use cantrip_runtime::NoMedia;
use cantrip_runtime::adapters::clock::SystemClock;
use cantrip_runtime::adapters::peer::{
    AcceptLimits, ConnectionLimits, Identity, PeerNodes, TcpNet, Way, make_authority, make_certificate,
    over_tls_within, v1,
};
use cantrip_runtime::adapters::store::{MemoryStore, NodeKey};
use cantrip_runtime::domain::ids::{NodeAddress, WriterKey};
use cantrip_runtime::driver::HostLimits;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::peer_support::{Node, Parts, TestHost, Told, limits, number};

/// An authority, and what it signs.
pub(crate) struct Keys {
    pub(crate) authority: String,
    key: String,
}

impl Keys {
    pub(crate) fn new() -> Self {
        let (authority, key) = make_authority().unwrap();
        Self { authority, key }
    }

    pub(crate) fn identity(&self, name: &str) -> Arc<Identity> {
        let (certificate, key) = make_certificate(&self.key, &name.parse().unwrap()).unwrap();
        Arc::new(Identity::from_pem(&self.authority, &certificate, &key).unwrap())
    }

    /// A connection to the node `b` that has shaken hands as this name.
    pub(crate) async fn tls(&self, name: &str, to: &str) -> TlsStream<TcpStream> {
        let (certificate, key) = make_certificate(&self.key, &name.parse().unwrap()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            );
        let mut config = config.unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = TcpStream::connect(to).await.unwrap();
        connector.connect(ServerName::try_from("b").unwrap(), stream).await.unwrap()
    }

    /// One connection to `b` as this name, for calls.
    pub(crate) async fn channel(&self, name: &str, to: &str) -> Channel {
        self.counted(name, to).await.0
    }

    /// The same, and how many bytes were written into it.
    pub(crate) async fn counted(&self, name: &str, to: &str) -> (Channel, Arc<AtomicU64>) {
        let written = Arc::new(AtomicU64::new(0));
        let io = Counting { io: self.tls(name, to).await, written: Arc::clone(&written) };
        let mut once = Some(io);
        let connector = tower::service_fn(move |_: Uri| {
            let io = once.take().ok_or_else(|| io::Error::other("this connection is over"));
            std::future::ready(io.map(TokioIo::new))
        });
        let channel = Endpoint::from_static("http://b").connect_with_connector(connector).await.unwrap();
        (channel, written)
    }
}

/// Counts what is written.
struct Counting {
    io: TlsStream<TcpStream>,
    written: Arc<AtomicU64>,
}

impl AsyncRead for Counting {
    fn poll_read(mut self: Pin<&mut Self>, ctx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(ctx, buffer)
    }
}

impl AsyncWrite for Counting {
    fn poll_write(mut self: Pin<&mut Self>, ctx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = std::task::ready!(Pin::new(&mut self.io).poll_write(ctx, bytes))?;
        self.written.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(ctx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(ctx)
    }
}

pub(crate) fn writer() -> WriterKey {
    WriterKey::from_bytes(number().to_be_bytes().repeat(4).try_into().unwrap())
}

/// A store of a node of its own.
pub(crate) fn store() -> Arc<MemoryStore> {
    MemoryStore::with_key(NodeKey::from_secret(&number().to_be_bytes().repeat(4).try_into().unwrap()))
}

pub(crate) fn node(name: &str, address: &str) -> NodeAddress {
    NodeAddress::new(name.parse().unwrap(), address).unwrap()
}

/// Serves the node `b`, whose one peer is `a`; `change` sees its policies before.
pub(crate) async fn serve(
    keys: &Keys,
    accept: AcceptLimits,
    bounds: ConnectionLimits,
    change: impl FnOnce(&mut TestHost),
) -> (Node, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let clock = Arc::new(SystemClock::default());
    let others = vec![node("a", "127.0.0.1:1")];
    let mut host = TestHost::new(&others, Vec::new(), Arc::new(Told(Arc::clone(&clock) as _)));
    change(&mut host);
    let identity = keys.identity("b");
    let parts = Parts {
        store: store(),
        clock,
        media: Arc::new(NoMedia),
        way: Way::Tls { net: Arc::new(TcpNet), identity: Arc::clone(&identity) },
        limits: limits(),
        host_limits: HostLimits::default(),
        others,
        host,
        address: node("b", &at),
    };
    (Node::start_within(parts, over_tls_within(listener, identity, accept), bounds), at)
}

/// The peers of whoever is called so: `b` alone.
pub(crate) fn peers(keys: &Keys, name: &str, at: &str) -> Arc<PeerNodes> {
    let way = Way::Tls { net: Arc::new(TcpNet), identity: keys.identity(name) };
    PeerNodes::new(vec![node("b", at)], way, limits())
}

pub(crate) fn client(channel: Channel) -> v1::node_client::NodeClient<Channel> {
    v1::node_client::NodeClient::new(channel).max_encoding_message_size(64 * 1024 * 1024)
}
