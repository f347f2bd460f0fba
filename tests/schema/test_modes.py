"""Schemas in words, and without the keywords that some servers refuse."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from annotated_types import Ge, Le, Len
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.schema.modes import instructions, is_closed, plain_schema
from aichat_magic.schema.schema import Schema


@dataclass
class Review:
    stars: Annotated[int, Ge(1), Le(5)]
    words: Annotated[list[str], Len(2, 4)]
    mood: Literal["good", "bad"] | None = None


@dataclass
class Node:
    below: list[Node]


def sent(source: Any) -> dict[str, Any]:
    return Schema.of(source).json_schema


def test_bounds_go_into_descriptions() -> None:
    plain = plain_schema(sent(Review))
    assert plain["properties"]["stars"] == {"description": "(minimum: 1, maximum: 5)", "type": "integer"}
    words = plain["properties"]["words"]
    assert (words["description"], words["items"]) == ("(minItems: 2, maxItems: 4)", {"type": "string"})
    assert plain["required"] == ["stars", "words", "mood"]
    assert plain["additionalProperties"] is False
    described = plain_schema({"type": "integer", "description": "Of five.", "minimum": 1})
    assert described == {"description": "Of five. (minimum: 1)", "type": "integer"}


@pytest.mark.parametrize("word", ["minimum", "pattern", "minItems", "properties", "$defs", "type", "items"])
def test_fields_that_are_called_as_keywords_stay(word: str) -> None:
    source = {"type": "object", "properties": {word: {"type": "string"}}, "required": [word]}
    assert plain_schema(sent(source))["properties"] == {word: {"type": "string"}}


def test_schema_that_has_nothing_to_leave_out_stays_as_it_is() -> None:
    schema = sent(Literal["good", "bad"])
    assert plain_schema(schema) == schema


@given(st.integers(-9, 9), st.lists(st.text(max_size=3), max_size=6), st.sampled_from(["good", "bad", None, "odd"]))
def test_plain_schema_admits_all_that_the_schema_admits(stars: int, words: list[str], mood: str | None) -> None:
    value = {"stars": stars, "words": words, "mood": mood}
    schema = sent(Review)
    if jsonschema.Draft202012Validator(schema).is_valid(value):
        assert jsonschema.Draft202012Validator(plain_schema(schema)).is_valid(value)


@pytest.mark.parametrize(
    ("source", "is_it"),
    [
        (Review, True),
        (Literal["a", "b"], True),
        (list[Review], True),
        (Node, False),
        (dict[str, int], False),
        (Any, False),
        ({"type": "object", "properties": {"a": {}}}, False),
        ({"type": "object", "patternProperties": {"^a": {"type": "string"}}, "additionalProperties": False}, False),
        ({"type": "object", "properties": {f"f{n}": {"type": ["string", "null"]} for n in range(16)}}, True),
        ({"type": "object", "properties": {f"f{n}": {"type": ["string", "null"]} for n in range(17)}}, False),
    ],
)
def test_schema_of_known_properties_is_closed(source: Any, is_it: bool) -> None:
    assert is_closed(sent(source)) is is_it


def test_instructions_have_the_word_json_and_the_whole_schema() -> None:
    words = instructions(sent(Review))
    assert "JSON" in words
    assert json.loads(words.partition("\n")[2]) == sent(Review)
