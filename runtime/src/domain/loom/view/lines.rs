//! Where threads come from: what each entity has inherited of the thread that it forks, found once for all of them.
//!
//! A fork is always of an entity that was opened before it (see `Tree::read`), so one pass in the order of opening sees each thread
//! after the one that it continues. Nothing here recurses, and no chain of forks is walked twice.

use std::collections::BTreeMap;

use crate::domain::ids::EntityId;
use crate::domain::model::Usage;

/// Sums over the beginning of a thread.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sum {
    /// Turns that were spoken.
    pub(super) spoken: u64,
    /// Turns as they are listed, continuations counted.
    pub(super) listed: u64,
    pub(super) usage: Usage,
    /// The judgements, added up, where there is one.
    pub(super) reward: Option<f64>,
}

impl Sum {
    /// The sum with one more turn in it.
    pub(super) fn after(mut self, listed: u64, usage: Usage, rewards: impl Iterator<Item = f64>) -> Self {
        self.spoken += 1;
        self.listed += listed;
        self.usage += usage;
        for reward in rewards {
            self.reward = Some(self.reward.unwrap_or(0.0) + reward);
        }
        self
    }
}

/// The thread of one entity.
#[derive(Debug)]
struct Line {
    /// The entity whose own turns come right before this one's, and how many turns of the thread are kept.
    base: Option<(usize, u64)>,
    inherited: Sum,
    /// What the thread sums up to after each of the entity's own turns.
    own: Vec<Sum>,
    /// How many lines are above, and one of them that is far above: with it a line is found in few steps.
    depth: usize,
    jump: usize,
}

/// The threads of a tree, by the order in which their entities were opened.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: Vec<Line>,
    places: BTreeMap<EntityId, usize>,
}

/// A piece of a thread: the own turns of the entity at `place`, all of them or the first so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) place: usize,
    pub(super) kept: Option<u64>,
}

impl Lines {
    /// Adds the line of the next entity. `turns` are its own, each with what it adds to the sum before it.
    pub(super) fn push<T>(
        &mut self,
        entity: EntityId,
        fork: Option<(EntityId, u64)>,
        turns: impl Iterator<Item = T>,
        add: impl Fn(Sum, T) -> Sum,
    ) {
        let place = self.lines.len();
        let forked = fork.and_then(|(of, turns)| Some((*self.places.get(&of)?, turns)));
        let base = forked.map(|(of, turns)| (self.base_of(of, turns), turns));
        let inherited = base.map(|(base, turns)| self.up_to(base, turns)).unwrap_or_default();
        let mut sum = inherited;
        let own = turns
            .map(|turn| {
                sum = add(sum, turn);
                sum
            })
            .collect();
        let (depth, jump) = base.map_or((0, place), |(base, _)| self.jump_over(base));
        self.lines.push(Line { base, inherited, own, depth, jump });
        self.places.insert(entity, place);
    }

    pub(super) fn place(&self, entity: EntityId) -> Option<usize> {
        self.places.get(&entity).copied()
    }

    /// What a thread has inherited.
    pub(super) fn inherited(&self, place: usize) -> Sum {
        self.lines.get(place).map(|line| line.inherited).unwrap_or_default()
    }

    /// All of a thread.
    pub(super) fn whole(&self, place: usize) -> Sum {
        self.lines.get(place).map(|line| *line.own.last().unwrap_or(&line.inherited)).unwrap_or_default()
    }

    /// The sum after a number of turns of the whole thread, none of which is behind the own turns of the entity.
    fn up_to(&self, place: usize, turns: u64) -> Sum {
        let Some(line) = self.lines.get(place) else { return Sum::default() };
        let own = turns.saturating_sub(line.inherited.spoken);
        if turns == 0 {
            return Sum::default();
        }
        let last = usize::try_from(own).unwrap_or(usize::MAX).min(line.own.len());
        last.checked_sub(1).and_then(|last| line.own.get(last)).copied().unwrap_or(line.inherited)
    }

    /// The pieces of a thread, from its root.
    pub(super) fn pieces(&self, place: usize) -> Vec<Piece> {
        let mut pieces = vec![Piece { place, kept: None }];
        let mut at = place;
        while let Some((base, turns)) = self.lines.get(at).and_then(|line| line.base) {
            crate::domain::steps::count(1);
            pieces.push(Piece { place: base, kept: Some(turns) });
            at = base;
        }
        pieces.reverse();
        pieces
    }

    /// Whether so many turns of a thread end before the own turns of its entity begin.
    fn ends_above(&self, place: usize, turns: u64) -> bool {
        self.lines.get(place).is_some_and(|line| {
            let inherited = line.inherited.spoken;
            line.base.is_some() && if turns == 0 { inherited > 0 } else { inherited >= turns }
        })
    }

    /// The entity in whose own turns so many turns of a thread end: a fork of a fork at an early turn is one of the root.
    fn base_of(&self, place: usize, turns: u64) -> usize {
        let mut at = place;
        while self.ends_above(at, turns) {
            crate::domain::steps::count(1);
            let Some(line) = self.lines.get(at) else { return at };
            at = match line.base {
                // The jump goes over lines that are all passed, because the one that it leads to is.
                _ if line.jump != at && self.ends_above(line.jump, turns) => line.jump,
                Some((base, _)) => base,
                None => return at,
            };
        }
        at
    }

    /// Depth and jump of a line below another: jumps whose lengths are as in a skew-binary number, so that a walk up takes a
    /// logarithm of the depth.
    fn jump_over(&self, above: usize) -> (usize, usize) {
        let depth = |place: usize| self.lines.get(place).map_or(0, |line| line.depth);
        let jump = |place: usize| self.lines.get(place).map_or(place, |line| line.jump);
        let (near, far) = (jump(above), jump(jump(above)));
        let is_even = depth(above) - depth(near) == depth(near) - depth(far);
        (depth(above) + 1, if is_even { far } else { above })
    }
}
