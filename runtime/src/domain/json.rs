//! JSON that somebody else wrote: counted while it is parsed.
//!
//! A value takes twenty times and more of what its text takes (`[{},{},…]`), so a bound on the bytes of a text alone would not bound
//! the memory. Every text of a guest, a model, a peer or a record becomes a value through here and nowhere else.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use thiserror::Error;

use super::limits::{JSON_DEPTH_MAX, JSON_VALUES_MAX};

/// Why a text is not taken as JSON.
#[derive(Debug, Error)]
pub enum JsonError {
    /// It is not JSON.
    #[error(transparent)]
    Syntax(#[from] serde_json::Error),
    /// It has too many values.
    #[error("it has more than {JSON_VALUES_MAX} values, and no more are taken")]
    Values,
    /// It is nested too deeply.
    #[error("it is nested more than {JSON_DEPTH_MAX} deep, and no deeper value is taken")]
    Depth,
}

/// Parses a text as one JSON value.
///
/// # Errors
/// A text that is no JSON, with more than [`JSON_VALUES_MAX`] values, or more than [`JSON_DEPTH_MAX`] deep.
pub fn parse(text: &str) -> Result<Value, JsonError> {
    run(&mut serde_json::Deserializer::from_str(text))
}

/// Parses bytes as one JSON value.
///
/// # Errors
/// As [`parse`].
pub fn parse_bytes(bytes: &[u8]) -> Result<Value, JsonError> {
    run(&mut serde_json::Deserializer::from_slice(bytes))
}

fn run<'de, R: serde_json::de::Read<'de>>(json: &mut serde_json::Deserializer<R>) -> Result<Value, JsonError> {
    let left = Cell::new(Some(JSON_VALUES_MAX));
    let parsed = Counted(&left).deserialize(&mut *json).and_then(|value| {
        json.end()?;
        Ok(value)
    });
    parsed.map_err(|error| match left.get() {
        None => JsonError::Values,
        // serde_json bounds the depth by itself, and says so in words only.
        Some(_) if error.to_string().starts_with("recursion limit") => JsonError::Depth,
        Some(_) => JsonError::Syntax(error),
    })
}

/// Checks a value that did not come as a text, such as what an embedder's gate returns, against the same bounds.
///
/// # Errors
/// Too many values, or too deep.
pub fn check(value: &Value) -> Result<(), JsonError> {
    let mut left = JSON_VALUES_MAX;
    let mut open = vec![(value, 0)];
    while let Some((value, depth)) = open.pop() {
        left = left.checked_sub(1).ok_or(JsonError::Values)?;
        if depth > JSON_DEPTH_MAX {
            return Err(JsonError::Depth);
        }
        match value {
            Value::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(map) => open.extend(map.values().map(|item| (item, depth + 1))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    Ok(())
}

/// Parses one value, and those in it. What is counted down is how many may still come; nothing, once one too many came.
#[derive(Clone, Copy)]
struct Counted<'a>(&'a Cell<Option<u64>>);

impl<'de> DeserializeSeed<'de> for Counted<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        crate::domain::steps::count(1);
        let left = self.0.get().and_then(|left| left.checked_sub(1));
        self.0.set(left);
        if left.is_none() {
            return Err(D::Error::custom("too many values"));
        }
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Counted<'_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = items.next_key::<String>()? {
            let value = items.next_value_seed(self)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::steps;

    #[test]
    fn json_is_counted_while_it_is_parsed() {
        let many = |count: u64| format!("[{}]", vec!["{}"; usize::try_from(count).unwrap_or(0)].join(","));
        assert!(parse(&many(JSON_VALUES_MAX - 1)).is_ok());
        assert!(matches!(parse(&many(JSON_VALUES_MAX)), Err(JsonError::Values)));
        let native = |count: u64| Value::from(vec![0; usize::try_from(count).unwrap_or(0)]);
        assert!(check(&native(JSON_VALUES_MAX - 1)).is_ok());
        assert!(matches!(check(&native(JSON_VALUES_MAX)), Err(JsonError::Values)));
        let counted = steps::of(|| drop(parse(&many(JSON_VALUES_MAX * 20))));
        assert!(counted <= JSON_VALUES_MAX + 1, "what is too much is not read to its end: {counted}");
    }

    #[test]
    fn json_that_is_nested_deeply_is_refused_and_not_recursed_into() {
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(&deep(JSON_DEPTH_MAX)).is_ok_and(|value| check(&value).is_ok()));
        for depth in [JSON_DEPTH_MAX + 1, 100_000] {
            assert!(matches!(parse(&deep(depth)), Err(JsonError::Depth)));
            let objects = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
            assert!(matches!(parse(&objects), Err(JsonError::Depth)));
        }
    }

    #[test]
    fn twice_the_json_takes_twice_the_steps() {
        let text = |count: usize| format!("[{}]", vec!["{\"a\":[1,2]}"; count].join(","));
        let (once, twice) = (steps::of(|| drop(parse(&text(1_000)))), steps::of(|| drop(parse(&text(2_000)))));
        assert!(once > 0 && twice * 2 <= once * 5, "{once} and {twice}");
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::vec((".{0,4}", inner), 0..6)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_is_what_serde_json_would_read(value in values()) {
            let text = value.to_string();
            prop_assert_eq!(parse(&text).ok(), serde_json::from_str::<Value>(&text).ok());
            prop_assert_eq!(parse_bytes(text.as_bytes()).ok(), serde_json::from_str::<Value>(&text).ok());
        }
    }
}
