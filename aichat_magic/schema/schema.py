"""The schema of an answer: the JSON schema that is sent, the check of the answer, a row of typed columns.

One JSON schema goes to all providers (`wire`), and every answer is checked against the type or the JSON schema as the
user wrote it: by pydantic (`python_types`) or by jsonschema (`json_schema`), which are loaded when they are needed.
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
from .columns import Field, cell_value, column_type
from .modes import instructions
from .tree import SchemaTree
from .wire import WireTranslator, closed_object

__all__ = ["Field", "Schema", "SchemaError", "repair_prompt"]

# The one property of the object that wraps an answer which is no object itself.
_VALUE: Final = "value"


class _Reader(Protocol):
    """Makes values from JSON, and has the JSON schema that they satisfy."""

    name: str
    tree: SchemaTree
    names: tuple[str, ...]

    def read(self, value: Any) -> Any: ...

    def read_text(self, text: str) -> tuple[Any, bool]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The schema of an answer.

    Attributes:
        name: Name of the type, of letters, digits, ``_`` and ``-``.
        json_schema: The JSON schema that is sent: an object, with everything that it refers to.
        fields: The columns, in the order of the schema.
        is_strict: Whether OpenAI's strict mode takes `json_schema`. It cannot express an object with any keys, such as
            ``dict[str, int]``.
    """

    name: str
    json_schema: dict[str, Any] = field(hash=False)
    fields: tuple[Field, ...]
    is_strict: bool
    _reader: _Reader = field(repr=False, compare=False)
    _is_wrapped: bool = field(repr=False)
    _integer_fields: tuple[Field, ...] = field(repr=False)

    @classmethod
    def of(cls, source: object) -> Schema:
        """Make a schema of a type or a JSON schema.

        Args:
            source: A pydantic model (version 2), a dataclass, a TypedDict, a NamedTuple, an enum, a JSON schema as a
                dict, an annotation such as ``list[Review]`` or ``Literal["good", "bad"]``, or a `Schema`.

        Returns:
            The schema.

        Raises:
            BadInputError: It is something else, or a part of it has no JSON form; the message says what is accepted.
            MissingExtraError: It is a JSON schema, and the package ``jsonschema`` is not installed.
        """
        if isinstance(source, Schema):
            return source
        reader = _reader_for(source)
        tree = reader.tree
        wire = WireTranslator(tree)
        top = tree.resolved(tree.root)
        keys = tuple(key for key, part in top.get("properties", {}).items() if part is not False)
        sent = wire.translate(top)
        is_wrapped = not keys or sent.get("type") != "object"
        if is_wrapped:
            sent, keys, parts = closed_object({_VALUE: sent}), (_VALUE,), [tree.root]
        else:
            parts = [top["properties"][key] for key in keys]
            keys = reader.names if len(reader.names) == len(keys) else keys
        columns = (column_type(tree, part) for part in parts)
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
            _integer_fields=tuple(field for field in fields if field.dtype == "Int64"),
        )

    @property
    def canonical(self) -> str:
        """Return `json_schema` as text, always written alike, for `Options.schema`.

        The order of properties stays: a model fills them in this order.
        """
        return json.dumps(self.json_schema, ensure_ascii=False, separators=(",", ":"))

    def instructions(self) -> str:
        """Return the instructions for a model that is held to the schema by nothing else."""
        return instructions(self.json_schema)

    def parse(self, text: str) -> Any:
        """Read the value in a model's answer.

        Args:
            text: The answer: JSON, JSON in a fence, or JSON between other words. Of several values the first that
                satisfies the schema counts.

        Returns:
            An instance of the pydantic model, dataclass, NamedTuple or enum; what the annotation says; or plain JSON
            values for a TypedDict and a JSON schema.

        Raises:
            SchemaError: There is no such value. One line: where, what is required, what came.
        """
        if not self._is_wrapped and text.startswith("{"):
            value, is_read = self._reader.read_text(text)
            if is_read:
                return self._within_64_bits(value)
        try:
            return self._first_valid(self._candidates(text))
        except RecursionError:
            raise SchemaError("the JSON is nested too deeply") from None

    def _candidates(self, text: str) -> list[Any]:
        """Return the values in the text, likeliest first."""
        try:
            found = values_in(text)
        except SchemaError:
            # A bare word is an answer where the schema is a choice of words.
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

    def _first_valid(self, candidates: list[Any]) -> Any:
        """Return the first value that satisfies the schema, as its type."""
        errors: list[SchemaError] = []
        for candidate in candidates:
            try:
                return self._within_64_bits(self._reader.read(candidate))
            except SchemaError as error:
                errors.append(error)
        raise errors[0]

    def _within_64_bits(self, value: Any) -> Any:
        """Return the value if its whole numbers fit into columns; raise otherwise."""
        for column in self._integer_fields:
            part = self._property(value, column.name, None)
            if type(part) is int and not -(2**63) <= part < 2**63:
                cell_value(part, column)
        return value

    def _property(self, value: Any, *name_and_default: Any) -> Any:
        """Return the part of a value that goes into a column."""
        if self._is_wrapped:
            return value
        if isinstance(value, dict):
            return value.get(name_and_default[0])
        if name_and_default[0] not in self._reader.names and hasattr(value, "root"):  # a RootModel of an object
            return self._property(value.root, *name_and_default)
        return getattr(value, *name_and_default)

    def row(self, value: Any) -> dict[str, Any]:
        """Make one row of the columns.

        Args:
            value: A value from `parse`.

        Returns:
            Plain values by the names of `fields`, None where there is none. A time with a zone becomes UTC without one,
            because a column has one zone; enums are their values; nested types are dicts and lists.

        Raises:
            SchemaError: A value does not fit its column, such as a whole number beyond 64 bits.
        """
        try:
            return {column.name: cell_value(self._property(value, column.name), column) for column in self.fields}
        except AttributeError:  # a JSON schema may have properties, and not require an object
            raise SchemaError(f"the answer must be an object, got {shorten(repr(value), 60)}") from None


def _reader_for(source: object) -> _Reader:
    """Return the reader of answers, and load its library."""
    if isinstance(source, Mapping):
        from .json_schema import JsonSchemaReader

        return JsonSchemaReader(source)
    from .python_types import TypeReader
    from .records import ACCEPTED

    if source is None or isinstance(source, (str, bytes, int, float, list, tuple, set)):
        raise BadInputError(f"{shorten(repr(source), 60)} cannot be a schema. Accepted are {ACCEPTED}.")
    return TypeReader(source)


def repair_prompt(schema: Schema, error: SchemaError) -> str:
    """Return the second question to a model, after an answer that does not satisfy its schema.

    Args:
        schema: The schema.
        error: The error of `Schema.parse`.
    """
    return (
        f"Your answer did not satisfy the schema: {error}. Answer again with the corrected JSON only, that satisfies:\n"
        f"{json.dumps(schema.json_schema, ensure_ascii=False)}"
    )
