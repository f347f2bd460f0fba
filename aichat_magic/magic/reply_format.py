"""The form of a reply that a cell asks for: `--format` and `--schema`. What is asked, checked and shown for it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..chat.chat import Call
from ..core.errors import AichatError, BadInputError, UnknownNameError
from ..core.json_text import SchemaError, values_in
from ..core.messages import Message, Reply
from ..core.options import CallOptions
from ..schema.schema import Schema, repair_prompt
from ..text.code_blocks import blocks
from ..text.quoting import fenced
from ..text.words import nearest, shorten

_JSON_ONLY = "Answer with JSON only, without any other words."


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyFormat:
    """What a reply shall be.

    Attributes:
        format: ``"markdown"``; ``"text"``: shown as it is; ``"json"``: checked, shown as JSON; ``"code"``: only its
            code is shown.
        schema: What the JSON must satisfy.
    """

    format: str = "markdown"
    schema: Schema | None = None

    @property
    def is_checked(self) -> bool:
        """Whether the reply must be JSON."""
        return self.format == "json"

    @property
    def is_streamed(self) -> bool:
        """Whether the reply can be shown while it grows."""
        return self.format in ("markdown", "text")

    def asked(self, prompt: str, given: CallOptions, *, supports_schema: bool) -> tuple[str, CallOptions]:
        """The prompt and the options that ask for this form.

        Args:
            prompt: What the user wrote.
            given: What else they gave.
            supports_schema: Whether the provider holds a reply to a schema, so that no words are needed.
        """
        if self.schema is not None and supports_schema:
            wire = {"name": self.schema.name, "strict": self.schema.is_strict, "schema": self.schema.json_schema}
            options = dataclasses.replace(given.options, schema=json.dumps(wire, ensure_ascii=False))
            return prompt, dataclasses.replace(given, options=options)
        if self.is_checked and prompt.strip():
            return f"{prompt}\n\n{self.schema.instructions() if self.schema else _JSON_ONLY}", given
        return prompt, given

    def value_of(self, text: str) -> Any:
        """The value in a reply.

        Raises:
            SchemaError: It holds no JSON, or none that satisfies the schema.
        """
        return self.schema.parse(text) if self.schema is not None else values_in(text)[0]

    def repair(self, error: SchemaError) -> str:
        """What is asked, once, after a reply that is not of this form."""
        if self.schema is not None:
            return repair_prompt(self.schema, error)
        return f"That was not JSON: {error}. {_JSON_ONLY}"

    def shown(self, text: str, *, is_notebook: bool) -> str:
        """What is shown of a text, whole or growing: Markdown for a notebook, plain text for a terminal."""
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
    """What the flags of a cell ask for.

    Args:
        format: Value of ``--format``; may be empty.
        schema: Value of ``--schema``: the name of a variable; may be empty.
        variables: The notebook's variables.

    Raises:
        UnknownNameError: There is no such variable; names the nearest.
        BadInputError: It is no schema.
    """
    if not schema:
        return ReplyFormat(format=format or "markdown")
    if format not in ("", "json"):
        raise BadInputError(f"--schema asks for JSON, and --format for {format}. Leave one out.")
    if schema not in variables:
        known = [name for name, value in variables.items() if isinstance(value, (type, dict)) and name[0] != "_"]
        raise UnknownNameError(
            f"--schema takes the name of a class or a JSON schema; there is no variable {shorten(schema, 40)!r}."
            f"{nearest(schema, known)}"
        )
    return ReplyFormat(format="json", schema=Schema.of(variables[schema]))


async def reply_in_format(ask: Callable[[Call], Awaitable[Reply]], call: Call, shape: ReplyFormat) -> tuple[Reply, str]:
    """The reply to a call, asked for once more when it is not of the form.

    Args:
        ask: Asks.
        call: What to ask.
        shape: What the reply shall be.

    Returns:
        The reply with its `value`, and nothing; or the raw reply, and what is wrong with it, to go on in a sentence.
        Usage and time are those of both attempts. When asking again fails, the first reply is the one.
    """
    first = await ask(call)
    if not shape.is_checked:
        return first, ""
    try:
        return dataclasses.replace(first, value=shape.value_of(first.text)), ""
    except SchemaError as error:
        problem = error
    again = (Message("assistant", first.text or "-"), Message("user", shape.repair(problem)))
    try:
        second = await ask(call.with_messages((*call.request.messages, *again)))
    except AichatError as error:  # the first reply is paid for
        return first, f": {problem}. Asking again failed: {str(error).removesuffix('.')}"
    reply = dataclasses.replace(
        second,
        usage=first.usage + second.usage,
        elapsed_s=first.elapsed_s + second.elapsed_s,
        messages=first.messages,
    )
    try:
        return dataclasses.replace(reply, value=shape.value_of(second.text)), ""
    except SchemaError as error:
        return reply, f", twice: {error}"
