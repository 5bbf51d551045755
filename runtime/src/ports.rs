//! The few places where the driver meets the world: model, record, medium, clock. Each has a real implementation and a
//! deterministic one.

mod copies;
mod home;
mod members;

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cantrip_gates::{GateError, Truncation};
use thiserror::Error;

use crate::domain::event::Event;
use crate::domain::guest::Manifest;
use crate::domain::ids::{BlobId, EntityId, EntryId, LoomId, NodeAddress, NodeName, WriterKey};
use crate::domain::loom::{
    CastBatch, CastChain, CastHead, EntryError, EquivocationProof, Foreign, ForeignBudget, ForeignError, ForkSource,
    Head, Payload, Sealed,
};
use crate::domain::medium::{CallArguments, Evaluated, Evaluation, GateAnswer, Image, MediumOpening};
use crate::domain::members::{Attestation, Batch, CheckedRecord, MemberRecord, RecordError};
use crate::domain::model::{ModelError, Question, RawAnswer};
use crate::domain::remote::{HostIdentity, Order, Refusal};

pub use crate::domain::copies::LogState;
pub use copies::{CopyBook, CopyStore, Taken};
pub use home::{Home, HomeError, RemoteEnd, Signal};
pub use members::MemberStore;

/// 256 steps of what came from others are looked for at once.
const STEPS_READ: usize = 256;

/// A future that can be sent and named.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A model. It keeps nothing between two questions (LLM-1).
pub trait Llm: Send + Sync + Debug {
    /// The model's name, for the record. Holds no secret.
    fn name(&self) -> &str;

    /// The length of the model's context in tokens, where it is known: folding begins at 80 % of it (PROD-4).
    fn context_tokens(&self) -> Option<u64> {
        None
    }

    /// Whether `tool_choice = required` is kept by the provider. Where it is not, the driver asks again (LLM-5).
    fn can_require_calls(&self) -> bool {
        true
    }

    /// Asks once, without retries. Pieces of the answer go to `pieces` as they come.
    fn ask<'a>(
        &'a self,
        question: &'a Question,
        pieces: &'a dyn Pieces,
    ) -> BoxFuture<'a, Result<RawAnswer, ModelError>>;
}

/// Takes the pieces of an answer as they come.
pub trait Pieces: Send + Sync {
    /// A piece of text.
    fn text(&self, piece: &str);
    /// A piece of reasoning.
    fn thinking(&self, piece: &str);
}

/// Is told what happens.
pub trait Observer: Send + Sync {
    /// One event. It must not block: whoever needs time puts it on a queue of its own.
    fn event(&self, event: &Event);

    /// Whether anybody would hear of an event now. Where nobody does, none is made ready.
    fn listens(&self) -> bool {
        true
    }
}

/// A medium in which an entity's code runs: an interpreter behind the sandbox's wall. One per entity.
///
/// It is a coroutine: it runs until the code asks for a gate or ends, and goes on with the answer. No gate is called
/// from inside of it, so whatever it does, a decision of the driver stands between it and the world.
pub trait Medium: Send + Debug {
    /// Begins an evaluation.
    fn evaluate(&mut self, evaluation: Evaluation) -> BoxFuture<'_, Yielded>;

    /// Goes on after a gate. `clock_us` is where the guest's clock stands now.
    fn resume(&mut self, answer: GateAnswer, clock_us: u64) -> BoxFuture<'_, Yielded>;

    /// What it has in memory between two evaluations, sharing the pages that `since` has too; nothing from a medium whose
    /// memory cannot be had, or that is at work.
    fn image(&mut self, _since: Option<&Image>) -> Option<Image> {
        None
    }
}

/// Where an evaluation stands.
#[derive(Debug)]
pub enum Yielded {
    /// The code calls a gate and waits.
    Gate {
        /// The name it used.
        gate: String,
        /// The arguments.
        arguments: CallArguments,
    },
    /// It ended.
    Finished(Box<Evaluated>),
}

/// Makes media.
pub trait MediumFactory: Send + Sync + Debug {
    /// The names of the code media that it makes, as a circle declares them.
    fn names(&self) -> Vec<String>;

    /// The digest of a medium's code, for the record.
    fn digest(&self, medium: &str) -> Option<String>;

    /// Makes a fresh instance.
    fn open<'a>(&'a self, opening: &'a MediumOpening) -> BoxFuture<'a, Result<Box<dyn Medium>, MediumFault>>;

    /// Whether an image is of a medium that is opened so.
    fn fits(&self, _opening: &MediumOpening, _image: &Image) -> bool {
        false
    }

    /// Makes an instance that goes on where an image was taken. Asked only for images that fit.
    fn open_image<'a>(
        &'a self,
        opening: &'a MediumOpening,
        _image: &'a Image,
    ) -> BoxFuture<'a, Result<Box<dyn Medium>, MediumFault>> {
        self.open(opening)
    }
}

/// A component that somebody wrote: a cantrip, or a medium.
pub trait Guest: Send + Sync + Debug {
    /// What it says about itself.
    fn manifest(&self) -> &Manifest;

    /// Compiles and links it for these gates, so that what the engine does not take is known before anything is cast.
    ///
    /// # Errors
    /// A component that is too large for the engine, or that imports a gate under another type than it has.
    fn prepare(&self, opening: &MediumOpening) -> Result<(), MediumFault>;

    /// Makes an instance that can call the gates of the opening. Nothing of it has run yet: its first evaluation does that,
    /// within the bounds of that evaluation.
    ///
    /// A guest of the shapes `run` and `steps` is evaluated too: the source is a JSON object with `intent`, and for a step
    /// `number` and `heard`.
    fn open<'a>(&'a self, opening: &'a MediumOpening) -> BoxFuture<'a, Result<Box<dyn Medium>, MediumFault>>;
}

/// Why a medium could not be made: ours, not the entity's.
#[derive(Debug, Error)]
pub enum MediumFault {
    /// No such medium.
    #[error("there is no medium `{name}`; known are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The machine has no room for another instance.
    #[error("no room for another instance: {limit}")]
    Full {
        /// The bound that was met.
        limit: String,
    },
    /// The medium's own code is unusable.
    #[error("the medium `{name}` could not be started")]
    Broken {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Where looms are kept. Entries are appended in the order of their sequence, one writer for each store.
///
/// `append` hands an entry over and returns; it is *recorded* once `sync` returned. After a failed write the store is
/// poisoned: every further call fails, and the process has to be started again.
pub trait LoomStore: MemberStore {
    /// The key of the node that writes here.
    fn writer(&self) -> WriterKey;

    /// The keys under which this node has written before it took its present one.
    fn formerly(&self) -> Result<Vec<WriterKey>, StoreError> {
        Ok(Vec::new())
    }

    /// The entries of earlier keys of this node that are kept beside their logs, in their order: what it wrote after its folder was put
    /// back to an older state, where others have another history; and what others have, where both are signed. They are to be written
    /// anew.
    ///
    /// # Errors
    /// A record that cannot be read.
    fn aside(&self, loom: LoomId) -> Result<Vec<Sealed>, StoreError> {
        let _ = loom;
        Ok(Vec::new())
    }

    /// Keeps entries that an earlier key of this node has signed beside its log, where it has signed others at their places. They are on
    /// disk when this returns.
    ///
    /// # Errors
    /// A failed write.
    fn keep_aside(&self, loom: LoomId, entries: &[Sealed]) -> Result<(), StoreError> {
        let _ = (loom, entries);
        Ok(())
    }

    /// These entries were written anew, durably, and so were histories of earlier keys up to these heads: nothing of them is kept beside
    /// the logs any more.
    ///
    /// # Errors
    /// A failed write.
    fn written_anew(&self, loom: LoomId, heads: &[(WriterKey, Head)], entries: &[Sealed]) -> Result<(), StoreError> {
        let _ = (loom, heads, entries);
        Ok(())
    }

    /// Whether a history of an earlier key was written anew up to a head.
    ///
    /// # Errors
    /// A record that cannot be read.
    fn was_written_anew(&self, loom: LoomId, head: (WriterKey, Head)) -> Result<bool, StoreError> {
        let _ = (loom, head);
        Ok(false)
    }

    /// How far this node's log of a loom is; an empty head for a loom that is not known.
    fn head(&self, loom: LoomId) -> Result<Head, StoreError>;

    /// Hands the next entry of this node's log over. Its sequence must be the head's plus one.
    fn append(&self, sealed: Sealed) -> Result<(), StoreError>;

    /// Hands over what others wrote of a cast, with its large texts unless they are here, and the heads that cover it. It becomes
    /// durable in one step: an entry is never here without the head over it.
    ///
    /// # Errors
    /// An entry that is not what its id says, in this node's own name, or without a text that it refers to.
    fn receive(&self, batch: CastBatch) -> Result<(), StoreError>;

    /// Gives this node's word for its own entries of a cast.
    ///
    /// # Errors
    /// A store without a key.
    fn sign_cast(&self, loom: LoomId, cast: EntityId, at: CastChain) -> Result<CastHead, StoreError>;

    /// The newest durable head of each writer of each cast of a loom, of what came from others.
    fn cast_heads(&self, loom: LoomId) -> Result<Vec<CastHead>, StoreError>;

    /// The heads that came with what came from others, behind a place: each with the place of the last entry that came with it, as
    /// [`LoomStore::recorded`] has it. At most `max` places.
    fn covered(&self, loom: LoomId, after: u64, max: usize) -> Result<Vec<(u64, Vec<CastHead>)>, StoreError>;

    /// Reads what is durable of what came from others in the steps in which it came: entries, and the heads over them.
    fn steps_received(
        &self,
        loom: LoomId,
        visit: &mut dyn FnMut(Vec<Sealed>, Vec<CastHead>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut after = 0;
        loop {
            let steps = self.covered(loom, after, STEPS_READ)?;
            if steps.is_empty() {
                return Ok(());
            }
            for (to, heads) in steps {
                let many = usize::try_from(to.saturating_sub(after)).unwrap_or(usize::MAX);
                let entries = self.recorded(loom, By::Others, after, many)?;
                visit(entries.into_iter().map(|(_, sealed)| sealed).collect(), heads)?;
                after = to;
            }
        }
    }

    /// What is durable of a loom behind a place: of one log, or of what came from others in the order in which it
    /// came. At most `max` entries, each with its place, from 1.
    fn recorded(&self, loom: LoomId, by: By, after: u64, max: usize) -> Result<Vec<(u64, Sealed)>, StoreError>;

    /// Returns when everything of this loom that was handed over before is durable.
    fn sync(&self, loom: LoomId) -> BoxFuture<'_, Result<(), StoreError>>;

    /// One entry by its id, its content checked against the id.
    fn entry(&self, id: EntryId) -> Result<Option<Sealed>, StoreError>;

    /// All entries of a loom: this node's log in the order of its sequence, then what came from others as it came.
    fn entries(&self, loom: LoomId) -> Result<Vec<Sealed>, StoreError>;

    /// The entries of one entity in the order they were made.
    fn entries_of(&self, entity: EntityId) -> Result<Vec<Sealed>, StoreError>;

    /// The ids of the entries whose parent this is, in the order they were made.
    fn children(&self, id: EntryId) -> Result<Vec<EntryId>, StoreError>;

    /// The loom that an entity belongs to.
    fn loom_of(&self, entity: EntityId) -> Result<Option<LoomId>, StoreError>;

    /// A large text by its hash, checked against it.
    fn blob(&self, id: BlobId) -> Result<Option<Vec<u8>>, StoreError>;

    /// The text of a payload, wherever it is kept; nothing if the store does not have it.
    fn text(&self, payload: &Payload) -> Result<Option<String>, StoreError> {
        match payload {
            Payload::Inline(text) => Ok(Some(text.clone())),
            Payload::Blob { id, .. } => Ok(self.blob(*id)?.and_then(|bytes| String::from_utf8(bytes).ok())),
        }
    }

    /// A thread of another loom that an entity continues, read and checked. `budget` is what such threads of one loom may take together.
    ///
    /// # Errors
    /// What is missing of it, or not as its writers signed it.
    fn foreign(&self, source: &ForkSource, budget: &ForeignBudget) -> Result<Foreign, ForeignError> {
        let piece = |id: BlobId| self.blob(id).ok().flatten();
        Foreign::read(source, &piece, &|all| self.checked(all), budget)
    }

    /// The logs of a loom, one for each writer, in the order of their keys. Entries that came outside of a log are in none.
    fn logs(&self, loom: LoomId) -> Result<Vec<LogState>, StoreError>;

    /// The proofs that writers have signed two histories.
    fn proofs(&self) -> Result<Vec<EquivocationProof>, StoreError>;

    /// Keeps a proof: nothing is taken of its writer in that loom from that place on. Of several the one of the earliest place is kept.
    /// Returns whether it is new.
    ///
    /// # Errors
    /// A failed write.
    fn accuse(&self, proof: &EquivocationProof) -> Result<bool, StoreError>;

    /// The member records of one of this node's own keys, the one of the newest certificate first.
    ///
    /// # Errors
    /// A record that cannot be read.
    fn own_records(&self, key: WriterKey) -> Result<Vec<MemberRecord>, StoreError> {
        // What vouches for this node's own keys is of every loom, and nothing else is of this one.
        let all = self.attestations_of(LoomId::from_bytes([0; 22]), key)?;
        let mut records: Vec<(u64, MemberRecord)> = Vec::new();
        for attestation in all {
            let begins_us = self.checked(std::slice::from_ref(&attestation)).ok();
            let begins_us = begins_us.and_then(|vouched| vouched.records.first().map(CheckedRecord::begins_us));
            if let (Attestation::Member(record), Some(begins_us)) = (attestation, begins_us) {
                records.push((begins_us, record));
            }
        }
        records.sort_by(|one, other| other.cmp(one));
        Ok(records.into_iter().map(|(_, record)| record).collect())
    }

    /// Everything of a loom that decisions are made by: whoever wants to know what counts gives it to a [`Reader`](crate::domain::members::Reader).
    /// [`LoomStore::entries`] is for who copies, shows or verifies what is there, whether it counts or not.
    ///
    /// # Errors
    /// A record that cannot be read.
    fn batch(&self, loom: LoomId) -> Result<Batch, StoreError> {
        let logs = self.logs(loom)?.into_iter().map(|log| log.writer);
        let batch = Batch::new(loom, self.writer(), self.entries(loom)?, self.vouched(loom)?);
        let batch = batch.with_logs(logs).with_casts(self.cast_heads(loom)?);
        let batch = batch.with_proved(self.proved(loom)?).with_proofs(self.proofs()?);
        Ok(batch.with_founder(|record| self.checked(&[Attestation::Member(record.clone())]).ok()?.records.pop()))
    }

    /// The looms that are kept, newest first.
    fn looms(&self) -> Result<Vec<LoomSummary>, StoreError>;

    /// Recomputes everything of one loom, or of all: hashes, chains, parents, blobs and the marks outside the journal.
    fn verify(&self, loom: Option<LoomId>) -> Result<Verified, StoreError>;
}

/// Who wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum By {
    /// The node of the store.
    ThisNode,
    /// Any other, as far as it came outside of its writer's log.
    Others,
    /// This writer, as far as its log is kept here.
    Log(WriterKey),
}

/// One line of a list of looms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoomSummary {
    /// The loom.
    pub loom: LoomId,
    /// How many entries of how many writers.
    pub entries: u64,
    /// When its first entry was made, in microseconds since 1970.
    pub first_us: u64,
    /// When its last entry was made.
    pub last_us: u64,
    /// The entity at its root; nothing: no entity has been opened yet.
    pub root: Option<EntityId>,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// How many looms were read.
    pub looms: u64,
    /// How many entries were recomputed.
    pub entries: u64,
    /// How many blobs were recomputed.
    pub blobs: u64,
    /// What is wrong, the first first. Empty: clean.
    pub findings: Vec<Finding>,
}

/// One thing that is wrong with the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The loom, where it is known.
    pub loom: Option<LoomId>,
    /// The place in the log.
    pub sequence: Option<u64>,
    /// The entry, where it is known.
    pub entry: Option<EntryId>,
    /// What is wrong with it.
    pub what: String,
}

/// Why the store refused.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The folder cannot be used.
    #[error("the record in {folder} cannot be opened: {what}")]
    Open {
        /// The folder.
        folder: String,
        /// What is wrong with it, and what to do.
        what: String,
        /// The cause.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Another process has it.
    #[error("the record in {folder} is in use by another process")]
    Locked {
        /// The folder.
        folder: String,
    },
    /// What is there is less than what was acknowledged.
    #[error("the record in {folder} is damaged: {what}")]
    Damaged {
        /// The folder.
        folder: String,
        /// What is missing or wrong.
        what: String,
    },
    /// A write or sync failed earlier; nothing more is taken.
    #[error("the record is closed after a failed write: {what}")]
    Poisoned {
        /// The first failure.
        what: String,
    },
    /// A read failed.
    #[error("the record could not be read")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An entry that does not follow the log.
    #[error("entry {got} of loom {loom} does not follow entry {head}")]
    Sequence {
        /// The loom.
        loom: LoomId,
        /// Where the log is.
        head: u64,
        /// What was handed over.
        got: u64,
    },
    /// A stored entry is not what its id says.
    #[error("entry {id} is damaged")]
    Entry {
        /// The id.
        id: EntryId,
        /// What is wrong with it.
        #[source]
        source: EntryError,
    },
    /// An entry that came from elsewhere, and says that it was written here.
    #[error("entry {id} came from elsewhere, and its writer is {writer}")]
    Foreign {
        /// The id.
        id: EntryId,
        /// Who it says wrote it.
        writer: WriterKey,
    },
    /// A log that contradicts the copy that is here.
    #[error("writer {writer} wrote two histories of loom {loom}: they part at entry {}", proof.place())]
    Forked {
        /// The loom.
        loom: LoomId,
        /// Whose.
        writer: WriterKey,
        /// What convinces everybody else.
        proof: Box<EquivocationProof>,
    },
    /// A writer that is not believed any more.
    #[error("writer {writer} has signed two histories of loom {loom}: nothing is taken of it from where they divide")]
    Cheater {
        /// Where.
        loom: LoomId,
        /// Who.
        writer: WriterKey,
    },
    /// A log that is here divides from what its writer has signed, at a place that it has not signed here.
    #[error("what is here of writer {writer}'s log of loom {loom} behind its entry {after} has no signed head")]
    Unsigned {
        /// Where.
        loom: LoomId,
        /// Who.
        writer: WriterKey,
        /// The last entry that is the same.
        after: u64,
    },
    /// More waits for the disk than copies may add to.
    #[error("the disk is behind, and takes no copies for now")]
    Behind,
    /// Something that should vouch for a writer's key, and is not kept.
    #[error("what should vouch for writer {writer} is not kept")]
    Attestation {
        /// Whose key.
        writer: WriterKey,
        /// Why.
        #[source]
        source: RecordError,
    },
    /// A blob is missing or not what its hash says.
    #[error("the text {id} that an entry refers to is missing or damaged")]
    Blob {
        /// The hash.
        id: BlobId,
    },
}

/// The nodes that this one is connected to.
pub trait Peers: Send + Sync + Debug {
    /// Their names, `name@host:port`.
    fn known(&self) -> Vec<NodeAddress>;

    /// Of these nodes the one that has least to do and grants what the order needs.
    fn choose<'a>(
        &'a self,
        nodes: &'a [NodeAddress],
        order: &'a Order,
    ) -> BoxFuture<'a, Result<NodeAddress, PeerError>>;

    /// As whom a node writes. It is asked once for each connection; `anew`: again, whatever is known.
    fn identify<'a>(&'a self, node: &'a str, anew: bool) -> BoxFuture<'a, Result<Arc<HostIdentity>, PeerError>>;

    /// Whether a peer says that another takes part in a loom; one that cannot be had says nothing.
    fn vouches<'a>(&'a self, node: &'a NodeName, loom: LoomId, about: &'a NodeName) -> BoxFuture<'a, bool>;

    /// Has an episode run by a peer and waits for its end. It never runs twice, however often the connection breaks, and this
    /// always returns within the deadlines of the order and of the connection.
    fn cast<'a>(
        &'a self,
        node: &'a str,
        order: &'a Order,
        home: &'a dyn Home,
    ) -> BoxFuture<'a, Result<RemoteEnd, PeerError>>;
}

/// The name of the bound of a connection with its handshake.
pub const CONNECT_LIMIT: &str = "connect_timeout_ms";

/// Why a remote episode has no end that is known here.
#[derive(Debug, Error)]
pub enum PeerError {
    /// No such peer. Nothing was connected to.
    #[error("there is no node `{node}`; this node knows {known}{hint}")]
    Unknown {
        /// What was asked for.
        node: String,
        /// What there is.
        known: String,
        /// A guess at what was meant.
        hint: String,
    },
    /// No connection could be made. Nothing ran.
    #[error("the node {node} could not be reached: {what}")]
    Unreachable {
        /// Which.
        node: String,
        /// Why, with the addresses that were tried.
        what: String,
    },
    /// The peer does not run it. Nothing ran.
    #[error("the node {node} refused: {refusal}")]
    Refused {
        /// Which.
        node: String,
        /// Its rule and its words.
        refusal: Refusal,
    },
    /// The peer did not answer in time.
    #[error("the node {node} did not answer within {limit_ms} ms ({limit})")]
    NoAnswer {
        /// Which.
        node: String,
        /// The bound.
        limit: &'static str,
        /// In milliseconds.
        limit_ms: u64,
    },
    /// The connection broke and could not be made again. It may still run there, until its lease is over.
    #[error("the connection to {node} was lost and could not be made again within {lease_ms} ms: {what}")]
    Lost {
        /// Which.
        node: String,
        /// The lease.
        lease_ms: u64,
        /// The last failure.
        what: String,
    },
    /// The peer broke the protocol.
    #[error("the node {node} sent what it may not: {what}")]
    Broken {
        /// Which.
        node: String,
        /// What.
        what: String,
    },
    /// The record here did not take what came.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PeerError {
    /// Whether the episode may have run, or may run still, although nothing more is known of it here.
    pub fn may_have_run(&self) -> bool {
        match self {
            Self::Unknown { .. } | Self::Unreachable { .. } | Self::Refused { .. } => false,
            Self::NoAnswer { limit, .. } => *limit != CONNECT_LIMIT,
            Self::Lost { .. } | Self::Broken { .. } | Self::Store(_) => true,
        }
    }

    /// What the entity is told that wanted the episode.
    pub fn for_entity(&self) -> GateError {
        let text = self.to_string();
        match self {
            Self::Unknown { .. } => GateError::NotFound(text),
            Self::Refused { refusal, .. } => match &refusal.error {
                GateError::Denied(_) => GateError::Denied(text),
                GateError::Invalid(_) => GateError::Invalid(text),
                GateError::NotFound(_) => GateError::NotFound(text),
                GateError::Exhausted(_) => GateError::Exhausted(text),
                GateError::Failed(_) => GateError::Failed(text),
                GateError::TimedOut(_) => GateError::TimedOut(text),
                GateError::Unknown(_) => GateError::Unknown(text),
                GateError::Unanswered(_) => GateError::Unanswered(text),
                GateError::Truncated(known) => {
                    GateError::Truncated(Box::new(Truncation { message: text, ..(**known).clone() }))
                }
            },
            Self::NoAnswer { .. } => GateError::TimedOut(text),
            Self::Unreachable { .. } | Self::Lost { .. } | Self::Broken { .. } | Self::Store(_) => {
                GateError::Failed(text)
            }
        }
    }
}

/// Time and randomness.
pub trait Clock: Send + Sync + Debug {
    /// Microseconds since 1970. Never goes backwards within a process.
    fn now_us(&self) -> u64;

    /// Microseconds since some moment that stays the same within a process. It never jumps, whatever the machine's clock is set to, and goes
    /// on while the machine is suspended: what bounds something is measured by it.
    fn elapsed_us(&self) -> u64 {
        self.now_us()
    }

    /// Waits; that the machine was suspended counts.
    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()>;

    /// Fills with random bytes.
    fn random(&self, bytes: &mut [u8]);
}
