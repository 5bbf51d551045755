//! The node's key: the name under which it writes, made once and kept beside the record.
//!
//! It must never be printed or leave this module.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use ed25519_dalek::{Signer, SigningKey};

use crate::adapters::{private, reading};
use crate::domain::ids::{EntityId, LoomId, WriterKey};
use crate::domain::loom::{CastChain, CastHead, Head, SignedFence, SignedHead};
use crate::domain::members::{CertificateSignature, MemberRecord, Succession};

/// The name of the file in the record's folder: 32 secret bytes.
pub(super) const KEY_FILE: &str = "node.key";
/// The name of the file in which the next key waits until the record knows of it.
pub(super) const NEXT_FILE: &str = "node.key.next";

/// The Ed25519 key of this node.
#[derive(Clone)]
pub struct NodeKey(SigningKey);

impl NodeKey {
    /// A key from its secret bytes.
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(secret))
    }

    /// The public half: the name under which this node writes.
    pub fn writer(&self) -> WriterKey {
        WriterKey::from_bytes(self.0.verifying_key().to_bytes())
    }

    /// Gives this node's word for how far its log is.
    pub fn sign(&self, loom: LoomId, head: Head) -> SignedHead {
        let writer = self.writer();
        let signature = self.0.sign(&SignedHead::statement(loom, writer, &head)).to_bytes();
        SignedHead { loom, writer, head, signature }
    }

    /// Gives this key's word that it is of the node whose certificate's key has given its own, over the same statement.
    pub fn vouch(&self, chain: Vec<Vec<u8>>, by_certificate: CertificateSignature) -> MemberRecord {
        let key = self.writer();
        let by_key = self.0.sign(&MemberRecord::statement(&key, &chain)).to_bytes();
        MemberRecord { key, chain, by_certificate, by_key }
    }

    /// Gives the word of both keys that the next takes the place of this one.
    pub fn succeed(&self, next: &Self) -> Succession {
        let (old, new) = (self.writer(), next.writer());
        let statement = Succession::statement(&old, &new);
        let [by_old, by_new] = [self, next].map(|key| key.0.sign(&statement).to_bytes());
        Succession { old, new, by_old, by_new }
    }

    /// Gives this node's word for its entries of a cast.
    pub fn sign_cast(&self, loom: LoomId, cast: EntityId, at: CastChain) -> CastHead {
        let writer = self.writer();
        let signature = self.0.sign(&CastHead::statement(loom, writer, cast, &at)).to_bytes();
        CastHead { loom, writer, cast, at, signature }
    }

    /// Gives this node's word that it is about to go on with an entity.
    pub fn sign_fence(&self, loom: LoomId, entity: EntityId, epoch: u64) -> SignedFence {
        let by = self.writer();
        let signature = self.0.sign(&SignedFence::statement(loom, entity, epoch, by)).to_bytes();
        SignedFence { loom, entity, epoch, by, signature }
    }

    /// What tells this node's commits from bytes that look like one: nobody who does not know the key can write it into a text.
    pub(super) fn commit_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        let mut hasher = blake3::Hasher::new_derive_key("cantrip-runtime 2026 the id in a store's commit rows");
        hasher.update(self.0.as_bytes()).finalize_xof().fill(&mut id);
        id
    }

    /// Reads the key of a folder; nothing where it has none.
    pub(super) fn load(folder: &Path) -> io::Result<Option<Self>> {
        Self::read(&folder.join(KEY_FILE))
    }

    /// Reads the key that was to be the next one.
    pub(super) fn load_next(folder: &Path) -> io::Result<Option<Self>> {
        Self::read(&folder.join(NEXT_FILE))
    }

    fn read(path: &Path) -> io::Result<Option<Self>> {
        let file = match reading::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut secret = Vec::with_capacity(33);
        file.take(33).read_to_end(&mut secret)?;
        let secret: [u8; 32] = secret
            .try_into()
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the node's key is not 32 bytes long"))?;
        Ok(Some(Self::from_secret(&secret)))
    }

    /// Makes a key and keeps it in the folder, whole or not at all.
    pub(super) fn create(folder: &Path) -> io::Result<Self> {
        Self::create_as(folder, KEY_FILE)
    }

    /// Makes the next key. It is used once [`Self::promote`] was called.
    pub(super) fn create_next(folder: &Path) -> io::Result<Self> {
        Self::create_as(folder, NEXT_FILE)
    }

    /// Makes the next key the present one.
    pub(super) fn promote(folder: &Path) -> io::Result<()> {
        std::fs::rename(folder.join(NEXT_FILE), folder.join(KEY_FILE))?;
        private::sync_folder(folder)
    }

    /// What tells the key's file from a copy of it: a record that was copied or restored has another. It stays the same when the next
    /// key becomes the present one.
    pub(super) fn file_mark(folder: &Path, name: &str) -> io::Result<[u8; 24]> {
        let metadata = std::fs::metadata(folder.join(name))?;
        #[cfg(unix)]
        let number = std::os::unix::fs::MetadataExt::ino(&metadata);
        #[cfg(not(unix))]
        let number = 0_u64;
        // Where the file system does not know, the number alone has to do.
        let born = metadata.created().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let mut mark = [0; 24];
        let parts = number.to_be_bytes().into_iter().chain(born.map_or(0, |born| born.as_nanos()).to_be_bytes());
        mark.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        Ok(mark)
    }

    fn create_as(folder: &Path, name: &str) -> io::Result<Self> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| io::Error::other(error.to_string()))?;
        private::replace(&folder.join(name), &secret)?;
        Ok(Self::from_secret(&secret))
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "NodeKey({}, secret ***)", self.writer())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_never_printed() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        assert!(NodeKey::load(folder.path())?.is_none());
        let made = NodeKey::create(folder.path())?;
        let loaded = NodeKey::load(folder.path())?.map(|key| key.writer());
        assert_eq!(loaded, Some(made.writer()));
        let printed = format!("{made:?}");
        assert!(printed.ends_with("***)"), "{printed}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let permissions = std::fs::metadata(folder.path().join(KEY_FILE))?.permissions().mode();
            assert_eq!(permissions & 0o777, 0o600);
        }
        Ok(())
    }

    #[test]
    fn a_key_of_another_length_is_refused() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join(KEY_FILE), [1; 31])?;
        assert!(NodeKey::load(folder.path()).is_err());
        Ok(())
    }
}
