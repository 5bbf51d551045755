//! Writing anew: what this node wrote alone, after its folder was put back, and where others have another history of its earlier key.
//!
//! Their history stays what it is, since others have seen it. What was set aside goes on beside it: as a fork of each thread, behind the
//! last turn that both have. Each entry names the one that it was, so a process that ends half-way goes on where it was.

use std::collections::{HashMap, HashSet};

use super::fault::Fault;
use super::recorder::Loom;
use crate::domain::ids::{EntityId, EntryId};
use crate::domain::loom::{Body, Fork, ForkStrategy, Minted, Payload, Sealed, Tree, ViewError};
use crate::domain::members::Nonce;
use crate::ports::{By, StoreError};

/// 256 entries. So many of this node's log are read at a time.
const READ_TOGETHER: usize = 256;

/// What entities and entries are called now.
#[derive(Debug, Default)]
struct Names {
    entities: HashMap<EntityId, (EntityId, Minted)>,
    entries: HashMap<EntryId, EntryId>,
    /// The entities that have their first entry.
    begun: HashSet<EntityId>,
    /// Entries that are not written anew, and what they followed.
    left_out: HashMap<EntryId, Option<EntryId>>,
}

impl Names {
    fn entity(&self, entity: EntityId) -> EntityId {
        self.entities.get(&entity).map_or(entity, |(name, _)| *name)
    }

    fn entry(&self, mut entry: EntryId) -> EntryId {
        // Each step goes to an entry that was written before.
        while let Some(Some(before)) = self.left_out.get(&entry) {
            entry = *before;
        }
        self.entries.get(&entry).copied().unwrap_or(entry)
    }
}

/// Whether an entry says something that holds only where it was written: for a cast elsewhere, an adoption, or a state of memory.
const fn is_of_its_place(body: &Body) -> bool {
    matches!(
        body,
        Body::Founded { .. }
            | Body::Keeping { .. }
            | Body::Adopted { .. }
            | Body::Settled(_)
            | Body::Snapshot { .. }
            | Body::Replayed { .. }
            | Body::Unknown(_)
    )
}

impl Loom {
    /// Writes what was set aside of this loom anew. Where this node may not write into it, as a host of casts of others, it stays aside.
    pub(super) async fn write_anew(&self) -> Result<(), Fault> {
        let aside = self.store().aside(self.id())?;
        if aside.is_empty() {
            return Ok(());
        }
        match self.permission() {
            Err(Fault::NotPermitted { .. }) => return Ok(()),
            permission => drop(permission?),
        }
        let mut names = self.names_of(&aside)?;
        let mut kept = Vec::new();
        for sealed in aside {
            // What others have of it has come back with the rest of the log.
            if self.store().entry(sealed.id)?.is_none() {
                kept.push(sealed);
            }
        }
        for sealed in &kept {
            self.name(sealed, &mut names);
        }
        let tree = self.tree()?;
        let mut count = 0_usize;
        for sealed in &kept {
            if names.entries.contains_key(&sealed.id) || names.left_out.contains_key(&sealed.id) {
                continue;
            }
            self.say_anew(&tree, sealed, &mut names)?;
            count = count.saturating_add(1);
        }
        self.store().sync(self.id()).await?;
        self.store().forget_aside(self.id())?;
        tracing::warn!(
            loom = %self.id(), count,
            "what this node wrote after its folder was put back, and before it met a keeper, goes on as forks of its threads"
        );
        Ok(())
    }

    /// What an earlier try has written anew already.
    fn names_of(&self, aside: &[Sealed]) -> Result<Names, StoreError> {
        let old: HashMap<EntryId, &Sealed> = aside.iter().map(|sealed| (sealed.id, sealed)).collect();
        let (mut names, mut after) = (Names::default(), 0);
        loop {
            let some = self.store().recorded(self.id(), By::ThisNode, after, READ_TOGETHER)?;
            let Some((last, _)) = some.last() else { return Ok(names) };
            after = *last;
            for (_, sealed) in &some {
                let Some((was, old)) = sealed.entry.was.and_then(|was| Some((was, *old.get(&was)?))) else { continue };
                names.entries.insert(was, sealed.id);
                let by = sealed.entry.writer;
                if let (Some(old), Some(new)) = (old.entry.entity, sealed.entry.entity) {
                    // It has its first entry: nothing commits to it any more.
                    let minted = Minted { by, nonce: Nonce::from_bytes([0; 16]) };
                    names.entities.entry(old).or_insert((new, minted));
                    names.begun.insert(old);
                }
                // What it delegates may not have begun yet: it has to be what the entry says.
                if let Body::Delegated { child: old, .. } = &old.entry.body
                    && let Body::Delegated { child, nonce: Some(nonce), .. } = &sealed.entry.body
                {
                    names.entities.insert(*old, (*child, Minted { by, nonce: *nonce }));
                }
            }
        }
    }

    /// Finds names for what an entry begins or delegates.
    fn name(&self, sealed: &Sealed, names: &mut Names) {
        if is_of_its_place(&sealed.entry.body) {
            names.left_out.insert(sealed.id, sealed.entry.parent);
            return;
        }
        if matches!(&sealed.entry.body, Body::Admitted(admitted) if admitted.scope.is_some()) {
            names.left_out.insert(sealed.id, sealed.entry.parent);
            return;
        }
        let begun =
            if let Body::Delegated { child, .. } = &sealed.entry.body { Some(*child) } else { sealed.entry.entity };
        if let Some(entity) = begun {
            names.entities.entry(entity).or_insert_with(|| self.mint());
        }
    }

    fn say_anew(&self, tree: &Tree, sealed: &Sealed, names: &mut Names) -> Result<(), Fault> {
        let entry = &sealed.entry;
        let Some(entity) = entry.entity else {
            let id = self.append_anew(None, None, entry.body.clone(), sealed.id)?;
            names.entries.insert(sealed.id, id);
            return Ok(());
        };
        let (name, minted) = *names.entities.entry(entity).or_insert_with(|| self.mint());
        let is_judgement = matches!(entry.body, Body::Rewarded { .. });
        let mut body = entry.body.clone();
        if let Body::Opened(opened) = &mut body {
            opened.minted = Some(minted);
            opened.spawned_by = opened.spawned_by.map(|above| names.entity(above));
            opened.delegated = opened.delegated.map(|entry| names.entry(entry));
            if let Some(fork) = &mut opened.fork {
                fork.of = names.entity(fork.of);
            }
            names.begun.insert(entity);
        } else if !is_judgement && names.begun.insert(entity) && self.fork_anew(tree, sealed, (name, minted), names)? {
            return Ok(());
        }
        if let Body::Delegated { child, nonce, .. } = &mut body {
            let (name, minted) = *names.entities.entry(*child).or_insert_with(|| self.mint());
            (*child, *nonce) = (name, Some(minted.nonce));
        }
        if let Body::Rewarded { ends, .. } = &mut body {
            for end in ends.iter_mut() {
                *end = names.entry(*end);
            }
        }
        let parent = entry.parent.map(|parent| names.entry(parent));
        let id = self.append_anew(Some(name), parent, body, sealed.id)?;
        names.entries.insert(sealed.id, id);
        Ok(())
    }

    /// Begins a fork of a thread behind the last turn that both histories have, for what follows it in the one that was set aside. What
    /// this node had written of the turn that was open then comes with it. Returns whether the entry itself is in it.
    fn fork_anew(
        &self,
        tree: &Tree,
        sealed: &Sealed,
        (name, minted): (EntityId, Minted),
        names: &mut Names,
    ) -> Result<bool, Fault> {
        let of = sealed.entry.entity.ok_or(Fault::NoLoom { loom: self.id() })?;
        let parent = sealed.entry.parent.map(|parent| names.entry(parent));
        let thread = tree.thread(of)?;
        let turn = parent.and_then(|parent| tree.turn_of(parent));
        let open = turn.and_then(|turn| thread.iter().position(|it| it.id == turn));
        let is_closed = |index: usize| {
            thread.get(index).and_then(|turn| turn.observation.as_ref()).is_some_and(|seen| Some(seen.id) == parent)
        };
        let turns = match open {
            Some(index) if is_closed(index) => index.saturating_add(1),
            Some(index) => index,
            None => thread.len(),
        };
        let turns = u64::try_from(turns).unwrap_or(u64::MAX);
        let restored = tree.restore(of, Some(turns))?;
        let mut opened = tree.entity(of).map_err(|_| ViewError::NoEntity(of))?.opened.clone();
        (opened.minted, opened.spawned_by, opened.delegated) = (Some(minted), None, None);
        opened.fork = Some(Fork { of, turns, strategy: ForkStrategy::Replay, from: None });
        opened.cast = self.new_cast();
        let begins =
            if let Body::Intent(intent) = &sealed.entry.body { Some(intent).filter(|it| !it.steer) } else { None };
        let begins = begins.map(|intent| intent.text.clone());
        let is_in_it = begins.is_some();
        opened.intent = begins.unwrap_or(Payload::Inline(restored.intent));
        let id = self.append_anew(Some(name), restored.head, Body::Opened(Box::new(opened)), sealed.id)?;
        if is_in_it {
            names.entries.insert(sealed.id, id);
            return Ok(true);
        }
        // What was said of the turn that was open when the folder was put back is said again in the fork.
        let mut before = id;
        for entry in self.open_turn(of, turn.filter(|_| !open.is_some_and(is_closed)), parent)? {
            before = self.append_anew(Some(name), Some(before), entry.entry.body.clone(), entry.id)?;
        }
        if let Some(parent) = sealed.entry.parent {
            names.entries.insert(parent, before);
        }
        Ok(false)
    }

    /// The entries of a turn up to one of them.
    fn open_turn(&self, of: EntityId, turn: Option<EntryId>, last: Option<EntryId>) -> Result<Vec<Sealed>, StoreError> {
        let (Some(turn), Some(last)) = (turn, last) else { return Ok(Vec::new()) };
        let entries = self.store().entries_of(of)?;
        let place =
            |id: EntryId| entries.iter().find(|sealed| sealed.id == id).map(|it| (it.entry.writer, it.entry.sequence));
        let (Some((writer, from)), Some((same, to))) = (place(turn), place(last)) else { return Ok(Vec::new()) };
        let is_of_it = |sealed: &Sealed| {
            let entry = &sealed.entry;
            entry.writer == writer
                && writer == same
                && (from..=to).contains(&entry.sequence)
                && !is_of_its_place(&entry.body)
        };
        Ok(entries.into_iter().filter(is_of_it).collect())
    }
}
