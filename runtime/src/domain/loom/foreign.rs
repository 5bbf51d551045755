//! A thread of another loom, whole enough to be gone on with: what an entity here continues that was forked from a loom in which this
//! node may not write.
//!
//! It is kept as a text of the entity's `opened` entry, in pieces. It has the thread's entries, the texts that they refer to, and what
//! shows who wrote them and that they were allowed to: of each writer the digests of all entries up to a head that it has signed. It is
//! checked whenever it is read, and decides nothing here.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use thiserror::Error;

use super::cast_head::{CastChain, CastHead};
use super::entry::{Head, Sealed};
use super::equivocation::EquivocationProof;
use super::opened::ForkSource;
use super::segment::SignedHead;
use super::text::Blob;
use crate::domain::ids::{BlobId, EntityId, EntryId, LoomId, WriterKey};
use crate::domain::limits::{FOREIGN_SIGNATURES_MAX, FOREIGN_THREAD_BYTES_MAX, FOREIGN_TREE_BYTES_MAX};
use crate::domain::members::{
    Attestation, Batch, LogPart, MemberRecord, ProvedEntry, RecordError, Succession, Vouched,
};

/// The version of the form.
const VERSION: u16 = 2;
/// 1 MiB. A thread is kept in pieces of this size: each travels as a text of its own.
const PIECE_BYTES: usize = 1024 * 1024;

/// Why a thread of another loom cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ForeignError {
    /// More than one takes.
    #[error("the thread has {bytes} bytes or more with what proves it, and the limit is {FOREIGN_THREAD_BYTES_MAX}")]
    Size {
        /// How many.
        bytes: u64,
    },
    /// More than are read for one tree.
    #[error(
        "the threads of other looms that are continued here have together more than {FOREIGN_TREE_BYTES_MAX} bytes"
    )]
    Bytes,
    /// A piece that is not here.
    #[error("the piece {0} of it is missing")]
    Piece(BlobId),
    /// Not a thread.
    #[error("it is no thread of a loom: {0}")]
    Malformed(String),
    /// More signatures than are checked.
    #[error("it has {signatures} signatures, and those of a loom have at most {FOREIGN_SIGNATURES_MAX} together")]
    Signatures {
        /// How many.
        signatures: usize,
    },
    /// It is not as its writers signed it.
    #[error("it is not as its writers signed it: {0}")]
    Unsigned(String),
    /// It is of another thread than the entry says.
    #[error("it is of the entity {of} of loom {loom}, and that is not what was forked")]
    Another {
        /// Its loom.
        loom: LoomId,
        /// Its entity.
        of: EntityId,
    },
    /// Forks of forks of forks.
    #[error("it continues a thread that continues another, and so on more than {0} times")]
    Depth(usize),
    /// What is in it cannot be read as a thread.
    #[error("{0}")]
    View(String),
}

/// What the threads of other looms that are read for one tree may take together: one may be named again and again, and have others in it.
#[derive(Debug)]
pub struct ForeignBudget {
    bytes: Cell<u64>,
    signatures: Cell<usize>,
}

impl Default for ForeignBudget {
    fn default() -> Self {
        Self { bytes: Cell::new(FOREIGN_TREE_BYTES_MAX), signatures: Cell::new(FOREIGN_SIGNATURES_MAX) }
    }
}

impl ForeignBudget {
    fn take_bytes(&self, bytes: u64) -> Result<(), ForeignError> {
        let left = self.bytes.get().checked_sub(bytes).ok_or(ForeignError::Bytes)?;
        self.bytes.set(left);
        Ok(())
    }

    fn take_signatures(&self, signatures: usize) -> Result<(), ForeignError> {
        let left = self.signatures.get().checked_sub(signatures).ok_or(ForeignError::Signatures { signatures })?;
        self.signatures.set(left);
        Ok(())
    }
}

/// What checks member records and successions.
pub type VouchCheck<'a> = &'a dyn Fn(&[Attestation]) -> Result<Vouched, RecordError>;

/// A log of which the digests of all entries are here, up to a head that its writer has signed.
#[derive(Debug, Clone)]
pub struct ThreadLog {
    /// The head.
    pub signed: SignedHead,
    /// All of them, in the order of the log.
    pub ids: Vec<EntryId>,
}

/// The same of what a writer has signed of a cast: each with its place in the log.
#[derive(Debug, Clone)]
pub struct ThreadCast {
    /// The head.
    pub head: CastHead,
    /// All of them, in the order of the log.
    pub ids: Vec<(u64, EntryId)>,
}

/// A thread with what proves it.
#[derive(Debug, Clone)]
pub struct ForeignThread {
    /// The loom that it is of.
    pub loom: LoomId,
    /// Whose thread it is.
    pub entity: EntityId,
    /// The logs that its entries are in.
    pub logs: Vec<ThreadLog>,
    /// And the casts.
    pub casts: Vec<ThreadCast>,
    /// What vouches for the writers' keys.
    pub attestations: Vec<Attestation>,
    /// Entries that lead from the founder to the writers, of logs that are not in it.
    pub proved: Vec<ProvedEntry>,
    /// Proofs that writers have signed two histories.
    pub divided: Vec<EquivocationProof>,
    /// The bytes of the thread's entries, and of those that say who may write.
    pub entries: Vec<Vec<u8>>,
    /// The texts that they refer to.
    pub texts: Vec<Vec<u8>>,
}

/// A thread whose every entry is its writer's word.
#[derive(Debug)]
pub struct CheckedThread {
    /// What decides in it.
    pub batch: Batch,
    /// The entries of it, with their writers: each signed.
    pub writers: Vec<WriterKey>,
    texts: HashMap<BlobId, Vec<u8>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Written {
    v: u16,
    loom: LoomId,
    entity: EntityId,
    logs: Vec<WrittenLog>,
    casts: Vec<WrittenCast>,
    members: Vec<ByteBuf>,
    successions: Vec<ByteBuf>,
    proved: Vec<ByteBuf>,
    divided: Vec<ByteBuf>,
    entries: Vec<ByteBuf>,
    texts: Vec<ByteBuf>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenLog {
    writer: WriterKey,
    signature: ByteBuf,
    ids: ByteBuf,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenCast {
    head: ByteBuf,
    places: Vec<u64>,
    ids: ByteBuf,
}

fn digests(ids: impl Iterator<Item = EntryId>) -> ByteBuf {
    ByteBuf::from(ids.flat_map(|id| id.digest()).collect::<Vec<u8>>())
}

fn ids(bytes: &[u8]) -> Result<Vec<EntryId>, ForeignError> {
    let (ids, rest) = bytes.as_chunks::<32>();
    let ids = rest.is_empty().then(|| ids.iter().map(|id| EntryId::from_digest(*id)).collect());
    ids.ok_or_else(|| ForeignError::Malformed("a digest in it is cut short".to_owned()))
}

fn malformed(what: &str) -> ForeignError {
    ForeignError::Malformed(what.to_owned())
}

impl WrittenLog {
    fn read(self, loom: LoomId) -> Result<ThreadLog, ForeignError> {
        let signature = self.signature.as_slice().try_into().map_err(|_| malformed("a signature is cut short"))?;
        let ids = ids(&self.ids)?;
        let head = ids.iter().fold(Head::default(), |head, id| head.after(id));
        Ok(ThreadLog { signed: SignedHead { loom, writer: self.writer, head, signature }, ids })
    }
}

impl WrittenCast {
    fn read(self) -> Result<ThreadCast, ForeignError> {
        let head = CastHead::parse(&self.head).and_then(|heads| <[CastHead; 1]>::try_from(heads).ok());
        let [head] = head.ok_or_else(|| malformed("a cast head cannot be read"))?;
        let ids = ids(&self.ids)?;
        if ids.len() != self.places.len() {
            return Err(malformed("an entry of a cast has no place"));
        }
        Ok(ThreadCast { head, ids: self.places.into_iter().zip(ids).collect() })
    }
}

/// Where an entry stands: whose it is, its place in that one's log, and its id.
type Place = (WriterKey, u64, EntryId);

fn unsigned(what: impl std::fmt::Display) -> ForeignError {
    ForeignError::Unsigned(what.to_string())
}

impl ForeignThread {
    /// As it is kept: pieces that make up the bytes one behind the other.
    ///
    /// # Errors
    /// More than one takes.
    pub fn to_pieces(&self) -> Result<Vec<Blob>, ForeignError> {
        let bytes = self.to_bytes()?;
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if size > FOREIGN_THREAD_BYTES_MAX {
            return Err(ForeignError::Size { bytes: size });
        }
        Ok(bytes.chunks(PIECE_BYTES).map(|piece| Blob { id: BlobId::of(piece), bytes: piece.to_vec() }).collect())
    }

    fn to_bytes(&self) -> Result<Vec<u8>, ForeignError> {
        let (mut members, mut successions) = (Vec::new(), Vec::new());
        for attestation in &self.attestations {
            let bytes = ByteBuf::from(attestation.to_bytes());
            match attestation {
                Attestation::Member(_) => members.push(bytes),
                Attestation::Succession(_) => successions.push(bytes),
            }
        }
        let log = |log: &ThreadLog| WrittenLog {
            writer: log.signed.writer,
            signature: ByteBuf::from(log.signed.signature.to_vec()),
            ids: digests(log.ids.iter().copied()),
        };
        let cast = |cast: &ThreadCast| WrittenCast {
            head: ByteBuf::from(CastHead::to_bytes(std::slice::from_ref(&cast.head))),
            places: cast.ids.iter().map(|(place, _)| *place).collect(),
            ids: digests(cast.ids.iter().map(|(_, id)| *id)),
        };
        let all = |bytes: &[Vec<u8>]| bytes.iter().cloned().map(ByteBuf::from).collect();
        let written = Written {
            v: VERSION,
            loom: self.loom,
            entity: self.entity,
            logs: self.logs.iter().map(log).collect(),
            casts: self.casts.iter().map(cast).collect(),
            members,
            successions,
            proved: self.proved.iter().map(|proof| ByteBuf::from(proof.to_bytes())).collect(),
            divided: self.divided.iter().map(|proof| ByteBuf::from(proof.to_bytes())).collect(),
            entries: all(&self.entries),
            texts: all(&self.texts),
        };
        serde_ipld_dagcbor::to_vec(&written).map_err(|error| ForeignError::Malformed(error.to_string()))
    }

    /// Puts the pieces of a thread together and reads it. Nothing of it is believed before [`ForeignThread::check`].
    ///
    /// # Errors
    /// Pieces that are missing or together too long, or that are no thread.
    pub fn read(
        source: &ForkSource,
        piece: &dyn Fn(BlobId) -> Option<Vec<u8>>,
        budget: &ForeignBudget,
    ) -> Result<Self, ForeignError> {
        let mut bytes = Vec::new();
        for id in &source.pieces {
            let next = piece(*id).ok_or(ForeignError::Piece(*id))?;
            let size = u64::try_from(bytes.len().saturating_add(next.len())).unwrap_or(u64::MAX);
            if size > FOREIGN_THREAD_BYTES_MAX {
                return Err(ForeignError::Size { bytes: size });
            }
            budget.take_bytes(u64::try_from(next.len()).unwrap_or(u64::MAX))?;
            bytes.extend(next);
        }
        let thread = Self::parse(&bytes, budget)?;
        if thread.loom != source.loom {
            return Err(ForeignError::Another { loom: thread.loom, of: thread.entity });
        }
        Ok(thread)
    }

    fn parse(bytes: &[u8], budget: &ForeignBudget) -> Result<Self, ForeignError> {
        let written: Written =
            serde_ipld_dagcbor::from_slice(bytes).map_err(|error| ForeignError::Malformed(error.to_string()))?;
        if written.v != VERSION {
            return Err(ForeignError::Malformed(format!("it has version {}, and this one reads {VERSION}", written.v)));
        }
        let lists = [written.logs.len(), written.casts.len(), written.members.len(), written.successions.len()];
        let more = [written.proved.len(), written.divided.len()];
        let signatures = lists.into_iter().chain(more).fold(0_usize, usize::saturating_add);
        budget.take_signatures(signatures)?;
        let loom = written.loom;
        let member = |bytes: &ByteBuf| MemberRecord::parse(bytes).map(Attestation::Member);
        let succession = |bytes: &ByteBuf| Succession::parse(bytes).map(Attestation::Succession);
        let attestations = written.members.iter().map(member).chain(written.successions.iter().map(succession));
        let attestations = attestations.collect::<Result<_, _>>().map_err(|error| malformed(&error.to_string()))?;
        let proved = written.proved.iter().map(|bytes| ProvedEntry::parse(bytes)).collect::<Result<_, _>>();
        let divided = written.divided.iter().map(|bytes| EquivocationProof::parse(bytes)).collect::<Option<_>>();
        Ok(Self {
            loom,
            entity: written.entity,
            logs: written.logs.into_iter().map(|log| log.read(loom)).collect::<Result<_, _>>()?,
            casts: written.casts.into_iter().map(WrittenCast::read).collect::<Result<_, _>>()?,
            attestations,
            proved: proved.map_err(|error| malformed(&error.to_string()))?,
            divided: divided.ok_or_else(|| malformed("a proof of two histories proves nothing"))?,
            entries: written.entries.into_iter().map(ByteBuf::into_vec).collect(),
            texts: written.texts.into_iter().map(ByteBuf::into_vec).collect(),
        })
    }

    /// The logs and casts of it, with all places that their writers have signed.
    fn parts(&self) -> Result<(HashSet<Place>, Vec<LogPart>), ForeignError> {
        let loom = self.loom;
        let mut placed: HashSet<Place> = HashSet::new();
        let mut parts: Vec<LogPart> = Vec::new();
        let mut writers = HashSet::new();
        for ThreadLog { signed, ids } in &self.logs {
            let writer = signed.writer;
            let head = ids.iter().fold(Head::default(), |head, id| head.after(id));
            if !writers.insert(writer) || (signed.loom, signed.head) != (loom, head) || !signed.is_signed() {
                return Err(unsigned(format_args!("the log of {writer} in it")));
            }
            let ids: Vec<(u64, EntryId)> = (1..).zip(ids.iter().copied()).collect();
            placed.extend(ids.iter().map(|(place, id)| (writer, *place, *id)));
            parts.push(LogPart { writer, cast: None, ids, entries: Vec::new() });
        }
        let mut casts = HashSet::new();
        for ThreadCast { head, ids } in &self.casts {
            let writer = head.writer;
            let rises = ids.is_sorted_by(|(one, _), (other, _)| one < other);
            let chain = ids.iter().fold(CastChain::default(), |chain, (place, id)| chain.after(*place, id));
            let is_new = casts.insert((writer, head.cast));
            if !(rises && is_new && head.loom == loom && chain == head.at && head.is_signed()) {
                return Err(unsigned(format_args!("what {writer} wrote of the cast of {}", head.cast)));
            }
            placed.extend(ids.iter().map(|(place, id)| (writer, *place, *id)));
            parts.push(LogPart { writer, cast: Some(head.cast), ids: ids.clone(), entries: Vec::new() });
        }
        Ok((placed, parts))
    }

    /// Recomputes all of it: every entry has to be in a log, in a cast or in a proved entry that its writer has signed.
    ///
    /// # Errors
    /// The first thing that is not as it was signed.
    pub fn check(self, vouch: VouchCheck<'_>) -> Result<CheckedThread, ForeignError> {
        let loom = self.loom;
        let (mut placed, mut parts) = self.parts()?;
        let mut proved = Vec::new();
        for proof in self.proved {
            let proof = proof.check().map_err(unsigned)?;
            let entry = &proof.sealed().entry;
            if proof.loom() != loom {
                return Err(ForeignError::Another { loom: proof.loom(), of: self.entity });
            }
            placed.insert((entry.writer, entry.sequence, proof.id()));
            proved.push(proof);
        }
        let mut vouched = Vouched::default();
        for attestation in &self.attestations {
            let one = vouch(std::slice::from_ref(attestation)).map_err(unsigned)?;
            vouched.records.extend(one.records);
            vouched.successions.extend(one.successions);
        }
        let mut entries = Vec::with_capacity(self.entries.len());
        for bytes in self.entries {
            let sealed = Sealed::read(bytes).map_err(|error| ForeignError::Malformed(error.to_string()))?;
            let entry = &sealed.entry;
            if entry.loom != loom {
                return Err(ForeignError::Another { loom: entry.loom, of: self.entity });
            }
            // Once, and at its place.
            if !placed.remove(&(entry.writer, entry.sequence, sealed.id)) {
                return Err(unsigned(format_args!("the entry {}", sealed.id)));
            }
            entry.check_minted().map_err(unsigned)?;
            entries.push(sealed);
        }
        let mut writers: Vec<WriterKey> = entries.iter().map(|sealed| sealed.entry.writer).collect();
        writers.sort_unstable();
        writers.dedup();
        entries.sort_by_key(|sealed: &Sealed| (sealed.entry.writer, sealed.entry.sequence));
        parts.push(LogPart { writer: WriterKey::from_bytes([0; 32]), cast: None, ids: Vec::new(), entries });
        let divided = self.divided.into_iter().filter(|proof| proof.loom == loom);
        let batch = Batch::of_parts(loom, vouched, parts).with_proved(proved).with_proofs(divided);
        let batch = batch.with_founder(|record| vouch(&[Attestation::Member(record.clone())]).ok()?.records.pop());
        let texts = self.texts.into_iter().map(|text| (BlobId::of(&text), text)).collect();
        Ok(CheckedThread { batch, writers, texts })
    }
}

impl CheckedThread {
    /// A text of it.
    pub fn text(&self, id: BlobId) -> Option<&[u8]> {
        self.texts.get(&id).map(Vec::as_slice)
    }
}
