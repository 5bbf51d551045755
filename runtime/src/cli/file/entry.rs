//! How a file says which model: a table that defines one, or the name of one that its user configured.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use toml::Spanned;

use super::{Children, FileError, Source, UserSide, folder_of};
use crate::adapters::llm::{self, LlmConfig};
use crate::cli::config::ChosenModel;
use crate::driver::{CantripBuilder, ChildModels};

/// A model in a file.
#[derive(Debug, Clone)]
pub(in crate::cli) enum ModelEntry {
    /// One of the user's own configuration.
    Named(String),
    /// One that the file defines.
    Table(Box<LlmConfig>),
}

impl<'de> Deserialize<'de> for ModelEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entry;
        impl<'de> Visitor<'de> for Entry {
            type Value = ModelEntry;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a table with `provider`, or the name of a model of your configuration")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<ModelEntry, E> {
                Ok(ModelEntry::Named(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ModelEntry, A::Error> {
                LlmConfig::deserialize(MapAccessDeserializer::new(map))
                    .map(|config| ModelEntry::Table(Box::new(config)))
            }
        }
        deserializer.deserialize_any(Entry)
    }
}

/// Makes the model of an entry. The file was judged before.
pub(super) fn model(
    key: &str,
    entry: &Spanned<ModelEntry>,
    source: &Source<'_>,
    user: &UserSide<'_>,
) -> Result<ChosenModel, FileError> {
    let at = entry.span().start;
    match entry.get_ref() {
        ModelEntry::Table(config) => {
            let llm = llm::build(config, folder_of(source.file), user.env)
                .map_err(|error| source.wrong(at, key, error.to_string()))?;
            Ok(ChosenModel { llm, retry: config.retry.clone() })
        }
        ModelEntry::Named(name) => {
            let unknown = || {
                let none = || format!("there is no configuration with a model `{name}` here");
                Err(source.wrong(at, key, user.config.map_or_else(none, |config| config.unknown(name))))
            };
            user.config.and_then(|config| config.model(name, user.env)).unwrap_or_else(unknown)
        }
    }
}

/// The cantrip's own model: the one that was asked for, the file's, or, where a model does the work, the user's default.
pub(super) fn own_model(
    entry: Option<&Spanned<ModelEntry>>,
    is_guest: bool,
    source: &Source<'_>,
    user: &UserSide<'_>,
) -> Result<Option<ChosenModel>, FileError> {
    if let Some(chosen) = user.llm {
        return Ok(Some(chosen.clone()));
    }
    if let Some(entry) = entry {
        return model("llm", entry, source, user).map(Some);
    }
    let default = user.config.and_then(|config| Some((config, config.default_model.as_deref()?)));
    match default {
        Some((config, name)) if !is_guest => config.model(name, user.env).transpose(),
        _ => Ok(None),
    }
}

/// Says which models children use. A name that the file does not define is one of the user's.
pub(super) fn child_models(
    mut builder: CantripBuilder,
    defined: &BTreeMap<String, Spanned<ModelEntry>>,
    children: Children,
    user: &UserSide<'_>,
) -> Result<CantripBuilder, FileError> {
    for name in children.llm.iter().chain(&children.llm_by_depth).filter(|name| !defined.contains_key(*name)) {
        let model = user.config.and_then(|config| config.model(name, user.env));
        if let Some(model) = model {
            builder = builder.model(name.clone(), model?.llm);
        }
    }
    let by_depth = (1..).zip(children.llm_by_depth).collect();
    Ok(builder.child_models(ChildModels { default: children.llm, by_depth }))
}
