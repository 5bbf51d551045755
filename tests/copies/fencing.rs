//! A signed fence: keepers that have stored it acknowledge nothing more of the entity to its owner, and the owner stops.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use cantrip_runtime::adapters::clock::SystemClock;
use cantrip_runtime::domain::copies::{CopyKind, CopyMessage, FenceAnswer};
use cantrip_runtime::domain::limits::FENCE_STEP_MAX;
use cantrip_runtime::domain::loom::{Body, SignedFence};
use cantrip_runtime::domain::members::{AuthorityId, CheckedProof, NodeId, Principal};
use cantrip_runtime::domain::remote::Credentials;
use cantrip_runtime::driver::AcksError;
use cantrip_runtime::{NoMedia, Runtime};

use super::copy_support::{Wire, key};
use super::fences::{Three, say};
use super::store_support::wait;

impl Three {
    fn fence(&self, by: usize, epoch: u64) -> Result<SignedFence> {
        Ok(self.nodes[by].disk.sign_fence(self.loom, self.entities[0].0, epoch)?)
    }

    /// The keeper hears a fence from the third, as that one says it. Returns what it answers.
    fn told(&self, fence: SignedFence) -> Result<FenceAnswer> {
        let mut wire = Wire::connect(&self.nodes[1], &self.nodes[2])?;
        wire.settle()?;
        let proof =
            self.nodes[2].disk.prove(self.admission)?.or(self.nodes[2].disk.proved_entry(self.loom, self.admission)?);
        let proofs = proof.iter().map(CheckedProof::to_proof).collect();
        let credentials = Box::new(Credentials { proofs, attestations: Vec::new() });
        wait(wire.sessions[0].hear(CopyMessage::Fencing { fence: Box::new(fence), credentials }))?;
        while let Some(message) = wire.sessions[0].next_message()? {
            if let CopyMessage::Fenced { answer, .. } = message {
                return Ok(answer);
            }
        }
        bail!("the keeper does not answer")
    }

    fn is_stored(&self, fence: SignedFence) -> Result<bool> {
        Ok(matches!(self.told(fence)?, FenceAnswer::Stored { .. }))
    }
}

fn refused(answer: FenceAnswer) -> Result<(u64, String)> {
    match answer {
        FenceAnswer::Refused { above, what } => Ok((above, what)),
        FenceAnswer::Stored { .. } => bail!("it is stored"),
    }
}

#[test]
fn a_fence_that_a_keeper_has_stored_is_shown_before_it_acknowledges_what_goes_against_it() -> Result<()> {
    let three = Three::new()?;
    ensure!(three.is_stored(three.fence(2, 1)?)?);
    three.goes_on()?;
    let mut wire = Wire::connect(&three.nodes[0], &three.nodes[1])?;
    wire.settle()?;
    let own = key(1).writer();
    let place = |is: &dyn Fn(&CopyMessage) -> bool| wire.said.iter().position(is);
    let shown = place(&|it| matches!(it, CopyMessage::Fencing { .. })).context("no fence was shown")?;
    let held =
        place(&|it| matches!(it, CopyMessage::Held { writer, .. } if *writer == own)).context("nothing is held")?;
    ensure!(shown < held, "{shown} {held}");
    ensure!(matches!(three.acknowledged(0), Err(AcksError::Fenced { by, .. }) if by == key(3).writer()));
    ensure!(three.acknowledged(1).is_ok(), "its other entities go on");
    Ok(())
}

#[test]
fn a_stored_fence_stays_when_its_keeper_starts_again() -> Result<()> {
    let mut three = Three::new()?;
    ensure!(three.is_stored(three.fence(2, 1)?)?);
    three.nodes[1].restart();
    three.goes_on()?;
    Wire::connect(&three.nodes[0], &three.nodes[1])?.settle()?;
    ensure!(matches!(three.acknowledged(0), Err(AcksError::Fenced { .. })));
    Ok(())
}

#[test]
fn a_keeper_says_with_a_fence_how_far_the_owners_log_is_on_its_disk() -> Result<()> {
    let three = Three::new()?;
    let FenceAnswer::Stored { logs } = three.told(three.fence(2, 1)?)? else { bail!("it is refused") };
    let [log] = logs.as_slice() else { bail!("{} logs", logs.len()) };
    ensure!(log.writer == key(1).writer());
    ensure!(log.head == three.nodes[0].disk.head(three.loom)? && log.signed.is_some());
    Ok(())
}

#[test]
fn a_fence_by_whoever_may_not_adopt_or_that_is_not_signed_is_refused_and_stops_nobody() -> Result<()> {
    let three = Three::new()?;
    let (_, what) = refused(three.told(three.fence(1, 1)?)?)?;
    ensure!(what.contains("may not"), "{what}");
    let forged = SignedFence { by: key(3).writer(), ..three.fence(1, 1)? };
    let (_, what) = refused(three.told(forged)?)?;
    ensure!(what.contains("not signed"), "{what}");
    three.goes_on()?;
    Wire::connect(&three.nodes[0], &three.nodes[1])?.settle()?;
    ensure!(three.acknowledged(0).is_ok());
    // Nor does the owner believe it.
    let mut wire = Wire::connect(&three.nodes[0], &three.nodes[1])?;
    wire.settle()?;
    for fence in [three.fence(1, 1)?, forged] {
        let credentials = Box::<Credentials>::default();
        wait(wire.sessions[0].hear(CopyMessage::Fencing { fence: Box::new(fence), credentials }))?;
    }
    ensure!(three.acknowledged(0).is_ok());
    Ok(())
}

#[test]
fn after_a_fence_that_does_not_hold_a_keeper_reads_the_loom_for_no_other() -> Result<()> {
    let three = Three::new()?;
    let mut wire = Wire::connect(&three.nodes[1], &three.nodes[2])?;
    wire.settle()?;
    let mut answers = Vec::new();
    for fence in [three.fence(1, 1)?, three.fence(2, 1)?] {
        let credentials = Box::<Credentials>::default();
        wait(wire.sessions[0].hear(CopyMessage::Fencing { fence: Box::new(fence), credentials }))?;
        while let Some(message) = wire.sessions[0].next_message()? {
            if let CopyMessage::Fenced { answer, .. } = message {
                answers.push(refused(answer)?.1);
            }
        }
    }
    ensure!(answers.len() == 2 && answers[1].contains("on this connection"), "{answers:?}");
    Ok(())
}

#[test]
fn of_two_fences_the_higher_one_stays_and_the_owner_reaches_above_what_others_reach() -> Result<()> {
    let three = Three::new()?;
    ensure!(three.is_stored(three.fence(2, 5)?)?);
    let (above, _) = refused(three.told(three.fence(2, 4)?)?)?;
    ensure!(above == 5, "{above}");
    ensure!(three.is_stored(three.fence(2, 5)?)?, "the same again is stored");
    let (above, what) = refused(three.told(three.fence(2, FENCE_STEP_MAX + 1)?)?)?;
    ensure!(above == 0 && what.contains("above the owner's"), "{what}");
    ensure!(three.is_stored(three.fence(2, FENCE_STEP_MAX)?)?);
    ensure!(three.is_stored(three.fence(0, FENCE_STEP_MAX + 1)?)?, "nobody stops the owner for good");
    ensure!(matches!(three.told(three.fence(0, 2 * FENCE_STEP_MAX + 1)?)?, FenceAnswer::Refused { .. }));
    Ok(())
}

#[test]
fn a_keeper_in_memory_stores_no_fence() -> Result<()> {
    let three = Three::new()?;
    let keeper = &three.nodes[1];
    keeper.copies.share(three.loom, &keeper.name, CopyKind::Memory, None)?;
    let (_, what) = refused(three.told(three.fence(2, 1)?)?)?;
    ensure!(what.contains("in memory only"), "{what}");
    Ok(())
}

#[test]
fn an_owner_whose_copy_is_in_memory_stops_all_the_same() -> Result<()> {
    let three = Three::new()?;
    let owner = &three.nodes[0];
    owner.copies.share(three.loom, &owner.name, CopyKind::Memory, None)?;
    ensure!(three.is_stored(three.fence(2, 1)?)?);
    three.goes_on()?;
    Wire::connect(owner, &three.nodes[1])?.settle()?;
    ensure!(matches!(three.acknowledged(0), Err(AcksError::Fenced { .. })));
    Ok(())
}

#[test]
fn a_change_of_who_acknowledges_is_not_acknowledged_before_every_fence_is_shown() -> Result<()> {
    let three = Three::new()?;
    ensure!(three.is_stored(three.fence(2, 1)?)?);
    // It is about no entity, and still it may not count for the one that is fenced.
    let keeping = Body::Keeping { acks: 0, keepers: Vec::new(), accept_loss: false };
    say(&three.nodes[0], three.loom, None, (None, None), keeping)?;
    Wire::connect(&three.nodes[0], &three.nodes[1])?.settle()?;
    ensure!(matches!(three.acknowledged(0), Err(AcksError::Fenced { .. })));
    ensure!(three.acknowledged(1).is_ok());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_goes_on_behind_a_fence_of_its_own_where_no_adoption_follows() -> Result<()> {
    let three = Three::new()?;
    let owner = &three.nodes[0];
    ensure!(three.is_stored(three.fence(2, FENCE_STEP_MAX)?)?);
    let counts = NodeId { authority: AuthorityId::of(b"somebody"), name: "node2".parse()? };
    let keeping = Body::Keeping { acks: 1, keepers: vec![Principal::Node(counts)], accept_loss: false };
    say(owner, three.loom, None, (None, None), keeping)?;
    let mut wire = Wire::connect(owner, &three.nodes[1])?;
    wire.settle()?;
    ensure!(matches!(three.acknowledged(0), Err(AcksError::Fenced { .. })));
    let runtime =
        Runtime::new(Arc::clone(&owner.disk) as _, Arc::new(NoMedia), Arc::new(SystemClock::default()), "node1");
    let runtime = runtime.with_copies(Arc::clone(&owner.copies));
    let (loom, entity) = (three.loom, three.entities[0].0);
    let adopted = tokio::spawn(async move { runtime.adopt(loom, entity, false).await });
    while !adopted.is_finished() {
        wire.settle()?;
        tokio::task::yield_now().await;
    }
    let (_, epoch) = adopted.await??;
    ensure!(epoch == FENCE_STEP_MAX + 1, "{epoch}");
    wire.settle()?;
    ensure!(three.acknowledged(0).is_ok());
    // Whoever wanted it first is above nothing any more, and the keeper says so.
    let (above, _) = refused(three.told(three.fence(2, FENCE_STEP_MAX)?)?)?;
    ensure!(above == FENCE_STEP_MAX + 1, "{above}");
    Ok(())
}
