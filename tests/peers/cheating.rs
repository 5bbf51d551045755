//! Hosts that change what they say, have lost what they signed, or whose disk is full; and what a test looks into them with.

use std::sync::Arc;

use crate::peer_support::{number, remote, turns};
use cantrip_runtime::adapters::peer::PeerNodes;
use cantrip_runtime::adapters::store::{MemoryStore, NodeKey};
use cantrip_runtime::domain::event::Event;
use cantrip_runtime::domain::ids::{BlobId, CastId, EntityId, EntryId, LoomId, WriterKey};
use cantrip_runtime::domain::loom::Sealed;
use cantrip_runtime::domain::loom::{
    Body, CastBatch, CastChain, CastHead, CastUnit, Entry, EquivocationProof, Head, Opened,
};
use cantrip_runtime::domain::model::{ModelError, Question, RawAnswer};
use cantrip_runtime::domain::remote::ByHost;
use cantrip_runtime::domain::remote::CantripOrder;
use cantrip_runtime::domain::remote::Order;
use cantrip_runtime::ports::{BoxFuture, Home, HomeError, Peers, Pieces, RemoteEnd, Signal};
use cantrip_runtime::ports::{By, LogState, LoomStore, LoomSummary, PeerError, StoreError, Verified};
use cantrip_runtime::{CastOptions, Wards};
use serde_json::{Value, json};

use crate::peer_support;
use crate::{batch, clean, key, net_with, parent, script};

/// A home that only looks on: what came, and the heads that came, each time with how much had come before.
#[derive(Default)]
pub(crate) struct Looking(
    pub(crate) std::sync::Mutex<Vec<Sealed>>,
    pub(crate) std::sync::Mutex<Vec<(usize, Vec<CastHead>)>>,
);

impl Home for Looking {
    fn named(&self, _: LoomId, _: EntityId) -> Result<(), HomeError> {
        Ok(())
    }

    fn receive(&self, sealed: Sealed) -> Result<(), HomeError> {
        self.0.lock().unwrap().push(sealed);
        Ok(())
    }

    fn cover(&self, heads: Vec<CastHead>) -> Result<(), HomeError> {
        let come = self.0.lock().unwrap().len();
        self.1.lock().unwrap().push((come, heads));
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

pub(crate) fn order(cantrip: CantripOrder, intent: &str) -> Order {
    let n = number();
    let mut random = [0; 16];
    random[..8].copy_from_slice(&n.to_be_bytes());
    let (loom, entity, minted) = peer_support::minted_by_hand(n, random);
    Order {
        cast: CastId::from_parts(n, *random.first_chunk().unwrap()),
        loom,
        entity,
        minted: Some(minted),
        by_host: ByHost::Nothing,
        parent: None,
        spawned_by: None,
        depth: 0,
        cantrip,
        intent: intent.to_owned(),
        trace: None,
        deadline: None,
        lease: None,
        again: false,
        keep: false,
        fork: None,
        seen: cantrip_runtime::Exposure::default(),
        credentials: Arc::default(),
        origins: Vec::new(),
    }
}

pub(crate) async fn cast(peers: &Arc<PeerNodes>, order: &Order, home: &Looking) -> Result<RemoteEnd, PeerError> {
    peer_support::cast_shown(peers, "b", order, home).await
}

/// What is done to an entry before it is said.
pub(crate) type Cheat = Box<dyn Fn(Sealed) -> Sealed + Send + Sync>;

/// A store that changes what it says, or takes nothing any more.
pub(crate) struct Strange {
    pub(crate) inner: Arc<MemoryStore>,
    pub(crate) change: Cheat,
    pub(crate) full: std::sync::atomic::AtomicBool,
}

impl std::fmt::Debug for Strange {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Strange")
    }
}

impl Strange {
    fn check(&self) -> Result<(), StoreError> {
        if self.full.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(StoreError::Poisoned { what: "no space left on device".to_owned() });
        }
        Ok(())
    }
}

impl LoomStore for Strange {
    fn writer(&self) -> WriterKey {
        self.inner.writer()
    }
    fn head(&self, loom: LoomId) -> Result<Head, StoreError> {
        self.inner.head(loom)
    }
    fn append(&self, sealed: Sealed) -> Result<(), StoreError> {
        self.check()?;
        self.inner.append(sealed)
    }
    fn receive(&self, batch: CastBatch) -> Result<(), StoreError> {
        self.check()?;
        self.inner.receive(batch)
    }
    fn sign_cast(&self, loom: LoomId, cast: EntityId, at: CastChain) -> Result<CastHead, StoreError> {
        self.inner.sign_cast(loom, cast, at)
    }
    fn cast_heads(&self, loom: LoomId) -> Result<Vec<CastHead>, StoreError> {
        self.inner.cast_heads(loom)
    }
    fn covered(&self, loom: LoomId, after: u64, max: usize) -> Result<Vec<(u64, Vec<CastHead>)>, StoreError> {
        self.inner.covered(loom, after, max)
    }
    fn recorded(&self, loom: LoomId, by: By, after: u64, max: usize) -> Result<Vec<(u64, Sealed)>, StoreError> {
        let found = self.inner.recorded(loom, by, after, max)?;
        Ok(found.into_iter().map(|(place, sealed)| (place, (self.change)(sealed))).collect())
    }
    fn sync(&self, loom: LoomId) -> BoxFuture<'_, Result<(), StoreError>> {
        let checked = self.check();
        Box::pin(async move {
            checked?;
            self.inner.sync(loom).await
        })
    }
    fn entry(&self, id: EntryId) -> Result<Option<Sealed>, StoreError> {
        self.inner.entry(id)
    }
    fn entries(&self, loom: LoomId) -> Result<Vec<Sealed>, StoreError> {
        self.inner.entries(loom)
    }
    fn entries_of(&self, entity: EntityId) -> Result<Vec<Sealed>, StoreError> {
        self.inner.entries_of(entity)
    }
    fn children(&self, id: EntryId) -> Result<Vec<EntryId>, StoreError> {
        self.inner.children(id)
    }
    fn loom_of(&self, entity: EntityId) -> Result<Option<LoomId>, StoreError> {
        self.inner.loom_of(entity)
    }
    fn blob(&self, id: BlobId) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.blob(id)
    }
    fn logs(&self, loom: LoomId) -> Result<Vec<LogState>, StoreError> {
        self.inner.logs(loom)
    }

    fn proofs(&self) -> Result<Vec<EquivocationProof>, StoreError> {
        self.inner.proofs()
    }

    fn accuse(&self, proof: &EquivocationProof) -> Result<bool, StoreError> {
        self.inner.accuse(proof)
    }

    fn looms(&self) -> Result<Vec<LoomSummary>, StoreError> {
        self.inner.looms()
    }
    fn verify(&self, loom: Option<LoomId>) -> Result<Verified, StoreError> {
        self.inner.verify(loom)
    }
}

pub(crate) fn strange(change: impl Fn(Sealed) -> Sealed + Send + Sync + 'static) -> Arc<Strange> {
    Arc::new(Strange { inner: MemoryStore::with_key(key()), change: Box::new(change), full: false.into() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_cheats_is_refused_by_entry_and_nothing_of_it_is_recorded() {
    let said = |sealed: &Sealed| matches!(sealed.entry.body, Body::Utterance(_));
    let again = |change: &dyn Fn(&mut Entry), sealed: &Sealed| {
        let mut entry = sealed.entry.clone();
        change(&mut entry);
        Sealed::new(entry, Vec::new()).unwrap()
    };
    let mine = EntityId::from_parts(77, [7; 16]);
    let minted = std::sync::Mutex::new(None);
    let cheats: Vec<(&str, Cheat)> = vec![
        (
            "hashes to",
            Box::new(move |mut sealed| {
                if said(&sealed) {
                    let last = sealed.bytes.len() - 1;
                    sealed.bytes[last] ^= 1;
                }
                sealed
            }),
        ),
        (
            "it is of loom",
            Box::new(move |sealed| {
                let other = LoomId::from_parts(9, [9; 16]);
                if said(&sealed) { again(&|entry| entry.loom = other, &sealed) } else { sealed }
            }),
        ),
        // An honest filter drops this before it travels: then what follows it has nothing to follow.
        (
            "which has not come",
            Box::new(
                move |sealed| if said(&sealed) { again(&|entry| entry.entity = Some(mine), &sealed) } else { sealed },
            ),
        ),
        (
            "belongs to no turn",
            Box::new(move |sealed| {
                let body = Body::Observation(Box::default());
                if said(&sealed) { again(&|entry| entry.body = body.clone(), &sealed) } else { sealed }
            }),
        ),
        (
            "which is open already",
            Box::new(move |sealed| {
                if let Body::Opened(opened) = &sealed.entry.body {
                    *minted.lock().unwrap() = opened.minted;
                }
                let minted = *minted.lock().unwrap();
                let opening = Opened { minted, ..an_opening(sealed.entry.entity.unwrap()) };
                let opening = Body::Opened(Box::new(opening));
                if said(&sealed) { again(&|entry| entry.body = opening.clone(), &sealed) } else { sealed }
            }),
        ),
    ];
    for (expected, cheat) in cheats {
        let store = strange(cheat);
        let lying: Arc<dyn LoomStore> = Arc::clone(&store) as _;
        let net = net_with(&["a", "b"], |_, _| {}, |name| (name == "b").then(|| Arc::clone(&lying))).await;
        let a = &net.nodes[0];
        let intent = script(json!([{ "call": "echo", "args": { "text": "x" } }, { "done": "cheated" }]));
        let requests = json!([{ "node": "b", "intent": intent, "gates": ["echo"] }]);
        let (outcome, loom) = parent(a, turns(9), Vec::new(), requests).await;
        assert_eq!(outcome.result, Some(json!("all")), "the parent goes on");
        let answer = &batch(a, loom)[0];
        let kept = a.store.entries(loom).unwrap();
        assert!(answer["error"].as_str().unwrap().contains(expected), "{expected}: {answer}");
        assert!(kept.iter().all(|sealed| sealed.entry.loom == loom && sealed.entry.entity != Some(mine)));
        clean(a);
    }
}

/// A caller that shows heads of a cast.
pub(crate) struct Showing(pub(crate) Vec<CastHead>, pub(crate) Looking);

impl Home for Showing {
    fn named(&self, _: LoomId, _: EntityId) -> Result<(), HomeError> {
        Ok(())
    }

    fn heads(&self) -> Vec<CastHead> {
        self.0.clone()
    }

    fn receive(&self, sealed: Sealed) -> Result<(), HomeError> {
        self.1.receive(sealed)
    }

    fn cover(&self, heads: Vec<CastHead>) -> Result<(), HomeError> {
        self.1.cover(heads)
    }

    fn sync(&self) -> BoxFuture<'_, Result<(), HomeError>> {
        self.1.sync()
    }

    fn is_watched(&self) -> bool {
        self.1.is_watched()
    }

    fn event(&self, event: Event) {
        self.1.event(event);
    }

    fn gate<'a>(&'a self, gate: &'a str, value: Value) -> BoxFuture<'a, Result<Value, cantrip_runtime::GateError>> {
        self.1.gate(gate, value)
    }

    fn ask<'a>(&'a self, it: &'a Question, pieces: &'a dyn Pieces) -> BoxFuture<'a, Result<RawAnswer, ModelError>> {
        self.1.ask(it, pieces)
    }

    fn guest<'a>(&'a self, digest: &'a str) -> BoxFuture<'a, Option<Vec<u8>>> {
        self.1.guest(digest)
    }

    fn signal(&self) -> BoxFuture<'_, Signal> {
        self.1.signal()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_record_does_not_lead_to_the_head_that_its_caller_shows_does_not_go_on() {
    let own = NodeKey::from_secret(&[77; 32]);
    let store: Arc<dyn LoomStore> = MemoryStore::with_key(own.clone());
    let net = net_with(&["a", "b"], |_, _| {}, |name| (name == "b").then(|| Arc::clone(&store))).await;
    let peers = &net.nodes[0].peers;
    let order = order(remote(&[], turns(3)).order, &script(json!([{ "done": "once" }])));
    let first = Looking::default();
    assert_eq!(cast(peers, &order, &first).await.unwrap().result, Some(json!("once")));
    let mut unit = CastUnit::of(order.entity);
    assert!(first.0.lock().unwrap().iter().all(|sealed| unit.takes(sealed)));
    let shows = async |head: CastHead| {
        let home = Showing(vec![head], Looking::default());
        let end = peers.cast("b", &order, &home).await;
        (end.map(|end| end.result).map_err(|error| error.to_string()), home.1.0.lock().unwrap().len())
    };
    // What the caller has it is not told again.
    let sound = own.sign_cast(order.loom, order.entity, unit.at());
    assert_eq!(shows(sound).await, (Ok(Some(json!("once"))), 0));
    let longer = own.sign_cast(order.loom, order.entity, CastChain { place: 99, chain: [1; 32] });
    let (refused, _) = shows(longer).await;
    assert!(refused.unwrap_err().contains("this node has signed entry 99 of the cast"));
    let other = own.sign_cast(order.loom, order.entity, CastChain { chain: [1; 32], ..unit.at() });
    let (refused, _) = shows(other).await;
    assert!(refused.unwrap_err().contains("its record does not lead there"));
    let (refused, _) = shows(CastHead { signature: [0; 64], ..longer }).await;
    assert!(refused.unwrap_err().contains("is not signed by it"));
    // A head of somebody else says nothing about this node's record.
    let others = key().sign_cast(order.loom, order.entity, longer.at);
    assert_eq!(shows(others).await.0, Ok(Some(json!("once"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_disk_is_full_says_so() {
    let store = strange(|sealed| sealed);
    store.full.store(true, std::sync::atomic::Ordering::SeqCst);
    let full: Arc<dyn LoomStore> = Arc::clone(&store) as _;
    let net = net_with(&["a", "b"], |_, _| {}, |name| (name == "b").then(|| Arc::clone(&full))).await;
    let a = &net.nodes[0];
    let refused =
        a.runtime.cast_at("b", remote(&[], turns(3)), &script(json!([{ "done": 1 }])), CastOptions::default()).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("no space left on device"), "{refused}");
}

/// What nobody has said of an entity.
fn an_opening(spawned_by: EntityId) -> Opened {
    Opened {
        identity: cantrip_runtime::domain::loom::IdentityRecord::default(),
        medium: "conversation".to_owned(),
        medium_digest: None,
        gates: Vec::new(),
        wards: Wards::default(),
        folding: cantrip_runtime::domain::cantrip::Folding::default(),
        model: "told".to_owned(),
        guest: None,
        intent: cantrip_runtime::domain::loom::Payload::Inline("take over".to_owned()),
        node: "b".to_owned(),
        depth: 1,
        cast: CastId::from_parts(3, [3; 10]),
        spawned_by: Some(spawned_by),
        ..Opened::default()
    }
}
