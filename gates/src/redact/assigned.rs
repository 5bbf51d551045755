//! Secrets that are recognised by the name they are assigned to.
//!
//! Owns which names mean a secret, what counts as an assignment (`NAME=value`, `name: value`, `"name": "value"`, a
//! header, a query parameter), and where the value ends.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::scan::{Ending, Scan, front};
use super::{Found, MARKER, is_placeholder, pattern};
use crate::limits::PLACEHOLDER_BYTES_MAX;
use crate::steps;

/// A name and the sign of an assignment behind it.
static ASSIGNMENT: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"(?P<name>[A-Za-z0-9_.-]+)(?:\\{0,3}["'`])?\]?[ \t]*(?P<sign>=>|:=|=|:|%3[dD])[ \t]*"#));

static AUTHORIZATION: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"(?i)authorization\\{0,3}["'`]?\]?[ \t]*(?:=>|[:=,])[ \t]*\\{0,3}["'`]?(?P<scheme>(?:bearer|basic|token|apikey|digest|negotiate|aws4-hmac-sha256)(?:[ \t]|%20)+)?"#,
    )
});

/// Endings that make any name a secret's, in lower case and without `-` and `_`.
const SECRET_ENDINGS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "credentials",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "authkey",
    "signingkey",
    "encryptionkey",
    "accountkey",
    "masterkey",
    "authorization",
];

/// What stands before `key` or `token` where neither is a secret.
const HARMLESS: &[&str] = &[
    "publickey",
    "primarykey",
    "foreignkey",
    "sortkey",
    "partitionkey",
    "cachekey",
    "rowkey",
    "hashkey",
    "rangekey",
    "groupkey",
    "idempotencykey",
    "maxtoken",
    "mintoken",
    "numtoken",
    "eostoken",
    "bostoken",
    "padtoken",
    "unktoken",
    "septoken",
    "clstoken",
    "masktoken",
    "stoptoken",
    "pertoken",
    "inputtoken",
    "outputtoken",
];

/// Whether a name says that its value is a secret.
pub(super) fn names_a_secret(name: &str) -> bool {
    let plain: String =
        name.chars().filter(|character| !matches!(character, '_' | '-')).flat_map(char::to_lowercase).collect();
    if HARMLESS.iter().any(|harmless| plain.ends_with(harmless)) {
        return false;
    }
    let is_key =
        name.len() > "_key".len() && (name.ends_with("_KEY") || name.ends_with("_key") || name.ends_with("_Key"));
    let is_pass = name.ends_with("_PASS") || name.to_ascii_lowercase().ends_with("_pwd");
    is_key || is_pass || SECRET_ENDINGS.iter().any(|ending| plain.ends_with(ending))
}

/// Whether a number under this name can be a secret: a password or a pin can, a count of tokens cannot.
pub(super) fn may_be_a_number(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    ["password", "passwd", "passphrase", "secret", "_pass", "_pwd"].iter().any(|ending| lower.ends_with(ending))
}

pub(super) fn find(text: &str, found: &mut Vec<Found>) {
    find_authorizations(text, found);
    let mut scan = Scan::new(text);
    let mut from = 0;
    while let Some(captures) = ASSIGNMENT.captures_at(text, from) {
        let (Some(whole), Some(name), Some(sign)) = (captures.get(0), captures.name("name"), captures.name("sign"))
        else {
            break;
        };
        steps::count(whole.end().saturating_sub(from) + 1);
        // The next name may be what was taken for this one's value: `a: api_key=x`.
        from = whole.end();
        if !names_a_secret(name.as_str()) || name.as_str().to_ascii_lowercase().ends_with("authorization") {
            continue;
        }
        let before = text.get(..name.start()).and_then(|before| before.chars().next_back());
        let assignment = Assignment {
            name: name.as_str(),
            is_colon: sign.as_str() == ":",
            is_query: matches!(before, Some('?' | '&')),
        };
        if let Some(range) = assignment.value(&mut scan, text, whole.end()) {
            from = range.end.max(whole.end());
            found.push(Found { range, kind: "secret" });
        }
    }
    steps::count(text.len().saturating_sub(from));
}

fn find_authorizations(text: &str, found: &mut Vec<Found>) {
    let mut scan = Scan::new(text);
    let mut from = 0;
    while let Some(captures) = AUTHORIZATION.captures_at(text, from) {
        let Some(whole) = captures.get(0) else { break };
        steps::count(whole.end().saturating_sub(from) + 1);
        from = whole.end();
        let scheme = captures.name("scheme").map(|scheme| scheme.as_str());
        if let Some(range) = credentials(&mut scan, text, from, scheme) {
            from = range.end;
            found.push(Found { range, kind: "authorization" });
        }
    }
    steps::count(text.len().saturating_sub(from));
}

struct Assignment<'a> {
    name: &'a str,
    is_colon: bool,
    is_query: bool,
}

impl Assignment<'_> {
    /// Where the value stands, if it is worth hiding.
    fn value(&self, scan: &mut Scan<'_>, text: &str, start: usize) -> Option<Range<usize>> {
        let rest = text.get(start..)?;
        // `==` compares and `::` is a path.
        if rest.starts_with(['=', ':']) {
            return None;
        }
        let Some((quote, backslashes)) = quote(rest) else {
            return self.bare(scan, text, start).map(|end| start..end);
        };
        let from = start + backslashes + 1;
        let end = scan.closing(from, quote, backslashes).unwrap_or_else(|| scan.line_end(from));
        Some(from..end)
    }

    /// Where a value without quotes ends. Names in capitals are settings and always count; for others, prose and code
    /// are let go.
    fn bare(&self, scan: &mut Scan<'_>, text: &str, start: usize) -> Option<usize> {
        // Code is let go before the whole word is looked at.
        let line = front(text, start);
        if !line.contains(MARKER) && is_code(line) {
            return None;
        }
        let word = scan.word(start, if self.is_query { Ending::Parameter } else { Ending::Word });
        let value = text.get(start..word.end)?;
        let whole = text.get(start..word.whole_end)?;
        let is_blank = whole.len() <= PLACEHOLDER_BYTES_MAX && is_placeholder(whole.trim_end_matches([',', ';', '.']));
        if !word.has_own || is_blank || matches!(value, "|" | ">" | "{" | "[") {
            return None;
        }
        let is_number = value.len() < 12 && value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if is_number && !may_be_a_number(self.name) {
            return None;
        }
        let is_setting = !self.name.bytes().any(|byte| byte.is_ascii_lowercase());
        let is_value = !self.is_colon || (value.chars().nth(7).is_some() && word.stands_alone);
        (is_setting || word.has_digit || is_value).then_some(word.end)
    }
}

/// The quote a value opens with, `"`, `'` or `` ` ``, and how many backslashes are before it where it stands inside a
/// text.
fn quote(rest: &str) -> Option<(u8, usize)> {
    let backslashes = rest.bytes().take_while(|byte| *byte == b'\\').count();
    steps::count(backslashes);
    let quote = rest.as_bytes().get(backslashes).filter(|byte| matches!(byte, b'"' | b'\'' | b'`'))?;
    Some((*quote, backslashes))
}

/// A call, or a look at something that holds a secret, is not the secret.
fn is_code(line: &str) -> bool {
    static CALL: LazyLock<Regex> = LazyLock::new(|| pattern(r"^&?[A-Za-z_][A-Za-z0-9_.:]*[(\[]"));
    static LOOK: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"^(?:self|this|config|settings|args|os|process|env|std|req|request|ctx|secrets|vars)(?:\.|::)[A-Za-z_.:]+(?:[\s,;)}\]]|$)",
        )
    });
    (CALL.is_match(line) && line.contains([')', ']'])) || LOOK.is_match(line)
}

/// Where the credentials of an authorization header stand.
fn credentials(scan: &mut Scan<'_>, text: &str, start: usize, scheme: Option<&str>) -> Option<Range<usize>> {
    let is_list = scheme.is_some_and(|scheme| {
        let scheme = scheme.to_ascii_lowercase();
        scheme.starts_with("digest") || scheme.starts_with("aws4")
    });
    if is_list {
        let end = scan.list_end(start);
        let value = text.get(start..end)?.trim_end_matches([' ', '\t', ',', ';']);
        return (!value.is_empty()).then(|| start..start + value.len());
    }
    if scheme.is_some() {
        let end = scan.word_end(start);
        let value = text.get(start..end)?.trim_end_matches([',', ';']);
        return (!value.is_empty()).then(|| start..start + value.len());
    }
    // Without a scheme it is a header only where one word is all there is.
    let word = scan.word(start, Ending::Word);
    (word.end >= start + 8 && word.has_own && word.stands_alone).then_some(start..word.end)
}
