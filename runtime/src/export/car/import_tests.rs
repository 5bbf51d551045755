//! What an import takes of a stranger's archive, and what it leaves out.

use std::io::Cursor;
use std::sync::Arc;

use super::blocks::{CODEC_DAG_CBOR, cid};
use super::tests::{Apart, Tested, blocks, made};
use super::*;
use crate::adapters::store::{MemoryStore, NodeKey};
use crate::domain::ids::EntityId;
use crate::domain::loom::{Body, CastStream, CastUnit, Entry, Minted, Payloads, Sealed};
use crate::domain::members::{Admitted, Nonce, Right, Scope};
use crate::ports::{LoomStore, MemberStore};

type Made<T> = Result<T, Box<dyn std::error::Error>>;

const NONCE: Nonce = Nonce::from_bytes([3; 16]);

fn key(number: u8) -> NodeKey {
    NodeKey::from_secret(&[number; 32])
}

/// The loom that this key founds.
fn loom_of(founder: u8) -> LoomId {
    LoomId::mint(1_790_000_000_000, &key(founder).writer(), &NONCE, None)
}

/// Appends an entry to a store's own log, with a long text where it is one.
fn say(store: &MemoryStore, loom: LoomId, entity: Option<EntityId>, body: Body) -> Made<Sealed> {
    let place = (LoomStore::writer(store), store.head(loom)?.sequence + 1);
    let sealed = Sealed::new(Entry::new(loom, place, 1, entity, None, body), Vec::new())?;
    store.append(sealed.clone())?;
    Ok(sealed)
}

fn speak(store: &MemoryStore, loom: LoomId, times: u64) -> Tested {
    for number in 1..=times {
        let mut payloads = Payloads::default();
        let text = payloads.text(&format!("{number} ").repeat(10_000));
        let body = Body::intent(text, false, None);
        let place = (LoomStore::writer(store), store.head(loom)?.sequence + 1);
        let entry = Entry::new(loom, place, 1, EntityId::from_parts(1, [0; 16]), None, body);
        store.append(Sealed::new(entry, payloads.into_blobs())?)?;
    }
    Ok(())
}

/// A store that has founded a loom, and has said something there.
fn founded(founder: u8) -> Made<Arc<MemoryStore>> {
    let (store, loom) = (MemoryStore::with_key(key(founder)), loom_of(founder));
    say(&store, loom, None, Body::Founded { nonce: NONCE, member: None })?;
    speak(&store, loom, 2)?;
    Ok(store)
}

fn admit(store: &MemoryStore, loom: LoomId, member: u8) -> Tested {
    let (principal, rights) = (Principal::Key(key(member).writer()), [Right::Write].into_iter().collect());
    let admitted = Admitted { principal, rights, scope: None, again: Vec::new(), by: None, note: None };
    say(store, loom, None, Body::Admitted(Box::new(admitted))).map(drop)
}

/// Hands the log of one store to another, whoever may write.
fn hand(from: &MemoryStore, to: &MemoryStore, loom: LoomId) -> Tested {
    let writer = LoomStore::writer(from);
    for log in from.entries(loom)? {
        for id in log.text_ids() {
            to.keep_text(&from.blob(id)?.ok_or("a text")?)?;
        }
    }
    let after = to.logs(loom)?.into_iter().find(|log| log.writer == writer).map_or(0, |log| log.head.sequence);
    let segment = from.segment(loom, writer, after)?.ok_or("nothing is new")?;
    to.take(segment.check()?)?;
    Ok(())
}

fn archived(store: &MemoryStore, loom: LoomId) -> Made<Vec<u8>> {
    let mut bytes = Vec::new();
    write(store, loom, &mut bytes)?;
    Ok(bytes)
}

fn imported(into: &MemoryStore, bytes: &[u8]) -> Result<Archived, CarError> {
    import(into, &mut Cursor::new(bytes))
}

fn apart(bytes: &[u8]) -> Made<Apart> {
    let mut all = blocks(bytes)?;
    let (_, manifest) = all.remove(0);
    Ok((serde_ipld_dagcbor::from_slice(&manifest)?, all))
}

/// What was left out: of whom, how many entries, and the kind of reason.
fn left_out(archived: &Archived) -> Vec<(WriterKey, u64, &'static str)> {
    archived.left_out.iter().map(|it| (it.writer, it.entries, it.why.kind())).collect()
}

fn writers(store: &MemoryStore, loom: LoomId) -> Made<Vec<WriterKey>> {
    Ok(store.logs(loom)?.iter().map(|log| log.writer).collect())
}

fn is_clean(store: &MemoryStore) -> Tested {
    let findings = store.verify(None)?.findings;
    if findings.is_empty() { Ok(()) } else { Err(format!("{findings:?}").into()) }
}

#[test]
fn whom_nobody_has_admitted_is_left_out_and_taken_once_somebody_has() -> Tested {
    let (loom, founder, other) = (loom_of(1), founded(1)?, MemoryStore::with_key(key(2)));
    speak(&other, loom, 5)?;
    hand(&other, &founder, loom)?;
    let into = MemoryStore::with_key(key(9));
    let first = imported(&into, &archived(&founder, loom)?)?;
    assert_eq!(first.founder, Some(Principal::Key(key(1).writer())));
    assert_eq!((first.entries, first.new, first.texts), (3, 3, 2));
    assert_eq!(left_out(&first), [(key(2).writer(), 5, "not_admitted")]);
    assert_eq!(writers(&into, loom)?, [key(1).writer()]);
    is_clean(&into)?;
    // A second time it brings nothing, and says the same.
    let again = imported(&into, &archived(&founder, loom)?)?;
    assert_eq!((again.new, &again.left_out), (0, &first.left_out));
    admit(&founder, loom, 2)?;
    let later = imported(&into, &archived(&founder, loom)?)?;
    assert_eq!((later.entries, later.new), (9, 6));
    assert!(later.left_out.is_empty(), "{later:?}");
    assert_eq!(writers(&into, loom)?.len(), 2);
    is_clean(&into)
}

#[test]
fn who_was_admitted_is_known_from_the_record_where_the_archive_does_not_show_it() -> Tested {
    let (loom, founder, other) = (loom_of(1), founded(1)?, MemoryStore::with_key(key(2)));
    admit(&founder, loom, 2)?;
    speak(&other, loom, 2)?;
    let alone = archived(&other, loom)?;
    let into = MemoryStore::with_key(key(9));
    let unknown = imported(&into, &alone)?;
    assert_eq!((unknown.entries, unknown.founder.clone()), (0, None));
    assert_eq!(left_out(&unknown), [(key(2).writer(), 2, "not_admitted")]);
    assert!(into.looms()?.is_empty());
    hand(&founder, &into, loom)?;
    let known = imported(&into, &alone)?;
    assert_eq!((known.new, known.left_out.len()), (2, 0));
    Ok(())
}

#[test]
fn an_archive_under_the_id_of_ones_own_loom_brings_nothing_of_a_stranger() -> Tested {
    let (loom, own, stranger) = (loom_of(1), founded(1)?, MemoryStore::with_key(key(2)));
    // It says that it has founded the loom, and admits itself.
    let founding = Body::Founded { nonce: NONCE, member: None };
    let entry = Entry::new(loom, (key(2).writer(), 1), 1, None, None, founding);
    let forged = Sealed::new(entry, Vec::new())?;
    admit(&stranger, loom, 2)?;
    speak(&stranger, loom, 2)?;
    let before = own.entries(loom)?.len();
    let brought = imported(&own, &archived(&stranger, loom)?)?;
    assert_eq!((brought.entries, brought.new), (0, 0));
    assert_eq!(left_out(&brought), [(key(2).writer(), 3, "not_admitted")]);
    // And with the founding entry of its own, which its key has signed.
    let head = Head::default().after(&forged.id);
    let signed = key(2).sign(loom, head);
    let (mut manifest, _) = apart(&archived(&stranger, loom)?)?;
    manifest.logs = vec![Log { writer: key(2).writer(), stretches: vec![stretch(&signed, &[forged.id])] }];
    let name = cid(CODEC_DAG_CBOR, &forged.bytes);
    let brought = imported(&own, &made(&manifest, &[(name, forged.bytes.clone())])?)?;
    assert_eq!((brought.entries, brought.left_out.len()), (0, 1));
    assert_eq!(own.entries(loom)?.len(), before);
    assert_eq!(writers(&own, loom)?, [key(1).writer()]);
    Ok(())
}

#[test]
fn what_an_archive_says_that_this_node_has_written_is_not_believed() -> Tested {
    let (loom, own) = (loom_of(1), founded(1)?);
    let before: Vec<EntryId> = own.entries(loom)?.iter().map(|sealed| sealed.id).collect();
    // Behind what it has written somebody else has put more, in its name.
    let (mut manifest, mut all) = apart(&archived(&own, loom)?)?;
    let last = manifest.logs[0].stretches[0].clone_head();
    let body = Body::intent(Payloads::default().text("forged"), false, None);
    let entry = Entry::new(loom, (key(1).writer(), 4), 1, EntityId::from_parts(1, [0; 16]), None, body);
    let forged = Sealed::new(entry, Vec::new())?;
    let signed = SignedHead { writer: key(1).writer(), ..key(2).sign(loom, last.after(&forged.id)) };
    manifest.logs[0].stretches.push(stretch(&signed, &[forged.id]));
    all.push((cid(CODEC_DAG_CBOR, &forged.bytes), forged.bytes));
    let brought = imported(&own, &made(&manifest, &all)?)?;
    assert_eq!(left_out(&brought), [(key(1).writer(), 1, "not_signed")]);
    assert_eq!(own.entries(loom)?.iter().map(|sealed| sealed.id).collect::<Vec<_>>(), before);
    is_clean(&own)
}

fn stretch(signed: &SignedHead, ids: &[EntryId]) -> Stretch {
    let (sequence, chain, signature) = (signed.head.sequence, signed.head.chain.to_vec(), signed.signature.to_vec());
    Stretch { sequence, chain, signature, entries: ids.to_vec() }
}

/// The archive of a log of six entries in three stretches, each signed by its writer.
fn three_stretches() -> Made<Apart> {
    let (loom, founder) = (loom_of(1), founded(1)?);
    speak(&founder, loom, 3)?;
    let (mut manifest, all) = apart(&archived(&founder, loom)?)?;
    let ids = manifest.logs.first().ok_or("a log")?.stretches.first().ok_or("a stretch")?.entries.clone();
    let mut head = Head::default();
    let mut stretches = Vec::new();
    for ids in ids.chunks(2) {
        head = ids.iter().fold(head, |head, id| head.after(id));
        stretches.push(stretch(&key(1).sign(loom, head), ids));
    }
    manifest.logs = vec![Log { writer: key(1).writer(), stretches }];
    Ok((manifest, all))
}

#[test]
fn what_is_behind_the_last_signed_head_is_left_out_and_what_is_before_it_is_taken() -> Tested {
    let loom = loom_of(1);
    let changes: [fn(&mut Stretch); 3] = [
        |stretch| stretch.signature = vec![0; 64],
        |stretch| stretch.entries.swap(0, 1),
        |stretch| stretch.chain = vec![7; 32],
    ];
    for (at, left) in [(1, 4), (2, 2)] {
        for change in changes {
            let (mut manifest, all) = three_stretches()?;
            change(&mut manifest.logs[0].stretches[at]);
            let into = MemoryStore::with_key(key(9));
            let brought = imported(&into, &made(&manifest, &all)?)?;
            assert_eq!((brought.entries, brought.new), (6 - left, 6 - left), "{brought:?}");
            assert_eq!(left_out(&brought), [(key(1).writer(), left, "not_signed")]);
            assert_eq!(into.entries(loom)?.len() as u64, 6 - left);
            is_clean(&into)?;
            // In whatever order the blocks come.
            let reversed: Vec<_> = all.iter().rev().cloned().collect();
            let other = MemoryStore::with_key(key(9));
            assert_eq!(imported(&other, &made(&manifest, &reversed)?)?, brought);
        }
    }
    Ok(())
}

#[test]
fn entries_of_another_loom_are_left_out_though_their_writer_signed_them_into_this_one() -> Tested {
    let (loom, elsewhere) = (loom_of(1), loom_of(2));
    let (mut manifest, mut all) = three_stretches()?;
    let last = manifest.logs[0].stretches[2].clone_head();
    let entry =
        Entry::new(elsewhere, (key(1).writer(), 7), 1, None, None, Body::Founded { nonce: NONCE, member: None });
    let foreign = Sealed::new(entry, Vec::new())?;
    let signed = key(1).sign(loom, last.after(&foreign.id));
    manifest.logs[0].stretches.push(stretch(&signed, &[foreign.id]));
    all.push((cid(CODEC_DAG_CBOR, &foreign.bytes), foreign.bytes));
    let into = MemoryStore::with_key(key(9));
    let brought = imported(&into, &made(&manifest, &all)?)?;
    assert_eq!(left_out(&brought), [(key(1).writer(), 1, "another_loom")]);
    assert_eq!((brought.entries, into.entries(elsewhere)?.len()), (6, 0));
    assert!(brought.left_out[0].why.to_string().contains(&elsewhere.to_string()));
    Ok(())
}

impl Stretch {
    fn clone_head(&self) -> Head {
        Head { sequence: self.sequence, chain: self.chain.as_slice().try_into().unwrap_or_default() }
    }
}

#[test]
fn a_writer_with_two_histories_is_left_out_and_the_proof_is_kept_and_goes_on() -> Tested {
    let loom = loom_of(1);
    let (founder, one, other) = (founded(1)?, MemoryStore::with_key(key(2)), MemoryStore::with_key(key(2)));
    admit(&founder, loom, 2)?;
    speak(&one, loom, 2)?;
    say(&other, loom, None, Body::Keeping { acks: 0, keepers: Vec::new(), accept_loss: false })?;
    speak(&other, loom, 1)?;
    let into = MemoryStore::with_key(key(9));
    hand(&one, &founder, loom)?;
    imported(&into, &archived(&founder, loom)?)?;
    let second = founded(1)?;
    admit(&second, loom, 2)?;
    hand(&other, &second, loom)?;
    let brought = imported(&into, &archived(&second, loom)?)?;
    assert_eq!(left_out(&brought), [(key(2).writer(), 2, "two_histories")]);
    assert!(into.accused(loom, key(2).writer())?.is_some());
    // Whoever imports from here on hears of it, and takes nothing that the writer says later.
    let third = MemoryStore::with_key(key(8));
    imported(&third, &archived(&into, loom)?)?;
    assert!(third.accused(loom, key(2).writer())?.is_some());
    Ok(())
}

/// A founder's record of a cast at a host that it has admitted for it, or not.
fn with_cast(is_admitted: bool) -> Made<Arc<MemoryStore>> {
    let (loom, founder) = (loom_of(1), founded(1)?);
    let cast = EntityId::mint(1, &key(1).writer(), &NONCE);
    if is_admitted {
        let minted = Minted { by: key(1).writer(), nonce: NONCE };
        let scope = Scope { entity: cast, minted, opener: key(4).writer(), bytes_max: 1 << 20 };
        let (principal, rights) = (Principal::Key(key(4).writer()), [Right::Write].into_iter().collect());
        let admitted = Admitted { principal, rights, scope: Some(scope), again: Vec::new(), by: None, note: None };
        say(&founder, loom, None, Body::Admitted(Box::new(admitted)))?;
    }
    let (mut unit, mut stream) = (CastUnit::of(cast), CastStream::new(loom, key(1).writer(), cast));
    for sequence in 1..=4 {
        let body = Body::intent(Payloads::default().text("go"), false, None);
        let sealed = Sealed::new(Entry::new(loom, (key(4).writer(), sequence), 1, cast, None, body), Vec::new())?;
        unit.takes(&sealed);
        founder.receive(stream.check(vec![sealed], vec![key(4).sign_cast(loom, cast, unit.at())])?)?;
    }
    Ok(founder)
}

#[test]
fn the_cast_of_a_host_is_taken_if_it_was_admitted_for_it() -> Tested {
    let loom = loom_of(1);
    let into = MemoryStore::with_key(key(9));
    let brought = imported(&into, &archived(&*with_cast(true)?, loom)?)?;
    assert_eq!((brought.entries, brought.left_out.len()), (8, 0), "{brought:?}");
    assert_eq!(into.cast_heads(loom)?.len(), 1);
    let into = MemoryStore::with_key(key(9));
    let brought = imported(&into, &archived(&*with_cast(false)?, loom)?)?;
    assert_eq!(left_out(&brought), [(key(4).writer(), 4, "not_admitted")]);
    assert_eq!((brought.entries, into.cast_heads(loom)?.len()), (3, 0));
    is_clean(&into)
}

#[test]
fn steps_of_a_cast_that_are_not_as_they_were_signed_are_left_out_with_those_behind_them() -> Tested {
    let loom = loom_of(1);
    let (mut manifest, all) = apart(&archived(&*with_cast(true)?, loom)?)?;
    let mut heads = CastHead::parse(&manifest.casts[2].heads).ok_or("heads")?;
    heads[0].signature[0] ^= 1;
    manifest.casts[2].heads = CastHead::to_bytes(&heads);
    let into = MemoryStore::with_key(key(9));
    let brought = imported(&into, &made(&manifest, &all)?)?;
    assert_eq!(left_out(&brought), [(key(4).writer(), 2, "not_signed")]);
    assert_eq!((brought.entries, into.covered(loom, 0, 9)?.len()), (6, 2));
    is_clean(&into)
}

#[test]
fn a_proved_entry_that_does_not_hold_or_is_of_another_loom_is_left_out() -> Tested {
    let (loom, elsewhere) = (loom_of(1), founded(2)?);
    let foreign = elsewhere.entries(loom_of(2))?.remove(0).id;
    let foreign = elsewhere.prove(foreign)?.ok_or("a proof")?.to_proof();
    let own = founded(1)?.entries(loom)?.remove(0).id;
    let unsigned = founded(1)?.prove(own)?.ok_or("a proof")?.to_proof();
    let unsigned = crate::domain::members::ProvedEntry { signature: [0; 64], ..unsigned };
    let (mut manifest, mut all) = apart(&archived(&*founded(1)?, loom)?)?;
    for proof in [foreign.to_bytes(), unsigned.to_bytes()] {
        manifest.proved.push(EntryId::of(&proof));
        all.push((cid(CODEC_DAG_CBOR, &proof), proof));
    }
    let into = MemoryStore::with_key(key(9));
    let brought = imported(&into, &made(&manifest, &all)?)?;
    let expected = [(key(2).writer(), 1, "another_loom"), (key(1).writer(), 1, "not_signed")];
    assert_eq!(left_out(&brought), expected);
    assert_eq!((brought.entries, into.proved(loom)?.len(), into.proved(loom_of(2))?.len()), (3, 0, 0));
    Ok(())
}

#[test]
fn what_vouches_for_a_writer_that_is_left_out_is_not_kept() -> Tested {
    let (loom, founder, other) = (loom_of(1), founded(1)?, MemoryStore::with_key(key(2)));
    speak(&other, loom, 1)?;
    hand(&other, &founder, loom)?;
    let succession = key(7).succeed(&key(2)).to_bytes();
    let (mut manifest, all) = apart(&archived(&founder, loom)?)?;
    manifest.successions = vec![ByteBuf::from(succession)];
    let into = MemoryStore::with_key(key(9));
    let brought = imported(&into, &made(&manifest, &all)?)?;
    assert_eq!((brought.left_out.len(), into.successors(loom, key(7).writer())?.len()), (1, 0));
    // Of somebody whose place a member's key takes it is what makes that one a member.
    admit(&founder, loom, 7)?;
    let (mut manifest, all) = apart(&archived(&founder, loom)?)?;
    manifest.successions = vec![ByteBuf::from(key(7).succeed(&key(2)).to_bytes())];
    let brought = imported(&into, &made(&manifest, &all)?)?;
    assert_eq!(brought.left_out.len(), 0, "{brought:?}");
    assert_eq!(into.successors(loom, key(7).writer())?, [key(2).writer()]);
    Ok(())
}

#[test]
fn an_import_takes_about_twice_the_steps_of_an_archive_that_is_twice_as_long() -> Tested {
    let steps = |entries: u64| -> Made<u64> {
        let (loom, founder) = (loom_of(1), founded(1)?);
        speak(&founder, loom, entries)?;
        let bytes = archived(&founder, loom)?;
        Ok(crate::domain::steps::of(|| assert!(imported(&MemoryStore::with_key(key(9)), &bytes).is_ok())))
    };
    let (once, twice) = (steps(1_000)?, steps(2_000)?);
    assert!(once > 0 && twice * 2 <= once * 5, "{once} and {twice}");
    Ok(())
}
