//! The names of things: looms, entities, entries, writers, calls.
//!
//! Every id has one parse and one print. None is minted here: time and randomness come in as arguments, so that the
//! same inputs always give the same ids.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use cid::Cid;
use cid::multihash::Multihash;
use serde::{Deserialize, Serialize};
use thiserror::Error;

mod node;

pub use node::{NodeAddress, NodeName, NodeNameError};

/// The codec of DAG-CBOR in the multicodec table (<https://github.com/multiformats/multicodec>).
const CODEC_DAG_CBOR: u64 = 0x71;
/// The codec of bytes without structure in the same table.
pub(super) const CODEC_RAW: u64 = 0x55;
/// BLAKE3 in the same table.
const HASH_BLAKE3: u64 = 0x1e;
/// Crockford's base 32: no letter that is read as another.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 26 digits of 5 bits hold the 128 bits of an id.
const DIGITS: usize = 26;

/// What made a text unusable as an id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    /// The length or the alphabet is off.
    #[error("`{text}` is not a {what}: expected 26 characters of 0-9 and a-z without i, l, o, u")]
    Ulid {
        /// What was asked for.
        what: &'static str,
        /// What came.
        text: String,
    },
    /// Not a content id of the kind that is used here.
    #[error("`{text}` is not an entry id: expected a CIDv1 of DAG-CBOR hashed with BLAKE3 (it starts with `bafyr4i`)")]
    Entry {
        /// What came.
        text: String,
    },
    /// Not 64 hexadecimal digits.
    #[error("`{text}` is not a writer key: expected 64 hexadecimal digits")]
    Writer {
        /// What came.
        text: String,
    },
}

fn encode(value: u128) -> String {
    let mut text = String::with_capacity(DIGITS);
    for digit in (0..DIGITS).rev() {
        let index = (value >> (digit * 5)) & 31;
        // The mask keeps the index below 32, the length of the alphabet.
        text.push(ALPHABET.get(usize::try_from(index).unwrap_or(0)).copied().unwrap_or(b'0').into());
    }
    text
}

fn decode(text: &str) -> Option<u128> {
    if text.len() != DIGITS {
        return None;
    }
    text.bytes().try_fold(0_u128, |value, byte| {
        let digit = ALPHABET.iter().position(|&letter| letter == byte.to_ascii_lowercase())?;
        if value >> 123 != 0 {
            return None;
        }
        Some((value << 5) | u128::try_from(digit).ok()?)
    })
}

macro_rules! ulid {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// 48 bits of time in milliseconds, then 80 random bits: ids sort by the time they were made.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// Builds an id from the time and 80 random bits.
            pub fn from_parts(unix_ms: u64, random: [u8; 10]) -> Self {
                let mut bytes = [0; 16];
                let time = unix_ms.to_be_bytes();
                bytes.iter_mut().zip(time.iter().skip(2).chain(random.iter())).for_each(|(to, from)| *to = *from);
                Self(bytes)
            }

            /// The id as it is stored.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// The id from its stored form.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&encode(u128::from_be_bytes(self.0)))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                decode(text)
                    .map(|value| Self(value.to_be_bytes()))
                    .ok_or_else(|| IdError::Ulid { what: $what, text: text.chars().take(64).collect() })
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

ulid!(
    /// Names one loom: one append-only tree of entries.
    LoomId,
    "loom id"
);
ulid!(
    /// Names one entity: one cast, or one summoned entity across its sends (ENTITY-2).
    EntityId,
    "entity id"
);
ulid!(
    /// The caller's name for a cast: the key that makes a repeated request the same cast.
    CastId,
    "cast id"
);

macro_rules! content_id {
    ($(#[$doc:meta])* $name:ident, $codec:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The id of these bytes.
            pub fn of(bytes: &[u8]) -> Self {
                Self(*blake3::hash(bytes).as_bytes())
            }

            /// The id with this digest.
            pub const fn from_digest(digest: [u8; 32]) -> Self {
                Self(digest)
            }

            /// The 32 bytes of the hash: the id as it is stored.
            pub const fn digest(&self) -> [u8; 32] {
                self.0
            }

            fn cid(self) -> Cid {
                // 32 bytes always fit into the 64 of the type; the default would only be reached if that changed.
                Cid::new_v1($codec, Multihash::wrap(HASH_BLAKE3, &self.0).unwrap_or_default())
            }

            fn checked(cid: &Cid) -> Option<Self> {
                let ours = cid.version() == cid::Version::V1 && cid.codec() == $codec && cid.hash().code() == HASH_BLAKE3;
                ours.then(|| cid.hash().digest().try_into().ok().map(Self)).flatten()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.cid().fmt(out)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, concat!(stringify!($name), "({})"), self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.cid().serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let cid = Cid::deserialize(deserializer)?;
                Self::checked(&cid).ok_or_else(|| serde::de::Error::custom(format!("{cid} is not a content id of the kind used here")))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let cid = Cid::try_from(text).ok();
                cid.as_ref().and_then(Self::checked).ok_or_else(|| IdError::Entry { text: text.chars().take(80).collect() })
            }
        }
    };
}

content_id!(
    /// The id of an entry: the `CIDv1` of its DAG-CBOR bytes, hashed with BLAKE3. It covers the content, the parent, the
    /// writer and the writer's sequence, so it cannot be forged without breaking the hash.
    EntryId,
    CODEC_DAG_CBOR
);
content_id!(
    /// The id of a value that is kept beside its entry because it is large.
    BlobId,
    CODEC_RAW
);

/// Bytes as people read them: hexadecimal, lower case.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The public Ed25519 key of the node that wrote an entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriterKey([u8; 32]);

impl WriterKey {
    /// The key from its bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for WriterKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for WriterKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "WriterKey({self})")
    }
}

impl FromStr for WriterKey {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError::Writer { text: text.chars().take(80).collect() };
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong());
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            let pair = text.get(index * 2..index * 2 + 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for WriterKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_bytes::Bytes::new(&self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for WriterKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes: serde_bytes::ByteArray<32> = Deserialize::deserialize(deserializer)?;
        Ok(Self(bytes.into_array()))
    }
}

/// The id of one gate call, unique within its utterance (LLM-4). A provider's, or minted as `call_<turn>_<n>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallId(Arc<str>);

impl CallId {
    /// Takes the provider's id as it is.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_prints_and_parses_to_itself() {
        let id = EntityId::from_parts(1_790_000_000_000, [7; 10]);
        assert_eq!(id.to_string().parse(), Ok(id));
        let entry = EntryId::of(b"x");
        assert_eq!(entry.to_string().parse(), Ok(entry));
        assert!(entry.to_string().starts_with("bafyr4i"));
        let writer = WriterKey::from_bytes([9; 32]);
        assert_eq!(writer.to_string().parse(), Ok(writer));
    }

    #[test]
    fn ids_sort_by_the_time_they_were_made() {
        let early = LoomId::from_parts(1, [255; 10]);
        let late = LoomId::from_parts(2, [0; 10]);
        assert!(early < late && early.to_string() < late.to_string());
    }

    #[test]
    fn a_text_that_is_no_id_says_what_was_expected() {
        for text in ["", "0", "zzzzzzzzzzzzzzzzzzzzzzzzzz", "0123456789abcdefghjkmnpqri"] {
            assert!(text.parse::<LoomId>().is_err(), "{text}");
        }
        assert!(BlobId::of(b"x").to_string().parse::<EntryId>().is_err());
    }
}
