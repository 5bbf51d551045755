//! The one way to read entries for a decision: from what is known of a loom to which entries count, who owns what and who may what.
//!
//! For the same set the answer is the same on every node. A part of the set supports a part of it, and what more comes takes
//! nothing back but what an expulsion, a second history or a higher epoch ends.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::chains::{Basis, Chains};
use super::endings::Endings;
use super::expulsions::{Base, Expulsions};
use super::facts::{Facts, Ix, Kind, entity, kind};
use super::known::Known;
use super::logs::Logs;
use super::record::{CheckedRecord, CheckedSuccession};
use super::selves::Selves;
use super::tenures::{Tenure, Tie};
use super::terms::{Admitted, Expelled, NodeId, Principal, Rights, Scope, Target};
use super::threads::Threads;
use super::verdict::Refused;
use crate::domain::ids::{EntityId, EntryId, NodeName, WriterKey};
use crate::domain::limits::FENCE_STEP_MAX;
use crate::domain::loom::{Body, Sealed};
use crate::domain::steps;

/// Who goes on with an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Its key.
    pub writer: WriterKey,
    /// How high its adoption stands; 0 for who opened the entity.
    pub epoch: u64,
    /// The opening or adoption by which it does.
    pub since: EntryId,
}

/// Somebody who was admitted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Who.
    pub principal: Principal,
    /// What it may do.
    pub rights: Rights,
    /// For which child alone.
    pub scope: Option<Scope>,
    /// The admission.
    pub admission: EntryId,
}

/// An adoption as a fence.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) entry: Ix,
    pub(super) epoch: u64,
    pub(super) writer: WriterKey,
    /// Whether its writer is a member.
    pub(super) is_valid: bool,
    pub(super) is_rightful: bool,
}

/// What the entries of a loom decide.
#[derive(Debug)]
pub struct Reader<'a> {
    pub(super) facts: Facts<'a>,
    pub(super) logs: Logs,
    pub(super) selves: Selves,
    pub(super) chains: Chains,
    pub(super) expulsions: Expulsions,
    pub(super) endings: Endings,
    counting: Vec<bool>,
    refused: HashMap<Ix, Refused>,
    tenures: HashMap<EntityId, Vec<Tenure>>,
    /// The adoptions of each entity that a signature covers, whether or not their histories are here.
    adoptions: HashMap<EntityId, Vec<Seen>>,
    founding: Option<Ix>,
}

impl<'a> Reader<'a> {
    /// Reads what is known of a loom.
    pub fn new(known: &Known<'a>) -> Self {
        let facts = Facts::of(&known.entries);
        let founding = founding(known, &facts);
        let founder = founding.and_then(|entry| facts.writer(entry)).map(|key| {
            let record = known.founder.as_ref().filter(|record| record.key() == key);
            (key, record.map(|record| record.node().clone()))
        });
        let mut selves = Selves::new(&known.vouched, founder);
        facts.keys().iter().for_each(|key| selves.learn(*key));
        for (_, sealed) in facts.all() {
            if let Kind::Opened(opened) = kind(sealed) {
                opened.minted.iter().for_each(|minted| selves.learn(minted.by));
            } else if let Kind::Admitted(admitted) = kind(sealed) {
                let keys = admitted.scope.iter().flat_map(|scope| [scope.minted.by, scope.opener]);
                keys.for_each(|key| selves.learn(key));
                if let Principal::Key(key) = &admitted.principal {
                    selves.learn(*key);
                }
            }
        }
        let records = known.vouched.records.iter().map(CheckedRecord::key);
        let successors = known.vouched.successions.iter().map(CheckedSuccession::successor);
        records.chain(successors).for_each(|key| selves.learn(key));
        let logs = Logs::of(known, &facts);
        let chains = Chains::find(&facts, &logs, &selves);
        let base = Base { facts: &facts, logs: &logs, selves: &selves, chains: &chains };
        let expulsions = Expulsions::find(base);
        let (mut counting, mut refused, mut adoptions) =
            (Vec::with_capacity(facts.len()), HashMap::new(), HashMap::new());
        let endings = Endings::find(base, &expulsions);
        let mut threads = Threads::find(base, (&expulsions, &endings), &known.here);
        let plain = facts.keys().iter().map(|key| is_plain(*key, base, &expulsions)).collect::<Vec<_>>();
        for (entry, sealed) in facts.all() {
            steps::count(1);
            if plain.get(facts.key_number(entry)) == Some(&true) && is_plainly_counted(entry, sealed, base, &threads) {
                counting.push(true);
                continue;
            }
            let verdict = verdict(entry, sealed, founding, base, &expulsions, &mut threads);
            counting.push(verdict.is_ok());
            refused.extend(verdict.err().map(|why| (entry, why)));
            if let (Kind::Adopted { epoch, .. }, Some(of), true) =
                (kind(sealed), entity(sealed), logs.is_covered(sealed))
            {
                let basis = chains.basis(entry).ok();
                let is_valid = basis.is_some_and(|basis| threads.lives(sealed, basis).is_ok());
                let is_rightful = basis.is_some_and(|basis| base.may_adopt(basis));
                let seen = Seen { entry, epoch, writer: sealed.entry.writer, is_valid, is_rightful };
                adoptions.entry(of).or_insert_with(Vec::new).push(seen);
            }
        }
        let tenures = threads.of.into_iter().map(|(of, thread)| (of, thread.tenures)).collect();
        Self { facts, logs, selves, chains, expulsions, endings, counting, refused, tenures, adoptions, founding }
    }

    pub(super) fn base(&self) -> Base<'_, 'a> {
        Base { facts: &self.facts, logs: &self.logs, selves: &self.selves, chains: &self.chains }
    }

    /// Whether an entry decides anything.
    ///
    /// # Errors
    /// Why it does not.
    pub fn counts(&self, id: EntryId) -> Result<(), Refused> {
        self.facts.number(id).map_or(Err(Refused::Absent), |entry| self.verdict(entry))
    }

    pub(super) fn verdict(&self, entry: Ix) -> Result<(), Refused> {
        let counts = usize::try_from(entry).ok().and_then(|entry| self.counting.get(entry));
        if counts == Some(&true) { Ok(()) } else { Err(self.refused.get(&entry).copied().unwrap_or(Refused::Absent)) }
    }

    /// The entries that decide something.
    pub fn counting(&self) -> impl Iterator<Item = &'a Sealed> + '_ {
        let all = self.facts.all().zip(&self.counting);
        all.filter(|(_, counts)| **counts).map(|((_, sealed), _)| sealed)
    }

    /// The entries that decide nothing, each with the reason.
    pub fn refused(&self) -> impl Iterator<Item = (&'a Sealed, Refused)> + '_ {
        self.facts.all().filter_map(|(entry, sealed)| Some((sealed, self.verdict(entry).err()?)))
    }

    /// The loom's founder; nothing where its founding entry is not here.
    pub fn founder(&self) -> Option<Principal> {
        self.selves.founder()
    }

    /// The key that wrote the founding entry.
    pub fn founding_key(&self) -> Option<WriterKey> {
        self.facts.writer(self.founding?)
    }

    /// Whether a key is the founder's.
    pub fn is_founder(&self, key: WriterKey) -> bool {
        self.founding.is_some() && self.selves.is_founder(key)
    }

    /// Who goes on with an entity, as far as its history is here.
    pub fn owner(&self, entity: EntityId) -> Option<Owner> {
        let last = self.tenures.get(&entity)?.last()?;
        let since = self.facts.get(last.start)?.id;
        Some(Owner { writer: last.writer, epoch: last.epoch, since })
    }

    /// The entities that somebody owns.
    pub fn owned(&self) -> impl Iterator<Item = EntityId> + '_ {
        self.tenures.iter().filter(|(_, tenures)| !tenures.is_empty()).map(|(entity, _)| *entity)
    }

    /// The epoch that an adoption takes now: above that of the owner, and above every adoption and fence of the entity that was seen
    /// and is within reach. Nothing for an entity that nobody owns.
    pub fn next_epoch(&self, entity: EntityId, fences: &[u64]) -> Option<u64> {
        let epoch = self.owner(entity)?.epoch;
        let reach = epoch.saturating_add(FENCE_STEP_MAX);
        let seen = self.claims(entity).map(|claim| claim.epoch).chain(fences.iter().copied());
        seen.filter(|fence| *fence <= reach).fold(epoch, u64::max).checked_add(1)
    }

    pub(super) fn claims(&self, entity: EntityId) -> impl Iterator<Item = &Seen> + '_ {
        self.adoptions.get(&entity).into_iter().flatten()
    }

    /// The entries about the loom as a whole that a later version wrote and that decide something: by the founder, or by members who
    /// may admit others. With one of them the loom is read here and not written.
    pub fn later(&self) -> impl Iterator<Item = &'a Sealed> + '_ {
        self.counting().filter(|sealed| matches!(kind(sealed), Kind::Later))
    }

    /// Whether two keys are of one member: of one node, or one in the place of the other.
    pub fn is_same_member(&self, one: WriterKey, other: WriterKey) -> bool {
        self.selves.same_member(one, other)
    }

    /// Whether a key is somebody's: its own, of its node, or in the place of one of its keys.
    pub fn is_of(&self, key: WriterKey, principal: &Principal) -> bool {
        self.selves.is(key, principal)
    }

    /// The nodes of this name that the loom's record or the keys of its writers name.
    pub fn nodes_named(&self, name: &NodeName) -> BTreeSet<NodeId> {
        let admitted = self.members().into_iter().map(|member| member.principal).chain(self.founder());
        let named = admitted.filter_map(|principal| match principal {
            Principal::Node(node) => Some(node),
            Principal::Key(_) => None,
        });
        named.chain(self.selves.nodes().cloned()).filter(|node| node.name == *name).collect()
    }

    /// Those of these keys that an expulsion of somebody would be about.
    pub fn keys_of(&self, target: &Target, keys: &[WriterKey]) -> Vec<WriterKey> {
        let is_named = |key: &&WriterKey| match target {
            Target::Node(node) => self.selves.is(**key, &Principal::Node(node.clone())),
            Target::Key(named) => self.selves.is(**key, &Principal::Key(*named)),
            Target::Certificate(certificate) => self.selves.only_by(**key, *certificate),
        };
        keys.iter().filter(is_named).copied().collect()
    }

    /// The expulsions that decide something, each with the key that wrote it.
    pub fn expulsions(&self) -> impl Iterator<Item = (&'a Sealed, &'a Expelled)> + '_ {
        self.counting().filter_map(|sealed| {
            if let Kind::Expelled(expelled) = kind(sealed) { Some((sealed, expelled)) } else { None }
        })
    }

    /// Who goes on with an entity in place of its owner here, by an adoption whose history may not be here yet; nothing: nobody.
    pub fn fenced_by(&self, entity: EntityId) -> Option<WriterKey> {
        let epoch = self.fence(entity, &[])?;
        self.claims(entity).find(|claim| claim.epoch == epoch && claim.is_valid).map(|claim| claim.writer)
    }

    /// The entities that somebody has adopted, each with the adoption that its former owners have to respect: the highest that was
    /// seen, or that of its owner.
    pub fn fences(&self) -> Vec<(EntityId, &'a Sealed)> {
        let of = |entity: &EntityId| {
            let epoch = self.fence(*entity, &[]);
            let fencing = epoch.and_then(|epoch| self.claims(*entity).find(|it| it.epoch == epoch && it.is_valid));
            let entry = match fencing {
                Some(claim) => claim.entry,
                None => self.tenures.get(entity)?.last().filter(|last| last.epoch > 0)?.start,
            };
            self.facts.get(entry).map(|sealed| (*entity, sealed))
        };
        self.adoptions.keys().filter_map(of).collect()
    }

    /// The judgements of an entry that no other goes beyond: what one more has to name.
    pub fn reward_ends(&self, of: EntryId) -> Vec<EntryId> {
        let (mut judged, mut named) = (Vec::new(), HashSet::new());
        for sealed in self.counting().filter(|sealed| sealed.entry.parent == Some(of)) {
            let Kind::Rewarded(ends) = kind(sealed) else { continue };
            judged.push(sealed.id);
            named.extend(ends.iter().copied());
        }
        judged.retain(|id| !named.contains(id));
        judged
    }

    /// Who was ever admitted by an admission that decides something. What an expulsion has ended since says [`Reader::ended_by`].
    pub fn members(&self) -> BTreeSet<Member> {
        let mut members = BTreeSet::new();
        for sealed in self.counting() {
            if let Kind::Admitted(admitted) = kind(sealed) {
                let Admitted { principal, rights, scope, .. } = admitted.clone();
                members.insert(Member { principal, rights, scope, admission: sealed.id });
            }
        }
        members
    }

    /// The founder, and whoever was ever admitted to the whole loom: whose logs are kept.
    pub fn loom_members(&self) -> BTreeSet<Principal> {
        let members = self.members().into_iter().filter(|member| member.scope.is_none());
        let members = members.map(|member| member.principal).chain(self.founder());
        // The key that made the loom's id needs nobody to vouch for it.
        members.chain(self.founding_key().map(Principal::Key)).collect()
    }

    /// As whom a key is the founder or a member of the whole loom.
    pub fn named(&self, key: WriterKey) -> Option<Principal> {
        let members = self.loom_members();
        let mut own = self.selves.principals(key).into_iter().filter(|principal| members.contains(principal));
        // A name says more than a key.
        own.clone().find(|principal| matches!(principal, Principal::Node(_))).or_else(|| own.next())
    }

    /// Whether a key can act as one of these: by itself, as a node that it is bound to, or in the place of another.
    pub fn acts_as(&self, key: WriterKey, members: &BTreeSet<Principal>) -> bool {
        self.selves.principals(key).iter().any(|principal| members.contains(principal))
    }

    /// The judgement of each entry that holds. Of several that nobody went beyond, one of each node is left, its last; and of
    /// these the first by founder, authority and name.
    pub fn rewards(&self) -> BTreeMap<EntryId, EntryId> {
        type Last<'a> = HashMap<(EntryId, Option<Principal>), &'a Sealed>;
        let mut last: Last<'a> = HashMap::new();
        let mut named: HashSet<EntryId> = HashSet::new();
        for sealed in self.counting() {
            let (Kind::Rewarded(ends), Some(of)) = (kind(sealed), sealed.entry.parent) else { continue };
            steps::count(1 + ends.len() as u64);
            named.extend(ends);
            let held = last.entry((of, self.name_of(sealed))).or_insert(sealed);
            let (here, there) = (&sealed.entry, &held.entry);
            // Of one key the later holds, of two keys of a node the lower key.
            let is_later = here.writer == there.writer && (here.sequence, sealed.id) > (there.sequence, held.id);
            if here.writer < there.writer || is_later {
                *held = sealed;
            }
        }
        let mut best: BTreeMap<EntryId, (Tie, EntryId)> = BTreeMap::new();
        for ((of, name), sealed) in last {
            if named.contains(&sealed.id) {
                continue;
            }
            let tie = (name, sealed.entry.sequence, sealed.id);
            let held = best.entry(of).or_insert_with(|| (tie.clone(), sealed.id));
            if tie < held.0 {
                *held = (tie, sealed.id);
            }
        }
        best.into_iter().map(|(of, (_, id))| (of, id)).collect()
    }

    /// As whom an entry was written: nothing for the founder.
    fn name_of(&self, sealed: &Sealed) -> Option<Principal> {
        let entry = self.facts.number(sealed.id)?;
        let basis = self.chains.basis(entry).ok()?;
        self.base().admitted(basis).map(|admitted| admitted.principal.clone())
    }

    /// The cast by whose admission an entry was written: its writer is a host there, and may be known by nothing else.
    pub fn cast_of(&self, id: EntryId) -> Option<EntityId> {
        let basis = self.chains.basis(self.facts.number(id)?).ok()?;
        self.base().admitted(basis)?.scope.map(|scope| scope.entity)
    }

    /// The name of a member's node, for people; nothing for a bare key.
    pub fn node_of(&self, sealed: &Sealed) -> Option<NodeName> {
        match self.name_of(sealed).or_else(|| self.founder())? {
            Principal::Node(node) => Some(node.name),
            Principal::Key(_) => None,
        }
    }
}

/// The founding entry: the first of its writer's log, and what the loom's id commits to.
fn founding(known: &Known<'_>, facts: &Facts<'_>) -> Option<Ix> {
    let founds = |sealed: &Sealed| {
        let Body::Founded { nonce, member } = &sealed.entry.body else { return false };
        let record = member.as_ref().map(|bytes| bytes.as_slice());
        let entry = &sealed.entry;
        let is_first = (entry.loom, entry.sequence, entry.parent) == (known.loom, 1, None);
        is_first && known.loom.is_minted_by(&entry.writer, nonce, record)
    };
    facts.all().find(|(_, sealed)| founds(sealed)).map(|(entry, _)| entry)
}

/// Whether all that a key signs counts, but for who owns an entity: the founder's, of whom nobody has expelled or proved anything.
fn is_plain(key: WriterKey, base: Base<'_, '_>, expulsions: &Expulsions) -> bool {
    base.selves.is_founder(key)
        && base.logs.simple(key).is_some()
        && base.logs.proved(key).is_none()
        && expulsions.leave_all((key, Basis::Founder))
}

/// Whether a founder's entry goes on with an entity that it opened and nobody adopted.
fn is_plainly_counted(entry: Ix, sealed: &Sealed, base: Base<'_, '_>, threads: &Threads<'_, '_>) -> bool {
    matches!(kind(sealed), Kind::Intent | Kind::Step | Kind::Delegated(_) | Kind::Settled(_))
        && base.chains.basis(entry) == Ok(Basis::Founder)
        && sealed
            .entry
            .entity
            .and_then(|of| threads.of.get(&of))
            .is_some_and(|thread| threads.is_plainly_owned(thread, sealed))
}

fn verdict(
    entry: Ix,
    sealed: &Sealed,
    founding: Option<Ix>,
    base: Base<'_, '_>,
    expulsions: &Expulsions,
    threads: &mut Threads<'_, '_>,
) -> Result<(), Refused> {
    match kind(sealed) {
        Kind::Founded if Some(entry) == founding => Ok(()),
        Kind::Founded => Err(Refused::Founding),
        Kind::Expelled(_) => {
            let basis = base.chains.basis(entry)?;
            if expulsions.stands(entry) {
                Ok(())
            } else {
                Err(expulsions.allow(sealed, basis, base).err().unwrap_or(Refused::Absent))
            }
        }
        Kind::Admitted(_) | Kind::Rewarded(_) | Kind::Remark | Kind::Keeping => threads.counts(entry),
        // A host's word is about its cast alone.
        Kind::Later => match base.chains.scopes(base.chains.scopes_number(base.chains.basis(entry)?)).next() {
            Some(of) => Err(Refused::Scope(of)),
            None => threads.counts(entry),
        },
        // That of a root elsewhere is in nobody's thread.
        Kind::Settled(_) if entity(sealed).is_none() => threads.counts(entry),
        Kind::Opened(_) | Kind::Intent | Kind::Step | Kind::Delegated(_) | Kind::Adopted { .. } | Kind::Settled(_) => {
            threads.is_in_thread(entry)
        }
    }
}
