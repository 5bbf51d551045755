//! What a search costs: states of its pattern times bytes it reads, looked at often enough to stop in time.

#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]
#![expect(clippy::disallowed_methods, reason = "a test lays out the files that a gate then meets")]

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cantrip_gates::{CallContext, Gate, GateError, Root, builtin, limits, steps};
use serde_json::{Value, json};
use tempfile::TempDir;

fn folder(files: &[(&str, String)]) -> (TempDir, Arc<dyn Gate>) {
    let folder = TempDir::new().expect("a folder");
    for (name, content) in files {
        fs::write(folder.path().join(name), content).expect("a file");
    }
    let gate = builtin::search(Root::open(folder.path()).expect("a root"));
    (folder, gate)
}

/// Without a tokio runtime the work is done where it stands, and its steps are counted on this thread.
fn here(gate: &Arc<dyn Gate>, arguments: Value, context: &CallContext) -> (Result<Value, GateError>, u64) {
    steps::taken_by(|| {
        let mut future = gate.call(arguments, context);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        loop {
            // Other tests may have taken all places for a while.
            match future.as_mut().poll(&mut context) {
                std::task::Poll::Ready(result) => break result,
                std::task::Poll::Pending => std::thread::yield_now(),
            }
        }
    })
}

#[test]
fn a_pattern_of_too_many_states_is_refused() {
    let (_folder, gate) = folder(&[("a.txt", "text".to_owned())]);
    for pattern in ["(a{1000}){1000}", "((a{100}){100}){100}", "[01]{30000}", r"\pL{1000}"] {
        let (result, _) = here(&gate, json!({"pattern": pattern}), &CallContext::default());
        assert!(
            matches!(&result, Err(GateError::Invalid(why)) if why.contains("bytes when it is compiled")),
            "{result:?}"
        );
    }
    let bomb = format!("{}x", "{a,b}".repeat(200));
    let (result, _) = here(&gate, json!({"pattern": "x", "glob": bomb}), &CallContext::default());
    assert_eq!(result, Ok(json!([])));
}

#[test]
fn a_search_on_one_long_line_ends_when_its_time_is_over() {
    // Everything but one byte fits the pattern, so that every state is alive all the time.
    let (_folder, gate) = folder(&[("line.txt", "10".repeat(4_000_000))]);
    let context = CallContext { deadline: Some(Instant::now()), ..CallContext::default() };
    let (result, taken) = here(&gate, json!({"pattern": "1[01]{1000}2", "path": "line.txt"}), &context);
    assert!(matches!(&result, Err(GateError::TimedOut(_))), "{result:?}");
    assert!(taken < 100_000, "{taken} bytes were compared after the time was over");
}

#[test]
fn a_line_that_is_compared_in_pieces_is_named() {
    let line = "y".repeat(limits::SEARCH_PIECE_BYTES_MAX + 10);
    let (_folder, gate) = folder(&[
        ("a.txt", "short\n".to_owned()),
        ("b.txt", format!("x\n{line}\n{line}z\n")),
        ("c.txt", "z\n".to_owned()),
    ]);
    let (result, _) = here(&gate, json!({"pattern": "z$"}), &CallContext::default());
    let found = result.expect("a search");
    assert_eq!((&found[0]["line"], &found[1]["path"]), (&json!(3), &json!("c.txt")), "{found}");
    assert_eq!((&found[2]["path"], &found[2]["line"]), (&json!("b.txt"), &json!(2)), "{found}");
    assert!(found[2]["text"].as_str().is_some_and(|text| text.starts_with("[left out: 1 lines are longer than 65536")));
    let (result, _) = here(&gate, json!({"pattern": "short"}), &CallContext::default());
    assert_eq!(result.expect("a search").as_array().map(Vec::len), Some(2));
}

#[test]
fn a_search_takes_steps_in_proportion_to_the_files() {
    for (pattern, piece) in
        [("nowhere", "a line\n"), ("1[01]{20}2", "10"), ("x*y", "x"), ("(a|ab|abc)+d", "abc"), ("^$.", "\n")]
    {
        let steps_of = |count: usize| {
            let (_folder, gate) = folder(&[("a.txt", piece.repeat(count))]);
            here(&gate, json!({"pattern": pattern, "glob": "*.txt"}), &CallContext::default()).1
        };
        let (one, two) = (steps_of(50_000), steps_of(100_000));
        assert!(one > 0 && two * 2 <= one * 5, "{pattern}: {one} and {two} steps");
    }
}

#[test]
fn so_many_searches_run_at_once_and_the_rest_wait() {
    let (_folder, gate) = folder(&[("line.txt", "10".repeat(2_000_000))]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let ended = AtomicUsize::new(0);
    runtime.block_on(async {
        let context =
            CallContext { deadline: Some(Instant::now() + Duration::from_millis(300)), ..CallContext::default() };
        let calls = (0..limits::SEARCHES_AT_ONCE_MAX + 2).map(|_| async {
            let result = gate.call(json!({"pattern": "1[01]{1000}2"}), &context).await;
            assert!(matches!(result, Ok(_) | Err(GateError::TimedOut(_))), "{result:?}");
            ended.fetch_add(1, Ordering::Relaxed);
        });
        let mut calls: Vec<_> = calls.map(Box::pin).collect();
        std::future::poll_fn(|context| {
            calls.retain_mut(|call| call.as_mut().poll(context).is_pending());
            if calls.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    });
    assert_eq!(ended.into_inner(), limits::SEARCHES_AT_ONCE_MAX + 2);
}
