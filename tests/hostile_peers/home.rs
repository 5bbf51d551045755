//! A caller that looks at what comes, records it, and answers nothing.

use std::sync::Arc;

use cantrip_runtime::adapters::store::MemoryStore;
use cantrip_runtime::domain::loom::Sealed;
use cantrip_runtime::domain::model::{ModelError, Question, RawAnswer};
use cantrip_runtime::ports::{BoxFuture, Home, HomeError, LoomStore, Pieces, Signal};
use cantrip_runtime::{Event, GateError};
use serde_json::Value;

/// A caller that records what comes, or not even that.
pub(crate) struct Looking(pub(crate) Option<Arc<MemoryStore>>);

impl Home for Looking {
    fn named(
        &self,
        _: cantrip_runtime::domain::ids::LoomId,
        _: cantrip_runtime::domain::ids::EntityId,
    ) -> Result<(), HomeError> {
        Ok(())
    }

    fn receive(&self, sealed: Sealed) -> Result<(), HomeError> {
        if let Some(store) = &self.0 {
            store.receive(sealed)?;
        }
        Ok(())
    }

    fn sync(&self) -> BoxFuture<'_, Result<(), HomeError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn is_watched(&self) -> bool {
        false
    }

    fn event(&self, _: Event) {}

    fn gate<'a>(&'a self, gate: &'a str, _: Value) -> BoxFuture<'a, Result<Value, GateError>> {
        Box::pin(async move { Err(GateError::NotFound(gate.to_owned())) })
    }

    fn ask<'a>(&'a self, _: &'a Question, _: &'a dyn Pieces) -> BoxFuture<'a, Result<RawAnswer, ModelError>> {
        Box::pin(async { Err(ModelError::Setup { message: "nobody".to_owned() }) })
    }

    fn guest<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Option<Vec<u8>>> {
        Box::pin(std::future::ready(None))
    }

    fn signal(&self) -> BoxFuture<'_, Signal> {
        Box::pin(std::future::pending())
    }
}
