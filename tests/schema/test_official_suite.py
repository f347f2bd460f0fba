"""The official test suite of JSON Schema, through `Schema.of` and `Schema.parse`, as users' schemas.

It is not part of any installed package; the sdist of `jsonschema` ships it, and `.ci/run` takes it from there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aichat_magic.core.errors import BadInputError
from aichat_magic.schema.schema import Schema, SchemaError

DRAFTS = {
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
    "draft7": "http://json-schema.org/draft-07/schema#",
}
VARIABLE = "JSON_SCHEMA_TEST_SUITE"
SUITE = Path(os.environ.get(VARIABLE, "nowhere")) / "tests"
FILES = [(draft, path.stem) for draft in DRAFTS for path in sorted((SUITE / draft).glob("*.json"))]
HINT = (
    "Run: python -m pip download --no-deps --no-binary jsonschema jsonschema; unpack it, "
    f"and set {VARIABLE} to the folder json in it"
)
# Why a schema of the suite is refused before anything could be sent: it refers to what is not in it, or is written in
# a dialect of its own, or in words of its own.
REFUSALS = ("which is not in it", "is not known here", "refers to itself")

# In every answer U+FFFD takes the place of NUL, which no column can hold, before it is checked.
REPLACED = "\\u0000"

# These formats are checked here, since columns are made of them; to the standard all formats are annotations.
CHECKED = ("date-time format", "date format", "time format")

pytestmark = pytest.mark.skipif(not FILES, reason=f"the suite is not here. {HINT}")


def cases(draft: str, name: str) -> Iterator[tuple[str, Schema | str, Any, bool]]:
    """Each case of a file: its title, the schema (or why it is refused), a value, and whether it is valid."""
    for group in json.loads((SUITE / draft / f"{name}.json").read_text("utf-8")):
        source = group["schema"]
        if isinstance(source, bool):  # a schema that is no dict cannot be given
            source = {"allOf": [source]}
        schema: Schema | str
        try:
            schema = Schema.of({"$schema": DRAFTS[draft], **source})
        except BadInputError as error:
            schema = str(error)
        for test in group["tests"]:
            yield f"{group['description']}: {test['description']}", schema, test["data"], test["valid"]


@pytest.mark.parametrize(("draft", "name"), FILES or [("", "")])
def test_no_value_is_accepted_that_is_invalid_and_none_refused_that_is_valid(draft: str, name: str) -> None:
    problems: list[str] = []
    for title, schema, data, is_valid in cases(draft, name):
        if isinstance(schema, str):
            if not any(words in schema for words in REFUSALS):
                problems.append(f"{title}: {schema}")
            continue
        if (name == "format" and title.startswith(CHECKED)) or REPLACED in json.dumps(data):
            continue
        try:
            value = schema.parse(json.dumps(data))
        except SchemaError as error:
            if is_valid:
                problems.append(f"{title}: refused: {error}")
        else:
            # What is null where it may be left out is left out: then it is another value that was accepted.
            if not is_valid and value == data:
                problems.append(f"{title}: accepted {data!r}")
    assert problems == []


def test_few_schemas_of_the_suite_are_refused() -> None:
    refused = set()
    for draft, name in FILES:
        refused |= {(draft, name, schema) for _, schema, _, _ in cases(draft, name) if isinstance(schema, str)}
    assert len(refused) <= 30, sorted(refused)
