"""SQLite files as another program sees them, and programs that use them."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

posix_only = pytest.mark.skipif(os.name != "posix", reason="modes, signals and fork are POSIX")


@contextlib.contextmanager
def other_program(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that is none of ours."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def is_intact(path: Path) -> bool:
    with other_program(path) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def rows_in(path: Path, table: str) -> int:
    with other_program(path) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def run_program(source: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source), *arguments], stdout=subprocess.PIPE, text=True
    )
