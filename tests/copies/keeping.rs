//! How many acknowledge and who counts: by what this node's own log says, and across a change of it under what held before too.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use cantrip_runtime::domain::copies::{CopyKind, Keeper, LoomCopies, Recorded};
use cantrip_runtime::domain::ids::{EntityId, LoomId};
use cantrip_runtime::driver::{AcksError, Arrangement, CopyError, NoCopies, arrange};
use cantrip_runtime::ports::CopyBook as _;

use super::copy_support::{Node, Wire, found, named};

/// A founder and three keepers that it is connected to one at a time.
struct Four {
    nodes: [Node; 4],
    loom: LoomId,
}

impl Four {
    fn new() -> Result<Self> {
        let nodes = [Node::new(1), Node::new(2), Node::new(3), Node::new(4)];
        let loom = found(&*nodes[0].disk, 1, &[])?;
        for keeper in ["node2", "node3", "node4"] {
            nodes[0].copies.share(loom, &named(keeper), CopyKind::Disk, Some((1, 1)))?;
        }
        Ok(Self { nodes, loom })
    }

    /// Writes down what the log says of acknowledgements, as if it had been said.
    fn recorded(&self, recorded: Vec<Recorded>, adopted: Vec<Recorded>) -> Result<()> {
        let copies = self.nodes[0].copies.of(self.loom).map(|copies| LoomCopies { recorded, adopted, ..copies });
        self.nodes[0].book.save(&copies.ok_or_else(|| anyhow::anyhow!("it is not shared"))?)?;
        Ok(self.nodes[0].copies.reread()?)
    }

    fn said(&self, place: u64, acks: u32, keepers: &[&str]) -> Recorded {
        let keepers: BTreeSet<Keeper> = keepers.iter().map(|keeper| named(keeper)).collect();
        Recorded { writer: self.nodes[0].disk.writer(), place, acks, keepers, entity: None }
    }

    fn meets(&self, keeper: usize) -> Result<()> {
        Wire::connect(&self.nodes[0], &self.nodes[keeper])?.settle()
    }

    fn is_acknowledged(&self, of: Option<EntityId>) -> Result<bool> {
        match wait_paused(self.nodes[0].copies.acknowledged(self.loom, of))? {
            Ok(()) => Ok(true),
            Err(AcksError::Missing(NoCopies { .. })) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Waits in time that passes as soon as nobody does anything.
fn wait_paused<T>(work: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    Ok(runtime.block_on(work))
}

#[test]
fn only_whoever_the_log_names_acknowledges() -> Result<()> {
    let four = Four::new()?;
    four.recorded(vec![four.said(1, 1, &["node3"])], Vec::new())?;
    four.meets(1)?;
    ensure!(!four.is_acknowledged(None)?, "the second keeps it, and does not count");
    four.meets(2)?;
    ensure!(four.is_acknowledged(None)?);
    Ok(())
}

#[test]
fn a_change_counts_once_those_who_counted_before_have_acknowledged_it_too() -> Result<()> {
    let four = Four::new()?;
    four.nodes[0].write(four.loom, 0, "the change")?;
    let change = four.nodes[0].disk.head(four.loom)?.sequence;
    four.nodes[0].write(four.loom, 0, "behind it")?;
    four.recorded(vec![four.said(1, 1, &["node2"]), four.said(change, 1, &["node3"])], Vec::new())?;
    four.meets(2)?;
    ensure!(!four.is_acknowledged(None)?, "nobody that counted before has heard of it");
    four.meets(1)?;
    ensure!(four.is_acknowledged(None)?);
    let now = four.nodes[0].copies.of(four.loom).map(|copies| (copies.recorded, copies.repeats));
    ensure!(now == Some((vec![four.said(change, 1, &["node3"])], true)), "what held before is over: {now:?}");
    // It is said again, and that once.
    four.nodes[0].write(four.loom, 0, "the change, again")?;
    let again = four.nodes[0].disk.head(four.loom)?.sequence;
    four.recorded(vec![four.said(change, 1, &["node3"]), four.said(again, 1, &["node3"])], Vec::new())?;
    four.meets(2)?;
    ensure!(four.is_acknowledged(None)?, "only those who count now have to have it");
    let now = four.nodes[0].copies.of(four.loom).map(|copies| (copies.recorded.len(), copies.repeats));
    ensure!(now == Some((1, false)), "{now:?}");
    Ok(())
}

#[test]
fn what_is_arranged_while_a_change_is_open_is_waited_for_behind_it() -> Result<()> {
    let four = Four::new()?;
    four.nodes[0].write(four.loom, 0, "nothing is acknowledged")?;
    let off = four.nodes[0].disk.head(four.loom)?.sequence;
    four.recorded(vec![four.said(1, 1, &["node2"]), four.said(off, 0, &[])], Vec::new())?;
    // The log cannot say yet that somebody has to acknowledge again, as the second has not heard that nobody had to.
    four.meets(2)?;
    ensure!(!four.is_acknowledged(None)?, "somebody wants one acknowledgement");
    four.meets(1)?;
    ensure!(four.is_acknowledged(None)?);
    Ok(())
}

#[test]
fn an_adoption_counts_once_the_former_owners_keepers_have_it() -> Result<()> {
    let four = Four::new()?;
    let [adopted, other] = [7, 8].map(|number| EntityId::from_parts(number, [1; 16]));
    let place = four.nodes[0].disk.head(four.loom)?.sequence;
    let former = Recorded { entity: Some(adopted), ..four.said(place, 1, &["node4"]) };
    four.recorded(vec![four.said(1, 1, &["node2"])], vec![former])?;
    four.meets(1)?;
    ensure!(four.is_acknowledged(Some(other))?, "what is of other entities does not wait for it");
    ensure!(!four.is_acknowledged(Some(adopted))?);
    four.meets(3)?;
    ensure!(four.is_acknowledged(Some(adopted))?);
    ensure!(four.nodes[0].copies.of(four.loom).is_some_and(|copies| copies.adopted.is_empty()));
    Ok(())
}

#[test]
fn a_keeper_that_counts_goes_once_nothing_waits_for_it() -> Result<()> {
    let four = Four::new()?;
    four.recorded(vec![four.said(1, 1, &["node2"])], Vec::new())?;
    let copies = &four.nodes[0].copies;
    copies.share(four.loom, &named("node2"), CopyKind::None, None)?;
    let of = copies.of(four.loom).ok_or_else(|| anyhow::anyhow!("it is not shared"))?;
    ensure!(of.kind(&named("node2")) == CopyKind::Disk && of.leaving.contains(&named("node2")));
    ensure!(!of.counting.contains(&named("node2")), "it counts no more for what follows");
    four.nodes[0].write(four.loom, 0, "the change")?;
    let change = four.nodes[0].disk.head(four.loom)?.sequence;
    let four_said = vec![four.said(1, 1, &["node2"]), four.said(change, 1, &["node3", "node4"])];
    four.recorded(four_said, Vec::new())?;
    four.meets(2)?;
    ensure!(!four.is_acknowledged(None)?);
    four.meets(1)?;
    ensure!(four.is_acknowledged(None)?);
    let of = copies.of(four.loom).ok_or_else(|| anyhow::anyhow!("it is not shared"))?;
    ensure!(of.kind(&named("node2")) == CopyKind::None && of.leaving.is_empty(), "{of:?}");
    Ok(())
}

#[test]
fn with_a_loss_accepted_a_keeper_goes_at_once() -> Result<()> {
    let four = Four::new()?;
    four.recorded(vec![four.said(1, 1, &["node2"])], Vec::new())?;
    let arrangement = Arrangement { kind: CopyKind::None, acks: None, accept_loss: true };
    four.nodes[0].copies.share_with(four.loom, &named("node2"), arrangement)?;
    let of = four.nodes[0].copies.of(four.loom).ok_or_else(|| anyhow::anyhow!("it is not shared"))?;
    ensure!(of.kind(&named("node2")) == CopyKind::None && of.leaving.is_empty() && of.accept_loss);
    Ok(())
}

#[test]
fn what_is_written_down_and_is_not_in_the_log_does_not_count() -> Result<()> {
    let mut four = Four::new()?;
    // The process ended after the one and before the other.
    four.recorded(vec![four.said(1, 1, &["node2"]), four.said(9, 1, &["node3"])], Vec::new())?;
    four.nodes[0].restart();
    for keeper in 1..4 {
        four.meets(keeper)?;
    }
    wait_paused(four.nodes[0].copies.asked(four.loom))??;
    let now = four.nodes[0].copies.of(four.loom).map(|copies| copies.recorded.len());
    ensure!(now == Some(0), "neither place says anything of acknowledgements");
    Ok(())
}

#[test]
fn more_acknowledgements_than_would_count_are_refused() -> Result<()> {
    let (own, other) = (named("node1"), named("node2"));
    let mut copies = LoomCopies::new(LoomId::from_parts(1, [1; 16]), &own);
    let arrangement = |kind, acks| Arrangement { kind, acks: Some((acks, 0)), accept_loss: false };
    arrange(&mut copies, &own, &other, arrangement(CopyKind::Disk, 1))?;
    ensure!(copies.counting == BTreeSet::from([other.clone()]));
    let two = arrange(&mut copies.clone(), &own, &other, arrangement(CopyKind::Disk, 2));
    ensure!(matches!(two, Err(CopyError::Acks { acks: 2, disks: 1, .. })));
    let gone = arrange(&mut copies.clone(), &own, &other, arrangement(CopyKind::None, 1));
    ensure!(matches!(gone, Err(CopyError::Acks { acks: 1, disks: 0, .. })));
    Ok(())
}

#[test]
fn whoever_counted_before_nothing_was_acknowledged_any_more_has_to_know_before_others_count() -> Result<()> {
    let four = Four::new()?;
    four.recorded(vec![four.said(1, 1, &["node2"])], Vec::new())?;
    let copies = &four.nodes[0].copies;
    copies.share(four.loom, &named("node2"), CopyKind::None, Some((0, 1)))?;
    four.nodes[0].write(four.loom, 0, "nothing is acknowledged")?;
    let off = four.nodes[0].disk.head(four.loom)?.sequence;
    four.recorded(vec![four.said(1, 1, &["node2"]), four.said(off, 0, &[])], Vec::new())?;
    ensure!(four.is_acknowledged(None)?, "nobody waits");
    let of = copies.of(four.loom).ok_or_else(|| anyhow::anyhow!("it is not shared"))?;
    ensure!(of.recorded.len() == 2 && of.leaving.contains(&named("node2")), "the second does not know yet: {of:?}");
    four.nodes[0].write(four.loom, 0, "others acknowledge")?;
    let on = four.nodes[0].disk.head(four.loom)?.sequence;
    let all = vec![four.said(1, 1, &["node2"]), four.said(off, 0, &[]), four.said(on, 1, &["node3"])];
    four.recorded(all, Vec::new())?;
    four.meets(2)?;
    ensure!(!four.is_acknowledged(None)?, "who counted first could go on without all of this");
    four.meets(1)?;
    ensure!(four.is_acknowledged(None)?);
    let of = copies.of(four.loom).ok_or_else(|| anyhow::anyhow!("it is not shared"))?;
    ensure!(of.recorded.len() == 1 && of.kind(&named("node2")) == CopyKind::None, "{of:?}");
    Ok(())
}
