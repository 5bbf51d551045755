//! `done` and `echo`: gates that return what they are given.

use serde_json::{Value, json};

use super::specs::named;
use crate::arguments::Arguments;
use crate::error::GateError;
use crate::gate::{CallContext, Gate, GateFuture};
use crate::spec::{Exposure, GateSpec, Reach};

pub(super) fn done_spec() -> GateSpec {
    GateSpec {
        name: named("done"),
        description: "Ends the task. `answer` is the result: any value.".to_owned(),
        parameters: json!({
            "type": "object",
            "properties": {"answer": {"description": "the result of the task"}},
            "required": ["answer"],
            "additionalProperties": false,
        }),
        positional: vec!["answer".to_owned()],
        reach: Reach::Read,
        exposure: Exposure::default(),
        ephemeral: false,
    }
}

pub(super) fn echo_spec() -> GateSpec {
    GateSpec {
        name: named("echo"),
        description: "Returns `text` unchanged.".to_owned(),
        parameters: json!({
            "type": "object",
            "properties": {"text": {"type": "string"}},
            "required": ["text"],
            "additionalProperties": false,
        }),
        positional: vec!["text".to_owned()],
        reach: Reach::Read,
        exposure: Exposure::default(),
        ephemeral: false,
    }
}

/// A gate that returns one of its arguments.
#[derive(Debug)]
pub(super) struct Returns {
    gate: &'static str,
    argument: &'static str,
    spec: GateSpec,
}

impl Returns {
    pub(super) fn answer() -> Self {
        Self { gate: "done", argument: "answer", spec: done_spec() }
    }

    pub(super) fn text() -> Self {
        Self { gate: "echo", argument: "text", spec: echo_spec() }
    }
}

impl Gate for Returns {
    fn spec(&self) -> &GateSpec {
        &self.spec
    }

    fn call<'a>(&'a self, arguments: Value, _context: &'a CallContext) -> GateFuture<'a> {
        let result: Result<Value, GateError> =
            Arguments::new(self.gate, arguments).and_then(|mut arguments| arguments.required(self.argument));
        Box::pin(std::future::ready(result))
    }
}
