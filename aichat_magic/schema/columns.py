"""Columns for the values of a schema: their dtypes, and a value as a column holds it."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from ..core.json_text import SchemaError
from ..text.words import shorten
from .tree import SchemaTree

_DTYPES = {"string": "string", "integer": "Int64", "number": "Float64", "boolean": "boolean"}
_PLAIN = frozenset((str, int, float, bool, type(None), datetime))
_MAX_DEPTH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A column.

    Attributes:
        name: Its name.
        dtype: What pandas calls its type: ``string``, ``Int64``, ``Float64``, ``boolean``, ``datetime64[us]`` (the
            resolution of Python's own, so that no year is out of range), ``category``, or ``object`` for what is
            nested or of mixed types.
        categories: The values of a ``category``, in the order of the schema.
    """

    name: str
    dtype: str
    categories: tuple[Any, ...] = ()


def column_type(tree: SchemaTree, schema: Any, depth: int = 0) -> tuple[str, tuple[Any, ...]]:
    """Return the dtype of a schema's values, and the categories of a ``category``.

    Args:
        tree: The whole schema.
        schema: The part of it that describes the column.
        depth: Number of alternatives around this one.
    """
    if depth > _MAX_DEPTH:
        return "object", ()
    schema = tree.resolved(schema)
    members = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if members:
        return _category(tuple(member for member in members if member is not None))
    branches = schema.get("anyOf") or schema.get("oneOf")
    if branches and "type" not in schema:
        found = [
            column_type(tree, branch, depth + 1) for branch in branches if tree.resolved(branch).get("type") != "null"
        ]
        dtypes = {dtype for dtype, _ in found}
        if dtypes == {"category"}:
            return _category(tuple(dict.fromkeys(member for _, group in found for member in group)))
        if dtypes == {"Int64", "Float64"}:
            return "Float64", ()
        return (dtypes.pop() if len(dtypes) == 1 else "object"), ()
    types = schema.get("type")
    types = {types} if isinstance(types, str) else {*(types or ())}
    types.discard("null")
    if types == {"string"} and schema.get("format") in ("date-time", "date"):
        return "datetime64[us]", ()
    if types == {"string"} and schema.get("format") in ("binary", "base64url"):
        return "object", ()  # the formats that pydantic gives to bytes
    if types == {"integer", "number"}:
        return "Float64", ()
    return (_DTYPES.get(types.pop(), "object") if len(types) == 1 else "object"), ()


def _category(members: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    # Categories of several types do not sort, and True is 1 to pandas.
    return ("category", members) if len({*map(type, members)}) == 1 and _is_flat(members) else ("object", ())


def _is_flat(members: tuple[Any, ...]) -> bool:
    return not any(isinstance(member, (dict, list)) for member in members)


def cell_value(value: Any, column: Field) -> Any:
    """Return a value as its column holds it: plain, None where there is none.

    Raises:
        SchemaError: It does not fit its column: a whole number beyond 64 bits, or a value that a class has changed.
    """
    value = plain(value)
    if value is None:
        return None
    try:
        match column.dtype:
            case "Int64":
                if not -(2**63) <= value < 2**63:
                    raise SchemaError(f"{column.name}: must fit into 64 bits, got {shorten(str(value), 60)}")
                return int(value)
            case "Float64":
                return float(value)
            case "string":
                return _text(value)
            case "boolean":
                return bool(value)
            case "datetime64[us]":
                return _datetime(value)
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, SchemaError):
            raise
        text = shorten(repr(value), 60)
        raise SchemaError(f"{column.name}: {text} does not fit into a column of {column.dtype}") from None
    return value


def _datetime(value: str | date) -> datetime:
    """Return a date or a time, or its text, as a datetime without zone."""
    if not isinstance(value, datetime):
        value = datetime.fromisoformat(str(value))
    return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    # A duration, an address or anything else that is a string in the schema: written as in the answer.
    from pydantic_core import to_jsonable_python

    return str(to_jsonable_python(value, fallback=str))


def plain(value: Any) -> Any:
    """Return a value without the user's types: the values of enums, dicts and lists for nested types."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {part.name: plain(getattr(value, part.name)) for part in dataclasses.fields(value)}
    if is_pydantic(type(value)):
        return plain(value.model_dump())
    if isinstance(value, Mapping):
        return {plain(key): plain(part) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: plain(getattr(value, name)) for name in value._fields}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(part) for part in value]
    return value


def is_pydantic(source: Any) -> bool:
    """Tell whether something is a pydantic model class, without importing pydantic."""
    return isinstance(source, type) and hasattr(source, "model_fields") and hasattr(source, "model_validate_json")
