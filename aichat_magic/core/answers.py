"""The difference between a reply that answers and one that does not: cut off, filtered, refused or blank."""

from __future__ import annotations

from ..text.characters import is_blank
from ..text.words import shorten
from .errors import BlankReplyError, EmptyReplyError
from .messages import Reply
from .options import Options

_MAX_REFUSAL_CHARS = 200


def is_answer(reply: Reply) -> bool:
    """Tell whether a whole reply answers: a text that is cut off after some words does, a refusal does not."""
    return reply.finish_reason != "refusal" and not is_blank(reply.text)


def no_answer(reply: Reply, options: Options, provider: str = "") -> EmptyReplyError | None:
    """Return the error for a reply without an answer, or None for an answer.

    Args:
        reply: A whole reply.
        options: The sampling options of its request.
        provider: Name of the provider.

    Returns:
        The error, which names the cause and what to do. It is a `BlankReplyError` where the provider gives no cause, so
        that the same request may well be answered the next time.
    """
    if is_answer(reply):
        return None
    model = reply.model or "The model"
    if reply.finish_reason == "refusal":
        said = "" if is_blank(reply.text) else f" It said: {shorten(reply.text, _MAX_REFUSAL_CHARS)}"
        words = f"{model} refused to answer. Change the prompt, or choose another model.{said}"
    elif reply.finish_reason == "length":
        words = f"{model} was cut off before it wrote any text: {_length_advice(reply, options)}"
    elif reply.finish_reason == "content_filter":
        words = (
            f"The provider's content filter left nothing of the reply of {model}. Change the prompt, or choose another "
            f"model."
        )
    elif reply.finish_reason == "tool_calls":
        words = (
            f"{model} asked for a tool instead of answering, and none was offered. Ask it to answer in words, or "
            f"choose another model."
        )
    else:
        words = (
            f"{model} answered without any text, and gave no reason. Run it again; if an empty answer can be "
            f"right, let the prompt ask for a word such as NONE."
        )
        return BlankReplyError(words, provider=provider, finish_reason=reply.finish_reason, reply=reply)
    return EmptyReplyError(words, provider=provider, finish_reason=reply.finish_reason, reply=reply)


def cut_note(reply: Reply, options: Options) -> str:
    """Return that `max_tokens` has cut the text of a reply, and what to do; empty if it has not."""
    most, used = options.max_tokens, reply.usage.output_tokens
    if reply.finish_reason != "length" or most is None or (used is not None and used < most):
        return ""
    return f"cut at max_tokens={most}: raise max_tokens (--max-tokens) for the rest"


def incomplete(reply: Reply, options: Options) -> str:
    """Return why the text of a reply is not the whole answer, to continue a sentence; empty if it is.

    The same request would end the same way, so it is not worth asking again with the same limits.

    Args:
        reply: A reply with some text.
        options: The sampling options of its request.
    """
    if reply.finish_reason == "length":
        limit = "the token limit" if options.max_tokens is None else f"max_tokens={options.max_tokens}"
        return f"the answer was cut at {limit}; raise max_tokens"
    if reply.finish_reason == "content_filter":
        return "the answer was cut by the provider's content filter; change the prompt"
    if reply.finish_reason == "refusal":
        return "the model refused to answer; change the prompt, or choose another model"
    return ""


def _length_advice(reply: Reply, options: Options) -> str:
    """Return in words what a reply has used up, and which limit to raise."""
    used, most = reply.usage.output_tokens, options.max_tokens
    has_thought = bool(reply.thinking or reply.usage.reasoning_tokens)
    by, less = ("by", ", let it think less (reasoning)") if has_thought else ("perhaps by", "")
    if most is not None:
        return f"max_tokens={most} is used up, {by} thinking. Raise max_tokens{less.replace(',', ' or', 1)}."
    spent = f"{used:,} tokens are" if used else "its limit of tokens is"
    return f"{spent} used up, {by} thinking. Set max_tokens higher{less}, or shorten a prompt that fills the context."
