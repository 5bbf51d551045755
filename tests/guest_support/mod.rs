//! What the tests of guests share: components from text, and casts of them.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::string_slice,
    reason = "a test may stop and reads files"
)]
#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses a part of it")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use cantrip_runtime::adapters::clock::SystemClock;
use cantrip_runtime::adapters::store::MemoryStore;
use cantrip_runtime::adapters::wasm::{Guests, Javascript, Sandbox};
use cantrip_runtime::domain::ids::WriterKey;
use cantrip_runtime::ports::Guest;
use cantrip_runtime::{Cantrip, CantripBuilder, CastError, CastOptions, Outcome, Runtime, Tree, Turn, Wards, builtin};

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests")
}

/// One sandbox for all tests of a file: guests share the process as they do in use.
pub(crate) fn sandbox() -> &'static Arc<Sandbox> {
    static SANDBOX: OnceLock<Arc<Sandbox>> = OnceLock::new();
    SANDBOX.get_or_init(|| {
        Sandbox::new(200, Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest-artefacts"))).unwrap()
    })
}

pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let media = Arc::new(Javascript::new(Arc::clone(sandbox())));
        Runtime::new(MemoryStore::new(WriterKey::from_bytes([0; 32])), media, Arc::new(SystemClock::default()), "test")
    })
}

pub(crate) fn guests() -> Guests {
    Guests::new(Arc::clone(sandbox()))
}

/// Puts the shared parts in, as often as parts name parts.
fn expanded(text: &str) -> String {
    let mut text = text.to_owned();
    while let Some(start) = text.find("{{") {
        let end = start + text[start..].find("}}").unwrap();
        let part = folder().join("parts").join(format!("{}.wat", &text[start + 2..end]));
        let part = std::fs::read_to_string(&part).unwrap_or_else(|error| panic!("{}: {error}", part.display()));
        text.replace_range(start..end + 2, part.trim());
    }
    text
}

/// A component from text.
pub(crate) fn assemble(text: &str) -> Vec<u8> {
    wat::parse_str(expanded(text)).unwrap_or_else(|error| panic!("{error}"))
}

/// The bytes of `tests/guests/{name}.wat`.
pub(crate) fn component(name: &str) -> Vec<u8> {
    let path = folder().join(format!("{name}.wat"));
    assemble(&std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

pub(crate) fn guest(name: &str) -> Arc<dyn Guest> {
    guests().load("guest", component(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub(crate) fn wards() -> Wards {
    Wards { max_turns: Some(10), max_eval_ms: Some(20_000), ..Wards::default() }
}

pub(crate) fn builder(guest: Arc<dyn Guest>, wards: &Wards) -> CantripBuilder {
    Cantrip::builder().guest(guest).gate(builtin::done()).wards(wards)
}

/// A cast, and what its loom shows of it.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) outcome: Outcome,
    pub(crate) failure: Option<String>,
    pub(crate) tree: Tree,
}

impl Ran {
    pub(crate) fn turns(&self) -> Vec<Turn> {
        self.tree.thread(self.outcome.entity).unwrap()
    }

    /// What the entity's last turn showed.
    pub(crate) fn seen(&self) -> String {
        let turns = self.turns();
        turns.last().and_then(|turn| turn.observation.as_ref()).unwrap().answers.first().unwrap().content.clone()
    }
}

pub(crate) async fn cast(cantrip: CantripBuilder, intent: &str) -> Ran {
    cast_with(cantrip, intent, CastOptions::default()).await
}

pub(crate) async fn cast_with(cantrip: CantripBuilder, intent: &str, options: CastOptions) -> Ran {
    let cantrip = cantrip.build(runtime().media()).unwrap_or_else(|error| panic!("{error}"));
    let mut entity = runtime().summon(&cantrip, options).unwrap();
    let (outcome, failure) = match entity.send(intent).await {
        Ok(outcome) => (outcome, None),
        Err(CastError::Failed { failure, outcome }) => (*outcome, Some(failure.to_string())),
        Err(error) => panic!("{error}"),
    };
    Ran { outcome, failure, tree: runtime().tree(entity.loom()).unwrap() }
}

/// A guest that was built from `tests/guests/rust`.
pub(crate) fn built(name: &str) -> Vec<u8> {
    let path = folder().join("built").join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
