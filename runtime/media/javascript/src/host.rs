//! What the host gives: the functions this module imports, and nothing else. `cantrip.clock_ns` is the fifth; `libc.h`
//! imports it, because only the C library's clock functions need it.

#[link(wasm_import_module = "cantrip")]
unsafe extern "C" {
    /// Calls a gate with a JSON array of arguments and waits. Answers `length << 1 | is_error`; the host holds the text.
    fn gate_call(name: *const u8, name_len: usize, arguments: *const u8, arguments_len: usize) -> i64;
    /// Copies the held answer to `into`, which has room for the length that `gate_call` said.
    fn gate_take(into: *mut u8);
    /// Text for the stream 1 or 2. The host bounds the total.
    fn output(stream: i32, text: *const u8, text_len: usize);
    /// Not zero: stop this evaluation. The host counts the calls, so there is one for each poll of the engine.
    fn interrupted() -> i32;
}

/// An answer that the host still holds.
pub(crate) struct Answer {
    /// In bytes.
    pub(crate) len: usize,
    /// Whether the text describes a failure.
    pub(crate) is_error: bool,
}

/// Crosses the gate. The answer stays with the host until [`take`].
pub(crate) fn call(name: &[u8], arguments: &[u8]) -> Answer {
    // SAFETY: both slices are live for the call, and the host only reads them.
    let answer = unsafe { gate_call(name.as_ptr(), name.len(), arguments.as_ptr(), arguments.len()) };
    Answer { len: usize::try_from(answer >> 1).unwrap_or(0), is_error: answer & 1 == 1 }
}

/// Copies the held answer.
///
/// # Safety
/// `into` has room for the length that [`call`] answered.
pub(crate) unsafe fn take(into: *mut u8) {
    // SAFETY: the caller's promise; the host writes exactly that many bytes.
    unsafe { gate_take(into) }
}

/// Writes to the entity's own output.
pub(crate) fn write(stream: i32, text: &[u8]) {
    // SAFETY: the slice is live for the call, and the host only reads it.
    unsafe { output(stream, text.as_ptr(), text.len()) }
}

/// One poll.
pub(crate) fn poll() -> bool {
    // SAFETY: takes and gives plain numbers.
    unsafe { interrupted() != 0 }
}
