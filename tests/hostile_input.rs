//! What strangers hand in — a workspace, a text, an archive, a peer, a terminal's text — gets a clear refusal and nothing else.
//!
//! One module for each class of fault. `docs/SECURITY.md` has a line for each property that is held here.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "the tests may stop, and read and write files"
)]

#[path = "copy_support/book.rs"]
mod copy_book;
mod guest_support;
mod node_support;
mod peer_support;

#[path = "hostile_input/authority.rs"]
mod authority;
#[path = "hostile_input/authority/served.rs"]
mod authority_served;
#[path = "hostile_input/clocks.rs"]
mod clocks;
#[path = "hostile_input/configuration.rs"]
mod configuration;
#[path = "hostile_input/copies.rs"]
mod copies;
#[path = "hostile_input/found.rs"]
mod found;
#[path = "hostile_input/hosting.rs"]
mod hosting;
#[path = "hostile_input/keepers.rs"]
mod keepers;
#[path = "hostile_input/later.rs"]
mod later;
#[path = "hostile_input/limits.rs"]
mod limits;
#[path = "hostile_input/machine.rs"]
mod machine;
#[path = "hostile_input/members.rs"]
mod members;
#[path = "hostile_input/members/kept.rs"]
mod members_kept;
#[path = "hostile_input/peers.rs"]
mod peers;
#[path = "hostile_input/providers.rs"]
mod providers;
#[path = "hostile_input/raw.rs"]
mod raw;
#[path = "hostile_input/record.rs"]
mod record;
#[path = "hostile_input/texts.rs"]
mod texts;
#[path = "hostile_input/workspace.rs"]
mod workspace;
