//! Where guests are kept: one file for each, under the hash of what is in it, and one small file for each name.
//!
//! A name belongs to whoever gave it: the machine's own user has the folder `names`, each peer one of its own. By its digest a guest
//! is the same for everybody.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use thiserror::Error;

use crate::domain::guest::Manifest;
use crate::domain::ids::NodeName;

use super::manifest::{self, GuestError, check_name};
use crate::adapters::{private, reading};
use crate::domain::limits::{GUEST_BYTES_MAX, NOTE_BYTES_MAX};

/// Why a guest could not be kept or found.
#[derive(Debug, Error)]
pub enum ShelfError {
    /// The bytes are no guest.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// Nobody has put one there.
    #[error("there is no guest `{asked}`; there {known}{hint}")]
    Unknown {
        /// What was asked for.
        asked: String,
        /// What there is.
        known: String,
        /// A guess at what was meant.
        hint: String,
    },
    /// A kept file was changed.
    #[error("the guest {digest} is damaged: its bytes hash to {actual}; add it again")]
    Damaged {
        /// What it was.
        digest: String,
        /// What it is.
        actual: String,
    },
    /// Not `sha256:` and 64 digits.
    #[error("`{text}` is no digest: expected sha256: and 64 hexadecimal digits")]
    NoDigest {
        /// What came, cut.
        text: String,
    },
    /// The name points elsewhere.
    #[error("the guest `{name}` is {digest}, and {asked} was asked for; name it by its digest alone")]
    OtherDigest {
        /// The name.
        name: String,
        /// What it points to.
        digest: String,
        /// What was asked for.
        asked: String,
    },
    /// The folder.
    #[error("{}: {what}", path.display())]
    Files {
        /// Which.
        path: PathBuf,
        /// What was done to it.
        what: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// A guest as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shelved {
    /// The names that it has; none for one that lost its name to another.
    pub names: Vec<String>,
    /// What it says about itself.
    pub manifest: Manifest,
}

/// What is known of a kept file: as long as its size and time stay, it is not read again to be listed.
#[derive(Debug, Clone)]
struct Read {
    stamp: (u64, Option<SystemTime>),
    manifest: Manifest,
}

/// A folder of guests, with the names that one owner has given.
#[derive(Debug, Clone)]
pub struct Shelf {
    folder: PathBuf,
    /// Where the owner's names are.
    own: PathBuf,
    /// Names that everybody has, and their digests.
    for_all: Arc<BTreeMap<String, String>>,
    read: Arc<Mutex<BTreeMap<String, Read>>>,
}

/// The folder of the names that the machine's own user gave; those of peers are below `peers`.
const NAMES: &str = "names";
const PEERS: &str = "peers";

const DIGEST: &str = "sha256:";

/// Splits `name`, `sha256:…` or `name@sha256:…`.
fn parts(reference: &str) -> (Option<&str>, Option<&str>) {
    match reference.split_once('@') {
        Some((name, digest)) => (Some(name), Some(digest)),
        None if reference.starts_with(DIGEST) => (None, Some(reference)),
        None => (Some(reference), None),
    }
}

/// How a guest is called that has no name here.
const NAMELESS: &str = "guest";

/// What a name in a folder of names points to.
fn digest_in(folder: &Path, name: &str) -> Option<String> {
    let digest = reading::text(&folder.join(name), NOTE_BYTES_MAX).ok()?;
    is_digest(digest.trim()).then(|| digest.trim().to_owned())
}

/// The names in a folder of names.
fn names_in(folder: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut all: Vec<(String, String)> = named
        .filter(|name| check_name(name).is_ok())
        .filter_map(|name| digest_in(folder, &name).map(|digest| (name, digest)))
        .collect();
    all.sort();
    all
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix(DIGEST)
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}

/// Reads a file that somebody named, at most so much of it as a guest may have.
///
/// # Errors
/// A file that cannot be read, or that is larger.
pub fn read_file(path: &Path) -> Result<Vec<u8>, ShelfError> {
    let failed = |source: io::Error| {
        let what = if source.kind() == io::ErrorKind::NotFound {
            "the guest is not there; `cantrip-runtime build DIR` makes that of a project"
        } else {
            "the guest could not be read"
        };
        ShelfError::Files { path: path.to_owned(), what, source }
    };
    reading::bytes(path, GUEST_BYTES_MAX).map_err(|error| {
        if error.kind() != io::ErrorKind::FileTooLarge {
            return failed(error);
        }
        // How long it is now is for the message only.
        GuestError::Size { bytes: fs::metadata(path).map_or(0, |found| found.len()) }.into()
    })
}

impl Shelf {
    /// In a folder, which is made when the first guest is put there. The names are those of the machine's own user.
    pub fn new(folder: PathBuf) -> Self {
        let own = folder.join(NAMES);
        Self { folder, own, for_all: Arc::default(), read: Arc::default() }
    }

    /// The same guests with these names beside its owner's own, which go first.
    #[must_use]
    pub fn with_names(self, for_all: BTreeMap<String, String>) -> Self {
        Self { for_all: Arc::new(for_all), ..self }
    }

    /// The same guests by the names that a peer has given, and those that everybody has.
    #[must_use]
    pub fn of_peer(&self, peer: &NodeName) -> Self {
        Self { own: self.folder.join(PEERS).join(peer.as_str()), ..self.clone() }
    }

    /// Checks a name for everybody and its digest.
    ///
    /// # Errors
    /// A name that no guest can have, or a digest that is none.
    pub fn check_named(name: &str, digest: &str) -> Result<(), ShelfError> {
        check_name(name)?;
        if is_digest(digest) { Ok(()) } else { Err(ShelfError::NoDigest { text: digest.chars().take(80).collect() }) }
    }

    fn file(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{}.wasm", digest.replace(':', "-")))
    }

    fn name_file(&self, name: &str) -> PathBuf {
        self.own.join(name)
    }

    /// Puts a guest there, and gives it a name; the one that had the name keeps its digest. The same bytes are kept once.
    ///
    /// # Errors
    /// Bytes that are no guest, or a folder that cannot be written.
    pub fn add(&self, name: &str, bytes: &[u8]) -> Result<Manifest, ShelfError> {
        let manifest = manifest::read(name, bytes)?;
        let path = self.file(&manifest.digest);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ShelfError::Files { path, what: "the guest could not be kept", source }
        };
        private::make_folder(&self.folder).map_err(failed(&self.folder))?;
        if reading::bytes(&path, GUEST_BYTES_MAX).map_or(true, |kept| kept != bytes) {
            private::replace(&path, bytes).map_err(failed(&path))?;
        }
        if self.own.starts_with(self.folder.join(PEERS)) {
            private::make_folder(&self.folder.join(PEERS)).map_err(failed(&self.own))?;
        }
        private::make_folder(&self.own).map_err(failed(&self.own))?;
        let name_file = self.name_file(name);
        private::replace(&name_file, manifest.digest.as_bytes()).map_err(failed(&name_file))?;
        Ok(manifest)
    }

    /// Finds a guest by its name, its digest or both, and checks that it is what its digest says.
    ///
    /// # Errors
    /// No such guest, or a damaged one.
    pub fn get(&self, reference: &str) -> Result<(String, Vec<u8>), ShelfError> {
        let (name, digest) = self.resolve(reference)?;
        let path = self.file(&digest);
        if !path.exists() {
            return Err(self.unknown(reference));
        }
        let bytes = read_file(&path)?;
        let actual = manifest::digest(&bytes);
        if actual != digest {
            return Err(ShelfError::Damaged { digest, actual });
        }
        Ok((name, bytes))
    }

    fn resolve(&self, reference: &str) -> Result<(String, String), ShelfError> {
        let (name, digest) = parts(reference);
        if let Some(name) = name {
            check_name(name)?;
        }
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return Err(self.unknown(reference));
        }
        let named = name.and_then(|name| self.digest_of(name));
        match (name, named, digest) {
            (Some(name), Some(digest), None) => Ok((name.to_owned(), digest)),
            (Some(name), Some(named), Some(digest)) if named != digest && !self.file(digest).exists() => {
                Err(ShelfError::OtherDigest { name: name.to_owned(), digest: named, asked: digest.to_owned() })
            }
            // A digest says it all: the name may have gone to another guest, or may only be known elsewhere.
            (Some(name), _, Some(digest)) => Ok((name.to_owned(), digest.to_owned())),
            (None, _, Some(digest)) => {
                let name = self.names().into_iter().find(|(_, of)| of == digest).map(|(name, _)| name);
                Ok((name.unwrap_or_else(|| NAMELESS.to_owned()), digest.to_owned()))
            }
            _ => Err(self.unknown(reference)),
        }
    }

    fn digest_of(&self, name: &str) -> Option<String> {
        digest_in(&self.own, name).or_else(|| self.for_all.get(name).cloned())
    }

    /// The owner's names and those that everybody has; of two that are the same the owner's.
    fn names(&self) -> Vec<(String, String)> {
        let mut all = (*self.for_all).clone();
        all.extend(names_in(&self.own));
        all.into_iter().collect()
    }

    /// Whether somebody else has a name for a guest.
    fn is_named_elsewhere(&self, digest: &str) -> bool {
        let peers = fs::read_dir(self.folder.join(PEERS)).into_iter().flatten().flatten().map(|entry| entry.path());
        let folders = peers.chain([self.folder.join(NAMES)]).filter(|folder| *folder != self.own);
        folders.flat_map(|folder| names_in(&folder)).any(|(_, of)| of == digest)
    }

    /// What a kept guest says about itself. Read, hashed and validated once, and again when its file has changed.
    ///
    /// # Errors
    /// No such guest, or a damaged one.
    pub fn manifest(&self, digest: &str) -> Result<Manifest, ShelfError> {
        let stamp = fs::metadata(self.file(digest)).map(|it| (it.len(), it.modified().ok())).ok();
        let stamp = stamp.filter(|_| is_digest(digest)).ok_or_else(|| self.unknown(digest))?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = read.get(digest).filter(|known| known.stamp == stamp) {
            return Ok(known.manifest.clone());
        }
        // Whoever else asks at the same time waits: none is read twice.
        let (name, bytes) = self.get(digest)?;
        let manifest = manifest::read(&name, &bytes)?;
        read.insert(digest.to_owned(), Read { stamp, manifest: manifest.clone() });
        Ok(manifest)
    }

    /// How the owner names a guest: `name@sha256:…`; nothing for a guest that has no name of its, and none for everybody.
    pub fn reference(&self, digest: &str) -> Option<String> {
        let (name, _) = self.names().into_iter().find(|(_, of)| of == digest)?;
        let manifest = self.manifest(digest).ok()?;
        Some(Manifest { name, ..manifest }.reference())
    }

    /// The guests that have a name of the owner's or one for everybody.
    pub fn named(&self) -> Vec<Shelved> {
        let mut by_digest: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, digest) in self.names() {
            by_digest.entry(digest).or_default().push(name);
        }
        let known =
            |(digest, names): (String, Vec<String>)| Some(Shelved { names, manifest: self.manifest(&digest).ok()? });
        by_digest.into_iter().filter_map(known).collect()
    }

    fn unknown(&self, asked: &str) -> ShelfError {
        let names: Vec<String> = self.names().into_iter().map(|(name, _)| name).collect();
        let known = if names.is_empty() {
            "are none: `cantrip-runtime guests add FILE` keeps one".to_owned()
        } else {
            format!("are {}", names.join(", "))
        };
        let hint = cantrip_gates::suggest::hint(asked, names.iter().map(String::as_str));
        ShelfError::Unknown { asked: asked.to_owned(), known, hint }
    }

    /// All guests, by their digests.
    ///
    /// # Errors
    /// A folder that cannot be read. A damaged guest is left out and reported to the log.
    pub fn list(&self) -> Result<Vec<Shelved>, ShelfError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => {
                return Err(ShelfError::Files { path: self.folder.clone(), what: "it could not be listed", source });
            }
        };
        let names = self.names();
        let mut shelved = Vec::new();
        for entry in entries.flatten() {
            let file = entry.file_name().into_string().unwrap_or_default();
            let Some(digest) =
                file.strip_suffix(".wasm").map(|name| name.replacen('-', ":", 1)).filter(|it| is_digest(it))
            else {
                continue;
            };
            match self.manifest(&digest) {
                Ok(manifest) => {
                    let names: Vec<String> =
                        names.iter().filter(|(_, of)| *of == digest).map(|(name, _)| name.clone()).collect();
                    let first = names.first().cloned().unwrap_or_else(|| NAMELESS.to_owned());
                    let manifest = Manifest { name: first, ..manifest };
                    shelved.push(Shelved { names, manifest });
                }
                Err(error) => tracing::warn!(%digest, %error, "a guest is left out"),
            }
        }
        shelved.sort_by(|a, b| (&a.names, &a.manifest.digest).cmp(&(&b.names, &b.manifest.digest)));
        Ok(shelved)
    }

    /// Takes a name away, and the component when it has no other; named by its digest, it goes with all its names. A record
    /// that names it keeps its digest.
    ///
    /// # Errors
    /// No such guest, or a folder that cannot be written.
    pub fn remove(&self, reference: &str) -> Result<String, ShelfError> {
        let (_, digest) = self.resolve(reference)?;
        let path = self.file(&digest);
        if !path.exists() {
            return Err(self.unknown(reference));
        }
        let failed = |source| ShelfError::Files { path: path.clone(), what: "the guest could not be removed", source };
        let one = match parts(reference) {
            (Some(name), None) => Some(name),
            _ => None,
        };
        let all: Vec<String> =
            names_in(&self.own).into_iter().filter(|(_, of)| *of == digest).map(|(name, _)| name).collect();
        // The names first: a name without a guest would be an error later, a guest without a name is none.
        for name in all.iter().filter(|name| one.is_none_or(|one| one == name.as_str())) {
            fs::remove_file(self.name_file(name)).map_err(failed)?;
        }
        if one.is_none() || (all.len() <= 1 && !self.is_named_elsewhere(&digest)) {
            fs::remove_file(&path).map_err(failed)?;
        }
        Ok(digest)
    }
}
