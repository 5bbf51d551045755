//! The same file for another node: what is placed here is made here, everything else only named.

use std::path::Path;
use std::sync::Arc;

use super::{
    At, CantripFile, FileError, HeldGate, MediumEntry, ModelEntry, Source, UserSide, chain, entry, equip, held_gates,
    parse, read_toml, wards,
};
use crate::adapters::wasm::{Guests, ShelfError};
use crate::cli::config::ChosenModel;
use crate::domain::cantrip::Identity;
use crate::domain::circle::RuntimeGate;
use crate::domain::model::Sampling;
use crate::domain::remote::{CantripOrder, GateOrder, ModelOrder};
use crate::driver::RemoteCantrip;

/// Finds the bytes of a guest by what the file says and the folder that the file is in.
pub(in crate::cli) type GuestBytes<'a> = dyn Fn(&str, &Path) -> Result<(String, Vec<u8>), ShelfError> + 'a;

/// The provider of models that the node has under a name.
const HOST: &str = "host";

/// Reads a cantrip file for a cast on another node. It is judged as for a cast here: where it runs changes no key's meaning.
pub(in crate::cli) fn load_remote(
    file: &Path,
    guest: &GuestBytes<'_>,
    user: &UserSide<'_>,
) -> Result<RemoteCantrip, FileError> {
    let text = read_toml(file)?;
    let source = Source::closing(file, &text, user.closed);
    let parsed: CantripFile = parse(&source)?;
    super::judge(&source, user)?;
    let folder = super::folder_of(file);
    let (model, llm) = model(&parsed, &source, user)?;
    let circle = parsed.circle.into_inner();
    let mut gates = Vec::new();
    let mut here = Vec::new();
    for HeldGate { offset, name, place } in held_gates(circle.gates, &source)? {
        let at_caller = match place {
            At::Host => None,
            At::Caller if RuntimeGate::named(&name).is_some() => {
                let what = format!("the gate `{name}` runs where the entity runs: leave `at` out");
                return Err(source.wrong(offset, "circle.gates", what));
            }
            At::Caller => {
                let table = parsed.gate.iter().find(|(table, _)| *table.get_ref() == name).map(|(_, table)| table);
                let gate = equip(&name, table, &source, folder, offset)?;
                let spec = gate.spec().clone();
                here.push(gate);
                Some(spec)
            }
        };
        gates.push(GateOrder { name, at_caller });
    }
    let (medium, reference) = match (&parsed.guest, circle.medium.as_ref()) {
        (Some(table), _) => (None, Some((table.span().start, "guest.component", table.get_ref().component.clone()))),
        (None, None) => (None, None),
        (None, Some(medium)) => match medium.get_ref() {
            MediumEntry::Name(name) => (Some(name.clone()), None),
            MediumEntry::Guest(entry) => {
                (None, Some((medium.span().start, "circle.medium.guest", entry.guest.clone())))
            }
        },
    };
    let (reference, bytes) = match reference {
        None => (None, None),
        Some((at, key, named)) => match guest(&named, folder) {
            Ok((name, bytes)) => {
                let manifest = Guests::inspect(&name, &bytes);
                let manifest = manifest.map_err(|error| source.wrong(at, key, chain(&error)))?;
                (Some(manifest.reference()), Some((manifest.digest.clone(), bytes)))
            }
            // The node may have what this machine has not.
            Err(ShelfError::Unknown { .. }) => (Some(named), None),
            Err(error) => return Err(source.wrong(at, key, chain(&error))),
        },
    };
    let identity = parsed.identity;
    let sampling = Sampling {
        temperature: identity.temperature,
        top_p: identity.top_p,
        max_output_tokens: identity.max_output_tokens,
        reasoning_effort: identity.reasoning_effort,
    };
    let order = CantripOrder {
        identity: Identity::new(identity.system_prompt, sampling, identity.tool_choice),
        medium,
        guest: reference,
        gates,
        wards: wards("circle.wards", circle.wards, &source)?,
        folding: parsed.folding,
        model,
    };
    Ok(RemoteCantrip { order, gates: here, llm, guest: bytes })
}

type Model = (ModelOrder, Option<Arc<dyn crate::ports::Llm>>);

fn model(parsed: &CantripFile, source: &Source<'_>, user: &UserSide<'_>) -> Result<Model, FileError> {
    if let Some(chosen) = user.llm {
        return Ok(asked_here(chosen.clone()));
    }
    let Some(entry) = &parsed.llm else { return Ok((ModelOrder::AtHost(None), None)) };
    let config = match entry.get_ref() {
        // The user's own model is asked where the user is.
        ModelEntry::Named(_) => return entry::model("llm", entry, source, user).map(asked_here),
        ModelEntry::Table(config) => config,
    };
    if config.is_at_caller() {
        return entry::model("llm", entry, source, user).map(asked_here);
    }
    if config.is_scripted() {
        let what = "a script is a file of this machine: add `at = \"caller\"`, and the node asks it here";
        return Err(source.wrong(entry.span().start, "llm", what));
    }
    // The model is asked there, with that node's own settings and keys: only its name travels.
    let name = config.model.clone().or_else(|| (config.provider != HOST).then(|| config.provider.clone()));
    Ok((ModelOrder::AtHost(name), None))
}

fn asked_here(chosen: ChosenModel) -> Model {
    let llm = chosen.llm;
    let order = ModelOrder::AtCaller {
        name: llm.name().to_owned(),
        context_tokens: llm.context_tokens(),
        can_require_calls: llm.can_require_calls(),
    };
    (order, Some(llm))
}
