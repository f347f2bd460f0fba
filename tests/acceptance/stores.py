"""Interrupts, crashes and stores: rows 24 to 37."""

from __future__ import annotations

from acceptance.rows import Removal, Row

ROWS: tuple[Row, ...] = (
    Row(
        number=24,
        fault="interrupt during a hang and during a stream",
        outcome="idle within 1 s; the server sees the socket close; no task of ours left; partial text marked "
        "interrupted; <= 3 lines shown; history unchanged",
        tests=(
            "magic/test_extension_in_kernels.py::test_an_interrupted_hang_ends_while_the_server_still_hangs",
            "magic/test_extension_in_kernels.py::test_an_interrupted_stream_stays_visible_and_out_of_the_history",
            "core/test_sync.py::test_interrupted_connections_are_closed_even_if_their_task_does_not_end",
        ),
        removals=(
            Removal(
                where="core.interrupts:InterruptHandler._cancel",
                what="_task.cancel",
                by="None",
                tests=(
                    "magic/test_extension_in_kernels.py::test_an_interrupted_hang_ends_while_the_server_still_hangs",
                ),
            ),
            Removal(
                where="core.sync:_ThreadRunner.close",
                what="transport.abort",
                by="None",
                tests=("core/test_sync.py::test_interrupted_connections_are_closed_even_if_their_task_does_not_end",),
            ),
            Removal(
                where="magic.asking:Question.fail",
                what="isinstance",
                by="False",
                tests=(
                    "magic/test_extension_in_kernels.py::test_an_interrupted_stream_stays_visible_and_out_of_the_history",
                ),
            ),
        ),
    ),
    Row(
        number=25,
        fault="interrupt a batch of 200 in flight",
        outcome="the same; finished rows are in the result and in the store",
        tests=(
            "batching/test_in_kernels.py::test_interrupt_of_200_in_flight_keeps_what_is_finished",
            "batching/test_in_kernels.py::test_interrupt_of_a_script_keeps_what_is_finished",
        ),
        removals=(
            Removal(
                where="core.interrupts:InterruptHandler._cancel",
                what="_task.cancel",
                by="None",
                tests=("batching/test_in_kernels.py::test_interrupt_of_200_in_flight_keeps_what_is_finished",),
            ),
            Removal(
                where="store.sqlite:SqliteStore.put_many",
                what="answer_row",
                by="None",
                tests=("batching/test_in_kernels.py::test_interrupt_of_200_in_flight_keeps_what_is_finished",),
            ),
        ),
    ),
    Row(
        number=26,
        fault="25 interrupts at random moments, chat and batch",
        outcome="no failure of 24 and 25, the next cell works",
        tests=(
            "magic/test_extension_in_kernels.py::test_25_interrupts_at_random_moments",
            "batching/test_in_kernels.py::test_25_interrupts_at_random_moments",
        ),
        removals=(
            Removal(
                where="core.sync:_result",
                what="is_interrupted",
                by="False",
                tests=("magic/test_extension_in_kernels.py::test_25_interrupts_at_random_moments",),
            ),
            Removal(
                where="batching.run:run_rows",
                what="ChatInterrupt",
                by="ZeroDivisionError",
                tests=("batching/test_in_kernels.py::test_25_interrupts_at_random_moments",),
            ),
        ),
    ),
    Row(
        number=27,
        fault="25 SIGKILLs at random moments of a batch",
        outcome="no acknowledged row lost, integrity_check ok, the rerun sends only what is missing, and at most what "
        "was in flight",
        tests=(
            "batching/test_kill.py::test_run_that_is_killed_25_times_loses_no_acknowledged_row_and_pays_for_none_again",
            "store/test_sqlite.py::test_twenty_five_kills_lose_no_acknowledged_reply",
            "store/test_conversations.py::test_kills_lose_no_acknowledged_turn",
        ),
        removals=(
            Removal(
                where="store.sqlite:SqliteStore.put_many",
                what="writer.submit",
                by="state.writer.submit(rows, asyncio.get_running_loop())",
                tests=("store/test_sqlite.py::test_twenty_five_kills_lose_no_acknowledged_reply",),
            ),
        ),
    ),
    Row(
        number=28,
        fault="rerun after a changed prompt, model or option",
        outcome="only rows whose whole request is equal are reused",
        tests=(
            "batching/test_kill.py::test_only_rows_whose_whole_request_is_equal_are_reused",
            "store/test_keys.py::test_any_change_of_the_request_changes_the_key",
        ),
        removals=(
            Removal(where="store.keys:RequestKeys.__init__", what="options.sent", by="{}"),
            Removal(where="store.keys:RequestKeys.__init__", what="model", by="''"),
        ),
    ),
    Row(
        number=29,
        fault="one bad row of 1,000",
        outcome="999 replies, 1 error in its own column",
        tests=(
            "magic/test_extension.py::test_one_bad_row_of_a_thousand_is_one_error_in_a_column_of_its_own",
            "batching/test_faults.py::test_one_bad_row_of_a_thousand_is_one_error",
        ),
        removals=(Removal(where="batching.refusals:Refusals.final_error", what="error.is_fatal", by="True"),),
    ),
    Row(
        number=30,
        fault="duplicate index labels, NaN, None, pd.NA, an empty frame, cells that are no text, MultiIndex, "
        "categorical and Arrow-backed columns",
        outcome="index, order and length kept; missing values are not sent",
        tests=(
            "frames/test_pandas.py::test_index_order_and_length_are_kept",
            "frames/test_pandas.py::test_missing_value_of_every_kind_is_not_sent",
            "frames/test_pandas.py::test_cells_of_every_type_are_sent_as_text",
            "frames/test_pandas.py::test_arrow_backed_columns",
            "frames/test_pandas.py::test_empty_frame_gives_an_empty_column",
            "frames/test_pandas.py::test_column_where_all_is_missing_sends_nothing",
            "frames/test_every_kind.py::test_replies_come_back_in_the_frames_own_kind",
            "frames/test_every_kind.py::test_not_a_number_is_missing",
            "frames/test_every_kind.py::test_cells_of_every_type_are_sent_as_python_shows_them",
            "frames/test_every_kind.py::test_empty_frame_of_every_kind",
            "frames/test_every_kind.py::test_extracted_columns_have_their_types",
            "frames/test_every_kind.py::test_results_never_replace_a_column_that_comes_back_with_them",
            "frames/test_every_kind.py::test_functions_keep_the_index_and_the_name_of_pandas",
        ),
        removals=(
            Removal(
                where="frames.pandas_table:PandasTable.is_missing",
                by="lambda self, value: value is None",
                tests=("frames/test_pandas.py::test_missing_value_of_every_kind_is_not_sent",),
            ),
            Removal(
                where="frames.narwhals_table:NarwhalsTable.is_missing",
                by="lambda self, value: value is None",
                tests=("frames/test_every_kind.py::test_not_a_number_is_missing",),
            ),
            Removal(
                where="frames.narwhals_table:_is_same",
                by="lambda made, value: True",
                tests=("frames/test_every_kind.py::test_extracted_columns_have_their_types",),
            ),
            Removal(
                where="frames.narwhals_table:NarwhalsTable.check_results",
                by="lambda self, names: None",
                tests=("frames/test_every_kind.py::test_results_never_replace_a_column_that_comes_back_with_them",),
            ),
        ),
    ),
    Row(
        number=31,
        fault="two kernels on one store",
        outcome='no lost turn, no "database is locked" shown',
        tests=(
            "magic/test_history_in_kernels.py::test_two_kernels_in_one_conversation_lose_no_turn",
            "batching/test_in_kernels.py::test_two_kernels_that_fill_one_store_at_once_lose_no_row",
            "store/test_in_trouble.py::test_lock_that_is_soon_free_is_waited_for_without_a_word",
            "store/test_sqlite.py::test_two_processes_write_into_one_store",
            "store/test_database.py::test_many_connections_make_one_file_at_once",
            "store/test_conversations.py::test_two_kernels_on_one_conversation_lose_no_turn",
        ),
        removals=(
            Removal(
                where="store.conversations:BUSY_TIMEOUT_S",
                by="0.0",
                tests=("store/test_in_trouble.py::test_lock_that_is_soon_free_is_waited_for_without_a_word",),
            ),
            Removal(
                where="store.database:_create_tables",
                what="database.number",
                by="0",
                tests=("store/test_database.py::test_many_connections_make_one_file_at_once",),
            ),
        ),
    ),
    Row(
        number=32,
        fault="store locked for 10 s by another process",
        outcome="the answer is shown, one warning, the event loop is not blocked",
        tests=(
            "store/test_in_trouble.py::test_stores_that_another_process_locks_for_10_seconds",
            "store/test_in_trouble.py::test_event_loop_is_not_blocked_by_a_locked_store",
            "store/test_sqlite.py::test_locked_store_keeps_the_reply_and_writes_it_later",
            "store/test_sqlite.py::test_store_that_cannot_even_be_read_for_a_lock",
            "store/test_sqlite.py::test_loop_goes_on_while_a_store_cannot_be_read_for_a_lock",
            "store/test_write_behind.py::test_locked_file_keeps_turns_and_writes_them_later",
        ),
        removals=(
            Removal(
                where="store.write_behind:WriteBehindLog._attempt",
                what="is_busy",
                by="False",
                tests=("store/test_in_trouble.py::test_stores_that_another_process_locks_for_10_seconds",),
            ),
            Removal(
                where="store.warnings:OnceWarnings.once",
                what="self._kinds",
                by="set()",
                tests=("store/test_in_trouble.py::test_stores_that_another_process_locks_for_10_seconds",),
            ),
            Removal(
                where="store.sqlite:SqliteStore.get",
                what="to_thread",
                by="self._read(keys[start : start + _KEYS_PER_CALL])",
                tests=("store/test_sqlite.py::test_loop_goes_on_while_a_store_cannot_be_read_for_a_lock",),
            ),
        ),
    ),
    Row(
        number=33,
        fault="disk full",
        outcome="the answer is shown, the store stays intact",
        tests=(
            "store/test_in_trouble.py::test_full_disk",
            "store/test_sqlite.py::test_full_disk_loses_nothing",
            "store/test_write_behind.py::test_full_disk_loses_nothing",
        ),
        removals=(
            Removal(
                where="store.warnings:OnceWarnings.memory_only",
                by="lambda *_: None",
                tests=("store/test_in_trouble.py::test_full_disk",),
            ),
            Removal(
                where="store.writer:Writer._handle",
                what="self._keep_in_memory",
                by="None",
                tests=("store/test_in_trouble.py::test_full_disk",),
            ),
        ),
    ),
    Row(
        number=34,
        fault="corrupt store file",
        outcome="moved aside with a time stamp, never deleted, and the session goes on",
        tests=(
            "store/test_in_trouble.py::test_damaged_files_are_moved_aside_with_a_time_stamp",
            "store/test_sqlite.py::test_garbage_is_moved_aside_and_kept",
            "store/test_sqlite.py::test_damage_that_shows_later_is_moved_aside_too",
            "store/test_write_behind.py::test_garbage_is_moved_aside_and_kept",
            "store/test_write_behind.py::test_damage_that_shows_later_is_moved_aside_too",
        ),
        removals=(
            Removal(
                where="store.database:Database.move_aside",
                what="os.rename",
                by="os.remove(f'{self.path}{suffix}')",
                tests=("store/test_in_trouble.py::test_damaged_files_are_moved_aside_with_a_time_stamp",),
            ),
            Removal(
                where="store.database:connect",
                what="is_corrupt",
                by="False",
                tests=("store/test_in_trouble.py::test_damaged_files_are_moved_aside_with_a_time_stamp",),
            ),
        ),
    ),
    Row(
        number=35,
        fault="read-only or missing HOME",
        outcome="memory mode, one warning",
        tests=(
            "store/test_in_trouble.py::test_home_that_cannot_be_written",
            "store/test_sqlite.py::test_place_that_cannot_be_written_means_memory",
            "store/test_sqlite.py::test_user_without_a_home_gets_memory",
            "store/test_write_behind.py::test_place_that_cannot_be_written_means_memory",
            "store/test_conversations.py::test_user_without_a_home_gets_memory",
        ),
        removals=(
            Removal(
                where="store.write_behind:WriteBehindLog._attempt",
                what="OSError",
                by="ZeroDivisionError",
                tests=("store/test_in_trouble.py::test_home_that_cannot_be_written",),
            ),
            Removal(
                where="store.files:StoreFile.path",
                what="is_absolute",
                by="True",
                tests=("store/test_sqlite.py::test_user_without_a_home_gets_memory",),
            ),
        ),
    ),
    Row(
        number=36,
        fault="clock set back or forth by a day",
        outcome="waits unchanged",
        tests=(
            "store/test_in_trouble.py::test_clock_that_is_set_by_a_day_changes_no_wait_of_a_cell",
            "batching/test_faults.py::test_clock_that_is_set_by_a_day_changes_no_wait",
        ),
        removals=(
            Removal(
                where="chat.chat:Chat.__init__",
                what="time.monotonic",
                by="lambda: time.time()",
                tests=("store/test_in_trouble.py::test_clock_that_is_set_by_a_day_changes_no_wait_of_a_cell",),
            ),
            Removal(
                where="batching.runner:BatchRunner.__init__",
                what="time.monotonic",
                by="lambda: time.time()",
                tests=("batching/test_faults.py::test_clock_that_is_set_by_a_day_changes_no_wait",),
            ),
        ),
    ),
    Row(
        number=37,
        fault="file modes under umask 022",
        outcome="directories 0700, files 0600, -wal and -shm too",
        tests=(
            "store/test_sqlite.py::test_directories_and_files_are_closed_to_others",
            "store/test_conversations.py::test_directories_and_files_are_closed_to_others",
        ),
        removals=(
            Removal(
                where="store.database:_create_private",
                what="os.open",
                by="os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)",
            ),
            Removal(
                where="store.database:_create_private", what="mkdir", by="directory.mkdir(mode=0o755, exist_ok=True)"
            ),
        ),
    ),
)
