//! The foreign worlds, one folder each. They never name each other; what they share is in the ports.

pub mod clock;
pub mod llm;
pub mod peer;
pub mod store;
pub mod wasm;
