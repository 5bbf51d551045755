//! Asking before writing: whether a keeper has more of this node's own log than this node itself.
//!
//! A folder that was put back looks the same as what it was. What it wrote next would be a second history under one key, and would
//! count for nobody. So before the first entry that a process writes into a loom which others keep, they are asked for what they have:
//! what is theirs and signed here is fetched back, and this node goes on under a new key.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use thiserror::Error;

use super::acks::AcksError;
use super::keeping::{disks, in_force};
use super::{Copies, State};
use crate::domain::copies::{Keeper, LogState, LoomCopies};
use crate::domain::ids::LoomId;
use crate::domain::limits::FETCHED_BACK_MS_MAX;
use crate::domain::loom::SignedHead;
use crate::ports::StoreError;

/// 1 s. So long the keepers of a loom of which nothing has to be acknowledged are waited for.
const ANSWER_WAIT: Duration = Duration::from_secs(1);
/// 50 ms between two looks at who has answered, where nobody says anything.
const LOOK: Duration = Duration::from_millis(50);

/// Too few keepers have said what they have.
#[derive(Debug, Error)]
#[error(
    "nothing is written into loom {loom}: {answered} of its {keepers} keepers said within {waited_ms} ms what they have of this node's log, and {wanted} have \
     to (so many that one of them has whatever was acknowledged); {} did not answer",
    silent.join(", ")
)]
pub struct NoAnswers {
    /// The loom.
    pub loom: LoomId,
    /// How many have answered.
    pub answered: usize,
    /// How many there are that keep it on disk.
    pub keepers: usize,
    /// How many have to.
    pub wanted: usize,
    /// How long they were waited for.
    pub waited_ms: u64,
    /// Who has not.
    pub silent: Vec<String>,
}

/// What is known of a loom's keepers since this process began.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Who has said what it has.
    heard: HashSet<Keeper>,
    /// What this node has signed, they have, and is not here.
    awaited: HashMap<Keeper, Vec<SignedHead>>,
    /// Enough of them have answered, or there was nobody to ask.
    is_over: bool,
}

impl Asked {
    fn has_answered(&self, keeper: &Keeper) -> bool {
        self.heard.contains(keeper) && !self.is_awaited(keeper)
    }

    fn is_awaited(&self, keeper: &Keeper) -> bool {
        self.awaited.get(keeper).is_some_and(|heads| !heads.is_empty())
    }
}

impl State {
    /// A loom that nobody else has kept so far is known here as well as anywhere.
    pub(super) fn needs_no_asking(&mut self, loom: LoomId) {
        self.asked.entry(loom).or_default().is_over = true;
    }
}

impl Copies {
    /// A keeper has said what it has of a loom.
    pub(super) fn has_said(&self, loom: LoomId, keeper: &Keeper, logs: &[LogState]) -> Result<(), StoreError> {
        let mut own = self.disk.formerly()?;
        own.push(self.disk.writer());
        let of_this_node = |head: &SignedHead| head.loom == loom && own.contains(&head.writer) && head.is_signed();
        let heads = logs.iter().filter_map(|log| log.signed).filter(of_this_node).collect();
        let mut state = self.lock();
        let asked = state.asked.entry(loom).or_default();
        asked.heard.insert(keeper.clone());
        asked.awaited.insert(keeper.clone(), heads);
        drop(state);
        self.has_come(loom)
    }

    /// More of a loom is on disk here: what was awaited of this node's own may be among it.
    pub(super) fn has_come(&self, loom: LoomId) -> Result<(), StoreError> {
        let awaited = self.lock().asked.get(&loom).map(|asked| asked.awaited.clone()).unwrap_or_default();
        let mut left = HashMap::new();
        for (keeper, heads) in awaited {
            let mut missing = Vec::new();
            for head in heads {
                if !self.has_back(&head)? {
                    missing.push(head);
                }
            }
            left.insert(keeper, missing);
        }
        self.lock().asked.entry(loom).or_default().awaited = left;
        self.heard.send_modify(|count| *count = count.wrapping_add(1));
        Ok(())
    }

    /// Returns once this node may write into a loom: its keepers were asked for what they have of this node's log, once in a run of the
    /// process. Where so many copies have to acknowledge, enough have to have answered; else they are waited for 1 s.
    ///
    /// # Errors
    /// Too few that answer.
    pub async fn asked(&self, loom: LoomId) -> Result<(), AcksError> {
        if self.is_asked(loom) {
            return Ok(());
        }
        self.check_recorded(loom)?;
        let Some(copies) = self.of(loom) else { return Ok(()) };
        if copies.accept_loss {
            tracing::warn!(%loom, "keepers are not asked what they have of this node's log, as somebody here wants it");
            self.lock().needs_no_asking(loom);
            return Ok(());
        }
        let (acks, counting) = match in_force(&copies) {
            Some(recorded) => (recorded.acks, recorded.keepers.clone()),
            None => (copies.acks, disks(&copies, &self.node)),
        };
        let others: Vec<(Keeper, bool)> =
            copies.others(&self.node).map(|(keeper, _)| (keeper.clone(), counting.contains(keeper))).collect();
        let keepers = counting.len();
        let wanted = match usize::try_from(acks).unwrap_or(usize::MAX) {
            0 => None,
            acks => Some(keepers.saturating_sub(acks).saturating_add(1)),
        };
        let answered = self.wait_for_answers(loom, &others, wanted, &copies).await;
        if wanted.is_some_and(|wanted| answered < wanted) {
            let state = self.lock();
            let is_silent = |keeper: &Keeper| !state.asked.get(&loom).is_some_and(|asked| asked.has_answered(keeper));
            let silent = others.iter().filter(|(keeper, counts)| *counts && is_silent(keeper));
            return Err(AcksError::Unanswered(NoAnswers {
                loom,
                answered,
                keepers,
                wanted: wanted.unwrap_or_default(),
                waited_ms: copies.acks_wait_ms.max(u64::try_from(ANSWER_WAIT.as_millis()).unwrap_or(u64::MAX)),
                silent: silent.map(|(keeper, _)| keeper.to_string()).collect(),
            }));
        }
        self.lock().needs_no_asking(loom);
        Ok(())
    }

    /// Whether its keepers were asked, or there is nobody to ask.
    pub(in crate::driver) fn is_asked(&self, loom: LoomId) -> bool {
        let state = self.lock();
        let has_others = state.looms.get(&loom).is_some_and(|copies| copies.others(&self.node).next().is_some());
        !has_others || state.asked.get(&loom).is_some_and(|asked| asked.is_over)
    }

    /// Waits for the keepers of a loom: for so many of those that count, or for all. Returns how many of those that count have answered.
    async fn wait_for_answers(
        &self,
        loom: LoomId,
        others: &[(Keeper, bool)],
        wanted: Option<usize>,
        copies: &LoomCopies,
    ) -> usize {
        let mut heard = self.heard.subscribe();
        let mut passed = Duration::ZERO;
        // However often somebody says something, time passes.
        let mut tick = self.clock.sleep(LOOK);
        loop {
            heard.borrow_and_update();
            let (disks, is_all, is_coming) = {
                let state = self.lock();
                let asked = state.asked.get(&loom);
                let has = |keeper: &Keeper| asked.is_some_and(|asked| asked.has_answered(keeper));
                let connected =
                    |keeper: &Keeper| state.keepers.get(&(loom, keeper.clone())).is_some_and(|keeper| keeper.connected);
                let is_coming =
                    |keeper: &Keeper| asked.is_some_and(|asked| asked.is_awaited(keeper)) && connected(keeper);
                (
                    others.iter().filter(|(keeper, counts)| *counts && has(keeper)).count(),
                    others.iter().all(|(keeper, _)| has(keeper)),
                    others.iter().any(|(keeper, _)| is_coming(keeper)),
                )
            };
            let is_enough = wanted.map_or(is_all, |wanted| disks >= wanted && !is_coming);
            let bound = match wanted {
                _ if is_coming => Duration::from_millis(FETCHED_BACK_MS_MAX),
                // A turn waits for its acknowledgements just as long.
                Some(_) if copies.acks_wait_ms == 0 => Duration::MAX,
                Some(_) => ANSWER_WAIT.max(Duration::from_millis(copies.acks_wait_ms)),
                None => ANSWER_WAIT,
            };
            if is_enough || passed >= bound {
                if !is_enough && wanted.is_none() {
                    tracing::info!(%loom, "not every keeper has said what it has; this node writes on");
                }
                return disks;
            }
            tokio::select! {
                changed = heard.changed() => if changed.is_err() { return disks },
                () = &mut tick => {
                    passed = passed.saturating_add(LOOK);
                    tick = self.clock.sleep(LOOK);
                }
            }
        }
    }
}
