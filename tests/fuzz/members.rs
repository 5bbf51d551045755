//! What vouches for writers' keys: whatever is changed in it, it is read, refused in a sentence, or holds.

use cantrip_runtime::adapters::peer::{Identity, make_authority, make_certificate};
use cantrip_runtime::adapters::store::NodeKey;
use cantrip_runtime::adapters::x509::X509;
use cantrip_runtime::domain::members::{ChainCheck, MemberRecord, Succession};

use crate::targets::target_of;

fn key(number: u8) -> NodeKey {
    NodeKey::from_secret(&[number; 32])
}

fn member(number: u8) -> MemberRecord {
    let (authority, authority_key) = make_authority().unwrap();
    let (certificate, node_key) = make_certificate(&authority_key, &"agents".parse().unwrap()).unwrap();
    let identity = Identity::from_pem(&authority, &certificate, &node_key).unwrap();
    let writer = key(number);
    let (chain, by_certificate) = identity.attest(writer.writer()).unwrap();
    writer.vouch(chain, by_certificate)
}

#[test]
fn member_record() {
    let writer = key(3);
    let seeds = [member(3).to_bytes(), member(3).to_bytes()];
    target_of("member_record", &seeds, 20_000, |bytes| {
        let Ok(record) = MemberRecord::parse(&bytes) else { return false };
        // What is taken is in the one form that it has.
        assert_eq!(record.to_bytes(), bytes);
        let is_changed = !seeds.contains(&bytes);
        let holds = record.check(&X509).is_ok();
        // ECDSA has two signatures for one statement, and nothing else of a record can be changed.
        let whole = seeds.iter().filter_map(|seed| MemberRecord::parse(seed).ok());
        let is_word = whole.into_iter().any(|seed| seed.chain == record.chain);
        assert!(!holds || !is_changed || is_word, "somebody else's word holds");
        // With the word of the writer the chain itself is reached, whatever it has become.
        let again = writer.vouch(record.chain.clone(), record.by_certificate);
        let checked = again.check(&X509);
        assert!(checked.is_err() || is_word, "a chain holds that no authority has made: {checked:?}");
        true
    });
}

#[test]
fn chain() {
    let whole = member(3);
    let statement = MemberRecord::statement(&whole.key, &whole.chain);
    // The certificates alone: each change is read as far as it can be.
    target_of("chain", &whole.chain, 40_000, |bytes| {
        for place in 0..whole.chain.len() {
            let mut chain = whole.chain.clone();
            chain[place].clone_from(&bytes);
            let holds = X509.check(&chain, &statement, &whole.by_certificate).is_ok();
            assert!(!holds || chain == whole.chain, "a changed certificate holds");
        }
        // What still begins as a certificate does is read beyond its first check.
        bytes.starts_with(&[0x30, 0x82])
    });
}

#[test]
fn succession() {
    let seeds = [key(3).succeed(&key(4)).to_bytes(), key(4).succeed(&key(5)).to_bytes()];
    target_of("succession", &seeds, 20_000, |bytes| {
        let Ok(succession) = Succession::parse(&bytes) else { return false };
        assert_eq!(succession.to_bytes(), bytes);
        assert!(succession.check().is_err() || seeds.contains(&bytes), "a changed succession holds");
        true
    });
}
