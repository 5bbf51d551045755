//! What a key may do next in a loom, and what it has to name for it.

use super::chains::{Basis, admits, is_of};
use super::expulsions::{may_end, renewed};
use super::facts::{Ix, Kind, kind};
use super::reader::{Member, Reader};
use super::terms::{Admitted, Principal, Right, Target};
use super::verdict::Refused;
use crate::domain::ids::{EntityId, EntryId, WriterKey};
use crate::domain::limits::FENCE_STEP_MAX;

/// What somebody wants to do in a loom.
#[derive(Debug, Clone, Copy)]
pub enum Deed<'d> {
    /// Open an entity of its own, fork, judge, or begin an episode.
    Write,
    /// Open a child that another has minted.
    Host(EntityId),
    /// Go on with an entity.
    Adopt(EntityId),
    /// Go on with an entity of somebody else's, whichever that is.
    AdoptAny,
    /// Admit somebody.
    Admit(&'d Admitted),
    /// Expel somebody. What it is worth is seen at each admission.
    Expel,
}

impl Reader<'_> {
    /// Whether a key may do something now, and the admission that its entry has to name: none for the founder.
    ///
    /// # Errors
    /// Why not: of several admissions, what is in the way of the one with the most rights.
    pub fn may(&self, key: WriterKey, deed: Deed<'_>) -> Result<Option<EntryId>, Refused> {
        if let Some(place) = self.logs.proved(key) {
            return Err(Refused::Equivocated { place });
        }
        if self.is_founder(key) {
            self.is_free(key, Basis::Founder)?;
            // As a host it names the admission that made it one.
            if let Deed::Host(child) = deed {
                return self
                    .admissions()
                    .find(|(entry, _, by)| self.hosts((*entry, by), child, key))
                    .map(|(_, id, _)| Some(id))
                    .ok_or(Refused::Opener);
            }
            return Ok(None);
        }
        let mut own = self.admissions().filter(|(_, _, by)| self.selves.is(key, &by.principal)).collect::<Vec<_>>();
        // For the whole loom before for one cast, with more rights before with fewer, near the founder before far from it.
        own.sort_by_key(|(entry, id, by)| {
            let rights = usize::MAX - by.rights.0.len();
            (self.chains.scopes_number(Basis::By(*entry)) != 0, rights, self.chains.depth(Basis::By(*entry)), *id)
        });
        let mut refused = Err(Refused::Unnamed);
        for (entry, id, by) in own {
            let may = self.is_free(key, Basis::By(entry)).and_then(|()| self.gives(key, (entry, id), by, deed));
            match may {
                Ok(()) => return Ok(Some(id)),
                Err(why) if refused == Err(Refused::Unnamed) => refused = Err(why),
                Err(_) => {}
            }
        }
        refused
    }

    /// The admissions that decide something.
    fn admissions(&self) -> impl Iterator<Item = (Ix, EntryId, &Admitted)> + '_ {
        self.facts.all().filter(|(entry, _)| self.verdict(*entry).is_ok()).filter_map(|(entry, sealed)| {
            if let Kind::Admitted(admitted) = kind(sealed) { Some((entry, sealed.id, admitted)) } else { None }
        })
    }

    /// Whether an admission is of a host for a child that its writer has minted.
    fn hosts(&self, (entry, by): (Ix, &Admitted), child: EntityId, key: WriterKey) -> bool {
        by.scope.is_some_and(|scope| {
            let is_its = self.facts.writer(entry).is_some_and(|writer| is_of(&scope, writer, &self.selves));
            is_its && scope.entity == child && scope.opener == key
        })
    }

    /// Whether no expulsion and no settlement ends what a key writes next by an admission.
    fn is_free(&self, key: WriterKey, basis: Basis) -> Result<(), Refused> {
        let by = self.expulsions.judges((key, basis), self.base()).into_iter();
        let by = by.filter_map(|by| self.facts.get(by)).map(|by| by.id).min();
        by.map_or(Ok(()), |by| Err(Refused::Expelled(by)))?;
        self.endings.goes_on(key, basis, self.base())
    }

    fn gives(&self, key: WriterKey, (entry, id): (Ix, EntryId), by: &Admitted, deed: Deed<'_>) -> Result<(), Refused> {
        let has = |right| if by.rights.has(right) { Ok(()) } else { Err(Refused::Right { admission: id, right }) };
        let in_loom = by.scope.map_or(Ok(()), |scope| Err(Refused::Scope(scope.entity)));
        match deed {
            Deed::Write => in_loom.and_then(|()| has(Right::Write)),
            Deed::Host(child) if self.hosts((entry, by), child, key) => has(Right::Write),
            Deed::Host(_) => Err(Refused::Opener),
            Deed::AdoptAny => in_loom.and_then(|()| has(Right::Adopt)),
            Deed::Adopt(entity) => {
                let owner = self.owner(entity);
                if owner.is_none() {
                    return Err(Refused::Owner);
                }
                let is_own = owner.is_some_and(|owner| self.selves.same_member(owner.writer, key));
                let is_its =
                    owner.and_then(|owner| self.facts.number(owner.since)).map(|since| self.chains.basis(since));
                // A further intent may come with an admission of its own for the same child.
                let is_for_it = by.scope.is_some_and(|scope| scope.entity == entity);
                match in_loom {
                    Err(why) if !(is_own && (is_for_it || is_its == Some(Ok(Basis::By(entry))))) => Err(why),
                    _ if is_own => Ok(()),
                    _ => has(Right::Adopt),
                }
            }
            Deed::Admit(given) => admits(key, id, &by.rights, given, &self.selves),
            Deed::Expel => Ok(()),
        }
    }

    /// The highest epoch of an entity that its owner has to respect: above its own, of an adoption by who may adopt or of a fence that
    /// was seen, and within reach. Nothing: it goes on.
    pub fn fence(&self, entity: EntityId, fences: &[u64]) -> Option<u64> {
        let owner = self.owner(entity)?;
        let reach = owner.epoch.saturating_add(FENCE_STEP_MAX);
        let adopted = self.claims(entity).filter(|claim| {
            claim.is_valid && (claim.is_rightful || self.selves.same_member(claim.writer, owner.writer))
        });
        let seen = adopted.map(|claim| claim.epoch).chain(fences.iter().copied());
        seen.filter(|epoch| *epoch > owner.epoch && *epoch <= reach).max()
    }

    /// What an admission of somebody has to name so that it ends that one's expulsions: these themselves where its writer has a say
    /// over them, else an earlier admission that has ended them.
    ///
    /// # Errors
    /// An expulsion that its writer can end in neither way.
    pub fn again(
        &self,
        by: WriterKey,
        relies: Option<EntryId>,
        principal: &Principal,
    ) -> Result<Vec<EntryId>, EntryId> {
        let basis = relies.and_then(|relies| self.facts.number(relies)).map_or(Basis::Founder, Basis::By);
        let (base, mut named) = (self.base(), Vec::new());
        for expulsion in self.expulsions.standing().filter(|expulsion| self.is_about(*expulsion, principal)) {
            let Some(sealed) = self.facts.get(expulsion) else { continue };
            if may_end(by, expulsion, base) {
                named.push(sealed.id);
                continue;
            }
            let same = |of: &&(Ix, EntryId, &Admitted)| of.2.principal == *principal && of.2.scope.is_none();
            let all = self.admissions().collect::<Vec<_>>();
            let before = all.iter().rev().filter(same).find(|(entry, ..)| renewed(*entry, base).contains(&expulsion));
            if let Some((_, id, _)) = before {
                named.push(*id);
                continue;
            }
            let writer = sealed.entry.writer;
            let is_above =
                |entry: Ix| self.facts.writer(entry).is_some_and(|above| self.selves.same_member(above, writer));
            if self.is_founder(writer) || self.chains.up(basis).any(|(entry, _)| is_above(entry)) {
                return Err(sealed.id);
            }
        }
        named.sort_unstable();
        named.dedup();
        Ok(named)
    }

    /// The expulsion of a member that its admission has not ended: it is no member any more.
    pub fn ended_by(&self, member: &Member) -> Option<EntryId> {
        let admission = self.facts.number(member.admission)?;
        let ended = renewed(admission, self.base());
        let about = self.expulsions.standing().filter(|it| self.is_about(*it, &member.principal));
        let mut standing = about.filter(|it| !ended.contains(it)).filter_map(|it| self.facts.get(it));
        standing.next().map(|sealed| sealed.id)
    }

    /// Whether an expulsion is of a principal as such. One of a single key of a node, or of a lost certificate, stays.
    fn is_about(&self, expulsion: Ix, principal: &Principal) -> bool {
        let Some(Kind::Expelled(expelled)) = self.facts.get(expulsion).map(kind) else { return false };
        match (&expelled.target, principal) {
            (Target::Node(node), Principal::Node(of)) => node == of,
            (Target::Key(named), Principal::Key(key)) => named == key || self.selves.is(*key, &Principal::Key(*named)),
            (Target::Node(node), Principal::Key(key)) => self.selves.is(*key, &Principal::Node(node.clone())),
            (Target::Key(_), Principal::Node(_)) | (Target::Certificate(_), _) => false,
        }
    }
}
