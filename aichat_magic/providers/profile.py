"""Profile of a model: the options and modes it takes, from the preset and then from the server's own refusals.

The request's body is written as the user asked for it; `ModelProfile.fitted` then leaves out or renames what the server
has refused, and `learning` makes a new profile of a refusal. All profiles of a process are in one
`ModelProfiles`, which belongs to the registry.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

SchemaMode = Literal["json_schema", "plain_json_schema", "json_object", "words"]
ThinkingForm = Literal["adaptive", "enabled"]

# Ways to ask for a schema, the best first.
SCHEMA_MODES: tuple[SchemaMode, ...] = ("json_schema", "plain_json_schema", "json_object", "words")
# Without these there is no request, or, at another tier, one at another price.
NEEDED = frozenset(("model", "messages", "system", "service_tier"))
# Names of the limit on the reply's tokens; a server that refuses one takes the other.
_TOKEN_LIMITS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
# Anthropic's budgets of thinking, in tokens, for its efforts: the guide "Extended thinking" wants 1,024 at least, and
# less than `max_tokens` (read 2026-11).
_BUDGETS = {"low": 2048, "medium": 8192, "high": 16_384}
_MAX_BUDGET = 32_768
_MIN_BUDGET = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A field of the body that the server has refused.

    Attributes:
        name: Its name, with a dot before a field of a field: ``output_config.effort``.
        value: The only value that is refused, as JSON; empty: any value.
        beside: The field beside which alone it is refused; empty: it is refused always.
    """

    name: str
    value: str = ""
    beside: str = ""

    def applies_to(self, body: Mapping[str, Any]) -> bool:
        """Tell whether a body has the field as it is refused."""
        found = found_in(body, self.name)
        return (
            found is not None
            and (not self.value or as_json(found) == self.value)
            and (not self.beside or self.beside in body)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProfile:
    """The options and modes that a model takes.

    Attributes:
        refused: What the server has refused and is not sent.
        renamed: Fields that are sent under another name, each with that name.
        schema_mode: Best way to ask for a schema that the server takes.
        schema_modes: The same for single schemas, by their text, where it is another one.
        thinking_form: Form of Anthropic's `thinking` that the model takes; None: as the request writes it.
    """

    refused: frozenset[Refusal] = frozenset()
    renamed: tuple[tuple[str, str], ...] = ()
    schema_mode: SchemaMode = "json_schema"
    schema_modes: tuple[tuple[str, SchemaMode], ...] = field(default=(), repr=False)
    thinking_form: ThinkingForm | None = None

    @property
    def streams(self) -> bool:
        """Tell whether the server streams."""
        return all(refusal.name != "stream" for refusal in self.refused)

    def mode_of(self, schema: str) -> SchemaMode:
        """Return the best way to ask for a schema.

        Args:
            schema: The text of `Options.schema`.
        """
        return worse(self.schema_mode, dict(self.schema_modes).get(schema, self.schema_mode))

    def fitted(self, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a body as the server takes it, and what was left out of it, by name. `body` stays as it is."""
        if self is PLAIN:
            return body, {}
        fitted = dict(body)
        for name, other in self.renamed:
            if name in fitted:
                fitted[other] = fitted.pop(name)
        left_out: dict[str, Any] = {}
        if self.thinking_form is not None:
            left_out |= _in_thinking_form(fitted, self.thinking_form)
        for refusal in sorted(self.refused, key=lambda refusal: (refusal.beside, refusal.name)):
            if refusal.applies_to(fitted):
                left_out[refusal.name] = without(fitted, refusal.name)
        return fitted, left_out


PLAIN = ModelProfile()

# Presets by the provider's name (their API references, read 2026-11). What is missing here is learned.
PROFILES: Mapping[str, ModelProfile] = MappingProxyType(
    {
        "deepseek": ModelProfile(schema_mode="json_object"),
        # It reports the usage anyway, and rejects fields that it does not know.
        "mistral": ModelProfile(refused=frozenset({Refusal(name="stream_options")})),
        "moonshot": ModelProfile(schema_mode="json_object"),
        "zai": ModelProfile(schema_mode="json_object"),
    }
)


class ModelProfiles:
    """The profiles that were learned, by address and model. It may be used by several threads."""

    def __init__(self) -> None:
        """Begin with none."""
        self._learned: dict[tuple[str, str], ModelProfile] = {}
        self._lock = threading.Lock()

    def of(self, provider: str, base_url: str, model: str) -> ModelProfile:
        """Return the profile of a model: the learned one, or that of the provider's preset.

        Args:
            provider: Name of the provider.
            base_url: Address of the server.
            model: The model's name there.
        """
        return self._learned.get((base_url, model)) or PROFILES.get(provider, PLAIN)

    def learn(self, provider: str, base_url: str, model: str, profile: ModelProfile) -> None:
        """Add what one request has learned to what others have learned meanwhile."""
        with self._lock:
            self._learned[base_url, model] = merged(self.of(provider, base_url, model), profile)


def merged(profile: ModelProfile, other: ModelProfile) -> ModelProfile:
    """Return what two profiles of one model know together; where they differ, the other one counts."""
    modes = dict(profile.schema_modes)
    for schema, mode in other.schema_modes:
        modes[schema] = worse(mode, modes.get(schema, mode))
    return ModelProfile(
        refused=profile.refused | other.refused,
        renamed=tuple({**dict(profile.renamed), **dict(other.renamed)}.items()),
        schema_mode=worse(profile.schema_mode, other.schema_mode),
        schema_modes=tuple(modes.items()),
        thinking_form=other.thinking_form or profile.thinking_form,
    )


def worse(mode: SchemaMode, other: SchemaMode) -> SchemaMode:
    """Return the worse of two ways to ask for a schema."""
    return max(mode, other, key=SCHEMA_MODES.index)


def renamed(profile: ModelProfile, name: str, instead: str | None) -> ModelProfile | None:
    """Return a profile that sends a field under another name.

    Args:
        profile: The profile so far.
        name: The field that the server refuses.
        instead: The name that the server wants, if it says so.

    Returns:
        The profile; None if there is no other name, or the server has refused that one, too.
    """
    known = dict(profile.renamed)
    other = instead or _TOKEN_LIMITS.get(name)
    if other is None or other in known or name in known.values():
        return None
    return dataclasses.replace(profile, renamed=(*profile.renamed, (name, other)))


def as_json(value: Any) -> str:
    """Return a value of a body in one form for equal values."""
    return json.dumps(value, sort_keys=True)


def found_in(body: Mapping[str, Any], name: str) -> Any:
    """Return the value of a field, or of a field of a field (``output_config.effort``); None if it is not there."""
    if "." not in name:
        return body.get(name)
    outer, _, inner = name.partition(".")
    value = body.get(outer)
    return value.get(inner) if isinstance(value, Mapping) else None


def without(body: dict[str, Any], name: str) -> Any:
    """Remove a field, or a field of a field, from a body of one's own, and return its value."""
    outer, _, inner = name.partition(".")
    if not inner:
        return body.pop(outer)
    rest = dict(body.pop(outer))
    value = rest.pop(inner)
    if rest:
        body[outer] = rest
    return value


def _in_thinking_form(body: dict[str, Any], form: ThinkingForm) -> dict[str, Any]:
    """Write Anthropic's thinking of a body in another form. Return what had to be left out for it, by name."""
    thinking = body.get("thinking")
    if not isinstance(thinking, Mapping) or thinking.get("type") not in ("adaptive", "enabled"):
        return {}
    if thinking["type"] == form:
        return {}
    if form == "adaptive":
        tokens = thinking.get("budget_tokens", _BUDGETS["high"])
        effort = next((name for name, budget in _BUDGETS.items() if tokens <= budget), "max")
        # Without `display` newer models do not show what they think.
        body["thinking"] = {"type": "adaptive", "display": "summarized"}
        body["output_config"] = {"effort": effort, **body.get("output_config", {})}
        return {}
    effort = found_in(body, "output_config.effort")
    if effort is not None:
        without(body, "output_config.effort")
    wanted = _BUDGETS.get(effort or "high", _MAX_BUDGET)
    budget = min(wanted, body.get("max_tokens", wanted + 1) - 1)
    if budget < _MIN_BUDGET:
        return {"thinking": without(body, "thinking")}
    body["thinking"] = {"type": "enabled", "budget_tokens": budget}
    return {}
