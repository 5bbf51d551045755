//! What a code medium can reach of the host: its gates, its output, and a clock and a poll that are ours. Nothing else.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wasmtime::{Caller, Engine, Linker, Memory, ResourceLimiter};

use crate::domain::json::JsonError;
use crate::domain::limits::{CALL_ARGUMENTS_BYTES_MAX, CALLED_NAME_BYTES_MAX};
use crate::domain::medium::{CallArguments, GateAnswer, StopFlag, StopReason};

use super::exchange::SharedExchange;

/// 1 µs. Each look at the clock moves it on, so that a loop that waits for time to pass ends, and ends at the same count
/// in a replay.
const CLOCK_STEP_NS: u64 = 1_000;

/// What is bounded and counted of one instance.
#[derive(Debug)]
pub(super) struct State {
    pub(super) exchange: SharedExchange,
    pub(super) memory_bytes_max: u64,
    pub(super) memory_refused: bool,
    pub(super) run: Run,
    held: Vec<u8>,
}

/// What is bounded and counted of one evaluation.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) output: Vec<u8>,
    pub(super) output_bytes_max: usize,
    pub(super) output_dropped_bytes: u64,
    pub(super) clock_ns: u64,
    pub(super) polls: u64,
    pub(super) stop_at_poll: Option<u64>,
    pub(super) stopped: Option<StopReason>,
    pub(super) stop: StopFlag,
    pub(super) fuel: u64,
    /// When the code is asked to stop, and when it is stopped.
    pub(super) until: Option<Instant>,
    pub(super) trap_at: Option<Instant>,
}

impl Run {
    /// The time in a gate is not the code's, and its clock never goes back.
    fn go_on(&mut self, waited: Duration, clock_us: u64) {
        self.clock_ns = self.clock_ns.max(clock_us.saturating_mul(1_000));
        self.until = self.until.and_then(|at| at.checked_add(waited));
        self.trap_at = self.trap_at.and_then(|at| at.checked_add(waited));
    }

    fn poll(&mut self) -> bool {
        self.polls += 1;
        let reason = match self.stop_at_poll {
            // A replay stops where the first run did, and nowhere else.
            Some(poll) if self.polls >= poll => Some(StopReason::Time),
            Some(_) => None,
            None if self.stop.is_set() => Some(StopReason::Outside),
            None => self.until.filter(|until| Instant::now() >= *until).map(|_| StopReason::Time),
        };
        if reason.is_some() {
            self.stopped = reason;
        }
        reason.is_some()
    }

    fn write(&mut self, bytes: &[u8]) {
        let room = self.output_bytes_max.saturating_sub(self.output.len());
        let kept = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        self.output.extend_from_slice(kept);
        self.output_dropped_bytes += (bytes.len() - kept.len()) as u64;
    }
}

impl State {
    pub(super) fn new(exchange: SharedExchange, memory_bytes_max: u64) -> Self {
        Self { exchange, memory_bytes_max, memory_refused: false, run: Run::default(), held: Vec::new() }
    }
}

impl ResourceLimiter for State {
    fn memory_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let fits = desired as u64 <= self.memory_bytes_max;
        self.memory_refused |= !fits;
        Ok(fits)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        // The interpreter's table is as large as it will ever be.
        Ok(desired <= current || current == 0)
    }

    fn instances(&self) -> usize {
        1
    }

    fn memories(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        2
    }
}

fn memory(caller: &mut Caller<'_, State>) -> wasmtime::Result<Memory> {
    caller
        .get_export("memory")
        .and_then(wasmtime::Extern::into_memory)
        .ok_or_else(|| wasmtime::Error::msg("the guest exports no memory"))
}

fn range(pointer: u32, length: u32) -> std::ops::Range<usize> {
    let start = pointer as usize;
    start..start.saturating_add(length as usize)
}

fn bytes<'a>(
    caller: &'a mut Caller<'_, State>,
    pointer: u32,
    length: u32,
) -> wasmtime::Result<(&'a [u8], &'a mut State)> {
    let memory = memory(caller)?;
    let (data, state) = memory.data_and_store_mut(caller);
    let slice = data
        .get(range(pointer, length))
        .ok_or_else(|| wasmtime::Error::msg("the guest named bytes outside of its memory"))?;
    Ok((slice, state))
}

/// Reads a request out of the guest's memory. What cannot be a call is answered at once, as an error that code can catch.
fn request(
    caller: &mut Caller<'_, State>,
    name: (u32, u32),
    arguments: (u32, u32),
) -> wasmtime::Result<Result<(String, Vec<Value>), String>> {
    let invalid = |what: String| Err(json!({ "kind": "invalid", "message": what }).to_string());
    if name.1 as usize > CALLED_NAME_BYTES_MAX {
        return Ok(invalid(format!("a gate's name has at most {CALLED_NAME_BYTES_MAX} bytes")));
    }
    if arguments.1 as usize > CALL_ARGUMENTS_BYTES_MAX {
        return Ok(invalid(format!(
            "the arguments have {} bytes, and the limit is {CALL_ARGUMENTS_BYTES_MAX}",
            arguments.1
        )));
    }
    let name = String::from_utf8_lossy(bytes(caller, name.0, name.1)?.0).into_owned();
    let parsed = crate::domain::json::parse_bytes(bytes(caller, arguments.0, arguments.1)?.0);
    Ok(match parsed {
        Ok(Value::Array(arguments)) => Ok((name, arguments)),
        Ok(_) => invalid(format!("{name}: the arguments are not a JSON list")),
        Err(error @ (JsonError::Values | JsonError::Depth)) => invalid(format!("{name}: the arguments: {error}")),
        Err(error) => invalid(format!("{name}: the arguments are not a JSON list: {error}")),
    })
}

/// An answer as the interpreter's glue reads it.
fn text_of(answer: GateAnswer) -> Result<String, String> {
    match answer {
        GateAnswer::Returned(Ok(value)) => Ok(value.to_string()),
        GateAnswer::Returned(Err(error)) => {
            Err(json!({ "kind": error.kind(), "message": error.message() }).to_string())
        }
        GateAnswer::Stop => Err(json!({ "kind": "stop", "message": "" }).to_string()),
    }
}

fn hold(caller: &mut Caller<'_, State>, answer: Result<String, String>) -> i64 {
    let (text, is_error) = match answer {
        Ok(text) => (text, 0),
        Err(text) => (text, 1),
    };
    let state = caller.data_mut();
    state.held = text.into_bytes();
    i64::try_from(state.held.len()).unwrap_or(0) << 1 | is_error
}

/// The imports of a code medium.
pub(super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    linker.func_wrap_async(
        "cantrip",
        "gate_call",
        |mut caller: Caller<'_, State>, (name, name_len, arguments, arguments_len): (u32, u32, u32, u32)| {
            Box::new(async move {
                let request = match request(&mut caller, (name, name_len), (arguments, arguments_len))? {
                    Ok(request) => request,
                    Err(refusal) => return Ok(hold(&mut caller, Err(refusal))),
                };
                let exchange = caller.data().exchange.clone();
                let (gate, arguments) = request;
                let delivery = exchange.ask(gate, CallArguments::Positional(arguments)).await;
                caller.data_mut().run.go_on(delivery.waited, delivery.clock_us);
                Ok(hold(&mut caller, text_of(delivery.answer)))
            }) as Box<dyn Future<Output = wasmtime::Result<i64>> + Send>
        },
    )?;
    linker.func_wrap(
        "cantrip",
        "gate_take",
        |mut caller: Caller<'_, State>, pointer: u32| -> wasmtime::Result<()> {
            let memory = memory(&mut caller)?;
            let held = std::mem::take(&mut caller.data_mut().held);
            memory.write(&mut caller, pointer as usize, &held).map_err(wasmtime::Error::from)
        },
    )?;
    linker.func_wrap(
        "cantrip",
        "output",
        |mut caller: Caller<'_, State>, _stream: i32, pointer: u32, length: u32| -> wasmtime::Result<()> {
            let (text, state) = bytes(&mut caller, pointer, length)?;
            state.run.write(text);
            Ok(())
        },
    )?;
    linker.func_wrap("cantrip", "interrupted", |mut caller: Caller<'_, State>| -> i32 {
        i32::from(caller.data_mut().run.poll())
    })?;
    linker.func_wrap("cantrip", "clock_ns", |mut caller: Caller<'_, State>| -> i64 {
        let run = &mut caller.data_mut().run;
        run.clock_ns = run.clock_ns.saturating_add(CLOCK_STEP_NS);
        i64::try_from(run.clock_ns).unwrap_or(i64::MAX)
    })?;
    Ok(linker)
}
