//! How far the admission for a cast goes: to where it was settled, and for so many bytes.

use super::loom::{FOUNDER, Loom, ent, key, opening, text, with_member};
use crate::domain::ids::{EntityId, EntryId};
use crate::domain::loom::{Body, CastUnit, Opened, Sealed};
use crate::domain::members::{Batch, LogEnd, Principal, Reader, Refused, Right, Settled, Vouched};

/// The founder has a child run by a host, which opens it.
struct Cast {
    loom: Loom,
    parent: EntityId,
    child: EntityId,
    delegated: EntryId,
    host: EntryId,
    opened: EntryId,
}

const HOST: u8 = 3;

fn cast(bytes_max: u64) -> Cast {
    let mut loom = Loom::new();
    let root = loom.open(FOUNDER, None, (FOUNDER, 5), None);
    let (parent, child) = (ent(FOUNDER, 5), ent(FOUNDER, 6));
    let delegated = loom.delegate(FOUNDER, parent, root, child);
    let host = loom.host_of((FOUNDER, None), Principal::Key(key(HOST)), (FOUNDER, 6), (HOST, bytes_max));
    let opened = loom.open(HOST, Some(host), (FOUNDER, 6), Some(delegated));
    Cast { loom, parent, child, delegated, host, opened }
}

impl Cast {
    /// Somebody says that it is over.
    fn settled(&mut self, by: u8, relies: Option<EntryId>, ends: Vec<LogEnd>) -> EntryId {
        let settled = Settled { child: self.child, admission: self.host, ends, by: None, note: None };
        let (of, parent) = (Some(self.parent), Some(self.delegated));
        self.loom.write(by, of, parent, relies, Body::Settled(Box::new(settled)))
    }

    fn intent(&mut self, relies: EntryId) -> EntryId {
        let (of, parent) = (Some(self.child), Some(self.opened));
        self.loom.write(HOST, of, parent, Some(relies), Body::intent(text(), false, None))
    }
}

#[test]
fn r7_2_behind_its_settlement_an_admission_gives_nothing_to_anybody() {
    let mut cast = cast(u64::MAX);
    let (child, opened, host) = (cast.child, cast.opened, cast.host);
    let further = cast.loom.delegate(HOST, child, opened, ent(HOST, 7));
    let ends = vec![cast.loom.end_of((HOST, 0))];
    let by = cast.settled(FOUNDER, None, ends);
    let late = cast.loom.step(HOST, child, opened);
    let friend = cast.loom.host(HOST, Some(host), Principal::Key(key(4)), (HOST, 7), 4);
    let below = cast.loom.open(4, Some(friend), (HOST, 7), Some(further));
    assert_eq!(cast.loom.counts(further), Ok(()));
    assert_eq!(cast.loom.counts(late), Err(Refused::Settled(by)));
    assert_eq!(cast.loom.counts(friend), Err(Refused::Settled(by)));
    // Its own writer is not among the ends, and whoever admitted it was late.
    assert_eq!(cast.loom.counts(below), Err(Refused::Settled(by)));
    // A further intent has an admission of its own, which this settlement does not name.
    let again = cast.loom.host(FOUNDER, None, Principal::Key(key(HOST)), (FOUNDER, 6), HOST);
    let intent = cast.intent(again);
    assert_eq!(cast.loom.counts(intent), Ok(()));
}

#[test]
fn r7_2_only_who_gave_an_admission_settles_it() {
    let mut cast = cast(u64::MAX);
    let (child, opened, host) = (cast.child, cast.opened, cast.host);
    let member = cast.loom.admit(FOUNDER, None, Principal::Key(key(2)), &[Right::Write]);
    cast.settled(2, Some(member), Vec::new());
    // Nor does the host make an end of what it wrote before.
    cast.settled(HOST, Some(host), Vec::new());
    let step = cast.loom.step(HOST, child, opened);
    assert_eq!((cast.loom.counts(opened), cast.loom.counts(step)), (Ok(()), Ok(())));
}

#[test]
fn r7_2_who_may_adopt_settles_what_another_has_cast() {
    for (right, settles) in [(Right::Adopt, true), (Right::Write, false)] {
        let (mut loom, admission) = with_member(&[Right::Write]);
        let other = loom.admit(FOUNDER, None, Principal::Key(key(5)), &[Right::Write, right]);
        let host = loom.host(2, Some(admission), Principal::Key(key(HOST)), (2, 6), HOST);
        let opened = loom.open(HOST, Some(host), (2, 6), None);
        let ends = vec![loom.end_of((HOST, 0))];
        let settled = Settled { child: ent(2, 6), admission: host, ends, by: None, note: None };
        let by = loom.write(5, None, None, Some(other), Body::Settled(Box::new(settled)));
        let late = loom.step(HOST, ent(2, 6), opened);
        assert_eq!(loom.counts(opened), Ok(()));
        assert_eq!(loom.counts(late), if settles { Err(Refused::Settled(by)) } else { Ok(()) });
    }
}

#[test]
fn r7_2_the_cast_of_a_root_is_settled_beside_all_threads() {
    let (mut loom, admission) = with_member(&[Right::Write]);
    let child = ent(2, 6);
    let host = loom.host(2, Some(admission), Principal::Key(key(HOST)), (2, 6), HOST);
    let opened = loom.open(HOST, Some(host), (2, 6), None);
    let ends = vec![loom.end_of((HOST, 0))];
    let settled = Settled { child, admission: host, ends, by: None, note: None };
    let by = loom.write(2, None, None, Some(admission), Body::Settled(Box::new(settled)));
    let late = loom.step(HOST, child, opened);
    let expelled = loom.expel(FOUNDER, None, super::Target::Key(key(HOST)), Vec::new());
    assert_eq!(loom.counts(by), Ok(()));
    assert_eq!(loom.counts(opened), Ok(()), "what was settled stays");
    assert_eq!(loom.counts(late), Err(Refused::Expelled(expelled)));
}

#[test]
fn r7_2_a_host_has_room_for_what_its_admission_allows_and_no_more() {
    let whole = cast(u64::MAX);
    let used = whole.loom.logs[&(HOST, 0)].iter().map(Sealed::recorded_bytes).sum::<u64>();
    let mut cast = cast(used + 400);
    let (child, opened) = (cast.child, cast.opened);
    let fits = cast.loom.step(HOST, child, opened);
    let size = cast.loom.logs[&(HOST, 0)][1].recorded_bytes();
    assert!(size > 200 && size <= 400, "{size}");
    let beyond = cast.loom.step(HOST, child, fits);
    let friend = cast.loom.host(HOST, Some(cast.host), Principal::Key(key(4)), (HOST, 7), 4);
    let max = used + 400;
    assert_eq!(cast.loom.counts(fits), Ok(()));
    assert_eq!(cast.loom.counts(beyond), Err(Refused::Bytes { max }));
    assert_eq!(cast.loom.counts(friend), Err(Refused::Bytes { max }));
}

#[test]
fn whoever_has_the_log_of_a_host_finds_its_casts_in_there() {
    let mut cast = cast(u64::MAX);
    let (child, opened) = (cast.child, cast.opened);
    // Its own work lies between, and is no part of the cast.
    let member = cast.loom.admit(FOUNDER, None, Principal::Key(key(HOST)), &[Right::Write]);
    cast.loom.open(HOST, Some(member), (HOST, 9), None);
    let further = cast.loom.delegate(HOST, child, opened, ent(HOST, 7));
    let below = Opened { spawned_by: Some(child), ..opening((HOST, 7), Some(further)) };
    let below =
        cast.loom.write(HOST, Some(ent(HOST, 7)), Some(further), Some(cast.host), Body::Opened(Box::new(below)));
    let mut unit = CastUnit::of(child);
    let taken = cast.loom.logs[&(HOST, 0)].iter().filter(|sealed| unit.takes(sealed)).count();
    assert_eq!((taken, unit.end(key(HOST), child).sequence), (3, 3));
    let by = cast.settled(FOUNDER, None, vec![unit.end(key(HOST), child)]);
    let late = cast.loom.step(HOST, child, opened);
    for own in [FOUNDER, HOST] {
        let logs = [own, FOUNDER + HOST - own].map(|of| cast.loom.logs[&(of, 0)].clone());
        let batch = Batch::new(cast.loom.id, key(own), logs.concat(), Vouched::default());
        let batch = batch.with_logs([key(FOUNDER + HOST - own)]);
        let reader = Reader::of(&batch);
        assert_eq!([opened, further, below].map(|id| reader.counts(id)), [Ok(()), Ok(()), Ok(())]);
        assert_eq!(reader.counts(late), Err(Refused::Settled(by)));
        assert_eq!((reader.cast_of(below), reader.cast_of(by)), (Some(child), None));
    }
}
