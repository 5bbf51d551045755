//! Who may write a loom, whatever is said of it: proofs that a writer has two histories, and the owner rule over sets of real entries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use cantrip_runtime::adapters::store::NodeKey;
use cantrip_runtime::domain::ids::{EntityId, EntryId, LoomId, WriterKey};
use cantrip_runtime::domain::loom::{
    Before, Body, CastChain, Division, Entry, EquivocationProof, Head, Minted, Opened, Payload, Row, Sealed, Side,
};
use cantrip_runtime::domain::members::{
    Admitted, Deed, Expelled, Known, LogEnd, Nonce, Principal, ProvedEntry, Reader, Refused, Right, Scope, Settled,
    Target, Vouched,
};

use crate::targets::target_of;

/// The founder's, and three others'.
const KEYS: u8 = 4;
/// 24 entries of one input: what one entry decides about another shows within a handful.
const ENTRIES_READ: usize = 24;

fn key(number: u8) -> NodeKey {
    NodeKey::from_secret(&[number + 1; 32])
}

/// The public half: made once, which takes longer than all else of an input.
fn writer(number: u8) -> WriterKey {
    static ONCE: OnceLock<[WriterKey; KEYS as usize]> = OnceLock::new();
    ONCE.get_or_init(|| [0, 1, 2, 3].map(|number| key(number).writer()))[usize::from(number % KEYS)]
}

fn nonce(number: u8) -> Nonce {
    Nonce::from_bytes([number; 16])
}

fn loom() -> LoomId {
    LoomId::mint(1, &writer(0), &nonce(0), None)
}

fn proof(lengths: [u8; 2]) -> EquivocationProof {
    let common = Head::default().after(&EntryId::of(b"both"));
    let sides = lengths.map(|length| {
        let ids: Vec<EntryId> = (0..length).map(|at| EntryId::of(&[length, at])).collect();
        let end = ids.iter().fold(common, |head, id| head.after(id));
        Side { ids, signature: key(1).sign(loom(), end).signature }
    });
    EquivocationProof::new(loom(), writer(1), common, sides)
}

/// What leads in a cast from its beginning to a signed head.
fn row(cast: EntityId, items: &[(u64, EntryId)]) -> Row {
    let row = Row { before: Before::Cast(cast, [0; 32]), items: items.to_vec(), signature: [0; 64] };
    resigned(row)
}

/// A row of a cast under the word of its writer's key.
fn resigned(mut row: Row) -> Row {
    let Before::Cast(cast, chain) = row.before else { return row };
    let at = row.items.iter().fold(CastChain { place: 0, chain }, |at, (place, id)| at.after(*place, id));
    row.signature = key(1).sign_cast(loom(), cast, at).signature;
    row
}

/// Two entries of a cast at one place, and an entry of the log that a cast head leaves out.
fn proofs_of_casts() -> [EquivocationProof; 2] {
    let cast = EntityId::mint(1, &writer(1), &nonce(1));
    let ids = [1, 2, 3].map(|number: u8| EntryId::of(&[number]));
    let rows = [row(cast, &[(1, ids[0]), (3, ids[1])]), row(cast, &[(1, ids[2])])];
    let intent = Body::intent(Payload::Inline("left out".to_owned()), false, None);
    let sealed = Sealed::new(Entry::new(loom(), (writer(1), 1), 1, cast, None, intent), Vec::new()).unwrap();
    let signature = key(1).sign(loom(), Head::default().after(&sealed.id)).signature;
    let (before, behind) = (Head::default(), Vec::new());
    let shown = vec![ProvedEntry { before, entry: sealed.bytes, behind, signature }];
    let left_out = Division::LeftOut { shown, row: row(cast, &[(2, ids[0])]) };
    [Division::Rows(rows), left_out].map(|division| EquivocationProof { loom: loom(), writer: writer(1), division })
}

#[test]
fn equivocation_proof() {
    let mut seeds = vec![proof([1, 2]).to_bytes(), proof([5, 3]).to_bytes(), proof([1, 100]).to_bytes()];
    seeds.extend(proofs_of_casts().iter().map(EquivocationProof::to_bytes));
    // What its writer's key signs anew is reached beyond the signature: all but that of a changed proof is looked at.
    let signed = |mut proof: EquivocationProof| {
        let (common, sides) = match &mut proof.division {
            Division::Logs { common, sides } => (common, sides),
            Division::Rows(rows) => {
                *rows = rows.clone().map(resigned);
                return proof;
            }
            Division::LeftOut { row, .. } => {
                *row = resigned(row.clone());
                return proof;
            }
        };
        for side in sides {
            let end = side.ids.iter().fold(*common, |head, id| head.after(id));
            side.signature = key(1).sign(loom(), end).signature;
        }
        proof
    };
    let taken = |bytes: &[u8]| {
        let Some(proof) = EquivocationProof::parse(bytes) else { return false };
        assert!(proof.holds() && proof.to_bytes() == bytes, "it has one form, and holds");
        assert_eq!((proof.loom, proof.writer), (loom(), writer(1)), "nobody else has signed anything");
        if let Division::Logs { common, sides } = &proof.division {
            assert!(sides[0].ids.first() != sides[1].ids.first());
            assert!(proof.place() > common.sequence);
        }
        let mut known = Known::new(loom(), Vouched::default());
        known.divides(&proof);
        Reader::new(&known);
        true
    };
    target_of("equivocation_proof", &seeds, 3_000, |bytes| {
        let holds = taken(&bytes);
        assert!(!holds || seeds.contains(&bytes), "a changed proof holds");
        // The places, the chain and the ids, whatever they have become.
        let mut at = bytes.iter().copied();
        let mut next = || at.next().unwrap_or_default();
        let common = Head {
            sequence: u64::from_le_bytes([next(), next(), next(), next(), next(), 0, 0, next()]),
            chain: [next(); 32],
        };
        let sides = [next() % 40, next() % 40].map(|length| {
            let ids = (0..length).map(|_| EntryId::from_digest([next() % 8; 32])).collect();
            Side { ids, signature: [0; 64] }
        });
        taken(&signed(EquivocationProof::new(loom(), writer(1), common, sides)).to_bytes())
    });
}

/// A log under construction, and what of others its writer can name.
struct Writing {
    logs: BTreeMap<(u8, u8), Vec<Sealed>>,
    all: Vec<EntryId>,
    /// What hosts were admitted for.
    hosts: Vec<(Scope, EntryId)>,
}

impl Writing {
    fn new() -> Self {
        let mut writing = Self { logs: BTreeMap::new(), all: Vec::new(), hosts: Vec::new() };
        writing.say((0, 0), None, (None, None), Body::Founded { nonce: nonce(0), member: None });
        let first = writing.admits(0, 1, None, &Right::ALL);
        writing.admits(1, 2, Some(first), &[Right::Write]);
        writing
    }

    fn admits(&mut self, by: u8, who: u8, relies: Option<EntryId>, rights: &[Right]) -> EntryId {
        let (principal, rights) = (Principal::Key(writer(who)), rights.iter().copied().collect());
        let admitted = Admitted { principal, rights, scope: None, again: Vec::new(), by: None, note: None };
        self.say((by, 0), relies, (None, None), Body::Admitted(Box::new(admitted)))
    }

    fn say(
        &mut self,
        log: (u8, u8),
        relies: Option<EntryId>,
        (entity, parent): (Option<EntityId>, Option<EntryId>),
        body: Body,
    ) -> EntryId {
        let held = self.logs.entry(log).or_default();
        let place = (writer(log.0), held.len() as u64 + 1);
        let entry = Entry { relies, ..Entry::new(loom(), place, place.1, entity, parent, body) };
        let Ok(sealed) = Sealed::new(entry, Vec::new()) else { return EntryId::of(b"none") };
        let id = sealed.id;
        held.push(sealed);
        self.all.push(id);
        id
    }

    fn end(&self, log: (u8, u8), at: u8) -> LogEnd {
        let entries = self.logs.get(&log).map(Vec::as_slice).unwrap_or_default();
        let to = usize::from(at) % (entries.len() + 1);
        let head = entries.iter().take(to).fold(Head::default(), |head, sealed| head.after(&sealed.id));
        LogEnd { writer: writer(log.0), sequence: head.sequence, chain: head.chain, cast: None }
    }

    /// The next entry, as five bytes say it.
    fn next(&mut self, [who, what, one, other, named]: [u8; 5]) {
        let (by, with) = (who % KEYS, other % KEYS);
        let log = (by, (who >> 4) / 14);
        if log.1 > 0 && !self.logs.contains_key(&log) {
            // A second history, from somewhere in the first on.
            let first = self.logs.get(&(by, 0)).cloned().unwrap_or_default();
            let kept = usize::from(named) % (first.len() + 1);
            self.logs.insert(log, first.into_iter().take(kept).collect());
        }
        let pick = |number: u8| self.all.get(usize::from(number) % self.all.len().max(1)).copied();
        let (relies, parent) = (pick(named).filter(|_| named % 8 > 0), pick(one));
        let minted = Minted { by: writer(with), nonce: nonce(1 + one % 3) };
        let entity = EntityId::mint(u64::from(1 + one % 3), &minted.by, &minted.nonce);
        let ends = || vec![self.end((with, 0), one)];
        let rights = Right::ALL.into_iter().enumerate().filter(|(at, _)| one >> at & 1 == 1).map(|(_, right)| right);
        let (none, about) = ((None, None), (Some(entity), parent));
        let (about, body) = match what % 10 {
            0 if named % 4 == 0 && !self.hosts.is_empty() => {
                // What it is a host for, if it is.
                let (scope, admission) = self.hosts[usize::from(one) % self.hosts.len()];
                let opened = Opened { minted: Some(scope.minted), ..Opened::default() };
                let about = (Some(scope.entity), None);
                self.say(log, Some(admission), about, Body::Opened(Box::new(opened)));
                return;
            }
            0 => {
                // Mostly what it has minted itself.
                let minted = if named % 4 > 0 { Minted { by: writer(by), ..minted } } else { minted };
                let entity = EntityId::mint(u64::from(1 + one % 3), &minted.by, &minted.nonce);
                let opened = Opened { minted: Some(minted), ..Opened::default() };
                ((Some(entity), None), Body::Opened(Box::new(opened)))
            }
            1 => (about, Body::intent(Payload::Inline("go".to_owned()), one % 2 == 0, None)),
            2 | 3 => {
                let epoch = [1, 2, u64::from(named), 1_000_000, 1_000_001, 2_000_001, u64::MAX][usize::from(named) % 7];
                let last = Some(self.end((with, named % 2), one));
                let by_name = String::new();
                (about, Body::Adopted { epoch, node: by_name, last, accept_loss: false, by: None, note: None })
            }
            4 => {
                // Mostly a child of its own, with room for a few entries.
                let minted = if one % 4 > 0 { Minted { by: writer(by), ..minted } } else { minted };
                let entity = EntityId::mint(u64::from(1 + one % 3), &minted.by, &minted.nonce);
                let bytes_max = if one % 5 == 0 { 900 } else { 1 << 20 };
                let scope = (named % 2 == 0).then_some(Scope { entity, minted, opener: writer(with), bytes_max });
                let who = if scope.is_some() { with } else { one % KEYS };
                let (principal, again) = (Principal::Key(writer(who)), pick(other).into_iter().collect());
                let rights = if scope.is_some() { [Right::Write].into_iter().collect() } else { rights.collect() };
                let admitted = Admitted { principal, rights, scope, again, by: None, note: None };
                (scope.map_or(none, |scope| (Some(scope.entity), None)), Body::Admitted(Box::new(admitted)))
            }
            5 => {
                let expelled = Expelled { target: Target::Key(writer(with)), ends: ends(), by: None, note: None };
                (none, Body::Expelled(Box::new(expelled)))
            }
            6 => (
                about,
                Body::Rewarded { value: 1.0, by: String::new(), note: None, ends: parent.into_iter().collect() },
            ),
            7 => {
                let host = self.hosts.get(usize::from(one) % self.hosts.len().max(1)).copied();
                let (child, admission) = host.map_or((entity, EntryId::of(b"no admission")), |it| (it.0.entity, it.1));
                let settled = Settled { child, admission, ends: ends(), by: None, note: None };
                let about = (Some(entity).filter(|_| named % 3 > 0), parent.filter(|_| named % 3 > 0));
                (about, Body::Settled(Box::new(settled)))
            }
            _ => (about, Body::intent(Payload::Inline("on".to_owned()), true, None)),
        };
        let scope = if let Body::Admitted(admitted) = &body { admitted.scope } else { None };
        let id = self.say(log, relies, about, body);
        self.hosts.extend(scope.map(|scope| (scope, id)));
    }
}

/// What a reader says of a set of logs, some of them only up to a place, in one order or the other.
fn said(logs: &[(&(u8, u8), &[Sealed])], is_turned: bool) -> Said {
    let mut known = Known::new(loom(), Vouched::default());
    let mut order: Vec<_> = logs.iter().collect();
    if is_turned {
        order.reverse();
    }
    for ((by, _), log) in order {
        known.log(writer(*by), *log, log.len());
    }
    let reader = Reader::new(&known);
    let counting = reader.counting().map(|sealed| sealed.id).collect();
    let refused = reader.refused().map(|(sealed, why)| (sealed.id, why)).collect();
    let owners = reader.owned().map(|of| (of, reader.owner(of).map(|owner| (owner.writer, owner.epoch)))).collect();
    let may = (0..KEYS).map(|number| reader.may(writer(number), Deed::Write)).collect();
    Said { counting, refused, owners, may, judged: reader.rewards() }
}

#[derive(Debug, PartialEq)]
struct Said {
    counting: BTreeSet<EntryId>,
    refused: BTreeMap<EntryId, Refused>,
    owners: BTreeMap<EntityId, Option<(WriterKey, u64)>>,
    may: Vec<Result<Option<EntryId>, Refused>>,
    judged: BTreeMap<EntryId, EntryId>,
}

/// Whether more may come to say this of an entry that counted on a part of what there is.
const fn may_come_later(why: Refused) -> bool {
    matches!(
        why,
        // An expulsion, a settlement, a second history, or a higher epoch or another opening than what was there.
        Refused::Expelled(_)
            | Refused::Ended { .. }
            | Refused::Equivocated { .. }
            | Refused::Settled(_)
            | Refused::Owner
            | Refused::Superseded
            | Refused::Admission(_)
            | Refused::Scope(_)
    )
}

#[test]
fn owner_rule() {
    // Who, what, about what, with whom, and naming which: five bytes an entry.
    let seeds: [&[u8]; 4] = [
        &[1, 0, 1, 1, 1, 1, 1, 3, 1, 1, 0, 2, 3, 1, 8, 1, 1, 3, 1, 1],
        &[2, 0, 1, 2, 2, 1, 2, 3, 2, 1, 0, 5, 1, 1, 8, 1, 0, 2, 1, 1],
        &[0, 0, 1, 0, 8, 0, 4, 2, 3, 2, 2, 0, 2, 0, 4, 0, 7, 1, 2, 8],
        &[1, 0, 1, 1, 1, 225, 0, 2, 1, 2, 225, 1, 2, 1, 1, 0, 2, 4, 1, 8],
    ];
    let mut seeds: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.repeat(2)).collect();
    // And some in which much is said of little: few keys, few entities, mostly by an admission that is there.
    seeds.extend((0..60_u64).map(|seed| {
        let mut state = seed;
        let mut below = |sides: u64| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            u8::try_from((state >> 33) % sides).unwrap()
        };
        let kinds = [0, 0, 0, 1, 2, 2, 3, 4, 4, 5, 6, 7, 8];
        let entry = |below: &mut dyn FnMut(u64) -> u8| {
            let who = [0, 1, 1, 2, 2, 3, 225][usize::from(below(if seed % 4 == 0 { 7 } else { 6 }))];
            let (what, one, with) = (kinds[usize::from(below(13))], below(24), below(3));
            [who, what, one, with, if who == 0 { 0 } else { 1 + below(if seed % 3 == 0 { 24 } else { 2 }) }]
        };
        (0..ENTRIES_READ).flat_map(|_| entry(&mut below)).collect()
    }));
    target_of("owner_rule", &seeds, 3_000, |bytes| {
        let mut writing = Writing::new();
        for entry in bytes.chunks_exact(5).take(ENTRIES_READ) {
            writing.next(entry.try_into().unwrap());
        }
        let whole: Vec<(&(u8, u8), &[Sealed])> = writing.logs.iter().map(|(log, all)| (log, all.as_slice())).collect();
        let all = said(&whole, false);
        assert_eq!(all, said(&whole, true), "whatever the order");
        let cut = usize::from(bytes.last().copied().unwrap_or_default());
        let part: Vec<(&(u8, u8), &[Sealed])> = whole
            .iter()
            .enumerate()
            .map(|(number, (log, all))| (*log, all.get(..(cut + number * 7) % (all.len() + 1)).unwrap_or_default()))
            .collect();
        let some = said(&part, false);
        assert_eq!(some, said(&part, true), "whatever the order");
        for id in &some.counting {
            let now = all.refused.get(id);
            assert!(now.is_none_or(|why| may_come_later(*why)), "{id} counted on a part, and then: {now:?}");
        }
        !all.owners.is_empty() && all.counting.len() > 4 && all.refused.len() > 1
    });
}
