//! Why code that was stopped was stopped.

use wasmtime::Trap;

use crate::domain::medium::StopReason;

/// What was known when it happened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances {
    pub(super) stopped: bool,
    pub(super) late: bool,
    pub(super) memory_refused: bool,
}

/// 500 characters of what the sandbox says help; a guest can make it say more.
const DETAIL_CHARS_MAX: usize = 500;

/// The ward that an instance was lost by, or what else did it, and what the sandbox says.
pub(super) fn reason(error: &wasmtime::Error, circumstances: Circumstances) -> (StopReason, String) {
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) if circumstances.stopped => (StopReason::Outside, String::new()),
        Some(Trap::Interrupt) => (StopReason::Time, String::new()),
        Some(Trap::OutOfFuel) => (StopReason::Fuel, String::new()),
        Some(Trap::StackOverflow) => (StopReason::Stack, String::new()),
        _ if circumstances.memory_refused => (StopReason::Memory, String::new()),
        Some(trap) => (StopReason::Trap, trap.to_string()),
        // A host function that was given up because the time was over.
        None if circumstances.late => (StopReason::Time, String::new()),
        None => {
            let text = error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
            (StopReason::Trap, text.chars().take(DETAIL_CHARS_MAX).collect())
        }
    }
}
