//! How many keepers acknowledge, and which of them count: as this node's own log of a loom says it.
//!
//! Whoever goes on with an entity of this node has to know whom to ask for what was acknowledged. So what a user has arranged is written
//! into the log before it holds, and holds for what follows it. A change is acknowledged under what held before and under what holds now;
//! as long as it is not, nothing behind it is, and there is no other change. Once it is, the log says it again: until then an adopter asks
//! both those who counted before and those who count now, because another one may know only of the former. An adoption is such a change
//! for what its writer says of the entity.

use std::collections::BTreeSet;

use super::Copies;
use crate::domain::copies::{CopyKind, Keeper, LoomCopies, Recorded};
use crate::domain::ids::{EntityId, LoomId, WriterKey};
use crate::domain::loom::Body;
use crate::domain::members::Principal;
use crate::driver::fault::chain;
use crate::ports::{By, StoreError};

/// 10 s. So long a keeper that could not be asked who it is is not asked again.
const ASK_AGAIN_US: u64 = 10_000_000;
/// 30 s. So long a turn waits for its acknowledgements where nobody has said how long.
pub const ACKS_WAIT_MS: u64 = 30_000;
/// 1. So many changes wait to be acknowledged at most: an adopter asks for the last two of what the log says.
const CHANGES_OPEN: usize = 1;

/// What this node has to say in its log before it writes on.
#[derive(Debug)]
pub(in crate::driver) struct Due {
    /// How it says it.
    pub(in crate::driver) body: Body,
    pub(in crate::driver) acks: u32,
    pub(in crate::driver) keepers: BTreeSet<Keeper>,
    pub(in crate::driver) accept_loss: bool,
}

/// So many of these have to have this node's log up to a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) acks: usize,
    pub(super) keepers: BTreeSet<Keeper>,
    pub(super) place: u64,
}

impl Wanted {
    fn of(recorded: &Recorded, place: u64) -> Self {
        let acks = usize::try_from(recorded.acks).unwrap_or(usize::MAX);
        Self { acks, keepers: recorded.keepers.clone(), place }
    }
}

/// What holds for a loom as a node keeps it: what its log says last.
pub(super) fn in_force(copies: &LoomCopies) -> Option<&Recorded> {
    copies.recorded.last()
}

/// How many of whom have to have what this node has written up to a place, for an entity of it. Nothing: that is not asked for.
pub(super) fn wanted(
    copies: &LoomCopies,
    (node, writer): (&Keeper, WriterKey),
    of: Option<EntityId>,
    place: u64,
) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    match copies.recorded.iter().rfind(|it| it.writer == writer) {
        Some(last) => {
            if last.acks > 0 {
                wanted.extend(changes(copies, writer));
                wanted.push(Wanted::of(last, place));
            }
            // What is arranged now waits behind a change that is open: nothing counts with less than that.
            if is_open(copies) && copies.acks > 0 && !says(last, copies, node) {
                let acks = usize::try_from(copies.acks).unwrap_or(usize::MAX);
                wanted.extend(changes(copies, writer));
                wanted.push(Wanted { acks, keepers: counting(copies, node), place });
            }
        }
        // It is not written down yet: whoever keeps it counts.
        None if copies.acks > 0 => {
            let acks = usize::try_from(copies.acks).unwrap_or(usize::MAX);
            wanted.push(Wanted { acks, keepers: disks(copies, node), place });
        }
        None => {}
    }
    let adopted = copies.adopted.iter().filter(|it| it.writer == writer && it.entity == of && of.is_some());
    wanted.extend(adopted.map(|it| Wanted::of(it, it.place)));
    wanted
}

/// Whether a change of it is not acknowledged yet.
const fn is_open(copies: &LoomCopies) -> bool {
    copies.recorded.len() > CHANGES_OPEN
}

/// Whether the log says what is arranged.
fn says(last: &Recorded, copies: &LoomCopies, node: &Keeper) -> bool {
    last.acks == copies.acks && last.keepers == counting(copies, node)
}

/// Who has to have each change of it that is not acknowledged yet.
pub(super) fn changes(copies: &LoomCopies, writer: WriterKey) -> Vec<Wanted> {
    let own: Vec<&Recorded> = copies.recorded.iter().filter(|it| it.writer == writer).collect();
    let changes = own.iter().zip(own.iter().skip(1));
    changes.map(|(before, change)| Wanted::of(before, change.place)).collect()
}

/// Whose acknowledgements count for a loom from now on, as it is arranged.
pub(super) fn counting(copies: &LoomCopies, node: &Keeper) -> BTreeSet<Keeper> {
    if copies.acks == 0 {
        return BTreeSet::new();
    }
    if copies.counting.is_empty() { disks(copies, node) } else { copies.counting.clone() }
}

/// The other nodes that keep a loom on disk and are to go on doing so.
pub(super) fn disks(copies: &LoomCopies, node: &Keeper) -> BTreeSet<Keeper> {
    let disks =
        copies.others(node).filter(|(keeper, kind)| *kind == CopyKind::Disk && !copies.leaving.contains(*keeper));
    disks.map(|(keeper, _)| keeper.clone()).collect()
}

impl Copies {
    /// Whether this node has to say something of acknowledgements in its log of a loom before it writes on.
    pub(in crate::driver) fn is_keeping_due(&self, loom: LoomId) -> bool {
        self.lock().looms.get(&loom).is_some_and(|copies| self.is_due(copies))
    }

    fn is_due(&self, copies: &LoomCopies) -> bool {
        let own = self.disk.writer();
        let last = in_force(copies).filter(|last| last.writer == own);
        let is_said = last.map_or(copies.acks == 0, |last| says(last, copies, &self.node) && !copies.repeats);
        copies.accept_loss || (!is_said && !is_open(copies))
    }

    /// What this node has to say of acknowledgements; nothing where it is not known yet as whom a keeper writes: then what held before
    /// goes on.
    pub(in crate::driver) async fn keeping_due(&self, loom: LoomId) -> Option<Due> {
        let copies = self.of(loom).filter(|copies| self.is_due(copies))?;
        let keepers = counting(&copies, &self.node);
        let mut named = Vec::new();
        for keeper in &keepers {
            named.push(self.principal_of(loom, keeper).await?);
        }
        let body = Body::Keeping { acks: copies.acks, keepers: named, accept_loss: copies.accept_loss };
        Some(Due { body, acks: copies.acks, keepers, accept_loss: copies.accept_loss })
    }

    /// This node may not say anything of it: that is not looked at again for a while.
    pub(in crate::driver) fn keeping_refused(&self, loom: LoomId) {
        let now_us = self.clock.elapsed_us();
        self.lock().unnamed.insert((loom, self.node.clone()), now_us);
    }

    /// Whether it was found just now that this node may not.
    pub(in crate::driver) fn is_keeping_refused(&self, loom: LoomId) -> bool {
        let now_us = self.clock.elapsed_us();
        let asked_us = self.lock().unnamed.get(&(loom, self.node.clone())).copied();
        asked_us.is_some_and(|asked_us| now_us.saturating_sub(asked_us) < ASK_AGAIN_US)
    }

    /// Has a loom acknowledged as its former owner's was, where nothing is arranged here: by these keepers.
    pub(in crate::driver) fn inherit(
        &self,
        loom: LoomId,
        (acks, keepers): (u32, &BTreeSet<Keeper>),
    ) -> Result<(), StoreError> {
        self.amend(loom, |copies| {
            if copies.acks == 0 && copies.recorded.is_empty() {
                copies.acks = acks;
                copies.acks_wait_ms = ACKS_WAIT_MS;
                copies.counting.clone_from(keepers);
            }
        })
    }

    /// As whom a keeper is named in a record.
    async fn principal_of(&self, loom: LoomId, keeper: &Keeper) -> Option<Principal> {
        let known = (loom, keeper.clone());
        let now_us = self.clock.elapsed_us();
        if let Some(asked_us) = self.lock().unnamed.get(&known)
            && now_us.saturating_sub(*asked_us) < ASK_AGAIN_US
        {
            return None;
        }
        let what = match (keeper.node(), self.links.get()) {
            (Some(node), Some(links)) => match links.identify(node).await {
                Ok(identity) => {
                    // One too many of a key is left out: what is kept says the same.
                    drop(self.disk.attest(loom, &identity.attestations));
                    match &identity.principal {
                        principal @ Principal::Node(_) => return Some(principal.clone()),
                        Principal::Key(_) => "it has no certificate".to_owned(),
                    }
                }
                Err(error) => chain(&error),
            },
            (None, _) => "it is no node".to_owned(),
            (_, None) => "nothing connects to it".to_owned(),
        };
        tracing::warn!(%loom, %keeper, what, "the record does not say yet that this keeper's acknowledgements count: as whom it writes is not known");
        self.lock().unnamed.insert(known, now_us);
        None
    }

    /// What the log says of acknowledgements is about to be written at a place. Returns whether it does not say so already.
    pub(in crate::driver) fn keeping_recorded(&self, loom: LoomId, due: &Due, place: u64) -> Result<bool, StoreError> {
        let new =
            Recorded { writer: self.disk.writer(), place, acks: due.acks, keepers: due.keepers.clone(), entity: None };
        let said = |copies: LoomCopies| {
            let last = in_force(&copies)?;
            let is_same = last.writer == new.writer && last.acks == new.acks && last.keepers == new.keepers;
            Some(is_same && !copies.repeats)
        };
        if !due.accept_loss && self.of(loom).and_then(said) == Some(true) {
            return Ok(false);
        }
        self.amend(loom, |copies| {
            // What was to be written there before is not there.
            copies.recorded.retain(|it| it.writer == new.writer && it.place < place);
            if due.accept_loss {
                copies.recorded.clear();
                copies.adopted.clear();
                (copies.accept_loss, copies.repeats) = (false, false);
            }
            copies.recorded.push(new);
        })?;
        Ok(true)
    }

    /// This node is about to write at a place that it goes on with an entity whose turns others had to acknowledge.
    pub(in crate::driver) fn adoption_recorded(
        &self,
        loom: LoomId,
        entity: EntityId,
        place: u64,
        former: Vec<(u32, BTreeSet<Keeper>)>,
    ) -> Result<(), StoreError> {
        let is_known = |copies: &LoomCopies| copies.adopted.iter().any(|it| it.entity == Some(entity));
        if former.is_empty() && !self.lock().looms.get(&loom).is_some_and(is_known) {
            return Ok(());
        }
        let writer = self.disk.writer();
        let new = |(acks, keepers)| Recorded { writer, place, acks, keepers, entity: Some(entity) };
        self.amend(loom, |copies| {
            copies.adopted.retain(|it| it.entity != Some(entity));
            copies.adopted.extend(former.into_iter().map(new));
        })
    }

    /// Whatever waited for an acknowledgement up to here has it.
    pub(super) fn settle_keeping(&self, loom: LoomId, of: Option<EntityId>) -> Result<(), StoreError> {
        let is_open = |copies: &&LoomCopies| {
            copies.recorded.len() > 1 || !copies.adopted.is_empty() || !copies.leaving.is_empty()
        };
        // It is asked after each sync, and there is hardly ever anything.
        let Some(copies) = self.lock().looms.get(&loom).filter(is_open).cloned() else { return Ok(()) };
        let own = self.disk.writer();
        // Where a fence goes against an entity of it, the change may not count for that one yet. Where nothing is to be acknowledged any
        // more nobody has waited for it.
        let waits = self.is_fenced_in(loom) || self.lacking(loom, own, &changes(&copies, own)).is_some();
        let is_open = (copies.recorded.len() > 1 && !waits) || copies.adopted.iter().any(|it| it.entity == of);
        let leaves = !copies.leaving.is_empty() && !waits;
        if !is_open && !leaves {
            return Ok(());
        }
        self.amend(loom, |copies| {
            if !waits {
                copies.recorded.retain(|it| it.writer == own);
                let last = copies.recorded.pop();
                if let (Some(before), Some(last)) = (copies.recorded.last(), &last) {
                    copies.repeats = (before.acks, &before.keepers) != (last.acks, &last.keepers);
                }
                copies.recorded = last.into_iter().collect();
                let counts = |keeper: &Keeper| copies.recorded.iter().any(|it| it.keepers.contains(keeper));
                let gone: Vec<Keeper> = copies.leaving.iter().filter(|keeper| !counts(keeper)).cloned().collect();
                for keeper in gone {
                    copies.keep(&keeper, CopyKind::None);
                    copies.leaving.remove(&keeper);
                }
            }
            copies.adopted.retain(|it| it.entity != of);
        })
    }

    /// Changes what is written down of a loom, behind whatever another process has written there.
    fn amend(&self, loom: LoomId, amend: impl FnOnce(&mut LoomCopies)) -> Result<(), StoreError> {
        self.reread()?;
        // Of a loom that nobody else keeps nothing is written down.
        if self.of(loom).is_none() {
            return Ok(());
        }
        match self.change(loom, |copies| {
            amend(copies);
            Ok(())
        }) {
            Ok(()) => Ok(()),
            Err(super::CopyError::Store(error)) => Err(error),
            // Nobody is added here.
            Err(error) => Err(StoreError::Read(Box::new(error))),
        }
    }

    /// What is written down of this node's log is what the log says: a process may have ended between one and the other.
    pub(super) fn check_recorded(&self, loom: LoomId) -> Result<(), StoreError> {
        let Some(copies) = self.of(loom) else { return Ok(()) };
        let own = self.disk.writer();
        let mut absent = Vec::new();
        for it in copies.recorded.iter().chain(&copies.adopted).filter(|it| it.writer == own) {
            let before = it.place.saturating_sub(1);
            let there = self.disk.recorded(loom, By::ThisNode, before, 1)?.into_iter().next();
            let is_there = there.is_some_and(|(_, sealed)| match (&sealed.entry.body, it.entity) {
                (Body::Keeping { acks, .. }, None) => *acks == it.acks,
                (Body::Adopted { .. }, Some(of)) => sealed.entry.entity == Some(of),
                (_, None | Some(_)) => false,
            });
            if !is_there {
                absent.push(it.clone());
            }
        }
        if absent.is_empty() {
            return Ok(());
        }
        self.amend(loom, |copies| {
            copies.recorded.retain(|it| !absent.contains(it));
            copies.adopted.retain(|it| !absent.contains(it));
        })
    }
}
