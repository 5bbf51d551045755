//! Whatever bytes come in at the doors where strangers put some — a component and the interfaces that it asks for, a gate's
//! arguments, a cantrip file, an entry of a record, an archive — the answer is a value or a sentence, and never a panic. What
//! other nodes say, and the node file, are tried where they are read, in the crate.
//!
//! `cargo test --test fuzz` changes the seeds in `tests/fuzz` a bounded number of times. With `cargo bolero test NAME` the same
//! targets are led by coverage, for as long as one likes. A seed that found something is added to its folder.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the tests may stop, read and write files, and tell what they saw"
)]

#[path = "fuzz/archive.rs"]
mod archive;
#[path = "fuzz/cast_heads.rs"]
mod cast_heads;
#[path = "fuzz/histories.rs"]
mod histories;
#[path = "fuzz/imports.rs"]
mod imports;
#[path = "fuzz/interfaces.rs"]
mod interfaces;
#[path = "fuzz/members.rs"]
mod members;
#[path = "fuzz/targets.rs"]
mod targets;
#[path = "fuzz/threads.rs"]
mod threads;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cantrip_runtime::adapters::wasm::{Guests, Sandbox, ShelfError, read_guest_file};
use cantrip_runtime::cli::file::{self, Around};
use cantrip_runtime::domain::ids::EntryId;
use cantrip_runtime::domain::loom::Sealed;
use cantrip_runtime::ports::Guest;
use cantrip_runtime::{CallContext, Gate, NoMedia, Root, builtin};
use serde_json::Value;
use targets::{changed_lines, target_by, target_of};

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz").join(target);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "the target {target} has no seeds");
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Runs a target on its seeds in `tests/fuzz`.
fn target(name: &str, times: usize, body: impl Fn(Vec<u8>) -> bool) {
    target_of(name, &seeds(name), times, body);
}

#[test]
fn component() {
    let sandbox = Sandbox::new(10, None).unwrap();
    let guests = Guests::new(sandbox);
    target("component", 10_000, |bytes| {
        // Valid bytes may still be more than the engine takes.
        Guests::inspect("fuzzed", &bytes).is_ok() && guests.compile("fuzzed", bytes).is_ok()
    });
}

#[test]
fn arguments() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.txt"), "text").unwrap();
    let root = || Root::open(folder.path()).unwrap();
    let gates: Vec<Arc<dyn Gate>> = vec![
        builtin::done(),
        builtin::echo(),
        builtin::read_file(root()),
        builtin::list_dir(root()),
        builtin::search(root()),
        builtin::write_file(root()),
    ];
    let specs: Vec<_> = builtin::NAMES.iter().filter_map(|name| builtin::spec_of(name)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    target("arguments", 20_000, |bytes| {
        let Ok(value) = serde_json::from_slice::<Value>(&bytes) else { return false };
        let mut fits = false;
        for spec in &specs {
            let check = cantrip_gates::ArgumentCheck::new(spec).unwrap();
            let values = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
            let Ok(named) = check.named(values) else { continue };
            if check.check(&named).is_err() {
                continue;
            }
            fits = true;
            if let Some(gate) = gates.iter().find(|gate| gate.spec().name == spec.name) {
                let _answered_or_refused = runtime.block_on(gate.call(named, &CallContext::default()));
            }
        }
        fits
    });
    let names: Vec<_> = std::fs::read_dir(folder.path().parent().unwrap()).unwrap().flatten().collect();
    assert!(names.iter().all(|entry| entry.file_name() != "escaped"), "a path left its root");
}

#[test]
fn cantrip_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("turns.jsonl"), "{\"content\": \"hi\"}\n").unwrap();
    let path = folder.path().join("cantrip.toml");
    let guests = Guests::new(Sandbox::new(10, None).unwrap());
    let finder = |reference: &str, at: &Path| -> Result<Arc<dyn Guest>, ShelfError> {
        Ok(guests.load("guest", read_guest_file(&at.join(reference))?)?)
    };
    let around = Around::new(&NoMedia, &finder, &|_| None);
    target_by("cantrip", &seeds("cantrip"), 1_000, changed_lines, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        match file::load(&path, &around, false) {
            Ok(_) => true,
            Err(error) => {
                assert!(error.to_string().contains("cantrip.toml"), "{error}");
                false
            }
        }
    });
}

#[test]
fn entry() {
    target("entry", 200_000, |bytes| {
        let Ok(sealed) = Sealed::open(EntryId::of(&bytes), bytes.clone()) else { return false };
        // What is taken is in the one form that it has.
        assert_eq!(Sealed::new(sealed.entry, Vec::new()).unwrap().bytes, bytes);
        true
    });
}
