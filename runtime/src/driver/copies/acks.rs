//! Waiting for other keepers: a turn counts once as many of them have it on disk as its loom asks for.

use std::time::Duration;

use thiserror::Error;

use super::keeping::{Wanted, wanted};
use super::{Copies, KeeperState};
use crate::domain::copies::Keeper;
use crate::domain::ids::{EntityId, LoomId, WriterKey};
use crate::ports::StoreError;

/// Why a turn does not count as recorded.
#[derive(Debug, Error)]
#[error(
    "{have} of {acks} copies of loom {loom} were durable within {wait_ms} ms (--acks-wait-ms): {}; `loom status {loom}` asks them, and \
     `loom replicate` with another --acks or --acks-wait-ms changes what is waited for",
    if missing.is_empty() { "nobody else keeps it".to_owned() } else { missing.join(", ") }
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
    /// Who has not said that it has it, each with what is known of why.
    pub missing: Vec<String>,
}

/// What a keeper that has not acknowledged is said to be doing.
fn silent(keeper: &Keeper, state: &KeeperState) -> String {
    match &state.last_error {
        Some(what) => format!("{keeper} did not answer ({what})"),
        None if state.connected => format!("{keeper} did not answer yet"),
        None => format!("{keeper} did not answer (it is not connected)"),
    }
}

/// Whether a keeper has a log on disk up to a place.
fn has(state: &KeeperState, writer: WriterKey, place: u64) -> bool {
    state.durable.get(&writer).is_some_and(|&at| at >= place)
}

impl Copies {
    /// Returns once what this node has written into a loom is on as many other disks as it asks for. Nothing of an entity that another
    /// has adopted is acknowledged.
    ///
    /// # Errors
    /// Too few of them in time, or an entity that is another's.
    pub async fn acknowledged(&self, loom: LoomId, of: Option<EntityId>) -> Result<(), AcksError> {
        let goes_on = || of.map_or(Ok(()), |entity| self.goes_on(entity));
        goes_on()?;
        let Some(copies) = self.of(loom) else { return Ok(()) };
        let writer = self.disk.writer();
        let sequence = self.disk.head(loom)?.sequence;
        let wanted = wanted(&copies, (&self.node, writer), of, sequence);
        if wanted.is_empty() {
            return Ok(self.settle_keeping(loom, of)?);
        }
        let mut heard = self.heard.subscribe();
        let lacks = || self.lacking(loom, writer, &wanted);
        let waiting = async {
            loop {
                heard.borrow_and_update();
                // A fence is shown before anything behind it is acknowledged.
                if goes_on().is_err() || lacks().is_none() {
                    return;
                }
                if heard.changed().await.is_err() {
                    return;
                }
            }
        };
        if copies.acks_wait_ms == 0 {
            waiting.await;
        } else {
            tokio::select! {
                () = waiting => {}
                () = self.clock.sleep(Duration::from_millis(copies.acks_wait_ms)) => {}
            }
        }
        goes_on()?;
        let Some(lacking) = lacks() else { return Ok(self.settle_keeping(loom, of)?) };
        let states = self.states(loom);
        let nothing = KeeperState::default();
        let counts = lacking.keepers.iter().map(|keeper| (keeper, states.get(keeper).unwrap_or(&nothing)));
        let missing = counts.filter(|(_, state)| !has(state, writer, lacking.place));
        let missing: Vec<String> = missing.map(|(keeper, state)| silent(keeper, state)).collect();
        Err(AcksError::Missing(NoCopies {
            loom,
            have: lacking.keepers.len().saturating_sub(missing.len()),
            acks: u32::try_from(lacking.acks).unwrap_or(u32::MAX),
            wait_ms: copies.acks_wait_ms,
            missing,
        }))
    }

    /// The first of several things that are wanted which too few keepers have on disk.
    pub(super) fn lacking(&self, loom: LoomId, writer: WriterKey, wanted: &[Wanted]) -> Option<Wanted> {
        if wanted.is_empty() {
            return None;
        }
        let states = self.states(loom);
        let is_lacking = |wanted: &&Wanted| {
            let counts = |(keeper, state): &(&Keeper, &KeeperState)| {
                wanted.keepers.contains(*keeper) && has(state, writer, wanted.place)
            };
            states.iter().filter(counts).count() < wanted.acks
        };
        wanted.iter().find(is_lacking).cloned()
    }

    /// Finds out whether this node may go on with an entity, as far as it has heard of adoptions.
    ///
    /// # Errors
    /// Whose it is.
    pub fn goes_on(&self, entity: EntityId) -> Result<(), AcksError> {
        self.fenced(entity).map_or(Ok(()), |owner| Err(AcksError::Adopted { entity, owner }))?;
        self.is_free(entity)
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
    /// Another node goes on with the entity.
    #[error("the entity {entity} belongs to another node, whose key is {owner}")]
    Adopted {
        /// Which.
        entity: EntityId,
        /// Whose it is.
        owner: WriterKey,
    },
    /// Another node is about to go on with the entity.
    #[error("the entity {entity} is about to be adopted by another node, whose key is {by}")]
    Fenced {
        /// Which.
        entity: EntityId,
        /// By whom.
        by: WriterKey,
    },
    /// Too few keepers that say what they have.
    #[error(transparent)]
    Unanswered(#[from] super::ask::NoAnswers),
    /// Ours.
    #[error(transparent)]
    Store(#[from] StoreError),
}
