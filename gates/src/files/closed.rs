//! Places that no gate opens, wherever its root is.
//!
//! Owns how such a place is recognised on the way to a file: by device and number, so that a link or a second mount is
//! the same place, and by name below each directory that leads to it, so that a place which is made anew, or is not there
//! yet, is closed as well.

use std::path::{Component, Path};

use cap_fs_ext::MetadataExt;
use cap_std::fs::{Dir, Metadata};

use super::protected::plain;

/// Which file or directory something is, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    number: u64,
}

impl FileId {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), number: metadata.ino() }
    }

    pub(super) fn of_dir(dir: &Dir) -> std::io::Result<Self> {
        dir.dir_metadata().map(|metadata| Self::of(&metadata))
    }
}

/// A place: these names below this directory. Without names it is the file or directory itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClosedPlace {
    base: FileId,
    names: Vec<String>,
}

impl ClosedPlace {
    /// Everything by which a path can be recognised later: itself, and the way to it from each directory above.
    pub(super) fn all_of(path: &Path) -> Vec<Self> {
        let authority = cap_std::ambient_authority();
        let mut places = Vec::new();
        let mut names: Vec<String> = Vec::new();
        let mut at = Some(path);
        while let Some(here) = at {
            let shown = if here.as_os_str().is_empty() { Path::new(".") } else { here };
            let id = match Dir::open_ambient_dir(shown, authority) {
                Ok(dir) => FileId::of_dir(&dir).ok(),
                // A file among what is closed: its own number, beside its name in its folder.
                Err(_) if names.is_empty() => file_id(here),
                Err(_) => None,
            };
            places.extend(id.map(|base| Self { base, names: names.iter().rev().cloned().collect() }));
            match here.components().next_back() {
                Some(Component::Normal(name)) => names.push(plain(&name.to_string_lossy())),
                // What lies above `..` cannot be told from the text.
                Some(Component::ParentDir) => break,
                Some(Component::CurDir | Component::RootDir | Component::Prefix(_)) | None => {}
            }
            at = here.parent();
        }
        places
    }

    /// Whether the way ends here: `ids` are those of the directories from the root of a gate on, `names` what each but
    /// the first is called, and may hold one name more, of something that is not there or not known yet.
    pub(super) fn is_at(&self, ids: &[FileId], names: &[String]) -> bool {
        let Some(above) = names.len().checked_sub(self.names.len()) else { return false };
        ids.get(above) == Some(&self.base) && names.get(above..) == Some(self.names.as_slice())
    }
}

fn file_id(path: &Path) -> Option<FileId> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = Dir::open_ambient_dir(folder, cap_std::ambient_authority()).ok()?;
    folder.metadata(path.file_name()?).ok().map(|metadata| FileId::of(&metadata))
}
