//! Secrets that are recognised by the name they are assigned to.
//!
//! Owns which names mean a secret, what counts as an assignment (`NAME=value`, `name: value`, `"name": "value"`, a
//! header, a query parameter), and where the value ends.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::{Found, MARKER, is_placeholder, pattern};

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
    let mut from = 0;
    while let Some(captures) = AUTHORIZATION.captures_at(text, from) {
        let Some(whole) = captures.get(0) else { break };
        from = whole.end();
        if let Some(range) = credentials(text, from, captures.name("scheme").map(|scheme| scheme.as_str())) {
            from = range.end;
            found.push(Found { range, kind: "authorization" });
        }
    }
    let mut from = 0;
    while let Some(captures) = ASSIGNMENT.captures_at(text, from) {
        let (Some(whole), Some(name), Some(sign)) = (captures.get(0), captures.name("name"), captures.name("sign"))
        else {
            break;
        };
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
        if let Some(range) = assignment.value(text, whole.end()) {
            from = range.end.max(whole.end());
            found.push(Found { range, kind: "secret" });
        }
    }
}

struct Assignment<'a> {
    name: &'a str,
    is_colon: bool,
    is_query: bool,
}

impl Assignment<'_> {
    /// Where the value stands, if it is worth hiding.
    fn value(&self, text: &str, start: usize) -> Option<Range<usize>> {
        let rest = text.get(start..)?;
        // `==` compares and `::` is a path.
        if rest.starts_with(['=', ':']) {
            return None;
        }
        match quote(rest) {
            Some(quote) => {
                let inner = rest.get(quote.len()..)?;
                let end = closing(inner, quote).unwrap_or_else(|| line_bytes(inner));
                let from = start + quote.len();
                Some(from..from + end)
            }
            None => self.bare(rest).map(|bytes| start..start + bytes),
        }
    }

    /// How long a value without quotes is. Names in capitals are settings and always count; for others, prose and code
    /// are let go.
    fn bare(&self, rest: &str) -> Option<usize> {
        let line = front(rest);
        // Code is let go before the whole word is looked at, so that no word is looked at twice.
        if !line.contains(MARKER) && is_code(line) {
            return None;
        }
        let mut word = rest.get(..WORD_END.find(rest).map_or(rest.len(), |end| end.start()))?;
        if self.is_query {
            word = word.split(['&', '#']).next()?;
        }
        if is_placeholder(word.trim_end_matches([',', ';', '.'])) {
            return None;
        }
        if !word.contains(MARKER) {
            word = word.trim_end_matches([',', ';', ')', '}', ']', '.', ':']);
        }
        let is_number = word.len() < 12 && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let is_harmless = word.is_empty() || matches!(word, "|" | ">" | "{" | "[");
        if is_harmless || (is_number && !may_be_a_number(self.name)) {
            return None;
        }
        let is_setting = !self.name.bytes().any(|byte| byte.is_ascii_lowercase());
        let has_digit = word.bytes().any(|byte| byte.is_ascii_digit());
        let is_value = !self.is_colon || (word.chars().nth(7).is_some() && stands_alone(rest.get(word.len()..)?));
        (is_setting || has_digit || is_value).then_some(word.len())
    }
}

/// Where a value without quotes ends: at white space, a quote or a tag, also where these are written with a backslash.
static WORD_END: LazyLock<Regex> = LazyLock::new(|| pattern(r#"[\s"'`<]|\\+[nrt"']"#));

/// The first part of what is left of a line. What follows a value is judged by it alone, so that a long line does not
/// cost its length again for every name in it.
fn front(rest: &str) -> &str {
    /// 256 bytes.
    const FRONT_BYTES_MAX: usize = 256;
    let front = rest.get(..rest.floor_char_boundary(FRONT_BYTES_MAX)).unwrap_or_default();
    front.get(..line_bytes(front)).unwrap_or_default()
}

/// Whether a value is followed by the end of its line or by punctuation, and not by more words.
fn stands_alone(after: &str) -> bool {
    let after = front(after).trim_start();
    after.is_empty() || after.starts_with([',', ';', ')', '}', ']', '#', '"', '\'', '`', '\\'])
}

/// The quote a value opens with: `"`, `'` or `` ` ``, with the backslashes before it where it stands inside a text.
fn quote(rest: &str) -> Option<&str> {
    let backslashes = rest.bytes().take_while(|byte| *byte == b'\\').count();
    let is_quote = rest.as_bytes().get(backslashes).is_some_and(|byte| matches!(byte, b'"' | b'\'' | b'`'));
    if is_quote { rest.get(..=backslashes) } else { None }
}

/// Where the quote closes again on the same line: a quote with as many backslashes as the opening one had. More of them
/// make it part of the value.
fn closing(inner: &str, quote: &str) -> Option<usize> {
    let own = quote.len() - 1;
    let mut backslashes = 0_usize;
    for (at, byte) in inner.bytes().take_while(|byte| !matches!(byte, b'\r' | b'\n')).enumerate() {
        if byte == b'\\' {
            backslashes += 1;
            continue;
        }
        let closes = if own == 0 { backslashes.is_multiple_of(2) } else { backslashes <= own };
        if quote.bytes().next_back() == Some(byte) && closes {
            return Some(at - backslashes.min(own));
        }
        backslashes = 0;
    }
    None
}

/// Bytes up to the end of the line, also one that is written as `\n`, and up to an escaped quote.
fn line_bytes(rest: &str) -> usize {
    static LINE_END: LazyLock<Regex> = LazyLock::new(|| pattern(r#"[\r\n]|\\+[nrt"']"#));
    LINE_END.find(rest).map_or(rest.len(), |end| end.start())
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
fn credentials(text: &str, start: usize, scheme: Option<&str>) -> Option<Range<usize>> {
    static LIST_END: LazyLock<Regex> = LazyLock::new(|| pattern(r#"[\r\n"'`]|\\+[nrt"']"#));
    let rest = text.get(start..)?;
    let is_list = scheme.is_some_and(|scheme| {
        let scheme = scheme.to_ascii_lowercase();
        scheme.starts_with("digest") || scheme.starts_with("aws4")
    });
    let end = if is_list { LIST_END.find(rest) } else { WORD_END.find(rest) };
    let value = rest.get(..end.map_or(rest.len(), |end| end.start()))?.trim_end_matches([' ', '\t', ',', ';']);
    // Without a scheme it is a header only where one word is all there is.
    let is_value = scheme.is_some() || (value.len() >= 8 && stands_alone(rest.get(value.len()..)?));
    (is_value && !value.is_empty()).then(|| start..start + value.len())
}
