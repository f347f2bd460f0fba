"""The limits that the runs of this process share: one `ServerLimit` for each key, host and model.

Connections belong to an event loop, limits do not: fifty runs at once, in threads, loops or one after the other in one
loop, keep the limit that one run has. What the user has set for a run (`concurrency`, `requests_per_minute`,
`max_cost_usd` and so on) stays its own.
"""

from __future__ import annotations

import functools
import hashlib
import os
import threading
import time
from collections.abc import Callable

from ..core.endpoints import Endpoint
from .limiter import Home
from .server_limit import Participant, ServerLimit


class ProcessLimits:
    """The limits of one process. Thread-safe. A limit is kept as long as a run uses it."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Create a home without limits.

        Args:
            clock: Monotonic clock, in seconds.
        """
        self._clock = clock
        self._lock = threading.Lock()
        self._limits: dict[bytes, ServerLimit] = {}
        # Keys are not kept, not even as hashes that could be compared with others.
        self._salt = os.urandom(16)
        self._pid = os.getpid()

    def home(self, endpoint: Endpoint, model: str, *, max_concurrency: int) -> Home:
        """Return what adds a run to the limit of a server.

        Args:
            endpoint: The server, and the key for it.
            model: Name of the model, without the provider.
            max_concurrency: Upper limit of ``"auto"``, >= 1, if no other run uses this server now.
        """
        name = self._name(endpoint, model)

        def join(wake: Callable[[], None], is_windowed: bool) -> tuple[ServerLimit, Participant]:
            if self._pid != os.getpid():  # after a fork: the runs are the parent's, and so may the lock be
                self._lock, self._limits, self._pid = threading.Lock(), {}, os.getpid()
            with self._lock:
                self._limits = {name: limit for name, limit in self._limits.items() if limit.n_runs}
                limit = self._limits.get(name)
                if limit is None:
                    limit = self._limits[name] = ServerLimit(max_concurrency=max_concurrency, clock=self._clock)
                return limit.join(wake, is_windowed)

        return join

    def _name(self, endpoint: Endpoint, model: str) -> bytes:
        """Return what tells a limit from others."""
        found = hashlib.blake2b(key=self._salt)
        for part in (endpoint.host or endpoint.provider, model):
            found.update(hashlib.blake2b(part.encode("utf-8", "surrogatepass")).digest())
        if endpoint.key is not None:
            found.update(hashlib.blake2b(endpoint.key.reveal().encode("utf-8", "surrogatepass")).digest())
        return found.digest()


@functools.cache
def shared_limits() -> ProcessLimits:
    """Return the limits of the process, for all runs that are not given others: the server counts them all together."""
    return ProcessLimits()
