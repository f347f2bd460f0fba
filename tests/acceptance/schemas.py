"""Answers held to a schema."""

from __future__ import annotations

from acceptance.rows import Removal, Row

TYPES = "aichat_magic/schema_types.py"
RECORDS = "aichat_magic/schema_records.py"
DICTS = "aichat_magic/schema_dicts.py"
COLUMNS = "aichat_magic/schema_columns.py"
EXTRACTION = "aichat_magic/extraction.py"
READER = "aichat_magic/jsontext.py"

ROWS = (
    Row(
        number=111,
        fault="bounds of Annotated, NamedTuple, TypedDict, dict[Enum, ...], not, patternProperties, references by name",
        outcome="enforced and sent",
        tests=(
            "schema/test_python_types.py::test_dataclass_may_say_more_by_pydantics_field",
            "schema/test_python_types.py::test_typed_dicts_and_named_tuples_are_objects_wherever_they_stand",
            "schema/test_python_types.py::test_values_of_every_kind_have_their_type_and_column",
            "schema/test_python_types.py::test_keys_of_an_enum_are_sent_by_name",
            "schema/test_python_types.py::test_generic_classes_know_what_their_variables_stand_for",
            "schema/test_python_types.py::test_number_is_no_moment",
            "schema/test_python_types.py::test_alternatives_within_alternatives_end_in_time",
            "schema/test_json_schema.py::test_words_that_no_server_is_held_to_are_checked",
            "schema/test_json_schema.py::test_no_reference_is_ever_fetched",
            "schema/test_json_schema.py::test_alternatives_within_alternatives_end_in_time",
            "core/test_json_text.py::test_every_door_reads_the_same_value",
            "core/test_json_text.py::test_every_door_refuses_the_same_text",
        ),
        removals=(
            Removal(
                file=RECORDS,
                old="        hint=Annotated[(converted, *extras)] if extras else converted,\n",
                new="        hint=converted,\n",
                tests=("schema/test_python_types.py::test_dataclass_may_say_more_by_pydantics_field",),
            ),
            Removal(
                file=RECORDS,
                old="            return Annotated[source, _Iso(source)]\n",
                new="            return source\n",
                tests=("schema/test_python_types.py::test_number_is_no_moment",),
            ),
            Removal(
                file=TYPES,
                old="            if _depth(value, kind) > limit:\n",
                new="            if False:\n",
                tests=("schema/test_python_types.py::test_alternatives_within_alternatives_end_in_time",),
            ),
            Removal(
                file=DICTS,
                old="            if now.left < 0:\n",
                new="            if False:\n",
                tests=("schema/test_json_schema.py::test_alternatives_within_alternatives_end_in_time",),
            ),
            Removal(
                file=READER,
                old="is_small and has_plain_numbers and",
                new="",
                tests=("core/test_json_text.py::test_every_door_refuses_the_same_text",),
            ),
        ),
    ),
    Row(
        number=112,
        fault="a validator that leaves the Literal; Literal[1, 'x']; a field called extract_error; bytes",
        outcome="right dtypes; checked before anything is sent",
        tests=(
            "frames/test_extract.py::test_value_that_a_validator_makes_is_no_gap",
            "frames/test_extract.py::test_field_that_is_called_as_our_own_columns_is_refused",
            "schema/test_python_types.py::test_validator_may_leave_the_literal",
            "schema/test_python_types.py::test_values_of_every_kind_have_their_type_and_column",
        ),
        removals=(
            Removal(
                file=EXTRACTION,
                old="dict.fromkeys([*field.categories, *made])",
                new="dict.fromkeys(field.categories)",
                tests=("frames/test_extract.py::test_value_that_a_validator_makes_is_no_gap",),
            ),
            Removal(
                file=EXTRACTION,
                old="        if taken:\n",
                new="        if False:\n",
                tests=("frames/test_extract.py::test_field_that_is_called_as_our_own_columns_is_refused",),
            ),
            Removal(
                file=COLUMNS,
                old="if len({*map(type, members)}) == 1 and _is_flat(members) else",
                new="if _is_flat(members) else",
                tests=("schema/test_python_types.py::test_values_of_every_kind_have_their_type_and_column",),
            ),
        ),
    ),
)
