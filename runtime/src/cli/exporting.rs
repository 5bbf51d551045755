//! `loom export` and `loom import`.
#![expect(clippy::disallowed_methods, reason = "writes and reads the files that a person named")]

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use serde_json::json as object;

use crate::domain::ids::LoomId;
use crate::domain::members::Principal;
use crate::export::{self, Redaction, car, trajectory};
use crate::ports::LoomStore;

use super::args::Format;
use super::exit::{CliError, Exit};
use super::names::find_loom;
use super::output::{Data, is_terminal, print_json, reader_is_gone, visible_json};
use super::settings::Settings;
use super::show::count;
use super::{members, print, say};

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
    if !file.metadata().is_ok_and(|about| about.is_file()) {
        let what = format!("{} is no file: an archive is read twice, first for who is a member", path.display());
        return Err(CliError::usage(anyhow::anyhow!(what)).hint("write it into a file first"));
    }
    let store = settings.store()?;
    let archived = car::import(&*store, &mut BufReader::new(file)).map_err(|error| match error {
        error @ (car::CarError::Io(_) | car::CarError::Store(_)) => CliError::fault(error),
        error @ (car::CarError::Malformed(_)
        | car::CarError::Damaged { .. }
        | car::CarError::Missing(_)
        | car::CarError::Attestation { .. }
        | car::CarError::AnotherLoom { .. }
        | car::CarError::Unminted { .. }
        | car::CarError::Cast(_)
        | car::CarError::Proof(_)
        | car::CarError::Log { .. }) => CliError { exit: Exit::Damaged, source: error.into(), hint: None }
            .hint("nothing that is not as its writer signed it was taken; get another copy of the archive"),
    })?;
    let about = members::about(Arc::clone(&store) as _, archived.loom);
    let (is_here, own) = (about.is_some(), about.and_then(|members| members.this_node));
    store.close().map_err(CliError::fault)?;
    report(&archived, own.as_ref(), is_here, as_json)?;
    let is_wrong = archived.left_out.iter().any(|left_out| left_out.why.is_wrong());
    Ok(if is_wrong || !is_here { Exit::Damaged } else { Exit::Done })
}

/// Says what was taken of an archive, and what was left out and why.
fn report(archived: &car::Archived, own: Option<&Principal>, is_here: bool, as_json: bool) -> Result<(), CliError> {
    let loom = archived.loom;
    if as_json {
        let left_out = archived.left_out.iter().map(|left_out| {
            object!({
                "writer": left_out.writer.to_string(), "entries": left_out.entries, "why": left_out.why.kind(),
                "what": left_out.why.to_string(),
            })
        });
        return print_json(&object!({
            "loom": loom.to_string(), "entries": archived.entries, "new": archived.new, "texts": archived.texts,
            "founder": archived.founder.as_ref().map(members::principal_json),
            "this_node": own.map(members::principal_json),
            "left_out": left_out.collect::<Vec<_>>(),
        }));
    }
    if is_here {
        print(&loom.to_string())?;
    }
    say(&format!("{}, {} new; all recomputed", count(archived.entries, "entry", "entries"), archived.new));
    match &archived.founder {
        Some(founder) if Some(founder) != own => say(&format!("the loom was founded by {founder}")),
        Some(_) => {}
        None => say("who founded the loom is not known: its founding entry is neither in the archive nor here"),
    }
    for left_out in &archived.left_out {
        let entries = count(left_out.entries, "entry", "entries");
        say(&format!("left out {entries} of writer {}: {}", left_out.writer, left_out.why));
    }
    if is_here && own.is_none() {
        say(
            "this node is no member of it: `loom show` reads it, and `loom fork ENTRY` makes a loom of your own of a thread",
        );
    }
    Ok(())
}
