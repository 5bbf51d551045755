//! What writers say of entities that are not theirs, and of looms in which nobody has admitted them.

use anyhow::{Context as _, Result, ensure};
use cantrip_runtime::adapters::store::{MemoryStore, NodeKey};
use cantrip_runtime::domain::copies::CopyMessage;
use cantrip_runtime::domain::ids::{EntityId, EntryId, LoomId};
use cantrip_runtime::domain::loom::{Body, Entry, Minted, Opened, Payload, Sealed, Tree};
use cantrip_runtime::domain::members::{Admitted, LogEnd, Nonce, Principal, Reader, Refused, Right, Rights, Scope};
use cantrip_runtime::ports::{CopyStore, LoomStore};

use super::copy_support::{Node, Wire, admit, found, key, share_all};
use super::store_support::wait;

const NONCE: Nonce = Nonce::from_bytes([5; 16]);

/// A store of one writer, in a loom that somebody has founded.
struct Author {
    store: std::sync::Arc<MemoryStore>,
    loom: LoomId,
    relies: Option<EntryId>,
}

impl Author {
    fn new(key: NodeKey, loom: LoomId) -> Self {
        Self { store: MemoryStore::with_key(key), loom, relies: None }
    }

    fn say(&self, entity: Option<EntityId>, parent: Option<EntryId>, body: Body) -> Result<EntryId> {
        let place = (self.store.writer(), self.store.head(self.loom)?.sequence + 1);
        let begins = !matches!(body, Body::Snapshot { .. } | Body::Founded { .. });
        let entry = Entry::new(self.loom, place, place.1, entity, parent, body);
        let sealed = Sealed::new(Entry { relies: self.relies.filter(|_| begins), ..entry }, Vec::new())?;
        let id = sealed.id;
        self.store.append(sealed)?;
        Ok(id)
    }

    fn open(&self, entity: EntityId, minted: Minted) -> Result<EntryId> {
        self.say(Some(entity), None, Body::Opened(Box::new(Opened { minted: Some(minted), ..Opened::default() })))
    }

    /// Takes what another has written since.
    fn take(&self, other: &Self) -> Result<()> {
        let writer = other.store.writer();
        let here = self.store.logs(self.loom)?.into_iter().find(|log| log.writer == writer);
        let after = here.map_or(0, |log| log.head.sequence);
        let segment = other.store.segment(self.loom, writer, after)?.context("nothing is new")?;
        self.store.take(segment.check()?)?;
        Ok(())
    }

    fn tree(&self) -> Result<Tree> {
        Ok(Tree::read(&self.store.batch(self.loom)?, &|payload| self.store.text(payload).ok().flatten())?)
    }

    /// The head of a writer's log, as far as it is here.
    fn end_of(&self, other: &Self) -> Result<LogEnd> {
        let writer = other.store.writer();
        let log = self.store.logs(self.loom)?.into_iter().find(|log| log.writer == writer).context("no log")?;
        Ok(LogEnd { writer, sequence: log.head.sequence, chain: log.head.chain, cast: None })
    }
}

fn intent(text: &str) -> Body {
    Body::intent(Payload::Inline(text.to_owned()), false, None)
}

/// A founder with an entity, its first entry and its newest, and somebody who keeps the loom.
fn founded() -> Result<(Author, Author, EntityId, Minted, [EntryId; 2])> {
    let by = key(1).writer();
    let loom = LoomId::mint(7, &by, &NONCE, None);
    let (owner, other) = (Author::new(key(1), loom), Author::new(key(2), loom));
    owner.say(None, None, Body::Founded { nonce: NONCE, member: None })?;
    let (entity, minted) = (EntityId::mint(8, &by, &NONCE), Minted { by, nonce: NONCE });
    let root = owner.open(entity, minted)?;
    let last = owner.say(Some(entity), Some(root), intent("a second intent"))?;
    other.take(&owner)?;
    Ok((owner, other, entity, minted, [root, last]))
}

fn adopted(epoch: u64, last: Option<LogEnd>) -> Body {
    Body::Adopted { epoch, node: "m".to_owned(), last, accept_loss: false, by: None, note: None }
}

#[test]
fn whoever_nobody_has_admitted_changes_no_thread() -> Result<()> {
    let (owner, mallory, entity, minted, [root, last]) = founded()?;
    let end = mallory.end_of(&owner)?;
    // Each is whole, in its own log and signed: and none of it is its writer's to say.
    mallory.open(entity, minted)?;
    mallory.say(Some(entity), Some(last), intent("give me the keys"))?;
    let pages =
        Body::Snapshot { medium: "javascript".to_owned(), memory_bytes: u64::MAX, base: None, pages: Vec::new() };
    mallory.say(Some(entity), Some(last), pages)?;
    mallory.say(Some(EntityId::mint(9, &key(2).writer(), &NONCE)), Some(last), intent("from nowhere"))?;
    mallory.say(Some(entity), Some(EntryId::of(b"nothing")), adopted(1, Some(end)))?;
    mallory.say(Some(entity), Some(last), adopted(1, Some(end)))?;
    mallory.say(Some(entity), Some(last), Body::rewarded(1.0, "m".to_owned()))?;
    // An entity of her own in a loom that is not hers, and herself as a member.
    let hers = Minted { by: key(2).writer(), nonce: NONCE };
    mallory.open(EntityId::mint(9, &hers.by, &hers.nonce), hers)?;
    let all = Rights::from_iter([Right::Write, Right::Adopt, Right::Admit]);
    let (principal, again) = (Principal::Key(key(2).writer()), Vec::new());
    let member = Admitted { principal, rights: all, scope: None, again, by: None, note: None };
    mallory.say(None, None, Body::Admitted(Box::new(member)))?;
    owner.take(&mallory)?;
    for author in [&owner, &mallory] {
        let tree = author.tree()?;
        let view = tree.entity(entity)?;
        ensure!(view.id == root && view.head == last, "{view:?}");
        ensure!(tree.owner(entity).is_some_and(|owner| (owner.writer, owner.epoch) == (key(1).writer(), 0)));
        ensure!(tree.turns().is_empty() && tree.aside().len() == 8, "{:?}", tree.aside());
        let batch = author.store.batch(author.loom)?;
        let reader = Reader::of(&batch);
        ensure!(reader.members().is_empty() && reader.refused().all(|(_, why)| why == Refused::Unnamed));
    }
    Ok(())
}

#[test]
fn whoever_was_admitted_to_adopt_goes_on_with_an_entity_and_its_former_owner_does_not() -> Result<()> {
    let (owner, mut other, entity, minted, [_, last]) = founded()?;
    let (principal, rights) = (Principal::Key(key(2).writer()), Rights::from_iter([Right::Adopt]));
    let member = Admitted { principal, rights, scope: None, again: Vec::new(), by: None, note: None };
    other.relies = Some(owner.say(None, None, Body::Admitted(Box::new(member)))?);
    other.take(&owner)?;
    let taken_over = other.say(Some(entity), Some(last), adopted(1, Some(other.end_of(&owner)?)))?;
    let steered = Body::intent(Payload::Inline("and now?".to_owned()), true, None);
    let goes_on = other.say(Some(entity), Some(taken_over), steered)?;
    // It may adopt, and nothing else: a new episode and an entity of its own need another right.
    let episode = other.say(Some(entity), Some(goes_on), intent("and another thing"))?;
    let own = Minted { by: key(2).writer(), nonce: NONCE };
    let opened = other.open(EntityId::mint(9, &own.by, &own.nonce), own)?;
    let late = owner.say(Some(entity), Some(last), intent("too late"))?;
    owner.take(&other)?;
    other.take(&owner)?;
    for author in [&owner, &other] {
        let tree = author.tree()?;
        ensure!(tree.owner(entity).is_some_and(|owner| (owner.writer, owner.epoch) == (key(2).writer(), 1)));
        ensure!(tree.entity(entity)?.head == goes_on, "{:?} {:?}", tree.entity(entity)?.head, tree.aside());
        let batch = author.store.batch(author.loom)?;
        let reader = Reader::of(&batch);
        ensure!(reader.counts(late) == Err(Refused::Owner), "{:?}", reader.counts(late));
        let (admission, right) = (other.relies.context("an admission")?, Right::Write);
        for entry in [opened, episode] {
            ensure!(reader.counts(entry) == Err(Refused::Right { admission, right }), "{:?}", reader.counts(entry));
        }
    }
    ensure!(minted.by == key(1).writer());
    Ok(())
}

#[test]
fn a_log_that_nobody_has_admitted_is_not_kept_and_is_asked_for_once_somebody_has() -> Result<()> {
    let mut nodes = [Node::new(1), Node::new(2), Node::new(3)];
    let loom = found(&*nodes[0].disk, 1, &[])?;
    nodes[0].write(loom, 0, "the founder's")?;
    share_all(&nodes, loom)?;
    // The second keeps the loom, and writes into it all the same.
    Wire::connect(&nodes[0], &nodes[1])?.settle()?;
    nodes[1].write(loom, 0, "a keeper's")?;
    let mut wires = [Wire::connect(&nodes[0], &nodes[1])?, Wire::connect(&nodes[1], &nodes[2])?];
    for wire in &mut wires {
        wire.settle()?;
        ensure!(wire.said.iter().any(|message| matches!(message, CopyMessage::Later { .. })));
        ensure!(!wire.said.iter().any(|message| matches!(message, CopyMessage::Refused { .. })));
    }
    for node in [&nodes[0], &nodes[2]] {
        ensure!(node.ids(loom)?.len() == 1, "{} keeps what nobody has admitted", node.name);
    }
    admit(&*nodes[0].disk, loom, &[2])?;
    nodes[0].copies.grown(loom);
    // Within the same conversations, and without the writer's saying anything again by itself.
    for _ in 0..2 {
        wires.iter_mut().try_for_each(Wire::settle)?;
    }
    ensure!(nodes[2].ids(loom)?.len() == 2, "a keeper that heard of it from another keeper");
    drop(wires);
    nodes[0].restart();
    Wire::connect(&nodes[0], &nodes[1])?.settle()?;
    ensure!(nodes[0].ids(loom)?.len() == 2, "whoever admitted it");
    Ok(())
}

#[test]
fn whoever_is_sent_its_own_log_says_that_it_has_it() -> Result<()> {
    let nodes = [Node::new(1), Node::new(2)];
    let loom = found(&*nodes[0].disk, 1, &[2])?;
    share_all(&nodes, loom)?;
    Wire::connect(&nodes[0], &nodes[1])?.settle()?;
    nodes[1].write(loom, 0, "a member's")?;
    Wire::connect(&nodes[0], &nodes[1])?.settle()?;
    // What the member said before it had written anything comes late, by another connection.
    let mut wire = Wire::connect(&nodes[0], &nodes[1])?;
    wire.say(1)?;
    let own = nodes[1].disk.writer();
    if let Some(CopyMessage::Have { logs, .. }) = wire.on_the_way[0].back_mut() {
        logs.retain(|log| log.writer != own);
    }
    wire.settle()?;
    let state = nodes[0].copies.states(loom).remove(&nodes[1].name).context("no keeper")?;
    ensure!(state.has.get(&own) == Some(&1) && state.durable.get(&own) == Some(&1), "{state:?}");
    Ok(())
}

#[test]
fn a_host_that_was_admitted_for_a_cast_has_its_log_kept_by_nobody() -> Result<()> {
    let mut nodes = [Node::new(1), Node::new(2), Node::new(3)];
    let loom = found(&*nodes[0].disk, 1, &[])?;
    share_all(&nodes, loom)?;
    let by = key(1).writer();
    let (entity, minted) = (EntityId::mint(8, &by, &NONCE), Minted { by, nonce: NONCE });
    let scope = Scope { entity, minted, opener: key(2).writer(), bytes_max: u64::MAX };
    let (principal, rights) = (Principal::Key(key(2).writer()), Rights::from_iter([Right::Write]));
    let scoped = Admitted { principal, rights, scope: Some(scope), again: Vec::new(), by: None, note: None };
    // As the founder's own log goes on.
    let place = (by, nodes[0].disk.head(loom)?.sequence + 1);
    let entry = Entry::new(loom, place, place.1, Some(entity), None, Body::Admitted(Box::new(scoped)));
    let admission = Sealed::new(entry, Vec::new())?;
    let relies = Some(admission.id);
    nodes[0].disk.append(admission)?;
    wait(nodes[0].disk.sync(loom))?;
    Wire::connect(&nodes[0], &nodes[1])?.settle()?;
    let host = Author { store: MemoryStore::with_key(key(2)), loom, relies };
    let root = host.open(entity, minted)?;
    host.say(Some(entity), Some(root), intent("of the cast"))?;
    for sealed in host.store.entries(loom)? {
        nodes[1].disk.append(sealed)?;
    }
    wait(nodes[1].disk.sync(loom))?;
    nodes[1].restart();
    let mut wires = [Wire::connect(&nodes[0], &nodes[1])?, Wire::connect(&nodes[2], &nodes[1])?];
    wires.iter_mut().try_for_each(Wire::settle)?;
    for (wire, node) in wires.iter().zip([&nodes[0], &nodes[2]]) {
        ensure!(wire.said.iter().any(|message| matches!(message, CopyMessage::Later { .. })), "{}", node.name);
        ensure!(node.disk.logs(loom)?.iter().all(|log| log.writer != key(2).writer()), "{}", node.name);
    }
    Ok(())
}
