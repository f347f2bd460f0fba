"""The bridge and the front ends: rows 53 to 68."""

from __future__ import annotations

from acceptance.rows import Removal, Row

ROWS: tuple[Row, ...] = (
    Row(
        number=53,
        fault="Run All: two cells queued while the first streams; also with the user's own nest_asyncio.apply()",
        outcome="all run_sync, in order",
        tests=(
            "magic/test_extension_in_kernels.py::test_cells_queued_while_one_streams_run_in_order",
            "core/test_sync_in_kernels.py::test_cells_queued_during_a_call_all_run_in_order",
            "core/test_sync_in_kernels.py::test_output_goes_to_the_cell_that_made_it",
        ),
        removals=(
            # The short way, on the kernel's own loop.
            Removal(
                where="core.sync:run_sync",
                by="lambda coroutine, *, grace_s=2.0: __import__('nest_asyncio').apply() "
                "or asyncio.get_event_loop().run_until_complete(coroutine)",
                tests=("core/test_sync_in_kernels.py::test_cells_queued_during_a_call_all_run_in_order",),
            ),
            Removal(
                where="core.sync:_run_once",
                what="make_nestable",
                by="None",
                tests=("magic/test_extension_in_kernels.py::test_cells_queued_while_one_streams_run_in_order",),
            ),
        ),
    ),
    Row(
        number=54,
        fault="20 random interrupts each for a stream and for a 200-way batch",
        outcome="a KeyboardInterrupt in the reply, partial text or rows kept, no task or request left, file "
        "descriptors stable, kernel alive",
        tests=(
            "magic/test_extension_in_kernels.py::test_25_interrupts_at_random_moments",
            "core/test_sync_in_kernels.py::test_twenty_interrupts_at_random_moments",
        ),
        removals=(
            Removal(
                where="core.sync:_result",
                what="is_interrupted",
                by="False",
                tests=("core/test_sync_in_kernels.py::test_twenty_interrupts_at_random_moments",),
            ),
            Removal(
                where="magic.asking:Question.fail",
                what="isinstance",
                by="False",
                tests=("magic/test_extension_in_kernels.py::test_25_interrupts_at_random_moments",),
            ),
        ),
    ),
    Row(
        number=55,
        fault="interrupt, then gc.collect(), a new stream, a top-level-await cell",
        outcome="all clean",
        tests=(
            "magic/test_extension_in_kernels.py::test_after_an_interrupt_everything_works",
            "core/test_sync_in_kernels.py::test_after_an_interrupt_everything_works",
            "core/test_sync.py::test_an_interrupt_inside_the_loops_own_clean_up_leaves_no_trace",
        ),
        removals=(
            Removal(
                where="core.sync:_run_once",
                what="asyncio._set_running_loop",
                by="None",
                tests=("core/test_sync.py::test_an_interrupt_inside_the_loops_own_clean_up_leaves_no_trace",),
            ),
            Removal(
                where="core.sync:_run_once",
                what="sys.set_asyncgen_hooks",
                by="None",
                tests=("core/test_sync.py::test_an_interrupt_inside_the_loops_own_clean_up_leaves_no_trace",),
            ),
        ),
    ),
    Row(
        number=56,
        fault="interrupt during connect; cleanup that hangs; blocking synchronous code; a burst of 5 SIGINTs",
        outcome="ends within the grace time; the second SIGINT always works",
        tests=(
            "core/test_sync_in_kernels.py::test_an_interrupt_during_connect_is_the_interrupt",
            "core/test_sync_in_kernels.py::test_cleanup_that_hangs_ends_within_the_grace_time",
            "core/test_sync_in_kernels.py::test_the_second_interrupt_always_works",
            "core/test_sync_in_kernels.py::test_a_burst_of_interrupts_leaves_the_kernel_well",
            "core/test_sync.py::test_cleanup_that_hangs_ends_with_the_grace_time",
            "core/test_sync.py::test_the_second_interrupt_breaks_off_code_that_blocks",
            "core/test_sync.py::test_a_later_interrupt_breaks_off_blocking_cleanup",
            "core/test_sync.py::test_a_burst_of_interrupts_ends_in_one_error",
            "core/test_sync.py::test_a_connection_that_is_made_when_the_second_interrupt_comes_is_closed",
            "core/test_sync.py::test_a_connection_that_is_closing_when_the_second_interrupt_comes_is_closed",
            "core/test_sync.py::test_every_task_is_ended_however_many_interrupts_come_meanwhile",
        ),
        removals=(
            Removal(
                where="core.sync:_result",
                what="is_interrupted",
                by="False",
                tests=("core/test_sync_in_kernels.py::test_an_interrupt_during_connect_is_the_interrupt",),
            ),
            Removal(
                where="core.interrupts:InterruptHandler._cancel",
                what="self._grace_s",
                by="3600.0",
                tests=("core/test_sync_in_kernels.py::test_cleanup_that_hangs_ends_within_the_grace_time",),
            ),
            Removal(
                where="core.interrupts:InterruptHandler.__call__",
                what="self.is_open",
                by="False",
                tests=("core/test_sync.py::test_the_second_interrupt_breaks_off_code_that_blocks",),
            ),
            Removal(
                where="core.sync:_close_sockets_in",
                by="lambda error: None",
                tests=("core/test_sync.py::test_a_connection_that_is_made_when_the_second_interrupt_comes_is_closed",),
            ),
            Removal(
                where="core.private_loop:PrivateLoop.close_sockets",
                by="lambda self: None",
                tests=(
                    "core/test_sync.py::test_a_connection_that_is_closing_when_the_second_interrupt_comes_is_closed",
                ),
            ),
            Removal(
                where="core.interrupts:_MAX_QUIETS",
                by="0",
                tests=("core/test_sync.py::test_a_burst_of_interrupts_ends_in_one_error",),
            ),
        ),
    ),
    Row(
        number=57,
        fault="a later run that lasts longer than the grace time",
        outcome="succeeds",
        tests=(
            "core/test_sync_in_kernels.py::test_a_later_call_may_last_longer_than_the_grace_time",
            "core/test_sync.py::test_a_later_run_may_last_longer_than_the_grace_time",
            "core/test_sync.py::test_a_stop_of_the_loop_by_somebody_does_not_end_the_call",
        ),
        removals=(
            # A stop() that is left over must not end the next run.
            Removal(
                where="core.sync:_run_until",
                by="lambda loop, is_ready, interrupts: None if is_ready() else _run_once(loop, interrupts)",
            ),
        ),
    ),
    Row(
        number=58,
        fault="interrupt through the control channel's interrupt_request; inside a top-level-await cell",
        outcome="works",
        tests=(
            "core/test_sync_in_kernels.py::test_interrupts_reach_every_kind_of_cell",
            "magic/test_extension_in_kernels.py::test_an_interrupted_stream_stays_visible_and_out_of_the_history",
            "magic/test_extension_in_kernels.py::test_an_interrupted_hang_ends_while_the_server_still_hangs",
        ),
        removals=(
            Removal(
                where="core.interrupts:InterruptHandler.install",
                what="signal.signal",
                by="None",
                tests=("core/test_sync_in_kernels.py::test_interrupts_reach_every_kind_of_cell",),
            ),
        ),
    ),
    Row(
        number=59,
        fault="cells queued behind an interrupted or failed cell",
        outcome="report aborted",
        tests=(
            "magic/test_extension_in_kernels.py::test_cells_behind_one_that_failed_are_aborted",
            "magic/test_extension_in_kernels.py::test_an_interrupted_hang_ends_while_the_server_still_hangs",
            "batching/test_in_kernels.py::test_interrupt_of_200_in_flight_keeps_what_is_finished",
            "core/test_sync_in_kernels.py::test_cells_behind_a_failed_one_are_aborted",
            "core/test_sync_in_kernels.py::test_cells_behind_an_interrupted_one_are_aborted",
        ),
        removals=(
            Removal(
                where="magic.extension:_short_errors",
                what="failed",
                by="None",
                tests=("magic/test_extension_in_kernels.py::test_cells_behind_one_that_failed_are_aborted",),
            ),
            Removal(
                where="core.sync:_result",
                by="lambda driver, broken, is_interrupted: "
                "None if is_interrupted else original(driver, broken, is_interrupted)",
                tests=("core/test_sync_in_kernels.py::test_cells_behind_an_interrupted_one_are_aborted",),
            ),
        ),
    ),
    Row(
        number=60,
        fault="uvloop kernel; subshell and main shell at once; thread; after fork; terminal IPython under a pty with "
        "Ctrl-C; nbclient; papermill; plain script; inside asyncio.run",
        outcome="all work",
        tests=(
            "core/test_sync_in_kernels.py::test_a_kernel_on_uvloop",
            "core/test_sync_in_kernels.py::test_a_subshell_and_the_main_shell_at_once",
            "core/test_sync_in_kernels.py::test_threads_and_forks_of_a_cell",
            "core/test_sync_in_kernels.py::test_a_terminal_with_ctrl_c",
            "core/test_sync_in_kernels.py::test_a_notebook_run_by_a_program",
            "core/test_sync_in_kernels.py::test_a_plain_script_under_ctrl_c",
            "core/test_sync.py::test_runs_anywhere",
            "core/test_sync.py::test_the_first_interrupt_cancels",
        ),
        removals=(
            Removal(
                where="core.sync:_run_once",
                what="make_nestable",
                by="None",
                tests=("core/test_sync_in_kernels.py::test_a_notebook_run_by_a_program",),
            ),
            Removal(
                where="core.interrupts:InterruptHandler.install",
                what="current_thread",
                by="threading.main_thread()",
                tests=("core/test_sync_in_kernels.py::test_threads_and_forks_of_a_cell",),
            ),
            Removal(
                where="core.interrupts:InterruptHandler.install",
                what="signal.signal",
                by="None",
                tests=("core/test_sync_in_kernels.py::test_a_plain_script_under_ctrl_c",),
            ),
        ),
    ),
    Row(
        number=61,
        fault="global state after use",
        outcome="asyncio.run, asyncio.Task, the policy and the kernel's loop unchanged; asyncio.timeout and "
        "current_task() valid; SIGINT handler restored after success, error and interrupt",
        tests=(
            "core/test_sync_in_kernels.py::test_nothing_global_changes",
            "core/test_sync.py::test_asyncios_own_classes_stay_as_they_are",
            "core/test_sync.py::test_timeouts_and_the_current_task_are_valid_inside",
            "core/test_sync.py::test_the_handler_in_place_comes_back",
        ),
        removals=(
            Removal(
                where="core.private_loop:make_nestable",
                what="_patch_loop",
                by="nester.apply(loop)",
                tests=("core/test_sync_in_kernels.py::test_nothing_global_changes",),
            ),
            Removal(
                where="core.interrupts:InterruptHandler.restore",
                what="signal.signal",
                by="None",
                tests=("core/test_sync.py::test_the_handler_in_place_comes_back",),
            ),
        ),
    ),
    Row(
        number=62,
        fault="a call nested in a callback of ours",
        outcome="a clear error, no deadlock",
        tests=(
            "magic/test_extension_in_kernels.py::test_a_call_nested_in_a_callback_of_ours_is_a_clear_error",
            "core/test_sync_in_kernels.py::test_a_call_nested_in_a_callback_is_a_clear_error",
            "core/test_sync.py::test_a_call_inside_a_call_is_an_error_and_no_deadlock",
        ),
        removals=(
            Removal(
                where="core.sync:_advance",
                what="is_nested",
                by="False",
                tests=("core/test_sync.py::test_a_call_inside_a_call_is_an_error_and_no_deadlock",),
            ),
        ),
    ),
    Row(
        number=63,
        fault="an ExceptionGroup raised by a provider",
        outcome="one clean error message",
        tests=(
            "magic/test_extension_in_kernels.py::test_an_exception_group_of_a_provider_is_one_clean_error",
            "core/test_sync_in_kernels.py::test_an_exception_group_is_one_clean_error",
            "chat/test_chat.py::test_exception_group_leaves_no_group_in_the_chain",
        ),
        removals=(
            Removal(
                where="core.sync:_result",
                what="isinstance",
                by="False",
                tests=("core/test_sync_in_kernels.py::test_an_exception_group_is_one_clean_error",),
            ),
            Removal(
                where="chat.chat:_as_aichat_error",
                what="ExceptionGroup",
                by="()",
                tests=("chat/test_chat.py::test_exception_group_leaves_no_group_in_the_chain",),
            ),
        ),
    ),
    Row(
        number=64,
        fault="600 tokens in 3 s",
        outcome="<= 40 display messages, the final text complete; under %%capture one output; in a terminal each token "
        "once",
        tests=(
            "magic/test_extension_in_kernels.py::test_a_long_stream_is_few_messages_and_complete",
            "magic/test_extension_in_kernels.py::test_a_captured_cell_has_one_output",
            "magic/test_extension_in_kernels.py::test_a_terminal_shows_each_token_once",
            "magic/test_views.py::test_600_tokens_in_3_seconds_are_at_most_40_messages_and_the_last_is_complete",
        ),
        removals=(
            Removal(
                where="magic.live:_MIN_INTERVAL_S",
                by="0.0",
                tests=(
                    "magic/test_views.py::test_600_tokens_in_3_seconds_are_at_most_40_messages_and_the_last_is_complete",
                ),
            ),
            Removal(
                where="text.front_end:front_end",
                what="FrontEnd.CAPTURED",
                by="FrontEnd.NOTEBOOK",
                tests=("magic/test_extension_in_kernels.py::test_a_captured_cell_has_one_output",),
            ),
            Removal(
                where="magic.live:StreamedView.update",
                what="text.startswith",
                by="False",
                tests=("magic/test_extension_in_kernels.py::test_a_terminal_shows_each_token_once",),
            ),
        ),
    ),
    Row(
        number=65,
        fault="two cells, then the server closes the idle connection, then a third",
        outcome="one connection for the first two, recovery for the third",
        tests=(
            "magic/test_extension_in_kernels.py::test_cells_share_a_connection_and_recover_when_it_is_closed",
            "http/test_client.py::test_two_requests_and_a_stream_share_one_connection",
            "http/test_client.py::test_an_idle_connection_closed_by_the_server_is_replaced",
        ),
        removals=(
            Removal(
                where="core.sync:_ThreadRunner._open",
                by="lambda self: (setattr(self, '_loop', None), original(self))[1]",
                tests=(
                    "magic/test_extension_in_kernels.py::test_cells_share_a_connection_and_recover_when_it_is_closed",
                ),
            ),
        ),
    ),
    Row(
        number=66,
        fault="magic line with quotes, an open quote, an unknown flag, --temperature 0, -t -0.5, blanks, braces, $5, a "
        "trailing ;, an unbalanced (",
        outcome="parsed as a shell would; the prompt reaches the server byte for byte; wrong lines send nothing",
        tests=(
            "magic/test_extension_in_kernels.py::test_a_prompt_reaches_the_server_byte_for_byte",
            "magic/test_extension_in_kernels.py::test_a_line_is_parsed_as_a_shell_would",
            "magic/test_extension_in_kernels.py::test_a_wrong_line_sends_nothing_and_is_a_short_error",
            "magic/test_extension.py::test_prompt_reaches_the_server_byte_for_byte",
            "magic/test_extension.py::test_wrong_line_sends_nothing_and_is_a_short_error",
            "magic/test_arguments.py::test_quotes_are_those_of_a_shell",
        ),
        removals=(
            Removal(
                where="magic.line_words:split_line",
                by="str.split",
                tests=("magic/test_extension_in_kernels.py::test_a_line_is_parsed_as_a_shell_would",),
            ),
            Removal(
                where="magic.extension:AIChat.aichat",
                what="no_var_expand",
                by="lambda method: method",
                tests=("magic/test_extension_in_kernels.py::test_a_prompt_reaches_the_server_byte_for_byte",),
            ),
            Removal(
                where="magic.flags:MagicLineParser.parse_words",
                what="rest",
                by="()",
                tests=("magic/test_extension_in_kernels.py::test_a_wrong_line_sends_nothing_and_is_a_short_error",),
            ),
        ),
    ),
    Row(
        number=67,
        fault="load, unload, reload, a bad %config value in between",
        outcome="no matcher, configurable or event left behind; reload works",
        tests=(
            "magic/test_extension_in_kernels.py::test_load_unload_and_reload_leave_nothing_behind_whatever_was_configured",
            "magic/test_extension.py::test_unload_leaves_nothing_behind_and_reload_works_after_a_bad_value",
        ),
        removals=(
            Removal(
                where="magic.extension:load",
                what="_forget",
                by="None",
                tests=(
                    "magic/test_extension_in_kernels.py::test_load_unload_and_reload_leave_nothing_behind_whatever_was_configured",
                ),
            ),
            Removal(
                where="magic.extension:unload",
                what="magics.leave",
                by="None",
                tests=(
                    "magic/test_extension_in_kernels.py::test_load_unload_and_reload_leave_nothing_behind_whatever_was_configured",
                ),
            ),
            Removal(
                where="magic.extension:load",
                what="TraitError",
                by="ZeroDivisionError",
                tests=(
                    "magic/test_extension.py::test_unload_leaves_nothing_behind_and_reload_works_after_a_bad_value",
                ),
            ),
        ),
    ),
    Row(
        number=68,
        fault="rerun cell k of a conversation of n (real cellId)",
        outcome="only turn k is replaced; only earlier turns are sent; later turns stay",
        tests=(
            "magic/test_history_in_kernels.py::"
            "test_cell_that_is_run_again_sends_earlier_turns_only_and_later_turns_stay",
            "magic/test_session.py::test_rerun_of_a_cell_sends_earlier_turns_only_and_replaces_only_its_own",
        ),
        removals=(
            Removal(
                where="magic.session:Session._cell",
                what="kept.place_of",
                by="None",
                tests=(
                    "magic/test_history_in_kernels.py::"
                    "test_cell_that_is_run_again_sends_earlier_turns_only_and_later_turns_stay",
                ),
            ),
        ),
    ),
)
