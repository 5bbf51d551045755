//! One turn as its entries make it, and as it is listed.

use std::collections::{BTreeSet, HashMap};

use cantrip_gates::{Exposure, GateError};
use serde_json::Value;

use crate::domain::context::Shown;
use crate::domain::end::EndReason;
use crate::domain::ids::{CallId, EntityId, EntryId, LoomId, WriterKey};
use crate::domain::json;
use crate::domain::members::Nonce;
use crate::domain::model::{Call, Utterance};
use crate::domain::place::CallPlace;

use super::super::body::Body;
use super::super::entry::Entry;
use super::super::opened::Standing;
use super::super::said::{CallRecord, How, Observed, Returned, Said};
use super::super::text::Payload;
use super::{GateRun, Observation, Turn, ViewError};

/// What is recorded between the utterance of a turn and its observation.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnEntry {
    /// The entry.
    pub id: EntryId,
    /// When it was written, in microseconds since 1970.
    pub at_us: u64,
    /// Whose it is.
    pub writer: WriterKey,
    /// What it says.
    pub part: TurnPart,
}

/// What an entry of a turn says.
#[derive(Debug, Clone, PartialEq)]
pub enum TurnPart {
    /// A gate is about to run.
    Called {
        /// The call.
        call: CallId,
        /// The gate.
        gate: String,
        /// Whether it was refused.
        refused: bool,
    },
    /// It has run, or was refused.
    Returned {
        /// The call.
        call: CallId,
        /// What came of it.
        result: Result<Value, GateError>,
        /// How long it took, in microseconds.
        duration_us: u64,
    },
    /// A child is about to be opened.
    Delegated {
        /// The call that asked for it.
        call: CallId,
        /// Its place in a batch.
        index: u32,
        /// The entity.
        child: EntityId,
        /// What its id commits to.
        nonce: Option<Nonce>,
        /// Whether it runs on this node.
        is_here: bool,
    },
}

impl TurnPart {
    /// The call that it is about.
    pub const fn call(&self) -> &CallId {
        match self {
            Self::Called { call, .. } | Self::Returned { call, .. } | Self::Delegated { call, .. } => call,
        }
    }
}

/// A turn with everything in it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Spoken {
    pub(super) id: EntryId,
    pub(super) entity: EntityId,
    pub(super) position: usize,
    pub(super) at_us: u64,
    pub(super) said_us: u64,
    pub(super) said: Utterance,
    pub(super) gates: Vec<GateRun>,
    /// How many gate calls had begun when the first child was cast.
    pub(super) split: Option<usize>,
    pub(super) children: Vec<EntityId>,
    pub(super) observation: Option<Observation>,
    pub(super) ended: Option<(How, EndReason)>,
    /// What was met in it, children included.
    pub(super) exposure: Exposure,
    /// What its observation says had been met by then.
    pub(super) recorded: Exposure,
    /// What its observation says had been spent by then, and for how long processes had had its episode.
    pub(super) standing: Option<Box<Standing>>,
    /// What is recorded of it behind its utterance, in its order, until its entity speaks again.
    pub(super) entries: Vec<TurnEntry>,
    /// The loom that it is of, if that is another.
    pub(super) from: Option<LoomId>,
    /// The newest run of each call.
    newest: HashMap<CallId, usize>,
    /// Runs that were begun again after a crash: nothing had come of them.
    superseded: BTreeSet<usize>,
}

impl Spoken {
    pub(super) fn new(
        (id, entity): (EntryId, EntityId),
        position: usize,
        at_us: u64,
        said_us: u64,
        said: Utterance,
    ) -> Self {
        Self {
            id,
            entity,
            position,
            at_us,
            said_us,
            said,
            gates: Vec::new(),
            split: None,
            children: Vec::new(),
            observation: None,
            ended: None,
            exposure: Exposure::default(),
            recorded: Exposure::default(),
            standing: None,
            entries: Vec::new(),
            from: None,
            newest: HashMap::new(),
            superseded: BTreeSet::new(),
        }
    }

    /// The same turn in the tree of another loom, at one place of it. How its episode ended is of its own loom.
    pub(super) fn at(&self, position: usize, from: LoomId) -> Self {
        let mut turn = self.clone();
        (turn.position, turn.from, turn.ended) = (position, Some(self.from.unwrap_or(from)), None);
        if let Some(seen) = &mut turn.observation {
            seen.position = position;
        }
        turn
    }

    pub(super) fn has_continuation(&self) -> bool {
        self.split.is_some() && self.observation.as_ref().is_some_and(|seen| !seen.evaluations.is_empty())
    }

    pub(super) fn add(
        &mut self,
        id: EntryId,
        position: usize,
        entry: &Entry,
        text: &dyn Fn(&Payload) -> Result<String, ViewError>,
    ) -> Result<(), ViewError> {
        let mut note = |part| self.entries.push(TurnEntry { id, at_us: entry.at_us, writer: entry.writer, part });
        match &entry.body {
            Body::GateCalled { call, gate, arguments, reach, refused, .. } => {
                note(TurnPart::Called { call: call.clone(), gate: gate.clone(), refused: *refused });
                let place = self.gates.len();
                self.gates.push(GateRun {
                    call: call.clone(),
                    gate: gate.clone(),
                    arguments: value(text(arguments)?),
                    reach: *reach,
                    result: None,
                    ephemeral: false,
                    duration_us: 0,
                });
                // Called again after a crash: nothing had come of it the first time.
                if let Some(before) = self.newest.insert(call.clone(), place)
                    && self.gates.get(before).is_some_and(|run| run.result.is_none())
                {
                    self.superseded.insert(before);
                }
            }
            Body::GateReturned { call, result, duration_us, ephemeral, partial } => {
                let result = match result {
                    Returned::Ok(payload) => Ok(value(text(payload)?)),
                    Returned::Error(error) => Err(with_partial(error.clone(), partial.as_ref().map(text).transpose()?)),
                };
                note(TurnPart::Returned { call: call.clone(), result: result.clone(), duration_us: *duration_us });
                if let Some(run) = self.newest.get(call).and_then(|&place| self.gates.get_mut(place)) {
                    run.result = Some(result);
                    run.ephemeral = *ephemeral;
                    run.duration_us = *duration_us;
                }
            }
            Body::Delegated { call, index, child, nonce, place, .. } => {
                let is_here = *place == CallPlace::Here;
                note(TurnPart::Delegated { call: call.clone(), index: *index, child: *child, nonce: *nonce, is_here });
                self.split.get_or_insert(self.gates.len());
                self.children.push(*child);
            }
            Body::Observation(seen) => {
                let standing = seen.standing.as_ref().and_then(|standing| standing.exposure);
                self.recorded = self.recorded.union(standing.unwrap_or_default());
                self.standing.clone_from(&seen.standing);
                self.observation = Some(observation(id, position, entry.at_us, seen, text)?);
            }
            Body::Opened(_)
            | Body::Intent(_)
            | Body::Utterance(_)
            | Body::Snapshot { .. }
            | Body::Folded { .. }
            | Body::Decided(_)
            | Body::Ended(_)
            | Body::Rewarded { .. }
            | Body::Replayed { .. }
            | Body::Adopted { .. }
            | Body::Founded { .. }
            | Body::Admitted(_)
            | Body::Expelled(_)
            | Body::Settled(_)
            | Body::Keeping { .. }
            | Body::Unknown(_) => {}
        }
        Ok(())
    }

    /// Leaves out what was begun again, once everything is there.
    pub(super) fn settle(&mut self) {
        self.newest = HashMap::new();
        let superseded = std::mem::take(&mut self.superseded);
        if superseded.is_empty() {
            return;
        }
        if let Some(split) = &mut self.split {
            *split -= superseded.range(..*split).count();
        }
        let mut place = 0;
        self.gates.retain(|_| {
            place += 1;
            !superseded.contains(&(place - 1))
        });
    }

    /// The entries that its one turn, or its two, are judged by.
    pub(super) fn judged_by(&self) -> impl Iterator<Item = [Option<EntryId>; 2]> {
        let seen = self.observation.as_ref().map(|seen| seen.id);
        let first = if self.has_continuation() { [Some(self.id), None] } else { [Some(self.id), seen] };
        std::iter::once(first).chain(self.has_continuation().then_some([seen, None]))
    }

    /// The turn as it is listed: one, or two with the children's turns between them.
    pub(super) fn present(&self) -> Vec<(usize, Turn)> {
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
            from: self.from,
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

    /// The gate calls of each call of the utterance, in their order: the call itself, and what its code called, whose ids are the
    /// call's own, a dot and a number.
    pub(super) fn runs_by_call(&self) -> HashMap<&str, Vec<&GateRun>> {
        let mut runs: HashMap<&str, Vec<&GateRun>> =
            self.said.calls.iter().map(|call| (call.id.as_str(), Vec::new())).collect();
        for run in &self.gates {
            let id = run.call.as_str();
            let of = if runs.contains_key(id) { id } else { id.rsplit_once('.').map_or(id, |(of, _)| of) };
            if let Some(runs) = runs.get_mut(of) {
                runs.push(run);
            }
        }
        runs
    }
}

/// A JSON text as its value; one that is none, or larger than any that is taken, stays a text.
fn value(text: String) -> Value {
    json::parse(&text).unwrap_or(Value::String(text))
}

pub(super) fn utterance(
    said: &Said,
    text: &dyn Fn(&Payload) -> Result<String, ViewError>,
) -> Result<Utterance, ViewError> {
    let call = |record: &CallRecord| {
        let arguments = text(&record.arguments)?;
        Ok(Call {
            id: record.id.clone(),
            gate: record.gate.clone(),
            arguments: json::parse(&arguments).map_err(|_| arguments),
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

/// A failure with the answer that is kept beside it.
fn with_partial(mut error: GateError, partial: Option<String>) -> GateError {
    if let GateError::Truncated(known) = &mut error {
        known.partial = known.partial.take().or(partial);
    }
    error
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
            shown_instead: answer.shown_instead.as_ref().map(text).transpose()?,
        })
    });
    Ok(Observation {
        id,
        at_us,
        answers: answers.collect::<Result<_, ViewError>>()?,
        evaluations: seen
            .evaluations
            .iter()
            .map(|it| Ok(it.read(&text(&it.gate_clocks)?)))
            .collect::<Result<_, ViewError>>()?,
        duration_us: seen.duration_us,
        position,
    })
}
