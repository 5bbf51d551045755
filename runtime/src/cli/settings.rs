//! Flags and environment, folded into one value. The environment is read here and nowhere else.
#![expect(clippy::disallowed_methods, reason = "this is where the environment is read")]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tracing_subscriber::EnvFilter;

use crate::adapters::clock::SystemClock;
use crate::adapters::store::{FjallStore, MemoryStore, ReadingStore, StoreOptions, replace_file};
use crate::adapters::wasm::{Guests, Javascript, Sandbox, Shelf, ShelfError, read_guest_file};
use crate::adapters::{private, reading};
use crate::domain::copies::LOCAL;
use crate::domain::ids::{LoomId, WriterKey};
use crate::domain::limits::{GUEST_NAME_CHARS_MAX, INSTANCES_MAX_DEFAULT, NOTE_BYTES_MAX};
use crate::driver::{Cantrip, RemoteCantrip, Runtime};
use crate::ports::{Guest, LoomStore, MediumFactory, StoreError};

use super::config::{ChosenModel, ConfigPlace, UserConfig};
use super::exit::{CliError, Exit};
use super::file::{self, UserSide};
use super::output::{self, LogLines};
use super::trust::{self, Statement, StoreError as TrustError, TrustStore};

/// The home folder of this process.
pub(super) fn home() -> Option<&'static Path> {
    static HOME: OnceLock<Option<PathBuf>> = OnceLock::new();
    HOME.get_or_init(|| directories::BaseDirs::new().map(|dirs| dirs.home_dir().to_owned())).as_deref()
}

/// Where the record is kept, unless somebody says otherwise.
fn platform_data() -> Option<PathBuf> {
    directories::ProjectDirs::from("", "", "cantrip-runtime").map(|dirs| dirs.data_dir().to_owned())
}

/// What every command works with.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    data: PathBuf,
    /// Where the user's configuration is.
    place: Option<ConfigPlace>,
    /// More that no gate opens: what a node keeps elsewhere.
    closed: Vec<PathBuf>,
}

impl Settings {
    pub(super) fn new(data: Option<PathBuf>) -> Result<Self, CliError> {
        let data = data.or_else(platform_data).ok_or_else(|| {
            CliError::usage(anyhow::anyhow!("there is no home folder to keep the record in"))
                .hint("name a folder with --data or CANTRIP_DATA")
        })?;
        let place = ConfigPlace::find(&Self::env, home()).map_err(CliError::usage)?;
        Ok(Self { data, place, closed: Vec::new() })
    }

    /// The same, with more that no gate opens.
    pub(super) fn closing(mut self, more: impl IntoIterator<Item = PathBuf>) -> Self {
        self.closed.extend(more);
        self
    }

    /// Where the user's configuration is; nothing without a home.
    pub(super) fn place(&self) -> Option<&ConfigPlace> {
        self.place.as_ref()
    }

    /// The user's own configuration.
    pub(super) fn config(&self) -> Result<UserConfig, CliError> {
        self.place
            .as_ref()
            .map_or_else(|| Ok(UserConfig::default()), |place| UserConfig::load(&place.config))
            .map_err(CliError::file)
    }

    /// What the user trusts.
    pub(super) fn trust_store(&self) -> Result<TrustStore, TrustError> {
        self.place.as_ref().map(|place| TrustStore::at(place.trust())).ok_or(TrustError::Nowhere)
    }

    /// The home folder.
    #[expect(clippy::unused_self, reason = "part of what a command works with")]
    pub(super) fn home(&self) -> Option<&'static Path> {
        home()
    }

    /// What no gate opens, wherever its root is: configuration, trust, records.
    pub(super) fn closed(&self) -> Vec<PathBuf> {
        let places = self.place.iter().flat_map(ConfigPlace::closed);
        let all =
            std::iter::once(self.data.clone()).chain(platform_data()).chain(places).chain(self.closed.iter().cloned());
        all.map(|path| std::path::absolute(&path).unwrap_or(path)).collect()
    }

    /// Reads files for somebody: with the user's models, what is trusted, and what no gate opens.
    pub(super) fn for_user<T>(
        &self,
        llm: Option<&ChosenModel>,
        read: impl FnOnce(&UserSide<'_>) -> Result<T, file::FileError>,
    ) -> Result<T, CliError> {
        let (config, closed) = (self.config()?, self.closed());
        let judge = |file: &Path, statement: &Statement| trust::judge(self, file, statement);
        let user = UserSide { config: Some(&config), llm, trust: &judge, closed: &closed, ..UserSide::new(&Self::env) };
        read(&user).map_err(CliError::file)
    }

    /// Looks at the data folder before anything in it is read or written: it is closed to others, a shared one is left for a
    /// private one within it, and another user's is refused. Says what a person should hear.
    pub(super) fn look_at_data(&mut self) -> Result<Option<String>, CliError> {
        let found = private::data_folder(&self.data).map_err(|error| {
            let hint = error.advice();
            CliError::fault(error).hint(hint)
        })?;
        self.data = found.folder;
        Ok(found.notice)
    }

    /// Sends logs to stderr. Left out are the bodies of providers, which can hold what nobody wants in a log, and a line for each
    /// connection that HTTP/2 itself ends: peers could fill a disk with them.
    pub(super) fn log() {
        let words = std::env::var("CANTRIP_LOG").unwrap_or_else(|_| "warn".to_owned());
        let filter = EnvFilter::new(format!("{words},genai=off,h2=error"));
        let subscriber =
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| LogLines).with_target(false).finish();
        // A second subscriber, in a program that embeds the command line, is that program's affair.
        let _already = tracing::subscriber::set_global_default(subscriber);
    }

    /// Whether talk is coloured.
    pub(super) fn has_colour() -> bool {
        output::has_colour(&Self::env)
    }

    pub(super) fn env(name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    pub(super) fn artefacts(&self) -> PathBuf {
        self.data.join("artefacts")
    }

    fn loom_folder(&self) -> PathBuf {
        self.data.join("loom")
    }

    /// The record, for writing. One process at a time has it.
    pub(super) fn store(&self) -> Result<Arc<FjallStore>, CliError> {
        FjallStore::open(&self.loom_folder(), StoreOptions::default()).map_err(|error| store_error(error, &self.data))
    }

    /// The record, for reading: also while another process writes.
    pub(super) fn reading(&self) -> Result<Arc<dyn LoomStore>, CliError> {
        self.reading_copies().map(|store| store as _)
    }

    /// The same, with the logs of others that are kept in it.
    pub(super) fn reading_copies(&self) -> Result<Arc<ReadingStore>, CliError> {
        let folder = self.loom_folder();
        if !self.has_record()? {
            return Err(CliError::usage(anyhow::anyhow!("there is no record in {}", folder.display()))
                .hint("`cantrip-runtime cast` makes one"));
        }
        FjallStore::open_reading(&folder).map_err(|error| store_error(error, &self.data))
    }

    /// Whether there is a record. A folder that cannot be looked into is an error, and not an empty one.
    pub(super) fn has_record(&self) -> Result<bool, CliError> {
        let folder = self.loom_folder();
        folder.try_exists().map_err(|error| {
            CliError::fault(anyhow::Error::new(error).context(format!("{} cannot be looked into", folder.display())))
                .hint("run it as the user that the folder belongs to, or name another one: --data DIR")
        })
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.loom_folder()
    }

    /// The data directory.
    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    /// Whether that is where it is without anybody's word.
    pub(super) fn is_platform_data(&self) -> bool {
        platform_data().is_some_and(|platform| platform == self.data)
    }

    /// Where it is written down who keeps which loom.
    pub(super) fn copies(&self) -> PathBuf {
        self.data.join("copies")
    }

    /// The cantrip file that a loom was cast from, where that is known.
    pub(super) fn origin(&self, loom: LoomId) -> Option<PathBuf> {
        let text = reading::text(&self.data.join("origins").join(loom.to_string()), NOTE_BYTES_MAX).ok()?;
        Some(PathBuf::from(text.trim_end()))
    }

    /// Remembers the cantrip file that a loom was cast from: beside the record, because no entry names a machine's paths.
    pub(super) fn remember_origin(&self, loom: LoomId, cantrip: &Path) {
        let Ok(whole) = cantrip.canonicalize() else { return };
        let file = self.data.join("origins").join(loom.to_string());
        if let Err(error) = replace_file(&file, whole.display().to_string().as_bytes()) {
            tracing::warn!(%error, "the loom's cantrip file cannot be remembered");
        }
    }

    /// Where it is written down which Familiar belongs to which workspace.
    pub(super) fn familiars(&self) -> PathBuf {
        self.data.join("familiars")
    }

    /// Where guests are kept.
    pub(super) fn shelf(&self) -> Shelf {
        Shelf::new(self.data.join("guests"))
    }

    /// The sandbox of this process. Opens no record.
    pub(super) fn sandbox(&self) -> Result<Sandboxed, CliError> {
        let sandbox = Sandbox::new(INSTANCES_MAX_DEFAULT, Some(self.artefacts())).map_err(CliError::fault)?;
        Ok(Sandboxed {
            media: Arc::new(Javascript::new(Arc::clone(&sandbox))),
            guests: Guests::new(sandbox),
            shelf: self.shelf(),
            settings: self.clone(),
        })
    }

    pub(super) fn runtime(&self, sandboxed: &Sandboxed, scratch: bool) -> Result<Runtime, CliError> {
        let store: Arc<dyn LoomStore> =
            if scratch { MemoryStore::new(WriterKey::from_bytes([0; 32])) } else { self.store()? };
        Ok(Self::runtime_on(sandboxed, LOCAL, store))
    }

    /// A runtime on a record; `name` is its node's in there.
    pub(super) fn runtime_on(sandboxed: &Sandboxed, name: &str, store: Arc<dyn LoomStore>) -> Runtime {
        Runtime::new(store, sandboxed.media_shared(), Arc::new(SystemClock::default()), name)
    }

    /// Reads a cantrip file for another node: what is placed here is made, everything else is only named.
    pub(super) fn remote_cantrip(&self, path: &Path, llm: Option<&ChosenModel>) -> Result<RemoteCantrip, CliError> {
        let bytes = |reference: &str, folder: &Path| {
            if is_guest_file(reference) {
                let path = folder.join(reference);
                return Ok((guest_name(&path), read_guest_file(&path)?));
            }
            self.shelf().get(reference)
        };
        self.for_user(llm, |user| file::load_remote(path, &bytes, user))
    }

    /// A runtime that reads, and writes nothing.
    pub(super) fn reader(&self) -> Result<Runtime, CliError> {
        Ok(Runtime::new(self.reading()?, Arc::new(crate::embed::NoMedia), Arc::new(SystemClock::default()), LOCAL))
    }
}

/// What runs code nobody vouches for.
#[derive(Debug)]
pub(super) struct Sandboxed {
    media: Arc<Javascript>,
    pub(super) guests: Guests,
    pub(super) shelf: Shelf,
    settings: Settings,
}

/// A cantrip that was looked at and not trusted.
pub(super) struct LookedAt {
    pub(super) cantrip: Cantrip,
    /// What its file reaches.
    pub(super) reach: Statement,
    /// What of that is not trusted.
    pub(super) beyond: Statement,
}

impl Sandboxed {
    /// The media of this process.
    pub(super) fn media(&self) -> &dyn MediumFactory {
        &*self.media
    }

    /// The same, to be kept.
    pub(super) fn media_shared(&self) -> Arc<dyn MediumFactory> {
        Arc::clone(&self.media) as Arc<dyn MediumFactory>
    }

    /// Reads a cantrip file. Nothing of it runs. `llm` is asked in place of the file's model.
    pub(super) fn cantrip(&self, path: &Path, llm: Option<&ChosenModel>) -> Result<Cantrip, CliError> {
        let guest = |reference: &str, folder: &Path| self.guest(reference, folder);
        self.settings.for_user(llm, |user| {
            let around = file::Around { media: &*self.media, guest: &guest, user: *user };
            file::load(path, &around, false)
        })
    }

    /// Reads a cantrip file to say what it could do: nobody is asked, and a variable that it is not trusted with is not read.
    pub(super) fn look_at(&self, path: &Path, strict: bool) -> Result<LookedAt, CliError> {
        let guest = |reference: &str, folder: &Path| self.guest(reference, folder);
        let found = RefCell::new((Statement::default(), Statement::default()));
        let hidden = RefCell::new(BTreeSet::new());
        let judge = |file: &Path, statement: &Statement| {
            let beyond = if statement.is_empty() {
                Statement::default()
            } else {
                statement.beyond(&trust::trusted(&self.settings, file)?.1)
            };
            hidden.replace(beyond.variables());
            found.replace((statement.clone(), beyond));
            Ok(())
        };
        let env = |name: &str| {
            if hidden.borrow().contains(name) { Some("not-read".to_owned()) } else { Settings::env(name) }
        };
        let cantrip = self.settings.for_user(None, |user| {
            let user = UserSide { env: &env, trust: &judge, ..*user };
            file::load(path, &file::Around { media: &*self.media, guest: &guest, user }, strict)
        })?;
        let (reach, beyond) = found.into_inner();
        Ok(LookedAt { cantrip, reach, beyond })
    }

    /// The same with some values changed.
    pub(super) fn cantrip_with(&self, path: &Path, changes: &[file::Change]) -> Result<Cantrip, CliError> {
        let guest = |reference: &str, folder: &Path| self.guest(reference, folder);
        self.settings.for_user(None, |user| {
            file::load_changed(path, changes, &file::Around { media: &*self.media, guest: &guest, user: *user })
        })
    }

    /// A guest of the shelf.
    pub(super) fn kept_guest(&self, reference: &str) -> Result<Arc<dyn Guest>, CliError> {
        self.guest(reference, Path::new("."))
            .map_err(|error| CliError::usage(error).hint("`guests add FILE` keeps the component that the thread ran"))
    }

    /// A guest by its file, its name on the shelf, or its digest.
    fn guest(&self, reference: &str, folder: &Path) -> Result<Arc<dyn Guest>, ShelfError> {
        let (name, bytes) = if is_guest_file(reference) {
            let path = folder.join(reference);
            (guest_name(&path), read_guest_file(&path)?)
        } else {
            self.shelf.get(reference)?
        };
        Ok(self.guests.load(&name, bytes)?)
    }
}

/// Whether a guest is named by its file, and not by its name or digest.
pub(super) fn is_guest_file(reference: &str) -> bool {
    reference.contains('/') || Path::new(reference).extension().is_some_and(|it| it.eq_ignore_ascii_case("wasm"))
}

/// The name of a guest that comes from a file: the file's, as far as a name may be so.
pub(super) fn guest_name(path: &Path) -> String {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let fits = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' };
    let name: String = stem.chars().map(fits).take(GUEST_NAME_CHARS_MAX).collect();
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) { name } else { "guest".to_owned() }
}

pub(super) fn store_error(error: StoreError, data: &Path) -> CliError {
    let (exit, hint) = match &error {
        StoreError::Locked { .. } => {
            (Exit::Fault, Some("wait for the other process, or use another data directory: --data DIR; `--scratch` keeps the record in memory".to_owned()))
        }
        StoreError::Damaged { .. } | StoreError::Entry { .. } | StoreError::Blob { .. } => (
            Exit::Damaged,
            Some(format!("`cantrip-runtime loom verify` lists all that is damaged; put a copy of {} in its place, or go on in another one: --data DIR", data.display())),
        ),
        StoreError::Open { .. }
        | StoreError::Poisoned { .. }
        | StoreError::Read(_)
        | StoreError::Sequence { .. }
        | StoreError::Foreign { .. }
        | StoreError::Forked { .. }
        | StoreError::Cheater { .. }
        | StoreError::Attestation { .. }
        | StoreError::Unsigned { .. }
        | StoreError::Behind => (Exit::Fault, None),
    };
    CliError { exit, source: error.into(), hint }
}
