"""The LLM cell for people who work with data.

In a notebook: ``%load_ext aichat_magic``, then a ``%%aichat`` cell is a prompt. In Python: `ask`, `stream`, `batch`,
`Conversation`. On a column: ``df["prompt"].aichat.complete()``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .pandas_hook import after_pandas

if TYPE_CHECKING:
    from .api import ask, ask_async, batch, batch_async, batch_iter_async, stream, stream_async
    from .chat import Chat
    from .conversation import Conversation, Turn
    from .errors import (
        AichatError,
        AuthenticationError,
        BadInputError,
        BatchStoppedError,
        ChatInterrupt,
        ConnectionFailedError,
        DeadlineError,
        MissingKeyError,
        ProviderError,
        RateLimitError,
        StatusError,
    )
    from .messages import Chunk, Message, Options, Reply, Usage
    from .progress import Progress
    from .providers.base import AsyncProvider
    from .runs import BatchRun

__version__ = "0.1.1"

# The public surface, and the room each name lives in. Rooms are loaded on first use.
_ROOMS = {
    "AichatError": "errors",
    "AsyncProvider": "providers.base",
    "AuthenticationError": "errors",
    "BadInputError": "errors",
    "BatchRun": "runs",
    "BatchStoppedError": "errors",
    "Chat": "chat",
    "ChatInterrupt": "errors",
    "Chunk": "messages",
    "ConnectionFailedError": "errors",
    "Conversation": "conversation",
    "DeadlineError": "errors",
    "Message": "messages",
    "MissingKeyError": "errors",
    "Options": "messages",
    "Progress": "progress",
    "ProviderError": "errors",
    "RateLimitError": "errors",
    "Reply": "messages",
    "StatusError": "errors",
    "Turn": "conversation",
    "Usage": "messages",
    "ask": "api",
    "ask_async": "api",
    "batch": "api",
    "batch_async": "api",
    "batch_iter_async": "api",
    "stream": "api",
    "stream_async": "api",
}

__all__ = [  # sorted as the table above, by which a test checks it
    "AichatError",
    "AsyncProvider",
    "AuthenticationError",
    "BadInputError",
    "BatchRun",
    "BatchStoppedError",
    "Chat",
    "ChatInterrupt",
    "Chunk",
    "ConnectionFailedError",
    "Conversation",
    "DeadlineError",
    "Message",
    "MissingKeyError",
    "Options",
    "Progress",
    "ProviderError",
    "RateLimitError",
    "Reply",
    "StatusError",
    "Turn",
    "Usage",
    "ask",
    "ask_async",
    "batch",
    "batch_async",
    "batch_iter_async",
    "stream",
    "stream_async",
]


def __getattr__(name: str) -> Any:
    """Load the room of a public name on first use."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_ROOMS[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext aichat_magic``: the magics `%%aichat` and `%aichat`."""
    from .magic import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """``%unload_ext aichat_magic``: as if it had never been loaded."""
    from .magic import unload

    unload(shell)


def _register_accessors() -> None:
    """Give pandas its accessors; called once pandas is imported."""
    from . import accessor

    if hasattr(accessor, "register"):  # else it is half made, and does so at its own end
        accessor.register()


after_pandas(_register_accessors)
