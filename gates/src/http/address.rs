//! Which addresses are public.
//!
//! Owns the table of address ranges that an entity must not reach by default, and the entries by which a policy opens
//! some of them. It decides about addresses alone and never resolves a name.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Deserializer};

/// Ranges of IPv4 that are not the public internet: first address, prefix length, what it is.
const RANGES_V4: &[(Ipv4Addr, u8, &str)] = &[
    (Ipv4Addr::UNSPECIFIED, 8, "an unspecified address"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "a private address"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "a carrier's private address"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "a loopback address"),
    (Ipv4Addr::new(168, 63, 129, 16), 32, "a cloud's metadata address"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "a link-local or metadata address"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "a private address"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "a protocol address"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "a documentation address"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "a 6to4 relay"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "a private address"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "a benchmark address"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "a documentation address"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "a documentation address"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "a multicast address"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "a reserved or broadcast address"),
];

/// Ranges inside `2000::/3` that are not the public internet; everything outside of it is refused anyway.
const RANGES_V6: &[(Ipv6Addr, u8, &str)] = &[
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "a protocol or Teredo address"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "a documentation address"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "a 6to4 address"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "a documentation address"),
];

/// Ranges outside of `2000::/3` that deserve a name of their own in an error.
const NAMED_V6: &[(Ipv6Addr, u8, &str)] = &[
    (Ipv6Addr::UNSPECIFIED, 128, "an unspecified address"),
    (Ipv6Addr::LOCALHOST, 128, "a loopback address"),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, "an IPv4-mapped address"),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 32, "a NAT64 address"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "a private address"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "a link-local address"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "a multicast address"),
];

const PUBLIC_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Why the address is not public; `None` if it is.
pub(crate) fn judged(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => {
            let found = RANGES_V4.iter().find(|(first, prefix, _)| in_v4(address, *first, *prefix));
            found.map(|(_, _, what)| *what)
        }
        IpAddr::V6(address) => {
            let holds = |(first, prefix, _): &&(Ipv6Addr, u8, &'static str)| in_v6(address, *first, *prefix);
            let named = RANGES_V6.iter().chain(NAMED_V6).find(holds).map(|(_, _, what)| *what);
            let is_public = in_v6(address, PUBLIC_V6.0, PUBLIC_V6.1);
            named.or(if is_public { None } else { Some("a reserved address") })
        }
    }
}

fn in_v4(address: Ipv4Addr, first: Ipv4Addr, prefix: u8) -> bool {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
    address.to_bits() & mask == first.to_bits() & mask
}

fn in_v6(address: Ipv6Addr, first: Ipv6Addr, prefix: u8) -> bool {
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
    address.to_bits() & mask == first.to_bits() & mask
}

/// A place beyond the public internet that a policy opens: a host name with whatever it resolves to, one address, or a
/// range such as `10.1.0.0/16`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateAddress(Opened);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Opened {
    Host(String),
    Range(IpAddr, u8),
}

/// Why a text is neither a host, an address nor a range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a host name, an address, nor a range such as `10.1.0.0/16`")]
pub struct PrivateAddressError(String);

impl PrivateAddress {
    /// Parses a host name, an address or a range.
    ///
    /// # Errors
    ///
    /// [`PrivateAddressError`] repeats the text.
    pub fn parse(text: &str) -> Result<Self, PrivateAddressError> {
        let wrong = || PrivateAddressError(text.to_owned());
        let bare = text.trim();
        if let Some((address, prefix)) = bare.split_once('/') {
            let address: IpAddr = address.parse().map_err(|_| wrong())?;
            let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
            let longest = if address.is_ipv4() { 32 } else { 128 };
            return if prefix <= longest { Ok(Self(Opened::Range(address, prefix))) } else { Err(wrong()) };
        }
        let unbracketed = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(bare);
        if let Ok(address) = unbracketed.parse::<IpAddr>() {
            return Ok(Self(Opened::Range(address, if address.is_ipv4() { 32 } else { 128 })));
        }
        match url::Host::parse(bare.strip_suffix('.').unwrap_or(bare)) {
            Ok(url::Host::Domain(name)) if !name.contains('*') => Ok(Self(Opened::Host(name))),
            Ok(url::Host::Domain(_) | url::Host::Ipv4(_) | url::Host::Ipv6(_)) | Err(_) => Err(wrong()),
        }
    }
}

impl fmt::Display for PrivateAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Opened::Host(name) => f.write_str(name),
            Opened::Range(address, prefix) => write!(f, "{address}/{prefix}"),
        }
    }
}

impl<'de> Deserialize<'de> for PrivateAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Everything a policy opens.
#[derive(Debug, Clone, Default)]
pub(crate) struct PrivateAddresses(pub(crate) Vec<PrivateAddress>);

impl PrivateAddresses {
    /// Why this address must not be connected to for this host; `None` if it may. `host` is empty for an address that
    /// was written out.
    pub(crate) fn refusal(&self, host: &str, address: IpAddr) -> Option<&'static str> {
        let what = judged(address)?;
        let opened = self.0.iter().any(|opened| match (&opened.0, address) {
            (Opened::Host(name), _) => name == host.strip_suffix('.').unwrap_or(host),
            (Opened::Range(IpAddr::V4(first), prefix), IpAddr::V4(address)) => in_v4(address, *first, *prefix),
            (Opened::Range(IpAddr::V6(first), prefix), IpAddr::V6(address)) => in_v6(address, *first, *prefix),
            (Opened::Range(_, _), _) => false,
        });
        (!opened).then_some(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, public: bool) {
        let parsed: IpAddr = address.parse().expect("an address");
        assert_eq!(judged(parsed).is_none(), public, "{address}: {:?}", judged(parsed));
    }

    #[test]
    fn public_addresses_are_public() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "128.0.0.1",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "2001:200::1",
            "3fff:1000::1",
        ] {
            check(address, true);
        }
    }

    #[test]
    fn everything_else_is_not() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
        ] {
            check(address, false);
        }
    }

    #[test]
    fn a_policy_opens_hosts_addresses_and_ranges() {
        let opened = |texts: &[&str]| {
            PrivateAddresses(texts.iter().map(|text| PrivateAddress::parse(text).expect("an entry")).collect())
        };
        let may = |texts: &[&str], host: &str, address: &str| {
            opened(texts).refusal(host, address.parse().expect("an address")).is_none()
        };
        assert!(may(&["127.0.0.1"], "", "127.0.0.1"));
        assert!(!may(&["127.0.0.1"], "", "127.0.0.2"));
        assert!(!may(&["127.0.0.1"], "", "::ffff:127.0.0.1"));
        assert!(may(&["10.1.0.0/16"], "x", "10.1.255.255"));
        assert!(!may(&["10.1.0.0/16"], "x", "10.2.0.0"));
        assert!(may(&["0.0.0.0/0"], "x", "10.2.0.0"));
        assert!(!may(&["0.0.0.0/0"], "x", "::1"));
        assert!(may(&["[::1]"], "", "::1"));
        assert!(may(&["fd00::/8"], "", "fd12::1"));
        assert!(may(&["Intranet.example."], "intranet.example", "10.0.0.1"));
        assert!(!may(&["intranet.example"], "other.example", "10.0.0.1"));
        assert!(!may(&["localhost"], "", "127.0.0.1"));
        assert!(may(&[], "x", "8.8.8.8"));
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "x/8", "*.example", "http://x", "a b"] {
            assert!(PrivateAddress::parse(text).is_err(), "{text:?}");
        }
    }
}
