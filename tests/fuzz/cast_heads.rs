//! Casts in archives: of the steps of a valid one, whatever is changed, nothing is taken that its writer has not signed for the cast.

use std::sync::atomic::{AtomicU64, Ordering};

use bolero::check;
use cantrip_runtime::adapters::store::MemoryStore;
use cantrip_runtime::domain::ids::{EntityId, EntryId, WriterKey};
use cantrip_runtime::domain::loom::{Body, CastHead, CastStream, CastUnit, Entry, Payload, Sealed};
use cantrip_runtime::export::car;
use cantrip_runtime::ports::LoomStore;
use ipld_core::ipld::Ipld;
use serde::{Deserialize, Serialize};

use super::archive::{Blocks, key, loom};
use super::targets::{Change, changed};

/// What is done to the steps: how, which one, which entry or other step, whether the host signs it anew, and which bytes.
type Lie = (u8, u8, u8, bool, Change);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Step {
    #[serde(with = "serde_bytes")]
    heads: Vec<u8>,
    entries: Vec<EntryId>,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    v: u16,
    loom: String,
    logs: Ipld,
    casts: Vec<Step>,
}

fn cast() -> EntityId {
    EntityId::from_parts(1, [3; 16])
}

fn host() -> WriterKey {
    key(4).writer()
}

/// The host's entries of the cast, with one of another in between.
fn log() -> Vec<Sealed> {
    let other = EntityId::from_parts(1, [4; 16]);
    let entry = |place: u64| {
        let entity = if place == 3 { other } else { cast() };
        let body = Body::intent(Payload::Inline(format!("entry {place}")), false, None);
        Sealed::new(Entry::new(loom(), (host(), place), place, entity, None, body), Vec::new()).unwrap()
    };
    (1..=8).map(entry).collect()
}

/// The archive of a caller to whom it was told in so many steps.
fn archive(steps: usize) -> Vec<u8> {
    let caller = MemoryStore::with_key(key(1));
    let (mut unit, mut stream) = (CastUnit::of(cast()), CastStream::new(loom(), LoomStore::writer(&*caller), cast()));
    let own: Vec<Sealed> = log().into_iter().filter(|sealed| unit.takes(sealed)).collect();
    let mut unit = CastUnit::of(cast());
    for step in own.chunks(own.len().div_ceil(steps)) {
        assert!(step.iter().all(|sealed| unit.takes(sealed)));
        let head = key(4).sign_cast(loom(), cast(), unit.at());
        caller.receive(stream.check(step.to_vec(), vec![head]).unwrap()).unwrap();
    }
    let mut out = Vec::new();
    car::write(&*caller, loom(), &mut out).unwrap();
    out
}

fn lied(steps: &mut Vec<Step>, (kind, at, with, signs, change): &Lie) {
    let (one, other) = (usize::from(*at) % steps.len(), usize::from(*with) % steps.len());
    let step = steps.get_mut(one).unwrap();
    let (first, second) = (usize::from(*with) % step.entries.len(), usize::from(*with / 8) % step.entries.len());
    match kind % 7 {
        0 => step.heads = changed(std::slice::from_ref(&step.heads), change),
        1 => steps.swap(one, other),
        2 => step.entries.swap(first, second),
        3 => drop(step.entries.remove(first)),
        4 => {
            let again = steps.get(one).cloned().unwrap();
            steps.insert(other, again);
        }
        5 => {
            let moved = step.entries.remove(first);
            steps.get_mut(other).unwrap().entries.push(moved);
        }
        _ => step.entries.truncate(first),
    }
    if *signs {
        signed_anew(steps);
    }
}

/// What the host signs of it: each head is made to fit.
fn signed_anew(steps: &mut [Step]) {
    let (log, mut unit) = (log(), CastUnit::of(cast()));
    for step in steps {
        let entries = step.entries.iter().filter_map(|id| log.iter().find(|sealed| sealed.id == *id));
        for sealed in entries {
            unit.takes(sealed);
        }
        step.heads = CastHead::to_bytes(&[key(4).sign_cast(loom(), cast(), unit.at())]);
    }
}

#[test]
fn cast_head() {
    let seeds = [archive(1), archive(3), archive(7)];
    let (tried, taken) = (AtomicU64::new(0), AtomicU64::new(0));
    check!().with_type::<(u8, Vec<Lie>)>().with_iterations(1_500).for_each(|(which, lies)| {
        let mut blocks = Blocks::of(seeds.get(usize::from(*which) % seeds.len()).unwrap());
        let (codec, manifest) = blocks.blocks.get(blocks.root).cloned().unwrap();
        let mut manifest: Manifest = serde_ipld_dagcbor::from_slice(&manifest).unwrap();
        let honest = manifest.casts.clone();
        for lie in lies.iter().take(2) {
            if manifest.casts.iter().all(|step| !step.entries.is_empty()) && !manifest.casts.is_empty() {
                lied(&mut manifest.casts, lie);
            }
        }
        let named: Vec<EntryId> = manifest.casts.iter().flat_map(|step| step.entries.clone()).collect();
        let root = serde_ipld_dagcbor::to_vec(&manifest).unwrap();
        *blocks.blocks.get_mut(blocks.root).unwrap() = (codec, root);
        // What nothing names any more is not what this is about.
        let before = blocks.root;
        let mut number = 0;
        blocks.blocks.retain(|(_, bytes)| {
            number += 1;
            number == before + 1 || named.contains(&EntryId::of(bytes))
        });
        let store = MemoryStore::with_key(key(9));
        let read = car::read(&*store, &mut blocks.archive().as_slice());
        tried.fetch_add(1, Ordering::Relaxed);
        taken.fetch_add(u64::from(read.is_ok() && manifest.casts != honest), Ordering::Relaxed);
        // What was taken holds, whether the rest did or not.
        let mut stream = CastStream::of_all(loom(), LoomStore::writer(&*store));
        let steps = store.steps_received(loom(), &mut |entries, heads| {
            assert!(entries.iter().all(|sealed| sealed.entry.entity == Some(cast())));
            assert!(stream.check(entries, heads).is_ok());
            Ok(())
        });
        steps.unwrap();
        assert_eq!(stream.heads(), store.cast_heads(loom()).unwrap());
        assert!(store.verify(None).unwrap().findings.is_empty());
        let last = stream.heads().first().map_or(0, |head| head.at.place);
        let kept = store.entries(loom()).unwrap();
        assert_eq!(kept.last().map_or(0, |sealed| sealed.entry.sequence), last, "each is under a head");
    });
    println!("cast_head: {tried:?} tried, {taken:?} changed and taken");
    assert!(taken.into_inner() > 0);
}
