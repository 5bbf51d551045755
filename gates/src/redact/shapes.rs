//! Secrets that are recognised by their shape alone.
//!
//! Owns the table of known prefixes. Each begins at a place where no word goes on, so that `task-list` or `risk-based`
//! is not taken for a key.

use std::sync::LazyLock;

use regex::Regex;

use super::{Found, pattern};
use crate::steps;

/// A shape: what it is called, the pattern whose first group is the secret, and a last doubt.
struct Shape {
    kind: &'static str,
    pattern: Regex,
    is_secret: fn(&str) -> bool,
}

static SHAPES: LazyLock<Vec<Shape>> = LazyLock::new(|| {
    // A line break written as `\n` inside JSON is a boundary too, although a letter comes last.
    let starts = |secret: &str| pattern(&format!(r"(?:^|[^A-Za-z0-9]|\\[nrt])({secret})"));
    let follows = |word: &str, secret: &str| pattern(&format!("(?:^|[^A-Za-z0-9])(?:{word})({secret})"));
    let shape = |kind, pattern, is_secret| Shape { kind, pattern, is_secret };
    let always: fn(&str) -> bool = |_| true;
    vec![
        shape("api_key", starts(r"sk-(?:proj|ant|or|svcacct|admin|service)-[A-Za-z0-9_-]{6,}"), always),
        shape("api_key", starts(r"sk-[A-Za-z0-9_-]{16,}"), is_random),
        shape("api_key", starts(r"AIza[A-Za-z0-9_-]{20,}"), always),
        shape("api_key", starts(r"(?:gsk_|xai-|hf_)[A-Za-z0-9]{16,}"), always),
        shape("aws_key", starts(r"(?:AKIA|ASIA)[A-Z0-9]{12,}"), always),
        shape("github_token", starts(r"gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}"), always),
        shape("slack_token", starts(r"xox[a-z]-[A-Za-z0-9-]{8,}|xapp-[A-Za-z0-9-]{8,}"), always),
        shape("jwt", starts(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"), always),
        shape("url_password", pattern(r#"[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#:@"'<>]*:([^\s/?#"'<>]+)@"#), always),
        shape("authorization", follows(r"(?i:bearer)(?:[ \t]|%20|\+)+", r"[A-Za-z0-9._~+/=-]{8,}"), is_bearer),
        shape("authorization", follows(r"(?i:basic)[ \t]+", r"[A-Za-z0-9+/]{8,}={0,2}"), is_basic),
        shape(
            "secret",
            pattern(
                r#"(?:^|\s)--(?:[a-z0-9]+-)*(?:password|passwd|token|secret|api-?key|access-?key)[ \t]+([^\s"'-][^\s"']*)"#,
            ),
            is_given,
        ),
    ]
});

pub(super) fn find(text: &str, found: &mut Vec<Found>) {
    for shape in SHAPES.iter() {
        steps::count(text.len());
        let secrets = shape.pattern.captures_iter(text).filter_map(|captures| captures.get(1));
        found.extend(
            secrets
                .filter(|secret| (shape.is_secret)(secret.as_str()))
                .map(|secret| Found { range: secret.range(), kind: shape.kind }),
        );
    }
}

/// `sk-` and words with hyphens is a name, `sk-` and a run of letters and digits is a key.
fn is_random(text: &str) -> bool {
    let longest = text.split(['-', '_']).map(str::len).max().unwrap_or(0);
    longest >= 16
        || (text.bytes().any(|byte| byte.is_ascii_digit()) && text.bytes().any(|byte| byte.is_ascii_uppercase()))
}

/// "bearer certificates" is prose.
fn is_bearer(token: &str) -> bool {
    token.len() >= 20 || token.bytes().any(|byte| byte.is_ascii_digit())
}

/// "basic authentication" is prose.
fn is_basic(token: &str) -> bool {
    token.ends_with('=') || (token.len() >= 12 && token.bytes().any(|byte| byte.is_ascii_digit()))
}

/// `--token flag` is prose about an option.
fn is_given(text: &str) -> bool {
    text.len() >= 12 || text.bytes().any(|byte| byte.is_ascii_digit())
}
