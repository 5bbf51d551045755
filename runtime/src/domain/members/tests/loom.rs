//! Looms under construction, for the tests of who may write one.

use std::collections::BTreeMap;
use std::error::Error;

use ed25519_dalek::{Signer, SigningKey};
use ipld_core::ipld::Ipld;

use crate::domain::ids::{CallId, EntityId, EntryId, LoomId, NodeName, WriterKey};
use crate::domain::loom::{Body, Entry, Head, Minted, Opened, Payload, Sealed, SignedHead, Unknown};
use crate::domain::members::{
    Admitted, AuthorityId, CertificateSignature, Certified, ChainCheck, CheckedProof, CheckedRecord, Expelled, Known,
    LogEnd, MemberRecord, NodeId, Nonce, Principal, ProvedEntry, Reader, Refused, Right, Rights, Scheme, Scope,
    Succession, Target, Vouched,
};
use crate::domain::model::Usage;
use crate::domain::place::CallPlace;

pub(super) const FOUNDER: u8 = 1;

pub(super) fn signing(key: u8) -> SigningKey {
    SigningKey::from_bytes(&[key; 32])
}

pub(super) fn key(key: u8) -> WriterKey {
    WriterKey::from_bytes(*signing(key).verifying_key().as_bytes())
}

pub(super) fn nonce(number: u16) -> Nonce {
    Nonce::from_bytes(std::array::from_fn(|at| number.to_be_bytes().get(at).copied().unwrap_or(0)))
}

pub(super) fn minted(by: u8, number: u16) -> Minted {
    Minted { by: key(by), nonce: nonce(number) }
}

pub(super) fn ent(by: u8, number: u16) -> EntityId {
    EntityId::mint(u64::from(number), &key(by), &nonce(number))
}

pub(super) fn node(name: u8) -> NodeId {
    let name = format!("n{name}").parse::<NodeName>().unwrap();
    NodeId { authority: AuthorityId::from_bytes([7; 32]), name }
}

pub(super) fn rights(all: &[Right]) -> Rights {
    all.iter().copied().collect()
}

pub(super) fn text() -> Payload {
    Payload::Inline(String::new())
}

/// Takes a certificate for what it says: a node, and when it begins.
#[derive(Debug)]
pub(super) struct Certificates;

impl ChainCheck for Certificates {
    fn check(
        &self,
        chain: &[Vec<u8>],
        _: &[u8],
        _: &CertificateSignature,
    ) -> Result<Certified, Box<dyn Error + Send + Sync>> {
        let leaf = chain.first().ok_or("no certificate")?;
        Ok(Certified { node: node(leaf[0]), begins_us: leaf[1].into() })
    }
}

pub(super) fn certificate(of: u8, begins: u8) -> Vec<u8> {
    vec![of, begins]
}

pub(super) fn record(by: u8, of: u8, begins: u8) -> MemberRecord {
    let chain = vec![certificate(of, begins), vec![0]];
    let by_key = signing(by).sign(&MemberRecord::statement(&key(by), &chain)).to_bytes();
    let by_certificate = CertificateSignature { scheme: Scheme::Ed25519, bytes: vec![0; 64] };
    MemberRecord { key: key(by), chain, by_certificate, by_key }
}

/// What opens an entity with a number.
pub(super) fn opening((minter, number): (u8, u16), delegated: Option<EntryId>) -> Opened {
    Opened { minted: Some(minted(minter, number)), delegated, ..Opened::default() }
}

/// An entry behind a head, with its writer's word for it.
pub(super) fn proof(by: u8, before: Head, sealed: &Sealed) -> CheckedProof {
    let statement = SignedHead::statement(sealed.entry.loom, key(by), &before.after(&sealed.id));
    let signature = signing(by).sign(&statement).to_bytes();
    ProvedEntry { before, entry: sealed.bytes.clone(), behind: Vec::new(), signature }.check().unwrap()
}

/// A loom under construction. Each writer has a log, and may have others beside it.
pub(super) struct Loom {
    pub(super) id: LoomId,
    vouched: Vouched,
    founder: Option<CheckedRecord>,
    pub(super) logs: BTreeMap<(u8, u8), Vec<Sealed>>,
    pub(super) proofs: Vec<(u8, u64)>,
    /// Ids behind a head of a writer.
    pub(super) loose: Vec<(u8, Head, [EntryId; 2])>,
    pub(super) uncovered: u8,
}

impl Loom {
    /// Founded by a bare key.
    pub(super) fn new() -> Self {
        Self::founded(None)
    }

    pub(super) fn founded(member: Option<MemberRecord>) -> Self {
        let bytes = member.as_ref().map(MemberRecord::to_bytes);
        let id = LoomId::mint(1, &key(FOUNDER), &nonce(0), bytes.as_deref());
        let founder = member.map(|member| member.check(&Certificates).unwrap());
        let (logs, proofs, vouched) = (BTreeMap::new(), Vec::new(), Vouched::default());
        let mut loom = Self { id, vouched, founder, logs, proofs, loose: Vec::new(), uncovered: 0 };
        let member = bytes.map(serde_bytes::ByteBuf::from);
        loom.write(FOUNDER, None, None, None, Body::Founded { nonce: nonce(0), member });
        loom
    }

    pub(super) fn certify(&mut self, by: u8, of: u8, begins: u8) {
        self.vouched.records.push(record(by, of, begins).check(&Certificates).unwrap());
    }

    pub(super) fn succeed(&mut self, old: u8, new: u8) {
        let statement = Succession::statement(&key(old), &key(new));
        let (by_old, by_new) = (signing(old).sign(&statement).to_bytes(), signing(new).sign(&statement).to_bytes());
        let succession = Succession { old: key(old), new: key(new), by_old, by_new };
        self.vouched.successions.push(succession.check().unwrap());
    }

    pub(super) fn write(
        &mut self,
        by: u8,
        of: Option<EntityId>,
        parent: Option<EntryId>,
        relies: Option<EntryId>,
        body: Body,
    ) -> EntryId {
        self.write_in((by, 0), of, parent, relies, body)
    }

    pub(super) fn write_in(
        &mut self,
        log: (u8, u8),
        of: Option<EntityId>,
        parent: Option<EntryId>,
        relies: Option<EntryId>,
        body: Body,
    ) -> EntryId {
        let at = self.logs.values().map(Vec::len).sum::<usize>() as u64;
        let id = self.id;
        let held = self.logs.entry(log).or_default();
        let mut entry = Entry::new(id, (key(log.0), held.len() as u64 + 1), at, of, parent, body);
        entry.relies = relies;
        let sealed = Sealed::new(entry, Vec::new()).unwrap();
        let id = sealed.id;
        held.push(sealed);
        id
    }

    /// A second history of a writer, from some place of its first on.
    pub(super) fn fork(&mut self, by: u8, place: usize) {
        let kept = self.logs[&(by, 0)][..place].to_vec();
        self.logs.insert((by, 1), kept);
    }

    pub(super) fn end_of(&self, log: (u8, u8)) -> LogEnd {
        let head = self.logs[&log].iter().fold(Head::default(), |head, sealed| head.after(&sealed.id));
        LogEnd { writer: key(log.0), sequence: head.sequence, chain: head.chain, cast: None }
    }

    pub(super) fn admit(&mut self, by: u8, relies: Option<EntryId>, principal: Principal, all: &[Right]) -> EntryId {
        self.admit_again(by, relies, principal, all, Vec::new())
    }

    pub(super) fn admit_again(
        &mut self,
        by: u8,
        relies: Option<EntryId>,
        principal: Principal,
        all: &[Right],
        again: Vec<EntryId>,
    ) -> EntryId {
        let admitted = Admitted { principal, rights: rights(all), scope: None, again, by: None, note: None };
        self.write(by, None, None, relies, Body::Admitted(Box::new(admitted)))
    }

    /// Admits a host for a child with a number.
    pub(super) fn host(
        &mut self,
        by: u8,
        relies: Option<EntryId>,
        principal: Principal,
        child: (u8, u16),
        opener: u8,
    ) -> EntryId {
        self.host_of((by, relies), principal, child, (opener, u64::MAX))
    }

    /// The same, for so many bytes.
    pub(super) fn host_of(
        &mut self,
        (by, relies): (u8, Option<EntryId>),
        principal: Principal,
        (minter, number): (u8, u16),
        (opener, bytes_max): (u8, u64),
    ) -> EntryId {
        let entity = ent(minter, number);
        let scope = Some(Scope { entity, minted: minted(minter, number), opener: key(opener), bytes_max });
        let admitted =
            Admitted { principal, rights: rights(&[Right::Write]), scope, again: Vec::new(), by: None, note: None };
        self.write(by, Some(entity), None, relies, Body::Admitted(Box::new(admitted)))
    }

    pub(super) fn expel(&mut self, by: u8, relies: Option<EntryId>, target: Target, ends: Vec<LogEnd>) -> EntryId {
        let expelled = Expelled { target, ends, by: None, note: None };
        self.write(by, None, None, relies, Body::Expelled(Box::new(expelled)))
    }

    pub(super) fn open(
        &mut self,
        by: u8,
        relies: Option<EntryId>,
        (minter, number): (u8, u16),
        delegated: Option<EntryId>,
    ) -> EntryId {
        let opened = opening((minter, number), delegated);
        self.write(by, Some(ent(minter, number)), delegated, relies, Body::Opened(Box::new(opened)))
    }

    pub(super) fn step(&mut self, by: u8, of: EntityId, parent: EntryId) -> EntryId {
        let body = Body::Folded { first: 0, last: 0, summary: text(), usage: Usage::default() };
        self.write(by, Some(of), Some(parent), None, body)
    }

    /// What a later version writes: about an entity, behind an entry of it, or about the loom.
    pub(super) fn later(&mut self, by: u8, of: Option<(EntityId, EntryId)>, relies: Option<EntryId>) -> EntryId {
        let value = Ipld::Map([("kind".to_owned(), Ipld::String("dreamt".to_owned()))].into());
        let body = Body::Unknown(Box::new(Unknown { kind: "dreamt".to_owned(), value }));
        self.write(by, of.map(|(of, _)| of), of.map(|(_, parent)| parent), relies, body)
    }

    pub(super) fn delegate(&mut self, by: u8, of: EntityId, parent: EntryId, child: EntityId) -> EntryId {
        let (call, place) = (CallId::new("call"), CallPlace::Here);
        let body = Body::Delegated { call, index: 0, child, proposal: text(), place, nonce: None };
        self.write(by, Some(of), Some(parent), None, body)
    }

    pub(super) fn adopt(
        &mut self,
        by: u8,
        relies: Option<EntryId>,
        of: EntityId,
        (parent, last): (EntryId, LogEnd),
        epoch: u64,
    ) -> EntryId {
        let (node, last) = (String::new(), Some(last));
        let body = Body::Adopted { epoch, node, last, accept_loss: false, by: None, note: None };
        self.write(by, Some(of), Some(parent), relies, body)
    }

    pub(super) fn reward(
        &mut self,
        by: u8,
        relies: Option<EntryId>,
        of: EntityId,
        parent: EntryId,
        ends: Vec<EntryId>,
    ) -> EntryId {
        let body = Body::Rewarded { value: 1.0, by: String::new(), note: None, ends };
        self.write(by, Some(of), Some(parent), relies, body)
    }

    pub(super) fn known(&self) -> Known<'_> {
        let mut known = Known::new(self.id, self.vouched.clone());
        if let Some(founder) = &self.founder {
            known.founded_by(founder.clone());
        }
        for ((by, _), log) in &self.logs {
            let covered = if *by == self.uncovered { 0 } else { log.len() };
            known.log(key(*by), log, covered);
        }
        for (by, head, ids) in &self.loose {
            known.ids(key(*by), *head, *ids);
        }
        for (by, place) in &self.proofs {
            known.equivocates_from(key(*by), *place);
        }
        known
    }

    pub(super) fn counts(&self, id: EntryId) -> Result<(), Refused> {
        Reader::new(&self.known()).counts(id)
    }
}

pub(super) const ALL: [Right; 3] = [Right::Write, Right::Adopt, Right::Admit];

/// A loom with a member under key 2.
pub(super) fn with_member(all: &[Right]) -> (Loom, EntryId) {
    let mut loom = Loom::new();
    let admission = loom.admit(FOUNDER, None, Principal::Key(key(2)), all);
    (loom, admission)
}

/// A cast at key 3 with so many entities, each below the one before; the last opening.
pub(super) fn nested(depth: u16) -> (Loom, EntryId) {
    let mut loom = Loom::new();
    let host = loom.host(FOUNDER, None, Principal::Key(key(3)), (FOUNDER, 1), 3);
    let mut opened = loom.open(3, Some(host), (FOUNDER, 1), None);
    let mut of = ent(FOUNDER, 1);
    for number in 2..depth + 2 {
        let delegated = loom.delegate(3, of, opened, ent(3, number));
        opened = loom.open(3, Some(host), (3, number), Some(delegated));
        of = ent(3, number);
    }
    (loom, opened)
}
