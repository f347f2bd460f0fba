"""Sampling options, and all options of one call."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..text.words import did_you_mean, shorten
from .errors import OptionError, UnknownNameError
from .vendor_options import canonical_json, json_options, parse_options

# Ranges as the OpenAI dialect documents them (chat completions reference, 2026-11).
_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "max_tokens": (1, 2**31 - 1),
    "seed": (-(2**63), 2**63 - 1),
}
# Levels of effort, from the least; each provider's own words for them are in `providers`.
REASONING_LEVELS = ("none", "minimal", "low", "medium", "high", "max")
TIERS = ("auto", "flex", "priority", "flex,auto")
# In place of a value: the option is not sent, wherever it is set.
UNSET = "unset"
# Fields of a request that are not options: each with the way to set it.
_NOT_OPTIONS = {
    "model": "use -m (model=)",
    "messages": "the prompt and the conversation are the messages",
    "system": "use -s (system=)",
    "stream": "use --no-stream, or ask() and stream()",
    "stream_options": "the usage of streams is asked for anyway",
    "schema": "use --schema (schema=)",
    "n": "only one reply is read; ask several times",
}
_ALIASES = {"max_completion_tokens": "max_tokens"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Sampling options. None means: not sent, so that the server's own default holds.

    Attributes:
        temperature: 0 (always the likeliest token) to 2.
        top_p: Nucleus sampling, 0 to 1.
        max_tokens: Longest reply, in tokens, >= 1.
        presence_penalty: -2 to 2.
        frequency_penalty: -2 to 2.
        stop: Texts that end the reply when they appear.
        seed: Seed, for servers that can repeat a reply.
        schema: Schema of the reply: a JSON object with `name`, `strict` and `schema`, as text.
        reasoning: Effort to think: one of `REASONING_LEVELS`.
        tier: Service tier: one of `TIERS`; ``"flex,auto"`` is flex, and the normal tier where flex has no capacity. It
            changes price and time, not the answer, so it is no part of a request's key.
        extra: A vendor's own options: a JSON object as text, merged into the request's body last.
        unset: Names of options that are not sent, whatever the settings say.
        strict_options: Fail, rather than send the request again without it, when the server refuses an option. It does
            not change the answer, so it is no part of a request's key.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    schema: str | None = None
    reasoning: str | None = None
    tier: str | None = None
    extra: str | None = None
    unset: tuple[str, ...] = ()
    strict_options: bool = False

    def __post_init__(self) -> None:
        """Check every range.

        Raises:
            OptionError: A value is outside its range, not a number, no known level or tier, or a stop text is empty.
        """
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is None:
                continue
            is_whole = name in ("max_tokens", "seed")
            if isinstance(value, bool) or not isinstance(value, int if is_whole else (int, float)):
                kind = "a whole number" if is_whole else "a number"
                raise OptionError(f"{name} must be {kind}, not {value!r}.")
            if math.isnan(value) or not low <= value <= high:
                raise OptionError(f"{name} must be between {low:g} and {high:g}, not {value!r}.")
        if not isinstance(self.stop, tuple) or any(not isinstance(s, str) or not s for s in self.stop):
            raise OptionError(f"stop must be a text or a list of texts that are not empty, not {self.stop!r}.")
        for name, known in (("reasoning", REASONING_LEVELS), ("tier", TIERS)):
            if (value := getattr(self, name)) is not None and value not in known:
                raise OptionError(f"{name} must be one of {', '.join(known)}, not {value!r}.")
        if not isinstance(self.extra, str | None):
            raise OptionError(f"extra must be a JSON object as text, not {shorten(repr(self.extra), 60)}.")

    @property
    def extra_options(self) -> dict[str, Any]:
        """Return the vendor's own options by name."""
        return json.loads(self.extra) if self.extra else {}

    @property
    def billed_tier(self) -> str:
        """Return the tier that decides the price: ``"flex"``, ``"priority"`` or another paid one, or empty: normal."""
        if self.tier is None and self.extra is None:
            return ""
        tier = str(self.extra_options.get("service_tier", (self.tier or "").partition(",")[0]))
        return "" if tier in ("auto", "default", "standard", "standard_only", "on_demand") else tier

    def sent(self) -> dict[str, Any]:
        """Return the options that decide the reply and are set, by name, in a fixed order."""
        names = (name for name in self.__dataclass_fields__ if name not in ("tier", "unset", "strict_options"))
        values = ((name, getattr(self, name)) for name in names)
        return {name: value for name, value in values if value is not None and value != ()}

    def shown(self) -> dict[str, Any]:
        """Return the options that are set by the names that users know, without the schema."""
        tier = {"tier": self.tier} if self.tier else {}
        plain = {name: value for name, value in self.sent().items() if name not in ("extra", "schema")}
        return {**plain, **tier, **self.extra_options}

    def keywords(self) -> dict[str, Any]:
        """Return the keywords that `options_from` takes, with the values that make these options."""
        extra = self.extra_options
        own = {name: value for name in OPTION_NAMES if (value := getattr(self, name)) not in (None, ())}
        own |= {name: UNSET for name in self.unset if name in OPTION_NAMES}
        extra |= {name: UNSET for name in self.unset if name not in OPTION_NAMES}
        return {**own, **({"options": extra} if extra else {})}

    def over(self, other: Options) -> Options:
        """Return these options, filled up with those of `other` where one is neither set nor unset."""
        mine, theirs = ({**options.sent(), "tier": options.tier} for options in (self, other))
        values = {**theirs, **{name: value for name, value in mine.items() if value is not None}}
        extra = {**other.extra_options, **self.extra_options}
        extra = {name: value for name, value in extra.items() if name not in self.unset}
        values = {name: value for name, value in values.items() if name not in (*self.unset, "extra")}
        given = {*mine, *self.extra_options} - ({"tier"} if self.tier is None else set())
        return Options(
            **values,
            extra=canonical_json(extra) if extra else None,
            unset=tuple(sorted({*self.unset, *other.unset} - given)),
            strict_options=self.strict_options or other.strict_options,
        )


def options_from(named: Mapping[str, Any]) -> Options:
    """Make options of the values that a user writes.

    ``"unset"`` takes an option away. `stop` is a text or several. `options` has a vendor's own, whose names may also be
    those of our own options (`temperature`), which then are taken as ours.

    Args:
        named: Values by name; None means: not given.

    Raises:
        OptionError: A value outside its range or of the wrong type, an option given twice, or a name in `options` that
            is not an option (`model`, `messages`).
    """
    values = {name: value for name, value in named.items() if name != "options" and value is not None}
    extra = json_options(named["options"]) if named.get("options") is not None else {}
    for name in list(extra):
        if name in _NOT_OPTIONS:
            raise OptionError(f"{name!r} cannot be set with -O or options: {_NOT_OPTIONS[name]}.")
        own = _ALIASES.get(name, name)
        # An object is OpenRouter's own `reasoning`.
        if own not in OPTION_NAMES or isinstance(extra[name], dict):
            continue
        if own in values:
            raise OptionError(f"{own} is given twice: once as {own}, and as {name} in options (-O). Leave one out.")
        values[own] = extra.pop(name)
    # A value may be an array, whose comparison is no bool.
    unset = [name for name, value in (values | extra).items() if isinstance(value, str) and value == UNSET]
    values = {name: value for name, value in values.items() if name not in unset}
    extra = {name: value for name, value in extra.items() if name not in unset}
    if "stop" in values:
        stop = values["stop"]
        if not isinstance(stop, Iterable):
            raise OptionError(f"stop must be a text or a list of texts, not {stop!r}.")
        values["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
    return Options(**values, extra=canonical_json(extra) if extra else None, unset=tuple(sorted(unset)))


OPTION_NAMES = tuple(
    f.name for f in dataclasses.fields(Options) if f.name not in ("schema", "extra", "unset", "strict_options")
)
_CALL_NAMES = ("model", "base_url", "proxy", "allow_not_working", "timeout", "system", "strict_options")
# How the text of a setting becomes the value of an option.
OPTION_TYPES: dict[str, Callable[[str], Any]] = {
    "temperature": float,
    "top_p": float,
    "max_tokens": int,
    "presence_penalty": float,
    "frequency_penalty": float,
    "stop": str,
    "seed": int,
    "reasoning": str,
    "tier": str,
    "options": parse_options,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """Options of one call. What is empty or None is left to the settings.

    Attributes:
        options: Sampling options.
        system: System message.
        model: ``provider/model`` or an alias.
        base_url: Address of the server.
        proxy: URL of a proxy.
        timeout_s: Longest time of one attempt, in seconds.
        strict_options: Fail when the server refuses an option; None: as the settings say.
        allow_not_working: Use a provider although it is known not to work.
        is_dry: Whether nothing will be sent, so that no key is needed.
    """

    options: Options = field(default_factory=Options)
    system: str = ""
    model: str = ""
    base_url: str = ""
    proxy: str = field(default="", repr=False)
    timeout_s: float | None = None
    strict_options: bool | None = None
    allow_not_working: bool = False
    is_dry: bool = False

    def __post_init__(self) -> None:
        """Check that texts are texts.

        Raises:
            OptionError: The value of a keyword is of the wrong type.
        """
        for name in ("system", "model", "base_url", "proxy"):
            if not isinstance(value := getattr(self, name), str):
                raise OptionError(f"{name} must be a text, not {shorten(repr(value), 60)}.")
        if not isinstance(self.strict_options, bool | None):
            raise OptionError(f"strict_options must be True or False, not {shorten(repr(self.strict_options), 60)}.")

    @classmethod
    def from_keywords(cls, keywords: Mapping[str, Any]) -> CallOptions:
        """Make options from the keywords of `ask` and similar functions; None means: not given.

        Raises:
            UnknownNameError: An unknown keyword; the message names the nearest.
            OptionError: A value outside its range, or of the wrong type.
        """
        known = (*OPTION_NAMES, "options", *_CALL_NAMES)
        for name in keywords:
            if name not in known:
                raise UnknownNameError(f"There is no option {name!r}.{did_you_mean(name, known)}")
        given = {name: value for name, value in keywords.items() if value is not None}
        options = options_from({name: given.pop(name) for name in (*OPTION_NAMES, "options") if name in given})
        if "timeout" in given:
            given["timeout_s"] = given.pop("timeout")
        return cls(options=options, **given)

    def keywords(self) -> dict[str, Any]:
        """Return the keywords that make this value; only those that were given."""
        names = ("model", "base_url", "proxy", "system", "allow_not_working")
        plain = {name: value for name in names if (value := getattr(self, name))}
        timeout = {} if self.timeout_s is None else {"timeout": self.timeout_s}
        strict = {} if self.strict_options is None else {"strict_options": self.strict_options}
        return {**self.options.keywords(), **plain, **timeout, **strict}
