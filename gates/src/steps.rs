//! How much work a text cost, in steps and not in seconds.
//!
//! Owns one counter for each thread. Whoever walks a text that a stranger wrote says how many bytes, or comparisons, one
//! walk took; a test then compares a text with one twice as long, on any machine and under any load. A count is one
//! addition for each walk and none for each byte, so it stays in what is shipped: what is tested is what runs.

use std::cell::Cell;

thread_local! {
    static TAKEN: Cell<u64> = const { Cell::new(0) };
}

/// Adds the steps of one walk.
pub fn count(steps: usize) {
    let steps = u64::try_from(steps).unwrap_or(u64::MAX);
    TAKEN.with(|taken| taken.set(taken.get().saturating_add(steps)));
}

/// What work returns, and how many steps it took on this thread.
///
/// ```
/// let (_, short) = cantrip_gates::steps::taken_by(|| cantrip_gates::redact("a_key=1"));
/// assert!(short > 0);
/// ```
pub fn taken_by<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = TAKEN.get();
    let returned = work();
    (returned, TAKEN.get().saturating_sub(before))
}
