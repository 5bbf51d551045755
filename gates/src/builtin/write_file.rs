//! `write_file`: a whole file, replaced at once or not at all.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use cap_std::fs::{Dir, File, Metadata, OpenOptions};
use serde_json::{Value, json};

use super::specs::named;
use crate::arguments::Arguments;
use crate::blocking::blocking;
use crate::error::GateError;
use crate::files::{FileFailure, Meant, PROTECTED_NAMES, RelativePath, Root, sync};
use crate::gate::{CallContext, Gate, GateFuture};
use crate::limits::WRITE_BYTES_MAX;
use crate::spec::{Exposure, GateSpec, Reach};

/// 16 names are tried for the temporary file before the call fails.
const TEMPORARY_NAMES_TRIED: u32 = 16;

const GATE: &str = "write_file";

pub(super) fn spec() -> GateSpec {
    GateSpec {
        name: named(GATE),
        description: format!(
            "Writes `content` to the file `path`, relative to the root, and replaces what was there: at once or not at \
             all. `create_dirs` makes missing directories. At most {WRITE_BYTES_MAX} bytes. Names that other tools obey are \
             refused: {}. Returns {{path, bytes}}.",
            PROTECTED_NAMES.join(", ")
        ),
        parameters: json!({
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "relative to the root, with `/` between names"},
                "content": {"type": "string"},
                "create_dirs": {"type": "boolean", "description": "make missing directories, default false"},
            },
            "required": ["path", "content"],
            "additionalProperties": false,
        }),
        positional: vec!["path".to_owned(), "content".to_owned(), "create_dirs".to_owned()],
        reach: Reach::Write,
        exposure: Exposure::default(),
        ephemeral: false,
    }
}

#[derive(Debug)]
pub(super) struct WriteFile {
    root: Root,
    spec: GateSpec,
}

impl WriteFile {
    pub(super) fn new(root: Root) -> Self {
        Self { root, spec: spec() }
    }

    async fn write(&self, arguments: Value) -> Result<Value, GateError> {
        let mut arguments = Arguments::new(GATE, arguments)?;
        let path = arguments.text("path")?;
        let content = arguments.text("content")?;
        let create_dirs = arguments.flag_or_false("create_dirs")?;
        let path = RelativePath::parse(GATE, &path, Meant::Written)?;
        if content.len() > WRITE_BYTES_MAX {
            return Err(GateError::Exhausted(format!(
                "{GATE}: path `{}`: content has {} bytes, at most {WRITE_BYTES_MAX} are written",
                path.as_str(),
                content.len()
            )));
        }
        let root = self.root.clone();
        blocking(GATE, move |_| {
            let written = replace(&root, &path, content.as_bytes(), create_dirs);
            written.map_err(|failure| explained(&root, &path, &failure, create_dirs))?;
            Ok(json!({"path": path.as_str(), "bytes": content.len()}))
        })
        .await
    }
}

fn explained(root: &Root, path: &RelativePath, failure: &FileFailure, create_dirs: bool) -> GateError {
    match failure {
        FileFailure::Io(error) if error.kind() == io::ErrorKind::NotFound && !create_dirs => GateError::NotFound(
            format!("{GATE}: path `{}`: its directory does not exist; `create_dirs: true` makes it", path.as_str()),
        ),
        FileFailure::Directory => {
            GateError::Denied(format!("{GATE}: path `{}`: is a directory and is not replaced by a file", path.as_str()))
        }
        FileFailure::Special => GateError::Denied(format!(
            "{GATE}: path `{}`: is not a regular file (a device, FIFO or socket) and is not replaced",
            path.as_str()
        )),
        FileFailure::Link
        | FileFailure::ReadOnly
        | FileFailure::Closed
        | FileFailure::Protected(_)
        | FileFailure::Deep
        | FileFailure::Io(_) => root.explain(GATE, path, failure),
    }
}

/// Writes beside the target and renames over it. The directory is opened once and everything happens below that handle
/// by single names, so nothing that is swapped meanwhile can lead elsewhere.
fn replace(root: &Root, path: &RelativePath, content: &[u8], create_dirs: bool) -> Result<(), FileFailure> {
    let (dir, name) = root.open_for_writing(path, create_dirs)?;
    let existing = match dir.symlink_metadata(&name) {
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let mode = match existing {
        None => root.umask().map(Mode::of_new),
        Some(metadata) if metadata.is_file() && metadata.permissions().readonly() => {
            return Err(FileFailure::ReadOnly);
        }
        Some(metadata) if metadata.is_file() => Some(Mode::of(&metadata)),
        Some(metadata) if metadata.is_dir() => return Err(FileFailure::Directory),
        Some(metadata) if metadata.is_symlink() => return Err(FileFailure::Link),
        Some(_) => return Err(FileFailure::Special),
    };
    let (temporary, file) = create_temporary(&dir, mode.as_ref())?;
    let written = fill(file, content, mode).and_then(|()| dir.rename(&temporary, &dir, &name));
    if written.is_err() {
        // The failure that counts is the first one; a leftover is named so that a person recognises it.
        drop(dir.remove_file(&temporary));
    }
    written?;
    // Without it a power cut can take the new name back.
    Ok(sync(&dir)?)
}

/// Who may read and write a file. What else a mode can say (to run as another user, to keep a folder's files) was given to
/// the old content by somebody who knew it, and is not the new content's.
#[cfg(unix)]
struct Mode(u32);

#[cfg(unix)]
impl Mode {
    fn of(metadata: &Metadata) -> Self {
        use cap_std::fs::PermissionsExt;
        Self(metadata.permissions().mode() & 0o777)
    }

    const fn of_new(umask: u32) -> Self {
        Self(0o666 & !umask)
    }

    /// Nobody but the owner, and the owner no more than at the end.
    fn at_first(&self, options: &mut OpenOptions) {
        use cap_std::fs::OpenOptionsExt;
        options.mode(self.0 & 0o600);
    }

    fn at_last(self, file: &File) -> io::Result<()> {
        use cap_std::fs::PermissionsExt;
        file.set_permissions(cap_std::fs::Permissions::from_mode(self.0))
    }
}

#[cfg(not(unix))]
struct Mode(Option<cap_std::fs::Permissions>);

#[cfg(not(unix))]
impl Mode {
    const fn of_new(_umask: u32) -> Self {
        Self(None)
    }

    fn of(metadata: &Metadata) -> Self {
        Self(Some(metadata.permissions()))
    }

    fn at_first(&self, _options: &mut OpenOptions) {}

    fn at_last(self, file: &File) -> io::Result<()> {
        self.0.map_or(Ok(()), |permissions| file.set_permissions(permissions))
    }
}

fn fill(mut file: File, content: &[u8], mode: Option<Mode>) -> io::Result<()> {
    file.write_all(content)?;
    if let Some(mode) = mode {
        mode.at_last(&file)?;
    }
    // Without it a power cut after the rename can leave neither the old content nor the new.
    file.sync_all()
}

/// A file without content that nobody may read who may not read the file it becomes. A new file gets what the process
/// gives to every new file, from the start.
fn create_temporary(dir: &Dir, mode: Option<&Mode>) -> io::Result<(String, File)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    if let Some(mode) = mode {
        mode.at_first(&mut options);
    }
    let mut tried = 0;
    loop {
        let name = format!(".cantrip-write-{}-{}.tmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        match dir.open_with(&name, &options) {
            Ok(file) => return Ok((name, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tried < TEMPORARY_NAMES_TRIED => {
                tried += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

impl Gate for WriteFile {
    fn spec(&self) -> &GateSpec {
        &self.spec
    }

    fn call<'a>(&'a self, arguments: Value, _context: &'a CallContext) -> GateFuture<'a> {
        Box::pin(self.write(arguments))
    }
}
