//! A model that answers over HTTP, through genai.
//!
//! Owns one HTTP client and the settings of one model. It asks once and streams; it never retries, follows no redirect
//! (a key must not travel to an address that nobody configured) and uses no proxy of the environment. Rules: LLM-1,
//! LLM-2, LLM-5, LLM-6, LLM-7.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use genai::resolver::{AuthData, Endpoint};
use genai::{Client, Headers, ModelIden, ServiceTarget};
use reqwest::Url;

use super::answer::{Assembly, Frames};
use super::catalogue::{self, Entry, Wire};
use super::failure::Place;
use super::relay::{Relay, Trouble};
use super::secret::Secret;
use super::{address, convert};
use crate::domain::limits::{MODEL_CONNECT_MS_MAX, MODEL_IDLE_MS_DEFAULT};
use crate::domain::model::{ModelError, Question, RawAnswer};
use crate::ports::{BoxFuture, Llm, Pieces};

/// Reads a variable of the environment; passed in, so that there is one place that reads it.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The settings of a model that answers over HTTP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProviderConfig {
    /// The provider's name: `openai`, `anthropic`, `gemini`, `ollama`, `openai_compatible` and others.
    pub provider: String,
    /// The model's name, as the provider has it.
    pub model: String,
    /// Where it is, if not at its usual address.
    pub base_url: Option<String>,
    /// The variable that holds the key, if not the provider's usual one.
    pub key_env: Option<String>,
    /// The length of the model's context.
    pub context_tokens: Option<u64>,
    /// How long nothing may come; absent: [`MODEL_IDLE_MS_DEFAULT`].
    pub timeout: Option<Duration>,
}

/// A model that answers over HTTP.
pub struct Provider {
    name: String,
    entry: &'static Entry,
    model: String,
    base: Url,
    address: String,
    key: Option<Secret>,
    key_variable: Option<String>,
    context_tokens: Option<u64>,
    idle: Duration,
    /// Speaks to the provider.
    http: reqwest::Client,
    /// genai, which speaks to the door in front of it.
    client: Client,
}

impl fmt::Debug for Provider {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Provider")
            .field("name", &self.name)
            .field("base", &self.base.as_str())
            .field("key", &self.key)
            .field("key_variable", &self.key_variable)
            .field("context_tokens", &self.context_tokens)
            .field("idle", &self.idle)
            .finish_non_exhaustive()
    }
}

impl Provider {
    /// Makes it, without asking anybody anything.
    ///
    /// # Errors
    /// An unknown provider, a missing model or key, an address that is none: what is wrong and what is allowed.
    pub fn from_config(config: &ProviderConfig, env: Environment<'_>) -> Result<Self, ModelError> {
        let setup = |message: String| ModelError::Setup { message };
        let entry = catalogue::find(&config.provider)?;
        let model = config.model.trim().to_owned();
        if model.is_empty() {
            return Err(setup(format!("`model` is missing: which of {}'s models?", entry.name)));
        }
        let base = base(entry, config.base_url.as_deref(), env)?;
        if base.scheme() != "https" && !address::is_loopback(&base) && reads_key(entry, config.key_env.as_deref(), env)
        {
            // Everybody between here and there could read it.
            let message = format!(
                "no key is sent over plain http to {}: use https, or leave the key out (`provider = \"openai_compatible\"` \
                 without `key_env`)",
                address::origin(&base)
            );
            return Err(setup(message));
        }
        let (key_variable, key) = key(entry, config.key_env.as_deref(), env)?;
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_millis(MODEL_CONNECT_MS_MAX))
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .build()
            .map_err(|error| setup(format!("no HTTP client can be made: {error}")))?;
        let local = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .tcp_nodelay(true)
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| setup(format!("no HTTP client can be made: {error}")))?;
        let client = Client::builder().with_reqwest(local).build();
        let client = client.map_err(|error| setup(format!("no HTTP client can be made: {error}")))?;
        Ok(Self {
            name: format!("{}/{model}", entry.name),
            entry,
            address: address::origin(&base),
            model,
            base,
            key,
            key_variable,
            context_tokens: config.context_tokens,
            idle: config.timeout.unwrap_or(Duration::from_millis(MODEL_IDLE_MS_DEFAULT)),
            http,
            client,
        })
    }

    /// Where questions go: scheme, host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The variable that the key was read from.
    pub fn key_variable(&self) -> Option<&str> {
        self.key_variable.as_deref()
    }

    fn target(&self, base: &Url) -> ServiceTarget {
        // A name with `::` would be taken for genai's namespace.
        let model = if self.model.contains("::") { format!("model::{}", self.model) } else { self.model.clone() };
        let auth = match &self.key {
            Some(key) => AuthData::from_single(key.expose()),
            None if matches!(self.entry.wire, Wire::OpenAi) => {
                // genai would send an empty bearer.
                let url = base.join("chat/completions").map(|mut url| {
                    url.set_query(base.query());
                    url.to_string()
                });
                AuthData::RequestOverride { url: url.unwrap_or_default(), headers: Headers::default() }
            }
            None => AuthData::None,
        };
        ServiceTarget {
            endpoint: Endpoint::from_owned(base.as_str()),
            auth,
            model: ModelIden::new(self.entry.kind, model),
        }
    }

    /// Asks through a door that bounds what comes back.
    async fn bounded(&self, question: &Question, pieces: &dyn Pieces) -> Result<RawAnswer, ModelError> {
        let relay = Relay::open(&self.base, &self.address, self.entry.wire).await.map_err(|error| {
            ModelError::Setup { message: format!("no port on this machine can be had for the question: {error}") }
        })?;
        let answered = tokio::select! {
            biased;
            answered = self.stream(question, pieces, relay.base()) => answered,
            never = relay.serve(&self.http) => match never {},
        };
        let place = Place { address: &self.address, key: self.key.as_ref() };
        answered.map_err(|error| match relay.trouble() {
            Some(Trouble::Transport(error)) => place.transport(&error),
            Some(Trouble::TooLarge(what)) => place.malformed(&what),
            None => error,
        })
    }

    async fn stream(&self, question: &Question, pieces: &dyn Pieces, base: &Url) -> Result<RawAnswer, ModelError> {
        let place = Place { address: &self.address, key: self.key.as_ref() };
        let frames = Arc::new(Frames::default());
        let (wire, sink) = (self.entry.wire, Arc::clone(&frames));
        let mut options = convert::options(self.entry, &self.model, question, self.idle)?
            .with_raw_frame_fn(move |_, frame| sink.note(wire, frame));
        // genai's Ollama knows no keys; a gateway in front of one does.
        if let (Wire::Ollama, Some(key)) = (wire, &self.key) {
            options = options.with_extra_headers(("Authorization".to_owned(), format!("Bearer {}", key.expose())));
        }
        let request = convert::request(self.entry, question);
        let response = self.client.exec_chat_stream(self.target(base), request, Some(&options)).await;
        let mut stream = response.map_err(|error| place.failure(&error))?.stream;
        let mut assembly = Assembly::new(self.entry);
        while let Some(event) = stream.next().await {
            let event = event.map_err(|error| place.failure(&error))?;
            let Some(end) = assembly.take(event, pieces)? else {
                continue;
            };
            if let Some(error) = frames.error() {
                return Err(place.status(500, &error, None));
            }
            return match assembly.finish(end, &frames, &self.model)? {
                Some(answer) => Ok(answer),
                None => Err(broken_off(&place, &frames)),
            };
        }
        Err(broken_off(&place, &frames))
    }
}

fn broken_off(place: &Place<'_>, frames: &Frames) -> ModelError {
    if let Some(error) = frames.error() {
        return place.status(500, &error, None);
    }
    if frames.any() {
        return place.unreachable("the answer broke off in the middle");
    }
    place.malformed("nothing in it is an event of a stream; is base_url the address of the API?")
}

impl Llm for Provider {
    fn name(&self) -> &str {
        &self.name
    }

    fn context_tokens(&self) -> Option<u64> {
        self.context_tokens
    }

    fn can_require_calls(&self) -> bool {
        self.entry.keeps_required
    }

    fn ask<'a>(
        &'a self,
        question: &'a Question,
        pieces: &'a dyn Pieces,
    ) -> BoxFuture<'a, Result<RawAnswer, ModelError>> {
        Box::pin(self.bounded(question, pieces))
    }
}

/// Who says where a provider is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BaseOrigin {
    Table,
    Variable(&'static str),
    Usual,
}

/// The address of a provider as it is written, and who wrote it.
pub(super) fn base_text(
    entry: &Entry,
    configured: Option<&str>,
    env: Environment<'_>,
) -> Result<(BaseOrigin, String), ModelError> {
    if let Some(text) = configured {
        return Ok((BaseOrigin::Table, text.to_owned()));
    }
    let of_variable = |&name: &&'static str| Some((name, env(name).filter(|value| !value.trim().is_empty())?));
    if let Some((name, value)) = entry.base_variables.iter().find_map(of_variable) {
        return Ok((BaseOrigin::Variable(name), value));
    }
    if entry.base_url.is_empty() {
        let variables = entry.base_variables.join(" or ");
        let message = format!("`{}` needs `base_url` (or {variables}): where is the server?", entry.name);
        return Err(ModelError::Setup { message });
    }
    Ok((BaseOrigin::Usual, entry.base_url.to_owned()))
}

fn base(entry: &Entry, configured: Option<&str>, env: Environment<'_>) -> Result<Url, ModelError> {
    let (origin, text) = base_text(entry, configured, env)?;
    let origin = match origin {
        BaseOrigin::Table => "base_url".to_owned(),
        BaseOrigin::Variable(name) => format!("the variable {name}"),
        BaseOrigin::Usual => "the usual address".to_owned(),
    };
    address::parse(entry, &text).map_err(|what| ModelError::Setup { message: format!("{origin}: {what}") })
}

/// Whether a key would be sent.
fn reads_key(entry: &Entry, configured: Option<&str>, env: Environment<'_>) -> bool {
    let is_set = |name: &str| env(name).is_some_and(|value| !value.trim().is_empty());
    configured.map_or_else(|| entry.key_variables.iter().any(|name| is_set(name)), is_set)
}

fn key(
    entry: &Entry,
    configured: Option<&str>,
    env: Environment<'_>,
) -> Result<(Option<String>, Option<Secret>), ModelError> {
    if let Some(name) = configured
        && !is_variable_name(name)
    {
        // What stands there may be the key: it is not repeated.
        let usual = entry.key_variables.first().unwrap_or(&"LLM_API_KEY");
        let message = format!(
            "`key_env` takes the name of a variable in capital letters, such as `{usual}`, and never the key itself"
        );
        return Err(ModelError::Setup { message });
    }
    let names: Vec<&str> = configured.map_or_else(|| entry.key_variables.to_vec(), |name| vec![name]);
    let found = names.iter().find_map(|name| {
        let value = env(name)?.trim().to_owned();
        (!value.is_empty()).then(|| ((*name).to_owned(), value))
    });
    match found {
        Some((name, value)) if !value.chars().all(|letter| letter.is_ascii_graphic()) => {
            let message = format!("the key in {name} holds characters that no key has; is it more than the key?");
            Err(ModelError::Setup { message })
        }
        Some((name, value)) => Ok((Some(name), Some(Secret::new(value)))),
        None if names.is_empty() => Ok((None, None)),
        None => {
            let names = names.join(" or ");
            let message =
                format!("`{}` needs a key: set the variable {names}, or name another with `key_env`", entry.name);
            Err(ModelError::Setup { message })
        }
    }
}

pub(super) fn is_variable_name(name: &str) -> bool {
    // Keys have dashes and small letters (`sk-…`, `gsk_…`, `AIza…`); the names of their variables never do.
    let letters = |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
    !name.is_empty() && name.chars().all(letters) && !name.starts_with(|first: char| first.is_ascii_digit())
}
