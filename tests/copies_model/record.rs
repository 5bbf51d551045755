//! What nodes have on their disks: logs, fences and proofs, and what these say of an entity.

use std::collections::{BTreeMap, BTreeSet};

/// A machine.
pub(crate) type Node = u8;
/// A key: its node, and how often that node has taken a new one.
pub(crate) type Key = u16;
/// A hash over the entry and everything before it in its log: id and chain value in one.
pub(crate) type Id = u64;
/// What turns are of. Of the first two everybody writes; the rest are forks.
pub(crate) type Entity = u16;

/// 16 keys a node has at most.
const KEYS: Key = 16;
/// 64 above the highest complete epoch a fence or an adoption counts at most.
pub(crate) const REACH: u64 = 64;

pub(crate) const fn node_of(key: Key) -> Node {
    (key / KEYS) as Node
}

pub(crate) const fn first_key(node: Node) -> Key {
    node as Key * KEYS
}

/// How many of whom have to have an entry on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Keeping {
    pub(crate) acks: usize,
    pub(crate) keepers: BTreeSet<Node>,
}

impl Keeping {
    /// So many have stored a fence before an adoption: one of them has whatever was acknowledged.
    pub(crate) fn fences(&self) -> usize {
        self.keepers.len() + 1 - self.acks
    }
}

/// A place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) key: Key,
    pub(crate) place: usize,
    pub(crate) id: Id,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body {
    Turn { entity: Entity, was: Option<Id> },
    Keeping(Keeping),
    Adopted { entity: Entity, epoch: u64, last: End },
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) id: Id,
    pub(crate) body: Body,
}

/// A history of a key: places from 1.
pub(crate) type Log = Vec<Entry>;

/// The id at a place of a log.
pub(crate) fn at(log: &[Entry], place: usize) -> Option<Id> {
    place.checked_sub(1).and_then(|index| log.get(index)).map(|entry| entry.id)
}

/// How far two histories are the same.
pub(crate) fn common(one: &[Entry], other: &[Entry]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one.id == other.id).count()
}

/// Epoch and adopter: of equal epochs the greater name is ahead, for fences as for adoptions.
pub(crate) type Fence = (u64, Node);

#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    /// All histories of each key, the one that is acknowledged first.
    pub(crate) logs: BTreeMap<Key, Vec<Log>>,
    pub(crate) fences: BTreeMap<Entity, Fence>,
    pub(crate) key: Key,
    /// How far others may have seen this node's own log.
    pub(crate) signed: usize,
    /// What is written anew behind the adoption of its entity.
    pub(crate) anew: Vec<(Entity, Id)>,
}

/// What the logs say of an entity.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) owner: Key,
    pub(crate) epoch: u64,
    /// Its turns, the oldest first.
    pub(crate) thread: Vec<Id>,
    /// From where an adopter goes on.
    pub(crate) last: Option<End>,
}

impl Disk {
    pub(crate) fn own(&self) -> &[Entry] {
        self.logs.get(&self.key).and_then(|logs| logs.first()).map_or(&[], Vec::as_slice)
    }

    /// Takes a history of a key. Returns whether it is the one that is kept, or goes on from it.
    pub(crate) fn take(&mut self, key: Key, log: &[Entry]) -> bool {
        let known = self.logs.entry(key).or_default();
        for (index, have) in known.iter_mut().enumerate() {
            let same = common(have, log);
            if same == log.len() {
                return index == 0;
            }
            if same == have.len() && (key != self.key || index > 0) {
                *have = log.to_vec();
                return index == 0;
            }
        }
        known.push(log.to_vec());
        known.len() == 1
    }

    pub(crate) fn take_all(&mut self, logs: &BTreeMap<Key, Vec<Log>>) {
        for (key, logs) in logs {
            for log in logs {
                self.take(*key, log);
            }
        }
    }

    /// From which place on a key has signed two histories. Its own node has signed what it has sent.
    pub(crate) fn divided(&self, key: Key) -> usize {
        let logs = self.logs.get(&key).map_or(&[][..], Vec::as_slice);
        let mut from = usize::MAX;
        for (index, one) in logs.iter().enumerate() {
            let one = if index == 0 && key == self.key { &one[..self.signed.min(one.len())] } else { one };
            for other in logs.iter().skip(index + 1) {
                let same = common(one, other);
                if same < one.len() && same < other.len() {
                    from = from.min(same + 1);
                }
            }
        }
        from
    }

    /// The history in which a place has this id.
    fn history(&self, end: End) -> Option<&[Entry]> {
        let logs = self.logs.get(&end.key)?;
        logs.iter().find(|log| at(log, end.place) == Some(end.id)).map(Vec::as_slice)
    }

    /// The turns of an entity in a stretch of a log.
    fn turns(log: &[Entry], entity: Entity) -> impl Iterator<Item = Id> + '_ {
        log.iter()
            .filter(move |entry| matches!(entry.body, Body::Turn { entity: of, .. } if of == entity))
            .map(|it| it.id)
    }

    /// What an adoption goes on from, as far as it is here.
    pub(crate) fn before(
        &self,
        entity: Entity,
        opener: Key,
        end: End,
        may: &dyn Fn(Node, Key) -> bool,
    ) -> Option<View> {
        let log = self.history(end)?.get(..end.place)?;
        let adoptions = log.iter().enumerate().rev().filter_map(|(index, entry)| match entry.body {
            Body::Adopted { entity: of, epoch, last } if of == entity => Some((index, epoch, last)),
            _ => None,
        });
        let valid = adoptions.filter_map(|(index, epoch, last)| {
            let before = self.before(entity, opener, last, may)?;
            let is_valid =
                epoch > before.epoch && epoch <= before.epoch + 2 * REACH && may(node_of(end.key), before.owner);
            is_valid.then_some((View { owner: end.key, epoch, ..before }, index))
        });
        let (mut view, from) = match valid.into_iter().next() {
            Some(valid) => valid,
            None if end.key == opener => (View { owner: opener, epoch: 0, thread: Vec::new(), last: None }, 0),
            None => return None,
        };
        view.thread.extend(Self::turns(&log[from..], entity));
        view.last = Some(end);
        Some(view)
    }

    /// Who goes on with an entity: by the adoption that is ahead of all whose history is here. `may` says whether a node may adopt from
    /// a key.
    pub(crate) fn view(&self, entity: Entity, opener: Key, may: &dyn Fn(Node, Key) -> bool) -> View {
        let mut best: Option<(Fence, View)> = None;
        for (key, logs) in &self.logs {
            let until = self.divided(*key).saturating_sub(1);
            for log in logs {
                let counting = log.get(..until.min(log.len())).unwrap_or_default();
                let is_adopted = |entry: &Entry| matches!(entry.body, Body::Adopted { entity: of, .. } if of == entity);
                if *key != opener && !counting.iter().any(is_adopted) {
                    continue;
                }
                let Some(id) = at(counting, counting.len()) else { continue };
                let end = End { key: *key, place: counting.len(), id };
                let Some(view) = self.before(entity, opener, end, may) else { continue };
                let rank = (view.epoch, node_of(*key));
                if best.as_ref().is_none_or(|(of, it)| (rank, view.thread.len()) > (*of, it.thread.len())) {
                    best = Some((rank, view));
                }
            }
        }
        let none = View { owner: opener, epoch: 0, thread: Vec::new(), last: None };
        best.map_or(none, |(_, view)| view)
    }

    /// What counts of a log's keepings: the newest, and the one before while the newest was not said again.
    pub(crate) fn in_force(log: &[Entry]) -> Vec<Keeping> {
        let mut all: Vec<Keeping> = Self::keepings(log).into_iter().map(|(_, keeping)| keeping).collect();
        let mut last = all.split_off(all.len().saturating_sub(2));
        last.dedup();
        last
    }

    /// How many copies the log of a key asks for up to a place, with the places of all changes.
    pub(crate) fn keepings(log: &[Entry]) -> Vec<(usize, Keeping)> {
        let of = |(index, entry): (usize, &Entry)| match &entry.body {
            Body::Keeping(keeping) => Some((index + 1, keeping.clone())),
            _ => None,
        };
        log.iter().enumerate().filter_map(of).collect()
    }
}
