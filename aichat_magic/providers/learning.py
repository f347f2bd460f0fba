"""Learning from a refusal: the profile under which a refused request can be sent again.

Pure functions of the error, the body that was sent and the profile so far. `http.refusals` reads which field the server
names; here it is found in the body, under the name and with the value that were sent.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..core.errors import BadRequestError, UnsupportedOptionError
from ..schema.modes import plain_schema
from .profile import NEEDED, ModelProfile, Refusal, SchemaMode, ThinkingForm, as_json, found_in, renamed

_STATUSES = (400, 422)
# Errors about the way in which a schema is asked for, or about the schema.
_SCHEMA_FIELDS = frozenset(
    "response_format json_schema json_object output_format format strict guided_json text".split()
)
_ABOUT_SCHEMA = re.compile(
    r"response_format|json[_ ]schema|output[_ .](?:format|config\.format)|structured[_ ]outputs?|(?:\b|_)schemas?\b"
    r"|\bgrammar\b",
    re.IGNORECASE,
)
# Errors about what one schema holds; others are about schemas as such. Cerebras: Unsupported JSON schema fields.
_ABOUT_ONE_SCHEMA = re.compile(
    r"schema fields?|invalid (?:json )?schema|(?:min|max)(?:imum|Items|Length|Properties)\b|\$ref|\$defs|multipleOf"
    r"|additionalProperties|patternProperties|\bpattern\b|anyOf|too (?:complex|many|large|deep)",
    re.IGNORECASE,
)
# Groq's words for an answer that did not fit: the schema is taken, and this answer is lost.
_ABOUT_ANSWER = re.compile(r"failed[_ ]generation|failed to (?:generate|validate)|\bgenerated\b", re.IGNORECASE)
_ABOUT_THINKING_FORM = re.compile(r"thinking\.type|adaptive thinking|'adaptive'|thinking\.(?:adaptive|enabled)")
# Errors about the value of a field, not about the field.
_ABOUT_VALUE = re.compile(
    r"unsupported value|\bonly\b|must be|should be|supported values|does not support ['\"`]?-?[\d.]+|between"
    r"|\bgreater\b|\bless\b",
    re.IGNORECASE,
)
# A sentence that objects to a field of the body. Errors of type and range are none: their reader is the user.
_OBJECTION = re.compile(
    r"\bonly\b|\bunset\b|must be (?:set|unset|greater|equal|1|one)|deprecated|may not|cannot|does not match any"
    r"|(?:not|n't|no longer|un)[ -]?(?:be )?(?:support|allow|avail|permit)",
    re.IGNORECASE,
)
# Fields whose names are ordinary words, but hardly in a sentence that objects to something else.
_PLAIN_NAMES = frozenset(("temperature", "thinking", "think", "reasoning", "logprobs", "seed", "stream"))
_LIMITS = frozenset(("max_tokens", "max_completion_tokens"))
# Names in errors for fields that have another name in bodies.
_OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "thinking": ("think", "reasoning_effort", "reasoning", "enable_thinking", "chat_template_kwargs"),
    "reasoning": ("reasoning_effort", "think", "thinking"),
    "reasoning_effort": ("reasoning", "think"),
    "effort": ("output_config.effort", "reasoning_effort", "reasoning"),
    "output_config": ("output_config.effort", "output_config.format"),
}


def learned_profile(
    profile: ModelProfile,
    error: BadRequestError,
    body: Mapping[str, Any],
    *,
    schema: str | None,
    mode: SchemaMode | None,
    modes: tuple[SchemaMode, ...],
    thinking_forms: tuple[ThinkingForm, ...],
) -> ModelProfile | None:
    """Return the profile that a refusal teaches.

    Args:
        profile: The profile under which the request was sent.
        error: The server's error.
        body: The body that was sent.
        schema: The text of `Options.schema`.
        mode: The way in which the schema was asked for; None without a schema.
        modes: The ways that the dialect has, the best first.
        thinking_forms: The forms of `thinking` that the dialect has.

    Returns:
        Another profile, with which the request is worth sending again; None if the error is about something else.
    """
    # Its subclasses are about the messages: too long, or flagged.
    if type(error) not in (BadRequestError, UnsupportedOptionError) or error.status not in _STATUSES:
        return None
    words = str(error)
    option = error.option if isinstance(error, UnsupportedOptionError) else None
    if schema is not None and mode is not None and mode != modes[-1] and _is_about_schema(option, words, body):
        is_general = option in _SCHEMA_FIELDS and not _ABOUT_ONE_SCHEMA.search(words)
        return _with_next_mode(profile, schema, modes[modes.index(mode) + 1 :], is_general=is_general)
    if thinking_forms and (changed := _with_thinking(profile, option, words, body, thinking_forms)) is not None:
        return changed
    name = next(_fields(option, body), None) if option else _objected_field(words, body)
    if name is None:
        return None
    instead = error.instead if isinstance(error, UnsupportedOptionError) else None
    is_about_value = bool(_ABOUT_VALUE.search(words))
    is_name = not is_about_value and "." not in name and (instead is None or instead not in body)
    if is_name and (changed := renamed(profile, name, instead)) is not None:
        return changed
    refusal = Refusal(
        name=name,
        value=as_json(found_in(body, name)) if is_about_value else "",
        beside=_other_field(words, body, name),
    )
    return None if refusal in profile.refused else dataclasses.replace(profile, refused=profile.refused | {refusal})


def _is_about_schema(option: str | None, words: str, body: Mapping[str, Any]) -> bool:
    """Tell whether an error is about a schema, or the way in which it is asked for."""
    if option == "output_config":
        return "effort" not in words
    if option in _SCHEMA_FIELDS:
        return True
    if option in body:
        return False
    return bool(_ABOUT_SCHEMA.search(words)) and not _ABOUT_ANSWER.search(words)


def _with_next_mode(
    profile: ModelProfile, schema: str, modes: Iterable[SchemaMode], *, is_general: bool
) -> ModelProfile:
    """Ask for schemas in the next way: for all of them where the server does not know the last one, else for this."""
    if is_general:
        # Without the keywords that some refuse it would be the same way.
        return dataclasses.replace(profile, schema_mode=_first_but_plain(modes))
    json_schema = json.loads(schema)["schema"]
    is_plain = plain_schema(json_schema) == json_schema
    following = _first_but_plain(modes) if is_plain else next(iter(modes))
    others = tuple((text, mode) for text, mode in profile.schema_modes if text != schema)
    return dataclasses.replace(profile, schema_modes=(*others, (schema, following)))


def _first_but_plain(modes: Iterable[SchemaMode]) -> SchemaMode:
    """Return the first mode that is not `plain_json_schema`."""
    return next(mode for mode in modes if mode != "plain_json_schema")


def _with_thinking(
    profile: ModelProfile,
    option: str | None,
    words: str,
    body: Mapping[str, Any],
    forms: tuple[ThinkingForm, ...],
) -> ModelProfile | None:
    """Return the profile with the other form of thinking, once; None where the error is not about the form."""
    form = found_in(body, "thinking.type")
    is_about_it = option in ("thinking", "effort", "output_config") or _ABOUT_THINKING_FORM.search(words)
    if form not in forms or not is_about_it or profile.thinking_form is not None:
        return None
    if option == "effort" and _ABOUT_VALUE.search(words):
        return None
    return dataclasses.replace(profile, thinking_form=next(other for other in forms if other != form))


def _fields(option: str, body: Mapping[str, Any]) -> Iterator[str]:
    """Yield the fields of a body that an option in an error may stand for, the likeliest first."""
    names = [name for name in body if name not in NEEDED]
    inner = [f"{name}.{part}" for name in names if isinstance(body[name], Mapping) for part in body[name]]
    wanted = _squeezed(option)
    yield from (name for name in names if name == option and name not in _OTHER_NAMES)
    yield from (name for name in names if _squeezed(name) == wanted and name not in _OTHER_NAMES)
    yield from (name for name in inner if _squeezed(name.partition(".")[2]) == wanted)
    yield from (name for name in _OTHER_NAMES.get(option, ()) if name in names or name in inner)
    yield from (name for name in names if _squeezed(name) == wanted)


def _squeezed(name: str) -> str:
    """Return a name without what differs between ``presence_penalty`` and ``presencePenalty``."""
    return name.replace("_", "").lower()


def _objected_field(words: str, body: Mapping[str, Any]) -> str | None:
    """Return the field of a body that a sentence names first and objects to; None if there is none."""
    if not _OBJECTION.search(words):
        return None
    places = {name: _place(words, name) for name in body if name not in NEEDED and name not in _LIMITS}
    named = [name for name, place in places.items() if place >= 0 and _is_telling(name)]
    return min(named, key=places.__getitem__, default=None)


def _other_field(words: str, body: Mapping[str, Any], name: str) -> str:
    """Return the other field of a body that a sentence names: beside it alone the field is refused."""
    outer = name.partition(".")[0]
    others = (other for other in body if other not in (*NEEDED, outer, "stream") and _is_telling(other))
    return next((other for other in others if _place(words, other) >= 0), "")


def _is_telling(name: str) -> bool:
    """Tell whether the name of a field is no ordinary word."""
    return "_" in name or name in _PLAIN_NAMES


def _place(words: str, name: str) -> int:
    """Return the place of a name in a sentence, as a whole word; -1 if it is not there."""
    found = re.search(rf"(?<![\w]){re.escape(name)}(?![\w])", words)
    return -1 if found is None else found.start()
