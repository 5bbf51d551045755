//! Conversations at work: one for each keeper that can be reached, begun again when it breaks.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Copies;
use super::session::Session;
use crate::domain::copies::{CopyMessage, Keeper};
use crate::domain::ids::NodeName;
use crate::domain::limits::CONVERSATIONS_PER_PEER_MAX;
use crate::domain::remote::HostIdentity;
use crate::driver::fault::chain;
use crate::driver::weighed;
use crate::ports::{BoxFuture, PeerError, StoreError};

/// Between two tries to reach a keeper: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// So long the node with the later name waits for the other to connect, so that one connection is made and not two.
const COURTESY: Duration = Duration::from_millis(500);
/// So often the book is read again.
const LOOK: Duration = Duration::from_secs(1);
/// After so many looks what was written without a sync is looked for too: all that counts is synced, and sent then.
const LOOKS_FOR_ALL: u32 = 30;
/// 64 messages are heard before they are made durable together.
const HEARD_TOGETHER: usize = 64;

/// Both ends of a connection to another keeper. It is lost when nothing comes any more.
#[derive(Debug)]
pub struct CopyWire {
    /// Takes what is said.
    pub out: mpsc::Sender<CopyMessage>,
    /// Gives what is heard, or why no more is.
    pub incoming: weighed::Receiver<Result<CopyMessage, String>>,
    /// Whatever has to live as long as the wire does.
    pub guard: Box<dyn std::any::Any + Send>,
}

/// The way to other keepers.
pub trait Linking: Send + Sync + std::fmt::Debug {
    /// Whether a node can be connected to from here at all: whoever cannot connects by itself.
    fn knows(&self, node: &NodeName) -> bool;

    /// Whether others connect to this node too: then one of two waits for the other.
    fn listens(&self) -> bool;

    /// As whom a node writes, as its certificate and its own word say.
    fn identify<'a>(&'a self, node: &'a NodeName) -> BoxFuture<'a, Result<Arc<HostIdentity>, PeerError>>;

    /// Connects to a node by the name in its certificate.
    fn link<'a>(&'a self, node: &'a NodeName) -> BoxFuture<'a, Result<CopyWire, PeerError>>;
}

/// Counts a conversation as long as it goes on.
struct Talking<'a>(&'a Copies, &'a Keeper);

impl<'a> Talking<'a> {
    /// Nothing where there are as many conversations with this peer as there may be.
    fn begin(copies: &'a Copies, peer: &'a Keeper) -> Option<Self> {
        let mut state = copies.lock();
        let count = state.talking.entry(peer.clone()).or_default();
        if *count >= CONVERSATIONS_PER_PEER_MAX {
            return None;
        }
        *count = count.saturating_add(1);
        drop(state);
        Some(Self(copies, peer))
    }
}

impl Drop for Talking<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if let Some(count) = state.talking.get_mut(self.1) {
            *count = count.saturating_sub(1);
        }
    }
}

/// Hears what has come, and makes it durable together. Returns why the conversation is over, where it is.
async fn hear_together(
    session: &mut Session,
    first: Option<Result<CopyMessage, String>>,
    incoming: &mut weighed::Receiver<Result<CopyMessage, String>>,
) -> Result<Option<String>, StoreError> {
    let mut heard = first;
    for _ in 0..HEARD_TOGETHER {
        match heard {
            None => return Ok(Some("the connection was closed".to_owned())),
            Some(Err(what)) => return Ok(Some(what)),
            Some(Ok(message)) => session.hear(message).await?,
        }
        match incoming.try_recv() {
            Some(more) => heard = Some(more),
            None => break,
        }
    }
    session.flush().await?;
    Ok(None)
}

impl Copies {
    /// Speaks with a keeper until the connection is lost; returns why it was.
    ///
    /// # Errors
    /// Ours: a record that cannot be read or written.
    pub async fn converse(self: &Arc<Self>, peer: &Keeper, mut wire: CopyWire) -> Result<String, StoreError> {
        let Some(_talking) = Talking::begin(self, peer) else {
            let what = format!("{CONVERSATIONS_PER_PEER_MAX} conversations about copies go on with {peer} already");
            self.refusals.note(peer, "a conversation about copies was refused", &what);
            return Ok(what);
        };
        let mut news = self.news.subscribe();
        let mut session = Session::new(Arc::clone(self), peer.clone())?;
        let mut pending = None;
        loop {
            if pending.is_none() {
                pending = session.next_message()?;
            }
            tokio::select! {
                biased;
                heard = wire.incoming.recv() => {
                    match hear_together(&mut session, heard, &mut wire.incoming).await {
                        Ok(None) => {}
                        Ok(Some(ended)) => return Ok(ended),
                        Err(error) => {
                            // As much of it as goes out at once: the connection ends with this.
                            for message in session.cannot_keep() {
                                if wire.out.try_send(message).is_err() {
                                    break;
                                }
                            }
                            return Err(error);
                        }
                    }
                    if session.is_overrun() {
                        let what = format!("{peer} does not listen to what it is told");
                        self.refusals.note(peer, "a conversation about copies was ended", &what);
                        return Ok(what);
                    }
                }
                permit = wire.out.reserve(), if pending.is_some() => match (permit, pending.take()) {
                    (Ok(permit), Some(message)) => permit.send(message),
                    (Ok(_), None) => {}
                    (Err(_), _) => return Ok("the connection was closed".to_owned()),
                },
                changed = news.changed() => {
                    if changed.is_err() {
                        return Ok("this node has ended".to_owned());
                    }
                    session.refresh()?;
                }
            }
        }
    }

    fn is_talking(&self, peer: &Keeper) -> bool {
        self.lock().talking.get(peer).is_some_and(|count| *count > 0)
    }

    /// Keeps a conversation with every keeper that can be reached, until it is told to stop.
    pub async fn keep_up(self: Arc<Self>, links: Arc<dyn Linking>, stop: CancellationToken) {
        self.reach_by(Arc::clone(&links));
        let mut tasks: JoinSet<NodeName> = JoinSet::new();
        let mut running: HashSet<NodeName> = HashSet::new();
        let mut news = self.news.subscribe();
        let mut looks = 0;
        let mut seen = 0;
        let mut keepers = self.keepers();
        // However often something grows, the book is read again.
        let mut look = self.clock.sleep(LOOK);
        loop {
            for keeper in std::mem::take(&mut keepers).iter().filter_map(Keeper::node).cloned() {
                if links.knows(&keeper) && running.insert(keeper.clone()) {
                    tasks.spawn(Arc::clone(&self).follow(keeper, Arc::clone(&links)));
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                Some(ended) = tasks.join_next() => {
                    if let Ok(keeper) = ended {
                        running.remove(&keeper);
                        keepers = self.keepers();
                    }
                }
                changed = news.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let (grown, now) = self.grown_since(seen);
                    seen = now;
                    // Not all looms for each that has grown: a peer may have thousands of them kept here.
                    keepers = self.keepers_of(&grown);
                }
                () = &mut look => {
                    look = self.clock.sleep(LOOK);
                    if let Err(error) = self.reread() {
                        tracing::error!(%error, "the book of copies cannot be read");
                    }
                    looks += 1;
                    if looks >= LOOKS_FOR_ALL {
                        looks = 0;
                        self.grown_everywhere();
                    }
                }
            }
        }
    }

    /// Reaches one keeper again and again, as long as anything is shared with it.
    async fn follow(self: Arc<Self>, node: NodeName, links: Arc<dyn Linking>) -> NodeName {
        let (keeper, mut wait) = (Keeper::Node(node.clone()), RETRY.0);
        while self.keepers().contains(&keeper) {
            if links.listens() && *self.node() > keeper {
                self.clock.sleep(COURTESY).await;
            }
            if self.is_talking(&keeper) {
                self.clock.sleep(LOOK).await;
                continue;
            }
            let (what, is_news) = match links.link(&node).await {
                Ok(wire) => {
                    wait = RETRY.0;
                    match self.converse(&keeper, wire).await {
                        // What the other side has said before says more than that it hung up.
                        Ok(what) => (what, false),
                        Err(error) => {
                            tracing::error!(%error, %node, "copies cannot be kept up");
                            (chain(&error), true)
                        }
                    }
                }
                Err(error) => (chain(&error), true),
            };
            let now_us = self.clock.now_us();
            self.note_all(&keeper, |state| {
                if is_news || state.last_error.is_none() {
                    state.fail(now_us, what.clone());
                }
            });
            self.clock.sleep(wait).await;
            wait = (wait * 2).min(RETRY.1);
        }
        node
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::clock::SystemClock;
    use crate::adapters::store::{FileBook, MemoryStore, NodeKey};
    use crate::domain::copies::CopyKind;
    use crate::domain::ids::LoomId;
    use crate::domain::steps;
    use crate::driver::{CopyPolicy, CopyTerms};

    #[derive(Debug)]
    struct Everybody;

    impl CopyPolicy for Everybody {
        fn terms(&self, _: &Keeper) -> CopyTerms {
            CopyTerms { disk: true, memory: true, bytes_max: u64::MAX, looms_max: usize::MAX }
        }
    }

    fn store() -> Arc<MemoryStore> {
        MemoryStore::with_key(NodeKey::from_secret(&[1; 32]))
    }

    #[test]
    fn a_change_of_one_loom_looks_at_no_other() {
        const LOOMS: u64 = 1_000;
        let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::new(SystemClock::default()));
        let (disk, memory, book) = (store(), store(), FileBook::new(folder.path()));
        let copies = Copies::new("a".parse().unwrap(), disk, memory, book, Arc::new(Everybody), clock).unwrap();
        let peer: Keeper = "m".parse().unwrap();
        let loom = |number| LoomId::from_parts(number, [1; 16]);
        let share = |number, with: &Keeper| copies.share(loom(number), with, CopyKind::Disk, None).unwrap();
        for number in 0..LOOMS {
            share(number, &peer);
        }
        let mut session = Session::new(Arc::clone(&copies), peer.clone()).unwrap();
        session.refresh().unwrap();
        while session.next_message().unwrap().is_some() {}
        let taken = steps::of(|| {
            share(7, &"x".parse().unwrap());
            session.refresh().unwrap();
        });
        assert!(taken < 10, "{taken} looms were looked at for one of {LOOMS}");
        let said = std::iter::from_fn(|| session.next_message().unwrap()).count();
        assert_eq!(said, 1, "whoever keeps it hears who else does");
        // Of one that it did not keep before it hears, too.
        share(LOOMS, &peer);
        session.refresh().unwrap();
        assert_eq!(std::iter::from_fn(|| session.next_message().unwrap()).count(), 1);
    }
}
