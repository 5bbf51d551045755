//! What the runtime decides. Pure and synchronous: no I/O, no clock, no randomness, no await. Read [`entity`] first.

pub mod budget;
pub mod caller;
pub mod cantrip;
pub mod circle;
pub mod context;
pub mod copies;
pub mod delegation;
pub mod end;
pub mod entity;
pub mod event;
pub mod familiar;
pub mod guest;
pub mod ids;
pub mod json;
pub mod limits;
pub mod loom;
pub mod medium;
pub mod members;
pub mod model;
pub(crate) mod observe;
pub mod outcome;
pub mod place;
pub mod remote;
pub mod short;
pub(crate) mod steps;
