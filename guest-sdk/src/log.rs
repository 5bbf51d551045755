//! The guest's output: it is shown with what the guest did, up to the ward `max_output_bytes`. `println!` goes there too
//! where the target has it.

use std::fmt::Display;

use crate::host;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// For whoever looks for a fault.
    Debug,
    /// What happens.
    Info,
    /// What may be wrong.
    Warn,
    /// What is wrong.
    Error,
}

/// A line of a level.
pub fn log(level: Level, message: impl Display) {
    host::log(level, message.to_string());
}

/// A line for whoever looks for a fault.
pub fn debug(message: impl Display) {
    log(Level::Debug, message);
}

/// A line about what happens.
pub fn info(message: impl Display) {
    log(Level::Info, message);
}

/// A line about what may be wrong.
pub fn warn(message: impl Display) {
    log(Level::Warn, message);
}

/// A line about what is wrong.
pub fn error(message: impl Display) {
    log(Level::Error, message);
}
