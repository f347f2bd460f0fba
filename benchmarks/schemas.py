"""What it takes to read an answer of four fields into a value, by the kind of the schema.

    python benchmarks/schemas.py

Each figure is the best of twenty rounds, in microseconds of CPU, everybody in turn; `json.loads` of the same text is
the measure. "wrong" is the words for an answer whose every field is wrong.
"""

from __future__ import annotations

import importlib.metadata
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypedDict

import pydantic
from report import Report, Table, arguments

from aichat_magic.core.json_text import values_in
from aichat_magic.schema.schema import Schema, SchemaError

ROUNDS = 20
TIMES = 500
TEXT = '{"title": "Solaris", "stars": 4, "mood": "good", "is_spam": false}'
FENCED = f"Here it is:\n```json\n{TEXT}\n```\n"
WRONG = '{"title": 1, "stars": "4", "mood": "fine", "is_spam": 0}'


@dataclass
class Record:
    """A review."""

    title: str
    stars: int
    mood: Literal["good", "bad"]
    is_spam: bool


class Named(NamedTuple):
    """A review."""

    title: str
    stars: int
    mood: Literal["good", "bad"]
    is_spam: bool


class Typed(TypedDict):
    """A review."""

    title: str
    stars: int
    mood: Literal["good", "bad"]
    is_spam: bool


class Model(pydantic.BaseModel):
    """A review."""

    title: str
    stars: int
    mood: Literal["good", "bad"]
    is_spam: bool


DICT = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "stars": {"type": "integer"},
        "mood": {"enum": ["good", "bad"]},
        "is_spam": {"type": "boolean"},
    },
    "required": ["title", "stars", "mood", "is_spam"],
}


def refused(schema: Schema, text: str) -> str:
    """The words for a wrong answer."""
    try:
        schema.parse(text)
    except SchemaError as error:
        return str(error)
    raise AssertionError("it is wrong")


def main() -> None:
    """Measure and print the table."""
    options = arguments(__doc__)
    adapter = pydantic.TypeAdapter(Record)
    work: dict[str, Callable[[], Any]] = {
        "json.loads": lambda: json.loads(TEXT),
        "the JSON reader alone": lambda: values_in(TEXT),
        "pydantic alone, into a dataclass": lambda: adapter.validate_json(TEXT),
    }
    kinds = {"a dataclass": Record, "a NamedTuple": Named, "a TypedDict": Typed, "a pydantic model": Model}
    for name, source in {**kinds, "a JSON schema": DICT}.items():
        schema = Schema.of(source)
        work[f"into {name}"] = lambda schema=schema: schema.parse(TEXT)  # type: ignore[misc]  # bound here
    schema, model = Schema.of(Record), Schema.of(DICT)
    work["into a dataclass, and a row of columns"] = lambda: schema.row(schema.parse(TEXT))
    work["into a dataclass, out of a fence"] = lambda: schema.parse(FENCED)
    work["into a dataclass, wrong"] = lambda: refused(schema, WRONG)
    work["into a JSON schema, wrong"] = lambda: refused(model, WRONG)
    best = dict.fromkeys(work, float("inf"))
    for _ in range(ROUNDS):
        for name, do in work.items():
            begin = time.process_time()
            for _ in range(TIMES):
                do()
            best[name] = min(best[name], (time.process_time() - begin) / TIMES * 1e6)
    table = Table("an answer of four fields", "us", "times json.loads")
    for name, us in best.items():
        table.add(name, f"{us:.1f}", f"{us / best['json.loads']:.1f}")
    report = Report("schemas", "Reading answers: `python benchmarks/schemas.py`")
    report.text(f"Best of {ROUNDS} rounds of {TIMES}, CPU of one process, everybody in turn.")
    report.table(table)
    report.used({name: importlib.metadata.version(name) for name in ("pydantic", "jsonschema")})
    report.finish(options)


if __name__ == "__main__":
    main()
