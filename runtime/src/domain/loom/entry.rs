//! The entry: the unit of the record, its encoding and its id.
//!
//! An entry is deterministic DAG-CBOR; its id is the hash of those bytes. JSON values are kept as their text: a map in
//! CBOR would lose the order of a JSON object's keys, and a replay would then show the entity another world.

use std::io;

use ipld_core::codec::Links;
use ipld_core::ipld::Ipld;
use serde::{Deserialize, Serialize};
use serde_ipld_dagcbor::codec::DagCborCodec;
use thiserror::Error;

use super::body::{self, Body};
use super::others::{self, Others};
use super::text::Blob;
use crate::domain::ids::{BlobId, CODEC_RAW, EntityId, EntryId, LoomId, WriterKey};
use crate::domain::limits::ENTRY_BYTES_MAX;
use crate::domain::medium::PAGE_BYTES;

/// The version of the encoding that this code writes, and the only one it reads.
pub const FORMAT: u16 = 2;

/// How every link to bytes without structure begins, behind its tag and length: its prefix in DAG-CBOR, version 1, the codec.
const RAW_LINK_BEGINS: [u8; 3] = [0, 1, 0x55];

/// One entry of a loom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The version of the encoding.
    #[serde(rename = "v")]
    pub format: u16,
    /// The tree that it belongs to.
    pub loom: LoomId,
    /// The node that wrote it.
    pub writer: WriterKey,
    /// Its place in that node's log of this loom: 1, 2, 3 … without a gap.
    #[serde(rename = "seq")]
    pub sequence: u64,
    /// Microseconds since 1970 by the writer's clock.
    #[serde(rename = "at")]
    pub at_us: u64,
    /// Whose entry it is; nothing for what is about the loom as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<EntityId>,
    /// What it follows; nothing for the root of a tree.
    pub parent: Option<EntryId>,
    /// The admission by which its writer may say it; nothing for the founder, and where an earlier entry of the entity names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relies: Option<EntryId>,
    /// The id that it had before its log was written anew under another key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<EntryId>,
    /// What happened.
    #[serde(serialize_with = "body::serialize")]
    pub body: Body,
    /// What a later version has added.
    #[serde(skip)]
    pub others: Others,
}

impl Entry {
    /// An entry that relies on no admission and had no other id before.
    pub fn new(
        loom: LoomId,
        (writer, sequence): (WriterKey, u64),
        at_us: u64,
        entity: impl Into<Option<EntityId>>,
        parent: Option<EntryId>,
        body: Body,
    ) -> Self {
        let (entity, relies, was, others) = (entity.into(), None, None, Others::default());
        Self { format: FORMAT, loom, writer, sequence, at_us, entity, parent, relies, was, body, others }
    }
}

/// Why bytes are not an entry.
#[derive(Debug, Error)]
pub enum EntryError {
    /// The bytes could not be encoded.
    #[error("encode the entry")]
    Encode(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The bytes are not DAG-CBOR of an entry.
    #[error("decode the entry")]
    Decode(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A version that this code does not know.
    #[error("the entry has format {found}, and this version reads {FORMAT}{}", hint(*.found))]
    Format {
        /// The version in the bytes.
        found: u16,
    },
    /// It is an entity's and names none, or the other way round.
    #[error("an entry of the kind `{kind}` {} an entity", if *.needs { "needs" } else { "cannot be of" })]
    Entity {
        /// Its kind.
        kind: String,
        /// Whether its kind belongs to an entity.
        needs: bool,
    },
    /// Larger than any entry is.
    #[error("the entry has {bytes} bytes, and the limit is {ENTRY_BYTES_MAX}")]
    Size {
        /// Its size.
        bytes: usize,
    },
    /// The bytes are readable, but not in the one form that an entry has.
    #[error("the entry is not in canonical form: written again it has other bytes")]
    NotCanonical,
    /// The bytes are not what the id says.
    #[error("the content hashes to {actual}, and its id is {expected}")]
    Hash {
        /// The id that was asked for.
        expected: EntryId,
        /// The id of the bytes.
        actual: EntryId,
    },
}

/// An entry with its encoding: what is stored and sent.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The hash of the bytes.
    pub id: EntryId,
    /// The encoding.
    pub bytes: Vec<u8>,
    /// The decoded entry.
    pub entry: Entry,
    /// The large texts in it.
    pub blobs: Vec<Blob>,
}

impl Sealed {
    /// Encodes an entry and computes its id.
    ///
    /// # Errors
    /// A value that DAG-CBOR cannot hold, or an entry over [`ENTRY_BYTES_MAX`].
    pub fn new(entry: Entry, blobs: Vec<Blob>) -> Result<Self, EntryError> {
        check_entity(&entry)?;
        let bytes = others::encode(&entry)?;
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(EntryError::Size { bytes: bytes.len() });
        }
        Ok(Self { id: EntryId::of(&bytes), bytes, entry, blobs })
    }

    /// The large texts that it refers to.
    pub fn text_ids(&self) -> Vec<BlobId> {
        text_ids(&self.bytes)
    }

    /// What it takes of a bound in bytes: its own, and those that are kept beside it. A text counts with the length that the entry
    /// says, whether or not it is here; what has no length there with that of a page of a memory.
    pub fn recorded_bytes(&self) -> u64 {
        let own = u64::try_from(self.bytes.len()).unwrap_or(u64::MAX);
        if self.text_ids().is_empty() {
            return own;
        }
        // It was decoded before: nothing here can be nested deeper than the decoder goes.
        let whole: Option<Ipld> = serde_ipld_dagcbor::from_slice(&self.bytes).ok();
        own.saturating_add(whole.as_ref().map_or(0, beside))
    }

    /// Decodes stored bytes and checks that they are what the id says. Its blobs are not loaded.
    ///
    /// # Errors
    /// Bytes that do not hash to `id`, are no entry, or not in canonical form.
    pub fn open(id: EntryId, bytes: Vec<u8>) -> Result<Self, EntryError> {
        let actual = hash(&bytes)?;
        if actual != id {
            return Err(EntryError::Hash { expected: id, actual });
        }
        Self::decode(id, bytes)
    }

    /// Decodes the bytes of an entry whose id nobody has said: it is their hash.
    ///
    /// # Errors
    /// As [`Sealed::open`].
    pub fn read(bytes: Vec<u8>) -> Result<Self, EntryError> {
        Self::decode(hash(&bytes)?, bytes)
    }

    fn decode(id: EntryId, bytes: Vec<u8>) -> Result<Self, EntryError> {
        let typed =
            serde_ipld_dagcbor::from_slice::<Entry>(&bytes).map_err(|error| EntryError::Decode(Box::new(error)));
        let found = typed.as_ref().map_or_else(|_| others::format(&bytes), |entry| Some(entry.format));
        if let Some(found) = found
            && found != FORMAT
        {
            return Err(EntryError::Format { found });
        }
        let is_known = typed.as_ref().is_ok_and(|entry| is_written_as(entry, &bytes));
        let entry = if is_known { typed? } else { others::read(&bytes, typed)? };
        check_entity(&entry)?;
        Ok(Self { id, bytes, entry, blobs: Vec::new() })
    }
}

/// Whether these are the bytes that an entry is written as: compared as they come, without a copy of them.
fn is_written_as(entry: &Entry, bytes: &[u8]) -> bool {
    let mut rest = Same { rest: bytes };
    serde_ipld_dagcbor::to_writer(&mut rest, entry).is_ok() && rest.rest.is_empty()
}

/// Takes the bytes that it expects and no others.
struct Same<'a> {
    rest: &'a [u8],
}

impl io::Write for Same<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rest = self.rest.strip_prefix(bytes).ok_or(io::ErrorKind::InvalidData)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What to do with an entry of an earlier version.
const fn hint(found: u16) -> &'static str {
    if found == 1 { "; the last commit that shows looms of format 1, and exports them, is 4e523ed" } else { "" }
}

/// Checks that an entry is an entity's if its kind is.
fn check_entity(entry: &Entry) -> Result<(), EntryError> {
    match entry.body.has_entity() {
        Some(needs) if needs != entry.entity.is_some() => {
            Err(EntryError::Entity { kind: entry.body.kind().to_owned(), needs })
        }
        _ => Ok(()),
    }
}

/// How many bytes a value says to be kept beside it.
fn beside(value: &Ipld) -> u64 {
    let sum = |values: &mut dyn Iterator<Item = &Ipld>| values.map(beside).fold(0, u64::saturating_add);
    match value {
        Ipld::Link(link) if link.codec() == CODEC_RAW => PAGE_BYTES as u64,
        Ipld::Map(map) => match (map.get("id"), map.get("bytes")) {
            (Some(Ipld::Link(link)), Some(Ipld::Integer(bytes))) if link.codec() == CODEC_RAW => {
                u64::try_from(*bytes).unwrap_or(u64::MAX)
            }
            _ => sum(&mut map.values()),
        },
        Ipld::List(list) => sum(&mut list.iter()),
        Ipld::Null
        | Ipld::Bool(_)
        | Ipld::Integer(_)
        | Ipld::Float(_)
        | Ipld::String(_)
        | Ipld::Bytes(_)
        | Ipld::Link(_) => 0,
    }
}

/// The large texts that the bytes of an entry refer to.
pub fn text_ids(bytes: &[u8]) -> Vec<BlobId> {
    // Most entries have none: their bytes are only looked through.
    if memchr::memmem::find(bytes, &RAW_LINK_BEGINS).is_none() {
        return Vec::new();
    }
    let Ok(links) = DagCborCodec::links(bytes) else { return Vec::new() };
    links
        .filter(|link| link.codec() == CODEC_RAW)
        .filter_map(|link| <[u8; 32]>::try_from(link.hash().digest()).ok().map(BlobId::from_digest))
        .collect()
}

/// The id of bytes that are not too long to have one.
fn hash(bytes: &[u8]) -> Result<EntryId, EntryError> {
    if bytes.len() > ENTRY_BYTES_MAX {
        return Err(EntryError::Size { bytes: bytes.len() });
    }
    Ok(EntryId::of(bytes))
}

/// The chained hash of a log: `head(n) = BLAKE3(head(n-1) ‖ id(n))`, from 32 zero bytes. Equal heads mean equal logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// How many entries the log has.
    pub sequence: u64,
    /// The chained hash.
    pub chain: [u8; 32],
}

impl Head {
    /// The head after one more entry.
    #[must_use]
    pub fn after(&self, id: &EntryId) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.chain);
        hasher.update(&id.digest());
        Self { sequence: self.sequence.saturating_add(1), chain: *hasher.finalize().as_bytes() }
    }
}
