//! Texts that stand in an entry itself: cut where they are made.
//!
//! An entry has at most 1 MiB, so whatever comes from a model, a guest, a gate or a peer and is not kept beside its entry is bounded
//! here, before code or a model sees it: a replay then shows what the first run showed. `Body::fit` in `loom/fit.rs` is the net below.

use cantrip_gates::{GateError, Truncation};

use super::ids::CallId;
use super::limits::{CALL_ID_BYTES_MAX, INLINE_NAME_BYTES_MAX, INLINE_TEXT_BYTES_MAX};

/// What the note takes that says how much was left out.
const NOTE_BYTES: usize = 64;

/// A text with at most so many bytes; a longer one is cut, and says how much of it was left out.
pub fn text(text: String, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text;
    }
    let kept = text.get(..text.floor_char_boundary(bytes_max.saturating_sub(NOTE_BYTES))).unwrap_or_default();
    format!("{kept}… [{} more bytes left out]", text.len() - kept.len())
}

/// A failure, a summary, or a reason.
pub fn why(why: String) -> String {
    text(why, INLINE_TEXT_BYTES_MAX)
}

/// The name of a gate or a model, as somebody else gave it.
pub fn name(name: String) -> String {
    text(name, INLINE_NAME_BYTES_MAX)
}

/// What a gate failed with.
pub fn error(error: GateError) -> GateError {
    match error {
        GateError::Denied(message) => GateError::Denied(why(message)),
        GateError::Invalid(message) => GateError::Invalid(why(message)),
        GateError::NotFound(message) => GateError::NotFound(why(message)),
        GateError::Exhausted(message) => GateError::Exhausted(why(message)),
        GateError::Failed(message) => GateError::Failed(why(message)),
        GateError::TimedOut(message) => GateError::TimedOut(why(message)),
        GateError::Unknown(message) => GateError::Unknown(why(message)),
        GateError::Unanswered(message) => GateError::Unanswered(why(message)),
        // The partial answer is kept beside the entry.
        GateError::Truncated(known) => GateError::Truncated(Box::new(Truncation {
            reason: name(known.reason),
            message: why(known.message),
            partial: known.partial,
        })),
    }
}

/// The id of a call: of a long one the beginning and its hash, so that two stay two.
pub fn call_id(id: &str) -> CallId {
    if id.len() <= CALL_ID_BYTES_MAX {
        return CallId::new(id);
    }
    let hash = blake3::hash(id.as_bytes()).to_hex();
    let hash = hash.get(..32).unwrap_or_default();
    let kept = id.get(..id.floor_char_boundary(CALL_ID_BYTES_MAX - hash.len() - 1)).unwrap_or_default();
    CallId::new(&format!("{kept}~{hash}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn long_texts_are_cut_where_they_are_made() {
        let long = "ü".repeat(INLINE_TEXT_BYTES_MAX);
        let cut = why(long.clone());
        assert!(cut.len() <= INLINE_TEXT_BYTES_MAX && cut.ends_with("more bytes left out]"), "{}", cut.len());
        assert_eq!(why(cut.clone()), cut, "what was cut stays as it is");
        assert!(matches!(error(GateError::Failed(long.clone())), GateError::Failed(text) if text == cut));
        assert!(name(long).len() <= INLINE_NAME_BYTES_MAX);
    }

    #[test]
    fn long_call_ids_are_shortened_and_stay_distinct() {
        let ids = ["a", "b"].map(|end| call_id(&format!("{}{end}", "x".repeat(1_100_000))));
        assert!(ids.iter().all(|id| id.as_str().len() <= CALL_ID_BYTES_MAX));
        assert!(ids.first() != ids.last());
    }

    proptest! {
        #[test]
        fn a_cut_text_is_never_longer_than_its_bound(given in ".{0,300}", max in 0_usize..300) {
            let cut = text(given.clone(), max.max(NOTE_BYTES));
            prop_assert!(cut.len() <= max.max(NOTE_BYTES).max(given.len().min(max)));
        }
    }
}
