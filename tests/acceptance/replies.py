"""Replies as they are paid for, kept and put into columns: rows 75, 108 and 120."""

from __future__ import annotations

from acceptance.rows import Removal, Row

ROWS: tuple[Row, ...] = (
    Row(
        number=75,
        fault="empty text with length (thinking used the budget), content_filter, null content, a refusal",
        outcome="in a run <NA> and an error that names the cause and the mend; paid; asked again by a rerun and by "
        "retry(); stored empty replies of 0.1 are misses; an extraction names a cut and a refusal; in a cell shown as "
        "what it is, and no turn; ask, stream and conversations raise an error that has the reply",
        tests=(
            "core/test_answers.py::test_row_without_an_answer_is_an_error_that_names_cause_and_mend",
            "core/test_answers.py::test_row_without_an_answer_is_asked_again_by_a_rerun_and_by_retry",
            "core/test_answers.py::test_row_without_an_answer_is_counted_as_paid",
            "core/test_answers.py::test_rows_without_an_answer_spend_the_budget",
            "core/test_answers.py::test_blank_reply_is_asked_for_once_more_and_then_an_answer",
            "core/test_answers.py::test_empty_replies_that_0_1_has_stored_are_misses",
            "core/test_answers.py::test_extraction_names_a_cut_and_a_refusal_and_does_not_ask_again",
            "store/test_sqlite.py::test_reply_without_an_answer_is_not_stored",
            "providers/test_openai.py::test_words_of_a_refusal_are_the_text_of_a_refusal",
            "providers/test_openai.py::test_refusal_in_pieces_is_a_refusal",
            "providers/test_openai.py::test_finish_reasons_of_all_servers_become_ours",
            "providers/test_openai.py::test_reply_that_the_server_broke_off_may_be_tried_again",
            "providers/test_anthropic.py::test_refusal_has_the_servers_reason_where_it_gives_one",
            "core/test_answers.py::test_question_without_an_answer_is_an_error_that_has_the_reply",
            "core/test_answers.py::test_blank_answer_to_a_question_is_asked_for_once_more_and_then_an_answer",
            "core/test_answers.py::test_conversation_keeps_no_turn_without_an_answer",
            "core/test_answers.py::test_into_a_column_goes_no_thinking_and_no_answer_that_is_none",
            "magic/test_replies_in_cells.py::test_answer_that_is_none_is_shown_as_what_it_is_and_is_no_turn",
            "magic/test_replies_in_cells.py::test_answer_that_is_none_leaves_the_turn_of_its_cell_as_it_was",
        ),
        removals=(
            Removal(
                where="chat.chat:Chat.ask",
                what="no_answer",
                by="None",
                tests=("core/test_answers.py::test_question_without_an_answer_is_an_error_that_has_the_reply",),
            ),
            Removal(
                where="chat.chat:Chat._chunks",
                what="no_answer",
                by="None",
                tests=("core/test_answers.py::test_question_without_an_answer_is_an_error_that_has_the_reply",),
            ),
            Removal(
                where="magic.asking:Question.fail",
                what="isinstance",
                by="False",
                tests=(
                    "magic/test_replies_in_cells.py::test_answer_that_is_none_is_shown_as_what_it_is_and_is_no_turn",
                ),
            ),
            Removal(
                where="magic.session:Session._account",
                what="record_run",
                by="None",
                tests=(
                    "magic/test_replies_in_cells.py::test_answer_that_is_none_is_shown_as_what_it_is_and_is_no_turn",
                ),
            ),
            Removal(
                where="batching.runner:BatchRunner._attempt",
                what="no_answer",
                by="None",
                tests=("core/test_answers.py::test_row_without_an_answer_is_an_error_that_names_cause_and_mend",),
            ),
            Removal(
                where="store.rows:answer_from",
                what="is_answer",
                by="True",
                tests=("core/test_answers.py::test_empty_replies_that_0_1_has_stored_are_misses",),
            ),
            Removal(
                where="store.rows:answer_row",
                what="is_answer",
                by="True",
                tests=("store/test_sqlite.py::test_reply_without_an_answer_is_not_stored",),
            ),
            Removal(
                where="chat.retry:stop_reason",
                what="max_blank_retries",
                by="0",
                tests=("core/test_answers.py::test_blank_reply_is_asked_for_once_more_and_then_an_answer",),
            ),
            Removal(
                where="frames.extract:Extraction._validated",
                what="incomplete",
                by="None",
                tests=("core/test_answers.py::test_extraction_names_a_cut_and_a_refusal_and_does_not_ask_again",),
            ),
            Removal(
                where="providers.dialect:Dialect._stream",
                what="is_refusal",
                by="False",
                tests=("providers/test_openai.py::test_refusal_in_pieces_is_a_refusal",),
            ),
            Removal(
                where="providers.openai:OpenAI._chunk",
                what="_BROKEN_OFF",
                by="''",
                tests=("providers/test_openai.py::test_reply_that_the_server_broke_off_may_be_tried_again",),
            ),
            Removal(
                where="providers.anthropic:_FINISH_REASONS",
                by="{**original, 'refusal': 'stop'}",
                tests=("providers/test_anthropic.py::test_refusal_has_the_servers_reason_where_it_gives_one",),
            ),
        ),
    ),
    Row(
        number=108,
        fault="a lone surrogate, a NUL or a tag character in one reply, in a stored one, in a value of extract, in "
        "an error, in a prompt, in the name of a column",
        outcome="replaced in that reply (tag characters stay: all take them), the rest unharmed; one line says so; "
        "what cannot be replaced is refused before anything is sent",
        tests=(
            "text/test_characters.py::test_one_reply_with_such_characters_leaves_the_column_whole_on_every_run",
            "text/test_characters.py::test_stored_replies_of_0_1_with_such_characters_are_mended_as_they_are_read",
            "text/test_characters.py::test_run_and_its_frame_and_its_file_hold_the_mended_text",
            "text/test_characters.py::test_batch_says_it_once",
            "text/test_characters.py::test_extracted_values_are_mended_too",
            "text/test_characters.py::test_whatever_json_holds_can_be_written_as_utf_8",
            "text/test_characters.py::test_tag_characters_stay_because_flags_are_made_of_them",
            "text/test_characters.py::test_preview_shows_a_prompt_with_such_characters",
            "text/test_characters.py::test_column_name_that_no_table_can_hold_is_refused_before_it_is_paid_for",
            "text/test_characters.py::test_schema_that_no_column_can_hold_is_refused_before_it_is_paid_for",
        ),
        removals=(
            Removal(
                where="batching.results:BatchResults.set_reply",
                what="fit",
                by="reply.text",
                tests=(
                    "text/test_characters.py::test_one_reply_with_such_characters_leaves_the_column_whole_on_every_run",
                ),
            ),
            Removal(
                where="core.json_text:values_in",
                what="without_unfit",
                by="text",
                tests=("text/test_characters.py::test_extracted_values_are_mended_too",),
            ),
            Removal(
                where="frames.accessors:_prompt",
                what="fit",
                by="row",
                tests=("text/test_characters.py::test_preview_shows_a_prompt_with_such_characters",),
            ),
            Removal(
                where="frames.accessors:_Accessor._column",
                what="result.remarks",
                by="()",
                tests=(
                    "text/test_characters.py::test_one_reply_with_such_characters_leaves_the_column_whole_on_every_run",
                ),
            ),
            Removal(
                where="batching.run:check_names",
                what="fit",
                by="column",
                tests=(
                    "text/test_characters.py::test_column_name_that_no_table_can_hold_is_refused_before_it_is_paid_for",
                ),
            ),
        ),
    ),
    Row(
        number=120,
        fault="the reply store is larger than its soft limit, or its file cannot be written",
        outcome="no reply is removed by itself; one line says that it is large; %aichat store shows the size and "
        "prunes by age and by size, the oldest first, and says what went",
        tests=(
            "store/test_sqlite.py::test_nothing_goes_by_itself_however_large_the_file_and_one_line_says_so",
            "store/test_sqlite.py::test_no_reply_is_given_up_while_the_disk_is_full",
            "store/test_sqlite.py::test_memory_store_keeps_all_and_says_once_that_it_is_large",
            "store/test_prune.py::test_pruning_by_age_removes_what_is_older",
            "store/test_prune.py::test_pruning_by_size_removes_the_oldest_and_no_more_than_it_must",
            "store/test_prune.py::test_pruning_goes_in_parts_so_that_others_can_write_in_between",
            "magic/test_extension.py::test_stored_replies_are_pruned_and_what_went_is_said",
            "magic/test_extension.py::test_line_of_store_that_cannot_be_understood_removes_nothing",
            "magic/test_doctor.py::test_large_store_of_replies_is_noted_with_the_way_to_prune_it",
        ),
        removals=(
            # A store that makes room, as that of 0.1 did.
            Removal(
                where="store.writer:Writer._check_size",
                what="_warnings.once",
                by="self._database.connection.execute('DELETE FROM replies WHERE id % 2')",
                tests=(
                    "store/test_sqlite.py::test_nothing_goes_by_itself_however_large_the_file_and_one_line_says_so",
                ),
            ),
            Removal(
                where="store.memory:MemoryStore.put_many",
                what="_warnings.once",
                by="self._rows.clear()",
                tests=("store/test_sqlite.py::test_memory_store_keeps_all_and_says_once_that_it_is_large",),
            ),
            Removal(
                where="store.prune:remove_larger",
                what="shrink",
                by="False",
                tests=("store/test_prune.py::test_pruning_by_size_removes_the_oldest_and_no_more_than_it_must",),
            ),
            Removal(
                where="store.prune:remove_older",
                by="lambda *given: (count for count, _ in zip(original(*given), range(1)))",
                tests=("store/test_prune.py::test_pruning_goes_in_parts_so_that_others_can_write_in_between",),
            ),
            Removal(
                where="magic.arguments:parse_store",
                what="ArgumentError",
                by="None",
                tests=("magic/test_extension.py::test_line_of_store_that_cannot_be_understood_removes_nothing",),
            ),
            Removal(
                where="magic.doctor:_store",
                what="SOFT_LIMIT_BYTES",
                by="float('inf')",
                tests=("magic/test_doctor.py::test_large_store_of_replies_is_noted_with_the_way_to_prune_it",),
            ),
        ),
    ),
)
