"""JSON out of a model's text, which may be prose, fenced, cut short or hostile.

This is the one reader: `Reply.json`, ``--format json`` and schemas see the same value in the same text.
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
# Openers that begin no value, and those of them that nothing closes. Each costs a pass over the text.
_MAX_FAILED = 100
_MAX_UNCLOSED = 8

_OPENER = re.compile(r"[{\[]")
# A string ends at the end of the text too, so that one pass is linear whatever the quotes are.
_BRACKET_OR_STRING = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[{}\[\]]', re.S)
# In JSON a character can be written as an escape. Those of a whole pair and of a backslash stay as they are.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u(?P<unfit>[dD][89a-fA-F][0-9a-fA-F]{2}|0000)|.)",
    re.S,
)
# What other parsers read in another way, or at all: numbers beyond a float, numbers of many digits.
_LARGE_NUMBER = re.compile(r"[0-9](?:[eE]\+?[0-9]{3}|[0-9]{299})")


class SchemaError(AichatError, ValueError):
    """A reply does not satisfy its schema. One line: where, what is wrong, what came instead."""


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


# Line ends inside strings are not JSON, but models write them, and there is only one way to read them.
_DECODER = json.JSONDecoder(parse_int=_number, parse_float=_finite, parse_constant=_no_constant, strict=False)


def without_unfit(text: str) -> str:
    """Replace what no text may hold in a text with JSON, also where it is written as an escape.

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
    """The JSON values in a model's text: the whole text, or what stands in fences, or objects and arrays in prose.

    Nothing is taken out of the inside of a broken value, since a part would pass for the whole. In their strings U+FFFD
    stands for what no text may hold.

    Args:
        text: The text as it came.

    Returns:
        At least one value, likeliest first.

    Raises:
        SchemaError: There is no JSON, it breaks off, or it is nested or built so that nobody should go on with it.
    """
    if len(text) > _MAX_CHARS:
        raise SchemaError(f"the answer is too long to be read: {len(text):,} characters")
    text = without_unfit(text).strip().removeprefix("\ufeff")
    if text.startswith("<think>"):
        # Reasoning that a server has left in the text; drafts in it are no answers.
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
    """Tell whether a text, if it is JSON, is read alike by every strict parser: nothing in it needs this module's care.

    Args:
        text: The text as it came.
    """
    is_small = len(text) < 100_000 and text.count("{") + text.count("[") <= _MAX_DEPTH
    has_plain_numbers = "NaN" not in text and "Infinity" not in text and _LARGE_NUMBER.search(text) is None
    return is_small and has_plain_numbers and without_unfit(text) == text


def _whole(text: str) -> tuple[Any] | None:
    """The value that the text is, as a tuple of one (the value can be None), or None."""
    try:
        return (_DECODER.decode(text),)
    except (ValueError, RecursionError):
        return None


def _scan(text: str, trouble: list[str], hints: list[str]) -> Iterator[Any]:
    """Objects and arrays that stand side by side in a text.

    What must not be passed over goes to `trouble`; what only looks like JSON, and may be prose, to `hints`.
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
    """Where the bracket at `start` is closed, or None."""
    depth = 0
    for token in _BRACKET_OR_STRING.finditer(text, start):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token[0], 0)
        if depth == 0:
            return token.end()
        if depth > _MAX_DEPTH:
            return None
    return None


def is_harmless(value: Any, trouble: list[str]) -> bool:
    """Whether a value can go through recursive code."""
    rest: list[tuple[Any, int]] = [(value, 0)]
    while rest:
        item, depth = rest.pop()
        if depth > _MAX_DEPTH:
            trouble.append(f"the JSON is nested more than {_MAX_DEPTH} deep")
            return False
        if isinstance(item, dict):
            rest += [(part, depth + 1) for pair in item.items() for part in pair]
        elif isinstance(item, list):
            rest += [(part, depth + 1) for part in item]
    return True
