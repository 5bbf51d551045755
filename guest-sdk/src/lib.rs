//! Write cantrips as WebAssembly components.
//!
//! A guest is a function: it is given an intent, calls gates, and returns an answer. The runtime runs it in a sandbox with
//! exactly the gates that its circle grants, and records everything it does. What it imports is its own statement of what
//! it needs: a guest that never names [`http_fetch`] cannot reach the network, whoever wrote it.
//!
//! ```
//! use cantrip_guest::{Error, read_file, testing::Gates};
//!
//! #[cantrip_guest::main]
//! fn run(path: &str) -> Result<String, Error> {
//!     let text = read_file::read(path)?;
//!     text.split("\n\n").next().map(str::to_owned).ok_or_else(|| Error::failed("the file is empty"))
//! }
//!
//! // A test needs no WebAssembly: it gives the function the gates that it would be given.
//! let ran = Gates::new().file("README.md", "First.\n\nSecond.").run(|| run("README.md"));
//! assert_eq!(ran.result.unwrap(), "First.");
//! assert_eq!(ran.calls[0].gate, "read_file");
//! ```
//!
//! `cantrip-runtime new my-reader --lang rust` makes a project of this kind, `cantrip-runtime build my-reader` a component.
//! The cantrip file says what it may do:
//!
//! ```toml
//! [guest]
//! component = "my-reader.wasm"
//! [circle]
//! gates = ["read_file", "done"]
//! [circle.wards]
//! max_turns = 1
//! [gate.read_file]
//! root = "docs"
//! ```
//!
//! Time and randomness come from the host and are the same when a recorded run is repeated; what is printed is shown in the
//! record, up to the ward `max_output_bytes`.
#![deny(missing_docs)]

extern crate self as cantrip_guest;

mod error;
mod gates_by_name;
mod turn;

pub mod call_entity;
pub mod cast;
pub mod done;
pub mod http_fetch;
pub mod list_dir;
pub mod llm;
pub mod log;
pub mod loom;
pub mod read_file;
pub mod search;
pub mod write_file;

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
#[cfg(target_family = "wasm")]
mod wasm;

#[cfg(not(target_family = "wasm"))]
use native as host;
#[cfg(target_family = "wasm")]
use wasm as host;

/// Gates by their name: those that an embedder has added, and the built-in ones without types.
pub mod gates {
    pub use crate::gates_by_name::{call, names};
}

/// Makes a function the guest: world `cantrip`.
///
/// It takes the intent as `&str` or `String`, or as any type of serde's that is then read from JSON; or nothing. It returns
/// `Result<T, E>`, where serde can write `T` as JSON, and `E` is an [`Error`] or becomes one. What it returns is the answer,
/// unless [`done::done`] was called before.
///
/// ```
/// #[derive(serde::Deserialize)]
/// struct Sum { left: i64, right: i64 }
///
/// #[cantrip_guest::main]
/// fn run(sum: Sum) -> Result<i64, cantrip_guest::Error> {
///     sum.left.checked_add(sum.right).ok_or_else(|| "the sum is too large".into())
/// }
/// ```
pub use cantrip_guest_macros::main;

/// Makes a function the guest's step: world `steps`. Each call is a turn, recorded before the next begins and counted by the
/// ward `max_turns`. What it keeps in statics stays from turn to turn.
///
/// ```
/// use cantrip_guest::{Error, Progress, Turn};
///
/// #[cantrip_guest::steps]
/// fn step(turn: Turn) -> Result<Progress<u64>, Error> {
///     let last: u64 = turn.intent.parse()?;
///     Ok(if turn.number < last { Progress::More } else { Progress::Finished(turn.number) })
/// }
/// ```
pub use cantrip_guest_macros::steps;

pub use error::Error;
pub use turn::{Progress, Turn};

/// What the attributes expand to.
#[doc(hidden)]
#[cfg(target_family = "wasm")]
pub use wasm::private as __private;
