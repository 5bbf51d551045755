//! Writing anew: where others have another history of an earlier key of this node, after its folder was put back.
//!
//! What this node wrote alone nobody has seen: their history stays what it is, and what was set aside goes on beside it, as a fork of each
//! thread, behind the last turn that both have. Where both histories are signed neither counts from where they divide, for anybody, and
//! both are written anew: one of them in its threads, behind an adoption, and the other as forks. Where turns had to be acknowledged the
//! one that was begun later keeps its threads: it was begun when none of those that had to answer had the other one, which nobody has
//! acknowledged therefore. Else it is the one that others have. Each entry names the one that it was, so a process that ends half-way
//! goes on where it was.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::adopting::is_followed;
use super::fault::Fault;
use super::recorder::Loom;
use crate::domain::ids::{EntityId, EntryId, WriterKey};
use crate::domain::loom::{
    Body, EquivocationProof, Fork, ForkStrategy, Head, Minted, Payload, Sealed, Tree, ViewError,
};
use crate::domain::members::{Deed, Nonce, Reader};
use crate::ports::{By, StoreError};

/// 256 entries. So many of this node's log are read at a time.
const READ_TOGETHER: usize = 256;

/// A stretch of a log that is written anew.
struct Tail {
    entries: Vec<Sealed>,
    /// The history that it ends, where it is signed: that is not looked at again.
    history: Option<(WriterKey, Head)>,
    /// It goes on in its threads.
    keeps_threads: bool,
}

/// What entities and entries are called now.
#[derive(Debug, Default)]
struct Names {
    entities: HashMap<EntityId, (EntityId, Minted)>,
    /// The entities that go on under their names, each with the entry that its next one follows.
    staying: HashMap<EntityId, EntryId>,
    entries: HashMap<EntryId, EntryId>,
    /// The entities that have their first entry.
    begun: HashSet<EntityId>,
    /// Entries that are not written anew, and what they followed.
    left_out: HashMap<EntryId, Option<EntryId>>,
}

impl Names {
    /// Takes down what an entry says that was written anew, if it was.
    fn learn(&mut self, old: &HashMap<EntryId, &Sealed>, sealed: &Sealed) {
        let Some((was, old)) = sealed.entry.was.and_then(|was| Some((was, *old.get(&was)?))) else { return };
        self.entries.insert(was, sealed.id);
        let by = sealed.entry.writer;
        if let (Some(old), Some(new)) = (old.entry.entity, sealed.entry.entity) {
            // It has its first entry: nothing commits to it any more.
            let minted = Minted { by, nonce: Nonce::from_bytes([0; 16]) };
            self.entities.insert(old, (new, minted));
            self.begun.insert(old);
        }
        // What it delegates may not have begun yet: it has to be what the entry says.
        if let Body::Delegated { child: old, .. } = &old.entry.body
            && let Body::Delegated { child, nonce: Some(nonce), .. } = &sealed.entry.body
        {
            self.entities.insert(*old, (*child, Minted { by, nonce: *nonce }));
        }
    }

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
    /// Writes what is to be written anew of this loom. Where this node may not write into it, as a host of casts of others, it stays aside.
    pub(super) async fn write_anew(&self) -> Result<(), Fault> {
        if self.store().formerly()?.is_empty() {
            return Ok(());
        }
        let aside = self.store().aside(self.id())?;
        let tails = self.tails(&aside)?;
        if tails.is_empty() && aside.is_empty() {
            return Ok(());
        }
        match self.permission() {
            Err(Fault::NotPermitted { .. }) => return Ok(()),
            permission => drop(permission?),
        }
        let tree = self.tree()?;
        let mut count = 0_usize;
        for tail in &tails {
            let mut names = self.names_of(&tail.entries)?;
            if tail.keeps_threads {
                self.keep_threads(&tail.entries, &mut names).await?;
            }
            for sealed in &tail.entries {
                self.name(sealed, &mut names);
            }
            for sealed in &tail.entries {
                if names.entries.contains_key(&sealed.id) || names.left_out.contains_key(&sealed.id) {
                    continue;
                }
                self.say_anew(&tree, sealed, &mut names)?;
                count = count.saturating_add(1);
            }
        }
        self.sync_here().await?;
        let histories: Vec<(WriterKey, Head)> = tails.iter().filter_map(|tail| tail.history).collect();
        // What has come in the meantime stays.
        self.store().written_anew(self.id(), &histories, &aside)?;
        tracing::warn!(
            loom = %self.id(), count,
            "this node's folder was put back, and what was written since is not what others have: it was written anew, and goes on beside \
             that as forks of its threads"
        );
        Ok(())
    }

    /// What is to be written anew, in the order in which that is done.
    fn tails(&self, aside: &[Sealed]) -> Result<Vec<Tail>, Fault> {
        let (store, loom) = (self.store(), self.id());
        let former = store.formerly()?;
        let (mut tails, mut aside) = (Vec::new(), aside.to_vec());
        for proof in store.proofs()?.into_iter().filter(|it| it.loom == loom && former.contains(&it.writer)) {
            let (theirs, others) = aside.into_iter().partition(|sealed| sealed.entry.writer == proof.writer);
            aside = others;
            tails.extend(self.tails_of(&proof, theirs)?);
        }
        let mut alone = Vec::new();
        for sealed in aside {
            // What others have of it has come back with the rest of the log.
            if store.entry(sealed.id)?.is_none() {
                alone.push(sealed);
            }
        }
        if !alone.is_empty() {
            tails.push(Tail { entries: alone, history: None, keeps_threads: false });
        }
        Ok(tails)
    }

    /// Both tails of an earlier key that has signed two histories, as far as they are here and were not written anew; the one that keeps its
    /// threads first.
    fn tails_of(&self, proof: &EquivocationProof, theirs: Vec<Sealed>) -> Result<Vec<Tail>, Fault> {
        let (store, loom) = (self.store(), self.id());
        let (writer, place) = (proof.writer, proof.place());
        let log = store.logs(loom)?.into_iter().find(|log| log.writer == writer);
        let head = log.map(|log| log.head).unwrap_or_default();
        let is_written = head.sequence < place || store.was_written_anew(loom, (writer, head))?;
        if is_written && theirs.is_empty() {
            return Ok(Vec::new());
        }
        let (mut ours, mut asks) = (Vec::new(), false);
        let mut at = 0;
        loop {
            let some = store.recorded(loom, By::Log(writer), at, READ_TOGETHER)?;
            let Some((last, _)) = some.last() else { break };
            at = *last;
            for (sequence, sealed) in some {
                asks |= matches!(&sealed.entry.body, Body::Keeping { acks, .. } if *acks > 0);
                if sequence >= place {
                    ours.push(sealed);
                }
            }
        }
        asks |= theirs.iter().any(|sealed| matches!(&sealed.entry.body, Body::Keeping { acks, .. } if *acks > 0));
        let begun = |tail: &[Sealed]| tail.first().map(|sealed| sealed.entry.at_us);
        let is_ours = asks && begun(&ours) > begun(&theirs);
        let end = proof.common().map(|common| theirs.iter().fold(common, |head, sealed| head.after(&sealed.id)));
        let ours = Tail { entries: ours, history: Some((writer, head)), keeps_threads: is_ours };
        let theirs = Tail { entries: theirs, history: end.map(|end| (writer, end)), keeps_threads: !is_ours };
        let mut both = if is_ours { vec![ours, theirs] } else { vec![theirs, ours] };
        both.retain(|tail| !tail.entries.is_empty());
        Ok(both)
    }

    /// What an earlier try has written anew already, under whichever key.
    fn names_of(&self, tail: &[Sealed]) -> Result<Names, StoreError> {
        let old: HashMap<EntryId, &Sealed> = tail.iter().map(|sealed| (sealed.id, sealed)).collect();
        let mut names = Names::default();
        let logs = self.store().formerly()?.into_iter().map(By::Log).chain([By::ThisNode]);
        for by in logs {
            let mut after = 0;
            loop {
                let some = self.store().recorded(self.id(), by, after, READ_TOGETHER)?;
                let Some((last, _)) = some.last() else { break };
                after = *last;
                for (_, sealed) in &some {
                    names.learn(&old, sealed);
                }
            }
        }
        Ok(names)
    }

    /// Goes on with the entities of a tail that were there before it, each under its name, as far as nobody has gone on with them since.
    async fn keep_threads(&self, tail: &[Sealed], names: &mut Names) -> Result<(), Fault> {
        let began = |entity: EntityId| {
            tail.iter().any(|it| it.entry.entity == Some(entity) && matches!(it.entry.body, Body::Opened(_)))
        };
        let of_threads = tail.iter().filter(|it| !is_of_its_place(&it.entry.body));
        let entities: BTreeSet<EntityId> = of_threads.filter_map(|it| it.entry.entity).collect();
        for entity in entities.into_iter().filter(|entity| !began(*entity)) {
            let unsaid = Minted { by: self.store().writer(), nonce: Nonce::from_bytes([0; 16]) };
            let goes_on = match names.entities.get(&entity).map(|(name, _)| *name) {
                // An earlier try has begun that. Somebody may have gone on with it since, where not all of the tail was here.
                Some(name) if name == entity => {
                    let last = self.last_of(entity)?.map(|sealed| sealed.id);
                    last.filter(|last| names.entries.values().any(|said| said == last))
                }
                Some(_) => None,
                None => self.go_on_with(entity, tail).await?,
            };
            match goes_on {
                Some(follows) => {
                    names.staying.insert(entity, follows);
                    names.entities.insert(entity, (entity, unsaid));
                    names.begun.insert(entity);
                }
                None if names.entities.get(&entity).is_some_and(|(name, _)| *name == entity) => {
                    names.entities.remove(&entity);
                    names.begun.remove(&entity);
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Makes this node the owner of an entity under its present key, unless it has gone on with it already. Returns the entry that says so;
    /// nothing where the entity is somebody else's, but for one that this node had taken over in the tail and nobody has since.
    async fn go_on_with(&self, entity: EntityId, tail: &[Sealed]) -> Result<Option<EntryId>, Fault> {
        let own = self.store().writer();
        let owner = {
            let batch = self.store().batch(self.id())?;
            let reader = Reader::of(&batch);
            let Some(owner) = reader.owner(entity) else { return Ok(None) };
            let is_taken_over = |sealed: &Sealed| {
                sealed.entry.entity == Some(entity)
                    && matches!(sealed.entry.body, Body::Adopted { epoch, .. } if epoch > owner.epoch)
            };
            let was_its = reader.is_same_member(owner.writer, own) || tail.iter().any(is_taken_over);
            if owner.writer != own && !(was_its && reader.may(own, Deed::Adopt(entity)).is_ok()) {
                return Ok(None);
            }
            owner.writer
        };
        if owner == own {
            // Nothing follows its adoption yet.
            let last = self.last_of(entity)?;
            let last = last.filter(|last| last.entry.writer == own && matches!(last.entry.body, Body::Adopted { .. }));
            return Ok(last.map(|last| last.id));
        }
        let node = self.copies().map(|copies| copies.node().to_string()).unwrap_or_default();
        self.adopt(entity, &node, false).await.map(|(adopted, _)| Some(adopted))
    }

    /// The last entry of an entity's thread.
    fn last_of(&self, entity: EntityId) -> Result<Option<Sealed>, Fault> {
        let batch = self.store().batch(self.id())?;
        let reader = Reader::of(&batch);
        let Some(owner) = reader.owner(entity) else { return Ok(None) };
        let is_of_thread = |sealed: &Sealed| sealed.entry.writer == owner.writer && is_followed(&sealed.entry.body);
        let all = self.store().entries_of(entity)?.into_iter().filter(is_of_thread);
        Ok(all.max_by_key(|sealed| sealed.entry.sequence))
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
        // The first of a thread that keeps its name follows the entry that goes on with it.
        let goes_on = if is_judgement { None } else { names.staying.remove(&entity) };
        let parent = goes_on.or_else(|| entry.parent.map(|parent| names.entry(parent)));
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
