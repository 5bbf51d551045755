use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::adapters::store::key::KEY_FILE;
use crate::adapters::store::{FjallStore, StoreOptions};
use crate::domain::ids::{EntityId, LoomId, WriterKey};
use crate::domain::loom::{Body, Entry, Payload, Sealed};
use crate::domain::members::relied_on;
use crate::ports::{CopyStore, LoomStore, MemberStore};

fn loom() -> LoomId {
    LoomId::from_parts(1, [1; 16])
}

fn open(folder: &Path) -> Arc<FjallStore> {
    FjallStore::open(folder, StoreOptions::default()).unwrap()
}

/// One entry more in a record.
fn record(folder: &Path) -> WriterKey {
    let store = open(folder);
    let (writer, entity) = (store.writer(), EntityId::from_parts(1, [1; 16]));
    let body = Body::intent(Payload::Inline("go".to_owned()), false, None);
    let sequence = store.head(loom()).unwrap().sequence + 1;
    let entry = Entry::new(loom(), (writer, sequence), 1, entity, None, body);
    store.append(Sealed::new(entry, Vec::new()).unwrap()).unwrap();
    store.close().unwrap();
    writer
}

/// The same record as it is after it was copied: each file is another one.
fn copied(folder: &Path) {
    let key = folder.join(KEY_FILE);
    let beside = folder.join("copied");
    std::fs::copy(&key, &beside).unwrap();
    std::fs::rename(&beside, &key).unwrap();
}

/// The keys that the present one takes the place of, by what is on disk and holds.
fn predecessors(store: &FjallStore) -> Vec<WriterKey> {
    let older = |key| {
        let all = store.attestations_of(loom(), key)?;
        for it in all.iter().filter(|it| it.predecessor().is_some()) {
            it.check(&crate::adapters::x509::X509).unwrap();
        }
        Ok::<_, StoreError>(all.iter().filter_map(Attestation::predecessor).collect())
    };
    relied_on(store.writer(), older).unwrap()
}

fn secret(folder: &Path) -> WriterKey {
    NodeKey::load(folder).unwrap().unwrap().writer()
}

#[test]
fn a_copied_folder_takes_a_new_key_that_the_old_one_has_signed() {
    let folder = tempfile::tempdir().unwrap();
    let old = record(folder.path());
    assert_eq!(predecessors(&open(folder.path())), [old], "as long as it stays where it is");
    copied(folder.path());
    let store = open(folder.path());
    assert_ne!(store.writer(), old);
    assert_eq!(predecessors(&store), [store.writer(), old]);
    assert_eq!(store.formerly().unwrap(), [old]);
    let sent = store.attestations(loom()).unwrap();
    assert!(sent.is_empty(), "the new key has written nothing there: {sent:?}");
}

#[test]
fn what_vouches_for_the_new_key_belongs_to_a_loom_once_that_key_writes_there() {
    let folder = tempfile::tempdir().unwrap();
    let old = record(folder.path());
    copied(folder.path());
    let new = record(folder.path());
    let store = open(folder.path());
    let vouched = store.vouched(loom()).unwrap();
    let found: Vec<_> = vouched.successions.iter().map(|it| (it.predecessor(), it.successor())).collect();
    assert_eq!(found, [(old, new)]);
    assert_eq!(store.successors(loom(), old).unwrap(), [new]);
    assert_eq!(FjallStore::open_reading(folder.path()).unwrap().vouched(loom()).unwrap(), vouched);
    assert!(store.verify(Some(loom())).unwrap().findings.is_empty());
}

#[test]
fn a_store_that_is_told_to_renew_signs_with_the_key_that_it_had() {
    let folder = tempfile::tempdir().unwrap();
    let old = record(folder.path());
    let store = open(folder.path());
    let first = store.renew(store.writer(), &BTreeSet::new()).unwrap();
    let second = store.renew(first, &BTreeSet::new()).unwrap();
    assert_eq!(predecessors(&store), [second, first, old]);
    drop(store);
    let again = open(folder.path());
    assert_eq!(again.writer(), second, "nothing was copied: the key stays");
    assert_eq!(predecessors(&again), [second, first, old]);
}

/// The steps of a new key, up to the one after which the machine is cut off.
fn cut_off_after(folder: &Path, steps: usize) {
    let old = NodeKey::load(folder).unwrap().unwrap();
    let database = Database::open(&Folder(folder).database(), crate::adapters::store::database::CACHE_BYTES).unwrap();
    let at = Folder(folder);
    if steps == 0 {
        return;
    }
    let next = make(&at).unwrap();
    if steps > 1 {
        switch(&at, &database, &old, &next).unwrap();
    }
    if steps > 2 {
        finish(&at).unwrap();
    }
}

#[test]
fn at_each_instant_of_the_switch_the_old_key_is_there_or_has_signed() {
    for steps in 0..=3 {
        for is_copied_again in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let old = record(folder.path());
            copied(folder.path());
            cut_off_after(folder.path(), steps);
            assert_eq!(secret(folder.path()) == old, steps < 3, "after {steps} steps");
            if is_copied_again {
                copied(folder.path());
            }
            let store = open(folder.path());
            let keys = predecessors(&store);
            assert_ne!(keys.first(), Some(&old), "after {steps} steps");
            assert_eq!(keys.last(), Some(&old), "after {steps} steps: {keys:?}");
            assert_eq!(secret(folder.path()), store.writer());
            let writer = store.writer();
            drop(store);
            assert_eq!(open(folder.path()).writer(), writer, "and then it stays");
        }
    }
}

#[test]
fn keepers_that_find_out_at_once_that_a_key_is_needed_make_one() {
    let folder = tempfile::tempdir().unwrap();
    let old = record(folder.path());
    let store = open(folder.path());
    let began = std::sync::Barrier::new(8);
    let made: BTreeSet<WriterKey> = std::thread::scope(|scope| {
        let renewing = [(); 8].map(|()| {
            scope.spawn(|| {
                began.wait();
                store.renew(old, &BTreeSet::new()).unwrap()
            })
        });
        renewing.map(|renewed| renewed.join().unwrap()).into_iter().collect()
    });
    assert_eq!(made, BTreeSet::from([store.writer()]));
    assert_eq!(secret(folder.path()), store.writer());
    assert_eq!(predecessors(&store), [store.writer(), old]);
    store.close().unwrap();
    drop(store);
    assert_eq!(open(folder.path()).writer(), secret(folder.path()), "it opens again");
}
