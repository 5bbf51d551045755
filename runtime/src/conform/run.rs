//! From a file to a report.
#![expect(clippy::disallowed_methods, reason = "the suite is read here")]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use crate::ports::MediumFactory;

use super::act::act;
use super::check::{Checked, check};
use super::report::{CaseReport, Deviation, Known, Report};
use super::setup::Stage;
use super::suite::{Case, SuiteError, parse};

/// 16 MiB. Bounds a suite that is read from a file.
const SUITE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Which cases are run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only those of this rule. Default: all.
    pub filter: Option<String>,
}

/// Runs the suite in a file. `media` are those of the host that is judged.
///
/// # Errors
/// A file that cannot be read, or a case that is not in the format. A case that fails is no error: it is in the report.
pub async fn run(file: &Path, media: Arc<dyn MediumFactory>, options: &Options) -> Result<Report, SuiteError> {
    let name = file.display().to_string();
    let failed = |source| SuiteError::Read { file: name.clone(), source };
    let mut text = String::new();
    std::fs::File::open(file).map_err(failed)?.take(SUITE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > SUITE_BYTES_MAX {
        return Err(SuiteError::Size { file: name, bytes_max: SUITE_BYTES_MAX });
    }
    run_text(&text, media, options).await
}

/// Runs a suite.
///
/// # Errors
/// A case that is not in the format.
pub async fn run_text(text: &str, media: Arc<dyn MediumFactory>, options: &Options) -> Result<Report, SuiteError> {
    let mut cases = Vec::new();
    let mut deviations: BTreeMap<Known, usize> = BTreeMap::new();
    for case in parse(text)? {
        if options.filter.as_ref().is_some_and(|rule| !rule.eq_ignore_ascii_case(&case.rule)) {
            continue;
        }
        let checked = run_case(&case, Arc::clone(&media)).await;
        for known in checked.deviations {
            *deviations.entry(known).or_default() += 1;
        }
        cases.push(CaseReport { rule: case.rule, name: case.name, passed: checked.failures.is_empty(), failures: checked.failures });
    }
    let deviations = deviations
        .into_iter()
        .map(|(known, cases)| Deviation { what: known.what().to_owned(), reason: known.reason().to_owned(), cases })
        .collect();
    let passed = cases.iter().filter(|case| case.passed).count();
    Ok(Report { failed: cases.len() - passed, passed, cases, deviations })
}

async fn run_case(case: &Case, media: Arc<dyn MediumFactory>) -> Checked {
    match Stage::new(&case.setup, media).await {
        Ok(mut stage) => {
            let ran = act(&mut stage, &case.setup, &case.action).await;
            check(case, &stage, &ran)
        }
        Err(error) => Checked { failures: vec![error.to_string()], ..Checked::default() },
    }
}
