//! The time of day, for bounds alone.
//!
//! Owns the only look at a clock in this crate: a walk through files and a request to the web are bounded by real time.
//! What a gate returns never depends on it otherwise.

use std::time::Instant;

pub(crate) fn now() -> Instant {
    Instant::now()
}
