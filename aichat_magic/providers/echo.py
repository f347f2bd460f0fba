"""A provider that repeats the prompt, without a server or a model: for tests, demonstrations and dry runs."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator

from ..core.messages import ChatRequest, Chunk, Reply
from ..core.usage import Usage
from .base import AsyncProvider

_WORD = re.compile(r"\S+\s*|\s+")


class Echo(AsyncProvider):
    """A provider that replies with the last user message, whatever the model and the options. Costs nothing."""

    supports_stream = True
    supports_message_history = True
    is_free = True
    default_model = "echo"

    async def complete(self, request: ChatRequest) -> Reply:
        """Return the whole reply at once."""
        text = _last_prompt(request)
        model = f"{self.name}/{request.model}"
        return Reply(text=text, model=model, model_version=request.model, usage=_usage(request, text))

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """Yield the reply word by word, each with the white space after it."""
        text = _last_prompt(request)
        for word in _WORD.findall(text):
            yield Chunk(text=word, model=request.model)
        yield Chunk(finish_reason="stop", usage=_usage(request, text))

    async def models(self) -> list[str]:
        """Return the one name that is listed; any other name does the same."""
        return [self.default_model]


def _last_prompt(request: ChatRequest) -> str:
    """Return the text of the last user message, or of the last message if there is none from a user."""
    prompts = [message.content for message in request.messages if message.role == "user"]
    return prompts[-1] if prompts else request.messages[-1].content


def _usage(request: ChatRequest, text: str) -> Usage:
    """Return the usage in words, because there is no vocabulary to count tokens with."""
    words = sum(len(message.content.split()) for message in request.messages)
    return Usage(input_tokens=words, output_tokens=len(text.split()), cost_usd=0.0)
