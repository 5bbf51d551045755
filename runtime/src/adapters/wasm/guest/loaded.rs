//! Guests that were read, and what instances of them are made of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use wasmtime::component::{Component, InstancePre, Linker};

use crate::domain::guest::{Manifest, Need, need};
use crate::domain::limits::{GUEST_INSTANCES_MAX, MEMORY_BYTES_MAX};
use crate::domain::medium::MediumOpening;
use crate::ports::{BoxFuture, Guest, Medium, MediumFault};

use super::super::artefacts;
use super::super::engine::{Sandbox, Use};
use super::imports;
use super::instance::{GuestMedium, Maker};
use super::manifest::{self, GuestError};
use super::state::State;

/// Reads guests for one sandbox.
#[derive(Debug, Clone)]
pub struct Guests {
    sandbox: Arc<Sandbox>,
}

impl Guests {
    /// On a sandbox. Reads nothing yet.
    pub const fn new(sandbox: Arc<Sandbox>) -> Self {
        Self { sandbox }
    }

    /// What some bytes say about themselves, all of them validated; nothing is compiled.
    ///
    /// # Errors
    /// Bytes that are no guest.
    pub fn inspect(name: &str, bytes: &[u8]) -> Result<Manifest, GuestError> {
        manifest::read(name, bytes)
    }

    /// Reads a guest. It is compiled when its first instance is made, or by [`Guests::compile`].
    ///
    /// # Errors
    /// Bytes that are no guest.
    pub fn load(&self, name: &str, bytes: Vec<u8>) -> Result<Arc<dyn Guest>, GuestError> {
        Ok(Arc::new(self.loaded(name, bytes)?))
    }

    /// Compiles a guest, or finds it compiled, so that its first cast need not wait for that.
    ///
    /// # Errors
    /// Bytes that are no guest, or that the engine does not take.
    pub fn compile(&self, name: &str, bytes: Vec<u8>) -> Result<Manifest, GuestError> {
        let guest = self.loaded(name, bytes)?;
        guest.component(false)?;
        Ok(guest.manifest)
    }

    fn loaded(&self, name: &str, bytes: Vec<u8>) -> Result<LoadedGuest, GuestError> {
        Ok(LoadedGuest {
            manifest: manifest::read(name, &bytes)?,
            sandbox: Arc::clone(&self.sandbox),
            bytes,
            plain: OnceLock::new(),
            metered: OnceLock::new(),
            ready: Mutex::default(),
        })
    }
}

/// By the gates that are linked, and whether instructions are metered.
type Ready = BTreeMap<(BTreeSet<String>, bool), InstancePre<State>>;

/// One guest.
struct LoadedGuest {
    manifest: Manifest,
    sandbox: Arc<Sandbox>,
    bytes: Vec<u8>,
    plain: OnceLock<Component>,
    metered: OnceLock<Component>,
    /// What instances are made of.
    ready: Mutex<Ready>,
}

impl std::fmt::Debug for LoadedGuest {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("LoadedGuest").field("manifest", &self.manifest).finish_non_exhaustive()
    }
}

impl LoadedGuest {
    fn component(&self, metered: bool) -> Result<&Component, GuestError> {
        let cell = if metered { &self.metered } else { &self.plain };
        if let Some(component) = cell.get() {
            return Ok(component);
        }
        let compile = |error: Box<dyn std::error::Error + Send + Sync>| GuestError::Compile(error);
        let engine = self.sandbox.engine(Use::Guests, metered).map_err(|error| compile(error.into()))?;
        let component = artefacts::component(engine, &self.bytes, self.sandbox.artefacts.as_deref())
            .map_err(|error| compile(error.into()))?;
        Ok(cell.get_or_init(|| component))
    }

    fn linked(&self, opening: &MediumOpening) -> Result<InstancePre<State>, Box<dyn std::error::Error + Send + Sync>> {
        let component = self.component(opening.metered)?;
        // Of the gates that are held, only those that it imports make a difference.
        let held: BTreeSet<String> =
            opening.gates.iter().filter(|gate| self.manifest.gates().contains(gate.as_str())).cloned().collect();
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pre) = ready.get(&(held.clone(), opening.metered)) {
            return Ok(pre.clone());
        }
        let mut linker = Linker::new(component.engine());
        imports::link(&mut linker, &held)?;
        let pre = linker.instantiate_pre(component)?;
        ready.insert((held, opening.metered), pre.clone());
        Ok(pre)
    }

    fn maker(&self, opening: &MediumOpening) -> Result<Maker, MediumFault> {
        let broken = |source: Box<dyn std::error::Error + Send + Sync>| MediumFault::Broken {
            name: self.manifest.name.clone(),
            source,
        };
        Ok(Maker {
            pre: self.linked(opening).map_err(broken)?,
            shape: self.manifest.shape,
            gates: opening.gates.clone().into(),
            memory_bytes_max: opening.memory_bytes_max.min(MEMORY_BYTES_MAX),
            instances_max: GUEST_INSTANCES_MAX,
            metered: opening.metered,
        })
    }
}

impl Guest for LoadedGuest {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn prepare(&self, opening: &MediumOpening) -> Result<(), MediumFault> {
        self.maker(opening).map(|_| ())
    }

    fn open<'a>(&'a self, opening: &'a MediumOpening) -> BoxFuture<'a, Result<Box<dyn Medium>, MediumFault>> {
        // Refused above already; a guest that came here by another way is refused here.
        let unknown = self.manifest.imports.iter().find(|import| {
            matches!(need(&import.interface, import.functions.first().map_or("", String::as_str)), Need::Never(_))
        });
        let refused = unknown.map(|import| MediumFault::Broken {
            name: self.manifest.name.clone(),
            source: format!("it imports {}, which no guest is given", import.interface).into(),
        });
        Box::pin(async move {
            if let Some(refused) = refused {
                return Err(refused);
            }
            let maker = self.maker(opening)?;
            Ok(Box::new(GuestMedium::new(maker)) as Box<dyn Medium>)
        })
    }
}
