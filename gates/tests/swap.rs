//! A path that is swapped while it is used: nothing from outside the root ever comes back, and nothing is put there.

#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]
#![expect(clippy::disallowed_methods, reason = "a test lays out the files that a gate then meets")]
#![cfg(unix)]

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use cantrip_gates::{CallContext, Gate, GateError, Root, builtin};
use serde_json::{Value, json};
use tempfile::TempDir;

const ROUNDS: usize = 4_000;

fn call(gate: &Arc<dyn Gate>, arguments: Value) -> Result<Value, GateError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(gate.call(arguments, &CallContext::default()))
}

/// `root/spot` is in turn a directory, and a link to a directory outside that holds the same names. A gate may make a
/// directory where the spot is empty for a moment; that one is taken away again. Mostly as fast as it goes; now and then it
/// rests until a whole call has met the link, or the directory, so that both are tried however busy the machine is.
fn swapping(path: &Path, calls: &AtomicUsize, stop: &AtomicBool) {
    let spot = path.join("root/spot");
    let aside = path.join("aside");
    let insist = |attempt: &dyn Fn() -> io::Result<()>| {
        while attempt().is_err() {
            drop(fs::remove_dir_all(&spot));
        }
    };
    let rest = || {
        // The call that runs now has seen something else; the one after it has not.
        let enough = calls.load(Ordering::SeqCst) + 2;
        while calls.load(Ordering::SeqCst) < enough && !stop.load(Ordering::Relaxed) {
            thread::yield_now();
        }
    };
    for swap in 0_usize.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        fs::rename(&spot, &aside).expect("moved aside");
        insist(&|| symlink("../outside", &spot));
        if swap % 32 == 0 {
            rest();
        } else {
            thread::yield_now();
        }
        fs::remove_file(&spot).expect("the link is gone");
        insist(&|| fs::rename(&aside, &spot));
        if swap % 32 == 16 {
            rest();
        }
    }
}

/// Ends the swapping also where an assertion fails: the scope waits for it.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn check(use_it: impl Fn(&Root) -> Result<Value, GateError>) {
    let dir = TempDir::new().expect("a directory");
    for (place, content) in [("root/spot", "inside"), ("outside", "OUTSIDE")] {
        fs::create_dir_all(dir.path().join(place)).expect("directories");
        fs::write(dir.path().join(place).join("file.txt"), content).expect("a file");
    }
    let root = Root::open(&dir.path().join("root")).expect("a root");
    let (calls, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut answered = 0;
    thread::scope(|scope| {
        let _stopped = Stop(&stop);
        let swapper = scope.spawn(|| swapping(dir.path(), &calls, &stop));
        while (calls.load(Ordering::SeqCst) < ROUNDS || answered == 0) && !swapper.is_finished() {
            match use_it(&root) {
                Ok(value) => {
                    assert!(!value.to_string().contains("OUTSIDE"), "it left the root: {value}");
                    answered += 1;
                }
                Err(error) => assert!(!error.message().contains("OUTSIDE"), "it left the root: {error}"),
            }
            calls.fetch_add(1, Ordering::SeqCst);
        }
    });
    assert!(answered > 0, "every call failed, so nothing was tried");
    let outside: Vec<_> = fs::read_dir(dir.path().join("outside")).expect("listed").collect();
    assert_eq!(outside.len(), 1, "something was put outside");
    assert_eq!(fs::read_to_string(dir.path().join("outside/file.txt")).expect("there"), "OUTSIDE");
}

#[test]
fn a_swapped_directory_is_never_read_through() {
    check(|root| call(&builtin::read_file(root.clone()), json!({"path": "spot/file.txt"})));
}

#[test]
fn a_swapped_directory_is_never_searched_through() {
    check(|root| call(&builtin::search(root.clone()), json!({"pattern": ".", "path": "."})));
}

#[test]
fn a_swapped_directory_is_never_listed_through() {
    check(|root| {
        let listed = call(&builtin::list_dir(root.clone()), json!({"path": "spot"}))?;
        let bytes = listed.as_array().and_then(|entries| entries.first()).map(|entry| entry["bytes"].clone());
        Ok(if bytes == Some(json!(7)) { json!("OUTSIDE") } else { listed })
    });
}

#[test]
fn a_swapped_directory_is_never_written_through() {
    check(|root| {
        let path = json!({"path": "spot/file.txt", "content": "inside", "create_dirs": true});
        call(&builtin::write_file(root.clone()), path)
    });
}
