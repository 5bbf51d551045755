//! Where the nodes of this machine are found by its own clients: one socket each, in a folder that only its user can open.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::cli::exit::CliError;

/// The folder of the sockets.
pub(super) fn folder() -> Result<PathBuf, CliError> {
    let dirs = directories::ProjectDirs::from("", "", "cantrip-runtime");
    let dirs = dirs.ok_or_else(|| CliError::usage(anyhow::anyhow!("there is no home folder for the node's socket")))?;
    Ok(dirs.runtime_dir().map_or_else(|| dirs.data_dir().join("run"), Path::to_owned))
}

/// The socket of a node.
pub(super) fn socket(folder: &Path, whole: &str) -> PathBuf {
    folder.join(format!("{}.sock", whole.replace(['/', ':'], "_")))
}

/// Makes the folder, and refuses one that others can open.
pub(super) fn ready(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let metadata = fs::metadata(folder)?;
    let own = fs::metadata("/proc/self").map_or_else(|_| metadata.uid(), |own| own.uid());
    if metadata.uid() != own {
        return Err(io::Error::other(format!("{} belongs to somebody else", folder.display())));
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

/// The sockets that are there, with the names of their nodes; some may be left by nodes that have gone.
pub(super) fn all(folder: &Path) -> Vec<PathBuf> {
    let Ok(files) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<PathBuf> = files
        .flatten()
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|it| it == "sock"))
        .collect();
    found.sort();
    found
}
