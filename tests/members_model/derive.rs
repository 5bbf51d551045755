//! The rules themselves: one pure function from what is known of a loom to who may write it, who owns what and which entries count.

#[path = "expulsions.rs"]
mod expulsions;
#[path = "owners.rs"]
mod owners;

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

pub(crate) type Id = u64;
pub(crate) type Key = u8;
pub(crate) type Node = u8;
/// The key that minted it, and a number: an id commits to its minter.
pub(crate) type Ent = u16;

pub(crate) const WRITE: u8 = 1;
pub(crate) const ADOPT: u8 = 2;
pub(crate) const ADMIT: u8 = 4;
/// What an entry takes of the bytes of a cast; and an admission that has no bound to speak of.
pub(crate) const SIZE: u32 = 300;
pub(crate) const UNBOUNDED: u32 = u32::MAX;
/// An adoption counts up to here above the epoch that it follows; a fence up to half of it.
pub(crate) const EPOCHS: u64 = 2_000_000;
pub(crate) const FENCES: u64 = 1_000_000;

pub(crate) const fn minter(ent: Ent) -> Key {
    (ent >> 8) as Key
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Who {
    Node(Node),
    Key(Key),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Target {
    Node(Node),
    Key(Key),
    Cert(Node, u8),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Body {
    Founded { record: Option<Node> },
    Opened { ent: Ent, parent: Id },
    Intent { ent: Ent },
    Step { ent: Ent },
    Delegated { ent: Ent, child: Ent },
    Adopted { ent: Ent, follows: Id, epoch: u64 },
    Settled { ent: Ent, child: Ent, admission: Id, tips: Vec<Id> },
    Admitted { who: Who, rights: u8, scope: Option<Ent>, most: u32, key: Option<Key>, names: Vec<Id> },
    Expelled { target: Target, ends: Vec<(Key, u32, Id)> },
    Rewarded { ent: Ent, of: Id, ends: Vec<Id> },
}

/// An entry. Its id is a hash over the id before it too, so that one number is id and chain value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) id: Id,
    pub(crate) prev: Id,
    pub(crate) writer: Key,
    pub(crate) place: u32,
    pub(crate) relies: Id,
    pub(crate) body: Body,
    /// A signature of its writer covers it: true only where the writer's key was at hand.
    pub(crate) signed: bool,
    /// What it takes of the bytes that an admission of its writer has for a cast.
    pub(crate) size: u32,
}

impl Entry {
    pub(crate) fn ent(&self) -> Option<Ent> {
        match &self.body {
            Body::Opened { ent, .. }
            | Body::Intent { ent }
            | Body::Step { ent }
            | Body::Delegated { ent, .. }
            | Body::Adopted { ent, .. }
            | Body::Settled { ent, .. }
            | Body::Rewarded { ent, .. } => Some(*ent),
            Body::Founded { .. } | Body::Admitted { .. } | Body::Expelled { .. } => None,
        }
    }

    pub(crate) const fn is_membership(&self) -> bool {
        matches!(self.body, Body::Admitted { .. } | Body::Expelled { .. })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Record {
    pub(crate) key: Key,
    pub(crate) node: Node,
    pub(crate) begins: u8,
    pub(crate) by_cert: bool,
    pub(crate) by_key: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Succession {
    pub(crate) old: Key,
    pub(crate) new: Key,
    pub(crate) by_old: bool,
    pub(crate) by_new: bool,
}

/// What somebody has of a loom. The loom's id commits to the key and the founding entry.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(crate) founding: Id,
    pub(crate) entries: BTreeMap<Id, Entry>,
    pub(crate) proofs: BTreeMap<Key, u32>,
    pub(crate) records: BTreeSet<Record>,
    pub(crate) successions: BTreeSet<Succession>,
}

/// Generates the set of rules, each of which a test leaves out once.
macro_rules! rules {
    ($($name:ident),* $(,)?) => {
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct Rules { $(pub $name: bool),* }
        impl Rules {
            pub(crate) const ALL: Self = Self { $($name: true),* };
            pub(crate) const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];
            pub(crate) fn without(name: &str) -> Self {
                let mut rules = Self::ALL;
                match name { $(stringify!($name) => rules.$name = false,)* _ => {} }
                rules
            }
        }
    };
}

rules!(
    r2_1_id_commits_to_minter,
    r2_3_named_key_opens,
    r2_3_named_by_minter_only,
    r2_3_first_opening_counts,
    r2_4_founder_is_its_node,
    r3_1_certificate_signs,
    r3_1_writer_signs,
    r3_1_every_record_counts,
    r3_2_successor_is_the_member,
    r3_2_new_key_signs,
    r3_2_adopts_without_right,
    r4_1_admit_is_a_right,
    r4_1_never_more_than_it_has,
    r4_1_principal_matches,
    r4_2_write_admits_hosts,
    r4_2_only_its_own_child,
    r4_2_only_below,
    r4_2_scope_holds_by_the_admission,
    r4_3_relies_on_what_it_names,
    r4_4_expulsion_ends,
    r4_4_chain_value,
    r4_4_unlisted_end_at_0,
    r4_4_only_its_own_chain,
    r4_4_founder_only_by_founder,
    r4_4_rank_of_founders_keys,
    r4_4_lowest_holds,
    r4_4_successors_end,
    r4_4_certified_for_that_node,
    r4_4_readmission_names_it,
    r4_4_readmission_from_above,
    r4_4_readmission_is_handed_on,
    r4_4_from_the_founder_down,
    r4_5_adoption_pins,
    r4_5_settled_pins,
    r4_5_expulsion_pins_against_5_5,
    r4_5_expulsion_pins_only_with_authority,
    r4_5_another_writer_is_another_key,
    r4_5_pinned_is_kept_beside,
    r4_6_one_end_of_a_node,
    r5_2_signature_covers,
    r5_3_only_who_may_adopt,
    r5_3_follows_the_owner,
    r5_3_epoch_is_bounded,
    r5_3_highest_epoch,
    r5_3_tie_by_name,
    r5_3_right_before_no_right,
    r5_4_fence_is_bounded,
    r5_4_above_every_fence,
    r5_4_owner_passes_without_right,
    r5_5_ends_at_the_proof,
    r5_5_earlier_proof_replaces,
    r5_5_membership_stays,
    r6_1_later_is_asked_again,
    r7_2_settled_ends,
    r7_2_ends_what_it_names,
    r7_2_only_by_who_admitted,
    r7_2_or_who_may_adopt,
    r7_2_ends_those_below,
    r7_2_bytes_are_bounded,
    r7_2_bound_for_each_writer,
);

/// What the rules say about a loom.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Answer {
    pub(crate) counting: BTreeSet<Id>,
    pub(crate) owners: BTreeMap<Ent, (Key, Id)>,
    pub(crate) members: BTreeSet<(Who, u8, Option<Ent>)>,
    pub(crate) rewards: BTreeMap<Id, Id>,
}

type Tie = (u8, u8, u8, u32, Id);

#[derive(Debug, Clone)]
pub(crate) struct Tenure {
    pub(crate) start: Id,
    pub(crate) writer: Key,
    pub(crate) epoch: u64,
    follows: Id,
    parent: usize,
    rank: (u64, Reverse<Tie>, u64, Reverse<Tie>),
}

pub(crate) struct Reader<'a> {
    known: &'a Known,
    rules: Rules,
    selves: Vec<Vec<Who>>,
    founder: Key,
    founder_node: Option<Node>,
    chains: RefCell<HashMap<Id, Option<Vec<Id>>>>,
    stands: RefCell<HashMap<Id, bool>>,
    threads: RefCell<HashMap<Ent, Vec<Tenure>>>,
    counts: RefCell<HashMap<Id, bool>>,
    expulsions: Vec<Id>,
    by_ent: BTreeMap<Ent, Vec<Id>>,
    settled: Vec<Id>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(known: &'a Known, rules: Rules) -> Self {
        let mut reader = Self {
            known,
            rules,
            selves: Vec::new(),
            founder: Key::MAX,
            founder_node: None,
            chains: RefCell::default(),
            stands: RefCell::default(),
            threads: RefCell::default(),
            counts: RefCell::default(),
            expulsions: Vec::new(),
            by_ent: BTreeMap::new(),
            settled: Vec::new(),
        };
        if let Some(founding) = known.entries.get(&known.founding) {
            reader.founder = founding.writer;
            if let Body::Founded { record } = founding.body {
                reader.founder_node = record.filter(|_| rules.r2_4_founder_is_its_node);
            }
        }
        reader.selves = reader.find_selves();
        for entry in known.entries.values() {
            if matches!(entry.body, Body::Expelled { .. }) {
                reader.expulsions.push(entry.id);
            }
            if matches!(entry.body, Body::Settled { .. }) {
                reader.settled.push(entry.id);
            }
            if let Some(ent) = entry.ent() {
                reader.by_ent.entry(ent).or_default().push(entry.id);
            }
        }
        reader
    }

    fn get(&self, id: Id) -> Option<&'a Entry> {
        self.known.entries.get(&id)
    }

    fn is_valid(&self, record: Record) -> bool {
        (record.by_cert || !self.rules.r3_1_certificate_signs) && (record.by_key || !self.rules.r3_1_writer_signs)
    }

    fn records(&self, key: Key) -> impl Iterator<Item = &'a Record> + '_ {
        self.known.records.iter().filter(move |record| record.key == key && self.is_valid(**record))
    }

    fn successions(&self) -> impl Iterator<Item = &'a Succession> + '_ {
        let holds = |next: &&Succession| {
            next.by_old && (next.by_new || !self.rules.r3_2_new_key_signs) && self.rules.r3_2_successor_is_the_member
        };
        self.known.successions.iter().filter(holds)
    }

    /// Whom each key can act as: itself, the nodes that it is bound to, and whatever it succeeds.
    fn find_selves(&self) -> Vec<Vec<Who>> {
        let mut selves: Vec<Vec<Who>> = (0..64).map(|key| vec![Who::Key(key)]).collect();
        for record in self.known.records.iter().filter(|record| self.is_valid(**record)) {
            selves[usize::from(record.key)].push(Who::Node(record.node));
        }
        loop {
            let mut changed = false;
            for next in self.successions() {
                for who in selves[usize::from(next.old)].clone() {
                    if !selves[usize::from(next.new)].contains(&who) {
                        selves[usize::from(next.new)].push(who);
                        changed = true;
                    }
                }
            }
            if !changed {
                return selves;
            }
        }
    }

    pub(crate) fn is(&self, key: Key, who: Who) -> bool {
        self.selves[usize::from(key)].contains(&who)
    }

    fn same_member(&self, one: Key, other: Key) -> bool {
        one == other || self.selves[usize::from(one)].iter().any(|who| self.is(other, *who))
    }

    pub(crate) fn is_founder(&self, key: Key) -> bool {
        self.is(key, Who::Key(self.founder)) || self.founder_node.is_some_and(|node| self.is(key, Who::Node(node)))
    }

    /// Certified keys of the founder's node stand above uncertified ones, later certificates above earlier ones.
    fn rank(&self, key: Key) -> u8 {
        let of_node = |record: &&Record| self.founder_node == Some(record.node);
        self.records(key).filter(of_node).map(|record| record.begins).max().unwrap_or(0)
    }

    /// Whether an entry is at or before a head of its writer's history, as far as the way between them is known.
    pub(crate) fn leads_to(&self, entry: &Entry, tip: Id) -> bool {
        let mut at = tip;
        // What no signature covers is no head: a pin that names it would hold only where somebody passed the forgery on.
        let covered = |here: &&Entry| here.signed || !self.rules.r5_2_signature_covers;
        while let Some(here) = self.get(at).filter(covered) {
            if here.id == entry.id {
                return true;
            }
            if here.place <= entry.place || here.writer != entry.writer {
                return false;
            }
            at = here.prev;
        }
        false
    }

    /// The admission that an entry relies on: what it names, or what the newest deciding entry of its entity names.
    fn basis(&self, entry: &Entry) -> Id {
        if !matches!(entry.body, Body::Step { .. } | Body::Delegated { .. }) {
            return entry.relies;
        }
        let mut at = entry.prev;
        while let Some(before) = self.get(at) {
            if before.ent() == entry.ent() && !matches!(before.body, Body::Step { .. } | Body::Delegated { .. }) {
                return before.relies;
            }
            at = before.prev;
        }
        0
    }

    /// An entry and the admissions that lead from it up to the founder. Who was expelled and who equivocated plays no part.
    pub(crate) fn chain(&self, id: Id) -> Option<Vec<Id>> {
        if let Some(chain) = self.chains.borrow().get(&id) {
            return chain.clone();
        }
        let chain = self.find_chain(id);
        self.chains.borrow_mut().insert(id, chain.clone());
        chain
    }

    fn find_chain(&self, id: Id) -> Option<Vec<Id>> {
        let entry = self.get(id)?;
        if !entry.signed && self.rules.r5_2_signature_covers {
            return None;
        }
        if self.is_founder(entry.writer) {
            return Some(vec![id]);
        }
        let named = self.basis(entry);
        let chain = self.relying(entry, named);
        if chain.is_some() || self.rules.r4_3_relies_on_what_it_names {
            return chain;
        }
        // Left out: whatever admission there is will do, also one that came later.
        self.known.entries.keys().filter(|id| **id != named).find_map(|admission| self.relying(entry, *admission))
    }

    fn relying(&self, entry: &Entry, admission: Id) -> Option<Vec<Id>> {
        let by = self.get(admission).filter(|by| by.id != entry.id)?;
        let Body::Admitted { who, rights, .. } = &by.body else { return None };
        if self.rules.r4_1_principal_matches && !self.is(entry.writer, *who) {
            return None;
        }
        let may = match &entry.body {
            Body::Admitted { rights: given, scope, .. } => {
                let is_within = given & !rights == 0 || !self.rules.r4_1_never_more_than_it_has;
                let admits = (rights & ADMIT != 0 || !self.rules.r4_1_admit_is_a_right) && is_within;
                let is_child =
                    |child: Ent| self.same_member(minter(child), entry.writer) || !self.rules.r4_2_only_its_own_child;
                let hosts = self.rules.r4_2_write_admits_hosts
                    && rights & WRITE != 0
                    && *given == WRITE
                    && scope.is_some_and(is_child);
                admits || hosts
            }
            Body::Opened { .. } | Body::Intent { .. } | Body::Settled { .. } | Body::Rewarded { .. } => {
                rights & WRITE != 0
            }
            Body::Step { .. } | Body::Delegated { .. } | Body::Adopted { .. } | Body::Expelled { .. } => true,
            Body::Founded { .. } => false,
        };
        if !may {
            return None;
        }
        // Without the rule that names the basis an endless search could go in a circle.
        if !self.rules.r4_3_relies_on_what_it_names {
            self.chains.borrow_mut().insert(entry.id, None);
        }
        let above = self.chain(admission)?;
        Some([vec![entry.id], above].concat())
    }

    fn scopes(&self, chain: &[Id]) -> impl Iterator<Item = Ent> + '_ {
        let chain = if self.rules.r4_2_only_below { chain } else { &chain[..chain.len().min(1)] };
        let scopes = chain.iter().skip(1).filter_map(|id| match self.get(*id)?.body {
            Body::Admitted { scope, .. } => scope,
            _ => None,
        });
        scopes.collect::<Vec<_>>().into_iter()
    }

    /// Whether an entry decides something, but for who owns its entity.
    pub(crate) fn counts(&self, id: Id) -> bool {
        if let Some(counts) = self.counts.borrow().get(&id) {
            return *counts;
        }
        let counts = self.find_counts(id);
        self.counts.borrow_mut().insert(id, counts);
        counts
    }

    fn find_counts(&self, id: Id) -> bool {
        let (Some(entry), Some(chain)) = (self.get(id), self.chain(id)) else { return false };
        if !self.is_live(entry, &chain) && !self.is_pinned(entry, &chain) {
            return false;
        }
        entry.ent().is_none_or(|ent| self.scopes(&chain).all(|scope| self.is_below(scope, ent)))
    }

    fn is_live(&self, entry: &Entry, chain: &[Id]) -> bool {
        !self.is_after_proof(entry, chain)
            && (0..chain.len()).all(|link| {
                !self.is_cut(chain, link, |_| true) && !self.is_over(chain, link) && !self.is_beyond(chain, link)
            })
    }

    /// The admissions for casts that a link of a chain relies on.
    fn hosting(&self, chain: &[Id], link: usize) -> Vec<&'a Entry> {
        let above = chain.iter().skip(link + 1).filter_map(|id| self.get(*id));
        above.filter(|by| matches!(by.body, Body::Admitted { scope: Some(_), .. })).collect()
    }

    /// Whether who admitted a host has settled the cast before a link of a chain.
    fn is_over(&self, chain: &[Id], link: usize) -> bool {
        let Some(entry) = self.get(chain[link]).filter(|_| self.rules.r7_2_settled_ends) else { return false };
        let only_itself = !self.rules.r7_2_ends_those_below;
        let hosts = self.hosting(chain, link).into_iter().take(if only_itself { 1 } else { usize::MAX });
        hosts.filter(|_| link == 0 || !only_itself).any(|admission| {
            let mut ends = self.settled.iter().filter_map(|id| self.get(*id));
            let ends = ends.by_ref().filter(|by| self.ends(by, admission)).collect::<Vec<_>>();
            let reaches = |by: &&Entry| {
                let Body::Settled { tips, .. } = &by.body else { return false };
                tips.iter().any(|tip| self.leads_to(entry, *tip))
            };
            !ends.is_empty() && !ends.iter().any(reaches)
        })
    }

    /// Whether a settlement ends an admission. It relies on nothing that the admission itself leads to, so this goes towards the founder.
    fn ends(&self, settled: &Entry, admission: &Entry) -> bool {
        let Body::Settled { child, admission: named, .. } = &settled.body else { return false };
        let Body::Admitted { scope, .. } = &admission.body else { return false };
        let (Some(own), Some(of)) = (self.chain(settled.id), self.chain(admission.id)) else { return false };
        (*named == admission.id || !self.rules.r7_2_ends_what_it_names)
            && *scope == Some(*child)
            && (self.may_settle(settled.writer, &own, admission) || !self.rules.r7_2_only_by_who_admitted)
            && own.len() <= of.len()
            && self.is_live(settled, &own)
    }

    /// Whether a cast is over when this writer says so by this chain: it gave the admission, or it may go on with what is others'.
    fn may_settle(&self, writer: Key, own: &[Id], admission: &Entry) -> bool {
        let may_adopt = || {
            let by = own.get(1).map(|id| self.get(*id).map(|by| &by.body));
            by.is_none_or(|by| matches!(by, Some(Body::Admitted { rights, .. }) if rights & ADOPT != 0))
        };
        self.same_member(writer, admission.writer) || self.rules.r7_2_or_who_may_adopt && may_adopt()
    }

    /// Whether a link of a chain is behind as many bytes as an admission allows its writer.
    fn is_beyond(&self, chain: &[Id], link: usize) -> bool {
        let Some(entry) = self.get(chain[link]).filter(|_| self.rules.r7_2_bytes_are_bounded) else { return false };
        // Behind the place of a proof no two nodes need have the same entries.
        let proved = self.known.proofs.get(&entry.writer).copied().unwrap_or(u32::MAX);
        self.hosting(chain, link).into_iter().any(|admission| {
            let Body::Admitted { most, .. } = admission.body else { return false };
            let counts = |other: &&Entry| {
                (other.writer == entry.writer || !self.rules.r7_2_bound_for_each_writer)
                    && (other.place < entry.place || other.id == entry.id)
                    && other.place < proved
                    && self.chain(other.id).is_some_and(|chain| chain[1..].contains(&admission.id))
            };
            let sum = || self.known.entries.values().filter(counts).map(|other| u64::from(other.size)).sum::<u64>();
            most != UNBOUNDED && sum() > u64::from(most)
        })
    }

    /// A node's new key may pin what its old one wrote: it went on from there before the old one's other history came to light.
    fn is_another(&self, one: Key, other: Key) -> bool {
        one != other && (self.rules.r4_5_another_writer_is_another_key || !self.same_member(one, other))
    }

    /// What another counting writer has pinned stays.
    pub(crate) fn is_pinned(&self, entry: &Entry, chain: &[Id]) -> bool {
        let Some(ent) = entry.ent() else { return false };
        let by_adoption = self.rules.r4_5_adoption_pins
            && self.by_ent.get(&ent).into_iter().flatten().filter_map(|id| self.get(*id)).any(|by| {
                let Body::Adopted { follows, .. } = by.body else { return false };
                self.is_another(by.writer, entry.writer)
                    && self.leads_to(entry, follows)
                    && (self.is_rightful(by) || self.same_member(by.writer, entry.writer))
                    && self.counts(by.id)
            });
        by_adoption
            || self.rules.r4_5_settled_pins
                && self.settled.iter().filter_map(|id| self.get(*id)).any(|by| {
                    let Body::Settled { child, admission, tips, .. } = &by.body else { return false };
                    let hosts = self
                        .get(*admission)
                        .filter(|hosts| matches!(hosts.body, Body::Admitted { scope, .. } if scope == Some(*child)));
                    self.is_another(by.writer, entry.writer)
                        && hosts.is_some_and(|hosts| {
                            self.chain(by.id).is_some_and(|own| self.may_settle(by.writer, &own, hosts))
                        })
                        && chain[1..].contains(admission)
                        && tips.iter().any(|tip| self.leads_to(entry, *tip))
                        && self.counts(by.id)
                        && self.is_below(*child, ent)
                })
    }

    /// Whether an entity is another, or below it by words of both sides.
    fn is_below(&self, top: Ent, ent: Ent) -> bool {
        let openings = || self.by_ent.get(&ent).into_iter().flatten().filter_map(|id| self.get(*id));
        let by_admission = self.rules.r4_2_scope_holds_by_the_admission || openings().next().is_none();
        (top == ent && by_admission)
            || openings().any(|entry| {
                let Body::Opened { parent, .. } = entry.body else { return false };
                let Some(named) = self.get(parent) else { return false };
                let Body::Delegated { ent: above, child } = named.body else { return false };
                child == ent
                    && self.may_open(entry)
                    && (top == ent || self.is_below(top, above))
                    && self.is_in_thread(named)
            })
    }
}

/// The answer to what is known.
pub(crate) fn derive(known: &Known, rules: Rules) -> Answer {
    let reader = Reader::new(known, rules);
    let mut answer = Answer::default();
    for entry in known.entries.values() {
        let counts = match entry.body {
            Body::Founded { .. } => entry.id == known.founding,
            Body::Admitted { .. } | Body::Rewarded { .. } => reader.counts(entry.id),
            Body::Expelled { .. } => reader.stands(entry.id),
            _ => reader.is_in_thread(entry),
        };
        if counts {
            answer.counting.insert(entry.id);
        }
        if let (true, Body::Admitted { who, rights, scope, .. }) = (counts, &entry.body) {
            answer.members.insert((*who, *rights, *scope));
        }
    }
    for ent in reader.by_ent.keys() {
        if let Some(last) = reader.thread(*ent).last() {
            answer.owners.insert(*ent, (last.writer, last.start));
        }
    }
    answer.rewards = reader.rewards(&answer.counting);
    answer
}
