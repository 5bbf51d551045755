//! The part of WASI 0.2 that a guest is given: output into its observation, a clock and randomness that are the host's and
//! the same in a replay, no input, no arguments, no environment, and an empty list of folders. Sockets are not linked.

use std::time::{Duration, Instant};

use bytes::Bytes;
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{WasiCli, WasiCliCtxView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, io, random};
use wasmtime_wasi::p2::{DynOutputStream, DynPollable, OutputStream, Pollable, StreamResult, subscribe};

use crate::domain::limits::RANDOM_BYTES_MAX;

use super::state::{Output, State, Timing};

/// 64 KiB. How much a guest may write at once.
const WRITE_PIECE_BYTES: usize = 64 * 1024;
/// 10 ms. How late a sleeping guest notices that it is stopped.
const SLEEP_SLICE: Duration = Duration::from_millis(10);

fn command_line(state: &mut State) -> WasiCliCtxView<'_> {
    WasiCliCtxView { ctx: &mut state.command_line, table: &mut state.table }
}

fn folders(state: &mut State) -> WasiFilesystemCtxView<'_> {
    WasiFilesystemCtxView { ctx: &mut state.folders, table: &mut state.table }
}

/// Links all of it. None of it reaches anything of the host's.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    io::error::add_to_linker::<State, HasSelf<ResourceTable>>(linker, |state| &mut state.table)?;
    io::poll::add_to_linker::<State, HasSelf<ResourceTable>>(linker, |state| &mut state.table)?;
    io::streams::add_to_linker::<State, HasSelf<ResourceTable>>(linker, |state| &mut state.table)?;
    cli::environment::add_to_linker::<State, WasiCli>(linker, command_line)?;
    cli::exit::add_to_linker::<State, WasiCli>(linker, command_line)?;
    cli::stdin::add_to_linker::<State, WasiCli>(linker, command_line)?;
    cli::terminal_input::add_to_linker::<State, WasiCli>(linker, command_line)?;
    cli::terminal_output::add_to_linker::<State, WasiCli>(linker, command_line)?;
    cli::terminal_stdin::add_to_linker::<State, WasiCli>(linker, command_line)?;
    cli::terminal_stdout::add_to_linker::<State, WasiCli>(linker, command_line)?;
    cli::terminal_stderr::add_to_linker::<State, WasiCli>(linker, command_line)?;
    cli::stdout::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    cli::stderr::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    clocks::wall_clock::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    clocks::monotonic_clock::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    random::random::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    random::insecure::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    random::insecure_seed::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    filesystem::types::add_to_linker::<State, WasiFilesystem>(linker, folders)?;
    filesystem::preopens::add_to_linker::<State, WasiFilesystem>(linker, folders)
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        Self::write(self, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_PIECE_BYTES)
    }
}

impl State {
    fn output_stream(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(self.output.clone());
        Ok(self.table.push(stream)?)
    }

    fn random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        if length > RANDOM_BYTES_MAX {
            return Err(wasmtime::Error::msg(format!(
                "the guest asked for {length} random bytes at once, and the limit is {RANDOM_BYTES_MAX}"
            )));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        self.random.fill(&mut bytes);
        Ok(bytes)
    }

    fn random_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.random.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

impl cli::stdout::Host for State {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.output_stream()
    }
}

impl cli::stderr::Host for State {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.output_stream()
    }
}

impl random::random::Host for State {
    fn get_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(length)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.random_u64())
    }
}

impl random::insecure::Host for State {
    fn get_insecure_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(length)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.random_u64())
    }
}

impl random::insecure_seed::Host for State {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((self.random_u64(), self.random_u64()))
    }
}

impl clocks::wall_clock::Host for State {
    fn now(&mut self) -> wasmtime::Result<clocks::wall_clock::Datetime> {
        let now = Duration::from_nanos(self.timing.look_ns());
        Ok(clocks::wall_clock::Datetime { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() })
    }

    fn resolution(&mut self) -> wasmtime::Result<clocks::wall_clock::Datetime> {
        Ok(clocks::wall_clock::Datetime { seconds: 0, nanoseconds: 1_000 })
    }
}

impl clocks::monotonic_clock::Host for State {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.timing.look_ns())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1_000)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let sleep = self.table.push(Sleep { timing: self.timing.clone(), until_ns: when })?;
        subscribe(&mut self.table, sleep)
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let until = self.timing.now_ns().saturating_add(duration);
        self.subscribe_instant(until)
    }
}

/// A guest that waits for its clock. Its time passes as it does for the host, and its clock stands where it waited for when
/// it goes on; in a replay nobody waits. It counts as the guest's own time, and ends when the guest has to.
struct Sleep {
    timing: Timing,
    until_ns: u64,
}

#[async_trait]
impl Pollable for Sleep {
    async fn ready(&mut self) {
        let waited_from = Instant::now();
        let whole = Duration::from_nanos(self.until_ns.saturating_sub(self.timing.now_ns()));
        while !self.timing.is_replay() && !self.timing.is_over() {
            let left = whole.saturating_sub(waited_from.elapsed());
            if left.is_zero() {
                break;
            }
            tokio::time::sleep(left.min(SLEEP_SLICE)).await;
        }
        self.timing.move_to_ns(self.until_ns);
    }
}
