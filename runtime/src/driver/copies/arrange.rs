//! Who keeps a loom, and how many of them a turn waits for: what may be arranged.

use thiserror::Error;

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

/// Has a loom kept by a node in this way from now on, as `node` has it kept. A turn of it is recorded once `acks` others have it on
/// disk; it waits for them so many milliseconds, or, with 0, as long as it takes.
///
/// # Errors
/// Too many keepers, or more acknowledgements than disks.
pub fn arrange(
    copies: &mut LoomCopies,
    node: &Keeper,
    (with, kind): (&Keeper, CopyKind),
    acks: Option<(u32, u64)>,
) -> Result<(), CopyError> {
    let loom = copies.loom;
    if !copies.keepers.contains_key(with) && copies.keepers.len() >= KEEPERS_MAX {
        return Err(CopyError::TooMany { loom });
    }
    copies.keep(with, kind);
    if let Some((acks, wait_ms)) = acks {
        (copies.acks, copies.acks_wait_ms) = (acks, wait_ms);
    }
    let disks = copies.others(node).filter(|(_, kind)| *kind == CopyKind::Disk).count();
    if usize::try_from(copies.acks).unwrap_or(usize::MAX) > disks {
        return Err(CopyError::Acks { loom, acks: copies.acks, disks });
    }
    Ok(())
}
