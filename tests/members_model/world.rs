//! A history of a loom: honest nodes and hostile ones act, and what must and must not count is noted as it happens.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use crate::Random;
use crate::derive::{
    ADMIT, ADOPT, Body, EPOCHS, Ent, Entry, FENCES, Id, Key, Known, Node, Reader, Record, Rules, SIZE, Succession,
    Target, UNBOUNDED, WRITE, Who, minter,
};

pub(crate) const FOUNDER: Node = 0;
/// 0 to 2 are honest, 3 to 5 hostile; nobody honest ever admits 5.
pub(crate) const OUTSIDER: Node = 5;

pub(crate) const fn is_hostile(node: Node) -> bool {
    node >= 3
}

/// Who holds a key in truth.
pub(crate) const fn holder(key: Key) -> Node {
    key / 8
}

#[derive(Debug, Default)]
pub(crate) struct Noted {
    /// Counts nowhere, at no time.
    pub(crate) never: BTreeSet<Id>,
    /// Never counts unless the hostile nodes have this right between them.
    pub(crate) never_without: Vec<(Id, u8)>,
    /// Does not count once all is delivered.
    pub(crate) not_at_last: BTreeSet<Id>,
    /// Does not count unless the founder vouches for it.
    pub(crate) not_vouched: BTreeSet<Id>,
    /// Behind the bytes of a cast. Where two histories of its writer divide nothing is counted any more: whom it admitted stays (5.5),
    /// and so does what an expulsion saw of one of them.
    pub(crate) beyond: BTreeSet<Id>,
    /// Written by somebody honest, as the rules want it.
    pub(crate) honest: BTreeMap<Id, Node>,
    /// Stays although its writer equivocates or is expelled.
    pub(crate) stays: BTreeSet<Id>,
    pub(crate) wrong: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) all: Known,
    pub(crate) tips: BTreeMap<Key, Vec<Id>>,
    keys: [Key; 6],
    fresh: [Key; 6],
    /// The newest admission of each node by somebody honest; with it its rights.
    pub(crate) basis: [(Id, u8); 6],
    pub(crate) rights_of_hostile: u8,
    pub(crate) hostile_may_admit: bool,
    pub(crate) ents: Vec<(Ent, Node)>,
    pub(crate) casts: Vec<(Ent, Ent, Node, Node)>,
    pub(crate) taken: BTreeSet<Ent>,
    /// The children whose casts are over for who called them.
    pub(crate) settled: BTreeSet<Ent>,
    pub(crate) expelled: BTreeMap<Node, Id>,
    /// Expelled to nothing: what they wrote before is void but for what others pinned.
    pub(crate) voided: BTreeSet<Node>,
    /// The admissions of those who had been expelled.
    pub(crate) again: BTreeMap<Node, Id>,
    pub(crate) forked: BTreeSet<Key>,
    pub(crate) stolen: BTreeSet<Key>,
    pub(crate) was_expelled: bool,
    /// Whether somebody hostile has expelled somebody, or is not to: a caller may expel whom it called.
    pub(crate) expels: bool,
    pub(crate) noted: Noted,
    minted: u16,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut world = Self {
            random: Random(seed.wrapping_mul(0x5851_F42D_4C95_7F2D)),
            all: Known::default(),
            tips: BTreeMap::new(),
            keys: [0, 8, 16, 24, 32, 40],
            fresh: [1, 9, 17, 25, 33, 41],
            basis: [(0, 0); 6],
            rights_of_hostile: 0,
            hostile_may_admit: false,
            ents: Vec::new(),
            casts: Vec::new(),
            taken: BTreeSet::new(),
            settled: BTreeSet::new(),
            expelled: BTreeMap::new(),
            voided: BTreeSet::new(),
            again: BTreeMap::new(),
            forked: BTreeSet::new(),
            stolen: BTreeSet::new(),
            was_expelled: false,
            expels: false,
            noted: Noted::default(),
            minted: 0,
        };
        let record = if world.random.one_in(4) { None } else { Some(FOUNDER) };
        for node in 0..6 {
            if node != FOUNDER || record.is_some() {
                world.certify(world.keys[usize::from(node)], node, 1);
            }
        }
        world.all.founding = world.write(0, 0, Body::Founded { record });
        world
    }

    pub(crate) fn key(&self, node: Node) -> Key {
        self.keys[usize::from(node)]
    }

    pub(crate) fn certify(&mut self, key: Key, node: Node, begins: u8) {
        self.all.records.insert(Record { key, node, begins, by_cert: true, by_key: true });
    }

    pub(crate) fn is_bare_founder(&self) -> bool {
        matches!(self.all.entries[&self.all.founding].body, Body::Founded { record: None })
    }

    /// A key nobody has seen; none once a node has had its eight.
    pub(crate) fn fresh_key(&mut self, node: Node) -> Option<Key> {
        let fresh = &mut self.fresh[usize::from(node)];
        if holder(*fresh) != node {
            return None;
        }
        *fresh += 1;
        Some(*fresh - 1)
    }

    pub(crate) fn mint(&mut self, key: Key) -> Ent {
        self.minted += 1;
        (u16::from(key) << 8) | self.minted
    }

    pub(crate) fn tip(&self, key: Key) -> Id {
        self.tips.get(&key).and_then(|tips| tips.first()).copied().unwrap_or(0)
    }

    fn id_of(prev: Id, writer: Key, relies: Id, body: &Body, nonce: u64) -> Id {
        let mut hasher = DefaultHasher::new();
        (prev, writer, relies, body, nonce).hash(&mut hasher);
        hasher.finish() | 1
    }

    /// Puts an entry behind any head of a key's histories. Who is hostile grinds its ids.
    pub(crate) fn write_at(&mut self, prev: Id, writer: Key, relies: Id, body: Body, signed: bool) -> Id {
        let tries = if is_hostile(holder(writer)) || !signed { 8 } else { 1 };
        let first = self.random.next();
        let id = (0..tries).map(|more| Self::id_of(prev, writer, relies, &body, first.wrapping_add(more))).min();
        let id = id.unwrap_or(1);
        let place = self.all.entries.get(&prev).map_or(0, |before| before.place) + 1;
        self.all.entries.insert(id, Entry { id, prev, writer, place, relies, body, signed, size: SIZE });
        if signed {
            let tips = self.tips.entry(writer).or_default();
            match tips.iter_mut().find(|tip| **tip == prev) {
                Some(tip) => *tip = id,
                None => tips.push(id),
            }
        }
        if self.expelled.contains_key(&holder(writer)) && signed {
            self.noted.not_at_last.insert(id);
        }
        id
    }

    pub(crate) fn write(&mut self, writer: Key, relies: Id, body: Body) -> Id {
        let prev = self.tip(writer);
        self.write_at(prev, writer, relies, body, true)
    }

    /// An honest entry, with what its writer relies on.
    pub(crate) fn honest(&mut self, node: Node, body: Body) -> Id {
        let id = self.write(self.key(node), self.basis[usize::from(node)].0, body);
        self.noted.honest.insert(id, node);
        id
    }

    pub(crate) fn may(&self, node: Node, right: u8) -> bool {
        node == FOUNDER || self.basis[usize::from(node)].1 & right != 0
    }

    pub(crate) fn admit(&mut self, by: Node, node: Node, rights: u8, names: Vec<Id>) -> Id {
        let body = Body::Admitted { who: Who::Node(node), rights, scope: None, most: UNBOUNDED, key: None, names };
        let id = self.honest(by, body);
        self.basis[usize::from(node)] = (id, rights);
        if is_hostile(node) {
            self.rights_of_hostile |= rights;
            self.hostile_may_admit |= rights & ADMIT != 0;
        }
        id
    }

    pub(crate) fn open(&mut self, node: Node) -> Option<Ent> {
        if !self.may(node, WRITE) {
            return None;
        }
        let ent = self.mint(self.key(node));
        self.honest(node, Body::Opened { ent, parent: 0 });
        self.ents.push((ent, node));
        Some(ent)
    }

    /// A remote cast: the caller delegates and admits, the host opens.
    pub(crate) fn cast(&mut self, ent: Ent, caller: Node, host: Node) -> (Ent, Id) {
        let child = self.mint(self.key(caller));
        self.honest(caller, Body::Intent { ent });
        let parent = self.honest(caller, Body::Delegated { ent, child });
        let key = Some(self.key(host));
        let names = self.again.get(&host).copied().into_iter().collect();
        // Of whom nothing good is expected, four entries are enough.
        let most = if is_hostile(host) && self.random.one_in(2) { 4 * SIZE } else { UNBOUNDED };
        let body = Body::Admitted { who: Who::Node(host), rights: WRITE, scope: Some(child), most, key, names };
        let admitted = self.honest(caller, body);
        let opened = self.write(self.key(host), admitted, Body::Opened { ent: child, parent });
        let step = self.write(self.key(host), admitted, Body::Step { ent: child });
        if !is_hostile(host) {
            self.noted.honest.insert(opened, host);
            self.noted.honest.insert(step, host);
        }
        self.casts.push((ent, child, caller, host));
        (child, admitted)
    }

    /// Somebody who may goes on with an entity, as it stands for whoever knows everything.
    pub(crate) fn adopt(&mut self, key: Key, relies: Id, ent: Ent, rules: Rules) -> Option<Id> {
        let (follows, epoch) = self.next_epoch(ent, rules)?;
        let id = self.write(key, relies, Body::Adopted { ent, follows, epoch });
        Some(id)
    }

    /// The entity's last entry, and an epoch above every fence that counts.
    fn next_epoch(&mut self, ent: Ent, rules: Rules) -> Option<(Id, u64)> {
        self.prove();
        let reader = Reader::new(&self.all, rules);
        let last = reader.thread(ent).last()?.clone();
        let entries = self.all.entries.values().filter(|entry| entry.ent() == Some(ent));
        let mine = entries.filter(|entry| entry.writer == last.writer && reader.is_in_thread(entry));
        let follows = mine.max_by_key(|entry| (entry.place, entry.id))?.id;
        let fence = self.fence(ent, last.epoch, rules);
        Some((follows, if rules.r5_4_above_every_fence { fence.max(last.epoch) + 1 } else { last.epoch + 1 }))
    }

    /// The highest fence seen that is not too far above what is complete.
    fn fence(&self, ent: Ent, complete: u64, rules: Rules) -> u64 {
        let epochs = self.all.entries.values().filter_map(|entry| match entry.body {
            Body::Adopted { ent: of, epoch, .. } if of == ent && entry.signed => Some(epoch),
            _ => None,
        });
        let near = |epoch: &u64| *epoch <= complete.saturating_add(FENCES) || !rules.r5_4_fence_is_bounded;
        epochs.filter(near).max().unwrap_or(0).min(u64::MAX - 1)
    }

    /// Every pair of signed entries that follow one and the same is a proof.
    pub(crate) fn prove(&mut self) {
        let mut seen: BTreeMap<(Key, Id), Id> = BTreeMap::new();
        for entry in self.all.entries.values().filter(|entry| entry.signed) {
            if seen.insert((entry.writer, entry.prev), entry.id).is_some() {
                let place = self.all.proofs.entry(entry.writer).or_insert(entry.place);
                *place = entry.place.min(*place);
            }
        }
    }

    /// A new key for a node: by succession, by certificate, or by both.
    pub(crate) fn renew(&mut self, node: Node, stolen: bool) -> Option<Key> {
        let old = self.key(node);
        let new = self.fresh_key(node)?;
        let bare = node == FOUNDER && self.is_bare_founder();
        let way = if bare {
            0
        } else if stolen {
            1
        } else {
            self.random.below(3)
        };
        if way != 1 {
            self.all.successions.insert(Succession { old, new, by_old: true, by_new: true });
        }
        if way != 0 {
            self.certify(new, node, 1 + new % 8);
        }
        self.keys[usize::from(node)] = new;
        Some(new)
    }

    /// An expulsion by the founder, with the heads as they are now.
    pub(crate) fn expel(&mut self, node: Node) -> Id {
        let heads = self.tips.iter().filter(|(key, _)| holder(**key) == node);
        let heads = heads.filter_map(|(key, tips)| Some((*key, *tips.first()?))).collect::<Vec<_>>();
        let ends = heads.iter().map(|(key, tip)| (*key, self.all.entries[tip].place, *tip)).collect();
        let id = self.honest(FOUNDER, Body::Expelled { target: Target::Node(node), ends });
        self.expelled.insert(node, id);
        if node == 3 {
            self.was_expelled = true;
            self.noted.not_vouched.clear();
        }
        id
    }

    /// The last step of every history: each honest owner goes on, also after the loss of its key, whatever was sent to it.
    pub(crate) fn go_on(&mut self, rules: Rules) {
        for (ent, node) in self.ents.clone() {
            let is_member = node == FOUNDER || self.basis[usize::from(node)].0 != 0;
            if self.expelled.contains_key(&node) || !is_member || !self.stolen.is_empty() || self.random.one_in(2) {
                continue;
            }
            self.prove();
            let reader = Reader::new(&self.all, rules);
            let before = reader.thread(ent).last().cloned();
            let honest = before.as_ref().is_some_and(|before| holder(before.writer) == node);
            if !honest {
                continue;
            }
            let (old, relies) = (self.key(node), self.basis[usize::from(node)].0);
            let key =
                if self.random.one_in(2) || self.forked.contains(&old) { self.renew(node, false) } else { Some(old) };
            let Some(key) = key else { continue };
            let Some(adopted) = self.adopt(key, relies, ent, rules) else { continue };
            let step = self.write(key, relies, Body::Intent { ent });
            self.prove();
            let reader = Reader::new(&self.all, rules);
            if !reader.is_in_thread(&self.all.entries[&step]) {
                self.noted.wrong.push(format!("node {node} cannot go on with {ent:#x}: {adopted:x} does not count"));
            }
            let epoch = reader.thread(ent).last().map_or(0, |last| last.epoch);
            if self.fence(ent, epoch, Rules::ALL) > epoch {
                // One more fence comes into reach with each pass; it is passed the same way.
                let before = before.map_or(0, |before| before.epoch);
                if self.fence(ent, before, Rules::ALL) > epoch {
                    self.noted.wrong.push(format!("node {node} went on with {ent:#x} below a fence"));
                }
            }
        }
    }

    pub(crate) fn epoch(&mut self) -> u64 {
        let epochs = [1, 2, 3, FENCES, EPOCHS, EPOCHS + 1, u64::MAX / 2];
        self.random.pick(&epochs).unwrap_or(1)
    }

    pub(crate) fn some_entry(&mut self, of: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let found = self.all.entries.values().filter(|entry| of(entry)).cloned().collect::<Vec<_>>();
        self.random.pick(&found)
    }

    pub(crate) fn some_admission(&mut self) -> Id {
        self.some_entry(|entry| matches!(entry.body, Body::Admitted { .. })).map_or(0, |entry| entry.id)
    }

    /// Whether an honest entry has to count at last: nobody with a right to it has taken its entity, ended its writer or its basis.
    pub(crate) fn has_to_stay(&self, entry: &Entry, node: Node) -> bool {
        let proved = self.all.proofs.get(&entry.writer).is_some_and(|place| entry.place >= *place);
        let ent_is_taken = |ent: Ent| {
            let family = self.casts.iter().find(|(_, child, ..)| *child == ent);
            self.taken.contains(&ent) || family.is_some_and(|(parent, ..)| self.taken.contains(parent))
        };
        let mut at = entry.relies;
        while let Some(by) = self.all.entries.get(&at) {
            let by_whom = holder(by.writer);
            if is_hostile(by_whom) || self.expelled.contains_key(&by_whom) || self.voided.contains(&by_whom) {
                return false;
            }
            at = by.relies;
        }
        let membership = entry.is_membership();
        !self.expelled.contains_key(&node)
            && !self.voided.contains(&node)
            && (membership || !proved)
            && !self.stolen.iter().any(|key| holder(*key) == node)
            && entry.ent().is_none_or(|ent| !ent_is_taken(ent))
            && (membership || self.rights_of_hostile & ADOPT == 0)
            && entry.ent().is_none_or(|ent| {
                self.casts.iter().all(|(_, child, caller, _)| {
                    *child != ent || (!self.stolen.iter().any(|key| holder(*key) == *caller) && !is_hostile(*caller))
                })
            })
    }

    pub(crate) fn is_minted_by_honest(ent: Ent) -> bool {
        !is_hostile(holder(minter(ent)))
    }
}
