//! What a component asks for: the packages, interfaces and functions that its WIT has, as whoever wrote it likes to name them.

use cantrip_runtime::adapters::wasm::Guests;

use super::targets::target_of;

const NAMES: [&str; 10] = [
    "cantrip:guest/read-file@0.1.0 read",
    "cantrip:guest/types@0.1.9 error",
    "cantrip:guest/call-entity@0.1.0 call-batch",
    "cantrip:guest/cast@0.1.0 [static]cantrip.create",
    "cantrip:guest/llm@0.1.0 query",
    "wasi:cli/stdout@0.2.6 get-stdout",
    "wasi:sockets/tcp@0.2.6 [method]tcp-socket.connect",
    "acme:shell/run@1.0.0-rc.1+build run",
    "a:b/c d",
    "env f",
];

/// The bytes as a WAT text's string has them.
fn quoted(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("\\{byte:02x}"))
}

#[test]
fn interfaces() {
    let seeds: Vec<Vec<u8>> = NAMES.iter().map(|name| name.as_bytes().to_vec()).collect();
    target_of("interfaces", &seeds, 4_000, |bytes| {
        let (interface, function) = match bytes.iter().position(|byte| *byte == b' ') {
            Some(at) => bytes.split_at(at),
            None => (bytes.as_slice(), &b" f"[..]),
        };
        let (interface, function) = (quoted(interface), quoted(function.get(1..).unwrap_or_default()));
        let text = format!(
            "(component (import \"{interface}\" (instance (export \"{function}\" (func (param \"x\" (list string)) (result \
             (result string (error u8)))))))\n(core module $m (func (export \"run\"))) (core instance $i (instantiate $m)) (func \
             (export \"run\") (canon lift (core func $i \"run\"))))"
        );
        // What the text format itself does not take is no component.
        let Ok(component) = wat::parse_str(&text) else { return false };
        let inspected = Guests::inspect("fuzzed", &component);
        // A sentence, or what it asks for: read either way.
        match inspected {
            Ok(manifest) => !format!("{manifest:?}").is_empty(),
            Err(error) => !error.to_string().is_empty() && error.to_string().len() < 10_000,
        }
    });
}
