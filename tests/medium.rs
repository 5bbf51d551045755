//! The committed interpreter is what its source builds.
//!
//! Needs a wasm toolchain, so it runs where `CANTRIP_WASM_TESTS=required` says that there is one, as in `.ci/run`.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a test may stop, and runs the build script")]

use std::path::Path;
use std::process::Command;

#[test]
fn the_committed_javascript_medium_is_what_its_source_builds() {
    if std::env::var("CANTRIP_WASM_TESTS").as_deref() != Ok("required") {
        println!(
            "skipped: the_committed_javascript_medium_is_what_its_source_builds needs CANTRIP_WASM_TESTS=required and a wasm toolchain"
        );
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("media/javascript/build");
    // The build has a target folder and flags of its own.
    let output = Command::new(script)
        .arg("--check")
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS")
        .output()
        .expect("the build script runs");
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
