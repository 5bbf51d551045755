//! Every limit of the runtime, with its unit: what a guest, a model, a peer, a file or a person can make it spend.
//!
//! Adapters and the driver take their numbers from here. A new limit is one line more, and a test that hits it.
//! `docs/limits.md` is made from these lists.

mod file;
mod model;
mod peer;
mod record;
mod sandbox;

use cantrip_gates::limits::Limit;

pub use file::*;
pub use model::*;
pub use peer::*;
pub use record::*;
pub use sandbox::*;

/// Every limit there is, those of gates included, by what makes a node meet it.
pub const GROUPS: [(&str, &[Limit]); 6] = [
    ("Gates", cantrip_gates::limits::ALL),
    ("Code and guests in the sandbox", SANDBOX),
    ("Models", MODEL),
    ("Peers", PEER),
    ("Records and archives", RECORD),
    ("Files and persons", FILE),
];

/// Every limit there is.
pub fn all() -> impl Iterator<Item = &'static Limit> {
    GROUPS.iter().flat_map(|(_, limits)| limits.iter())
}
