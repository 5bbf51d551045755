//! What counts of each entity: within which casts it is, who owns it, and what others have pinned of it.
//!
//! An entity is judged behind those that it is below ([`in_order`]), so that nothing here goes back. Whether one is below another
//! is asked of an entry: the opening that it follows names the entry that delegated it, and so on. Ids are hashes, so that way
//! ends too.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::chains::{Basis, minter};
use super::endings::{Endings, settled};
use super::expulsions::{Base, Expulsions};
use super::facts::{Ix, Kind, entity, kind};
use super::logs::{Mark, Reach};
use super::order::in_order;
use super::tenures::{Claim, Tenure, Tie, tenures};
use super::verdict::Refused;
use crate::domain::ids::{EntityId, EntryId, WriterKey};
use crate::domain::loom::{Opened, Sealed};
use crate::domain::steps;

/// The entries of an entity that decide who owns it.
#[derive(Debug, Default)]
struct Deciding {
    openings: Vec<Ix>,
    adoptions: Vec<Ix>,
    settled: Vec<Ix>,
}

/// What counts of an entity.
#[derive(Debug, Default)]
pub(super) struct Thread {
    pub(super) tenures: Vec<Tenure>,
    /// Of each owner, the places where its times begin.
    starts: HashMap<WriterKey, BTreeSet<(u64, usize)>>,
    /// What adoptions have pinned of it.
    pinned: Reach,
}

/// What was settled of a cast by an admission, by one writer.
type Settlements = Vec<(WriterKey, Reach)>;

/// The threads of all entities.
pub(super) struct Threads<'b, 'a> {
    base: Base<'b, 'a>,
    expulsions: &'b Expulsions,
    endings: &'b Endings,
    pub(super) of: HashMap<EntityId, Thread>,
    groups: HashMap<EntityId, usize>,
    settlements: HashMap<Ix, Settlements>,
    /// The opening that an entry of an entity follows.
    followed: HashMap<Ix, Option<Ix>>,
    /// For an opening, the entity that it is below and the opening that the delegating entry follows.
    above: HashMap<Ix, (EntityId, Option<Ix>)>,
    /// Whether what an opening opens is below an entity.
    under: HashMap<(Ix, EntityId), bool>,
    /// The keys of who reads.
    here: &'b [WriterKey],
}

impl<'b, 'a> Threads<'b, 'a> {
    pub(super) fn find(
        base: Base<'b, 'a>,
        (expulsions, endings): (&'b Expulsions, &'b Endings),
        here: &'b [WriterKey],
    ) -> Self {
        let mut found = Self {
            base,
            expulsions,
            endings,
            of: HashMap::new(),
            groups: HashMap::new(),
            settlements: HashMap::new(),
            followed: HashMap::new(),
            above: HashMap::new(),
            under: HashMap::new(),
            here,
        };
        let (mut deciding, mut of_roots): (BTreeMap<EntityId, Deciding>, Vec<Ix>) = (BTreeMap::new(), Vec::new());
        for (entry, sealed) in base.facts.all() {
            let decides = matches!(kind(sealed), Kind::Opened(_) | Kind::Adopted { .. } | Kind::Settled(_));
            if !decides || base.chains.basis(entry).is_err() {
                continue;
            }
            let Some(of) = entity(sealed) else {
                of_roots.push(entry);
                continue;
            };
            if matches!(kind(sealed), Kind::Opened(_)) {
                deciding.entry(of).or_default().openings.push(entry);
            } else if matches!(kind(sealed), Kind::Adopted { .. }) {
                deciding.entry(of).or_default().adoptions.push(entry);
            } else if matches!(kind(sealed), Kind::Settled(_)) {
                deciding.entry(of).or_default().settled.push(entry);
            }
        }
        // Of an opening or an adoption without an entity nothing is read: there is none.
        for settled in of_roots {
            found.settle(settled);
        }
        let mut above = BTreeMap::new();
        for (of, deciding) in &deciding {
            let delegated = deciding.openings.iter().filter(|opening| found.may_open(**opening));
            let delegated = delegated.filter_map(|opening| found.delegated(*opening));
            above.insert(
                *of,
                delegated.filter_map(|(_, sealed)| entity(sealed)).filter(|up| up != of).collect::<Vec<_>>(),
            );
        }
        for (group, entities) in in_order(&above).into_iter().enumerate() {
            found.groups.extend(entities.iter().map(|of| (*of, group)));
            for of in entities {
                if let Some(deciding) = deciding.get(&of) {
                    found.judge(of, deciding);
                }
            }
        }
        found
    }

    fn opened(&self, entry: Ix) -> Option<(&'a Sealed, &'a Opened)> {
        let sealed = self.base.facts.get(entry)?;
        if let Kind::Opened(opened) = kind(sealed) { Some((sealed, opened)) } else { None }
    }

    /// The entry that delegated what an opening opens.
    fn delegated(&self, opening: Ix) -> Option<(Ix, &'a Sealed)> {
        let (sealed, opened) = self.opened(opening)?;
        let (entry, by) = self.base.facts.find(opened.delegated?)?;
        let is_its = matches!(kind(by), Kind::Delegated(child) if Some(child) == entity(sealed));
        is_its.then_some((entry, by))
    }

    /// Whether an opening is by the key that minted the entity, or that whoever minted it has named.
    fn may_open(&self, opening: Ix) -> bool {
        let Some((sealed, opened)) = self.opened(opening) else { return false };
        let minted = opened.minted.as_ref().zip(entity(sealed)).and_then(|(minted, of)| minter(of, minted));
        minted == Some(sealed.entry.writer) || self.is_named(sealed)
    }

    /// Whether the admission that an opening names says that its writer opens this entity, and is by whoever minted it.
    fn is_named(&self, sealed: &Sealed) -> bool {
        let named = sealed.entry.relies.and_then(|relies| self.base.facts.find(relies));
        let named = named.filter(|(admission, _)| self.base.chains.basis(*admission).is_ok());
        let Some((_, by)) = named else { return false };
        let Kind::Admitted(admitted) = kind(by) else { return false };
        admitted.scope.as_ref().is_some_and(|scope| {
            Some(scope.entity) == entity(sealed)
                && scope.opener == sealed.entry.writer
                && super::chains::is_of(scope, by.entry.writer, self.base.selves)
        })
    }

    /// The opening that an entry follows within its entity.
    fn followed(&mut self, entry: Ix) -> Option<Ix> {
        let (mut at, mut passed) = (Some(entry), Vec::new());
        let found = loop {
            steps::count(1);
            let Some((here, sealed)) = at.and_then(|at| Some((at, self.base.facts.get(at)?))) else { break None };
            if matches!(kind(sealed), Kind::Opened(_)) {
                break Some(here);
            }
            if let Some(known) = self.followed.get(&here) {
                break *known;
            }
            passed.push(here);
            let before = sealed.entry.parent.and_then(|parent| self.base.facts.find(parent));
            at = before
                .filter(|(_, before)| entity(before).is_some() && entity(before) == entity(sealed))
                .map(|(at, _)| at);
        };
        self.followed.extend(passed.into_iter().map(|passed| (passed, found)));
        found
    }

    /// Whether an entry's entity is within all that its writer was admitted for; else, what it is not within.
    fn is_within(&mut self, entry: Ix, of: EntityId, basis: Basis) -> Result<(), Refused> {
        let scopes = self.base.chains.scopes(self.base.chains.scopes_number(basis));
        for scope in scopes.filter(|scope| *scope != of) {
            let is_below = self.followed(entry).is_some_and(|opening| self.is_under(opening, scope));
            if !is_below {
                return Err(Refused::Scope(scope));
            }
        }
        Ok(())
    }

    /// Whether what an opening opens is below an entity. Each step of the way is gone once for each entity that is asked for.
    fn is_under(&mut self, opening: Ix, top: EntityId) -> bool {
        let (mut at, mut passed) = (Some(opening), Vec::new());
        let found = loop {
            steps::count(1);
            let Some(here) = at else { break false };
            if let Some(known) = self.under.get(&(here, top)) {
                break *known;
            }
            passed.push(here);
            match self.above.get(&here).copied() {
                None => break self.is_taken(here),
                Some((above, _)) if above == top => break true,
                Some((_, next)) => at = next,
            }
        };
        self.under.extend(passed.into_iter().map(|passed| ((passed, top), found)));
        found
    }

    /// Whether this node has opened an entity for a caller whose log is not here: the order said below what it is.
    fn is_taken(&self, opening: Ix) -> bool {
        let Some((sealed, opened)) = self.opened(opening) else { return false };
        self.here.contains(&sealed.entry.writer)
            && self.is_named(sealed)
            && opened.delegated.is_some_and(|delegated| !self.is_told(delegated))
    }

    /// Whether the thread is here in which an entry delegates.
    fn is_told(&self, delegated: EntryId) -> bool {
        let by = self.base.facts.find(delegated).and_then(|(_, by)| by.entry.parent);
        by.is_some_and(|parent| self.base.facts.find(parent).is_some())
    }

    /// Whether neither an expulsion, nor a second history, nor the end of its cast has ended an entry.
    pub(super) fn lives(&self, sealed: &Sealed, basis: Basis) -> Result<(), Refused> {
        self.endings.lives(sealed, basis, self.base, self.expulsions)
    }

    /// Whether an entry of an entity decides something, but for who owns the entity.
    pub(super) fn counts(&mut self, entry: Ix) -> Result<(), Refused> {
        let sealed = self.base.facts.get(entry).ok_or(Refused::Absent)?;
        let basis = self.base.chains.basis(entry)?;
        let Some(of) = entity(sealed) else { return self.lives(sealed, basis) };
        self.is_within(entry, of, basis)?;
        let lives = self.lives(sealed, basis);
        if lives.is_ok() || self.is_pinned(entry, sealed, of, basis) { Ok(()) } else { lives }
    }

    /// Whether another has pinned an entry: who adopted the entity, or who called the cast.
    fn is_pinned(&mut self, entry: Ix, sealed: &Sealed, of: EntityId, basis: Basis) -> bool {
        let logs = self.base.logs;
        self.of.get(&of).is_some_and(|thread| thread.pinned.has(sealed, logs))
            || self.is_settled(entry, sealed, of, basis)
    }

    fn is_settled(&mut self, entry: Ix, sealed: &Sealed, of: EntityId, basis: Basis) -> bool {
        let hosts = self.base.chains.up(basis).filter_map(|(admission, _)| {
            let child = self.base.admitted(Basis::By(admission))?.scope.as_ref()?.entity;
            Some((child, admission))
        });
        let settled = hosts.filter(|(_, admission)| {
            let mut settled = self.settlements.get(admission).into_iter().flatten();
            settled.any(|(by, reach)| *by != sealed.entry.writer && reach.has(sealed, self.base.logs))
        });
        let settled = settled.map(|(child, _)| child).collect::<HashSet<_>>();
        settled.contains(&of)
            || settled
                .into_iter()
                .any(|child| self.followed(entry).is_some_and(|opening| self.is_under(opening, child)))
    }

    /// Judges an entity whose callers' entities were judged before.
    fn judge(&mut self, of: EntityId, deciding: &Deciding) {
        for opening in &deciding.openings {
            if let Some(above) = self.above(*opening, of) {
                self.above.insert(*opening, above);
            }
        }
        self.of.insert(of, Thread::default());
        let claims = self.pin(of, &deciding.adoptions);
        let openings = deciding.openings.iter().copied().filter(|opening| self.may_open(*opening)).collect::<Vec<_>>();
        let openings = openings.into_iter().filter(|opening| self.counts(*opening).is_ok()).collect::<Vec<_>>();
        let order = |opening: &Ix| {
            let sealed = self.base.facts.get(*opening)?;
            Some((!self.is_named(sealed), self.tie(*opening)?))
        };
        let opened = openings.into_iter().filter_map(|opening| Some((order(&opening)?, opening))).min();
        if let Some((opening, writer)) =
            opened.and_then(|(_, opening)| Some((opening, self.base.facts.writer(opening)?)))
        {
            let claims =
                claims.into_iter().filter(|(followed, _)| self.counts(*followed).is_ok()).map(|(_, claim)| claim);
            let tenures = tenures((opening, writer), &claims.collect::<Vec<_>>(), self.base);
            if let Some(thread) = self.of.get_mut(&of) {
                for (at, tenure) in tenures.iter().enumerate() {
                    let place = self.base.facts.get(tenure.start).map_or(0, |start| start.entry.sequence);
                    thread.starts.entry(tenure.writer).or_default().insert((place, at));
                }
                thread.tenures = tenures;
            }
        }
        for settled in &deciding.settled {
            self.settle(*settled);
        }
    }

    /// What an opening is below: the entity of the entry that delegated it, if that one counts.
    fn above(&mut self, opening: Ix, of: EntityId) -> Option<(EntityId, Option<Ix>)> {
        let (entry, by) = self.delegated(opening)?;
        let above = entity(by)?;
        let is_judged = self.groups.contains_key(&above) && self.groups.get(&above) != self.groups.get(&of);
        if !is_judged || !self.may_open(opening) || self.is_in_thread(entry).is_err() {
            return None;
        }
        Some((above, self.followed(entry)))
    }

    /// Which of two holds, where the rules leave a choice.
    fn tie(&self, entry: Ix) -> Option<Tie> {
        let sealed = self.base.facts.get(entry)?;
        let basis = self.base.chains.basis(entry).ok()?;
        // Of the names of a key only the one plays a part by which it was admitted.
        let name = self.base.admitted(basis).map(|admitted| admitted.principal.clone());
        Some((name, sealed.entry.sequence, sealed.id))
    }

    /// The adoptions of an entity that count, with the entry that each follows; and what they pin.
    fn pin(&mut self, of: EntityId, adoptions: &[Ix]) -> Vec<(Ix, Claim)> {
        let mut waiting: BTreeMap<(u32, u32, u32), Vec<usize>> = BTreeMap::new();
        let (mut claims, mut counting, mut done) = (Vec::new(), Vec::new(), HashSet::new());
        for adoption in adoptions {
            let Some((followed, claim)) = self.claim(*adoption, of) else { continue };
            if self.counts(*adoption).is_ok() {
                counting.push(claims.len());
            } else if self.base.chains.basis(*adoption).is_ok_and(|basis| self.is_within(*adoption, of, basis).is_ok())
            {
                let marks = self.base.facts.get(*adoption).into_iter().flat_map(|sealed| self.base.logs.marks(sealed));
                for mark in marks {
                    waiting.entry((mark.unit, mark.spot.branch, mark.spot.count)).or_default().push(claims.len());
                }
            }
            claims.push((followed, claim));
        }
        // What counts pins others, which count then.
        while let Some(at) = counting.pop() {
            let Some((followed, claim)) = claims.get(at).filter(|_| done.insert(at)) else { continue };
            let Some(by) = self.base.facts.writer(*followed).filter(|by| *by != claim.writer) else { continue };
            if !claim.is_rightful && !self.base.selves.same_member(claim.writer, by) {
                continue;
            }
            let Some(thread) = self.of.get_mut(&of) else { continue };
            for (mark, before) in thread.pinned.add(claim.from, self.base.logs) {
                let (unit, branch) = (mark.unit, mark.spot.branch);
                let reached = waiting.range((unit, branch, before.saturating_add(1))..=(unit, branch, mark.spot.count));
                counting.extend(reached.flat_map(|(_, waiting)| waiting.iter().copied()));
            }
        }
        (0..).zip(claims).filter(|(at, _)| done.contains(at)).map(|(_, claim)| claim).collect()
    }

    fn claim(&self, adoption: Ix, of: EntityId) -> Option<(Ix, Claim)> {
        let sealed = self.base.facts.get(adoption)?;
        let Kind::Adopted { epoch, last } = kind(sealed) else { return None };
        let (followed, before) = self.base.facts.find(sealed.entry.parent?)?;
        if entity(before) != Some(of) {
            return None;
        }
        let logs = self.base.logs;
        let from = match last {
            Some(last) => logs.place_of(before, logs.end(last)?)?,
            // Its own log says where that entry is.
            None => logs.marks(sealed).find_map(|mark: Mark| logs.place_of(before, mark))?,
        };
        let basis = self.base.chains.basis(adoption).ok()?;
        let is_rightful = self.base.may_adopt(basis);
        let (writer, tie) = (sealed.entry.writer, self.tie(adoption)?);
        Some((followed, Claim { entry: adoption, writer, epoch, from, is_rightful, tie }))
    }

    /// Notes what a caller has settled, if it counts.
    fn settle(&mut self, entry: Ix) {
        let Some(sealed) = self.base.facts.get(entry).filter(|_| self.counts(entry).is_ok()) else { return };
        let Kind::Settled(says) = kind(sealed) else { return };
        let Some(admission) = settled(sealed, says, self.base) else { return };
        let held = self.settlements.entry(admission).or_default();
        let at = held.iter().position(|(by, _)| *by == sealed.entry.writer).unwrap_or_else(|| {
            held.push((sealed.entry.writer, Reach::default()));
            held.len() - 1
        });
        let Some((_, reach)) = held.get_mut(at) else { return };
        for mark in says.ends.iter().filter_map(|end| self.base.logs.end(end)) {
            reach.add(mark, self.base.logs);
        }
    }

    /// Whether an entity was never adopted, and who opened it has written an entry behind that: then nothing else has to be asked of
    /// an entry of somebody of whom all counts.
    pub(super) fn is_plainly_owned(&self, thread: &Thread, sealed: &Sealed) -> bool {
        let [only] = thread.tenures.as_slice() else { return false };
        let start = self.base.facts.get(only.start);
        only.writer == sealed.entry.writer
            && only.until.is_none()
            && start.is_some_and(|start| start.entry.sequence < sealed.entry.sequence)
    }

    /// Whether an entry is part of its entity's thread, and counts.
    pub(super) fn is_in_thread(&mut self, entry: Ix) -> Result<(), Refused> {
        let sealed = self.base.facts.get(entry).ok_or(Refused::Absent)?;
        self.counts(entry)?;
        let thread = entity(sealed).and_then(|of| self.of.get(&of)).ok_or(Refused::Owner)?;
        let logs = self.base.logs;
        // What begins a time is held by no other. For the rest, the last time that begins before an entry is the one that it may be in:
        // whatever is before that time's beginning was known to whoever began it.
        let (begins, is_opening) =
            (matches!(kind(sealed), Kind::Opened(_) | Kind::Adopted { .. }), matches!(kind(sealed), Kind::Opened(_)));
        let starts = thread
            .starts
            .get(&sealed.entry.writer)
            .into_iter()
            .flat_map(|starts| starts.range(..=(sealed.entry.sequence, usize::MAX)).rev());
        let mut starts = starts.filter_map(|(_, at)| {
            steps::count(1);
            let tenure = thread.tenures.get(*at)?;
            let is_before = tenure.start == entry || logs.follows(self.base.facts.get(tenure.start)?, sealed);
            is_before.then_some(tenure)
        });
        match starts.next() {
            Some(tenure) if begins && tenure.start == entry => Ok(()),
            _ if begins && is_opening && !self.may_open(entry) => Err(Refused::Opener),
            _ if begins => Err(Refused::Superseded),
            Some(tenure) if tenure.until.is_none_or(|until| logs.leads(sealed, until)) => Ok(()),
            _ => Err(Refused::Owner),
        }
    }
}
