"""JSON schemas given as dicts: `jsonschema` checks answers against them."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time
from fractions import Fraction
from typing import Any, Final

from ..core.errors import BadInputError, MissingExtraError
from ..core.json_text import SchemaError, is_harmless
from ..text.words import nearest, shorten
from .problems import DROP, Problem, ValuePlace, mended, rendered, shown
from .tree import SchemaTree

try:
    import jsonschema_specifications
    import referencing.exceptions
    import referencing.jsonschema
    from jsonschema import Draft202012Validator, FormatChecker
    from jsonschema.exceptions import SchemaError as InvalidSchemaError
    from jsonschema.exceptions import ValidationError
    from jsonschema.validators import extend, validator_for
except ImportError:
    raise MissingExtraError(
        'A JSON schema needs a package that is not installed. Run: pip install "aichat-magic[schema]"; or give a class '
        "(a dataclass, a TypedDict, a pydantic model) as the schema."
    ) from None

# Where schemas stand in schemas, in all drafts together.
_ONE: Final = frozenset(
    "items additionalItems additionalProperties not if then else contains propertyNames unevaluatedItems "
    "unevaluatedProperties contentSchema".split()
)
_MANY: Final = frozenset("anyOf oneOf allOf prefixItems items".split())
_NAMED: Final = frozenset("properties patternProperties $defs definitions dependentSchemas dependencies".split())
# What says nothing about values: notes, also those of OpenAPI.
_NOTES: Final = frozenset(
    "$schema $id id $anchor $dynamicAnchor $recursiveAnchor $vocabulary $comment $defs definitions title description "
    "default examples example deprecated readOnly writeOnly contentEncoding contentMediaType contentSchema "
    "discriminator xml externalDocs then else minContains maxContains "
    "exclusiveMinimum exclusiveMaximum".split()
)
_FORMATS: Final[dict[str, Callable[[str], Any]]] = {
    "date-time": datetime.fromisoformat,  # a date alone is its midnight
    "date": date.fromisoformat,
    "time": time.fromisoformat,
}
_TYPES = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "object": "an object",
    "array": "an array",
    "null": "null",
}
# References followed in one check: a recursive schema with alternatives can ask for more than anybody waits for.
_MAX_REFERENCES: Final = 20_000
# Those within each other: each takes about ten of the 1,000 calls that Python allows.
_MAX_NESTED: Final = 80
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")


class DictReader:
    """Checks answers against a JSON schema, draft 3 to 2020-12 as its `$schema` says; without one, 2020-12.

    `format` asserts for ``date-time``, ``date`` and ``time``; other formats are notes, as the standard has it.

    Attributes:
        tree: The schema; a copy of the caller's.
        name: Its title.
        names: Names of attributes: none, since values are dicts.
    """

    names: tuple[str, ...] = ()

    def __init__(self, source: Mapping[str, Any]) -> None:
        """Prepare to check.

        Raises:
            BadInputError: It is no JSON schema, has a keyword that is not known, or a reference that leads out of it.
        """
        root = _copied(source)
        self.name = str(root.get("title", "reply"))
        dialect = validator_for(root, default=Draft202012Validator)
        declared = str(root.get("$schema", "")).rstrip("#")
        if declared and declared != str(dialect.META_SCHEMA.get("$schema", "")).rstrip("#"):
            raise BadInputError(f"The schema is written in {shorten(declared, 80)!r}, which is not known here.")
        try:
            dialect.check_schema(root, format_checker=FormatChecker(formats=("regex",)))
        except InvalidSchemaError as error:
            raise BadInputError(_invalid(error)) from None
        targets = _targets(root, frozenset(dialect.VALIDATORS) | _NOTES)
        self.tree = SchemaTree(root, lambda schema: targets.get(id(schema), {}))
        self._count = threading.local()
        counted = {word: self._counted(dialect.VALIDATORS[word]) for word in _REFERENCES if word in dialect.VALIDATORS}
        formats = FormatChecker(formats=())
        for name, read in _FORMATS.items():
            formats.checks(name, raises=ValueError)(_reads(read))
        rules = extend(dialect, {**counted, "multipleOf": _multiple_of})
        # No document is fetched: those that the standard itself is written in come with the library.
        self._validator = rules(root, registry=jsonschema_specifications.REGISTRY, format_checker=formats)

    def read_text(self, text: str) -> tuple[Any, bool]:
        """Return None and False: there is no faster way than `read`."""
        return None, False

    def read(self, value: Any) -> Any:
        """Check what JSON gives.

        Returns:
            The value, without what is null where it may be left out and cannot be null.

        Raises:
            SchemaError: It does not satisfy the schema.
        """
        value, place = mended(value, self._attempt)
        if place is not None:
            raise SchemaError(rendered(place.told()))
        return value

    def _attempt(self, value: Any) -> tuple[Any, ValuePlace | None]:
        self._count.left, self._count.open = _MAX_REFERENCES, set()
        place = ValuePlace()
        for error in self._validator.iter_errors(value):
            _note(place, error)
        return value, (place if any(True for _ in place.leaves()) else None)

    def _counted(self, follow: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
        """Return a reference's function that gives up in time."""

        def counted(validator: Any, reference: Any, instance: Any, schema: Any) -> Iterator[Any]:
            now = self._count
            now.left -= 1
            if now.left < 0:
                raise SchemaError("the schema has too many alternatives in each other to check the answer")
            here = (id(instance), id(schema))
            if here in now.open:
                raise SchemaError("the schema refers to itself and to nothing else")
            if len(now.open) >= _MAX_NESTED:
                raise SchemaError("the answer is nested too deeply for the schema")
            now.open.add(here)
            try:
                yield from follow(validator, reference, instance, schema) or ()
            finally:
                now.open.discard(here)

        return counted


def _reads(read: Callable[[str], Any]) -> Callable[[object], bool]:
    """Return a check that a text can be read."""

    def check(value: object) -> bool:
        if isinstance(value, str):
            read(value)
        return True

    return check


def _multiple_of(validator: Any, rule: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    """Check a multiple in decimal: 0.3 is a multiple of 0.1 to everybody but a computer."""
    if validator.is_type(value, "number") and Fraction(repr(value)) % Fraction(repr(rule)):
        yield ValidationError(f"{value!r} is not a multiple of {rule!r}")


def _copied(source: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a JSON schema, so that a later change of the caller's does not change ours."""
    try:
        copy: dict[str, Any] = json.loads(json.dumps(dict(source), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInputError(f"The schema is not JSON: {shorten(str(error), 120)}.") from None
    trouble: list[str] = []
    if not is_harmless(copy, trouble):
        raise BadInputError(f"The schema cannot be used: {trouble[0]}.")
    return copy


def _invalid(error: Any) -> str:
    """Say what is wrong with a schema."""
    where = "".join(f"/{key}" for key in error.absolute_path)
    word = next((key for key in reversed(error.absolute_path) if isinstance(key, str)), "")
    hint = nearest(error.instance, _TYPES) if word == "type" and isinstance(error.instance, str) else ""
    return f"The schema is wrong at #{where}: {shorten(error.message, 160)}.{hint}"


def _targets(root: dict[str, Any], known: frozenset[str]) -> dict[int, Any]:
    """Look up all references, and refuse keywords that nobody would heed.

    Args:
        root: The schema.
        known: The keywords that mean something.

    Returns:
        What each object with a `$ref` refers to, by the id of that object.

    Raises:
        BadInputError: A keyword is not known, or a reference leads nowhere or out of the schema.
    """
    specification = referencing.jsonschema.specification_with(
        str(root.get("$schema", "")) or "https://json-schema.org/draft/2020-12/schema",
        default=referencing.jsonschema.DRAFT202012,
    )
    resource = specification.create_resource(root)
    resolver: Any = jsonschema_specifications.REGISTRY.resolver_with_root(resource)
    found: dict[int, Any] = {}
    rest: list[tuple[Any, str, Any]] = [(root, "#", resolver)]
    while rest:
        schema, where, resolver = rest.pop()
        if not isinstance(schema, dict):
            continue
        if schema is not root:
            resolver = resolver.in_subresource(specification.create_resource(schema))
        for word, value in schema.items():
            if word not in known and not word.startswith("x-"):
                raise BadInputError(
                    f"The schema has the keyword {shorten(repr(word), 40)} at {where}, which is not known here."
                    f"{nearest(word, known)}"
                )
            if word == "enum" and not value:
                raise BadInputError(
                    f"The schema is wrong at {where}: the enum is empty, so that no answer satisfies it."
                )
            if word in _NAMED and isinstance(value, dict):
                rest += [(part, f"{where}/{word}/{name}", resolver) for name, part in value.items()]
            elif word in _MANY and isinstance(value, list):
                rest += [(part, f"{where}/{word}/{number}", resolver) for number, part in enumerate(value)]
            elif word in _ONE:
                rest.append((value, f"{where}/{word}", resolver))
        for word in _REFERENCES:
            if isinstance(reference := schema.get(word), str):
                try:
                    target = resolver.lookup(reference).contents
                except referencing.exceptions.Unresolvable:
                    raise BadInputError(
                        f"The schema refers to {shorten(reference, 80)!r}, which is not in it; nothing is fetched."
                    ) from None
                if word == "$ref":
                    found[id(schema)] = target
    return found


def _note(place: ValuePlace, error: ValidationError) -> None:
    """Put one error of the library where it belongs."""
    for key in error.relative_path:
        place = place.part(key)
    if error.validator in ("anyOf", "oneOf") and error.context:
        for number, below in enumerate(error.context):
            way = below.relative_schema_path  # empty where the alternative is false
            _note(place.branch(way[0] if way else f"false {number}"), below)
        return
    value, word = error.instance, error.validator
    got = shown(value)
    if word == "required":
        for name in error.validator_value if isinstance(error.validator_value, list) else ():
            if name not in value and error.message.startswith(repr(name)):
                place.part(name).problems.append(Problem(path=(*place.path, name), must="is required", is_missing=True))
        return
    if word == "additionalProperties" and error.validator_value is False:
        for name in _others(error):
            problem = Problem(path=(*place.path, name), must="is not in the schema")
            place.part(name).problems.append(problem)
        return
    is_null = value is None and bool(place.path) and isinstance(place.path[-1], str)
    place.problems.append(
        Problem(
            path=place.path,
            must=_must(word, error),
            got=str(len(value)) if isinstance(value, (list, dict)) and word in _COUNTED else got,
            is_kind=word in ("type", "enum", "const"),
            mend=DROP if is_null else None,
        )
    )


def _others(error: ValidationError) -> list[str]:
    """Return the properties that a closed schema does not name."""
    schema: Any = error.schema
    patterns = schema.get("patternProperties", {})
    named = schema.get("properties", {})
    return [n for n in error.instance if n not in named and not any(re.search(pattern, n) for pattern in patterns)]


_COUNTED = {"minItems", "maxItems", "minProperties", "maxProperties"}
_WORDS: dict[Any, str] = {
    "minimum": "must be at least {}",
    "maximum": "must be at most {}",
    "exclusiveMinimum": "must be more than {}",
    "exclusiveMaximum": "must be less than {}",
    "multipleOf": "must be a multiple of {}",
    "minLength": "must have at least {} characters",
    "maxLength": "must have at most {} characters",
    "minItems": "must have at least {} items",
    "maxItems": "must have at most {} items",
    "minProperties": "must have at least {} properties",
    "maxProperties": "must have at most {} properties",
    "pattern": "must match {}",
    "format": "must be a {} as ISO 8601 writes it",
    "uniqueItems": "must have no item twice",
    "oneOf": "must satisfy exactly one of the alternatives",
    None: "must not be there",
}


def _must(word: Any, error: ValidationError) -> str:
    """Say what a value must be."""
    rule: Any = error.validator_value
    if word == "type":
        kinds = [rule] if isinstance(rule, str) else rule
        return f"must be {' or '.join(_TYPES.get(str(kind), 'another value') for kind in kinds)}"
    if word in ("enum", "const"):
        members = rule if word == "enum" else [rule]
        more = ", …" if len(members) > 20 else ""
        return f"must be {'one of ' if len(members) > 1 else ''}{', '.join(map(shown, members[:20]))}{more}"
    if word in _WORDS:
        return _WORDS[word].format(rule)
    return f"does not satisfy {word}: {shorten(json.dumps(rule, ensure_ascii=False), 120)}"
