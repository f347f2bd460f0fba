"""Python types as schemas: pydantic reads answers into them, and its errors become one line.

Numbers in quotes are no numbers here; pydantic models keep their own rules. `records` converts the types for pydantic.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import math
import typing
from typing import Annotated, Any, Final

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import is_pydantic_dataclass
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUserError
from pydantic_core import SchemaError as NotBuiltError

from ..core.errors import BadInputError
from ..core.json_text import SchemaError, is_plain
from ..text.characters import fit
from ..text.words import shorten
from .columns import is_pydantic
from .problems import DROP, Problem, ProblemTree, attempt_with_replacements, rendered, shown
from .records import Converter, is_type, unsupported
from .tree import SchemaTree

# More than a plain answer ever needs, and few enough to end soon.
_MAX_ATTEMPTS: Final = 100_000
_MAX_ERRORS: Final = 1_000
_CONFIG = ConfigDict(strict=True, allow_inf_nan=False)
_MESSAGES = {
    "missing": "is required",
    "extra_forbidden": "is not in the schema",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
}
_WRONG_TYPES = ("literal_error", "enum", "none_required", "union_tag_invalid", "union_tag_not_found", "iso_8601")


class TypeReader:
    """Reads answers into one Python type.

    Attributes:
        name: Name of the type.
        tree: The JSON schema of the type.
        names: Names of the attributes of a record or model, in the order of the schema; empty for another type.
    """

    def __init__(self, source: Any) -> None:
        """Prepare to read.

        Args:
            source: A class or an annotation.

        Raises:
            BadInputError: The type, or one inside it, has no JSON form. The message says which.
        """
        if not is_type(source):
            if dataclasses.is_dataclass(source) or is_pydantic(type(source)):
                raise BadInputError(f"Give the class {type(source).__name__} as the schema, not a value of it.")
            raise unsupported(source)
        self.name = getattr(source, "__name__", "") or "reply"
        converter = Converter()
        converted = converter.convert(source)
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(
                converted, config=None if _has_own_config(source) else _CONFIG
            )
            root = self._adapter.json_schema()
        except PydanticSchemaGenerationError:
            raise unsupported(source) from None
        except PydanticInvalidForJsonSchema as error:
            raise BadInputError(f"{self.name} has no JSON schema: {shorten(error.message, 160)}") from None
        except PydanticUserError as error:
            words = shorten(error.message.splitlines()[0], 200)
            raise BadInputError(f"{self.name} cannot be a schema: {words}") from None
        except NotBuiltError as error:
            words = shorten(fit(str(error).rpartition("SchemaError: ")[2]), 160)
            raise BadInputError(
                f"{self.name} cannot be a schema: {words}. Change its values: half of a surrogate pair is not allowed."
            ) from None
        except NameError as error:
            raise BadInputError(f"The annotations of {self.name} cannot be read: {error}") from None
        self.tree = SchemaTree(root, lambda schema: _target(root, schema["$ref"]))
        if is_pydantic(source):
            self.names: tuple[str, ...] = tuple(source.model_fields)
        else:
            self.names = tuple(member.name for member in converter.members_of(source) or ())
        self._max_depths = _max_depths(root)

    def read_text(self, text: str) -> tuple[Any, bool]:
        """Read a text that is one JSON value, as fast as possible.

        Returns:
            The value and True; or None and False, where `read` is needed.
        """
        if not self._max_depths and is_plain(text):
            try:
                return self._adapter.validate_json(text), True
            except Exception:  # `read` says what is wrong
                pass
        return None, False

    def read(self, value: Any) -> Any:
        """Read a JSON value.

        Raises:
            SchemaError: It does not satisfy the type, or the type's own code refuses it.
        """
        for kind, limit in self._max_depths.items():
            if _depth(value, kind) > limit:
                raise SchemaError(
                    f"the JSON is nested more than {limit} deep, and {self.name} has too many alternatives in each "
                    "other for that; a discriminator helps"
                )
        result, problems = attempt_with_replacements(value, self._attempt)
        if problems is not None:
            raise SchemaError(rendered(problems.relevant()))
        return result

    def _attempt(self, value: Any) -> tuple[Any, ProblemTree | None]:
        try:
            # From JSON, not from Python: otherwise strict models refuse dates and sets.
            return self._adapter.validate_json(json.dumps(value)), None
        except ValidationError as error:
            problems = ProblemTree()
            if error.error_count() > _MAX_ERRORS:
                problems.own.append(Problem(must=f"is wrong in {error.error_count():,} places"))
                return None, problems
            for entry in error.errors(include_url=False):
                self._add_problem(problems, entry, value)
            return None, problems
        except Exception as error:  # a model's own code may raise anything
            text = shorten(str(error) or type(error).__name__, 200)
            return None, ProblemTree(own=[Problem(path=(self.name,), must=text)])

    def _add_problem(self, problems: ProblemTree, entry: Any, value: Any) -> None:
        """Add an error of pydantic at its place in the answer."""
        kind, got, path = entry["type"], entry["input"], entry["loc"]
        is_missing, parent = kind == "missing", None
        for number, key in enumerate(path, 1):
            is_absent = is_missing and number == len(path)
            is_property = isinstance(value, dict) and isinstance(key, str) and (key in value or is_absent)
            if is_property or (isinstance(value, list) and isinstance(key, int) and (is_absent or key < len(value))):
                problems, parent, value = problems.part(key), value, None if is_absent else value[key]
            else:  # the name of an alternative
                problems = problems.alternative(key)
        replacement: Any = None
        if got is None and isinstance(parent, dict) and not is_missing:
            replacement = DROP
        elif isinstance(got, float) and got.is_integer() and kind.startswith("int_"):
            replacement = int(got)
        is_own = kind in ("value_error", "assertion_error")
        is_silent = is_missing or kind == "extra_forbidden" or (is_own and isinstance(got, (dict, list)))
        problems.own.append(
            Problem(
                # What a class says about the whole object begins with the name of the class.
                path=problems.path or ((self.name,) if is_own else ()),
                must=_message(kind, entry["msg"], entry.get("ctx", {})),
                got="" if is_silent else shown(got),
                is_wrong_type=kind.endswith("_type") or kind in _WRONG_TYPES,
                is_missing=is_missing,
                replacement=replacement,
            )
        )


def _message(kind: str, message: str, facts: dict[str, Any]) -> str:
    """Write a message of pydantic as it continues after a path."""
    if kind in _MESSAGES:
        return _MESSAGES[kind]
    if kind.startswith("union_tag"):
        tags = f": one of {facts['expected_tags']}" if "expected_tags" in facts else ""
        return shorten(f"must have a {facts['discriminator']}{tags}", 200)
    message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ").partition(" after validation")[0]
    subject, should, rest = message.partition(" should ")
    if should and subject.count(" ") < 2:
        message = f"must {rest}"
    for vowel in "aeiou":
        message = message.replace(f" a valid {vowel}", f" an {vowel}")
    return shorten(message.replace(" a valid ", " a "), 200)


def _has_own_config(source: Any) -> bool:
    """Tell whether a type has a pydantic configuration of its own, beside which pydantic takes no other."""
    while typing.get_origin(source) is Annotated:
        source = typing.get_args(source)[0]
    return is_pydantic(typing.get_origin(source) or source) or is_pydantic_dataclass(source)


def _target(root: Any, reference: str) -> Any:
    name = reference.removeprefix("#/$defs/").replace("~1", "/").replace("~0", "~")
    return root["$defs"][name]


def _max_depths(root: Any) -> dict[type, int]:
    """Return how deeply objects and arrays may be nested, where the alternatives of a recursive type multiply.

    Pydantic tries every alternative, and in each all those below. It cannot be interrupted.
    """
    definitions = root.get("$defs", {})
    uses = {name: _references(definition) for name, definition in definitions.items()}
    for _ in uses:
        uses = {name: direct | {far for one in direct for far in uses.get(one, ())} for name, direct in uses.items()}
    recursive = {name for name, reached in uses.items() if name in reached}
    widest = {dict: 1, list: 1}
    for part in _objects(root):
        union = part.get("anyOf", part.get("oneOf"))
        if not isinstance(union, list) or "discriminator" in part:
            continue
        branches = [branch for branch in union if _references(branch) & recursive]
        for kind, word in ((dict, "object"), (list, "array")):
            count = sum(_type_of(branch, definitions) in (word, None) for branch in branches)
            widest[kind] = max(widest[kind], count)
    return {kind: int(math.log(_MAX_ATTEMPTS, count)) for kind, count in widest.items() if count > 1}


def _type_of(schema: Any, definitions: dict[str, Any]) -> str | None:
    """Return the type that an alternative allows; None where it does not say."""
    for _ in definitions:
        if "$ref" in schema:
            schema = definitions.get(schema["$ref"].rpartition("/")[2], {})
    return schema.get("type") if isinstance(schema.get("type"), str) else None


def _references(schema: Any) -> set[str]:
    """Return the names of the definitions that a part of a schema refers to."""
    found = (part.get("$ref") for part in _objects(schema))
    return {reference.rpartition("/")[2] for reference in found if isinstance(reference, str)}


def _objects(schema: Any) -> collections.abc.Iterator[dict[str, Any]]:
    """Yield every object of a JSON tree."""
    if isinstance(schema, list):
        for item in schema:
            yield from _objects(item)
    elif isinstance(schema, dict):
        yield schema
        for part in schema.values():
            yield from _objects(part)


def _depth(value: Any, kind: type) -> int:
    """Return how deeply objects, or arrays, are nested."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return isinstance(value, kind) + max((_depth(part, kind) for part in parts), default=0)
