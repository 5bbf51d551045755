//! The one binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    cantrip_runtime::cli::run()
}
