//! `inspect` and `guests`: what a component says about itself, and the shelf of those that are kept.

use std::path::Path;

use serde::Serialize;

use crate::adapters::wasm::{Guests, ShelfError, Shelved, read_guest_file};
use crate::domain::guest::{Manifest, grant_line};

use super::admit::{AdmitError, admit_guest};
use super::args::{GuestsCommand, InspectArgs};
use super::exit::{CliError, Exit};
use super::output::{Page, print_json, print_page};
use super::settings::{Settings, guest_name, is_guest_file};
use super::{print, say};

/// What `inspect --json` prints, and a line of `guests ls --json`.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    name: &'a str,
    names: Vec<&'a str>,
    digest: &'a str,
    bytes: u64,
    world: &'static str,
    /// The gates that its circle has to hold.
    gates: Vec<&'a str>,
    /// The parts of WASI that it uses.
    wasi: Vec<String>,
    /// What no circle can give it; empty for a guest that can run.
    refused: Vec<Refused>,
    imports: Vec<PrintedImport<'a>>,
    exports: &'a [String],
}

#[derive(Debug, Serialize)]
struct Refused {
    interface: String,
    why: String,
}

#[derive(Debug, Serialize)]
struct PrintedImport<'a> {
    interface: &'a str,
    functions: &'a [String],
}

fn printed<'a>(manifest: &'a Manifest, names: &'a [String]) -> Printed<'a> {
    let refused = manifest.impossible().into_iter();
    Printed {
        name: &manifest.name,
        names: names.iter().map(String::as_str).collect(),
        digest: &manifest.digest,
        bytes: manifest.bytes,
        world: manifest.shape.world(),
        gates: manifest.gates().into_iter().collect(),
        wasi: manifest.wasi().into_iter().collect(),
        refused: refused.map(|missing| Refused { interface: missing.interface, why: missing.remedy }).collect(),
        imports: manifest
            .imports
            .iter()
            .map(|import| PrintedImport { interface: &import.interface, functions: &import.functions })
            .collect(),
        exports: &manifest.exports,
    }
}

/// Why a guest could not be had: mostly what was named is wrong; a damaged shelf is damage.
fn refused(error: ShelfError) -> CliError {
    let exit = match &error {
        ShelfError::Damaged { .. } => Exit::Damaged,
        ShelfError::Guest(_)
        | ShelfError::Unknown { .. }
        | ShelfError::NoDigest { .. }
        | ShelfError::OtherDigest { .. }
        | ShelfError::Files { .. } => Exit::Usage,
    };
    CliError { exit, source: error.into(), hint: None }
}

pub(super) fn inspect(settings: &Settings, args: &InspectArgs) -> Result<Exit, CliError> {
    let is_file = is_guest_file(&args.guest) || Path::new(&args.guest).is_file();
    let (name, bytes) = if is_file {
        let path = Path::new(&args.guest);
        (guest_name(path), read_guest_file(path).map_err(refused)?)
    } else {
        settings.shelf().get(&args.guest).map_err(refused)?
    };
    let manifest = Guests::inspect(&name, &bytes).map_err(CliError::usage)?;
    // As a cantrip file would name it.
    let named = if is_file { args.guest.clone() } else { manifest.reference() };
    if args.json {
        print_json(&printed(&manifest, &[]))?;
    } else {
        print_page(&page(&manifest, &named))?;
    }
    Ok(Exit::Done)
}

fn page(manifest: &Manifest, named: &str) -> Page {
    let mut page = Page::default();
    page.line(format_args!("name     {}", manifest.name));
    page.line(format_args!("digest   {}", manifest.digest));
    page.line(format_args!("size     {} bytes", manifest.bytes));
    page.line(format_args!("world    {}", manifest.shape.world()));
    page.line(format_args!("exports  {}", manifest.exports.join(", ")));
    page.head("gates");
    if manifest.gates().is_empty() {
        page.line("  none");
    }
    for gate in manifest.gates() {
        page.line(format_args!("  {gate:<18} {}", grant_line(gate)));
    }
    if manifest.imports.iter().any(|import| import.interface.starts_with("cantrip:guest/gates@")) {
        page.line("  any gate by its name, as far as the circle holds it");
    }
    if !manifest.wasi().is_empty() {
        page.head("wasi, answered by the host with nothing of its own");
        for name in manifest.wasi() {
            page.line(format_args!("  {name}"));
        }
    }
    let refused = manifest.impossible();
    if !refused.is_empty() {
        page.head("refused: no circle can give this, so the guest cannot run");
        for missing in refused {
            page.line(format_args!("  {}: {}", missing.interface, missing.remedy));
        }
        return page;
    }
    page.head("its circle");
    for line in circle(manifest, named) {
        page.line(format_args!("  {line}"));
    }
    page
}

/// The least that a cantrip file has to say for the guest to run, in its lines.
fn circle(manifest: &Manifest, named: &str) -> Vec<String> {
    let mut gates: Vec<&str> = manifest.gates().into_iter().filter(|gate| *gate != "done").collect();
    gates.push("done");
    let gates: Vec<String> = gates.iter().map(|gate| format!("\"{gate}\"")).collect();
    let mut lines = if manifest.shape == crate::domain::guest::Shape::Medium {
        vec!["[circle]".to_owned(), format!("medium = {{ guest = \"{named}\" }}")]
    } else {
        vec!["[guest]".to_owned(), format!("component = \"{named}\""), "[circle]".to_owned()]
    };
    lines.push(format!("gates = [{}]", gates.join(", ")));
    lines.extend(["[circle.wards]", "max_turns = 10"].map(str::to_owned));
    let mut needs_model = false;
    for gate in manifest.gates() {
        match gate {
            "read_file" | "list_dir" | "search" | "write_file" => {
                lines.extend([format!("[gate.{gate}]"), "root = \"…\"".to_owned()]);
            }
            "http_fetch" => lines.extend(["[gate.http_fetch]", "hosts = [\"…\"]"].map(str::to_owned)),
            "llm_query" | "call_entity" | "call_entity_batch" if !needs_model => {
                needs_model = true;
                lines.extend(["[llm]", "provider = \"…\"", "model = \"…\""].map(str::to_owned));
            }
            _ => {}
        }
    }
    lines
}

pub(super) fn run(settings: &Settings, command: GuestsCommand) -> Result<Exit, CliError> {
    let shelf = settings.shelf();
    match command {
        GuestsCommand::Add { file, name } => {
            let bytes = read_guest_file(&file).map_err(refused)?;
            let name = name.unwrap_or_else(|| guest_name(&file));
            Guests::inspect(&name, &bytes).map_err(CliError::usage)?;
            say(&format!("compiling {name}, {} bytes", bytes.len()));
            let guests = settings.sandbox()?.guests;
            let manifest = admit_guest(&guests, &shelf, None, &name, &bytes).map_err(|error| match error {
                AdmitError::Shelf(error) => refused(error),
                error @ (AdmitError::Guest(_) | AdmitError::Refused(_)) => CliError::usage(error),
            })?;
            print(&manifest.reference())?;
        }
        // What concerns other nodes is `cli/node`.
        GuestsCommand::Key { .. } | GuestsCommand::Sign { .. } => {}
        GuestsCommand::Ls { json: as_json, .. } => {
            let shelved = shelf.list().map_err(refused)?;
            if as_json {
                let lines: Vec<Printed<'_>> = shelved.iter().map(|it| printed(&it.manifest, &it.names)).collect();
                print_json(&lines)?;
            } else {
                list(&shelved)?;
            }
        }
        GuestsCommand::Rm { guest } => print(&shelf.remove(&guest).map_err(refused)?)?,
    }
    Ok(Exit::Done)
}

fn list(shelved: &[Shelved]) -> Result<(), CliError> {
    if shelved.is_empty() {
        say("there are no guests; `cantrip-runtime guests add FILE` keeps one");
    }
    for Shelved { names, manifest } in shelved {
        let name = if names.is_empty() { "-".to_owned() } else { names.join(",") };
        let gates: Vec<&str> = manifest.gates().into_iter().collect();
        print(&format!(
            "{name:<20} {} {:>9} {:<8} {}",
            manifest.digest,
            manifest.bytes,
            manifest.shape.world(),
            gates.join(",")
        ))?;
    }
    Ok(())
}
