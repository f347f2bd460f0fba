"""A vendor's own options: Python values and texts that become JSON, before anything is sent."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from ..text.words import shorten
from .errors import OptionError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)
# As deep as any option of a vendor is, and far from the interpreter's own limit.
_MAX_DEPTH = 32
# Whole numbers that JSON parsers read back unchanged.
_MAX_INT = 2**64
_MAX_EXACT_FLOAT = 2.0**53
_PYTHON_WORDS: Mapping[str, Any] = {"True": True, "False": False, "None": None}


def json_options(values: Any) -> dict[str, Any]:
    """Return a vendor's options as JSON values. Numbers and arrays of numpy become plain ones, 1.0 becomes 1.

    Args:
        values: A mapping of names to values.

    Raises:
        OptionError: It is no mapping, a name cannot be one, or a value is not JSON (a set, NaN, bytes, an object).
    """
    if not isinstance(values, Mapping):
        raise OptionError(
            f"options must be a dict of names and values, such as {{'top_k': 40}}, not {shorten(repr(values), 60)}."
        )
    return {_checked_name(name): _json_value(value, str(name), 0) for name, value in values.items()}


def parse_option(text: str) -> tuple[str, Any]:
    """Parse ``NAME=VALUE``. The value is JSON; ``True``, ``False`` and ``None`` are Python's; other words are text.

    Raises:
        OptionError: There is no equals sign, the name cannot be one, or the value is broken JSON.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise OptionError(f"-O takes NAME=VALUE, such as -O top_k=40, not {shorten(text, 40)!r}.")
    name, value = _checked_name(name.strip()), value.strip()
    if value in _PYTHON_WORDS:
        return name, _PYTHON_WORDS[value]
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        # A shell-like line has taken the quotes away: without this, "[a]" would be sent as a text.
        if value[:1] in tuple('[{"'):
            raise OptionError(
                f"The value of {name} is not JSON: {shorten(value, 40)} Put it in single quotes: "
                f"""-O '{name}={{"a": 1}}'"""
            ) from None
        return name, value
    return name, _json_value(parsed, name, 0)


def parse_options(text: str) -> dict[str, Any]:
    """Parse a JSON object, or one ``NAME=VALUE``: the value of a setting.

    Raises:
        OptionError: It is neither.
    """
    if not text.lstrip().startswith("{"):
        return dict([parse_option(text)])
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        raise OptionError(
            f"""options must be a JSON object or NAME=VALUE, such as '{{"top_k": 40}}' or top_k=40, """
            f"not {shorten(text, 60)!r}."
        ) from None
    return json_options(parsed)


def canonical_json(value: Any) -> str:
    """Return JSON in one form for equal values: sorted names, no blanks. Raises ValueError for NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _checked_name(name: Any) -> str:
    """Return the name of an option. One with a dot is refused, because it looks like a path, and none is followed."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        outer, _, inner = str(name).partition(".")
        nested = f""" For an option inside another one: -O '{outer}={{"{inner}": ...}}'""" if inner else ""
        raise OptionError(f"{shorten(repr(name), 40)} cannot be the name of an option.{nested}")
    return name


def _json_value(value: Any, name: str, depth: int) -> Any:
    """Return a value as JSON has it; `name` is that of its option, for errors."""
    if depth > _MAX_DEPTH:
        raise OptionError(f"The value of {name} in options nests too deep.")
    if value is None or isinstance(value, (bool, str)):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, int) and abs(value) <= _MAX_INT:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return int(value) if value.is_integer() and abs(value) <= _MAX_EXACT_FLOAT else float(value)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {str(key): _json_value(item, name, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(item, name, depth + 1) for item in value]
    # Numbers and arrays of numpy, without importing it.
    if type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "tolist"):
        plain = value.tolist()
        if type(plain) is not type(value):
            return _json_value(plain, name, depth + 1)
    raise OptionError(
        f"The value of {name} in options must be JSON (a text, a number, true, false, none, a list or a dict), "
        f"not {shorten(repr(value), 60)}."
    )
