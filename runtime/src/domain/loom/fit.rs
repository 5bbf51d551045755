//! The net below everything that cuts texts where they are made: no free text in a body makes an entry too long.

use cantrip_gates::GateError;
use thiserror::Error;

use super::body::{Body, Decided, Intent};
use super::opened::{Opened, Placement, Standing};
use super::said::{Answer, CallRecord, RecordedEvaluation, Returned};
use crate::domain::ids::CallId;
use crate::domain::limits::{INLINE_NAME_BYTES_MAX, INLINE_TEXT_BYTES_MAX, OPENED_BYTES_MAX};
use crate::domain::place::CallPlace;
use crate::domain::short;

/// What an entity is made of does not fit into the entry that opens it.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "what the entity is made of has {bytes} bytes beside its texts, and at most {OPENED_BYTES_MAX} are recorded of it: it has {gates} \
     gates, and its wards; give it fewer of them, or shorter lists"
)]
pub struct OpenedTooLarge {
    /// All of it.
    pub bytes: usize,
    /// How many gates.
    pub gates: usize,
}

impl Opened {
    /// Checks, before anything runs, that the entity can be recorded.
    ///
    /// # Errors
    /// It cannot: how large it is, and what takes most.
    pub fn fits(&self) -> Result<(), OpenedTooLarge> {
        // What cannot be encoded is told when it is.
        let bytes = serde_ipld_dagcbor::to_vec(self).map_or(0, |bytes| bytes.len());
        if bytes > OPENED_BYTES_MAX {
            return Err(OpenedTooLarge { bytes, gates: self.gates.len() });
        }
        Ok(())
    }
}

fn why(text: &mut String) {
    *text = short::why(std::mem::take(text));
}

fn name(text: &mut String) {
    *text = short::name(std::mem::take(text));
}

/// A list of nodes has no bound of its own.
fn place_name(place: &mut CallPlace) {
    let text = place.to_string();
    if text.len() > INLINE_TEXT_BYTES_MAX {
        *place = CallPlace::Other(short::name(text));
    }
}

fn standing(standing: &mut Standing) {
    let Some(Placement { model, gates }) = &mut standing.placement else { return };
    model.iter_mut().for_each(place_name);
    gates.values_mut().for_each(place_name);
    if gates.keys().any(|gate| gate.len() > INLINE_NAME_BYTES_MAX) {
        *gates = std::mem::take(gates).into_iter().map(|(gate, place)| (short::name(gate), place)).collect();
    }
}

fn call_id(id: &mut CallId) {
    *id = short::call_id(id.as_str());
}

impl Body {
    /// The body with every free text in it cut to its bound. Nothing changes where texts were cut when they were made.
    #[must_use]
    pub fn fit(mut self) -> Self {
        match &mut self {
            Self::Utterance(said) => {
                name(&mut said.model);
                said.fallback_of.iter_mut().for_each(name);
                said.finish.iter_mut().for_each(name);
                for CallRecord { id, gate, .. } in &mut said.calls {
                    call_id(id);
                    name(gate);
                }
            }
            Self::GateCalled { call, gate, place, asks, .. } => {
                call_id(call);
                name(gate);
                place_name(place);
                if let Some(asks) = asks {
                    name(&mut asks.rule);
                }
            }
            Self::GateReturned { call, result, .. } => {
                call_id(call);
                if let Returned::Error(error) = result {
                    *error = short::error(error.clone());
                    if let GateError::Truncated(known) = error {
                        known.partial.iter_mut().for_each(why);
                    }
                }
            }
            Self::Delegated { call, place, .. } => {
                call_id(call);
                place_name(place);
            }
            Self::Observation(seen) => {
                for Answer { call, .. } in &mut seen.answers {
                    call.iter_mut().for_each(call_id);
                }
                seen.evaluations.iter_mut().for_each(|RecordedEvaluation { call, .. }| call_id(call));
                seen.standing.iter_mut().for_each(|it| standing(it));
            }
            Self::Decided(decided) => {
                let Decided { call, scope, by, approver, .. } = &mut **decided;
                call_id(call);
                [scope, by, approver].into_iter().for_each(name);
            }
            Self::Ended(ended) => {
                ended.reason = ended.reason.clone().short();
            }
            Self::Rewarded { by, .. } => name(by),
            Self::Replayed { node, medium, difference, .. } => {
                name(node);
                medium.iter_mut().for_each(name);
                difference.iter_mut().for_each(why);
            }
            Self::Adopted { node, by, .. } => {
                name(node);
                by.iter_mut().for_each(name);
            }
            Self::Intent(intent) => {
                let Intent { by, model, mode, file, trace, .. } = &mut **intent;
                [by, model, mode, file, trace].into_iter().flatten().for_each(name);
            }
            Self::Admitted(admitted) => admitted.by.iter_mut().for_each(name),
            Self::Expelled(expelled) => expelled.by.iter_mut().for_each(name),
            Self::Settled(settled) => settled.by.iter_mut().for_each(name),
            Self::Opened(opened) => {
                let Opened { by, mode, file, .. } = &mut **opened;
                // The rest says what the entity is, and is measured before anything runs.
                [by, mode, file].into_iter().flatten().for_each(name);
            }
            Self::Snapshot { medium, .. } => name(medium),
            // Texts beside the entry, numbers and hashes.
            Self::Folded { .. } | Self::Founded { .. } | Self::Keeping { .. } | Self::Unknown(_) => {}
        }
        self
    }
}
