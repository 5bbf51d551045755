//! When a value is what was expected: `not_null` and `greater_than(0)` are words with a meaning, and a number is a number
//! however it is written.

use serde_json::Value;

/// Whether the value is what was expected.
pub(super) fn matches(expected: &Value, actual: &Value) -> bool {
    if let Value::String(word) = expected {
        if word == "not_null" {
            return !actual.is_null();
        }
        if let Some(bound) = word.strip_prefix("greater_than(").and_then(|rest| rest.strip_suffix(')')) {
            return match (bound.trim().parse::<f64>(), actual.as_f64()) {
                (Ok(bound), Some(actual)) => actual > bound,
                _ => false,
            };
        }
    }
    same(expected, actual)
}

/// Whether two values are the same.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (Value::Array(ones), Value::Array(others)) => ones.len() == others.len() && ones.iter().zip(others).all(|(one, other)| same(one, other)),
        (Value::Object(ones), Value::Object(others)) => {
            ones.len() == others.len() && ones.iter().all(|(key, one)| others.get(key).is_some_and(|other| same(one, other)))
        }
        (one, other) => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn words_have_a_meaning_and_numbers_have_no_spelling() {
        for (expected, actual, outcome) in [
            (json!("not_null"), json!(0), true),
            (json!("not_null"), json!(null), false),
            (json!("greater_than(0)"), json!(0.004), true),
            (json!("greater_than(0)"), json!(0), false),
            (json!("greater_than(0)"), json!("1"), false),
            (json!(42), json!(42.0), true),
            (json!({"a": [1]}), json!({"a": [1.0]}), true),
            (json!({"a": [1]}), json!({"a": [1], "b": 2}), false),
            (json!(null), json!("null"), false),
        ] {
            assert_eq!(matches(&expected, &actual), outcome, "{expected} against {actual}");
        }
    }
}
