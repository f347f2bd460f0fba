"""What is typed, and what goes along with it: rows 95 to 99."""

from __future__ import annotations

from acceptance.rows import Removal, Row

_KERNELS = "magic/test_typed_lines_in_kernels.py"
_CALLS = "magic/test_line_calls.py"
_FILL = "magic/context/test_placeholders.py"
_EARLIER = "magic/context/test_earlier_turns.py"
_COLUMNS = "frames/test_template.py"
_SHELL = "magic/test_extension.py"
_SIDES = "magic/test_side_by_side.py"

ROWS: tuple[Row, ...] = (
    Row(
        number=95,
        fault=r"LaTeX and variables of its names: \mathbf{x}, \frac{a}{n}, x_{n}, ^{n}, $\{a\}$, \begin{x}; ${price}",
        outcome="formulas are no placeholders and go out byte for byte, and a line says so; amounts, paths, names of "
        "files, code and JSON are filled as ever",
        tests=(
            "text/test_formulas.py::test_formula_is_found_whole",
            "text/test_formulas.py::test_index_is_found",
            "text/test_formulas.py::test_everything_else_is_none",
            f"{_FILL}::test_formula_stays_byte_for_byte_whatever_the_variables",
            f"{_FILL}::test_formulas_and_placeholders_side_by_side",
            f"{_FILL}::test_braces_of_formulas_are_told_only_where_they_name_a_variable",
            f"{_FILL}::test_what_is_no_formula_is_filled_as_ever",
            f"{_SHELL}::test_formula_goes_out_as_it_is_and_a_line_says_so",
            f"{_KERNELS}::test_formulas_go_out_as_they_are",
            f"{_COLUMNS}::test_other_braces_are_text",
            f"{_COLUMNS}::test_column_in_a_formula_is_filled_and_a_slip_of_one_refused",
        ),
        removals=(
            Removal(
                where="frames.template:ColumnTemplate.parse",
                what="formula_spans",
                by="[]",
                tests=(f"{_COLUMNS}::test_other_braces_are_text",),
            ),
            Removal(
                where="text.formulas:formula_spans",
                by="lambda text: []",
                tests=(
                    f"{_FILL}::test_formula_stays_byte_for_byte_whatever_the_variables",
                    f"{_KERNELS}::test_formulas_go_out_as_they_are",
                ),
            ),
            Removal(
                where="text.formulas:_end_of_arguments",
                by="lambda text, at, groups: at",
                tests=(f"{_FILL}::test_formula_stays_byte_for_byte_whatever_the_variables",),
            ),
            # The other way round: whatever looks a little like a formula is one.
            Removal(
                where="text.formulas:formula_spans",
                by="lambda text: [(0, len(text))]",
                tests=(f"{_FILL}::test_what_is_no_formula_is_filled_as_ever",),
            ),
            Removal(
                where="magic.session:_prompt_notes",
                what="prompt.in_formulas",
                by="()",
                tests=(f"{_SHELL}::test_formula_goes_out_as_it_is_and_a_line_says_so",),
            ),
        ),
    ),
    Row(
        number=96,
        fault="q = %aichat ask Why?, %aichat what is it?, the same in functions, loops and string literals; "
        "-temperature 0.7; {dff} beside a variable df",
        outcome="a question, whose value is the reply; literals untouched; what is nearly right sends nothing and is "
        "met with what was meant",
        tests=(
            f"{_CALLS}::test_question_is_asked_whole",
            f"{_CALLS}::test_several_in_one_cell_are_asked_in_order",
            f"{_CALLS}::test_line_that_goes_on_is_put_together",
            f"{_CALLS}::test_line_in_brackets_is_met_with_what_to_do",
            f"{_CALLS}::test_unprintable_line_ends_of_the_text_stay_in_it",
            f"{_CALLS}::test_what_is_no_line_of_ours_stays_byte_for_byte",
            f"{_CALLS}::test_any_python_without_our_lines_stays_byte_for_byte",
            f"{_CALLS}::test_line_among_any_python_is_asked_whole_and_nothing_else_changes",
            f"{_KERNELS}::test_question_is_asked_wherever_a_value_may_stand",
            f"{_KERNELS}::test_literals_and_comments_are_python_s_own",
            f"{_KERNELS}::test_prompt_below_a_cell_magic_is_no_python",
            f"{_KERNELS}::test_help_of_ipython_stays",
            f"{_KERNELS}::test_what_is_nearly_right_sends_nothing_and_is_met_with_what_was_meant",
            f"{_KERNELS}::test_terminal_takes_each_line_at_once",
            f"{_SHELL}::test_question_is_a_value_in_functions_and_loops",
            f"{_SHELL}::test_placeholder_of_ask_is_filled_from_the_function_it_is_in",
            f"{_SHELL}::test_slip_in_a_placeholder_sends_nothing",
            f"{_SHELL}::test_line_that_is_no_command_sends_nothing_and_says_how_to_ask",
            f"{_FILL}::test_slip_is_asked_about",
            f"{_FILL}::test_what_is_no_slip_stays_as_text",
            f"{_FILL}::test_slip_outside_of_code_counts_beside_one_inside",
            "magic/test_arguments.py::test_words_that_are_no_command_are_met_with_how_to_ask",
            "magic/test_arguments.py::test_flag_with_other_dashes_names_the_right_one",
        ),
        removals=(
            Removal(
                where="magic.extension:lines_as_calls",
                by="lambda lines: lines",
                tests=(
                    f"{_KERNELS}::test_question_is_asked_wherever_a_value_may_stand",
                    f"{_KERNELS}::test_terminal_takes_each_line_at_once",
                ),
            ),
            # Lines instead of tokens.
            Removal(
                where="magic.line_calls:with_calls",
                by="lambda lines: [re.sub(r'%aichat (.*)', lambda line: _call([line[0]], 0), line) for line in lines]",
                tests=(
                    f"{_CALLS}::test_any_python_without_our_lines_stays_byte_for_byte",
                    f"{_KERNELS}::test_literals_and_comments_are_python_s_own",
                ),
            ),
            Removal(
                where="magic.line_calls:_expects_value",
                by="lambda token: False",
                tests=(f"{_CALLS}::test_question_is_asked_whole",),
            ),
            Removal(
                where="magic.line_calls:_expects_value",
                by="lambda token: True",
                tests=(f"{_CALLS}::test_any_python_without_our_lines_stays_byte_for_byte",),
            ),
            Removal(
                where="magic.line_calls:_first_sign",
                what="depth",
                by="0",
                tests=(f"{_CALLS}::test_what_is_no_line_of_ours_stays_byte_for_byte",),
            ),
            Removal(
                where="magic.line_calls:_first_sign",
                what="_OURS.match",
                by="None",
                tests=(f"{_CALLS}::test_line_in_brackets_is_met_with_what_to_do",),
            ),
            Removal(
                where="magic.line_calls:_SIGNS_OF_STATEMENT",
                by="frozenset('%')",
                tests=(f"{_CALLS}::test_question_is_asked_whole",),
            ),
            Removal(
                where="magic.extension:AIChat.aichat",
                what="local_ns",
                by="None",
                tests=(f"{_SHELL}::test_placeholder_of_ask_is_filled_from_the_function_it_is_in",),
            ),
            Removal(
                where="magic.arguments:_unknown_command",
                what="meant",
                by="['']",
                tests=(f"{_SHELL}::test_line_that_is_no_command_sends_nothing_and_says_how_to_ask",),
            ),
            Removal(
                where="magic.flags:_long_flag",
                by="lambda word, flags: ''",
                tests=("magic/test_arguments.py::test_flag_with_other_dashes_names_the_right_one",),
            ),
            Removal(
                where="magic.context.placeholders:_refuse_slips",
                by="lambda *_: None",
                tests=(f"{_SHELL}::test_slip_in_a_placeholder_sends_nothing",),
            ),
            Removal(
                where="magic.context.placeholders:_CODE",
                by="re.compile('(?!)')",
                tests=(f"{_FILL}::test_what_is_no_slip_stays_as_text",),
            ),
            Removal(
                where="magic.context.placeholders:_is_mine",
                by="lambda name, value: True",
                tests=(f"{_FILL}::test_what_is_no_slip_stays_as_text",),
            ),
        ),
    ),
    Row(
        number=97,
        fault="backslashes in paths on the magic line; UNC paths; the last backslash; quotes",
        outcome="kept, except before a quote or a blank",
        tests=(
            "magic/test_line_words.py::test_backslash_counts_before_a_quote_or_a_blank_alone",
            "magic/test_line_words.py::test_open_quote_says_what_to_do",
            "magic/test_line_words.py::test_quoted_words_are_read_back",
            f"{_KERNELS}::test_path_of_windows_is_read",
        ),
        removals=(
            Removal(
                where="magic.line_words:split_line",
                by="lambda line: __import__('shlex').split(line)",
                tests=(
                    "magic/test_line_words.py::test_backslash_counts_before_a_quote_or_a_blank_alone",
                    f"{_KERNELS}::test_path_of_windows_is_read",
                ),
            ),
            Removal(
                where="magic.line_words:_TO_ESCAPE",
                by="re.compile('(?P<backslashes>(?!))')",
                tests=("magic/test_line_words.py::test_quoted_words_are_read_back",),
            ),
        ),
    ),
    Row(
        number=98,
        fault="a figure that was included once; another model, one that takes no images; a restart",
        outcome="sent again with as many turns as max_history_images says, to a model that has answered some; each "
        "cell says what goes along and what does not",
        tests=(
            f"{_EARLIER}::test_images_of_so_many_turns_go_along",
            f"{_EARLIER}::test_model_gets_images_once_it_has_answered_some",
            f"{_EARLIER}::test_provider_without_images_is_named",
            f"{_EARLIER}::test_images_that_a_restart_has_lost_are_told",
            f"{_SHELL}::test_figure_goes_out_as_an_image_and_again_with_the_next_turn",
            f"{_SHELL}::test_figure_is_not_sent_for_ever_and_each_cell_says_so",
            f"{_SHELL}::test_figure_goes_to_no_model_that_was_not_shown_any",
            f"{_KERNELS}::test_picture_is_sent_again_once_and_each_cell_says_so",
            f"{_SIDES}::test_each_model_is_told_of_what_it_was_sent_of_the_conversation",
        ),
        removals=(
            Removal(
                where="magic.session:Session._cell",
                what="told_of_all",
                by="told[0]",
                tests=(f"{_SIDES}::test_each_model_is_told_of_what_it_was_sent_of_the_conversation",),
            ),
            Removal(
                where="chat.conversation:Conversation.call",
                what="settings.max_history_images",
                by="10**9",
                tests=(
                    f"{_EARLIER}::test_images_of_so_many_turns_go_along",
                    f"{_KERNELS}::test_picture_is_sent_again_once_and_each_cell_says_so",
                ),
            ),
            Removal(
                where="chat.conversation:Conversation.has_shown_images_to",
                by="lambda *_: True",
                tests=(f"{_SHELL}::test_figure_goes_to_no_model_that_was_not_shown_any",),
            ),
            Removal(
                where="magic.context.earlier_turns:image_lines",
                by="lambda *_, place=None: ()",
                tests=(f"{_SHELL}::test_figure_is_not_sent_for_ever_and_each_cell_says_so",),
            ),
            Removal(
                where="magic.context.earlier_turns:_has_lost_images",
                by="lambda turn: False",
                tests=(f"{_EARLIER}::test_images_that_a_restart_has_lost_are_told",),
            ),
        ),
    ),
    Row(
        number=99,
        fault="a long attachment that no longer fits on the next turn",
        outcome="told each time, with what to do; %aichat show --next shows what would go out, and sends nothing",
        tests=(
            f"{_EARLIER}::test_names_of_what_was_included_are_read_back",
            f"{_EARLIER}::test_data_that_no_longer_fits_is_named_with_what_to_do",
            f"{_EARLIER}::test_data_counts_however_long_ago_it_was",
            f"{_EARLIER}::test_limit_is_not_offered_where_the_model_reads_no_more",
            f"{_SHELL}::test_attachment_that_no_longer_fits_is_told_each_time",
            f"{_SHELL}::test_next_shows_what_the_next_cell_would_send_and_sends_nothing",
            "text/test_widgets.py::test_pictures_of_an_exact_transcript_are_shown_small",
        ),
        removals=(
            Removal(
                where="magic.context.earlier_turns:has_lost_data",
                by="lambda conversation, history: False",
                tests=(f"{_SHELL}::test_attachment_that_no_longer_fits_is_told_each_time",),
            ),
            Removal(
                where="magic.context.include:names_included",
                by="lambda prompt: ()",
                tests=(f"{_EARLIER}::test_data_that_no_longer_fits_is_named_with_what_to_do",),
            ),
            Removal(
                where="magic.context.earlier_turns:_limit_for",
                what="history_budget",
                by="10**9",
                tests=(f"{_EARLIER}::test_limit_is_not_offered_where_the_model_reads_no_more",),
            ),
            Removal(
                where="magic.session:Session.command",
                what="dataclasses.replace",
                by="arguments",
                tests=(f"{_SHELL}::test_next_shows_what_the_next_cell_would_send_and_sends_nothing",),
            ),
            Removal(
                where="text.widgets:_MAX_THUMBNAIL_BYTES",
                by="10**9",
                tests=("text/test_widgets.py::test_pictures_of_an_exact_transcript_are_shown_small",),
            ),
        ),
    ),
)
