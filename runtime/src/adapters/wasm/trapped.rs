//! Why code that was stopped was stopped.

use wasmtime::Trap;

use crate::domain::limits::{GUEST_RESOURCES_MAX, HOSTCALL_BYTES_MAX, TRAP_CHARS_MAX};
use crate::domain::medium::StopReason;

/// What was known when it happened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances {
    pub(super) stopped: bool,
    pub(super) late: bool,
    pub(super) memory_refused: bool,
}

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
            (StopReason::Trap, limit(&text).unwrap_or_else(|| text.chars().take(TRAP_CHARS_MAX).collect()))
        }
    }
}

/// Which limit of ours the engine's words are about. Nothing raises these.
fn limit(text: &str) -> Option<String> {
    if text.contains("allocated for hostcalls") {
        return Some(format!("one call has the host copy more than {HOSTCALL_BYTES_MAX} bytes, which is the limit"));
    }
    let is_of_resources = text.contains("no free keys") || text.contains("handle limit exceeded");
    is_of_resources.then(|| format!("it holds more than {GUEST_RESOURCES_MAX} resources, which is the limit"))
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
