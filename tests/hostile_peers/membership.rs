//! The loom in which the hostile peer is a member: what its founder and another member do there, and what may have come of it.
//!
//! Whoever has everything decides for everybody: each honest node's record is read alone, and all of them are delivered to somebody new
//! in two orders. Nothing of the hostile peer's may decide what its rights do not give it, nothing of an honest node's may be lost by
//! it, and who has the same says the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cantrip_runtime::adapters::store::{MemoryStore, NodeKey};
use cantrip_runtime::domain::copies::CopyKind;
use cantrip_runtime::domain::ids::{EntityId, EntryId, LoomId, WriterKey};
use cantrip_runtime::domain::loom::{Body, Sealed};
use cantrip_runtime::domain::members::{Batch, Principal, Reader, Refused, Right, Rights, Target};
use cantrip_runtime::driver::{Changed, Fault, Named};
use cantrip_runtime::ports::{CopyStore, LoomStore, MemberStore, StoreError, Taken};
use cantrip_runtime::{Cantrip, CastOptions, NoMedia, builtin};
use serde_json::{Value, json};

use super::act::Act;
use super::forge::Dice;
use super::members::{Made, Membership, keys};
use super::simulated::{Running, World, wards};

/// What the hostile peer may do in the loom, as a seed says; nothing: it is no member.
pub(crate) fn rights(seed: u64) -> Rights {
    let mut dice = Dice::new(seed ^ 0x7269_6768);
    if dice.once_in(6) {
        return Rights::default();
    }
    let mut rights: Rights = std::iter::once(Right::Write).filter(|_| !dice.once_in(6)).collect();
    rights.0.extend(Right::ALL.into_iter().skip(1).filter(|_| dice.once_in(2)));
    if rights.0.is_empty() {
        rights.0.insert(Right::Write);
    }
    rights
}

impl World {
    fn member(&self) -> Option<Arc<Membership>> {
        self.known.lock().unwrap().member.clone()
    }

    fn honest(&self) -> [WriterKey; 3] {
        self.places.each_ref().map(|place| LoomStore::writer(&*place.disk))
    }

    /// Whether the hostile peer may come to own an entity of others.
    fn may_seize(&self) -> bool {
        self.scenario.member.has(Right::Adopt)
    }

    /// Founds the loom, admits another node and the hostile peer, and writes something.
    pub(super) async fn founds(&self, node: &Running) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| error.to_string();
        let store = &self.places[0].disk;
        let loom = self.founded(&mut Dice::new(self.scenario.seed ^ 0x6c6f_6f6d));
        for keeper in ["b", "c", "m"] {
            let keeper = keeper.parse().unwrap();
            node.copies.share(loom, &keeper, CopyKind::Disk, None).map_err(|error| failed(&error))?;
        }
        let old = store.segment(loom, LoomStore::writer(&**store), 0).map_err(|error| failed(&error))?;
        let third = Named::Node("c".parse().unwrap());
        let of_another = self.admitted(node, loom, &third, &[Right::Write, Right::Adopt]).await?;
        let of_another = of_another.ok_or("the third node is a member already")?;
        let keys = keys(self.scenario.seed);
        let named = Named::Key(super::forge::writer(&keys[0]));
        let rights: Vec<Right> = self.scenario.member.0.iter().copied().collect();
        let admission = if rights.is_empty() { None } else { self.admitted(node, loom, &named, &rights).await? };
        let (entity, _) = self.summoned(node, loom, "the founder began it").await?;
        let (rights, old) = (self.scenario.member.clone(), old.ok_or("no log of the founder's")?.signed);
        let member = Membership::new(Arc::clone(store), loom, rights, (admission, of_another), entity, old, keys);
        self.known.lock().unwrap().member = Some(Arc::new(member));
        self.met(loom, entity);
        Ok(())
    }

    /// Admits somebody; the third node may not be up yet.
    async fn admitted(
        &self,
        node: &Running,
        loom: LoomId,
        named: &Named,
        rights: &[Right],
    ) -> Result<Option<EntryId>, String> {
        let mut last = String::new();
        for _ in 0..20 {
            match node.runtime.change_members(loom, named, rights, None).await {
                Ok(Changed::By(id)) => return Ok(Some(id)),
                Ok(Changed::Nothing) => return Ok(None),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Err(last)
    }

    /// Expels the hostile peer, where the seed says so.
    pub(super) async fn expels(&self, node: &Running) -> Result<(), String> {
        let Some(member) = self.member().filter(|_| self.scenario.expels) else { return Ok(()) };
        let target = Target::Key(super::forge::writer(&member.keys[0]));
        let changed = node.runtime.expel(member.loom, target, None).await.map_err(|error| error.to_string())?;
        let by = match changed {
            Changed::By(id) => Some(id),
            Changed::Nothing => None,
        };
        if by.is_some() != member.admission.is_some() {
            return Err(format!("{by:?} expelled who was admitted by {:?}", member.admission));
        }
        member.expelled.set(by).map_err(|_| "it was expelled twice".to_owned())
    }

    /// The founder goes on with what it began, and begins something else.
    pub(super) async fn goes_on(&self, node: &Running) -> Result<Option<Value>, String> {
        let member = self.member().ok_or("nothing was founded")?;
        let (loom, entity, own) = (member.loom, member.entity, LoomStore::writer(&*self.places[0].disk));
        self.summoned(node, loom, "the founder begins another").await?;
        let mut last = String::new();
        for _ in 0..3 {
            let owner = node.runtime.tree(loom).map_err(|error| error.to_string())?.owner(entity);
            let owner = owner.ok_or("nobody owns what the founder began")?.writer;
            if owner != own {
                if !self.may_seize() {
                    return Err(format!("{owner} owns what the founder began"));
                }
                node.runtime.adopt(loom, entity, true).await.map_err(|error| format!("taking it back: {error}"))?;
            }
            let cantrip = self.plain()?;
            let resumed = node.runtime.resume(&cantrip, loom, entity, &CastOptions::default());
            let mut resumed = resumed.map_err(|error| format!("going on: {error}"))?;
            match resumed.send(&json!([{ "done": "goes on" }]).to_string()).await {
                Ok(outcome) => return Ok(outcome.result),
                // An adoption that was on its way all along; or a fence, which the owner passes.
                Err(error) if self.may_seize() => {
                    last = error.to_string();
                    let passed = node.runtime.adopt(loom, entity, true).await;
                    if passed.as_ref().is_err_and(|fault| !matches!(fault, Fault::OwnEntity { .. })) {
                        return Err(format!("behind a fence: {last}; {passed:?}"));
                    }
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Err(last)
    }

    /// The other member writes, once it has heard that it may.
    pub(super) async fn takes_part(&self, node: &Running) -> Result<Option<Value>, String> {
        let loom = self.member().ok_or("nothing was founded")?.loom;
        let mut tries = 0;
        while let Err(why) = node.runtime.may_write(loom) {
            tries += 1;
            if tries > 80 {
                return Err(format!("it never may: {why}"));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok(self.summoned(node, loom, "another member").await?.1)
    }

    fn plain(&self) -> Result<Cantrip, String> {
        let cantrip = Cantrip::builder().llm(self.model(&Arc::default())).gate(builtin::echo()).gate(builtin::done());
        cantrip.wards(&wards()).build(&NoMedia).map_err(|error| error.to_string())
    }

    /// Something that a node itself writes into a loom.
    pub(super) async fn summoned(
        &self,
        node: &Running,
        loom: LoomId,
        said: &str,
    ) -> Result<(EntityId, Option<Value>), String> {
        let options = CastOptions { loom: Some(loom), ..CastOptions::default() };
        let mut entity = node.runtime.summon(&self.plain()?, options).map_err(|error| error.to_string())?;
        let intent = json!([{ "call": "echo", "args": { "text": said } }, { "done": said }]).to_string();
        let outcome = entity.send(&intent).await.map_err(|error| error.to_string())?;
        Ok((entity.entity(), outcome.result))
    }

    /// What may not have come of it.
    pub(super) fn judge_members(&self) {
        let Some(member) = self.member() else { return self.found("no loom was founded".to_owned()) };
        let stores = self.places.each_ref().map(|place| (place.name, Arc::clone(&place.disk)));
        let (one, other) = (delivered(&stores, member.loom), delivered(stores.iter().rev(), member.loom));
        let all = [one, other].map(|store| store.map_err(|error| error.to_string()));
        let [Ok(one), Ok(other)] = all else { return self.found(format!("not all can be delivered: {all:?}")) };
        let (one, other) = (one.batch(member.loom).unwrap(), other.batch(member.loom).unwrap());
        let (first, second) = (Said::of(&one), Said::of(&other));
        self.differ("two orders", &first, &second);
        self.judged("whoever has everything", &member, &Reader::of(&one));
        for (name, store) in &stores {
            let batch = store.batch(member.loom).unwrap();
            self.judged(name, &member, &Reader::of(&batch));
            self.differ(&format!("{name} and whoever has everything"), &Said::of(&batch), &first);
        }
    }

    /// Who has all that another has says the same of it.
    fn differ(&self, whom: &str, one: &Said, all: &Said) {
        let has_all = all.entries.keys().all(|id| one.entries.contains_key(id));
        if !has_all {
            return;
        }
        for (id, said) in &all.entries {
            if one.entries.get(id) != Some(said) {
                self.found(format!("{whom} differ about {id}: {:?} and {said:?}", one.entries.get(id)));
            }
        }
        if one.owners != all.owners {
            self.found(format!("{whom} differ about owners: {:?} and {:?}", one.owners, all.owners));
        }
    }

    fn judged(&self, who: &str, member: &Membership, reader: &Reader<'_>) {
        let honest = self.honest();
        if reader.founder() != Some(Principal::Key(honest[0])) {
            self.found(format!("{who}: the founder is {:?}", reader.founder()));
        }
        for sealed in reader.counting().filter(|sealed| !honest.contains(&sealed.entry.writer)) {
            if let Some(wrong) = self.seized(member, reader, sealed) {
                let (kind, writer) = (sealed.entry.body.kind(), sealed.entry.writer);
                self.found(format!("{who}: `{kind}` {} of {writer} decides something: {wrong}", sealed.id));
            }
        }
        for (sealed, why) in reader.refused().filter(|(sealed, _)| honest.contains(&sealed.entry.writer)) {
            // Who may adopt may take an entity from its owner; nothing else of an honest node's is ever lost.
            let is_taken = matches!(why, Refused::Owner | Refused::Superseded) && self.may_seize();
            if !is_taken {
                let (kind, writer) = (sealed.entry.body.kind(), sealed.entry.writer);
                self.found(format!("{who}: `{kind}` {} of the honest {writer} is lost: {why}", sealed.id));
            }
        }
    }

    /// What the hostile peer has gained by an entry that counts, and may not have.
    fn seized(&self, member: &Membership, reader: &Reader<'_>, sealed: &Sealed) -> Option<String> {
        let (rights, writer) = (&member.rights, sealed.entry.writer);
        let has = |right: Right| (!rights.has(right)).then(|| format!("it has no right `{right}`"));
        if member.admission.is_none() {
            return Some("it is no member".to_owned());
        }
        let is_its = |entity: EntityId| self.minted_by_others(member, entity);
        match &sealed.entry.body {
            Body::Adopted { .. } if reader.is_founder(writer) => Some("it is taken for the founder".to_owned()),
            Body::Adopted { .. } | Body::Keeping { .. } => has(Right::Adopt).filter(|_| {
                let of = sealed.entry.entity;
                of.is_some_and(|of| !is_its(of))
            }),
            // Whoever may admit may name a host of anything: who opens it says its minter alone.
            Body::Admitted(admitted) if admitted.scope.is_none() || rights.has(Right::Admit) => has(Right::Admit),
            // Whoever it is about, it ends nothing of an honest node's: that is looked for there.
            Body::Expelled(_) => None,
            Body::Opened(opened) if opened.minted.is_some_and(|minted| self.honest().contains(&minted.by)) => {
                Some("others have minted it".to_owned())
            }
            Body::Opened(_) | Body::Rewarded { .. } | Body::Replayed { .. } => has(Right::Write),
            _ => {
                let of = sealed.entry.entity?;
                if is_its(of) { None } else { has(Right::Adopt) }
            }
        }
        .or_else(|| Self::after_its_end(member, reader, sealed))
    }

    /// Whether an entity is one that the hostile peer has begun.
    fn minted_by_others(&self, member: &Membership, entity: EntityId) -> bool {
        let honest = self.honest();
        let opens = |place: &super::simulated::Place| {
            let entries = place.disk.entries_of(entity).unwrap_or_default();
            entries
                .iter()
                .any(|sealed| matches!(sealed.entry.body, Body::Opened(_)) && honest.contains(&sealed.entry.writer))
        };
        entity != member.entity && !self.places.iter().any(opens)
    }

    /// What was written behind the place at which its writer was expelled, and nobody has pinned.
    fn after_its_end(member: &Membership, reader: &Reader<'_>, sealed: &Sealed) -> Option<String> {
        let own = super::forge::writer(&member.keys[0]);
        let (_, expelled) = reader.expulsions().find(|(_, it)| it.target == Target::Key(own))?;
        let end = expelled.ends.iter().filter(|end| end.writer == sealed.entry.writer).map(|end| end.sequence).max();
        let is_pinned = reader.counting().any(|it| match &it.entry.body {
            Body::Adopted { last: Some(last), .. } => {
                last.writer == sealed.entry.writer && it.entry.writer != sealed.entry.writer
            }
            _ => false,
        });
        let is_its = sealed.entry.writer == own || reader.is_same_member(sealed.entry.writer, own);
        (is_its && !is_pinned && sealed.entry.sequence > end.unwrap_or_default())
            .then(|| format!("it was expelled at {end:?}"))
    }

    /// What a host may not have come to by what it has recorded of casts on it: it was admitted for those, and nothing else.
    pub(super) fn judge_hosted(&self) {
        let (honest, store) = (self.honest(), &self.places[0].disk);
        for loom in store.looms().unwrap().iter().map(|summary| summary.loom) {
            let batch = store.batch(loom).unwrap();
            let reader = Reader::of(&batch);
            if reader.founder() != Some(Principal::Key(honest[0])) {
                continue;
            }
            let of_casts: BTreeSet<EntityId> =
                reader.members().iter().filter_map(|it| it.scope).map(|it| it.entity).collect();
            let is_host = |sealed: &&Sealed| {
                sealed.entry.writer == super::forge::writer(&super::host::key_of(self.scenario.seed))
            };
            for sealed in reader.counting().filter(is_host) {
                let kind = sealed.entry.body.kind();
                let is_its = sealed.entry.entity.is_some_and(|of| of_casts.contains(&of));
                let decides = matches!(&sealed.entry.body, Body::Admitted(admitted) if admitted.scope.is_none());
                if !is_its || decides {
                    self.found(format!("`{kind}` {} of a host decides something in {loom}", sealed.id));
                }
            }
            for (sealed, why) in reader.refused().filter(|(sealed, _)| honest.contains(&sealed.entry.writer)) {
                self.found(format!("`{}` {} is lost in {loom}: {why}", sealed.entry.body.kind(), sealed.id));
            }
        }
    }

    /// Whether the other member has done what it had to.
    pub(super) fn has_taken_part(&self) -> bool {
        self.took_part.load(Ordering::Relaxed)
    }
}

/// What one record says.
#[derive(Debug)]
struct Said {
    entries: BTreeMap<EntryId, Result<(), Refused>>,
    owners: BTreeMap<EntityId, Option<(WriterKey, u64)>>,
}

impl Said {
    fn of(batch: &Batch) -> Self {
        let reader = Reader::of(batch);
        let counting = reader.counting().map(|sealed| (sealed.id, Ok(())));
        let entries = counting.chain(reader.refused().map(|(sealed, why)| (sealed.id, Err(why)))).collect();
        let owned = reader.owned().map(|of| (of, reader.owner(of).map(|owner| (owner.writer, owner.epoch))));
        Self { entries, owners: owned.collect() }
    }
}

/// Everything that some stores have of a loom, as it comes to somebody new.
fn delivered<'a>(
    stores: impl IntoIterator<Item = &'a (&'static str, Arc<MemoryStore>)>,
    loom: LoomId,
) -> Result<Arc<MemoryStore>, StoreError> {
    let all = MemoryStore::with_key(NodeKey::from_secret(&[99; 32]));
    let mut proofs = Vec::new();
    for (_, store) in stores {
        for log in store.logs(loom)? {
            let Some(segment) = store.segment(loom, log.writer, 0)? else { continue };
            match all.take(segment.check().unwrap()) {
                Ok(Taken::New(_) | Taken::Known) | Err(StoreError::Cheater { .. }) => {}
                Ok(odd @ (Taken::Gap(_) | Taken::Divided)) => panic!("a whole log is {odd:?}"),
                Err(StoreError::Forked { proof, .. }) => proofs.push(*proof),
                Err(error) => return Err(error),
            }
        }
        drop(all.attest(loom, &store.attestations(loom)?)?);
        all.keep_proved(&store.proved(loom)?)?.unwrap();
        proofs.extend(store.proofs()?);
    }
    for proof in proofs.iter().filter(|proof| proof.loom == loom) {
        all.accuse(proof)?;
    }
    Ok(all)
}

/// What came of an act at the node to which it was done: why its entries decide nothing, or that they do, what was answered, and what is
/// proved. With it, what may not have come of it.
pub(crate) fn came_of(scenario: &super::Scenario, act: Act) -> (BTreeSet<&'static str>, Vec<String>) {
    let world = World::new(scenario.clone());
    super::simulated::played(&world);
    world.judge_members();
    let member = world.member().unwrap();
    let store = &world.places[1].disk;
    let batch = store.batch(member.loom).unwrap();
    let reader = Reader::of(&batch);
    let met = |made: &Made| reader.counts(made.id).map_or_else(|why| why.kind(), |()| "counts");
    let made = member.made.lock().unwrap();
    let mut came: BTreeSet<&'static str> = made.iter().filter(|made| made.act == act).map(met).collect();
    came.extend(world.ears.answers.lock().unwrap().iter());
    came.extend((!store.proofs().unwrap().is_empty()).then_some("proved"));
    (came, world.findings())
}

/// Why what a host has recorded of casts on it decides nothing, or that it does, in its caller's record.
pub(crate) fn hosted(scenario: &super::Scenario) -> (BTreeSet<(String, &'static str)>, Vec<String>) {
    let world = World::new(scenario.clone());
    super::simulated::played(&world);
    world.judge_hosted();
    let (host, store) = (super::forge::writer(&super::host::key_of(scenario.seed)), &world.places[0].disk);
    let mut came = BTreeSet::new();
    for loom in store.looms().unwrap().iter().map(|summary| summary.loom) {
        let batch = store.batch(loom).unwrap();
        let reader = Reader::of(&batch);
        let kind = |sealed: &Sealed| sealed.entry.body.kind().to_owned();
        let refused = reader.refused().filter(|(sealed, _)| sealed.entry.writer == host);
        came.extend(refused.map(|(sealed, why)| (kind(sealed), why.kind())));
        let counting = reader.counting().filter(|sealed| sealed.entry.writer == host);
        came.extend(counting.map(|sealed| (kind(sealed), "counts")));
    }
    (came, world.findings())
}
