//! Who keeps which loom, as files beside the record: any process may read and change them while another writes the record.
//!
//! One file a loom, `copies/LOOM.json`, replaced whole. A page that cannot be read costs its own loom and nothing else: it is put
//! aside as `LOOM.json.unreadable` and reported once. One that a newer version wrote stays where it is, and is not written over.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::adapters::{private, reading};
use crate::domain::copies::LoomCopies;
use crate::domain::limits::BOOK_PAGE_BYTES_MAX;
use crate::ports::{CopyBook, StoreError};

/// The version of the files.
const VERSION: u32 = 1;

/// One file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    version: u32,
    copies: LoomCopies,
}

/// What every version of a file begins with.
#[derive(Debug, Deserialize)]
struct Versioned {
    version: u32,
}

/// The book of a data folder.
#[derive(Debug)]
pub struct FileBook {
    folder: PathBuf,
    /// What was read, and when the folder had last changed then: it is looked at every second.
    read: Mutex<Option<(SystemTime, Vec<LoomCopies>)>>,
    /// Pages that are passed over and not written over, each reported once.
    passed_over: Mutex<BTreeSet<PathBuf>>,
}

/// Why a page says nothing.
enum Unreadable {
    /// It is damaged, or none of ours.
    Damaged(String),
    /// It may be good, and is not understood, or not to be had at the moment.
    Foreign(String),
}

/// Two seconds. A folder that changed so lately may change again within what its time tells apart.
const SETTLED: Duration = Duration::from_secs(2);

impl FileBook {
    /// The book in this folder, which is made when something is written into it.
    pub fn new(folder: &Path) -> Arc<Self> {
        Arc::new(Self { folder: folder.to_owned(), read: Mutex::default(), passed_over: Mutex::default() })
    }

    fn read(path: &Path) -> Result<LoomCopies, Unreadable> {
        let mut text = Vec::new();
        let read = reading::open(path).and_then(|file| file.take(BOOK_PAGE_BYTES_MAX + 1).read_to_end(&mut text));
        read.map_err(|error| Unreadable::Foreign(error.to_string()))?;
        if text.len() as u64 > BOOK_PAGE_BYTES_MAX {
            return Err(Unreadable::Damaged(format!("it has more than {BOOK_PAGE_BYTES_MAX} bytes")));
        }
        let version = serde_json::from_slice::<Versioned>(&text);
        let version = version.map_err(|error| Unreadable::Damaged(error.to_string()))?.version;
        if version > VERSION {
            return Err(Unreadable::Foreign(format!("it has version {version}, and this one reads {VERSION}")));
        }
        let page: Page = serde_json::from_slice(&text).map_err(|error| Unreadable::Damaged(error.to_string()))?;
        Ok(page.copies)
    }

    /// A page that says nothing: it is put aside, or passed over, and reported once.
    fn pass_over(&self, path: PathBuf, why: Unreadable) {
        let mut passed_over = self.passed_over.lock().unwrap_or_else(PoisonError::into_inner);
        if passed_over.contains(&path) {
            return;
        }
        let page = path.display();
        match why {
            Unreadable::Damaged(why) => {
                let aside = path.with_extension("json.unreadable");
                match fs::rename(&path, &aside) {
                    Ok(()) => {
                        let aside = aside.display();
                        tracing::error!(%page, %aside, why, "a page of the book of copies does not say who keeps a loom; it is put aside");
                        return;
                    }
                    Err(error) => {
                        tracing::error!(%page, why, %error, "a page of the book of copies does not say who keeps a loom");
                    }
                }
            }
            Unreadable::Foreign(why) => tracing::error!(%page, why, "a page of the book of copies is passed over"),
        }
        passed_over.insert(path);
    }

    fn write(&self, copies: &LoomCopies) -> io::Result<()> {
        let path = self.folder.join(format!("{}.json", copies.loom));
        if self.passed_over.lock().unwrap_or_else(PoisonError::into_inner).contains(&path) {
            return Err(io::Error::other(format!("{} cannot be read, and is not written over", path.display())));
        }
        let page = serde_json::to_vec_pretty(&Page { version: VERSION, copies: copies.clone() })?;
        // What is not read is not written.
        if page.len() as u64 > BOOK_PAGE_BYTES_MAX {
            let what = format!("{} bytes say who keeps the loom, and {BOOK_PAGE_BYTES_MAX} are read", page.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        private::make_folder(&self.folder)?;
        private::replace(&path, &page)
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
                match Self::read(&path) {
                    Ok(copies) => all.push(copies),
                    Err(why) => self.pass_over(path, why),
                }
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
