"""Notices for the user: what was cut of a reply or a prompt, and what to know of a model before its first reply.

Where no view shows a reply, as in scripts, `say_line` says them.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
import threading
from typing import Protocol

from ..core.messages import ChatRequest, Message, Reply, estimate_tokens
from ..providers.base import AsyncProvider
from ..text.characters import is_blank
from ..text.front_end import is_kernel_stream
from ..text.terminal import write_stdout
from ..text.wrap import wrapped

# Without a handler, Python writes warnings of a logger to the error stream, each as a line.
_log = logging.getLogger("aichat_magic")
# Fits into a narrow notebook.
_WIDTH = 72
_LESS = "begin again with --new, or send less history: %aichat set max_history_tokens N"
# Sizes of contexts are multiples of this: llama.cpp rounds them up (`llama_context`, 2026-11), and the defaults of the
# other servers are. A server may stop a token or two earlier.
_CONTEXT_STEP = 256
_CONTEXT_SLACK = 2
# Nearly all contexts that users choose are multiples of this; a whole prompt has such a size by chance in one of 1,000.
_COMMON_STEP = 1024
# English text has up to this many estimated tokens for each that the model counts.
_PLAINLY_MORE = 1.15
# No tokenizer puts so many bytes of text into a token.
_MOST_BYTES_PER_TOKEN = 8
_LARGER_CONTEXT = {
    "ollama": "OLLAMA_CONTEXT_LENGTH=16384 ollama serve",
    "llamacpp": "llama-server -c 16384",
    "vllm": "vllm serve --max-model-len N",
}


class SentCall(Protocol):
    """A call, as far as notices need it."""

    @property
    def provider(self) -> AsyncProvider:
        """Return the provider that gets the request."""

    @property
    def request(self) -> ChatRequest:
        """Return the request."""

    @property
    def model(self) -> str:
        """Return ``provider/model``."""

    @property
    def is_at_home(self) -> bool | None:
        """Tell whether the address is the provider's own server."""


def noticed(reply: Reply, call: SentCall) -> Reply:
    """Return a reply with its notice, if there is something to notice.

    Args:
        reply: A whole reply.
        call: Its call.
    """
    notice = "; ".join(filter(None, (cut_notice(reply, call), prompt_notice(reply, call))))
    return dataclasses.replace(reply, notice=notice) if notice else reply


def cut_notice(reply: Reply, call: SentCall) -> str:
    """Return why a reply was cut that `max_tokens` did not cut, and what to do; empty for any other reply."""
    if is_blank(reply.text) or not _is_cut_by_another(reply, call):
        return ""
    provider, read, written = call.provider, reply.usage.input_tokens, reply.usage.output_tokens
    default = provider.reply_tokens(call.request.model) if call.request.options.max_tokens is None else None
    if default is not None and (written is None or written >= default):
        return (
            f"cut after {default:,} tokens, the most that {call.model} writes unless more are asked for: "
            f"--max-tokens N, or max_tokens=N"
        )
    if not _is_context_full(reply, call):
        return (
            f"cut{f' after {written:,} tokens' if written else ''} by a limit of {provider.name}'s own: set one with "
            f"--max-tokens N, or max_tokens=N; if its context is full, {_LESS}"
        )
    larger = _LARGER_CONTEXT.get(provider.name, "")
    or_larger = f", or give the server a larger one ({larger})" if larger else ""
    return (
        f"cut because the context of {call.model} is full, with {read:,} tokens of prompt and {written:,} of reply: "
        f"{_LESS}{or_larger}"
    )


def _is_cut_by_another(reply: Reply, call: SentCall) -> bool:
    """Tell whether something else than the `max_tokens` of the user cut a reply."""
    most, written = call.request.options.max_tokens, reply.usage.output_tokens
    return reply.finish_reason == "length" and (most is None or (written is not None and written < most))


def _is_context_full(reply: Reply, call: SentCall) -> bool:
    """Tell whether a reply was cut because no further token fits into the context, as far as can be known."""
    read, written = reply.usage.input_tokens, reply.usage.output_tokens
    if read is None or written is None or not _is_cut_by_another(reply, call):
        return False
    total, context = read + written, call.provider.context_tokens(call.request.model)
    if context is not None:
        return total >= context - _CONTEXT_SLACK
    # A server that limits replies, and not contexts, stops anywhere.
    return total >= _COMMON_STEP - _CONTEXT_SLACK and (total + _CONTEXT_SLACK) % _CONTEXT_STEP <= 2 * _CONTEXT_SLACK


def prompt_notice(reply: Reply, call: SentCall) -> str:
    """Return that a server has read less than was sent; empty if it has not, or that cannot be known.

    Servers on a user's own machine (Ollama, LM Studio) drop what does not fit into their context, and report success.
    The tokens that they have read show it: exactly as many as a context has, or far fewer than such a text can have.
    """
    provider, read = call.provider, reply.usage.input_tokens
    preset = provider.presets.get(provider.name)
    if not read or preset is None or (preset.needs_key and call.is_at_home):
        return ""
    messages = call.request.messages
    n_bytes = sum(len(message.content.encode("utf-8", "replace")) for message in messages)
    sent = estimate_tokens(Message("user", message.content) for message in messages)
    is_full = read % _COMMON_STEP == 0 and sent > _PLAINLY_MORE * read
    is_short = sent > _COMMON_STEP and n_bytes > _MOST_BYTES_PER_TOKEN * read
    if not is_full and not is_short:
        return ""
    larger = _LARGER_CONTEXT.get(provider.name, "")
    return (
        f"{provider.name} has read only {read:,} of about {sent:,} tokens and dropped the others without a word: its "
        f"context is full. Give it a larger one{f' ({larger})' if larger else ''}, or {_LESS}"
    )


class ContextSizes:
    """The sizes of contexts, as far as replies that filled one have shown them."""

    def __init__(self) -> None:
        """Begin with none."""
        self._learned: dict[tuple[str, str], int] = {}

    def learn(self, reply: Reply, call: SentCall) -> None:
        """Keep the size of a context that a reply has filled.

        It is counted as `estimate_tokens` counts, so that a later estimate of as many tokens is known to be too many,
        however far the estimate is from what the model's tokenizer makes of such text.
        """
        read, written = reply.usage.input_tokens, reply.usage.output_tokens
        if _is_context_full(reply, call) and read is not None and written is not None:
            estimate = estimate_tokens((*call.request.messages, Message("assistant", reply.text)))
            self._learned[self._key(call)] = min(read + written, estimate)

    def size(self, call: SentCall) -> int | None:
        """Return the tokens that prompt and reply of a call may have together, or None if that is not known."""
        known = (call.provider.context_tokens(call.request.model), self._learned.get(self._key(call)))
        return min((size for size in known if size is not None), default=None)

    @staticmethod
    def _key(call: SentCall) -> tuple[str, str]:
        """Return what tells two models apart: a server's address, and a name."""
        return call.provider.endpoint.base_url, call.model


class Introductions:
    """The lines about models that a process has shown, so that each is shown once."""

    def __init__(self) -> None:
        """Begin with none."""
        self._shown: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def line(self, call: SentCall, *, is_relied_on: bool = False) -> str:
        """Return what to know of the model of a call; empty if it was returned before, or there is nothing.

        Args:
            call: The call.
            is_relied_on: Whether the reply is code, a table or values, which somebody may use without reading them.
        """
        introduction = call.provider.introduction(call.request.model)
        if not introduction or not self.is_first(call, "relied on" if is_relied_on else "known"):
            return ""
        self.is_first(call, "known")  # the longer line holds the shorter one
        warning = " Do not rely on its code, its tables or the values that it extracts." if is_relied_on else ""
        choice = '%aichat use PROVIDER/MODEL, or model="PROVIDER/MODEL" in Python.'
        return f"{introduction}{warning} To choose another: {choice}"

    def is_first(self, call: SentCall, kind: str) -> bool:
        """Tell whether this kind of line has not been shown for the model of a call, and count it as shown."""
        with self._lock:
            is_first = (call.model, kind) not in self._shown
            self._shown.add((call.model, kind))
            return is_first


def say_line(line: str) -> None:
    """Log a line for a user; in a kernel, write it to the output, because notebooks show logs like errors."""
    if is_kernel_stream(sys.stdout):
        write_stdout(f"{wrapped(line, _WIDTH)}\n")
    else:
        _log.warning(line)
