"""Keys of requests: the SHA-256 of everything that decides the reply."""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import sha256

from ..core.messages import ChatRequest, Message
from ..core.options import Options

# Raised when the canonical form below changes. It stays where only the layout of the file does (`rows.LAYOUT`): the
# replies in it keep their keys.
SCHEMA = 1

# Not escaped to ASCII: an escaped pair of lone surrogates would equal the character that they make together.
canonical = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode


class RequestKeys:
    """Keys of many requests that differ only in their messages; all else is hashed once."""

    def __init__(self, *, provider: str, host: str, model: str, options: Options) -> None:
        """Hash the parts that the requests have in common.

        Args:
            provider: Name of the provider.
            host: Its server, by anything that tells two servers apart.
            model: Name of the model, without the provider.
            options: Sampling settings.
        """
        sent = {name: _canonical_number(value) for name, value in options.sent().items()}
        head = canonical([SCHEMA, provider, host, model, sent])
        self._head = sha256(_utf8(head[:-1] + ","))

    def key(self, messages: Iterable[Message]) -> bytes:
        """Return the key of the request with these messages, as `request_key` does.

        Args:
            messages: The messages in order.

        Returns:
            32 bytes.
        """
        digest = self._head.copy()
        digest.update(_utf8(canonical([_canonical_form(message) for message in messages]) + "]"))
        return digest.digest()


def request_key(*, provider: str, host: str, request: ChatRequest) -> bytes:
    """Return the key of one request.

    It is the SHA-256 of the canonical JSON of `SCHEMA`, provider, host, model, options and messages. The timeout does
    not decide the reply, and is left out. So are options that are not set: an option added later leaves the old keys as
    they are. Images of a message count by their bytes.

    Args:
        provider: Name of the provider.
        host: Its server, by anything that tells two servers apart.
        request: The request.

    Returns:
        32 bytes.
    """
    return RequestKeys(provider=provider, host=host, model=request.model, options=request.options).key(request.messages)


def _canonical_form(message: Message) -> tuple[object, ...]:
    """Return the parts of a message that count: role, content, and images and blocks of thinking, if there are any.

    So keys without those stay the same.
    """
    if not message.images and not message.thinking_blocks:
        return message.role, message.content
    images = [(image.media_type, sha256(image.data).hexdigest()) for image in message.images]
    return message.role, message.content, images, *message.thinking_blocks


def _canonical_number(value: object) -> object:
    """Write equal numbers alike: 1.0 becomes 1."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _utf8(text: str) -> bytes:
    """Encode as UTF-8, lone surrogates included."""
    return text.encode("utf-8", "surrogatepass")
