//! The gates as imports of the component, and what the attributes export.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Error;
use crate::call_entity::Child;
use crate::cast::Proposal;
use crate::http_fetch::{Request, Response};
use crate::list_dir::{Entry, Kind};
use crate::llm::{Question, Reply};
use crate::log::Level;
use crate::loom::{self, Page};
use crate::search::{Found, Hit, Search};

/// Generated from the WIT.
pub mod run_world {
    #![allow(
        missing_docs,
        missing_debug_implementations,
        clippy::all,
        clippy::pedantic,
        clippy::allow_attributes_without_reason,
        unsafe_code,
        reason = "generated"
    )]
    wit_bindgen::generate!({
        path: "wit",
        world: "cantrip:guest/cantrip",
        pub_export_macro: true,
        export_macro_name: "export_run",
        default_bindings_module: "::cantrip_guest::__private::run_world",
        runtime_path: "::cantrip_guest::__private::rt",
    });
}

/// Generated from the WIT; the gates are those of `run_world`.
pub mod steps_world {
    #![allow(
        missing_docs,
        missing_debug_implementations,
        clippy::all,
        clippy::pedantic,
        clippy::allow_attributes_without_reason,
        unsafe_code,
        reason = "generated"
    )]
    wit_bindgen::generate!({
        path: "wit",
        world: "cantrip:guest/steps",
        pub_export_macro: true,
        export_macro_name: "export_steps",
        default_bindings_module: "::cantrip_guest::__private::steps_world",
        runtime_path: "::cantrip_guest::__private::rt",
        with: {
            "cantrip:guest/types@0.1.0": super::run_world::cantrip::guest::types,
            "cantrip:guest/done@0.1.0": super::run_world::cantrip::guest::done,
            "cantrip:guest/read-file@0.1.0": super::run_world::cantrip::guest::read_file,
            "cantrip:guest/list-dir@0.1.0": super::run_world::cantrip::guest::list_dir,
            "cantrip:guest/search@0.1.0": super::run_world::cantrip::guest::search,
            "cantrip:guest/write-file@0.1.0": super::run_world::cantrip::guest::write_file,
            "cantrip:guest/http-fetch@0.1.0": super::run_world::cantrip::guest::http_fetch,
            "cantrip:guest/call-entity@0.1.0": super::run_world::cantrip::guest::call_entity,
            "cantrip:guest/cast@0.1.0": super::run_world::cantrip::guest::cast,
            "cantrip:guest/log@0.1.0": super::run_world::cantrip::guest::log,
            "cantrip:guest/llm@0.1.0": super::run_world::cantrip::guest::llm,
            "cantrip:guest/loom@0.1.0": super::run_world::cantrip::guest::loom,
            "cantrip:guest/gates@0.1.0": super::run_world::cantrip::guest::gates,
        },
    });
}

use run_world::cantrip::guest as wit;

impl From<wit::types::Error> for Error {
    fn from(error: wit::types::Error) -> Self {
        match error {
            wit::types::Error::Denied(message) => Self::Denied(message),
            wit::types::Error::Invalid(message) => Self::Invalid(message),
            wit::types::Error::NotFound(message) => Self::NotFound(message),
            wit::types::Error::Exhausted(message) => Self::Exhausted(message),
            wit::types::Error::Failed(message) => Self::Failed(message),
            wit::types::Error::TimedOut(message) => Self::TimedOut(message),
        }
    }
}

impl From<Error> for wit::types::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Denied(message) => Self::Denied(message),
            Error::Invalid(message) => Self::Invalid(message),
            Error::NotFound(message) => Self::NotFound(message),
            Error::Exhausted(message) => Self::Exhausted(message),
            Error::Failed(message) => Self::Failed(message),
            Error::TimedOut(message) => Self::TimedOut(message),
        }
    }
}

fn json(text: &str) -> Result<Value, Error> {
    Ok(serde_json::from_str(text)?)
}

fn answers(answers: Vec<Result<String, wit::types::Error>>) -> Vec<Result<Value, Error>> {
    answers.into_iter().map(|answer| json(&answer?)).collect()
}

pub(crate) fn names() -> Vec<String> {
    wit::gates::names()
}

pub(crate) fn gate(name: &str, arguments: Value) -> Result<Value, Error> {
    json(&wit::gates::call(name, &arguments.to_string())?)
}

pub(crate) fn done(answer: &Value) -> Result<(), Error> {
    Ok(wit::done::done(&answer.to_string())?)
}

pub(crate) fn read(path: &str, offset: Option<u64>, limit: Option<u64>) -> Result<String, Error> {
    Ok(wit::read_file::read(path, offset, limit)?)
}

pub(crate) fn list(path: Option<&str>) -> Result<Vec<Entry>, Error> {
    let kind = |kind| match kind {
        wit::list_dir::Kind::File => Kind::File,
        wit::list_dir::Kind::Directory => Kind::Directory,
        wit::list_dir::Kind::Symlink => Kind::Symlink,
        wit::list_dir::Kind::Other => Kind::Other,
    };
    let entries = wit::list_dir::list(path)?.into_iter();
    Ok(entries.map(|entry| Entry { name: entry.name, kind: kind(entry.kind), bytes: entry.bytes }).collect())
}

pub(crate) fn search(search: &Search) -> Result<Found, Error> {
    let options =
        wit::search::Options { path: search.path.clone(), glob: search.glob.clone(), max_results: search.max_results };
    let found = wit::search::search(&search.pattern, &options)?;
    let hits = found.hits.into_iter().map(|hit| Hit { path: hit.path, line: hit.line, text: hit.text }).collect();
    Ok(Found { hits, truncated: found.truncated })
}

pub(crate) fn write(path: &str, content: &str, create_dirs: bool) -> Result<u64, Error> {
    Ok(wit::write_file::write(path, content, create_dirs)?)
}

pub(crate) fn fetch(request: &Request) -> Result<Response, Error> {
    let response = wit::http_fetch::fetch(&wit::http_fetch::Request {
        url: request.url.clone(),
        method: request.method.clone(),
        headers: request.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        body: request.body.clone(),
    })?;
    Ok(Response {
        status: response.status,
        headers: response.headers.into_iter().collect::<BTreeMap<_, _>>(),
        body: response.body,
        url: response.url,
        truncated: response.truncated,
    })
}

fn child(child: &Child) -> wit::call_entity::Child {
    let Child { intent, context, proposal } = child.clone();
    wit::call_entity::Child {
        intent,
        context: context.map(|context| context.to_string()),
        system_prompt: proposal.system_prompt,
        llm: proposal.llm,
        medium: proposal.medium,
        gates: proposal.gates,
        wards: proposal.wards.map(|wards| wards.to_string()),
    }
}

pub(crate) fn call(proposed: &Child) -> Result<Value, Error> {
    json(&wit::call_entity::call(&child(proposed))?)
}

pub(crate) fn call_batch(children: &[Child]) -> Result<Vec<Result<Value, Error>>, Error> {
    let children: Vec<_> = children.iter().map(child).collect();
    Ok(answers(wit::call_entity::call_batch(&children)?))
}

pub(crate) type Cantrip = wit::cast::Cantrip;

pub(crate) fn create(proposal: &Proposal) -> Result<Cantrip, Error> {
    let proposal = proposal.clone();
    Ok(Cantrip::create(&wit::cast::Proposal {
        system_prompt: proposal.system_prompt,
        llm: proposal.llm,
        medium: proposal.medium,
        gates: proposal.gates,
        wards: proposal.wards.map(|wards| wards.to_string()),
    })?)
}

pub(crate) fn cast(cantrip: &Cantrip, intent: &str) -> Result<Value, Error> {
    json(&cantrip.cast(intent)?)
}

pub(crate) fn cast_batch(requests: &[(&Cantrip, &str)]) -> Result<Vec<Result<Value, Error>>, Error> {
    let requests: Vec<(&Cantrip, String)> =
        requests.iter().map(|(cantrip, intent)| (*cantrip, (*intent).to_owned())).collect();
    Ok(answers(wit::cast::cast_batch(&requests)?))
}

pub(crate) fn log(level: Level, message: String) {
    let level = match level {
        Level::Debug => wit::log::Level::Debug,
        Level::Info => wit::log::Level::Info,
        Level::Warn => wit::log::Level::Warn,
        Level::Error => wit::log::Level::Error,
    };
    wit::log::log(level, &message);
}

pub(crate) fn query(question: &Question) -> Result<Reply, Error> {
    let reply = wit::llm::query(&wit::llm::Question {
        prompt: question.prompt.clone(),
        system: question.system.clone(),
        temperature: question.temperature,
        max_output_tokens: question.max_output_tokens,
    })?;
    Ok(Reply {
        text: reply.text,
        model: reply.model,
        prompt_tokens: reply.prompt_tokens,
        completion_tokens: reply.completion_tokens,
    })
}

pub(crate) fn page(cursor: Option<&str>, limit: Option<u32>) -> Result<Page, Error> {
    let page = wit::loom::read(cursor, limit)?;
    let entry = |entry: wit::loom::Entry| {
        Ok(loom::Entry {
            body: json(&entry.body)?,
            id: entry.id,
            kind: entry.kind,
            entity: entry.entity,
            at_us: entry.at_us,
        })
    };
    Ok(Page { entries: page.entries.into_iter().map(entry).collect::<Result<_, Error>>()?, next: page.next })
}

/// What the attributes expand to.
pub mod private {
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use crate::{Error, Progress, Turn};

    pub use super::run_world::cantrip::guest::types::Error as WireError;
    pub use super::run_world::{self, Guest as RunExport, export_run};
    pub use super::steps_world::{
        self, Guest as StepsExport, Progress as WireProgress, Turn as WireTurn, export_steps,
    };
    pub use wit_bindgen::rt;

    /// The intent as a value.
    ///
    /// # Errors
    /// An intent that is no such JSON.
    pub fn parsed<T: DeserializeOwned>(intent: &str) -> Result<T, Error> {
        serde_json::from_str(intent)
            .map_err(|error| Error::invalid(format_args!("the intent is not what this guest takes: {error}")))
    }

    /// The answer as text.
    ///
    /// # Errors
    /// The guest's own, or an answer that JSON cannot hold.
    pub fn answer<T: Serialize, E: Into<Error>>(result: Result<T, E>) -> Result<String, Error> {
        Ok(serde_json::to_string(&result.map_err(Into::into)?)?)
    }

    /// The guest's word on how far it is.
    ///
    /// # Errors
    /// As [`answer`].
    pub fn progress<T: Serialize, E: Into<Error>>(result: Result<Progress<T>, E>) -> Result<WireProgress, Error> {
        Ok(match result.map_err(Into::into)? {
            Progress::More => WireProgress::More,
            Progress::Finished(value) => WireProgress::Finished(serde_json::to_string(&value)?),
        })
    }

    /// The turn as the guest is given it.
    pub fn turn(turn: WireTurn) -> Turn {
        Turn { number: turn.number, intent: turn.intent, heard: turn.heard }
    }

    /// Runs the guest's function.
    ///
    /// # Errors
    /// The guest's own.
    pub fn answered(work: impl FnOnce() -> Result<String, Error>) -> Result<String, WireError> {
        tell_panics();
        work().map_err(Into::into)
    }

    /// Runs the guest's step.
    ///
    /// # Errors
    /// The guest's own.
    pub fn stepped(work: impl FnOnce() -> Result<WireProgress, Error>) -> Result<WireProgress, WireError> {
        tell_panics();
        work().map_err(Into::into)
    }

    /// A panic ends the guest; what it says is all that is left of it.
    fn tell_panics() {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| std::panic::set_hook(Box::new(|panic| crate::log::error(panic))));
    }
}
