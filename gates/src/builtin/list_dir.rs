//! `list_dir`: what is in a directory.

use cap_std::fs::{Dir, DirEntry};
use serde_json::{Value, json};

use super::specs::named;
use crate::arguments::Arguments;
use crate::blocking::blocking;
use crate::error::GateError;
use crate::files::{FileFailure, Meant, RelativePath, Root};
use crate::gate::{CallContext, Gate, GateFuture};
use crate::limits::LIST_ENTRIES_MAX;
use crate::spec::{Exposure, GateSpec, Reach};

const GATE: &str = "list_dir";

pub(super) fn spec() -> GateSpec {
    GateSpec {
        name: named(GATE),
        description: format!(
            "Returns the entries of the directory `path` (default: the root), sorted by name: an array of {{name, kind: \
             \"file\" | \"directory\" | \"symlink\" | \"other\", bytes}}. At most {LIST_ENTRIES_MAX} entries."
        ),
        parameters: json!({
            "type": "object",
            "properties": {"path": {"type": "string", "description": "relative to the root, default `.`"}},
            "additionalProperties": false,
        }),
        positional: vec!["path".to_owned()],
        reach: Reach::Read,
        exposure: Exposure { private: true, ..Exposure::default() },
        ephemeral: false,
    }
}

#[derive(Debug)]
pub(super) struct ListDir {
    root: Root,
    spec: GateSpec,
}

impl ListDir {
    pub(super) fn new(root: Root) -> Self {
        Self { root, spec: spec() }
    }

    async fn list(&self, arguments: Value, context: &CallContext) -> Result<Value, GateError> {
        let mut arguments = Arguments::new(GATE, arguments)?;
        let path = arguments.text_or_none("path")?.unwrap_or_else(|| ".".to_owned());
        let path = RelativePath::parse(GATE, &path, Meant::Existing)?;
        let root = self.root.clone();
        let output_bytes_max = context.output_bytes_max;
        blocking(GATE, move |_| {
            let listed = root.open_dir(&path).map_err(ListFailure::from).and_then(|folder| entries(folder.dir()));
            let listed = listed.map_err(|failure| match failure {
                ListFailure::TooMany => GateError::Exhausted(format!(
                    "{GATE}: path `{}`: has more than {LIST_ENTRIES_MAX} entries; list a directory below it, or use `search`",
                    path.as_str()
                )),
                ListFailure::File(failure) => root.explain(GATE, &path, &failure),
            })?;
            let bytes = listed.iter().map(|entry| entry.name.len() + ENTRY_BYTES).sum::<usize>();
            if u64::try_from(bytes).unwrap_or(u64::MAX) > output_bytes_max {
                return Err(GateError::Exhausted(format!(
                    "{GATE}: path `{}`: its {} entries are more than the {output_bytes_max} bytes one call may return",
                    path.as_str(),
                    listed.len()
                )));
            }
            Ok(listed.into_iter().map(Entry::into_json).collect())
        })
        .await
    }
}

/// What one entry takes in JSON beside its name.
const ENTRY_BYTES: usize = r#"{"name":"","kind":"directory","bytes":1000000},"#.len();

struct Entry {
    name: String,
    kind: &'static str,
    bytes: Option<u64>,
}

impl Entry {
    fn read(entry: &DirEntry) -> Self {
        // The entry itself, not what a link points to. One that vanished meanwhile is still named.
        let metadata = entry.metadata().ok();
        let kind = match metadata.as_ref().map(cap_std::fs::Metadata::file_type) {
            Some(kind) if kind.is_file() => "file",
            Some(kind) if kind.is_dir() => "directory",
            Some(kind) if kind.is_symlink() => "symlink",
            Some(_) | None => "other",
        };
        let bytes = metadata.filter(cap_std::fs::Metadata::is_file).map(|metadata| metadata.len());
        Self { name: entry.file_name().to_string_lossy().into_owned(), kind, bytes }
    }

    fn into_json(self) -> Value {
        json!({"name": self.name, "kind": self.kind, "bytes": self.bytes})
    }
}

enum ListFailure {
    TooMany,
    File(FileFailure),
}

impl From<FileFailure> for ListFailure {
    fn from(failure: FileFailure) -> Self {
        Self::File(failure)
    }
}

fn entries(dir: &Dir) -> Result<Vec<Entry>, ListFailure> {
    let mut listed = Vec::new();
    for entry in dir.entries().map_err(FileFailure::from)? {
        if listed.len() >= LIST_ENTRIES_MAX {
            return Err(ListFailure::TooMany);
        }
        listed.push(Entry::read(&entry.map_err(FileFailure::from)?));
    }
    listed.sort_by(|one, two| one.name.cmp(&two.name));
    Ok(listed)
}

impl Gate for ListDir {
    fn spec(&self) -> &GateSpec {
        &self.spec
    }

    fn call<'a>(&'a self, arguments: Value, context: &'a CallContext) -> GateFuture<'a> {
        Box::pin(self.list(arguments, context))
    }
}
