"""Files that are locked, full, damaged or cannot be created: the answer is shown all the same, with one warning.

Each fault meets a cell, whose conversation is stored in a file, and a column, whose replies are. The stores by
themselves: test_sqlite.py, test_write_behind.py.
"""

# ruff: noqa: PT031  # that several calls together warn once is what is tested

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from servers import Answer, ChatServer, Received, status, text
from sqlite_files import is_intact, rows_in
from traitlets.config import Config

import aichat_magic
import aichat_magic.chat.chat
from aichat_magic.chat.chat import Chat
from aichat_magic.core import sync
from aichat_magic.core.settings import Settings
from aichat_magic.store import conversations
from aichat_magic.store.conversations import SqliteConversations
from aichat_magic.store.sqlite import SqliteStore

LONG = "x" * 3000
WAITS: dict[type, str] = {SqliteStore: "patience_s", SqliteConversations: "busy_timeout_s"}

# Holds a file until its input ends.
LOCK = """
import sqlite3, sys
connections = [sqlite3.connect(path, isolation_level=None) for path in sys.argv[1:]]
for connection in connections:
    connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def locked(*paths: Path) -> Iterator[None]:
    """Another process has these files locked."""
    process = subprocess.Popen(
        [sys.executable, "-c", LOCK, *map(str, paths)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"locked\n"
        yield
    finally:
        process.communicate()


def answer(received: Received, attempt: int) -> Answer:
    return text(f"{received.last_message} {LONG}")


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer(answer) as server:
        yield server


class Shell:
    """An IPython shell with the extension, whose stores are files that the test names."""

    def __init__(self, chat: Chat, server: ChatServer, capsys: pytest.CaptureFixture[str]) -> None:
        config = Config()
        config.HistoryManager.enabled = False
        self.chat = chat
        self.ip = InteractiveShell(config=config)
        self.ip.run_line_magic("load_ext", "aichat_magic")
        self._flags = f"-m openai/m --base-url {server.url}"
        self._capsys = capsys
        self._n_columns = 0

    def ask(self, prompt: str) -> str:
        """What a cell prints."""
        self._capsys.readouterr()
        assert self.ip.run_cell(f"%%aichat {self._flags}\n{prompt}", store_history=True).success
        return self._capsys.readouterr().out

    def fill(self, *prompts: str) -> list[str]:
        """The column that a run over rows fills."""
        self.ip.user_ns["df"] = frame = pd.DataFrame({"p": prompts})
        assert self.ip.run_cell(f"%%aichat {self._flags} --batch df --into r --no-progress\n{{p}}").success
        return [str(reply) for reply in frame["r"]]


MakeShell = Callable[..., Shell]


@pytest.fixture
def shell(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[MakeShell]:
    """Makes the shell; its stores stand in `tmp_path` or where `environ` says."""
    made: list[Shell] = []
    stores: list[conversations.ConversationStore] = []

    def make(*, environ: dict[str, str] | None = None, **trouble: Any) -> Shell:
        monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
        settings = Settings(environ={"OPENAI_API_KEY": "sk-x", **(environ or {})})
        store = None if environ is not None else SqliteStore(tmp_path / "r.sqlite3", **trouble.get("replies", {}))
        chat = Chat(settings=lambda: settings, store=store)
        monkeypatch.setattr(aichat_magic.chat.chat, "shared_chat", lambda: chat)
        if environ is None:
            kept = SqliteConversations(tmp_path / "c.sqlite3", **trouble.get("conversations", {}))
        else:
            kept = conversations.open_conversations(environ=environ)
        stores.append(kept)
        monkeypatch.setattr(conversations, "open_conversations", lambda environ: kept)
        made.append(Shell(chat, server, capsys))
        return made[-1]

    yield make
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what could not be written in the end
        for shell in made:
            shell.ip.run_line_magic("unload_ext", "aichat_magic")
            sync.run_sync(shell.chat.http.aclose())
            shell.chat.store.close()
        for one in stores:
            one.close()


def use(shell: Shell, server: ChatServer, times: int = 4) -> None:
    """Cells and columns are answered, and cells remember what was said."""
    for number in range(times):
        assert f"cell {number} {LONG}" in shell.ask(f"cell {number}")
        rows = [f"row {number} {part}" for part in range(5)]
        assert shell.fill(*rows) == [f"{row} {LONG}" for row in rows]
    shell.ask("last")
    asked = [message["content"] for message in server.bodies[-1]["messages"][::2]]
    assert asked == [*(f"cell {number}" for number in range(times)), "last"]


def warned(caught: list[warnings.WarningMessage]) -> list[str]:
    """The warnings about files."""
    return [str(one.message) for one in caught if one.category is UserWarning]


@pytest.mark.slow
def test_stores_that_another_process_locks_for_10_seconds(shell: MakeShell, server: ChatServer, tmp_path: Path) -> None:
    """Row 32, with the waits that users have."""
    # Each waits once: together less than the 10 s.
    waits = [inspect.signature(kind).parameters[name].default for kind, name in WAITS.items()]
    assert 0 < sum(waits) < 10
    ours = shell()
    ours.ask("before")
    ours.fill("before")
    with locked(tmp_path / "r.sqlite3", tmp_path / "c.sqlite3"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert LONG in ours.ask("meanwhile")
            assert ours.fill("meanwhile") == [f"meanwhile {LONG}"]
            assert ours.fill("one more") == [f"one more {LONG}"]  # nobody waits a second time
            ours.ask("more")
        assert sorted(word in message for message in warned(caught) for word in ("Conv", "Repl")) == [0, 0, 1, 1]
        assert all("locked by another program" in message for message in warned(caught))
    # What was kept in memory is written as soon as the file is free.
    ours.ask("after")
    ours.chat.store.close()
    assert rows_in(tmp_path / "r.sqlite3", "replies") == 3
    assert rows_in(tmp_path / "c.sqlite3", "turns") == 4


def test_lock_that_is_soon_free_is_waited_for_without_a_word(shell: MakeShell, tmp_path: Path) -> None:
    """Row 31: another kernel writes at the same moment."""
    ours = shell()
    ours.ask("before")
    ours.fill("before")
    paths = (tmp_path / "r.sqlite3", tmp_path / "c.sqlite3")
    calls = (lambda: ours.fill("meanwhile"), lambda: ours.ask("meanwhile"))
    for path, call in zip(paths, calls, strict=True):
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN EXCLUSIVE")
        release = threading.Timer(0.3, other.close)  # the stores wait for longer
        release.start()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        release.join()
        assert warned(caught) == []
    assert rows_in(paths[0], "replies") == 2
    assert rows_in(paths[1], "turns") == 2


@pytest.mark.slow
@pytest.mark.anyio
async def test_event_loop_is_not_blocked_by_a_locked_store(server: ChatServer, tmp_path: Path) -> None:
    """Row 32: the wait of the file is in another thread."""
    store = SqliteStore(tmp_path / "r.sqlite3", patience_s=1)
    chat = Chat(settings=Settings, store=store)

    async def fill(prompt: str) -> list[str]:
        found = await aichat_magic.batch_async([prompt], model="vllm/m", base_url=server.url, progress=False, chat=chat)
        return [str(one) for one in found]

    await fill("before")
    with locked(tmp_path / "r.sqlite3"), pytest.warns(UserWarning, match="locked by another program"):
        task = asyncio.create_task(fill("meanwhile"))
        turns = 0
        while not task.done():
            await asyncio.sleep(0.005)
            turns += 1
        assert (await task) == [f"meanwhile {LONG}"]
    assert turns > 10  # a loop that the lock blocks turns a few times before it and after it
    await chat.http.aclose()
    store.close()


def test_full_disk(shell: MakeShell, server: ChatServer, tmp_path: Path) -> None:
    """Row 33."""
    ours = shell(replies={"max_pages": 12}, conversations={"max_pages": 24})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        use(ours, server, times=12)
    assert sorted(message.split()[0] for message in warned(caught)) == ["Conversations", "Replies"]
    assert all("full" in message for message in warned(caught))
    assert is_intact(tmp_path / "r.sqlite3")
    assert is_intact(tmp_path / "c.sqlite3")
    assert rows_in(tmp_path / "r.sqlite3", "replies") > 0
    assert rows_in(tmp_path / "c.sqlite3", "turns") > 0


def test_damaged_files_are_moved_aside_with_a_time_stamp(shell: MakeShell, server: ChatServer, tmp_path: Path) -> None:
    """Row 34."""
    for name in ("r", "c"):
        (tmp_path / f"{name}.sqlite3").write_bytes(b"garbage " * 1000)
    ours = shell()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        use(ours, server)
    assert len(warned(caught)) == 2
    for name, table in (("r", "replies"), ("c", "turns")):
        (aside,) = tmp_path.glob(f"{name}.sqlite3.corrupt-????????T??????-*")
        assert aside.read_bytes() == b"garbage " * 1000
        assert sum(str(aside) in message for message in warned(caught)) == 1
        assert rows_in(tmp_path / f"{name}.sqlite3", table) > 0


def test_home_that_cannot_be_written(
    shell: MakeShell, server: ChatServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Row 35: no user, not even root, can make a directory below a device."""
    for name in ("AICHAT_STORE", "AICHAT_CONVERSATIONS", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/dev/null/home")
    ours = shell(environ={})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        use(ours, server)
    messages = warned(caught)
    assert sorted(message.split()[0] for message in messages) == ["Conversations", "Replies"]
    assert all("memory only" in message and "/dev/null/home" in message for message in messages)
    before = len(server.requests)
    assert ours.fill("row 0 0") == [f"row 0 0 {LONG}"]  # from memory
    assert len(server.requests) == before


@pytest.mark.slow
@pytest.mark.parametrize("day_s", [86_400, -86_400], ids=["forth", "back"])
def test_clock_that_is_set_by_a_day_changes_no_wait_of_a_cell(
    shell: MakeShell, server: ChatServer, monkeypatch: pytest.MonkeyPatch, day_s: int
) -> None:
    """Row 36, for cells. Runs over rows: tests/batching/test_faults.py."""
    real = time.time
    offsets_s = [0]

    def set_clock(received: Received, attempt: int) -> Answer:
        if attempt == 1:
            threading.Timer(0.4, offsets_s.append, [day_s]).start()  # in the middle of the wait
            return status(429, headers={"retry-after": "1"})
        return text("fine")

    ours = shell()
    server.answer = set_clock
    monkeypatch.setattr(time, "time", lambda: real() + offsets_s[-1])
    ours.ask("hello")  # a wait that grows by a day ends with the time of the test
    assert 1 <= ours.ip.user_ns["_"].elapsed_s < abs(day_s) / 2
    assert len(server.requests) == 2
