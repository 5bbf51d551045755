//! Imports: of a valid archive, whatever is changed, nothing is taken that its writer has not signed, or whose writer nobody has admitted.

use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bolero::check;
use cantrip_runtime::adapters::store::MemoryStore;
use cantrip_runtime::domain::ids::{EntityId, LoomId};
use cantrip_runtime::domain::loom::{Body, CastStream, CastUnit, Entry, Minted, Payloads, Sealed};
use cantrip_runtime::domain::members::{Admitted, Nonce, Principal, Right, Scope};
use cantrip_runtime::export::car;
use cantrip_runtime::ports::{CopyStore, LoomStore, MemberStore};

use super::archive::{changed_archive, key};
use super::targets::Change;

const NONCE: Nonce = Nonce::from_bytes([6; 16]);

fn loom() -> LoomId {
    LoomId::mint(1_790_000_000_000, &key(1).writer(), &NONCE, None)
}

fn say(store: &MemoryStore, body: Body) {
    let entity = matches!(body, Body::Intent(_)).then(|| EntityId::from_parts(1, [2; 16]));
    let place = (LoomStore::writer(store), store.head(loom()).unwrap().sequence + 1);
    store.append(Sealed::new(Entry::new(loom(), place, place.1, entity, None, body), Vec::new()).unwrap()).unwrap();
}

fn admit(store: &MemoryStore, member: u8, scope: Option<Scope>) {
    let (principal, rights) = (Principal::Key(key(member).writer()), [Right::Write].into_iter().collect());
    let admitted = Admitted { principal, rights, scope, again: Vec::new(), by: None, note: None };
    say(store, Body::Admitted(Box::new(admitted)));
}

fn hand(from: &MemoryStore, to: &MemoryStore) {
    let segment = from.segment(loom(), LoomStore::writer(from), 0).unwrap().unwrap();
    to.take(segment.check().unwrap()).unwrap();
}

fn intent(text: &str) -> Body {
    Body::intent(Payloads::default().text(text), false, None)
}

/// A founder with a member, somebody whom nobody has admitted, a host of a cast, and a key in the place of the member's.
fn seed() -> Vec<u8> {
    let founder = MemoryStore::with_key(key(1));
    say(&founder, Body::Founded { nonce: NONCE, member: None });
    admit(&founder, 2, None);
    let cast = EntityId::mint(1, &key(1).writer(), &NONCE);
    let minted = Minted { by: key(1).writer(), nonce: NONCE };
    admit(&founder, 4, Some(Scope { entity: cast, minted, opener: key(4).writer(), bytes_max: 1 << 20 }));
    for other in [2, 3] {
        let store = MemoryStore::with_key(key(other));
        say(&store, intent("one"));
        say(&store, intent("two"));
        hand(&store, &founder);
    }
    let (mut unit, mut stream) = (CastUnit::of(cast), CastStream::new(loom(), key(1).writer(), cast));
    for place in 1..=3 {
        let sealed = Sealed::new(Entry::new(loom(), (key(4).writer(), place), 1, cast, None, intent("go")), Vec::new());
        let sealed = sealed.unwrap();
        assert!(unit.takes(&sealed));
        let head = key(4).sign_cast(loom(), cast, unit.at());
        founder.receive(stream.check(vec![sealed], vec![head]).unwrap()).unwrap();
    }
    let first = founder.entries(loom()).unwrap().remove(0).id;
    founder.keep_proved(&[founder.prove(first).unwrap().unwrap()]).unwrap().unwrap();
    let mut out = Vec::new();
    car::write(&*founder, loom(), &mut out).unwrap();
    out
}

#[test]
fn import() {
    let seeds = [seed()];
    let (tried, taken) = (AtomicU64::new(0), AtomicU64::new(0));
    let import = |bytes: &[u8]| -> (Arc<MemoryStore>, Option<car::Archived>) {
        let store = MemoryStore::with_key(key(9));
        let read = car::import(&*store, &mut Cursor::new(bytes)).ok();
        (store, read)
    };
    let whole = import(seeds.first().unwrap()).1.unwrap();
    assert_eq!((whole.entries, whole.left_out.len()), (8, 1), "{whole:?}");
    let members = [1, 2, 4].map(|member| key(member).writer());
    check!().with_type::<(u8, u8, u8, Change)>().with_iterations(5_000).for_each(|change| {
        let bytes = changed_archive(&seeds, change);
        let (store, read) = import(&bytes);
        for summary in store.looms().unwrap() {
            for sealed in store.entries(summary.loom).unwrap() {
                assert!(members.contains(&sealed.entry.writer) && sealed.entry.loom == loom());
            }
        }
        if read.is_some() {
            let verified = store.verify(None).unwrap();
            assert!(verified.findings.is_empty(), "{:?}", verified.findings);
        }
        tried.fetch_add(1, Ordering::Relaxed);
        taken.fetch_add(u64::from(read.is_some() && !seeds.contains(&bytes)), Ordering::Relaxed);
    });
    println!("import: {tried:?} tried, {taken:?} changed and taken");
    assert!(taken.into_inner() > 0);
}
