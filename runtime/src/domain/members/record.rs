//! What a writer's key stands for: the certificates that bind it to a node, and the key that it takes the place of.
//!
//! A *member record* binds a key to a node, with the word of both. A *succession* puts a key in the place of another, with the word of
//! both. Neither belongs to one loom, and neither holds for a time: whoever reads a log years later reads the same. Bytes that come
//! from outside are parsed and then checked; only a check makes a [`CheckedRecord`] or a [`CheckedSuccession`], and only these decide
//! anything. What X.509 says is read by whoever implements [`ChainCheck`].

use std::collections::HashSet;
use std::error::Error;
use std::fmt;

use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use thiserror::Error;

use super::terms::{AuthorityId, CertificateId, NodeId};
use crate::domain::ids::WriterKey;
use crate::domain::limits::{
    CERTIFICATE_BYTES_MAX, CERTIFICATE_SIGNATURE_BYTES_MAX, CHAIN_CERTIFICATES_MAX, MEMBER_RECORD_BYTES_MAX,
    PREDECESSORS_MAX, SUCCESSION_BYTES_MAX,
};

/// Says what is signed, so that no other signature of a key can be taken for it.
const MEMBER: &[u8] = b"cantrip member v2\0";
const SUCCESSION: &[u8] = b"cantrip succession v2\0";
/// The version of both forms: the format of the record that they came with.
const VERSION: u16 = 2;
/// Which of the two something is, where both are kept together.
const MEMBER_KIND: u8 = 1;
const SUCCESSION_KIND: u8 = 2;

impl AuthorityId {
    /// The authority with this public key (`SubjectPublicKeyInfo`, DER).
    pub fn of(public_key: &[u8]) -> Self {
        Self::from_bytes(*blake3::hash(public_key).as_bytes())
    }
}

impl CertificateId {
    /// Of a certificate's DER.
    pub fn of(certificate: &[u8]) -> Self {
        Self::from_bytes(*blake3::hash(certificate).as_bytes())
    }
}

/// How a certificate's key signs, by the names that TLS has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scheme {
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ecdsa_secp256r1_sha256")]
    EcdsaP256,
    /// ECDSA on P-384 with SHA-384.
    #[serde(rename = "ecdsa_secp384r1_sha384")]
    EcdsaP384,
    /// Ed25519.
    #[serde(rename = "ed25519")]
    Ed25519,
    /// RSASSA-PSS with SHA-256, of a key of at least 2 048 bits.
    #[serde(rename = "rsa_pss_rsae_sha256")]
    RsaPss,
}

/// A signature by the key of a certificate, as TLS has it: DER for ECDSA.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertificateSignature {
    /// How it was made.
    pub scheme: Scheme,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The word of a certificate's key and of a writer's key that both are of one node. Nothing of it is believed before
/// [`MemberRecord::check`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberRecord {
    /// The writer's key.
    pub key: WriterKey,
    /// The certificates in DER: the node's own first, then each the one that signed the one before it, and last the authority's
    /// own, which its key has signed itself.
    pub chain: Vec<Vec<u8>>,
    /// By the key of the first certificate, over [`MemberRecord::statement`].
    pub by_certificate: CertificateSignature,
    /// Ed25519 by the writer's key, over the same.
    pub by_key: [u8; 64],
}

/// What a chain of certificates says, once it was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    /// The authority at its end, and the name in the first certificate.
    pub node: NodeId,
    /// When the first certificate begins to hold, in microseconds since 1970.
    pub begins_us: u64,
}

/// Reads chains of certificates. The same chain has the same answer on every node and at every time.
pub trait ChainCheck: Send + Sync + fmt::Debug {
    /// Checks each signature, whether each may sign the one before it, and that the key of the first has signed a statement.
    ///
    /// # Errors
    /// What is wrong with which certificate.
    fn check(
        &self,
        chain: &[Vec<u8>],
        statement: &[u8],
        signature: &CertificateSignature,
    ) -> Result<Certified, Box<dyn Error + Send + Sync>>;
}

/// Why a member record or a succession is refused.
#[derive(Debug, Error)]
pub enum RecordError {
    /// More bytes than one may have.
    #[error("it has {bytes} bytes, and the limit is {max}")]
    TooLong {
        /// How many.
        bytes: usize,
        /// How many are read.
        max: usize,
    },
    /// Bytes that are none.
    #[error("its bytes cannot be read: {0}")]
    Malformed(String),
    /// Another way to write the same: each has one form.
    #[error("its bytes are not in the one form that it has")]
    NotCanonical,
    /// Of another version.
    #[error("it has version {found}, and this one reads {VERSION}")]
    Version {
        /// Which.
        found: u16,
    },
    /// A chain that is too short or too long.
    #[error(
        "its chain has {certificates} certificates, and has to have 2 to {CHAIN_CERTIFICATES_MAX}: the node's first, the authority's last"
    )]
    Chain {
        /// How many.
        certificates: usize,
    },
    /// A certificate that is too long.
    #[error("certificate {place} of its chain has {bytes} bytes, and the limit is {CERTIFICATE_BYTES_MAX}")]
    Certificate {
        /// Its place, from 1.
        place: usize,
        /// How many.
        bytes: usize,
    },
    /// A signature that is too long.
    #[error("the certificate's signature has {bytes} bytes, and the limit is {CERTIFICATE_SIGNATURE_BYTES_MAX}")]
    SignatureLength {
        /// How many.
        bytes: usize,
    },
    /// Not the word of the key.
    #[error("it is not signed by the writer's key {key}")]
    Unsigned {
        /// Which should have signed.
        key: WriterKey,
    },
    /// A chain that vouches for nothing.
    #[error("its chain of certificates does not hold")]
    Untrusted(#[source] Box<dyn Error + Send + Sync>),
    /// A key in its own place.
    #[error("the key {key} would take its own place")]
    Itself {
        /// Which.
        key: WriterKey,
    },
    /// As many as are kept are kept.
    #[error("{count} {what} are kept already, as many as there may be")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
    },
}

pub(super) fn malformed(error: impl fmt::Display) -> RecordError {
    RecordError::Malformed(error.to_string())
}

/// Whether a key has signed a statement: by the strict reading, under which no key of small order signs anything.
fn has_signed(key: &WriterKey, statement: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(key.as_bytes())
        .is_ok_and(|key| key.verify_strict(statement, &Signature::from_bytes(signature)).is_ok())
}

pub(super) fn written<T: Serialize>(value: &T) -> Vec<u8> {
    // Numbers, strings and bytes: DAG-CBOR holds all of them.
    serde_ipld_dagcbor::to_vec(value).unwrap_or_default()
}

/// Reads a form and sees that it is the one that would be written.
pub(super) fn read<T: Serialize + for<'de> Deserialize<'de>>(bytes: &[u8], max: usize) -> Result<T, RecordError> {
    if bytes.len() > max {
        return Err(RecordError::TooLong { bytes: bytes.len(), max });
    }
    let value: T = serde_ipld_dagcbor::from_slice(bytes).map_err(malformed)?;
    if written(&value) != bytes { Err(RecordError::NotCanonical) } else { Ok(value) }
}

/// A member record as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct WrittenRecord {
    v: u16,
    key: WriterKey,
    chain: Vec<ByteBuf>,
    scheme: Scheme,
    by_certificate: ByteBuf,
    by_key: ByteBuf,
}

/// A succession as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct WrittenSuccession {
    v: u16,
    old: WriterKey,
    new: WriterKey,
    by_old: ByteBuf,
    by_new: ByteBuf,
}

pub(super) fn signature(bytes: ByteBuf) -> Result<[u8; 64], RecordError> {
    let length = bytes.len();
    bytes.into_vec().try_into().map_err(|_| malformed(format!("a signature of {length} bytes, and it needs 64")))
}

const fn known(version: u16) -> Result<(), RecordError> {
    if version == VERSION { Ok(()) } else { Err(RecordError::Version { found: version }) }
}

impl MemberRecord {
    /// What both keys sign: the domain, the writer's key, how many certificates there are, and the BLAKE3 of each. Nobody can put
    /// another certificate into the chain of a record.
    pub fn statement(key: &WriterKey, chain: &[Vec<u8>]) -> Vec<u8> {
        let mut statement = [MEMBER, key.as_bytes()].concat();
        // A chain of more is refused; the number tells a shorter one apart.
        statement.push(u8::try_from(chain.len()).unwrap_or(u8::MAX));
        for certificate in chain {
            statement.extend(CertificateId::of(certificate).as_bytes());
        }
        statement
    }

    /// As it is kept and sent: DAG-CBOR, in one form.
    pub fn to_bytes(&self) -> Vec<u8> {
        written(&WrittenRecord {
            v: VERSION,
            key: self.key,
            chain: self.chain.iter().cloned().map(ByteBuf::from).collect(),
            scheme: self.by_certificate.scheme,
            by_certificate: ByteBuf::from(self.by_certificate.bytes.clone()),
            by_key: ByteBuf::from(self.by_key),
        })
    }

    /// Reads one. Nothing is said about what it claims.
    ///
    /// # Errors
    /// Bytes that are none, in another form than the one, or more than there may be.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        let it: WrittenRecord = read(bytes, MEMBER_RECORD_BYTES_MAX)?;
        known(it.v)?;
        let record = Self {
            key: it.key,
            chain: it.chain.into_iter().map(ByteBuf::into_vec).collect(),
            by_certificate: CertificateSignature { scheme: it.scheme, bytes: it.by_certificate.into_vec() },
            by_key: signature(it.by_key)?,
        };
        record.is_bounded()?;
        Ok(record)
    }

    fn is_bounded(&self) -> Result<(), RecordError> {
        let certificates = self.chain.len();
        if !(2..=CHAIN_CERTIFICATES_MAX).contains(&certificates) {
            return Err(RecordError::Chain { certificates });
        }
        for (place, certificate) in (1..).zip(&self.chain) {
            if certificate.len() > CERTIFICATE_BYTES_MAX {
                return Err(RecordError::Certificate { place, bytes: certificate.len() });
            }
        }
        let bytes = self.by_certificate.bytes.len();
        if bytes > CERTIFICATE_SIGNATURE_BYTES_MAX { Err(RecordError::SignatureLength { bytes }) } else { Ok(()) }
    }

    /// Checks both signatures and the chain.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(&self, chains: &dyn ChainCheck) -> Result<CheckedRecord, RecordError> {
        self.is_bounded()?;
        let statement = Self::statement(&self.key, &self.chain);
        if !has_signed(&self.key, &statement, &self.by_key) {
            return Err(RecordError::Unsigned { key: self.key });
        }
        let certified = chains.check(&self.chain, &statement, &self.by_certificate).map_err(RecordError::Untrusted)?;
        let Certified { node, begins_us } = certified;
        let certificate = CertificateId::of(self.chain.first().map_or(&[], Vec::as_slice));
        Ok(CheckedRecord { key: self.key, node, certificate, begins_us })
    }
}

/// A member record that holds. Two are the same if they bind the same key to the same node by the same certificate: signatures may
/// differ, and so may the certificates between the first and the last. A certificate that two authorities vouch for makes two.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckedRecord {
    key: WriterKey,
    node: NodeId,
    certificate: CertificateId,
    begins_us: u64,
}

impl CheckedRecord {
    /// The writer's key.
    pub const fn key(&self) -> WriterKey {
        self.key
    }

    /// The node that it is of.
    pub const fn node(&self) -> &NodeId {
        &self.node
    }

    /// The node's certificate.
    pub const fn certificate(&self) -> CertificateId {
        self.certificate
    }

    /// When that one begins to hold, in microseconds since 1970.
    pub const fn begins_us(&self) -> u64 {
        self.begins_us
    }

    /// What tells it from others of the same key.
    pub fn tag(&self) -> [u8; 32] {
        let name = self.node.name.as_str().as_bytes();
        *blake3::hash(&[self.certificate.as_bytes(), self.node.authority.as_bytes(), name].concat()).as_bytes()
    }
}

/// The word of two keys that the new one takes the place of the old one. Nothing of it is believed before [`Succession::check`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Succession {
    /// The key before.
    pub old: WriterKey,
    /// The key after.
    pub new: WriterKey,
    /// Ed25519 by the old key, over [`Succession::statement`].
    pub by_old: [u8; 64],
    /// By the new one, over the same: nobody is made a successor who does not want it.
    pub by_new: [u8; 64],
}

impl Succession {
    /// What both keys sign: the domain, the old key and the new one.
    pub fn statement(old: &WriterKey, new: &WriterKey) -> Vec<u8> {
        [SUCCESSION, old.as_bytes(), new.as_bytes()].concat()
    }

    /// As it is kept and sent: DAG-CBOR, in one form.
    pub fn to_bytes(&self) -> Vec<u8> {
        written(&WrittenSuccession {
            v: VERSION,
            old: self.old,
            new: self.new,
            by_old: ByteBuf::from(self.by_old),
            by_new: ByteBuf::from(self.by_new),
        })
    }

    /// Reads one. Nothing is said about what it claims.
    ///
    /// # Errors
    /// Bytes that are none, in another form than the one, or more than there may be.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        let it: WrittenSuccession = read(bytes, SUCCESSION_BYTES_MAX)?;
        known(it.v)?;
        Ok(Self { old: it.old, new: it.new, by_old: signature(it.by_old)?, by_new: signature(it.by_new)? })
    }

    /// Checks both signatures.
    ///
    /// # Errors
    /// A key in its own place, or one that has not signed.
    pub fn check(&self) -> Result<CheckedSuccession, RecordError> {
        let Self { old, new, by_old, by_new } = self;
        if old == new {
            return Err(RecordError::Itself { key: *old });
        }
        let statement = Self::statement(old, new);
        for (key, signature) in [(old, by_old), (new, by_new)] {
            if !has_signed(key, &statement, signature) {
                return Err(RecordError::Unsigned { key: *key });
            }
        }
        Ok(CheckedSuccession { old: *old, new: *new })
    }
}

/// A succession that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckedSuccession {
    old: WriterKey,
    new: WriterKey,
}

impl CheckedSuccession {
    /// The key before.
    pub const fn predecessor(&self) -> WriterKey {
        self.old
    }

    /// The key after.
    pub const fn successor(&self) -> WriterKey {
        self.new
    }
}

/// One thing that vouches for a writer's key, as it is kept and sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attestation {
    /// The key is a node's.
    Member(MemberRecord),
    /// The key takes the place of another.
    Succession(Succession),
}

impl Attestation {
    /// The key that it vouches for.
    pub const fn key(&self) -> WriterKey {
        match self {
            Self::Member(record) => record.key,
            Self::Succession(succession) => succession.new,
        }
    }

    /// The key whose place that one takes.
    pub const fn predecessor(&self) -> Option<WriterKey> {
        match self {
            Self::Member(_) => None,
            Self::Succession(succession) => Some(succession.old),
        }
    }

    /// Checks it.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(&self, chains: &dyn ChainCheck) -> Result<CheckedAttestation, RecordError> {
        Ok(match self {
            Self::Member(record) => CheckedAttestation::Member(record.check(chains)?),
            Self::Succession(succession) => CheckedAttestation::Succession(succession.check()?),
        })
    }

    /// Its bytes, without saying which of the two it is.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Member(record) => record.to_bytes(),
            Self::Succession(succession) => succession.to_bytes(),
        }
    }

    /// Which of the two it is.
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Member(_) => MEMBER_KIND,
            Self::Succession(_) => SUCCESSION_KIND,
        }
    }

    /// Reads one of a kind.
    ///
    /// # Errors
    /// As [`MemberRecord::parse`], and a kind that is none.
    pub fn parse(kind: u8, bytes: &[u8]) -> Result<Self, RecordError> {
        match kind {
            MEMBER_KIND => MemberRecord::parse(bytes).map(Self::Member),
            SUCCESSION_KIND => Succession::parse(bytes).map(Self::Succession),
            _ => Err(malformed(format!("{kind} is neither a member record nor a succession"))),
        }
    }
}

/// The keys that the standing of a writer rests on: its own, and those whose place it takes, the nearest first, however long the way.
/// At most [`PREDECESSORS_MAX`] are followed back.
///
/// # Errors
/// Whatever `predecessors` refuses with.
pub fn relied_on<E>(
    writer: WriterKey,
    mut predecessors: impl FnMut(WriterKey) -> Result<Vec<WriterKey>, E>,
) -> Result<Vec<WriterKey>, E> {
    let mut keys = vec![writer];
    let mut met = HashSet::from([writer]);
    let mut at = 0;
    while let Some(key) = keys.get(at).copied() {
        at = at.saturating_add(1);
        for older in predecessors(key)? {
            if keys.len() <= PREDECESSORS_MAX && met.insert(older) {
                keys.push(older);
            }
        }
    }
    Ok(keys)
}

/// One that holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CheckedAttestation {
    /// The key is a node's.
    Member(CheckedRecord),
    /// The key takes the place of another.
    Succession(CheckedSuccession),
}

impl CheckedAttestation {
    /// What tells it from others of the same key and kind.
    pub fn tag(&self) -> [u8; 32] {
        match self {
            Self::Member(record) => record.tag(),
            Self::Succession(succession) => *succession.old.as_bytes(),
        }
    }
}

/// Everything that vouches for the keys of a loom's writers, checked: one input of whoever decides by entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vouched {
    /// Which key is of which node, each once.
    pub records: Vec<CheckedRecord>,
    /// Which key takes whose place, each once.
    pub successions: Vec<CheckedSuccession>,
}

impl FromIterator<CheckedAttestation> for Vouched {
    fn from_iter<I: IntoIterator<Item = CheckedAttestation>>(all: I) -> Self {
        let mut vouched = Self::default();
        for one in all {
            match one {
                CheckedAttestation::Member(record) => vouched.records.push(record),
                CheckedAttestation::Succession(succession) => vouched.successions.push(succession),
            }
        }
        vouched.records.sort_unstable();
        vouched.records.dedup();
        vouched.successions.sort_unstable();
        vouched.successions.dedup();
        vouched
    }
}
