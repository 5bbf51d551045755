//! Reads out of a component what it imports and exports, without compiling or running any of it.

use sha2::{Digest, Sha256};
use thiserror::Error;
use wasmparser::component_types::{ComponentDefinedType, ComponentEntityType, ComponentValType};
use wasmparser::types::TypesRef;
use wasmparser::{Parser, Payload, PrimitiveValType, Validator, WasmFeatures};

use crate::domain::guest::{Import, Manifest, Shape};
use crate::domain::limits::{GUEST_BYTES_MAX, GUEST_NAME_CHARS_MAX};

/// Why some bytes are no guest.
#[derive(Debug, Error)]
pub enum GuestError {
    /// Larger than any guest is.
    #[error("the guest has {bytes} bytes, and the limit is {GUEST_BYTES_MAX}")]
    Size {
        /// How many.
        bytes: u64,
    },
    /// Something else.
    #[error("this is no WebAssembly: it begins with {beginning}")]
    NotWasm {
        /// The first bytes.
        beginning: String,
    },
    /// Machine code. It is never taken from anybody.
    #[error(
        "this is compiled code and not WebAssembly: a runtime compiles for itself, and takes no machine code from anybody"
    )]
    Compiled,
    /// A module, not a component.
    #[error("this is a core module and not a component: build it for wasm32-wasip2, or with `cantrip-runtime build`")]
    CoreModule,
    /// Damaged, or of a proposal that is not taken.
    #[error("the component is not valid at byte {offset}: {what}")]
    Invalid {
        /// Where.
        offset: usize,
        /// Why.
        what: String,
    },
    /// Compiling it would take too much.
    #[error("the component has more than {max} {what}, and no more are compiled")]
    Bulk {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        max: u64,
    },
    /// Neither world.
    #[error(
        "the component exports {found}, and a guest exports `run: func(intent: string) -> result<json, error>`, `step` or `evaluate` (see guest-sdk/wit)"
    )]
    NoWorld {
        /// What it exports.
        found: String,
    },
    /// More than one world at once.
    #[error("the component exports {0}, and a guest has exactly one of `run`, `step` and `evaluate`")]
    SeveralWorlds(String),
    /// An export of another type.
    #[error("the component's export `{0}` has another type than the world says (see guest-sdk/wit)")]
    Signature(&'static str),
    /// A name that is none.
    #[error(
        "`{0}` is no name for a guest: letters, digits, `-` and `_`, at most {GUEST_NAME_CHARS_MAX}, a letter first"
    )]
    Name(String),
    /// The engine does not take it.
    #[error("the component could not be compiled")]
    Compile(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Whether a guest may be called so: the name of a medium is shown to models as a tool's.
pub(super) fn check_name(name: &str) -> Result<(), GuestError> {
    let fits = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.len() <= GUEST_NAME_CHARS_MAX
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if fits { Ok(()) } else { Err(GuestError::Name(name.to_owned())) }
}

/// `sha256:` and the hash of some bytes.
pub(super) fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        // Writing into a String cannot fail.
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

/// What a component says about itself. Everything in it is validated.
#[expect(clippy::wildcard_enum_match_arm, reason = "a format that grows, of which this reads a few parts")]
pub(super) fn read(name: &str, bytes: &[u8]) -> Result<Manifest, GuestError> {
    check_name(name)?;
    let length = bytes.len() as u64;
    if length > GUEST_BYTES_MAX {
        return Err(GuestError::Size { bytes: length });
    }
    if bytes.starts_with(b"\x7fELF") {
        return Err(GuestError::Compiled);
    }
    if !bytes.starts_with(b"\0asm") {
        let beginning: String = bytes.iter().take(8).flat_map(|byte| byte.escape_ascii()).map(char::from).collect();
        return Err(GuestError::NotWasm { beginning: format!("`{beginning}`") });
    }
    if Parser::is_core_wasm(bytes) {
        return Err(GuestError::CoreModule);
    }
    let invalid = |error: wasmparser::BinaryReaderError| GuestError::Invalid {
        offset: error.offset(),
        what: error.message().to_owned(),
    };
    let types = Validator::new_with_features(WasmFeatures::default()).validate_all(bytes).map_err(invalid)?;
    super::bulk::check(bytes)?;
    let types = types.as_ref();
    let (mut imports, mut exports, mut depth) = (Vec::new(), Vec::new(), 0_usize);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(invalid)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    let name = import.map_err(invalid)?.name.name;
                    // A world names the types that its own functions have; there is nothing behind them.
                    let item = types.component_item_for_import(name).map(|item| item.ty);
                    if matches!(item, Some(ComponentEntityType::Type { .. })) {
                        continue;
                    }
                    imports.push(Import { interface: name.to_owned(), functions: functions(types, name) });
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export.map_err(invalid)?.name.name.to_owned());
                }
            }
            // Everything else is the validator's affair.
            _ => {}
        }
    }
    let shape = shape(types, &exports)?;
    Ok(Manifest { name: name.to_owned(), digest: digest(bytes), bytes: length, shape, imports, exports })
}

/// The functions of an imported interface; none where something else is imported.
#[expect(clippy::indexing_slicing, reason = "an id of the validator's types is an index into them")]
fn functions(types: TypesRef<'_>, import: &str) -> Vec<String> {
    match types.component_item_for_import(import).map(|item| item.ty) {
        Some(ComponentEntityType::Instance(id)) => types[id]
            .exports
            .iter()
            .filter(|(_, kind)| matches!(kind.ty, ComponentEntityType::Func(_)))
            .map(|(name, _)| name.clone())
            .collect(),
        _ => Vec::new(),
    }
}

#[expect(clippy::indexing_slicing, reason = "an id of the validator's types is an index into them")]
fn shape(types: TypesRef<'_>, exports: &[String]) -> Result<Shape, GuestError> {
    let shapes = [Shape::Run, Shape::Steps, Shape::Medium];
    let found: Vec<Shape> = shapes.into_iter().filter(|it| exports.iter().any(|name| name == it.function())).collect();
    let list = || if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
    let shape = match found.as_slice() {
        [one] => *one,
        [] => return Err(GuestError::NoWorld { found: list() }),
        _ => return Err(GuestError::SeveralWorlds(list())),
    };
    let takes_text = match types.component_item_for_export(shape.function()).map(|item| item.ty) {
        Some(ComponentEntityType::Func(id)) => {
            let function = &types[id];
            let is_result = match function.result {
                Some(ComponentValType::Type(id)) => matches!(types[id], ComponentDefinedType::Result { .. }),
                Some(ComponentValType::Primitive(_)) | None => false,
            };
            let is_text =
                |kind: &ComponentValType| matches!(kind, ComponentValType::Primitive(PrimitiveValType::String));
            let takes = match function.params.as_ref() {
                [(_, kind)] => shape == Shape::Steps || is_text(kind),
                _ => false,
            };
            takes && is_result && !function.async_
        }
        _ => false,
    };
    if takes_text { Ok(shape) } else { Err(GuestError::Signature(shape.function())) }
}
