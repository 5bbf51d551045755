//! What the tests of copies share: nodes that keep looms together, and conversations without a network.

#![expect(clippy::expect_used, reason = "each test file uses a part of it, and a failure here fails the test")]

mod book;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use anyhow::Result;
use cantrip_runtime::adapters::clock::SystemClock;
use cantrip_runtime::adapters::store::MemoryStore;
use cantrip_runtime::domain::copies::{CopyKind, CopyMessage, Keeper};
use cantrip_runtime::domain::ids::{EntryId, LoomId};
use cantrip_runtime::domain::loom::{Body, Entry, Sealed};
use cantrip_runtime::domain::members::{Admitted, Nonce, Principal, Right};
use cantrip_runtime::driver::{Copies, CopyTerms, Session};
use cantrip_runtime::ports::{CopyStore, LoomStore};

pub(crate) use self::book::{Book, OPEN, Terms, key};

use crate::store_support::{entity, said, wait};

/// A keeper of this name.
pub(crate) fn named(name: &str) -> Keeper {
    name.parse().expect("a name of a keeper")
}

/// Founds a loom with the first entry of a store's own log, and admits whoever has these keys.
pub(crate) fn found(store: &dyn LoomStore, number: u8, members: &[u8]) -> Result<LoomId> {
    let nonce = Nonce::from_bytes([number; 16]);
    let loom = LoomId::mint(1_790_000_000_000 + u64::from(number), &store.writer(), &nonce, None);
    say(store, loom, Body::Founded { nonce, member: None })?;
    admit(store, loom, members)?;
    Ok(loom)
}

/// Admits whoever has these keys to all there is to do.
pub(crate) fn admit(store: &dyn LoomStore, loom: LoomId, members: &[u8]) -> Result<()> {
    for member in members {
        let (principal, rights) = (Principal::Key(key(*member).writer()), Right::ALL.into_iter().collect());
        let admitted = Admitted { principal, rights, scope: None, again: Vec::new(), by: None, note: None };
        say(store, loom, Body::Admitted(Box::new(admitted)))?;
    }
    Ok(())
}

/// Says something about a loom as a whole.
fn say(store: &dyn LoomStore, loom: LoomId, body: Body) -> Result<()> {
    let place = (store.writer(), store.head(loom)?.sequence + 1);
    store.append(Sealed::new(Entry::new(loom, place, place.1, None, None, body), Vec::new())?)?;
    Ok(wait(store.sync(loom))?)
}

/// One node.
pub(crate) struct Node {
    pub(crate) name: Keeper,
    pub(crate) disk: Arc<dyn CopyStore>,
    pub(crate) memory: Arc<dyn CopyStore>,
    pub(crate) copies: Arc<Copies>,
    number: u8,
    pub(crate) book: Arc<Book>,
    terms: CopyTerms,
}

fn started(
    name: &Keeper,
    number: u8,
    disk: &Arc<dyn CopyStore>,
    book: &Arc<Book>,
    terms: CopyTerms,
) -> (Arc<dyn CopyStore>, Arc<Copies>) {
    let memory: Arc<dyn CopyStore> = MemoryStore::with_key(key(number));
    let copies = Copies::new(
        name.clone(),
        Arc::clone(disk),
        Arc::clone(&memory),
        Arc::clone(book) as _,
        Arc::new(Terms(terms)),
        Arc::new(SystemClock::default()),
    );
    (memory, copies.expect("a book in memory"))
}

impl Node {
    pub(crate) fn new(number: u8) -> Self {
        Self::on(number, MemoryStore::with_key(key(number)), OPEN)
    }

    pub(crate) fn on(number: u8, disk: Arc<dyn CopyStore>, terms: CopyTerms) -> Self {
        let name = named(&format!("node{number}"));
        let book = Arc::new(Book::default());
        let (memory, copies) = started(&name, number, &disk, &book, terms);
        Self { name, disk, memory, copies, number, book, terms }
    }

    /// Ends and starts again: the disk and the book stay.
    pub(crate) fn restart(&mut self) {
        (self.memory, self.copies) = started(&self.name, self.number, &self.disk, &self.book, self.terms);
    }

    /// Writes an entry behind whichever entries of the loom are here; the number says which.
    pub(crate) fn write(&self, loom: LoomId, number: usize, text: &str) -> Result<EntryId> {
        let entries = self.disk.entries(loom)?;
        let parent =
            if entries.is_empty() { None } else { entries.get(number % entries.len()).map(|sealed| sealed.id) };
        let sealed = said(&*self.disk, loom, entity(1), parent, text)?;
        let id = sealed.id;
        self.disk.append(sealed)?;
        wait(self.disk.sync(loom))?;
        self.copies.grown(loom);
        Ok(id)
    }

    /// The entries of a loom that are here, but for those about who may write.
    pub(crate) fn ids(&self, loom: LoomId) -> Result<BTreeSet<EntryId>> {
        let stores = [&self.disk, &self.memory];
        let mut ids = BTreeSet::new();
        for store in stores {
            let written = store.entries(loom)?.into_iter();
            let written = written.filter(|it| !matches!(it.entry.body, Body::Founded { .. } | Body::Admitted(_)));
            ids.extend(written.map(|sealed| sealed.id));
        }
        Ok(ids)
    }

    pub(crate) fn session(&self, with: &Self) -> Result<Session> {
        Ok(Session::new(Arc::clone(&self.copies), with.name.clone())?)
    }
}

/// A connection between two nodes, with what is on its way.
pub(crate) struct Wire {
    pub(crate) sessions: [Session; 2],
    pub(crate) on_the_way: [VecDeque<CopyMessage>; 2],
    /// Everything that was ever said, by either side.
    pub(crate) said: Vec<CopyMessage>,
}

impl Wire {
    pub(crate) fn connect(one: &Node, other: &Node) -> Result<Self> {
        Ok(Self {
            sessions: [one.session(other)?, other.session(one)?],
            on_the_way: Default::default(),
            said: Vec::new(),
        })
    }

    /// One side says something, if it has something to say.
    pub(crate) fn say(&mut self, side: usize) -> Result<bool> {
        self.sessions[side].refresh()?;
        let Some(message) = self.sessions[side].next_message()? else { return Ok(false) };
        self.said.push(message.clone());
        self.on_the_way[1 - side].push_back(message);
        Ok(true)
    }

    /// One side hears what is on its way to it, and makes it durable.
    pub(crate) fn hear(&mut self, side: usize) -> Result<bool> {
        let Some(message) = self.on_the_way[side].pop_front() else { return Ok(false) };
        wait(self.sessions[side].hear(message))?;
        wait(self.sessions[side].flush())?;
        Ok(true)
    }

    /// Both speak until neither has anything to say.
    pub(crate) fn settle(&mut self) -> Result<()> {
        for _ in 0..100_000 {
            let mut moved = false;
            for side in [0, 1] {
                moved |= self.say(side)?;
                moved |= self.hear(side)?;
            }
            if !moved {
                return Ok(());
            }
        }
        anyhow::bail!("two nodes never stop speaking")
    }
}

/// Has every node share a loom with every other.
pub(crate) fn share_all(nodes: &[Node], loom: LoomId) -> Result<()> {
    for node in nodes {
        for other in nodes.iter().filter(|other| other.name != node.name) {
            node.copies.share(loom, &other.name, CopyKind::Disk, None)?;
        }
    }
    Ok(())
}
