//! A loom as an archive of content-addressed blocks (`CARv1`, <https://ipld.io/specs/transport/car/carv1/>): every entry and every
//! text under the hash that names it, and one block that says whose logs they are, with the writers' signatures. Whoever imports
//! it recomputes everything.

mod beside;

use std::collections::hash_map::Entry as Slot;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{Read, Write};

use cid::Cid;
use cid::multihash::Multihash;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use thiserror::Error;

use crate::domain::ids::{BlobId, EntryId, LoomId, WriterKey};
use crate::domain::limits::{
    ARCHIVE_BLOCK_BYTES_MAX, ARCHIVE_BLOCK_COST_BYTES, ARCHIVE_HEADER_BYTES_MAX, ARCHIVE_HELD_BYTES_MAX,
    NEAR_UNCOVERED_ENTRIES_MAX,
};
use crate::domain::loom::{
    CastHead, CastHeadError, CastStream, Head, Sealed, Segment, SegmentError, SignedHead, text_ids,
};
use crate::domain::members::{Attestation, CheckedProof, ProofError, RecordError};
use crate::ports::{CopyStore, StoreError, Taken};

/// The version of the block that says whose logs they are.
const VERSION: u16 = 2;
/// DAG-CBOR and bytes without structure in the multicodec table, and BLAKE3.
const CODEC_DAG_CBOR: u64 = 0x71;
const CODEC_RAW: u64 = 0x55;
const HASH_BLAKE3: u64 = 0x1e;

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

/// What an archive has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Archived {
    /// The loom.
    pub loom: LoomId,
    /// Entries, and for an import how many of them are new.
    pub entries: u64,
    /// See above.
    pub new: u64,
    /// Large texts.
    pub texts: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    roots: Vec<Cid>,
    version: u64,
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

fn cid(codec: u64, bytes: &[u8]) -> Cid {
    let digest = blake3::hash(bytes);
    // 32 bytes always fit into the 64 of the type.
    Cid::new_v1(codec, Multihash::wrap(HASH_BLAKE3, digest.as_bytes()).unwrap_or_default())
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    loop {
        let byte = u8::try_from(number & 0x7f).unwrap_or(0);
        number >>= 7;
        out.push(if number == 0 { byte } else { byte | 0x80 });
        if number == 0 {
            return;
        }
    }
}

fn block(out: &mut impl Write, cid: &Cid, bytes: &[u8]) -> std::io::Result<()> {
    let name = cid.to_bytes();
    let mut length = Vec::new();
    varint((name.len() + bytes.len()) as u64, &mut length);
    out.write_all(&length)?;
    out.write_all(&name)?;
    out.write_all(bytes)
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
    let encode = |error| CarError::Malformed(format!("it cannot be encoded: {error}"));
    let root = serde_ipld_dagcbor::to_vec(&manifest).map_err(|error| encode(error.to_string()))?;
    let root_cid = cid(CODEC_DAG_CBOR, &root);
    let header = Header { roots: vec![root_cid], version: 1 };
    let header = serde_ipld_dagcbor::to_vec(&header).map_err(|error| encode(error.to_string()))?;
    let mut length = Vec::new();
    varint(header.len() as u64, &mut length);
    out.write_all(&length)?;
    out.write_all(&header)?;
    block(out, &root_cid, &root)?;
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
    Ok(Archived { loom, entries: blocks.len() as u64, new: 0, texts: texts.len() as u64 })
}

/// Reads a number; nothing where the file ends before it.
fn read_varint(input: &mut impl Read) -> Result<Option<u64>, CarError> {
    let mut number = 0_u64;
    for shift in (0..63).step_by(7) {
        let mut byte = [0_u8];
        if input.read(&mut byte)? == 0 {
            return if shift == 0 { Ok(None) } else { Err(CarError::Malformed("it ends within a length".to_owned())) };
        }
        let [byte] = byte;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(Some(number));
        }
    }
    Err(CarError::Malformed("a length is longer than 63 bits".to_owned()))
}

fn read_bytes(input: &mut impl Read, length: u64) -> Result<Vec<u8>, CarError> {
    if length > ARCHIVE_BLOCK_BYTES_MAX {
        return Err(CarError::Malformed(format!(
            "a block has {length} bytes, and the limit is {ARCHIVE_BLOCK_BYTES_MAX}"
        )));
    }
    let mut bytes = Vec::new();
    input.by_ref().take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != length {
        return Err(CarError::Malformed("it ends within a block".to_owned()));
    }
    Ok(bytes)
}

/// Reads an archive into a record, a stretch at a time. Nothing of it is taken that is not as its writer signed it; what is there
/// already stays.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn read(store: &dyn CopyStore, input: &mut impl Read) -> Result<Archived, CarError> {
    let malformed = |what: &str| CarError::Malformed(what.to_owned());
    let length = read_varint(input)?.ok_or_else(|| malformed("it is empty"))?;
    if length > ARCHIVE_HEADER_BYTES_MAX {
        let what = format!("its header has {length} bytes, and the limit is {ARCHIVE_HEADER_BYTES_MAX}");
        return Err(CarError::Malformed(what));
    }
    let header: Header = serde_ipld_dagcbor::from_slice(&read_bytes(input, length)?)
        .map_err(|error| CarError::Malformed(format!("its header cannot be read: {error}")))?;
    let [root] = header.roots.as_slice() else { return Err(malformed("it has not one root")) };
    if header.version != 1 {
        return Err(CarError::Malformed(format!("it is a CAR of version {}, and this one reads 1", header.version)));
    }
    let (name, manifest) = read_block(input, 1)?.ok_or_else(|| malformed("its root is not in it"))?;
    if name != *root {
        return Err(malformed("its root is not its first block"));
    }
    let manifest: Manifest = serde_ipld_dagcbor::from_slice(&manifest)
        .map_err(|error| CarError::Malformed(format!("its root does not say whose logs they are: {error}")))?;
    if manifest.v != VERSION {
        return Err(CarError::Malformed(format!("it has version {}, and this one reads {VERSION}", manifest.v)));
    }
    let mut import = Import::of(store, manifest)?;
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

/// Reads a block and recomputes its name; nothing where the file ends before it.
fn read_block(input: &mut impl Read, number: u64) -> Result<Option<(Cid, Vec<u8>)>, CarError> {
    let Some(length) = read_varint(input)? else { return Ok(None) };
    let mut bytes = read_bytes(input, length)?;
    let mut rest = bytes.as_slice();
    let name = Cid::read_bytes(&mut rest)
        .map_err(|error| CarError::Malformed(format!("block {number} has no name: {error}")))?;
    if cid(name.codec(), rest) != name {
        return Err(CarError::Damaged { number, cid: Box::new(name) });
    }
    let named = bytes.len() - rest.len();
    bytes.drain(..named);
    Ok(Some((name, bytes)))
}

/// What is taken in one step: the stretch of a log, or what came by a cast with the heads over it.
enum Part {
    Stretch {
        writer: WriterKey,
        from: Head,
        stretch: Stretch,
    },
    Cast {
        step: Step,
        /// Those of its entries that no part before has.
        own: Vec<EntryId>,
    },
    Proved(EntryId),
}

impl Part {
    fn entries(&self) -> &[EntryId] {
        match self {
            Self::Stretch { stretch, .. } => &stretch.entries,
            Self::Cast { own, .. } => own,
            Self::Proved(id) => std::slice::from_ref(id),
        }
    }
}

/// An archive on its way into a record. It holds the blocks of the part that is due, and those that came too early; each block of
/// the archive once.
struct Import<'a> {
    store: &'a dyn CopyStore,
    archived: Archived,
    /// What the store has of casts, and what has come.
    casts: CastStream,
    /// What is left to take, the next one first.
    parts: VecDeque<Part>,
    /// How many of the entries of the next part have not come.
    missing: usize,
    /// The texts of the next part that have not come, once all its entries have.
    lacking: Option<HashSet<[u8; 32]>>,
    /// The part of each entry that has not come yet, by the order in which parts are taken.
    wanted: HashMap<[u8; 32], u64>,
    taken_parts: u64,
    seen: HashSet<[u8; 32]>,
    entries: HashMap<[u8; 32], Vec<u8>>,
    texts: HashMap<[u8; 32], Vec<u8>>,
    kept_texts: HashSet<[u8; 32]>,
    held_bytes: usize,
    /// What vouches for keys: kept once everything has come that relies on it, and of whose entries there are some.
    attestations: Vec<Attestation>,
    writers: HashSet<WriterKey>,
    /// Proved entries that are to be kept.
    proved: Vec<CheckedProof>,
    proved_bytes: usize,
}

impl<'a> Import<'a> {
    fn of(store: &'a dyn CopyStore, manifest: Manifest) -> Result<Self, CarError> {
        let loom = manifest.loom;
        let (attestations, proved) = (manifest.attestations()?, manifest.proofs()?);
        let mut parts = VecDeque::new();
        let mut writers = HashSet::new();
        for log in manifest.logs {
            if !writers.insert(log.writer) {
                return Err(CarError::Malformed(format!("it has two logs of writer {}", log.writer)));
            }
            let mut from = Head::default();
            for stretch in log.stretches {
                let chain = stretch.chain.as_slice().try_into().map_err(|_| cut_short("a chain", log.writer))?;
                let head = Head { sequence: stretch.sequence, chain };
                parts.push_back(Part::Stretch { writer: log.writer, from, stretch });
                from = head;
            }
        }
        let mut wanted = HashMap::new();
        for (number, part) in (0..).zip(&parts) {
            for id in part.entries() {
                if wanted.insert(id.digest(), number).is_some() {
                    return Err(CarError::Malformed(format!("it names the entry {id} twice")));
                }
            }
        }
        for step in manifest.casts {
            if step.entries.is_empty() || step.entries.len() > NEAR_UNCOVERED_ENTRIES_MAX {
                let entries = step.entries.len();
                return Err(CarError::Malformed(format!(
                    "a step of a cast has {entries} entries, and it may have 1 to {NEAR_UNCOVERED_ENTRIES_MAX}"
                )));
            }
            let number = parts.len() as u64;
            let mut own = Vec::new();
            for id in &step.entries {
                if let Slot::Vacant(free) = wanted.entry(id.digest()) {
                    free.insert(number);
                    own.push(*id);
                }
            }
            parts.push_back(Part::Cast { step, own });
        }
        for id in proved {
            if wanted.insert(id.digest(), parts.len() as u64).is_some() {
                return Err(CarError::Malformed(format!("it names the entry {id} twice")));
            }
            parts.push_back(Part::Proved(id));
        }
        let mut casts = CastStream::of_all(loom, store.writer());
        store.steps_received(loom, &mut |entries, heads| {
            casts.restore(&entries, &heads);
            Ok(())
        })?;
        casts.connected();
        let missing = parts.front().map_or(0, |part| part.entries().len());
        Ok(Self {
            store,
            archived: Archived { loom, entries: 0, new: 0, texts: 0 },
            casts,
            parts,
            missing,
            lacking: None,
            wanted,
            taken_parts: 0,
            seen: HashSet::new(),
            entries: HashMap::new(),
            texts: HashMap::new(),
            kept_texts: HashSet::new(),
            held_bytes: 0,
            attestations,
            writers,
            proved: Vec::new(),
            proved_bytes: 0,
        })
    }

    /// Takes a block in.
    fn take(&mut self, number: u64, codec: u64, digest: [u8; 32], bytes: Vec<u8>) -> Result<(), CarError> {
        if !self.seen.insert(digest) {
            return Err(CarError::Malformed(format!("block {number} is in it a second time")));
        }
        self.held_bytes = self.held_bytes.saturating_add(cost(&bytes));
        match (codec, self.wanted.remove(&digest)) {
            (CODEC_DAG_CBOR, Some(part)) => {
                self.missing -= usize::from(part == self.taken_parts);
                self.entries.insert(digest, bytes);
            }
            (CODEC_RAW, None) => {
                if let Some(lacking) = &mut self.lacking {
                    lacking.remove(&digest);
                }
                self.texts.insert(digest, bytes);
            }
            _ => return Err(CarError::Malformed(format!("block {number} is named by nothing in it"))),
        }
        // Texts come before the entry that names them, so little more waits than one stretch has.
        if self.held_bytes > ARCHIVE_HELD_BYTES_MAX {
            let held = self.held_bytes;
            return Err(CarError::Malformed(format!(
                "its blocks are out of order: {held} bytes wait for what they belong to, and the limit is {ARCHIVE_HELD_BYTES_MAX}"
            )));
        }
        Ok(())
    }

    /// Takes the parts whose entries have all come.
    fn go_on(&mut self) -> Result<(), CarError> {
        while self.missing == 0 {
            let Some(part) = self.parts.front() else { return Ok(()) };
            let lacking = self.lacking.take().unwrap_or_else(|| self.lacks(part));
            if !lacking.is_empty() {
                self.lacking = Some(lacking);
                return Ok(());
            }
            let Some(part) = self.parts.pop_front() else { return Ok(()) };
            match part {
                Part::Stretch { writer, from, stretch } => self.stretch(writer, from, &stretch)?,
                Part::Cast { step, own } => self.cast(&step, &own)?,
                Part::Proved(id) => self.proof(&id)?,
            }
            self.taken_parts += 1;
            let next = self.parts.front();
            self.missing = next
                .map_or(0, |part| part.entries().iter().filter(|id| !self.entries.contains_key(&id.digest())).count());
        }
        Ok(())
    }

    /// The texts that the entries of a part name and that have not come.
    fn lacks(&self, part: &Part) -> HashSet<[u8; 32]> {
        let entries = part.entries().iter().filter_map(|id| self.entries.get(&id.digest()));
        let texts = entries.flat_map(|bytes| text_ids(bytes)).map(|id| id.digest());
        texts.filter(|digest| !self.texts.contains_key(digest) && !self.kept_texts.contains(digest)).collect()
    }

    fn entry(&mut self, id: &EntryId) -> Result<Vec<u8>, CarError> {
        let bytes = self.entries.remove(&id.digest()).ok_or_else(|| CarError::Missing(format!("the entry {id}")))?;
        self.held_bytes = self.held_bytes.saturating_sub(cost(&bytes));
        self.archived.entries += 1;
        Ok(bytes)
    }

    /// Keeps the texts of an entry that are not kept yet.
    fn keep_texts(&mut self, entry: &[u8]) -> Result<(), CarError> {
        for id in text_ids(entry) {
            let Some(text) = self.texts.remove(&id.digest()) else { continue };
            self.held_bytes = self.held_bytes.saturating_sub(cost(&text));
            self.store.keep_text(&text)?;
            self.kept_texts.insert(id.digest());
            self.archived.texts += 1;
        }
        Ok(())
    }

    fn stretch(&mut self, writer: WriterKey, from: Head, stretch: &Stretch) -> Result<(), CarError> {
        let loom = self.archived.loom;
        let chain = stretch.chain.as_slice().try_into().map_err(|_| cut_short("a chain", writer))?;
        let signature = stretch.signature.as_slice().try_into().map_err(|_| cut_short("a signature", writer))?;
        let signed = SignedHead { loom, writer, head: Head { sequence: stretch.sequence, chain }, signature };
        let entries = stretch.entries.iter().map(|id| self.entry(id)).collect::<Result<Vec<_>, _>>()?;
        let segment = Segment { from, entries, blobs: Vec::new(), signed };
        // The texts of what is not as it was signed are not kept either.
        let checked = segment.check().map_err(|source| CarError::Log { writer, source })?;
        for sealed in checked.entries() {
            self.rely_on(sealed);
            self.keep_texts(&sealed.bytes)?;
        }
        match self.store.take(checked) {
            Ok(Taken::New(new)) => self.archived.new += new,
            Ok(Taken::Known) => {}
            Ok(Taken::Gap(at)) => {
                return Err(CarError::Malformed(format!("a stretch behind entry {at} of {writer} is missing")));
            }
            // This node wrote it itself, and has it.
            Err(StoreError::Foreign { .. }) if writer == self.store.writer() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn cast(&mut self, step: &Step, own: &[EntryId]) -> Result<(), CarError> {
        let loom = self.archived.loom;
        let heads = CastHead::parse(&step.heads);
        let heads = heads.ok_or_else(|| CarError::Malformed("the heads of a cast cannot be read".to_owned()))?;
        let mut entries = Vec::with_capacity(step.entries.len());
        let mut left: HashSet<EntryId> = own.iter().copied().collect();
        let mut came = Vec::with_capacity(own.len());
        for id in &step.entries {
            let sealed = if left.remove(id) {
                let bytes = self.entry(id)?;
                came.push(bytes.clone());
                Sealed::open(*id, bytes).map_err(|source| StoreError::Entry { id: *id, source })?
            } else {
                self.store.entry(*id)?.ok_or_else(|| CarError::Missing(format!("the entry {id}")))?
            };
            if sealed.entry.loom != loom {
                let of = sealed.entry.loom;
                return Err(CarError::Malformed(format!(
                    "the entry {id} is of loom {of}, and the archive is of {loom}"
                )));
            }
            if let Err(unminted) = sealed.entry.check_minted() {
                return Err(CarError::Malformed(format!("the entry {id} is refused: {unminted}")));
            }
            entries.push(sealed);
        }
        for sealed in &entries {
            self.rely_on(sealed);
        }
        // The texts of what is not as it was signed are not kept either.
        let batch = self.casts.check(entries, heads).map_err(CarError::Cast)?;
        for bytes in &came {
            self.keep_texts(bytes)?;
        }
        for sealed in batch.entries() {
            self.archived.new += u64::from(self.store.entry(sealed.id)?.is_none());
        }
        Ok(self.store.receive(batch)?)
    }

    /// Says what is missing, where something is.
    fn end(mut self) -> Result<Archived, CarError> {
        let Some(part) = self.parts.front() else {
            return match self.texts.len() {
                0 => self.attest().and_then(|()| self.keep_proofs()).map(|()| self.archived),
                several => Err(CarError::Malformed(format!("{several} of its blocks are named by nothing in it"))),
            };
        };
        let missing = part.entries().iter().find(|id| !self.entries.contains_key(&id.digest()));
        if let Some(id) = missing {
            return Err(CarError::Missing(format!("the entry {id}")));
        }
        let text = self.lacks(part).into_iter().next().map(BlobId::from_digest);
        Err(CarError::Missing(text.map_or_else(|| "a text".to_owned(), |id| format!("the text {id}"))))
    }
}

/// What a block that waits counts.
const fn cost(block: &[u8]) -> usize {
    block.len().saturating_add(ARCHIVE_BLOCK_COST_BYTES)
}

fn cut_short(what: &str, writer: WriterKey) -> CarError {
    CarError::Malformed(format!("{what} of writer {writer} is cut short"))
}

#[cfg(test)]
#[path = "car_tests.rs"]
mod tests;
