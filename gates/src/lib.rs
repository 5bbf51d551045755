//! The gates of a cantrip's circle, their vocabulary, and the ward algebra.
//!
//! Owns what a gate is ([`Gate`], [`GateSpec`], [`GateError`]), how its arguments are checked ([`ArgumentCheck`]), the
//! built-in gates ([`builtin`]), the wards ([`Wards`]) and the redaction of secrets ([`redact`]). It knows nothing of
//! loops, models, media or looms, and runs without any of them.
//!
//! Rules kept here: CIRCLE-4 and CIRCLE-5 (a call's result, and its failure as [`GateError`], is a value the entity
//! sees), CIRCLE-8 (`done` returns its argument), CIRCLE-10 (dependencies are fixed at construction), WARD-1 and WARD-2
//! (composition only narrows, for every ward).

mod arguments;
mod blocking;
mod bounded;
pub mod builtin;
mod clock;
mod describe;
mod error;
mod exposing;
mod files;
mod gate;
mod hosts;
mod http;
pub mod limits;
mod name;
mod redact;
mod schema;
mod set;
mod spec;
pub mod steps;
pub mod suggest;
mod wards;

pub use crate::limits::{
    COMPONENT_BYTES_MAX, GATE_NAME_CHARS_MAX, HOST_PATTERNS_MAX, OUTPUT_BYTES_MAX_DEFAULT, PATH_BYTES_MAX,
    WARD_ENTRIES_MAX,
};
pub use arguments::{ArgumentCheck, SpecError};
pub use error::{GateError, Truncation};
pub use exposing::exposing;
pub use files::{PROTECTED_NAMES, ProtectedNameError, Root, RootError};
pub use gate::{CallContext, FunctionGate, Gate, GateFuture};
pub use hosts::{HostPatternError, HostPatterns};
pub use http::{Headers, HttpPolicy, HttpPolicyError, PrivateAddress, PrivateAddressError};
pub use name::{GateName, GateNameError};
pub use redact::{redact, redact_counted, redact_json, redact_start};
pub use schema::{SchemaError, SchemaRoom};
pub use set::{GateSet, GateSetError};
pub use spec::{Exposure, GateSpec, Reach};
pub use wards::{ResolvedWards, WardError, WardValue, Wards};
