"""What a schema sends, what it takes out of an answer, and the columns that it makes."""

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import Enum, IntEnum
from types import ModuleType
from typing import Annotated, Any, ClassVar, Literal, NewType, NotRequired, Optional, Required, TypedDict

import pytest
from effort import times_as_much_cpu
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aichat_magic.core.errors import AichatError, BadInputError
from aichat_magic.core.options import Options
from aichat_magic.schema.schema import Schema, SchemaError, repair_prompt


class Mood(Enum):
    GOOD = "good"
    BAD = "bad"


class Stars(IntEnum):
    ONE = 1
    TWO = 2


@dataclass(frozen=True)
class Aspect:
    name: str
    score: float = 0.5


@dataclass
class Node:
    label: str
    children: list["Node"] = field(default_factory=list)


@dataclass
class Review:
    """What a person thinks of a film."""

    title: Annotated[str, "the title of the film"]
    rating: int
    mood: Mood
    seen: datetime | None
    day: date
    share: float
    is_first: bool
    aspects: list[Aspect]
    language: Literal["en", "de"] | None = None
    tags: frozenset[str] = frozenset()
    pair: tuple[int, str] = (1, "a")
    run: tuple[int, ...] = ()
    notes: dict[str, int] = field(default_factory=dict)
    rank: Stars = field(default=Stars.ONE, metadata={"description": "one or two"})
    either: Aspect | int | str = 3


class Ticket(TypedDict, total=False):
    title: Required[str]
    count: int
    opened: NotRequired[datetime]


ANSWER = {
    "title": "Solaris",
    "rating": 4,
    "mood": "good",
    "seen": "2024-05-01T10:00:00+02:00",
    "day": "2024-05-02",
    "share": 1,
    "is_first": True,
    "aspects": [{"name": "sound"}],
}
ROW_SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def wrong(source: object, value: Any) -> str:
    """The words of the error that a value gives."""
    with pytest.raises(SchemaError) as caught:
        Schema.of(source).parse(json.dumps(value))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def nested(depth: int) -> dict[str, Any]:
    """A schema that is nested as deeply."""
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


def walk(schema: Any) -> list[dict[str, Any]]:
    """Every object of a JSON tree."""
    if isinstance(schema, list):
        return [found for part in schema for found in walk(part)]
    if isinstance(schema, dict):
        return [schema, *(found for part in schema.values() for found in walk(part))]
    return []


# --- what is sent


def test_every_object_of_the_sent_schema_is_closed_and_requires_all_its_properties() -> None:
    @dataclass
    class Outer:
        reviews: list[Review]
        ticket: Ticket

    for part in walk(Schema.of(Outer).json_schema):
        if part.get("type") == "object" and "properties" in part:
            assert part["additionalProperties"] is False
            assert part["required"] == list(part["properties"])


def test_a_member_with_a_default_may_be_null_and_null_means_the_default() -> None:
    schema = Schema.of(Aspect)
    assert schema.json_schema["properties"]["score"] == {"anyOf": [{"type": "number"}, {"type": "null"}]}
    assert schema.parse('{"name": "sound", "score": null}') == Aspect("sound", 0.5)
    kinds = [part.get("type") for part in Schema.of(Review).json_schema["properties"]["either"]["anyOf"]]
    assert kinds == [None, "integer", "string", "null"]
    assert Schema.of(Review).parse(json.dumps({**ANSWER, "either": None})).either == 3


def test_descriptions_travel() -> None:
    sent = Schema.of(Review).json_schema
    assert sent["description"] == "What a person thinks of a film."
    assert sent["properties"]["title"]["description"] == "the title of the film"
    assert "one or two" in json.dumps(sent["properties"]["rank"])
    assert "description" not in Schema.of(Aspect).json_schema  # a dataclass's own signature says nothing new
    assert "description" not in Schema.of(Ticket).json_schema  # nor does the docstring of dict


def test_order_of_properties_is_kept_because_models_answer_in_it() -> None:
    first = {"properties": {"b": {"type": "string"}, "a": {"type": "string"}}, "type": "object"}
    assert list(json.loads(Schema.of(first).canonical)["properties"]) == ["b", "a"]


def test_canonical_text_does_not_depend_on_how_keywords_are_ordered_and_fits_the_options() -> None:
    a = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1, "maximum": 5}}}
    b = {"properties": {"n": {"maximum": 5, "minimum": 1, "type": "integer"}}, "type": "object"}
    assert Schema.of(a).canonical == Schema.of(b).canonical
    assert Schema.of(a) == Schema.of(b)
    assert Options(schema=Schema.of(a).canonical).sent()["schema"] == Schema.of(a).canonical


def test_rules_that_not_every_provider_takes_stand_in_the_description_and_are_checked() -> None:
    part = {"type": "string", "minLength": 2, "pattern": r"\d", "format": "iri", "description": "a code"}
    schema = {"type": "object", "properties": {"code": part}, "required": ["code"]}
    sent = Schema.of(schema).json_schema["properties"]["code"]
    assert set(sent) == {"type", "description"}
    assert sent["description"] == r'a code (minLength: 2, pattern: "\\d", format: "iri")'
    assert wrong(schema, {"code": "ab"}) == r"code: must match \d, got 'ab'"
    assert wrong(schema, {"code": "1"}) == "code: must have at least 2 characters, got '1'"


def test_plain_anchored_patterns_are_sent() -> None:
    schema = Schema.of({"type": "object", "properties": {"c": {"type": "string", "pattern": "^[A-Z]{2}[0-9]$"}}})
    assert schema.json_schema["properties"]["c"]["anyOf"][0]["pattern"] == "^[A-Z]{2}[0-9]$"


def test_classes_that_contain_themselves_become_definitions() -> None:
    schema = Schema.of(Node)
    assert schema.json_schema["$defs"]["Node"]["properties"]["label"] == {"type": "string"}
    tree = Node("a", [Node("b", [Node("c")])])
    assert schema.parse(json.dumps(dataclasses.asdict(tree))) == tree


def test_references_of_any_place_are_taken_along() -> None:
    source = {
        "type": "object",
        "definitions": {"x y": {"type": "integer"}},
        "properties": {
            "a": {"$ref": "#/definitions/x y", "description": "how many"},
            "b": {"$ref": "#/properties/a"},
            "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        },
        "required": ["a", "b", "next"],
    }
    schema = Schema.of(source)
    references = {part["$ref"] for part in walk(schema.json_schema) if "$ref" in part}
    assert references == {f"#/$defs/{name}" for name in schema.json_schema["$defs"]}
    assert all(set(part) == {"$ref"} for part in walk(schema.json_schema) if "$ref" in part)
    assert schema.parse('{"a": 1, "b": 2.0, "next": {"a": 3, "b": 4, "next": null}}')["b"] == 2
    assert wrong(source, {"a": 1, "b": 2, "next": {"a": "x", "b": 1, "next": None}}) == (
        "next.a: must be an integer, got 'x'"
    )


def test_open_objects_are_sent_as_such_and_are_not_strict() -> None:
    assert Schema.of(Aspect).is_strict
    assert not Schema.of(Review).is_strict
    assert not Schema.of(Any).is_strict
    notes = Schema.of(Review).json_schema["properties"]["notes"]["anyOf"][0]
    assert notes == {"type": "object", "additionalProperties": {"type": "integer"}}


def test_name_is_one_that_providers_take() -> None:
    assert Schema.of(Review).name == "Review"
    assert Schema.of({"title": "Ein Titel, größer"}).name == "Ein_Titel_gr_er"
    assert Schema.of({}).name == "reply"


def test_change_of_the_callers_dict_changes_nothing() -> None:
    source: dict[str, Any] = json.loads(json.dumps(ROW_SCHEMA))
    schema = Schema.of(source)
    source["properties"]["a"]["type"] = "string"
    assert schema.parse('{"a": 1}') == {"a": 1}
    assert Schema.of(schema) is schema


# --- what is not a schema


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (3, "Accepted are a pydantic model"),
        ("Review", "Accepted are"),
        (None, "Accepted are"),
        (object(), "Accepted are"),
        (print, "Accepted are"),
        (slice, "slice"),
        (type[int], "type[int]"),
        (Callable[[int], int], "Callable"),
        (Aspect("a"), "Give the class Aspect"),
        (Enum("Empty", []), "no members"),
        (Enum("Pairs", {"A": (1, 2)}), "no JSON form"),
        (list[slice], "slice"),
        (dict[str, Callable[[int], int]], "Callable"),
        ({"type": "int"}, "Did you mean 'integer'"),
        ({"typ": "integer"}, "Did you mean 'type'"),
        ({"type": "object", "properties": {"a": {"nullable": True}}}, "'nullable' at #/properties/a"),
        ({"not": {"allOf": [{"unevaluatedProperty": False}]}}, "Did you mean 'unevaluatedProperties'"),
        ({"properties": 3}, "wrong at #/properties: 3 is not of type 'object'"),
        ({"properties": {"a": 3}}, "wrong at #/properties/a: 3 is not of type"),
        ({"items": [{"type": "string"}]}, "wrong at #/items"),
        ({"pattern": "("}, "wrong at #/pattern: '(' is not a 'regex'"),
        ({"minLength": -1}, "wrong at #/minLength: -1 is less"),
        ({"exclusiveMinimum": True}, "wrong at #/exclusiveMinimum: True is not of type 'number'"),
        ({"multipleOf": 0}, "wrong at #/multipleOf: 0 is less"),
        ({"enum": []}, "the enum is empty"),
        ({"anyOf": []}, "wrong at #/anyOf: [] should be non-empty"),
        ({"$schema": "https://example.org/mine"}, "not known here"),
        ({"$ref": "#/$defs/No"}, "not in it"),
        ({"$ref": "https://example.org/s.json"}, "not in it"),
        ({"$ref": "#"}, "refers to itself"),
        ({"a": {1, 2}}, "not JSON"),
        ({"minimum": float("nan")}, "not JSON"),
        (nested(500), "nested more than 64 deep"),
        ({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}, "refers to itself"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_a_schema_is_refused_with_words(source: object, words: str) -> None:
    with pytest.raises(BadInputError) as caught:
        Schema.of(source)
    assert words in str(caught.value)


def test_schema_that_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(BadInputError, match="not JSON"):
        Schema.of(nested(10_000))


def test_refusal_names_the_member() -> None:
    @dataclass
    class Bad:
        picture: slice

    with pytest.raises(BadInputError, match=r"^Bad\.picture: .*slice"):
        Schema.of(list[Bad])


def test_names_that_lead_nowhere_are_refused() -> None:
    @dataclass
    class Lost:
        other: "Nowhere"  # type: ignore[name-defined]  # noqa: F821  # that is the test

    with pytest.raises(BadInputError, match="Nowhere"):
        Schema.of(Lost)


# --- values


def test_dataclass_comes_back_with_all_its_types() -> None:
    review = Schema.of(Review).parse(json.dumps({**ANSWER, "rating": 4.0}))
    assert type(review.rating) is int
    assert review == Review(
        title="Solaris",
        rating=4,
        mood=Mood.GOOD,
        seen=datetime.fromisoformat("2024-05-01T10:00:00+02:00"),
        day=date(2024, 5, 2),
        share=1.0,
        is_first=True,
        aspects=[Aspect("sound")],
    )
    assert type(review.share) is float


def test_typed_dict_comes_back_as_a_dict_without_what_was_left_out() -> None:
    schema = Schema.of(Ticket)
    assert schema.parse('{"title": "x", "count": null, "opened": null}') == {"title": "x"}
    assert schema.parse('{"title": "x", "opened": "2024-05-01"}')["opened"] == datetime(2024, 5, 1)
    assert wrong(Ticket, {}) == "title: is required"


def test_typed_dict_with_annotations_as_text_knows_what_is_required() -> None:
    module = ModuleType("late_annotations")
    sys.modules[module.__name__] = module
    try:
        Late = TypedDict("Late", {"a": "int", "b": "NotRequired[int]"})  # noqa: UP013  # annotations as text
        Late.__module__ = module.__name__
        module.__dict__.update(NotRequired=NotRequired, int=int)
        for reference in Late.__annotations__.values():
            reference.__forward_module__ = module
        schema = Schema.of(Late)
    finally:
        del sys.modules[module.__name__]
    assert schema.parse('{"a": 1, "b": null}') == {"a": 1}


@pytest.mark.parametrize(
    ("source", "answer", "value"),
    [
        (Mood, '"good"', Mood.GOOD),
        (Mood, '{"value": "bad"}', Mood.BAD),
        (Mood, " good\n", Mood.GOOD),
        (Mood, '\ufeff"good"', Mood.GOOD),
        (Literal["yes", "no"], "yes", "yes"),
        (Literal[1, True, "1"], "1", 1),
        (Literal[1, True, "1"], "true", True),
        (Stars, "2", Stars.TWO),
        (list[Aspect], '[{"name": "a"}]', [Aspect("a")]),
        (list[int], '{"value": [1, 2.0]}', [1, 2]),
        (dict[str, int], '{"value": 3}', {"value": 3}),
        (dict[str, int], '{"value": {"a": 3}}', {"a": 3}),
        (dict[str, Aspect], '{"x": {"name": "a"}}', {"x": Aspect("a")}),
        (Mapping[str, int], "{}", {}),
        (Sequence[date], '["2024-05-01"]', [date(2024, 5, 1)]),
        (set[int], "[1, 1]", {1}),
        (tuple[int, str], '[1, "a"]', (1, "a")),
        (tuple[int, ...], "[1, 2]", (1, 2)),
        (Optional[int], "null", None),  # noqa: UP045  # as older notebooks write it
        (int | float, "3", 3),
        (bool | int, "true", True),
        (date | str, '"soon"', "soon"),
        (Any, '{"a": [1]}', {"a": [1]}),
        (list, "[1, null]", [1, None]),
        (dict, '{"a": 1}', {"a": 1}),
        (NewType("Count", int), "3", 3),
        (Aspect | Node, '{"label": "x"}', Node("x")),
        ({"type": "array", "items": {"type": "integer"}}, "[1]", [1]),
        ({"enum": ["a", None, {"b": 1}]}, '{"b": 1}', {"b": 1}),
        ({}, "3", 3),
    ],
    ids=str,
)
def test_answer_that_is_no_object_is_taken_bare_or_wrapped(source: object, answer: str, value: Any) -> None:
    schema = Schema.of(source)
    assert schema.json_schema["type"] == "object"
    assert list(schema.json_schema["properties"]) == ["value"]
    got = schema.parse(answer)
    assert (got, type(got)) == (value, type(value))


def test_type_aliases_are_seen_through() -> None:
    # `type Rating = int` makes one from Python 3.12 on.
    from typing_extensions import TypeAliasType

    assert Schema.of(TypeAliasType("Rating", int)).parse("3") == 3


def test_union_takes_the_alternative_that_names_most_of_what_came() -> None:
    @dataclass
    class Point:
        x: int

    @dataclass
    class Labelled:
        x: int
        label: str = ""

    assert Schema.of(Point | Labelled).parse('{"x": 1, "label": "a"}') == Labelled(1, "a")
    assert Schema.of(Point | Labelled).parse('{"x": 1, "label": null}') == Labelled(1, "")
    assert Schema.of(Point | Labelled).parse('{"x": 1}') == Point(1)
    assert Schema.of(dict[str, list[Point | None]]).parse('{"a": [{"x": 1}, null]}') == {"a": [Point(1), None]}


def test_extra_properties_are_dropped_from_classes_and_refused_where_a_schema_closes_itself() -> None:
    assert Schema.of(Aspect).parse('{"name": "a", "why": "because"}') == Aspect("a")
    closed = {**ROW_SCHEMA, "additionalProperties": False}
    assert wrong(closed, {"a": 1, "why": "because"}) == "why: is not in the schema"
    assert Schema.of(ROW_SCHEMA).parse('{"a": 1, "why": 2}') == {"a": 1, "why": 2}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rating": "five"}, "rating: must be an integer, got 'five'"),
        ({"rating": "3"}, "rating: must be an integer, got '3'"),
        ({"rating": True}, "rating: must be an integer, got true"),
        ({"rating": 3.5}, "rating: must be an integer, got 3.5"),
        ({"rating": None}, "rating: must be an integer, got null"),
        ({"rating": 2**63}, "rating: must fit into 64 bits, got 9223372036854775808"),
        ({"share": "1"}, "share: must be a number, got '1'"),
        ({"is_first": 1}, "is_first: must be true or false, got 1"),
        ({"mood": "fine"}, "mood: must be 'good' or 'bad', got 'fine'"),
        ({"language": "fr"}, "language: must be 'en' or 'de', got 'fr'"),
        ({"seen": "yesterday"}, "seen: must be a date-time as ISO 8601 writes it, got 'yesterday'"),
        ({"day": "2024-02-30"}, "day: must be a date as ISO 8601 writes it, got '2024-02-30'"),
        ({"aspects": [{"name": "a"}, {"name": 1}]}, "aspects[1].name: must be a string, got 1"),
        ({"aspects": {"name": "a"}}, "aspects: must be an array, got {'name': 'a'}"),
        ({"pair": [1]}, "pair[1]: is required"),
        ({"notes": {"a": "b"}}, "notes.a: must be an integer, got 'b'"),
        ({"either": {"score": 1}}, "either.name: is required"),
        ({"either": []}, "either: must be an object or an integer or a string, got []"),
        ({"title": 1, "rating": "x", "mood": 2, "share": "x"}, "and 1 more"),
    ],
    ids=str,
)
def test_error_says_where_what_must_be_and_what_came(change: dict[str, Any], words: str) -> None:
    assert wrong(Review, {**ANSWER, **change}).endswith(words)


@pytest.mark.parametrize(
    ("part", "good", "bad"),
    [
        ({"minimum": 1, "maximum": 5}, [1, 5.0], [0, 6]),
        ({"exclusiveMinimum": 1, "exclusiveMaximum": 2}, [1.5], [1, 2]),
        ({"multipleOf": 0.1}, [0.3, 7], [0.35]),
        ({"multipleOf": 3}, [9], [10]),
        ({"minLength": 2, "maxLength": 3}, ["ab", 1], ["a", "abcd"]),
        ({"pattern": "b+"}, ["abbc"], ["ac"]),
        ({"format": "time"}, ["10:00"], ["noon"]),
        ({"format": "email"}, ["anything"], []),
        ({"minItems": 1, "maxItems": 2}, [[1]], [[], [1, 2, 3]]),
        ({"uniqueItems": True}, [[1, True, "1"]], [[{"a": 1}, {"a": 1}]]),
        ({"prefixItems": [{"type": "string"}], "items": {"type": "null"}}, [["a", None]], [[1], ["a", 1]]),
        ({"minProperties": 1, "maxProperties": 1}, [{"a": 1}], [{}, {"a": 1, "b": 2}]),
        ({"const": 1}, [1, 1.0], [True, "1", 2]),
        ({"enum": [True, [0], {"a": False}]}, [True, [0], {"a": False}], [1, [False], {"a": 0}]),
        ({"type": ["integer", "null"]}, [1, None], ["1"]),
        ({"oneOf": [{"type": "integer"}, {"minimum": 5}]}, [3, 5.5], [7]),
        ({"allOf": [{"required": ["a"]}, {"required": ["b"]}]}, [{"a": 1, "b": 2}], [{"a": 1}]),
        ({"anyOf": [{"minimum": 5}, {"maximum": 3}]}, [5, 3], [4]),
    ],
    ids=str,
)
def test_keywords_of_json_schema_hold(part: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    schema = {"type": "object", "properties": {"v": part}, "required": ["v"]}
    for value in good:
        assert Schema.of(schema).parse(json.dumps({"v": value})) == {"v": value}
    for value in bad:
        assert wrong(schema, {"v": value}).startswith("v")


def test_class_may_refuse_by_itself() -> None:
    @dataclass
    class Even:
        number: int

        def __post_init__(self) -> None:
            if self.number % 2:
                raise ValueError("number must be even")

    assert wrong(Even, {"number": 3}) == "Even: number must be even"


def test_schema_error_is_one_of_ours_and_its_repair_prompt_says_what_was_wrong() -> None:
    schema = Schema.of(Aspect)
    with pytest.raises(SchemaError) as caught:
        schema.parse('{"name": 1}')
    assert isinstance(caught.value, AichatError)
    assert not caught.value.is_retryable
    prompt = repair_prompt(schema, caught.value)
    assert "name: must be a string, got 1" in prompt
    assert "JSON only" in prompt
    assert '"score"' in prompt


def test_instructions_hold_the_schema() -> None:
    schema = Schema.of(Aspect)
    assert json.loads(schema.instructions().partition("\n")[2]) == schema.json_schema


# --- JSON in the text


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1}',
        '\ufeff\n {"a": 1}\n',
        'Sure! Here it is:\n\n```json\n{"a": 1}\n```\nAnything else?',
        '~~~\n{"a": 1}\n~~~',
        '1. Answer:\n   ```json\n   {"a": 1}\n   ```',
        'The answer is {"a": 1}. I hope [really] that {it} helps.',
        'With {placeholders} and \\frac{a}{b} and [1]: {"a": 1}',
        'See {here: {"a": 1}',
        'Like {"a": "a number"} or {"a": 0}, so:\n```json\n{"a": 1}\n```',
        '{"a": 1}\n{"a": 2}',
        'First {"b": 2}, then {"a": 1}',
        '<think>{"a": 5}? No.</think>\n{"a": 1}',
        '{"a": 1, "note": "line\nbreak"}',
        'It is 5" wide. {"a": 1}',
        '{"a": 1} :-[',
    ],
)
def test_json_is_found_between_other_words(text: str) -> None:
    assert Schema.of(ROW_SCHEMA).parse(text)["a"] == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no JSON"),
        ("I cannot do that.", "holds no JSON"),
        ("{'a': 1}", "holds no JSON"),
        ('{"a": 1,}', "holds no JSON: "),
        ('{"b": {"a": 1},}', "holds no JSON: "),
        ('{"b": {"a": 1}, "c', "breaks off"),
        ('```json\n{"a": 1, "b": [', "breaks off"),
        ('For example {"a": 5}. So: {"a": 1, "b": ', "breaks off"),
        ('{"b": {"a": 1}, "c": NaN}', "NaN is not JSON"),
        ('{"a": -Infinity}', "-Infinity is not JSON"),
        ('{"a": 1e999}', "1e999 is beyond"),
        ('{"a": ' + "9" * 5000 + "}", "5,000 digits"),
        ('{"a": 1, "b": ' + "[" * 500 + "]" * 500 + "}", "64 deep"),
        ("[" * 10_000 + "]" * 10_000, "64 deep"),
        ("[" * 10_000, "64 deep|breaks off|no JSON"),
        ('{"a":' * 10_000 + "1" + "}" * 10_000, "64 deep"),
        ('{"a": 1}' + " " * 3_000_000, "too long"),
        ('[1] {"a": "x"}', "a: must be an integer"),
    ],
    ids=lambda value: value[:30],
)
def test_text_without_a_usable_value_is_an_error_and_no_part_of_it_passes_for_the_whole(text: str, words: str) -> None:
    with pytest.raises(SchemaError, match=words):
        Schema.of(ROW_SCHEMA).parse(text)


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "{" * 1000000,
        "[]" * 500000,
        '[{"' * 300000,
        '{"' + '\\"' * 500000,
        "{ [a]" * 200000,
        '"{' * 500000,
        "{x " + "[y]" * 300000,
        "```\n{\n" * 100000,
        '{"a"' * 200000,
    ],
    ids=lambda value: value[:8],
)
def test_hostile_text_costs_no_more_than_its_length(text: str) -> None:
    schema = Schema.of(ROW_SCHEMA)

    def parse(part: str) -> None:
        with pytest.raises(SchemaError):
            schema.parse(part)

    # Of a sixteenth of the text: 16 times as much; a quadratic pass would take 256 times as much.
    assert times_as_much_cpu(lambda: parse(text), lambda: parse(text[: len(text) // 16])) < 64


def test_recursive_unions_are_checked_in_time_that_grows_with_the_value() -> None:
    branch = {
        "type": "object",
        "properties": {"left": {"$ref": "#/$defs/any"}, "op": {"type": "string"}},
        "required": ["left"],
    }
    source = {
        "$defs": {"any": {"anyOf": [branch, {**branch, "title": "other"}, {"type": "integer"}]}},
        "$ref": "#/$defs/any",
    }
    value: Any = 1
    for _ in range(60):
        value = {"left": value}
    assert Schema.of(source).parse(json.dumps(value)) == value


@given(st.text(alphabet='{}[]":,1a\\\n`~ ', max_size=60))
def test_any_text_gives_a_value_or_a_schema_error(text: str) -> None:
    try:
        value = Schema.of(ROW_SCHEMA).parse(text)
    except SchemaError:
        return
    assert isinstance(value["a"], int)


# --- columns


def test_columns_have_the_types_of_pandas() -> None:
    columns = {column.name: column for column in Schema.of(Review).fields}
    assert {name: column.dtype for name, column in columns.items()} == {
        "title": "string",
        "rating": "Int64",
        "mood": "category",
        "seen": "datetime64[us]",
        "day": "datetime64[us]",
        "share": "Float64",
        "is_first": "boolean",
        "aspects": "object",
        "language": "category",
        "tags": "object",
        "pair": "object",
        "run": "object",
        "notes": "object",
        "rank": "category",
        "either": "object",
    }
    assert columns["mood"].categories == ("good", "bad")
    assert columns["language"].categories == ("en", "de")
    assert columns["rank"].categories == (1, 2)


@pytest.mark.parametrize(
    ("part", "dtype", "categories"),
    [
        ({"type": ["integer", "null"]}, "Int64", ()),
        ({"type": ["integer", "number"]}, "Float64", ()),
        ({"anyOf": [{"type": "integer"}, {"type": "number"}, {"type": "null"}]}, "Float64", ()),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, "object", ()),
        ({"anyOf": [{"enum": ["a"]}, {"const": "b"}]}, "category", ("a", "b")),
        ({"allOf": [{"$ref": "#/$defs/e"}]}, "category", ("x", "y")),
        ({"enum": [{"a": 1}]}, "object", ()),
        ({"type": "string", "format": "email"}, "string", ()),
        ({"type": ["string", "null"], "format": "date-time"}, "datetime64[us]", ()),
        ({}, "object", ()),
        ({"type": "null"}, "object", ()),
    ],
    ids=str,
)
def test_json_schemas_have_columns_too(part: dict[str, Any], dtype: str, categories: tuple[Any, ...]) -> None:
    source = {"type": "object", "properties": {"c": part}, "$defs": {"e": {"enum": ["x", "y", None]}}}
    (column,) = Schema.of(source).fields
    assert (column.name, column.dtype, column.categories) == ("c", dtype, categories)


def test_row_holds_plain_values_by_the_names_of_the_columns() -> None:
    schema = Schema.of(Review)
    row = schema.row(schema.parse(json.dumps({**ANSWER, "rank": 2, "either": {"name": "x"}, "tags": ["t"]})))
    assert row == {
        "title": "Solaris",
        "rating": 4,
        "mood": "good",
        "seen": datetime(2024, 5, 1, 8),  # a column has one zone: UTC
        "day": datetime(2024, 5, 2),
        "share": 1.0,
        "is_first": True,
        "aspects": [{"name": "sound", "score": 0.5}],
        "language": None,
        "tags": ["t"],
        "pair": [1, "a"],
        "run": [],
        "notes": {},
        "rank": 2,
        "either": {"name": "x", "score": 0.5},
    }
    assert type(row["rank"]) is int
    assert Schema.of(Mood).row(Mood.BAD) == {"value": "bad"}
    assert Schema.of(Ticket).row({"title": "x"}) == {"title": "x", "count": None, "opened": None}


def test_rows_become_a_frame_of_the_named_dtypes() -> None:
    pd = pytest.importorskip("pandas")
    schema = Schema.of(Review)
    old = {**ANSWER, "seen": "0452-01-01T00:00:00", "day": "9999-12-31", "rating": 2**63 - 1}
    rows = [schema.row(schema.parse(json.dumps(answer))) for answer in (ANSWER, old)]
    rows.append({column.name: None for column in schema.fields})
    for column in schema.fields:
        dtype = pd.CategoricalDtype(column.categories) if column.dtype == "category" else column.dtype
        series = pd.Series([row[column.name] for row in rows], dtype=dtype)
        assert str(series.dtype) == ("str" if column.dtype == "str" else column.dtype)
        assert series.isna().tolist()[2]
        assert not series.isna().tolist()[0] or column.name == "language"


# --- round trip

_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))  # what any text may hold
_INT = st.integers(-(2**63), 2**63 - 1)
_ASPECTS = st.builds(Aspect, name=_TEXT, score=st.floats(allow_nan=False, allow_infinity=False))
_REVIEWS = st.builds(
    Review,
    title=_TEXT,
    rating=_INT,
    mood=st.sampled_from(Mood),
    seen=st.none() | st.datetimes(timezones=st.none() | st.just(UTC), min_value=datetime(2, 1, 1)),
    day=st.dates(),
    share=st.floats(allow_nan=False, allow_infinity=False),
    is_first=st.booleans(),
    aspects=st.lists(_ASPECTS, max_size=3),
    language=st.sampled_from(["en", "de", None]),
    tags=st.frozensets(_TEXT, max_size=3),
    pair=st.tuples(_INT, _TEXT),
    run=st.lists(_INT, max_size=3).map(tuple),
    notes=st.dictionaries(_TEXT, _INT, max_size=3),
    rank=st.sampled_from(Stars),
    either=_ASPECTS | _INT | _TEXT,
)


def as_json(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    return sorted(value) if isinstance(value, frozenset) else dataclasses.asdict(value)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    review=_REVIEWS, indent=st.sampled_from([None, 2]), frame=st.sampled_from(["{}", "So:\n```json\n{}\n```\nDone."])
)
def test_what_is_written_is_what_is_read(review: Review, indent: int | None, frame: str) -> None:
    schema = Schema.of(Review)
    text = json.dumps(dataclasses.asdict(review), default=as_json, indent=indent)
    value = schema.parse(frame.replace("{}", text, 1))
    assert value == review
    assert list(schema.row(value)) == [column.name for column in schema.fields]


# --- pydantic


class TestPydantic:
    @pytest.fixture
    def pydantic(self) -> Any:
        import pydantic

        return pydantic

    @pytest.fixture
    def model(self, pydantic: Any) -> Any:
        from decimal import Decimal
        from uuid import UUID

        def not_nothing(cls: Any, value: str) -> str:
            if value == "nothing":
                raise ValueError("a title is needed")
            return value

        aspect = pydantic.create_model(
            "Part", name=(str, pydantic.Field(alias="n", min_length=2)), score=(float, 0.5), __module__=__name__
        )
        return pydantic.create_model(
            "Film",
            __module__=__name__,
            __doc__="A film.",
            __validators__={"title_is_one": pydantic.field_validator("title")(classmethod(not_nothing))},
            title=(str, pydantic.Field(alias="Title")),
            rating=(int, pydantic.Field(ge=1, le=5)),
            mood=(Mood, ...),
            seen=(datetime | None, None),
            day=(date, ...),
            price=(Decimal, Decimal("1.5")),
            number=(UUID | None, None),
            parts=(list[aspect], pydantic.Field(description="what it is made of")),
            main=(aspect, pydantic.Field(description="what matters")),
            tags=(set[str], pydantic.Field(default_factory=set)),
        )

    ANSWER: ClassVar = {"Title": "x", "rating": 3, "mood": "bad", "day": "2024-05-01", "parts": [], "main": {"n": "ab"}}

    def test_model_comes_back_as_an_instance_and_null_means_its_default(self, model: Any) -> None:
        schema = Schema.of(model)
        value = schema.parse(json.dumps({**self.ANSWER, "price": None, "main": {"n": "ab", "score": None}}))
        assert isinstance(value, model)
        assert (value.title, value.mood, value.day, value.main.score) == ("x", Mood.BAD, date(2024, 5, 1), 0.5)

    def test_pydantic_has_the_last_word_on_what_it_can_read(self, model: Any) -> None:
        assert Schema.of(model).parse(json.dumps({**self.ANSWER, "rating": "3"})).rating == 3

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"rating": 9}, "rating: must be less than or equal to 5, got 9"),
            ({"Title": "nothing"}, "Title: a title is needed, got 'nothing'"),
            ({"parts": [{"n": "a"}]}, "parts[0].n: must have at least 2 characters, got 'a'"),
            ({"main": {}}, "main.n: is required"),
        ],
    )
    def test_its_errors_are_ours_in_one_line(self, model: Any, change: dict[str, Any], words: str) -> None:
        assert wrong(model, {**self.ANSWER, **change}) == words

    def test_columns_bear_the_names_of_the_attributes(self, model: Any) -> None:
        schema = Schema.of(model)
        assert {column.name: column.dtype for column in schema.fields} == {
            "title": "string",
            "rating": "Int64",
            "mood": "category",
            "seen": "datetime64[us]",
            "day": "datetime64[us]",
            "price": "object",
            "number": "string",
            "parts": "object",
            "main": "object",
            "tags": "object",
        }
        number = "00000000-0000-0000-0000-000000000001"
        row = schema.row(schema.parse(json.dumps({**self.ANSWER, "parts": [{"n": "cd"}], "number": number})))
        assert row["title"] == "x"
        assert row["number"] == number
        assert row["mood"] == "bad"
        assert row["parts"] == [{"name": "cd", "score": 0.5}]

    def test_sent_schema_is_strict_and_keeps_limits_and_descriptions(self, model: Any) -> None:
        schema = Schema.of(model)
        assert schema.is_strict
        assert schema.json_schema["properties"]["rating"] == {"type": "integer", "minimum": 1, "maximum": 5}
        assert schema.json_schema["properties"]["main"]["description"] == "what matters"
        assert schema.json_schema["required"] == list(schema.json_schema["properties"])
        assert all("title" not in part or "title" in part.get("type", "") for part in walk(schema.json_schema))

    def test_models_may_stand_inside_other_types(self, pydantic: Any, model: Any) -> None:
        other = pydantic.create_model("Other", pages=(int, ...), __module__=__name__)
        assert Schema.of(list[model]).parse(json.dumps([self.ANSWER]))[0].title == "x"
        assert Schema.of(model | other).parse('{"pages": 3}') == other(pages=3)
        kinds = [pydantic.create_model(kind, kind=(Literal[kind], ...), __module__=__name__) for kind in "ab"]
        assert Schema.of(kinds[0] | kinds[1]).parse('{"kind": "b"}') == kinds[1](kind="b")

    def test_strict_and_closed_models_are_taken_at_their_word(self, pydantic: Any) -> None:
        config = pydantic.ConfigDict(strict=True, extra="forbid")
        model = pydantic.create_model("Strict", day=(date, ...), pair=(tuple[int, str], ...), __config__=config)
        assert Schema.of(model).parse('{"day": "2024-05-01", "pair": [1, "a"]}').pair == (1, "a")
        words = wrong(model, {"day": "2024-05-01", "pair": [1, "a"], "more": 1})
        assert words == "more: is not in the schema"

    def test_root_models_are_wrapped(self, pydantic: Any) -> None:
        schema = Schema.of(pydantic.RootModel[list[int]])
        value = schema.parse("[1, 2]")
        assert value.root == [1, 2]
        assert schema.row(value) == {"value": [1, 2]}

    def test_model_without_a_json_form_is_refused(self, pydantic: Any) -> None:
        with pytest.raises(BadInputError, match="Bad has no JSON schema"):
            Schema.of(pydantic.create_model("Bad", call=(Callable[[int], int], ...)))
