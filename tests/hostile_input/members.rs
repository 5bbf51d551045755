//! What vouches for writers' keys: member records and successions, whoever made them.

use cantrip_runtime::adapters::peer::{Identity, Period, make_authority_for, make_certificate_for};
use cantrip_runtime::adapters::store::{MemoryStore, NodeKey};
use cantrip_runtime::adapters::x509::X509;
use cantrip_runtime::domain::ids::{LoomId, WriterKey};
use cantrip_runtime::domain::limits::{
    CERTIFICATE_BYTES_MAX, CERTIFICATE_SIGNATURE_BYTES_MAX, CHAIN_CERTIFICATES_MAX, MEMBER_RECORD_BYTES_MAX,
    SUCCESSION_BYTES_MAX,
};
use cantrip_runtime::domain::members::{
    Attestation, AuthorityId, CertificateId, CertificateSignature, CheckedRecord, MemberRecord, Nonce, Scheme,
    Succession,
};
use cantrip_runtime::ports::MemberStore;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData, RsaKeySize, SignatureAlgorithm, SigningKey,
};

use crate::copy_book::key;

/// 2020-01-01 and 2030-01-01.
const OLD_US: u64 = 1_577_836_800_000_000;
const NEW_US: u64 = 1_893_456_000_000_000;

pub(super) const NONCE: Nonce = Nonce::from_bytes([1; 16]);

/// A loom of a founder.
pub(super) fn loom() -> LoomId {
    LoomId::mint(1_790_000_000_000, &key(11).writer(), &NONCE, None)
}

pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}

/// An authority of a test's own.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) der: Vec<u8>,
    public_key: Vec<u8>,
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

impl Authority {
    /// Which has signed itself.
    pub(super) fn new(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::with(name, KeyPair::generate().unwrap(), change)
    }

    fn with(name: &str, key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = authority_params(name);
        change(&mut params);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { public_key: key.subject_public_key_info(), issuer: Issuer::new(params, key), der }
    }

    /// One that this one has signed.
    fn below(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (mut params, key) = (authority_params(name), KeyPair::generate().unwrap());
        change(&mut params);
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Self { public_key: key.subject_public_key_info(), issuer: Issuer::new(params, key), der }
    }

    fn node(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> (Vec<u8>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        (self.certificate(name, &key, change), key)
    }

    pub(super) fn certificate(
        &self,
        name: &str,
        key: &KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Vec<u8> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        params.signed_by(key, &self.issuer).unwrap().der().to_vec()
    }
}

pub(super) fn record_by(writer: &NodeKey, chain: Vec<Vec<u8>>, node: &KeyPair) -> MemberRecord {
    let bytes = node.sign(&MemberRecord::statement(&writer.writer(), &chain)).unwrap();
    writer.vouch(chain, CertificateSignature { scheme: Scheme::EcdsaP256, bytes })
}

pub(super) fn record(authority: &Authority, writer: &NodeKey, name: &str) -> MemberRecord {
    let (node, node_key) = authority.node(name, |_| {});
    record_by(writer, vec![node, authority.der.clone()], &node_key)
}

fn refusal(record: &MemberRecord) -> String {
    record.check(&X509).map_or_else(|error| causes(&error), |checked| format!("taken: {checked:?}"))
}

fn checked(record: &MemberRecord) -> CheckedRecord {
    record.check(&X509).unwrap()
}

#[test]
fn a_record_binds_a_key_to_the_name_and_the_public_key_of_the_authority() {
    let (authority, writer) = (Authority::new("cluster", |_| {}), key(3));
    let record = record(&authority, &writer, "agents");
    let found = checked(&record);
    assert_eq!(found.key(), writer.writer());
    assert_eq!(found.node().name.as_str(), "agents");
    assert_eq!(found.node().authority, AuthorityId::of(&authority.public_key));
    assert_eq!(found.certificate(), CertificateId::of(&record.chain[0]));
    assert_eq!(MemberRecord::parse(&record.to_bytes()).unwrap(), record);
}

#[test]
fn a_record_needs_the_word_of_both_keys_over_this_chain_and_this_writer() {
    let authority = Authority::new("cluster", |_| {});
    let whole = record(&authority, &key(3), "agents");
    let mut by_another_writer = whole.clone();
    by_another_writer.key = key(4).writer();
    assert!(refusal(&by_another_writer).contains("not signed by the writer's key"));
    let thief = key(4).vouch(whole.chain.clone(), whole.by_certificate.clone());
    assert!(
        refusal(&thief).contains("not signed by the key of the node's certificate"),
        "a thief has only its own key"
    );
    let mut no_word = whole.clone();
    no_word.by_key[10] ^= 1;
    assert!(refusal(&no_word).contains("not signed by the writer's key"));
    // Another certificate of the same authority, or of the same key.
    let (_, node_key) = authority.node("agents", |_| {});
    let other = authority.certificate("analysis", &node_key, |_| {});
    let mut renamed = record_by(&key(3), vec![other.clone(), authority.der.clone()], &node_key);
    assert_eq!(checked(&renamed).node().name.as_str(), "analysis");
    renamed.chain[0] = authority.certificate("agents", &node_key, |_| {});
    assert!(refusal(&renamed).contains("not signed by the writer's key"));
    // A key of small order would have signed everything.
    let mut nobody = whole;
    nobody.key = WriterKey::from_bytes([0; 32]);
    nobody.by_key = [0; 64];
    assert!(refusal(&nobody).contains("not signed by the writer's key"));
}

#[test]
fn a_chain_is_refused_for_whatever_is_wrong_with_it() {
    let root = Authority::new("root", |_| {});
    let middle = root.below("middle", |_| {});
    let check = |authority: &Authority, above: &[&Authority], change: fn(&mut CertificateParams), expected: &str| {
        let (node, node_key) = authority.node("agents", change);
        let mut chain = vec![node, authority.der.clone()];
        chain.extend(above.iter().map(|it| it.der.clone()));
        let said = refusal(&record_by(&key(3), chain, &node_key));
        assert!(said.contains(expected), "{expected}: {said}");
    };
    let nothing: fn(&mut CertificateParams) = |_| {};
    check(&root, &[], nothing, "taken");
    check(&middle, &[&root], nothing, "taken");
    check(&middle, &[], nothing, "certificate 2 names an issuer that certificate 2 is not");
    check(
        &middle,
        &[&Authority::new("other", |_| {})],
        nothing,
        "certificate 2 names an issuer that certificate 3 is not",
    );
    check(&middle, &[&Authority::new("root", |_| {})], nothing, "certificate 2 is not signed by certificate 3");
    let no_authority = root.below("middle", |params| params.is_ca = IsCa::ExplicitNoCa);
    check(&no_authority, &[&root], nothing, "certificate 2 signs certificate 1, and is no authority");
    let silent = root.below("middle", |params| params.is_ca = IsCa::NoCa);
    check(&silent, &[&root], nothing, "certificate 2 signs certificate 1, and is no authority");
    let for_lists = root.below("middle", |params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
    check(&for_lists, &[&root], nothing, "its key is not for signing certificates");
    let for_code =
        root.below("middle", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]);
    check(&for_code, &[&root], nothing, "certificate 2 is not for this");
    let short = Authority::new("root", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    check(&short, &[], nothing, "taken");
    check(&short.below("middle", |_| {}), &[&short], nothing, "certificate 3 has 1 authorities below it, and allows 0");
    let names = |params: &mut CertificateParams| {
        let permitted_subtrees = vec![GeneralSubtree::DnsName("example".to_owned())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    };
    check(&root.below("middle", names), &[&root], nothing, "certificate 2 constrains names");
    check(&root, &[], |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), "is an authority's");
    check(
        &root,
        &[],
        |params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment],
        "its key is not for signatures",
    );
    let purpose = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
    };
    check(&root, &[], purpose, "certificate 1 is not for this");
    let silent = |params: &mut CertificateParams| {
        (params.key_usages, params.extended_key_usages) = (Vec::new(), Vec::new());
    };
    check(&root, &[], silent, "taken");
    check(&root, &[], |params| params.subject_alt_names.clear(), "has 0 names");
    let twice = |params: &mut CertificateParams| {
        let other = CertificateParams::new(vec!["other".to_owned()]).unwrap();
        params.subject_alt_names.extend(other.subject_alt_names);
    };
    check(&root, &[], twice, "has 2 names");
    let odd = |params: &mut CertificateParams| {
        params.subject_alt_names = CertificateParams::new(vec!["*.example".to_owned()]).unwrap().subject_alt_names;
    };
    check(&root, &[], odd, "names no node");
    let unknown = |params: &mut CertificateParams| {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999], vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions.push(extension);
    };
    check(&root, &[], unknown, "critical extension that is not understood here");
}

#[test]
fn bytes_of_a_certificate_that_were_changed_vouch_for_nothing_and_stop_nothing() {
    let (root, writer) = (Authority::new("root", |_| {}), key(3));
    let (node, node_key) = root.node("agents", |_| {});
    for place in 0..2 {
        let whole = [node.clone(), root.der.clone()];
        for at in 0..whole[place].len() {
            let mut chain = whole.to_vec();
            chain[place][at] ^= 0x41;
            let said = refusal(&record_by(&writer, chain, &node_key));
            assert!(!said.contains("taken"), "byte {at} of certificate {}: {said}", place + 1);
            let mut chain = whole.to_vec();
            chain[place].truncate(at);
            assert!(!refusal(&record_by(&writer, chain, &node_key)).contains("taken"), "cut at {at}");
        }
    }
}

#[test]
fn certificates_of_every_usual_kind_of_key_make_records() {
    let kinds: [(&'static SignatureAlgorithm, Scheme); 3] = [
        (&rcgen::PKCS_ECDSA_P256_SHA256, Scheme::EcdsaP256),
        (&rcgen::PKCS_ECDSA_P384_SHA384, Scheme::EcdsaP384),
        (&rcgen::PKCS_ED25519, Scheme::Ed25519),
    ];
    let mut keys: Vec<(KeyPair, KeyPair, Scheme)> = Vec::new();
    for (algorithm, scheme) in kinds {
        let made = || KeyPair::generate_for(algorithm).unwrap();
        keys.push((made(), made(), scheme));
    }
    let rsa = || KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    keys.push((rsa(), rsa(), Scheme::RsaPss));
    let writer = key(3);
    for (authority_key, node_key, scheme) in keys {
        let authority = Authority::with("cluster", authority_key, |_| {});
        let certificate = authority.certificate("agents", &node_key, |params| {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        });
        let pem = |der: &[u8]| {
            let base64 = base64(der);
            format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n")
        };
        let identity = Identity::from_pem(&pem(&authority.der), &pem(&certificate), &node_key.serialize_pem()).unwrap();
        let (chain, by_certificate) = identity.attest(writer.writer()).unwrap();
        assert_eq!(by_certificate.scheme, scheme);
        let mut record = writer.vouch(chain, by_certificate);
        assert_eq!(checked(&record).node().name.as_str(), "agents");
        // The same bytes as another kind of signature are none.
        let other = if scheme == Scheme::Ed25519 { Scheme::RsaPss } else { Scheme::Ed25519 };
        record.by_certificate.scheme = other;
        assert!(refusal(&record).contains("not signed by the key of the node's certificate"));
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |chunk: &[u8]| {
        let number = chunk.iter().fold(0_u32, |sum, byte| (sum << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
        let digit = |place: usize| {
            let digit = DIGITS.get((number >> (18 - 6 * place)) as usize & 63).copied();
            if place <= chunk.len() { char::from(digit.unwrap()) } else { '=' }
        };
        (0..4).map(digit).collect::<String>()
    };
    bytes.chunks(3).map(group).collect::<Vec<_>>().concat()
}

#[test]
fn a_record_is_made_through_whatever_leads_to_an_authority_that_signed_itself() {
    let (root, writer) = (Authority::new("root", |_| {}), key(3));
    let middle = root.below("middle", |_| {});
    let (node, node_key) = middle.node("agents", |_| {});
    let pem = |ders: &[&[u8]]| {
        let one = |der: &&[u8]| format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", base64(der));
        ders.iter().map(one).collect::<Vec<_>>().concat()
    };
    let other = Authority::new("other", |_| {});
    let attest = |authority: &[&[u8]], certificate: &[&[u8]]| {
        let identity = Identity::from_pem(&pem(authority), &pem(certificate), &node_key.serialize_pem()).unwrap();
        identity.attest(writer.writer())
    };
    let (chain, by_certificate) = attest(&[&other.der, &root.der], &[&node, &middle.der]).unwrap();
    assert_eq!(chain, [node.clone(), middle.der.clone(), root.der.clone()]);
    let found = checked(&writer.vouch(chain, by_certificate));
    assert_eq!(found.node().authority, AuthorityId::of(&root.public_key));
    let error = attest(&[&middle.der], &[&node]).unwrap_err();
    assert!(error.to_string().contains("an authority that has signed itself"), "{error}");
}

#[test]
fn time_makes_no_difference_to_a_record_and_a_renewed_certificate_makes_another() {
    let period = |from_us| Period { from_us, until_us: from_us + 1_000_000 };
    let (authority, authority_key) = make_authority_for(period(OLD_US)).unwrap();
    let writer = key(3);
    let made = |from_us| {
        let (certificate, node_key) =
            make_certificate_for(&authority_key, &"agents".parse().unwrap(), period(from_us)).unwrap();
        let identity = Identity::from_pem(&authority, &certificate, &node_key).unwrap();
        let sign = || {
            let (chain, by_certificate) = identity.attest(writer.writer()).unwrap();
            writer.vouch(chain, by_certificate)
        };
        (sign(), sign())
    };
    let ((ended, again), (later, _)) = (made(OLD_US), made(NEW_US));
    assert_eq!((checked(&ended).begins_us(), checked(&later).begins_us()), (OLD_US, NEW_US));
    assert_eq!(checked(&ended).node(), checked(&later).node());
    assert_ne!(ended.by_certificate, again.by_certificate, "ECDSA signs with a number of its own each time");
    let store = MemoryStore::with_key(key(1));
    let all = [&ended, &again, &later].map(|record| Attestation::Member(record.clone()));
    let kept: Vec<bool> = store.attest(loom(), &all).unwrap().into_iter().map(Result::unwrap).collect();
    assert_eq!(kept, [true, false, true], "one for each key and certificate");
    assert_eq!(store.vouched(loom()).unwrap().records.len(), 2, "all of them count");
}

#[test]
fn a_certificate_that_two_authorities_vouch_for_is_of_two_nodes() {
    let [one, other] = ["one", "other"].map(|name| Authority::new(name, |_| {}));
    let middle_key = KeyPair::generate().unwrap().serialize_pem();
    let middle_key = || KeyPair::from_pem(&middle_key).unwrap();
    let crossed =
        |above: &Authority| authority_params("middle").signed_by(&middle_key(), &above.issuer).unwrap().der().to_vec();
    let issuer = Issuer::new(authority_params("middle"), middle_key());
    let node_key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["agents".to_owned()]).unwrap();
    let node = params.signed_by(&node_key, &issuer).unwrap().der().to_vec();
    let records = [&one, &other]
        .map(|above| record_by(&key(3), vec![node.clone(), crossed(above), above.der.clone()], &node_key));
    let found = records.each_ref().map(checked);
    assert_eq!(found[0].certificate(), found[1].certificate());
    assert_ne!(found[0].node(), found[1].node());
    let store = MemoryStore::with_key(key(1));
    let kept = store.attest(loom(), &records.map(Attestation::Member)).unwrap();
    assert!(kept.iter().all(|kept| matches!(kept, Ok(true))), "whichever came first, both are kept");
}

#[test]
fn a_member_record_is_bounded_before_it_is_checked() {
    let authority = Authority::new("cluster", |_| {});
    let whole = record(&authority, &key(3), "agents");
    let said = |change: &dyn Fn(&mut MemberRecord)| {
        let mut record = whole.clone();
        change(&mut record);
        let parsed = MemberRecord::parse(&record.to_bytes()).unwrap_err().to_string();
        (parsed, refusal(&record))
    };
    let alike = |change: &dyn Fn(&mut MemberRecord), expected: &str| {
        let (parsed, checked) = said(change);
        assert!(parsed.contains(expected) && checked.contains(expected), "{parsed} / {checked}");
    };
    alike(&|record| record.chain.truncate(1), "1 certificates");
    alike(&|record| record.chain = vec![vec![1]; CHAIN_CERTIFICATES_MAX + 1], "5 certificates");
    alike(&|record| record.chain[1] = vec![0; CERTIFICATE_BYTES_MAX + 1], "certificate 2 of its chain has 8193 bytes");
    alike(
        &|record| record.by_certificate.bytes = vec![0; CERTIFICATE_SIGNATURE_BYTES_MAX + 1],
        "signature has 1025 bytes",
    );
    let full = MemberRecord {
        chain: vec![vec![0; CERTIFICATE_BYTES_MAX]; CHAIN_CERTIFICATES_MAX],
        by_certificate: CertificateSignature {
            scheme: Scheme::RsaPss,
            bytes: vec![0; CERTIFICATE_SIGNATURE_BYTES_MAX],
        },
        ..whole.clone()
    };
    assert!(MemberRecord::parse(&full.to_bytes()).is_ok(), "what is at all limits at once is read");
    let long = MemberRecord::parse(&vec![0; MEMBER_RECORD_BYTES_MAX + 1]).unwrap_err().to_string();
    assert!(long.contains("36865 bytes"), "{long}");
    let long = Succession::parse(&vec![0; SUCCESSION_BYTES_MAX + 1]).unwrap_err().to_string();
    assert!(long.contains("513 bytes"), "{long}");
    let mut longer = whole.to_bytes();
    longer.push(0);
    assert!(MemberRecord::parse(&longer).is_err());
    let version: Vec<u8> = whole.to_bytes();
    let at = version.windows(3).position(|bytes| bytes == b"\x61v\x02").unwrap();
    let mut other = version;
    other[at + 2] = 3;
    assert!(MemberRecord::parse(&other).unwrap_err().to_string().contains("version 3"));
}

#[test]
fn a_succession_needs_the_word_of_both_keys() {
    let (old, new) = (key(3), key(4));
    let whole = old.succeed(&new);
    let found = whole.check().unwrap();
    assert_eq!((found.predecessor(), found.successor()), (old.writer(), new.writer()));
    assert_eq!(Succession::parse(&whole.to_bytes()).unwrap(), whole);
    let refused = |succession: Succession| succession.check().unwrap_err().to_string();
    let unwilling = Succession { by_new: whole.by_old, ..whole };
    assert!(refused(unwilling).contains(&new.writer().to_string()), "nobody is made a successor who does not want it");
    let thief = Succession { by_old: whole.by_new, ..whole };
    assert!(refused(thief).contains(&old.writer().to_string()));
    let other = Succession { new: key(5).writer(), ..whole };
    assert!(refused(other).contains(&old.writer().to_string()));
    assert!(refused(old.succeed(&old)).contains("its own place"));
    // A head that was signed is no succession, and the other way round.
    let mut statement = Succession::statement(&whole.old, &whole.new);
    assert!(statement.starts_with(b"cantrip succession v2\0"));
    statement.truncate(22);
    assert!(MemberRecord::statement(&whole.old, &[]).starts_with(b"cantrip member v2\0"));
}
