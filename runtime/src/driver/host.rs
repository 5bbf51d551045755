//! What every entity of a process shares, and how new looms, entities and casts get their names.

use std::sync::Arc;

use crate::domain::ids::{CastId, EntityId, LoomId, NodeAddress, WriterKey, hex};
use crate::domain::loom::Minted;
use crate::domain::members::Nonce;
use crate::ports::{Clock, LoomStore, MediumFactory, Peers};

use super::copies::Copies;
use super::fault::Fault;
use super::recorder::{Founding, Loom, Looms};
use super::snapshot::Images;

/// What every entity of this process shares.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) store: Arc<dyn LoomStore>,
    pub(super) media: Arc<dyn MediumFactory>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) node: String,
    pub(super) peers: Option<Arc<dyn Peers>>,
    pub(super) copies: Option<Arc<Copies>>,
    pub(super) images: Images,
    /// Whether what it records is gone with the process: it founds and mints nothing then, and has its node do it.
    pub(super) is_client: bool,
    pub(super) looms: Looms,
}

impl Host {
    /// Opens a loom for writing, known here or not.
    pub(super) fn open(&self, loom: LoomId) -> Result<Loom, Fault> {
        self.looms.open(loom, None, &self.store, &self.clock, self.copies.as_ref())
    }

    /// Opens a loom that is there already.
    pub(super) fn join(&self, loom: LoomId) -> Result<Loom, Fault> {
        let open = self.open(loom)?;
        if open.is_known()? { Ok(open) } else { Err(Fault::NoLoom { loom }) }
    }

    /// Opens a loom whose id commits to this node's key, and to what else the founding entry will have. It is founded with the first
    /// entry that is written into it.
    pub(super) fn open_to_found(&self, loom: LoomId, minted: Minted) -> Result<Loom, Fault> {
        let mut member = None;
        for record in self.store.own_records(minted.by)? {
            let record = record.to_bytes();
            if loom.is_minted_by(&minted.by, &minted.nonce, Some(&record)) {
                member = Some(record);
            }
        }
        let founding = Founding { minted, member };
        self.looms.open(loom, Some(founding), &self.store, &self.clock, self.copies.as_ref())
    }

    /// A new loom.
    pub(super) fn new_loom(&self) -> Result<Loom, Fault> {
        let minted = self.minted();
        let member = self.store.own_records(minted.by)?.into_iter().next().map(|record| record.to_bytes());
        let loom = LoomId::mint(now_ms(&*self.clock), &minted.by, &minted.nonce, member.as_deref());
        let founding = Founding { minted, member };
        self.looms.open(loom, Some(founding), &self.store, &self.clock, self.copies.as_ref())
    }

    /// What a new id of this node commits to.
    fn minted(&self) -> Minted {
        minted(&*self.clock, self.store.writer())
    }

    pub(super) fn nodes(&self) -> Arc<[NodeAddress]> {
        self.peers.as_ref().map(|peers| peers.known().into()).unwrap_or_default()
    }

    /// A new trace, as W3C trace context.
    pub(super) fn trace(&self) -> String {
        let hex = hex(&random::<24>(&*self.clock));
        let (trace, span) = hex.split_at(32);
        format!("00-{trace}-{span}-01")
    }

    /// A new entity's id, and what it commits to.
    pub(super) fn entity_id(&self) -> (EntityId, Minted) {
        entity_id(&*self.clock, self.store.writer())
    }

    pub(super) fn cast_id(&self) -> CastId {
        cast_id(&*self.clock)
    }
}

/// A new id for an entity that a key mints, and what it commits to.
pub(super) fn entity_id(clock: &dyn Clock, by: WriterKey) -> (EntityId, Minted) {
    let minted = minted(clock, by);
    (EntityId::mint(now_ms(clock), &minted.by, &minted.nonce), minted)
}

/// A new name for an episode.
pub(super) fn cast_id(clock: &dyn Clock) -> CastId {
    CastId::from_parts(now_ms(clock), random(clock))
}

fn minted(clock: &dyn Clock, by: WriterKey) -> Minted {
    Minted { by, nonce: Nonce::from_bytes(random(clock)) }
}

fn now_ms(clock: &dyn Clock) -> u64 {
    clock.now_us() / 1_000
}

fn random<const N: usize>(clock: &dyn Clock) -> [u8; N] {
    let mut bytes = [0; N];
    clock.random(&mut bytes);
    bytes
}
