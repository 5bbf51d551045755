//! What a person sees while an entity works: on stderr, quiet where nothing happens.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;

use crate::adapters::llm::visible_thinking;
use crate::domain::event::{Event, EventKind};
use crate::domain::outcome::Outcome;
use crate::ports::Observer;

/// How much of a line is shown.
const LINE_CHARS_MAX: usize = 160;

/// So deep an entity is indented.
const INDENT_DEPTH_MAX: usize = 32;

/// Shows turns as they happen.
#[derive(Debug)]
pub(super) struct Progress {
    colour: bool,
    streaming: Mutex<bool>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { colour: std::io::stderr().is_terminal(), streaming: Mutex::new(false) }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn say(text: &str) {
    // Nobody is helped if a closed stderr ends the work.
    let _unheard = writeln!(std::io::stderr(), "{text}");
}

/// The beginning of the first line.
fn short(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let more = text.trim().lines().nth(1).is_some() || line.chars().count() > LINE_CHARS_MAX;
    let cut: String = line.chars().take(LINE_CHARS_MAX).collect();
    if more { format!("{cut} …") } else { cut }
}

fn millis(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        10_000.. => format!("{} ms", us / 1_000),
    }
}

impl Observer for Progress {
    fn event(&self, event: &Event) {
        // A host says how deep its entities are.
        let indent = "  ".repeat(usize::try_from(event.depth).unwrap_or(0).min(INDENT_DEPTH_MAX) + 1);
        let mut streaming = self.streaming.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let piece = match &event.kind {
            EventKind::Text { text } if event.depth == 0 => Some(text.as_str()),
            EventKind::Thinking { text } if event.depth == 0 => Some(visible_thinking(text)),
            EventKind::Text { .. }
            | EventKind::Thinking { .. }
            | EventKind::TurnStarted { .. }
            | EventKind::MessageStarted
            | EventKind::MessageComplete { .. }
            | EventKind::Usage { .. }
            | EventKind::Retry { .. }
            | EventKind::GateCalled { .. }
            | EventKind::GateReturned { .. }
            | EventKind::TurnComplete { .. }
            | EventKind::Folded { .. }
            | EventKind::Final { .. } => None,
        };
        if let Some(piece) = piece {
            if self.colour {
                let _unheard = write!(std::io::stderr(), "{}", self.paint("2", piece));
                *streaming = true;
            }
            return;
        }
        if std::mem::take(&mut *streaming) {
            say("");
        }
        match &event.kind {
            EventKind::TurnStarted { turn } => say(&format!("{indent}{}", self.paint("1", &format!("turn {turn}")))),
            EventKind::MessageComplete { said } => {
                for line in said.trim().lines() {
                    say(&format!("{indent}  {} {line}", self.paint("2", "|")));
                }
            }
            EventKind::GateReturned { gate, is_error, preview, duration_us } => {
                let mark = if *is_error { self.paint("31", "failed") } else { self.paint("32", "->") };
                say(&format!(
                    "{indent}  {} {mark} {} {}",
                    self.paint("36", gate),
                    short(preview),
                    self.paint("2", &millis(*duration_us))
                ));
            }
            EventKind::TurnComplete { observation, is_error, .. } => {
                let text = short(observation);
                if !text.is_empty() {
                    let mark = if *is_error { self.paint("31", "!") } else { self.paint("2", "=") };
                    say(&format!("{indent}  {mark} {text}"));
                }
            }
            EventKind::Retry { attempt, wait_ms, reason } => {
                say(&format!(
                    "{indent}  {} asking again in {wait_ms} ms (try {attempt}): {}",
                    self.paint("33", "wait"),
                    short(reason)
                ));
            }
            EventKind::Folded { first, last } => say(&format!("{indent}  folded turns {first}-{last}")),
            EventKind::MessageStarted
            | EventKind::Text { .. }
            | EventKind::Thinking { .. }
            | EventKind::Usage { .. }
            | EventKind::GateCalled { .. }
            | EventKind::Final { .. } => {}
        }
    }
}

/// Prints every event as a line of JSON.
#[derive(Debug)]
pub(super) struct EventLines;

impl Observer for EventLines {
    fn event(&self, event: &Event) {
        if let Ok(line) = serde_json::to_string(event) {
            say(&line);
        }
    }
}

/// The line that ends a cast.
pub(super) fn summary(outcome: &Outcome, loom: &str) -> String {
    let spent = &outcome.spent;
    let usage = spent.usage + spent.children_usage;
    let how = outcome.how.as_str();
    let children =
        if spent.children > 0 { format!(", {}", count(spent.children, "child", "children")) } else { String::new() };
    format!(
        "{how} ({}): {}, {}{children}, {} + {} tokens, loom {loom}",
        outcome.reason,
        count(spent.turns, "turn", "turns"),
        count(spent.gate_calls, "gate call", "gate calls"),
        usage.prompt_tokens,
        usage.completion_tokens
    )
}

/// A number with its noun.
pub(super) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
