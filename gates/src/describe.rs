//! How a JSON value is named in an error message.
//!
//! Owns the wording and the bound on how much of a value is quoted back: an error never repeats a whole argument.

use std::borrow::Cow;

use serde_json::Value;

use crate::limits::{NAMED_CHARS_MAX, NAMES_LISTED_MAX, QUOTED_CHARS_MAX};

/// The value's type, and the value itself where it is short.
pub(crate) fn described(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => format!("the boolean {flag}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the string {}", quoted(text)),
        Value::Array(items) => format!("an array of {}", items.len()),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// The text in quotes, escaped, and cut if it is long.
pub(crate) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    let dots = if shown.len() < text.len() { "…" } else { "" };
    format!("\"{}{dots}\"", shown.escape_debug())
}

/// A name inside of a message, cut if it is long.
pub(crate) fn named(name: &str) -> Cow<'_, str> {
    match name.char_indices().nth(NAMED_CHARS_MAX) {
        None => Cow::Borrowed(name),
        Some((end, _)) => Cow::Owned(format!("{}…", name.get(..end).unwrap_or_default())),
    }
}

/// Names with commas between, as many as a person reads.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let mut shown: Vec<_> = names.by_ref().take(NAMES_LISTED_MAX).map(named).collect();
    if names.next().is_some() {
        shown.push(Cow::Borrowed("…"));
    }
    shown.join(", ")
}

/// A number that is whole and not negative, also when a script spelled it `10.0`.
pub(crate) fn whole_number(value: &Value) -> Option<u64> {
    /// 2^53. Beyond it a float no longer tells neighbouring whole numbers apart.
    const WHOLE_LARGEST: f64 = 9_007_199_254_740_992.0;
    let from_float = |float: f64| {
        let fits = float.fract() == 0.0 && (0.0..=WHOLE_LARGEST).contains(&float);
        // A whole float prints as a whole number, so the text is the conversion without a cast.
        fits.then(|| format!("{float:.0}").parse().ok()).flatten()
    };
    value.as_u64().or_else(|| value.as_f64().and_then(from_float))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_named_by_type_and_cut() {
        assert_eq!(described(&json!(5)), "the number 5");
        assert_eq!(described(&json!([1, 2])), "an array of 2");
        assert_eq!(described(&json!("a\u{202e}b")), "the string \"a\\u{202e}b\"");
        assert!(described(&json!("é".repeat(10_000))).chars().count() < 70);
    }

    #[test]
    fn whole_numbers_in_either_spelling() {
        assert_eq!(whole_number(&json!(10)), Some(10));
        assert_eq!(whole_number(&json!(10.0)), Some(10));
        assert_eq!(whole_number(&json!(0.0)), Some(0));
        assert_eq!(whole_number(&json!(u64::MAX)), Some(u64::MAX));
        for value in [json!(-1), json!(1.5), json!(1e300), json!("1"), json!(null)] {
            assert_eq!(whole_number(&value), None, "{value}");
        }
    }
}
