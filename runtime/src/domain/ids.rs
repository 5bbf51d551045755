//! The names of things: looms, entities, entries, writers, calls.
//!
//! Every id has one parse and one print. None is minted here: time and randomness come in as arguments, so that the
//! same inputs always give the same ids.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use cid::Cid;
use cid::multihash::Multihash;
use serde::de::Visitor;
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
/// 10 digits of 5 bits hold the 48 bits of an id's time; the 2 spare bits are zero.
const TIME_DIGITS: usize = 10;

/// What made a text unusable as an id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    /// The length or the alphabet is off.
    #[error("`{text}` is not a {what}: expected {digits} characters of 0-9 and a-z without i, l, o, u")]
    Digits {
        /// What was asked for.
        what: &'static str,
        /// How many digits it has.
        digits: usize,
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

/// Fills `digits` with a big-endian number.
fn encode(mut value: u128, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        // The mask keeps the index below 32, the length of the alphabet.
        let index = usize::try_from(value & 31).unwrap_or(0);
        *digit = ALPHABET.get(index).copied().unwrap_or(b'0');
        value >>= 5;
    }
}

/// What a digit of the alphabet stands for, in either case.
const fn digit(byte: u8) -> Option<u8> {
    Some(match byte.to_ascii_lowercase() {
        byte @ b'0'..=b'9' => byte - b'0',
        byte @ b'a'..=b'h' => byte - b'a' + 10,
        byte @ (b'j' | b'k') => byte - b'j' + 18,
        byte @ (b'm' | b'n') => byte - b'm' + 20,
        byte @ b'p'..=b't' => byte - b'p' + 22,
        byte @ b'v'..=b'z' => byte - b'v' + 27,
        _ => return None,
    })
}

/// The number that digits of the alphabet stand for, unless it has more than `bits`.
fn decode(digits: &[u8], bits: u32) -> Option<u128> {
    let mut value = 0_u128;
    for byte in digits {
        if value >> 123 != 0 {
            return None;
        }
        value = (value << 5) | u128::from(digit(*byte)?);
    }
    (u128::BITS - value.leading_zeros() <= bits).then_some(value)
}

/// Reads an id from a text, wherever that is kept.
struct Read<T>(PhantomData<T>);

impl<T: FromStr<Err = IdError>> Visitor<'_> for Read<T> {
    type Value = T;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an id as text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// Declares an id of 6 bytes of time and so many further bytes, printed with 10 digits and as many as those need.
macro_rules! timed_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rest:literal bytes, $digits:literal digits) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 6 + $rest]);

        impl $name {
            /// Length of the printed id in characters.
            pub const DIGITS: usize = TIME_DIGITS + $digits;

            /// Builds an id from the time, of which 48 bits count, and what makes it different from others of that time.
            pub fn from_parts(unix_ms: u64, rest: [u8; $rest]) -> Self {
                let mut bytes = [0; 6 + $rest];
                let time = unix_ms.to_be_bytes();
                bytes.iter_mut().zip(time.iter().skip(2).chain(rest.iter())).for_each(|(to, from)| *to = *from);
                Self(bytes)
            }

            /// The time that the id begins with, in milliseconds since 1970.
            pub fn unix_ms(&self) -> u64 {
                self.0.iter().take(6).fold(0, |time, byte| (time << 8) | u64::from(*byte))
            }

            /// The id as it is stored.
            pub const fn as_bytes(&self) -> &[u8; 6 + $rest] {
                &self.0
            }

            /// The id from its stored form.
            pub const fn from_bytes(bytes: [u8; 6 + $rest]) -> Self {
                Self(bytes)
            }

            fn parsed(text: &str) -> Option<Self> {
                let (time, rest) = text.as_bytes().split_at_checked(TIME_DIGITS)?;
                if rest.len() != $digits {
                    return None;
                }
                let time = u64::try_from(decode(time, 48)?).ok()?;
                let rest = decode(rest, $rest * 8)?.to_be_bytes();
                let rest = rest.last_chunk::<$rest>()?;
                Some(Self::from_parts(time, *rest))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0; Self::DIGITS];
                let (time, rest) = text.split_at_mut(TIME_DIGITS);
                encode(self.unix_ms().into(), time);
                encode(self.0.iter().skip(6).fold(0, |value, byte| (value << 8) | u128::from(*byte)), rest);
                // Every byte is a letter or a digit.
                out.write_str(std::str::from_utf8(&text).unwrap_or_default())
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
                Self::parsed(text).ok_or_else(|| {
                    let text = text.chars().take(64).collect();
                    IdError::Digits { what: $what, digits: Self::DIGITS, text }
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Read(PhantomData))
            }
        }
    };
}

timed_id!(
    /// Names one loom: one append-only tree of entries.
    ///
    /// 48 bits of time in milliseconds, so that ids sort by the time they were made, then 128 bits of hash: the id
    /// commits to whoever founded the loom ([`LoomId::mint`]).
    LoomId,
    "loom id",
    16 bytes,
    26 digits
);
timed_id!(
    /// Names one entity: one cast, or one summoned entity across its sends (ENTITY-2).
    ///
    /// 48 bits of time in milliseconds, then 128 bits of hash: the id commits to whoever minted it
    /// ([`EntityId::mint`]).
    EntityId,
    "entity id",
    16 bytes,
    26 digits
);
timed_id!(
    /// The caller's name for a cast: the key that makes a repeated request the same cast.
    ///
    /// 48 bits of time in milliseconds, then 80 random bits. That of a child follows from its entity's id
    /// ([`CastId::of_child`]).
    CastId,
    "cast id",
    10 bytes,
    16 digits
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
        for rest in [[0; 16], [7; 16], [255; 16]] {
            let id = EntityId::from_parts(1_790_000_000_000, rest);
            assert_eq!(id.to_string().len(), EntityId::DIGITS);
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(id.unix_ms(), 1_790_000_000_000);
        }
        let cast = CastId::from_parts(u64::MAX, [255; 10]);
        assert_eq!((cast.to_string().len(), cast.to_string().parse()), (CastId::DIGITS, Ok(cast)));
        let entry = EntryId::of(b"x");
        assert_eq!(entry.to_string().parse(), Ok(entry));
        assert!(entry.to_string().starts_with("bafyr4i"));
        let writer = WriterKey::from_bytes([9; 32]);
        assert_eq!(writer.to_string().parse(), Ok(writer));
    }

    #[test]
    fn the_digits_of_an_id_stay_as_they_are() {
        let id = LoomId::from_parts(1_790_000_000_000, *b"sixteen bytes it");
        assert_eq!(id.to_string(), "01m3250v003kd5w78sb5drg64ybmcnsj0tbm");
        let cast = CastId::from_parts(1_790_000_000_000, *b"ten bytes!");
        assert_eq!(cast.to_string(), "01m3250v00ehjpw832f5t6aws1");
    }

    #[test]
    fn every_letter_stands_for_its_place_in_the_alphabet() {
        for (place, letter) in ALPHABET.iter().enumerate() {
            assert_eq!(decode(&[*letter], 5), u128::try_from(place).ok());
            assert_eq!(decode(&[letter.to_ascii_uppercase()], 5), u128::try_from(place).ok());
        }
        let letters = (u8::MIN..=u8::MAX).filter(|byte| decode(&[*byte], 5).is_some()).count();
        assert_eq!(letters, 32 + 22, "10 digits, and 22 letters of two sizes");
    }

    #[test]
    fn ids_sort_by_the_time_they_were_made() {
        let early = LoomId::from_parts(1, [255; 16]);
        let late = LoomId::from_parts(2, [0; 16]);
        assert!(early < late && early.to_string() < late.to_string());
    }

    #[test]
    fn an_id_has_no_second_text_with_spare_bits() {
        let zeros = "0".repeat(LoomId::DIGITS);
        assert_eq!(zeros.parse(), Ok(LoomId::from_bytes([0; 22])));
        // The time's first digit has 3 bits, and so has the first of what follows.
        for (place, digit) in [(0, "8"), (0, "z"), (10, "8"), (10, "g")] {
            let mut text = zeros.clone();
            text.replace_range(place..=place, digit);
            assert!(text.parse::<LoomId>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_id_names_its_length() {
        let said = |wrong: Option<IdError>| wrong.map(|error| error.to_string()).unwrap_or_default();
        assert!(said("x".parse::<LoomId>().err()).contains("`x` is not a loom id: expected 36 characters"));
        assert!(said("x".parse::<CastId>().err()).contains("`x` is not a cast id: expected 26 characters"));
    }

    #[test]
    fn a_text_that_is_no_id_says_what_was_expected() {
        for text in ["", "0", "zzzzzzzzzzzzzzzzzzzzzzzzzz", "0123456789abcdefghjkmnpqri", "é", "ééééééééééééééééééé"]
        {
            assert!(text.parse::<LoomId>().is_err() && text.parse::<CastId>().is_err(), "{text}");
        }
        assert!(BlobId::of(b"x").to_string().parse::<EntryId>().is_err());
    }
}
