//! Redaction: secrets are replaced by `[redacted:kind]` before text leaves the machine or reaches a log.
//!
//! Owns which texts count as secrets: keys and tokens with a known shape, private key blocks, authorization headers,
//! passwords in URLs, and whatever is assigned to a name such as `API_KEY` or `password`. It errs towards hiding; what
//! it must not do is mangle ordinary prose. Each byte of a text is looked at a bounded number of times, whatever the text is:
//! what looks ahead remembers what it saw ([`scan`]), and what has been replaced is not looked at again in its pass. It is a net and not a wall: a secret without shape and without name passes,
//! which is why secrets are not given to entities in the first place. Redacting twice changes nothing.

mod assigned;
mod pem;
mod scan;
mod shapes;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use crate::limits::{CREDENTIAL_BYTES_MAX, PLACEHOLDER_BYTES_MAX, REDACTION_PASSES_MAX};
use crate::steps;

const MARKER: &str = "[redacted:";

static MARKERS: LazyLock<Regex> = LazyLock::new(|| pattern(r"\[redacted:[a-z_]+\]"));

/// A word that every secret has in it or near it. Text without any, which is nearly all text, is looked at once.
static TRIGGER: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)key|secret|token|pass|pwd|credential|authorization|bearer|basic|-----BEGIN|sk-|AIza|gsk_|xai-|hf_|AKIA|ASIA|gh[pousr]_|github_pat_|xox|xapp-|eyJ|://",
    )
});

/// A secret in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    range: Range<usize>,
    kind: &'static str,
}

/// The text with every secret replaced. Text without a secret is returned as it came.
///
/// ```
/// assert_eq!(cantrip_gates::redact("DB_PASSWORD=hunter2"), "DB_PASSWORD=[redacted:secret]");
/// assert_eq!(cantrip_gates::redact("the key is under the mat"), "the key is under the mat");
/// ```
pub fn redact(text: &str) -> Cow<'_, str> {
    redact_counted(text).0
}

/// The text with every secret replaced, and how many there were.
pub fn redact_counted(text: &str) -> (Cow<'_, str>, usize) {
    let redacted = passes(text, text.len());
    (redacted.text, redacted.count)
}

/// The first `bytes_max` bytes of a text with every secret replaced, and whether anything was left out. A secret that the
/// cut falls into is replaced like any other, so no half of one is shown; what lies far behind the cut costs nothing.
///
/// ```
/// let text = format!("key sk-proj-0123456789 {}", "x".repeat(1_000_000));
/// let (shown, is_cut) = cantrip_gates::redact_start(&text, 12);
/// assert_eq!((&*shown, is_cut), ("key [redacte", true));
/// ```
pub fn redact_start(text: &str, bytes_max: usize) -> (Cow<'_, str>, bool) {
    let seen = text.get(..text.floor_char_boundary(bytes_max.saturating_add(CREDENTIAL_BYTES_MAX))).unwrap_or(text);
    let cut = if seen.len() < text.len() { whole_words(seen, bytes_max) } else { text.floor_char_boundary(bytes_max) };
    let redacted = passes(seen, cut);
    let end = redacted.text.floor_char_boundary(redacted.cut.min(bytes_max));
    let is_cut = cut < text.len() || end < redacted.text.len();
    let shown = match redacted.text {
        Cow::Borrowed(text) => Cow::Borrowed(text.get(..end).unwrap_or_default()),
        Cow::Owned(mut text) => {
            text.truncate(end);
            Cow::Owned(text)
        }
    };
    (shown, is_cut)
}

/// Where a text that was itself cut can be cut once more. A word that is longer than any credential, so that its end was
/// not seen, is left out whole where it looks as if it could hold one.
fn whole_words(seen: &str, bytes_max: usize) -> usize {
    let cut = seen.floor_char_boundary(bytes_max);
    let is_end = |character: char| character.is_whitespace() || matches!(character, '"' | '\'' | '`' | '<' | '>');
    if seen.get(cut..).is_none_or(|behind| behind.contains(is_end)) {
        return cut;
    }
    let start = seen.get(..cut).and_then(|before| before.rfind(is_end)).map_or(0, |at| seen.ceil_char_boundary(at + 1));
    if seen.get(start..).is_some_and(|word| TRIGGER.is_match(word)) { start } else { cut }
}

struct Redacted<'a> {
    text: Cow<'a, str>,
    count: usize,
    /// Where the cut of the text is now.
    cut: usize,
}

fn passes(text: &str, cut: usize) -> Redacted<'_> {
    let mut redacted = Redacted { text: Cow::Borrowed(text), count: 0, cut };
    for _ in 0..REDACTION_PASSES_MAX {
        let found = find(&redacted.text);
        if found.is_empty() {
            break;
        }
        redacted.count += found.len();
        redacted.cut = moved(redacted.cut, &found);
        redacted.text = Cow::Owned(replaced(&redacted.text, &found));
    }
    redacted
}

/// Where a place of the text is after the secrets were replaced; a place inside of one is behind its marker.
fn moved(place: usize, found: &[Found]) -> usize {
    let mut moved = place;
    for one in found.iter().take_while(|one| one.range.start < place) {
        let end = one.range.end.min(place);
        moved = moved.saturating_sub(end - one.range.start).saturating_add(MARKER.len() + one.kind.len() + 1);
    }
    moved
}

/// Replaces every secret in a JSON value, in texts, in keys, and under keys that name a secret. Returns how many.
///
/// ```
/// let mut value = serde_json::json!({"user": "bo", "password": "hunter2"});
/// assert_eq!(cantrip_gates::redact_json(&mut value), 1);
/// assert_eq!(value, serde_json::json!({"user": "bo", "password": "[redacted:secret]"}));
/// ```
pub fn redact_json(value: &mut Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => redact_text(text),
        Value::Array(items) => items.iter_mut().map(redact_json).sum(),
        Value::Object(object) => {
            let is_named =
                ["name", "key"].iter().filter_map(|name| object.get(*name)?.as_str()).any(assigned::names_a_secret);
            let mut count = 0;
            for (key, value) in object.iter_mut() {
                let is_secret = assigned::names_a_secret(key) || (is_named && key == "value");
                count += if is_secret { redact_named(key, value) } else { redact_json(value) };
            }
            if object.keys().any(|key| !find(key).is_empty()) {
                let entries = std::mem::take(object);
                for (mut key, value) in entries {
                    count += redact_text(&mut key);
                    object.insert(key, value);
                }
            }
            count
        }
    }
}

fn redact_text(text: &mut String) -> usize {
    let (redacted, count) = redact_counted(text);
    if count > 0 {
        *text = redacted.into_owned();
    }
    count
}

/// The value under a key that names a secret: all of it goes.
fn redact_named(key: &str, value: &mut Value) -> usize {
    let hide = match value {
        Value::String(text) => !is_placeholder(text),
        Value::Number(_) => assigned::may_be_a_number(key),
        Value::Null | Value::Bool(_) => false,
        Value::Array(items) => return items.iter_mut().map(|item| redact_named(key, item)).sum(),
        Value::Object(_) => return redact_json(value),
    };
    if hide {
        *value = Value::String(marker("secret"));
    }
    usize::from(hide)
}

fn find(text: &str) -> Vec<Found> {
    steps::count(text.len());
    if !TRIGGER.is_match(text) {
        return Vec::new();
    }
    let mut found = Vec::new();
    pem::find(text, &mut found);
    shapes::find(text, &mut found);
    assigned::find(text, &mut found);
    found.retain(|one| text.get(one.range.clone()).is_some_and(|secret| !is_placeholder(secret)));
    merged(found)
}

/// Sorted, and secrets that overlap made one.
fn merged(mut found: Vec<Found>) -> Vec<Found> {
    found.sort_by_key(|one| (one.range.start, std::cmp::Reverse(one.range.end)));
    let mut merged: Vec<Found> = Vec::with_capacity(found.len());
    for one in found {
        match merged.last_mut() {
            Some(last) if one.range.start < last.range.end => last.range.end = last.range.end.max(one.range.end),
            Some(_) | None => merged.push(one),
        }
    }
    merged
}

fn replaced(text: &str, found: &[Found]) -> String {
    let mut output = String::with_capacity(text.len());
    let mut done = 0;
    for one in found {
        output.push_str(text.get(done..one.range.start).unwrap_or_default());
        output.push_str(&marker(one.kind));
        done = one.range.end;
    }
    output.push_str(text.get(done..).unwrap_or_default());
    output
}

fn marker(kind: &str) -> String {
    format!("{MARKER}{kind}]")
}

/// Whether the text stands for a secret without being one: nothing, a marker of ours, a variable, a blank to fill in.
fn is_placeholder(text: &str) -> bool {
    static BLANK: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"^(?:\$\{[^}]*\}|\$\([^)]*\)|\$[A-Z_][A-Z0-9_]*|%[A-Z0-9_]+%|<[^<>]*>|\{\{[^{}]*\}\}|\{[A-Za-z_]*\}|[xX]+|(?i:null|none|nil|undefined|true|false|changeme|redacted))$",
        )
    });
    steps::count(text.len());
    let text = text.trim();
    if text.len() <= PLACEHOLDER_BYTES_MAX && BLANK.is_match(text) {
        return true;
    }
    let rest = if text.contains(MARKER) { MARKERS.replace_all(text, "") } else { Cow::Borrowed(text) };
    !rest.chars().any(char::is_alphanumeric)
}

/// A pattern that is written in this module.
#[expect(clippy::expect_used, reason = "the patterns are literals of ours, and the tests compile every one of them")]
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("patterns of this module are regular expressions")
}
