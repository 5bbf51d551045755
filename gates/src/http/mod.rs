//! Reaching the web: what may be reached, and who decides.
//!
//! Owns the policy of `http_fetch` and the judgement of addresses. A name is allowed by a host pattern, an address by
//! being public or listed; both must hold, and the address is judged where it is connected to, so a name that resolves
//! differently a moment later gains nothing.

mod address;
mod policy;
mod resolver;

pub use address::{PrivateAddress, PrivateAddressError};
pub use policy::{Headers, HttpPolicy, HttpPolicyError};

pub(crate) use address::PrivateAddresses;

pub(crate) use resolver::{AddressRefused, JudgingResolver};
