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
    /// 256 KiB of compiled pattern, some 8 000 states, which bound its cost for each byte read.
    pub SEARCH_PATTERN_BYTES_MAX: usize = 256 * 1024, "bytes", "how large a pattern of `search` is when it is compiled", None,
        "gates/tests/search.rs::a_pattern_of_too_many_states_is_refused";
    /// 64 KiB, less for a pattern of many states: between two pieces the time is looked at.
    pub SEARCH_PIECE_BYTES_MAX: usize = 64 * 1024, "bytes", "how much of a line `search` compares at a time", None,
        "gates/tests/search.rs::a_line_that_is_compared_in_pieces_is_named";
    /// 8 searches, so that those which were given up and have not noticed yet cannot take the threads of everything else.
    pub SEARCHES_AT_ONCE_MAX: usize = 8, "searches", "how many calls of `search` run at once in one process", None,
        "gates/tests/search.rs::so_many_searches_run_at_once_and_the_rest_wait";
    /// 256 KiB of names, texts and values in it.
    pub SCHEMA_BYTES_MAX: usize = 256 * 1024, "bytes", "how much text the schema of a gate holds", None,
        "gates/tests/schemas.rs::a_schema_is_bounded_in_every_unit";
    /// 4 096 schemas within it.
    pub SCHEMA_NODES_MAX: usize = 4_096, "schemas", "how many schemas the schema of a gate holds", None,
        "gates/tests/schemas.rs::a_schema_is_bounded_in_every_unit";
    /// 64 patterns.
    pub SCHEMA_PATTERNS_MAX: usize = 64, "patterns", "how many patterns the schema of a gate holds", None,
        "gates/tests/schemas.rs::a_schema_is_bounded_in_every_unit";
    /// 1 MiB for all patterns together.
    pub SCHEMA_PATTERN_BYTES_MAX: usize = 1024 * 1024, "bytes", "how large all patterns of a schema are when they are compiled", None,
        "gates/tests/schemas.rs::a_schema_is_bounded_in_every_unit";
    /// 4 schemas of the largest size, for all gates of a circle together.
    pub SCHEMAS_OF_A_CIRCLE: usize = 4, "times the size of one", "how much the schemas of all gates of a circle hold together", None,
        "gates/tests/schemas.rs::the_schemas_of_a_circle_are_bounded_together";
    /// 32 million steps: one for each value and schema that meet, and the states of a pattern for each byte it is compared
    /// with. Some 0.3 s where every step costs.
    pub CHECK_STEPS_MAX: usize = 32 * 1024 * 1024, "steps", "what one check of arguments takes", None,
        "gates/tests/schemas.rs::a_check_takes_a_bounded_number_of_steps";
    /// 1 000 candidates.
    pub SUGGESTION_CANDIDATES_MAX: usize = 1_000, "words", "how many words are compared for a `did you mean`", None,
        "gates/tests/schemas.rs::a_suggestion_compares_a_bounded_number_of_words";
    /// 253 bytes of a name and a port, and room for another spelling of it.
    pub HOST_PATTERN_BYTES_MAX: usize = 1_024, "bytes", "how long one host pattern is", None,
        "gates/tests/schemas.rs::a_host_pattern_has_a_bounded_length";
    /// 64 KiB of names and values.
    pub ANSWER_HEADER_BYTES_MAX: usize = 64 * 1024, "bytes", "how much of the headers of an answer `http_fetch` returns", None,
        "gates/tests/http.rs::headers_of_an_answer_count_for_what_a_call_may_return";
    /// 128 names.
    pub ANSWER_HEADERS_MAX: usize = 128, "headers", "how many headers of an answer `http_fetch` returns", None,
        "gates/tests/http.rs::headers_of_an_answer_count_for_what_a_call_may_return";
}
