//! The rules of who may write a loom, one by one.

mod cost;
mod loom;
mod rules;
mod settled;

use self::loom::{ALL, FOUNDER, Loom, ent, key, nested, proof, record, text, with_member};
use super::{Deed, LogEnd, Principal, Reader, Refused, Right, Settled, Target};
use crate::domain::limits::{
    ADMISSION_DEPTH_MAX, EPOCH_STEP_MAX, EXPELLED_ENDS_PER_WRITER_MAX, FENCE_STEP_MAX, READMISSIONS_MAX,
};
use crate::domain::loom::{Body, Division, EquivocationProof, Head, Side};

#[test]
fn r2_1_who_has_not_minted_an_entity_does_not_open_it() {
    let (mut loom, admission) = with_member(&ALL);
    let own = loom.open(2, Some(admission), (2, 5), None);
    let theirs = loom.open(2, Some(admission), (FOUNDER, 6), None);
    assert_eq!(loom.counts(own), Ok(()));
    assert_eq!(loom.counts(theirs), Err(Refused::Opener));
}

#[test]
fn r2_3_a_host_opens_what_the_minter_named_it_for_and_only_its_first_opening_counts() {
    let (mut loom, _) = with_member(&[Right::Write]);
    let root = loom.open(FOUNDER, None, (FOUNDER, 5), None);
    let child = ent(FOUNDER, 6);
    let delegated = loom.delegate(FOUNDER, ent(FOUNDER, 5), root, child);
    let host = loom.host(FOUNDER, None, Principal::Key(key(3)), (FOUNDER, 6), 3);
    let opened = loom.open(3, Some(host), (FOUNDER, 6), Some(delegated));
    let again = loom.open(3, Some(host), (FOUNDER, 6), Some(delegated));
    let step = loom.step(3, child, opened);
    assert_eq!(loom.counts(opened), Ok(()));
    assert_eq!(loom.counts(step), Ok(()));
    assert_eq!(loom.counts(again), Err(Refused::Superseded));
    // Whoever is named and has not minted it names nobody.
    let other = loom.host(3, Some(host), Principal::Key(key(4)), (FOUNDER, 5), 4);
    assert_eq!(loom.counts(other), Err(Refused::NotItsChild(ent(FOUNDER, 5))));
}

#[test]
fn r2_4_with_a_member_record_the_founder_is_its_node() {
    let mut loom = Loom::founded(Some(record(FOUNDER, 9, 1)));
    loom.certify(FOUNDER, 9, 1);
    loom.certify(5, 9, 2);
    let opened = loom.open(5, None, (5, 7), None);
    assert_eq!(loom.counts(opened), Ok(()));
    let mut bare = Loom::new();
    bare.certify(FOUNDER, 9, 1);
    bare.certify(5, 9, 2);
    let opened = bare.open(5, None, (5, 7), None);
    assert_eq!(bare.counts(opened), Err(Refused::Unnamed));
}

#[test]
fn r3_2_a_successor_is_the_same_member_and_goes_on_without_the_right_to_adopt() {
    let (mut loom, admission) = with_member(&[Right::Write]);
    let opened = loom.open(2, Some(admission), (2, 5), None);
    let last = (opened, loom.end_of((2, 0)));
    loom.succeed(2, 4);
    let adopted = loom.adopt(4, Some(admission), ent(2, 5), last, 1);
    assert_eq!(loom.counts(adopted), Ok(()));
    let reader = loom.known();
    let reader = Reader::new(&reader);
    assert_eq!(reader.owner(ent(2, 5)).map(|owner| (owner.writer, owner.epoch)), Some((key(4), 1)));
}

#[test]
fn r4_1_nobody_gives_more_than_it_has() {
    let (mut loom, admission) = with_member(&[Right::Write, Right::Admit]);
    let more = loom.admit(2, Some(admission), Principal::Key(key(3)), &ALL);
    let same = loom.admit(2, Some(admission), Principal::Key(key(4)), &[Right::Write]);
    assert_eq!(loom.counts(more), Err(Refused::More(admission)));
    assert_eq!(loom.counts(same), Ok(()));
    let (mut loom, admission) = with_member(&[Right::Write]);
    let friend = loom.admit(2, Some(admission), Principal::Key(key(3)), &[Right::Write]);
    assert_eq!(loom.counts(friend), Err(Refused::Right { admission, right: Right::Admit }));
}

#[test]
fn r4_2_a_host_writes_what_is_below_its_cast_and_nothing_else() {
    let mut loom = Loom::new();
    let root = loom.open(FOUNDER, None, (FOUNDER, 5), None);
    let delegated = loom.delegate(FOUNDER, ent(FOUNDER, 5), root, ent(FOUNDER, 6));
    let host = loom.host(FOUNDER, None, Principal::Key(key(3)), (FOUNDER, 6), 3);
    let opened = loom.open(3, Some(host), (FOUNDER, 6), Some(delegated));
    let further = loom.delegate(3, ent(FOUNDER, 6), opened, ent(3, 7));
    let below = loom.open(3, Some(host), (3, 7), Some(further));
    let beside = loom.open(3, Some(host), (3, 8), None);
    assert_eq!(loom.counts(below), Ok(()));
    assert_eq!(loom.counts(beside), Err(Refused::Scope(ent(FOUNDER, 6))));
}

#[test]
fn r4_3_nothing_old_becomes_valid_by_a_later_admission() {
    let mut loom = Loom::new();
    let early = loom.open(2, None, (2, 5), None);
    let admission = loom.admit(FOUNDER, None, Principal::Key(key(2)), &ALL);
    let late = loom.open(2, Some(admission), (2, 6), None);
    assert_eq!(loom.counts(early), Err(Refused::Unnamed));
    assert_eq!(loom.counts(late), Ok(()));
}

#[test]
fn r4_4_an_expulsion_leaves_what_is_before_its_ends_and_is_over_when_an_admission_names_it() {
    let (mut loom, admission) = with_member(&ALL);
    let before = loom.open(2, Some(admission), (2, 5), None);
    let ends = vec![loom.end_of((2, 0))];
    let by = loom.expel(FOUNDER, None, Target::Key(key(2)), ends);
    let behind = loom.open(2, Some(admission), (2, 6), None);
    assert_eq!(loom.counts(before), Ok(()));
    assert_eq!(loom.counts(behind), Err(Refused::Expelled(by)));
    let known = loom.known();
    let reader = Reader::new(&known);
    assert_eq!(reader.may(key(2), Deed::Write), Err(Refused::Expelled(by)));
    assert_eq!(reader.again(key(FOUNDER), None, &Principal::Key(key(2))), Ok(vec![by]));
    assert_eq!(reader.again(key(2), Some(admission), &Principal::Key(key(2))), Err(by));
    drop(reader);
    let again = loom.admit_again(FOUNDER, None, Principal::Key(key(2)), &[Right::Write], vec![by]);
    let late = loom.open(2, Some(again), (2, 7), None);
    assert_eq!(loom.counts(late), Ok(()));
    assert_eq!(Reader::new(&loom.known()).may(key(2), Deed::Write), Ok(Some(again)));
}

#[test]
fn r4_4_an_expulsion_counts_only_for_what_its_writer_has_a_say_over() {
    let (mut loom, one) = with_member(&ALL);
    let other = loom.admit(FOUNDER, None, Principal::Key(key(3)), &ALL);
    let own = loom.admit(2, Some(one), Principal::Key(key(4)), &[Right::Write]);
    let theirs = loom.open(3, Some(other), (3, 5), None);
    let friends = loom.open(4, Some(own), (4, 6), None);
    loom.expel(2, Some(one), Target::Key(key(3)), Vec::new());
    let by = loom.expel(2, Some(one), Target::Key(key(4)), Vec::new());
    loom.expel(2, Some(one), Target::Key(key(FOUNDER)), Vec::new());
    assert_eq!(loom.counts(theirs), Ok(()));
    assert_eq!(loom.counts(friends), Err(Refused::Expelled(by)));
    let founders = loom.open(FOUNDER, None, (FOUNDER, 7), None);
    assert_eq!(loom.counts(founders), Ok(()));
}

#[test]
fn r4_4_a_later_certificate_of_the_founder_ends_an_earlier_one_and_never_the_reverse() {
    let mut loom = Loom::founded(Some(record(FOUNDER, 9, 1)));
    loom.certify(FOUNDER, 9, 1);
    loom.certify(5, 9, 2);
    let opened = loom.open(5, None, (5, 7), None);
    loom.expel(FOUNDER, None, Target::Key(key(5)), Vec::new());
    assert_eq!(loom.counts(opened), Ok(()));
    let late = loom.open(FOUNDER, None, (FOUNDER, 8), None);
    let by = loom.expel(5, None, Target::Key(key(FOUNDER)), Vec::new());
    assert_eq!(loom.counts(late), Err(Refused::Expelled(by)));
}

#[test]
fn r4_5_what_an_adoption_has_pinned_stays_though_its_writer_is_expelled_to_nothing() {
    let (mut loom, admission) = with_member(&[Right::Write]);
    let opened = loom.open(2, Some(admission), (2, 5), None);
    let last = (opened, loom.end_of((2, 0)));
    loom.adopt(FOUNDER, None, ent(2, 5), last, 1);
    let other = loom.open(2, Some(admission), (2, 6), None);
    let by = loom.expel(FOUNDER, None, Target::Key(key(2)), Vec::new());
    assert_eq!(loom.counts(opened), Ok(()));
    assert_eq!(loom.counts(other), Err(Refused::Expelled(by)));
}

#[test]
fn r4_5_what_a_caller_has_settled_of_a_cast_stays() {
    let mut loom = Loom::new();
    let root = loom.open(FOUNDER, None, (FOUNDER, 5), None);
    let child = ent(FOUNDER, 6);
    let delegated = loom.delegate(FOUNDER, ent(FOUNDER, 5), root, child);
    let host = loom.host(FOUNDER, None, Principal::Key(key(3)), (FOUNDER, 6), 3);
    let opened = loom.open(3, Some(host), (FOUNDER, 6), Some(delegated));
    let settled = Settled { child, admission: host, ends: vec![loom.end_of((3, 0))], by: None, note: None };
    loom.write(FOUNDER, Some(ent(FOUNDER, 5)), Some(delegated), None, Body::Settled(Box::new(settled)));
    let late = loom.step(3, child, opened);
    let by = loom.expel(FOUNDER, None, Target::Key(key(3)), Vec::new());
    assert_eq!(loom.counts(opened), Ok(()));
    assert_eq!(loom.counts(late), Err(Refused::Expelled(by)));
}

#[test]
fn r4_6_of_judgements_that_nobody_went_beyond_the_founders_holds() {
    let (mut loom, admission) = with_member(&[Right::Write]);
    let opened = loom.open(FOUNDER, None, (FOUNDER, 5), None);
    let of = ent(FOUNDER, 5);
    let first = loom.reward(FOUNDER, None, of, opened, Vec::new());
    let theirs = loom.reward(2, Some(admission), of, opened, Vec::new());
    let holding = |loom: &Loom| Reader::new(&loom.known()).rewards().get(&opened).copied();
    assert_eq!(holding(&loom), Some(first));
    let beyond = loom.reward(2, Some(admission), of, opened, vec![first, theirs]);
    assert_eq!(holding(&loom), Some(beyond));
}

#[test]
fn r5_2_what_no_signature_covers_decides_nothing() {
    let (mut loom, admission) = with_member(&ALL);
    let opened = loom.open(2, Some(admission), (2, 5), None);
    loom.uncovered = 2;
    assert_eq!(loom.counts(opened), Err(Refused::Uncovered));
}

#[test]
fn r5_3_the_highest_adoption_by_right_owns_an_entity_and_what_its_former_owner_writes_behind_it_is_refused() {
    let (mut loom, admission) = with_member(&[Right::Write]);
    let of = ent(2, 5);
    let opened = loom.open(2, Some(admission), (2, 5), None);
    let last = (opened, loom.end_of((2, 0)));
    let adopted = loom.adopt(FOUNDER, None, of, last, 1);
    let behind = loom.step(2, of, opened);
    let taken_back = loom.adopt(2, Some(admission), of, last, 9);
    assert_eq!(loom.counts(adopted), Ok(()));
    assert_eq!(loom.counts(behind), Err(Refused::Owner));
    assert_eq!(loom.counts(taken_back), Err(Refused::Superseded));
}

#[test]
fn an_epoch_is_above_the_one_it_follows_and_not_too_far() {
    for (epoch, holds) in [(0, false), (1, true), (EPOCH_STEP_MAX, true), (EPOCH_STEP_MAX + 1, false)] {
        let (mut loom, admission) = with_member(&[Right::Write]);
        let opened = loom.open(2, Some(admission), (2, 5), None);
        let last = (opened, loom.end_of((2, 0)));
        let adopted = loom.adopt(FOUNDER, None, ent(2, 5), last, epoch);
        assert_eq!(loom.counts(adopted).is_ok(), holds, "epoch {epoch}");
    }
}

#[test]
fn an_adopter_takes_an_epoch_above_the_fences_within_reach() {
    let (mut loom, admission) = with_member(&ALL);
    let of = ent(FOUNDER, 5);
    let opened = loom.open(FOUNDER, None, (FOUNDER, 5), None);
    // A history that nobody has.
    let gone = LogEnd { sequence: 99, ..loom.end_of((FOUNDER, 0)) };
    loom.adopt(2, Some(admission), of, (opened, gone), 40);
    let known = loom.known();
    let reader = Reader::new(&known);
    assert_eq!(reader.owner(of).map(|owner| owner.writer), Some(key(FOUNDER)));
    assert_eq!(reader.fence(of, &[]), Some(40));
    assert_eq!(reader.fence(of, &[FENCE_STEP_MAX, FENCE_STEP_MAX + 1]), Some(FENCE_STEP_MAX));
    assert_eq!(reader.next_epoch(of, &[FENCE_STEP_MAX + 1]), Some(41));
    assert_eq!(reader.next_epoch(of, &[FENCE_STEP_MAX]), Some(FENCE_STEP_MAX + 1));
    assert_eq!(reader.next_epoch(ent(2, 1), &[]), None);
}

#[test]
fn r5_5_two_signed_histories_end_where_they_divide_but_for_admissions_and_expulsions() {
    let (mut loom, admission) = with_member(&ALL);
    let before = loom.open(2, Some(admission), (2, 5), None);
    loom.fork(2, 1);
    let one = loom.step(2, ent(2, 5), before);
    let body = Body::intent(text(), false, None);
    let other = loom.write_in((2, 1), Some(ent(2, 5)), Some(before), Some(admission), body);
    let friend = loom.admit(2, Some(admission), Principal::Key(key(3)), &[Right::Write]);
    assert_eq!(loom.counts(before), Ok(()));
    assert_eq!(loom.counts(one), Err(Refused::Equivocated { place: 2 }));
    assert_eq!(loom.counts(other), Err(Refused::Equivocated { place: 2 }));
    assert_eq!(loom.counts(friend), Ok(()));
    assert_eq!(Reader::new(&loom.known()).may(key(2), Deed::Write), Err(Refused::Equivocated { place: 2 }));
    // Its proof says the same to whoever has one of the histories.
    let (sides, common) = (loom.logs.clone(), Head::default().after(&loom.logs[&(2, 0)][0].id));
    loom.logs.remove(&(2, 1));
    assert_eq!(loom.counts(one), Ok(()));
    let mut known = loom.known();
    let sides = [0, 1]
        .map(|log| Side { ids: sides[&(2, log)][1..].iter().map(|sealed| sealed.id).collect(), signature: [0; 64] });
    let division = Division::Logs { common, sides };
    known.divides(&EquivocationProof { loom: loom.id, writer: key(2), division });
    assert_eq!(Reader::new(&known).counts(one), Err(Refused::Equivocated { place: 2 }));
    // An earlier proof replaces a later one.
    loom.proofs.push((2, 1));
    assert_eq!(loom.counts(before), Err(Refused::Equivocated { place: 1 }));
}

#[test]
fn a_proved_entry_counts_without_the_log_before_it() {
    let (mut loom, admission) = with_member(&ALL);
    loom.open(2, Some(admission), (2, 5), None);
    let head = loom.end_of((2, 0));
    let opened = loom.open(2, Some(admission), (2, 6), None);
    let log = loom.logs.remove(&(2, 0)).unwrap();
    let proof = proof(2, Head { sequence: head.sequence, chain: head.chain }, &log[1]);
    let mut known = loom.known();
    known.proved(&proof);
    let reader = Reader::new(&known);
    assert_eq!(reader.counts(opened), Ok(()));
    assert_eq!(reader.counts(log[0].id), Err(Refused::Absent));
}

#[test]
fn a_cast_that_gives_a_place_another_entry_than_the_log_proves_two_histories() {
    let (mut loom, admission) = with_member(&ALL);
    let opened = loom.open(2, Some(admission), (2, 5), None);
    loom.fork(2, 0);
    loom.write_in(
        (2, 1),
        None,
        None,
        Some(admission),
        Body::Keeping { acks: 0, keepers: Vec::new(), accept_loss: false },
    );
    let other = loom.logs.remove(&(2, 1)).unwrap();
    let mut known = loom.known();
    known.cast(key(2), ent(2, 5), Head::default(), &other, 1);
    assert_eq!(Reader::new(&known).counts(opened), Err(Refused::Equivocated { place: 1 }));
}

#[test]
fn r12_what_a_later_version_says_of_the_loom_holds_if_its_writer_may_admit_others() {
    let (mut loom, writes) = with_member(&[Right::Write, Right::Adopt]);
    let admits = loom.admit(FOUNDER, None, Principal::Key(key(3)), &ALL);
    let hosts = loom.host(FOUNDER, None, Principal::Key(key(4)), (FOUNDER, 6), 4);
    let (other, host) = (loom.later(2, None, Some(writes)), loom.later(4, None, Some(hosts)));
    assert_eq!(loom.counts(other), Err(Refused::Right { admission: writes, right: Right::Admit }));
    assert_eq!(loom.counts(host), Err(Refused::Right { admission: hosts, right: Right::Admit }));
    let unnamed = loom.later(3, None, None);
    assert_eq!(loom.counts(unnamed), Err(Refused::Unnamed));
    assert_eq!(Reader::new(&loom.known()).later().count(), 0);
    let by = [loom.later(FOUNDER, None, None), loom.later(3, None, Some(admits))];
    assert_eq!(Reader::new(&loom.known()).later().map(|sealed| sealed.id).collect::<Vec<_>>(), by);
    loom.expel(FOUNDER, None, Target::Key(key(3)), Vec::new());
    assert_eq!(Reader::new(&loom.known()).later().map(|sealed| sealed.id).collect::<Vec<_>>(), by[..1]);
    // What is about an entity is its owner's.
    let opened = loom.open(2, Some(writes), (2, 5), None);
    let (own, theirs) =
        (loom.later(2, Some((ent(2, 5), opened)), None), loom.later(3, Some((ent(2, 5), opened)), Some(admits)));
    assert_eq!(loom.counts(own), Ok(()));
    assert!(loom.counts(theirs).is_err());
}

#[test]
fn a_key_may_what_its_admissions_give() {
    let (mut loom, admission) = with_member(&[Right::Write]);
    let opened = loom.open(FOUNDER, None, (FOUNDER, 5), None);
    let host = loom.host(FOUNDER, None, Principal::Key(key(3)), (FOUNDER, 6), 3);
    let known = loom.known();
    let reader = Reader::new(&known);
    assert_eq!(reader.may(key(FOUNDER), Deed::Write), Ok(None));
    assert_eq!(reader.may(key(2), Deed::Write), Ok(Some(admission)));
    let right = Right::Adopt;
    assert_eq!(reader.may(key(2), Deed::Adopt(ent(FOUNDER, 5))), Err(Refused::Right { admission, right }));
    assert_eq!(reader.may(key(3), Deed::Host(ent(FOUNDER, 6))), Ok(Some(host)));
    assert_eq!(reader.may(key(3), Deed::Write), Err(Refused::Scope(ent(FOUNDER, 6))));
    assert_eq!(reader.may(key(9), Deed::Write), Err(Refused::Unnamed));
    assert_eq!(reader.counts(opened), Ok(()));
}

#[test]
fn a_chain_of_admissions_has_an_end() {
    let (mut loom, mut admission) = with_member(&ALL);
    for _ in 1..ADMISSION_DEPTH_MAX {
        admission = loom.admit(2, Some(admission), Principal::Key(key(2)), &ALL);
    }
    assert_eq!(loom.counts(admission), Ok(()));
    let further = loom.admit(2, Some(admission), Principal::Key(key(2)), &ALL);
    assert_eq!(loom.counts(further), Err(Refused::Depth { max: ADMISSION_DEPTH_MAX }));
}

#[test]
fn an_expulsion_is_read_with_so_many_ends_of_one_writer() {
    for (others, stays) in [(EXPELLED_ENDS_PER_WRITER_MAX - 1, true), (EXPELLED_ENDS_PER_WRITER_MAX, false)] {
        let (mut loom, admission) = with_member(&ALL);
        let opened = loom.open(2, Some(admission), (2, 5), None);
        let end = loom.end_of((2, 0));
        let mut ends = vec![LogEnd { sequence: 77, ..end }; others];
        ends.push(end);
        loom.expel(FOUNDER, None, Target::Key(key(2)), ends);
        assert_eq!(loom.counts(opened).is_ok(), stays, "{others} ends before it");
    }
}

#[test]
fn so_many_admissions_hand_on_that_an_expulsion_is_over() {
    for (between, holds) in [(READMISSIONS_MAX - 2, true), (READMISSIONS_MAX, false)] {
        let (mut loom, _) = with_member(&ALL);
        let by = loom.expel(FOUNDER, None, Target::Key(key(2)), Vec::new());
        let mut named = by;
        for _ in 0..=between {
            named = loom.admit_again(FOUNDER, None, Principal::Key(key(2)), &ALL, vec![named]);
        }
        let opened = loom.open(2, Some(named), (2, 5), None);
        assert_eq!(loom.counts(opened).is_ok(), holds, "{between} admissions between");
    }
}

#[test]
fn what_is_far_below_a_cast_is_within_it() {
    let (loom, last) = nested(2_000);
    assert_eq!(loom.counts(last), Ok(()));
}

#[test]
fn entities_that_say_they_are_below_each_other_are_below_nothing() {
    let mut loom = Loom::new();
    let host = loom.host(FOUNDER, None, Principal::Key(key(3)), (FOUNDER, 1), 3);
    let (one, other) = (ent(3, 2), ent(3, 3));
    let step = loom.step(3, one, host);
    let first = loom.delegate(3, one, step, other);
    let opened = loom.open(3, Some(host), (3, 3), Some(first));
    let second = loom.delegate(3, other, opened, one);
    let last = loom.open(3, Some(host), (3, 2), Some(second));
    assert_eq!(loom.counts(opened), Err(Refused::Scope(ent(FOUNDER, 1))));
    assert_eq!(loom.counts(last), Err(Refused::Scope(ent(FOUNDER, 1))));
}
