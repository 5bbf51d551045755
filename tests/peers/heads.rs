//! What comes of a cast elsewhere comes under its writers' word: a host signs what it wrote of the cast, over all its episodes and
//! nothing else of the loom, and who is asked by a host signs for itself.

use cantrip_runtime::domain::loom::Sealed;
use cantrip_runtime::domain::remote::{Credentials, Order};
use cantrip_runtime::ports::Peers;

use super::*;
use crate::cheating::Showing;
use crate::peer_support::{host_admitted, log_by_hand};

/// How far a node's own log is with a cast.
fn unit(node: &Node, loom: LoomId, cast: EntityId) -> CastChain {
    let mut unit = CastUnit::of(cast);
    for (_, sealed) in node.store.recorded(loom, By::ThisNode, 0, usize::MAX).unwrap() {
        unit.takes(&sealed);
    }
    unit.at()
}

/// The newest heads that a node has of what came from others: whose, of which cast, and how far.
fn heads(node: &Node, loom: LoomId) -> Vec<(WriterKey, EntityId, CastChain)> {
    let mut heads = node.store.cast_heads(loom).unwrap();
    assert!(heads.iter().all(CastHead::is_signed));
    heads.sort_unstable();
    heads.into_iter().map(|head| (head.writer, head.cast, head.at)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_signs_with_each_batch_all_that_it_has_told_and_has_on_disk() {
    let net = net(&["a", "b"], |_, _| {}).await;
    let b = &net.nodes[1];
    let slow = json!([{ "call": "deed", "args": { "deed": "1" } }, { "wait_ms": 300, "call": "deed", "args": { "deed": "2" } },
        { "wait_ms": 300, "done": "told" }]);
    let (order, home) = (order(remote(&["deed"], turns(5)).order, &script(slow)), Looking::default());
    cast(&net.nodes[0].peers, &order, &home).await.unwrap();
    let (told, steps) = (home.0.into_inner().unwrap(), home.1.into_inner().unwrap());
    assert!(steps.len() > 2, "a head comes before the end, and not only with it: {}", steps.len());
    let (mut signed, mut from) = (CastUnit::of(order.entity), 0);
    for (come, heads) in &steps {
        assert!(told[from..*come].iter().all(|sealed| signed.takes(sealed)));
        from = *come;
        let [head] = heads.as_slice() else { panic!("{heads:?}") };
        assert_eq!((head.writer, head.loom, head.cast), (b.store.writer(), order.loom, order.entity));
        assert!(head.is_signed() && head.at == signed.at(), "over exactly what was told");
    }
    assert_eq!((from, signed.at()), (told.len(), unit(b, order.loom, order.entity)), "nothing is left without");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cast_is_its_root_entity_over_all_its_episodes() {
    let net = net(&["a", "b"], |_, _| {}).await;
    let (a, b) = (&net.nodes[0], &net.nodes[1]);
    let mut entity = a.runtime.summon_at("b", remote(&["deed"], turns(9)), CastOptions::default()).unwrap();
    let mut last = 0;
    for episode in ["one", "two", "three"] {
        let outcome = entity.send(&script(json!([{ "done": episode }]))).await.unwrap();
        assert_eq!(outcome.how, How::Terminated);
        let at = unit(b, entity.loom(), entity.entity());
        assert_eq!(heads(a, entity.loom()), vec![(b.store.writer(), entity.entity(), at)]);
        assert!(at.place > last);
        last = at.place;
    }
    clean(a);
}

/// A cast from `a` at `b`, which has a part of it done at `c`: the loom, and what the child answered.
async fn over_three(a: &Node) -> (LoomId, Value) {
    let last = script(json!([{ "done": "on c" }]));
    let second =
        script(json!([{ "call": "call_entity", "args": { "node": "c", "intent": last } }, { "done": "on b" }]));
    let requests = json!([{ "node": "b", "intent": second, "gates": ["call_entity"] }]);
    let wards = Wards { max_turns: Some(9), max_depth: Some(3), ..Wards::default() };
    let (_, loom) = parent(a, wards, Vec::new(), requests).await;
    (loom, batch(a, loom).swap_remove(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_third_node_wrote_comes_with_its_own_word() {
    let net = net(&["a", "b", "c"], |_, _| {}).await;
    let (a, b, c) = (&net.nodes[0], &net.nodes[1], &net.nodes[2]);
    let (loom, answer) = over_three(a).await;
    assert_eq!(answer, json!("on b"));
    let tree = a.runtime.tree(loom).unwrap();
    let children: Vec<EntityId> = tree.entities().skip(1).map(|(entity, _)| entity).collect();
    let on = |node: &Node, cast: EntityId| (node.store.writer(), cast, unit(node, loom, cast));
    let mut expected = vec![on(b, children[0]), on(c, children[1])];
    expected.sort_unstable();
    assert_eq!(heads(a, loom), expected);
    assert_eq!(heads(b, loom), vec![on(c, children[1])], "it is handed on as it came");
    assert!(heads(c, loom).is_empty());
    clean(a);
    clean(b);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_between_cannot_change_what_a_third_one_wrote() {
    let third = key();
    let writer = third.writer();
    let lying: Arc<dyn LoomStore> = strange(move |sealed| {
        if sealed.entry.writer != writer || !matches!(sealed.entry.body, Body::Ended(_)) {
            return sealed;
        }
        let mut entry = sealed.entry.clone();
        entry.at_us += 1;
        Sealed::new(entry, Vec::new()).unwrap()
    });
    let honest: Arc<dyn LoomStore> = MemoryStore::with_key(third);
    let stores = |name: &str| match name {
        "b" => Some(Arc::clone(&lying)),
        "c" => Some(Arc::clone(&honest)),
        _ => None,
    };
    let net = net_with(&["a", "b", "c"], |_, _| {}, stores).await;
    let (loom, answer) = over_three(&net.nodes[0]).await;
    let said = answer["error"].as_str().unwrap();
    assert!(said.contains("leads to entry") && said.contains("by another way"), "{said}");
    // What came before under heads of its own is as it was written; of the rest nothing is recorded.
    let kept = net.nodes[0].store.entries(loom).unwrap();
    let of_third = kept.iter().filter(|sealed| sealed.entry.writer == writer).collect::<Vec<_>>();
    assert!(of_third.iter().all(|sealed| honest.entry(sealed.id).unwrap().is_some()), "{of_third:?}");
    assert!(of_third.iter().all(|sealed| !matches!(sealed.entry.body, Body::Ended(_))), "{of_third:?}");
    clean(&net.nodes[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_of_a_cast_has_its_family_and_nothing_else_of_the_loom() {
    let net = net(&["a", "b"], |_, _| {}).await;
    let (a, b) = (&net.nodes[0], &net.nodes[1]);
    let below = script(json!([{ "done": "below" }]));
    let intent = script(json!([{ "call": "call_entity", "args": { "intent": below } }, { "done": "with a child" }]));
    let wards = Wards { max_depth: Some(2), ..turns(5) };
    let one = order(remote(&["call_entity"], wards).order, &intent);
    let other = Order { loom: one.loom, ..order(remote(&[], turns(5)).order, &script(json!([{ "done": "alone" }]))) };
    let host = |order: &Order| host_admitted(order.entity, order.minted.unwrap(), b.store.writer());
    let proofs = log_by_hand(one.loom, one.minted.unwrap().nonce, vec![host(&one), host(&other)]);
    let credentials = Arc::new(Credentials { proofs, attestations: Vec::new() });
    let homes = [Looking::default(), Looking::default()];
    for (order, home) in [&one, &other].into_iter().zip(&homes) {
        let order = Order { credentials: Arc::clone(&credentials), ..order.clone() };
        a.peers.cast("b", &order, home).await.unwrap();
    }
    let told = homes.map(|home| home.0.into_inner().unwrap());
    let of = |sealed: &[Sealed]| -> std::collections::BTreeSet<Option<EntityId>> {
        sealed.iter().map(|sealed| sealed.entry.entity).collect()
    };
    let child = told[0].iter().find_map(|sealed| match &sealed.entry.body {
        Body::Opened(opened) if opened.spawned_by == Some(one.entity) => sealed.entry.entity,
        _ => None,
    });
    assert_eq!(of(&told[0]), [Some(one.entity), Some(child.unwrap())].into());
    assert_eq!(of(&told[1]), [Some(other.entity)].into());
    let whole = b.store.recorded(one.loom, By::ThisNode, 0, usize::MAX).unwrap().len();
    assert_eq!(told[0].len() + told[1].len(), whole, "all of it is somebody's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_joins_anew_is_told_what_it_has_no_word_for_and_no_more() {
    let net = net(&["a", "b"], |_, _| {}).await;
    let a = &net.nodes[0];
    let intent = script(json!([{ "call": "deed", "args": { "deed": "1" } }, { "wait_ms": 200, "done": "all" }]));
    let (order, first) = (order(remote(&["deed"], turns(5)).order, &intent), Looking::default());
    cast(&a.peers, &order, &first).await.unwrap();
    let (told, steps) = (first.0.into_inner().unwrap(), first.1.into_inner().unwrap());
    assert!(steps.len() > 1);
    for (come, heads) in steps {
        let again = Showing(heads, Looking::default());
        a.peers.cast("b", &order, &again).await.unwrap();
        let left: Vec<EntryId> = again.1.0.into_inner().unwrap().iter().map(|sealed| sealed.id).collect();
        assert_eq!(left, told[come..].iter().map(|sealed| sealed.id).collect::<Vec<_>>());
    }
}
