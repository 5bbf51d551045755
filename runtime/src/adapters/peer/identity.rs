//! Who a node is, and who is at the other end: certificates of one authority, with the node's name in them.
//!
//! A private key never leaves this module. Files are looked at again at every handshake, so a certificate that was renewed is
//! used without a restart; one that cannot be read leaves the old one in force.
#![expect(clippy::disallowed_methods, reason = "reads the files that the node's file names")]

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use thiserror::Error;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::net::BoxIo;
use crate::domain::caller::Caller;
use crate::domain::ids::{NodeName, NodeNameError};

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

fn unusable(what: &'static str) -> impl Fn(&dyn fmt::Display) -> IdentityError {
    move |why| IdentityError::Unusable { what, why: why.to_string() }
}

/// The PEM texts of a node.
struct Pems {
    authority: String,
    certificate: String,
    key: String,
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
}

#[derive(Clone)]
struct Loaded {
    stamps: [Option<SystemTime>; 3],
    client: TlsConnector,
    server: TlsAcceptor,
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
        let pems = Pems { authority: authority.to_owned(), certificate: certificate.to_owned(), key: key.to_owned() };
        Ok(Self { source: Source::Memory, loaded: Mutex::new(load(&pems, [None; 3])?) })
    }

    /// From files, which are read again when they have changed.
    ///
    /// # Errors
    /// As [`Identity::from_pem`], and files that cannot be read.
    pub fn from_files(authority: &Path, certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        let files = [authority, certificate, key];
        let stamps = files.map(stamp);
        let loaded = load(&read(files)?, stamps)?;
        let [authority, certificate, key] = files.map(Path::to_owned);
        Ok(Self { source: Source::Files { authority, certificate, key }, loaded: Mutex::new(loaded) })
    }

    fn current(&self) -> Loaded {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Source::Files { authority, certificate, key } = &self.source {
            let files = [authority.as_path(), certificate.as_path(), key.as_path()];
            let stamps = files.map(stamp);
            if stamps != loaded.stamps {
                match read(files).and_then(|pems| load(&pems, stamps)) {
                    Ok(newer) => {
                        tracing::info!("the certificates have changed and are in use");
                        *loaded = newer;
                    }
                    // Half of a renewal may be on disk: the next handshake looks again.
                    Err(error) => tracing::warn!(%error, "the changed certificates cannot be used; the old ones stay"),
                }
            }
        }
        loaded.clone()
    }

    /// Makes a connection to a node of this name safe; whoever answers under another name is refused.
    pub(super) async fn connect(&self, name: &NodeName, io: BoxIo) -> io::Result<BoxIo> {
        let invalid = |_| io::Error::new(io::ErrorKind::InvalidInput, format!("`{name}` is no name of a node"));
        let server = ServerName::try_from(name.to_string()).map_err(invalid)?;
        Ok(Box::new(self.current().client.connect(server, io).await?))
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
        let name = name.parse().map_err(|error: NodeNameError| refused(format!("the certificate: {error}")))?;
        Ok((Box::new(stream), Caller::Peer(name)))
    }
}

fn stamp(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}

fn read([authority, certificate, key]: [&Path; 3]) -> Result<Pems, IdentityError> {
    let text = |file: &Path| {
        std::fs::read_to_string(file).map_err(|source| IdentityError::Read { file: file.to_owned(), source })
    };
    Ok(Pems { authority: text(authority)?, certificate: text(certificate)?, key: text(key)? })
}

fn load(pems: &Pems, stamps: [Option<SystemTime>; 3]) -> Result<Loaded, IdentityError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = &[&rustls::version::TLS13];
    let certificates = |what: &'static str, pem: &str| {
        let found: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        let found = found.map_err(|error| unusable(what)(&error))?;
        if found.is_empty() { Err(unusable(what)(&"there is no certificate in it")) } else { Ok(found) }
    };
    let mut roots = RootCertStore::empty();
    for root in certificates("the authority's certificate", &pems.authority)? {
        roots.add(root).map_err(|error| unusable("the authority's certificate")(&error))?;
    }
    let chain = certificates("the node's certificate", &pems.certificate)?;
    let key = || {
        PrivateKeyDer::from_pem_slice(pems.key.as_bytes())
            .map_err(|_| unusable("the node's key")(&"it is not a PEM key"))
    };
    let roots = Arc::new(roots);
    let both = unusable("the node's certificate and key");
    let client = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| both(&error))?
        .with_root_certificates(Arc::clone(&roots))
        .with_client_auth_cert(chain.clone(), key()?);
    let mut client = client.map_err(|error| both(&error))?;
    client.alpn_protocols = vec![b"h2".to_vec()];
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
    let verifier = verifier.map_err(|error| unusable("the authority's certificate")(&error))?;
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| both(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key()?);
    let mut server = server.map_err(|error| both(&error))?;
    server.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Loaded { stamps, client: TlsConnector::from(Arc::new(client)), server: TlsAcceptor::from(Arc::new(server)) })
}

fn authority_params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "cantrip cluster");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// Makes the authority of a cluster: its certificate and its key, as PEM.
///
/// # Errors
/// Only where the machine cannot make keys.
pub fn make_authority() -> Result<(String, String), IdentityError> {
    let failed = unusable("the authority");
    let key = KeyPair::generate().map_err(|error| failed(&error))?;
    let params = authority_params().map_err(|error| failed(&error))?;
    let certificate = params.self_signed(&key).map_err(|error| failed(&error))?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Makes a node's certificate and its key, as PEM, with the key of an authority that [`make_authority`] made. The name is what
/// peers know the node by.
///
/// # Errors
/// A key that is none.
pub fn make_certificate(authority_key: &str, name: &NodeName) -> Result<(String, String), IdentityError> {
    let failed = unusable("the node's certificate");
    let signer = KeyPair::from_pem(authority_key).map_err(|error| unusable("the authority's key")(&error))?;
    let issuer = Issuer::new(authority_params().map_err(|error| failed(&error))?, signer);
    let key = KeyPair::generate().map_err(|error| failed(&error))?;
    let mut params = CertificateParams::new(vec![name.to_string()]).map_err(|error| failed(&error))?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name.as_str());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &issuer).map_err(|error| failed(&error))?;
    Ok((certificate.pem(), key.serialize_pem()))
}
