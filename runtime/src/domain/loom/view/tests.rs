//! Threads over hostile and over long records.

use cantrip_gates::{Exposure, GateError, Reach, Wards};
use serde_json::Value;

use crate::domain::cantrip::Folding;
use crate::domain::ids::{CallId, CastId, EntityId, EntryId, LoomId, WriterKey};
use crate::domain::loom::{
    Answer, Body, CallRecord, Entry, Fork, ForkStrategy, GateRecord, IdentityRecord, Observed, Opened, Payload,
    Returned, Said, Sealed, Tree, ViewError, Why,
};
use crate::domain::model::Usage;
use crate::domain::place::CallPlace;
use crate::domain::steps;

type Tested = Result<(), Box<dyn std::error::Error>>;

/// One writer's log.
struct Log {
    writer: u8,
    entries: Vec<Sealed>,
}

fn inline(text: &str) -> Payload {
    Payload::Inline(text.to_owned())
}

fn entity(number: u64) -> EntityId {
    EntityId::from_parts(number + 1, [0; 16])
}

fn fork(of: EntityId, turns: u64) -> Fork {
    Fork { of, turns, strategy: ForkStrategy::Replay }
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
    const fn new(writer: u8) -> Self {
        Self { writer, entries: Vec::new() }
    }

    fn add(&mut self, entity: EntityId, parent: Option<EntryId>, body: Body) -> Result<EntryId, ViewError> {
        let sequence = self.entries.len() as u64 + 1;
        let writer = WriterKey::from_bytes([self.writer; 32]);
        let loom = LoomId::from_parts(1, [0; 16]);
        let entry = Entry::new(loom, (writer, sequence), sequence, entity, parent, body);
        let sealed = Sealed::new(entry, Vec::new()).map_err(|_| ViewError::NoEntity(entity))?;
        let id = sealed.id;
        self.entries.push(sealed);
        Ok(id)
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
        };
        let called = self.add(entity, Some(parent), body)?;
        let result = Returned::Ok(inline("1"));
        let body = Body::GateReturned { call, result, duration_us: 1, ephemeral: false, partial: None };
        self.add(entity, Some(called), body)
    }

    fn tree(&self) -> Result<Tree, ViewError> {
        read(&self.entries)
    }
}

fn read(entries: &[Sealed]) -> Result<Tree, ViewError> {
    Tree::read(entries, &|payload| payload.inline().map(str::to_owned))
}

/// A chain of forks, each of the newest after all its turns, and each with one turn of its own.
fn chain(length: u64) -> Result<Log, ViewError> {
    let mut log = Log::new(1);
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
    let mut log = Log::new(1);
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
        let mut log = Log::new(1);
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
    let mut log = Log::new(1);
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
    let mut later = Log::new(1);
    later.add(entity(9), None, opened(None, None))?;
    later.add(entity(9), None, opened(None, None))?;
    let second = later.add(entity(1), None, opened(None, None))?;
    let mut log = Log::new(1);
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
        let mut log = Log::new(1);
        let root = log.add(entity(0), None, opened(None, None))?;
        let mut head = log.turn(entity(0), root)?;
        for number in 0..count {
            head = log.called(entity(0), head, CallId::new(&format!("c.{number}")))?;
        }
        let mut read = Ok(0);
        let count = steps::of(|| {
            read = log.tree().map(|tree| tree.turns().iter().map(|turn| turn.gates.len() as u64).sum());
        });
        assert_eq!(read?, (log.entries.len() as u64 - 3) / 2);
        Ok(count)
    };
    let (once, twice) = (counted(2_000)?, counted(4_000)?);
    assert!(twice * 2 <= once * 5, "{once} and {twice}");
    Ok(())
}

#[test]
fn logs_of_other_writers_go_where_what_they_follow_is() -> Tested {
    let mut mine = Log::new(1);
    let root = mine.add(entity(0), None, opened(None, None))?;
    let turn = mine.turn(entity(0), root)?;
    let mut all = Vec::new();
    for writer in 2..200 {
        let mut theirs = Log::new(writer);
        let number = u64::from(writer);
        let opened = theirs.add(entity(number), Some(turn), opened(Some(fork(entity(0), 1)), None))?;
        theirs.turn(entity(number), opened)?;
        all.extend(theirs.entries);
    }
    let entries: Vec<Sealed> = mine.entries.into_iter().chain(all).collect();
    let tree = read(&entries)?;
    assert_eq!((tree.aside().len(), tree.turns().len()), (0, 199));
    assert!((2..200).all(|number| tree.thread(entity(number)).is_ok_and(|thread| thread.len() == 2)));
    Ok(())
}

#[test]
fn a_log_of_which_the_later_part_came_first_is_read_in_its_own_order() -> Tested {
    let (mut mine, mut theirs) = (Log::new(1), Log::new(2));
    let root = mine.add(entity(0), None, opened(None, None))?;
    let turn = mine.turn(entity(0), root)?;
    // A cast that goes there, comes back, and goes there once more.
    let there = theirs.add(entity(1), Some(turn), opened(None, Some(entity(0))))?;
    let turn = theirs.turn(entity(1), there)?;
    let back = mine.add(entity(2), Some(turn), opened(None, Some(entity(1))))?;
    let turn = mine.turn(entity(2), back)?;
    let again = theirs.add(entity(3), Some(turn), opened(None, Some(entity(2))))?;
    theirs.turn(entity(3), again)?;
    let (early, late) = theirs.entries.split_at(2);
    let entries: Vec<Sealed> = mine.entries.iter().chain(late).chain(early).cloned().collect();
    let tree = read(&entries)?;
    assert_eq!((tree.aside().len(), tree.turns().len()), (0, 4));
    assert!((0..4).all(|number| tree.thread(entity(number)).is_ok_and(|thread| thread.len() == 1)));
    Ok(())
}

#[test]
fn texts_with_too_many_values_stay_texts() -> Tested {
    let mut log = Log::new(1);
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
