//! What a member of a loom may say beyond its rights, and who is none: forged, ground, withheld, replayed, after its expulsion, and in
//! two histories. Unlike the other plans, these are by a key that somebody has admitted: what they say is read, not left out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use cantrip_runtime::adapters::peer::v1::copy_message::Message as Said;
use cantrip_runtime::adapters::peer::{Identity, make_authority, make_certificate, v1};
use cantrip_runtime::adapters::store::{MemoryStore, NodeKey};
use cantrip_runtime::domain::ids::{EntityId, EntryId, LoomId, WriterKey};
use cantrip_runtime::domain::limits::{EPOCH_STEP_MAX, FENCE_STEP_MAX};
use cantrip_runtime::domain::loom::{Body, Head, Minted, Opened, SignedHead};
use cantrip_runtime::domain::members::{
    Admitted, Expelled, LogEnd, Nonce, Principal, Right, Rights, Scope, Settled, Succession, Target,
};
use cantrip_runtime::ports::CopyStore;
use ed25519_dalek::{Signer, SigningKey};

use super::act::{Act, Call, Known, Step};
use super::copying::{conversation, fencing, have, offered, one, say};
use super::forge::{Dice, Log, bytes, ended, intent, log_head, utterance, writer};

/// An entry that an act has made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Made {
    pub(crate) act: Act,
    pub(crate) id: EntryId,
}

/// The loom in which the hostile peer is a member, with everything that it could know of it.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) loom: LoomId,
    /// What its founder has: nothing of it is a secret to a member.
    pub(crate) store: Arc<MemoryStore>,
    /// The admission of the hostile peer, if it was admitted.
    pub(crate) admission: Option<EntryId>,
    pub(crate) rights: Rights,
    /// The admission of another node.
    pub(crate) of_another: EntryId,
    /// An entity of the founder's.
    pub(crate) entity: EntityId,
    /// A head that the founder has signed long ago.
    pub(crate) old: SignedHead,
    /// That it was expelled: by an entry, or that nothing was to be done.
    pub(crate) expelled: OnceLock<Option<EntryId>>,
    /// The hostile peer's key in this loom, and that of its friend.
    pub(crate) keys: [SigningKey; 2],
    /// Its own log, and what else it writes under other keys.
    logs: Mutex<BTreeMap<WriterKey, Log>>,
    pub(crate) made: Mutex<Vec<Made>>,
}

/// The key under which the hostile peer becomes a member, and that of a friend.
pub(crate) fn keys(seed: u64) -> [SigningKey; 2] {
    let mut dice = Dice::new(seed ^ 0x6d65_6d62);
    [dice.key(), dice.key()]
}

impl Membership {
    pub(crate) fn new(
        store: Arc<MemoryStore>,
        loom: LoomId,
        rights: Rights,
        (admission, of_another): (Option<EntryId>, EntryId),
        entity: EntityId,
        old: SignedHead,
        keys: [SigningKey; 2],
    ) -> Self {
        let (expelled, logs, made) = (OnceLock::new(), Mutex::default(), Mutex::default());
        Self { loom, store, admission, rights, of_another, entity, old, expelled, keys, logs, made }
    }

    /// What it relies on: its admission, or, where it has none, somebody else's.
    fn relies(&self) -> EntryId {
        self.admission.unwrap_or(self.of_another)
    }

    fn log(&self, key: &SigningKey) -> Log {
        let logs = self.logs.lock().unwrap();
        logs.get(&writer(key)).cloned().unwrap_or_else(|| Log::new(key.clone(), self.loom))
    }

    fn keep(&self, log: &Log) {
        self.logs.lock().unwrap().insert(writer(&log.key), log.clone());
    }

    /// The founder's log as it is signed now.
    fn founders(&self) -> Option<(SignedHead, Vec<Vec<u8>>)> {
        let segment = self.store.segment(self.loom, self.store_writer(), 0).ok()??;
        Some((segment.signed, segment.entries))
    }

    fn store_writer(&self) -> WriterKey {
        cantrip_runtime::ports::LoomStore::writer(&*self.store)
    }

    /// The newest entry of the founder's entity, and the head of the log that covers it.
    fn last(&self) -> Option<(EntryId, LogEnd)> {
        use cantrip_runtime::ports::LoomStore as _;
        let own = self.store_writer();
        let entries = self.store.entries_of(self.entity).ok()?;
        let newest = entries.iter().rfind(|sealed| sealed.entry.writer == own)?;
        let SignedHead { writer, head: Head { sequence, chain }, .. } = self.founders()?.0;
        Some((newest.id, LogEnd { writer, sequence, chain, cast: None }))
    }
}

/// Writes into one log what an act says, and notes it.
struct Pen<'a> {
    of: &'a Membership,
    act: Act,
    log: Log,
    relies: Option<EntryId>,
}

impl<'a> Pen<'a> {
    fn new(of: &'a Membership, act: Act, key: &SigningKey) -> Self {
        Self { of, act, log: of.log(key), relies: Some(of.relies()) }
    }

    fn relying(self, relies: Option<EntryId>) -> Self {
        Self { relies, ..self }
    }

    fn say(&mut self, about: Option<EntityId>, parent: Option<EntryId>, body: Body) -> EntryId {
        let id = self.log.push_by(self.relies, (about, parent), body);
        self.of.made.lock().unwrap().push(Made { act: self.act, id });
        id
    }

    /// An entity that this key mints, or says that another has minted.
    fn opens(&mut self, dice: &mut Dice, by: WriterKey, unix_ms: u64) -> (EntityId, EntryId) {
        let minted = Minted { by, nonce: Nonce::from_bytes(dice.bytes()) };
        let entity = EntityId::mint(unix_ms, &minted.by, &minted.nonce);
        (entity, self.say(Some(entity), None, opening(minted)))
    }

    fn adopts(&mut self, epoch: u64, last: Option<LogEnd>, follows: EntryId) -> EntryId {
        self.say(Some(self.of.entity), Some(follows), adoption(epoch, last))
    }

    fn admits(&mut self, principal: Principal, rights: Rights, scope: Option<Scope>, again: Vec<EntryId>) -> EntryId {
        let about = scope.map(|scope| scope.entity);
        let admitted = Admitted { principal, rights, scope, again, by: None, note: None };
        self.say(about, None, Body::Admitted(Box::new(admitted)))
    }

    fn expels(&mut self, key: WriterKey) -> EntryId {
        let expelled = Expelled { target: Target::Key(key), ends: Vec::new(), by: None, note: None };
        self.say(None, None, Body::Expelled(Box::new(expelled)))
    }

    /// Everything that decides anything, about what is its own and what is not.
    fn everything(&mut self, dice: &mut Dice) {
        let (own, founder, entity) = (writer(&self.log.key), self.of.store_writer(), self.of.entity);
        let (_, opened) = self.opens(dice, own, 1_790_000_000_000);
        self.opens(dice, founder, 1_790_000_000_000);
        let Some((follows, last)) = self.of.last() else { return };
        self.say(Some(entity), Some(follows), intent("go on for mallory"));
        self.say(Some(entity), Some(follows), utterance("deed", "{\"deed\": \"none\"}"));
        self.say(Some(entity), Some(follows), ended("forged by mallory"));
        self.say(Some(entity), Some(follows), Body::rewarded(f64::MAX, "a".to_owned()));
        let settled = Settled {
            child: entity,
            admission: self.relies.unwrap_or(follows),
            ends: vec![last],
            by: None,
            note: None,
        };
        self.say(Some(entity), Some(follows), Body::Settled(Box::new(settled)));
        let all: Rights = Right::ALL.into_iter().collect();
        self.admits(Principal::Key(dice_key(dice)), all.clone(), None, Vec::new());
        let minted = Minted { by: founder, nonce: Nonce::from_bytes([9; 16]) };
        let child = EntityId::mint(9, &minted.by, &minted.nonce);
        let scope = Scope { entity: child, minted, opener: own, bytes_max: u64::MAX };
        self.admits(Principal::Key(own), std::iter::once(Right::Write).collect(), Some(scope), Vec::new());
        self.expels(founder);
        let adopted = self.adopts(1, Some(last), follows);
        self.say(Some(entity), Some(adopted), intent("mine now"));
        self.say(Some(entity), Some(opened), ended("forged by mallory"));
    }

    /// What it has written, said and sent.
    fn offered(self) -> Vec<Step> {
        self.of.keep(&self.log);
        offered(&[&self.log])
    }
}

fn dice_key(dice: &mut Dice) -> WriterKey {
    writer(&dice.key())
}

fn opening(minted: Minted) -> Body {
    Body::Opened(Box::new(Opened { minted: Some(minted), ..Opened::default() }))
}

fn adoption(epoch: u64, last: Option<LogEnd>) -> Body {
    Body::Adopted { epoch, node: "m@m:7400".to_owned(), last, accept_loss: false, by: None, note: None }
}

pub(crate) fn plan(act: Act, dice: &mut Dice, known: &Known) -> Option<Vec<Call>> {
    if !act.is_of_a_member() {
        return None;
    }
    let Some(of) = &known.member else {
        // No loom in which it is a member: the same about a loom of others.
        let loom = known.loom(dice);
        return Some(one(offered(&[&Log::honest(dice, loom, 3)])));
    };
    Some(match act {
        Act::ForgeMember
        | Act::ForgeByAnothersAdmission
        | Act::ForgeBeyondRights
        | Act::ForgeEnds
        | Act::ForgeSuccessions
        | Act::ForgeRecords => forged(act, dice, of),
        Act::GroundIds => one(ground_ids(dice, of)),
        Act::GroundEpochs => one(ground_epochs(of)),
        Act::GroundFences => one(ground_fences(of)),
        Act::WithholdAdmission | Act::WithholdEntries | Act::WithholdAll => one(withheld(act, dice, of)),
        Act::ReplayAnothersLoom | Act::ReplayOldHeads => one(replayed(act, dice, of)),
        Act::ExpelledGoesOn => one(expelled(dice, of)),
        Act::ExpelledBackdates | Act::ExpelledUnderAnother => another_past(act, dice, of),
        Act::Equivocate => {
            let [here, there] = histories(dice, of);
            one([offered(&[&here]), vec![Step::Wait(400)], offered(&[&there])].concat())
        }
        _ => {
            // One history for each node: which, says to whom it goes.
            let sides = histories(dice, of);
            one(offered(&[&sides[known.target % 2]]))
        }
    })
}

const FIRST: Act = Act::ForgeMember;
const LAST: Act = Act::EquivocateToTwo;

impl Act {
    /// Whether it needs a loom in which the hostile peer is a member.
    pub(crate) fn is_of_a_member(self) -> bool {
        (FIRST..=LAST).contains(&self)
    }

    /// Whether it is done by who was expelled.
    pub(crate) const fn is_of_an_expelled(self) -> bool {
        matches!(self, Self::ExpelledGoesOn | Self::ExpelledBackdates | Self::ExpelledUnderAnother)
    }
}

fn forged(act: Act, dice: &mut Dice, of: &Membership) -> Vec<Call> {
    match act {
        Act::ForgeMember => {
            let mut said = Vec::new();
            for relies in [None, Some(of.relies()), Some(of.of_another)] {
                let mut pen = Pen::new(of, act, &dice.key()).relying(relies);
                pen.everything(dice);
                said.extend(pen.offered());
            }
            one(said)
        }
        Act::ForgeByAnothersAdmission => {
            let mut pen = Pen::new(of, act, &of.keys[0]).relying(Some(of.of_another));
            pen.everything(dice);
            pen.relies = Some(EntryId::of(b"an admission that nobody has"));
            pen.everything(dice);
            pen.relies = pen.log.ids.last().copied();
            pen.everything(dice);
            pen.relies = None;
            pen.everything(dice);
            one(pen.offered())
        }
        Act::ForgeBeyondRights => {
            let mut pen = Pen::new(of, act, &of.keys[0]);
            pen.everything(dice);
            one(pen.offered())
        }
        Act::ForgeEnds => {
            let mut pen = Pen::new(of, act, &of.keys[0]);
            let Some((follows, last)) = of.last() else { return Vec::new() };
            let own = writer(&of.keys[0]);
            let beyond = LogEnd { sequence: last.sequence + 99, ..last };
            let nowhere = LogEnd { chain: dice.bytes(), ..last };
            let of_a_cast = LogEnd { cast: Some(of.entity), ..last };
            let anothers = LogEnd { writer: own, ..last };
            for end in [Some(beyond), Some(nowhere), Some(of_a_cast), Some(anothers), None] {
                pen.adopts(1, end, follows);
                pen.adopts(FENCE_STEP_MAX, end, EntryId::of(b"nothing"));
            }
            one(pen.offered())
        }
        Act::ForgeSuccessions => one(successions(dice, of)),
        _ => one(records(dice, of)),
    }
}

fn attests(of: &Membership, attestation: v1::copy_attestation::Attestation) -> Step {
    say(Said::Attestation(v1::CopyAttestation { loom: of.loom.to_string(), attestation: Some(attestation) }))
}

/// Keys that say that they take the place of the founder's, of another member's and of its own.
fn successions(dice: &mut Dice, of: &Membership) -> Vec<Step> {
    use v1::copy_attestation::Attestation::Succession as Told;
    let mut said = vec![say(Said::Have(have(of.loom, Vec::new())))];
    let mut heirs = Vec::new();
    for old in [of.store_writer(), writer(&of.keys[0])] {
        let key = dice.key();
        let statement = Succession::statement(&old, &writer(&key));
        let by_new = key.sign(&statement).to_bytes();
        let forged = Succession { old, new: writer(&key), by_old: by_new, by_new };
        said.push(attests(of, Told(forged.to_bytes().into())));
        heirs.push(key);
    }
    // The last is its own, and true.
    let heir = dice.key();
    let [own, new] = [&of.keys[0], &heir].map(|key| NodeKey::from_secret(&key.to_bytes()));
    said.push(attests(of, Told(own.succeed(&new).to_bytes().into())));
    heirs.push(heir);
    for heir in heirs {
        let mut pen = Pen::new(of, Act::ForgeSuccessions, &heir);
        pen.everything(dice);
        said.extend(pen.offered());
    }
    said
}

/// A key that an authority of its own has certified under the names of others.
fn records(dice: &mut Dice, of: &Membership) -> Vec<Step> {
    use v1::copy_attestation::Attestation::Member as Told;
    let mut said = vec![say(Said::Have(have(of.loom, Vec::new())))];
    let (authority, authority_key) = make_authority().unwrap();
    for name in ["a", "c"] {
        let (certificate, node_key) = make_certificate(&authority_key, &name.parse().unwrap()).unwrap();
        let identity = Identity::from_pem(&authority, &certificate, &node_key).unwrap();
        let key = dice.key();
        let (chain, by_certificate) = identity.attest(writer(&key)).unwrap();
        let record = NodeKey::from_secret(&key.to_bytes()).vouch(chain, by_certificate);
        said.push(attests(of, Told(record.to_bytes().into())));
        let mut pen = Pen::new(of, Act::ForgeRecords, &key).relying(Some(of.of_another));
        pen.everything(dice);
        said.extend(pen.offered());
    }
    said
}

/// Ids that sort before all others, and ids that are taken.
fn ground_ids(dice: &mut Dice, of: &Membership) -> Vec<Step> {
    use cantrip_runtime::ports::LoomStore as _;
    let mut pen = Pen::new(of, Act::GroundIds, &of.keys[0]);
    let own = writer(&of.keys[0]);
    for unix_ms in [0, 1, (1 << 48) - 1] {
        let (entity, _) = pen.opens(dice, own, unix_ms);
        // The same once more: only the first begins it.
        let minted = Minted { by: own, nonce: Nonce::from_bytes(dice.bytes()) };
        let again = EntityId::mint(unix_ms, &minted.by, &minted.nonce);
        pen.say(Some(again), None, opening(minted));
        pen.say(Some(again), None, opening(minted));
        pen.say(Some(entity), None, adoption(1, None));
    }
    // An entity of the founder's, as the founder has minted it.
    let first = of.store.entries_of(of.entity).unwrap_or_default().into_iter().next();
    if let Some(Body::Opened(opened)) = first.map(|sealed| sealed.entry.body)
        && let Some(minted) = opened.minted
    {
        pen.say(Some(of.entity), None, opening(minted));
        let scope = Scope { entity: of.entity, minted, opener: own, bytes_max: u64::MAX };
        pen.admits(Principal::Key(own), std::iter::once(Right::Write).collect(), Some(scope), Vec::new());
    }
    // Judgements of one entry, of which the first by id would hold.
    if let Some((last, _)) = of.last() {
        for value in [f64::MIN, 0.0, f64::MAX] {
            pen.say(Some(of.entity), Some(last), Body::rewarded(value, String::new()));
        }
    }
    pen.offered()
}

/// Epochs at their bounds.
fn ground_epochs(of: &Membership) -> Vec<Step> {
    let mut pen = Pen::new(of, Act::GroundEpochs, &of.keys[0]);
    let Some((follows, last)) = of.last() else { return Vec::new() };
    for epoch in [0, EPOCH_STEP_MAX + 1, u64::MAX, u64::MAX - 1, FENCE_STEP_MAX, FENCE_STEP_MAX + 1, EPOCH_STEP_MAX] {
        pen.adopts(epoch, Some(last), follows);
    }
    pen.offered()
}

/// Fences at the bounds of what counts, of which no adoption follows.
fn ground_fences(of: &Membership) -> Vec<Step> {
    let mut said = vec![say(Said::Have(have(of.loom, Vec::new())))];
    let key = NodeKey::from_secret(&of.keys[0].to_bytes());
    for epoch in [1, FENCE_STEP_MAX, FENCE_STEP_MAX + 1, 2 * FENCE_STEP_MAX, u64::MAX, 0] {
        said.push(say(Said::Fencing(fencing(&key.sign_fence(of.loom, of.entity, epoch)))));
    }
    said
}

fn withheld(act: Act, dice: &mut Dice, of: &Membership) -> Vec<Step> {
    let mut pen = Pen::new(of, act, &of.keys[0]);
    match act {
        Act::WithholdAdmission => {
            // What the friend writes comes first, and its admission after it.
            let friend = Principal::Key(writer(&of.keys[1]));
            let admission = pen.admits(friend, of.rights.clone(), None, Vec::new());
            let mut friends = Pen::new(of, act, &of.keys[1]).relying(Some(admission));
            friends.everything(dice);
            let friends = friends.offered();
            [friends.clone(), vec![Step::Wait(800)], pen.offered(), vec![Step::Wait(800)], friends].concat()
        }
        Act::WithholdEntries => {
            pen.everything(dice);
            let (log, half) = (pen.log.clone(), pen.log.entries.len() / 2);
            let mut said = vec![say(Said::Have(have(of.loom, vec![log.state()])))];
            said.push(say(Said::Segment(log.segment(half, log.entries.len()))));
            said.push(Step::Wait(500));
            said.push(say(Said::Segment(log.segment(0, half))));
            // Of the rest there is only a head; the next act sends it.
            of.keep(&log);
            said
        }
        _ => {
            pen.everything(dice);
            // All that is ever heard of it is how long it is.
            let mut said = vec![say(Said::Have(have(of.loom, vec![pen.log.state()])))];
            let own = bytes(of.store_writer().as_bytes());
            let (kind, chain) = ("disk".to_owned(), bytes(&[7; 32]));
            let held = v1::CopyHeld { loom: of.loom.to_string(), writer: own, sequence: 1, kind, chain };
            said.push(say(Said::Held(held)));
            said
        }
    }
}

fn replayed(act: Act, dice: &mut Dice, of: &Membership) -> Vec<Step> {
    let mut said = vec![say(Said::Have(have(of.loom, Vec::new())))];
    if act == Act::ReplayOldHeads {
        // The founder's log as it was long ago, as if there were no more of it.
        let Some((now, entries)) = of.founders() else { return said };
        for head in [&of.old, &now] {
            said.push(say(Said::Have(have(of.loom, vec![log_head(head)]))));
        }
        let to = usize::try_from(of.old.head.sequence).unwrap();
        let cut = segment(&of.old, entries[..to].to_vec());
        // Half of it, under the word for all of it.
        let mut less = cut.clone();
        less.entries.pop();
        let whole = segment(&now, entries);
        said.extend([cut, less, whole].map(|segment| say(Said::Segment(segment))));
        return said;
    }
    // What it has written in a loom of its own, and what the founder has in this one, each as if it were of the other.
    let mut elsewhere = Log::new(of.keys[0].clone(), dice.loom());
    let principal = Principal::Key(writer(&of.keys[0]));
    let rights = Right::ALL.into_iter().collect();
    let admitted = Admitted { principal, rights, scope: None, again: Vec::new(), by: None, note: None };
    elsewhere.push_by(None, (None, None), Body::Admitted(Box::new(admitted)));
    let mut moved = elsewhere.whole();
    moved.loom = of.loom.to_string();
    said.push(say(Said::Segment(moved)));
    if let Some((now, entries)) = of.founders() {
        let mut moved = segment(&now, entries);
        moved.loom = elsewhere.loom.to_string();
        said.push(say(Said::Have(have(elsewhere.loom, Vec::new()))));
        said.push(say(Said::Segment(moved.clone())));
        // And as its own.
        moved.loom = of.loom.to_string();
        moved.writer = bytes(writer(&of.keys[0]).as_bytes());
        said.push(say(Said::Segment(moved)));
    }
    said
}

fn segment(signed: &SignedHead, entries: Vec<Vec<u8>>) -> v1::Segment {
    v1::Segment {
        loom: signed.loom.to_string(),
        writer: bytes(signed.writer.as_bytes()),
        from_sequence: 0,
        from_chain: bytes(&[0; 32]),
        entries: entries.into_iter().map(Bytes::from).collect(),
        sequence: signed.head.sequence,
        chain: bytes(&signed.head.chain),
        signature: bytes(&signed.signature),
    }
}

/// Goes on as if nothing had been, and makes itself a member again.
fn expelled(dice: &mut Dice, of: &Membership) -> Vec<Step> {
    let mut pen = Pen::new(of, Act::ExpelledGoesOn, &of.keys[0]);
    pen.everything(dice);
    let own = Principal::Key(writer(&of.keys[0]));
    let by = of.expelled.get().copied().flatten();
    let again = pen.admits(own, of.rights.clone(), None, by.into_iter().collect());
    pen.relies = Some(again);
    pen.everything(dice);
    pen.offered()
}

/// Who was expelled changes what it had written before, or comes under another key.
fn another_past(act: Act, dice: &mut Dice, of: &Membership) -> Vec<Call> {
    let log = of.log(&of.keys[0]);
    if act == Act::ExpelledBackdates {
        let mut past = Pen { log: log.cut(log.entries.len() / 2), ..Pen::new(of, act, &of.keys[0]) };
        past.everything(dice);
        return one(offered(&[&past.log]));
    }
    let heir = dice.key();
    let [own, new] = [&of.keys[0], &heir].map(|key| NodeKey::from_secret(&key.to_bytes()));
    let told = v1::copy_attestation::Attestation::Succession(own.succeed(&new).to_bytes().into());
    let mut said = vec![say(Said::Have(have(of.loom, Vec::new()))), attests(of, told)];
    let mut pen = Pen::new(of, act, &heir);
    pen.everything(dice);
    said.extend(pen.offered());
    vec![conversation(said)]
}

/// Two ways on from what it has written, the same for whoever asks within one run.
fn histories(dice: &mut Dice, of: &Membership) -> [Log; 2] {
    let base = of.log(&of.keys[0]);
    [0_u64, 1].map(|side| {
        let mut pen = Pen { log: base.clone(), ..Pen::new(of, Act::Equivocate, &of.keys[0]) };
        let mut ways = Dice::new(side);
        pen.opens(&mut ways, writer(&of.keys[0]), 1_790_000_000_000);
        pen.everything(&mut ways);
        for _ in 0..dice.below(4) {
            pen.opens(&mut ways, writer(&of.keys[0]), 1_790_000_000_001);
        }
        pen.log
    })
}
