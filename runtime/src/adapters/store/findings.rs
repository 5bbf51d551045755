//! What both stores check of an entry, and the list of what is wrong.

use std::collections::HashSet;

use cid::Cid;
use ipld_core::codec::Links;
use serde_ipld_dagcbor::codec::DagCborCodec;

use super::rows::{Log, Place};
use crate::domain::ids::{EntryId, LoomId, WriterKey};
use crate::domain::limits::FINDINGS_MAX;
use crate::domain::loom::{Body, EquivocationProof, Sealed};
use crate::ports::{Finding, Verified};

/// The codec of bytes without structure in the multicodec table: the links of blobs have it.
const CODEC_RAW: u64 = 0x55;

/// Collects what a verification finds.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<Finding>,
    more: u64,
    looms: HashSet<LoomId>,
    blobs: HashSet<[u8; 32]>,
    entries: u64,
}

impl Findings {
    fn push(&mut self, finding: Finding) {
        if self.list.len() < FINDINGS_MAX {
            self.list.push(finding);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// Something that belongs to no log.
    pub(super) fn store(&mut self, what: impl Into<String>) {
        self.push(Finding { loom: None, sequence: None, entry: None, what: what.into() });
    }

    /// A writer has signed two histories. What took the place of its key may have written both anew: a folder was put back.
    pub(super) fn divided(&mut self, proof: &EquivocationProof, successors: &[WriterKey]) {
        let (writer, place) = (proof.writer, proof.place());
        let mut what = format!(
            "writer {writer} has signed two histories; nothing of it counts from its entry {place} on, but whom it admitted and \
             expelled"
        );
        for next in successors {
            let goes_on = format!("; its node goes on as writer {next}, and what that one has written anew counts");
            what.push_str(&goes_on);
        }
        self.loom(proof.loom, what);
    }

    /// Something about a loom as a whole.
    pub(super) fn loom(&mut self, loom: LoomId, what: impl Into<String>) {
        self.push(Finding { loom: Some(loom), sequence: None, entry: None, what: what.into() });
    }

    /// Something at a place of a log.
    pub(super) fn place(&mut self, place: Place, entry: Option<EntryId>, what: impl Into<String>) {
        let sequence = Some(place.sequence);
        self.push(Finding { loom: Some(place.log.loom), sequence, entry, what: what.into() });
    }

    /// The entries of a log from one sequence to another are not there.
    pub(super) fn missing(&mut self, log: Log, first: u64, last: u64, of: u64) {
        self.place(log.at(first), None, missing(first, last, of));
    }

    pub(super) fn count_loom(&mut self, loom: LoomId) {
        self.looms.insert(loom);
    }

    pub(super) fn count_entry(&mut self) {
        self.entries = self.entries.saturating_add(1);
    }

    /// Whether this blob has not been met yet.
    pub(super) fn meet_blob(&mut self, digest: [u8; 32]) -> bool {
        self.blobs.insert(digest)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The list, what concerns the whole store first, then by loom and place.
    pub(super) fn finish(mut self) -> Verified {
        self.list.sort_by_key(|finding| (finding.loom, finding.sequence));
        if self.more > 0 {
            let what = format!("{} more findings", self.more);
            self.list.push(Finding { loom: None, sequence: None, entry: None, what });
        }
        Verified {
            looms: self.looms.len() as u64,
            entries: self.entries,
            blobs: self.blobs.len() as u64,
            findings: self.list,
        }
    }
}

/// Says which entries of a log are missing.
pub(super) fn missing(first: u64, last: u64, of: u64) -> String {
    if first == last {
        format!("entry {first} of {of} was acknowledged and is missing")
    } else {
        format!("entries {first}–{last} of {of} were acknowledged and are missing")
    }
}

/// What an entry says of itself that its place contradicts.
pub(super) fn misplaced(sealed: &Sealed, place: Place) -> Option<String> {
    let said = Place::of(sealed);
    if place.log.is_received() {
        let fits = said.log.loom == place.log.loom && !said.log.is_received();
        return (!fits).then(|| format!("it says that it is of loom {} by {}", said.log.loom, said.log.writer));
    }
    (said != place)
        .then(|| format!("it says that it is entry {} of loom {} by {}", said.sequence, said.log.loom, said.log.writer))
}

/// Whether an entry may follow one of another loom: an entity opened by another's, or a judgement of it.
pub(super) const fn may_cross_looms(body: &Body) -> bool {
    matches!(body, Body::Opened(_) | Body::Rewarded { .. })
}

/// Whether what an entry follows may be kept elsewhere: whoever had an entity cast here keeps what it follows.
pub(super) fn may_follow_what_is_elsewhere(body: &Body) -> bool {
    matches!(body, Body::Opened(opened) if opened.caller.is_some())
}

/// The digests of the blobs that an entry refers to, with the ids as they are printed.
pub(super) fn blob_links(bytes: &[u8]) -> Vec<([u8; 32], Cid)> {
    let Ok(links) = DagCborCodec::links(bytes) else { return Vec::new() };
    links
        .filter(|link| link.codec() == CODEC_RAW)
        .filter_map(|link| <[u8; 32]>::try_from(link.hash().digest()).ok().map(|digest| (digest, link)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_counted_beyond_a_bound() {
        let mut findings = Findings::default();
        for number in 0..1_500 {
            findings.store(format!("finding {number}"));
        }
        let found = findings.finish().findings;
        assert_eq!(found.len(), 1_000 + 1);
        assert!(found.last().is_some_and(|last| last.what == "500 more findings"));
    }
}
