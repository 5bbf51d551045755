//! Checks what came by casts: every entry is under a head of its writer, and every head is over what is here.

use super::findings::Findings;
use super::rows::{Log, RECEIVED};
use crate::domain::ids::LoomId;
use crate::domain::loom::{CastHead, CastStream, Sealed};
use crate::ports::StoreError;

/// What came in one step: the place of its last entry, its entries, the heads over them.
pub(super) type Step = (u64, Vec<Sealed>, Vec<CastHead>);

/// Goes through the steps of a loom. `next` reads the one behind a place, `end` is how many entries came, `newest` what is kept as
/// the newest heads.
pub(super) fn check(
    loom: LoomId,
    end: u64,
    newest: &[CastHead],
    mut next: impl FnMut(u64) -> Result<Option<Step>, StoreError>,
    findings: &mut Findings,
) {
    let log = Log::received(loom);
    let mut stream = CastStream::of_all(loom, RECEIVED);
    let mut after = 0;
    // What cannot be read has been found by whoever looked at the entries.
    while let Ok(Some((to, entries, heads))) = next(after) {
        if let Err(error) = stream.check(entries, heads) {
            return findings.place(log.at(to), None, format!("what came with a cast is not as it was signed: {error}"));
        }
        after = to;
    }
    if after < end {
        let what = format!("{} entries came under no cast head of their writers", end.saturating_sub(after));
        return findings.place(log.at(after.saturating_add(1)), None, what);
    }
    let mut heads = stream.heads();
    let mut newest = newest.to_vec();
    heads.sort_unstable();
    newest.sort_unstable();
    if heads != newest {
        findings.loom(loom, "the newest cast heads are not those that came last");
    }
}
