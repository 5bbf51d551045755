//! What hosts wrote of casts, on its way between the keepers of a loom. What one writer signed of one cast is a unit of its own, as a log
//! is: it is shown, sent behind what is there, taken as far as its writer's cast head covers it, and acknowledged.
//!
//! A keeper takes what comes of a cast from whoever was admitted for it, within the bytes of that admission, and from members of the
//! whole loom. What nobody has admitted yet is answered `later`. While this node itself hears of casts from their hosts in a loom, it
//! takes none there from others: of two that say the same at once one would be recorded twice.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Copies;
use super::cost::cost;
use super::session::Session;
use crate::domain::copies::{CastAnswer, CastStep, CopyKind, CopyMessage};
use crate::domain::ids::{EntityId, LoomId, WriterKey};
use crate::domain::limits::{
    CASTS_SHOWN_MAX, ENTRY_BYTES_MAX, NEAR_UNCOVERED_BYTES_MAX, NEAR_UNCOVERED_ENTRIES_MAX, RECEIVED_BYTES_MAX,
};
use crate::domain::loom::{Body, CastHead, CastStream, EquivocationProof, Sealed};
use crate::domain::members::Reader;
use crate::driver::divided;
use crate::driver::fault::chain;
use crate::ports::{By, CopyStore, StoreError};

/// So many steps are looked at at once: each is one row of some hundred bytes.
const STEPS_LOOKED_AT: usize = 64;

/// What one writer wrote of one cast.
type Unit = (WriterKey, EntityId);

/// What is here of the casts of a loom, as it goes on.
#[derive(Debug, Default)]
pub(super) struct CastsHere {
    /// Nothing: it is to be read from the record.
    stream: Option<CastStream>,
    kept_bytes: HashMap<Unit, u64>,
}

/// For what casts whom a loom has admitted, and for how many bytes.
pub(super) type Hosts = HashMap<Unit, u64>;

/// What one conversation knows of casts.
#[derive(Debug, Default)]
pub(super) struct Casting {
    /// How far each is on the other side: shown, sent, or come from there.
    there: HashMap<LoomId, HashMap<Unit, u64>>,
    /// Those that the other side does not take, until it shows anew what it has.
    put_off: HashMap<LoomId, HashSet<Unit>>,
    /// How far what is here was gone through, on disk and in memory.
    followed: HashMap<LoomId, [u64; 2]>,
    unanswered: VecDeque<(LoomId, BTreeSet<Unit>, usize)>,
    /// Those of which something came that does not hold: nothing more of them is taken from the other side.
    broken: HashSet<(LoomId, Unit)>,
    /// What was taken and is not acknowledged yet.
    pub(super) taken: Vec<CastHead>,
}

impl Casting {
    /// Whether the other side has anything of a writer's casts.
    pub(super) fn has_of(&self, loom: LoomId, writer: WriterKey) -> bool {
        self.there.get(&loom).is_some_and(|there| there.keys().any(|(of, _)| *of == writer))
    }

    fn is_put_off(&self, loom: LoomId, unit: Unit) -> bool {
        self.put_off.get(&loom).is_some_and(|units| units.contains(&unit))
    }

    fn note(&mut self, loom: LoomId, unit: Unit, place: u64) {
        let there = self.there.entry(loom).or_default().entry(unit).or_default();
        *there = place.max(*there);
    }
}

/// What became of what a head covers.
enum CastTaken {
    Done,
    /// Not as long as this node hears of the casts of the loom from their hosts.
    Later,
    Refused(String),
}

/// Held while this node hears of a cast from its host.
#[derive(Debug)]
pub(in crate::driver) struct Hearing(Arc<Copies>, LoomId);

impl Drop for Hearing {
    fn drop(&mut self) {
        self.0.casts_of(self.1, |casts| *casts = CastsHere::default());
        let mut state = self.0.lock();
        if let Some(count) = state.hearing.get_mut(&self.1) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                state.hearing.remove(&self.1);
            }
        }
        drop(state);
        // What was put off is asked for again.
        self.0.members_changed(self.1);
    }
}

fn unit(head: &CastHead) -> Unit {
    (head.writer, head.cast)
}

impl Copies {
    /// This node hears of a cast in a loom from its host: until that is over nothing of the loom's casts is taken from others.
    pub(in crate::driver) fn hears(self: &Arc<Self>, loom: LoomId) -> Hearing {
        let mut state = self.lock();
        let count = state.hearing.entry(loom).or_default();
        *count = count.saturating_add(1);
        drop(state);
        Hearing(Arc::clone(self), loom)
    }

    fn casts_of<T>(&self, loom: LoomId, work: impl FnOnce(&mut CastsHere) -> T) -> T {
        let casts = Arc::clone(self.lock().casts.entry(loom).or_default());
        let mut casts: MutexGuard<'_, CastsHere> = casts.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut casts)
    }

    /// Whom the loom has admitted for which casts, as far as that is known here.
    fn hosts(&self, loom: LoomId) -> Result<Arc<Hosts>, StoreError> {
        let at = {
            let state = self.lock();
            if let Some(known) = state.hosts.get(&loom) {
                return Ok(Arc::clone(known));
            }
            state.members_at.get(&loom).copied()
        };
        let mut hosts = Hosts::new();
        {
            let batch = self.batch(loom)?;
            for scope in Reader::of(&batch).members().into_iter().filter_map(|member| member.scope) {
                let bytes = hosts.entry((scope.opener, scope.entity)).or_default();
                *bytes = scope.bytes_max.max(*bytes);
            }
        }
        let hosts = Arc::new(hosts);
        let mut state = self.lock();
        if state.members_at.get(&loom).copied() == at {
            state.hosts.insert(loom, Arc::clone(&hosts));
        }
        Ok(hosts)
    }

    /// Takes what one head covers behind what is here.
    fn take_cast(
        &self,
        store: &Arc<dyn CopyStore>,
        head: &CastHead,
        entries: &[Sealed],
        bytes_max: u64,
    ) -> Result<CastTaken, StoreError> {
        let (loom, own) = (head.loom, self.disk.writer());
        self.casts_of(loom, |casts| {
            if self.lock().hearing.contains_key(&loom) {
                return Ok(CastTaken::Later);
            }
            let mut stream = if let Some(stream) = casts.stream.take() {
                stream
            } else {
                let (stream, kept) = restored(&**store, loom, own)?;
                casts.kept_bytes = kept;
                stream
            };
            let batch = match stream.go_on(entries, head) {
                Ok(Some(batch)) => batch,
                Ok(None) => {
                    casts.stream = Some(stream);
                    return Ok(CastTaken::Done);
                }
                // What was followed and is not taken is read from the record again.
                Err(error) => return Ok(CastTaken::Refused(error.to_string())),
            };
            let kept = casts.kept_bytes.entry(unit(head)).or_default();
            let bytes = batch.entries().iter().fold(*kept, |sum, it| sum.saturating_add(it.recorded_bytes()));
            if bytes > bytes_max {
                let what = format!("{bytes} bytes of the cast came, and its writer was admitted for {bytes_max}");
                return Ok(CastTaken::Refused(what));
            }
            *kept = bytes;
            match store.receive(batch) {
                Ok(()) => {
                    casts.stream = Some(stream);
                    Ok(CastTaken::Done)
                }
                Err(
                    error @ (StoreError::Blob { .. }
                    | StoreError::Entry { .. }
                    | StoreError::Foreign { .. }
                    | StoreError::Cheater { .. }
                    | StoreError::Behind),
                ) => Ok(CastTaken::Refused(chain(&error))),
                Err(error) => Err(error),
            }
        })
    }
}

/// Proves that what came of a cast and what is here are two histories, if its writer has signed both.
fn contradiction(
    store: &Arc<dyn CopyStore>,
    head: &CastHead,
    came: &[Sealed],
) -> Result<Option<EquivocationProof>, StoreError> {
    let kept = divided::kept(&**store, (head.loom, head.writer, head.cast))?;
    let came = came.iter().map(|sealed| (sealed.entry.sequence, sealed.id)).collect();
    Ok(kept.divides_from(&kept.until(came, *head)))
}

/// What is durable of the casts of a loom.
fn restored(
    store: &dyn CopyStore,
    loom: LoomId,
    own: WriterKey,
) -> Result<(CastStream, HashMap<Unit, u64>), StoreError> {
    let (mut stream, mut kept) = (CastStream::of_all(loom, own), HashMap::new());
    store.steps_received(loom, &mut |entries, heads| {
        for head in &heads {
            let own = entries.iter().filter(|sealed| sealed.entry.writer == head.writer);
            let bytes = own.fold(0_u64, |sum, sealed| sum.saturating_add(sealed.recorded_bytes()));
            let held: &mut u64 = kept.entry(unit(head)).or_default();
            *held = held.saturating_add(bytes);
        }
        stream.restore(&entries, &heads);
        Ok(())
    })?;
    Ok((stream, kept))
}

impl Session {
    /// How far each writer has signed each cast here: no more than the other side hears.
    pub(super) fn casts_here(&self, loom: LoomId) -> Result<Vec<CastHead>, StoreError> {
        let mut heads = self.copies.cast_heads(loom)?;
        heads.truncate(CASTS_SHOWN_MAX);
        Ok(heads)
    }

    /// The other side shows how far each cast is there.
    pub(super) fn shows_casts(&mut self, loom: LoomId, shown: &[CastHead]) {
        let there = shown.iter().filter(|head| head.loom == loom).map(|head| (unit(head), head.at.place));
        self.casting.there.insert(loom, there.collect());
        self.casting.put_off.remove(&loom);
        self.casting.followed.remove(&loom);
        self.casts_answered(loom, None);
    }

    fn casts_answered(&mut self, loom: LoomId, by: Option<Unit>) {
        let freed = &mut self.unanswered_bytes;
        self.casting.unanswered.retain_mut(|(of, units, bytes)| {
            if *of == loom {
                match by {
                    Some(unit) => drop(units.remove(&unit)),
                    None => units.clear(),
                }
            }
            if units.is_empty() {
                *freed = freed.saturating_sub(*bytes);
            }
            !units.is_empty()
        });
    }

    /// Whether the other side lacks what a head covers: it has neither that nor its writer's log.
    fn lacks(&self, head: &CastHead) -> bool {
        let (loom, unit) = (head.loom, unit(head));
        let there = self.casting.there.get(&loom).and_then(|there| there.get(&unit)).copied().unwrap_or_default();
        there < head.at.place && !self.casting.is_put_off(loom, unit) && !self.has_logged(loom, head)
    }

    /// The next step of the casts of a loom that the other side lacks.
    pub(super) fn next_cast(&mut self, loom: LoomId) -> Result<Option<CastStep>, StoreError> {
        let (keeper, disk) = (Arc::clone(self.copies.keeper(loom).0), Arc::clone(&self.copies.disk));
        let is_one = Arc::ptr_eq(&keeper, &disk);
        for (at, store) in [Some(disk), Some(keeper).filter(|_| !is_one)].into_iter().flatten().enumerate() {
            loop {
                let followed = self.casting.followed.entry(loom).or_default();
                let Some(after) = followed.get(at).copied() else { break };
                let steps = store.covered(loom, after, STEPS_LOOKED_AT)?;
                if steps.is_empty() {
                    break;
                }
                let mut before = after;
                for (to, mut heads) in steps {
                    heads.retain(|head| self.lacks(head));
                    if let Some(followed) = self.casting.followed.entry(loom).or_default().get_mut(at) {
                        *followed = to;
                    }
                    if !heads.is_empty() {
                        let many = usize::try_from(to.saturating_sub(before)).unwrap_or(usize::MAX);
                        let entries = store.recorded(loom, By::Others, before, many)?;
                        let is_its = |writer| heads.iter().any(|head| head.writer == writer);
                        let entries = entries.into_iter().filter(|(_, sealed)| is_its(sealed.entry.writer));
                        let entries = entries.map(|(_, sealed)| sealed.bytes).collect();
                        return Ok(Some(CastStep { loom, entries, heads }));
                    }
                    before = to;
                }
            }
        }
        Ok(None)
    }

    /// Notes what is on its way, with so many bytes.
    pub(super) fn sends_cast(&mut self, step: &CastStep, bytes: usize) {
        for head in &step.heads {
            self.casting.note(step.loom, unit(head), head.at.place);
        }
        let units = step.heads.iter().map(unit).collect();
        self.casting.unanswered.push_back((step.loom, units, bytes));
    }

    /// The other side says what became of what it was sent of a cast.
    pub(super) fn cast_answered(&mut self, loom: LoomId, unit: Unit, answer: CastAnswer) {
        if !self.looms.contains_key(&loom) {
            return;
        }
        self.casts_answered(loom, Some(unit));
        match answer {
            CastAnswer::Held { .. } => {}
            CastAnswer::Later => drop(self.casting.put_off.entry(loom).or_default().insert(unit)),
            CastAnswer::Refused { what } => {
                self.casting.put_off.entry(loom).or_default().insert(unit);
                let detail = format!("loom {loom}, cast of {}: {what}", unit.1);
                self.copies.refusals.note(&self.peer, "a peer did not take what was sent of a cast", &detail);
                self.copies.note(loom, &self.peer, |state| state.last_error = Some(what));
            }
        }
    }

    fn answer_cast(&mut self, head: &CastHead, answer: CastAnswer) {
        if let CastAnswer::Refused { what } = &answer {
            let detail = format!("loom {}, cast of {}: {what}", head.loom, head.cast);
            self.copies.refusals.note(&self.peer, "what a peer sent of a cast was refused", &detail);
        }
        self.push(CopyMessage::CastAnswered { loom: head.loom, writer: head.writer, cast: head.cast, answer });
    }

    fn refuse_casts(&mut self, heads: &[CastHead], what: &str) {
        for head in heads {
            self.answer_cast(head, CastAnswer::Refused { what: what.to_owned() });
        }
    }

    /// Takes what came of casts, each head for itself.
    pub(super) async fn take_casts(&mut self, step: CastStep) -> Result<(), StoreError> {
        let CastStep { loom, entries, heads } = step;
        let node = self.copies.node();
        if !self.heard.contains(&loom) {
            let what = format!("{node} keeps no copies of this loom for {}", self.peer);
            self.refuse_casts(&heads, &what);
            return Ok(());
        }
        let bytes = entries.iter().fold(0_usize, |sum, entry| sum.saturating_add(entry.len()));
        if entries.len() > NEAR_UNCOVERED_ENTRIES_MAX || bytes > NEAR_UNCOVERED_BYTES_MAX + ENTRY_BYTES_MAX {
            let what = format!(
                "{} entries with {bytes} bytes came at once, and at most {NEAR_UNCOVERED_ENTRIES_MAX} with \
                 {NEAR_UNCOVERED_BYTES_MAX} may",
                entries.len()
            );
            self.refuse_casts(&heads, &what);
            return Ok(());
        }
        if !self.copies.brings(&self.peer, cost(bytes, entries.len())) {
            let what = format!("{} has brought as many bytes as it may (keep_max_bytes)", self.peer);
            self.refuse_casts(&heads, &what);
            return Ok(());
        }
        if !self.has_room(bytes).await? {
            self.refuse_casts(&heads, "the disk is behind; what is refused now is taken on the next connection");
            return Ok(());
        }
        let read = entries.into_iter().map(|bytes| {
            let sealed = Sealed::read(bytes).map_err(|error| chain(&error))?;
            sealed.entry.check_minted().map_err(|error| error.to_string())?;
            let is_of_loom = sealed.entry.loom == loom;
            is_of_loom.then_some(sealed).ok_or_else(|| format!("an entry of it is of another loom than {loom}"))
        });
        match read.collect::<Result<Vec<Sealed>, String>>() {
            Ok(entries) => self.take_heads(loom, &entries, heads).await,
            Err(what) => {
                self.refuse_casts(&heads, &what);
                Ok(())
            }
        }
    }

    async fn take_heads(&mut self, loom: LoomId, entries: &[Sealed], heads: Vec<CastHead>) -> Result<(), StoreError> {
        let store = Arc::clone(self.copies.keeper(loom).0);
        if self.copies.casts_of(loom, |casts| casts.stream.is_none()) {
            // It is read again from what is durable.
            store.sync(loom).await?;
        }
        let as_of = self.copies.members_at(loom);
        let mut own = self.copies.disk.formerly()?;
        own.push(self.copies.disk.writer());
        // A host admits the hosts of what it has cast itself in the same step.
        let mut heads: VecDeque<CastHead> = heads.into();
        let mut waits = heads.len();
        let mut along: BTreeMap<Unit, u64> = BTreeMap::new();
        while let Some(head) = heads.pop_front() {
            if own.contains(&head.writer) {
                // What this node itself wrote is in its log.
                self.answer_cast(&head, CastAnswer::Held { at: head.at, kind: self.copies.keeper(loom).1 });
                continue;
            }
            if self.casting.broken.contains(&(loom, unit(&head))) {
                let what = "what came of it before was not as it was signed".to_owned();
                self.answer_cast(&head, CastAnswer::Refused { what });
                continue;
            }
            let Some(bytes_max) = self.bytes_of(&head, &along)? else {
                if waits > 0 {
                    waits = waits.saturating_sub(1);
                    heads.push_back(head);
                    continue;
                }
                self.later.puts_off(loom, as_of);
                self.answer_cast(&head, CastAnswer::Later);
                continue;
            };
            waits = heads.len();
            let of_writer: Vec<Sealed> =
                entries.iter().filter(|sealed| sealed.entry.writer == head.writer).cloned().collect();
            match self.copies.take_cast(&store, &head, &of_writer, bytes_max)? {
                CastTaken::Done => {
                    along.extend(of_writer.iter().filter_map(admitted_by));
                    self.casting.note(loom, unit(&head), head.at.place);
                    self.later.may_change(loom, &of_writer);
                    self.casting.taken.push(head);
                }
                CastTaken::Later => {
                    self.later.puts_off(loom, as_of);
                    self.answer_cast(&head, CastAnswer::Later);
                }
                CastTaken::Refused(what) => {
                    self.casting.broken.insert((loom, unit(&head)));
                    self.answer_cast(&head, CastAnswer::Refused { what });
                    if let Some(proof) = contradiction(&store, &head, &of_writer)? {
                        self.report(proof).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// For how many bytes a writer was admitted for a cast; nothing: nobody has admitted it so far.
    fn bytes_of(&self, head: &CastHead, along: &BTreeMap<Unit, u64>) -> Result<Option<u64>, StoreError> {
        let unit = unit(head);
        if let Some(bytes) = self.copies.hosts(head.loom)?.get(&unit).or_else(|| along.get(&unit)) {
            return Ok(Some(*bytes));
        }
        let waiting = self.attesting.waiting_in(head.loom);
        let is_member = self.copies.is_member(head.loom, head.writer, &waiting)?;
        Ok(is_member.then_some(RECEIVED_BYTES_MAX))
    }

    /// Makes what was taken of casts durable, where it is kept so, and acknowledges it.
    pub(super) async fn flush_casts(&mut self) -> Result<(), StoreError> {
        let taken = std::mem::take(&mut self.casting.taken);
        let looms: BTreeSet<LoomId> = taken.iter().map(|head| head.loom).collect();
        for loom in looms {
            let (store, kind) = self.copies.keeper(loom);
            let (store, kind): (Arc<dyn CopyStore>, CopyKind) = (Arc::clone(store), kind);
            store.sync(loom).await?;
            for head in taken.iter().filter(|head| head.loom == loom) {
                self.answer_cast(head, CastAnswer::Held { at: head.at, kind });
                if !self.copies.is_logged(head)? {
                    continue;
                }
                self.compare_cast(head).await?;
            }
            self.members_kept(loom);
            self.copies.grown(loom);
        }
        Ok(())
    }
}

impl Copies {
    /// Whether the log of a cast head's writer is here as far as the head goes.
    fn is_logged(&self, head: &CastHead) -> Result<bool, StoreError> {
        let log = self.store_of(head.loom, head.writer);
        Ok(log.chain_at(head.loom, head.writer, head.at.place)?.is_some())
    }
}

/// Whom an entry admits for which cast.
fn admitted_by(sealed: &Sealed) -> Option<(Unit, u64)> {
    let Body::Admitted(admitted) = &sealed.entry.body else { return None };
    admitted.scope.as_ref().map(|scope| ((scope.opener, scope.entity), scope.bytes_max))
}

/// The casts of every loom.
pub(super) type AllCasts = HashMap<LoomId, Arc<Mutex<CastsHere>>>;
