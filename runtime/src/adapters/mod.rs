//! The foreign worlds, one folder each. They never name each other; what they share is in the ports, in `private`: the modes and
//! owners of our own files, in `reading`: how much of a file is read, and in `x509`: what certificates say, without time.

pub mod clock;
pub mod llm;
pub mod peer;
pub mod private;
pub mod reading;
pub mod store;
pub mod wasm;
pub mod x509;
