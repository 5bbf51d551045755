//! Nodes that are told a history in random order, and what is required of their answers.

use std::collections::{BTreeMap, BTreeSet};

use crate::Random;
use crate::derive::{Answer, Body, Entry, Id, Key, Known, Reader, Rules, derive};
use crate::world::{World, holder, is_hostile};

/// What one node keeps: one history of each writer, and beside it what is pinned or about members.
#[derive(Debug, Default)]
struct Store {
    kept: BTreeMap<Key, Vec<Id>>,
    known: Known,
    refused: BTreeSet<Id>,
}

impl Store {
    /// Offers everything once, in some order; returns whether anything was taken.
    fn hear(&mut self, all: &Known, order: &[Id], rules: Rules) -> bool {
        let size = |store: &Self| {
            let kept = store.kept.values().map(Vec::len).sum::<usize>();
            (store.known.entries.len(), kept, store.known.proofs.clone())
        };
        let before = size(self);
        let members = self.members(rules);
        let wanted = self.wanted(all, rules);
        for entry in order.iter().filter_map(|id| all.entries.get(id)) {
            let id = entry.id;
            if self.refused.contains(&id) || !entry.signed && rules.r5_2_signature_covers {
                continue;
            }
            if !members.contains(&entry.writer) && id != all.founding {
                if !rules.r6_1_later_is_asked_again {
                    self.refused.insert(id);
                }
                continue;
            }
            if self.follows(entry, rules) || entry.is_membership() || wanted.contains(&id) || !entry.signed {
                self.known.entries.insert(id, entry.clone());
            }
        }
        before != size(self)
    }

    /// Whether an entry is of the history that is kept; another than is kept at its place is proof of two.
    fn follows(&mut self, entry: &Entry, rules: Rules) -> bool {
        if !entry.signed {
            return false;
        }
        let kept = self.kept.entry(entry.writer).or_default();
        let before =
            if entry.prev == 0 { Some(0) } else { kept.iter().position(|id| *id == entry.prev).map(|at| at + 1) };
        match before.map(|at| (at, kept.get(at))) {
            Some((_, None)) => {
                kept.push(entry.id);
                true
            }
            Some((_, Some(id))) if *id == entry.id => true,
            Some(_) => {
                let held = self.known.proofs.entry(entry.writer).or_insert(entry.place);
                if rules.r5_5_earlier_proof_replaces {
                    *held = entry.place.min(*held);
                }
                false
            }
            None => false,
        }
    }

    /// Whose logs are taken: those of whom somebody admitted, as far as it is known.
    fn members(&self, rules: Rules) -> BTreeSet<Key> {
        let reader = Reader::new(&self.known, rules);
        let admitted = self.known.entries.values().filter_map(|entry| match entry.body {
            Body::Admitted { who, .. } if reader.chain(entry.id).is_some() => Some(who),
            _ => None,
        });
        let admitted = admitted.collect::<BTreeSet<_>>();
        (0..48).filter(|key| reader.is_founder(*key) || admitted.iter().any(|who| reader.is(*key, *who))).collect()
    }

    /// What is fetched though another history is kept: stretches that somebody has pinned.
    fn wanted(&self, all: &Known, rules: Rules) -> BTreeSet<Id> {
        let mut wanted = BTreeSet::new();
        if !rules.r4_5_pinned_is_kept_beside {
            return wanted;
        }
        for entry in self.known.entries.values() {
            let tips = match &entry.body {
                Body::Adopted { follows, .. } => vec![*follows],
                Body::Settled { tips, .. } => tips.clone(),
                Body::Expelled { ends, .. } => ends.iter().map(|(.., tip)| *tip).collect(),
                _ => Vec::new(),
            };
            for tip in tips {
                let mut at = tip;
                while let Some(pinned) = all.entries.get(&at).filter(|pinned| wanted.insert(pinned.id)) {
                    at = pinned.prev;
                }
            }
        }
        wanted
    }

    fn share(&mut self, proofs: &BTreeMap<Key, u32>, rules: Rules) -> bool {
        let before = self.known.proofs.clone();
        for (key, place) in proofs {
            let held = self.known.proofs.entry(*key).or_insert(*place);
            if rules.r5_5_earlier_proof_replaces {
                *held = (*held).min(*place);
            }
        }
        before != self.known.proofs
    }
}

fn shuffled(random: &mut Random, ids: &[Id]) -> Vec<Id> {
    let mut ids = ids.to_vec();
    for at in (1..ids.len()).rev() {
        ids.swap(at, random.below(at + 1));
    }
    ids
}

/// Three nodes hear it all in orders of their own, half of it first; what is wrong with what they say.
pub(crate) fn check(world: &mut World, rules: Rules, told: usize) -> Vec<String> {
    let mut wrong = std::mem::take(&mut world.noted.wrong);
    let whole = derive(&world.all, rules);
    judge(world, &whole, rules, &mut wrong);
    let ids = world.all.entries.keys().copied().collect::<Vec<_>>();
    let mut stores = Vec::new();
    for _ in 0..told {
        let mut store = Store::default();
        store.known.founding = world.all.founding;
        store.known.successions.clone_from(&world.all.successions);
        let records = world.all.records.iter().copied().collect::<Vec<_>>();
        let first = world.random.below(records.len().max(1));
        for at in 0..records.len() {
            let record = records[(at + first) % records.len()];
            let again = |held: &&crate::derive::Record| (held.key, held.node) == (record.key, record.node);
            if rules.r3_1_every_record_counts || store.known.records.iter().find(again).is_none() {
                store.known.records.insert(record);
            }
        }
        let order = shuffled(&mut world.random, &ids);
        let half = &order[..order.len() / 2];
        while store.hear(&world.all, half, rules) {}
        for id in derive(&store.known, rules).counting.intersection(&world.noted.never) {
            wrong.push(format!("on a part, {id:x} counts: {:?}", world.all.entries[id]));
        }
        while store.hear(&world.all, &order, rules) {}
        stores.push(store);
    }
    // They tell each other what they can prove, and go on asking.
    loop {
        let proofs = stores.iter().flat_map(|store| store.known.proofs.clone()).fold(
            BTreeMap::new(),
            |mut all, (key, place)| {
                let held = all.entry(key).or_insert(place);
                *held = place.min(*held);
                all
            },
        );
        let mut changed = false;
        for store in &mut stores {
            changed |= store.share(&proofs, rules);
            while store.hear(&world.all, &ids, rules) {
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    for store in &stores {
        let said = derive(&store.known, rules);
        if said != whole {
            let by = said.counting.symmetric_difference(&whole.counting).map(|id| world.all.entries[id].clone());
            wrong.push(format!("nodes differ about {:?}", by.collect::<Vec<_>>()));
        }
    }
    wrong
}

fn judge(world: &World, whole: &Answer, rules: Rules, wrong: &mut Vec<String>) {
    let reader = Reader::new(&world.all, rules);
    for id in &whole.counting {
        let entry = &world.all.entries[id];
        let of_hostile = is_hostile(holder(entry.writer)) || world.noted.never.contains(id);
        if world.noted.never.contains(id) {
            wrong.push(format!("counts, and never may: {entry:?}"));
        }
        let pinned = || reader.chain(*id).is_some_and(|chain| reader.is_pinned(entry, &chain));
        let forbidden = world.noted.not_at_last.contains(id) || world.noted.not_vouched.contains(id);
        let is_divided = |id: &Id| {
            let link = &world.all.entries[id];
            world.all.proofs.get(&link.writer).is_some_and(|place| link.place >= *place)
        };
        let is_beyond =
            world.noted.beyond.contains(id) && reader.chain(*id).is_some_and(|chain| !chain.iter().any(is_divided));
        if (forbidden || is_beyond) && !pinned() {
            wrong.push(format!("counts at last, and may not: {entry:?}"));
        }
        if of_hostile && world.rights_of_hostile == 0 && world.casts.iter().all(|(.., host)| !is_hostile(*host)) {
            wrong.push(format!("counts, and its writer has no rights: {entry:?}"));
        }
    }
    for (id, right) in &world.noted.never_without {
        if whole.counting.contains(id) && right & !world.rights_of_hostile != 0 {
            wrong.push(format!("counts without right {right}: {:?}", world.all.entries[id]));
        }
    }
    for (of, id) in &whole.rewards {
        let held = &world.all.entries[id];
        let later = whole.counting.iter().filter_map(|id| world.all.entries.get(id)).any(|entry| {
            let same = matches!(entry.body, Body::Rewarded { of: judged, .. } if judged == *of);
            same && entry.writer == held.writer && entry.place > held.place
        });
        if later {
            wrong.push(format!("its writer has judged anew since: {held:?}"));
        }
    }
    for id in &world.noted.stays {
        if !whole.counting.contains(id) {
            wrong.push(format!("does not stay: {:?}", world.all.entries[id]));
        }
    }
    for (id, node) in &world.noted.honest {
        let entry = &world.all.entries[id];
        let is_reward_of_nothing = matches!(entry.body, Body::Rewarded { .. });
        if !whole.counting.contains(id) && !is_reward_of_nothing && world.has_to_stay(entry, *node) {
            wrong.push(format!("an honest entry is lost: {entry:?}"));
        }
    }
}
