//! Turns and threads: the record as people and programs read it, and as a fork or a resumption continues it.
//!
//! Entries are what is stored; a turn is a view of them: an utterance with its observation. A turn of code that casts
//! children shows as two, with the children's turns between them: the spawning turn, and its continuation (COMP-5,
//! LOOM-8). The continuation has no utterance, counts in the sequence, and its parent is the spawning turn.

mod restore;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cantrip_gates::{GateError, Reach};
use serde_json::Value;
use thiserror::Error;

use crate::domain::context::Shown;
use crate::domain::end::EndReason;
use crate::domain::ids::{CallId, EntityId, EntryId, WriterKey};
use crate::domain::model::{Call, Usage, Utterance};

use super::entry::{
    Body, CallRecord, Ended, Entry, EvaluationRecord, Fork, How, Observed, Opened, Payload, Returned, Said, Sealed,
};
use super::owner::Owners;

pub use restore::{Again, CutOff, Replay, Restored};

/// A record that cannot be read as turns.
#[derive(Debug, Error)]
pub enum ViewError {
    /// A text that an entry keeps beside it.
    #[error("the text {id} of entry {entry} is missing")]
    Text {
        /// The entry.
        entry: EntryId,
        /// The text.
        id: String,
    },
    /// An entry without what it follows.
    #[error("entry {entry} ({kind}) has no entity that was opened before it")]
    Orphan {
        /// The entry.
        entry: EntryId,
        /// Its kind.
        kind: &'static str,
    },
    /// No such entity in the loom.
    #[error("the loom has no entity {0}")]
    NoEntity(EntityId),
    /// A fork beyond the end.
    #[error("the thread of {entity} has {turns} turns, so it cannot be forked after turn {asked}")]
    NoTurn {
        /// Whose.
        entity: EntityId,
        /// How many it has.
        turns: u64,
        /// What was asked for.
        asked: u64,
    },
}

/// Resolves a text that may be kept beside its entry.
pub type TextOf<'a> = &'a dyn Fn(&Payload) -> Option<String>;

/// A gate call as it was recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct GateRun {
    /// The call.
    pub call: CallId,
    /// The gate.
    pub gate: String,
    /// The arguments.
    pub arguments: Value,
    /// What it may do.
    pub reach: Reach,
    /// What came of it; nothing if the record ends before that: it may or may not have run.
    pub result: Option<Result<Value, GateError>>,
    /// Whether the result leaves the context.
    pub ephemeral: bool,
    /// How long it took, in microseconds.
    pub duration_us: u64,
}

/// What the entity saw of a turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The entry.
    pub id: EntryId,
    /// When, in microseconds since 1970.
    pub at_us: u64,
    /// The answers, in the order of the calls.
    pub answers: Vec<Shown>,
    /// What a replay needs.
    pub evaluations: Vec<EvaluationRecord>,
    /// From the question to here, in microseconds.
    pub duration_us: u64,
    position: usize,
}

/// A turn with everything in it.
#[derive(Debug, Clone, PartialEq)]
struct Spoken {
    id: EntryId,
    entity: EntityId,
    position: usize,
    at_us: u64,
    said_us: u64,
    said: Utterance,
    gates: Vec<GateRun>,
    /// How many gate calls had begun when the first child was cast.
    split: Option<usize>,
    children: Vec<EntityId>,
    observation: Option<Observation>,
    ended: Option<(How, EndReason)>,
}

impl Spoken {
    fn has_continuation(&self) -> bool {
        self.split.is_some() && self.observation.as_ref().is_some_and(|seen| !seen.evaluations.is_empty())
    }
}

/// A turn as it is listed.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// The entry that it begins with (LOOM-2).
    pub id: EntryId,
    /// The turn before it; for a child's first, the turn that spawned it.
    pub parent: Option<EntryId>,
    /// Whose it is.
    pub entity: EntityId,
    /// Its number in the entity's thread, from 1, continuations counted.
    pub sequence: u64,
    /// When it began, in microseconds since 1970.
    pub at_us: u64,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// What was said; nothing for a continuation.
    pub said: Option<Utterance>,
    /// The gate calls in it.
    pub gates: Vec<GateRun>,
    /// The children that were cast in it.
    pub children: Vec<EntityId>,
    /// What was seen of it; nothing for a spawning turn, whose continuation has it, and for one that a crash cut off.
    pub observation: Option<Observation>,
    /// How the episode ended, on its last turn (LOOM-7).
    pub ended: Option<(How, EndReason)>,
    /// The latest judgement (LOOM-3).
    pub reward: Option<f64>,
}

#[derive(Debug, Clone)]
enum Step {
    Intent {
        text: String,
        steer: bool,
    },
    Turn(usize),
    Folded {
        first: u64,
        last: u64,
        summary: String,
    },
    /// The medium's memory, as an entry has it.
    Snapshot(EntryId),
}

/// One entity of a loom.
#[derive(Debug, Clone)]
pub struct EntityView {
    /// The entry that opened it.
    pub id: EntryId,
    /// Its root context (IDENTITY-4).
    pub opened: Opened,
    /// Its first intent.
    pub intent: String,
    /// The turn that it follows: where it was spawned or forked.
    pub follows: Option<EntryId>,
    /// How its last episode ended, if it did.
    pub ended: Option<Ended>,
    /// Its newest entry: what the next one follows.
    pub head: EntryId,
    /// Tokens of folding.
    folding_usage: Usage,
    steps: Vec<Step>,
}

/// A loom, read.
#[derive(Debug, Default)]
pub struct Tree {
    spoken: Vec<Spoken>,
    entities: BTreeMap<EntityId, EntityView>,
    order: Vec<EntityId>,
    turn_of_entry: BTreeMap<EntryId, usize>,
    rewards: BTreeMap<EntryId, (u64, WriterKey, f64)>,
    results: BTreeMap<EntityId, String>,
    owners: Owners,
    aside: Vec<(EntryId, &'static str)>,
}

impl Tree {
    /// Reads the entries of a loom, each writer's in the order of its sequence, the reading node's own first.
    ///
    /// # Errors
    /// A missing text, or an entry without its entity.
    pub fn read(entries: &[Sealed], text: TextOf<'_>) -> Result<Self, ViewError> {
        // In the order of the store: the reading node's own word is believed first.
        let mut tree = Self { owners: Owners::find(entries), ..Self::default() };
        let ordered = in_causal_order(entries);
        for (position, sealed) in ordered.into_iter().enumerate() {
            if !tree.owners.counts(sealed) {
                tree.aside.push((sealed.id, sealed.entry.body.kind()));
                continue;
            }
            match tree.add(position, sealed.id, &sealed.entry, text) {
                // What it follows has not come yet, or never will: the rest can be read all the same.
                Err(ViewError::Orphan { entry, kind }) => tree.aside.push((entry, kind)),
                added => added?,
            }
        }
        Ok(tree)
    }

    fn add(&mut self, position: usize, id: EntryId, entry: &Entry, text_of: TextOf<'_>) -> Result<(), ViewError> {
        let text = |payload: &Payload| {
            text_of(payload).ok_or_else(|| match payload {
                Payload::Blob { id: blob, .. } => ViewError::Text { entry: id, id: blob.to_string() },
                Payload::Inline(_) => ViewError::Text { entry: id, id: "inline".to_owned() },
            })
        };
        if let Body::Rewarded { value, .. } = &entry.body {
            if let Some(judged) = entry.parent {
                let reward = (entry.at_us, entry.writer, *value);
                let latest = self.rewards.entry(judged).or_insert(reward);
                if (reward.0, reward.1) >= (latest.0, latest.1) {
                    *latest = reward;
                }
            }
            return Ok(());
        }
        if matches!(entry.body, Body::Replayed { .. }) {
            return Ok(());
        }
        if let Body::Opened(opened) = &entry.body {
            let follows = entry
                .parent
                .and_then(|parent| self.turn_of_entry.get(&parent))
                .and_then(|&turn| self.spoken.get(turn))
                .map(|turn| turn.id);
            let intent = text(&opened.intent)?;
            let view = EntityView {
                id,
                opened: (**opened).clone(),
                intent: intent.clone(),
                follows,
                ended: None,
                head: id,
                folding_usage: Usage::default(),
                steps: vec![Step::Intent { text: intent, steer: false }],
            };
            self.entities.insert(entry.entity, view);
            self.order.push(entry.entity);
            return Ok(());
        }
        let orphan = || ViewError::Orphan { entry: id, kind: entry.body.kind() };
        let next = self.spoken.len();
        let view = self.entities.get_mut(&entry.entity).ok_or_else(orphan)?;
        let before = std::mem::replace(&mut view.head, id);
        let current = view.steps.iter().rev().find_map(|step| match step {
            Step::Turn(turn) => Some(*turn),
            Step::Intent { .. } | Step::Folded { .. } | Step::Snapshot(_) => None,
        });
        match &entry.body {
            Body::Intent { text: payload, steer, .. } => {
                view.steps.push(Step::Intent { text: text(payload)?, steer: *steer });
            }
            Body::Folded { first, last, summary, usage } => {
                view.folding_usage += *usage;
                view.steps.push(Step::Folded { first: *first, last: *last, summary: text(summary)? });
            }
            Body::Ended(ended) => {
                match ended.result.as_ref().map(text).transpose()? {
                    Some(result) => drop(self.results.insert(entry.entity, result)),
                    None => drop(self.results.remove(&entry.entity)),
                }
                view.ended = Some((**ended).clone());
                if let Some(turn) = current.and_then(|turn| self.spoken.get_mut(turn)) {
                    turn.ended = Some((ended.how, ended.reason.clone()));
                }
            }
            Body::Utterance(said) => {
                view.ended = None;
                view.steps.push(Step::Turn(next));
                self.spoken.push(Spoken {
                    id,
                    entity: entry.entity,
                    position,
                    at_us: entry.at_us,
                    said_us: said.duration_us,
                    said: utterance(said, &text)?,
                    gates: Vec::new(),
                    split: None,
                    children: Vec::new(),
                    observation: None,
                    ended: None,
                });
                self.turn_of_entry.insert(id, next);
                return Ok(());
            }
            Body::GateCalled { .. } | Body::GateReturned { .. } | Body::Delegated { .. } | Body::Observation(_) => {
                let turn = current.and_then(|turn| self.spoken.get_mut(turn)).ok_or_else(orphan)?;
                turn.add(id, position, entry, &text)?;
            }
            // It is of the moment that it follows, and of no other.
            Body::Snapshot { .. } if entry.parent == Some(before) => view.steps.push(Step::Snapshot(id)),
            Body::Snapshot { .. }
            | Body::Approved { .. }
            | Body::Denied { .. }
            | Body::Rewarded { .. }
            | Body::Replayed { .. }
            | Body::Adopted { .. }
            | Body::Opened(_) => {}
        }
        if let Some(turn) = current {
            self.turn_of_entry.insert(id, turn);
        }
        Ok(())
    }

    /// Entries that are no part of any thread, with their kinds: written by somebody who does not own their entity, or behind
    /// entries that are not there.
    pub fn aside(&self) -> &[(EntryId, &'static str)] {
        &self.aside
    }

    /// What an entity answered at last, as JSON.
    pub fn result(&self, entity: EntityId) -> Option<String> {
        self.results.get(&entity).cloned()
    }

    /// Who goes on with each entity.
    pub const fn owners(&self) -> &Owners {
        &self.owners
    }

    /// The entities in the order they were opened.
    pub fn entities(&self) -> impl Iterator<Item = (EntityId, &EntityView)> {
        self.order.iter().filter_map(|id| self.entities.get(id).map(|view| (*id, view)))
    }

    /// One entity.
    ///
    /// # Errors
    /// No such entity.
    pub fn entity(&self, id: EntityId) -> Result<&EntityView, ViewError> {
        self.entities.get(&id).ok_or(ViewError::NoEntity(id))
    }

    /// Every turn of the tree in the order it was made.
    pub fn turns(&self) -> Vec<Turn> {
        let mut listed: Vec<(usize, Turn)> = self.order.iter().flat_map(|&entity| self.own_turns(entity)).collect();
        listed.sort_by_key(|(position, _)| *position);
        listed.into_iter().map(|(_, turn)| turn).collect()
    }

    /// The path from the root to the last turn of an entity (LOOM-10).
    ///
    /// # Errors
    /// No such entity.
    pub fn thread(&self, entity: EntityId) -> Result<Vec<Turn>, ViewError> {
        let view = self.entity(entity)?;
        let mut path = match (&view.opened.fork, view.follows) {
            (Some(fork), Some(_)) => Self::kept(self.thread(fork.of)?, fork),
            _ => Vec::new(),
        };
        path.extend(self.own_turns(entity).into_iter().map(|(_, turn)| turn));
        Ok(path)
    }

    fn kept(thread: Vec<Turn>, fork: &Fork) -> Vec<Turn> {
        let mut spoken = 0;
        thread
            .into_iter()
            .take_while(|turn| {
                spoken += u64::from(turn.said.is_some());
                spoken <= fork.turns
            })
            .map(|turn| Turn { ended: None, ..turn })
            .collect()
    }

    fn own_turns(&self, entity: EntityId) -> Vec<(usize, Turn)> {
        let Some(view) = self.entities.get(&entity) else { return Vec::new() };
        let mut sequence = view.opened.fork.as_ref().map_or(0, |fork| {
            self.thread(fork.of).map_or(0, |thread| u64::try_from(Self::kept(thread, fork).len()).unwrap_or(u64::MAX))
        });
        let mut parent = view.follows;
        let mut listed = Vec::new();
        let turns = view.steps.iter().filter_map(|step| match step {
            Step::Turn(turn) => self.spoken.get(*turn),
            Step::Intent { .. } | Step::Folded { .. } | Step::Snapshot(_) => None,
        });
        for spoken in turns {
            for (position, mut turn) in spoken.present() {
                sequence += 1;
                turn.sequence = sequence;
                turn.parent = parent;
                turn.reward = self.reward(turn.id, turn.observation.as_ref().map(|seen| seen.id));
                parent = Some(turn.id);
                listed.push((position, turn));
            }
        }
        listed
    }

    fn reward(&self, turn: EntryId, observation: Option<EntryId>) -> Option<f64> {
        [Some(turn), observation]
            .into_iter()
            .flatten()
            .filter_map(|id| self.rewards.get(&id))
            .max_by_key(|(at, by, _)| (*at, *by))
            .map(|(_, _, value)| *value)
    }
}

impl Spoken {
    fn add(
        &mut self,
        id: EntryId,
        position: usize,
        entry: &Entry,
        text: &dyn Fn(&Payload) -> Result<String, ViewError>,
    ) -> Result<(), ViewError> {
        match &entry.body {
            Body::GateCalled { call, gate, arguments, reach, .. } => {
                // Called again after a crash: nothing had come of it the first time.
                self.gates.retain(|run| run.call != *call || run.result.is_some());
                self.gates.push(GateRun {
                    call: call.clone(),
                    gate: gate.clone(),
                    arguments: json(text(arguments)?),
                    reach: *reach,
                    result: None,
                    ephemeral: false,
                    duration_us: 0,
                });
            }
            Body::GateReturned { call, result, duration_us, ephemeral } => {
                let result = match result {
                    Returned::Ok(payload) => Ok(json(text(payload)?)),
                    Returned::Error(error) => Err(error.clone()),
                };
                if let Some(run) = self.gates.iter_mut().rev().find(|run| run.call == *call) {
                    run.result = Some(result);
                    run.ephemeral = *ephemeral;
                    run.duration_us = *duration_us;
                }
            }
            Body::Delegated { child, .. } => {
                self.split.get_or_insert(self.gates.len());
                self.children.push(*child);
            }
            Body::Observation(seen) => self.observation = Some(observation(id, position, entry.at_us, seen, text)?),
            Body::Opened(_)
            | Body::Intent { .. }
            | Body::Utterance(_)
            | Body::Snapshot { .. }
            | Body::Folded { .. }
            | Body::Approved { .. }
            | Body::Denied { .. }
            | Body::Ended(_)
            | Body::Rewarded { .. }
            | Body::Replayed { .. }
            | Body::Adopted { .. } => {}
        }
        Ok(())
    }

    /// The turn as it is listed: one, or two with the children's turns between them.
    fn present(&self) -> Vec<(usize, Turn)> {
        let mut first = Turn {
            id: self.id,
            parent: None,
            entity: self.entity,
            sequence: 0,
            at_us: self.at_us,
            duration_us: self.observation.as_ref().map_or(self.said_us, |seen| seen.duration_us),
            said: Some(self.said.clone()),
            gates: self.gates.clone(),
            children: self.children.clone(),
            observation: self.observation.clone(),
            ended: self.ended.clone(),
            reward: None,
        };
        let (Some(seen), Some(split), true) = (&self.observation, self.split, self.has_continuation()) else {
            return vec![(self.position, first)];
        };
        let rest = first.gates.split_off(split.min(first.gates.len()));
        let continuation =
            Turn { id: seen.id, at_us: seen.at_us, said: None, gates: rest, children: Vec::new(), ..first.clone() };
        first.observation = None;
        first.ended = None;
        vec![(self.position, first), (seen.position, continuation)]
    }
}

/// Puts what others wrote where it belongs: behind what it follows, before the reading node's next entry. The clocks of two nodes
/// are not compared for it.
fn in_causal_order(entries: &[Sealed]) -> Vec<&Sealed> {
    let Some(own) = entries.first().map(|sealed| sealed.entry.writer) else { return Vec::new() };
    let is_alone = entries.iter().all(|sealed| sealed.entry.writer == own);
    if is_alone {
        return entries.iter().collect();
    }
    let known: BTreeSet<EntryId> = entries.iter().map(|sealed| sealed.id).collect();
    let mut logs: BTreeMap<WriterKey, VecDeque<&Sealed>> = BTreeMap::new();
    for sealed in entries {
        logs.entry(sealed.entry.writer).or_default().push_back(sealed);
    }
    let mut mine = logs.remove(&own).unwrap_or_default();
    let mut placed: BTreeSet<EntryId> = BTreeSet::new();
    let mut ordered: Vec<&Sealed> = Vec::with_capacity(entries.len());
    loop {
        // As far as the others' logs go with what is placed, they go first: a parent continues after its children.
        let mut has_moved = true;
        while has_moved {
            has_moved = false;
            for log in logs.values_mut() {
                let is_due = |sealed: &Sealed, placed: &BTreeSet<EntryId>| {
                    sealed.entry.parent.is_none_or(|id| placed.contains(&id) || !known.contains(&id))
                };
                while let Some(sealed) = log.pop_front_if(|sealed| is_due(sealed, &placed)) {
                    placed.insert(sealed.id);
                    ordered.push(sealed);
                    has_moved = true;
                }
            }
        }
        // An own entry may wait for one of another's; whatever waits in a circle is damage, and is read as it comes.
        let waits =
            |sealed: &&Sealed| sealed.entry.parent.is_some_and(|id| known.contains(&id) && !placed.contains(&id));
        let next = match mine.front() {
            Some(sealed) if !waits(sealed) => mine.pop_front(),
            _ => logs.values_mut().find_map(VecDeque::pop_front).or_else(|| mine.pop_front()),
        };
        let Some(sealed) = next else { return ordered };
        placed.insert(sealed.id);
        ordered.push(sealed);
    }
}

fn json(text: String) -> Value {
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

fn utterance(said: &Said, text: &dyn Fn(&Payload) -> Result<String, ViewError>) -> Result<Utterance, ViewError> {
    let call = |record: &CallRecord| {
        let arguments = text(&record.arguments)?;
        Ok(Call {
            id: record.id.clone(),
            gate: record.gate.clone(),
            arguments: serde_json::from_str(&arguments).map_err(|_| arguments),
        })
    };
    Ok(Utterance {
        content: said.content.as_ref().map(text).transpose()?,
        thinking: said.thinking.as_ref().map(text).transpose()?,
        calls: said.calls.iter().map(call).collect::<Result<_, ViewError>>()?,
        usage: said.usage,
        model: said.model.clone(),
    })
}

fn observation(
    id: EntryId,
    position: usize,
    at_us: u64,
    seen: &Observed,
    text: &dyn Fn(&Payload) -> Result<String, ViewError>,
) -> Result<Observation, ViewError> {
    let answers = seen.answers.iter().map(|answer| {
        Ok(Shown {
            call: answer.call.clone(),
            content: text(&answer.content)?,
            is_error: answer.is_error,
            shown_instead: answer.shown_instead.clone(),
        })
    });
    Ok(Observation {
        id,
        at_us,
        answers: answers.collect::<Result<_, ViewError>>()?,
        evaluations: seen.evaluations.clone(),
        duration_us: seen.duration_us,
        position,
    })
}
