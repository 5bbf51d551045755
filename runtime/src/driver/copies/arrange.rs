//! Who keeps a loom, and how many of them a turn waits for: what may be arranged.

use std::collections::BTreeSet;

use thiserror::Error;

use super::keeping::disks;
use crate::domain::copies::{CopyKind, KEEPERS_MAX, Keeper, LoomCopies};
use crate::domain::ids::LoomId;
use crate::ports::StoreError;

/// Why a loom's copies could not be arranged.
#[derive(Debug, Error)]
pub enum CopyError {
    /// More keepers than there may be.
    #[error("the loom {loom} has {KEEPERS_MAX} keepers already")]
    TooMany {
        /// The loom.
        loom: LoomId,
    },
    /// More acknowledgements than there are disks.
    #[error(
        "a turn of loom {loom} would wait for {acks} other disks (acks), and {disks} of its keepers keep it on disk: have more of them keep \
         it, or ask for fewer with --acks"
    )]
    Acks {
        /// The loom.
        loom: LoomId,
        /// What was asked for.
        acks: u32,
        /// How many there could be.
        disks: usize,
    },
    /// Ours.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How a loom is to be kept by a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrangement {
    /// Where.
    pub kind: CopyKind,
    /// A turn is recorded once so many others have it on disk; it waits for them so many milliseconds, or, with 0, as long as it takes.
    /// Nothing: as before.
    pub acks: Option<(u32, u64)>,
    /// Whether nobody is asked for what was acknowledged before, and whoever kept it goes at once.
    pub accept_loss: bool,
}

/// Has a loom kept by a node in this way from now on, as `node` has it kept. Where that one's acknowledgements have counted, it goes once
/// the change is acknowledged.
///
/// # Errors
/// Too many keepers, or more acknowledgements than disks.
pub fn arrange(
    copies: &mut LoomCopies,
    node: &Keeper,
    with: &Keeper,
    arrangement: Arrangement,
) -> Result<(), CopyError> {
    let (loom, Arrangement { kind, acks, accept_loss }) = (copies.loom, arrangement);
    if !copies.keepers.contains_key(with) && copies.keepers.len() >= KEEPERS_MAX {
        return Err(CopyError::TooMany { loom });
    }
    if let Some((acks, wait_ms)) = acks {
        (copies.acks, copies.acks_wait_ms) = (acks, wait_ms);
    }
    let counts = copies.recorded.iter().any(|it| it.acks > 0 && it.keepers.contains(with));
    if kind != CopyKind::Disk && counts && !accept_loss {
        copies.leaving.insert(with.clone());
    } else {
        copies.leaving.remove(with);
        copies.keep(with, kind);
    }
    let disks = disks(copies, node);
    if usize::try_from(copies.acks).unwrap_or(usize::MAX) > disks.len() {
        return Err(CopyError::Acks { loom, acks: copies.acks, disks: disks.len() });
    }
    copies.counting = if copies.acks > 0 { disks } else { BTreeSet::new() };
    copies.accept_loss |= accept_loss;
    Ok(())
}
