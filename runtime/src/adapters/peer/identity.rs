//! Who a node is, and who is at the other end: certificates of one authority, with the node's name in them.
//!
//! A private key never leaves this module. Files are looked at again at every handshake, so a certificate that was renewed is
//! used without a restart; one that cannot be read leaves the old one in force.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::SigningKey;
use rustls::{RootCertStore, SignatureScheme};
use thiserror::Error;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::certificate::{CertificateInfo, Fingerprint};
use super::client::chain;
use super::guarded::{Denied, Guarded};
use super::net::BoxIo;
use crate::adapters::reading;
use crate::adapters::x509;
use crate::domain::caller::Caller;
use crate::domain::ids::{NodeName, NodeNameError, WriterKey};
use crate::domain::limits::CHAIN_CERTIFICATES_MAX;
use crate::domain::limits::NOTE_BYTES_MAX;
use crate::domain::members::{AuthorityId, CertificateSignature, MemberRecord, Scheme};

/// Certificates that cannot be used.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("{} cannot be read", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is in it is not what it should be.
    #[error("{what}: {why}")]
    Unusable {
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

pub(super) fn unusable(what: &'static str) -> impl Fn(&dyn fmt::Display) -> IdentityError {
    move |why| IdentityError::Unusable { what, why: why.to_string() }
}

/// The PEM texts of a node.
struct Pems {
    authority: String,
    certificate: String,
    /// The key, or, in the moment between the two steps of a renewal, the next one.
    keys: Vec<String>,
}

#[derive(Debug)]
enum Source {
    Memory,
    Files { authority: PathBuf, certificate: PathBuf, key: PathBuf },
}

/// A node's certificate, its key, and the authority that it trusts.
pub struct Identity {
    source: Source,
    loaded: Mutex<Loaded>,
    denied: Denied,
}

/// What tells a file from the one that was there before.
type Stamp = Option<(SystemTime, u64)>;

#[derive(Clone)]
struct Loaded {
    /// Of the files as they were looked at last, whether they could be used or not.
    stamps: [Stamp; 4],
    info: CertificateInfo,
    authorities: Vec<AuthorityId>,
    client: TlsConnector,
    server: TlsAcceptor,
    signer: Signer,
}

/// The certificate's key, and the certificates that vouch for it.
#[derive(Clone)]
struct Signer {
    /// In order, up to one that has signed itself; nothing where they do not lead there.
    chain: Option<Vec<Vec<u8>>>,
    key: Arc<dyn SigningKey>,
}

impl Signer {
    fn sign(&self, key: WriterKey) -> Result<(Vec<Vec<u8>>, CertificateSignature), IdentityError> {
        let what = "a member record from the node's certificate";
        let chain = self.chain.clone().ok_or_else(|| {
            let why = format!(
                "it and the certificates beside it do not lead to an authority that has signed itself, within {CHAIN_CERTIFICATES_MAX}"
            );
            unusable(what)(&why)
        })?;
        let scheme = x509::scheme(chain.first().map_or(&[], Vec::as_slice));
        let scheme = scheme.ok_or_else(|| unusable(what)(&"its key is none of P-256, P-384, Ed25519 and RSA"))?;
        let offered = match scheme {
            Scheme::EcdsaP256 => SignatureScheme::ECDSA_NISTP256_SHA256,
            Scheme::EcdsaP384 => SignatureScheme::ECDSA_NISTP384_SHA384,
            Scheme::Ed25519 => SignatureScheme::ED25519,
            Scheme::RsaPss => SignatureScheme::RSA_PSS_SHA256,
        };
        let signer = self.key.choose_scheme(&[offered]).ok_or_else(|| unusable(what)(&"its key does not sign"))?;
        let bytes = signer.sign(&MemberRecord::statement(&key, &chain)).map_err(|error| unusable(what)(&error))?;
        Ok((chain, CertificateSignature { scheme, bytes }))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Identity").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Identity {
    /// From PEM texts: the authority's certificate, the node's, and its key.
    ///
    /// # Errors
    /// Texts that are none, or do not belong together.
    pub fn from_pem(authority: &str, certificate: &str, key: &str) -> Result<Self, IdentityError> {
        let pems =
            Pems { authority: authority.to_owned(), certificate: certificate.to_owned(), keys: vec![key.to_owned()] };
        Ok(Self { source: Source::Memory, loaded: Mutex::new(load(&pems, [None; 4])?), denied: Denied::default() })
    }

    /// From files, which are read again when they have changed.
    ///
    /// # Errors
    /// As [`Identity::from_pem`], and files that cannot be read.
    pub fn from_files(authority: &Path, certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        let files = [authority, certificate, key];
        let stamps = stamps(files);
        let loaded = load(&read(files)?, stamps)?;
        let [authority, certificate, key] = files.map(Path::to_owned);
        let source = Source::Files { authority, certificate, key };
        Ok(Self { source, loaded: Mutex::new(loaded), denied: Denied::default() })
    }

    /// The certificate in use. Files that have changed are read now.
    pub fn certificate(&self) -> CertificateInfo {
        self.current().info
    }

    /// The authorities that are trusted: who is at the other end of a connection has a certificate of one of them.
    pub fn authorities(&self) -> Vec<AuthorityId> {
        self.current().authorities
    }

    /// The word of the certificate's key that a writer's key is this node's, and the chain that vouches for the certificate.
    ///
    /// # Errors
    /// A chain that leads to no authority, or a key that signs in no way that is understood.
    pub fn attest(&self, key: WriterKey) -> Result<(Vec<Vec<u8>>, CertificateSignature), IdentityError> {
        self.current().signer.sign(key)
    }

    /// Refuses these certificates from here on, and cuts the connections of those that have one.
    pub fn deny(&self, fingerprints: BTreeSet<Fingerprint>) {
        self.denied.replace(fingerprints);
    }

    fn current(&self) -> Loaded {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Source::Files { authority, certificate, key } = &self.source {
            let files = [authority.as_path(), certificate.as_path(), key.as_path()];
            let stamps = stamps(files);
            if stamps != loaded.stamps {
                match read(files).and_then(|pems| load(&pems, stamps)) {
                    Ok(newer) => {
                        tracing::info!("the certificates have changed and are in use");
                        *loaded = newer;
                    }
                    // Half of a renewal may be on disk: they are read again when they change again.
                    Err(error) => {
                        let error = chain(&error);
                        tracing::warn!(error, "the changed certificates cannot be used; the old ones stay");
                        loaded.stamps = stamps;
                    }
                }
            }
        }
        loaded.clone()
    }

    /// Makes a connection to a node of this name safe; whoever answers under another name is refused.
    pub(super) async fn connect(&self, name: &NodeName, io: BoxIo) -> io::Result<BoxIo> {
        let invalid = |_| io::Error::new(io::ErrorKind::InvalidInput, format!("`{name}` is no name of a node"));
        let server = ServerName::try_from(name.to_string()).map_err(invalid)?;
        let stream = self.current().client.connect(server, io).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).map(CertificateDer::as_ref);
        let fingerprint = Fingerprint::of(certificate.unwrap_or_default());
        Ok(Box::new(Guarded::new(Box::new(stream), &self.denied, fingerprint, name)?))
    }

    /// Makes an accepted connection safe, and says whose it is.
    pub(super) async fn accept(&self, io: BoxIo) -> io::Result<(BoxIo, Caller)> {
        let stream = self.current().server.accept(io).await?;
        let (_, session) = stream.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let refused = |what: String| io::Error::new(io::ErrorKind::PermissionDenied, what);
        let certificate = certificate.ok_or_else(|| refused("no certificate".to_owned()))?;
        let parsed = webpki::EndEntityCert::try_from(certificate).map_err(|error| refused(error.to_string()))?;
        let names: Vec<&str> = parsed.valid_dns_names().collect();
        let [name] = names.as_slice() else {
            return Err(refused(format!("a certificate has to name one node, and this one names {}", names.len())));
        };
        let fingerprint = Fingerprint::of(certificate);
        let name: NodeName =
            name.parse().map_err(|error: NodeNameError| refused(format!("the certificate: {error}")))?;
        let stream = Guarded::new(Box::new(stream), &self.denied, fingerprint, &name)?;
        Ok((Box::new(stream), Caller::Peer(name)))
    }
}

/// Where a renewal puts the next key before the certificate is replaced: the pair on disk is whole at every moment.
pub fn next_key(key: &Path) -> PathBuf {
    let mut name = key.as_os_str().to_owned();
    name.push(".next");
    PathBuf::from(name)
}

fn stamps([authority, certificate, key]: [&Path; 3]) -> [Stamp; 4] {
    [authority, certificate, key, &next_key(key)].map(|file| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((metadata.modified().ok()?, metadata.ino()))
    })
}

fn read([authority, certificate, key]: [&Path; 3]) -> Result<Pems, IdentityError> {
    let text = |file: &Path| {
        reading::text(file, NOTE_BYTES_MAX).map_err(|source| IdentityError::Read { file: file.to_owned(), source })
    };
    let (authority, certificate) = (text(authority)?, text(certificate)?);
    let mut keys = vec![text(key)?];
    // There is one only while a renewal is at work, or was cut off.
    keys.extend(text(&next_key(key)).ok());
    Ok(Pems { authority, certificate, keys })
}

/// With the first of the keys that belongs to the certificate.
fn load(pems: &Pems, stamps: [Stamp; 4]) -> Result<Loaded, IdentityError> {
    let mut failure = None;
    for key in &pems.keys {
        match load_pair(pems, key, stamps) {
            Ok(loaded) => return Ok(loaded),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| unusable("the node's key")(&"there is none")))
}

fn load_pair(pems: &Pems, key: &str, stamps: [Stamp; 4]) -> Result<Loaded, IdentityError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = &[&rustls::version::TLS13];
    let certificates = |what: &'static str, pem: &str| {
        let found: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        let found = found.map_err(|error| unusable(what)(&error))?;
        if found.is_empty() { Err(unusable(what)(&"there is no certificate in it")) } else { Ok(found) }
    };
    let mut roots = RootCertStore::empty();
    let authorities = certificates("the authority's certificate", &pems.authority)?;
    let trusted = authorities.iter().filter_map(|root| x509::authority(root)).collect();
    for root in authorities.clone() {
        roots.add(root).map_err(|error| unusable("the authority's certificate")(&error))?;
    }
    let chain = certificates("the node's certificate", &pems.certificate)?;
    let info = CertificateInfo::from_pem(&pems.certificate)?;
    let key = || {
        PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| unusable("the node's key")(&"it is not a PEM key"))
    };
    let roots = Arc::new(roots);
    let others = chain.iter().skip(1).chain(&authorities).map(|it| it.to_vec()).collect::<Vec<_>>();
    let path = chain.first().and_then(|node| x509::chain_of(node, &others));
    let both = unusable("the node's certificate and key");
    let client = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| both(&error))?
        .with_root_certificates(Arc::clone(&roots))
        .with_client_auth_cert(chain.clone(), key()?);
    let mut client = client.map_err(|error| both(&error))?;
    client.alpn_protocols = vec![b"h2".to_vec()];
    let signing = provider.key_provider.load_private_key(key()?).map_err(|error| both(&error))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
    let verifier = verifier.map_err(|error| unusable("the authority's certificate")(&error))?;
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| both(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key()?);
    let mut server = server.map_err(|error| both(&error))?;
    server.alpn_protocols = vec![b"h2".to_vec()];
    let (client, server) = (TlsConnector::from(Arc::new(client)), TlsAcceptor::from(Arc::new(server)));
    Ok(Loaded { stamps, info, authorities: trusted, client, server, signer: Signer { chain: path, key: signing } })
}
