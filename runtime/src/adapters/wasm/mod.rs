//! The sandbox: everything that runs code nobody vouches for is in here, and only this folder knows wasmtime.
//!
//! Owns the engine's settings, the compiled artefacts, the instances and their limits. Lets nothing through but the
//! imports of `host`. Never calls a gate: a guest's call is handed up and waits.

mod artefacts;
mod config;
mod engine;
mod exchange;
mod guest;
mod host;
mod javascript;
mod trapped;

pub use crate::domain::limits::{GUEST_BYTES_MAX, GUEST_NAME_CHARS_MAX, INSTANCES_MAX_DEFAULT, MEMORY_BYTES_MAX};
pub use artefacts::ArtefactError;
pub use engine::{Sandbox, SandboxError};
pub use guest::{Floor, GuestError, Guests, Shelf, ShelfError, Shelved, read_guest_file};
pub use javascript::{JAVASCRIPT, Javascript};
