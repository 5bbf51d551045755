//! The limits of gates, each with its unit, in one list; and the type in which every crate lists its own.
//!
//! A number that bounds what comes from outside stands in a list like this one and nowhere else, so that a person can read
//! what is bounded, and a test can see that nothing is left out (`tests/hostile_input/limits.rs`).

/// One limit: what it bounds, how much, and who proves that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The name of its constant.
    pub name: &'static str,
    /// How much, in `unit`.
    pub value: u64,
    /// `bytes`, `characters`, `ms`, or a countable noun such as `connections`.
    pub unit: &'static str,
    /// What is bounded, as a phrase for people.
    pub bounds: &'static str,
    /// The key of a file or the ward that raises it; absent where nothing does.
    pub raised_by: Option<&'static str>,
    /// The test that hits it: `FILE::FUNCTION`, where FILE is relative to the repository.
    pub tried_by: &'static str,
}

/// Makes the constants of a module and `ALL`, the list of them.
#[macro_export]
macro_rules! limits {
    ($($(#[$doc:meta])* $visibility:vis $name:ident: $type:ty = $value:expr, $unit:literal, $bounds:literal, $raised:expr, $tried:literal;)*) => {
        $($(#[$doc])* $visibility const $name: $type = $value;)*
        /// Every limit of this module.
        pub const ALL: &[$crate::limits::Limit] = &[$($crate::limits::Limit {
            name: stringify!($name),
            value: $name as u64,
            unit: $unit,
            bounds: $bounds,
            raised_by: $raised,
            tried_by: $tried,
        }),*];
    };
}

limits! {
    /// 128 directories. Each level of a path holds one open directory while it is walked.
    pub PATH_DEPTH_MAX: usize = 128, "directories", "how deep below its root a path of a file gate leads", None,
        "gates/tests/protected.rs::a_path_leads_through_a_bounded_number_of_directories";
    /// 8 KiB: more than the headers of a request that servers accept. So far behind a cut a secret is looked for that the
    /// cut falls into; a longer word is left out whole where it looks like one.
    pub CREDENTIAL_BYTES_MAX: usize = 8 * 1024, "bytes", "how far behind a cut a secret is looked for", None,
        "gates/tests/walked.rs::no_half_of_a_secret_is_shown_at_a_cut";
    /// 8 passes. Replacing one secret can bring another to light; texts found so far needed two.
    pub REDACTION_PASSES_MAX: usize = 8, "passes", "how often a text is redacted", None,
        "gates/tests/walked.rs::redaction_takes_steps_in_proportion_to_the_text";
}
