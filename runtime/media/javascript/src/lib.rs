//! The JavaScript medium: QuickJS-NG behind a small private interface, as one core WebAssembly module.
//!
//! The host calls `configure` once, then `buffer` and `evaluate` for each turn. All state between two evaluations is in the
//! linear memory, so that copying it copies the entity. The module imports the functions of `host.rs` and
//! `cantrip.clock_ns`; what reads a clock or draws a number depends on what the host says and on nothing else.
//!
//! Everything here may be turned against us by the code it runs: nothing in this module is a security boundary. The host
//! trusts no pointer, length or text that comes out of it.

#![no_std]

extern crate alloc;

mod gates;
mod host;
mod medium;
mod memory;
mod natives;
mod value;

unsafe extern "C" {
    fn __wasm_call_ctors();
}

/// Runs at build time, and never in an instance: its result is the memory that every instance starts from.
#[unsafe(no_mangle)]
pub extern "C" fn _initialize() {
    // SAFETY: the linker makes it, and this is its only call.
    unsafe { __wasm_call_ctors() };
    medium::build();
}

/// A place for `len` bytes that the host fills and then passes to [`configure`] or [`evaluate`]. It holds until the next
/// call of this function. Null: there is no memory for it.
#[unsafe(no_mangle)]
pub extern "C" fn buffer(len: usize) -> *mut u8 {
    medium::buffer(len)
}

/// Installs a function for each gate of a JSON list of names, and bounds the heap. Answers how many gates there are, or -1
/// if the list could not be read.
#[unsafe(no_mangle)]
pub extern "C" fn configure(gates: *const u8, gates_len: usize, heap_bytes_max: i64) -> i32 {
    medium::configure(gates, gates_len, heap_bytes_max)
}

/// Evaluates a script. Answers `pointer << 32 | length` of the outcome as JSON, which holds until the next call.
#[unsafe(no_mangle)]
pub extern "C" fn evaluate(source: *const u8, source_len: usize, seed: i64) -> i64 {
    let outcome = medium::evaluate(source, source_len, seed);
    ((outcome.as_ptr() as i64) << 32) | outcome.len() as i64
}

#[cfg(target_family = "wasm")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
