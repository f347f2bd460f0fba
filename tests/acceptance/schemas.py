"""Answers held to a schema."""

from __future__ import annotations

from acceptance.rows import Removal, Row

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
                where="schema.records:_member",
                what="extras",
                by="[]",
                tests=("schema/test_python_types.py::test_dataclass_may_say_more_by_pydantics_field",),
            ),
            Removal(
                where="schema.records:Converter.convert",
                what="_IsoFormat",
                by="None",
                tests=("schema/test_python_types.py::test_number_is_no_moment",),
            ),
            Removal(
                where="schema.python_types:TypeReader.read",
                what="_depth",
                by="0",
                tests=("schema/test_python_types.py::test_alternatives_within_alternatives_end_in_time",),
            ),
            Removal(
                where="schema.json_schema:JsonSchemaReader._limited.limited",
                what="now.left",
                by="0",
                tests=("schema/test_json_schema.py::test_alternatives_within_alternatives_end_in_time",),
            ),
            Removal(
                where="core.json_text:is_plain",
                by="lambda text: without_unfit(text) == text",
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
                where="frames.extract:Extraction._columns",
                what="made",
                by="()",
                tests=("frames/test_extract.py::test_value_that_a_validator_makes_is_no_gap",),
            ),
            Removal(
                where="frames.extract:Extraction.__init__",
                what="taken",
                by="()",
                tests=("frames/test_extract.py::test_field_that_is_called_as_our_own_columns_is_refused",),
            ),
            Removal(
                where="schema.columns:_category",
                what="len",
                by="1",
                tests=("schema/test_python_types.py::test_values_of_every_kind_have_their_type_and_column",),
            ),
        ),
    ),
)
