//! `serve`: this machine as a node.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{BoxStream, select};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::adapters::clock::SystemClock;
use crate::adapters::peer::{
    BoxIo, Caller, Identity, NodeServer, PeerNodes, TcpNet, Way, over_socket, over_tls_within,
};
use crate::adapters::private;
use crate::cli::copies;
use crate::cli::exit::{CliError, Exit};
use crate::cli::say;
use crate::cli::settings::Settings;
use crate::domain::copies::Keeper;
use crate::driver::{Casts, Runtime};

use super::host::NodeHost;
use super::member::{self, Membership};
use super::watch::Watch;
use super::{file, sockets};

/// The node file that is taken where none is named.
const FOUND: &str = "node.toml";

pub(in crate::cli) async fn serve(settings: &Settings, config: Option<PathBuf>) -> Result<Exit, CliError> {
    let is_named = config.is_some();
    let config = config.unwrap_or_else(|| PathBuf::from(FOUND));
    let node = settings.for_user(None, |user| file::load(&config, user, is_named))?;
    let [authority, certificate, key] = &node.tls;
    let identity = Identity::from_files(authority, certificate, key).map_err(CliError::usage)?;
    identity.deny(node.deny.clone());
    let identity = Arc::new(identity);
    // The node file can hold headers with secrets.
    let closed = private::close_file(&config).ok().flatten();
    let mut settings = Settings::new(Some(node.data.clone()))?.closing(node.closed.iter().cloned());
    let notice = settings.look_at_data()?;
    let store = settings.store()?;
    let sandboxed = Arc::new(settings.sandbox()?);
    let listener = TcpListener::bind(&node.listen).await.map_err(|error| {
        CliError::usage(anyhow::anyhow!("{} cannot be listened on: {error}", node.listen))
            .hint("another node may run there; `listen` in the node file names another address")
    })?;
    let mut connections: BoxStream<'static, (BoxIo, Caller)> =
        over_tls_within(listener, Arc::clone(&identity), node.accept_limits).boxed();
    let mut socket = None;
    if node.socket {
        let (path, listener) = listen_locally(&node.node.to_string()).await?;
        connections = select(connections, over_socket(listener)).boxed();
        socket = Some(path);
    }
    let peers = node.peers.values().map(|(address, _)| address.clone()).collect();
    let way = Way::Tls { net: Arc::new(TcpNet), identity: Arc::clone(&identity) };
    let peers = PeerNodes::new(peers, way, node.peer_limits);
    let name = Keeper::Node(node.node.name().clone());
    let copies = copies::open(&settings, &store, name, Arc::new(node.copy_policy()))?;
    let membership = Membership {
        identity: Arc::clone(&identity),
        store: Arc::clone(&store),
        copies: Arc::clone(&copies),
        known: None,
    };
    // What is written from here on has to be this node's by name.
    let membership = member::look(membership).await;
    let (watched, key) = (node.node.name().clone(), key.clone());
    let watch = Watch { identity, name: watched, key, config: config.clone(), membership };
    let runtime =
        Runtime::new(store, sandboxed.media_shared(), Arc::new(SystemClock::default()), node.node.to_string());
    let runtime = runtime.with_peers(Arc::clone(&peers) as _).with_copies(Arc::clone(&copies));
    let casts = Casts::new(runtime, node.host_limits.clone());
    let (whole, drain, first) = (node.node.to_string(), node.drain, node.peer_limits.rpc);
    let connection_limits = node.connection_limits;
    let (listen, known) = (node.listen.clone(), node.peers.len());
    let host = NodeHost::new(node, sandboxed, Arc::clone(&peers), Some(Arc::clone(&copies)));
    let server = NodeServer::new(casts.clone(), Arc::clone(&host) as _, first).within(connection_limits);
    let stop = CancellationToken::new();
    let stopping = tokio::spawn(stop_on_signal(stop.clone(), casts.clone(), drain));
    // What drains may wait for copies: they are kept up until it is over.
    let drained = CancellationToken::new();
    let keeping = tokio::spawn(Arc::clone(&copies).keep_up(peers, drained.clone()));
    let telling = tokio::spawn(copies::tell(copies, settings.data().to_owned()));
    // It reads what is recorded: nobody who calls meanwhile waits for that.
    let going_on = tokio::task::spawn_blocking({
        let (host, casts) = (Arc::clone(&host), casts.clone());
        move || host.go_on(&casts)
    });
    say(&format!("{whole} serves on {listen}, with {known} peers; Ctrl-C ends it"));
    if let Some(notice) = &notice {
        say(notice);
    }
    if let Some(mode) = closed {
        say(&format!(
            "others of this machine could read {} (mode {mode:04o}); it is closed to them now",
            config.display()
        ));
    }
    let watching = tokio::spawn(async move { watch.keep(&SystemClock::default()).await });
    let ended = server.serve(connections, stop, drain).await;
    drop(going_on.await);
    stopping.abort();
    telling.abort();
    watching.abort();
    drained.cancel();
    drop(keeping.await);
    if let Some(path) = socket {
        // A node that was killed leaves it too: the next one takes it over.
        drop(std::fs::remove_file(path));
    }
    ended.map_err(CliError::fault)?;
    Ok(Exit::Done)
}

async fn listen_locally(whole: &str) -> Result<(std::path::PathBuf, UnixListener), CliError> {
    let folder = sockets::folder()?;
    sockets::ready(&folder).map_err(CliError::fault)?;
    let path = sockets::socket(&folder, whole);
    if UnixStream::connect(&path).await.is_ok() {
        return Err(CliError::usage(anyhow::anyhow!("the node {whole} runs already on this machine")));
    }
    drop(std::fs::remove_file(&path));
    let listener = UnixListener::bind(&path).map_err(|error| {
        CliError::fault(anyhow::anyhow!("{} cannot be listened on: {error}", path.display()))
            .hint("`socket = false` in the node file leaves it out")
    })?;
    Ok((path, listener))
}

/// The first signal lets what runs come to its end; what is not over by then is stopped.
async fn stop_on_signal(stop: CancellationToken, casts: Casts, drain: Duration) {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
    let running = casts.running();
    if running > 0 {
        say(&format!("{running} casts run; waiting for them up to {} s", drain.as_secs()));
    }
    stop.cancel();
}
