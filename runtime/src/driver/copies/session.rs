//! One conversation with another keeper: what is sent, what is taken, and what is refused.
//!
//! Both sides speak alike. Each says what it has of every loom that they keep together; each sends what the other lacks; whoever
//! takes something says so once it is kept as it should be. Every answer follows from what is in the stores, so a conversation
//! that breaks is begun again from nothing.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::accuse::Accusing;
use super::attest::Attesting;
use super::casts::Casting;
use super::cost::{cost, size, weight};
use super::fences::Fencing;
use super::fencing::Told;
use super::held::Shown;
use super::writers::Later;
use super::{Admitted, Brought, Copies};
use crate::domain::copies::{CopyKind, CopyMessage, Keeper, Keepers, LoomCopies};
use crate::domain::ids::{BlobId, LoomId, WriterKey};
use crate::domain::limits::{
    COPY_ANSWER_BYTES_MAX, COPY_ANSWERS_WAITING_MAX, ENTRY_BYTES_MAX, LOG_COST_BYTES, SEGMENT_BYTES, TAKEN_BYTES_MAX,
    WRITERS_MAX, WRITERS_PER_PEER_MAX,
};
use crate::domain::loom::{Head, Segment, SignedHead};
use crate::driver::fault::chain;
use crate::ports::{LogState, StoreError, Taken};

/// 50 ms, two hundred times: ten seconds in which a disk may catch up.
const ROOM_WAIT: Duration = Duration::from_millis(50);
const ROOM_TRIES: u32 = 200;

/// How far one log is on the other side.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct There {
    /// What was sent, or is known to be there.
    pub(super) sent: u64,
    /// It was refused: nothing more of it is sent.
    pub(super) refused: bool,
}

/// One conversation.
#[derive(Debug)]
pub struct Session {
    pub(super) copies: Arc<Copies>,
    pub(super) peer: Keeper,
    /// The looms that this side has named, and the logs there as far as they are known.
    pub(super) looms: HashMap<LoomId, HashMap<WriterKey, There>>,
    /// The looms that the other side has named: before that nothing is sent of them.
    pub(super) heard: HashSet<LoomId>,
    /// The looms of which there may be something to send.
    pub(super) dirty: HashSet<LoomId>,
    /// How far the news of this node were followed.
    seen: u64,
    /// What this side has said of who keeps them.
    told: HashMap<LoomId, Keepers>,
    /// What was taken and is not acknowledged yet, each log up to where it came.
    pub(super) taken: BTreeMap<(LoomId, WriterKey), Head>,
    pub(super) shown: Shown,
    pub(super) unanswered: VecDeque<(LoomId, WriterKey, u64, usize)>,
    pub(super) unanswered_bytes: usize,
    pub(super) texts_sent: HashSet<BlobId>,
    /// What is to be sent before anything else, and what it weighs.
    out: VecDeque<CopyMessage>,
    out_bytes: usize,
    /// The looms of which it says what is here.
    haves: HashSet<LoomId>,
    /// What was taken since the disk was waited for.
    taken_bytes: usize,
    pub(super) attesting: Attesting,
    pub(super) later: Later,
    pub(super) fencing: Fencing,
    pub(super) told_fences: Told,
    pub(super) accusing: Accusing,
    pub(super) casting: Casting,
}

impl Session {
    /// Begins a conversation with a peer, known by the name in its certificate.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub fn new(copies: Arc<Copies>, peer: Keeper) -> Result<Self, StoreError> {
        let mut session = Self {
            copies,
            peer,
            looms: HashMap::new(),
            heard: HashSet::new(),
            dirty: HashSet::new(),
            told: HashMap::new(),
            seen: 0,
            taken: BTreeMap::new(),
            shown: Shown::default(),
            unanswered: VecDeque::new(),
            unanswered_bytes: 0,
            texts_sent: HashSet::new(),
            out: VecDeque::new(),
            out_bytes: 0,
            haves: HashSet::new(),
            taken_bytes: 0,
            attesting: Attesting::default(),
            later: Later::default(),
            fencing: Fencing::default(),
            told_fences: Told::default(),
            accusing: Accusing::default(),
            casting: Casting::default(),
        };
        session.greet()?;
        session.copies.note_all(&session.peer, |state| {
            state.connected = true;
            (state.last_error, state.last_error_at_us) = (None, None);
        });
        Ok(session)
    }

    /// Says what is here of everything that is shared and has not been named yet.
    fn greet(&mut self) -> Result<(), StoreError> {
        for copies in self.copies.named_to(&self.peer) {
            if self.told.get(&copies.loom) != Some(&copies.keepers) {
                self.have(copies.loom)?;
            }
        }
        Ok(())
    }

    pub(super) fn have(&mut self, loom: LoomId) -> Result<(), StoreError> {
        let Some(copies) = self.copies.of(loom) else { return Ok(()) };
        // Who is no keeper any more is told just that.
        let is_keeper = copies.kind(&self.peer) != CopyKind::None;
        let mut logs = if is_keeper { self.copies.logs(loom)? } else { Vec::new() };
        // What is to come from its beginning is not said to be here.
        logs.retain(|log| !self.accusing.awaited.contains(&(loom, log.writer)));
        // No more than the other side hears; this node's own log among them.
        let own = self.copies.disk.writer();
        logs.sort_by_key(|log| log.writer != own);
        logs.truncate(WRITERS_MAX);
        self.looms.entry(loom).or_default();
        self.told.insert(loom, copies.keepers.clone());
        let LoomCopies { origin, keepers, .. } = copies;
        if self.haves.contains(&loom) {
            // What was to be said of it is said by this.
            self.out.retain(|message| !matches!(message, CopyMessage::Have { loom: of, .. } if *of == loom));
            self.out_bytes = self.out.iter().map(weight).fold(0, usize::saturating_add);
        }
        self.haves.insert(loom);
        let casts = if is_keeper { self.casts_here(loom)? } else { Vec::new() };
        self.push(CopyMessage::Have { loom, origin, keepers, logs, casts });
        Ok(())
    }

    pub(super) fn push(&mut self, message: CopyMessage) {
        self.out_bytes = self.out_bytes.saturating_add(weight(&message));
        self.out.push_back(message);
    }

    pub(super) fn pop(&mut self) -> Option<CopyMessage> {
        let message = self.out.pop_front()?;
        self.out_bytes = self.out_bytes.saturating_sub(weight(&message));
        if let CopyMessage::Have { loom, .. } = &message {
            self.haves.remove(loom);
        }
        Some(message)
    }

    /// Whether the other side says more than it hears.
    pub fn is_overrun(&self) -> bool {
        self.out.len() > COPY_ANSWERS_WAITING_MAX || self.out_bytes > COPY_ANSWER_BYTES_MAX
    }

    /// There may be more to send, other looms, or other keepers of them: each change counts as growth.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub fn refresh(&mut self) -> Result<(), StoreError> {
        let (grown, now) = self.copies.grown_since(self.seen);
        self.seen = now;
        for loom in grown {
            self.dirty.insert(loom);
            let named = self.copies.of(loom).filter(|copies| copies.keepers.contains_key(&self.peer));
            if named.is_some_and(|copies| self.told.get(&loom) != Some(&copies.keepers)) {
                self.have(loom)?;
            }
        }
        self.ask_again()
    }

    /// Hears a message. What was taken is acknowledged by [`Session::flush`].
    ///
    /// # Errors
    /// Ours: whatever the other side says wrong is answered.
    pub async fn hear(&mut self, message: CopyMessage) -> Result<(), StoreError> {
        match message {
            CopyMessage::Have { loom, origin, keepers, logs, casts } => {
                let heard = |name: Keeper| name.as_heard(&self.peer, self.copies.node());
                let (origin, keepers) = (heard(origin), merged(keepers, heard));
                self.meet(loom, &origin, &keepers, &logs)?;
                if self.heard.contains(&loom) {
                    self.shows_casts(loom, &casts);
                }
                Ok(())
            }
            CopyMessage::Text { loom, bytes } => {
                if !self.heard.contains(&loom) || !self.copies.brings(&self.peer, cost(bytes.len(), 1)) {
                    return Ok(());
                }
                self.copies.keeper(loom).0.keep_text(&bytes)
            }
            CopyMessage::Attestation { loom, attestation } => self.attested(loom, *attestation),
            CopyMessage::Segment(segment) => self.take(*segment).await,
            CopyMessage::Cast(step) => self.take_casts(*step).await,
            CopyMessage::CastAnswered { loom, writer, cast, answer } => {
                self.cast_answered(loom, (writer, cast), answer);
                Ok(())
            }
            CopyMessage::Held { loom, writer, head, kind } => self.held(loom, writer, head, kind),
            CopyMessage::Later { loom, writer } => {
                // It says again what it has once it knows more.
                self.answered(loom, Some(writer), u64::MAX);
                if let Some(there) = self.looms.get_mut(&loom).and_then(|logs| logs.get_mut(&writer)) {
                    there.refused = true;
                }
                Ok(())
            }
            CopyMessage::Divided { proof, entries } => self.accused(*proof, entries).await,
            CopyMessage::Fence { loom, entity, credentials } => self.fence_shown(loom, entity, *credentials).await,
            CopyMessage::Fencing { fence, credentials } => self.fencing_heard(*fence, *credentials).await,
            CopyMessage::Fenced { loom, entity, epoch, answer } => {
                self.fenced_heard((loom, entity), epoch, answer);
                Ok(())
            }
            CopyMessage::Refused { loom, writer, what } => {
                let Some(logs) = self.looms.get_mut(&loom) else { return Ok(()) };
                match writer {
                    Some(writer) => {
                        if let Some(there) = logs.get_mut(&writer) {
                            there.refused = true;
                        }
                        self.answered(loom, Some(writer), u64::MAX);
                    }
                    None => {
                        self.heard.remove(&loom);
                    }
                }
                let detail = format!("loom {loom}: {what}");
                self.copies.refusals.note(&self.peer, "a peer did not take what was sent", &detail);
                self.failed(loom, &what);
                Ok(())
            }
        }
    }

    fn admit(&self, loom: LoomId, origin: &Keeper, keepers: &Keepers, logs: usize) -> Result<Admitted, StoreError> {
        // An honest keeper never says so many.
        if logs > WRITERS_MAX { Ok(Admitted::No) } else { self.copies.admit(&self.peer, loom, origin, keepers) }
    }

    /// The other side has said what it has of a loom.
    fn meet(&mut self, loom: LoomId, origin: &Keeper, keepers: &Keepers, logs: &[LogState]) -> Result<(), StoreError> {
        let is_first = !self.looms.contains_key(&loom);
        let refused = match self.admit(loom, origin, keepers, logs.len())? {
            Admitted::Yes => None,
            Admitted::No => Some(format!("{} keeps no copies of this loom for {}", self.copies.node(), self.peer)),
            Admitted::TooMany { looms } => Some(format!(
                "{} keeps {looms} looms for {} already, and no more may be (keep_max_looms)",
                self.copies.node(),
                self.peer
            )),
        };
        if let Some(what) = refused {
            self.looms.remove(&loom);
            self.heard.remove(&loom);
            self.refuse(loom, None, what);
            return Ok(());
        }
        if self.copies.of(loom).is_none_or(|copies| copies.kind(self.copies.node()) == CopyKind::None) {
            self.looms.remove(&loom);
            self.heard.remove(&loom);
            return Ok(());
        }
        // Where it keeps what it says it has, it says itself.
        let kind = keepers.get(&self.peer).map_or(CopyKind::None, |keeping| keeping.kind);
        let there = self.shows(loom, kind, logs)?;
        if is_first {
            self.have(loom)?;
        }
        self.heard.insert(loom);
        self.dirty.insert(loom);
        self.attesting.forget(loom);
        // What was on its way when this was said is sent again, and known there.
        self.answered(loom, None, u64::MAX);
        self.looms.insert(loom, there);
        self.compare(loom, logs)?;
        self.copies.has_said(loom, &self.peer, logs)
    }

    /// Compares what both sides have of the same logs: of this node's own, and of others'.
    fn compare(&mut self, loom: LoomId, logs: &[LogState]) -> Result<(), StoreError> {
        let own = self.copies.disk.writer();
        for signed in logs.iter().filter_map(|log| log.signed) {
            if signed.loom != loom || !signed.is_signed() {
                continue;
            }
            let here = self.copies.store_of(loom, signed.writer);
            let chain = here.chain_at(loom, signed.writer, signed.head.sequence)?;
            if chain == Some(signed.head.chain) {
                continue;
            }
            if signed.writer == own {
                self.renew(loom, &signed)?;
                if chain.is_some() {
                    self.ask_from_the_beginning(loom, own)?;
                }
                continue;
            }
            self.ask_back(&signed)?;
            // Another history: from where on, its beginning says.
            let is_proved = self.copies.disk.accused(loom, signed.writer)?.is_some();
            if chain.is_some() && !is_proved {
                self.ask_from_the_beginning(loom, signed.writer)?;
            }
        }
        Ok(())
    }

    /// The other side has more of this node's own log than this node itself, or another: the record was restored from an old copy,
    /// and would get a second history if this node went on under its key.
    fn renew(&mut self, loom: LoomId, signed: &SignedHead) -> Result<(), StoreError> {
        let here = self.copies.disk.head(loom)?.sequence;
        let new = self.copies.disk.renew(signed.writer, &self.copies.shared())?;
        tracing::warn!(
            %loom, peer = %self.peer, old = %signed.writer, %new,
            "a peer has {} entries that this node has signed, and {here} are here: the record was restored from an old copy; this \
             node goes on under a new writer's key",
            signed.head.sequence
        );
        self.copies.grown(loom);
        self.have(loom)
    }

    /// Waits for the disk: after so much of one source, and where it is behind anyway. Returns whether it has caught up.
    pub(super) async fn has_room(&mut self, bytes: usize) -> Result<bool, StoreError> {
        self.taken_bytes = self.taken_bytes.saturating_add(bytes);
        if self.taken_bytes > TAKEN_BYTES_MAX {
            self.flush().await?;
            self.taken_bytes = bytes;
        }
        for _ in 0..ROOM_TRIES {
            if !self.copies.disk.is_behind() {
                return Ok(true);
            }
            self.copies.clock.sleep(ROOM_WAIT).await;
        }
        Ok(!self.copies.disk.is_behind())
    }

    async fn take(&mut self, segment: Segment) -> Result<(), StoreError> {
        let (loom, writer) = (segment.signed.loom, segment.signed.writer);
        if !self.heard.contains(&loom) {
            let node = self.copies.node();
            self.refuse(loom, None, format!("{node} keeps no copies of this loom for {}", self.peer));
            return Ok(());
        }
        let bytes = size(&segment);
        if bytes > SEGMENT_BYTES + ENTRY_BYTES_MAX {
            self.refuse(loom, Some(writer), format!("a segment of {bytes} bytes is too large"));
            return Ok(());
        }
        if !self.keeps(&segment)? {
            self.push(CopyMessage::Later { loom, writer });
            return Ok(());
        }
        let is_new = match self.copies.brings_writer(&self.peer, loom, writer)? {
            Brought::TooMany => {
                let what = format!(
                    "{} has brought the logs of {WRITERS_PER_PEER_MAX} writers into this loom, or it has {WRITERS_MAX} in all; no \
                     more are taken",
                    self.peer
                );
                self.refuse(loom, Some(writer), what);
                return Ok(());
            }
            Brought::New => true,
            Brought::Known => false,
        };
        let log_cost = if is_new { LOG_COST_BYTES } else { 0 };
        if !self.copies.brings(&self.peer, cost(bytes, segment.entries.len()).saturating_add(log_cost)) {
            let what = format!("{} has brought as many bytes as it may (keep_max_bytes)", self.peer);
            self.refuse(loom, Some(writer), what);
            return Ok(());
        }
        if !self.has_room(bytes).await? {
            let what = "the disk is behind; what is refused now is taken on the next connection".to_owned();
            self.refuse(loom, Some(writer), what);
            return Ok(());
        }
        let (signed, from) = (segment.signed, segment.from.sequence);
        let checked = match segment.check() {
            Ok(checked) => checked,
            Err(error) => {
                self.refuse(loom, Some(writer), chain(&error));
                return Ok(());
            }
        };
        self.may_change_members(&checked);
        let touches = self.touches(&checked);
        // Of an earlier key of this node both histories are kept.
        let own = if self.copies.is_former(writer)? { Some(checked.clone()) } else { None };
        let taken = self.copies.take(checked);
        if let Some(own) = own
            && self.has_other_history(&own, &taken).await?
        {
            return Ok(());
        }
        match taken {
            Ok(Taken::New(_) | Taken::Known) => {
                self.touched(loom, writer, touches);
                self.known(loom, writer, signed.head);
                self.accusing.grows(loom, writer, from);
                // Whoever sends it has it.
                self.copies.note(loom, &self.peer, |state| {
                    let has = state.has.entry(writer).or_default();
                    *has = signed.head.sequence.max(*has);
                });
                let came = self.taken.entry((loom, writer)).or_default();
                if came.sequence < signed.head.sequence {
                    *came = signed.head;
                }
                Ok(())
            }
            // What is here is said again; what is missing comes then.
            Ok(Taken::Gap(_)) => {
                self.flush().await?;
                self.have(loom)
            }
            Ok(Taken::Divided) => {
                if !self.ask_from_the_beginning(loom, writer)? {
                    let what = "it goes on from another history than the one that is here".to_owned();
                    self.refuse(loom, Some(writer), what);
                }
                Ok(())
            }
            Err(StoreError::Forked { proof, .. }) => self.report(*proof).await,
            Err(error @ StoreError::Cheater { .. }) => {
                self.looms.entry(loom).or_default().entry(writer).or_default();
                self.push(CopyMessage::Refused { loom, writer: Some(writer), what: chain(&error) });
                Ok(())
            }
            // This node's own log comes back: all of it is here, or comparing what both have has found out that it is not.
            Err(StoreError::Foreign { .. }) => self.has_itself(&signed),
            Err(error @ (StoreError::Blob { .. } | StoreError::Entry { .. } | StoreError::Behind)) => {
                self.refuse(loom, Some(writer), chain(&error));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn known(&mut self, loom: LoomId, writer: WriterKey, head: Head) {
        let there = self.looms.entry(loom).or_default().entry(writer).or_default();
        there.sent = there.sent.max(head.sequence);
        self.shown.up_to(loom, writer, head.sequence);
    }

    pub(super) fn failed(&self, loom: LoomId, what: &str) {
        let now_us = self.copies.clock.now_us();
        self.copies.note(loom, &self.peer, |state| state.fail(now_us, what.to_owned()));
    }

    fn refuse(&mut self, loom: LoomId, writer: Option<WriterKey>, what: String) {
        let detail = format!("loom {loom}: {what}");
        self.copies.refusals.note(&self.peer, "what a peer sent was refused", &detail);
        // Nothing is remembered of looms that are not kept together with it.
        if self.looms.contains_key(&loom) {
            self.failed(loom, &what);
        }
        self.push(CopyMessage::Refused { loom, writer, what });
    }

    pub(super) fn answered(&mut self, loom: LoomId, writer: Option<WriterKey>, sequence: u64) {
        let freed = &mut self.unanswered_bytes;
        self.unanswered.retain(|(of, by, to, bytes)| {
            let is_answered = *of == loom && writer.is_none_or(|writer| writer == *by) && *to <= sequence;
            if is_answered {
                *freed = freed.saturating_sub(*bytes);
            }
            !is_answered
        });
    }

    /// This node's record cannot be read or written. Why is its own business; that what came is not kept is the other side's too.
    pub(super) fn cannot_keep(&mut self) -> Vec<CopyMessage> {
        let what = format!("{} cannot write its record: what it was sent is not kept", self.copies.node());
        let looms: HashSet<LoomId> = self.taken.keys().map(|(loom, _)| *loom).chain(self.heard.drain()).collect();
        looms.into_iter().map(|loom| CopyMessage::Refused { loom, writer: None, what: what.clone() }).collect()
    }

    /// Makes what was taken durable, where it is kept so, and acknowledges it.
    ///
    /// # Errors
    /// A failed write.
    pub async fn flush(&mut self) -> Result<(), StoreError> {
        self.keep_attested().await?;
        if self.taken.is_empty() && self.casting.taken.is_empty() {
            return Ok(());
        }
        self.flush_logs().await?;
        self.flush_casts().await?;
        self.ask_again()
    }

    async fn flush_logs(&mut self) -> Result<(), StoreError> {
        let taken = std::mem::take(&mut self.taken);
        self.taken_bytes = 0;
        let looms: HashSet<LoomId> = taken.keys().map(|(loom, _)| *loom).collect();
        for loom in looms {
            let writers = taken.iter().filter(|((of, _), _)| *of == loom).map(|((_, writer), came)| (*writer, *came));
            let (store, kind) = self.copies.keeper(loom);
            store.sync_logs(loom, writers.clone().map(|(writer, _)| writer).collect()).await?;
            let logs = store.logs(loom)?;
            // What an adoption decides is read once its log is on disk.
            let withheld = self.show_fences(loom)?;
            for (writer, came) in writers.filter(|(writer, _)| !withheld.contains(writer)) {
                let here = logs.iter().find(|log| log.writer == writer).map(|log| log.head).unwrap_or_default();
                // Of what came from elsewhere too the other side may not know: no more is acknowledged to it than it sent.
                let head = if here.sequence < came.sequence { here } else { came };
                self.push(CopyMessage::Held { loom, writer, head, kind });
            }
            self.compare_casts(loom).await?;
            self.members_kept(loom);
            self.copies.has_come(loom)?;
            // Whoever keeps it too can be sent it.
            self.copies.grown(loom);
        }
        Ok(())
    }

    /// Says anew what is here of a loom in which something was put off and may be taken now.
    fn ask_again(&mut self) -> Result<(), StoreError> {
        for loom in self.due_again() {
            if self.looms.contains_key(&loom) {
                self.have(loom)?;
            }
        }
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.copies.note_all(&self.peer, |state| state.connected = false);
    }
}

/// What is said of keepers, by the names that they have here; of two that are the same the later revision counts.
fn merged(said: Keepers, heard: impl Fn(Keeper) -> Keeper) -> Keepers {
    let mut keepers = Keepers::new();
    for (keeper, keeping) in said {
        let known = keepers.entry(heard(keeper)).or_insert(keeping);
        *known = (*known).max(keeping);
    }
    keepers
}
