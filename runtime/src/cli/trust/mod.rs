//! `trust`: what files may reach beyond themselves, because their user said so.
//!
//! Owns the question and who is asked: the person at the terminal that this process is controlled from, and nobody else. A
//! file that was read is judged by the same text that is used afterwards.

mod statement;
mod store;

use std::io::IsTerminal;
use std::path::Path;

use serde_json::json as object;

use super::args::TrustArgs;
use super::args::TrustCommand;
use super::exit::{CliError, Exit};
use super::file::{FileError, Source, read_toml};
use super::output::{Page, confirmed, print_json, visible_line};
use super::settings::Settings;
use super::{node, print, say};

pub(in crate::cli) use statement::{Project, Reaching, of_cantrip, resolved};
pub use statement::{Reach, Statement};
pub use store::StoreError;
pub(in crate::cli) use store::TrustStore;

/// A file that reaches further than it is trusted to.
#[derive(Debug, thiserror::Error)]
#[error("{} reaches beyond its own project, and is not trusted to: it {}", file.display(), sentence(beyond))]
pub struct UntrustedError {
    /// The file.
    pub file: std::path::PathBuf,
    /// What is not covered by what is trusted.
    pub beyond: Statement,
}

fn sentence(statement: &Statement) -> String {
    statement.iter().map(ToString::to_string).collect::<Vec<_>>().join("; it ")
}

/// What a person types to trust a file.
pub(in crate::cli) fn command(file: &Path) -> String {
    let text = visible_line(&file.display().to_string()).into_owned();
    let is_bare = |letter: char| letter.is_alphanumeric() || matches!(letter, '/' | '.' | '-' | '_' | '+' | '@' | ':');
    let shown = if text.chars().all(is_bare) { text } else { format!("'{}'", text.replace('\'', r"'\''")) };
    let separator = if shown.starts_with('-') { "-- " } else { "" };
    format!("cantrip-runtime trust {separator}{shown}")
}

/// Judges a file by its statement: what is not trusted yet is asked about, once, or refused.
pub(in crate::cli) fn judge(settings: &Settings, file: &Path, statement: &Statement) -> Result<(), FileError> {
    if statement.is_empty() {
        return Ok(());
    }
    if let Some(what) = statement.is_more_than_is_read() {
        return Err(FileError::Wrong { file: file.to_owned(), line: 1, key: "the file".to_owned(), what });
    }
    let (store, trusted) = trusted(settings, file)?;
    let beyond = statement.beyond(&trusted);
    if beyond.is_empty() {
        return Ok(());
    }
    if ask(file, &beyond, !trusted.is_empty()) {
        return store.add(file, &beyond).map_err(FileError::Trust);
    }
    Err(FileError::Untrusted(UntrustedError { file: file.to_owned(), beyond }))
}

/// What a file is trusted with, and where that is written down.
pub(in crate::cli) fn trusted(settings: &Settings, file: &Path) -> Result<(TrustStore, Statement), FileError> {
    let store = settings.trust_store().map_err(FileError::Trust)?;
    store.is_outside(&Project::of(file, settings.home())).map_err(FileError::Trust)?;
    let mut all = store.all().map_err(FileError::Trust)?;
    let trusted = all.remove(&store::key(file)).unwrap_or_default();
    Ok((store, trusted))
}

/// Asks the person at the controlling terminal. Without one, nobody is asked and the answer is no: what is piped in or
/// connected cannot answer.
fn ask(file: &Path, beyond: &Statement, is_known: bool) -> bool {
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return false;
    }
    let what = if is_known {
        "reaches further beyond its own project than it is trusted to"
    } else {
        "reaches beyond its own project"
    };
    let mut page = Page::default();
    page.line(format_args!("{} {what}:", file.display()));
    for reach in beyond.iter() {
        page.line(format_args!("  - it {reach}"));
    }
    confirmed(&page, "Trust it with that? A change that reaches no further is not asked about. [y/N] ")
}

/// What a cantrip, workspace or node file reaches.
fn statement_of(settings: &Settings, file: &Path) -> Result<Statement, FileError> {
    let text = read_toml(file)?;
    let source = Source::new(file, &text);
    let is_node =
        text.parse::<toml::Table>().is_ok_and(|table| table.contains_key("tls") || table.contains_key("peers"));
    if is_node {
        node::reach_of(&source, settings.home())
    } else {
        of_cantrip(&source, settings.home(), &Settings::env)
    }
}

pub(in crate::cli) fn run(settings: &Settings, args: TrustArgs) -> Result<Exit, CliError> {
    match (args.command, args.file) {
        (Some(TrustCommand::Ls { json }), _) => list(settings, json),
        (Some(TrustCommand::Rm { file, json }), _) => remove(settings, &file, json),
        (None, Some(file)) => trust(settings, &file, args.json),
        (None, None) => Err(CliError::usage(anyhow::anyhow!("which file is to be trusted?"))
            .hint("`cantrip-runtime trust FILE`, `trust ls` or `trust rm FILE`")),
    }
}

fn trust(settings: &Settings, file: &Path, as_json: bool) -> Result<Exit, CliError> {
    let statement = statement_of(settings, file).map_err(CliError::file)?;
    if let Some(what) = statement.is_more_than_is_read() {
        return Err(CliError::usage(anyhow::anyhow!("{}: {what}", file.display())));
    }
    let (store, before) = trusted(settings, file).map_err(CliError::file)?;
    let added = statement.beyond(&before);
    let stays = !statement.is_empty() || !before.is_empty();
    if stays {
        store.set(file, statement.clone()).map_err(store_error)?;
    }
    if as_json {
        print_json(&object!({ "file": store::key(file), "reach": statement, "added": added }))?;
        return Ok(Exit::Done);
    }
    if statement.is_empty() {
        say(&format!("{} reaches nothing beyond its own project: it needs no trust", file.display()));
        return Ok(Exit::Done);
    }
    say(&format!("{} is trusted with this:", file.display()));
    for reach in statement.iter() {
        print(&format!("  it {reach}"))?;
    }
    Ok(Exit::Done)
}

/// Trusts what was just written by this process itself.
pub(in crate::cli) fn trust_written(settings: &Settings, file: &Path) -> Result<(), CliError> {
    let statement = statement_of(settings, file).map_err(CliError::file)?;
    if statement.is_empty() {
        return Ok(());
    }
    let store = settings.trust_store().map_err(store_error)?;
    store.set(file, statement).map_err(store_error)
}

fn list(settings: &Settings, as_json: bool) -> Result<Exit, CliError> {
    let files = settings.trust_store().and_then(|store| store.all()).map_err(store_error)?;
    if as_json {
        let lines: Vec<_> = files.iter().map(|(file, reach)| object!({ "file": file, "reach": reach })).collect();
        print_json(&lines)?;
        return Ok(Exit::Done);
    }
    if files.is_empty() {
        say("nothing is trusted; `cantrip-runtime trust FILE` says what a file reaches and trusts it");
    }
    for (file, reach) in files {
        print(&file)?;
        for reach in reach.iter() {
            print(&format!("  it {reach}"))?;
        }
    }
    Ok(Exit::Done)
}

fn remove(settings: &Settings, file: &Path, as_json: bool) -> Result<Exit, CliError> {
    let store = settings.trust_store().map_err(store_error)?;
    let was = store.remove(file).map_err(store_error)?;
    if as_json {
        print_json(&object!({ "file": store::key(file), "removed": was }))?;
    } else if was {
        say(&format!("{} is not trusted any more", file.display()));
    }
    if !was && !as_json {
        return Err(CliError::usage(anyhow::anyhow!("{} is not trusted", file.display()))
            .hint("`cantrip-runtime trust ls` lists what is"));
    }
    Ok(Exit::Done)
}

pub(in crate::cli) fn store_error(error: StoreError) -> CliError {
    match error {
        StoreError::Io { .. } => CliError::fault(error),
        StoreError::Nowhere | StoreError::InProject(_) | StoreError::Unbelievable { .. } => CliError::usage(error),
    }
}
