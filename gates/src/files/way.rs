//! The way from a root to a file, one name at a time.
//!
//! Owns what `..` and symbolic links mean below a root, and the judgement of every step: each directory is opened by its
//! own handle, below the handle of the one before it, and is judged by what was opened. So no name can be swapped for
//! another between the judgement and the use, and no link leads into a place that is closed or to a name that is
//! protected. Everything that a file gate opens by a path is opened here.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path};

use cap_fs_ext::{DirExt, FollowSymlinks};
use cap_std::fs::{Dir, File};

use crate::limits::{PATH_DEPTH_MAX, PATH_LINKS_MAX};

use super::closed::FileId;
use super::path::RelativePath;
use super::protected::plain;
use super::root::{FileFailure, Root, open_regular};

/// What is done at the end of a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Something is looked at.
    Reading,
    /// Something is written: protected names are refused.
    Writing {
        /// Missing directories are made.
        creates: bool,
    },
}

/// A directory at the end of a way, from where a gate looks further down without following links.
pub(crate) struct Folder {
    dir: Dir,
    root: Root,
    ids: Vec<FileId>,
    names: Vec<String>,
}

impl Folder {
    pub(crate) fn dir(&self) -> &Dir {
        &self.dir
    }

    /// A directory in this one, if it can be opened and no rule closes it.
    pub(crate) fn folder(&self, name: &str) -> Option<Self> {
        let names = self.open_name(name)?;
        let dir = self.dir.open_dir_nofollow(name).ok()?;
        let mut ids = self.ids.clone();
        if !ids.is_empty() {
            let id = FileId::of_dir(&dir).ok().filter(|id| !self.root.is_closed(&[*id], &[]))?;
            ids.push(id);
        }
        Some(Self { dir, root: self.root.clone(), ids, names })
    }

    /// A regular file in this directory and its length, if it can be opened and no rule closes it.
    pub(crate) fn file(&self, name: &str) -> Option<(File, u64)> {
        self.open_name(name)?;
        let (file, bytes) = open_regular(&self.dir, name, FollowSymlinks::No).ok()??;
        if !self.ids.is_empty() {
            let id = FileId::of(&file.metadata().ok()?);
            if self.root.is_closed(&[id], &[]) {
                return None;
            }
        }
        Some((file, bytes))
    }

    /// The names down to one in this directory, if they do not lead to a closed place.
    fn open_name(&self, name: &str) -> Option<Vec<String>> {
        if self.ids.is_empty() {
            return Some(Vec::new());
        }
        let mut names = self.names.clone();
        names.push(plain(name));
        (!self.root.is_closed(&self.ids, &names)).then_some(names)
    }
}

/// A way that is being gone.
pub(super) struct Way<'a> {
    root: &'a Root,
    purpose: Purpose,
    /// The directories below the root that lead to where it stands.
    levels: Vec<Dir>,
    /// The numbers of the root and of each level, and what the levels are called; kept only where some place is closed.
    ids: Vec<FileId>,
    names: Vec<String>,
    left: VecDeque<OsString>,
    links: usize,
}

impl<'a> Way<'a> {
    pub(super) fn new(root: &'a Root, path: &RelativePath, purpose: Purpose) -> Self {
        let names = path.as_str().split('/').filter(|name| *name != ".").map(OsString::from);
        let ids = root.id().into_iter().collect();
        Self { root, purpose, levels: Vec::new(), ids, names: Vec::new(), left: names.collect(), links: 0 }
    }

    /// Goes to the end, which has to be a directory.
    pub(super) fn directory(mut self) -> Result<Folder, FileFailure> {
        while let Some(name) = self.left.pop_front() {
            self.enter(&name)?;
        }
        let (ids, names) = (std::mem::take(&mut self.ids), std::mem::take(&mut self.names));
        let root = self.root.clone();
        Ok(Folder { dir: self.here()?, root, ids, names })
    }

    /// Goes to the end, which has to be a regular file, and opens it for reading.
    pub(super) fn file(mut self) -> Result<(File, u64), FileFailure> {
        while let Some(name) = self.left.pop_front() {
            if !self.left.is_empty() || name == ".." {
                self.enter(&name)?;
                continue;
            }
            self.judge_name(&name)?;
            let text = name.to_string_lossy();
            match open_regular(self.dir(), &text, FollowSymlinks::No) {
                Ok(Some((file, bytes))) => {
                    if !self.ids.is_empty() {
                        self.judge_id(FileId::of(&file.metadata()?))?;
                    }
                    return Ok((file, bytes));
                }
                Ok(None) => return Err(self.not_regular(&name)),
                Err(failure) => self.follow(&name, failure)?,
            }
        }
        Err(FileFailure::Directory)
    }

    /// Goes to the directory that holds the last name, which is not looked at and not followed.
    pub(super) fn last_name(mut self) -> Result<(Dir, String), FileFailure> {
        while let Some(name) = self.left.pop_front() {
            if !self.left.is_empty() || name == ".." {
                self.enter(&name)?;
                continue;
            }
            self.judge_name(&name)?;
            if !self.ids.is_empty()
                && let Ok(metadata) = self.dir().symlink_metadata(&name)
            {
                self.judge_id(FileId::of(&metadata))?;
            }
            return Ok((self.here()?, name.to_string_lossy().into_owned()));
        }
        Err(FileFailure::Directory)
    }

    fn dir(&self) -> &Dir {
        self.levels.last().unwrap_or(self.root.dir())
    }

    fn here(mut self) -> Result<Dir, FileFailure> {
        match self.levels.pop() {
            Some(dir) => Ok(dir),
            None => Ok(self.root.dir().try_clone()?),
        }
    }

    fn enter(&mut self, name: &OsString) -> Result<(), FileFailure> {
        if *name == ".." {
            let left = self.levels.pop();
            self.ids.truncate(self.levels.len() + 1);
            self.names.truncate(self.levels.len());
            return left.map(drop).ok_or_else(|| FileFailure::Io(outside()));
        }
        self.judge_name(name)?;
        let opened = match self.dir().open_dir_nofollow(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.creates() => self.make(name),
            other => other,
        };
        let dir = match opened {
            Ok(dir) => dir,
            Err(error) => return self.follow(name, error.into()),
        };
        if self.levels.len() >= PATH_DEPTH_MAX {
            return Err(FileFailure::Deep);
        }
        if !self.ids.is_empty() {
            let id = FileId::of_dir(&dir)?;
            self.judge_id(id)?;
            self.ids.push(id);
            self.names.push(plain(&name.to_string_lossy()));
        }
        self.levels.push(dir);
        Ok(())
    }

    const fn creates(&self) -> bool {
        matches!(self.purpose, Purpose::Writing { creates: true })
    }

    fn make(&self, name: &OsString) -> io::Result<Dir> {
        let is_new = match self.dir().create_dir(name) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error),
        };
        let made = self.dir().open_dir_nofollow(name)?;
        if is_new {
            #[cfg(unix)]
            if let Some(umask) = self.root.umask() {
                use cap_std::fs::PermissionsExt;
                made.set_permissions(".", cap_std::fs::Permissions::from_mode(0o777 & !umask))?;
            }
            sync(self.dir())?;
        }
        Ok(made)
    }

    /// Puts what a link says in the place of its name; what is no link has failed for another reason.
    fn follow(&mut self, name: &OsString, failure: FileFailure) -> Result<(), FileFailure> {
        let target = match self.dir().read_link(name) {
            Ok(target) => target,
            Err(error) if super::root::escapes(&error) => return Err(error.into()),
            Err(_) => return Err(failure),
        };
        self.links += 1;
        if self.links > PATH_LINKS_MAX {
            return Err(FileFailure::Io(io::Error::other(format!(
                "more than {PATH_LINKS_MAX} symbolic links on the way"
            ))));
        }
        for name in names_of(&target)?.into_iter().rev() {
            self.left.push_front(name);
        }
        Ok(())
    }

    fn judge_name(&mut self, name: &OsString) -> Result<(), FileFailure> {
        let text = name.to_string_lossy();
        if self.purpose != Purpose::Reading
            && let Some(protected) = self.root.protects(&text)
        {
            return Err(FileFailure::Protected(protected));
        }
        if self.ids.is_empty() {
            return Ok(());
        }
        self.names.push(plain(&text));
        let is_closed = self.root.is_closed(&self.ids, &self.names);
        self.names.truncate(self.levels.len());
        if is_closed { Err(FileFailure::Closed) } else { Ok(()) }
    }

    fn judge_id(&self, id: FileId) -> Result<(), FileFailure> {
        if self.root.is_closed(&[id], &[]) { Err(FileFailure::Closed) } else { Ok(()) }
    }

    fn not_regular(&self, name: &OsString) -> FileFailure {
        // Only for the wording; the refusal was decided by the handle.
        match self.dir().symlink_metadata(name) {
            Ok(metadata) if metadata.is_dir() => FileFailure::Directory,
            Ok(_) | Err(_) => FileFailure::Special,
        }
    }
}

/// The names of a link's target; `.` is none, and a target that begins elsewhere leads out.
fn names_of(target: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for component in target.components() {
        match component {
            Component::Normal(name) => names.push(name.to_owned()),
            Component::ParentDir => names.push(OsString::from("..")),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return Err(outside()),
        }
    }
    Ok(names)
}

/// The same error that the directory handle itself gives: of permission, and without a code of the system.
fn outside() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "a path led outside of its root")
}

/// Puts the names of a directory on the disk. A file system that cannot is left alone: its own promises hold there.
pub(crate) fn sync(dir: &Dir) -> io::Result<()> {
    let synced = dir.open(".").and_then(|file| file.sync_all());
    match synced {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}
