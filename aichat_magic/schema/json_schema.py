"""JSON schemas given as dicts: answers are checked by the library `jsonschema`."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time
from fractions import Fraction
from typing import Any, Final

from ..core.errors import BadInputError, MissingExtraError
from ..core.installation import install_command
from ..core.json_text import SchemaError, is_harmless
from ..text.words import did_you_mean, shorten
from .problems import DROP, Problem, ProblemTree, attempt_with_replacements, rendered, shown
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
        f"A JSON schema needs a package that is not installed. Run: {install_command('schema')}; or give a class "
        "(a dataclass, a TypedDict, a pydantic model) as the schema."
    ) from None

# Keywords that hold a schema, a list of schemas, or schemas by name, of all drafts.
_HOLD_A_SCHEMA: Final = frozenset(
    "items additionalItems additionalProperties not if then else contains propertyNames unevaluatedItems "
    "unevaluatedProperties contentSchema".split()
)
_HOLD_A_LIST: Final = frozenset("anyOf oneOf allOf prefixItems items".split())
_HOLD_A_MAPPING: Final = frozenset(
    "properties patternProperties $defs definitions dependentSchemas dependencies".split()
)
# Keywords that do not restrict values by themselves, with those of OpenAPI.
_ANNOTATIONS: Final = frozenset(
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
_COUNTED = {"minItems", "maxItems", "minProperties", "maxProperties"}
_MESSAGES: dict[Any, str] = {
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
# References followed in one check: a recursive schema with alternatives can ask for more than anybody waits for.
_MAX_REFERENCES: Final = 20_000
# References nested in each other: each takes about ten of the 1,000 nested calls that Python allows.
_MAX_NESTED: Final = 80
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")


class JsonSchemaReader:
    """Checks answers against a JSON schema, draft 3 to 2020-12 as its `$schema` says; without one, 2020-12.

    `format` is checked for ``date-time``, ``date`` and ``time``; other formats are annotations, as in the standard.

    Attributes:
        tree: The schema; a copy of the caller's.
        name: Its title.
        names: Names of attributes: none, because values are dicts.
    """

    names: tuple[str, ...] = ()

    def __init__(self, source: Mapping[str, Any]) -> None:
        """Prepare to check.

        Raises:
            BadInputError: It is no JSON schema, or has an unknown keyword or a reference to another document.
        """
        root = _copy(source)
        self.name = str(root.get("title", "reply"))
        dialect = validator_for(root, default=Draft202012Validator)
        declared = str(root.get("$schema", "")).rstrip("#")
        if declared and declared != str(dialect.META_SCHEMA.get("$schema", "")).rstrip("#"):
            raise BadInputError(f"The schema is written in {shorten(declared, 80)!r}, which is not known here.")
        try:
            dialect.check_schema(root, format_checker=FormatChecker(formats=("regex",)))
        except InvalidSchemaError as error:
            raise BadInputError(_invalid_schema(error)) from None
        targets = _reference_targets(root, frozenset(dialect.VALIDATORS) | _ANNOTATIONS)
        self.tree = SchemaTree(root, lambda schema: targets.get(id(schema), {}))
        self._count = threading.local()
        limited = {word: self._limited(dialect.VALIDATORS[word]) for word in _REFERENCES if word in dialect.VALIDATORS}
        formats = FormatChecker(formats=())
        for name, read in _FORMATS.items():
            formats.checks(name, raises=ValueError)(_format_check(read))
        rules = extend(dialect, {**limited, "multipleOf": _multiple_of})
        # No document is fetched: the meta-schemas of the standard come with the library.
        self._validator = rules(root, registry=jsonschema_specifications.REGISTRY, format_checker=formats)

    def read_text(self, text: str) -> tuple[Any, bool]:
        """Return None and False: nothing is faster than `read`."""
        return None, False

    def read(self, value: Any) -> Any:
        """Check a JSON value.

        Returns:
            The value, without properties that are null, cannot be null and may be left out.

        Raises:
            SchemaError: It does not satisfy the schema.
        """
        value, problems = attempt_with_replacements(value, self._attempt)
        if problems is not None:
            raise SchemaError(rendered(problems.relevant()))
        return value

    def _attempt(self, value: Any) -> tuple[Any, ProblemTree | None]:
        self._count.left, self._count.open = _MAX_REFERENCES, set()
        problems = ProblemTree()
        for error in self._validator.iter_errors(value):
            _add_problem(problems, error)
        return value, (problems if any(True for _ in problems.all_problems()) else None)

    def _limited(self, follow: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
        """Return the check of a reference keyword, with limits on how many are followed and how deep."""

        def limited(validator: Any, reference: Any, instance: Any, schema: Any) -> Iterator[Any]:
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

        return limited


def _format_check(read: Callable[[str], Any]) -> Callable[[object], bool]:
    """Return a check that a text can be parsed."""

    def check(value: object) -> bool:
        if isinstance(value, str):
            read(value)
        return True

    return check


def _multiple_of(validator: Any, rule: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    """Check a multiple in decimal: 0.3 is a multiple of 0.1, which binary floats deny."""
    if validator.is_type(value, "number") and Fraction(repr(value)) % Fraction(repr(rule)):
        yield ValidationError(f"{value!r} is not a multiple of {rule!r}")


def _copy(source: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a JSON schema, so that later changes by the caller do not matter."""
    try:
        copy: dict[str, Any] = json.loads(json.dumps(dict(source), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInputError(f"The schema is not JSON: {shorten(str(error), 120)}.") from None
    trouble: list[str] = []
    if not is_harmless(copy, trouble):
        raise BadInputError(f"The schema cannot be used: {trouble[0]}.")
    return copy


def _invalid_schema(error: Any) -> str:
    """Say what is wrong with a schema."""
    where = "".join(f"/{key}" for key in error.absolute_path)
    word = next((key for key in reversed(error.absolute_path) if isinstance(key, str)), "")
    hint = did_you_mean(error.instance, _TYPES) if word == "type" and isinstance(error.instance, str) else ""
    return f"The schema is wrong at #{where}: {shorten(error.message, 160)}.{hint}"


def _reference_targets(root: dict[str, Any], known: frozenset[str]) -> dict[int, Any]:
    """Look up all references, and refuse keywords that would have no effect.

    Args:
        root: The schema.
        known: The keywords that have an effect, and annotations.

    Returns:
        The schema that each object with a `$ref` refers to, by the id of that object.

    Raises:
        BadInputError: A keyword is not known, or a reference leads nowhere or to another document.
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
                    f"{did_you_mean(word, known)}"
                )
            if word == "enum" and not value:
                raise BadInputError(
                    f"The schema is wrong at {where}: the enum is empty, so that no answer satisfies it."
                )
            if word in _HOLD_A_MAPPING and isinstance(value, dict):
                rest += [(part, f"{where}/{word}/{name}", resolver) for name, part in value.items()]
            elif word in _HOLD_A_LIST and isinstance(value, list):
                rest += [(part, f"{where}/{word}/{number}", resolver) for number, part in enumerate(value)]
            elif word in _HOLD_A_SCHEMA:
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


def _add_problem(problems: ProblemTree, error: ValidationError) -> None:
    """Add an error of the library at its place in the answer."""
    for key in error.relative_path:
        problems = problems.part(key)
    if error.validator in ("anyOf", "oneOf") and error.context:
        for number, below in enumerate(error.context):
            schema_path = below.relative_schema_path  # empty where the alternative is false
            label = schema_path[0] if schema_path else f"false {number}"
            _add_problem(problems.alternative(label), below)
        return
    value, word = error.instance, error.validator
    got = shown(value)
    if word == "required":
        for name in error.validator_value if isinstance(error.validator_value, list) else ():
            if name not in value and error.message.startswith(repr(name)):
                problems.part(name).own.append(
                    Problem(path=(*problems.path, name), must="is required", is_missing=True)
                )
        return
    if word == "additionalProperties" and error.validator_value is False:
        for name in _extra_properties(error):
            problem = Problem(path=(*problems.path, name), must="is not in the schema")
            problems.part(name).own.append(problem)
        return
    is_null = value is None and bool(problems.path) and isinstance(problems.path[-1], str)
    problems.own.append(
        Problem(
            path=problems.path,
            must=_requirement(word, error),
            got=str(len(value)) if isinstance(value, (list, dict)) and word in _COUNTED else got,
            is_wrong_type=word in ("type", "enum", "const"),
            replacement=DROP if is_null else None,
        )
    )


def _extra_properties(error: ValidationError) -> list[str]:
    """Return the properties that a schema without additional properties does not allow."""
    schema: Any = error.schema
    patterns = schema.get("patternProperties", {})
    named = schema.get("properties", {})
    return [name for name in error.instance if name not in named and not any(re.search(p, name) for p in patterns)]


def _requirement(word: Any, error: ValidationError) -> str:
    """Say what a value must be."""
    rule: Any = error.validator_value
    if word == "type":
        kinds = [rule] if isinstance(rule, str) else rule
        return f"must be {' or '.join(_TYPES.get(str(kind), 'another value') for kind in kinds)}"
    if word in ("enum", "const"):
        members = rule if word == "enum" else [rule]
        more = ", …" if len(members) > 20 else ""
        return f"must be {'one of ' if len(members) > 1 else ''}{', '.join(map(shown, members[:20]))}{more}"
    if word in _MESSAGES:
        return _MESSAGES[word].format(rule)
    return f"does not satisfy {word}: {shorten(json.dumps(rule, ensure_ascii=False), 120)}"
