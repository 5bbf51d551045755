//! What a model, or a server in its place, can make a node spend.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cantrip_runtime::adapters::llm::{Provider, ProviderConfig, Scripted};
use cantrip_runtime::domain::model::{Message, ModelError, Question, RawAnswer, Sampling, ToolChoice};
use cantrip_runtime::ports::{BoxFuture, Llm, Pieces};
use cantrip_runtime::{CallContext, Cantrip, CastOptions, HttpPolicy, Wards, builtin, embed};
use serde_json::json;
use tokio::sync::oneshot;

struct Unheard;

impl Pieces for Unheard {
    fn text(&self, _: &str) {}
    fn thinking(&self, _: &str) {}
}

fn provider(address: SocketAddr) -> Provider {
    let config = ProviderConfig {
        provider: "openai".to_owned(),
        model: "m".to_owned(),
        base_url: Some(format!("http://{address}")),
        ..ProviderConfig::default()
    };
    Provider::from_config(&config, &|_| Some("a-key-of-mine".to_owned())).unwrap()
}

fn question() -> Question {
    Question {
        messages: vec![Arc::new(Message::User("?".to_owned()))],
        tools: Arc::default(),
        tool_choice: ToolChoice::Auto,
        sampling: Sampling::default(),
    }
}

/// A server that reads one request, tells that it came, answers, and keeps the connection.
fn server(reply: Vec<u8>) -> (SocketAddr, oneshot::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (came, told) = oneshot::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        let _unheard = came.send(());
        // Whoever has enough hangs up.
        drop(stream.write_all(&reply));
        while lines.next().is_some_and(|line| line.is_ok()) {}
    });
    (address, told)
}

/// A listener that takes no connection any more, because its queue is full.
fn full() -> (SocketAddr, Vec<TcpStream>, tokio::net::TcpListener) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok();
    let waiting = std::iter::from_fn(connect).take(64).collect();
    (address, waiting, listener)
}

#[tokio::test]
async fn an_answer_without_end_is_given_up() {
    let piece = json!({"choices": [{"index": 0, "delta": {"content": "x".repeat(1 << 20)}, "finish_reason": null}]});
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let (address, _) = server([head.to_owned(), format!("data: {piece}\n\n").repeat(17)].concat().into_bytes());
    let error = provider(address).ask(&question(), &Unheard).await.unwrap_err();
    assert!(matches!(error, ModelError::Malformed { .. }), "{error:?}");
    assert!(error.to_string().contains("longer than 16777216 bytes"), "{error}");
}

#[test]
fn a_script_without_end_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("script.jsonl");
    std::fs::File::create(&path).unwrap().set_len((64 << 20) + 1).unwrap();
    let error = Scripted::from_file(&path).unwrap_err().to_string();
    assert!(error.contains("the limit is 67108864"), "{error}");
}

/// A model that only ever talks, and counts how often it was asked.
#[derive(Debug, Default)]
struct Chatty(AtomicU32);

impl Llm for Chatty {
    fn name(&self) -> &'static str {
        "chatty"
    }

    fn can_require_calls(&self) -> bool {
        false
    }

    fn ask<'a>(&'a self, _: &'a Question, _: &'a dyn Pieces) -> BoxFuture<'a, Result<RawAnswer, ModelError>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let content = Some("let me tell you".to_owned());
        Box::pin(async { Ok(RawAnswer { content, ..RawAnswer::default() }) })
    }
}

#[tokio::test]
async fn a_model_that_only_talks_is_reminded_twice() {
    let model = Arc::new(Chatty::default());
    let runtime = embed::in_memory(Some(crate::node_support::compiled())).unwrap();
    let wards = Wards { max_turns: Some(1), ..Wards::default() };
    let llm: Arc<dyn Llm> = Arc::<Chatty>::clone(&model);
    let cantrip = Cantrip::builder().llm(llm).medium("javascript").gate(builtin::done()).wards(&wards);
    let cantrip = cantrip.build(runtime.media()).unwrap();
    let _ended = runtime.cast(&cantrip, "go", CastOptions::default()).await;
    assert_eq!(model.0.load(Ordering::Relaxed), 1 + 2);
}

#[tokio::test]
async fn a_model_that_says_nothing_is_given_up_after_two_minutes() {
    let (address, asked) = server(Vec::new());
    let asking = tokio::spawn(async move { provider(address).ask(&question(), &Unheard).await });
    asked.await.unwrap();
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let error = asking.await.unwrap().unwrap_err();
    assert!(matches!(error, ModelError::Unreachable { .. }), "{error:?}");
    assert!(begun.elapsed() >= Duration::from_secs(119) && begun.elapsed() < Duration::from_secs(125), "{error}");
}

#[tokio::test(start_paused = true)]
async fn who_takes_no_connection_is_given_up_after_ten_seconds() {
    let (address, _waiting, _listener) = full();
    let begun = tokio::time::Instant::now();
    let error = provider(address).ask(&question(), &Unheard).await.unwrap_err();
    assert!(matches!(error, ModelError::Unreachable { .. }), "{error:?}");
    assert!(begun.elapsed() >= Duration::from_secs(10) && begun.elapsed() < Duration::from_secs(11), "{error}");

    let policy = json!({"hosts": [address.to_string()], "private_addresses": ["127.0.0.1"]});
    let policy: HttpPolicy = serde_json::from_value(policy).unwrap();
    let gate = builtin::http_fetch(policy).unwrap();
    let begun = tokio::time::Instant::now();
    let error = gate.call(json!({"url": format!("http://{address}/")}), &CallContext::default()).await.unwrap_err();
    assert!(begun.elapsed() >= Duration::from_secs(10) && begun.elapsed() < Duration::from_secs(11), "{error}");
    assert!(error.message().contains("no connection within 10000 ms"), "{error}");
}

#[tokio::test]
async fn a_refusal_that_is_never_finished_is_cut_after_ten_seconds() {
    let (address, asked) = server(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 1000\r\n\r\n{\"error\"".to_vec());
    let asking = tokio::spawn(async move { provider(address).ask(&question(), &Unheard).await });
    asked.await.unwrap();
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let error = asking.await.unwrap().unwrap_err();
    assert!(matches!(error, ModelError::Status { status: 400, .. }), "{error:?}");
    assert!(begun.elapsed() <= Duration::from_secs(15), "{error}");
}
