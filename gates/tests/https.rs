//! `http_fetch` against a server with a certificate of its own: what is not vouched for is not read.

#![expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise, and runs itself"
)]

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cantrip_gates::{GateError, HostPatterns, HttpPolicy, PrivateAddress, builtin};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use support::{call, check_error};

const PORT: &str = "CANTRIP_TEST_HTTPS_PORT";

/// A server for `localhost`: its port and its certificate as PEM.
fn server() -> (u16, String) {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .expect("a key that fits");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), config) = (stream, Arc::clone(&config)) else { break };
            thread::spawn(move || {
                let mut stream = StreamOwned::new(ServerConnection::new(config).expect("a connection"), stream);
                let mut request = [0; 4096];
                // A client that turns away ends the connection here.
                if stream.read(&mut request).is_ok_and(|read| read > 0) {
                    let body = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nsecret";
                    let _gone = stream.write_all(body.as_bytes());
                }
            });
        }
    });
    (port, own.cert.pem())
}

fn fetch(port: u16, host: &str) -> Result<Value, GateError> {
    let policy = HttpPolicy {
        hosts: HostPatterns::parse([format!("{host}:{port}")]).expect("a pattern"),
        private_addresses: vec![PrivateAddress::parse("127.0.0.1").expect("a place")],
        timeout: Duration::from_secs(10),
        ..HttpPolicy::default()
    };
    call(&builtin::http_fetch(policy).expect("a policy"), json!({ "url": format!("https://{host}:{port}/") }))
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused() {
    let (port, _) = server();
    check_error(fetch(port, "localhost"), "failed", "certificate");
}

/// Runs the next test in a process that trusts the server's certificate and no other.
#[test]
fn a_certificate_that_is_trusted_is_accepted_for_its_own_name_only() {
    let (port, pem) = server();
    let folder = tempfile::tempdir().expect("a folder");
    let trusted = folder.path().join("trusted.pem");
    std::fs::write(&trusted, pem).expect("written");
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "in_a_process_that_trusts_one_certificate", "--nocapture"])
        .env("SSL_CERT_FILE", &trusted)
        .env(PORT, port.to_string())
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains("1 passed"),
        "{told}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn in_a_process_that_trusts_one_certificate() {
    let Some(port) = std::env::var(PORT).ok().and_then(|port| port.parse().ok()) else { return };
    let answer = fetch(port, "localhost").expect("it is trusted");
    assert_eq!((&answer["status"], &answer["body"]), (&json!(200), &json!("secret")));
    // It is for another name.
    check_error(fetch(port, "127.0.0.1"), "failed", "certificate");
}
