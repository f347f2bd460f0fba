"""JSON in the text of a model, which may be prose, fenced, cut off or hostile.

There is no other reader: `Reply.json`, ``--format json`` and schemas see the same value in the same text.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator
from typing import Any

from ..text.characters import fit
from ..text.code_blocks import blocks
from ..text.words import shorten
from .errors import AichatError

_MAX_CHARS = 2_000_000
_MAX_DEPTH = 64
_MAX_DIGITS = 400
_MAX_CANDIDATES = 8
# Opening brackets that begin no value, and those of them that are never closed. Each costs a pass over the text.
_MAX_FAILED = 100
_MAX_UNCLOSED = 8

_OPENER = re.compile(r"[{\[]")
# A string ends at the end of the text too, so that one pass is linear whatever the quotes are.
_BRACKET_OR_STRING = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[{}\[\]]', re.S)
# In JSON a character can be written as an escape. Whole surrogate pairs and escaped backslashes stay as they are.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u(?P<unfit>[dD][89a-fA-F][0-9a-fA-F]{2}|0000)|.)",
    re.S,
)
# Numbers that other parsers read differently, or refuse: beyond a float, or of many digits.
_LARGE_NUMBER = re.compile(r"[0-9](?:[eE]\+?[0-9]{3}|[0-9]{299})")


class SchemaError(AichatError, ValueError):
    """A reply that does not satisfy its schema. The message is one line: where, what is wrong, what came instead."""


def _number(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(text):,} digits cannot be used")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{shorten(text, 40)} is beyond what a number can hold")
    return value


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON; use null")


# Line ends inside strings are not JSON, but models write them, and their meaning is clear.
_DECODER = json.JSONDecoder(parse_int=_number, parse_float=_finite, parse_constant=_no_constant, strict=False)


def without_unfit(text: str) -> str:
    """Replace the characters that no text may hold in a text with JSON, also where they are written as escapes.

    Args:
        text: The text as it came.

    Returns:
        The text with U+FFFD, or its escape, in place of each NUL and each half of a surrogate pair.
    """
    text = fit(text)
    if "\\u" not in text:
        return text
    return _ESCAPE.sub(lambda escape: "\\ufffd" if escape["unfit"] else escape[0], text)


def values_in(text: str) -> list[Any]:
    """Find the JSON values in a text: the whole text, or the contents of fences, or objects and arrays in prose.

    Nothing is taken from the inside of a broken value, because a part would pass for the whole. In strings, U+FFFD
    replaces the characters that no text may hold.

    Args:
        text: The text as it came.

    Returns:
        At least one value, the likeliest first.

    Raises:
        SchemaError: There is no JSON, it is cut off, or it is nested too deeply or otherwise unsafe to use.
    """
    if len(text) > _MAX_CHARS:
        raise SchemaError(f"the answer is too long to be read: {len(text):,} characters")
    text = without_unfit(text).strip().removeprefix("\ufeff")
    if text.startswith("<think>"):
        # Thinking that a server has left in the text; drafts in it are no answers.
        text = text.partition("</think>")[2].strip()
    trouble: list[str] = []
    hints: list[str] = []
    found: list[Any] = []
    if (whole := _whole(text)) is not None:
        found += whole
    else:
        for body in (*(block.text for block in blocks(text)), text):
            found += _whole(body.strip()) or itertools.islice(_scan(body, trouble, hints), _MAX_CANDIDATES)
            if trouble or len(found) > _MAX_CANDIDATES:
                break
    if all(is_harmless(value, trouble) for value in found) and found and not trouble:
        return found
    raise SchemaError(next(iter([*trouble, *hints]), "the answer holds no JSON"))


def is_plain(text: str) -> bool:
    """Tell whether every strict parser reads the text alike, if it is JSON, so that it needs no care of this module.

    Args:
        text: The text as it came.
    """
    is_small = len(text) < 100_000 and text.count("{") + text.count("[") <= _MAX_DEPTH
    has_plain_numbers = "NaN" not in text and "Infinity" not in text and _LARGE_NUMBER.search(text) is None
    return is_small and has_plain_numbers and without_unfit(text) == text


def _whole(text: str) -> tuple[Any] | None:
    """Parse the text as one value. Return it in a tuple, because it can be None; return None if the text is no JSON."""
    try:
        return (_DECODER.decode(text),)
    except (ValueError, RecursionError):
        return None


def _scan(text: str, trouble: list[str], hints: list[str]) -> Iterator[Any]:
    """Yield the objects and arrays that stand side by side in a text.

    Problems that must be reported go to `trouble`; those of parts that may only look like JSON go to `hints`.
    """
    at = failed = unclosed = 0
    while failed < _MAX_FAILED and unclosed < _MAX_UNCLOSED and (opener := _OPENER.search(text, at)):
        start = opener.start()
        try:
            value, at = _DECODER.raw_decode(text, start)
        except RecursionError:
            trouble.append(f"the JSON is nested more than {_MAX_DEPTH} deep")
            return
        except json.JSONDecodeError as error:
            end, failed = _end_of(text, start), failed + 1
            if end is not None:
                hints.append(f"the answer holds no JSON: {error.msg} at character {error.pos - start + 1}")
                at = end
            elif error.pos > start + 1 and text[start + 1 : error.pos].strip():
                trouble.append("the JSON breaks off before its end")
                return
            else:
                at, unclosed = start + 1, unclosed + 1
        except ValueError as error:
            trouble.append(str(error))
            return
        else:
            yield value


def _end_of(text: str, start: int) -> int | None:
    """Return the place after the bracket that closes the one at `start`, or None."""
    depth = 0
    for token in _BRACKET_OR_STRING.finditer(text, start):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token[0], 0)
        if depth == 0:
            return token.end()
        if depth > _MAX_DEPTH:
            return None
    return None


def is_harmless(value: Any, trouble: list[str]) -> bool:
    """Tell whether a value can go through recursive code; if not, say why in `trouble`."""
    todo: list[tuple[Any, int]] = [(value, 0)]
    while todo:
        item, depth = todo.pop()
        if depth > _MAX_DEPTH:
            trouble.append(f"the JSON is nested more than {_MAX_DEPTH} deep")
            return False
        if isinstance(item, dict):
            todo += [(part, depth + 1) for pair in item.items() for part in pair]
        elif isinstance(item, list):
            todo += [(part, depth + 1) for part in item]
    return True
