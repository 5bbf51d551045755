//! What vouches for writers' keys, where it is kept and how it travels.
#![expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "two nodes, and small numbers")]

use std::sync::Arc;

use cantrip_runtime::adapters::clock::SystemClock;
use cantrip_runtime::adapters::store::{FjallStore, MemoryStore, NodeKey, StoreOptions};
use cantrip_runtime::domain::copies::{CopyKind, CopyMessage, Keeper};
use cantrip_runtime::domain::ids::{EntityId, LoomId, WriterKey};
use cantrip_runtime::domain::limits::{
    ATTESTATIONS_PER_WRITER_MAX, PREDECESSORS_MAX, PREDECESSORS_PER_KEY_MAX, RECORDS_PER_KEY_MAX, RECORDS_PER_NODE_MAX,
};
use cantrip_runtime::domain::loom::{Body, Entry, Payload, Sealed};
use cantrip_runtime::domain::members::{Admitted, Attestation, CheckedRecord, Principal, Right, Succession, relied_on};
use cantrip_runtime::driver::{Copies, Session};
use cantrip_runtime::ports::{CopyStore, LoomStore};
use rcgen::{KeyPair, SerialNumber};

use crate::copy_book::{Book, OPEN, Terms, key};
use crate::members::{Authority, NONCE, causes, loom, record, record_by};

fn stores() -> (tempfile::TempDir, [Arc<dyn CopyStore>; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let disk = FjallStore::open(folder.path(), StoreOptions::default()).unwrap();
    (folder, [disk, MemoryStore::with_key(key(1))])
}

/// So many certificates of one node, quickly.
fn records(authority: &Authority, writer: &NodeKey, name: &str, count: usize) -> Vec<Attestation> {
    let node_key = KeyPair::generate().unwrap();
    let one = |number: usize| {
        let node = authority.certificate(name, &node_key, |params| {
            params.serial_number = Some(SerialNumber::from(number as u64 + 1));
        });
        Attestation::Member(record_by(writer, vec![node, authority.der.clone()], &node_key))
    };
    (0..count).map(one).collect()
}

#[test]
fn records_are_counted_against_their_key_and_the_node_that_they_name() {
    let authority = Authority::new("cluster", |_| {});
    let (_folder, stores) = stores();
    let of_key = records(&authority, &key(3), "agents", RECORDS_PER_KEY_MAX + 1);
    let more_keys: Vec<Attestation> =
        (4..8).flat_map(|number| records(&authority, &key(number), "agents", RECORDS_PER_KEY_MAX)).collect();
    let stranger = record(&authority, &key(3), "analysis");
    let other_node = record(&authority, &key(9), "analysis");
    let successions: Vec<Attestation> = (0..=PREDECESSORS_PER_KEY_MAX as u8)
        .map(|number| Attestation::Succession(key(100 + number).succeed(&key(3))))
        .collect();
    for store in stores {
        let attest = |all: &[Attestation]| {
            let kept = store.attest(loom(), all).unwrap();
            let refused: Vec<String> = kept.iter().filter_map(|kept| Some(kept.as_ref().err()?.to_string())).collect();
            (kept.iter().filter(|kept| matches!(kept, Ok(true))).count(), refused)
        };
        let (kept, refused) = attest(&of_key);
        assert_eq!((kept, refused.len()), (RECORDS_PER_KEY_MAX, 1));
        assert!(refused[0].contains("256 member records of this key"), "{refused:?}");
        assert!(attest(&[Attestation::Member(stranger.clone())]).1[0].contains("of this key"), "whatever it names");
        let (kept, refused) = attest(&more_keys);
        assert_eq!(kept, RECORDS_PER_NODE_MAX - RECORDS_PER_KEY_MAX);
        assert!(refused.iter().all(|what| what.contains("1024 member records that name this node")), "{refused:?}");
        assert_eq!(
            attest(&[Attestation::Member(other_node.clone())]),
            (1, Vec::new()),
            "another node has its own share"
        );
        let (kept, refused) = attest(&successions);
        assert_eq!((kept, refused.len()), (PREDECESSORS_PER_KEY_MAX, 1));
        assert!(refused[0].contains("16 keys whose place this one takes"), "{refused:?}");
        assert_eq!(attest(&of_key[..3]), (0, Vec::new()), "what is kept is known again");
        store.forget(loom()).unwrap();
        assert!(store.attestations(loom()).unwrap().is_empty());
    }
}

#[test]
fn a_store_keeps_nothing_that_does_not_hold_and_nothing_of_its_own_for_another_key() {
    let authority = Authority::new("cluster", |_| {});
    let (_folder, stores) = stores();
    for store in stores {
        let mut wrong = record(&authority, &key(3), "agents");
        wrong.by_key[0] ^= 1;
        let wrong_succession = Succession { by_old: [0; 64], ..key(3).succeed(&key(4)) };
        let all = [Attestation::Member(wrong), Attestation::Succession(wrong_succession)];
        assert!(store.attest(loom(), &all).unwrap().iter().all(Result::is_err));
        assert!(store.attestations(loom()).unwrap().is_empty());
        let error = store.attest_own(&record(&authority, &key(3), "agents")).unwrap_err();
        assert!(causes(&error).contains("not signed by the writer's key"), "{error}");
    }
}

/// Two nodes that keep the loom together, and their conversation.
struct Pair {
    stores: [Arc<dyn CopyStore>; 2],
    copies: [Arc<Copies>; 2],
    sessions: [Session; 2],
    /// What the first has said.
    said: Vec<CopyMessage>,
}

fn named(number: usize) -> Keeper {
    ["a", "b"][number].parse().unwrap()
}

impl Pair {
    fn new(terms: [cantrip_runtime::driver::CopyTerms; 2]) -> Self {
        let stores = [11, 12].map(|number| MemoryStore::with_key(key(number)) as Arc<dyn CopyStore>);
        let copies = [0, 1].map(|number| {
            let (disk, memory) = (Arc::clone(&stores[number]), MemoryStore::with_key(key(11 + number as u8)));
            let book = Arc::new(Book::default());
            let terms = Arc::new(Terms(terms[number]));
            Copies::new(named(number), disk, memory, book, terms, Arc::new(SystemClock::default())).unwrap()
        });
        found(&*stores[0]);
        write(&*stores[0]);
        copies[0].share(loom(), &named(1), CopyKind::Disk, None).unwrap();
        let sessions = Self::meet(&copies);
        Self { stores, copies, sessions, said: Vec::new() }
    }

    fn meet(copies: &[Arc<Copies>; 2]) -> [Session; 2] {
        [0, 1].map(|number| Session::new(Arc::clone(&copies[number]), named(1 - number)).unwrap())
    }

    /// Both speak and listen until neither has more to say.
    async fn talk(&mut self) {
        loop {
            let mut is_silent = true;
            for side in 0..2 {
                self.sessions[side].refresh().unwrap();
                while let Some(message) = self.sessions[side].next_message().unwrap() {
                    is_silent = false;
                    if side == 0 {
                        self.said.push(message.clone());
                    }
                    self.sessions[1 - side].hear(message).await.unwrap();
                }
                self.sessions[1 - side].flush().await.unwrap();
            }
            if is_silent {
                return;
            }
        }
    }
}

/// Founds the loom, and admits a key that writes there later.
fn found(store: &dyn CopyStore) {
    let (principal, rights) = (Principal::Key(key(31).writer()), Right::ALL.into_iter().collect());
    let admitted = Admitted { principal, rights, scope: None, again: Vec::new(), by: None, note: None };
    let bodies = [Body::Founded { nonce: NONCE, member: None }, Body::Admitted(Box::new(admitted))];
    for (sequence, body) in (1..).zip(bodies) {
        let entry = Entry::new(loom(), (store.writer(), sequence), 1, None, None, body);
        store.append(Sealed::new(entry, Vec::new()).unwrap()).unwrap();
    }
}

/// Writes the next entry of this node's log.
fn write(store: &dyn CopyStore) {
    let entity = EntityId::from_parts(1, [1; 16]);
    let body = Body::intent(Payload::Inline("go".to_owned()), false, None);
    let (loom, writer, sequence) = (loom(), store.writer(), store.head(loom()).unwrap().sequence + 1);
    let entry = Entry::new(loom, (writer, sequence), 1, entity, None, body);
    store.append(Sealed::new(entry, Vec::new()).unwrap()).unwrap();
}

fn is_attestation(message: &CopyMessage) -> bool {
    matches!(message, CopyMessage::Attestation { .. })
}

#[tokio::test]
async fn what_a_writer_relies_on_comes_with_it_and_nothing_else_is_kept() {
    let authority = Authority::new("cluster", |_| {});
    let mut pair = Pair::new([OPEN, OPEN]);
    let [own, before, first, stranger] = [11, 21, 22, 23].map(key);
    let of_own = record(&authority, &own, "agents");
    assert!(pair.stores[0].attest_own(&of_own).unwrap());
    let relied = [
        Attestation::Succession(before.succeed(&own)),
        Attestation::Succession(first.succeed(&before)),
        Attestation::Member(record(&authority, &first, "agents")),
    ];
    let unrelied =
        [Attestation::Member(record(&authority, &stranger, "agents")), Attestation::Succession(own.succeed(&stranger))];
    // A keeper that has more than it should: nobody writes under the stranger's key.
    for all in [relied.as_slice(), &unrelied] {
        assert!(pair.stores[0].attest(loom(), all).unwrap().iter().all(Result::is_ok));
    }
    for attestation in &unrelied {
        let attestation = Box::new(attestation.clone());
        pair.sessions[1].hear(CopyMessage::Attestation { loom: loom(), attestation }).await.unwrap();
    }
    pair.talk().await;
    let there = pair.stores[1].vouched(loom()).unwrap();
    assert_eq!(there.records.iter().map(CheckedRecord::key).collect::<Vec<_>>().len(), 2, "{there:?}");
    assert_eq!(there.successions.len(), 2, "{there:?}");
    assert!(there.records.iter().all(|record| record.key() != stranger.writer()));
    let segment = pair.said.iter().position(|message| matches!(message, CopyMessage::Segment(_))).unwrap();
    let attested: Vec<usize> = (0..pair.said.len()).filter(|at| is_attestation(&pair.said[*at])).collect();
    assert_eq!(attested.len(), 4);
    assert!(attested.iter().all(|at| *at < segment), "before the entries that rely on it");

    // A certificate is renewed while both are connected.
    let renewed = record(&authority, &own, "agents");
    assert!(pair.stores[0].attest_own(&renewed).unwrap());
    pair.copies[0].vouched_anew();
    pair.talk().await;
    assert_eq!(pair.stores[1].vouched(loom()).unwrap().records.len(), 3);
    assert_eq!(pair.said.iter().filter(|message| is_attestation(message)).count(), 5, "and nothing twice");

    // So long a way back is followed, and no longer.
    let number = |key: WriterKey| u32::from_be_bytes(*key.as_bytes().first_chunk().unwrap());
    let step = |number: u32| WriterKey::from_bytes(number.to_be_bytes().repeat(8).try_into().unwrap());
    let older = |key| Ok::<_, std::convert::Infallible>(vec![step(number(key) + 1)]);
    let keys = relied_on(step(0), older).unwrap();
    assert_eq!(keys.len(), PREDECESSORS_MAX + 1);
}

#[tokio::test]
async fn what_nothing_relies_on_waits_within_a_bound_and_is_never_kept() {
    let mut pair = Pair::new([OPEN, OPEN]);
    pair.talk().await;
    let own = key(31);
    for number in 0..ATTESTATIONS_PER_WRITER_MAX + 10 {
        let old = NodeKey::from_secret(&(number as u32 + 5).to_be_bytes().repeat(8).try_into().unwrap());
        let attestation = Box::new(Attestation::Succession(old.succeed(&own)));
        pair.sessions[1].hear(CopyMessage::Attestation { loom: loom(), attestation }).await.unwrap();
    }
    pair.sessions[1].flush().await.unwrap();
    assert!(pair.stores[1].attestations(loom()).unwrap().is_empty(), "nobody writes under that key");
    // Its log comes: of what waited the newest are looked at, and as many kept as one key may have.
    let writer = MemoryStore::with_key(own);
    write(&*writer);
    let segment = writer.segment(loom(), writer.writer(), 0).unwrap().unwrap();
    pair.sessions[1].hear(CopyMessage::Segment(Box::new(segment))).await.unwrap();
    pair.sessions[1].flush().await.unwrap();
    let kept = pair.stores[1].attestations_of(loom(), writer.writer()).unwrap();
    assert_eq!(kept.len(), PREDECESSORS_PER_KEY_MAX);
    let early = NodeKey::from_secret(&5_u32.to_be_bytes().repeat(8).try_into().unwrap()).writer();
    assert!(kept.iter().all(|it| it.predecessor() != Some(early)), "the oldest have made room");
}

#[tokio::test]
async fn what_vouches_for_writers_counts_as_brought_by_the_peer() {
    let terms = cantrip_runtime::driver::CopyTerms { bytes_max: 12_000, ..OPEN };
    let mut pair = Pair::new([OPEN, terms]);
    pair.talk().await;
    let authority = Authority::new("cluster", |_| {});
    for attestation in records(&authority, &key(11), "agents", 20) {
        let attestation = Box::new(attestation);
        pair.sessions[1].hear(CopyMessage::Attestation { loom: loom(), attestation }).await.unwrap();
    }
    pair.sessions[1].flush().await.unwrap();
    let kept = pair.stores[1].attestations(loom()).unwrap().len();
    assert!((1..=5).contains(&kept), "{kept}");
    // Of a loom that is not kept together nothing is heard.
    let other = LoomId::from_parts(1, [9; 16]);
    let attestation = Box::new(Attestation::Succession(key(3).succeed(&key(11))));
    pair.sessions[1].hear(CopyMessage::Attestation { loom: other, attestation }).await.unwrap();
    pair.sessions[1].flush().await.unwrap();
    assert!(pair.stores[1].attestations(other).unwrap().is_empty());
}

#[tokio::test]
async fn what_vouches_for_writers_moves_with_a_copy_from_disk_to_memory_and_goes_with_it() {
    let authority = Authority::new("cluster", |_| {});
    let mut pair = Pair::new([OPEN, OPEN]);
    pair.stores[0].attest_own(&record(&authority, &key(11), "agents")).unwrap();
    pair.talk().await;
    assert_eq!(pair.stores[1].attestations(loom()).unwrap().len(), 1);
    pair.copies[0].share(loom(), &named(1), CopyKind::Memory, None).unwrap();
    pair.talk().await;
    assert!(pair.stores[1].attestations(loom()).unwrap().is_empty(), "it is in memory now");
    pair.copies[0].share(loom(), &named(1), CopyKind::Disk, None).unwrap();
    pair.talk().await;
    assert_eq!(pair.stores[1].attestations(loom()).unwrap().len(), 1);
    pair.copies[0].share(loom(), &named(1), CopyKind::None, None).unwrap();
    pair.talk().await;
    assert!(pair.stores[1].attestations(loom()).unwrap().is_empty());
}
