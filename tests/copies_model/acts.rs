//! What nodes do.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

pub(super) const DISK: usize = 0;
pub(super) const FENCED: usize = 1;
pub(super) const OTHERS: usize = 2;
pub(super) const STORED: usize = 3;
pub(super) const SHOWN: usize = 4;
pub(super) const RECORD: usize = 5;
pub(super) const OLD: usize = 6;
pub(super) const AGAIN: usize = 7;
pub(super) const QUORUM: usize = 8;
pub(super) const AFTER: usize = 9;
pub(super) const FORMER: usize = 10;
pub(super) const PASSED: usize = 11;
pub(super) const WAITS: usize = 12;
pub(super) const ASKED: usize = 13;
pub(super) const ANSWERS: usize = 14;
pub(super) const FETCHED: usize = 15;
pub(super) const ANEW: usize = 16;
pub(super) const LATER: usize = 17;
pub(super) const BOTH: usize = 18;
pub(super) const NEWER: usize = 19;
pub(super) const TWICE: usize = 20;

impl World {
    pub(super) fn machine(&mut self, node: Node) -> &mut Machine {
        &mut self.machines[usize::from(node)]
    }

    pub(super) fn view_of(&self, disk: &Disk, entity: Entity) -> View {
        let may = |node: Node, owner: Key| self.machines[usize::from(node)].may_adopt || node_of(owner) == node;
        disk.view(entity, first_key(OPENER), &may)
    }

    pub(super) fn view(&self, node: Node, entity: Entity) -> View {
        self.view_of(&self.machines[usize::from(node)].disk, entity)
    }

    /// The newest keeping of a log, with the places of all.
    fn keepings(&self, log: &[Entry]) -> Vec<(usize, Keeping)> {
        if self.rules.has(RECORD) { Disk::keepings(log) } else { vec![(1, self.first.clone())] }
    }

    /// By what a log that was adopted from is acknowledged and fenced: its newest keeping, and the one before where that may count still.
    fn in_force(&self, log: &[Entry]) -> Vec<Keeping> {
        let newest = self.keepings(log).pop().map(|(_, keeping)| keeping);
        if self.rules.has(TWICE) && self.rules.has(RECORD) { Disk::in_force(log) } else { newest.into_iter().collect() }
    }

    /// By what this node finds out whether it may write: its own keeping, else all that it knows of.
    pub(super) fn asked(&self, node: Node) -> Vec<Keeping> {
        let disk = &self.machines[usize::from(node)].disk;
        if let Some((_, own)) = Disk::keepings(disk.own()).pop() {
            return vec![own];
        }
        disk.logs.values().filter_map(|logs| Disk::keepings(logs.first()?).pop()).map(|(_, keeping)| keeping).collect()
    }

    pub(crate) fn append(&mut self, node: Node, body: Body) -> usize {
        self.next += 1;
        let id = self.next;
        let disk = &mut self.machine(node).disk;
        let (key, logs) = (disk.key, disk.logs.entry(disk.key).or_insert_with(|| vec![Vec::new()]));
        let place = logs[0].len() + 1;
        let told = format!("{node} writes {id} at {place} of {key}: {body:?}");
        logs[0].push(Entry { id, body });
        self.told.push(told);
        place
    }

    fn send(&mut self, from: Node, to: Node, message: Message) {
        self.network.push((from, to, message));
    }

    /// Delivers one message, or loses it.
    pub(crate) fn deliver(&mut self, index: usize) {
        let (from, to, message) = self.network.swap_remove(index);
        let is_cut = self.cut.is_some_and(|cut| cut == from || cut == to);
        if is_cut || (self.is_lossy && self.random.one_in(12)) {
            return;
        }
        if to == HOSTILE {
            return self.lie(from, &message);
        }
        match message {
            Message::Asks => {
                let logs = self.machine(to).disk.logs.clone();
                self.machine(to).disk.signed = self.machine(to).disk.own().len();
                self.send(to, from, Message::Has { logs });
            }
            Message::Has { logs } => self.has(to, from, &logs),
            Message::Logs { key, logs } => self.logs(to, from, key, &logs),
            Message::Held { key, held } => {
                if self.machine(to).disk.key == key {
                    self.machine(to).memory.held.insert(from, held);
                    self.count(to);
                }
            }
            Message::Fence { entity, epoch } => self.fence(to, from, entity, epoch),
            Message::Stored { entity, epoch, logs } => self.stored(to, from, entity, epoch, &logs),
            Message::NotStored { entity, fence } => {
                let refused = self.machine(to).memory.refused.entry(entity).or_default();
                *refused = fence.0.max(*refused);
                self.machine(to).memory.adopting.remove(&entity);
            }
        }
    }

    /// A process ends: what was not on its disk is gone.
    pub(crate) fn crash(&mut self, node: Node) {
        let machine = self.machine(node);
        machine.memory = Memory::default();
        if machine.keeps_in_memory {
            let key = machine.disk.key;
            machine.disk.logs.retain(|of, _| node_of(*of) == node_of(key));
        }
        if !self.rules.has(STORED) || self.machine(node).keeps_in_memory {
            self.machine(node).disk.fences.clear();
        }
    }

    pub(crate) fn put_back(&mut self, node: Node) {
        let older = self.machine(node).older.clone();
        let Some(disk) = self.random.pick(&older) else { return };
        self.told.push(format!("{node} is put back to {} of {}", disk.own().len(), disk.key));
        self.machine(node).disk = disk;
        self.untrue.insert(node);
        self.crash(node);
    }

    pub(crate) fn ask(&mut self, node: Node) {
        let keepers: BTreeSet<Node> = self.asked(node).into_iter().flat_map(|keeping| keeping.keepers).collect();
        for keeper in keepers.into_iter().filter(|keeper| *keeper != node) {
            self.send(node, keeper, Message::Asks);
        }
    }

    /// Whether enough have answered that nothing this node has signed and somebody acknowledged is unknown to it.
    fn is_answered(&self, node: Node) -> bool {
        let answers = &self.machines[usize::from(node)].memory.answers;
        self.asked(node).iter().all(|keeping| {
            let have = keeping.keepers.iter().filter(|keeper| **keeper == node || answers.contains(keeper)).count();
            have >= if self.rules.has(ANSWERS) { keeping.fences() } else { 1 }
        })
    }

    /// With acknowledgements nobody writes before enough have answered; without, it is asked for a second.
    pub(crate) fn begin(&mut self, node: Node, is_over: bool) {
        let is_asked = self.rules.has(ASKED);
        let waits = self.asked(node).iter().any(|keeping| keeping.acks > 0);
        let is_ready = if is_asked && waits { self.is_answered(node) } else { is_over || !is_asked };
        self.machine(node).memory.is_ready |= is_ready;
    }

    fn has(&mut self, node: Node, from: Node, logs: &BTreeMap<Key, Vec<Log>>) {
        let key = self.machine(node).disk.key;
        let own = self.machine(node).disk.own().to_vec();
        let theirs = logs.get(&key).into_iter().flatten().find(|log| common(log, &own) < log.len()).cloned();
        let is_older = logs.keys().any(|of| node_of(*of) == node && *of > key);
        match theirs {
            Some(theirs) if self.rules.has(ASKED) => self.renew(node, &theirs, logs),
            _ if is_older => self.renew(node, &own, logs),
            _ => self.machine(node).disk.take_all(logs),
        }
        self.write_anew(node);
        self.machine(node).memory.answers.insert(from);
        self.machine(node).memory.met.insert(from);
        self.begin(node, false);
    }

    /// This node has signed more than it has: it goes on under another key.
    fn renew(&mut self, node: Node, theirs: &[Entry], logs: &BTreeMap<Key, Vec<Log>>) {
        let own = self.machine(node).disk.own().to_vec();
        let (old, signed) = (self.machine(node).disk.key, self.machine(node).disk.signed);
        let same = common(theirs, &own);
        self.told.push(format!(
            "{node} renews {old}: {} there, {} here, {same} the same, {signed} signed",
            theirs.len(),
            own.len()
        ));
        let newest = logs.keys().copied().filter(|key| node_of(*key) == node).max().unwrap_or(old).max(old);
        let disk = &mut self.machine(node).disk;
        disk.key = newest + 1;
        let (tail, other) = (own[same..].to_vec(), theirs[same..].to_vec());
        let is_divided = signed > same && !other.is_empty();
        if self.rules.has(FETCHED) {
            let mut kept = vec![theirs.to_vec()];
            if signed > same {
                kept.push(own[..signed.min(own.len())].to_vec());
            }
            let disk = &mut self.machine(node).disk;
            disk.logs.insert(old, kept);
            disk.take_all(logs);
        }
        self.machine(node).disk.signed = 0;
        let keeping = Disk::keepings(theirs).pop().or_else(|| self.asked(node).pop().map(|it| (0, it)));
        let keeping = keeping.map_or_else(Keeping::default, |(_, keeping)| keeping);
        // What was begun later was written when none of the others had the other one: that was acknowledged by nobody.
        let is_later = |one: &[Entry], other: &[Entry]| one.first().map(|it| it.id) > other.first().map(|it| it.id);
        let is_ours = is_divided && keeping.acks > 0 && self.rules.has(NEWER) && is_later(&tail, &other);
        self.append(node, Body::Keeping(keeping));
        let (stays, goes) = if is_ours { (tail, other) } else { (other, tail) };
        if is_divided && self.rules.has(BOTH) {
            for entry in stays {
                let Body::Turn { entity, .. } = entry.body else { continue };
                self.machine(node).disk.anew.push((entity, entry.id));
            }
        }
        for entry in goes {
            let Body::Turn { entity, .. } = entry.body else { continue };
            self.tails.push(entry.id);
            if self.rules.has(ANEW) {
                self.append(node, Body::Turn { entity: entity + 100, was: Some(entry.id) });
                let id = self.next;
                self.rewritten.insert(entry.id, id);
            }
        }
        let machine = self.machine(node);
        machine.memory = Memory { answers: machine.memory.answers.clone(), ..Memory::default() };
    }

    /// What this node has signed under an earlier key behind the place from which it went on with an entity comes in later, from whoever
    /// has it: it is written anew too.
    fn write_anew(&mut self, node: Node) {
        let disk = self.machine(node).disk.clone();
        let went_on = disk.own().iter().filter_map(|entry| match entry.body {
            Body::Adopted { last, entity, .. } if node_of(last.key) == node && last.key < disk.key => {
                Some((entity, last))
            }
            _ => None,
        });
        for (entity, end) in went_on {
            let kept = self.view_at(&disk, end, entity).map(|view| view.thread).unwrap_or_default();
            for log in disk.logs.get(&end.key).into_iter().flatten() {
                for entry in log {
                    let is_its = matches!(entry.body, Body::Turn { entity: of, .. } if of == entity);
                    let is_new = is_its && !kept.contains(&entry.id) && !self.rewritten.contains_key(&entry.id);
                    if is_new && self.rules.has(LATER) {
                        self.append(node, Body::Turn { entity: entity + 100, was: Some(entry.id) });
                        let id = self.next;
                        self.rewritten.insert(entry.id, id);
                    }
                }
            }
        }
    }

    fn view_at(&self, disk: &Disk, end: End, entity: Entity) -> Option<View> {
        let may = |node: Node, owner: Key| self.machines[usize::from(node)].may_adopt || node_of(owner) == node;
        disk.before(entity, first_key(OPENER), end, &may)
    }

    /// Everything that a node has goes to another.
    pub(crate) fn tell(&mut self, node: Node, to: Node) {
        if !self.machine(node).memory.met.contains(&to) {
            return self.send(node, to, Message::Asks);
        }
        let disk = &mut self.machine(node).disk;
        disk.signed = disk.own().len();
        let (key, logs) = (disk.key, disk.logs.clone());
        self.send(node, to, Message::Logs { key, logs });
    }

    fn logs(&mut self, node: Node, from: Node, key: Key, logs: &BTreeMap<Key, Vec<Log>>) {
        let own = self.machine(node).disk.key;
        let here = self.machine(node).disk.own().to_vec();
        let theirs = logs.get(&own).into_iter().flatten().find(|log| common(log, &here) < log.len()).cloned();
        if let Some(theirs) = theirs.filter(|_| self.rules.has(ASKED)) {
            self.renew(node, &theirs, logs);
        }
        let own = self.machine(node).disk.key;
        let others = |of: &Key| node_of(*of) != node_of(own) || *of < own;
        let logs: BTreeMap<Key, Vec<Log>> =
            logs.iter().filter(|(of, _)| others(of)).map(|(of, it)| (*of, it.clone())).collect();
        self.machine(node).disk.take_all(&logs);
        self.write_anew(node);
        let kept = self.machine(node).disk.logs.get(&key).and_then(|logs| logs.first()).cloned().unwrap_or_default();
        for entry in &kept {
            if let Body::Turn { entity, .. } = entry.body
                && !self.machine(node).keeps_in_memory
            {
                self.seen.push((entry.id, entity, node));
            }
        }
        let mut fences: BTreeMap<Entity, (Fence, bool)> = BTreeMap::new();
        if self.rules.has(FENCED) {
            fences = self.machine(node).disk.fences.iter().map(|(entity, fence)| (*entity, (*fence, true))).collect();
            for entity in 0..ENTITIES {
                let view = self.view(node, entity);
                let adopted = ((view.epoch, node_of(view.owner)), true);
                let known = fences.entry(entity).or_insert(adopted);
                *known = adopted.max(*known);
            }
        }
        let held = Held {
            place: kept.len(),
            id: at(&kept, kept.len()).unwrap_or_default(),
            is_on_disk: !self.machine(node).keeps_in_memory,
            fences,
        };
        self.send(node, from, Message::Held { key, held });
    }

    /// The fence of an entity that its owner has to respect.
    fn fenced(&self, node: Node, entity: Entity, view: &View) -> Option<u64> {
        let fences = |(_, held): (&Node, &Held)| {
            let (fence, is_shown) = held.fences.get(&entity)?;
            (*is_shown || !self.rules.has(SHOWN)).then_some(*fence)
        };
        let machine = &self.machines[usize::from(node)];
        let reach = if self.rules.has(WAITS) { view.epoch + REACH } else { u64::MAX };
        let seen = machine.memory.held.iter().filter_map(fences).chain(machine.disk.fences.get(&entity).copied());
        let over =
            seen.filter(|fence| *fence > (view.epoch, node_of(view.owner)) && (fence.0 <= reach || fence.1 == node));
        over.map(|fence| fence.0).max()
    }

    pub(crate) fn write(&mut self, node: Node, entity: Entity) -> bool {
        let view = self.view(node, entity);
        let is_own = view.owner == self.machine(node).disk.key;
        if !is_own || !self.machine(node).memory.is_ready || self.fenced(node, entity, &view).is_some() {
            return false;
        }
        let place = self.append(node, Body::Turn { entity, was: None });
        self.machine(node).memory.pending.push(Pending { entity, place, epoch: view.epoch });
        self.count(node);
        true
    }

    pub(super) fn change(&mut self, node: Node) {
        let keeping = keeping(&mut self.random, node, &self.machines);
        let is_open = self.rules.has(TWICE) && Disk::in_force(self.machine(node).disk.own()).len() > 1;
        if self.machine(node).memory.is_ready && !self.machine(node).disk.own().is_empty() && !is_open {
            self.append(node, Body::Keeping(keeping));
        }
    }

    /// Who has a place of this node's log, as far as it counts for an entity.
    fn holders(&self, node: Node, place: usize, (entity, epoch): (Entity, u64)) -> BTreeSet<Node> {
        let machine = &self.machines[usize::from(node)];
        let own = machine.disk.own();
        let counts = |held: &Held| {
            let has_chain = at(own, held.place) == Some(held.id);
            let is_free = |entity: Entity, epoch: u64| {
                let fence = held.fences.get(&entity).filter(|(_, is_shown)| *is_shown || !self.rules.has(SHOWN));
                fence.is_none_or(|(fence, _)| *fence <= (epoch, node))
            };
            let is_free = if self.rules.has(OTHERS) {
                is_free(entity, epoch)
            } else {
                (0..ENTITIES).all(|entity| is_free(entity, epoch))
            };
            has_chain && held.place >= place && (held.is_on_disk || !self.rules.has(DISK)) && is_free
        };
        let holding = machine.memory.held.iter().filter(|(_, held)| counts(held)).map(|(keeper, _)| *keeper);
        holding.chain([node]).collect()
    }

    /// Counts what has been acknowledged.
    fn count(&mut self, node: Node) {
        self.say_again(node);
        let pending = std::mem::take(&mut self.machine(node).memory.pending);
        let (done, waiting): (Vec<_>, Vec<_>) = pending.into_iter().partition(|turn| self.is_recorded(node, turn));
        self.machine(node).memory.pending = waiting;
        for turn in done {
            let own = self.machines[usize::from(node)].disk.own().to_vec();
            let Some(id) = at(&own, turn.place) else { continue };
            let acks = self.keepings(&own).into_iter().rfind(|(at, _)| *at <= turn.place).map_or(0, |(_, it)| it.acks);
            let mut by = self.holders(node, turn.place, (turn.entity, turn.epoch));
            by.remove(&node);
            self.told.push(format!("{node} counts {id} by {by:?}"));
            self.recorded.push(Recorded { id, entity: turn.entity, by, acks });
        }
    }

    /// Says a change of keepers again once it is acknowledged: whoever adopts then needs only the new ones.
    fn say_again(&mut self, node: Node) {
        let own = self.machines[usize::from(node)].disk.own().to_vec();
        let open = Disk::in_force(&own);
        let Some((place, _)) = Disk::keepings(&own).pop().filter(|_| open.len() > 1 && self.rules.has(TWICE)) else {
            return;
        };
        let is_held = |keeping: &Keeping| {
            let of_no_entity = (Entity::MAX, 0);
            let by = self.holders(node, place, of_no_entity);
            keeping.keepers.intersection(&by).count() >= keeping.acks
        };
        let is_free = (0..ENTITIES).all(|entity| {
            let view = self.view(node, entity);
            node_of(view.owner) != node || self.fenced(node, entity, &view).is_none()
        });
        if open.iter().all(is_held) && is_free && self.machines[usize::from(node)].memory.is_ready {
            let keeping = open.last().cloned().unwrap_or_default();
            self.append(node, Body::Keeping(keeping));
        }
    }

    fn is_recorded(&self, node: Node, turn: &Pending) -> bool {
        let disk = &self.machines[usize::from(node)].disk;
        let own = disk.own();
        let has =
            |keeping: &Keeping, holders: &BTreeSet<Node>| keeping.keepers.intersection(holders).count() >= keeping.acks;
        let by = self.holders(node, turn.place, (turn.entity, turn.epoch));
        let keepings = self.keepings(own);
        let mut before: Option<&Keeping> = None;
        for (place, keeping) in keepings.iter().filter(|(at, _)| *at <= turn.place) {
            if let Some(before) = before.filter(|_| self.rules.has(OLD))
                && !has(before, &self.holders(node, *place, (turn.entity, turn.epoch)))
            {
                return false;
            }
            before = Some(keeping);
        }
        let adopted = own.iter().enumerate().rev().find_map(|(index, entry)| match entry.body {
            Body::Adopted { entity, last, .. } if entity == turn.entity => Some((index + 1, last)),
            _ => None,
        });
        if let Some((place, last)) = adopted.filter(|_| self.rules.has(FORMER)) {
            let former = disk.logs.get(&last.key).and_then(|logs| logs.first()).map_or(&[][..], Vec::as_slice);
            let of = (turn.entity, turn.epoch);
            let by = self.holders(node, place, of);
            if last.key != disk.key && !self.in_force(former).iter().all(|former| has(former, &by)) {
                return false;
            }
        }
        before.is_none_or(|keeping| has(keeping, &by))
    }

    /// Begins to go on with an entity of somebody else, or of an earlier key of this node, or behind a fence; or asks again.
    pub(crate) fn adopt(&mut self, node: Node, entity: Entity) {
        let view = self.view(node, entity);
        let machine = &self.machines[usize::from(node)];
        let is_own = view.owner == machine.disk.key;
        let fenced = self.fenced(node, entity, &view);
        let is_passing = is_own && fenced.is_some_and(|fence| self.has_waited(node, entity, fence));
        let machine = &self.machines[usize::from(node)];
        if is_passing && !self.fenced_by_right.contains(&entity) {
            self.wrong.push(format!("the owner {node} of {entity} was stopped by who may not adopt"));
        }
        let may = (!is_own && (machine.may_adopt || node_of(view.owner) == node)) || is_passing;
        if !machine.memory.is_ready || !may {
            return;
        }
        let Some(log) = machine.disk.logs.get(&view.owner).and_then(|logs| logs.first()) else { return };
        let keeping = self.in_force(log);
        let mut adopting = match machine.memory.adopting.get(&entity) {
            Some(adopting) if adopting.owner == view.owner && adopting.epoch > view.epoch => adopting.clone(),
            _ => {
                let seen = [
                    fenced,
                    machine.memory.refused.get(&entity).copied(),
                    machine.disk.fences.get(&entity).map(|it| it.0),
                ];
                let reach = if self.rules.has(WAITS) { view.epoch + 2 * REACH } else { u64::MAX };
                let seen = seen.into_iter().flatten().filter(|epoch| *epoch < reach);
                let epoch = seen.chain([view.epoch]).max().unwrap_or_default() + 1;
                Adopting { epoch, owner: view.owner, keeping: keeping.clone(), stored: BTreeSet::new() }
            }
        };
        if self.rules.has(AGAIN) && adopting.keeping != keeping {
            adopting = Adopting { keeping, stored: BTreeSet::new(), ..adopting };
        }
        let epoch = adopting.epoch;
        let keepers: BTreeSet<Node> = adopting.keeping.iter().flat_map(|it| it.keepers.clone()).collect();
        self.machine(node).memory.adopting.insert(entity, adopting);
        for keeper in keepers {
            if keeper == node {
                self.fence(node, node, entity, epoch);
            } else {
                self.send(node, keeper, Message::Fence { entity, epoch });
            }
        }
        self.decide(node, entity);
    }

    /// Whether a fence has stood for so long that its adoption does not come any more.
    fn has_waited(&mut self, node: Node, entity: Entity, fence: u64) -> bool {
        let is_passed = self.rules.has(PASSED);
        let waited = self.machine(node).memory.waited.entry(entity).or_default();
        *waited = if waited.0 == fence { (fence, waited.1.saturating_add(1)) } else { (fence, 0) };
        waited.1 >= 3 && is_passed
    }

    /// A keeper is asked to acknowledge no more of the former owner.
    fn fence(&mut self, keeper: Node, by: Node, entity: Entity, epoch: u64) {
        let view = self.view(keeper, entity);
        let may = self.machine(by).may_adopt || node_of(view.owner) == by;
        let steps = if node_of(view.owner) == by { 2 } else { 1 };
        let is_near = !self.rules.has(WAITS) || epoch <= view.epoch + steps * REACH;
        if !may || !is_near {
            return;
        }
        let known = self.machine(keeper).disk.fences.get(&entity).copied().unwrap_or_default();
        let highest = known.max((view.epoch, node_of(view.owner)));
        if highest > (epoch, by) {
            return self.send(keeper, by, Message::NotStored { entity, fence: highest });
        }
        self.machine(keeper).disk.fences.insert(entity, (epoch, by));
        self.fenced_by_right.insert(entity);
        self.told.push(format!("{keeper} stores fence {epoch} of {entity} by {by}"));
        let logs = self.machine(keeper).disk.logs.clone();
        self.send(keeper, by, Message::Stored { entity, epoch, logs });
    }

    fn stored(&mut self, node: Node, from: Node, entity: Entity, epoch: u64, logs: &BTreeMap<Key, Vec<Log>>) {
        if self.rules.has(AFTER) {
            let own = self.machine(node).disk.key;
            let others: BTreeMap<_, _> =
                logs.iter().filter(|(key, _)| **key != own).map(|(key, it)| (*key, it.clone())).collect();
            self.machine(node).disk.take_all(&others);
        }
        if let Some(adopting) = self.machine(node).memory.adopting.get_mut(&entity).filter(|it| it.epoch == epoch) {
            adopting.stored.insert(from);
            self.decide(node, entity);
        }
    }

    /// Writes the adoption once enough keepers have stored the fence.
    fn decide(&mut self, node: Node, entity: Entity) {
        let view = self.view(node, entity);
        let Some(adopting) = self.machine(node).memory.adopting.get(&entity).cloned() else { return };
        if adopting.owner != view.owner || !self.machine(node).memory.is_ready {
            self.machine(node).memory.adopting.remove(&entity);
            return;
        }
        let log =
            self.machine(node).disk.logs.get(&view.owner).and_then(|logs| logs.first()).cloned().unwrap_or_default();
        if self.in_force(&log) != adopting.keeping && self.rules.has(AGAIN) {
            return;
        }
        let newest = adopting.keeping.last().cloned().unwrap_or_default();
        let wanted = |keeping: &Keeping| match keeping.acks {
            0 => 0,
            _ if self.rules.has(QUORUM) => keeping.fences(),
            _ => 1,
        };
        let is_stored = |keeping: &Keeping| keeping.keepers.intersection(&adopting.stored).count() >= wanted(keeping);
        if !adopting.keeping.iter().all(is_stored) {
            return;
        }
        // Its own earlier key's history is the one that others saw, to its end, wherever it divides.
        let is_heir = node_of(view.owner) == node && view.owner != self.machine(node).disk.key;
        let end = at(&log, log.len()).map(|id| End { key: view.owner, place: log.len(), id });
        let is_divided = self.machine(node).disk.divided(view.owner) <= log.len();
        let goes_on = if is_heir && !(is_divided && self.rules.has(BOTH)) { end } else { view.last };
        let Some(last) = goes_on else { return };
        if Disk::keepings(self.machine(node).disk.own()).is_empty() {
            let keepers: BTreeSet<Node> = newest.keepers.iter().copied().filter(|keeper| *keeper != node).collect();
            self.append(node, Body::Keeping(Keeping { acks: newest.acks.min(keepers.len()), keepers }));
        }
        self.append(node, Body::Adopted { entity, epoch: adopting.epoch, last });
        for (of, was) in std::mem::take(&mut self.machine(node).disk.anew) {
            if of != entity {
                self.machine(node).disk.anew.push((of, was));
                continue;
            }
            self.append(node, Body::Turn { entity, was: Some(was) });
            let id = self.next;
            self.rewritten.insert(was, id);
            self.in_place.insert(was, id);
        }
        if node_of(view.owner) != node {
            self.adopted.insert(entity);
            self.fenced_by_right.insert(entity);
            if newest.acks == 0 {
                self.unpromised.insert(entity);
            }
        }
        self.machine(node).memory.adopting.remove(&entity);
    }

    /// The hostile node answers anything.
    fn lie(&mut self, from: Node, message: &Message) {
        if !self.is_lossy {
            return;
        }
        let far = self.random.below(100) as u64;
        match message {
            Message::Asks => self.send(HOSTILE, from, Message::Has { logs: BTreeMap::new() }),
            Message::Logs { key, .. } => {
                let key = *key;
                let own = self.machine(from).disk.own().to_vec();
                let place = self.random.below(own.len() + 3);
                let fences = (0..ENTITIES).map(|entity| (entity, ((far, HOSTILE), false))).collect();
                let id = if self.random.one_in(2) { at(&own, place).unwrap_or_default() } else { far };
                let fences = if self.random.one_in(2) { fences } else { BTreeMap::new() };
                self.send(HOSTILE, from, Message::Held { key, held: Held { place, id, is_on_disk: true, fences } });
            }
            Message::Fence { entity, epoch } => {
                let (entity, epoch) = (*entity, *epoch);
                self.send(HOSTILE, from, Message::Stored { entity, epoch, logs: BTreeMap::new() });
            }
            Message::Has { .. } | Message::Held { .. } | Message::Stored { .. } | Message::NotStored { .. } => {}
        }
    }

    /// The hostile node fences whatever it may.
    pub(super) fn attack(&mut self) {
        let entity = self.random.below(usize::from(ENTITIES)) as Entity;
        let to = self.random.below(usize::from(HOSTILE)) as Node;
        let epoch = match self.random.below(3) {
            0 => REACH,
            1 => u64::MAX / 4,
            _ => self.random.below(20) as u64,
        };
        self.send(HOSTILE, to, Message::Fence { entity, epoch });
    }
}

/// How copies are kept: so that honest disks are enough to acknowledge and to adopt.
pub(super) fn keeping(random: &mut Random, owner: Node, machines: &[Machine]) -> Keeping {
    for _ in 0..20 {
        let keepers: BTreeSet<Node> = (0..NODES).filter(|node| *node != owner && !random.one_in(3)).collect();
        let acks = if random.one_in(5) { 0 } else { 1 + random.below(keepers.len()) }.min(keepers.len());
        let keeping = Keeping { acks, keepers };
        if keeping.is_enough(machines) {
            return keeping;
        }
    }
    Keeping::default()
}

impl Keeping {
    pub(super) fn is_enough(&self, machines: &[Machine]) -> bool {
        let is_well = |node: &&Node| **node != HOSTILE && !machines[usize::from(**node)].keeps_in_memory;
        let well = self.keepers.iter().filter(is_well).count();
        self.acks == 0 || (well >= self.acks && well >= self.fences())
    }
}
