"""A JSON schema with its references resolved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.errors import BadInputError

_MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class SchemaTree:
    """A JSON schema and the targets of its references.

    Attributes:
        root: The schema.
        target: Returns the schema that the `$ref` of a part of `root` refers to.
    """

    root: Mapping[str, Any]
    target: Callable[[dict[str, Any]], Any]

    def resolved(self, schema: Any, depth: int = 0) -> dict[str, Any]:
        """Merge a schema with the `$ref` and `allOf` at its top.

        Args:
            schema: `root`, or a part of it.
            depth: Number of references that led here.

        Returns:
            A schema without both, for sending and for columns, as far as one schema can express it. Answers are checked
            against the original.

        Raises:
            BadInputError: A reference leads back to itself.
        """
        if depth > _MAX_DEPTH:
            raise BadInputError("The schema refers to itself and to nothing else.")
        if not isinstance(schema, dict):
            return {}
        parts = [self.target(schema)] if "$ref" in schema else []
        merged = {word: value for word, value in schema.items() if word not in ("$ref", "allOf")}
        for part in (self.resolved(part, depth + 1) for part in (*parts, *schema.get("allOf", ()))):
            properties = {**part.get("properties", {}), **merged.get("properties", {})}
            required = list(dict.fromkeys([*part.get("required", ()), *merged.get("required", ())]))
            merged = {**part, **merged}
            merged |= {"properties": properties} if properties else {}
            merged |= {"required": required} if required else {}
        return merged

    def admits_null(self, schema: Any) -> bool:
        """Tell whether null satisfies a schema, by its usual keywords."""
        return self._admits_null(schema, frozenset())

    def _admits_null(self, schema: Any, seen: frozenset[int]) -> bool:
        if isinstance(schema, bool) or id(schema) in seen:
            return schema is True
        seen |= {id(schema)}
        kinds = schema.get("type", "null")
        members = schema.get("enum", [schema.get("const")])
        below = [self.target(schema)] if "$ref" in schema else []
        branches = [schema[word] for word in ("anyOf", "oneOf") if word in schema]
        return (
            "null" in ([kinds] if isinstance(kinds, str) else kinds)
            and any(member is None for member in members)
            and all(self._admits_null(part, seen) for part in (*below, *schema.get("allOf", ())))
            and all(any(self._admits_null(branch, seen) for branch in union) for union in branches)
        )
