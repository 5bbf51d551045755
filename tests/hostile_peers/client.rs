//! The hostile peer as a client: plays plans over whatever network, and looks at all that it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use cantrip_runtime::adapters::peer::{BoxIo, Net, make_authority, v1};
use futures_util::future::join_all;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use rcgen::{CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};

use super::act::{Answers, CAST, Call, Known, Plan, SYNC, Step, Who, Wire};
use super::casting;
use super::forge::Dice;

/// Bytes as they are: what is sent need not be a message, and what comes is looked at as it came.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = from.remaining();
        Ok(Some(from.copy_to_bytes(length)))
    }
}

/// A certificate with its key, and whom it trusts.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) connector: TlsConnector,
    pub(crate) acceptor: TlsAcceptor,
}

impl Credentials {
    /// From PEM texts.
    pub(crate) fn new(authority: &str, certificate: &str, key: &str) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(authority.as_bytes()) {
            roots.add(root.unwrap()).unwrap();
        }
        let roots = Arc::new(roots);
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<_, _>>().unwrap();
        let secret = || PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let mut client = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(Arc::clone(&roots))
            .with_client_auth_cert(chain.clone(), secret())
            .unwrap();
        client.alpn_protocols = vec![b"h2".to_vec()];
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
        let mut server = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(chain, secret())
            .unwrap();
        server.alpn_protocols = vec![b"h2".to_vec()];
        Self { connector: TlsConnector::from(Arc::new(client)), acceptor: TlsAcceptor::from(Arc::new(server)) }
    }

    /// Made with the authority's key for any name, those that a node would not give out too.
    fn issued(authority_key: &str, trusts: &str, name: &str) -> Self {
        let issuer = Issuer::new(authority_params(), KeyPair::from_pem(authority_key).unwrap());
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
        leaf.is_ca = IsCa::NoCa;
        leaf.use_authority_key_identifier_extension = true;
        let certificate = leaf.signed_by(&key, &issuer).unwrap();
        Self::new(trusts, &certificate.pem(), &key.serialize_pem())
    }
}

/// The subject and the usages with which the authority of a cluster is made.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "cantrip cluster");
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    params
}

/// Every certificate that the hostile peer can come with.
#[derive(Clone)]
pub(crate) struct Wallet {
    pub(crate) own: Credentials,
    stranger: Credentials,
    local: Credentials,
    outsider: Credentials,
    trusts: String,
}

impl Wallet {
    /// With the key of the cluster's authority, as an operator who makes certificates for anybody would have it.
    pub(crate) fn new(authority: &str, authority_key: &str) -> Self {
        let issued = |name: &str| Credentials::issued(authority_key, authority, name);
        let (_, foreign_key) = make_authority().unwrap();
        Self {
            own: issued("m"),
            stranger: issued("stranger"),
            local: issued("local"),
            outsider: Credentials::issued(&foreign_key, authority, "m"),
            trusts: authority.to_owned(),
        }
    }

    fn of(&self, who: Who) -> &TlsConnector {
        match who {
            Who::Mallory => &self.own.connector,
            Who::Stranger => &self.stranger.connector,
            Who::Local => &self.local.connector,
            Who::Outsider => &self.outsider.connector,
        }
    }

    fn without(&self) -> TlsConnector {
        let mut roots = rustls::RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(self.trusts.as_bytes()) {
            roots.add(root.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        TlsConnector::from(Arc::new(client.with_root_certificates(roots).with_no_client_auth()))
    }
}

/// What is looked for in everything that the hostile peer is told.
#[derive(Debug, Default)]
pub(crate) struct Ears {
    /// Texts that nobody may tell it.
    pub(crate) secrets: Mutex<Vec<Vec<u8>>>,
    pub(crate) findings: Mutex<Vec<String>>,
    /// How many messages came, by the call.
    pub(crate) heard: Mutex<BTreeMap<&'static str, u64>>,
    /// What was answered to what it sent of logs.
    pub(crate) answers: Mutex<BTreeSet<&'static str>>,
}

impl Ears {
    pub(crate) fn hear(&self, path: &'static str, who: Who, message: &Bytes) {
        *self.heard.lock().unwrap().entry(path).or_default() += 1;
        if path == SYNC
            && let Ok(v1::CopyMessage { message: Some(said) }) = v1::CopyMessage::decode(message.clone())
        {
            self.answers.lock().unwrap().extend(match said {
                v1::copy_message::Message::Later(_) => Some("answered `later`"),
                v1::copy_message::Message::Refused(_) => Some("answered `refused`"),
                v1::copy_message::Message::Held(_) => Some("answered `held`"),
                v1::copy_message::Message::Fenced(_) => Some("answered `fenced`"),
                _ => None,
            });
        }
        let found = |what: String| self.findings.lock().unwrap().push(what);
        if who != Who::Mallory {
            found(format!("{path} answered {who:?}, which is not listed: {} bytes", message.len()));
        }
        for secret in self.secrets.lock().unwrap().iter() {
            if message.windows(secret.len()).any(|window| window == secret.as_slice()) {
                found(format!("{path} told the hostile peer `{}`", String::from_utf8_lossy(secret)));
            }
        }
    }
}

/// Where a plan is played.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The name in its certificate.
    pub(crate) name: String,
    pub(crate) address: String,
    /// Whether it lists the hostile peer.
    pub(crate) lists: bool,
}

/// The hostile peer.
#[derive(Clone)]
pub(crate) struct Mallory {
    pub(crate) net: Arc<dyn Net>,
    pub(crate) wallet: Wallet,
    pub(crate) ears: Arc<Ears>,
    pub(crate) known: Arc<Mutex<Known>>,
    /// The longest that one call is kept up.
    pub(crate) patience: Duration,
}

impl Mallory {
    async fn channel(&self, target: &Target, who: Who) -> Option<Channel> {
        let endpoint = Endpoint::from_static("http://node.cantrip").initial_connection_window_size(8 * 1024 * 1024);
        let connector = self.wallet.of(who).clone();
        let (net, target) = (Arc::clone(&self.net), target.clone());
        let dial = tower::service_fn(move |_: Uri| {
            let (net, target, connector) = (Arc::clone(&net), target.clone(), connector.clone());
            async move {
                let io = net.dial(&target.address).await?;
                let name = ServerName::try_from(target.name).map_err(std::io::Error::other)?;
                connector.connect(name, io).await.map(TokioIo::new)
            }
        });
        timeout(self.patience, endpoint.connect_with_connector(dial)).await.ok()?.ok()
    }

    /// Plays a plan to its end, or as long as it has patience.
    pub(crate) async fn play(&self, target: &Target, plan: Plan, dice: &mut Dice) {
        let calls = match plan {
            Plan::Wire(wire) => return drop(timeout(self.patience, self.wire(target, wire, dice)).await),
            Plan::Calls(calls) => calls,
        };
        self.known.lock().unwrap().remember(&calls);
        let mut channels: Vec<(Who, Channel)> = Vec::new();
        for call in &calls {
            if !channels.iter().any(|(who, _)| *who == call.who)
                && let Some(channel) = self.channel(target, call.who).await
            {
                channels.push((call.who, channel));
            }
        }
        let played = calls.into_iter().filter_map(|call| {
            let channel = channels.iter().find(|(who, _)| *who == call.who)?.1.clone();
            let dice = Dice::new(dice.next());
            let lists = target.lists;
            Some(async move { drop(timeout(self.patience, self.call(channel, call, dice, lists)).await) })
        });
        join_all(played.collect::<Vec<_>>()).await;
    }

    async fn call(&self, channel: Channel, call: Call, mut dice: Dice, lists: bool) {
        let Call { path, who, steps, answers } = call;
        let who = if lists { who } else { Who::Stranger };
        let (sender, receiver) = mpsc::channel::<Bytes>(16);
        let answering = sender.clone();
        let mut client = tonic::client::Grpc::new(channel)
            .max_decoding_message_size(64 * 1024 * 1024)
            .max_encoding_message_size(64 * 1024 * 1024);
        let closes = steps.iter().any(|step| matches!(step, Step::Close));
        let (gone, mut is_gone) = mpsc::channel::<()>(1);
        let speaking = async move {
            for step in steps {
                match step {
                    Step::Say(bytes) => {
                        if sender.send(bytes).await.is_err() {
                            break;
                        }
                    }
                    Step::Wait(ms) => sleep(Duration::from_millis(ms)).await,
                    Step::Close => break,
                    Step::Drop => {
                        let _gone_already = gone.send(()).await;
                        break;
                    }
                }
            }
            drop(sender);
        };
        let hearing = async {
            let answering = (answers != Answers::Nothing && !closes).then_some(answering);
            if client.ready().await.is_err() {
                return;
            }
            let route = tonic::codegen::http::uri::PathAndQuery::from_static(path);
            let answered = client.streaming(Request::new(ReceiverStream::new(receiver)), route, Raw).await;
            let Ok(mut messages) = answered.map(tonic::Response::into_inner) else { return };
            while let Ok(Some(message)) = messages.message().await {
                self.ears.hear(path, who, &message);
                let Some(out) = answering.as_ref().filter(|_| path == CAST) else { continue };
                for said in casting::answer(&message, answers, &mut dice) {
                    drop(out.send(said).await);
                }
            }
        };
        let both = async {
            tokio::join!(speaking, hearing);
        };
        tokio::select! {
            () = both => {}
            Some(()) = is_gone.recv() => {}
        }
    }

    async fn wire(&self, target: &Target, wire: Wire, dice: &mut Dice) {
        let dial = || self.net.dial(&target.address);
        let name = || ServerName::try_from(target.name.clone()).unwrap();
        let said: Vec<u8> = (0..500).flat_map(|_| dice.bytes::<8>()).collect();
        match wire {
            Wire::Idle(count) => {
                let mut open: Vec<BoxIo> = Vec::new();
                for _ in 0..count {
                    if let Ok(io) = dial().await {
                        open.push(io);
                    }
                }
                sleep(self.patience).await;
            }
            Wire::NoCertificate => {
                let Ok(io) = dial().await else { return };
                let Ok(mut tls) = self.wallet.without().connect(name(), io).await else { return };
                drop(tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await);
                // Settings may come before the certificate is missed: an answer to a call may not.
                let mut heard = vec![0; 4_096];
                drop(tls.read(&mut heard).await);
            }
            Wire::Garbage => {
                let Ok(mut io) = dial().await else { return };
                drop(io.write_all(&said).await);
                drop(io.read(&mut [0; 64]).await);
            }
            Wire::GarbageInside => {
                let Ok(io) = dial().await else { return };
                let Ok(mut tls) = self.wallet.of(Who::Mallory).connect(name(), io).await else { return };
                drop(tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await);
                drop(tls.write_all(&said).await);
                drop(tls.read(&mut [0; 4_096]).await);
            }
        }
    }
}
