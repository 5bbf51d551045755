//! Who keeps which loom, as files beside the record: any process may read and change them while another writes the record.
//!
//! One file a loom, `copies/LOOM.json`, replaced whole.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::adapters::private;
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
pub struct FileBook {
    folder: PathBuf,
    /// What was read, and when the folder had last changed then: it is looked at every second.
    read: Mutex<Option<(SystemTime, Vec<LoomCopies>)>>,
}

/// Two seconds. A folder that changed so lately may change again within what its time tells apart.
const SETTLED: Duration = Duration::from_secs(2);

impl FileBook {
    /// The book in this folder, which is made when something is written into it.
    pub fn new(folder: &Path) -> Arc<Self> {
        Arc::new(Self { folder: folder.to_owned(), read: Mutex::default() })
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
        private::make_folder(&self.folder)?;
        let page = Page { version: VERSION, copies: copies.clone() };
        private::replace(&self.folder.join(format!("{}.json", copies.loom)), &serde_json::to_vec_pretty(&page)?)
    }
}

impl CopyBook for FileBook {
    fn load(&self) -> Result<Vec<LoomCopies>, StoreError> {
        let changed = fs::metadata(&self.folder).and_then(|metadata| metadata.modified()).ok();
        let mut known = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(changed), Some((at, copies))) = (changed, &*known)
            && changed == *at
        {
            return Ok(copies.clone());
        }
        let all = self.read_all()?;
        let settled = changed.filter(|changed| changed.elapsed().is_ok_and(|since| since > SETTLED));
        *known = settled.map(|changed| (changed, all.clone()));
        Ok(all)
    }

    fn save(&self, copies: &LoomCopies) -> Result<(), StoreError> {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.write(copies).map_err(|error| StoreError::Open {
            folder: self.folder.display().to_string(),
            what: "who keeps a loom cannot be written down".to_owned(),
            source: Some(Box::new(error)),
        })
    }
}

impl FileBook {
    fn read_all(&self) -> Result<Vec<LoomCopies>, StoreError> {
        let listed = match fs::read_dir(&self.folder) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StoreError::Read(Box::new(error))),
        };
        let mut all = Vec::new();
        for entry in listed {
            let path = entry.map_err(|error| StoreError::Read(Box::new(error)))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                all.push(Self::read(&path)?);
            }
        }
        Ok(all)
    }
}

/// Replaces a small file beside the record, whole or not at all. A folder that is missing is made for nobody else to look into.
///
/// # Errors
/// A folder that cannot be written to.
pub fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    private::make_missing(path.parent().unwrap_or_else(|| Path::new(".")))?;
    private::replace(path, content)
}

/// The same for a file that may be lost with the machine's power: it is not synced.
///
/// # Errors
/// A folder that is missing or cannot be written to.
pub fn note_file(path: &Path, content: &[u8]) -> io::Result<()> {
    private::note(path, content)
}
