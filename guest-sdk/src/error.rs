//! Why a gate or a guest could not do what it was asked.

use std::fmt::{self, Display};

/// A failure, told so that whoever is told can act on it. Every failing gate returns one, and a guest ends with one.
///
/// `?` turns what the standard library and JSON fail with into one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// It would leave what was granted. Trying again does not help.
    Denied(String),
    /// The arguments are wrong. A corrected call can succeed.
    Invalid(String),
    /// What was named does not exist.
    NotFound(String),
    /// A bound of size, count or budget was met.
    Exhausted(String),
    /// It was tried, and the world said no.
    Failed(String),
    /// The time ran out. It may have had an effect.
    TimedOut(String),
}

impl Error {
    /// The work could not be done.
    pub fn failed(message: impl Display) -> Self {
        Self::Failed(message.to_string())
    }

    /// What came in is wrong.
    pub fn invalid(message: impl Display) -> Self {
        Self::Invalid(message.to_string())
    }

    /// What was named is not there.
    pub fn not_found(message: impl Display) -> Self {
        Self::NotFound(message.to_string())
    }

    /// The word for the case, as it is recorded.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Denied(_) => "denied",
            Self::Invalid(_) => "invalid",
            Self::NotFound(_) => "not_found",
            Self::Exhausted(_) => "exhausted",
            Self::Failed(_) => "failed",
            Self::TimedOut(_) => "timed_out",
        }
    }

    /// The message alone.
    pub fn message(&self) -> &str {
        match self {
            Self::Denied(message)
            | Self::Invalid(message)
            | Self::NotFound(message)
            | Self::Exhausted(message)
            | Self::Failed(message)
            | Self::TimedOut(message) => message,
        }
    }
}

impl Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.message())
    }
}

impl std::error::Error for Error {}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl From<String> for Error {
    fn from(message: String) -> Self {
        Self::Failed(message)
    }
}

impl From<&str> for Error {
    fn from(message: &str) -> Self {
        Self::Failed(message.to_owned())
    }
}

macro_rules! from_standard {
    ($case:ident: $($error:ty),*) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::$case(error.to_string())
            }
        })*
    };
}

from_standard!(Failed: std::io::Error, fmt::Error, Box<dyn std::error::Error>, Box<dyn std::error::Error + Send + Sync>);
from_standard!(Invalid: std::str::Utf8Error, std::string::FromUtf8Error, std::num::ParseIntError, std::num::ParseFloatError,
    std::num::TryFromIntError, std::str::ParseBoolError, std::char::ParseCharError);
