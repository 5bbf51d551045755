//! The policy of one `http_fetch` gate.
//!
//! Owns the settings a person writes and their defaults. A policy starts closed: without a host it is an error, and
//! private addresses, other methods and other ports are opened one by one.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::address::PrivateAddress;
use crate::hosts::HostPatterns;

/// What an `http_fetch` gate may do. In a file, every field is a key; unknown keys are errors.
///
/// ```
/// use cantrip_gates::{HttpPolicy, builtin};
/// let policy: HttpPolicy = serde_json::from_str(r#"{"hosts": ["*.example.com"], "timeout_ms": 5000}"#)?;
/// assert_eq!(policy.methods, ["GET", "HEAD"]);
/// let gate = builtin::http_fetch(policy)?;
/// # let _ = gate;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpPolicy {
    /// Hosts that may be reached. A pattern with a port opens that port for its hosts. Default: none.
    pub hosts: HostPatterns,
    /// Methods that may be used. Default: `GET`, `HEAD`.
    pub methods: Vec<String>,
    /// Ports that may be reached on hosts whose pattern names none. Default: 443, 80.
    pub ports: Vec<u16>,
    /// Hosts, addresses and ranges beyond the public internet that may be reached. Default: none.
    pub private_addresses: Vec<PrivateAddress>,
    /// Headers sent with every request to the host the entity names; the entity can neither see nor replace them. They
    /// are not sent on when a redirect leads elsewhere. Default: none.
    pub headers: Headers,
    /// Time for one call, all redirects and the whole body included. Default: 30 seconds.
    #[serde(rename = "timeout_ms", deserialize_with = "milliseconds")]
    pub timeout: Duration,
    /// Most bytes of a response's body that are returned. Default: 1 MiB.
    pub body_bytes_max: u64,
    /// Most redirects that are followed. Default: 5.
    pub redirects_max: u32,
}

impl HttpPolicy {
    /// 30 seconds.
    pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
    /// 1 MiB. More text than a model reads of one page.
    pub const BODY_BYTES_MAX_DEFAULT: u64 = 1024 * 1024;
    /// 5 redirects, as most clients have it.
    pub const REDIRECTS_MAX_DEFAULT: u32 = 5;
}

impl Default for HttpPolicy {
    fn default() -> Self {
        Self {
            hosts: HostPatterns::none(),
            methods: vec!["GET".to_owned(), "HEAD".to_owned()],
            ports: vec![443, 80],
            private_addresses: Vec::new(),
            headers: Headers::default(),
            timeout: Self::TIMEOUT_DEFAULT,
            body_bytes_max: Self::BODY_BYTES_MAX_DEFAULT,
            redirects_max: Self::REDIRECTS_MAX_DEFAULT,
        }
    }
}

fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}

/// Headers by name. Their values are often secrets and are never printed.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Headers(pub BTreeMap<String, String>);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.keys().map(|name| (name, "***"))).finish()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        Self(headers.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// Why a policy cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpPolicyError {
    /// No host is allowed.
    #[error("`hosts` is empty, so nothing could be fetched; list hosts such as `example.com` or `*.example.com`")]
    NoHosts,
    /// No method is allowed.
    #[error("`methods` is empty, so nothing could be fetched; the default is GET and HEAD")]
    NoMethods,
    /// A method that is none, or that is never sent.
    #[error("`methods` holds `{0}`, which cannot be sent; write a method such as GET or POST, in capitals")]
    Method(String),
    /// A header that cannot be fixed.
    #[error("`headers` holds `{0}`, which is not a header that can be set, or has a value that cannot be sent")]
    Header(String),
    /// No time at all.
    #[error("`timeout_ms` is 0, so nothing could be fetched")]
    NoTime,
}
