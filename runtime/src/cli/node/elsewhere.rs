//! `cast --node` and `summon --node`: through the socket of a node of this machine, which runs it or passes it on.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::adapters::clock::SystemClock;
use crate::adapters::peer::{PeerAddress, PeerLimits, PeerNodes, Way};
use crate::adapters::store::MemoryStore;
use crate::cli::args::{CastArgs, SummonArgs};
use crate::cli::cast::{Ending, observer, print_end, stop_on_signal};
use crate::cli::exit::{CliError, Exit};
use crate::cli::prompt::Prompt;
use crate::cli::settings::Settings;
use crate::cli::show::{Progress, summary};
use crate::cli::{print, say};
use crate::domain::copies::LOCAL;
use crate::domain::ids::{LoomId, WriterKey};
use crate::driver::{
    CastError, CastOptions, Control, CopyWire, Linking, RemoteCantrip, RemoteEntity, RemoteError, Runtime,
};
use crate::ports::{BoxFuture, PeerError, Peers};

use super::file::split_name;
use super::sockets;

/// The node that is meant, and the way to it: its own socket, or that of another node of this machine that knows it.
pub(in crate::cli) async fn reach(
    node: &str,
    limits: Option<PeerLimits>,
) -> Result<(Arc<PeerNodes>, String), CliError> {
    let folder = sockets::folder()?;
    let limits = limits.unwrap_or_default();
    let mut known: Vec<String> = Vec::new();
    let mut through = None;
    for path in sockets::all(&folder) {
        let probe = PeerAddress { name: "node".to_owned(), address: "local:0".to_owned() };
        let nodes = PeerNodes::new(vec![probe], Way::Socket(path.clone()), limits);
        // What a node that has gone has left behind answers nothing.
        let Ok(described) = nodes.describe("node").await else { continue };
        if is_named(&described.node, node) {
            return way(path, &described.node, limits);
        }
        if let Some(peer) = described.peers.iter().find(|peer| is_named(peer, node)) {
            through.get_or_insert((path, peer.clone()));
        }
        known.push(described.node);
        known.extend(described.peers);
    }
    if let Some((path, peer)) = through {
        return way(path, &peer, limits);
    }
    known.sort();
    known.dedup();
    let error = if known.is_empty() {
        CliError::usage(anyhow::anyhow!("no node runs on this machine, so {node} cannot be reached")).hint(
            "start one: `cantrip-runtime serve --config NODE.toml`; `cantrip-runtime cluster init` makes the file",
        )
    } else {
        let known = known.join(", ");
        CliError::usage(anyhow::anyhow!("the nodes of this machine know no node `{node}`; they know {known}"))
    };
    Err(CliError { exit: Exit::Peer, ..error })
}

/// The way of a client's own record to keepers: through the nodes of this machine.
#[derive(Debug)]
pub(in crate::cli) struct SocketLinks;

/// A node's name in its certificate.
pub(in crate::cli) fn short_name(node: &str) -> String {
    node.split('@').next().unwrap_or(node).to_owned()
}

impl Linking for SocketLinks {
    fn knows(&self, node: &str) -> bool {
        // Which nodes run, and whom they know, changes.
        node != LOCAL && !node.contains('/')
    }

    fn listens(&self) -> bool {
        false
    }

    fn link<'a>(&'a self, node: &'a str) -> BoxFuture<'a, Result<CopyWire, PeerError>> {
        Box::pin(async move {
            let reached = reach(node, None).await;
            let (nodes, whole) = reached
                .map_err(|error| PeerError::Unreachable { node: node.to_owned(), what: error.source.to_string() })?;
            nodes.link(&whole).await
        })
    }
}

fn is_named(whole: &str, asked: &str) -> bool {
    whole == asked || whole.split('@').next() == Some(asked)
}

/// The nodes that this machine's nodes are or know, where any runs.
pub(in crate::cli) async fn peers_here() -> Option<Arc<PeerNodes>> {
    let folder = sockets::folder().ok()?;
    for path in sockets::all(&folder) {
        let probe = PeerAddress { name: "node".to_owned(), address: "local:0".to_owned() };
        let nodes = PeerNodes::new(vec![probe], Way::Socket(path.clone()), PeerLimits::default());
        let Ok(described) = nodes.describe("node").await else { continue };
        let all = std::iter::once(&described.node).chain(&described.peers);
        let peers = all.filter_map(|whole| split_name(whole).ok());
        let peers = peers.map(|(name, address)| PeerAddress { name, address }).collect();
        return Some(PeerNodes::new(peers, Way::Socket(path), PeerLimits::default()));
    }
    None
}

fn way(path: std::path::PathBuf, whole: &str, limits: PeerLimits) -> Result<(Arc<PeerNodes>, String), CliError> {
    let (name, address) = split_name(whole).map_err(|what| CliError::fault(anyhow::anyhow!(what)))?;
    let peer = PeerAddress { name, address };
    Ok((PeerNodes::new(vec![peer], Way::Socket(path), limits), whole.to_owned()))
}

/// A node that could not be had, in a person's words.
pub(in crate::cli) fn node_error(error: PeerError) -> CliError {
    let hint = match &error {
        PeerError::Unreachable { .. } => Some("is it running? `cantrip-runtime serve --config NODE.toml` starts it"),
        PeerError::Refused { .. } => Some("the rule is a key of that node's file"),
        PeerError::NoAnswer { .. } | PeerError::Lost { .. } => {
            Some("it may still run there until its lease is over; what it did is in that node's record")
        }
        PeerError::Unknown { .. } | PeerError::Broken { .. } | PeerError::Store(_) => None,
    };
    CliError { exit: Exit::Peer, source: error.into(), hint: hint.map(str::to_owned) }
}

async fn entity(file: &Path, settings: &Settings, node: &str, options: CastOptions) -> Result<RemoteEntity, CliError> {
    let cantrip: RemoteCantrip = settings.remote_cantrip(file)?;
    let (nodes, node) = reach(node, None).await?;
    // The record is kept by the nodes; this process only looks on.
    let store = MemoryStore::new(WriterKey::from_bytes([0; 32]));
    let media = Arc::new(crate::embed::NoMedia);
    let runtime = Runtime::new(store, media, Arc::new(SystemClock::default()), "client");
    let runtime = runtime.with_peers(nodes as Arc<dyn Peers>);
    runtime.summon_at(&node, cantrip, options).map_err(remote_error)
}

fn remote_error(error: RemoteError) -> CliError {
    match error {
        RemoteError::Peer(error) => node_error(error),
        RemoteError::Cast(CastError::NoIntent) => CliError::usage(CastError::NoIntent),
        RemoteError::Cast(error) => CliError::fault(error),
    }
}

pub(in crate::cli) async fn cast(settings: &Settings, args: &CastArgs, node: &str) -> Result<Exit, CliError> {
    let control = Control::new();
    let loom = args.loom.as_deref().map(str::parse::<LoomId>).transpose().map_err(|error| {
        CliError::usage(error).hint("a loom of another node is named by its whole id; `loom ls` there prints it")
    })?;
    let options = CastOptions {
        observer: observer(args.quiet, args.events),
        control: Some(control.clone()),
        loom,
        ..CastOptions::default()
    };
    let mut entity = entity(&args.cantrip, settings, node, options).await?;
    let stopping = tokio::spawn(stop_on_signal(control));
    let ended = entity.send(args.intent.as_deref().unwrap_or_default()).await;
    stopping.abort();
    let (outcome, failure) = match ended {
        Ok(outcome) => (outcome, None),
        Err(RemoteError::Cast(CastError::Failed { failure, outcome })) => (*outcome, Some(failure)),
        Err(error) => return Err(remote_error(error)),
    };
    print_end(args.json, &Ending { outcome, failure, loom: entity.loom(), node: Some(entity.node()) })
}

const HELP: &str = "\
Anything else is an intent. Ctrl-C ends the episode after its turn; a second one stops it at once.
  /fork N      go on in a copy of this thread after its first N turns, on the same node
  /interrupt   end the next episode at its first turn boundary
  /steer TEXT  say something that the next episode hears at its first turn
  /help        this
  /quit        leave";

pub(in crate::cli) async fn summon(settings: &Settings, args: &SummonArgs, node: &str) -> Result<Exit, CliError> {
    let options = CastOptions {
        observer: Some(Arc::new(Progress::new())),
        control: Some(Control::new()),
        ..CastOptions::default()
    };
    let mut entity = entity(&args.cantrip, settings, node, options).await?;
    say(&format!(
        "entity {} on {} in loom {}; /help says what there is",
        entity.entity(),
        entity.node(),
        entity.loom()
    ));
    let mut prompt = Prompt::new()?;
    while let Some(line) = prompt.line().await? {
        let line = line.as_str();
        match line.split_once(' ').map_or((line, ""), |(word, rest)| (word, rest.trim())) {
            ("", _) => {}
            ("/quit" | "/exit", _) => return Ok(Exit::Done),
            ("/help", _) => say(HELP),
            ("/interrupt", _) => entity.control().interrupt(),
            ("/steer", text) => {
                if !entity.control().steer(text) {
                    say("too much is waiting to be heard already");
                }
            }
            ("/fork", turns) => match turns.parse::<u64>() {
                Ok(turns) => {
                    entity = entity.fork(turns);
                    say(&format!("entity {} goes on after turn {turns}, with its first intent", entity.entity()));
                }
                Err(_) => say("/fork takes the number of turns to keep"),
            },
            (word, _) if word.starts_with('/') => say(&format!("there is no {word}; /help says what there is")),
            _ => send(&mut entity, line).await?,
        }
    }
    Ok(Exit::Done)
}

async fn send(entity: &mut RemoteEntity, intent: &str) -> Result<(), CliError> {
    let stopping = tokio::spawn(stop_on_signal(entity.control()));
    let ended = entity.send(intent).await;
    stopping.abort();
    match ended {
        Ok(outcome) => {
            match &outcome.result {
                Some(Value::String(text)) => print(text)?,
                Some(value) => print(&value.to_string())?,
                None => say(outcome.summary.as_deref().unwrap_or_default()),
            }
            say(&summary(&outcome, &entity.loom().to_string()));
        }
        Err(RemoteError::Cast(CastError::Fault(fault))) => return Err(CliError::fault(fault)),
        // The entity is as it was: the same intent can be sent again, and does not run twice.
        Err(error) => say(&format!("error: {:#}", anyhow::Error::from(error))),
    }
    Ok(())
}
