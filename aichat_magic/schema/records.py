"""Types converted for pydantic, where it would refuse them or read them too leniently.

Dataclasses, TypedDicts and NamedTuples become records: JSON objects from which the class is made. Pydantic would refuse
`typing.TypedDict` before Python 3.12, and send a NamedTuple as an array, which many servers handle badly.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import functools
import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Annotated, Any, Final

from pydantic import AfterValidator, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic import Field as PydanticField
from pydantic.dataclasses import is_pydantic_dataclass
from pydantic.errors import PydanticSchemaGenerationError
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema

from ..core.errors import BadInputError
from ..text.words import shorten
from .columns import is_pydantic

ACCEPTED: Final = (
    "a pydantic model (version 2), a dataclass, a TypedDict, a NamedTuple, a JSON schema (a dict), or a type made of "
    "str, int, float, bool, None, datetime, date, time, Decimal, UUID, Enum, Literal, Annotated, Optional, Union, "
    "list, tuple, set, dict"
)
_FORMATS: Final[dict[Any, str]] = {datetime: "date-time", date: "date", time: "time"}


def unsupported(source: Any) -> BadInputError:
    """Return the error for a type or value that cannot be a schema."""
    what = "a type" if is_type(source) else "a value"
    return BadInputError(f"{shorten(repr(source), 80)} is {what} that cannot be a schema. Accepted are {ACCEPTED}.")


def is_type(source: Any) -> bool:
    """Tell whether something can be an annotation at all: pydantic also takes functions."""
    if inspect.isclass(source) or typing.get_origin(source) is not None or source is Any:
        return True
    return isinstance(source, (typing.NewType, typing.TypeVar)) or type(source).__name__ == "TypeAliasType"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """A member of a record."""

    name: str
    key: str
    hint: Any
    is_required: bool
    description: str
    default: Callable[[], Any] | None = None


class Converter:
    """Converts the types in annotations. Use one for each schema: it remembers the records that it has converted."""

    def __init__(self) -> None:
        """Begin with no records."""
        self._records: dict[Any, Any] = {}
        self._members: dict[Any, tuple[_Member, ...]] = {}
        self._aliases: list[Any] = []
        self._open: set[str] = set()

    def convert(self, source: Any) -> Any:
        """Convert an annotation for pydantic.

        Raises:
            BadInputError: It has no JSON form.
        """
        origin: Any = typing.get_origin(source)
        arguments = typing.get_args(source)
        if origin is Annotated:
            return Annotated[(self.convert(arguments[0]), *arguments[1:])]
        if getattr(origin, "_name", "") in ("Required", "NotRequired", "ReadOnly"):
            return self.convert(arguments[0])
        if isinstance(source, typing.NewType):
            return self.convert(source.__supertype__)
        if type(source).__name__ == "TypeAliasType":
            return self._alias(source)
        if source in (datetime, date, time):
            return Annotated[source, _IsoFormat(source)]
        if origin in (typing.Union, types.UnionType):
            return self._union(arguments)
        if _is_record(origin or source):
            return self._record(source)
        if inspect.isclass(source) and issubclass(source, enum.Enum):
            return _checked_enum(source)
        if origin is typing.Literal and any(isinstance(member, enum.Enum) for member in arguments):
            return _literal_of_values(arguments)
        if origin in (collections.abc.Iterable, collections.abc.Collection):
            origin = list
        if origin is None or origin is typing.Literal or not isinstance(origin, type) or is_pydantic(source):
            return source
        if origin in (collections.abc.Callable, type):
            raise unsupported(source)
        parts = tuple(part if part is Ellipsis else self.convert(part) for part in arguments)
        return typing.cast(Any, origin)[parts] if parts else source

    def members_of(self, source: Any) -> tuple[_Member, ...] | None:
        """Return the members of a record; None for another type."""
        while typing.get_origin(source) is Annotated:
            source = typing.get_args(source)[0]
        if not _is_record(typing.get_origin(source) or source):
            return None
        if source not in self._members:
            self._members[source] = tuple(_members(source, self))
        return self._members[source]

    def _union(self, alternatives: tuple[Any, ...]) -> Any:
        some = tuple(source for source in alternatives if source is not type(None))
        union: Any = typing.Union[tuple(map(self.convert, some))]  # noqa: UP007  # made at run time
        if tag := _discriminator(some):
            union = Annotated[union, PydanticField(discriminator=tag)]
        return union if len(some) == len(alternatives) else typing.Optional[union]  # noqa: UP045  # as above

    def _alias(self, source: Any) -> Any:
        # An alias that contains itself, as an object or by its name, is left to pydantic.
        if source in self._aliases or _has_forward_reference(source.__value__):
            return source
        self._aliases.append(source)
        try:
            return self.convert(source.__value__)
        finally:
            self._aliases.remove(source)

    def _record(self, source: Any) -> Any:
        """Return a class that tells pydantic how to read a record."""
        if source in self._records:
            return self._records[source]
        cls: Any = typing.get_origin(source) or source
        name = cls.__name__
        # Unique, and the same in every process: it is part of what is sent, and so of the hash of the request.
        ref = f"{cls.__module__}.{cls.__qualname__}:{len(self._records)}"

        class Record:
            @classmethod
            def __get_pydantic_core_schema__(
                cls, source_: Any, handler: GetCoreSchemaHandler
            ) -> core_schema.CoreSchema:
                if ref in self._open:  # inside itself
                    return core_schema.definition_reference_schema(ref)
                self._open.add(ref)
                try:
                    return _record_schema(source, self.members_of(source) or (), handler, ref)
                finally:
                    self._open.remove(ref)

            @classmethod
            def __get_pydantic_json_schema__(
                cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
            ) -> JsonSchemaValue:
                return _with_descriptions(
                    handler.resolve_ref_schema(handler(schema)), source, self.members_of(source) or ()
                )

        Record.__name__ = Record.__qualname__ = name
        self._records[source] = Record
        return Record


def _record_schema(
    source: Any, members: tuple[_Member, ...], handler: GetCoreSchemaHandler, ref: str
) -> core_schema.CoreSchema:
    """Make pydantic's schema of a record: a JSON object, and the class that is made from it."""
    cls: Any = typing.get_origin(source) or source
    fields: dict[str, core_schema.TypedDictField] = {}
    droppable: list[str] = []
    for member in members:
        try:
            schema = handler.generate_schema(member.hint)
        except PydanticSchemaGenerationError:
            raise BadInputError(f"{cls.__name__}.{member.name}: {unsupported(member.hint)}") from None
        except BadInputError as error:
            raise BadInputError(f"{cls.__name__}.{member.name}: {error}") from None
        if not member.is_required and not _admits_none(member.hint) and not _is_constant(member.hint):
            # The schema that is sent asks for null where a member may be left out.
            schema = core_schema.nullable_schema(schema)
            droppable.append(member.name)
        alias = None if member.key == member.name else member.key
        fields[member.name] = core_schema.typed_dict_field(
            schema, required=member.is_required, validation_alias=alias, serialization_alias=alias
        )
    defaults = {member.name: member.default for member in members if member.default is not None}
    is_dict = not dataclasses.is_dataclass(cls) and not issubclass(cls, tuple)

    def made(values: dict[str, Any]) -> Any:
        try:
            return cls(**values)
        except Exception as error:  # __post_init__ is the user's own check
            raise ValueError(str(error) or type(error).__name__) from None

    def build(values: dict[str, Any]) -> Any:
        for name in droppable:
            if name in values and values[name] is None:
                del values[name]
        for name, default in defaults.items():
            if name not in values:
                values[name] = default()
        return values if is_dict else made(values)

    wanted = getattr(cls, "__pydantic_config__", {})
    config = core_schema.CoreConfig(strict=wanted.get("strict", True), allow_inf_nan=False)
    reads = core_schema.typed_dict_schema(fields, config=config, extra_behavior=wanted.get("extra"))
    is_plain = not droppable and not defaults and not is_dict
    return core_schema.no_info_after_validator_function(made if is_plain else build, reads, ref=ref)


def _with_descriptions(schema: JsonSchemaValue, source: Any, members: tuple[_Member, ...]) -> JsonSchemaValue:
    """Add the descriptions of a record and its members."""
    cls: Any = typing.get_origin(source) or source
    text = inspect.getdoc(cls) if cls.__doc__ else ""
    # Dataclasses and named tuples without a docstring get their signature as one.
    if text and not text.startswith(f"{cls.__name__}("):
        schema["description"] = text
    for member in members:
        if member.description:
            schema["properties"][member.key]["description"] = member.description
    return schema


def _has_forward_reference(hint: Any) -> bool:
    """Tell whether an annotation contains the name of a type in place of the type."""
    if typing.get_origin(hint) is typing.Literal:
        return False
    return isinstance(hint, (str, typing.ForwardRef)) or any(map(_has_forward_reference, typing.get_args(hint)))


def _discriminator(alternatives: tuple[Any, ...]) -> str:
    """Return the name of a required constant that tells records apart; empty where there is none.

    Without it pydantic tries every alternative within every other, which multiplies in recursive types.
    """
    found: list[dict[str, Any]] = []
    for source in alternatives:
        if not _is_record(source) or len(alternatives) < 2:
            return ""
        members = typing.get_type_hints(source, include_extras=True)
        found.append({name: typing.get_args(hint)[0] for name, hint in members.items() if _is_constant(hint)})
        found[-1] = {name: value for name, value in found[-1].items() if not hasattr(source, name)}
    common = (name for name in found[0] if all(name in constants for constants in found))
    return next((name for name in common if len({constants[name] for constants in found}) == len(found)), "")


def _members(source: Any, converter: Converter) -> collections.abc.Iterator[_Member]:
    """Yield the members of a dataclass, a TypedDict or a NamedTuple.

    Raises:
        BadInputError: The annotations cannot be read, or the class asks for what an answer cannot give.
    """
    cls: Any = typing.get_origin(source) or source
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except Exception as error:  # annotations are the user's code
        raise BadInputError(f"The annotations of {cls.__name__} cannot be read: {shorten(str(error), 120)}") from None
    bindings = _type_arguments(source)
    notes: dict[str, Any] = {}
    title = cls.__name__
    if dataclasses.is_dataclass(cls):
        fields = [field for field in dataclasses.fields(cls) if field.init]
        notes = {field.name: field.metadata.get("description") for field in fields}
        defaults = {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}
        made = {field.name for field in fields if field.default_factory is not dataclasses.MISSING}
        required = {field.name for field in fields} - defaults.keys() - made
        names = [field.name for field in fields]
        for name, hint in hints.items():
            if isinstance(hint, dataclasses.InitVar) and not hasattr(cls, name):
                raise BadInputError(f"{title}.{name} is an InitVar without default: there is no column for it.")
    elif issubclass(cls, tuple):
        names, defaults = list(cls._fields), dict(cls._field_defaults)
        required = {*names} - defaults.keys()
    else:
        names, defaults = list(hints), {}
        required = {name for name in names if _is_required(cls, name, hints[name])}
    for name in names:
        try:
            yield _member(
                name,
                _substituted(hints.get(name, Any), bindings),
                defaults.get(name),
                name in required,
                notes,
                converter,
            )
        except BadInputError as error:
            raise BadInputError(f"{cls.__name__}.{name}: {error}") from None


def _member(
    name: str, hint: Any, default: Any, is_required: bool, notes: dict[str, Any], converter: Converter
) -> _Member:
    while getattr(typing.get_origin(hint), "_name", "") in ("Required", "NotRequired", "ReadOnly", "Final"):
        hint = typing.get_args(hint)[0]
    if isinstance(default, FieldInfo):
        info = FieldInfo.from_annotated_attribute(hint, default)
    else:
        info = FieldInfo.from_annotation(hint)
    own_default: Callable[[], Any] | None = None
    if not info.is_required():
        own_default = functools.partial(info.get_default, call_default_factory=True)
    notes_ = (info.description, notes.get(name), *info.metadata)
    texts = (note if isinstance(note, str) else getattr(note, "description", None) for note in notes_)
    alias = info.validation_alias or info.alias
    converted = converter.convert(info.annotation)
    extras = [note for note in info.metadata if not isinstance(note, str)]
    if info.discriminator is not None:
        extras.append(PydanticField(discriminator=info.discriminator))
    return _Member(
        name=name,
        key=alias if isinstance(alias, str) else name,
        hint=Annotated[(converted, *extras)] if extras else converted,
        is_required=is_required if default is None or not isinstance(default, FieldInfo) else info.is_required(),
        description=next((text for text in texts if isinstance(text, str)), ""),
        default=own_default,
    )


def _is_record(source: Any) -> bool:
    """Tell whether a class is read as an object here, and not by pydantic's own rules."""
    if not inspect.isclass(source) or is_pydantic(source) or is_pydantic_dataclass(source):
        return False
    # `typing.is_typeddict` does not recognize those of typing_extensions.
    is_typed_dict = hasattr(source, "__required_keys__")
    return (
        is_typed_dict or dataclasses.is_dataclass(source) or (issubclass(source, tuple) and hasattr(source, "_fields"))
    )


def _is_required(cls: Any, key: str, hint: Any) -> bool:
    """Tell whether a key of a TypedDict is required. Its own lists are wrong where annotations are strings."""
    while getattr(typing.get_origin(hint), "_name", "") == "ReadOnly":
        hint = typing.get_args(hint)[0]
    word = getattr(typing.get_origin(hint), "_name", "")
    return word == "Required" or (word != "NotRequired" and key in cls.__required_keys__)


def _type_arguments(source: Any) -> dict[Any, Any]:
    """Return the types of the type variables of a generic class and its bases."""
    cls: Any = typing.get_origin(source) or source
    bindings: dict[Any, Any] = dict(zip(getattr(cls, "__parameters__", ()), typing.get_args(source), strict=False))
    for base in getattr(cls, "__orig_bases__", ()):
        origin = typing.get_origin(base)
        if origin is not None and origin is not typing.Generic and hasattr(origin, "__parameters__"):
            below = _type_arguments(base)
            bindings = {variable: _substituted(value, bindings) for variable, value in below.items()} | bindings
    return bindings


def _substituted(hint: Any, bindings: dict[Any, Any]) -> Any:
    """Replace the type variables in an annotation."""
    if isinstance(hint, typing.TypeVar):
        return bindings.get(hint, hint)
    variables = getattr(hint, "__parameters__", ())
    if not variables or inspect.isclass(hint) or not any(variable in bindings for variable in variables):
        return hint
    return hint[tuple(bindings.get(variable, variable) for variable in variables)]


def _admits_none(hint: Any) -> bool:
    """Tell whether None is a value of a type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _admits_none(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return any(map(_admits_none, arguments))
    if type(hint).__name__ == "TypeAliasType":
        return False
    return hint in (None, type(None), Any, object) or (origin is typing.Literal and None in arguments)


def _is_constant(hint: Any) -> bool:
    """Tell whether a type has one value only, as a discriminator has."""
    return typing.get_origin(hint) is typing.Literal and len(typing.get_args(hint)) == 1


def _checked_enum(source: Any) -> Any:
    """Check that the members of an enum have a JSON form, and return it."""
    if not len(source):
        raise BadInputError(f"{source.__name__} has no members.")
    for member in source:
        if member.value is not None and not isinstance(member.value, (str, int, float)):
            raise BadInputError(
                f"{source.__name__} has the value {shorten(repr(member.value), 40)}, which has no JSON form."
            )
    return source


def _literal_of_values(members: tuple[Any, ...]) -> Any:
    """Return a Literal of the values of enum members, which JSON has; it is read as the members."""
    values = tuple(member.value if isinstance(member, enum.Enum) else member for member in members)
    by_value = {(type(value), value): member for value, member in zip(values, members, strict=True)}
    return Annotated[typing.Literal[values], AfterValidator(lambda value: by_value[type(value), value])]


@dataclass(frozen=True, slots=True)
class _IsoFormat:
    """Reads a date or time as Python does: pydantic would take "2024" for seconds since 1970."""

    kind: Any

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        read: Callable[[str], Any] = self.kind.fromisoformat
        words: Any = f"Input should be a {_FORMATS[self.kind]} as ISO 8601 writes it"

        def build(text: str) -> Any:
            try:
                return read(text)
            except ValueError:
                raise PydanticCustomError("iso_8601", words) from None

        return core_schema.no_info_after_validator_function(build, core_schema.str_schema(strict=True))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "format": _FORMATS[self.kind]}
