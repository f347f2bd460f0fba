"""Python types as JSON schemas, and back: dataclasses, TypedDicts, enums and the annotations inside them."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import inspect
import json
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from .errors import BadInputError, shorten
from .jsontext import SchemaError
from .validation import LENIENT, MARKED, Chosen

ACCEPTED = (
    "a pydantic model (version 2), a dataclass, a TypedDict, a JSON schema (a dict), or a type made of str, int, "
    "float, bool, None, datetime, date, Enum, Literal, Optional, Union, list, tuple, set, dict[str, ...]"
)

_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    None: {"type": "null"},
    type(None): {"type": "null"},
    datetime: {"type": "string", "format": "date-time"},
    date: {"type": "string", "format": "date"},
    Any: {},
    object: {},
}
_READERS: dict[Any, Callable[[Any], Any]] = {
    float: float,
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
}
_ARRAYS: dict[Any, Callable[[Any], Any]] = {
    list: list,
    collections.abc.Sequence: list,
    collections.abc.Iterable: list,
    set: set,
    collections.abc.Set: set,
    frozenset: frozenset,
}
_OBJECTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


@dataclass(frozen=True, slots=True)
class Shape:
    """A type: its JSON schema, and how a value of it is made from JSON that satisfies the schema."""

    schema: dict[str, Any]
    build: Callable[[Any], Any]


def shape_of(source: Any) -> Shape:
    """The shape of a type.

    Args:
        source: A class or an annotation.

    Returns:
        Its shape; the schema carries its own ``$defs``. `build` raises SchemaError where the type's own code refuses
        the value.

    Raises:
        BadInputError: The type, or one inside it, has no JSON form here. The message says which.
    """
    reader = _Reader()
    shape = reader.shape(source)
    return Shape({**shape.schema, "$defs": reader.defs}, shape.build)


def is_pydantic(source: Any) -> bool:
    """Whether it is a pydantic model class, told without importing pydantic."""
    return inspect.isclass(source) and hasattr(source, "model_json_schema") and hasattr(source, "model_validate_json")


class _Reader:
    """One reading of one type: classes become ``$defs``, so that they may contain themselves."""

    def __init__(self) -> None:
        self.defs: dict[str, Any] = {}
        self._names: dict[type, str] = {}
        self._builders: dict[type, Callable[[Any], Any]] = {}

    def shape(self, source: Any) -> Shape:
        """The shape of an annotation."""
        source = _unwrapped(source)
        origin, arguments = typing.get_origin(source), typing.get_args(source)
        if origin is typing.Annotated:
            inner = self.shape(arguments[0])
            return Shape(_described(inner.schema, arguments[1:]), inner.build)
        try:
            if source in _PLAIN:
                return Shape(dict(_PLAIN[source]), _READERS.get(source, _as_it_is))
        except TypeError:  # not hashable, so no type
            raise _refusal(source) from None
        if origin in (typing.Union, types.UnionType):
            return self._union([self.shape(argument) for argument in arguments])
        if origin is typing.Literal:
            return _members(source, arguments)
        if inspect.isclass(source) and issubclass(source, enum.Enum):
            return _members(source, tuple(source))
        # `typing.is_typeddict` does not know those of typing_extensions.
        if is_pydantic(source) or dataclasses.is_dataclass(source) or hasattr(source, "__required_keys__"):
            if not inspect.isclass(source):
                raise BadInputError(f"Give the class {type(source).__name__} as the schema, not a value of it.")
            return self._class(source)
        return self._container(source, origin or source, arguments)

    def _union(self, shapes: list[Shape]) -> Shape:
        def build(value: Chosen) -> Any:
            return shapes[value.branch].build(value.value)

        return Shape({"anyOf": [shape.schema for shape in shapes], MARKED: True}, build)

    def _container(self, source: Any, origin: Any, arguments: tuple[Any, ...]) -> Shape:
        if origin is tuple and arguments and arguments[-1] is not Ellipsis:
            parts = [self.shape(argument) for argument in arguments if argument != ()]
            count = len(parts)
            return Shape(
                {"type": "array", "prefixItems": [part.schema for part in parts], "minItems": count, "maxItems": count}
                if parts
                else {"type": "array", "maxItems": 0},
                lambda value: tuple(part.build(item) for part, item in zip(parts, value, strict=True)),
            )
        make = tuple if origin is tuple else _ARRAYS.get(origin)
        if make is not None:
            items = self.shape(arguments[0]) if arguments else Shape({}, _as_it_is)
            return Shape(
                {"type": "array", "items": items.schema} if items.schema else {"type": "array"},
                lambda value: make(items.build(item) for item in value),
            )
        if origin in _OBJECTS:
            if not arguments:
                return Shape({"type": "object"}, _as_it_is)
            if arguments[0] is not str:
                raise BadInputError(f"The keys of {_name(source)} must be str: JSON has no other keys.")
            values = self.shape(arguments[1])
            return Shape(
                {"type": "object", "additionalProperties": values.schema},
                lambda value: {name: values.build(item) for name, item in value.items()},
            )
        raise _refusal(source)

    def _class(self, cls: type) -> Shape:
        if cls not in self._names:
            name = cls.__name__
            while name in self.defs:
                name += "_"
            self._names[cls] = name
            self.defs[name] = {}
            if is_pydantic(cls):
                self._pydantic(cls, name)
            else:
                self._members_of(cls, name)
        reference: dict[str, Any] = {"$ref": f"#/$defs/{self._names[cls]}"}
        if is_pydantic(cls):
            reference[LENIENT] = True
        return Shape(reference, lambda value: self._builders[cls](value))

    def _pydantic(self, cls: Any, name: str) -> None:
        try:
            schema = cls.model_json_schema(ref_template=f"#/$defs/{name}.{{model}}")
        except Exception as error:  # pydantic's own errors, whose classes would need its import
            raise BadInputError(f"{name} has no JSON schema: {shorten(str(error).splitlines()[0], 160)}") from None
        self.defs |= {f"{name}.{inner}": part for inner, part in schema.pop("$defs", {}).items()}
        self.defs[name] = schema

        def build(value: Any) -> Any:
            try:
                # From JSON, not from Python: only so are dates, sets and bytes read in strict models too.
                return cls.model_validate_json(json.dumps(value))
            except Exception as error:  # what a model's own validators raise is up to the user
                raise SchemaError(_pydantic_words(error, name)) from None

        self._builders[cls] = build

    def _members_of(self, cls: Any, name: str) -> None:
        try:
            hints = typing.get_type_hints(cls, include_extras=True)
        except Exception as error:  # annotations are the user's code
            raise BadInputError(f"The annotations of {name} cannot be read: {shorten(str(error), 120)}") from None
        is_dataclass = dataclasses.is_dataclass(cls)
        if is_dataclass:
            members = {field.name: _has_no_default(field) for field in dataclasses.fields(cls) if field.init}
            notes = {field.name: field.metadata.get("description") for field in dataclasses.fields(cls)}
        else:
            members = {key: _is_required(cls, key, hint) for key, hint in hints.items()}
            notes = {}
        shapes: dict[str, Shape] = {}
        for key in members:
            try:
                shapes[key] = self.shape(hints[key])
            except BadInputError as error:
                raise BadInputError(f"{name}.{key}: {error}") from None
        self.defs[name] |= {"type": "object"}
        # Dataclasses write their own signature as docstring where there is none.
        if (text := inspect.getdoc(cls)) and cls.__doc__ and not text.startswith(f"{name}("):
            self.defs[name]["description"] = text
        self.defs[name] |= {
            "properties": {key: _described(shape.schema, (notes.get(key),)) for key, shape in shapes.items()},
            "required": [key for key, is_required in members.items() if is_required],
        }

        def build(value: dict[str, Any]) -> Any:
            parts = {key: shapes[key].build(item) for key, item in value.items() if key in shapes}
            if not is_dataclass:
                return parts
            try:
                return cls(**parts)
            except Exception as error:  # __post_init__ is the user's own check
                raise SchemaError(f"{name}: {shorten(str(error) or type(error).__name__, 200)}") from None

        self._builders[cls] = build


def _as_it_is(value: Any) -> Any:
    return value


def _unwrapped(source: Any) -> Any:
    """An annotation without what says nothing of its JSON: NewType, `type` aliases, Required and the like."""
    while True:
        if typing.get_origin(source) in (typing.Required, typing.NotRequired):
            source = typing.get_args(source)[0]
        elif isinstance(source, typing.NewType):
            source = source.__supertype__
        elif type(source).__name__ == "TypeAliasType":
            source = source.__value__
        else:
            return source


def _members(source: Any, members: tuple[Any, ...]) -> Shape:
    """One of a few values. The members of an enum count as their values."""
    pairs = [(member.value if isinstance(member, enum.Enum) else member, member) for member in members]
    for value, _ in pairs:
        if value is not None and not isinstance(value, (str, int, float)):
            raise BadInputError(f"{_name(source)} has the value {shorten(repr(value), 40)}, which has no JSON form.")
    if not pairs:
        raise BadInputError(f"{_name(source)} has no members.")
    # True is 1 to a dict and not to JSON.
    by_value = {(isinstance(value, bool), value): member for value, member in pairs}
    return Shape({"enum": [value for value, _ in pairs]}, lambda value: by_value[isinstance(value, bool), value])


def _described(schema: dict[str, Any], notes: tuple[Any, ...]) -> dict[str, Any]:
    """The schema with the first text among the notes, or their `description`, as its description."""
    for note in notes:
        text = note if isinstance(note, str) else getattr(note, "description", None)
        if isinstance(text, str):
            return {**schema, "description": text}
    return schema


def _has_no_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _is_required(cls: Any, key: str, hint: Any) -> bool:
    """Whether a TypedDict's key must be there. Its own lists are wrong where annotations are strings."""
    origin = typing.get_origin(hint)
    return origin is typing.Required or (origin is not typing.NotRequired and key in cls.__required_keys__)


def _pydantic_words(error: Exception, name: str) -> str:
    """The first errors of a pydantic ValidationError in one line; of any other error its text."""
    try:
        entries: list[dict[str, Any]] = error.errors(include_url=False, include_context=False)  # type: ignore[attr-defined]  # pydantic's, when it is one
    except Exception:  # not pydantic's
        return f"{name}: {shorten(str(error) or type(error).__name__, 200)}"
    words = []
    for entry in entries[:3]:
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in entry["loc"]).lstrip(".")
        got = "" if entry["type"] == "missing" else f", got {shorten(repr(entry['input']), 60)}"
        words.append(f"{shorten(path or name, 80)}: {shorten(entry['msg'], 200)}{got}")
    return "; ".join(words) + (f"; and {len(entries) - 3} more" if len(entries) > 3 else "")


def _name(source: Any) -> str:
    return shorten(source.__name__ if inspect.isclass(source) else str(source), 60)


def _refusal(source: Any) -> BadInputError:
    what = "a value" if not inspect.isclass(source) and typing.get_origin(source) is None else "a type"
    return BadInputError(f"{shorten(repr(source), 80)} is {what} that cannot be a schema. Accepted are {ACCEPTED}.")
