//! The container: length-prefixed blocks, each under the hash that names it.

use std::io::{Read, Write};

use cid::Cid;
use cid::multihash::Multihash;
use serde::{Deserialize, Serialize};

use super::CarError;
use crate::domain::limits::{ARCHIVE_BLOCK_BYTES_MAX, ARCHIVE_HEADER_BYTES_MAX};

/// DAG-CBOR and bytes without structure in the multicodec table, and BLAKE3.
pub(super) const CODEC_DAG_CBOR: u64 = 0x71;
pub(super) const CODEC_RAW: u64 = 0x55;
const HASH_BLAKE3: u64 = 0x1e;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) roots: Vec<Cid>,
    pub(super) version: u64,
}

pub(super) fn cid(codec: u64, bytes: &[u8]) -> Cid {
    let digest = blake3::hash(bytes);
    // 32 bytes always fit into the 64 of the type.
    Cid::new_v1(codec, Multihash::wrap(HASH_BLAKE3, digest.as_bytes()).unwrap_or_default())
}

pub(super) fn varint(mut number: u64, out: &mut Vec<u8>) {
    loop {
        let byte = u8::try_from(number & 0x7f).unwrap_or(0);
        number >>= 7;
        out.push(if number == 0 { byte } else { byte | 0x80 });
        if number == 0 {
            return;
        }
    }
}

pub(super) fn block(out: &mut impl Write, cid: &Cid, bytes: &[u8]) -> std::io::Result<()> {
    let name = cid.to_bytes();
    let mut length = Vec::new();
    varint((name.len() + bytes.len()) as u64, &mut length);
    out.write_all(&length)?;
    out.write_all(&name)?;
    out.write_all(bytes)
}
/// Reads a number; nothing where the file ends before it.
pub(super) fn read_varint(input: &mut impl Read) -> Result<Option<u64>, CarError> {
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

pub(super) fn read_bytes(input: &mut impl Read, length: u64) -> Result<Vec<u8>, CarError> {
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
/// Reads a block and recomputes its name; nothing where the file ends before it.
pub(super) fn read_block(input: &mut impl Read, number: u64) -> Result<Option<(Cid, Vec<u8>)>, CarError> {
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

/// Begins an archive: its header and its root.
pub(super) fn begin(out: &mut impl Write, root: &[u8]) -> Result<(), CarError> {
    let name = cid(CODEC_DAG_CBOR, root);
    let header = serde_ipld_dagcbor::to_vec(&Header { roots: vec![name], version: 1 });
    let header = header.map_err(|error| CarError::Malformed(format!("it cannot be encoded: {error}")))?;
    let mut length = Vec::new();
    varint(header.len() as u64, &mut length);
    out.write_all(&length)?;
    out.write_all(&header)?;
    Ok(block(out, &name, root)?)
}

/// Reads the header and the root of an archive.
pub(super) fn read_root(input: &mut impl Read) -> Result<Vec<u8>, CarError> {
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
    let (name, bytes) = read_block(input, 1)?.ok_or_else(|| malformed("its root is not in it"))?;
    if name != *root {
        return Err(malformed("its root is not its first block"));
    }
    Ok(bytes)
}
