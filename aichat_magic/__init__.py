"""The LLM cell for people who work with data.

In a notebook: ``%load_ext aichat_magic``, then a ``%%aichat`` cell is a prompt. In Python: `ask`, `stream`, `batch`,
`Conversation`. On a column: ``df["prompt"].aichat.complete()``. On a table of any library: `complete`, `run`,
`extract`, `estimate`, `preview`. Vectors: `embed`, `similarity`, `nearest`, `dedupe`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .frames.import_hook import after_import

if TYPE_CHECKING:
    from .batching.api import batch, batch_async, batch_iter_async
    from .batching.progress import Progress
    from .batching.run import BatchRun
    from .chat.api import ask, ask_async, stream, stream_async
    from .chat.chat import Chat
    from .chat.conversation import Conversation, Turn
    from .core.errors import (
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
    from .core.messages import Chunk, Message, Reply
    from .core.options import Options
    from .core.usage import Usage
    from .frames.api import complete, estimate, extract, preview, run
    from .frames.embed import dedupe, embed, nearest, similarity
    from .providers.base import AsyncProvider

__version__ = "0.1.1"

# The public names and their modules, which are loaded on first use.
_HOMES = {
    "AichatError": "core.errors",
    "AsyncProvider": "providers.base",
    "AuthenticationError": "core.errors",
    "BadInputError": "core.errors",
    "BatchRun": "batching.run",
    "BatchStoppedError": "core.errors",
    "Chat": "chat.chat",
    "ChatInterrupt": "core.errors",
    "Chunk": "core.messages",
    "ConnectionFailedError": "core.errors",
    "Conversation": "chat.conversation",
    "DeadlineError": "core.errors",
    "Message": "core.messages",
    "MissingKeyError": "core.errors",
    "Options": "core.options",
    "Progress": "batching.progress",
    "ProviderError": "core.errors",
    "RateLimitError": "core.errors",
    "Reply": "core.messages",
    "StatusError": "core.errors",
    "Turn": "chat.conversation",
    "Usage": "core.usage",
    "ask": "chat.api",
    "ask_async": "chat.api",
    "batch": "batching.api",
    "batch_async": "batching.api",
    "batch_iter_async": "batching.api",
    "complete": "frames.api",
    "estimate": "frames.api",
    "extract": "frames.api",
    "preview": "frames.api",
    "run": "frames.api",
    "dedupe": "frames.embed",
    "embed": "frames.embed",
    "nearest": "frames.embed",
    "similarity": "frames.embed",
    "stream": "chat.api",
    "stream_async": "chat.api",
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
    "complete",
    "dedupe",
    "embed",
    "estimate",
    "extract",
    "nearest",
    "preview",
    "run",
    "similarity",
    "stream",
    "stream_async",
]


def __getattr__(name: str) -> Any:
    """Load the module of a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted({*globals(), *__all__})


def load_ipython_extension(shell: Any) -> None:
    """Register the magics `%%aichat` and `%aichat`; IPython calls this for ``%load_ext aichat_magic``."""
    from .magic.extension import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Remove all that loading has added; IPython calls this for ``%unload_ext aichat_magic``."""
    from .magic.extension import unload

    unload(shell)


def _extend_pandas() -> None:
    """Register the accessors of pandas; called once it has been imported."""
    from .frames.registration import register_pandas

    register_pandas()


def _extend_polars() -> None:
    """Register the accessors of polars; called once it has been imported."""
    from .frames.registration import register_polars

    register_polars()


after_import("pandas", _extend_pandas)
after_import("polars", _extend_polars)
