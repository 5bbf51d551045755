//! What one writer signed of a cast against another word of the same writer: what contradicts is proved, and nothing else is.

use ed25519_dalek::{Signer, SigningKey};

use super::*;
use crate::domain::ids::CallId;
use crate::domain::loom::{Head, Minted, Opened, Payload, SignedHead};
use crate::domain::members::Nonce;
use crate::domain::place::CallPlace;

fn loom() -> LoomId {
    LoomId::from_parts(1, [1; 16])
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn writer() -> WriterKey {
    WriterKey::from_bytes(key().verifying_key().to_bytes())
}

fn nonce(number: u8) -> Nonce {
    Nonce::from_bytes([number; 16])
}

/// An entity that the writer has minted.
fn entity(number: u8) -> EntityId {
    EntityId::mint(1, &writer(), &nonce(number))
}

fn said(text: &str) -> Body {
    Body::intent(Payload::Inline(text.to_owned()), false, None)
}

fn opened(number: u8, by: Option<u8>) -> Body {
    let minted = Some(Minted { by: writer(), nonce: nonce(number) });
    Body::Opened(Box::new(Opened { spawned_by: by.map(entity), minted, ..Opened::default() }))
}

fn delegated(child: u8) -> Body {
    let (call, proposal) = (CallId::new("c"), Payload::Inline("{}".to_owned()));
    Body::Delegated { call, index: 0, child: entity(child), proposal, place: CallPlace::Any, nonce: Some(nonce(child)) }
}

fn log(bodies: impl IntoIterator<Item = (u8, Body)>) -> Vec<Sealed> {
    let entry = |(place, (of, body))| {
        Sealed::new(Entry::new(loom(), (writer(), place), 1, entity(of), None, body), Vec::new()).unwrap()
    };
    (1..).zip(bodies).map(entry).collect()
}

/// A log of one cast, of entity 1: it opens entity 2, which has another node open entity 3, and something of entity 9 is between.
fn whole() -> Vec<Sealed> {
    log([
        (1, opened(1, None)),
        (1, said("go")),
        (9, said("of no cast")),
        (2, opened(2, Some(1))),
        (2, delegated(3)),
        (3, said("below")),
        (1, said("on")),
        (1, said("end")),
    ])
}

/// What is signed of the cast of entity 1 with these entries in it, once at each of some places.
fn signed(entries: &[&Sealed], at: &[u64]) -> CastHistory {
    let mut chain = CastChain::default();
    let mut heads = Vec::new();
    for sealed in entries {
        chain = chain.after(sealed.entry.sequence, &sealed.id);
        if at.contains(&chain.place) {
            let statement = CastHead::statement(loom(), writer(), entity(1), &chain);
            let signature = key().sign(&statement).to_bytes();
            heads.push(CastHead { loom: loom(), writer: writer(), cast: entity(1), at: chain, signature });
        }
    }
    let items = entries.iter().map(|sealed| (sealed.entry.sequence, sealed.id)).collect();
    CastHistory::new((loom(), writer(), entity(1)), items, heads)
}

fn of_cast(log: &[Sealed]) -> Vec<&Sealed> {
    let mut family = CastFamily::of(entity(1));
    log.iter().filter(|sealed| family.takes(&sealed.entry)).collect()
}

/// An entry of a log, proved by a signature over all of it.
fn proved(log: &[Sealed], id: EntryId) -> Option<CheckedProof> {
    let at = log.iter().position(|sealed| sealed.id == id)?;
    let (before, rest) = log.split_at(at);
    let before = before.iter().fold(Head::default(), |head, sealed| head.after(&sealed.id));
    let (entry, behind) = rest.split_first()?;
    let head = rest.iter().fold(before, |head, sealed| head.after(&sealed.id));
    let signature = key().sign(&SignedHead::statement(loom(), writer(), &head)).to_bytes();
    let behind = behind.iter().map(|sealed| sealed.id).collect();
    ProvedEntry { before, entry: entry.bytes.clone(), behind, signature }.check().ok()
}

/// What is proved of a writer with this log, who has signed this of the cast.
fn against(log: &[Sealed], history: &CastHistory) -> Option<EquivocationProof> {
    let mut looking = CastInLog::new(history);
    log.iter().find_map(|sealed| looking.look(sealed, |id| Ok::<_, ()>(proved(log, id))).unwrap())
}

fn convinces(proof: &EquivocationProof) {
    assert!(proof.holds(), "{proof:?}");
    assert_eq!(EquivocationProof::parse(&proof.to_bytes()).as_ref(), Some(proof), "bytes lead back to it");
}

#[test]
fn what_is_in_the_log_as_it_was_signed_proves_nothing() {
    let log = whole();
    let all = of_cast(&log);
    assert_eq!(all.len(), 7);
    for count in 1..=all.len() {
        let history = signed(&all[..count], &[1, 4, all[count - 1].entry.sequence]);
        assert_eq!(against(&log, &history), None, "{count}");
        assert_eq!(history.divides_from(&signed(&all, &[8])), None, "one is the beginning of the other");
    }
}

#[test]
fn two_ways_on_from_the_same_entries_of_a_cast_are_a_proof_from_the_first_place_that_differs() {
    let (one, mut other) = (whole(), whole());
    other[6] = log_of_one(7, said("another"));
    let (one, other) = (of_cast(&one), of_cast(&other));
    let proof = signed(&one, &[2, 8]).divides_from(&signed(&other, &[7])).unwrap();
    convinces(&proof);
    assert_eq!(proof.place(), 7);
    // One of them leaves an entry out: from there on.
    let short: Vec<&Sealed> = one.iter().copied().filter(|sealed| sealed.entry.sequence != 5).collect();
    let proof = signed(&one, &[8]).divides_from(&signed(&short, &[8])).unwrap();
    convinces(&proof);
    assert_eq!(proof.place(), 5);
}

#[test]
fn an_entry_that_the_log_has_otherwise_is_a_proof() {
    let (log, mut told) = (whole(), whole());
    told[1] = log_of_one(2, said("another"));
    let proof = against(&log, &signed(&of_cast(&told), &[4, 8])).unwrap();
    convinces(&proof);
    assert_eq!(proof.place(), 2);
}

fn log_of_one(place: u64, body: Body) -> Sealed {
    Sealed::new(Entry::new(loom(), (writer(), place), 1, entity(1), None, body), Vec::new()).unwrap()
}

#[test]
fn whatever_of_the_cast_is_left_out_is_proved_with_what_shows_that_it_belongs_to_it() {
    let log = whole();
    let all = of_cast(&log);
    for (place, shown) in [(1, 1), (2, 1), (4, 1), (5, 2), (6, 3), (7, 1)] {
        let told: Vec<&Sealed> = all.iter().copied().filter(|sealed| sealed.entry.sequence != place).collect();
        let proof = against(&log, &signed(&told, &[2, 7, 8])).unwrap();
        convinces(&proof);
        assert_eq!(proof.place(), place);
        let Division::LeftOut { shown: found, .. } = &proof.division else { panic!("{proof:?}") };
        assert_eq!(found.len(), shown, "entry {place}");
    }
    // What is behind the last head is not signed yet.
    assert_eq!(against(&log, &signed(&all[..5], &[5])), None);
}

#[test]
fn nobody_is_accused_by_what_its_words_do_not_say() {
    let log = whole();
    let all = of_cast(&log);
    let told: Vec<&Sealed> = all.iter().copied().filter(|sealed| sealed.entry.sequence != 6).collect();
    let proof = against(&log, &signed(&told, &[8])).unwrap();
    let Division::LeftOut { shown, row } = proof.division.clone() else { panic!("{proof:?}") };
    let with = |shown: Vec<ProvedEntry>, row: Row| EquivocationProof {
        division: Division::LeftOut { shown, row },
        ..proof.clone()
    };
    assert!(with(shown.clone(), row.clone()).holds());
    let honest = signed(&all, &[8]);
    let of_no_cast = proved(&log, log[2].id).unwrap().to_proof();
    let later = |from: usize| honest.row(from, 1).unwrap();
    let forged = [
        // Nothing shows that it belongs to the cast.
        with(shown[1..].to_vec(), row.clone()),
        with(vec![of_no_cast.clone()], honest.row(1, 2).unwrap()),
        with(Vec::new(), row.clone()),
        // The head has it: the chain before the row says nothing of how far it was.
        with(shown.clone(), later(5)),
        with(shown.clone(), honest.row(3, 2).unwrap()),
        // It is signed otherwise.
        with(shown.clone(), Row { signature: [1; 64], ..row.clone() }),
        with(shown, Row { before: Before::Cast(entity(2), [0; 32]), ..row.clone() }),
        EquivocationProof { division: Division::Rows([later(1), later(2)]), ..proof.clone() },
        EquivocationProof { division: Division::Rows([later(1), later(1)]), ..proof.clone() },
        EquivocationProof { loom: LoomId::from_parts(2, [2; 16]), ..proof.clone() },
        EquivocationProof { writer: WriterKey::from_bytes([9; 32]), ..proof.clone() },
    ];
    for (number, forged) in forged.iter().enumerate() {
        assert!(!forged.holds() && EquivocationProof::parse(&forged.to_bytes()).is_none(), "{number}");
    }
}

#[test]
fn what_shows_that_an_entry_belongs_to_a_cast_is_bounded() {
    for (steps, holds) in [(EQUIVOCATION_SHOWN_MAX - 1, true), (EQUIVOCATION_SHOWN_MAX, false)] {
        let steps = u8::try_from(steps).unwrap();
        let first = [(1, opened(1, None))].into_iter();
        let below = (1..=steps).map(|above| (above, delegated(above + 1)));
        let log = log(first.chain(below).chain([(steps + 1, said("left out")), (1, said("end"))]));
        let left_out = log.len() - 2;
        let told: Vec<&Sealed> =
            log.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, sealed)| sealed).collect();
        let proof = against(&log, &signed(&told, &[log.len() as u64]));
        assert_eq!(proof.is_some(), holds, "{steps} steps");
    }
}
