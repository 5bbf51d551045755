//! On which admission each entry relies, and by which admissions that one leads up to the founder.
//!
//! Who was expelled and who has two histories plays no part here. An entry's id is a hash over the id of what it relies on, so
//! no chain goes in a circle.

use std::collections::HashMap;

use super::facts::{Facts, Ix, Kind, entity, kind};
use super::logs::Logs;
use super::selves::Selves;
use super::terms::{Admitted, Right, Rights, Scope};
use super::verdict::Refused;
use crate::domain::ids::{EntityId, EntryId, WriterKey};
use crate::domain::limits::ADMISSION_DEPTH_MAX;
use crate::domain::loom::{Minted, Sealed};
use crate::domain::steps;

/// By what a writer may write an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Basis {
    /// It is the founder.
    Founder,
    /// An admission.
    By(Ix),
}

/// What was found of an entry. Why there is nothing stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Waits,
    Nothing,
    Basis(Basis),
}

/// An admission that leads up to the founder.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    /// By what its writer may admit.
    pub(super) above: Basis,
    /// How many admissions lead to it, itself included.
    pub(super) depth: u32,
    /// What it and those above it are for, as a number.
    scopes: u32,
}

/// The chains of all entries.
#[derive(Debug, Default)]
pub(super) struct Chains {
    of: Vec<Found>,
    refused: HashMap<Ix, Refused>,
    links: HashMap<Ix, Link>,
    named: HashMap<Ix, Option<EntryId>>,
    /// Lists of scopes, from 1 on, each with the list that it is longer than: 0 is the one without any.
    scopes: Vec<(u32, EntityId)>,
    longer: HashMap<(u32, EntityId), u32>,
}

/// Which key has minted an id, if it commits to what is said of it.
pub(super) fn minter(entity: EntityId, minted: &Minted) -> Option<WriterKey> {
    entity.is_minted_by(&minted.by, &minted.nonce).then_some(minted.by)
}

impl Chains {
    pub(super) fn find(facts: &Facts<'_>, logs: &Logs, selves: &Selves) -> Self {
        let mut chains = Self { of: vec![Found::Waits; facts.len()], ..Self::default() };
        // Most looms have one writer, who needs no admission.
        let founders = facts.keys().iter().map(|key| logs.simple(*key).filter(|_| selves.is_founder(*key)));
        let founders = founders.collect::<Vec<_>>();
        let mut pending = Vec::new();
        for (entry, sealed) in facts.all() {
            let founder = founders.get(facts.key_number(entry)).copied().flatten();
            if founder.is_some_and(|log| log.signed_at(sealed.entry.sequence) == Some(sealed.id)) {
                chains.keep(entry, sealed, Ok(Basis::Founder));
                continue;
            }
            pending.push(entry);
            while let Some(next) = pending.pop() {
                steps::count(1);
                let Some(sealed) = facts.get(next).filter(|_| chains.at(next).is_none()) else { continue };
                match chains.judge(sealed, next, facts, logs, selves) {
                    Ok(found) => chains.keep(next, sealed, found),
                    // What it relies on comes first.
                    Err(first) => pending.extend([next, first]),
                }
            }
        }
        chains
    }

    fn at(&self, entry: Ix) -> Option<Result<Basis, Refused>> {
        match self.of.get(usize::try_from(entry).ok()?)? {
            Found::Waits => None,
            Found::Nothing => Some(Err(self.refused.get(&entry).copied().unwrap_or(Refused::Absent))),
            Found::Basis(basis) => Some(Ok(*basis)),
        }
    }

    fn keep(&mut self, entry: Ix, sealed: &Sealed, found: Result<Basis, Refused>) {
        if let (Ok(above), Kind::Admitted(admitted)) = (found, kind(sealed)) {
            let depth = self.depth(above).saturating_add(1);
            let scopes = admitted
                .scope
                .as_ref()
                .map_or(self.scopes_number(above), |scope| self.with_scope(self.scopes_number(above), scope.entity));
            self.links.insert(entry, Link { above, depth, scopes });
        }
        if let Err(refused) = found {
            self.refused.insert(entry, refused);
        }
        if let Some(held) = usize::try_from(entry).ok().and_then(|entry| self.of.get_mut(entry)) {
            *held = found.map_or(Found::Nothing, Found::Basis);
        }
    }

    fn with_scope(&mut self, list: u32, scope: EntityId) -> u32 {
        if self.scopes(list).any(|held| held == scope) {
            return list;
        }
        if let Some(longer) = self.longer.get(&(list, scope)) {
            return *longer;
        }
        self.scopes.push((list, scope));
        let number = u32::try_from(self.scopes.len()).unwrap_or(u32::MAX);
        self.longer.insert((list, scope), number);
        number
    }

    /// The basis of an entry, why it has none, or which entry is to be judged before it.
    fn judge(
        &mut self,
        sealed: &Sealed,
        entry: Ix,
        facts: &Facts<'_>,
        logs: &Logs,
        selves: &Selves,
    ) -> Result<Result<Basis, Refused>, Ix> {
        if !logs.is_covered(sealed) {
            return Ok(Err(Refused::Uncovered));
        }
        if selves.is_founder(sealed.entry.writer) {
            return Ok(Ok(Basis::Founder));
        }
        let Some(named) = self.named(sealed, entry, facts) else { return Ok(Err(Refused::Unnamed)) };
        let Some((by, admission)) = facts.find(named) else { return Ok(Err(Refused::Missing(named))) };
        let Kind::Admitted(admitted) = kind(admission) else { return Ok(Err(Refused::NoAdmission(named))) };
        if !selves.is(sealed.entry.writer, &admitted.principal) {
            return Ok(Err(Refused::Another(named)));
        }
        if let Err(refused) = gives(sealed, named, admitted, selves) {
            return Ok(Err(refused));
        }
        match self.at(by) {
            None => Err(by),
            Some(Err(_)) => Ok(Err(Refused::Admission(named))),
            Some(Ok(_)) if self.depth(Basis::By(by)) >= ADMISSION_DEPTH_MAX => {
                Ok(Err(Refused::Depth { max: ADMISSION_DEPTH_MAX }))
            }
            Some(Ok(_)) => Ok(Ok(Basis::By(by))),
        }
    }

    /// The admission that an entry names, or that the newest deciding entry names which it follows.
    fn named(&mut self, sealed: &Sealed, entry: Ix, facts: &Facts<'_>) -> Option<EntryId> {
        let (mut at, mut here, mut passed) = (entry, sealed, Vec::new());
        let named = loop {
            steps::count(1);
            if kind(here).names_its_basis() {
                break here.entry.relies;
            }
            if let Some(named) = self.named.get(&at) {
                break *named;
            }
            passed.push(at);
            let before = here.entry.parent.and_then(|parent| facts.find(parent));
            let same = |before: &Sealed| {
                before.entry.writer == here.entry.writer && entity(before).is_some() && entity(before) == entity(here)
            };
            match before.filter(|(_, before)| same(before)) {
                Some(before) => (at, here) = before,
                None => break None,
            }
        };
        self.named.extend(passed.into_iter().map(|passed| (passed, named)));
        named
    }

    /// By what an entry's writer may write it.
    pub(super) fn basis(&self, entry: Ix) -> Result<Basis, Refused> {
        self.at(entry).unwrap_or(Err(Refused::Absent))
    }

    /// How many admissions lead from the founder.
    pub(super) fn depth(&self, basis: Basis) -> u32 {
        self.link(basis).map_or(0, |link| link.depth)
    }

    pub(super) fn link(&self, basis: Basis) -> Option<&Link> {
        match basis {
            Basis::Founder => None,
            Basis::By(admission) => self.links.get(&admission),
        }
    }

    /// The admissions from a basis up to the founder: at most [`ADMISSION_DEPTH_MAX`].
    pub(super) fn up(&self, basis: Basis) -> impl Iterator<Item = (Ix, &Link)> + '_ {
        let first = move |basis| match basis {
            Basis::Founder => None,
            Basis::By(admission) => self.links.get(&admission).map(|link| (admission, link)),
        };
        std::iter::successors(first(basis), move |(_, link)| first(link.above))
    }

    pub(super) fn scopes_number(&self, basis: Basis) -> u32 {
        self.link(basis).map_or(0, |link| link.scopes)
    }

    /// What the admissions of a list are for: at most as many as lead from the founder.
    pub(super) fn scopes(&self, list: u32) -> impl Iterator<Item = EntityId> + '_ {
        let get = |list: u32| self.scopes.get(usize::try_from(list).ok()?.checked_sub(1)?).copied();
        std::iter::successors(get(list), move |(shorter, _)| get(*shorter)).map(|(_, scope)| scope)
    }

    /// Whether each scope of one list is in another.
    pub(super) fn is_within(&self, list: u32, other: u32) -> bool {
        list == other || self.scopes(list).all(|scope| self.scopes(other).any(|held| held == scope))
    }
}

/// Whether an admission gives what an entry takes.
fn gives(sealed: &Sealed, admission: EntryId, admitted: &Admitted, selves: &Selves) -> Result<(), Refused> {
    match kind(sealed) {
        Kind::Admitted(given) => admits(sealed.entry.writer, admission, &admitted.rights, given, selves),
        Kind::Opened(_) | Kind::Intent | Kind::Settled(_) | Kind::Rewarded(_) | Kind::Remark | Kind::Keeping => {
            let right = Right::Write;
            if admitted.rights.has(right) { Ok(()) } else { Err(Refused::Right { admission, right }) }
        }
        // Whatever it is, it stops whoever does not know it: for that its writer has to be above them.
        Kind::Later if !admitted.rights.has(Right::Admit) => Err(Refused::Right { admission, right: Right::Admit }),
        Kind::Step | Kind::Delegated(_) | Kind::Adopted { .. } | Kind::Expelled(_) | Kind::Later => Ok(()),
        Kind::Founded => Err(Refused::Founding),
    }
}

/// Whether rights cover an admission: by `admit`, or as the host of a child of its writer's own making.
pub(super) fn admits(
    writer: WriterKey,
    admission: EntryId,
    rights: &Rights,
    given: &Admitted,
    selves: &Selves,
) -> Result<(), Refused> {
    let is_within = given.rights.is_within(rights);
    if rights.has(Right::Admit) && is_within {
        return Ok(());
    }
    let (hosts, write): (_, Rights) = (given.scope.as_ref(), std::iter::once(Right::Write).collect());
    let Some(scope) = hosts.filter(|_| given.rights == write) else {
        let right = Right::Admit;
        return Err(if is_within { Refused::Right { admission, right } } else { Refused::More(admission) });
    };
    if !rights.has(Right::Write) {
        return Err(Refused::Right { admission, right: Right::Write });
    }
    if is_of(scope, writer, selves) { Ok(()) } else { Err(Refused::NotItsChild(scope.entity)) }
}

/// Whether a cast is of a child that a writer has minted, under whichever of its keys.
pub(super) fn is_of(scope: &Scope, writer: WriterKey, selves: &Selves) -> bool {
    minter(scope.entity, &scope.minted).is_some_and(|minter| selves.same_member(minter, writer))
}
