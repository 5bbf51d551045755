//! The model's histories as real entries, keys, chains and records: what the product says about them has to be what the model says.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use cantrip_runtime::domain::ids::{CallId, EntityId, EntryId, LoomId, WriterKey};
use cantrip_runtime::domain::loom::{Body as Says, Entry as Written, Head, Minted, Opened, Payload, Sealed};
use cantrip_runtime::domain::members::{
    Admitted, AuthorityId, CertificateId, CertificateSignature, Certified, ChainCheck, CheckedRecord, Expelled, Known,
    LogEnd, MemberRecord, NodeId, Nonce, Principal, Reader, Right, Scheme, Scope, Settled, Succession as Follows,
    Target as Whom, Vouched,
};
use cantrip_runtime::domain::model::Usage;
use cantrip_runtime::domain::place::CallPlace;
use ed25519_dalek::{Signer, SigningKey};

use crate::derive::{self, ADMIT, ADOPT, Body, Ent, Entry, Id, Key, Node, Target, UNBOUNDED, WRITE, Who, minter};

/// What a certificate says in these tests: a node, and when it begins.
#[derive(Debug)]
struct Certificates;

impl ChainCheck for Certificates {
    fn check(
        &self,
        chain: &[Vec<u8>],
        _: &[u8],
        _: &CertificateSignature,
    ) -> Result<Certified, Box<dyn Error + Send + Sync>> {
        Ok(Certified { node: node(chain[0][0]), begins_us: chain[0][1].into() })
    }
}

fn node(node: Node) -> NodeId {
    NodeId { authority: AuthorityId::from_bytes([node % 3; 32]), name: format!("n{node}").parse().unwrap() }
}

/// Keys in the order of their public halves: the model's order of keys is the real one.
fn keys() -> Vec<SigningKey> {
    let mut keys = (0..64).map(|seed| SigningKey::from_bytes(&[seed; 32])).collect::<Vec<_>>();
    keys.sort_by_key(|key| *key.verifying_key().as_bytes());
    keys
}

thread_local! {
    static KEYS: Vec<SigningKey> = keys();
}

pub(crate) fn key(key: Key) -> WriterKey {
    KEYS.with(|keys| WriterKey::from_bytes(*keys[usize::from(key)].verifying_key().as_bytes()))
}

fn sign(key: Key, statement: &[u8]) -> [u8; 64] {
    KEYS.with(|keys| keys[usize::from(key)].sign(statement).to_bytes())
}

fn nonce(number: u16) -> Nonce {
    Nonce::from_bytes(std::array::from_fn(|at| number.to_be_bytes()[at % 2]))
}

fn minted(ent: Ent) -> Minted {
    Minted { by: key(minter(ent) % 64), nonce: nonce(ent) }
}

pub(crate) fn entity(ent: Ent) -> EntityId {
    EntityId::mint(u64::from(ent), &key(minter(ent) % 64), &nonce(ent))
}

fn principal(who: Who) -> Principal {
    match who {
        Who::Node(number) => Principal::Node(node(number)),
        Who::Key(number) => Principal::Key(key(number)),
    }
}

fn certificate(of: Node, begins: u8) -> Vec<u8> {
    vec![of, begins]
}

fn record(of: derive::Record) -> MemberRecord {
    let chain = vec![certificate(of.node, of.begins), vec![0]];
    let by_key = sign(of.key, &MemberRecord::statement(&key(of.key), &chain));
    let by_certificate = CertificateSignature { scheme: Scheme::Ed25519, bytes: vec![0; 64] };
    MemberRecord { key: key(of.key), chain, by_certificate, by_key }
}

fn checked(of: derive::Record) -> CheckedRecord {
    record(of).check(&Certificates).unwrap()
}

fn vouched(known: &derive::Known) -> Vouched {
    let records = known.records.iter().filter(|record| record.by_cert && record.by_key).copied().map(checked).collect();
    let successions = known.successions.iter().filter(|next| next.by_old && next.by_new).map(|next| {
        let statement = Follows::statement(&key(next.old), &key(next.new));
        let (by_old, by_new) = (sign(next.old, &statement), sign(next.new, &statement));
        Follows { old: key(next.old), new: key(next.new), by_old, by_new }.check().unwrap()
    });
    Vouched { records, successions: successions.collect() }
}

/// A history with real entries.
pub(crate) struct Real {
    loom: LoomId,
    founder: Option<CheckedRecord>,
    vouched: Vouched,
    sealed: BTreeMap<Id, Sealed>,
    heads: BTreeMap<Id, Head>,
    begun: BTreeSet<Id>,
    /// The history, with ids in the order of the real ones: the lower of two ids is the lower in both.
    pub(crate) model: derive::Known,
    pub(crate) ids: BTreeMap<Id, EntryId>,
}

impl Real {
    pub(crate) fn of(known: &derive::Known) -> Self {
        let mut real = Self {
            loom: LoomId::from_bytes([0; 22]),
            founder: None,
            vouched: vouched(known),
            sealed: BTreeMap::new(),
            heads: BTreeMap::new(),
            begun: BTreeSet::new(),
            model: derive::Known::default(),
            ids: BTreeMap::new(),
        };
        let founding = &known.entries[&known.founding];
        let Body::Founded { record: by } = founding.body else { panic!("a loom begins with its founding") };
        let of = known.records.iter().copied().find(|record| Some(record.node) == by && record.key == founding.writer);
        let bytes = of.filter(|_| by.is_some()).map(|of| record(of).to_bytes());
        real.founder = of.filter(|_| by.is_some()).map(checked);
        real.loom = LoomId::mint(1, &key(founding.writer), &nonce(0), bytes.as_deref());
        for id in known.entries.keys() {
            real.write(*id, known, bytes.as_deref());
        }
        real.renumber(known);
        real
    }

    fn id(&self, id: Id) -> EntryId {
        self.sealed.get(&id).map_or_else(|| EntryId::of(&id.to_be_bytes()), |sealed| sealed.id)
    }

    fn size(&self, id: Id) -> u32 {
        self.sealed.get(&id).map_or(0, |sealed| sealed.recorded_bytes() as u32)
    }

    fn head(&self, id: Id) -> Head {
        self.heads.get(&id).copied().unwrap_or_default()
    }

    fn end(&self, known: &derive::Known, tip: Id) -> Option<LogEnd> {
        let writer = known.entries.get(&tip)?.writer;
        let head = self.head(tip);
        Some(LogEnd { writer: key(writer), sequence: head.sequence, chain: head.chain, cast: None })
    }

    /// Writes an entry behind all that it names.
    fn write(&mut self, id: Id, known: &derive::Known, founder: Option<&[u8]>) {
        let Some(entry) = known.entries.get(&id) else { return };
        if !self.begun.insert(id) {
            return;
        }
        let names = match &entry.body {
            Body::Opened { parent, .. } => vec![*parent],
            Body::Adopted { follows, .. } => vec![*follows],
            Body::Settled { admission, tips, .. } => [vec![*admission], tips.clone()].concat(),
            Body::Admitted { names, .. } => names.clone(),
            Body::Expelled { ends, .. } => ends.iter().map(|(.., tip)| *tip).collect(),
            Body::Rewarded { of, ends, .. } => [vec![*of], ends.clone()].concat(),
            Body::Founded { .. } | Body::Intent { .. } | Body::Step { .. } | Body::Delegated { .. } => Vec::new(),
        };
        for named in names.into_iter().chain([entry.prev, entry.relies]) {
            self.write(named, known, founder);
        }
        let parent = match &entry.body {
            Body::Opened { parent, .. } if *parent != 0 => Some(self.id(*parent)),
            Body::Adopted { follows, .. } => Some(self.id(*follows)),
            Body::Rewarded { of, .. } => Some(self.id(*of)),
            _ => Self::before(entry, known).map(|before| self.id(before)),
        };
        let (body, of) = self.body(entry, known, founder);
        let (writer, place) = (key(entry.writer), u64::from(entry.place));
        let mut written = Written::new(self.loom, (writer, place), self.begun.len() as u64, of, parent, body);
        written.relies = (entry.relies != 0).then(|| self.id(entry.relies));
        let sealed = Sealed::new(written, Vec::new()).unwrap();
        self.heads.insert(id, self.head(entry.prev).after(&sealed.id));
        self.sealed.insert(id, sealed);
    }

    /// The entry before it in the same history that is of the same entity.
    fn before(entry: &Entry, known: &derive::Known) -> Option<Id> {
        let mut at = entry.prev;
        while let Some(before) = known.entries.get(&at) {
            if before.ent() == entry.ent() && entry.ent().is_some() {
                return Some(at);
            }
            at = before.prev;
        }
        None
    }

    fn body(&self, entry: &Entry, known: &derive::Known, founder: Option<&[u8]>) -> (Says, Option<EntityId>) {
        let text = || Payload::Inline("said".to_owned());
        let of = entry.ent().map(entity);
        let says = match &entry.body {
            Body::Founded { .. } => {
                let member = founder.map(|bytes| serde_bytes::ByteBuf::from(bytes.to_vec()));
                Says::Founded { nonce: nonce(0), member }
            }
            Body::Opened { ent, parent } => {
                let delegated = (*parent != 0).then(|| self.id(*parent));
                Says::Opened(Box::new(Opened { minted: Some(minted(*ent)), delegated, ..Opened::default() }))
            }
            Body::Intent { .. } => Says::intent(text(), false, None),
            Body::Step { .. } => Says::Folded { first: 0, last: 0, summary: text(), usage: Usage::default() },
            Body::Delegated { child, .. } => Says::Delegated {
                call: CallId::new("call"),
                index: 0,
                child: entity(*child),
                proposal: text(),
                place: CallPlace::Here,
                nonce: None,
            },
            Body::Adopted { follows, epoch, .. } => Says::Adopted {
                epoch: *epoch,
                node: String::new(),
                last: self.end(known, *follows),
                accept_loss: false,
                by: None,
                note: None,
            },
            Body::Settled { child, admission, tips, .. } => {
                let ends = tips.iter().filter_map(|tip| self.end(known, *tip)).collect();
                let admission = self.id(*admission);
                Says::Settled(Box::new(Settled { child: entity(*child), admission, ends, by: None, note: None }))
            }
            Body::Admitted { who, rights, scope, most, key: opener, names } => {
                let opener = key(opener.unwrap_or(63));
                let scope = scope.map(|ent| Scope {
                    entity: entity(ent),
                    minted: minted(ent),
                    opener,
                    bytes_max: bound(*most),
                });
                let all = [(WRITE, Right::Write), (ADOPT, Right::Adopt), (ADMIT, Right::Admit)];
                let rights = all.iter().filter(|(bit, _)| rights & bit != 0).map(|(_, right)| *right).collect();
                let again = names.iter().map(|id| self.id(*id)).collect();
                let of = scope.as_ref().map(|scope| scope.entity);
                let says = Admitted { principal: principal(*who), rights, scope, again, by: None, note: None };
                return (Says::Admitted(Box::new(says)), of);
            }
            Body::Expelled { target, ends } => {
                let target = match target {
                    Target::Node(number) => Whom::Node(node(*number)),
                    Target::Key(number) => Whom::Key(key(*number)),
                    Target::Cert(of, begins) => Whom::Certificate(CertificateId::of(&certificate(*of, *begins))),
                };
                let ends = ends.iter().filter_map(|(.., tip)| self.end(known, *tip)).collect();
                Says::Expelled(Box::new(Expelled { target, ends, by: None, note: None }))
            }
            Body::Rewarded { ends, .. } => {
                let ends = ends.iter().map(|id| self.id(*id)).collect();
                Says::Rewarded { value: 1.0, by: String::new(), note: None, ends }
            }
        };
        (says, of)
    }

    /// The same history with numbers that are in the order of the real ids.
    fn renumber(&mut self, known: &derive::Known) {
        let mut named = known.entries.keys().copied().collect::<BTreeSet<_>>();
        for entry in known.entries.values() {
            named.extend([entry.prev, entry.relies]);
            match &entry.body {
                Body::Opened { parent, .. } => named.extend([*parent]),
                Body::Adopted { follows, .. } => named.extend([*follows]),
                Body::Settled { admission, tips, .. } => named.extend(tips.iter().chain([admission])),
                Body::Admitted { names, .. } => named.extend(names),
                Body::Expelled { ends, .. } => named.extend(ends.iter().map(|(.., tip)| *tip)),
                Body::Rewarded { of, ends, .. } => named.extend(ends.iter().chain([of])),
                _ => {}
            }
        }
        named.remove(&0);
        let in_order = named.iter().map(|id| (self.id(*id), *id)).collect::<BTreeMap<_, _>>();
        assert_eq!(in_order.len(), named.len(), "two entries have one id");
        let numbers = (1..).zip(in_order.values()).map(|(number, id)| (*id, number)).collect::<BTreeMap<Id, Id>>();
        let to = |id: Id| numbers.get(&id).copied().unwrap_or(0);
        let mut model = known.clone();
        model.founding = to(known.founding);
        model.entries = known
            .entries
            .values()
            .map(|entry| renumbered(entry, self.size(entry.id), to))
            .map(|entry| (entry.id, entry))
            .collect();
        self.model = model;
        self.ids = numbers.iter().map(|(id, number)| (*number, self.id(*id))).collect();
        let sealed = std::mem::take(&mut self.sealed);
        self.sealed = sealed.into_iter().map(|(id, sealed)| (to(id), sealed)).collect();
        let heads = std::mem::take(&mut self.heads);
        self.heads = heads.into_iter().map(|(id, head)| (to(id), head)).collect();
    }

    /// What somebody has who has these entries of it, told in some order.
    pub(crate) fn known(&self, part: &derive::Known, order: impl Fn(&mut Vec<Vec<Id>>)) -> Known<'_> {
        let mut known = Known::new(self.loom, self.vouched.clone());
        if let Some(founder) = &self.founder {
            known.founded_by(founder.clone());
        }
        let followed = part.entries.values().map(|entry| entry.prev).collect::<BTreeSet<_>>();
        let ends = part.entries.keys().filter(|id| !followed.contains(id));
        let mut ways = ends.map(|end| {
            let mut way = Vec::new();
            let mut at = *end;
            while let Some(entry) = part.entries.get(&at) {
                way.push(at);
                at = entry.prev;
            }
            way.reverse();
            way
        });
        let mut ways = ways.by_ref().collect::<Vec<_>>();
        order(&mut ways);
        for way in ways {
            let first = &part.entries[&way[0]];
            let covered = way.iter().take_while(|id| part.entries[*id].signed).count();
            let entries = way.iter().map(|id| &self.sealed[id]);
            known.stretch(key(first.writer), self.head(first.prev), entries, covered);
        }
        known
    }

    /// What is different between what the product says and what the model says.
    pub(crate) fn differs(&self, reader: &Reader<'_>, said: &derive::Answer, part: &derive::Known) -> Vec<String> {
        let mut wrong = Vec::new();
        for (id, entry) in &part.entries {
            let real = reader.counts(self.ids[id]);
            if real.is_ok() != said.counting.contains(id) {
                wrong.push(format!("the reader says {real:?} of {entry:?}"));
            }
        }
        let ents = part.entries.values().filter_map(Entry::ent).collect::<BTreeSet<_>>();
        for ent in ents {
            let real = reader.owner(entity(ent)).map(|owner| (owner.writer, owner.since));
            let owner = said.owners.get(&ent).map(|(by, since)| (key(*by), self.ids[since]));
            if real != owner {
                wrong.push(format!("the reader says that {real:?} owns {ent:#x}, and the model {owner:?}"));
            }
        }
        let members = reader
            .members()
            .into_iter()
            .map(|member| (member.principal, member.rights, member.scope.map(|scope| scope.entity)));
        let all = [(WRITE, Right::Write), (ADOPT, Right::Adopt), (ADMIT, Right::Admit)];
        let expected = said.members.iter().map(|(who, rights, scope)| {
            let rights = all.iter().filter(|(bit, _)| rights & bit != 0).map(|(_, right)| *right).collect();
            (principal(*who), rights, scope.map(entity))
        });
        let (members, expected) = (members.collect::<BTreeSet<_>>(), expected.collect::<BTreeSet<_>>());
        if members != expected {
            wrong.push(format!("the members are {members:?}, and in the model {expected:?}"));
        }
        let rewards = said
            .rewards
            .iter()
            .map(|(of, id)| (self.ids.get(of).copied().unwrap_or_else(|| self.id(*of)), self.ids[id]));
        let (real, expected) = (reader.rewards(), rewards.collect::<BTreeMap<_, _>>());
        if real != expected {
            wrong.push(format!("the rewards are {real:?}, and in the model {expected:?}"));
        }
        wrong
    }
}

/// A bound in bytes.
fn bound(most: u32) -> u64 {
    if most == UNBOUNDED { u64::MAX } else { u64::from(most) }
}

fn renumbered(entry: &Entry, size: u32, to: impl Fn(Id) -> Id) -> Entry {
    let all = |ids: &[Id]| ids.iter().map(|id| to(*id)).collect();
    let body = match &entry.body {
        Body::Opened { ent, parent } => Body::Opened { ent: *ent, parent: to(*parent) },
        Body::Adopted { ent, follows, epoch } => Body::Adopted { ent: *ent, follows: to(*follows), epoch: *epoch },
        Body::Settled { ent, child, admission, tips } => {
            Body::Settled { ent: *ent, child: *child, admission: to(*admission), tips: all(tips) }
        }
        Body::Admitted { who, rights, scope, most, key, names } => {
            Body::Admitted { who: *who, rights: *rights, scope: *scope, most: *most, key: *key, names: all(names) }
        }
        Body::Expelled { target, ends } => {
            let ends = ends.iter().map(|(key, place, tip)| (*key, *place, to(*tip))).collect();
            Body::Expelled { target: *target, ends }
        }
        Body::Rewarded { ent, of, ends } => Body::Rewarded { ent: *ent, of: to(*of), ends: all(ends) },
        other => other.clone(),
    };
    Entry { id: to(entry.id), prev: to(entry.prev), relies: to(entry.relies), body, size, ..entry.clone() }
}
