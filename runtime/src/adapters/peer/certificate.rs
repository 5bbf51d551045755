//! Certificates: making them, and reading what a person has to know of one: whose it is, how long it holds, and its fingerprint.
//!
//! Whether a certificate is to be believed is decided by rustls at each handshake and never here.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::identity::{IdentityError, unusable};
use crate::adapters::clock::SystemClock;
use crate::adapters::x509;
use crate::domain::ids::{NodeName, hex};
use crate::ports::Clock;

const DAY_US: u64 = 24 * 60 * 60 * 1_000_000;
/// 90 days. A key that was lost is of no use after that, and renewing is one command.
const NODE_DAYS: u64 = 90;
/// Ten years: changing an authority means a visit to every node.
const AUTHORITY_DAYS: u64 = 3_650;
/// Five minutes. A certificate is valid so much before it was made, because clocks differ.
const SKEW_US: u64 = 5 * 60 * 1_000_000;
/// 14 days before its end a certificate is spoken of.
const WARNED_DAYS: u64 = 14;
/// 128 bits: no two certificates have the same number.
const SERIAL_BYTES: usize = 16;

/// The SHA-256 of a certificate's DER.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

/// A text that is no fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no fingerprint: expected sha256: and 64 hexadecimal digits, as `cluster show` prints them")]
pub struct FingerprintError(String);

impl Fingerprint {
    /// Of a certificate.
    pub(super) fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "sha256:{}", hex(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self}")
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// Colons between the digits and large letters are taken too: other programs print them.
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let wrong = || FingerprintError(text.chars().take(100).collect());
        let lower = text.trim().to_ascii_lowercase();
        let digits: String = lower.strip_prefix("sha256:").ok_or_else(wrong)?.chars().filter(|c| *c != ':').collect();
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            let pair = digits.get(at..at + 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

/// From when until when a certificate holds, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// The first moment.
    pub from_us: u64,
    /// The last one.
    pub until_us: u64,
}

impl Period {
    /// Of a node's certificate that is made now: 90 days.
    pub const fn of_node(now_us: u64) -> Self {
        Self::days(now_us, NODE_DAYS)
    }

    /// Of an authority that is made now: ten years.
    pub const fn of_authority(now_us: u64) -> Self {
        Self::days(now_us, AUTHORITY_DAYS)
    }

    const fn days(now_us: u64, days: u64) -> Self {
        let from_us = now_us.saturating_sub(SKEW_US);
        Self { from_us, until_us: now_us.saturating_add(days.saturating_mul(DAY_US)) }
    }

    /// Not longer than another's: nothing holds when the authority does not any more.
    #[must_use]
    pub fn within(self, other: Self) -> Self {
        Self { until_us: self.until_us.min(other.until_us), ..self }
    }

    /// The day on which it ends, as 2031-05-28.
    pub fn last_day(&self) -> String {
        date(self.until_us)
    }
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// How a deny list names it.
    pub fingerprint: Fingerprint,
    /// The DNS names in it.
    pub names: Vec<String>,
    /// When it holds.
    pub period: Period,
}

/// Something that a person has to do about a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Concern {
    /// It ends soon.
    EndsSoon {
        /// Whole days that are left.
        days: u64,
        /// The day.
        until: String,
    },
    /// It has ended.
    Expired {
        /// The day.
        until: String,
    },
    /// It begins later: mostly a clock is wrong.
    NotYet {
        /// The day.
        from: String,
    },
    /// It is another node's.
    OtherName {
        /// The names in it.
        names: Vec<String>,
        /// The node's.
        expected: NodeName,
    },
}

impl fmt::Display for Concern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndsSoon { days: 0, until } => write!(out, "the certificate ends today ({until})"),
            Self::EndsSoon { days: 1, until } => write!(out, "the certificate ends in 1 day ({until})"),
            Self::EndsSoon { days, until } => write!(out, "the certificate ends in {days} days ({until})"),
            Self::Expired { until } => write!(out, "the certificate has expired on {until}: every peer refuses it"),
            Self::NotYet { from } => {
                write!(out, "the certificate is not valid before {from}: every peer refuses it; is the clock right?")
            }
            Self::OtherName { names, expected } => {
                let names = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
                write!(out, "the certificate is for {names}, and this node is {expected}: every peer refuses it")
            }
        }
    }
}

impl CertificateInfo {
    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// A text that is no certificate.
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        let what = "the certificate";
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| unusable(what)(&error))?;
        Self::from_der(&der)
    }

    pub(super) fn from_der(der: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let what = "the certificate";
        let period = period(der).ok_or_else(|| unusable(what)(&"it does not say when it is valid"))?;
        // An authority has no names, and is none of these.
        let names = webpki::EndEntityCert::try_from(der)
            .map(|it| it.valid_dns_names().map(str::to_owned).collect())
            .unwrap_or_default();
        Ok(Self { fingerprint: Fingerprint::of(der), names, period })
    }

    /// What has to be done about it at this time, for a node of this name.
    pub fn concerns(&self, name: &NodeName, now_us: u64) -> Vec<Concern> {
        let mut concerns = Vec::new();
        if self.names != [name.as_str()] {
            concerns.push(Concern::OtherName { names: self.names.clone(), expected: name.clone() });
        }
        let until = self.period.last_day();
        let left_us = self.period.until_us.saturating_sub(now_us);
        if now_us > self.period.until_us {
            concerns.push(Concern::Expired { until });
        } else if now_us < self.period.from_us {
            concerns.push(Concern::NotYet { from: date(self.period.from_us) });
        } else if left_us <= WARNED_DAYS * DAY_US {
            concerns.push(Concern::EndsSoon { days: left_us / DAY_US, until });
        }
        concerns
    }
}

/// When a certificate holds.
fn period(der: &[u8]) -> Option<Period> {
    let (from_us, until_us) = x509::period(der)?;
    Some(Period { from_us, until_us })
}

/// A day, as 2031-05-28.
fn date(us: u64) -> String {
    let days = i64::try_from(us / DAY_US).unwrap_or(0) + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days - era * 146_097;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

fn authority_params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "cantrip cluster");
    // Its certificates make no further ones.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn limit(params: &mut CertificateParams, period: Period) -> Result<(), IdentityError> {
    let failed = unusable("the certificate");
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |us: u64| {
        let since = Duration::from_micros(us).try_into().ok();
        since.and_then(|since| epoch.checked_add(since)).ok_or_else(|| failed(&"no certificate can have that date"))
    };
    (params.not_before, params.not_after) = (at(period.from_us)?, at(period.until_us)?);
    let mut serial = [0; SERIAL_BYTES];
    getrandom::fill(&mut serial).map_err(|error| failed(&error))?;
    // A positive number that does not begin with zero.
    if let Some(first) = serial.first_mut() {
        *first = *first & 0x7f | 0x40;
    }
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(())
}

/// Makes the authority of a cluster that holds from now on for ten years: its certificate and its key, as PEM.
///
/// # Errors
/// Only where the machine cannot make keys.
pub fn make_authority() -> Result<(String, String), IdentityError> {
    make_authority_for(Period::of_authority(SystemClock::default().now_us()))
}

/// The same for another time.
///
/// # Errors
/// As [`make_authority`], and a date that no certificate can have.
pub fn make_authority_for(period: Period) -> Result<(String, String), IdentityError> {
    let failed = unusable("the authority");
    let key = KeyPair::generate().map_err(|error| failed(&error))?;
    let mut params = authority_params().map_err(|error| failed(&error))?;
    limit(&mut params, period)?;
    let certificate = params.self_signed(&key).map_err(|error| failed(&error))?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Makes a node's certificate that holds from now on for 90 days, and its key, as PEM, with the key of an authority that
/// [`make_authority`] made. The name is what peers know the node by.
///
/// # Errors
/// A key that is none.
pub fn make_certificate(authority_key: &str, name: &NodeName) -> Result<(String, String), IdentityError> {
    make_certificate_for(authority_key, name, Period::of_node(SystemClock::default().now_us()))
}

/// The same for another time.
///
/// # Errors
/// As [`make_certificate`], and a date that no certificate can have.
pub fn make_certificate_for(
    authority_key: &str,
    name: &NodeName,
    period: Period,
) -> Result<(String, String), IdentityError> {
    let failed = unusable("the node's certificate");
    let signer = KeyPair::from_pem(authority_key).map_err(|error| unusable("the authority's key")(&error))?;
    let issuer = Issuer::new(authority_params().map_err(|error| failed(&error))?, signer);
    let key = KeyPair::generate().map_err(|error| failed(&error))?;
    let mut params = CertificateParams::new(vec![name.to_string()]).map_err(|error| failed(&error))?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name.as_str());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    limit(&mut params, period)?;
    let certificate = params.signed_by(&key, &issuer).map_err(|error| failed(&error))?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Whether a key is the one of an authority's certificate, both as PEM.
///
/// # Errors
/// Texts that are none.
pub fn is_key_of(authority_key: &str, authority: &str) -> Result<bool, IdentityError> {
    let key = KeyPair::from_pem(authority_key).map_err(|error| unusable("the authority's key")(&error))?;
    let certificate = CertificateDer::from_pem_slice(authority.as_bytes())
        .map_err(|error| unusable("the authority's certificate")(&error))?;
    let anchor = webpki::anchor_from_trusted_cert(&certificate)
        .map_err(|error| unusable("the authority's certificate")(&error))?;
    Ok(anchor.subject_public_key_info.ends_with(key.public_key_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::x509::moment;

    #[test]
    fn dates_are_read_and_printed_as_the_calendar_has_them() {
        for (text, us, day) in [
            ("700101000000Z", 0, "1970-01-01"),
            ("000229120000Z", 951_825_600_000_000, "2000-02-29"),
            ("491231235959Z", 2_524_607_999_000_000, "2049-12-31"),
        ] {
            assert_eq!(moment(0x17, text.as_bytes()), Some(us), "{text}");
            assert_eq!(date(us), day);
        }
        assert_eq!(moment(0x18, b"40960101000000Z").map(date), Some("4096-01-01".to_owned()));
        assert_eq!(moment(0x17, b"500101000000Z"), Some(0), "what is before 1970 counts as that");
        for wrong in ["", "7001010000Z", "70010100000xZ", "700101000000", "00000000000000000Z"] {
            assert_eq!(moment(0x17, wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn a_certificate_that_was_cut_or_changed_is_never_more_than_refused() {
        let (authority, _) = make_authority().unwrap();
        let der = CertificateDer::from_pem_slice(authority.as_bytes()).unwrap();
        for end in 0..der.len() {
            let _never_panics = period(der.get(..end).unwrap());
        }
        for at in 0..der.len().min(200) {
            let mut changed = der.to_vec();
            *changed.get_mut(at).unwrap() ^= 0xff;
            let _never_panics = period(&changed);
        }
    }
}
