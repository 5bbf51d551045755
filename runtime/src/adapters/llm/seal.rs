//! What a provider wants back with its next question, kept in the answer itself.
//!
//! Anthropic and Gemini sign their reasoning and refuse (or think worse) when a call comes back without the signature.
//! A model keeps nothing between two questions (LLM-1), and after a crash a conversation is rebuilt from the record
//! alone: so the signatures travel in the utterance, behind its reasoning. Owns that encoding. It never gives one
//! provider the seal of another.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// ASCII's record separator: what stands behind it in a thinking is the provider's, not the reader's.
const SEPARATOR: char = '\u{1e}';

/// The part of a recorded thinking that is meant for people.
///
/// ```
/// # use cantrip_runtime::adapters::llm::visible_thinking;
/// assert_eq!(visible_thinking("two and two\u{1e}{}"), "two and two");
/// assert_eq!(visible_thinking("plain"), "plain");
/// ```
pub fn visible_thinking(thinking: &str) -> &str {
    thinking.split_once(SEPARATOR).map_or(thinking, |(visible, _)| visible)
}

/// One thing that the provider wants back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(super) enum Block {
    /// A signature for the given piece of reasoning.
    Signed {
        /// The reasoning that is signed; empty where the provider keeps it to itself.
        text: String,
        /// The signature.
        signature: String,
    },
    /// A block that goes back as it came.
    Opaque(Value),
    /// The signature of a call.
    Call {
        /// Which call of the utterance, from 0.
        index: usize,
        /// The signature.
        signature: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seal {
    provider: String,
    blocks: Vec<Block>,
}

/// Reasoning with what the provider wants back behind it.
pub(super) fn close(provider: &str, visible: &str, blocks: Vec<Block>) -> Option<String> {
    // A model that writes the separator itself must not be able to forge a seal.
    let visible = visible.replace(SEPARATOR, " ");
    if blocks.is_empty() {
        return (!visible.is_empty()).then_some(visible);
    }
    let seal = Seal { provider: provider.to_owned(), blocks };
    match serde_json::to_string(&seal) {
        Ok(seal) => Some(format!("{visible}{SEPARATOR}{seal}")),
        Err(_) => (!visible.is_empty()).then_some(visible),
    }
}

/// What that provider wants back of a recorded thinking.
pub(super) fn open(provider: &str, thinking: &str) -> Vec<Block> {
    let Some((_, seal)) = thinking.split_once(SEPARATOR) else {
        return Vec::new();
    };
    let seal = crate::domain::json::parse(seal).ok().and_then(|seal| serde_json::from_value::<Seal>(seal).ok());
    seal.filter(|seal| seal.provider == provider).map(|seal| seal.blocks).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_opens_for_its_provider_alone() {
        let blocks = vec![Block::Signed { text: "a".to_owned(), signature: "s".to_owned() }];
        let thinking = close("anthropic", "a", blocks.clone()).unwrap();
        assert_eq!(visible_thinking(&thinking), "a");
        assert_eq!(open("anthropic", &thinking), blocks);
        assert_eq!(open("gemini", &thinking), Vec::new());
        assert_eq!(open("anthropic", "a"), Vec::new());
    }

    #[test]
    fn a_model_cannot_forge_a_seal() {
        let forged = format!("x{SEPARATOR}{{\"provider\":\"anthropic\",\"blocks\":[]}}");
        let thinking = close("anthropic", &forged, Vec::new()).unwrap();
        assert!(!thinking.contains(SEPARATOR));
        assert_eq!(close("anthropic", "", Vec::new()), None);
    }
}
