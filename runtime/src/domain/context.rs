//! What the model is shown of the past.
//!
//! Owns the working view of a thread: intents, turns, folds. A fold replaces turns in the view and destroys nothing: the
//! loom has every one (LOOM-5). Identity, intents and gate definitions are never part of a fold (LOOM-6, IDENTITY-5,
//! LOOP-5).

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use crate::domain::limits::SUMMARY_CHARS_MAX;

use super::cantrip::{Folding, Identity};
use super::ids::CallId;
use super::model::{Call, Message, Usage, Utterance};

/// One answer of the circle, as the model sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// The call that it answers; none for a note after text alone.
    pub call: Option<CallId>,
    /// The text.
    pub content: String,
    /// Whether it is a failure.
    pub is_error: bool,
    /// What stands in its place, where the result is ephemeral (PROD-5).
    pub shown_instead: Option<String>,
}

/// One turn that goes into the view.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Its number, from 1.
    pub number: u64,
    /// What the model said.
    pub said: Utterance,
    /// What it got back.
    pub answers: Vec<Shown>,
}

/// Kept as the messages that a question is made of, so that asking copies no text however long the past is.
#[derive(Debug, Clone)]
enum Item {
    /// An intent, or what stands for folded turns.
    Said(Arc<Message>),
    Turn(Turn),
}

/// The utterance first, then what it got back.
#[derive(Debug, Clone)]
struct Turn {
    number: u64,
    messages: Vec<Arc<Message>>,
}

/// The view of a thread.
#[derive(Debug, Clone, Default)]
pub struct History {
    items: Vec<Item>,
    calls: BTreeSet<CallId>,
    last_usage: Usage,
}

/// A range of turns that is to be folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldPlan {
    /// The first turn.
    pub first: u64,
    /// The last turn.
    pub last: u64,
    /// The mechanical summary of them.
    pub summary: String,
}

impl History {
    /// A further intent, or a steer.
    pub fn intent(&mut self, text: &str) {
        self.items.push(Item::Said(Arc::new(Message::User(text.to_owned()))));
    }

    /// A whole turn. Of an ephemeral result the view keeps what is shown instead: the loom has it.
    pub fn turn(&mut self, told: Told) {
        let Told { number, said, answers } = told;
        self.calls.extend(said.calls.iter().map(|call| call.id.clone()));
        self.last_usage = said.usage;
        let utterance = Message::Assistant { content: said.content, thinking: said.thinking, calls: said.calls };
        let messages = std::iter::once(utterance).chain(answers.into_iter().map(Message::from)).map(Arc::new).collect();
        self.items.push(Item::Turn(Turn { number, messages }));
    }

    /// Every call that was made, for LLM-7.
    pub const fn calls(&self) -> &BTreeSet<CallId> {
        &self.calls
    }

    /// The messages of a question, in order: system prompt, intents, past.
    pub fn messages(&self, identity: &Identity) -> Vec<Arc<Message>> {
        let mut messages = Vec::with_capacity(self.items.len() * 2 + 1);
        messages.extend(identity.system_prompt().map(|prompt| Arc::new(Message::System(prompt.to_owned()))));
        for item in &self.items {
            match item {
                Item::Said(message) => messages.push(Arc::clone(message)),
                Item::Turn(turn) => messages.extend(turn.messages.iter().cloned()),
            }
        }
        messages
    }

    fn unfolded(&self) -> impl DoubleEndedIterator<Item = &Turn> {
        self.items.iter().filter_map(|item| match item {
            Item::Turn(turn) => Some(turn),
            Item::Said(_) => None,
        })
    }

    /// Which turns are to be folded now, if any (PROD-4).
    ///
    /// Folding begins when `trigger_after_turns` turns stand unfolded, or when the last question used
    /// `trigger_at_percent` of the model's context. `keep_turns` of the newest stay, at most half of the trigger.
    pub fn fold_due(&self, folding: &Folding, context_tokens: Option<u64>) -> Option<FoldPlan> {
        let unfolded = u64::try_from(self.unfolded().count()).unwrap_or(u64::MAX);
        let by_turns = folding.trigger_after_turns.is_some_and(|trigger| unfolded >= trigger.max(1));
        let by_tokens = context_tokens.is_some_and(|limit| {
            self.last_usage.total().saturating_mul(100) >= limit.saturating_mul(folding.trigger_at_percent)
        });
        if !by_turns && !by_tokens {
            return None;
        }
        let half = folding.trigger_after_turns.map_or(u64::MAX, |trigger| trigger / 2);
        let keep = folding.keep_turns.min(half);
        let count = usize::try_from(unfolded.saturating_sub(keep)).ok()?;
        let folded: Vec<&Turn> = self.unfolded().take(count).collect();
        let (first, last) = (folded.first()?.number, folded.last()?.number);
        Some(FoldPlan { first, last, summary: mechanical(&folded) })
    }

    /// Puts a summary in the place of the turns. Intents among them stay.
    pub fn fold(&mut self, first: u64, last: u64, summary: &str) {
        let in_range = |item: &Item| matches!(item, Item::Turn(turn) if (first..=last).contains(&turn.number));
        let Some(place) = self.items.iter().position(in_range) else { return };
        self.items.retain(|item| !in_range(item));
        let folded = Message::User(format!("[Folded: turns {first}-{last}]\n{summary}"));
        self.items.insert(place, Item::Said(Arc::new(folded)));
        // What was measured is no longer what will be asked.
        self.last_usage = Usage::default();
    }

    /// The last thing that was said or seen, for the summary of a truncated episode (LOOP-4).
    pub fn last_words(&self) -> Option<String> {
        let last = self.unfolded().next_back()?;
        last.messages
            .iter()
            .rev()
            .map(|message| message.content())
            .find(|text| !text.is_empty())
            .map(|text| cut(text, 400))
    }
}

impl From<Shown> for Message {
    fn from(shown: Shown) -> Self {
        let content = shown.shown_instead.unwrap_or(shown.content);
        match shown.call {
            Some(call) => Self::Tool { call, content, is_error: shown.is_error },
            None => Self::User(content),
        }
    }
}

fn mechanical(turns: &[&Turn]) -> String {
    let mut text = String::new();
    for turn in turns {
        let Some((utterance, answers)) = turn.messages.split_first() else { continue };
        let calls = match &**utterance {
            Message::Assistant { calls, .. } => calls.as_slice(),
            Message::System(_) | Message::User(_) | Message::Tool { .. } => &[],
        };
        let said = match calls {
            [] => cut(utterance.content(), SUMMARY_CHARS_MAX),
            calls => calls.iter().map(summarise_call).collect::<Vec<_>>().join("; "),
        };
        let seen: Vec<String> = answers
            .iter()
            .map(|answer| {
                let mark = if matches!(**answer, Message::Tool { is_error: true, .. }) { "error: " } else { "" };
                format!("{mark}{}", cut(answer.content(), SUMMARY_CHARS_MAX))
            })
            .collect();
        // Writing into a String cannot fail.
        let _infallible = writeln!(text, "turn {}: {said} -> {}", turn.number, seen.join("; "));
    }
    text.truncate(text.trim_end().len());
    text
}

fn summarise_call(call: &Call) -> String {
    let arguments = match &call.arguments {
        Ok(value) => match value.get("code").and_then(serde_json::Value::as_str) {
            Some(code) => code.to_owned(),
            None => value.to_string(),
        },
        Err(text) => text.clone(),
    };
    format!("{}({})", call.gate, cut(&arguments, SUMMARY_CHARS_MAX))
}

/// The beginning of a text in one line, with a mark where it was cut.
pub fn cut(text: &str, chars_max: usize) -> String {
    let mut short: String = text.chars().take(chars_max).map(|char| if char == '\n' { ' ' } else { char }).collect();
    if text.chars().nth(chars_max).is_some() {
        short.push('…');
    }
    short
}
