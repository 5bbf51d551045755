//! This node's member record: made when it starts, and again when it has another certificate or another writer's key.

use std::sync::Arc;

use crate::adapters::peer::{Fingerprint, Identity, IdentityError};
use crate::adapters::store::FjallStore;
use crate::domain::ids::WriterKey;
use crate::driver::Copies;
use crate::ports::{CopyStore, LoomStore, StoreError};

use thiserror::Error;

/// Why there is no member record of this certificate.
#[derive(Debug, Error)]
pub(super) enum MemberError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The node's certificate and the key under which it writes.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) identity: Arc<Identity>,
    pub(super) store: Arc<FjallStore>,
    pub(super) copies: Arc<Copies>,
    /// Of which certificate and key there is a record, or none can be made.
    pub(super) known: Option<(Fingerprint, WriterKey)>,
}

impl Membership {
    /// Makes what is missing. Another try follows once certificate or key is another.
    ///
    /// # Errors
    /// A certificate that makes no member record, or a failed write.
    pub(super) fn look(&mut self) -> Result<(), MemberError> {
        let now = (self.identity.certificate().fingerprint, self.store.writer());
        if self.known == Some(now) {
            return Ok(());
        }
        self.known = Some(now);
        let key = self.store.key();
        let (chain, by_certificate) = self.identity.attest(key.writer())?;
        if self.store.attest_own(&key.vouch(chain, by_certificate))? {
            tracing::info!(writer = %key.writer(), certificate = %now.0, "a member record binds this node's key to its certificate");
            self.copies.vouched_anew();
        }
        Ok(())
    }
}

/// Looks, and says what a person has to know. Looking signs and writes: not on a thread that serves.
pub(super) async fn look(mut membership: Membership) -> Option<Membership> {
    let looked = tokio::task::spawn_blocking(move || {
        if let Err(error) = membership.look() {
            let error = format!("{:#}", anyhow::Error::from(error));
            tracing::warn!(error, "looms know this node by its writer's key alone, and not by its name");
        }
        membership
    });
    looked.await.ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::adapters::clock::SystemClock;
    use crate::adapters::peer::{make_authority, make_certificate};
    use crate::adapters::private;
    use crate::adapters::store::{FileBook, MemoryStore, NodeKey, StoreOptions};
    use crate::domain::copies::Keeper;
    use crate::domain::ids::LoomId;
    use crate::domain::members::Attestation;
    use crate::driver::{CopyPolicy, CopyTerms};
    use crate::ports::MemberStore as _;

    #[derive(Debug)]
    struct Nobody;

    impl CopyPolicy for Nobody {
        fn terms(&self, _: &Keeper) -> CopyTerms {
            CopyTerms::NONE
        }
    }

    fn certificate(folder: &Path, authority_key: &str, name: &str) {
        let (certificate, key) = make_certificate(authority_key, &name.parse().unwrap()).unwrap();
        private::replace(&folder.join("node.key"), key.as_bytes()).unwrap();
        private::replace(&folder.join("node.pem"), certificate.as_bytes()).unwrap();
    }

    fn of_own_key(store: &FjallStore) -> Vec<Attestation> {
        let all = store.attestations_of(LoomId::from_parts(1, [1; 16]), store.writer()).unwrap();
        all.into_iter().filter(|it| matches!(it, Attestation::Member(_))).collect()
    }

    #[test]
    fn a_node_has_a_member_record_of_each_certificate_and_each_key_that_it_had() {
        let folder = tempfile::tempdir().unwrap();
        let (authority, authority_key) = make_authority().unwrap();
        private::replace(&folder.path().join("ca.pem"), authority.as_bytes()).unwrap();
        certificate(folder.path(), &authority_key, "agents");
        let at = |name: &str| folder.path().join(name);
        let identity = Identity::from_files(&at("ca.pem"), &at("node.pem"), &at("node.key")).unwrap();
        let store = FjallStore::open(&at("loom"), StoreOptions::default()).unwrap();
        let copies = Copies::new(
            "agents".parse().unwrap(),
            Arc::clone(&store) as _,
            MemoryStore::with_key(NodeKey::from_secret(&[1; 32])),
            FileBook::new(&at("copies")),
            Arc::new(Nobody),
            Arc::new(SystemClock::default()),
        );
        let (identity, copies) = (Arc::new(identity), copies.unwrap());
        let mut membership = Membership { identity, store: Arc::clone(&store), copies, known: None };
        membership.look().unwrap();
        membership.look().unwrap();
        assert_eq!(of_own_key(&store).len(), 1);
        certificate(folder.path(), &authority_key, "agents");
        membership.look().unwrap();
        assert_eq!(of_own_key(&store).len(), 2, "the certificate was renewed");
        let old = store.writer();
        store.renew(store.writer(), &std::collections::BTreeSet::new()).unwrap();
        membership.look().unwrap();
        assert_eq!(of_own_key(&store).len(), 1, "the new key has a record of its own");
        let of_old = store.attestations_of(LoomId::from_parts(1, [1; 16]), old).unwrap();
        assert_eq!(of_old.len(), 2, "and the old one keeps its own");
        membership.known = None;
        membership.look().unwrap();
        assert_eq!(of_own_key(&store).len(), 1, "a start makes no second one of the same");
    }
}
