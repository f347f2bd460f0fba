"""Python types as schemas: what is sent for them, and what an answer becomes."""

import enum
import json
import sys
import typing
from dataclasses import InitVar, dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NotRequired,
    Optional,
    Required,
    TypedDict,
    TypeVar,
    Union,
)
from uuid import UUID

import pydantic
import pytest
import typing_extensions
from annotated_types import Ge, Len

from aichat_magic.core.errors import BadInputError
from aichat_magic.schema.schema import Schema, SchemaError

T = TypeVar("T")


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Point(NamedTuple):
    x: int
    label: str = "here"


class Ticket(TypedDict, total=False):
    title: Required[str]
    where: Point
    count: int


class Modern(typing_extensions.TypedDict):
    tickets: list[Ticket]
    more: typing_extensions.NotRequired[int]


@dataclass
class Holder:
    ticket: Ticket
    points: dict[str, Point]
    modern: Modern | None = None


@dataclass
class Page(Generic[T]):
    items: list[T]
    next: Optional["Page[T]"] = None


@dataclass
class Numbers(Page[int]):
    total: int = 0


@dataclass
class Cat:
    kind: Literal["cat"]
    lives: int = 9


@dataclass
class Dog:
    kind: Literal["dog"]
    friend: Union["Cat", "Dog", None] = None


@dataclass
class Nay:
    of: "Term"
    a: int = 0


@dataclass
class Minus:
    of: "Term"
    b: int = 0


Term = Nay | Minus | int
Json = typing_extensions.TypeAliasType("Json", dict[str, "Json"] | list["Json"] | int | None)  # type: ignore[misc]  # recursive


def wrong(source: object, value: Any) -> str:
    """The words of the error that a value gives."""
    with pytest.raises(SchemaError) as caught:
        Schema.of(source).parse(json.dumps(value))
    return str(caught.value)


# --- records


def test_typed_dicts_and_named_tuples_are_objects_wherever_they_stand() -> None:
    schema = Schema.of(Holder)
    assert '"prefixItems"' not in schema.canonical
    sent = schema.json_schema["$defs"]
    assert sent["Ticket"]["required"] == ["title", "where", "count"]
    assert sent["Point"]["properties"]["label"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    answer = {
        "ticket": {"title": "x", "where": {"x": 1, "label": None}, "count": None},
        "points": {"a": {"x": 2.0, "label": "b"}},
        "modern": {"tickets": [{"title": "y", "where": None, "count": 3}], "more": None},
    }
    value = schema.parse(json.dumps(answer))
    assert value == Holder(
        ticket={"title": "x", "where": Point(1)},
        points={"a": Point(2, "b")},
        modern={"tickets": [{"title": "y", "count": 3}]},
    )
    assert schema.row(value)["points"] == {"a": {"x": 2, "label": "b"}}
    assert wrong(Holder, {**answer, "points": {"a": [1, "b"]}}) == "points.a: must be an object, got [1, 'b']"


def test_named_tuple_makes_columns() -> None:
    schema = Schema.of(Point)
    value = schema.parse('{"x": 3, "label": null}')
    assert (value, type(value)) == (Point(3), Point)
    assert schema.row(value) == {"x": 3, "label": "here"}


def test_typed_dict_keeps_what_is_required() -> None:
    for make in (typing.TypedDict, typing_extensions.TypedDict):
        Made = make("Made", {"a": Required[int], "b": int, "c": NotRequired[int]}, total=False)  # type: ignore[operator]  # both
        assert wrong(Made, {"b": 1}) == "a: is required"
        assert Schema.of(Made).parse('{"a": 1, "b": null, "c": null}') == {"a": 1}


def test_generic_classes_know_what_their_variables_stand_for() -> None:
    assert Schema.of(Page[Point]).parse('{"items": [{"x": 1}], "next": {"items": []}}') == Page([Point(1)], Page([]))
    assert wrong(Page[Point], {"items": [1]}) == "items[0]: must be an object, got 1"
    assert wrong(Numbers, {"items": ["a"], "total": 1}) == "items[0]: must be an integer, got 'a'"
    assert Schema.of(Numbers).parse('{"items": [1], "next": null, "total": null}') == Numbers([1])


def test_what_is_sent_is_the_same_in_every_process() -> None:
    # It is part of the request's key: another name would ask for all rows again.
    import subprocess

    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_python_types as t\n"
        "from aichat_magic.schema.schema import Schema\n"
        "print(Schema.of(t.Holder).canonical, Schema.of(t.Page[t.Point]).canonical)"
    )
    lines = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path), "PATH": ""},
        ).stdout
        for seed in "12"
    }
    assert len(lines) == 1


def test_dataclass_may_say_more_by_pydantics_field() -> None:
    @dataclass
    class Said:
        stars: Annotated[int, pydantic.Field(ge=1, le=5, description="how many")]
        tags: Annotated[list[str], Len(1, 2)]
        code: int = pydantic.Field(alias="the code", ge=3, default=7)
        made: list[int] = pydantic.Field(default_factory=lambda: [1])  # noqa: RUF009  # as pydantic has it

    schema = Schema.of(Said)
    properties = schema.json_schema["properties"]
    assert properties["stars"] == {"description": "how many", "type": "integer", "minimum": 1, "maximum": 5}
    assert properties["tags"] == {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2}
    assert list(properties) == ["stars", "tags", "the code", "made"]
    assert [column.name for column in schema.fields] == ["stars", "tags", "code", "made"]
    value = schema.parse('{"stars": 1, "tags": ["a"], "the code": null, "made": null}')
    assert value == Said(1, ["a"], 7, [1])
    assert schema.row(value)["code"] == 7
    assert wrong(Said, {"stars": 9, "tags": [], "the code": 1}) == (
        "stars: must be less than or equal to 5, got 9; tags: must have at least 1 item, got []; "
        "the code: must be greater than or equal to 3, got 1"
    )


def test_constraints_on_dates_hold() -> None:
    source = Annotated[date, Ge(date(2020, 1, 1))]
    assert Schema.of(source).parse('"2020-01-02"') == date(2020, 1, 2)
    assert "2020, 1, 1" in wrong(source, "2019-12-31")


def test_what_an_answer_cannot_give_is_refused_before_anything_is_sent() -> None:
    @dataclass
    class Needs:
        a: int
        extra: InitVar[int]

    with pytest.raises(BadInputError, match=r"Needs\.extra is an InitVar"):
        Schema.of(Needs)


def test_member_that_is_made_elsewhere_is_not_asked_for() -> None:
    @dataclass
    class Made:
        a: int
        b: int = field(init=False, default=3)

    assert list(Schema.of(Made).json_schema["properties"]) == ["a"]
    assert Schema.of(Made).parse('{"a": 1}') == Made(1)


# --- values


@pytest.mark.parametrize(
    ("source", "answer", "value", "dtype", "cell"),
    [
        (Decimal, "1.50", Decimal("1.5"), "object", Decimal("1.5")),
        (UUID, '"00000000-0000-0000-0000-000000000001"', UUID(int=1), "string", str(UUID(int=1))),
        (time, '"10:30"', time(10, 30), "string", "10:30:00"),
        (timedelta, '"PT1H"', timedelta(hours=1), "string", "PT1H"),
        (bytes, '"abc"', b"abc", "object", b"abc"),
        (Literal[1, "x"], '"x"', "x", "object", "x"),
        (Literal[True, 1, "1"], "true", True, "object", True),
        (dict[Mood, int], '{"good": 1, "bad": null}', {Mood.GOOD: 1}, "object", {"good": 1}),
        (dict[int, str], '{"1": "a"}', {1: "a"}, "object", {1: "a"}),
        (dict[Literal["a", "b"], float], '{"b": 2}', {"b": 2.0}, "object", {"b": 2.0}),
        (date | str, '"2024-05-01"', date(2024, 5, 1), "object", date(2024, 5, 1)),
        (typing.Iterable[Point], '[{"x": 1}]', [Point(1)], "object", [{"x": 1, "label": "here"}]),
        (Literal[Mood.GOOD, "ok", None], '"good"', Mood.GOOD, "category", "good"),
        (frozenset[Mood], '["bad"]', frozenset({Mood.BAD}), "object", ["bad"]),
    ],
    ids=str,
)
def test_values_of_every_kind_have_their_type_and_column(
    source: Any, answer: str, value: Any, dtype: str, cell: Any
) -> None:
    schema = Schema.of(source)
    read = schema.parse(answer)
    assert (read, type(read)) == (value, type(value))
    assert schema.fields[0].dtype == dtype
    assert schema.row(read) == {"value": cell}
    pd = pytest.importorskip("pandas")
    assert len(pd.Series([schema.row(read)["value"], None], dtype=dtype)) == 2


def test_keys_of_an_enum_are_sent_by_name() -> None:
    sent = Schema.of(dict[Mood, int]).json_schema["properties"]["value"]
    assert sent["required"] == ["good", "bad"]
    assert sent["additionalProperties"] is False
    assert Schema.of(dict[Mood, int]).is_strict
    assert wrong(dict[Mood, int], {"fine": 1}) == "fine: must be 'good' or 'bad', got 'fine'"


@pytest.mark.parametrize("text", ["2024", "1700000000", 2024, "12", "2024-05", "tomorrow"], ids=str)
def test_number_is_no_moment(text: object) -> None:
    # Pydantic would read seconds since 1970 there.
    assert "must be a" in wrong(datetime, text)
    assert "must be a" in wrong(date, text)


def test_alternatives_with_a_constant_are_told_apart_by_it() -> None:
    assert Schema.of(Cat | Dog).parse('{"kind": "dog", "friend": {"kind": "cat", "lives": null}}') == Dog(
        "dog", Cat("cat")
    )
    assert (
        wrong(Cat | Dog, {"kind": "cow"}) == "the answer must have a 'kind': one of 'cat', 'dog', got {'kind': 'cow'}"
    )
    assert wrong(Cat | Dog, {"kind": "cat", "lives": "x"}) == "lives: must be an integer, got 'x'"

    @dataclass
    class QueueOwner:
        pet: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]

    assert Schema.of(QueueOwner).parse('{"pet": {"kind": "cat"}}') == QueueOwner(Cat("cat"))


def test_alternatives_of_different_kinds_may_be_as_deep_as_json() -> None:
    value: Any = 1
    for number in range(60):
        value = {"a": value} if number % 2 else [value]
    assert Schema.of(Json).parse(json.dumps(value)) == value


@pytest.mark.parametrize("depth", [20, 50])  # 2 to the 50th attempts
def test_alternatives_within_alternatives_end_in_time(depth: int) -> None:
    chain: Any = {"kind": "cat"}
    for _ in range(50):
        chain = {"kind": "dog", "friend": chain}
    assert Schema.of(Dog).parse(json.dumps(chain)).kind == "dog"  # told apart: as deep as JSON may be
    tower: Any = 1
    for _ in range(10):
        tower = {"of": tower}
    assert isinstance(Schema.of(Nay).parse(json.dumps(tower)), Nay)
    for _ in range(10, depth):
        tower = {"of": tower}
    assert "a discriminator helps" in wrong(Nay, tower)


def test_alias_that_contains_itself_is_read() -> None:
    value = {"a": [1, {"b": [None]}]}
    assert Schema.of(Json).parse(json.dumps(value)) == value
    assert Schema.of(dict[str, Json]).parse(json.dumps(value)) == value


def test_validator_may_leave_the_literal() -> None:
    class Loud(pydantic.BaseModel):
        mood: Literal["good", "bad"]
        size: int

        @pydantic.field_validator("mood")
        @classmethod
        def shout(cls, mood: str) -> str:
            return mood.upper()

        @pydantic.field_validator("size")
        @classmethod
        def spell(cls, size: int) -> Any:
            return "many" if size > 9 else size

    schema = Schema.of(Loud)
    value = schema.parse('{"mood": "good", "size": 1}')
    assert schema.row(value) == {"mood": "GOOD", "size": 1}
    with pytest.raises(SchemaError, match="size: 'many' does not fit into a column of Int64"):
        schema.row(schema.parse('{"mood": "good", "size": 10}'))


def test_model_keeps_its_own_rules_inside_a_record() -> None:
    class Kind(pydantic.BaseModel):
        n: int = 3

    @dataclass
    class Around:
        kind: Kind
        n: int

    assert Schema.of(Around).parse('{"kind": {"n": "4"}, "n": 5}') == Around(Kind(n=4), 5)
    assert Schema.of(Around).parse('{"kind": {"n": null}, "n": 5}') == Around(Kind(n=3), 5)
    assert wrong(Around, {"kind": {"n": "4"}, "n": "5"}) == "n: must be an integer, got '5'"


def test_dataclass_of_pydantic_keeps_its_own_rules() -> None:
    @pydantic.dataclasses.dataclass
    class Own:
        a: int
        b: str = "x"

        @pydantic.field_validator("a")
        @classmethod
        def check(cls, a: int) -> int:
            if a > 5:
                raise ValueError("too\nlarge")
            return a

    @dataclass
    class Around:
        own: Own

    assert Schema.of(Own).parse('{"a": "2", "b": null}') == Own(2)
    assert Schema.of(Around).parse('{"own": {"a": 2}}') == Around(Own(2))
    assert wrong(Around, {"own": {"a": 9}}) == "own.a: too large, got 9"


def test_configuration_of_a_typed_dict_holds() -> None:
    class Closed(TypedDict):
        a: int

    Closed.__pydantic_config__ = {"extra": "forbid"}  # type: ignore[attr-defined]  # pydantic's name
    assert wrong(Closed, {"a": 1, "b": 2}) == "b: is not in the schema"


def test_code_of_the_users_that_fails_is_a_schema_error() -> None:
    class Odd(pydantic.BaseModel):
        n: int

        @pydantic.field_validator("n")
        @classmethod
        def check(cls, n: int) -> int:
            return {}[n]  # type: ignore[no-any-return]  # that is the test

    assert wrong(Odd, {"n": 3}) == "Odd: 3"
