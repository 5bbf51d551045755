//! What two keepers can make each other hold.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use cantrip_runtime::domain::copies::{CopyKind, CopyMessage, Keeping, LogState};
use cantrip_runtime::domain::ids::{LoomId, WriterKey};
use cantrip_runtime::domain::loom::Head;
use cantrip_runtime::driver::Session;

use crate::copy_support::{Node, named};
use crate::store_support::{fill, loom, wait};

fn have(from: &Node, to: &Node, loom: LoomId, logs: Vec<LogState>) -> CopyMessage {
    let keepers = [from, to].map(|node| (node.name.clone(), Keeping::default()));
    CopyMessage::Have { loom, origin: from.name.clone(), keepers: BTreeMap::from(keepers), logs, casts: Vec::new() }
}

/// What a session has to say, up to a number of messages.
fn spoken(session: &mut Session, most: usize) -> Result<Vec<CopyMessage>> {
    let mut spoken = Vec::new();
    while spoken.len() < most
        && let Some(message) = session.next_message()?
    {
        spoken.push(message);
    }
    Ok(spoken)
}

fn refusals(said: &[CopyMessage]) -> usize {
    said.iter().filter(|message| matches!(message, CopyMessage::Refused { .. })).count()
}

#[test]
fn a_loom_has_so_many_keepers_and_no_more() -> Result<()> {
    let node = Node::new(1);
    let share = |number: usize| node.copies.share(loom(1), &named(&format!("keeper{number}")), CopyKind::Disk, None);
    // The node itself is one of them.
    for number in 1..64 {
        share(number)?;
    }
    let error = share(64).expect_err("one too many").to_string();
    ensure!(error.contains("has 64 keepers already"), "{error}");
    Ok(())
}

#[test]
fn a_peer_that_names_looms_without_end_is_refused_and_then_not_listened_to() -> Result<()> {
    let (node, peer) = (Node::new(1), Node::new(2));
    let mut session = node.session(&peer)?;
    let name = |number: u64| have(&peer, &node, LoomId::from_parts(number, [1; 16]), Vec::new());
    for number in 1..=10_000 {
        wait(session.hear(name(number)))?;
    }
    ensure!(!session.is_overrun(), "all of it has to be answered");
    ensure!(refusals(&spoken(&mut session, 10_000)?) == 0);
    wait(session.hear(name(10_001)))?;
    ensure!(refusals(&spoken(&mut session, 10_000)?) == 1);
    for number in 1..=10_001 {
        wait(session.hear(name(20_000 + number)))?;
    }
    ensure!(session.is_overrun(), "a peer that hears nothing says no more");
    Ok(())
}

#[test]
fn a_loom_with_writers_without_end_is_refused() -> Result<()> {
    let (node, peer) = (Node::new(1), Node::new(2));
    let logs = |count: u16| -> Vec<LogState> {
        let writer = |number: u16| {
            let mut bytes = [0; 32];
            bytes[..2].copy_from_slice(&number.to_le_bytes());
            WriterKey::from_bytes(bytes)
        };
        let head = Head::default();
        (0..count).map(|number| LogState { writer: writer(number), head, signed: None }).collect()
    };
    let mut session = node.session(&peer)?;
    wait(session.hear(have(&peer, &node, loom(1), logs(10_000))))?;
    ensure!(refusals(&spoken(&mut session, 100)?) == 0);
    wait(session.hear(have(&peer, &node, loom(2), logs(10_001))))?;
    ensure!(refusals(&spoken(&mut session, 100)?) == 1);
    Ok(())
}

#[test]
fn what_is_not_acknowledged_is_bounded() -> Result<()> {
    let (node, peer) = (Node::new(1), Node::new(2));
    fill(&*node.disk, loom(1), 800, 15_000, 100)?;
    node.copies.share(loom(1), &peer.name, CopyKind::Disk, None)?;
    let mut session = node.session(&peer)?;
    wait(session.hear(have(&peer, &node, loom(1), Vec::new())))?;
    let bytes = |said: &[CopyMessage]| -> usize {
        let size = |message: &CopyMessage| match message {
            CopyMessage::Segment(segment) => segment.entries.iter().map(Vec::len).sum(),
            _ => 0,
        };
        said.iter().map(size).sum()
    };
    let said = spoken(&mut session, 10_000)?;
    ensure!((7 << 20..11 << 20).contains(&bytes(&said)), "{} bytes of some 12 MiB", bytes(&said));
    let last = said.iter().rev().find_map(|message| match message {
        CopyMessage::Segment(segment) => Some(segment.signed),
        _ => None,
    });
    let (writer, head) = last.map(|signed| (signed.writer, signed.head)).expect("a segment");
    wait(session.hear(CopyMessage::Held { loom: loom(1), writer, head, kind: CopyKind::Disk }))?;
    ensure!(bytes(&spoken(&mut session, 10_000)?) > 1 << 20, "and the rest once it was acknowledged");
    Ok(())
}
