//! The loom: the append-only tree of everything that entities did.

mod body;
mod cast_head;
mod cast_history;
mod entry;
mod equivocation;
mod fence;
mod fit;
#[cfg(test)]
mod fit_tests;
mod foreign;
#[cfg(test)]
pub(crate) mod format_tests;
mod json;
mod minted;
mod opened;
mod others;
mod said;
mod segment;
mod text;
mod view;

pub use crate::domain::limits::{ENTRY_BYTES_MAX, INLINE_BYTES_MAX, SEGMENT_BYTES, SEGMENT_ENTRIES_MAX};
pub use body::{Asks, Body, Decided, Decision, Intent, PageRef, Unknown};
pub use cast_head::{CastBatch, CastChain, CastFamily, CastHead, CastHeadError, CastStream, CastUnit};
pub use cast_history::{CastHistory, CastInLog};
pub use entry::{Entry, EntryError, FORMAT, Head, Sealed, text_ids};
pub use equivocation::{Before, Division, EquivocationProof, Row, Side};
pub use fence::SignedFence;
pub use fit::OpenedTooLarge;
pub use foreign::{CheckedThread, ForeignBudget, ForeignError, ForeignThread, ThreadCast, ThreadLog, VouchCheck};
pub use json::{NoJson, body_json, plain_json};
pub use minted::Unminted;
pub use opened::{
    Fork, ForkSource, ForkStrategy, GateRecord, IdentityRecord, Minted, Opened, Origin, Pin, Placement, Reserve,
    Standing,
};
pub use others::Others;
pub use said::{Answer, CallRecord, Ended, EvaluationRecord, How, Observed, RecordedEvaluation, Returned, Said, Spent};
pub use segment::{CheckedSegment, Segment, SegmentError, SignedHead};
pub use text::{Blob, Payload, Payloads};
pub(crate) use view::is_guest_call;
pub use view::{
    Again, Aside, CutOff, EntityView, Foreign, ForeignOf, ForeignOrigin, GateRun, Later, Observation, Replay, Restored,
    Tail, TextOf, Tree, Turn, TurnEntry, TurnPart, ViewError, Why,
};
