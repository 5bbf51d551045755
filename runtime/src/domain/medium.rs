//! What passes between the driver and a code medium.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cantrip_gates::GateError;
use serde::Deserialize;
use serde_json::Value;

/// What an instance of a medium is made with.
#[derive(Debug, Clone)]
pub struct MediumOpening {
    /// The medium's name.
    pub medium: String,
    /// The names that become functions: the gates of the circle, `cantrip.new` among them. A gate that is not in the
    /// list does not exist in the medium.
    pub gates: Vec<String>,
    /// The memory that the guest may use, in bytes.
    pub memory_bytes_max: u64,
    /// Whether instructions are metered.
    pub metered: bool,
}

/// 4 KiB: a page of an image, and of the machine's memory.
pub const PAGE_BYTES: usize = 4096;

/// What an instance of a medium has in memory between two evaluations, beside what every fresh one has: enough to make another
/// that goes on as it would. Images share the pages that are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Which medium it is of, and how it was opened: it fits no other.
    pub medium: String,
    /// How large the memory is, in bytes.
    pub memory_bytes: u64,
    /// The pages that a fresh instance has otherwise, by their place.
    pub pages: BTreeMap<u32, Arc<[u8]>>,
}

/// When the memory of a code medium is recorded, so that a fork or a resumption need not run all the code again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SnapshotPolicy {
    /// It is not.
    #[default]
    Never,
    /// When an episode ends.
    Idle,
    /// After so many turns, and when an episode ends.
    Every(NonZeroU64),
}

impl<'de> Deserialize<'de> for SnapshotPolicy {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected \"never\", \"idle\", or after how many turns, from 1")]
        enum Written {
            Word(Word),
            Every(NonZeroU64),
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Word {
            Never,
            Idle,
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Word(Word::Never) => Self::Never,
            Written::Word(Word::Idle) => Self::Idle,
            Written::Every(turns) => Self::Every(turns),
        })
    }
}

impl SnapshotPolicy {
    /// Whether one is to be taken now, so many turns after the last.
    pub const fn is_due(self, turns: u64, is_over: bool) -> bool {
        match self {
            Self::Never => false,
            Self::Idle => is_over && turns > 0,
            Self::Every(every) => turns >= every.get() || (is_over && turns > 0),
        }
    }
}

/// One piece of code to run, and the bounds of the run.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The code.
    pub source: String,
    /// Feeds the guest's random numbers.
    pub seed: u64,
    /// Where the guest's clock stands, in microseconds since 1970.
    pub clock_us: u64,
    /// How long it may compute. Waiting in gates does not count.
    pub time_max: Duration,
    /// How much of what it prints is kept.
    pub output_bytes_max: u64,
    /// How many instructions it may use, where they are metered.
    pub fuel_max: Option<u64>,
    /// For a replay: stop at this poll, as the first run was.
    pub stop_at_poll: Option<u64>,
    /// How many answers of gates come from the record: until the last of them, nobody waits for time to pass.
    pub recorded: u64,
    /// Ends it early from outside.
    pub stop: StopFlag,
}

/// The arguments of a gate call, as code gives them.
#[derive(Debug, Clone, PartialEq)]
pub enum CallArguments {
    /// In the order of the gate's parameters.
    Positional(Vec<Value>),
    /// By their names.
    Named(Value),
}

impl GateAnswer {
    /// What code is told after so many refusals that none of them is recorded any more. Always the same, so that a replay
    /// can tell it again.
    pub(crate) fn nothing_more() -> Self {
        let why = "too many calls of this code were refused: nothing more is answered in this turn";
        Self::Returned(Err(GateError::Denied(why.to_owned())))
    }
}

/// What the code is told of its gate call.
#[derive(Debug, Clone, PartialEq)]
pub enum GateAnswer {
    /// The result.
    Returned(Result<Value, GateError>),
    /// The evaluation ends here: `done` was called.
    Stop,
}

/// Set from outside to end an evaluation.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Ends the evaluation at its next poll.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was set.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How an evaluation ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluated {
    /// What came of it.
    pub outcome: EvaluationOutcome,
    /// What it printed, cut at the limit.
    pub output: String,
    /// How many bytes were dropped at the limit.
    pub output_dropped_bytes: u64,
    /// How many instructions it used, where they are metered.
    pub fuel: u64,
    /// After how many polls it was stopped, where it was.
    pub stopped_at_poll: Option<u64>,
}

impl Evaluated {
    /// An end with nothing printed and nothing used.
    pub const fn of(outcome: EvaluationOutcome) -> Self {
        Self { outcome, output: String::new(), output_dropped_bytes: 0, fuel: 0, stopped_at_poll: None }
    }
}

/// What came of an evaluation.
#[derive(Debug, Clone, PartialEq)]
pub enum EvaluationOutcome {
    /// It ran to its end.
    Value {
        /// The value of the last expression, where JSON can hold it.
        value: Option<Value>,
        /// The value as a person would read it.
        text: String,
        /// The language's word for its type.
        kind: String,
    },
    /// It threw.
    Threw {
        /// The name of the error.
        name: String,
        /// Its message.
        message: String,
        /// Where.
        stack: String,
    },
    /// It ended at `done`.
    Done,
    /// A ward stopped it; the instance is sound.
    Stopped(StopReason),
    /// The instance is lost; the next evaluation needs a new one.
    Lost {
        /// Why.
        reason: StopReason,
        /// What the sandbox said.
        detail: String,
    },
}

/// Why an evaluation was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// `max_eval_ms`.
    Time,
    /// `max_fuel`.
    Fuel,
    /// `max_memory_bytes`.
    Memory,
    /// The stack is used up.
    Stack,
    /// From outside: cancelled or interrupted.
    Outside,
    /// A trap of another kind.
    Trap,
}

impl StopReason {
    /// The ward that stopped it, or what else did.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Time => "max_eval_ms",
            Self::Fuel => "max_fuel",
            Self::Memory => "max_memory_bytes",
            Self::Stack => "stack",
            Self::Outside => "stopped from outside",
            Self::Trap => "trap",
        }
    }
}
