//! The machine's clock and randomness.
#![expect(clippy::disallowed_methods, reason = "this adapter is the clock")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::ports::{BoxFuture, Clock};

/// 1 s. So late a wait notices at most that the machine was suspended.
const SLICE: Duration = Duration::from_secs(1);

/// Microseconds since the machine was started, those in which it was suspended too.
#[cfg(target_os = "linux")]
fn elapsed_us() -> u64 {
    let since = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(since.tv_sec).unwrap_or_default();
    seconds.saturating_mul(1_000_000).saturating_add(u64::try_from(since.tv_nsec / 1_000).unwrap_or_default())
}

/// Microseconds since this was asked first. Other systems count a suspended machine here, or do not.
#[cfg(not(target_os = "linux"))]
fn elapsed_us() -> u64 {
    static BEGAN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let since = BEGAN.get_or_init(std::time::Instant::now).elapsed();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

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

    fn elapsed_us(&self) -> u64 {
        elapsed_us()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let (began_us, mut slept) = (elapsed_us(), Duration::ZERO);
            while let Some(left) = duration.checked_sub(slept).filter(|left| !left.is_zero()) {
                let slice = left.min(SLICE);
                tokio::time::sleep(slice).await;
                // What the timers of the process do not count is a suspended machine.
                let passed = Duration::from_micros(elapsed_us().saturating_sub(began_us));
                slept = slept.saturating_add(slice).max(passed);
            }
        })
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
