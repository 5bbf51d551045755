//! Rules that are easily left out without anything else being wrong: each has a loom that shows it.

use std::collections::BTreeMap;

use super::loom::{ALL, FOUNDER, Loom, certificate, ent, key, minted, node, with_member};
use crate::domain::ids::EntryId;
use crate::domain::loom::{Body, Opened};
use crate::domain::members::{
    Admitted, CertificateId, Deed, LogEnd, Principal, Reader, Refused, Right, Scope, Settled, Target,
};

fn owner(loom: &Loom, of: (u8, u16)) -> Option<u8> {
    let known = loom.known();
    let owner = Reader::new(&known).owner(ent(of.0, of.1)).map(|owner| owner.writer);
    owner.and_then(|owner| (1..20).find(|number| key(*number) == owner))
}

/// A loom with node 9 as a member, under the keys 2 and 4.
fn with_node(rights: &[Right]) -> (Loom, EntryId) {
    let mut loom = Loom::new();
    loom.certify(2, 9, 1);
    loom.certify(4, 9, 1);
    let admission = loom.admit(FOUNDER, None, Principal::Node(node(9)), rights);
    (loom, admission)
}

/// An entity that a member opens under a key, with the head that covers it.
fn opened(loom: &mut Loom, by: u8, admission: EntryId, number: u16) -> (EntryId, LogEnd) {
    let opened = loom.open(by, Some(admission), (by, number), None);
    (opened, loom.end_of((by, 0)))
}

#[test]
fn r2_3_of_a_nodes_keys_only_the_one_that_was_named_opens_a_cast() {
    let mut loom = Loom::new();
    loom.certify(3, 9, 1);
    loom.certify(4, 9, 1);
    let root = loom.open(FOUNDER, None, (FOUNDER, 5), None);
    let delegated = loom.delegate(FOUNDER, ent(FOUNDER, 5), root, ent(FOUNDER, 6));
    let host = loom.host(FOUNDER, None, Principal::Node(node(9)), (FOUNDER, 6), 3);
    let other = loom.open(4, Some(host), (FOUNDER, 6), Some(delegated));
    let named = loom.open(3, Some(host), (FOUNDER, 6), Some(delegated));
    assert_eq!(loom.counts(other), Err(Refused::Opener));
    assert_eq!(loom.counts(named), Ok(()));
}

#[test]
fn r3_1_every_record_of_a_key_counts_and_the_expulsion_of_one_certificate_ends_only_what_it_alone_binds() {
    for (certificates, stays) in [(1..=1, false), (1..=2, true)] {
        let mut loom = Loom::new();
        certificates.for_each(|begins| loom.certify(2, 9, begins));
        let admission = loom.admit(FOUNDER, None, Principal::Node(node(9)), &[Right::Write]);
        let (opened, _) = opened(&mut loom, 2, admission, 5);
        loom.expel(FOUNDER, None, Target::Certificate(CertificateId::of(&certificate(9, 1))), Vec::new());
        assert_eq!(loom.counts(opened).is_ok(), stays);
    }
}

#[test]
fn r4_1_an_admission_is_for_whom_it_names_and_for_nobody_else() {
    let (mut loom, admission) = with_member(&ALL);
    let own = loom.open(2, Some(admission), (2, 5), None);
    let anothers = loom.open(3, Some(admission), (3, 5), None);
    assert_eq!(loom.counts(own), Ok(()));
    assert_eq!(loom.counts(anothers), Err(Refused::Another(admission)));
}

#[test]
fn r4_2_who_may_write_admits_a_host_for_its_child_and_who_may_not_does_not() {
    for (rights, holds) in [([Right::Write], true), ([Right::Adopt], false)] {
        let (mut loom, admission) = with_member(&rights);
        let host = loom.host(2, Some(admission), Principal::Key(key(3)), (2, 6), 3);
        let opened = loom.open(3, Some(host), (2, 6), None);
        assert_eq!(loom.counts(host).is_ok(), holds, "{rights:?}");
        assert_eq!(loom.counts(opened).is_ok(), holds, "{rights:?}");
    }
}

#[test]
fn r4_2_a_cast_stands_by_its_admission_though_its_caller_has_two_histories_behind_it() {
    let (mut loom, admission) = with_member(&[Right::Write]);
    let root = loom.open(2, Some(admission), (2, 5), None);
    let host = loom.host(2, Some(admission), Principal::Key(key(3)), (2, 6), 3);
    let delegated = loom.delegate(2, ent(2, 5), root, ent(2, 6));
    let opened = loom.open(3, Some(host), (2, 6), Some(delegated));
    loom.proofs.push((2, 3));
    assert_eq!(loom.counts(delegated), Err(Refused::Equivocated { place: 3 }));
    assert_eq!(loom.counts(opened), Ok(()));
}

#[test]
fn r4_4_an_end_holds_with_its_chain_value_and_a_writer_without_one_ends_before_its_first_entry() {
    type Change = fn(LogEnd) -> Vec<LogEnd>;
    let cases: [(Change, bool); 3] =
        [(|end| vec![end], true), (|end| vec![LogEnd { chain: [9; 32], ..end }], false), (|_| Vec::new(), false)];
    for (ends, stays) in cases {
        let (mut loom, admission) = with_member(&[Right::Write]);
        let (opened, end) = opened(&mut loom, 2, admission, 5);
        let by = loom.expel(FOUNDER, None, Target::Key(key(2)), ends(end));
        assert_eq!(loom.counts(opened), if stays { Ok(()) } else { Err(Refused::Expelled(by)) });
    }
}

#[test]
fn r4_4_of_several_expulsions_of_one_writer_the_lowest_place_holds() {
    let (mut loom, admission) = with_member(&[Right::Write]);
    let (one, first) = opened(&mut loom, 2, admission, 5);
    let (other, second) = opened(&mut loom, 2, admission, 6);
    loom.expel(FOUNDER, None, Target::Key(key(2)), vec![second]);
    assert_eq!((loom.counts(one), loom.counts(other)), (Ok(()), Ok(())));
    let lower = loom.expel(FOUNDER, None, Target::Key(key(2)), vec![first]);
    assert_eq!((loom.counts(one), loom.counts(other)), (Ok(()), Err(Refused::Expelled(lower))));
}

#[test]
fn r4_4_an_expelled_key_ends_its_successors_but_for_those_that_the_admitted_node_has_certified() {
    // Who certified the successor: nobody, another node, the node itself.
    for (certified, goes_on) in [(None, false), (Some(8), false), (Some(9), true)] {
        let mut loom = Loom::new();
        loom.certify(2, 9, 1);
        let admission = loom.admit(FOUNDER, None, Principal::Node(node(9)), &[Right::Write]);
        loom.succeed(2, 4);
        if let Some(of) = certified {
            loom.certify(4, of, 1);
        }
        let before = loom.open(4, Some(admission), (4, 5), None);
        assert_eq!(loom.counts(before), Ok(()), "{certified:?}");
        loom.expel(FOUNDER, None, Target::Key(key(2)), Vec::new());
        assert_eq!(loom.counts(before).is_ok(), goes_on, "{certified:?}");
    }
}

#[test]
fn r4_4_who_was_expelled_is_a_member_again_only_by_who_expelled_it_or_is_above_that_one() {
    let (mut loom, one) = with_member(&ALL);
    let own = loom.admit(2, Some(one), Principal::Key(key(3)), &[Right::Write]);
    let by = loom.expel(FOUNDER, None, Target::Key(key(3)), Vec::new());
    let below = loom.admit_again(2, Some(one), Principal::Key(key(3)), &[Right::Write], vec![by]);
    let late = loom.open(3, Some(below), (3, 5), None);
    let old = loom.open(3, Some(own), (3, 6), None);
    assert!(loom.counts(late).is_err() && loom.counts(old).is_err());
    let above = loom.admit_again(FOUNDER, None, Principal::Key(key(3)), &[Right::Write], vec![by]);
    let again = loom.open(3, Some(above), (3, 7), None);
    assert_eq!(loom.counts(again), Ok(()));
}

#[test]
fn r4_4_expulsions_are_judged_from_the_founder_down() {
    let (mut loom, one) = with_member(&ALL);
    let friend = loom.admit(2, Some(one), Principal::Key(key(3)), &[Right::Write]);
    let end = loom.end_of((2, 0));
    let opened = loom.open(3, Some(friend), (3, 5), None);
    let expelled = loom.expel(2, Some(one), Target::Key(key(3)), Vec::new());
    assert_eq!(loom.counts(opened), Err(Refused::Expelled(expelled)));
    // Its writer was expelled before it wrote that.
    let by = loom.expel(FOUNDER, None, Target::Key(key(2)), vec![end]);
    assert_eq!(loom.counts(expelled), Err(Refused::Expelled(by)));
    assert_eq!(loom.counts(opened), Ok(()));
}

#[test]
fn r4_5_the_place_of_an_expulsion_stays_though_its_writer_has_two_histories_if_its_writer_had_a_say() {
    for (says, stays) in [(FOUNDER, true), (3, false)] {
        let (mut loom, admission) = with_member(&[Right::Write]);
        let other = loom.admit(FOUNDER, None, Principal::Key(key(3)), &ALL);
        let (opened, end) = opened(&mut loom, 2, admission, 5);
        loom.expel(says, (says != FOUNDER).then_some(other), Target::Key(key(2)), vec![end]);
        loom.proofs.push((2, 1));
        let expected = if stays { Ok(()) } else { Err(Refused::Equivocated { place: 1 }) };
        assert_eq!(loom.counts(opened), expected, "expelled by {says}");
    }
}

#[test]
fn r4_5_another_key_of_the_same_member_pins_too() {
    let (mut loom, admission) = with_node(&[Right::Write]);
    let last = opened(&mut loom, 2, admission, 5);
    let by = loom.expel(FOUNDER, None, Target::Key(key(2)), Vec::new());
    assert_eq!(loom.counts(last.0), Err(Refused::Expelled(by)));
    let adopted = loom.adopt(4, Some(admission), ent(2, 5), last, 1);
    assert_eq!((loom.counts(last.0), loom.counts(adopted)), (Ok(()), Ok(())));
}

#[test]
fn r4_5_what_was_pinned_of_one_history_stays_beside_the_other() {
    let (mut loom, admission) = with_member(&[Right::Write]);
    let (here, _) = opened(&mut loom, 2, admission, 5);
    loom.fork(2, 0);
    let pinned = {
        let opened = Opened { minted: Some(minted(2, 6)), ..Opened::default() };
        let body = Body::Opened(Box::new(opened));
        loom.write_in((2, 1), Some(ent(2, 6)), None, Some(admission), body)
    };
    let last = (pinned, loom.end_of((2, 1)));
    assert_eq!(loom.counts(pinned), Err(Refused::Equivocated { place: 1 }));
    loom.adopt(FOUNDER, None, ent(2, 6), last, 1);
    assert_eq!(loom.counts(pinned), Ok(()));
    assert_eq!(loom.counts(here), Err(Refused::Equivocated { place: 1 }));
}

#[test]
fn r4_5_nothing_is_pinned_by_what_does_not_count_itself() {
    let (mut loom, admission) = with_member(&[Right::Write]);
    let last = opened(&mut loom, 2, admission, 5);
    let stranger = loom.adopt(7, None, ent(2, 5), last, 1);
    let settled = Settled { child: ent(2, 5), admission, ends: vec![last.1], by: None, note: None };
    loom.write(7, Some(ent(2, 5)), Some(last.0), None, Body::Settled(Box::new(settled)));
    let by = loom.expel(FOUNDER, None, Target::Key(key(2)), Vec::new());
    assert_eq!(loom.counts(stranger), Err(Refused::Unnamed));
    assert_eq!(loom.counts(last.0), Err(Refused::Expelled(by)));
}

#[test]
fn r4_6_of_each_node_one_judgement_is_an_end_and_a_judgement_names_all_that_it_saw() {
    let mut loom = Loom::new();
    // Enough of them that the lowest is not the one that is met first.
    (2..9).for_each(|by| loom.certify(by, 9, 1));
    let admission = loom.admit(FOUNDER, None, Principal::Node(node(9)), &[Right::Write]);
    let of = loom.open(FOUNDER, None, (FOUNDER, 5), None);
    let judge = |loom: &mut Loom, by: u8| loom.reward(by, Some(admission), ent(FOUNDER, 5), of, Vec::new());
    let ends: BTreeMap<u8, EntryId> = (2..9).map(|by| (by, judge(&mut loom, by))).collect();
    let lower = (2..9).min_by_key(|by| key(*by)).unwrap_or(2);
    assert_ne!(lower, 2);
    let holds = |loom: &Loom| Reader::new(&loom.known()).rewards().get(&of).copied();
    assert_eq!(holds(&loom), Some(ends[&lower]), "between a node's keys the lowest");
    let later = judge(&mut loom, lower);
    assert_eq!(holds(&loom), Some(later), "of one key the last");
}

#[test]
fn r5_3_only_who_may_adopt_owns_what_it_adopts() {
    for (rights, owns) in
        [(&[Right::Write][..], false), (&[Right::Adopt], true), (&[Right::Write, Right::Admit], false)]
    {
        let (mut loom, admission) = with_member(rights);
        let opened = loom.open(FOUNDER, None, (FOUNDER, 5), None);
        let last = (opened, loom.end_of((FOUNDER, 0)));
        let adopted = loom.adopt(2, Some(admission), ent(FOUNDER, 5), last, 1);
        assert_eq!(loom.counts(adopted).is_ok(), owns, "{rights:?}");
        assert_eq!(owner(&loom, (FOUNDER, 5)), Some(if owns { 2 } else { FOUNDER }), "{rights:?}");
    }
}

#[test]
fn r5_3_an_adoption_goes_on_from_an_entry_of_the_owners_that_the_head_it_names_covers() {
    type Change = fn((EntryId, LogEnd), (EntryId, LogEnd)) -> (EntryId, LogEnd);
    let cases: [(&str, Change, bool); 5] = [
        ("as it should be", |last, _| last, true),
        ("another entity's entry", |last, other| (other.0, last.1), false),
        ("another's log", |last, other| (last.0, other.1), false),
        ("a head before it", |last, _| (last.0, LogEnd { sequence: last.1.sequence - 1, ..last.1 }), false),
        ("another chain", |last, _| (last.0, LogEnd { chain: [9; 32], ..last.1 }), false),
    ];
    for (what, change, holds) in cases {
        let (mut loom, admission) = with_member(&ALL);
        let other = opened(&mut loom, 2, admission, 7);
        let opened = loom.open(FOUNDER, None, (FOUNDER, 5), None);
        let last = (opened, loom.end_of((FOUNDER, 0)));
        let adopted = loom.adopt(2, Some(admission), ent(FOUNDER, 5), change(last, other), 1);
        assert_eq!(loom.counts(adopted).is_ok(), holds, "{what}");
        assert_eq!(owner(&loom, (FOUNDER, 5)), Some(if holds { 2 } else { FOUNDER }), "{what}");
    }
}

#[test]
fn r5_3_an_adoption_goes_on_with_the_entity_whose_entry_it_follows_and_with_no_other_of_the_same_owner() {
    let (mut loom, admission) = with_member(&ALL);
    loom.open(FOUNDER, None, (FOUNDER, 5), None);
    let beside = loom.open(FOUNDER, None, (FOUNDER, 6), None);
    let last = (beside, loom.end_of((FOUNDER, 0)));
    let adopted = loom.adopt(2, Some(admission), ent(FOUNDER, 5), last, 1);
    assert_eq!(loom.counts(adopted), Err(Refused::Superseded));
    assert_eq!((owner(&loom, (FOUNDER, 5)), owner(&loom, (FOUNDER, 6))), (Some(FOUNDER), Some(FOUNDER)));
}

#[test]
fn r5_3_of_adoptions_of_one_epoch_the_founders_holds_and_then_that_of_the_first_name() {
    // Which key has which name: the keys themselves say nothing.
    for (first, second) in [(2, 3), (3, 2)] {
        let mut loom = Loom::new();
        loom.certify(first, 8, 1);
        loom.certify(second, 9, 1);
        let members = [(first, 8), (second, 9)].map(|(key, of)| {
            let admission = loom.admit(FOUNDER, None, Principal::Node(node(of)), &[Right::Adopt]);
            (key, admission)
        });
        let writer = loom.admit(FOUNDER, None, Principal::Key(key(5)), &[Right::Write]);
        let last = opened(&mut loom, 5, writer, 5);
        for (by, admission) in members {
            loom.adopt(by, Some(admission), ent(5, 5), last, 1);
        }
        assert_eq!(owner(&loom, (5, 5)), Some(first), "the first name");
        loom.adopt(FOUNDER, None, ent(5, 5), last, 1);
        assert_eq!(owner(&loom, (5, 5)), Some(FOUNDER), "the founder");
    }
}

#[test]
fn r5_4_a_former_owner_passes_a_fence_that_nothing_comes_behind_without_the_right_to_adopt() {
    let (mut loom, writes) = with_member(&[Right::Write]);
    let adopts = loom.admit(FOUNDER, None, Principal::Key(key(3)), &[Right::Adopt]);
    let last = opened(&mut loom, 2, writes, 5);
    let may = |loom: &Loom| Reader::new(&loom.known()).may(key(2), Deed::Adopt(ent(2, 5)));
    // The history that it names is nowhere.
    let gone = LogEnd { sequence: 99, ..last.1 };
    loom.adopt(3, Some(adopts), ent(2, 5), (last.0, gone), 40);
    assert_eq!(may(&loom), Ok(Some(writes)));
    assert_eq!(Reader::new(&loom.known()).next_epoch(ent(2, 5), &[]), Some(41));
    let passed = loom.adopt(2, Some(writes), ent(2, 5), last, 41);
    assert_eq!((loom.counts(passed), owner(&loom, (2, 5))), (Ok(()), Some(2)));
    assert_eq!(Reader::new(&loom.known()).fenced_by(ent(2, 5)), None);
}

#[test]
fn r5_4_an_expulsion_lifts_the_fences_of_whom_it_ends() {
    let (mut loom, writes) = with_member(&[Right::Write]);
    let adopts = loom.admit(FOUNDER, None, Principal::Key(key(3)), &[Right::Adopt]);
    let last = opened(&mut loom, 2, writes, 5);
    loom.adopt(3, Some(adopts), ent(2, 5), (last.0, LogEnd { sequence: 99, ..last.1 }), 40);
    assert_eq!(Reader::new(&loom.known()).fenced_by(ent(2, 5)), Some(key(3)));
    let fence = |loom: &Loom| Reader::new(&loom.known()).fence(ent(2, 5), &[]);
    assert_eq!(fence(&loom), Some(40));
    loom.expel(FOUNDER, None, Target::Key(key(3)), Vec::new());
    assert_eq!(Reader::new(&loom.known()).fenced_by(ent(2, 5)), None);
    assert_eq!(fence(&loom), None);
}

#[test]
fn r5_1_the_expulsion_that_is_named_is_the_same_in_whatever_order_they_came() {
    let (mut loom, admission) = with_member(&[Right::Write]);
    let other = loom.admit(FOUNDER, None, Principal::Key(key(3)), &ALL);
    let (one, _) = opened(&mut loom, 2, admission, 5);
    let friend = loom.admit(3, Some(other), Principal::Key(key(4)), &[Right::Write]);
    let (two, _) = opened(&mut loom, 4, friend, 6);
    let mut ids: Vec<EntryId> = (0..4).map(|_| loom.expel(FOUNDER, None, Target::Key(key(2)), Vec::new())).collect();
    ids.sort_unstable();
    assert_eq!(loom.counts(one), Err(Refused::Expelled(ids[0])));
    assert_eq!(Reader::new(&loom.known()).may(key(2), Deed::Write), Err(Refused::Expelled(ids[0])));
    assert_eq!(loom.counts(two), Ok(()));
}

#[test]
fn r2_1_an_id_that_another_has_minted_is_nobody_elses_whatever_is_said_of_it() {
    let (mut loom, admission) = with_member(&ALL);
    let opened = Opened { minted: Some(minted(2, 6)), ..Opened::default() };
    let theirs = loom.write(2, Some(ent(FOUNDER, 6)), None, Some(admission), Body::Opened(Box::new(opened)));
    assert_eq!(loom.counts(theirs), Err(Refused::Opener));
    // Nor does a host open it for whoever says so.
    let scope = Scope { entity: ent(FOUNDER, 7), minted: minted(2, 7), opener: key(3), bytes_max: u64::MAX };
    let (principal, rights) = (Principal::Key(key(3)), std::iter::once(Right::Write).collect());
    let admitted = Admitted { principal, rights, scope: Some(scope), again: Vec::new(), by: None, note: None };
    let host = loom.write(2, Some(ent(FOUNDER, 7)), None, Some(admission), Body::Admitted(Box::new(admitted)));
    let opened = loom.open(3, Some(host), (FOUNDER, 7), None);
    assert!(loom.counts(opened).is_err());
}

#[test]
fn r2_3_only_who_minted_an_entity_names_who_opens_it() {
    let (mut loom, admission) = with_member(&ALL);
    let seizes = loom.host(2, Some(admission), Principal::Key(key(3)), (FOUNDER, 6), 3);
    let opened = loom.open(3, Some(seizes), (FOUNDER, 6), None);
    // Who may admit may admit it; that opens nothing of others.
    assert_eq!((loom.counts(seizes), loom.counts(opened)), (Ok(()), Err(Refused::Opener)));
    let own = loom.host(2, Some(admission), Principal::Key(key(3)), (2, 6), 3);
    let opened = loom.open(3, Some(own), (2, 6), None);
    assert_eq!(loom.counts(opened), Ok(()));
}
