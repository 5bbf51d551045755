//! Every limit of the runtime, with its unit: what a guest, a model, a peer, a file or a person can make it spend.
//!
//! Adapters and the driver take their numbers from here. A new limit is one line more, and a test that hits it.

use cantrip_gates::limits::Limit;

/// Every limit there is, those of gates included.
pub fn all() -> impl Iterator<Item = &'static Limit> {
    cantrip_gates::limits::ALL.iter().chain(ALL)
}

cantrip_gates::limits! {}
