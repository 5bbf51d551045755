//! Threads that ran on several nodes are taken out of their loom with what proves them.

use std::sync::Arc;

use cantrip_runtime::adapters::clock::SystemClock;
use cantrip_runtime::adapters::store::{MemoryStore, NodeKey};
use cantrip_runtime::ports::LoomStore;
use cantrip_runtime::{Cantrip, CastOptions, NoMedia, Runtime, builtin};
use serde_json::json;

use crate::peer_support::turns;
use crate::{net, parent, script, told};

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_that_ran_at_a_host_is_gone_on_with_by_a_stranger_from_what_its_caller_or_its_host_has() {
    let net = net(&["a", "b"], |_, _| {}).await;
    let (a, b) = (&net.nodes[0], &net.nodes[1]);
    let there = script(json!([{ "call": "echo", "args": { "text": "there" } }, { "done": 1 }]));
    let requests = json!([{ "node": "b", "intent": there, "gates": ["echo"] }]);
    let (_, loom) = parent(a, turns(60), vec![builtin::echo()], requests).await;
    let tree = a.runtime.tree(loom).unwrap();
    let entities: Vec<_> = tree.entities().map(|(entity, view)| (entity, view.opened.depth)).collect();
    let (root, child) = (entities[0].0, entities.iter().find(|(_, depth)| *depth == 1).unwrap().0);
    for (node, of) in [(a, root), (a, child), (b, child)] {
        let kept = node.runtime.tree(loom).unwrap().thread_length(of).unwrap();
        let spoken = node.runtime.tree(loom).unwrap().restore(of, None).unwrap().turns;
        let taken = node.runtime.take_thread(loom, of, spoken).unwrap();
        let store: Arc<dyn LoomStore> = MemoryStore::with_key(NodeKey::from_secret(&[99; 32]));
        let stranger = Runtime::new(store, Arc::new(NoMedia), Arc::new(SystemClock::default()), "stranger");
        let cantrip = Cantrip::builder().llm(told()).gate(builtin::done()).wards(&turns(9)).build(&NoMedia).unwrap();
        let own = stranger.found().unwrap();
        let mut entity = stranger.fork_taken(&cantrip, &Arc::new(taken), own, CastOptions::default()).unwrap();
        entity.send(&script(json!([{ "done": 2 }]))).await.unwrap();
        let tree = stranger.tree(own).unwrap();
        let thread = tree.thread(entity.entity()).unwrap();
        assert!(thread.len() as u64 > kept.min(spoken), "{} at {}", thread.len(), node.address);
        assert_eq!(thread.last().unwrap().from, None);
        assert!(thread.iter().filter(|turn| turn.from == Some(loom)).count() as u64 >= spoken);
        let origin = tree.foreign_origin(entity.entity()).unwrap();
        assert!(origin.founder.is_some() && origin.entity == of);
        let writer = if of == root { a.store.writer() } else { b.store.writer() };
        assert!(origin.writers.iter().any(|(key, _)| *key == writer));
        assert!(tree.restore(entity.entity(), None).unwrap().seen.untrusted);
    }
}
