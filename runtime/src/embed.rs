//! For programs that cast cantrips themselves.

use std::path::Path;
use std::sync::Arc;

use thiserror::Error;

use crate::adapters::clock::SystemClock;
use crate::adapters::store::{FjallStore, MemoryStore, StoreOptions};
use crate::adapters::wasm::{Guests, Javascript, Sandbox, SandboxError};
use crate::domain::ids::WriterKey;
use crate::domain::limits::INSTANCES_MAX_DEFAULT;
use crate::domain::medium::MediumOpening;
use crate::driver::Runtime;
use crate::ports::{BoxFuture, Medium, MediumFactory, MediumFault, StoreError};

/// Why no runtime could be made.
#[derive(Debug, Error)]
pub enum EmbedError {
    /// No sandbox.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// No record.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A runtime whose looms are kept in a folder, durably. One process at a time may have it.
///
/// # Errors
/// A folder that cannot be used, is in use, or whose record is damaged; too little address space for the sandbox.
pub fn durable(folder: &Path) -> Result<Runtime, EmbedError> {
    durable_with_guests(folder).map(|(runtime, _)| runtime)
}

/// The same, and what reads components for it: cantrips and media that somebody wrote.
///
/// # Errors
/// As [`durable`].
///
/// # Examples
/// ```
/// use cantrip_runtime::{Cantrip, CastOptions, Root, Wards, builtin, embed};
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let folder = tempfile::tempdir()?;
/// let (runtime, guests) = embed::durable_with_guests(folder.path())?;
/// let reader = guests.load("reader", std::fs::read("../examples/reader/reader.wasm")?)?;
/// let cantrip = Cantrip::builder()
///     .guest(reader)
///     .gate(builtin::read_file(Root::open("..".as_ref())?))
///     .gate(builtin::done())
///     .wards(&Wards { max_turns: Some(1), ..Wards::default() })
///     .build(runtime.media())?;
/// let outcome = runtime.cast(&cantrip, "Read README.md", CastOptions::default()).await?;
/// assert!(outcome.result.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn durable_with_guests(folder: &Path) -> Result<(Runtime, Guests), EmbedError> {
    let sandbox = Sandbox::new(INSTANCES_MAX_DEFAULT, Some(folder.join("artefacts")))?;
    let store = FjallStore::open(&folder.join("loom"), StoreOptions::default())?;
    let media = Arc::new(Javascript::new(Arc::clone(&sandbox)));
    Ok((Runtime::new(store, media, Arc::new(SystemClock::default()), "local"), Guests::new(sandbox)))
}

/// A runtime whose looms are gone with it. `artefacts` is a folder for compiled code; without one, the first entity that
/// works in code waits about a second.
///
/// # Errors
/// Too little address space for the sandbox.
pub fn in_memory(artefacts: Option<&Path>) -> Result<Runtime, EmbedError> {
    let sandbox = Sandbox::new(INSTANCES_MAX_DEFAULT, artefacts.map(Path::to_owned))?;
    let store = MemoryStore::new(WriterKey::from_bytes([0; 32]));
    Ok(Runtime::new(store, Arc::new(Javascript::new(sandbox)), Arc::new(SystemClock::default()), "local"))
}

/// A host without code media: entities converse and call gates.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoMedia;

impl MediumFactory for NoMedia {
    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn digest(&self, _medium: &str) -> Option<String> {
        None
    }

    fn open<'a>(&'a self, opening: &'a MediumOpening) -> BoxFuture<'a, Result<Box<dyn Medium>, MediumFault>> {
        let name = opening.medium.clone();
        Box::pin(async move { Err(MediumFault::Unknown { name, known: "conversation".to_owned() }) })
    }
}
