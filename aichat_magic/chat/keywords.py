"""The keywords of one call, with their types: documented here, and shown everywhere from here."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from inspect import cleandoc
from typing import Any, Literal, TypedDict, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., Any])
_KEYWORD = re.compile(r" {4}(\w+): (.*)")
_PLACE = re.compile(r"^( *)\{keywords\}$", re.MULTILINE)
_WIDTH = 110


class CallKeywords(TypedDict, total=False):
    """The keywords of one call, beside its prompt. What is left out or None comes from the settings.

    Keys:
        model: ``provider/model`` or an alias.
        base_url: Address of another server that speaks the OpenAI dialect.
        system: System message.
        temperature: Randomness, from 0 (always the likeliest token) to 2.
        top_p: Nucleus sampling: choose among the likeliest tokens that have this probability together, 0 to 1.
        max_tokens: Longest reply, in tokens, >= 1.
        presence_penalty: Penalty for tokens that have appeared at all, -2 to 2.
        frequency_penalty: Penalty for tokens that have appeared often, -2 to 2.
        stop: Text or texts that end the reply where they appear.
        seed: Whole number for servers that can repeat a reply.
        reasoning: How much the model thinks before it answers: ``"none"``, ``"minimal"``, ``"low"``, ``"medium"``,
            ``"high"`` or ``"max"``. Each provider gets its own words for it; a level that it lacks becomes the nearest,
            with a warning.
        tier: Service tier: ``"auto"``, ``"flex"`` (slower, mostly at half the price), ``"priority"`` or
            ``"flex,auto"`` (flex, and the normal tier where flex has no capacity).
        options: The vendor's own options, a dict such as ``{"top_k": 40}``: merged into the request last. Any option,
            here or above, may be ``"unset"``: it is not sent, whatever the settings say.
        strict_options: True: fail when the server refuses an option. False: send the request again without it, and say
            so. Default: as in the settings (False).
        timeout: Longest time of one attempt, in seconds.
        proxy: Proxy URL: http, https, socks5 or socks5h.
        allow_not_working: Use a provider even if it is known not to work.
    """

    model: str | None
    base_url: str | None
    system: str | None
    temperature: float | Literal["unset"] | None
    top_p: float | Literal["unset"] | None
    max_tokens: int | Literal["unset"] | None
    presence_penalty: float | Literal["unset"] | None
    frequency_penalty: float | Literal["unset"] | None
    stop: str | Iterable[str] | None
    seed: int | Literal["unset"] | None
    reasoning: Literal["none", "minimal", "low", "medium", "high", "max", "unset"] | None
    tier: Literal["auto", "flex", "priority", "flex,auto", "unset"] | None
    options: Mapping[str, Any] | None
    strict_options: bool | None
    timeout: float | None
    proxy: str | None
    allow_not_working: bool | None


def keyword_docs(kind: type) -> dict[str, str]:
    """Return the description of each keyword, read from the "Keys:" section of a class docstring.

    Args:
        kind: A `TypedDict` of keywords, such as `CallKeywords`. Keywords it inherits are not included: the docstring of
            their own class describes them.

    Returns:
        Descriptions by keyword, in the order of the docstring, each as one line; empty without such a section, for
        example when Python runs with ``-OO``.
    """
    _, _, section = cleandoc(kind.__doc__ or "").partition("\nKeys:\n")
    docs: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if line and not line.startswith(" "):
            break
        if match := _KEYWORD.fullmatch(line):
            name = match[1]
            docs[name] = match[2]
        elif name and line.strip():
            docs[name] += f" {line.strip()}"
    return docs


def document_keywords(*kinds: type) -> Callable[[_Function], _Function]:
    """Decorate a function: put the keywords of `kinds` where its docstring has a line ``{keywords}``."""
    docs = {name: text for kind in kinds for name, text in keyword_docs(kind).items()}

    def fill(place: re.Match[str]) -> str:
        indent = place[1]
        lines = (
            textwrap.fill(f"{name}: {text}", _WIDTH, initial_indent=indent, subsequent_indent=f"{indent}    ")
            for name, text in docs.items()
        )
        return "\n".join(lines)

    def decorate(function: _Function) -> _Function:
        if function.__doc__:
            function.__doc__ = _PLACE.sub(fill, function.__doc__)
        return function

    return decorate
