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
                file="aichat_magic/bridge.py",
                old="            self._task.cancel()",
                new="            pass",
                tests=(
                    "magic/test_extension_in_kernels.py::test_an_interrupted_hang_ends_while_the_server_still_hangs",
                ),
            ),
            Removal(
                file="aichat_magic/bridge.py",
                old="            transport.abort()",
                new="            pass",
                tests=("core/test_sync.py::test_interrupted_connections_are_closed_even_if_their_task_does_not_end",),
            ),
            Removal(
                file="aichat_magic/session.py",
                old='"interrupted" if isinstance(failed, ChatInterrupt) else "truncated"',
                new='"truncated"',
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
                file="aichat_magic/bridge.py",
                old="            self._task.cancel()",
                new="            pass",
                tests=("batching/test_in_kernels.py::test_interrupt_of_200_in_flight_keeps_what_is_finished",),
            ),
            Removal(
                file="aichat_magic/store/replies.py",
                old="        if rows:",
                new="        if False:",
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
                file="aichat_magic/bridge.py",
                old="        if is_interrupted:",
                new="        if False:",
                tests=("magic/test_extension_in_kernels.py::test_25_interrupts_at_random_moments",),
            ),
            Removal(
                file="aichat_magic/runs.py",
                old="    except ChatInterrupt as error:",
                new="    except ZeroDivisionError as error:",
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
                file="aichat_magic/store/replies.py",
                old="await life.writer.submit(",
                new="life.writer.submit(",
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
            Removal(
                file="aichat_magic/store/keys.py",
                old="_canonical([SCHEMA, provider, host, model, sent])",
                new="_canonical([SCHEMA, provider, host, model])",
            ),
            Removal(
                file="aichat_magic/store/keys.py",
                old="_canonical([SCHEMA, provider, host, model, sent])",
                new="_canonical([SCHEMA, provider, host, sent])",
            ),
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
        removals=(
            Removal(
                file="aichat_magic/jobs.py",
                old="if error.is_fatal or (",
                new="if True or (",
            ),
        ),
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
        ),
        removals=(
            Removal(
                file="aichat_magic/accessor.py",
                old="    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))",
                new="    return value is None",
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
                file="aichat_magic/store/conversations.py",
                old="BUSY_TIMEOUT_S: Final = 1.0",
                new="BUSY_TIMEOUT_S: Final = 0.0",
                tests=("store/test_in_trouble.py::test_lock_that_is_soon_free_is_waited_for_without_a_word",),
            ),
            Removal(
                file="aichat_magic/store/database.py",
                old='version = database.number("user_version")  # again',
                new="version = 0  # again",
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
                file="aichat_magic/store/journal.py",
                old="                if is_busy(error):",
                new="                if is_busy(error):\n                    raise",
                tests=("store/test_in_trouble.py::test_stores_that_another_process_locks_for_10_seconds",),
            ),
            Removal(
                file="aichat_magic/store/journal.py",
                old="if kind not in self._said:",
                new="if True:",
                tests=("store/test_in_trouble.py::test_stores_that_another_process_locks_for_10_seconds",),
            ),
            Removal(
                file="aichat_magic/store/replies.py",
                old="await asyncio.to_thread(self._read, keys[start : start + _KEYS_IN_THREAD])",
                new="self._read(keys[start : start + _KEYS_IN_THREAD])",
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
                file="aichat_magic/store/journal.py",
                old='self._trouble("trouble", str(reason) or type(reason).__name__)',
                new="raise reason",
                tests=("store/test_in_trouble.py::test_full_disk",),
            ),
            Removal(
                file="aichat_magic/store/writer.py",
                old='self._keep("trouble", str(error) or type(error).__name__)',
                new="pass",
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
                file="aichat_magic/store/database.py",
                old='os.rename(f"{self.path}{suffix}", f"{aside}{suffix}")',
                new='os.remove(f"{self.path}{suffix}")',
                tests=("store/test_in_trouble.py::test_damaged_files_are_moved_aside_with_a_time_stamp",),
            ),
            Removal(
                file="aichat_magic/store/database.py",
                old="            if is_corrupt(error):",
                new="            if False:",
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
                file="aichat_magic/store/journal.py",
                old="            except OSError as error:\n                reason = error",
                new="            except ZeroDivisionError as error:\n                reason = error",
                tests=("store/test_in_trouble.py::test_home_that_cannot_be_written",),
            ),
            Removal(
                file="aichat_magic/store/replies.py",
                old="        if not path.is_absolute():",
                new="        if False:",
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
                file="aichat_magic/chat.py",
                old="clock: Callable[[], float] = time.monotonic,",
                new="clock: Callable[[], float] = lambda: time.time(),",
                tests=("store/test_in_trouble.py::test_clock_that_is_set_by_a_day_changes_no_wait_of_a_cell",),
            ),
            Removal(
                file="aichat_magic/batches.py",
                old="clock: Callable[[], float] = time.monotonic,",
                new="clock: Callable[[], float] = lambda: time.time(),",
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
            Removal(file="aichat_magic/store/database.py", old="os.O_EXCL, 0o600)", new="os.O_EXCL, 0o644)"),
            Removal(file="aichat_magic/store/database.py", old="mkdir(mode=0o700,", new="mkdir(mode=0o755,"),
        ),
    ),
)
