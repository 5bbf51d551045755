//! A loom as an archive of content-addressed blocks (`CARv1`, <https://ipld.io/specs/transport/car/carv1/>): every entry and every
//! text under the hash that names it, and one block that says whose logs they are, with the writers' signatures. Whoever imports
//! it recomputes everything.

mod beside;
mod blocks;
mod survey;
mod taking;

use std::collections::HashSet;
use std::io::{Read, Seek, Write};

use cid::Cid;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use thiserror::Error;

use self::blocks::{CODEC_DAG_CBOR, CODEC_RAW, begin, block, cid, read_block, read_root};
use self::survey::Survey;
use self::taking::Import;
use crate::domain::ids::{EntryId, LoomId, WriterKey};
use crate::domain::loom::{CastHead, CastHeadError, Head, Segment, SegmentError, SignedHead, Unminted, text_ids};
use crate::domain::members::{Principal, ProofError, RecordError};
use crate::ports::{CopyStore, StoreError};

/// The version of the block that says whose logs they are.
const VERSION: u16 = 2;

/// Why an archive could not be written or read.
#[derive(Debug, Error)]
pub enum CarError {
    /// The file.
    #[error("the archive could not be read or written")]
    Io(#[from] std::io::Error),
    /// The record.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Not an archive of this kind.
    #[error("this is no archive of a loom: {0}")]
    Malformed(String),
    /// A block that is not what its name says.
    #[error("block {number} of the archive is damaged: its bytes do not hash to {cid}")]
    Damaged {
        /// Its place, from 1.
        number: u64,
        /// Its name.
        cid: Box<Cid>,
    },
    /// A block that the logs name and that is not there.
    #[error("the archive lacks {0}, which its logs name")]
    Missing(String),
    /// Something that should vouch for a writer's key.
    #[error("what should vouch for writer {writer} in the archive does not hold")]
    Attestation {
        /// Whose key.
        writer: WriterKey,
        /// What is wrong with it.
        #[source]
        source: RecordError,
    },
    /// A proved entry.
    #[error("a proved entry of the archive does not hold")]
    Proof(#[source] ProofError),
    /// An entry of another loom.
    #[error("the entry {id} is of loom {of}, and the archive is of {loom}")]
    AnotherLoom {
        /// Which.
        id: EntryId,
        /// Its loom.
        of: LoomId,
        /// That of the archive.
        loom: LoomId,
    },
    /// An entry with an id that its minter has not made.
    #[error("the entry {id} is refused")]
    Unminted {
        /// Which.
        id: EntryId,
        /// Why.
        #[source]
        source: Unminted,
    },
    /// Entries of a cast that are not as their writers signed them.
    #[error("what came with a cast is not as it was signed")]
    Cast(#[source] CastHeadError),
    /// A log that is not as its writer signed it.
    #[error("the log of writer {writer} in the archive is not as it was signed")]
    Log {
        /// Whose.
        writer: WriterKey,
        /// What is wrong with it.
        #[source]
        source: SegmentError,
    },
}

/// What an archive has, and what was taken of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// The loom.
    pub loom: LoomId,
    /// Entries; for an import those that were taken.
    pub entries: u64,
    /// How many of them are new.
    pub new: u64,
    /// Large texts.
    pub texts: u64,
    /// Who founded the loom, where the archive or the record shows it.
    pub founder: Option<Principal>,
    /// What was not taken, and why.
    pub left_out: Vec<LeftOut>,
}

impl Archived {
    const fn of(loom: LoomId) -> Self {
        Self { loom, entries: 0, new: 0, texts: 0, founder: None, left_out: Vec::new() }
    }
}

/// Entries of one writer that an import has not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Whose.
    pub writer: WriterKey,
    /// How many.
    pub entries: u64,
    /// Why.
    pub why: LeftWhy,
}

/// Why entries of an archive are not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LeftWhy {
    /// Nobody is known to have admitted their writer: they may be taken later.
    #[error("nobody has admitted their writer to the loom, as far as is known here")]
    NotAdmitted,
    /// They are of another loom.
    #[error("they are of the loom {0}, and the archive is of another")]
    AnotherLoom(LoomId),
    /// No signature of their writer covers them as they are.
    #[error("they are not as their writer signed them: {0}")]
    NotSigned(String),
    /// Their writer has signed two histories.
    #[error("their writer has signed two histories of the loom")]
    TwoHistories,
}

impl LeftWhy {
    /// The kind, for programs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::NotAdmitted => "not_admitted",
            Self::AnotherLoom(_) => "another_loom",
            Self::NotSigned(_) => "not_signed",
            Self::TwoHistories => "two_histories",
        }
    }

    /// Whether no honest node archives such entries.
    pub const fn is_wrong(&self) -> bool {
        match self {
            Self::NotAdmitted => false,
            Self::AnotherLoom(_) | Self::NotSigned(_) | Self::TwoHistories => true,
        }
    }

    fn of_segment(error: &SegmentError, loom: LoomId) -> Self {
        if let SegmentError::Misplaced { said_loom, .. } = error
            && *said_loom != loom
        {
            return Self::AnotherLoom(*said_loom);
        }
        Self::not_signed(error)
    }

    /// Why a step of a cast is left out; nothing for an archive that cannot be read on.
    fn of_step(error: &CarError) -> Option<Self> {
        match error {
            CarError::AnotherLoom { of, .. } => Some(Self::AnotherLoom(*of)),
            CarError::Cast(error) => Some(Self::not_signed(error)),
            CarError::Unminted { .. } | CarError::Proof(_) => Some(Self::not_signed(error)),
            CarError::Io(_)
            | CarError::Store(_)
            | CarError::Malformed(_)
            | CarError::Damaged { .. }
            | CarError::Missing(_)
            | CarError::Attestation { .. }
            | CarError::Log { .. } => None,
        }
    }

    fn not_signed(error: &dyn std::error::Error) -> Self {
        let causes = std::iter::successors(Some(error), |cause| cause.source());
        Self::NotSigned(causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
    }
}

/// Whose logs are in the archive.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    v: u16,
    loom: LoomId,
    logs: Vec<Log>,
    /// What came by casts, in the steps in which it came.
    casts: Vec<Step>,
    /// What vouches for the keys of those who wrote them: member records, and successions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    members: Vec<ByteBuf>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    successions: Vec<ByteBuf>,
    /// Entries of logs that are not in it, each a block with its writer's word for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    proved: Vec<EntryId>,
    /// Proofs that writers have signed two histories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    divided: Vec<ByteBuf>,
}

/// Entries that came by a cast, and the heads of their writers over them.
#[derive(Debug, Serialize, Deserialize)]
struct Step {
    #[serde(with = "serde_bytes")]
    heads: Vec<u8>,
    entries: Vec<EntryId>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Log {
    writer: WriterKey,
    stretches: Vec<Stretch>,
}

/// A stretch of a log up to a head that its writer has signed.
#[derive(Debug, Serialize, Deserialize)]
struct Stretch {
    sequence: u64,
    #[serde(with = "serde_bytes")]
    chain: Vec<u8>,
    #[serde(with = "serde_bytes")]
    signature: Vec<u8>,
    entries: Vec<EntryId>,
}

impl Log {
    /// Its stretches, each with the head before it and the signed head where it ends.
    fn heads(&self, loom: LoomId) -> Result<Vec<(Head, SignedHead)>, CarError> {
        let writer = self.writer;
        let mut from = Head::default();
        let heads = self.stretches.iter().map(|stretch| {
            let chain = stretch.chain.as_slice().try_into().map_err(|_| cut_short("a chain", writer))?;
            let signature = stretch.signature.as_slice().try_into().map_err(|_| cut_short("a signature", writer))?;
            let head = Head { sequence: stretch.sequence, chain };
            Ok((std::mem::replace(&mut from, head), SignedHead { loom, writer, head, signature }))
        });
        heads.collect()
    }
}

fn cut_short(what: &str, writer: WriterKey) -> CarError {
    CarError::Malformed(format!("{what} of writer {writer} is cut short"))
}

/// Writes a loom as an archive. This node's own log is signed for the purpose.
///
/// # Errors
/// A loom or a file that cannot be read or written.
pub fn write(store: &dyn CopyStore, loom: LoomId, out: &mut impl Write) -> Result<Archived, CarError> {
    let mut manifest = Manifest {
        v: VERSION,
        loom,
        logs: Vec::new(),
        casts: Vec::new(),
        members: Vec::new(),
        successions: Vec::new(),
        proved: Vec::new(),
        divided: Vec::new(),
    };
    let proved = manifest.beside(store)?;
    let mut blocks: Vec<(EntryId, Vec<u8>)> = Vec::new();
    let mut placed = HashSet::new();
    for state in store.logs(loom)? {
        let mut log = Log { writer: state.writer, stretches: Vec::new() };
        let mut after = 0;
        while let Some(segment) = store.segment(loom, state.writer, after)? {
            let Segment { entries, signed, .. } = segment;
            after = signed.head.sequence;
            let entries: Vec<(EntryId, Vec<u8>)> =
                entries.into_iter().map(|bytes| (EntryId::of(&bytes), bytes)).collect();
            log.stretches.push(Stretch {
                sequence: signed.head.sequence,
                chain: signed.head.chain.to_vec(),
                signature: signed.signature.to_vec(),
                entries: entries.iter().map(|(id, _)| *id).collect(),
            });
            placed.extend(entries.iter().map(|(id, _)| *id));
            blocks.extend(entries);
        }
        manifest.logs.push(log);
    }
    store.steps_received(loom, &mut |entries, heads| {
        let ids = entries.iter().map(|sealed| sealed.id).collect();
        manifest.casts.push(Step { heads: CastHead::to_bytes(&heads), entries: ids });
        let new = entries.into_iter().filter(|sealed| placed.insert(sealed.id));
        blocks.extend(new.map(|sealed| (sealed.id, sealed.bytes)));
        Ok(())
    })?;
    let root = serde_ipld_dagcbor::to_vec(&manifest)
        .map_err(|error| CarError::Malformed(format!("it cannot be encoded: {error}")))?;
    begin(out, &root)?;
    let mut texts = HashSet::new();
    for (_, bytes) in &blocks {
        for id in text_ids(bytes) {
            if texts.insert(id) {
                let text = store.blob(id)?.ok_or_else(|| CarError::Missing(format!("the text {id}")))?;
                block(out, &cid(CODEC_RAW, &text), &text)?;
            }
        }
        block(out, &cid(CODEC_DAG_CBOR, bytes), bytes)?;
    }
    for bytes in &proved {
        block(out, &cid(CODEC_DAG_CBOR, bytes), bytes)?;
    }
    out.flush()?;
    Ok(Archived { entries: blocks.len() as u64, texts: texts.len() as u64, ..Archived::of(loom) })
}

/// Reads the block that says whose logs are in an archive.
fn read_manifest(input: &mut impl Read) -> Result<Manifest, CarError> {
    let manifest: Manifest = serde_ipld_dagcbor::from_slice(&read_root(input)?)
        .map_err(|error| CarError::Malformed(format!("its root does not say whose logs they are: {error}")))?;
    if manifest.v != VERSION {
        return Err(CarError::Malformed(format!("it has version {}, and this one reads {VERSION}", manifest.v)));
    }
    Ok(manifest)
}

/// Imports an archive by the rules of a keeper: the logs of the founder and of whoever was admitted to the whole loom, the casts of
/// hosts that were admitted for them, and what vouches for either. The rest is left out, and so is what is not as its writer signed
/// it. It is read twice: first for who is a member.
///
/// # Errors
/// An archive that is damaged or is none, or a record that cannot be written.
pub fn import(store: &dyn CopyStore, input: &mut (impl Read + Seek)) -> Result<Archived, CarError> {
    let mut survey = Survey::of(store, &read_manifest(input)?)?;
    let mut number = 1;
    loop {
        number += 1;
        let Some((name, bytes)) = read_block(input, number)? else { break };
        survey.take(name.codec(), bytes)?;
    }
    let keeping = survey.end()?;
    input.rewind()?;
    let manifest = read_manifest(input)?;
    taken(Import::of(store, manifest, Some(keeping))?, input)
}

/// Reads an archive into a record, a stretch at a time, whoever has written it. Nothing of it is taken that is not as its writer
/// signed it; what is there already stays.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn read(store: &dyn CopyStore, input: &mut impl Read) -> Result<Archived, CarError> {
    let manifest = read_manifest(input)?;
    taken(Import::of(store, manifest, None)?, input)
}

fn taken(mut import: Import<'_>, input: &mut impl Read) -> Result<Archived, CarError> {
    import.go_on()?;
    let mut number = 1;
    loop {
        number += 1;
        let Some((name, bytes)) = read_block(input, number)? else { break };
        crate::domain::steps::count(1);
        import.take(number, name.codec(), *blake3::hash(&bytes).as_bytes(), bytes)?;
        import.go_on()?;
    }
    import.end()
}

#[cfg(test)]
#[path = "car_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "car/import_tests.rs"]
mod import_tests;
