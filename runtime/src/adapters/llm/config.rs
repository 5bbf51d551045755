//! The `[llm]` table of a cantrip file, and the model that it names.
//!
//! Owns the table's keys. A key that means nothing for the provider is an error, not a silence.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::catalogue;
use super::provider::{Environment, Provider, ProviderConfig};
use super::scripted::Scripted;
use crate::domain::model::{ModelError, RetryPolicy, Usage};
use crate::ports::Llm;

/// The `[llm]` table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LlmConfig {
    /// `scripted`, or a provider's name.
    pub provider: String,
    /// The model's name, as the provider has it.
    #[serde(default)]
    pub model: Option<String>,
    /// The script of the scripted model, relative to the cantrip file.
    #[serde(default)]
    pub path: Option<String>,
    /// Where the provider is, if not at its usual address.
    #[serde(default)]
    pub base_url: Option<String>,
    /// The variable that holds the key, if not the usual one.
    #[serde(default)]
    pub key_env: Option<String>,
    /// On whose machine the model is asked.
    #[serde(default)]
    pub at: Place,
    /// The length of the model's context in tokens: folding begins at 80 % of it.
    #[serde(default)]
    pub context_tokens: Option<u64>,
    /// How long the provider may send nothing, in milliseconds.
    #[serde(default)]
    pub idle_timeout_ms: Option<u64>,
    /// How often a question is asked again.
    #[serde(default)]
    pub retry: RetryPolicy,
    /// The tokens that each scripted answer counts for, where it says nothing itself.
    #[serde(default)]
    pub usage: Option<Usage>,
}

/// On whose machine the model is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// On the one that runs the entity.
    #[default]
    Host,
    /// On the one that asked for the cast.
    Caller,
}

impl LlmConfig {
    /// A model by its provider and name; for a scripted one, by its file.
    pub fn named(provider: &str, model: &str) -> Self {
        let (model, path) = if provider == SCRIPTED { (None, Some(model)) } else { (Some(model), None) };
        Self {
            provider: provider.to_owned(),
            model: model.map(str::to_owned),
            path: path.map(str::to_owned),
            base_url: None,
            key_env: None,
            at: Place::default(),
            context_tokens: None,
            idle_timeout_ms: None,
            retry: RetryPolicy::default(),
            usage: None,
        }
    }

    /// Whether it is a script: each cast has its own.
    pub fn is_scripted(&self) -> bool {
        self.provider == SCRIPTED
    }

    /// Whether it is asked where the cantrip is cast from, and not where it runs.
    pub fn is_at_caller(&self) -> bool {
        self.at == Place::Caller
    }
}

/// The provider of scripts.
const SCRIPTED: &str = "scripted";

/// Makes the model that a cantrip file names. Relative paths are relative to `base_dir`.
///
/// # Errors
/// What is missing, unknown or senseless in the table, with the key's name.
pub fn build(config: &LlmConfig, base_dir: &Path, env: Environment<'_>) -> Result<Arc<dyn Llm>, ModelError> {
    let scripted = config.is_scripted();
    if !scripted {
        catalogue::find(&config.provider)?;
    }
    let senseless = if scripted {
        [
            ("model", config.model.is_some()),
            ("base_url", config.base_url.is_some()),
            ("key_env", config.key_env.is_some()),
            ("idle_timeout_ms", config.idle_timeout_ms.is_some()),
        ]
        .to_vec()
    } else {
        vec![("path", config.path.is_some()), ("usage", config.usage.is_some())]
    };
    if let Some((key, _)) = senseless.into_iter().find(|(_, given)| *given) {
        let whose = if scripted { "a provider that is asked over the network" } else { "`provider = \"scripted\"`" };
        return Err(setup(format!("`{key}` goes with {whose}, not with `{}`", config.provider)));
    }
    if scripted {
        let Some(path) = &config.path else {
            return Err(setup(
                "`path` is missing: the file with the scripted model's responses, one a line".to_owned(),
            ));
        };
        let script = Scripted::from_file(&base_dir.join(path))?;
        return Ok(Arc::new(
            script.with_usage(config.usage.unwrap_or_default()).with_context_tokens(config.context_tokens),
        ));
    }
    if config.idle_timeout_ms == Some(0) {
        return Err(setup("`idle_timeout_ms` must be 1 or more".to_owned()));
    }
    Ok(Arc::new(Provider::from_config(
        &ProviderConfig {
            provider: config.provider.clone(),
            model: config.model.clone().unwrap_or_default(),
            base_url: config.base_url.clone(),
            key_env: config.key_env.clone(),
            context_tokens: config.context_tokens,
            timeout: config.idle_timeout_ms.map(Duration::from_millis),
        },
        env,
    )?))
}

fn setup(message: String) -> ModelError {
    ModelError::Setup { message }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn refused(table: Value) -> String {
        let config = match serde_json::from_value::<LlmConfig>(table) {
            Ok(config) => config,
            Err(error) => return error.to_string(),
        };
        let key = |name: &str| (name == "OPENAI_API_KEY").then(|| "sk-test".to_owned());
        build(&config, Path::new("/nowhere"), &key).unwrap_err().to_string()
    }

    #[expect(clippy::needless_pass_by_value, reason = "a table is written in place")]
    fn check(table: Value, expected: &str) {
        let message = refused(table.clone());
        assert!(message.contains(expected), "{table}: {message}");
    }

    #[test]
    fn a_table_that_makes_no_sense_is_refused_by_key() {
        check(json!({"provider": "openai", "modle": "x"}), "unknown field `modle`");
        check(json!({"provider": "opnai", "model": "x"}), "did you mean `openai`?");
        check(json!({"provider": "opnai", "model": "x"}), "known are openai, openai_responses");
        check(json!({"provider": "opnai", "path": "p"}), "did you mean `openai`?");
        check(json!({"provider": "openai"}), "`model` is missing");
        check(json!({"provider": "openai", "model": "x", "path": "p"}), "`path` goes with `provider = \"scripted\"`");
        check(json!({"provider": "scripted", "path": "p", "model": "x"}), "`model` goes with a provider");
        check(json!({"provider": "scripted"}), "`path` is missing");
        check(json!({"provider": "scripted", "path": "p.jsonl"}), "/nowhere/p.jsonl");
        check(json!({"provider": "openai", "model": "x", "idle_timeout_ms": 0}), "`idle_timeout_ms`");
    }

    #[test]
    fn a_missing_key_names_its_variable() {
        check(json!({"provider": "anthropic", "model": "x"}), "ANTHROPIC_API_KEY");
        check(json!({"provider": "gemini", "model": "x"}), "GEMINI_API_KEY or GOOGLE_API_KEY");
        check(json!({"provider": "openai", "model": "x", "key_env": "OTHER_KEY"}), "OTHER_KEY");
        check(json!({"provider": "openai_compatible", "model": "x"}), "`base_url`");
        let pasted = refused(json!({"provider": "openai", "model": "x", "key_env": "sk-abcdef"}));
        assert!(pasted.contains("name of a variable") && !pasted.contains("sk-abcdef"), "{pasted}");
    }

    #[test]
    fn a_local_server_needs_no_key() {
        for table in [
            json!({"provider": "ollama", "model": "qwen3"}),
            json!({"provider": "openai_compatible", "model": "m", "base_url": "http://127.0.0.1:8080"}),
        ] {
            let config: LlmConfig = serde_json::from_value(table).unwrap();
            let model = build(&config, Path::new("/"), &|_| None).unwrap();
            assert!(!model.can_require_calls(), "{model:?}");
        }
    }
}
