//! What a model, or a server in its place, can make a node spend.

cantrip_gates::limits! {
    list MODEL;
    /// 10 s. A provider that takes longer to accept a connection is down.
    pub MODEL_CONNECT_MS_MAX: u64 = 10_000, "ms", "how long a connection to a provider takes", None,
        "tests/hostile_input/limits/models.rs::who_takes_no_connection_is_given_up_after_ten_seconds";
    /// Two minutes without a byte, before the answer or inside of it: a model on the user's own machine reads a long prompt for
    /// a minute or two before its first word. `idle_timeout_ms` in the cantrip file changes it.
    pub MODEL_IDLE_MS_DEFAULT: u64 = 120_000, "ms", "how long a provider says nothing", Some("`idle_timeout_ms` in `[llm]` and `[models.NAME]`"),
        "tests/hostile_input/limits/models.rs::a_model_that_says_nothing_is_given_up_after_two_minutes";
    /// 16 MiB. Bounds the text, reasoning and arguments of one answer; the longest answers of today's models are under 1 MiB.
    pub MODEL_ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024, "bytes", "one answer of a model", None,
        "tests/hostile_input/limits/models.rs::an_answer_without_end_is_given_up";
    /// 500 characters of what a provider said: enough for every provider's own messages, too little for a page of HTML.
    pub FAILURE_CHARS_MAX: usize = 500, "characters", "what is shown of why a provider refused", None,
        "runtime/src/adapters/llm/failure.rs::no_key_and_no_page_of_text_gets_out";
    /// 64 MiB. Bounds a script that is read from a file.
    pub SCRIPT_BYTES_MAX: u64 = 64 * 1024 * 1024, "bytes", "the script of a scripted model", None,
        "tests/hostile_input/limits/models.rs::a_script_without_end_is_not_read";
    /// 64 KiB. Bounds the head of a request.
    pub REPLIES_HEAD_BYTES_MAX: usize = 64 * 1024, "bytes", "the head of a request to the server of replies", None,
        "runtime/src/adapters/llm/replay.rs::a_request_without_end_is_not_read";
    /// 64 MiB. Bounds the body of a request: a conversation that fills any context is smaller.
    pub REPLIES_BODY_BYTES_MAX: usize = 64 * 1024 * 1024, "bytes", "the body of such a request", None,
        "runtime/src/adapters/llm/replay.rs::a_request_without_end_is_not_read";
    /// 2. Where a provider cannot force a call, the model is reminded this often before its text is taken as it is (LLM-5).
    pub MODEL_REMINDERS_MAX: u32 = 2, "reminders", "how often a model that has to call something is told so", None,
        "tests/hostile_input/limits/models.rs::a_model_that_only_talks_is_reminded_twice";
    /// How much of a call or of an answer a mechanical summary keeps, in characters.
    pub SUMMARY_CHARS_MAX: usize = 160, "characters", "what a mechanical summary keeps of one call or answer", None,
        "tests/entity.rs::prod_4_a_summary_keeps_the_beginning_of_what_was_said";
    /// 64 KiB. Bounds the head of a question.
    pub QUESTION_HEAD_BYTES_MAX: usize = 64 * 1024, "bytes", "the head of a question on its way to a provider", None,
        "runtime/src/adapters/llm/relay.rs::what_is_asked_is_bounded";
    /// 256 MiB. Bounds a question: a conversation that fills any context is smaller.
    pub QUESTION_BYTES_MAX: usize = 256 * 1024 * 1024, "bytes", "a question on its way to a provider", None,
        "runtime/src/adapters/llm/relay.rs::what_is_asked_is_bounded";
    /// 10 s. A refusal that takes longer to say is cut there.
    pub PROVIDER_REFUSAL_MS_MAX: u64 = 10_000, "ms", "how long a provider says why it refuses", None,
        "tests/hostile_input/limits/models.rs::a_refusal_that_is_never_finished_is_cut_after_ten_seconds";
    /// Calls in one answer of a model; the model is told of those that are left out.
    pub ANSWER_CALLS_MAX: usize = 256, "calls", "one answer of a model", None,
        "tests/hostile_input/record.rs::an_answer_with_too_many_calls_runs_the_first_and_says_so";
    /// An answer's text is bounded at 16 MiB; on the wire each piece of it has an event around it.
    pub PROVIDER_BODY_BYTES_MAX: usize = 64 * 1024 * 1024, "bytes", "one answer of a model's provider, as it is on the wire", None,
        "tests/hostile_input/providers.rs::an_answer_that_does_not_end_is_cut";
    /// 4 MiB. One event, or one line: some providers send a whole call in one, or repeat the whole answer and its tools at the end.
    pub PROVIDER_LINE_BYTES_MAX: usize = 4 * 1024 * 1024, "bytes", "one event or line of an answer of a model's provider", None,
        "tests/hostile_input/providers.rs::a_line_without_an_end_is_cut";
    /// 16 MiB. Events above 64 KiB are copied for each piece of them that is read, so there are few of them: as much as one answer.
    pub PROVIDER_LARGE_BYTES_MAX: usize = 16 * 1024 * 1024, "bytes", "events of more than 64 KiB in one answer of a model's provider", None,
        "runtime/src/adapters/llm/framing.rs::what_waits_of_a_stream_is_bounded";
    /// 64 KiB. The longest ids, of which some hold a signature, have a few KiB.
    pub PROVIDER_CALL_NAME_BYTES_MAX: usize = 64 * 1024, "bytes", "the id, or the name, of a call in an answer of a model's provider", None,
        "runtime/src/adapters/llm/framing.rs::what_waits_of_a_stream_is_bounded";
    /// A refusal's words are cut to 500 characters afterwards.
    pub PROVIDER_REFUSAL_BYTES_MAX: usize = 64 * 1024, "bytes", "what a model's provider says with a refusal", None,
        "tests/hostile_input/providers.rs::a_refusal_of_any_length_is_told_by_its_beginning";
}
