//! Gates without types.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, host};

/// The names that the circle answers to.
pub fn names() -> Vec<String> {
    host::names()
}

/// Calls a gate by its name. The arguments are an object, or a list in the order of the gate's parameters.
///
/// # Errors
/// No such gate in the circle, arguments that do not fit, what the gate fails with, or an answer that is no `R`.
///
/// ```
/// # use cantrip_guest::{gates, testing::Gates, Error};
/// # use serde_json::{Value, json};
/// let ran = Gates::new()
///     .on("weather", |place| Ok(json!({ "place": place["place"], "celsius": 21 })))
///     .run(|| gates::call::<_, Value>("weather", &json!({ "place": "Oslo" })));
/// assert_eq!(ran.result.unwrap()["celsius"], 21);
/// ```
pub fn call<A: Serialize + ?Sized, R: DeserializeOwned>(name: &str, arguments: &A) -> Result<R, Error> {
    let value = host::gate(name, serde_json::to_value(arguments)?)?;
    serde_json::from_value(value)
        .map_err(|error| Error::invalid(format_args!("{name}: the answer is not what was expected: {error}")))
}
