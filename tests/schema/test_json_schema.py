"""JSON schemas given as dicts: what holds, what is sent, and what is never fetched."""

import json
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest

from aichat_magic.core.errors import BadInputError
from aichat_magic.core.installation import install_command
from aichat_magic.schema.schema import Schema, SchemaError


def wrong(source: object, value: Any) -> str:
    """The words of the error that a value gives."""
    with pytest.raises(SchemaError) as caught:
        Schema.of(source).parse(json.dumps(value))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def holding(part: dict[str, Any], **beside: Any) -> dict[str, Any]:
    """A schema of an object with one property."""
    return {"type": "object", "properties": {"v": part}, "required": ["v"], **beside}


@pytest.mark.parametrize(
    ("part", "good", "bad", "words"),
    [
        ({"not": {"const": 3}}, [4], 3, 'v: does not satisfy not: {"const": 3}, got 3'),
        ({"if": {"type": "string"}, "then": {"minLength": 2}}, ["ab", 1], "a", "at least 2 characters"),
        ({"contains": {"type": "integer"}}, [["a", 1]], ["a"], "v: does not satisfy contains"),
        ({"propertyNames": {"pattern": "^a"}}, [{"ab": 1}], {"b": 1}, "v: must match ^a"),
        (
            {"patternProperties": {"^n_": {"type": "integer"}}, "additionalProperties": False},
            [{"n_a": 1}],
            {"n_a": "x", "other": 1},
            "v.n_a: must be an integer, got 'x'",
        ),
        ({"dependentRequired": {"a": ["b"]}}, [{"a": 1, "b": 2}], {"a": 1}, "v: does not satisfy dependentRequired"),
        ({"$ref": "#name"}, [1], "x", "v: must be an integer, got 'x'"),
        ({"$ref": "https://example.org/number"}, [1], "x", "v: must be an integer, got 'x'"),
        ({"unevaluatedProperties": False, "allOf": [{"properties": {"a": {}}}]}, [{"a": 1}], {"b": 1}, "unevaluated"),
    ],
    ids=lambda value: json.dumps(value)[:30],
)
def test_words_that_no_server_is_held_to_are_checked(
    part: dict[str, Any], good: list[Any], bad: Any, words: str
) -> None:
    defs = {"n": {"$anchor": "name", "type": "integer"}, "m": {"$id": "https://example.org/number", "type": "integer"}}
    source = holding(part, **{"$defs": defs})
    for value in good:
        assert Schema.of(source).parse(json.dumps({"v": value})) == {"v": value}
    assert words in wrong(source, {"v": bad})


def test_rule_that_cannot_be_sent_stands_in_the_description() -> None:
    sent = Schema.of(holding({"type": "integer", "not": {"const": 3}})).json_schema["properties"]["v"]
    assert sent == {"type": "integer", "description": '(not: {"const": 3})'}


def test_patterns_of_names_are_sent_outside_of_strict_mode() -> None:
    schema = Schema.of(holding({"patternProperties": {"^n_": {"type": "integer"}}, "additionalProperties": False}))
    assert not schema.is_strict
    sent = schema.json_schema["properties"]["v"]
    assert sent["patternProperties"] == {"^n_": {"type": "integer"}}
    assert sent["additionalProperties"] is False


def test_references_by_anchor_are_sent_as_definitions() -> None:
    source = holding({"$ref": "#name"}, **{"$defs": {"n": {"$anchor": "name", "type": "integer"}}})
    sent = Schema.of(source).json_schema
    assert sent["properties"]["v"] == {"$ref": "#/$defs/name"}
    assert sent["$defs"] == {"name": {"type": "integer"}}


def test_discriminator_of_openapi_is_a_note() -> None:
    cats = {"type": "object", "properties": {"kind": {"const": "cat"}}, "required": ["kind"]}
    dogs = {"type": "object", "properties": {"kind": {"const": "dog"}}, "required": ["kind"]}
    source = holding({"oneOf": [cats, dogs], "discriminator": {"propertyName": "kind"}})
    assert Schema.of(source).parse('{"v": {"kind": "dog"}}') == {"v": {"kind": "dog"}}
    assert wrong(source, {"v": {"kind": "cow"}}) == "v.kind: must be 'cat', got 'cow'"


def test_older_drafts_mean_what_they_meant() -> None:
    draft_4 = {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 1, "exclusiveMinimum": True}
    assert wrong(draft_4, 1).startswith("the answer must be at least 1")
    draft_7 = {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "integer"}], "type": "array"}
    assert Schema.of(draft_7).parse('[1, "x"]') == [1, "x"]
    assert wrong(draft_7, ["x"]) == "[0]: must be an integer, got 'x'"


def test_callers_schema_is_not_changed() -> None:
    source = {"items": [{"type": "integer"}], "additionalItems": {"type": "null"}, "type": "array"}
    source["$schema"] = "http://json-schema.org/draft-07/schema#"
    before = json.dumps(source)
    schema = Schema.of(source)
    assert json.dumps(source) == before
    assert schema.parse("[1, null]") == [1, None]


def test_null_stands_for_what_may_be_left_out_and_for_nothing_else() -> None:
    source = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a"]}
    assert Schema.of(source).parse('{"a": 1, "b": null}') == {"a": 1}
    assert wrong(source, {"a": None, "b": None}) == "a: must be an integer, got null"
    assert wrong({**source, "additionalProperties": {"type": "string"}}, {"a": 1, "c": 3}) == (
        "c: must be a string, got 3"
    )


def test_no_reference_is_ever_fetched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/schema.json"
        met: list[object] = []

        def serve() -> None:
            try:
                met.append(listener.accept())
            except TimeoutError:
                pass

        thread = threading.Thread(target=serve)
        thread.start()
        for source in (
            {"$ref": url},
            {"properties": {"a": {"$ref": f"{url}#/$defs/x"}}},
            {"$id": url, "properties": {"a": {"$ref": "other.json"}}},
            {"$dynamicRef": url},
            {"$schema": url},
        ):
            with pytest.raises(BadInputError, match=r"nothing is fetched|not known here"):
                Schema.of(source)
        thread.join()
    assert met == []


def test_document_of_the_standard_itself_may_be_referred_to() -> None:
    source = holding({"$ref": "https://json-schema.org/draft/2020-12/schema"})
    assert Schema.of(source).parse('{"v": {"type": "object"}}') == {"v": {"type": "object"}}
    with pytest.raises(SchemaError):
        Schema.of(source).parse('{"v": {"type": 3}}')


@pytest.mark.slow
@pytest.mark.parametrize("depth", [14, 50])  # 2 to the 50th ways to be wrong
def test_alternatives_within_alternatives_end_in_time(depth: int) -> None:
    branch = {"type": "object", "properties": {"of": {"$ref": "#/$defs/any"}}, "required": ["of"]}
    other = {**branch, "title": "other"}
    source = {"$defs": {"any": {"anyOf": [branch, other, {"type": "integer"}]}}, "$ref": "#/$defs/any"}
    value: Any = "x"
    for _ in range(depth):
        value = {"of": value}
    assert "too many alternatives in each other" in wrong(source, value)


def test_answer_nested_too_deeply_is_a_schema_error() -> None:
    source = {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"items": {"$ref": "#/$defs/a"}}]}}}
    deep = "[" * 10_000 + "]" * 10_000
    with pytest.raises(SchemaError, match="64 deep"):
        Schema.of(source).parse(deep)
    circle = {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}}
    with pytest.raises(SchemaError, match="refers to itself"):
        Schema.of(circle).parse("1")


def test_value_that_is_no_object_makes_no_row() -> None:
    schema = Schema.of({"properties": {"a": {"type": "integer"}}})
    with pytest.raises(SchemaError, match="must be an object"):
        schema.row(schema.parse("[1]"))


def test_missing_library_is_named_with_its_extra() -> None:
    code = """
import sys
sys.modules["jsonschema"] = None
from dataclasses import dataclass
from aichat_magic.core.errors import MissingExtraError
from aichat_magic.schema.schema import Schema
@dataclass
class A:
    a: int
print(Schema.of(A).parse('{"a": 1}'))
try:
    Schema.of({"type": "object"})
except MissingExtraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("A(a=1)\n")
    assert f"Run: {install_command('schema')};" in done.stdout
