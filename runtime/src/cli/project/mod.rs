//! `new` and `build`: projects whose result is a guest.

mod build;
mod new;

pub(super) use build::build;
pub(super) use new::new;
