"""The embedded model, files of the Hugging Face Hub, and servers whose context is full: row 89d and its kind.

The numbers of rows 89a to 89d are 891 to 894 here; 895 and 896 continue them.
"""

from __future__ import annotations

from acceptance.rows import Removal, Row

_NOTICES = "chat/test_notices.py"
_HUB = "providers/llama/test_hub.py"

ROWS: tuple[Row, ...] = (
    Row(
        number=894,
        fault="a reply cut by the end of the context, or by a limit that the user did not set, without `max_tokens`; a "
        "prompt that a server cuts in silence (89d)",
        outcome="said under the reply, with what to do; in a script once, in a line; the history of the next cell fits "
        "what the full context has shown, also where all estimates are too low",
        tests=(
            f"{_NOTICES}::test_reply_cut_by_the_end_of_the_context_is_told_and_the_next_cell_works",
            f"{_NOTICES}::test_cause_of_a_cut_is_told_from_the_tokens",
            f"{_NOTICES}::test_limit_of_a_server_is_not_taken_for_its_context",
            f"{_NOTICES}::test_context_of_the_embedded_model_ends_in_a_cell_and_the_next_cell_works",
            f"{_NOTICES}::test_prompt_that_the_server_has_cut_is_told",
            f"{_NOTICES}::test_script_is_told_once_of_replies_that_were_cut",
            f"{_NOTICES}::test_reply_cut_by_the_limit_of_the_embedded_model_says_how_to_raise_it",
            f"{_NOTICES}::test_reply_cut_by_the_limit_of_the_user_is_marked_as_before",
        ),
        removals=(
            Removal(
                where="chat.chat:Chat._with_notice",
                what="noticed",
                by="reply",
                tests=(f"{_NOTICES}::test_reply_cut_by_the_end_of_the_context_is_told_and_the_next_cell_works",),
            ),
            Removal(
                where="chat.chat:Chat._with_notice",
                what="contexts.learn",
                by="None",
                tests=(f"{_NOTICES}::test_reply_cut_by_the_end_of_the_context_is_told_and_the_next_cell_works",),
            ),
            Removal(
                where="chat.notices:ContextSizes.learn",
                what="min",
                by="read + written",
                tests=(f"{_NOTICES}::test_reply_cut_by_the_end_of_the_context_is_told_and_the_next_cell_works",),
            ),
            Removal(
                where="chat.notices:_CONTEXT_STEP",
                by="1",
                tests=(f"{_NOTICES}::test_limit_of_a_server_is_not_taken_for_its_context",),
            ),
            Removal(
                where="chat.notices:noticed",
                what="prompt_notice",
                by="''",
                tests=(f"{_NOTICES}::test_prompt_that_the_server_has_cut_is_told",),
            ),
            Removal(
                where="chat.notices:_PLAINLY_MORE",
                by="1.0",
                tests=(f"{_NOTICES}::test_prompt_that_the_server_has_cut_is_told",),
            ),
            Removal(
                where="magic.views:TerminalView.finish",
                what="reply.notice",
                by="''",
                tests=(f"{_NOTICES}::test_reply_cut_by_the_limit_of_the_embedded_model_says_how_to_raise_it",),
            ),
            Removal(
                where="text.reply_view:reply_bundle",
                what="reply.notice",
                by="''",
                tests=(f"{_NOTICES}::test_reply_cut_by_the_limit_of_the_embedded_model_says_how_to_raise_it",),
            ),
        ),
    ),
    Row(
        number=895,
        fault="the embedded model, with 135 million parameters, is taken for a real one",
        outcome="one line at its first reply of a process: above a cell's reply, on the error stream of a script, in "
        "the view of a run; once more, and plainer, before code, tables and values; never among the rows",
        tests=(
            f"{_NOTICES}::test_first_cell_of_a_process_says_that_it_is_a_demonstration_and_how_to_choose_another",
            f"{_NOTICES}::test_first_call_of_a_script_says_so_in_one_line",
            f"{_NOTICES}::test_run_says_once_that_it_is_not_to_be_relied_on",
            f"{_NOTICES}::test_run_of_a_cell_shows_it_in_its_view_only",
            f"{_NOTICES}::test_values_and_code_are_not_to_be_relied_on",
            f"{_NOTICES}::test_commands_about_code_are_not_to_be_relied_on",
            f"{_NOTICES}::test_other_models_are_not_introduced",
            f"{_NOTICES}::test_line_of_a_script_goes_to_the_error_stream_and_can_be_switched_off",
        ),
        removals=(
            Removal(
                where="chat.notices:Introductions.is_first",
                by="lambda *_: True",
                tests=(f"{_NOTICES}::test_first_call_of_a_script_says_so_in_one_line",),
            ),
            Removal(
                where="magic.session:Session._cell",
                what="introductions.line",
                by="''",
                tests=(
                    f"{_NOTICES}::test_first_cell_of_a_process_says_that_it_is_a_demonstration_and_how_to_choose_another",
                ),
            ),
            Removal(
                where="magic.session:Session._cell",
                what="is_template",
                by="False",
                tests=(f"{_NOTICES}::test_commands_about_code_are_not_to_be_relied_on",),
            ),
            Removal(
                where="batching.run:run_rows",
                what="introductions.line",
                by="''",
                tests=(f"{_NOTICES}::test_run_of_a_cell_shows_it_in_its_view_only",),
            ),
            Removal(
                where="chat.chat:Chat._introduce",
                by="lambda *_: None",
                tests=(f"{_NOTICES}::test_first_call_of_a_script_says_so_in_one_line",),
            ),
        ),
    ),
    Row(
        number=896,
        fault="a model file of the Hugging Face Hub: broken download, wrong bytes, gated, missing or ambiguous model, "
        "no network, an interrupt, too little memory, a token",
        outcome="goes on where it ended; the hash decides; each refusal says what to do; what is on the machine is "
        "used without a network; the token goes to the Hub alone, and into no message",
        tests=(
            f"{_HUB}::test_download_that_breaks_off_goes_on_where_it_ended",
            f"{_HUB}::test_download_that_always_breaks_off_ends_and_the_next_one_goes_on",
            f"{_HUB}::test_server_that_cannot_go_on_sends_all_again",
            f"{_HUB}::test_partial_file_of_somebody_else_is_no_harm",
            f"{_HUB}::test_file_with_a_flipped_byte_is_refused_and_removed",
            f"{_HUB}::test_server_without_hashes_is_no_hub",
            f"{_HUB}::test_two_at_once_fetch_once",
            f"{_HUB}::test_full_disk_is_told_before_anything_is_fetched",
            f"{_HUB}::test_interrupt_leaves_what_has_come_and_the_next_download_goes_on",
            f"{_HUB}::test_interrupt_is_heard_while_the_server_is_silent",
            f"{_HUB}::test_gated_model_is_told_with_its_page_and_the_variable",
            f"{_HUB}::test_missing_model_is_told_with_the_address",
            f"{_HUB}::test_token_goes_to_the_hub_only",
            f"{_HUB}::test_token_is_in_no_message",
            f"{_HUB}::test_file_on_this_machine_is_used_where_the_hub_is_away",
            f"{_HUB}::test_file_that_is_nowhere_is_told_with_the_reason",
            f"{_HUB}::test_name_that_stands_for_no_or_several_models_lists_what_there_is",
            f"{_HUB}::test_warning_of_too_little_memory_comes_before_the_load",
        ),
        removals=(
            Removal(
                where="providers.llama.hub:_HubDownload._fetch",
                what="self._hash_of",
                by="blob.name",
                tests=(f"{_HUB}::test_file_with_a_flipped_byte_is_refused_and_removed",),
            ),
            Removal(
                where="providers.llama.hub:_HASH",
                by="re.compile('.*')",
                tests=(f"{_HUB}::test_server_without_hashes_is_no_hub",),
            ),
            Removal(
                where="providers.llama.hub:_HubDownload._fetch",
                what="locked",
                by="open(os.devnull)",
                tests=(f"{_HUB}::test_two_at_once_fetch_once",),
            ),
            Removal(
                where="providers.llama.hub:_HubDownload._append",
                what="host_of",
                by="''",
                tests=(f"{_HUB}::test_token_goes_to_the_hub_only",),
            ),
            Removal(
                where="providers.llama.hub:_interruptible",
                by="lambda work, is_cancelled: work()",
                tests=(f"{_HUB}::test_interrupt_is_heard_while_the_server_is_silent",),
            ),
            Removal(
                where="providers.llama.hub:_MOST_FAILURES",
                by="1",
                tests=(f"{_HUB}::test_download_that_breaks_off_goes_on_where_it_ended",),
            ),
            Removal(
                where="providers.llama.hub:_HubDownload.cached",
                by="lambda self: None",
                tests=(f"{_HUB}::test_file_on_this_machine_is_used_where_the_hub_is_away",),
            ),
            Removal(
                where="http.download:append_response",
                what="response.status_code",
                by="206",
                tests=(f"{_HUB}::test_server_that_cannot_go_on_sends_all_again",),
            ),
            Removal(
                where="providers.llama.engine:engine_for",
                what="memory_warning",
                by="''",
                tests=(f"{_HUB}::test_warning_of_too_little_memory_comes_before_the_load",),
            ),
        ),
    ),
)
