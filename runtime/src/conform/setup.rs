//! From a case's setup to real parts.
#![expect(clippy::disallowed_methods, reason = "lays out the files of a case")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cantrip_gates::{
    CallContext, Exposure, FunctionGate, Gate, GateError, GateName, GateSpec, Reach, Root, Wards, builtin,
};
use serde_json::{Map, Value, json};

use crate::adapters::clock::SteppingClock;
use crate::adapters::llm::{ReplayServer, Scripted, provider_over_replies};
use crate::adapters::store::MemoryStore;
use crate::adapters::wasm::Javascript;
use crate::domain::cantrip::Folding;
use crate::domain::event::Event;
use crate::domain::ids::{LoomId, WriterKey};
use crate::domain::model::{RetryPolicy, Sampling, ToolChoice, Usage};
use crate::driver::{Cantrip, CantripBuilder, ChildModels, Runtime};
use crate::ports::{Llm, LoomStore, Observer};

/// A model of a case.
pub(super) struct Model {
    pub(super) llm: Arc<dyn Llm>,
    pub(super) scripted: Option<Arc<Scripted>>,
    // Held for its drop: it ends the server that answers.
    _server: Option<ReplayServer>,
}

/// Everything that a case is played with.
pub(super) struct Stage {
    pub(super) runtime: Runtime,
    pub(super) store: Arc<dyn LoomStore>,
    pub(super) loom: LoomId,
    pub(super) models: BTreeMap<String, Model>,
    pub(super) logs: Arc<Logs>,
    setup: BTreeMap<String, Value>,
    media: Arc<Javascript>,
    folder: PathBuf,
}

impl Drop for Stage {
    fn drop(&mut self) {
        // A folder of the system's temporary ones that stays is no reason to fail.
        let _left = std::fs::remove_dir_all(&self.folder);
    }
}

/// What a log would have held.
#[derive(Debug, Default)]
pub(super) struct Logs(Mutex<String>);

impl Logs {
    pub(super) fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Observer for Logs {
    fn event(&self, event: &Event) {
        // Pieces of a stream are no log: what is logged is the whole message.
        if matches!(event.kind, crate::EventKind::Text { .. } | crate::EventKind::Thinking { .. }) {
            return;
        }
        let line = serde_json::to_string(event).unwrap_or_default();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_str(&line);
    }
}

pub(super) fn unknown(what: &str, key: &str) -> String {
    format!("the key `{key}` of {what} is unknown")
}

fn object<'a>(what: &str, value: &'a Value) -> Result<&'a Map<String, Value>, String> {
    value.as_object().ok_or_else(|| format!("{what} is not an object"))
}

fn text(what: &str, value: &Value) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| format!("{what} is not a text"))
}

fn typed<T: serde::de::DeserializeOwned>(what: &str, value: &Value) -> Result<T, String> {
    serde_json::from_value(value.clone()).map_err(|error| format!("{what}: {error}"))
}

impl Stage {
    pub(super) async fn new(setup: &BTreeMap<String, Value>, media: Arc<Javascript>) -> Result<Self, String> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("cantrip-conform-{}-{number}", std::process::id()));
        let store: Arc<dyn LoomStore> = MemoryStore::new(WriterKey::from_bytes([7; 32]));
        let runtime = Runtime::new(
            Arc::clone(&store),
            Arc::<Javascript>::clone(&media),
            Arc::new(SteppingClock::new(number)),
            "conform",
        );
        let loom = runtime.found().map_err(|error| error.to_string())?;
        let mut stage = Self {
            runtime,
            store,
            loom,
            models: BTreeMap::new(),
            logs: Arc::default(),
            setup: setup.clone(),
            media,
            folder,
        };
        for (key, value) in setup {
            if key.contains("llm") {
                if !value.is_null() {
                    let model = model(key, value).await?;
                    stage.models.insert(key.clone(), model);
                }
            } else if !matches!(key.as_str(), "circle" | "identity" | "folding" | "retry" | "filesystem") {
                return Err(unknown("the setup", key));
            }
        }
        stage.lay_out()?;
        Ok(stage)
    }

    fn lay_out(&self) -> Result<(), String> {
        let written = |error: std::io::Error| format!("the case's files: {error}");
        std::fs::create_dir_all(&self.folder).map_err(written)?;
        let Some(files) = self.setup.get("filesystem") else { return Ok(()) };
        for (path, content) in object("filesystem", files)? {
            let path = self.folder.join(path.trim_start_matches('/'));
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(written)?;
            }
            std::fs::write(&path, text("a file", content)?).map_err(written)?;
        }
        Ok(())
    }

    /// A model by its key in the setup, or by its name.
    pub(super) fn model(&self, name: &str) -> Result<&Model, String> {
        let named = |key: &&String| self.name(key) == name;
        let model = self.models.get(name).or_else(|| self.models.get(self.models.keys().find(named)?));
        model.ok_or_else(|| format!("the setup has no model `{name}`"))
    }

    /// What the setup calls the model of a key.
    fn name<'a>(&'a self, key: &'a str) -> &'a str {
        self.setup.get(key).and_then(|value| value.get("name")).and_then(Value::as_str).unwrap_or(key)
    }

    /// Builds the cantrip. The outer error is the suite's, the inner one the product's.
    pub(super) fn cantrip(&self, strict: bool) -> Result<Result<Cantrip, String>, String> {
        let mut builder = Cantrip::builder();
        if strict {
            builder = builder.strict();
        }
        // Where a case names a model for each cast, any of them serves for construction.
        if let Some(model) = self
            .models
            .get("llm")
            .or_else(|| (!self.setup.contains_key("llm")).then(|| self.models.values().next()).flatten())
        {
            builder = builder.llm(Arc::clone(&model.llm));
        }
        builder = self.children(builder)?;
        builder = self.identity(builder)?;
        builder = self.circle(builder)?;
        if let Some(folding) = self.setup.get("folding") {
            builder = builder.folding(typed::<Folding>("folding", folding)?);
        }
        if let Some(retry) = self.setup.get("retry") {
            builder = builder.retry(typed::<RetryPolicy>("retry", retry)?);
        }
        Ok(builder.build(&*self.media).map_err(|error| error.to_string()))
    }

    fn children(&self, mut builder: CantripBuilder) -> Result<CantripBuilder, String> {
        let mut choice = ChildModels::default();
        for (key, model) in &self.models {
            let name = self.name(key);
            if let Some(depth) = key.strip_prefix("child_llm_l") {
                let depth: u32 = depth.parse().map_err(|_| unknown("the setup", key))?;
                choice.by_depth.insert(depth, name.to_owned());
            } else if key == "child_llm" {
                choice.default = Some(name.to_owned());
            } else {
                continue;
            }
            builder = builder.model(name, Arc::clone(&model.llm));
        }
        Ok(builder.child_models(choice))
    }

    fn identity(&self, mut builder: CantripBuilder) -> Result<CantripBuilder, String> {
        let Some(identity) = self.setup.get("identity") else { return Ok(builder) };
        let mut sampling = Sampling::default();
        for (key, value) in object("identity", identity)? {
            match key.as_str() {
                "system_prompt" if value.is_null() => {}
                "system_prompt" => builder = builder.system_prompt(text(key, value)?),
                "temperature" => sampling.temperature = value.as_f64(),
                "tool_choice" => builder = builder.tool_choice(typed::<ToolChoice>(key, value)?),
                _ => return Err(unknown("identity", key)),
            }
        }
        Ok(builder.sampling(sampling))
    }

    fn circle(&self, mut builder: CantripBuilder) -> Result<CantripBuilder, String> {
        let Some(circle) = self.setup.get("circle") else { return Ok(builder) };
        let mut has_fetch = false;
        for (key, value) in object("circle", circle)? {
            match key.as_str() {
                "medium" | "type" | "circle_type" => builder = builder.medium(text(key, value)?),
                "wards" => {
                    let wards = Wards::from_value(value).map_err(|error| format!("wards: {error}"))?;
                    builder = builder.wards(&wards);
                }
                "gates" => {
                    for entry in value.as_array().ok_or("gates is not a list")? {
                        let name = entry
                            .as_str()
                            .or_else(|| entry.get("name").and_then(Value::as_str))
                            .ok_or("a gate has no name")?;
                        has_fetch |= name == "fetch";
                        builder = if builtin::RUN_BY_THE_RUNTIME.contains(&name) {
                            builder.hold(name)
                        } else {
                            builder.gate(self.gate(name, entry)?)
                        };
                    }
                }
                _ => return Err(unknown("circle", key)),
            }
        }
        if !has_fetch {
            // A gate that only children have.
            builder = builder.gate_for_children(constant("fetch", json!("fetched"), false)?);
        }
        Ok(builder)
    }

    fn gate(&self, name: &str, entry: &Value) -> Result<Arc<dyn Gate>, String> {
        let empty = Map::new();
        let settings = entry.as_object().unwrap_or(&empty);
        let known =
            ["name", "parameters", "behavior", "error", "delay_ms", "result", "ephemeral", "stateful", "dependencies"];
        if let Some(key) = settings.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(unknown("a gate", key));
        }
        let ephemeral = settings.get("ephemeral").and_then(Value::as_bool).unwrap_or(false);
        let result = settings.get("result").cloned();
        match settings.get("behavior").and_then(Value::as_str) {
            Some("throw") => {
                let message = text("error", settings.get("error").unwrap_or(&Value::Null))?;
                return function(name, ephemeral, None, move |_| Err(GateError::Failed(message.clone())));
            }
            Some("delay") => {
                let delay = Duration::from_millis(settings.get("delay_ms").and_then(Value::as_u64).unwrap_or(0));
                let result = result.unwrap_or(Value::Null);
                let gate = FunctionGate::new(spec(name, ephemeral, None)?, move |_| {
                    let result = result.clone();
                    async move {
                        tokio::time::sleep(delay).await;
                        Ok(result)
                    }
                });
                return Ok(Arc::new(gate));
            }
            Some(other) => return Err(format!("the behavior `{other}` of a gate is unknown")),
            None => {}
        }
        if settings.get("stateful").and_then(Value::as_bool) == Some(true) {
            let count = AtomicU64::new(0);
            return function(name, ephemeral, None, move |_| Ok(json!(count.fetch_add(1, Ordering::Relaxed) + 1)));
        }
        if let Some(result) = result {
            return constant(name, result, ephemeral);
        }
        let parameters = settings.get("parameters").cloned();
        match name {
            "done" | "echo" => {
                let inner = if name == "done" { builtin::done() } else { builtin::echo() };
                if parameters.is_none() && !ephemeral {
                    return Ok(inner);
                }
                alias(name, ephemeral, parameters, inner)
            }
            "read" | "read_file" => {
                let root = settings
                    .get("dependencies")
                    .and_then(|all| all.get("root"))
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                if root.split('/').any(|name| name == "..") {
                    return Err(format!("the root `{root}` leads out of the suite's own folder"));
                }
                let root =
                    Root::open(&self.folder.join(root.trim_start_matches('/'))).map_err(|error| error.to_string())?;
                alias(name, ephemeral, parameters, builtin::read_file(root))
            }
            _ => Err(format!("the suite says nothing of what the gate `{name}` does")),
        }
    }
}

fn spec(name: &str, ephemeral: bool, parameters: Option<Value>) -> Result<GateSpec, String> {
    Ok(GateSpec {
        name: GateName::parse(name).map_err(|error| error.to_string())?,
        description: format!("the gate {name} of the suite"),
        parameters: parameters.unwrap_or_else(|| json!({ "type": "object" })),
        positional: Vec::new(),
        reach: Reach::Read,
        exposure: Exposure::default(),
        ephemeral,
    })
}

fn function(
    name: &str,
    ephemeral: bool,
    parameters: Option<Value>,
    run: impl Fn(Value) -> Result<Value, GateError> + Send + Sync + 'static,
) -> Result<Arc<dyn Gate>, String> {
    let gate =
        FunctionGate::new(spec(name, ephemeral, parameters)?, move |arguments| std::future::ready(run(arguments)));
    Ok(Arc::new(gate))
}

fn constant(name: &str, result: Value, ephemeral: bool) -> Result<Arc<dyn Gate>, String> {
    function(name, ephemeral, None, move |_| Ok(result.clone()))
}

/// A built-in gate under another name or with another declaration.
fn alias(
    name: &str,
    ephemeral: bool,
    parameters: Option<Value>,
    inner: Arc<dyn Gate>,
) -> Result<Arc<dyn Gate>, String> {
    let mut spec = spec(name, ephemeral, Some(parameters.unwrap_or_else(|| inner.spec().parameters.clone())))?;
    spec.positional.clone_from(&inner.spec().positional);
    spec.positional
        .retain(|parameter| spec.parameters.pointer("/properties").is_some_and(|all| all.get(parameter).is_some()));
    let gate = FunctionGate::new(spec, move |arguments| {
        let inner = Arc::clone(&inner);
        async move { inner.call(arguments, &CallContext::default()).await }
    });
    Ok(Arc::new(gate))
}

async fn model(key: &str, value: &Value) -> Result<Model, String> {
    let known = [
        "responses",
        "type",
        "name",
        "usage",
        "provider",
        "raw_response",
        "record_inputs",
        "stateless",
        "retry_behavior",
    ];
    let settings = object(key, value)?;
    if let Some(unknown_key) = settings.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(unknown(key, unknown_key));
    }
    if let Some(raw) = settings.get("raw_response") {
        // The real provider reads it, from a server that gives nothing else.
        let provider = settings.get("provider").and_then(Value::as_str).unwrap_or_default().trim_start_matches("mock_");
        let (provider, server) =
            provider_over_replies(provider, vec![raw.clone()]).await.map_err(|error| error.to_string())?;
        return Ok(Model { llm: Arc::new(provider), scripted: None, _server: Some(server) });
    }
    let responses: Vec<Value> = typed(key, settings.get("responses").unwrap_or(&Value::Null))?;
    let usage = settings.get("usage").map(|usage| typed::<Usage>("usage", usage)).transpose()?.unwrap_or_default();
    let scripted = Scripted::from_values(responses).map_err(|error| error.to_string())?;
    let scripted = Arc::new(scripted.with_usage(usage).recording());
    Ok(Model { llm: Arc::<Scripted>::clone(&scripted), scripted: Some(scripted), _server: None })
}
