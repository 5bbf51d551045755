//! Name lookup that hands out only addresses that may be connected to.
//!
//! Owns the defence against names that resolve to private addresses, also ones that do so only the second time: the
//! addresses judged here are the ones the connection is made to, because the client has no other source of addresses.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::limits::ADDRESSES_TRIED_MAX;

use super::address::PrivateAddresses;

/// A name led only to addresses that are not open.
#[derive(Debug, thiserror::Error)]
#[error("`{host}` leads to {address}, {what}")]
pub(crate) struct AddressRefused {
    pub(crate) host: String,
    pub(crate) address: IpAddr,
    pub(crate) what: &'static str,
}

/// The system's resolver behind the judgement of addresses.
#[derive(Debug, Clone)]
pub(crate) struct JudgingResolver {
    private: Arc<PrivateAddresses>,
}

impl JudgingResolver {
    pub(crate) fn new(private: Arc<PrivateAddresses>) -> Self {
        Self { private }
    }
}

impl Resolve for JudgingResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let private = Arc::clone(&self.private);
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let open = permitted(&private, &host, found)?;
            let addresses: Addrs = Box::new(open.into_iter());
            Ok(addresses)
        })
    }
}

/// The addresses that may be connected to. If there is none, the first one that was refused says why.
fn permitted(
    private: &PrivateAddresses,
    host: &str,
    found: impl Iterator<Item = SocketAddr>,
) -> Result<Vec<SocketAddr>, AddressRefused> {
    let mut refused = None;
    let mut open = Vec::new();
    for address in found.take(ADDRESSES_TRIED_MAX) {
        match private.refusal(host, address.ip()) {
            None => open.push(address),
            Some(what) => {
                refused.get_or_insert(AddressRefused { host: host.to_owned(), address: address.ip(), what });
            }
        }
    }
    match refused {
        Some(refused) if open.is_empty() => Err(refused),
        Some(_) | None => Ok(open),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_left_out_and_named_when_nothing_remains() {
        let private = PrivateAddresses::default();
        let socket = |text: &str| SocketAddr::new(text.parse().expect("an address"), 0);
        let found = [socket("10.0.0.1"), socket("8.8.8.8"), socket("::1")];
        let open = permitted(&private, "x", found.into_iter()).expect("one is public");
        assert_eq!(open, [socket("8.8.8.8")]);
        let refused = permitted(&private, "x", [socket("169.254.169.254")].into_iter()).expect_err("none is public");
        assert_eq!(refused.to_string(), "`x` leads to 169.254.169.254, a link-local or metadata address");
    }

    #[test]
    fn a_name_that_leads_elsewhere_the_second_time_is_judged_the_second_time() {
        let private = PrivateAddresses::default();
        let mut answers = ["93.184.216.34", "127.0.0.1", "::ffff:10.0.0.1"].into_iter();
        let mut look_up = || {
            let address = SocketAddr::new(answers.next().expect("an answer").parse().expect("an address"), 0);
            permitted(&private, "rebinding.example", std::iter::once(address))
        };
        assert_eq!(look_up().expect("public").len(), 1);
        for _ in 0..2 {
            let refused = look_up().expect_err("private").to_string();
            assert!(refused.starts_with("`rebinding.example` leads to "), "{refused}");
        }
    }

    #[test]
    fn a_name_with_addresses_without_end_costs_no_more_than_a_few() {
        let private = PrivateAddresses::default();
        let mut asked = 0_u32;
        let endless = std::iter::from_fn(|| {
            asked += 1;
            Some(SocketAddr::from(([8, 8, 8, 8], 0)))
        });
        assert_eq!(permitted(&private, "x", endless).expect("public").len(), 16);
        assert_eq!(asked, 16);
    }
}
