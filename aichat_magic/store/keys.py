"""What makes two requests equal: the SHA-256 of everything that decides the reply."""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import sha256

from ..core.messages import ChatRequest, Message
from ..core.options import Options

# Raised when the canonical form below or the layout of the file changes. Old files still open.
SCHEMA = 1

# Not ASCII only: an escaped pair of lone surrogates would be the same text as the character they make together.
_canonical = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode


class RequestKeys:
    """Keys of many requests that differ in their messages only; all else is hashed once."""

    def __init__(self, *, provider: str, host: str, model: str, options: Options) -> None:
        """Hash what the requests have in common.

        Args:
            provider: Name of the provider.
            host: Where its server is; whatever tells two servers apart.
            model: Name of the model, without the provider.
            options: Sampling settings.
        """
        sent = {name: _whole(value) for name, value in options.sent().items()}
        head = _canonical([SCHEMA, provider, host, model, sent])
        self._head = sha256(_bytes(head[:-1] + ","))

    def key(self, messages: Iterable[Message]) -> bytes:
        """The key of the request with these messages, as `request_key` gives it.

        Args:
            messages: The messages in order.

        Returns:
            32 bytes.
        """
        digest = self._head.copy()
        digest.update(_bytes(_canonical([_form(message) for message in messages]) + "]"))
        return digest.digest()


def request_key(*, provider: str, host: str, request: ChatRequest) -> bytes:
    """The key of one request: SHA-256 over the canonical JSON of schema, provider, host, model, options and messages.

    The timeout is left out: it does not decide the reply. Options that are not set are left out, too, so that an
    option added later leaves the old keys as they are; images of a message count by their bytes.

    Args:
        provider: Name of the provider.
        host: Where its server is; whatever tells two servers apart.
        request: The request.

    Returns:
        32 bytes.
    """
    return RequestKeys(provider=provider, host=host, model=request.model, options=request.options).key(request.messages)


def _form(message: Message) -> tuple[object, ...]:
    """What of a message counts. Images stand third where there are any, so that keys without them stay as they were."""
    if not message.images:
        return message.role, message.content
    images = [(image.media_type, sha256(image.data).hexdigest()) for image in message.images]
    return message.role, message.content, images


def _whole(value: object) -> object:
    """One spelling for equal numbers: 1.0 becomes 1."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _bytes(text: str) -> bytes:
    """UTF-8 that takes lone surrogates, too."""
    return text.encode("utf-8", "surrogatepass")
