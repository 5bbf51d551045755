//! A provider's raw replies, sent through the real wire.
//!
//! Owns a small HTTP server on this machine that answers each question with the next raw reply, so that conformance
//! runs and tests use the same path from bytes to answer as everybody else (LLM-6). It listens on the loopback address
//! alone, and ends when it is dropped. Not for production: it understands as much HTTP as the client here speaks.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::provider::{Provider, ProviderConfig};
use crate::domain::limits::{REPLIES_BODY_BYTES_MAX, REPLIES_HEAD_BYTES_MAX};
use crate::domain::model::{Message, ModelError, Question, RawAnswer, Sampling, ToolChoice};
use crate::ports::{Llm as _, Pieces};

/// Answers questions with raw replies. Dropping it ends it.
#[derive(Debug)]
pub struct ReplayServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    // Held for its drop: it ends the task that listens.
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct State {
    replies: VecDeque<Value>,
    requests: Vec<Value>,
}

impl ReplayServer {
    /// Listens on a free port of this machine.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start(replies: Vec<Value>) -> Result<Self, ModelError> {
        let setup = |error: std::io::Error| ModelError::Setup { message: format!("no port on this machine: {error}") };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(setup)?;
        let address = listener.local_addr().map_err(setup)?;
        let state = Arc::new(Mutex::new(State { replies: replies.into(), requests: Vec::new() }));
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(listener, Arc::clone(&state)));
        Ok(Self { address, state, _tasks: tasks })
    }

    /// The address to give to a provider.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The bodies of the requests that came, in their order.
    pub fn requests(&self) -> Vec<Value> {
        lock(&self.state).requests.clone()
    }
}

/// A real provider that is answered with these raw replies, and the server that answers; the server has to live as long.
///
/// # Errors
/// No port can be had, or the provider's replies have another shape than a chat completion's.
pub async fn provider_over_replies(
    provider: &str,
    replies: Vec<Value>,
) -> Result<(Provider, ReplayServer), ModelError> {
    if !matches!(provider, "openai" | "openai_compatible") {
        let message = format!("raw replies are understood in the shape of `openai`, not of `{provider}`");
        return Err(ModelError::Setup { message });
    }
    let server = ReplayServer::start(replies).await?;
    let config = ProviderConfig {
        provider: provider.to_owned(),
        model: "replayed".to_owned(),
        base_url: Some(server.base_url()),
        ..ProviderConfig::default()
    };
    let key = |_: &str| Some("no-key-is-needed".to_owned());
    Ok((Provider::from_config(&config, &key)?, server))
}

/// A provider's raw reply in our shape.
///
/// # Errors
/// As the provider's adapter reports it.
pub async fn normalise(provider: &str, raw: Value) -> Result<RawAnswer, ModelError> {
    let (provider, _server) = provider_over_replies(provider, vec![raw]).await?;
    let question = Question {
        messages: vec![Arc::new(Message::User("?".to_owned()))],
        tools: Arc::default(),
        tool_choice: ToolChoice::Auto,
        sampling: Sampling::default(),
    };
    provider.ask(&question, &Unheard).await
}

struct Unheard;

impl Pieces for Unheard {
    fn text(&self, _piece: &str) {}
    fn thinking(&self, _piece: &str) {}
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn listen(listener: TcpListener, state: Arc<Mutex<State>>) {
    // Connections end with the listener: they are tasks of its set.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { connections.spawn(serve(stream, Arc::clone(&state))); }
                Err(_) => return,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One request, one reply, and the connection closes.
async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let Some(request) = read(&mut stream).await else { return };
    let streams = request.get("stream").and_then(Value::as_bool).unwrap_or_default();
    let reply = {
        let mut state = lock(&state);
        state.requests.push(request);
        state.replies.pop_front()
    };
    let (status, kind, body) = match reply {
        None => ("410 Gone", "application/json", json!({"error": {"message": "no reply is left"}}).to_string()),
        Some(reply) if streams => ("200 OK", "text/event-stream", events(&reply)),
        Some(reply) => ("200 OK", "application/json", reply.to_string()),
    };
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\nconnection: close\r\n");
    let reply = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    // Whoever asked may have gone; there is nobody to tell.
    if stream.write_all(reply.as_bytes()).await.is_ok() {
        stream.shutdown().await.ok();
    }
}

async fn read(stream: &mut TcpStream) -> Option<Value> {
    let mut bytes = Vec::new();
    let body_at = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if bytes.len() > REPLIES_HEAD_BYTES_MAX || stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = std::str::from_utf8(bytes.get(..body_at)?).ok()?;
    let length: usize = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })?;
    if length > REPLIES_BODY_BYTES_MAX {
        return None;
    }
    while bytes.len() < body_at.checked_add(length)? {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    crate::domain::json::parse_bytes(bytes.get(body_at..body_at.checked_add(length)?)?).ok()
}

/// A whole chat completion as the events that a provider would have streamed. What is no completion goes as it is.
fn events(reply: &Value) -> String {
    let event = |value: &Value| format!("data: {value}\n\n");
    let Some(message) = reply.pointer("/choices/0/message") else {
        return event(reply) + "data: [DONE]\n\n";
    };
    let chunk = |delta: Value, reason: Value| {
        let mut chunk = json!({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]});
        if let (Some(model), Some(fields)) = (reply.get("model"), chunk.as_object_mut()) {
            fields.insert("model".to_owned(), model.clone());
        }
        event(&chunk)
    };
    let mut delta = message.clone();
    let calls = delta.as_object_mut().and_then(|fields| fields.remove("tool_calls"));
    let mut events = chunk(delta, Value::Null);
    for (index, call) in calls.as_ref().and_then(Value::as_array).into_iter().flatten().enumerate() {
        let mut call = call.clone();
        if let Some(fields) = call.as_object_mut() {
            fields.insert("index".to_owned(), json!(index));
        }
        events += &chunk(json!({"tool_calls": [call]}), Value::Null);
    }
    let reason = reply.pointer("/choices/0/finish_reason").filter(|reason| !reason.is_null());
    events += &chunk(json!({}), reason.cloned().unwrap_or_else(|| json!("stop")));
    if let Some(usage) = reply.get("usage") {
        events += &event(&json!({"choices": [], "usage": usage}));
    }
    events + "data: [DONE]\n\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::model::{RawCall, Usage};

    #[tokio::test]
    async fn llm_6_a_chat_completion_becomes_an_answer() {
        let raw = json!({
            "choices": [{"message": {"content": "hello", "tool_calls": []}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5},
        });
        let answer = normalise("openai", raw).await.unwrap();
        assert_eq!(answer.content.as_deref(), Some("hello"));
        assert_eq!(answer.calls, Vec::new());
        assert_eq!(answer.usage, Usage { prompt_tokens: 10, completion_tokens: 5, cached_tokens: 0 });
    }

    #[tokio::test]
    async fn llm_6_calls_and_the_models_name_are_kept() {
        let call = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "echo", "arguments": arguments}});
        let raw = json!({
            "model": "m-2026",
            "choices": [{
                "message": {"content": null, "tool_calls": [call("a", "{\"n\": 1}"), call("b", "{n")]},
                "finish_reason": "tool_calls",
            }],
        });
        let answer = normalise("openai", raw).await.unwrap();
        let expected = |id: &str, arguments| RawCall { id: Some(id.to_owned()), gate: "echo".to_owned(), arguments };
        assert_eq!(answer.calls, [expected("a", Ok(json!({"n": 1}))), expected("b", Err("{n".to_owned()))]);
        assert_eq!((answer.content, answer.model.as_str()), (None, "m-2026"));
    }

    #[tokio::test]
    async fn replies_run_out_with_a_status() {
        let (provider, server) = provider_over_replies("openai", Vec::new()).await.unwrap();
        let question = Question {
            messages: vec![Arc::new(Message::User("?".to_owned()))],
            tools: Arc::default(),
            tool_choice: ToolChoice::Auto,
            sampling: Sampling::default(),
        };
        let error = provider.ask(&question, &Unheard).await.unwrap_err();
        assert!(matches!(error, ModelError::Status { status: 410, .. }), "{error:?}");
        assert_eq!(server.requests().len(), 1);
        assert!(provider_over_replies("anthropic", Vec::new()).await.is_err());
    }

    /// What a server of replies makes of a request, and how many requests it has kept.
    async fn answered(request: &[u8]) -> (usize, usize) {
        let server = ReplayServer::start(vec![json!({})]).await.unwrap();
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        // A server that has enough closes before all of it is sent.
        stream.write_all(request).await.ok();
        let mut answer = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await.ok();
        (answer.len(), server.requests().len())
    }

    #[tokio::test]
    async fn a_request_without_end_is_not_read() {
        let head = [b"POST / HTTP/1.1\r\n".to_vec(), b"x: y\r\n".repeat(12_000)].concat();
        assert_eq!(answered(&head).await, (0, 0));
        let announced = format!("POST / HTTP/1.1\r\ncontent-length: {}\r\n\r\n{{}}", REPLIES_BODY_BYTES_MAX + 1);
        assert_eq!(answered(announced.as_bytes()).await, (0, 0));
    }
}
