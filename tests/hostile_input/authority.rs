//! A name is not an authority: callers, places of calls, guests and nodes are types, and what is checked is what is dispatched.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cantrip_runtime::adapters::clock::SystemClock;
use cantrip_runtime::adapters::peer::{PeerNodes, TcpNet, Way, over_tls};
use cantrip_runtime::adapters::store::{MemoryStore, NodeKey};
use cantrip_runtime::adapters::wasm::Shelf;
use cantrip_runtime::domain::caller::Caller;
use cantrip_runtime::domain::copies::{CopyKind, Keeper, Keepers, Keeping, LoomCopies};
use cantrip_runtime::domain::end::EndReason;
use cantrip_runtime::domain::ids::{CastId, EntityId, LoomId, NodeAddress, NodeName};
use cantrip_runtime::domain::loom::{Body, CastHead, How, Sealed, Spent};
use cantrip_runtime::domain::model::{ModelError, Question, RawAnswer};
use cantrip_runtime::domain::outcome::Outcome;
use cantrip_runtime::domain::remote::ByHost;
use cantrip_runtime::domain::remote::{GateOrder, Onward, Order};
use cantrip_runtime::driver::{CastOptions, HostLimits};
use cantrip_runtime::ports::{BoxFuture, Home, HomeError, LoomStore, PeerError, Peers, Pieces, RemoteEnd, Signal};
use cantrip_runtime::{Cantrip, Exposure, GateError, GateName, GateSpec, NoMedia, Wards, builtin};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::node_support::{binary, port, text};
use crate::peer_support::{
    Cluster, Deeds, Node, Parts, TestHost, Told, at, cast_shown, ceiling, limits, minted_by_hand, number, remote, turns,
};

/// The gates that the runtime itself runs.
const RUNTIME_GATES: [&str; 5] = ["done", "call_entity", "call_entity_batch", "llm_query", "read_loom"];

pub(crate) fn spec(name: &str) -> GateSpec {
    GateSpec { name: GateName::parse(name).unwrap(), ..builtin::echo().spec().clone() }
}

/// A caller that gives nothing.
#[derive(Debug)]
struct Nobody;

impl Home for Nobody {
    fn named(&self, _: LoomId, _: EntityId) -> Result<(), HomeError> {
        Ok(())
    }

    fn receive(&self, _: Sealed) -> Result<(), HomeError> {
        Ok(())
    }

    fn cover(&self, _: Vec<CastHead>) -> Result<(), HomeError> {
        Ok(())
    }

    fn sync(&self) -> BoxFuture<'_, Result<(), HomeError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn is_watched(&self) -> bool {
        false
    }

    fn event(&self, _: cantrip_runtime::domain::event::Event) {}

    fn gate<'a>(&'a self, gate: &'a str, _: Value) -> BoxFuture<'a, Result<Value, GateError>> {
        Box::pin(std::future::ready(Ok(json!(format!("answered by the caller: {gate}")))))
    }

    fn ask<'a>(&'a self, _: &'a Question, _: &'a dyn Pieces) -> BoxFuture<'a, Result<RawAnswer, ModelError>> {
        Box::pin(std::future::ready(Err(ModelError::Setup { message: "nobody".to_owned() })))
    }

    fn guest<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Option<Vec<u8>>> {
        Box::pin(std::future::ready(None))
    }

    fn signal(&self) -> BoxFuture<'_, Signal> {
        Box::pin(std::future::pending())
    }
}

pub(crate) fn order(script: &Value) -> Order {
    let mut random = [7; 16];
    random[0] = u8::try_from(number() % 250).unwrap();
    let (loom, entity, minted) = minted_by_hand(1, random);
    Order {
        cast: CastId::from_parts(1, *random.first_chunk().unwrap()),
        loom,
        entity,
        minted: Some(minted),
        by_host: ByHost::Nothing,
        parent: None,
        spawned_by: None,
        depth: 0,
        cantrip: remote(&[], turns(9)).order,
        intent: script.to_string(),
        trace: None,
        deadline: None,
        lease: None,
        again: false,
        keep: false,
        fork: None,
        seen: Exposure::default(),
        credentials: Arc::default(),
        origins: Vec::new(),
    }
}

/// Nodes that list each other, each with a store of the test's own.
struct Net {
    cluster: Cluster,
    deeds: Deeds,
    nodes: Vec<Node>,
}

async fn net(names: &[&str], change: impl Fn(&str, &mut TestHost)) -> Net {
    let (cluster, deeds) = (Cluster::new(), Deeds::default());
    let mut listeners = Vec::new();
    for name in names {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listeners.push((at(name, &listener.local_addr().unwrap().to_string()), listener));
    }
    let all: Vec<NodeAddress> = listeners.iter().map(|(address, _)| address.clone()).collect();
    let mut nodes = Vec::new();
    for (address, listener) in listeners {
        let others: Vec<NodeAddress> = all.iter().filter(|other| **other != address).cloned().collect();
        let store = MemoryStore::with_key(NodeKey::from_secret(&[u8::try_from(number() % 250).unwrap(); 32]));
        nodes.push(node(&cluster, &deeds, (address, listener), others, store, &change));
    }
    Net { cluster, deeds, nodes }
}

fn node(
    cluster: &Cluster,
    deeds: &Deeds,
    (address, listener): (NodeAddress, TcpListener),
    others: Vec<NodeAddress>,
    store: Arc<MemoryStore>,
    change: &impl Fn(&str, &mut TestHost),
) -> Node {
    let mut host = TestHost::new(&others, vec![deeds.gate("deed")], Arc::new(Told(Arc::new(SystemClock::default()))));
    change(address.name().as_str(), &mut host);
    let identity = cluster.identity(address.name().as_str());
    let parts = Parts {
        store: store as Arc<dyn LoomStore>,
        clock: Arc::new(SystemClock::default()),
        media: Arc::new(NoMedia),
        way: Way::Tls { net: Arc::new(TcpNet), identity: Arc::clone(&identity) },
        limits: limits(),
        host_limits: HostLimits { queue: Duration::from_secs(4), ..HostLimits::default() },
        others,
        host,
        address,
    };
    Node::start(parts, over_tls(listener, identity))
}

/// The way of one node to another, by whatever name.
fn way(cluster: &Cluster, from: &str, to: &NodeAddress) -> Arc<PeerNodes> {
    let way = Way::Tls { net: Arc::new(TcpNet), identity: cluster.identity(from) };
    PeerNodes::new(vec![to.clone()], way, limits())
}

fn is_empty(node: &Node) -> bool {
    node.store.looms().unwrap().is_empty()
}

#[test]
fn a_gate_of_the_runtime_is_granted_at_no_caller_whatever_the_ceiling_says() {
    for name in RUNTIME_GATES {
        let mut order = order(&json!([]));
        order.cantrip.gates = vec![GateOrder { name: name.to_owned(), at_caller: Some(spec(name)) }];
        let refused = ceiling("a").grant(&order).unwrap_err().to_string();
        assert!(refused.contains(name) && refused.contains("runs where the entity runs"), "{refused}");
    }
    // A name that only looks like one is a gate of the caller's, and is called there.
    for name in ["Done", "call_entity_", "DONE", "_done"] {
        let mut order = order(&json!([]));
        order.cantrip.gates = vec![GateOrder { name: name.to_owned(), at_caller: Some(spec(name)) }];
        let granted = ceiling("a").grant(&order).unwrap();
        assert!(matches!(&granted.gates[..], [cantrip_runtime::domain::remote::GrantedGate::Caller(_)]), "{granted:?}");
    }
}

#[test]
fn a_gate_at_the_caller_is_named_as_it_is_declared_and_shadows_no_other() {
    let mut order = order(&json!([]));
    order.cantrip.gates = vec![GateOrder { name: "harmless".to_owned(), at_caller: Some(spec("call_entity")) }];
    let refused = ceiling("a").grant(&order).unwrap_err().to_string();
    assert!(refused.contains("`harmless` is declared as `call_entity`"), "{refused}");
    let near = GateOrder { name: "deed".to_owned(), at_caller: Some(spec("deed")) };
    let far = GateOrder { name: "deed".to_owned(), at_caller: None };
    for gates in [
        vec![near.clone(), far.clone()],
        vec![far.clone(), near.clone()],
        vec![near.clone(), near],
        vec![far.clone(), far],
    ] {
        order.cantrip.gates = gates;
        let refused = ceiling("a").grant(&order).unwrap_err().to_string();
        assert!(refused.contains("the gate `deed` is asked for twice"), "{refused}");
    }
}

#[test]
fn no_circle_holds_a_gate_of_the_runtime_that_runs_elsewhere() {
    for name in RUNTIME_GATES {
        let gate = cantrip_runtime::FunctionGate::new(spec(name), |_: Value| async { Ok(json!("mine")) });
        let told = Arc::new(Told(Arc::new(SystemClock::default())));
        let mut builder = Cantrip::builder().llm(told).wards(&turns(3)).gate_at_caller(Arc::new(gate));
        if name != "done" {
            builder = builder.gate(builtin::done());
        }
        let error = builder.build(&NoMedia).unwrap_err();
        let said = format!("{error}: {:?}", std::error::Error::source(&error));
        assert!(said.contains("cannot be placed at the caller") || said.contains("Elsewhere"), "{name}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_places_the_runtimes_gates_at_itself_is_refused_before_anything_is_recorded() {
    let net = net(&["a", "b"], |_, host| {
        let peer = host.peers.keys().next().unwrap().to_string();
        host.change(&peer, |_, ceiling| ceiling.gates = BTreeSet::from(["echo".to_owned()]));
    })
    .await;
    let b = &net.nodes[1];
    let peers = way(&net.cluster, "a", &b.address);
    for name in RUNTIME_GATES {
        let mut order = order(&json!([{ "call": name, "args": { "intent": "x" } }, { "done": 1 }]));
        order.cantrip.gates.retain(|gate| gate.name != name);
        order.cantrip.gates.push(GateOrder { name: name.to_owned(), at_caller: Some(spec(name)) });
        let error = cast_shown(&peers, "b", &order, &Nobody).await.unwrap_err();
        assert!(matches!(&error, PeerError::Refused { .. }), "{name}: {error}");
    }
    assert!(is_empty(b), "nothing of it is on record");
    // The near side does not even send such an order.
    let mut cantrip = remote(&[], turns(3));
    cantrip.order.gates.push(GateOrder { name: "read_loom".to_owned(), at_caller: Some(spec("read_loom")) });
    let error = net.nodes[0].runtime.summon_at("b", cantrip, CastOptions::default()).unwrap_err().to_string();
    assert!(error.contains("runs where the entity runs"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn entities_of_a_peer_go_on_to_no_node_that_is_not_listed_for_it() {
    let net = net(&["a", "b", "c"], |name, host| {
        if name == "b" {
            host.change("a", |_, ceiling| ceiling.nodes = Onward::default());
            host.change("c", |_, ceiling| ceiling.nodes = Onward::Only(BTreeSet::from(["a".parse().unwrap()])));
        }
    })
    .await;
    let [a, b, c] = &net.nodes[..] else { panic!("three nodes") };
    let below = json!([{ "call": "deed", "args": { "deed": "stolen" } }, { "done": "stolen" }]).to_string();
    let there = c.address.to_string();
    for node in [json!("c"), json!(there), json!(["c"]), json!("any"), json!("C"), json!("c@evil:1"), json!("c ")] {
        let args = json!({ "node": node, "intent": below, "gates": ["deed"] });
        let mut order = order(&json!([{ "call": "call_entity", "args": args }, { "done": "over" }]));
        order.cantrip.gates.push(GateOrder { name: "call_entity".to_owned(), at_caller: None });
        order.cantrip.wards = Wards { max_turns: Some(9), max_depth: Some(3), ..Wards::default() };
        let end = cast_shown(&way(&net.cluster, "a", &b.address), "b", &order, &Nobody).await.unwrap();
        assert_eq!(end.result, Some(json!("over")));
    }
    assert!(net.deeds.count("stolen") == 0 && is_empty(c) && is_empty(a), "b's certificate reached nobody for a");
    // What is listed is reached, and nothing beside it.
    let back = json!([{ "call": "deed", "args": { "deed": "allowed" } }, { "done": "back" }]).to_string();
    let args = json!({ "node": "a", "intent": back, "gates": ["deed"] });
    let mut order = order(&json!([{ "call": "call_entity", "args": args }, { "done": "over" }]));
    order.cantrip.gates.push(GateOrder { name: "call_entity".to_owned(), at_caller: None });
    order.cantrip.wards = Wards { max_turns: Some(9), max_depth: Some(3), ..Wards::default() };
    cast_shown(&way(&net.cluster, "c", &b.address), "b", &order, &Nobody).await.unwrap();
    assert_eq!(net.deeds.count("allowed"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_has_moved_is_the_same_peer() {
    let net = net(&["a"], |_, _| {}).await;
    let store = MemoryStore::with_key(NodeKey::from_secret(&[251; 32]));
    let order = order(&json!([{ "call": "deed", "args": { "deed": "once" } }, { "done": 7 }]));
    let mut order = order;
    order.cantrip.gates.push(GateOrder { name: "deed".to_owned(), at_caller: None });
    for address in ["127.0.0.1:1", "127.0.0.1:2", "moved.example:3"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let b = at("b", &listener.local_addr().unwrap().to_string());
        let listed = vec![at("a", address)];
        let node = node(&net.cluster, &net.deeds, (b.clone(), listener), listed, Arc::clone(&store), &|_, _| {});
        let end = cast_shown(&way(&net.cluster, "a", &b), "b", &order, &Nobody).await.unwrap();
        assert_eq!((end.result, net.deeds.count("once")), (Some(json!(7)), 1), "listed at {address}");
        node.stopped().await;
    }
}

#[test]
fn an_end_that_this_version_does_not_know_is_no_success() {
    let outcome = |how, reason: &str| Outcome {
        entity: EntityId::from_parts(1, [1; 16]),
        how,
        reason: EndReason::from(reason),
        result: Some(json!("all is well")),
        summary: None,
        spent: Spent::default(),
        seen: Exposure::default(),
        failure: None,
    };
    for (how, reason) in
        [(How::Terminated, "vanished"), (How::Terminated, "Done"), (How::Truncated, "max_moons"), (How::Terminated, "")]
    {
        let outcome = outcome(how, reason);
        assert!(!outcome.is_success() && outcome.for_parent().is_err(), "{reason}");
        assert_eq!(outcome.reason.as_str(), reason, "it is kept as it is");
    }
    assert!(outcome(How::Terminated, "done").is_success() && outcome(How::Terminated, "text").for_parent().is_ok());
    assert!(
        !outcome(How::Truncated, "max_turns").is_success() && outcome(How::Truncated, "max_turns").for_parent().is_ok()
    );
    assert!(outcome(How::Terminated, "guest_failed").for_parent().is_err(), "a failure is one however it is called");
    let end = RemoteEnd {
        how: How::Terminated,
        reason: EndReason::from("wholly_new"),
        result: None,
        summary: None,
        spent: Spent::default(),
        seen: Exposure::default(),
        failure: None,
    };
    assert!(end.reason.is_failure(), "nor is one that another node reports");
}

#[test]
fn what_a_peer_calls_local_is_never_the_machines_own_user() {
    let (own, peer): (Keeper, Keeper) = ("b".parse().unwrap(), "a".parse().unwrap());
    let loom = LoomId::from_parts(1, [1; 16]);
    let mut copies = LoomCopies::new(loom, &own);
    let said: Keepers = [(Keeper::Local, Keeping { revision: 9, kind: CopyKind::Disk })].into();
    let heard: Keepers = said.into_iter().map(|(keeper, keeping)| (keeper.as_heard(&peer, &own), keeping)).collect();
    copies.merge(&own, &peer, &heard);
    assert_eq!(copies.kind(&Keeper::Local), CopyKind::None);
    assert_eq!(copies.kind(&"a/local".parse().unwrap()), CopyKind::Disk);
    // Two clients of different nodes are not one another's origin.
    copies.origin = "a/local".parse().unwrap();
    let none: Keepers = [(own.clone(), Keeping { revision: 10, kind: CopyKind::None })].into();
    copies.merge(&own, &"c/local".parse().unwrap(), &none);
    assert_eq!(copies.kind(&own), CopyKind::Disk);
    assert_eq!(Caller::of_record("local@127.0.0.1:7432"), None);
}

/// A certificate of the cluster's authority with whatever names.
fn certificate(authority_key: &str, names: &[&str]) -> (String, String) {
    let signer = rcgen::KeyPair::from_pem(authority_key).unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.distinguished_name = rcgen::DistinguishedName::new();
    authority.distinguished_name.push(rcgen::DnType::CommonName, "cantrip cluster");
    let issuer = rcgen::Issuer::new(authority, signer);
    let key = rcgen::KeyPair::generate().unwrap();
    let params =
        rcgen::CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_names_local_or_no_node_at_all_gets_no_word() {
    let net = net(&["a", "b"], |_, _| {}).await;
    let b = &net.nodes[1];
    let (authority, key) = net.cluster.pems();
    for names in [&["local"][..], &["A"], &["a.b"], &["*"], &["a", "b"]] {
        let (pem, secret) = certificate(&key, names);
        let identity = cantrip_runtime::adapters::peer::Identity::from_pem(&authority, &pem, &secret).unwrap();
        let way = Way::Tls { net: Arc::new(TcpNet), identity: Arc::new(identity) };
        let error = PeerNodes::new(vec![b.address.clone()], way, limits()).describe("b").await.unwrap_err();
        assert!(matches!(&error, PeerError::Unreachable { .. }), "{names:?}: {error}");
    }
    assert!(is_empty(b));
}

#[test]
fn no_node_peer_or_cluster_is_named_local_or_by_anything_but_one_label() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| binary(folder.path()).current_dir(folder.path()).args(arguments).output().unwrap();
    for name in ["local", "Local", "lo cal", "a/b", "..", "\u{430}gents", "a_b", ""] {
        let ran = run(&["cluster", "init", "net", "--node", &format!("{name}@127.0.0.1:7432")]);
        let said = text(&ran.stderr);
        assert!(ran.status.code() == Some(2) && said.contains("cannot name a node"), "{name}: {said}");
    }
    assert!(!folder.path().join("net").exists());
    let (one, other) = (port(), port());
    let made = run(&[
        "cluster",
        "init",
        "net",
        "--node",
        &format!("a@127.0.0.1:{one}"),
        "--node",
        &format!("b@127.0.0.1:{other}"),
    ]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let file = folder.path().join("net/a/node.toml");
    let written = std::fs::read_to_string(&file).unwrap();
    let reserved = written.replace("[peers.b]", "[peers.local]").replace("[peers.b.wards]", "[peers.local.wards]");
    let unlisted = written.replace("may = [\"cast\"", "nodes = [\"c\"]\nmay = [\"cast\"");
    let no_digest = format!("{written}\n[guests]\nreader = \"sha256:abc\"\n");
    for (changed, expected) in [
        (reserved, "stands for the user of the machine"),
        (unlisted, "there is no [peers.c]"),
        (no_digest, "is no digest"),
    ] {
        std::fs::write(&file, changed).unwrap();
        let ran = run(&["serve", "--config", "net/a/node.toml"]);
        let said = text(&ran.stderr);
        assert!(ran.status.code() == Some(2) && said.contains(expected), "{expected}: {said}");
    }
}

/// Guests that differ in nothing but a section that nobody reads.
pub(crate) fn component(variant: u8) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/reader/reader.wasm");
    let mut bytes = std::fs::read(path).unwrap();
    bytes.extend([0, 3, 1, b'v', variant]);
    bytes
}

#[test]
fn a_guests_name_belongs_to_whoever_gave_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mine, analysis, mallory) = (component(1), component(2), component(3));
    let own = Shelf::new(folder.path().join("guests"));
    let name = |name: &str| name.parse::<NodeName>().unwrap();
    let of_analysis = own.of_peer(&name("analysis"));
    let of_mallory = own.of_peer(&name("mallory"));
    own.add("reader", &mine).unwrap();
    let theirs = of_analysis.add("reader", &analysis).unwrap();
    of_mallory.add("reader", &mallory).unwrap();
    assert_eq!(own.get("reader").unwrap().1, mine);
    assert_eq!(of_analysis.get("reader").unwrap().1, analysis);
    assert_eq!(of_mallory.get("reader").unwrap().1, mallory);
    // A name of somebody else does not exist, and is not listed.
    of_analysis.add("private", &component(4)).unwrap();
    let unknown = of_mallory.get("private").unwrap_err().to_string();
    assert!(unknown.contains("there is no guest `private`") && unknown.contains("are reader"), "{unknown}");
    let listed: Vec<Vec<String>> = of_mallory.named().into_iter().map(|it| it.names).collect();
    assert_eq!(listed, [["reader"]]);
    assert_eq!(of_mallory.reference(&theirs.digest), None, "that somebody else has it is not told");
    // By its digest a guest is the same for everybody.
    assert_eq!(of_mallory.get(&format!("reader@{}", theirs.digest)).unwrap().1, analysis);
    // What the node file names for all is there for who has no such name.
    let digest = own.manifest(&theirs.digest).unwrap().digest;
    let everybodys =
        own.clone().with_names([("shared".to_owned(), digest.clone()), ("reader".to_owned(), digest)].into());
    assert_eq!(everybodys.of_peer(&name("c")).get("shared").unwrap().1, analysis);
    assert_eq!(everybodys.of_peer(&name("c")).get("reader").unwrap().1, analysis);
    assert_eq!(everybodys.of_peer(&name("mallory")).get("reader").unwrap().1, mallory);
    // The machine's own user takes a name away, and nobody else loses a guest.
    own.add("also", &analysis).unwrap();
    own.remove("also").unwrap();
    assert_eq!(of_analysis.get("reader").unwrap().1, analysis);
}

#[test]
fn names_that_were_given_before_names_had_owners_are_the_machines_own_users() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = Shelf::new(folder.path().to_owned());
    let kept = shelf.add("reader", &component(5)).unwrap();
    let old = folder.path().join("names/reader");
    assert_eq!(std::fs::read_to_string(&old).unwrap(), kept.digest, "the place of a name has not changed");
    assert!(shelf.get("reader").is_ok());
    assert!(shelf.of_peer(&"a".parse().unwrap()).get("reader").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_knows_a_looms_id_and_its_trace_takes_no_part_in_it() {
    let net = net(&["a", "b", "c", "mallory"], |_, _| {}).await;
    let [a, b, c, mallory] = &net.nodes[..] else { panic!("four nodes") };
    let script = json!([{ "call": "deed", "args": { "deed": "honest" } }, { "done": 1 }]);
    // A parent on a has one child on b, and one on c that casts a child on b itself: of c the record of b says nothing.
    let below = json!({ "node": "b", "intent": script.to_string(), "gates": ["deed"] });
    let further = json!([{ "call": "call_entity", "args": below }, { "done": "further" }]).to_string();
    let requests = json!([
        { "node": "b", "intent": script.to_string(), "gates": ["deed"] },
        { "node": "c", "intent": further, "gates": ["call_entity"] },
    ]);
    let told = Arc::new(Told(Arc::new(SystemClock::default())));
    let wards = Wards { max_turns: Some(9), max_depth: Some(3), ..Wards::default() };
    let parent = Cantrip::builder().llm(told).delegation().gate(builtin::done()).wards(&wards).build(&NoMedia).unwrap();
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned();
    let options = CastOptions { trace: Some(trace.clone()), ..CastOptions::default() };
    let mut entity = a.runtime.summon(&parent, options).unwrap();
    let intent = json!([{ "call": "call_entity_batch", "args": { "requests": requests } }, { "done": "all" }]);
    entity.send(&intent.to_string()).await.unwrap();
    let entries = a.store.entries(entity.loom()).unwrap();
    let returned = entries.iter().filter_map(|sealed| {
        if let Body::GateReturned { result, .. } = &sealed.entry.body { Some(result) } else { None }
    });
    let returned = returned.collect::<Vec<_>>();
    assert_eq!(net.deeds.count("honest"), 2, "whoever takes part is vouched for: {returned:?}");
    // One who knows everything of that loom but is named by nobody in it.
    let peers = |to: &Node| way(&net.cluster, "mallory", &to.address);
    for node in [a, b, c] {
        let name = node.address.name().to_string();
        let mut order = order(&json!([{ "done": "in" }]));
        order.loom = entity.loom();
        order.trace = Some(trace.clone());
        let error = peers(node).cast(&name, &order, &Nobody).await.unwrap_err();
        assert!(error.to_string().contains("is another's"), "{name}: {error}");
    }
    assert!(is_empty(mallory));
}
