//! What a gate is: a declaration and an asynchronous call.
//!
//! Owns the trait, the context of one call, and the gate an embedder writes as a closure. A gate holds its dependencies
//! from construction on (CIRCLE-10); a call brings arguments and bounds and never a capability. Whether the arguments
//! fit the schema is checked by [`crate::ArgumentCheck`] before the call.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use serde_json::Value;

use crate::error::GateError;
use crate::hosts::HostPatterns;
use crate::limits::OUTPUT_BYTES_MAX_DEFAULT;
use crate::spec::GateSpec;

/// The future a gate's call returns.
pub type GateFuture<'a> = Pin<Box<dyn Future<Output = Result<Value, GateError>> + Send + 'a>>;

/// A host function that crosses the boundary of a circle.
pub trait Gate: Send + Sync + fmt::Debug {
    /// What the gate says about itself. The same for every call.
    fn spec(&self) -> &GateSpec;

    /// Runs one call. What the entity is told, success or failure, is the value returned (CIRCLE-4, CIRCLE-5).
    fn call<'a>(&'a self, arguments: Value, context: &'a CallContext) -> GateFuture<'a>;
}

/// The bounds of one call. They only narrow what the gate was constructed with.
#[derive(Debug, Clone, PartialEq)]
pub struct CallContext {
    /// When the call must have ended. `None`: the gate's own time bound alone.
    pub deadline: Option<Instant>,
    /// The `allow_hosts` ward: hosts a call may reach, if its gate may too. `None`: the gate's own hosts alone.
    pub allow_hosts: Option<HostPatterns>,
    /// Most bytes of text the result may hold.
    pub output_bytes_max: u64,
}

impl Default for CallContext {
    fn default() -> Self {
        Self { deadline: None, allow_hosts: None, output_bytes_max: OUTPUT_BYTES_MAX_DEFAULT }
    }
}

type BoxedFunction = Box<dyn Fn(Value) -> GateFuture<'static> + Send + Sync>;

/// A gate made of a declaration and an asynchronous closure: how an embedder writes one.
///
/// ```
/// use cantrip_gates::{Exposure, FunctionGate, GateName, GateSpec, Reach};
/// use serde_json::{Value, json};
///
/// let spec = GateSpec {
///     name: GateName::parse("double")?,
///     description: "Doubles a number.".into(),
///     parameters: json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}),
///     positional: vec!["n".into()],
///     reach: Reach::Read,
///     exposure: Exposure::default(),
///     ephemeral: false,
/// };
/// let gate = FunctionGate::new(spec, |arguments: Value| async move {
///     Ok(json!(arguments["n"].as_i64().unwrap_or(0) * 2))
/// });
/// # let _ = gate;
/// # Ok::<(), cantrip_gates::GateNameError>(())
/// ```
pub struct FunctionGate {
    spec: GateSpec,
    function: BoxedFunction,
}

impl FunctionGate {
    /// A gate that answers with what `function` returns.
    pub fn new<F, R>(spec: GateSpec, function: F) -> Self
    where
        F: Fn(Value) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Value, GateError>> + Send + 'static,
    {
        Self { spec, function: Box::new(move |arguments| Box::pin(function(arguments))) }
    }
}

impl fmt::Debug for FunctionGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FunctionGate").field("name", &self.spec.name).finish_non_exhaustive()
    }
}

impl Gate for FunctionGate {
    fn spec(&self) -> &GateSpec {
        &self.spec
    }

    fn call<'a>(&'a self, arguments: Value, _context: &'a CallContext) -> GateFuture<'a> {
        (self.function)(arguments)
    }
}
