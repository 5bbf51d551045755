//! `read_file`: the text of one file, or a part of it.

use std::io::{Read, Seek, SeekFrom};

use serde_json::{Value, json};

use super::specs::named;
use crate::arguments::Arguments;
use crate::error::GateError;
use crate::files::{FileFailure, Meant, RelativePath, Root};
use crate::gate::{CallContext, Gate, GateFuture};
use crate::limits::READ_BYTES_MAX;
use crate::spec::{Exposure, GateSpec, Reach};

const GATE: &str = "read_file";

pub(super) fn spec() -> GateSpec {
    GateSpec {
        name: named(GATE),
        description: format!(
            "Returns the text of the file `path`, relative to the root. `offset` and `limit` are bytes; without them the \
             whole file is returned, up to {READ_BYTES_MAX} bytes."
        ),
        parameters: json!({
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "relative to the root, with `/` between names"},
                "offset": {"type": "integer", "minimum": 0, "description": "first byte to return, default 0"},
                "limit": {"type": "integer", "minimum": 1, "maximum": READ_BYTES_MAX, "description": "most bytes to return"},
            },
            "required": ["path"],
            "additionalProperties": false,
        }),
        positional: vec!["path".to_owned(), "offset".to_owned(), "limit".to_owned()],
        reach: Reach::Read,
        exposure: Exposure { private: true, ..Exposure::default() },
        ephemeral: false,
    }
}

#[derive(Debug)]
pub(super) struct ReadFile {
    root: Root,
    spec: GateSpec,
}

impl ReadFile {
    pub(super) fn new(root: Root) -> Self {
        Self { root, spec: spec() }
    }

    fn read(&self, arguments: Value, context: &CallContext) -> Result<Value, GateError> {
        let mut arguments = Arguments::new(GATE, arguments)?;
        let path = arguments.text("path")?;
        let offset = arguments.count_or_none("offset")?.unwrap_or(0);
        let limit = arguments.count_or_none("limit")?;
        let path = RelativePath::parse(GATE, &path, Meant::Existing)?;
        let explained = |failure: FileFailure| self.root.explain(GATE, &path, &failure);

        let (mut file, bytes) = self.root.open_file(&path).map_err(explained)?;
        let bytes_max = READ_BYTES_MAX.min(context.output_bytes_max);
        if let Some(limit) = limit.filter(|limit| *limit > bytes_max) {
            return Err(GateError::Invalid(format!(
                "{GATE}: argument `limit`: one call returns at most {bytes_max} bytes, {limit} were asked for"
            )));
        }
        if offset > 0 {
            file.seek(SeekFrom::Start(offset)).map_err(|error| explained(error.into()))?;
        }
        let take = limit.unwrap_or(bytes_max);
        let expected = bytes.saturating_sub(offset).min(take).saturating_add(1);
        let mut buffer = Vec::with_capacity(usize::try_from(expected).unwrap_or_default());
        // One byte more than is returned tells a full answer from a cut one; the length at opening is only a guess.
        let read = file.take(take.saturating_add(1)).read_to_end(&mut buffer);
        read.map_err(|error| explained(error.into()))?;
        let cut = u64::try_from(buffer.len()).unwrap_or(u64::MAX) > take;
        if cut && limit.is_none() {
            return Err(GateError::Exhausted(format!(
                "{GATE}: path `{}`: has {bytes} bytes, and one call returns at most {bytes_max}; read it in parts with \
                 `offset` and `limit`",
                path.as_str()
            )));
        }
        buffer.truncate(usize::try_from(take).unwrap_or(usize::MAX));
        text(buffer, &path, offset, cut).map(Value::String)
    }
}

/// The bytes as text. A character that the limit cut is left for the next part; one that the offset cut is an error that
/// says where it starts.
fn text(content: Vec<u8>, path: &RelativePath, offset: u64, cut: bool) -> Result<String, GateError> {
    let path = path.as_str();
    let error = match String::from_utf8(content) {
        Ok(text) => return Ok(text),
        Err(error) => error,
    };
    let valid = error.utf8_error().valid_up_to();
    let is_incomplete = error.utf8_error().error_len().is_none();
    let mut content = error.into_bytes();
    if cut && is_incomplete && valid > 0 {
        content.truncate(valid);
        return Ok(String::from_utf8_lossy(&content).into_owned());
    }
    if cut && is_incomplete {
        return Err(GateError::Invalid(format!(
            "{GATE}: path `{path}`: `limit` is smaller than the one character at byte {offset}; 4 bytes hold any"
        )));
    }
    let leading = content.iter().take(3).take_while(|byte| is_continuation(**byte)).count();
    if valid == 0 && offset > 0 && leading > 0 && content.get(leading).is_none_or(|byte| !is_continuation(*byte)) {
        return Err(GateError::Invalid(format!(
            "{GATE}: path `{path}`: byte {offset} is inside a character; the next one starts at byte {}",
            offset.saturating_add(u64::try_from(leading).unwrap_or_default())
        )));
    }
    let at = offset.saturating_add(u64::try_from(valid).unwrap_or_default());
    Err(GateError::Invalid(format!("{GATE}: path `{path}`: is not UTF-8 text (byte {at}); only text can be read")))
}

fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

impl Gate for ReadFile {
    fn spec(&self) -> &GateSpec {
        &self.spec
    }

    /// Reads where it stands: a local file of at most 1 MiB is read faster than a thread is woken for it.
    fn call<'a>(&'a self, arguments: Value, context: &'a CallContext) -> GateFuture<'a> {
        Box::pin(async move { self.read(arguments, context) })
    }
}
