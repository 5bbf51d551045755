//! Writers that sign two histories: from where they divide on nothing that they wrote counts, for everybody who keeps any of it.

use anyhow::{Context as _, Result, ensure};
use cantrip_runtime::adapters::store::MemoryStore;
use cantrip_runtime::domain::copies::CopyMessage;
use cantrip_runtime::domain::ids::{EntityId, EntryId, LoomId, WriterKey};
use cantrip_runtime::domain::loom::{Body, Division, Entry, EquivocationProof, Minted, Opened, Sealed, Segment};
use cantrip_runtime::domain::members::{Admitted, Deed, Nonce, Principal, Reader, Refused, Right};
use cantrip_runtime::ports::{CopyStore, LoomStore, StoreError, Taken};

use super::copy_support::{Node, Wire, admit, found, key, named, share_all};
use super::store_support::wait;

/// Whoever signs two histories, and whom it admits in both.
const CHEAT: u8 = 7;
const FRIEND: u8 = 8;

fn nonce(number: u8) -> Nonce {
    Nonce::from_bytes([number; 16])
}

/// A loom with a founder, in which the cheat may do everything, and the cheat's admission.
fn founded() -> Result<(Node, LoomId, EntryId)> {
    let founder = Node::new(1);
    let loom = found(&*founder.disk, 1, &[])?;
    admit(&*founder.disk, loom, &[CHEAT])?;
    let admission = founder.disk.entries(loom)?.last().context("an admission")?.id;
    Ok((founder, loom, admission))
}

/// One history of the cheat: so many entities that it opens, the same up to `same`, and a friend that it admits at the end.
fn history(loom: LoomId, admission: EntryId, same: u8, ways: u8, length: u8) -> Result<Segments> {
    let store = MemoryStore::with_key(key(CHEAT));
    let by = key(CHEAT).writer();
    let mut all = Segments { store, ids: Vec::new() };
    for number in 1..=length {
        let number = if number <= same { number } else { number + ways * 50 };
        let minted = Minted { by, nonce: nonce(number) };
        let entity = EntityId::mint(u64::from(number), &by, &minted.nonce);
        let opened = Opened { minted: Some(minted), ..Opened::default() };
        all.say(loom, admission, Some(entity), Body::Opened(Box::new(opened)))?;
    }
    let (principal, rights) = (Principal::Key(key(FRIEND + ways).writer()), std::iter::once(Right::Write).collect());
    let admitted = Admitted { principal, rights, scope: None, again: Vec::new(), by: None, note: None };
    all.say(loom, admission, None, Body::Admitted(Box::new(admitted)))?;
    Ok(all)
}

/// A history, and the ids of its entries.
struct Segments {
    store: std::sync::Arc<MemoryStore>,
    ids: Vec<EntryId>,
}

impl Segments {
    fn say(&mut self, loom: LoomId, admission: EntryId, entity: Option<EntityId>, body: Body) -> Result<()> {
        let place = (self.store.writer(), self.store.head(loom)?.sequence + 1);
        let entry = Entry { relies: Some(admission), ..Entry::new(loom, place, place.1, entity, None, body) };
        let sealed = Sealed::new(entry, Vec::new())?;
        self.ids.push(sealed.id);
        self.store.append(sealed)?;
        // Signed at each entry.
        wait(self.store.sync(loom))?;
        self.after(loom, place.1 - 1).map(drop)
    }

    fn after(&self, loom: LoomId, after: u64) -> Result<Segment> {
        self.store.segment(loom, key(CHEAT).writer(), after)?.context("no segment")
    }
}

/// Gives a node all of a history, as if the cheat had.
fn give(node: &Node, loom: LoomId, founder: &Node, history: &Segments) -> Result<()> {
    for segment in [founder.disk.segment(loom, founder.disk.writer(), 0)?.context("a log")?, history.after(loom, 0)?] {
        if segment.signed.writer != node.disk.writer() {
            node.disk.take(segment.check()?)?;
        }
    }
    wait(node.disk.sync(loom))?;
    Ok(())
}

fn cheat() -> WriterKey {
    key(CHEAT).writer()
}

/// What a node says of some entries.
fn said(node: &Node, loom: LoomId, ids: &[EntryId]) -> Result<Vec<Result<(), Refused>>> {
    let batch = node.disk.batch(loom)?;
    let reader = Reader::of(&batch);
    Ok(ids.iter().map(|id| reader.counts(*id)).collect())
}

fn settle(nodes: &[Node], pairs: &[(usize, usize)]) -> Result<()> {
    let mut wires = Vec::new();
    for (one, other) in pairs {
        wires.push(Wire::connect(&nodes[*one], &nodes[*other])?);
    }
    for _ in 0..4 {
        wires.iter_mut().try_for_each(Wire::settle)?;
    }
    Ok(())
}

#[test]
fn a_segment_that_divides_from_the_copy_proves_it_at_the_first_place_that_differs() -> Result<()> {
    let (founder, loom, admission) = founded()?;
    let [one, other] = [history(loom, admission, 3, 0, 9)?, history(loom, admission, 3, 1, 6)?];
    give(&founder, loom, &founder, &one)?;
    let Err(StoreError::Forked { proof, .. }) = founder.disk.take(other.after(loom, 1)?.check()?) else {
        anyhow::bail!("it was taken")
    };
    ensure!(proof.holds() && (proof.writer, proof.place()) == (cheat(), 4), "{proof:?}");
    ensure!(EquivocationProof::parse(&proof.to_bytes()).as_ref() == Some(&*proof));
    // Behind that place nothing says from where on they divide.
    ensure!(founder.disk.take(other.after(loom, 5)?.check()?)? == Taken::Divided);
    ensure!(founder.disk.accuse(&proof)? && !founder.disk.accuse(&proof)?);
    ensure!(matches!(founder.disk.take(other.after(loom, 5)?.check()?), Err(StoreError::Cheater { .. })));
    // It convinces whoever has seen neither: what is before that place comes, from either.
    let third = Node::new(3);
    ensure!(third.disk.accuse(&proof)?);
    give(&third, loom, &founder, &other)?;
    ensure!(matches!(third.disk.take(one.after(loom, 0)?.check()?), Err(StoreError::Cheater { .. })));
    ensure!(said(&third, loom, &other.ids[..3])? == [Ok(()); 3]);
    ensure!(said(&third, loom, &other.ids[3..4])? == [Err(Refused::Equivocated { place: 4 })]);
    // A proof that proves nothing accuses nobody.
    let mut forged = (*proof).clone();
    let Division::Logs { common, .. } = &mut forged.division else { anyhow::bail!("{forged:?}") };
    common.sequence += 1;
    ensure!(!forged.holds() && EquivocationProof::parse(&forged.to_bytes()).is_none());
    ensure!(!Node::new(4).disk.accuse(&forged)?);
    Ok(())
}

#[test]
fn a_proof_holds_in_its_loom_and_an_earlier_one_replaces_a_later_one() -> Result<()> {
    let (founder, loom, admission) = founded()?;
    let of = |same| history(loom, admission, same, 1, 6);
    let one = history(loom, admission, 9, 0, 6)?;
    give(&founder, loom, &founder, &one)?;
    for (same, place) in [(4, 5), (2, 3)] {
        let Err(StoreError::Forked { proof, .. }) = founder.disk.take(of(same)?.after(loom, 0)?.check()?) else {
            anyhow::bail!("it was taken")
        };
        ensure!(founder.disk.accuse(&proof)?);
        ensure!(founder.disk.accused(loom, cheat())? == Some(place));
    }
    ensure!(founder.disk.proofs()?.len() == 1);
    let elsewhere = found(&*founder.disk, 2, &[CHEAT])?;
    ensure!(founder.disk.accused(elsewhere, cheat())?.is_none());
    let there = history(elsewhere, admission, 1, 0, 1)?;
    ensure!(founder.disk.take(there.after(elsewhere, 0)?.check()?)? == Taken::New(2));
    Ok(())
}

#[test]
fn keepers_of_two_histories_find_where_they_divide_and_so_does_who_has_only_one() -> Result<()> {
    for (lengths, same) in [([6, 6], 2), ([9, 5], 2), ([5, 9], 2), ([6, 8], 4)] {
        let (founder, loom, admission) = founded()?;
        let [one, other] =
            [history(loom, admission, same, 0, lengths[0])?, history(loom, admission, same, 1, lengths[1])?];
        let nodes = [founder, Node::new(2), Node::new(3), Node::new(4)];
        share_all(&nodes, loom)?;
        give(&nodes[0], loom, &nodes[0], &one)?;
        give(&nodes[1], loom, &nodes[0], &other)?;
        give(&nodes[2], loom, &nodes[0], &one)?;
        // The third speaks with the founder alone, and the fourth, which has nothing, with the third.
        settle(&nodes, &[(0, 1), (0, 2), (2, 3)])?;
        let place = u64::from(same) + 1;
        for node in &nodes {
            ensure!(node.disk.accused(loom, cheat())? == Some(place), "{} of {lengths:?}", node.name);
            let before = usize::from(same);
            ensure!(said(node, loom, &one.ids[..before])?.iter().all(Result::is_ok), "{} of {lengths:?}", node.name);
            let all: Vec<EntryId> = [&one.ids[before..], &other.ids[before..]].concat();
            let behind = said(node, loom, &all)?;
            let divided = |it: &Result<(), Refused>| *it == Err(Refused::Equivocated { place });
            ensure!(behind.iter().all(|it| divided(it) || matches!(it, Ok(()) | Err(Refused::Absent))));
            ensure!(behind.iter().any(divided), "{} of {lengths:?}: {behind:?}", node.name);
            // Whom it admitted stays, in either history, until somebody expels that one.
            let batch = node.disk.batch(loom)?;
            let reader = Reader::of(&batch);
            for friend in [FRIEND, FRIEND + 1] {
                let may = reader.may(key(friend).writer(), Deed::Write);
                ensure!(may.is_ok(), "{} of {lengths:?}: {friend} {may:?}", node.name);
            }
        }
    }
    Ok(())
}

#[test]
fn whoever_has_a_third_history_finds_the_earlier_place_and_says_it() -> Result<()> {
    let (founder, loom, admission) = founded()?;
    let [one, other] = [history(loom, admission, 6, 0, 9)?, history(loom, admission, 6, 1, 8)?];
    let third = history(loom, admission, 2, 2, 9)?;
    let nodes = [founder, Node::new(2), Node::new(3)];
    share_all(&nodes, loom)?;
    for (node, history) in nodes.iter().zip([&one, &other, &third]) {
        give(node, loom, &nodes[0], history)?;
    }
    settle(&nodes[..2], &[(0, 1)])?;
    ensure!(nodes[0].disk.accused(loom, cheat())? == Some(7));
    settle(&nodes, &[(0, 2), (0, 1)])?;
    for node in &nodes {
        ensure!(node.disk.accused(loom, cheat())? == Some(3), "{}", node.name);
    }
    Ok(())
}

#[test]
fn a_writer_with_two_histories_is_named_to_whoever_sends_it_and_in_what_verify_says() -> Result<()> {
    let (founder, loom, admission) = founded()?;
    let [one, other] = [history(loom, admission, 3, 0, 5)?, history(loom, admission, 3, 1, 5)?];
    let nodes = [founder, Node::new(2)];
    share_all(&nodes, loom)?;
    give(&nodes[0], loom, &nodes[0], &one)?;
    give(&nodes[1], loom, &nodes[0], &other)?;
    let mut wire = Wire::connect(&nodes[0], &nodes[1])?;
    wire.settle()?;
    let told = |it: &&CopyMessage| matches!(it, CopyMessage::Divided { .. });
    ensure!((1..=4).contains(&wire.said.iter().filter(told).count()), "and not again and again");
    let refused = |it: &CopyMessage| matches!(it, CopyMessage::Refused { what, .. } if what.contains("two histories"));
    ensure!(wire.said.iter().any(refused));
    let states = nodes[0].copies.states(loom);
    ensure!(states[&named("node2")].last_error.as_ref().is_some_and(|what| what.contains("two histories")));
    for node in &nodes {
        let findings = node.disk.verify(Some(loom))?.findings;
        ensure!(findings.iter().any(|what| format!("{what:?}").contains("from its entry 4 on")), "{findings:?}");
    }
    Ok(())
}
