//! Redaction: secrets are replaced by `[redacted:kind]` before text leaves the machine or reaches a log.
//!
//! Owns which texts count as secrets: keys and tokens with a known shape, private key blocks, authorization headers,
//! passwords in URLs, and whatever is assigned to a name such as `API_KEY` or `password`. It errs towards hiding; what
//! it must not do is mangle ordinary prose. It is a net and not a wall: a secret without shape and without name passes,
//! which is why secrets are not given to entities in the first place. Redacting twice changes nothing.

mod assigned;
mod pem;
mod shapes;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

/// 16 passes. Replacing one secret can bring another to light; texts found so far needed two.
const PASSES_MAX: usize = 16;

const MARKER: &str = "[redacted:";

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
    let mut current = Cow::Borrowed(text);
    let mut count = 0;
    for _ in 0..PASSES_MAX {
        let found = find(&current);
        if found.is_empty() {
            break;
        }
        count += found.len();
        current = Cow::Owned(replaced(&current, &found));
    }
    (current, count)
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
    static MARKERS: LazyLock<Regex> = LazyLock::new(|| pattern(r"\[redacted:[a-z_]+\]"));
    let text = text.trim();
    if BLANK.is_match(text) {
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
