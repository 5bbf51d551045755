//! Threads of other looms: what an entity here continues that was forked from a loom in which nobody here may write. It is
//! read as its own loom has it, and put before the entity that continues it; it decides nothing, is judged by nobody, and whoever has
//! seen it has seen something untrusted.

use std::collections::BTreeMap;

use cantrip_gates::Exposure;

use super::super::foreign::{ForeignBudget, ForeignError, ForeignThread, VouchCheck};
use super::super::opened::{Fork, ForkSource, Opened, Standing};
use super::super::text::Payload;
use super::lines::Piece;
use super::{EntityView, Step, Tree, ViewError};
use crate::domain::ids::{BlobId, EntityId, EntryId, LoomId, WriterKey};
use crate::domain::limits::FOREIGN_DEPTH_MAX;
use crate::domain::members::{Principal, Reader};

/// Where the thread comes from that an entity continues, as its own loom says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignOrigin {
    /// Its loom.
    pub loom: LoomId,
    /// Whose thread it was there.
    pub entity: EntityId,
    /// The entry that it was forked behind.
    pub after: Option<EntryId>,
    /// How many of its turns are kept.
    pub turns: u64,
    /// Who founded that loom.
    pub founder: Option<Principal>,
    /// Who wrote the thread, and as whom.
    pub writers: Vec<(WriterKey, Option<Principal>)>,
}

/// A thread of another loom, read.
#[derive(Debug)]
pub struct Foreign {
    /// Its loom, as far as it came along.
    pub tree: Tree,
    /// Who founded that loom.
    pub founder: Option<Principal>,
    /// Who wrote the entries, and as whom.
    pub writers: Vec<(WriterKey, Option<Principal>)>,
    entity: EntityId,
}

/// Reads the threads of other looms that entities continue.
pub type ForeignOf<'a> = &'a dyn Fn(&ForkSource) -> Result<Foreign, ForeignError>;

impl Foreign {
    /// Reads and checks a thread that is kept in pieces, and those that it continues itself.
    ///
    /// # Errors
    /// What is missing of it, or not as its writers signed it.
    pub fn read(
        source: &ForkSource,
        piece: &dyn Fn(BlobId) -> Option<Vec<u8>>,
        vouch: VouchCheck<'_>,
        budget: &ForeignBudget,
    ) -> Result<Self, ForeignError> {
        Self::read_at(source, piece, (vouch, budget), 0)
    }

    fn read_at(
        source: &ForkSource,
        piece: &dyn Fn(BlobId) -> Option<Vec<u8>>,
        (vouch, budget): (VouchCheck<'_>, &ForeignBudget),
        depth: usize,
    ) -> Result<Self, ForeignError> {
        if depth >= FOREIGN_DEPTH_MAX {
            return Err(ForeignError::Depth(FOREIGN_DEPTH_MAX));
        }
        let thread = ForeignThread::read(source, piece, budget)?;
        let entity = thread.entity;
        let checked = thread.check(vouch)?;
        let inner = |id: BlobId| checked.text(id).map(<[u8]>::to_vec);
        let text = |payload: &Payload| match payload {
            Payload::Inline(text) => Some(text.clone()),
            Payload::Blob { id, .. } => {
                checked.text(*id).and_then(|text| std::str::from_utf8(text).ok()).map(str::to_owned)
            }
        };
        let foreign = |source: &ForkSource| Self::read_at(source, &inner, (vouch, budget), depth + 1);
        let tree = Tree::read_with(&checked.batch, &text, &foreign);
        let tree = tree?;
        let reader = Reader::of(&checked.batch);
        let writers = checked.writers.iter().map(|writer| (*writer, reader.named(*writer))).collect();
        Ok(Self { tree, founder: reader.founder(), writers, entity })
    }
}

impl From<ViewError> for ForeignError {
    fn from(error: ViewError) -> Self {
        match error {
            // What is wrong with a thread within a thread is what is wrong with it.
            ViewError::Foreign { source, .. } => source,
            ViewError::Text { .. }
            | ViewError::NoEntity(_)
            | ViewError::Aside { .. }
            | ViewError::Unknown { .. }
            | ViewError::Later { .. }
            | ViewError::Unenforced { .. }
            | ViewError::NoTurn { .. } => Self::View(error.to_string()),
        }
    }
}

/// What stands before the entities that continue one thread of another loom.
#[derive(Debug)]
pub(super) struct Grafted {
    pub(super) origin: ForeignOrigin,
}

/// The name under which a thread of another loom stands in the tree. Nobody mints an entity under it.
fn name(source: &ForkSource, fork: &Fork) -> EntityId {
    let mut hasher = blake3::Hasher::new_derive_key("cantrip-runtime 2026 a thread of another loom in a tree");
    hasher.update(fork.of.as_bytes()).update(&fork.turns.to_be_bytes());
    for piece in &source.pieces {
        hasher.update(&piece.digest());
    }
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    EntityId::from_parts(0, id)
}

impl Tree {
    /// Puts the thread that an entity continues before it. Returns its name in this tree.
    pub(super) fn graft(
        &mut self,
        fork: &Fork,
        source: &ForkSource,
        position: usize,
        foreign: ForeignOf<'_>,
    ) -> Result<EntityId, ForeignError> {
        let name = name(source, fork);
        if self.grafted.contains_key(&name) {
            return Ok(name);
        }
        let Foreign { tree, founder, writers, entity } = foreign(source)?;
        if entity != fork.of {
            return Err(ForeignError::Another { loom: source.loom, of: entity });
        }
        // As many turns as are continued have to be there.
        let restored = tree.restore(entity, Some(fork.turns)).map_err(ForeignError::from)?;
        let mut steps = Vec::new();
        for step in tree.first_steps(entity, fork.turns).map_err(ForeignError::from)? {
            match step {
                // Memory that somebody else has recorded is not gone on with: the code behind it is run.
                Step::Snapshot(_) => {}
                Step::Turn(turn) => {
                    let Some(spoken) = tree.spoken.get(*turn) else { continue };
                    steps.push(Step::Turn(self.spoken.len()));
                    self.spoken.push(spoken.at(position, source.loom));
                }
                Step::Intent { .. } | Step::Folded { .. } => steps.push(step.clone()),
            }
        }
        let view = tree.entity(entity).map_err(ForeignError::from)?;
        let seen = restored.seen.union(Exposure { untrusted: true, ..Exposure::default() });
        let standing = Some(Box::new(Standing { exposure: Some(seen), ..Standing::default() }));
        let opened = Opened { fork: None, spawned_by: None, standing, ..view.opened.clone() };
        let view =
            EntityView { opened, follows: None, ended: None, steps, current: None, is_foreign: true, ..view.clone() };
        let turns = fork.turns;
        let origin = ForeignOrigin { loom: source.loom, entity, after: source.after, turns, founder, writers };
        self.entities.insert(name, view);
        self.order.push(name);
        self.grafted.insert(name, Grafted { origin });
        Ok(name)
    }

    /// The entities that continue a thread of another loom which cannot be had, each with the entry that opened it and why.
    pub fn unread(&self) -> impl Iterator<Item = (EntityId, EntryId, &ForeignError)> {
        self.entities().filter_map(|(entity, view)| Some((entity, view.id, view.continues.as_ref()?.as_ref().err()?)))
    }

    /// The thread of another loom that an entity's thread begins with, if it does.
    pub fn foreign_origin(&self, entity: EntityId) -> Option<&ForeignOrigin> {
        let place = self.lines.place(entity)?;
        let first: Piece = self.lines.pieces(place).into_iter().next()?;
        self.grafted.get(self.order.get(first.place)?).map(|grafted| &grafted.origin)
    }
}

pub(super) type Grafts = BTreeMap<EntityId, Grafted>;
