//! The loom: the append-only tree of everything that entities did.

mod entry;
mod fit;
mod json;
mod owner;
mod segment;
mod view;

pub use crate::domain::limits::{ENTRY_BYTES_MAX, INLINE_BYTES_MAX, SEGMENT_BYTES, SEGMENT_ENTRIES_MAX};
pub use entry::{
    Answer, Blob, Body, CallRecord, Ended, Entry, EntryError, EvaluationRecord, FORMAT, Fork, ForkStrategy, GateRecord,
    Head, How, Observed, Opened, PageRef, Payload, Payloads, Returned, Said, Sealed, Spent, text_ids,
};
pub use fit::OpenedTooLarge;
pub use json::body_json;
pub use owner::Owners;
pub use segment::{CheckedSegment, ForkProof, Segment, SegmentError, SignedHead};
pub use view::{
    Again, Aside, CutOff, EntityView, GateRun, Observation, Replay, Restored, Tail, TextOf, Tree, Turn, ViewError, Why,
};
