use super::*;
use crate::adapters::store::{NodeKey, StoreOptions};
use crate::domain::ids::EntityId;
use crate::domain::loom::{Body, Entry, Payload, Sealed};
use crate::domain::members::Succession;
use crate::ports::MemberStore as _;

fn loom() -> LoomId {
    LoomId::from_parts(1, [1; 16])
}

#[test]
fn a_row_that_does_not_hold_decides_nothing_and_is_named_by_a_verification() {
    let folder = tempfile::tempdir().unwrap();
    let store = FjallStore::open(folder.path(), StoreOptions::default()).unwrap();
    let body = Body::intent(Payload::Inline("go".to_owned()), false, None);
    let entry = Entry::new(loom(), (store.writer(), 1), 1, EntityId::from_parts(1, [1; 16]), None, body);
    store.append(Sealed::new(entry, Vec::new()).unwrap()).unwrap();
    let [old, new] = [3, 4].map(|secret| NodeKey::from_secret(&[secret; 32]));
    let whole = old.succeed(&new);
    assert!(store.attest(loom(), &[Attestation::Succession(whole)]).unwrap().iter().all(Result::is_ok));
    store.close().unwrap();
    drop(store);
    let store = FjallStore::open(folder.path(), StoreOptions::default()).unwrap();
    assert!(store.verify(None).unwrap().findings.is_empty());
    let wrong = Attestation::Succession(Succession { by_old: whole.by_new, ..whole });
    let row = |tag: u8| [rows::attested_kind(loom(), &wrong), vec![tag; 32]].concat();
    store.database.note(&row(1), &rows::attestation_value(&wrong)).unwrap();
    store.database.note(&row(2), b"nothing").unwrap();
    assert_eq!(store.vouched(loom()).unwrap().successions, [whole.check().unwrap()]);
    for which in [None, Some(loom())] {
        let found: Vec<String> = store.verify(which).unwrap().findings.into_iter().map(|it| it.what).collect();
        let named = format!("what should vouch for writer {} does not hold", new.writer());
        assert!(found.iter().any(|what| what.starts_with(&named)), "{found:?}");
        assert!(found.iter().any(|what| what.contains("cannot be read")), "{found:?}");
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
