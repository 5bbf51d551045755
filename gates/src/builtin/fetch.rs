//! `http_fetch`: one request to the web, under a policy.
//!
//! Owns the request, the redirects (followed by hand, each hop judged like the first) and the bounded answer. It never
//! uses a proxy of the environment, a cookie, a credential in a URL, or an address that the policy does not open.

use std::error::Error as _;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Map, Value, json};
use url::{Host, Url};

use super::specs::named;
use crate::arguments::Arguments;
use crate::clock::now;
use crate::describe::{named as described_name, quoted};
use crate::error::GateError;
use crate::gate::{CallContext, Gate, GateFuture};
use crate::hosts::HostPatterns;
use crate::http::{AddressRefused, HttpPolicy, HttpPolicyError, JudgingResolver, PrivateAddresses};
use crate::limits::{
    ANSWER_HEADER_BYTES_MAX, ANSWER_HEADERS_MAX, FETCH_CONNECT_MS_MAX, HEADER_BYTES_MAX, HEADERS_MAX,
    REQUEST_BODY_BYTES_MAX, URL_BYTES_MAX,
};
use crate::spec::{Exposure, GateSpec, Reach};

/// 4 idle connections are kept for each host.
const IDLE_CONNECTIONS_KEPT: usize = 4;

/// Headers that belong to the connection or to a proxy, or that name another host, path or method: setting them would let
/// a request say one thing to us and another to a server. Servers read `_` like `-`, so both are meant.
const REFUSED_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-forwarded-host",
    "x-forwarded-method",
    "x-forwarded-server",
    "x-host",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-method",
    "x-method-override",
    "x-original-host",
    "x-original-method",
    "x-original-url",
    "x-rewrite-url",
];

/// Headers that are for one host only and do not follow a redirect to another.
const CREDENTIAL_HEADERS: &[&str] = &["authorization", "cookie"];

const GATE: &str = "http_fetch";

pub(super) fn spec() -> GateSpec {
    GateSpec {
        name: named(GATE),
        description: "Fetches `url` and returns {status, headers, body, truncated, url}: `url` is where redirects led, \
                      `truncated` says that the body or the headers were longer. Only hosts, methods and ports of its policy can be reached. A \
                      body that is not UTF-8 comes with replacement characters."
            .to_owned(),
        parameters: json!({
            "type": "object",
            "properties": {
                "url": {"type": "string", "description": "http or https"},
                "method": {"type": "string", "description": "default GET"},
                "headers": {"type": "object", "additionalProperties": {"type": "string"}},
                "body": {"type": "string"},
            },
            "required": ["url"],
            "additionalProperties": false,
        }),
        positional: vec!["url".to_owned()],
        reach: Reach::External,
        exposure: Exposure { private: false, untrusted: true, outbound: true },
        ephemeral: false,
    }
}

#[derive(Debug)]
pub(super) struct Fetch {
    spec: GateSpec,
    policy: HttpPolicy,
    methods: Vec<Method>,
    fixed: Vec<(HostPatterns, HeaderMap)>,
    private: Arc<PrivateAddresses>,
    /// Made at the first call: reading the system's certificates takes longer than the rest of a start.
    client: OnceLock<Client>,
}

/// One request as it stands after the redirects so far.
struct Hop {
    url: Url,
    method: Method,
    /// The entity's own; those of the policy are added where they are sent.
    headers: HeaderMap,
    body: Option<String>,
    /// A redirect has led to another host, port or scheme than the entity named.
    is_elsewhere: bool,
}

impl Fetch {
    pub(super) fn new(policy: HttpPolicy) -> Result<Self, HttpPolicyError> {
        if policy.hosts.is_empty() {
            return Err(HttpPolicyError::NoHosts);
        }
        if policy.methods.is_empty() {
            return Err(HttpPolicyError::NoMethods);
        }
        if policy.timeout.is_zero() {
            return Err(HttpPolicyError::NoTime);
        }
        let method = |text: &String| sendable_method(text).ok_or_else(|| HttpPolicyError::Method(text.clone()));
        let methods = policy.methods.iter().map(method).collect::<Result<_, _>>()?;
        let mut fixed = Vec::new();
        for (hosts, headers) in policy.headers.bound(&policy.hosts)? {
            let mut of = HeaderMap::new();
            for (name, value) in headers {
                let (key, mut value) = header(name, value).ok_or_else(|| HttpPolicyError::Header(name.clone()))?;
                value.set_sensitive(true);
                of.insert(key, value);
            }
            fixed.push((hosts, of));
        }
        let private = Arc::new(PrivateAddresses(policy.private_addresses.clone()));
        Ok(Self { spec: spec(), policy, methods, fixed, private, client: OnceLock::new() })
    }

    async fn fetch(&self, arguments: Value, context: &CallContext) -> Result<Value, GateError> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(GateError::Failed(format!("{GATE}: needs a tokio runtime, and none is running")));
        }
        let hop = self.first_hop(arguments)?;
        let hosts = context.allow_hosts.as_ref();
        let left = context.deadline.map(|deadline| deadline.saturating_duration_since(now()));
        let time = left.map_or(self.policy.timeout, |left| left.min(self.policy.timeout));
        let host = place(&hop.url);
        let answered = tokio::time::timeout(time, self.follow(hop, hosts, context.output_bytes_max)).await;
        answered.unwrap_or_else(|_| {
            Err(GateError::TimedOut(format!(
                "{GATE}: {host} did not answer completely within {} ms (`timeout_ms`, or the time that is left)",
                time.as_millis()
            )))
        })
    }

    fn first_hop(&self, arguments: Value) -> Result<Hop, GateError> {
        let mut arguments = Arguments::new(GATE, arguments)?;
        let text = arguments.text("url")?;
        let method = arguments.text_or_none("method")?.unwrap_or_else(|| "GET".to_owned());
        let headers = arguments.object_or_empty("headers")?;
        let body = arguments.text_or_none("body")?;
        let invalid = |name: &str, why: String| GateError::Invalid(format!("{GATE}: argument `{name}`: {why}"));
        if text.len() > URL_BYTES_MAX {
            return Err(invalid("url", format!("has {} bytes, at most {URL_BYTES_MAX} are allowed", text.len())));
        }
        let url =
            Url::parse(&text).map_err(|error| invalid("url", format!("{} is not a URL: {error}", quoted(&text))))?;
        if let Some(bytes) = body.as_ref().map(String::len).filter(|bytes| *bytes > REQUEST_BODY_BYTES_MAX) {
            return Err(GateError::Exhausted(format!(
                "{GATE}: argument `body`: has {bytes} bytes, at most {REQUEST_BODY_BYTES_MAX} are sent"
            )));
        }
        if headers.len() > HEADERS_MAX {
            return Err(invalid("headers", format!("at most {HEADERS_MAX} headers, {} came", headers.len())));
        }
        let upper = method.to_ascii_uppercase();
        let method =
            sendable_method(&upper).ok_or_else(|| invalid("method", format!("{} is not one", quoted(&method))))?;
        let mut sent = HeaderMap::new();
        for (name, value) in headers {
            let text = value
                .as_str()
                .ok_or_else(|| arguments.wrong(&format!("headers.{}", described_name(&name)), "string", &value))?;
            if text.len() > HEADER_BYTES_MAX {
                let bytes = text.len();
                let why = format!("{} has {bytes} bytes, at most {HEADER_BYTES_MAX} are sent", quoted(&name));
                return Err(invalid("headers", why));
            }
            let (key, value) = header(&name, text).ok_or_else(|| {
                invalid("headers", format!("{} cannot be set, or its value cannot be sent", quoted(&name)))
            })?;
            if self.fixed.iter().any(|(_, of)| of.contains_key(&key)) {
                return Err(GateError::Denied(format!("{GATE}: header `{key}` is set by the policy of this gate")));
            }
            sent.insert(key, value);
        }
        Ok(Hop { url, method, headers: sent, body, is_elsewhere: false })
    }

    async fn follow(
        &self,
        mut hop: Hop,
        hosts: Option<&HostPatterns>,
        output_bytes_max: u64,
    ) -> Result<Value, GateError> {
        let mut redirects = 0;
        loop {
            self.judge(&hop, hosts)?;
            let response = self.send(&hop).await?;
            let Some(next) = redirected(&response, &hop)? else {
                return self.answer(response, &hop.url, output_bytes_max).await;
            };
            if redirects >= self.policy.redirects_max {
                let max = self.policy.redirects_max;
                return Err(GateError::Exhausted(format!(
                    "{GATE}: more than {max} redirects (`redirects_max`), the last to {}",
                    place(&next.url)
                )));
            }
            redirects += 1;
            hop = without_credentials(next, &hop.url);
        }
    }

    /// Whether this hop may be made. The same for what the entity asked for and for what a server redirected to.
    fn judge(&self, hop: &Hop, hosts: Option<&HostPatterns>) -> Result<(), GateError> {
        let denied = |why: String| Err(GateError::Denied(format!("{GATE}: {why}")));
        let url = &hop.url;
        if !matches!(url.scheme(), "http" | "https") {
            return denied(format!("scheme `{}` is not allowed, only http and https", url.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return denied("a user or password in a URL is not allowed; use a header".to_owned());
        }
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return denied("the URL has no host".to_owned());
        };
        if !self.policy.hosts.matches(host, port) {
            return denied(format!("host `{host}:{port}` is not allowed; allowed are {}", self.policy.hosts));
        }
        if !self.policy.ports.contains(&port) && !self.policy.hosts.names_port(host, port) {
            let ports: Vec<_> = self.policy.ports.iter().map(ToString::to_string).collect();
            return denied(format!("port {port} of `{host}` is not allowed; allowed are {}", ports.join(", ")));
        }
        if let Some(hosts) = hosts.filter(|hosts| !hosts.matches(host, port)) {
            return denied(format!(
                "host `{host}:{port}` is not allowed by the ward `allow_hosts`; allowed are {hosts}"
            ));
        }
        if !self.methods.contains(&hop.method) {
            let methods = self.policy.methods.join(", ");
            return denied(format!("method {} is not allowed; allowed are {methods}", hop.method));
        }
        if url.scheme() == "http"
            && !is_loopback(url)
            && let Some(name) = self.fixed_for(hop).next().map(|(name, _)| name)
        {
            return denied(format!(
                "header `{name}` of this gate's policy is not sent to `{host}:{port}` over plain http; use https"
            ));
        }
        let address = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) | None => None,
        };
        // An address in the URL is never looked up, so it is judged here and not by the resolver.
        match address.and_then(|address| self.private.refusal("", address)) {
            Some(what) => denied(format!("host `{host}` is {what}, which this gate may not reach")),
            None => Ok(()),
        }
    }

    /// The headers of the policy that go with this request. None do once a redirect led elsewhere: a server must not
    /// choose for what another one's credentials are used.
    fn fixed_for(&self, hop: &Hop) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        let place = hop.url.host_str().zip(hop.url.port_or_known_default()).filter(|_| !hop.is_elsewhere);
        let of =
            self.fixed.iter().filter(move |(hosts, _)| place.is_some_and(|(host, port)| hosts.matches(host, port)));
        of.flat_map(|(_, headers)| headers)
    }

    async fn send(&self, hop: &Hop) -> Result<Response, GateError> {
        let mut headers = hop.headers.clone();
        for (name, value) in self.fixed_for(hop) {
            headers.insert(name.clone(), value.clone());
        }
        let mut request = self.client()?.request(hop.method.clone(), hop.url.clone()).headers(headers);
        if let Some(body) = &hop.body {
            request = request.body(body.clone());
        }
        request.send().await.map_err(|error| failed(&error, &hop.url))
    }

    fn client(&self) -> Result<&Client, GateError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        // Compression stays off, so that the bound on the body is a bound on what is received.
        let built = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .dns_resolver(JudgingResolver::new(Arc::clone(&self.private)))
            .retry(reqwest::retry::never())
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_millis(FETCH_CONNECT_MS_MAX))
            .pool_max_idle_per_host(IDLE_CONNECTIONS_KEPT)
            .user_agent(concat!("cantrip-runtime/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| GateError::Failed(format!("{GATE}: no connection can be made: {}", cause(&error))))?;
        Ok(self.client.get_or_init(|| built))
    }

    async fn answer(&self, mut response: Response, url: &Url, output_bytes_max: u64) -> Result<Value, GateError> {
        let status = response.status().as_u16();
        let (headers, header_bytes, mut truncated) = answer_headers(response.headers(), output_bytes_max);
        let bytes_max = self.policy.body_bytes_max.min(output_bytes_max.saturating_sub(header_bytes));
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let mut body = Vec::new();
        let mut is_cut = false;
        while let Some(chunk) = response.chunk().await.map_err(|error| failed(&error, url))? {
            let room = bytes_max - body.len();
            body.extend(chunk.iter().take(room));
            if chunk.len() > room {
                is_cut = true;
                break;
            }
        }
        truncated |= is_cut;
        let mut url = url.clone();
        url.set_fragment(None);
        Ok(json!({
            "status": status,
            "headers": headers,
            "body": text(body, is_cut),
            "truncated": truncated,
            "url": url.as_str(),
        }))
    }
}

/// The headers of an answer, as many as may be returned, what they take, and whether some were left out.
fn answer_headers(headers: &HeaderMap, output_bytes_max: u64) -> (Map<String, Value>, u64, bool) {
    let most = output_bytes_max.min(u64::try_from(ANSWER_HEADER_BYTES_MAX).unwrap_or(u64::MAX));
    let mut taken = Map::new();
    let mut bytes = 0_u64;
    for name in headers.keys() {
        let values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        let value = values.collect::<Vec<_>>().join(", ");
        let with = bytes.saturating_add(u64::try_from(name.as_str().len() + value.len()).unwrap_or(u64::MAX));
        if with > most || taken.len() >= ANSWER_HEADERS_MAX {
            return (taken, bytes, true);
        }
        bytes = with;
        taken.insert(name.to_string(), Value::String(value));
    }
    (taken, bytes, false)
}

/// What belongs to one host stays with it.
fn without_credentials(mut next: Hop, before: &Url) -> Hop {
    if next.url.origin() != before.origin() {
        next.is_elsewhere = true;
        for name in CREDENTIAL_HEADERS {
            next.headers.remove(*name);
        }
    }
    next
}

/// Whether a request stays on this machine.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn sendable_method(text: &str) -> Option<Method> {
    let is_method =
        !text.is_empty() && text.len() <= 16 && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    // CONNECT opens a tunnel, TRACE returns the request with its secrets.
    let is_refused = matches!(text, "CONNECT" | "TRACE");
    (is_method && !is_refused).then(|| Method::from_bytes(text.as_bytes()).ok()).flatten()
}

/// A header that may be set, by the policy or by the entity.
fn header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    let plain = name.as_str().replace('_', "-");
    let is_refused =
        REFUSED_HEADERS.contains(&plain.as_str()) || plain.starts_with("proxy-") || value.len() > HEADER_BYTES_MAX;
    (!is_refused).then(|| HeaderValue::from_str(value).ok().map(|value| (name, value))).flatten()
}

/// The next hop, if the response is a redirect. 301, 302 and 303 become a GET without a body, 307 and 308 keep both.
fn redirected(response: &Response, hop: &Hop) -> Result<Option<Hop>, GateError> {
    let keeps_method = match response.status() {
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => false,
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
        _ => return Ok(None),
    };
    let Some(location) = response.headers().get(LOCATION) else {
        return Ok(None);
    };
    let from = place(&hop.url);
    let target = location.to_str().ok().filter(|text| text.len() <= URL_BYTES_MAX);
    let Some(url) = target.and_then(|text| hop.url.join(text).ok()) else {
        return Err(GateError::Failed(format!("{GATE}: {from} redirected to something that is not a URL")));
    };
    if hop.url.scheme() == "https" && url.scheme() != "https" {
        return Err(GateError::Denied(format!(
            "{GATE}: {from} redirected from https to {}, which is not followed",
            url.scheme()
        )));
    }
    let mut next = Hop {
        url,
        method: hop.method.clone(),
        headers: hop.headers.clone(),
        body: hop.body.clone(),
        is_elsewhere: hop.is_elsewhere,
    };
    if !keeps_method {
        if next.method != Method::HEAD {
            next.method = Method::GET;
        }
        next.body = None;
        let about_body: Vec<_> =
            next.headers.keys().filter(|name| name.as_str().starts_with("content-")).cloned().collect();
        for name in about_body {
            next.headers.remove(name);
        }
    }
    Ok(Some(next))
}

/// The body as text; a character that the bound cut in two is left out.
fn text(mut body: Vec<u8>, truncated: bool) -> String {
    if truncated
        && let Err(error) = std::str::from_utf8(&body)
        && error.error_len().is_none()
    {
        body.truncate(error.valid_up_to());
    }
    String::from_utf8(body).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn failed(error: &reqwest::Error, url: &Url) -> GateError {
    let mut source = error.source();
    while let Some(current) = source {
        if let Some(refused) = current.downcast_ref::<AddressRefused>() {
            return GateError::Denied(format!("{GATE}: host {refused}, which this gate may not reach"));
        }
        source = current.source();
    }
    let place = place(url);
    if error.is_timeout() && error.is_connect() {
        return GateError::TimedOut(format!(
            "{GATE}: {place} cannot be reached: no connection within {FETCH_CONNECT_MS_MAX} ms"
        ));
    }
    if error.is_timeout() {
        return GateError::TimedOut(format!("{GATE}: {place} did not answer in time"));
    }
    let what = if error.is_connect() { "cannot be reached" } else { "broke off" };
    GateError::Failed(format!("{GATE}: {place} {what}: {}", cause(error)))
}

/// The innermost reason. What is above it repeats the URL and says "error sending request".
fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn place(url: &Url) -> String {
    match (url.host_str(), url.port_or_known_default()) {
        (Some(host), Some(port)) => format!("`{host}:{port}`"),
        (Some(host), None) => format!("`{host}`"),
        (None, _) => "the URL".to_owned(),
    }
}

impl Gate for Fetch {
    fn spec(&self) -> &GateSpec {
        &self.spec
    }

    fn call<'a>(&'a self, arguments: Value, context: &'a CallContext) -> GateFuture<'a> {
        Box::pin(self.fetch(arguments, context))
    }
}
