//! Folders that were put back to an older state: what others have of this node comes back, and no second history is written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use cantrip_runtime::adapters::clock::SystemClock;
use cantrip_runtime::adapters::llm::Scripted;
use cantrip_runtime::adapters::store::{FjallStore, MemoryStore};
use cantrip_runtime::domain::copies::{CopyKind, CopyMessage};
use cantrip_runtime::domain::ids::{EntityId, EntryId, LoomId};
use cantrip_runtime::domain::loom::{Body, Payload, Sealed};
use cantrip_runtime::domain::members::{AuthorityId, NodeId, Principal, Reader};
use cantrip_runtime::driver::{AcksError, CastError, Fault, NoAnswers, Summoned};
use cantrip_runtime::ports::LoomStore as _;
use cantrip_runtime::{Cantrip, CastOptions, NoMedia, Runtime, Wards, builtin};
use serde_json::json;
use tempfile::TempDir;

use super::copy_support::{Node, OPEN, Wire, found, named};
use super::fences::say;
use super::store_support::{copy_tree, fill, open};

/// A node's folder as it was before it wrote more, and the keeper that has all of it.
pub(crate) struct PutBack {
    _folder: TempDir,
    pub(crate) store: Arc<FjallStore>,
    pub(crate) node: Node,
    pub(crate) keeper: Node,
    pub(crate) loom: LoomId,
}

/// Puts a record back in the place of a newer one, with its very file: no trace of it is left on this machine.
fn put_back(data: &Path, backup: &Path) -> Result<()> {
    std::fs::remove_dir_all(data.join("db"))?;
    copy_tree(&backup.join("db"), &data.join("db"))?;
    std::fs::copy(backup.join("heads"), data.join("heads"))?;
    Ok(())
}

/// Three entries before the copy of the folder, `more` behind it, all of which the keeper has; then the folder is put back, and the
/// node starts again.
pub(crate) fn put_back_behind(more: usize, acks: Option<(u32, u64)>) -> Result<PutBack> {
    let folder = tempfile::tempdir()?;
    let (data, backup) = (folder.path().join("data"), folder.path().join("backup"));
    let store = open(&data)?;
    let loom = found(&*store, 1, &[])?;
    fill(&*store, loom, 3, 40, 1)?;
    store.close()?;
    drop(store);
    copy_tree(&data, &backup)?;
    let keeper = Node::new(2);
    {
        let node = Node::on(1, open(&data)?, OPEN);
        node.copies.share(loom, &named("node2"), CopyKind::Disk, None)?;
        for number in 0..more {
            node.write(loom, 0, &format!("after the copy was made: {number}"))?;
        }
        Wire::connect(&node, &keeper)?.settle()?;
    }
    put_back(&data, &backup)?;
    let store = open(&data)?;
    let mut node = Node::on(1, Arc::clone(&store) as _, OPEN);
    node.copies.share(loom, &named("node2"), CopyKind::Disk, acks)?;
    node.restart();
    Ok(PutBack { _folder: folder, store, node, keeper, loom })
}

/// Asks the keepers, in time that passes as soon as nobody does anything.
fn asked(node: &Node, loom: LoomId) -> Result<Result<(), AcksError>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    Ok(runtime.block_on(node.copies.asked(loom)))
}

#[test]
fn what_a_keeper_has_of_a_node_comes_back_before_that_node_writes() -> Result<()> {
    let it = put_back_behind(2, None)?;
    let PutBack { store, node, keeper, loom, .. } = &it;
    let old = store.writer();
    ensure!(node.ids(*loom)?.len() == 3);
    Wire::connect(node, keeper)?.settle()?;
    ensure!(asked(node, *loom)?.is_ok());
    ensure!(store.writer() != old, "it would write a second history");
    ensure!(node.ids(*loom)?.len() == 5, "everything is back before anything is written");
    node.write(*loom, 0, "under the new key")?;
    Wire::connect(node, keeper)?.settle()?;
    ensure!(node.ids(*loom)?.len() == 6 && node.ids(*loom)? == keeper.ids(*loom)?);
    ensure!(store.verify(None)?.findings.is_empty() && store.proofs()?.is_empty());
    Ok(())
}

#[test]
fn with_acknowledgements_nothing_is_written_before_enough_keepers_have_answered() -> Result<()> {
    let it = put_back_behind(1, Some((1, 5_000)))?;
    let PutBack { node, keeper, loom, .. } = &it;
    let Err(AcksError::Unanswered(NoAnswers { answered: 0, wanted: 1, keepers: 1, silent, .. })) = asked(node, *loom)?
    else {
        anyhow::bail!("it would write without having asked")
    };
    ensure!(silent == ["node2"]);
    Wire::connect(node, keeper)?.settle()?;
    ensure!(asked(node, *loom)?.is_ok());
    Ok(())
}

#[test]
fn without_acknowledgements_a_node_whose_keepers_are_away_writes_after_a_second() -> Result<()> {
    let it = put_back_behind(1, None)?;
    let PutBack { node, loom, .. } = &it;
    ensure!(asked(node, *loom)?.is_ok());
    Ok(())
}

#[test]
fn a_keeper_that_keeps_what_is_asked_back_does_not_stop_a_node_for_good() -> Result<()> {
    let it = put_back_behind(2, None)?;
    let PutBack { store, node, keeper, loom, .. } = &it;
    let old = store.writer();
    let mut wire = Wire::connect(node, keeper)?;
    // It says what it has, and sends nothing of it.
    for _ in 0..10 {
        wire.say(1)?;
    }
    wire.on_the_way[0].retain(|message| matches!(message, CopyMessage::Have { .. }));
    wire.hear(0)?.then_some(()).context("the keeper says what it has")?;
    ensure!(asked(node, *loom)?.is_ok(), "a minute is all that it can take");
    ensure!(store.writer() != old);
    Ok(())
}

#[test]
fn a_loom_that_nobody_else_has_kept_is_written_at_once() -> Result<()> {
    let node = Node::on(1, MemoryStore::with_key(super::copy_support::key(1)), OPEN);
    let loom = found(&*node.disk, 1, &[])?;
    node.copies.share(loom, &named("node2"), CopyKind::Disk, None)?;
    // No clock runs here: it would wait for ever.
    super::store_support::wait(node.copies.asked(loom))?;
    Ok(())
}

#[test]
fn what_a_node_wrote_before_it_met_a_keeper_gives_way_to_what_that_keeper_has() -> Result<()> {
    let it = put_back_behind(2, None)?;
    let PutBack { store, node, keeper, loom, .. } = &it;
    let old = store.writer();
    ensure!(asked(node, *loom)?.is_ok(), "nobody answers");
    let ours = [node.write(*loom, 0, "written alone")?, node.write(*loom, 0, "written alone, too")?];
    Wire::connect(node, keeper)?.settle()?;
    ensure!(store.writer() != old && store.proofs()?.is_empty(), "nobody has seen a second history");
    ensure!(node.ids(*loom)? == keeper.ids(*loom)?, "both have the same of the earlier key");
    ensure!(node.ids(*loom)?.len() == 5 && node.ids(*loom)?.is_disjoint(&ours.into()));
    let aside: Vec<_> = store.aside(*loom)?.iter().map(|sealed| sealed.id).collect();
    ensure!(ours.iter().all(|id| aside.contains(id)), "what it wrote alone is kept");
    ensure!(store.verify(None)?.findings.is_empty(), "{:?}", store.verify(None)?.findings);
    Ok(())
}

fn cantrip() -> Result<Cantrip> {
    let done = json!({ "tool_calls": [{ "gate": "done", "args": { "answer": "so" } }] });
    let builder = Cantrip::builder().llm(Arc::new(Scripted::from_values(vec![done.clone(), done])?));
    let wards = Wards { max_turns: Some(9), ..Wards::default() };
    Ok(builder.gate(builtin::done()).wards(&wards).build(&NoMedia)?)
}

fn runtime(node: &Node) -> Runtime {
    let runtime =
        Runtime::new(Arc::clone(&node.disk) as _, Arc::new(NoMedia), Arc::new(SystemClock::default()), "node1");
    runtime.with_copies(Arc::clone(&node.copies))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entity_of_the_earlier_key_is_fenced_before_it_goes_on_where_turns_are_acknowledged() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (data, backup) = (folder.path().join("data"), folder.path().join("backup"));
    let keeper = Node::new(2);
    let (loom, entity) = {
        let node = Node::on(1, open(&data)?, OPEN);
        let mut entity = runtime(&node).summon(&cantrip()?, CastOptions::default())?;
        entity.send("begin").await?;
        let loom = entity.loom();
        let counts = NodeId { authority: AuthorityId::of(b"somebody"), name: "node2".parse()? };
        let keeping = Body::Keeping { acks: 1, keepers: vec![Principal::Node(counts)], accept_loss: false };
        say(&node, loom, None, (None, None), keeping)?;
        (loom, entity.entity())
    };
    copy_tree(&data, &backup)?;
    {
        let node = Node::on(1, open(&data)?, OPEN);
        node.copies.share(loom, &named("node2"), CopyKind::Disk, None)?;
        let mut again = runtime(&node).resume(&cantrip()?, loom, entity, &CastOptions::default())?;
        again.send("and more").await?;
        Wire::connect(&node, &keeper)?.settle()?;
    }
    put_back(&data, &backup)?;
    let mut node = Node::on(1, open(&data)?, OPEN);
    node.copies.share(loom, &named("node2"), CopyKind::Disk, None)?;
    node.restart();
    let mut wire = Wire::connect(&node, &keeper)?;
    let runtime = runtime(&node);
    let ended = {
        let runtime = runtime.clone();
        tokio::spawn(async move {
            runtime.ready_for(loom, entity).await?;
            let mut again = runtime.resume(&cantrip()?, loom, entity, &CastOptions::default())?;
            // What it writes is acknowledged as what it wrote under its earlier key was.
            again.send("and go on").await?;
            anyhow::Ok(())
        })
    };
    while !ended.is_finished() {
        wire.settle()?;
        tokio::task::yield_now().await;
    }
    ended.await??;
    let fences = keeper.disk.fences(loom)?;
    ensure!(fences.iter().any(|fence| fence.entity == entity && fence.by == node.disk.writer()), "{fences:?}");
    ensure!(node.copies.of(loom).is_some_and(|of| of.acks == 1 && of.recorded.len() == 1 && of.adopted.is_empty()));
    let tree = runtime.tree(loom)?;
    ensure!(tree.thread(entity)?.len() == 3 && tree.owner(entity).is_some_and(|it| it.writer == node.disk.writer()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keeper_that_talks_all_the_time_and_says_nothing_holds_nobody_up() -> Result<()> {
    let it = put_back_behind(1, None)?;
    let (PutBack { node, keeper, loom, .. }, own) = (&it, it.node.disk.writer());
    let mut session = node.session(keeper)?;
    let asked = {
        let (copies, loom) = (Arc::clone(&node.copies), *loom);
        tokio::spawn(async move { copies.asked(loom).await })
    };
    let head = node.disk.head(*loom)?;
    for _ in 0..2_000 {
        if asked.is_finished() {
            break;
        }
        session.hear(CopyMessage::Held { loom: *loom, writer: own, head, kind: CopyKind::Disk }).await?;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    ensure!(asked.is_finished(), "it waits as long as somebody talks");
    Ok(asked.await??)
}

/// A node that has signed two histories of one loom, each shown to another keeper, and is about to find that out.
struct Two {
    _folder: TempDir,
    node: Node,
    runtime: Runtime,
    /// The entity as the node goes on with it, unaware of the other history.
    live: Summoned,
    keepers: [Node; 2],
    loom: LoomId,
    entity: EntityId,
    /// What each keeper has of it, and no other.
    tails: [Vec<Sealed>; 2],
}

/// What a keeper has beyond what was there before the folder was saved.
fn tail(keeper: &Node, loom: LoomId, before: &BTreeSet<EntryId>) -> Result<Vec<Sealed>> {
    Ok(keeper.disk.entries(loom)?.into_iter().filter(|sealed| !before.contains(&sealed.id)).collect())
}

async fn two_histories(acks: bool) -> Result<Two> {
    let folder = tempfile::tempdir()?;
    let (data, backup) = (folder.path().join("data"), folder.path().join("backup"));
    let keepers = [Node::new(2), Node::new(3)];
    let (loom, entity, before) = {
        let node = Node::on(1, open(&data)?, OPEN);
        let mut entity = runtime(&node).summon(&cantrip()?, CastOptions::default())?;
        entity.send("begin").await?;
        let (loom, counts) =
            (entity.loom(), NodeId { authority: AuthorityId::of(b"somebody"), name: "node3".parse()? });
        if acks {
            let keeping = Body::Keeping { acks: 1, keepers: vec![Principal::Node(counts)], accept_loss: false };
            say(&node, loom, None, (None, None), keeping)?;
        }
        (loom, entity.entity(), node.disk.entries(loom)?.iter().map(|sealed| sealed.id).collect::<BTreeSet<_>>())
    };
    copy_tree(&data, &backup)?;
    let mut last = None;
    for (keeper, name) in keepers.iter().zip(["node2", "node3"]) {
        let mut node = Node::on(1, open(&data)?, OPEN);
        node.copies.share(loom, &named(name), CopyKind::Disk, None)?;
        node.restart();
        let runtime = runtime(&node);
        let mut again = runtime.resume(&cantrip()?, loom, entity, &CastOptions::default())?;
        again.send(&format!("seen by {name}")).await?;
        let options = CastOptions { loom: Some(loom), ..CastOptions::default() };
        runtime.summon(&cantrip()?, options)?.send(&format!("only there: {name}")).await?;
        Wire::connect(&node, keeper)?.settle()?;
        if name == "node2" {
            drop((again, runtime, node));
            put_back(&data, &backup)?;
        } else {
            last = Some((node, runtime, again));
        }
    }
    let (node, runtime, live) = last.context("two keepers")?;
    node.copies.share(loom, &named("node2"), CopyKind::Disk, None)?;
    let tails = [tail(&keepers[0], loom, &before)?, tail(&keepers[1], loom, &before)?];
    Ok(Two { _folder: folder, node, runtime, live, keepers, loom, entity, tails })
}

impl Two {
    /// Does something while the node is connected to both keepers, which have said before what they have.
    async fn meeting<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        let mut wires = [Wire::connect(&self.node, &self.keepers[0])?, Wire::connect(&self.node, &self.keepers[1])?];
        for _ in 0..2 {
            wires.iter_mut().try_for_each(Wire::settle)?;
        }
        let done = tokio::spawn(work);
        while !done.is_finished() {
            wires.iter_mut().try_for_each(Wire::settle)?;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        wires.iter_mut().try_for_each(Wire::settle)?;
        done.await?
    }

    async fn meet(&self) -> Result<()> {
        let (runtime, loom) = (self.runtime.clone(), self.loom);
        self.meeting(async move { Ok(runtime.ready(loom).await?) }).await
    }

    /// What was asked in each thread, as a node reads it.
    fn asked(&self, node: &Node) -> Result<BTreeMap<EntityId, Vec<String>>> {
        let batch = node.disk.batch(self.loom)?;
        let reader = Reader::of(&batch);
        let mut asked: BTreeMap<EntityId, Vec<String>> = BTreeMap::new();
        let mut counting: Vec<&Sealed> = reader.counting().collect();
        counting.sort_by_key(|sealed| sealed.entry.at_us);
        for sealed in counting {
            let Some(entity) = sealed.entry.entity else { continue };
            let text = match &sealed.entry.body {
                Body::Opened(opened) => &opened.intent,
                Body::Intent(intent) => &intent.text,
                _ => continue,
            };
            let Payload::Inline(text) = text else { continue };
            asked.entry(entity).or_default().push(text.clone());
        }
        Ok(asked)
    }

    fn is_whole(&self, kept: &str, forked: &str) -> Result<()> {
        let asked = self.asked(&self.node)?;
        for keeper in &self.keepers {
            ensure!(self.asked(keeper)? == asked, "{:?} and {asked:?}", self.asked(keeper)?);
        }
        let thread = asked.get(&self.entity).context("the entity is gone")?;
        ensure!(*thread == ["begin".to_owned(), format!("seen by {kept}")], "{asked:?}");
        let all: BTreeSet<&str> = asked.values().flatten().map(String::as_str).collect();
        for text in [format!("seen by {forked}"), format!("only there: {kept}"), format!("only there: {forked}")] {
            ensure!(all.contains(text.as_str()), "{text}: {asked:?}");
        }
        let anew: BTreeSet<EntryId> = self.node.disk.entries(self.loom)?.iter().filter_map(|it| it.entry.was).collect();
        let is_said = |sealed: &Sealed| anew.contains(&sealed.id) || matches!(sealed.entry.body, Body::Snapshot { .. });
        ensure!(self.tails.iter().flatten().all(is_said), "something was not written anew");
        ensure!(self.node.disk.aside(self.loom)?.is_empty());
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_signed_histories_both_are_written_anew_and_what_others_had_keeps_its_threads() -> Result<()> {
    let two = two_histories(false).await?;
    two.meet().await?;
    two.is_whole("node2", "node3")?;
    // What was written anew is not looked at again.
    let head = two.node.disk.head(two.loom)?;
    two.meet().await?;
    ensure!(two.node.disk.head(two.loom)? == head);
    // Nor is it said twice where the process ended before it was noted that it is there.
    let theirs: Vec<Sealed> =
        two.tails[0].iter().filter(|sealed| sealed.entry.writer != two.node.disk.writer()).cloned().collect();
    two.node.disk.keep_aside(two.loom, &theirs)?;
    two.meet().await?;
    ensure!(two.node.disk.head(two.loom)? == head);
    two.is_whole("node2", "node3")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_signed_histories_what_was_acknowledged_keeps_its_threads() -> Result<()> {
    let mut two = two_histories(true).await?;
    two.meet().await?;
    two.is_whole("node3", "node2")?;
    // Who went on with it all the while does not know what its entries are called now.
    let stopped = two.live.send("and on").await;
    ensure!(
        matches!(&stopped, Err(CastError::Fault(Fault::SetAside { entity })) if *entity == two.entity),
        "{stopped:?}"
    );
    two.is_whole("node3", "node2")?;
    let mut again = two.runtime.resume(&cantrip()?, two.loom, two.entity, &CastOptions::default())?;
    two.meeting(async move { Ok(again.send("and on").await.map(drop)?) }).await?;
    let thread = two.asked(&two.node)?.remove(&two.entity).context("the entity is gone")?;
    ensure!(thread == ["begin", "seen by node3", "and on"], "{thread:?}");
    let fences = two.keepers[1].disk.fences(two.loom)?;
    ensure!(fences.iter().any(|fence| fence.entity == two.entity && fence.by == two.node.disk.writer()), "{fences:?}");
    Ok(())
}
