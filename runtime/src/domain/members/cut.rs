//! How far the entries of one writer count, once expulsions have named ends for them.

use std::collections::BTreeMap;

use super::logs::{Logs, Mark};
use super::terms::{Expelled, LogEnd};
use crate::domain::ids::WriterKey;
use crate::domain::limits::EXPELLED_ENDS_PER_WRITER_MAX;
use crate::domain::loom::Sealed;

/// The ends that an expulsion names for a writer, as far as they are here.
pub(super) fn ends(expelled: &Expelled, writer: WriterKey, logs: &Logs) -> Vec<Mark> {
    let of_writer = expelled.ends.iter().filter(|end: &&LogEnd| end.writer == writer);
    of_writer.take(EXPELLED_ENDS_PER_WRITER_MAX).filter_map(|end| logs.end(end)).collect()
}

/// What several expulsions leave of one writer's entries: an entry has to pass each of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Cut {
    nothing: bool,
    /// By history tree, the places up to which entries stay: what all expulsions that name ends in it alone have in common.
    ends: BTreeMap<u32, Vec<Mark>>,
    /// Expulsions that name ends in several.
    mixed: Vec<Vec<Mark>>,
}

impl Cut {
    /// Whether no expulsion is in it.
    pub(super) fn is_open(&self) -> bool {
        !self.nothing && self.ends.is_empty() && self.mixed.is_empty()
    }

    /// One expulsion more, with the ends that it names.
    pub(super) fn add(&mut self, ends: &[Mark], logs: &Logs) {
        let Some(first) = ends.first() else {
            self.nothing = true;
            return;
        };
        if ends.iter().any(|end| end.unit != first.unit) {
            self.mixed.push(ends.to_vec());
            return;
        }
        let Some(held) = self.ends.get_mut(&first.unit) else {
            self.ends.insert(first.unit, ends.to_vec());
            return;
        };
        // Of each way that was left stays what some of the new ends are on. So there are never more ways than before.
        let shared = held.iter().filter_map(|mark| {
            let met = ends.iter().filter_map(|end| logs.meet(*mark, *end));
            met.max_by_key(|mark| (logs.sequence(*mark), *mark))
        });
        let shared = shared.collect::<Vec<_>>();
        self.nothing |= shared.is_empty();
        *held = shared;
    }

    /// The expulsions of another too.
    pub(super) fn merge(&mut self, other: &Self, logs: &Logs) {
        self.nothing |= other.nothing;
        for ends in other.ends.values().chain(&other.mixed) {
            self.add(ends, logs);
        }
    }

    /// Whether an entry passes all of them.
    pub(super) fn allows(&self, sealed: &Sealed, logs: &Logs) -> bool {
        let reaches = |ends: &Vec<Mark>| ends.iter().any(|end| logs.leads(sealed, *end));
        !self.nothing && self.ends.values().all(reaches) && self.mixed.iter().all(reaches)
    }
}
