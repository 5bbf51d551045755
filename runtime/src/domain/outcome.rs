//! How an episode ended, as whoever cast it sees it.

use cantrip_gates::{Exposure, GateError};
use serde_json::{Value, json};
use thiserror::Error;

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
    /// What was decisive: `done`, `text`, the name of a ward, `cancelled`, `parent_terminated`, `model_failed` …
    pub reason: String,
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
    /// What the parent's code is given for this child.
    ///
    /// # Errors
    /// A child whose model failed, or that was stopped from outside (COMP-8). A child that a ward truncated is no
    /// failure: its parent gets what was done, marked as cut short.
    pub fn for_parent(&self) -> Result<Value, GateError> {
        if let Some(failure) = &self.failure {
            return Err(GateError::Failed(format!("the child failed: {failure}")));
        }
        match self.how {
            How::Terminated => Ok(self.result.clone().unwrap_or(Value::Null)),
            How::Truncated if matches!(self.reason.as_str(), "cancelled" | "parent_terminated" | "interrupted") => {
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
