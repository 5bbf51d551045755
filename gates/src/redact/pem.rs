//! Private key blocks.
//!
//! Owns where such a block ends, also when it was cut off, was put on one line, or is text inside JSON with `\n` for a
//! line break. A block without an end hides what looks like its body and not the rest of the text, so that nobody can
//! hide what they did behind one header line.

use std::sync::LazyLock;

use regex::Regex;

use super::{Found, pattern};
use crate::steps;

static BEGIN: LazyLock<Regex> = LazyLock::new(|| pattern(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"));
static END: LazyLock<Regex> = LazyLock::new(|| pattern(r"^-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"));
/// One piece of a body: a line break in either spelling, a header line, or a run of base64.
static PIECE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"^(?:[\s"'>|,+]+|\\+[nrt"]|(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset):[^\n\\]*|[A-Za-z0-9+/=]+)"#,
    )
});

/// 20 characters. A shorter run of letters is a word, unless it ends a body.
const RUN_CHARS_MIN: usize = 20;

pub(super) fn find(text: &str, found: &mut Vec<Found>) {
    let mut from = 0;
    while let Some(begin) = BEGIN.find_at(text, from) {
        let rest = text.get(begin.end()..).unwrap_or_default();
        let range = begin.start()..begin.end() + body_bytes(rest);
        steps::count(range.end.saturating_sub(from) + 1);
        // What belongs to this block begins no other.
        from = range.end;
        found.push(Found { range, kind: "private_key" });
    }
    steps::count(text.len().saturating_sub(from));
}

/// How many bytes after the header belong to the block.
fn body_bytes(rest: &str) -> usize {
    let mut at = 0;
    let mut body_end = 0;
    let mut after_run = false;
    while let Some(left) = rest.get(at..).filter(|left| !left.is_empty()) {
        if let Some(end) = END.find(left) {
            return at + end.end();
        }
        let Some(piece) = PIECE.find(left) else { break };
        steps::count(piece.len());
        let is_run =
            piece.as_str().starts_with(|first: char| first.is_ascii_alphanumeric() || matches!(first, '+' | '/' | '='));
        let is_header = piece.as_str().contains(':');
        let is_long = piece.len() >= RUN_CHARS_MIN;
        // A word of ordinary length ends the block, unless it can be the last line of a body and stands alone.
        let is_word = is_run && !is_header && !is_long;
        let is_last_line = after_run && ends_line(left.get(piece.end()..).unwrap_or_default());
        if is_word && !is_last_line {
            break;
        }
        at += piece.end();
        if is_run {
            after_run = is_long && !is_header;
            body_end = at;
        }
    }
    body_end
}

/// Whether what follows is the end of a line or of the text.
fn ends_line(left: &str) -> bool {
    left.is_empty() || left.starts_with(['\n', '\r', '"', '\'', '\\', '-'])
}
