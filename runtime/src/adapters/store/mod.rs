//! Where looms are kept: on disk with fjall, or in memory.
//!
//! Owns the record's folder: `node.key` (this node's name), `db` (the database), `heads` (how far each
//! log is, kept outside the database's journal, because a damaged journal can open with its end missing), `lock`.
//! Nothing here decides what an entry means, and nothing outside names fjall.
//!
//! A turn is durable before the next begins (LOOM-1): one thread writes, and writers that wait at the same time share
//! one sync. After a failed write nothing more is taken. What was acknowledged and is not there any more is an error
//! that names it, at every open, and nothing is changed before that is known.
//!
//! Read `durable` first, then `committer` (how a write becomes durable), `open` (what is compared), `verify`.

#![expect(clippy::disallowed_methods, reason = "the record is files: this adapter owns them")]

mod attested;
mod book;
mod casts;
mod check;
mod committer;
mod copies;
mod database;
mod durable;
mod durable_copies;
mod examine;
mod files;
mod findings;
#[cfg(test)]
mod fuzz_tests;
mod journal;
mod key;
mod manifest;
mod marks;
mod members;
mod memory;
mod memory_copies;
mod memory_members;
mod open;
mod proved;
mod reading;
mod renewal;
mod rows;
mod scratch;
mod sink;
mod verify;

pub use book::{FileBook, note_file, replace_file};
pub use durable::{FjallStore, StoreOptions};
pub use key::NodeKey;
pub use memory::MemoryStore;
pub use reading::ReadingStore;
