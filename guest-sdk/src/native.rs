//! The gates of a test: names and JSON, answered by what the test has given.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::call_entity::Child;
use crate::cast::Proposal;
use crate::http_fetch::{Request, Response};
use crate::list_dir::Entry;
use crate::llm::{Question, Reply};
use crate::log::Level;
use crate::loom::Page;
use crate::search::{Found, Hit, Search};
use crate::{Error, testing};

fn typed<T: DeserializeOwned>(gate: &str, value: Value) -> Result<T, Error> {
    serde_json::from_value(value).map_err(|error| Error::failed(format_args!("{gate}: the test's answer: {error}")))
}

fn call_with<T: DeserializeOwned>(gate: &str, arguments: &impl Serialize) -> Result<T, Error> {
    typed(gate, testing::call(gate, serde_json::to_value(arguments)?)?)
}

/// An object without the parts that were left out.
fn given<const N: usize>(parts: [(&str, Option<Value>); N]) -> Value {
    Value::Object(parts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect::<Map<_, _>>())
}

pub(crate) fn names() -> Vec<String> {
    testing::names()
}

pub(crate) fn gate(name: &str, arguments: Value) -> Result<Value, Error> {
    testing::call(name, arguments)
}

pub(crate) fn done(answer: &Value) -> Result<(), Error> {
    testing::call("done", json!({ "answer": answer })).map(drop)
}

pub(crate) fn read(path: &str, offset: Option<u64>, limit: Option<u64>) -> Result<String, Error> {
    let arguments =
        given([("path", Some(path.into())), ("offset", offset.map(Value::from)), ("limit", limit.map(Value::from))]);
    call_with("read_file", &arguments)
}

pub(crate) fn list(path: Option<&str>) -> Result<Vec<Entry>, Error> {
    call_with("list_dir", &given([("path", path.map(Value::from))]))
}

pub(crate) fn search(search: &Search) -> Result<Found, Error> {
    let hits: Vec<Hit> = call_with("search", search)?;
    let most = search.max_results.unwrap_or(100);
    Ok(Found { truncated: hits.len() as u64 >= u64::from(most), hits })
}

pub(crate) fn write(path: &str, content: &str, create_dirs: bool) -> Result<u64, Error> {
    let written: Value =
        call_with("write_file", &json!({ "path": path, "content": content, "create_dirs": create_dirs }))?;
    Ok(written.get("bytes").and_then(Value::as_u64).unwrap_or(content.len() as u64))
}

pub(crate) fn fetch(request: &Request) -> Result<Response, Error> {
    call_with("http_fetch", request)
}

pub(crate) fn call(child: &Child) -> Result<Value, Error> {
    call_with("call_entity", child)
}

pub(crate) fn call_batch(children: &[Child]) -> Result<Vec<Result<Value, Error>>, Error> {
    batch(&json!({ "requests": children }))
}

fn of_kind(kind: &str, message: String) -> Error {
    match kind {
        "denied" => Error::Denied(message),
        "invalid" => Error::Invalid(message),
        "not_found" => Error::NotFound(message),
        "exhausted" => Error::Exhausted(message),
        "timed_out" => Error::TimedOut(message),
        _ => Error::Failed(message),
    }
}

/// A failed child is an object with `error` and `kind`, as it is for code media.
fn batch(arguments: &Value) -> Result<Vec<Result<Value, Error>>, Error> {
    let answers: Vec<Value> = call_with("call_entity_batch", arguments)?;
    let answer =
        |value: Value| match (value.get("error").and_then(Value::as_str), value.get("kind").and_then(Value::as_str)) {
            (Some(message), Some(kind)) => Err(of_kind(kind, message.to_owned())),
            _ => Ok(value),
        };
    Ok(answers.into_iter().map(answer).collect())
}

pub(crate) type Cantrip = Proposal;

pub(crate) fn create(proposal: &Proposal) -> Result<Cantrip, Error> {
    testing::granted("call_entity")?;
    Ok(proposal.clone())
}

fn child_of(cantrip: &Cantrip, intent: &str) -> Child {
    Child::new(intent).of(cantrip.clone())
}

pub(crate) fn cast(cantrip: &Cantrip, intent: &str) -> Result<Value, Error> {
    call(&child_of(cantrip, intent))
}

pub(crate) fn cast_batch(requests: &[(&Cantrip, &str)]) -> Result<Vec<Result<Value, Error>>, Error> {
    let children: Vec<Child> = requests.iter().map(|(cantrip, intent)| child_of(cantrip, intent)).collect();
    call_batch(&children)
}

pub(crate) fn log(level: Level, message: String) {
    testing::log(level, message);
}

pub(crate) fn query(question: &Question) -> Result<Reply, Error> {
    call_with("llm_query", question)
}

pub(crate) fn page(cursor: Option<&str>, limit: Option<u32>) -> Result<Page, Error> {
    call_with("read_loom", &given([("cursor", cursor.map(Value::from)), ("limit", limit.map(Value::from))]))
}
