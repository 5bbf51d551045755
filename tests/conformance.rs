//! The published suite, where it is at hand, and our own.
#![expect(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, clippy::print_stderr, reason = "a test may stop, look around and talk")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use cantrip_runtime::adapters::wasm::{Javascript, Sandbox};
use cantrip_runtime::conform::{Options, Report, run};

fn media() -> Arc<Javascript> {
    static MEDIA: OnceLock<Arc<Javascript>> = OnceLock::new();
    Arc::clone(MEDIA.get_or_init(|| Arc::new(Javascript::new(Sandbox::new(64, None).expect("a sandbox")))))
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").to_owned()
}

async fn report(file: &Path) -> Report {
    let report = run(file, media(), &Options::default()).await;
    report.unwrap_or_else(|error| panic!("{}: {}", file.display(), chain(&error)))
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// The rules whose published cases need a server for the agent client protocol.
const PROTOCOL_CASES: [&str; 3] = ["PROD-6", "PROD-7", "ENTITY-5"];

#[tokio::test]
async fn the_published_suite_holds_but_for_the_protocol_server() {
    let named = std::env::var_os("CANTRIP_SUITE").map(PathBuf::from);
    let file = named.unwrap_or_else(|| top().join("../shared/conformance/tests.yaml"));
    if !file.exists() {
        eprintln!("the published suite is not at {}; name it in CANTRIP_SUITE", file.display());
        return;
    }
    let report = report(&file).await;
    eprintln!("{report}");
    let failed: Vec<&str> = report.cases.iter().filter(|case| !case.passed).map(|case| case.rule.as_str()).collect();
    assert_eq!(failed, PROTOCOL_CASES);
    assert_eq!((report.passed, report.failed), (68, 3));
}
