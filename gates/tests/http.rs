//! `http_fetch` against a small server of our own: what is sent, what is returned, and what is refused.

#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use cantrip_gates::{
    CallContext, Gate, GateError, Headers, HostPatterns, HttpPolicy, HttpPolicyError, PrivateAddress, builtin,
};
use serde_json::{Value, json};
use support::{call, call_within, check_error};

/// A server that answers every request by its path, and hands out what it was sent.
struct Server {
    port: u16,
    requests: Receiver<String>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (sender, requests) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let sender = sender.clone();
                let Ok(stream) = stream else { break };
                thread::spawn(move || {
                    while let Some(request) = serve(&stream, port) {
                        if sender.send(request).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { port, requests }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn policy(&self) -> HttpPolicy {
        HttpPolicy {
            hosts: hosts(&[&format!("127.0.0.1:{}", self.port), &format!("localhost:{}", self.port)]),
            private_addresses: vec![private("127.0.0.1")],
            timeout: Duration::from_secs(5),
            ..HttpPolicy::default()
        }
    }

    fn gate(&self) -> Arc<dyn Gate> {
        builtin::http_fetch(self.policy()).expect("a policy")
    }

    fn get(&self, path: &str) -> Result<Value, GateError> {
        call(&self.gate(), json!({"url": self.url(path)}))
    }

    fn request(&self) -> String {
        self.requests.recv_timeout(Duration::from_secs(5)).expect("a request")
    }
}

fn hosts(patterns: &[&str]) -> HostPatterns {
    HostPatterns::parse(patterns).expect("patterns")
}

fn private(text: &str) -> PrivateAddress {
    PrivateAddress::parse(text).expect("a place")
}

/// Reads one request and answers it; returns the request with its body.
fn serve(mut stream: &TcpStream, port: u16) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    let mut body_bytes = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(length) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            body_bytes = length.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
        request.push_str(&line);
    }
    let mut body = vec![0; body_bytes];
    reader.read_exact(&mut body).ok()?;
    request.push_str(&String::from_utf8_lossy(&body));
    let path = request.split_whitespace().nth(1)?.to_owned();
    let redirect =
        |status: &str, to: &str| format!("HTTP/1.1 {status} X\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
    let answer = match path.as_str() {
        "/large" => format!("HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n{}", "é".repeat(1_500_000)),
        "/binary" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na\xffb").ok()?;
            return Some(request);
        }
        "/never" => return Some(request),
        "/many-headers" => {
            let headers: Vec<_> = (0..50).map(|at| format!("X-Header-{at}: {}\r\n", "v".repeat(20))).collect();
            let headers = headers.concat();
            format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 5\r\n\r\nhello")
        }
        "/gone" => "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone".to_owned(),
        "/found" => redirect("302", "/final?x=1#part"),
        "/keep" => redirect("307", "/final"),
        "/loop" => redirect("302", "/loop"),
        "/other-host" => redirect("302", &format!("http://localhost:{port}/final")),
        "/other-port" => redirect("302", "http://127.0.0.1:1/final"),
        "/metadata" => redirect("302", "http://169.254.169.254/latest"),
        "/file" => redirect("302", "file:///etc/passwd"),
        "/user" => redirect("302", &format!("http://a:b@127.0.0.1:{port}/final")),
        "/empty" => redirect("302", ""),
        "/broken" => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_owned(),
        "/gzip" => "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd".to_owned(),
        _ => "HTTP/1.1 200 OK\r\nX-Two: a\r\nX-Two: b\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
    };
    stream.write_all(answer.as_bytes()).ok()?;
    if path == "/broken" { None } else { Some(request) }
}

#[test]
fn a_page_is_fetched() {
    let server = Server::start();
    let answer = server.get("/a?b=c#d").expect("an answer");
    assert_eq!(answer["status"], json!(200));
    assert_eq!(answer["body"], json!("hello"));
    assert_eq!(answer["truncated"], json!(false));
    assert_eq!(answer["headers"]["x-two"], json!("a, b"));
    assert_eq!(answer["url"], json!(server.url("/a?b=c")));
    let request = server.request();
    assert!(request.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{request}");
    assert!(!request.to_lowercase().contains("accept-encoding"), "{request}");
    assert_eq!(server.get("/gone").expect("an answer")["status"], json!(404));
    assert_eq!(server.get("/gzip").expect("an answer")["body"], json!("abcd"));
}

#[test]
fn a_body_is_bounded_and_cut_between_characters() {
    let server = Server::start();
    let answer = server.get("/large").expect("an answer");
    assert_eq!(answer["truncated"], json!(true));
    assert_eq!(answer["body"].as_str().map(str::len), Some(1024 * 1024));
    let gate = builtin::http_fetch(HttpPolicy { body_bytes_max: 5, ..server.policy() }).expect("a policy");
    assert_eq!(call(&gate, json!({"url": server.url("/large")})).expect("an answer")["body"], json!("éé"));
    assert_eq!(call(&gate, json!({"url": server.url("/a")})).expect("an answer")["truncated"], json!(false));
    let narrow = CallContext { output_bytes_max: 3, ..CallContext::default() };
    let answer = call_within(&gate, json!({"url": server.url("/a")}), &narrow).expect("an answer");
    assert_eq!((&answer["body"], &answer["truncated"]), (&json!("hel"), &json!(true)));
    assert_eq!(server.get("/binary").expect("an answer")["body"], json!("a\u{fffd}b"));
}

#[test]
fn methods_headers_and_a_body_are_sent() {
    let server = Server::start();
    let policy = HttpPolicy {
        methods: vec!["GET".into(), "POST".into()],
        headers: Headers::default().with("127.0.0.1", [("Authorization", "Bearer fixed")]),
        ..server.policy()
    };
    let gate = builtin::http_fetch(policy.clone()).expect("a policy");
    let arguments = json!({"url": server.url("/a"), "method": "post", "headers": {"X-Mine": "1"}, "body": "data"});
    call(&gate, arguments).expect("an answer");
    let request = server.request();
    assert!(request.starts_with("POST /a ") && request.ends_with("data"), "{request}");
    assert!(request.contains("x-mine: 1\r\n") && request.contains("authorization: Bearer fixed\r\n"), "{request}");
    let with = |headers: Value| call(&gate, json!({"url": server.url("/a"), "headers": headers}));
    check_error(with(json!({"authorization": "x"})), "denied", "header `authorization` is set by the policy");
    for name in [
        "Host",
        "content-length",
        "Transfer-Encoding",
        "Connection",
        "upgrade",
        "bad name",
        "x\r\ny",
        "",
        "X-HTTP-Method-Override",
        "x-http-method",
        "X-Method-Override",
        "x_http_method_override",
        "Content_Length",
        "Proxy-Authorization",
        "proxy-x",
        "TE",
        "Trailer",
        "Keep-Alive",
        "X-Forwarded-Host",
        "X-Original-URL",
        "Forwarded",
    ] {
        check_error(with(json!({name: "x"})), "invalid", "cannot be set");
    }
    check_error(with(json!({"x": "a\r\nb: c"})), "invalid", "cannot be set");
    check_error(with(json!({"x": 1})), "invalid", "expected string, got the number 1");
    check_error(with(json!({"x": "y".repeat(9_000)})), "invalid", "\"x\" has 9000 bytes, at most 8192 are sent");
    let debug = format!("{policy:?} {gate:?}");
    assert!(!debug.contains("Bearer fixed"), "{debug}");
}

#[test]
fn only_what_the_policy_opens_is_reached() {
    let server = Server::start();
    let gate = server.gate();
    let fetch = |url: &str| call(&gate, json!({"url": url}));
    check_error(
        fetch("https://example.com/"),
        "denied",
        "http_fetch: host `example.com:443` is not allowed; allowed are 127.0.0.1:",
    );
    check_error(fetch("http://127.0.0.1/"), "denied", "host `127.0.0.1:80` is not allowed");
    check_error(fetch("file:///etc/passwd"), "denied", "scheme `file` is not allowed");
    check_error(fetch("ftp://127.0.0.1/"), "denied", "scheme `ftp` is not allowed");
    check_error(fetch("data:text/plain,x"), "denied", "scheme `data`");
    check_error(fetch(&format!("http://u:p@127.0.0.1:{}/", server.port)), "denied", "a user or password in a URL");
    check_error(fetch("nonsense"), "invalid", "\"nonsense\" is not a URL");
    check_error(fetch(&format!("http://127.0.0.1:{}/{}", server.port, "x".repeat(9_000))), "invalid", "at most 8192");
    let method = |method: &str| call(&gate, json!({"url": server.url("/a"), "method": method}));
    check_error(method("POST"), "denied", "method POST is not allowed; allowed are GET, HEAD");
    check_error(method("CONNECT"), "invalid", "\"CONNECT\" is not one");
    check_error(method("GET /x HTTP/1.1\r\nX: y\r\n"), "invalid", "is not one");
    assert_eq!(method("head").expect("an answer")["body"], json!(""));
}

#[test]
fn the_ward_narrows_the_policy() {
    let server = Server::start();
    let gate = server.gate();
    let within = |patterns: &[&str]| {
        let context = CallContext { allow_hosts: Some(hosts(patterns)), ..CallContext::default() };
        call_within(&gate, json!({"url": server.url("/a")}), &context)
    };
    assert!(within(&["127.0.0.1"]).is_ok());
    check_error(within(&["example.com"]), "denied", "not allowed by the ward `allow_hosts`; allowed are example.com");
    check_error(within(&[]), "denied", "allowed are (no host)");
    let context = CallContext { allow_hosts: Some(hosts(&["127.0.0.1"])), ..CallContext::default() };
    let redirected = call_within(&gate, json!({"url": server.url("/other-host")}), &context);
    check_error(redirected, "denied", "host `localhost");
}

#[test]
fn private_addresses_are_refused_in_every_spelling() {
    let every = HttpPolicy { hosts: hosts(&["*"]), ports: (1..=u16::MAX).collect(), ..HttpPolicy::default() };
    let gate = builtin::http_fetch(every).expect("a policy");
    let port = Server::start().port;
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "169.254.169.254",
        "10.0.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "[fd00::1]",
        "[fe80::1]",
        "224.0.0.1",
        "１２７.0.0.1",
    ] {
        let result = call(&gate, json!({"url": format!("http://{host}:{port}/")}));
        check_error(result, "denied", "which this gate may not reach");
    }
    for name in ["localhost", "LOCALHOST"] {
        let result = call(&gate, json!({"url": format!("http://{name}:{port}/")}));
        let error = result.expect_err("refused");
        assert!(error.message().contains("a loopback address, which this gate may not reach"), "{error}");
        assert_eq!(error.kind(), "denied");
    }
}

#[test]
fn a_listed_name_may_lead_to_a_private_address() {
    let server = Server::start();
    let policy = HttpPolicy { private_addresses: vec![private("localhost")], ..server.policy() };
    let gate = builtin::http_fetch(policy).expect("a policy");
    let url = format!("http://localhost:{}/a", server.port);
    assert_eq!(call(&gate, json!({"url": url})).expect("an answer")["status"], json!(200));
    check_error(call(&gate, json!({"url": server.url("/a")})), "denied", "is a loopback address");
}

#[test]
fn redirects_are_followed_and_judged_again() {
    let server = Server::start();
    let answer = server.get("/found").expect("an answer");
    assert_eq!((&answer["status"], &answer["url"]), (&json!(200), &json!(server.url("/final?x=1"))));
    check_error(server.get("/loop"), "exhausted", "more than 5 redirects");
    check_error(server.get("/other-port"), "denied", "host `127.0.0.1:1` is not allowed");
    check_error(server.get("/metadata"), "denied", "host `169.254.169.254:80` is not allowed");
    check_error(server.get("/file"), "denied", "scheme `file`");
    check_error(server.get("/user"), "denied", "a user or password");
    check_error(server.get("/empty"), "exhausted", "redirects");
    let every = HttpPolicy { hosts: hosts(&["*"]), ports: (1..=u16::MAX).collect(), ..server.policy() };
    let gate = builtin::http_fetch(every).expect("a policy");
    check_error(call(&gate, json!({"url": server.url("/metadata")})), "denied", "is a link-local or metadata address");
    let none = builtin::http_fetch(HttpPolicy { redirects_max: 0, ..server.policy() }).expect("a policy");
    check_error(call(&none, json!({"url": server.url("/found")})), "exhausted", "more than 0 redirects");
}

#[test]
fn a_redirect_changes_the_method_as_the_status_says() {
    let server = Server::start();
    let policy = HttpPolicy { methods: vec!["GET".into(), "POST".into()], ..server.policy() };
    let post = |policy: HttpPolicy, path: &str| {
        let gate = builtin::http_fetch(policy).expect("a policy");
        let headers = json!({"content-type": "text/plain"});
        call(&gate, json!({"url": server.url(path), "method": "POST", "headers": headers, "body": "data"}))
    };
    post(policy.clone(), "/found").expect("an answer");
    assert!(server.request().starts_with("POST /found "));
    let second = server.request();
    assert!(
        second.starts_with("GET /final?x=1 ") && !second.contains("data") && !second.contains("content-type"),
        "{second}"
    );
    post(policy.clone(), "/keep").expect("an answer");
    assert!(server.request().starts_with("POST /keep "));
    let second = server.request();
    assert!(second.starts_with("POST /final ") && second.ends_with("data"), "{second}");
    let only_post = HttpPolicy { methods: vec!["POST".into()], ..policy };
    check_error(post(only_post, "/found"), "denied", "method GET is not allowed");
}

#[test]
fn credentials_do_not_follow_a_redirect_to_another_host() {
    let server = Server::start();
    let policy = HttpPolicy {
        headers: Headers::default()
            .with("127.0.0.1", [("X-Key", "fixed")])
            .with("localhost", [("X-Other-Key", "fixed")]),
        private_addresses: vec![private("127.0.0.1"), private("localhost")],
        ..server.policy()
    };
    let gate = builtin::http_fetch(policy).expect("a policy");
    let headers = json!({"authorization": "mine", "cookie": "mine", "x-other": "kept"});
    call(&gate, json!({"url": server.url("/other-host"), "headers": headers})).expect("an answer");
    let first = server.request();
    assert!(first.contains("x-key: fixed") && first.contains("authorization: mine"), "{first}");
    let second = server.request();
    assert!(second.contains("x-other: kept"), "{second}");
    assert!(!second.contains("fixed") && !second.contains("mine"), "{second}");
}

#[test]
fn time_is_bounded() {
    let server = Server::start();
    let started = Instant::now();
    let gate =
        builtin::http_fetch(HttpPolicy { timeout: Duration::from_millis(200), ..server.policy() }).expect("a policy");
    check_error(
        call(&gate, json!({"url": server.url("/never")})),
        "timed_out",
        "did not answer completely within 200 ms",
    );
    let soon = CallContext { deadline: Some(Instant::now() + Duration::from_millis(200)), ..CallContext::default() };
    check_error(
        call_within(&server.gate(), json!({"url": server.url("/never")}), &soon),
        "timed_out",
        "did not answer",
    );
    assert!(started.elapsed() < Duration::from_secs(4));
}

#[test]
fn a_connection_that_fails_is_told_with_its_cause() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let policy = HttpPolicy {
        hosts: hosts(&["*"]),
        ports: vec![port],
        private_addresses: vec![private("127.0.0.0/8")],
        ..HttpPolicy::default()
    };
    let gate = builtin::http_fetch(policy).expect("a policy");
    let result = call(&gate, json!({"url": format!("http://127.0.0.1:{port}/")}));
    check_error(result, "failed", &format!("`127.0.0.1:{port}` cannot be reached: "));
    check_error(Server::start().get("/broken"), "failed", "broke off");
}

#[test]
fn a_policy_is_read_and_checked() {
    let policy: HttpPolicy = serde_json::from_value(json!({
        "hosts": ["*.example.com"], "methods": ["GET"], "ports": [8443], "private_addresses": ["10.0.0.0/8"],
        "headers": {"x-key": "v", "api.example.com": {"x-key": "w"}}, "timeout_ms": 1000, "body_bytes_max": 10,
        "redirects_max": 1,
    }))
    .expect("a policy");
    assert!(!format!("{policy:?}").contains("\"w\""), "{policy:?}");
    assert_eq!(policy.timeout, Duration::from_secs(1));
    let unknown = serde_json::from_value::<HttpPolicy>(json!({"host": ["a.b"]})).expect_err("unknown");
    assert!(unknown.to_string().contains("unknown field `host`"), "{unknown}");
    let open = || HttpPolicy { hosts: hosts(&["a.b"]), ..HttpPolicy::default() };
    let refused = |policy: HttpPolicy| builtin::http_fetch(policy).expect_err("refused");
    assert_eq!(refused(HttpPolicy::default()), HttpPolicyError::NoHosts);
    assert_eq!(refused(HttpPolicy { methods: vec![], ..open() }), HttpPolicyError::NoMethods);
    for method in ["TRACE", "CONNECT", "get", "", "G T"] {
        assert_eq!(
            refused(HttpPolicy { methods: vec![method.into()], ..open() }),
            HttpPolicyError::Method(method.into())
        );
    }
    let header =
        |name: &str, value: &str| refused(HttpPolicy { headers: Headers::from_iter([(name, value)]), ..open() });
    assert_eq!(header("Host", "x"), HttpPolicyError::Header("Host".into()));
    assert_eq!(header("x", "a\nb"), HttpPolicyError::Header("x".into()));
    assert_eq!(refused(HttpPolicy { timeout: Duration::ZERO, ..open() }), HttpPolicyError::NoTime);
}

#[test]
fn a_fixed_header_goes_to_a_host_that_is_named() {
    let made = |hosts_of: &[&str], headers: Headers| {
        builtin::http_fetch(HttpPolicy { hosts: hosts(hosts_of), headers, ..HttpPolicy::default() })
    };
    let flat = || Headers::from_iter([("Authorization", "Bearer fixed")]);
    made(&["api.example.com"], flat()).expect("one host");
    made(&["api.example.com:8443"], flat()).expect("one host and port");
    for several in [&["a.example.com", "b.example.com"][..], &["*.example.com"], &["*"]] {
        let error = made(several, flat()).expect_err("not bound to a host").to_string();
        assert!(
            error.contains("[gate.http_fetch.headers.\"api.example.com\"]") && error.contains("Authorization"),
            "{error}"
        );
    }
    let of = |pattern: &str| Headers::default().with(pattern, [("Authorization", "Bearer fixed")]);
    made(&["*.example.com", "b.net"], of("api.example.com")).expect("bound");
    made(&["*.example.com"], of("*.api.example.com")).expect("bound to a pattern that is written out");
    assert!(matches!(made(&["*"], of("*")), Err(HttpPolicyError::Unbound { .. })));
    assert!(matches!(made(&["a.net"], of("b.net")), Err(HttpPolicyError::Unsent { .. })));
    assert!(matches!(made(&["a.net"], of("http://a.net")), Err(HttpPolicyError::HeaderHost(_))));
}

#[test]
fn a_fixed_header_is_not_sent_over_plain_http_to_another_machine() {
    let headers = Headers::default().with("api.example.com", [("Authorization", "Bearer fixed")]);
    let policy = HttpPolicy { hosts: hosts(&["api.example.com", "b.example.com"]), headers, ..HttpPolicy::default() };
    let gate = builtin::http_fetch(policy).expect("a policy");
    for url in ["http://api.example.com/", "http://API.example.com:80/", "http://api.example.com./"] {
        check_error(call(&gate, json!({"url": url})), "denied", "over plain http; use https");
    }
    let error = call(&gate, json!({"url": "ftp://api.example.com/"}));
    check_error(error, "denied", "scheme");
}

#[test]
fn headers_of_an_answer_count_for_what_a_call_may_return() {
    let server = Server::start();
    let gate = server.gate();
    let within = |bytes: u64| {
        let context = CallContext { output_bytes_max: bytes, ..CallContext::default() };
        call_within(&gate, json!({"url": server.url("/many-headers")}), &context).expect("an answer")
    };
    let all = within(1024 * 1024);
    let few = within(100);
    let count = |answer: &Value| answer["headers"].as_object().map_or(0, serde_json::Map::len);
    assert!(count(&all) > 40 && all["truncated"] == json!(false), "{all}");
    assert!(count(&few) < 10 && few["truncated"] == json!(true), "{few}");
    let bytes: usize = few["headers"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| name.len() + value.as_str().map_or(0, str::len))
        .sum();
    assert!(bytes + few["body"].as_str().map_or(0, str::len) <= 100, "{few}");
}
