//! Runs agents whose every action crosses a WebAssembly sandbox, and records what they do in a durable, forkable,
//! verifiable tree.
//!
//! The public face is small: make a [`Runtime`] (see [`embed`]), build a [`Cantrip`], and [`Runtime::cast`] it.
//! `examples/embed` does that with a gate of its own.

pub mod adapters;
pub mod cli;
pub mod conform;
pub mod domain;
pub mod driver;
pub mod embed;
pub mod export;
#[cfg(test)]
#[expect(clippy::print_stdout, reason = "a fuzz target tells what it saw")]
#[path = "../../tests/fuzz/targets.rs"]
mod fuzz_targets;
pub mod ports;

pub use cantrip_gates::{
    CallContext, Exposure, FunctionGate, Gate, GateError, GateName, GateSet, GateSpec, HttpPolicy, Reach, Root, Wards,
    builtin,
};
pub use domain::event::{Event, EventKind};
pub use domain::loom::{How, Tree, Turn};
pub use domain::outcome::Outcome;
pub use driver::{
    AmendError, Amendment, Cantrip, CantripBuilder, CantripError, CastError, CastOptions, ChildModels, Control, Fault,
    Runtime, Summoned,
};
pub use embed::NoMedia;
pub use ports::{Llm, Observer};
