//! Work that blocks, away from the async threads.
//!
//! Owns the one place that moves file work off the runtime's threads, and the flag that stops it when nobody waits for
//! it any more. Without a tokio runtime the work is done where it stands.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::GateError;

/// Told to the work: stop, nobody waits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Abandoned(Arc<AtomicBool>);

impl Abandoned {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sets the flag when the waiting future is dropped.
struct SetOnDrop(Abandoned);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `work` on a thread that may block.
pub(crate) async fn blocking<T, F>(gate: &'static str, work: F) -> Result<T, GateError>
where
    T: Send + 'static,
    F: FnOnce(&Abandoned) -> Result<T, GateError> + Send + 'static,
{
    let abandoned = Abandoned::default();
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return work(&abandoned);
    };
    let _waiting = SetOnDrop(abandoned.clone());
    let done = runtime.spawn_blocking(move || work(&abandoned)).await;
    done.unwrap_or_else(|_| Err(GateError::Failed(format!("{gate}: was stopped before it ended"))))
}
