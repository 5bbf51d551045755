//! What the integration tests share: running a future, and a gate's answer as text.

use std::future::Future;
use std::sync::Arc;

use cantrip_gates::{ArgumentCheck, CallContext, Gate, GateError};
use serde_json::Value;

/// Runs a future to its end on this thread.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

/// Checks the arguments and calls the gate, as the runtime does.
pub(crate) fn call(gate: &Arc<dyn Gate>, arguments: Value) -> Result<Value, GateError> {
    call_within(gate, arguments, &CallContext::default())
}

pub(crate) fn call_within(gate: &Arc<dyn Gate>, arguments: Value, context: &CallContext) -> Result<Value, GateError> {
    let check = ArgumentCheck::new(gate.spec()).expect("a usable declaration");
    check.check(&arguments)?;
    run(gate.call(arguments, context))
}

/// Asserts an error's kind and a part of its message.
pub(crate) fn check_error(result: Result<Value, GateError>, kind: &str, part: &str) {
    let error = result.expect_err("the call should have failed");
    assert!(
        error.kind() == kind && error.message().contains(part),
        "expected {kind} with `{part}`, got {}: {error}",
        error.kind()
    );
}
