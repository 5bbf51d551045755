//! The loom: the append-only tree of everything that entities did.

mod entry;
mod fit;
mod json;
mod owner;
mod segment;
mod view;

pub use entry::{
    Answer, Blob, Body, CallRecord, ENTRY_BYTES_MAX, Ended, Entry, EntryError, EvaluationRecord, FORMAT, Fork,
    ForkStrategy, GateRecord, Head, How, INLINE_BYTES_MAX, Observed, Opened, PageRef, Payload, Payloads, Returned,
    Said, Sealed, Spent, text_ids,
};
pub use fit::OpenedTooLarge;
pub use json::body_json;
pub use owner::Owners;
pub use segment::{CheckedSegment, ForkProof, SEGMENT_BYTES, SEGMENT_ENTRIES_MAX, Segment, SegmentError, SignedHead};
pub use view::{
    Again, Aside, CutOff, EntityView, GateRun, Observation, Replay, Restored, Tail, TextOf, Tree, Turn, ViewError, Why,
};
