//! What went wrong at a provider, in our words.
//!
//! Owns the way from genai's errors and a provider's refusals to [`ModelError`]. No key leaves through here: the key in
//! use is taken out of every text, whatever else looks like a secret too, and texts are cut.

use std::error::Error as StdError;
use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::Value;

use super::secret::Secret;
use crate::domain::json;
use crate::domain::limits::FAILURE_CHARS_MAX;
use crate::domain::model::ModelError;

/// Keys shorter than this are not searched for in texts: they would be words.
const KEY_CHARS_MIN: usize = 6;

/// What providers say of a conversation that does not fit.
const TOO_LONG: &[&str] = &[
    "context_length_exceeded",
    "exceed_context_size",
    "model_context_window_exceeded",
    "prompt is too long",
    "prompt too long",
    "input is too long",
    "maximum context length",
    "exceeds the context window",
    "exceeds the available context size",
    "exceeds the maximum number of tokens",
    "exceed context limit",
    "input token count",
    "reduce the length of the messages",
    "larger than the context size",
    "greater than the context length",
    "request_too_large",
];

/// Where the provider is, and the key that must not be seen.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// Scheme, host and port.
    pub(super) address: &'a str,
    /// The key in use.
    pub(super) key: Option<&'a Secret>,
}

impl Place<'_> {
    /// There was no answer, or only the beginning of one.
    pub(super) fn unreachable(&self, message: &str) -> ModelError {
        ModelError::Unreachable { address: self.address.to_owned(), message: self.clean(message) }
    }

    /// The answer cannot be read.
    pub(super) fn malformed(&self, message: &str) -> ModelError {
        ModelError::Malformed { message: self.clean(message) }
    }

    /// The provider refused.
    pub(super) fn status(&self, status: u16, message: &str, retry_after: Option<Duration>) -> ModelError {
        refusal(status, self.clean(message), retry_after)
    }

    /// genai's error.
    pub(super) fn failure(&self, error: &genai::Error) -> ModelError {
        use genai::Error;
        if let Error::HttpError { status, body, headers, .. } = error {
            return self.refused(status.as_u16(), body, headers);
        }
        if let Error::WebStream { error, .. } = error {
            return self.broken(error.as_ref());
        }
        if let Error::WebModelCall { webc_error, .. } | Error::WebAdapterCall { webc_error, .. } = error {
            return match webc_error {
                genai::webc::Error::ResponseFailedStatus { status, body, headers } => {
                    self.refused(status.as_u16(), body, headers)
                }
                genai::webc::Error::Reqwest(error) => self.transport(error),
                genai::webc::Error::ResponseFailedNotJson { .. }
                | genai::webc::Error::ResponseFailedInvalidJson { .. }
                | genai::webc::Error::JsonValueExt(_) => self.malformed(&webc_error.to_string()),
            };
        }
        if let Error::ChatResponse { body, .. } = error {
            return self.in_stream(body);
        }
        if let Error::StreamParse { serde_error, .. } = error {
            return self.malformed(&format!("a piece of it is not what this provider sends: {serde_error}"));
        }
        self.malformed(&error.to_string())
    }

    fn refused(&self, status: u16, body: &str, headers: &HeaderMap) -> ModelError {
        let json = json::parse(body).ok();
        let retry_after = retry_after(headers).or_else(|| json.as_ref().and_then(retry_info));
        let mut said = json.as_ref().and_then(message).unwrap_or_else(|| body.to_owned());
        if let Some(target) = headers.get("location").and_then(|value| value.to_str().ok()) {
            said = format!("it points to {target}; set base_url to the address that answers itself. {said}");
        }
        // The code often says more than the message, and only the code is the same for every model.
        if let Some(code) = json.as_ref().and_then(code).filter(|code| !said.contains(code)) {
            said = if said.is_empty() { code.to_owned() } else { format!("{said} ({code})") };
        }
        self.status(status, &said, retry_after)
    }

    fn broken(&self, error: &(dyn StdError + Send + Sync + 'static)) -> ModelError {
        if let Some(inner) = error.downcast_ref::<genai::Error>() {
            return self.failure(inner);
        }
        if let Some(error) = error.downcast_ref::<reqwest::Error>() {
            return self.transport(error);
        }
        if error.is::<std::string::FromUtf8Error>() || error.is::<std::str::Utf8Error>() {
            return self.malformed("it is not UTF-8");
        }
        self.unreachable(&chain(error))
    }

    /// The way to the provider.
    pub(super) fn transport(&self, error: &reqwest::Error) -> ModelError {
        if error.is_builder() {
            return ModelError::Setup {
                message: self.clean(&format!("the request cannot be made: {}", causes(error))),
            };
        }
        self.unreachable(&causes(error))
    }

    /// An error that comes inside of a stream that began with 200.
    fn in_stream(&self, body: &Value) -> ModelError {
        let said = message(body).unwrap_or_else(|| body.to_string());
        let numbered = ["/error/code", "/code", "/error/status_code"]
            .iter()
            .filter_map(|place| body.pointer(place))
            .find_map(|code| code.as_u64().or_else(|| code.as_str()?.parse().ok()))
            .and_then(|code| u16::try_from(code).ok())
            .filter(|code| (400..600).contains(code));
        let code = code(body).unwrap_or_default();
        let status = numbered.unwrap_or(match code {
            "invalid_request_error" | "context_length_exceeded" => 400,
            "authentication_error" => 401,
            "permission_error" => 403,
            "not_found_error" => 404,
            "request_too_large" => 413,
            "rate_limit_error" | "rate_limit_exceeded" => 429,
            "timeout_error" => 504,
            "overloaded_error" => 529,
            _ => 500,
        });
        let said = if code.is_empty() || said.contains(code) { said } else { format!("{said} ({code})") };
        self.status(status, &said, retry_info(body))
    }

    /// One line, without secrets, cut.
    fn clean(&self, text: &str) -> String {
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let line = match self.key.map(Secret::expose) {
            Some(key) if key.len() >= KEY_CHARS_MIN => line.replace(key, "***"),
            Some(_) | None => line,
        };
        let line = cantrip_gates::redact_start(&line, FAILURE_CHARS_MAX * 4 + 4).0;
        match line.char_indices().nth(FAILURE_CHARS_MAX) {
            Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
            None => line.into_owned(),
        }
    }
}

/// A refusal with its status; one for length is told apart (LLM-2), since folding helps there and waiting does not.
pub(super) fn refusal(status: u16, message: String, retry_after: Option<Duration>) -> ModelError {
    let lower = message.to_lowercase();
    let about_the_question = !matches!(status, 401 | 403 | 404 | 429);
    if about_the_question && TOO_LONG.iter().any(|words| lower.contains(words)) {
        return ModelError::TooLong { message };
    }
    ModelError::Status { status, message, retry_after }
}

fn message(body: &Value) -> Option<String> {
    let body = body.get(0).unwrap_or(body);
    let places = ["/error/message", "/message", "/error", "/detail", "/response/error/message"];
    places.iter().find_map(|place| match body.pointer(place) {
        Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        Some(other @ Value::Array(_)) => Some(other.to_string()),
        _ => None,
    })
}

fn code(body: &Value) -> Option<&str> {
    let body = body.get(0).unwrap_or(body);
    let places = ["/error/code", "/code", "/error/type", "/error/status", "/type"];
    places.iter().find_map(|place| body.pointer(place).and_then(Value::as_str).filter(|code| *code != "error"))
}

/// When the provider may be asked again: milliseconds, seconds, or a date that is compared with the answer's own.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(wait) = text("retry-after-ms").and_then(|text| text.parse::<f64>().ok()) {
        return Duration::try_from_secs_f64(wait / 1000.0).ok();
    }
    let after = text("retry-after")?;
    if let Ok(seconds) = after.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let now = http_date(text("date")?)?;
    Some(Duration::from_secs(http_date(after)?.saturating_sub(now)))
}

/// Gemini's `{"error": {"details": [{"@type": "…RetryInfo", "retryDelay": "34s"}]}}`.
fn retry_info(body: &Value) -> Option<Duration> {
    let body = body.get(0).unwrap_or(body);
    let delay =
        body.pointer("/error/details")?.as_array()?.iter().find_map(|detail| detail.get("retryDelay")?.as_str())?;
    Duration::try_from_secs_f64(delay.strip_suffix('s')?.parse().ok()?).ok()
}

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT`, the one form that HTTP allows to be sent.
fn http_date(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once(", ")?;
    let mut words = rest.strip_suffix(" GMT")?.split([' ', ':']);
    let day: u64 = words.next()?.parse().ok()?;
    let name = words.next()?;
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = u64::try_from(months.iter().position(|month| *month == name)?).ok()? + 1;
    let year: u64 = words.next()?.parse().ok().filter(|year| (1970..10_000).contains(year))?;
    let mut clock = [0_u64; 3];
    for part in &mut clock {
        *part = words.next()?.parse().ok().filter(|part| *part < 61)?;
    }
    if !(1..=31).contains(&day) || words.next().is_some() {
        return None;
    }
    // Days from civil date, counted in years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    let [hour, minute, second] = clock;
    days.checked_sub(719_468)?.checked_mul(86_400)?.checked_add(hour * 3600 + minute * 60 + second)
}

/// The causes under reqwest's own sentence, which repeats the address.
fn causes(error: &reqwest::Error) -> String {
    match error.source() {
        Some(source) => chain(source),
        None => error.to_string(),
    }
}

fn chain(error: &dyn StdError) -> String {
    let mut texts: Vec<String> = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        // Many errors print their cause themselves.
        if !texts.iter().any(|earlier| earlier.contains(&text)) {
            texts.push(text);
        }
        next = cause.source();
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn prod_2_the_wait_that_a_provider_asks_for_is_read() {
        let seconds = |text: &[_]| retry_after(&headers(text)).map(|wait| wait.as_secs_f64());
        assert_eq!(seconds(&[("retry-after", "7")]), Some(7.0));
        assert_eq!(seconds(&[("retry-after", "9"), ("retry-after-ms", "250")]), Some(0.25));
        assert_eq!(seconds(&[("retry-after", "-1")]), None);
        assert_eq!(seconds(&[("retry-after", "soon")]), None);
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(seconds(&[date, ("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")]), Some(30.0));
        assert_eq!(seconds(&[date, ("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")]), Some(0.0));
        let gemini = serde_json::json!({"error": {"details": [{"a": 1}, {"retryDelay": "34.5s"}]}});
        assert_eq!(retry_info(&gemini), Some(Duration::from_millis(34_500)));
    }

    #[test]
    fn a_date_is_counted_from_1970() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Thu, 29 Feb 2024 12:00:00 GMT"), Some(1_709_208_000));
        for text in ["", "Sun, 06 Nov", "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(http_date(text), None, "{text}");
        }
    }

    #[test]
    fn llm_2_a_conversation_that_is_too_long_is_told_apart() {
        for said in [
            "This model's maximum context length is 8192 tokens",
            "prompt is too long: 213462 tokens > 200000 maximum",
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
            "the request exceeds the available context size, try increasing it",
        ] {
            assert!(matches!(refusal(400, said.to_owned(), None), ModelError::TooLong { .. }), "{said}");
        }
        let busy = refusal(429, "maximum context length per minute".to_owned(), None);
        assert!(matches!(busy, ModelError::Status { status: 429, .. }));
    }

    #[test]
    fn no_key_and_no_page_of_text_gets_out() {
        let key = Secret::new("key-of-mine".to_owned());
        let place = Place { address: "http://h", key: Some(&key) };
        let said = format!("bad\n key key-of-mine {}", "x".repeat(2_000));
        let cleaned = place.clean(&said);
        assert!(
            cleaned.starts_with("bad key *** xxx") && cleaned.chars().count() <= FAILURE_CHARS_MAX + 1,
            "{cleaned}"
        );
        assert!(!format!("{place:?}").contains("key-of-mine"));
    }

    #[test]
    fn an_error_inside_of_a_stream_has_a_status() {
        let place = Place { address: "http://h", key: None };
        let check = |body: Value, expected: u16| {
            let found = place.in_stream(&body);
            assert!(matches!(&found, ModelError::Status { status, .. } if *status == expected), "{body} {found:?}");
        };
        check(serde_json::json!({"type": "error", "error": {"type": "overloaded_error", "message": "m"}}), 529);
        check(serde_json::json!({"error": {"code": 503, "message": "m", "status": "UNAVAILABLE"}}), 503);
        check(serde_json::json!({"message": "m", "type": "server_error", "code": null}), 500);
        check(serde_json::json!({"message": "m", "code": "rate_limit_exceeded"}), 429);
    }
}
