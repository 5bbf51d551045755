//! The published suite, where it is at hand, and our own.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test may stop, look around and talk"
)]

use std::path::{Path, PathBuf};

use cantrip_runtime::conform::{Options, Report, run};

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").to_owned()
}

async fn report(file: &Path) -> Report {
    let artefacts = Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("artefacts"));
    let report = run(file, Options { filter: None, artefacts }).await;
    report.unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The rules whose published cases need a server for the agent client protocol.
const PROTOCOL_CASES: [&str; 3] = ["PROD-6", "PROD-7", "ENTITY-5"];

#[tokio::test]
async fn the_published_suite_holds_but_for_the_protocol_server() {
    let named = std::env::var_os("CANTRIP_SUITE").map(PathBuf::from);
    let file = named.unwrap_or_else(|| top().join("../shared/conformance/tests.yaml"));
    if !file.exists() {
        eprintln!(
            "skipped: the_published_suite_holds_but_for_the_protocol_server needs the suite at {}, or its path in CANTRIP_SUITE",
            file.display()
        );
        return;
    }
    let report = report(&file).await;
    eprintln!("{report}");
    let failed: Vec<&str> =
        report.cases.iter().filter(|case| case.failure.is_some()).map(|case| case.rule.as_str()).collect();
    assert_eq!(failed, PROTOCOL_CASES);
    assert_eq!((report.passed, report.failed), (68, 3));
}
