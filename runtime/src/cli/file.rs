//! The cantrip file: TOML to a checked cantrip, with errors that name file, line and key.

mod around;
mod change;
mod entry;
mod remote;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cantrip_gates::{Exposure, Gate, HttpPolicy, Root, RootError, Wards, builtin, exposing, suggest};
use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;

use super::trust::{self, Statement, StoreError, UntrustedError};
use crate::adapters::{private, reading};
use crate::domain::cantrip::Folding;
use crate::domain::circle::CircleError;
use crate::domain::delegation::At;
use crate::domain::guest::Shape;
use crate::domain::limits::CANTRIP_FILE_BYTES_MAX;
use crate::domain::medium::SnapshotPolicy;
use crate::domain::model::{Sampling, ToolChoice};
use crate::driver::{Cantrip, CantripBuilder, CantripError};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CantripFile {
    llm: Option<Spanned<ModelEntry>>,
    guest: Option<Spanned<GuestEntry>>,
    #[serde(default)]
    models: BTreeMap<String, Spanned<ModelEntry>>,
    #[serde(default)]
    children: Children,
    #[serde(default)]
    identity: IdentityTable,
    circle: Spanned<CircleTable>,
    #[serde(default)]
    gate: BTreeMap<Spanned<String>, Spanned<toml::Table>>,
    #[serde(default)]
    folding: Folding,
    #[serde(default)]
    snapshot: SnapshotPolicy,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Children {
    llm: Option<String>,
    llm_by_depth: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct IdentityTable {
    system_prompt: Option<String>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    max_output_tokens: Option<u32>,
    reasoning_effort: Option<String>,
    tool_choice: Option<ToolChoice>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CircleTable {
    medium: Option<Spanned<MediumEntry>>,
    #[serde(default)]
    gates: Option<Spanned<Vec<Spanned<GateEntry>>>>,
    #[serde(default)]
    wards: Option<WardsTable>,
}

/// The guest that is the cantrip.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GuestEntry {
    component: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a medium's name, or { guest = \"…\" }")]
enum MediumEntry {
    Name(String),
    Guest(GuestMedium),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GuestMedium {
    guest: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a gate's name, or { name = \"…\", at = \"caller\" }")]
enum GateEntry {
    Name(String),
    Table(GateTable),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GateTable {
    name: String,
    #[serde(default)]
    at: At,
    #[serde(default)]
    ask: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RootTable {
    root: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WritingRootTable {
    root: String,
    /// Names among those that no gate writes, which this one may.
    #[serde(default)]
    allow_names: Vec<String>,
}

/// A cantrip file that cannot be used.
#[derive(Debug, Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{}: the file cannot be read", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is too long to be one.
    #[error("{}: this is no file that a person wrote", file.display())]
    Size {
        /// The file.
        file: PathBuf,
        /// How long it is.
        #[source]
        source: std::io::Error,
    },
    /// Something in it is wrong.
    #[error("{}:{line}: {key}: {what}", file.display())]
    Wrong {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
        /// What is wrong, and what is allowed.
        what: String,
    },
    /// It reaches further than its user trusts it to.
    #[error(transparent)]
    Untrusted(UntrustedError),
    /// What is trusted cannot be known.
    #[error("what is trusted cannot be read")]
    Trust(#[source] StoreError),
}

pub use around::{Around, GuestFinder, TrustCheck, UserSide};
pub(super) use change::Change;
pub(super) use entry::ModelEntry;
pub(super) use remote::load_remote;

/// Where things are in the file, for errors.
pub(super) struct Source<'a> {
    pub(super) file: &'a Path,
    pub(super) text: &'a str,
    /// What no gate of the file opens.
    closed: &'a [PathBuf],
}

impl<'a> Source<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str) -> Self {
        Self { file, text, closed: &[] }
    }

    /// The same, with what no gate opens.
    pub(super) fn closing(file: &'a Path, text: &'a str, closed: &'a [PathBuf]) -> Self {
        Self { file, text, closed }
    }

    fn line(&self, offset: usize) -> usize {
        self.text.get(..offset.min(self.text.len())).map_or(1, |before| before.matches('\n').count() + 1)
    }

    pub(super) fn wrong(&self, offset: usize, key: impl Into<String>, what: impl Into<String>) -> FileError {
        FileError::Wrong { file: self.file.to_owned(), line: self.line(offset), key: key.into(), what: what.into() }
    }
}

/// Reads a cantrip file and checks everything in it. Nothing runs.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn load(file: &Path, around: &Around<'_>, strict: bool) -> Result<Cantrip, FileError> {
    let text = read_toml(file)?;
    let source = Source::closing(file, &text, around.user.closed);
    let parsed = parse(&source)?;
    judge(&source, &around.user)?;
    build(parsed, &source, folder_of(file), around, strict)
}

/// Judges the text that is used afterwards, before anything that it names is read.
fn judge(source: &Source<'_>, user: &UserSide<'_>) -> Result<Statement, FileError> {
    let statement = trust::of_cantrip(source, user.home, user.env)?;
    (user.trust)(source.file, &statement)?;
    Ok(statement)
}

/// Reads a cantrip file with some values changed.
///
/// # Errors
/// The first thing that is wrong; where something was changed, its line is that of the file as it was written anew.
pub(super) fn load_changed(file: &Path, changes: &[Change], around: &Around<'_>) -> Result<Cantrip, FileError> {
    if changes.is_empty() {
        return load(file, around, false);
    }
    let text = read_toml(file)?;
    let source = Source::closing(file, &text, around.user.closed);
    let mut table: toml::Table = parse(&source)?;
    let before = judge(&source, &around.user)?;
    for change in changes {
        change.apply(&mut table).map_err(|what| source.wrong(0, change.key(), what))?;
    }
    let text = toml::to_string(&table).map_err(|error| source.wrong(0, "", error.to_string()))?;
    let source = Source::closing(file, &text, around.user.closed);
    let parsed = parse(&source)?;
    // A change is the user's own word. Where a key goes is made of several values, though, and some are still the file's.
    let after = trust::of_cantrip(&source, around.user.home, around.user.env)?;
    let more = after.of_models().beyond(&before);
    (around.user.trust)(file, &more)?;
    build(parsed, &source, folder_of(file), around, false)
}

/// The models that a workspace's file names; its other tables are none of this one's business.
#[derive(Debug, Deserialize)]
struct ModelTables {
    llm: Option<Spanned<ModelEntry>>,
    #[serde(default)]
    models: BTreeMap<String, Spanned<ModelEntry>>,
    #[serde(default)]
    children: Children,
}

/// Adds the models that a workspace's file names or defines to a cantrip. Says whether the file names one
/// for the cantrip itself; it is taken where one is `needed`. Only what it says of models is used, and so only that is judged.
///
/// # Errors
/// A file that cannot be read, a table that is wrong, or models that reach further than they are trusted to.
pub(super) fn add_models(
    mut builder: CantripBuilder,
    file: &Path,
    needed: bool,
    user: &UserSide<'_>,
) -> Result<(CantripBuilder, bool), FileError> {
    let text = read_toml(file)?;
    let source = Source::new(file, &text);
    let tables: ModelTables = parse(&source)?;
    let statement = trust::of_cantrip(&source, user.home, user.env)?.of_models();
    (user.trust)(file, &statement)?;
    match &tables.llm {
        Some(entry) if needed => {
            let chosen = entry::model("llm", entry, &source, user)?;
            builder = builder.llm(chosen.llm).retry(chosen.retry);
        }
        _ => {}
    }
    for (name, entry) in &tables.models {
        builder = builder.model(name.clone(), entry::model(&format!("models.{name}"), entry, &source, user)?.llm);
    }
    let builder = entry::child_models(builder, &tables.models, tables.children, user)?;
    Ok((builder, tables.llm.is_some()))
}

/// Reads a file that a person wrote, up to a bound. What is no file, such as a pipe, is not waited for.
pub(super) fn read_toml(file: &Path) -> Result<String, FileError> {
    reading::text(file, CANTRIP_FILE_BYTES_MAX).map_err(|source| {
        let file = file.to_owned();
        if source.kind() == std::io::ErrorKind::FileTooLarge {
            FileError::Size { file, source }
        } else {
            FileError::Read { file, source }
        }
    })
}

/// Parses a file of ours; what the parser refuses is named with its place.
pub(super) fn parse<T: serde::de::DeserializeOwned>(source: &Source<'_>) -> Result<T, FileError> {
    toml::from_str(source.text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        source.wrong(offset, key_at(source.text, offset), error.message().replace('\n', " "))
    })
}

/// What relative paths in a file are relative to.
pub(super) fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The table that an offset lies in, for errors of the parser.
pub(super) fn key_at(text: &str, offset: usize) -> String {
    let before = text.get(..offset.min(text.len())).unwrap_or_default();
    let line_end = text.get(offset..).and_then(|rest| rest.find('\n')).map_or(text.len(), |end| offset + end);
    let line = text.get(before.rfind('\n').map_or(0, |start| start + 1)..line_end).unwrap_or_default().trim();
    let table = before.lines().rev().map(str::trim).find(|line| line.starts_with('['));
    let key = line.split('=').next().unwrap_or_default().trim().trim_matches(['[', ']']).to_owned();
    match table.map(|table| table.trim_matches(['[', ']'])) {
        Some(table) if !key.is_empty() && !line.starts_with('[') => format!("{table}.{key}"),
        Some(table) if key.is_empty() => table.to_owned(),
        _ => key,
    }
}

fn build(
    parsed: CantripFile,
    source: &Source<'_>,
    folder: &Path,
    around: &Around<'_>,
    strict: bool,
) -> Result<Cantrip, FileError> {
    let mut builder = Cantrip::builder();
    if let Some(chosen) = entry::own_model(parsed.llm.as_ref(), parsed.guest.is_some(), source, &around.user)? {
        builder = builder.llm(chosen.llm).retry(chosen.retry);
    }
    for (name, table) in &parsed.models {
        let chosen = entry::model(&format!("models.{name}"), table, source, &around.user)?;
        builder = builder.model(name.clone(), chosen.llm);
    }
    builder = entry::child_models(builder, &parsed.models, parsed.children, &around.user)?;
    let identity = parsed.identity;
    if let Some(prompt) = identity.system_prompt {
        builder = builder.system_prompt(prompt);
    }
    if let Some(choice) = identity.tool_choice {
        builder = builder.tool_choice(choice);
    }
    builder = builder
        .sampling(Sampling {
            temperature: identity.temperature,
            top_p: identity.top_p,
            max_output_tokens: identity.max_output_tokens,
            reasoning_effort: identity.reasoning_effort,
        })
        .folding(parsed.folding)
        .snapshots(parsed.snapshot);
    let circle_at = parsed.circle.span().start;
    let circle = parsed.circle.into_inner();
    let guest = |at: usize, key: &str, reference: &str, is_medium: bool| {
        let guest = (around.guest)(reference, folder).map_err(|error| source.wrong(at, key, chain(&error)))?;
        let shape = guest.manifest().shape;
        if (shape == Shape::Medium) != is_medium {
            return Err(source.wrong(at, key, misplaced(reference, shape)));
        }
        Ok(guest)
    };
    if let Some(table) = &parsed.guest {
        builder = builder.guest(guest(table.span().start, "guest.component", &table.get_ref().component, false)?);
    }
    match circle.medium.as_ref().map(|medium| (medium.span().start, medium.get_ref())) {
        None => {}
        Some((_, MediumEntry::Name(name))) => builder = builder.medium(name.clone()),
        Some((at, MediumEntry::Guest(_))) if parsed.guest.is_some() => {
            return Err(source.wrong(
                at,
                "circle.medium",
                "a guest cantrip has no medium: leave this out, or `[guest]`",
            ));
        }
        Some((at, MediumEntry::Guest(entry))) => {
            builder = builder.guest(guest(at, "circle.medium.guest", &entry.guest, true)?);
        }
    }
    let wards_at = circle.wards.as_ref().map_or(circle_at, |wards| wards.span().start);
    builder = builder.wards(&wards("circle.wards", circle.wards, source)?);
    let gates_at = circle.gates.as_ref().map_or(circle_at, |gates| gates.span().start);
    let medium_at = circle.medium.as_ref().map_or(circle_at, |medium| medium.span().start);
    let held = held_gates(circle.gates, source)?;
    for (name, table) in &parsed.gate {
        if !builtin::NAMES.contains(&name.get_ref().as_str()) {
            return Err(unknown_gate(source, name.span().start, &format!("gate.{}", name.get_ref()), name.get_ref()));
        }
        let gate = equip(name.get_ref(), Some(table), source, folder, table.span().start)?;
        builder = if held.iter().any(|held| held.name == *name.get_ref()) {
            builder.gate(gate)
        } else {
            builder.gate_for_children(gate)
        };
    }
    for HeldGate { offset: at, name, .. } in &held {
        if parsed.gate.keys().any(|table| table.get_ref() == name) {
            continue;
        }
        builder = if builtin::RUN_BY_THE_RUNTIME.contains(&name.as_str()) {
            builder.hold(name.clone())
        } else {
            builder.gate(equip(name, None, source, folder, *at)?)
        };
    }
    if strict {
        builder = builder.strict();
    }
    builder.build(around.media).map_err(|error| {
        let (at, key) = match &error {
            CantripError::NoLlm | CantripError::NoLlmForGate(_) => (0, "llm"),
            CantripError::Circle(CircleError::NoTruncation | CircleError::Zero(_)) | CantripError::Ward(_) => {
                (wards_at, "circle.wards")
            }
            CantripError::Circle(
                CircleError::SeveralMedia(_) | CircleError::NoMedium(_) | CircleError::UnknownMedium { .. },
            ) => (medium_at, "circle.medium"),
            CantripError::Circle(
                CircleError::RequiredDone
                | CircleError::NoDone
                | CircleError::TooMany(_)
                | CircleError::Duplicate(_)
                | CircleError::Elsewhere(_)
                | CircleError::Gate { .. },
            )
            | CantripError::Gates(_)
            | CantripError::Guest(_)
            | CantripError::GuestUnusable(_)
            | CantripError::UnknownGate { .. } => (gates_at, "circle.gates"),
            CantripError::UnknownModel { .. } => (0, "children"),
        };
        source.wrong(at, key, chain(&error))
    })
}

/// An error with its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}

fn misplaced(reference: &str, shape: Shape) -> String {
    let place = if shape == Shape::Medium {
        "`medium = { guest = \"…\" }` in [circle]"
    } else {
        "`[guest] component = \"…\"`"
    };
    format!("{reference} is a guest of the world `{}`: it belongs into {place}", shape.world())
}

/// A table of wards, with the places of its keys.
pub(super) type WardsTable = Spanned<BTreeMap<Spanned<String>, Spanned<toml::Value>>>;

pub(super) fn wards(key: &str, table: Option<WardsTable>, source: &Source<'_>) -> Result<Wards, FileError> {
    let mut sum = Wards::default();
    for (name, value) in table.map(Spanned::into_inner).unwrap_or_default() {
        let at = name.span().start;
        let wrong = |what: String| source.wrong(at, format!("{key}.{}", name.get_ref()), what);
        let json = serde_json::to_value(value.get_ref()).map_err(|error| wrong(error.to_string()))?;
        let one = serde_json::Value::Object(std::iter::once((name.get_ref().clone(), json)).collect());
        sum = sum.meet(&Wards::from_value(&one).map_err(|error| wrong(error.to_string()))?);
    }
    Ok(sum)
}

/// A gate of the circle, where it is in the file, and where its calls run when the cantrip is cast on another node.
struct HeldGate {
    offset: usize,
    name: String,
    place: At,
}

fn held_gates(
    entries: Option<Spanned<Vec<Spanned<GateEntry>>>>,
    source: &Source<'_>,
) -> Result<Vec<HeldGate>, FileError> {
    let mut held: Vec<HeldGate> = Vec::new();
    for entry in entries.map(Spanned::into_inner).unwrap_or_default() {
        let at = entry.span().start;
        let (name, place) = match entry.into_inner() {
            GateEntry::Name(name) => (name, At::Host),
            GateEntry::Table(table) => {
                if table.ask {
                    return Err(source.wrong(
                        at,
                        "circle.gates",
                        "ask = true: asking a person before a call is not available in this version",
                    ));
                }
                (table.name, table.at)
            }
        };
        if !builtin::NAMES.contains(&name.as_str()) {
            return Err(unknown_gate(source, at, "circle.gates", &name));
        }
        if held.iter().any(|other| other.name == name) {
            return Err(source.wrong(at, "circle.gates", format!("the gate `{name}` is there twice")));
        }
        held.push(HeldGate { offset: at, name, place });
    }
    Ok(held)
}

pub(super) fn unknown_gate(source: &Source<'_>, at: usize, key: &str, name: &str) -> FileError {
    let known = builtin::NAMES.join(", ");
    source.wrong(
        at,
        key,
        format!("there is no gate `{name}`; there are {known}{}", suggest::hint(name, builtin::NAMES.iter().copied())),
    )
}

/// Opens the root of a gate, without what no gate opens. What gates write there is the user's, and made as the user's mask says.
pub(super) fn open_root(path: &Path, closed: &[PathBuf]) -> Result<Root, RootError> {
    let root = Root::open(path)?.excluding(closed)?;
    Ok(match private::users_umask() {
        Some(umask) => root.under_umask(umask),
        None => root,
    })
}

/// Something that a gate may expose beyond what its kind does.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Exposes {
    /// Its results can hold data that is not for everyone.
    Private,
    /// Its results can hold text written by strangers.
    Untrusted,
    /// Its arguments can leave the machine.
    Outbound,
}

impl Exposes {
    fn exposure(self) -> Exposure {
        match self {
            Self::Private => Exposure { private: true, ..Exposure::default() },
            Self::Untrusted => Exposure { untrusted: true, ..Exposure::default() },
            Self::Outbound => Exposure { outbound: true, ..Exposure::default() },
        }
    }
}

/// Constructs a gate with its dependencies (CIRCLE-10), and with what its author says that it exposes.
pub(super) fn equip(
    name: &str,
    table: Option<&Spanned<toml::Table>>,
    source: &Source<'_>,
    folder: &Path,
    at: usize,
) -> Result<Arc<dyn Gate>, FileError> {
    let mut settings = table.map(|table| table.get_ref().clone());
    let exposes = settings.as_mut().and_then(|table| table.remove("exposes"));
    let gate = equip_with(name, settings, source, folder, at)?;
    let Some(exposes) = exposes else { return Ok(gate) };
    let exposes: Vec<Exposes> = exposes.try_into().map_err(|error: toml::de::Error| {
        source.wrong(at, format!("gate.{name}.exposes"), error.message().to_owned())
    })?;
    Ok(exposing(gate, exposes.into_iter().map(Exposes::exposure).fold(Exposure::default(), Exposure::union)))
}

fn equip_with(
    name: &str,
    table: Option<toml::Table>,
    source: &Source<'_>,
    folder: &Path,
    at: usize,
) -> Result<Arc<dyn Gate>, FileError> {
    let key = format!("gate.{name}");
    let wrong = |what: String| source.wrong(at, key.clone(), what);
    let no_settings = |gate: Arc<dyn Gate>| match &table {
        Some(table) if !table.is_empty() => Err(wrong("this gate has no settings but `exposes`".to_owned())),
        _ => Ok(gate),
    };
    let settings = || {
        let missing = || wrong(format!("the gate `{name}` needs a folder: add `[gate.{name}]` with `root = \"…\"`"));
        table.clone().ok_or_else(missing)
    };
    let unread = |error: toml::de::Error| wrong(error.message().to_owned());
    let opened = |root: &str| {
        open_root(&folder.join(root), source.closed)
            .map_err(|error| source.wrong(at, format!("{key}.root"), error.to_string()))
    };
    let root = || -> Result<Root, FileError> {
        let table: RootTable = settings()?.try_into().map_err(unread)?;
        opened(&table.root)
    };
    let writing_root = || -> Result<Root, FileError> {
        let table: WritingRootTable = settings()?.try_into().map_err(unread)?;
        table.allow_names.iter().try_fold(opened(&table.root)?, |root, name| {
            root.allowing(name).map_err(|error| source.wrong(at, format!("{key}.allow_names"), error.to_string()))
        })
    };
    match name {
        "done" => no_settings(builtin::done()),
        "echo" => no_settings(builtin::echo()),
        "read_file" => Ok(builtin::read_file(root()?)),
        "list_dir" => Ok(builtin::list_dir(root()?)),
        "search" => Ok(builtin::search(root()?)),
        "write_file" => Ok(builtin::write_file(writing_root()?)),
        "http_fetch" => {
            let Some(table) = table else {
                return Err(wrong(
                    "the gate `http_fetch` needs to know where to: add `[gate.http_fetch]` with `hosts = [\"…\"]`"
                        .to_owned(),
                ));
            };
            let policy: HttpPolicy =
                table.try_into().map_err(|error: toml::de::Error| wrong(error.message().to_owned()))?;
            builtin::http_fetch(policy).map_err(|error| wrong(chain(&error)))
        }
        other => Err(wrong(format!("the gate `{other}` takes no settings"))),
    }
}
