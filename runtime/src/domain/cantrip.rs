//! The cantrip: a reusable value of model, identity and circle (CANTRIP-1, CANTRIP-2), and what makes one valid.

use serde::{Deserialize, Serialize};

use super::model::{Sampling, ToolChoice};

/// System prompt and sampling parameters. Fixed at construction (IDENTITY-1): there is nothing that changes one.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    system_prompt: Option<String>,
    #[serde(default)]
    sampling: Sampling,
    #[serde(default)]
    tool_choice: Option<ToolChoice>,
}

impl Identity {
    /// An identity.
    pub const fn new(system_prompt: Option<String>, sampling: Sampling, tool_choice: Option<ToolChoice>) -> Self {
        Self { system_prompt, sampling, tool_choice }
    }

    /// The first message of every question (IDENTITY-2).
    pub fn system_prompt(&self) -> Option<&str> {
        self.system_prompt.as_deref()
    }

    /// The sampling parameters.
    pub const fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// Whether a call is required; absent: as the medium says.
    pub const fn tool_choice(&self) -> Option<ToolChoice> {
        self.tool_choice
    }
}

/// When older turns are shown to the model as a summary (PROD-4).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Folding {
    /// Fold when more than this many turns stand unfolded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger_after_turns: Option<u64>,
    /// Fold when a question used this share of the model's context, in per cent. Needs the model's `context_tokens`.
    pub trigger_at_percent: u64,
    /// How many of the newest turns stay as they are.
    pub keep_turns: u64,
    /// Who writes the summary.
    pub summary: Summary,
}

/// Who writes the summary of folded turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Summary {
    /// A line for each turn, made here: free, and the same each time.
    #[default]
    Mechanical,
    /// The entity's own model, asked once; it costs a question.
    Model,
}

impl Default for Folding {
    fn default() -> Self {
        Self { trigger_after_turns: None, trigger_at_percent: 80, keep_turns: 2, summary: Summary::Mechanical }
    }
}
