//! Whose word counts about an entity: the node that opened it, until another adopts it. What anybody else writes of it is set aside,
//! and so is what a former owner wrote behind the place where it was taken over.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::body::Body;
use super::entry::Sealed;
use crate::domain::ids::{EntityId, EntryId, WriterKey};

/// One owner's time: from one place of its log to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Time {
    writer: WriterKey,
    from: u64,
    to: u64,
}

/// The owners of the entities of a loom.
#[derive(Debug, Default)]
pub struct Owners {
    opened: BTreeMap<EntityId, EntryId>,
    times: BTreeMap<EntityId, Vec<Time>>,
}

impl Owners {
    /// Finds them in the entries of a loom. Of two nodes that open one entity the first in the list is believed.
    pub fn find<'a>(entries: impl IntoIterator<Item = &'a Sealed>) -> Self {
        let mut owners = Self::default();
        let mut adoptions: BTreeMap<EntityId, BTreeSet<(u64, WriterKey, EntryId)>> = BTreeMap::new();
        let mut places: HashMap<EntryId, &Sealed> = HashMap::new();
        for sealed in entries {
            let entry = &sealed.entry;
            places.insert(sealed.id, sealed);
            let Some(entity) = entry.entity else { continue };
            if matches!(entry.body, Body::Opened(_)) && !owners.opened.contains_key(&entity) {
                owners.opened.insert(entity, sealed.id);
                let time = Time { writer: entry.writer, from: entry.sequence, to: u64::MAX };
                owners.times.insert(entity, vec![time]);
            }
            if let Body::Adopted { epoch, .. } = &entry.body {
                adoptions.entry(entity).or_default().insert((*epoch, entry.writer, sealed.id));
            }
        }
        for (entity, adoptions) in adoptions {
            owners.adopt(entity, &adoptions, &places);
        }
        owners
    }

    fn adopt(
        &mut self,
        entity: EntityId,
        adoptions: &BTreeSet<(u64, WriterKey, EntryId)>,
        places: &HashMap<EntryId, &Sealed>,
    ) {
        let Some(times) = self.times.get_mut(&entity) else { return };
        let mut epoch = 0;
        loop {
            epoch += 1;
            let Some(last) = times.last_mut() else { return };
            // It follows an entry of the owner before, of the same entity.
            let of_epoch = (epoch, WriterKey::from_bytes([0; 32]), EntryId::from_digest([0; 32]))..;
            let of_epoch = adoptions.range(of_epoch).take_while(|(of, ..)| *of == epoch).collect::<Vec<_>>();
            let taken_over = of_epoch.into_iter().rev().find_map(|(_, writer, id)| {
                let adopted = places.get(id)?;
                let followed = places.get(&adopted.entry.parent?)?;
                let fits = followed.entry.entity == Some(entity)
                    && followed.entry.writer == last.writer
                    && followed.entry.sequence >= last.from;
                fits.then_some((followed.entry.sequence, *writer, adopted.entry.sequence))
            });
            let Some((to, writer, from)) = taken_over else { return };
            last.to = to;
            times.push(Time { writer, from, to: u64::MAX });
        }
    }

    /// Whether the loom has an entry that opens an entity.
    pub(super) fn has(&self, entity: EntityId) -> bool {
        self.opened.contains_key(&entity)
    }

    /// Whether an entry counts.
    pub fn counts(&self, sealed: &Sealed) -> bool {
        let entry = &sealed.entry;
        // Anybody may judge.
        if matches!(entry.body, Body::Rewarded { .. } | Body::Replayed { .. }) {
            return true;
        }
        // What is about the loom as a whole belongs to no thread.
        let Some(entity) = entry.entity else { return true };
        if matches!(entry.body, Body::Opened(_)) {
            return self.opened.get(&entity) == Some(&sealed.id);
        }
        let times = self.times.get(&entity);
        times
            .into_iter()
            .flatten()
            .any(|time| time.writer == entry.writer && (time.from..=time.to).contains(&entry.sequence))
    }

    /// Who goes on with an entity, and how often it was adopted.
    pub fn owner(&self, entity: EntityId) -> Option<(WriterKey, u64)> {
        let times = self.times.get(&entity)?;
        Some((times.last()?.writer, times.len().saturating_sub(1) as u64))
    }
}
