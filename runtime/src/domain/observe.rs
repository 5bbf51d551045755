//! The words in which the circle answers a piece of code. Long values are shown as size and preview: the value itself
//! stays in the medium, where code can work on it.

use std::fmt::Write;

use cantrip_gates::ResolvedWards;

use crate::domain::limits::{STACK_LINES_MAX, VALUE_CHARS_MAX};

use super::medium::{Evaluated, EvaluationOutcome, StopReason};

/// What the model is told about an evaluation, and whether it failed.
pub(crate) fn describe(evaluated: &Evaluated, wards: &ResolvedWards) -> (String, bool) {
    let mut text = evaluated.output.clone();
    if evaluated.output_dropped_bytes > 0 {
        if !text.ends_with('\n') {
            text.push('\n');
        }
        // Writing into a String cannot fail, here and below.
        let _infallible = write!(
            text,
            "[{} more bytes of output dropped: the ward max_output_bytes = {}]",
            evaluated.output_dropped_bytes, wards.max_output_bytes
        );
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let failed = match &evaluated.outcome {
        EvaluationOutcome::Value { kind, text: value, .. } => {
            if kind != "undefined" {
                let _infallible = write!(text, "=> {}", preview(kind, value));
            } else if text.is_empty() {
                text.push_str("(nothing printed; the last expression is undefined)");
            }
            false
        }
        EvaluationOutcome::Threw { name, message, stack } => {
            let _infallible = write!(text, "{name}: {message}");
            for line in stack.lines().filter(|line| !line.trim().is_empty()).take(STACK_LINES_MAX) {
                let _infallible = write!(text, "\n    {}", line.trim());
            }
            true
        }
        EvaluationOutcome::Done => false,
        EvaluationOutcome::Stopped(reason) => {
            let _infallible =
                write!(text, "stopped: {}. What ran before stays, the rest did not run.", limit(*reason, wards));
            true
        }
        EvaluationOutcome::Lost { reason, detail } => {
            let _infallible = write!(
                text,
                "stopped: {}{}. This code left nothing behind: bindings are as they were before it. Gate calls that it made did happen.",
                limit(*reason, wards),
                if detail.is_empty() { String::new() } else { format!(" ({detail})") }
            );
            true
        }
    };
    text.truncate(text.trim_end().len());
    (text, failed)
}

pub(super) fn limit(reason: StopReason, wards: &ResolvedWards) -> String {
    match reason {
        StopReason::Time => format!("it computed longer than the ward max_eval_ms = {}", wards.max_eval_ms),
        StopReason::Fuel => {
            format!("it used all instructions of the ward max_fuel = {}", wards.declared.max_fuel.unwrap_or(0))
        }
        StopReason::Memory => {
            format!("it needed more memory than the ward max_memory_bytes = {}", wards.max_memory_bytes)
        }
        StopReason::Stack => "it used up the stack".to_owned(),
        StopReason::Outside => "it was stopped from outside".to_owned(),
        StopReason::Trap => "the sandbox ended it".to_owned(),
    }
}

fn preview(kind: &str, text: &str) -> String {
    let length = text.chars().count();
    if length <= VALUE_CHARS_MAX {
        return text.to_owned();
    }
    let start: String = text.chars().take(VALUE_CHARS_MAX).collect();
    format!("{kind} of {length} characters, the first {VALUE_CHARS_MAX}: {start}…")
}
