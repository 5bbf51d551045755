//! The histories of a writer: one as long as it is honest, and else a tree of them. What is asked of them most often, whether an
//! entry is at or before a head, takes a constant number of steps in a log that has one history.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::known::{Item, Stretch};
use crate::domain::ids::{EntityId, EntryId, WriterKey};
use crate::domain::loom::Head;
use crate::domain::steps;

/// A place in a tree of histories: behind so many entries of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Spot {
    pub(super) branch: u32,
    pub(super) count: u32,
}

impl Spot {
    fn items(self) -> usize {
        usize::try_from(self.count).unwrap_or(usize::MAX)
    }
}

#[derive(Debug)]
struct Branch {
    /// Where it leaves another; nothing: what is before its base is not known, or it is the beginning.
    parent: Option<Spot>,
    /// A branch further up, so that the way up takes a logarithmic number of steps.
    jump: u32,
    depth: u32,
    base: Head,
    items: Vec<Item>,
    /// The chain behind each of them, if anything names one.
    chains: Vec<[u8; 32]>,
    covered: u32,
}

impl Branch {
    fn first(&self) -> u64 {
        self.items.first().map_or(u64::MAX, |item| item.place)
    }

    /// The index of a place among the entries.
    fn index(&self, place: u64) -> Option<usize> {
        let near = usize::try_from(place.checked_sub(self.first())?).ok()?;
        if self.items.get(near).is_some_and(|item| item.place == place) {
            return Some(near);
        }
        // In a cast there are places between, which other entries of the log have.
        self.items.binary_search_by_key(&place, |item| item.place).ok()
    }
}

/// The branch of this number in a list.
fn at<T>(list: &[T], number: u32) -> Option<&T> {
    list.get(usize::try_from(number).ok()?)
}

fn number(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// All that is known of one log, or of one writer's entries of one cast.
#[derive(Debug)]
pub(super) struct History {
    writer: WriterKey,
    cast: Option<EntityId>,
    chained: bool,
    branches: Vec<Branch>,
    /// Heads within branches but the first, and the bases of those that begin somewhere unknown.
    heads: HashMap<(u64, [u8; 32]), Spot>,
    forks: HashMap<(Spot, EntryId, u64), u32>,
    /// Where entries are that are not in the first branch.
    elsewhere: HashMap<EntryId, Vec<Spot>>,
}

impl History {
    /// Joins stretches of one writer's log, or of its entries of one cast. Heads can be found if there are several, or if it is asked for.
    pub(super) fn of(mut stretches: Vec<&Stretch>, is_named: bool) -> Option<Self> {
        let first = stretches.first()?;
        let mut history = Self {
            writer: first.writer,
            cast: first.cast,
            chained: is_named || stretches.len() > 1,
            branches: Vec::new(),
            heads: HashMap::new(),
            forks: HashMap::new(),
            elsewhere: HashMap::new(),
        };
        if let [only] = stretches.as_slice()
            && !history.chained
            && history.cast.is_none()
        {
            history.begin(None, only.from);
            if let Some(branch) = history.branches.first_mut() {
                branch.items.clone_from(&only.items);
                branch.covered = number(only.covered.min(only.items.len()));
            }
            return Some(history);
        }
        // What begins earlier comes first, so that whatever a later one follows is there.
        stretches.sort_by_key(|stretch| (stretch.from.sequence, Reverse(stretch.items.len()), stretch.from.chain));
        for stretch in stretches {
            history.add(stretch);
        }
        Some(history)
    }

    fn add(&mut self, stretch: &Stretch) {
        if stretch.items.is_empty() {
            return;
        }
        let mut spot = match self.find(&stretch.from) {
            Some(spot) => spot,
            None => self.begin(None, stretch.from),
        };
        let mut last = self.last(spot);
        for (index, item) in stretch.items.iter().enumerate() {
            steps::count(1);
            // Who signs places that do not rise says nothing by it.
            if last.is_some_and(|last| item.place <= last) {
                return;
            }
            last = Some(item.place);
            spot = self.step(spot, *item);
            if index + 1 == stretch.covered {
                self.cover(spot);
            }
        }
    }

    fn last(&self, spot: Spot) -> Option<u64> {
        let before = spot.items().checked_sub(1)?;
        at(&self.branches, spot.branch)?.items.get(before).map(|item| item.place)
    }

    fn begin(&mut self, parent: Option<Spot>, base: Head) -> Spot {
        let branch = number(self.branches.len());
        let above = parent.and_then(|parent| at(&self.branches, parent.branch).map(|above| (parent.branch, above)));
        let (jump, depth) = match above {
            None => (branch, 0),
            Some((up, above)) => {
                let far = at(&self.branches, above.jump);
                let further = far.and_then(|far| at(&self.branches, far.jump));
                let even = far.zip(further).is_some_and(|(far, further)| {
                    above.depth.abs_diff(far.depth) == far.depth.abs_diff(further.depth) && above.jump != up
                });
                (if even { far.map_or(up, |far| far.jump) } else { up }, above.depth.saturating_add(1))
            }
        };
        self.branches.push(Branch { parent, jump, depth, base, items: Vec::new(), chains: Vec::new(), covered: 0 });
        let spot = Spot { branch, count: 0 };
        if parent.is_none() {
            self.heads.insert((base.sequence, base.chain), spot);
        }
        spot
    }

    /// Goes on from a place by one entry, along what is known or along a new branch.
    fn step(&mut self, spot: Spot, item: Item) -> Spot {
        let next = at(&self.branches, spot.branch).and_then(|branch| branch.items.get(spot.items()));
        match next.copied() {
            Some(next) if next == item => Spot { branch: spot.branch, count: spot.count.saturating_add(1) },
            Some(_) => {
                if let Some(branch) = self.forks.get(&(spot, item.id, item.place)) {
                    return Spot { branch: *branch, count: 1 };
                }
                let begun = self.begin(Some(spot), self.head(spot));
                self.forks.insert((spot, item.id, item.place), begun.branch);
                self.push(begun.branch, item)
            }
            None => self.push(spot.branch, item),
        }
    }

    fn push(&mut self, branch: u32, item: Item) -> Spot {
        let is_first = branch == 0;
        let (chained, is_cast) = (self.chained, self.cast.is_some());
        let Some(held) = usize::try_from(branch).ok().and_then(|branch| self.branches.get_mut(branch)) else {
            return Spot { branch, count: 0 };
        };
        held.items.push(item);
        let spot = Spot { branch, count: number(held.items.len()) };
        if chained {
            let before = held.chains.last().copied().unwrap_or(held.base.chain);
            let chain = after(is_cast, before, &item);
            held.chains.push(chain);
            if !is_first {
                let sequence = held.base.sequence.saturating_add(u64::from(spot.count));
                self.heads.insert((sequence, chain), spot);
            }
        }
        if !is_first {
            self.elsewhere.entry(item.id).or_default().push(spot);
        }
        spot
    }

    /// The head at a place.
    pub(super) fn head(&self, spot: Spot) -> Head {
        let Some(branch) = at(&self.branches, spot.branch) else { return Head::default() };
        let chain = spot.items().checked_sub(1).and_then(|before| branch.chains.get(before));
        Head {
            sequence: branch.base.sequence.saturating_add(u64::from(spot.count)),
            chain: chain.copied().unwrap_or(branch.base.chain),
        }
    }

    /// Marks all up to a place as covered by a signature.
    fn cover(&mut self, spot: Spot) {
        let mut up = Some(spot);
        while let Some(spot) = up {
            let branch = usize::try_from(spot.branch).ok().and_then(|branch| self.branches.get_mut(branch));
            let Some(branch) = branch.filter(|branch| branch.covered < spot.count) else { return };
            // Where some of it was covered before, all before it was.
            up = branch.parent.filter(|_| branch.covered == 0);
            branch.covered = spot.count;
        }
    }

    /// The place of a head, wherever it leads.
    fn find(&self, head: &Head) -> Option<Spot> {
        if let Some(spot) = self.heads.get(&(head.sequence, head.chain)) {
            return Some(*spot);
        }
        let first = self.branches.first()?;
        let count = head.sequence.checked_sub(first.base.sequence)?;
        let chain = first.chains.get(usize::try_from(count).ok()?.checked_sub(1)?)?;
        (*chain == head.chain).then_some(Spot { branch: 0, count: u32::try_from(count).ok()? })
    }

    /// The place of a head that a signature covers.
    pub(super) fn signed(&self, head: &Head) -> Option<Spot> {
        self.find(head).filter(|spot| self.is_covered(*spot))
    }

    pub(super) fn is_covered(&self, spot: Spot) -> bool {
        at(&self.branches, spot.branch).is_some_and(|branch| spot.count <= branch.covered)
    }

    /// Which entry has a place of the log, on the way to a place in this tree.
    fn on_the_way(&self, to: Spot, place: u64) -> Option<(EntryId, Spot)> {
        let mut to = to;
        loop {
            steps::count(1);
            let branch = at(&self.branches, to.branch)?;
            if branch.first() <= place {
                let index = branch.index(place).filter(|index| *index < to.items())?;
                let spot = Spot { branch: to.branch, count: number(index + 1) };
                return branch.items.get(index).map(|item| (item.id, spot));
            }
            let far = at(&self.branches, branch.jump).filter(|far| far.first() > place && branch.jump != to.branch);
            to = if far.is_some() { Spot { branch: branch.jump, count: 0 } } else { branch.parent? };
        }
    }

    /// Whether an entry is at or before a place.
    pub(super) fn leads(&self, id: EntryId, place: u64, to: Spot) -> bool {
        self.on_the_way(to, place).is_some_and(|(found, _)| found == id)
    }

    /// The place of an entry on the way to another.
    pub(super) fn place_of(&self, id: EntryId, place: u64, to: Spot) -> Option<Spot> {
        self.on_the_way(to, place).filter(|(found, _)| *found == id).map(|(_, spot)| spot)
    }

    /// Where an entry is: in one history, or in several.
    pub(super) fn spots(&self, id: EntryId, place: u64) -> impl Iterator<Item = Spot> + '_ {
        let first = self.branches.first().and_then(|branch| {
            let index = branch.index(place)?;
            let spot = Spot { branch: 0, count: number(index + 1) };
            branch.items.get(index).filter(|item| item.id == id).map(|_| spot)
        });
        let others = if self.branches.len() > 1 { self.elsewhere.get(&id) } else { None };
        first.into_iter().chain(others.into_iter().flatten().copied())
    }

    /// The branches from a place down to the beginning, each with how much of it leads there.
    pub(super) fn up(&self, from: Spot) -> impl Iterator<Item = Spot> + '_ {
        std::iter::successors(Some(from), |spot| at(&self.branches, spot.branch)?.parent)
    }

    fn ancestor(&self, branch: u32, depth: u32) -> Option<u32> {
        let mut branch = branch;
        loop {
            steps::count(1);
            let here = at(&self.branches, branch)?;
            if here.depth <= depth {
                return Some(branch);
            }
            let far = at(&self.branches, here.jump)?;
            branch = if far.depth >= depth { here.jump } else { here.parent?.branch };
        }
    }

    /// How much of a branch leads to a place.
    fn share(&self, branch: u32, to: Spot) -> Option<u32> {
        if to.branch == branch {
            return Some(to.count);
        }
        let depth = at(&self.branches, branch)?.depth.saturating_add(1);
        let child = self.ancestor(to.branch, depth)?;
        at(&self.branches, child)?.parent.filter(|parent| parent.branch == branch).map(|parent| parent.count)
    }

    /// The last place that leads to both.
    pub(super) fn meet(&self, one: Spot, other: Spot) -> Option<Spot> {
        let depth = at(&self.branches, one.branch)?.depth.min(at(&self.branches, other.branch)?.depth);
        let (mut left, mut right) = (self.ancestor(one.branch, depth)?, self.ancestor(other.branch, depth)?);
        while left != right {
            steps::count(1);
            let (up, across) = (at(&self.branches, left)?, at(&self.branches, right)?);
            if up.jump != across.jump && up.depth > 0 {
                (left, right) = (up.jump, across.jump);
            } else {
                (left, right) = (up.parent?.branch, across.parent?.branch);
            }
        }
        Some(Spot { branch: left, count: self.share(left, one)?.min(self.share(left, other)?) })
    }

    /// The place from which on it is proved that there are two histories: two signed ways on from one head.
    pub(super) fn divides_at(&self) -> Option<u64> {
        let mut ways: HashMap<Spot, u64> = HashMap::new();
        let mut lowest: Option<u64> = None;
        for branch in self.branches.iter().filter(|branch| branch.covered > 0) {
            let Some(parent) = branch.parent else { continue };
            let above = at(&self.branches, parent.branch).filter(|above| above.covered > parent.count);
            let rival = above.and_then(|above| above.items.get(parent.items())).map(|item| item.place);
            let other = ways.insert(parent, branch.first());
            for place in [rival, other].into_iter().flatten() {
                let place = place.min(branch.first());
                lowest = Some(lowest.map_or(place, |lowest| lowest.min(place)));
            }
        }
        lowest
    }

    /// Which entry has a place in the first history, if a signature covers it.
    pub(super) fn signed_at(&self, place: u64) -> Option<EntryId> {
        let branch = self.branches.first()?;
        let index = branch.index(place).filter(|index| number(index + 1) <= branch.covered)?;
        branch.items.get(index).map(|item| item.id)
    }

    /// Whether there is one history, and it is a log.
    pub(super) const fn is_simple(&self) -> bool {
        self.branches.len() == 1 && self.cast.is_none()
    }

    pub(super) const fn writer(&self) -> WriterKey {
        self.writer
    }

    pub(super) const fn is_cast(&self) -> bool {
        self.cast.is_some()
    }

    /// The root of the cast, if it is one.
    pub(super) const fn cast(&self) -> Option<EntityId> {
        self.cast
    }

    /// Whether the first history is here from its beginning.
    pub(super) fn is_whole(&self) -> bool {
        self.branches.first().is_some_and(|branch| branch.parent.is_none() && branch.base == Head::default())
    }

    /// The entries of the first history that a signature covers.
    pub(super) fn signed_items(&self) -> &[Item] {
        let branch = self.branches.first();
        branch.and_then(|branch| branch.items.get(..usize::try_from(branch.covered).ok()?)).unwrap_or_default()
    }

    /// The entries of all branches that a signature covers.
    pub(super) fn covered(&self) -> impl Iterator<Item = &Item> {
        self.branches
            .iter()
            .flat_map(|branch| branch.items.iter().take(Spot { branch: 0, count: branch.covered }.items()))
    }
}

/// The chain after one more entry. That of a cast has the entry's place in the log too: nothing else in it says what was left out.
fn after(is_cast: bool, chain: [u8; 32], item: &Item) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&chain);
    if is_cast {
        hasher.update(&item.place.to_be_bytes());
    }
    hasher.update(&item.id.digest());
    *hasher.finalize().as_bytes()
}
