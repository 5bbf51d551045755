//! What vouches for writers' keys, as it goes with an order and with a node's identity.

use std::collections::{BTreeMap, HashSet};

use crate::domain::ids::{LoomId, WriterKey};
use crate::domain::limits::{CREDENTIALS_BYTES_MAX, CREDENTIALS_MAX};
use crate::domain::members::{Attestation, NodeId, relied_on};
use crate::ports::{LoomStore, StoreError};

/// What vouches for these keys and for those whose place they take: of the records that bind a key to a node the one whose
/// certificate begins last, and every succession.
///
/// # Errors
/// A record that cannot be read.
pub(crate) fn vouching(
    store: &dyn LoomStore,
    loom: LoomId,
    keys: impl IntoIterator<Item = WriterKey>,
) -> Result<Vec<Attestation>, StoreError> {
    let (mut all, mut bytes, mut met) = (Vec::new(), 0_usize, HashSet::new());
    for key in keys {
        relied_on(key, |key| {
            let of_key = store.attestations_of(loom, key)?;
            let older = of_key.iter().filter_map(Attestation::predecessor).collect();
            let new = if met.insert(key) { newest(store, of_key) } else { Vec::new() };
            for attestation in new {
                bytes = bytes.saturating_add(attestation.to_bytes().len());
                if all.len() < CREDENTIALS_MAX && bytes <= CREDENTIALS_BYTES_MAX {
                    all.push(attestation);
                }
            }
            Ok::<_, StoreError>(older)
        })?;
    }
    Ok(all)
}

fn newest(store: &dyn LoomStore, of_key: Vec<Attestation>) -> Vec<Attestation> {
    let mut newest: BTreeMap<NodeId, (u64, Attestation)> = BTreeMap::new();
    let mut all = Vec::new();
    for attestation in of_key {
        // What does not hold is named by a verification.
        let Ok(vouched) = store.checked(std::slice::from_ref(&attestation)) else { continue };
        match vouched.records.first() {
            None => all.push(attestation),
            Some(record) => {
                let begins_us = record.begins_us();
                if newest.get(record.node()).is_none_or(|(known, _)| *known < begins_us) {
                    newest.insert(record.node().clone(), (begins_us, attestation));
                }
            }
        }
    }
    all.extend(newest.into_values().map(|(_, attestation)| attestation));
    all
}
