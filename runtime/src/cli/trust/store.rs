//! What the user trusts, by file: written down beside the user's configuration, where no file of a workspace is.
//!
//! Owns the trust file: readable and writable by its user alone, replaced whole under a lock, never through a link. One that
//! cannot be believed is an error and not an empty one.
#![expect(clippy::disallowed_methods, reason = "reads and writes the file of what is trusted")]

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::statement::{Project, Statement};
use crate::cli::file::folder_of;
use crate::domain::limits::TRUST_FILE_BYTES_MAX;

/// The version of the file.
const VERSION: u32 = 1;
/// What lets others write.
const OTHERS_WRITE: u32 = 0o022;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    version: u32,
    files: BTreeMap<String, Statement>,
}

/// Why what is trusted cannot be read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// There is nowhere to keep it.
    #[error("there is no home folder, so nothing can be trusted: CANTRIP_CONFIG names a configuration file")]
    Nowhere,
    /// It lies where strangers write.
    #[error(
        "{} lies inside of the project that it would be asked about: name a configuration outside of it with CANTRIP_CONFIG",
        .0.display()
    )]
    InProject(PathBuf),
    /// It is there and not to be believed.
    #[error("{}: {what}", file.display())]
    Unbelievable {
        /// The file.
        file: PathBuf,
        /// Why.
        what: String,
    },
    /// It cannot be read or written.
    #[error("{}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What is trusted.
#[derive(Debug)]
pub(in crate::cli) struct TrustStore {
    file: PathBuf,
}

impl TrustStore {
    pub(in crate::cli) fn at(file: PathBuf) -> Self {
        Self { file }
    }

    /// Refuses a store that lies in the project which is judged: whoever wrote the project could have written it, too.
    pub(in crate::cli) fn is_outside(&self, project: &Project) -> Result<(), StoreError> {
        if project.swallows(folder_of(&self.file)) || project.swallows(&self.file) {
            return Err(StoreError::InProject(self.file.clone()));
        }
        Ok(())
    }

    /// Everything that is trusted, by the paths of files.
    pub(in crate::cli) fn all(&self) -> Result<BTreeMap<String, Statement>, StoreError> {
        let io = |source| StoreError::Io { file: self.file.clone(), source };
        let metadata = match fs::symlink_metadata(&self.file) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(io(error)),
        };
        self.believable(&metadata)?;
        let mut file = File::open(&self.file).map_err(io)?;
        let opened = file.metadata().map_err(io)?;
        if (opened.dev(), opened.ino()) != (metadata.dev(), metadata.ino()) {
            return Err(self.wrong("it was replaced while it was read; try again"));
        }
        let mut text = Vec::new();
        Read::by_ref(&mut file).take(TRUST_FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(io)?;
        if text.len() as u64 > TRUST_FILE_BYTES_MAX {
            return Err(
                self.wrong(format!("it is longer than {TRUST_FILE_BYTES_MAX} bytes; `trust rm FILE` shortens it"))
            );
        }
        let page: Page = serde_json::from_slice(&text).map_err(|error| {
            self.wrong(format!("it cannot be read ({error}); remove it, and trust again what you trust"))
        })?;
        if page.version != VERSION {
            return Err(self.wrong(format!("it has version {}, and this one reads {VERSION}", page.version)));
        }
        Ok(page.files)
    }

    /// A file that somebody else could have written says nothing.
    fn believable(&self, metadata: &fs::Metadata) -> Result<(), StoreError> {
        if !metadata.is_file() {
            return Err(self.wrong("it is a link or no file at all, and is not followed; remove it"));
        }
        let own = fs::metadata("/proc/self").map_or_else(|_| metadata.uid(), |own| own.uid());
        if metadata.uid() != own {
            return Err(self.wrong("it belongs to somebody else; remove it"));
        }
        if metadata.mode() & OTHERS_WRITE != 0 {
            return Err(self.wrong("others can write it, so it is not believed; look at it, then chmod 600"));
        }
        Ok(())
    }

    fn wrong(&self, what: impl Into<String>) -> StoreError {
        StoreError::Unbelievable { file: self.file.clone(), what: what.into() }
    }

    /// Trusts a file with a statement, beside what it was trusted with.
    pub(in crate::cli) fn add(&self, file: &Path, statement: &Statement) -> Result<(), StoreError> {
        self.change(|files| {
            files.entry(key(file)).or_default().join(statement);
            true
        })?;
        Ok(())
    }

    /// Trusts a file with a statement, and with nothing else.
    pub(in crate::cli) fn set(&self, file: &Path, statement: Statement) -> Result<(), StoreError> {
        self.change(|files| {
            files.insert(key(file), statement);
            true
        })?;
        Ok(())
    }

    /// Trusts a file no more. Returns whether it was trusted.
    pub(in crate::cli) fn remove(&self, file: &Path) -> Result<bool, StoreError> {
        self.change(|files| files.remove(&key(file)).is_some())
    }

    /// Changes it under a lock. Nothing is written where the change says that there is none.
    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Statement>) -> bool) -> Result<bool, StoreError> {
        let io = |source| StoreError::Io { file: self.file.clone(), source };
        let folder = folder_of(&self.file);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.file.with_extension("lock"));
        let lock = lock.map_err(io)?;
        lock.lock().map_err(io)?;
        let mut files = self.all()?;
        if !change(&mut files) {
            return Ok(false);
        }
        let mut text = serde_json::to_vec_pretty(&Page { version: VERSION, files })
            .map_err(|error| self.wrong(format!("it cannot be written: {error}")))?;
        text.push(b'\n');
        if text.len() as u64 > TRUST_FILE_BYTES_MAX {
            let what = format!("it would have {} bytes, and at most {TRUST_FILE_BYTES_MAX} are kept", text.len());
            return Err(self.wrong(format!("{what}; `trust rm FILE` takes files out of it")));
        }
        // Under the lock nobody else makes one, so what lies there was left by a process that was killed.
        let beside = self.file.with_extension("new");
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).map_err(io)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(io)?;
        fs::rename(&beside, &self.file).map_err(io)?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
        Ok(true)
    }
}

/// A file by its whole path without links.
pub(in crate::cli) fn key(file: &Path) -> String {
    let path = super::statement::resolved(file);
    path.to_str().map_or_else(|| format!("{}", path.as_os_str().as_encoded_bytes().escape_ascii()), str::to_owned)
}
