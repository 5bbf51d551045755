//! What a chain of certificates says for good: who vouches for which name, by which keys (RFC 5280).
//!
//! Whether a certificate is believed when somebody connects is decided by rustls, with the time and the deny list of that moment. Here
//! it is read for the record, and what a record means may not change: neither time nor anything else of this machine is looked at, and
//! what is not understood is refused. The same chain has the same answer everywhere.

mod certificate;
mod der;

use std::error::Error;

use thiserror::Error;

use crate::domain::ids::NodeNameError;
use crate::domain::limits::CHAIN_CERTIFICATES_MAX;
use crate::domain::members::{AuthorityId, CertificateSignature, Certified, ChainCheck, NodeId, Scheme};
use certificate::{Certificate, algorithm_of};

pub(crate) use certificate::period;
#[cfg(test)]
pub(crate) use der::moment;

/// Why a chain of certificates does not hold. Places count from 1, the node's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChainError {
    /// Bytes that are no certificate of version 3, or say something twice.
    #[error("certificate {place}: {what}")]
    Unreadable {
        /// Which.
        place: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// An extension that has to be understood.
    #[error("certificate {place} has a critical extension that is not understood here: {object}")]
    Unknown {
        /// Which.
        place: usize,
        /// Its object identifier, in hexadecimal.
        object: String,
    },
    /// A certificate that limits the names below it.
    #[error("certificate {place} constrains names, which is not understood here")]
    Constrained {
        /// Which.
        place: usize,
    },
    /// A certificate that signs and may not.
    #[error("certificate {place} signs certificate {signed}, and {why}")]
    NoAuthority {
        /// Which.
        place: usize,
        /// Which one it has signed.
        signed: usize,
        /// Why it may not.
        why: &'static str,
    },
    /// Too many certificates below one.
    #[error("certificate {place} has {below} authorities below it, and allows {allowed}")]
    PathLength {
        /// Which.
        place: usize,
        /// How many there are.
        below: usize,
        /// How many there may be.
        allowed: u64,
    },
    /// Another issuer.
    #[error("certificate {place} names an issuer that certificate {by} is not")]
    Issuer {
        /// Which.
        place: usize,
        /// The next one.
        by: usize,
    },
    /// A signature that does not hold.
    #[error("certificate {place} is not signed by certificate {by}, or by an algorithm that is not known here")]
    Signature {
        /// Which.
        place: usize,
        /// The next one, or itself.
        by: usize,
    },
    /// The node's certificate is an authority's.
    #[error("the node's certificate is an authority's")]
    Authority,
    /// What the node's certificate is for.
    #[error("certificate {place} is not for this: {why}")]
    Usage {
        /// Which.
        place: usize,
        /// What is missing.
        why: &'static str,
    },
    /// Not one name.
    #[error("the node's certificate has {names} names, and has to name one node")]
    Names {
        /// How many.
        names: usize,
    },
    /// A name that no node has.
    #[error("the node's certificate names no node")]
    Name(#[source] NodeNameError),
    /// Not the word of the certificate's key.
    #[error("the statement is not signed by the key of the node's certificate")]
    Statement,
}

/// The check of chains as X.509 has it.
#[derive(Debug, Clone, Copy, Default)]
pub struct X509;

impl ChainCheck for X509 {
    fn check(
        &self,
        chain: &[Vec<u8>],
        statement: &[u8],
        signature: &CertificateSignature,
    ) -> Result<Certified, Box<dyn Error + Send + Sync>> {
        Ok(check(chain, statement, signature)?)
    }
}

fn check(chain: &[Vec<u8>], statement: &[u8], signature: &CertificateSignature) -> Result<Certified, ChainError> {
    let read = (1..).zip(chain).map(|(place, der)| Certificate::read(der).map_err(|error| error.at(place)));
    let read = read.collect::<Result<Vec<_>, _>>()?;
    let [leaf, .., last] = read.as_slice() else {
        return Err(ChainError::Unreadable { place: 1, what: "it is alone, and nobody vouches for it" });
    };
    for (place, (signed, by)) in (1..).zip(read.iter().zip(read.iter().skip(1))) {
        may_sign(by, place)?;
        signed.is_issued_by(by, place)?;
    }
    // What the last one says of itself is only then its authority's word.
    last.is_issued_by_itself(read.len())?;
    let name = node_name(leaf)?;
    if !leaf.has_signed(algorithm_of(signature.scheme), statement, &signature.bytes) {
        return Err(ChainError::Statement);
    }
    Ok(Certified { node: NodeId { authority: AuthorityId::of(last.public_key), name }, begins_us: leaf.period.0 })
}

/// Whether a certificate may sign the one at `signed`, which is not the last.
fn may_sign(by: &Certificate<'_>, signed: usize) -> Result<(), ChainError> {
    let place = signed.saturating_add(1);
    let refused = |why| Err(ChainError::NoAuthority { place, signed, why });
    if !by.is_authority {
        return refused("is no authority");
    }
    if by.key_usage.is_some_and(|usage| !usage.signs_certificates()) {
        return refused("its key is not for signing certificates");
    }
    if by.extended_usage.is_some_and(|usage| !usage) {
        return Err(ChainError::Usage { place, why: "it is neither for servers nor for clients of TLS" });
    }
    // The node's own certificate does not count.
    let below = signed.saturating_sub(1);
    match by.path_length {
        Some(allowed) if below as u64 > allowed => Err(ChainError::PathLength { place, below, allowed }),
        _ => Ok(()),
    }
}

/// The name of the node, in the certificate of one.
fn node_name(leaf: &Certificate<'_>) -> Result<crate::domain::ids::NodeName, ChainError> {
    if leaf.is_authority {
        return Err(ChainError::Authority);
    }
    if leaf.key_usage.is_some_and(|usage| !usage.signs_statements()) {
        return Err(ChainError::Usage { place: 1, why: "its key is not for signatures" });
    }
    if leaf.extended_usage.is_some_and(|usage| !usage) {
        return Err(ChainError::Usage { place: 1, why: "it is neither for servers nor for clients of TLS" });
    }
    match leaf.names.as_slice() {
        [name] => String::from_utf8_lossy(name).parse().map_err(ChainError::Name),
        names => Err(ChainError::Names { names: names.len() }),
    }
}

/// Orders certificates into a chain: a node's first, then each that has signed the one before it, up to one that has signed itself.
/// Nothing where these do not lead there.
pub(crate) fn chain_of(node: &[u8], others: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
    let mut chain = vec![node.to_vec()];
    while chain.len() < CHAIN_CERTIFICATES_MAX {
        let below = chain.last()?.clone();
        let below = Certificate::read(&below).ok()?;
        let signs = |der: &&Vec<u8>| {
            Certificate::read(der).is_ok_and(|by| by.is_authority && below.is_issued_by(&by, 1).is_ok())
        };
        let next = others.iter().filter(|der| !chain.contains(der)).find(signs)?.clone();
        let is_last = Certificate::read(&next).is_ok_and(|it| it.is_issued_by_itself(1).is_ok());
        chain.push(next);
        if is_last {
            return Some(chain);
        }
    }
    None
}

/// The authority with this certificate.
pub(crate) fn authority(der: &[u8]) -> Option<AuthorityId> {
    Certificate::read(der).ok().map(|certificate| AuthorityId::of(certificate.public_key))
}

/// How a key can sign so that it is understood here; nothing for other kinds of keys.
pub(crate) fn scheme(node: &[u8]) -> Option<Scheme> {
    let leaf = Certificate::read(node).ok()?;
    [Scheme::EcdsaP256, Scheme::EcdsaP384, Scheme::Ed25519, Scheme::RsaPss]
        .into_iter()
        .find(|scheme| leaf.has_key(algorithm_of(*scheme)))
}
