//! A loom as an archive of content-addressed blocks (`CARv1`, <https://ipld.io/specs/transport/car/carv1/>): every entry and every
//! text under the hash that names it, and one block that says whose logs they are, with the writers' signatures. Whoever imports
//! it recomputes everything.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};

use cid::Cid;
use cid::multihash::Multihash;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::domain::ids::{BlobId, EntryId, LoomId, WriterKey};
use crate::domain::loom::{Blob, Head, Sealed, Segment, SegmentError, SignedHead, text_ids};
use crate::ports::{By, CopyStore, StoreError, Taken};

/// The version of the block that says whose logs they are.
const VERSION: u16 = 1;
/// DAG-CBOR and bytes without structure in the multicodec table, and BLAKE3.
const CODEC_DAG_CBOR: u64 = 0x71;
const CODEC_RAW: u64 = 0x55;
const HASH_BLAKE3: u64 = 0x1e;
/// 64 MiB. A longer block is none of ours.
const BLOCK_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// So many entries outside of logs are read at once.
const LOOSE_READ_MAX: usize = 1_000;

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
    /// Entries that are in no log here, behind what they follow.
    loose: Vec<EntryId>,
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
    let mut manifest = Manifest { v: VERSION, loom, logs: Vec::new(), loose: Vec::new() };
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
    let mut after = 0;
    loop {
        let loose = store.recorded(loom, By::Others, after, LOOSE_READ_MAX)?;
        let Some((last, _)) = loose.last() else { break };
        after = *last;
        for (_, sealed) in loose {
            if placed.insert(sealed.id) {
                manifest.loose.push(sealed.id);
                blocks.push((sealed.id, sealed.bytes));
            }
        }
    }
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
    if length > BLOCK_BYTES_MAX {
        return Err(CarError::Malformed(format!("a block has {length} bytes, and the limit is {BLOCK_BYTES_MAX}")));
    }
    let mut bytes = Vec::new();
    input.by_ref().take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != length {
        return Err(CarError::Malformed("it ends within a block".to_owned()));
    }
    Ok(bytes)
}

/// Reads an archive into a record. Nothing of it is taken that is not as its writer signed it; what is there already stays.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn read(store: &dyn CopyStore, input: &mut impl Read) -> Result<Archived, CarError> {
    let malformed = |what: &str| CarError::Malformed(what.to_owned());
    let length = read_varint(input)?.ok_or_else(|| malformed("it is empty"))?;
    let header: Header = serde_ipld_dagcbor::from_slice(&read_bytes(input, length)?)
        .map_err(|error| CarError::Malformed(format!("its header cannot be read: {error}")))?;
    let [root] = header.roots.as_slice() else { return Err(malformed("it has several roots")) };
    let mut blocks: HashMap<[u8; 32], Vec<u8>> = HashMap::new();
    let mut number = 0;
    while let Some(length) = read_varint(input)? {
        number += 1;
        let bytes = read_bytes(input, length)?;
        let mut rest = bytes.as_slice();
        let name = Cid::read_bytes(&mut rest)
            .map_err(|error| CarError::Malformed(format!("block {number} has no name: {error}")))?;
        if cid(name.codec(), rest) != name {
            return Err(CarError::Damaged { number, cid: Box::new(name) });
        }
        blocks.insert(*blake3::hash(rest).as_bytes(), rest.to_vec());
    }
    let root: [u8; 32] = root.hash().digest().try_into().map_err(|_| malformed("its root is no BLAKE3 hash"))?;
    let manifest = blocks.get(&root).ok_or_else(|| malformed("its root is not in it"))?;
    let manifest: Manifest = serde_ipld_dagcbor::from_slice(manifest)
        .map_err(|error| CarError::Malformed(format!("its root does not say whose logs they are: {error}")))?;
    if manifest.v != VERSION {
        return Err(CarError::Malformed(format!("it has version {}, and this one reads {VERSION}", manifest.v)));
    }
    import(store, &manifest, &blocks)
}

fn import(
    store: &dyn CopyStore,
    manifest: &Manifest,
    blocks: &HashMap<[u8; 32], Vec<u8>>,
) -> Result<Archived, CarError> {
    let loom = manifest.loom;
    let mut archived = Archived { loom, entries: 0, new: 0, texts: 0 };
    let entry =
        |id: &EntryId| blocks.get(&id.digest()).cloned().ok_or_else(|| CarError::Missing(format!("the entry {id}")));
    let text = |id: &BlobId| blocks.get(&id.digest()).ok_or_else(|| CarError::Missing(format!("the text {id}")));
    for log in &manifest.logs {
        let mut from = Head::default();
        for stretch in &log.stretches {
            let malformed = |what: &str| CarError::Malformed(format!("{what} of writer {} is cut short", log.writer));
            let head = Head {
                sequence: stretch.sequence,
                chain: stretch.chain.as_slice().try_into().map_err(|_| malformed("a chain"))?,
            };
            let signature = stretch.signature.as_slice().try_into().map_err(|_| malformed("a signature"))?;
            let signed = SignedHead { loom, writer: log.writer, head, signature };
            let entries = stretch.entries.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
            archived.entries += entries.len() as u64;
            for id in entries.iter().flat_map(|bytes| text_ids(bytes)) {
                store.keep_text(text(&id)?)?;
                archived.texts += 1;
            }
            let segment = Segment { from, entries, blobs: Vec::new(), signed };
            let checked = segment.check().map_err(|source| CarError::Log { writer: log.writer, source })?;
            from = head;
            match store.take(checked) {
                Ok(Taken::New(new)) => archived.new += new,
                Ok(Taken::Known) => {}
                Ok(Taken::Gap(at)) => {
                    return Err(CarError::Malformed(format!(
                        "a stretch behind entry {at} of {} is missing",
                        log.writer
                    )));
                }
                // This node wrote it itself, and has it.
                Err(StoreError::Foreign { .. }) if log.writer == store.writer() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    for id in &manifest.loose {
        let mut sealed = Sealed::open(*id, entry(id)?).map_err(|source| StoreError::Entry { id: *id, source })?;
        for id in sealed.text_ids() {
            sealed.blobs.push(Blob { id, bytes: text(&id)?.clone() });
        }
        archived.entries += 1;
        archived.new += u64::from(sealed.entry.writer != store.writer() && store.receive(sealed)?);
    }
    Ok(archived)
}
