"""Long conversations, files that are stopped halfway, odd terminals, and what replies look like: rows 100 to 103."""

from __future__ import annotations

from acceptance.rows import Removal, Row

_TALKS = "chat/test_conversation.py"
_STORE = "store/test_conversations.py"
_LETTERS = "text/test_characters.py"
_TERMINAL = "test_looks.py::test_terminal_of_any_encoding_shows_everything_with_replacements"
_EXPORT = "magic/test_export.py"
_LATEX = "text/test_latex.py"
_EXTRAS = "text/test_markdown_extras.py"
_MARKDOWN = "text/test_markdown.py"

ROWS: tuple[Row, ...] = (
    Row(
        number=100,
        fault="thousands of small cells in one conversation",
        outcome="memory and time grow with what is said, not with its square: replies and cells share their turns, and "
        "only new turns are read from the store",
        tests=(
            f"{_TALKS}::test_memory_of_replies_grows_with_their_number_and_not_with_its_square",
            f"{_TALKS}::test_messages_of_a_reply_are_a_tuple_however_it_is_kept",
            f"{_TALKS}::test_messages_of_a_reply_stay_what_was_sent_whatever_becomes_of_its_conversation",
            f"{_TALKS}::test_history_costs_what_is_sent_and_not_what_was_said",
            f"{_TALKS}::test_conversation_of_any_length_is_freed",
            f"{_STORE}::test_only_turns_that_are_new_are_read_again",
            f"{_STORE}::test_turns_of_another_file_in_the_place_of_one_are_not_taken_for_its_turns",
            "magic/test_session.py::test_cells_share_the_turns_of_their_conversation",
        ),
        removals=(
            Removal(
                where="core.sharing:_Field.__set__",
                what="isinstance",
                by="False",
                tests=(f"{_TALKS}::test_memory_of_replies_grows_with_their_number_and_not_with_its_square",),
            ),
            Removal(
                where="core.sharing:Remade.__reduce__",
                by="lambda self: (Remade, (list(self),))",
                tests=(f"{_TALKS}::test_messages_of_a_reply_are_a_tuple_however_it_is_kept",),
            ),
            Removal(
                where="store.tree:TurnTree.load",
                what="places.get",
                by="None",
                tests=(f"{_STORE}::test_only_turns_that_are_new_are_read_again",),
            ),
            Removal(
                where="store.tree:TurnTree.load",
                what="created",
                by="row[0]",
                tests=(f"{_STORE}::test_turns_of_another_file_in_the_place_of_one_are_not_taken_for_its_turns",),
            ),
            Removal(
                where="magic.history:ChatHistory._past",
                what="past.back",
                by="None",
                tests=("magic/test_session.py::test_cells_share_the_turns_of_their_conversation",),
            ),
        ),
    ),
    Row(
        number=101,
        fault="import of a file, or a copy of a conversation, stopped halfway; a terminal of cp1252, Latin-1 or ASCII",
        outcome="all turns or none, in a file, in memory and while the file is locked; everything is shown, with "
        "replacements",
        tests=(
            f"{_STORE}::test_several_turns_are_added_or_none",
            "magic/test_session.py::test_import_that_is_interrupted_leaves_nothing",
            f"{_LETTERS}::test_any_text_can_be_written_to_a_terminal_of_any_encoding",
            f"{_LETTERS}::test_letters_that_a_terminal_lacks_have_readable_replacements",
            f"{_LETTERS}::test_views_are_made_for_the_encoding_of_the_terminal",
            _TERMINAL,
        ),
        removals=(
            Removal(
                where="store.conversations:MemoryConversations._change",
                what="execute",
                by="None",
                tests=(f"{_STORE}::test_several_turns_are_added_or_none",),
            ),
            Removal(
                where="store.write_behind:WriteBehindLog.change",
                what="BaseException",
                by="ZeroDivisionError",
                tests=(f"{_STORE}::test_several_turns_are_added_or_none",),
            ),
            Removal(
                where="text.characters:shown_text",
                by="lambda text: text",
                tests=(f"{_LETTERS}::test_views_are_made_for_the_encoding_of_the_terminal",),
            ),
            Removal(
                where="text.terminal:write_to",
                what="encodable",
                by="text",
                tests=(f"{_LETTERS}::test_views_are_made_for_the_encoding_of_the_terminal",),
            ),
            Removal(where="magic.extension:_renderer", what="shown_text", by="f'{error}'", tests=(_TERMINAL,)),
        ),
    ),
    Row(
        number=102,
        fault="links to scripts, commands, files, data and paths in replies that are exported as .md or .ipynb; LaTeX "
        "commands that do more than typeset; LaTeX and PDF of a reply",
        outcome="text in every export; LaTeX is readable, has only commands of ours and known ones in formulas, and "
        "compiles",
        tests=(
            f"{_EXPORT}::test_links_to_scripts_commands_and_files_are_text_in_every_export",
            f"{_EXPORT}::test_any_reply_gives_links_to_the_web_and_mail_only",
            f"{_EXPORT}::test_links_to_the_web_and_to_mail_are_kept",
            f"{_EXPORT}::test_commands_in_formulas_that_do_more_than_typeset_are_text",
            f"{_EXPORT}::test_names_and_models_are_no_links",
            f"{_LATEX}::test_hostile_text_is_only_typeset",
            f"{_LATEX}::test_any_text_gives_only_commands_of_ours",
            f"{_LATEX}::test_formula_that_could_fail_or_do_more_is_printed_as_code",
            f"{_LATEX}::test_reply_reads_like_a_document",
            "test_looks.py::test_notebook_as_latex_is_readable",
            "magic/test_side_by_side.py::test_a_converted_notebook_has_all_replies_as_latex_and_not_as_markdown",
        ),
        removals=(
            Removal(
                where="magic.side_by_side:SideBySide._bundle",
                what="bundle.get",
                by="''",
                tests=(
                    "magic/test_side_by_side.py::"
                    "test_a_converted_notebook_has_all_replies_as_latex_and_not_as_markdown",
                ),
            ),
            Removal(
                where="text.quoting:_problems",
                what="is_safe_link",
                by="True",
                tests=(f"{_EXPORT}::test_links_to_scripts_commands_and_files_are_text_in_every_export",),
            ),
            Removal(
                where="text.quoting:_problems",
                what="lines.update",
                by="None",
                tests=(f"{_EXPORT}::test_any_reply_gives_links_to_the_web_and_mail_only",),
            ),
            Removal(
                where="text.quoting:_without_markup",
                what="_TEX_COMMAND.sub",
                by="text",
                tests=(f"{_EXPORT}::test_commands_in_formulas_that_do_more_than_typeset_are_text",),
            ),
            Removal(
                where="text.latex:_inline",
                what="checked_formula",
                by="token.content",
                tests=(f"{_LATEX}::test_any_text_gives_only_commands_of_ours",),
            ),
            Removal(
                where="text.latex_math:_command_end",
                by="lambda tokens, place, name, before: place",
                tests=(f"{_LATEX}::test_formula_that_could_fail_or_do_more_is_printed_as_code",),
            ),
            Removal(
                where="text.latex:_ESCAPES",
                by="{}",
                tests=(f"{_LATEX}::test_any_text_gives_only_commands_of_ours",),
            ),
            Removal(
                where="text.reply_view:reply_bundle",
                what="markdown_latex",
                by="''",
                tests=("test_looks.py::test_notebook_as_latex_is_readable",),
            ),
        ),
    ),
    Row(
        number=103,
        fault="<br>, <sub>, <kbd>, <details>, task lists, footnotes, bare URLs and wide code in replies",
        outcome="shown; only elements without attributes, each with its counterpart, and still nothing active; code "
        "scrolls, and a button copies it",
        tests=(
            f"{_EXTRAS}::test_line_breaks_in_cells_of_a_table_break_lines",
            f"{_EXTRAS}::test_a_few_elements_without_attributes_are_shown",
            f"{_EXTRAS}::test_every_other_tag_and_one_without_its_counterpart_is_text",
            f"{_EXTRAS}::test_elements_inside_of_emphasis_and_links_stay_inside",
            f"{_EXTRAS}::test_folds_have_a_summary_and_markdown_inside",
            f"{_EXTRAS}::test_fold_that_is_still_open_ends_with_its_block_and_loses_nothing",
            f"{_EXTRAS}::test_end_of_a_fold_in_code_does_not_end_it",
            f"{_EXTRAS}::test_tasks_have_boxes",
            f"{_EXTRAS}::test_footnotes_are_marked_and_shown_where_they_stand",
            f"{_EXTRAS}::test_bare_urls_of_the_web_are_links",
            f"{_EXTRAS}::test_everything_else_is_no_link",
            f"{_MARKDOWN}::test_markup_in_a_reply_stays_text",
            f"{_MARKDOWN}::test_any_text_gives_only_tags_attributes_and_addresses_of_ours",
            "test_browser.py::test_everyday_markdown_is_shown_and_readable",
            "test_browser.py::test_button_copies_the_code_and_nothing_else",
            "test_browser.py::test_cleaned_output_of_an_untrusted_notebook_is_shown_without_the_button",
        ),
        removals=(
            Removal(
                where="text.markdown_extras:_pairs",
                by="lambda state: [setattr(token, 'type', 'pair') for block in state.tokens "
                "for token in block.children or () if token.type == 'tag']",
                tests=(f"{_EXTRAS}::test_every_other_tag_and_one_without_its_counterpart_is_text",),
            ),
            Removal(
                where="text.markdown_extras:_pair_html",
                by="lambda renderer, tokens, index, options, env: tokens[index].content + '<wbr>'",
                tests=(f"{_EXTRAS}::test_a_few_elements_without_attributes_are_shown",),
            ),
            Removal(
                where="text.markdown_extras:_BEFORE_URL",
                by="__import__('re').compile('https?$')",
                tests=(f"{_EXTRAS}::test_everything_else_is_no_link",),
            ),
            Removal(
                where="text.markdown_extras:_footnote_open",
                what="escape",
                by="tokens[index].info",
                tests=(f"{_MARKDOWN}::test_markup_in_a_reply_stays_text",),
            ),
            Removal(
                where="text.markdown_extras:_end_of_details",
                what="opened_by",
                by="''",
                tests=(f"{_EXTRAS}::test_end_of_a_fold_in_code_does_not_end_it",),
            ),
            Removal(
                where="text.html_parts:COPY_SCRIPT",
                by="''",
                tests=("test_browser.py::test_button_copies_the_code_and_nothing_else",),
            ),
        ),
    ),
)
