//! `cluster init`: an authority, certificates and node files that can be served as they are.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use crate::adapters::clock::SystemClock;
use crate::adapters::peer::{CertificateInfo, Period, make_authority_for, make_certificate_for};
use crate::adapters::{private, reading};
use crate::cli::args::ClusterInitArgs;
use crate::cli::exit::{CliError, Exit};
use crate::cli::output::say_text;
use crate::cli::print_result;
use crate::domain::ids::NodeAddress;
use crate::domain::limits::NOTE_BYTES_MAX;
use crate::ports::Clock;

pub(super) const AUTHORITY: &str = "ca.pem";
pub(super) const AUTHORITY_KEY: &str = "ca.key";

pub(in crate::cli) fn cluster_init(args: &ClusterInitArgs) -> Result<Exit, CliError> {
    let mut nodes = Vec::new();
    for whole in &args.node {
        let node: NodeAddress = whole.parse().map_err(CliError::usage)?;
        if nodes.iter().any(|other: &NodeAddress| other.name() == node.name()) {
            return Err(CliError::usage(anyhow::anyhow!("two nodes are named `{}`", node.name())));
        }
        nodes.push(node);
    }
    let folder = &args.folder;
    let io = |error: io::Error| CliError::fault(anyhow::anyhow!("{}: {error}", folder.display()));
    let taken = nodes.iter().find(|node| folder.join(node.name().as_str()).join("node.toml").exists());
    if let Some(node) = taken {
        return Err(CliError::usage(anyhow::anyhow!("{} has a node `{}` already", folder.display(), node.name()))
            .hint("name another folder, or only the nodes that are new"));
    }
    let root = match &args.root {
        None => None,
        Some(root) => Some(
            fs::canonicalize(root)
                .map_err(|error| CliError::usage(anyhow::anyhow!("--root {}: {error}", root.display())))?,
        ),
    };
    private::make_missing(folder).map_err(io)?;
    let now_us = SystemClock::default().now_us();
    let (authority, authority_key) = authority(folder, now_us).map_err(io)?;
    let longest = CertificateInfo::from_pem(&authority).map_err(CliError::usage)?.period;
    let period = Period::of_node(now_us).within(longest);
    for node in &nodes {
        let own = folder.join(node.name().as_str());
        private::make_missing(&own.join("files")).map_err(io)?;
        let (certificate, key) = make_certificate_for(&authority_key, node.name(), period).map_err(CliError::fault)?;
        secret(&own.join("ca.pem"), &authority).map_err(io)?;
        secret(&own.join("node.pem"), &certificate).map_err(io)?;
        secret(&own.join("node.key"), &key).map_err(io)?;
        let root = root.as_ref().map_or_else(|| "files".to_owned(), |root| root.display().to_string());
        secret(&own.join("node.toml"), &node_file(node, &nodes, &root)).map_err(io)?;
        print_result(&own.join("node.toml").display().to_string())?;
    }
    say_text(&format!(
        "\nStart each on its machine: cantrip-runtime serve --config {}/NAME/node.toml\nKeep {}/{AUTHORITY_KEY} away \
         from the nodes: whoever has it can make certificates.\nThe \
         certificates end on {}: `cantrip-runtime cluster renew {}` makes new ones.",
        folder.display(),
        folder.display(),
        period.last_day(),
        folder.display()
    ));
    Ok(Exit::Done)
}

/// The authority of the folder: the one that is there, so that nodes can be added, or a new one.
fn authority(folder: &Path, now_us: u64) -> io::Result<(String, String)> {
    let (certificate, key) = (folder.join(AUTHORITY), folder.join(AUTHORITY_KEY));
    if key.exists() {
        return Ok((reading::text(&certificate, NOTE_BYTES_MAX)?, reading::text(&key, NOTE_BYTES_MAX)?));
    }
    let (made, made_key) = make_authority_for(Period::of_authority(now_us)).map_err(io::Error::other)?;
    secret(&key, &made_key)?;
    secret(&certificate, &made)?;
    Ok((made, made_key))
}

/// Writes a file that only its owner can read.
fn secret(path: &Path, text: &str) -> io::Result<()> {
    let mut file = private::create_new(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn node_file(node: &NodeAddress, nodes: &[NodeAddress], root: &str) -> String {
    let root = toml::Value::String(root.to_owned());
    let mut text = format!(
        "# docs/node-file.md explains every key.\n\
         name = \"{node}\"\n\
         data = \"data\"\n\n\
         [tls]\n\
         authority = \"ca.pem\"\n\
         certificate = \"node.pem\"\n\
         key = \"node.key\"\n\n\
         # The gates of this node, with what they reach *here*. Peers get those that their part names.\n\
         [gate.read_file]\nroot = {root}\n\
         [gate.list_dir]\nroot = {root}\n\
         [gate.search]\nroot = {root}\n\n\
         # The models of this node. Keys stay here: whoever casts names a model, never a key.\n\
         # [models.default]\n\
         # provider = \"anthropic\"\n\
         # model = \"…\"\n\
         # key_env = \"ANTHROPIC_API_KEY\"\n"
    );
    for other in nodes.iter().filter(|other| *other != node) {
        let (peer, address) = (other.name(), other.address());
        // Writing into a String cannot fail.
        let _infallible = write!(
            text,
            "\n[peers.{peer}]\n\
             address = \"{address}\"\n\
             may = [\"cast\", \"deploy\", \"keep\"]\n\
             gates = [\"read_file\", \"list_dir\", \"search\", \"call_entity\", \"call_entity_batch\"]\n\
             gates_at_caller = true\n\
             model_at_caller = true\n\
             fetch_guests = true\n\
             # models = [\"default\"]\n\
             # default_model = \"default\"\n\
             [peers.{peer}.wards]\n\
             max_turns = 100\n\
             max_depth = 3\n\
             timeout_ms = 3600000\n"
        );
    }
    text
}
