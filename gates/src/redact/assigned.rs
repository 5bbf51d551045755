//! Secrets that are recognised by the name they are assigned to.
//!
//! Owns which names mean a secret, what counts as an assignment (`NAME=value`, `name: value`, `"name": "value"`, a
//! header, a query parameter), and where the value ends.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::{Found, MARKER, is_placeholder, pattern};

/// A name and the sign of an assignment behind it.
static ASSIGNMENT: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"(?P<name>[A-Za-z0-9_.-]+)(?:\\{0,3}["'`])?\]?[ \t]*(?P<sign>=>|:=|=|:|%3[dD])[ \t]*"#,
    )
});

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
    let plain: String = name
        .chars()
        .filter(|character| !matches!(character, '_' | '-'))
        .flat_map(char::to_lowercase)
        .collect();
    if HARMLESS.iter().any(|harmless| plain.ends_with(harmless)) {
        return false;
    }
    let is_key = name.len() > "_key".len()
        && (name.ends_with("_KEY") || name.ends_with("_key") || name.ends_with("_Key"));
    let is_pass = name.ends_with("_PASS") || name.to_ascii_lowercase().ends_with("_pwd");
    is_key || is_pass || SECRET_ENDINGS.iter().any(|ending| plain.ends_with(ending))
}

/// Whether a number under this name can be a secret: a password or a pin can, a count of tokens cannot.
pub(super) fn may_be_a_number(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    [
        "password",
        "passwd",
        "passphrase",
        "secret",
        "_pass",
        "_pwd",
    ]
    .iter()
    .any(|ending| lower.ends_with(ending))
}

pub(super) fn find(text: &str, found: &mut Vec<Found>) {
    for captures in AUTHORIZATION.captures_iter(text) {
        let Some(whole) = captures.get(0) else {
            continue;
        };
        if let Some(range) = credentials(
            text,
            whole.end(),
            captures.name("scheme").map(|scheme| scheme.as_str()),
        ) {
            found.push(Found {
                range,
                kind: "authorization",
            });
        }
    }
    let mut from = 0;
    while let Some(captures) = ASSIGNMENT.captures_at(text, from) {
        let (Some(whole), Some(name), Some(sign)) = (
            captures.get(0),
            captures.name("name"),
            captures.name("sign"),
        ) else {
            break;
        };
        // The next name may be what was taken for this one's value: `a: api_key=x`.
        from = whole.end();
        if !names_a_secret(name.as_str())
            || name
                .as_str()
                .to_ascii_lowercase()
                .ends_with("authorization")
        {
            continue;
        }
        let before = text
            .get(..name.start())
            .and_then(|before| before.chars().next_back());
        let assignment = Assignment {
            name: name.as_str(),
            is_colon: sign.as_str() == ":",
            is_query: matches!(before, Some('?' | '&')),
        };
        if let Some(range) = assignment.value(text, whole.end()) {
            from = range.end.max(whole.end());
            found.push(Found {
                range,
                kind: "secret",
            });
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
        let line = rest.get(..line_bytes(rest))?;
        let mut word = line
            .split(|character: char| {
                character.is_whitespace() || matches!(character, '"' | '\'' | '`' | '<')
            })
            .next()?;
        if self.is_query {
            word = word.split(['&', '#']).next()?;
        }
        if is_placeholder(word.trim_end_matches([',', ';', '.'])) {
            return None;
        }
        let is_marked = word.contains(MARKER);
        if !is_marked {
            word = word.trim_end_matches([',', ';', ')', '}', ']', '.', ':']);
        }
        let after = line.get(word.len()..).unwrap_or_default().trim_start();
        let is_number = word
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
        let is_harmless = word.is_empty()
            || matches!(word, "|" | ">" | "{" | "[")
            || (is_number && word.len() < 12 && !may_be_a_number(self.name))
            || (!is_marked && is_code(word, line));
        if is_harmless {
            return None;
        }
        let is_setting = !self.name.bytes().any(|byte| byte.is_ascii_lowercase());
        let has_digit = word.bytes().any(|byte| byte.is_ascii_digit());
        let stands_alone =
            after.is_empty() || after.starts_with([',', ';', ')', '}', ']', '#', '"', '\'', '\\']);
        let is_value = if self.is_colon {
            stands_alone && word.chars().count() >= 8
        } else {
            true
        };
        (is_setting || has_digit || is_value).then_some(word.len())
    }
}

/// The quote a value opens with: `"`, `'` or `` ` ``, with the backslashes before it where it stands inside a text.
fn quote(rest: &str) -> Option<&str> {
    let backslashes = rest.bytes().take_while(|byte| *byte == b'\\').count();
    let is_quote = rest
        .as_bytes()
        .get(backslashes)
        .is_some_and(|byte| matches!(byte, b'"' | b'\'' | b'`'));
    if is_quote {
        rest.get(..=backslashes)
    } else {
        None
    }
}

/// Where the quote closes again on the same line: a quote with as many backslashes as the opening one had. More of them
/// make it part of the value.
fn closing(inner: &str, quote: &str) -> Option<usize> {
    let own = quote.len() - 1;
    let line = inner.split(['\r', '\n']).next()?;
    let mut backslashes = 0_usize;
    for (at, byte) in line.bytes().enumerate() {
        if byte == b'\\' {
            backslashes += 1;
            continue;
        }
        let closes = if own == 0 {
            backslashes % 2 == 0
        } else {
            backslashes <= own
        };
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
fn is_code(word: &str, line: &str) -> bool {
    static CALL: LazyLock<Regex> = LazyLock::new(|| pattern(r"^&?[A-Za-z_][A-Za-z0-9_.:]*[(\[]"));
    static LOOK: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"^(?:self|this|config|settings|args|os|process|env|std|req|request|ctx|secrets|vars)(?:\.|::)[A-Za-z_.:]+$",
        )
    });
    (CALL.is_match(line) && line.contains([')', ']'])) || LOOK.is_match(word)
}

/// Where the credentials of an authorization header stand.
fn credentials(text: &str, start: usize, scheme: Option<&str>) -> Option<Range<usize>> {
    let rest = text.get(start..)?;
    let line = rest.get(..line_bytes(rest))?;
    let line = line.split(['"', '\'', '`']).next()?;
    let is_list = scheme.is_some_and(|scheme| {
        let scheme = scheme.to_ascii_lowercase();
        scheme.starts_with("digest") || scheme.starts_with("aws4")
    });
    if is_list {
        return Some(start..start + line.trim_end().len());
    }
    let word = line
        .split(|character: char| character.is_whitespace() || matches!(character, ',' | ';'))
        .next()?;
    let stands_alone = line
        .get(word.len()..)
        .is_some_and(|after| after.trim().is_empty());
    // Without a scheme it is a header only where one word is all there is.
    let is_value = scheme.is_some() || (stands_alone && word.len() >= 8);
    (is_value && !word.is_empty()).then(|| start..start + word.len())
}
