//! Who is taken for a keeper of a loom.

use std::sync::Arc;

use cantrip_runtime::adapters::clock::SystemClock;
use cantrip_runtime::adapters::store::{FileBook, MemoryStore, NodeKey};
use cantrip_runtime::domain::copies::{CopyKind, CopyMessage, Keeper, Keeping};
use cantrip_runtime::domain::ids::{EntityId, LoomId};
use cantrip_runtime::domain::loom::{Body, CastStream, CastUnit, Entry, Payload, Sealed};
use cantrip_runtime::driver::{Copies, CopyPolicy, CopyTerms, Session};
use cantrip_runtime::ports::LoomStore;

#[derive(Debug)]
struct Everybody;

impl CopyPolicy for Everybody {
    fn terms(&self, _: &Keeper) -> CopyTerms {
        CopyTerms { disk: true, memory: true, bytes_max: u64::MAX, looms_max: 1_000 }
    }
}

fn store(number: u8) -> Arc<MemoryStore> {
    MemoryStore::with_key(NodeKey::from_secret(&[number; 32]))
}

/// What a caller has of a cast on another node is in that node's writing alone. A third node that knows the loom's id and names
/// itself its keeper would be told everything by the host, at the word of the caller.
#[tokio::test]
async fn whoever_knows_the_id_of_a_loom_that_runs_elsewhere_is_not_taken_for_its_keeper() {
    let folder = tempfile::tempdir().unwrap();
    let (caller, host) = (store(1), store(2));
    let loom = LoomId::from_parts(1, [1; 16]);
    let body = Body::intent(Payload::Inline("a secret".to_owned()), false, None);
    let (writer, entity) = (LoomStore::writer(&*host), EntityId::from_parts(1, [2; 16]));
    let entry = Entry::new(loom, (writer, 1), 1, entity, None, body);
    let sealed = Sealed::new(entry, Vec::new()).unwrap();
    let mut unit = CastUnit::of(entity);
    assert!(unit.takes(&sealed));
    let head = host.sign_cast(loom, entity, unit.at()).unwrap();
    let mut stream = CastStream::new(loom, LoomStore::writer(&*caller), entity);
    caller.receive(stream.check(vec![sealed], vec![head]).unwrap()).unwrap();
    let copies = Copies::new(
        "a".parse().unwrap(),
        Arc::clone(&caller) as _,
        store(1),
        FileBook::new(folder.path()),
        Arc::new(Everybody),
        Arc::new(SystemClock::default()),
    )
    .unwrap();
    let mallory: Keeper = "m".parse().unwrap();
    let mut session = Session::new(Arc::clone(&copies), mallory.clone()).unwrap();
    let keeping = Keeping { revision: 1, kind: CopyKind::Disk };
    let have = |loom| CopyMessage::Have {
        loom,
        origin: mallory.clone(),
        keepers: ["a", "b", "m"].map(|name| (name.parse().unwrap(), keeping)).into(),
        logs: Vec::new(),
        casts: Vec::new(),
    };
    session.hear(have(loom)).await.unwrap();
    assert!(copies.of(loom).is_none() && copies.keepers().is_empty(), "nobody is asked for it");
    assert!(matches!(session.next_message().unwrap(), Some(CopyMessage::Refused { .. })));
    // One of which nothing is here may be brought.
    let new = LoomId::from_parts(2, [2; 16]);
    session.hear(have(new)).await.unwrap();
    assert!(copies.is_keeper(new, &mallory));
}
