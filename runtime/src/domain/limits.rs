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
}
