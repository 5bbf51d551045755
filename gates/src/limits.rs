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

/// Makes the constants of a module and the list of them: `ALL`, or another name that is given first as `list NAME;`.
#[macro_export]
macro_rules! limits {
    (list $list:ident; $($(#[$doc:meta])* $visibility:vis $name:ident: $type:ty = $value:expr, $unit:literal, $bounds:literal, $raised:expr, $tried:literal;)*) => {
        $($(#[$doc])* $visibility const $name: $type = $value;)*
        /// Every limit of this module.
        pub const $list: &[$crate::limits::Limit] = &[$($crate::limits::Limit {
            name: stringify!($name),
            value: $name as u64,
            unit: $unit,
            bounds: $bounds,
            raised_by: $raised,
            tried_by: $tried,
        }),*];
    };
    ($($entries:tt)*) => {
        $crate::limits! { list ALL; $($entries)* }
    };
}

limits! {
    /// 8 KiB of URL, which is what servers accept.
    pub URL_BYTES_MAX: usize = 8 * 1024, "bytes", "the URL of a request of `http_fetch`", None,
        "gates/tests/http.rs::only_what_the_policy_opens_is_reached";
    /// 1 MiB of request body.
    pub REQUEST_BODY_BYTES_MAX: usize = 1024 * 1024, "bytes", "the body of a request of `http_fetch`", None,
        "gates/tests/limits.rs::what_is_sent_is_bounded";
    /// 64 headers of the entity's own.
    pub HEADERS_MAX: usize = 64, "headers", "how many headers a request of `http_fetch` names", None,
        "gates/tests/limits.rs::what_is_sent_is_bounded";
    /// 8 KiB of one header's value.
    pub HEADER_BYTES_MAX: usize = 8 * 1024, "bytes", "the value of one header of such a request", None,
        "gates/tests/http.rs::methods_headers_and_a_body_are_sent";
    /// 10 seconds to connect. A host that is not there is noticed before the whole time is gone.
    pub FETCH_CONNECT_MS_MAX: u64 = 10_000, "ms", "how long `http_fetch` waits for a connection", None,
        "tests/hostile_input/limits/models.rs::who_takes_no_connection_is_given_up_after_ten_seconds";
    /// 30 seconds.
    pub FETCH_MS_DEFAULT: u64 = 30_000, "ms", "one call of `http_fetch`, redirects and body included", Some("`timeout_ms` in `[gate.http_fetch]`"),
        "gates/tests/http.rs::time_is_bounded";
    /// 1 MiB. More text than a model reads of one page.
    pub FETCH_BODY_BYTES_DEFAULT: u64 = 1024 * 1024, "bytes", "what `http_fetch` returns of a body", Some("`body_bytes_max` in `[gate.http_fetch]`"),
        "gates/tests/http.rs::a_body_is_bounded_and_cut_between_characters";
    /// 5 redirects, as most clients have it.
    pub FETCH_REDIRECTS_DEFAULT: u32 = 5, "redirects", "how many redirects `http_fetch` follows", Some("`redirects_max` in `[gate.http_fetch]`"),
        "gates/tests/http.rs::redirects_are_followed_and_judged_again";
    /// 16 addresses of one name are tried.
    pub ADDRESSES_TRIED_MAX: usize = 16, "addresses", "how many addresses of one name `http_fetch` tries", None,
        "gates/src/http/resolver.rs::a_name_with_addresses_without_end_costs_no_more_than_a_few";
    /// 4 096 bytes. `PATH_MAX` of Linux.
    pub PATH_BYTES_MAX: usize = 4_096, "bytes", "a path that a file gate is given", None,
        "gates/tests/files.rs::what_cannot_be_a_path_is_refused_by_every_gate";
    /// 255 bytes. `NAME_MAX` of every common file system.
    pub COMPONENT_BYTES_MAX: usize = 255, "bytes", "one name in such a path", None,
        "gates/tests/files.rs::what_cannot_be_a_path_is_refused_by_every_gate";
    /// 200 characters of a path in an error.
    pub PATH_SHOWN_CHARS_MAX: usize = 200, "characters", "how much of a path an error shows", None,
        "gates/tests/limits.rs::a_path_is_shown_cut";
    /// 1 000 entries are compared for a "did you mean", so that a miss in a huge directory stays cheap.
    pub SUGGESTION_ENTRIES_MAX: usize = 1_000, "entries", "how many entries of a directory are compared for a hint", None,
        "gates/tests/limits.rs::a_hint_costs_no_more_in_a_huge_directory";
    /// 1 MiB. Most of a file that one call returns: more text than a model reads, little enough to hold for each of many
    /// entities.
    pub READ_BYTES_MAX: u64 = 1024 * 1024, "bytes", "what one call of `read_file` returns", None,
        "gates/tests/files.rs::a_large_file_is_refused_whole_and_read_in_parts";
    /// 10 000 entries. Bounds one listing to a few megabytes; a larger directory is searched, not listed.
    pub LIST_ENTRIES_MAX: usize = 10_000, "entries", "what one call of `list_dir` returns", None,
        "gates/tests/files.rs::a_huge_directory_is_refused";
    /// 10 MiB of content. Bounds what one call can put on the disk.
    pub WRITE_BYTES_MAX: usize = 10 * 1024 * 1024, "bytes", "what one call of `write_file` writes", None,
        "gates/tests/files.rs::content_is_bounded";
    /// 100 results, unless the call asks for another number.
    pub SEARCH_RESULTS_DEFAULT: u64 = 100, "results", "what one call of `search` returns", Some("the argument `max_results`, up to `SEARCH_RESULTS_MAX`"),
        "gates/tests/limits.rs::a_search_returns_a_hundred_results_where_no_more_are_asked_for";
    /// 1 000 results. More is a question to narrow, not an answer to read.
    pub SEARCH_RESULTS_MAX: u64 = 1_000, "results", "what one call of `search` can be asked for", None,
        "gates/tests/files.rs::a_search_keeps_its_bounds";
    /// 64 MiB read in one call.
    pub SEARCH_BYTES_MAX: u64 = 64 * 1024 * 1024, "bytes", "what one call of `search` reads", None,
        "gates/tests/files.rs::a_search_reads_so_many_bytes_and_no_more";
    /// 8 MiB. Larger files are data, not text to search, and are skipped.
    pub SEARCH_FILE_BYTES_MAX: u64 = 8 * 1024 * 1024, "bytes", "a file that `search` reads", None,
        "gates/tests/files.rs::a_search_reads_so_many_bytes_and_no_more";
    /// 100 000 entries looked at in one call.
    pub SEARCH_ENTRIES_MAX: u64 = 100_000, "entries", "how many files and directories one call of `search` looks at", None,
        "gates/src/builtin/search.rs::a_tree_with_more_entries_than_allowed_ends_the_search";
    /// 32 directories deep. Each level holds one open directory.
    pub SEARCH_DEPTH_MAX: usize = 32, "directories", "how deep `search` goes", None,
        "gates/tests/files.rs::a_search_keeps_its_bounds";
    /// 10 seconds, or the call's deadline if that is earlier.
    pub SEARCH_MS_MAX: u64 = 10_000, "ms", "one call of `search`", None,
        "gates/tests/files.rs::a_search_keeps_its_bounds";
    /// 500 characters of a matching line are returned.
    pub SEARCH_LINE_CHARS_MAX: usize = 500, "characters", "how much of a line `search` shows", None,
        "gates/tests/files.rs::a_search_reads_so_many_bytes_and_no_more";
    /// 1 024 bytes of `pattern` and of `glob`.
    pub SEARCH_EXPRESSION_BYTES_MAX: usize = 1_024, "bytes", "the text of `pattern` and of `glob`", None,
        "gates/tests/limits.rs::a_search_takes_short_expressions";
    /// 100. Most entries that one call of `read_loom` returns.
    pub LOOM_ENTRIES_MAX: u64 = 100, "entries", "what one call of `read_loom` returns", None,
        "gates/tests/limits.rs::a_page_of_the_loom_is_bounded";
    /// 4 MiB of JSON text. Bounds one result of one call where the runtime sets nothing narrower; it fits a full directory
    /// listing of the built-in gates.
    pub OUTPUT_BYTES_MAX_DEFAULT: u64 = 4 * 1024 * 1024, "bytes", "the result of one gate call", None,
        "gates/tests/limits.rs::a_result_is_bounded_whatever_the_policy_allows";
    /// 40 characters. Enough to recognise a value, too little to carry one.
    pub QUOTED_CHARS_MAX: usize = 40, "characters", "how much of a wrong value an error quotes", None,
        "gates/tests/limits.rs::a_word_of_a_stranger_is_quoted_cut_and_compared_only_while_short";
    /// 64 characters. Longer words are not compared: the cost of a comparison grows with the product of the lengths.
    pub COMPARED_CHARS_MAX: usize = 64, "characters", "a word that is compared for a hint", None,
        "gates/tests/limits.rs::a_word_of_a_stranger_is_quoted_cut_and_compared_only_while_short";
    /// 32 levels of a schema within a schema.
    pub SCHEMA_DEPTH_MAX: usize = 32, "levels", "a schema within a schema", None,
        "gates/tests/limits.rs::a_schema_is_bounded_in_depth_and_in_what_its_patterns_cost";
    /// 256 KiB of compiled `pattern`.
    pub SCHEMA_ONE_PATTERN_BYTES_MAX: usize = 256 * 1024, "bytes", "a compiled `pattern` of a schema", None,
        "gates/tests/limits.rs::a_schema_is_bounded_in_depth_and_in_what_its_patterns_cost";
    /// 1 024 patterns. Bounds the work of matching and meeting lists that a stranger wrote.
    pub HOST_PATTERNS_MAX: usize = 1_024, "patterns", "how many hosts one list names", None,
        "gates/src/hosts.rs::what_is_no_pattern_is_refused";
    /// 64 characters. The tightest limit among the model providers that take tool names, so that every gate can be
    /// presented as a tool.
    pub GATE_NAME_CHARS_MAX: usize = 64, "characters", "the name of a gate", None,
        "gates/src/name.rs::what_is_not_an_identifier_is_refused_and_named";
    /// 256 entries of the list form, and names in one allow-list. Bounds what a stranger's proposal makes us hold.
    pub WARD_ENTRIES_MAX: usize = 256, "entries", "the wards of one list, and the names of one allow-list", None,
        "gates/src/wards/parse.rs::other_shapes_are_refused";
    /// One level: an entity may cast children, its children may not. Deeper trees are asked for.
    pub MAX_DEPTH_DEFAULT: u64 = 1, "levels", "children below a root", Some("the ward `max_depth`"),
        "tests/hostile_input/limits/wards.rs::children_of_children_have_to_be_asked_for";
    /// 10 000 calls. Far above what a useful entity makes; ends `while (true) gate()`.
    pub MAX_GATE_CALLS_DEFAULT: u64 = 10_000, "calls", "gate calls of an entity and its children", Some("the ward `max_gate_calls`"),
        "tests/hostile_input/limits/wards.rs::gate_calls_end_where_no_ward_is_set";
    /// 1 000 children. Ends a loop of delegation long before it is expensive.
    pub MAX_CHILDREN_DEFAULT: u64 = 1_000, "children", "children of one entity, with those that they cast", Some("the ward `max_children`"),
        "tests/hostile_input/limits/wards.rs::children_end_where_no_ward_is_set";
    /// 8 at the same time. Bounds the model calls one entity has in flight.
    pub MAX_CONCURRENT_CHILDREN_DEFAULT: u64 = 8, "children", "children of one entity that run at the same time", Some("the ward `max_concurrent_children`"),
        "tests/hostile_input/limits/wards.rs::eight_children_run_at_once_where_no_ward_is_set";
    /// 50 requests. Bounds the memory one batch call can ask for.
    pub MAX_BATCH_SIZE_DEFAULT: u64 = 50, "requests", "one call of `call_entity_batch`", Some("the ward `max_batch_size`"),
        "tests/hostile.rs::recursion";
    /// 30 seconds. Bounds one evaluation, so a runaway script is noticed while a person still watches.
    pub MAX_EVAL_MS_DEFAULT: u64 = 30_000, "ms", "one evaluation of code, without what it waits for gates", Some("the ward `max_eval_ms`"),
        "tests/sandbox.rs::an_infinite_loop_is_stopped_by_its_ward_and_the_entity_goes_on";
    /// 64 MiB. Thousands of entities fit one machine; an interpreter with a large file in hand fits the bound.
    pub MAX_MEMORY_BYTES_DEFAULT: u64 = 64 * 1024 * 1024, "bytes", "the memory of one medium", Some("the ward `max_memory_bytes`"),
        "tests/sandbox.rs::memory_bombs_end_and_the_entity_goes_on";
    /// 50 000 bytes. More than a model can use of one observation.
    pub MAX_OUTPUT_BYTES_DEFAULT: u64 = 50_000, "bytes", "what is kept of the output of one turn", Some("the ward `max_output_bytes`"),
        "tests/sandbox.rs::an_output_bomb_is_cut_at_its_ward";
    /// 256 bytes. A longer text does not stand for a secret, it is one.
    pub PLACEHOLDER_BYTES_MAX: usize = 256, "bytes", "a text that can stand for a secret, such as `***`", None,
        "gates/tests/limits.rs::a_long_text_stands_for_no_secret_it_is_one";
    /// 256 bytes.
    pub REDACTION_FRONT_BYTES_MAX: usize = 256, "bytes", "what is looked at behind a value to judge it", None,
        "gates/tests/walked.rs::redaction_takes_steps_in_proportion_to_the_text";
    /// 64 names of a path are looked up for a "did you mean": each look walks from the root.
    pub SUGGESTION_NAMES_MAX: usize = 64, "names", "how deep a hint for a path is looked for", None,
        "gates/tests/limits.rs::a_hint_is_not_looked_for_at_any_depth";
    /// 40 symbolic links on one way, as the kernel has it.
    pub PATH_LINKS_MAX: usize = 40, "links", "how many symbolic links the path of a file that is written leads over", None,
        "gates/tests/limits.rs::a_way_leads_over_a_bounded_number_of_links";
    /// 64 characters. What has a name for people has a shorter one.
    pub NAMED_CHARS_MAX: usize = 64, "characters", "how much of a name an error shows", None,
        "gates/tests/schemas.rs::an_error_quotes_little_of_what_came";
    /// 32 names.
    pub NAMES_LISTED_MAX: usize = 32, "names", "how many names an error lists", None,
        "gates/tests/schemas.rs::an_error_quotes_little_of_what_came";
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
