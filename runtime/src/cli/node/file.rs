//! The node file: who the node is, who its peers are, and what each of them may do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cantrip_gates::{Gate, Wards, builtin};
use serde::Deserialize;
use toml::Spanned;

use crate::adapters::llm::{self, LlmConfig};
use crate::adapters::peer::{AcceptLimits, ConnectionLimits, Fingerprint, PeerLimits};
use crate::adapters::wasm::Shelf;
use crate::cli::copies::NodePolicy;
use crate::cli::file::{
    FileError, Source, UserSide, WardsTable, equip, folder_of, parse, read_toml, unknown_gate, wards,
};
use crate::cli::settings::Settings;
use crate::cli::trust::{Reach, Reaching, Statement};
use crate::domain::ids::{NodeAddress, NodeName, NodeNameError};
use crate::domain::limits;
use crate::domain::remote::{Ceiling, Onward};
use crate::driver::{CopyTerms, HostLimits, SlotLimits};

use super::{defaults, origins};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeToml {
    name: Spanned<String>,
    listen: Option<String>,
    data: Option<String>,
    #[serde(default = "defaults::yes")]
    socket: bool,
    tls: Tls,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    models: BTreeMap<String, Spanned<LlmConfig>>,
    default_model: Option<String>,
    #[serde(default)]
    gate: BTreeMap<Spanned<String>, Spanned<toml::Table>>,
    /// Names of guests that every caller has.
    #[serde(default)]
    guests: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    peers: BTreeMap<Spanned<String>, Spanned<PeerToml>>,
    /// Nodes through which nothing that runs here may have been called, whoever asks.
    #[serde(default)]
    refuse_origins: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    authority: String,
    certificate: String,
    key: String,
    /// Certificates that are refused although the authority has made them.
    #[serde(default)]
    deny: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Limits {
    connect_timeout_ms: u64,
    rpc_timeout_ms: u64,
    queue_timeout_ms: u64,
    build_timeout_ms: u64,
    lease_ms: u64,
    lease_ms_max: u64,
    rest_ms: u64,
    idle_ms: u64,
    drain_ms: u64,
    /// Of this machine's own clients together.
    concurrent_casts: usize,
    concurrent_children: usize,
    queue: usize,
    entities: usize,
    handshakes: usize,
    handshakes_per_address: usize,
    handshake_timeout_ms: u64,
    connections: usize,
    connections_per_peer: usize,
    streams_per_connection: u32,
    connection_idle_ms: u64,
    message_bytes_per_peer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_timeout_ms: limits::CONNECT_MS_DEFAULT,
            rpc_timeout_ms: limits::RPC_MS_DEFAULT,
            queue_timeout_ms: limits::QUEUE_MS_DEFAULT,
            build_timeout_ms: 30_000,
            lease_ms: limits::LEASE_MS_DEFAULT,
            lease_ms_max: 600_000,
            rest_ms: limits::ENTITY_REST_MS_DEFAULT,
            idle_ms: limits::ENTITY_IDLE_MS_DEFAULT,
            drain_ms: 30_000,
            concurrent_casts: limits::OWN_CASTS_DEFAULT,
            concurrent_children: limits::OWN_CHILDREN_DEFAULT,
            queue: limits::OWN_QUEUE_DEFAULT,
            entities: 4 * limits::HOSTED_PER_PEER_MAX,
            handshakes: limits::HANDSHAKES_MAX,
            handshakes_per_address: limits::HANDSHAKES_PER_ADDRESS_MAX,
            handshake_timeout_ms: limits::HANDSHAKE_MS_MAX,
            connections: limits::CONNECTIONS_MAX,
            connections_per_peer: limits::CONNECTIONS_PER_PEER_MAX,
            streams_per_connection: limits::STREAMS_PER_CONNECTION_MAX,
            connection_idle_ms: limits::CONNECTION_IDLE_MS,
            message_bytes_per_peer: limits::MESSAGE_BYTES_PER_PEER_MAX,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PeerToml {
    address: String,
    #[serde(default)]
    may: Vec<May>,
    #[serde(default)]
    wards: Option<WardsTable>,
    gates: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    gate: BTreeMap<Spanned<String>, Spanned<toml::Table>>,
    #[serde(default)]
    gates_at_caller: bool,
    /// Nodes through which nothing that it has run here may have been called.
    #[serde(default)]
    refuse_origins: Vec<String>,
    /// The nodes on which its entities here may have children cast.
    nodes: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    models: Vec<String>,
    default_model: Option<String>,
    #[serde(default)]
    model_at_caller: bool,
    guests: Option<BTreeSet<String>>,
    #[serde(default)]
    guest_publishers: Vec<String>,
    #[serde(default)]
    fetch_guests: bool,
    #[serde(default = "defaults::casts")]
    concurrent_casts: usize,
    /// How many children its entities have at once, in all of its casts.
    #[serde(default = "defaults::children")]
    concurrent_children: usize,
    #[serde(default = "defaults::queue")]
    queue: usize,
    /// How many of its entities are in memory at once.
    #[serde(default = "defaults::entities")]
    entities: usize,
    #[serde(default)]
    deploy: DeployToml,
    /// How many bytes of looms are taken from it, in one run of the node.
    #[serde(default = "defaults::keep_bytes")]
    keep_max_bytes: u64,
    /// How many looms it may have kept here.
    #[serde(default = "defaults::keep_looms")]
    keep_max_looms: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum May {
    Cast,
    Deploy,
    /// Have looms kept here.
    Keep,
}

impl May {
    /// The word in the file.
    const fn word(self) -> &'static str {
        match self {
            Self::Cast => "cast",
            Self::Deploy => "deploy",
            Self::Keep => "keep",
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DeployToml {
    pub(super) max_bytes: u64,
    pub(super) quota_bytes: u64,
    pub(super) require_signed: bool,
    pub(super) publishers: Vec<String>,
}

impl Default for DeployToml {
    fn default() -> Self {
        Self {
            max_bytes: limits::DEPLOY_BYTES_DEFAULT,
            quota_bytes: limits::DEPLOY_QUOTA_BYTES_DEFAULT,
            require_signed: false,
            publishers: Vec::new(),
        }
    }
}

/// What one caller may, ready to be used.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) ceiling: Arc<Ceiling>,
    pub(super) gates: BTreeMap<String, Arc<dyn Gate>>,
    /// Whose guests it may run, beside those that are named.
    pub(super) guest_publishers: BTreeSet<[u8; 32]>,
    pub(super) fetch_guests: bool,
    /// How much of its work is done at once.
    pub(super) slots: SlotLimits,
    pub(super) deploy: DeployToml,
    pub(super) publishers: BTreeSet<[u8; 32]>,
    pub(super) copies: CopyTerms,
}

/// A node file, read.
#[derive(Debug)]
pub(super) struct NodeFile {
    pub(super) node: NodeAddress,
    pub(super) listen: String,
    pub(super) data: PathBuf,
    /// Files of its own that no gate opens, beside the data.
    pub(super) closed: Vec<PathBuf>,
    pub(super) socket: bool,
    pub(super) tls: [PathBuf; 3],
    pub(super) deny: BTreeSet<Fingerprint>,
    pub(super) peer_limits: PeerLimits,
    pub(super) host_limits: HostLimits,
    pub(super) accept_limits: AcceptLimits,
    pub(super) connection_limits: ConnectionLimits,
    pub(super) drain: Duration,
    pub(super) folder: PathBuf,
    pub(super) models: BTreeMap<String, LlmConfig>,
    /// Names of guests that every caller has, and their digests.
    pub(super) guests: BTreeMap<String, String>,
    pub(super) peers: BTreeMap<NodeName, (NodeAddress, Policy)>,
    pub(super) local: Policy,
}

impl NodeFile {
    /// Who may have looms kept here, by the names in certificates.
    pub(super) fn copy_policy(&self) -> NodePolicy {
        let peers = self.peers.iter().map(|(name, (_, policy))| (name.clone(), policy.copies));
        NodePolicy::new(peers, self.local.copies)
    }
}

/// What a command about certificates needs of a node file: the rest may be for another machine.
#[derive(Debug)]
pub(super) struct NodeTls {
    /// The node's name, without its address.
    pub(super) name: NodeName,
    /// Authority, certificate and key.
    pub(super) files: [PathBuf; 3],
    pub(super) deny: BTreeSet<Fingerprint>,
}

/// Reads the part of a node file that is about certificates.
pub(super) fn load_tls(file: &Path) -> Result<NodeTls, FileError> {
    #[derive(Deserialize)]
    struct Part {
        name: Spanned<String>,
        tls: Tls,
    }
    let text = read_toml(file)?;
    let source = Source::new(file, &text);
    let part: Part = parse(&source)?;
    let node: NodeAddress = part
        .name
        .get_ref()
        .parse()
        .map_err(|error: NodeNameError| source.wrong(part.name.span().start, "name", error.to_string()))?;
    let folder = folder_of(file);
    let files = [&part.tls.authority, &part.tls.certificate, &part.tls.key].map(|file| folder.join(file));
    Ok(NodeTls { name: node.name().clone(), files, deny: denied(&part.tls, &source)? })
}

/// The certificates that a node file refuses.
fn denied(tls: &Tls, source: &Source<'_>) -> Result<BTreeSet<Fingerprint>, FileError> {
    let parsed = tls.deny.iter().map(|text| text.parse()).collect::<Result<BTreeSet<Fingerprint>, _>>();
    parsed.map_err(|error| source.wrong(0, "tls.deny", error.to_string()))
}

/// What a node file reaches beyond its own project.
pub(in crate::cli) fn reach_of(source: &Source<'_>, home: Option<&Path>) -> Result<Statement, FileError> {
    Ok(reach(&parse(source)?, source.file, home))
}

fn reach(parsed: &NodeToml, file: &Path, home: Option<&Path>) -> Statement {
    let mut reaching = Reaching::new(file, home, &Settings::env);
    for model in parsed.models.values() {
        reaching.model(model.get_ref());
    }
    let of_peers = parsed.peers.values().flat_map(|peer| &peer.get_ref().gate);
    for (name, table) in parsed.gate.iter().chain(of_peers) {
        reaching.gate(name.get_ref(), table.get_ref());
    }
    for path in [&parsed.tls.authority, &parsed.tls.certificate, &parsed.tls.key].into_iter().chain(&parsed.data) {
        reaching.uses(path);
    }
    let own = parsed.name.get_ref();
    let named = own.parse::<NodeAddress>().map_or_else(|_| own.clone(), |node| node.address().to_owned());
    let address = parsed.listen.clone().unwrap_or(named);
    reaching.add(Reach::Listens { address });
    for (name, peer) in &parsed.peers {
        let peer = peer.get_ref();
        let mut may: Vec<String> = peer.may.iter().map(|may| may.word().to_owned()).collect();
        let onward = peer.nodes.iter().flat_map(Spanned::get_ref);
        may.extend(onward.map(|node| format!("cast on to {node}")));
        may.sort();
        may.dedup();
        reaching.add(Reach::Peer { name: name.get_ref().clone(), address: peer.address.clone(), may });
    }
    reaching.end()
}

/// Reads a node file and checks everything in it. Nothing is opened but the roots of gates. One that is not named but found is
/// judged like any other file.
pub(super) fn load(file: &Path, user: &UserSide<'_>, is_named: bool) -> Result<NodeFile, FileError> {
    let text = read_toml(file)?;
    let source = Source::new(file, &text);
    let parsed: NodeToml = parse(&source)?;
    if !is_named {
        (user.trust)(file, &reach(&parsed, file, user.home))?;
    }
    let folder = folder_of(file);
    let node = parsed.name.get_ref().parse::<NodeAddress>();
    let node = node.map_err(|error| source.wrong(parsed.name.span().start, "name", error.to_string()))?;
    let data = folder.join(parsed.data.as_deref().unwrap_or("data"));
    let tls = [&parsed.tls.authority, &parsed.tls.certificate, &parsed.tls.key].map(|file| folder.join(file));
    let own_files = [file.to_owned(), tls[2].clone()];
    let closed: Vec<PathBuf> = user.closed.iter().chain([&data]).chain(&own_files).cloned().collect();
    let source = Source::closing(file, &text, &closed);
    let env = user.env;
    for (key, model) in &parsed.models {
        let at = model.span().start;
        // Built once here, so that a mistake shows at the start and not in a cast.
        llm::build(model.get_ref(), folder, env)
            .map_err(|error| source.wrong(at, format!("models.{key}"), error.to_string()))?;
    }
    let models: BTreeMap<String, LlmConfig> =
        parsed.models.into_iter().map(|(name, model)| (name, model.into_inner())).collect();
    let known_model = |at: usize, key: String, name: &str| {
        if models.contains_key(name) {
            return Ok(());
        }
        let known = models.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        Err(source.wrong(at, key, format!("there is no [models.{name}]; there are {known}")))
    };
    if let Some(name) = &parsed.default_model {
        known_model(0, "default_model".to_owned(), name)?;
    }
    let deny = denied(&parsed.tls, &source)?;
    let own = gates("gate", &parsed.gate, &source, folder)?;
    let listed: BTreeSet<String> = parsed.peers.keys().map(|peer| peer.get_ref().clone()).collect();
    let mut peers = BTreeMap::new();
    for (peer, table) in parsed.peers {
        let (at, key) = (peer.span().start, format!("peers.{}", peer.get_ref()));
        let table = table.into_inner();
        let parsed_address = peer.get_ref().parse().and_then(|name| NodeAddress::new(name, &table.address));
        let address = parsed_address.map_err(|error| source.wrong(at, &key, error.to_string()))?;
        if address.name() == node.name() {
            return Err(source.wrong(at, key, "is this node itself"));
        }
        for model in table.models.iter().chain(&table.default_model) {
            known_model(at, format!("{key}.models"), model)?;
        }
        let mut granted = gates(&format!("{key}.gate"), &table.gate, &source, folder)?;
        let mut names = BTreeSet::new();
        let gates_at = table.gates.as_ref().map_or(at, |gates| gates.span().start);
        for gate in table.gates.iter().flat_map(Spanned::get_ref) {
            if !builtin::NAMES.contains(&gate.as_str()) {
                return Err(unknown_gate(&source, gates_at, &format!("{key}.gates"), gate));
            }
            if !granted.contains_key(gate) && !builtin::RUN_BY_THE_RUNTIME.contains(&gate.as_str()) {
                let equipped = match own.get(gate) {
                    Some(gate) => Arc::clone(gate),
                    None => equip(gate, None, &source, folder, gates_at)?,
                };
                granted.insert(gate.clone(), equipped);
            }
            names.insert(gate.clone());
        }
        names.extend(granted.keys().cloned());
        let keys = |name: &str, texts: &[String]| {
            let parsed = texts.iter().map(|text| super::deploy::parse_key(text));
            parsed.collect::<Result<BTreeSet<_>, _>>().map_err(|what| source.wrong(at, format!("{key}.{name}"), what))
        };
        let publishers = keys("deploy.publishers", &table.deploy.publishers)?;
        let guest_publishers = keys("guest_publishers", &table.guest_publishers)?;
        // Whoever names publishers and no guests means theirs alone.
        let guests = table.guests.or_else(|| (!guest_publishers.is_empty()).then(BTreeSet::new));
        let ceiling = Ceiling {
            rule: key.clone(),
            cast: table.may.contains(&May::Cast),
            deploy: table.may.contains(&May::Deploy),
            wards: wards(&format!("{key}.wards"), table.wards, &source)?,
            gates: names,
            gates_at_caller: table.gates_at_caller,
            nodes: Onward::Only(onward(table.nodes.as_ref(), &listed, &source, &key)?),
            default_model: table.default_model,
            models: table.models.into_iter().collect(),
            model_at_caller: table.model_at_caller,
            guests,
            refuse_origins: origins::refused([
                ("refuse_origins", &parsed.refuse_origins),
                (&format!("{key}.refuse_origins"), &table.refuse_origins),
            ])
            .map_err(|(key, error)| source.wrong(at, key, error.to_string()))?,
        };
        let may_keep = table.may.contains(&May::Keep);
        let policy = Policy {
            copies: CopyTerms {
                disk: may_keep,
                memory: may_keep,
                bytes_max: table.keep_max_bytes,
                looms_max: table.keep_max_looms,
            },
            ceiling: Arc::new(ceiling),
            gates: granted,
            guest_publishers,
            fetch_guests: table.fetch_guests,
            slots: SlotLimits {
                running: table.concurrent_casts,
                waiting: table.queue,
                entities: table.entities,
                children: table.concurrent_children,
            },
            deploy: table.deploy,
            publishers,
        };
        peers.insert(address.name().clone(), (address, policy));
    }
    let limits = parsed.limits;
    let local = local(&models, parsed.default_model, own, &limits);
    let duration = Duration::from_millis;
    Ok(NodeFile {
        listen: parsed.listen.unwrap_or_else(|| node.address().to_owned()),
        node,
        data,
        closed: own_files.to_vec(),
        socket: parsed.socket,
        deny,
        tls,
        peer_limits: PeerLimits {
            connect: duration(limits.connect_timeout_ms),
            rpc: duration(limits.rpc_timeout_ms),
            lease: duration(limits.lease_ms),
        },
        host_limits: HostLimits {
            lease: duration(limits.lease_ms),
            lease_max: duration(limits.lease_ms_max),
            queue: duration(limits.queue_timeout_ms),
            build: duration(limits.build_timeout_ms),
            rest: duration(limits.rest_ms),
            idle: duration(limits.idle_ms),
        },
        accept_limits: AcceptLimits {
            handshakes: limits.handshakes.max(1),
            handshakes_per_address: limits.handshakes_per_address.max(1),
            handshake: duration(limits.handshake_timeout_ms),
        },
        connection_limits: ConnectionLimits {
            connections: limits.connections,
            per_peer: limits.connections_per_peer,
            streams: limits.streams_per_connection,
            idle: duration(limits.connection_idle_ms),
            message_bytes_per_peer: limits.message_bytes_per_peer,
        },
        drain: duration(limits.drain_ms),
        folder: folder.to_owned(),
        models,
        guests: guests(parsed.guests, &source)?,
        peers,
        local,
    })
}

/// The names of guests that every caller has.
fn guests(
    named: BTreeMap<Spanned<String>, Spanned<String>>,
    source: &Source<'_>,
) -> Result<BTreeMap<String, String>, FileError> {
    let checked = |(name, digest): (Spanned<String>, Spanned<String>)| {
        let at = digest.span().start;
        let (name, digest) = (name.into_inner(), digest.into_inner());
        Shelf::check_named(&name, &digest)
            .map_err(|error| source.wrong(at, format!("guests.{name}"), error.to_string()))?;
        Ok((name, digest))
    };
    named.into_iter().map(checked).collect()
}

/// The nodes that a peer's entities may go on to: each is a peer of this node.
fn onward(
    named: Option<&Spanned<Vec<String>>>,
    listed: &BTreeSet<String>,
    source: &Source<'_>,
    key: &str,
) -> Result<BTreeSet<NodeName>, FileError> {
    let Some(named) = named else { return Ok(BTreeSet::new()) };
    let (at, key) = (named.span().start, format!("{key}.nodes"));
    let parse = |name: &String| {
        if !listed.contains(name) {
            let known = listed.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(source.wrong(at, &key, format!("there is no [peers.{name}]; there are {known}")));
        }
        name.parse().map_err(|error: NodeNameError| source.wrong(at, &key, error.to_string()))
    };
    named.get_ref().iter().map(parse).collect()
}

/// Whoever may open the node's socket may read its file and its record too: everything the file names is granted.
fn local(
    models: &BTreeMap<String, LlmConfig>,
    default_model: Option<String>,
    mut gates: BTreeMap<String, Arc<dyn Gate>>,
    limits: &Limits,
) -> Policy {
    for gate in [builtin::echo(), builtin::done()] {
        gates.entry(gate.spec().name.to_string()).or_insert(gate);
    }
    let mut names: BTreeSet<String> = gates.keys().cloned().collect();
    names.extend(builtin::RUN_BY_THE_RUNTIME.iter().map(|&name| name.to_owned()));
    let ceiling = Ceiling {
        rule: "local".to_owned(),
        cast: true,
        deploy: true,
        wards: Wards::default(),
        gates: names,
        gates_at_caller: true,
        nodes: Onward::All,
        models: models.keys().cloned().collect(),
        default_model,
        model_at_caller: true,
        guests: None,
        refuse_origins: BTreeMap::new(),
    };
    Policy {
        ceiling: Arc::new(ceiling),
        gates,
        guest_publishers: BTreeSet::new(),
        fetch_guests: true,
        slots: SlotLimits {
            running: limits.concurrent_casts,
            waiting: limits.queue,
            entities: limits.entities,
            children: limits.concurrent_children,
        },
        deploy: DeployToml { quota_bytes: u64::MAX, ..DeployToml::default() },
        publishers: BTreeSet::new(),
        copies: CopyTerms { disk: true, memory: true, bytes_max: u64::MAX, looms_max: usize::MAX },
    }
}

fn gates(
    key: &str,
    tables: &BTreeMap<Spanned<String>, Spanned<toml::Table>>,
    source: &Source<'_>,
    folder: &Path,
) -> Result<BTreeMap<String, Arc<dyn Gate>>, FileError> {
    let mut gates = BTreeMap::new();
    for (name, table) in tables {
        if !builtin::NAMES.contains(&name.get_ref().as_str()) {
            return Err(unknown_gate(source, name.span().start, &format!("{key}.{}", name.get_ref()), name.get_ref()));
        }
        let gate = equip(name.get_ref(), Some(table), source, folder, table.span().start)?;
        gates.insert(name.get_ref().clone(), gate);
    }
    Ok(gates)
}

#[cfg(test)]
#[path = "fuzz_tests.rs"]
mod fuzz_tests;
