//! What a node file means where it says nothing, as far as serde asks for it by name.

use crate::domain::limits;

pub(super) const fn yes() -> bool {
    true
}

pub(super) const fn children() -> usize {
    limits::PEER_CHILDREN_DEFAULT
}

pub(super) const fn keep_bytes() -> u64 {
    limits::KEEP_BYTES_DEFAULT
}

pub(super) const fn keep_looms() -> usize {
    limits::LOOMS_PER_PEER_MAX
}

pub(super) const fn casts() -> usize {
    limits::PEER_CASTS_DEFAULT
}

pub(super) const fn entities() -> usize {
    limits::HOSTED_PER_PEER_MAX
}

pub(super) const fn queue() -> usize {
    limits::PEER_QUEUE_DEFAULT
}
