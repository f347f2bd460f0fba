"""The shape that an answer must have: what is sent for it, a checked value, a row of typed columns.

One schema goes to all providers (`schema_wire`), and every answer is checked against the type or the JSON schema as the
user wrote it: by pydantic (`schema_types`) or by jsonschema (`schema_dicts`), which are loaded when they are needed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from ..core.errors import BadInputError
from ..core.json_text import SchemaError, values_in
from ..text.words import shorten
from .columns import Field, cell, column
from .tree import SchemaTree
from .wire import Wire, closed_object

__all__ = ["Field", "Schema", "SchemaError", "repair_prompt"]

# The one property of the object that an answer is wrapped in when it is no object by itself.
_VALUE: Final = "value"


class _Reader(Protocol):
    """Makes values of what JSON gives, and has the JSON schema that they satisfy."""

    name: str
    tree: SchemaTree
    names: tuple[str, ...]

    def read(self, value: Any) -> Any: ...

    def read_text(self, text: str) -> tuple[Any, bool]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The shape of an answer.

    Attributes:
        name: Name of the type, of letters, digits, ``_`` and ``-``.
        json_schema: What goes to the provider: an object with everything that it refers to.
        fields: The columns, in the order of the schema.
        is_strict: Whether OpenAI's strict mode takes `json_schema`. It has no way to say "any object", such as
            ``dict[str, int]``.
    """

    name: str
    json_schema: dict[str, Any] = field(hash=False)
    fields: tuple[Field, ...]
    is_strict: bool
    _reader: _Reader = field(repr=False, compare=False)
    _is_wrapped: bool = field(repr=False)
    _counts: tuple[Field, ...] = field(repr=False)

    @classmethod
    def of(cls, source: object) -> Schema:
        """Make a schema of a type or a JSON schema.

        Args:
            source: A pydantic model (version 2), a dataclass, a TypedDict, a NamedTuple, an enum, a JSON schema as a
                dict, an annotation such as ``list[Review]`` or ``Literal["good", "bad"]``, or a `Schema`.

        Returns:
            The schema.

        Raises:
            BadInputError: Something else, or something in it has no JSON form; the message says what is accepted.
            MissingExtraError: A JSON schema, and the package ``jsonschema`` is not installed.
        """
        if isinstance(source, Schema):
            return source
        reader = _reader_of(source)
        tree = reader.tree
        wire = Wire(tree)
        top = tree.resolved(tree.root)
        keys = tuple(key for key, part in top.get("properties", {}).items() if part is not False)
        sent = wire.of(top)
        is_wrapped = not keys or sent.get("type") != "object"
        if is_wrapped:
            sent, keys, parts = closed_object({_VALUE: sent}), (_VALUE,), [tree.root]
        else:
            parts = [top["properties"][key] for key in keys]
            keys = reader.names if len(reader.names) == len(keys) else keys
        columns = (column(tree, part) for part in parts)
        fields = tuple(
            Field(name=name, dtype=dtype, categories=categories)
            for name, (dtype, categories) in zip(keys, columns, strict=True)
        )
        return cls(
            name=re.sub(r"[^a-zA-Z0-9_-]+", "_", reader.name)[:64] or "reply",
            json_schema={**sent, "$defs": wire.defs} if wire.defs else sent,
            fields=fields,
            is_strict=wire.is_strict,
            _reader=reader,
            _is_wrapped=is_wrapped,
            _counts=tuple(field for field in fields if field.dtype == "Int64"),
        )

    @property
    def canonical(self) -> str:
        """`json_schema` in one way of writing, for `Options.schema`.

        The order of properties stays: a model fills them in this order.
        """
        return json.dumps(self.json_schema, ensure_ascii=False, separators=(",", ":"))

    def instructions(self) -> str:
        """Return what a model is told that nothing else holds to the schema."""
        return (
            "Answer with JSON only, without any other words, that satisfies this JSON schema:\n"
            f"{json.dumps(self.json_schema, ensure_ascii=False)}"
        )

    def parse(self, text: str) -> Any:
        """Read the value in a model's answer.

        Args:
            text: The answer: JSON, JSON in a fence, or JSON between other words. Of several values the first that
                satisfies the schema counts.

        Returns:
            An instance of the pydantic model, dataclass, NamedTuple or enum; what the annotation says; or plain JSON
            values for a TypedDict and a JSON schema.

        Raises:
            SchemaError: There is no such value. One line: where, what must be, what came.
        """
        if not self._is_wrapped and text.startswith("{"):
            value, is_read = self._reader.read_text(text)
            if is_read:
                return self._bound(value)
        try:
            return self._first(self._candidates(text))
        except RecursionError:
            raise SchemaError("the JSON is nested too deeply") from None

    def _candidates(self, text: str) -> list[Any]:
        """Return the values in the text, likeliest first."""
        try:
            found = values_in(text)
        except SchemaError:
            # A lone word is an answer where the question was one of choice.
            if self._is_wrapped and any(text.strip() == choice for choice in self.fields[0].categories):
                return [text.strip()]
            raise
        if not self._is_wrapped:
            return sorted(found, key=lambda value: not isinstance(value, dict))
        return [
            value
            for outer in found
            for value in ((outer[_VALUE], outer) if isinstance(outer, dict) and [*outer] == [_VALUE] else (outer,))
        ]

    def _first(self, candidates: list[Any]) -> Any:
        """Return the first that satisfies the schema, as its type says."""
        errors: list[SchemaError] = []
        for candidate in candidates:
            try:
                return self._bound(self._reader.read(candidate))
            except SchemaError as error:
                errors.append(error)
        raise errors[0]

    def _bound(self, value: Any) -> Any:
        """Return the value if its whole numbers fit into columns."""
        for place in self._counts:
            part = self._part(value, place.name, None)
            if type(part) is int and not -(2**63) <= part < 2**63:
                cell(part, place)
        return value

    def _part(self, value: Any, *name_and_default: Any) -> Any:
        """Return what goes into a column."""
        if self._is_wrapped:
            return value
        if isinstance(value, dict):
            return value.get(name_and_default[0])
        if name_and_default[0] not in self._reader.names and hasattr(value, "root"):  # a RootModel of an object
            return self._part(value.root, *name_and_default)
        return getattr(value, *name_and_default)

    def row(self, value: Any) -> dict[str, Any]:
        """Make one row of the columns.

        Args:
            value: What `parse` gave.

        Returns:
            Plain values by the names of `fields`, None where there is none. A time with a zone becomes UTC without one,
            because a column has one zone; enums are their values; nested types are dicts and lists.

        Raises:
            SchemaError: A value does not fit its column, such as a whole number beyond 64 bits.
        """
        try:
            return {place.name: cell(self._part(value, place.name), place) for place in self.fields}
        except AttributeError:  # a JSON schema may name properties, and not say that it must be an object
            raise SchemaError(f"the answer must be an object, got {shorten(repr(value), 60)}") from None


def _reader_of(source: object) -> _Reader:
    """Return what reads answers, and load the library that it takes."""
    if isinstance(source, Mapping):
        from .json_schema import DictReader

        return DictReader(source)
    from .python_types import TypeReader
    from .records import ACCEPTED

    if source is None or isinstance(source, (str, bytes, int, float, list, tuple, set)):
        raise BadInputError(f"{shorten(repr(source), 60)} cannot be a schema. Accepted are {ACCEPTED}.")
    return TypeReader(source)


def repair_prompt(schema: Schema, error: SchemaError) -> str:
    """Ask a model again, once, after an answer that does not satisfy its schema.

    Args:
        schema: The schema.
        error: What `Schema.parse` raised.
    """
    return (
        f"Your answer did not satisfy the schema: {error}. Answer again with the corrected JSON only, that satisfies:\n"
        f"{json.dumps(schema.json_schema, ensure_ascii=False)}"
    )
