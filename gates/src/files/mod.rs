//! Files under a capability.
//!
//! Owns the directory capability [`Root`], the rule of which paths an entity may write at all, and the opening of files
//! below a root. Every open goes through the directory handle and what is opened is judged by its own handle, never by
//! a look beforehand, so a name that is swapped between check and use gains nothing. Nothing here but [`Root::open`]
//! uses the process's own authority over the file system (CIRCLE-10).
//!
//! A hard link is the file itself and not a way to it: one that leads from a root to a file outside was made by somebody
//! who may write in both places, and is read like any other file.

mod path;
mod root;

pub use path::{COMPONENT_BYTES_MAX, PATH_BYTES_MAX};
pub use root::{Root, RootError};

pub(crate) use path::{Meant, RelativePath};
pub(crate) use root::{FileFailure, open_regular};
