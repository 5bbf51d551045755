//! What every fuzz target does: valid input first, then a few changes to it.
//!
//! A target runs a bounded number of times with every test. `BOLERO_RANDOM_TEST_TIME_MS` and `BOLERO_RANDOM_ITERATIONS` set
//! another bound (docs/ARCHITECTURE.md, "Tests that run long"), and `cargo bolero test` leads the same targets by coverage.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};

use bolero::check;

/// Which seed, what of it becomes which byte, and where it is cut or doubled.
pub(crate) type Change = (u8, Vec<(u16, u8)>, Option<u16>);

/// A seed with some bytes changed, and cut or doubled.
pub(crate) fn changed(seeds: &[Vec<u8>], (which, bytes, length): &Change) -> Vec<u8> {
    let mut seed = seeds.get(usize::from(*which) % seeds.len().max(1)).cloned().unwrap_or_default();
    // Mostly few changes: what is wrong in eight places is refused for the first of them.
    for (at, byte) in bytes.iter().take(1 + usize::from(*which) / 64) {
        let at = usize::from(*at) % seed.len().max(1);
        if let Some(place) = seed.get_mut(at) {
            *place = *byte;
        }
    }
    match length {
        Some(length) if length % 4 > 1 => {}
        Some(length) if length % 4 == 0 => seed.truncate(usize::from(*length) % (seed.len() + 1)),
        Some(at) => {
            let tail = seed.get(usize::from(*at) % (seed.len() + 1)..).unwrap_or_default().to_vec();
            seed.extend(tail);
        }
        None => {}
    }
    seed
}

/// Runs a target on so many changed seeds. A panic ends the test, so nothing is looked at after one.
///
/// `body` says whether the bytes were taken: if no change ever is, the target looks at nothing but the first check.
pub(crate) fn target_of(name: &str, seeds: &[Vec<u8>], times: usize, body: impl Fn(Vec<u8>) -> bool) {
    let (tried, taken) = (AtomicU64::new(0), AtomicU64::new(0));
    let body = AssertUnwindSafe(body);
    check!().with_type::<Change>().with_iterations(times).for_each(|change| {
        let body = &body;
        let bytes = changed(seeds, change);
        let is_changed = !seeds.contains(&bytes);
        tried.fetch_add(1, Ordering::Relaxed);
        taken.fetch_add(u64::from(body(bytes) && is_changed), Ordering::Relaxed);
    });
    println!("{name}: {tried:?} tried, {taken:?} changed and taken");
    assert!(taken.into_inner() > 0, "{name}");
}
