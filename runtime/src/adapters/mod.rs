//! The foreign worlds, one folder each. They never name each other; what they share is in the ports, and in `private`: the modes and
//! owners of our own files.

pub mod clock;
pub mod llm;
pub mod peer;
pub mod private;
pub mod store;
pub mod wasm;
