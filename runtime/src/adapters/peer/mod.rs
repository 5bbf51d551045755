//! Other nodes: gRPC over mutual TLS, as a client of peers and as a host for them.
//!
//! Owns connections, certificates, the protocol and what is retried. Never decides what a peer may do: that is the node's file,
//! through [`Hosting`]. Nothing of the wire leaves this module; `convert` is its only door.

mod accept;
mod answers;
mod certificate;
mod client;
mod connection;
mod convert;
mod copied;
mod copied_casts;
mod copied_fences;
mod credentials;
mod deploy;
mod guarded;
mod identity;
mod judge;
mod near;
mod net;
mod protocol;
mod rewarded;
mod server;
mod speaking;
mod sync;
mod upload;
mod wire;

pub use crate::domain::caller::Caller;
pub use accept::{AcceptLimits, Incoming, accepting, over_socket, over_tls, over_tls_within};
pub use certificate::{
    CertificateInfo, Concern, Fingerprint, FingerprintError, Period, is_key_of, make_authority, make_authority_for,
    make_certificate, make_certificate_for,
};
pub use client::{PeerLimits, PeerNodes, Way};
pub use connection::ConnectionLimits;
pub use copied::CopyState;
pub use deploy::{DeployError, Deployed, Package};
pub use identity::{Identity, IdentityError, next_key};
pub use net::{BoxIo, Net, TcpNet};
pub use protocol::PROTOCOL;
pub use server::{GuestLine, Hosting, NodeServer, ServeError, Terms};
pub use upload::{Coming, Kept, Shelve, Uploaded, Uploads, signed_by};

/// The protocol as generated, for tests that speak it themselves.
pub mod v1 {
    pub use super::wire::*;
}
