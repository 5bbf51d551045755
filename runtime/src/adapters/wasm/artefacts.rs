//! Compiled code, kept by the hash of what it was compiled from: nothing is ever compiled twice.
//!
//! Loading machine code is the one thing in this project that trusts bytes. They are only taken from a folder that this
//! runtime alone writes (mode 0700), only under the name of what they were compiled from, and only if they are as it was
//! written down beside them, in the very file that was written then: a folder from elsewhere brings no machine code with it.

use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use thiserror::Error;
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use crate::adapters::{private, reading};
use crate::domain::limits::{ARTEFACT_BYTES_MAX, NOTE_BYTES_MAX};

/// Why code could not be had.
#[derive(Debug, Error)]
pub enum ArtefactError {
    /// The code is no WebAssembly that this engine takes.
    #[error("the code could not be compiled")]
    Compile(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Collects what a compatibility hash is made of into one that is the same in every process.
struct Blake(blake3::Hasher);

impl Hasher for Blake {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

fn key(engine: &Engine, wasm: &[u8]) -> String {
    let mut hasher = Blake(blake3::Hasher::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.0.update(wasm);
    hasher.0.finalize().to_hex().to_string()
}

/// The two kinds of compiled code.
trait Compiled: Sized {
    fn compile(engine: &Engine, wasm: &[u8]) -> wasmtime::Result<Self>;
    fn precompile(engine: &Engine, wasm: &[u8]) -> wasmtime::Result<Vec<u8>>;
    /// Loads what `precompile` has made.
    ///
    /// # Safety
    /// The file must hold nothing else than what this engine's `precompile` has returned.
    #[expect(unsafe_code, reason = "loading machine code is what a cache of compiled code is for")]
    unsafe fn deserialize(engine: &Engine, path: &Path) -> wasmtime::Result<Self>;
}

impl Compiled for Module {
    fn compile(engine: &Engine, wasm: &[u8]) -> wasmtime::Result<Self> {
        // From bytes alone: text is for people, and never taken from anybody else.
        Self::from_binary(engine, wasm)
    }

    fn precompile(engine: &Engine, wasm: &[u8]) -> wasmtime::Result<Vec<u8>> {
        engine.precompile_module(wasm)
    }

    #[expect(unsafe_code, reason = "see the trait")]
    unsafe fn deserialize(engine: &Engine, path: &Path) -> wasmtime::Result<Self> {
        // SAFETY: the caller vouches for the file.
        unsafe { Self::deserialize_file(engine, path) }
    }
}

impl Compiled for Component {
    fn compile(engine: &Engine, wasm: &[u8]) -> wasmtime::Result<Self> {
        Self::from_binary(engine, wasm)
    }

    fn precompile(engine: &Engine, wasm: &[u8]) -> wasmtime::Result<Vec<u8>> {
        engine.precompile_component(wasm)
    }

    #[expect(unsafe_code, reason = "see the trait")]
    unsafe fn deserialize(engine: &Engine, path: &Path) -> wasmtime::Result<Self> {
        // SAFETY: the caller vouches for the file.
        unsafe { Self::deserialize_file(engine, path) }
    }
}

/// The module of some WebAssembly: from the folder if it is there and sound, else compiled and put there.
///
/// A folder that cannot be read or written costs time and nothing else.
pub(super) fn module(engine: &Engine, wasm: &[u8], folder: Option<&Path>) -> Result<Module, ArtefactError> {
    compiled(engine, wasm, folder)
}

/// The same for a component.
pub(super) fn component(engine: &Engine, wasm: &[u8], folder: Option<&Path>) -> Result<Component, ArtefactError> {
    compiled(engine, wasm, folder)
}

/// One compilation after the other: each takes all cores and much memory, and who asks for the same at once waits for the first.
static COMPILING: Mutex<()> = Mutex::new(());

fn compiled<T: Compiled>(engine: &Engine, wasm: &[u8], folder: Option<&Path>) -> Result<T, ArtefactError> {
    let compile = || T::compile(engine, wasm).map_err(|error| ArtefactError::Compile(error.into()));
    let turn = || COMPILING.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(folder) = folder else {
        let _turn = turn();
        return compile();
    };
    let path = folder.join(format!("{}.cwasm", key(engine, wasm)));
    if let Some(found) = load(engine, &path) {
        return Ok(found);
    }
    let _turn = turn();
    // Somebody else may have compiled it in the meantime.
    if let Some(found) = load(engine, &path) {
        return Ok(found);
    }
    tracing::debug!(path = %path.display(), "compiling");
    let bytes = T::precompile(engine, wasm).map_err(|error| ArtefactError::Compile(error.into()))?;
    if let Err(error) = keep(folder, &path, &bytes) {
        tracing::warn!(path = %path.display(), %error, "compiled code could not be kept; it is compiled again next time");
        return compile();
    }
    load(engine, &path).map_or_else(compile, Ok)
}

fn digest_path(path: &Path) -> PathBuf {
    path.with_extension("blake3")
}

fn load<T: Compiled>(engine: &Engine, path: &Path) -> Option<T> {
    let expected = reading::text(&digest_path(path), NOTE_BYTES_MAX).ok()?;
    let bytes = reading::bytes(path, ARTEFACT_BYTES_MAX).ok()?;
    let actual = seal(&bytes, &fs::symlink_metadata(path).ok()?);
    if expected.trim() != actual {
        tracing::warn!(path = %path.display(), "compiled code is damaged, or was made elsewhere; compiling again");
        return None;
    }
    deserialize(engine, path)
}

#[expect(unsafe_code, reason = "loading machine code is what a cache of compiled code is for")]
fn deserialize<T: Compiled>(engine: &Engine, path: &Path) -> Option<T> {
    // SAFETY: the file was written by `keep` in this or an earlier process of this runtime, from the output of
    // `precompile`; `load` has just compared it with the seal that `keep` wrote beside it, which fits this very file and no
    // copy of it. The folder is ours alone (mode 0700), so who could replace both files here already is this user.
    let found = unsafe { T::deserialize(engine, path) };
    found
        .inspect_err(
            |error| tracing::warn!(path = %path.display(), %error, "compiled code does not fit; compiling again"),
        )
        .ok()
}

/// What is written down of compiled code: its hash, with the number and the birth of the very file that it is in. A folder that
/// was handed in, or copied, has other files, so that no code in it is taken for this machine's own.
fn seal(compiled: &[u8], file: &fs::Metadata) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("cantrip-runtime 2026 compiled code and the file that it is in");
    let born = file.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    // Where the file system does not know of births, the last change of the file's own state has to do.
    let born = born.map_or_else(
        || i128::from(file.ctime()) << 32 | i128::from(file.ctime_nsec()),
        |it| i128::try_from(it.as_nanos()).unwrap_or_default(),
    );
    hasher.update(&file.ino().to_be_bytes()).update(&born.to_be_bytes()).update(compiled);
    hasher.finalize().to_hex().to_string()
}

fn keep(folder: &Path, path: &Path, compiled: &[u8]) -> std::io::Result<()> {
    private::make_folder(folder)?;
    // The seal comes last: without it the code is not looked at.
    private::replace(path, compiled)?;
    private::replace(&digest_path(path), seal(compiled, &fs::symlink_metadata(path)?).as_bytes())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "makes the files that are read")]

    use super::*;

    #[test]
    fn a_damaged_artefact_is_compiled_again_and_never_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::new(&super::super::config::interpreters(10, false)).unwrap();
        let wasm = wat::parse_str("(module (func (export \"f\")))").unwrap();
        module(&engine, &wasm, Some(folder.path())).unwrap();
        let path = folder.path().join(format!("{}.cwasm", key(&engine, &wasm)));
        let sound = fs::read(&path).unwrap();
        let mut damaged = sound.clone();
        let middle = damaged.len() / 2;
        damaged.get_mut(middle).into_iter().for_each(|byte| *byte ^= 1);
        fs::write(&path, &damaged).unwrap();
        assert!(load::<Module>(&engine, &path).is_none());
        module(&engine, &wasm, Some(folder.path())).unwrap();
        assert_eq!(fs::read(&path).unwrap(), sound);
    }

    /// A kept artefact: its folder, its path and the engine.
    fn kept() -> (tempfile::TempDir, PathBuf, Engine) {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::new(&super::super::config::interpreters(10, false)).unwrap();
        let wasm = wat::parse_str("(module (func (export \"f\")))").unwrap();
        module(&engine, &wasm, Some(folder.path())).unwrap();
        let path = folder.path().join(format!("{}.cwasm", key(&engine, &wasm)));
        assert!(load::<Module>(&engine, &path).is_some());
        (folder, path, engine)
    }

    #[test]
    fn machine_code_that_came_with_its_folder_is_not_loaded() {
        let (folder, path, engine) = kept();
        let copy = folder.path().join("copy");
        fs::create_dir(&copy).unwrap();
        let copied = copy.join(path.file_name().unwrap());
        fs::copy(&path, &copied).unwrap();
        fs::copy(digest_path(&path), digest_path(&copied)).unwrap();
        assert!(load::<Module>(&engine, &copied).is_none(), "its bytes are the same, and it is another file");
        let plain = blake3::hash(&fs::read(&path).unwrap()).to_hex();
        fs::write(digest_path(&path), plain.as_bytes()).unwrap();
        assert!(load::<Module>(&engine, &path).is_none(), "a hash that anybody can make says nothing");
    }

    #[test]
    fn an_artefact_that_is_no_file_or_too_long_is_compiled_again() {
        let (_folder, path, engine) = kept();
        fs::File::create(&path).unwrap().set_len(ARTEFACT_BYTES_MAX + 1).unwrap();
        assert!(load::<Module>(&engine, &path).is_none());
        fs::remove_file(&path).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap();
        assert!(load::<Module>(&engine, &path).is_none());
    }

    #[test]
    fn wasm_of_nobody_is_refused() {
        let engine = Engine::new(&super::super::config::interpreters(10, false)).unwrap();
        assert!(matches!(module(&engine, b"\0asm nonsense", None), Err(ArtefactError::Compile(_))));
    }
}
