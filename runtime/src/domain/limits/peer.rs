//! What a peer, a host or a keeper can make a node spend.

cantrip_gates::limits! {
    list PEER;
    /// 64 MiB. Large texts that came and that no entry has referred to yet.
    pub UNREFERRED_TEXTS_BYTES_MAX: usize = 64 * 1024 * 1024, "bytes", "texts of a host that no entry refers to yet", None,
        "tests/hostile_input/peers.rs::a_host_that_sends_one_text_without_end_is_left";
    /// 64 MiB. A larger text is refused.
    pub COPY_TEXT_BYTES_MAX: usize = 64 * 1024 * 1024, "bytes", "one text of a loom that a keeper sends", None,
        "runtime/src/adapters/peer/sync.rs::a_text_of_a_keeper_is_bounded";
    /// 8 MiB. Bounds one message; what is larger travels in parts.
    pub MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024, "bytes", "one message of a peer; what is larger travels in parts", None,
        "tests/hostile_input/peers.rs::a_message_is_bounded";
    /// 1 000 looms, the newest first. Whatever is older waits for its caller.
    pub RESUMED_LOOMS_MAX: usize = 1_000, "looms", "looms that a node looks through at its start for what was cut off", None,
        "tests/hostile_input/limits/peers.rs::a_node_looks_through_so_many_looms_for_what_was_cut_off";
    /// 1 024 events wait for a slow caller; older ones are dropped, because events only show what is recorded anyway.
    pub EVENTS_WAITING_MAX: usize = 1_024, "events", "events that wait for a slow caller", None,
        "runtime/src/driver/line.rs::events_that_nobody_reads_are_dropped_the_oldest_first";
    /// 256 MiB. No cast records so much; a host that sends more is refused.
    pub RECEIVED_BYTES_MAX: u64 = 256 * 1024 * 1024, "bytes", "what a host may record of one cast", None,
        "runtime/src/driver/intake_tests.rs::a_host_cannot_send_without_end";
    /// 8 MiB. So much is on its way and not acknowledged: what the other side holds in memory is bounded.
    pub UNANSWERED_BYTES_MAX: usize = 8 * 1024 * 1024, "bytes", "what is on its way to a keeper and not acknowledged", None,
        "tests/copies/limits.rs::what_is_not_acknowledged_is_bounded";
    /// 60 s. So long a process waits for entries of its own that a keeper has and that come back, before it writes.
    pub FETCHED_BACK_MS_MAX: u64 = 60_000, "ms", "how long entries of this node's own that a keeper has are waited for", None,
        "tests/copies/restored.rs::a_keeper_that_keeps_what_is_asked_back_does_not_stop_a_node_for_good";
    /// 10 000 answers. A peer that does not listen to them is not listened to either.
    pub COPY_ANSWERS_WAITING_MAX: usize = 10_000, "answers", "answers that wait for a keeper that does not listen", None,
        "tests/copies/limits.rs::a_peer_that_names_looms_without_end_is_refused_and_then_not_listened_to";
    /// How far below its root an entity may be, whatever anybody's wards say: a ring of nodes ends here at the latest.
    pub CAST_DEPTH_MAX: u32 = 64, "levels", "how deep below its root an entity is, whatever the wards say", None,
        "tests/composition.rs::nobody_is_cast_deeper_than_a_bound_whatever_the_wards_say";
    /// 63 characters: a name is one label of a certificate's DNS name.
    pub NODE_NAME_CHARS_MAX: usize = 63, "characters", "the name of a node", None,
        "tests/hostile_input/limits/files.rs::the_name_of_a_node_is_bounded";
    /// 270 characters: a DNS name of 253, brackets, a colon and a port.
    pub NODE_ADDRESS_CHARS_MAX: usize = 270, "characters", "where a node is reached", None,
        "tests/hostile_input/limits/files.rs::the_address_of_a_node_is_bounded_and_a_wrong_one_is_shown_cut";
    /// How a name that cannot be a node's is shown: a longer one is cut.
    pub NODE_SHOWN_CHARS_MAX: usize = 80, "characters", "how much of a wrong name is shown", None,
        "tests/hostile_input/limits/files.rs::the_address_of_a_node_is_bounded_and_a_wrong_one_is_shown_cut";
    /// 128 connections shake hands at once: each has a file descriptor and some KiB of TLS.
    pub HANDSHAKES_MAX: usize = 128, "connections", "connections that shake hands at once", Some("`limits.handshakes` of the node file"),
        "runtime/src/adapters/peer/accept.rs::the_oldest_handshake_of_all_ends_where_too_many_addresses_shake_hands";
    /// 64 connections of one address shake hands at once; a whole rack behind one address starts at once with fewer.
    pub HANDSHAKES_PER_ADDRESS_MAX: usize = 64, "connections", "connections of one address that shake hands at once", Some("`limits.handshakes_per_address` of the node file"),
        "tests/hostile_input/peers.rs::connections_that_say_nothing_keep_no_peer_out";
    /// Five seconds: two round trips of the slowest line there is.
    pub HANDSHAKE_MS_MAX: u64 = 5_000, "ms", "how long a handshake takes", Some("`limits.handshake_timeout_ms` of the node file"),
        "tests/hostile_input/peers.rs::a_handshake_that_is_not_finished_is_ended";
    /// 64 connections that have shaken hands wait to be served.
    pub ACCEPTED_WAITING_MAX: usize = 64, "connections", "connections that have shaken hands and wait to be served", None,
        "tests/hostile_input/peers.rs::connections_that_say_nothing_keep_no_peer_out";
    /// 512 connections of peers: half of the file descriptors that a process has where nobody raised them.
    pub CONNECTIONS_MAX: usize = 512, "connections", "connections of all peers that are open at once", Some("`limits.connections` of the node file"),
        "tests/hostile_input/peers.rs::connections_are_counted_for_each_peer_and_the_quiet_ones_go_first";
    /// 16 connections of one peer: a node makes one, and what broke is noticed after 20 seconds.
    pub CONNECTIONS_PER_PEER_MAX: usize = 16, "connections", "connections of one peer that are open at once", Some("`limits.connections_per_peer` of the node file"),
        "tests/hostile_input/peers.rs::connections_are_counted_for_each_peer_and_the_quiet_ones_go_first";
    /// 384 calls on one connection: the 64 casts that run for a peer, the 256 that wait, and some that ask.
    pub STREAMS_PER_CONNECTION_MAX: u32 = 384, "calls", "calls open on one connection at once", Some("`limits.streams_per_connection` of the node file"),
        "tests/hostile_input/peers.rs::a_connection_has_a_bounded_number_of_calls_open";
    /// Ten minutes without a call.
    pub CONNECTION_IDLE_MS: u64 = 600_000, "ms", "how long a connection without a call stays open", Some("`limits.connection_idle_ms` of the node file"),
        "tests/hostile_input/peers.rs::a_connection_without_a_call_is_closed";
    /// 16 connections on which nothing is said but the refusal.
    pub REFUSED_CONNECTIONS_MAX: usize = 16, "connections", "connections of callers that are not listed and are being told so", None,
        "tests/hostile_input/peers.rs::a_caller_that_is_not_listed_is_told_so_and_no_body_of_it_is_read";
    /// Two seconds: long enough for one call and its refusal.
    pub REFUSED_CONNECTION_MS: u64 = 2_000, "ms", "how long a connection of a caller that is not listed lives", None,
        "tests/hostile_input/peers.rs::a_caller_that_is_not_listed_is_told_so_and_no_body_of_it_is_read";
    /// 512 KiB: a first call with as much of its body as a stream's window lets through.
    pub REFUSED_CONNECTION_BYTES_MAX: usize = 512 * 1024, "bytes", "what is read of a caller that is not listed", None,
        "tests/hostile_input/peers.rs::a_caller_that_is_not_listed_is_told_so_and_no_body_of_it_is_read";
    /// 16 KiB of headers: a call of ours has less than one.
    pub PEER_HEADER_BYTES_MAX: u32 = 16 * 1024, "bytes", "the headers of one call", None,
        "tests/hostile_input/peers.rs::headers_of_a_call_are_bounded";
    /// 20 calls that were reset before they were looked at; then the connection ends.
    pub PENDING_RESETS_MAX: usize = 20, "calls", "calls that were reset before they were looked at", None,
        "tests/hostile_input/peers.rs::a_connection_that_resets_its_calls_is_ended";
    /// 64 KiB: smaller messages are bounded by the number of calls.
    pub MESSAGE_BYTES_UNCOUNTED_MAX: usize = 64 * 1024, "bytes", "a message that is received without waiting for room", None,
        "tests/hostile_input/peers.rs::large_messages_of_one_peer_come_through_one_after_the_other";
    /// 32 MiB: four messages of the largest size there is.
    pub MESSAGE_BYTES_PER_PEER_MAX: usize = 32 * 1024 * 1024, "bytes", "large messages of one peer that are received at once", Some("`limits.message_bytes_per_peer` of the node file"),
        "tests/hostile_input/peers.rs::large_messages_of_one_peer_come_through_one_after_the_other";
    /// 16 large messages of one connection wait for room: what they have sent already lies in the connection's window.
    pub MESSAGES_WAITING_MAX: usize = 16, "messages", "messages of one connection that wait for room", Some("`limits.message_bytes_per_peer` of the node file"),
        "tests/hostile_input/peers.rs::large_messages_of_one_peer_come_through_one_after_the_other";
    /// 1 000 sources and kinds of refusals, some hundred bytes each.
    pub REFUSAL_SOURCES_MAX: usize = 1_000, "sources", "sources whose refusals are counted apart for the log", None,
        "tests/hostile_input/peers.rs::refusals_cost_one_line_a_minute_and_bounded_memory";
    /// 64 nodes. More do not keep one loom.
    pub KEEPERS_MAX: usize = 64, "nodes", "nodes that keep one loom", None,
        "tests/hostile_input/copies.rs::keepers_without_end_or_with_long_names_are_refused_before_they_are_kept";
    /// 1 MiB: a page of 64 keepers has less than 16 KiB.
    pub BOOK_PAGE_BYTES_MAX: u64 = 1024 * 1024, "bytes", "one page of the book of copies", None,
        "tests/hostile_input/copies.rs::a_page_that_cannot_be_read_is_put_aside_and_stops_nothing";
    /// 10 000 looms: each has a file and some KiB of memory, whether anything came of it or not.
    pub LOOMS_PER_PEER_MAX: usize = 10_000, "looms", "looms that one peer has kept here", Some("`peers.X.keep_max_looms` of the node file"),
        "tests/hostile_input/copies.rs::looms_are_counted_for_each_peer_from_their_announcement_on";
    /// 10 000 logs of one loom, on both ends.
    pub WRITERS_MAX: usize = 10_000, "writers", "writers of one loom that are told and taken", None,
        "tests/hostile_input/copies.rs::writers_that_a_peer_brings_are_its_own_share";
    /// 1 000 logs of one loom from one peer: a tenth of what the loom may have, so that others still write.
    pub WRITERS_PER_PEER_MAX: usize = 1_000, "writers", "writers of one loom that one peer brings", None,
        "tests/hostile_input/copies.rs::writers_that_a_peer_brings_are_its_own_share";
    /// 4 KiB: the rows and the mark that a log of one entry takes on disk.
    pub LOG_COST_BYTES: u64 = 4 * 1024, "bytes", "what a new log counts beside its entries", Some("`peers.X.keep_max_bytes` of the node file"),
        "tests/hostile_input/copies.rs::a_log_and_an_entry_cost_more_than_their_bytes";
    /// 512 bytes: the index rows of an entry.
    pub ENTRY_COST_BYTES: u64 = 512, "bytes", "what an entry counts beside its own", Some("`peers.X.keep_max_bytes` of the node file"),
        "tests/hostile_input/copies.rs::a_log_and_an_entry_cost_more_than_their_bytes";
    /// 16 384 casts, about 3 MiB of heads. What is not shown of more is sent once more and passed over.
    pub CASTS_SHOWN_MAX: usize = 16_384, "casts", "what a keeper shows of the casts of one loom", None,
        "runtime/src/adapters/peer/copied_casts.rs::no_more_casts_are_read_than_a_keeper_may_show";
    /// 128 KiB: two sides of 1 024 ids with their places have less.
    pub PROOF_BYTES_MAX: usize = 128 * 1024, "bytes", "a proof that a writer signed two histories", None,
        "tests/hostile_input/copies.rs::a_proof_is_kept_only_of_a_writer_that_is_kept_here";
    /// 1 024 member records and successions: of an honest writer there is a handful.
    pub ATTESTATIONS_PER_WRITER_MAX: usize = 1_024, "attestations", "what vouches for one writer and is sent with its log, and what waits for the log to come", None,
        "tests/hostile_input/members/kept.rs::what_nothing_relies_on_waits_within_a_bound_and_is_never_kept";
    /// 4 MiB: a thousand of them, each with the usual chain.
    pub ATTESTATION_BYTES_PER_WRITER_MAX: usize = 4 * 1024 * 1024, "bytes", "what vouches for one writer and is sent with its log, and what waits for the log to come", None,
        "tests/hostile_input/members/kept.rs::what_nothing_relies_on_waits_within_a_bound_and_is_never_kept";
    /// 4 conversations: a node has one, and its clients have some.
    pub CONVERSATIONS_PER_PEER_MAX: usize = 4, "conversations", "conversations about copies with one peer", None,
        "tests/hostile_input/copies.rs::a_peer_has_a_few_conversations_at_once";
    /// 64 MiB: ten thousand looms are told in less than ten.
    pub COPY_ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024, "bytes", "answers about copies that wait for a peer to listen", None,
        "tests/hostile_input/copies.rs::a_peer_that_asks_and_does_not_listen_is_left";
    /// 8 MiB from one source, as much as one sends without an answer; then it waits for the disk.
    pub TAKEN_BYTES_MAX: usize = 8 * 1024 * 1024, "bytes", "what a conversation takes before it waits for the disk", None,
        "tests/hostile_input/copies.rs::copies_wait_for_the_disk_and_never_fill_its_queue";
    /// 64 MiB: a quarter of the queue; the rest belongs to what this node writes itself.
    pub COPIES_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024, "bytes", "the queue before the disk beyond which no copies are taken", None,
        "tests/hostile_input/copies.rs::copies_wait_for_the_disk_and_never_fill_its_queue";
    /// 1 000 characters: what a refusal says is a sentence or two.
    pub REFUSAL_CHARS_MAX: usize = 1_000, "characters", "what a peer says of a refusal", None,
        "tests/hostile_input/copies.rs::keepers_without_end_or_with_long_names_are_refused_before_they_are_kept";
    /// 16 components that have not come whole.
    pub UPLOADS_PARTIAL_PER_PEER_MAX: usize = 16, "components", "components of one peer that have not come whole", None,
        "runtime/src/adapters/peer/upload.rs::parts_that_nobody_finishes_are_bounded_and_go_after_a_day";
    /// 10 000 components: each has two files and compiled code.
    pub UPLOADS_KEPT_PER_PEER_MAX: usize = 10_000, "components", "components that one peer has brought", None,
        "runtime/src/adapters/peer/upload.rs::components_are_counted_for_each_peer";
    /// One day: a broken upload goes on within it.
    pub UPLOAD_STALE_MS: u64 = 86_400_000, "ms", "how long a component that has not come whole is kept", None,
        "runtime/src/adapters/peer/upload.rs::parts_that_nobody_finishes_are_bounded_and_go_after_a_day";
    /// 1 MiB: four parts of a component.
    pub ANSWER_PARTS_BYTES_MAX: usize = 1024 * 1024, "bytes", "parts of an answer of a caller that wait for whoever asked", None,
        "runtime/src/driver/weighed.rs::a_queue_is_full_by_its_bytes_and_takes_one_that_is_larger_than_all_of_it";
    /// 1 MiB for each cast: four parts of a large text.
    pub OUT_WAITING_BYTES_MAX: usize = 1024 * 1024, "bytes", "what a host says that waits for a slow caller, for each cast", None,
        "runtime/src/driver/weighed.rs::a_queue_is_full_by_its_bytes_and_takes_one_that_is_larger_than_all_of_it";
    /// 8 MiB: four segments.
    pub HEARD_WAITING_BYTES_MAX: usize = 8 * 1024 * 1024, "bytes", "what a peer says of copies that waits to be taken", None,
        "runtime/src/driver/weighed.rs::a_queue_is_full_by_its_bytes_and_takes_one_that_is_larger_than_all_of_it";
    /// 1 024 texts that no entry has referred to yet; an entry refers to a few.
    pub NEAR_TEXTS_MAX: usize = 1_024, "texts", "texts that a host sent and no entry has referred to", None,
        "tests/hostile_input/peers.rs::a_host_that_asks_and_sends_without_end_is_left";
    /// 256 questions of one episode: a batch of children asks side by side.
    pub NEAR_QUESTIONS_MAX: usize = 256, "questions", "questions of a host that are open at once", None,
        "tests/hostile_input/peers.rs::a_host_that_asks_and_sends_without_end_is_left";
    /// 64 MiB of questions that are open at once: the conversations of a few children.
    pub NEAR_QUESTION_BYTES_MAX: usize = 64 * 1024 * 1024, "bytes", "questions of a host that are open at once", None,
        "tests/hostile_input/peers.rs::a_host_that_asks_and_sends_without_end_is_left";
    /// 64 MiB of answers: the largest component.
    pub NEAR_ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024, "bytes", "answers that are remembered for a host that asks again", None,
        "tests/hostile_input/peers.rs::a_host_that_asks_and_sends_without_end_is_left";
    /// 4 MiB of entries of one host, then the disk is waited for.
    pub NEAR_UNSYNCED_BYTES_MAX: usize = 4 * 1024 * 1024, "bytes", "a host's entries that are taken before the disk is waited for", None,
        "tests/hostile_input/peers.rs::a_host_that_sends_entries_without_end_waits_for_the_disk";
    /// 1 024 entries: four times what a host says before it signs.
    pub NEAR_UNCOVERED_ENTRIES_MAX: usize = 1_024, "entries", "a host's entries that wait for a cast head over them", None,
        "runtime/src/driver/intake_tests.rs::entries_that_no_head_covers_are_bounded_and_never_recorded";
    /// 2 MiB before the newest entry: a host signs after one.
    pub NEAR_UNCOVERED_BYTES_MAX: usize = 2 * 1024 * 1024, "bytes", "a host's entries that wait for a cast head over them, before the last", None,
        "runtime/src/driver/intake_tests.rs::entries_that_no_head_covers_are_bounded_and_never_recorded";
    /// 16 heads: a caller shows those of the cast's own root, of which each owner has one.
    pub SHOWN_HEADS_MAX: usize = 16, "heads", "cast heads that a caller shows when it joins a cast", None,
        "runtime/src/adapters/peer/convert_tests.rs::heads_that_a_caller_shows_are_bounded";
    /// 10 000 entities, each with what its medium takes until it rests.
    pub HOSTED_MAX: usize = 10_000, "entities", "entities that are hosted in memory at once", None,
        "tests/hostile_input/hosting.rs::entities_that_wait_make_room_and_those_at_work_do_not";
    /// 1 000 entities of one caller: three times those that run and wait.
    pub HOSTED_PER_PEER_MAX: usize = 1_000, "entities", "entities of one caller that are hosted in memory at once", Some("`peers.X.entities` of the node file"),
        "tests/hostile_input/hosting.rs::entities_that_wait_make_room_and_those_at_work_do_not";
    /// 16 entities that are due: each opening adds one at most.
    pub LOOKED_AT_PER_OPENING_MAX: usize = 16, "entities", "entities that an opening looks at because they are due", None,
        "tests/hostile_input/hosting.rs::ended_casts_take_no_room_and_no_opening_walks_them";
    /// 5 s. A node that takes longer to accept a connection is down.
    pub CONNECT_MS_DEFAULT: u64 = 5_000, "ms", "how long a connection to a node takes", Some("`limits.connect_timeout_ms` of the node file"),
        "tests/peers.rs::who_is_down_and_who_never_answers_is_an_ordinary_error_in_time";
    /// 30 s without a word. A host says something every 5 s.
    pub RPC_MS_DEFAULT: u64 = 30_000, "ms", "how long a node says nothing", Some("`limits.rpc_timeout_ms` of the node file"),
        "tests/peers.rs::who_is_down_and_who_never_answers_is_an_ordinary_error_in_time";
    /// 1 min. Long enough for a connection to be made again, short enough not to work for nobody.
    pub LEASE_MS_DEFAULT: u64 = 60_000, "ms", "how long an episode goes on without a word of its caller", Some("`limits.lease_ms` of the node file"),
        "tests/nodes.rs::a_host_that_stays_away_is_an_error_that_code_can_catch_within_the_lease";
    /// 1 min. Nodes that wait for each other in a ring end their waiting here.
    pub QUEUE_MS_DEFAULT: u64 = 60_000, "ms", "how long a cast waits for its turn", Some("`limits.queue_timeout_ms` of the node file"),
        "tests/peers.rs::nodes_that_wait_for_each_other_in_a_ring_do_not_wait_for_ever";
    /// 64 casts. Each may hold an instance of a medium.
    pub PEER_CASTS_DEFAULT: usize = 64, "casts", "casts of one peer that run at once", Some("`peers.X.concurrent_casts` of the node file"),
        "tests/peers.rs::too_many_casts_wait_and_then_are_refused";
    /// 256 casts that have not begun.
    pub PEER_QUEUE_DEFAULT: usize = 256, "casts", "casts of one peer that wait", Some("`peers.X.queue` of the node file"),
        "tests/peers.rs::too_many_casts_wait_and_then_are_refused";
    /// 256 casts of this machine, all its programs together.
    pub OWN_CASTS_DEFAULT: usize = 256, "casts", "casts of the machine's own clients that run at once", Some("`limits.concurrent_casts` of the node file"),
        "tests/peers.rs::too_many_casts_wait_and_then_are_refused";
    /// 1 024 casts that have not begun.
    pub OWN_QUEUE_DEFAULT: usize = 1_024, "casts", "casts of the machine's own clients that wait", Some("`limits.queue` of the node file"),
        "tests/peers.rs::too_many_casts_wait_and_then_are_refused";
    /// 512 children: eight of each of the 64 casts. Each may hold an instance of a medium.
    pub PEER_CHILDREN_DEFAULT: usize = 512, "children", "children of one peer's entities that run at once", Some("`peers.X.concurrent_children` of the node file"),
        "tests/hostile_input/hosting.rs::children_of_one_caller_take_no_more_than_its_share";
    /// 2 048 children: eight of each of the 256 casts.
    pub OWN_CHILDREN_DEFAULT: usize = 2_048, "children", "children of entities of the machine's own clients that run at once", Some("`limits.concurrent_children` of the node file"),
        "tests/hostile_input/hosting.rs::children_of_one_caller_take_no_more_than_its_share";
    /// 8 entries whose texts are in memory until their caller has taken them.
    pub LARGE_ENTRIES_SENT_MAX: usize = 8, "entries", "entries with large texts that are on their way to one caller at once", None,
        "tests/hostile_input/hosting.rs::who_joins_and_does_not_listen_holds_a_few_large_texts";
    /// 8 verifications of looms that one peer asks for and that wait; they run one after the other.
    pub VERIFICATIONS_WAITING_MAX: usize = 8, "verifications", "verifications of looms that run and wait for one peer", None,
        "tests/hostile_input/hosting.rs::verifications_of_one_caller_run_one_after_the_other_and_rest_in_between";
    /// 2 components that are fetched from one peer at once, each in memory until it is whole.
    pub FETCHES_PER_PEER_MAX: usize = 2, "components", "components that are fetched from one peer for its casts at once", None,
        "runtime/src/adapters/peer/upload.rs::components_are_fetched_from_one_peer_two_at_a_time";
    /// 16 GiB of looms that a peer has brought, in one run of the node.
    pub KEEP_BYTES_DEFAULT: u64 = 16 * 1024 * 1024 * 1024, "bytes", "what one peer has kept here", Some("`peers.X.keep_max_bytes` of the node file"),
        "tests/hostile_input/copies.rs::a_log_and_an_entry_cost_more_than_their_bytes";
    /// 64 MiB: what a component is at most.
    pub DEPLOY_BYTES_DEFAULT: u64 = 64 * 1024 * 1024, "bytes", "one component that a peer deploys", Some("`peers.X.deploy.max_bytes` of the node file"),
        "runtime/src/adapters/peer/upload.rs::what_is_too_much_or_something_else_is_refused_by_its_rule";
    /// 1 GiB of components.
    pub DEPLOY_QUOTA_BYTES_DEFAULT: u64 = 1024 * 1024 * 1024, "bytes", "all components that one peer has deployed", Some("`peers.X.deploy.quota_bytes` of the node file"),
        "runtime/src/adapters/peer/upload.rs::what_is_announced_counts_before_it_comes";
    /// 1 min without an intent, after which an entity gives its instance back.
    pub ENTITY_REST_MS_DEFAULT: u64 = 60_000, "ms", "how long an entity that waits keeps its instance", Some("`limits.rest_ms` of the node file"),
        "tests/hostile_input/hosting.rs::what_nobody_asks_for_is_forgotten_a_few_at_a_time";
    /// 10 min without an intent, after which an entity is forgotten; its record stays.
    pub ENTITY_IDLE_MS_DEFAULT: u64 = 600_000, "ms", "how long an entity that waits is kept in memory", Some("`limits.idle_ms` of the node file"),
        "tests/hostile_input/hosting.rs::what_nobody_asks_for_is_forgotten_a_few_at_a_time";
    /// 256 records: some for each of the keys that lead from the founder to a host.
    pub CREDENTIALS_MAX: usize = 256, "records", "member records and successions that come with an order, or with a node's identity", None,
        "runtime/src/adapters/peer/convert_tests.rs::what_an_order_shows_is_bounded";
    /// 2 MiB, so that they fit into one message with the proved entries and the intent. A record has 2 or 3 KiB.
    pub CREDENTIALS_BYTES_MAX: usize = 2 * 1024 * 1024, "bytes", "member records and successions that come with an order, or with a node's identity", None,
        "runtime/src/adapters/peer/convert_tests.rs::what_an_order_shows_is_bounded";
    /// As deep as a cast may be: each hop adds a node.
    pub ORIGINS_MAX: usize = 64, "nodes", "nodes through which an entity was called", None,
        "runtime/src/adapters/peer/convert_tests.rs::what_an_order_shows_is_bounded";
}
