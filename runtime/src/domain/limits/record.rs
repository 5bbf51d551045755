//! What a record, an archive or a copy of a loom can make a reader spend.

cantrip_gates::limits! {
    list RECORD;
    /// 16 KiB. A larger value is kept as a blob by its hash, so that walking a tree stays cheap (design, section 7).
    pub INLINE_BYTES_MAX: usize = 16 * 1024, "bytes", "a text within an entry; a longer one is kept beside it", None,
        "tests/hostile_input/limits/files.rs::an_entry_is_bounded_and_long_texts_are_kept_beside_it";
    /// 1 MiB. No entry that we write comes near it, so a longer one is damage or malice.
    pub ENTRY_BYTES_MAX: usize = 1024 * 1024, "bytes", "one entry of a loom", None,
        "tests/hostile_input/limits/files.rs::an_entry_is_bounded_and_long_texts_are_kept_beside_it";
    /// 1 024 entries. A longer stretch is cut: whoever verifies has to hold all of it in memory.
    pub SEGMENT_ENTRIES_MAX: usize = 1024, "entries", "one signed segment", None,
        "tests/copies.rs::a_segment_that_is_not_as_it_was_signed_is_refused_and_named";
    /// 1 MiB of entries, after which a segment is sealed; the last entry may go beyond it.
    pub SEGMENT_BYTES: usize = 1024 * 1024, "bytes", "one signed segment before its last entry", None,
        "tests/copies.rs::a_segment_that_is_not_as_it_was_signed_is_refused_and_named";
    /// 256 MiB. A disk that is this far behind does not answer any more.
    pub QUEUE_BYTES_MAX: usize = 256 * 1024 * 1024, "bytes", "what waits to be written", None,
        "runtime/src/adapters/store/committer_tests.rs::a_queue_without_end_poisons";
    /// A damaged store can have a finding for each of its rows; after so many, more do not help.
    pub FINDINGS_MAX: usize = 1000, "findings", "what a verification lists", None,
        "runtime/src/adapters/store/findings.rs::findings_are_counted_beyond_a_bound";
    /// 64 MiB: a manifest has some 37 bytes for each table, so a longer one is damage.
    pub MANIFEST_BYTES_MAX: u64 = 64 * 1024 * 1024, "bytes", "the list of tables of a record", None,
        "runtime/src/adapters/store/manifest.rs::a_manifest_without_end_is_damage_and_not_read";
    /// 64 MiB. A longer block is none of ours.
    pub ARCHIVE_BLOCK_BYTES_MAX: u64 = 64 * 1024 * 1024, "bytes", "one block of an archive", None,
        "runtime/src/export/car_tests.rs::what_an_archive_announces_is_bounded_before_it_is_read";
    /// 4 KiB. A header names one root.
    pub ARCHIVE_HEADER_BYTES_MAX: u64 = 4 * 1024, "bytes", "the header of an archive", None,
        "runtime/src/export/car_tests.rs::what_an_archive_announces_is_bounded_before_it_is_read";
    /// 16 MiB. What the threads of an export that is limited take together, their own turns aside.
    pub TRAJECTORY_SHARED_BYTES_MAX: u64 = 16 * 1024 * 1024, "bytes", "what the threads of one Parquet export repeat of others", None,
        "tests/hostile_input/record.rs::a_long_chain_of_forks_is_shown_verified_and_exported";
    /// A failure, a summary or a reason in an entry: as long as a text may be that is not kept beside its entry.
    pub INLINE_TEXT_BYTES_MAX: usize = 16 * 1024, "bytes", "a failure, a summary or a reason in an entry", None,
        "runtime/src/domain/short.rs::long_texts_are_cut_where_they_are_made";
    /// Providers' ids have 30 to 60 bytes.
    pub CALL_ID_BYTES_MAX: usize = 128, "bytes", "the id of a call", None,
        "runtime/src/domain/short.rs::long_call_ids_are_shortened_and_stay_distinct";
    /// Texts in one entry together; what is more is kept beside it. With the calls and gate calls of a turn at their limits, an
    /// entry stays below 1 MiB.
    pub INLINE_SUM_BYTES_MAX: usize = 128 * 1024, "bytes", "the texts in one entry together; more are kept beside it", None,
        "tests/hostile_input/record.rs::no_input_of_any_port_makes_an_entry_too_large";
    /// Blocks of an archive that wait for others: one stretch of a log and its texts, or what is out of order.
    pub ARCHIVE_HELD_BYTES_MAX: usize = 256 * 1024 * 1024, "bytes", "blocks of an archive that wait for what they belong to", None,
        "runtime/src/export/car_tests.rs::blocks_that_nothing_names_are_not_gathered_without_end";
    /// What a block takes in the tables of an import, about. Without it blocks of one byte would cost a hundred times what is counted.
    pub ARCHIVE_BLOCK_COST_BYTES: usize = 256, "bytes", "what a block that waits counts beside its own bytes", None,
        "runtime/src/export/car_tests.rs::small_blocks_that_nothing_names_count_what_they_cost";
    /// Turns of all threads of one export, those that forks repeat counted each time. With some KiB each they fit into memory.
    pub TRAJECTORY_TURNS_MAX: u64 = 200_000, "turns", "the threads of one Parquet export; of more, each thread has its newest turns", None,
        "tests/hostile_input/record.rs::a_long_chain_of_forks_is_shown_verified_and_exported";
    /// What an entity is made of, its texts left out. Gates and wards of honest cantrips have some KiB.
    pub OPENED_BYTES_MAX: usize = 512 * 1024, "bytes", "gates and wards of an entity together", None,
        "tests/hostile_input/record.rs::an_entity_that_cannot_be_recorded_is_refused_before_it_is_opened";
    /// 64 MiB, as much as one text of a loom that a keeper sends: a thread of some thousand turns, without its pages of memory.
    pub FOREIGN_THREAD_BYTES_MAX: u64 = 64 * 1024 * 1024, "bytes", "a thread of another loom that is gone on with, with what proves it", None,
        "tests/strangers/threads.rs::a_thread_is_bounded_before_it_is_put_together";
    /// 256 MiB: four of the longest.
    pub FOREIGN_TREE_BYTES_MAX: u64 = 256 * 1024 * 1024, "bytes", "the threads of other looms that are read for one loom", None,
        "tests/strangers/threads.rs::threads_that_are_named_again_and_again_are_read_within_a_bound";
    /// 16 384 signatures take some seconds to check.
    pub FOREIGN_SIGNATURES_MAX: usize = 16_384, "signatures", "what proves a thread of another loom", None,
        "tests/strangers/threads.rs::signatures_are_counted_before_they_are_checked";
    /// 16: a thread that was forked into another loom, and from there into another, and so on.
    pub FOREIGN_DEPTH_MAX: usize = 16, "threads", "threads of other looms within one another", None,
        "tests/strangers/threads.rs::a_thread_that_is_forked_from_loom_to_loom_goes_on_up_to_a_depth";
    /// 4 certificates: the node's, the authority's, and two between them.
    pub CHAIN_CERTIFICATES_MAX: usize = 4, "certificates", "the chain of a member record", None,
        "tests/hostile_input/members.rs::a_member_record_is_bounded_before_it_is_checked";
    /// 8 KiB. One with an RSA key of 4 096 bits and many names has less than 3.
    pub CERTIFICATE_BYTES_MAX: usize = 8 * 1024, "bytes", "one certificate of a member record", None,
        "tests/hostile_input/members.rs::a_member_record_is_bounded_before_it_is_checked";
    /// 1 KiB: that of an RSA key of 8 192 bits.
    pub CERTIFICATE_SIGNATURE_BYTES_MAX: usize = 1024, "bytes", "the signature of a certificate's key in a member record", None,
        "tests/hostile_input/members.rs::a_member_record_is_bounded_before_it_is_checked";
    /// 36 KiB: four certificates and both signatures at their limits.
    pub MEMBER_RECORD_BYTES_MAX: usize = 36 * 1024, "bytes", "a member record", None,
        "tests/hostile_input/members.rs::a_member_record_is_bounded_before_it_is_checked";
    /// 512 bytes: two keys and two signatures have 230.
    pub SUCCESSION_BYTES_MAX: usize = 512, "bytes", "a succession", None,
        "tests/hostile_input/members.rs::a_member_record_is_bounded_before_it_is_checked";
    /// 256 records: a certificate of 90 days that is renewed for 60 years.
    pub RECORDS_PER_KEY_MAX: usize = 256, "records", "member records of one writer's key in a loom", None,
        "tests/hostile_input/members/kept.rs::records_are_counted_against_their_key_and_the_node_that_they_name";
    /// 1 024 records: four keys with all of theirs.
    pub RECORDS_PER_NODE_MAX: usize = 1_024, "records", "member records in a loom that name one node", None,
        "tests/hostile_input/members/kept.rs::records_are_counted_against_their_key_and_the_node_that_they_name";
    /// 16 keys. A folder takes the place of one.
    pub PREDECESSORS_PER_KEY_MAX: usize = 16, "keys", "keys whose place one key takes", None,
        "tests/hostile_input/members/kept.rs::records_are_counted_against_their_key_and_the_node_that_they_name";
    /// 1 024 keys: a folder that was restored so often.
    pub PREDECESSORS_MAX: usize = 1_024, "keys", "keys that are followed back from a writer's", None,
        "tests/hostile_input/members/kept.rs::what_a_writer_relies_on_comes_with_it_and_nothing_else_is_kept";
    /// 16 384. Each is checked, which takes some hundred microseconds; a loom has a few for each writer.
    pub ARCHIVE_ATTESTATIONS_MAX: usize = 16_384, "attestations", "member records and successions of one archive", None,
        "runtime/src/export/car_tests.rs::what_vouches_for_writers_in_an_archive_is_bounded_and_has_to_be_relied_on";
    /// 64 admissions. Members are a few steps from the founder, and each cast at another node is one more.
    pub ADMISSION_DEPTH_MAX: u32 = 64, "admissions", "admissions that lead from a loom's founder to an entry", None,
        "runtime/src/domain/members/tests.rs::a_chain_of_admissions_has_an_end";
    /// 16 ends. A writer whose histories divided is expelled with the heads that were seen of them.
    pub EXPELLED_ENDS_PER_WRITER_MAX: usize = 16, "ends", "ends of one writer that are read in one expulsion", None,
        "runtime/src/domain/members/tests.rs::an_expulsion_is_read_with_so_many_ends_of_one_writer";
    /// 1 024 admissions. Each names the one before it when somebody is expelled and comes back so often.
    pub READMISSIONS_MAX: usize = 1_024, "admissions", "admissions that hand on that an expulsion is over", None,
        "runtime/src/domain/members/tests.rs::so_many_admissions_hand_on_that_an_expulsion_is_over";
    /// An adoption counts up to here above the epoch that it follows: twice as far as a fence, so that each fence can be passed.
    pub EPOCH_STEP_MAX: u64 = 2_000_000, "epochs", "an adoption above the one that it follows", None,
        "runtime/src/domain/members/tests.rs::an_epoch_is_above_the_one_it_follows_and_not_too_far";
    /// A fence further up waits, so that nobody fences an entity for ever.
    pub FENCE_STEP_MAX: u64 = 1_000_000, "epochs", "a fence above the epoch whose history is complete", None,
        "runtime/src/domain/members/tests.rs::an_adopter_takes_an_epoch_above_the_fences_within_reach";
    /// 1 024 ids, as many as a segment has entries: from where two histories divide to a head that was signed.
    pub EQUIVOCATION_IDS_MAX: usize = 1_024, "entries", "one side of a proof that a writer signed two histories", None,
        "runtime/src/domain/loom/equivocation.rs::a_side_of_a_proof_is_bounded";
    /// 256 entries: a log is gone through along a cast in pieces of some hundred KiB.
    pub DIVIDED_READ_ENTRIES: usize = 256, "entries", "what is read at once of a log that is compared with a cast", None,
        "tests/copies/casts.rs::a_log_that_leaves_a_cast_as_it_was_signed_is_found_out";
    /// 64 entries: each step from the root of a cast to what is below it has one.
    pub EQUIVOCATION_SHOWN_MAX: usize = 64, "entries", "what shows in a proof of two histories that an entry belongs to a cast", None,
        "runtime/src/domain/loom/cast_history_tests.rs::what_shows_that_an_entry_belongs_to_a_cast_is_bounded";
    /// 1 024 ids, as many as a segment has entries: a writer signs its own log wherever somebody needs it.
    pub PROVED_IDS_MAX: usize = 1_024, "entries", "what is between a proved entry and the signed head behind it", None,
        "runtime/src/domain/members/proved.rs::a_proved_entry_is_bounded_before_it_is_checked_and_so_are_those_of_an_order";
    /// An entry at its limit, and 64 KiB for what is around it: ids have 34 bytes each.
    pub PROVED_ENTRY_BYTES_MAX: usize = 1024 * 1024 + 64 * 1024, "bytes", "one proved entry", None,
        "runtime/src/domain/members/proved.rs::a_proved_entry_is_bounded_before_it_is_checked_and_so_are_those_of_an_order";
    /// 128 entries: the founding entry, an admission for each of 64 steps, and as many delegations at most.
    pub PROVED_ORDER_MAX: usize = 128, "entries", "proved entries of one order", None,
        "runtime/src/domain/members/proved.rs::a_proved_entry_is_bounded_before_it_is_checked_and_so_are_those_of_an_order";
    /// 3 MiB, so that they fit into one message with the records of the keys and the intent. Admissions have some hundred bytes.
    pub PROVED_ORDER_BYTES_MAX: usize = 3 * 1024 * 1024, "bytes", "the proved entries of one order", None,
        "runtime/src/domain/members/proved.rs::a_proved_entry_is_bounded_before_it_is_checked_and_so_are_those_of_an_order";
    /// 65 536 entries: two for each of 32 000 casts that one node hosts in one loom.
    pub PROVED_LOOM_MAX: u64 = 65_536, "entries", "proved entries that are kept of one loom", None,
        "runtime/src/adapters/store/proved_tests.rs::proved_entries_of_a_loom_are_counted";
    /// 256 MiB, as much as a host may record of one cast.
    pub PROVED_LOOM_BYTES_MAX: u64 = 256 * 1024 * 1024, "bytes", "the proved entries that are kept of one loom", None,
        "runtime/src/adapters/store/proved_tests.rs::proved_entries_of_a_loom_are_counted";
}
