//! The defaults of wards that must always have a value.
//!
//! Owns the numbers a runtime enforces where nobody said otherwise. A default is a bound and not a grant: it is filled
//! in after all composition, and [`ResolvedWards::to_wards`] puts it back into the algebra, so that a child never gets
//! more than its parent had by default.

use super::Wards;

/// The wards as they are enforced: what must have a value has one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ResolvedWards {
    /// Levels of children. Default [`Self::MAX_DEPTH_DEFAULT`].
    pub max_depth: u64,
    /// Gate calls. Default [`Self::MAX_GATE_CALLS_DEFAULT`].
    pub max_gate_calls: u64,
    /// Children in one life. Default [`Self::MAX_CHILDREN_DEFAULT`].
    pub max_children: u64,
    /// Children at the same time. Default [`Self::MAX_CONCURRENT_CHILDREN_DEFAULT`].
    pub max_concurrent_children: u64,
    /// Requests in one batch. Default [`Self::MAX_BATCH_SIZE_DEFAULT`].
    pub max_batch_size: u64,
    /// Milliseconds of one evaluation. Default [`Self::MAX_EVAL_MS_DEFAULT`].
    pub max_eval_ms: u64,
    /// Bytes of a medium's memory. Default [`Self::MAX_MEMORY_BYTES_DEFAULT`].
    pub max_memory_bytes: u64,
    /// Bytes of output of one turn. Default [`Self::MAX_OUTPUT_BYTES_DEFAULT`].
    pub max_output_bytes: u64,
    /// The wards they were resolved from, for those that have no default.
    pub declared: Wards,
}

impl ResolvedWards {
    /// One level: an entity may cast children, its children may not. Deeper trees are asked for.
    pub const MAX_DEPTH_DEFAULT: u64 = crate::limits::MAX_DEPTH_DEFAULT;
    /// 10 000 calls. Far above what a useful entity makes; ends `while (true) gate()`.
    pub const MAX_GATE_CALLS_DEFAULT: u64 = crate::limits::MAX_GATE_CALLS_DEFAULT;
    /// 1 000 children. Ends a loop of delegation long before it is expensive.
    pub const MAX_CHILDREN_DEFAULT: u64 = crate::limits::MAX_CHILDREN_DEFAULT;
    /// 8 at the same time. Bounds the model calls one entity has in flight.
    pub const MAX_CONCURRENT_CHILDREN_DEFAULT: u64 = crate::limits::MAX_CONCURRENT_CHILDREN_DEFAULT;
    /// 50 requests. Bounds the memory one batch call can ask for.
    pub const MAX_BATCH_SIZE_DEFAULT: u64 = crate::limits::MAX_BATCH_SIZE_DEFAULT;
    /// 30 seconds. Bounds one evaluation, so a runaway script is noticed while a person still watches.
    pub const MAX_EVAL_MS_DEFAULT: u64 = crate::limits::MAX_EVAL_MS_DEFAULT;
    /// 64 MiB. Thousands of entities fit one machine; an interpreter with a large file in hand fits the bound.
    pub const MAX_MEMORY_BYTES_DEFAULT: u64 = crate::limits::MAX_MEMORY_BYTES_DEFAULT;
    /// 50 000 bytes. More than a model can use of one observation.
    pub const MAX_OUTPUT_BYTES_DEFAULT: u64 = crate::limits::MAX_OUTPUT_BYTES_DEFAULT;

    /// The defaults as wards: what an unrestricted circle becomes.
    pub fn to_wards(&self) -> Wards {
        Wards {
            max_depth: Some(self.max_depth),
            max_gate_calls: Some(self.max_gate_calls),
            max_children: Some(self.max_children),
            max_concurrent_children: Some(self.max_concurrent_children),
            max_batch_size: Some(self.max_batch_size),
            max_eval_ms: Some(self.max_eval_ms),
            max_memory_bytes: Some(self.max_memory_bytes),
            max_output_bytes: Some(self.max_output_bytes),
            ..self.declared.clone()
        }
    }
}

impl Wards {
    /// The wards with every documented default filled in.
    pub fn resolved(&self) -> ResolvedWards {
        ResolvedWards {
            max_depth: self.max_depth.unwrap_or(ResolvedWards::MAX_DEPTH_DEFAULT),
            max_gate_calls: self.max_gate_calls.unwrap_or(ResolvedWards::MAX_GATE_CALLS_DEFAULT),
            max_children: self.max_children.unwrap_or(ResolvedWards::MAX_CHILDREN_DEFAULT),
            max_concurrent_children: self
                .max_concurrent_children
                .unwrap_or(ResolvedWards::MAX_CONCURRENT_CHILDREN_DEFAULT),
            max_batch_size: self.max_batch_size.unwrap_or(ResolvedWards::MAX_BATCH_SIZE_DEFAULT),
            max_eval_ms: self.max_eval_ms.unwrap_or(ResolvedWards::MAX_EVAL_MS_DEFAULT),
            max_memory_bytes: self.max_memory_bytes.unwrap_or(ResolvedWards::MAX_MEMORY_BYTES_DEFAULT),
            max_output_bytes: self.max_output_bytes.unwrap_or(ResolvedWards::MAX_OUTPUT_BYTES_DEFAULT),
            declared: self.clone(),
        }
    }
}
