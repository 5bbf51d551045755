//! The gates as a guest sees them: typed imports. Each turns into a name and arguments, leaves the sandbox, and comes back as
//! a typed answer. Only what the circle holds is linked.

use std::collections::BTreeSet;

use cantrip_gates::GateError;
use cantrip_gates::builtin::SEARCH_RESULTS_DEFAULT;
use serde_json::{Value, json};
use wasmtime::component::{HasSelf, Linker, Resource};

use crate::domain::circle::{CALL_ENTITY, CALL_ENTITY_BATCH, CANTRIP_CAST, CANTRIP_CAST_BATCH, CANTRIP_NEW, DONE};
use crate::domain::guest::{LLM_QUERY, Need, READ_LOOM, need};
use crate::domain::medium::CallArguments;

use super::bindings::cantrip::guest as wit;
use super::convert;
use super::state::{Proposal, Reader, State};
use super::wasi;
use wit::types::Error;

/// What a guest's call comes to: the outer error ends the guest, the inner one it can handle.
type Answer<T> = wasmtime::Result<Result<T, Error>>;

/// Links what a guest imports, as far as the gates are held. What is not linked cannot be called, however a guest tries.
pub(super) fn link(linker: &mut Linker<State>, held: &BTreeSet<String>) -> wasmtime::Result<()> {
    type This = HasSelf<State>;
    let holds = |interface: &str, function: &str| match need(&format!("cantrip:guest/{interface}@0.1.0"), function) {
        Need::Gate(gate) => held.contains(gate),
        Need::Nothing => true,
        Need::Wasi(_) | Need::Never(_) => false,
    };
    wasi::link(linker)?;
    wit::types::add_to_linker::<State, This>(linker, |state| state)?;
    wit::log::add_to_linker::<State, This>(linker, |state| state)?;
    wit::gates::add_to_linker::<State, This>(linker, |state| state)?;
    if holds("done", "done") {
        wit::done::add_to_linker::<State, This>(linker, |state| state)?;
    }
    if holds("read-file", "read") {
        wit::read_file::add_to_linker::<State, This>(linker, |state| state)?;
    }
    if holds("list-dir", "list") {
        wit::list_dir::add_to_linker::<State, This>(linker, |state| state)?;
    }
    if holds("search", "search") {
        wit::search::add_to_linker::<State, This>(linker, |state| state)?;
    }
    if holds("write-file", "write") {
        wit::write_file::add_to_linker::<State, This>(linker, |state| state)?;
    }
    if holds("http-fetch", "fetch") {
        wit::http_fetch::add_to_linker::<State, This>(linker, |state| state)?;
    }
    // Either of the two gates brings the interface; a function whose gate is not held was refused before, and is again.
    if holds("call-entity", "call") || holds("call-entity", "call-batch") {
        wit::call_entity::add_to_linker::<State, This>(linker, |state| state)?;
        wit::cast::add_to_linker::<State, This>(linker, |state| state)?;
    }
    if holds("llm", "query") {
        wit::llm::add_to_linker::<State, This>(linker, |state| state)?;
    }
    if holds("loom", "read") {
        wit::loom::add_to_linker::<State, This>(linker, |state| state)?;
    }
    Ok(())
}

impl State {
    async fn gate(&mut self, name: &str, arguments: Value) -> Result<Value, Error> {
        self.ask(name, CallArguments::Named(arguments)).await.map_err(convert::error)
    }
}

impl wit::types::Host for State {}

impl wit::done::Host for State {
    async fn done(&mut self, answer: String) -> Answer<()> {
        Ok(match convert::json_of("the answer", &answer) {
            Ok(answer) => self.gate(DONE, json!({ "answer": answer })).await.map(drop),
            Err(error) => Err(error),
        })
    }
}

impl wit::read_file::Host for State {
    async fn read(&mut self, path: String, offset: Option<u64>, limit: Option<u64>) -> Answer<String> {
        const GATE: &str = "read_file";
        let arguments = convert::named([
            ("path", Some(path.into())),
            ("offset", offset.map(Value::from)),
            ("limit", limit.map(Value::from)),
        ]);
        Ok(self.gate(GATE, arguments).await.and_then(|value| convert::string(GATE, value)))
    }
}

impl wit::read_file::HostReader for State {
    async fn new(&mut self, path: String, offset: u64, piece_bytes: u32) -> wasmtime::Result<Resource<Reader>> {
        Ok(self.table.push(Reader { path, offset, piece_bytes: u64::from(piece_bytes) })?)
    }

    async fn next(&mut self, reader: Resource<Reader>) -> Answer<Option<String>> {
        use wit::read_file::Host;
        let Reader { path, offset, piece_bytes } = self.table.get(&reader)?;
        let (path, offset, piece_bytes) = (path.clone(), *offset, *piece_bytes);
        let piece = match self.read(path, Some(offset), Some(piece_bytes)).await? {
            Ok(piece) => piece,
            Err(error) => return Ok(Err(error)),
        };
        self.table.get_mut(&reader)?.offset = offset.saturating_add(piece.len() as u64);
        Ok(Ok(Some(piece).filter(|piece| !piece.is_empty())))
    }

    async fn drop(&mut self, reader: Resource<Reader>) -> wasmtime::Result<()> {
        self.table.delete(reader)?;
        Ok(())
    }
}

impl wit::list_dir::Host for State {
    async fn list(&mut self, path: Option<String>) -> Answer<Vec<wit::list_dir::Entry>> {
        const GATE: &str = "list_dir";
        let arguments = convert::named([("path", path.map(Value::String))]);
        Ok(self.gate(GATE, arguments).await.and_then(|value| convert::listing(GATE, &value)))
    }
}

impl wit::search::Host for State {
    async fn search(&mut self, pattern: String, options: wit::search::Options) -> Answer<wit::search::Found> {
        const GATE: &str = "search";
        let most = options.max_results.map_or(SEARCH_RESULTS_DEFAULT, u64::from);
        let arguments = convert::named([
            ("pattern", Some(pattern.into())),
            ("path", options.path.map(Value::String)),
            ("glob", options.glob.map(Value::String)),
            ("max_results", options.max_results.map(Value::from)),
        ]);
        Ok(self.gate(GATE, arguments).await.and_then(|value| convert::found(GATE, &value, most)))
    }
}

impl wit::write_file::Host for State {
    async fn write(&mut self, path: String, content: String, create_dirs: bool) -> Answer<u64> {
        const GATE: &str = "write_file";
        let arguments = json!({ "path": path, "content": content, "create_dirs": create_dirs });
        Ok(self.gate(GATE, arguments).await.and_then(|value| convert::written(GATE, &value)))
    }
}

impl wit::http_fetch::Host for State {
    async fn fetch(&mut self, request: wit::http_fetch::Request) -> Answer<wit::http_fetch::Response> {
        const GATE: &str = "http_fetch";
        let answer = self.gate(GATE, convert::request(request)).await;
        Ok(answer.and_then(|value| convert::response(GATE, &value)))
    }
}

impl wit::call_entity::Host for State {
    async fn call(&mut self, child: wit::call_entity::Child) -> Answer<String> {
        Ok(match convert::child(child) {
            Ok(child) => self.gate(CALL_ENTITY, child).await.map(|value| value.to_string()),
            Err(error) => Err(error),
        })
    }

    async fn call_batch(&mut self, children: Vec<wit::call_entity::Child>) -> Answer<Vec<Result<String, Error>>> {
        Ok(match children.into_iter().map(convert::child).collect::<Result<Vec<_>, _>>() {
            Ok(children) => {
                let answers = self.gate(CALL_ENTITY_BATCH, json!({ "requests": children })).await;
                answers.and_then(|value| convert::batch(CALL_ENTITY_BATCH, &value))
            }
            Err(error) => Err(error),
        })
    }
}

impl wit::cast::Host for State {
    async fn cast_batch(&mut self, requests: Vec<(Resource<Proposal>, String)>) -> Answer<Vec<Result<String, Error>>> {
        let mut items = Vec::with_capacity(requests.len());
        for (cantrip, intent) in requests {
            items.push(json!({ "cantrip": self.table.get(&cantrip)?.0, "intent": intent }));
        }
        let arguments = CallArguments::Positional(vec![Value::Array(items)]);
        let answers = self.ask(CANTRIP_CAST_BATCH, arguments).await.map_err(convert::error);
        Ok(answers.and_then(|value| convert::batch(CALL_ENTITY_BATCH, &value)))
    }
}

impl wit::cast::HostCantrip for State {
    async fn create(&mut self, proposal: wit::cast::Proposal) -> Answer<Resource<Proposal>> {
        let proposal = match convert::proposal(proposal) {
            Ok(proposal) => proposal,
            Err(error) => return Ok(Err(error)),
        };
        match self.ask(CANTRIP_NEW, CallArguments::Positional(vec![proposal])).await {
            Ok(handle) => Ok(Ok(self.table.push(Proposal(handle))?)),
            Err(error) => Ok(Err(convert::error(error))),
        }
    }

    async fn cast(&mut self, cantrip: Resource<Proposal>, intent: String) -> Answer<String> {
        let handle = self.table.get(&cantrip)?.0.clone();
        let arguments = CallArguments::Positional(vec![handle, intent.into()]);
        Ok(self.ask(CANTRIP_CAST, arguments).await.map(|value| value.to_string()).map_err(convert::error))
    }

    async fn drop(&mut self, cantrip: Resource<Proposal>) -> wasmtime::Result<()> {
        self.table.delete(cantrip)?;
        Ok(())
    }
}

impl wit::log::Host for State {
    async fn log(&mut self, level: wit::log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            wit::log::Level::Debug => "debug: ",
            wit::log::Level::Info => "",
            wit::log::Level::Warn => "warning: ",
            wit::log::Level::Error => "error: ",
        };
        self.output.write(format!("{level}{message}\n").as_bytes());
        Ok(())
    }
}

impl wit::llm::Host for State {
    async fn query(&mut self, question: wit::llm::Question) -> Answer<wit::llm::Reply> {
        let answer = self.gate(LLM_QUERY, convert::question(question)).await;
        Ok(answer.and_then(|value| convert::reply(LLM_QUERY, &value)))
    }
}

impl wit::loom::Host for State {
    async fn read(&mut self, cursor: Option<String>, limit: Option<u32>) -> Answer<wit::loom::Page> {
        let arguments = convert::named([("cursor", cursor.map(Value::String)), ("limit", limit.map(Value::from))]);
        let answer = self.gate(READ_LOOM, arguments).await;
        Ok(answer.and_then(|value| convert::page(READ_LOOM, &value)))
    }
}

impl wit::gates::Host for State {
    async fn names(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.gates.to_vec())
    }

    async fn call(&mut self, name: String, arguments: String) -> Answer<String> {
        let arguments = match convert::json_of("the list of arguments", &arguments) {
            Ok(Value::Array(values)) => CallArguments::Positional(values),
            Ok(value @ Value::Object(_)) => CallArguments::Named(value),
            Ok(Value::Null) => CallArguments::Positional(Vec::new()),
            Ok(Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                let error = GateError::Invalid(format!("{name}: the arguments must be an object or a list"));
                return Ok(Err(convert::error(error)));
            }
            Err(error) => return Ok(Err(error)),
        };
        Ok(self.ask(&name, arguments).await.map(|value| value.to_string()).map_err(convert::error))
    }
}
