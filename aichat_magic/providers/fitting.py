"""One request as its server takes it: written, sent again after a refusal, and what was changed told to the user."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.errors import BadRequestError, OptionError
from ..core.messages import ChatRequest, Message
from ..core.options import Options
from ..schema.modes import instructions, plain_schema
from ..text.words import shorten
from .learning import learned_profile
from .profile import PLAIN, PROFILES, ModelProfile, ModelProfiles, SchemaMode, ThinkingForm, merged, worse

# A request is sent again so many times at most.
_MAX_RESENT = 4
# Fields that no user has asked for.
_OURS = ("stream", "stream_options", "response_format")
# The user's names of options that have another name on the wire.
_USERS_NAMES: Mapping[str, str] = {
    **dict.fromkeys(("max_completion_tokens", "max_output_tokens"), "max_tokens"),
    **dict.fromkeys(
        ("thinking", "think", "output_config.effort", "reasoning_effort", "enable_thinking", "chat_template_kwargs"),
        "reasoning",
    ),
    "stop_sequences": "stop",
    "random_seed": "seed",
    "service_tier": "tier",
}
_ASKED_IN_WORDS = "JSON schemas (asked for in words; every answer is checked)"
_SCHEMA_WORDS: Mapping[SchemaMode, str] = {
    "plain_json_schema": "all words of this JSON schema (bounds and patterns are asked for in words; every answer is "
    "checked)",
    "json_object": _ASKED_IN_WORDS,
    "words": _ASKED_IN_WORDS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DialectRules:
    """The rules of a dialect that all requests to a server share.

    Attributes:
        provider: Name of the provider.
        base_url: Address of the server.
        modes: Returns the ways to ask for a schema that the dialect has, the best first.
        thinking_forms: Forms of Anthropic's `thinking` that the dialect has.
        write: Writes the body as the user asked for it: ``write(fitting, is_streamed=False)``.
    """

    provider: str
    base_url: str
    modes: Callable[[str | None], tuple[SchemaMode, ...]]
    thinking_forms: tuple[ThinkingForm, ...]
    write: Callable[..., dict[str, Any]]


class Fitting:
    """One request under the profile of its model.

    Attributes:
        request: The request, as the user asked for it.
        options: Its options without the schema, which is asked for in the way of `schema_mode`.
        schema_mode: The way in which the schema is asked for; None without a schema.
        wants_stream: Whether the caller wants the reply in pieces.
    """

    __slots__ = (
        "_body",
        "_is_kept",
        "_left_out",
        "_n_learned",
        "_profile",
        "_profiles",
        "_rules",
        "_written",
        "options",
        "request",
        "schema_mode",
        "wants_stream",
    )

    def __init__(
        self, request: ChatRequest, rules: DialectRules, profiles: ModelProfiles, *, wants_stream: bool = False
    ) -> None:
        """Begin with what is known of the model.

        Args:
            request: The request, as the user asked for it.
            rules: The rules of the dialect.
            profiles: What was learned so far.
            wants_stream: Whether the caller wants the reply in pieces.
        """
        self.request = request
        self.options = request.options if request.options.schema is None else _without_schema(request.options)
        self.wants_stream = wants_stream
        self._rules = rules
        self._profiles = profiles
        self._use(profiles.of(rules.provider, rules.base_url, request.model))
        self._written: dict[str, Any] = {}
        self._body: dict[str, Any] = {}
        self._left_out: dict[str, Any] = {}
        self._n_learned = 0
        self._is_kept = True

    @property
    def _place(self) -> tuple[str, str, str]:
        """Return provider, address and model."""
        return self._rules.provider, self._rules.base_url, self.request.model

    @property
    def _modes(self) -> tuple[SchemaMode, ...]:
        """Return the ways to ask for the schema, the best first."""
        return self._rules.modes(self.request.options.schema)

    @property
    def streams(self) -> bool:
        """Tell whether the server streams."""
        return self._profile.streams

    def _use(self, profile: ModelProfile) -> None:
        """Go on with a profile."""
        schema = self.request.options.schema
        self._profile = profile
        self.schema_mode = None if schema is None else _first(self._modes, profile.mode_of(schema))

    @property
    def messages(self) -> tuple[Message, ...]:
        """Return the messages, with the schema in words where the server is not held to it.

        The words are at the end of the system message, which all rows of a run share.
        """
        messages, schema = self.request.messages, self.request.options.schema
        if schema is None or self.schema_mode not in ("json_object", "words"):
            return messages
        _, words = _asked_for(schema, self.schema_mode)
        if messages[0].role != "system":
            return (Message("system", words), *messages)
        return (Message("system", f"{messages[0].content}\n\n{words}"), *messages[1:])

    def json_schema(self) -> dict[str, Any] | None:
        """Return the schema that the server is to be held to, with `name` and `strict`; None where it is not."""
        schema, mode = self.request.options.schema, self.schema_mode
        if schema is None or mode is None or mode in ("json_object", "words"):
            return None
        return _asked_for(schema, mode)[0]

    def body(self, *, is_streamed: bool) -> dict[str, Any]:
        """Return the body to send.

        Raises:
            OptionError: An option of the user would be left out, and `strict_options` is set.
        """
        self._written = self._rules.write(self, is_streamed=is_streamed)
        self._body, self._left_out = self._profile.fitted(self._written)
        if self._left_out and self.request.options.strict_options and (lost := self._lost(self._left_out)):
            raise OptionError(
                f"{self._model} does not take {', '.join(lost)}, and strict_options is set: nothing was sent. Leave "
                f"it out, or choose another model."
            )
        return self._body

    def learn(self, error: BadRequestError) -> None:
        """Change the profile so that the request can be sent again, or raise the error.

        Raises:
            BadRequestError: `error`: nothing can be learned from it, the request was sent again often enough, or an
                option of the user would be left out and `strict_options` is set.
        """
        profile = learned_profile(
            self._profile,
            error,
            self._body,
            schema=self.request.options.schema,
            mode=self.schema_mode,
            modes=self._modes,
            thinking_forms=self._rules.thinking_forms,
        )
        self._n_learned += 1
        if profile is None or self._n_learned > _MAX_RESENT:
            raise error
        if self.request.options.strict_options and self._lost(profile.fitted(self._written)[1]):
            error.args = (f"{error} It was not left out, because strict_options is set.", *error.args[1:])
            raise error
        # Other requests may have learned something meanwhile.
        self._use(merged(self._profiles.of(*self._place), profile))
        self._is_kept = False

    def keep(self) -> None:
        """Share what was learned: the server objects no more."""
        if not self._is_kept:
            self._profiles.learn(*self._place, self._profile)
            self._is_kept = True

    def remarks(self) -> tuple[str, ...]:
        """Return what was changed for the server, as one line for the user; nothing where nothing was."""
        preset = PROFILES.get(self._rules.provider, PLAIN)
        if self._profile is preset:
            return ()
        parts = [f"{lost} (left out)" for lost in self._lost(self._left_out)]
        names = dict(self._profile.renamed)
        parts += [f"{name} (sent as {names[name]})" for name in self._written if name in names]
        if self._is_new("stream_options", preset):
            parts.append("stream_options (streamed replies may come without token counts)")
        if self.wants_stream and not self.streams:
            parts.append("streaming (the reply comes as a whole)")
        if self._body.get("thinking") != self._written.get("thinking") and "thinking" in self._body:
            parts.append(f"this form of thinking (sent as {self._body['thinking'].get('type')})")
        schema, mode = self.request.options.schema, self.schema_mode
        if schema is not None and mode is not None and mode != _first(self._modes, preset.mode_of(schema)):
            parts.append(_SCHEMA_WORDS[mode])
        return (f"{self._model} does not take {', '.join(parts)}.",) if parts else ()

    @property
    def _model(self) -> str:
        """Return ``provider/model``."""
        return f"{self._rules.provider}/{self.request.model}"

    def _is_new(self, name: str, preset: ModelProfile) -> bool:
        """Tell whether a field was left out that the preset does not leave out."""
        return name in self._left_out and all(refusal.name != name for refusal in preset.refused)

    def _lost(self, left_out: Mapping[str, Any]) -> list[str]:
        """Return the user's options among the fields that are left out, as the user wrote them."""
        options = self.request.options
        extra = options.extra_options if options.extra else {}
        lost: dict[str, None] = {}
        for name, value in left_out.items():
            if name in _OURS and name not in extra:
                continue
            users = name if name in extra else _USERS_NAMES.get(name, name)
            value = getattr(options, users, None) if users not in extra else value
            lost[users if value is None else f"{users}={shorten(_as_text(value), 40)}"] = None
        return list(lost)


# Rows of a run share their options, and so what is made of them.
@functools.lru_cache(maxsize=16)
def _without_schema(options: Options) -> Options:
    """Return options without the schema."""
    return dataclasses.replace(options, schema=None)


@functools.lru_cache(maxsize=16)
def _asked_for(schema: str, mode: SchemaMode) -> tuple[dict[str, Any], str]:
    """Return a schema as it is asked for in a mode, with `name` and `strict`; and in words."""
    wire: dict[str, Any] = json.loads(schema)
    words = instructions(wire["schema"])
    return ({**wire, "schema": plain_schema(wire["schema"])} if mode == "plain_json_schema" else wire), words


def _first(modes: tuple[SchemaMode, ...], wanted: SchemaMode) -> SchemaMode:
    """Return the best of the modes that is not better than the wanted one."""
    return next((mode for mode in modes if worse(mode, wanted) == mode), modes[-1])


def _as_text(value: Any) -> str:
    """Return the value of an option as users write it."""
    return value if isinstance(value, str) else json.dumps(value)
