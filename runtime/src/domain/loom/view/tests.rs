//! Threads over hostile and over long records.

use cantrip_gates::{Exposure, GateError, Reach, Wards};
use serde_json::Value;

use crate::domain::cantrip::Folding;
use crate::domain::ids::{CallId, CastId, EntityId, EntryId, LoomId, WriterKey};
use crate::domain::loom::{
    Answer, Body, CallRecord, Entry, Fork, ForkStrategy, GateRecord, IdentityRecord, Minted, Observed, Opened, Payload,
    Returned, Said, Sealed, Tree, ViewError, Why,
};
use crate::domain::members::{Admitted, Batch, Nonce, Principal, Right, Rights, Vouched};
use crate::domain::model::Usage;
use crate::domain::place::CallPlace;
use crate::domain::steps;

type Tested = Result<(), Box<dyn std::error::Error>>;

/// One writer's log.
struct Log {
    writer: u8,
    relies: Option<EntryId>,
    entries: Vec<Sealed>,
}

fn inline(text: &str) -> Payload {
    Payload::Inline(text.to_owned())
}

const NONCE: Nonce = Nonce::from_bytes([0; 16]);

const fn key(writer: u8) -> WriterKey {
    WriterKey::from_bytes([writer; 32])
}

/// The loom that the first writer has founded.
fn loom() -> LoomId {
    LoomId::mint(1, &key(1), &NONCE, None)
}

fn entity(number: u64) -> EntityId {
    entity_of(1, number)
}

fn entity_of(writer: u8, number: u64) -> EntityId {
    EntityId::mint(number + 1, &key(writer), &NONCE)
}

fn fork(of: EntityId, turns: u64) -> Fork {
    Fork { of, turns, strategy: ForkStrategy::Replay, from: None }
}

fn opened(fork: Option<Fork>, spawned_by: Option<EntityId>) -> Body {
    let look = GateRecord {
        name: "look".to_owned(),
        reach: Reach::Read,
        exposure: Exposure { private: true, untrusted: false, outbound: false },
        ephemeral: false,
    };
    Body::Opened(Box::new(Opened {
        identity: IdentityRecord::default(),
        medium: "conversation".to_owned(),
        medium_digest: None,
        gates: vec![look],
        wards: Wards::default(),
        folding: Folding::default(),
        model: "scripted".to_owned(),
        guest: None,
        intent: inline("look"),
        node: "here".to_owned(),
        depth: 0,
        cast: CastId::from_bytes([1; 16]),
        trace: None,
        spawned_by,
        fork,
        ..Opened::default()
    }))
}

impl Log {
    /// The founder's, which begins with the founding.
    fn new() -> Self {
        let mut log = Self::of(1, None);
        log.push(None, None, Body::Founded { nonce: NONCE, member: None });
        log
    }

    /// Somebody's, by this admission.
    const fn of(writer: u8, relies: Option<EntryId>) -> Self {
        Self { writer, relies, entries: Vec::new() }
    }

    /// Admits somebody to write.
    fn admit(&mut self, writer: u8) -> Option<EntryId> {
        let (principal, rights) = (Principal::Key(key(writer)), Rights::from_iter([Right::Write]));
        let admitted = Admitted { principal, rights, scope: None, again: Vec::new(), by: None, note: None };
        self.push(None, None, Body::Admitted(Box::new(admitted)))
    }

    fn add(&mut self, entity: EntityId, parent: Option<EntryId>, body: Body) -> Result<EntryId, ViewError> {
        self.push(Some(entity), parent, body).ok_or(ViewError::NoEntity(entity))
    }

    fn push(&mut self, entity: Option<EntityId>, parent: Option<EntryId>, mut body: Body) -> Option<EntryId> {
        let sequence = self.entries.len() as u64 + 1;
        let is_opening = if let Body::Opened(opened) = &mut body {
            opened.minted = Some(Minted { by: key(self.writer), nonce: NONCE });
            true
        } else {
            false
        };
        let relies = self.relies.filter(|_| is_opening);
        let entry = Entry::new(loom(), (key(self.writer), sequence), sequence, entity, parent, body);
        let sealed = Sealed::new(Entry { relies, ..entry }, Vec::new()).ok()?;
        let id = sealed.id;
        self.entries.push(sealed);
        Some(id)
    }

    /// A turn with one gate call, and the entry that it ends with.
    fn turn(&mut self, entity: EntityId, parent: EntryId) -> Result<EntryId, ViewError> {
        let call = CallId::new("c");
        let calls = vec![CallRecord { id: call.clone(), gate: "look".to_owned(), arguments: inline("{}") }];
        let said = Said {
            calls,
            usage: Usage { prompt_tokens: 1, ..Usage::default() },
            model: "scripted".to_owned(),
            duration_us: 1,
            ..Said::default()
        };
        let said = self.add(entity, Some(parent), Body::Utterance(Box::new(said)))?;
        let called = self.called(entity, said, call.clone())?;
        let seen = Answer { call: Some(call), content: inline("seen"), is_error: false, shown_instead: None };
        let observed = Observed { answers: vec![seen], duration_us: 1, ..Observed::default() };
        self.add(entity, Some(called), Body::Observation(Box::new(observed)))
    }

    fn called(&mut self, entity: EntityId, parent: EntryId, call: CallId) -> Result<EntryId, ViewError> {
        let body = Body::GateCalled {
            call: call.clone(),
            gate: "look".to_owned(),
            arguments: inline("{}"),
            reach: Reach::Read,
            place: CallPlace::Here,
            asks: None,
            refused: false,
        };
        let called = self.add(entity, Some(parent), body)?;
        let result = Returned::Ok(inline("1"));
        let body = Body::GateReturned { call, result, duration_us: 1, ephemeral: false, partial: None };
        self.add(entity, Some(called), body)
    }

    fn tree(&self) -> Result<Tree, ViewError> {
        read(self.entries.clone(), 1)
    }
}

fn read(entries: Vec<Sealed>, writers: u8) -> Result<Tree, ViewError> {
    let batch = Batch::new(loom(), key(1), entries, Vouched::default()).with_logs((2..=writers).map(key));
    Tree::read(&batch, &|payload| payload.inline().map(str::to_owned))
}

/// A chain of forks, each of the newest after all its turns, and each with one turn of its own.
fn chain(length: u64) -> Result<Log, ViewError> {
    let mut log = Log::new();
    let root = log.add(entity(0), None, opened(None, None))?;
    let mut head = log.turn(entity(0), root)?;
    for number in 1..length {
        let opened = log.add(entity(number), Some(head), opened(Some(fork(entity(number - 1), number)), None))?;
        head = log.turn(entity(number), opened)?;
    }
    Ok(log)
}

#[test]
fn a_chain_of_ten_thousand_forks_is_read_in_steps_that_grow_with_its_length() -> Tested {
    let counted = |length: u64| -> Result<u64, ViewError> {
        let log = chain(length)?;
        let mut read = Ok(());
        let count = steps::of(|| {
            read = (|| {
                let tree = log.tree()?;
                let last = entity(length - 1);
                assert_eq!(tree.turns().len() as u64, length);
                assert_eq!(tree.thread(last)?.len() as u64, length);
                assert_eq!(tree.thread_length(last)?, length);
                let restored = tree.restore(last, None)?;
                assert_eq!((restored.turns, restored.seen.private), (length, true));
                assert_eq!(tree.restore(last, Some(length / 2))?.turns, length / 2);
                assert_eq!(tree.again(last)?.len() as u64, length);
                let tail = tree.tail(last, 3)?;
                assert_eq!((tail.turns.len(), tail.turn_count, tail.usage.prompt_tokens), (3, length, length));
                Ok(())
            })();
        });
        read.map(|()| count)
    };
    let (once, twice) = (counted(5_000)?, counted(10_000)?);
    assert!(twice * 2 <= once * 5, "{once} and {twice}");
    Ok(())
}

#[test]
fn forks_of_the_last_of_a_chain_at_an_early_turn_are_found_without_walking_it() -> Tested {
    let counted = |length: u64| -> Result<u64, ViewError> {
        let mut log = chain(length)?;
        let head = log.entries.last().map(|sealed| sealed.id);
        for number in 0..length {
            log.add(entity(length + number), head, opened(Some(fork(entity(length - 1), 1 + number % 3)), None))?;
        }
        let mut lengths = Ok(Vec::new());
        let count = steps::of(|| {
            lengths = log.tree().and_then(|tree| {
                (0..length).map(|number| tree.thread_length(entity(length + number))).collect::<Result<Vec<_>, _>>()
            });
        });
        assert_eq!(lengths?.iter().take(4).copied().collect::<Vec<_>>(), [1, 2, 3, 1]);
        Ok(count)
    };
    let (once, twice) = (counted(2_000)?, counted(4_000)?);
    assert!(twice * 2 <= once * 5, "{once} and {twice}");
    Ok(())
}

#[test]
fn a_fork_shows_the_turns_that_it_continues_and_numbers_its_own_behind_them() -> Tested {
    let mut log = Log::new();
    let root = log.add(entity(0), None, opened(None, None))?;
    let first = log.turn(entity(0), root)?;
    let second = log.turn(entity(0), first)?;
    let opened_1 = log.add(entity(1), Some(second), opened(Some(fork(entity(0), 2)), None))?;
    log.turn(entity(1), opened_1)?;
    let opened_2 = log.add(entity(2), Some(first), opened(Some(fork(entity(1), 1)), None))?;
    log.turn(entity(2), opened_2)?;
    let opened_3 = log.add(entity(3), Some(root), opened(Some(fork(entity(2), 0)), None))?;
    log.turn(entity(3), opened_3)?;
    let tree = log.tree()?;
    let shape = |number: u64| -> Result<Vec<(EntityId, u64)>, ViewError> {
        Ok(tree.thread(entity(number))?.iter().map(|turn| (turn.entity, turn.sequence)).collect())
    };
    assert_eq!(shape(1)?, [(entity(0), 1), (entity(0), 2), (entity(1), 3)]);
    assert_eq!(shape(2)?, [(entity(0), 1), (entity(2), 2)]);
    assert_eq!(shape(3)?, [(entity(3), 1)]);
    assert_eq!(tree.restore(entity(2), None)?.turns, 2);
    assert_eq!(tree.restore(entity(1), Some(1))?.turns, 1);
    Ok(())
}

/// The reason for which an entity is no part of the tree.
fn refused(tree: &Tree, number: u64) -> Option<Why> {
    let told = [
        tree.entity(entity(number)).err(),
        tree.thread(entity(number)).err(),
        tree.restore(entity(number), None).err(),
        tree.again(entity(number)).err(),
    ];
    let whys = told.map(|error| if let Some(ViewError::Aside { why, .. }) = error { Some(why) } else { None });
    whys.iter().all(|why| *why == whys[0]).then_some(whys[0]).flatten()
}

#[test]
fn a_cycle_of_forks_is_put_aside_and_named() -> Tested {
    // Of itself, of each other, in a long circle.
    for length in [1, 2, 1_000] {
        let mut log = Log::new();
        for number in 0..length {
            let opened = log.add(entity(number), None, opened(Some(fork(entity((number + 1) % length), 1)), None))?;
            log.turn(entity(number), opened)?;
        }
        let tree = log.tree()?;
        assert!((0..length).all(|number| refused(&tree, number) == Some(Why::Fork)));
        assert!(tree.turns().is_empty() && tree.aside().iter().any(|aside| aside.why.is_wrong()));
    }
    Ok(())
}

#[test]
fn children_and_parents_that_point_forward_are_put_aside() -> Tested {
    let delegated = |child: EntityId| Body::Delegated {
        call: CallId::new("c"),
        index: 0,
        child,
        proposal: inline("{}"),
        place: CallPlace::Here,
        nonce: None,
    };
    let mut log = Log::new();
    let root = log.add(entity(0), None, opened(None, None))?;
    let turn = log.turn(entity(0), root)?;
    // An entity that is its own child, and two that are each other's.
    let own = log.add(entity(0), Some(turn), delegated(entity(0)))?;
    let child = log.add(entity(0), Some(own), delegated(entity(1)))?;
    let opened_1 = log.add(entity(1), Some(child), opened(None, Some(entity(0))))?;
    let turn_1 = log.turn(entity(1), opened_1)?;
    log.add(entity(1), Some(turn_1), delegated(entity(0)))?;
    log.add(entity(2), None, opened(None, Some(entity(3))))?;
    log.add(entity(3), None, opened(None, Some(entity(2))))?;
    let tree = log.tree()?;
    let wrong = |why| tree.aside().iter().filter(|aside| aside.why == why).count();
    assert_eq!((wrong(Why::Child), wrong(Why::Spawned)), (2, 2));
    assert_eq!(refused(&tree, 2), Some(Why::Spawned));
    assert!(tree.restore(entity(0), None)?.seen.private);
    Ok(())
}

#[test]
fn an_entry_that_follows_a_later_one_is_put_aside() -> Tested {
    // What an entry follows is a hash, and the hash of a later entry can be known before.
    let mut later = Log::new();
    later.add(entity(9), None, opened(None, None))?;
    later.add(entity(9), None, opened(None, None))?;
    let second = later.add(entity(1), None, opened(None, None))?;
    let mut log = Log::new();
    log.add(entity(0), None, opened(None, None))?;
    log.add(entity(2), Some(second), opened(None, None))?;
    log.add(entity(1), None, opened(None, None))?;
    let tree = log.tree()?;
    assert_eq!(refused(&tree, 2), Some(Why::Follows));
    assert!(tree.entity(entity(0)).is_ok() && tree.entity(entity(1)).is_ok());
    Ok(())
}

#[test]
fn many_writers_and_many_calls_are_read_in_steps_that_grow_with_their_number() -> Tested {
    let counted = |count: u64| -> Result<u64, ViewError> {
        let mut log = Log::new();
        let root = log.add(entity(0), None, opened(None, None))?;
        let mut head = log.turn(entity(0), root)?;
        for number in 0..count {
            head = log.called(entity(0), head, CallId::new(&format!("c.{number}")))?;
        }
        let mut read = Ok(0);
        let count = steps::of(|| {
            read = log.tree().map(|tree| tree.turns().iter().map(|turn| turn.gates.len() as u64).sum());
        });
        assert_eq!(read?, (log.entries.len() as u64 - 4) / 2);
        Ok(count)
    };
    let (once, twice) = (counted(2_000)?, counted(4_000)?);
    assert!(twice * 2 <= once * 5, "{once} and {twice}");
    Ok(())
}

#[test]
fn logs_of_other_writers_go_where_what_they_follow_is() -> Tested {
    let mut mine = Log::new();
    let root = mine.add(entity(0), None, opened(None, None))?;
    let turn = mine.turn(entity(0), root)?;
    let mut all = Vec::new();
    for writer in 2..200 {
        let mut theirs = Log::of(writer, mine.admit(writer));
        let of = entity_of(writer, u64::from(writer));
        let opened = theirs.add(of, Some(turn), opened(Some(fork(entity(0), 1)), None))?;
        theirs.turn(of, opened)?;
        all.extend(theirs.entries);
    }
    let tree = read(mine.entries.into_iter().chain(all).collect(), 200)?;
    assert_eq!((tree.aside().len(), tree.turns().len()), (0, 199));
    let thread = |writer: u8| tree.thread(entity_of(writer, u64::from(writer)));
    assert!((2..200).all(|writer| thread(writer).is_ok_and(|thread| thread.len() == 2)));
    Ok(())
}

#[test]
fn a_log_of_which_the_later_part_came_first_is_read_in_its_own_order() -> Tested {
    let mut mine = Log::new();
    let mut theirs = Log::of(2, mine.admit(2));
    let of = [entity(0), entity_of(2, 1), entity(2), entity_of(2, 3)];
    let root = mine.add(of[0], None, opened(None, None))?;
    let turn = mine.turn(of[0], root)?;
    // A cast that goes there, comes back, and goes there once more.
    let there = theirs.add(of[1], Some(turn), opened(None, Some(of[0])))?;
    let turn = theirs.turn(of[1], there)?;
    let back = mine.add(of[2], Some(turn), opened(None, Some(of[1])))?;
    let turn = mine.turn(of[2], back)?;
    let again = theirs.add(of[3], Some(turn), opened(None, Some(of[2])))?;
    theirs.turn(of[3], again)?;
    let (early, late) = theirs.entries.split_at(2);
    let entries: Vec<Sealed> = mine.entries.iter().chain(late).chain(early).cloned().collect();
    let tree = read(entries, 2)?;
    assert_eq!((tree.aside().len(), tree.turns().len()), (0, 4));
    assert!(of.into_iter().all(|entity| tree.thread(entity).is_ok_and(|thread| thread.len() == 1)));
    Ok(())
}

#[test]
fn texts_with_too_many_values_stay_texts() -> Tested {
    let mut log = Log::new();
    let root = log.add(entity(0), None, opened(None, None))?;
    let head = log.turn(entity(0), root)?;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let result = Returned::Ok(inline(&deep));
    log.add(
        entity(0),
        Some(head),
        Body::GateReturned { call: CallId::new("c"), result, duration_us: 1, ephemeral: false, partial: None },
    )?;
    let turns = log.tree()?.turns();
    let result = turns.first().and_then(|turn| turn.gates.first()?.result.clone());
    assert_eq!(result, Some(Ok::<Value, GateError>(Value::String(deep))));
    Ok(())
}
