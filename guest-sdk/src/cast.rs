//! Children in the form of cantrips: a proposal that is checked once and cast many times.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::call_entity::typed;
use crate::{Error, host};

/// Who a child is and where it works. What is left out is its parent's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Proposal {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) system_prompt: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) llm: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) medium: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gates: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) wards: Option<Value>,
}

impl Proposal {
    /// A child like its parent.
    pub fn new() -> Self {
        Self::default()
    }

    /// Its system prompt.
    #[must_use]
    pub fn system_prompt(mut self, prompt: impl Into<String>) -> Self {
        self.system_prompt = Some(prompt.into());
        self
    }

    /// A model that the cantrip names.
    #[must_use]
    pub fn llm(mut self, name: impl Into<String>) -> Self {
        self.llm = Some(name.into());
        self
    }

    /// Its medium, such as `conversation`.
    #[must_use]
    pub fn medium(mut self, name: impl Into<String>) -> Self {
        self.medium = Some(name.into());
        self
    }

    /// Its gates; `done` is always there.
    #[must_use]
    pub fn gates<T: Into<String>>(mut self, gates: impl IntoIterator<Item = T>) -> Self {
        self.gates = Some(gates.into_iter().map(Into::into).collect());
        self
    }

    /// Its wards, such as `json!({"max_turns": 5})`: they only ever narrow the parent's.
    #[must_use]
    pub fn wards(mut self, wards: impl Into<Value>) -> Self {
        self.wards = Some(wards.into());
        self
    }
}

/// A proposal that was checked.
#[derive(Debug)]
pub struct Cantrip(pub(crate) host::Cantrip);

impl Cantrip {
    /// Checks a proposal against what this circle can give.
    ///
    /// # Errors
    /// What of it cannot be given.
    pub fn create(proposal: &Proposal) -> Result<Self, Error> {
        host::create(proposal).map(Self)
    }

    /// Casts it once, and waits for the answer.
    ///
    /// # Errors
    /// As [`crate::call_entity::Child::cast`].
    pub fn cast<T: DeserializeOwned>(&self, intent: &str) -> Result<T, Error> {
        Ok(serde_json::from_value(host::cast(&self.0, intent)?)?)
    }
}

/// Casts several at the same time. The answers come in the order of the requests.
///
/// # Errors
/// As [`crate::call_entity::batch`].
pub fn batch<T: DeserializeOwned>(requests: &[(&Cantrip, &str)]) -> Result<Vec<Result<T, Error>>, Error> {
    let requests: Vec<(&host::Cantrip, &str)> =
        requests.iter().map(|(cantrip, intent)| (&cantrip.0, *intent)).collect();
    Ok(host::cast_batch(&requests)?.into_iter().map(typed).collect())
}
