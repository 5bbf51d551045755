//! Segments: stretches of logs as other nodes send them and as archives have them. Whatever is changed in one, nothing is taken that
//! its writer has not signed; and whatever its writer signs is refused in a sentence, or is read, kept and handed on as it came.

#![expect(clippy::disallowed_methods, reason = "a test may stop, and reads the files that it changes")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipld_core::ipld::Ipld;
use prost::Message as _;

use super::{Reader, to_wire, v1};
use crate::adapters::store::{MemoryStore, NodeKey};
use crate::domain::copies::CopyMessage;
use crate::domain::ids::{EntityId, EntryId, LoomId, WriterKey};
use crate::domain::loom::format_tests::every;
use crate::domain::loom::{Body, Entry, Head, Minted, NoJson, Payload, Sealed, Segment, Tree, body_json};
use crate::domain::members::{Batch, Known, Nonce, Reader as Members, Vouched};
use crate::export::car;
use crate::fuzz_targets::target_of;
use crate::ports::{CopyStore, LoomStore};

const NONCE: Nonce = Nonce::from_bytes([4; 16]);

fn key() -> NodeKey {
    NodeKey::from_secret(&[1; 32])
}

fn minted() -> Minted {
    Minted { by: key().writer(), nonce: NONCE }
}

fn loom() -> LoomId {
    LoomId::mint(1, &key().writer(), &NONCE, None)
}

fn entity(number: u64) -> EntityId {
    EntityId::mint(number, &key().writer(), &NONCE)
}

/// Texts that are kept beside an entry come on their own: here they stand in it.
fn inline(value: &mut Ipld) {
    match value {
        Ipld::Map(map) if map.len() == 1 && matches!(map.get("blob"), Some(Ipld::Map(_))) => {
            map.clear();
            map.insert("text".to_owned(), Ipld::String("a text".to_owned()));
        }
        Ipld::Map(map) => map.values_mut().for_each(inline),
        Ipld::List(list) => list.iter_mut().for_each(inline),
        Ipld::Null
        | Ipld::Bool(_)
        | Ipld::Integer(_)
        | Ipld::Float(_)
        | Ipld::String(_)
        | Ipld::Bytes(_)
        | Ipld::Link(_) => {}
    }
}

/// What an entity and a loom may have in their log, with ids that commit to the writer.
fn bodies() -> Vec<Body> {
    let all =
        every().into_iter().filter(|sealed| !matches!(sealed.entry.body, Body::Founded { .. } | Body::Snapshot { .. }));
    let own = all.map(|sealed| {
        let mut value = ipld_core::serde::to_ipld(&sealed.entry.body).unwrap();
        inline(&mut value);
        let mut body: Body = serde_ipld_dagcbor::from_slice(&serde_ipld_dagcbor::to_vec(&value).unwrap()).unwrap();
        if let Body::Opened(opened) = &mut body {
            (opened.minted, opened.fork, opened.spawned_by) = (Some(minted()), None, None);
        } else if let Body::Delegated { child, nonce, .. } = &mut body {
            (*child, *nonce) = (entity(9), Some(NONCE));
        }
        body
    });
    own.collect()
}

/// A log of one of everything, and something of a later version.
fn written() -> Arc<MemoryStore> {
    let store = MemoryStore::with_key(key());
    let mut parent = None;
    let mut append = |of: Option<EntityId>, body: Body| {
        let sequence = store.head(loom()).unwrap().sequence + 1;
        let entry = Entry::new(loom(), (key().writer(), sequence), sequence, of, parent.filter(|_| of.is_some()), body);
        let sealed = Sealed::new(entry, Vec::new()).unwrap();
        parent = of.map(|_| sealed.id).or(parent);
        store.append(sealed).unwrap();
    };
    append(None, Body::Founded { nonce: NONCE, member: None });
    for body in bodies() {
        let of = body.has_entity().unwrap_or(true).then(|| entity(1));
        append(of, body);
    }
    let mut later = ipld_core::serde::to_ipld(Body::intent(Payload::Inline("go".to_owned()), false, None)).unwrap();
    if let Ipld::Map(map) = &mut later {
        map.insert("kind".to_owned(), Ipld::String("dreamt".to_owned()));
    }
    let later: Body = Body::Unknown(Box::new(crate::domain::loom::Unknown { kind: "dreamt".to_owned(), value: later }));
    append(Some(entity(1)), later.clone());
    append(None, later);
    store
}

/// The segments that are in `tests/fuzz/segment`, as another node sends them. `CANTRIP_UPDATE=1` writes them anew.
fn seeds() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/segment");
    if std::env::var_os("CANTRIP_UPDATE").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let store = written();
        runtime.block_on(store.sync(loom())).unwrap();
        let whole = store.segment(loom(), key().writer(), 0).unwrap().unwrap();
        // One of them all, and stretches of it: what is changed in a short one is of importance.
        let count = whole.entries.len();
        for (first, last) in [(0, count), (0, 1), (0, 2), (1, 4), (4, 8), (8, 14), (14, count - 2), (count - 3, count)]
        {
            let stretch = stretch(&whole, first, last);
            let wire = to_wire(CopyMessage::Segment(Box::new(stretch)));
            let message = wire.into_iter().next().map(|message| v1::CopyMessage { message: Some(message) }).unwrap();
            std::fs::write(folder.join(format!("{first:02}-{last:02}.pb")), message.encode_to_vec()).unwrap();
        }
    }
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// A part of a segment, under its writer's word.
fn stretch(whole: &Segment, first: usize, last: usize) -> Segment {
    let ids = || whole.entries.iter().map(|bytes| EntryId::of(bytes));
    let from = ids().take(first).fold(whole.from, |head, id| head.after(&id));
    let mut stretch = whole.clone();
    (stretch.from, stretch.entries) = (from, whole.entries[first..last].to_vec());
    signed(stretch)
}

/// The same under the word of the key: what the writer itself may have made of it.
fn signed(segment: Segment) -> Segment {
    let head = segment.entries.iter().fold(segment.from, |head, bytes| head.after(&EntryId::of(bytes)));
    Segment { signed: key().sign(segment.signed.loom, head), ..segment }
}

fn read(bytes: &[u8]) -> Option<Segment> {
    let message = v1::CopyMessage::decode(bytes).ok()?;
    let message = Reader::default().read(message).ok()??;
    if let CopyMessage::Segment(segment) = message { Some(*segment) } else { None }
}

/// What is taken is read, kept, and handed on as it came: to another node, and in an archive.
fn keep(segment: &Segment) {
    let (loom, writer) = (segment.signed.loom, segment.signed.writer);
    let checked = segment.clone().check().unwrap();
    let entries: Vec<Sealed> = segment.entries.iter().map(|bytes| Sealed::read(bytes.clone()).unwrap()).collect();
    for sealed in &entries {
        assert_eq!(Sealed::new(sealed.entry.clone(), Vec::new()).unwrap().bytes, sealed.bytes);
        drop(body_json(&sealed.entry, &|_| Ok::<_, NoJson>(None)));
    }
    // A part of a log is read as far as it goes, and so is one whose texts are not there.
    let batch = Batch::new(loom, WriterKey::from_bytes([9; 32]), entries.clone(), Vouched::default());
    let tree = Tree::read(&batch.with_logs([writer]), &|payload| payload.inline().map(str::to_owned));
    if let Ok(tree) = tree {
        for (entity, _) in tree.entities() {
            drop((tree.may_go_on(entity), tree.restore(entity, None), tree.again(entity)));
        }
    }
    let mut known = Known::new(loom, Vouched::default());
    known.stretch(writer, segment.from, &entries, entries.len());
    let members = Members::new(&known);
    assert_eq!(members.counting().count() + members.refused().count(), entries.len());

    let store = MemoryStore::with_key(NodeKey::from_secret(&[9; 32]));
    if segment.from != Head::default() || store.take(checked).is_err() {
        // A stretch whose beginning or whose texts are not here is not taken.
        return;
    }
    let verified = store.verify(None).unwrap();
    // What an entry follows may be with somebody else.
    assert!(verified.findings.iter().all(|it| it.what.starts_with("its parent ")), "{:?}", verified.findings);
    let again = store.segment(loom, writer, 0).unwrap().unwrap();
    assert_eq!(again, *segment);
    let mut archive = Vec::new();
    if car::write(&*store, loom, &mut archive).is_ok() {
        let other = MemoryStore::with_key(NodeKey::from_secret(&[8; 32]));
        car::read(&*other, &mut archive.as_slice()).unwrap();
        assert_eq!(other.segment(loom, writer, 0).unwrap().as_ref(), Some(segment));
    }
}

#[test]
fn segments() {
    let seeds = seeds();
    let whole: Vec<Segment> = seeds.iter().map(|seed| read(seed).unwrap()).collect();
    assert!(whole.len() > 4);
    whole.iter().for_each(keep);
    target_of("segment", &seeds, 4_000, |bytes| {
        let Some(segment) = read(&bytes) else { return false };
        // Of what somebody else has changed nothing is taken.
        assert!(segment.clone().check().is_err() || whole.contains(&segment), "{segment:?}");
        // The writer may have signed whatever it is.
        let own = signed(segment);
        if own.signed.writer != key().writer() || own.clone().check().is_err() {
            return false;
        }
        keep(&own);
        true
    });
}
