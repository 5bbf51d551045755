//! The machine's clock and randomness.
#![expect(clippy::disallowed_methods, reason = "this adapter is the clock")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::ports::{BoxFuture, Clock};

/// The machine's clock, kept from going backwards.
#[derive(Debug, Default)]
pub struct SystemClock {
    latest_us: AtomicU64,
}

impl Clock for SystemClock {
    fn now_us(&self) -> u64 {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX));
        self.latest_us.fetch_max(now, Ordering::Relaxed).max(now)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    #[expect(clippy::expect_used, reason = "without randomness no id is unique: nothing may go on")]
    fn random(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the machine gives random bytes");
    }
}

/// A clock that moves by itself, one microsecond a look, and waits for nobody. Randomness comes from a seed: the same
/// calls give the same run.
#[derive(Debug)]
pub struct SteppingClock {
    now_us: AtomicU64,
    random: AtomicU64,
}

impl SteppingClock {
    /// A clock that starts at 1 700 000 000 seconds after 1970, with this seed.
    pub const fn new(seed: u64) -> Self {
        Self { now_us: AtomicU64::new(1_700_000_000_000_000), random: AtomicU64::new(seed) }
    }
}

impl Clock for SteppingClock {
    fn now_us(&self) -> u64 {
        self.now_us.fetch_add(1, Ordering::Relaxed)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
            // A wait that bounds an episode must not be over before the work beside it was looked at.
            tokio::task::yield_now().await;
            if micros < u64::MAX {
                self.now_us.fetch_add(micros, Ordering::Relaxed);
            }
        })
    }

    fn random(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            // SplitMix64 (Steele, Lea, Flood 2014): every state gives another number.
            let mut mixed =
                self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            chunk.iter_mut().zip(mixed.to_le_bytes()).for_each(|(to, from)| *to = from);
        }
    }
}
