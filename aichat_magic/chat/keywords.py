"""The keywords of `ask`, `batch` and the columns, with their types: what editors offer and type checkers check."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    pass


class CallKeywords(TypedDict, total=False):
    """What one request is, beside its prompt. What is left out, or None, is left to the settings.

    Keys:
        model: ``provider/model`` or an alias.
        base_url: Address of another server that speaks OpenAI's dialect.
        system: System message.
        temperature: 0 (always the likeliest token) to 2.
        top_p: Nucleus sampling, 0 to 1.
        max_tokens: Longest reply, in tokens, >= 1.
        presence_penalty: -2 to 2.
        frequency_penalty: -2 to 2.
        stop: Text or texts that end the reply when they appear.
        seed: For servers that can repeat a reply.
        timeout: Longest time of one attempt, in seconds.
        proxy: http, https, socks5 or socks5h URL.
        allow_not_working: Use a provider although it is known not to work.
    """

    model: str | None
    base_url: str | None
    system: str | None
    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    presence_penalty: float | None
    frequency_penalty: float | None
    stop: str | Iterable[str] | None
    seed: int | None
    timeout: float | None
    proxy: str | None
    allow_not_working: bool | None
