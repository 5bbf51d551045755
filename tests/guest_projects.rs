//! Projects of guests as a user has them: made, built, inspected and cast by the command, in three languages; and the built
//! guests of this repository against their sources.
//!
//! They need compilers for WebAssembly, so they run where `CANTRIP_WASM_TESTS=required` says that there is one, as in
//! `.ci/run`. Node.js and Python are tried where they are there and their packages can be installed.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the tests may stop, run compilers, and say what they left out"
)]

mod guest_support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

use serde_json::Value;

/// Compilers of WebAssembly are large: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn is_required(test: &str) -> bool {
    let required = std::env::var("CANTRIP_WASM_TESTS").as_deref() == Ok("required");
    if !required {
        println!("skipped: {test} needs CANTRIP_WASM_TESTS=required and compilers for WebAssembly");
    }
    required
}

/// Outside of the repository's folder, so that no project lies inside of its workspace; kept, so that the next run is fast.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest-projects")
}

/// An environment of Python's, which every command finds first.
fn python() -> PathBuf {
    target().join("python")
}

/// A command without what cargo has set for this test.
fn clean(program: impl AsRef<std::ffi::OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", format!("{}:{}", python().join("bin").display(), std::env::var("PATH").unwrap_or_default()));
    let inherited = std::env::vars().map(|(name, _)| name);
    for name in inherited.filter(|name| name.starts_with("CARGO_") && name != "CARGO_HOME" || name == "RUSTFLAGS") {
        command.env_remove(name);
    }
    command.current_dir(folder).env("CARGO_TARGET_DIR", target()).env("CANTRIP_DATA", target().join("data"));
    command
}

fn cantrip(folder: &Path, arguments: &[&str]) -> Output {
    clean(env!("CARGO_BIN_EXE_cantrip-runtime"), folder).args(arguments).output().unwrap()
}

fn succeeded(what: &str, output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{what}\n{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

/// Makes, tests, builds, inspects and casts a project.
fn check_project(language: &str, prepare: impl FnOnce(&Path) -> Result<(), String>, test: &[&str]) {
    let _alone = ALONE.lock();
    let parent = tempfile::tempdir().unwrap();
    succeeded("new", &cantrip(parent.path(), &["new", "my-reader", "--lang", language]));
    let folder = parent.path().join("my-reader");
    if let Err(reason) = prepare(&folder) {
        println!("skipped: the {language} project, because {reason}");
        return;
    }
    let (program, arguments) = test.split_first().unwrap();
    succeeded("test", &clean(program, &folder).args(arguments).output().unwrap());
    let built = succeeded("build", &cantrip(parent.path(), &["build", "my-reader"]));
    assert!(built.ends_with("my-reader.wasm"), "{built}");
    let inspected = succeeded("inspect", &cantrip(&folder, &["inspect", "my-reader.wasm", "--json"]));
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected["gates"], serde_json::json!(["list_dir", "read_file"]), "{inspected}");
    assert_eq!(inspected["refused"], serde_json::json!([]));
    let said =
        succeeded("cast", &cantrip(&folder, &["cast", "--quiet", "--scratch", "cantrip.toml", "Summarise docs/"]));
    assert_eq!(
        said,
        "welcome.md: A guest sees the files below the roots that its cantrip file names, and nothing else."
    );
    let failed = cantrip(&folder, &["cast", "--quiet", "--scratch", "cantrip.toml", "Summarise elsewhere/"]);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert!(String::from_utf8_lossy(&failed.stderr).contains("elsewhere"), "{failed:?}");
}

#[test]
fn a_rust_project_builds_as_it_is() {
    if is_required("a_rust_project_builds_as_it_is") {
        check_project("rust", |_| Ok(()), &["cargo", "test", "--quiet"]);
    }
}

fn ran(command: &mut Command, what: &str) -> Result<(), String> {
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{what} failed: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{what} could not be started: {error}")),
    }
}

#[test]
fn a_javascript_project_builds_as_it_is() {
    if !is_required("a_javascript_project_builds_as_it_is") {
        return;
    }
    let install = |folder: &Path| {
        ran(clean("npm", folder).args(["install", "--no-audit", "--no-fund", "--no-package-lock"]), "npm install")
    };
    check_project("javascript", install, &["npm", "test"]);
}

#[test]
fn a_python_project_builds_as_it_is() {
    if !is_required("a_python_project_builds_as_it_is") {
        return;
    }
    check_project("python", install_python, &["python3", "-m", "unittest"]);
}

fn install_python(folder: &Path) -> Result<(), String> {
    let pip = python().join("bin/pip");
    if !pip.exists() {
        ran(clean("python3", folder).args(["-m", "venv"]).arg(python()), "python3 -m venv")?;
    }
    ran(clean(&pip, folder).args(["install", "--quiet", "-r", "requirements.txt"]), "pip install")
}

#[test]
fn a_medium_in_python_runs_what_a_model_writes() {
    if !is_required("a_medium_in_python_runs_what_a_model_writes") {
        return;
    }
    let _alone = ALONE.lock();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/python-medium");
    if let Err(reason) = install_python(&folder) {
        println!("skipped: the medium in Python, because {reason}");
        return;
    }
    succeeded("build", &cantrip(&folder, &["build", "."]));
    let said = succeeded(
        "cast",
        &cantrip(&folder, &["cast", "--quiet", "--scratch", "--json", "cantrip.toml", "Look around"]),
    );
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["result"], serde_json::json!({ "title": "cantrip-runtime", "python_is_here": true }), "{said}");
    assert_eq!(said["spent"]["turns"], 3);
}

/// Builds a crate of this repository, and returns the component.
fn from_source(folder: &str) -> Vec<u8> {
    let output = target().join("from-source.wasm");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let mut command = clean(env!("CARGO_BIN_EXE_cantrip-runtime"), &folder);
    command.arg("build").arg(&folder).arg("--output").arg(&output);
    succeeded("build", &command.output().unwrap());
    std::fs::read(output).unwrap()
}

/// A compiler of another version gives other bytes, so it is not the digest that is compared: what a guest may do is its
/// imports, and what it does is tried.
fn check_same(prebuilt: &[u8], source: &[u8]) {
    let of = |bytes| cantrip_runtime::adapters::wasm::Guests::inspect("guest", bytes).unwrap();
    let (prebuilt, source) = (of(prebuilt), of(source));
    assert_eq!(
        (&prebuilt.imports, &prebuilt.exports, prebuilt.shape),
        (&source.imports, &source.exports, source.shape)
    );
    println!("prebuilt {}, from source {}", prebuilt.digest, source.digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_built_guests_are_what_their_sources_build() {
    if !is_required("the_built_guests_are_what_their_sources_build") {
        return;
    }
    let (reader, everything, counter) = tokio::task::spawn_blocking(|| {
        let _alone = ALONE.lock();
        (from_source("examples/reader"), from_source("tests/guests/everything"), from_source("tests/guests/counter"))
    })
    .await
    .unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    check_same(&std::fs::read(folder.join("examples/reader/reader.wasm")).unwrap(), &reader);
    check_same(&guest_support::built("everything"), &everything);
    check_same(&guest_support::built("counter"), &counter);
    let root = cantrip_runtime::Root::open(&folder).unwrap();
    let guest = guest_support::guests().load("reader", reader).unwrap();
    let cantrip =
        guest_support::builder(guest, &guest_support::wards()).gate(cantrip_runtime::builtin::read_file(root));
    let ran = guest_support::cast(cantrip, "Read README.md").await;
    let first = ran.outcome.result.unwrap();
    assert!(first.as_str().unwrap().starts_with("Runs agents whose every action crosses"), "{first}");
}
