//! The built-in gates.
//!
//! Owns their names, their declarations and their constructors. Each constructor takes the gate's dependencies and
//! nothing is added later (CIRCLE-10). `call_entity`, `call_entity_batch`, `llm_query` and `read_loom` are declared here,
//! so that every gate name has one home, and are run by the runtime.

mod basic;
mod fetch;
mod list_dir;
mod read_file;
mod search;
mod specs;
mod write_file;

use std::sync::Arc;

use crate::files::Root;
use crate::gate::Gate;
use crate::http::{HttpPolicy, HttpPolicyError};
use crate::spec::GateSpec;

pub use crate::limits::{
    HEADER_BYTES_MAX, HEADERS_MAX, LIST_ENTRIES_MAX, LOOM_ENTRIES_MAX, READ_BYTES_MAX, REQUEST_BODY_BYTES_MAX,
    SEARCH_BYTES_MAX, SEARCH_DEPTH_MAX, SEARCH_ENTRIES_MAX, SEARCH_FILE_BYTES_MAX, SEARCH_LINE_CHARS_MAX,
    SEARCH_MS_MAX, SEARCH_RESULTS_DEFAULT, SEARCH_RESULTS_MAX, URL_BYTES_MAX, WRITE_BYTES_MAX,
};
pub use specs::{call_entity_batch_spec, call_entity_spec, llm_query_spec, read_loom_spec};

/// Every built-in gate.
pub const NAMES: &[&str] = &[
    "done",
    "echo",
    "read_file",
    "list_dir",
    "search",
    "write_file",
    "http_fetch",
    "call_entity",
    "call_entity_batch",
    "llm_query",
    "read_loom",
];

/// Those of them that the runtime itself runs: they hold no dependency, but need the entity that calls them.
pub const RUN_BY_THE_RUNTIME: &[&str] = &["call_entity", "call_entity_batch", "llm_query", "read_loom"];

/// The declaration of a built-in gate.
pub fn spec_of(name: &str) -> Option<GateSpec> {
    Some(match name {
        "done" => basic::done_spec(),
        "echo" => basic::echo_spec(),
        "read_file" => read_file::spec(),
        "list_dir" => list_dir::spec(),
        "search" => search::spec(),
        "write_file" => write_file::spec(),
        "http_fetch" => fetch::spec(),
        "call_entity" => call_entity_spec(),
        "call_entity_batch" => call_entity_batch_spec(),
        "llm_query" => llm_query_spec(),
        "read_loom" => read_loom_spec(),
        _ => return None,
    })
}

/// `done(answer)`: ends the cast; the answer is its result (CIRCLE-8).
pub fn done() -> Arc<dyn Gate> {
    Arc::new(basic::Returns::answer())
}

/// `echo(text)`: returns the text.
pub fn echo() -> Arc<dyn Gate> {
    Arc::new(basic::Returns::text())
}

/// `read_file(path, offset?, limit?)` below `root`.
pub fn read_file(root: Root) -> Arc<dyn Gate> {
    Arc::new(read_file::ReadFile::new(root))
}

/// `list_dir(path?)` below `root`.
pub fn list_dir(root: Root) -> Arc<dyn Gate> {
    Arc::new(list_dir::ListDir::new(root))
}

/// `search(pattern, path?, glob?, max_results?)` below `root`.
pub fn search(root: Root) -> Arc<dyn Gate> {
    Arc::new(search::Search::new(root))
}

/// `write_file(path, content, create_dirs?)` below `root`.
pub fn write_file(root: Root) -> Arc<dyn Gate> {
    Arc::new(write_file::WriteFile::new(root))
}

/// `http_fetch(url, method?, headers?, body?)` under `policy`.
///
/// # Errors
///
/// [`HttpPolicyError`] if the policy allows nothing or holds something that cannot be sent.
pub fn http_fetch(policy: HttpPolicy) -> Result<Arc<dyn Gate>, HttpPolicyError> {
    Ok(Arc::new(fetch::Fetch::new(policy)?))
}
