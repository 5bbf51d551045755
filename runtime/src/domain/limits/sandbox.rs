//! What code, a guest and what they do can make a node spend.

cantrip_gates::limits! {
    list SANDBOX;
    /// 4 000. The ceiling of live instances is the kernel's 65 530 mappings for a process, at about three for an instance
    /// (measured: a pool ends near 13 000); what is refused below it is refused with a clear error.
    pub INSTANCES_MAX_DEFAULT: u32 = 4_000, "instances", "media of the runtime itself that live at once in a process", None,
        "tests/hostile_input/limits/sandbox.rs::instances_are_bounded_and_the_one_too_many_is_told_what_to_do";
    /// 256 MiB. The most that `max_memory_bytes` can give to one instance.
    pub MEMORY_BYTES_MAX: u64 = 256 * 1024 * 1024, "bytes", "what the ward `max_memory_bytes` can give to one medium", None,
        "tests/hostile_input/limits/sandbox.rs::memory_is_bounded_whatever_the_ward_says";
    /// 1 MiB of wasm frames: the interpreter stops its own recursion at less, as an error that code can catch.
    pub WASM_STACK_BYTES_MAX: usize = 1024 * 1024, "bytes", "the stack of code in the sandbox", None,
        "tests/hostile.rs::stack";
    /// 1 MiB. What the engine keeps of an instance beside its memory.
    pub INSTANCE_BYTES_MAX: usize = 1024 * 1024, "bytes", "what the engine keeps of one instance beside its memory", None,
        "tests/hostile_input/limits/sandbox.rs::what_the_engine_keeps_of_an_instance_is_bounded";
    /// 1 000. How many guests live at once; each has its own memories and up to a hundred core instances.
    pub GUEST_INSTANCES_MAX: u32 = 1_000, "guests", "guests that live at once in a process", None,
        "tests/hostile_input/limits/sandbox.rs::guests_that_live_at_once_are_bounded";
    /// 128. Python's linked libraries are about 30 core instances.
    pub GUEST_PARTS_MAX: u32 = 128, "instances", "core instances of one guest", None,
        "tests/hostile.rs::instances";
    /// 100 000 elements: an interpreter has about 20 000 functions in its table.
    pub GUEST_TABLE_ELEMENTS_MAX: usize = 100_000, "elements", "all tables of one guest together", None,
        "tests/hostile.rs::tables";
    /// 512. Resources of the host that a guest holds at once: streams, pollables, readers, cantrips.
    pub GUEST_RESOURCES_MAX: usize = 512, "resources", "streams, readers and other things of the host that one guest holds", None,
        "tests/hostile.rs::resources";
    /// 250 ms. After `done` a guest may return from where it stands; then it is stopped.
    pub GUEST_AFTER_DONE_MS_MAX: u64 = 250, "ms", "how long a guest runs on after `done`", None,
        "tests/hostile.rs::spin_after_done";
    /// 256 bytes. No gate has a longer name.
    pub CALLED_NAME_BYTES_MAX: usize = 256, "bytes", "the name of a gate that is called", None,
        "tests/hostile.rs::name_is_long";
    /// 16 MiB. What a guest can make the host copy in one call.
    pub HOSTCALL_BYTES_MAX: usize = 16 * 1024 * 1024, "bytes", "what a guest has the host copy in one call", None,
        "tests/hostile.rs::large_answer";
    /// 64 KiB. Bounds one allocation of random bytes.
    pub RANDOM_BYTES_MAX: u64 = 64 * 1024, "bytes", "random bytes that a guest is given in one call", None,
        "tests/hostile_input/limits/sandbox.rs::random_bytes_are_bounded_in_one_call";
    /// 64 MiB. A Python guest with its interpreter has about 18 MiB; what is larger is no guest.
    pub GUEST_BYTES_MAX: u64 = 64 * 1024 * 1024, "bytes", "a component", None,
        "tests/hostile.rs::bytes_that_are_no_guest_are_not_taken";
    /// 100 000 functions: the compiler takes some KiB for each. Python with its libraries has 13 500.
    pub GUEST_FUNCTIONS_MAX: u64 = 100_000, "functions", "the functions of a component", None,
        "runtime/src/adapters/wasm/guest/bulk.rs::what_takes_much_to_compile_is_refused";
    /// 4 million: each branch of a function times the locals that may live across it, each call times its values, and four for each
    /// pair of loops. The interpreter loop of Python has 365 000; at 90 million the compiler takes 1.2 GB and 40 s.
    pub GUEST_FUNCTION_VALUES_MAX: u64 = 4_000_000, "values", "the branches of one function of a component, times its locals", None,
        "runtime/src/adapters/wasm/guest/bulk.rs::what_takes_much_to_compile_is_refused";
    /// 200 million, the same of all functions. Python with its libraries has 17 million.
    pub GUEST_BRANCH_VALUES_MAX: u64 = 200_000_000, "values", "the branches of all functions of a component, times their locals", None,
        "runtime/src/adapters/wasm/guest/bulk.rs::what_takes_much_to_compile_is_refused";
    /// 64. Longest name of a guest, in characters.
    pub GUEST_NAME_CHARS_MAX: usize = 64, "characters", "the name of a guest", None,
        "tests/hostile_input/limits/sandbox.rs::the_name_of_a_guest_is_bounded";
    /// 16 MiB. One gate call's arguments, as JSON; more is refused as an error that code can catch.
    pub CALL_ARGUMENTS_BYTES_MAX: usize = 16 * 1024 * 1024, "bytes", "the arguments of one gate call of code, as JSON", None,
        "tests/hostile_input/limits/sandbox.rs::arguments_of_a_call_are_bounded";
    /// 16 MiB. The longest source that is taken.
    pub SOURCE_BYTES_MAX: usize = 16 * 1024 * 1024, "bytes", "the code of one turn", None,
        "tests/hostile_input/limits/sandbox.rs::a_source_is_bounded";
    /// 500 characters of what the sandbox says help; a guest can make it say more.
    pub TRAP_CHARS_MAX: usize = 500, "characters", "what is kept of why the sandbox ended code", None,
        "runtime/src/adapters/wasm/trapped.rs::what_the_sandbox_says_is_cut";
    /// 2 000 characters. Enough to see the shape of a value; more is a `slice` away for the code.
    pub VALUE_CHARS_MAX: usize = 2_000, "characters", "what the model is shown of one value", None,
        "tests/hostile_input/limits/sandbox.rs::what_an_entity_is_shown_of_a_value_is_bounded";
    /// How many lines of a stack trace help.
    pub STACK_LINES_MAX: usize = 6, "lines", "what the model is shown of a stack trace", None,
        "tests/hostile_input/limits/sandbox.rs::what_an_entity_is_shown_of_a_value_is_bounded";
    /// 64 refusals. Code that calls refused gates in a loop would fill the record with its refusals; the observation counts the rest.
    /// Nothing is answered after them, so that a replay, which has the recorded answers alone, goes as the first run did.
    pub REFUSALS_RECORDED_MAX: u64 = 64, "refusals", "refused calls of one turn that are recorded and answered", None,
        "tests/entity.rs::refusals_are_recorded_up_to_a_bound_and_counted_beyond";
    /// 1 000 refusals. A guest that was refused so often is ended: a program that does not look at its answers does nothing else.
    pub GUEST_REFUSALS_MAX: u64 = 1_000, "refusals", "refused calls after which a guest is ended", None,
        "tests/hostile.rs::flood_of_gates";
    /// 32. So many snapshots are read at most to have one: then all pages are named again.
    pub SNAPSHOT_CHAIN_MAX: u32 = 32, "snapshots", "how many snapshots are read for one memory", None,
        "runtime/src/driver/snapshot.rs::an_image_is_not_put_together_from_snapshots_without_end";
    /// 16 000 pages, 64 MiB. An entry that names more would be too long.
    pub SNAPSHOT_PAGES_MAX: usize = 16_000, "pages", "the pages of memory in one snapshot", None,
        "runtime/src/driver/snapshot.rs::a_memory_with_more_pages_than_an_entry_can_name_is_not_recorded";
    /// 128 MiB of images are kept at hand, each counted as if it shared nothing.
    pub IMAGES_BYTES_MAX: usize = 128 * 1024 * 1024, "bytes", "memories of media that are kept at hand", None,
        "runtime/src/driver/snapshot.rs::images_at_hand_are_bounded_and_the_oldest_goes";
    /// 10 minutes. The first run was bounded by its wards; a replay on a slower machine must not stop earlier than it did.
    pub REPLAY_MS_MAX: u64 = 600_000, "ms", "how long the code of one turn takes when it is run again", None,
        "runtime/src/driver/replay.rs::code_that_is_run_again_ends_after_ten_minutes";
    /// 1 MiB. A turn that records more waits for the store in between, so that a flood of gate calls cannot fill memory.
    pub UNSYNCED_BYTES_MAX: u64 = 1024 * 1024, "bytes", "what one loom has on its way to the disk before a turn waits", None,
        "runtime/src/driver/recorder_tests.rs::a_turn_that_records_much_waits_for_the_store";
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
    /// Longer than any name that a gate or a model has.
    pub INLINE_NAME_BYTES_MAX: usize = 256, "bytes", "the name of a gate or a model, as a model, a guest or a provider says it", None,
        "runtime/src/domain/short.rs::long_texts_are_cut_where_they_are_made";
    /// Gate calls of the code of one turn: where the clock stood at each is in the observation, 9 bytes each.
    pub TURN_GATE_CALLS_MAX: usize = 50_000, "gate calls", "the code of one turn, or one call of a guest", None,
        "tests/hostile_input/record.rs::a_flood_of_gate_calls_is_stopped_before_its_record_is_too_large";
}
