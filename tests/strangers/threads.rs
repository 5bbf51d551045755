//! Threads of other looms, as they are kept: what holds of them, whoever has made them.

use std::io::Cursor;
use std::sync::Arc;

use cantrip_runtime::adapters::clock::SystemClock;
use cantrip_runtime::adapters::llm::Scripted;
use cantrip_runtime::adapters::peer::{Identity, make_authority, make_certificate};
use cantrip_runtime::adapters::store::{MemoryStore, NodeKey};
use cantrip_runtime::domain::ids::{BlobId, EntityId, LoomId};
use cantrip_runtime::domain::limits::{FOREIGN_DEPTH_MAX, FOREIGN_SIGNATURES_MAX, FOREIGN_THREAD_BYTES_MAX};
use cantrip_runtime::domain::loom::{
    Blob, Body, Entry, ForeignBudget, ForeignError, ForeignThread, Fork, ForkSource, ForkStrategy, Minted, Opened,
    Payload, Payloads, Said, Sealed, Tree,
};
use cantrip_runtime::domain::members::{Admitted, Nonce, Principal, Right};
use cantrip_runtime::driver::{CastOptions, Fault, TakenThread};
use cantrip_runtime::export::car;
use cantrip_runtime::ports::{CopyStore, LoomStore, MemberStore};
use cantrip_runtime::{Amendment, Cantrip, Exposure, NoMedia, Runtime, Wards, builtin};
use serde_json::json;

use crate::node_support::{binary, text};

const NONCE: Nonce = Nonce::from_bytes([5; 16]);

fn key(number: u8) -> NodeKey {
    NodeKey::from_secret(&[number; 32])
}

/// A node with a record in memory.
struct Node {
    store: Arc<MemoryStore>,
    runtime: Runtime,
}

impl Node {
    fn new(number: u8) -> Self {
        let store = MemoryStore::with_key(key(number));
        let record: Arc<dyn LoomStore> = Arc::clone(&store) as _;
        let runtime = Runtime::new(record, Arc::new(NoMedia), Arc::new(SystemClock::default()), "node");
        Self { store, runtime }
    }

    /// Takes what another has of a loom.
    fn import(&self, from: &Self, loom: LoomId) -> car::Archived {
        let mut bytes = Vec::new();
        car::write(&*from.store, loom, &mut bytes).unwrap();
        car::import(&*self.store, &mut Cursor::new(bytes)).unwrap()
    }

    fn tree(&self, loom: LoomId) -> Tree {
        self.runtime.tree(loom).unwrap()
    }

    /// Goes on with a thread of another loom in one of its own.
    async fn goes_on(&self, taken: TakenThread) -> (LoomId, EntityId) {
        let own = self.runtime.found().unwrap();
        let taken = Arc::new(taken);
        let mut entity = self.runtime.fork_taken(&cantrip(), &taken, own, CastOptions::default()).unwrap();
        entity.send("and now?").await.unwrap();
        (own, entity.entity())
    }

    /// What an `opened` entry of an entity says of the thread that it continues.
    fn source(&self, loom: LoomId, entity: EntityId) -> ForkSource {
        let tree = self.tree(loom);
        let fork = tree.entity(entity).unwrap().opened.fork.clone().unwrap();
        *fork.from.unwrap()
    }

    fn thread(&self, source: &ForkSource) -> ForeignThread {
        let piece = |id| self.store.blob(id).unwrap();
        ForeignThread::read(source, &piece, &ForeignBudget::default()).unwrap()
    }
}

fn cantrip() -> Cantrip {
    let said = json!({ "content": "hm", "tool_calls": [{ "gate": "echo", "args": { "text": "one" } }] });
    let done = json!({ "tool_calls": [{ "gate": "done", "args": { "answer": "two" } }] });
    Cantrip::builder()
        .llm(Arc::new(Scripted::from_values(vec![said, done]).unwrap()))
        .gate(builtin::done())
        .gate(builtin::echo())
        .wards(&Wards { max_turns: Some(9), ..Wards::default() })
        .build(&NoMedia)
        .unwrap()
}

/// A stranger with a loom of two turns, and this node with a thread of it in its own.
async fn forked() -> (Node, Node, (LoomId, EntityId), (LoomId, EntityId)) {
    let (stranger, own) = (Node::new(1), Node::new(2));
    let mut entity = stranger.runtime.summon(&cantrip(), CastOptions::default()).unwrap();
    entity.send("begin").await.unwrap();
    let (loom, of) = (entity.loom(), entity.entity());
    assert!(own.import(&stranger, loom).left_out.is_empty());
    let here = own.goes_on(own.runtime.take_thread(loom, of, 2).unwrap()).await;
    (stranger, own, (loom, of), here)
}

/// Why a thread that was changed does not hold; nothing if it does.
fn refused(own: &Node, thread: ForeignThread) -> Option<ForeignError> {
    thread.check(&|all| own.store.checked(all)).err()
}

#[tokio::test]
async fn a_thread_that_is_forked_from_loom_to_loom_goes_on_up_to_a_depth() {
    let first = Node::new(1);
    let mut entity = first.runtime.summon(&cantrip(), CastOptions::default()).unwrap();
    entity.send("begin").await.unwrap();
    let (mut before, mut loom, mut of) = (first, entity.loom(), entity.entity());
    for depth in 1..=FOREIGN_DEPTH_MAX + 1 {
        let node = Node::new(u8::try_from(depth).unwrap() + 1);
        node.import(&before, loom);
        let turns = 2 * u64::try_from(depth).unwrap();
        let taken = node.runtime.take_thread(loom, of, turns);
        if depth > FOREIGN_DEPTH_MAX {
            assert!(matches!(taken, Err(Fault::Foreign(ForeignError::Depth(_)))), "{taken:?}");
            return;
        }
        let (own, entity) = node.goes_on(taken.unwrap()).await;
        let tree = node.tree(own);
        let thread = tree.thread(entity).unwrap();
        assert_eq!(thread.len() as u64, turns + 2);
        assert!(thread.first().unwrap().from.is_some());
        assert_eq!(tree.foreign_origin(entity).unwrap().loom, loom);
        assert!(node.store.verify(None).unwrap().findings.is_empty());
        (before, loom, of) = (node, own, entity);
    }
}

#[tokio::test]
async fn a_loom_with_a_strangers_thread_is_archived_copied_and_read_by_others_as_it_is_here() {
    let (_, own, strange, (loom, entity)) = forked().await;
    let third = Node::new(3);
    assert!(third.import(&own, loom).left_out.is_empty());
    let keeper = Node::new(4);
    let writer = LoomStore::writer(&*own.store);
    for sealed in own.store.entries(loom).unwrap() {
        for id in sealed.text_ids() {
            keeper.store.keep_text(&own.store.blob(id).unwrap().unwrap()).unwrap();
        }
    }
    let segment = own.store.segment(loom, writer, 0).unwrap().unwrap();
    keeper.store.take(segment.check().unwrap()).unwrap();
    for node in [&third, &keeper] {
        let tree = node.tree(loom);
        assert_eq!(tree.thread(entity).unwrap(), own.tree(loom).thread(entity).unwrap());
        assert_eq!(tree.foreign_origin(entity), own.tree(loom).foreign_origin(entity));
        let origin = tree.foreign_origin(entity).unwrap();
        assert_eq!((origin.loom, origin.entity), strange);
        assert!(node.store.entries(strange.0).unwrap().is_empty(), "nothing of that loom itself is here");
        assert!(node.runtime.may_write(loom).is_err());
    }
}

#[tokio::test]
async fn nothing_of_a_strangers_thread_decides_anything_in_the_loom_that_continues_it() {
    let (_, own, strange, (loom, entity)) = forked().await;
    let tree = own.tree(loom);
    // It is no entity of this loom, it is judged by nobody, and what follows it is this node's alone.
    assert_eq!(tree.entities().map(|(id, _)| id).collect::<Vec<_>>(), [entity]);
    assert!(tree.entity(strange.1).is_err() && tree.owner(strange.1).is_none());
    let members = own.runtime.members(loom).unwrap();
    assert!(members.members.is_empty() && members.founder == members.this_node);
    let restored = tree.restore(entity, None).unwrap();
    assert!(restored.seen.untrusted && restored.turns == 4);
    // A fork at one of the stranger's turns is one of it, and follows nothing in this loom.
    let early = tree.restore(entity, Some(1)).unwrap();
    assert!(early.head.is_none() && early.seen.untrusted && early.turns == 1);
    assert!(tree.restore(entity, Some(3)).unwrap().head.is_some());
}

/// What is done to a thread.
type Change = Box<dyn Fn(&mut ForeignThread)>;

#[tokio::test]
async fn a_thread_that_was_changed_in_any_way_does_not_hold() {
    let (_, own, _, (loom, entity)) = forked().await;
    let source = own.source(loom, entity);
    let whole = own.thread(&source);
    assert_eq!(refused(&own, whole.clone()), None);
    let other = Node::new(9);
    let elsewhere = other.runtime.found().unwrap();
    let foreign = other.store.entries(elsewhere).unwrap().remove(0).bytes;
    let mut forged = Sealed::read(whole.entries.last().unwrap().clone()).unwrap().entry;
    forged.at_us += 1;
    let forged = Sealed::new(forged, Vec::new()).unwrap().bytes;
    let changes: Vec<(&str, Change)> = vec![
        ("not as its writers signed it", Box::new(move |thread| thread.entries.push(forged.clone()))),
        ("of the entity", Box::new(move |thread| thread.entries.push(foreign.clone()))),
        ("not as its writers signed it", Box::new(|thread| thread.entries.push(thread.entries[0].clone()))),
        ("not as its writers signed it", Box::new(|thread| thread.logs[0].signed.signature[0] ^= 1)),
        ("not as its writers signed it", Box::new(|thread| thread.logs.push(thread.logs[0].clone()))),
        ("not as its writers signed it", Box::new(|thread| thread.logs.clear())),
        ("not as its writers signed it", Box::new(move |thread| thread.loom = elsewhere)),
        ("no thread of a loom", Box::new(|thread| thread.entries.push(b"entry".to_vec()))),
    ];
    for (why, change) in changes {
        let mut thread = whole.clone();
        change(&mut thread);
        let refused = refused(&own, thread).map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains(why), "{why}: {refused}");
    }
    // Signed for another place of the log.
    let mut thread = whole.clone();
    thread.logs[0].ids.swap(1, 2);
    let pieces = thread.to_pieces().unwrap();
    let read = of_pieces(&source, &pieces, &ForeignBudget::default()).unwrap();
    assert!(matches!(refused(&own, read), Some(ForeignError::Unsigned(_))));
}

fn of_pieces(source: &ForkSource, pieces: &[Blob], budget: &ForeignBudget) -> Result<ForeignThread, ForeignError> {
    let source = ForkSource { pieces: pieces.iter().map(|piece| piece.id).collect(), ..source.clone() };
    let piece = |id: BlobId| pieces.iter().find(|piece| piece.id == id).map(|piece| piece.bytes.clone());
    ForeignThread::read(&source, &piece, budget)
}

/// A loom of a node's own in which an entity says that it continues such a thread.
fn claims(own: &Node, fork: Fork, pieces: Vec<Blob>) -> (LoomId, EntityId) {
    let loom = own.runtime.found().unwrap();
    let minted = Minted { by: LoomStore::writer(&*own.store), nonce: NONCE };
    let entity = EntityId::mint(7, &minted.by, &NONCE);
    let opened = Opened { minted: Some(minted), fork: Some(fork), ..Opened::default() };
    let place = (minted.by, own.store.head(loom).unwrap().sequence + 1);
    let entry = Entry::new(loom, place, 1, entity, None, Body::Opened(Box::new(opened)));
    own.store.append(Sealed::new(entry, pieces).unwrap()).unwrap();
    (loom, entity)
}

#[tokio::test]
async fn an_entity_that_continues_what_does_not_hold_is_shown_and_not_gone_on_with() {
    let (_, own, strange, (loom, entity)) = forked().await;
    let source = own.source(loom, entity);
    let whole = own.thread(&source).to_pieces().unwrap();
    let mut lies: Vec<(Fork, Vec<Blob>)> = Vec::new();
    let fork = |of, turns, pieces: &[Blob]| {
        let pieces = pieces.iter().map(|piece| piece.id).collect();
        let from = Some(Box::new(ForkSource { pieces, ..source.clone() }));
        Fork { of, turns, strategy: ForkStrategy::Replay, from }
    };
    let junk = vec![Blob { id: BlobId::of(&[0xff; 99]), bytes: vec![0xff; 99] }];
    // No thread at all, no text, more turns than there are, another entity, another loom, a text that is not there.
    lies.push((fork(strange.1, 2, &junk), junk));
    lies.push((fork(strange.1, 3, &whole), whole.clone()));
    lies.push((fork(entity, 2, &whole), whole.clone()));
    let mut other = fork(strange.1, 2, &whole);
    if let Some(from) = &mut other.from {
        from.loom = loom;
    }
    lies.push((other, whole.clone()));
    let mut short = own.thread(&source);
    short.entries.pop();
    let short = short.to_pieces().unwrap();
    lies.push((fork(strange.1, 2, &short), short));
    for (fork, pieces) in lies {
        let node = Node::new(2);
        let (loom, entity) = claims(&node, fork, pieces);
        let tree = node.tree(loom);
        assert_eq!(tree.entities().count(), 1);
        assert!(tree.thread(entity).unwrap().is_empty());
        assert!(tree.restore(entity, None).is_err() && tree.may_go_on(entity).is_err());
        assert_eq!(tree.unread().count(), 1);
    }
}

#[tokio::test]
async fn a_thread_is_bounded_before_it_is_put_together() {
    let (_, own, strange, (loom, entity)) = forked().await;
    let source = own.source(loom, entity);
    let piece = vec![0_u8; 1 << 20];
    let id = BlobId::of(&piece);
    // One piece, named again and again.
    let many = usize::try_from(FOREIGN_THREAD_BYTES_MAX >> 20).unwrap() + 1;
    let source = ForkSource { pieces: vec![id; many], ..source };
    let read = ForeignThread::read(&source, &|_| Some(piece.clone()), &ForeignBudget::default());
    assert!(matches!(read, Err(ForeignError::Size { .. })), "{read:?}");
    // And one that is made here is refused before anything is written.
    let mut long = own.thread(&own.source(loom, entity));
    long.texts = (0..65_u8).map(|number| vec![number; 1 << 20]).collect();
    assert!(matches!(long.to_pieces(), Err(ForeignError::Size { .. })));
    let missing = ForeignThread::read(&source, &|_| None, &ForeignBudget::default());
    assert_eq!(missing.err(), Some(ForeignError::Piece(id)));
    assert_ne!(strange.0, loom);
}

#[tokio::test]
async fn threads_that_are_named_again_and_again_are_read_within_a_bound() {
    let (_, own, _, (loom, entity)) = forked().await;
    let (source, budget) = (own.source(loom, entity), ForeignBudget::default());
    let piece = vec![0_u8; 32 << 20];
    let source = ForkSource { pieces: vec![BlobId::of(&piece); 2], ..source };
    let read = || ForeignThread::read(&source, &|_| Some(piece.clone()), &budget).err();
    for _ in 0..4 {
        assert!(matches!(read(), Some(ForeignError::Malformed(_))));
    }
    assert_eq!(read(), Some(ForeignError::Bytes));
}

#[tokio::test]
async fn signatures_are_counted_before_they_are_checked() {
    let (_, own, _, (loom, entity)) = forked().await;
    let source = own.source(loom, entity);
    let mut thread = own.thread(&source);
    let mut log = thread.logs[0].clone();
    log.ids.clear();
    thread.logs = vec![log; FOREIGN_SIGNATURES_MAX + 1];
    let pieces = thread.to_pieces().unwrap();
    let read = of_pieces(&source, &pieces, &ForeignBudget::default());
    assert!(matches!(read, Err(ForeignError::Signatures { signatures }) if signatures > FOREIGN_SIGNATURES_MAX));
    // Those of several threads together, too.
    let budget = ForeignBudget::default();
    thread.logs.truncate(FOREIGN_SIGNATURES_MAX / 2 + 1);
    let pieces = thread.to_pieces().unwrap();
    assert!(of_pieces(&source, &pieces, &budget).is_ok());
    assert!(matches!(of_pieces(&source, &pieces, &budget), Err(ForeignError::Signatures { .. })));
}

/// A stranger's loom of one turn with such a text in it.
fn spoken(stranger: &Node, text: Vec<u8>) -> (LoomId, EntityId, Blob) {
    let loom = stranger.runtime.found().unwrap();
    let minted = Minted { by: LoomStore::writer(&*stranger.store), nonce: NONCE };
    let entity = EntityId::mint(7, &minted.by, &NONCE);
    let blob = Blob { id: BlobId::of(&text), bytes: text };
    let content = Some(Payload::Blob { id: blob.id, bytes: blob.bytes.len() as u64 });
    let opened = Opened { minted: Some(minted), intent: Payloads::default().text("go"), ..Opened::default() };
    let bodies = [
        (Body::Opened(Box::new(opened)), Vec::new()),
        (Body::Utterance(Box::new(Said { content, ..Said::default() })), vec![blob.clone()]),
        (Body::Observation(Box::default()), Vec::new()),
    ];
    let mut parent = None;
    for (body, blobs) in bodies {
        let place = (minted.by, stranger.store.head(loom).unwrap().sequence + 1);
        let sealed = Sealed::new(Entry::new(loom, place, u64::MAX, entity, parent, body), blobs).unwrap();
        parent = Some(sealed.id);
        stranger.store.append(sealed).unwrap();
    }
    (loom, entity, blob)
}

#[tokio::test]
async fn texts_of_a_stranger_that_are_no_text_or_far_too_long_found_no_loom() {
    let stranger = Node::new(1);
    let (loom, ..) = spoken(&stranger, vec![0xff; 20_000]);
    let mut bytes = Vec::new();
    car::write(&*stranger.store, loom, &mut bytes).unwrap();
    let own = Node::new(2);
    assert!(car::import(&*own.store, &mut Cursor::new(bytes)).is_err(), "what is no text is not taken");
    assert!(own.store.looms().unwrap().is_empty());
    // A text of 60 MiB fits into a block of an archive, and two of them into no thread.
    let stranger = Node::new(3);
    let (loom, entity, _) = spoken(&stranger, vec![b'x'; 65 << 20]);
    let taken = stranger.runtime.take_thread(loom, entity, 1);
    assert!(matches!(taken, Err(Fault::Foreign(ForeignError::Size { .. }))), "{taken:?}");
    let (loom, entity, _) = spoken(&stranger, vec![b'y'; 20 << 20]);
    let own = Node::new(4);
    assert!(own.import(&stranger, loom).left_out.is_empty());
    let (here, forked) = own.goes_on(own.runtime.take_thread(loom, entity, 1).unwrap()).await;
    assert_eq!(own.tree(here).thread(forked).unwrap().len(), 3);
    // The clock of the stranger's machine, which is at the end of time, is none of this one's.
    assert!(own.tree(here).thread(forked).unwrap()[0].at_us == u64::MAX);
}

#[tokio::test]
async fn a_strangers_node_that_is_called_as_this_one_is_another_and_makes_it_no_member() {
    let (authority, authority_key) = make_authority().unwrap();
    let (certificate, node_key) = make_certificate(&authority_key, &"build".parse().unwrap()).unwrap();
    let identity = Identity::from_pem(&authority, &certificate, &node_key).unwrap();
    let (stranger, own) = (Node::new(1), Node::new(2));
    let (chain, by_certificate) = identity.attest(key(1).writer()).unwrap();
    let record = key(1).vouch(chain, by_certificate);
    stranger.store.attest_own(&record).unwrap();
    // The stranger admits `build`, as its own authority names it, and this node's name is `build`, too.
    let (theirs, their_key) = make_authority().unwrap();
    let (certificate, node_key) = make_certificate(&their_key, &"build".parse().unwrap()).unwrap();
    let (chain, by_certificate) =
        Identity::from_pem(&theirs, &certificate, &node_key).unwrap().attest(key(2).writer()).unwrap();
    own.store.attest_own(&key(2).vouch(chain, by_certificate)).unwrap();
    let loom = stranger.runtime.found().unwrap();
    let founder = stranger.runtime.members(loom).unwrap().founder.unwrap();
    let rights = [Right::Write].into_iter().collect();
    let admitted =
        Admitted { principal: founder.clone(), rights, scope: None, again: Vec::new(), by: None, note: None };
    let place = (key(1).writer(), stranger.store.head(loom).unwrap().sequence + 1);
    let entry = Entry::new(loom, place, 1, None, None, Body::Admitted(Box::new(admitted)));
    stranger.store.append(Sealed::new(entry, Vec::new()).unwrap()).unwrap();
    let brought = own.import(&stranger, loom);
    assert!(brought.left_out.is_empty(), "{brought:?}");
    assert_eq!(brought.founder, Some(founder.clone()));
    assert!(matches!(&founder, Principal::Node(node) if node.name.as_str() == "build"), "{founder}");
    assert!(founder.to_string().starts_with("build (authority "), "{founder}");
    let members = own.runtime.members(loom).unwrap();
    assert_eq!((members.this_node, members.founder), (None, Some(founder)));
    assert!(own.runtime.may_write(loom).is_err());
}

#[tokio::test]
async fn what_a_thread_says_it_had_met_is_met_by_whoever_goes_on_with_it() {
    let (_, own, _, (loom, entity)) = forked().await;
    let opened = own.tree(loom).entity(entity).unwrap().opened.clone();
    let seen = opened.standing.unwrap().exposure.unwrap();
    assert_eq!(seen, Exposure { untrusted: true, ..Exposure::default() });
    assert_eq!(own.tree(loom).restore(entity, None).unwrap().seen, seen);
    // Whoever opens it otherwise, and says nothing of what it had met, changes nothing.
    let source = own.source(loom, entity);
    let pieces = own.thread(&source).to_pieces().unwrap();
    let (claimed, silent) = claims(&own, opened.fork.unwrap(), pieces);
    assert!(own.tree(claimed).restore(silent, None).unwrap().seen.untrusted);
}

/// A founder's loom with a log of somebody whom nobody has admitted.
fn with_intruder(founder: &Node, intruder: &Node) -> LoomId {
    let loom = founder.runtime.found().unwrap();
    let place = (LoomStore::writer(&*intruder.store), 1);
    let body = Body::intent(Payload::Inline("let me in".to_owned()), false, None);
    let entry = Entry::new(loom, place, 1, EntityId::from_parts(1, [3; 16]), None, body);
    intruder.store.append(Sealed::new(entry, Vec::new()).unwrap()).unwrap();
    let segment = intruder.store.segment(loom, place.0, 0).unwrap().unwrap();
    founder.store.take(segment.check().unwrap()).unwrap();
    loom
}

#[test]
fn an_import_says_how_much_it_left_out_of_whom_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let (founder, intruder) = (Node::new(1), Node::new(2));
    let loom = with_intruder(&founder, &intruder);
    let write = |node: &Node, name: &str| {
        let mut bytes = Vec::new();
        car::write(&*node.store, loom, &mut bytes).unwrap();
        std::fs::write(folder.path().join(name), bytes).unwrap();
    };
    write(&founder, "whole.car");
    write(&intruder, "alone.car");
    let run = |arguments: &[&str]| binary(folder.path()).args(arguments).output().unwrap();
    let key = key(2).writer().to_string();
    let why = "nobody has admitted their writer to the loom, as far as is known here";
    // Of a loom of which nothing is taken nothing is there, and it is said.
    let nothing = run(&["loom", "import", "alone.car"]);
    let said = text(&nothing.stderr);
    assert_eq!((nothing.status.code(), text(&nothing.stdout).as_str()), (Some(4), ""), "{said}");
    assert!(said.contains(&format!("left out 1 entry of writer {key}: {why}")), "{said}");
    assert!(said.contains("who founded the loom is not known"), "{said}");
    let whole = run(&["loom", "import", "whole.car", "--json"]);
    assert_eq!(whole.status.code(), Some(0), "{}", text(&whole.stderr));
    let whole: serde_json::Value = serde_json::from_slice(&whole.stdout).unwrap();
    assert_eq!(
        whole,
        json!({
            "loom": loom.to_string(), "entries": 1, "new": 1, "texts": 0, "this_node": null,
            "founder": { "key": LoomStore::writer(&*founder.store).to_string() },
            "left_out": [{ "writer": key, "entries": 1, "why": "not_admitted", "what": why }],
        })
    );
    let said = text(&run(&["loom", "import", "whole.car"]).stderr);
    assert!(said.contains("this node is no member of it") && said.contains("loom fork ENTRY"), "{said}");
    // A pipe cannot be read twice.
    let piped = run(&["loom", "import", "/dev/null"]);
    assert!(piped.status.code() == Some(2) && text(&piped.stderr).contains("is no file"), "{}", text(&piped.stderr));
}

#[tokio::test]
async fn turns_behind_the_place_where_a_writers_histories_divide_are_none_of_a_thread_that_is_taken() {
    let (stranger, own, (loom, of), (here, entity)) = forked().await;
    // The stranger goes on from its second entry as if nothing had been, and signs that, too.
    let entries = stranger.store.entries(loom).unwrap();
    let other = Node::new(1);
    for sealed in entries.iter().take(2).cloned() {
        other.store.append(sealed).unwrap();
    }
    let body = Body::intent(Payload::Inline("something else".to_owned()), false, None);
    let place = (key(1).writer(), 3);
    let entry = Entry::new(loom, place, 1, of, Some(entries[1].id), body);
    other.store.append(Sealed::new(entry, Vec::new()).unwrap()).unwrap();
    let brought = own.import(&other, loom);
    assert_eq!(brought.left_out.len(), 1, "{brought:?}");
    assert_eq!(own.store.proofs().unwrap().len(), 1);
    assert!(own.runtime.take_thread(loom, of, 1).is_err());
    // What was taken before is as it was.
    assert_eq!(own.tree(here).thread(entity).unwrap().len(), 4);
    let taken = own.runtime.take_thread(loom, of, 0).unwrap();
    let (again, fork) = own.goes_on(taken).await;
    assert_eq!(own.thread(&own.source(again, fork)).divided.len(), 1);
}

#[tokio::test]
async fn a_founder_is_expelled_by_nobody_and_as_a_node_not_even_by_itself() {
    let (authority, authority_key) = make_authority().unwrap();
    let (certificate, node_key) = make_certificate(&authority_key, &"build".parse().unwrap()).unwrap();
    let identity = Identity::from_pem(&authority, &certificate, &node_key).unwrap();
    let founder = Node::new(1);
    let (chain, by_certificate) = identity.attest(key(1).writer()).unwrap();
    founder.store.attest_own(&key(1).vouch(chain, by_certificate)).unwrap();
    let loom = founder.runtime.found().unwrap();
    let named = founder.runtime.members(loom).unwrap().founder.unwrap();
    let before = founder.store.head(loom).unwrap();
    let refused = founder.runtime.expel(loom, named.into(), None).await.unwrap_err();
    assert!(matches!(refused, Fault::Founder { loom: of } if of == loom), "{refused}");
    assert!(refused.to_string().contains("a founder is not expelled, but for single keys"), "{refused}");
    assert_eq!(founder.store.head(loom).unwrap(), before, "nothing is written");
}

#[tokio::test]
async fn every_way_into_a_strangers_loom_is_closed_before_anything_is_written() {
    let (stranger, own) = (Node::new(1), Node::new(2));
    let mut entity = stranger.runtime.summon(&cantrip(), CastOptions::default()).unwrap();
    entity.send("begin").await.unwrap();
    let (loom, of) = (entity.loom(), entity.entity());
    own.import(&stranger, loom);
    let into = || CastOptions { loom: Some(loom), ..CastOptions::default() };
    let taken = Arc::new(own.runtime.take_thread(loom, of, 1).unwrap());
    let replayed = own.runtime.replay(loom, of, None).await.unwrap();
    let turn = own.tree(loom).thread(of).unwrap()[0].id;
    let judgement = Amendment::Reward { value: 1.0, by: "me".to_owned() };
    let refused = [
        ("a cast", own.runtime.summon(&cantrip(), into()).err()),
        ("a fork", own.runtime.fork(&cantrip(), loom, of, 1, CastOptions::default()).err()),
        ("another loom's thread", own.runtime.fork_taken(&cantrip(), &taken, loom, into()).err()),
        ("a resume", own.runtime.resume(&cantrip(), loom, of, &CastOptions::default()).err()),
        ("a replay", own.runtime.record_replay(&replayed).await.err()),
        ("an adoption", own.runtime.adopt(loom, of, false).await.err()),
    ];
    for (what, refused) in refused {
        assert!(matches!(refused, Some(Fault::NotPermitted { .. })), "{what}: {refused:?}");
    }
    assert!(own.runtime.amend(loom, turn, judgement).await.is_err());
    assert_eq!(own.store.head(loom).unwrap().sequence, 0, "nothing is written");
}
