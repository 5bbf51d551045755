//! What hosts wrote of casts, at the keepers of the caller's loom.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use cantrip_runtime::adapters::store::MemoryStore;
use cantrip_runtime::domain::copies::{CastAnswer, CopyKind, CopyMessage};
use cantrip_runtime::domain::ids::{EntityId, EntryId, LoomId};
use cantrip_runtime::domain::loom::{
    Body, CastHead, CastStream, CastUnit, Entry, EquivocationProof, Minted, Opened, Payload, Sealed,
};
use cantrip_runtime::domain::members::{Admitted, Nonce, Principal, Reader, Refused, Right, Rights, Scope};
use cantrip_runtime::ports::{CopyStore, LoomStore};

use super::copy_support::{Node, Wire, found, key, share_all};
use super::store_support::wait;

const NONCE: Nonce = Nonce::from_bytes([5; 16]);
/// Whose key hosts the casts of the first node: no node of these tests.
const HOST: u8 = 9;

/// The root of a cast of the first node.
fn cast() -> (EntityId, Minted) {
    let by = key(1).writer();
    (EntityId::mint(8, &by, &NONCE), Minted { by, nonce: NONCE })
}

/// The first node admits the host for the cast.
fn admit_host(caller: &Node, loom: LoomId, bytes_max: u64) -> Result<EntryId> {
    let (entity, minted) = cast();
    let opener = key(HOST).writer();
    let scope = Some(Scope { entity, minted, opener, bytes_max });
    let (principal, rights) = (Principal::Key(opener), Rights::from_iter([Right::Write]));
    let admitted = Admitted { principal, rights, scope, again: Vec::new(), by: None, note: None };
    let place = (caller.disk.writer(), caller.disk.head(loom)?.sequence + 1);
    let entry = Entry::new(loom, place, place.1, Some(entity), None, Body::Admitted(Box::new(admitted)));
    let sealed = Sealed::new(entry, Vec::new())?;
    let id = sealed.id;
    caller.disk.append(sealed)?;
    wait(caller.disk.sync(loom))?;
    caller.copies.grown(loom);
    Ok(id)
}

/// What the host writes of the cast, and what the caller has heard of it.
struct Host {
    store: Arc<MemoryStore>,
    loom: LoomId,
    relies: EntryId,
    log: Vec<Sealed>,
    unit: CastUnit,
    heard: CastStream,
}

impl Host {
    fn of(caller: &Node, loom: LoomId, relies: EntryId) -> Self {
        let (store, root) = (MemoryStore::with_key(key(HOST)), cast().0);
        let heard = CastStream::new(loom, caller.disk.writer(), root);
        Self { store, loom, relies, log: Vec::new(), unit: CastUnit::of(root), heard }
    }

    fn entry(&self, text: &str) -> Result<Sealed> {
        let (root, minted) = cast();
        let (place, parent) = (self.log.len() as u64 + 1, self.log.last().map(|sealed| sealed.id));
        let body = match parent {
            None => Body::Opened(Box::new(Opened { minted: Some(minted), ..Opened::default() })),
            Some(_) => Body::intent(Payload::Inline(text.to_owned()), false, None),
        };
        let entry = Entry::new(self.loom, (key(HOST).writer(), place), place, Some(root), parent, body);
        Ok(Sealed::new(Entry { relies: Some(self.relies), ..entry }, Vec::new())?)
    }

    /// So many more entries, with a head over them.
    fn step(&mut self, entries: usize) -> Result<(Vec<Sealed>, CastHead)> {
        let mut step = Vec::new();
        for _ in 0..entries {
            let sealed = self.entry(&format!("entry {}", self.log.len()))?;
            ensure!(self.unit.takes(&sealed));
            self.log.push(sealed.clone());
            step.push(sealed);
        }
        Ok((step, self.store.sign_cast(self.loom, cast().0, self.unit.at())?))
    }

    /// The caller hears so many more entries.
    fn tell(&mut self, caller: &Node, entries: usize) -> Result<()> {
        let (step, head) = self.step(entries)?;
        caller.disk.receive(self.heard.check(step, vec![head])?)?;
        wait(caller.disk.sync(self.loom))?;
        caller.copies.grown(self.loom);
        Ok(())
    }

    fn ids(&self) -> BTreeSet<EntryId> {
        self.log.iter().map(|sealed| sealed.id).collect()
    }
}

/// Nodes that keep a loom of the first, and a host that it has admitted for so many bytes.
fn hosted(nodes: &[Node], bytes_max: u64) -> Result<(LoomId, Host)> {
    let loom = found(&*nodes[0].disk, 1, &[])?;
    share_all(nodes, loom)?;
    let relies = admit_host(&nodes[0], loom, bytes_max)?;
    Ok((loom, Host::of(&nodes[0], loom, relies)))
}

fn is_step(message: &CopyMessage) -> bool {
    matches!(message, CopyMessage::Cast(_))
}

fn refusals(wire: &Wire) -> Vec<&str> {
    let refused = |message| match message {
        &CopyMessage::CastAnswered { answer: CastAnswer::Refused { ref what }, .. } => Some(what.as_str()),
        _ => None,
    };
    wire.said.iter().filter_map(refused).collect()
}

#[test]
fn a_keeper_of_the_callers_loom_has_what_hosts_wrote_of_its_casts_and_passes_it_on() -> Result<()> {
    let nodes = [Node::new(1), Node::new(2), Node::new(3)];
    let (loom, mut host) = hosted(&nodes, u64::MAX)?;
    host.tell(&nodes[0], 2)?;
    host.tell(&nodes[0], 1)?;
    let mut wires = [Wire::connect(&nodes[0], &nodes[1])?, Wire::connect(&nodes[1], &nodes[2])?];
    wires.iter_mut().try_for_each(Wire::settle)?;
    // What comes later comes within the same conversations.
    host.tell(&nodes[0], 2)?;
    wires.iter_mut().try_for_each(Wire::settle)?;
    for node in &nodes[1..] {
        ensure!(node.ids(loom)? == host.ids(), "{}", node.name);
        ensure!(node.disk.cast_heads(loom)? == nodes[0].disk.cast_heads(loom)?);
        ensure!(node.disk.verify(None)?.findings.is_empty(), "{:?}", node.disk.verify(None)?);
        let batch = node.disk.batch(loom)?;
        let reader = Reader::of(&batch);
        ensure!(host.log.iter().all(|sealed| reader.counts(sealed.id) == Ok(())), "{}", node.name);
    }
    for wire in &wires {
        ensure!(wire.said.iter().filter(|message| is_step(message)).count() == 3, "each step is sent once, one way");
    }
    // Whoever meets again says what it has, and is sent nothing twice.
    let mut again = Wire::connect(&nodes[1], &nodes[2])?;
    again.settle()?;
    ensure!(!again.said.iter().any(is_step));
    Ok(())
}

#[test]
fn a_cast_is_kept_in_memory_where_its_loom_is_and_carried_to_the_disk_with_it() -> Result<()> {
    let nodes = [Node::new(1), Node::new(2)];
    let loom = found(&*nodes[0].disk, 1, &[])?;
    let relies = admit_host(&nodes[0], loom, u64::MAX)?;
    let mut host = Host::of(&nodes[0], loom, relies);
    nodes[0].copies.share(loom, &nodes[1].name, CopyKind::Memory, None)?;
    host.tell(&nodes[0], 3)?;
    let mut wire = Wire::connect(&nodes[0], &nodes[1])?;
    wire.settle()?;
    ensure!(nodes[1].memory.cast_heads(loom)?.len() == 1 && nodes[1].disk.cast_heads(loom)?.is_empty());
    let held = |message: &CopyMessage| match message {
        CopyMessage::CastAnswered { answer: CastAnswer::Held { at, kind }, .. } => Some((at.place, *kind)),
        _ => None,
    };
    ensure!(wire.said.iter().filter_map(held).eq([(3, CopyKind::Memory)]));
    nodes[0].copies.share(loom, &nodes[1].name, CopyKind::Disk, None)?;
    wire.settle()?;
    ensure!(nodes[1].memory.cast_heads(loom)?.is_empty() && nodes[1].disk.cast_heads(loom)?.len() == 1);
    ensure!(nodes[1].ids(loom)? == host.ids() && nodes[1].disk.verify(None)?.findings.is_empty());
    // Who is to keep nothing of it any more forgets the cast too.
    nodes[0].copies.share(loom, &nodes[1].name, CopyKind::None, None)?;
    wire.settle()?;
    ensure!(nodes[1].ids(loom)?.is_empty() && nodes[1].disk.cast_heads(loom)?.is_empty());
    ensure!(nodes[0].ids(loom)? == host.ids(), "the caller has it");
    Ok(())
}

#[test]
fn a_cast_that_nobody_was_admitted_for_is_not_kept_and_is_asked_for_once_somebody_was() -> Result<()> {
    let nodes = [Node::new(1), Node::new(2)];
    let loom = found(&*nodes[0].disk, 1, &[])?;
    share_all(&nodes, loom)?;
    let mut host = Host::of(&nodes[0], loom, EntryId::of(b"no admission"));
    host.tell(&nodes[0], 2)?;
    let mut wire = Wire::connect(&nodes[0], &nodes[1])?;
    wire.settle()?;
    let later = |message: &CopyMessage| matches!(message, CopyMessage::CastAnswered { answer: CastAnswer::Later, .. });
    ensure!(wire.said.iter().any(later) && nodes[1].ids(loom)?.is_empty());
    admit_host(&nodes[0], loom, u64::MAX)?;
    for _ in 0..2 {
        wire.settle()?;
    }
    ensure!(nodes[1].ids(loom)? == host.ids());
    Ok(())
}

#[test]
fn no_more_of_a_cast_is_kept_than_its_writer_was_admitted_for() -> Result<()> {
    let (_, mut measured) = hosted(&[Node::new(1), Node::new(2)], u64::MAX)?;
    let two = measured.step(2)?.0.iter().map(Sealed::recorded_bytes).sum::<u64>();
    let nodes = [Node::new(1), Node::new(2)];
    let (loom, mut host) = hosted(&nodes, two)?;
    host.tell(&nodes[0], 2)?;
    host.tell(&nodes[0], 1)?;
    let mut wire = Wire::connect(&nodes[0], &nodes[1])?;
    wire.settle()?;
    ensure!(nodes[1].ids(loom)?.len() == 2, "{:?}", nodes[1].ids(loom)?.len());
    let refused = refusals(&wire);
    ensure!(refused.len() == 1 && refused[0].contains(&format!("admitted for {two}")), "{refused:?}");
    ensure!(nodes[1].disk.verify(None)?.findings.is_empty());
    Ok(())
}

#[test]
fn what_is_not_as_its_writer_signed_it_is_refused_and_the_rest_goes_on() -> Result<()> {
    type Change = fn(&mut Vec<Vec<u8>>, &mut CastHead);
    let changes: [(Change, &str); 4] = [
        (|entries, _| drop(entries.remove(1)), "an entry was left out"),
        (|entries, _| entries.swap(0, 1), "an entry was left out"),
        (|_, head| head.signature = [1; 64], "is not signed by"),
        (|entries, _| entries[0] = b"nothing".to_vec(), "entry"),
    ];
    for (change, expected) in changes {
        let nodes = [Node::new(1), Node::new(2)];
        let (loom, mut host) = hosted(&nodes, u64::MAX)?;
        host.tell(&nodes[0], 3)?;
        let mut wire = Wire::connect(&nodes[0], &nodes[1])?;
        // What is on its way is changed once.
        let mut is_changed = false;
        for _ in 0..1_000 {
            for side in [0, 1] {
                wire.say(side)?;
                if let Some(CopyMessage::Cast(step)) = wire.on_the_way[1].back_mut().filter(|_| !is_changed) {
                    change(&mut step.entries, &mut step.heads[0]);
                    is_changed = true;
                }
                wire.hear(side)?;
            }
        }
        ensure!(is_changed && nodes[1].ids(loom)?.is_empty(), "{expected}");
        ensure!(refusals(&wire).iter().any(|what| what.contains(expected)), "{expected}: {:?}", refusals(&wire));
        ensure!(nodes[1].disk.proofs()?.is_empty(), "and nobody is accused");
        // By another conversation it comes as it is.
        Wire::connect(&nodes[0], &nodes[1])?.settle()?;
        ensure!(nodes[1].ids(loom)? == host.ids());
    }
    Ok(())
}

#[test]
fn a_log_that_leaves_a_cast_as_it_was_signed_is_found_out() -> Result<()> {
    for exchanged in [None, Some(2), Some(3)] {
        let nodes = [Node::new(1), Node::new(2), Node::new(3)];
        // The host is a member of the whole loom too: its log is kept.
        let loom = found(&*nodes[0].disk, 1, &[HOST])?;
        share_all(&nodes, loom)?;
        let relies = admit_host(&nodes[0], loom, u64::MAX)?;
        let mut host = Host::of(&nodes[0], loom, relies);
        host.tell(&nodes[0], 3)?;
        Wire::connect(&nodes[0], &nodes[2])?.settle()?;
        // In its log one of the entries is another.
        let mut log = Host::of(&nodes[0], loom, relies);
        for place in 1..=4 {
            let text = if Some(place) == exchanged { "another".to_owned() } else { format!("entry {}", place - 1) };
            let sealed = log.entry(&text)?;
            log.store.append(sealed.clone())?;
            log.log.push(sealed);
        }
        wait(log.store.sync(loom))?;
        let segment = log.store.segment(loom, key(HOST).writer(), 0)?.context("a log")?;
        nodes[1].disk.take(segment.check()?)?;
        let mut wires = [Wire::connect(&nodes[1], &nodes[0])?, Wire::connect(&nodes[0], &nodes[2])?];
        for _ in 0..2 {
            wires.iter_mut().try_for_each(Wire::settle)?;
        }
        for node in [&nodes[0], &nodes[2]] {
            let places: Vec<u64> = node.disk.proofs()?.iter().map(EquivocationProof::place).collect();
            ensure!(places == exchanged.into_iter().collect::<Vec<_>>(), "{}: {places:?}", node.name);
            let found = node.disk.verify(Some(loom))?.findings;
            ensure!(found.iter().any(|it| it.what.contains("two histories")) == exchanged.is_some(), "{found:?}");
            let batch = node.disk.batch(loom)?;
            let why = Reader::of(&batch).counts(host.log[2].id);
            ensure!(why == exchanged.map_or(Ok(()), |place| Err(Refused::Equivocated { place })), "{why:?}");
        }
    }
    Ok(())
}
