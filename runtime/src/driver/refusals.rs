//! Log lines about what was refused, counted: a peer that is refused a thousand times a second costs one line a minute.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::limits::REFUSAL_SOURCES_MAX;

/// One minute between two lines about one source and one kind of refusal.
const LINE_EVERY: Duration = Duration::from_mins(1);
/// The source under which refusals are counted once too many sources are known.
const OTHERS: &str = "others";

/// Refusals of one source and one kind since the last line about them.
#[derive(Debug)]
struct Counted {
    told_at: Instant,
    untold: u64,
}

/// Counts refusals by who caused them and why, and says when a line is due.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<BTreeMap<(String, &'static str), Counted>>);

/// What is to be said of a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The peer or the address that caused it.
    pub source: String,
    /// Why it was refused, as a kind.
    pub kind: &'static str,
    /// How many times since the last line, this one included.
    pub times: u64,
}

impl Refusals {
    /// Nothing has been refused yet.
    pub const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// Notes a refusal and writes a line where one is due.
    pub fn note(&self, source: &(impl Display + ?Sized), kind: &'static str, what: &dyn Display) {
        let source = source.to_string();
        for Line { source: of, kind: why, times } in self.count(&source, kind, Instant::now()) {
            if of == source && why == kind {
                tracing::warn!(source = of, times, %what, "{why}");
            } else {
                tracing::warn!(source = of, times, "{why}");
            }
        }
    }

    /// Counts a refusal. Returns the lines that are due: about this one, and about others whose minute is over.
    pub fn count(&self, source: &str, kind: &'static str, now: Instant) -> Vec<Line> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = Vec::new();
        let is_new = !known.contains_key(&(source.to_owned(), kind));
        if is_new && known.len() >= REFUSAL_SOURCES_MAX {
            // Walked at most once for each new source, and only while the table is full.
            known.retain(|(source, kind), counted| {
                let is_over = now.saturating_duration_since(counted.told_at) >= LINE_EVERY;
                if is_over && counted.untold > 0 {
                    lines.push(Line { source: source.clone(), kind, times: counted.untold });
                }
                !is_over
            });
        }
        let source = if is_new && known.len() >= REFUSAL_SOURCES_MAX { OTHERS } else { source };
        let counted = known.entry((source.to_owned(), kind));
        let mut is_first = false;
        let counted = counted.or_insert_with(|| {
            is_first = true;
            Counted { told_at: now, untold: 0 }
        });
        counted.untold = counted.untold.saturating_add(1);
        if is_first || now.saturating_duration_since(counted.told_at) >= LINE_EVERY {
            lines.push(Line { source: source.to_owned(), kind, times: counted.untold });
            (counted.told_at, counted.untold) = (now, 0);
        }
        lines
    }

    /// How many sources and kinds are remembered.
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether nothing was refused yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
