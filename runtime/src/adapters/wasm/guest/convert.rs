//! Between the types of the WIT and the JSON of gates. What the host's own gates return is read as carefully as anything:
//! an embedder may have put another gate under a built-in's name.

use cantrip_gates::GateError;
use serde_json::{Map, Value, json};

use super::bindings::cantrip::guest as wit;
use wit::types::Error;

/// A gate's failure, as the guest is told.
pub(super) fn error(error: GateError) -> Error {
    match error {
        GateError::Denied(message) => Error::Denied(message),
        GateError::Invalid(message) => Error::Invalid(message),
        GateError::NotFound(message) => Error::NotFound(message),
        GateError::Exhausted(message) => Error::Exhausted(message),
        GateError::Failed(message) => Error::Failed(message),
        GateError::TimedOut(message) => Error::TimedOut(message),
        // The interface has no word of its own for these, and guests that were built against it must go on.
        GateError::Unknown(message) => Error::Failed(format!("unknown: {message}")),
        GateError::Unanswered(message) => Error::Denied(format!("unanswered: {message}")),
        GateError::Truncated(known) => Error::Failed(format!("truncated by {}: {}", known.reason, known.message)),
    }
}

/// A guest's failure: its kind and its message.
pub(super) fn failure(error: Error) -> (&'static str, String) {
    match error {
        Error::Denied(message) => ("denied", message),
        Error::Invalid(message) => ("invalid", message),
        Error::NotFound(message) => ("not_found", message),
        Error::Exhausted(message) => ("exhausted", message),
        Error::Failed(message) => ("failed", message),
        Error::TimedOut(message) => ("timed_out", message),
    }
}

/// JSON that a guest wrote.
pub(super) fn json_of(what: &str, text: &str) -> Result<Value, Error> {
    crate::domain::json::parse(text).map_err(|error| Error::Invalid(format!("{what} is not JSON: {error}")))
}

fn unexpected(gate: &str, what: &str) -> Error {
    Error::Failed(format!("{gate}: the gate returned something else than {what}; call it through `gates`"))
}

fn text(gate: &str, value: &Value, key: &str) -> Result<String, Error> {
    value
        .get(key)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| unexpected(gate, &format!("an object with the text `{key}`")))
}

fn number(gate: &str, value: &Value, key: &str) -> Result<u64, Error> {
    let missing = || unexpected(gate, &format!("an object with the number `{key}`"));
    value.get(key).and_then(Value::as_u64).ok_or_else(missing)
}

fn items<'a>(gate: &str, value: &'a Value) -> Result<&'a Vec<Value>, Error> {
    value.as_array().ok_or_else(|| unexpected(gate, "a list"))
}

/// Arguments by name, without those that were left out.
pub(super) fn named<const N: usize>(pairs: [(&str, Option<Value>); N]) -> Value {
    let given = pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(given.collect::<Map<_, _>>())
}

pub(super) fn string(gate: &str, value: Value) -> Result<String, Error> {
    match value {
        Value::String(text) => Ok(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(unexpected(gate, "text"))
        }
    }
}

pub(super) fn listing(gate: &str, value: &Value) -> Result<Vec<wit::list_dir::Entry>, Error> {
    let entry = |value: &Value| {
        Ok(wit::list_dir::Entry {
            name: text(gate, value, "name")?,
            kind: match text(gate, value, "kind")?.as_str() {
                "file" => wit::list_dir::Kind::File,
                "directory" => wit::list_dir::Kind::Directory,
                "symlink" => wit::list_dir::Kind::Symlink,
                _ => wit::list_dir::Kind::Other,
            },
            bytes: value.get("bytes").and_then(Value::as_u64),
        })
    };
    items(gate, value)?.iter().map(entry).collect()
}

/// The gate stops at `most` and does not say so.
pub(super) fn found(gate: &str, value: &Value, most: u64) -> Result<wit::search::Found, Error> {
    let hit = |value: &Value| {
        Ok(wit::search::Hit {
            path: text(gate, value, "path")?,
            line: number(gate, value, "line")?,
            text: text(gate, value, "text")?,
        })
    };
    let hits: Vec<_> = items(gate, value)?.iter().map(hit).collect::<Result<_, Error>>()?;
    Ok(wit::search::Found { truncated: hits.len() as u64 >= most, hits })
}

pub(super) fn written(gate: &str, value: &Value) -> Result<u64, Error> {
    number(gate, value, "bytes")
}

pub(super) fn request(request: wit::http_fetch::Request) -> Value {
    let headers = (!request.headers.is_empty()).then(|| {
        Value::Object(request.headers.into_iter().map(|(name, value)| (name, Value::String(value))).collect())
    });
    named([
        ("url", Some(request.url.into())),
        ("method", request.method.map(Value::String)),
        ("headers", headers),
        ("body", request.body.map(Value::String)),
    ])
}

pub(super) fn response(gate: &str, value: &Value) -> Result<wit::http_fetch::Response, Error> {
    let headers = match value.get("headers") {
        Some(Value::Object(map)) => {
            map.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
        }
        _ => Vec::new(),
    };
    Ok(wit::http_fetch::Response {
        status: u16::try_from(number(gate, value, "status")?).map_err(|_| unexpected(gate, "an HTTP status"))?,
        headers,
        body: text(gate, value, "body")?,
        url: text(gate, value, "url")?,
        truncated: value.get("truncated").and_then(Value::as_bool).unwrap_or(false),
    })
}

fn strings(list: Vec<String>) -> Value {
    Value::Array(list.into_iter().map(Value::String).collect())
}

pub(super) fn child(child: wit::call_entity::Child) -> Result<Value, Error> {
    Ok(named([
        ("intent", Some(child.intent.into())),
        ("system_prompt", child.system_prompt.map(Value::String)),
        ("context", child.context.map(|context| json_of("the child's context", &context)).transpose()?),
        ("llm", child.llm.map(Value::String)),
        ("medium", child.medium.map(Value::String)),
        ("gates", child.gates.map(strings)),
        ("wards", child.wards.map(|wards| json_of("the child's wards", &wards)).transpose()?),
    ]))
}

pub(super) fn proposal(proposal: wit::cast::Proposal) -> Result<Value, Error> {
    Ok(named([
        ("system_prompt", proposal.system_prompt.map(Value::String)),
        ("llm", proposal.llm.map(Value::String)),
        ("medium", proposal.medium.map(Value::String)),
        ("gates", proposal.gates.map(strings)),
        ("wards", proposal.wards.map(|wards| json_of("the child's wards", &wards)).transpose()?),
    ]))
}

/// The answers of a batch: a failed child is an object with `error` and `kind`.
pub(super) fn batch(gate: &str, value: &Value) -> Result<Vec<Result<String, Error>>, Error> {
    let answer = |value: &Value| match (value.get("error").and_then(Value::as_str), value.get("kind")) {
        (Some(message), Some(kind)) if value.as_object().is_some_and(|map| map.len() == 2) => {
            let message = message.to_owned();
            Err(match kind.as_str().unwrap_or_default() {
                "denied" => Error::Denied(message),
                "invalid" => Error::Invalid(message),
                "not_found" => Error::NotFound(message),
                "exhausted" => Error::Exhausted(message),
                "timed_out" => Error::TimedOut(message),
                "unknown" => Error::Failed(format!("unknown: {message}")),
                "unanswered" => Error::Denied(format!("unanswered: {message}")),
                _ => Error::Failed(message),
            })
        }
        _ => Ok(value.to_string()),
    };
    Ok(items(gate, value)?.iter().map(answer).collect())
}

pub(super) fn question(question: wit::llm::Question) -> Value {
    named([
        ("prompt", Some(question.prompt.into())),
        ("system", question.system.map(Value::String)),
        ("temperature", question.temperature.map(|temperature| json!(temperature))),
        ("max_output_tokens", question.max_output_tokens.map(|tokens| json!(tokens))),
    ])
}

pub(super) fn reply(gate: &str, value: &Value) -> Result<wit::llm::Reply, Error> {
    Ok(wit::llm::Reply {
        text: text(gate, value, "text")?,
        model: text(gate, value, "model")?,
        prompt_tokens: number(gate, value, "prompt_tokens")?,
        completion_tokens: number(gate, value, "completion_tokens")?,
    })
}

pub(super) fn page(gate: &str, value: &Value) -> Result<wit::loom::Page, Error> {
    let entry = |value: &Value| {
        Ok(wit::loom::Entry {
            id: text(gate, value, "id")?,
            kind: text(gate, value, "kind")?,
            entity: text(gate, value, "entity")?,
            at_us: number(gate, value, "at_us")?,
            body: value.get("body").map(Value::to_string).unwrap_or_default(),
        })
    };
    let entries = value.get("entries").ok_or_else(|| unexpected(gate, "an object with `entries`"))?;
    Ok(wit::loom::Page {
        entries: items(gate, entries)?.iter().map(entry).collect::<Result<_, Error>>()?,
        next: value.get("next").and_then(Value::as_str).map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use cantrip_gates::Truncation;

    use super::*;

    #[test]
    fn guests_are_told_in_their_own_words_what_their_interface_has_no_case_for() {
        let truncation = Truncation { reason: "max_turns".to_owned(), message: "x".to_owned(), partial: None };
        let told = |failed| failure(error(failed));
        assert_eq!(told(GateError::Unknown("x".to_owned())), ("failed", "unknown: x".to_owned()));
        assert_eq!(told(GateError::Unanswered("x".to_owned())), ("denied", "unanswered: x".to_owned()));
        assert_eq!(
            told(GateError::Truncated(Box::new(truncation))),
            ("failed", "truncated by max_turns: x".to_owned())
        );
    }
}
