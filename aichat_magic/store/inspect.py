"""Inspection of the files of replies and conversations: nothing is created, moved or written."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .files import CONVERSATIONS_FILE, REPLIES_FILE

_MAX_CHECK_S = 2.0
_STEPS_PER_LOOK = 10_000  # of SQLite's virtual machine, between two looks at the clock

_FILES = {"replies": REPLIES_FILE, "conversations": CONVERSATIONS_FILE}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileState:
    """The state of a file.

    Attributes:
        path: The file; None: kept in memory, because the environment says so or there is no home directory.
        size_bytes: Its size with its write-ahead log; None: it is not there yet.
        is_writable: Whether it, or else the nearest folder that exists, can be written.
        problem: SQLite's words for what is wrong with its content; empty: nothing was found.
    """

    path: Path | None
    size_bytes: int | None = None
    is_writable: bool = True
    problem: str = ""


def inspect_file(what: str, environ: Mapping[str, str], *, clock: Callable[[], float] = time.monotonic) -> FileState:
    """Inspect one of the files.

    Args:
        what: ``"replies"`` or ``"conversations"``.
        environ: The environment, which may name another path.
        clock: Seconds that only go forward: a large file is checked for two of them.
    """
    path = _FILES[what].path(environ, is_quiet=True)
    if path is None:
        return FileState(path=None)
    if not path.exists():
        folder = next(folder for folder in path.parents if folder.exists())
        return FileState(path=path, is_writable=folder.is_dir() and os.access(folder, os.W_OK | os.X_OK))
    size = sum(file.stat().st_size for file in (path, Path(f"{path}-wal")) if file.exists())
    is_writable = path.is_file() and os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    return FileState(path=path, size_bytes=size, is_writable=is_writable, problem=_problem(path, clock))


def _problem(path: Path, clock: Callable[[], float]) -> str:
    """Return what SQLite finds wrong in the time that it has; empty: nothing."""
    end_s = clock() + _MAX_CHECK_S
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0.5)) as file:
            file.set_progress_handler(lambda: int(clock() > end_s), _STEPS_PER_LOOK)
            (found,) = file.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        # A lock, or the end of the time: neither is damage.
        return "" if any(word in str(error) for word in ("interrupted", "locked")) else str(error)
    except sqlite3.Error as error:
        return str(error)
    return "" if found == "ok" else str(found).splitlines()[0]
