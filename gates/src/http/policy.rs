//! The policy of one `http_fetch` gate.
//!
//! Owns the settings a person writes and their defaults. A policy starts closed: without a host it is an error, and
//! private addresses, other methods and other ports are opened one by one.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::address::PrivateAddress;
use crate::hosts::{HostPatternError, HostPatterns};

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
    /// Headers sent with a request to the host that they are for; the entity can neither see nor replace them. They are
    /// sent over https and to this machine's own addresses only, and not any more once a redirect led elsewhere. Default:
    /// none.
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
    pub const TIMEOUT_DEFAULT: Duration = Duration::from_millis(crate::limits::FETCH_MS_DEFAULT);
    /// 1 MiB. More text than a model reads of one page.
    pub const BODY_BYTES_MAX_DEFAULT: u64 = crate::limits::FETCH_BODY_BYTES_DEFAULT;
    /// 5 redirects, as most clients have it.
    pub const REDIRECTS_MAX_DEFAULT: u32 = crate::limits::FETCH_REDIRECTS_DEFAULT;
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

/// Headers that are set for hosts. Their values are often secrets and are never printed.
///
/// In a file, `headers."api.example.com"` is a table of headers for that host pattern. Headers that stand directly below
/// `headers` are for the one host of the policy, and are refused where there are several or a wildcard.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    of_the_only_host: BTreeMap<String, String>,
    by_host: BTreeMap<String, BTreeMap<String, String>>,
}

impl Headers {
    /// The same and these headers, for the hosts of one pattern.
    ///
    /// ```
    /// use cantrip_gates::{Headers, HostPatterns, HttpPolicy, builtin};
    /// let headers = Headers::default().with("api.example.com", [("Authorization", "Bearer …")]);
    /// let hosts = HostPatterns::parse(["api.example.com", "*.example.org"])?;
    /// let gate = builtin::http_fetch(HttpPolicy { hosts, headers, ..HttpPolicy::default() })?;
    /// # let _ = gate;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with<N: Into<String>, V: Into<String>>(
        mut self,
        pattern: &str,
        headers: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let of = self.by_host.entry(pattern.to_owned()).or_default();
        of.extend(headers.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// What the headers are called, each with the host pattern that it is bound to; nothing for the only host of a policy.
    pub fn names(&self) -> impl Iterator<Item = (Option<&str>, &str)> {
        let flat = self.of_the_only_host.keys().map(|name| (None, name.as_str()));
        let bound = self
            .by_host
            .iter()
            .flat_map(|(pattern, headers)| headers.keys().map(move |name| (Some(pattern.as_str()), name.as_str())));
        flat.chain(bound)
    }

    /// Each set of headers with the hosts it is for.
    pub(crate) fn bound(&self, hosts: &HostPatterns) -> Result<Vec<Bound<'_>>, HttpPolicyError> {
        let mut bound = Vec::new();
        if let Some(name) = self.of_the_only_host.keys().next() {
            if !hosts.is_one_host() {
                return Err(HttpPolicyError::Unbound { name: name.clone(), hosts: hosts.to_string() });
            }
            bound.push((hosts.clone(), &self.of_the_only_host));
        }
        for (pattern, headers) in &self.by_host {
            let of = HostPatterns::parse([pattern]).map_err(HttpPolicyError::HeaderHost)?;
            if of.holds_every_host() {
                let name = headers.keys().next().cloned().unwrap_or_default();
                return Err(HttpPolicyError::Unbound { name, hosts: of.to_string() });
            }
            if of.intersect(hosts).is_empty() {
                return Err(HttpPolicyError::Unsent { pattern: of.to_string(), hosts: hosts.to_string() });
            }
            bound.push((of, headers));
        }
        Ok(bound)
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "expected a header's value, or a table of headers for the host pattern that is its key"
        )]
        enum Entry {
            Value(String),
            Of(BTreeMap<String, String>),
        }
        let mut headers = Self::default();
        for (key, entry) in BTreeMap::<String, Entry>::deserialize(deserializer)? {
            match entry {
                Entry::Value(value) => drop(headers.of_the_only_host.insert(key, value)),
                Entry::Of(of) => drop(headers.by_host.insert(key, of)),
            }
        }
        Ok(headers)
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |headers: &BTreeMap<String, String>| -> BTreeMap<String, &str> {
            headers.keys().map(|name| (name.clone(), "***")).collect()
        };
        let by_host = self.by_host.iter().map(|(pattern, headers)| (pattern.clone(), hidden(headers)));
        f.debug_map().entries(hidden(&self.of_the_only_host)).entries(by_host).finish()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        let of_the_only_host = headers.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { of_the_only_host, by_host: BTreeMap::new() }
    }
}

/// Hosts, and the headers that are sent to them.
pub(crate) type Bound<'a> = (HostPatterns, &'a BTreeMap<String, String>);

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
    /// A header that could go to several hosts.
    #[error(
        "`headers` holds `{name}` for {hosts}, and a fixed header goes to a host that is named: write `{name}` below \
         `[gate.http_fetch.headers.\"api.example.com\"]`, with the host it is for"
    )]
    Unbound {
        /// The header.
        name: String,
        /// The hosts it could go to.
        hosts: String,
    },
    /// A key of `headers` that is no host pattern.
    #[error("`headers` holds a table whose key is not a host pattern")]
    HeaderHost(#[source] HostPatternError),
    /// Headers for hosts that are not reached.
    #[error("`headers` holds some for `{pattern}`, which is not among `hosts` ({hosts}), so they would never be sent")]
    Unsent {
        /// The pattern that they are for.
        pattern: String,
        /// The hosts of the policy.
        hosts: String,
    },
    /// No time at all.
    #[error("`timeout_ms` is 0, so nothing could be fetched")]
    NoTime,
}
