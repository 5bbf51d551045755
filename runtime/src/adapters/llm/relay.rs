//! The bound under the client: what a provider sends is counted before genai sees any of it.
//!
//! genai reads the body of a refusal whole, joins pieces of a line again and again, and takes a client whose connections cannot be
//! wrapped. So each question goes through a door of its own on this machine, for as long as it is asked: genai speaks to the door,
//! and the door to the provider, with the client that has TLS and the connections. A body has a bound for every status, and events
//! are handed on whole, after [`Framing`] has counted what is in them. The door has a path that nobody can guess, and is told by its own words what went
//! wrong beyond it: to genai that is only a connection that ended.

use std::convert::Infallible;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use reqwest::{Response, StatusCode, Url};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::catalogue::Wire;
use super::framing::Framing;
use crate::domain::limits::{
    PROVIDER_BODY_BYTES_MAX, PROVIDER_REFUSAL_BYTES_MAX, PROVIDER_REFUSAL_MS_MAX, QUESTION_BYTES_MAX,
    QUESTION_HEAD_BYTES_MAX,
};

/// 16. The door is for one question; who else knocks is not let in, and not many of them wait.
const KNOCKS_HEARD: usize = 16;
/// Headers that are about one connection, and not about what is in it.
const HOP_HEADERS: [&str; 7] =
    ["connection", "content-length", "host", "keep-alive", "trailer", "transfer-encoding", "upgrade"];

/// What went wrong beyond the door.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The way to the provider.
    Transport(reqwest::Error),
    /// More was sent than is taken.
    TooLarge(String),
}

/// The door of one question.
#[derive(Debug)]
pub(super) struct Relay {
    listener: TcpListener,
    /// What the path begins with.
    secret: String,
    local: Url,
    /// Scheme, host and port of the provider.
    origin: String,
    wire: Wire,
    trouble: Mutex<Option<Trouble>>,
}

impl Relay {
    /// Opens a door to a provider.
    ///
    /// # Errors
    /// No port, or no random numbers, on this machine.
    pub(super) async fn open(base: &Url, origin: &str, wire: Wire) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let secret = format!("/{:032x}", u128::from_be_bytes(random));
        let query = base.query().map(|query| format!("?{query}")).unwrap_or_default();
        let local = format!("http://{}{secret}{}{query}", listener.local_addr()?, base.path());
        let local = Url::parse(&local).map_err(io::Error::other)?;
        Ok(Self { listener, secret, local, origin: origin.to_owned(), wire, trouble: Mutex::new(None) })
    }

    /// Where genai asks.
    pub(super) const fn base(&self) -> &Url {
        &self.local
    }

    /// What went wrong beyond the door, if something did.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note(&self, trouble: Trouble) {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(trouble);
    }

    /// Hands questions on until it is dropped.
    pub(super) async fn serve(&self, http: &reqwest::Client) -> Infallible {
        let mut open = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if open.len() < KNOCKS_HEARD => {
                    if let Ok((stream, _)) = accepted {
                        open.push(self.pass(stream, http));
                    }
                }
                Some(_) = open.next(), if !open.is_empty() => {}
            }
        }
    }

    /// One question and its answer. What ends it is either noted, or that genai does not listen any more.
    async fn pass(&self, mut stream: TcpStream, http: &reqwest::Client) -> Option<()> {
        let request = self.request(&mut stream, http).await?;
        match request.send().await {
            Ok(response) => self.answer(&mut stream, response).await?,
            Err(error) => self.note(Trouble::Transport(error)),
        }
        stream.shutdown().await.ok()
    }

    /// Reads the question that genai asks, which is the same for the provider.
    async fn request(&self, stream: &mut TcpStream, http: &reqwest::Client) -> Option<reqwest::RequestBuilder> {
        let mut bytes = Vec::new();
        let body_at = loop {
            let looked_at = bytes.len().saturating_sub(3);
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
            if let Some(end) = bytes.get(looked_at..)?.windows(4).position(|window| window == b"\r\n\r\n") {
                break looked_at + end + 4;
            }
            if bytes.len() > QUESTION_HEAD_BYTES_MAX {
                return None;
            }
        };
        let mut body = bytes.split_off(body_at);
        let head = String::from_utf8(bytes).ok()?;
        let mut lines = head.split("\r\n");
        let path = lines.next()?.strip_prefix("POST ")?.strip_suffix(" HTTP/1.1")?.strip_prefix(&self.secret)?;
        let mut request = http.post(format!("{}{path}", self.origin));
        let mut length = 0;
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse().ok().filter(|length| *length <= QUESTION_BYTES_MAX)?;
            }
            if !is_hop(name) {
                request = request.header(name, value);
            }
        }
        while body.len() < length {
            if stream.read_buf(&mut body).await.ok()? == 0 {
                return None;
            }
        }
        Some(request.body(body))
    }

    async fn answer(&self, stream: &mut TcpStream, mut response: Response) -> Option<()> {
        let status = response.status();
        stream.write_all(&head(status, &response)).await.ok()?;
        if status.is_success() {
            return self.events(stream, &mut response).await;
        }
        let refusal =
            tokio::time::timeout(Duration::from_millis(PROVIDER_REFUSAL_MS_MAX), self.refusal(stream, &mut response))
                .await;
        // What came in time is handed on.
        refusal.unwrap_or(Some(()))
    }

    /// The beginning of what a refusal says.
    async fn refusal(&self, stream: &mut TcpStream, response: &mut Response) -> Option<()> {
        let mut left = PROVIDER_REFUSAL_BYTES_MAX;
        while left > 0 {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    let kept = chunk.get(..left.min(chunk.len())).unwrap_or_default();
                    left -= kept.len();
                    stream.write_all(kept).await.ok()?;
                }
                // Where the rest does not come, the status says enough.
                Ok(None) | Err(_) => return Some(()),
            }
        }
        Some(())
    }

    /// A stream of events, each handed on when it is whole and counted.
    async fn events(&self, stream: &mut TcpStream, response: &mut Response) -> Option<()> {
        let mut left = PROVIDER_BODY_BYTES_MAX;
        let (mut framing, mut out) = (Framing::new(self.wire), Vec::new());
        loop {
            let chunk = response.chunk().await;
            out.clear();
            let framed = match &chunk {
                Ok(Some(chunk)) => match left.checked_sub(chunk.len()) {
                    Some(rest) => {
                        left = rest;
                        framing.take(chunk, &mut out)
                    }
                    None => Err(format!("it is longer than {PROVIDER_BODY_BYTES_MAX} bytes on the wire")),
                },
                Ok(None) | Err(_) => framing.end(&mut out),
            };
            if let Err(what) = framed {
                self.note(Trouble::TooLarge(what));
                return Some(());
            }
            stream.write_all(&out).await.ok()?;
            match chunk {
                Ok(Some(_)) => {}
                Ok(None) => return Some(()),
                Err(error) => {
                    self.note(Trouble::Transport(error));
                    return Some(());
                }
            }
        }
    }
}

fn is_hop(name: &str) -> bool {
    HOP_HEADERS.iter().any(|hop| name.eq_ignore_ascii_case(hop))
}

/// The head of an answer, for one connection that ends with it.
fn head(status: StatusCode, response: &Response) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} -\r\nconnection: close\r\n", status.as_u16()).into_bytes();
    for (name, value) in response.headers().iter().filter(|(name, _)| !is_hop(name.as_str())) {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many bytes somebody gets who says this at the door.
    async fn answered(said: &[u8]) -> usize {
        let base = Url::parse("http://127.0.0.1:1/v1").unwrap();
        let relay = Relay::open(&base, "http://127.0.0.1:1", Wire::OpenAi).await.unwrap();
        let port = relay.base().port().unwrap();
        let http = reqwest::Client::new();
        let asking = async {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let said = String::from_utf8_lossy(said).replace("SECRET", &relay.secret);
            // A door that has heard enough closes before all of it is sent.
            stream.write_all(said.as_bytes()).await.ok();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.ok();
            answer.len()
        };
        tokio::select! {
            _ = relay.serve(&http) => unreachable!("it serves for ever"),
            bytes = asking => bytes,
        }
    }

    #[tokio::test]
    async fn what_is_asked_is_bounded() {
        let head = [b"POST SECRET/x HTTP/1.1\r\n".to_vec(), b"x: y\r\n".repeat(12_000)].concat();
        assert_eq!(answered(&head).await, 0);
        let announced = format!("POST SECRET/x HTTP/1.1\r\ncontent-length: {}\r\n\r\n{{}}", QUESTION_BYTES_MAX + 1);
        assert_eq!(answered(announced.as_bytes()).await, 0);
    }
}
