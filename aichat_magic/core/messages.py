"""Messages, requests, chunks and replies, as frozen values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ..text.code_blocks import blocks
from .errors import MalformedReplyError, OptionError, PromptError
from .options import Options
from .quick import quick
from .rate_limits import RateLimits as RateLimits  # it is read from here, too
from .sharing import remakes
from .usage import Usage

if TYPE_CHECKING:
    from pandas import DataFrame


Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "content_filter", "refusal", "tool_calls", "interrupted", "truncated"]
# Called while nothing arrives, with a description, how much is done, and of how much (0: not known).
StatusCallback = Callable[[str, int, int], None]

_ROLES = ("system", "user", "assistant")
# What the servers that take images have in common (OpenAI and Anthropic, vision guides, 2026-11).
_IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
# English text with the tokenizers of 2023 to 2026 has about so many bytes of UTF-8 for each token.
BYTES_PER_TOKEN = 4
# The cost of a picture of about 1,000 x 700 pixels with most models (the same guides).
_IMAGE_TOKENS = 800


@dataclass(frozen=True, slots=True)
class Image:
    """A picture in a message.

    Attributes:
        media_type: ``"image/png"``, ``"image/jpeg"``, ``"image/gif"`` or ``"image/webp"``.
        data: The bytes of the file.
    """

    media_type: str
    data: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Check the media type and the data.

        Raises:
            PromptError: Another media type, or no bytes.
        """
        if self.media_type not in _IMAGE_TYPES:
            raise PromptError(f"An image must be one of {', '.join(_IMAGE_TYPES)}, not {self.media_type!r}.")
        if not isinstance(self.data, bytes) or not self.data:
            raise PromptError("The data of an image must be bytes, and not empty.")

    def __str__(self) -> str:
        """Return a description in brackets, for places where the picture cannot be shown."""
        return f"[{self.media_type.replace('/', ': ')}, {len(self.data):,} bytes]"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    Attributes:
        role: ``"system"``, ``"user"`` or ``"assistant"``.
        content: The text.
        images: Pictures in a user message, in order.
        thinking_blocks: The `Reply.thinking_blocks` of an assistant message, for a provider that wants them back while
            a model uses tools. They are sent unchanged, and shown nowhere.
    """

    role: Role
    content: str
    images: tuple[Image, ...] = ()
    thinking_blocks: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Check the role and the types.

        Raises:
            PromptError: The role is not one of the three, the content is not text, `images` holds something else than
                images, the message with images is not from the user, or one with thinking not from the assistant.
        """
        if self.role not in _ROLES:
            raise PromptError(f"A message has the role {self.role!r}; it must be one of {', '.join(_ROLES)}.")
        if not isinstance(self.content, str):
            raise PromptError(f"The content of a message must be text, not {type(self.content).__name__}.")
        if self.images != ():
            self._check_images()
        if self.thinking_blocks and self.role != "assistant":
            raise PromptError(f"Thinking goes with a message of the assistant, not with one of the role {self.role!r}.")

    def _check_images(self) -> None:
        """Check the images and the role that has them."""
        if not isinstance(self.images, tuple) or not all(isinstance(image, Image) for image in self.images):
            raise PromptError("The images of a message must be a tuple of Image values.")
        if self.role != "user":
            raise PromptError(f"Images go with a message of the user, not with one of the role {self.role!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One request to a model.

    Attributes:
        model: Name of the model as its provider knows it, without the provider.
        messages: At least one message.
        options: Sampling options.
        timeout_s: Longest time of one attempt, in seconds, > 0: from connecting to the last byte.
    """

    model: str
    messages: tuple[Message, ...]
    options: Options = field(default_factory=Options)
    timeout_s: float = 600.0

    def __post_init__(self) -> None:
        """Check that the request can be sent.

        Raises:
            PromptError: There are only system messages, or all other messages are empty.
            OptionError: The timeout is not a positive number.
        """
        for message in self.messages:
            if message.role != "system" and (message.images or message.content.strip()):
                break
        else:
            raise PromptError("The prompt is empty. Write the question below the %%aichat line, or after %aichat ask.")
        if isinstance(self.timeout_s, bool) or not isinstance(self.timeout_s, (int, float)):
            raise OptionError(f"timeout must be a number of seconds, not {self.timeout_s!r}.")
        if not 0 < self.timeout_s < math.inf:
            raise OptionError(f"timeout must be more than 0 seconds, not {self.timeout_s!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One piece of a streamed reply. What it does not hold is empty or None.

    Attributes:
        text: The text that this chunk adds.
        thinking: The thinking that it adds; never part of the text.
        replaces: Whether its text and thinking take the place of all that came before: only the end of some replies
            shows which of it was thinking.
        thinking_blocks: All of the thinking in the provider's own form, as `Reply.thinking_blocks`.
        finish_reason: Why the reply ended; only the last chunk has one.
        usage: Totals of the whole reply, when the provider sends them.
        model: The model's name, as the provider reports it.
        logprobs: Log probabilities where they were asked for: a list of dictionaries, one for each token of this chunk.
        remarks: What was sent otherwise than asked, one line each, for the user.
    """

    text: str = ""
    thinking: str = ""
    replaces: bool = False
    thinking_blocks: tuple[str, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    model: str | None = None
    logprobs: Any = None
    remarks: tuple[str, ...] = ()


@remakes("messages")
@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A model's answer. `str(reply)` is its text.

    Attributes:
        text: The text, as it came.
        model: ``provider/model`` that answered.
        usage: Its tokens and cost.
        finish_reason: ``stop``, ``length`` (cut by max_tokens), ``content_filter``, ``refusal`` (the text, if there is
            one, says why), ``tool_calls`` (the model asks for a tool), ``interrupted`` (by the user) or ``truncated``
            (the stream ended too early).
        elapsed_s: Seconds from sending to the last byte, retries included.
        messages: The messages that were sent.
        value: The parsed text, where JSON or a schema was asked for.
        rate_limits: The rate limits that the server sent with it.
        thinking: The thinking that the model showed; no part of the text.
        thinking_blocks: The same in the provider's own form, with its signatures, as JSON texts; for
            `Message.thinking_blocks`.
        model_version: The model's name as the server resolved it, such as ``gpt-5-mini-2025-08-07``; empty if unknown.
        logprobs: Log probabilities where they were asked for (``options={"logprobs": True}``): a list of dictionaries
            with ``token`` and ``logprob``, one for each token. The store keeps none: ``fresh=True`` asks again.
        remarks: What was sent otherwise than asked, one line each, such as an option that the server refused and that
            was left out.
        notice: What was cut of it or of its prompt other than by `max_tokens`, and what to do, for the user; else
            empty.
    """

    text: str
    model: str = ""
    usage: Usage = field(default_factory=Usage)
    finish_reason: FinishReason = "stop"
    elapsed_s: float = 0.0
    messages: tuple[Message, ...] = field(default=(), repr=False)
    value: Any = field(default=None, repr=False, compare=False)
    rate_limits: RateLimits | None = field(default=None, repr=False, compare=False)
    thinking: str = field(default="", repr=False)
    thinking_blocks: tuple[str, ...] = field(default=(), repr=False, compare=False)
    model_version: str = ""
    logprobs: Any = field(default=None, repr=False, compare=False)
    remarks: tuple[str, ...] = field(default=(), repr=False, compare=False)
    notice: str = field(default="", repr=False, compare=False)

    def __str__(self) -> str:
        """Return the text."""
        return self.text

    def measured(self, usage: Usage, elapsed_s: float) -> Reply:
        """Return the same reply with its usage and time. Spelled out, because a batch does this for each row."""
        return new_reply(
            text=self.text,
            model=self.model,
            usage=usage,
            finish_reason=self.finish_reason,
            elapsed_s=elapsed_s,
            messages=self.messages,
            value=self.value,
            rate_limits=self.rate_limits,
            thinking=self.thinking,
            thinking_blocks=self.thinking_blocks,
            model_version=self.model_version,
            logprobs=self.logprobs,
            remarks=self.remarks,
            notice=self.notice,
        )

    @property
    def is_complete(self) -> bool:
        """Tell whether the reply arrived whole: neither the network nor the user cut it off."""
        return self.finish_reason not in ("interrupted", "truncated")

    @property
    def code(self) -> str:
        """Return the fenced code blocks of the text, joined by a blank line; empty when there is none."""
        return "\n\n".join(block.text for block in blocks(self.text))

    @property
    def json(self) -> Any:
        """Return the JSON value in the text: the whole text, or in a fence, or the first object or array in prose.

        Raises:
            MalformedReplyError: The text holds no JSON, or JSON that is cut off or not valid, such as ``NaN``.
        """
        from .json_text import SchemaError, values_in  # loaded when it is used

        try:
            return values_in(self.text)[0]
        except SchemaError as error:
            raise MalformedReplyError(
                f"The reply cannot be read as JSON: {error}. Look at reply.text, or ask again for JSON only."
            ) from None

    @property
    def tables(self) -> list[DataFrame]:
        """Return the Markdown tables of the text as DataFrames, in order; empty when there is none."""
        from ..text.tables import tables  # loaded when it is used

        return tables(self.text)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Return what notebooks show: safe HTML, and the same as plain text."""
        from ..text.reply_view import reply_bundle

        return reply_bundle(self)


# For those that a run or a stream makes many of.
new_message, new_request, new_chunk, new_reply = quick(Message), quick(ChatRequest), quick(Chunk), quick(Reply)


class PartialReply:
    """A reply that is still arriving. The caller owns it, so that an interrupt loses nothing of it."""

    def __init__(self) -> None:
        """Create an empty reply."""
        self._spent: Usage | None = None
        self._clear()

    def _clear(self) -> None:
        """Set everything that chunks change to its beginning."""
        self._pieces: list[str] = []
        self._thinking: list[str] = []
        self._thinking_blocks: tuple[str, ...] = ()
        self._logprobs: list[Any] = []
        self._remarks: tuple[str, ...] = ()
        self._model_version = ""
        self._usage: Usage | None = None
        self._finish_reason: FinishReason | None = None

    def add(self, chunk: Chunk) -> None:
        """Add one more chunk."""
        if chunk.replaces:
            self._pieces, self._thinking = [], []
        if chunk.text:
            self._pieces.append(chunk.text)
        if chunk.thinking:
            self._thinking.append(chunk.thinking)
        if chunk.thinking_blocks:
            self._thinking_blocks = chunk.thinking_blocks
        if chunk.logprobs:
            self._logprobs.extend(chunk.logprobs)
        self._model_version = chunk.model or self._model_version
        if chunk.remarks:
            self._remarks = tuple(dict.fromkeys((*self._remarks, *chunk.remarks)))
        if chunk.usage is not None:
            self._usage = chunk.usage
        if chunk.finish_reason is not None:
            self._finish_reason = chunk.finish_reason

    def restart(self) -> None:
        """Forget what has arrived, except its usage, because the request is sent again."""
        if self._usage is not None:
            self._spent = self._usage if self._spent is None else self._spent + self._usage
        self._clear()

    @property
    def text(self) -> str:
        """Return the text that has arrived so far."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    @property
    def thinking(self) -> str:
        """Return the thinking that has arrived so far."""
        if len(self._thinking) > 1:
            self._thinking = ["".join(self._thinking)]
        return self._thinking[0] if self._thinking else ""

    def reply(
        self,
        *,
        model: str,
        elapsed_s: float,
        messages: tuple[Message, ...],
        finish_reason: FinishReason | None = None,
    ) -> Reply:
        """Make a reply of the chunks.

        Args:
            model: ``provider/model``.
            elapsed_s: Seconds since the request was sent.
            messages: The messages that were sent.
            finish_reason: Overrides the one that arrived, after an interrupt or a broken stream.
        """
        usage = self._usage or Usage()
        return Reply(
            text=self.text,
            model=model,
            usage=usage if self._spent is None else self._spent + usage,
            finish_reason=finish_reason or self._finish_reason or "stop",
            elapsed_s=elapsed_s,
            messages=messages,
            thinking=self.thinking,
            thinking_blocks=self._thinking_blocks,
            model_version=self._model_version,
            logprobs=self._logprobs or None,
            remarks=self._remarks,
        )


def estimate_tokens(messages: Iterable[Message]) -> int:
    """Estimate the number of tokens of messages, without the model's own tokenizer.

    Four bytes count as a token, as in English text with the tokenizers of 2023 to 2026; a message counts four more, for
    what a model's chat format adds; an image counts as 800. The estimate keeps a history inside a budget; it is not for
    billing.

    Args:
        messages: Any messages.

    Returns:
        The estimate, >= 0.
    """
    tokens = 0
    for message in messages:
        n_bytes = len(message.content.encode("utf-8", "surrogatepass"))
        tokens += 4 + (n_bytes + BYTES_PER_TOKEN - 1) // BYTES_PER_TOKEN + _IMAGE_TOKENS * len(message.images)
    return tokens


def messages_from(items: Iterable[Message | Mapping[str, Any]]) -> tuple[Message, ...]:
    """Convert `Message` values or ``{"role": ..., "content": ...}`` mappings to messages.

    Args:
        items: The messages in order.

    Returns:
        The same as `Message` values.

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
