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
    /// 128 connections shake hands at once: each has a file descriptor and some KiB of TLS.
    pub HANDSHAKES_MAX: usize = 128, "connections", "that shake hands at once", Some("limits.handshakes"),
        "runtime/src/adapters/peer/accept.rs::the_oldest_handshake_of_all_ends_where_too_many_addresses_shake_hands";
    /// 64 connections of one address shake hands at once; a whole rack behind one address starts at once with fewer.
    pub HANDSHAKES_PER_ADDRESS_MAX: usize = 64, "connections", "of one address that shake hands at once", Some("limits.handshakes_per_address"),
        "tests/hostile_input/peers.rs::connections_that_say_nothing_keep_no_peer_out";
    /// Five seconds: two round trips of the slowest line there is.
    pub HANDSHAKE_MS_MAX: u64 = 5_000, "ms", "a handshake may take", Some("limits.handshake_timeout_ms"),
        "tests/hostile_input/peers.rs::a_handshake_that_is_not_finished_is_ended";
    /// 64 connections that have shaken hands wait to be served.
    pub ACCEPTED_WAITING_MAX: usize = 64, "connections", "that have shaken hands wait to be served", None,
        "tests/hostile_input/peers.rs::connections_that_say_nothing_keep_no_peer_out";
    /// 512 connections of peers: half of the file descriptors that a process has where nobody raised them.
    pub CONNECTIONS_MAX: usize = 512, "connections", "of all peers that are open at once", Some("limits.connections"),
        "tests/hostile_input/peers.rs::connections_are_counted_for_each_peer_and_the_quiet_ones_go_first";
    /// 16 connections of one peer: a node makes one, and what broke is noticed after 20 seconds.
    pub CONNECTIONS_PER_PEER_MAX: usize = 16, "connections", "of one peer that are open at once", Some("limits.connections_per_peer"),
        "tests/hostile_input/peers.rs::connections_are_counted_for_each_peer_and_the_quiet_ones_go_first";
    /// 384 calls on one connection: the 64 casts that run for a peer, the 256 that wait, and some that ask.
    pub STREAMS_PER_CONNECTION_MAX: u32 = 384, "calls", "open on one connection at once", Some("limits.streams_per_connection"),
        "tests/hostile_input/peers.rs::a_connection_has_a_bounded_number_of_calls_open";
    /// Ten minutes without a call.
    pub CONNECTION_IDLE_MS: u64 = 600_000, "ms", "a connection without a call stays open", Some("limits.connection_idle_ms"),
        "tests/hostile_input/peers.rs::a_connection_without_a_call_is_closed";
    /// 16 connections on which nothing is said but the refusal.
    pub REFUSED_CONNECTIONS_MAX: usize = 16, "connections", "of callers that are not listed and are being told so", None,
        "tests/hostile_input/peers.rs::a_caller_that_is_not_listed_is_told_so_and_no_body_of_it_is_read";
    /// Two seconds: long enough for one call and its refusal.
    pub REFUSED_CONNECTION_MS: u64 = 2_000, "ms", "a connection of a caller that is not listed lives", None,
        "tests/hostile_input/peers.rs::a_caller_that_is_not_listed_is_told_so_and_no_body_of_it_is_read";
    /// 512 KiB: a first call with as much of its body as a stream's window lets through.
    pub REFUSED_CONNECTION_BYTES_MAX: usize = 512 * 1024, "bytes", "read of a caller that is not listed", None,
        "tests/hostile_input/peers.rs::a_caller_that_is_not_listed_is_told_so_and_no_body_of_it_is_read";
    /// 16 KiB of headers: a call of ours has less than one.
    pub HEADER_BYTES_MAX: u32 = 16 * 1024, "bytes", "of the headers of one call", None,
        "tests/hostile_input/peers.rs::headers_of_a_call_are_bounded";
    /// 20 calls that were reset before they were looked at; then the connection ends.
    pub PENDING_RESETS_MAX: usize = 20, "calls", "that were reset before they were looked at", None,
        "tests/hostile_input/peers.rs::a_connection_that_resets_its_calls_is_ended";
    /// 64 KiB: smaller messages are bounded by the number of calls.
    pub MESSAGE_BYTES_UNCOUNTED_MAX: usize = 64 * 1024, "bytes", "of a message that is received without waiting for room", None,
        "tests/hostile_input/peers.rs::large_messages_of_one_peer_come_through_one_after_the_other";
    /// 32 MiB: four messages of the largest size there is.
    pub MESSAGE_BYTES_PER_PEER_MAX: usize = 32 * 1024 * 1024, "bytes", "of large messages of one peer that are received at once", Some("limits.message_bytes_per_peer"),
        "tests/hostile_input/peers.rs::large_messages_of_one_peer_come_through_one_after_the_other";
    /// 16 large messages of one connection wait for room: what they have sent already lies in the connection's window.
    pub MESSAGES_WAITING_MAX: usize = 16, "messages", "of one connection that wait for room", Some("limits.message_bytes_per_peer"),
        "tests/hostile_input/peers.rs::large_messages_of_one_peer_come_through_one_after_the_other";
    /// 1 000 sources and kinds of refusals, some hundred bytes each.
    pub REFUSAL_SOURCES_MAX: usize = 1_000, "sources", "whose refusals are counted apart for the log", None,
        "tests/hostile_input/peers.rs::refusals_cost_one_line_a_minute_and_bounded_memory";
    /// 64 nodes. More do not keep one loom.
    pub KEEPERS_MAX: usize = 64, "nodes", "that keep one loom", None,
        "tests/hostile_input/copies.rs::keepers_without_end_or_with_long_names_are_refused_before_they_are_kept";
    /// 1 MiB: a page of 64 keepers has less than 16 KiB.
    pub BOOK_PAGE_BYTES_MAX: u64 = 1024 * 1024, "bytes", "of one page of the book of copies", None,
        "tests/hostile_input/copies.rs::a_page_that_cannot_be_read_is_put_aside_and_stops_nothing";
    /// 10 000 looms: each has a file and some KiB of memory, whether anything came of it or not.
    pub LOOMS_PER_PEER_MAX: usize = 10_000, "looms", "that one peer has kept here", Some("peers.X.keep_max_looms"),
        "tests/hostile_input/copies.rs::looms_are_counted_for_each_peer_from_their_announcement_on";
    /// 10 000 logs of one loom, on both ends.
    pub WRITERS_MAX: usize = 10_000, "writers", "of one loom that are told and taken", None,
        "tests/hostile_input/copies.rs::writers_that_a_peer_brings_are_its_own_share";
    /// 1 000 logs of one loom from one peer: a tenth of what the loom may have, so that others still write.
    pub WRITERS_PER_PEER_MAX: usize = 1_000, "writers", "of one loom that one peer brings", None,
        "tests/hostile_input/copies.rs::writers_that_a_peer_brings_are_its_own_share";
    /// 4 KiB: the rows and the mark that a log of one entry takes on disk.
    pub LOG_COST_BYTES: u64 = 4 * 1024, "bytes", "that a new log counts beside its entries", Some("peers.X.keep_max_bytes"),
        "tests/hostile_input/copies.rs::a_log_and_an_entry_cost_more_than_their_bytes";
    /// 512 bytes: the index rows of an entry.
    pub ENTRY_COST_BYTES: u64 = 512, "bytes", "that an entry counts beside its own", Some("peers.X.keep_max_bytes"),
        "tests/hostile_input/copies.rs::a_log_and_an_entry_cost_more_than_their_bytes";
    /// 64 KiB: 1 024 ids and two heads have less.
    pub PROOF_BYTES_MAX: usize = 64 * 1024, "bytes", "of a proof that a writer signed two histories", None,
        "tests/hostile_input/copies.rs::a_proof_is_kept_only_of_a_writer_that_is_kept_here";
    /// 1 024 ids: as many as a segment has entries.
    pub PROOF_IDS_MAX: usize = 1_024, "entries", "that a proof leads over", None,
        "tests/hostile_input/copies.rs::a_proof_is_kept_only_of_a_writer_that_is_kept_here";
    /// 4 conversations: a node has one, and its clients have some.
    pub CONVERSATIONS_PER_PEER_MAX: usize = 4, "conversations", "about copies with one peer", None,
        "tests/hostile_input/copies.rs::a_peer_has_a_few_conversations_at_once";
    /// 64 MiB: ten thousand looms are told in less than ten.
    pub COPY_ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024, "bytes", "of answers about copies that wait for a peer to listen", None,
        "tests/hostile_input/copies.rs::a_peer_that_asks_and_does_not_listen_is_left";
    /// 4 MiB from one source, then it waits for the disk.
    pub TAKEN_BYTES_MAX: usize = 4 * 1024 * 1024, "bytes", "that a conversation takes before it waits for the disk", None,
        "tests/hostile_input/copies.rs::copies_wait_for_the_disk_and_never_fill_its_queue";
    /// 64 MiB: a quarter of the queue; the rest belongs to what this node writes itself.
    pub COPIES_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024, "bytes", "of the queue before the disk beyond which no copies are taken", None,
        "tests/hostile_input/copies.rs::copies_wait_for_the_disk_and_never_fill_its_queue";
    /// 1 000 characters: what a refusal says is a sentence or two.
    pub REFUSAL_CHARS_MAX: usize = 1_000, "characters", "of what a peer says of a refusal", None,
        "tests/hostile_input/copies.rs::keepers_without_end_or_with_long_names_are_refused_before_they_are_kept";
    /// 16 components that have not come whole.
    pub UPLOADS_PARTIAL_PER_PEER_MAX: usize = 16, "components", "of one peer that have not come whole", None,
        "runtime/src/adapters/peer/upload.rs::parts_that_nobody_finishes_are_bounded_and_go_after_a_day";
    /// 10 000 components: each has two files and compiled code.
    pub UPLOADS_KEPT_PER_PEER_MAX: usize = 10_000, "components", "that one peer has brought", None,
        "runtime/src/adapters/peer/upload.rs::components_are_counted_for_each_peer";
    /// One day: a broken upload goes on within it.
    pub UPLOAD_STALE_MS: u64 = 86_400_000, "ms", "a component that has not come whole is kept", None,
        "runtime/src/adapters/peer/upload.rs::parts_that_nobody_finishes_are_bounded_and_go_after_a_day";
    /// 1 MiB: four parts of a component.
    pub ANSWER_PARTS_BYTES_MAX: usize = 1024 * 1024, "bytes", "of an answer of a caller that wait for the one who asked", None,
        "runtime/src/driver/weighed.rs::a_queue_is_full_by_its_bytes_and_takes_one_that_is_larger_than_all_of_it";
    /// 1 MiB for each cast: four parts of a large text.
    pub OUT_WAITING_BYTES_MAX: usize = 1024 * 1024, "bytes", "of what a host says that wait for a slow caller, for each cast", None,
        "runtime/src/driver/weighed.rs::a_queue_is_full_by_its_bytes_and_takes_one_that_is_larger_than_all_of_it";
    /// 8 MiB: four segments.
    pub HEARD_WAITING_BYTES_MAX: usize = 8 * 1024 * 1024, "bytes", "of what a peer says of copies that wait to be taken", None,
        "runtime/src/driver/weighed.rs::a_queue_is_full_by_its_bytes_and_takes_one_that_is_larger_than_all_of_it";
    /// 1 024 texts that no entry has referred to yet; an entry refers to a few.
    pub NEAR_TEXTS_MAX: usize = 1_024, "texts", "that a host sent and no entry has referred to", None,
        "tests/hostile_input/peers.rs::a_host_that_asks_and_sends_without_end_is_left";
    /// 256 questions of one episode: a batch of children asks side by side.
    pub NEAR_QUESTIONS_MAX: usize = 256, "questions", "of a host that are open at once", None,
        "tests/hostile_input/peers.rs::a_host_that_asks_and_sends_without_end_is_left";
    /// 64 MiB of answers: the largest component.
    pub NEAR_ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024, "bytes", "of answers that are remembered for a host that asks again", None,
        "tests/hostile_input/peers.rs::a_host_that_asks_and_sends_without_end_is_left";
    /// 4 MiB of entries of one host, then the disk is waited for.
    pub NEAR_UNSYNCED_BYTES_MAX: usize = 4 * 1024 * 1024, "bytes", "of a host's entries that are taken before the disk is waited for", None,
        "tests/hostile_input/peers.rs::a_host_that_sends_entries_without_end_waits_for_the_disk";
    /// 10 000 entities, each with what its medium takes until it rests.
    pub HOSTED_MAX: usize = 10_000, "entities", "that are hosted in memory at once", None,
        "tests/hostile_input/hosting.rs::entities_that_wait_make_room_and_those_at_work_do_not";
    /// 1 000 entities of one caller: three times those that run and wait.
    pub HOSTED_PER_PEER_MAX: usize = 1_000, "entities", "of one caller that are hosted in memory at once", Some("peers.X.entities"),
        "tests/hostile_input/hosting.rs::entities_that_wait_make_room_and_those_at_work_do_not";
    /// 16 entities that are due: each opening adds one at most.
    pub LOOKED_AT_PER_OPENING_MAX: usize = 16, "entities", "that an opening looks at because they are due", None,
        "tests/hostile_input/hosting.rs::ended_casts_take_no_room_and_no_opening_walks_them";
}
