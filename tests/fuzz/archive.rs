//! Archives: of a valid one, whatever is changed, nothing is taken that its writer has not signed.

use std::sync::atomic::{AtomicU64, Ordering};

use bolero::check;
use cantrip_runtime::adapters::store::{MemoryStore, NodeKey};
use cantrip_runtime::domain::ids::{EntityId, EntryId, LoomId};
use cantrip_runtime::domain::loom::{Body, Entry, Payloads, Sealed};
use cantrip_runtime::export::car;
use cantrip_runtime::ports::{CopyStore, LoomStore};
use cid::Cid;
use cid::multihash::Multihash;
use serde::{Deserialize, Serialize};

use super::targets::{Change, changed};

pub(crate) fn key(number: u8) -> NodeKey {
    NodeKey::from_secret(&[number; 32])
}

pub(crate) fn loom() -> LoomId {
    LoomId::from_parts(1_790_000_000_000, [1; 16])
}

fn said(store: &MemoryStore, parent: Option<EntryId>, text: &str) -> EntryId {
    let mut payloads = Payloads::default();
    let body = Body::intent(payloads.text(text), false, None);
    let sequence = store.head(loom()).unwrap().sequence + 1;
    let (writer, entity) = (LoomStore::writer(store), EntityId::from_parts(1, [2; 16]));
    let entry = Entry::new(loom(), (writer, sequence), sequence, entity, parent, body);
    let sealed = Sealed::new(entry, payloads.into_blobs()).unwrap();
    let id = sealed.id;
    store.append(sealed).unwrap();
    id
}

/// Archives of looms that are short enough for a change to be of importance: one log, two, and a text beside them.
fn archives() -> Vec<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let archive = |store: &MemoryStore| {
        runtime.block_on(store.sync(loom())).unwrap();
        let mut out = Vec::new();
        car::write(store, loom(), &mut out).unwrap();
        out
    };
    let short = MemoryStore::with_key(key(1));
    let first = said(&short, None, "one");
    let mut made = vec![archive(&short)];
    said(&short, Some(first), "two");
    said(&short, Some(first), &"three ".repeat(4_000));
    made.push(archive(&short));
    let both = MemoryStore::with_key(key(2));
    car::read(&*both, &mut made.last().unwrap().as_slice()).unwrap();
    said(&both, Some(first), "four");
    made.push(archive(&both));
    made
}

#[derive(Serialize, Deserialize)]
struct Header {
    roots: Vec<Cid>,
    version: u64,
}

/// An archive as its blocks, so that one that was changed gets the name that it then has.
pub(crate) struct Blocks {
    pub(crate) root: usize,
    pub(crate) blocks: Vec<(u64, Vec<u8>)>,
}

fn varint(bytes: &mut &[u8]) -> Option<usize> {
    let mut number = 0_usize;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn pushed(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap());
    out.extend_from_slice(bytes);
}

fn name(codec: u64, bytes: &[u8]) -> Cid {
    Cid::new_v1(codec, Multihash::wrap(0x1e, blake3::hash(bytes).as_bytes()).unwrap())
}

impl Blocks {
    pub(crate) fn of(mut archive: &[u8]) -> Self {
        let mut parts = Vec::new();
        while let Some(length) = varint(&mut archive) {
            let (part, rest) = archive.split_at(length);
            parts.push(part);
            archive = rest;
        }
        let header: Header = serde_ipld_dagcbor::from_slice(parts.first().unwrap()).unwrap();
        let mut blocks = Vec::new();
        let mut root = 0;
        for mut part in parts.into_iter().skip(1) {
            let cid = Cid::read_bytes(&mut part).unwrap();
            if header.roots.contains(&cid) {
                root = blocks.len();
            }
            blocks.push((cid.codec(), part.to_vec()));
        }
        Self { root, blocks }
    }

    pub(crate) fn archive(&self) -> Vec<u8> {
        let names: Vec<Cid> = self.blocks.iter().map(|(codec, bytes)| name(*codec, bytes)).collect();
        let roots = names.get(self.root).copied().into_iter().collect();
        let mut out = Vec::new();
        pushed(&mut out, &serde_ipld_dagcbor::to_vec(&Header { roots, version: 1 }).unwrap());
        for ((_, bytes), name) in self.blocks.iter().zip(names) {
            pushed(&mut out, &[name.to_bytes().as_slice(), bytes.as_slice()].concat());
        }
        out
    }
}

/// What is done to an archive: to its bytes, to one of its blocks, or to their order.
pub(crate) fn changed_archive(seeds: &[Vec<u8>], (kind, at, with, change): &(u8, u8, u8, Change)) -> Vec<u8> {
    if kind.is_multiple_of(4) {
        return changed(seeds, change);
    }
    let seed = seeds.get(usize::from(*at) % seeds.len()).unwrap();
    let mut archive = Blocks::of(seed);
    let count = archive.blocks.len();
    let (one, other) = (usize::from(*with) % count, usize::from(*at) % count);
    match kind % 4 {
        1 => {
            let (codec, bytes) = archive.blocks.get(one).cloned().unwrap();
            let bytes = changed(&[bytes], change);
            archive.blocks.splice(one..=one, [(codec, bytes)]);
        }
        2 => {
            archive.blocks.swap(one, other);
            archive.root = match archive.root {
                root if root == one => other,
                root if root == other => one,
                root => root,
            };
        }
        _ => {
            let again = archive.blocks.get(one).cloned().unwrap();
            archive.blocks.push(again);
            if kind.is_multiple_of(3) && one > archive.root {
                archive.blocks.remove(one);
            }
        }
    }
    archive.archive()
}

#[test]
fn archive() {
    let seeds = archives();
    assert!(seeds.iter().all(|seed| Blocks::of(seed).archive() == *seed));
    let (tried, taken) = (AtomicU64::new(0), AtomicU64::new(0));
    let body = std::panic::AssertUnwindSafe(|bytes: &[u8]| {
        let store = MemoryStore::with_key(key(9));
        let read = car::read(&*store, &mut &*bytes);
        // What was taken as a whole is in order; of what was not, each log is as far as it was taken.
        let verified = store.verify(None).unwrap();
        assert!(read.is_err() || verified.findings.is_empty(), "{:?}", verified.findings);
        for log in store.logs(loom()).unwrap() {
            assert!(store.segment(loom(), log.writer, 0).unwrap().is_none_or(|segment| segment.check().is_ok()));
        }
        read.is_ok()
    });
    check!().with_type::<(u8, u8, u8, Change)>().with_iterations(5_000).for_each(|change| {
        let bytes = changed_archive(&seeds, change);
        tried.fetch_add(1, Ordering::Relaxed);
        let body = &body;
        taken.fetch_add(u64::from(body(&bytes) && !seeds.contains(&bytes)), Ordering::Relaxed);
    });
    println!("archive: {tried:?} tried, {taken:?} changed and taken");
    assert!(taken.into_inner() > 0);
}
