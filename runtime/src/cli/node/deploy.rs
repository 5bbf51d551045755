//! `deploy`: a component to a node; and the keys and signatures of those who publish components.
#![expect(clippy::disallowed_methods, reason = "reads and writes the files that a person named")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signer, SigningKey};

use crate::adapters::peer::{DeployError, Deployed, Package};
use crate::adapters::wasm::{Guests, read_guest_file};
use crate::adapters::{private, reading};
use crate::cli::args::DeployArgs;
use crate::cli::exit::{CliError, Exit};
use crate::cli::output::print_json;
use crate::cli::settings::{Settings, guest_name};
use crate::cli::{print, say};
use crate::domain::ids::hex;
use crate::domain::limits::NOTE_BYTES_MAX;

use super::elsewhere::{node_error, reach};

pub(in crate::cli) async fn deploy(_: &Settings, args: DeployArgs) -> Result<Exit, CliError> {
    let bytes = read_guest_file(&args.file).map_err(CliError::usage)?;
    let name = args.name.clone().unwrap_or_else(|| guest_name(&args.file));
    // Nothing travels that is no guest.
    Guests::inspect(&name, &bytes).map_err(CliError::usage)?;
    let signed = signature(&args.file)?;
    let (nodes, node) = reach(&args.node, None).await?;
    let total = bytes.len();
    let package = Package { name, bytes, signed };
    say(&format!("{}: {total} bytes to {node}", package.name));
    let Deployed { guest, known, sent_bytes } =
        nodes.deploy(node.name().as_str(), &package, &|_| {}).await.map_err(|error| match error {
            DeployError::Peer(error) => node_error(error),
            DeployError::Refused(refusal) => {
                CliError { exit: Exit::Peer, source: anyhow::anyhow!("the node {node} refused: {refusal}"), hint: None }
            }
        })?;
    if known {
        say("it was kept there already");
    } else {
        say(&format!("{sent_bytes} bytes sent; checked, compiled and kept"));
    }
    print(&guest)?;
    Ok(Exit::Done)
}

/// `guests ls --node`.
pub(in crate::cli) async fn guests_of(node: &str, as_json: bool) -> Result<Exit, CliError> {
    let (nodes, node) = reach(node, None).await?;
    let guests = nodes.guests(node.name().as_str()).await.map_err(node_error)?;
    if as_json {
        let lines: Vec<serde_json::Value> = guests
            .iter()
            .map(|it| {
                serde_json::json!({ "name": it.name, "digest": it.digest, "bytes": it.bytes, "world": it.world, "gates": it.gates })
            })
            .collect();
        print_json(&lines)?;
        return Ok(Exit::Done);
    }
    if guests.is_empty() {
        say(&format!("there are no guests on {node}; `cantrip-runtime deploy FILE --node {node}` brings one"));
    }
    for it in guests {
        print(&format!("{:<20} {} {:>9} {:<8} {}", it.name, it.digest, it.bytes, it.world, it.gates.join(",")))?;
    }
    Ok(Exit::Done)
}

/// 32 bytes in hexadecimal, as `guests key` prints them.
pub(super) fn parse_key(text: &str) -> Result<[u8; 32], String> {
    bytes_of::<32>(text).ok_or_else(|| format!("`{text}` is no public key: expected 64 hexadecimal digits"))
}

fn bytes_of<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.trim();
    if text.len() != N.checked_mul(2)? || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        let from = at.checked_mul(2)?;
        *byte = u8::from_str_radix(text.get(from..from.checked_add(2)?)?, 16).ok()?;
    }
    Some(bytes)
}

fn signature_file(component: &Path) -> PathBuf {
    let mut name = component.as_os_str().to_owned();
    name.push(".sig");
    PathBuf::from(name)
}

/// A publisher's public key and its signature.
type Signed = ([u8; 32], [u8; 64]);

/// The signature beside a component: two lines, the publisher's key and the signature.
fn signature(component: &Path) -> Result<Option<Signed>, CliError> {
    let file = signature_file(component);
    let text = match reading::text(&file, NOTE_BYTES_MAX) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CliError::usage(anyhow::anyhow!("{}: {error}", file.display()))),
    };
    let mut lines = text.lines();
    let signed = lines.next().and_then(bytes_of::<32>).zip(lines.next().and_then(bytes_of::<64>));
    let unusable = || CliError::usage(anyhow::anyhow!("{} is no signature of `guests sign`", file.display()));
    signed.map(Some).ok_or_else(unusable)
}

/// `guests key`: makes a publisher's key.
pub(in crate::cli) fn key(file: &Path) -> Result<Exit, CliError> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| CliError::fault(anyhow::anyhow!("{error}")))?;
    let written = private::create_new(file);
    let written = written.and_then(|mut file| file.write_all(hex(&secret).as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|error| CliError::usage(anyhow::anyhow!("{}: {error}", file.display())))?;
    say("the public half, for `publishers` in a node file:");
    print(&hex(&SigningKey::from_bytes(&secret).verifying_key().to_bytes()))?;
    Ok(Exit::Done)
}

/// `guests sign`: writes the signature beside a component.
pub(in crate::cli) fn sign(component: &Path, key: &Path) -> Result<Exit, CliError> {
    let bytes = read_guest_file(component).map_err(CliError::usage)?;
    let text = reading::text(key, NOTE_BYTES_MAX)
        .map_err(|error| CliError::usage(anyhow::anyhow!("{}: {error}", key.display())))?;
    let secret = bytes_of::<32>(&text);
    let secret =
        secret.ok_or_else(|| CliError::usage(anyhow::anyhow!("{} is no key of `guests key`", key.display())))?;
    let key = SigningKey::from_bytes(&secret);
    let signature = key.sign(&bytes);
    let file = signature_file(component);
    let text = format!("{}\n{}\n", hex(&key.verifying_key().to_bytes()), hex(&signature.to_bytes()));
    fs::write(&file, text).map_err(|error| CliError::fault(anyhow::anyhow!("{}: {error}", file.display())))?;
    print(&file.display().to_string())?;
    Ok(Exit::Done)
}
