//! Cast heads: what was written comes through in whatever steps and however often; nothing else does.

use cantrip_gates::Wards;
use ed25519_dalek::{Signer, SigningKey};
use proptest::prelude::*;

use super::*;
use crate::domain::cantrip::Folding;
use crate::domain::ids::{CallId, CastId};
use crate::domain::loom::{IdentityRecord, Opened, Payload};
use crate::domain::place::CallPlace;

fn loom(number: u8) -> LoomId {
    LoomId::from_parts(1, [number; 16])
}

fn entity(number: u8) -> EntityId {
    EntityId::from_parts(1, [number; 16])
}

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn writer(number: u8) -> WriterKey {
    WriterKey::from_bytes(key(number).verifying_key().to_bytes())
}

fn inline(text: &str) -> Payload {
    Payload::Inline(text.to_owned())
}

fn opened(spawned_by: Option<EntityId>) -> Body {
    Body::Opened(Box::new(Opened {
        identity: IdentityRecord::default(),
        medium: "conversation".to_owned(),
        medium_digest: None,
        gates: Vec::new(),
        wards: Wards::default(),
        folding: Folding::default(),
        model: "scripted".to_owned(),
        guest: None,
        intent: inline("go"),
        node: "b".to_owned(),
        depth: 0,
        cast: CastId::from_bytes([1; 16]),
        trace: None,
        spawned_by,
        fork: None,
        ..Opened::default()
    }))
}

fn delegated(child: EntityId) -> Body {
    let (call, proposal) = (CallId::new("c"), inline("{}"));
    Body::Delegated { call, index: 0, child, proposal, place: CallPlace::Any, nonce: None }
}

fn said(text: &str) -> Body {
    Body::intent(inline(text), false, None)
}

/// The log of one writer.
struct Log {
    number: u8,
    entries: Vec<Sealed>,
}

impl Log {
    fn of(number: u8) -> Self {
        Self { number, entries: Vec::new() }
    }

    fn push(&mut self, entity: EntityId, body: Body) {
        let place = (writer(self.number), self.entries.len() as u64 + 1);
        let entry = Entry::new(loom(1), place, 1, entity, None, body);
        self.entries.push(Sealed::new(entry, Vec::new()).unwrap());
    }

    /// What it says of a cast, and the chain after each entry.
    fn of_cast(&self, cast: EntityId) -> Vec<(Sealed, CastChain)> {
        let mut unit = CastUnit::of(cast);
        let mut own = Vec::new();
        for sealed in &self.entries {
            if unit.takes(sealed) {
                own.push((sealed.clone(), unit.at()));
            }
        }
        own
    }
}

fn signed_by(number: u8, of: LoomId, cast: EntityId, at: CastChain) -> CastHead {
    let writer = writer(number);
    let signature = key(number).sign(&CastHead::statement(of, writer, cast, &at)).to_bytes();
    CastHead { loom: of, writer, cast, at, signature }
}

fn head(number: u8, cast: EntityId, at: CastChain) -> CastHead {
    signed_by(number, loom(1), cast, at)
}

/// A host's log: two entities of the cast of 1, one of which it opened below; a child of theirs elsewhere; and somebody else's cast.
fn host() -> Log {
    let mut log = Log::of(1);
    log.push(entity(9), opened(None));
    log.push(entity(1), opened(None));
    log.push(entity(1), said("one"));
    log.push(entity(9), said("other"));
    log.push(entity(2), opened(Some(entity(1))));
    log.push(entity(2), delegated(entity(3)));
    log.push(entity(9), delegated(entity(8)));
    log.push(entity(1), said("two"));
    log
}

fn stream() -> CastStream {
    CastStream::new(loom(1), writer(7), entity(1))
}

fn places(entries: &[(Sealed, CastChain)]) -> Vec<u64> {
    entries.iter().map(|(sealed, _)| sealed.entry.sequence).collect()
}

fn sealed(entries: &[(Sealed, CastChain)]) -> Vec<Sealed> {
    entries.iter().map(|(sealed, _)| sealed.clone()).collect()
}

#[test]
fn a_cast_has_the_entries_of_its_root_and_of_all_below_it() {
    assert_eq!(places(&host().of_cast(entity(1))), [2, 3, 5, 6, 8]);
    assert_eq!(places(&host().of_cast(entity(9))), [1, 4, 7]);
    let mut log = host();
    // A child of the cast that came back to this node by way of another.
    log.push(entity(4), opened(Some(entity(3))));
    assert_eq!(places(&log.of_cast(entity(1))), [2, 3, 5, 6, 8, 9]);
}

#[test]
fn heads_are_kept_and_read_as_they_were() {
    let own = host().of_cast(entity(1));
    let heads: Vec<CastHead> = own.iter().map(|(_, at)| head(1, entity(1), *at)).collect();
    assert_eq!(CastHead::parse(&CastHead::to_bytes(&heads)), Some(heads.clone()));
    assert!(heads.iter().all(CastHead::is_signed));
    assert_eq!(CastHead::parse(&CastHead::to_bytes(&heads)[1..]), None);
}

#[test]
fn a_signature_is_over_loom_writer_cast_place_and_chain() {
    let at = CastChain { place: 3, chain: [4; 32] };
    let sound = head(1, entity(1), at);
    let others = [
        CastHead { loom: loom(2), ..sound },
        CastHead { writer: writer(2), ..sound },
        CastHead { cast: entity(2), ..sound },
        CastHead { at: CastChain { place: 4, ..at }, ..sound },
        CastHead { at: CastChain { chain: [5; 32], ..at }, ..sound },
    ];
    assert!(sound.is_signed());
    assert!(others.iter().all(|other| !other.is_signed()));
}

#[test]
fn an_entry_without_a_head_of_its_writer_is_refused() {
    let own = host().of_cast(entity(1));
    let last = own.last().map(|(_, at)| *at).unwrap();
    let refused = stream().check(sealed(&own), Vec::new());
    assert!(matches!(refused, Err(CastHeadError::Uncovered { .. })), "{refused:?}");
    let mut more = sealed(&own);
    let mut other = Log::of(2);
    other.push(entity(3), opened(Some(entity(2))));
    more.extend(other.entries.clone());
    let refused = stream().check(more.clone(), vec![head(1, entity(1), last)]);
    assert!(matches!(refused, Err(CastHeadError::Uncovered { writer: by, .. }) if by == writer(2)), "{refused:?}");
    // Under a head of its own writer for the cast that it is the root of, it is taken.
    let theirs = other.of_cast(entity(3)).last().map(|(_, at)| *at).unwrap();
    let heads = vec![head(1, entity(1), last), head(2, entity(3), theirs)];
    assert_eq!(stream().check(more, heads).unwrap().entries().len(), own.len() + 1);
}

#[test]
fn a_head_of_another_loom_writer_or_cast_is_refused_by_name() {
    let own = host().of_cast(entity(1));
    let last = own.last().map(|(_, at)| *at).unwrap();
    let check = |head: CastHead| stream().check(sealed(&own), vec![head]).unwrap_err();
    assert!(matches!(check(signed_by(1, loom(2), entity(1), last)), CastHeadError::Loom { .. }));
    assert!(matches!(check(head(1, entity(9), last)), CastHeadError::Cast { .. }));
    let by_another = CastHead { signature: head(2, entity(1), last).signature, ..head(1, entity(1), last) };
    assert!(matches!(check(by_another), CastHeadError::Signature { .. }));
    let twice = vec![head(1, entity(1), last); 2];
    assert!(matches!(stream().check(sealed(&own), twice), Err(CastHeadError::Twice { .. })));
}

#[test]
fn two_heads_for_one_place_are_two_histories() {
    let own = host().of_cast(entity(1));
    let mut other = host();
    other.entries.pop();
    other.push(entity(1), said("another two"));
    let other = other.of_cast(entity(1));
    let whole =
        |entries: &[(Sealed, CastChain)]| (sealed(entries), vec![head(1, entity(1), entries.last().unwrap().1)]);
    let mut stream = stream();
    let (entries, heads) = whole(&own);
    assert_eq!(stream.check(entries, heads).unwrap().entries().len(), own.len());
    stream.connected();
    let (entries, heads) = whole(&other);
    let refused = stream.check(entries, heads);
    assert!(matches!(refused, Err(CastHeadError::Contradiction { place: 8, .. })), "{refused:?}");
}

#[test]
fn what_ends_before_what_was_signed_is_short_and_what_goes_round_it_is_another_history() {
    let own = host().of_cast(entity(1));
    let mut stream = stream();
    stream.check(sealed(&own), vec![head(1, entity(1), own.last().unwrap().1)]).unwrap();
    stream.finish().unwrap();
    stream.connected();
    let some = &own[..2];
    let again = stream.check(sealed(some), vec![head(1, entity(1), some.last().unwrap().1)]).unwrap();
    assert!(again.entries().is_empty() && again.heads().is_empty(), "nothing of it is new");
    assert!(matches!(stream.finish(), Err(CastHeadError::Short { came: 3, known: 8, .. })));
    // The place that was signed is left out, and a later one comes.
    let mut longer = host();
    longer.push(entity(1), said("three"));
    let mut around = longer.of_cast(entity(1));
    around.retain(|(sealed, _)| sealed.entry.sequence != 8);
    stream.connected();
    let refused = stream.check(sealed(&around), vec![head(1, entity(1), around.last().unwrap().1)]);
    assert!(matches!(refused, Err(CastHeadError::Contradiction { .. })), "{refused:?}");
}

#[test]
fn what_this_node_wrote_itself_is_checked_and_not_taken_again() {
    let own = host().of_cast(entity(1));
    let mut stream = CastStream::new(loom(1), writer(1), entity(1));
    let batch = stream.check(sealed(&own), vec![head(1, entity(1), own.last().unwrap().1)]).unwrap();
    assert!(batch.entries().is_empty() && batch.heads().is_empty());
}

proptest! {
    /// In whatever steps a cast comes, over however many connections, each beginning wherever it likes up to what has come: the
    /// entries are taken once each, in order, and the newest head is that of all of them.
    #[test]
    fn a_cast_comes_through_in_any_steps_over_any_connections(
        steps in prop::collection::vec((1_usize..4, any::<bool>(), any::<bool>()), 1..40),
    ) {
        let own = host().of_cast(entity(1));
        let (mut stream, mut at, mut taken) = (stream(), 0, Vec::new());
        for (size, is_new, from_start) in steps {
            if is_new {
                stream.connected();
                // A cursor leads to where the last heads were; without one all comes again.
                at = if from_start { 0 } else { at };
            }
            let to = (at + size).min(own.len());
            let Some(step) = own.get(at..to).filter(|step| !step.is_empty()) else { continue };
            let batch = stream.check(sealed(step), vec![head(1, entity(1), step.last().unwrap().1)]).unwrap();
            taken.extend(batch.entries().iter().map(|sealed| sealed.entry.sequence));
            at = to;
        }
        let newest = stream.heads().first().map_or(0, |head| head.at.place);
        prop_assert_eq!(&taken, &places(&own)[..taken.len()]);
        prop_assert_eq!(newest, taken.last().copied().unwrap_or(0));
        prop_assert_eq!(stream.shown(), stream.heads());
    }

    /// Whatever is left out, moved, doubled, exchanged or added below a head is noticed, also where the rest came before.
    #[test]
    fn what_is_not_what_was_signed_is_refused(
        before in 0_usize..5,
        at in 0_usize..5,
        other in 0_usize..5,
        how in 0_u8..5,
    ) {
        let own = host().of_cast(entity(1));
        let mut stream = stream();
        let (first, rest) = own.split_at(before);
        if let Some((_, chain)) = first.last() {
            stream.check(sealed(first), vec![head(1, entity(1), *chain)]).unwrap();
        }
        let mut told = sealed(rest);
        let (at, other) = (at % told.len(), other % told.len());
        match how {
            0 => drop(told.remove(at)),
            1 if at != other => told.swap(at, other),
            2 => {
                let again = told[at].clone();
                told.insert(other, again);
            }
            3 => {
                let mut entry = told[at].entry.clone();
                entry.at_us += 1;
                told[at] = Sealed::new(entry, Vec::new()).unwrap();
            }
            _ => {
                let mut entry = told[at].entry.clone();
                entry.sequence += 1;
                entry.body = said("added");
                told.insert(at + 1, Sealed::new(entry, Vec::new()).unwrap());
            }
        }
        let refused = stream.check(told, vec![head(1, entity(1), own.last().unwrap().1)]);
        prop_assert!(refused.is_err());
    }

    /// What was kept and read again goes on like what was never put down.
    #[test]
    fn a_stream_that_was_put_down_goes_on_as_it_was(cut in 0_usize..6, size in 1_usize..4) {
        let own = host().of_cast(entity(1));
        let (mut live, mut kept) = (stream(), Vec::new());
        for step in own[..cut.min(own.len())].chunks(size) {
            let batch = live.check(sealed(step), vec![head(1, entity(1), step.last().unwrap().1)]).unwrap();
            kept.push((batch.entries().to_vec(), batch.heads().to_vec()));
        }
        let mut restored = stream();
        for (entries, heads) in &kept {
            restored.restore(entries, heads);
        }
        prop_assert_eq!(restored.heads(), live.heads());
        for mut stream in [live, restored] {
            stream.connected();
            for step in own.chunks(2) {
                stream.check(sealed(step), vec![head(1, entity(1), step.last().unwrap().1)]).unwrap();
            }
            stream.finish().unwrap();
            prop_assert_eq!(stream.heads(), vec![head(1, entity(1), own.last().unwrap().1)]);
        }
    }
}
