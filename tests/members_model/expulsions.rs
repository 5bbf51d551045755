//! Whom an expulsion is about, what it leaves, and what a second history does.

use std::cmp::Reverse;

use super::{Body, Entry, Id, Key, Reader, Target, Who};

impl<'a> Reader<'a> {
    pub(super) fn targets(&self, target: Target, key: Key, admission: Option<Id>) -> bool {
        match target {
            Target::Node(node) => self.is(key, Who::Node(node)),
            Target::Cert(node, begins) => {
                let mut of_node = self.records(key).filter(|record| record.node == node).peekable();
                of_node.peek().is_some() && of_node.all(|record| record.begins == begins)
            }
            Target::Key(named) if named == key => true,
            Target::Key(named) => {
                // A successor goes on only as a node that certified it itself.
                let who = admission.and_then(|id| self.get(id)).and_then(|by| match by.body {
                    Body::Admitted { who, .. } => Some(who),
                    _ => None,
                });
                let who = who.or(self.founder_node.map(Who::Node));
                let certified = self
                    .records(key)
                    .any(|record| Some(Who::Node(record.node)) == who || !self.rules.r4_4_certified_for_that_node);
                self.rules.r4_4_successors_end && !certified && self.is(key, Who::Key(named))
            }
        }
    }

    /// Whether an expulsion concerns a link of a chain at all.
    pub(super) fn concerns(&self, expulsion: &Entry, chain: &[Id], link: usize) -> bool {
        let Body::Expelled { target, .. } = &expulsion.body else { return false };
        let Some(entry) = self.get(chain[link]) else { return false };
        if !self.targets(*target, entry.writer, chain.get(link + 1).copied()) {
            return false;
        }
        let by_founder = self.is_founder(expulsion.writer);
        if self.is_founder(entry.writer) {
            let above = self.rank(expulsion.writer) > self.rank(entry.writer) || !self.rules.r4_4_rank_of_founders_keys;
            return by_founder && above || !self.rules.r4_4_founder_only_by_founder;
        }
        let Some(own) = self.chain(expulsion.id) else { return false };
        let scopes = self.scopes(chain).collect::<Vec<_>>();
        let passes = chain.iter().skip(link + 1).filter_map(|id| self.get(*id));
        let mut passes = passes.filter(|above| self.same_member(above.writer, expulsion.writer));
        let has = by_founder
            || !self.rules.r4_4_only_its_own_chain
            || passes.next().is_some() && self.scopes(&own).all(|scope| scopes.contains(&scope));
        has && !self.is_renewed(chain.get(link + 1).copied(), expulsion, &own)
    }

    pub(super) fn is_renewed(&self, admission: Option<Id>, expulsion: &Entry, own: &[Id]) -> bool {
        let Some(by) = admission.and_then(|id| self.get(id)) else { return false };
        let Body::Admitted { names, who, .. } = &by.body else { return false };
        // Who has been admitted again can be host: the cast's admission names the one that named the expulsion.
        let is_of_same = |id: &&Id| {
            self.get(**id).is_some_and(|named| matches!(&named.body, Body::Admitted { who: of, .. } if of == who))
        };
        let mut again = names.iter().filter(is_of_same);
        if self.rules.r4_4_readmission_is_handed_on && again.any(|id| self.is_renewed(Some(*id), expulsion, own)) {
            return self.rules.r4_4_readmission_names_it;
        }
        if !self.rules.r4_4_readmission_names_it {
            return names.is_empty();
        }
        let above = own.iter().filter_map(|id| self.get(*id)).any(|above| self.same_member(above.writer, by.writer));
        names.contains(&expulsion.id)
            && (above || self.is_founder(by.writer) || !self.rules.r4_4_readmission_from_above)
    }

    pub(super) fn within(&self, expulsion: &Entry, entry: &Entry) -> bool {
        let Body::Expelled { ends, .. } = &expulsion.body else { return true };
        let mut listed = ends.iter().filter(|(key, ..)| *key == entry.writer).peekable();
        if listed.peek().is_none() {
            return !self.rules.r4_4_unlisted_end_at_0;
        }
        listed.any(|(_, place, tip)| {
            entry.place <= *place && (self.leads_to(entry, *tip) || !self.rules.r4_4_chain_value)
        })
    }

    /// From the founder down: an expulsion is ended only by one that is nearer to the founder.
    pub(super) fn nearness(&self, expulsion: Id) -> Option<(usize, Reverse<u8>)> {
        let chain = self.chain(expulsion)?;
        let writer = self.get(expulsion)?.writer;
        Some((chain.len(), Reverse(if self.is_founder(writer) { self.rank(writer) } else { 0 })))
    }

    pub(crate) fn stands(&self, expulsion: Id) -> bool {
        if let Some(stands) = self.stands.borrow().get(&expulsion) {
            return *stands;
        }
        let stands = match (self.chain(expulsion), self.nearness(expulsion)) {
            (Some(chain), Some(own)) => {
                !self.rules.r4_4_from_the_founder_down
                    || (0..chain.len()).all(|link| !self.is_cut(&chain, link, |by| self.nearness(by) < Some(own)))
            }
            _ => false,
        };
        self.stands.borrow_mut().insert(expulsion, stands);
        stands
    }

    pub(super) fn is_cut(&self, chain: &[Id], link: usize, may: impl Fn(Id) -> bool) -> bool {
        let Some(entry) = self.get(chain[link]) else { return true };
        let judge = |id: &&Id| {
            self.rules.r4_4_expulsion_ends
                && **id != entry.id
                && may(**id)
                && self.get(**id).is_some_and(|by| self.concerns(by, chain, link))
                && self.stands(**id)
        };
        let mut judges = self.expulsions.iter().filter(judge).filter_map(|id| self.get(*id)).peekable();
        if judges.peek().is_none() {
            return false;
        }
        // Of several the lowest holds: an entry stays only where each of them lets it.
        if self.rules.r4_4_lowest_holds {
            judges.any(|by| !self.within(by, entry))
        } else {
            judges.all(|by| !self.within(by, entry))
        }
    }

    pub(super) fn is_after_proof(&self, entry: &Entry, chain: &[Id]) -> bool {
        let Some(place) = self.known.proofs.get(&entry.writer) else { return false };
        if !self.rules.r5_5_ends_at_the_proof || entry.place < *place {
            return false;
        }
        if entry.is_membership() && self.rules.r5_5_membership_stays {
            return false;
        }
        let pins = |by: &&'a Entry| {
            let has = self.concerns(by, chain, 0) || !self.rules.r4_5_expulsion_pins_only_with_authority;
            let Body::Expelled { ends, .. } = &by.body else { return false };
            let listed = ends.iter().any(|(key, _, tip)| *key == entry.writer && self.leads_to(entry, *tip));
            listed && has && by.writer != entry.writer && self.stands(by.id)
        };
        let pinned = self.rules.r4_5_expulsion_pins_against_5_5
            && self.expulsions.iter().filter_map(|id| self.get(*id)).any(|by| pins(&by));
        !pinned
    }
}
