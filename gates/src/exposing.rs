//! A gate of which its author says that it exposes more than its kind does.

use std::sync::Arc;

use serde_json::Value;

use crate::gate::{CallContext, Gate, GateFuture};
use crate::spec::{Exposure, GateSpec};

/// A gate that exposes what it does anyway, and more: the same `read_file` is harmless on documentation, and private and untrusted on a
/// mailbox. Less than its kind exposes cannot be said of it.
///
/// ```
/// use cantrip_gates::{Exposure, Gate as _, builtin, exposing};
///
/// let untrusted = Exposure { untrusted: true, ..Exposure::default() };
/// let gate = exposing(builtin::echo(), untrusted);
/// assert!(gate.spec().exposure.untrusted);
/// ```
pub fn exposing(gate: Arc<dyn Gate>, more: Exposure) -> Arc<dyn Gate> {
    let exposure = gate.spec().exposure.union(more);
    let spec = GateSpec { exposure, ..gate.spec().clone() };
    Arc::new(Exposing { gate, spec })
}

#[derive(Debug)]
struct Exposing {
    gate: Arc<dyn Gate>,
    spec: GateSpec,
}

impl Gate for Exposing {
    fn spec(&self) -> &GateSpec {
        &self.spec
    }

    fn call<'a>(&'a self, arguments: Value, context: &'a CallContext) -> GateFuture<'a> {
        self.gate.call(arguments, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin;

    #[test]
    fn a_gate_exposes_what_its_author_adds_and_never_less_than_its_kind() {
        let echo = builtin::echo();
        let private = Exposure { private: true, ..Exposure::default() };
        let mailbox = exposing(Arc::clone(&echo), private);
        assert!(mailbox.spec().exposure.private && !mailbox.spec().exposure.untrusted);
        let both = exposing(mailbox, Exposure { untrusted: true, ..Exposure::default() });
        assert!(both.spec().exposure.private && both.spec().exposure.untrusted);
        assert_eq!(exposing(Arc::clone(&both), Exposure::default()).spec(), both.spec());
        assert_eq!(GateSpec { exposure: Exposure::default(), ..both.spec().clone() }, *echo.spec());
    }
}
