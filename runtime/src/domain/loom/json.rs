//! An entry as JSON, for people and programs outside.

use serde_json::Value;

use super::entry::{Body, Payload};
use crate::domain::json;

/// The fields whose text is JSON: as values they keep their types, and secrets in them are seen for what they are.
const JSON_FIELDS: [&str; 4] = ["arguments", "ok", "proposal", "result"];

/// What an entry says, with large texts put in where they are at hand.
///
/// # Errors
/// A value that JSON cannot hold, or what `text_of` fails with.
pub fn body_json<E: From<serde_json::Error>>(
    body: &Body,
    text_of: &dyn Fn(&Payload) -> Result<Option<String>, E>,
) -> Result<Value, E> {
    let mut value = serde_json::to_value(body)?;
    inline("", &mut value, text_of)?;
    Ok(value)
}

/// Puts texts where their references are.
fn inline<E>(field: &str, value: &mut Value, text_of: &dyn Fn(&Payload) -> Result<Option<String>, E>) -> Result<(), E> {
    if let Ok(payload) = serde_json::from_value::<Payload>(value.clone()) {
        if let Some(text) = text_of(&payload)? {
            let parsed = JSON_FIELDS.contains(&field).then(|| json::parse(&text).ok()).flatten();
            *value = parsed.unwrap_or(Value::String(text));
        }
        return Ok(());
    }
    match value {
        Value::Object(map) => map.iter_mut().try_for_each(|(field, inner)| inline(field, inner, text_of)),
        Value::Array(items) => items.iter_mut().try_for_each(|inner| inline(field, inner, text_of)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}
