//! Who may write a loom's record: members and their rights, as entries say it.
//!
//! A signature says who wrote an entry; what is here says whether that one was allowed to. Decides nothing about threads.

mod mint;
mod record;
mod terms;

pub use record::{
    Attestation, CertificateSignature, Certified, ChainCheck, CheckedAttestation, CheckedRecord, CheckedSuccession,
    MemberRecord, RecordError, Scheme, Succession, Vouched, relied_on,
};
pub use terms::{
    Admitted, AuthorityId, CertificateId, Expelled, LogEnd, NodeId, Nonce, Principal, Right, Rights, Scope, Settled,
    Target,
};
