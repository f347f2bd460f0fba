"""The one JSON reader, through all its doors: `Reply.json`, ``--format json``, and schemas of either kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.core.errors import AichatError, MalformedReplyError
from aichat_magic.core.json_text import SchemaError, values_in
from aichat_magic.core.messages import Reply
from aichat_magic.magic.reply_format import ReplyFormat
from aichat_magic.schema.schema import Schema


@dataclass
class Record:
    a: Any
    note: str = ""


def read_shown(text: str) -> Any:
    """Return what `--format json` shows: the text itself where it holds no JSON."""
    shown = ReplyFormat(format="json").shown(text, is_notebook=True)
    fence = shown[: shown.find("json\n")]
    if not fence or fence.strip("`") or shown == text:
        raise SchemaError("shown as it is")
    return json.loads(shown.removeprefix(f"{fence}json\n").removesuffix(f"\n{fence}"))


def as_dict(record: Any) -> Any:
    return {"a": record.a, **({"note": record.note} if record.note else {})}


OBJECT = {"type": "object", "properties": {"a": {}, "note": {"type": "string"}}, "required": ["a"]}
DOORS: dict[str, Callable[[str], Any]] = {
    "reader": lambda text: values_in(text)[0],
    "reply": lambda text: Reply(text=text).json,
    "format": ReplyFormat(format="json").value_of,
    "shown": read_shown,
    "any schema": Schema.of({}).parse,
    "schema": Schema.of(OBJECT).parse,
    "type": lambda text: as_dict(Schema.of(Record).parse(text)),
    "cell": lambda text: as_dict(ReplyFormat(format="json", schema=Schema.of(Record)).value_of(text)),
}
by_door = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)


@by_door
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ('\ufeff\n {"a": 1}\n', {"a": 1}),
        ('Sure! Here it is:\n\n```json\n{"a": 1}\n```\nAnything else?', {"a": 1}),
        ('```\n{"a": 1}\n```', {"a": 1}),
        ('~~~json\n{"a": 1}\n~~~', {"a": 1}),
        ('1. Answer:\n   ```json\n   {"a":\n     1}\n   ```', {"a": 1}),
        ('````json\n{"a": "```"}\n````', {"a": "```"}),
        ('```json\n{"a": 1}', {"a": 1}),
        ('```json {"a": 1} ```', {"a": 1}),
        ('The answer is {"a": 1}. I hope that {it} helps.', {"a": 1}),
        ('<think>{"a": 5}? No.</think>\n{"a": 1}', {"a": 1}),
        ('\n<think>\n```json\n{"a": 5}\n```\n</think>\n\n```json\n{"a": 1}\n```', {"a": 1}),
        ('{"a": "<think>x</think>"}', {"a": "<think>x</think>"}),
        ('{"a": 1, "note": "line\nbreak\ttab"}', {"a": 1, "note": "line\nbreak\ttab"}),
        ('{"a": "\\u00e9 \\ud83d\\ude00"}', {"a": "é 😀"}),
        ('{"a": "x\\ud800\\u0000"}', {"a": "x\ufffd\ufffd"}),
        ('{"a": [1, 2.5, null, true, {"b": []}]}', {"a": [1, 2.5, None, True, {"b": []}]}),
        ('{"a": 1, "a": 2}', {"a": 2}),
        ('{"a": 1}\n{"a": 2}', {"a": 1}),
        ('{"a": -0.0}', {"a": -0.0}),
        ('{"a": 12345678901234567890123}', {"a": 12345678901234567890123}),
    ],
)
def test_every_door_reads_the_same_value(door: Callable[[str], Any], text: str, value: Any) -> None:
    assert door(text) == value


@by_door
@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot do that.",
        "{'a': 1}",
        '{"a": 1,}',
        '{"a": 1, "note": "x',
        '```json\n{"a": 1, "b": [',
        '{"a": NaN}',
        '{"a": [Infinity]}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": ' + "9" * 5000 + "}",
        '{"a": ' + "[" * 100 + "]" * 100 + "}",
        '{"a": ' + "[" * 10_000 + "]" * 10_000 + "}",
        '<think>{"a": 1}',
        '{"a": 1}' + " " * 3_000_000,
    ],
    ids=lambda text: text[:30],
)
def test_every_door_refuses_the_same_text(door: Callable[[str], Any], text: str) -> None:
    with pytest.raises((SchemaError, MalformedReplyError)):
        door(text)


@given(st.text(alphabet='{}[]":,1aN\\\n`~ ', max_size=60))
def test_any_text_is_a_value_for_all_doors_or_for_none(text: str) -> None:
    found = []
    for name in ("reader", "reply", "format"):
        try:
            found.append(("value", json.dumps(DOORS[name](text))))
        except AichatError:
            found.append(("error", ""))
    assert len(set(found)) == 1


# For any other character U+FFFD stands.
FIT_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | FIT_TEXT,
        lambda inner: st.lists(inner) | st.dictionaries(FIT_TEXT, inner),
        max_leaves=10,
    )
)
def test_what_is_written_is_what_every_door_reads(value: Any) -> None:
    text = json.dumps({"a": value}, ensure_ascii=False)
    for name, door in DOORS.items():
        assert door(text) == {"a": value}, name
