//! The gate `llm_query`: the model that the cantrip file names. It sees nothing but what it is asked.

use serde::{Deserialize, Serialize};

use crate::{Error, host};

/// A question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Question {
    pub(crate) prompt: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) system: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) temperature: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_output_tokens: Option<u32>,
}

impl Question {
    /// A question.
    pub fn new(prompt: impl Into<String>) -> Self {
        Self { prompt: prompt.into(), system: None, temperature: None, max_output_tokens: None }
    }

    /// Who answers.
    #[must_use]
    pub fn system(mut self, system: impl Into<String>) -> Self {
        self.system = Some(system.into());
        self
    }

    /// 0 is the most likely word each time.
    #[must_use]
    pub const fn temperature(mut self, temperature: f64) -> Self {
        self.temperature = Some(temperature);
        self
    }

    /// The length of the answer, in tokens.
    #[must_use]
    pub const fn max_output_tokens(mut self, tokens: u32) -> Self {
        self.max_output_tokens = Some(tokens);
        self
    }

    /// What is asked.
    pub fn prompt(&self) -> &str {
        &self.prompt
    }

    /// Asks, and waits for the answer. Its tokens count against the ward `max_tokens`.
    ///
    /// # Errors
    /// `Exhausted` where the tokens are used up, `Failed` where the model gives no answer.
    pub fn query(&self) -> Result<Reply, Error> {
        host::query(self)
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// What it says.
    pub text: String,
    /// The model as the provider named it.
    pub model: String,
    /// Tokens of the question.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
}

/// Asks, and returns the text of the answer.
///
/// # Errors
/// As [`Question::query`].
pub fn ask(prompt: &str) -> Result<String, Error> {
    Question::new(prompt).query().map(|reply| reply.text)
}
