use super::*;
use crate::adapters::clock::SystemClock;
use crate::adapters::store::{MemoryStore, NodeKey};
use crate::domain::copies::{Keeper, LoomCopies};
use crate::domain::loom::Opened;
use crate::domain::members::Nonce;
use crate::driver::{CopyPolicy, CopyTerms};
use crate::ports::CopyBook;

#[tokio::test]
async fn a_turn_that_records_much_waits_for_the_store() {
    let store: Arc<dyn LoomStore> = MemoryStore::new(WriterKey::from_bytes([1; 32]));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let ((id, founding), entity) = (minted(store.writer()), EntityId::from_parts(1, [1; 16]));
    let loom = Looms::default().open(id, Some(founding.into()), &store, &clock, None).unwrap();
    let synced = loom.grows();
    let text = "x".repeat(16 * 1024);
    for recorded in 1..=65 {
        let body = Body::intent(Payload::Inline(text.clone()), false, None);
        loom.append(entity, None, body, Vec::new()).unwrap();
        loom.relieve().await.unwrap();
        let is_much = recorded * text.len() as u64 >= UNSYNCED_BYTES_MAX;
        assert_eq!(synced.has_changed().unwrap(), is_much, "after {recorded} texts of 16 KiB");
    }
}

#[derive(Debug)]
struct Nobody;

impl CopyPolicy for Nobody {
    fn terms(&self, _: &Keeper) -> CopyTerms {
        CopyTerms::NONE
    }
}

#[derive(Debug)]
struct NoBook;

impl CopyBook for NoBook {
    fn load(&self) -> Result<Vec<LoomCopies>, StoreError> {
        Ok(Vec::new())
    }

    fn save(&self, _: &LoomCopies) -> Result<(), StoreError> {
        Ok(())
    }
}

#[tokio::test]
async fn an_entity_that_was_adopted_in_the_meantime_is_not_gone_on_with_after_a_sync_or_before_an_effect() {
    let store = MemoryStore::with_key(NodeKey::from_secret(&[1; 32]));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let (memory, own) = (MemoryStore::with_key(NodeKey::from_secret(&[1; 32])), Keeper::Local);
    let (book, policy) = (Arc::new(NoBook), Arc::new(Nobody));
    let copies = Copies::new(own, Arc::clone(&store) as _, memory, book, policy, Arc::clone(&clock)).unwrap();
    let store: Arc<dyn LoomStore> = store;
    let ((id, founding), entity) = (minted(store.writer()), EntityId::from_parts(1, [1; 16]));
    let loom = Looms::default().open(id, Some(founding.into()), &store, &clock, Some(&copies)).unwrap();
    let go = || Body::intent(Payload::Inline("go".to_owned()), false, None);
    loom.append(entity, None, go(), Vec::new()).unwrap();
    loom.sync_of(entity).await.unwrap();
    loom.goes_on(entity).unwrap();
    copies.fence(entity, Some(WriterKey::from_bytes([9; 32])));
    let is_elsewhere = |result: Result<(), Fault>| assert!(matches!(result, Err(Fault::Elsewhere { .. })));
    is_elsewhere(loom.sync_of(entity).await);
    is_elsewhere(loom.goes_on(entity));
    is_elsewhere(loom.append(entity, None, go(), Vec::new()).map(drop));
    // Another entity of the same loom is this node's as before.
    loom.sync_of(EntityId::from_parts(2, [1; 16])).await.unwrap();
}

fn minted(by: WriterKey) -> (LoomId, Minted) {
    let nonce = Nonce::from_bytes([2; 16]);
    (LoomId::mint(1, &by, &nonce, None), Minted { by, nonce })
}

fn kinds(store: &dyn LoomStore, loom: LoomId) -> Vec<String> {
    store.entries(loom).unwrap().iter().map(|sealed| sealed.entry.body.kind().to_owned()).collect()
}

#[test]
fn a_new_loom_is_founded_with_its_first_entry_and_once() {
    let store: Arc<dyn LoomStore> = MemoryStore::new(WriterKey::from_bytes([1; 32]));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let (id, founding) = minted(store.writer());
    let entity = EntityId::from_parts(1, [1; 16]);
    for _ in 0..2 {
        // Opened again as after a restart: what is founded is not founded anew.
        let loom = Looms::default().open(id, Some(founding.into()), &store, &clock, None).unwrap();
        loom.append(entity, None, Body::intent(Payload::Inline("go".to_owned()), false, None), Vec::new()).unwrap();
    }
    assert_eq!(kinds(&*store, id), ["founded", "intent", "intent"]);
    let founded = store.entries(id).unwrap().remove(0).entry;
    assert_eq!((founded.sequence, founded.parent, founded.check_minted()), (1, None, Ok(())));
}

#[test]
fn a_loom_is_not_founded_with_another_key_than_its_id_commits_to() {
    let store: Arc<dyn LoomStore> = MemoryStore::new(WriterKey::from_bytes([1; 32]));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let (id, founding) = minted(WriterKey::from_bytes([9; 32]));
    let loom = Looms::default().open(id, Some(founding.into()), &store, &clock, None).unwrap();
    assert!(matches!(loom.found(), Err(Fault::NewKey { .. })));
    assert!(kinds(&*store, id).is_empty());
}

#[test]
fn an_entity_is_not_recorded_under_an_id_that_nobody_has_minted() {
    let store: Arc<dyn LoomStore> = MemoryStore::new(WriterKey::from_bytes([1; 32]));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let (id, founding) = minted(store.writer());
    let loom = Looms::default().open(id, Some(founding.into()), &store, &clock, None).unwrap();
    let opened = Body::Opened(Box::new(Opened { minted: Some(founding), ..Opened::default() }));
    let ground = loom.append(EntityId::from_parts(1, [0; 16]), None, opened, Vec::new());
    assert!(matches!(ground, Err(Fault::Unminted(_))));
}
