"""JSON schemas in the form that providers take.

It is the subset of OpenAI's strict mode (every property required, no others, a small set of keywords; read 2026-11),
which llama.cpp and its grammars understand too. A rule that it cannot express is written into a description.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import BadInputError
from .tree import SchemaTree

_FORMATS = ("date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
_KEPT = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minItems", "maxItems")
_IN_DESCRIPTION = (
    *("minLength", "maxLength", "pattern", "format", "uniqueItems", "minProperties", "maxProperties", "not", "if"),
    *("then", "else", "contains", "minContains", "maxContains", "propertyNames", "dependentRequired"),
)
_MAX_RULE_CHARS = 300
_MAX_PARTS = 20_000
# llama.cpp's own grammars take anchored patterns only, and read a class such as \d as letters.
_PORTABLE_PATTERN = re.compile(r"\^(?!.*\(\?)[^\\^$]*\$")
_TYPE_NAMES: dict[type, str] = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def closed_object(properties: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an object that has these properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


@dataclass(slots=True)
class WireTranslator:
    """Translates one schema into the form that providers take.

    Attributes:
        tree: The schema.
        defs: The definitions that go under `$defs`, as far as they were translated.
        is_strict: Whether all that was translated can be expressed in OpenAI's strict mode.
    """

    tree: SchemaTree
    defs: dict[str, Any] = field(default_factory=dict)
    is_strict: bool = True
    _names: dict[int, str] = field(default_factory=dict)
    _n_parts: int = 0

    def translate(self, schema: Any) -> dict[str, Any]:
        """Translate one part of the schema."""
        self._n_parts += 1
        if self._n_parts > _MAX_PARTS:
            raise BadInputError("The schema is too large, or refers to itself within allOf.")
        if isinstance(schema, dict) and (refers := _reference(schema)):
            sent = {"$ref": f"#/$defs/{self._name(refers)}"}
            # Strict mode wants nothing beside a reference.
            return {"description": schema["description"], "anyOf": [sent]} if schema.get("description") else sent
        schema = self.tree.resolved(schema)
        body = self._body(schema)
        unsent = [
            word for word in _IN_DESCRIPTION if word in schema and word not in body and not _is_sent(word, schema)
        ]
        rules = ", ".join(text for text in (_as_text(word, schema[word]) for word in unsent) if text)
        description = " ".join(filter(None, [schema.get("description", ""), rules and f"({rules})"]))
        return {"description": description, **body} if description else body

    def _name(self, schema: dict[str, Any]) -> str:
        """Return the name under `$defs` of the target of a reference; translate it at the first use."""
        target = self.tree.target(schema)
        if id(target) not in self._names:
            name = re.sub(r"\W+", "_", re.split(r"[/#]", schema["$ref"])[-1]).strip("_") or "root"
            while name in self.defs:
                name += "_"
            self._names[id(target)] = name
            self.defs[name] = {}
            self.defs[name] = self.translate(target)
        return self._names[id(target)]

    def _body(self, schema: dict[str, Any]) -> dict[str, Any]:
        types = schema.get("type")
        if isinstance(types, list) and len(types) == 1:
            types = types[0]
        if "enum" in schema or "const" in schema:
            return _choice(schema.get("enum", [schema.get("const")]))
        if isinstance(types, list):
            bare = {word: part for word, part in schema.items() if word != "description"}
            return {"anyOf": [self._body({**bare, "type": kind}) for kind in types]}
        if types is None and (branches := schema.get("anyOf") or schema.get("oneOf")):
            return {"anyOf": [self.translate(branch) for branch in branches]}
        if types is None:
            words = ("properties", "patternProperties")
            types = "object" if any(word in schema for word in words) else "array" if "items" in schema else None
        if types == "object":
            return self._object(schema)
        if types == "array":
            return self._array(schema)
        if types is None:
            self.is_strict = False
            return {}
        kept = {word: schema[word] for word in (*_KEPT, "pattern", "format") if _is_sent(word, schema)}
        return {"type": types, **kept}

    def _object(self, schema: dict[str, Any]) -> dict[str, Any]:
        others = schema.get("additionalProperties", True)
        patterns = schema.get("patternProperties", {})
        names = self.tree.resolved(schema.get("propertyNames", {})).get("enum", ())
        if not schema.get("properties") and not patterns and names and isinstance(others, dict):
            # Any of a few keys: each is required, and may be null.
            return closed_object({name: self._or_null(others) for name in names if isinstance(name, str)})
        if not schema.get("properties") and not patterns:
            if others is False:
                return closed_object({})
            self.is_strict = False
            return {"type": "object", "additionalProperties": self.translate(others)}
        properties: dict[str, Any] = {}
        for name, part in schema.get("properties", {}).items():
            if part is not False:
                properties[name] = self.translate(part) if name in schema.get("required", ()) else self._or_null(part)
        result = closed_object(properties)
        if patterns:
            self.is_strict = False
            result["patternProperties"] = {pattern: self.translate(part) for pattern, part in patterns.items()}
        if (isinstance(others, dict) and others) or (patterns and others is not False):
            self.is_strict = False
            result["additionalProperties"] = self.translate(others)
        return result

    def _or_null(self, part: Any) -> dict[str, Any]:
        """Translate a part that may be left out: strict mode requires it, as null."""
        sent = self.translate(part)
        if self.tree.admits_null(part):
            return sent
        null = {"type": "null"}
        return {**sent, "anyOf": [*sent["anyOf"], null]} if "anyOf" in sent else {"anyOf": [sent, null]}

    def _array(self, schema: dict[str, Any]) -> dict[str, Any]:
        kept = {word: schema[word] for word in _KEPT if word in schema and word.endswith("Items")}
        parts = [*schema.get("prefixItems", ())]
        items = schema.get("items", not parts)
        if isinstance(items, list):  # before 2020-12
            parts, items = [*items], schema.get("additionalItems", False)
        if isinstance(items, dict) or items:
            parts.append(items)
        sent = list({json.dumps(part): part for part in map(self.translate, parts)}.values())
        if not sent:
            return {"type": "array", "items": {"type": "null"}, "maxItems": 0}
        return {"type": "array", "items": sent[0] if len(sent) == 1 else {"anyOf": sent}, **kept}


def _reference(schema: dict[str, Any]) -> dict[str, Any] | None:
    """Return the part with the `$ref`, where a schema is only a reference; older generators wrap it in allOf."""
    if "$ref" in schema:
        return schema
    parts = schema.get("allOf", ())
    is_alone = len(parts) == 1 and isinstance(parts[0], dict) and "$ref" in parts[0]
    return parts[0] if is_alone and schema.keys() <= {"allOf", "description", "title", "default"} else None


def _is_sent(word: str, schema: dict[str, Any]) -> bool:
    """Tell whether a schema has a keyword in a form that every provider takes."""
    if word not in schema:
        return False
    if word == "format":
        return schema[word] in _FORMATS
    # In draft 4 the exclusive bounds are true or false.
    is_bound = word in _KEPT and not isinstance(schema[word], bool)
    return is_bound or (word == "pattern" and bool(_PORTABLE_PATTERN.fullmatch(schema[word])))


def _as_text(word: str, value: Any) -> str:
    """Write a rule as text; empty where it would be long, or refer to a definition that is not sent."""
    text = f"{word}: {json.dumps(value)}"
    return "" if len(text) > _MAX_RULE_CHARS or '"$ref"' in text else text


def _choice(members: list[Any]) -> dict[str, Any]:
    """Return the schema of a choice of values; strict mode requires their types."""
    if any(isinstance(member, (dict, list)) for member in members):
        return {"enum": members}
    groups: dict[str, list[Any]] = {}
    for member in members:
        groups.setdefault(_TYPE_NAMES[type(member)], []).append(member)
    sent = [{"type": "null"} if kind == "null" else {"type": kind, "enum": group} for kind, group in groups.items()]
    return sent[0] if len(sent) == 1 else {"anyOf": sent}
