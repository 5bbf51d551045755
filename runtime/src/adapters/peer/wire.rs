//! What the protocol's files generate.
#![expect(
    missing_docs,
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    clippy::large_enum_variant,
    reason = "generated; the protocol's file explains it"
)]

tonic::include_proto!("cantrip.v1");

/// The protocol's description, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cantrip.v1.bin"));
