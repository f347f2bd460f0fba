"""A reply as HTML and as plain text: its text, and a line about it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from .characters import is_blank, printable_line, terminal_text
from .html_parts import fold_html, output_html, small_html, warning_html
from .markdown import markdown_html
from .numbers import money

_CLOSING_TAGS = re.compile(r"(?:</[a-z0-9]+>\s*)+\Z")
# While thinking grows, its newest part is shown, so that the page does not run away; and a saved notebook keeps no more
# of it than this.
_GROWING_CHARS = 2_000
_MOST_CHARS = 50_000
_FINISH_MARKS = {
    "length": "cut by max_tokens",
    "content_filter": "stopped by the provider's content filter",
    "refusal": "refused",
    "interrupted": "interrupted",
    "truncated": "broke off before its end",
}


class UsageToShow(Protocol):
    """The tokens and the cost of a reply, as far as they are shown."""

    @property
    def input_tokens(self) -> int | None:
        """Return the tokens of the messages sent."""

    @property
    def output_tokens(self) -> int | None:
        """Return the tokens of the reply."""

    @property
    def details(self) -> str:
        """Return the tokens that are a part of the others, in words: cached, written to the cache, thinking."""

    @property
    def cost_usd(self) -> float | None:
        """Return the cost in US dollars."""

    @property
    def reasoning_tokens(self) -> int | None:
        """Return the tokens of its thinking."""


class ReplyToShow(Protocol):
    """Any reply, as far as it is shown."""

    @property
    def text(self) -> str:
        """Return the text."""

    @property
    def thinking(self) -> str:
        """Return the thinking, which is no part of the text."""

    @property
    def model(self) -> str:
        """Return the ``provider/model`` that answered."""

    @property
    def model_version(self) -> str:
        """Return the model's name as the server resolved it; empty if unknown."""

    @property
    def usage(self) -> UsageToShow:
        """Return its tokens and cost."""

    @property
    def finish_reason(self) -> str:
        """Return why it ended."""

    @property
    def elapsed_s(self) -> float:
        """Return the seconds from sending to the last byte."""

    @property
    def notice(self) -> str:
        """Return what was cut other than by `max_tokens`, and what to do."""


def reply_html(
    text: str,
    *,
    header: Sequence[str] = (),
    fold: str = "",
    footer: str = "",
    mark: str = "",
    is_growing: bool = False,
) -> str:
    """Convert a reply, whole or growing, to safe HTML.

    Args:
        text: The text of the reply, as Markdown.
        header: Lines above it, as plain text.
        fold: HTML of its thinking, shown between header and text.
        footer: A line below it, as plain text.
        mark: What is wrong with the reply, in a few words; shown as a warning above the footer.
        is_growing: Whether a cursor is shown at its end.

    Returns:
        An HTML ``div``.
    """
    body = markdown_html(text) if text else ""
    if is_growing:
        tail = _CLOSING_TAGS.search(body)
        at = tail.start() if tail else len(body)
        body = f"{body[:at]}▍{body[at:]}"
    if mark:
        body += warning_html(mark)
    if footer:
        body += small_html(footer)
    return output_html("".join(map(small_html, header)) + fold + body, "aichat-reply ")


def growing_thinking_html(thinking: str) -> str:
    """Return thinking that grows, before there is any text, as an open block with its newest part."""
    newest = thinking[-_GROWING_CHARS:]
    if len(newest) < len(thinking):
        newest = f"… {newest.partition(' ')[2] or newest}"
    return fold_html("Thinking …", markdown_html(newest), is_open=True)


def folded_thinking_html(thinking: str, tokens: int | None = None, *, is_growing: bool = False) -> str:
    """Return finished thinking as a folded block; empty if there is none.

    Args:
        thinking: The thinking, as Markdown.
        tokens: Its tokens, where they are known.
        is_growing: Whether the text below still grows. Then the block has no content: each update would send it again.
    """
    if is_blank(thinking):
        return ""
    label = f"Thinking ({tokens:,} tokens)" if tokens else "Thinking"
    if is_growing:
        return fold_html(label, "")
    body = markdown_html(thinking[:_MOST_CHARS])
    if (left := len(thinking) - _MOST_CHARS) > 0:
        body += small_html(f"… {left:,} more characters are in the reply's thinking.")
    return fold_html(label, body)


def reply_bundle(reply: ReplyToShow, *, header: Sequence[str] = (), note: str = "") -> dict[str, str]:
    """Return a finished reply as IPython displays it.

    Args:
        reply: The reply.
        header: Lines above it.
        note: What is wrong with it; default: its notice, or `finish_mark`.

    Returns:
        ``text/html``, with the thinking folded above the text and a line about the reply below it, and ``text/plain``,
        which has no thinking.
    """
    note = note or reply.notice
    mark = note or finish_mark(reply)
    return {
        "text/plain": terminal_text("\n".join([*header, reply.text, *([f"[{note}]"] if note else [])])),
        "text/html": reply_html(
            reply.text,
            header=header,
            fold=folded_thinking_html(reply.thinking, reply.usage.reasoning_tokens),
            footer=" · ".join(_facts(reply)),
            mark=mark,
        ),
    }


def finish_mark(reply: ReplyToShow) -> str:
    """Return why a reply is not whole, in a few words; empty when it is."""
    if reply.notice and reply.finish_reason == "length":
        return "cut off"  # by something else, as the notice says
    return _FINISH_MARKS.get(reply.finish_reason, "")


def summary_line(reply: ReplyToShow) -> str:
    """Describe a reply in one line: ``local/smollm2-135m · 31 + 54 tokens · 0.9 s``. What is not known is left out."""
    return " · ".join(filter(None, [*_facts(reply), finish_mark(reply)])) or "a reply"


def _facts(reply: ReplyToShow) -> list[str]:
    """List model, tokens, cost and time of a reply, as far as they are known."""
    usage = reply.usage
    facts = [printable_line(f"{reply.model}{_other_version(reply)}")] if reply.model else []
    details = f" ({usage.details})" if usage.details else ""
    if usage.input_tokens is not None and usage.output_tokens is not None:
        facts.append(f"{usage.input_tokens:,} + {usage.output_tokens:,} tokens{details}")
    elif usage.input_tokens is not None or usage.output_tokens is not None:
        kind = "tokens" if usage.input_tokens is None else "input tokens"
        count = usage.output_tokens if usage.input_tokens is None else usage.input_tokens
        facts.append(f"{count:,} {kind}{details}")
    if usage.cost_usd is not None:
        facts.append(money(usage.cost_usd))
    if reply.elapsed_s > 0:
        facts.append(f"{reply.elapsed_s:.1f} s")
    return facts


def _other_version(reply: ReplyToShow) -> str:
    """Return the version that the server chose, in parentheses; empty if it is unknown or the name asked for."""
    version, asked = reply.model_version, reply.model.partition("/")[2]
    # Gemini and Fireworks put a path before the name: models/gemini-2.5-flash.
    if not version or version == asked or version.endswith(f"/{asked}"):
        return ""
    return f" ({version.removeprefix(f'{asked} ')})"
