//! Limits of gates that no other test hits: a value beyond each is refused or cut, and the answer says which and how much.

#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]
#![expect(clippy::disallowed_methods, reason = "a test lays out the files that a gate then meets")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;

use cantrip_gates::{
    ArgumentCheck, CallContext, Exposure, FunctionGate, Gate, GateName, GateSpec, HostPatterns, HttpPolicy,
    OUTPUT_BYTES_MAX_DEFAULT, PrivateAddress, Reach, Root, Wards, builtin,
};
use serde_json::{Map, Value, json};
use support::{call, call_within, check_error};

/// A server that answers every request with a body of so many bytes, and its address.
fn server(body_bytes: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { break };
            let mut lines = BufReader::new(stream.try_clone().expect("a handle")).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {body_bytes}\r\n\r\n");
            // Whoever has enough hangs up.
            drop(stream.write_all(&[head.into_bytes(), vec![b'x'; body_bytes]].concat()));
            // What still comes is taken: a connection that is closed before it is read tells the other side that it broke.
            drop(stream.shutdown(std::net::Shutdown::Write));
            drop(stream.set_read_timeout(Some(std::time::Duration::from_secs(2))));
            drop(std::io::copy(&mut stream, &mut std::io::sink()));
        }
    });
    address
}

fn policy(address: &str) -> HttpPolicy {
    HttpPolicy {
        hosts: HostPatterns::parse([address]).expect("hosts"),
        methods: vec!["GET".into(), "POST".into()],
        private_addresses: vec![PrivateAddress::parse("127.0.0.1").expect("a place")],
        ..HttpPolicy::default()
    }
}

fn fetch(policy: HttpPolicy) -> Arc<dyn Gate> {
    builtin::http_fetch(policy).expect("a policy")
}

#[test]
fn what_is_sent_is_bounded() {
    let address = server(0);
    let gate = fetch(policy(&address));
    let url = format!("http://{address}/");
    let headers =
        |count: usize| -> Map<String, Value> { (0..count).map(|at| (format!("x-{at}"), json!("y"))).collect() };
    let most = builtin::HEADERS_MAX;
    check_error(
        call(&gate, json!({"url": url, "headers": headers(most + 1)})),
        "invalid",
        "at most 64 headers, 65 came",
    );
    assert!(call(&gate, json!({"url": url, "headers": headers(most)})).is_ok());
    let body = "x".repeat(builtin::REQUEST_BODY_BYTES_MAX + 1);
    let post = |body: &str| call(&gate, json!({"url": url, "method": "POST", "body": body}));
    check_error(post(&body), "exhausted", "has 1048577 bytes, at most 1048576 are sent");
    assert!(post(&body[1..]).is_ok());
}

#[test]
fn a_result_is_bounded_whatever_the_policy_allows() {
    let bytes = usize::try_from(OUTPUT_BYTES_MAX_DEFAULT).expect("fits");
    let address = server(bytes + 1);
    let gate = fetch(HttpPolicy { body_bytes_max: u64::MAX, ..policy(&address) });
    let answer = call_within(&gate, json!({"url": format!("http://{address}/")}), &CallContext::default());
    let answer = answer.expect("an answer");
    // The headers count, too.
    let headers = answer["headers"].as_object().into_iter().flatten();
    let headers: usize = headers.map(|(name, value)| name.len() + value.as_str().map_or(0, str::len)).sum();
    let body = answer["body"].as_str().map_or(0, str::len);
    assert_eq!((body + headers, &answer["truncated"]), (bytes, &json!(true)));
}

#[test]
fn a_search_takes_short_expressions() {
    let folder = tempfile::TempDir::new().expect("a directory");
    let gate = builtin::search(Root::open(folder.path()).expect("a root"));
    let long = "x".repeat(1_025);
    for (pattern, glob, name) in [(long.as_str(), "*", "pattern"), ("x", long.as_str(), "glob")] {
        let error = call(&gate, json!({"pattern": pattern, "glob": glob})).expect_err("too long");
        assert!(error.message().contains(name) && error.message().contains("1024"), "{error}");
    }
    assert!(call(&gate, json!({"pattern": long[1..], "glob": long[1..]})).is_ok());
}

#[test]
fn a_hint_costs_no_more_in_a_huge_directory() {
    let folder = tempfile::TempDir::new().expect("a directory");
    // The numbers are spread over the word, so that no name is near another one's.
    let name = |at: usize| format!("{at:05}").chars().flat_map(|digit| [digit; 3]).collect::<String>();
    let all = 4_000;
    for at in 0..all {
        std::fs::File::create(folder.path().join(name(at))).expect("a file");
    }
    let gate = builtin::read_file(Root::open(folder.path()).expect("a root"));
    let is_hinted = |at: usize| {
        let error = call(&gate, json!({"path": format!("{}x", name(at))})).expect_err("missing");
        error.message().contains(&format!("did you mean `{}`", name(at)))
    };
    let hinted = (0..all).step_by(40).filter(|at| is_hinted(*at)).count();
    assert!(hinted < 100, "all of {all} names were compared");
}

#[test]
fn a_path_is_shown_cut() {
    let folder = tempfile::TempDir::new().expect("a directory");
    let gate = builtin::read_file(Root::open(folder.path()).expect("a root"));
    let path = "abc/".repeat(500) + "d";
    let error = call(&gate, json!({"path": path})).expect_err("missing");
    assert!(error.message().contains(&format!("path `{}…`", &path[..200])), "{error}");
    assert!(error.message().len() < 300, "{error}");
}

#[test]
fn a_page_of_the_loom_is_bounded() {
    let check = ArgumentCheck::new(&builtin::read_loom_spec()).expect("usable");
    let most = builtin::LOOM_ENTRIES_MAX;
    assert!(check.check(&json!({"limit": most})).is_ok());
    let error = check.check(&json!({"limit": most + 1})).expect_err("too many");
    assert_eq!(error.to_string(), "read_loom: argument `limit`: expected at most 100, got the number 101");
}

fn spec(parameters: Value) -> GateSpec {
    GateSpec {
        name: GateName::parse("g").expect("a name"),
        description: String::new(),
        parameters,
        positional: Vec::new(),
        reach: Reach::Read,
        exposure: Exposure::default(),
        ephemeral: false,
    }
}

#[test]
fn a_schema_is_bounded_in_depth_and_in_what_its_patterns_cost() {
    let refused = |schema: Value| {
        let spec = spec(json!({"type": "object", "properties": {"x": schema}}));
        let Err(error) = ArgumentCheck::new(&spec) else { return String::new() };
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", cause.unwrap_or_default())
    };
    let nested = |depth: usize| (0..depth).fold(json!({}), |schema, _| json!({"items": schema}));
    assert_eq!(refused(nested(30)), "");
    let deep = refused(nested(31));
    assert!(deep.contains("nested deeper than 32"), "{deep}");
    assert_eq!(refused(json!({"pattern": "^[a-z]{1,50}$"})), "");
    let large = refused(json!({"pattern": "(a{100}){100}[0-9]{100}"}));
    assert!(large.contains("pattern") && large.contains("exceeds size limit of 262144 bytes"), "{large}");
}

#[test]
fn a_word_of_a_stranger_is_quoted_cut_and_compared_only_while_short() {
    let check = ArgumentCheck::new(&spec(json!({"type": "object", "properties": {"x": {"type": "integer"}}})));
    let check = check.expect("usable");
    let error = check.check(&json!({"x": "é".repeat(41)})).expect_err("a text").to_string();
    assert!(error.contains(&format!("\"{}…\"", "é".repeat(40))), "{error}");
    let wards = |name: &str| Wards::from_value(&json!({name: 1})).expect_err("unknown").to_string();
    assert!(wards("max_turn").contains("max_turns"), "{}", wards("max_turn"));
    let named = "w".repeat(65);
    let gate = |name: &str| {
        let properties: Map<String, Value> = [(named.clone(), json!({}))].into_iter().collect();
        let spec = spec(json!({"type": "object", "properties": properties, "additionalProperties": false}));
        let gate: Arc<dyn Gate> = Arc::new(FunctionGate::new(spec, |_: Value| async { Ok(json!(1)) }));
        call(&gate, json!({name: 1})).expect_err("unknown").to_string()
    };
    // One letter of 65 is wrong, and nobody says so: longer words than 64 letters are not compared.
    assert!(!gate(&format!("{}x", &named[1..])).contains("did you mean"), "{}", gate(&format!("{}x", &named[1..])));
}

#[test]
fn a_long_text_stands_for_no_secret_it_is_one() {
    let blank = |count: usize| format!("password={}", "x".repeat(count));
    assert_eq!(cantrip_gates::redact(&blank(8)), blank(8));
    assert!(cantrip_gates::redact(&blank(257)).contains("[redacted:"), "{}", cantrip_gates::redact(&blank(257)));
}

#[test]
fn a_hint_is_not_looked_for_at_any_depth() {
    let folder = tempfile::TempDir::new().expect("a directory");
    let gate = builtin::read_file(Root::open(folder.path()).expect("a root"));
    let hint = |depth: usize| {
        let deep = "d/".repeat(depth);
        std::fs::create_dir_all(folder.path().join(&deep)).expect("directories");
        std::fs::write(folder.path().join(format!("{deep}README.md")), "x").expect("a file");
        call(&gate, json!({"path": format!("{deep}REDME.md")})).expect_err("missing").message().contains("did you mean")
    };
    assert!(hint(60));
    assert!(!hint(70));
}

#[cfg(unix)]
#[test]
fn a_way_leads_over_a_bounded_number_of_links() {
    let folder = tempfile::TempDir::new().expect("a directory");
    std::fs::create_dir(folder.path().join("link0")).expect("a directory");
    for at in 1..=41 {
        let to = format!("link{}", at - 1);
        std::os::unix::fs::symlink(to, folder.path().join(format!("link{at}"))).expect("a link");
    }
    let gate = builtin::write_file(Root::open(folder.path()).expect("a root"));
    let write = |path: &str| call(&gate, json!({"path": path, "content": "x"}));
    assert!(write("link40/a").is_ok());
    check_error(write("link41/a"), "failed", "more than 40 symbolic links");
}

#[test]
fn a_search_returns_a_hundred_results_where_no_more_are_asked_for() {
    let folder = tempfile::TempDir::new().expect("a directory");
    std::fs::write(folder.path().join("lines"), "found\n".repeat(1_500)).expect("a file");
    let gate = builtin::search(Root::open(folder.path()).expect("a root"));
    let results = |arguments: Value| call(&gate, arguments).expect("found").as_array().map(Vec::len);
    assert_eq!(results(json!({"pattern": "found"})), Some(100));
    assert_eq!(results(json!({"pattern": "found", "max_results": 1_000})), Some(1_000));
}
