//! Who mints the ids of what runs elsewhere, and what becomes of ids that nobody has minted.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use cantrip_runtime::CastOptions;
use cantrip_runtime::adapters::store::{FjallStore, StoreOptions};
use cantrip_runtime::domain::event::Event;
use cantrip_runtime::domain::ids::{EntityId, LoomId};
use cantrip_runtime::domain::loom::{Body, Sealed};
use cantrip_runtime::domain::members::Nonce;
use cantrip_runtime::domain::model::{ModelError, Question, RawAnswer};
use cantrip_runtime::domain::remote::ByHost;
use cantrip_runtime::ports::{
    BoxFuture, CopyStore, Home, HomeError, LoomStore, PeerError, Peers, Pieces, RemoteEnd, Signal,
};
use serde_json::{Value, json};

use crate::peer_support::{remote, turns};
use crate::{Looking, net, net_with, order, script};

/// A caller without a record: it asks the host for the ids, and remembers what it was told.
#[derive(Default)]
struct Client(Mutex<Vec<(LoomId, EntityId)>>);

impl Client {
    fn told(&self) -> Vec<(LoomId, EntityId)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Home for Client {
    fn named(&self, loom: LoomId, entity: EntityId) -> Result<(), HomeError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((loom, entity));
        Ok(())
    }

    fn receive(&self, sealed: Sealed) -> Result<(), HomeError> {
        let told = self.told();
        assert_eq!((Some(sealed.entry.loom), sealed.entry.entity), (told[0].0.into(), told[0].1.into()));
        Ok(())
    }

    fn cover(&self, _: Vec<cantrip_runtime::domain::loom::CastHead>) -> Result<(), HomeError> {
        Ok(())
    }

    fn sync(&self) -> BoxFuture<'_, Result<(), HomeError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn is_watched(&self) -> bool {
        false
    }

    fn event(&self, _: Event) {}

    fn gate<'a>(&'a self, gate: &'a str, _: Value) -> BoxFuture<'a, Result<Value, cantrip_runtime::GateError>> {
        Box::pin(async move { Err(cantrip_runtime::GateError::NotFound(gate.to_owned())) })
    }

    fn ask<'a>(&'a self, _: &'a Question, _: &'a dyn Pieces) -> BoxFuture<'a, Result<RawAnswer, ModelError>> {
        Box::pin(async { Err(ModelError::Setup { message: "nobody".to_owned() }) })
    }

    fn guest<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Option<Vec<u8>>> {
        Box::pin(std::future::ready(None))
    }

    fn signal(&self) -> BoxFuture<'_, Signal> {
        Box::pin(std::future::pending())
    }
}

fn kinds(store: &dyn LoomStore, loom: LoomId) -> Vec<String> {
    store.entries(loom).unwrap().iter().map(|sealed| sealed.entry.body.kind().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_a_record_is_told_the_same_ids_for_the_same_cast_and_others_for_another() {
    let net = net(&["a", "b", "c"], |_, _| {}).await;
    let b = &net.nodes[1];
    let mut asking = order(remote(&[], turns(3)).order, &script(json!([{ "done": 1 }])));
    asking.by_host = ByHost::LoomAndEntity;
    let (first, again, another, other_caller) =
        (Client::default(), Client::default(), Client::default(), Client::default());
    let ended = |end: Result<RemoteEnd, PeerError>| assert_eq!(end.unwrap().result, Some(json!(1)));
    ended(net.nodes[0].peers.cast("b", &asking, &first).await);
    ended(net.nodes[0].peers.cast("b", &asking, &again).await);
    let [(loom, entity)] = first.told()[..] else { panic!("{:?}", first.told()) };
    assert_eq!(again.told(), first.told(), "the same cast has the same ids, and runs once");

    // The host founded the loom and minted the entity, with its own key.
    let entries = b.store.entries(loom).unwrap();
    let (writer, founding, opening) = (LoomStore::writer(&*b.store), &entries[0].entry, &entries[1].entry);
    let Body::Founded { nonce, member: None } = &founding.body else { panic!("{:?}", founding.body) };
    assert!(founding.sequence == 1 && loom.is_minted_by(&writer, nonce, None));
    let Body::Opened(opened) = &opening.body else { panic!("{:?}", opening.body) };
    assert_eq!((opening.entity, opened.minted.map(|it| it.by)), (Some(entity), Some(writer)));
    assert_eq!(kinds(&*b.store, loom).iter().filter(|kind| *kind == "founded" || *kind == "opened").count(), 2);

    let mut later = asking.clone();
    later.cast = cantrip_runtime::domain::ids::CastId::from_parts(5, [5; 10]);
    ended(net.nodes[0].peers.cast("b", &later, &another).await);
    ended(net.nodes[2].peers.cast("b", &asking, &other_caller).await);
    let all = [first.told(), another.told(), other_caller.told()].concat();
    for (number, (loom, entity)) in all.iter().enumerate() {
        assert!(!all[..number].iter().any(|(other, of)| other == loom || of == entity), "{all:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_a_record_casts_into_a_loom_that_is_there_and_into_no_other() {
    let net = net(&["a", "b"], |_, _| {}).await;
    let a = &net.nodes[0];
    let mut asking = order(remote(&[], turns(3)).order, &script(json!([{ "done": 1 }])));
    asking.by_host = ByHost::LoomAndEntity;
    let first = Client::default();
    a.peers.cast("b", &asking, &first).await.unwrap();
    (asking.by_host, asking.cast) = (ByHost::Entity, cantrip_runtime::domain::ids::CastId::from_parts(4, [4; 10]));
    let nowhere = a.peers.cast("b", &asking, &Client::default()).await.unwrap_err().to_string();
    assert!(nowhere.contains("there is no loom") && nowhere.contains("founds one"), "{nowhere}");
    (asking.loom, asking.cast) = (first.told()[0].0, cantrip_runtime::domain::ids::CastId::from_parts(5, [5; 10]));
    let second = Client::default();
    a.peers.cast("b", &asking, &second).await.unwrap();
    assert!(second.told()[0].0 == first.told()[0].0 && second.told()[0].1 != first.told()[0].1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_for_an_entity_whose_id_nobody_has_minted_is_refused() {
    let net = net(&["a", "b"], |_, _| {}).await;
    let a = &net.nodes[0];
    let honest = order(remote(&[], turns(3)).order, &script(json!([{ "done": 1 }])));
    let mut unsaid = honest.clone();
    unsaid.minted = None;
    let mut ground = honest.clone();
    ground.entity = EntityId::from_parts(1, [0; 16]);
    let mut of_another = honest.clone();
    of_another.minted = of_another
        .minted
        .map(|minted| cantrip_runtime::domain::loom::Minted { nonce: Nonce::from_bytes([9; 16]), ..minted });
    for (wrong, expected) in
        [(unsaid, "does not say who minted"), (ground, "does not commit to"), (of_another, "does not commit to")]
    {
        let home = Looking::default();
        let refused = a.peers.cast("b", &wrong, &home).await.unwrap_err().to_string();
        assert!(refused.contains(expected), "{expected}: {refused}");
    }
    assert!(net.nodes[1].store.looms().unwrap().is_empty(), "nothing of them is recorded");
    super::cast(&a.peers, &honest, &Looking::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_with_a_record_founds_the_loom_before_anybody_else_hears_of_it() {
    let net = net(&["a", "b"], |_, _| {}).await;
    let (a, b) = (&net.nodes[0], &net.nodes[1]);
    // Nobody answers there: the loom is founded all the same.
    let lost = a.runtime.cast_at("nobody", remote(&[], turns(3)), "go", CastOptions::default()).await;
    assert!(lost.is_err() && a.store.looms().unwrap().iter().all(|loom| kinds(&*a.store, loom.loom) == ["founded"]));
    let intent = script(json!([{ "done": 1 }]));
    let outcome = a.runtime.cast_at("b", remote(&[], turns(3)), &intent, CastOptions::default()).await.unwrap();
    let loom = a.store.loom_of(outcome.entity).unwrap().unwrap();
    let (mine, theirs) = (kinds(&*a.store, loom), kinds(&*b.store, loom));
    assert_eq!((&mine[..3], theirs[0].as_str()), (&["founded", "admitted", "settled"].map(String::from)[..], "opened"));
    let entries = a.store.entries(loom).unwrap();
    let opened = entries.iter().find_map(|sealed| match &sealed.entry.body {
        Body::Opened(opened) => Some(opened),
        _ => None,
    });
    let opened = opened.unwrap();
    assert_eq!(
        opened.minted.unwrap().by,
        LoomStore::writer(&*a.store),
        "the caller minted the entity, the host opened it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_founds_a_loom_by_naming_an_id() {
    let net = net(&["a", "b"], |_, _| {}).await;
    let a = &net.nodes[0];
    let intent = script(json!([{ "done": 1 }]));
    let into = |loom| CastOptions { loom: Some(loom), ..CastOptions::default() };
    let chosen = LoomId::from_parts(1, [0; 16]);
    let refused = a.runtime.cast_at("b", remote(&[], turns(3)), &intent, into(chosen)).await.unwrap_err();
    assert!(refused.to_string().contains("there is no loom"), "{refused}");
    assert!(a.store.looms().unwrap().is_empty() && net.nodes[1].store.looms().unwrap().is_empty());
    let founded = a.runtime.found().unwrap();
    a.runtime.cast_at("b", remote(&[], turns(3)), &intent, into(founded)).await.unwrap();
    assert_eq!(kinds(&*a.store, founded).first().map(String::as_str), Some("founded"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_a_record_is_told_the_same_ids_though_its_node_has_taken_another_key() {
    let folder = tempfile::tempdir().unwrap();
    let store = FjallStore::open(folder.path(), StoreOptions::default()).unwrap();
    let kept = Arc::clone(&store) as Arc<dyn LoomStore>;
    let net = net_with(&["a", "b"], |_, _| {}, |name| (name == "b").then(|| Arc::clone(&kept))).await;
    let mut asking = order(remote(&[], turns(3)).order, &script(json!([{ "done": 1 }])));
    asking.by_host = ByHost::LoomAndEntity;
    let (first, again) = (Client::default(), Client::default());
    net.nodes[0].peers.cast("b", &asking, &first).await.unwrap();
    let old = LoomStore::writer(&*store);
    let new = store.renew(old, &BTreeSet::new()).unwrap();
    assert_ne!(old, new);
    net.nodes[0].peers.cast("b", &asking, &again).await.unwrap();
    assert_eq!(again.told(), first.told(), "it is the cast that was asked for before");
    assert_eq!(store.looms().unwrap().len(), 1);
}
