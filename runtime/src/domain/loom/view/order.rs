//! The order in which the entries of several writers are read.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use crate::domain::ids::{EntryId, WriterKey};

use super::super::entry::Sealed;

/// An entry at its place, and whether what it follows comes before it, as far as it is there at all.
pub(super) type Placed<'a> = (&'a Sealed, bool);

/// Puts what others wrote where it belongs: behind what it follows, before the reading node's next entry. The clocks of two nodes
/// are not compared for it. Each entry is looked at once, and once more when what it waited for has come.
pub(super) fn in_causal_order(entries: &[Sealed]) -> Vec<Placed<'_>> {
    let Some(own) = entries.first().map(|sealed| sealed.entry.writer) else { return Vec::new() };
    let mut order = Order { known: entries.iter().map(|sealed| sealed.id).collect(), ..Order::default() };
    if entries.iter().all(|sealed| sealed.entry.writer == own) {
        for sealed in entries {
            order.place(sealed);
        }
        return order.ordered;
    }
    let mut mine = VecDeque::new();
    for sealed in entries {
        match sealed.entry.writer {
            writer if writer == own => mine.push_back(sealed),
            writer => order.logs.entry(writer).or_default().push_back(sealed),
        }
    }
    // What came by several casts can have come the later part of a log first.
    for log in order.logs.values_mut().map(VecDeque::make_contiguous) {
        if !log.is_sorted_by_key(|sealed| sealed.entry.sequence) {
            log.sort_by_key(|sealed| sealed.entry.sequence);
        }
    }
    let writers: Vec<WriterKey> = order.logs.keys().copied().collect();
    for writer in writers {
        order.look_at(writer);
    }
    loop {
        // As far as the others' logs go with what is placed, they go first: a parent continues after its children.
        order.follow_others();
        // An own entry may wait for one of another's; whatever waits in a circle is damage, and is read as it comes.
        match mine.front().copied() {
            Some(sealed) if order.is_due(sealed) => {
                mine.pop_front();
                order.place(sealed);
            }
            front => {
                if let Some(writer) = order.logs.keys().next().copied() {
                    order.force(writer);
                    continue;
                }
                let Some(sealed) = front else { return order.ordered };
                mine.pop_front();
                order.place(sealed);
            }
        }
    }
}

#[derive(Default)]
struct Order<'a> {
    known: HashSet<EntryId>,
    placed: HashSet<EntryId>,
    ordered: Vec<Placed<'a>>,
    /// What is left of each writer's log; one that is read to its end is not in here.
    logs: BTreeMap<WriterKey, VecDeque<&'a Sealed>>,
    /// The writers whose next entry can be read.
    ready: BTreeSet<WriterKey>,
    /// Those whose next entry waits for this one.
    waiting: HashMap<EntryId, Vec<WriterKey>>,
}

impl<'a> Order<'a> {
    fn is_due(&self, sealed: &Sealed) -> bool {
        sealed.entry.parent.is_none_or(|id| self.placed.contains(&id) || !self.known.contains(&id))
    }

    fn place(&mut self, sealed: &'a Sealed) {
        let is_due = self.is_due(sealed);
        self.placed.insert(sealed.id);
        self.ordered.push((sealed, is_due));
        for writer in self.waiting.remove(&sealed.id).unwrap_or_default() {
            self.look_at(writer);
        }
    }

    /// Finds out what a writer's next entry waits for.
    fn look_at(&mut self, writer: WriterKey) {
        let Some(next) = self.logs.get(&writer).and_then(|log| log.front()) else { return };
        match next.entry.parent {
            Some(parent) if !self.is_due(next) => self.waiting.entry(parent).or_default().push(writer),
            Some(_) | None => drop(self.ready.insert(writer)),
        }
    }

    /// Reads the next entry of a writer, whether it is due or not.
    fn force(&mut self, writer: WriterKey) {
        let Some(log) = self.logs.get_mut(&writer) else { return };
        let next = log.pop_front();
        if log.is_empty() {
            self.logs.remove(&writer);
        }
        self.ready.remove(&writer);
        if let Some(sealed) = next {
            self.place(sealed);
        }
        self.look_at(writer);
    }

    /// Goes through the logs round by round, each as far as it goes.
    fn follow_others(&mut self) {
        let mut from = None;
        loop {
            let next = match from {
                Some(last) => self.ready.range(last..).next().or_else(|| self.ready.first()),
                None => self.ready.first(),
            };
            let Some(writer) = next.copied() else { return };
            self.force(writer);
            from = Some(writer);
        }
    }
}
