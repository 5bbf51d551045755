//! Where the nodes of this machine are found by its own clients: one socket each, in a folder that only its user can open.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::adapters::private;
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

/// Whether a socket has the name of a node, whichever node has left it there. `node` is its name, with its address or without.
pub(super) fn is_of(path: &Path, node: &str) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let whole = node.replace(['/', ':'], "_");
    stem == whole || stem.split_once('@').is_some_and(|(name, _)| name == node)
}

/// Makes the folder, closes it to others, and refuses one of another user.
pub(super) fn ready(folder: &Path) -> io::Result<()> {
    private::make_folder(folder)
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
