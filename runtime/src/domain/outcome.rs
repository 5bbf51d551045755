//! How an episode ended, as whoever cast it sees it.

use cantrip_gates::{Exposure, GateError};
use serde_json::{Value, json};
use thiserror::Error;

use super::end::EndReason;
use super::ids::EntityId;
use super::loom::{How, Spent};
use super::model::{ContractError, ModelError};

/// How an episode ended. Truncation is not an error: it says that a ward, not the entity, ended it.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Whose.
    pub entity: EntityId,
    /// By the entity or by the circle.
    pub how: How,
    /// What was decisive.
    pub reason: EndReason,
    /// The answer.
    pub result: Option<Value>,
    /// What was done so far, for a truncated episode (LOOP-4).
    pub summary: Option<String>,
    /// What the entity has spent in its life.
    pub spent: Spent,
    /// What the entity and its children have met.
    pub seen: Exposure,
    /// Why the model could not go on, where that ended it.
    pub failure: Option<Failure>,
}

/// Why a model could not go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Failure {
    /// It gave no answer.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Its answer broke the contract.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// The guest that stands in the model's place said that it failed, or broke down.
    #[error("{0}")]
    Guest(String),
    /// The node that ran it says so.
    #[error("{0}")]
    Remote(String),
}

impl Outcome {
    /// Tells whether the entity ended the episode itself, with an answer.
    pub fn is_success(&self) -> bool {
        self.how == How::Terminated && self.failure.is_none() && !self.reason.is_failure()
    }

    /// What the parent's code is given for this child.
    ///
    /// # Errors
    /// A child whose model failed, that was stopped from outside (COMP-8), or that ended for a reason which this version does
    /// not know. A child that a ward truncated is no failure: its parent gets what was done, marked as cut short.
    pub fn for_parent(&self) -> Result<Value, GateError> {
        if let Some(failure) = &self.failure {
            return Err(GateError::Failed(format!("the child failed: {failure}")));
        }
        if self.reason.is_failure() {
            let why = self.summary.clone().unwrap_or_else(|| self.reason.to_string());
            return Err(GateError::Failed(format!("the child failed: {why}")));
        }
        match self.how {
            How::Terminated => Ok(self.result.clone().unwrap_or(Value::Null)),
            How::Truncated if self.reason.is_stop() => {
                Err(GateError::Failed(format!("the child was stopped: {}", self.reason)))
            }
            How::Truncated => {
                Ok(Value::String(self.summary.clone().unwrap_or_else(|| format!("[truncated by {}]", self.reason))))
            }
        }
    }
}

/// The answer of a batch: one item for each request, in its order. A failed child does not hide its siblings.
pub fn batch_answer(items: Vec<Result<Value, GateError>>) -> Value {
    let item = |result: Result<Value, GateError>| match result {
        Ok(value) => value,
        Err(error) => json!({ "error": error.message(), "kind": error.kind() }),
    };
    Value::Array(items.into_iter().map(item).collect())
}
