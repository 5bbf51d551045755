//! Archives that somebody made to do harm.

use std::io::Read;
use std::sync::Arc;

use super::blocks::{Header, read_bytes, read_varint, varint};
use super::*;
use crate::adapters::store::{MemoryStore, NodeKey};
use crate::domain::ids::{EntityId, WriterKey};
use crate::domain::limits::{
    ARCHIVE_ATTESTATIONS_MAX, ARCHIVE_BLOCK_BYTES_MAX, ARCHIVE_BLOCK_COST_BYTES, ARCHIVE_HELD_BYTES_MAX,
    PROVED_LOOM_MAX,
};
use crate::domain::loom::{Blob, Body, CastStream, CastUnit, Entry, Payload, Payloads, Sealed};
use crate::domain::members::{CheckedProof, ProvedEntry};
use crate::domain::steps;
use crate::ports::{LoomStore, MemberStore};

pub(super) type Tested = Result<(), Box<dyn std::error::Error>>;

fn loom(number: u64) -> LoomId {
    LoomId::from_parts(number, [0; 16])
}

/// A loom of so many entries, each with a text beside it.
fn store(entries: u64) -> Result<Arc<MemoryStore>, Box<dyn std::error::Error>> {
    let store = MemoryStore::with_key(NodeKey::from_secret(&[7; 32]));
    for sequence in 1..=entries {
        store.append(entry(loom(1), store.writer(), sequence)?)?;
    }
    Ok(store)
}

fn entry(loom: LoomId, writer: WriterKey, sequence: u64) -> Result<Sealed, Box<dyn std::error::Error>> {
    let mut payloads = Payloads::default();
    let text = payloads.text(&format!("{sequence} ").repeat(10_000));
    assert!(matches!(text, Payload::Blob { .. }));
    let body = Body::intent(text, false, None);
    let entity = EntityId::from_parts(1, [0; 16]);
    let entry = Entry::new(loom, (writer, sequence), 1, entity, None, body);
    Ok(Sealed::new(entry, payloads.into_blobs())?)
}

fn archive(entries: u64) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut bytes = Vec::new();
    write(&*store(entries)?, loom(1), &mut bytes)?;
    Ok(bytes)
}

fn import(mut bytes: &[u8]) -> Result<Archived, CarError> {
    read(&*MemoryStore::new(WriterKey::from_bytes([1; 32])), &mut bytes)
}

/// The blocks of an archive, the manifest first.
pub(super) fn blocks(mut bytes: &[u8]) -> Result<Vec<(Cid, Vec<u8>)>, CarError> {
    let length = read_varint(&mut bytes)?.unwrap_or(0);
    read_bytes(&mut bytes, length)?;
    let mut all = Vec::new();
    while let Some(block) = read_block(&mut bytes, 1)? {
        all.push(block);
    }
    Ok(all)
}

/// An archive with this manifest and these blocks behind it.
pub(super) fn made(manifest: &Manifest, blocks: &[(Cid, Vec<u8>)]) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let root = serde_ipld_dagcbor::to_vec(manifest)?;
    let header = Header { roots: vec![cid(CODEC_DAG_CBOR, &root)], version: 1 };
    let header = serde_ipld_dagcbor::to_vec(&header)?;
    let mut out = Vec::new();
    varint(header.len() as u64, &mut out);
    out.extend(header);
    block(&mut out, &cid(CODEC_DAG_CBOR, &root), &root)?;
    for (name, bytes) in blocks {
        block(&mut out, name, bytes)?;
    }
    Ok(out)
}

/// The manifest of an archive, and its blocks.
pub(super) type Apart = (Manifest, Vec<(Cid, Vec<u8>)>);

fn taken_apart(entries: u64) -> Result<Apart, Box<dyn std::error::Error>> {
    let mut all = blocks(&archive(entries)?)?;
    let (_, manifest) = all.remove(0);
    Ok((serde_ipld_dagcbor::from_slice(&manifest)?, all))
}

/// What an import is refused with.
fn refusal(bytes: &[u8]) -> String {
    import(bytes).map_or_else(|error| error.to_string(), |archived| format!("taken: {archived:?}"))
}

#[test]
fn an_archive_is_taken_whole_in_whatever_order_its_blocks_come() -> Tested {
    let whole = Archived { entries: 40, new: 40, texts: 40, ..Archived::of(loom(1)) };
    assert_eq!(import(&archive(40)?)?, whole);
    let (manifest, mut all) = taken_apart(40)?;
    all.reverse();
    assert_eq!(import(&made(&manifest, &all)?)?, whole);
    Ok(())
}

#[test]
fn an_entry_that_is_named_twice_is_refused_before_anything_is_read() -> Tested {
    let (mut manifest, all) = taken_apart(3)?;
    let named = manifest.logs[0].stretches[0].entries[0];
    for (many, expected) in
        [(6_000, "and it may have 1 to 1024"), (0, "and it may have 1 to 1024"), (2, "as it was signed")]
    {
        manifest.casts = vec![Step { heads: CastHead::to_bytes(&[]), entries: vec![named; many] }];
        let bytes = made(&manifest, &all)?;
        assert!(refusal(&bytes).contains(expected), "{}", refusal(&bytes));
    }
    manifest.casts = Vec::new();
    manifest.logs[0].stretches[0].entries.push(named);
    assert!(refusal(&made(&manifest, &all)?).contains("twice"));
    Ok(())
}

/// A host's log, and a caller's record of its cast in two steps.
fn cast_elsewhere() -> Result<(Arc<MemoryStore>, Vec<Sealed>), Box<dyn std::error::Error>> {
    let (host, caller) = (store(5)?, MemoryStore::with_key(NodeKey::from_secret(&[8; 32])));
    let cast = EntityId::from_parts(1, [0; 16]);
    let (mut unit, mut stream) = (CastUnit::of(cast), CastStream::new(loom(1), LoomStore::writer(&*caller), cast));
    let mut entries = host.entries(loom(1))?;
    for sealed in &mut entries {
        let texts = sealed.text_ids();
        for id in texts {
            sealed.blobs.extend(host.blob(id)?.map(|bytes| Blob { id, bytes }));
        }
    }
    for step in entries.chunks(3) {
        assert!(step.iter().all(|sealed| unit.takes(sealed)));
        let head = host.sign_cast(loom(1), cast, unit.at())?;
        caller.receive(stream.check(step.to_vec(), vec![head])?)?;
    }
    Ok((caller, entries))
}

#[test]
fn what_came_by_a_cast_is_archived_and_imported_with_its_writers_word() -> Tested {
    let (caller, entries) = cast_elsewhere()?;
    let mut bytes = Vec::new();
    write(&*caller, loom(1), &mut bytes)?;
    let into = MemoryStore::new(WriterKey::from_bytes([1; 32]));
    let whole = Archived { entries: 5, new: 5, texts: 5, ..Archived::of(loom(1)) };
    assert_eq!(read(&*into, &mut bytes.as_slice())?, whole);
    assert_eq!(into.cast_heads(loom(1))?, caller.cast_heads(loom(1))?);
    assert_eq!(into.covered(loom(1), 0, 9)?.len(), 2);
    assert!(into.verify(None)?.findings.is_empty());
    // Again it brings nothing new.
    assert_eq!(read(&*into, &mut bytes.as_slice())?, Archived { new: 0, ..whole.clone() });
    assert_eq!(into.entries(loom(1))?.len(), entries.len());
    // Into a record that has the log it brings the heads over it.
    let has_log = store(5)?;
    let with_log = MemoryStore::new(WriterKey::from_bytes([1; 32]));
    let segment = has_log.segment(loom(1), LoomStore::writer(&*has_log), 0)?.ok_or("a log")?;
    for sealed in &entries {
        for blob in &sealed.blobs {
            with_log.keep_text(&blob.bytes)?;
        }
    }
    with_log.take(segment.check()?)?;
    assert_eq!(read(&*with_log, &mut bytes.as_slice())?, Archived { new: 0, ..whole.clone() });
    assert_eq!(with_log.cast_heads(loom(1))?, caller.cast_heads(loom(1))?);
    assert!(with_log.verify(None)?.findings.is_empty());
    let keeps = Body::Keeping { acks: 0, keepers: Vec::new(), accept_loss: false };
    let own = (LoomStore::writer(&*with_log), 1);
    with_log.append(Sealed::new(Entry::new(loom(1), own, 1, None, None, keeps), Vec::new())?)?;
    with_log.forget(loom(1))?;
    assert_eq!(with_log.entries(loom(1))?.len(), entries.len() + 1, "what came by a cast stays with who writes there");
    assert!(with_log.entry(entries[0].id)?.is_some() && with_log.verify(None)?.findings.is_empty());
    into.forget(loom(1))?;
    assert!(
        into.entries(loom(1))?.is_empty() && into.cast_heads(loom(1))?.is_empty(),
        "and goes with the rest elsewhere"
    );
    Ok(())
}

#[test]
fn entries_of_a_cast_that_are_not_as_they_were_signed_are_not_imported() -> Tested {
    let (caller, _) = cast_elsewhere()?;
    let mut bytes = Vec::new();
    write(&*caller, loom(1), &mut bytes)?;
    let mut all = blocks(&bytes)?;
    let (_, manifest) = all.remove(0);
    let of = || -> Result<Manifest, Box<dyn std::error::Error>> { Ok(serde_ipld_dagcbor::from_slice(&manifest)?) };
    let changes: [fn(&mut Manifest); 4] = [
        |manifest| manifest.casts[0].entries.swap(0, 1),
        |manifest| manifest.casts.swap(0, 1),
        |manifest| manifest.casts[1].heads = CastHead::to_bytes(&[]),
        |manifest| {
            let mut heads = CastHead::parse(&manifest.casts[1].heads).unwrap_or_default();
            heads[0].signature[0] ^= 1;
            manifest.casts[1].heads = CastHead::to_bytes(&heads);
        },
    ];
    for change in changes {
        let mut manifest = of()?;
        change(&mut manifest);
        let refused = refusal(&made(&manifest, &all)?);
        assert!(refused.contains("what came with a cast is not as it was signed"), "{refused}");
    }
    Ok(())
}

#[test]
fn a_block_that_comes_twice_or_that_nothing_names_is_refused() -> Tested {
    let (manifest, mut all) = taken_apart(3)?;
    let mut twice = all.clone();
    twice.push(all[1].clone());
    assert!(refusal(&made(&manifest, &twice)?).contains("a second time"));
    let stray = serde_ipld_dagcbor::to_vec(&1)?;
    all.insert(0, (cid(CODEC_DAG_CBOR, &stray), stray));
    assert!(refusal(&made(&manifest, &all)?).contains("named by nothing"));
    all.remove(0);
    all.push((cid(CODEC_RAW, b"stray"), b"stray".to_vec()));
    assert!(refusal(&made(&manifest, &all)?).contains("named by nothing"));
    Ok(())
}

/// Blocks of 1 MiB without an end, each with another text.
struct Endless {
    ready: Vec<u8>,
    count: u64,
    /// The length of each.
    bytes: usize,
}

impl Read for Endless {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.ready.is_empty() {
            self.count += 1;
            let mut text = self.count.to_le_bytes().to_vec();
            text.resize(self.bytes, 0);
            block(&mut self.ready, &cid(CODEC_RAW, &text), &text)?;
        }
        let length = out.len().min(self.ready.len());
        out.iter_mut().zip(self.ready.drain(..length)).for_each(|(out, byte)| *out = byte);
        Ok(length)
    }
}

#[test]
fn blocks_that_nothing_names_are_not_gathered_without_end() -> Tested {
    let (manifest, _) = taken_apart(1)?;
    let start = made(&manifest, &[])?;
    let mut endless = Endless { ready: Vec::new(), count: 0, bytes: 1024 * 1024 };
    let mut input = start.as_slice().chain(&mut endless);
    let refused = read(&*MemoryStore::new(WriterKey::from_bytes([1; 32])), &mut input);
    assert!(matches!(refused, Err(CarError::Malformed(what)) if what.contains("out of order")));
    assert!(endless.count <= ARCHIVE_HELD_BYTES_MAX as u64 / (1024 * 1024) + 1);
    // A pipe of zeros ends at once.
    assert!(read(&*MemoryStore::new(WriterKey::from_bytes([1; 32])), &mut std::io::repeat(0)).is_err());
    assert!(read(&*MemoryStore::new(WriterKey::from_bytes([1; 32])), &mut std::io::repeat(0xff)).is_err());
    Ok(())
}

#[test]
fn small_blocks_that_nothing_names_count_what_they_cost() -> Tested {
    let (manifest, _) = taken_apart(1)?;
    let start = made(&manifest, &[])?;
    let mut endless = Endless { ready: Vec::new(), count: 0, bytes: 8 };
    let mut input = start.as_slice().chain(&mut endless);
    let refused = read(&*MemoryStore::new(WriterKey::from_bytes([1; 32])), &mut input);
    assert!(matches!(refused, Err(CarError::Malformed(what)) if what.contains("out of order")));
    assert!(endless.count <= (ARCHIVE_HELD_BYTES_MAX / ARCHIVE_BLOCK_COST_BYTES) as u64);
    Ok(())
}

#[test]
fn entries_of_another_loom_are_refused() -> Tested {
    let (mut manifest, mut all) = taken_apart(1)?;
    let other = entry(loom(2), WriterKey::from_bytes([9; 32]), 2)?;
    manifest.casts = vec![Step { heads: CastHead::to_bytes(&[]), entries: vec![other.id] }];
    all.extend(other.blobs.iter().map(|blob| (cid(CODEC_RAW, &blob.bytes), blob.bytes.clone())));
    all.push((cid(CODEC_DAG_CBOR, &other.bytes), other.bytes));
    assert!(refusal(&made(&manifest, &all)?).contains("and the archive is of"));
    manifest.casts = Vec::new();
    manifest.loom = loom(2);
    assert!(import(&made(&manifest, &all)?).is_err());
    Ok(())
}

#[test]
fn lengths_that_lie_and_bytes_that_nest_deeply_are_refused() -> Tested {
    let deep = [vec![0x81; 100_000], vec![0]].concat();
    let maps = [[0xa1, 0x61, 0x61].repeat(100_000), vec![0]].concat();
    let mut given: Vec<Vec<u8>> = vec![
        Vec::new(),
        vec![0xff; 10],
        vec![0x80; 1_000],
        [vec![0xff, 0xff, 0xff, 0xff, 0x7f], vec![0; 100]].concat(),
        // A list of 2^60 roots, and a text of 2^62 bytes, in a header of some bytes.
        [vec![18, 0xa1, 0x65], b"roots".to_vec(), vec![0x9b, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat(),
        [vec![10, 0x7b, 0x40], vec![0; 8]].concat(),
    ];
    for nested in [&deep, &maps] {
        let root = cid(CODEC_DAG_CBOR, nested);
        let header = serde_ipld_dagcbor::to_vec(&Header { roots: vec![root], version: 1 })?;
        let mut bytes = Vec::new();
        varint(header.len() as u64, &mut bytes);
        bytes.extend(header);
        block(&mut bytes, &root, nested)?;
        given.push(bytes);
        let (mut manifest, all) = taken_apart(1)?;
        manifest.casts = vec![Step { heads: vec![0x80], entries: vec![EntryId::of(nested)] }];
        let all: Vec<_> = all.into_iter().chain([(root, nested.clone())]).collect();
        given.push(made(&manifest, &all)?);
        let mut header = Vec::new();
        varint(nested.len() as u64, &mut header);
        header.extend(nested);
        given.push(header);
    }
    for bytes in given {
        assert!(import(&bytes).is_err(), "{:?}", bytes.get(..20));
    }
    Ok(())
}

#[test]
fn an_archive_that_is_cut_anywhere_or_changed_anywhere_is_refused() -> Tested {
    let bytes = archive(2)?;
    for length in (0..bytes.len()).step_by(97) {
        assert!(import(&bytes[..length]).is_err(), "cut at {length}");
        let mut changed = bytes.clone();
        changed[length] ^= 0x55;
        assert!(import(&changed).is_err(), "changed at {length}");
    }
    Ok(())
}

#[test]
fn twice_the_archive_takes_twice_the_steps() -> Tested {
    let (once, twice) = (archive(1_000)?, archive(2_000)?);
    let [once, twice] = [once, twice].map(|bytes| steps::of(|| assert!(import(&bytes).is_ok())));
    assert!(once > 0 && twice * 2 <= once * 5, "{once} and {twice}");
    Ok(())
}

#[test]
fn what_an_archive_announces_is_bounded_before_it_is_read() {
    let store = MemoryStore::new(WriterKey::from_bytes([1; 32]));
    // 4 097 in LEB128, and then nothing.
    let header = read(&*store, &mut [0x81, 0x20].as_slice()).unwrap_err().to_string();
    assert!(header.contains("its header has 4097 bytes, and the limit is 4096"), "{header}");
    let block = read_bytes(&mut [].as_slice(), ARCHIVE_BLOCK_BYTES_MAX + 1).unwrap_err().to_string();
    assert!(block.contains("a block has 67108865 bytes, and the limit is 67108864"), "{block}");
}

#[test]
fn what_vouches_for_writers_in_an_archive_is_bounded_and_has_to_be_relied_on() -> Tested {
    let [old, new, stranger] = [1, 7, 9].map(|secret| NodeKey::from_secret(&[secret; 32]));
    let (whole, all) = taken_apart(2)?;
    let with = |successions: Vec<Vec<u8>>| {
        let successions = successions.into_iter().map(ByteBuf::from).collect();
        let (v, loom) = (VERSION, whole.loom);
        let logs = taken_apart(2).map(|(manifest, _)| manifest.logs).unwrap_or_default();
        let (casts, members, proved, divided) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        made(&Manifest { v, loom, logs, casts, members, successions, proved, divided }, &all)
    };
    let succession = old.succeed(&new).to_bytes();
    let store = MemoryStore::new(WriterKey::from_bytes([1; 32]));
    read(&*store, &mut with(vec![succession.clone()])?.as_slice())?;
    assert_eq!(store.successors(loom(1), old.writer())?, [new.writer()]);
    let mut again = Vec::new();
    write(&*store, loom(1), &mut again)?;
    assert_eq!(
        blocks(&again)?.first(),
        blocks(&with(vec![succession.clone()])?)?.first(),
        "it goes on with the archive"
    );

    let far = stranger.succeed(&old).to_bytes();
    assert!(refusal(&with(vec![succession.clone(), far])?).contains("taken"), "the one before it is relied on, too");
    let stray = new.succeed(&stranger).to_bytes();
    assert!(refusal(&with(vec![succession.clone(), stray])?).contains("nothing in it relies on"));
    let mut wrong = old.succeed(&new);
    wrong.by_old[0] ^= 1;
    assert!(refusal(&with(vec![wrong.to_bytes()])?).contains("does not hold"));
    assert!(refusal(&with(vec![b"{}".to_vec()])?).contains("cannot be read"));
    let many = refusal(&with(vec![Vec::new(); ARCHIVE_ATTESTATIONS_MAX + 1])?);
    assert!(many.contains("the limit is 16384"), "{many}");
    Ok(())
}

#[test]
fn proved_entries_go_on_with_an_archive_and_have_to_hold() -> Tested {
    let other = MemoryStore::with_key(NodeKey::from_secret(&[6; 32]));
    for of in [1, 2] {
        other.append(entry(loom(of), other.writer(), 1)?)?;
    }
    let proved = |of: u64| {
        let first = other.entries(loom(of))?.first().map(|sealed| sealed.id).ok_or("no entry")?;
        Ok::<_, Box<dyn std::error::Error>>(other.prove(first)?.ok_or("no proof")?)
    };
    let proof = proved(1)?;
    let source = store(1)?;
    source.keep_proved(std::slice::from_ref(&proof))??;
    let mut bytes = Vec::new();
    let archived = write(&*source, loom(1), &mut bytes)?;
    assert_eq!(archived.entries, 1, "it is none of the archive's own entries");
    let kept = MemoryStore::new(WriterKey::from_bytes([1; 32]));
    assert_eq!(read(&*kept, &mut bytes.as_slice())?.entries, 1);
    assert_eq!(kept.proved(loom(1))?.iter().map(CheckedProof::id).collect::<Vec<_>>(), [proof.id()]);

    let with = |proofs: Vec<Vec<u8>>, count: usize| {
        let (mut manifest, mut all) = taken_apart(1)?;
        let named = proofs.iter().map(|bytes| EntryId::of(bytes));
        manifest.proved = named.cycle().take(count).collect();
        all.extend(proofs.into_iter().map(|bytes| (cid(CODEC_DAG_CBOR, &bytes), bytes)));
        Ok::<_, Box<dyn std::error::Error>>(refusal(&made(&manifest, &all)?))
    };
    assert!(with(vec![proved(2)?.to_proof().to_bytes()], 1)?.contains("is of loom"));
    let unsigned = ProvedEntry { signature: [0; 64], ..proof.to_proof() };
    assert!(with(vec![unsigned.to_bytes()], 1)?.contains("does not hold"));
    assert!(with(vec![proof.to_proof().to_bytes()], 2)?.contains("twice"));
    let many = usize::try_from(PROVED_LOOM_MAX)? + 1;
    assert!(with(vec![proof.to_proof().to_bytes()], many)?.contains("the limit is 65536"));
    Ok(())
}
