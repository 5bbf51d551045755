//! What a person sees while an entity works: on stderr, quiet where nothing happens.

use std::io::IsTerminal;
use std::sync::Mutex;

use crate::adapters::llm::visible_thinking;
use crate::domain::event::{Event, EventKind};
use crate::domain::limits::{INDENT_DEPTH_MAX, PROGRESS_LINE_CHARS_MAX};
use crate::domain::outcome::Outcome;
use crate::ports::Observer;

use super::output::{Colour, Painted, say, say_json};
use super::settings::Settings;

/// Shows turns as they happen.
#[derive(Debug)]
pub(super) struct Progress {
    /// A terminal also sees what the model says while it says it.
    live: bool,
    colour: bool,
    streaming: Mutex<bool>,
}

impl Progress {
    pub(super) fn new() -> Self {
        let (live, colour) = (std::io::stderr().is_terminal(), Settings::has_colour());
        Self { live, colour, streaming: Mutex::new(false) }
    }

    /// A line, indented.
    fn line(&self, indent: &str) -> Painted {
        Painted::new(self.colour).text(indent)
    }
}

/// The blanks before a turn of an entity that is so deep.
pub(super) fn indent(depth: u32) -> String {
    "  ".repeat(depth.min(INDENT_DEPTH_MAX) as usize)
}

/// The beginning of the first line.
fn short(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let more = text.trim().lines().nth(1).is_some() || line.chars().count() > PROGRESS_LINE_CHARS_MAX;
    let cut: String = line.chars().take(PROGRESS_LINE_CHARS_MAX).collect();
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
        let indent = indent(event.depth.saturating_add(1));
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
            if self.live {
                Painted::new(self.colour).piece(Colour::Dim, piece).say_piece();
                *streaming = true;
            }
            return;
        }
        if std::mem::take(&mut *streaming) {
            say("");
        }
        match &event.kind {
            EventKind::TurnStarted { turn } => {
                self.line(&indent).paint(Colour::Bold, &format!("turn {turn}")).say();
            }
            EventKind::MessageComplete { said } => {
                for line in said.trim().lines() {
                    self.line(&indent).text("  ").paint(Colour::Dim, "|").text(" ").code(line).say();
                }
            }
            EventKind::GateReturned { gate, is_error, preview, duration_us } => {
                let (colour, mark) = if *is_error { (Colour::Red, "failed") } else { (Colour::Green, "->") };
                let line = self.line(&indent).text("  ").paint(Colour::Cyan, gate).text(" ").paint(colour, mark);
                line.text(" ").text(&short(preview)).text(" ").paint(Colour::Dim, &millis(*duration_us)).say();
            }
            EventKind::TurnComplete { observation, is_error, .. } => {
                let text = short(observation);
                if !text.is_empty() {
                    let (colour, mark) = if *is_error { (Colour::Red, "!") } else { (Colour::Dim, "=") };
                    self.line(&indent).text("  ").paint(colour, mark).text(" ").text(&text).say();
                }
            }
            EventKind::Retry { attempt, wait_ms, reason } => {
                let what = format!(" asking again in {wait_ms} ms (try {attempt}): {}", short(reason));
                self.line(&indent).text("  ").paint(Colour::Yellow, "wait").text(&what).say();
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
        say_json(event);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_depth_that_an_archive_made_up_costs_nothing() {
        assert_eq!((indent(0), indent(2)), (String::new(), "    ".to_owned()));
        assert_eq!(indent(u32::MAX).len(), 2 * INDENT_DEPTH_MAX as usize);
    }
}
