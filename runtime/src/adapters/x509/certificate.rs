//! One certificate, as far as the record has to understand it.

use ed25519_dalek::{Signature, VerifyingKey};
use webpki::aws_lc_rs as crypto;

use super::ChainError;
use super::der::{BIT_STRING, BOOLEAN, INTEGER, OBJECT, OCTET_STRING, SEQUENCE, element, elements, expect, moment};
use crate::domain::ids::hex;
use crate::domain::members::Scheme;

/// Explicit tags of the fields of a certificate.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// A DNS name among other names.
const DNS_NAME: u8 = 0x82;
/// The number that means version 3.
const VERSION_3: &[u8] = &[INTEGER, 1, 2];

/// 2.5.29.15, .17, .19, .30 and .37, as DER has them.
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x1e];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// `serverAuth`, `clientAuth`, and any purpose.
const PURPOSES: [&[u8]; 3] = [&[0x2b, 6, 1, 5, 5, 7, 3, 1], &[0x2b, 6, 1, 5, 5, 7, 3, 2], &[0x55, 0x1d, 0x25, 0]];
/// 1.3.101.112 is both a kind of key and the one way in which it signs.
const ED25519: &[u8] = &[OBJECT, 3, 0x2b, 0x65, 0x70];

/// Makes the list of algorithms, by the names that rustls has for them.
macro_rules! algorithms {
    ($($name:ident),* $(,)?) => {
        /// How a signature is made and checked. The names are those of rustls.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(non_camel_case_types, reason = "they are constants elsewhere")]
        pub(super) enum Algorithm {
            /// By the strict reading: a key of small order signs nothing, and a signature has one form.
            ED25519,
            $($name,)*
        }

        impl Algorithm {
            const ALL: &'static [Self] = &[Self::ED25519, $(Self::$name),*];

            /// What a key of it is called (`AlgorithmIdentifier`, its content).
            fn key(self) -> Vec<u8> {
                match self {
                    Self::ED25519 => ED25519.to_vec(),
                    $(Self::$name => crypto::$name.public_key_alg_id().as_ref().to_vec(),)*
                }
            }

            /// What a signature of it is called.
            fn signature(self) -> Vec<u8> {
                match self {
                    Self::ED25519 => ED25519.to_vec(),
                    $(Self::$name => crypto::$name.signature_alg_id().as_ref().to_vec(),)*
                }
            }

            fn holds(self, key: &[u8], message: &[u8], signature: &[u8]) -> bool {
                match self {
                    Self::ED25519 => strict(key, message, signature).is_some(),
                    $(Self::$name => crypto::$name.verify_signature(key, message, signature).is_ok(),)*
                }
            }
        }
    };
}

algorithms!(
    ECDSA_P256_SHA256,
    ECDSA_P256_SHA384,
    ECDSA_P256_SHA512,
    ECDSA_P384_SHA256,
    ECDSA_P384_SHA384,
    ECDSA_P384_SHA512,
    ECDSA_P521_SHA256,
    ECDSA_P521_SHA384,
    ECDSA_P521_SHA512,
    RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
);

fn strict(key: &[u8], message: &[u8], signature: &[u8]) -> Option<()> {
    let key = VerifyingKey::from_bytes(key.try_into().ok()?).ok()?;
    key.verify_strict(message, &Signature::from_slice(signature).ok()?).ok()
}

/// How the key of a certificate signs a statement.
pub(super) const fn algorithm_of(scheme: Scheme) -> Algorithm {
    match scheme {
        Scheme::EcdsaP256 => Algorithm::ECDSA_P256_SHA256,
        Scheme::EcdsaP384 => Algorithm::ECDSA_P384_SHA384,
        Scheme::Ed25519 => Algorithm::ED25519,
        Scheme::RsaPss => Algorithm::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    }
}

/// What a key is for, as far as it matters here: the first octet of `keyUsage`.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyUsage(u8);

impl KeyUsage {
    pub(super) const fn signs_statements(self) -> bool {
        self.0 & 0x80 != 0
    }

    pub(super) const fn signs_certificates(self) -> bool {
        self.0 & 0x04 != 0
    }
}

/// Why bytes are no certificate, before it is known which one of a chain they are.
#[derive(Debug)]
pub(super) enum Unread {
    What(&'static str),
    Unknown(String),
    Constrained,
}

impl Unread {
    pub(super) fn at(self, place: usize) -> ChainError {
        match self {
            Self::What(what) => ChainError::Unreadable { place, what },
            Self::Unknown(object) => ChainError::Unknown { place, object },
            Self::Constrained => ChainError::Constrained { place },
        }
    }
}

/// A certificate that was read. What of it is missing is what it does not say.
#[derive(Debug)]
pub(super) struct Certificate<'a> {
    /// What is signed of it.
    signed: &'a [u8],
    /// How (`AlgorithmIdentifier`, its content), and the signature.
    algorithm: &'a [u8],
    signature: &'a [u8],
    issuer: &'a [u8],
    subject: &'a [u8],
    /// When it begins to hold and when it ends, in microseconds since 1970.
    pub(super) period: (u64, u64),
    /// `SubjectPublicKeyInfo`, whole.
    pub(super) public_key: &'a [u8],
    key_algorithm: &'a [u8],
    key: &'a [u8],
    pub(super) is_authority: bool,
    pub(super) path_length: Option<u64>,
    pub(super) key_usage: Option<KeyUsage>,
    /// Whether it is for TLS, where it says what it is for.
    pub(super) extended_usage: Option<bool>,
    pub(super) names: Vec<&'a [u8]>,
}

/// Takes elements off the front of a sequence's content.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn next(&mut self, tag: u8, what: &'static str) -> Result<&'a [u8], Unread> {
        let (content, rest) = expect(self.0, tag).ok_or(Unread::What(what))?;
        self.0 = rest;
        Ok(content)
    }

    /// The next element with tag and length.
    fn whole(&mut self, tag: u8, what: &'static str) -> Result<&'a [u8], Unread> {
        let it = element(self.0).filter(|it| it.tag == tag).ok_or(Unread::What(what))?;
        self.0 = it.rest;
        Ok(it.whole)
    }

    fn end(&self, what: &'static str) -> Result<(), Unread> {
        if self.0.is_empty() { Ok(()) } else { Err(Unread::What(what)) }
    }
}

/// The octets of a bit string that is made of whole ones.
fn octets(bits: &[u8]) -> Option<&[u8]> {
    bits.split_first().filter(|(unused, _)| **unused == 0).map(|(_, octets)| octets)
}

fn period_of(validity: &[u8]) -> Option<(u64, u64)> {
    let from = element(validity)?;
    let until = element(from.rest)?;
    Some((moment(from.tag, from.content)?, moment(until.tag, until.content)?))
}

/// When a certificate of any version holds: its first moment and its last, in microseconds since 1970.
pub(crate) fn period(der: &[u8]) -> Option<(u64, u64)> {
    let (certificate, _) = expect(der, SEQUENCE)?;
    let (mut rest, _) = expect(certificate, SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        rest = element(rest)?.rest;
    }
    for _serial_algorithm_issuer in 0..3 {
        rest = element(rest)?.rest;
    }
    period_of(expect(rest, SEQUENCE)?.0)
}

impl<'a> Certificate<'a> {
    pub(super) fn read(der: &'a [u8]) -> Result<Self, Unread> {
        let mut outer = Fields(der);
        let mut certificate = Fields(outer.next(SEQUENCE, "it is no certificate")?);
        outer.end("something follows the certificate")?;
        let signed = certificate.whole(SEQUENCE, "it has no content")?;
        let algorithm = certificate.next(SEQUENCE, "it does not say how it is signed")?;
        let signature = certificate.next(BIT_STRING, "it has no signature")?;
        certificate.end("something follows its signature")?;
        let signature = octets(signature).ok_or(Unread::What("its signature is no row of octets"))?;

        let mut fields = Fields(expect(signed, SEQUENCE).ok_or(Unread::What("it has no content"))?.0);
        if fields.next(VERSION, "it is not of version 3")? != VERSION_3 {
            return Err(Unread::What("it is not of version 3"));
        }
        fields.next(INTEGER, "it has no serial number")?;
        if fields.next(SEQUENCE, "it does not say how it is signed")? != algorithm {
            return Err(Unread::What("it says twice how it is signed, and not the same"));
        }
        let issuer = fields.next(SEQUENCE, "it has no issuer")?;
        let validity = fields.next(SEQUENCE, "it does not say when it holds")?;
        let subject = fields.next(SEQUENCE, "it has no subject")?;
        let public_key = fields.whole(SEQUENCE, "it has no public key")?;
        let mut key = Fields(expect(public_key, SEQUENCE).ok_or(Unread::What("it has no public key"))?.0);
        let key_algorithm = key.next(SEQUENCE, "its key is of no kind")?;
        let bits = key.next(BIT_STRING, "its key is missing")?;
        key.end("something follows its key")?;
        let mut read = Self {
            signed,
            algorithm,
            signature,
            issuer,
            subject,
            period: period_of(validity).ok_or(Unread::What("it does not say when it holds"))?,
            public_key,
            key_algorithm,
            key: octets(bits).ok_or(Unread::What("its key is no row of octets"))?,
            is_authority: false,
            path_length: None,
            key_usage: None,
            extended_usage: None,
            names: Vec::new(),
        };
        if !fields.0.is_empty() {
            read.extensions(fields.next(EXTENSIONS, "it has a field that is not understood here")?)?;
            fields.end("something follows its extensions")?;
        }
        Ok(read)
    }

    fn extensions(&mut self, content: &'a [u8]) -> Result<(), Unread> {
        let wrong = Unread::What("its extensions cannot be read");
        let Some((list, [])) = expect(content, SEQUENCE) else { return Err(wrong) };
        let mut seen = Vec::new();
        for extension in elements(list).ok_or(wrong)? {
            let mut fields = Fields(extension.content);
            let what = "one of its extensions cannot be read";
            if extension.tag != SEQUENCE {
                return Err(Unread::What(what));
            }
            let object = fields.next(OBJECT, what)?;
            let is_critical = fields.0.first() == Some(&BOOLEAN) && is_true(fields.next(BOOLEAN, what)?, what)?;
            let value = fields.next(OCTET_STRING, what)?;
            fields.end(what)?;
            if seen.contains(&object) {
                return Err(Unread::What("it has an extension twice"));
            }
            seen.push(object);
            self.extension(object, is_critical, value)?;
        }
        Ok(())
    }

    fn extension(&mut self, object: &[u8], is_critical: bool, value: &'a [u8]) -> Result<(), Unread> {
        match object {
            BASIC_CONSTRAINTS => (self.is_authority, self.path_length) = basic_constraints(value)?,
            KEY_USAGE => {
                let what = "its key usage cannot be read";
                let mut fields = Fields(value);
                let bits = fields.next(BIT_STRING, what)?;
                fields.end(what)?;
                self.key_usage = Some(KeyUsage(bits.get(1).copied().unwrap_or(0)));
            }
            EXTENDED_KEY_USAGE => {
                let purposes = listed(value).ok_or(Unread::What("what it is for cannot be read"))?;
                self.extended_usage =
                    Some(purposes.iter().any(|it| it.tag == OBJECT && PURPOSES.contains(&it.content)));
            }
            ALTERNATIVE_NAMES => {
                let names = listed(value).ok_or(Unread::What("its names cannot be read"))?;
                self.names = names.iter().filter(|it| it.tag == DNS_NAME).map(|it| it.content).collect();
            }
            // Also where it is not critical: it is meant for whoever checks names.
            NAME_CONSTRAINTS => return Err(Unread::Constrained),
            _ if is_critical => return Err(Unread::Unknown(hex(object))),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn has_key(&self, algorithm: Algorithm) -> bool {
        algorithm.key() == self.key_algorithm
    }

    /// Whether its key has signed a message.
    pub(super) fn has_signed(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        self.has_key(algorithm) && algorithm.holds(self.key, message, signature)
    }

    /// Whether the next certificate has signed this one, which is at this place.
    pub(super) fn is_issued_by(&self, by: &Certificate<'_>, place: usize) -> Result<(), ChainError> {
        self.is_signed_by(by, place, place.saturating_add(1))
    }

    /// Whether it has signed itself.
    pub(super) fn is_issued_by_itself(&self, place: usize) -> Result<(), ChainError> {
        self.is_signed_by(self, place, place)
    }

    fn is_signed_by(&self, by: &Certificate<'_>, place: usize, by_place: usize) -> Result<(), ChainError> {
        if self.issuer != by.subject {
            return Err(ChainError::Issuer { place, by: by_place });
        }
        let mut known = Algorithm::ALL.iter().filter(|algorithm| algorithm.signature() == self.algorithm);
        if known.any(|algorithm| by.has_signed(*algorithm, self.signed, self.signature)) {
            return Ok(());
        }
        Err(ChainError::Signature { place, by: by_place })
    }
}

/// DER has one form of true. It leaves out what is false by default, and some authorities write it all the same.
fn is_true(boolean: &[u8], what: &'static str) -> Result<bool, Unread> {
    match boolean {
        [0xff] => Ok(true),
        [0] => Ok(false),
        _ => Err(Unread::What(what)),
    }
}

/// The elements of a sequence that is all there is.
fn listed(value: &[u8]) -> Option<Vec<super::der::Element<'_>>> {
    let (content, rest) = expect(value, SEQUENCE)?;
    if rest.is_empty() { elements(content) } else { None }
}

/// Whether it is an authority, and how many authorities may be below it.
fn basic_constraints(value: &[u8]) -> Result<(bool, Option<u64>), Unread> {
    let what = "whether it is an authority cannot be read";
    let mut outer = Fields(value);
    let mut fields = Fields(outer.next(SEQUENCE, what)?);
    outer.end(what)?;
    let is_authority = fields.0.first() == Some(&BOOLEAN) && is_true(fields.next(BOOLEAN, what)?, what)?;
    let path_length = if fields.0.is_empty() { None } else { Some(small(fields.next(INTEGER, what)?, what)?) };
    fields.end(what)?;
    if path_length.is_some() && !is_authority {
        return Err(Unread::What("it allows authorities below it and is none"));
    }
    Ok((is_authority, path_length))
}

/// A number that is not negative and not long.
fn small(digits: &[u8], what: &'static str) -> Result<u64, Unread> {
    match digits {
        [first, ..] if *first & 0x80 == 0 && digits.len() <= 8 => {
            Ok(digits.iter().fold(0, |sum, digit| (sum << 8) | u64::from(*digit)))
        }
        _ => Err(Unread::What(what)),
    }
}
