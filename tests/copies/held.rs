//! What a keeper says that it has: it counts as far as it was sent, where it is the same history, and for acknowledgements on a disk.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use cantrip_runtime::domain::copies::{CopyKind, CopyMessage, Keeping};
use cantrip_runtime::domain::ids::{LoomId, WriterKey};
use cantrip_runtime::domain::loom::{Head, SignedHead};
use cantrip_runtime::driver::{KeeperState, Session};
use cantrip_runtime::ports::LogState;

use super::copy_support::{Node, Wire, found, key, named, share_all};
use super::store_support::wait;

/// A founder with three entries, its loom, and a conversation with a keeper that has said that it has nothing.
fn conversation(kind: CopyKind) -> Result<(Node, LoomId, Session)> {
    let node = Node::new(1);
    let loom = found(&*node.disk, 1, &[])?;
    for text in ["one", "two"] {
        node.write(loom, 0, text)?;
    }
    node.copies.share(loom, &named("node2"), kind, None)?;
    let mut session = node.session(&Node::new(2))?;
    session.hear_all([have(loom, kind, Vec::new())])?;
    Ok((node, loom, session))
}

trait Hears {
    fn hear_all(&mut self, messages: impl IntoIterator<Item = CopyMessage>) -> Result<()>;
    /// Says all that it has to say.
    fn speak(&mut self) -> Result<()>;
}

impl Hears for Session {
    fn hear_all(&mut self, messages: impl IntoIterator<Item = CopyMessage>) -> Result<()> {
        for message in messages {
            wait(self.hear(message))?;
        }
        Ok(())
    }

    fn speak(&mut self) -> Result<()> {
        self.refresh()?;
        while self.next_message()?.is_some() {}
        Ok(())
    }
}

fn have(loom: LoomId, kind: CopyKind, logs: Vec<LogState>) -> CopyMessage {
    let keepers = BTreeMap::from([(named("node2"), Keeping { revision: 1, kind })]);
    CopyMessage::Have { loom, origin: named("node1"), keepers, logs, casts: Vec::new() }
}

fn held(loom: LoomId, writer: WriterKey, head: Head, kind: CopyKind) -> CopyMessage {
    CopyMessage::Held { loom, writer, head, kind }
}

fn head(node: &Node, loom: LoomId) -> Result<Head> {
    Ok(node.disk.head(loom)?)
}

fn state(node: &Node, loom: LoomId) -> Result<KeeperState> {
    node.copies.states(loom).remove(&named("node2")).context("no keeper")
}

/// Nothing counts, and the answer is named.
fn counts_for_nothing(node: &Node, loom: LoomId, said: &str) -> Result<()> {
    let state = state(node, loom)?;
    let error = state.last_error.clone().unwrap_or_default();
    ensure!(state.has.is_empty() && state.durable.is_empty(), "{state:?}");
    ensure!(state.wrong_answers == 1 && error.contains(said), "{state:?}");
    Ok(())
}

#[test]
fn what_was_sent_is_acknowledged_on_a_disk_and_with_its_chain() -> Result<()> {
    let (node, loom, mut session) = conversation(CopyKind::Disk)?;
    session.speak()?;
    let (writer, head) = (node.disk.writer(), head(&node, loom)?);
    session.hear_all([held(loom, writer, head, CopyKind::Disk)])?;
    let state = state(&node, loom)?;
    ensure!(state.durable.get(&writer) == Some(&head.sequence) && state.wrong_answers == 0, "{state:?}");
    ensure!(state.said_at_us.is_some());
    Ok(())
}

#[tokio::test]
async fn whoever_waits_in_vain_hears_what_each_keeper_said() -> Result<()> {
    let (node, loom, mut session) = conversation(CopyKind::Disk)?;
    node.copies.share(loom, &named("node2"), CopyKind::Disk, Some((1, 1)))?;
    let refused = |what: &str| CopyMessage::Refused { loom, writer: None, what: what.to_owned() };
    session.hear_all([refused("node2 could not write its record")])?;
    let Err(why) = node.copies.acknowledged(loom, None).await else { bail!("nobody has it") };
    let why = why.to_string();
    ensure!(why.contains("0 of 1 copies") && why.contains("node2 did not answer (node2 could not write"), "{why}");
    ensure!(why.contains("(--acks-wait-ms)") && why.contains("`loom status"), "{why}");
    Ok(())
}

#[test]
fn more_than_was_sent_is_not_acknowledged() -> Result<()> {
    let (node, loom, mut session) = conversation(CopyKind::Disk)?;
    let writer = node.disk.writer();
    // Nothing was sent yet, and it knows how long the log is and what its chain is.
    session.hear_all([held(loom, writer, head(&node, loom)?, CopyKind::Disk)])?;
    counts_for_nothing(&node, loom, "of which nothing was sent")?;
    let (node, loom, mut session) = conversation(CopyKind::Disk)?;
    session.speak()?;
    let far = Head { sequence: 1 << 63, ..head(&node, loom)? };
    session.hear_all([held(loom, writer, far, CopyKind::Disk)])?;
    counts_for_nothing(&node, loom, "and 3 were sent")?;
    // What is written after that is sent all the same.
    node.write(loom, 0, "three")?;
    session.refresh()?;
    ensure!(matches!(session.next_message()?, Some(CopyMessage::Segment(_))));
    Ok(())
}

#[test]
fn another_history_at_the_same_place_is_not_acknowledged() -> Result<()> {
    let (node, loom, mut session) = conversation(CopyKind::Disk)?;
    session.speak()?;
    let other = Head { chain: [7; 32], ..head(&node, loom)? };
    session.hear_all([held(loom, node.disk.writer(), other, CopyKind::Disk)])?;
    counts_for_nothing(&node, loom, "another entry 3")
}

#[test]
fn what_is_in_memory_is_no_acknowledgement() -> Result<()> {
    let (node, loom, mut session) = conversation(CopyKind::Disk)?;
    session.speak()?;
    let (writer, head) = (node.disk.writer(), head(&node, loom)?);
    session.hear_all([held(loom, writer, head, CopyKind::Memory)])?;
    let now = state(&node, loom)?;
    ensure!(now.has.get(&writer) == Some(&3) && now.durable.is_empty() && now.wrong_answers == 0, "{now:?}");
    // What it shows of its own accord is where it says so itself, whatever this side asked for.
    let log = LogState { writer, head, signed: None };
    session.hear_all([have(loom, CopyKind::Memory, vec![log])])?;
    ensure!(state(&node, loom)?.durable.is_empty());
    session.hear_all([have(loom, CopyKind::Disk, vec![log])])?;
    ensure!(state(&node, loom)?.durable.get(&writer) == Some(&3));
    Ok(())
}

#[test]
fn a_log_that_is_shown_counts_only_with_the_chain_that_is_here() -> Result<()> {
    let (node, loom, mut session) = conversation(CopyKind::Disk)?;
    let (writer, head) = (node.disk.writer(), head(&node, loom)?);
    let log = LogState { writer, head: Head { chain: [7; 32], ..head }, signed: None };
    session.hear_all([have(loom, CopyKind::Disk, vec![log])])?;
    counts_for_nothing(&node, loom, "that this node never signed")?;
    // Nor can it be acknowledged after that.
    session.hear_all([held(loom, writer, head, CopyKind::Disk)])?;
    ensure!(state(&node, loom)?.durable.is_empty());
    Ok(())
}

#[test]
fn of_a_nodes_own_log_another_has_more_only_under_its_signature() -> Result<()> {
    let (node, loom, mut session) = conversation(CopyKind::Disk)?;
    let writer = node.disk.writer();
    let head = Head { sequence: 1 << 40, chain: [7; 32] };
    let by_another = SignedHead { writer, ..key(2).sign(loom, head) };
    session.hear_all([have(loom, CopyKind::Disk, vec![LogState { writer, head, signed: Some(by_another) }])])?;
    counts_for_nothing(&node, loom, "that this node never signed")?;
    ensure!(node.disk.writer() == writer, "it goes on under its key");
    Ok(())
}

#[test]
fn an_honest_keeper_acknowledges_no_more_than_whoever_asks_has_sent() -> Result<()> {
    let nodes = [Node::new(1), Node::new(2), Node::new(3)];
    let loom = found(&*nodes[0].disk, 1, &[])?;
    share_all(&nodes, loom)?;
    Wire::connect(&nodes[0], &nodes[2])?.settle()?;
    nodes[0].write(loom, 0, "one more")?;
    // The second has all of it from the writer, then the third sends what it has.
    let mut late = Wire::connect(&nodes[2], &nodes[1])?;
    for _ in 0..3 {
        late.say(0)?;
        late.say(1)?;
        late.hear(0)?;
    }
    Wire::connect(&nodes[0], &nodes[1])?.settle()?;
    // What it sent comes when the second has more than that, and before it has heard so.
    while late.hear(1)? {}
    late.settle()?;
    let acknowledged = late.said.iter().filter_map(|message| match message {
        CopyMessage::Held { head, .. } => Some(head.sequence),
        _ => None,
    });
    ensure!(acknowledged.clone().next() == Some(1), "{:?}", acknowledged.collect::<Vec<_>>());
    let kept = nodes[2].copies.states(loom).remove(&nodes[1].name).context("no keeper")?;
    ensure!(kept.wrong_answers == 0 && kept.last_error.is_none(), "{kept:?}");
    ensure!(kept.has.get(&key(1).writer()) == Some(&2), "{kept:?}");
    Ok(())
}
