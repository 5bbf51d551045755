//! Waiting for other keepers: a turn counts once as many of them have it on disk as its loom asks for.

use std::time::Duration;

use thiserror::Error;

use super::{Copies, KeeperState};
use crate::domain::copies::Keeper;
use crate::domain::ids::LoomId;
use crate::ports::StoreError;

/// Why a turn does not count as recorded.
#[derive(Debug, Error)]
#[error(
    "{have} of {acks} copies of loom {loom} were durable within {wait_ms} ms: {}",
    if missing.is_empty() { "nobody else keeps it".to_owned() } else { format!("{} did not answer", missing.join(", ")) }
)]
pub struct NoCopies {
    /// The loom.
    pub loom: LoomId,
    /// How many there were.
    pub have: usize,
    /// How many there should be.
    pub acks: u32,
    /// The bound.
    pub wait_ms: u64,
    /// Who has not said that it has it.
    pub missing: Vec<String>,
}

impl Copies {
    /// Returns once what this node has written into a loom is on as many other disks as it asks for.
    ///
    /// # Errors
    /// Too few of them in time.
    pub async fn acknowledged(&self, loom: LoomId) -> Result<(), AcksError> {
        let Some(copies) = self.of(loom).filter(|copies| copies.acks > 0) else { return Ok(()) };
        let writer = self.disk.writer();
        let sequence = self.disk.head(loom)?.sequence;
        let mut heard = self.heard.subscribe();
        let wanted = usize::try_from(copies.acks).unwrap_or(usize::MAX);
        let has = |state: &KeeperState| state.durable.get(&writer).is_some_and(|&at| at >= sequence);
        let waiting = async {
            loop {
                heard.borrow_and_update();
                if self.states(loom).values().filter(|state| has(state)).count() >= wanted {
                    return;
                }
                if heard.changed().await.is_err() {
                    return;
                }
            }
        };
        if copies.acks_wait_ms == 0 {
            waiting.await;
            return Ok(());
        }
        tokio::select! {
            () = waiting => Ok(()),
            () = self.clock.sleep(Duration::from_millis(copies.acks_wait_ms)) => {
                let states = self.states(loom);
                let missing = states.iter().filter(|(_, state)| !has(state)).map(|(keeper, _)| keeper.to_string());
                let missing: Vec<String> = missing.collect();
                Err(AcksError::Missing(NoCopies {
                    loom,
                    have: states.len().saturating_sub(missing.len()),
                    acks: copies.acks,
                    wait_ms: copies.acks_wait_ms,
                    missing,
                }))
            }
        }
    }

    /// Waits until a keeper has everything of a loom that is here, or until nothing can be heard of it any more.
    pub async fn settled(&self, loom: LoomId, keeper: &Keeper) -> Result<bool, StoreError> {
        let mut heard = self.heard.subscribe();
        loop {
            heard.borrow_and_update();
            let logs = self.logs(loom)?;
            let states = self.states(loom);
            let Some(state) = states.get(keeper) else { return Ok(false) };
            if logs.iter().all(|log| state.has.get(&log.writer).is_some_and(|&at| at >= log.head.sequence)) {
                return Ok(true);
            }
            if heard.changed().await.is_err() {
                return Ok(false);
            }
        }
    }
}

/// Why a turn could not be acknowledged.
#[derive(Debug, Error)]
pub enum AcksError {
    /// Too few copies.
    #[error(transparent)]
    Missing(#[from] NoCopies),
    /// Ours.
    #[error(transparent)]
    Store(#[from] StoreError),
}
