//! The one way in which a component becomes a guest of this machine, whether it was deployed, fetched from a caller, or named at the
//! command line. Who may bring how much, signed by whom, is counted before ([`crate::adapters::peer::Uploads`]).

use cantrip_gates::GateError;
use thiserror::Error;

use crate::adapters::wasm::{GuestError, Guests, Shelf, ShelfError};
use crate::domain::circle::RuntimeGate;
use crate::domain::guest::Manifest;
use crate::domain::remote::{Ceiling, Refusal};

/// Why a component is no guest here.
#[derive(Debug, Error)]
pub(super) enum AdmitError {
    /// It is none, or does not compile.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// It could not be kept.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    /// Whoever brings it may not have it.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Checks a component, compiles it, and keeps it under a name of the shelf's owner. A peer's ceiling bounds what it may import; the
/// machine's own user has none.
pub(super) fn admit_guest(
    guests: &Guests,
    shelf: &Shelf,
    ceiling: Option<&Ceiling>,
    name: &str,
    bytes: &[u8],
) -> Result<Manifest, AdmitError> {
    let manifest = Guests::inspect(name, bytes)?;
    if let Some(ceiling) = ceiling {
        fits(&manifest, ceiling)?;
    }
    // Compiled before it is kept: what cannot run is not taken.
    guests.compile(name, bytes.to_vec())?;
    Ok(shelf.add(name, bytes)?)
}

fn fits(manifest: &Manifest, ceiling: &Ceiling) -> Result<(), Refusal> {
    if let Some(missing) = manifest.impossible().first() {
        let what = format!("no circle can give it {}: {}", missing.interface, missing.remedy);
        return Err(Refusal::new(format!("{}.deploy", ceiling.rule), GateError::Invalid(what)));
    }
    for gate in manifest.gates() {
        let is_granted = ceiling.gates.contains(gate);
        let may_be_near = ceiling.gates_at_caller && RuntimeGate::named(gate).is_none();
        if RuntimeGate::named(gate) != Some(RuntimeGate::Done) && !is_granted && !may_be_near {
            let known = ceiling.gates.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            let what = format!("it imports the gate `{gate}`, and this host grants {known}");
            return Err(Refusal::new(format!("{}.gates", ceiling.rule), GateError::Denied(what)));
        }
    }
    Ok(())
}
