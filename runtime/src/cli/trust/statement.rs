//! What a file reaches beyond itself, told from its text before anything of it is read, opened or sent.
//!
//! Owns the kinds of reach, which of them need no trust because they stay within the file's project, and their words. It
//! opens nothing and reads no variable but those that move a provider's address.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cantrip_gates::HttpPolicy;
use serde::{Deserialize, Serialize};

use crate::adapters::llm::{self, LlmConfig};
use crate::cli::file::{FileError, ModelEntry, Source, folder_of, parse};
use crate::cli::output::visible_line;
use crate::cli::settings::is_guest_file;
use crate::domain::limits::{REACHES_MAX, STATEMENT_BYTES_MAX};

/// What marks the top of a project: what version control keeps there, or a file of that name where there is none.
const MARKERS: [&str; 6] = [".git", ".hg", ".svn", ".jj", "_darcs", ".cantrip-root"];
/// Methods that a gate for HTTP has by itself.
const METHODS: [&str; 2] = ["GET", "HEAD"];
/// Ports that it has by itself.
const PORTS: [u16; 2] = [443, 80];

/// One thing that a file reaches beyond itself. Paths are whole and without links.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Reach {
    /// The value of a variable goes to an address, with what a model is asked.
    Key {
        /// The variable.
        variable: String,
        /// Where to.
        address: String,
    },
    /// What a model is asked goes to an address.
    Model {
        /// Where to.
        address: String,
    },
    /// Requests go to a host.
    Host {
        /// The pattern.
        host: String,
    },
    /// Requests go to addresses that are not public.
    Private {
        /// The host, address or range.
        address: String,
    },
    /// Requests go to another port than those of the web.
    Port {
        /// The port.
        port: u16,
    },
    /// Requests that may change something.
    Method {
        /// The method.
        method: String,
    },
    /// A header goes with each request.
    Header {
        /// Its name.
        name: String,
    },
    /// Files outside of the project are read.
    Reads {
        /// The folder.
        folder: String,
    },
    /// Files outside of the project are written.
    Writes {
        /// The folder.
        folder: String,
    },
    /// Files are written that other programs obey.
    WritesName {
        /// The name.
        name: String,
    },
    /// The answers of a script outside of the project.
    Script {
        /// The file.
        file: String,
    },
    /// A component outside of the project.
    Guest {
        /// The file.
        file: String,
    },
    /// A node takes connections.
    Listens {
        /// At this address.
        address: String,
    },
    /// A peer of a node.
    Peer {
        /// Its name.
        name: String,
        /// Where it is.
        address: String,
        /// What it may do, sorted.
        may: Vec<String>,
    },
    /// A file or folder that a node uses outside of the project.
    Uses {
        /// The path.
        path: String,
    },
}

impl Reach {
    /// Whether it has to do with models.
    pub(in crate::cli) const fn is_of_models(&self) -> bool {
        matches!(self, Self::Key { .. } | Self::Model { .. } | Self::Script { .. })
    }

    /// Whether what is trusted covers it: it is the same, or a folder below one.
    fn is_within(&self, trusted: &Self) -> bool {
        match (self, trusted) {
            (Self::Reads { folder }, Self::Reads { folder: wider })
            | (Self::Writes { folder }, Self::Writes { folder: wider }) => Path::new(folder).starts_with(wider),
            _ => self == trusted,
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Self::Key { variable, address } => {
                format!("sends the value of the variable {variable}, and what its model is asked, to {address}")
            }
            Self::Model { address } => format!("sends what its model is asked to {address}"),
            Self::Host { host } if host == "*" => "sends requests to any host".to_owned(),
            Self::Host { host } => format!("sends requests to {host}"),
            Self::Private { address } => {
                format!("sends requests to {address}, even where that is not a public address")
            }
            Self::Port { port } => format!("sends requests to port {port} of its hosts"),
            Self::Method { method } => format!("sends {method} requests, which may change something there"),
            Self::Header { name } => format!("sends a header {name} of its own with requests"),
            Self::Reads { folder } => format!("lets its entity read what is in {folder}"),
            Self::Writes { folder } => format!("lets its entity write into {folder}"),
            Self::WritesName { name } => format!("lets its entity write {name}, which other programs obey"),
            Self::Script { file } => format!("reads the answers of its model from {file}"),
            Self::Guest { file } => format!("runs the component {file}, in the sandbox"),
            Self::Listens { address } => format!("takes connections at {address}"),
            Self::Peer { name, address, may } if may.is_empty() => format!("knows the peer {name} at {address}"),
            Self::Peer { name, address, may } => format!("lets the peer {name} at {address} {}", may.join(", ")),
            Self::Uses { path } => format!("uses {path}"),
        };
        out.write_str(&visible_line(&words))
    }
}

/// Everything that a file reaches beyond itself. An empty statement needs no trust.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Statement(pub(super) BTreeSet<Reach>);

impl Statement {
    /// Whether the file stays within itself.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One by one, in an order that stays.
    pub fn iter(&self) -> impl Iterator<Item = &Reach> {
        self.0.iter()
    }

    /// Says how it is more than a person reads before saying yes; nothing where it is not.
    pub(super) fn is_more_than_is_read(&self) -> Option<String> {
        let bytes = self.iter().map(|reach| reach.to_string().len()).fold(0, usize::saturating_add);
        let (count, unit, most) = match (self.0.len(), bytes) {
            (count, _) if count > REACHES_MAX => (count, "things", REACHES_MAX),
            (_, bytes) if bytes > STATEMENT_BYTES_MAX => (bytes, "bytes of words", STATEMENT_BYTES_MAX),
            _ => return None,
        };
        Some(format!(
            "what it reaches beyond its own project is {count} {unit}, which is more than a person reads; at most {most} can be \
             trusted: shorten it, or split it into several files"
        ))
    }

    /// What is not covered by what is trusted.
    pub(in crate::cli) fn beyond(&self, trusted: &Self) -> Self {
        let is_covered = |reach: &&Reach| trusted.iter().any(|trusted| reach.is_within(trusted));
        Self(self.iter().filter(|reach| !is_covered(reach)).cloned().collect())
    }

    /// Only what has to do with models.
    pub(in crate::cli) fn of_models(&self) -> Self {
        Self(self.iter().filter(|reach| reach.is_of_models()).cloned().collect())
    }

    pub(super) fn join(&mut self, other: &Self) {
        self.0.extend(other.iter().cloned());
    }

    /// The variables that it would read.
    pub(in crate::cli) fn variables(&self) -> BTreeSet<String> {
        let variable = |reach: &Reach| match reach {
            Reach::Key { variable, .. } => Some(variable.clone()),
            Reach::Model { .. }
            | Reach::Host { .. }
            | Reach::Private { .. }
            | Reach::Port { .. }
            | Reach::Method { .. }
            | Reach::Header { .. }
            | Reach::Reads { .. }
            | Reach::Writes { .. }
            | Reach::WritesName { .. }
            | Reach::Script { .. }
            | Reach::Guest { .. }
            | Reach::Listens { .. }
            | Reach::Peer { .. }
            | Reach::Uses { .. } => None,
        };
        self.iter().filter_map(variable).collect()
    }
}

/// The project that a file belongs to: what of the machine it may use without being asked about.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Project {
    /// Nearest folder above with version control, else the file's own; links resolved.
    top: PathBuf,
    /// Whether that is the home folder or above: then it is no project, and every root is outside of it.
    is_home: bool,
}

impl Project {
    pub(in crate::cli) fn of(file: &Path, home: Option<&Path>) -> Self {
        let folder = resolved(folder_of(file));
        let is_marked = |folder: &&Path| {
            MARKERS.iter().any(|marker| folder.join(marker).symlink_metadata().is_ok()) && !is_everybodys(folder)
        };
        let top = folder.ancestors().find(is_marked).unwrap_or(&folder).to_owned();
        let is_home = home.is_none_or(|home| resolved(home).starts_with(&top));
        Self { top, is_home }
    }

    /// Whether a root lies in it.
    fn holds_root(&self, path: &Path) -> bool {
        !self.is_home && path.starts_with(&self.top)
    }

    /// Whether a file that is read by the runtime itself lies in it: beside a file in the home folder, too.
    pub(in crate::cli) fn holds_file(&self, path: &Path) -> bool {
        path.starts_with(&self.top)
    }

    /// Whether a folder of the user's own lies in it, where it is a project of somebody.
    pub(super) fn swallows(&self, folder: &Path) -> bool {
        !self.is_home && resolved(folder).starts_with(&self.top)
    }
}

/// Whether everybody may put files there: then a marker there is nobody's word, as in `/tmp`.
fn is_everybodys(folder: &Path) -> bool {
    folder.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o002 != 0)
}

/// A path without links. Of what is not there, the part that is.
pub(in crate::cli) fn resolved(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut missing: Vec<std::ffi::OsString> = Vec::new();
    let mut at = whole.as_path();
    loop {
        if let Ok(found) = at.canonicalize() {
            return missing.iter().rev().fold(found, |path, name| path.join(name));
        }
        // Where `..` leads behind what is not there cannot be told: it is taken to lead everywhere.
        let (Some(above), Some(name)) = (at.parent(), at.file_name()) else { return PathBuf::from("/") };
        missing.push(name.to_owned());
        at = above;
    }
}

/// A path as it is compared and written down.
fn written(path: &Path) -> String {
    path.to_str().map_or_else(|| format!("\"{}\"", path.as_os_str().as_encoded_bytes().escape_ascii()), str::to_owned)
}

/// Collects what a file reaches.
pub(in crate::cli) struct Reaching<'a> {
    folder: &'a Path,
    project: Project,
    env: &'a dyn Fn(&str) -> Option<String>,
    found: BTreeSet<Reach>,
}

impl<'a> Reaching<'a> {
    pub(in crate::cli) fn new(file: &'a Path, home: Option<&Path>, env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { folder: folder_of(file), project: Project::of(file, home), env, found: BTreeSet::new() }
    }

    pub(in crate::cli) fn end(self) -> Statement {
        Statement(self.found)
    }

    pub(in crate::cli) fn add(&mut self, reach: Reach) {
        self.found.insert(reach);
    }

    /// A model: where its questions go, and with which key.
    pub(in crate::cli) fn model(&mut self, config: &LlmConfig) {
        if let Some(path) = &config.path {
            self.outside(path, |file| Reach::Script { file });
        }
        let Some(to) = llm::destination(config, self.env) else { return };
        let is_its_own = to.is_own_address && to.are_own_variables;
        if is_its_own {
            return;
        }
        let address = to.address;
        if to.variables.is_empty() && !to.is_loopback {
            self.add(Reach::Model { address });
        } else {
            for variable in to.variables {
                self.add(Reach::Key { variable, address: address.clone() });
            }
        }
    }

    /// A component that is named by its file.
    pub(in crate::cli) fn guest(&mut self, reference: &str) {
        if is_guest_file(reference) {
            self.outside(reference, |file| Reach::Guest { file });
        }
    }

    /// A file that the runtime itself uses.
    pub(in crate::cli) fn uses(&mut self, path: &str) {
        self.outside(path, |path| Reach::Uses { path });
    }

    fn outside(&mut self, path: &str, reach: impl Fn(String) -> Reach) {
        let path = resolved(&self.folder.join(path));
        if !self.project.holds_file(&path) {
            self.add(reach(written(&path)));
        }
    }

    /// A gate's table.
    pub(in crate::cli) fn gate(&mut self, name: &str, table: &toml::Table) {
        let writes = name == "write_file";
        if let Some(root) = table.get("root").and_then(toml::Value::as_str) {
            let path = resolved(&self.folder.join(root));
            if !self.project.holds_root(&path) {
                let folder = written(&path);
                self.add(if writes { Reach::Writes { folder } } else { Reach::Reads { folder } });
            }
        }
        let names = table.get("allow_names").and_then(toml::Value::as_array);
        for name in names.into_iter().flatten().filter_map(toml::Value::as_str) {
            self.add(Reach::WritesName { name: name.to_owned() });
        }
        if name == "http_fetch"
            && let Ok(policy) = table.clone().try_into::<HttpPolicy>()
        {
            self.http(&policy);
        }
    }

    fn http(&mut self, policy: &HttpPolicy) {
        let hosts = serde_json::to_value(&policy.hosts).ok();
        for host in hosts.iter().filter_map(serde_json::Value::as_array).flatten().filter_map(serde_json::Value::as_str)
        {
            self.add(Reach::Host { host: host.to_owned() });
        }
        for address in &policy.private_addresses {
            self.add(Reach::Private { address: address.to_string() });
        }
        for method in policy.methods.iter().filter(|method| !METHODS.contains(&method.as_str())) {
            self.add(Reach::Method { method: method.clone() });
        }
        for &port in policy.ports.iter().filter(|port| !PORTS.contains(port)) {
            self.add(Reach::Port { port });
        }
        for (host, name) in policy.headers.names() {
            let name = name.to_ascii_lowercase();
            let name = host.map_or(name.clone(), |host| format!("{name} for {host}"));
            self.add(Reach::Header { name });
        }
    }
}

/// The tables of a cantrip file that can reach beyond it; the others are none of this one's business. What the file may hold
/// besides is judged where it is used.
#[derive(Debug, Deserialize)]
struct Tables {
    llm: Option<ModelEntry>,
    #[serde(default)]
    models: BTreeMap<String, ModelEntry>,
    guest: Option<toml::Table>,
    circle: Option<toml::Table>,
    #[serde(default)]
    gate: BTreeMap<String, toml::Table>,
}

/// What a cantrip file, or a workspace's, reaches.
pub(in crate::cli) fn of_cantrip(
    source: &Source<'_>,
    home: Option<&Path>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Statement, FileError> {
    let tables: Tables = parse(source)?;
    let mut reaching = Reaching::new(source.file, home, env);
    for entry in tables.llm.iter().chain(tables.models.values()) {
        match entry {
            ModelEntry::Table(config) => reaching.model(config),
            ModelEntry::Named(_) => {}
        }
    }
    let component = tables.guest.as_ref().and_then(|guest| guest.get("component"));
    let medium = tables.circle.as_ref().and_then(|circle| circle.get("medium")).and_then(|medium| medium.get("guest"));
    for reference in component.into_iter().chain(medium).filter_map(toml::Value::as_str) {
        reaching.guest(reference);
    }
    for (name, table) in &tables.gate {
        reaching.gate(name, table);
    }
    Ok(reaching.end())
}
