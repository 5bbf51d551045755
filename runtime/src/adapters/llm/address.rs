//! Base addresses, as people write them: with and without a slash, a version or a scheme.
//!
//! Owns what genai appends its paths to. An address that carries a user or password is refused: it would end up in
//! errors and in the record.

use std::net::IpAddr;

use reqwest::Url;

use super::catalogue::{Entry, Wire};

/// The port that Ollama listens on unless told otherwise.
const OLLAMA_PORT: u16 = 11434;

/// The address that a provider's paths are appended to; it ends in a slash (before a query, where there is one).
///
/// # Errors
/// What is wrong with the address.
pub(super) fn parse(entry: &Entry, text: &str) -> Result<Url, String> {
    let text = text.trim();
    let mut url = if entry.wire == Wire::Ollama { parse_ollama(text)? } else { parse_http(text)? };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "an address must not carry a user or a password; name the variable with the key in `key_env`".to_owned()
        );
    }
    url.set_fragment(None);
    if url.query().is_some() && !matches!(entry.wire, Wire::OpenAi | Wire::Responses) {
        return Err(format!("the address of `{}` takes no query", entry.name));
    }
    let path = path(entry, url.path());
    url.set_path(&path);
    Ok(url)
}

/// Scheme, host and port: what a person is told was not reached.
pub(super) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// An address of no known provider in its normal form; nothing where it is none that could be asked.
pub(super) fn parse_any(text: &str) -> Option<Url> {
    let url = parse_http(text.trim()).ok()?;
    (url.username().is_empty() && url.password().is_none()).then_some(url)
}

/// Whether an address is this machine's own: 127.0.0.0/8, `::1`, or `localhost` to the letter. Nothing is looked up.
pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().map_or(host == "localhost", |address| address.is_loopback())
}

fn parse_http(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("`{text}` is no address: {error}"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        _ => Err(format!("`{text}` must begin with http:// or https://")),
    }
}

/// `OLLAMA_HOST` is often what the server binds to: a port alone, or every address of the machine.
fn parse_ollama(text: &str) -> Result<Url, String> {
    let full = match text {
        _ if text.contains("://") => text.to_owned(),
        _ if text.starts_with(':') => format!("http://127.0.0.1{text}"),
        _ => format!("http://{text}"),
    };
    let mut url = parse_http(&full)?;
    let broken = || format!("`{text}` is no address");
    if !text.contains("://") && url.port().is_none() {
        url.set_port(Some(OLLAMA_PORT)).map_err(|()| broken())?;
    }
    if matches!(url.host_str(), Some("0.0.0.0" | "[::]")) {
        url.set_host(Some("127.0.0.1")).map_err(|_| broken())?;
    }
    Ok(url)
}

fn path(entry: &Entry, path: &str) -> String {
    let mut path = path.trim_end_matches('/');
    let pasted = match entry.wire {
        Wire::OpenAi => "/chat/completions",
        Wire::Responses => "/responses",
        Wire::Anthropic => "/messages",
        Wire::Gemini => "/models",
        Wire::Ollama => "/api/chat",
    };
    path = path.strip_suffix(pasted).unwrap_or(path);
    if entry.wire == Wire::Ollama {
        let path = ["/v1", "/api"].iter().find_map(|suffix| path.strip_suffix(suffix)).unwrap_or(path);
        return format!("{path}/");
    }
    if path.is_empty() {
        let usual = Url::parse(entry.base_url).map(|url| url.path().to_owned());
        return usual.unwrap_or_else(|_| "/v1/".to_owned());
    }
    let version = match entry.wire {
        Wire::Anthropic => "/v1",
        Wire::Gemini => "/v1beta",
        Wire::OpenAi | Wire::Responses | Wire::Ollama => "",
    };
    if ends_in_version(path) { format!("{path}/") } else { format!("{path}{version}/") }
}

fn ends_in_version(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    last.strip_prefix('v').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::{ENTRIES, find};
    use super::*;

    fn check(provider: &str, text: &str, expected: &str) {
        let entry = find(provider).unwrap();
        assert_eq!(parse(entry, text).map(|url| url.to_string()), Ok(expected.to_owned()), "{provider} {text}");
    }

    #[test]
    fn every_usual_address_is_already_in_shape() {
        for entry in ENTRIES.iter().filter(|entry| !entry.base_url.is_empty()) {
            check(entry.name, entry.base_url, entry.base_url);
        }
    }

    #[test]
    fn slash_and_version_may_be_there_or_not() {
        for text in ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/", "http://h:1/v1/chat/completions"] {
            check("openai_compatible", text, "http://h:1/v1/");
            check("openai", text, "http://h:1/v1/");
        }
        for text in ["https://h", "https://h/", "https://h/v1", "https://h/v1/messages"] {
            check("anthropic", text, "https://h/v1/");
        }
        for text in ["https://h", "https://h/v1beta/", "https://h/v1beta/models"] {
            check("gemini", text, "https://h/v1beta/");
        }
    }

    #[test]
    fn a_path_in_front_of_the_version_is_kept() {
        check("openai", "https://gate/openai", "https://gate/openai/");
        check("openai", "https://gate/x?api-version=1", "https://gate/x/?api-version=1");
        check("anthropic", "https://gate/anthropic", "https://gate/anthropic/v1/");
        check("gemini", "https://gate/google/v1", "https://gate/google/v1/");
        check("groq", "https://gate", "https://gate/openai/v1/");
    }

    #[test]
    fn ollama_is_found_as_its_own_variable_says() {
        check("ollama", "box", "http://box:11434/");
        check("ollama", ":8000", "http://127.0.0.1:8000/");
        check("ollama", "0.0.0.0", "http://127.0.0.1:11434/");
        check("ollama", "0.0.0.0:99", "http://127.0.0.1:99/");
        check("ollama", "http://box/v1", "http://box/");
        check("ollama", "https://box:1/api/", "https://box:1/");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "localhost:8080", "ftp://h/", "http://", "https://me:secret@h/v1"] {
            let message = parse(find("openai").unwrap(), text).unwrap_err();
            assert!(!message.contains("secret@"), "{message}");
        }
        assert!(parse(find("anthropic").unwrap(), "https://h/?a=b").is_err());
    }
}
