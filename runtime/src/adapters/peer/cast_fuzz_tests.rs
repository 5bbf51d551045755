//! What a host tells of a cast: whatever is changed in it, moved, doubled or left out, and if the host signs what comes of that: only
//! what is under its writer's word is taken, and what was taken holds.
#![expect(clippy::print_stdout, reason = "a fuzz target tells what it saw")]

use std::sync::atomic::{AtomicU64, Ordering};

use bolero::check;
use prost::Message as _;

use super::super::convert;
use super::super::wire::host_message::Message as Told;
use super::v1;
use crate::adapters::store::{MemoryStore, NodeKey};
use crate::domain::ids::{CallId, EntityId, EntryId, LoomId};
use crate::domain::loom::{Body, CastStream, CastUnit, Entry, Minted, Opened, Payload, Sealed};
use crate::domain::members::Nonce;
use crate::domain::place::CallPlace;
use crate::fuzz_targets::{Change, changed};
use crate::ports::LoomStore;

/// What is done to what a host tells: which message, which other one or how, whether the host signs it anew, and which bytes.
type Lie = (u8, u8, u8, bool, Change);

fn loom() -> LoomId {
    LoomId::from_parts(1, [1; 16])
}

fn key(number: u8) -> NodeKey {
    NodeKey::from_secret(&[number; 32])
}

fn minted(number: u8) -> Minted {
    Minted { by: key(1).writer(), nonce: Nonce::from_bytes([number; 16]) }
}

/// The cast is of 1; 2 is below it at the host, 3 at a third node, 9 is another's.
fn entity(number: u8) -> EntityId {
    let Minted { by, nonce } = minted(number);
    EntityId::mint(1, &by, &nonce)
}

fn opened(number: u8, below: Option<u8>) -> Body {
    Body::Opened(Box::new(Opened { minted: Some(minted(number)), spawned_by: below.map(entity), ..Opened::default() }))
}

fn said(text: &str) -> Body {
    Body::intent(Payload::Inline(text.to_owned()), false, None)
}

fn delegated(child: u8) -> Body {
    let nonce = Some(minted(child).nonce);
    let (call, proposal) = (CallId::new("c"), Payload::Inline("{}".to_owned()));
    Body::Delegated { call, index: 0, child: entity(child), proposal, place: CallPlace::Any, nonce }
}

fn log(writer: u8, bodies: Vec<(u8, Body)>) -> Vec<Sealed> {
    let entry = |(place, (of, body)): (u64, (u8, Body))| {
        Sealed::new(Entry::new(loom(), (key(writer).writer(), place), place, entity(of), None, body), Vec::new())
            .unwrap()
    };
    (1..).zip(bodies).map(entry).collect()
}

/// The host's log, and the third node's.
fn logs() -> [Vec<Sealed>; 2] {
    let host = vec![
        (9, opened(9, None)),
        (1, opened(1, None)),
        (1, said("one")),
        (1, delegated(3)),
        (9, said("of another")),
        (2, opened(2, Some(1))),
        (2, said("below")),
        (1, said("last")),
    ];
    [log(1, host), log(2, vec![(3, opened(3, Some(1))), (3, said("two")), (3, said("three"))])]
}

fn message(told: Told) -> v1::HostMessage {
    v1::HostMessage { message: Some(told) }
}

fn entry(sealed: &Sealed) -> v1::HostMessage {
    message(Told::Entry(v1::Entry { id: sealed.id.to_string(), bytes: sealed.bytes.clone().into() }))
}

/// Heads over all of these, for the host's cast and the third node's.
fn heads(told: &[Sealed], of: &[(u8, u8)]) -> v1::HostMessage {
    let head = |(writer, cast): &(u8, u8)| {
        let mut unit = CastUnit::of(entity(*cast));
        for sealed in told.iter().filter(|sealed| sealed.entry.writer == key(*writer).writer()) {
            unit.takes(sealed);
        }
        convert::cast_head(&key(*writer).sign_cast(loom(), entity(*cast), unit.at()))
    };
    message(Told::Heads(v1::CastHeads { heads: of.iter().map(head).collect(), cursor: vec![0; 16].into() }))
}

/// Two ways in which the whole cast can be told: step by step, and at once.
fn seeds() -> [Vec<v1::HostMessage>; 2] {
    let [host, third] = logs();
    let own: Vec<Sealed> = host.into_iter().filter(|sealed| sealed.entry.entity != Some(entity(9))).collect();
    let (mut told, mut messages) = (Vec::new(), Vec::new());
    for (step, of) in
        [(&own[..2], (1, 1)), (&own[2..4], (1, 1)), (&third[..1], (2, 3)), (&own[4..], (1, 1)), (&third[1..], (2, 3))]
    {
        told.extend_from_slice(step);
        messages.extend(step.iter().map(entry));
        messages.push(heads(&told, &[of]));
    }
    let whole = told.iter().map(entry).chain([heads(&told, &[(1, 1), (2, 3)])]).collect();
    [messages, whole]
}

fn lied(seeds: &[Vec<v1::HostMessage>], (kind, at, with, signs, change): &Lie) -> Vec<v1::HostMessage> {
    let mut messages = seeds[usize::from(*kind) / 64 % seeds.len()].clone();
    let (one, other) = (usize::from(*at) % messages.len(), usize::from(*with) % messages.len());
    match kind % 6 {
        0 => {
            let bytes = changed(&[messages[one].encode_to_vec()], change);
            // What is no message ends the connection before anything is looked at.
            messages[one] = v1::HostMessage::decode(bytes.as_slice()).unwrap_or_default();
        }
        1 => messages.swap(one, other),
        2 => drop(messages.remove(one)),
        3 => messages.insert(other, messages[one].clone()),
        4 => messages.truncate(one),
        _ => {
            if let Some(mut sealed) = read(&messages[one]) {
                match with % 4 {
                    0 => sealed.entry.sequence = u64::from(*at),
                    1 => sealed.entry.entity = Some(entity(with / 4 % 10)),
                    2 => sealed.entry.writer = key(with / 4 % 3).writer(),
                    _ => sealed.entry.at_us += 1,
                }
                messages[one] = entry(&Sealed::new(sealed.entry, Vec::new()).unwrap());
            }
        }
    }
    if *signs { signed_anew(messages) } else { messages }
}

/// What the host signs of what it tells: each head of its own is made to fit.
fn signed_anew(mut messages: Vec<v1::HostMessage>) -> Vec<v1::HostMessage> {
    let mut told = Vec::new();
    for it in &mut messages {
        told.extend(read(it));
        let Some(Told::Heads(_)) = &it.message else { continue };
        let v1::HostMessage { message: Some(Told::Heads(anew)) } = heads(&told, &[(1, 1)]) else { continue };
        if let Some(Told::Heads(heads)) = &mut it.message {
            let own = heads.heads.iter_mut().filter(|head| head.writer == anew.heads[0].writer);
            own.for_each(|head| head.clone_from(&anew.heads[0]));
        }
    }
    messages
}

fn read(message: &v1::HostMessage) -> Option<Sealed> {
    let Some(Told::Entry(entry)) = &message.message else { return None };
    let id: EntryId = entry.id.parse().ok()?;
    Sealed::open(id, entry.bytes.to_vec()).ok()
}

/// What a caller takes that starts again; how many steps it took before it left the host, and whether it was told all.
fn take(store: &MemoryStore, messages: &[v1::HostMessage]) -> (u64, bool) {
    let mut stream = CastStream::new(loom(), LoomStore::writer(store), entity(1));
    let restored = store.steps_received(loom(), &mut |entries, heads| {
        stream.restore(&entries, &heads);
        Ok(())
    });
    restored.unwrap();
    stream.connected();
    let (mut waiting, mut steps) = (Vec::new(), 0);
    for message in messages {
        match &message.message {
            Some(Told::Entry(_)) => match read(message) {
                Some(sealed) if sealed.entry.loom == loom() && sealed.entry.check_minted().is_ok() => {
                    waiting.push(sealed);
                }
                _ => return (steps, false),
            },
            Some(Told::Heads(told)) => {
                let heads: Result<Vec<_>, _> =
                    told.heads.iter().map(|head| convert::cast_head_from(loom(), head)).collect();
                let Ok(heads) = heads else { return (steps, false) };
                match stream.check(std::mem::take(&mut waiting), heads) {
                    Err(refused) => {
                        assert!(!refused.to_string().is_empty());
                        return (steps, false);
                    }
                    Ok(batch) => store.receive(batch).unwrap(),
                }
                steps += 1;
            }
            _ => return (steps, false),
        }
    }
    (steps, waiting.is_empty() && stream.finish().is_ok())
}

#[test]
fn cast_head() {
    let seeds = seeds();
    let [host, third] = logs().map(|log| log.into_iter().map(|sealed| sealed.id).collect::<Vec<EntryId>>());
    for seed in &seeds {
        let store = MemoryStore::with_key(key(7));
        assert!(take(&store, seed).1);
        assert!(take(&store, &seeds[0]).1, "it may be told anew");
        assert_eq!(store.entries(loom()).unwrap().len(), 9);
    }
    let (tried, taken) = (AtomicU64::new(0), AtomicU64::new(0));
    check!().with_type::<Lie>().with_iterations(1_000).for_each(|lie| {
        let store = MemoryStore::with_key(key(7));
        let messages = lied(&seeds, lie);
        let (steps, _) = take(&store, &messages);
        tried.fetch_add(1, Ordering::Relaxed);
        taken.fetch_add(u64::from(steps > 0 && !seeds.contains(&messages)), Ordering::Relaxed);
        // The host goes on as if nothing had been, or as another: it is taken or left.
        take(&store, &seeds[0]);
        take(&store, &messages);
        let (mut kept, mut newest) = (store.entries(loom()).unwrap(), store.cast_heads(loom()).unwrap());
        // Nobody else can sign for the third node, and the host says of its own log what it likes only where it signs it.
        let is_of = |ids: &[EntryId], sealed: &Sealed| ids.contains(&sealed.id);
        let (theirs, own): (Vec<Sealed>, _) = kept.drain(..).partition(|it| it.entry.writer == key(2).writer());
        assert!(theirs.iter().zip(&third).all(|(sealed, id)| sealed.id == *id), "in their order");
        assert!(own.iter().all(|it| it.entry.writer == key(1).writer() && (lie.3 || is_of(&host, it))));
        assert!(own.iter().all(|it| lie.3 || it.entry.entity != Some(entity(9))));
        // Whoever starts again has what it had.
        let mut restored = CastStream::new(loom(), LoomStore::writer(&*store), entity(1));
        let mut whole = CastStream::of_all(loom(), LoomStore::writer(&*store));
        let read = store.steps_received(loom(), &mut |entries, heads| {
            restored.restore(&entries, &heads);
            assert!(whole.check(entries, heads).is_ok(), "what is kept holds");
            Ok(())
        });
        read.unwrap();
        newest.sort_unstable();
        assert!(newest.iter().all(crate::domain::loom::CastHead::is_signed));
        assert_eq!((&restored.heads(), &whole.heads()), (&newest, &newest));
        assert!(store.verify(None).unwrap().findings.is_empty());
    });
    println!("cast_head: {tried:?} tried, {taken:?} changed and taken");
    assert!(taken.into_inner() > 0);
}
