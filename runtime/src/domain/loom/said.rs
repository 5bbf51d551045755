//! What an entity says and sees in a turn, and how its episodes end.

use cantrip_gates::GateError;
use serde::{Deserialize, Serialize};

use super::opened::Standing;
use super::text::{Payload, Payloads};
use crate::domain::end::EndReason;
use crate::domain::ids::CallId;
use crate::domain::model::Usage;

/// What the model said in one turn.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Said {
    /// Text for people.
    pub content: Option<Payload>,
    /// The model's reasoning, where the provider gives it.
    pub thinking: Option<Payload>,
    /// Calls of gates, or of the medium with code in it.
    pub calls: Vec<CallRecord>,
    /// What it cost.
    pub usage: Usage,
    /// The model as the provider named it.
    pub model: String,
    /// From the question to the answer, retries included, in microseconds.
    pub duration_us: u64,
    /// How often the question was asked again.
    pub retries: u32,
    /// Whether the provider reported no tokens, so that they are estimated.
    #[serde(default, skip_serializing_if = "is_false")]
    pub estimated: bool,
    /// Tokens of the question that the provider keeps from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_written_tokens: Option<u64>,
    /// What the answer cost, in billionths of the currency of the prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_nano: Option<u64>,
    /// The reasoning with its signatures, as JSON: a provider that gave it wants it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking_blocks: Option<Payload>,
    /// The model that was asked first, where another one answered in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_of: Option<String>,
    /// Why the answer ended, in the provider's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish: Option<String>,
}

/// One call in an utterance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    /// Its id.
    pub id: CallId,
    /// The gate, or the medium's own name for code.
    pub gate: String,
    /// The arguments: JSON text, or what came in its place.
    pub arguments: Payload,
}

/// What came of a gate call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Returned {
    /// The result, as JSON.
    Ok(Payload),
    /// What the entity sees instead.
    Error(GateError),
}

impl Returned {
    /// The result without the answer of a truncated child, and that answer as it is kept beside the entry.
    #[must_use]
    pub fn without_partial(mut self, payloads: &mut Payloads) -> (Self, Option<Payload>) {
        let partial = match &mut self {
            Self::Error(GateError::Truncated(known)) => known.partial.take(),
            Self::Ok(_) | Self::Error(_) => None,
        };
        (self, partial.map(|partial| payloads.text(&partial)))
    }
}

/// What the entity sees of its turn, and what a replay needs to get there again.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Observed {
    /// One answer for each call of the utterance, in its order; one without a call where the model only spoke.
    pub answers: Vec<Answer>,
    /// How many bytes of output were dropped at the limit.
    pub output_dropped_bytes: u64,
    /// What a replay of a code turn needs.
    pub evaluations: Vec<RecordedEvaluation>,
    /// From the utterance to here, in microseconds.
    pub duration_us: u64,
    /// What is true of the entity after the turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Box<Standing>>,
}

/// One answer in an observation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The call that it answers.
    pub call: Option<CallId>,
    /// What the model sees.
    pub content: Payload,
    /// Whether it is a failure.
    pub is_error: bool,
    /// What stands in its place in the context, where the result is ephemeral (PROD-5).
    pub shown_instead: Option<Payload>,
}

/// What makes an evaluation repeatable, as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedEvaluation {
    /// The call whose code ran.
    pub call: CallId,
    /// Feeds the random numbers of the guest.
    pub seed: u64,
    /// Where the guest's clock stood at the start, in microseconds since 1970.
    pub clock_us: u64,
    /// Where the guest's clock stood when each gate returned, in microseconds since 1970: a JSON list of numbers.
    pub gate_clocks: Payload,
    /// After how many polls it was stopped, where it was.
    pub stopped_at_poll: Option<u64>,
    /// Whether the instance was lost.
    pub lost: bool,
    /// Fuel that it burnt, where it was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
}

impl RecordedEvaluation {
    /// The record with its clocks, from their text. Of a text that is no such list nothing is taken.
    pub fn read(&self, clocks: &str) -> EvaluationRecord {
        EvaluationRecord {
            call: self.call.clone(),
            seed: self.seed,
            clock_us: self.clock_us,
            gate_clocks_us: serde_json::from_str(clocks).unwrap_or_default(),
            stopped_at_poll: self.stopped_at_poll,
            lost: self.lost,
            fuel: self.fuel,
        }
    }
}

impl EvaluationRecord {
    /// As it is recorded.
    pub fn recorded(&self, payloads: &mut Payloads) -> RecordedEvaluation {
        RecordedEvaluation {
            call: self.call.clone(),
            seed: self.seed,
            clock_us: self.clock_us,
            gate_clocks: payloads.json(&self.gate_clocks_us.iter().copied().collect()),
            stopped_at_poll: self.stopped_at_poll,
            lost: self.lost,
            fuel: self.fuel,
        }
    }
}

/// What makes an evaluation repeatable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluationRecord {
    /// The call whose code ran.
    pub call: CallId,
    /// Feeds the random numbers of the guest.
    pub seed: u64,
    /// Where the guest's clock stood at the start, in microseconds since 1970.
    pub clock_us: u64,
    /// Where the guest's clock stood when each gate returned.
    pub gate_clocks_us: Vec<u64>,
    /// After how many polls it was stopped, where it was.
    pub stopped_at_poll: Option<u64>,
    /// Whether the instance was lost: a replay then skips the evaluation, because nothing of it is left.
    pub lost: bool,
    /// Fuel that it burnt, where it was counted.
    pub fuel: Option<u64>,
}

/// How an episode ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// Whether the entity ended it, or a ward did (LOOM-7).
    pub how: How,
    /// What was decisive: `done`, `text`, a ward's name, `cancelled`, `parent_terminated`, `model_failed` …
    pub reason: EndReason,
    /// The answer, as JSON.
    pub result: Option<Payload>,
    /// In words what was done, for a truncated episode (LOOP-4), or the failure.
    pub summary: Option<Payload>,
    /// What was spent in the episode, children included.
    pub spent: Spent,
}

/// Terminated by the entity, or truncated by the circle. Truncation is not an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The entity ended it.
    Terminated,
    /// The circle ended it.
    Truncated,
}

impl How {
    /// The word for it, as it is recorded.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Terminated => "terminated",
            Self::Truncated => "truncated",
        }
    }
}

/// Totals of an episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Spent {
    /// Turns of the entity itself.
    pub turns: u64,
    /// Gate calls, children's included.
    pub gate_calls: u64,
    /// Children, theirs included.
    pub children: u64,
    /// Tokens of the entity itself.
    pub usage: Usage,
    /// Tokens of its children.
    pub children_usage: Usage,
    /// Fuel of code media, children's included, where it is counted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fuel: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
pub(super) const fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
pub(super) const fn is_false(flag: &bool) -> bool {
    !*flag
}
