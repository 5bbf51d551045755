//! The engines and the clock that ticks them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use thiserror::Error;
use wasmtime::Engine;

use super::config;

/// 1 ms. How late a stop can be; the ticker costs less than 0.1 % of a core.
const TICK: Duration = Duration::from_millis(1);

/// Why there is no sandbox on this machine.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// The engine could not be made.
    #[error("the sandbox could not reserve address space for {instances} instances; try fewer")]
    Engine {
        /// How many were asked for.
        instances: u32,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The ticker's thread could not be started.
    #[error("the thread that stops runaway code could not be started")]
    Ticker(#[source] std::io::Error),
}

/// What an engine is for. Each use has its own pool, so that a crowd of guests takes no place from the interpreters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// The built-in media.
    Interpreters,
    /// Components that somebody wrote.
    Guests,
}

/// Engines, ticked as long as it lives.
#[derive(Debug)]
pub struct Sandbox {
    plain: Ticked,
    metered: OnceLock<Ticked>,
    guests: OnceLock<Ticked>,
    metered_guests: OnceLock<Ticked>,
    pub(super) instances_max: u32,
    pub(super) artefacts: Option<PathBuf>,
}

/// An engine with its ticker. There is no engine without one.
#[derive(Debug)]
struct Ticked {
    engine: Engine,
    stop: Arc<AtomicBool>,
}

impl Ticked {
    fn new(what: Use, instances_max: u32, metered: bool) -> Result<Self, SandboxError> {
        let config = match what {
            Use::Interpreters => config::interpreters(instances_max, metered),
            Use::Guests => config::guests(metered),
        };
        let engine = Engine::new(&config)
            .map_err(|error| SandboxError::Engine { instances: instances_max, source: error.into() })?;
        let stop = Arc::new(AtomicBool::new(false));
        let (weak, stopped) = (engine.weak(), Arc::clone(&stop));
        std::thread::Builder::new()
            .name("epoch-ticker".to_owned())
            .spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    std::thread::sleep(TICK);
                    match weak.upgrade() {
                        Some(engine) => engine.increment_epoch(),
                        None => return,
                    }
                }
            })
            .map_err(SandboxError::Ticker)?;
        Ok(Self { engine, stop })
    }
}

impl Drop for Ticked {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Sandbox {
    /// A sandbox for so many live instances. `artefacts` is the folder for compiled code, which only this runtime may
    /// write; without one, code is compiled anew in each process.
    ///
    /// # Errors
    /// Too little address space, or no thread for the ticker.
    pub fn new(instances_max: u32, artefacts: Option<PathBuf>) -> Result<Arc<Self>, SandboxError> {
        Ok(Arc::new(Self {
            plain: Ticked::new(Use::Interpreters, instances_max, false)?,
            metered: OnceLock::new(),
            guests: OnceLock::new(),
            metered_guests: OnceLock::new(),
            instances_max,
            artefacts,
        }))
    }

    pub(super) fn engine(&self, what: Use, metered: bool) -> Result<&Engine, SandboxError> {
        let cell = match (what, metered) {
            (Use::Interpreters, false) => return Ok(&self.plain.engine),
            (Use::Interpreters, true) => &self.metered,
            (Use::Guests, false) => &self.guests,
            (Use::Guests, true) => &self.metered_guests,
        };
        if let Some(ticked) = cell.get() {
            return Ok(&ticked.engine);
        }
        let fresh = Ticked::new(what, self.instances_max, metered)?;
        Ok(&cell.get_or_init(|| fresh).engine)
    }
}
