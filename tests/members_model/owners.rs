//! Who goes on with an entity, which of its entries are in its thread, and which judgements hold.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::{ADOPT, Body, EPOCHS, Ent, Entry, Id, Key, Reader, Tenure, Tie, Who, minter};

impl Reader<'_> {
    pub(super) fn may_open(&self, entry: &Entry) -> bool {
        let (Some(ent), Some(_)) = (entry.ent(), self.chain(entry.id)) else { return false };
        entry.writer == minter(ent) || !self.rules.r2_1_id_commits_to_minter || self.is_named(ent, entry)
    }

    /// Whether a scoped admission names the writer for this entity. The founder, who needs none to write, needs it as a host.
    pub(super) fn is_named(&self, ent: Ent, entry: &Entry) -> bool {
        let writer = entry.writer;
        let Some(by) = self.get(entry.relies).filter(|by| self.chain(by.id).is_some()) else { return false };
        let Body::Admitted { scope, key, .. } = by.body else { return false };
        // Only its minter's side names who opens an entity: else whoever may admit could seize any.
        let by_minter = self.same_member(by.writer, minter(ent)) || !self.rules.r2_3_named_by_minter_only;
        scope == Some(ent) && by_minter && (key == Some(writer) || !self.rules.r2_3_named_key_opens)
    }

    pub(super) fn is_rightful(&self, entry: &Entry) -> bool {
        if self.is_founder(entry.writer) || !self.rules.r5_3_only_who_may_adopt {
            return true;
        }
        let rights = self.chain(entry.id).and_then(|chain| match self.get(*chain.get(1)?)?.body {
            Body::Admitted { rights, .. } => Some(rights),
            _ => None,
        });
        rights.is_some_and(|rights| rights & ADOPT != 0)
    }

    /// Founder, authority and name of whom the admission names (what else is known of the key plays no part), place, id.
    pub(super) fn tie(&self, entry: &Entry) -> Tie {
        let who = self.chain(entry.id).and_then(|chain| match self.get(*chain.get(1)?)?.body {
            Body::Admitted { who, .. } => Some(who),
            _ => None,
        });
        if !self.rules.r5_3_tie_by_name {
            return (0, 0, 0, 0, entry.id);
        }
        let (authority, name) = match who {
            _ if self.is_founder(entry.writer) => return (0, 0, 0, entry.place, entry.id),
            Some(Who::Node(node)) => (node % 3, node),
            Some(Who::Key(key)) => (u8::MAX, key),
            None => (u8::MAX, u8::MAX),
        };
        (1, authority, name, entry.place, entry.id)
    }

    /// The owners of an entity, one after the other.
    pub(crate) fn thread(&self, ent: Ent) -> Vec<Tenure> {
        if let Some(thread) = self.threads.borrow().get(&ent) {
            return thread.clone();
        }
        let thread = self.find_thread(ent);
        self.threads.borrow_mut().insert(ent, thread.clone());
        thread
    }

    pub(super) fn find_thread(&self, ent: Ent) -> Vec<Tenure> {
        let all = || self.by_ent.get(&ent).into_iter().flatten().filter_map(|id| self.get(*id));
        let openings = all()
            .filter(|entry| matches!(entry.body, Body::Opened { .. }) && self.may_open(entry) && self.counts(entry.id));
        let order = |entry: &&Entry| {
            let named = self.is_named(ent, entry);
            let place = if self.rules.r2_3_first_opening_counts { entry.place } else { u32::MAX - entry.place };
            (!named, self.tie(entry).0, self.tie(entry).1, self.tie(entry).2, place, entry.id)
        };
        let Some(opened) = openings.min_by_key(order) else { return Vec::new() };
        let none = (0, 0, 0, 0, 0);
        let rank = (0, Reverse(none), 0, Reverse(none));
        let first = Tenure { start: opened.id, writer: opened.writer, epoch: 0, follows: 0, parent: usize::MAX, rank };
        let mut tenures = vec![first];
        let mut left = all().filter(|entry| matches!(entry.body, Body::Adopted { .. })).collect::<Vec<_>>();
        loop {
            let before = left.len();
            left.retain(|entry| match self.taken_over(entry, &tenures) {
                Some(tenure) => {
                    tenures.push(tenure);
                    false
                }
                None => true,
            });
            if left.len() == before {
                break;
            }
        }
        let lowest = !self.rules.r5_3_highest_epoch;
        let best = tenures.iter().enumerate().max_by_key(|(_, of)| {
            (if lowest { u64::MAX - of.rank.0 } else { of.rank.0 }, of.rank.1, of.rank.2, of.rank.3)
        });
        let mut at = best.map_or(usize::MAX, |(at, _)| at);
        let mut thread = Vec::new();
        while let Some(tenure) = tenures.get(at) {
            thread.push(tenure.clone());
            at = tenure.parent;
        }
        thread.reverse();
        thread
    }

    pub(super) fn taken_over(&self, entry: &Entry, tenures: &[Tenure]) -> Option<Tenure> {
        let Body::Adopted { ent, follows, epoch } = entry.body else { return None };
        let followed = self.get(follows).filter(|followed| followed.ent() == Some(ent))?;
        let of = |tenure: &&(usize, &Tenure)| {
            let Some(start) = self.get(tenure.1.start) else { return false };
            start.writer == followed.writer && self.leads_to(start, followed.id)
        };
        let held = tenures.iter().enumerate().collect::<Vec<_>>();
        let found = held.iter().filter(of).max_by_key(|(_, tenure)| self.get(tenure.start).map(|start| start.place));
        let (parent, tenure) = match found {
            Some((at, tenure)) => (*at, *tenure),
            None if !self.rules.r5_3_follows_the_owner => (0, tenures.first()?),
            None => return None,
        };
        let is_bounded = epoch > tenure.epoch && epoch - tenure.epoch <= EPOCHS;
        let is_own = entry.writer == tenure.writer && self.rules.r5_4_owner_passes_without_right
            || entry.writer != tenure.writer
                && self.rules.r3_2_adopts_without_right
                && self.same_member(entry.writer, tenure.writer);
        let rightful = self.is_rightful(entry);
        let fits = is_bounded || !self.rules.r5_3_epoch_is_bounded;
        let may = rightful || is_own;
        if !fits || !may {
            return None;
        }
        if !self.counts(entry.id) || !self.counts(follows) {
            return None;
        }
        let tie = Reverse(self.tie(entry));
        let rank = if rightful || !self.rules.r5_3_right_before_no_right {
            (epoch, tie, 0, Reverse((0, 0, 0, 0, 0)))
        } else {
            (tenure.rank.0, tenure.rank.1, epoch, tie)
        };
        Some(Tenure { start: entry.id, writer: entry.writer, epoch, follows, parent, rank })
    }

    /// Whether an entry is part of its entity's thread, and counts.
    pub(crate) fn is_in_thread(&self, entry: &Entry) -> bool {
        let Some(ent) = entry.ent() else { return false };
        let thread = self.thread(ent);
        // What begins a time that nobody has is nothing.
        let begins = matches!(entry.body, Body::Opened { .. } | Body::Adopted { .. });
        if begins && thread.iter().all(|tenure| tenure.start != entry.id) {
            return false;
        }
        let held = thread.iter().enumerate().any(|(at, tenure)| {
            let Some(start) = self.get(tenure.start) else { return false };
            let in_time = thread.get(at + 1).is_none_or(|next| self.leads_to(entry, next.follows));
            start.writer == entry.writer && in_time && self.leads_to(start, entry.id)
        });
        held && self.counts(entry.id)
    }

    /// Of the counting judgements of an entry that nobody has answered, one of each node, the lower holds.
    pub(super) fn rewards(&self, counting: &BTreeSet<Id>) -> BTreeMap<Id, Id> {
        let mut last: BTreeMap<(Id, Who), &Entry> = BTreeMap::new();
        let rewards = counting.iter().filter_map(|id| self.get(*id)).filter_map(|entry| match &entry.body {
            Body::Rewarded { of, ends, .. } => Some((entry, *of, ends)),
            _ => None,
        });
        let rewards = rewards.collect::<Vec<_>>();
        let named = rewards.iter().flat_map(|(_, _, ends)| ends.iter().copied()).collect::<BTreeSet<_>>();
        for (entry, of, _) in rewards {
            let chain = self.chain(entry.id).unwrap_or_default();
            let who = match chain.get(1).and_then(|id| self.get(*id)).map(|by| &by.body) {
                Some(Body::Admitted { who, .. }) => *who,
                _ => Who::Key(self.founder),
            };
            let who = if self.rules.r4_6_one_end_of_a_node { who } else { Who::Key((entry.id % 255) as Key) };
            let held = last.entry((of, who)).or_insert(entry);
            // Of one key the later, between two keys of a node the lower key.
            if (Reverse(entry.writer), entry.place) > (Reverse(held.writer), held.place) {
                *held = entry;
            }
        }
        let mut best: BTreeMap<Id, &Entry> = BTreeMap::new();
        for ((of, _), entry) in last.into_iter().filter(|(_, entry)| !named.contains(&entry.id)) {
            let held = best.entry(of).or_insert(entry);
            if self.tie(entry) < self.tie(held) {
                *held = entry;
            }
        }
        best.into_iter().map(|(of, entry)| (of, entry.id)).collect()
    }
}
