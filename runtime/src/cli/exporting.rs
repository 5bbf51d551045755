//! `loom export` and `loom import`.
#![expect(clippy::disallowed_methods, reason = "writes and reads the files that a person named")]

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use serde_json::json as object;

use crate::domain::ids::LoomId;
use crate::export::{self, Redaction, car, trajectory};
use crate::ports::LoomStore;

use super::args::Format;
use super::exit::{CliError, Exit};
use super::names::find_loom;
use super::output::{Data, is_terminal, print_json, reader_is_gone, visible_json};
use super::settings::Settings;
use super::show::count;
use super::{print, say};

/// What is exported.
pub(super) struct What {
    pub(super) loom: Option<String>,
    pub(super) all: bool,
    pub(super) raw: bool,
}

impl What {
    fn looms(&self, store: &dyn LoomStore) -> Result<Vec<LoomId>, CliError> {
        if self.all {
            return Ok(store.looms().map_err(CliError::fault)?.iter().map(|summary| summary.loom).collect());
        }
        Ok(vec![find_loom(store, self.loom.as_deref())?])
    }
}

/// Where it goes to.
fn out(output: Option<&Path>, is_binary: bool) -> Result<Box<dyn Write + Send>, CliError> {
    match output {
        Some(path) => {
            let file = File::create(path)
                .map_err(|error| CliError::usage(anyhow::anyhow!("{} cannot be written: {error}", path.display())))?;
            Ok(Box::new(BufWriter::new(file)))
        }
        None if is_binary && is_terminal() => {
            Err(CliError::usage(anyhow::anyhow!("this format is nothing to read")).hint("name a file: --output FILE"))
        }
        None => Ok(Box::new(BufWriter::new(Data))),
    }
}

pub(super) fn export(
    settings: &Settings,
    what: &What,
    format: Format,
    output: Option<&Path>,
) -> Result<Exit, CliError> {
    let redaction = if what.raw { Redaction::None } else { Redaction::Default };
    if what.raw {
        say("secrets are left in");
    }
    match format {
        Format::Jsonl => {
            let store = settings.reading()?;
            let mut out = out(output, false)?;
            let is_shown = output.is_none() && is_terminal();
            for loom in what.looms(&*store)? {
                for line in export::jsonl(&*store, loom, redaction).map_err(CliError::fault)? {
                    let line = if is_shown { visible_json(line) } else { line };
                    writeln!(out, "{line}").map_err(CliError::fault)?;
                    if reader_is_gone() {
                        return Ok(Exit::Done);
                    }
                }
            }
            out.flush().map_err(CliError::fault)?;
        }
        Format::Parquet => {
            let reader = settings.reader()?;
            let mut trees = Vec::new();
            for loom in what.looms(&**reader.store())? {
                trees.push((loom, reader.tree(loom).map_err(CliError::fault)?));
            }
            let all = trajectory::trajectories(&trees, redaction).map_err(CliError::fault)?;
            trajectory::parquet(&all, out(output, true)?).map_err(CliError::fault)?;
            say(&format!(
                "{} of {}",
                count(all.len() as u64, "thread", "threads"),
                count(trees.len() as u64, "loom", "looms")
            ));
        }
        Format::Car => {
            if !what.raw {
                return Err(CliError::usage(anyhow::anyhow!(
                    "an archive has everything, secrets too: what is taken out would not hash to its name"
                ))
                .hint("say so with --raw"));
            }
            if what.all {
                return Err(
                    CliError::usage(anyhow::anyhow!("an archive has one loom")).hint("name it, and leave --all out")
                );
            }
            let store = settings.store()?;
            for loom in what.looms(&*store)? {
                let mut out = out(output, true)?;
                let archived = car::write(&*store, loom, &mut out).map_err(CliError::fault)?;
                say(&format!(
                    "{} and {} of loom {loom}",
                    count(archived.entries, "entry", "entries"),
                    count(archived.texts, "text", "texts")
                ));
            }
        }
    }
    Ok(Exit::Done)
}

pub(super) fn import(settings: &Settings, path: &Path, as_json: bool) -> Result<Exit, CliError> {
    let file = File::open(path)
        .map_err(|error| CliError::usage(anyhow::anyhow!("{} cannot be read: {error}", path.display())))?;
    let store = settings.store()?;
    let archived = car::read(&*store, &mut BufReader::new(file)).map_err(|error| match error {
        error @ (car::CarError::Io(_) | car::CarError::Store(_)) => CliError::fault(error),
        error @ (car::CarError::Malformed(_)
        | car::CarError::Damaged { .. }
        | car::CarError::Missing(_)
        | car::CarError::Attestation { .. }
        | car::CarError::Cast(_)
        | car::CarError::Proof(_)
        | car::CarError::Log { .. }) => CliError { exit: Exit::Damaged, source: error.into(), hint: None }
            .hint("nothing that is not as its writer signed it was taken; get another copy of the archive"),
    })?;
    store.close().map_err(CliError::fault)?;
    if as_json {
        print_json(&object!({
            "loom": archived.loom.to_string(), "entries": archived.entries, "new": archived.new, "texts": archived.texts,
        }))?;
    } else {
        print(&archived.loom.to_string())?;
        say(&format!("{}, {} new; all recomputed", count(archived.entries, "entry", "entries"), archived.new));
    }
    Ok(Exit::Done)
}
