//! Files under a capability.
//!
//! Owns the directory capability [`Root`], the rule of which paths an entity may write at all, and the opening of files
//! below a root. Every open goes through the directory handle and what is opened is judged by its own handle, never by
//! a look beforehand, so a name that is swapped between check and use gains nothing. Nothing here but [`Root::open`]
//! and [`Root::excluding`] uses the process's own authority over the file system (CIRCLE-10).
//!
//! Two rules hold for every gate, whatever its root is: places that hold the runtime's own configuration, trust and
//! records are closed ([`Root::excluding`]), and names that other tools obey are not written ([`PROTECTED_NAMES`]).
//!
//! A hard link is the file itself and not a way to it: one that leads from a root to a file outside was made by somebody
//! who may write in both places, and is read like any other file.

mod closed;
mod path;
mod protected;
mod root;
mod way;

pub use protected::{PROTECTED_NAMES, ProtectedNameError};
pub use root::{Root, RootError};

pub(crate) use path::{Meant, RelativePath};
pub(crate) use root::FileFailure;
pub(crate) use way::{Folder, sync};
