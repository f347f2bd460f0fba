"""Frames as they are: columns of any name, conversations in every form, frames of every library."""

from __future__ import annotations

from acceptance.rows import Removal, Row

_TEMPLATE = "frames/test_template.py::"
_KINDS = "frames/test_every_kind.py::"

ROWS = (
    Row(
        number=105,
        fault="columns `user.name`, `zip-code`, `price ($)`, `a:b`, a tuple of a MultiIndex; `{ title }`, `{title!r}`",
        outcome="filled where the brace names a column; an error with the nearest name where it nearly does or looks "
        "like a name or path; JSON and quotes in braces stay text; `raw=True` fills nothing",
        tests=(
            f"{_TEMPLATE}test_column_of_any_name_is_put_in",
            f"{_TEMPLATE}test_white_space_around_a_name_does_not_matter",
            f"{_TEMPLATE}test_column_of_a_multiindex_has_the_name_that_python_shows_and_one_with_dots",
            f"{_TEMPLATE}test_other_braces_are_text",
            f"{_TEMPLATE}test_json_around_a_column_is_text_and_the_column_is_not",
            f"{_TEMPLATE}test_what_nearly_names_a_column_is_refused_with_its_name",
            f"{_TEMPLATE}test_what_reads_as_a_name_is_refused",
            f"{_TEMPLATE}test_raw_template_fills_nothing",
            "frames/test_pandas.py::test_columns_of_any_name_reach_the_server",
            "frames/test_pandas.py::test_raw_template_is_the_prompt_of_every_row",
            "magic/test_extension.py::test_batch_cell_with_raw_fills_nothing",
            f"{_KINDS}test_columns_of_any_name_in_every_kind",
            f"{_KINDS}test_raw_template_in_every_kind",
        ),
        removals=(
            Removal(
                where="frames.template:_BRACES",
                by=r're.compile(r"\{(\w[\w ]*)\}")',
                tests=(f"{_TEMPLATE}test_column_of_any_name_is_put_in",),
            ),
            Removal(
                where="frames.template:_ColumnNames._refuse_near",
                by="lambda self, name: None",
                tests=(
                    f"{_TEMPLATE}test_what_nearly_names_a_column_is_refused_with_its_name",
                    f"{_TEMPLATE}test_what_reads_as_a_name_is_refused",
                ),
            ),
            Removal(
                where="frames.template:_without_format",
                by="lambda name: name",
                tests=(f"{_TEMPLATE}test_what_nearly_names_a_column_is_refused_with_its_name",),
            ),
            Removal(
                where="frames.template:_ColumnNames._alike",
                by="lambda self, name: ''",
                tests=(f"{_TEMPLATE}test_what_nearly_names_a_column_is_refused_with_its_name",),
            ),
            Removal(
                where="frames.template:_LIKENESS",
                by="0.5",
                tests=(f"{_TEMPLATE}test_other_braces_are_text",),
            ),
            Removal(
                where="frames.template:ColumnTemplate.parse",
                what="is_raw",
                by="False",
                tests=(f"{_TEMPLATE}test_raw_template_fills_nothing",),
            ),
        ),
    ),
    Row(
        number=107,
        fault="messages column after a parquet round trip (arrays of dicts), tuples, numpy and Arrow lists",
        outcome="messages",
        tests=(
            f"{_KINDS}test_messages_are_recognised_in_every_kind",
            f"{_KINDS}test_conversation_in_every_form_that_a_frame_gives_it",
            f"{_KINDS}test_single_message_is_a_conversation",
            f"{_KINDS}test_messages_after_parquet",
            f"{_KINDS}test_arrays_that_are_no_conversation_are_the_errors_of_their_rows",
        ),
        removals=(
            Removal(
                where="frames.cells:_TO_PLAIN",
                by="()",
                tests=(
                    f"{_KINDS}test_messages_after_parquet",
                    f"{_KINDS}test_conversation_in_every_form_that_a_frame_gives_it",
                ),
            ),
            Removal(
                where="frames.cells:_message",
                by="lambda item: item",
                tests=(f"{_KINDS}test_conversation_in_every_form_that_a_frame_gives_it",),
            ),
            Removal(
                where="frames.cells:_is_message",
                by="lambda value: False",
                tests=(f"{_KINDS}test_single_message_is_a_conversation",),
            ),
        ),
    ),
)
