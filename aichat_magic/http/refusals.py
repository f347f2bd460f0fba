"""Refusals: what a server does not accept about a request, read from the body of its answer.

Pure functions of an `ErrorBody`. Codes are looked at before words, and words only in the forms that a server is known
to write, because any of them may repeat words of the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .error_bodies import ErrorBody


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsupportedOption:
    """An option of the request that the server, or this model, does not have.

    Attributes:
        option: The field at the top of the request's body, as the server wrote it.
        instead: The option to use instead, where the server names one.
    """

    option: str
    instead: str | None = None


# --- options

_NAME = r"(?P<name>[A-Za-z_]\w{0,63})(?:[.\[][\w.\[\]]{0,100})?"
_Q = r"['\"`\u2018\u2019\u201c\u201d]"
_THING = (
    r"(?:request |input |keyword )?(?:parameter|param|argument|option|field|name|key|property|properties|setting)s?"
)
_NOT = r"(?:not (?:currently |yet )?(?:supported|available|allowed|permitted)|unsupported|unavailable|deprecated)"
_NO_MODEL = rf"(?<![\w.])(?<!model )(?<!model {_Q})"
_REFUSED = re.compile(rf"{_NOT}|no longer supported|n[o']t support|unrecogni|unknown|unexpected", re.IGNORECASE)
# Each form leads to the name of an option. Read 2026-11, in the documentation and in public reports about them.
_OPTION_FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        # OpenAI, Azure, llama.cpp: Unsupported parameter: 'max_tokens' is not supported with this model.
        rf"\bunsupported (?:{_THING}|value)(?: type)?(?::\s*{_Q}?|\s+{_Q}){_NAME}",
        # OpenAI: Unrecognized request argument supplied: x; Unknown parameter: 'x'. serde, Go: unknown field `x`.
        # Gemini: Unknown name "x" at 'a.b': Cannot find field. Bedrock: extraneous key [x] is not permitted.
        rf"\b(?:unknown|unrecogni[sz]ed|unexpected|extraneous) {_THING}(?: supplied| provided| passed)?"
        rf"(?::\s*(?:{_THING}\s+)?{_Q}?|\s+[\[]|\s+{_Q}){_NAME}(?:{_Q} at {_Q}(?P<outer>\w+))?",
        # Anthropic, pydantic: temperature: Extra inputs are not permitted. Fireworks puts the name behind it.
        r"(?:^|[\s;:(])(?P<name>[A-Za-z_]\w{0,63})[\w.\[\]]{0,100}: Extra inputs are not permitted",
        rf"\bExtra inputs are not permitted, field: {_Q}?{_NAME}",
        # vLLM puts Python's repr of pydantic's list into the message.
        rf"extra_forbidden.{{0,40}}?loc{_Q}: [(\[]{_Q}body{_Q}, {_Q}{_NAME}",
        # Groq, Cerebras: property 'x' is unsupported.
        rf"\bproperty {_Q}(?:body\.)?{_NAME}{_Q} is unsupported",
        # xAI: Argument not supported on this model: x; Model m does not support parameter x.
        rf"\b{_THING} (?:is |are )?{_NOT}(?: (?:on|with|by|for) th\w+ model)?:\s*{_Q}?{_NAME}",
        rf"n[o']t support (?:the |this )?{_THING}:?\s+[\[]?{_Q}?{_NAME}",
        rf"n[o']t support (?:the |this )?{_Q}?{_NAME}{_Q}? {_THING}\b",
        # JSON Schema: Additional properties are not allowed ('x' was unexpected). Python: unexpected keyword argument.
        rf"\bnot allowed \({_Q}{_NAME}{_Q} (?:was|were) unexpected",
        # Cohere: parameter 'x' is not a valid field.
        rf"{_Q}{_NAME}{_Q} is not a (?:valid|recogni[sz]ed|known|supported) {_THING}\b",
        # Anthropic: `temperature` and `top_p` cannot both be specified for this model. One of them has to go.
        rf"{_Q}\w{{1,64}}{_Q} and {_Q}{_NAME}{_Q} cannot both be (?:specified|set|used)",
        # Go (Ollama): json: cannot unmarshal object into Go struct field ChatCompletionRequest.think of type string
        r"\bGo struct field \w{1,64}\.(?P<name>\w{1,64})",
        # serde (DeepSeek): response_format.type: unknown variant `json_schema`, expected one of ...
        r"\btarget type: (?P<name>[A-Za-z_]\w{0,63})[\w.\[\]]{0,100}: (?:unknown variant|invalid type)",
        # llama.cpp: tools param requires --jinja flag.
        rf"\b{_NAME} param requires\b",
    )
)
# In these a name may be any word, so only one that is known, or looks like a name, counts.
_LOOSE_FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        # Anthropic: `temperature` is deprecated for this model. DeepSeek: This response_format type is unavailable now.
        rf"{_NO_MODEL}{_NAME}{_Q}?(?: type| mode)?(?: {_THING})? (?:is|are) (?:{_NOT}|no longer supported)",
        rf"{_NO_MODEL}{_NAME}{_Q}?(?: {_THING})? (?:is |can )?only (?:be )?(?:allowed|set|supported|defined)",
        # Groq: This model does not support response format `json_schema`. Ollama: "m" does not support thinking.
        rf"n[o']t (?:currently |yet )?support (?:the )?{_Q}?{_NAME}",
        # Groq, llama.cpp: response_format type must be one of "text" or "json_object".
        rf"(?<![\w.]){_NAME}{_Q}?(?: type)?(?: ?: value)? (?:must be|is not) one of\b",
        # OpenAI: Your organization must be verified to stream this model.
        r"\bverified to (?P<name>stream)\b",
    )
)
# In prose, some options have another name than in the body.
_ALIASES = (
    (
        re.compile(r"\bresponse formats?\b|\bstructured[ _]outputs?\b|\bjson (?:mode|schema)\b", re.IGNORECASE),
        "response_format",
    ),
    (re.compile(r"\bstream options\b", re.IGNORECASE), "stream_options"),
    (re.compile(r"\bstreaming\b", re.IGNORECASE), "stream"),
    (re.compile(r"\breasoning effort\b", re.IGNORECASE), "reasoning_effort"),
    (re.compile(r"\b(?:tool|function) (?:use|calls?|calling)\b", re.IGNORECASE), "tools"),
)
_KNOWN = frozenset(
    "temperature seed stop stream tools logprobs thinking think reasoning user store metadata modalities prediction "
    "verbosity echo suffix n effort format grammar mirostat".split()
)
# Not options: without them there is no request. They are refused for what they hold, not for being there.
_NO_OPTIONS = frozenset("messages message system contents content prompt model input body request role type".split())
_OPTION_CODE = re.compile(
    r"(?:unsupported|unknown|unrecogni[sz]ed|extra)_(?:parameter|param|value|argument|field|option|property|forbidden)s?",
    re.IGNORECASE,
)
# Kinds of pydantic's errors, versions 1 and 2: a field that is not known, and a value that a field does not know.
_PYDANTIC_KINDS = ("extra_forbidden", "value_error.extra", "unexpected_keyword_argument", "literal_error", "enum")
_INSTEAD = re.compile(
    rf"\b(?:use|try|set) {_Q}{_NAME}{_Q} instead|\bin favou?r of {_Q}{_NAME.replace('name', 'other')}{_Q}",
    re.IGNORECASE,
)
_MAX_NAME = 64


def unsupported_option(body: ErrorBody) -> UnsupportedOption | None:
    """Return the option that a server refuses because it, or the model, does not have it; None for any other refusal.

    Args:
        body: Body of a response of status 400 or 422.
    """
    name = next(filter(None, (*_options_in_members(body), *_options_in_words(body))), None)
    if name is None:
        return None
    found = next((found for text in body.words if (found := _INSTEAD.search(text))), None)
    instead = (found["name"] or found["other"]) if found else None
    return UnsupportedOption(option=name, instead=None if instead == name else instead)


def _options_in_members(body: ErrorBody) -> Iterator[str | None]:
    """Yield options that are named by `param` (OpenAI) or `loc` (pydantic)."""
    for item in body.objects:
        kind, place = item.get("type"), item.get("loc")
        if kind in _PYDANTIC_KINDS and isinstance(place, list):
            names = [part for part in place if part != "body"]
            yield _option(names[0]) if names else None
        param, code, words = item.get("param"), item.get("code"), item.get("message")
        is_refused = isinstance(code, str) and _OPTION_CODE.fullmatch(code)
        if is_refused or (isinstance(words, str) and _REFUSED.search(words[:1000])):
            yield _option(param)


def _options_in_words(body: ErrorBody) -> Iterator[str | None]:
    """Yield options that are named in sentences."""
    for text in body.words:
        # What follows is about a message: Groq, Anthropic ("messages.0.content...: ...").
        if re.match(r"\W{0,3}messages\b", text):
            continue
        for form in _OPTION_FORMS:
            for found in form.finditer(text):
                yield _option(found.groupdict().get("outer") or found["name"])
        for pattern, name in _ALIASES:
            text = pattern.sub(name, text)
        for form in _LOOSE_FORMS:
            for found in form.finditer(text):
                name = found["name"]
                yield _option(name) if "_" in name.strip("_") or name.lower() in _KNOWN else None


def _option(name: Any) -> str | None:
    """Return the field at the top of the body that a name or a path stands for; None if it is not an option."""
    if not isinstance(name, str):
        return None
    found = re.match(r"(?:body\.)?([A-Za-z_]\w*)", name)
    if found is None or len(found[1]) > _MAX_NAME or found[1].lower() in _NO_OPTIONS:
        return None
    return found[1]
