//! What a gate says about itself.
//!
//! Owns the declaration every gate makes before it is ever called: its name, the shape of its arguments, how far it
//! reaches and what it can expose. The runtime decides from this alone what to log before a call, what to ward off and
//! what to show a model (CIRCLE-11), so a declaration never depends on a call.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::name::GateName;

/// How far a call reaches. What is more than [`Reach::Read`] is logged and synced before it runs, so that after a crash
/// "not run" and "maybe run" can be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Looks, changes nothing.
    Read,
    /// Changes something on this side.
    Write,
    /// Speaks to the outside world.
    External,
}

impl Reach {
    /// The word that people see and files hold.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::External => "external",
        }
    }
}

impl std::fmt::Display for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// The three ingredients of a leak. An entity that has met `private` and `untrusted` must not meet `outbound`
/// (the `no_trifecta` ward).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Exposure {
    /// Its results can hold data that is not for everyone.
    pub private: bool,
    /// Its results can hold text written by strangers.
    pub untrusted: bool,
    /// Its arguments can leave the machine.
    pub outbound: bool,
}

impl Exposure {
    /// What two gates expose together.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            private: self.private || other.private,
            untrusted: self.untrusted || other.untrusted,
            outbound: self.outbound || other.outbound,
        }
    }

    /// All three at once: enough to leak.
    pub fn is_trifecta(self) -> bool {
        self.private && self.untrusted && self.outbound
    }
}

/// A gate's declaration.
#[derive(Debug, Clone, PartialEq)]
pub struct GateSpec {
    /// The name it is called by.
    pub name: GateName,
    /// What it does and where its bounds are, in the words a model will read.
    pub description: String,
    /// JSON schema of the arguments; its `type` is `object`.
    pub parameters: Value,
    /// Parameter names in order, so that a code medium's `f("a.txt")` becomes `{"path": "a.txt"}`.
    pub positional: Vec<String>,
    /// How far a call reaches.
    pub reach: Reach,
    /// What a call can expose.
    pub exposure: Exposure,
    /// Its results are shown to the model once and then only referred to.
    pub ephemeral: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reach_is_ordered_from_harmless_to_far() {
        assert!(Reach::Read < Reach::Write && Reach::Write < Reach::External);
        assert_eq!(serde_json::to_string(&Reach::External).expect("json"), "\"external\"");
    }

    #[test]
    fn two_exposures_add_up_to_a_trifecta() {
        let files = Exposure { private: true, ..Exposure::default() };
        let web = Exposure { untrusted: true, outbound: true, ..Exposure::default() };
        assert!(!files.is_trifecta() && !web.is_trifecta());
        assert!(files.union(web).is_trifecta());
    }
}
