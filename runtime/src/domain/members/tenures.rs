//! Who owns an entity: its opener, and then whoever adopted it, one after the other.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use super::expulsions::Base;
use super::facts::Ix;
use super::logs::Mark;
use super::terms::Principal;
use crate::domain::ids::{EntryId, WriterKey};
use crate::domain::limits::EPOCH_STEP_MAX;
use crate::domain::steps;

/// Of two the lower holds: the founder, then nodes by authority and name, then bare keys; then the place, then the id.
pub(super) type Tie = (Option<Principal>, u64, EntryId);
/// Of two adoptions the higher holds: by right before any without, then the higher epoch, then the lower tie.
type Rank = (u64, Reverse<Option<Tie>>, u64, Reverse<Option<Tie>>);

/// One owner's time.
#[derive(Debug, Clone)]
pub(super) struct Tenure {
    /// The opening or adoption that begins it.
    pub(super) start: Ix,
    pub(super) writer: WriterKey,
    pub(super) epoch: u64,
    /// The last entry of it that whoever came after went on from.
    pub(super) until: Option<Mark>,
}

/// An adoption that may begin a time.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) entry: Ix,
    pub(super) writer: WriterKey,
    pub(super) epoch: u64,
    /// The entry that it follows, in the history that it names.
    pub(super) from: Mark,
    /// Whether its writer may adopt.
    pub(super) is_rightful: bool,
    pub(super) tie: Tie,
}

#[derive(Debug, Clone)]
struct Held {
    claim: Option<usize>,
    start: Ix,
    writer: WriterKey,
    epoch: u64,
    before: Option<usize>,
    rank: Rank,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting(usize),
    Busy,
    Held(usize),
}

/// Finds the owners of an entity.
struct Owners<'c, 'b, 'a> {
    base: Base<'b, 'a>,
    claims: &'c [Claim],
    /// Where times may begin, by branch and place. What turns out to begin none is taken out.
    starts: HashMap<(u32, u32), BTreeMap<u32, Ix>>,
    states: HashMap<Ix, State>,
    held: Vec<Held>,
}

/// The owners of an entity that was opened by one entry, with the adoptions that count.
pub(super) fn tenures(opened: (Ix, WriterKey), claims: &[Claim], base: Base<'_, '_>) -> Vec<Tenure> {
    let rank = (0, Reverse(None), 0, Reverse(None));
    let first = Held { claim: None, start: opened.0, writer: opened.1, epoch: 0, before: None, rank };
    let mut owners = Owners {
        base,
        claims,
        starts: HashMap::new(),
        states: HashMap::from([(opened.0, State::Held(0))]),
        held: vec![first],
    };
    if !claims.is_empty() {
        owners.place(opened.0);
    }
    for (at, claim) in claims.iter().enumerate() {
        owners.states.insert(claim.entry, State::Waiting(at));
        owners.place(claim.entry);
    }
    for at in 0..claims.len() {
        owners.settle(at);
    }
    owners.thread()
}

impl Owners<'_, '_, '_> {
    fn place(&mut self, entry: Ix) {
        let Some(sealed) = self.base.facts.get(entry) else { return };
        for mark in self.base.logs.marks(sealed) {
            self.starts.entry((mark.unit, mark.spot.branch)).or_default().insert(mark.spot.count, entry);
        }
    }

    fn take_out(&mut self, entry: Ix) {
        self.states.remove(&entry);
        let Some(sealed) = self.base.facts.get(entry) else { return };
        for mark in self.base.logs.marks(sealed) {
            if let Some(starts) = self.starts.get_mut(&(mark.unit, mark.spot.branch)) {
                starts.remove(&mark.spot.count);
            }
        }
    }

    /// The newest start at or before a place.
    fn nearest(&self, mark: Mark) -> Option<Ix> {
        self.base.logs.up(mark).find_map(|up| {
            steps::count(1);
            let starts = self.starts.get(&(up.unit, up.spot.branch))?;
            starts.range(..=up.spot.count).next_back().map(|(_, entry)| *entry)
        })
    }

    /// Decides about one claim, and about those before it on which it depends.
    fn settle(&mut self, claim: usize) {
        let mut path = vec![claim];
        while let Some(at) = path.last().copied() {
            steps::count(1);
            let Some(claim) = self.claims.get(at) else { return };
            if matches!(self.states.get(&claim.entry), None | Some(State::Held(_))) {
                path.pop();
                continue;
            }
            let near = self.nearest(claim.from).and_then(|near| self.states.get(&near)).copied();
            match near {
                Some(State::Waiting(before)) if before != at => {
                    self.states.insert(claim.entry, State::Busy);
                    path.push(before);
                    continue;
                }
                Some(State::Held(before)) => self.take_over(at, before),
                // Nobody owned it there. What goes in a circle cannot be written, and would begin nothing.
                Some(State::Waiting(_) | State::Busy) | None => self.take_out(claim.entry),
            }
            path.pop();
        }
    }

    fn take_over(&mut self, at: usize, before: usize) {
        let (Some(claim), Some(owner)) = (self.claims.get(at), self.held.get(before)) else { return };
        let step = claim.epoch.saturating_sub(owner.epoch);
        // A former owner, under whichever key, passes a fence without a right; but it ranks behind every adoption by right.
        let is_own = self.base.selves.same_member(claim.writer, owner.writer);
        if step == 0 || step > EPOCH_STEP_MAX || !(claim.is_rightful || is_own) {
            self.take_out(claim.entry);
            return;
        }
        let tie = Reverse(Some(claim.tie.clone()));
        let rank = if claim.is_rightful {
            (claim.epoch, tie, 0, Reverse(None))
        } else {
            (owner.rank.0, owner.rank.1.clone(), claim.epoch, tie)
        };
        let held = Held {
            claim: Some(at),
            start: claim.entry,
            writer: claim.writer,
            epoch: claim.epoch,
            before: Some(before),
            rank,
        };
        self.states.insert(claim.entry, State::Held(self.held.len()));
        self.held.push(held);
    }

    fn thread(self) -> Vec<Tenure> {
        let best = self.held.iter().enumerate().max_by(|(_, one), (_, other)| one.rank.cmp(&other.rank));
        let (mut at, mut until) = (best.map(|(at, _)| at), None);
        let mut thread = Vec::new();
        while let Some(held) = at.and_then(|at| self.held.get(at)) {
            thread.push(Tenure { start: held.start, writer: held.writer, epoch: held.epoch, until });
            until = held.claim.and_then(|claim| self.claims.get(claim)).map(|claim| claim.from);
            at = held.before;
        }
        thread.reverse();
        thread
    }
}
