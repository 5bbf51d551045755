//! Work on other nodes: nodes in one process, over TCP and mutual TLS.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    reason = "a test may stop, and says what it needs in place"
)]

#[path = "peers/cheating.rs"]
mod cheating;
#[path = "peers/foreign.rs"]
mod foreign;
#[path = "peers/heads.rs"]
mod heads;
#[path = "peers/ids.rs"]
mod ids;
#[path = "peers/members.rs"]
mod members;
mod peer_support;
#[path = "peers/resumed.rs"]
mod resumed;

use std::sync::Arc;
use std::time::Duration;

use cantrip_runtime::adapters::clock::SystemClock;
use cantrip_runtime::adapters::peer::{Identity, PeerNodes, TcpNet, Way, make_authority, make_certificate, over_tls};
use cantrip_runtime::adapters::store::{MemoryStore, NodeKey};
use cantrip_runtime::domain::ids::{CastId, EntityId, EntryId, LoomId, NodeAddress, WriterKey};
use cantrip_runtime::domain::loom::Minted;
use cantrip_runtime::domain::loom::{Body, CastChain, CastHead, CastUnit};
use cantrip_runtime::domain::members::Nonce;
use cantrip_runtime::domain::remote::{CantripOrder, GateOrder, ModelOrder};
use cantrip_runtime::driver::{HostLimits, RemoteError};
use cantrip_runtime::ports::{By, Clock, LoomStore, PeerError};
use cantrip_runtime::{Cantrip, CastError, CastOptions, Control, Gate, How, NoMedia, Outcome, Runtime, Wards, builtin};
use cheating::{Looking, Strange, cast, order, strange};
use peer_support::{Cluster, Deeds, Node, Parts, Plain, TestHost, Told, at, limits, number, remote, turns};
use serde_json::{Value, json};
use tokio::net::TcpListener;

struct Net {
    cluster: Cluster,
    deeds: Deeds,
    nodes: Vec<Node>,
}

fn told() -> Arc<Told> {
    Arc::new(Told(Arc::new(SystemClock::default())))
}

fn key() -> NodeKey {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number().to_be_bytes());
    NodeKey::from_secret(&bytes)
}

/// Nodes that all know each other. `change` sees each node's policies before it starts.
async fn net(names: &[&str], change: impl Fn(&str, &mut TestHost)) -> Net {
    net_with(names, change, |_| None).await
}

/// The same, with stores of the test's own.
async fn net_with(
    names: &[&str],
    change: impl Fn(&str, &mut TestHost),
    store: impl Fn(&str) -> Option<Arc<dyn LoomStore>>,
) -> Net {
    let (cluster, deeds) = (Cluster::new(), Deeds::default());
    let mut listeners = Vec::new();
    for name in names {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        listeners.push((at(name, &address), listener));
    }
    let all: Vec<NodeAddress> = listeners.iter().map(|(address, _)| address.clone()).collect();
    let mut nodes = Vec::new();
    for (address, listener) in listeners {
        let others: Vec<NodeAddress> = all.iter().filter(|other| **other != address).cloned().collect();
        let mut host = TestHost::new(&others, vec![deeds.gate("deed")], told());
        change(address.name().as_str(), &mut host);
        let identity = cluster.identity(address.name().as_str());
        let parts = Parts {
            store: store(address.name().as_str()).unwrap_or_else(|| MemoryStore::with_key(key())),
            clock: Arc::new(SystemClock::default()),
            media: Arc::new(NoMedia),
            way: Way::Tls { net: Arc::new(TcpNet), identity: Arc::clone(&identity) },
            limits: limits(),
            host_limits: HostLimits { queue: Duration::from_secs(4), ..HostLimits::default() },
            others,
            host,
            address,
        };
        nodes.push(Node::start(parts, over_tls(listener, identity)));
    }
    Net { cluster, deeds, nodes }
}

fn script(responses: Value) -> String {
    responses.to_string()
}

/// A parent here that casts children with these proposals, one batch, and ends with what they answered.
async fn parent(node: &Node, wards: Wards, gates: Vec<Arc<dyn Gate>>, requests: Value) -> (Outcome, LoomId) {
    let mut builder = Cantrip::builder().llm(told()).delegation().gate(builtin::done()).wards(&wards);
    for gate in gates {
        builder = builder.gate_for_children(gate);
    }
    let cantrip = builder.build(&NoMedia).unwrap();
    let intent = script(json!([{ "call": "call_entity_batch", "args": { "requests": requests } }, { "done": "all" }]));
    let mut entity = node.runtime.summon(&cantrip, CastOptions::default()).unwrap();
    let outcome = entity.send(&intent).await.unwrap();
    (outcome, entity.loom())
}

/// What the parent's one batch returned.
fn batch(node: &Node, loom: LoomId) -> Vec<Value> {
    let tree = node.runtime.tree(loom).unwrap();
    let turn = &tree.turns()[0];
    match turn.gates[0].result.clone().unwrap().unwrap() {
        Value::Array(items) => items,
        other => panic!("{other}"),
    }
}

fn clean(node: &Node) {
    assert_eq!(node.store.verify(None).unwrap().findings, Vec::new(), "{}", node.address);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_child_answers_and_its_entries_are_in_the_parents_loom() {
    let net = net(&["a", "b"], |_, _| {}).await;
    let (a, b) = (&net.nodes[0], &net.nodes[1]);
    let intent = script(json!([{ "call": "deed", "args": { "deed": "once" } }, { "done": 7 }]));
    let requests = json!([{ "node": "b", "intent": intent, "gates": ["deed"], "wards": { "max_turns": 9 } }]);
    let (outcome, loom) = parent(a, Wards { max_turns: Some(60), ..Wards::default() }, Vec::new(), requests).await;
    assert_eq!((outcome.result, batch(a, loom)), (Some(json!("all")), vec![json!(7)]));
    assert_eq!(net.deeds.count("once"), 1);
    // What the child spent is the parent's: its own batch and done, and the child's deed and done.
    assert_eq!((outcome.spent.children, outcome.spent.gate_calls), (1, 4));
    assert_eq!(outcome.spent.children_usage.total(), 30);

    let tree = a.runtime.tree(loom).unwrap();
    let order: Vec<(u64, Option<u64>)> = tree
        .turns()
        .iter()
        .map(|turn| (turn.sequence, turn.said.as_ref().map(|said| said.calls.len() as u64)))
        .collect();
    assert_eq!(
        order,
        vec![(1, Some(1)), (1, Some(1)), (2, Some(1)), (2, Some(1))],
        "the child's turns are between its parent's"
    );
    let (child, view) = tree.entities().nth(1).unwrap();
    assert_eq!(view.opened.node, b.address.to_string());
    assert_eq!(view.opened.caller.as_deref(), Some(a.address.to_string().as_str()));
    assert_eq!((view.opened.depth, view.opened.wards.max_turns), (1, Some(9)), "parent ∧ proposal ∧ host");
    let entries = a.store.entries_of(child).unwrap();
    assert!(entries.iter().all(|sealed| sealed.entry.writer == b.store.writer()), "they are the host's writing");
    let theirs: Vec<_> = b.store.entries_of(child).unwrap().iter().map(|sealed| sealed.id).collect();
    assert_eq!(entries.iter().map(|sealed| sealed.id).collect::<Vec<_>>(), theirs);
    clean(a);
    clean(b);
}

#[tokio::test(flavor = "multi_thread")]
async fn gates_and_model_at_the_caller_run_there_under_the_callers_wards() {
    // The host has nothing of its own but `done`, and its model would say nothing.
    let net = net(&["a", "b"], |_, host| host.gates.retain(|name, _| name == "done")).await;
    let (a, here) = (&net.nodes[0], Deeds::default());
    let intent = script(json!([
        { "call": "near", "args": { "deed": "1" } }, { "call": "near", "args": { "deed": "2" } },
        { "call": "near", "args": { "wrong": true } }, { "done": "ok" }
    ]));
    let gates = json!([{ "name": "near", "at": "caller" }]);
    let requests = json!([{ "node": "b", "intent": intent, "gates": gates, "llm": { "at": "caller" } }]);
    let (_, loom) = parent(a, turns(9), vec![here.gate("near")], requests).await;
    assert_eq!(batch(a, loom), vec![json!("ok")]);
    assert_eq!((here.count("1"), here.count("2")), (1, 1));
    let tree = a.runtime.tree(loom).unwrap();
    let (child, view) = tree.entities().nth(1).unwrap();
    assert_eq!(view.opened.model, "told");
    let entries = a.store.entries_of(child).unwrap();
    let places: Vec<(String, String)> = entries
        .iter()
        .filter_map(|sealed| match &sealed.entry.body {
            Body::GateCalled { gate, place, .. } => Some((gate.clone(), place.to_string())),
            _ => None,
        })
        .collect();
    assert_eq!(places[0], ("near".to_owned(), "caller".to_owned()));
    let refused = entries.iter().any(|sealed| {
        matches!(&sealed.entry.body, Body::GateReturned { result: cantrip_runtime::domain::loom::Returned::Error(error), .. }
            if error.kind() == "invalid")
    });
    assert!(refused, "arguments that do not fit are refused before they travel");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_entity_lives_across_sends_and_can_be_forked_there() {
    let net = net(&["a", "b"], |_, _| {}).await;
    let (a, b) = (&net.nodes[0], &net.nodes[1]);
    let mut entity = a.runtime.summon_at("b", remote(&["deed"], turns(5)), CastOptions::default()).unwrap();
    let first =
        entity.send(&script(json!([{ "call": "deed", "args": { "deed": "x" } }, { "done": 1 }]))).await.unwrap();
    assert_eq!((first.result, first.spent.turns), (Some(json!(1)), 2));
    let second = entity.send(&script(json!([{ "done": 2 }]))).await.unwrap();
    assert_eq!((second.result, second.spent.turns), (Some(json!(2)), 3), "the same entity, one turn more");
    let mut fork = entity.fork(1);
    let forked = fork.send(&script(json!([{ "done": "forked" }]))).await;
    // The fork's history is the first turn and then its own intent: its model says the second response of both.
    let forked = forked.unwrap();
    assert_eq!((forked.how, net.deeds.count("x")), (How::Terminated, 1), "nothing that is recorded runs again");
    let tree = b.runtime.tree(entity.loom()).unwrap();
    let view = tree.entity(fork.entity()).unwrap();
    assert_eq!(view.opened.fork.as_ref().map(|fork| (fork.of, fork.turns)), Some((entity.entity(), 1)));
    assert_eq!(a.runtime.tree(entity.loom()).unwrap().entities().count(), 2, "both are in the loom here");
    assert_eq!(
        a.store.head(entity.loom()).unwrap().sequence,
        7,
        "this node has founded the loom, admitted the host for each intent and settled it, and written no more"
    );
    clean(a);
    clean(b);
}

#[tokio::test(flavor = "multi_thread")]
async fn steering_interrupting_and_cancelling_reach_the_other_node() {
    let net = net(&["a", "b"], |_, _| {}).await;
    let a = &net.nodes[0];
    let slow =
        json!([{ "wait_ms": 300, "call": "echo", "args": { "text": "a" } }, { "wait_ms": 60_000, "done": "never" }]);
    let mut entity = a.runtime.summon_at("b", remote(&["echo"], turns(5)), CastOptions::default()).unwrap();
    entity.control().steer("be quick");
    entity.control().interrupt();
    let outcome = entity.send(&script(slow.clone())).await.unwrap();
    assert_eq!((outcome.how, outcome.reason.as_str()), (How::Truncated, "interrupted"));
    let control = Control::new();
    let options = CastOptions { control: Some(control.clone()), ..CastOptions::default() };
    let stopping = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(600)).await;
        control.cancel();
    });
    let intent = script(slow);
    let outcome = tokio::time::timeout(
        Duration::from_secs(20),
        a.runtime.cast_at("b", remote(&["echo"], turns(5)), &intent, options),
    );
    let outcome = outcome.await.unwrap().unwrap();
    assert_eq!((outcome.how, outcome.reason.as_str()), (How::Truncated, "cancelled"), "the model call was given up");
    stopping.await.unwrap();
    let tree = a.runtime.tree(entity.loom()).unwrap();
    let entries = a.store.entries_of(entity.entity()).unwrap();
    assert!(entries.iter().any(|sealed| matches!(sealed.entry.body, Body::Intent(ref told) if told.steer)));
    assert!(tree.entity(entity.entity()).unwrap().ended.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_cast_id_is_the_same_episode() {
    let net = net(&["a", "b"], |_, _| {}).await;
    let (a, b) = (&net.nodes[0], &net.nodes[1]);
    let intent = script(json!([{ "call": "deed", "args": { "deed": "x" } }, { "wait_ms": 200, "done": "one" }]));
    let order = order(remote(&["deed"], turns(5)).order, &intent);
    let home = Looking::default();
    let (first, second) = tokio::join!(cast(&a.peers, &order, &home), cast(&a.peers, &order, &home));
    let third = cast(&a.peers, &order, &home).await;
    for end in [first, second, third] {
        assert_eq!(end.unwrap().result, Some(json!("one")));
    }
    assert_eq!(net.deeds.count("x"), 1);
    assert_eq!(b.store.looms().unwrap().len(), 1);
    // Another episode of an entity that is at work, or that has ended and was not kept, is its own question.
    let mut other = order.clone();
    other.cast = CastId::from_parts(1, [9; 10]);
    let refused = cast(&a.peers, &other, &home).await.unwrap_err().to_string();
    assert!(refused.contains("exists already") && refused.contains("rule: entity"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_episode_is_only_its_own_callers() {
    let net = net(&["a", "b", "c"], |_, _| {}).await;
    let (a, c) = (&net.nodes[0], &net.nodes[2]);
    let order = order(remote(&[], turns(5)).order, &script(json!([{ "done": "mine" }])));
    let home = Looking::default();
    cast(&a.peers, &order, &home).await.unwrap();
    let refused = cast(&c.peers, &order, &home).await.unwrap_err().to_string();
    assert!(refused.contains("is another's"), "{refused}");
    let mut beside = order.clone();
    let minted = Minted { by: key().writer(), nonce: Nonce::from_bytes([3; 16]) };
    (beside.entity, beside.minted) = (EntityId::mint(2, &minted.by, &minted.nonce), Some(minted));
    let refused = cast(&c.peers, &beside, &home).await.unwrap_err().to_string();
    assert!(refused.contains("is another's") && refused.contains("rule: loom"), "{refused}");
    assert_eq!(net.nodes[1].store.looms().unwrap()[0].entries, a_few(&net.nodes[1], order.loom));
}

fn a_few(node: &Node, loom: LoomId) -> u64 {
    node.store.entries(loom).unwrap().len() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn children_of_children_end_at_depth_whatever_ring_they_run_in() {
    let net = net(&["a", "b"], |_, _| {}).await;
    let (a, b) = (&net.nodes[0], &net.nodes[1]);
    // a → b → a → b, where the last has no depth left.
    let last = script(json!([{ "call": "call_entity", "args": { "intent": "x" } }, { "done": "too deep" }]));
    let third = json!({ "node": "a", "intent": script(json!([
        { "call": "call_entity", "args": { "node": "b", "intent": last, "gates": ["call_entity", "done"] } }, { "done": "back on a" }
    ])), "gates": ["call_entity"] });
    let second = script(json!([{ "call": "call_entity", "args": third }, { "done": "on b" }]));
    let requests = json!([{ "node": "b", "intent": second, "gates": ["call_entity"] }]);
    let wards = Wards { max_turns: Some(9), max_depth: Some(3), ..Wards::default() };
    let (outcome, loom) = parent(a, wards, Vec::new(), requests).await;
    assert_eq!(batch(a, loom), vec![json!("on b")]);
    assert_eq!(outcome.spent.children, 3, "spent budgets return: {outcome:?}");
    let tree = a.runtime.tree(loom).unwrap();
    let depths: Vec<(u32, String)> =
        tree.entities().map(|(_, view)| (view.opened.depth, view.opened.node.clone())).collect();
    let (on_a, on_b) = (a.address.to_string(), b.address.to_string());
    assert_eq!(depths, vec![(0, on_a.clone()), (1, on_b.clone()), (2, on_a), (3, on_b)]);
    let traces: std::collections::BTreeSet<String> =
        tree.entities().filter_map(|(_, view)| view.opened.trace.clone()).collect();
    assert_eq!(traces.len(), 1, "one trace");
    let refusal =
        tree.turns().iter().flat_map(|turn| turn.gates.clone()).find(|gate| gate.arguments == json!({"intent": "x"}));
    assert!(refusal.unwrap().result.unwrap().unwrap_err().message().contains("max_depth"));
    clean(a);
    clean(b);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_over_nodes_answers_in_order_and_hides_nothing() {
    let net = net(&["a", "b", "c"], |name, host| {
        if name == "c" {
            host.change("a", |_, ceiling| ceiling.cast = false);
        }
    })
    .await;
    let a = &net.nodes[0];
    let say = |word: &str, wait: u64| script(json!([{ "wait_ms": wait, "done": word }]));
    let requests = json!([
        { "node": "b", "intent": say("slow", 200), "gates": [] },
        { "node": "c", "intent": say("no", 0), "gates": [] },
        { "intent": say("here", 0), "gates": [] },
        { "node": "nowhere", "intent": say("no", 0), "gates": [] },
        { "node": ["c", "b"], "intent": say("b or c", 0), "gates": ["echo"] },
        { "node": "any", "intent": say("any", 0), "gates": ["deed"] },
    ]);
    let (_, loom) = parent(a, turns(9), Vec::new(), requests).await;
    let answers = batch(a, loom);
    assert_eq!((&answers[0], &answers[2]), (&json!("slow"), &json!("here")));
    let error = |at: usize| answers[at]["error"].as_str().unwrap_or_else(|| panic!("{answers:?}")).to_owned();
    assert!(error(1).contains("peers.a.may") && answers[1]["kind"] == "denied", "{}", error(1));
    assert!(error(3).contains("there is no node `nowhere`") && answers[3]["kind"] == "not_found", "{}", error(3));
    assert_eq!((&answers[4], &answers[5]), (&json!("b or c"), &json!("any")), "whoever would refuse is not chosen");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_the_rule_and_what_would_be_granted() {
    let net = net(&["a", "b"], |_, _| {}).await;
    let a = &net.nodes[0];
    let refused = async |change: &dyn Fn(&mut CantripOrder)| {
        let mut cantrip = remote(&["echo"], turns(5));
        change(&mut cantrip.order);
        match a.runtime.cast_at("b", cantrip, "[]", CastOptions::default()).await {
            Err(RemoteError::Peer(error @ PeerError::Refused { .. })) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let gate = refused(&|order| order.gates[0].name = "ecko".to_owned()).await;
    assert!(gate.contains("peers.a.gates") && gate.contains("did you mean `echo`") && gate.contains("deed"), "{gate}");
    let model = refused(&|order| order.model = ModelOrder::AtHost(Some("tolt".to_owned()))).await;
    assert!(model.contains("peers.a.models") && model.contains("did you mean `told`"), "{model}");
    let medium = refused(&|order| order.medium = Some("javascrip".to_owned())).await;
    assert!(medium.contains("there is no medium `javascrip`"), "{medium}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_listed_and_who_is_somebody_else_gets_nothing() {
    let net = net(&["a", "b"], |_, _| {}).await;
    let b = &net.nodes[1];
    let named = |name: &str| at(name, b.address.address());
    let nodes = |identity: Arc<Identity>, name: &str| {
        PeerNodes::new(vec![named(name)], Way::Tls { net: Arc::new(TcpNet), identity }, limits())
    };
    let order = order(remote(&[], turns(2)).order, &script(json!([{ "done": 1 }])));
    let home = Looking::default();
    let stranger = nodes(net.cluster.identity("mallory"), "b");
    let error = cast(&stranger, &order, &home).await.unwrap_err().to_string();
    assert!(error.contains("`mallory` is not listed") && error.contains("[peers.mallory]"), "{error}");
    let other_authority = nodes(Cluster::new().identity("a"), "b");
    let error = cast(&other_authority, &order, &home).await.unwrap_err();
    assert!(
        matches!(&error, PeerError::Unreachable { .. }) && error.to_string().contains(b.address.address()),
        "{error}"
    );
    // Who answers has to be who was called.
    let wrong_name = nodes(net.cluster.identity("a"), "c");
    let error = wrong_name.describe("c").await.unwrap_err();
    assert!(
        matches!(&error, PeerError::Unreachable { .. }) && error.to_string().contains("not valid for name"),
        "{error}"
    );
    let unknown = net.nodes[0].peers.describe("agentss").await.unwrap_err();
    assert!(matches!(unknown, PeerError::Unknown { .. }), "{unknown}");
    assert!(b.store.looms().unwrap().is_empty(), "nothing ran");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_down_and_who_never_answers_is_an_ordinary_error_in_time() {
    let net = net(&["a"], |_, _| {}).await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let wedged = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let down = free.local_addr().unwrap().to_string();
    drop(free);
    let short = cantrip_runtime::adapters::peer::PeerLimits {
        connect: Duration::from_millis(300),
        rpc: Duration::from_millis(500),
        lease: Duration::from_secs(1),
    };
    let others = vec![at("down", &down), at("wedged", &wedged.local_addr().unwrap().to_string())];
    let way = Way::Tls { net: Arc::new(TcpNet), identity: net.cluster.identity("a") };
    let peers = PeerNodes::new(others, way, short);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let runtime = Runtime::new(MemoryStore::with_key(key()), Arc::new(NoMedia), clock, "a@here:1").with_peers(peers);
    let cantrip =
        Cantrip::builder().llm(told()).delegation().gate(builtin::done()).wards(&turns(5)).build(&NoMedia).unwrap();
    let ask = |node: &str| json!({ "node": node, "intent": "[]", "gates": [] });
    let intent = script(
        json!([{ "call": "call_entity_batch", "args": { "requests": [ask("down"), ask("wedged")] } }, { "done": 1 }]),
    );
    let mut entity = runtime.summon(&cantrip, CastOptions::default()).unwrap();
    let outcome = tokio::time::timeout(Duration::from_secs(20), entity.send(&intent)).await.unwrap().unwrap();
    assert_eq!(outcome.result, Some(json!(1)));
    let tree = runtime.tree(entity.loom()).unwrap();
    let Some(Ok(Value::Array(answers))) = tree.turns()[0].gates[0].result.clone() else { panic!() };
    let text = |at: usize| answers[at]["error"].as_str().unwrap().to_owned();
    assert!(text(0).contains("could not be reached") && text(0).contains(&down), "{}", text(0));
    assert!(text(1).contains("did not answer within 300 ms (connect_timeout_ms)"), "{}", text(1));
    assert_eq!(answers[1]["kind"], "timed_out");
    // What was set aside for them came back.
    assert_eq!(outcome.spent.gate_calls, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_shuts_down_lets_what_runs_end_and_takes_nothing_more() {
    let mut net = net(&["a", "b"], |_, _| {}).await;
    let b = net.nodes.remove(1);
    let a = &net.nodes[0];
    let (runtime, stop) = (a.runtime.clone(), b.stop.clone());
    let running = tokio::spawn(async move {
        let intent = script(json!([{ "wait_ms": 2_500, "done": "in time" }]));
        runtime.cast_at("b", remote(&[], turns(3)), &intent, CastOptions::default()).await
    });
    while b.casts.running() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.cancel();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let late =
        a.runtime.cast_at("b", remote(&[], turns(3)), &script(json!([{ "done": 1 }])), CastOptions::default()).await;
    let late = late.unwrap_err().to_string();
    assert!(late.contains("shutting down"), "{late}");
    assert_eq!(running.await.unwrap().unwrap().result, Some(json!("in time")));
    b.stopped().await;
    let gone = a.runtime.cast_at("b", remote(&[], turns(3)), "[]", CastOptions::default()).await;
    assert!(matches!(gone, Err(RemoteError::Peer(PeerError::Unreachable { .. }))), "{gone:?}");
    assert!(matches!(
        a.runtime.cast_at("b", remote(&[], turns(3)), " ", CastOptions::default()).await,
        Err(RemoteError::Cast(CastError::NoIntent))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_casts_wait_and_then_are_refused() {
    let net = net(&["a", "b"], |name, host| {
        if name == "b" {
            host.change("a", |terms, _| terms.slots = cantrip_runtime::driver::Slots::new(1, 1));
        }
    })
    .await;
    let a = &net.nodes[0];
    let cast = |word: &'static str| {
        let runtime = a.runtime.clone();
        async move {
            let intent = script(json!([{ "wait_ms": 1_500, "done": word }]));
            runtime.cast_at("b", remote(&[], turns(3)), &intent, CastOptions::default()).await
        }
    };
    let first = tokio::spawn(cast("first"));
    while net.nodes[1].casts.running() < 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let second = tokio::spawn(cast("second"));
    while net.nodes[1].casts.running() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let third = cast("third").await.unwrap_err().to_string();
    assert!(third.contains("1 casts run and 1 wait") && third.contains("concurrent_casts"), "{third}");
    assert_eq!(first.await.unwrap().unwrap().result, Some(json!("first")));
    assert_eq!(second.await.unwrap().unwrap().result, Some(json!("second")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_version_is_told_from_one_that_is_down() {
    let net = net(&["a"], |_, _| {}).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = at("later", &listener.local_addr().unwrap().to_string());
    let connections = over_tls(listener, net.cluster.identity("later"));
    let connections = futures_util::StreamExt::map(connections, |(io, _)| Ok::<_, std::io::Error>(Plain(io)));
    // It speaks gRPC and has the certificate, and knows nothing of cantrip.v1.
    let (_, health) = tonic_health::server::health_reporter();
    tokio::spawn(tonic::transport::Server::builder().add_service(health).serve_with_incoming(Box::pin(connections)));
    let way = Way::Tls { net: Arc::new(TcpNet), identity: net.cluster.identity("a") };
    let peers = PeerNodes::new(vec![other], way, limits());
    let error = peers.describe("later").await.unwrap_err().to_string();
    assert!(error.contains("does not speak cantrip.v1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_with_the_caller_stays_there_for_every_send() {
    let net = net(&["a", "b"], |_, _| {}).await;
    let (a, here) = (&net.nodes[0], Deeds::default());
    let mut cantrip = remote(&[], turns(9));
    let gate = here.gate("near");
    cantrip.order.gates.push(GateOrder { name: "near".to_owned(), at_caller: Some(gate.spec().clone()) });
    cantrip.gates.push(gate);
    cantrip.order.model =
        ModelOrder::AtCaller { name: "told".to_owned(), context_tokens: None, can_require_calls: true };
    cantrip.llm = Some(told());
    let mut entity = a.runtime.summon_at("b", cantrip, CastOptions::default()).unwrap();
    for send in 1..4 {
        let intent = script(json!([{ "call": "near", "args": { "deed": send.to_string() } }, { "done": send }]));
        let outcome = tokio::time::timeout(Duration::from_secs(20), entity.send(&intent)).await.unwrap().unwrap();
        assert_eq!((outcome.result, here.count(&send.to_string())), (Some(json!(send)), 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_change_are_used_without_a_restart() {
    let (authority, key) = make_authority().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [ca, certificate, own] = ["ca.pem", "node.pem", "node.key"].map(|name| folder.path().join(name));
    let write = |name: &str| {
        let (pem, secret) = make_certificate(&key, &name.parse().unwrap()).unwrap();
        std::fs::write(&ca, &authority).unwrap();
        std::fs::write(&certificate, pem).unwrap();
        std::fs::write(&own, secret).unwrap();
    };
    write("first");
    let identity = Arc::new(Identity::from_files(&ca, &certificate, &own).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let connections = over_tls(listener, identity);
    let connections = futures_util::StreamExt::map(connections, |(io, _)| Ok::<_, std::io::Error>(Plain(io)));
    let (_, health) = tonic_health::server::health_reporter();
    tokio::spawn(tonic::transport::Server::builder().add_service(health).serve_with_incoming(Box::pin(connections)));
    let (pem, secret) = make_certificate(&key, &"client".parse().unwrap()).unwrap();
    let client = Arc::new(Identity::from_pem(&authority, &pem, &secret).unwrap());
    let is_named = async |name: &str| {
        let peer = at(name, &address);
        let way = Way::Tls { net: Arc::new(TcpNet), identity: Arc::clone(&client) };
        let error = PeerNodes::new(vec![peer], way, limits()).describe(name).await.unwrap_err().to_string();
        // Whoever is reached is no node at all: that it answers shows that its name was right.
        error.contains("does not speak")
    };
    assert!(is_named("first").await && !is_named("second").await);
    write("second");
    assert!(is_named("second").await && !is_named("first").await);
    // Half of a renewal: the old one stays in force.
    std::fs::write(&certificate, "nothing").unwrap();
    assert!(is_named("second").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_wait_for_each_other_in_a_ring_do_not_wait_for_ever() {
    let net = net(&["a", "b"], |_, host| {
        let peer = host.peers.keys().next().unwrap().to_string();
        host.change(&peer, |terms, _| terms.slots = cantrip_runtime::driver::Slots::new(1, 8));
    })
    .await;
    let a = &net.nodes[0];
    // a → b → a → b, where b has room for one cast of a's, and that is the first.
    let last = json!({ "node": "b", "intent": script(json!([{ "done": "x" }])), "gates": [] });
    let third = json!({ "node": "a", "intent": script(json!([{ "call": "call_entity", "args": last }, { "done": "back" }])), "gates": ["call_entity"] });
    let second = script(json!([{ "call": "call_entity", "args": third }, { "done": "on b" }]));
    let requests = json!([{ "node": "b", "intent": second, "gates": ["call_entity"] }]);
    let wards = Wards { max_turns: Some(9), max_depth: Some(4), ..Wards::default() };
    let (_, loom) =
        tokio::time::timeout(Duration::from_secs(30), parent(a, wards, Vec::new(), requests)).await.unwrap();
    assert_eq!(batch(a, loom), vec![json!("on b")]);
    let refused = a.runtime.tree(loom).unwrap().turns().iter().flat_map(|turn| turn.gates.clone()).any(
        |gate| matches!(&gate.result, Some(Err(error)) if error.message().contains("no cast ended within 4000 ms")),
    );
    assert!(refused);
}
