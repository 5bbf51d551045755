//! Components that a peer brings: chunk by chunk, kept across broken connections, checked before they are anything.
#![expect(clippy::disallowed_methods, reason = "keeps what has come of a component in the folder it is given")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use cantrip_gates::GateError;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

use super::wire as v1;
use crate::adapters::{private, reading};
use crate::domain::ids::hex;
use crate::domain::limits::{
    FETCHES_PER_PEER_MAX, GUEST_BYTES_MAX, NOTE_BYTES_MAX, UPLOAD_STALE_MS, UPLOADS_KEPT_PER_PEER_MAX,
    UPLOADS_PARTIAL_PER_PEER_MAX,
};
use crate::domain::remote::Refusal;
use crate::ports::BoxFuture;

/// Checks, compiles and keeps a whole component under a name; says how a cantrip names it.
pub type Shelve = Arc<dyn Fn(String, Vec<u8>) -> BoxFuture<'static, Result<String, Refusal>> + Send + Sync>;

/// Whether a guest of this digest is kept, and how a cantrip names it.
pub type Kept = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What one peer may bring, and where it waits until it is whole.
pub struct Uploads {
    /// Where the rules are written, such as `peers.analysis.deploy`.
    pub rule: String,
    /// This peer's own folder for what has not come whole, and for the list of what it brought.
    pub folder: PathBuf,
    /// The largest component.
    pub bytes_max: u64,
    /// All that it may bring together.
    pub quota_bytes: u64,
    /// Whether a signature is required.
    pub require_signed: bool,
    /// The publishers whose signatures count.
    pub publishers: BTreeSet<[u8; 32]>,
    /// Whether a guest of this digest is kept here, and under which name.
    pub kept: Kept,
    /// Keeps a whole one.
    pub shelve: Shelve,
    /// What comes at the moment.
    pub coming: Coming,
}

/// What comes of one peer at the moment: what was announced counts, not only what has come.
#[derive(Debug)]
pub struct Coming {
    /// Sizes that were announced, by the digits of their digests.
    announced: Mutex<BTreeMap<String, u64>>,
    /// One whole component after the other is read and checked: each is in memory then.
    checking: tokio::sync::Mutex<()>,
    /// What is fetched from the peer for its casts is in memory until it is whole, too.
    fetching: tokio::sync::Semaphore,
}

impl Default for Coming {
    fn default() -> Self {
        Self {
            announced: Mutex::default(),
            checking: tokio::sync::Mutex::default(),
            fetching: tokio::sync::Semaphore::new(FETCHES_PER_PEER_MAX),
        }
    }
}

impl Coming {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.announced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a peer's folder holds.
#[derive(Debug, Default)]
struct Held {
    bytes: u64,
    parts: usize,
    kept: usize,
}

impl std::fmt::Debug for Uploads {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Uploads").field("rule", &self.rule).field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// What became of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    /// `name@sha256:…`.
    pub guest: String,
    /// Whether it was kept before.
    pub known: bool,
}

/// What is said of a component before it comes.
#[derive(Debug, Clone)]
pub(super) struct Header {
    name: String,
    digest: String,
    bytes: u64,
    offset: u64,
    signature: Vec<u8>,
    publisher: Vec<u8>,
}

impl From<v1::DeployHeader> for Header {
    fn from(it: v1::DeployHeader) -> Self {
        Self {
            name: it.name,
            digest: it.digest,
            bytes: it.bytes,
            offset: it.offset,
            signature: it.signature.to_vec(),
            publisher: it.publisher.to_vec(),
        }
    }
}

/// A component that is coming. What it announced counts until it is dropped.
pub(super) struct Upload {
    uploads: Arc<Uploads>,
    header: Header,
    part: PathBuf,
    file: Option<File>,
    have: u64,
    known: Option<String>,
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.known.is_none()
            && let Some(digits) = hex_digest(&self.header.digest)
        {
            self.uploads.coming.lock().remove(digits);
        }
    }
}

/// What is written down of a component that a peer brought.
struct Line {
    bytes: u64,
    publisher: String,
}

impl Line {
    fn read(path: &Path) -> Option<Self> {
        let text = reading::text(path, NOTE_BYTES_MAX).ok()?;
        let (bytes, publisher) = text.trim_end().split_once(' ').unwrap_or((text.trim_end(), ""));
        Some(Self { bytes: bytes.parse().ok()?, publisher: publisher.to_owned() })
    }
}

/// The digests of what these publishers have signed, of all that peers brought into their folders below this one.
pub fn signed_by(folder: &Path, publishers: &BTreeSet<[u8; 32]>) -> BTreeSet<String> {
    let known: BTreeSet<String> = publishers.iter().map(|key| hex(key)).collect();
    let folders = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = folders.filter_map(|folder| fs::read_dir(folder.path()).ok()).flatten().flatten();
    let signed = files.filter_map(|file| {
        let path = file.path();
        let digest = path.file_name()?.to_str()?.strip_suffix(".kept")?.to_owned();
        known.contains(&Line::read(&path)?.publisher).then(|| format!("sha256:{digest}"))
    });
    signed.collect()
}

fn hex_digest(digest: &str) -> Option<&str> {
    let hex = digest.strip_prefix("sha256:")?;
    (hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))).then_some(hex)
}

fn size(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |metadata| metadata.len())
}

impl Uploads {
    fn refuse(&self, key: &str, error: GateError) -> Refusal {
        let rule = if key.is_empty() { self.rule.clone() } else { format!("{}.{key}", self.rule) };
        Refusal::new(rule, error)
    }

    fn disk(&self, error: &io::Error) -> Refusal {
        self.refuse("", GateError::Failed(format!("the host cannot keep the component: {error}")))
    }

    fn part(&self, digest: &str) -> Result<PathBuf, Refusal> {
        let hex = hex_digest(digest).ok_or_else(|| {
            self.refuse("", GateError::Invalid(format!("`{digest}` is no digest: expected sha256: and 64 digits")))
        })?;
        Ok(self.folder.join(format!("{hex}.part")))
    }

    /// How much of a component is here, and whether all of it is.
    pub(super) fn status(&self, digest: &str) -> Result<(u64, bool), Refusal> {
        let part = self.part(digest)?;
        if (self.kept)(digest).is_some() {
            return Ok((0, true));
        }
        Ok((size(&part), false))
    }

    /// What this peer has brought so far, without one of its components: what is kept, and of the others the larger of what was
    /// announced and what has come.
    fn held(&self, announced: &BTreeMap<String, u64>, but: &str) -> Held {
        let mut held = Held::default();
        let mut parts: BTreeMap<String, u64> = announced.clone();
        for file in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = file.path();
            let Some(digits) = path.file_stem().and_then(|it| it.to_str()).map(str::to_owned) else { continue };
            match path.extension().and_then(|it| it.to_str()) {
                Some("part") => {
                    let bytes = parts.entry(digits).or_default();
                    *bytes = size(&path).max(*bytes);
                }
                // What was kept is counted by the size that is written down for it.
                Some("kept") => {
                    held.kept = held.kept.saturating_add(1);
                    held.bytes = held.bytes.saturating_add(Line::read(&path).map_or(0, |line| line.bytes));
                }
                _ => {}
            }
        }
        parts.remove(but);
        held.parts = parts.len();
        held.bytes = parts.values().copied().fold(held.bytes, u64::saturating_add);
        held
    }

    /// Takes away what has not come whole for long, so that it does not count for ever.
    fn tidy(&self, announced: &BTreeMap<String, u64>) {
        let stale = |path: &Path| {
            let changed = fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
            let since = changed.and_then(|changed| SystemTime::now().duration_since(changed).ok());
            since.is_some_and(|since| since >= Duration::from_millis(UPLOAD_STALE_MS))
        };
        for path in fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|file| file.path()) {
            let digits = path.file_stem().and_then(|it| it.to_str()).unwrap_or_default();
            let is_part = path.extension().is_some_and(|it| it == "part");
            if is_part && !announced.contains_key(digits) && stale(&path) {
                // What cannot be taken away counts on.
                drop(fs::remove_file(&path));
            }
        }
    }

    /// Whether what is announced can be taken, before anything is written.
    fn check(&self, header: &Header) -> Result<(), Refusal> {
        if header.bytes == 0 {
            return Err(self.refuse("", GateError::Invalid("a component of 0 bytes is none".to_owned())));
        }
        if header.bytes > self.bytes_max {
            let what = format!("the component has {} bytes, and {} are taken", header.bytes, self.bytes_max);
            return Err(self.refuse("max_bytes", GateError::Exhausted(what)));
        }
        if self.require_signed && header.signature.is_empty() {
            let what = "the component is not signed, and only signed ones are taken".to_owned();
            return Err(self.refuse("require_signed", GateError::Denied(what)));
        }
        if !header.signature.is_empty() {
            let known = <[u8; 32]>::try_from(header.publisher.as_slice());
            if !known.is_ok_and(|key| self.publishers.contains(&key)) {
                let what = "the component is signed by a publisher that is not listed".to_owned();
                return Err(self.refuse("publishers", GateError::Denied(what)));
            }
        }
        Ok(())
    }

    /// Reserves what is announced: it counts from here on.
    fn reserve(&self, header: &Header, digits: &str) -> Result<(), Refusal> {
        let mut announced = self.coming.lock();
        if announced.contains_key(digits) {
            let what = format!("{} is coming already on another connection", header.digest);
            return Err(self.refuse("", GateError::Failed(what)));
        }
        self.tidy(&announced);
        let held = self.held(&announced, digits);
        if held.parts >= UPLOADS_PARTIAL_PER_PEER_MAX {
            let what = format!(
                "{} components of this peer have not come whole; one of them has to, or {} hours have to pass",
                held.parts,
                UPLOAD_STALE_MS / 3_600_000
            );
            return Err(self.refuse("", GateError::Exhausted(what)));
        }
        if held.kept >= UPLOADS_KEPT_PER_PEER_MAX {
            let what = format!("this peer has brought {} components, and no more are kept", held.kept);
            return Err(self.refuse("", GateError::Exhausted(what)));
        }
        if held.bytes.saturating_add(header.bytes) > self.quota_bytes {
            let what = format!(
                "this peer has brought {} bytes of {}, and {} more are too many",
                held.bytes, self.quota_bytes, header.bytes
            );
            return Err(self.refuse("quota_bytes", GateError::Exhausted(what)));
        }
        announced.insert(digits.to_owned(), header.bytes);
        Ok(())
    }

    pub(super) fn begin(self: &Arc<Self>, header: Header) -> Result<Upload, Refusal> {
        let part = self.part(&header.digest)?;
        self.check(&header)?;
        let known = (self.kept)(&header.digest);
        if known.is_some() {
            return Ok(Upload { uploads: Arc::clone(self), have: header.bytes, header, part, file: None, known });
        }
        let digits = hex_digest(&header.digest).unwrap_or_default().to_owned();
        self.reserve(&header, &digits)?;
        // From here on it is given back when this is dropped.
        let mut upload = Upload { uploads: Arc::clone(self), have: 0, header, part, file: None, known: None };
        private::make_folder(&self.folder).map_err(|error| self.disk(&error))?;
        upload.have = size(&upload.part);
        if upload.header.offset != upload.have {
            let what = format!("{} bytes are here, and the chunks begin at {}", upload.have, upload.header.offset);
            return Err(self.refuse("", GateError::Invalid(what)));
        }
        let file = private::options().append(true).open(&upload.part);
        upload.file = Some(file.map_err(|error| self.disk(&error))?);
        Ok(upload)
    }
}

impl Uploads {
    /// Waits for the turn of a component that is fetched; it lasts as long as what is returned is kept.
    pub async fn fetching(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        // It is never closed.
        self.coming.fetching.acquire().await.ok()
    }

    /// Takes a whole component from its owner by the rules of one that is brought in parts: its size, digest, signature and imports
    /// are checked, and it counts against the quota.
    ///
    /// # Errors
    /// The rule that refuses it.
    pub async fn admit(self: &Arc<Self>, name: &str, digest: &str, bytes: &[u8]) -> Result<Uploaded, Refusal> {
        let (have, _) = self.status(digest)?;
        let header = Header {
            name: name.to_owned(),
            digest: digest.to_owned(),
            bytes: bytes.len() as u64,
            offset: have,
            signature: Vec::new(),
            publisher: Vec::new(),
        };
        let mut upload = self.begin(header)?;
        let rest = usize::try_from(have).ok().and_then(|have| bytes.get(have..));
        upload.add(rest.unwrap_or_default())?;
        upload.finish().await
    }
}

impl Upload {
    pub(super) fn add(&mut self, chunk: &[u8]) -> Result<(), Refusal> {
        let Some(file) = &mut self.file else { return Ok(()) };
        self.have = self.have.saturating_add(chunk.len() as u64);
        if self.have > self.header.bytes {
            let what = format!("more than the {} bytes come that were announced", self.header.bytes);
            drop(fs::remove_file(&self.part));
            return Err(self.uploads.refuse("", GateError::Invalid(what)));
        }
        file.write_all(chunk).map_err(|error| self.uploads.disk(&error))
    }

    /// Checks the whole, and keeps it.
    pub(super) async fn finish(mut self) -> Result<Uploaded, Refusal> {
        let uploads = Arc::clone(&self.uploads);
        if let Some(guest) = &self.known {
            return Ok(Uploaded { guest: guest.clone(), known: true });
        }
        drop(self.file.take());
        if self.have < self.header.bytes {
            let what = format!("{} of {} bytes came; the rest can be sent later", self.have, self.header.bytes);
            return Err(uploads.refuse("", GateError::Failed(what)));
        }
        let _one = uploads.coming.checking.lock().await;
        let (part, header, checks) = (self.part.clone(), self.header.clone(), Arc::clone(&uploads));
        // It reads and hashes all of it: not on a thread that serves.
        let checked = tokio::task::spawn_blocking(move || checks.checked(&part, &header)).await;
        let bytes = checked
            .map_err(|error| uploads.refuse("", GateError::Failed(format!("the host gave the check up: {error}"))))??;
        let count = bytes.len();
        let digits = hex_digest(&self.header.digest).unwrap_or_default();
        let guest = (uploads.shelve)(self.header.name.clone(), bytes).await?;
        let publisher = if self.header.signature.is_empty() { String::new() } else { hex(&self.header.publisher) };
        let line = uploads.folder.join(format!("{digits}.kept"));
        private::replace(&line, format!("{count} {publisher}\n").as_bytes()).map_err(|error| uploads.disk(&error))?;
        Ok(Uploaded { guest, known: false })
    }
}

impl Uploads {
    /// The whole component, where it is what was announced.
    fn checked(&self, part: &Path, header: &Header) -> Result<Vec<u8>, Refusal> {
        let bytes = reading::bytes(part, GUEST_BYTES_MAX).map_err(|error| self.disk(&error))?;
        // Whatever becomes of it now, the part has done its work.
        drop(fs::remove_file(part));
        let actual = hex(&Sha256::digest(&bytes));
        if hex_digest(&header.digest) != Some(&actual) {
            let what = format!("the bytes are sha256:{actual}, and {} was announced", header.digest);
            return Err(self.refuse("", GateError::Invalid(what)));
        }
        if !header.signature.is_empty() && !is_signed(header, &bytes) {
            let what = "the signature is not the publisher's over these bytes".to_owned();
            return Err(self.refuse("require_signed", GateError::Denied(what)));
        }
        Ok(bytes)
    }
}

fn is_signed(header: &Header, bytes: &[u8]) -> bool {
    let key = <[u8; 32]>::try_from(header.publisher.as_slice()).ok();
    let key = key.and_then(|key| VerifyingKey::from_bytes(&key).ok());
    let signature = Signature::from_slice(&header.signature).ok();
    key.zip(signature).is_some_and(|(key, signature)| key.verify_strict(bytes, &signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uploads(folder: &Path, quota_bytes: u64) -> Arc<Uploads> {
        let shelved: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let kept = Arc::clone(&shelved);
        Arc::new(Uploads {
            rule: "peers.a.deploy".to_owned(),
            folder: folder.to_owned(),
            bytes_max: 100,
            quota_bytes,
            require_signed: false,
            publishers: BTreeSet::new(),
            kept: Arc::new(move |digest| kept.lock().ok()?.contains(digest).then(|| digest.to_owned())),
            shelve: Arc::new(move |name, bytes| {
                let digest = format!("sha256:{}", hex(&Sha256::digest(&bytes)));
                if let Ok(mut shelved) = shelved.lock() {
                    shelved.insert(digest.clone());
                }
                Box::pin(std::future::ready(Ok(format!("{name}@{digest}"))))
            }),
            coming: Coming::default(),
        })
    }

    fn header(bytes: &[u8], offset: u64) -> Header {
        Header {
            name: "g".to_owned(),
            digest: format!("sha256:{}", hex(&Sha256::digest(bytes))),
            bytes: bytes.len() as u64,
            offset,
            signature: Vec::new(),
            publisher: Vec::new(),
        }
    }

    fn refused<T>(result: Result<T, Refusal>) -> String {
        result.err().map(|refusal| refusal.to_string()).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_broken_upload_goes_on_where_it_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let (uploads, bytes) = (uploads(folder.path(), 1_000), [7; 60]);
        let digest = header(&bytes, 0).digest;
        let mut first = uploads.begin(header(&bytes, 0)).unwrap();
        first.add(&bytes[..25]).unwrap();
        let said = refused(first.finish().await);
        assert!(said.contains("25 of 60 bytes came"), "{said}");
        assert_eq!(uploads.status(&digest).unwrap(), (25, false));
        let said = refused(uploads.begin(header(&bytes, 30)));
        assert!(said.contains("25 bytes are here"), "{said}");
        let mut rest = uploads.begin(header(&bytes, 25)).unwrap();
        rest.add(&bytes[25..]).unwrap();
        assert!(!rest.finish().await.unwrap().known);
        assert_eq!(uploads.status(&digest).unwrap(), (0, true));
        assert!(uploads.begin(header(&bytes, 0)).unwrap().finish().await.unwrap().known, "the same again is known");
    }

    #[tokio::test]
    async fn what_is_fetched_is_taken_by_the_rules_of_what_is_deployed() {
        let folder = tempfile::tempdir().unwrap();
        let taken = uploads(folder.path(), 100);
        let digest = |bytes: &[u8]| header(bytes, 0).digest;
        assert!(!taken.admit("g", &digest(&[1; 70]), &[1; 70]).await.unwrap().known);
        let said = refused(taken.admit("g", &digest(&[2; 40]), &[2; 40]).await);
        assert!(said.contains("70 bytes of 100") && said.contains("quota_bytes"), "it counts: {said}");
        let said = refused(taken.admit("g", &digest(&[3; 20]), &[4; 20]).await);
        assert!(said.contains("was announced"), "it is what was asked for: {said}");
        let said = refused(taken.admit("g", &digest(&[5; 101]), &[5; 101]).await);
        assert!(said.contains("max_bytes"), "{said}");
        // A part of it came before, by a deploy that broke.
        let mut part = taken.begin(header(&[6; 30], 0)).unwrap();
        part.add(&[6; 10]).unwrap();
        drop(part.finish().await);
        assert!(!taken.admit("g", &digest(&[6; 30]), &[6; 30]).await.unwrap().known);
        let signed = tempfile::tempdir().unwrap();
        let mut strict = Arc::into_inner(uploads(signed.path(), 100)).unwrap();
        strict.require_signed = true;
        let said = refused(Arc::new(strict).admit("g", &digest(&[7; 10]), &[7; 10]).await);
        assert!(said.contains("only signed ones are taken"), "{said}");
    }

    #[tokio::test]
    async fn what_is_too_much_or_something_else_is_refused_by_its_rule() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = uploads(folder.path(), 100);
        let said = refused(uploads.begin(header(&[1; 101], 0)));
        assert!(said.contains("101 bytes, and 100 are taken") && said.contains("peers.a.deploy.max_bytes"), "{said}");
        let mut kept = uploads.begin(header(&[2; 70], 0)).unwrap();
        kept.add(&[2; 70]).unwrap();
        kept.finish().await.unwrap();
        let said = refused(uploads.begin(header(&[3; 40], 0)));
        assert!(said.contains("70 bytes of 100") && said.contains("quota_bytes"), "{said}");
        let mut other = uploads.begin(header(&[4; 20], 0)).unwrap();
        other.add(&[5; 20]).unwrap();
        let said = refused(other.finish().await);
        assert!(said.contains("was announced"), "{said}");
        let mut longer = uploads.begin(header(&[6; 10], 0)).unwrap();
        assert!(refused(longer.add(&[6; 11])).contains("more than the 10 bytes"));
        assert!(refused(uploads.status("sha256:../../x")).contains("is no digest"), "a name leads nowhere");
    }

    #[tokio::test]
    async fn what_is_announced_counts_before_it_comes() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = uploads(folder.path(), 100);
        let begun: Vec<_> = (0..10_u8).map(|number| uploads.begin(header(&[number; 40], 0))).collect();
        let coming: Vec<_> = begun.iter().filter(|it| it.is_ok()).collect();
        assert_eq!(coming.len(), 2, "forty bytes of a hundred, twice");
        let said = begun.into_iter().filter_map(Result::err).map(|it| it.to_string()).next().unwrap();
        assert!(said.contains("80 bytes of 100") && said.contains("peers.a.deploy.quota_bytes"), "{said}");
        // What was given up counts no more than what has come of it.
        uploads.begin(header(&[9; 100], 0)).unwrap();
    }

    #[tokio::test]
    async fn one_component_comes_on_one_connection_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = uploads(folder.path(), 1_000);
        let first = uploads.begin(header(&[1; 50], 0)).unwrap();
        assert!(refused(uploads.begin(header(&[1; 50], 0))).contains("coming already"));
        drop(first);
        uploads.begin(header(&[1; 50], 0)).unwrap();
        assert!(refused(uploads.begin(header(&[], 0))).contains("0 bytes"));
    }

    #[tokio::test]
    async fn parts_that_nobody_finishes_are_bounded_and_go_after_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = uploads(folder.path(), u64::MAX);
        for number in 0..UPLOADS_PARTIAL_PER_PEER_MAX {
            let bytes = [u8::try_from(number).unwrap(); 50];
            uploads.begin(header(&bytes, 0)).unwrap().add(&bytes[..1]).unwrap();
        }
        let said = refused(uploads.begin(header(&[200; 50], 0)));
        assert!(said.contains("have not come whole"), "{said}");
        // One of them goes on all the same.
        uploads.begin(header(&[3; 50], 1)).unwrap();
        let stale = SystemTime::now() - Duration::from_millis(UPLOAD_STALE_MS);
        let part = folder.path().join(format!("{}.part", hex(&Sha256::digest([7; 50]))));
        File::options().append(true).open(&part).unwrap().set_modified(stale).unwrap();
        uploads.begin(header(&[200; 50], 0)).unwrap();
        assert!(!part.exists(), "what nobody finished for a day is gone");
    }

    #[tokio::test]
    async fn components_are_counted_for_each_peer() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = uploads(folder.path(), u64::MAX);
        for number in 0..UPLOADS_KEPT_PER_PEER_MAX {
            fs::write(folder.path().join(format!("{number}.kept")), "1 \n").unwrap();
        }
        let said = refused(uploads.begin(header(&[1; 50], 0)));
        assert!(said.contains(&format!("has brought {UPLOADS_KEPT_PER_PEER_MAX} components")), "{said}");
    }

    #[tokio::test]
    async fn components_are_fetched_from_one_peer_two_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = uploads(folder.path(), 1_000);
        let mut turns = Vec::new();
        for _ in 0..FETCHES_PER_PEER_MAX {
            turns.push(uploads.fetching().await.unwrap());
        }
        assert!(futures_util::FutureExt::now_or_never(uploads.fetching()).is_none());
        turns.pop();
        assert!(uploads.fetching().await.is_some());
    }
}
