//! What is bounded, counted and kept of one instance of a guest.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cantrip_gates::GateError;
use serde_json::Value;
use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::cli::WasiCliCtx;
use wasmtime_wasi::filesystem::WasiFilesystemCtx;

use crate::domain::limits::{
    CALLED_NAME_BYTES_MAX, GUEST_AFTER_DONE_MS_MAX, GUEST_PARTS_MAX, GUEST_RESOURCES_MAX, GUEST_TABLE_ELEMENTS_MAX,
};
use crate::domain::medium::{CallArguments, Evaluation, GateAnswer, StopFlag};

use super::super::exchange::SharedExchange;

/// 1 µs. Each look at the clock moves it on, so that a loop that waits for time to pass ends.
const CLOCK_STEP_NS: u64 = 1_000;

/// The guest's clock, and when its run has to end. Shared with what it sleeps on.
#[derive(Debug, Clone, Default)]
pub(super) struct Timing(Arc<Mutex<Times>>);

#[derive(Debug, Default)]
struct Times {
    clock_ns: u64,
    until: Option<Instant>,
    stop: StopFlag,
    /// How many answers of gates still come from the record. Until the last of them nobody waits for time to pass.
    recorded: u64,
}

impl Timing {
    fn with<T>(&self, work: impl FnOnce(&mut Times) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The guest's clock, moved on by the look at it.
    pub(super) fn look_ns(&self) -> u64 {
        self.with(|times| {
            times.clock_ns = times.clock_ns.saturating_add(CLOCK_STEP_NS);
            times.clock_ns
        })
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.with(|times| times.clock_ns)
    }

    pub(super) fn move_to_ns(&self, clock_ns: u64) {
        self.with(|times| times.clock_ns = times.clock_ns.max(clock_ns));
    }

    /// Whether the guest has to be stopped now.
    pub(super) fn is_over(&self) -> bool {
        self.with(|times| times.stop.is_set() || times.until.is_some_and(|until| Instant::now() >= until))
    }

    pub(super) fn is_replay(&self) -> bool {
        self.with(|times| times.recorded > 0)
    }

    pub(super) fn was_stopped(&self) -> bool {
        self.with(|times| times.stop.is_set())
    }

    pub(super) fn until(&self) -> Option<Instant> {
        self.with(|times| times.until)
    }

    fn begin(&self, evaluation: &Evaluation) {
        self.with(|times| {
            *times = Times {
                clock_ns: evaluation.clock_us.saturating_mul(1_000),
                until: Instant::now().checked_add(evaluation.time_max),
                stop: evaluation.stop.clone(),
                recorded: evaluation.recorded,
            };
        });
    }

    /// The time in a gate is not the guest's, and its clock never goes back.
    fn go_on(&self, waited: Duration, clock_us: u64) {
        self.with(|times| {
            times.clock_ns = times.clock_ns.max(clock_us.saturating_mul(1_000));
            times.until = times.until.and_then(|at| at.checked_add(waited));
            times.recorded = times.recorded.saturating_sub(1);
        });
    }

    fn end_soon(&self) {
        self.with(|times| {
            let soon = Instant::now() + Duration::from_millis(GUEST_AFTER_DONE_MS_MAX);
            times.until = Some(times.until.map_or(soon, |until| until.min(soon)));
        });
    }
}

/// What a guest has printed, cut at the limit.
#[derive(Debug, Clone, Default)]
pub(super) struct Output(Arc<Mutex<Printed>>);

#[derive(Debug, Default)]
struct Printed {
    bytes: Vec<u8>,
    bytes_max: usize,
    dropped_bytes: u64,
}

impl Output {
    pub(super) fn write(&self, bytes: &[u8]) {
        let mut printed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = printed.bytes_max.saturating_sub(printed.bytes.len());
        let kept = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        printed.bytes.extend_from_slice(kept);
        printed.dropped_bytes = printed.dropped_bytes.saturating_add((bytes.len() - kept.len()) as u64);
    }

    fn begin(&self, bytes_max: u64) {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Printed { bytes_max, ..Printed::default() };
    }

    /// The text so far, and how many bytes were dropped.
    pub(super) fn take(&self) -> (String, u64) {
        let printed = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        (String::from_utf8_lossy(&printed.bytes).into_owned(), printed.dropped_bytes)
    }
}

/// A file that a guest reads piece by piece.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings name it")]
pub struct Reader {
    pub(super) path: String,
    pub(super) offset: u64,
    pub(super) piece_bytes: u64,
}

/// A child's cantrip that was checked.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings name it")]
pub struct Proposal(pub(super) Value);

/// The data of a guest's store.
pub(super) struct State {
    exchange: SharedExchange,
    pub(super) gates: Arc<[String]>,
    pub(super) timing: Timing,
    pub(super) output: Output,
    pub(super) random: blake3::OutputReader,
    pub(super) table: ResourceTable,
    /// Nothing is ever granted through these two: no input, no arguments, no environment, no folders.
    pub(super) command_line: WasiCliCtx,
    pub(super) folders: WasiFilesystemCtx,
    memory_bytes: u64,
    memory_bytes_max: u64,
    table_elements: usize,
    pub(super) memory_refused: bool,
}

impl State {
    pub(super) fn new(exchange: SharedExchange, gates: Arc<[String]>, memory_bytes_max: u64) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(GUEST_RESOURCES_MAX);
        Self {
            exchange,
            gates,
            timing: Timing::default(),
            output: Output::default(),
            random: blake3::Hasher::new().finalize_xof(),
            table,
            command_line: WasiCliCtx::default(),
            folders: WasiFilesystemCtx::default(),
            memory_bytes: 0,
            memory_bytes_max,
            table_elements: 0,
            memory_refused: false,
        }
    }

    /// Makes everything ready for a run.
    pub(super) fn begin(&mut self, evaluation: &Evaluation) {
        self.timing.begin(evaluation);
        self.output.begin(evaluation.output_bytes_max);
        self.memory_refused = false;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&evaluation.seed.to_le_bytes());
        self.random = hasher.finalize_xof();
    }

    /// Asks for a gate and waits. What decides about it, and what runs it, is above the sandbox.
    pub(super) async fn ask(&mut self, gate: &str, arguments: CallArguments) -> Result<Value, GateError> {
        if gate.len() > CALLED_NAME_BYTES_MAX {
            return Err(GateError::Invalid(format!("a gate's name has at most {CALLED_NAME_BYTES_MAX} bytes")));
        }
        let delivery = self.exchange.ask(gate.to_owned(), arguments).await;
        self.timing.go_on(delivery.waited, delivery.clock_us);
        match delivery.answer {
            GateAnswer::Returned(result) => result,
            GateAnswer::Stop => {
                self.timing.end_soon();
                Ok(Value::Null)
            }
        }
    }
}

impl ResourceLimiter for State {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let all = self.memory_bytes.saturating_sub(current as u64).saturating_add(desired as u64);
        let fits = all <= self.memory_bytes_max;
        if fits {
            self.memory_bytes = all;
        }
        self.memory_refused |= !fits;
        Ok(fits)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let all = self.table_elements.saturating_sub(current).saturating_add(desired);
        let fits = all <= GUEST_TABLE_ELEMENTS_MAX;
        if fits {
            self.table_elements = all;
        }
        Ok(fits)
    }

    fn instances(&self) -> usize {
        GUEST_PARTS_MAX as usize
    }

    fn memories(&self) -> usize {
        GUEST_PARTS_MAX as usize
    }

    fn tables(&self) -> usize {
        GUEST_PARTS_MAX as usize
    }
}
