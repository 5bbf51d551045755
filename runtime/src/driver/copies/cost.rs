//! What is counted of messages about copies: what a peer brings, and what waits for it.

use crate::domain::copies::{CastAnswer, CopyMessage, FenceAnswer, LogState};
use crate::domain::limits::ENTRY_COST_BYTES;
use crate::domain::loom::{CastHead, Segment};

/// What something takes of its bringer's share: its bytes, and what each entry or text costs beside them.
pub(super) fn cost(bytes: usize, count: usize) -> u64 {
    (bytes as u64).saturating_add((count as u64).saturating_mul(ENTRY_COST_BYTES))
}

/// What a message takes of memory while it waits to be sent, roughly and not too little.
pub(super) fn weight(message: &CopyMessage) -> usize {
    let inside = match message {
        CopyMessage::Have { keepers, logs, casts, .. } => {
            let heads = casts.len().saturating_mul(size_of::<CastHead>());
            let logs = logs.len().saturating_mul(size_of::<LogState>());
            logs.saturating_add(heads).saturating_add(keepers.len().saturating_mul(128))
        }
        CopyMessage::Cast(step) => {
            let heads = step.heads.len().saturating_mul(size_of::<CastHead>());
            step.entries.iter().fold(heads, |sum, entry| sum.saturating_add(entry.len()))
        }
        CopyMessage::Text { bytes, .. } => bytes.len(),
        CopyMessage::Attestation { attestation, .. } => attestation.to_bytes().len(),
        CopyMessage::Segment(segment) => size(segment),
        CopyMessage::Fence { credentials, .. } | CopyMessage::Fencing { credentials, .. } => {
            let proofs = credentials.proofs.iter().map(|proof| proof.to_bytes().len());
            let attestations = credentials.attestations.iter().map(|it| it.to_bytes().len());
            proofs.chain(attestations).fold(0, usize::saturating_add)
        }
        CopyMessage::Held { .. }
        | CopyMessage::Later { .. }
        | CopyMessage::CastAnswered { answer: CastAnswer::Held { .. } | CastAnswer::Later, .. } => 0,
        CopyMessage::Fenced { answer: FenceAnswer::Stored { logs }, .. } => {
            logs.len().saturating_mul(size_of::<LogState>())
        }
        CopyMessage::Refused { what, .. }
        | CopyMessage::CastAnswered { answer: CastAnswer::Refused { what }, .. }
        | CopyMessage::Fenced { answer: FenceAnswer::Refused { what, .. }, .. } => what.len(),
        CopyMessage::Divided { proof, entries } => {
            let entries = entries.iter().map(|entry| entry.to_bytes().len());
            entries.fold(proof.to_bytes().len(), usize::saturating_add)
        }
    };
    inside.saturating_add(256)
}

pub(super) fn size(segment: &Segment) -> usize {
    segment.entries.iter().fold(0, |sum, entry| sum.saturating_add(entry.len()))
}
