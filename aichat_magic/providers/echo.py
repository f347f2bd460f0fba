"""A provider without a server or a model: it repeats the prompt. For tests, demonstrations and dry runs."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator

from ..core.messages import ChatRequest, Chunk, Reply
from ..core.usage import Usage
from .base import AsyncProvider

_WORD = re.compile(r"\S+\s*|\s+")


class Echo(AsyncProvider):
    """Answers with the last user message, whatever the model's name and the options. Costs nothing."""

    supports_stream = True
    supports_message_history = True
    is_free = True
    default_model = "echo"

    async def complete(self, request: ChatRequest) -> Reply:
        """The whole reply at once."""
        text = _last_prompt(request)
        return Reply(text=text, model=f"{self.name}/{request.model}", usage=_usage(request, text))

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """The reply word by word, each with the white space after it."""
        text = _last_prompt(request)
        for word in _WORD.findall(text):
            yield Chunk(text=word, model=request.model)
        yield Chunk(finish_reason="stop", usage=_usage(request, text))

    async def models(self) -> list[str]:
        """The one name that needs no explanation; any other does the same."""
        return [self.default_model]


def _last_prompt(request: ChatRequest) -> str:
    """Text of the last user message, or of the last message where no user has spoken."""
    prompts = [message.content for message in request.messages if message.role == "user"]
    return prompts[-1] if prompts else request.messages[-1].content


def _usage(request: ChatRequest, text: str) -> Usage:
    """Words in place of tokens: there is no vocabulary to count with."""
    words = sum(len(message.content.split()) for message in request.messages)
    return Usage(input_tokens=words, output_tokens=len(text.split()), cost_usd=0.0)
