//! Single entries of logs, each with what leads from it to a head that its writer has signed: for whoever has not the log.
//!
//! An order for a host carries them from the loom's founding entry to the admission of the host. Bytes that come from outside are
//! parsed and then checked; only a check makes a [`CheckedProof`], and only such a one is kept and read for a decision.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use thiserror::Error;

use super::record::{RecordError, malformed, read, signature, written};
use crate::domain::ids::{EntryId, LoomId};
use crate::domain::limits::{
    PROVED_ENTRY_BYTES_MAX, PROVED_IDS_MAX, PROVED_LOOM_BYTES_MAX, PROVED_LOOM_MAX, PROVED_ORDER_BYTES_MAX,
    PROVED_ORDER_MAX,
};
use crate::domain::loom::{EntryError, Head, Sealed, SignedHead, Unminted};

/// The version of the form: the format of the entries in it.
const VERSION: u16 = 2;

/// An entry, and what leads to it and behind it in its writer's log. Nothing of it is believed before [`ProvedEntry::check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvedEntry {
    /// The head before it.
    pub before: Head,
    /// Its bytes.
    pub entry: Vec<u8>,
    /// The entries behind it, up to the signed head.
    pub behind: Vec<EntryId>,
    /// The writer's signature over where they lead, as [`SignedHead`] has it.
    pub signature: [u8; 64],
}

/// Why a proved entry is refused.
#[derive(Debug, Error)]
pub enum ProofError {
    /// Bytes that are none, in another form than the one, or too many.
    #[error(transparent)]
    Form(#[from] RecordError),
    /// More entries behind it than one may have.
    #[error("{ids} entries are between it and the signed head, and the limit is {PROVED_IDS_MAX}")]
    TooFar {
        /// How many.
        ids: usize,
    },
    /// Bytes that are no entry.
    #[error("its entry is damaged")]
    Entry(#[source] EntryError),
    /// An entry with an id that its minter has not made.
    #[error("its entry has an id that its minter has not made")]
    Unminted(#[source] Unminted),
    /// An entry that is not behind the head before it.
    #[error("its entry is number {sequence} of its log, and the head before it is number {before}")]
    Place {
        /// Where the entry says that it is.
        sequence: u64,
        /// Where the head is.
        before: u64,
    },
    /// Not the writer's word.
    #[error("the writer of entry {id} has not signed where it leads")]
    Unsigned {
        /// Which entry.
        id: EntryId,
    },
    /// More at once than an order may have.
    #[error(
        "an order has {count} proved entries of {bytes} bytes, and the limits are {PROVED_ORDER_MAX} and {PROVED_ORDER_BYTES_MAX} bytes"
    )]
    TooMany {
        /// How many.
        count: usize,
        /// And how long.
        bytes: usize,
    },
    /// As many as are kept are kept.
    #[error(
        "{count} proved entries of {bytes} bytes are kept of this loom already, and the limits are {PROVED_LOOM_MAX} and {PROVED_LOOM_BYTES_MAX} bytes"
    )]
    Full {
        /// How many.
        count: u64,
        /// And how long.
        bytes: u64,
    },
}

/// A proved entry as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    v: u16,
    seq: u64,
    chain: ByteBuf,
    entry: ByteBuf,
    behind: Vec<ByteBuf>,
    signature: ByteBuf,
}

impl ProvedEntry {
    /// As it is kept and sent: DAG-CBOR, in one form.
    pub fn to_bytes(&self) -> Vec<u8> {
        written(&Written {
            v: VERSION,
            seq: self.before.sequence,
            chain: ByteBuf::from(self.before.chain),
            entry: ByteBuf::from(self.entry.clone()),
            behind: self.behind.iter().map(|id| ByteBuf::from(id.digest())).collect(),
            signature: ByteBuf::from(self.signature),
        })
    }

    /// Reads one. Nothing is said about what it claims.
    ///
    /// # Errors
    /// Bytes that are none, in another form than the one, or more than there may be.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProofError> {
        let it: Written = read(bytes, PROVED_ENTRY_BYTES_MAX)?;
        if it.v != VERSION {
            return Err(RecordError::Version { found: it.v }.into());
        }
        let hash = |bytes: ByteBuf| {
            let length = bytes.len();
            let hash: Result<[u8; 32], _> = bytes.into_vec().try_into();
            hash.map_err(|_| malformed(format!("a hash of {length} bytes, and it needs 32")))
        };
        let behind = it.behind.into_iter().map(|id| hash(id).map(EntryId::from_digest));
        let proof = Self {
            before: Head { sequence: it.seq, chain: hash(it.chain)? },
            entry: it.entry.into_vec(),
            behind: behind.collect::<Result<_, _>>()?,
            signature: signature(it.signature)?,
        };
        proof.is_bounded()?;
        Ok(proof)
    }

    /// Reads those that come together in one order.
    ///
    /// # Errors
    /// Too many of them, or the first that cannot be read.
    pub fn parse_all<T: AsRef<[u8]>>(all: &[T]) -> Result<Vec<Self>, ProofError> {
        let bytes = all.iter().fold(0_usize, |sum, one| sum.saturating_add(one.as_ref().len()));
        if all.len() > PROVED_ORDER_MAX || bytes > PROVED_ORDER_BYTES_MAX {
            return Err(ProofError::TooMany { count: all.len(), bytes });
        }
        all.iter().map(|one| Self::parse(one.as_ref())).collect()
    }

    const fn is_bounded(&self) -> Result<(), ProofError> {
        let ids = self.behind.len();
        if ids > PROVED_IDS_MAX { Err(ProofError::TooFar { ids }) } else { Ok(()) }
    }

    /// Recomputes all of it: the entry's hash and place, the chain, the signature.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(self) -> Result<CheckedProof, ProofError> {
        self.is_bounded()?;
        let Self { before, entry, behind, signature } = self;
        let sealed = Sealed::read(entry).map_err(ProofError::Entry)?;
        sealed.entry.check_minted().map_err(ProofError::Unminted)?;
        let sequence = sealed.entry.sequence;
        if Some(sequence) != before.sequence.checked_add(1) {
            return Err(ProofError::Place { sequence, before: before.sequence });
        }
        let head = behind.iter().fold(before.after(&sealed.id), |head, id| head.after(id));
        let signed = SignedHead { loom: sealed.entry.loom, writer: sealed.entry.writer, head, signature };
        if !signed.is_signed() {
            return Err(ProofError::Unsigned { id: sealed.id });
        }
        Ok(CheckedProof(Arc::new(Whole { before, sealed, behind, signature })))
    }
}

/// A proved entry that is what its writer has signed.
#[derive(Debug, Clone)]
pub struct CheckedProof(Arc<Whole>);

#[derive(Debug)]
struct Whole {
    before: Head,
    sealed: Sealed,
    behind: Vec<EntryId>,
    signature: [u8; 64],
}

impl CheckedProof {
    /// The entry.
    pub fn sealed(&self) -> &Sealed {
        &self.0.sealed
    }

    /// Which entry it is.
    pub fn id(&self) -> EntryId {
        self.0.sealed.id
    }

    /// The loom that it is of.
    pub fn loom(&self) -> LoomId {
        self.0.sealed.entry.loom
    }

    /// The head before it.
    pub fn before(&self) -> Head {
        self.0.before
    }

    /// The entries behind it, up to a signed head.
    pub fn behind(&self) -> &[EntryId] {
        &self.0.behind
    }

    /// As it is sent on.
    pub fn to_proof(&self) -> ProvedEntry {
        let Whole { before, sealed, behind, signature } = &*self.0;
        ProvedEntry { before: *before, entry: sealed.bytes.clone(), behind: behind.clone(), signature: *signature }
    }
}

/// How much is kept of one loom, with what is to be kept beside it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProofCount {
    /// How many proved entries.
    pub count: u64,
    /// And how long they are.
    pub bytes: u64,
}

impl ProofCount {
    /// One more of so many bytes.
    ///
    /// # Errors
    /// One too many.
    pub const fn add(self, bytes: usize) -> Result<Self, ProofError> {
        let next = Self { count: self.count.saturating_add(1), bytes: self.bytes.saturating_add(bytes as u64) };
        if next.count > PROVED_LOOM_MAX || next.bytes > PROVED_LOOM_BYTES_MAX {
            return Err(ProofError::Full { count: self.count, bytes: self.bytes });
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};

    use super::*;
    use crate::domain::ids::{EntityId, WriterKey};
    use crate::domain::loom::{Body, Entry, Payload};

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[1; 32])
    }

    fn entry(sequence: u64) -> Sealed {
        let writer = WriterKey::from_bytes(*key().verifying_key().as_bytes());
        let body = Body::intent(Payload::Inline("go".to_owned()), false, None);
        let entity = EntityId::from_parts(1, [1; 16]);
        let entry = Entry::new(LoomId::from_parts(1, [2; 16]), (writer, sequence), 7, entity, None, body);
        Sealed::new(entry, Vec::new()).unwrap_or_else(|error| unreachable!("{error}"))
    }

    /// Entry 3 of a log, with so many behind it.
    fn proof(behind: usize) -> ProvedEntry {
        let sealed = entry(3);
        let before = Head::default().after(&EntryId::of(b"1")).after(&EntryId::of(b"2"));
        let behind: Vec<EntryId> = (0..behind).map(|number| EntryId::of(&number.to_be_bytes())).collect();
        let head = behind.iter().fold(before.after(&sealed.id), |head, id| head.after(id));
        let statement = SignedHead::statement(sealed.entry.loom, sealed.entry.writer, &head);
        ProvedEntry { before, entry: sealed.bytes, behind, signature: key().sign(&statement).to_bytes() }
    }

    #[test]
    fn a_proved_entry_is_what_its_writer_signed_and_bytes_lead_back_to_it() {
        for behind in [0, 1, PROVED_IDS_MAX] {
            let proof = proof(behind);
            let parsed = ProvedEntry::parse(&proof.to_bytes()).ok();
            assert_eq!(parsed.as_ref(), Some(&proof));
            let checked = proof.clone().check().ok();
            assert_eq!(checked.as_ref().map(CheckedProof::id), Some(entry(3).id));
            assert_eq!(checked.map(|checked| checked.to_proof()), Some(proof));
        }
    }

    #[test]
    fn what_is_moved_changed_cut_or_signed_by_nobody_proves_nothing() {
        let whole = proof(2);
        let moved = ProvedEntry { before: Head::default(), ..whole.clone() };
        let other = ProvedEntry { entry: entry(4).bytes, ..whole.clone() };
        let exchanged = ProvedEntry { before: Head { chain: [9; 32], ..whole.before }, ..whole.clone() };
        let cut = ProvedEntry { behind: vec![EntryId::of(&0_usize.to_be_bytes())], ..whole.clone() };
        let unsigned = ProvedEntry { signature: [0; 64], ..whole.clone() };
        let damaged = ProvedEntry { entry: b"nothing".to_vec(), ..whole };
        for (wrong, says) in [
            (moved, "the head before it is number 0"),
            (other, "the head before it is number 2"),
            (exchanged, "has not signed"),
            (cut, "has not signed"),
            (unsigned, "has not signed"),
            (damaged, "is damaged"),
        ] {
            let refused = wrong.check().map(|_| ()).map_err(|error| error.to_string());
            assert!(refused.as_ref().is_err_and(|error| error.contains(says)), "{refused:?}");
        }
    }

    #[test]
    fn a_proved_entry_is_bounded_before_it_is_checked_and_so_are_those_of_an_order() {
        let far = proof(PROVED_IDS_MAX + 1);
        assert!(matches!(ProvedEntry::parse(&far.to_bytes()), Err(ProofError::TooFar { .. })));
        assert!(matches!(far.check(), Err(ProofError::TooFar { .. })));
        let long = vec![0; PROVED_ENTRY_BYTES_MAX + 1];
        assert!(matches!(ProvedEntry::parse(&long), Err(ProofError::Form(RecordError::TooLong { .. }))));
        let one = proof(0).to_bytes();
        assert_eq!(
            ProvedEntry::parse_all(&vec![one.clone(); PROVED_ORDER_MAX]).ok().map(|all| all.len()),
            Some(PROVED_ORDER_MAX)
        );
        let many = vec![one; PROVED_ORDER_MAX + 1];
        assert!(matches!(ProvedEntry::parse_all(&many), Err(ProofError::TooMany { .. })));
        let much = vec![vec![0; PROVED_ENTRY_BYTES_MAX]; PROVED_ORDER_BYTES_MAX / PROVED_ENTRY_BYTES_MAX + 1];
        assert!(matches!(ProvedEntry::parse_all(&much), Err(ProofError::TooMany { .. })));
    }

    #[test]
    fn a_proved_entry_has_one_form() {
        let mut bytes = proof(1).to_bytes();
        assert!(ProvedEntry::parse(&bytes).is_ok());
        bytes.push(0);
        assert!(ProvedEntry::parse(&bytes).is_err());
    }
}
