//! `config`: every value and who says so. A key is never printed, only the variable that it would come from.

use std::path::Path;

use cantrip_gates::Wards;
use serde::Serialize;

use super::args::ConfigShowArgs;
use super::config::PlaceSource;
use super::exit::{CliError, Exit};
use super::file::{Source, parse, read_toml};
use super::output::{print_json, visible_line};
use super::print;
use super::settings::Settings;
use super::trust;
use crate::adapters::llm::{self, AddressOrigin, Destination, LlmConfig, ProviderLine};
use crate::domain::limits::{MODEL_CONNECT_MS_MAX, MODEL_IDLE_MS_DEFAULT};

/// One value.
#[derive(Debug, Serialize)]
struct Line {
    key: String,
    value: String,
    source: String,
}

#[derive(Debug, Default)]
struct Lines(Vec<Line>);

impl Lines {
    fn add(&mut self, key: impl Into<String>, value: impl Into<String>, source: impl Into<String>) {
        let value = cantrip_gates::redact(&visible_line(&value.into())).into_owned();
        self.0.push(Line {
            key: visible_line(&key.into()).into_owned(),
            value,
            source: visible_line(&source.into()).into_owned(),
        });
    }
}

/// What is said of a value that nobody gives.
const NONE: &str = "none";
const DEFAULT: &str = "default";

pub(super) fn path(settings: &Settings) -> Result<Exit, CliError> {
    let place = settings.place().ok_or_else(|| {
        CliError::usage(anyhow::anyhow!("there is no home folder to look for a configuration in"))
            .hint("CANTRIP_CONFIG names the file")
    })?;
    print(&place.config.display().to_string())?;
    Ok(Exit::Done)
}

pub(super) fn show(settings: &Settings, args: &ConfigShowArgs) -> Result<Exit, CliError> {
    let mut lines = Lines::default();
    places(settings, &mut lines);
    models(settings, &mut lines)?;
    for provider in llm::providers(&Settings::env) {
        provider_lines(&provider, &mut lines);
    }
    if let Some(file) = &args.file {
        cantrip_lines(settings, file, &mut lines)?;
    }
    if args.json {
        print_json(&lines.0)?;
        return Ok(Exit::Done);
    }
    let width = |text: fn(&Line) -> &str, most: usize| {
        lines.0.iter().map(|line| text(line).chars().count()).max().unwrap_or_default().min(most)
    };
    let (keys, values) = (width(|line| &line.key, 40), width(|line| &line.value, 60));
    for Line { key, value, source } in &lines.0 {
        print(&format!("{key:<keys$}  {value:<values$}  {source}"))?;
    }
    Ok(Exit::Done)
}

fn places(settings: &Settings, lines: &mut Lines) {
    let env = |name: &str| Settings::env(name).filter(|value| !value.is_empty());
    match settings.place() {
        None => lines.add("config", NONE, DEFAULT),
        Some(place) => {
            let source = match place.source {
                PlaceSource::Named => "environment: CANTRIP_CONFIG",
                PlaceSource::Platform => "environment: XDG_CONFIG_HOME",
                PlaceSource::Home => DEFAULT,
            };
            let there = if place.config.exists() { "" } else { " (not there)" };
            lines.add("config", format!("{}{there}", place.config.display()), source);
            lines.add("trust", place.trust().display().to_string(), "beside the configuration");
        }
    }
    let data = settings.data().display().to_string();
    let source = match env("CANTRIP_DATA") {
        Some(named) if named == data => "environment: CANTRIP_DATA",
        _ if settings.is_platform_data() => DEFAULT,
        _ => "flag: --data",
    };
    lines.add("data", data, source);
    match env("CANTRIP_LOG") {
        Some(words) => lines.add("log", words, "environment: CANTRIP_LOG"),
        None => lines.add("log", "warn", DEFAULT),
    }
}

fn models(settings: &Settings, lines: &mut Lines) -> Result<(), CliError> {
    let configuration = settings.config()?;
    let file = configuration.file().display().to_string();
    match &configuration.default_model {
        Some(name) => lines.add("default_model", name, &file),
        None => lines.add("default_model", NONE, DEFAULT),
    }
    match (Settings::env("CANTRIP_LLM").filter(|text| !text.is_empty()), &configuration.default_model) {
        (Some(text), _) => lines.add("familiar.llm", text, "environment: CANTRIP_LLM"),
        (None, Some(name)) => lines.add("familiar.llm", name, format!("{file}: default_model")),
        (None, None) => lines.add("familiar.llm", NONE, DEFAULT),
    }
    for (name, model) in &configuration.models {
        model_lines(&format!("models.{name}"), &model.config, &file, lines);
    }
    Ok(())
}

/// The values of a model's table, those included that it does not say itself.
fn model_lines(key: &str, config: &LlmConfig, file: &str, lines: &mut Lines) {
    lines.add(format!("{key}.provider"), &config.provider, file);
    for (name, value) in [("model", &config.model), ("path", &config.path)] {
        if let Some(value) = value {
            lines.add(format!("{key}.{name}"), value, file);
        }
    }
    let mut number = |name: &str, value: Option<u64>, default: Option<u64>| match (value, default) {
        (Some(value), _) => lines.add(format!("{key}.{name}"), value.to_string(), file),
        (None, Some(default)) => lines.add(format!("{key}.{name}"), default.to_string(), DEFAULT),
        (None, None) => lines.add(format!("{key}.{name}"), NONE, DEFAULT),
    };
    number("context_tokens", config.context_tokens, None);
    if !config.is_scripted() {
        number("idle_timeout_ms", config.idle_timeout_ms, Some(MODEL_IDLE_MS_DEFAULT));
        lines.add(format!("{key}.connect_timeout_ms"), MODEL_CONNECT_MS_MAX.to_string(), "fixed");
    }
    match llm::destination(config, &Settings::env) {
        Some(destination) => destination_lines(key, config, &destination, file, lines),
        None if config.is_scripted() => {}
        None => lines.add(format!("{key}.address"), "no address that can be used", file),
    }
}

fn destination_lines(key: &str, config: &LlmConfig, to: &Destination, file: &str, lines: &mut Lines) {
    let source = match &to.origin {
        AddressOrigin::Table => file.to_owned(),
        AddressOrigin::Variable(name) => format!("environment: {name}"),
        AddressOrigin::Provider => DEFAULT.to_owned(),
    };
    lines.add(format!("{key}.address"), &to.address, source);
    let is_set = |name: &&String| Settings::env(name).is_some_and(|value| !value.trim().is_empty());
    let named = if config.key_env.is_some() { format!(", named in {file}") } else { String::new() };
    match to.variables.iter().find(is_set) {
        Some(variable) => lines.add(format!("{key}.key"), "***", format!("environment: {variable}{named}")),
        None if to.variables.is_empty() => lines.add(format!("{key}.key"), NONE, DEFAULT),
        None => {
            let source = format!("environment: {}{named}", to.variables.join(" or "));
            lines.add(format!("{key}.key"), "not set", source);
        }
    }
}

fn provider_lines(provider: &ProviderLine, lines: &mut Lines) {
    let key = format!("providers.{}", provider.name);
    let source = match &provider.origin {
        AddressOrigin::Variable(name) => format!("environment: {name}"),
        AddressOrigin::Table | AddressOrigin::Provider => DEFAULT.to_owned(),
    };
    match &provider.address {
        None => lines.add(format!("{key}.address"), NONE, DEFAULT),
        Some(Ok(address)) => lines.add(format!("{key}.address"), address, source),
        // The text itself is not shown: it may hold a password.
        Some(Err(what)) => lines.add(format!("{key}.address"), format!("unusable: {what}"), source),
    }
    if let Some(variable) = provider.key_variable {
        lines.add(format!("{key}.key"), "***", format!("environment: {variable}"));
    }
}

fn cantrip_lines(settings: &Settings, file: &Path, lines: &mut Lines) -> Result<(), CliError> {
    let text = read_toml(file).map_err(CliError::file)?;
    let source = Source::new(file, &text);
    let table = parse::<toml::Table>(&source).map_err(CliError::file)?;
    let name = file.display().to_string();
    flatten("", &toml::Value::Table(table.clone()), &name, lines);
    for (key, model) in table.get("llm").map(|model| ("llm".to_owned(), model)).into_iter().chain(
        table
            .get("models")
            .and_then(toml::Value::as_table)
            .into_iter()
            .flatten()
            .map(|(name, model)| (format!("models.{name}"), model)),
    ) {
        if let Ok(config) = model.clone().try_into::<LlmConfig>()
            && let Some(to) = llm::destination(&config, &Settings::env)
        {
            destination_lines(&key, &config, &to, &name, lines);
        }
    }
    if !table.contains_key("llm") {
        let configuration = settings.config()?;
        match &configuration.default_model {
            Some(model) => lines.add("llm", model, format!("{}: default_model", configuration.file().display())),
            None => lines.add("llm", NONE, DEFAULT),
        }
    }
    let said = table.get("circle").and_then(|circle| circle.get("wards")).and_then(toml::Value::as_table);
    let defaults = serde_json::to_value(Wards::default().resolved().to_wards()).unwrap_or_default();
    for (ward, value) in defaults.as_object().into_iter().flatten() {
        let is_said = said.is_some_and(|said| said.contains_key(ward));
        if !is_said && !value.is_null() {
            lines.add(format!("circle.wards.{ward}"), value.to_string(), DEFAULT);
        }
    }
    let statement = trust::of_cantrip(&source, settings.home(), &Settings::env).map_err(CliError::file)?;
    let (_, trusted) = trust::trusted(settings, file).map_err(CliError::file)?;
    let beyond = statement.beyond(&trusted);
    for reach in statement.iter() {
        let is_trusted = !beyond.iter().any(|beyond| beyond == reach);
        lines.add("reach", format!("it {reach}"), if is_trusted { "trusted" } else { "not trusted" });
    }
    Ok(())
}

/// The values of a file, each under its whole key. Those of headers are left out: they are secrets as often as not.
fn flatten(key: &str, value: &toml::Value, file: &str, lines: &mut Lines) {
    match value {
        toml::Value::Table(table) => {
            for (name, inner) in table {
                let whole = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                if key.ends_with(".headers") {
                    lines.add(whole, "***", file);
                } else {
                    flatten(&whole, inner, file, lines);
                }
            }
        }
        toml::Value::String(text) => lines.add(key, text, file),
        other @ (toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_)
        | toml::Value::Array(_)) => lines.add(key, other.to_string(), file),
    }
}
