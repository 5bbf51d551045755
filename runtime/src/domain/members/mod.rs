//! Who may write a loom's record: members and their rights, as entries say it.
//!
//! A signature says who wrote an entry; what is here says whether that one was allowed to. Whoever decides anything by entries asks
//! the [`Reader`].

mod batch;
mod chains;
mod cut;
mod endings;
mod expulsions;
mod facts;
mod history;
mod known;
mod logs;
mod mint;
mod order;
mod proved;
mod reader;
mod record;
mod rights;
mod selves;
mod tenures;
mod terms;
#[cfg(test)]
mod tests;
mod threads;
mod verdict;

pub use batch::{Batch, LogPart};
pub use facts::changes_members;
pub use known::Known;
pub use proved::{CheckedProof, ProofCount, ProofError, ProvedEntry};
pub use reader::{Member, Owner, Reader};
pub use record::{
    Attestation, CertificateSignature, Certified, ChainCheck, CheckedAttestation, CheckedRecord, CheckedSuccession,
    MemberRecord, RecordError, Scheme, Succession, Vouched, relied_on,
};
pub use rights::Deed;
pub use terms::{
    Admitted, AuthorityId, CertificateId, Expelled, LogEnd, NodeId, Nonce, Principal, Right, Rights, Scope, Settled,
    Target,
};
pub use verdict::Refused;
