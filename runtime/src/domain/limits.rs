//! Every limit of the runtime, with its unit: what a guest, a model, a peer, a file or a person can make it spend.
//!
//! Adapters and the driver take their numbers from here. A new limit is one line more, and a test that hits it.

use cantrip_gates::limits::Limit;

/// Every limit there is, those of gates included.
pub fn all() -> impl Iterator<Item = &'static Limit> {
    cantrip_gates::limits::ALL.iter().chain(ALL)
}

cantrip_gates::limits! {
    /// 1 MiB. Bounds what is read and kept of what a user trusts: some thousand files.
    pub TRUST_FILE_BYTES_MAX: u64 = 1024 * 1024, "bytes", "the file of what is trusted", None,
        "tests/hostile_input/configuration.rs::a_trust_file_that_is_too_long_is_refused";
    /// 200 lines. Nobody reads a longer question before saying yes.
    pub REACHES_MAX: usize = 200, "reaches", "what one file may be trusted with", None,
        "tests/hostile_input/found.rs::a_file_that_reaches_more_than_a_person_reads_is_refused";
    /// 16 bytes. Bounds what is read of an answer to a question of yes or no.
    pub ANSWER_BYTES_MAX: u64 = 16, "bytes", "an answer of yes or no", None,
        "tests/hostile_input/workspace.rs::a_person_at_the_terminal_is_asked_once";
    /// 500 characters: more than a line of a terminal, less than an answer.
    pub EVENT_PREVIEW_CHARS: usize = 500, "characters", "how much of a result or an observation an event shows", None,
        "tests/hostile_input/texts.rs::an_event_costs_what_it_shows";
    /// 512 gates: more than any model is shown.
    pub CIRCLE_GATES_MAX: usize = 512, "gates", "how many gates one circle holds", None,
        "tests/hostile_input/texts.rs::a_circle_holds_a_bounded_number_of_gates";
    /// 16 KiB: code as a model writes it, whole; redacted in about a millisecond.
    pub EVENT_BYTES_MAX: usize = 16 * 1024, "bytes", "how much code, arguments or answer an event shows", None,
        "tests/hostile_input/texts.rs::an_event_costs_what_it_shows";
    /// Values of one JSON text. With strings aside, a value takes about 100 bytes, so a text takes 10 MB at most.
    pub JSON_VALUES_MAX: u64 = 100_000, "values", "one JSON text of a guest, a model, a peer or a record", None,
        "runtime/src/domain/json.rs::json_is_counted_while_it_is_parsed";
    /// What `serde_json` goes down by itself.
    pub JSON_DEPTH_MAX: usize = 127, "levels", "one JSON text, arrays and objects in each other", None,
        "runtime/src/domain/json.rs::json_that_is_nested_deeply_is_refused_and_not_recursed_into";
    /// A failure, a summary or a reason in an entry: as long as a text may be that is not kept beside its entry.
    pub INLINE_TEXT_BYTES_MAX: usize = 16 * 1024, "bytes", "a failure, a summary or a reason in an entry", None,
        "runtime/src/domain/short.rs::long_texts_are_cut_where_they_are_made";
    /// Longer than any name that a gate or a model has.
    pub INLINE_NAME_BYTES_MAX: usize = 256, "bytes", "the name of a gate or a model, as a model, a guest or a provider says it", None,
        "runtime/src/domain/short.rs::long_texts_are_cut_where_they_are_made";
    /// Providers' ids have 30 to 60 bytes.
    pub CALL_ID_BYTES_MAX: usize = 128, "bytes", "the id of a call", None,
        "runtime/src/domain/short.rs::long_call_ids_are_shortened_and_stay_distinct";
    /// Texts in one entry together; what is more is kept beside it. With the calls and gate calls of a turn at their limits, an
    /// entry stays below 1 MiB.
    pub INLINE_SUM_BYTES_MAX: usize = 128 * 1024, "bytes", "the texts in one entry together; more are kept beside it", None,
        "tests/hostile_input/record.rs::no_input_of_any_port_makes_an_entry_too_large";
    /// Calls in one answer of a model; the model is told of those that are left out.
    pub ANSWER_CALLS_MAX: usize = 256, "calls", "one answer of a model", None,
        "tests/hostile_input/record.rs::an_answer_with_too_many_calls_runs_the_first_and_says_so";
    /// Gate calls of the code of one turn: where the clock stood at each is in the observation, 9 bytes each.
    pub TURN_GATE_CALLS_MAX: usize = 50_000, "gate calls", "the code of one turn, or one call of a guest", None,
        "tests/hostile_input/record.rs::a_flood_of_gate_calls_is_stopped_before_its_record_is_too_large";
    /// Blocks of an archive that wait for others: one stretch of a log and its texts, or what is out of order.
    pub ARCHIVE_HELD_BYTES_MAX: usize = 256 * 1024 * 1024, "bytes", "blocks of an archive that wait for what they belong to", None,
        "runtime/src/export/car_tests.rs::blocks_that_nothing_names_are_not_gathered_without_end";
    /// Turns of all threads of one export, those that forks repeat counted each time. With some KiB each they fit into memory.
    pub TRAJECTORY_TURNS_MAX: u64 = 200_000, "turns", "the threads of one Parquet export; of more, each thread has its newest turns", None,
        "tests/hostile_input/record.rs::a_long_chain_of_forks_is_shown_verified_and_exported";
    /// An answer's text is bounded at 16 MiB; on the wire each piece of it has an event around it.
    pub PROVIDER_BODY_BYTES_MAX: usize = 64 * 1024 * 1024, "bytes", "one answer of a model's provider, as it is on the wire", None,
        "tests/hostile_input/providers.rs::an_answer_that_does_not_end_is_cut";
    /// One event, or one line: some providers send a whole call in one.
    pub PROVIDER_LINE_BYTES_MAX: usize = 8 * 1024 * 1024, "bytes", "one line of an answer of a model's provider", None,
        "tests/hostile_input/providers.rs::a_line_without_an_end_is_cut";
    /// A refusal's words are cut to 500 characters afterwards.
    pub PROVIDER_REFUSAL_BYTES_MAX: usize = 64 * 1024, "bytes", "what a model's provider says with a refusal", None,
        "tests/hostile_input/providers.rs::a_refusal_of_any_length_is_told_by_its_beginning";
    /// What an entity is made of. Identity, gates and wards of honest cantrips have some KiB.
    pub OPENED_BYTES_MAX: usize = 512 * 1024, "bytes", "identity, gates and wards of an entity together", None,
        "tests/hostile_input/record.rs::an_entity_that_cannot_be_recorded_is_refused_before_it_is_opened";
    /// 8 KiB. Bounds what one event writes to the log: a peer's text can be in it.
    pub LOG_LINE_BYTES_MAX: usize = 8 * 1024, "bytes", "one line of the log", None,
        "runtime/src/cli/output.rs::an_event_of_the_log_is_one_bounded_line";
    /// 64 columns. Bounds how far a view is indented: an archive can say any depth.
    pub INDENT_DEPTH_MAX: u32 = 32, "levels", "how far a turn is indented", None,
        "runtime/src/cli/show.rs::a_depth_that_an_archive_made_up_costs_nothing";
}
