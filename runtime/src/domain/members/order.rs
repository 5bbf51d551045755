//! The order in which entities are judged: whatever an entity is below comes before it.

use std::collections::BTreeMap;

use crate::domain::ids::EntityId;
use crate::domain::steps;

#[derive(Debug, Default)]
struct Visit {
    index: usize,
    low: usize,
    next: usize,
    is_open: bool,
}

/// Groups entities so that each group comes behind those that it refers to. Only hostile entities are in a group of several: each
/// of those says that it is below the others.
pub(super) fn in_order(above: &BTreeMap<EntityId, Vec<EntityId>>) -> Vec<Vec<EntityId>> {
    let mut visits: BTreeMap<EntityId, Visit> = BTreeMap::new();
    let (mut open, mut groups) = (Vec::new(), Vec::new());
    for first in above.keys() {
        let mut path = vec![*first];
        while let Some(here) = path.last().copied() {
            steps::count(1);
            let next_index = visits.len();
            let visit = visits.entry(here).or_insert_with(|| {
                open.push(here);
                Visit { index: next_index, low: next_index, next: 0, is_open: true }
            });
            if !visit.is_open {
                path.pop();
                continue;
            }
            let further = above.get(&here).and_then(|above| above.get(visit.next)).copied();
            if let Some(further) = further {
                visit.next += 1;
                // An entity that refers to one on the way refers back.
                let seen = visits.get(&further).map(|seen| (seen.is_open, seen.index));
                if let Some((true, index)) = seen {
                    lower(&mut visits, here, index);
                } else if seen.is_none() && above.contains_key(&further) {
                    path.push(further);
                }
                continue;
            }
            path.pop();
            let (index, low) = (visit.index, visit.low);
            if index == low {
                groups.push(close(&mut visits, &mut open, here));
            }
            if let Some(before) = path.last() {
                lower(&mut visits, *before, low);
            }
        }
    }
    groups
}

fn lower(visits: &mut BTreeMap<EntityId, Visit>, of: EntityId, to: usize) {
    if let Some(visit) = visits.get_mut(&of) {
        visit.low = visit.low.min(to);
    }
}

fn close(visits: &mut BTreeMap<EntityId, Visit>, open: &mut Vec<EntityId>, to: EntityId) -> Vec<EntityId> {
    let mut group = Vec::new();
    while let Some(entity) = open.pop() {
        if let Some(visit) = visits.get_mut(&entity) {
            visit.is_open = false;
        }
        group.push(entity);
        if entity == to {
            break;
        }
    }
    group.sort_unstable();
    group
}
