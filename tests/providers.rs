//! Models over the wire: every provider's shape against a server that this file owns.
//!
//! Nothing sleeps and nothing leaves the machine: a server answers each request with the next reply that a test wrote
//! down, byte for byte, and keeps what was asked.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop where it is")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cantrip_runtime::adapters::llm::{Provider, ProviderConfig, visible_thinking};
use cantrip_runtime::domain::ids::CallId;
use cantrip_runtime::domain::model::{
    Call, Message, ModelError, Question, RawAnswer, RawCall, Sampling, ToolChoice, ToolDefinition, Usage,
};
use cantrip_runtime::ports::{Llm as _, Pieces};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const KEY: &str = "key-5d41402abc4b2a76b9719d911017c592";

/// A request as it came.
#[derive(Debug, Clone)]
struct Asked {
    path: String,
    head: String,
    body: Value,
}

/// A server that answers with what a test wrote down.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(replies: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            for reply in replies {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read(&mut stream).await;
                seen.lock().unwrap().push(request);
                stream.write_all(reply.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        Self { address, asked, _tasks: tasks }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn read(stream: &mut TcpStream) -> Asked {
    let mut bytes = Vec::new();
    loop {
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "the request broke off");
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
        });
        if body.len() < length.unwrap() {
            continue;
        }
        let path = head.split(' ').nth(1).unwrap().to_owned();
        return Asked { path, head: head.to_lowercase(), body: serde_json::from_str(body).unwrap() };
    }
}

fn reply(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// A stream of events that ends where it should.
fn stream(body: &str) -> String {
    reply("200 OK", "content-type: text/event-stream\r\n", body)
}

fn data(values: &[Value]) -> String {
    values.iter().fold(String::new(), |body, value| body + &format!("data: {value}\n\n"))
}

fn named(values: &[Value]) -> String {
    let kind = |value: &Value| value["type"].as_str().unwrap().to_owned();
    values.iter().fold(String::new(), |body, value| body + &format!("event: {}\ndata: {value}\n\n", kind(value)))
}

#[derive(Default)]
struct Heard {
    text: Mutex<Vec<String>>,
    thinking: Mutex<Vec<String>>,
}

impl Pieces for Heard {
    fn text(&self, piece: &str) {
        self.text.lock().unwrap().push(piece.to_owned());
    }
    fn thinking(&self, piece: &str) {
        self.thinking.lock().unwrap().push(piece.to_owned());
    }
}

fn make(config: &ProviderConfig) -> Provider {
    Provider::from_config(config, &|name| name.ends_with("_API_KEY").then(|| KEY.to_owned())).unwrap()
}

fn provider(name: &str, base_url: &str) -> Provider {
    let text = |text: &str| text.to_owned();
    make(&ProviderConfig {
        provider: text(name),
        model: text("m-1"),
        base_url: Some(text(base_url)),
        ..Default::default()
    })
}

fn question(messages: Vec<Message>) -> Question {
    let tool = ToolDefinition {
        name: "echo".to_owned(),
        description: "says it again".to_owned(),
        parameters: json!({"type": "object", "properties": {"text": {"type": "string"}}}),
    };
    let messages = messages.into_iter().map(Arc::new).collect();
    Question { messages, tools: Arc::new([tool]), tool_choice: ToolChoice::Required, sampling: Sampling::default() }
}

fn first() -> Question {
    question(vec![Message::System("be kind".to_owned()), Message::User("hello".to_owned())])
}

/// A conversation with two calls in one utterance, one of which failed.
fn conversation(thinking: Option<String>) -> Question {
    let call = |id: &str, arguments| Call { id: CallId::new(id), gate: "echo".to_owned(), arguments };
    let result = |id: &str, content: &str, is_error| Message::Tool {
        call: CallId::new(id),
        content: content.to_owned(),
        is_error,
    };
    question(vec![
        Message::System("be kind".to_owned()),
        Message::User("hello".to_owned()),
        Message::Assistant {
            content: Some("so".to_owned()),
            thinking,
            calls: vec![call("call_1_1", Ok(json!({"text": "a"}))), call("b", Err("{tex".to_owned()))],
        },
        result("call_1_1", "a!", false),
        result("b", "no JSON", true),
        Message::User("go on".to_owned()),
    ])
}

/// One question to a server that gives one reply.
async fn ask(name: &str, reply: String, question: &Question) -> (Result<RawAnswer, ModelError>, Asked, Heard) {
    let server = Server::start(vec![reply]).await;
    let heard = Heard::default();
    let answer = provider(name, &server.address).ask(question, &heard).await;
    let asked = server.asked().remove(0);
    (answer, asked, heard)
}

async fn refused(name: &str, reply: String) -> ModelError {
    let (answer, _, _) = ask(name, reply, &first()).await;
    let error = answer.unwrap_err();
    for shown in [error.to_string(), format!("{error:?}")] {
        assert!(!shown.contains(KEY), "the key got out: {shown}");
    }
    error
}

fn openai_answer() -> String {
    let delta =
        |delta: Value| json!({"model": "m-1-2026", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]});
    let part = |index: u32, id: Option<&str>, name: Option<&str>, arguments: &str| {
        let mut call = json!({"index": index, "function": {"arguments": arguments}});
        if let (Some(id), Some(name)) = (id, name) {
            call["id"] = json!(id);
            call["function"]["name"] = json!(name);
        }
        delta(json!({"tool_calls": [call]}))
    };
    let body = data(&[
        delta(json!({"role": "assistant", "content": ""})),
        delta(json!({"reasoning_content": "hm"})),
        delta(json!({"content": "hel"})),
        delta(json!({"content": "lo"})),
        part(0, Some("x"), Some("echo"), ""),
        part(0, None, None, "{\"te"),
        part(0, None, None, "xt\": \"a\"}"),
        part(1, Some("y"), Some("done"), "{\"answer\":"),
        part(1, None, None, " 42"),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
        json!({"choices": [], "usage": {
            "prompt_tokens": 20, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 16},
        }}),
    ]);
    stream(&(body + "data: [DONE]\n\n"))
}

#[tokio::test]
async fn llm_6_openai_streams_text_calls_in_pieces_and_usage() {
    let (answer, asked, heard) = ask("openai", openai_answer(), &first()).await;
    let answer = answer.unwrap();
    assert_eq!(answer.content.as_deref(), Some("hello"));
    assert_eq!(answer.thinking.as_deref(), Some("hm"));
    assert_eq!(*heard.text.lock().unwrap(), ["hel", "lo"]);
    assert_eq!(*heard.thinking.lock().unwrap(), ["hm"]);
    let call = |id: &str, gate: &str, arguments| RawCall { id: Some(id.to_owned()), gate: gate.to_owned(), arguments };
    let expected = [call("x", "echo", Ok(json!({"text": "a"}))), call("y", "done", Err("{\"answer\": 42".to_owned()))];
    assert_eq!(answer.calls, expected);
    assert_eq!(answer.usage, Usage { prompt_tokens: 20, completion_tokens: 9, cached_tokens: 16 });
    assert_eq!(answer.model, "m-1-2026");
    assert!(asked.head.contains(&format!("authorization: bearer {KEY}")));
    assert_eq!(asked.body["model"], "m-1");
    assert_eq!(asked.body["stream"], true);
}

#[tokio::test]
async fn llm_5_the_choice_and_the_sampling_are_on_the_wire() {
    let mut question = first();
    question.sampling = Sampling {
        temperature: Some(0.25),
        top_p: Some(0.5),
        max_output_tokens: Some(77),
        reasoning_effort: Some("low".to_owned()),
    };
    let (_, asked, _) = ask("openai", openai_answer(), &question).await;
    assert_eq!(asked.body["tool_choice"], "required");
    assert_eq!(asked.body["tools"][0]["function"]["name"], "echo");
    assert_eq!(asked.body["tools"][0]["function"]["parameters"], question.tools[0].parameters);
    assert_eq!((&asked.body["temperature"], &asked.body["top_p"]), (&json!(0.25), &json!(0.5)));
    assert_eq!((&asked.body["max_tokens"], &asked.body["reasoning_effort"]), (&json!(77), &json!("low")));
    for (choice, openai, anthropic, gemini) in [
        (ToolChoice::Required, "required", "any", "ANY"),
        (ToolChoice::Auto, "auto", "auto", "AUTO"),
        (ToolChoice::None, "none", "none", "NONE"),
    ] {
        let mut question = first();
        question.tool_choice = choice;
        let (_, asked, _) = ask("openai", openai_answer(), &question).await;
        assert_eq!(asked.body["tool_choice"], openai);
        let (_, asked, _) = ask("anthropic", anthropic_answer(), &question).await;
        assert_eq!(asked.body["tool_choice"]["type"], anthropic);
        let (_, asked, _) = ask("gemini", gemini_answer(), &question).await;
        assert_eq!(asked.body["toolConfig"]["functionCallingConfig"]["mode"], gemini);
        question.tools = Arc::default();
        let (_, asked, _) = ask("openai", openai_answer(), &question).await;
        assert!(asked.body.get("tool_choice").is_none(), "no choice without tools: {}", asked.body);
    }
}

#[tokio::test]
async fn llm_5_a_provider_that_does_not_keep_the_choice_says_so() {
    for (name, keeps) in [("openai", true), ("gemini", true), ("ollama", false), ("openai_compatible", false)] {
        assert_eq!(provider(name, "http://127.0.0.1:1").can_require_calls(), keeps, "{name}");
    }
    // Anthropic answers 400 to a forced call while it thinks.
    let mut question = first();
    question.sampling.reasoning_effort = Some("high".to_owned());
    let (_, asked, _) = ask("anthropic", anthropic_answer(), &question).await;
    assert_eq!(asked.body["tool_choice"]["type"], "auto");
    assert!(!provider("anthropic", "http://127.0.0.1:1").can_require_calls());
}

#[tokio::test]
async fn llm_7_calls_and_results_keep_their_order_for_openai() {
    let (_, asked, _) = ask("openai", openai_answer(), &conversation(None)).await;
    let messages = asked.body["messages"].as_array().unwrap();
    let roles: Vec<_> = messages.iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "tool", "tool", "user"]);
    assert_eq!(messages[2]["tool_calls"][0]["id"], "call_1_1");
    assert_eq!(messages[2]["tool_calls"][0]["function"]["arguments"], "{\"text\":\"a\"}");
    let broken: Value =
        serde_json::from_str(messages[2]["tool_calls"][1]["function"]["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(broken, json!({"arguments_not_json": "{tex"}));
    let results: Vec<_> =
        messages[3..5].iter().map(|message| (&message["tool_call_id"], &message["content"])).collect();
    assert_eq!(results, [(&json!("call_1_1"), &json!("a!")), (&json!("b"), &json!("no JSON"))]);
    assert!(messages[2].get("reasoning_content").is_none());
}

fn anthropic_answer() -> String {
    let start =
        |index: u32, block: Value| json!({"type": "content_block_start", "index": index, "content_block": block});
    let delta = |index: u32, delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
    let stop = |index: u32| json!({"type": "content_block_stop", "index": index});
    stream(&named(&[
        json!({"type": "message_start", "message": {"model": "m-1-2026", "usage": {
            "input_tokens": 5, "cache_read_input_tokens": 11, "output_tokens": 1,
        }}}),
        json!({"type": "ping"}),
        start(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
        delta(0, json!({"type": "thinking_delta", "thinking": "two and "})),
        delta(0, json!({"type": "thinking_delta", "thinking": "two"})),
        delta(0, json!({"type": "signature_delta", "signature": "c2ln"})),
        stop(0),
        start(1, json!({"type": "redacted_thinking", "data": "opaque"})),
        stop(1),
        start(2, json!({"type": "text", "text": ""})),
        delta(2, json!({"type": "text_delta", "text": "four"})),
        stop(2),
        start(3, json!({"type": "tool_use", "id": "toolu_1", "name": "echo", "input": {}})),
        delta(3, json!({"type": "input_json_delta", "partial_json": "{\"text\":"})),
        delta(3, json!({"type": "input_json_delta", "partial_json": "\"four\"}"})),
        stop(3),
        start(4, json!({"type": "tool_use", "id": "toolu_2", "name": "done", "input": {}})),
        stop(4),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 30}}),
        json!({"type": "message_stop"}),
    ]))
}

#[tokio::test]
async fn llm_6_anthropic_streams_thinking_text_and_calls() {
    let (answer, asked, heard) = ask("anthropic", anthropic_answer(), &first()).await;
    let answer = answer.unwrap();
    assert_eq!(answer.content.as_deref(), Some("four"));
    assert_eq!(answer.thinking.as_deref().map(visible_thinking), Some("two and two"));
    assert_eq!(*heard.thinking.lock().unwrap(), ["two and ", "two"]);
    let call = |id: &str, gate: &str, arguments| RawCall { id: Some(id.to_owned()), gate: gate.to_owned(), arguments };
    let expected = [call("toolu_1", "echo", Ok(json!({"text": "four"}))), call("toolu_2", "done", Ok(json!({})))];
    assert_eq!(answer.calls, expected);
    assert_eq!(answer.usage, Usage { prompt_tokens: 16, completion_tokens: 30, cached_tokens: 11 });
    assert_eq!(answer.model, "m-1-2026");
    assert_eq!(asked.path, "/v1/messages");
    assert!(asked.head.contains(&format!("x-api-key: {KEY}")));
    assert_eq!(asked.body["system"][0]["text"], "be kind");
    assert_eq!(asked.body["system"][0]["cache_control"]["type"], "ephemeral");
}

#[tokio::test]
async fn llm_7_anthropic_gets_its_signed_thinking_back_and_results_with_their_failure() {
    let (answer, _, _) = ask("anthropic", anthropic_answer(), &first()).await;
    let thinking = answer.unwrap().thinking;
    let (_, asked, _) = ask("anthropic", anthropic_answer(), &conversation(thinking.clone())).await;
    let said = &asked.body["messages"][1]["content"];
    assert_eq!(said[0], json!({"type": "thinking", "thinking": "two and two", "signature": "c2ln"}));
    assert_eq!(said[1], json!({"type": "redacted_thinking", "data": "opaque"}));
    assert_eq!(said[2]["text"], "so");
    assert_eq!((&said[3]["id"], &said[4]["id"]), (&json!("call_1_1"), &json!("b")));
    let results = &asked.body["messages"][2]["content"];
    let ids: Vec<_> =
        results.as_array().unwrap().iter().map(|result| (&result["tool_use_id"], &result["is_error"])).collect();
    assert_eq!(ids, [(&json!("call_1_1"), &Value::Null), (&json!("b"), &json!(true))]);
    // Nobody else is shown another provider's seal.
    let (_, asked, _) = ask("openai", openai_answer(), &conversation(thinking.clone())).await;
    assert!(!asked.body.to_string().contains("c2ln"));
    let (_, asked, _) = ask("deepseek", openai_answer(), &conversation(thinking)).await;
    assert_eq!(asked.body["messages"][2]["reasoning_content"], "two and two");
    assert!(!asked.body.to_string().contains("c2ln"));
}

fn gemini_answer() -> String {
    let parts = |parts: Value| json!({"candidates": [{"content": {"role": "model", "parts": parts}}], "modelVersion": "m-1-2026"});
    let mut last = parts(json!([{"functionCall": {"name": "echo", "args": {"text": "b"}}}]));
    last["candidates"][0]["finishReason"] = json!("STOP");
    last["usageMetadata"] = json!({
        "promptTokenCount": 12, "cachedContentTokenCount": 8, "candidatesTokenCount": 3, "thoughtsTokenCount": 4,
    });
    stream(&data(&[
        parts(json!([{"text": "hm", "thought": true}])),
        parts(json!([{"text": "he"}])),
        parts(json!([{"text": "llo"}])),
        parts(json!([{"functionCall": {"name": "echo", "args": {"text": "a"}}, "thoughtSignature": "c2ln"}])),
        last,
    ]))
}

#[tokio::test]
async fn llm_6_gemini_streams_and_its_calls_get_no_made_up_ids() {
    let (answer, asked, heard) = ask("gemini", gemini_answer(), &first()).await;
    let answer = answer.unwrap();
    assert_eq!(answer.content.as_deref(), Some("hello"));
    assert_eq!(*heard.text.lock().unwrap(), ["he", "llo"]);
    assert_eq!(*heard.thinking.lock().unwrap(), ["hm"]);
    assert_eq!(answer.thinking.as_deref().map(visible_thinking), Some("hm"));
    let call = |text: &str| RawCall { id: None, gate: "echo".to_owned(), arguments: Ok(json!({"text": text})) };
    assert_eq!(answer.calls, [call("a"), call("b")]);
    assert_eq!(answer.usage, Usage { prompt_tokens: 12, completion_tokens: 7, cached_tokens: 8 });
    assert_eq!(answer.model, "m-1-2026");
    assert_eq!(asked.path, "/v1beta/models/m-1:streamGenerateContent?alt=sse");
    assert!(asked.head.contains(&format!("x-goog-api-key: {KEY}")));
    // The call goes back with its signature, and an id that Gemini did not give stays away from it.
    let (_, asked, _) = ask("gemini", gemini_answer(), &conversation(answer.thinking)).await;
    let said = &asked.body["contents"][1]["parts"];
    assert_eq!(said[1]["functionCall"], json!({"name": "echo", "args": {"text": "a"}}));
    assert_eq!(said[1]["thoughtSignature"], "c2ln");
    assert_eq!(said[2]["functionCall"]["id"], "b");
    let results = &asked.body["contents"][2]["parts"];
    assert_eq!(results[0]["functionResponse"]["name"], "echo");
    assert_eq!(results[1]["functionResponse"]["id"], "b");
}

#[tokio::test]
async fn llm_6_ollama_streams_lines() {
    let lines = [
        json!({"model": "m-1:8b", "message": {"role": "assistant", "thinking": "hm"}, "done": false}),
        json!({"model": "m-1:8b", "message": {"content": "hel"}, "done": false}),
        json!({"model": "m-1:8b", "message": {"content": "lo", "tool_calls": [
            {"function": {"name": "echo", "arguments": {"text": "a"}}},
        ]}, "done": false}),
        json!({"model": "m-1:8b", "message": {"content": ""}, "done": true, "done_reason": "stop",
            "prompt_eval_count": 6, "eval_count": 2}),
    ];
    let body = lines.iter().fold(String::new(), |body, line| body + &format!("{line}\n"));
    let reply = reply("200 OK", "content-type: application/x-ndjson\r\n", &body);
    let (answer, asked, heard) = ask("ollama", reply, &conversation(None)).await;
    let answer = answer.unwrap();
    assert_eq!((answer.content.as_deref(), answer.thinking.as_deref()), (Some("hello"), Some("hm")));
    assert_eq!(*heard.text.lock().unwrap(), ["hel", "lo"]);
    let call = RawCall { id: None, gate: "echo".to_owned(), arguments: Ok(json!({"text": "a"})) };
    assert_eq!(answer.calls, [call]);
    assert_eq!(answer.usage, Usage { prompt_tokens: 6, completion_tokens: 2, cached_tokens: 0 });
    assert_eq!((answer.model.as_str(), asked.path.as_str()), ("m-1:8b", "/api/chat"));
    assert!(!asked.head.contains("authorization"));
    let contents: Vec<_> =
        asked.body["messages"].as_array().unwrap().iter().map(|message| message["content"].clone()).collect();
    assert_eq!(contents, ["be kind", "hello", "so", "a!", "no JSON", "go on"]);
}

#[tokio::test]
async fn prod_2_a_busy_provider_says_when_to_ask_again() {
    let body = json!({"error": {"message": format!("slow down, {KEY}"), "code": "rate_limit_exceeded"}}).to_string();
    let error = refused("openai", reply("429 Too Many Requests", "retry-after: 7\r\n", &body)).await;
    let message = "slow down, *** (rate_limit_exceeded)".to_owned();
    assert_eq!(error, ModelError::Status { status: 429, message, retry_after: Some(Duration::from_secs(7)) });
}

#[tokio::test]
async fn a_refusal_keeps_its_status_and_its_words() {
    let check =
        |status: u16, message: &str| ModelError::Status { status, message: message.to_owned(), retry_after: None };
    let error = refused("openai", reply("500 Internal Server Error", "", "<html>\n<b>oops</b>")).await;
    assert_eq!(error, check(500, "<html> <b>oops</b>"));
    let body = json!({"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}});
    let error = refused("anthropic", reply("401 Unauthorized", "", &body.to_string())).await;
    assert_eq!(error, check(401, "invalid x-api-key (authentication_error)"));
    let body = json!([{"error": {"code": 404, "message": "no such model", "status": "NOT_FOUND"}}]);
    let error = refused("gemini", reply("404 Not Found", "", &body.to_string())).await;
    assert_eq!(error, check(404, "no such model (NOT_FOUND)"));
    let error = refused("ollama", reply("404 Not Found", "", &json!({"error": "pull it first"}).to_string())).await;
    assert_eq!(error, check(404, "pull it first"));
    let long = refused("openai", reply("502 Bad Gateway", "", &"é".repeat(9_000))).await;
    assert!(matches!(long, ModelError::Status { message, .. } if message.chars().count() == 501));
}

#[tokio::test]
async fn a_key_is_never_carried_to_another_address() {
    let error = refused("anthropic", reply("307 Temporary Redirect", "location: http://elsewhere/\r\n", "")).await;
    assert!(matches!(&error, ModelError::Status { status: 307, message, .. } if message.contains("http://elsewhere/")));
}

#[tokio::test]
async fn llm_2_a_conversation_that_does_not_fit_is_told_apart() {
    let openai = json!({"error": {"message": "too many", "code": "context_length_exceeded"}});
    let anthropic = json!({"type": "error", "error": {"type": "invalid_request_error",
        "message": "prompt is too long: 213462 tokens > 200000 maximum"}});
    let llama = json!({"error": {"code": 400, "type": "exceed_context_size_error",
        "message": "the request exceeds the available context size, try increasing it"}});
    for (name, body) in [("openai", openai), ("anthropic", anthropic), ("openai_compatible", llama)] {
        let error = refused(name, reply("400 Bad Request", "", &body.to_string())).await;
        assert!(matches!(error, ModelError::TooLong { .. }), "{name}: {error:?}");
    }
}

#[tokio::test]
async fn nobody_there_is_said_with_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for name in ["openai", "anthropic", "gemini", "ollama"] {
        let error = provider(name, &address).ask(&first(), &Heard::default()).await.unwrap_err();
        let ModelError::Unreachable { address: found, message } = &error else { panic!("{name}: {error:?}") };
        assert_eq!(*found, address);
        assert!(message.to_lowercase().contains("refused"), "{name}: {message}");
    }
}

#[tokio::test]
async fn garbage_is_not_an_answer() {
    for (name, body) in [
        ("openai", "data: {\"choices\"\n\n"),
        ("openai", "<html>hello</html>"),
        ("openai", ""),
        ("openai", "{\"choices\": [{\"message\": {\"content\": \"hello\"}}]}"),
        ("anthropic", "event: content_block_start\ndata: nonsense\n\n"),
        ("gemini", "data: nonsense\n\n"),
        ("ollama", "nonsense\n"),
    ] {
        let error = refused(name, stream(body)).await;
        assert!(matches!(error, ModelError::Malformed { .. }), "{name} {body}: {error:?}");
    }
    let none = data(&[json!({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]})]) + "data: [DONE]\n\n";
    let error = refused("openai", stream(&none)).await;
    assert!(error.to_string().contains("no call that can be read"), "{error}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_answer() {
    let whole = [
        ("openai", openai_answer(), "data: [DONE]"),
        ("anthropic", anthropic_answer(), "event: message_stop"),
        (
            "gemini",
            gemini_answer(),
            "data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"functionCall\":{\"name\":\"echo\",\"args\":{\"text\":\"b\"",
        ),
    ];
    for (name, reply, last) in whole {
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        let (cut, _) = body.split_once(last).unwrap();
        // The connection closes in order, and before the length that was promised.
        for reply in [stream(cut), format!("{head}\r\n\r\n{cut}")] {
            let error = refused(name, reply).await;
            assert!(matches!(error, ModelError::Unreachable { .. }), "{name}: {error:?}");
        }
    }
    let line = json!({"model": "m", "message": {"content": "hel"}, "done": false});
    let error = refused("ollama", stream(&format!("{line}\n"))).await;
    assert!(matches!(error, ModelError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn an_error_inside_of_a_stream_is_not_passed_over() {
    let check = |error: ModelError, expected: u16| {
        assert!(matches!(&error, ModelError::Status { status, .. } if *status == expected), "{expected}: {error:?}");
    };
    let overloaded = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
    check(refused("anthropic", stream(&named(&[overloaded]))).await, 529);
    let openai = json!({"error": {"message": "the server had an error", "type": "server_error"}});
    check(refused("openai", stream(&data(&[openai]))).await, 500);
    let openrouter = json!({"error": {"message": "upstream", "code": 503}});
    check(refused("openrouter", stream(&data(&[openrouter]))).await, 503);
    let line = json!({"error": "out of memory"});
    check(refused("ollama", stream(&format!("{line}\n"))).await, 500);
}

#[tokio::test]
async fn every_spelling_of_an_address_finds_the_same_path() {
    for (name, spellings, path) in [
        ("openai", ["", "/", "/v1", "/v1/"], "/v1/chat/completions"),
        ("openai_compatible", ["", "/", "/v1", "/v1/"], "/v1/chat/completions"),
        ("anthropic", ["", "/", "/v1", "/v1/"], "/v1/messages"),
        ("ollama", ["", "/", "/v1", "/api/"], "/api/chat"),
    ] {
        for spelling in spellings {
            let server = Server::start(vec![stream("")]).await;
            let provider = provider(name, &format!("{}{spelling}", server.address));
            provider.ask(&first(), &Heard::default()).await.unwrap_err();
            assert_eq!(server.asked()[0].path, path, "{name} {spelling}");
        }
    }
}

#[tokio::test]
async fn the_environment_gives_address_and_key() {
    let server = Server::start(vec![openai_answer(), openai_answer()]).await;
    let address = server.address.clone();
    let env = move |name: &str| match name {
        "OPENAI_BASE_URL" => Some(format!("{address}/proxy/v1/")),
        "MY_KEY" => Some(format!(" {KEY}\n")),
        _ => None,
    };
    let config = |provider: &str, key_env: Option<&str>| ProviderConfig {
        provider: provider.to_owned(),
        model: "m".to_owned(),
        key_env: key_env.map(str::to_owned),
        ..ProviderConfig::default()
    };
    let with_key = Provider::from_config(&config("openai", Some("MY_KEY")), &env).unwrap();
    let without = Provider::from_config(&config("openai_compatible", None), &env).unwrap();
    with_key.ask(&first(), &Heard::default()).await.unwrap();
    without.ask(&first(), &Heard::default()).await.unwrap();
    let asked = server.asked();
    assert_eq!(asked[0].path, "/proxy/v1/chat/completions");
    assert!(asked[0].head.contains(&format!("authorization: bearer {KEY}\r")), "{}", asked[0].head);
    assert!(!asked[1].head.contains("authorization"), "{}", asked[1].head);
    let missing = Provider::from_config(&config("openai", None), &env).unwrap_err().to_string();
    assert!(missing.contains("OPENAI_API_KEY"), "{missing}");
    assert_eq!((with_key.key_variable(), with_key.name()), (Some("MY_KEY"), "openai/m"));
    assert!(!format!("{with_key:?}").contains(KEY), "{with_key:?}");
}

#[tokio::test]
async fn a_model_keeps_its_name() {
    for (name, model) in
        [("mistral", "mistral-medium"), ("qwen", "qwen-max"), ("openai", "a::b"), ("openai", "gpt-high")]
    {
        let server = Server::start(vec![openai_answer()]).await;
        let provider = make(&ProviderConfig {
            provider: name.to_owned(),
            model: model.to_owned(),
            base_url: Some(server.address.clone()),
            ..ProviderConfig::default()
        });
        provider.ask(&first(), &Heard::default()).await.unwrap();
        let body = &server.asked()[0].body;
        assert_eq!((&body["model"], body.get("reasoning_effort")), (&json!(model), None));
    }
}

#[tokio::test]
async fn llm_1_nothing_is_kept_between_two_questions() {
    let server = Server::start(vec![openai_answer(), openai_answer()]).await;
    let provider = provider("openai", &server.address);
    provider.ask(&conversation(None), &Heard::default()).await.unwrap();
    provider.ask(&first(), &Heard::default()).await.unwrap();
    let (_, fresh, _) = ask("openai", openai_answer(), &first()).await;
    assert_eq!(server.asked()[1].body, fresh.body);
}

#[tokio::test]
async fn an_effort_that_has_no_meaning_is_refused_before_anybody_is_asked() {
    let mut question = first();
    question.sampling.reasoning_effort = Some("hgih".to_owned());
    let error = provider("openai", "http://127.0.0.1:1").ask(&question, &Heard::default()).await.unwrap_err();
    assert!(matches!(&error, ModelError::Setup { message } if message.contains("`hgih`")), "{error:?}");
}

#[tokio::test]
async fn a_provider_that_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let provider = make(&ProviderConfig {
        provider: "openai".to_owned(),
        model: "m".to_owned(),
        base_url: Some(address.clone()),
        timeout: Some(Duration::from_millis(20)),
        ..ProviderConfig::default()
    });
    let error = provider.ask(&first(), &Heard::default()).await.unwrap_err();
    let ModelError::Unreachable { address: found, message } = &error else { panic!("{error:?}") };
    assert!(*found == address && message.contains("timed out"), "{error}");
}
