//! The gates `call_entity` and `call_entity_batch`: children, each with a circle of its own that is never wider than this one.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, host};

/// What is proposed for a child. What is left out is its parent's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Child {
    pub(crate) intent: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) context: Option<Value>,
    #[serde(flatten)]
    pub(crate) proposal: crate::cast::Proposal,
}

impl Child {
    /// A child with an intent.
    pub fn new(intent: impl Into<String>) -> Self {
        Self { intent: intent.into(), context: None, proposal: crate::cast::Proposal::new() }
    }

    /// Data that it gets beside its intent.
    #[must_use]
    pub fn context(mut self, context: impl Into<Value>) -> Self {
        self.context = Some(context.into());
        self
    }

    /// Who it is and where it works.
    #[must_use]
    pub fn of(mut self, proposal: crate::cast::Proposal) -> Self {
        self.proposal = proposal;
        self
    }

    /// Its system prompt.
    #[must_use]
    pub fn system_prompt(mut self, prompt: impl Into<String>) -> Self {
        self.proposal = self.proposal.system_prompt(prompt);
        self
    }

    /// Its gates; `done` is always there.
    #[must_use]
    pub fn gates<T: Into<String>>(mut self, gates: impl IntoIterator<Item = T>) -> Self {
        self.proposal = self.proposal.gates(gates);
        self
    }

    /// Its wards, such as `json!({"max_turns": 5})`: they only ever narrow the parent's.
    #[must_use]
    pub fn wards(mut self, wards: impl Into<Value>) -> Self {
        self.proposal = self.proposal.wards(wards);
        self
    }

    /// What it was asked to do.
    pub fn intent(&self) -> &str {
        &self.intent
    }

    /// Casts it, and waits for its answer.
    ///
    /// # Errors
    /// A proposal that is wider than its parent (`Denied`), a budget that is used up (`Exhausted`), a child that failed, or an
    /// answer that is no `T`.
    pub fn cast<T: DeserializeOwned>(&self) -> Result<T, Error> {
        Ok(serde_json::from_value(host::call(self)?)?)
    }
}

/// Casts several children at the same time. The answers come in the order of the requests, and one that failed does not hide
/// the others.
///
/// # Errors
/// More children than the wards allow; what a single child fails with is in its place.
pub fn batch<T: DeserializeOwned>(children: &[Child]) -> Result<Vec<Result<T, Error>>, Error> {
    Ok(host::call_batch(children)?.into_iter().map(typed).collect())
}

pub(crate) fn typed<T: DeserializeOwned>(answer: Result<Value, Error>) -> Result<T, Error> {
    Ok(serde_json::from_value(answer?)?)
}
