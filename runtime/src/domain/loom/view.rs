//! Turns and threads: the record as people and programs read it, and as a fork or a resumption continues it.
//!
//! Entries are what is stored; a turn is a view of them: an utterance with its observation. A turn of code that casts
//! children shows as two, with the children's turns between them: the spawning turn, and its continuation (COMP-5,
//! LOOM-8). The continuation has no utterance, counts in the sequence, and its parent is the spawning turn.

mod foreign;
mod later;
mod lines;
mod order;
mod refusal;
mod restore;
mod spoken;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};

use cantrip_gates::{Exposure, GateError, Reach};
use serde_json::Value;

use crate::domain::cantrip::Identity;
use crate::domain::context::Shown;
use crate::domain::end::EndReason;
use crate::domain::ids::{CallId, EntityId, EntryId, LoomId};
use crate::domain::members::{Batch, Owner, Reader};
use crate::domain::model::{Usage, Utterance};

use super::body::Body;
use super::entry::{Entry, Sealed};
use super::foreign::ForeignError;
use super::opened::{Fork, ForkSource, Opened};
use super::said::{Ended, EvaluationRecord, How};
use super::text::Payload;

use self::foreign::Grafts;
use self::lines::{Lines, Sum};
use self::order::in_causal_order;
use self::refusal::Unplaced;
use self::spoken::{Spoken, utterance};
pub use self::spoken::{TurnEntry, TurnPart};

pub use foreign::{Foreign, ForeignOf, ForeignOrigin};
pub use later::Later;
pub use refusal::{Aside, ViewError, Why};
pub(crate) use restore::is_guest_call;
pub use restore::{Again, CutOff, Replay, Restored};

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
    /// The loom that it is of, if that is another.
    pub from: Option<LoomId>,
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
    /// Who it is: system prompt and sampling parameters.
    pub identity: Identity,
    /// Its first intent.
    pub intent: String,
    /// The turn that it follows: where it was spawned or forked.
    pub follows: Option<EntryId>,
    /// How its last episode ended, if it did.
    pub ended: Option<Ended>,
    /// Its newest entry: what the next one follows.
    pub head: EntryId,
    /// Tokens of folding: of all of it, and since the last observation.
    folding_usage: Usage,
    folded_since: Usage,
    steps: Vec<Step>,
    /// Its newest turn.
    current: Option<usize>,
    /// The wards that it was opened with and this version does not enforce.
    unenforced: Vec<String>,
    /// What this version does not know of it: the entry, and its kind.
    unknown: Option<(EntryId, String)>,
    /// Whether it stands for a thread of another loom.
    is_foreign: bool,
    /// The name in the tree of the thread of another loom that it continues, or why that cannot be had.
    continues: Option<Result<EntityId, ForeignError>>,
}

impl EntityView {
    /// Its own turns.
    fn spoken(&self) -> impl Iterator<Item = usize> {
        self.steps.iter().filter_map(|step| match step {
            Step::Turn(turn) => Some(*turn),
            Step::Intent { .. } | Step::Folded { .. } | Step::Snapshot(_) => None,
        })
    }
}

/// The end of a thread, and what it sums up to as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Tail {
    /// The newest turns.
    pub turns: Vec<Turn>,
    /// How many turns the thread has.
    pub turn_count: u64,
    /// Tokens of all of it.
    pub usage: Usage,
    /// All judgements in it, added up.
    pub reward: Option<f64>,
}

/// A loom, read.
#[derive(Debug, Default)]
pub struct Tree {
    spoken: Vec<Spoken>,
    entities: BTreeMap<EntityId, EntityView>,
    order: Vec<EntityId>,
    turn_of_entry: BTreeMap<EntryId, usize>,
    rewards: BTreeMap<EntryId, (u64, EntryId, f64)>,
    results: BTreeMap<EntityId, String>,
    owners: HashMap<EntityId, Owner>,
    lines: Lines,
    aside: Vec<Aside>,
    refused: HashMap<EntityId, Why>,
    later: Vec<Later>,
    grafted: Grafts,
}

impl Tree {
    /// Reads what a store has of a loom: of its entries those that decide something, each writer's in the order of its sequence, the
    /// reading node's own first.
    ///
    /// Whatever refers to what comes after it is put aside, with everything behind it: what is left has no cycle.
    ///
    /// # Errors
    /// A missing text.
    pub fn read(batch: &Batch, text: TextOf<'_>) -> Result<Self, ViewError> {
        let piece =
            |source: &ForkSource| source.pieces.first().map_or(ForeignError::Depth(0), |id| ForeignError::Piece(*id));
        Self::read_with(batch, text, &|source| Err(piece(source)))
    }

    /// The same, with the threads of other looms that its entities continue. One that cannot be had stops nothing but the entity that
    /// continues it.
    ///
    /// # Errors
    /// A missing text.
    pub fn read_with(batch: &Batch, text: TextOf<'_>, foreign: ForeignOf<'_>) -> Result<Self, ViewError> {
        let reader = Reader::of(batch);
        let owners = reader.owned().filter_map(|entity| Some((entity, reader.owner(entity)?)));
        let later = Later::of(batch.entries(), &reader);
        let mut tree = Self { owners: owners.collect(), later, ..Self::default() };
        let judgements: HashSet<EntryId> = reader.rewards().into_values().collect();
        for (position, (sealed, is_due)) in in_causal_order(batch.entries()).into_iter().enumerate() {
            crate::domain::steps::count(1);
            // What is about the loom as a whole belongs to no thread.
            let Some(entity) = sealed.entry.entity else { continue };
            let placed = match (reader.counts(sealed.id), is_due) {
                (Err(why), _) => Err(Unplaced::Aside(Why::Refused(why))),
                (Ok(()), false) => Err(Unplaced::Aside(Why::Follows)),
                (Ok(()), true) if matches!(sealed.entry.body, Body::Rewarded { .. }) => {
                    tree.judge(sealed, &judgements);
                    Ok(())
                }
                (Ok(()), true) => tree.add(position, entity, sealed, (text, foreign)),
            };
            match placed {
                Ok(()) => {}
                Err(Unplaced::View(error)) => return Err(error),
                // What it follows has not come yet, or never will: the rest can be read all the same.
                Err(Unplaced::Aside(why)) => tree.put_aside(entity, sealed, why),
            }
        }
        tree.finish();
        Ok(tree)
    }

    /// Notes a judgement, if it is the one of its entry that holds.
    fn judge(&mut self, sealed: &Sealed, judgements: &HashSet<EntryId>) {
        if let (Body::Rewarded { value, .. }, Some(judged)) = (&sealed.entry.body, sealed.entry.parent)
            && judgements.contains(&sealed.id)
        {
            self.rewards.insert(judged, (sealed.entry.at_us, sealed.id, *value));
        }
    }

    fn put_aside(&mut self, entity: EntityId, sealed: &Sealed, why: Why) {
        let kind = sealed.entry.body.kind().to_owned();
        self.aside.push(Aside { entry: sealed.id, entity, kind, why });
        if matches!(sealed.entry.body, Body::Opened(_)) && !matches!(why, Why::Refused(_)) {
            self.refused.insert(entity, why);
        } else if matches!(&sealed.entry.body, Body::Unknown(unknown) if unknown.kind == "opened") {
            self.refused.insert(entity, Why::Unknown);
        }
    }

    /// Whether an entity that an `opened` entry names was opened before it. One that this loom does not have may be anywhere.
    fn may_open(&self, entity: EntityId, opened: &Opened) -> Result<(), Why> {
        let is_absent = |fork: &Fork| fork.from.is_none() && !self.entities.contains_key(&fork.of);
        if opened.fork.as_ref().is_some_and(is_absent) {
            return Err(Why::Fork);
        }
        let is_ahead =
            |by: EntityId| by == entity || (!self.entities.contains_key(&by) && self.owners.contains_key(&by));
        if opened.spawned_by.is_some_and(is_ahead) {
            return Err(Why::Spawned);
        }
        Ok(())
    }

    /// Finds what threads have inherited, and what was met in each turn, in one pass each.
    fn finish(&mut self) {
        self.spoken.iter_mut().for_each(Spoken::settle);
        let mut lines = Lines::default();
        for &entity in &self.order {
            let Some(view) = self.entities.get(&entity) else { continue };
            let fork = view.opened.fork.as_ref().and_then(|fork| match &view.continues {
                None => Some((fork.of, fork.turns)),
                Some(name) => Some((*name.as_ref().ok()?, fork.turns)),
            });
            let turns = view.spoken().filter_map(|turn| self.spoken.get(turn));
            lines.push(entity, fork, turns, |sum, spoken| {
                crate::domain::steps::count(1);
                let rewards = spoken.judged_by().filter_map(|ids| self.reward(ids));
                sum.after(if spoken.has_continuation() { 2 } else { 1 }, spoken.said.usage, rewards)
            });
        }
        self.lines = lines;
        self.meet();
    }

    /// Finds the exposure of each turn. A child is opened after the turn that casts it, so the last one opened comes first.
    fn meet(&mut self) {
        let mut met: HashMap<EntityId, Exposure> = HashMap::new();
        for &entity in self.order.iter().rev() {
            let Some(view) = self.entities.get(&entity) else { continue };
            let gates: HashMap<&str, Exposure> =
                view.opened.gates.iter().rev().map(|gate| (gate.name.as_str(), gate.exposure)).collect();
            let mut all = Exposure::default();
            // What was met in a thread of another loom its own tree has found.
            for turn in view.spoken().filter(|_| !view.is_foreign) {
                let Some(spoken) = self.spoken.get_mut(turn) else { continue };
                crate::domain::steps::count(1 + spoken.children.len() as u64);
                let own = spoken.gates.iter().filter(|run| matches!(run.result, Some(Ok(_))));
                let own = own.filter_map(|run| gates.get(run.gate.as_str()));
                // What children met, their parent met.
                let children = spoken.children.iter().filter_map(|child| met.get(child));
                spoken.exposure = own.chain(children).fold(spoken.recorded, |sum, it| sum.union(*it));
                all = all.union(spoken.exposure);
            }
            met.insert(entity, all);
        }
    }

    fn add(
        &mut self,
        position: usize,
        entity: EntityId,
        Sealed { id, entry, .. }: &Sealed,
        (text_of, foreign): (TextOf<'_>, ForeignOf<'_>),
    ) -> Result<(), Unplaced> {
        let id = *id;
        let text = |payload: &Payload| {
            text_of(payload).ok_or_else(|| match payload {
                Payload::Blob { id: blob, .. } => ViewError::Text { entry: id, id: blob.to_string() },
                Payload::Inline(_) => ViewError::Text { entry: id, id: "inline".to_owned() },
            })
        };
        // What is said of a thread, and who is admitted for a child of it and how far, is no part of it: nothing follows it.
        if matches!(entry.body, Body::Replayed { .. } | Body::Admitted(_) | Body::Settled(_)) {
            return Ok(());
        }
        if let Body::Opened(opened) = &entry.body {
            self.may_open(entity, opened).map_err(Unplaced::Aside)?;
            let prompt = opened.identity.system_prompt.as_ref().map(text).transpose()?;
            let identity = opened.identity.identity(prompt);
            let intent = text(&opened.intent)?;
            let fork = opened.fork.as_ref().and_then(|fork| Some((fork, fork.from.as_deref()?)));
            let continues = fork.map(|(fork, source)| self.graft(fork, source, position, foreign));
            self.open((id, entity), entry, opened, (identity, intent));
            if let Some(view) = self.entities.get_mut(&entity) {
                view.continues = continues;
            }
            return Ok(());
        }
        if let Body::Delegated { child, .. } = &entry.body
            && self.entities.contains_key(child)
        {
            return Err(Unplaced::Aside(Why::Child));
        }
        let orphan = || Unplaced::Aside(Why::Orphan);
        let next = self.spoken.len();
        let view = self.entities.get_mut(&entity).ok_or_else(orphan)?;
        let before = std::mem::replace(&mut view.head, id);
        let current = view.current;
        match &entry.body {
            Body::Intent(intent) => {
                if !intent.steer {
                    view.ended = None;
                }
                view.steps.push(Step::Intent { text: text(&intent.text)?, steer: intent.steer });
            }
            Body::Folded { first, last, summary, usage } => {
                view.folding_usage += *usage;
                view.folded_since += *usage;
                view.steps.push(Step::Folded { first: *first, last: *last, summary: text(summary)? });
            }
            Body::Ended(ended) => {
                match ended.result.as_ref().map(text).transpose()? {
                    Some(result) => drop(self.results.insert(entity, result)),
                    None => drop(self.results.remove(&entity)),
                }
                view.ended = Some((**ended).clone());
                if let Some(turn) = current.and_then(|turn| self.spoken.get_mut(turn)) {
                    turn.ended = Some((ended.how, ended.reason.clone()));
                }
            }
            Body::Utterance(said) => {
                view.ended = None;
                view.steps.push(Step::Turn(next));
                view.current = Some(next);
                if let Some(before) = current.and_then(|turn| self.spoken.get_mut(turn)) {
                    before.entries = Vec::new();
                }
                let said = (said.duration_us, utterance(said, &text)?);
                self.spoken.push(Spoken::new((id, entity), position, entry.at_us, said.0, said.1));
                self.turn_of_entry.insert(id, next);
                return Ok(());
            }
            Body::GateCalled { .. } | Body::GateReturned { .. } | Body::Delegated { .. } | Body::Observation(_) => {
                let turn = current.and_then(|turn| self.spoken.get_mut(turn)).ok_or_else(orphan)?;
                turn.add(id, position, entry, &text)?;
                if matches!(entry.body, Body::Observation(_)) {
                    view.folded_since = Usage::default();
                }
            }
            Body::Unknown(unknown) => {
                view.unknown.get_or_insert_with(|| (id, unknown.kind.clone()));
            }
            // It is of the moment that it follows, and of no other.
            Body::Snapshot { .. } if entry.parent == Some(before) => view.steps.push(Step::Snapshot(id)),
            Body::Snapshot { .. }
            | Body::Decided(_)
            | Body::Rewarded { .. }
            | Body::Replayed { .. }
            | Body::Adopted { .. }
            | Body::Founded { .. }
            | Body::Admitted(_)
            | Body::Expelled(_)
            | Body::Settled(_)
            | Body::Keeping { .. }
            | Body::Opened(_) => {}
        }
        if let Some(turn) = current {
            self.turn_of_entry.insert(id, turn);
        }
        Ok(())
    }

    fn open(
        &mut self,
        (id, entity): (EntryId, EntityId),
        entry: &Entry,
        opened: &Opened,
        (identity, intent): (Identity, String),
    ) {
        let followed = entry.parent.and_then(|parent| self.turn_of_entry.get(&parent));
        let view = EntityView {
            id,
            opened: opened.clone(),
            identity,
            intent: intent.clone(),
            follows: followed.and_then(|&turn| self.spoken.get(turn)).map(|turn| turn.id),
            ended: None,
            head: id,
            folding_usage: Usage::default(),
            folded_since: Usage::default(),
            steps: vec![Step::Intent { text: intent, steer: false }],
            current: None,
            unenforced: entry.others.of_field("wards").map(str::to_owned).collect(),
            unknown: None,
            is_foreign: false,
            continues: None,
        };
        self.entities.insert(entity, view);
        self.order.push(entity);
    }

    /// Entries that are no part of any thread: written by somebody who does not own their entity, behind entries that are not
    /// there, or naming what comes after them.
    pub fn aside(&self) -> &[Aside] {
        &self.aside
    }

    /// The entries about the loom as a whole that a later version wrote.
    pub fn later(&self) -> &[Later] {
        &self.later
    }

    /// Whether this version knows all that is said of the loom as a whole by whoever has a say over it: else it is not written here.
    ///
    /// # Errors
    /// An entry of an unknown kind.
    pub fn may_write(&self) -> Result<(), ViewError> {
        Later::refuse(&self.later)
    }

    /// What an entity answered at last, as JSON.
    pub fn result(&self, entity: EntityId) -> Option<String> {
        self.results.get(&entity).cloned()
    }

    /// Who goes on with an entity.
    pub fn owner(&self, entity: EntityId) -> Option<Owner> {
        self.owners.get(&entity).copied()
    }

    /// The entities in the order they were opened.
    pub fn entities(&self) -> impl Iterator<Item = (EntityId, &EntityView)> {
        let all = self.order.iter().filter_map(|id| self.entities.get(id).map(|view| (*id, view)));
        all.filter(|(_, view)| !view.is_foreign)
    }

    /// One entity.
    ///
    /// # Errors
    /// No such entity, or one that is put aside.
    pub fn entity(&self, id: EntityId) -> Result<&EntityView, ViewError> {
        self.entities.get(&id).ok_or_else(|| match self.refused.get(&id) {
            Some(why) => ViewError::Aside { entity: id, why: *why },
            None => ViewError::NoEntity(id),
        })
    }

    /// Whether an entity can be gone on with here: this version knows all of it, of what it continues, and of the loom.
    ///
    /// # Errors
    /// No such entity, an entry of an unknown kind, or wards that are not enforced.
    pub fn may_go_on(&self, entity: EntityId) -> Result<(), ViewError> {
        self.entity(entity)?;
        self.may_write()?;
        for piece in self.lines.pieces(self.place(entity)?) {
            let Some(of) = self.order.get(piece.place) else { continue };
            let Some(view) = self.entities.get(of) else { continue };
            if let Some((entry, kind)) = &view.unknown {
                return Err(ViewError::Unknown { entity: *of, entry: *entry, kind: kind.clone() });
            }
            if let Some(Err(why)) = &view.continues {
                return Err(ViewError::Foreign { entity: *of, source: why.clone() });
            }
            if !view.unenforced.is_empty() {
                return Err(ViewError::Unenforced { entity: *of, wards: view.unenforced.clone() });
            }
        }
        Ok(())
    }

    /// The turn that an entry belongs to, by the entry that it begins with.
    pub fn turn_of(&self, entry: EntryId) -> Option<EntryId> {
        self.turn_of_entry.get(&entry).and_then(|&turn| self.spoken.get(turn)).map(|spoken| spoken.id)
    }

    /// Every turn of the tree in the order it was made.
    pub fn turns(&self) -> Vec<Turn> {
        let mut listed: Vec<(usize, Turn)> =
            (0..self.order.len()).flat_map(|place| self.own_turns(place, None)).collect();
        listed.sort_by_key(|(position, _)| *position);
        listed.into_iter().map(|(_, turn)| turn).collect()
    }

    /// The path from the root to the last turn of an entity (LOOM-10).
    ///
    /// # Errors
    /// No such entity.
    pub fn thread(&self, entity: EntityId) -> Result<Vec<Turn>, ViewError> {
        Ok(self.tail(entity, u64::MAX)?.turns)
    }

    /// How many turns the path to the last turn of an entity has, without putting it together.
    ///
    /// # Errors
    /// No such entity.
    pub fn thread_length(&self, entity: EntityId) -> Result<u64, ViewError> {
        Ok(self.lines.whole(self.place(entity)?).listed)
    }

    /// The last pieces of that path: each entity's own turns as a whole, until there are as many turns as asked for.
    ///
    /// # Errors
    /// No such entity.
    pub fn tail(&self, entity: EntityId, turns: u64) -> Result<Tail, ViewError> {
        let place = self.place(entity)?;
        let Sum { listed, usage, reward, .. } = self.lines.whole(place);
        let mut pieces = Vec::new();
        let mut found = 0;
        for piece in self.lines.pieces(place).into_iter().rev() {
            if found >= turns {
                break;
            }
            let own: Vec<Turn> = self.own_turns(piece.place, piece.kept).map(|(_, turn)| turn).collect();
            found = found.saturating_add(own.len() as u64);
            pieces.push(own);
        }
        Ok(Tail { turns: pieces.into_iter().rev().flatten().collect(), turn_count: listed, usage, reward })
    }

    fn place(&self, entity: EntityId) -> Result<usize, ViewError> {
        self.entity(entity)?;
        self.lines.place(entity).ok_or(ViewError::NoEntity(entity))
    }

    /// The own turns of an entity, with their positions in the loom; for a thread that goes on elsewhere after so many turns,
    /// those of them, and not how the episodes ended in which they were made.
    fn own_turns(&self, place: usize, kept: Option<u64>) -> impl Iterator<Item = (usize, Turn)> {
        let inherited = self.lines.inherited(place);
        let view = self.order.get(place).and_then(|entity| self.entities.get(entity));
        let mut sequence = inherited.listed;
        let mut parent = view.and_then(|view| view.follows);
        let own = kept
            .map_or(usize::MAX, |kept| usize::try_from(kept.saturating_sub(inherited.spoken)).unwrap_or(usize::MAX));
        let spoken = view.into_iter().flat_map(EntityView::spoken).take(own);
        spoken.filter_map(|turn| self.spoken.get(turn)).flat_map(Spoken::present).map(move |(position, mut turn)| {
            crate::domain::steps::count(1);
            sequence += 1;
            turn.sequence = sequence;
            turn.parent = parent;
            turn.reward = self.reward([Some(turn.id), turn.observation.as_ref().map(|seen| seen.id)]);
            parent = Some(turn.id);
            if kept.is_some() {
                turn.ended = None;
            }
            (position, turn)
        })
    }

    fn reward(&self, judged: [Option<EntryId>; 2]) -> Option<f64> {
        judged
            .into_iter()
            .flatten()
            .filter_map(|id| self.rewards.get(&id))
            .max_by_key(|(at, by, _)| (*at, *by))
            .map(|(_, _, value)| *value)
    }
}
