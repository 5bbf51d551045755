//! Segments: a stretch of one writer's log of one loom, with the writer's signature over where it leads.
//!
//! A log is a chain of hashes (see [`Head`]), so one signature over a head vouches for every entry up to it. Whoever holds a copy
//! can hand it on: what it hands on is the writer's word, not its own.

use ed25519_dalek::{Signature, VerifyingKey};
use thiserror::Error;

use super::entry::{EntryError, Head, Sealed};
use super::minted::Unminted;
use super::text::Blob;
use crate::domain::ids::{LoomId, WriterKey};
use crate::domain::limits::{SEGMENT_BYTES, SEGMENT_ENTRIES_MAX};

/// Says what is signed, so that no other signature of the key can be taken for it.
const STATEMENT: &[u8] = b"cantrip loom head v1\0";

/// A writer's word for how far its log of a loom is, and for every entry up to there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedHead {
    /// The loom.
    pub loom: LoomId,
    /// Whose log.
    pub writer: WriterKey,
    /// How far it is.
    pub head: Head,
    /// Ed25519 over [`SignedHead::statement`].
    pub signature: [u8; 64],
}

impl SignedHead {
    /// What is signed: 115 bytes that name loom, writer, length and chain.
    pub fn statement(loom: LoomId, writer: WriterKey, head: &Head) -> Vec<u8> {
        [
            STATEMENT,
            loom.as_bytes().as_slice(),
            writer.as_bytes().as_slice(),
            head.sequence.to_be_bytes().as_slice(),
            head.chain.as_slice(),
        ]
        .concat()
    }

    /// Whether the writer has signed this.
    pub fn is_signed(&self) -> bool {
        let statement = Self::statement(self.loom, self.writer, &self.head);
        VerifyingKey::from_bytes(self.writer.as_bytes())
            .is_ok_and(|key| key.verify_strict(&statement, &Signature::from_bytes(&self.signature)).is_ok())
    }
}

/// A stretch of a log as it travels. Nothing of it is believed before [`Segment::check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The head that the stretch follows.
    pub from: Head,
    /// The entries' bytes, in the order of the log.
    pub entries: Vec<Vec<u8>>,
    /// Large texts that they refer to, as far as they came along.
    pub blobs: Vec<Blob>,
    /// Where it leads.
    pub signed: SignedHead,
}

/// Why a segment is refused. Each names the loom's writer through the segment, and the entry by its place.
#[derive(Debug, Error)]
pub enum SegmentError {
    /// Nothing in it.
    #[error("the segment has no entries")]
    Empty,
    /// More than one segment holds.
    #[error("the segment has {entries} entries, and the limit is {SEGMENT_ENTRIES_MAX}")]
    TooMany {
        /// How many.
        entries: usize,
    },
    /// Longer than one segment is.
    #[error("the segment has {bytes} bytes before its last entry, and is sealed at {SEGMENT_BYTES}")]
    TooLarge {
        /// How long.
        bytes: usize,
    },
    /// Bytes that are no entry.
    #[error("entry {sequence} of the segment is damaged")]
    Entry {
        /// Where it would be.
        sequence: u64,
        /// What is wrong with it.
        #[source]
        source: EntryError,
    },
    /// An entry that belongs elsewhere.
    #[error(
        "entry {sequence} of the segment says that it is entry {said_sequence} of loom {said_loom} by {said_writer}"
    )]
    Misplaced {
        /// Where it stands.
        sequence: u64,
        /// Where it says that it stands.
        said_sequence: u64,
        /// Its loom.
        said_loom: LoomId,
        /// Its writer.
        said_writer: WriterKey,
    },
    /// An entry with an id that its minter has not made.
    #[error("entry {sequence} of the segment has an id that its minter has not made")]
    Unminted {
        /// Where it stands.
        sequence: u64,
        /// Which.
        source: Unminted,
    },
    /// The entries are not those that were signed.
    #[error(
        "the segment ends at entry {ends}, and the signed head is of entry {signed}: entries are missing or the head is old"
    )]
    Length {
        /// Where it ends.
        ends: u64,
        /// What the head says.
        signed: u64,
    },
    /// The entries are not those that were signed.
    #[error("the entries do not lead to the signed head {sequence}: one was exchanged or moved")]
    Chain {
        /// The length of both.
        sequence: u64,
    },
    /// Not the writer's word.
    #[error("the head {sequence} is not signed by {writer}")]
    Signature {
        /// The length.
        sequence: u64,
        /// Who should have signed.
        writer: WriterKey,
    },
    /// A text that is not what its name says.
    #[error("a text that came with the segment hashes to another name than {id}")]
    Text {
        /// Its name.
        id: String,
    },
}

/// A segment that is what its writer signed.
#[derive(Debug, Clone)]
pub struct CheckedSegment {
    pub(crate) from: Head,
    pub(crate) entries: Vec<Sealed>,
    pub(crate) blobs: Vec<Blob>,
    pub(crate) signed: SignedHead,
}

impl CheckedSegment {
    /// Where it leads.
    pub const fn signed(&self) -> &SignedHead {
        &self.signed
    }

    /// The entries.
    pub fn entries(&self) -> &[Sealed] {
        &self.entries
    }

    /// The head after each entry, from the one that it follows.
    pub(crate) fn heads(&self) -> impl Iterator<Item = Head> + '_ {
        let after = |head: &mut Head, sealed: &Sealed| {
            *head = head.after(&sealed.id);
            Some(*head)
        };
        std::iter::once(self.from).chain(self.entries.iter().scan(self.from, after))
    }
}

impl Segment {
    /// Recomputes all of it: the hashes of entries and texts, their places, the chain, the signature.
    ///
    /// # Errors
    /// The first thing that is not as it was signed.
    pub fn check(self) -> Result<CheckedSegment, SegmentError> {
        let Self { from, entries: raw, blobs, signed } = self;
        if raw.is_empty() {
            return Err(SegmentError::Empty);
        }
        if raw.len() > SEGMENT_ENTRIES_MAX {
            return Err(SegmentError::TooMany { entries: raw.len() });
        }
        let bytes = raw.iter().rev().skip(1).fold(0_usize, |sum, entry| sum.saturating_add(entry.len()));
        if bytes > SEGMENT_BYTES {
            return Err(SegmentError::TooLarge { bytes });
        }
        let mut head = from;
        let mut entries = Vec::with_capacity(raw.len());
        for bytes in raw {
            let sequence = head.sequence.saturating_add(1);
            let sealed = Sealed::read(bytes).map_err(|source| SegmentError::Entry { sequence, source })?;
            let entry = &sealed.entry;
            if (entry.sequence, entry.loom, entry.writer) != (sequence, signed.loom, signed.writer) {
                return Err(SegmentError::Misplaced {
                    sequence,
                    said_sequence: entry.sequence,
                    said_loom: entry.loom,
                    said_writer: entry.writer,
                });
            }
            entry.check_minted().map_err(|source| SegmentError::Unminted { sequence, source })?;
            head = head.after(&sealed.id);
            entries.push(sealed);
        }
        if head.sequence != signed.head.sequence {
            return Err(SegmentError::Length { ends: head.sequence, signed: signed.head.sequence });
        }
        if head.chain != signed.head.chain {
            return Err(SegmentError::Chain { sequence: head.sequence });
        }
        if !signed.is_signed() {
            return Err(SegmentError::Signature { sequence: head.sequence, writer: signed.writer });
        }
        if let Some(blob) = blobs.iter().find(|blob| !blob.is_whole()) {
            return Err(SegmentError::Text { id: blob.id.to_string() });
        }
        Ok(CheckedSegment { from, entries, blobs, signed })
    }
}
