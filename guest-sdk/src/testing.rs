//! Gates for tests: a guest's logic is tested natively, with exactly the gates that it would be given.
//!
//! What a test does not give is denied, with the line of the cantrip file that would grant it, as it is at the runtime.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value, json};

use crate::Error;
use crate::call_entity::Child;
use crate::http_fetch::{Request, Response};
use crate::llm::{Question, Reply};
use crate::log::Level;

type Answer = Box<dyn FnMut(Value) -> Result<Value, Error>>;

/// The gates of a test.
#[derive(Default)]
pub struct Gates {
    answers: BTreeMap<String, Answer>,
    files: BTreeMap<String, String>,
    has_files: bool,
    is_writable: bool,
}

impl std::fmt::Debug for Gates {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Gates").field("names", &self.names()).field("files", &self.files).finish_non_exhaustive()
    }
}

/// A call that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The gate.
    pub gate: String,
    /// Its arguments, by their names.
    pub arguments: Value,
    /// What came of it.
    pub result: Result<Value, Error>,
}

/// What a guest did.
#[derive(Debug)]
pub struct Run<T> {
    /// What it returned.
    pub result: T,
    /// What it called `done` with.
    pub done: Option<Value>,
    /// Its calls, in their order.
    pub calls: Vec<Call>,
    /// What it printed through [`crate::log`].
    pub logs: Vec<(Level, String)>,
    /// The files, as it left them.
    pub files: BTreeMap<String, String>,
}

struct Table {
    gates: Gates,
    calls: Vec<Call>,
    logs: Vec<(Level, String)>,
    done: Option<Value>,
}

thread_local! {
    static TABLE: RefCell<Option<Rc<RefCell<Table>>>> = const { RefCell::new(None) };
}

impl Gates {
    /// `done` alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// A file. With the first one, `read_file`, `list_dir` and `search` are given.
    #[must_use]
    pub fn file(mut self, path: impl Into<String>, text: impl Into<String>) -> Self {
        self.files.insert(path.into(), text.into());
        self.has_files = true;
        self
    }

    /// Gives `write_file` too.
    #[must_use]
    pub const fn writable(mut self) -> Self {
        self.has_files = true;
        self.is_writable = true;
        self
    }

    /// A gate, answered by a function of its arguments. It goes before what this type would answer.
    #[must_use]
    pub fn on(mut self, gate: impl Into<String>, answer: impl FnMut(Value) -> Result<Value, Error> + 'static) -> Self {
        self.answers.insert(gate.into(), Box::new(answer));
        self
    }

    /// A model: gives `llm_query`.
    #[must_use]
    pub fn llm(self, mut answer: impl FnMut(&Question) -> Result<String, Error> + 'static) -> Self {
        self.on("llm_query", move |arguments| {
            let text = answer(&serde_json::from_value(arguments)?)?;
            Ok(serde_json::to_value(Reply { text, model: "test".to_owned(), prompt_tokens: 1, completion_tokens: 1 })?)
        })
    }

    /// A network: gives `http_fetch`.
    #[must_use]
    pub fn http(self, mut answer: impl FnMut(&Request) -> Result<Response, Error> + 'static) -> Self {
        self.on("http_fetch", move |arguments| Ok(serde_json::to_value(answer(&serde_json::from_value(arguments)?)?)?))
    }

    /// Children: gives `call_entity`, `call_entity_batch` and [`crate::cast`].
    #[must_use]
    pub fn child(self, answer: impl FnMut(&Child) -> Result<Value, Error> + 'static) -> Self {
        let answer = Rc::new(RefCell::new(answer));
        let other = Rc::clone(&answer);
        self.on("call_entity", move |arguments| (answer.borrow_mut())(&serde_json::from_value(arguments)?)).on(
            "call_entity_batch",
            move |arguments| {
                let children: Vec<Child> =
                    serde_json::from_value(arguments.get("requests").cloned().unwrap_or_default())?;
                let one = |child: &Child| match (other.borrow_mut())(child) {
                    Ok(value) => value,
                    Err(error) => json!({ "error": error.message(), "kind": error.kind() }),
                };
                Ok(children.iter().map(one).collect())
            },
        )
    }

    fn names(&self) -> Vec<String> {
        let files: &[&str] = if self.has_files { &["list_dir", "read_file", "search"] } else { &[] };
        let writing: &[&str] = if self.is_writable { &["write_file"] } else { &[] };
        let mut names: Vec<String> = ["done"]
            .iter()
            .chain(files)
            .chain(writing)
            .map(|name| (*name).to_owned())
            .chain(self.answers.keys().cloned())
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Runs a guest's function with these gates. Only this thread has them.
    pub fn run<T>(self, work: impl FnOnce() -> T) -> Run<T> {
        let table = Rc::new(RefCell::new(Table { gates: self, calls: Vec::new(), logs: Vec::new(), done: None }));
        let before = TABLE.with(|current| current.replace(Some(Rc::clone(&table))));
        let result = work();
        TABLE.with(|current| current.replace(before));
        let mut table = table.borrow_mut();
        Run {
            result,
            done: table.done.take(),
            calls: std::mem::take(&mut table.calls),
            logs: std::mem::take(&mut table.logs),
            files: std::mem::take(&mut table.gates.files),
        }
    }
}

fn current() -> Option<Rc<RefCell<Table>>> {
    TABLE.with(|current| current.borrow().clone())
}

pub(crate) fn names() -> Vec<String> {
    current().map(|table| table.borrow().gates.names()).unwrap_or_default()
}

pub(crate) fn log(level: Level, message: String) {
    if let Some(table) = current() {
        table.borrow_mut().logs.push((level, message));
    }
}

/// Whether a gate is there, with the runtime's words where it is not.
pub(crate) fn granted(gate: &str) -> Result<(), Error> {
    let Some(table) = current() else {
        return Err(Error::Denied(format!(
            "{gate}: there are no gates outside of a runtime: give some with cantrip_guest::testing::Gates"
        )));
    };
    if table.borrow().gates.names().iter().any(|name| name == gate) {
        return Ok(());
    }
    let settings = match gate {
        "read_file" | "list_dir" | "search" | "write_file" => format!(" and `[gate.{gate}]` with `root = \"…\"`"),
        "http_fetch" => " and `[gate.http_fetch]` with `hosts = [\"…\"]`".to_owned(),
        "llm_query" => " and name a model in `[llm]`".to_owned(),
        _ => String::new(),
    };
    Err(Error::Denied(format!("{gate}: this circle does not hold the gate: add \"{gate}\" to circle.gates{settings}")))
}

pub(crate) fn call(gate: &str, arguments: Value) -> Result<Value, Error> {
    granted(gate)?;
    let Some(table) = current() else { return Err(Error::Denied(gate.to_owned())) };
    let result = if table.borrow().done.is_some() {
        Err(Error::Denied(format!("{gate}: done had been called, and no gate answers after it")))
    } else {
        // Taken out while it runs, so that it may call gates itself.
        let own = table.borrow_mut().gates.answers.remove(gate);
        match own {
            Some(mut answer) => {
                let result = answer(arguments.clone());
                table.borrow_mut().gates.answers.insert(gate.to_owned(), answer);
                result
            }
            None => built_in(&mut table.borrow_mut(), gate, &arguments),
        }
    };
    let mut table = table.borrow_mut();
    if gate == "done" && result.is_ok() {
        table.done = Some(arguments.get("answer").cloned().unwrap_or_default());
    }
    table.calls.push(Call { gate: gate.to_owned(), arguments, result: result.clone() });
    result
}

fn built_in(table: &mut Table, gate: &str, arguments: &Value) -> Result<Value, Error> {
    let text = |key: &str| arguments.get(key).and_then(Value::as_str);
    let files = &mut table.gates.files;
    match gate {
        "done" => Ok(arguments.get("answer").cloned().unwrap_or_default()),
        "read_file" => read(files, text("path").unwrap_or_default(), arguments),
        "list_dir" => Ok(list(files, text("path").unwrap_or("."))),
        "search" => Ok(search(files, text("pattern").unwrap_or_default(), text("path"))),
        "write_file" => {
            let (path, content) = (text("path").unwrap_or_default(), text("content").unwrap_or_default());
            files.insert(path.to_owned(), content.to_owned());
            Ok(json!({ "path": path, "bytes": content.len() }))
        }
        other => Err(Error::not_found(format_args!("the test has no gate `{other}`"))),
    }
}

fn read(files: &BTreeMap<String, String>, path: &str, arguments: &Value) -> Result<Value, Error> {
    let text =
        files.get(path).ok_or_else(|| Error::not_found(format_args!("read_file: path `{path}` does not exist")))?;
    let number = |key: &str| arguments.get(key).and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok());
    let start = number("offset").unwrap_or(0).min(text.len());
    let mut end = number("limit").map_or(text.len(), |limit| start.saturating_add(limit).min(text.len()));
    // A character that the limit cuts is left out.
    while end > start && !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(start..end)
        .map(Value::from)
        .ok_or_else(|| Error::invalid(format_args!("read_file: byte {start} is inside a character")))
}

fn list(files: &BTreeMap<String, String>, folder: &str) -> Value {
    let prefix = if folder == "." { String::new() } else { format!("{}/", folder.trim_end_matches('/')) };
    let mut entries: BTreeMap<&str, Value> = BTreeMap::new();
    for (path, text) in files {
        let Some(rest) = path.strip_prefix(&prefix) else { continue };
        match rest.split_once('/') {
            Some((name, _)) => entries.insert(name, json!({ "name": name, "kind": "directory", "bytes": null })),
            None => entries.insert(rest, json!({ "name": rest, "kind": "file", "bytes": text.len() })),
        };
    }
    entries.into_values().collect()
}

/// Finds text, not regular expressions: a test gives [`Gates::on`] where it needs more.
fn search(files: &BTreeMap<String, String>, pattern: &str, below: Option<&str>) -> Value {
    let fits =
        |path: &str| below.is_none_or(|below| below == "." || path == below || path.starts_with(&format!("{below}/")));
    let lines = files
        .iter()
        .filter(|(path, _)| fits(path))
        .flat_map(|(path, text)| (1_u64..).zip(text.lines()).map(move |(number, line)| (path, number, line)));
    lines
        .filter(|(_, _, line)| line.contains(pattern))
        .map(|(path, number, line)| json!({ "path": path, "line": number, "text": line }))
        .collect()
}
