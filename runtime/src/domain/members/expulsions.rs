//! Expulsions: which stand, whom each concerns, and what of whose entries is left.
//!
//! They are judged from the founder down. One is ended only by one that fewer admissions lead to (and, among the founder's own
//! keys, by a higher key), so each is judged once all are that could end it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::chains::{Basis, Chains};
use super::cut::{Cut, ends};
use super::facts::{Facts, Ix, Kind, kind};
use super::logs::{Logs, Reach};
use super::record::CheckedRecord;
use super::selves::Selves;
use super::terms::{Admitted, Expelled, Principal, Right, Target};
use super::verdict::Refused;
use crate::domain::ids::{EntryId, WriterKey};
use crate::domain::limits::READMISSIONS_MAX;
use crate::domain::loom::Sealed;
use crate::domain::steps;

/// How far an expulsion is from the founder: what is nearer is lower.
type Nearness = (u32, Reverse<Option<u64>>);

/// What everything about members is read from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Base<'b, 'a> {
    pub(super) facts: &'b Facts<'a>,
    pub(super) logs: &'b Logs,
    pub(super) selves: &'b Selves,
    pub(super) chains: &'b Chains,
}

impl<'a> Base<'_, 'a> {
    fn expelled(&self, entry: Ix) -> Option<&'a Expelled> {
        if let Kind::Expelled(expelled) = kind(self.facts.get(entry)?) { Some(expelled) } else { None }
    }

    pub(super) fn admitted(&self, basis: Basis) -> Option<&'a Admitted> {
        let Basis::By(admission) = basis else { return None };
        if let Kind::Admitted(admitted) = kind(self.facts.get(admission)?) { Some(admitted) } else { None }
    }

    /// Whether who writes by an admission may go on with entities of others.
    pub(super) fn may_adopt(&self, basis: Basis) -> bool {
        basis == Basis::Founder || self.admitted(basis).is_some_and(|admitted| admitted.rights.has(Right::Adopt))
    }

    /// The nearer to the founder, the lower.
    fn nearness(&self, writer: WriterKey, basis: Basis) -> Nearness {
        let rank = if basis == Basis::Founder { self.selves.rank(writer) } else { None };
        (self.chains.depth(basis), Reverse(rank))
    }

    /// Whether an expulsion names a key, for entries that rely on an admission.
    fn covers(&self, target: &Target, key: WriterKey, basis: Basis) -> bool {
        match target {
            Target::Node(node) => self.selves.is(key, &Principal::Node(node.clone())),
            Target::Certificate(certificate) => self.selves.only_by(key, *certificate),
            Target::Key(named) if *named == key => true,
            Target::Key(named) => {
                // A successor goes on only as the node that is admitted, if that one has certified it itself.
                let admitted = self.admitted(basis).map(|admitted| match &admitted.principal {
                    Principal::Node(node) => Some(node),
                    Principal::Key(_) => None,
                });
                let node = admitted.unwrap_or_else(|| self.selves.founders_node());
                let is_certified = self.selves.records(key).any(|record| Some(record.node()) == node);
                !is_certified && self.selves.is(key, &Principal::Key(*named))
            }
        }
    }

    /// Whether the writer of an expulsion has a say over what a key writes by an admission.
    fn has_say(&self, (writer, scopes): (WriterKey, u32), key: WriterKey, basis: Basis) -> bool {
        let by_founder = self.selves.is_founder(writer);
        if self.selves.is_founder(key) {
            return by_founder && self.selves.rank(writer) > self.selves.rank(key);
        }
        let same = |admission: Ix| {
            let by = self.facts.writer(admission);
            by.is_some_and(|by| self.selves.same_member(by, writer))
        };
        by_founder
            || self.chains.up(basis).any(|(admission, _)| same(admission))
                && self.chains.is_within(scopes, self.chains.scopes_number(basis))
    }
}

/// Standing expulsions of one target by one writer, within the same scopes and equally far from the founder.
#[derive(Debug)]
struct Group {
    writer: WriterKey,
    scopes: u32,
    members: Vec<Ix>,
}

/// Whose entries, by which admission: what all expulsions are about.
pub(super) type Class = (WriterKey, Basis);

/// The expulsions of a loom.
#[derive(Debug, Default)]
pub(super) struct Expulsions {
    groups: Vec<Group>,
    by_target: HashMap<Target, Vec<usize>>,
    numbers: HashMap<(Target, WriterKey, u32, u32), usize>,
    group_of: HashMap<Ix, usize>,
    /// Which targets name a key.
    targets: HashMap<WriterKey, Vec<Target>>,
    folds: HashMap<(usize, WriterKey), Cut>,
    cuts: HashMap<Class, Cut>,
    lives: HashMap<Basis, bool>,
    renewed: HashMap<Ix, HashSet<Ix>>,
    pins: HashMap<Class, Reach>,
}

impl Expulsions {
    /// Judges all of them, and what is left by each admission that an entry relies on.
    pub(super) fn find(base: Base<'_, '_>) -> Self {
        let mut found = Self::default();
        let mut strata: BTreeMap<Nearness, Vec<(Ix, Class)>> = BTreeMap::new();
        for (entry, sealed) in base.facts.all() {
            if matches!(kind(sealed), Kind::Expelled(_))
                && let Ok(basis) = base.chains.basis(entry)
            {
                let writer = sealed.entry.writer;
                strata.entry(base.nearness(writer, basis)).or_default().push((entry, (writer, basis)));
            }
        }
        for stratum in strata.into_values() {
            let standing = stratum.into_iter().filter(|(entry, class)| {
                steps::count(1);
                let sealed = base.facts.get(*entry);
                sealed.is_some_and(|sealed| found.learn(*class, base).allows(sealed, base.logs))
                    && found.lives(class.1, base)
            });
            let standing = standing.collect::<Vec<_>>();
            if !standing.is_empty() {
                for (entry, class) in standing {
                    found.stand(entry, class, base);
                }
                // From here on more may be ended than what was found with fewer.
                (found.cuts, found.lives) = (HashMap::new(), HashMap::new());
            }
        }
        let mut last = None;
        for (entry, _) in base.facts.all() {
            let number = base.facts.key_number(entry);
            let Ok(basis) = base.chains.basis(entry) else { continue };
            // Writers write many entries by one admission.
            if last.replace((number, basis)) == Some((number, basis)) {
                continue;
            }
            if let Some(key) = base.facts.keys().get(number) {
                let class = (*key, basis);
                found.learn(class, base);
                found.lives(basis, base);
                if base.logs.proved(class.0).is_some() {
                    found.pin(class, base);
                }
            }
        }
        found
    }

    fn stand(&mut self, entry: Ix, (writer, basis): Class, base: Base<'_, '_>) {
        let Some(expelled) = base.expelled(entry) else { return };
        let (scopes, depth) = (base.chains.scopes_number(basis), base.chains.depth(basis));
        let next = self.groups.len();
        let group = *self.numbers.entry((expelled.target.clone(), writer, scopes, depth)).or_insert(next);
        if group == next {
            self.by_target.entry(expelled.target.clone()).or_default().push(group);
            self.targets.clear();
            self.groups.push(Group { writer, scopes, members: Vec::new() });
        }
        if let Some(held) = self.groups.get_mut(group) {
            held.members.push(entry);
            self.group_of.insert(entry, group);
        }
    }

    /// The targets of standing expulsions that name a key, or something that it can act as.
    fn targets(&self, key: WriterKey, base: Base<'_, '_>) -> Vec<Target> {
        if let Some(targets) = self.targets.get(&key) {
            return targets.clone();
        }
        let names = base.selves.principals(key).into_iter().map(|name| match name {
            Principal::Node(node) => Target::Node(node),
            Principal::Key(key) => Target::Key(key),
        });
        let certificates = base.selves.records(key).map(CheckedRecord::certificate).map(Target::Certificate);
        names.chain(certificates).filter(|target| self.by_target.contains_key(target)).collect()
    }

    /// The groups whose expulsions concern what a key writes by an admission.
    fn concerning(&self, (key, basis): Class, base: Base<'_, '_>) -> Vec<usize> {
        if self.groups.is_empty() {
            return Vec::new();
        }
        let mut found = Vec::new();
        for target in self.targets(key, base) {
            let Some(groups) = self.by_target.get(&target).filter(|_| base.covers(&target, key, basis)) else {
                continue;
            };
            steps::count(groups.len() as u64);
            let of = |group: &usize| self.groups.get(*group).map(|group| (group.writer, group.scopes));
            found.extend(
                groups.iter().copied().filter(|group| of(group).is_some_and(|of| base.has_say(of, key, basis))),
            );
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// What expulsions leave of what a key writes by an admission.
    fn learn(&mut self, class: Class, base: Base<'_, '_>) -> &Cut {
        if !self.cuts.contains_key(&class) {
            if !self.groups.is_empty() && !self.targets.contains_key(&class.0) {
                self.targets.insert(class.0, self.targets(class.0, base));
            }
            let cut = self.cut(class, base);
            self.cuts.insert(class, cut);
        }
        self.cuts.entry(class).or_default()
    }

    fn cut(&mut self, class: Class, base: Base<'_, '_>) -> Cut {
        let mut cut = Cut::default();
        let concerning = self.concerning(class, base);
        if concerning.is_empty() {
            return cut;
        }
        let renewed = self.renewed(class.1, base);
        let excepted = renewed.iter().filter_map(|entry| self.group_of.get(entry).copied()).collect::<HashSet<_>>();
        for group in concerning {
            if !excepted.contains(&group) {
                cut.merge(self.fold(group, class.0, base), base.logs);
                continue;
            }
            let members = self.groups.get(group).into_iter().flat_map(|group| &group.members);
            for expulsion in members.filter(|expulsion| !renewed.contains(expulsion)) {
                steps::count(1);
                if let Some(expelled) = base.expelled(*expulsion) {
                    cut.add(&ends(expelled, class.0, base.logs), base.logs);
                }
            }
        }
        cut
    }

    /// What all expulsions of a group leave of a key's entries.
    fn fold(&mut self, group: usize, key: WriterKey, base: Base<'_, '_>) -> &Cut {
        let members = self.groups.get(group).map(|group| group.members.as_slice()).unwrap_or_default();
        self.folds.entry((group, key)).or_insert_with(|| {
            let mut cut = Cut::default();
            for expelled in members.iter().filter_map(|entry| base.expelled(*entry)) {
                steps::count(1);
                cut.add(&ends(expelled, key, base.logs), base.logs);
            }
            cut
        })
    }

    /// The expulsions that an admission ends, for who relies on it: those that it names, by somebody with a say over them, and those
    /// that an earlier admission of the same principal ended which it names.
    fn renewed(&mut self, basis: Basis, base: Base<'_, '_>) -> HashSet<Ix> {
        let Basis::By(admission) = basis else { return HashSet::new() };
        if let Some(found) = self.renewed.get(&admission) {
            return found.clone();
        }
        let found = renewed(admission, base);
        if !found.is_empty() {
            self.renewed.insert(admission, found.clone());
        }
        found
    }

    /// Whether no expulsion has ended an admission, or one above it.
    fn lives(&mut self, basis: Basis, base: Base<'_, '_>) -> bool {
        if let Some(lives) = self.lives.get(&basis) {
            return *lives;
        }
        let mut passed = Vec::new();
        let mut lives = true;
        for (admission, link) in base.chains.up(basis) {
            steps::count(1);
            if let Some(known) = self.lives.get(&Basis::By(admission)) {
                lives = *known;
                break;
            }
            passed.push((admission, link.above));
        }
        for (admission, above) in passed.into_iter().rev() {
            lives = lives
                && base
                    .facts
                    .get(admission)
                    .is_some_and(|sealed| self.learn((sealed.entry.writer, above), base).allows(sealed, base.logs));
            self.lives.insert(Basis::By(admission), lives);
        }
        lives
    }

    /// Finds what expulsions vouch for of a writer that has two histories: the ends that they name.
    fn pin(&mut self, class: Class, base: Base<'_, '_>) {
        if self.pins.contains_key(&class) {
            return;
        }
        let mut reach = Reach::default();
        let renewed = self.renewed(class.1, base);
        for group in self.concerning(class, base) {
            let group = self.groups.get(group).filter(|group| group.writer != class.0);
            let members = group.into_iter().flat_map(|group| &group.members);
            for expelled in members.filter(|entry| !renewed.contains(entry)).filter_map(|entry| base.expelled(*entry)) {
                for mark in ends(expelled, class.0, base.logs) {
                    reach.add(mark, base.logs);
                }
            }
        }
        self.pins.insert(class, reach);
    }

    /// Whether no expulsion concerns what a key writes by an admission.
    pub(super) fn leave_all(&self, class: Class) -> bool {
        self.cuts.get(&class).is_none_or(Cut::is_open)
    }

    /// Whether an expulsion stands.
    pub(super) fn stands(&self, entry: Ix) -> bool {
        self.group_of.contains_key(&entry)
    }

    /// Whether what expulsions have left of a writer's entries, and of the admissions that lead to it, has an entry in it.
    pub(super) fn allow(&self, sealed: &Sealed, basis: Basis, base: Base<'_, '_>) -> Result<(), Refused> {
        let class = (sealed.entry.writer, basis);
        if self.cuts.get(&class).is_some_and(|cut| !cut.allows(sealed, base.logs)) {
            return Err(Refused::Expelled(self.by_whom(sealed, basis, base).unwrap_or(sealed.id)));
        }
        if let Basis::By(_) = basis
            && self.lives.get(&basis) != Some(&true)
        {
            return Err(self.ended(basis, base));
        }
        Ok(())
    }

    fn ended(&self, basis: Basis, base: Base<'_, '_>) -> Refused {
        let ended = base.chains.up(basis).find_map(|(admission, link)| {
            let sealed = base.facts.get(admission)?;
            let by = self.by_whom(sealed, link.above, base)?;
            Some(Refused::Ended { admission: sealed.id, by })
        });
        ended.unwrap_or(Refused::Absent)
    }

    /// Which expulsion an entry does not pass; of several the first by its id, so that everybody names the same.
    fn by_whom(&self, sealed: &Sealed, basis: Basis, base: Base<'_, '_>) -> Option<EntryId> {
        let class = (sealed.entry.writer, basis);
        if self.cuts.get(&class).is_none_or(|cut| cut.allows(sealed, base.logs)) {
            return None;
        }
        let by = self.judges(class, base).into_iter().filter_map(|entry| {
            let expelled = base.expelled(entry)?;
            let stays = ends(expelled, class.0, base.logs).iter().any(|end| base.logs.leads(sealed, *end));
            if stays { None } else { base.facts.get(entry).map(|by| by.id) }
        });
        by.min()
    }

    /// The standing expulsions that concern what a key writes by an admission.
    pub(super) fn judges(&self, class: Class, base: Base<'_, '_>) -> Vec<Ix> {
        let renewed = match class.1 {
            Basis::Founder => HashSet::new(),
            Basis::By(admission) => renewed(admission, base),
        };
        let groups = self.concerning(class, base).into_iter().filter_map(|group| self.groups.get(group));
        groups.flat_map(|group| group.members.iter().copied()).filter(|entry| !renewed.contains(entry)).collect()
    }

    /// Whether an expulsion vouches for an entry of a writer that has two histories.
    pub(super) fn pins(&self, sealed: &Sealed, basis: Basis, base: Base<'_, '_>) -> bool {
        self.pins.get(&(sealed.entry.writer, basis)).is_some_and(|reach| reach.has(sealed, base.logs))
    }

    /// All that stand.
    pub(super) fn standing(&self) -> impl Iterator<Item = Ix> + '_ {
        self.groups.iter().flat_map(|group| group.members.iter().copied())
    }
}

/// The expulsions that an admission ends.
pub(super) fn renewed(admission: Ix, base: Base<'_, '_>) -> HashSet<Ix> {
    let (mut found, mut seen, mut next) = (HashSet::new(), HashSet::from([admission]), vec![admission]);
    while let Some(at) = next.pop() {
        let Some(sealed) = base.facts.get(at).filter(|_| base.chains.basis(at).is_ok()) else { continue };
        let Some(admitted) = base.admitted(Basis::By(at)) else { continue };
        for (named, other) in admitted.again.iter().filter_map(|id| base.facts.find(*id)) {
            steps::count(1);
            if let Kind::Admitted(before) = kind(other) {
                let is_of_same = before.principal == admitted.principal && seen.len() < READMISSIONS_MAX;
                if is_of_same && seen.insert(named) {
                    next.push(named);
                }
            } else if matches!(kind(other), Kind::Expelled(_)) && may_end(sealed.entry.writer, named, base) {
                found.insert(named);
            }
        }
    }
    found
}

/// Whether a writer may end an expulsion: its writer, somebody above that one, or the founder.
pub(super) fn may_end(writer: WriterKey, expulsion: Ix, base: Base<'_, '_>) -> bool {
    let Ok(basis) = base.chains.basis(expulsion) else { return false };
    let same = |entry: Ix| base.facts.writer(entry).is_some_and(|by| base.selves.same_member(by, writer));
    base.selves.is_founder(writer) || same(expulsion) || base.chains.up(basis).any(|(admission, _)| same(admission))
}
