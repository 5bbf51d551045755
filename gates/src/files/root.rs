//! The directory capability and what can go wrong below it.
//!
//! Owns the one handle that file gates hold, how a file is opened through it, and the translation of an I/O error into
//! what an entity may read: its own path and the reason, never the place of the root on the host.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt, OpenOptionsSyncExt};
use cap_std::fs::{Dir, File, OpenOptions};

use super::closed::{ClosedPlace, FileId};
use super::path::{RelativePath, shown};
use super::protected::{Protected, ProtectedNameError};
use super::way::{Folder, Purpose, Way};
use crate::error::GateError;
use crate::limits::{PATH_DEPTH_MAX, SUGGESTION_ENTRIES_MAX, SUGGESTION_NAMES_MAX};
use crate::suggest;

/// A directory that gates may use, and nothing above it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Root {
    dir: Arc<Dir>,
    /// The root's own number and the places below it or around it that no gate opens.
    closed: Option<Arc<(FileId, Vec<ClosedPlace>)>>,
    protected: Arc<Protected>,
    /// What new files and folders do not let others do, where it is not what the process's own mask says.
    umask: Option<u32>,
}

/// Why a directory cannot be a root.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// Nothing is there.
    #[error("root `{}` does not exist", .0.display())]
    Missing(PathBuf),
    /// Something else is there.
    #[error("root `{}` is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// It is there and cannot be opened.
    #[error("root `{}` cannot be opened", path.display())]
    Unopened {
        /// The path as given.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It lies in a place that no gate opens.
    #[error("the root lies in `{}`, which holds configuration or records of the runtime, and no gate opens those", .0.display())]
    Closed(PathBuf),
}

impl RootError {
    fn from_io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::NotFound {
            Self::Missing(path)
        } else if source.kind() == io::ErrorKind::NotADirectory {
            Self::NotADirectory(path)
        } else {
            Self::Unopened { path, source }
        }
    }
}

impl Root {
    /// Opens a directory with the authority of the process. From here on only the handle counts: renaming or replacing
    /// the path later changes nothing.
    ///
    /// # Errors
    ///
    /// [`RootError`] names the path and says whether it is missing, not a directory, or closed to us.
    ///
    /// ```
    /// use cantrip_gates::{Root, builtin};
    /// let root = Root::open(std::path::Path::new("."))?;
    /// let gate = builtin::read_file(root);
    /// # let _ = gate;
    /// # Ok::<(), cantrip_gates::RootError>(())
    /// ```
    pub fn open(path: &Path) -> Result<Self, RootError> {
        match Dir::open_ambient_dir(path, cap_std::ambient_authority()) {
            Ok(dir) => Ok(Self { dir: Arc::new(dir), closed: None, protected: Arc::default(), umask: None }),
            Err(error) => Err(RootError::from_io(path, error)),
        }
    }

    /// The same root, in which new files and folders are made as this mask says: a process that closes its own files to
    /// others has a mask of its own, and what a gate writes is its user's. Default: the mask of the process.
    #[must_use]
    pub fn under_umask(mut self, umask: u32) -> Self {
        self.umask = Some(umask & 0o777);
        self
    }

    pub(crate) const fn umask(&self) -> Option<u32> {
        self.umask
    }

    /// The same root without some files and folders, wherever they lie: no gate reads, lists, searches or writes them or
    /// anything in them. They are recognised by device and number, so a link or a second mount gains nothing, and by
    /// name, so that one which is not there yet is closed as well.
    ///
    /// # Errors
    ///
    /// [`RootError::Closed`] if the root itself lies in one of them.
    ///
    /// ```
    /// use std::path::Path;
    /// use cantrip_gates::Root;
    /// let root = Root::open(Path::new("."))?.excluding(["/var/lib/cantrip", "/etc/cantrip/config.toml"])?;
    /// # let _ = root;
    /// # Ok::<(), cantrip_gates::RootError>(())
    /// ```
    pub fn excluding<I>(mut self, places: I) -> Result<Self, RootError>
    where
        I: IntoIterator,
        I::Item: AsRef<Path>,
    {
        let unopened = |source| RootError::Unopened { path: PathBuf::from("."), source };
        let above = self.ids_above().map_err(unopened)?;
        let own = FileId::of_dir(&self.dir).map_err(unopened)?;
        let mut closed = self.closed.as_ref().map(|closed| closed.1.clone()).unwrap_or_default();
        for place in places {
            let ways = ClosedPlace::all_of(place.as_ref());
            if above.iter().any(|id| ways.iter().any(|way| way.is_at(&[*id], &[]))) {
                return Err(RootError::Closed(place.as_ref().to_owned()));
            }
            closed.extend(ways);
        }
        self.closed = (!closed.is_empty()).then(|| Arc::new((own, closed)));
        Ok(self)
    }

    /// The same root with one of [`PROTECTED_NAMES`](crate::PROTECTED_NAMES) open to gates that write.
    ///
    /// # Errors
    ///
    /// [`ProtectedNameError`] if the name is not one of them.
    pub fn allowing(mut self, name: &str) -> Result<Self, ProtectedNameError> {
        Arc::make_mut(&mut self.protected).lift(name)?;
        Ok(self)
    }

    /// The numbers of the root and of every directory above it.
    fn ids_above(&self) -> io::Result<Vec<FileId>> {
        let mut dir = self.dir.try_clone()?;
        let mut ids = vec![FileId::of_dir(&dir)?];
        // The directory above the topmost one is itself.
        while let Ok(above) = dir.open_parent_dir(cap_std::ambient_authority()) {
            let id = FileId::of_dir(&above)?;
            if ids.last() == Some(&id) {
                break;
            }
            ids.push(id);
            dir = above;
        }
        Ok(ids)
    }

    pub(super) fn dir(&self) -> &Dir {
        &self.dir
    }

    pub(super) fn id(&self) -> Option<FileId> {
        self.closed.as_ref().map(|closed| closed.0)
    }

    pub(super) fn is_closed(&self, ids: &[FileId], names: &[String]) -> bool {
        self.closed.as_ref().is_some_and(|closed| closed.1.iter().any(|place| place.is_at(ids, names)))
    }

    pub(super) fn protects(&self, name: &str) -> Option<&'static str> {
        self.protected.meant_by(name)
    }

    /// Opens a regular file for reading. A FIFO without a writer does not block the open, and what was opened is judged
    /// by its own handle.
    pub(crate) fn open_file(&self, path: &RelativePath) -> Result<(File, u64), FileFailure> {
        Way::new(self, path, Purpose::Reading).file()
    }

    /// Opens a directory.
    pub(crate) fn open_dir(&self, path: &RelativePath) -> Result<Folder, FileFailure> {
        Way::new(self, path, Purpose::Reading).directory()
    }

    /// Opens the directory in which a file is to be written, and returns the file's name in it.
    pub(crate) fn open_for_writing(&self, path: &RelativePath, creates: bool) -> Result<(Dir, String), FileFailure> {
        Way::new(self, path, Purpose::Writing { creates }).last_name()
    }

    /// The error an entity sees, with the nearest names where something is missing.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the kinds of an I/O error are the standard library's and open-ended"
    )]
    pub(crate) fn explain(&self, gate: &str, path: &RelativePath, failure: &FileFailure) -> GateError {
        let named = |why: &str| format!("{gate}: path {}: {why}", shown(path.as_str()));
        match failure {
            FileFailure::Directory => GateError::Invalid(named("is a directory; `list_dir` shows what is in it")),
            FileFailure::Special => {
                GateError::Denied(named("is not a regular file (a device, FIFO or socket), and only files can be read"))
            }
            FileFailure::Link => GateError::Denied(named("is a symbolic link, and a link is never replaced")),
            FileFailure::ReadOnly => GateError::Denied(named("is read-only and is not replaced")),
            FileFailure::Closed => {
                GateError::Denied(named("leads to configuration, trust or records of the runtime, which no gate opens"))
            }
            FileFailure::Protected(name) => GateError::Denied(named(&format!(
                "leads to `{name}`, which a gate does not write because other tools obey it; `allow_names = [\"{name}\"]` \
                 in `[gate.{gate}]` opens it"
            ))),
            FileFailure::Deep => GateError::Invalid(named(&format!(
                "leads through more than {PATH_DEPTH_MAX} directories; at most {PATH_DEPTH_MAX} are entered"
            ))),
            FileFailure::Io(error) if escapes(error) => {
                GateError::Denied(named("leads out of the root (through `..` or a symbolic link)"))
            }
            FileFailure::Io(error) => match error.kind() {
                io::ErrorKind::NotFound => GateError::NotFound(named(&format!("does not exist{}", self.near(path)))),
                io::ErrorKind::NotADirectory => {
                    GateError::Invalid(named("a part of it that should be a directory is not one"))
                }
                io::ErrorKind::IsADirectory => GateError::Invalid(named("is a directory")),
                io::ErrorKind::PermissionDenied => {
                    GateError::Failed(named("the file system does not permit it to this process"))
                }
                io::ErrorKind::InvalidFilename => GateError::Invalid(named("is too long for the file system")),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    GateError::Failed(named("no space is left to write it"))
                }
                _ => GateError::Failed(named(&error.to_string())),
            },
        }
    }

    /// "did you mean", looked up in the directory where the path stops existing.
    fn near(&self, path: &RelativePath) -> String {
        let mut at = String::new();
        for name in path.as_str().split('/').take(SUGGESTION_NAMES_MAX) {
            let next = if at.is_empty() { name.to_owned() } else { format!("{at}/{name}") };
            if self.dir.symlink_metadata(&next).is_ok() {
                at = next;
                continue;
            }
            let place = if at.is_empty() { "." } else { &at };
            let Ok(entries) = self.dir.read_dir(place) else {
                return String::new();
            };
            let names: Vec<String> = entries
                .take(SUGGESTION_ENTRIES_MAX)
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .collect();
            let found = suggest::nearest(name, names.iter().map(String::as_str));
            let full = |found: &str| {
                if at.is_empty() { found.to_owned() } else { format!("{at}/{found}") }
            };
            return found.map(|found| format!("; did you mean {}?", shown(&full(found)))).unwrap_or_default();
        }
        String::new()
    }
}

/// Opens what is there and returns it if it is a regular file, with its length; `None` if it is something else.
pub(crate) fn open_regular(dir: &Dir, path: &str, follow: FollowSymlinks) -> Result<Option<(File, u64)>, FileFailure> {
    let mut options = OpenOptions::new();
    options.read(true).nonblock(true).follow(follow);
    match dir.open_with(path, &options) {
        Ok(file) => {
            let metadata = file.metadata()?;
            Ok(metadata.is_file().then(|| (file, metadata.len())))
        }
        // ENXIO: a socket, or a device without a driver.
        Err(error) if is_no_such_device(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_no_such_device(error: &io::Error) -> bool {
    /// `ENXIO` on Linux, the BSDs and macOS alike.
    const ENXIO: i32 = 6;
    cfg!(unix) && error.raw_os_error() == Some(ENXIO)
}

/// What stopped an operation on a file.
#[derive(Debug)]
pub(crate) enum FileFailure {
    /// A directory where a file was meant.
    Directory,
    /// A device, FIFO or socket.
    Special,
    /// A symbolic link where a file would be replaced.
    Link,
    /// A file that nobody may write.
    ReadOnly,
    /// A place that no gate opens.
    Closed,
    /// A name that no gate writes.
    Protected(&'static str),
    /// More directories than are entered.
    Deep,
    /// The file system said no.
    Io(io::Error),
}

impl From<io::Error> for FileFailure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Whether the directory handle refused because the path led outside. `cap-std` says so with an error that no system
/// call made: a refusal of permission without a code of the system.
pub(super) fn escapes(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none()
}
