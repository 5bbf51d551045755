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
        // It slept, was woken because its time was over, and broke down before the next tick.
        Some(_) if circumstances.late => (StopReason::Time, String::new()),
        Some(Trap::OutOfFuel) => (StopReason::Fuel, String::new()),
        Some(Trap::StackOverflow) => (StopReason::Stack, String::new()),
        _ if circumstances.memory_refused => (StopReason::Memory, String::new()),
        Some(trap) => (StopReason::Trap, trap.to_string()),
        // A host function that was given up because the time was over.
        None if circumstances.late => (StopReason::Time, String::new()),
        None => {
            // Around the cause stands where in the guest it was, which is for whoever builds the guest.
            let text = error.chain().last().map(ToString::to_string).unwrap_or_default();
            (StopReason::Trap, text.chars().take(DETAIL_CHARS_MAX).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_sandbox_says_is_cut() {
        let circumstances = Circumstances { stopped: false, late: false, memory_refused: false };
        let (_, said) = reason(&wasmtime::Error::msg("x".repeat(2_000)), circumstances);
        assert_eq!(said.len(), 500);
    }
}
