//! Copies that peers bring: what is announced is bounded before it is kept, and what one peer brings costs no other.

use std::collections::BTreeMap;
use std::sync::Arc;

use cantrip_runtime::adapters::clock::SystemClock;
use cantrip_runtime::adapters::peer::{AcceptLimits, ConnectionLimits, v1};
use cantrip_runtime::adapters::store::{FileBook, FjallStore, MemoryStore, NodeKey, StoreOptions};
use cantrip_runtime::domain::copies::{CopyKind, CopyMessage, Keeper, Keeping, LoomCopies};
use cantrip_runtime::domain::ids::{EntityId, EntryId, LoomId};
use cantrip_runtime::domain::limits::{
    BOOK_PAGE_BYTES_MAX, CONVERSATIONS_PER_PEER_MAX, COPY_ANSWER_BYTES_MAX, ENTRY_COST_BYTES, KEEPERS_MAX,
    LOG_COST_BYTES, PROOF_BYTES_MAX, WRITERS_PER_PEER_MAX,
};
use cantrip_runtime::domain::loom::{Body, Entry, EquivocationProof, Head, Payload, Sealed, Segment, Side};
use cantrip_runtime::domain::members::{Admitted, Nonce, Principal, Right};
use cantrip_runtime::driver::{Copies, CopyTerms, Session};
use cantrip_runtime::ports::{CopyBook, CopyStore, LoomStore};
use futures_util::StreamExt;

use crate::copy_book::{Book, OPEN, Terms, key};
use crate::raw::{Keys, client, serve};

const NONCE: Nonce = Nonce::from_bytes([1; 16]);

/// A loom of a founder who is none of the writers.
fn loom(number: u16) -> LoomId {
    LoomId::mint(1_790_000_000_000 + u64::from(number), &key(200).writer(), &NONCE, None)
}

/// Has a store know the founder of a loom, who has admitted so many writers and some more.
async fn admitted(disk: &dyn CopyStore, loom: LoomId, writers: impl Iterator<Item = u32>) {
    let founder = MemoryStore::with_key(key(200));
    let admit = |writer: u32| {
        let (principal, rights) = (Principal::Key(key_of(writer).writer()), Right::ALL.into_iter().collect());
        let admitted = Admitted { principal, rights, scope: None, again: Vec::new(), by: None, note: None };
        Body::Admitted(Box::new(admitted))
    };
    let bodies = std::iter::once(Body::Founded { nonce: NONCE, member: None }).chain(writers.map(admit));
    for (sequence, body) in (1..).zip(bodies) {
        let entry = Entry::new(loom, (founder.writer(), sequence), 1, None, None, body);
        founder.append(Sealed::new(entry, Vec::new()).unwrap()).unwrap();
    }
    let mut after = 0;
    while let Some(segment) = founder.segment(loom, founder.writer(), after).unwrap() {
        after = segment.signed.head.sequence;
        disk.take(segment.check().unwrap()).unwrap();
        disk.sync_logs(loom, vec![founder.writer()]).await.unwrap();
    }
}

fn key_of(writer: u32) -> NodeKey {
    NodeKey::from_secret(&(writer + 1_000).to_be_bytes().repeat(8).try_into().unwrap())
}

fn keeper(name: &str) -> Keeper {
    name.parse().unwrap()
}

fn keeping(disk: Arc<dyn CopyStore>, terms: CopyTerms) -> Arc<Copies> {
    let (memory, book) = (MemoryStore::with_key(key(1)), Arc::new(Book::default()));
    Copies::new(keeper("b"), disk, memory, book, Arc::new(Terms(terms)), Arc::new(SystemClock::default())).unwrap()
}

/// A node that keeps copies, and a conversation of `a` with it.
fn talking(terms: CopyTerms) -> (Arc<Copies>, Arc<MemoryStore>, Session) {
    let disk = MemoryStore::with_key(key(1));
    let copies = keeping(Arc::clone(&disk) as _, terms);
    let session = Session::new(Arc::clone(&copies), keeper("a")).unwrap();
    (copies, disk, session)
}

fn have(loom: LoomId, keepers: &[&str]) -> CopyMessage {
    let kept = |name: &&str| (keeper(name), Keeping { revision: 1, kind: CopyKind::Disk });
    let keepers: BTreeMap<_, _> = keepers.iter().map(kept).collect();
    CopyMessage::Have { loom, origin: keeper("a"), keepers, logs: Vec::new(), casts: Vec::new() }
}

/// A log of one entry, by a key of its own.
fn log_of(writer: u32, loom: LoomId, text: &str) -> Segment {
    let store = MemoryStore::with_key(key_of(writer));
    let entity = EntityId::from_parts(1, [1; 16]);
    let body = Body::intent(Payload::Inline(text.to_owned()), false, None);
    let (writer, sequence) = (store.writer(), 1);
    let entry = Entry::new(loom, (writer, sequence), 1, entity, None, body);
    store.append(Sealed::new(entry, Vec::new()).unwrap()).unwrap();
    store.segment(loom, writer, 0).unwrap().unwrap()
}

async fn hear(session: &mut Session, segment: Segment) {
    session.hear(CopyMessage::Segment(Box::new(segment))).await.unwrap();
}

/// What is said of refusals.
fn refusals(session: &mut Session) -> Vec<String> {
    let mut said = Vec::new();
    while let Some(message) = session.next_message().unwrap() {
        if let CopyMessage::Refused { what, .. } = message {
            said.push(what);
        }
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn keepers_without_end_or_with_long_names_are_refused_before_they_are_kept() {
    let keys = Keys::new();
    let folder = tempfile::tempdir().unwrap();
    let book = FileBook::new(folder.path());
    let disk: Arc<dyn CopyStore> = MemoryStore::with_key(key(1));
    let copies = Copies::new(
        keeper("b"),
        disk,
        MemoryStore::with_key(key(1)),
        Arc::clone(&book) as _,
        Arc::new(Terms(OPEN)),
        Arc::new(SystemClock::default()),
    );
    let copies = copies.unwrap();
    let kept = Arc::clone(&copies);
    let (_node, at) =
        serve(&keys, AcceptLimits::default(), ConnectionLimits::default(), |host| host.copies = Some(kept)).await;
    let node = |node: String| v1::Keeper { node, kind: "disk".to_owned(), revision: 1 };
    let long = (0..20).map(|number| node(format!("{number}{}", "n".repeat(100_000)))).collect();
    let many = (0..=KEEPERS_MAX).map(|number| node(format!("n{number}"))).collect();
    let odd = vec![node("../../x".to_owned())];
    for keepers in [long, many, odd] {
        let keepers: Vec<v1::Keeper> = keepers;
        let hello = v1::copy_message::Message::Hello(v1::CopyHello { node: String::new(), client: false });
        let have = v1::copy_message::Message::Have(v1::CopyHave {
            origin: "a".to_owned(),
            loom: loom(1).to_string(),
            keepers,
            logs: Vec::new(),
            casts: Vec::new(),
        });
        let said = [hello, have].map(|message| v1::CopyMessage { message: Some(message) });
        // It says this, and listens until it is left.
        let said = futures_util::stream::iter(said).chain(futures_util::stream::pending());
        let mut answers = client(keys.channel("a", &at).await).sync(said).await.unwrap().into_inner();
        while let Ok(Some(_)) = answers.message().await {}
    }
    assert!(copies.looms().is_empty());
    assert_eq!(book.load().unwrap(), Vec::new(), "a node that starts again finds nothing that it cannot read");
}

#[tokio::test]
async fn a_page_that_cannot_be_read_is_put_aside_and_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let good = LoomCopies::new(loom(1), &keeper("b"));
    FileBook::new(folder.path()).save(&good).unwrap();
    let [damaged, long, newer] = [2, 3, 4].map(|number| folder.path().join(format!("{}.json", loom(number))));
    std::fs::write(&damaged, "{\"version\": 1, \"copi").unwrap();
    std::fs::write(&long, " ".repeat(usize::try_from(BOOK_PAGE_BYTES_MAX).unwrap() + 1)).unwrap();
    std::fs::write(&newer, "{\"version\": 2, \"something\": \"else\"}").unwrap();
    let book = FileBook::new(folder.path());
    assert_eq!(book.load().unwrap(), std::slice::from_ref(&good));
    for path in [&damaged, &long] {
        assert!(!path.exists() && path.with_extension("json.unreadable").exists(), "{}", path.display());
    }
    // What a newer version wrote stays, and is not written over.
    assert!(newer.exists());
    book.save(&LoomCopies::new(loom(4), &keeper("b"))).unwrap_err();
    assert_eq!(FileBook::new(folder.path()).load().unwrap(), [good]);
}

#[tokio::test]
async fn looms_are_counted_for_each_peer_from_their_announcement_on() {
    let (copies, _, mut session) = talking(CopyTerms { looms_max: 3, ..OPEN });
    for number in 0..20 {
        session.hear(have(loom(number), &["a", "b"])).await.unwrap();
    }
    assert_eq!(copies.looms().len(), 3);
    let said = refusals(&mut session);
    assert!(said.len() == 17 && said.iter().all(|what| what.contains("3 looms") && what.contains("keep_max_looms")));
    // Another peer has a share of its own.
    let mut other = Session::new(Arc::clone(&copies), keeper("c")).unwrap();
    other.hear(have(loom(30), &["c", "b"])).await.unwrap();
    assert_eq!(copies.looms().len(), 4);
}

#[tokio::test]
async fn writers_that_a_peer_brings_are_its_own_share() {
    let (copies, disk, mut session) = talking(OPEN);
    session.hear(have(loom(1), &["a", "b", "c"])).await.unwrap();
    let writers = u32::try_from(WRITERS_PER_PEER_MAX).unwrap();
    admitted(&*disk, loom(1), (0..writers + 10).chain([1_000_000])).await;
    for writer in 0..writers + 10 {
        hear(&mut session, log_of(writer, loom(1), "mallory")).await;
    }
    session.flush().await.unwrap();
    assert_eq!(disk.logs(loom(1)).unwrap().len(), 1 + WRITERS_PER_PEER_MAX, "the founder's, and its share");
    assert_eq!(refusals(&mut session).len(), 10, "each of the others is refused by name");
    // The loom goes on: another keeper brings its own, and this one's what it has begun.
    let mut honest = Session::new(Arc::clone(&copies), keeper("c")).unwrap();
    honest.hear(have(loom(1), &["a", "b", "c"])).await.unwrap();
    hear(&mut honest, log_of(1_000_000, loom(1), "honest")).await;
    honest.flush().await.unwrap();
    assert_eq!(disk.logs(loom(1)).unwrap().len(), 1 + WRITERS_PER_PEER_MAX + 1);
    assert_eq!(refusals(&mut honest), Vec::<String>::new());
}

#[tokio::test]
async fn a_log_and_an_entry_cost_more_than_their_bytes() {
    let room = 10 * (LOG_COST_BYTES + ENTRY_COST_BYTES);
    let (_, disk, mut session) = talking(CopyTerms { bytes_max: room, ..OPEN });
    session.hear(have(loom(1), &["a", "b"])).await.unwrap();
    admitted(&*disk, loom(1), 0..100).await;
    for writer in 0..100 {
        hear(&mut session, log_of(writer, loom(1), "x")).await;
    }
    session.flush().await.unwrap();
    let taken = disk.logs(loom(1)).unwrap().len() - 1;
    assert!((1..=10).contains(&taken), "{taken} logs of one short entry were taken for {room} bytes");
    let said = refusals(&mut session);
    assert!(said.iter().all(|what| what.contains("keep_max_bytes")) && said.len() == 100 - taken, "{said:?}");
}

/// A proof that a writer signed two histories.
fn proof(writer: u32, loom: LoomId) -> EquivocationProof {
    let histories = ["one history", "another"].map(|text| log_of(writer, loom, text));
    let sides = histories.each_ref().map(|history| Side {
        ids: history.entries.iter().map(|bytes| EntryId::of(bytes)).collect(),
        signature: history.signed.signature,
    });
    let proof = EquivocationProof::new(loom, histories[0].signed.writer, Head::default(), sides);
    assert!(proof.holds());
    proof
}

async fn accuse(session: &mut Session, proof: EquivocationProof) {
    session.hear(CopyMessage::Divided { proof: Box::new(proof), entries: Vec::new() }).await.unwrap();
}

#[tokio::test]
async fn a_proof_is_kept_only_of_a_writer_that_is_kept_here() {
    let (_, disk, mut session) = talking(OPEN);
    // Of nobody, of a writer that is not here, of a loom that is not kept with this peer.
    accuse(&mut session, proof(1, loom(1))).await;
    session.hear(have(loom(1), &["a", "b"])).await.unwrap();
    for writer in 1..50 {
        accuse(&mut session, proof(writer, loom(1))).await;
    }
    accuse(&mut session, proof(1, loom(2))).await;
    assert_eq!(disk.proofs().unwrap(), Vec::new());
    // Of one that is here: once, and it is not believed any more.
    admitted(&*disk, loom(1), 7..8).await;
    hear(&mut session, log_of(7, loom(1), "one history")).await;
    session.flush().await.unwrap();
    for _ in 0..3 {
        accuse(&mut session, proof(7, loom(1))).await;
    }
    let kept = disk.proofs().unwrap();
    assert_eq!(kept.len(), 1);
    assert!(kept[0].to_bytes().len() < PROOF_BYTES_MAX);
    // A peer that may not keep looms leaves nothing at all.
    let (_, disk, mut session) = talking(CopyTerms::NONE);
    session.hear(have(loom(1), &["a", "b"])).await.unwrap();
    hear(&mut session, log_of(7, loom(1), "one history")).await;
    session.hear(CopyMessage::Text { loom: loom(1), bytes: vec![b'x'; 100_000] }).await.unwrap();
    accuse(&mut session, proof(7, loom(1))).await;
    session.flush().await.unwrap();
    assert!(disk.proofs().unwrap().is_empty() && disk.looms().unwrap().is_empty());
}

#[tokio::test]
async fn a_peer_that_asks_and_does_not_listen_is_left() {
    let (_, _, mut session) = talking(OPEN);
    session.hear(have(loom(1), &["a", "b"])).await.unwrap();
    // Each refusal is an answer that nobody takes.
    let mut heard = 0;
    while !session.is_overrun() {
        hear(&mut session, log_of(heard, loom(2), "of a loom that is not kept")).await;
        heard += 1;
        assert!(u64::from(heard) * 256 <= COPY_ANSWER_BYTES_MAX as u64, "it is never left");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_has_a_few_conversations_at_once() {
    let keys = Keys::new();
    let copies = keeping(MemoryStore::with_key(key(1)), OPEN);
    let (_node, at) =
        serve(&keys, AcceptLimits::default(), ConnectionLimits::default(), |host| host.copies = Some(copies)).await;
    let channel = keys.channel("a", &at).await;
    let mut open = Vec::new();
    for number in 0..=CONVERSATIONS_PER_PEER_MAX {
        let hello = v1::copy_message::Message::Hello(v1::CopyHello { node: String::new(), client: false });
        // It names a loom, so that an answer shows that the conversation goes on.
        let have = v1::copy_message::Message::Have(v1::CopyHave {
            origin: "a".to_owned(),
            loom: loom(1).to_string(),
            keepers: vec![v1::Keeper { node: "a".to_owned(), kind: "disk".to_owned(), revision: 1 }],
            logs: Vec::new(),
            casts: Vec::new(),
        });
        let said = [hello, have].map(|message| v1::CopyMessage { message: Some(message) });
        let said = futures_util::stream::iter(said).chain(futures_util::stream::pending());
        let mut answers = client(channel.clone()).sync(said).await.unwrap().into_inner();
        let first = answers.message().await;
        let goes_on = matches!(first, Ok(Some(_)));
        assert_eq!(goes_on, number < CONVERSATIONS_PER_PEER_MAX, "conversation {number}: {first:?}");
        open.push(answers);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_wait_for_the_disk_and_never_fill_its_queue() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FjallStore::open(folder.path(), StoreOptions::default()).unwrap();
    let copies = keeping(Arc::clone(&disk) as _, OPEN);
    let mut sessions = Vec::new();
    for peer in ["a", "c", "d"] {
        let mut session = Session::new(Arc::clone(&copies), keeper(peer)).unwrap();
        session.hear(have(loom(1), &["a", "b", "c", "d"])).await.unwrap();
        sessions.push(session);
    }
    admitted(&*disk, loom(1), 0..60).await;
    // 30 MB from three sources, none of which makes anything durable: they wait by themselves.
    let text = "x".repeat(500_000);
    for writer in 0..60_u32 {
        let session = &mut sessions[writer as usize % 3];
        hear(session, log_of(writer, loom(1), &text)).await;
        assert!(!disk.is_behind());
    }
    for mut session in sessions {
        session.flush().await.unwrap();
        assert_eq!(refusals(&mut session), Vec::<String>::new());
    }
    assert_eq!(disk.logs(loom(1)).unwrap().len(), 1 + 60);
}

#[test]
fn a_node_starts_with_a_page_that_it_cannot_read() {
    use std::io::BufRead;

    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = crate::node_support::binary(folder.path());
        command.args(arguments);
        command
    };
    let whole = format!("b@127.0.0.1:{}", crate::node_support::port());
    assert!(run(&["cluster", "init", "net", "--node", &whole]).status().unwrap().success());
    let pages = folder.path().join("net/b/data/copies");
    std::fs::create_dir_all(&pages).unwrap();
    let page = pages.join(format!("{}.json", loom(1)));
    std::fs::write(&page, format!("{{\"version\": 1, \"copies\": {{\"loom\": \"{}", "n".repeat(2_000_000))).unwrap();
    let mut serving = run(&["serve", "--config", "net/b/node.toml"]);
    let mut serving = serving.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufReader::new(serving.stderr.take().unwrap()).lines().map_while(Result::ok);
    let serves = lines.any(|line| line.contains("serves on"));
    serving.kill().unwrap();
    serving.wait().unwrap();
    assert!(serves && !page.exists() && page.with_extension("json.unreadable").exists());
}
