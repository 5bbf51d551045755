//! What a file that a person wrote, or a person, can make a command spend.

cantrip_gates::limits! {
    list FILE;
    /// 1 MiB. Nobody writes a longer cantrip file by hand.
    pub CANTRIP_FILE_BYTES_MAX: u64 = 1024 * 1024, "bytes", "a cantrip file or a node file", None,
        "tests/hostile_input/limits/files.rs::a_cantrip_file_is_bounded";
    /// 1 MiB. A key, a certificate or a note beside the record has some KiB.
    pub NOTE_BYTES_MAX: u64 = 1024 * 1024, "bytes", "a key, a certificate, a signature or a note beside the record", None,
        "tests/hostile_input/limits/files.rs::a_key_and_a_certificate_are_bounded";
    /// 64 MiB. A node that keeps ten thousand looms writes some MiB of it.
    pub STATUS_BYTES_MAX: u64 = 64 * 1024 * 1024, "bytes", "what a node writes down of how far copies are", None,
        "tests/hostile_input/limits/files.rs::how_far_copies_are_is_read_up_to_a_bound";
    /// 1 GiB. Compiled code is some ten times as long as what it was compiled from; a longer file is not looked at.
    pub ARTEFACT_BYTES_MAX: u64 = 1024 * 1024 * 1024, "bytes", "compiled code that is kept", None,
        "runtime/src/adapters/wasm/artefacts.rs::an_artefact_that_is_no_file_or_too_long_is_compiled_again";
    /// 4 MiB. The published suite has 46 KB.
    pub SUITE_BYTES_MAX: u64 = 4 * 1024 * 1024, "bytes", "a suite of conformance cases", None,
        "tests/hostile_input/limits/files.rs::a_suite_is_bounded";
    /// How much of a line is shown.
    pub PROGRESS_LINE_CHARS_MAX: usize = 160, "characters", "what a line of progress shows", None,
        "tests/hostile_input/limits/persons.rs::a_line_of_progress_is_cut";
    /// 256. What is said into an episode waits for its next turn boundary; more than that is no conversation.
    pub STEERS_WAITING_MAX: usize = 256, "messages", "what is said into an episode and not heard yet", None,
        "tests/hostile_input/limits/persons.rs::what_is_said_into_an_episode_waits_up_to_a_bound";
    /// 1 MiB. Bounds what is read and kept of what a user trusts: some thousand files.
    pub TRUST_FILE_BYTES_MAX: u64 = 1024 * 1024, "bytes", "the file of what is trusted", None,
        "tests/hostile_input/configuration.rs::a_trust_file_that_is_too_long_is_refused";
    /// 200 lines. Nobody reads a longer question before saying yes.
    pub REACHES_MAX: usize = 200, "reaches", "what one file may be trusted with", None,
        "tests/hostile_input/found.rs::a_file_that_reaches_more_than_a_person_reads_is_refused";
    /// 16 KiB, 200 lines of a terminal. A name of any length would push what matters out of sight, and the question with it.
    pub STATEMENT_BYTES_MAX: usize = 16 * 1024, "bytes", "the words that say what one file reaches", None,
        "tests/hostile_input/found.rs::a_statement_that_is_longer_than_a_person_reads_is_refused";
    /// 16 bytes. Bounds what is read of an answer to a question of yes or no.
    pub CONFIRMATION_BYTES_MAX: u64 = 16, "bytes", "an answer of yes or no", None,
        "tests/hostile_input/workspace.rs::a_person_at_the_terminal_is_asked_once";
    /// 8 KiB. Bounds what one event writes to the log: a peer's text can be in it.
    pub LOG_LINE_BYTES_MAX: usize = 8 * 1024, "bytes", "one line of the log", None,
        "runtime/src/cli/output.rs::an_event_of_the_log_is_one_bounded_line";
    /// 64 columns. Bounds how far a view is indented: an archive can say any depth.
    pub INDENT_DEPTH_MAX: u32 = 32, "levels", "how far a turn is indented", None,
        "runtime/src/cli/show.rs::a_depth_that_an_archive_made_up_costs_nothing";
}
