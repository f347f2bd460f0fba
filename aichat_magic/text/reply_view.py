"""How a reply shows itself: its text, and a line about it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html import escape
from typing import Protocol

from .markdown import _FOOTER, _ORANGE, _body_html, _one_line, _wrapped, terminal_text

_CLOSING_TAGS = re.compile(r"(?:</[a-z0-9]+>\s*)+\Z")
_FINISH_MARKS = {
    "length": "cut by max_tokens",
    "content_filter": "stopped by the provider's content filter",
    "refusal": "refused",
    "interrupted": "interrupted",
    "truncated": "broke off before its end",
}


class UsageToShow(Protocol):
    """The tokens and the cost of a reply."""

    @property
    def input_tokens(self) -> int | None:
        """Tokens of the messages sent."""

    @property
    def output_tokens(self) -> int | None:
        """Tokens of the reply."""

    @property
    def cost_usd(self) -> float | None:
        """Price in US dollars."""


class ReplyToShow(Protocol):
    """Any reply, as far as it is shown."""

    @property
    def text(self) -> str:
        """The text."""

    @property
    def model(self) -> str:
        """``provider/model`` that answered."""

    @property
    def usage(self) -> UsageToShow:
        """What it took."""

    @property
    def finish_reason(self) -> str:
        """Why it ended."""

    @property
    def elapsed_s(self) -> float:
        """Seconds from sending to the last byte."""


def reply_html(
    text: str, *, header: Sequence[str] = (), footer: str = "", mark: str = "", is_growing: bool = False
) -> str:
    """A reply, whole or growing, as safe HTML.

    Args:
        text: The text of the reply, as Markdown.
        header: Lines above it, as plain text.
        footer: A line below it, as plain text.
        mark: What is wrong with the reply, in a few words; stands out before the footer.
        is_growing: Whether a cursor is shown at its end.

    Returns:
        An HTML ``div``.
    """
    body = _body_html(text) if text else ""
    if is_growing:
        tail = _CLOSING_TAGS.search(body)
        at = tail.start() if tail else len(body)
        body = f"{body[:at]}▍{body[at:]}"
    if mark:
        body += (
            f'<div style="font-size:smaller"><strong style="color:{_ORANGE}">⚠ {escape(_one_line(mark))}</strong></div>'
        )
    if footer:
        body += f"{_FOOTER}{escape(_one_line(footer))}</div>"
    above = "".join(f"{_FOOTER}{escape(_one_line(line))}</div>" for line in header)
    return _wrapped(above + body, "aichat-reply ")


def reply_bundle(reply: ReplyToShow, *, header: Sequence[str] = (), note: str = "") -> dict[str, str]:
    """A finished reply for display.

    Args:
        reply: The reply.
        header: Lines above it.
        note: What is wrong with it; default: what its finish reason says.

    Returns:
        ``text/html``, with a line about the reply below it, and ``text/plain``.
    """
    mark = note or finish_mark(reply)
    return {
        "text/plain": terminal_text("\n".join([*header, reply.text, *([f"[{note}]"] if note else [])])),
        "text/html": reply_html(reply.text, header=header, footer=" · ".join(_facts(reply)), mark=mark),
    }


def finish_mark(reply: ReplyToShow) -> str:
    """What is missing of a reply, in a few words; empty when it came to its own end."""
    return _FINISH_MARKS.get(reply.finish_reason, "")


def summary_line(reply: ReplyToShow) -> str:
    """One line about a reply: ``local/smollm2-135m · 31 + 54 tokens · 0.9 s``. What is not known is left out."""
    return " · ".join(filter(None, [*_facts(reply), finish_mark(reply)])) or "a reply"


def _facts(reply: ReplyToShow) -> list[str]:
    """Model, tokens, cost and time of a reply, as far as they are known."""
    usage = reply.usage
    facts = [_one_line(reply.model)] if reply.model else []
    if usage.input_tokens is not None and usage.output_tokens is not None:
        facts.append(f"{usage.input_tokens:,} + {usage.output_tokens:,} tokens")
    elif usage.input_tokens is not None or usage.output_tokens is not None:
        kind = "tokens" if usage.input_tokens is None else "input tokens"
        facts.append(f"{usage.output_tokens if usage.input_tokens is None else usage.input_tokens:,} {kind}")
    if usage.cost_usd is not None:
        facts.append(money(usage.cost_usd))
    if reply.elapsed_s > 0:
        facts.append(f"{reply.elapsed_s:.1f} s")
    return facts


def money(cost_usd: float | None) -> str:
    """US dollars in words: ``$0.0012``, ``$3.20``, or ``unknown`` for None."""
    return "unknown" if cost_usd is None else f"${_decimals(cost_usd)}"


def _decimals(number: float) -> str:
    """A number with at least two significant digits, and no more than two decimals where these suffice."""
    if not number or not math.isfinite(number):
        return f"{number:g}"
    places = max(2, 1 - math.floor(math.log10(abs(number))))
    return f"{number:,.{min(places, 12)}f}"
