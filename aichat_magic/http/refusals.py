"""Refusals: what a server does not accept about a request, read from the body of its answer.

Pure functions of an `ErrorBody`. Codes are looked at before words, and words only in the forms that a server is known
to write, because any of them may repeat words of the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .error_bodies import LIMIT_NAMES, ErrorBody


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
_NOT = (
    r"(?:not (?:currently |yet )?(?:supported|available|allowed|permitted|enabled)|unsupported|unavailable|deprecated)"
)
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
        # Moonshot: invalid temperature: only 1 is allowed for this model
        rf"\binvalid {_Q}?{_NAME}{_Q}?: only [^\s:]{{1,20}} (?:is|are) allowed",
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
        rf"{_NO_MODEL}{_NAME}{_Q}?(?: {_THING})? (?:is |can |may )?only (?:be )?(?:allowed|set|supported|defined)",
        # Groq: This model does not support response format `json_schema`. Ollama: "m" does not support thinking.
        rf"n[o']t (?:currently |yet )?support (?:the )?{_Q}?{_NAME}",
        # Groq, llama.cpp: response_format type must be one of "text" or "json_object". LM Studio: must be 'json_schema'
        rf"(?<![\w.]){_NAME}{_Q}?(?: type)?(?: ?: value)? (?:(?:must be|is not) one of\b|must be {_Q})",
        # OpenAI: Unsupported service_tier: flex
        rf"\bunsupported {_Q}?{_NAME}{_Q}?: ",
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
                known = name.lower() if name.lower() in _KNOWN else name if "_" in name.strip("_") else None
                yield _option(known)


def _option(name: Any) -> str | None:
    """Return the field at the top of the body that a name or a path stands for; None if it is not an option."""
    if not isinstance(name, str):
        return None
    found = re.match(r"(?:body\.)?([A-Za-z_]\w*)", name)
    if found is None or len(found[1]) > _MAX_NAME or found[1].lower() in _NO_OPTIONS:
        return None
    return found[1]


# --- too many tokens

_TOO_LONG_CODE = re.compile(
    r"context_length|context_window|exceed_context_size|string_above_max|request_too_large", re.IGNORECASE
)
_TOO_LONG = re.compile(
    r"(?:context|prompt|model) (?:length|window|size|limit)|prompt (?:is )?too long|input (?:is )?too long|"
    r"input tokens? (?:count )?[^.]{0,40}exceed|\btoken count[^.]{0,40}exceed|exceed\w* [^.]{0,40}token limit|"
    r"too many (?:input )?tokens|request (?:is )?too large|"
    r"(?:reduce|shorten) (?:the length|your (?:prompt|message|input))|"
    r"\btokens? must be <=|\binputs\b.{0,20}must have less than|number of tokens in the prompt cannot exceed|"
    r"longer than the maximum model length|too large for model",
    re.IGNORECASE,
)
_INT = r"(\d[\d,]{0,14})"
_LIMIT_TOKENS = re.compile(
    rf"(?:maximum (?:context|prompt|model) (?:length|window|size)(?: \w+)?|"
    rf"context (?:size|window|length|limit)(?: of)?(?: only)?|configured limit of|tokens allowed|cannot exceed|"
    rf"token limit|must be <=|must have less than|length of(?: only)?|Limit|>)"
    rf"[ :(]{{0,3}}(?:is |of |only ){{0,2}}{_INT}|with {_INT} maximum context|{_INT} maximum\b",
    re.IGNORECASE,
)
_SUM = re.compile(rf"{_INT} \+ {_INT} > {_INT}")  # Anthropic: of the input and the reply
_SENT_TOKENS = re.compile(
    rf"(?:resulted in|requested(?: about)?|contains|token count|received|length|request|Given:|too long:|"
    rf"keep the first|tokens|prompt is)[ :(~]{{0,3}}{_INT}",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TooLong:
    """A request that has too many tokens.

    Attributes:
        limit_tokens: Tokens that may be sent; None where the server does not tell.
        sent_tokens: Tokens that were sent; None where the server does not tell.
    """

    limit_tokens: int | None = None
    sent_tokens: int | None = None


def too_long(body: ErrorBody) -> TooLong | None:
    """Return the numbers of a refusal for too many tokens; None for any other refusal."""
    text = next((text for text in body.words if _TOO_LONG.search(text)), None)
    if text is None and not _TOO_LONG_CODE.search(body.codes):
        return None
    if text is not None and (found := _SUM.search(text)) is not None:
        sent, reply, limit = (int(number.replace(",", "")) for number in found.groups())
        return TooLong(limit_tokens=limit, sent_tokens=sent + reply)
    counts = {}
    for name, form, member in (
        ("limit_tokens", _LIMIT_TOKENS, "n_ctx"),  # members of llama.cpp
        ("sent_tokens", _SENT_TOKENS, "n_prompt_tokens"),
    ):
        count = next((value for value in body.values(member) if type(value) is int and value > 0), None)
        if count is None and text is not None and (found := form.search(text)) is not None:
            count = int(next(filter(None, found.groups())).replace(",", ""))
        counts[name] = count
    return TooLong(**counts)


# --- filters

_FLAGGED_CODE = re.compile(
    r"content_?filter|content_policy|ResponsibleAIPolicy|^invalid_prompt$|moderation|safety|data_inspection_failed|"
    r"prohibited_content|image_content_policy|sensitive_content",
    re.IGNORECASE | re.MULTILINE,
)
_FLAGGED = re.compile(
    r"content (?:management|filtering|safety|moderation) (?:policy|policies|system)|\bcontent (?:policy|policies)\b|"
    r"content exists risk|content violates|\bflagged\b|requires moderation|"
    r"violat\w+ .{0,60}(?:polic(?:y|ies)|guidelines|terms)|"
    r"safety (?:system|check|filter|guidelines|polic)|SAFETY_CHECK|"
    r"inappropriate content|prohibited content|blocked by .{0,40}(?:filter|polic|moderation)",
    re.IGNORECASE,
)
# Not the prompt is refused, but whoever sent it.
_BANNED = re.compile(
    r"\b(?:account|organi[sz]ation|api key|project|user)\b[^.]{0,60}"
    r"\b(?:suspended|deactivated|disabled|banned|terminated|blocked|restricted|flagged)\b",
    re.IGNORECASE,
)


def is_flagged(body: ErrorBody) -> bool:
    """Tell whether a filter refused the prompt, or the reply to it."""
    if any(_BANNED.search(text) for text in body.words):
        return False
    is_listed = any(isinstance(reasons, list) and reasons for reasons in body.values("flagged_input", "reasons"))
    return is_listed or bool(_FLAGGED_CODE.search(body.codes)) or any(_FLAGGED.search(text) for text in body.words)


# --- quotas

# `error.code` and `error.type` of OpenAI and servers that copy its API (read 2026-11). Their `message` is no guide:
# Gemini writes of quota and billing when only the requests of this minute are used up.
_QUOTA_CODE = re.compile(
    r"insufficient_(?:user_)?quota|insufficient_(?:balance|credits?|funds)|billing|exceeded_current_quota|credits?_exhausted",
    re.IGNORECASE,
)
# Anthropic reports it with status 400 and type invalid_request_error; xAI, Z.ai, Hugging Face, OpenRouter with words.
_QUOTA_WORDS = re.compile(
    r"insufficient[ _](?:quota|balance|credits?|funds)|credit balance is too low|"
    r"used all (?:available|of your|your)? ?credits|"
    r"spending limit|(?:out of|no more|ran out of) credits|monthly included credits|\bkey limit exceeded|"
    r"reached your (?:specified )?(?:api )?usage limit|quota exceeded for metric: [^,\n]{1,200}, limit: 0\b",
    re.IGNORECASE,
)
_DAILY_NAME = re.compile(r"per_?(?:day|month|week)|\b(?:daily|monthly)\b|_(?:daily|monthly)\b", re.IGNORECASE)
_DAILY = re.compile(
    r"(?:per|a|/)[ _-]?(?:day|month|week)\b|By(?:Day|Month)\b|per 86400|\b(?:daily|monthly|weekly)\b|\b[TR]PD\b",
    re.IGNORECASE,
)
_USED_UP = re.compile(r"exceed|reach|exhaust|too many|used up|\bhit\b|over (?:the|your) limit", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n")


def is_out_of_money(body: ErrorBody) -> bool:
    """Tell whether an account has no money or credit left."""
    return bool(_QUOTA_CODE.search(body.codes)) or any(_QUOTA_WORDS.search(text) for text in body.words)


def is_daily_limit(body: ErrorBody) -> bool:
    """Tell whether it is the limit of a day, a week or a month that is used up, and not that of a minute.

    Google names each limit; others say it in the sentence that says what is used up. The other sentences often
    advertise a larger limit.
    """
    if any(_DAILY_NAME.search(str(value)) for value in body.values(*LIMIT_NAMES)):
        return True
    sentences = (sentence for text in body.words for sentence in _SENTENCE_END.split(text))
    return any(_DAILY.search(sentence) and _USED_UP.search(sentence) for sentence in sentences)


# --- servers that cannot now

_LOADING = re.compile(
    r"\bloading (?:the )?model\b|\bmodel\b.{0,200}?\bis (?:currently |still )?(?:being )?load(?:ing|ed)\b|"
    r"\bmodel is (?:not ready|warming up|starting)",
    re.IGNORECASE,
)
# OpenAI, flex processing: 429 with code resource_unavailable. Groq: 498 capacity_exceeded. Mistral: 3505.
_NO_CAPACITY_CODE = re.compile(
    r"resource_unavailable|capacity_exceeded|no_capacity|insufficient_capacity", re.IGNORECASE
)
_NO_CAPACITY = re.compile(
    r"\bresource unavailable|capacity exceeded|at capacity|"
    r"(?:no|not enough|insufficient|out of) (?:available )?capacity",
    re.IGNORECASE,
)


def is_loading(body: ErrorBody) -> bool:
    """Tell whether a server is still loading the model."""
    return any(_LOADING.search(text) for text in body.words)


def has_no_capacity(body: ErrorBody) -> bool:
    """Tell whether a server has no capacity for requests of this tier, however few are sent."""
    return bool(_NO_CAPACITY_CODE.search(body.codes)) or any(_NO_CAPACITY.search(text) for text in body.words)
