//! What a run says: a line for each case, the deviations from the suite's text with their reasons, and the count.

use std::fmt;

use serde::Serialize;

/// The places where this runtime reads the suite's text in a certain way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Known {
    MediumDefaults,
    PresentationInTools,
    RootIsNoTurn,
    Continuation,
    FlagOnLastTurn,
    EphemeralAtOnce,
    ChildInheritsGates,
    FractionsOfMilliseconds,
    LogsAreWholeMessages,
}

impl Known {
    pub(super) const fn what(self) -> &'static str {
        match self {
            Self::MediumDefaults => "a cast without a declared medium is a conversation",
            Self::PresentationInTools => "the capability presentation is in the tools, not among the messages",
            Self::RootIsNoTurn => "the root record is not listed as a turn",
            Self::Continuation => "a code turn that cast children is listed as two turns",
            Self::FlagOnLastTurn => "terminated and truncated are flags of the last turn",
            Self::EphemeralAtOnce => "an ephemeral result is replaced in the context from the next question on",
            Self::ChildInheritsGates => "a child without a list of gates holds its parent's",
            Self::FractionsOfMilliseconds => "durations are in fractions of a millisecond",
            Self::LogsAreWholeMessages => "the log is the runtime's own log and every event but the pieces of a stream",
        }
    }

    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::MediumDefaults => "most cases declare none and expect to run, one expects an error: only construct_cantrip is strict",
            Self::PresentationInTools => "the rule allows it, and cases with exact messages leave no place for it",
            Self::RootIsNoTurn => "it is the entity's identity and circle; nobody has spoken yet",
            Self::Continuation => "COMP-5 and LOOM-8 list the parent's turn again after its child's",
            Self::FlagOnLastTurn => "the record has an entry of its own for the end; a turn that never was cannot carry it",
            Self::EphemeralAtOnce => "the rule's text says after the next turn, the case says before it; the loom has the whole result either way",
            Self::ChildInheritsGates => "the suite is silent on it; a list is exact",
            Self::FractionsOfMilliseconds => "the run's clock moves a microsecond a look, so that every run is the same",
            Self::LogsAreWholeMessages => "a secret can lie across two pieces; whoever watches a stream sees what the model says",
        }
    }
}

/// One case that was run.
#[derive(Debug, Clone, Serialize)]
pub struct CaseReport {
    /// The rule that it is about.
    pub rule: String,
    /// What it claims.
    pub name: String,
    /// Whether everything expected held.
    pub passed: bool,
    /// What did not.
    pub failures: Vec<String>,
}

/// A place where the run reads the suite's text in its own way.
#[derive(Debug, Clone, Serialize)]
pub struct Deviation {
    /// What it does.
    pub what: String,
    /// Why.
    pub reason: String,
    /// In how many cases it mattered.
    pub cases: usize,
}

/// What came of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The cases, in the order of the suite.
    pub cases: Vec<CaseReport>,
    /// Where the run reads the suite's text in its own way.
    pub deviations: Vec<Deviation>,
    /// How many passed.
    pub passed: usize,
    /// How many failed.
    pub failed: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for case in &self.cases {
            let CaseReport { rule, name, passed, failures } = case;
            if *passed {
                writeln!(out, "ok      {rule}  {name}")?;
            } else {
                writeln!(out, "FAILED  {rule}  {name} ({})", failures.join("; "))?;
            }
        }
        if !self.deviations.is_empty() {
            writeln!(out, "\nHow this runtime reads the suite's text where it can be read in several ways:")?;
            for Deviation { what, reason, cases } in &self.deviations {
                writeln!(out, "  - {what} ({cases} {}): {reason}", if *cases == 1 { "case" } else { "cases" })?;
            }
        }
        write!(out, "\n{} passed, {} failed", self.passed, self.failed)
    }
}
