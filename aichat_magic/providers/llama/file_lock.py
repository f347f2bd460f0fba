"""A lock between processes that fetch the same file."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ...core.messages import StatusCallback

_POLL_S = 0.1


@contextlib.contextmanager
def locked(path: Path, name: str, report: StatusCallback, check: Callable[[], None]) -> Iterator[bool]:
    """Hold a lock between processes; the system releases it when its holder dies, however it dies.

    Args:
        path: The file that is locked; it is created and stays.
        name: Name of the model, for the progress.
        report: Called with the progress while another process holds the lock.
        check: Called several times a second meanwhile; an exception from it ends the wait.

    Yields:
        Whether this process holds the lock; False on a file system without locks, where two processes may fetch at the
        same time and both succeed.
    """
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0) as file:
        is_locked = True
        try:
            while not _try_lock(file.fileno()):
                check()
                report(f"Waiting for another process that fetches {name}", 0, 0)
                time.sleep(_POLL_S)
        except OSError:
            is_locked = False
        try:
            yield is_locked
        finally:
            if is_locked:
                _unlock(file.fileno())


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        # Unlocked, not only closed: a child forked in the meantime has the same open file.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
