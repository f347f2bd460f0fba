"""Event loops of our own class, which can also run inside a loop that is already running.

Outside of a running loop a `PrivateLoop` is asyncio's own loop; nothing is done to asyncio's classes.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import selectors
import socket
import sys
from typing import Any

from .errors import NestedCallError

# nest_asyncio works up to Python 3.13; from 3.14 on asyncio's internals have moved, and only its successor fits.
_NESTERS = ("nest_asyncio2", "nest_asyncio") if sys.version_info >= (3, 14) else ("nest_asyncio", "nest_asyncio2")

if sys.platform == "win32":
    _SystemLoop = asyncio.ProactorEventLoop
else:
    _SystemLoop = asyncio.SelectorEventLoop


class PrivateLoop(_SystemLoop):
    """The event loop of one thread, used by this package alone."""

    # asyncio's own attributes, which its type stubs leave out.
    _selector: selectors.BaseSelector
    _ssock: socket.socket
    _csock: socket.socket

    def settle(self) -> None:
        """Reset the loop to its idle state, also after a `KeyboardInterrupt` in the middle of asyncio's clean-up."""
        self._stopping = False  # a stop() left over would end the next run at once
        self._thread_id = None

    def open_transports(self) -> list[Any]:
        """Return the raw connections that are open; none where the system's loop keeps no list of them."""
        return list(getattr(self, "_transports", {}).values())

    def close_sockets(self) -> None:
        """Close the sockets of connections that are still open.

        An interrupt may have come while the loop had taken the callback that closes one and had not yet called it;
        then `abort()` does nothing, because the connection counts as lost already.
        """
        for transport in self.open_transports():
            if transport._sock is not None:
                transport._sock.close()
                transport._sock = None

    def abandon(self) -> None:
        """Release the loop without sending anything on its sockets or touching what a parent process shares.

        Closing it would take the parent's descriptors out of the selector, which both processes share; closing our
        copy of the selector first leaves the parent's registrations alone.
        """
        self._closed = True
        self._selector.close()
        for transport in self.open_transports():
            transport._closing = True
            if transport._sock is not None:  # None: closed already, and not yet removed from the list
                transport._sock.close()
                transport._sock = None
        for pipe_end in (self._ssock, self._csock):
            pipe_end.close()


class NestableLoop(PrivateLoop):
    """The class that is patched for nesting, so that `PrivateLoop` and asyncio's own stay as they are."""


def make_nestable(loop: PrivateLoop) -> None:
    """Let a loop run inside another one. It keeps its connections and stays nestable.

    Raises:
        NestedCallError: No package that can do this is installed.
    """
    if isinstance(loop, NestableLoop):
        return
    for name in _NESTERS:
        with contextlib.suppress(ImportError):
            nester = importlib.import_module(name)
            break
    else:
        raise NestedCallError(f"A loop is running in this thread: install {_NESTERS[0]}, or use `await`.")
    loop.__class__ = NestableLoop
    nester._patch_loop(loop)
