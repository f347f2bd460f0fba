"""The values that travel: messages, options, requests, chunks, replies, usage. All frozen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ..text.code_blocks import blocks
from .errors import MalformedReplyError, OptionError, PromptError
from .options import Options
from .usage import Usage

if TYPE_CHECKING:
    from pandas import DataFrame


Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "content_filter", "refusal", "tool_calls", "interrupted", "truncated"]
# Told what goes on while nothing arrives: words, how much is done, of how much (0: not known).
StatusCallback = Callable[[str, int, int], None]

_ROLES = ("system", "user", "assistant")
# What the servers that take images have in common (OpenAI and Anthropic, vision guides, 2026-11).
_IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
# A picture of about 1,000 x 700 pixels costs that much with most models (the same guides).
_IMAGE_TOKENS = 800


@dataclass(frozen=True, slots=True)
class Image:
    """A picture that goes with a message.

    Attributes:
        media_type: ``"image/png"``, ``"image/jpeg"``, ``"image/gif"`` or ``"image/webp"``.
        data: The bytes of the file.
    """

    media_type: str
    data: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse what no provider accepts.

        Raises:
            PromptError: Another media type, or no bytes.
        """
        if self.media_type not in _IMAGE_TYPES:
            raise PromptError(f"An image must be one of {', '.join(_IMAGE_TYPES)}, not {self.media_type!r}.")
        if not isinstance(self.data, bytes) or not self.data:
            raise PromptError("The data of an image must be bytes, and not empty.")

    def __str__(self) -> str:
        """What it is, in brackets: it stands where the picture cannot be shown."""
        return f"[{self.media_type.replace('/', ': ')}, {len(self.data):,} bytes]"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    Attributes:
        role: ``"system"``, ``"user"`` or ``"assistant"``.
        content: The text.
        images: Pictures that go with the text of a user message, in order.
    """

    role: Role
    content: str
    images: tuple[Image, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no provider accepts.

        Raises:
            PromptError: The role is not one of the three, the content is not text, or what is in `images` is no image
                or does not come from the user.
        """
        if self.role not in _ROLES:
            raise PromptError(f"A message has the role {self.role!r}; it must be one of {', '.join(_ROLES)}.")
        if not isinstance(self.content, str):
            raise PromptError(f"The content of a message must be text, not {type(self.content).__name__}.")
        if not isinstance(self.images, tuple) or not all(isinstance(image, Image) for image in self.images):
            raise PromptError("The images of a message must be a tuple of Image values.")
        if self.images and self.role != "user":
            raise PromptError(f"Images go with a message of the user, not with one of the role {self.role!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """All that decides a reply, and how long it may take.

    Attributes:
        model: Name of the model as its provider knows it, without the provider.
        messages: At least one message.
        options: Sampling settings.
        timeout_s: Longest time of one attempt, in seconds, > 0: from connecting to the last byte.
    """

    model: str
    messages: tuple[Message, ...]
    options: Options = field(default_factory=Options)
    timeout_s: float = 600.0

    def __post_init__(self) -> None:
        """Refuse what cannot be sent.

        Raises:
            PromptError: There is no message but those of the system, or nothing in any of them.
            OptionError: The timeout is not a positive number.
        """
        asked = [message for message in self.messages if message.role != "system"]
        if not any(message.content.strip() or message.images for message in asked):
            raise PromptError("The prompt is empty. Write the question below the %%aichat line.")
        if isinstance(self.timeout_s, bool) or not isinstance(self.timeout_s, (int, float)):
            raise OptionError(f"timeout must be a number of seconds, not {self.timeout_s!r}.")
        if not 0 < self.timeout_s < math.inf:
            raise OptionError(f"timeout must be more than 0 seconds, not {self.timeout_s!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One piece of a streamed reply. What a piece does not carry is empty or None.

    Attributes:
        text: The text that this piece adds.
        finish_reason: Why the reply ended; only the piece that ends it has one.
        usage: Totals of the whole reply, when the provider sends them.
        model: The model's name, as the provider reports it.
    """

    text: str = ""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A model's answer. `str(reply)` is its text.

    Attributes:
        text: The text, as it came.
        model: ``provider/model`` that answered.
        usage: What it took.
        finish_reason: ``stop``, ``length`` (cut by max_tokens), ``content_filter``, ``refusal`` (the text, if there is
            one, says why), ``tool_calls`` (the model asks for a tool), ``interrupted`` (by the user) or ``truncated``
            (the stream broke off).
        elapsed_s: Seconds from sending to the last byte, retries included.
        messages: The messages that were sent.
        value: What the text stands for, where a form was asked for: parsed JSON, or what a schema says.
        rate_limits: What the server said of its limits, for the rooms that keep to them.
    """

    text: str
    model: str = ""
    usage: Usage = field(default_factory=Usage)
    finish_reason: FinishReason = "stop"
    elapsed_s: float = 0.0
    messages: tuple[Message, ...] = field(default=(), repr=False)
    value: Any = field(default=None, repr=False, compare=False)
    rate_limits: RateLimits | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        """The text."""
        return self.text

    def measured(self, usage: Usage, elapsed_s: float) -> Reply:
        """The same reply with what it took; spelled out, because a run over rows does it for each."""
        return Reply(
            text=self.text,
            model=self.model,
            usage=usage,
            finish_reason=self.finish_reason,
            elapsed_s=elapsed_s,
            messages=self.messages,
            value=self.value,
            rate_limits=self.rate_limits,
        )

    @property
    def is_complete(self) -> bool:
        """Whether nothing of the reply is missing for reasons of the network or the user."""
        return self.finish_reason not in ("interrupted", "truncated")

    @property
    def code(self) -> str:
        """The fenced code blocks of the text, joined by a blank line; empty when there is none."""
        return "\n\n".join(block.text for block in blocks(self.text))

    @property
    def json(self) -> Any:
        """The JSON value in the text: the whole text, or what stands in a fence, or the first object or array in prose.

        Raises:
            MalformedReplyError: The text holds no JSON, it breaks off, or it holds what is not JSON, such as ``NaN``.
        """
        from .json_text import SchemaError, values_in  # few ask for it

        try:
            return values_in(self.text)[0]
        except SchemaError as error:
            raise MalformedReplyError(
                f"The reply cannot be read as JSON: {error}. Look at reply.text, or ask again for JSON only."
            ) from None

    @property
    def tables(self) -> list[DataFrame]:
        """The Markdown tables of the text as DataFrames, in order; empty when there is none."""
        from ..text.tables import tables  # few ask for it

        return tables(self.text)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """How notebooks show it: safe HTML, and the same as plain text."""
        from ..text.reply_view import reply_bundle

        return reply_bundle(self)


class PartialReply:
    """A reply while it arrives. The caller owns it, so that an interrupt loses nothing of it."""

    def __init__(self) -> None:
        """Begin empty."""
        self._pieces: list[str] = []
        self._usage: Usage | None = None
        self._finish_reason: FinishReason | None = None

    def add(self, chunk: Chunk) -> None:
        """Take one more piece."""
        if chunk.text:
            self._pieces.append(chunk.text)
        if chunk.usage is not None:
            self._usage = chunk.usage
        if chunk.finish_reason is not None:
            self._finish_reason = chunk.finish_reason

    @property
    def text(self) -> str:
        """What has arrived so far."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def reply(
        self,
        *,
        model: str,
        elapsed_s: float,
        messages: tuple[Message, ...],
        finish_reason: FinishReason | None = None,
    ) -> Reply:
        """The reply that the pieces make.

        Args:
            model: ``provider/model``.
            elapsed_s: Seconds since the request was sent.
            messages: The messages that were sent.
            finish_reason: Overrides the one that arrived, for an interrupt or a broken stream.
        """
        return Reply(
            text=self.text,
            model=model,
            usage=self._usage or Usage(),
            finish_reason=finish_reason or self._finish_reason or "stop",
            elapsed_s=elapsed_s,
            messages=messages,
        )


def estimate_tokens(messages: Iterable[Message]) -> int:
    """About how many tokens the messages are, without the model's own vocabulary.

    Four bytes a token is what English text comes to with the vocabularies of 2023 to 2026; four tokens a message are
    what chat templates add; an image counts as 800. It serves to keep a history inside a budget, not to bill.

    Args:
        messages: Any messages.

    Returns:
        The estimate, >= 0.
    """
    return sum(
        4 + (len(message.content.encode("utf-8", "surrogatepass")) + 3) // 4 + _IMAGE_TOKENS * len(message.images)
        for message in messages
    )


def messages_from(items: Iterable[Message | Mapping[str, Any]]) -> tuple[Message, ...]:
    """Messages from what people write: `Message` values or ``{"role": ..., "content": ...}`` mappings.

    Args:
        items: The messages in order.

    Returns:
        The same as frozen values.

    Raises:
        PromptError: An item is neither, or lacks its role or content.
    """
    result: list[Message] = []
    for item in items:
        if isinstance(item, Message):
            result.append(item)
        elif isinstance(item, Mapping) and "role" in item and "content" in item:
            result.append(Message(item["role"], item["content"]))
        else:
            raise PromptError("A message must be a mapping with 'role' and 'content', or a Message.")
    return tuple(result)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """What a server allows now; None where it does not say.

    Attributes:
        limit_requests: Requests that may be made at once when nothing was used up, or in one window.
        remaining_requests: Those that are left.
        reset_requests_s: Seconds until all of them are back.
        limit_tokens: The same for tokens.
        remaining_tokens: Those that are left.
        reset_tokens_s: Seconds until all of them are back.
    """

    limit_requests: int | None = None
    remaining_requests: int | None = None
    reset_requests_s: float | None = None
    limit_tokens: int | None = None
    remaining_tokens: int | None = None
    reset_tokens_s: float | None = None
