//! A caller that was stopped and goes on has everything of the children that run elsewhere (`membership.md` 7.3, 10.1).

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

async fn stop_in_the_middle(net: &Net, place: Value, child: Value) -> Stopped {
    let (a, cantrip) = (&net.nodes[0], family(net));
    let mut request = json!({ "intent": script(child), "gates": ["deed"] });
    request["node"] = place;
    let intent = script(json!([
        { "call": "deed", "args": { "deed": "before" } },
        { "call": "call_entity_batch", "args": { "requests": [request] } },
        { "call": "deed", "args": { "deed": "after" } },
        { "done": "all" }
    ]));
    let mut entity = a.runtime.summon(&cantrip, CastOptions::default()).unwrap();
    let root = (entity.loom(), entity.entity());
    let running = tokio::spawn(async move { entity.send(&intent).await.map(drop) });
    while net.deeds.count("first") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The task is dropped where it stands, as a kill would.
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    Stopped { cantrip, again: another_process(a), root }
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
    let standing = entries.iter().filter_map(|sealed| match &sealed.entry.body {
        Body::Observation(seen) => seen.standing.as_deref(),
        _ => None,
    });
    let last = standing.last().unwrap();
    assert_eq!((last.reserves.len(), last.reserves[0].tokens > 1_000), (1, true), "{last:?}");
}
