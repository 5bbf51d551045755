use std::sync::Arc;

use super::*;
use crate::adapters::store::{MemoryStore, NodeKey, StoreOptions};
use crate::domain::ids::EntityId;
use crate::domain::limits::{PROVED_LOOM_BYTES_MAX, PROVED_LOOM_MAX};
use crate::domain::loom::{Body, Entry, Payload};
use crate::ports::{CopyStore, LoomStore as _, MemberStore as _};

fn loom() -> LoomId {
    LoomId::from_parts(1, [1; 16])
}

/// A store whose log has so many entries.
fn written(store: &dyn CopyStore, entries: u64) -> Vec<EntryId> {
    let sealed = |sequence| {
        let body = Body::intent(Payload::Inline("go".to_owned()), false, None);
        let entity = EntityId::from_parts(1, [1; 16]);
        Sealed::new(Entry::new(loom(), (store.writer(), sequence), 1, entity, None, body), Vec::new()).unwrap()
    };
    let all: Vec<Sealed> = (1..=entries).map(sealed).collect();
    for sealed in &all {
        store.append(sealed.clone()).unwrap();
    }
    all.into_iter().map(|sealed| sealed.id).collect()
}

fn stores() -> (tempfile::TempDir, [Arc<dyn CopyStore>; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let disk = FjallStore::open(folder.path(), StoreOptions::default()).unwrap();
    (folder, [disk, MemoryStore::with_key(NodeKey::from_secret(&[5; 32]))])
}

/// Proofs of another node's entries.
fn proofs(entries: u64) -> Vec<CheckedProof> {
    let other = MemoryStore::with_key(NodeKey::from_secret(&[6; 32]));
    let ids = written(&*other, entries);
    ids.into_iter().rev().map(|id| other.prove(id).unwrap().unwrap()).collect()
}

#[tokio::test]
async fn a_node_proves_entries_of_its_own_log_and_signs_where_it_is_needed() {
    let (_folder, stores) = stores();
    for store in stores {
        let ids = written(&*store, 5);
        store.sync(loom()).await.unwrap();
        // Nobody has asked for a signature yet.
        let third = store.prove(ids[2]).unwrap().unwrap();
        assert_eq!((third.id(), third.before().sequence, third.behind()), (ids[2], 2, [].as_slice()));
        // One that is near is used again.
        let first = store.prove(ids[0]).unwrap().unwrap();
        assert_eq!(first.behind(), [ids[1], ids[2]]);
        for proof in [third, first] {
            let again = ProvedEntry::parse(&proof.to_proof().to_bytes()).unwrap().check().unwrap();
            assert_eq!(again.id(), proof.id());
        }
        assert!(store.prove(EntryId::of(b"another")).unwrap().is_none());
    }
}

#[tokio::test]
async fn a_signature_that_is_too_far_behind_proves_nothing_and_another_is_made() {
    let (_folder, stores) = stores();
    for store in stores {
        let ids = written(&*store, PROVED_IDS_MAX as u64 + 2);
        store.sync(loom()).await.unwrap();
        let last = store.prove(*ids.last().unwrap()).unwrap().unwrap();
        assert!(last.behind().is_empty());
        let far = store.prove(ids[0]).unwrap().unwrap();
        assert!(far.behind().is_empty(), "{} ids", far.behind().len());
        let near = store.prove(ids[1]).unwrap().unwrap();
        assert_eq!(near.behind().len(), PROVED_IDS_MAX);
    }
}

#[test]
fn proved_entries_are_kept_once_found_again_and_forgotten_with_their_loom() {
    let (folder, stores) = stores();
    let all = proofs(3);
    for store in &stores {
        assert_eq!(store.keep_proved(&all[1..]).unwrap().unwrap(), 2);
        assert_eq!(store.keep_proved(&all).unwrap().unwrap(), 1);
        let mut kept: Vec<EntryId> = store.proved(loom()).unwrap().iter().map(CheckedProof::id).collect();
        let mut expected: Vec<EntryId> = all.iter().map(CheckedProof::id).collect();
        kept.sort_by_key(EntryId::digest);
        expected.sort_by_key(EntryId::digest);
        assert_eq!(kept, expected);
        assert_eq!(store.proved_entry(loom(), all[0].id()).unwrap().map(|it| it.id()), Some(all[0].id()));
        assert!(store.proved(LoomId::from_parts(2, [1; 16])).unwrap().is_empty());
    }
    drop(stores);
    let store = FjallStore::open(folder.path(), StoreOptions::default()).unwrap();
    assert_eq!(store.proved(loom()).unwrap().len(), 3, "they are there after a restart");
    store.forget(loom()).unwrap();
    assert!(store.proved(loom()).unwrap().is_empty());
    assert_eq!(store.keep_proved(&all).unwrap().unwrap(), 3, "and so is their count");
}

#[test]
fn a_proved_entry_that_is_damaged_decides_nothing_and_is_named_by_a_verification() {
    let (folder, _) = stores();
    let store = FjallStore::open(folder.path(), StoreOptions::default()).unwrap();
    written(&*store, 1);
    let all = proofs(2);
    store.keep_proved(&all).unwrap().unwrap();
    store.close().unwrap();
    drop(store);
    let store = FjallStore::open(folder.path(), StoreOptions::default()).unwrap();
    assert!(store.verify(None).unwrap().findings.is_empty());
    let mut bytes = all[0].to_proof().to_bytes();
    *bytes.last_mut().unwrap() ^= 1;
    store.database.note(&rows::proved(loom(), all[0].id()), &bytes).unwrap();
    store.database.note(&rows::proved(loom(), EntryId::of(b"3")), &all[1].to_proof().to_bytes()).unwrap();
    assert_eq!(store.proved(loom()).unwrap().iter().map(CheckedProof::id).collect::<Vec<_>>(), [all[1].id()]);
    assert!(store.proved_entry(loom(), all[0].id()).unwrap().is_none());
    for which in [None, Some(loom())] {
        let found: Vec<String> = store.verify(which).unwrap().findings.into_iter().map(|it| it.what).collect();
        let has = |part: &str| found.iter().any(|what| what.contains(part));
        assert!(has("a proved entry does not hold") && has("is kept as another") && has("were counted"), "{found:?}");
        assert_eq!(found.len(), 3, "{found:?}");
    }
}

#[test]
fn proved_entries_of_a_loom_are_counted() {
    let (folder, _) = stores();
    let store = FjallStore::open(folder.path(), StoreOptions::default()).unwrap();
    let all = proofs(2);
    let kept = |count, bytes| {
        let row = rows::proof_count_value(ProofCount { count, bytes });
        store.database.note(&rows::proved_count(loom()), &row).unwrap();
        store.keep_proved(&all).unwrap().map_err(|error| error.to_string())
    };
    for full in [kept(PROVED_LOOM_MAX - 1, 0), kept(0, PROVED_LOOM_BYTES_MAX - 1)] {
        assert!(full.is_err_and(|what| what.contains("are kept of this loom already")));
        assert!(store.proved(loom()).unwrap().is_empty(), "all of them or none");
    }
    assert_eq!(kept(PROVED_LOOM_MAX - 2, 0), Ok(2));
}
