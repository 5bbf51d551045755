use std::sync::Arc;

use cantrip_gates::Wards;
use ipld_core::ipld::Ipld;

use super::*;
use crate::adapters::clock::SystemClock;
use crate::adapters::store::{FjallStore, MemoryStore, NodeKey, StoreOptions};
use crate::domain::cantrip::Folding;
use crate::domain::ids::{CastId, LoomId, WriterKey};
use crate::domain::loom::{
    CastUnit, Entry, EquivocationProof, Fork, ForkSource, ForkStrategy, IdentityRecord, Minted, Payload, Segment,
};
use crate::domain::members::Nonce;
use crate::driver::recorder::Looms;
use crate::ports::{Clock, CopyStore};

const MINTED: Minted = Minted { by: WriterKey::from_bytes([9; 32]), nonce: Nonce::from_bytes([9; 16]) };

fn loom() -> LoomId {
    LoomId::from_parts(1, [1; 16])
}

fn entity() -> EntityId {
    EntityId::mint(1, &MINTED.by, &MINTED.nonce)
}

fn host() -> NodeKey {
    NodeKey::from_secret(&[9; 32])
}

fn opening() -> Body {
    Body::Opened(Box::new(Opened {
        identity: IdentityRecord::default(),
        medium: "conversation".to_owned(),
        medium_digest: None,
        gates: Vec::new(),
        wards: Wards::default(),
        folding: Folding::default(),
        model: "m".to_owned(),
        guest: None,
        intent: Payload::Inline("go".to_owned()),
        node: "b".to_owned(),
        depth: 0,
        cast: CastId::from_parts(3, [3; 10]),
        trace: None,
        spawned_by: None,
        fork: None,
        minted: Some(MINTED),
        ..Opened::default()
    }))
}

fn entry(sequence: u64, parent: Option<EntryId>, body: Body) -> Sealed {
    let entry = Entry::new(loom(), (host().writer(), sequence), 1, entity(), parent, body);
    Sealed::new(entry, Vec::new()).unwrap()
}

/// What the host tells: so many entries of the cast.
fn told(entries: u64) -> Vec<Sealed> {
    let mut told = vec![entry(1, None, opening())];
    while (told.len() as u64) < entries {
        let text = Payload::Inline(told.len().to_string());
        let parent = told.last().map(|sealed| sealed.id);
        told.push(entry(told.len() as u64 + 1, parent, Body::intent(text, false, None)));
    }
    told
}

/// The host's word for all of these.
fn head(told: &[Sealed]) -> CastHead {
    let mut unit = CastUnit::of(entity());
    assert!(told.iter().all(|sealed| unit.takes(sealed)));
    host().sign_cast(loom(), entity(), unit.at())
}

fn memory() -> Arc<dyn LoomStore> {
    MemoryStore::new(WriterKey::from_bytes([1; 32]))
}

fn written(store: &Arc<dyn LoomStore>) -> Loom {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    Looms::default().open(loom(), None, store, &clock, None).unwrap()
}

fn intake(store: &Arc<dyn LoomStore>) -> Intake {
    Intake::new(written(store), (entity(), None)).unwrap()
}

fn take(intake: &Intake, told: &[Sealed]) {
    for sealed in told {
        intake.take(sealed.clone()).unwrap();
    }
}

#[test]
fn what_a_host_sends_of_a_later_version_breaks_its_cast() {
    let store = memory();
    let intake = intake(&store);
    let mut told = told(2);
    let mut whole: Ipld = serde_ipld_dagcbor::from_slice(&told[1].bytes).unwrap();
    let Ipld::Map(map) = &mut whole else { panic!("no map") };
    let Some(Ipld::Map(body)) = map.get_mut("body") else { panic!("no body") };
    body.insert("kind".to_owned(), Ipld::String("dreamt".to_owned()));
    told[1] = Sealed::read(serde_ipld_dagcbor::to_vec(&whole).unwrap()).unwrap();
    take(&intake, &told);
    let refused = intake.cover(vec![head(&told)]).unwrap_err().to_string();
    assert!(refused.contains("a `dreamt` is of a kind that this version does not know"), "{refused}");
    assert!(store.entries(loom()).unwrap().is_empty());
}

#[test]
fn a_host_cannot_send_without_end() {
    let intake = intake(&memory());
    intake.lock().bytes = RECEIVED_BYTES_MAX;
    take(&intake, &told(1));
    let refused = intake.cover(vec![head(&told(1))]).unwrap_err().to_string();
    assert!(refused.contains("more than 268435456 bytes"), "{refused}");
    intake.lock().bytes = 0;
    take(&intake, &told(1));
    intake.cover(vec![head(&told(1))]).unwrap();
}

#[test]
fn entries_that_no_head_covers_are_bounded_and_never_recorded() {
    let store = memory();
    let many = intake(&store);
    let told = told(NEAR_UNCOVERED_ENTRIES_MAX as u64 + 1);
    take(&many, &told[..NEAR_UNCOVERED_ENTRIES_MAX]);
    let refused = many.take(told[NEAR_UNCOVERED_ENTRIES_MAX].clone()).unwrap_err().to_string();
    assert!(refused.contains("1024 entries"), "{refused}");
    assert!(many.finish().unwrap_err().to_string().contains("under no cast head"));
    let long = intake(&store);
    let mut sealed = told[0].clone();
    let bytes = vec![0; NEAR_UNCOVERED_BYTES_MAX];
    sealed.blobs.push(Blob { id: crate::domain::ids::BlobId::of(&bytes), bytes });
    long.take(sealed).unwrap();
    let refused = long.take(told[1].clone()).unwrap_err().to_string();
    assert!(refused.contains("with 2097152 may wait for one"), "{refused}");
    assert!(store.entries(loom()).unwrap().is_empty());
}

#[test]
fn what_is_told_is_recorded_with_the_head_over_it_and_not_before() {
    let (store, told) = (memory(), told(4));
    let intake = intake(&store);
    take(&intake, &told);
    assert!(intake.is_uncovered() && store.entries(loom()).unwrap().is_empty());
    intake.cover(vec![head(&told)]).unwrap();
    assert!(!intake.is_uncovered());
    assert_eq!((intake.heads(), store.cast_heads(loom()).unwrap()), (vec![head(&told)], vec![head(&told)]));
    intake.finish().unwrap();
    assert!(store.verify(None).unwrap().findings.is_empty());
}

#[test]
fn what_came_before_a_connection_broke_and_was_under_no_head_comes_again() {
    let (store, told) = (memory(), told(6));
    for cut in 0..told.len() {
        let intake = intake(&store);
        take(&intake, &told[..cut]);
        // It breaks here, and everything comes from its beginning.
        intake.connected();
        for step in told.chunks(2) {
            take(&intake, step);
            let to = told.iter().position(|sealed| sealed.id == step[1].id).unwrap() + 1;
            intake.cover(vec![head(&told[..to])]).unwrap();
        }
        intake.finish().unwrap();
        assert_eq!(store.entries(loom()).unwrap().len(), told.len(), "each once");
    }
    assert_eq!(store.covered(loom(), 0, 99).unwrap().len(), 3, "what comes again is not kept again");
}

#[test]
fn a_host_that_contradicts_what_it_signed_before_the_caller_stopped_is_refused() {
    let (store, told) = (memory(), told(4));
    let before = intake(&store);
    take(&before, &told);
    before.cover(vec![head(&told)]).unwrap();
    // The caller starts again: what it has of the cast is in its record.
    let after = intake(&store);
    assert_eq!(after.heads(), vec![head(&told)]);
    let mut other = told[..3].to_vec();
    let text = Payload::Inline("another history".to_owned());
    other.push(entry(4, Some(other[2].id), Body::intent(text, false, None)));
    take(&after, &other);
    let refused = after.cover(vec![head(&other)]).unwrap_err().to_string();
    assert!(refused.contains("has signed two histories of this cast"), "{refused}");
    let short = intake(&store);
    take(&short, &told[..2]);
    short.cover(vec![head(&told[..2])]).unwrap();
    let refused = short.finish().unwrap_err().to_string();
    assert!(refused.contains("ends the cast at entry 2 of its log, and has signed it up to entry 4"), "{refused}");
}

#[test]
fn an_entry_in_the_name_of_this_node_that_its_record_does_not_have_is_refused() {
    let store: Arc<dyn LoomStore> = MemoryStore::with_key(host());
    let intake = intake(&store);
    take(&intake, &told(1));
    let refused = intake.cover(vec![head(&told(1))]).unwrap_err().to_string();
    assert!(refused.contains("it says that this node has written it"), "{refused}");
}

#[tokio::test]
async fn a_caller_that_stops_at_any_moment_has_each_entry_under_a_head_or_not_at_all() {
    let told = told(6);
    for synced in 0..=3 {
        let folder = tempfile::tempdir().unwrap();
        {
            let store = FjallStore::open(folder.path(), StoreOptions::default()).unwrap();
            let store: Arc<dyn LoomStore> = store;
            let intake = intake(&store);
            for step in 1..=3 {
                take(&intake, &told[(step - 1) * 2..step * 2]);
                intake.cover(vec![head(&told[..step * 2])]).unwrap();
                if step <= synced {
                    store.sync(loom()).await.unwrap();
                }
            }
            take(&intake, &told[4..]);
        }
        let store: Arc<dyn LoomStore> = FjallStore::open(folder.path(), StoreOptions::default()).unwrap();
        let kept = store.entries(loom()).unwrap().len();
        assert!(kept >= synced * 2 && kept.is_multiple_of(2), "{kept} after {synced} steps on disk");
        assert_eq!(store.cast_heads(loom()).unwrap(), vec![head(&told[..kept])]);
        assert!(store.verify(None).unwrap().findings.is_empty());
        // All of it comes again, and is taken as far as it is new.
        let intake = intake(&store);
        take(&intake, &told);
        intake.cover(vec![head(&told)]).unwrap();
        store.sync(loom()).await.unwrap();
        assert_eq!(store.entries(loom()).unwrap().len(), told.len());
        assert!(store.verify(None).unwrap().findings.is_empty());
    }
}

#[test]
fn a_host_cannot_open_an_entity_whose_id_nobody_has_minted() {
    let (store, ground) = (memory(), EntityId::from_parts(1, [0; 16]));
    let intake = Intake::of_new(written(&store), (ground, None));
    let entry = Entry::new(loom(), (host().writer(), 1), 1, ground, None, opening());
    take(&intake, &[Sealed::new(entry, Vec::new()).unwrap()]);
    let refused = intake.cover(Vec::new()).unwrap_err().to_string();
    assert!(refused.contains("whose id does not commit to"), "{refused}");
}
#[test]
fn a_host_cannot_open_an_entity_as_one_that_continues_a_thread_of_another_loom() {
    let intake = Intake::of_new(written(&memory()), (entity(), None));
    let Body::Opened(opened) = opening() else { unreachable!("it opens") };
    let piece = Blob { id: crate::domain::ids::BlobId::of(&[0xff; 9]), bytes: vec![0xff; 9] };
    let from = Box::new(ForkSource { loom: LoomId::from_parts(2, [2; 16]), after: None, pieces: vec![piece.id] });
    let fork = Fork { of: entity(), turns: 1, strategy: ForkStrategy::Replay, from: Some(from) };
    let body = Body::Opened(Box::new(Opened { fork: Some(fork), ..*opened }));
    let entry = Entry::new(loom(), (host().writer(), 1), 1, entity(), None, body);
    take(&intake, &[Sealed::new(entry, vec![piece]).unwrap()]);
    let refused = intake.cover(Vec::new()).unwrap_err().to_string();
    assert!(refused.contains("continues a thread of another loom"), "{refused}");
}

/// The host's log with these entries in it, as somebody else has brought it.
fn logged(store: &Arc<MemoryStore>, log: &[Sealed]) {
    let head = log.iter().fold(Head::default(), |head, sealed| head.after(&sealed.id));
    let entries = log.iter().map(|sealed| sealed.bytes.clone()).collect();
    let signed = host().sign(loom(), head);
    let segment = Segment { from: Head::default(), entries, blobs: Vec::new(), signed };
    store.take(segment.check().unwrap()).unwrap();
}

/// What the host tells if it exchanges the last entry.
fn exchanged(entries: u64) -> Vec<Sealed> {
    let mut told = told(entries);
    let last = told.pop().unwrap();
    let other = Body::intent(Payload::Inline("another".to_owned()), false, None);
    told.push(entry(last.entry.sequence, last.entry.parent, other));
    told
}

#[test]
fn a_host_that_signs_another_history_of_a_cast_is_proved_to_have_two() {
    let store = memory();
    let intake = intake(&store);
    take(&intake, &told(4));
    intake.cover(vec![head(&told(4))]).unwrap();
    intake.connected();
    take(&intake, &exchanged(4));
    let refused = intake.cover(vec![head(&exchanged(4))]).unwrap_err().to_string();
    assert!(refused.contains("has signed two histories of this cast"), "{refused}");
    let proofs = store.proofs().unwrap();
    assert_eq!(proofs.iter().map(|proof| (proof.writer, proof.place())).collect::<Vec<_>>(), [(host().writer(), 4)]);
    assert!(proofs[0].holds());
    // What its writer has not signed proves nothing.
    let store = memory();
    let intake = self::intake(&store);
    take(&intake, &told(4));
    intake.cover(vec![head(&told(4))]).unwrap();
    intake.connected();
    take(&intake, &exchanged(4));
    intake.cover(vec![CastHead { signature: [1; 64], ..head(&exchanged(4)) }]).unwrap_err();
    assert_eq!(store.proofs().unwrap(), []);
}

#[test]
fn a_host_whose_log_is_not_what_it_signed_of_a_cast_is_proved_to_have_two_histories() {
    for (log, place) in
        [(told(4), None), (exchanged(4), Some(4)), ([exchanged(4), told(5)[4..].to_vec()].concat(), Some(4))]
    {
        let memory = MemoryStore::new(WriterKey::from_bytes([1; 32]));
        logged(&memory, &log);
        let store: Arc<dyn LoomStore> = memory;
        let intake = intake(&store);
        take(&intake, &told(4));
        intake.cover(vec![head(&told(4))]).unwrap();
        let finished = intake.finish();
        let proofs = store.proofs().unwrap();
        assert_eq!(proofs.iter().map(EquivocationProof::place).next(), place);
        assert_eq!(finished.is_err(), place.is_some());
    }
}

#[test]
fn what_came_of_a_cast_is_read_once_however_long_the_loom_is() {
    let store = memory();
    for place in 1..=500 {
        let other = EntityId::from_parts(place, [3; 16]);
        let said = Body::intent(Payload::Inline(String::new()), false, None);
        let entry = Entry::new(loom(), (store.writer(), place), 1, other, None, said);
        store.append(Sealed::new(entry, Vec::new()).unwrap()).unwrap();
    }
    let open = written(&store);
    let begin = || Intake::new(open.clone(), (entity(), None)).unwrap();
    let first = begin();
    take(&first, &told(4));
    first.cover(vec![head(&told(4))]).unwrap();
    first.finish().unwrap();
    drop(first);
    // What this intake has recorded itself is seen again once; nothing of it and of the rest is read any more.
    assert!(steps::of(|| drop(begin())) <= 10);
    let mut again = None;
    assert_eq!(steps::of(|| again = Some(begin())), 0);
    let again = again.unwrap();
    take(&again, &told(6)[4..]);
    again.cover(vec![head(&told(6))]).unwrap();
    again.finish().unwrap();
    assert_eq!(again.heads(), [head(&told(6))]);
    // What was refused halfway is read from the record again.
    let open = written(&store);
    let refused = Intake::new(open.clone(), (entity(), None)).unwrap();
    take(&refused, &told(9)[6..8]);
    refused.cover(vec![head(&told(7))]).unwrap_err();
    drop(refused);
    let last = Intake::new(open, (entity(), None)).unwrap();
    take(&last, &told(8)[6..]);
    last.cover(vec![head(&told(8))]).unwrap();
    last.finish().unwrap();
}

#[test]
fn the_admissions_for_casts_are_read_once_however_long_the_loom_is() {
    let store = memory();
    let open = written(&store);
    for place in 1..=500 {
        let other = EntityId::from_parts(place, [3; 16]);
        let said = Body::intent(Payload::Inline(String::new()), false, None);
        let entry = Entry::new(loom(), (store.writer(), place), 1, other, None, said);
        store.append(Sealed::new(entry, Vec::new()).unwrap()).unwrap();
    }
    assert!(steps::of(|| drop(open.given().unwrap())) >= 500);
    assert_eq!(steps::of(|| drop(open.given().unwrap())), 0);
}
