//! What is hosted, in memory: found by its entity, counted for each caller, and looked at again in the order in which that is due.
//!
//! An episode that has ended and is not kept leaves at once: the record answers whoever asks for it later. What stays waits in a
//! queue by time, so that an opening looks at what is due and never at all there is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Hosted, Stage};
use crate::domain::ids::{EntityId, NodeName};
use crate::domain::limits::{HOSTED_MAX, LOOKED_AT_PER_OPENING_MAX};

/// Whose share it is: a peer's, or that of this machine's own clients.
type Owner = Option<NodeName>;

/// One caller's part of the table.
#[derive(Debug, Default)]
struct Share {
    entities: usize,
    /// Those of them that wait for a further intent, the longest first.
    ended: BTreeSet<(u64, EntityId)>,
    /// Those of these that have not given the memory of their medium back.
    awake: BTreeSet<(u64, EntityId)>,
}

#[derive(Debug)]
struct Row {
    hosted: Arc<Hosted>,
    /// When it is looked at again.
    due_us: u64,
    /// When its episode ended, where it waits since then.
    ended_us: Option<u64>,
}

/// Everything that is hosted.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: BTreeMap<EntityId, Row>,
    due: BTreeSet<(u64, EntityId)>,
    shares: BTreeMap<Owner, Share>,
    /// How many rows were looked at without being asked for, ever.
    looked_at: u64,
}

/// There is no room for one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// Of this caller.
    Share { entities: usize },
    /// Of all.
    Table,
}

fn owner(hosted: &Hosted) -> Owner {
    hosted.caller.caller.peer().cloned()
}

fn is_ended(hosted: &Hosted) -> bool {
    matches!(&*hosted.stage.borrow(), Stage::Ended(_))
}

impl Table {
    pub(super) fn get(&self, entity: EntityId) -> Option<Arc<Hosted>> {
        self.rows.get(&entity).map(|row| Arc::clone(&row.hosted))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Hosted>> {
        self.rows.values().map(|row| &row.hosted)
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) const fn looked_at(&self) -> u64 {
        self.looked_at
    }

    /// Puts an episode in, in the place of an earlier one of its entity. What has ended makes room for it: of its caller first, and
    /// where the table is full, of whoever's has waited longest.
    pub(super) fn insert(&mut self, hosted: &Arc<Hosted>, share_max: usize, due_us: u64) -> Result<(), Full> {
        self.remove(hosted.entity);
        let owner = owner(hosted);
        let share = self.shares.get(&owner);
        if share.is_some_and(|share| share.entities >= share_max) {
            let oldest = share.and_then(|share| share.ended.first()).map(|(_, entity)| *entity);
            let Some(oldest) = oldest else { return Err(Full::Share { entities: share_max }) };
            self.remove(oldest);
        }
        if self.rows.len() >= HOSTED_MAX {
            let own = self.shares.get(&owner).and_then(|share| share.ended.first());
            let longest = own.or_else(|| self.shares.values().filter_map(|share| share.ended.first()).min());
            let Some(longest) = longest.map(|(_, entity)| *entity) else { return Err(Full::Table) };
            self.remove(longest);
        }
        let share = self.shares.entry(owner).or_default();
        share.entities = share.entities.saturating_add(1);
        self.due.insert((due_us, hosted.entity));
        self.rows.insert(hosted.entity, Row { hosted: Arc::clone(hosted), due_us, ended_us: None });
        Ok(())
    }

    pub(super) fn remove(&mut self, entity: EntityId) {
        let Some(row) = self.rows.remove(&entity) else { return };
        self.due.remove(&(row.due_us, entity));
        let owner = owner(&row.hosted);
        let Some(share) = self.shares.get_mut(&owner) else { return };
        share.entities = share.entities.saturating_sub(1);
        if let Some(ended_us) = row.ended_us {
            share.ended.remove(&(ended_us, entity));
            share.awake.remove(&(ended_us, entity));
        }
        if share.entities == 0 {
            self.shares.remove(&owner);
        }
    }

    /// An episode has ended: it leaves, or waits for a further intent. Of those that wait only so many of one caller keep the memory
    /// of their media; returns the one that is to give it back for this one.
    pub(super) fn ended(
        &mut self,
        hosted: &Arc<Hosted>,
        stays: bool,
        awake_max: usize,
        now_us: u64,
    ) -> Option<Arc<Hosted>> {
        let row = self.rows.get_mut(&hosted.entity)?;
        if !Arc::ptr_eq(&row.hosted, hosted) || row.ended_us.is_some() {
            return None;
        }
        if !stays {
            self.remove(hosted.entity);
            return None;
        }
        row.ended_us = Some(now_us);
        let share = self.shares.get_mut(&owner(hosted))?;
        share.ended.insert((now_us, hosted.entity));
        share.awake.insert((now_us, hosted.entity));
        let (_, longest) = if share.awake.len() > awake_max { share.awake.pop_first()? } else { return None };
        self.get(longest)
    }

    /// Looks at what is due, a few rows at a time: forgets what has been silent for `idle_us`, and returns what has for `rest_us`
    /// and is to give its memory back.
    pub(super) fn tidy(&mut self, now_us: u64, rest_us: u64, idle_us: u64) -> Vec<Arc<Hosted>> {
        let mut to_rest = Vec::new();
        for _ in 0..LOOKED_AT_PER_OPENING_MAX {
            let Some((due_us, entity)) = self.due.first().copied().filter(|(due_us, _)| *due_us <= now_us) else {
                break;
            };
            self.looked_at = self.looked_at.saturating_add(1);
            let Some(row) = self.rows.get_mut(&entity) else {
                self.due.remove(&(due_us, entity));
                continue;
            };
            let heard_us = row.hosted.heard_us.load(Ordering::Relaxed);
            let silent_us = now_us.saturating_sub(heard_us);
            let is_over = is_ended(&row.hosted);
            if is_over && silent_us >= idle_us {
                self.remove(entity);
                continue;
            }
            let rests = is_over && silent_us >= rest_us;
            if rests {
                to_rest.push(Arc::clone(&row.hosted));
                if let Some((ended_us, share)) = row.ended_us.zip(self.shares.get_mut(&owner(&row.hosted))) {
                    share.awake.remove(&(ended_us, entity));
                }
            }
            // Later than now, whatever was said meanwhile: each row is looked at once in a while.
            let next_us = heard_us.saturating_add(if rests { idle_us } else { rest_us });
            let next_us = next_us.max(now_us.saturating_add(rest_us.clamp(1, 1_000_000)));
            row.due_us = next_us;
            self.due.remove(&(due_us, entity));
            self.due.insert((next_us, entity));
        }
        to_rest
    }
}
