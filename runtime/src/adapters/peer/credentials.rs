//! What an order shows of its caller's rights, and what a node says of its own key, as messages: parsed within bounds, and checked against
//! who is at the other end.

use std::sync::Arc;

use bytes::Bytes;

use super::identity::Identity;
use super::wire as v1;
use crate::adapters::x509::X509;
use crate::domain::ids::{NodeAddress, WriterKey};
use crate::domain::limits::{CREDENTIALS_BYTES_MAX, CREDENTIALS_MAX, ORIGINS_MAX};
use crate::domain::loom::Origin;
use crate::domain::members::{
    Attestation, AuthorityId, CheckedAttestation, MemberRecord, Principal, ProvedEntry, Succession, relied_on,
};
use crate::domain::remote::{Credentials, HostIdentity};

use super::convert::{Off, off, parsed};

pub(super) fn vouching(all: &[Attestation]) -> v1::Vouching {
    let mut vouching = v1::Vouching::default();
    for attestation in all {
        let bytes = Bytes::from(attestation.to_bytes());
        match attestation {
            Attestation::Member(_) => vouching.members.push(bytes),
            Attestation::Succession(_) => vouching.successions.push(bytes),
        }
    }
    vouching
}

pub(super) fn vouching_from(field: &str, it: Option<&v1::Vouching>) -> Result<Vec<Attestation>, Off> {
    let Some(it) = it else { return Ok(Vec::new()) };
    let count = it.members.len().saturating_add(it.successions.len());
    let bytes = it.members.iter().chain(&it.successions).fold(0_usize, |sum, one| sum.saturating_add(one.len()));
    if count > CREDENTIALS_MAX || bytes > CREDENTIALS_BYTES_MAX {
        return Err(off(
            field,
            format!(
                "has {count} records of {bytes} bytes, and the limits are {CREDENTIALS_MAX} and {CREDENTIALS_BYTES_MAX} bytes"
            ),
        ));
    }
    let members = it.members.iter().map(|bytes| MemberRecord::parse(bytes).map(Attestation::Member));
    let successions = it.successions.iter().map(|bytes| Succession::parse(bytes).map(Attestation::Succession));
    members.chain(successions).collect::<Result<_, _>>().map_err(|error| off(field, error))
}

pub(super) fn proofs(credentials: &Credentials) -> Vec<Bytes> {
    credentials.proofs.iter().map(|proof| Bytes::from(proof.to_bytes())).collect()
}

pub(super) fn credentials(open: &v1::Open) -> Result<Arc<Credentials>, Off> {
    let proofs = ProvedEntry::parse_all(&open.proofs).map_err(|error| off("proofs", error))?;
    let attestations = vouching_from("vouching", open.vouching.as_ref())?;
    Ok(Arc::new(Credentials { proofs, attestations }))
}

pub(super) fn origins(names: &[String]) -> Result<Vec<Origin>, Off> {
    if names.len() > ORIGINS_MAX {
        return Err(off("origins", format!("names {} nodes, and the limit is {ORIGINS_MAX}", names.len())));
    }
    names.iter().map(|name| Ok(Origin { node: parsed("origins", name)?, authority: None })).collect()
}

/// What a node says of its own key.
pub(super) fn identified(key: WriterKey, attestations: &[Attestation]) -> v1::IdentifyResponse {
    v1::IdentifyResponse { writer: Bytes::copy_from_slice(key.as_bytes()), vouching: Some(vouching(attestations)) }
}

/// Whose word it is that a record is of the node at the other end.
pub(super) enum Seen {
    /// The certificate that the connection was made with is of one of these authorities.
    Authorities(Vec<AuthorityId>),
    /// A node of this machine has looked at the certificate.
    Passed,
}

impl Seen {
    pub(super) fn of(identity: &Identity) -> Self {
        Self::Authorities(identity.authorities())
    }

    fn has(&self, authority: &AuthorityId) -> bool {
        match self {
            Self::Authorities(all) => all.contains(authority),
            Self::Passed => true,
        }
    }
}

/// As whom a peer writes. It is a node only where a record binds its very key to the name and to an authority that the connection has
/// shown too; else it is no more than its key.
pub(super) fn identity(it: &v1::IdentifyResponse, peer: &NodeAddress, seen: &Seen) -> Result<HostIdentity, Off> {
    let key: [u8; 32] = it.writer.as_ref().try_into().map_err(|_| off("writer", "is no key of 32 bytes"))?;
    let key = WriterKey::from_bytes(key);
    let mut attestations = vouching_from("vouching", it.vouching.as_ref())?;
    let mut principal = Principal::Key(key);
    attestations.retain(|attestation| match attestation.check(&X509) {
        Err(_) => false,
        Ok(CheckedAttestation::Succession(_)) => true,
        Ok(CheckedAttestation::Member(record)) => {
            let is_its =
                record.key() == key && record.node().name == *peer.name() && seen.has(&record.node().authority);
            if is_its {
                principal = Principal::Node(record.node().clone());
            }
            is_its
        }
    });
    // Of other keys a host says nothing that is kept for it.
    let older = |key| {
        let of_key = attestations.iter().filter(|it| it.key() == key);
        Ok::<_, std::convert::Infallible>(of_key.filter_map(Attestation::predecessor).collect())
    };
    let relied = relied_on(key, older).unwrap_or_default();
    attestations.retain(|it| relied.contains(&it.key()));
    Ok(HostIdentity { key, principal, attestations })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::store::NodeKey;

    fn key(secret: u8) -> NodeKey {
        NodeKey::from_secret(&[secret; 32])
    }

    #[test]
    fn a_host_is_taken_for_its_key_and_what_it_says_of_other_keys_is_not_kept() {
        let peer: NodeAddress = "b@127.0.0.1:1".parse().unwrap();
        let [before, stray] = [(2, 3), (4, 5)].map(|(old, new)| Attestation::Succession(key(old).succeed(&key(new))));
        let told = identified(key(3).writer(), &[before.clone(), stray]);
        let host = identity(&told, &peer, &Seen::Passed).unwrap();
        assert_eq!((host.key, host.principal), (key(3).writer(), Principal::Key(key(3).writer())));
        assert_eq!(host.attestations, [before]);
        let cut = v1::IdentifyResponse { writer: Bytes::from_static(&[1; 31]), vouching: None };
        assert!(identity(&cut, &peer, &Seen::Passed).unwrap_err().contains("no key of 32 bytes"));
    }
}
