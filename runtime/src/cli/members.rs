//! `loom members`, `admit` and `expel`: who may write into a loom.

use std::sync::Arc;

use serde_json::{Value, json as object};

use crate::adapters::clock::SystemClock;
use crate::domain::ids::{EntryId, LoomId};
use crate::domain::members::{Member, Principal, Right, Rights, Target};
use crate::driver::{Changed, Fault, Members, Named, Runtime};
use crate::ports::LoomStore;

use super::args::{AdmitArgs, ExpelArgs};
use super::copies;
use super::exit::{CliError, Exit};
use super::names::find_loom;
use super::node;
use super::output::print_json;
use super::settings::Settings;
use super::show::count;
use super::{print, say};

pub(super) fn principal_json(principal: &Principal) -> Value {
    match principal {
        Principal::Node(node) => {
            object!({ "node": node.name.to_string(), "authority": node.authority.to_string() })
        }
        Principal::Key(key) => object!({ "key": key.to_string() }),
    }
}

fn target_json(target: &Target) -> Value {
    match target {
        Target::Node(node) => principal_json(&Principal::Node(node.clone())),
        Target::Key(key) => principal_json(&Principal::Key(*key)),
        Target::Certificate(certificate) => object!({ "certificate": certificate.to_string() }),
    }
}

fn target_text(target: &Target) -> String {
    match target {
        Target::Node(node) => node.to_string(),
        Target::Key(key) => key.to_string(),
        Target::Certificate(certificate) => format!("certificate {certificate}"),
    }
}

fn members_json(loom: LoomId, own: &str, members: &Members) -> Value {
    let named = |principal: &Option<Principal>| principal.as_ref().map(principal_json);
    let member = |member: &Member| {
        object!({
            "member": principal_json(&member.principal), "rights": member.rights.words(),
            "cast": member.scope.map(|scope| scope.entity.to_string()), "admission": member.admission.to_string(),
        })
    };
    object!({
        "loom": loom.to_string(),
        "this_node": { "key": own, "is": named(&members.this_node) },
        "founder": named(&members.founder),
        "members": members.members.iter().map(member).collect::<Vec<_>>(),
        "expelled": members.expelled.iter().map(|(target, by)| object!({ "target": target_json(target), "by": by.to_string() })).collect::<Vec<_>>(),
        "writers": members.writers.iter().map(|(key, is)| object!({ "key": key.to_string(), "is": named(is) })).collect::<Vec<_>>(),
        "decides_nothing": members.refused.iter().map(|(why, entries)| object!({ "why": why, "entries": entries })).collect::<Vec<_>>(),
    })
}

pub(super) fn list(settings: &Settings, named: Option<&str>, as_json: bool) -> Result<Exit, CliError> {
    let reader = settings.reader()?;
    let loom = find_loom(&**reader.store(), named)?;
    let members = reader.members(loom).map_err(CliError::fault)?;
    let own = reader.store().writer().to_string();
    if as_json {
        print_json(&members_json(loom, &own, &members))?;
        return Ok(Exit::Done);
    }
    print(&format!("loom {loom}"))?;
    match &members.founder {
        Some(founder) => print(&format!("  founder   {founder}"))?,
        None => print("  founder   not known here: the first entry of the loom has not come")?,
    }
    for member in members.members.iter().filter(|member| member.scope.is_none()) {
        let rights = member.rights.words().join(", ");
        print(&format!("  member    {}  may {rights}", member.principal))?;
    }
    let casts = members.members.iter().filter(|member| member.scope.is_some()).count();
    if casts > 0 {
        print(&format!("  hosts     of {}, each for its cast alone", count(casts as u64, "cast", "casts")))?;
    }
    for (target, by) in &members.expelled {
        print(&format!("  expelled  {}  by {by}", target_text(target)))?;
    }
    for (why, entries) in &members.refused {
        say(&format!("{} decide nothing: {why}", count(*entries, "entry", "entries")));
    }
    match &members.this_node {
        Some(own) => say(&format!("this node is {own} here")),
        None => say(&format!("this node is no member here; its key is {own}")),
    }
    Ok(Exit::Done)
}

/// Who may write into a loom; nothing for one that is not here.
pub(super) fn about(store: Arc<dyn LoomStore>, loom: LoomId) -> Option<Members> {
    let media = Arc::new(crate::embed::NoMedia);
    Runtime::new(store, media, Arc::new(SystemClock::default()), "local").members(loom).ok()
}

/// Who else may go on with a loom if this node is lost.
pub(super) fn who_goes_on(store: Arc<dyn LoomStore>, loom: LoomId) -> Vec<Principal> {
    let Some(members) = about(store, loom) else { return Vec::new() };
    let adopt = members.members.iter().filter(|member| member.scope.is_none() && member.rights.has(Right::Adopt));
    let mut all: Vec<Principal> =
        members.founder.into_iter().chain(adopt.map(|member| member.principal.clone())).collect();
    all.retain(|principal| Some(principal) != members.this_node.as_ref());
    all.sort();
    all.dedup();
    all
}

/// Whether somebody else may go on with a loom if this node is lost; else what is said about it.
pub(super) fn nobody_else(store: Arc<dyn LoomStore>, loom: LoomId, named: &str) -> Option<String> {
    let members = about(store, loom)?;
    let may = members.members.iter().any(|member| member.scope.is_none() && member.rights.has(Right::Adopt));
    let is_founder = members.founder.is_some() && members.founder == members.this_node;
    (!may && is_founder).then(|| {
        format!(
            "nobody else can go on with the loom if this node is lost; `loom admit {loom} {named} --may write,adopt` changes that"
        )
    })
}

/// Admits the node that is to keep a loom, in the process that has the record.
pub(super) async fn admit_here(runtime: &Runtime, loom: LoomId, node: &str, rights: &[Right]) -> Result<(), CliError> {
    let named: Named = node.parse().map_err(|why: String| CliError::usage(anyhow::anyhow!(why)))?;
    let principal = principal(runtime, loom, &named).await?;
    runtime.admit(loom, principal, rights.iter().copied().collect(), None).await.map_err(CliError::driver)?;
    Ok(())
}

/// Whom a person means: by the loom's record, or as the node says itself, through a node of this machine that knows it.
async fn principal(runtime: &Runtime, loom: LoomId, named: &Named) -> Result<Principal, CliError> {
    match (runtime.principal(loom, named).await, named) {
        (Err(Fault::NoNode { .. }), Named::Node(name)) => {
            let (nodes, whole) = node::reach(name.as_str(), None).await?;
            runtime.identified(loom, whole.name(), &*nodes).await.map_err(CliError::driver)
        }
        (known, _) => known.map_err(CliError::driver),
    }
}

/// Has the node that serves admit the one that is to keep a loom.
pub(super) async fn admit_there(
    settings: &Settings,
    loom: LoomId,
    node: &str,
    rights: &[Right],
) -> Result<(), CliError> {
    let serving = copies::serving(settings).ok_or_else(|| {
        CliError::usage(anyhow::anyhow!("the process that has the record serves nobody, so it admits nobody"))
            .hint("try again when it has ended")
    })?;
    let (nodes, whole) = node::reach(&serving, None).await?;
    let rights: Rights = rights.iter().copied().collect();
    let changed = nodes.change_members(whole.name().as_str(), loom, node, Some(&rights), None).await;
    let changed = changed.map_err(node::node_error)?;
    if changed.refused.is_empty() { Ok(()) } else { Err(CliError::usage(anyhow::anyhow!(changed.refused))) }
}

/// What is to be changed.
enum Change {
    Admit(Rights),
    Expel,
}

pub(super) async fn admit(settings: &Settings, args: AdmitArgs) -> Result<Exit, CliError> {
    let rights: Rights = args.may.iter().copied().collect();
    let said = (args.loom.as_str(), args.node.as_str(), args.by.clone());
    change(settings, said, Change::Admit(rights), args.json).await
}

pub(super) async fn expel(settings: &Settings, args: ExpelArgs) -> Result<Exit, CliError> {
    let said = (args.loom.as_str(), args.node.as_str(), args.by.clone());
    change(settings, said, Change::Expel, args.json).await
}

async fn change(
    settings: &Settings,
    (loom, node, by): (&str, &str, Option<String>),
    change: Change,
    as_json: bool,
) -> Result<Exit, CliError> {
    let named: Named = node.parse().map_err(|why: String| CliError::usage(anyhow::anyhow!(why)))?;
    let sandboxed = settings.sandbox()?;
    let entry = match settings.runtime(&sandboxed, false) {
        Ok(runtime) => {
            let loom = find_loom(&**runtime.store(), Some(loom))?;
            let principal = principal(&runtime, loom, &named).await?;
            let changed = match change {
                Change::Admit(ref rights) => runtime.admit(loom, principal, rights.clone(), by).await,
                Change::Expel => runtime.expel(loom, principal.into(), by).await,
            };
            match changed.map_err(CliError::driver)? {
                Changed::By(entry) => Some(entry),
                Changed::Nothing => None,
            }
        }
        Err(error) => {
            // A node that serves has the record: it does it.
            let Some(serving) = copies::serving(settings).filter(|_| copies::is_locked(&error)) else {
                return Err(error);
            };
            let loom = find_loom(&*settings.reading()?, Some(loom))?;
            let rights = match &change {
                Change::Admit(rights) => Some(rights),
                Change::Expel => None,
            };
            let (nodes, whole) = node::reach(&serving, None).await?;
            let changed = nodes.change_members(whole.name().as_str(), loom, node, rights, by.as_deref()).await;
            let changed = changed.map_err(node::node_error)?;
            if !changed.refused.is_empty() {
                return Err(CliError::usage(anyhow::anyhow!(changed.refused)));
            }
            let entry = (!changed.entry.is_empty()).then(|| changed.entry.parse::<EntryId>()).transpose();
            entry.map_err(CliError::fault)?
        }
    };
    told(node, &change, entry, as_json)
}

fn told(node: &str, change: &Change, entry: Option<EntryId>, as_json: bool) -> Result<Exit, CliError> {
    if as_json {
        print_json(&object!({ "node": node, "changed": entry.is_some(), "entry": entry.map(|id| id.to_string()) }))?;
        return Ok(Exit::Done);
    }
    if let Some(entry) = entry {
        print(&entry.to_string())?;
    }
    say(&match (change, entry) {
        (Change::Admit(rights), Some(_)) => {
            format!("{node} is a member now: it may {}", rights.words().join(", "))
        }
        (Change::Admit(_), None) => format!("{node} may do that already"),
        (Change::Expel, Some(_)) => {
            format!(
                "{node} is no member any more: what it has written stays, what it writes from now on decides nothing"
            )
        }
        (Change::Expel, None) => format!("{node} is no member"),
    });
    Ok(Exit::Done)
}
