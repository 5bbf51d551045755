//! Cast heads: what was written comes through in whatever steps and however often; nothing else does.

use cantrip_gates::Wards;
use ed25519_dalek::{Signer, SigningKey};
use proptest::prelude::*;

use super::*;
use crate::domain::cantrip::Folding;
use crate::domain::ids::{CallId, CastId};
use crate::domain::loom::{Head, IdentityRecord, Opened, Payload, SignedHead};
use crate::domain::members::{MemberRecord, Succession};
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

#[test]
fn what_is_signed_says_that_it_is_a_cast_head_and_of_what_byte_by_byte() {
    let at = CastChain { place: 0x0102, chain: [4; 32] };
    let signed = [
        b"cantrip cast head v1\0".as_slice(),
        loom(1).as_bytes(),
        writer(1).as_bytes(),
        entity(2).as_bytes(),
        &[0, 0, 0, 0, 0, 0, 1, 2],
        &[4; 32],
    ]
    .concat();
    assert_eq!(CastHead::statement(loom(1), writer(1), entity(2), &at), signed);
    assert_eq!(signed.len(), 137);
    let word =
        CastHead { loom: loom(1), writer: writer(1), cast: entity(2), at, signature: key(1).sign(&signed).to_bytes() };
    assert!(word.is_signed());
    // Nothing else that the key signs begins so, and a head of a log is none of a cast.
    let head = Head { sequence: at.place, chain: at.chain };
    let others = [
        SignedHead::statement(loom(1), writer(1), &head),
        Succession::statement(&writer(1), &writer(2)),
        MemberRecord::statement(&writer(1), &[]),
    ];
    for other in others {
        assert!(!other.starts_with(&signed[..21]) && !signed.starts_with(&other[..18]));
        let signature = key(1).sign(&other).to_bytes();
        assert!(!CastHead { signature, ..word }.is_signed());
    }
    assert!(!SignedHead { loom: loom(1), writer: writer(1), head, signature: word.signature }.is_signed());
}

#[test]
fn a_chain_is_over_place_and_id_of_the_writers_entries_of_the_cast_in_the_order_of_its_log() {
    let log = host();
    let mut chain = [0; 32];
    for place in [2_u64, 3, 5, 6, 8] {
        let id = log.entries[usize::try_from(place).unwrap() - 1].id;
        let link = [chain.as_slice(), place.to_be_bytes().as_slice(), id.digest().as_slice()].concat();
        chain = *blake3::hash(&link).as_bytes();
    }
    assert_eq!(log.of_cast(entity(1)).last().unwrap().1, CastChain { place: 8, chain });
}

#[test]
fn nothing_of_another_cast_is_taken_under_a_head_whoever_signs_it() {
    let log = host();
    let (own, all) = (log.of_cast(entity(1)), log.entries.clone());
    let refused = stream().check(all.clone(), vec![head(1, entity(1), own.last().unwrap().1)]);
    assert!(matches!(refused, Err(CastHeadError::Uncovered { id, .. }) if id == all[0].id), "{refused:?}");
    // A writer that chains it in all the same has signed what nobody else comes to.
    let at = all.iter().fold(CastChain::default(), |at, sealed| at.after(sealed.entry.sequence, &sealed.id));
    let refused = stream().check(all, vec![head(1, entity(1), at)]);
    assert!(matches!(refused, Err(CastHeadError::Chain { signed: 8, came: 8, .. })), "{refused:?}");
}

#[test]
fn a_further_episode_goes_on_with_the_chain_of_the_cast() {
    let mut log = Log::of(1);
    log.push(entity(1), opened(None));
    let first = log.of_cast(entity(1));
    let mut stream = stream();
    stream.check(sealed(&first), vec![head(1, entity(1), first[0].1)]).unwrap();
    let again = Body::intent(inline("again"), false, Some(CastId::from_bytes([2; 16])));
    log.push(entity(1), again);
    log.push(entity(2), opened(Some(entity(1))));
    let all = log.of_cast(entity(1));
    stream.connected();
    let mut alone = CastUnit::of(entity(1));
    assert!(all[1..].iter().all(|(sealed, _)| alone.takes(sealed)));
    let refused = stream.clone().check(sealed(&all[1..]), vec![head(1, entity(1), alone.at())]);
    assert!(matches!(refused, Err(CastHeadError::Chain { .. })), "a chain of the episode alone: {refused:?}");
    let batch = stream.check(sealed(&all[1..]), vec![head(1, entity(1), all[2].1)]).unwrap();
    assert_eq!((batch.entries().len(), stream.heads()), (2, vec![head(1, entity(1), all[2].1)]));
}

#[test]
fn a_head_of_a_third_node_is_its_own_and_of_what_it_was_asked_for() {
    let own = host().of_cast(entity(1));
    let last = own.last().unwrap().1;
    let mut third = Log::of(2);
    third.push(entity(3), opened(Some(entity(2))));
    third.push(entity(3), said("three"));
    let theirs = third.of_cast(entity(3));
    let all = [sealed(&own), sealed(&theirs)].concat();
    let check = |second: CastHead| stream().check(all.clone(), vec![head(1, entity(1), last), second]);
    let word = head(2, entity(3), theirs[1].1);
    assert_eq!(check(word).unwrap().heads(), [head(1, entity(1), last), word]);
    // The node between signs for it, in its own name or in the other's.
    let between = head(1, entity(3), theirs[1].1);
    assert!(matches!(check(between), Err(CastHeadError::Chain { .. })));
    assert!(matches!(check(CastHead { writer: writer(2), ..between }), Err(CastHeadError::Signature { .. })));
    // It leaves the newest out, or the heads say more than has come.
    let short = [sealed(&own), sealed(&theirs[..1])].concat();
    let refused = stream().check(short, vec![head(1, entity(1), last), word]);
    assert!(matches!(refused, Err(CastHeadError::Chain { writer: by, .. }) if by == writer(2)), "{refused:?}");
    // Nobody of this cast has asked it for that.
    let mut stray = Log::of(2);
    stray.push(entity(5), opened(None));
    let stray = stray.of_cast(entity(5));
    let all = [sealed(&own), sealed(&stray)].concat();
    let refused = stream().check(all, vec![head(1, entity(1), last), head(2, entity(5), stray[0].1)]);
    assert!(matches!(refused, Err(CastHeadError::Cast { cast, .. }) if cast == entity(5)), "{refused:?}");
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
