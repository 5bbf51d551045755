//! `inspect` and `guests`: what a component says about itself, and the shelf of those that are kept.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use crate::adapters::wasm::{Guests, ShelfError, Shelved, read_guest_file};
use crate::domain::guest::{Manifest, grant_line};

use super::admit::{AdmitError, admit_guest};
use super::args::{GuestsCommand, InspectArgs};
use super::exit::{CliError, Exit};
use super::settings::{Settings, guest_name, is_guest_file};
use super::{json, print, say};

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
    print(&if args.json { json(&printed(&manifest, &[]))? } else { text(&manifest, &named) })?;
    Ok(Exit::Done)
}

fn text(manifest: &Manifest, named: &str) -> String {
    let mut out = String::new();
    // Writing into a String cannot fail, here and below.
    let _infallible = writeln!(
        out,
        "name     {}\ndigest   {}\nsize     {} bytes\nworld    {}",
        manifest.name,
        manifest.digest,
        manifest.bytes,
        manifest.shape.world()
    );
    let _infallible = writeln!(out, "exports  {}", manifest.exports.join(", "));
    out.push_str("\ngates\n");
    if manifest.gates().is_empty() {
        out.push_str("  none\n");
    }
    for gate in manifest.gates() {
        let _infallible = writeln!(out, "  {gate:<18} {}", grant_line(gate));
    }
    if manifest.imports.iter().any(|import| import.interface.starts_with("cantrip:guest/gates@")) {
        out.push_str("  any gate by its name, as far as the circle holds it\n");
    }
    if !manifest.wasi().is_empty() {
        out.push_str("\nwasi, answered by the host with nothing of its own\n");
        for name in manifest.wasi() {
            let _infallible = writeln!(out, "  {name}");
        }
    }
    let refused = manifest.impossible();
    if !refused.is_empty() {
        out.push_str("\nrefused: no circle can give this, so the guest cannot run\n");
        for missing in refused {
            let _infallible = writeln!(out, "  {}: {}", missing.interface, missing.remedy);
        }
        return out.trim_end().to_owned();
    }
    let _infallible = write!(out, "\nits circle\n{}", indented(&circle(manifest, named)));
    out.trim_end().to_owned()
}

/// The least that a cantrip file has to say for the guest to run.
fn circle(manifest: &Manifest, named: &str) -> String {
    let mut gates: Vec<&str> = manifest.gates().into_iter().filter(|gate| *gate != "done").collect();
    gates.push("done");
    let gates: Vec<String> = gates.iter().map(|gate| format!("\"{gate}\"")).collect();
    let mut text = if manifest.shape == crate::domain::guest::Shape::Medium {
        format!("[circle]\nmedium = {{ guest = \"{named}\" }}\n")
    } else {
        format!("[guest]\ncomponent = \"{named}\"\n[circle]\n")
    };
    let _infallible = write!(text, "gates = [{}]\n[circle.wards]\nmax_turns = 10\n", gates.join(", "));
    for gate in manifest.gates() {
        match gate {
            "read_file" | "list_dir" | "search" | "write_file" => {
                let _infallible = write!(text, "[gate.{gate}]\nroot = \"…\"\n");
            }
            "http_fetch" => text.push_str("[gate.http_fetch]\nhosts = [\"…\"]\n"),
            "llm_query" | "call_entity" | "call_entity_batch" if !text.contains("[llm]") => {
                text.push_str("[llm]\nprovider = \"…\"\nmodel = \"…\"\n");
            }
            _ => {}
        }
    }
    text
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
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
                print(&json(&lines)?)?;
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
