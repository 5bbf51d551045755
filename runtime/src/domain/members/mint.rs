//! What ids commit to: who minted them.
//!
//! The hash in an id of a loom or an entity covers the minter's key and a nonce, and the first entry shows the nonce. So
//! nobody can take somebody else's id for a loom or an entity of its own. Time, key and nonce come in as arguments.

use crate::domain::caller::Caller;
use crate::domain::ids::{CastId, EntityId, LoomId, WriterKey};

use super::terms::Nonce;

/// Domains of the hashes, as `BLAKE3` wants them for `derive_key`.
const LOOM: &str = "cantrip-runtime 2026 the id of a loom";
const ENTITY: &str = "cantrip-runtime 2026 the id of an entity";
const CHILD: &str = "cantrip-runtime 2026 the cast id of a child";
const CALLER: &str = "cantrip-runtime 2026 the nonce of what a node mints for a caller";
const RECORD: &str = "cantrip-runtime 2026 the member record that founds a loom";

/// 128 bits of a hash in one of the domains.
fn hash<const N: usize>(domain: &str, parts: [&[u8]; N]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key(domain);
    for part in parts {
        hasher.update(part);
    }
    let mut out = [0; 16];
    hasher.finalize_xof().fill(&mut out);
    out
}

impl LoomId {
    /// The id of a loom that this key founds at this time. `record` are the bytes of the member record in the founding
    /// entry: with it, the node that the record names is the founder, under all its keys.
    pub fn mint(unix_ms: u64, key: &WriterKey, nonce: &Nonce, record: Option<&[u8]>) -> Self {
        // 32 zeros stand for no record: nobody knows bytes with that hash.
        let record = record.map_or([0; 32], |record| blake3::derive_key(RECORD, record));
        let time = Self::from_parts(unix_ms, [0; 16]).unix_ms().to_be_bytes();
        Self::from_parts(unix_ms, hash(LOOM, [&time, key.as_bytes(), nonce.as_bytes(), &record]))
    }

    /// Whether the id commits to this key, nonce and member record.
    pub fn is_minted_by(&self, key: &WriterKey, nonce: &Nonce, record: Option<&[u8]>) -> bool {
        *self == Self::mint(self.unix_ms(), key, nonce, record)
    }
}

impl EntityId {
    /// The id of an entity that this key mints at this time.
    pub fn mint(unix_ms: u64, key: &WriterKey, nonce: &Nonce) -> Self {
        let time = Self::from_parts(unix_ms, [0; 16]).unix_ms().to_be_bytes();
        Self::from_parts(unix_ms, hash(ENTITY, [&time, key.as_bytes(), nonce.as_bytes()]))
    }

    /// Whether the id commits to this key and nonce.
    pub fn is_minted_by(&self, key: &WriterKey, nonce: &Nonce) -> bool {
        *self == Self::mint(self.unix_ms(), key, nonce)
    }
}

impl Nonce {
    /// The nonce of what a node mints for a caller without a record of its own. It follows from who calls and from the caller's
    /// name for the cast, so the same request gets the same ids for as long as the node has its key.
    pub fn of_cast(caller: &Caller, cast: &CastId) -> Self {
        Self::from_bytes(hash(CALLER, [cast.as_bytes(), caller.to_string().as_bytes()]))
    }
}

impl CastId {
    /// The id of the cast that a child cantrip runs as: whoever takes the child up again means the same cast.
    pub fn of_child(child: &EntityId) -> Self {
        Self::from_bytes(hash(CHILD, [child.as_bytes()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: WriterKey = WriterKey::from_bytes([1; 32]);
    const NONCE: Nonce = Nonce::from_bytes([2; 16]);
    const MS: u64 = 1_790_000_000_000;

    #[test]
    fn an_id_commits_to_time_key_nonce_and_record() {
        let (other, later) = (WriterKey::from_bytes([3; 32]), Nonce::from_bytes([4; 16]));
        let loom = LoomId::mint(MS, &KEY, &NONCE, None);
        assert!(loom.is_minted_by(&KEY, &NONCE, None));
        assert!(!loom.is_minted_by(&other, &NONCE, None) && !loom.is_minted_by(&KEY, &later, None));
        assert!(!loom.is_minted_by(&KEY, &NONCE, Some(b"")));
        let with = LoomId::mint(MS, &KEY, &NONCE, Some(b"record"));
        assert!(with.is_minted_by(&KEY, &NONCE, Some(b"record")));
        assert!(!with.is_minted_by(&KEY, &NONCE, Some(b"other")) && !with.is_minted_by(&KEY, &NONCE, None));
        let entity = EntityId::mint(MS, &KEY, &NONCE);
        assert!(entity.is_minted_by(&KEY, &NONCE));
        assert!(!entity.is_minted_by(&other, &NONCE) && !entity.is_minted_by(&KEY, &later));
    }

    #[test]
    fn an_id_at_another_time_is_another_id() {
        let loom = LoomId::mint(MS, &KEY, &NONCE, None);
        let bytes = loom.as_bytes().last_chunk::<16>().copied().unwrap_or_default();
        assert!(!LoomId::from_parts(MS + 1, bytes).is_minted_by(&KEY, &NONCE, None));
        let entity = EntityId::mint(MS, &KEY, &NONCE);
        let bytes = entity.as_bytes().last_chunk::<16>().copied().unwrap_or_default();
        assert!(!EntityId::from_parts(MS + 1, bytes).is_minted_by(&KEY, &NONCE));
    }

    #[test]
    fn ids_of_different_kinds_have_nothing_in_common() {
        let (loom, entity) = (LoomId::mint(MS, &KEY, &NONCE, None), EntityId::mint(MS, &KEY, &NONCE));
        assert_ne!(loom.as_bytes(), entity.as_bytes());
        let child = CastId::of_child(&entity);
        assert_eq!(child, CastId::of_child(&entity));
        assert_ne!(child, CastId::of_child(&EntityId::mint(MS + 1, &KEY, &NONCE)));
        assert!(!entity.as_bytes().ends_with(child.as_bytes()) && !entity.as_bytes().starts_with(child.as_bytes()));
    }

    #[test]
    fn a_minted_id_stays_as_it_is() {
        let (bare, with) = (LoomId::mint(MS, &KEY, &NONCE, None), LoomId::mint(MS, &KEY, &NONCE, Some(b"record")));
        let entity = EntityId::mint(MS, &KEY, &NONCE);
        let minted = [bare.to_string(), with.to_string(), entity.to_string(), CastId::of_child(&entity).to_string()];
        let expected = [
            "01m3250v004ys3nfm4ysq4db638st2ek5j8e",
            "01m3250v006jjraa82szytbk4kxrppft5eb5",
            "01m3250v003p9fz9et85jf7feefeb30n31vs",
            "7ahsdptvc07haxjsamtwmqdpkk",
        ];
        assert_eq!(minted, expected);
    }
}
