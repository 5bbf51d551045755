//! Where the questions and the key of a model would go, told before either is read.
//!
//! Owns the comparison with what a provider has by itself. It reads the variables that move an address, which hold no
//! secret, and never one that holds a key.

use reqwest::Url;

use super::catalogue::{self, ENTRIES};
use super::config::LlmConfig;
use super::provider::{Environment, base_text, is_variable_name};
use super::{address, provider::BaseOrigin};

/// Where a model is asked, and with which keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The address in its normal form, path included.
    pub address: String,
    /// Who says so.
    pub origin: AddressOrigin,
    /// Whether it is this machine.
    pub is_loopback: bool,
    /// Whether it is the provider's own address, or the one that the user's environment gives the provider.
    pub is_own_address: bool,
    /// The variables that may hold the key: the first that is set is sent.
    pub variables: Vec<String>,
    /// Whether these are the provider's own.
    pub are_own_variables: bool,
}

/// Who says where a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressOrigin {
    /// `base_url` in the table.
    Table,
    /// A variable of the environment.
    Variable(String),
    /// The provider itself.
    Provider,
}

/// Where the model of a table would be asked. Nothing for a script, and for a table that no model can be made of.
pub fn destination(config: &LlmConfig, env: Environment<'_>) -> Option<Destination> {
    let named = config.key_env.as_deref();
    if named.is_some_and(|name| !is_variable_name(name)) {
        // It is refused when the model is made, and may be the key itself.
        return None;
    }
    let Ok(entry) = catalogue::find(&config.provider) else {
        // What stands beside a script or an unknown provider counts as soon as the provider is another.
        let text = config.base_url.as_deref()?;
        let url = address::parse_any(text)?;
        return Some(Destination {
            is_loopback: address::is_loopback(&url),
            address: url.into(),
            origin: AddressOrigin::Table,
            is_own_address: false,
            variables: named.map(str::to_owned).into_iter().collect(),
            are_own_variables: false,
        });
    };
    let (origin, text) = base_text(entry, config.base_url.as_deref(), env).ok()?;
    let url = address::parse(entry, &text).ok()?;
    let usual = Url::parse(entry.base_url).ok();
    let origin = match origin {
        BaseOrigin::Table => AddressOrigin::Table,
        BaseOrigin::Variable(name) => AddressOrigin::Variable(name.to_owned()),
        BaseOrigin::Usual => AddressOrigin::Provider,
    };
    let own: Vec<String> = entry.key_variables.iter().map(|&name| name.to_owned()).collect();
    Some(Destination {
        is_loopback: address::is_loopback(&url),
        is_own_address: origin != AddressOrigin::Table || usual.as_ref() == Some(&url),
        address: url.into(),
        origin,
        are_own_variables: named.is_none_or(|name| own.iter().any(|own| own == name)),
        variables: named.map_or(own, |name| vec![name.to_owned()]),
    })
}

/// A provider, as a person is shown it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderLine {
    /// Its name.
    pub name: &'static str,
    /// Its address, or why what the environment says is none; absent: it has no usual one.
    pub address: Option<Result<String, String>>,
    /// Who says so.
    pub origin: AddressOrigin,
    /// The variable that its key would be read from, where one is set.
    pub key_variable: Option<&'static str>,
}

/// Every provider with the address that it has in this environment.
pub fn providers(env: Environment<'_>) -> Vec<ProviderLine> {
    let line = |entry: &'static catalogue::Entry| {
        let is_set = |name: &&&'static str| env(name).is_some_and(|value| !value.trim().is_empty());
        let key_variable = entry.key_variables.iter().find(is_set).copied();
        let (origin, address) = match base_text(entry, None, env) {
            Err(_) => (AddressOrigin::Provider, None),
            Ok((BaseOrigin::Variable(name), text)) => {
                (AddressOrigin::Variable(name.to_owned()), Some(address::parse(entry, &text).map(String::from)))
            }
            Ok((_, text)) => (AddressOrigin::Provider, Some(address::parse(entry, &text).map(String::from))),
        };
        ProviderLine { name: entry.name, address, origin, key_variable }
    };
    ENTRIES.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(table: Value, env: Environment<'_>) -> Option<Destination> {
        destination(&serde_json::from_value(table).unwrap(), env)
    }

    fn is_own(table: Value) -> bool {
        let found = of(table, &|_| None).unwrap();
        found.is_own_address && found.are_own_variables
    }

    #[test]
    fn a_provider_at_its_own_address_with_its_own_variable_is_its_own() {
        assert!(is_own(json!({"provider": "openai", "model": "m"})));
        assert!(is_own(json!({"provider": "openai", "model": "m", "base_url": "HTTPS://API.OPENAI.COM/v1"})));
        assert!(is_own(json!({"provider": "gemini", "model": "m", "key_env": "GOOGLE_API_KEY"})));
        assert!(!is_own(json!({"provider": "openai", "model": "m", "key_env": "AWS_SECRET_ACCESS_KEY"})));
        for base_url in [
            "https://api.openai.com.evil/v1",
            "https://api.openai.com@evil.example/v1",
            "http://api.openai.com/v1",
            "https://api.openai.com:8443/v1",
            "https://api.openai.com/elsewhere/v1",
            "https://api.openai.com/v1?x=y",
            "https://@evil.example/v1",
        ] {
            let found = of(json!({"provider": "openai", "model": "m", "base_url": base_url}), &|_| None);
            assert!(found.is_none_or(|found| !found.is_own_address), "{base_url}");
        }
    }

    #[test]
    fn an_address_of_the_environment_is_the_users_own() {
        let env = |name: &str| (name == "OPENAI_BASE_URL").then(|| "https://gate.example/v1".to_owned());
        let found = of(json!({"provider": "openai", "model": "m"}), &env).unwrap();
        assert!(found.is_own_address && found.are_own_variables, "{found:?}");
        assert_eq!(found.address, "https://gate.example/v1/");
        let taken = of(json!({"provider": "openai", "model": "m", "key_env": "OTHER"}), &env).unwrap();
        assert!(!taken.are_own_variables);
        assert_eq!(taken.address, "https://gate.example/v1/");
    }

    #[test]
    fn only_loopback_is_this_machine() {
        let at = |base_url: &str| {
            of(json!({"provider": "openai_compatible", "model": "m", "base_url": base_url}), &|_| None)
        };
        for here in
            ["http://127.0.0.1:1/v1", "http://localhost:1", "HTTP://LOCALHOST", "http://[::1]:1", "http://127.9.9.9"]
        {
            assert!(at(here).unwrap().is_loopback, "{here}");
        }
        for there in [
            "http://localhost.evil:1",
            "http://127.0.0.1.evil",
            "http://0.0.0.0:1",
            "http://[::ffff:10.0.0.1]",
            "http://10.0.0.1",
            "http://localhost.",
        ] {
            assert!(!at(there).unwrap().is_loopback, "{there}");
        }
        // With a user in front of it an address is refused, and nothing is asked there.
        assert_eq!(at("http://127.0.0.1@evil/"), None);
        assert_eq!(at("http://127.0.0.1:80@evil/"), None);
    }
}
