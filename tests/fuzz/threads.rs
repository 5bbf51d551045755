//! Threads of other looms: of a valid one, whatever is changed, nothing is shown that its writer has not signed.

use std::collections::BTreeSet;

use cantrip_runtime::adapters::store::MemoryStore;
use cantrip_runtime::domain::ids::{BlobId, EntityId, EntryId, LoomId};
use cantrip_runtime::domain::loom::{
    Body, CastHead, CastUnit, Entry, Foreign, ForeignBudget, ForeignThread, ForkSource, Head, Minted, Observed, Opened,
    Payload, Said, Sealed, ThreadCast, ThreadLog,
};
use cantrip_runtime::domain::members::{Admitted, Attestation, Nonce, Principal, ProvedEntry, Right};
use cantrip_runtime::ports::MemberStore;

use super::archive::key;
use super::targets::target_of;

/// A text beside an entry; short, so that changes are elsewhere too.
const TEXT: &[u8] = b"a text";
const NONCE: Nonce = Nonce::from_bytes([6; 16]);

fn loom() -> LoomId {
    LoomId::mint(1_790_000_000_000, &key(1).writer(), &NONCE, None)
}

fn entity() -> EntityId {
    EntityId::mint(1_790_000_000_001, &key(1).writer(), &NONCE)
}

/// A log of a founder with one turn, and an admission.
fn log() -> Vec<Sealed> {
    let minted = Some(Minted { by: key(1).writer(), nonce: NONCE });
    let (principal, rights) = (Principal::Key(key(2).writer()), [Right::Write].into_iter().collect());
    let admitted = Admitted { principal, rights, scope: None, again: Vec::new(), by: None, note: None };
    let content = Some(Payload::Blob { id: BlobId::of(TEXT), bytes: TEXT.len() as u64 });
    let bodies = [
        (None, Body::Founded { nonce: NONCE, member: None }),
        (None, Body::Admitted(Box::new(admitted))),
        (Some(entity()), Body::Opened(Box::new(Opened { minted, ..Opened::default() }))),
        (Some(entity()), Body::Utterance(Box::new(Said { content, ..Said::default() }))),
        (Some(entity()), Body::Observation(Box::<Observed>::default())),
        (Some(entity()), Body::intent(Payload::Inline("and now?".to_owned()), false, None)),
    ];
    let mut parent = None;
    let entries = (1..).zip(bodies).map(|(sequence, (of, body))| {
        let entry =
            Entry::new(loom(), (key(1).writer(), sequence), sequence, of, parent.filter(|_| of.is_some()), body);
        let sealed = Sealed::new(entry, Vec::new()).unwrap();
        parent = of.map(|_| sealed.id);
        sealed
    });
    entries.collect()
}

/// The thread by its log, by a cast of the same writer, and by single entries.
fn seeds() -> Vec<Vec<u8>> {
    let log = log();
    let ids: Vec<EntryId> = log.iter().map(|sealed| sealed.id).collect();
    let head = ids.iter().fold(Head::default(), |head, id| head.after(id));
    let signed = key(1).sign(loom(), head);
    let mut unit = CastUnit::of(entity());
    let of_cast: Vec<(u64, EntryId)> = log
        .iter()
        .filter(|sealed| sealed.entry.entity.is_some() && unit.takes(sealed))
        .map(|sealed| (sealed.entry.sequence, sealed.id))
        .collect();
    let cast: CastHead = key(1).sign_cast(loom(), entity(), unit.at());
    let proved: Vec<ProvedEntry> = (0..2)
        .map(|at| ProvedEntry {
            before: ids.iter().take(at).fold(Head::default(), |head, id| head.after(id)),
            entry: log.get(at).unwrap().bytes.clone(),
            behind: ids.iter().skip(at + 1).copied().collect(),
            signature: signed.signature,
        })
        .collect();
    let by_log = ForeignThread {
        loom: loom(),
        entity: entity(),
        logs: vec![ThreadLog { signed, ids }],
        casts: Vec::new(),
        attestations: vec![Attestation::Succession(key(7).succeed(&key(1)))],
        proved: Vec::new(),
        divided: Vec::new(),
        entries: log.iter().map(|sealed| sealed.bytes.clone()).collect(),
        texts: vec![TEXT.to_vec()],
    };
    let by_cast = ForeignThread {
        logs: Vec::new(),
        casts: vec![ThreadCast { head: cast, ids: of_cast }],
        proved,
        entries: by_log.entries.iter().skip(2).cloned().collect(),
        ..by_log.clone()
    };
    let piece = |thread: &ForeignThread| thread.to_pieces().unwrap().remove(0).bytes;
    vec![piece(&by_log), piece(&by_cast)]
}

#[test]
fn thread() {
    let (seeds, store) = (seeds(), MemoryStore::with_key(key(9)));
    let signed: BTreeSet<EntryId> = log().iter().map(|sealed| sealed.id).collect();
    let read = |bytes: &[u8]| {
        let source = ForkSource { loom: loom(), after: None, pieces: vec![BlobId::of(bytes)] };
        let piece = |_| Some(bytes.to_vec());
        let budget = ForeignBudget::default();
        Foreign::read(&source, &piece, &|all| store.checked(all), &budget)
    };
    for seed in &seeds {
        assert_eq!(read(seed).unwrap().tree.restore(entity(), Some(1)).unwrap().turns, 1);
    }
    target_of("thread", &seeds, 6_000, |bytes| {
        let source = ForkSource { loom: loom(), after: None, pieces: vec![BlobId::of(&bytes)] };
        let thread = ForeignThread::read(&source, &|_| Some(bytes.clone()), &ForeignBudget::default());
        let Ok(foreign) = read(&bytes) else { return thread.is_ok() };
        for turn in foreign.tree.turns() {
            assert!(signed.contains(&turn.id) && turn.observation.is_none_or(|seen| signed.contains(&seen.id)));
        }
        for (entity, view) in foreign.tree.entities() {
            assert!(signed.contains(&view.id));
            drop((foreign.tree.restore(entity, Some(1)), foreign.tree.again(entity)));
        }
        true
    });
}
