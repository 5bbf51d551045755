//! Host patterns: which hosts and ports may be reached.
//!
//! Owns the pattern language, its matching and its meet. A list of patterns allows what any one of them allows; the
//! empty list allows nothing. Lists are kept in a normal form (parsed, lower-case, sorted, nothing that another pattern
//! already covers), so two lists that allow the same hosts are equal, and meeting lists is idempotent, commutative and
//! associative (WARD-1). Names are compared, never looked up: what a name resolves to is judged by `http_fetch`.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Host;

use crate::describe::named;
use crate::limits::{HOST_PATTERN_BYTES_MAX, HOST_PATTERNS_MAX};
use crate::steps;

/// Why a text is not a host pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostPatternError {
    /// Nothing there.
    #[error("a host pattern cannot be empty")]
    Empty,
    /// A scheme, path, user or other part of a URL came with the host.
    #[error("`{0}` is more than a host: write the host alone, with `:port` if only that port is meant")]
    NotAHost(String),
    /// `*` at a place where it means nothing.
    #[error("`{0}`: `*` stands alone for every host, or in front as `*.` for every subdomain")]
    Wildcard(String),
    /// The part behind the colon is no port.
    #[error("`{0}`: a port is a number from 1 to 65535")]
    Port(String),
    /// The host is not a valid name or address.
    #[error("`{0}` is not a valid host name or address")]
    Host(String),
    /// More patterns than [`HOST_PATTERNS_MAX`].
    #[error("at most {HOST_PATTERNS_MAX} host patterns, {0} came")]
    TooMany(usize),
}

/// The hosts of one pattern. Two of these are nested or have nothing in common, which is what makes a normal form easy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Hosts {
    Every,
    Subdomains(String),
    Exactly(String),
}

impl Hosts {
    fn meet(&self, other: &Self) -> Option<Self> {
        if self.is_within(other) {
            Some(self.clone())
        } else if other.is_within(self) {
            Some(other.clone())
        } else {
            None
        }
    }

    fn is_within(&self, wider: &Self) -> bool {
        match (self, wider) {
            (_, Self::Every) => true,
            (Self::Subdomains(name), Self::Subdomains(parent)) => name == parent || is_subdomain(name, parent),
            (Self::Exactly(name), Self::Subdomains(parent)) => is_subdomain(name, parent),
            (Self::Exactly(name), Self::Exactly(other)) => name == other,
            (Self::Every, Self::Subdomains(_) | Self::Exactly(_)) | (Self::Subdomains(_), Self::Exactly(_)) => false,
        }
    }

    fn holds(&self, host: &str) -> bool {
        match self {
            Self::Every => true,
            Self::Subdomains(parent) => is_subdomain(host, parent),
            Self::Exactly(name) => name == host,
        }
    }
}

fn is_subdomain(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent).and_then(|front| front.strip_suffix('.')).is_some_and(|label| !label.is_empty())
}

/// One pattern: `example.com`, `*.example.com` (subdomains, not the domain itself) or `*` (every host), each with an
/// optional `:port`. Addresses are written as in a URL: `192.0.2.1`, `[2001:db8::1]:8443`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Pattern {
    hosts: Hosts,
    port: Option<u16>,
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, HostPatternError> {
        let text = text.trim();
        steps::count(text.len());
        if text.len() > HOST_PATTERN_BYTES_MAX {
            return Err(HostPatternError::Host(named(text).into_owned()));
        }
        if text.is_empty() {
            return Err(HostPatternError::Empty);
        }
        if text.contains(['/', '@', '?', '#', '\\']) || text.contains(char::is_whitespace) {
            return Err(HostPatternError::NotAHost(named(text).into_owned()));
        }
        let (host, port) = split_port(text)?;
        let hosts = if host == "*" {
            Hosts::Every
        } else if let Some(parent) = host.strip_prefix("*.") {
            let parent = normal_host(parent, text)?;
            // An address has no subdomains: `*.10.0.0.1` would silently match nothing.
            if parent.starts_with('[') || parent.parse::<std::net::Ipv4Addr>().is_ok() {
                return Err(HostPatternError::Host(text.to_owned()));
            }
            Hosts::Subdomains(parent)
        } else {
            Hosts::Exactly(normal_host(host, text)?)
        };
        Ok(Self { hosts, port })
    }

    fn meet(&self, other: &Self) -> Option<Self> {
        let port = match (self.port, other.port) {
            (Some(one), Some(two)) if one != two => return None,
            (one, two) => one.or(two),
        };
        self.hosts.meet(&other.hosts).map(|hosts| Self { hosts, port })
    }

    /// Every pattern that allows what this one allows, itself included: with its port and without, for its host, for the
    /// subdomains of each name above it, and for every host.
    fn wider(&self) -> impl Iterator<Item = Self> {
        let name = match &self.hosts {
            Hosts::Every => "",
            Hosts::Subdomains(name) | Hosts::Exactly(name) => name.as_str(),
        };
        let above = name.char_indices().filter(|(_, it)| *it == '.').filter_map(|(at, _)| name.get(at + 1..));
        let hosts = [self.hosts.clone(), Hosts::Every].into_iter();
        let hosts = hosts.chain(above.map(|parent| Hosts::Subdomains(parent.to_owned())));
        hosts.flat_map(|hosts| [None, self.port].map(|port| Self { hosts: hosts.clone(), port }))
    }

    fn is_within(&self, wider: &Self) -> bool {
        (wider.port.is_none() || wider.port == self.port) && self.hosts.is_within(&wider.hosts)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hosts {
            Hosts::Every => f.write_str("*")?,
            Hosts::Subdomains(parent) => write!(f, "*.{parent}")?,
            Hosts::Exactly(name) => f.write_str(name)?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), HostPatternError> {
    let after_address = text.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = text.get(after_address..).and_then(|rest| rest.rfind(':')).map(|at| at + after_address) else {
        return Ok((text, None));
    };
    let (host, port) = text.split_at(colon);
    let digits = port.get(1..).unwrap_or_default();
    if after_address == 0 && host.contains(':') {
        // An IPv6 address without brackets: where it ends and the port begins cannot be told.
        return Err(HostPatternError::Host(text.to_owned()));
    }
    match digits.parse::<u16>() {
        Ok(number) if number > 0 && digits.bytes().all(|byte| byte.is_ascii_digit()) => Ok((host, Some(number))),
        Ok(_) | Err(_) => Err(HostPatternError::Port(text.to_owned())),
    }
}

/// The one spelling of a host: what the `url` crate makes of it, without a final dot.
fn normal_host(host: &str, pattern: &str) -> Result<String, HostPatternError> {
    if host.contains('*') {
        return Err(HostPatternError::Wildcard(pattern.to_owned()));
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.split('.').any(str::is_empty) && !host.starts_with('[') {
        return Err(HostPatternError::Host(pattern.to_owned()));
    }
    match Host::parse(host) {
        Ok(parsed) => Ok(parsed.to_string()),
        Err(_) => Err(HostPatternError::Host(pattern.to_owned())),
    }
}

/// A list of host patterns in normal form.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPatterns(BTreeSet<Pattern>);

impl HostPatterns {
    /// The list that allows nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Parses a list of patterns.
    ///
    /// # Errors
    ///
    /// [`HostPatternError`] names the first pattern that cannot be read.
    ///
    /// ```
    /// use cantrip_gates::HostPatterns;
    /// let hosts = HostPatterns::parse(["example.com", "*.example.org:8443"])?;
    /// assert!(hosts.matches("example.com", 443));
    /// assert!(hosts.matches("api.example.org", 8443));
    /// assert!(!hosts.matches("example.org", 8443));
    /// # Ok::<(), cantrip_gates::HostPatternError>(())
    /// ```
    pub fn parse<I>(patterns: I) -> Result<Self, HostPatternError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut parsed = BTreeSet::new();
        for (count, pattern) in patterns.into_iter().enumerate() {
            if count >= HOST_PATTERNS_MAX {
                return Err(HostPatternError::TooMany(count + 1));
            }
            parsed.insert(Pattern::parse(pattern.as_ref())?);
        }
        Ok(Self::normal(&parsed))
    }

    /// Whether the list allows this host at this port. The host is compared in its normal spelling: lower case, an
    /// international name in its ASCII form, an IPv6 address with or without brackets, without a final dot.
    pub fn matches(&self, host: &str, port: u16) -> bool {
        self.matching(host).any(|pattern| pattern.port.is_none_or(|only| only == port))
    }

    /// Whether a pattern that allows this host names exactly this port.
    pub fn names_port(&self, host: &str, port: u16) -> bool {
        self.matching(host).any(|pattern| pattern.port == Some(port))
    }

    fn matching(&self, host: &str) -> impl Iterator<Item = &Pattern> {
        let host = match host.parse::<std::net::Ipv6Addr>() {
            Ok(address) => Some(format!("[{address}]")),
            Err(_) => normal_host(host, host).ok(),
        };
        self.0.iter().filter(move |pattern| host.as_ref().is_some_and(|host| pattern.hosts.holds(host)))
    }

    /// The list that allows what both allow.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let pairs = self.0.iter().flat_map(|one| other.0.iter().filter_map(|two| one.meet(two)));
        Self::normal(&pairs.collect())
    }

    /// Whether everything this list allows is allowed by `wider` too.
    pub fn is_within(&self, wider: &Self) -> bool {
        self.0.iter().all(|pattern| wider.0.iter().any(|other| pattern.is_within(other)))
    }

    /// Whether the list allows one host that it names, and no other.
    pub(crate) fn is_one_host(&self) -> bool {
        let mut patterns = self.0.iter();
        matches!((patterns.next(), patterns.next()), (Some(Pattern { hosts: Hosts::Exactly(_), .. }), None))
    }

    /// Whether a pattern of the list is `*`.
    pub(crate) fn holds_every_host(&self) -> bool {
        self.0.iter().any(|pattern| pattern.hosts == Hosts::Every)
    }

    /// Whether the list allows nothing at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The patterns as text, sorted.
    pub fn iter(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(ToString::to_string)
    }

    fn normal(patterns: &BTreeSet<Pattern>) -> Self {
        let covered = |pattern: &Pattern| {
            pattern.wider().any(|wider| {
                steps::count(1);
                wider != *pattern && patterns.contains(&wider)
            })
        };
        Self(patterns.iter().filter(|pattern| !covered(pattern)).cloned().collect())
    }
}

impl fmt::Display for HostPatterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("(no host)");
        }
        f.write_str(&self.iter().collect::<Vec<_>>().join(", "))
    }
}

impl Serialize for HostPatterns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for HostPatterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        Self::parse(texts).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> HostPatterns {
        HostPatterns::parse(text.split_whitespace()).expect("patterns")
    }

    fn check(patterns: &str, host: &str, port: u16, expected: bool) {
        assert_eq!(list(patterns).matches(host, port), expected, "{patterns} against {host}:{port}");
    }

    #[test]
    fn a_host_matches_itself_in_every_spelling() {
        check("example.com", "example.com", 443, true);
        check("Example.COM", "eXample.com.", 80, true);
        check("example.com.", "example.com", 80, true);
        check("bücher.example", "xn--bcher-kva.example", 80, true);
        check("example.com", "www.example.com", 443, false);
        check("example.com", "badexample.com", 443, false);
        check("example.com", "example.com.evil.net", 443, false);
        check("example.com", "", 443, false);
    }

    #[test]
    fn a_wildcard_means_subdomains_only() {
        check("*.example.com", "a.example.com", 443, true);
        check("*.example.com", "a.b.example.com", 443, true);
        check("*.example.com", "example.com", 443, false);
        check("*.example.com", ".example.com", 443, false);
        check("*.example.com", "aexample.com", 443, false);
        check("*", "anything.at.all", 1, true);
        check("*:443", "anything.at.all", 80, false);
    }

    #[test]
    fn a_port_narrows() {
        check("example.com:8443", "example.com", 8443, true);
        check("example.com:8443", "example.com", 443, false);
        assert!(list("example.com:8443").names_port("example.com", 8443));
        assert!(!list("example.com").names_port("example.com", 443));
    }

    #[test]
    fn addresses_are_hosts_too() {
        check("127.0.0.1:80", "127.0.0.1", 80, true);
        check("0x7f.1", "127.0.0.1", 80, true);
        check("[::1]", "::1", 80, true);
        check("[0:0:0:0:0:0:0:1]:80", "[::1]", 80, true);
        check("[::1]:80", "::1", 81, false);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "",
            " ",
            "https://example.com",
            "example.com/path",
            "user@example.com",
            "a b",
            "*example.com",
            "a.*.com",
            "**",
            "*.",
            "example.com:0",
            "example.com:65536",
            "example.com:",
            "example.com:+1",
            "::1",
            "*.127.0.0.1",
            "a..b",
            ".example.com",
            "[::1",
            "example.com:http",
        ] {
            assert!(HostPatterns::parse([text]).is_err(), "{text:?} was read as a pattern");
        }
        assert!(HostPatterns::parse(vec!["a.b"; HOST_PATTERNS_MAX + 1]).is_err());
        assert!(HostPatterns::parse(vec!["a.b"; HOST_PATTERNS_MAX]).is_ok());
    }

    #[test]
    fn meeting_narrows() {
        let meet = |one: &str, two: &str| list(one).intersect(&list(two)).iter().collect::<Vec<_>>().join(" ");
        assert_eq!(meet("*.example.com", "a.example.com"), "a.example.com");
        assert_eq!(meet("*.example.com", "*.b.example.com"), "*.b.example.com");
        assert_eq!(meet("*.example.com:443", "a.example.com b.net"), "a.example.com:443");
        assert_eq!(meet("a.net:80", "a.net:443"), "");
        assert_eq!(meet("*", "a.net b.net:1"), "a.net b.net:1");
        assert_eq!(meet("a.net", "b.net"), "");
        assert!(!list("a.net").intersect(&list("b.net")).matches("a.net", 80));
    }

    #[test]
    fn the_normal_form_drops_what_is_covered() {
        assert_eq!(list("a.net a.net:80 A.net").iter().collect::<Vec<_>>(), ["a.net"]);
        assert_eq!(list("*.net a.net b.org").iter().collect::<Vec<_>>(), ["*.net", "b.org"]);
        assert_eq!(list("").to_string(), "(no host)");
        assert_eq!(list("b.org a.net:1").to_string(), "a.net:1, b.org");
    }

    #[test]
    fn serde_is_a_list_of_texts() {
        let hosts = list("*.example.com b.net:1");
        let json = serde_json::to_string(&hosts).expect("json");
        assert_eq!(json, r#"["*.example.com","b.net:1"]"#);
        assert_eq!(serde_json::from_str::<HostPatterns>(&json).expect("back"), hosts);
        assert!(serde_json::from_str::<HostPatterns>(r#"["http://x"]"#).is_err());
    }
}
