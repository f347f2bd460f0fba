"""Schemas for servers that do not take every JSON Schema: in words, or without the keywords that some refuse."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

# "JSON Schema limitations" of Anthropic's guide "Structured outputs" (read 2026-11). Other servers with a grammar of
# their own refuse some of the rest, too (xAI, Cerebras, Groq, llama.cpp), and take these.
_PLAIN_WORDS = (
    *("type", "enum", "const", "anyOf", "$ref", "description", "properties", "required", "items", "format"),
    *("additionalProperties", "$defs"),
)
# Of the same guide: a schema with more unions is too complex.
_MAX_UNIONS = 16


def instructions(json_schema: Mapping[str, Any]) -> str:
    """Return the instructions for a model that is held to a schema by nothing else.

    The word JSON is in them because some servers want it in the prompt.
    """
    return (
        "Answer with JSON only, without any other words, that satisfies this JSON schema:\n"
        f"{json.dumps(json_schema, ensure_ascii=False)}"
    )


def plain_schema(json_schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema of `wire` without bounds and patterns, which are written into descriptions instead.

    It admits all that the schema admits; whoever uses it checks the answer against the whole schema.
    """
    plain: dict[str, Any] = {}
    rules: list[str] = []
    for word, value in json_schema.items():
        if word in ("properties", "$defs"):
            plain[word] = {name: plain_schema(part) for name, part in value.items()}
        elif word == "anyOf":
            plain[word] = [plain_schema(part) for part in value]
        elif word in ("items", "additionalProperties") and isinstance(value, dict):
            plain[word] = plain_schema(value)
        elif word in _PLAIN_WORDS or (word == "minItems" and value in (0, 1)):
            plain[word] = value
        else:
            rules.append(f"{word}: {json.dumps(value, ensure_ascii=False)}")
    if rules:
        described = " ".join(filter(None, [plain.pop("description", ""), f"({', '.join(rules)})"]))
        plain = {"description": described, **plain}
    return plain


def is_closed(json_schema: Mapping[str, Any]) -> bool:
    """Tell whether a schema of `wire` is a finite tree of known properties with few unions.

    Only such a schema can be held to by a server that compiles it into a grammar without recursion and open objects.
    """
    defs: Mapping[str, Any] = json_schema.get("$defs", {})
    unions = 0
    # Each part with the definitions that lead to it.
    waiting: list[tuple[Any, frozenset[str]]] = [(json_schema, frozenset())]
    while waiting:
        part, above = waiting.pop()
        if "$ref" in part:
            name = part["$ref"].rpartition("/")[2]
            if name in above:
                return False
            waiting.append((defs[name], above | {name}))
            continue
        unions += "anyOf" in part
        if unions > _MAX_UNIONS or not part.keys() & {"type", "anyOf"}:
            return False
        is_object = part.get("type") == "object"
        if is_object and ("patternProperties" in part or part.get("additionalProperties") is not False):
            return False
        below = [*part.get("properties", {}).values(), *part.get("anyOf", ())]
        waiting += [(item, above) for item in (*below, *([part["items"]] if "items" in part else ()))]
    return True
