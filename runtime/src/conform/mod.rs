//! Runs a suite of the Cantrip specification through the real parts.
//!
//! Owns the suite's format and the comparison of what happened with what was expected. Implements nothing of the product
//! again: cantrips are built, cast, forked, judged and exported through the doors that everybody uses, so a change to the
//! product can fail a case. No case is treated by its name.

mod act;
mod check;
mod setup;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::adapters::reading;
use crate::adapters::wasm::{Javascript, Sandbox, SandboxError};
use crate::domain::limits::{INSTANCES_MAX_DEFAULT, SUITE_BYTES_MAX};

/// How a suite is run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only the cases of this rule.
    pub filter: Option<String>,
    /// The folder for compiled code; without one, the interpreter is compiled once for the run.
    pub artefacts: Option<PathBuf>,
}

/// Why a suite could not be run.
#[derive(Debug, Error)]
pub enum ConformError {
    /// The file cannot be read.
    #[error("the suite {} cannot be read", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is no suite.
    #[error("{} is no suite: {what}", file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// There is no sandbox on this machine.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

/// One case of a suite. Every other key is an error.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    rule: String,
    name: String,
    #[serde(default, rename = "description")]
    _description: Option<String>,
    setup: BTreeMap<String, Value>,
    action: Value,
    expect: BTreeMap<String, Value>,
}

/// What became of one case.
#[derive(Debug, Clone, Serialize)]
pub struct CaseReport {
    /// The rule that it is about.
    pub rule: String,
    /// What it is called.
    pub name: String,
    /// Why it failed; nothing if it passed.
    pub failure: Option<String>,
}

/// What became of a suite.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Its cases, in their order.
    pub cases: Vec<CaseReport>,
    /// Where the run reads the suite in a way that its text does not say, and why.
    pub deviations: Vec<Deviation>,
    /// How many passed.
    pub passed: usize,
    /// How many failed.
    pub failed: usize,
}

/// One way in which a run reads the suite.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Deviation {
    /// What is done.
    pub what: &'static str,
    /// Why.
    pub why: &'static str,
}

const DEVIATIONS: [Deviation; 7] = [
    Deviation {
        what: "a cast without a declared medium converses; construction alone demands one, as its last check",
        why: "most cases declare none and are cast, and one demands that this is an error (MEDIUM-1)",
    },
    Deviation {
        what: "messages are compared without the circle's presentation",
        why: "it is given as tools, on every question (CIRCLE-11)",
    },
    Deviation {
        what: "the opened entry is not a turn",
        why: "it is the root context (IDENTITY-4), and the cases count from the first utterance",
    },
    Deviation {
        what: "a turn of code that casts a child is listed as two, with the child's between them",
        why: "COMP-5 and LOOM-8 count its continuation as the parent's next turn",
    },
    Deviation {
        what: "a truncation is flagged on the last turn that was taken",
        why: "a turn that a ward prevented does not exist",
    },
    Deviation {
        what: "a model that calls a gate in a code circle is understood",
        why: "gates are in the action space; children of code circles in the suite do that",
    },
    Deviation {
        what: "an ephemeral result is replaced in the very next question",
        why: "the rule's text lets it stay for a turn; the case for it does not",
    },
];

impl Report {
    /// The report for people, line by line.
    pub fn lines(&self) -> Vec<String> {
        let case = |case: &CaseReport| match &case.failure {
            None => format!("ok      {:<11} {}", case.rule, case.name),
            Some(why) => format!("FAILED  {:<11} {}: {why}", case.rule, case.name),
        };
        let mut lines: Vec<String> = self.cases.iter().map(case).collect();
        lines.extend([String::new(), "deviations".to_owned()]);
        for Deviation { what, why } in &self.deviations {
            lines.extend([format!("  {what}"), format!("    because {why}")]);
        }
        lines.extend([String::new(), format!("{} passed, {} failed", self.passed, self.failed)]);
        lines
    }
}

/// Runs the cases of a file, one after the other.
///
/// # Errors
/// A file that is no suite, or a machine without room for the sandbox. A failed case is no error.
pub async fn run(file: &Path, options: Options) -> Result<Report, ConformError> {
    let cases = read(file)?;
    let media = Arc::new(Javascript::new(Sandbox::new(INSTANCES_MAX_DEFAULT, options.artefacts)?));
    let mut reports = Vec::with_capacity(cases.len());
    for case in cases.into_iter().filter(|case| options.filter.as_ref().is_none_or(|rule| *rule == case.rule)) {
        let failure = run_case(&case, &media).await.err();
        reports.push(CaseReport { rule: case.rule, name: case.name, failure });
    }
    let failed = reports.iter().filter(|case| case.failure.is_some()).count();
    Ok(Report { passed: reports.len() - failed, failed, cases: reports, deviations: DEVIATIONS.to_vec() })
}

fn read(file: &Path) -> Result<Vec<Case>, ConformError> {
    let broken = |source| ConformError::Read { file: file.to_owned(), source };
    let format = |what: String| ConformError::Format { file: file.to_owned(), what };
    let text = reading::text(file, SUITE_BYTES_MAX).map_err(|error| {
        let is_long = error.kind() == std::io::ErrorKind::FileTooLarge;
        if is_long { format(error.to_string()) } else { broken(error) }
    })?;
    serde_saphyr::from_str(&text).map_err(|error| format(error.to_string()))
}

async fn run_case(case: &Case, media: &Arc<Javascript>) -> Result<(), String> {
    let stage = setup::Stage::new(&case.setup, Arc::clone(media)).await?;
    let played = act::play(&stage, &case.action).await?;
    check::check(&stage, &played, &case.expect)
}
