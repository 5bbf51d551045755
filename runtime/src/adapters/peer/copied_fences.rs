//! Signed fences as the protocol has them.

use bytes::Bytes;

use super::convert::shown;
use super::credentials;
use super::sync::{Unreadable, array, log_from, log_to, writer};
use super::wire as v1;
use crate::domain::copies::{CopyMessage, FenceAnswer};
use crate::domain::ids::{EntityId, LoomId};
use crate::domain::loom::SignedFence;
use crate::domain::members::ProvedEntry;
use crate::domain::remote::Credentials;

pub(super) fn fencing_to(fence: &SignedFence, credentials: &Credentials) -> v1::CopyFencing {
    v1::CopyFencing {
        loom: fence.loom.to_string(),
        entity: fence.entity.to_string(),
        epoch: fence.epoch,
        by: Bytes::copy_from_slice(fence.by.as_bytes()),
        signature: Bytes::copy_from_slice(&fence.signature),
        proofs: credentials::proofs(credentials),
        vouching: Some(credentials::vouching(&credentials.attestations)),
    }
}

pub(super) fn fencing_from(it: &v1::CopyFencing) -> Result<CopyMessage, Unreadable> {
    let fence = SignedFence {
        loom: it.loom.parse()?,
        entity: it.entity.parse()?,
        epoch: it.epoch,
        by: writer(&it.by)?,
        signature: array("signature", &it.signature)?,
    };
    let proofs = ProvedEntry::parse_all(&it.proofs).map_err(Unreadable::Entries)?;
    let vouching = credentials::vouching_from("vouching", it.vouching.as_ref());
    let attestations = vouching.map_err(Unreadable::Vouching)?;
    let credentials = Box::new(Credentials { proofs, attestations });
    Ok(CopyMessage::Fencing { fence: Box::new(fence), credentials })
}

pub(super) fn fenced_to((loom, entity): (LoomId, EntityId), epoch: u64, answer: FenceAnswer) -> v1::CopyFenced {
    let (refused, above, logs) = match answer {
        FenceAnswer::Stored { logs } => (String::new(), 0, logs.iter().map(log_to).collect()),
        FenceAnswer::Refused { above, what } => (what, above, Vec::new()),
    };
    v1::CopyFenced { loom: loom.to_string(), entity: entity.to_string(), epoch, refused, above, logs }
}

pub(super) fn fenced_from(it: v1::CopyFenced) -> Result<CopyMessage, Unreadable> {
    let loom = it.loom.parse()?;
    let answer = if it.refused.is_empty() {
        // Of the owner alone a keeper says how far its log is.
        let logs = it.logs.first().map(|log| log_from(loom, log)).transpose()?.into_iter().collect();
        FenceAnswer::Stored { logs }
    } else {
        FenceAnswer::Refused { above: it.above, what: shown(it.refused) }
    };
    Ok(CopyMessage::Fenced { loom, entity: it.entity.parse()?, epoch: it.epoch, answer })
}
