//! What the engine costs with nothing of ours around it: the floors that `benches/guests.rs` compares with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::Store;
use wasmtime::component::{Component, Linker};

use super::super::engine::{Sandbox, Use};
use super::bindings::cantrip::guest::types::Error;
use super::manifest::GuestError;

/// The engine alone.
#[derive(Debug, Clone)]
pub struct Floor {
    sandbox: Arc<Sandbox>,
}

fn refused(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> GuestError {
    GuestError::Compile(error.into())
}

impl Floor {
    /// On the sandbox that is measured.
    pub const fn new(sandbox: Arc<Sandbox>) -> Self {
        Self { sandbox }
    }

    fn compiled(&self, bytes: &[u8]) -> Result<Component, GuestError> {
        let engine = self.sandbox.engine(Use::Guests, false).map_err(refused)?;
        Component::from_binary(engine, bytes).map_err(refused)
    }

    /// How long the compiler takes.
    ///
    /// # Errors
    /// A component that the engine does not take.
    pub fn compile(&self, bytes: &[u8]) -> Result<Duration, GuestError> {
        let start = Instant::now();
        self.compiled(bytes)?;
        Ok(start.elapsed())
    }

    /// The median time of an instance that is made, whose `run` is called once, and that is dropped. The component imports
    /// at most `gates`, each call of which is answered where it stands.
    ///
    /// # Errors
    /// A component that the engine does not take, or that breaks down.
    pub async fn run(&self, bytes: &[u8], intent: &str, times: usize) -> Result<Duration, GuestError> {
        let component = self.compiled(bytes)?;
        let mut linker: Linker<()> = Linker::new(component.engine());
        linker
            .instance("cantrip:guest/gates@0.1.0")
            .and_then(|mut gates| {
                gates.func_wrap("names", |_, (): ()| Ok((Vec::<String>::new(),)))?;
                gates.func_wrap_async("call", |_, (_, arguments): (String, String)| {
                    Box::new(async move { Ok((Ok::<String, Error>(arguments),)) })
                })
            })
            .map_err(refused)?;
        // The types of the package hold nothing that runs.
        linker.instance("cantrip:guest/types@0.1.0").map_err(refused)?;
        let pre = linker.instantiate_pre(&component).map_err(refused)?;
        let mut measured = Vec::with_capacity(times);
        for _ in 0..times {
            let start = Instant::now();
            let mut store = Store::new(component.engine(), ());
            store.set_epoch_deadline(u64::MAX / 2);
            let instance = pre.instantiate_async(&mut store).await.map_err(refused)?;
            let run =
                instance.get_typed_func::<(&str,), (Result<String, Error>,)>(&mut store, "run").map_err(refused)?;
            let _answer = run.call_async(&mut store, (intent,)).await.map_err(refused)?;
            drop(store);
            measured.push(start.elapsed());
        }
        measured.sort_unstable();
        Ok(measured.get(times / 2).copied().unwrap_or_default())
    }
}
