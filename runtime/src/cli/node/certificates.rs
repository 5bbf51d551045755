//! `cluster renew` and `cluster show`: the certificates of nodes, on the machine that has the files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::adapters::clock::SystemClock;
use crate::adapters::peer::{CertificateInfo, Period, is_key_of, make_certificate_for, next_key};
use crate::adapters::{private, reading};
use crate::cli::args::{ClusterRenewArgs, ClusterShowArgs};
use crate::cli::exit::{CliError, Exit};
use crate::cli::output::print_json;
use crate::cli::{print, say};
use crate::domain::limits::NOTE_BYTES_MAX;
use crate::ports::Clock;

use super::file::{NodeTls, load_tls};
use super::init::AUTHORITY_KEY;

const NODE_FILE: &str = "node.toml";

fn read(file: &Path) -> Result<String, CliError> {
    reading::text(file, NOTE_BYTES_MAX).map_err(|error| CliError::usage(anyhow::anyhow!("{}: {error}", file.display())))
}

/// The node files that are meant.
fn node_files(folder: Option<&Path>, config: Option<&Path>, only: &[String]) -> Result<Vec<PathBuf>, CliError> {
    if let Some(config) = config {
        return Ok(vec![config.to_owned()]);
    }
    let folder = folder.unwrap_or_else(|| Path::new("."));
    if !only.is_empty() {
        return Ok(only.iter().map(|name| folder.join(name).join(NODE_FILE)).collect());
    }
    let listed =
        fs::read_dir(folder).map_err(|error| CliError::usage(anyhow::anyhow!("{}: {error}", folder.display())))?;
    let mut files: Vec<PathBuf> =
        listed.flatten().map(|entry| entry.path().join(NODE_FILE)).filter(|file| file.is_file()).collect();
    files.sort();
    if files.is_empty() {
        return Err(CliError::usage(anyhow::anyhow!("{} has no node", folder.display()))
            .hint("name the folder that `cluster init` has written, or a node file with --config"));
    }
    Ok(files)
}

/// Makes a new key and certificate for each node. A node that serves uses them from its next connection on.
pub(in crate::cli) fn cluster_renew(args: &ClusterRenewArgs) -> Result<Exit, CliError> {
    let files = node_files(args.folder.as_deref(), args.config.as_deref(), &args.node)?;
    let key_file = match (&args.authority_key, &args.folder, &args.config) {
        (Some(file), _, _) => file.clone(),
        (None, Some(folder), _) => folder.join(AUTHORITY_KEY),
        (None, None, config) => {
            let file = config.as_deref().unwrap_or_else(|| Path::new("."));
            let file = std::path::absolute(file).map_err(CliError::usage)?;
            file.ancestors().nth(2).unwrap_or_else(|| Path::new(".")).join(AUTHORITY_KEY)
        }
    };
    let authority_key = read(&key_file).map_err(|error| {
        error.hint("the authority's key makes certificates, and is kept away from the nodes: --authority-key FILE")
    })?;
    // All is read and checked before the first is replaced.
    let nodes = files.iter().map(|file| load_tls(file).map_err(CliError::usage)).collect::<Result<Vec<_>, _>>()?;
    let now_us = SystemClock::default().now_us();
    let mut periods = Vec::new();
    for node in &nodes {
        let [authority, _, _] = &node.files;
        let text = read(authority)?;
        if !is_key_of(&authority_key, &text).map_err(CliError::usage)? {
            let what = format!("{} is not the key of {}", key_file.display(), authority.display());
            return Err(
                CliError::usage(anyhow::anyhow!(what)).hint("peers would refuse what it makes; name the right one")
            );
        }
        let longest = CertificateInfo::from_pem(&text).map_err(CliError::usage)?.period;
        periods.push(Period::of_node(now_us).within(longest));
    }
    for (node, period) in nodes.iter().zip(periods) {
        let (certificate, key) = make_certificate_for(&authority_key, &node.name, period).map_err(CliError::fault)?;
        let info = CertificateInfo::from_pem(&certificate).map_err(CliError::fault)?;
        put(node, &certificate, &key).map_err(|error| {
            CliError::fault(
                anyhow::Error::new(error).context(format!("the certificate of {} stays as it was", node.name)),
            )
        })?;
        print(&format!("{}  {}  until {}", node.name, info.fingerprint, period.last_day()))?;
    }
    say(
        "a node that serves uses its new certificate from the next connection on; a node elsewhere needs node.pem and node.key",
    );
    Ok(Exit::Done)
}

/// Puts a new pair in the place of the old one. A node that reads meanwhile, or after a cut in between, finds a pair that fits: the
/// old one, or the new certificate and its key beside the old key.
fn put(node: &NodeTls, certificate: &str, key: &str) -> std::io::Result<()> {
    let [_, certificate_file, key_file] = &node.files;
    // A link stays a link: what it leads to is replaced.
    let whole = |file: &Path| fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let (certificate_file, next) = (whole(certificate_file), next_key(key_file));
    private::replace(&next, key.as_bytes())?;
    private::replace(&certificate_file, certificate.as_bytes())?;
    private::replace(&whole(key_file), key.as_bytes())?;
    fs::remove_file(&next)?;
    next.parent().map_or(Ok(()), private::sync_folder)
}

/// Lists certificates with what a deny list names them by.
pub(in crate::cli) fn cluster_show(args: &ClusterShowArgs) -> Result<Exit, CliError> {
    let now_us = SystemClock::default().now_us();
    let mut lines = Vec::new();
    for file in node_files(args.folder.as_deref(), args.config.as_deref(), &[])? {
        let node = load_tls(&file).map_err(CliError::usage)?;
        let [_, certificate, _] = &node.files;
        let info = CertificateInfo::from_pem(&read(certificate)?).map_err(CliError::usage)?;
        let concerns: Vec<String> = info.concerns(&node.name, now_us).iter().map(ToString::to_string).collect();
        if args.json {
            lines.push(serde_json::json!({
                "name": node.name, "fingerprint": info.fingerprint.to_string(), "names": info.names,
                "from_us": info.period.from_us, "until_us": info.period.until_us, "concerns": concerns,
            }));
            continue;
        }
        print(&format!("{:<20} {}  until {}", node.name, info.fingerprint, info.period.last_day()))?;
        for concern in &concerns {
            say(&format!("warning: {}: {concern}", node.name));
        }
    }
    if args.json {
        print_json(&lines)?;
    }
    Ok(Exit::Done)
}
