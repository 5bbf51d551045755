//! What hostile records cost to read.

use super::loom::{ALL, FOUNDER, Loom, ent, key, nested, with_member};
use crate::domain::ids::EntryId;
use crate::domain::loom::{Body, Head};
use crate::domain::members::{LogEnd, Principal, Reader, Settled, Target};
use crate::domain::steps;

/// Reading twice as much takes at most 2.3 times the steps: a search in a tree takes a few more in a larger one.
fn is_linear(name: &str, of: impl Fn(u16) -> Loom) {
    let count = |size: u16| {
        let loom = of(size);
        steps::of(|| drop(Reader::new(&loom.known())))
    };
    let (once, twice) = (count(400), count(800));
    assert!(twice <= once * 23 / 10, "{name}: {once} steps, and {twice} for twice as much");
}

#[test]
fn what_is_long_is_read_in_linear_time() {
    is_linear("one founder", |size| {
        let mut loom = Loom::new();
        let mut last = loom.open(FOUNDER, None, (FOUNDER, 1), None);
        (0..size).for_each(|_| last = loom.step(FOUNDER, ent(FOUNDER, 1), last));
        loom
    });
    is_linear("a chain of admissions", |size| {
        let (mut loom, mut admission) = with_member(&ALL);
        (0..size).for_each(|_| admission = loom.admit(2, Some(admission), Principal::Key(key(2)), &ALL));
        loom
    });
    is_linear("steps of a member", |size| {
        let (mut loom, admission) = with_member(&ALL);
        let mut last = loom.open(2, Some(admission), (2, 1), None);
        (0..size).for_each(|_| last = loom.step(2, ent(2, 1), last));
        loom
    });
}

#[test]
fn expulsions_are_read_in_linear_time() {
    let victims = |loom: &mut Loom, by: u8, admission, size: u16| {
        for number in 1..size {
            loom.open(by, Some(admission), (by, number), None);
        }
    };
    is_linear("by the founder", |size| {
        let (mut loom, admission) = with_member(&ALL);
        victims(&mut loom, 2, admission, size);
        for _ in 0..size {
            let ends = vec![loom.end_of((2, 0))];
            loom.expel(FOUNDER, None, Target::Key(key(2)), ends);
        }
        loom
    });
    is_linear("by a stranger", |size| {
        let (mut loom, admission) = with_member(&ALL);
        victims(&mut loom, 2, admission, size);
        for _ in 0..size {
            loom.expel(5, None, Target::Key(key(2)), Vec::new());
        }
        loom
    });
    is_linear("by who admitted, of a friend with many admissions", |size| {
        let (mut loom, admission) = with_member(&ALL);
        for number in 1..size {
            let friend = loom.admit(2, Some(admission), Principal::Key(key(3)), &ALL);
            loom.open(3, Some(friend), (3, number), None);
            loom.expel(2, Some(admission), Target::Key(key(3)), Vec::new());
        }
        loom
    });
}

#[test]
fn adoptions_and_casts_are_read_in_linear_time() {
    is_linear("adoptions in a row", |size| {
        let (mut loom, admission) = with_member(&ALL);
        let mut last = loom.open(2, Some(admission), (2, 1), None);
        for epoch in 1..size {
            let (from, to) = if epoch % 2 == 1 { (2, FOUNDER) } else { (FOUNDER, 2) };
            let relies = Some(admission).filter(|_| to == 2);
            let end = loom.end_of((from, 0));
            last = loom.adopt(to, relies, ent(2, 1), (last, end), epoch.into());
        }
        loom
    });
    is_linear("adoptions of one entry", |size| {
        let (mut loom, admission) = with_member(&ALL);
        let opened = loom.open(2, Some(admission), (2, 1), None);
        let end = loom.end_of((2, 0));
        for epoch in 1..size {
            loom.adopt(2, Some(admission), ent(2, 1), (opened, end), epoch.into());
        }
        loom
    });
    is_linear("casts within casts", |size| nested(size).0);
}

#[test]
fn histories_that_divide_again_and_again_are_read_in_linear_time() {
    is_linear("each divides from the one before, and is pinned by an expulsion", |size| {
        let (mut loom, admission) = with_member(&ALL);
        loom.open(2, Some(admission), (2, 1), None);
        let end = loom.end_of((2, 0));
        let mut head = Head { sequence: end.sequence, chain: end.chain };
        for number in 0..size {
            let ids = [number, number + 10_000].map(|number| EntryId::of(&number.to_be_bytes()));
            loom.loose.push((2, head, ids));
            let ends = ids.iter().fold(head, |head, id| head.after(id));
            let end = LogEnd { writer: key(2), sequence: ends.sequence, chain: ends.chain, cast: None };
            loom.expel(FOUNDER, None, Target::Key(key(2)), vec![end]);
            head = head.after(&ids[0]);
        }
        loom
    });
    is_linear("all divide from one head", |size| {
        let (mut loom, admission) = with_member(&ALL);
        let opened = loom.open(2, Some(admission), (2, 1), None);
        let end = loom.end_of((2, 0));
        let head = Head { sequence: end.sequence, chain: end.chain };
        for number in 0..size {
            let ids = [number, number + 10_000].map(|number| EntryId::of(&number.to_be_bytes()));
            loom.loose.push((2, head, ids));
            loom.adopt(FOUNDER, None, ent(2, 1), (opened, end), number.into());
        }
        loom
    });
}

#[test]
fn settlements_are_read_in_linear_time() {
    is_linear("settlements of one cast", |size| {
        let mut loom = Loom::new();
        let root = loom.open(FOUNDER, None, (FOUNDER, 1), None);
        let delegated = loom.delegate(FOUNDER, ent(FOUNDER, 1), root, ent(FOUNDER, 2));
        let host = loom.host(FOUNDER, None, Principal::Key(key(3)), (FOUNDER, 2), 3);
        let mut last = loom.open(3, Some(host), (FOUNDER, 2), Some(delegated));
        for _ in 0..size {
            last = loom.step(3, ent(FOUNDER, 2), last);
            let ends = vec![loom.end_of((3, 0))];
            let settled = Settled { child: ent(FOUNDER, 2), admission: host, ends, by: None, note: None };
            loom.write(FOUNDER, Some(ent(FOUNDER, 1)), Some(delegated), None, Body::Settled(Box::new(settled)));
        }
        loom.expel(FOUNDER, None, Target::Key(key(3)), Vec::new());
        loom
    });
}
