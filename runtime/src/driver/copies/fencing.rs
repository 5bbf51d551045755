//! Signed fences: before an entity whose turns had to be acknowledged is adopted, so many keepers promise to acknowledge nothing more of
//! it to anybody else that one of them has whatever was acknowledged.
//!
//! The adopter says its word to each keeper that counts; a keeper stores it, durably, and answers with how far the owner's log is there.
//! What is there the adopter fetches before it writes that it goes on. A keeper shows the fence to the owner before it acknowledges
//! anything that goes against it: the owner stops there, and goes on only behind a fence of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::acks::AcksError;
use super::cost::cost;
use super::session::Session;
use super::{Copies, blocking};
use crate::domain::copies::{CopyKind, CopyMessage, FenceAnswer, Keeper};
use crate::domain::ids::{EntityId, LoomId, WriterKey};
use crate::domain::limits::{FENCE_STEP_MAX, FETCHED_BACK_MS_MAX};
use crate::domain::loom::{Body, SignedFence, SignedHead};
use crate::domain::members::{CheckedProof, Deed, ProvedEntry, Reader};
use crate::domain::remote::Credentials;
use crate::driver::fault::chain;
use crate::ports::{CopyStore, StoreError};

/// 10 s. So long keepers are waited for that are to store a fence.
const STORED_WAIT: Duration = Duration::from_secs(10);
/// 1 s. So long after a refusal a keeper is asked again: what it lacked to see that the fence holds may have come.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// 3 s. So long keepers are asked again that have all answered, and too few of them as is wanted.
const ASK_AGAIN_FOR: Duration = Duration::from_secs(3);
/// 50 ms between two looks at what has come, where nobody says anything.
const LOOK: Duration = Duration::from_millis(50);

/// Too few keepers have promised to acknowledge nothing more of an entity.
#[derive(Debug, Error)]
#[error(
    "{stored} of the {keepers} keepers whose acknowledgements count have stored within {waited_ms} ms that entity {entity} is adopted, and \
     {wanted} have to (so many that one of them has whatever was acknowledged); {}",
    missing.join(", ")
)]
pub struct NotFenced {
    /// Which entity.
    pub entity: EntityId,
    /// How many have.
    pub stored: usize,
    /// How many count.
    pub keepers: usize,
    /// How many have to.
    pub wanted: usize,
    /// How long they were waited for.
    pub waited_ms: u64,
    /// Who has not, and why.
    pub missing: Vec<String>,
}

/// What came of having an entity fenced.
#[derive(Debug)]
pub(in crate::driver) enum Fencing {
    /// Enough keepers have stored it, and what they have of the owner's log is here.
    Stored,
    /// Somebody has a fence of this epoch: one above it is needed.
    Above(u64),
}

/// A fence that this node is having stored.
#[derive(Debug)]
pub(super) struct Asking {
    fence: SignedFence,
    credentials: Credentials,
    keepers: BTreeSet<Keeper>,
    answers: HashMap<Keeper, FenceAnswer>,
}

pub(super) type Askings = BTreeMap<(LoomId, EntityId), Asking>;

/// What one conversation has said of signed fences, and when, in microseconds.
#[derive(Debug, Default)]
pub(super) struct Told(HashMap<(EntityId, u64, WriterKey), u64>);

impl Told {
    /// Whether a fence is told now for the first time.
    fn is_new(&mut self, fence: &SignedFence, now_us: u64) -> bool {
        self.0.insert((fence.entity, fence.epoch, fence.by), now_us).is_none()
    }

    /// Whether it was not told yet, or long enough ago to be told again.
    fn is_due(&mut self, fence: &SignedFence, now_us: u64) -> bool {
        let last = self.0.entry((fence.entity, fence.epoch, fence.by)).or_insert(0);
        let again_us = u64::try_from(ASK_AGAIN.as_micros()).unwrap_or(u64::MAX);
        let is_due = *last == 0 || now_us.saturating_sub(*last) >= again_us;
        if is_due {
            *last = now_us.max(1);
        }
        is_due
    }
}

/// Why a fence is not stored.
enum Refusal {
    Above(u64),
    /// What is kept here is gone with the process, and so would be the promise.
    Memory,
    Other(String),
}

impl Copies {
    /// Has an entity's keepers store that this node is about to adopt it, at an epoch, and fetches what they have of its owner's log.
    /// `is_own` says that this node is one of the keepers that count.
    pub(in crate::driver) async fn have_fenced(
        &self,
        (loom, entity, epoch): (LoomId, EntityId, u64),
        (keepers, is_own, wanted): (&BTreeSet<Keeper>, bool, usize),
    ) -> Result<Result<Fencing, NotFenced>, StoreError> {
        let fence = self.disk.sign_fence(loom, entity, epoch)?;
        if is_own && let Err(refusal) = self.store_fence(&fence, &Credentials::default())? {
            let what = match refusal {
                Refusal::Above(above) => return Ok(Ok(Fencing::Above(above))),
                Refusal::Memory => "this node's own copy is in memory only".to_owned(),
                Refusal::Other(what) => what,
            };
            return Ok(Err(self.not_fenced(&fence, (keepers, is_own, wanted), Duration::ZERO, 0, Some(what))));
        }
        let credentials = self.adopter_shows(loom, entity)?;
        let asking = Asking { fence, credentials, keepers: keepers.clone(), answers: HashMap::new() };
        self.lock().askings.insert((loom, entity), asking);
        self.grown(loom);
        let fenced = self.wait_for_fences(&fence, (keepers, is_own, wanted)).await;
        self.lock().askings.remove(&(loom, entity));
        fenced
    }

    async fn wait_for_fences(
        &self,
        fence: &SignedFence,
        (keepers, is_own, wanted): (&BTreeSet<Keeper>, bool, usize),
    ) -> Result<Result<Fencing, NotFenced>, StoreError> {
        let (mut heard, mut passed) = (self.heard.subscribe(), Duration::ZERO);
        let fetched = Duration::from_millis(FETCHED_BACK_MS_MAX);
        // However often somebody says something, time passes.
        let mut tick = self.clock.sleep(LOOK);
        loop {
            heard.borrow_and_update();
            // Whoever says that it has what never comes counts for nothing.
            let (mut stored, mut here, mut above) = (usize::from(is_own), usize::from(is_own), 0);
            for answer in self.fence_answers(fence).values() {
                match answer {
                    FenceAnswer::Stored { logs } => {
                        let mut is_here = true;
                        for signed in logs.iter().filter_map(|log| log.signed) {
                            is_here &= self.has_signed(fence.loom, &signed)?;
                        }
                        stored = stored.saturating_add(1);
                        here = here.saturating_add(usize::from(is_here));
                    }
                    FenceAnswer::Refused { above: epoch, .. } => above = above.max(*epoch),
                }
            }
            if here >= wanted {
                return Ok(Ok(Fencing::Stored));
            }
            if stored < wanted && above >= fence.epoch {
                return Ok(Ok(Fencing::Above(above)));
            }
            let bound = if stored >= wanted { fetched } else { STORED_WAIT };
            let all = self.fence_answers(fence).len() >= keepers.len();
            if passed >= bound || (all && stored < wanted && passed >= ASK_AGAIN_FOR) {
                let what =
                    (stored >= wanted).then(|| "what they say they have of its owner's log has not come".to_owned());
                return Ok(Err(self.not_fenced(fence, (keepers, is_own, wanted), passed, stored, what)));
            }
            tokio::select! {
                changed = heard.changed() => if changed.is_err() { passed = bound },
                () = &mut tick => {
                    passed = passed.saturating_add(LOOK);
                    tick = self.clock.sleep(LOOK);
                    self.grown(fence.loom);
                }
            }
        }
    }

    fn fence_answers(&self, fence: &SignedFence) -> HashMap<Keeper, FenceAnswer> {
        let state = self.lock();
        let asking = state.askings.get(&(fence.loom, fence.entity)).filter(|asking| asking.fence == *fence);
        asking.map(|asking| asking.answers.clone()).unwrap_or_default()
    }

    /// Whether what a head covers is here, or cannot come since its writer has signed two histories.
    fn has_signed(&self, loom: LoomId, signed: &SignedHead) -> Result<bool, StoreError> {
        if signed.loom != loom || signed.writer == self.disk.writer() || !signed.is_signed() {
            return Ok(true);
        }
        let (writer, head) = (signed.writer, signed.head);
        let here = self.store_of(loom, writer).chain_at(loom, writer, head.sequence)?;
        Ok(here == Some(head.chain) || self.disk.accused(loom, writer)?.is_some_and(|place| place <= head.sequence))
    }

    fn not_fenced(
        &self,
        fence: &SignedFence,
        (keepers, is_own, wanted): (&BTreeSet<Keeper>, bool, usize),
        passed: Duration,
        stored: usize,
        what: Option<String>,
    ) -> NotFenced {
        let (answers, states) = (self.fence_answers(fence), self.states(fence.loom));
        let missing = keepers.iter().filter_map(|keeper| match answers.get(keeper) {
            Some(FenceAnswer::Stored { .. }) => None,
            Some(FenceAnswer::Refused { what, .. }) => Some(format!("{keeper} refused it ({what})")),
            None if states.get(keeper).is_some_and(|state| state.connected) => {
                Some(format!("{keeper} did not answer yet"))
            }
            None => Some(format!("{keeper} did not answer (it is not connected)")),
        });
        NotFenced {
            entity: fence.entity,
            stored,
            keepers: keepers.len().saturating_add(usize::from(is_own)),
            wanted,
            waited_ms: u64::try_from(passed.as_millis()).unwrap_or(u64::MAX),
            missing: what.into_iter().chain(missing).collect(),
        }
    }

    /// What shows that this node may adopt an entity.
    fn adopter_shows(&self, loom: LoomId, entity: EntityId) -> Result<Credentials, StoreError> {
        let own = self.disk.writer();
        let batch = self.batch(loom)?;
        let relies = Reader::of(&batch).may(own, Deed::Adopt(entity)).ok().flatten();
        self.shows(loom, Some(own), relies)
    }

    /// Checks a fence and stores it, durably, or, for an entity of this node's own, has that stop here.
    fn store_fence(&self, fence: &SignedFence, credentials: &Credentials) -> Result<Result<(), Refusal>, StoreError> {
        let SignedFence { loom, entity, epoch, by, .. } = *fence;
        let other = |what: String| Ok(Err(Refusal::Other(what)));
        if !fence.is_signed() {
            return other("the fence is not signed by whoever it names".to_owned());
        }
        let checked: Result<Vec<CheckedProof>, _> =
            credentials.proofs.iter().cloned().map(ProvedEntry::check).collect();
        let proofs = match checked {
            Ok(proofs) => proofs,
            Err(error) => return other(chain(&error)),
        };
        let is_admission =
            |proof: &CheckedProof| proof.loom() == loom && matches!(proof.sealed().entry.body, Body::Admitted(_));
        if !proofs.iter().all(is_admission) {
            return other("what shows that its adopter may adopt is about something else".to_owned());
        }
        let vouched = match self.disk.checked(&credentials.attestations) {
            Ok(vouched) => vouched,
            Err(error) => return other(chain(&error)),
        };
        let batch = self.batch(loom)?.with_shown(proofs, vouched);
        let reader = Reader::of(&batch);
        let Some(owner) = reader.owner(entity) else {
            return other(format!("nothing is known here of entity {entity}"));
        };
        if let Err(why) = reader.may(by, Deed::Adopt(entity)) {
            return other(format!("whoever wants to adopt entity {entity} may not: {why}"));
        }
        // The owner passes whatever others may have fenced: it needs twice the reach.
        let steps = if reader.is_same_member(owner.writer, by) { 2 } else { 1 };
        if epoch > owner.epoch.saturating_add(FENCE_STEP_MAX.saturating_mul(steps)) {
            return other(format!("epoch {epoch} is more than {FENCE_STEP_MAX} above the owner's, {}", owner.epoch));
        }
        let known = self.disk.fences(loom)?.iter().find(|kept| kept.entity == entity).map(SignedFence::rank);
        let highest = known.into_iter().chain([(owner.epoch, owner.writer)]).max();
        if let Some((above, _)) = highest.filter(|highest| *highest > fence.rank()) {
            return Ok(Err(Refusal::Above(above)));
        }
        if owner.writer == self.disk.writer() && by != owner.writer {
            self.lock().fenced_own.insert(entity, *fence);
            self.heard.send_modify(|count| *count = count.wrapping_add(1));
            return Ok(Ok(()));
        }
        if self.keeper(loom).1 != CopyKind::Disk {
            return Ok(Err(Refusal::Memory));
        }
        self.disk.keep_fence(fence)?;
        self.fences_changed(loom);
        Ok(Ok(()))
    }

    /// Those of them that go against somebody: above the owner's epoch, and of whoever may adopt.
    pub(super) fn signed_fences(
        &self,
        loom: LoomId,
        reader: &Reader<'_>,
    ) -> Result<BTreeMap<EntityId, SignedFence>, StoreError> {
        let is_standing = |fence: &SignedFence| {
            reader.owner(fence.entity).is_some_and(|owner| (owner.epoch, owner.writer) < fence.rank())
                && reader.may(fence.by, Deed::Adopt(fence.entity)).is_ok()
        };
        Ok(self.disk.fences(loom)?.into_iter().filter(is_standing).map(|fence| (fence.entity, fence)).collect())
    }

    /// The fence of an entity of this node's own that somebody else has signed and not made true yet.
    pub(in crate::driver) fn fenced_own(&self, entity: EntityId) -> Option<SignedFence> {
        self.lock().fenced_own.get(&entity).copied()
    }

    /// The epochs of the fences of an entity that are known here.
    pub(in crate::driver) fn fence_epochs(&self, loom: LoomId, entity: EntityId) -> Result<Vec<u64>, StoreError> {
        let kept = self.disk.fences(loom)?.into_iter().filter(|fence| fence.entity == entity);
        Ok(kept.chain(self.fenced_own(entity)).map(|fence| fence.epoch).collect())
    }

    /// Whether such a fence is of any entity of a loom.
    pub(super) fn is_fenced_in(&self, loom: LoomId) -> bool {
        self.lock().fenced_own.values().any(|fence| fence.loom == loom)
    }

    /// Of whoever may adopt no more, and behind an adoption above it, a fence goes against nothing.
    pub(super) fn reread_signed(&self, loom: LoomId, reader: &Reader<'_>) {
        let own = self.disk.writer();
        self.lock().fenced_own.retain(|entity, fence| {
            let is_own = reader.owner(*entity).is_none_or(|owner| owner.writer == own && owner.epoch < fence.epoch);
            fence.loom != loom || (is_own && reader.may(fence.by, Deed::Adopt(*entity)).is_ok())
        });
    }

    /// This node goes on with an entity behind such a fence.
    pub(in crate::driver) fn fence_passed(&self, entity: EntityId) {
        self.lock().fenced_own.remove(&entity);
    }

    /// Finds out whether a fence goes against an entity of this node's own.
    pub(super) fn is_free(&self, entity: EntityId) -> Result<(), AcksError> {
        self.fenced_own(entity).map_or(Ok(()), |fence| Err(AcksError::Fenced { entity, by: fence.by }))
    }
}

impl Session {
    /// Says the fences of a loom that this node is having stored, where the other side counts.
    pub(super) fn ask_fences(&mut self, loom: LoomId) -> bool {
        let mut asked = Vec::new();
        for ((of, _), asking) in &self.copies.lock().askings {
            // Whoever has refused it may have lacked what shows that it holds.
            let is_open = match asking.answers.get(&self.peer) {
                None | Some(FenceAnswer::Refused { above: 0, .. }) => true,
                Some(FenceAnswer::Refused { .. } | FenceAnswer::Stored { .. }) => false,
            };
            if *of == loom && asking.keepers.contains(&self.peer) && is_open {
                asked.push((asking.fence, asking.credentials.clone()));
            }
        }
        let now_us = self.copies.clock.elapsed_us();
        asked.retain(|(fence, _)| self.told_fences.is_due(fence, now_us));
        let is_any = !asked.is_empty();
        for (fence, credentials) in asked {
            self.push(CopyMessage::Fencing { fence: Box::new(fence), credentials: Box::new(credentials) });
        }
        is_any
    }

    /// Shows the other side a signed fence, once: what it sends goes against it.
    pub(super) fn show_signed(&mut self, fence: &SignedFence) -> Result<(), StoreError> {
        if !self.told_fences.is_new(fence, self.copies.clock.elapsed_us()) {
            return Ok(());
        }
        let batch = self.copies.batch(fence.loom)?;
        // Of whoever may adopt no more it stops nobody.
        let Ok(relies) = Reader::of(&batch).may(fence.by, Deed::Adopt(fence.entity)) else { return Ok(()) };
        let credentials = Box::new(self.copies.shows(fence.loom, Some(fence.by), relies)?);
        self.push(CopyMessage::Fencing { fence: Box::new(*fence), credentials });
        Ok(())
    }

    /// Somebody is about to adopt an entity. A keeper stores that and says so; the entity's owner stops.
    pub(super) async fn fencing_heard(
        &mut self,
        fence: SignedFence,
        credentials: Credentials,
    ) -> Result<(), StoreError> {
        let SignedFence { loom, entity, epoch, .. } = fence;
        if !self.heard.contains(&loom) {
            return Ok(());
        }
        let answer = |answer| CopyMessage::Fenced { loom, entity, epoch, answer };
        let refused = |above, what: String| answer(FenceAnswer::Refused { above, what });
        let bytes = credentials.proofs.iter().map(|proof| proof.to_bytes().len()).fold(0, usize::saturating_add);
        if !self.copies.brings(&self.peer, cost(bytes, credentials.proofs.len().saturating_add(1))) {
            let what = format!("{} has brought as many bytes as it may (keep_max_bytes)", self.peer);
            self.push(refused(0, what));
            return Ok(());
        }
        // Whether one holds takes a reading of the loom: after one that does not, no more are looked at.
        if self.fencing.is_mistrusted {
            self.push(refused(0, "a fence was shown on this connection that does not hold".to_owned()));
            return Ok(());
        }
        let is_unknown = |store: &Arc<dyn CopyStore>| Ok::<_, StoreError>(store.entries_of(entity)?.is_empty());
        if is_unknown(&self.copies.disk)? && is_unknown(self.copies.keeper(loom).0)? {
            self.push(refused(0, format!("nothing is known here of entity {entity}")));
            return Ok(());
        }
        let copies = Arc::clone(&self.copies);
        // Signatures are checked, and what holds is written and synced: not on a thread that serves.
        let stored = blocking(move || copies.store_fence(&fence, &credentials)).await?;
        match stored {
            Ok(()) => {
                tracing::info!(%loom, %entity, epoch, by = %fence.by, told_by = %self.peer, "an entity is about to be adopted");
                // What was acknowledged to the owner before this was stored is on disk by now.
                let batch = self.copies.batch(loom)?;
                let owner = Reader::of(&batch).owner(entity).map(|owner| owner.writer);
                let logs = self.copies.logs(loom)?.into_iter().filter(|log| Some(log.writer) == owner).collect();
                self.push(answer(FenceAnswer::Stored { logs }));
            }
            Err(Refusal::Memory) => {
                let what = format!("{} keeps this loom in memory only", self.copies.node());
                self.push(refused(0, what));
            }
            Err(Refusal::Above(above)) => self.push(refused(above, format!("it has a fence of epoch {above}"))),
            Err(Refusal::Other(what)) => {
                self.fencing.is_mistrusted = true;
                let detail = format!("loom {loom}: {what}");
                self.copies.refusals.note(&self.peer, "a fence was refused", &detail);
                self.push(refused(0, what));
            }
        }
        Ok(())
    }

    /// The other side says what became of a fence of this node.
    pub(super) fn fenced_heard(&self, (loom, entity): (LoomId, EntityId), epoch: u64, answer: FenceAnswer) {
        let mut state = self.copies.lock();
        let asking = state.askings.get_mut(&(loom, entity)).filter(|asking| asking.fence.epoch == epoch);
        if let Some(asking) = asking.filter(|asking| asking.keepers.contains(&self.peer)) {
            asking.answers.insert(self.peer.clone(), answer);
        }
        drop(state);
        self.copies.heard.send_modify(|count| *count = count.wrapping_add(1));
    }
}
