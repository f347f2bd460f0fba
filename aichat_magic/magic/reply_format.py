"""The format of a reply: how `--format` and `--schema` change the request, the check and the display."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..chat.chat import Call
from ..core.answers import incomplete
from ..core.errors import AichatError, BadInputError, UnknownNameError
from ..core.json_text import SchemaError, values_in
from ..core.messages import Message, Reply
from ..core.options import CallOptions
from ..schema.schema import Schema, repair_prompt
from ..text.code_blocks import blocks
from ..text.quoting import fenced
from ..text.words import did_you_mean, shorten

_JSON_ONLY = "Answer with JSON only, without any other words."


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyFormat:
    """The requested format of a reply.

    Attributes:
        format: ``"markdown"``; ``"text"``: shown unchanged; ``"json"``: checked, and shown as JSON; ``"code"``: only
            the code is shown.
        schema: Schema that the JSON must satisfy; None: any JSON.
    """

    format: str = "markdown"
    schema: Schema | None = None

    @property
    def is_checked(self) -> bool:
        """Tell whether the reply must be JSON."""
        return self.format == "json"

    @property
    def is_streamed(self) -> bool:
        """Tell whether the reply can be shown while it grows."""
        return self.format in ("markdown", "text")

    def asked(self, prompt: str, given: CallOptions, *, supports_schema: bool) -> tuple[str, CallOptions]:
        """Return the prompt and the options that ask for this format.

        Args:
            prompt: The user's prompt.
            given: The user's options.
            supports_schema: Whether the provider enforces schemas, so that the prompt needs no instructions.
        """
        if self.schema is not None and supports_schema:
            wire = {"name": self.schema.name, "strict": self.schema.is_strict, "schema": self.schema.json_schema}
            options = dataclasses.replace(given.options, schema=json.dumps(wire, ensure_ascii=False))
            return prompt, dataclasses.replace(given, options=options)
        if self.is_checked and prompt.strip():
            return f"{prompt}\n\n{self.schema.instructions() if self.schema else _JSON_ONLY}", given
        return prompt, given

    def value_of(self, text: str) -> Any:
        """Return the value in a reply.

        Raises:
            SchemaError: The text contains no JSON, or none that satisfies the schema.
        """
        return self.schema.parse(text) if self.schema is not None else values_in(text)[0]

    def repair(self, error: SchemaError) -> str:
        """Return the prompt that is sent, once, after a reply without this format."""
        if self.schema is not None:
            return repair_prompt(self.schema, error)
        return f"That was not JSON: {error}. {_JSON_ONLY}"

    def shown(self, text: str, *, is_notebook: bool) -> str:
        """Return what to show of a complete or growing text: Markdown for a notebook, plain text for a terminal."""
        if self.format == "text":
            return fenced(text) if is_notebook else text
        if self.format == "json":
            try:
                text = json.dumps(values_in(text)[0], ensure_ascii=False, indent=2)
            except (SchemaError, ValueError, RecursionError):
                return text
            return fenced(text, "json") if is_notebook else text
        if self.format == "code" and (found := blocks(text)):
            return "\n\n".join(fenced(block.text, block.language) if is_notebook else block.text for block in found)
        return text


def reply_format_of(format: str, schema: str, variables: Mapping[str, Any]) -> ReplyFormat:
    """Return the format that the flags of a cell ask for.

    Args:
        format: Value of ``--format``; may be empty.
        schema: Value of ``--schema``: the name of a variable; may be empty.
        variables: The notebook's variables.

    Raises:
        UnknownNameError: There is no such variable; names the nearest.
        BadInputError: The variable is not a schema.
    """
    if not schema:
        return ReplyFormat(format=format or "markdown")
    if format not in ("", "json"):
        raise BadInputError(f"--schema asks for JSON, but --format for {format}. Use only one of them.")
    if schema not in variables:
        known = [name for name, value in variables.items() if isinstance(value, (type, dict)) and name[0] != "_"]
        raise UnknownNameError(
            f"--schema takes the name of a class or a JSON schema; there is no variable {shorten(schema, 40)!r}."
            f"{did_you_mean(schema, known)}"
        )
    return ReplyFormat(format="json", schema=Schema.of(variables[schema]))


async def reply_in_format(
    ask: Callable[[Call], Awaitable[Reply]], call: Call, reply_format: ReplyFormat
) -> tuple[Reply, str]:
    """Ask, and ask once more if the reply does not have the requested format.

    Args:
        ask: Sends a call.
        call: The call.
        reply_format: The requested format.

    Returns:
        The reply with its `value` and an empty string; or the unchecked reply and a description of what is wrong with
        it, to continue a sentence. Usage and time include both requests. If asking again fails, it is the first reply.
        A reply that was cut or refused is not asked for again: it would end the same way.
    """
    first = await ask(call)
    if not reply_format.is_checked:
        return first, ""
    try:
        return dataclasses.replace(first, value=reply_format.value_of(first.text)), ""
    except SchemaError as error:
        problem = error
    if reason := incomplete(first, call.request.options):
        return first, f": {reason}"
    again = (Message("assistant", first.text or "-"), Message("user", reply_format.repair(problem)))
    try:
        second = await ask(call.with_messages((*call.request.messages, *again)))
    except AichatError as error:  # the first reply has been paid for
        return first, f": {problem}. Asking again failed: {str(error).removesuffix('.')}"
    reply = dataclasses.replace(
        second,
        usage=first.usage + second.usage,
        elapsed_s=first.elapsed_s + second.elapsed_s,
        messages=first.messages,
    )
    try:
        return dataclasses.replace(reply, value=reply_format.value_of(second.text)), ""
    except SchemaError as error:
        reason = incomplete(second, call.request.options)
        return reply, f": {reason}" if reason else f", twice: {error}"
