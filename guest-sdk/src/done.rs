//! The gate `done`: ends the cast with an answer.

use serde::Serialize;

use crate::{Error, host};

/// Ends the cast. The answer is its result, whatever the guest returns afterwards, and no gate answers after it: return.
///
/// # Errors
/// An answer that JSON cannot hold, or a circle that refuses.
pub fn done<T: Serialize + ?Sized>(answer: &T) -> Result<(), Error> {
    host::done(&serde_json::to_value(answer)?)
}
