//! An entry as JSON, for people and programs outside.

use std::convert::Infallible;

use ipld_core::ipld::Ipld;
use serde_json::{Map, Number, Value};
use thiserror::Error;

use super::body::Body;
use super::entry::Entry;
use super::text::Payload;
use crate::domain::ids::{BlobId, hex};
use crate::domain::json;

/// The fields whose text is JSON: as values they keep their types, and secrets in them are seen for what they are.
const JSON_FIELDS: [&str; 6] = ["arguments", "ceiling", "ok", "proposal", "result", "thinking_blocks"];

/// A body that has no form as data.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct NoJson(String);

/// What an entry says, with large texts put in where they are at hand. Bytes are hexadecimal, ids are as they are printed.
///
/// # Errors
/// A value that has no form as data, or what `text_of` fails with.
pub fn body_json<E: From<NoJson>>(
    entry: &Entry,
    text_of: &dyn Fn(&Payload) -> Result<Option<String>, E>,
) -> Result<Value, E> {
    let body = &entry.body;
    if let Body::Unknown(unknown) = body {
        return value("", unknown.value.clone(), &Value::Null, text_of);
    }
    let mut ipld = ipld_core::serde::to_ipld(body).map_err(|error| NoJson(error.to_string()))?;
    entry.others.put_into_body(&mut ipld).map_err(|error| NoJson(error.to_string()))?;
    // Only for the order of the fields, which a person reads more easily than the alphabet's.
    let order = serde_json::to_value(body).map_err(|error| NoJson(error.to_string()))?;
    value("", ipld, &order, text_of)
}

/// A value that nothing is known of, as JSON.
pub fn plain_json(ipld: &Ipld) -> Value {
    value("", ipld.clone(), &Value::Null, &|_| Ok::<_, Infallible>(None)).unwrap_or_else(|never| match never {})
}

/// A value, with texts where their references are.
fn value<E>(
    field: &str,
    ipld: Ipld,
    order: &Value,
    text_of: &dyn Fn(&Payload) -> Result<Option<String>, E>,
) -> Result<Value, E> {
    if let Some(payload) = payload(&ipld)
        && let Some(text) = text_of(&payload)?
    {
        let parsed = JSON_FIELDS.contains(&field).then(|| json::parse(&text).ok()).flatten();
        return Ok(parsed.unwrap_or(Value::String(text)));
    }
    Ok(match ipld {
        Ipld::Null => Value::Null,
        Ipld::Bool(flag) => Value::Bool(flag),
        Ipld::Integer(number) => Number::from_i128(number).map_or(Value::Null, Value::Number),
        Ipld::Float(number) => Number::from_f64(number).map_or(Value::Null, Value::Number),
        Ipld::String(text) => Value::String(text),
        Ipld::Bytes(bytes) => Value::String(hex(&bytes)),
        Ipld::Link(link) => Value::String(link.to_string()),
        Ipld::List(items) => {
            let at = |index: usize| order.get(index).unwrap_or(&Value::Null);
            let items = items.into_iter().enumerate().map(|(index, item)| value(field, item, at(index), text_of));
            Value::Array(items.collect::<Result<_, E>>()?)
        }
        Ipld::Map(mut map) => {
            let mut object = Map::new();
            for (key, order) in order.as_object().into_iter().flatten() {
                if let Some(inner) = map.remove(key) {
                    object.insert(key.clone(), value(key, inner, order, text_of)?);
                }
            }
            for (key, inner) in map {
                let inner = value(&key, inner, &Value::Null, text_of)?;
                object.insert(key, inner);
            }
            Value::Object(object)
        }
    })
}

/// The text that a value stands for.
fn payload(ipld: &Ipld) -> Option<Payload> {
    let Ipld::Map(map) = ipld else { return None };
    match (map.len(), map.iter().next()?) {
        (1, (key, Ipld::String(text))) if key == "text" => Some(Payload::Inline(text.clone())),
        (1, (key, Ipld::Map(blob))) if key == "blob" => match (blob.len(), blob.get("id"), blob.get("bytes")) {
            (2, Some(Ipld::Link(link)), Some(Ipld::Integer(bytes))) => {
                let (id, bytes) = (link.to_string().parse::<BlobId>().ok()?, u64::try_from(*bytes).ok()?);
                Some(Payload::Blob { id, bytes })
            }
            _ => None,
        },
        _ => None,
    }
}
