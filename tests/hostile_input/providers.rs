//! What a model's provider sends is bounded before anything reads it, whatever its status.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cantrip_runtime::adapters::llm::{Provider, ProviderConfig};
use cantrip_runtime::domain::limits;
use cantrip_runtime::domain::model::{Message, ModelError, Question, RawAnswer, Sampling, ToolChoice};
use cantrip_runtime::ports::{Llm as _, Pieces};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What the machine keeps of a connection that nobody reads, and more.
const SLACK_BYTES: u64 = 24 * 1024 * 1024;

struct Unheard;

impl Pieces for Unheard {
    fn text(&self, _: &str) {}
    fn thinking(&self, _: &str) {}
}

/// Asks a server that answers with a head and then with one piece again and again, as long as it is listened to. Returns how much
/// it could send.
async fn ask(name: &str, head: impl AsRef<[u8]>, piece: Vec<u8>) -> (Result<RawAnswer, ModelError>, u64) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let sent = Arc::new(AtomicU64::new(0));
    let (count, head) = (Arc::clone(&sent), head.as_ref().to_owned());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; 64 * 1024];
        let read = stream.read(&mut asked).await.unwrap();
        assert!(read > 0);
        let mut begun = stream.write_all(&head).await;
        while begun.is_ok() {
            begun = stream.write_all(&piece).await;
            count.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    });
    let config = ProviderConfig {
        provider: name.to_owned(),
        model: "m".to_owned(),
        base_url: Some(address),
        ..ProviderConfig::default()
    };
    let provider = Provider::from_config(&config, &|_| Some("no-key".to_owned())).unwrap();
    let question = Question {
        messages: vec![Arc::new(Message::User("?".to_owned()))],
        tools: Arc::default(),
        tool_choice: ToolChoice::Auto,
        sampling: Sampling::default(),
    };
    let answer = provider.ask(&question, &Unheard).await;
    // The server sees that nobody listens any more.
    drop(provider);
    while tasks.join_next().await.is_some() {}
    (answer, sent.load(Ordering::Relaxed))
}

const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";

#[tokio::test]
async fn a_refusal_of_any_length_is_told_by_its_beginning() {
    for (name, head) in [
        ("openai", "HTTP/1.1 400 Bad Request\r\ncontent-length: 734003200\r\n\r\n"),
        ("anthropic", "HTTP/1.1 529 Overloaded\r\n\r\n"),
        ("gemini", "HTTP/1.1 500 Oops\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n\r\n"),
        ("ollama", "HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\n\r\n"),
    ] {
        let (answer, sent) = ask(name, head, b"no ".repeat(20_000)).await;
        let Err(ModelError::Status { status, message, .. }) = &answer else { panic!("{name}: {answer:?}") };
        assert!(head.contains(&status.to_string()), "{name}: {answer:?}");
        // What says that it is packed and is not has nothing to say.
        assert!(message.contains("no no") != head.contains("gzip"), "{name}: {answer:?}");
        assert!(sent < SLACK_BYTES, "{name}: {sent} bytes were sent");
    }
}

#[tokio::test]
async fn a_line_without_an_end_is_cut() {
    for (name, begun) in [("openai", "data: a"), ("anthropic", "event: a"), ("gemini", "\0"), ("ollama", "{")] {
        let (answer, sent) = ask(name, format!("{STREAM}{begun}"), vec![b'a'; 256 * 1024]).await;
        let Err(ModelError::Malformed { message }) = &answer else { panic!("{name}: {answer:?}") };
        assert!(message.contains("one line of it is longer"), "{name}: {message}");
        assert!(sent < limits::PROVIDER_LINE_BYTES_MAX as u64 + SLACK_BYTES, "{name}: {sent} bytes were sent");
    }
}

#[tokio::test]
async fn an_answer_that_does_not_end_is_cut() {
    let piece = format!(": {}\n\n", "a".repeat(1024 * 1024)).into_bytes();
    let (answer, sent) = ask("openai", STREAM, piece).await;
    let Err(ModelError::Malformed { message }) = &answer else { panic!("{answer:?}") };
    assert!(message.contains("bytes on the wire"), "{message}");
    assert!(sent < limits::PROVIDER_BODY_BYTES_MAX as u64 + SLACK_BYTES, "{sent} bytes were sent");
}

#[tokio::test]
async fn an_index_makes_no_room_for_calls_that_did_not_come() {
    let call = json!({ "index": u32::MAX, "id": "a", "function": { "name": "done", "arguments": "{}" } });
    let events = [
        json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [call] } }] }),
        json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "tool_calls" }] }),
    ];
    let piece =
        events.iter().fold(String::new(), |text, event| text + &format!("data: {event}\n\n")) + "data: [DONE]\n\n";
    let (answer, _) = ask("openai", STREAM, piece.into_bytes()).await;
    assert_eq!(answer.unwrap().calls.len(), 1);
}

#[tokio::test]
async fn a_call_in_many_pieces_costs_its_own_length() {
    let call =
        |arguments: &str| json!({ "index": 0, "id": "a", "function": { "name": "done", "arguments": arguments } });
    let event = |call| json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [call] } }] });
    let piece = format!("data: {}\n\n", event(call(&"a".repeat(1_000)))).into_bytes();
    let (answer, sent) = ask("openai", STREAM, piece).await;
    let Err(ModelError::Malformed { message }) = &answer else { panic!("{answer:?}") };
    assert!(message.contains("its calls are longer than 16777216 bytes"), "{message}");
    assert!(sent < 2 * limits::MODEL_ANSWER_BYTES_MAX as u64 + SLACK_BYTES, "{sent} bytes were sent");
}

/// A gzip stream that never ends and unpacks to one byte again and again, 159 of them for each of its own: how it begins, and the
/// piece that goes on.
fn bomb(byte: u8) -> (Vec<u8>, Vec<u8>) {
    let bits = |text: &str| text.bytes().map(|bit| bit == b'1').collect::<Vec<_>>();
    // A block with fixed codes (RFC 1951, 3.2.6), the byte, and then: 258 bytes more of what is one byte before.
    let literal = format!("{:08b}", 0x30 + byte);
    let again = bits("1100010100000");
    let packed = |bits: Vec<bool>| -> Vec<u8> {
        assert_eq!(bits.len() % 8, 0);
        bits.chunks(8).map(|byte| (0..).zip(byte).fold(0, |sum, (at, bit)| sum | u8::from(*bit) << at)).collect()
    };
    let begun = packed([bits("010"), bits(&literal), again.clone()].concat());
    let head = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], begun.as_slice()].concat();
    (head, packed(again.repeat(8 * 1_000)))
}

#[tokio::test]
async fn an_answer_that_unpacks_without_end_is_cut_by_what_it_unpacks_to() {
    let packed = "content-encoding: gzip\r\n\r\n";
    for (byte, expected) in [(0, "one line of it is longer"), (b'\n', "it is longer than 67108864 bytes")] {
        let (begun, piece) = bomb(byte);
        let head = [STREAM.replacen("\r\n\r\n", &format!("\r\n{packed}"), 1).as_bytes(), &begun].concat();
        let (answer, sent) = ask("openai", head, piece).await;
        let Err(ModelError::Malformed { message }) = &answer else { panic!("{answer:?}") };
        assert!(message.contains(expected), "{message}");
        assert!(sent < SLACK_BYTES, "{sent} bytes were sent");
    }
    let (begun, piece) = bomb(b'n');
    let head = [format!("HTTP/1.1 400 Bad Request\r\n{packed}").as_bytes(), &begun].concat();
    let (answer, sent) = ask("openai", head, piece).await;
    let Err(ModelError::Status { status: 400, message, .. }) = &answer else { panic!("{answer:?}") };
    assert!(message.contains("nnnn") && message.len() < 2_000, "{message}");
    assert!(sent < SLACK_BYTES, "{sent} bytes were sent");
}
