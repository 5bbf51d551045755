//! `loom`: what was recorded, for people and programs.

use serde::Serialize;
use serde_json::{Value, json as object};

use crate::adapters::clock::SystemClock;
use crate::adapters::store::FjallStore;
use crate::domain::context::cut;
use crate::domain::ids::{EntityId, LoomId, WriterKey};
use crate::domain::limits::FINDINGS_MAX;
use crate::domain::loom::{Body, EntityView, ForeignBudget, ForeignOrigin, Origin, Payload, Tree, Turn, ViewError};
use crate::domain::members::{NodeId, Principal};
use crate::driver::Members;
use crate::export;
use crate::ports::{Clock, Finding, LoomStore, LoomSummary};

use super::args::LoomCommand;
use super::exit::{CliError, Exit};
use super::names::{find_entity, find_loom, short_digits};
use super::output::{Page, print_json, print_page};
use super::settings::{self, Settings};
use super::show::{count, indent};
use super::{copies, copy_status, exporting, members, timetravel};
use super::{print, say};

/// So many entries that are put aside are named; `loom verify` names up to a thousand.
const ASIDE_NAMED: usize = 20;
#[derive(Debug, Serialize)]
struct LoomLine {
    loom: String,
    /// Nothing: no entity has been opened in it yet.
    root: Option<String>,
    entries: u64,
    first_us: u64,
    last_us: u64,
    model: Option<String>,
    intent: Option<String>,
    /// `terminated`, `truncated`, or `open` while its root can go on or was cut off.
    status: &'static str,
    reason: Option<String>,
}

pub(super) async fn run(settings: &Settings, command: LoomCommand) -> Result<Exit, CliError> {
    match command {
        LoomCommand::Ls { limit, json } => list(settings, limit, json),
        LoomCommand::Show { loom, json } => {
            let reader = settings.reader()?;
            let id = find_loom(&**reader.store(), loom.as_deref())?;
            let tree = reader.tree(id).map_err(CliError::fault)?;
            if !json {
                let members = reader.members(id).map_err(CliError::fault)?;
                print_page(&header(&id.to_string(), &tree, &members))?;
            }
            turns(&tree.turns(), &tree, json)
        }
        LoomCommand::Thread { loom, entity, json } => {
            let reader = settings.reader()?;
            let loom = find_loom(&**reader.store(), Some(&loom))?;
            let tree = reader.tree(loom).map_err(CliError::fault)?;
            let aside = tree.aside().iter().map(|aside| aside.entity);
            let entities = tree.entities().map(|(id, _)| id).chain(aside);
            let id = find_entity(loom, &entity.unwrap_or_default(), entities)?;
            turns(&tree.thread(id).map_err(CliError::fault)?, &tree, json)
        }
        LoomCommand::Export { loom, all, format, output, raw } => {
            let what = exporting::What { loom, all, raw };
            exporting::export(settings, &what, format, output.as_deref())
        }
        LoomCommand::Import { file, json } => exporting::import(settings, &file, json),
        LoomCommand::Fork(args) => timetravel::fork(settings, args).await,
        LoomCommand::Replay(args) => timetravel::replay(settings, args).await,
        LoomCommand::Diff(args) => timetravel::diff(settings, &args),
        LoomCommand::Adopt { entity, accept_loss } => timetravel::adopt(settings, &entity, accept_loss).await,
        LoomCommand::Replicate(args) => copies::replicate(settings, args).await,
        LoomCommand::Status(args) => copy_status::status(settings, &args).await,
        LoomCommand::Members { loom, json } => members::list(settings, loom.as_deref(), json),
        LoomCommand::Admit(args) => members::admit(settings, args).await,
        LoomCommand::Expel(args) => members::expel(settings, args).await,
        LoomCommand::Verify { loom: Some(loom), node: Some(node), json } => {
            copy_status::verify_at(settings, &loom, &node, json).await
        }
        LoomCommand::Verify { loom, json, .. } => verify(settings, loom.as_deref(), json),
        LoomCommand::Reward { loom, entry, value, by } => {
            timetravel::reward(settings, (&loom, &entry), (value, by)).await
        }
    }
}

fn list(settings: &Settings, limit: usize, as_json: bool) -> Result<Exit, CliError> {
    if !settings.has_record()? {
        print(if as_json { "[]" } else { "no loom yet" })?;
        return Ok(Exit::Done);
    }
    let store = settings.reading()?;
    let looms = store.looms().map_err(CliError::fault)?;
    let lines: Result<Vec<LoomLine>, CliError> =
        looms.iter().take(limit).map(|loom| loom_line(&*store, loom)).collect();
    let lines = lines?;
    if as_json {
        print_json(&lines)?;
        return Ok(Exit::Done);
    }
    let now_us = SystemClock::default().now_us();
    let digits = short_digits(looms.iter().map(|loom| loom.loom));
    for line in &lines {
        print(&format!(
            "{:.digits$}  {:>10}  {:>7} entries  {:<10}  {}",
            line.loom,
            age(line.first_us, now_us),
            line.entries,
            line.status,
            cut(line.intent.as_deref().unwrap_or("-"), 60)
        ))?;
    }
    if looms.len() > lines.len() {
        let older = count((looms.len() - lines.len()) as u64, "older one is", "older ones are");
        say(&format!("{older} not shown; --limit {} lists all", looms.len()));
    }
    Ok(Exit::Done)
}

fn loom_line(store: &dyn LoomStore, loom: &LoomSummary) -> Result<LoomLine, CliError> {
    let entries = match loom.root {
        Some(root) => store.entries_of(root).map_err(CliError::fault)?,
        None => Vec::new(),
    };
    let (mut model, mut intent, mut ended) = (None, None, None);
    for sealed in entries.iter().filter(|sealed| sealed.entry.loom == loom.loom) {
        match &sealed.entry.body {
            Body::Opened(opened) => {
                model.get_or_insert_with(|| opened.model.clone());
                intent = store.text(&opened.intent).map_err(CliError::fault)?.filter(|intent| !intent.is_empty());
            }
            Body::Intent(told) => {
                ended = None;
                if intent.is_none() {
                    intent = store.text(&told.text).map_err(CliError::fault)?;
                }
            }
            Body::Ended(end) => ended = Some(end),
            Body::Utterance(_)
            | Body::GateCalled { .. }
            | Body::GateReturned { .. }
            | Body::Delegated { .. }
            | Body::Observation(_)
            | Body::Snapshot { .. }
            | Body::Folded { .. }
            | Body::Decided(_)
            | Body::Rewarded { .. }
            | Body::Replayed { .. }
            | Body::Adopted { .. }
            | Body::Founded { .. }
            | Body::Admitted(_)
            | Body::Expelled(_)
            | Body::Settled(_)
            | Body::Keeping { .. }
            | Body::Unknown(_) => {}
        }
    }
    Ok(LoomLine {
        loom: loom.loom.to_string(),
        root: loom.root.map(|root| root.to_string()),
        entries: loom.entries,
        first_us: loom.first_us,
        last_us: loom.last_us,
        model,
        intent: intent.map(|intent| cantrip_gates::redact(&intent).into_owned()),
        status: ended.map_or("open", |end| end.how.as_str()),
        reason: ended.map(|end| end.reason.to_string()),
    })
}

/// How long ago, in the largest unit that fits.
fn age(us: u64, now_us: u64) -> String {
    let seconds = now_us.saturating_sub(us) / 1_000_000;
    let (number, unit) = match seconds {
        0..60 => (seconds, "s"),
        60..3_600 => (seconds / 60, "min"),
        3_600..86_400 => (seconds / 3_600, "h"),
        86_400.. => (seconds / 86_400, "d"),
    };
    format!("{number} {unit} ago")
}

fn header(id: &str, tree: &Tree, members: &Members) -> Page {
    let mut page = Page::default();
    page.line(format_args!("loom {id}"));
    let is_own = members.founder.is_some() && members.founder == members.this_node;
    match &members.founder {
        Some(founder) if !is_own => page.line(format_args!("  founded by {founder}")),
        Some(_) => {}
        None => page.line(format_args!("  who founded it is not known here")),
    }
    if members.this_node.is_none() {
        page.line(format_args!("  this node is no member of it: `loom fork ENTRY` goes on in a loom of your own"));
    }
    for (entity, view) in tree.entities() {
        let status = view
            .ended
            .as_ref()
            .map_or("not ended".to_owned(), |ended| format!("{} ({})", ended.how.as_str(), ended.reason));
        page.line(format_args!(
            "entity {entity}  depth {}  {}  {}{}  {status}",
            view.opened.depth,
            view.opened.medium,
            view.opened.model,
            view.opened.caller.as_ref().map(|_| format!("  on {}", view.opened.node)).unwrap_or_default(),
        ));
        if !view.opened.origins.is_empty() {
            let names = if is_own { origins(view) } else { foreign_origins(view) };
            page.line(format_args!("  called through: {}", names.join(", ")));
        }
        page.line(format_args!("  intent: {}", line(&view.intent)));
        if let Some(origin) = tree.foreign_origin(entity) {
            came_from(&mut page, origin);
        }
        if let Err(why @ (ViewError::Unknown { .. } | ViewError::Unenforced { .. })) = tree.may_go_on(entity) {
            page.line(format_args!("  {why}"));
        }
    }
    for later in tree.later().iter().filter(|later| !later.stops).take(ASIDE_NAMED) {
        let kind = line(&later.kind);
        page.line(format_args!("entry {} is a `{kind}` of the loom, which this version does not know", later.entry));
    }
    if let Err(why) = tree.may_write() {
        page.line(format_args!("{why}"));
    }
    let wrong: Vec<_> = tree.aside().iter().filter(|aside| aside.why.is_wrong()).collect();
    for aside in wrong.iter().take(ASIDE_NAMED) {
        page.line(format_args!("put aside: {} {} of entity {}: {}", aside.kind, aside.entry, aside.entity, aside.why));
    }
    let more = tree.aside().len() - wrong.len().min(ASIDE_NAMED);
    if !wrong.is_empty() && more > 0 {
        page.line(format_args!("put aside: {more} more, such as what follows those"));
    }
    page
}

/// Where the thread of another loom comes from that an entity continues. All of it is its writers' word, which decides nothing here.
fn came_from(page: &mut Page, origin: &ForeignOrigin) {
    let turns = count(origin.turns, "turn", "turns");
    page.line(format_args!("  goes on after {turns} of entity {} of loom {}", origin.entity, origin.loom));
    if let Some(after) = origin.after {
        page.line(format_args!("    behind entry {after}"));
    }
    match &origin.founder {
        Some(founder) => page.line(format_args!("    a loom that {founder} founded")),
        None => page.line(format_args!("    a loom of which it is not known who founded it")),
    }
    for (writer, name) in origin.writers.iter().take(ASIDE_NAMED) {
        match name {
            Some(name @ Principal::Node(_)) => page.line(format_args!("    written by {name}, key {writer}")),
            Some(Principal::Key(_)) | None => page.line(format_args!("    written by key {writer}")),
        }
    }
    page.line(format_args!("    shown as it was signed; it decides nothing here, and counts as untrusted"));
}

/// The nodes through which an entity was called, from the root on.
fn origins(view: &EntityView) -> Vec<String> {
    view.opened.origins.iter().map(|origin| origin.node.to_string()).collect()
}

/// The same as a loom of somebody else has it: with the authority that each name is said to be of.
fn foreign_origins(view: &EntityView) -> Vec<String> {
    let name = |origin: &Origin| {
        let node = origin.authority.map(|authority| NodeId { authority, name: origin.node.clone() });
        node.map_or_else(|| origin.node.to_string(), |node| node.to_string())
    };
    view.opened.origins.iter().map(name).collect()
}

/// The same, for programs.
fn foreign_json(tree: &Tree, entity: EntityId) -> Option<Value> {
    let origin = tree.foreign_origin(entity)?;
    let writer = |(writer, name): &(WriterKey, Option<Principal>)| object!({ "key": writer.to_string(), "is": name.as_ref().map(members::principal_json) });
    Some(object!({
        "loom": origin.loom.to_string(), "entity": origin.entity.to_string(), "turns": origin.turns,
        "after": origin.after.map(|after| after.to_string()),
        "founder": origin.founder.as_ref().map(members::principal_json),
        "writers": origin.writers.iter().map(writer).collect::<Vec<_>>(),
    }))
}

fn line(text: &str) -> String {
    crate::domain::context::cut(&cantrip_gates::redact_start(text, 1_000).0, 160)
}

fn turns(turns: &[Turn], tree: &Tree, as_json: bool) -> Result<Exit, CliError> {
    if as_json {
        let value = |turn: &Turn| {
            let mut value = export::turn(turn, export::Redaction::Default);
            let origins = tree.entity(turn.entity).map(origins).unwrap_or_default();
            let from = foreign_json(tree, turn.entity);
            if let (Some(from), Some(object)) = (from, value.as_object_mut()) {
                object.insert("continues".to_owned(), from);
            }
            if let Some(object) = value.as_object_mut().filter(|_| !origins.is_empty()) {
                object.insert("origins".to_owned(), origins.into());
            }
            value
        };
        let values: Vec<Value> = turns.iter().map(value).collect();
        print_json(&values)?;
        return Ok(Exit::Done);
    }
    for turn in turns {
        print_page(&turn_page(turn, tree))?;
    }
    Ok(Exit::Done)
}

fn turn_page(turn: &Turn, tree: &Tree) -> Page {
    let indent = indent(tree.entity(turn.entity).map_or(0, |view| view.opened.depth));
    let mut page = Page::default();
    match turn.from {
        Some(loom) => page.line(format_args!("{indent}{:>3}  {}  of loom {loom}", turn.sequence, turn.id)),
        None => page.line(format_args!("{indent}{:>3}  {}", turn.sequence, turn.id)),
    }
    let said = turn.said.iter().flat_map(|said| {
        let code = said.calls.iter().filter_map(|call| call.arguments.as_ref().ok()?.get("code")?.as_str());
        said.content.iter().map(String::as_str).chain(code)
    });
    for text in said {
        for code in cantrip_gates::redact(text).trim().lines() {
            page.code(format_args!("{indent}     | {code}"));
        }
    }
    for gate in &turn.gates {
        let result = match &gate.result {
            Some(Ok(value)) => format!("-> {}", line(&value.to_string())),
            Some(Err(error)) => format!("failed: {}", line(error.message())),
            None => "may or may not have run".to_owned(),
        };
        page.line(format_args!("{indent}     {}({}) {result}", gate.gate, line(&gate.arguments.to_string())));
    }
    for answer in turn.observation.iter().flat_map(|seen| &seen.answers).filter(|answer| !answer.content.is_empty()) {
        let mark = if answer.is_error { "!" } else { "=" };
        page.line(format_args!("{indent}     {mark} {}", line(&answer.content)));
    }
    if let Some((ended, reason)) = &turn.ended {
        page.line(format_args!("{indent}     {} ({reason})", ended.as_str()));
    }
    if let Some(reward) = turn.reward {
        page.line(format_args!("{indent}     reward {reward}"));
    }
    page
}

/// What no honest node has written: entries that are whole, and refer to what comes after them.
fn threads(settings: &Settings, named: Option<&str>) -> Result<Vec<Finding>, CliError> {
    let store = settings.reading()?;
    let looms: Vec<LoomId> = match named {
        Some(name) => vec![find_loom(&*store, Some(name))?],
        None => store.looms().map_err(CliError::fault)?.iter().map(|summary| summary.loom).collect(),
    };
    let mut findings = Vec::new();
    for loom in looms {
        let batch = store.batch(loom).map_err(CliError::fault)?;
        let (budget, text) = (ForeignBudget::default(), |payload: &Payload| store.text(payload).ok().flatten());
        let tree = Tree::read_with(&batch, &text, &|source| store.foreign(source, &budget)).map_err(CliError::fault)?;
        let room = FINDINGS_MAX - findings.len();
        let wrong = tree.aside().iter().filter(|aside| aside.why.is_wrong()).take(room);
        findings.extend(wrong.map(|aside| Finding {
            loom: Some(loom),
            sequence: None,
            entry: Some(aside.entry),
            what: format!("the {} of entity {} is put aside: {}", aside.kind, aside.entity, aside.why),
        }));
        let room = FINDINGS_MAX - findings.len();
        findings.extend(tree.unread().take(room).map(|(entity, entry, why)| Finding {
            loom: Some(loom),
            sequence: None,
            entry: Some(entry),
            what: format!("the thread of another loom that entity {entity} continues does not hold: {why}"),
        }));
    }
    Ok(findings)
}

fn verify(settings: &Settings, named: Option<&str>, as_json: bool) -> Result<Exit, CliError> {
    let folder = settings.folder();
    if !settings.has_record()? {
        return Err(CliError::usage(anyhow::anyhow!("there is no record in {}", folder.display()))
            .hint("`cantrip-runtime cast` makes one"));
    }
    let mut verified = match named {
        None => FjallStore::examine(&folder).map_err(|error| settings::store_error(error, &folder))?,
        Some(name) => {
            let store = settings.reading()?;
            let id = find_loom(&*store, Some(name))?;
            store.verify(Some(id)).map_err(|error| settings::store_error(error, &folder))?
        }
    };
    if verified.findings.is_empty() {
        verified.findings = threads(settings, named)?;
    }
    if as_json {
        let findings: Vec<Value> = verified
            .findings
            .iter()
            .map(|finding| object!({ "loom": finding.loom.map(|id| id.to_string()), "sequence": finding.sequence, "entry": finding.entry.map(|id| id.to_string()), "what": finding.what }))
            .collect();
        print_json(
            &object!({ "looms": verified.looms, "entries": verified.entries, "blobs": verified.blobs, "findings": findings }),
        )?;
    } else {
        for finding in &verified.findings {
            let place = [
                finding.loom.map(|id| format!("loom {id}")),
                finding.sequence.map(|sequence| format!("entry {sequence}")),
                finding.entry.map(|id| id.to_string()),
            ];
            let place: Vec<String> = place.into_iter().flatten().collect();
            print(&format!("{}{}{}", place.join(" "), if place.is_empty() { "" } else { ": " }, finding.what))?;
        }
        say(&format!(
            "{}, {}, {} recomputed: {}",
            count(verified.looms, "loom", "looms"),
            count(verified.entries, "entry", "entries"),
            count(verified.blobs, "text", "texts"),
            if verified.findings.is_empty() {
                "clean".to_owned()
            } else {
                count(verified.findings.len() as u64, "finding", "findings")
            }
        ));
    }
    Ok(if verified.findings.is_empty() { Exit::Done } else { Exit::Damaged })
}
