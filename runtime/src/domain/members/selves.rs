//! Who is who: as whom each key can act, by itself, by the nodes that it is bound to, and by the keys whose place it takes.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use super::record::{CheckedRecord, Vouched};
use super::terms::{CertificateId, NodeId, Principal};
use crate::domain::ids::WriterKey;
use crate::domain::limits::PREDECESSORS_MAX;
use crate::domain::steps;

/// What is known of one key.
#[derive(Debug, Default)]
struct Key {
    /// As whom it can act, by number, in order.
    selves: Vec<u32>,
    records: Vec<usize>,
    is_founder: bool,
    /// When the newest certificate begins that binds it to the founder's node.
    rank: Option<u64>,
}

/// The keys of a loom's writers.
#[derive(Debug, Default)]
pub(super) struct Selves {
    records: Vec<CheckedRecord>,
    by_key: HashMap<WriterKey, Vec<usize>>,
    before: HashMap<WriterKey, BTreeSet<WriterKey>>,
    names: HashMap<Principal, u32>,
    founder: Option<(WriterKey, Option<NodeId>)>,
    keys: HashMap<WriterKey, Key>,
}

impl Selves {
    /// Reads what vouches for keys, for a founder's key and, if its founding entry has a member record, its node.
    pub(super) fn new(vouched: &Vouched, founder: Option<(WriterKey, Option<NodeId>)>) -> Self {
        let mut selves = Self { records: vouched.records.clone(), founder, ..Self::default() };
        selves.records.sort_unstable();
        selves.records.dedup();
        for (at, record) in selves.records.iter().enumerate() {
            selves.by_key.entry(record.key()).or_default().push(at);
        }
        for succession in &vouched.successions {
            selves.before.entry(succession.successor()).or_default().insert(succession.predecessor());
        }
        selves
    }

    /// Takes up a key, so that it can be asked for.
    pub(super) fn learn(&mut self, key: WriterKey) {
        if self.keys.contains_key(&key) {
            return;
        }
        let mut selves = Vec::new();
        let chain = Self::reach(&self.before, key);
        for one in &chain {
            steps::count(1);
            selves.push(self.number(Principal::Key(*one)));
            for record in self.by_key.get(one).into_iter().flatten().copied().collect::<Vec<_>>() {
                if let Some(node) = self.records.get(record).map(|record| record.node().clone()) {
                    selves.push(self.number(Principal::Node(node)));
                }
            }
        }
        selves.sort_unstable();
        selves.dedup();
        let records = self.by_key.get(&key).cloned().unwrap_or_default();
        let mut known = Key { selves, records, ..Key::default() };
        if let Some((founder, node)) = self.founder.clone() {
            let of_node = |record: &&CheckedRecord| Some(record.node()) == node.as_ref();
            let own = known.records.iter().filter_map(|at| self.records.get(*at)).filter(of_node);
            known.rank = own.map(CheckedRecord::begins_us).max();
            let names = [Some(Principal::Key(founder)), node.map(Principal::Node)];
            let mut names = names.iter().flatten().filter_map(|name| self.names.get(name));
            known.is_founder = names.any(|name| known.selves.binary_search(name).is_ok());
        }
        self.keys.insert(key, known);
    }

    /// A key and those whose place it takes: nearest first, and not beyond a bound.
    fn reach(before: &HashMap<WriterKey, BTreeSet<WriterKey>>, key: WriterKey) -> Vec<WriterKey> {
        let (mut found, mut seen) = (Vec::new(), HashSet::from([key]));
        let mut queue = VecDeque::from([key]);
        while let Some(next) = queue.pop_front().filter(|_| found.len() <= PREDECESSORS_MAX) {
            found.push(next);
            queue.extend(before.get(&next).into_iter().flatten().copied().filter(|further| seen.insert(*further)));
        }
        found
    }

    fn number(&mut self, name: Principal) -> u32 {
        let next = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        *self.names.entry(name).or_insert(next)
    }

    /// Whether a key can act as somebody.
    pub(super) fn is(&self, key: WriterKey, who: &Principal) -> bool {
        let Some(known) = self.keys.get(&key) else { return false };
        self.names.get(who).is_some_and(|name| known.selves.binary_search(name).is_ok())
    }

    /// Whether two keys are of one member.
    pub(super) fn same_member(&self, one: WriterKey, other: WriterKey) -> bool {
        if one == other {
            return true;
        }
        let (Some(one), Some(other)) = (self.keys.get(&one), self.keys.get(&other)) else { return false };
        let (short, long) = if one.selves.len() < other.selves.len() { (one, other) } else { (other, one) };
        steps::count(short.selves.len() as u64);
        short.selves.iter().any(|name| long.selves.binary_search(name).is_ok())
    }

    /// Whether a key is the founder's.
    pub(super) fn is_founder(&self, key: WriterKey) -> bool {
        self.keys.get(&key).is_some_and(|known| known.is_founder)
    }

    /// Where a key stands among the founder's: certified ones above others, and of two certificates the later.
    pub(super) fn rank(&self, key: WriterKey) -> Option<u64> {
        self.keys.get(&key).and_then(|known| known.rank)
    }

    /// The founder's node.
    pub(super) fn founders_node(&self) -> Option<&NodeId> {
        self.founder.as_ref().and_then(|(_, node)| node.as_ref())
    }

    /// The founder, by the name that its founding entry gives it.
    pub(super) fn founder(&self) -> Option<Principal> {
        let (key, node) = self.founder.clone()?;
        Some(node.map_or(Principal::Key(key), Principal::Node))
    }

    /// The member records of a key itself.
    pub(super) fn records(&self, key: WriterKey) -> impl Iterator<Item = &CheckedRecord> + '_ {
        let records = self.keys.get(&key).map(|known| known.records.iter());
        records.into_iter().flatten().filter_map(|at| self.records.get(*at))
    }

    /// The nodes that keys are bound to.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.records.iter().map(CheckedRecord::node)
    }

    /// Whether a key is bound to a node by this certificate and by no other.
    pub(super) fn only_by(&self, key: WriterKey, certificate: CertificateId) -> bool {
        let bound = self.records(key).filter(|record| record.certificate() == certificate);
        let mut nodes = bound.map(CheckedRecord::node);
        nodes.any(|node| {
            let mut of_node = self.records(key).filter(|record| record.node() == node);
            of_node.all(|record| record.certificate() == certificate)
        })
    }

    /// As whom a key can act.
    pub(super) fn principals(&self, key: WriterKey) -> Vec<Principal> {
        let mut all = vec![];
        for one in Self::reach(&self.before, key) {
            all.push(Principal::Key(one));
            all.extend(
                self.by_key
                    .get(&one)
                    .into_iter()
                    .flatten()
                    .filter_map(|at| self.records.get(*at).map(|record| Principal::Node(record.node().clone()))),
            );
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}
