//! The logs and casts of all writers of a loom, and which of their entries a signature covers.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::batch::casts_within;
use super::facts::{Facts, ends_named};
use super::history::{History, Spot};
use super::known::{Known, Stretch};
use super::terms::LogEnd;
use crate::domain::ids::{EntityId, EntryId, WriterKey};
use crate::domain::loom::{Head, Sealed};
use crate::domain::steps;

/// A place in one of the histories of one writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Mark {
    pub(super) unit: u32,
    pub(super) spot: Spot,
}

/// All histories of a loom.
#[derive(Debug, Default)]
pub(super) struct Logs {
    units: Vec<History>,
    numbers: HashMap<(WriterKey, Option<EntityId>), u32>,
    of: HashMap<WriterKey, Vec<u32>>,
    /// From where on a writer is proved to have two.
    proved: HashMap<WriterKey, u64>,
}

impl Logs {
    pub(super) fn of(known: &Known<'_>, facts: &Facts<'_>) -> Self {
        let mut stretches: BTreeMap<(WriterKey, Option<EntityId>), Vec<&Stretch>> = BTreeMap::new();
        for stretch in &known.stretches {
            stretches.entry((stretch.writer, stretch.cast)).or_default().push(stretch);
        }
        let mut named: HashSet<(WriterKey, Option<EntityId>)> = HashSet::new();
        for (_, sealed) in facts.all() {
            named.extend(ends_named(sealed).iter().map(|end| (end.writer, end.cast)));
        }
        let mut logs =
            Self { proved: known.proofs.iter().map(|(key, place)| (*key, *place)).collect(), ..Self::default() };
        for (unit, stretches) in stretches {
            let Some(history) = History::of(stretches, named.contains(&unit)) else { continue };
            let number = u32::try_from(logs.units.len()).unwrap_or(u32::MAX);
            logs.numbers.insert(unit, number);
            logs.of.entry(unit.0).or_default().push(number);
            if let Some(place) = history.divides_at() {
                logs.prove(unit.0, place);
            }
            logs.units.push(history);
        }
        logs.compare_casts();
        logs.look_for_gaps(facts);
        logs
    }

    fn prove(&mut self, writer: WriterKey, place: u64) {
        let held = self.proved.entry(writer).or_insert(place);
        *held = place.min(*held);
    }

    /// A cast that gives a place another entry than the log is an equivocation too.
    fn compare_casts(&mut self) {
        let mut found = Vec::new();
        for cast in self.units.iter().filter(|unit| unit.is_cast()) {
            let log = self.numbers.get(&(cast.writer(), None)).and_then(|log| self.unit(*log));
            let Some(log) = log else { continue };
            let differs = |place: u64, id| log.signed_at(place).is_some_and(|other| other != id);
            let places = cast.covered().filter(|item| differs(item.place, item.id)).map(|item| item.place);
            found.extend(places.min().map(|place| (cast.writer(), place)));
        }
        for (writer, place) in found {
            self.prove(writer, place);
        }
    }

    /// A cast that leaves out an entry which its writer's log has, and which belongs to it, is one too; and so are two casts that give
    /// one place two entries.
    fn look_for_gaps(&mut self, facts: &Facts<'_>) {
        let mut found = Vec::new();
        for (writer, numbers) in &self.of {
            let units = || numbers.iter().filter_map(|number| self.unit(*number));
            let casts: BTreeMap<EntityId, &History> =
                units().filter_map(|unit| Some((unit.cast()?, unit))).filter(|(_, unit)| unit.is_whole()).collect();
            if casts.is_empty() || numbers.len() < 2 {
                continue;
            }
            let mut at: HashMap<u64, EntryId> = HashMap::new();
            for item in casts.values().flat_map(|cast| cast.signed_items()) {
                steps::count(1);
                if *at.entry(item.place).or_insert(item.id) != item.id {
                    found.push((*writer, item.place));
                }
            }
            let Some(log) = units().find(|unit| unit.cast().is_none() && unit.is_whole()) else { continue };
            let entries = log.signed_items().iter().map_while(|item| facts.find(item.id).map(|(_, sealed)| sealed));
            let entries: Vec<&Sealed> = entries.collect();
            for (root, entries) in casts_within(&entries, &casts.keys().copied().collect()) {
                let Some(cast) = casts.get(&root) else { continue };
                let end = cast.signed_items().last().map_or(0, |item| item.place);
                let within = entries.iter().take_while(|sealed| sealed.entry.sequence <= end);
                let mut gaps = within.filter(|sealed| cast.signed_at(sealed.entry.sequence).is_none());
                found.extend(gaps.next().map(|sealed| (*writer, sealed.entry.sequence)));
            }
        }
        for (writer, place) in found {
            self.prove(writer, place);
        }
    }

    fn unit(&self, unit: u32) -> Option<&History> {
        self.units.get(usize::try_from(unit).ok()?)
    }

    fn units_of(&self, writer: WriterKey) -> impl Iterator<Item = (u32, &History)> + '_ {
        let units = self.of.get(&writer).into_iter().flatten();
        units.filter_map(|number| Some((*number, self.unit(*number)?)))
    }

    /// The log of a writer of whom nothing else is here.
    pub(super) fn simple(&self, writer: WriterKey) -> Option<&History> {
        let [only] = self.of.get(&writer)?.as_slice() else { return None };
        self.unit(*only).filter(|unit| unit.is_simple())
    }

    /// The head that an end names, if it is here and a signature covers it.
    pub(super) fn end(&self, end: &LogEnd) -> Option<Mark> {
        let unit = *self.numbers.get(&(end.writer, end.cast))?;
        let spot = self.unit(unit)?.signed(&Head { sequence: end.sequence, chain: end.chain })?;
        Some(Mark { unit, spot })
    }

    /// Whether a signature covers an entry.
    pub(super) fn is_covered(&self, sealed: &Sealed) -> bool {
        self.marks(sealed).any(|mark| self.unit(mark.unit).is_some_and(|unit| unit.is_covered(mark.spot)))
    }

    /// Every place that an entry has.
    pub(super) fn marks<'b>(&'b self, sealed: &Sealed) -> impl Iterator<Item = Mark> + 'b {
        let (id, place) = (sealed.id, sealed.entry.sequence);
        let units = self.units_of(sealed.entry.writer);
        units.flat_map(move |(unit, history)| history.spots(id, place).map(move |spot| Mark { unit, spot }))
    }

    /// Whether an entry is at or before a place.
    pub(super) fn leads(&self, sealed: &Sealed, to: Mark) -> bool {
        self.unit(to.unit).is_some_and(|unit| {
            unit.writer() == sealed.entry.writer && unit.leads(sealed.id, sealed.entry.sequence, to.spot)
        })
    }

    /// The place of an entry on the way to another.
    pub(super) fn place_of(&self, sealed: &Sealed, to: Mark) -> Option<Mark> {
        let unit = self.unit(to.unit).filter(|unit| unit.writer() == sealed.entry.writer)?;
        let spot = unit.place_of(sealed.id, sealed.entry.sequence, to.spot)?;
        Some(Mark { unit: to.unit, spot })
    }

    /// Whether one entry is at or before another in some history.
    pub(super) fn follows(&self, start: &Sealed, end: &Sealed) -> bool {
        start.entry.writer == end.entry.writer
            && (start.id == end.id
                || start.entry.sequence < end.entry.sequence && self.marks(end).any(|mark| self.leads(start, mark)))
    }

    /// From where on a writer is proved to have two histories.
    pub(super) fn proved(&self, writer: WriterKey) -> Option<u64> {
        self.proved.get(&writer).copied()
    }

    /// The last place that leads to both.
    pub(super) fn meet(&self, one: Mark, other: Mark) -> Option<Mark> {
        let spot = self.unit(one.unit).filter(|_| one.unit == other.unit)?.meet(one.spot, other.spot)?;
        Some(Mark { unit: one.unit, spot })
    }

    /// How many entries lead to a place.
    pub(super) fn sequence(&self, mark: Mark) -> u64 {
        self.unit(mark.unit).map_or(0, |unit| unit.head(mark.spot).sequence)
    }

    /// A place, and where the branches leave that lead to it.
    pub(super) fn up(&self, mark: Mark) -> impl Iterator<Item = Mark> + '_ {
        let unit = self.unit(mark.unit);
        unit.into_iter().flat_map(move |unit| unit.up(mark.spot)).map(move |spot| Mark { unit: mark.unit, spot })
    }
}

/// Places that some marks reach: a mark, and all that is before it.
#[derive(Debug, Clone, Default)]
pub(super) struct Reach(HashMap<(u32, u32), u32>);

impl Reach {
    /// Adds a mark; gives what it reaches that nothing reached before: branches, each with how far it was reached and now is.
    pub(super) fn add(&mut self, mark: Mark, logs: &Logs) -> Vec<(Mark, u32)> {
        let mut gained = Vec::new();
        for up in logs.up(mark) {
            crate::domain::steps::count(1);
            let held = self.0.entry((up.unit, up.spot.branch)).or_insert(0);
            if *held >= up.spot.count {
                break;
            }
            let before = std::mem::replace(held, up.spot.count);
            gained.push((up, before));
            if before > 0 {
                break;
            }
        }
        gained
    }

    /// Whether it reaches an entry.
    pub(super) fn has(&self, sealed: &Sealed, logs: &Logs) -> bool {
        let reaches = |mark: Mark| self.0.get(&(mark.unit, mark.spot.branch)).is_some_and(|to| *to >= mark.spot.count);
        !self.0.is_empty() && logs.marks(sealed).any(reaches)
    }
}
