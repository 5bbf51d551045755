//! What the model is shown of the past.
//!
//! Owns the working view of a thread: intents, turns, folds. A fold replaces turns in the view and destroys nothing: the
//! loom has every one (LOOM-5). Identity, intents and gate definitions are never part of a fold (LOOM-6, IDENTITY-5,
//! LOOP-5).

use std::collections::BTreeSet;
use std::fmt::Write;

use super::cantrip::{Folding, Identity};
use super::ids::CallId;
use super::model::{Call, Message, Usage, Utterance};

/// How much of a call or of an answer a mechanical summary keeps, in characters.
const SUMMARY_PIECE_CHARS: usize = 160;

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

impl Shown {
    fn text(&self) -> &str {
        self.shown_instead.as_deref().unwrap_or(&self.content)
    }
}

/// One turn in the view.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Its number, from 1.
    pub number: u64,
    /// What the model said.
    pub said: Utterance,
    /// What it got back.
    pub answers: Vec<Shown>,
}

#[derive(Debug, Clone)]
enum Item {
    Intent(String),
    Turn(Box<Told>),
    Folded { first: u64, last: u64, summary: String },
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
        self.items.push(Item::Intent(text.to_owned()));
    }

    /// A whole turn. Ephemeral results are dropped from the view here: the loom has them.
    pub fn turn(&mut self, mut told: Told) {
        for answer in &mut told.answers {
            if answer.shown_instead.is_some() {
                answer.content = String::new();
            }
        }
        self.calls.extend(told.said.calls.iter().map(|call| call.id.clone()));
        self.last_usage = told.said.usage;
        self.items.push(Item::Turn(Box::new(told)));
    }

    /// Every call that was made, for LLM-7.
    pub const fn calls(&self) -> &BTreeSet<CallId> {
        &self.calls
    }

    /// The messages of a question, in order: system prompt, intents, past.
    pub fn messages(&self, identity: &Identity) -> Vec<Message> {
        let mut messages = Vec::with_capacity(self.items.len() * 2 + 1);
        if let Some(prompt) = identity.system_prompt() {
            messages.push(Message::System(prompt.to_owned()));
        }
        for item in &self.items {
            match item {
                Item::Intent(text) => messages.push(Message::User(text.clone())),
                Item::Folded { first, last, summary } => {
                    messages.push(Message::User(format!("[Folded: turns {first}-{last}]\n{summary}")));
                }
                Item::Turn(told) => told.push_to(&mut messages),
            }
        }
        messages
    }

    fn unfolded(&self) -> impl Iterator<Item = &Told> {
        self.items.iter().filter_map(|item| match item {
            Item::Turn(told) => Some(&**told),
            Item::Intent(_) | Item::Folded { .. } => None,
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
        let folded: Vec<&Told> = self.unfolded().take(count).collect();
        let (first, last) = (folded.first()?.number, folded.last()?.number);
        Some(FoldPlan { first, last, summary: mechanical(&folded) })
    }

    /// Puts a summary in the place of the turns. Intents among them stay.
    pub fn fold(&mut self, first: u64, last: u64, summary: &str) {
        let in_range = |item: &Item| matches!(item, Item::Turn(told) if (first..=last).contains(&told.number));
        let Some(place) = self.items.iter().position(in_range) else { return };
        self.items.retain(|item| !in_range(item));
        self.items.insert(place, Item::Folded { first, last, summary: summary.to_owned() });
        // What was measured is no longer what will be asked.
        self.last_usage = Usage::default();
    }

    /// The last thing that was said or seen, for the summary of a truncated episode (LOOP-4).
    pub fn last_words(&self) -> Option<String> {
        let last = self.unfolded().last()?;
        let answer = last.answers.iter().rev().map(Shown::text).find(|text| !text.is_empty());
        answer.or(last.said.content.as_deref()).map(|text| cut(text, 400))
    }
}

impl Told {
    fn push_to(&self, messages: &mut Vec<Message>) {
        messages.push(Message::Assistant {
            content: self.said.content.clone(),
            thinking: self.said.thinking.clone(),
            calls: self.said.calls.clone(),
        });
        for answer in &self.answers {
            messages.push(match &answer.call {
                Some(call) => {
                    Message::Tool { call: call.clone(), content: answer.text().to_owned(), is_error: answer.is_error }
                }
                None => Message::User(answer.text().to_owned()),
            });
        }
    }
}

fn mechanical(turns: &[&Told]) -> String {
    let mut text = String::new();
    for told in turns {
        let said = match told.said.calls.as_slice() {
            [] => cut(told.said.content.as_deref().unwrap_or_default(), SUMMARY_PIECE_CHARS),
            calls => calls.iter().map(summarise_call).collect::<Vec<_>>().join("; "),
        };
        let seen: Vec<String> = told
            .answers
            .iter()
            .map(|answer| {
                format!("{}{}", if answer.is_error { "error: " } else { "" }, cut(answer.text(), SUMMARY_PIECE_CHARS))
            })
            .collect();
        // Writing into a String cannot fail.
        let _infallible = writeln!(text, "turn {}: {said} -> {}", told.number, seen.join("; "));
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
    format!("{}({})", call.gate, cut(&arguments, SUMMARY_PIECE_CHARS))
}

/// The beginning of a text in one line, with a mark where it was cut.
pub fn cut(text: &str, chars_max: usize) -> String {
    let mut short: String = text.chars().take(chars_max).map(|char| if char == '\n' { ' ' } else { char }).collect();
    if text.chars().nth(chars_max).is_some() {
        short.push('…');
    }
    short
}
