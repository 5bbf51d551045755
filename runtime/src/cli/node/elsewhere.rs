//! `cast --node` and `summon --node`: through the socket of a node of this machine, which runs it or passes it on.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::adapters::clock::SystemClock;
use crate::adapters::peer::{PeerLimits, PeerNodes, Way};
use crate::adapters::store::MemoryStore;
use crate::cli::args::{CastArgs, SummonArgs};
use crate::cli::cast::{Ending, observer, print_end, stop_on_signal};
use crate::cli::exit::{CliError, Exit};
use crate::cli::familiar::model_named;
use crate::cli::output::say_text;
use crate::cli::prompt::Prompt;
use crate::cli::settings::Settings;
use crate::cli::show::{Progress, summary};
use crate::cli::{print_result, say};
use crate::domain::copies::Keeper;
use crate::domain::ids::{LoomId, NodeAddress, NodeName, WriterKey};
use crate::domain::limits::STEERS_WAITING_MAX;
use crate::domain::remote::HostIdentity;
use crate::driver::{
    CastError, CastOptions, Control, CopyWire, Linking, RemoteCantrip, RemoteEntity, RemoteError, Runtime,
};
use crate::ports::{BoxFuture, PeerError, Peers};

use super::sockets;

/// Stands for whichever node answers at a socket.
const PROBE: &str = "node@local:0";

/// 3 s. A node of this machine that does not say who it is for so long is passed over: it may be stopped.
const SILENCE: Duration = Duration::from_secs(3);

/// The node that is meant, and the way to it: its own socket, or that of another node of this machine that knows it.
pub(in crate::cli) async fn reach(
    node: &str,
    limits: Option<PeerLimits>,
) -> Result<(Arc<PeerNodes>, NodeAddress), CliError> {
    let limits = limits.unwrap_or_default();
    let mut known: Vec<NodeAddress> = Vec::new();
    let mut through = None;
    let folder = sockets::folder()?;
    let own = each_described(limits, |path, own, peers| {
        if own.is_meant_by(node) {
            return Some((path.to_owned(), own.clone()));
        }
        if let Some(peer) = peers.iter().find(|peer| peer.is_meant_by(node)) {
            through.get_or_insert((path.to_owned(), peer.clone()));
        }
        known.push(own.clone());
        known.extend(peers.iter().cloned());
        None
    });
    if let Some((path, own)) = own.await {
        return Ok((PeerNodes::new(vec![own.clone()], Way::Socket(path), limits), own));
    }
    if let Some((path, peer)) = through {
        return Ok((PeerNodes::new(vec![peer.clone()], Way::Socket(path), limits), peer));
    }
    known.sort();
    known.dedup();
    // Of one that has ended its socket takes no connection.
    let mut silent = None;
    for path in sockets::all(&folder).into_iter().filter(|path| sockets::is_of(path, node)) {
        silent = silent.or(UnixStream::connect(&path).await.ok());
    }
    if silent.is_some() {
        let what = format!("the node {node} of this machine did not say who it is within {} s", SILENCE.as_secs());
        let error = CliError::usage(anyhow::anyhow!(what)).hint("it may be stopped (SIGSTOP), or have too much to do");
        return Err(CliError { exit: Exit::Peer, ..error });
    }
    let error = if known.is_empty() {
        CliError::usage(anyhow::anyhow!("no node runs on this machine, so {node} cannot be reached")).hint(
            "start one: `cantrip-runtime serve --config NODE.toml`; `cantrip-runtime cluster init` makes the file",
        )
    } else {
        let known = known.iter().map(NodeAddress::to_string).collect::<Vec<_>>().join(", ");
        CliError::usage(anyhow::anyhow!("the nodes of this machine know no node `{node}`; they know {known}"))
    };
    Err(CliError { exit: Exit::Peer, ..error })
}

/// A node, by the way of the node of this machine that serves a record; another way, where that one does not know it or is not there.
pub(in crate::cli) async fn reach_by(
    serving: Option<&str>,
    node: &str,
) -> Result<(Arc<PeerNodes>, NodeAddress), CliError> {
    let limits = PeerLimits::default();
    let Some(serving) = serving else { return reach(node, None).await };
    let found = each_described(limits, |path, own, peers| {
        let peer = peers.iter().find(|peer| peer.is_meant_by(node)).filter(|_| own.is_meant_by(serving));
        peer.map(|peer| (path.to_owned(), peer.clone()))
    });
    match found.await {
        Some((path, peer)) => Ok((PeerNodes::new(vec![peer.clone()], Way::Socket(path), limits), peer)),
        None => reach(node, None).await,
    }
}

/// Asks the nodes of this machine all at once who they are, until what one of them says is what is looked for.
async fn each_described<T>(
    limits: PeerLimits,
    mut wanted: impl FnMut(&Path, &NodeAddress, &[NodeAddress]) -> Option<T>,
) -> Option<T> {
    let paths = sockets::all(&sockets::folder().ok()?);
    let asked = paths.into_iter().map(|path| async move {
        // What a node that has gone has left behind answers nothing.
        let described = described(&path, limits).await;
        described.map(|(own, peers)| (path, own, peers))
    });
    let mut asked: FuturesUnordered<_> = asked.collect();
    while let Some(described) = asked.next().await {
        if let Some((path, own, peers)) = described
            && let Some(found) = wanted(&path, &own, &peers)
        {
            return Some(found);
        }
    }
    None
}

/// The way of a client's own record to keepers: through the nodes of this machine.
#[derive(Debug)]
pub(in crate::cli) struct SocketLinks;

/// The keeper that a person names: a node, by its name or by all of it.
pub(in crate::cli) fn keeper(node: &str) -> Result<Keeper, CliError> {
    let named = node.parse::<NodeAddress>().map(|node| node.name().clone());
    named.or_else(|_| node.parse()).map(Keeper::Node).map_err(CliError::usage)
}

/// Which node answers at a socket, and its peers.
async fn described(path: &Path, limits: PeerLimits) -> Option<(NodeAddress, Vec<NodeAddress>)> {
    let probe: NodeAddress = PROBE.parse().ok()?;
    // A node that is there says who it is at once: one that is stopped holds nobody up.
    let limits = PeerLimits { rpc: limits.rpc.min(SILENCE), ..limits };
    let nodes = PeerNodes::new(vec![probe.clone()], Way::Socket(path.to_owned()), limits);
    let described = nodes.describe(probe.name().as_str()).await.ok()?;
    let peers = described.peers.iter().filter_map(|peer| peer.parse().ok()).collect();
    Some((described.node.parse().ok()?, peers))
}

impl Linking for SocketLinks {
    fn knows(&self, _: &NodeName) -> bool {
        // Which nodes run, and whom they know, changes.
        true
    }

    fn listens(&self) -> bool {
        false
    }

    fn identify<'a>(&'a self, node: &'a NodeName) -> BoxFuture<'a, Result<Arc<HostIdentity>, PeerError>> {
        Box::pin(async move {
            let (nodes, whole) = reached(node).await?;
            Linking::identify(&*nodes, whole.name()).await
        })
    }

    fn link<'a>(&'a self, node: &'a NodeName) -> BoxFuture<'a, Result<CopyWire, PeerError>> {
        Box::pin(async move {
            let (nodes, whole) = reached(node).await?;
            nodes.link(whole.name()).await
        })
    }
}

async fn reached(node: &NodeName) -> Result<(Arc<PeerNodes>, NodeAddress), PeerError> {
    let unreachable =
        |error: CliError| PeerError::Unreachable { node: node.to_string(), what: error.source.to_string() };
    reach(node.as_str(), None).await.map_err(unreachable)
}

/// The nodes that this machine's nodes are or know, where any runs.
pub(in crate::cli) async fn peers_here() -> Option<Arc<PeerNodes>> {
    let folder = sockets::folder().ok()?;
    for path in sockets::all(&folder) {
        let Some((own, peers)) = described(&path, PeerLimits::default()).await else { continue };
        let peers = std::iter::once(own).chain(peers).collect();
        return Some(PeerNodes::new(peers, Way::Socket(path), PeerLimits::default()));
    }
    None
}

/// A node that could not be had, in a person's words.
pub(in crate::cli) fn node_error(error: PeerError) -> CliError {
    let hint = match &error {
        PeerError::Unreachable { .. } => Some("is it running? `cantrip-runtime serve --config NODE.toml` starts it"),
        PeerError::Refused { refusal, .. } => refusal.is_by_rule().then_some("the rule is a key of that node's file"),
        PeerError::NoAnswer { .. } | PeerError::Lost { .. } => {
            Some("it may still run there until its lease is over; what it did is in that node's record")
        }
        PeerError::Unknown { .. } | PeerError::Broken { .. } | PeerError::Store(_) => None,
    };
    CliError { exit: Exit::Peer, source: error.into(), hint: hint.map(str::to_owned) }
}

async fn entity(
    (file, llm): (&Path, Option<&str>),
    settings: &Settings,
    node: &str,
    options: CastOptions,
) -> Result<RemoteEntity, CliError> {
    let llm = llm.map(|llm| model_named(settings, llm, "--llm", Path::new("."))).transpose()?;
    let cantrip: RemoteCantrip = settings.remote_cantrip(file, llm.as_ref())?;
    let (nodes, node) = reach(node, None).await?;
    // The record is kept by the nodes; this process only looks on.
    let store = MemoryStore::new(WriterKey::from_bytes([0; 32]));
    let media = Arc::new(crate::embed::NoMedia);
    let runtime = Runtime::new(store, media, Arc::new(SystemClock::default()), "client");
    let runtime = runtime.with_peers(nodes as Arc<dyn Peers>).without_record();
    runtime.summon_at(node.name().as_str(), cantrip, options).map_err(remote_error)
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
        CliError::usage(error).hint("a loom of another node is named by its whole id; `loom ls --json` there prints it")
    })?;
    let options = CastOptions {
        observer: observer(args.quiet, args.events),
        control: Some(control.clone()),
        loom,
        ..CastOptions::default()
    };
    let mut entity = entity((&args.cantrip, args.llm.as_deref()), settings, node, options).await?;
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
    let mut entity = entity((&args.cantrip, args.llm.as_deref()), settings, node, options).await?;
    // The node names the entity and the loom with the first intent.
    say(&format!("an entity on {}; /help says what there is", entity.node()));
    let mut is_named = false;
    let mut prompt = Prompt::new()?;
    while let Some(line) = prompt.line().await? {
        let line = line.as_str();
        match line.split_once(' ').map_or((line, ""), |(word, rest)| (word, rest.trim())) {
            ("", _) => {}
            ("/quit" | "/exit", _) => return Ok(Exit::Done),
            ("/help", _) => say_text(HELP),
            ("/interrupt", _) => entity.control().interrupt(),
            ("/steer", text) => {
                if !entity.control().steer(text) {
                    say(&format!("{STEERS_WAITING_MAX} messages wait already: they are heard at the next turn"));
                }
            }
            ("/fork", turns) => match turns.parse::<u64>() {
                Ok(turns) => {
                    entity = entity.fork(turns);
                    is_named = false;
                    say(&format!("another entity goes on after turn {turns}, with its first intent"));
                }
                Err(_) => say("/fork takes the number of turns to keep"),
            },
            (word, _) if word.starts_with('/') => say(&format!("there is no {word}; /help says what there is")),
            _ => {
                send(&mut entity, line).await?;
                if entity.is_named() && !std::mem::replace(&mut is_named, true) {
                    say(&format!("this is entity {} in loom {}", entity.entity(), entity.loom()));
                }
            }
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
                Some(Value::String(text)) => print_result(text)?,
                Some(value) => print_result(&value.to_string())?,
                None => say_text(outcome.summary.as_deref().unwrap_or_default()),
            }
            say(&summary(&outcome, &entity.loom().to_string()));
        }
        Err(RemoteError::Cast(CastError::Fault(fault))) => return Err(CliError::fault(fault)),
        // The entity is as it was: the same intent can be sent again, and does not run twice.
        Err(error) => say(&format!("error: {:#}", anyhow::Error::from(error))),
    }
    Ok(())
}
