"""What survives a process that is killed in the middle of a run over rows (rows 27 and 28 of the acceptance list)."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from effort import PATIENCE_S
from kernels import clean_environment
from servers import Answer, ChatServer, Received, text

from aichat_magic.batching.api import batch
from aichat_magic.chat.chat import Chat
from aichat_magic.core.settings import Settings
from aichat_magic.core.sync import run_sync as run
from aichat_magic.store.sqlite import SqliteStore

KILLS = 25
CONCURRENCY = 16
ROWS = 6000

# Rows that are given to the program count as acknowledged: it writes their numbers to a pipe.
PROGRAM = textwrap.dedent(
    """
    import asyncio, os, sys
    from aichat_magic import batch_iter_async
    async def main(url, rows, concurrency):
        prompts = [f"row {n}" for n in range(rows)]
        results = batch_iter_async(prompts, model="vllm/m", base_url=url, concurrency=concurrency)
        async for result in results:
            assert result.reply is not None, result
            os.write(1, f"{result.row}\\n".encode())
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
    """
)


def begin(server: ChatServer, home: Path) -> subprocess.Popen[bytes]:
    """Start the run in a process of its own, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, server.url, str(ROWS), str(CONCURRENCY)],
        env=clean_environment(home, {"AICHAT_STORE": str(home / "replies.sqlite3")}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=home,
        start_new_session=True,
    )


def check(database: Path) -> int:
    """How many rows a sound file holds."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'replies'").fetchone():
            return 0  # killed after the file was made and before there was anything in it
        return int(connection.execute("SELECT count(*) FROM replies").fetchone()[0])


@pytest.mark.slow
def test_run_that_is_killed_25_times_loses_no_acknowledged_row_and_pays_for_none_again(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)  # noqa: T201  # a failure names it
    chance = random.Random(seed)
    asked: Counter[str] = Counter()
    acknowledged: set[str] = set()
    asked_again: list[str] = []

    def answer(received: Received, attempt: int) -> Answer:
        row = received.last_message
        asked[row] += 1
        if row in acknowledged:
            asked_again.append(row)
        return text(f"echo: {row}", delay_s=0.01)

    kills = 0
    with ChatServer(answer) as server:
        while kills < KILLS:
            before = len(server.requests)
            process = begin(server, tmp_path)
            # Some are killed while they begin, most while they run.
            is_early = kills % 8 == 7
            if is_early:
                time.sleep(chance.uniform(0, 0.25))
            else:
                enough = before + chance.randrange(1, ROWS // KILLS)
                assert server.wait_until(lambda server: len(server.requests) >= enough)  # noqa: B023  # called at once
            assert process.poll() is None, process.communicate()
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == -signal.SIGKILL, err
            kills += 1
            acknowledged |= {f"row {number}" for number in out.decode().split()}
            assert server.wait_until(lambda server: server.in_flight == 0)
            if (tmp_path / "replies.sqlite3").exists():
                assert check(tmp_path / "replies.sqlite3") >= len(acknowledged)
        n_killed = len(server.requests)
        assert len(acknowledged) > KILLS
        process = begin(server, tmp_path)
        out, err = process.communicate(timeout=2 * PATIENCE_S)
        assert process.returncode == 0, err
        assert sorted(map(int, out.split())) == list(range(ROWS))
    assert check(tmp_path / "replies.sqlite3") == ROWS
    assert asked_again == []
    assert set(asked) == {f"row {number}" for number in range(ROWS)}
    # What was on its way when a run was killed may be asked again, and nothing else.
    assert asked.total() - ROWS <= KILLS * CONCURRENCY
    assert n_killed < ROWS


@pytest.mark.parametrize(
    "changed",
    [{"template": "Judge: {text}"}, {"model": "vllm/other"}, {"temperature": 0.5}, {"system": "Be brief."},
     {"max_tokens": 5}, {"seed": 1}, {"stop": ("x",)}, {"base_url": "other"}],
    ids=lambda changed: next(iter(changed)),
)  # fmt: skip
def test_only_rows_whose_whole_request_is_equal_are_reused(tmp_path: Path, changed: dict[str, Any]) -> None:
    """Row 28."""
    store = SqliteStore(tmp_path / "replies.sqlite3")
    chat = Chat(settings=Settings, store=store)
    texts = ["a", "b"]

    def ask(
        servers: dict[str, ChatServer], *, template: str = "Sum up: {text}", base_url: str = "", **options: Any
    ) -> int:
        """How many requests a run sends."""
        server = servers[base_url]
        before = len(server.requests)
        prompts = [template.format(text=value) for value in texts]
        options = {"model": "vllm/m", "temperature": 0.0, "progress": False, **options}
        batch(prompts, chat=chat, base_url=server.url, **options)
        return len(server.requests) - before

    with ChatServer() as server, ChatServer() as other:
        servers = {"": server, "other": other}
        assert ask(servers) == 2
        assert ask(servers) == 0
        assert ask(servers, temperature=0) == 0  # the same number
        assert ask(servers, timeout=77, concurrency=1) == 0  # decide no reply
        assert ask(servers, **changed) == 2
        assert ask(servers, **changed) == 0
        assert ask(servers) == 0
        texts[1] = "c"
        assert ask(servers) == 1
    run(chat.http.aclose())
    store.close()
