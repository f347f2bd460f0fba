"""Replies that think, that were cut, and requests that are too long: rows 76, 81 and 87."""

from __future__ import annotations

from acceptance.rows import Removal, Row

_ANSWERS = "core/test_answers.py"
_CELLS = "magic/test_replies_in_cells.py"
_THINKING = "providers/test_thinking.py"
_VIEWS = "magic/test_views.py"
_HTML = "text/test_reply_view.py"
_STORE = "store/test_sqlite.py"

ROWS: tuple[Row, ...] = (
    Row(
        number=76,
        fault="text cut by max_tokens",
        outcome="the text stays; run, bar and frame count and name such rows; a cell says so under the reply; an "
        "extraction names the limit and is not asked again",
        tests=(
            f"{_ANSWERS}::test_run_counts_and_names_the_rows_that_were_cut",
            f"{_ANSWERS}::test_bar_shows_how_many_rows_were_cut",
            f"{_ANSWERS}::test_note_of_a_cut_names_the_limit_that_cut",
            f"{_ANSWERS}::test_text_that_was_cut_or_filtered_after_its_first_words_is_an_answer",
            f"{_ANSWERS}::test_extraction_names_a_cut_and_a_refusal_and_does_not_ask_again",
            f"{_CELLS}::test_text_that_was_cut_stays_and_is_a_turn_and_the_cell_says_what_cut_it",
        ),
        removals=(
            Removal(
                where="batching.results:BatchResults.set_reply",
                what="cut.add",
                by="None",
                tests=(f"{_ANSWERS}::test_run_counts_and_names_the_rows_that_were_cut",),
            ),
            Removal(
                where="batching.run:BatchRun.remarks",
                what="self._cut_line",
                by="[]",
                tests=(f"{_ANSWERS}::test_run_counts_and_names_the_rows_that_were_cut",),
            ),
            Removal(
                where="batching.progress_bar:ProgressBar.__call__",
                what="progress.cut",
                by="0",
                tests=(f"{_ANSWERS}::test_bar_shows_how_many_rows_were_cut",),
            ),
            Removal(
                where="magic.session:Session._ask",
                what="cut_note",
                by="''",
                tests=(f"{_CELLS}::test_text_that_was_cut_stays_and_is_a_turn_and_the_cell_says_what_cut_it",),
            ),
        ),
    ),
    Row(
        number=81,
        fault="thinking in fields (reasoning_content, reasoning, reasoning_details), in parts and blocks, between tags "
        "in the text, whole, in any pieces, and without its opening tag; JSON that is only in the thinking",
        outcome="in Reply.thinking, shown while it grows and folded once the answer begins; in no text, code, JSON, "
        "history, column or export; kept in a column of its own; blocks with signatures go back unchanged; a tag in "
        "prose or code is text",
        tests=(
            f"{_THINKING}::test_thinking_between_tags_is_no_text",
            f"{_THINKING}::test_pieces_do_not_matter_and_nothing_is_lost",
            f"{_THINKING}::test_thinking_is_shown_as_it_arrives_and_not_only_at_its_end",
            f"{_THINKING}::test_closing_tag_is_text_where_the_server_tells_thinking_apart_itself",
            f"{_THINKING}::test_json_that_is_only_in_the_thinking_is_the_answer",
            f"{_THINKING}::test_other_thinking_is_no_answer",
            f"{_THINKING}::test_thinking_is_read_from_every_servers_own_place",
            f"{_THINKING}::test_answer_with_a_schema_that_a_parser_of_thinking_has_taken_is_found",
            f"{_THINKING}::test_blocks_of_thinking_go_back_as_they_came_and_their_secrets_are_shown_nowhere",
            f"{_CELLS}::test_thinking_grows_before_the_text_and_is_in_nothing_that_is_sent_kept_or_exported",
            f"{_CELLS}::test_thinking_that_was_all_that_came_is_shown_and_a_retry_begins_it_anew",
            f"{_ANSWERS}::test_thinking_is_in_a_frame_where_it_is_asked_for_also_on_hits",
            f"{_ANSWERS}::test_into_a_column_goes_no_thinking_and_no_answer_that_is_none",
            f"{_STORE}::test_thinking_and_all_else_that_a_reply_has_come_back",
            f"{_STORE}::test_file_of_0_1_is_brought_up_to_date_and_loses_nothing",
            f"{_STORE}::test_thinking_that_0_1_stored_as_text_is_none_any_more",
            "store/test_prune.py::test_thinking_counts_for_the_size",
            f"{_VIEWS}::test_notebook_shows_thinking_open_while_there_is_nothing_else_then_folded",
            f"{_VIEWS}::test_thinking_is_sent_as_seldom_as_text_and_never_much_of_it",
            f"{_VIEWS}::test_terminal_writes_thinking_dim_above_the_text",
            f"{_VIEWS}::test_dim_thinking_is_wrapped_and_leaves_the_terminal_as_it_was",
            f"{_VIEWS}::test_thinking_is_written_to_terminals_that_can_dim_only",
            f"{_HTML}::test_any_thinking_gives_only_tags_attributes_and_addresses_of_ours",
            f"{_HTML}::test_thinking_is_folded_above_the_text_and_in_no_plain_text",
        ),
        removals=(
            Removal(
                where="providers.openai:OpenAI._chunk",
                what="thinking_in",
                by="''",
                tests=(f"{_THINKING}::test_thinking_is_read_from_every_servers_own_place",),
            ),
            Removal(
                where="providers.dialect:Dialect._complete",
                what="whole",
                by="self._read_response(self._object(response.json()))",
                tests=(f"{_THINKING}::test_thinking_is_read_from_every_servers_own_place",),
            ),
            Removal(
                where="providers.dialect:Dialect._stream",
                what="thinking.read",
                by="self._read_event(event, state)",
                tests=(f"{_THINKING}::test_thinking_is_read_from_every_servers_own_place",),
            ),
            Removal(
                where="providers.dialect:Dialect._stream",
                what="thinking.end",
                by="Chunk()",
                tests=(f"{_THINKING}::test_answer_with_a_schema_that_a_parser_of_thinking_has_taken_is_found",),
            ),
            # Too rarely and too often.
            Removal(
                where="providers.thinking:_is_unopened",
                by="lambda *_: False",
                tests=(f"{_THINKING}::test_thinking_between_tags_is_no_text",),
            ),
            Removal(
                where="providers.thinking:_is_unopened",
                by="lambda *_: True",
                tests=(f"{_THINKING}::test_thinking_between_tags_is_no_text",),
            ),
            Removal(
                where="providers.thinking:_BEGUN",
                by="__import__('re').compile('(?!)')",
                tests=(f"{_THINKING}::test_thinking_between_tags_is_no_text",),
            ),
            Removal(
                where="providers.thinking:is_json_only",
                by="lambda text: False",
                tests=(f"{_THINKING}::test_json_that_is_only_in_the_thinking_is_the_answer",),
            ),
            Removal(
                where="providers.thinking:is_json_only",
                by="lambda text: bool(text)",
                tests=(f"{_THINKING}::test_other_thinking_is_no_answer",),
            ),
            Removal(
                where="providers.anthropic:_blocks",
                what="message.thinking_blocks",
                by="()",
                tests=(
                    f"{_THINKING}::test_blocks_of_thinking_go_back_as_they_came_and_their_secrets_are_shown_nowhere",
                ),
            ),
            Removal(
                where="core.messages:PartialReply.add",
                what="chunk.replaces",
                by="False",
                tests=(
                    f"{_CELLS}::test_thinking_grows_before_the_text_and_is_in_nothing_that_is_sent_kept_or_exported",
                ),
            ),
            Removal(
                where="chat.chat:Chat._chunks",
                what="draft.restart",
                by="None",
                tests=(f"{_CELLS}::test_thinking_that_was_all_that_came_is_shown_and_a_retry_begins_it_anew",),
            ),
            Removal(
                where="batching.results:BatchResults.set_reply",
                what="reply.thinking",
                by="''",
                tests=(f"{_ANSWERS}::test_thinking_is_in_a_frame_where_it_is_asked_for_also_on_hits",),
            ),
            Removal(
                where="store.rows:row_from",
                what="reply.thinking",
                by="''",
                tests=(f"{_STORE}::test_thinking_and_all_else_that_a_reply_has_come_back",),
            ),
            Removal(
                where="store.rows:LAYOUT",
                by="1",
                tests=(f"{_STORE}::test_file_of_0_1_is_brought_up_to_date_and_loses_nothing",),
            ),
            Removal(
                where="store.rows:_THINKING_OF_0_1",
                by="()",
                tests=(f"{_STORE}::test_thinking_that_0_1_stored_as_text_is_none_any_more",),
            ),
            Removal(
                where="store.rows:LENGTH_SQL",
                by="'length(text)'",
                tests=("store/test_prune.py::test_thinking_counts_for_the_size",),
            ),
            Removal(
                where="text.reply_view:folded_thinking_html",
                what="markdown_html",
                by="thinking",
                tests=(f"{_HTML}::test_any_thinking_gives_only_tags_attributes_and_addresses_of_ours",),
            ),
            Removal(
                where="text.reply_view:growing_thinking_html",
                what="markdown_html",
                by="newest",
                tests=(f"{_HTML}::test_any_thinking_gives_only_tags_attributes_and_addresses_of_ours",),
            ),
            Removal(
                where="text.reply_view:_GROWING_CHARS",
                by="10**9",
                tests=(f"{_VIEWS}::test_thinking_is_sent_as_seldom_as_text_and_never_much_of_it",),
            ),
            Removal(
                where="magic.views:TerminalView.think",
                what="terminal_text",
                by="thinking_so_far[self._n_thought :]",
                tests=(f"{_VIEWS}::test_terminal_writes_thinking_dim_above_the_text",),
            ),
            Removal(
                where="magic.views:TerminalView.__init__",
                what="has_dim_text",
                by="True",
                tests=(f"{_VIEWS}::test_thinking_is_written_to_terminals_that_can_dim_only",),
            ),
        ),
    ),
    Row(
        number=87,
        fault="context length exceeded in a conversation",
        outcome="besides the server's words: how much of it the earlier turns are, with --new, undo and "
        "max_history_tokens, and the largest include by its name and tokens",
        tests=(
            f"{_CELLS}::test_request_that_is_too_long_names_what_takes_the_space_and_the_ways_out",
            f"{_CELLS}::test_conversation_of_a_script_names_its_own_ways_out",
            f"{_CELLS}::test_advice_counts_pictures_and_the_system_message",
            f"{_CELLS}::test_server_that_says_so_is_understood",
        ),
        removals=(
            Removal(
                where="magic.session:Session._cell",
                what="history.length_advice",
                by="''",
                tests=(f"{_CELLS}::test_request_that_is_too_long_names_what_takes_the_space_and_the_ways_out",),
            ),
            Removal(
                where="chat.conversation:History.length_advice",
                what="max",
                by="None",
                tests=(f"{_CELLS}::test_request_that_is_too_long_names_what_takes_the_space_and_the_ways_out",),
            ),
            Removal(
                where="chat.conversation:_length_advice",
                what="history.length_advice",
                by="''",
                tests=(f"{_CELLS}::test_conversation_of_a_script_names_its_own_ways_out",),
            ),
        ),
    ),
)
