"""Whether a JSON value satisfies a JSON schema.

The validator knows a stated part of JSON Schema (2020-12) and refuses a schema that uses another part, so that no rule
is passed over in silence. `format` asserts for ``date-time`` (a date alone is its midnight), ``date`` and ``time``;
other formats are notes, as the standard has it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time
from typing import Any, Final, NamedTuple

from .errors import BadInputError, nearest, shorten

# Beside a schema that another validator has the last word on (pydantic): what is wrong by our rules is passed on to it.
LENIENT: Final = "$lenient"
# Beside an `anyOf`: whoever builds the value wants to know which alternative it was.
MARKED: Final = "$marked"

_MAX_PROBLEMS = 3

_NAMES = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "object": "an object",
    "array": "an array",
    "null": "null",
}
_FORMATS: dict[str, Callable[[str], Any]] = {
    "date-time": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
}


_KEYWORDS: dict[str, str] = {
    **dict.fromkeys(("items", "additionalProperties"), "a schema"),
    **dict.fromkeys(("anyOf", "oneOf", "allOf", "prefixItems"), "an array of schemas, not empty"),
    **dict.fromkeys(("properties", "$defs", "definitions"), "an object of schemas"),
    **dict.fromkeys(("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"), "a count"),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), "a number"),
    "multipleOf": "a number above 0",
    "uniqueItems": "true or false",
    "required": "an array of names",
    "enum": "an array of values, not empty",
    "pattern": "a regular expression",
    "type": "a type or an array of types",
    "$ref": "a reference into the same schema, such as '#/$defs/Name'",
    **dict.fromkeys(("const", "default", "title", "description", "examples", "format", "deprecated"), ""),
    **dict.fromkeys(("$schema", "$id", "$comment", "readOnly", "writeOnly"), ""),
}


def _is_pattern(value: Any) -> bool:
    try:
        re.compile(value)
    except (re.error, TypeError, RecursionError, OverflowError):
        return False
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_SHAPES: dict[str, Callable[[Any], bool]] = {
    "": lambda value: True,
    "a schema": lambda value: isinstance(value, (dict, bool)),
    "an array of schemas, not empty": lambda value: isinstance(value, list) and bool(value),
    "an object of schemas": lambda value: isinstance(value, dict),
    "a count": lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
    "a number": _is_number,
    "a number above 0": lambda value: _is_number(value) and value > 0,
    "true or false": lambda value: isinstance(value, bool),
    "an array of names": lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
    "an array of values, not empty": lambda value: isinstance(value, list) and bool(value),
    "a regular expression": _is_pattern,
    "a type or an array of types": lambda value: (
        isinstance(value, str) or (isinstance(value, list) and bool(value) and all(isinstance(t, str) for t in value))
    ),
    "a reference into the same schema, such as '#/$defs/Name'": lambda value: isinstance(value, str),
}


class Chosen(NamedTuple):
    """A value under a `MARKED` union, and the number of the alternative that it satisfies."""

    branch: int
    value: Any


class Problem(NamedTuple):
    """One thing that is wrong: where, what must be, and what came (empty when nothing did)."""

    path: str
    must: str
    got: str = ""
    is_kind: bool = False

    def __str__(self) -> str:
        """One line."""
        got = f", got {self.got}" if self.got else ""
        return f"{self.path}: {self.must}{got}" if self.path else f"the answer {self.must}{got}"


class Rules:
    """A JSON schema with its references, ready to check values."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        """Keep the schema; `refuse_unknown` says whether all of it is understood."""
        self.root = root

    def refuse_unknown(self) -> None:
        """Check the schema itself.

        Raises:
            BadInputError: A keyword, type or reference that this validator does not know, or one that is badly made.
        """
        rest: list[tuple[Any, str]] = [(self.root, "#")]
        while rest:
            schema, where = rest.pop()
            if isinstance(schema, bool):
                continue
            if not isinstance(schema, dict):
                raise BadInputError(f"The schema has {shorten(repr(schema), 40)} at {where}, where a schema belongs.")
            for word, value in schema.items():
                self._refuse_keyword(word, value, where)
                if _KEYWORDS.get(word) == "an object of schemas":
                    rest += [(sub, f"{where}/{word}/{name}") for name, sub in value.items()]
                elif _KEYWORDS.get(word) == "an array of schemas, not empty":
                    rest += [(sub, f"{where}/{word}/{number}") for number, sub in enumerate(value)]
                elif _KEYWORDS.get(word) == "a schema":
                    rest.append((value, f"{where}/{word}"))

    def _refuse_keyword(self, word: str, value: Any, where: str) -> None:
        if word.startswith("x-"):
            return
        if word not in _KEYWORDS:
            raise BadInputError(
                f"The schema has the keyword {shorten(repr(word), 40)} at {where}, which is not known here."
                f"{nearest(word, _KEYWORDS)} Known are {', '.join(sorted(_KEYWORDS))}."
            )
        if not _SHAPES[_KEYWORDS[word]](value):
            raise BadInputError(
                f"{word!r} at {where} of the schema must be {_KEYWORDS[word]}, not {shorten(repr(value), 40)}."
            )
        for kind in [value] if word == "type" and isinstance(value, str) else value if word == "type" else ():
            if kind not in _NAMES:
                raise BadInputError(f"There is no type {kind!r} in JSON schemas ({where}).{nearest(kind, _NAMES)}")
        if word == "$ref":
            self.resolved({"$ref": value})

    def target(self, reference: str) -> Any:
        """The schema that a reference means.

        Raises:
            BadInputError: There is none, or it is in another document.
        """
        here: Any = self.root
        for part in reference.removeprefix("#").split("/")[1:]:
            part = part.replace("~1", "/").replace("~0", "~")
            try:
                here = here[int(part)] if isinstance(here, list) else here[part]
            except (LookupError, TypeError, ValueError):
                here = None
        if not reference.startswith("#") or not isinstance(here, (dict, bool)):
            raise BadInputError(f"The schema refers to {shorten(reference, 80)!r}, which is not in it.")
        return here

    def resolved(self, schema: Any) -> dict[str, Any]:
        """A schema without `$ref` and `allOf` at its top: they are merged into one.

        Raises:
            BadInputError: A reference that leads nowhere, or back to itself.
        """
        for _ in range(32):
            if isinstance(schema, bool):
                return {}
            if "$ref" in schema:
                target = self.target(schema["$ref"])
                beside = {word: value for word, value in schema.items() if word not in ("$ref", LENIENT)}
                schema = {**(target if isinstance(target, dict) else {}), **beside}
            elif "allOf" in schema:
                merged: dict[str, Any] = {word: value for word, value in schema.items() if word != "allOf"}
                for part in map(self.resolved, schema["allOf"]):
                    properties = {**part.get("properties", {}), **merged.get("properties", {})}
                    required = list(dict.fromkeys([*part.get("required", ()), *merged.get("required", ())]))
                    merged = {**part, **merged}
                    merged |= {"properties": properties} if properties else {}
                    merged |= {"required": required} if required else {}
                schema = merged
            else:
                return dict(schema)
        raise BadInputError("The schema refers to itself and to nothing else.")

    def admits_null(self, schema: Any) -> bool:
        """Whether null satisfies a schema."""
        return not self.check(None, schema)[1]

    def check(self, value: Any, schema: Any = None) -> tuple[Any, list[Problem]]:
        """Hold a value against a schema.

        Args:
            value: What JSON gives: None, bool, int, float, str, list, dict.
            schema: The schema; default the root. `$ref` counts from the root.

        Returns:
            The value as the schema means it (3.0 for an integer is 3; null for a property that may be left out and
            cannot be null is left out), and what is wrong with it: empty when it satisfies the schema.
        """
        problems: list[Problem] = []
        normalised = _Check(self).visit(value, self.root if schema is None else schema, "", problems)
        return normalised, problems

    def strangers(self, value: Any, schema: Any) -> int:
        """How many properties of an object its schema does not name."""
        if not isinstance(value, dict):
            return 0
        return len(value.keys() - self.resolved(schema).get("properties", {}).keys())


class _Check:
    """One check of one value."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        # Unions of recursive types would visit the same part once for each path of alternatives. The entries hold what
        # their ids belong to.
        self._seen: dict[tuple[int, int, str], tuple[Any, Any, Any, list[Problem]]] = {}

    def visit(self, value: Any, schema: Any, path: str, problems: list[Problem]) -> Any:
        """The value as the schema means it. What is wrong goes to `problems`."""
        if isinstance(schema, bool):
            if not schema:
                problems.append(Problem(path, "must not be there"))
            return value
        if not isinstance(value, (dict, list)):
            return self._visit(value, schema, path, problems)
        key = (id(value), id(schema), path)
        if key not in self._seen:
            own: list[Problem] = []
            self._seen[key] = (value, schema, self._visit(value, schema, path, own), own)
        problems += self._seen[key][3]
        return self._seen[key][2]

    def _visit(self, value: Any, schema: dict[str, Any], path: str, problems: list[Problem]) -> Any:
        if LENIENT in schema:
            problems = []
        if "$ref" in schema:
            value = self.visit(value, self._rules.target(schema["$ref"]), path, problems)
        for part in schema.get("allOf", ()):
            value = self.visit(value, part, path, problems)
        for word in ("anyOf", "oneOf"):
            if word in schema:
                value = self._choose(value, schema, word, path, problems)
        kinds = schema.get("type")
        if kinds is not None:
            kinds = [kinds] if isinstance(kinds, str) else kinds
            if not any(_is_kind(value, kind) for kind in kinds):
                names = " or ".join(_NAMES.get(kind, kind) for kind in kinds)
                problems.append(Problem(path, f"must be {names}", _shown(value), is_kind=True))
                return value
            if isinstance(value, float) and value.is_integer() and "integer" in kinds:
                value = int(value)
        value = self._enumerated(value, schema, path, problems)
        if isinstance(value, dict):
            return self._object(value, schema, path, problems)
        if isinstance(value, list):
            return self._array(value, schema, path, problems)
        for must in _broken_limits(value, schema):
            problems.append(Problem(path, must, _shown(value)))
        return value

    def _enumerated(self, value: Any, schema: dict[str, Any], path: str, problems: list[Problem]) -> Any:
        for word in ("enum", "const"):
            if word not in schema:
                continue
            members = schema[word] if word == "enum" else [schema[word]]
            same = [member for member in members if _is_same(member, value)]
            if same:
                return same[0]
            shown = ", ".join(_shown(member) for member in members[:20]) + (", …" if len(members) > 20 else "")
            must = f"must be {'one of ' if len(members) > 1 else ''}{shown}"
            problems.append(Problem(path, must, _shown(value), is_kind=True))
        return value

    def _choose(self, value: Any, schema: dict[str, Any], word: str, path: str, problems: list[Problem]) -> Any:
        """The value as that alternative means it that it satisfies with the fewest unknown properties."""
        tried: list[tuple[Any, list[Problem], Any]] = []
        for branch in map(_strictly, schema[word]):
            own: list[Problem] = []
            tried.append((self.visit(value, branch, path, own), own, branch))
        good = [attempt for attempt in tried if not attempt[1]]
        if word == "oneOf" and len(good) > 1:
            problems.append(Problem(path, "must satisfy exactly one of the alternatives", _shown(value)))
        if good:
            best = min(good, key=lambda attempt: self._rules.strangers(value, attempt[2]))
            return Chosen(tried.index(best), best[0]) if MARKED in schema else best[0]
        # Of the right kind but wrong further in: that is what the model can mend.
        near = [a for a in tried if not any(p.path == path and p.is_kind for p in a[1])]
        if near:
            best = min(near, key=lambda attempt: len(attempt[1]))
            problems += best[1]
            return best[0]
        musts = dict.fromkeys(p.must.removeprefix("must be ") for a in tried for p in a[1] if p.path == path)
        problems.append(Problem(path, f"must be {' or '.join(musts)}", _shown(value), is_kind=True))
        return value

    def _object(
        self, value: dict[str, Any], schema: dict[str, Any], path: str, problems: list[Problem]
    ) -> dict[str, Any]:
        properties: dict[str, Any] = schema.get("properties", {})
        required = schema.get("required", ())
        others = schema.get("additionalProperties", True)
        result: dict[str, Any] = {}
        for name, part in value.items():
            where = f"{path}.{shorten(name, 40)}" if path else shorten(name, 40)
            if name not in properties:
                if others is False:
                    problems.append(Problem(where, "is not in the schema"))
                result[name] = part if others is False else self.visit(part, others, where, problems)
            elif part is not None or name in required or self._rules.admits_null(properties[name]):
                result[name] = self.visit(part, properties[name], where, problems)
        for name in required:
            if name not in value:
                problems.append(Problem(f"{path}.{name}" if path else name, "is required"))
        if not schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", math.inf):
            problems.append(Problem(path, f"must have {_range(schema, 'Properties')} properties", str(len(value))))
        return result

    def _array(self, value: list[Any], schema: dict[str, Any], path: str, problems: list[Problem]) -> list[Any]:
        first: list[Any] = schema.get("prefixItems", [])
        rest = schema.get("items", True)
        result = [
            self.visit(part, first[n] if n < len(first) else rest, f"{path}[{n}]", problems)
            for n, part in enumerate(value)
        ]
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf):
            problems.append(Problem(path, f"must have {_range(schema, 'Items')} items", str(len(value))))
        if schema.get("uniqueItems") and len({json.dumps(part, sort_keys=True) for part in result}) < len(result):
            problems.append(Problem(path, "must have no item twice"))
        return result


def rendered(problems: list[Problem]) -> str:
    """The first problems in one line."""
    more = f"; and {len(problems) - _MAX_PROBLEMS} more" if len(problems) > _MAX_PROBLEMS else ""
    return "; ".join(str(problem) for problem in problems[:_MAX_PROBLEMS]) + more


def _strictly(branch: Any) -> Any:
    """An alternative without the mark that lets everything through: where one is chosen, our rules choose."""
    if isinstance(branch, dict) and LENIENT in branch:
        return {word: part for word, part in branch.items() if word != LENIENT}
    return branch


def _is_kind(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    match kind:
        case "integer":
            return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        case "number":
            return isinstance(value, (int, float))
        case "string":
            return isinstance(value, str)
        case "null":
            return value is None
        case "object":
            return isinstance(value, dict)
        case "array":
            return isinstance(value, list)
    return False


def _is_same(a: Any, b: Any) -> bool:
    """Equality of JSON: 1 is 1.0, true is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_is_same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_is_same(a[name], b[name]) for name in a)
    return bool(a == b)


def _broken_limits(value: Any, schema: dict[str, Any]) -> Iterator[str]:
    """What a string or a number must be and is not."""
    if isinstance(value, str):
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf):
            yield f"must have {_range(schema, 'Length')} characters"
        if "pattern" in schema and _is_pattern(schema["pattern"]) and not re.search(schema["pattern"], value):
            yield f"must match {schema['pattern']}"
        if read := _FORMATS.get(schema.get("format", "")):
            try:
                read(value)
            except ValueError:
                yield f"must be a {schema['format']} as ISO 8601 writes it"
    elif _is_number(value):
        if value < schema.get("minimum", -math.inf):
            yield f"must be at least {schema['minimum']}"
        if value > schema.get("maximum", math.inf):
            yield f"must be at most {schema['maximum']}"
        if value <= schema.get("exclusiveMinimum", -math.inf):
            yield f"must be more than {schema['exclusiveMinimum']}"
        if value >= schema.get("exclusiveMaximum", math.inf):
            yield f"must be less than {schema['exclusiveMaximum']}"
        if "multipleOf" in schema and not _is_multiple(value, schema["multipleOf"]):
            yield f"must be a multiple of {schema['multipleOf']}"


def _is_multiple(value: float, of: float) -> bool:
    if isinstance(value, int) and isinstance(of, int):
        return value % of == 0
    try:
        ratio = value / of
    except OverflowError:
        return False
    # 0.3 is a multiple of 0.1 to everybody but a computer.
    return math.isfinite(ratio) and abs(ratio - round(ratio)) < 1e-9


def _range(schema: dict[str, Any], what: str) -> str:
    low, high = schema.get(f"min{what}", 0), schema.get(f"max{what}")
    if high is None:
        return f"at least {low}"
    return f"{low}" if low == high else f"{low} to {high}" if low else f"at most {high}"


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return shorten(repr(value), 60)
