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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::adapters::store::{FjallStore, MemoryStore, NodeKey, StoreOptions};
    use crate::domain::ids::{EntityId, LoomId};
    use crate::domain::loom::{Body, CastBatch, CastHead, CastUnit, Entry, Payload, Sealed};
    use crate::ports::LoomStore;

    fn loom() -> LoomId {
        LoomId::from_parts(1, [1; 16])
    }

    fn host() -> NodeKey {
        NodeKey::from_secret(&[9; 32])
    }

    /// Entries of one cast, and the host's word for the first so many of them.
    fn told() -> (Vec<Sealed>, impl Fn(usize) -> CastHead) {
        let cast = EntityId::from_parts(1, [2; 16]);
        let entry = |place: u64| {
            let body = Body::intent(Payload::Inline(place.to_string()), false, None);
            Sealed::new(Entry::new(loom(), (host().writer(), place), place, cast, None, body), Vec::new()).unwrap()
        };
        let told: Vec<Sealed> = (1..=4).map(entry).collect();
        let all = told.clone();
        let head = move |count: usize| {
            let mut unit = CastUnit::of(cast);
            assert!(all[..count].iter().all(|sealed| unit.takes(sealed)));
            host().sign_cast(loom(), cast, unit.at())
        };
        (told, head)
    }

    #[tokio::test]
    async fn a_verification_goes_through_what_each_writer_wrote_of_a_cast_as_through_a_log() {
        let (told, head) = told();
        let sound = head(4);
        let second =
            |heads: Vec<CastHead>, entries: &[Sealed]| CastBatch { loom: loom(), entries: entries.to_vec(), heads };
        let cases = [
            (second(vec![sound], &told[2..]), None),
            (second(Vec::new(), &told[2..]), Some("2 entries came under no cast head of their writers")),
            (second(vec![CastHead { signature: [1; 64], ..sound }], &told[2..]), Some("is not signed by")),
            (second(vec![sound], &told[3..]), Some("an entry was left out")),
            (second(vec![sound], &[told[3].clone(), told[2].clone()]), Some("came again, or behind a later one")),
            (second(vec![head(3)], &told[2..]), Some("and what came leads to entry 4")),
        ];
        for (batch, expected) in cases {
            let folder = tempfile::tempdir().unwrap();
            let durable: Arc<dyn LoomStore> = FjallStore::open(folder.path(), StoreOptions::default()).unwrap();
            for store in [durable, MemoryStore::with_key(NodeKey::from_secret(&[1; 32]))] {
                store.receive(CastBatch { loom: loom(), entries: told[..2].to_vec(), heads: vec![head(2)] }).unwrap();
                store.receive(batch.clone()).unwrap();
                store.sync(loom()).await.unwrap();
                let found: Vec<String> =
                    store.verify(None).unwrap().findings.into_iter().map(|finding| finding.what).collect();
                match expected {
                    None => assert!(found.is_empty(), "{found:?}"),
                    Some(expected) => {
                        assert!(found.iter().any(|what| what.contains(expected)), "{expected}: {found:?}");
                    }
                }
            }
        }
    }
}
