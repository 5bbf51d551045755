//! Snapshots of a code medium's memory: a fork has the variables exactly, by snapshot and by replay alike, and calls nothing.
#![expect(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test may stop")]

use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cantrip_runtime::adapters::clock::SystemClock;
use cantrip_runtime::adapters::llm::Scripted;
use cantrip_runtime::adapters::store::{FjallStore, MemoryStore, NodeKey, StoreOptions};
use cantrip_runtime::adapters::wasm::{Javascript, Sandbox};
use cantrip_runtime::domain::ids::{EntityId, LoomId};
use cantrip_runtime::domain::loom::{Body, ForkStrategy, Opened};
use cantrip_runtime::domain::medium::SnapshotPolicy;
use cantrip_runtime::ports::LoomStore;
use cantrip_runtime::{Cantrip, CastOptions, FunctionGate, Runtime, Wards, builtin};
use serde_json::{Value, json};

const TURNS: u64 = 500;

fn sandbox() -> Arc<Sandbox> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("snapshot-artefacts");
    Sandbox::new(64, Some(folder)).unwrap()
}

/// What an entity's code does in a turn: numbers, a growing list, closures, a class, random numbers and the clock, and a gate.
fn code(turn: u64) -> Value {
    match turn {
        1 => {
            json!({"code": "var n = 0; var list = []; var map = new Map(); class Counter { #n = 0; up() { return ++this.#n } } \
                     var counter = new Counter(); var up = (() => { let inner = 0; return () => ++inner })(); var seen = ''"})
        }
        _ => {
            json!({"code": "n += 1; list.push(Math.random(), Date.now()); map.set(n, { n, text: 'x'.repeat(n % 50) }); \
                     counter.up(); up(); if (n % 10 == 0) { list.push(tick(String(n))); list = list.slice(-200) } n"})
        }
    }
}

/// Everything that the code has, as a text; it changes what it looks at.
const LOOK: &str = "done(JSON.stringify([n, list, [...map], counter.up(), up(), Math.random() < 2, typeof nothing]))";

struct World {
    runtime: Runtime,
    ticks: Arc<AtomicU64>,
    policy: SnapshotPolicy,
}

impl World {
    fn new(store: Arc<dyn LoomStore>, policy: SnapshotPolicy) -> Self {
        let runtime =
            Runtime::new(store, Arc::new(Javascript::new(sandbox())), Arc::new(SystemClock::default()), "here");
        Self { runtime, ticks: Arc::default(), policy }
    }

    fn cantrip(&self, script: Vec<Value>) -> Cantrip {
        let ticks = Arc::clone(&self.ticks);
        let mut spec = builtin::echo().spec().clone();
        spec.name = cantrip_gates::GateName::parse("tick").unwrap();
        let tick = FunctionGate::new(spec, move |_| {
            let ticks = Arc::clone(&ticks);
            async move { Ok(json!(ticks.fetch_add(1, Ordering::SeqCst))) }
        });
        Cantrip::builder()
            .llm(Arc::new(Scripted::from_values(script).unwrap()))
            .medium("javascript")
            .gate(builtin::done())
            .gate(Arc::new(tick))
            .wards(&Wards { max_turns: Some(TURNS + 10), ..Wards::default() })
            .snapshots(self.policy)
            .build(self.runtime.media())
            .unwrap()
    }

    /// Runs an entity of so many turns.
    async fn run(&self, turns: u64) -> (LoomId, EntityId) {
        let mut script: Vec<Value> = (1..turns).map(code).collect();
        script.push(json!({"code": "done(n)"}));
        let mut entity = self.runtime.summon(&self.cantrip(script), CastOptions::default()).unwrap();
        let outcome = entity.send("count").await.unwrap();
        assert_eq!(outcome.reason.as_str(), "done", "{outcome:?}");
        (entity.loom(), entity.entity())
    }

    /// What a fork after so many turns has, and how it was obtained.
    async fn fork(&self, of: (LoomId, EntityId), turns: u64) -> (String, ForkStrategy) {
        let cantrip = self.cantrip(vec![json!({ "code": LOOK })]);
        let mut fork = self.runtime.fork(&cantrip, of.0, of.1, turns, CastOptions::default()).unwrap();
        let outcome = fork.send("look").await.unwrap();
        let opened = self.opened(of.0, fork.entity());
        (outcome.result.unwrap().as_str().unwrap().to_owned(), opened.fork.unwrap().strategy)
    }

    fn opened(&self, loom: LoomId, entity: EntityId) -> Opened {
        self.runtime.tree(loom).unwrap().entity(entity).unwrap().opened.clone()
    }

    fn snapshots(&self, loom: LoomId) -> usize {
        let entries = self.runtime.store().entries(loom).unwrap();
        entries.iter().filter(|sealed| matches!(sealed.entry.body, Body::Snapshot { .. })).count()
    }
}

fn every(turns: u64) -> SnapshotPolicy {
    SnapshotPolicy::Every(NonZeroU64::new(turns).unwrap())
}

#[tokio::test]
async fn a_fork_from_any_turn_of_a_long_entity_is_the_same_by_snapshot_and_by_replay() {
    let store = MemoryStore::with_key(NodeKey::from_secret(&[1; 32]));
    let mut world = World::new(store, every(25));
    let of = world.run(TURNS).await;
    let ticks = world.ticks.load(Ordering::SeqCst);
    let taken = world.snapshots(of.0);
    assert!(ticks > 40 && taken >= 19, "{ticks} ticks, {taken} snapshots");
    // The same record under a runtime whose media have no images: replay is all there is.
    let replaying = Runtime::new(
        Arc::clone(world.runtime.store()),
        Arc::new(OnlyReplay(Javascript::new(sandbox()))),
        Arc::new(SystemClock::default()),
        "here",
    );
    world.policy = SnapshotPolicy::Never;
    let replaying = World { runtime: replaying, ticks: Arc::clone(&world.ticks), policy: SnapshotPolicy::Never };
    let (mut by_snapshot, mut by_replay) = (0, 0);
    for turns in (1..TURNS).step_by(37).chain([2, 24, 25, 26, 250, TURNS - 1]) {
        let (fast, strategy) = world.fork(of, turns).await;
        let (slow, replayed) = replaying.fork(of, turns).await;
        assert_eq!(fast, slow, "after turn {turns}");
        assert_eq!(replayed, ForkStrategy::Replay);
        assert!(fast.starts_with(&format!("[{},", turns - 1)), "{fast}");
        match strategy {
            ForkStrategy::Snapshot => by_snapshot += 1,
            ForkStrategy::Replay => by_replay += 1,
        }
    }
    assert!(by_snapshot > 10 && by_replay > 0, "{by_snapshot} by snapshot, {by_replay} by replay");
    assert_eq!(world.ticks.load(Ordering::SeqCst), ticks, "a gate was called for what is recorded");
}

/// The medium without its images.
#[derive(Debug)]
struct OnlyReplay(Javascript);

impl cantrip_runtime::ports::MediumFactory for OnlyReplay {
    fn names(&self) -> Vec<String> {
        self.0.names()
    }

    fn digest(&self, medium: &str) -> Option<String> {
        self.0.digest(medium)
    }

    fn open<'a>(
        &'a self,
        opening: &'a cantrip_runtime::domain::medium::MediumOpening,
    ) -> cantrip_runtime::ports::BoxFuture<
        'a,
        Result<Box<dyn cantrip_runtime::ports::Medium>, cantrip_runtime::ports::MediumFault>,
    > {
        self.0.open(opening)
    }
}

#[tokio::test]
async fn two_forks_of_one_image_go_their_own_ways() {
    let world = World::new(MemoryStore::with_key(NodeKey::from_secret(&[1; 32])), every(5));
    let of = world.run(11).await;
    let mut forks = Vec::new();
    for step in [1, 100] {
        let script = vec![json!({"code": format!("n += {step}; counter.up(); n")}), json!({"code": LOOK})];
        let mut fork = world.runtime.fork(&world.cantrip(script), of.0, of.1, 10, CastOptions::default()).unwrap();
        let result = fork.send("go").await.unwrap().result.unwrap();
        forks.push(serde_json::from_str::<Value>(result.as_str().unwrap()).unwrap());
    }
    let (original, _) = world.fork(of, 10).await;
    let original: Value = serde_json::from_str(&original).unwrap();
    assert_eq!(forks[0][0], json!(original[0].as_u64().unwrap() + 1));
    assert_eq!(forks[1][0], json!(original[0].as_u64().unwrap() + 100));
    assert_eq!(forks[0][3], forks[1][3]);
}

#[tokio::test]
async fn a_snapshot_on_disk_is_had_again_by_another_process_and_pages_are_kept_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = FjallStore::open(folder.path(), StoreOptions::default()).unwrap();
    let world = World::new(Arc::clone(&store) as _, every(1));
    let of = world.run(40).await;
    let snapshots: Vec<usize> = store
        .entries(of.0)
        .unwrap()
        .iter()
        .filter_map(|sealed| match &sealed.entry.body {
            Body::Snapshot { pages, .. } => Some(pages.len()),
            _ => None,
        })
        .collect();
    assert!(snapshots.len() >= 39, "{snapshots:?}");
    let later = &snapshots[1..30];
    assert!(later.iter().all(|pages| *pages < snapshots[0]), "only what has changed is named: {snapshots:?}");
    let expected = world.fork(of, 33).await;
    assert_eq!(expected.1, ForkStrategy::Snapshot);
    drop(world);
    store.close().unwrap();
    drop(store);
    let store = FjallStore::open(folder.path(), StoreOptions::default()).unwrap();
    assert!(store.verify(None).unwrap().findings.is_empty());
    let world = World::new(store, every(1));
    assert_eq!(world.fork(of, 33).await, expected);
}

#[tokio::test]
async fn an_entity_that_rests_has_no_instance_and_comes_back_on_the_next_send() {
    for policy in [SnapshotPolicy::Idle, SnapshotPolicy::Never] {
        let world = World::new(MemoryStore::with_key(NodeKey::from_secret(&[1; 32])), policy);
        let script = vec![
            code(1),
            code(2),
            json!({"code": "done(n)"}),
            json!({"code": "n += 1; done(n)"}),
            json!({"code": LOOK}),
        ];
        let mut entity = world.runtime.summon(&world.cantrip(script), CastOptions::default()).unwrap();
        assert_eq!(entity.send("one").await.unwrap().result, Some(json!(1)));
        entity.rest().unwrap();
        assert_eq!(entity.send("two").await.unwrap().result, Some(json!(2)));
        entity.rest().unwrap();
        let looked = entity.send("three").await.unwrap().result.unwrap();
        assert!(looked.as_str().unwrap().starts_with("[2,"), "{looked}");
        assert_eq!(world.snapshots(entity.loom()) > 0, policy == SnapshotPolicy::Idle);
    }
}

#[tokio::test]
async fn an_image_of_another_circle_is_not_used() {
    let world = World::new(MemoryStore::with_key(NodeKey::from_secret(&[1; 32])), every(1));
    let of = world.run(6).await;
    // One gate more: the image has no function for it.
    let other = Cantrip::builder()
        .llm(Arc::new(Scripted::from_values(vec![json!({"code": "done([n, echo('hi')])"})]).unwrap()))
        .medium("javascript")
        .gate(builtin::done())
        .gate(builtin::echo())
        .wards(&Wards { max_turns: Some(TURNS), ..Wards::default() })
        .build(world.runtime.media())
        .unwrap();
    let mut fork = world.runtime.fork(&other, of.0, of.1, 4, CastOptions::default()).unwrap();
    assert_eq!(fork.send("go").await.unwrap().result, Some(json!([3, "hi"])));
    let strategy = world.opened(of.0, fork.entity()).fork.unwrap().strategy;
    assert_eq!(strategy, ForkStrategy::Replay);
}
