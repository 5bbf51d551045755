//! A caller that was stopped and goes on has everything of the children that run elsewhere (`membership.md` 7.3, 10.1).

use cantrip_runtime::domain::members::{Principal, Right, Rights};
use cantrip_runtime::export::car;

use super::*;

/// A parent on a node whose child runs elsewhere, stopped as soon as the child has done its first deed, and the process that goes on
/// with it.
struct Stopped {
    cantrip: Cantrip,
    again: Runtime,
    root: (LoomId, EntityId),
}

fn family(net: &Net) -> Cantrip {
    let builder = Cantrip::builder().llm(told()).delegation().gate(builtin::done()).gate(net.deeds.gate("deed"));
    let wards = Wards { max_turns: Some(60), max_tokens: Some(10_000), ..Wards::default() };
    builder.wards(&wards).build(&NoMedia).unwrap()
}

fn another_process(node: &Node) -> Runtime {
    let clock = Arc::new(SystemClock::default());
    let runtime = Runtime::new(Arc::clone(&node.store), Arc::new(NoMedia), clock, node.address.to_string());
    runtime.with_peers(Arc::clone(&node.peers) as _)
}

/// A parent that runs.
struct Begun {
    stopped: Stopped,
    running: tokio::task::JoinHandle<Result<Outcome, CastError>>,
}

async fn begin_in(net: &Net, loom: Option<LoomId>, place: Value, child: Value) -> Begun {
    let (a, cantrip) = (&net.nodes[0], family(net));
    let mut request = json!({ "intent": script(child), "gates": ["deed"] });
    if !place.is_null() {
        request["node"] = place;
    }
    let intent = script(json!([
        { "call": "deed", "args": { "deed": "before" } },
        { "call": "call_entity_batch", "args": { "requests": [request] } },
        { "call": "deed", "args": { "deed": "after" } },
        { "done": "all" }
    ]));
    let options = CastOptions { loom, ..CastOptions::default() };
    let mut entity = a.runtime.summon(&cantrip, options).unwrap();
    let root = (entity.loom(), entity.entity());
    let running = tokio::spawn(async move { entity.send(&intent).await });
    while net.deeds.count("first") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Until what shows it is with the caller.
    tokio::time::sleep(Duration::from_millis(50)).await;
    Begun { stopped: Stopped { cantrip, again: another_process(a), root }, running }
}

async fn stop_in(net: &Net, loom: Option<LoomId>, place: Value, child: Value) -> Stopped {
    let Begun { stopped, running } = begin_in(net, loom, place, child).await;
    // The task is dropped where it stands, as a kill would.
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    stopped
}

async fn stop_in_the_middle(net: &Net, place: Value, child: Value) -> Stopped {
    stop_in(net, None, place, child).await
}

async fn go_on(stopped: &Stopped) -> Outcome {
    let (loom, entity) = stopped.root;
    let mut entity = stopped.again.resume(&stopped.cantrip, loom, entity, &CastOptions::default()).unwrap();
    assert!(entity.is_unfinished());
    entity.go_on().await.unwrap()
}

fn slow(wait_ms: u64) -> Value {
    json!([
        { "call": "deed", "args": { "deed": "first" } },
        { "call": "deed", "args": { "deed": "second" }, "wait_ms": wait_ms },
        { "done": 7 }
    ])
}

fn each_once(net: &Net) {
    for deed in ["before", "first", "second", "after"] {
        assert_eq!(net.deeds.count(deed), 1, "{deed}");
    }
}

/// The child's entries here, and where it runs.
fn whole(net: &Net, stopped: &Stopped) {
    let tree = stopped.again.tree(stopped.root.0).unwrap();
    assert_eq!(tree.entities().count(), 2, "one child, whatever was asked for again");
    let (child, view) = tree.entities().nth(1).unwrap();
    let host = net.nodes.iter().find(|node| node.address.to_string() == view.opened.node).unwrap();
    let ids = |store: &dyn LoomStore| store.entries_of(child).unwrap().iter().map(|it| it.id).collect::<Vec<_>>();
    assert_eq!(ids(&*net.nodes[0].store), ids(&*host.store));
    let (a, loom) = (&net.nodes[0], stopped.root.0);
    let settled = a.store.entries(loom).unwrap();
    let settled = settled.iter().filter(|sealed| matches!(sealed.entry.body, Body::Settled(_))).count();
    assert_eq!(settled, 1, "the cast is over, and said to be so once");
    net.nodes.iter().for_each(clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_was_stopped_joins_the_child_that_runs_elsewhere() {
    let net = net(&["a", "b"], |_, _| {}).await;
    let stopped = stop_in_the_middle(&net, json!("b"), slow(700)).await;
    let outcome = go_on(&stopped).await;
    assert_eq!(answers(&stopped), vec![json!(7)]);
    assert_eq!((&outcome.result, outcome.spent.children), (&Some(json!("all")), 1));
    assert_eq!((outcome.spent.gate_calls, outcome.spent.children_usage.total()), (7, 45));
    each_once(&net);
    whole(&net, &stopped);
    assert_eq!(answers(&stopped), vec![json!(7)]);
}

/// What the parent's batch returned.
fn answers(stopped: &Stopped) -> Vec<Value> {
    let tree = stopped.again.tree(stopped.root.0).unwrap();
    let gates = tree.thread(stopped.root.1).unwrap().into_iter().flat_map(|turn| turn.gates);
    let batch = gates.into_iter().find(|run| run.gate == "call_entity_batch").unwrap();
    batch.result.unwrap().unwrap().as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_was_stopped_gets_the_end_that_came_in_the_meantime() {
    let net = net(&["a", "b"], |_, _| {}).await;
    let stopped = stop_in_the_middle(&net, json!("b"), slow(150)).await;
    while net.deeds.count("second") == 0 || net.nodes[1].casts.running() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    go_on(&stopped).await;
    each_once(&net);
    whole(&net, &stopped);
    assert_eq!(answers(&stopped), vec![json!(7)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_could_run_anywhere_is_asked_for_where_it_runs() {
    for _ in 0..3 {
        let net = net(&["a", "b", "c", "d"], |_, _| {}).await;
        let stopped = stop_in_the_middle(&net, json!("any"), slow(300)).await;
        // Whoever has less to do would be chosen now.
        go_on(&stopped).await;
        each_once(&net);
        whole(&net, &stopped);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_gone_leaves_its_part_of_the_budget_set_aside() {
    let mut net = net(&["a", "b"], |_, _| {}).await;
    let stopped = stop_in_the_middle(&net, json!("b"), slow(60_000)).await;
    let host = net.nodes.pop().unwrap();
    host.casts.shut_down(Duration::ZERO).await;
    drop(host);
    let outcome = go_on(&stopped).await;
    assert_eq!(outcome.result, Some(json!("all")), "{outcome:?}");
    let entries = net.nodes[0].store.entries_of(stopped.root.1).unwrap();
    let mut standing = entries.iter().filter_map(|sealed| match &sealed.entry.body {
        Body::Observation(seen) => seen.standing.as_deref(),
        _ => None,
    });
    let last = standing.next_back().unwrap();
    assert_eq!((last.reserves.len(), last.reserves[0].tokens > 1_000), (1, true), "{last:?}");
}

/// Three nodes with stores of the test's own: `founder` founds the loom, in which `a` may write and `c` may adopt.
async fn three(founder: usize) -> (Net, [Arc<MemoryStore>; 3], LoomId) {
    let stores = [(); 3].map(|()| MemoryStore::with_key(key()));
    let names = ["a", "b", "c"];
    let of = |name: &str| names.iter().position(|other| *other == name).map(|at| Arc::clone(&stores[at]) as _);
    let net = net_with(&names, |_, _| {}, of).await;
    let loom = net.nodes[founder].runtime.found().unwrap();
    let rights = [Right::Write, Right::Adopt].into_iter().collect::<Rights>();
    for (at, store) in stores.iter().enumerate().filter(|(at, _)| *at != founder && *at != 1) {
        let principal = Principal::Key(store.writer());
        net.nodes[founder].runtime.admit(loom, principal, rights.clone(), None).await.unwrap();
        hand_over(&stores[founder], &stores[at], loom);
    }
    (net, stores, loom)
}

/// Gives a node what another has of a loom.
fn hand_over(from: &MemoryStore, to: &MemoryStore, loom: LoomId) {
    let mut bytes = Vec::new();
    car::write(from, loom, &mut bytes).unwrap();
    car::import(to, &mut std::io::Cursor::new(bytes)).unwrap();
}

/// What `a` has begun, `c` goes on with.
async fn adopted(net: &Net, begun: &Stopped) -> Result<Outcome, CastError> {
    let (c, (loom, parent)) = (&net.nodes[2], begun.root);
    c.runtime.adopt(loom, parent, false).await.unwrap();
    let mut entity = c.runtime.resume(&family(net), loom, parent, &CastOptions::default()).unwrap();
    entity.go_on().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adopter_has_the_children_that_run_elsewhere() {
    for founder in [0, 2] {
        let (net, stores, loom) = three(founder).await;
        let stopped = stop_in(&net, Some(loom), json!("b"), slow(800)).await;
        hand_over(&stores[0], &stores[2], loom);
        let outcome = adopted(&net, &stopped).await.unwrap();
        assert_eq!(outcome.result, Some(json!("all")), "{outcome:?}");
        each_once(&net);
        let tree = net.nodes[2].runtime.tree(loom).unwrap();
        let (child, view) = tree.entities().nth(1).unwrap();
        assert_eq!((tree.entities().count(), view.opened.caller.is_some()), (2, true));
        let ids = |store: &MemoryStore| store.entries_of(child).unwrap().iter().map(|it| it.id).collect::<Vec<_>>();
        assert_eq!(ids(&stores[2]), ids(&stores[1]));
        assert_eq!(outcome.spent.children_usage.total(), 45);
        // Its former owner, which knows nothing of it, gets nothing more of the child.
        let late = go_on(&stopped).await;
        let tree = stopped.again.tree(loom).unwrap();
        let gates = tree.thread(stopped.root.1).unwrap().into_iter().flat_map(|turn| turn.gates);
        let batch = gates.into_iter().find(|run| run.gate == "call_entity_batch").unwrap();
        let said = batch.result.unwrap().unwrap()[0]["error"].to_string();
        assert!(said.contains("c has adopted whoever had it cast here"), "{said}, {late:?}");
        clean(&net.nodes[2]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_owner_that_still_waits_is_told_who_has_the_child_now() {
    let (net, stores, loom) = three(2).await;
    let begun = begin_in(&net, Some(loom), json!("b"), slow(1_500)).await;
    hand_over(&stores[0], &stores[2], loom);
    let outcome = adopted(&net, &begun.stopped).await.unwrap();
    assert_eq!(outcome.result, Some(json!("all")), "{outcome:?}");
    let former = begun.running.await.unwrap().unwrap();
    assert_eq!(former.result, Some(json!("all")));
    let tree = net.nodes[0].runtime.tree(loom).unwrap();
    let gates = tree.thread(begun.stopped.root.1).unwrap().into_iter().flat_map(|turn| turn.gates);
    let batch = gates.into_iter().find(|run| run.gate == "call_entity_batch").unwrap();
    let said = batch.result.unwrap().unwrap()[0]["error"].to_string();
    assert!(said.contains("c has adopted whoever had it cast here"), "{said}");
    assert_eq!((net.deeds.count("first"), net.deeds.count("second")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_gets_a_child_by_an_adoption() {
    let (net, stores, loom) = three(2).await;
    let stopped = stop_in(&net, Some(loom), json!("b"), slow(3_000)).await;
    hand_over(&stores[0], &stores[2], loom);
    let c = &net.nodes[2];
    c.runtime.adopt(loom, stopped.root.1, false).await.unwrap();
    // Another node shows the very same.
    let cluster = &net.cluster;
    let thief = Runtime::new(Arc::clone(&c.store), Arc::new(NoMedia), Arc::new(SystemClock::default()), "a@h:1");
    let way = Way::Tls { net: Arc::new(TcpNet), identity: cluster.identity("a") };
    let thief = thief.with_peers(PeerNodes::new(vec![net.nodes[1].address.clone()], way, limits()) as _);
    let mut entity = thief.resume(&family(&net), loom, stopped.root.1, &CastOptions::default()).unwrap();
    entity.go_on().await.unwrap();
    let tree = thief.tree(loom).unwrap();
    let gates = tree.thread(stopped.root.1).unwrap().into_iter().flat_map(|turn| turn.gates);
    let batch = gates.into_iter().find(|run| run.gate == "call_entity_batch").unwrap();
    let said = batch.result.unwrap().unwrap()[0]["error"].to_string();
    assert!(said.contains("the order shows that c has adopted") && said.contains("comes from a"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adopter_goes_on_with_the_children_that_ran_beside_their_parent() {
    let (net, stores, loom) = three(0).await;
    let stopped = stop_in(&net, Some(loom), Value::Null, slow(60_000)).await;
    net.nodes[0].store.sync(loom).await.unwrap();
    hand_over(&stores[0], &stores[2], loom);
    let (c, child) = (&net.nodes[2], net.nodes[2].runtime.tree(loom).unwrap().entities().nth(1).unwrap().0);
    let adopting = adopted(&net, &stopped);
    tokio::pin!(adopting);
    let is_gone_on_with = async {
        while c.runtime.tree(loom).unwrap().owner(child).map(|owner| owner.writer) != Some(c.store.writer()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        ended = &mut adopting => panic!("{ended:?}"),
        () = is_gone_on_with => {}
    }
    assert_eq!(c.runtime.tree(loom).unwrap().entities().count(), 2, "no child is cast in its place");
    assert_eq!((net.deeds.count("first"), net.deeds.count("second")), (1, 0));
}
