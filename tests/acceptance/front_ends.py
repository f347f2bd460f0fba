"""What front ends show that do not replace outputs: row 94."""

from __future__ import annotations

from acceptance.rows import Removal, Row

_KERNELS = "magic/test_front_ends_in_kernels.py::"
_CLIENTS = "magic/test_front_ends_in_clients.py::"
_CAPTURED = "magic/test_side_by_side.py::test_a_captured_cell_keeps_the_replies_of_all"

ROWS: tuple[Row, ...] = (
    Row(
        number=94,
        fault="front ends that ignore update_display_data (Spyder, qtconsole, jupyter-console, euporie); nbclient and "
        "papermill, which name no cell either",
        outcome="the whole reply, once: consoles get the text as it comes, old notebooks that and one final view in "
        "its place, programs one final view; what was there before an interrupt or error stays, once",
        tests=(
            f"{_KERNELS}test_console_gets_the_whole_reply_once_as_text",
            f"{_KERNELS}test_console_gets_a_line_about_the_reply_where_it_is_the_value",
            f"{_KERNELS}test_console_gets_a_reply_while_it_grows",
            f"{_KERNELS}test_console_keeps_the_text_before_an_error_once",
            f"{_KERNELS}test_console_gets_thinking_grey_above_the_text",
            f"{_KERNELS}test_console_erases_a_status_where_others_have_their_output",
            f"{_KERNELS}test_console_gets_the_bar_of_a_run_as_text",
            f"{_KERNELS}test_program_keeps_one_output_of_a_reply",
            f"{_KERNELS}test_program_keeps_the_text_before_an_interrupt_or_error_once",
            f"{_KERNELS}test_program_keeps_thinking_folded_and_no_status",
            f"{_KERNELS}test_program_keeps_the_last_line_of_a_run_and_no_bar",
            f"{_KERNELS}test_old_notebook_gets_text_and_in_its_place_one_view",
            f"{_KERNELS}test_old_notebook_gets_a_reply_while_it_grows_and_keeps_what_came",
            f"{_KERNELS}test_old_notebook_gets_thinking_grey_then_folded",
            f"{_KERNELS}test_old_notebook_keeps_what_else_the_cell_has_printed",
            f"{_KERNELS}test_captured_cell_keeps_one_output_in_every_front_end",
            f"{_KERNELS}test_console_gets_a_line_about_each_of_several_replies_once",
            _CAPTURED,
            f"{_KERNELS}test_notebook_that_names_its_cells_gets_updates",
            f"{_CLIENTS}test_console_shows_the_whole_reply_once_and_a_line_about_it",
            f"{_CLIENTS}test_console_shows_the_text_before_an_interrupt_once",
            f"{_CLIENTS}test_console_shows_the_text_before_an_error_once",
            f"{_CLIENTS}test_console_shows_thinking_apart_from_the_text",
            f"{_CLIENTS}test_console_shows_no_status_next_to_the_reply",
            f"{_CLIENTS}test_program_keeps_one_output_of_each_reply",
            "text/test_front_end.py::test_kind_of_front_end_by_what_its_request_says",
            "text/test_front_end.py::test_cell_that_is_nothing_but_a_magic",
            "text/test_front_end.py::test_stream_of_a_kernel_that_claims_to_be_a_terminal_is_none",
        ),
        removals=(
            Removal(
                where="magic.session:Session._cell",
                what="self._shown_with_others",
                by="self._shown",
                tests=(_CAPTURED, f"{_KERNELS}test_console_gets_a_line_about_each_of_several_replies_once"),
            ),
            # Updates for everybody, as 0.1 sent them.
            Removal(
                where="text.front_end:cell_id",
                by="lambda shell: 'any'",
                tests=(
                    f"{_KERNELS}test_console_gets_the_whole_reply_once_as_text",
                    f"{_KERNELS}test_old_notebook_gets_text_and_in_its_place_one_view",
                    f"{_CLIENTS}test_console_shows_the_whole_reply_once_and_a_line_about_it",
                ),
            ),
            # A final view for everybody: what consoles make of clear_output.
            Removal(
                where="text.front_end:front_end",
                what="FrontEnd.CONSOLE",
                by="FrontEnd.CLASSIC",
                tests=(f"{_CLIENTS}test_console_shows_the_whole_reply_once_and_a_line_about_it",),
            ),
            Removal(
                where="text.front_end:front_end",
                what="FrontEnd.PROGRAM",
                by="FrontEnd.CONSOLE",
                tests=(
                    f"{_KERNELS}test_program_keeps_one_output_of_a_reply",
                    f"{_CLIENTS}test_program_keeps_one_output_of_each_reply",
                ),
            ),
            Removal(
                where="magic.live:live_view",
                what="is_only_magic",
                by="True",
                tests=(f"{_KERNELS}test_old_notebook_keeps_what_else_the_cell_has_printed",),
            ),
            Removal(
                where="magic.live:StreamedView.finish",
                what="self._replace",
                by="None",
                tests=(f"{_KERNELS}test_old_notebook_gets_text_and_in_its_place_one_view",),
            ),
            Removal(
                where="magic.live:StreamedView._write_piece",
                what="self._status.clear",
                by="None",
                tests=(f"{_KERNELS}test_console_erases_a_status_where_others_have_their_output",),
            ),
            Removal(
                where="magic.live:_GREY",
                by="('', '')",
                tests=(f"{_KERNELS}test_console_gets_thinking_grey_above_the_text",),
            ),
            Removal(
                where="batching.progress_bar:ProgressBar.__call__",
                what="self._is_watched",
                by="True",
                tests=(f"{_KERNELS}test_program_keeps_the_last_line_of_a_run_and_no_bar",),
            ),
            Removal(
                where="text.front_end:is_kernel_stream",
                by="lambda stream: type(stream).__name__ == 'OutStream'",
                tests=("text/test_front_end.py::test_stream_of_a_kernel_that_claims_to_be_a_terminal_is_none",),
            ),
        ),
    ),
)
