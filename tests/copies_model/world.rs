//! Nodes that write, keep, fence, adopt and are put back, and the messages between them.

use std::collections::{BTreeMap, BTreeSet};

use crate::Random;
mod acts;

use crate::record::{
    Body, Disk, End, Entity, Entry, Fence, Id, Keeping, Key, Log, Node, REACH, View, at, common, first_key, node_of,
};

/// Node 0 opens entities 0 and 1. 0 to 3 are honest, 4 is not.
pub(crate) const NODES: Node = 5;
pub(crate) const HOSTILE: Node = 4;
pub(crate) const OPENER: Node = 0;
pub(crate) const ENTITIES: Entity = 2;

/// The rules, each of which can be left out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules(u32);

impl Rules {
    pub(crate) const ALL: Self = Self(u32::MAX);
    pub(crate) const NAMES: [&'static str; 21] = [
        "6.2 only a disk counts",
        "6.2 a fenced entity is acknowledged to nobody",
        "6.2 other entities of that writer go on",
        "6.2 fences are stored",
        "6.2 a fence comes with what shows that its adopter may",
        "6.3 how many is in the record",
        "6.3 a change is acknowledged under the old",
        "6.3 an adopter that meets a newer change begins again",
        "6.4 k - n + 1 keepers store the fence",
        "6.4 logs are read after the fence",
        "6.4 an adoption is acknowledged where the former owner was",
        "5.4 a fence without an adoption is passed by a higher one",
        "5.4 a fence far ahead waits",
        "6.5 keepers are asked before writing",
        "6.5 k - n + 1 of them answer",
        "6.5 the old log is fetched back",
        "6.5 what was not signed is written anew",
        "6.5 what comes later of an earlier key is written anew",
        "6.5 of two signed tails both are written anew",
        "6.5 of two signed tails that may be acknowledged the later one keeps its entities",
        "6.3 a change is said again once it is acknowledged, and no other before that",
    ];

    pub(crate) const fn without(rule: usize) -> Self {
        Self(!(1 << rule))
    }

    const fn has(self, rule: usize) -> bool {
        self.0 & (1 << rule) != 0
    }
}

/// What a keeper says of a log.
#[derive(Debug, Clone, Default)]
struct Held {
    place: usize,
    id: Id,
    is_on_disk: bool,
    /// With what shows that the adopter may, or without.
    fences: BTreeMap<Entity, (Fence, bool)>,
}

#[derive(Debug, Clone)]
enum Message {
    /// A node asks another what it has of the logs of its own keys.
    Asks,
    Has {
        logs: BTreeMap<Key, Vec<Log>>,
    },
    /// Everything that a node has, and its own log signed.
    Logs {
        key: Key,
        logs: BTreeMap<Key, Vec<Log>>,
    },
    Held {
        key: Key,
        held: Held,
    },
    Fence {
        entity: Entity,
        epoch: u64,
    },
    Stored {
        entity: Entity,
        epoch: u64,
        logs: BTreeMap<Key, Vec<Log>>,
    },
    NotStored {
        entity: Entity,
        fence: Fence,
    },
}

/// A node that is about to go on with an entity of somebody else.
#[derive(Debug, Clone)]
struct Adopting {
    epoch: u64,
    owner: Key,
    keeping: Vec<Keeping>,
    stored: BTreeSet<Node>,
}

/// A turn that waits until enough others have it.
#[derive(Debug, Clone, Copy)]
struct Pending {
    entity: Entity,
    place: usize,
    epoch: u64,
}

/// What is gone when a process ends.
#[derive(Debug, Clone, Default)]
struct Memory {
    is_ready: bool,
    answers: BTreeSet<Node>,
    held: BTreeMap<Node, Held>,
    met: BTreeSet<Node>,
    pending: Vec<Pending>,
    adopting: BTreeMap<Entity, Adopting>,
    /// The fence that stands without an adoption, and how often it was met: it may come yet.
    waited: BTreeMap<Entity, (u64, u8)>,
    /// The highest fence that was met on the way.
    refused: BTreeMap<Entity, u64>,
}

#[derive(Debug, Clone, Default)]
struct Machine {
    disk: Disk,
    memory: Memory,
    keeps_in_memory: bool,
    may_adopt: bool,
    older: Vec<Disk>,
}

/// A turn that counted as recorded.
#[derive(Debug, Clone)]
struct Recorded {
    id: Id,
    entity: Entity,
    by: BTreeSet<Node>,
    acks: usize,
}

pub(crate) struct World {
    random: Random,
    rules: Rules,
    machines: Vec<Machine>,
    network: Vec<(Node, Node, Message)>,
    next: Id,
    recorded: Vec<Recorded>,
    /// Those whose disk was put back, and the hostile one: what they said is worth nothing.
    untrue: BTreeSet<Node>,
    /// What a keeper's disk had at a time, signed: others have seen it.
    seen: Vec<(Id, Entity, Node)>,
    /// What was in a process's own record, and what became of it.
    rewritten: BTreeMap<Id, Id>,
    /// What was written anew in the thread that it was in.
    in_place: BTreeMap<Id, Id>,
    tails: Vec<Id>,
    is_lossy: bool,
    /// A node that nobody reaches for now.
    cut: Option<Node>,
    /// Entities that another node went on with.
    adopted: BTreeSet<Entity>,
    /// Entities that were adopted by what says that nothing is acknowledged: what their owner counted since it said otherwise is no
    /// promise of that adopter.
    unpromised: BTreeSet<Entity>,
    /// Entities that somebody has fenced who may.
    fenced_by_right: BTreeSet<Entity>,
    /// Whether folders are put back, and the hostile node fences, in this history.
    is_put_back: bool,
    is_attacked: bool,
    first: Keeping,
    pub(crate) wrong: Vec<String>,
    /// What happened.
    pub(crate) told: Vec<String>,
}

impl World {
    pub(crate) fn new(seed: u64, rules: Rules) -> Self {
        let mut random = Random(seed);
        let mut machines: Vec<Machine> = (0..NODES).map(|_| Machine::default()).collect();
        for (node, machine) in machines.iter_mut().enumerate() {
            machine.disk.key = first_key(node as Node);
            machine.keeps_in_memory = node != 0 && random.one_in(5);
            machine.may_adopt = !random.one_in(3);
        }
        let (is_put_back, is_attacked) = (random.one_in(2), random.one_in(2));
        let first = acts::keeping(&mut random, OPENER, &machines);
        let mut world = Self {
            random,
            rules,
            machines,
            first,
            network: Vec::new(),
            next: 0,
            recorded: Vec::new(),
            untrue: BTreeSet::from([HOSTILE]),
            seen: Vec::new(),
            rewritten: BTreeMap::new(),
            in_place: BTreeMap::new(),
            tails: Vec::new(),
            is_lossy: true,
            cut: None,
            adopted: BTreeSet::new(),
            unpromised: BTreeSet::new(),
            fenced_by_right: BTreeSet::new(),
            is_put_back,
            is_attacked,
            wrong: Vec::new(),
            told: Vec::new(),
        };
        let keeping = world.first.clone();
        world.append(OPENER, Body::Keeping(keeping));
        world
    }

    /// Nothing is lost, nothing is in memory only, and everybody honest may adopt. What was begun is begun anew with this keeping.
    pub(crate) fn quiet(&mut self, first: Keeping) {
        self.is_lossy = false;
        self.first = first.clone();
        for machine in &mut self.machines {
            machine.disk.logs.clear();
            machine.keeps_in_memory = false;
            machine.may_adopt = true;
        }
        self.append(OPENER, Body::Keeping(first));
    }

    pub(crate) fn keeps_in_memory(&mut self, node: Node) {
        self.machine(node).keeps_in_memory = true;
    }

    /// Remembers a folder as it is.
    pub(crate) fn keep_folder(&mut self, node: Node) {
        let disk = self.machine(node).disk.clone();
        self.machine(node).older = vec![disk];
    }

    /// Delivers what is on its way between these nodes; the rest waits.
    pub(crate) fn deliver_among(&mut self, nodes: &BTreeSet<Node>) {
        for _ in 0..1_000 {
            let next = self.network.iter().position(|(from, to, _)| nodes.contains(from) && nodes.contains(to));
            let Some(next) = next else { return };
            self.deliver(next);
        }
    }

    /// Which turns that were acknowledged, or seen, are lost.
    pub(crate) fn lost(mut self) -> Vec<String> {
        for machine in &mut self.machines {
            machine.disk.signed = machine.disk.own().len();
        }
        self.judge_what_is_kept(&self.union());
        self.wrong
    }

    /// Lets things happen.
    pub(crate) fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            let node = self.random.below(usize::from(HOSTILE)) as Node;
            let entity = self.random.below(usize::from(ENTITIES)) as Entity;
            match self.random.below(40) {
                14..=17 => drop(self.write(node, entity)),
                18 | 19 => drop(self.write(OPENER, entity)),
                20..=24 => {
                    let to = self.random.below(usize::from(NODES)) as Node;
                    if to != node {
                        self.tell(node, to);
                    }
                }
                25 | 26 => self.ask(node),
                27 => self.begin(node, true),
                28..=30 => self.adopt(node, entity),
                31 if self.is_attacked => self.attack(),
                32 => self.crash(node),
                33 | 34 => {
                    let disk = self.machine(node).disk.clone();
                    self.machine(node).older.push(disk);
                }
                35 if self.is_put_back && self.untrue.len() < 3 => self.put_back(node),
                36 if self.random.one_in(3) => self.change(node),
                37 => self.cut = Some(node).filter(|_| !self.random.one_in(3)),
                38 if self.machine(node).keeps_in_memory => self.crash(node),
                _ => self.deliver_one(),
            }
        }
    }

    fn deliver_one(&mut self) {
        if !self.network.is_empty() {
            let index = self.random.below(self.network.len());
            self.deliver(index);
        }
    }

    fn deliver_all(&mut self) {
        for _ in 0..2_000 {
            if self.network.is_empty() {
                return;
            }
            self.deliver_one();
        }
    }

    /// All is well again: what was recorded is there, and whoever owns an entity can go on.
    pub(crate) fn settle(&mut self) {
        self.is_lossy = false;
        self.cut = None;
        self.network.retain(|(from, ..)| *from != HOSTILE);
        let before = self.recorded.len();
        for _ in 0..25 {
            for node in 0..HOSTILE {
                self.ask(node);
                self.deliver_all();
                self.begin(node, true);
                for to in 0..HOSTILE {
                    if to != node {
                        self.tell(node, to);
                    }
                }
                self.deliver_all();
                for entity in 0..ENTITIES {
                    let view = self.view(node, entity);
                    if node_of(view.owner) == node {
                        self.adopt(node, entity);
                    }
                    self.write(node, entity);
                }
            }
        }
        self.judge(before);
    }

    fn union(&self) -> Disk {
        let mut union = Disk { key: Key::MAX, ..Disk::default() };
        for machine in &self.machines[..usize::from(HOSTILE)] {
            let mut logs = machine.disk.logs.clone();
            if let Some(own) = logs.get_mut(&machine.disk.key) {
                own[0].truncate(machine.disk.signed);
            }
            union.take_all(&logs);
        }
        union
    }

    /// The id of a turn after it was written anew in its thread, however often.
    fn latest(&self, mut id: Id) -> Id {
        while let Some(next) = self.in_place.get(&id) {
            id = *next;
        }
        id
    }

    fn judge_what_is_kept(&mut self, union: &Disk) {
        let mut wrong = Vec::new();
        for entity in 0..ENTITIES {
            let view = self.view_of(union, entity);
            let now = |id: &Id| self.latest(*id);
            let is_there = |id: &Id| view.thread.contains(id) || view.thread.contains(&now(id));
            for turn in self.recorded.iter().filter(|turn| turn.entity == entity && turn.acks > 0) {
                let is_kept = turn.by.is_disjoint(&self.untrue) && !self.unpromised.contains(&entity);
                if is_kept && !is_there(&turn.id) {
                    wrong.push(format!(
                        "turn {} of {entity} was acknowledged by {:?} and is lost: {view:?}",
                        turn.id, turn.by
                    ));
                }
            }
            if !self.adopted.contains(&entity) {
                for (id, ..) in self.seen.iter().filter(|(_, of, by)| *of == entity && !self.untrue.contains(by)) {
                    if !is_there(id) && !self.rewritten.contains_key(id) {
                        wrong.push(format!("turn {id} of {entity} was seen and is lost"));
                    }
                }
            }
        }
        self.wrong.extend(wrong);
    }

    fn judge(&mut self, before: usize) {
        let union = self.union();
        self.judge_what_is_kept(&union);
        for entity in 0..ENTITIES {
            let view = self.view_of(&union, entity);
            let is_there = |id: &Id| view.thread.contains(id);
            let owner = node_of(view.owner);
            let went_on = self.recorded[before..].iter().any(|turn| turn.entity == entity && is_there(&turn.id));
            if owner != HOSTILE && !went_on && self.may_go_on(&union, view.owner) {
                self.wrong.push(format!("the owner {owner} of {entity} cannot go on: {view:?}"));
            }
        }
        for id in &self.tails {
            if !self.rewritten.contains_key(id) {
                self.wrong.push(format!("turn {id} was on its writer's disk and is lost"));
            }
        }
    }

    /// Whether honest disks are enough for every keeping that an owner has to do with.
    fn may_go_on(&self, union: &Disk, owner: Key) -> bool {
        let of_node = |key: &Key| node_of(*key) == node_of(owner);
        let keepings =
            union.logs.iter().filter(|(key, _)| of_node(key) || union.logs.len() > 1).flat_map(|(_, logs)| logs);
        keepings.flat_map(|log| Disk::keepings(log)).all(|(_, keeping)| keeping.is_enough(&self.machines))
    }
}
