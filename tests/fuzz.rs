//! Whatever bytes come in at the four doors where strangers put some — a component, a gate's arguments, a cantrip file, an
//! entry of a record — the answer is a value or a sentence, and never a panic.
//!
//! `cargo test --test fuzz` changes the seeds in `tests/fuzz` a bounded number of times. With `cargo bolero test NAME` the same
//! targets are led by coverage, for as long as one likes. A seed that found something is added to its folder.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the tests may stop, read and write files, and tell what they saw"
)]

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bolero::check;
use cantrip_runtime::adapters::wasm::{Guests, Sandbox, ShelfError, read_guest_file};
use cantrip_runtime::cli::file::{self, Around};
use cantrip_runtime::domain::ids::EntryId;
use cantrip_runtime::domain::loom::Sealed;
use cantrip_runtime::ports::Guest;
use cantrip_runtime::{CallContext, Gate, NoMedia, Root, builtin};
use serde_json::Value;

/// Which seed, what of it becomes which byte, and where it is cut or doubled.
type Change = (u8, Vec<(u16, u8)>, Option<u16>);

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz").join(target);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "the target {target} has no seeds");
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// A seed with some bytes changed, and cut or doubled.
fn changed(seeds: &[Vec<u8>], (which, bytes, length): &Change) -> Vec<u8> {
    let mut seed = seeds.get(usize::from(*which) % seeds.len()).cloned().unwrap_or_default();
    // Mostly few changes: what is wrong in eight places is refused for the first of them.
    for (at, byte) in bytes.iter().take(1 + usize::from(*which) / 64) {
        let at = usize::from(*at) % seed.len().max(1);
        if let Some(place) = seed.get_mut(at) {
            *place = *byte;
        }
    }
    match length {
        Some(length) if length % 4 > 1 => {}
        Some(length) if length % 4 == 0 => seed.truncate(usize::from(*length) % (seed.len() + 1)),
        Some(at) => {
            let tail = seed.get(usize::from(*at) % (seed.len() + 1)..).unwrap_or_default().to_vec();
            seed.extend(tail);
        }
        None => {}
    }
    seed
}

/// Runs a target on so many changed seeds. A panic ends the test, so nothing is looked at after one.
///
/// `body` says whether the bytes were taken: if no change ever is, the target looks at nothing but the first check.
fn target(name: &str, times: usize, body: impl Fn(Vec<u8>) -> bool) {
    let seeds = seeds(name);
    let (tried, taken) = (AtomicU64::new(0), AtomicU64::new(0));
    let body = AssertUnwindSafe(body);
    check!().with_type::<Change>().with_iterations(times).for_each(|change| {
        let body = &body;
        let bytes = changed(&seeds, change);
        let is_changed = !seeds.contains(&bytes);
        tried.fetch_add(1, Ordering::Relaxed);
        taken.fetch_add(u64::from(body(bytes) && is_changed), Ordering::Relaxed);
    });
    println!("{name}: {tried:?} tried, {taken:?} changed and taken");
    assert!(taken.into_inner() > 0, "{name}");
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
    target("cantrip", 10_000, |bytes| {
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
