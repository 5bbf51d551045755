//! A remote cast admits its host, and an order shows that it did.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cantrip_runtime::adapters::clock::SystemClock;
use cantrip_runtime::adapters::peer::{TcpNet, Way, over_tls};
use cantrip_runtime::adapters::store::{FjallStore, MemoryStore, NodeKey, StoreOptions};
use cantrip_runtime::domain::ids::{EntityId, EntryId, LoomId, NodeAddress, NodeName, WriterKey};
use cantrip_runtime::domain::loom::{Body, Opened, Returned, Sealed, Unknown};
use cantrip_runtime::domain::members::{
    Admitted, Attestation, CheckedProof, Deed, Known, Principal, ProofError, ProvedEntry, Reader, RecordError, Right,
    Rights, Scope, Settled, Vouched,
};
use cantrip_runtime::domain::remote::{Credentials, Order};
use cantrip_runtime::driver::HostLimits;
use cantrip_runtime::ports::{By, CopyStore, LoomStore, MemberStore, PeerError, Peers, StoreError};
use cantrip_runtime::{CastOptions, NoMedia, Wards};
use ipld_core::ipld::Ipld;
use serde_json::json;
use tokio::net::TcpListener;

use crate::peer_support::{
    Cluster, Node, Parts, TestHost, bodies_by_hand, host_admitted, limits, minted_by_hand, proofs_by_hand, remote,
    shown, turns,
};
use crate::{Looking, Net, Strange, clean, key, net, net_with, order, parent, script, told};

/// The admissions that a node has written, each with its entry.
fn admissions(node: &Node, loom: LoomId) -> Vec<(Sealed, Admitted)> {
    let own = node.store.recorded(loom, By::ThisNode, 0, 10_000).unwrap();
    let admitted = |(_, sealed): (u64, Sealed)| {
        let Body::Admitted(admitted) = sealed.entry.body.clone() else { return None };
        Some((sealed, *admitted))
    };
    own.into_iter().filter_map(admitted).collect()
}

/// What a node has opened of a loom.
fn openings(node: &Node, loom: LoomId) -> Vec<(Sealed, Opened)> {
    let own = node.store.recorded(loom, By::ThisNode, 0, 10_000).unwrap();
    let opened = |(_, sealed): (u64, Sealed)| {
        let Body::Opened(opened) = sealed.entry.body.clone() else { return None };
        Some((sealed, *opened))
    };
    own.into_iter().filter_map(opened).collect()
}

fn proved(node: &Node, loom: LoomId) -> Vec<EntryId> {
    node.store.proved(loom).unwrap().iter().map(CheckedProof::id).collect()
}

fn names(opened: &Opened) -> Vec<&str> {
    opened.origins.iter().map(|origin| origin.node.as_str()).collect()
}

fn deep() -> Wards {
    Wards { max_turns: Some(60), max_depth: Some(4), ..Wards::default() }
}

fn write() -> Rights {
    std::iter::once(Right::Write).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cast_admits_its_host_for_what_it_opens_and_the_host_relies_on_it() {
    let net = net(&["a", "b"], |_, _| {}).await;
    let (a, b) = (&net.nodes[0], &net.nodes[1]);
    let here = json!([{ "call": "call_entity", "args": { "intent": script(json!([{ "done": 1 }])) } }, { "done": 2 }]);
    let requests = json!([{ "node": "b", "intent": script(here), "gates": ["call_entity"] }]);
    let (_, loom) = parent(a, deep(), Vec::new(), requests).await;
    let ((admission, admitted), child) = (admissions(a, loom).remove(0), openings(b, loom).remove(0));
    let entity = child.0.entry.entity.unwrap();
    let minted = child.1.minted.unwrap();
    assert_eq!((admitted.principal, admitted.rights), (Principal::Key(b.store.writer()), write()));
    let scope = admitted.scope.unwrap();
    assert_eq!((scope.entity, scope.minted, scope.opener), (entity, minted, b.store.writer()));
    assert_eq!(admission.entry.entity, child.1.spawned_by, "it is of the entity that delegates");
    assert_eq!((admission.entry.relies, admission.entry.parent), (None, child.1.delegated));
    // The host's own child relies on the same, and so does all that begins something.
    let opened = openings(b, loom);
    assert_eq!(opened.len(), 2);
    assert!(opened.iter().all(|(sealed, opened)| {
        sealed.entry.relies == Some(admission.id) && opened.delegated.is_some() && names(opened) == ["a"]
    }));
    let kept = proved(b, loom);
    assert!(kept.contains(&admission.id) && kept.contains(&child.1.delegated.unwrap()) && kept.len() == 3);
    clean(a);
    clean(b);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_does_not_show_its_hosts_admission_is_refused_and_nothing_is_recorded() {
    let net = net(&["a", "b", "c"], |_, _| {}).await;
    let (a, b, c) = (&net.nodes[0], &net.nodes[1], &net.nodes[2]);
    let plain = order(remote(&[], turns(3)).order, &script(json!([{ "done": 1 }])));
    let (host, minted) = (b.store.writer(), plain.minted.unwrap());
    let whole = shown(plain.clone(), host);
    let with = |proofs: Vec<ProvedEntry>| Order {
        credentials: Arc::new(Credentials { proofs, attestations: Vec::new() }),
        ..plain.clone()
    };
    let admitting = |change: &dyn Fn(&mut Admitted)| {
        let mut admitted = host_admitted(plain.entity, minted, host);
        change(&mut admitted);
        with(proofs_by_hand(plain.loom, minted.nonce, admitted))
    };
    let (other_loom, other_entity, other_minted) = minted_by_hand(77, [77; 16]);
    let of_another_loom = proofs_by_hand(other_loom, other_minted.nonce, host_admitted(plain.entity, minted, host));
    let mut unsigned = whole.credentials.proofs.clone();
    unsigned[1].signature = [1; 64];
    let mut cut = whole.credentials.proofs.clone();
    cut[0].behind.clear();
    let dreamt = Ipld::Map([("kind".to_owned(), Ipld::String("dreamt".to_owned()))].into());
    let dreamt = Body::Unknown(Box::new(Unknown { kind: "dreamt".to_owned(), value: dreamt }));
    let admission = Body::Admitted(Box::new(host_admitted(plain.entity, minted, host)));
    let later = bodies_by_hand(plain.loom, minted.nonce, vec![admission, dreamt]);
    let scope = |scope: Scope| move |admitted: &mut Admitted| admitted.scope = Some(scope);
    let own = host_admitted(plain.entity, minted, host).scope.unwrap();
    let cases: Vec<(&str, Order, &str)> = vec![
        ("nothing", plain.clone(), "does not show who founded the loom"),
        ("of another loom", with(of_another_loom), "is of loom"),
        ("signed by nobody", with(unsigned), "has not signed"),
        ("cut", with(cut), "has not signed"),
        ("without its founding", with(whole.credentials.proofs[1..].to_vec()), "does not show who founded"),
        ("without the admission", with(whole.credentials.proofs[..1].to_vec()), "shows no admission of a host"),
        (
            "of another child",
            admitting(&scope(Scope { entity: other_entity, minted: other_minted, ..own })),
            "shows no admission of a host",
        ),
        ("of another opener", admitting(&scope(Scope { opener: c.store.writer(), ..own })), "may not open"),
        ("of another's child", admitting(&scope(Scope { minted: other_minted, ..own })), "may not open"),
        ("of another node", admitting(&|it| it.principal = Principal::Key(c.store.writer())), "may not open"),
        ("without the right", admitting(&|it| it.rights = Rights::default()), "may not open"),
        (
            "with what is not known",
            with(later),
            "is a `dreamt` of the loom as a whole, which this version does not know",
        ),
        (
            "without a delegation",
            Order { parent: Some(EntryId::of(b"call")), spawned_by: Some(other_entity), ..whole.clone() },
            "does not show that",
        ),
    ];
    for (what, order, expected) in cases {
        let refused = a.peers.cast("b", &order, &Looking::default()).await;
        let Err(PeerError::Refused { refusal, .. }) = refused else { panic!("{what}: {refused:?}") };
        assert_eq!(refusal.rule, "members", "{what}: {refusal}");
        assert!(refusal.error.to_string().contains(expected), "{what}: {refusal}");
    }
    assert!(b.store.looms().unwrap().is_empty() && proved(b, plain.loom).is_empty(), "nothing of them is recorded");
    // What leads nowhere is not kept with the rest.
    let mut more = whole.credentials.proofs.clone();
    more.extend(proofs_by_hand(plain.loom, minted.nonce, host_admitted(other_entity, other_minted, host)).pop());
    let stray = key().succeed(&key());
    let credentials = Credentials { proofs: more, attestations: vec![Attestation::Succession(stray)] };
    let more = Order { credentials: Arc::new(credentials), ..plain.clone() };
    a.peers.cast("b", &more, &Looking::default()).await.unwrap();
    assert_eq!((proved(b, plain.loom).len(), b.store.attestations(plain.loom).unwrap().len()), (2, 0));
    // What one host was shown is worth nothing at another.
    let replayed = a.peers.cast("c", &whole, &Looking::default()).await;
    assert!(matches!(&replayed, Err(PeerError::Refused { refusal, .. }) if refusal.rule == "members"), "{replayed:?}");
    assert!(c.store.looms().unwrap().is_empty() && proved(c, plain.loom).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_member_admits_nobody() {
    let net = net(&["a", "b"], |_, _| {}).await;
    let (a, b) = (&net.nodes[0], &net.nodes[1]);
    let plain = order(remote(&[], turns(3)).order, &script(json!([{ "done": 1 }])));
    let mut proofs = shown(plain.clone(), b.store.writer()).credentials.proofs.clone();
    // The founding is the founder's word, the admission a stranger's.
    let stranger = MemoryStore::with_key(NodeKey::from_secret(&[8; 32]));
    let admitted = host_admitted(plain.entity, plain.minted.unwrap(), b.store.writer());
    let body = Body::Admitted(Box::new(admitted));
    let entry = cantrip_runtime::domain::loom::Entry::new(plain.loom, (stranger.writer(), 1), 1, None, None, body);
    let sealed = Sealed::new(entry, Vec::new()).unwrap();
    stranger.append(sealed.clone()).unwrap();
    proofs[1] = stranger.prove(sealed.id).unwrap().unwrap().to_proof();
    let credentials = Arc::new(Credentials { proofs, attestations: Vec::new() });
    let refused = a.peers.cast("b", &Order { credentials, ..plain }, &Looking::default()).await.unwrap_err();
    assert!(refused.to_string().contains("decides nothing: its writer is not the founder"), "{refused}");
    assert!(b.store.looms().unwrap().is_empty());
}

/// What decides nothing of all that a node has of a loom.
fn refused(a: &Node, loom: LoomId) -> Vec<String> {
    let batch = a.store.batch(loom).unwrap();
    let reader = Reader::of(&batch);
    let refused = reader.refused().map(|(sealed, why)| format!("{} {}: {why}", sealed.entry.body.kind(), sealed.id));
    refused.collect()
}

/// Starts the node `b` again at its address, with what it has recorded.
async fn started(cluster: &Cluster, address: NodeAddress, other: NodeAddress, store: Arc<dyn LoomStore>) -> Node {
    let identity = cluster.identity(address.name().as_str());
    // The tasks of the node before still hold the address for a moment after it was dropped.
    let listener = async {
        loop {
            match TcpListener::bind(address.address()).await {
                Ok(listener) => return listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let listener = tokio::time::timeout(Duration::from_mins(1), listener).await.unwrap();
    let host = TestHost::new(std::slice::from_ref(&other), Vec::new(), told());
    let parts = Parts {
        store,
        clock: Arc::new(SystemClock::default()),
        media: Arc::new(NoMedia),
        way: Way::Tls { net: Arc::new(TcpNet), identity: Arc::clone(&identity) },
        limits: limits(),
        host_limits: HostLimits::default(),
        others: vec![other],
        host,
        address,
    };
    Node::start(parts, over_tls(listener, identity))
}

impl MemberStore for Strange {
    fn attestations(&self, loom: LoomId) -> Result<Vec<Attestation>, StoreError> {
        self.inner.attestations(loom)
    }

    fn attestations_of(&self, loom: LoomId, key: WriterKey) -> Result<Vec<Attestation>, StoreError> {
        self.inner.attestations_of(loom, key)
    }

    fn vouched(&self, loom: LoomId) -> Result<Vouched, StoreError> {
        self.inner.vouched(loom)
    }

    fn checked(&self, all: &[Attestation]) -> Result<Vouched, RecordError> {
        self.inner.checked(all)
    }

    fn attest(&self, loom: LoomId, all: &[Attestation]) -> Result<Vec<Result<bool, RecordError>>, StoreError> {
        self.inner.attest(loom, all)
    }

    fn proved(&self, loom: LoomId) -> Result<Vec<CheckedProof>, StoreError> {
        self.inner.proved(loom)
    }

    fn proved_entry(&self, loom: LoomId, id: EntryId) -> Result<Option<CheckedProof>, StoreError> {
        self.inner.proved_entry(loom, id)
    }

    fn keep_proved(&self, all: &[CheckedProof]) -> Result<Result<usize, ProofError>, StoreError> {
        self.inner.keep_proved(all)
    }

    fn prove(&self, id: EntryId) -> Result<Option<CheckedProof>, StoreError> {
        self.inner.prove(id)
    }
}

/// A cast from `a` on `b`, which casts on to `c`.
fn onward() -> serde_json::Value {
    let last = json!({ "node": "c", "intent": script(json!([{ "done": "on c" }])), "gates": [] });
    let second = script(json!([{ "call": "call_entity", "args": last }, { "done": "on b" }]));
    json!([{ "node": "b", "intent": second, "gates": ["call_entity"] }])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_casts_on_shows_the_founding_its_own_admission_and_its_hosts() {
    let net = net(&["a", "b", "c"], |_, _| {}).await;
    let [a, b, c] = [0, 1, 2].map(|at| &net.nodes[at]);
    let (_, loom) = parent(a, deep(), Vec::new(), onward()).await;
    let ((by_a, _), (by_b, admitted)) = (admissions(a, loom).remove(0), admissions(b, loom).remove(0));
    assert_eq!((by_a.entry.relies, by_b.entry.relies), (None, Some(by_a.id)));
    let (opened_b, opened_c) = (openings(b, loom).remove(0), openings(c, loom).remove(0));
    assert_eq!(by_b.entry.entity, opened_b.0.entry.entity, "of the entity that delegates on");
    assert_eq!(admitted.scope.map(|scope| scope.opener), Some(c.store.writer()));
    assert_eq!((opened_b.0.entry.relies, opened_c.0.entry.relies), (Some(by_a.id), Some(by_b.id)));
    assert_eq!((names(&opened_b.1), names(&opened_c.1)), (vec!["a"], vec!["a", "b"]));
    let founding = a.store.recorded(loom, By::ThisNode, 0, 1).unwrap().remove(0).1;
    let kept = proved(c, loom);
    for shown in [founding.id, by_a.id, by_b.id, opened_c.1.delegated.unwrap()] {
        assert!(kept.contains(&shown), "{shown} is not kept");
    }
    assert_eq!(kept.len(), 4);
    let proofs = c.store.proved(loom).unwrap();
    let mut known = Known::new(loom, Vouched::default());
    for proof in &proofs {
        known.proved(proof);
    }
    let entity = opened_c.0.entry.entity.unwrap();
    assert_eq!(Reader::new(&known).may(c.store.writer(), Deed::Host(entity)), Ok(Some(by_b.id)));
    // By that alone the host owns what it has opened, and reads on; nobody else reads it so.
    let own: Vec<Sealed> =
        c.store.recorded(loom, By::ThisNode, 0, 10_000).unwrap().into_iter().map(|(_, sealed)| sealed).collect();
    known.log(c.store.writer(), &own, own.len());
    assert_eq!(Reader::new(&known).owner(entity), None);
    known.is_here(c.store.writer());
    let reader = Reader::new(&known);
    assert_eq!(reader.owner(entity).map(|owner| owner.writer), Some(c.store.writer()));
    assert!(own.iter().all(|sealed| reader.counts(sealed.id) == Ok(())));
    // So it shows its part, and goes on with it.
    assert_eq!(c.runtime.tree(loom).unwrap().entity(entity).unwrap().id, opened_c.0.id);
    // Whoever has all of it says that all of it counts.
    assert_eq!(refused(a, loom), Vec::<String>::new());
    net.nodes.iter().for_each(clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_of_a_host_goes_on_after_a_restart_by_what_it_was_shown() {
    let store = MemoryStore::with_key(key());
    let kept = Arc::clone(&store) as Arc<dyn LoomStore>;
    let net = net_with(&["a", "b", "c"], |_, _| {}, |name| (name == "c").then(|| Arc::clone(&kept))).await;
    let Net { nodes, cluster, .. } = net;
    let [a, b, c]: [Node; 3] = nodes.try_into().unwrap_or_else(|_| panic!());
    let slow = script(json!([{ "call": "echo", "args": { "text": "first" } }, { "wait_ms": 1_500, "done": "on c" }]));
    let last = json!({ "node": "c", "intent": slow, "gates": ["echo"] });
    let second = script(json!([{ "call": "call_entity", "args": last }, { "done": "on b" }]));
    let requests = json!([{ "node": "b", "intent": second, "gates": ["call_entity"] }]);
    let is_at_work = || kept.looms().unwrap().first().is_some_and(|loom| loom.entries > 4);
    let (ended, again) = tokio::join!(parent(&a, deep(), Vec::new(), requests), async {
        while !is_at_work() {
            tokio::task::yield_now().await;
        }
        let (address, other) = (c.address.clone(), b.address.clone());
        drop(c);
        started(&cluster, address, other, Arc::clone(&kept)).await
    });
    let (_, loom) = ended;
    let (opened, _) = openings(&again, loom).remove(0);
    let entries = kept.entries_of(opened.entry.entity.unwrap()).unwrap();
    assert!(matches!(entries.last().unwrap().entry.body, Body::Ended(_)), "{:?}", entries.last());
    let of_b = openings(&b, loom).remove(0).0.entry.entity.unwrap();
    let told = b.runtime.tree(loom).unwrap().thread(of_b).unwrap()[0].gates[0].result.clone();
    assert_eq!(told, Some(Ok(json!("on c"))));
    assert_eq!(refused(&a, loom), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_founder_that_hosts_for_another_names_the_admission_too() {
    let net = net(&["a", "b"], |_, _| {}).await;
    let (a, b) = (&net.nodes[0], &net.nodes[1]);
    let last = json!({ "node": "a", "intent": script(json!([{ "done": "on a" }])), "gates": [] });
    let second = script(json!([{ "call": "call_entity", "args": last }, { "done": "on b" }]));
    let requests = json!([{ "node": "b", "intent": second, "gates": ["call_entity"] }]);
    let (outcome, loom) = parent(a, deep(), Vec::new(), requests).await;
    assert_eq!(outcome.result, Some(json!("all")));
    let by_b = admissions(b, loom).remove(0);
    assert_eq!(by_b.1.scope.map(|scope| scope.opener), Some(a.store.writer()));
    let opened = openings(a, loom);
    let relied: Vec<Option<EntryId>> = opened.iter().map(|(sealed, _)| sealed.entry.relies).collect();
    assert_eq!(relied, [None, Some(by_b.0.id)], "its own root needs none");
    assert_eq!(names(&opened[1].1), ["a", "b"]);
    assert_eq!(refused(a, loom), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_refuses_what_was_called_through_a_node_that_it_lists() {
    let refuse = |name: &str, host: &mut TestHost| {
        if name == "c" {
            let refused = [("a".parse().unwrap(), "peers.b.refuse_origins".to_owned())];
            host.change("b", |_, ceiling| ceiling.refuse_origins = refused.into());
        }
    };
    let net = net(&["a", "b", "c"], refuse).await;
    let [a, b, c] = [0, 1, 2].map(|at| &net.nodes[at]);
    let (_, loom) = parent(a, deep(), Vec::new(), onward()).await;
    let opened = openings(b, loom).remove(0).0.entry.entity.unwrap();
    let said = b.store.entries_of(opened).unwrap().iter().find_map(|sealed| match &sealed.entry.body {
        Body::GateReturned { result: Returned::Error(error), .. } => Some(error.to_string()),
        _ => None,
    });
    let said = said.unwrap();
    assert!(said.contains("called through the node a") && said.contains("peers.b.refuse_origins"), "{said}");
    assert!(c.store.looms().unwrap().is_empty());
    // What the same peer casts itself runs.
    let (outcome, _) =
        parent(b, deep(), Vec::new(), json!([{ "node": "c", "intent": script(json!([{ "done": 1 }])), "gates": [] }]))
            .await;
    assert_eq!(outcome.spent.children, 1);
    assert_eq!(c.store.looms().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_that_was_admitted_writes_counts_for_who_has_everything() {
    let net = net(&["a", "b"], |_, _| {}).await;
    let a = &net.nodes[0];
    let mut entity = a.runtime.summon_at("b", remote(&["deed"], turns(5)), CastOptions::default()).unwrap();
    for number in 1..=3 {
        entity.send(&script(json!([{ "call": "deed", "args": { "deed": "x" } }, { "done": number }]))).await.unwrap();
    }
    let (admitted, settled) = (admissions(a, entity.loom()), settlements(a, entity.loom()));
    assert_eq!(
        settled.iter().map(|settled| settled.admission).collect::<Vec<_>>(),
        ids(&admitted),
        "one for each intent"
    );
    assert!(settled.iter().all(|settled| settled.child == entity.entity() && settled.ends.len() == 1));
    let counts = settled.iter().map(|settled| settled.ends[0].sequence).collect::<Vec<_>>();
    let of_host = a.store.entries_of(entity.entity()).unwrap().len() as u64;
    assert!(counts.is_sorted_by(|one, next| one < next) && counts.last() == Some(&of_host), "{counts:?} of {of_host}");
    assert_eq!(refused(a, entity.loom()), Vec::<String>::new());
}

/// What a node has settled with its hosts.
fn settlements(node: &Node, loom: LoomId) -> Vec<Settled> {
    let own = node.store.writer();
    let entries = node.store.entries(loom).unwrap().into_iter().filter(|sealed| sealed.entry.writer == own);
    let settled = entries.filter_map(|sealed| match sealed.entry.body {
        Body::Settled(settled) => Some(*settled),
        _ => None,
    });
    settled.collect()
}

fn ids(admissions: &[(Sealed, Admitted)]) -> Vec<EntryId> {
    admissions.iter().map(|(sealed, _)| sealed.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_names_what_belongs_to_its_own_intent_and_no_other_cast() {
    let net = net(&["a", "b", "c"], |_, _| {}).await;
    let [a, b, c] = [0, 1, 2].map(|at| &net.nodes[at]);
    let mut entity = a.runtime.summon_at("b", remote(&["call_entity"], deep()), CastOptions::default()).unwrap();
    let loom = entity.loom();
    let beside = CastOptions { loom: Some(loom), ..CastOptions::default() };
    let below = || json!({ "node": "c", "intent": script(json!([{ "done": "on c" }])), "gates": [] });
    for number in 1..=2 {
        entity.send(&script(json!([{ "call": "call_entity", "args": below() }, { "done": number }]))).await.unwrap();
        let alone = script(json!([{ "done": "alone" }]));
        a.runtime.cast_at("b", remote(&[], turns(3)), &alone, beside.clone()).await.unwrap();
    }
    let (on_b, on_c) = (b.store.writer(), c.store.writer());
    let all = settlements(a, loom);
    let of_entity = all.iter().filter(|settled| settled.child == entity.entity()).collect::<Vec<_>>();
    let others = all.iter().filter(|settled| settled.child != entity.entity());
    assert!(others.clone().count() == 2 && others.flat_map(|it| &it.ends).all(|end| end.writer == on_b));
    let writers = |settled: &&Settled| settled.ends.iter().map(|end| end.writer).collect::<BTreeSet<_>>();
    assert_eq!(of_entity.iter().map(writers).collect::<Vec<_>>(), vec![[on_b, on_c].into(); 2]);
    let casts = of_entity.iter().flat_map(|it| &it.ends).filter(|end| end.writer == on_c).map(|end| end.cast);
    assert_eq!(casts.collect::<BTreeSet<_>>().len(), 2, "each has its own child");
    assert_eq!(refused(a, loom), Vec::<String>::new());
}

/// The admissions that the deciding entries of an entity name, in order.
fn relied_on(store: &dyn LoomStore, entity: EntityId) -> Vec<(String, Option<EntryId>)> {
    let deciding = |sealed: &Sealed| match &sealed.entry.body {
        Body::Intent(intent) => !intent.steer,
        body => matches!(body, Body::Opened(_) | Body::Adopted { .. }),
    };
    let entries = store.entries_of(entity).unwrap();
    let named = entries.iter().filter(|sealed| deciding(sealed));
    named.map(|sealed| (sealed.entry.body.kind().to_owned(), sealed.entry.relies)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_relies_on_the_admission_of_its_episode_after_a_restart_of_its_host_too() {
    let store = MemoryStore::with_key(key());
    let kept = Arc::clone(&store) as Arc<dyn LoomStore>;
    let net = net_with(&["a", "b"], |_, _| {}, |name| (name == "b").then(|| Arc::clone(&kept))).await;
    let Net { nodes, cluster, .. } = net;
    let [a, b]: [Node; 2] = nodes.try_into().unwrap_or_else(|_| panic!());
    let mut entity = a.runtime.summon_at("b", remote(&["call_entity"], turns(9)), CastOptions::default()).unwrap();
    entity.send(&script(json!([{ "done": 1 }]))).await.unwrap();
    let address = b.address.clone();
    b.stopped().await;
    let again = started(&cluster, address, a.address.clone(), Arc::clone(&kept)).await;
    let child = json!({ "intent": script(json!([{ "done": 3 }])) });
    entity.send(&script(json!([{ "call": "call_entity", "args": child }, { "done": 2 }]))).await.unwrap();
    let named = relied_on(&*kept, entity.entity());
    let [first, second] =
        ids(&admissions(&a, entity.loom())).try_into().unwrap_or_else(|_| panic!("one for each intent"));
    assert_eq!(named, [("opened".to_owned(), Some(first)), ("intent".to_owned(), Some(second))]);
    let relied = openings(&again, entity.loom()).iter().map(|(sealed, _)| sealed.entry.relies).collect::<Vec<_>>();
    assert_eq!(relied, [Some(first), Some(second)], "a child relies on what its parent's episode does");
    assert_eq!(refused(&a, entity.loom()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_has_taken_another_key_between_two_casts_is_admitted_under_that_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = FjallStore::open(folder.path(), StoreOptions::default()).unwrap();
    let kept = Arc::clone(&store) as Arc<dyn LoomStore>;
    let net = net_with(&["a", "b"], |_, _| {}, |name| (name == "b").then(|| Arc::clone(&kept))).await;
    let (a, b) = (&net.nodes[0], &net.nodes[1]);
    let old = b.store.writer();
    let mut entity = a.runtime.summon_at("b", remote(&[], turns(9)), CastOptions::default()).unwrap();
    entity.send(&script(json!([{ "done": 1 }]))).await.unwrap();
    let new = store.renew(LoomStore::writer(&*store), &std::collections::BTreeSet::new()).unwrap();
    // The connection is the same, and what was said on it is not true any more.
    let mut fork = entity.fork(1);
    fork.send(&script(json!([{ "done": 2 }]))).await.unwrap();
    let loom = entity.loom();
    let of = |child: EntityId| -> Vec<WriterKey> {
        let all = admissions(a, loom).into_iter().filter_map(|(_, admitted)| admitted.scope);
        all.filter(|scope| scope.entity == child).map(|scope| scope.opener).collect()
    };
    assert_eq!((of(entity.entity()), of(fork.entity())), (vec![old], vec![old, new]));
    let last = admissions(a, entity.loom()).pop().unwrap().0.id;
    assert_eq!(relied_on(&*store, fork.entity())[0], ("opened".to_owned(), Some(last)));
    // What vouches for the new key came with it.
    assert_eq!(a.store.attestations_of(entity.loom(), new).unwrap().len(), 1);
    // The entity of the old key goes on under the new one, by the admission that the new one has got.
    entity.send(&script(json!([{ "done": 3 }]))).await.unwrap();
    assert_eq!(of(entity.entity()), [old, new]);
    let (admitted, mut named) = (ids(&admissions(a, entity.loom())), relied_on(&*store, entity.entity()));
    let relied = |kind: &str, at: usize| (kind.to_owned(), Some(admitted[at]));
    named.sort();
    assert_eq!(named, [relied("adopted", 3), relied("intent", 3), relied("opened", 0)]);
    assert_eq!(refused(a, entity.loom()), Vec::<String>::new());
    clean(b);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_a_node_where_its_record_and_the_connection_say_the_same() {
    let secrets = key();
    let stores = [0, 1, 2].map(|_| MemoryStore::with_key(key()));
    let (honest, other) =
        (MemoryStore::with_key(secrets.clone()), MemoryStore::with_key(NodeKey::from_secret(&[88; 32])));
    let net = net_with(
        &["a", "b", "c"],
        |_, _| {},
        |name| match name {
            "b" => Some(Arc::clone(&honest) as _),
            "c" => Some(Arc::clone(&other) as _),
            _ => Some(Arc::clone(&stores[0]) as _),
        },
    )
    .await;
    let a = &net.nodes[0];
    let vouch = |key: &NodeKey, name: &str| {
        let (chain, by_certificate) = net.cluster.identity(name).attest(key.writer()).unwrap();
        key.vouch(chain, by_certificate)
    };
    honest.attest_own(&vouch(&secrets, "b")).unwrap();
    // A record of another name than the one that the connection was made with.
    other.attest_own(&vouch(&NodeKey::from_secret(&[88; 32]), "b")).unwrap();
    let principal = async |node: &str| a.peers.identify(node, false).await.unwrap().principal.clone();
    let Principal::Node(node) = principal("b").await else { panic!() };
    assert_eq!(node.name, "b".parse::<NodeName>().unwrap());
    assert_eq!(principal("c").await, Principal::Key(other.writer()));
    let intent = script(json!([{ "done": 1 }]));
    let outcome = a.runtime.cast_at("b", remote(&[], turns(3)), &intent, CastOptions::default()).await.unwrap();
    let loom = a.store.loom_of(outcome.entity).unwrap().unwrap();
    assert_eq!(admissions(a, loom).remove(0).1.principal, Principal::Node(node.clone()));
    for store in [&a.store, &net.nodes[1].store] {
        let vouched = store.vouched(loom).unwrap();
        assert!(vouched.records.iter().any(|record| (record.key(), record.node()) == (honest.writer(), &node)));
    }
}

/// Has a store keep what another has written into a loom.
async fn keep(to: &MemoryStore, from: &MemoryStore, loom: LoomId) {
    let writer = LoomStore::writer(from);
    let known = to.logs(loom).unwrap().iter().find(|log| log.writer == writer).map_or(0, |log| log.head.sequence);
    let segment = from.segment(loom, writer, known).unwrap().unwrap();
    to.take(segment.check().unwrap()).unwrap();
    to.sync_logs(loom, vec![writer]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_keeps_the_loom_runs_nothing_for_who_was_expelled() {
    let stores = ["a", "b", "c"].map(|_| MemoryStore::with_key(key()));
    let [founder, keeper, member] = &stores;
    let of = |name: &str| Some(Arc::clone(&stores[["a", "b", "c"].iter().position(|it| *it == name)?]) as _);
    let net = net_with(&["a", "b", "c"], |_, _| {}, of).await;
    let [a, b, c] = [0, 1, 2].map(|at| &net.nodes[at]);
    let (_, loom) = parent(a, deep(), Vec::new(), json!([])).await;
    let named = Principal::Key(LoomStore::writer(&**member));
    a.runtime.admit(loom, named.clone(), std::iter::once(Right::Write).collect(), None).await.unwrap();
    keep(member, founder, loom).await;
    keep(keeper, founder, loom).await;
    let intent = script(json!([{ "done": 1 }]));
    a.runtime.expel(loom, named.into(), None).await.unwrap();
    // Who has not heard of it is the member itself, whose order shows all that was true before.
    keep(keeper, founder, loom).await;
    let options = CastOptions { loom: Some(loom), ..CastOptions::default() };
    let refused = c.runtime.cast_at("b", remote(&[], turns(3)), &intent, options).await.unwrap_err().to_string();
    let expected = "of whom this node's copy of the loom says: its writer was expelled by";
    assert!(refused.contains(expected) && refused.contains("members"), "{refused}");
    assert_eq!(openings(b, loom).len(), 0, "nothing of it is recorded");
}
