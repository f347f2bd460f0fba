"""What shape an answer must have: a type or a JSON schema -> what is sent, a checked value, typed columns.

One schema goes to all providers. It keeps to what OpenAI's strict mode takes (every property required, no others, a
small set of keywords; read 2026-11), which llama.cpp and its grammars understand too. A rule that it cannot say stands
in a description, and every answer is checked against the schema as the user wrote it.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final

from .annotations import ACCEPTED, is_pydantic, shape_of
from .errors import BadInputError, shorten
from .jsontext import SchemaError, values_in
from .validation import Rules, rendered

__all__ = ["Field", "Schema", "SchemaError", "repair_prompt"]

# The one property of the object that an answer is wrapped in when it is no object by itself.
_VALUE: Final = "value"
_FORMATS = ("date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
_KEPT = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minItems", "maxItems")
_TOLD = ("minLength", "maxLength", "pattern", "format", "uniqueItems", "minProperties", "maxProperties")
# llama.cpp's own grammars take anchored patterns only, and read a class such as \d as letters.
_SIMPLE_PATTERN = re.compile(r"\^(?!.*\(\?)[^\\^$]*\$")
_DTYPES = {
    "string": "string",
    "integer": "Int64",
    "number": "Float64",
    "boolean": "boolean",
}
_KINDS: dict[type, str] = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One column.

    Attributes:
        name: Its name.
        dtype: What pandas calls its type: ``string``, ``Int64``, ``Float64``, ``boolean``, ``datetime64[us]`` (the
            resolution of Python's own, so that no year is out of range), ``category``, or ``object`` for what is
            nested.
        categories: The values of a ``category``, in the order of the schema.
    """

    name: str
    dtype: str
    categories: tuple[Any, ...] = ()


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
    _rules: Rules = field(repr=False, compare=False)
    _build: Callable[[Any], Any] = field(repr=False, compare=False)
    _is_wrapped: bool = field(repr=False)
    _keys: tuple[str, ...] = field(repr=False)

    @classmethod
    def of(cls, source: object) -> Schema:
        """The schema that a type or a JSON schema stands for.

        Args:
            source: A pydantic model (version 2), a dataclass, a TypedDict, an enum, a JSON schema as a dict, an
                annotation such as ``list[Review]`` or ``Literal["good", "bad"]``, or a `Schema`.

        Returns:
            The schema.

        Raises:
            BadInputError: Something else, or something in it has no JSON form; the message says what is accepted.
        """
        if isinstance(source, Schema):
            return source
        build: Callable[[Any], Any] = _as_it_is
        if isinstance(source, Mapping):
            root = _copied(source)
            rules = Rules(root)
            rules.refuse_unknown()
            name = str(root.get("title", "reply"))
        elif source is None or isinstance(source, (str, bytes, int, float, list, tuple, set)):
            raise BadInputError(f"{shorten(repr(source), 60)} cannot be a schema. Accepted are {ACCEPTED}.")
        else:
            shape = shape_of(source)
            rules, build = Rules(shape.schema), shape.build
            name = getattr(source, "__name__", "") or "reply"
        wire = _Wire(rules)
        top = rules.resolved(rules.root)
        keys = tuple(key for key, part in top.get("properties", {}).items() if part is not False)
        sent = wire.of(top)
        is_wrapped = not keys or sent.get("type") != "object"
        if is_wrapped:
            sent, keys, parts = _object({_VALUE: sent}), (_VALUE,), [rules.root]
        else:
            parts = [top["properties"][key] for key in keys]
        names = keys if is_wrapped else _attributes(source, keys)
        columns = (_column(rules, part) for part in parts)
        return cls(
            name=re.sub(r"[^a-zA-Z0-9_-]+", "_", name)[:64] or "reply",
            json_schema={**sent, "$defs": wire.defs} if wire.defs else sent,
            fields=tuple(
                Field(name=name, dtype=dtype, categories=categories)
                for name, (dtype, categories) in zip(names, columns, strict=True)
            ),
            is_strict=wire.is_strict,
            _rules=rules,
            _build=build,
            _is_wrapped=is_wrapped,
            _keys=keys,
        )

    @property
    def canonical(self) -> str:
        """`json_schema` in one way of writing, for `Options.schema`.

        The order of properties stays: a model fills them in this order.
        """
        return json.dumps(self.json_schema, ensure_ascii=False, separators=(",", ":"))

    def instructions(self) -> str:
        """What a model is told that nothing else holds to the schema."""
        return (
            "Answer with JSON only, without any other words, that satisfies this JSON schema:\n"
            f"{json.dumps(self.json_schema, ensure_ascii=False)}"
        )

    def parse(self, text: str) -> Any:
        """The value in a model's answer.

        Args:
            text: The answer: JSON, JSON in a fence, or JSON between other words. Of several values the first that
                satisfies the schema counts.

        Returns:
            An instance of the pydantic model, dataclass or enum; what the annotation says; or plain JSON values for
            a TypedDict and a JSON schema.

        Raises:
            SchemaError: There is no such value. One line: where, what must be, what came.
        """
        try:
            return self._first(self._candidates(text))
        except RecursionError:
            raise SchemaError("the JSON is nested too deeply") from None

    def _candidates(self, text: str) -> list[Any]:
        """The values in the text, likeliest first."""
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
        """The first that satisfies the schema, as its type says."""
        errors: list[SchemaError] = []
        for candidate in candidates:
            value, problems = self._rules.check(candidate)
            try:
                if problems:
                    raise SchemaError(rendered(problems))
                built = self._build(value)
                self.row(built)
                return built
            except SchemaError as error:
                errors.append(error)
        raise errors[0]

    def row(self, value: Any) -> dict[str, Any]:
        """One row of the columns.

        Args:
            value: What `parse` gave.

        Returns:
            Plain values by the names of `fields`, None where there is none. A time with a zone becomes UTC without one,
            because a column has one zone; enums are their values; nested types are dicts and lists.

        Raises:
            SchemaError: A value does not fit its column: a whole number beyond 64 bits.
        """
        if self._is_wrapped:
            parts = [value]
        elif isinstance(value, dict):
            parts = [value.get(key) for key in self._keys]
        else:
            parts = [getattr(value, column.name) for column in self.fields]
        return {column.name: _cell(part, column) for column, part in zip(self.fields, parts, strict=True)}


def repair_prompt(schema: Schema, error: SchemaError) -> str:
    """What a model is asked, once, after an answer that does not satisfy its schema.

    Args:
        schema: The schema.
        error: What `Schema.parse` raised.
    """
    return (
        f"Your answer did not satisfy the schema: {error}. Answer again with the corrected JSON only, that satisfies:\n"
        f"{json.dumps(schema.json_schema, ensure_ascii=False)}"
    )


def _as_it_is(value: Any) -> Any:
    return value


def _copied(source: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON schema of our own, so that a later change of the caller's does not change ours."""
    try:
        copy: dict[str, Any] = json.loads(json.dumps(dict(source), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInputError(f"The schema is not JSON: {shorten(str(error), 120)}. Accepted are {ACCEPTED}.") from None
    return copy


def _attributes(source: object, keys: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the columns: in a pydantic model the attributes', where its JSON uses aliases."""
    names = tuple(source.model_fields) if is_pydantic(source) else keys  # type: ignore[attr-defined]  # pydantic's
    return names if len(names) == len(keys) else keys


# --- the schema that is sent ------------------------------------------------------------------------------------------


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


class _Wire:
    """One translation of a schema into the form that providers take."""

    def __init__(self, rules: Rules) -> None:
        self.defs: dict[str, Any] = {}
        self.is_strict = True
        self._rules = rules
        self._names: dict[str, str] = {}

    def of(self, schema: Any) -> dict[str, Any]:
        """The translation of one schema."""
        if isinstance(schema, dict) and "$ref" in schema:
            sent = {"$ref": f"#/$defs/{self._name(schema['$ref'])}"}
            # Strict mode wants nothing beside a reference.
            return {"description": schema["description"], "anyOf": [sent]} if schema.get("description") else sent
        schema = self._rules.resolved(schema)
        unsent = [word for word in _TOLD if word in schema and not _is_sent(word, schema)]
        told = ", ".join(f"{word}: {json.dumps(schema[word])}" for word in unsent)
        about = " ".join(filter(None, [schema.get("description", ""), told and f"({told})"]))
        return {"description": about, **self._body(schema)} if about else self._body(schema)

    def _name(self, reference: str) -> str:
        """Name under `$defs` of what a reference means; translated at the first use."""
        if reference not in self._names:
            name = re.sub(r"\W+", "_", reference.rpartition("/")[2]).strip("_") or "root"
            while name in self.defs:
                name += "_"
            self._names[reference] = name
            self.defs[name] = {}
            self.defs[name] = self.of(self._rules.target(reference))
        return self._names[reference]

    def _body(self, schema: dict[str, Any]) -> dict[str, Any]:
        kinds = schema.get("type")
        if isinstance(kinds, list) and len(kinds) == 1:
            kinds = kinds[0]
        if "enum" in schema or "const" in schema:
            return _choice(schema.get("enum", [schema.get("const")]), kinds)
        if isinstance(kinds, list):
            bare = {word: part for word, part in schema.items() if word != "description"}
            return {"anyOf": [self._body({**bare, "type": kind}) for kind in kinds]}
        if kinds is None and (branches := schema.get("anyOf") or schema.get("oneOf")):
            return {"anyOf": [self.of(branch) for branch in branches]}
        kinds = kinds or ("object" if "properties" in schema else "array" if "items" in schema else None)
        if kinds == "object":
            return self._object(schema)
        if kinds == "array":
            return self._array(schema)
        if kinds is None:
            self.is_strict = False
            return {}
        words = (*_KEPT, "pattern", "format")
        kept = {word: schema[word] for word in words if word in schema and _is_sent(word, schema)}
        return {"type": kinds, **kept}

    def _object(self, schema: dict[str, Any]) -> dict[str, Any]:
        others = schema.get("additionalProperties", True)
        if not schema.get("properties"):
            if others is False:
                return _object({})
            self.is_strict = False
            return {"type": "object", "additionalProperties": self.of(others)}
        properties: dict[str, Any] = {}
        for name, part in schema["properties"].items():
            if part is False:
                continue
            sent = self.of(part)
            if name not in schema.get("required", ()) and not self._rules.admits_null(part):
                null = {"type": "null"}
                sent = {**sent, "anyOf": [*sent["anyOf"], null]} if "anyOf" in sent else {"anyOf": [sent, null]}
            properties[name] = sent
        result = _object(properties)
        if isinstance(others, dict) and others:
            self.is_strict = False
            result["additionalProperties"] = self.of(others)
        return result

    def _array(self, schema: dict[str, Any]) -> dict[str, Any]:
        kept = {word: schema[word] for word in _KEPT if word in schema and word.endswith("Items")}
        parts = [*schema.get("prefixItems", ())]
        if isinstance(items := schema.get("items", not parts), dict) or items:
            parts.append(items)
        sent = list({json.dumps(part): part for part in map(self.of, parts)}.values())
        if not sent:
            return {"type": "array", "items": {"type": "null"}, "maxItems": 0}
        return {"type": "array", "items": sent[0] if len(sent) == 1 else {"anyOf": sent}, **kept}


def _is_sent(word: str, schema: dict[str, Any]) -> bool:
    """Whether every provider takes a keyword as it is here."""
    if word == "format":
        return schema[word] in _FORMATS
    return word in _KEPT or (word == "pattern" and bool(_SIMPLE_PATTERN.fullmatch(schema[word])))


def _choice(members: list[Any], kinds: Any) -> dict[str, Any]:
    """One of a few values; strict mode wants to be told their types."""
    groups: dict[str, list[Any]] = {}
    for member in members:
        kind = _KINDS.get(type(member), "")
        if kind:
            groups.setdefault(kind, []).append(member)
    sent = [{"type": "null"} if kind == "null" else {"type": kind, "enum": group} for kind, group in groups.items()]
    if len(sent) == 1 and not any(isinstance(member, (dict, list)) for member in members):
        return sent[0]
    if any(isinstance(member, (dict, list)) for member in members):
        return {"enum": members}
    return {"anyOf": sent}


# --- columns ----------------------------------------------------------------------------------------------------------


def _column(rules: Rules, schema: Any) -> tuple[str, tuple[Any, ...]]:
    """The dtype of a schema's values, and the categories of a `category`."""
    schema = rules.resolved(schema)
    members = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if members:
        plain = tuple(member for member in members if member is not None)
        return ("object", ()) if any(isinstance(member, (dict, list)) for member in plain) else ("category", plain)
    branches = schema.get("anyOf") or schema.get("oneOf")
    if branches and "type" not in schema:
        found = [_column(rules, branch) for branch in branches if rules.resolved(branch).get("type") != "null"]
        words = {word for word, _ in found}
        if words == {"category"}:
            return "category", tuple(dict.fromkeys(member for _, group in found for member in group))
        if words == {"Int64", "Float64"}:
            return "Float64", ()
        return (words.pop() if len(words) == 1 else "object"), ()
    kinds = schema.get("type")
    kinds = {kinds} if isinstance(kinds, str) else {*(kinds or ())}
    kinds.discard("null")
    if kinds == {"string"} and schema.get("format") in ("date-time", "date"):
        return "datetime64[us]", ()
    if kinds == {"integer", "number"}:
        return "Float64", ()
    return (_DTYPES.get(kinds.pop(), "object") if len(kinds) == 1 else "object"), ()


def _cell(value: Any, column: Field) -> Any:
    """A value as its column keeps it."""
    value = _plain(value)
    if value is None:
        return None
    match column.dtype:
        case "Int64":
            if not -(2**63) <= value < 2**63:
                raise SchemaError(f"{column.name}: must fit into 64 bits, got {shorten(str(value), 60)}")
            return int(value)
        case "Float64":
            return float(value)
        case "string":
            return str(value)
        case "datetime64[us]":
            return _moment(value)
    return value


def _moment(value: str | date) -> datetime:
    """A date or a time, or its text, as a datetime without zone."""
    if not isinstance(value, datetime):
        value = datetime.fromisoformat(str(value))
    return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value


def _plain(value: Any) -> Any:
    """A value without types of the user's own."""
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {part.name: _plain(getattr(value, part.name)) for part in dataclasses.fields(value)}
    if is_pydantic(type(value)):
        return _plain(value.model_dump())
    if isinstance(value, Mapping):
        return {_plain(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(part) for part in value]
    return value
