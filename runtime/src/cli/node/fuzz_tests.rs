//! The node file: whatever is changed in a valid one, it is read, or refused in a sentence that names it.

#![expect(
    clippy::disallowed_methods,
    reason = "a test may stop, writes the files that it reads, and tells what it saw"
)]

use crate::cli::file::UserSide;
use crate::fuzz_targets::{changed_lines, target_by};

const EVERYTHING: &str = r#"name = "b@127.0.0.1:7400"
listen = "127.0.0.1:7400"
data = "data"
socket = true
default_model = "told"
[tls]
authority = "ca.pem"
certificate = "node.pem"
key = "node.key"
[limits]
rpc_timeout_ms = 3000
lease_ms = 20000
concurrent_casts = 8
[models.told]
provider = "scripted"
path = "turns.jsonl"
[gate.read_file]
root = "files"
[peers.a]
address = "127.0.0.1:7401"
may = ["cast", "deploy", "keep"]
gates = ["read_file", "echo", "call_entity"]
gates_at_caller = true
model_at_caller = true
models = ["told"]
default_model = "told"
fetch_guests = true
guests = ["sha256:0000000000000000000000000000000000000000000000000000000000000000"]
concurrent_casts = 4
queue = 8
keep_max_bytes = 1000000
[peers.a.wards]
max_turns = 100
timeout_ms = 3600000
allow_hosts = ["a.example"]
[peers.a.gate.search]
root = "files"
[peers.a.deploy]
max_bytes = 1000000
quota_bytes = 2000000
require_signed = true
"#;

const SHORT: &str =
    "name = \"b@h:1\"\n[tls]\nauthority = \"a\"\ncertificate = \"c\"\nkey = \"k\"\n[peers.a]\naddress = \"h:2\"\n";

#[test]
fn node_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("files")).unwrap();
    std::fs::write(folder.path().join("turns.jsonl"), "{\"content\": \"hi\"}\n").unwrap();
    let path = folder.path().join("node.toml");
    let seeds: Vec<Vec<u8>> = [EVERYTHING, SHORT].map(|text| text.as_bytes().to_vec()).to_vec();
    target_by("node_file", &seeds, 500, changed_lines, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        match super::load(&path, &UserSide::new(&|_| None), true) {
            Ok(_) => true,
            Err(error) => {
                assert!(error.to_string().contains("node.toml"), "{error}");
                false
            }
        }
    });
}
