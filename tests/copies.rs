//! Copies of looms: the merge is set union whatever the order, and what is not as its writer signed it is refused by name.

#![expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a failed assertion is the point of a test"
)]

#[path = "copies/casts.rs"]
mod casts;
mod copy_support;
#[path = "copies/divided.rs"]
mod divided;
#[path = "copies/effects.rs"]
mod effects;
#[path = "copies/fences.rs"]
mod fences;
#[path = "copies/fencing.rs"]
mod fencing;
#[path = "copies/held.rs"]
mod held;
#[path = "copies/keeping.rs"]
mod keeping;
#[path = "copies/limits.rs"]
mod limits;
#[path = "copies/members.rs"]
mod members;
#[path = "copies/restored.rs"]
mod restored;
mod store_support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use cantrip_runtime::adapters::store::MemoryStore;
use cantrip_runtime::domain::copies::{CopyKind, CopyMessage, Keeping};
use cantrip_runtime::domain::ids::EntryId;
use cantrip_runtime::domain::loom::{Body, CastStream, CastUnit, Entry, Head, Payload, Sealed, Segment, SegmentError};
use cantrip_runtime::domain::loom::{Minted, Opened};
use cantrip_runtime::driver::CopyTerms;
use cantrip_runtime::ports::{CopyStore, LoomStore, Taken};
use copy_support::{Node, OPEN, Wire, found, key, named, share_all};
use proptest::prelude::*;
use store_support::{MINTED, copy_tree, entity, fill, loom, open, said, wait};

#[derive(Debug, Clone)]
enum Step {
    Write {
        node: usize,
        behind: usize,
        long: bool,
    },
    Connect {
        wire: usize,
    },
    Break {
        wire: usize,
    },
    Say {
        wire: usize,
        side: usize,
    },
    Hear {
        wire: usize,
        side: usize,
    },
    /// What was said once comes again, to whichever side.
    Repeat {
        wire: usize,
        side: usize,
        message: usize,
    },
    /// Two messages on their way change places.
    Swap {
        wire: usize,
        side: usize,
    },
    /// A node ends and starts again: its connections and what it kept in memory are gone.
    Restart {
        node: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (wire, side) = (0..3_usize, 0..2_usize);
    prop_oneof![
        4 => (0..3_usize, 0..32_usize, proptest::bool::weighted(0.1))
            .prop_map(|(node, behind, long)| Step::Write { node, behind, long }),
        3 => wire.clone().prop_map(|wire| Step::Connect { wire }),
        1 => wire.clone().prop_map(|wire| Step::Break { wire }),
        1 => (0..3_usize).prop_map(|node| Step::Restart { node }),
        12 => (wire.clone(), side.clone()).prop_map(|(wire, side)| Step::Say { wire, side }),
        12 => (wire.clone(), side.clone()).prop_map(|(wire, side)| Step::Hear { wire, side }),
        2 => (wire.clone(), side.clone(), 0..64_usize)
            .prop_map(|(wire, side, message)| Step::Repeat { wire, side, message }),
        2 => (wire, side).prop_map(|(wire, side)| Step::Swap { wire, side }),
    ]
}

const WIRES: [(usize, usize); 3] = [(0, 1), (1, 2), (0, 2)];

/// Runs the steps, heals the network, and returns the ids that every copy then has.
fn merge(steps: Vec<Step>) -> Result<BTreeSet<EntryId>> {
    let mut nodes: Vec<Node> = (1..=3).map(Node::new).collect();
    let loom = found(&*nodes[0].disk, 1, &[2, 3])?;
    share_all(&nodes, loom)?;
    let mut wires: [Option<Wire>; 3] = [None, None, None];
    let mut written = 0_usize;
    let connect = |nodes: &[Node], wire: usize| Wire::connect(&nodes[WIRES[wire].0], &nodes[WIRES[wire].1]);
    for step in steps {
        match step {
            Step::Write { node, behind, long } => {
                written += 1;
                let text = if long { format!("{written} ").repeat(8_000) } else { format!("entry {written}") };
                nodes[node].write(loom, behind, &text)?;
            }
            Step::Connect { wire } => {
                if wires[wire].is_none() {
                    wires[wire] = Some(connect(&nodes, wire)?);
                }
            }
            Step::Break { wire } => wires[wire] = None,
            Step::Restart { node } => {
                for (wire, (one, other)) in WIRES.iter().enumerate() {
                    if [*one, *other].contains(&node) {
                        wires[wire] = None;
                    }
                }
                nodes[node].restart();
            }
            Step::Say { wire, side } => {
                if let Some(wire) = &mut wires[wire] {
                    wire.say(side)?;
                }
            }
            Step::Hear { wire, side } => {
                if let Some(wire) = &mut wires[wire] {
                    wire.hear(side)?;
                }
            }
            Step::Repeat { wire, side, message } => {
                if let Some(wire) = &mut wires[wire]
                    && let Some(again) = wire.said.get(message % wire.said.len().max(1)).cloned()
                    && matches!(again, CopyMessage::Segment(_) | CopyMessage::Text { .. })
                {
                    wire.on_the_way[side].push_back(again);
                }
            }
            Step::Swap { wire, side } => {
                if let Some(wire) = &mut wires[wire]
                    && wire.on_the_way[side].len() > 1
                {
                    wire.on_the_way[side].swap(0, 1);
                }
            }
        }
    }
    // The network heals, without anybody's help.
    for _ in 0..2 {
        for wire in 0..3 {
            connect(&nodes, wire)?.settle()?;
        }
    }
    let ids = nodes[0].ids(loom)?;
    ensure!(ids.len() == written, "{} of {written} entries", ids.len());
    for node in &nodes {
        ensure!(node.ids(loom)? == ids, "{} has another set", node.name);
        let verified = node.disk.verify(None)?;
        ensure!(verified.findings.is_empty(), "{}: {:?}", node.name, verified.findings);
    }
    Ok(ids)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    /// Any order, duplication or interleaving of segments, with connections that break, gives the same state.
    #[test]
    fn the_merge_is_set_union(steps in proptest::collection::vec(step(), 0..160)) {
        merge(steps).map_err(|error| TestCaseError::fail(format!("{error:#}")))?;
    }
}

/// The steps of a seed: always the same.
fn steps_of(seed: u64) -> Vec<Step> {
    let mut state = seed;
    let mut below = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap_or(0) % bound
    };
    let mut step = || {
        let (wire, side, node) = (below(3), below(2), below(3));
        match below(40) {
            0..5 => Step::Write { node, behind: below(64), long: below(20) == 0 },
            5..9 => Step::Connect { wire },
            9 => Step::Break { wire },
            10 => Step::Restart { node },
            11..13 => Step::Repeat { wire, side, message: below(64) },
            13 => Step::Swap { wire, side },
            14..27 => Step::Say { wire, side },
            _ => Step::Hear { wire, side },
        }
    };
    (0..600).map(|_| step()).collect()
}

/// Nodes that are cut off, restarted and told things twice, by seed: `CANTRIP_SIM_SEED` runs one of them again, exactly as it was.
#[test]
fn a_simulation_of_three_nodes_converges_and_is_the_same_by_seed() -> Result<()> {
    let one = std::env::var("CANTRIP_SIM_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds: Vec<u64> = one.map_or_else(|| (1..=40).collect(), |seed| vec![seed]);
    for seed in seeds {
        let again = format!("CANTRIP_SIM_SEED={seed} cargo test -p cantrip-runtime --test copies a_simulation");
        let run = || merge(steps_of(seed)).with_context(|| again.clone());
        let (first, second) = (run()?, run()?);
        ensure!(first == second, "{again}: two runs differ");
    }
    Ok(())
}

/// A log of five entries, as its writer signed it.
fn honest() -> Result<(Arc<MemoryStore>, Segment)> {
    let store = MemoryStore::with_key(key(7));
    fill(&*store, loom(1), 5, 40, 1)?;
    let segment = store.segment(loom(1), store.writer(), 0)?.expect("a segment");
    Ok((store, segment))
}

fn refused(change: impl FnOnce(&mut Segment)) -> Result<SegmentError> {
    let (_, mut segment) = honest()?;
    change(&mut segment);
    Ok(segment.check().expect_err("a segment that is not as it was signed"))
}

#[test]
fn a_segment_that_is_not_as_it_was_signed_is_refused_and_named() -> Result<()> {
    let (_, whole) = honest()?;
    for at in 0..whole.entries[2].len() {
        let flipped = refused(|segment| segment.entries[2][at] ^= 1)?;
        let is_named = match &flipped {
            SegmentError::Entry { sequence, .. } | SegmentError::Misplaced { sequence, .. } => *sequence == 3,
            SegmentError::Chain { sequence } => *sequence == 5,
            _ => false,
        };
        ensure!(is_named, "byte {at}: {flipped}");
    }
    let reordered = refused(|segment| segment.entries.swap(1, 3))?;
    ensure!(matches!(reordered, SegmentError::Misplaced { sequence: 2, said_sequence: 4, .. }), "{reordered}");
    let truncated = refused(|segment| drop(segment.entries.pop()))?;
    ensure!(matches!(truncated, SegmentError::Length { ends: 4, signed: 5 }), "{truncated}");
    let unsigned = refused(|segment| segment.signed.signature[10] ^= 1)?;
    ensure!(matches!(unsigned, SegmentError::Signature { sequence: 5, .. }), "{unsigned}");
    let of_another = refused(|segment| segment.signed.writer = key(8).writer())?;
    ensure!(matches!(of_another, SegmentError::Misplaced { sequence: 1, .. }), "{of_another}");
    let of_another_loom = refused(|segment| segment.signed.loom = loom(2))?;
    ensure!(matches!(of_another_loom, SegmentError::Misplaced { sequence: 1, .. }), "{of_another_loom}");
    let (store, _) = honest()?;
    let old = store.segment(loom(1), store.writer(), 0)?.expect("a segment").signed;
    let more = said(&*store, loom(1), entity(1), None, "a sixth")?;
    store.append(more)?;
    let replayed = Segment { signed: old, ..store.segment(loom(1), store.writer(), 0)?.expect("a longer one") };
    let replayed = replayed.check().expect_err("an old head");
    ensure!(matches!(replayed, SegmentError::Length { ends: 6, signed: 5 }), "{replayed}");
    let oversized = refused(|segment| segment.entries = vec![segment.entries[0].clone(); 2_000])?;
    ensure!(matches!(oversized, SegmentError::TooMany { entries: 2_000 }), "{oversized}");
    let large = refused(|segment| segment.entries = vec![vec![0; 600 * 1024]; 3])?;
    ensure!(matches!(large, SegmentError::TooLarge { .. }), "{large}");
    let empty = refused(|segment| segment.entries.clear())?;
    ensure!(matches!(empty, SegmentError::Empty), "{empty}");
    Ok(())
}

/// What a node answers to a segment.
fn answer(node: &Node, from: &Node, segment: Segment) -> Result<Vec<CopyMessage>> {
    let mut session = node.session(from)?;
    while session.next_message()?.is_some() {}
    let keepers = [(node.name.clone(), Keeping::default()), (from.name.clone(), Keeping::default())];
    let loom = segment.signed.loom;
    let (origin, keepers) = (from.name.clone(), BTreeMap::from(keepers));
    wait(session.hear(CopyMessage::Have { loom, origin, keepers, logs: Vec::new(), casts: Vec::new() }))?;
    wait(session.hear(CopyMessage::Segment(Box::new(segment))))?;
    wait(session.flush())?;
    let mut said = Vec::new();
    while let Some(message) = session.next_message()? {
        said.push(message);
    }
    Ok(said)
}

#[test]
fn a_peer_is_told_by_name_what_is_wrong_with_its_segment_and_nothing_of_it_is_kept() -> Result<()> {
    let (node, peer) = (Node::new(1), Node::new(2));
    let store = MemoryStore::with_key(key(7));
    let loom = found(&*store, 1, &[])?;
    fill(&*store, loom, 4, 40, 1)?;
    let mut segment = store.segment(loom, store.writer(), 0)?.expect("a segment");
    segment.entries.swap(1, 2);
    let said = answer(&node, &peer, segment)?;
    let refused = said.iter().find_map(|message| match message {
        CopyMessage::Refused { what, writer, .. } => Some((what.clone(), *writer)),
        _ => None,
    });
    let (what, writer) = refused.expect("a refusal");
    ensure!(what.contains("entry 2 of the segment says that it is entry 3"), "{what}");
    ensure!(writer == Some(key(7).writer()));
    ensure!(node.disk.entries(loom)?.is_empty());
    ensure!(node.copies.states(loom)[&named("node2")].last_error.as_ref() == Some(&what));
    Ok(())
}

#[test]
fn a_loom_is_served_to_its_keepers_only_and_nobody_else_learns_of_it() -> Result<()> {
    let closed = CopyTerms { bytes_max: u64::MAX, ..CopyTerms::NONE };
    let owner = Node::on(1, MemoryStore::with_key(key(1)), closed);
    let (keeper, stranger) = (Node::new(2), Node::new(3));
    let (first, second) = (found(&*owner.disk, 1, &[])?, loom(2));
    owner.write(first, 0, "private")?;
    owner.copies.share(first, &keeper.name, CopyKind::Disk, None)?;
    Wire::connect(&owner, &keeper)?.settle()?;
    ensure!(keeper.ids(first)?.len() == 1);
    // The stranger names the loom, and one that does not exist.
    stranger.write(first, 0, "mine")?;
    stranger.write(second, 0, "mine")?;
    for loom in [first, second] {
        stranger.copies.share(loom, &owner.name, CopyKind::Disk, None)?;
    }
    let mut wire = Wire::connect(&stranger, &owner)?;
    wire.settle()?;
    let answers: Vec<String> = wire
        .said
        .iter()
        .filter_map(|message| match message {
            CopyMessage::Refused { what, .. } => Some(what.clone()),
            CopyMessage::Segment(_) => Some("a segment".to_owned()),
            _ => None,
        })
        .collect();
    ensure!(answers.len() == 2 && answers[0] == answers[1], "{answers:?}");
    ensure!(stranger.ids(first)?.len() == 1 && owner.ids(first)?.len() == 1);
    Ok(())
}

#[test]
fn a_fresh_node_catches_up_from_any_keeper_and_not_only_from_the_writer() -> Result<()> {
    let nodes: Vec<Node> = (1..=3).map(Node::new).collect();
    let loom = found(&*nodes[0].disk, 1, &[])?;
    for number in 0..40 {
        nodes[0].write(loom, number, &format!("entry {number}"))?;
    }
    nodes[0].copies.share(loom, &named("node2"), CopyKind::Disk, None)?;
    nodes[0].copies.share(loom, &named("node3"), CopyKind::Disk, None)?;
    Wire::connect(&nodes[0], &nodes[1])?.settle()?;
    // The second knows of the third from the first.
    let mut wire = Wire::connect(&nodes[1], &nodes[2])?;
    wire.settle()?;
    ensure!(nodes[2].ids(loom)? == nodes[0].ids(loom)?);
    // What is there is not sent again: bandwidth is proportional to what is missing.
    let mut again = Wire::connect(&nodes[1], &nodes[2])?;
    again.settle()?;
    ensure!(!again.said.iter().any(|message| matches!(message, CopyMessage::Segment(_))));
    nodes[0].write(loom, 3, "one more")?;
    let mut more = Wire::connect(&nodes[0], &nodes[1])?;
    more.settle()?;
    let entries: usize = more
        .said
        .iter()
        .map(|message| if let CopyMessage::Segment(segment) = message { segment.entries.len() } else { 0 })
        .sum();
    ensure!(entries == 1, "{entries}");
    Ok(())
}

#[test]
fn a_copy_is_kept_in_memory_or_on_disk_and_changes_while_running() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let owner = Node::new(1);
    let keeper = Node::on(2, open(folder.path())?, OPEN);
    let loom = found(&*owner.disk, 1, &[])?;
    for number in 0..20 {
        owner.write(loom, number, &format!("{number} ").repeat(if number % 7 == 0 { 9_000 } else { 5 }))?;
    }
    owner.copies.share(loom, &named("node2"), CopyKind::Memory, None)?;
    let mut wire = Wire::connect(&owner, &keeper)?;
    wire.settle()?;
    ensure!(keeper.memory.entries(loom)?.len() == 21 && keeper.disk.entries(loom)?.is_empty());
    let state = owner.copies.states(loom)[&named("node2")].clone();
    ensure!(state.has.values().copied().eq([21]) && state.durable.is_empty(), "{state:?}");
    for kind in [CopyKind::Disk, CopyKind::Memory, CopyKind::Disk] {
        owner.copies.share(loom, &named("node2"), kind, None)?;
        wire.settle()?;
        owner.write(loom, 1, &format!("as {}", kind.as_str()))?;
        wire.settle()?;
        ensure!(keeper.ids(loom)? == owner.ids(loom)?);
        let on_disk = keeper.disk.entries(loom)?.len();
        ensure!((on_disk == 0) == (kind == CopyKind::Memory), "{on_disk} on disk as {}", kind.as_str());
        let verified = keeper.disk.verify(None)?;
        ensure!(verified.findings.is_empty(), "{:?}", verified.findings);
    }
    owner.copies.share(loom, &named("node2"), CopyKind::None, None)?;
    wire.settle()?;
    ensure!(keeper.ids(loom)?.is_empty(), "a keeper that is none any more keeps nothing");
    // What was taken out stays out, and the record is whole.
    drop((wire, keeper));
    let again = open(folder.path())?;
    ensure!(again.entries(loom)?.is_empty() && again.verify(None)?.findings.is_empty());
    Ok(())
}

#[test]
fn a_copy_on_disk_survives_and_is_verified_with_its_signatures() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let writer = MemoryStore::with_key(key(7));
    fill(&*writer, loom(1), 3_000, 400, 100)?;
    let store = open(folder.path())?;
    let mut after = 0;
    while let Some(segment) = writer.segment(loom(1), writer.writer(), after)? {
        after = segment.signed.head.sequence;
        for id in segment.entries.iter().flat_map(|entry| cantrip_runtime::domain::loom::text_ids(entry)) {
            store.keep_text(&writer.blob(id)?.expect("a text"))?;
        }
        ensure!(matches!(store.take(segment.check()?)?, Taken::New(_)));
    }
    wait(store.sync_logs(loom(1), vec![writer.writer()]))?;
    store.close()?;
    drop(store);
    let store = open(folder.path())?;
    let log = store.logs(loom(1))?[0];
    ensure!(log.head.sequence == 3_000 && log.signed.is_some_and(|signed| signed.head == log.head));
    let verified = store.verify(None)?;
    ensure!(verified.entries == 3_000 && verified.findings.is_empty(), "{:?}", verified.findings);
    // It is handed on as its writer signed it.
    let third = MemoryStore::with_key(key(8));
    let mut after = 0;
    while let Some(segment) = store.segment(loom(1), writer.writer(), after)? {
        after = segment.signed.head.sequence;
        for id in segment.entries.iter().flat_map(|entry| cantrip_runtime::domain::loom::text_ids(entry)) {
            third.keep_text(&store.blob(id)?.expect("a text"))?;
        }
        third.take(segment.check()?)?;
    }
    ensure!(third.entries(loom(1))?.len() == 3_000);
    Ok(())
}

#[test]
fn what_came_by_a_cast_and_then_in_its_log_is_there_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (writer, segment) = honest()?;
    let entries = writer.entries(loom(1))?;
    let stores: [Arc<dyn CopyStore>; 2] = [open(folder.path())?, MemoryStore::with_key(key(1))];
    for store in stores {
        let some: Vec<Sealed> = entries.iter().skip(2).take(2).cloned().collect();
        let mut unit = CastUnit::of(entity(1));
        ensure!(some.iter().all(|sealed| unit.takes(sealed)));
        let head = writer.sign_cast(loom(1), entity(1), unit.at())?;
        store.receive(CastStream::new(loom(1), store.writer(), entity(1)).check(some, vec![head])?)?;
        wait(store.sync(loom(1)))?;
        ensure!(store.take(segment.clone().check()?)? == Taken::New(5));
        wait(store.sync_logs(loom(1), vec![writer.writer()]))?;
        wait(store.sync(loom(1)))?;
        ensure!(store.entries(loom(1))?.len() == 5);
        ensure!(store.entries_of(entity(1))?.len() == 5);
        ensure!(store.children(entries[1].id)? == [entries[2].id]);
        let verified = store.verify(None)?;
        ensure!(verified.findings.is_empty(), "{:?}", verified.findings);
    }
    Ok(())
}

#[test]
fn a_record_that_was_restored_from_a_copy_goes_on_under_a_new_key() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (data, backup) = (folder.path().join("data"), folder.path().join("backup"));
    let store = open(&data)?;
    fill(&*store, loom(1), 5, 40, 1)?;
    let old = store.writer();
    store.close()?;
    drop(store);
    copy_tree(&data, &backup)?;
    let restored = open(&backup)?;
    ensure!(restored.writer() != old, "two would write under one key");
    ensure!(restored.entries(loom(1))?.len() == 5 && restored.head(loom(1))? == Head::default());
    fill(&*restored, loom(1), 2, 40, 1)?;
    ensure!(restored.entries(loom(1))?.len() == 7 && restored.verify(None)?.findings.is_empty());
    let renewed = restored.writer();
    drop(restored);
    ensure!(open(&backup)?.writer() == renewed && open(&data)?.writer() == old);
    Ok(())
}

/// What a writer signs that founds, opens or delegates to what nobody, or somebody else, has minted.
fn unminted(store: &dyn LoomStore) -> Vec<(Option<cantrip_runtime::domain::ids::EntityId>, Body, &'static str)> {
    use cantrip_runtime::domain::ids::{CallId, EntityId};
    let nonce = MINTED.nonce;
    let opening = |minted| Body::Opened(Box::new(Opened { minted, ..Opened::default() }));
    let ground = EntityId::from_parts(1, [0; 16]);
    let mine = Some(Minted { by: store.writer(), nonce });
    let delegated = Body::Delegated {
        call: CallId::new("call"),
        index: 0,
        child: entity(9),
        proposal: Payload::Inline("{}".to_owned()),
        place: cantrip_runtime::domain::place::CallPlace::Here,
        nonce: Some(nonce),
    };
    vec![
        (Some(ground), opening(Some(MINTED)), "whose id does not commit to"),
        (Some(entity(1)), opening(mine), "whose id does not commit to"),
        (Some(entity(1)), opening(None), "does not say who minted"),
        (Some(entity(1)), delegated, "whose id does not commit to"),
        (None, Body::Founded { nonce, member: None }, "it founds the loom at place 3"),
    ]
}

#[test]
fn a_log_with_an_id_that_its_minter_has_not_made_is_not_copied_and_verify_names_it() -> Result<()> {
    for number in 0..5 {
        let store = MemoryStore::with_key(key(7));
        let (of, body, expected) = unminted(&*store).swap_remove(number);
        fill(&*store, loom(1), 2, 40, 1)?;
        let entry = Entry::new(loom(1), (store.writer(), 3), 3, of, None, body);
        store.append(Sealed::new(entry, Vec::new())?)?;
        let segment = store.segment(loom(1), store.writer(), 0)?.expect("a segment");
        let refused = segment.check().expect_err(expected);
        let SegmentError::Unminted { sequence: 3, source } = refused else { anyhow::bail!("{refused}") };
        ensure!(source.to_string().contains(expected), "{expected}: {source}");
        let findings = store.verify(None)?.findings;
        ensure!(findings.iter().any(|finding| finding.what.contains(expected)), "{expected}: {findings:?}");
    }
    Ok(())
}

#[test]
fn a_loom_is_founded_once_and_by_nobody_else() -> Result<()> {
    let (founder, other) = (MemoryStore::with_key(key(7)), MemoryStore::with_key(key(8)));
    let nonce = MINTED.nonce;
    let id = cantrip_runtime::domain::ids::LoomId::mint(1, &founder.writer(), &nonce, None);
    for (store, is_theirs) in [(&founder, true), (&other, false)] {
        let founding = Entry::new(id, (store.writer(), 1), 1, None, None, Body::Founded { nonce, member: None });
        store.append(Sealed::new(founding, Vec::new())?)?;
        let checked = store.segment(id, store.writer(), 0)?.expect("a segment").check();
        ensure!(checked.is_ok() == is_theirs, "{checked:?}");
    }
    Ok(())
}

#[test]
fn a_keeper_cannot_make_others_forget_and_may_leave_itself() -> Result<()> {
    let nodes: Vec<Node> = (1..=3).map(Node::new).collect();
    let loom = found(&*nodes[0].disk, 1, &[2, 3])?;
    nodes[0].write(loom, 0, "mine")?;
    for name in ["node2", "node3"] {
        nodes[0].copies.share(loom, &named(name), CopyKind::Disk, None)?;
    }
    let settle = || {
        let wires = [(0, 1), (1, 2), (0, 2)];
        wires.into_iter().try_for_each(|(one, other)| Wire::connect(&nodes[one], &nodes[other])?.settle())
    };
    settle()?;
    nodes[1].write(loom, 0, "the second's")?;
    settle()?;
    // The second says of everybody that they keep it no longer.
    for name in ["node1", "node3"] {
        nodes[1].copies.share(loom, &named(name), CopyKind::None, None)?;
    }
    settle()?;
    for node in [&nodes[0], &nodes[2]] {
        ensure!(node.ids(loom)?.len() == 2, "{} has forgotten", node.name);
        let copies = node.copies.of(loom).expect("a loom that is kept");
        ensure!(["node1", "node3"].iter().all(|name| copies.kind(&named(name)) == CopyKind::Disk), "{copies:?}");
    }
    // The origin may.
    nodes[0].copies.share(loom, &named("node3"), CopyKind::None, None)?;
    settle()?;
    ensure!(nodes[2].ids(loom)?.is_empty() && nodes[0].ids(loom)?.len() == 2);
    Ok(())
}
