"""Look at a file of ours without opening it as ours: nothing is made, moved or written."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

_LONGEST_S = 2.0
_STEPS = 10_000

# The variable that names each file, and its name in the user's data directory.
_FILES = {
    "replies": ("AICHAT_STORE", "replies.sqlite3"),
    "conversations": ("AICHAT_CONVERSATIONS", "conversations.sqlite3"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileState:
    """How a file stands.

    Attributes:
        path: The file; None: kept in memory, because the environment says so.
        size_bytes: Its size with its journals; None: it is not there yet.
        is_writable: Whether it, or else the nearest folder there is, can be written.
        problem: What is wrong with what is in it; empty: nothing, as far as was seen.
    """

    path: Path | None
    size_bytes: int | None = None
    is_writable: bool = True
    problem: str = ""


def state_of(what: str, environ: Mapping[str, str], *, clock: Callable[[], float] = time.monotonic) -> FileState:
    """Look at one.

    Args:
        what: ``"replies"`` or ``"conversations"``.
        environ: The environment, which may name another place.
        clock: Seconds that only go forward: a large file is looked at for two of them.
    """
    path = _place_of(what, environ)
    if path is None:
        return FileState(path=None)
    if not path.exists():
        folder = next(folder for folder in path.parents if folder.exists())
        return FileState(path=path, is_writable=folder.is_dir() and os.access(folder, os.W_OK | os.X_OK))
    size = sum(found.stat().st_size for found in (path, *(Path(f"{path}{end}") for end in ("-wal",))) if found.exists())
    is_writable = path.is_file() and os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    return FileState(path=path, size_bytes=size, is_writable=is_writable, problem=_problem(path, clock))


def _place_of(what: str, environ: Mapping[str, str]) -> Path | None:
    variable, name = _FILES[what]
    named = environ.get(variable, "")
    if named.lower() in ("none", "memory"):
        return None
    if named:
        return Path(os.path.abspath(os.path.expanduser(named)))
    import platformdirs  # not needed where the place is named

    path = platformdirs.user_data_path("aichat_magic", appauthor=False) / name
    return path if path.is_absolute() else None


def _problem(path: Path, clock: Callable[[], float]) -> str:
    """What SQLite finds wrong, in the time there is."""
    ends = clock() + _LONGEST_S
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0.5)) as file:
            file.set_progress_handler(lambda: int(clock() > ends), _STEPS)
            (found,) = file.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        # Busy, or longer than we look: both are no damage.
        return "" if any(word in str(error) for word in ("interrupted", "locked")) else str(error)
    except sqlite3.Error as error:
        return str(error)
    return "" if found == "ok" else str(found).splitlines()[0]
