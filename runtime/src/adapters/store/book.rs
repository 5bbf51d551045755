//! Who keeps which loom, as files beside the record: any process may read and change them while another writes the record.
//!
//! One file a loom, `copies/LOOM.json`, replaced whole.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::files;
use crate::domain::copies::LoomCopies;
use crate::ports::{CopyBook, StoreError};

/// The version of the files.
const VERSION: u32 = 1;
/// 1 MiB. A longer file is none of ours.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// One file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    version: u32,
    copies: LoomCopies,
}

/// The book of a data folder.
#[derive(Debug)]
pub struct FileBook(PathBuf);

impl FileBook {
    /// The book in this folder, which is made when something is written into it.
    pub fn new(folder: &Path) -> Arc<Self> {
        Arc::new(Self(folder.to_owned()))
    }

    fn read(path: &Path) -> Result<LoomCopies, StoreError> {
        let unusable = |what: String, source: Option<Box<dyn std::error::Error + Send + Sync>>| StoreError::Open {
            folder: path.display().to_string(),
            what,
            source,
        };
        let mut text = Vec::new();
        let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut text));
        read.map_err(|error| unusable("it cannot be read".to_owned(), Some(Box::new(error))))?;
        let page: Page = serde_json::from_slice(&text)
            .map_err(|error| unusable("it does not say who keeps a loom".to_owned(), Some(Box::new(error))))?;
        if page.version != VERSION {
            return Err(unusable(format!("it has version {}, and this one reads {VERSION}", page.version), None));
        }
        Ok(page.copies)
    }

    fn write(&self, copies: &LoomCopies) -> io::Result<()> {
        fs::create_dir_all(&self.0)?;
        let page = Page { version: VERSION, copies: copies.clone() };
        files::replace(&self.0.join(format!("{}.json", copies.loom)), &serde_json::to_vec_pretty(&page)?)
    }
}

impl CopyBook for FileBook {
    fn load(&self) -> Result<Vec<LoomCopies>, StoreError> {
        let listed = match fs::read_dir(&self.0) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StoreError::Read(Box::new(error))),
        };
        let mut all = Vec::new();
        for entry in listed {
            let path = entry.map_err(|error| StoreError::Read(Box::new(error)))?.path();
            let is_page = path.extension().is_some_and(|extension| extension == "json")
                && path.file_stem().is_some_and(|stem| stem != "status");
            if is_page {
                all.push(Self::read(&path)?);
            }
        }
        Ok(all)
    }

    fn save(&self, copies: &LoomCopies) -> Result<(), StoreError> {
        self.write(copies).map_err(|error| StoreError::Open {
            folder: self.0.display().to_string(),
            what: "who keeps a loom cannot be written down".to_owned(),
            source: Some(Box::new(error)),
        })
    }
}

/// Replaces a small file beside the record, whole or not at all.
///
/// # Errors
/// A folder that cannot be written to.
pub fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder)?;
    files::replace(path, content)
}
