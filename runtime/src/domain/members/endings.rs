//! How far an admission for one cast holds: up to where whoever gave it has settled the cast, and for so many bytes of each writer.
//!
//! A settlement ends an admission that at least as many admissions lead to as to itself. So they are judged from the founder down, and
//! none can be ended by what depends on it.

use std::collections::{HashMap, HashSet};

use super::chains::Basis;
use super::expulsions::{Base, Expulsions};
use super::facts::{Ix, Kind, kind};
use super::logs::Reach;
use super::terms::{Scope, Settled};
use super::verdict::Refused;
use crate::domain::ids::WriterKey;
use crate::domain::loom::Sealed;
use crate::domain::steps;

/// Where an admission ends.
#[derive(Debug)]
struct End {
    /// The first settlement of it; another one adds to what is reached.
    by: Ix,
    reach: Reach,
}

/// The ends and bounds of all admissions for casts.
#[derive(Debug, Default)]
pub(super) struct Endings {
    ends: HashMap<Ix, End>,
    /// Of a writer that has used up an admission, the last place at which its entries are within it.
    full: HashMap<(Ix, WriterKey), u64>,
    /// The admissions that are themselves beyond one that they rely on; nothing as long as they are being judged.
    dead: Option<HashSet<Ix>>,
}

impl Endings {
    pub(super) fn find(base: Base<'_, '_>, expulsions: &Expulsions) -> Self {
        let mut found = Self { full: full(base), ..Self::default() };
        let mut settled = Vec::new();
        for (entry, sealed) in base.facts.all() {
            let (Kind::Settled(says), Ok(basis)) = (kind(sealed), base.chains.basis(entry)) else { continue };
            let of = ended(sealed, says, basis, base);
            settled.extend(of.map(|of| (base.chains.depth(basis), entry, of, sealed, says, basis)));
        }
        // By id, so that everybody names the same one.
        settled.sort_by_key(|(depth, _, _, sealed, ..)| (*depth, sealed.id));
        for (_, entry, of, sealed, says, basis) in settled {
            if found.lives(sealed, basis, base, expulsions).is_err() {
                continue;
            }
            let end = found.ends.entry(of).or_insert_with(|| End { by: entry, reach: Reach::default() });
            for mark in says.ends.iter().filter_map(|end| base.logs.end(end)) {
                steps::count(1);
                end.reach.add(mark, base.logs);
            }
        }
        let admissions = base.facts.all().filter(|(entry, _)| base.chains.link(Basis::By(*entry)).is_some());
        let beyond = admissions.filter(|(entry, sealed)| {
            let basis = base.chains.basis(*entry);
            basis.is_ok_and(|basis| found.within(sealed, basis, base).is_err())
        });
        found.dead = Some(beyond.map(|(entry, _)| entry).collect());
        found
    }

    /// Whether an entry stands by all that does not depend on who owns what.
    pub(super) fn lives(
        &self,
        sealed: &Sealed,
        basis: Basis,
        base: Base<'_, '_>,
        expulsions: &Expulsions,
    ) -> Result<(), Refused> {
        expulsions.allow(sealed, basis, base)?;
        let proved = base.logs.proved(sealed.entry.writer).filter(|place| sealed.entry.sequence >= *place);
        match proved {
            Some(place) if !kind(sealed).is_membership() && !expulsions.pins(sealed, basis, base) => {
                Err(Refused::Equivocated { place })
            }
            _ => self.allow(sealed, basis, base),
        }
    }

    /// Whether an entry, and each admission that leads to it, is before the ends and within the bounds of those above.
    fn allow(&self, sealed: &Sealed, basis: Basis, base: Base<'_, '_>) -> Result<(), Refused> {
        if self.ends.is_empty() && self.full.is_empty() {
            return Ok(());
        }
        self.within(sealed, basis, base)?;
        let is_dead = |(admission, above): (Ix, Basis)| match &self.dead {
            Some(dead) => dead.contains(&admission),
            None => base.facts.get(admission).is_some_and(|of| self.within(of, above, base).is_err()),
        };
        let mut up = base.chains.up(basis).map(|(admission, link)| (admission, link.above));
        let dead = up.find(|of| is_dead(*of)).and_then(|(admission, _)| base.facts.get(admission));
        dead.map_or(Ok(()), |dead| Err(Refused::Admission(dead.id)))
    }

    /// Whether an entry is before the ends and within the bounds of the admissions that lead to it.
    fn within(&self, sealed: &Sealed, basis: Basis, base: Base<'_, '_>) -> Result<(), Refused> {
        for (admission, _) in base.chains.up(basis) {
            steps::count(1);
            let (end, full) = (self.ends.get(&admission), self.full.get(&(admission, sealed.entry.writer)));
            if end.is_some_and(|end| !end.reach.has(sealed, base.logs)) {
                return Err(self.why(admission, base));
            }
            if full.is_some_and(|last| sealed.entry.sequence > *last) {
                return Err(bytes(admission, base));
            }
        }
        Ok(())
    }

    /// Whether what a key writes next by an admission is before the ends and within the bounds.
    pub(super) fn goes_on(&self, key: WriterKey, basis: Basis, base: Base<'_, '_>) -> Result<(), Refused> {
        for (admission, _) in base.chains.up(basis) {
            if self.ends.contains_key(&admission) {
                return Err(self.why(admission, base));
            }
            if self.full.contains_key(&(admission, key)) {
                return Err(bytes(admission, base));
            }
        }
        Ok(())
    }

    fn why(&self, admission: Ix, base: Base<'_, '_>) -> Refused {
        let by = self.ends.get(&admission).and_then(|end| base.facts.get(end.by));
        by.map_or(Refused::Absent, |by| Refused::Settled(by.id))
    }
}

fn scope<'a>(admission: Ix, base: Base<'_, 'a>) -> Option<&'a Scope> {
    base.admitted(Basis::By(admission))?.scope.as_ref()
}

fn bytes(admission: Ix, base: Base<'_, '_>) -> Refused {
    Refused::Bytes { max: scope(admission, base).map_or(0, |scope| scope.bytes_max) }
}

/// The admission for a cast that a settlement names, if whoever gave it settles, or who may go on with what is others': whoever adopts the
/// entity that gave the cast has its children, too.
pub(super) fn settled(sealed: &Sealed, says: &Settled, base: Base<'_, '_>) -> Option<Ix> {
    let (admission, by) = base.facts.find(says.admission)?;
    let may_adopt = || {
        let (entry, _) = base.facts.find(sealed.id)?;
        base.chains.basis(entry).ok().filter(|basis| base.may_adopt(*basis))
    };
    let is_its = base.selves.same_member(sealed.entry.writer, by.entry.writer) || may_adopt().is_some();
    (is_its && scope(admission, base)?.entity == says.child).then_some(admission)
}

/// The admission that a settlement ends: one that it may settle and that it does not depend on.
fn ended(sealed: &Sealed, says: &Settled, basis: Basis, base: Base<'_, '_>) -> Option<Ix> {
    let admission = settled(sealed, says, base)?;
    let above = base.chains.basis(admission).ok()?;
    (base.chains.depth(basis) <= base.chains.depth(above)).then_some(admission)
}

/// The writers that have used up an admission for a cast, each with the last place that is within it.
fn full(base: Base<'_, '_>) -> HashMap<(Ix, WriterKey), u64> {
    // Where two histories of a writer divide, no two nodes need have the same of them.
    let is_counted =
        |sealed: &Sealed| base.logs.proved(sealed.entry.writer).is_none_or(|proved| sealed.entry.sequence < proved);
    let mut used: HashMap<(Ix, WriterKey), u64> = HashMap::new();
    for (entry, sealed) in base.facts.all() {
        let Ok(basis) = base.chains.basis(entry) else { continue };
        let mut hosting = base.chains.up(basis).filter(|(admission, _)| scope(*admission, base).is_some()).peekable();
        if hosting.peek().is_none() || !is_counted(sealed) {
            continue;
        }
        let size = sealed.recorded_bytes();
        for (admission, _) in hosting {
            steps::count(1);
            let held = used.entry((admission, sealed.entry.writer)).or_default();
            *held = held.saturating_add(size);
        }
    }
    used.retain(|(admission, _), used| scope(*admission, base).is_some_and(|scope| *used > scope.bytes_max));
    if used.is_empty() {
        return HashMap::new();
    }
    let mut places: HashMap<(Ix, WriterKey), Vec<(u64, u64)>> = HashMap::new();
    for (entry, sealed) in base.facts.all().filter(|(_, sealed)| is_counted(sealed)) {
        let Ok(basis) = base.chains.basis(entry) else { continue };
        for (admission, _) in base.chains.up(basis) {
            let of = (admission, sealed.entry.writer);
            if used.contains_key(&of) {
                places.entry(of).or_default().push((sealed.entry.sequence, sealed.recorded_bytes()));
            }
        }
    }
    let last = |(of, mut places): ((Ix, WriterKey), Vec<(u64, u64)>)| {
        places.sort_unstable();
        let max = scope(of.0, base).map_or(0, |scope| scope.bytes_max);
        let sums = places.into_iter().scan(0_u64, |sum, (place, size)| {
            *sum = sum.saturating_add(size);
            Some((place, *sum))
        });
        (of, sums.take_while(|(_, sum)| *sum <= max).last().map_or(0, |(place, _)| place))
    };
    places.into_iter().map(last).collect()
}
