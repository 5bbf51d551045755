//! The user's own configuration file: models by name, and which of them is the default.
//!
//! Owns where that file is, and its keys. Every other file is data and is judged by `trust`; this one is the user's word. It is
//! `CANTRIP_CONFIG`, else `$XDG_CONFIG_HOME/cantrip/config.toml`, else `~/.config/cantrip/config.toml`.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use super::file::{FileError, Source, folder_of, parse, read_toml};
use crate::adapters::llm::{self, LlmConfig};
use crate::domain::model::RetryPolicy;
use crate::ports::Llm;

/// The folder of the configuration in the platform's own.
const FOLDER: &str = "cantrip";
/// The file in it.
const FILE: &str = "config.toml";
/// What is trusted, beside it.
const TRUST: &str = "trust.json";

/// Who says where the configuration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PlaceSource {
    /// `CANTRIP_CONFIG`.
    Named,
    /// `XDG_CONFIG_HOME`.
    Platform,
    /// The home folder.
    Home,
}

/// Where the user's configuration is, and what is trusted.
#[derive(Debug, Clone)]
pub(super) struct ConfigPlace {
    pub(super) config: PathBuf,
    pub(super) source: PlaceSource,
    /// The folder that is the configuration's by default, whatever `CANTRIP_CONFIG` says.
    usual_folder: Option<PathBuf>,
}

/// A variable that names the configuration by a path which means another file in another folder.
#[derive(Debug, thiserror::Error)]
#[error("CANTRIP_CONFIG is `{0}`: it has to be an absolute path, so that it means the same file in every folder")]
pub(super) struct RelativeConfigError(String);

impl ConfigPlace {
    /// The place that the environment names; nothing where there is no home either.
    pub(super) fn find(
        env: &dyn Fn(&str) -> Option<String>,
        home: Option<&Path>,
    ) -> Result<Option<Self>, RelativeConfigError> {
        let absolute = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let platform = absolute("XDG_CONFIG_HOME").map(|folder| (folder.join(FOLDER), PlaceSource::Platform));
        let usual = platform.or_else(|| {
            let home = home.filter(|home| home.is_absolute())?;
            Some((home.join(".config").join(FOLDER), PlaceSource::Home))
        });
        let usual_folder = usual.as_ref().map(|(folder, _)| folder.clone());
        if let Some(named) = env("CANTRIP_CONFIG").filter(|named| !named.is_empty()) {
            let config = PathBuf::from(&named);
            if !config.is_absolute() {
                return Err(RelativeConfigError(named));
            }
            return Ok(Some(Self { config, source: PlaceSource::Named, usual_folder }));
        }
        Ok(usual.map(|(folder, source)| Self { config: folder.join(FILE), source, usual_folder }))
    }

    /// The file that says what is trusted.
    pub(super) fn trust(&self) -> PathBuf {
        folder_of(&self.config).join(TRUST)
    }

    /// What no gate opens: the folder of the configuration, or, where `CANTRIP_CONFIG` names a file among others, that file
    /// and what is beside it as state.
    pub(super) fn closed(&self) -> Vec<PathBuf> {
        let mut closed: Vec<PathBuf> = self.usual_folder.iter().cloned().collect();
        if self.source == PlaceSource::Named {
            closed.push(self.config.clone());
            closed.push(self.trust());
            closed.push(self.trust().with_extension("lock"));
        }
        closed
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigToml {
    #[serde(default)]
    models: BTreeMap<String, Spanned<LlmConfig>>,
    default_model: Option<Spanned<String>>,
}

/// A model of the user's configuration.
#[derive(Debug, Clone)]
pub(super) struct UserModel {
    pub(super) config: LlmConfig,
    /// Where its table begins, for errors.
    offset: usize,
}

/// A model that was made, and how often it is asked again.
#[derive(Debug, Clone)]
pub struct ChosenModel {
    /// The model.
    pub llm: Arc<dyn Llm>,
    /// How often a question is asked again.
    pub retry: RetryPolicy,
}

/// The user's own configuration. The default is an empty one.
#[derive(Debug, Default)]
pub struct UserConfig {
    file: PathBuf,
    text: String,
    pub(super) models: BTreeMap<String, UserModel>,
    pub(super) default_model: Option<String>,
}

impl UserConfig {
    /// Reads it; a file that is not there is an empty one.
    pub(super) fn load(file: &Path) -> Result<Self, FileError> {
        let metadata = match std::fs::metadata(file) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { file: file.to_owned(), ..Self::default() });
            }
            Err(source) => return Err(FileError::Read { file: file.to_owned(), source }),
        };
        let text = read_toml(file)?;
        let source = Source::new(file, &text);
        if metadata.permissions().mode() & 0o002 != 0 {
            let what = "everybody on this machine can write it, so it is not believed: chmod o-w takes that away";
            return Err(source.wrong(0, "the file", what));
        }
        let parsed: ConfigToml = parse(&source)?;
        if let Some(name) = &parsed.default_model
            && !parsed.models.contains_key(name.get_ref())
        {
            let known: Vec<&str> = parsed.models.keys().map(String::as_str).collect();
            let what = format!("there is no [models.{}]{}", name.get_ref(), listed(&known));
            return Err(source.wrong(name.span().start, "default_model", what));
        }
        let models = parsed.models.into_iter().map(|(name, table)| {
            let offset = table.span().start;
            (name, UserModel { config: table.into_inner(), offset })
        });
        let models = models.collect();
        let default_model = parsed.default_model.map(Spanned::into_inner);
        Ok(Self { file: file.to_owned(), models, default_model, text })
    }

    /// The file, whether it is there or not.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// The names of its models.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.models.keys().map(String::as_str)
    }

    /// Makes one of its models. Nothing where there is none of that name.
    ///
    /// # Errors
    /// A table that no model can be made of.
    pub fn model(&self, name: &str, env: &dyn Fn(&str) -> Option<String>) -> Option<Result<ChosenModel, FileError>> {
        let model = self.models.get(name)?;
        let source = Source::new(&self.file, &self.text);
        let made = llm::build(&model.config, folder_of(&self.file), env)
            .map_err(|error| source.wrong(model.offset, format!("models.{name}"), error.to_string()));
        Some(made.map(|llm| ChosenModel { llm, retry: model.config.retry.clone() }))
    }

    /// What is said where a file names a model that is not here.
    pub(super) fn unknown(&self, name: &str) -> String {
        let known: Vec<&str> = self.names().collect();
        format!("your configuration, {}, has no [models.{name}]{}", self.file.display(), listed(&known))
    }
}

fn listed(known: &[&str]) -> String {
    if known.is_empty() { "; it names no models".to_owned() } else { format!("; it has {}", known.join(", ")) }
}
