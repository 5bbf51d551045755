//! A caller that looks at what comes, records it, and answers nothing.

use std::sync::{Arc, Mutex};

use cantrip_runtime::adapters::store::MemoryStore;
use cantrip_runtime::domain::ids::{EntityId, LoomId};
use cantrip_runtime::domain::loom::{CastHead, CastStream, Sealed};
use cantrip_runtime::domain::model::{ModelError, Question, RawAnswer};
use cantrip_runtime::ports::{BoxFuture, Home, HomeError, LoomStore, Pieces, Signal};
use cantrip_runtime::{Event, GateError};
use serde_json::Value;

/// What came and is under no head yet, and how far what came before is.
type Came = Mutex<(Vec<Sealed>, CastStream)>;

/// A caller that records what comes, or not even that.
pub(crate) struct Looking(Option<(Arc<MemoryStore>, Came)>);

impl Looking {
    /// For a cast of this entity.
    pub(crate) fn new(store: Option<Arc<MemoryStore>>, loom: LoomId, entity: EntityId) -> Self {
        Self(store.map(|store| {
            let mut stream = CastStream::new(loom, LoomStore::writer(&*store), entity);
            let restored = store.steps_received(loom, &mut |entries, heads| {
                stream.restore(&entries, &heads);
                Ok(())
            });
            restored.unwrap();
            (store, Mutex::new((Vec::new(), stream)))
        }))
    }
}

impl Home for Looking {
    fn named(&self, _: LoomId, _: EntityId) -> Result<(), HomeError> {
        Ok(())
    }

    fn connected(&self) {
        if let Some((_, came)) = &self.0 {
            let mut came = came.lock().unwrap();
            came.0.clear();
            came.1.connected();
        }
    }

    fn receive(&self, sealed: Sealed) -> Result<(), HomeError> {
        if let Some((_, came)) = &self.0 {
            came.lock().unwrap().0.push(sealed);
        }
        Ok(())
    }

    fn cover(&self, heads: Vec<CastHead>) -> Result<(), HomeError> {
        if let Some((store, came)) = &self.0 {
            let mut came = came.lock().unwrap();
            let waiting = std::mem::take(&mut came.0);
            let checked = came.1.check(waiting, heads).map_err(|error| HomeError::Refused(error.to_string()))?;
            store.receive(checked)?;
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
