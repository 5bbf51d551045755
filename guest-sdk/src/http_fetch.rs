//! The gate `http_fetch`: requests to the hosts that the cantrip file allows. It is the only way out to a network.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Error, host};

/// A request.
///
/// ```
/// # use cantrip_guest::{http_fetch::{Request, Response}, testing::Gates, Error};
/// # use serde_json::json;
/// let ran = Gates::new()
///     .http(|request| Ok(Response { status: 200, body: r#"{"rate": 1.1}"#.into(), url: request.url().into(), ..Response::default() }))
///     .run(|| Request::get("https://rates.example/eur").send()?.json::<serde_json::Value>());
/// assert_eq!(ran.result.unwrap()["rate"], 1.1);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub(crate) url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<String>,
}

impl Request {
    /// A GET.
    pub fn get(url: impl Into<String>) -> Self {
        Self { url: url.into(), method: None, headers: BTreeMap::new(), body: None }
    }

    /// A POST with a body.
    pub fn post(url: impl Into<String>, body: impl Into<String>) -> Self {
        Self { method: Some("POST".to_owned()), body: Some(body.into()), ..Self::get(url) }
    }

    /// Another method.
    #[must_use]
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.method = Some(method.into());
        self
    }

    /// A header more.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// A body.
    #[must_use]
    pub fn body(mut self, body: impl Into<String>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Where it goes.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends it, and waits for the answer. A status such as 404 is an answer and no error.
    ///
    /// # Errors
    /// `Denied` for a host, method or address that the gate's policy does not allow, `Failed` where nobody answers.
    pub fn send(&self) -> Result<Response, Error> {
        host::fetch(self)
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Response {
    /// The status, such as 200.
    pub status: u16,
    /// The headers, their names in lower case.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body as text.
    pub body: String,
    /// The address that answered, after redirects.
    #[serde(default)]
    pub url: String,
    /// Whether the body was cut at the gate's bound.
    #[serde(default)]
    pub truncated: bool,
}

impl Response {
    /// Whether the status is one of success.
    pub const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    /// The body as a value.
    ///
    /// # Errors
    /// `Failed` for a status other than success, `Invalid` for a body that is no such JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        if !self.is_success() {
            return Err(Error::failed(format_args!("{} answered {}", self.url, self.status)));
        }
        Ok(serde_json::from_str(&self.body)?)
    }
}

/// The body of a GET.
///
/// # Errors
/// As [`Request::send`], and `Failed` for a status other than success.
pub fn get(url: &str) -> Result<String, Error> {
    let response = Request::get(url).send()?;
    if response.is_success() {
        Ok(response.body)
    } else {
        Err(Error::failed(format_args!("{url} answered {}", response.status)))
    }
}
