//! What a file that is handed in can make a command spend.

use std::path::PathBuf;
use std::process::Output;

use cantrip_runtime::conform;
use cantrip_runtime::domain::ids::{EntityId, LoomId, NodeAddress, WriterKey};
use cantrip_runtime::domain::loom::{Body, Entry, EntryError, Payload, Payloads, Sealed};
use tempfile::TempDir;

use crate::node_support::binary;

/// A file with nothing in it, of any length.
fn hole(folder: &TempDir, name: &str, bytes: u64) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::File::create(&path).unwrap().set_len(bytes).unwrap();
    path
}

fn run(folder: &TempDir, arguments: &[&str]) -> Output {
    let home = folder.path();
    binary(home).args(arguments).env("CANTRIP_DATA", home.join("data")).output().unwrap()
}

/// Fails where the command does not end with 2 and say all of this.
fn refused(output: &Output, expected: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for text in expected {
        assert!(said.contains(text), "expected {text:?} in {said}");
    }
}

#[test]
fn a_cantrip_file_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    hole(&folder, "cantrip.toml", (1 << 20) + 1);
    refused(&run(&folder, &["check", "cantrip.toml"]), &["cantrip.toml: ", "1048577 bytes", "the limit is 1048576"]);
}

#[tokio::test]
async fn a_suite_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let suite = hole(&folder, "suite.yaml", (4 << 20) + 1);
    let error = conform::run(&suite, conform::Options::default()).await.unwrap_err();
    assert!(error.to_string().contains("it has 4194305 bytes, and the limit is 4194304"), "{error}");
}

#[test]
fn a_key_and_a_certificate_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    hole(&folder, "long.key", (1 << 20) + 1);
    std::fs::write(folder.path().join("guest.wasm"), "").unwrap();
    let limit = "it has 1048577 bytes, and the limit is 1048576";
    refused(&run(&folder, &["guests", "sign", "guest.wasm", "--key", "long.key"]), &["long.key", limit]);
    assert!(run(&folder, &["cluster", "init", "net", "--node", "a@127.0.0.1:1"]).status.success());
    hole(&folder, "net/a/node.pem", (1 << 20) + 1);
    let served = run(&folder, &["serve", "--config", "net/a/node.toml"]);
    assert!(String::from_utf8_lossy(&served.stderr).contains(limit), "{served:?}");
}

#[test]
fn how_far_copies_are_is_read_up_to_a_bound() {
    let folder = tempfile::tempdir().unwrap();
    let turns = "{\"tool_calls\": [{\"gate\": \"done\", \"args\": {\"answer\": 1}}]}\n";
    std::fs::write(folder.path().join("turns.jsonl"), turns).unwrap();
    let file = "[llm]\nprovider = \"scripted\"\npath = \"turns.jsonl\"\n[circle]\ngates = [\"done\"]\n[circle.wards]\nmax_turns = 1\n";
    std::fs::write(folder.path().join("cantrip.toml"), file).unwrap();
    assert!(run(&folder, &["cast", "cantrip.toml", "x", "-q"]).status.success());
    hole(&folder, "data/copies-status.json", (64 << 20) + 1);
    let status = run(&folder, &["loom", "status"]);
    assert!(status.status.success() && status.stdout.starts_with(b"loom "), "{status:?}");
}

#[test]
fn the_name_of_a_node_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let node = |chars: usize| format!("{}@127.0.0.1:7432", "x".repeat(chars));
    let output = run(&folder, &["cluster", "init", "c", "--node", &node(64)]);
    refused(&output, &["cannot name a node", "63"]);
}

fn entry(text: Payload) -> Entry {
    let (loom, writer) = (LoomId::from_parts(1, [1; 16]), WriterKey::from_bytes([1; 32]));
    Entry::new(loom, (writer, 1), 1, EntityId::from_parts(1, [1; 16]), None, Body::intent(text, false, None))
}

#[test]
fn an_entry_is_bounded_and_long_texts_are_kept_beside_it() {
    let mut payloads = Payloads::default();
    let most = "x".repeat(16 * 1024);
    assert!(matches!(payloads.text(&most), Payload::Inline(_)));
    assert!(!matches!(payloads.text(&format!("{most}x")), Payload::Inline(_)));
    assert_eq!(payloads.into_blobs().len(), 1);
    let error = Sealed::new(entry(Payload::Inline("x".repeat(1 << 20))), Vec::new()).unwrap_err();
    assert!(matches!(error, EntryError::Size { .. }) && error.to_string().contains("the limit is 1048576"), "{error}");
}

#[test]
fn the_address_of_a_node_is_bounded_and_a_wrong_one_is_shown_cut() {
    let parse = |host: usize| format!("a@{}:1", "x".repeat(host)).parse::<NodeAddress>();
    assert!(parse(268).is_ok());
    let error = parse(269).unwrap_err().to_string();
    assert!(error.contains(&format!("`{}`", "x".repeat(80))) && error.contains("270"), "{error}");
}
