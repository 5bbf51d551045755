//! What peers can make a node do when it starts.

use std::sync::Arc;

use cantrip_runtime::adapters::clock::SystemClock;
use cantrip_runtime::adapters::store::{MemoryStore, NodeKey};
use cantrip_runtime::domain::cantrip::Folding;
use cantrip_runtime::domain::ids::{CastId, EntityId, LoomId};
use cantrip_runtime::domain::loom::{Body, Entry, IdentityRecord, Minted, Opened, Payload, Sealed};
use cantrip_runtime::domain::members::Nonce;
use cantrip_runtime::driver::{Casts, HostLimits};
use cantrip_runtime::ports::LoomStore;
use cantrip_runtime::{NoMedia, Runtime, Wards};

fn opened(number: u64) -> Opened {
    Opened {
        identity: IdentityRecord::default(),
        medium: "conversation".to_owned(),
        medium_digest: None,
        gates: Vec::new(),
        wards: Wards::default(),
        folding: Folding::default(),
        model: "m".to_owned(),
        guest: None,
        intent: Payload::Inline("go".to_owned()),
        node: "b@127.0.0.1:1".to_owned(),
        depth: 0,
        cast: CastId::from_parts(number, [3; 10]),
        caller: Some("a@127.0.0.1:1".to_owned()),
        ..Opened::default()
    }
}

#[test]
fn a_node_looks_through_so_many_looms_for_what_was_cut_off() {
    let store = MemoryStore::with_key(NodeKey::from_secret(&[1; 32]));
    for number in 1..=1_003 {
        let (by, nonce) = (store.writer(), Nonce::from_bytes([1; 16]));
        let (loom, entity) = (LoomId::mint(number, &by, &nonce, None), EntityId::mint(number, &by, &nonce));
        let opened = Opened { minted: Some(Minted { by, nonce }), ..opened(number) };
        let founded = Entry::new(loom, (by, 1), number, None, None, Body::Founded { nonce, member: None });
        let opened = Entry::new(loom, (by, 2), number, entity, None, Body::Opened(Box::new(opened)));
        for entry in [founded, opened] {
            store.append(Sealed::new(entry, Vec::new()).unwrap()).unwrap();
        }
    }
    let clock = Arc::new(SystemClock::default());
    let casts =
        Casts::new(Runtime::new(store, Arc::new(NoMedia), clock, "b@127.0.0.1:1".to_owned()), HostLimits::default());
    assert_eq!(casts.unfinished().unwrap().len(), 1_000);
}
