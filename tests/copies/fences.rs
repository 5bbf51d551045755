//! An entity that somebody has adopted: what its former owner writes of it is acknowledged to nobody, and everything else goes on.

use std::future::Future as _;
use std::task::{Context as Polling, Poll, Waker};

use anyhow::{Context as _, Result, bail, ensure};
use cantrip_runtime::domain::copies::{CopyKind, CopyMessage};
use cantrip_runtime::domain::ids::{EntityId, EntryId, LoomId};
use cantrip_runtime::domain::loom::{Body, Entry, Minted, Opened, Payload, Sealed};
use cantrip_runtime::domain::members::{
    Admitted, CheckedProof, Expelled, LogEnd, Nonce, Principal, Right, Rights, Target,
};
use cantrip_runtime::domain::remote::Credentials;
use cantrip_runtime::driver::AcksError;

use super::copy_support::{Node, Wire, found, key, share_all};
use super::store_support::wait;

const NONCE: Nonce = Nonce::from_bytes([5; 16]);

pub(super) fn say(
    node: &Node,
    loom: LoomId,
    relies: Option<EntryId>,
    of: (Option<EntityId>, Option<EntryId>),
    body: Body,
) -> Result<EntryId> {
    let store = &node.disk;
    let place = (store.writer(), store.head(loom)?.sequence + 1);
    let entry = Entry { relies, ..Entry::new(loom, place, place.1, of.0, of.1, body) };
    let sealed = Sealed::new(entry, Vec::new())?;
    let id = sealed.id;
    store.append(sealed)?;
    wait(store.sync(loom))?;
    node.copies.grown(loom);
    Ok(id)
}

fn admits(by: &Node, loom: LoomId, who: u8, right: Right) -> Result<EntryId> {
    let (principal, rights) = (Principal::Key(key(who).writer()), Rights::from_iter([right]));
    let admitted = Admitted { principal, rights, scope: None, again: Vec::new(), by: None, note: None };
    say(by, loom, None, (None, None), Body::Admitted(Box::new(admitted)))
}

fn intent(text: &str, steer: bool) -> Body {
    Body::intent(Payload::Inline(text.to_owned()), steer, None)
}

/// Three nodes that keep a loom together: the founder, with two entities, a keeper, and a member that may adopt.
pub(super) struct Three {
    pub(super) nodes: [Node; 3],
    pub(super) loom: LoomId,
    /// The entities, each with its last entry.
    pub(super) entities: [(EntityId, EntryId); 2],
    /// By which the third may adopt.
    pub(super) admission: EntryId,
}

impl Three {
    pub(super) fn new() -> Result<Self> {
        let nodes = [Node::new(1), Node::new(2), Node::new(3)];
        let loom = found(&*nodes[0].disk, 1, &[])?;
        let admission = admits(&nodes[0], loom, 3, Right::Adopt)?;
        share_all(&nodes, loom)?;
        let by = key(1).writer();
        let open = |at: u64| {
            let (entity, minted) = (EntityId::mint(at, &by, &NONCE), Minted { by, nonce: NONCE });
            let opened = Body::Opened(Box::new(Opened { minted: Some(minted), ..Opened::default() }));
            let root = say(&nodes[0], loom, None, (Some(entity), None), opened)?;
            Ok::<_, anyhow::Error>((
                entity,
                say(&nodes[0], loom, None, (Some(entity), Some(root)), intent("go", false))?,
            ))
        };
        let entities = [open(8)?, open(9)?];
        let three = Self { nodes, loom, entities, admission };
        for other in [1, 2] {
            Wire::connect(&three.nodes[0], &three.nodes[other])?.settle()?;
        }
        Ok(three)
    }

    /// A node adopts the first entity, in its own log.
    fn adopt(&self, by: usize, relies: Option<EntryId>) -> Result<EntryId> {
        let (entity, last) = self.entities[0];
        let owner = key(1).writer();
        let logs = self.nodes[by].disk.logs(self.loom)?;
        let head = logs.iter().find(|log| log.writer == owner).context("no log of the owner")?.head;
        let end = LogEnd { writer: owner, sequence: head.sequence, chain: head.chain, cast: None };
        let adopted =
            Body::Adopted { epoch: 1, node: "m".to_owned(), last: Some(end), accept_loss: false, by: None, note: None };
        say(&self.nodes[by], self.loom, relies, (Some(entity), Some(last)), adopted)
    }

    /// The third adopts the first entity, and the keeper hears of it.
    fn adopted(&self) -> Result<()> {
        self.adopt(2, Some(self.admission))?;
        Wire::connect(&self.nodes[1], &self.nodes[2])?.settle()
    }

    /// The owner, which has not heard of it, goes on with both entities.
    pub(super) fn goes_on(&self) -> Result<()> {
        for (entity, last) in self.entities {
            say(&self.nodes[0], self.loom, None, (Some(entity), Some(last)), intent("and now", true))?;
        }
        Ok(())
    }

    pub(super) fn acknowledged(&self, which: usize) -> Result<(), AcksError> {
        wait(self.nodes[0].copies.acknowledged(self.loom, Some(self.entities[which].0)))
    }
}

/// The owner and the keeper speak until neither has anything to say; the keeper never sends the adopter's log.
pub(super) fn without_its_log(wire: &mut Wire) -> Result<()> {
    let adopter = key(3).writer();
    for _ in 0..1_000 {
        let mut moved = wire.say(0)? | wire.say(1)?;
        wire.on_the_way[0]
            .retain(|it| !matches!(it, CopyMessage::Segment(segment) if segment.signed.writer == adopter));
        moved |= wire.hear(0)? | wire.hear(1)?;
        if !moved {
            return Ok(());
        }
    }
    bail!("two nodes never stop speaking")
}

#[test]
fn a_keeper_shows_an_adoption_before_it_acknowledges_what_goes_against_it() -> Result<()> {
    let three = Three::new()?;
    three.adopted()?;
    three.goes_on()?;
    let mut wire = Wire::connect(&three.nodes[0], &three.nodes[1])?;
    without_its_log(&mut wire)?;
    let own = key(1).writer();
    let place = |is: &dyn Fn(&CopyMessage) -> bool| wire.said.iter().position(is);
    let shown = place(&|it| matches!(it, CopyMessage::Fence { .. })).context("no fence was shown")?;
    let held =
        place(&|it| matches!(it, CopyMessage::Held { writer, .. } if *writer == own)).context("nothing is held")?;
    ensure!(shown < held, "{shown} {held}");
    let count = wire.said.iter().filter(|it| matches!(it, CopyMessage::Fence { .. })).count();
    ensure!(count == 1, "it is shown once on a connection");
    ensure!(matches!(three.acknowledged(0), Err(AcksError::Adopted { owner, .. }) if owner == key(3).writer()));
    // It is kept, with what shows it.
    let kept = three.nodes[0].disk.proved(three.loom)?;
    ensure!(kept.iter().any(|proof| matches!(proof.sealed().entry.body, Body::Adopted { .. })), "{}", kept.len());
    Ok(())
}

#[test]
fn other_entities_of_that_writer_are_acknowledged_as_before() -> Result<()> {
    let three = Three::new()?;
    three.nodes[0].copies.share(three.loom, &three.nodes[1].name, CopyKind::Disk, Some((1, 0)))?;
    three.adopted()?;
    three.goes_on()?;
    // Both wait when the keeper is not there yet.
    let [mut fenced, mut other] = three.entities.map(|(entity, _)| {
        let (copies, loom) = (std::sync::Arc::clone(&three.nodes[0].copies), three.loom);
        Box::pin(async move { copies.acknowledged(loom, Some(entity)).await })
    });
    let mut polling = Polling::from_waker(Waker::noop());
    ensure!(fenced.as_mut().poll(&mut polling).is_pending() && other.as_mut().poll(&mut polling).is_pending());
    without_its_log(&mut Wire::connect(&three.nodes[0], &three.nodes[1])?)?;
    let Poll::Ready(fenced) = fenced.as_mut().poll(&mut polling) else { bail!("it waits for ever") };
    ensure!(matches!(fenced, Err(AcksError::Adopted { .. })), "{fenced:?}");
    let Poll::Ready(other) = other.as_mut().poll(&mut polling) else { bail!("the other waits for ever") };
    ensure!(other.is_ok(), "{other:?}");
    Ok(())
}

#[test]
fn an_adoption_is_honoured_where_the_copy_is_in_memory() -> Result<()> {
    let three = Three::new()?;
    let owner = &three.nodes[0];
    owner.copies.share(three.loom, &owner.name, CopyKind::Memory, None)?;
    ensure!(three.acknowledged(0).is_ok());
    three.adopt(2, Some(three.admission))?;
    Wire::connect(owner, &three.nodes[2])?.settle()?;
    ensure!(owner.disk.logs(three.loom)?.len() == 1, "the adopter's log is on its disk");
    ensure!(matches!(three.acknowledged(0), Err(AcksError::Adopted { .. })));
    ensure!(three.acknowledged(1).is_ok());
    Ok(())
}

fn shown(three: &Three, by: usize, adopted: EntryId) -> Result<CopyMessage> {
    let proof = three.nodes[by].disk.prove(adopted)?.context("it cannot be proved")?;
    let credentials = Credentials { proofs: vec![CheckedProof::to_proof(&proof)], attestations: Vec::new() };
    let (loom, entity) = (three.loom, three.entities[0].0);
    Ok(CopyMessage::Fence { loom, entity, credentials: Box::new(credentials) })
}

#[test]
fn an_adoption_that_does_not_hold_counts_for_nothing_and_neither_does_one_without_proof() -> Result<()> {
    for case in 0..3 {
        let three = Three::new()?;
        // The keeper may not adopt, and the third may.
        let adopted = if case == 0 { three.adopt(1, None)? } else { three.adopt(2, Some(three.admission))? };
        let mut said = shown(&three, if case == 0 { 1 } else { 2 }, adopted)?;
        if let (2, CopyMessage::Fence { credentials, .. }) = (case, &mut said) {
            credentials.proofs.clear();
        }
        let mut wire = Wire::connect(&three.nodes[0], &three.nodes[1])?;
        without_its_log(&mut wire)?;
        wait(wire.sessions[0].hear(said))?;
        let state = three.nodes[0].copies.states(three.loom).remove(&three.nodes[1].name).context("no keeper")?;
        let holds = case == 1;
        ensure!(three.acknowledged(0).is_err() == holds, "case {case}");
        ensure!(state.wrong_answers == u64::from(!holds), "case {case}: {state:?}");
    }
    Ok(())
}

#[test]
fn an_expulsion_of_whoever_adopted_lifts_the_fence() -> Result<()> {
    let nodes = [Node::new(1), Node::new(2), Node::new(3)];
    let loom = found(&*nodes[0].disk, 1, &[])?;
    let writes = admits(&nodes[0], loom, 2, Right::Write)?;
    let adopts = admits(&nodes[0], loom, 3, Right::Adopt)?;
    share_all(&nodes, loom)?;
    let mut wires = [Wire::connect(&nodes[0], &nodes[1])?, Wire::connect(&nodes[1], &nodes[2])?];
    let mut settle = || (0..2).try_for_each(|_| wires.iter_mut().try_for_each(Wire::settle));
    settle()?;
    let by = key(2).writer();
    let (entity, minted) = (EntityId::mint(8, &by, &NONCE), Minted { by, nonce: NONCE });
    let opened = Body::Opened(Box::new(Opened { minted: Some(minted), ..Opened::default() }));
    let root = say(&nodes[1], loom, Some(writes), (Some(entity), None), opened)?;
    settle()?;
    // The history that it names is nowhere: nobody goes on with the entity.
    let head = nodes[1].disk.head(loom)?;
    let end = LogEnd { writer: by, sequence: head.sequence + 9, chain: head.chain, cast: None };
    let adopted =
        Body::Adopted { epoch: 1, node: "m".to_owned(), last: Some(end), accept_loss: false, by: None, note: None };
    say(&nodes[2], loom, Some(adopts), (Some(entity), Some(root)), adopted)?;
    settle()?;
    let goes_on = || wait(nodes[1].copies.acknowledged(loom, Some(entity)));
    ensure!(matches!(goes_on(), Err(AcksError::Adopted { .. })), "{:?}", goes_on());
    let target = Target::Key(key(3).writer());
    let expelled = Expelled { target, ends: Vec::new(), by: None, note: None };
    say(&nodes[0], loom, None, (None, None), Body::Expelled(Box::new(expelled)))?;
    settle()?;
    ensure!(goes_on().is_ok(), "{:?}", goes_on());
    Ok(())
}
