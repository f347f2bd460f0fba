"""Replies by the hash of their request: nothing acknowledged is lost, and trouble with the file stops nobody."""

# ruff: noqa: ASYNC240  # small local files of the test itself
# ruff: noqa: PT031  # that several calls together warn once is what is tested

import asyncio
import contextlib
import dataclasses
import os
import random
import signal
import sqlite3
import stat
import threading
import warnings
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import platformdirs
import pytest
from effort import PATIENCE_S
from sqlite_files import is_intact, other_program, posix_only, rows_in, run_program

from aichat_magic.core.messages import Message, Reply
from aichat_magic.core.usage import Usage
from aichat_magic.store.memory import MemoryStore
from aichat_magic.store.sqlite import SqliteStore, open_store

pytestmark = pytest.mark.anyio

KEY, OTHER = b"k" * 32, b"o" * 32
REPLY = Reply(
    text="Hello",
    model="echo/m",
    usage=Usage(input_tokens=3, output_tokens=5, cached_tokens=0, cost_usd=0.25),
    finish_reason="length",
    elapsed_s=1.5,
)


def key_of(number: int) -> bytes:
    return sha256(str(number).encode()).digest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "replies.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path)
    yield store
    store.close()


# What is stored


async def test_reply_comes_back_as_it_was_without_its_messages(store: SqliteStore) -> None:
    await store.put(KEY, dataclasses.replace(REPLY, messages=(Message("user", "Hi"),)))
    assert await store.get([KEY, OTHER]) == {KEY: REPLY}
    assert await store.get([OTHER, KEY, KEY]) == {KEY: REPLY}


async def test_reply_without_usage_comes_back_without_usage(store: SqliteStore) -> None:
    await store.put(KEY, Reply(text="x"))
    assert await store.get([KEY]) == {KEY: Reply(text="x")}


THOUGHT = Reply(
    text="Four.",
    model="openai/m",
    usage=Usage(output_tokens=9, reasoning_tokens=7, cache_write_tokens=2**63 - 1),
    thinking="Hm.\x00 \ud800",
    model_version="m-2026-01-01",
    logprobs=[{"token": "Four", "logprob": -0.5}],
)


async def test_thinking_and_all_else_that_a_reply_has_come_back(path: Path) -> None:
    for store in (SqliteStore(path), MemoryStore()):
        await store.put(KEY, THOUGHT)
        for _ in range(2):  # waiting to be written, and from the file
            found = (await store.get([KEY]))[KEY]
            assert found == THOUGHT
            assert found.logprobs == THOUGHT.logprobs
            store.close()


@pytest.mark.parametrize("value", ["thinking = 5", "reasoning_tokens = -1", "model_version = 5", "logprobs = 1.5"])
async def test_strange_values_of_the_new_columns_are_misses(store: SqliteStore, path: Path, value: str) -> None:
    await store.put(KEY, THOUGHT)
    store.close()
    with other_program(path) as connection:
        connection.execute(f"UPDATE replies SET {value}")
    assert await store.get([KEY]) == {}


async def test_logprobs_that_are_no_json_any_more_are_left_out(store: SqliteStore, path: Path) -> None:
    await store.put(KEY, THOUGHT)
    store.close()
    with other_program(path) as connection:
        connection.execute("UPDATE replies SET logprobs = x'ff'")
    assert (await store.get([KEY]))[KEY].logprobs is None


def as_0_1_left_it(path: Path) -> None:
    """Make a file with the columns of release 0.1, and one reply in it."""
    path.parent.mkdir()
    with other_program(path) as connection:
        connection.execute(
            "CREATE TABLE replies (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, created_s REAL NOT NULL, "
            "finish_reason TEXT NOT NULL, model BLOB NOT NULL, input_tokens INTEGER, output_tokens INTEGER, "
            "cached_tokens INTEGER, cost_usd REAL, elapsed_s REAL NOT NULL, text BLOB NOT NULL)"
        )
        connection.execute(f"PRAGMA application_id={0x61694D31}")
        connection.execute("PRAGMA user_version=1")
        add_as_0_1(connection, KEY)


def add_as_0_1(connection: sqlite3.Connection, key: bytes) -> None:
    """Write a reply as a process of release 0.1 does, which may have the file open all the time."""
    connection.execute(
        "INSERT OR REPLACE INTO replies (key, created_s, finish_reason, model, input_tokens, output_tokens, "
        "cached_tokens, cost_usd, elapsed_s, text) VALUES (?, 1e9, 'length', ?, 3, 5, 0, 0.25, 1.5, ?)",
        (key, b"echo/m", b"Hello"),
    )


async def test_file_of_0_1_is_brought_up_to_date_and_loses_nothing(store: SqliteStore, path: Path) -> None:
    as_0_1_left_it(path)
    assert await store.get([KEY]) == {KEY: REPLY}
    await store.put(OTHER, THOUGHT)
    with other_program(path) as connection:
        add_as_0_1(connection, b"p" * 32)
    store.close()
    assert await store.get([KEY, OTHER, b"p" * 32]) == {KEY: REPLY, OTHER: THOUGHT, b"p" * 32: REPLY}
    assert is_intact(path)


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("<think>Hm.\n</think>\n\nFour \x00é.", "Hm.\n", "Four \x00é."),
        ("<think></think>    x = 1", "", "    x = 1"),
        ("<think>Hm.", "", None),
        ("<think>Hm.</think>\n", "", None),
        ("Write <think>Hm.</think>", "", "Write <think>Hm.</think>"),
    ],
)
async def test_thinking_that_0_1_stored_as_text_is_none_any_more(
    store: SqliteStore, path: Path, text: str, thinking: str, answer: str | None
) -> None:
    as_0_1_left_it(path)
    with other_program(path) as connection:
        connection.execute("UPDATE replies SET text = ?", (text.encode(),))
    found = await store.get([KEY])
    if answer is None:
        assert found == {}
    else:
        assert (found[KEY].text, found[KEY].thinking) == (answer, thinking)


@pytest.mark.parametrize("reply", [Reply(text=""), Reply(text=" \n\u200b"), Reply(text="No.", finish_reason="refusal")])
async def test_reply_without_an_answer_is_not_stored(store: SqliteStore, path: Path, reply: Reply) -> None:
    await store.put(KEY, reply)
    await store.put(OTHER, Reply(text="x", finish_reason="tool_calls"))
    assert list(await store.get([KEY, OTHER])) == [OTHER]
    assert rows_in(path, "replies") == 1


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "\udfff\x00é😀", "\x00"])
async def test_any_text_survives(path: Path, text: str) -> None:
    """Row 18."""
    for store in (SqliteStore(path), MemoryStore()):
        await store.put(KEY, Reply(text=text, model=text))
        store.close()
        assert await store.get([KEY]) == {KEY: Reply(text=text, model=text)}
        store.close()


@pytest.mark.parametrize("reason", ["interrupted", "truncated"])
async def test_incomplete_reply_is_not_stored(path: Path, reason: str) -> None:
    for store in (SqliteStore(path), MemoryStore()):
        await store.put(KEY, Reply(text="par", finish_reason=reason))  # type: ignore[arg-type]  # one of the literals
        assert await store.get([KEY]) == {}
    assert not path.exists()


@pytest.mark.parametrize(
    "reply",
    [
        Reply(text="a", elapsed_s=float("nan")),
        Reply(text="a", usage=Usage(cost_usd=float("inf"))),
        Reply(text="a", usage=Usage(input_tokens=2**63)),
        Reply(text="a", usage=Usage(output_tokens=-1)),
    ],
)
async def test_reply_that_could_not_be_read_again_is_not_stored(store: SqliteStore, reply: Reply) -> None:
    await store.put(KEY, reply)
    assert await store.get([KEY]) == {}


async def test_later_reply_replaces_an_earlier_one(store: SqliteStore) -> None:
    for text in ("old", "new"):
        await store.put(KEY, Reply(text=text))
    assert (await store.get([KEY]))[KEY].text == "new"
    assert store.summary().rows == 1


async def test_the_last_of_many_puts_under_one_key_stays(store: SqliteStore) -> None:
    await asyncio.gather(*(store.put(KEY, Reply(text=str(number))) for number in range(100)))
    assert (await store.get([KEY]))[KEY].text == "99"
    store.close()
    assert (await store.get([KEY]))[KEY].text == "99"


@pytest.mark.parametrize("count", [1, 63, 64, 65, 128, 200])
async def test_a_group_of_any_size_is_written_whole_and_in_order(store: SqliteStore, path: Path, count: int) -> None:
    await store.put_many([(key_of(n), Reply(text=str(n))) for n in range(count)])
    with other_program(path) as connection:
        written = connection.execute("SELECT text FROM replies ORDER BY id").fetchall()
    assert written == [(str(n).encode(),) for n in range(count)]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not tell its memory there")
def test_what_was_written_does_not_stay_in_memory(tmp_path: Path) -> None:
    """SQLite keeps the statement of each size of group, and the values that it was given last."""
    program = run_program(
        """
        import asyncio, sys
        from pathlib import Path
        from aichat_magic.core.messages import Reply
        from aichat_magic.store.sqlite import SqliteStore

        def held():
            return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

        async def main():
            store = SqliteStore(Path(sys.argv[1]))
            await store.put(bytes(32), Reply(text="x" * 50_000))
            before = held()
            for size in range(1, 65):
                replies = [(bytes([size, n]) + bytes(30), Reply(text="x" * 50_000)) for n in range(size)]
                await store.put_many(replies)
            print(held() - before)
            store.close()

        asyncio.run(main())
        """,
        str(tmp_path / "replies.sqlite3"),
    )
    assert int(program.communicate(timeout=PATIENCE_S)[0]) < 50_000_000


async def test_rows_that_are_cleared_before_they_are_written_are_no_trouble(path: Path) -> None:
    store = SqliteStore(path)
    await store.put(key_of(0), REPLY)
    writer = store._state().writer
    assert writer._write() is None  # nothing is left to write
    store.close()
    assert rows_in(path, "replies") == 1


async def test_a_connection_inside_a_transaction_takes_no_rows(path: Path) -> None:
    """They would count as durable, and nobody would see them."""
    store = SqliteStore(path)
    await store.put(key_of(0), REPLY)
    store._state().writer._database.connection.execute("BEGIN")  # type: ignore[union-attr]  # as a failed ROLLBACK would
    await store.put(key_of(1), REPLY)
    store.close()
    assert rows_in(path, "replies") == 2


@pytest.mark.slow
async def test_more_keys_than_one_query_takes(store: SqliteStore) -> None:
    await asyncio.gather(*(store.put(key_of(n), Reply(text=str(n))) for n in range(1201)))
    found = await store.get([key_of(n) for n in range(1301)])
    assert {key: reply.text for key, reply in found.items()} == {key_of(n): str(n) for n in range(1201)}


async def test_the_same_for_keys_that_take_several_turns(store: SqliteStore) -> None:
    await store.put(key_of(20_000), REPLY)
    assert await store.get([key_of(n) for n in range(20_001)]) == {key_of(20_000): REPLY}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("text", 7),
        ("text", b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94"),
        ("text", b"\xff\xfe"),
        ("model", 1.5),
        ("model", b"\xff"),
        ("finish_reason", "truncated"),
        ("finish_reason", b"\xff"),
        ("finish_reason", 1),
        ("input_tokens", -1),
        ("input_tokens", 1.5),
        ("output_tokens", "many"),
        ("cached_tokens", b"1"),
        ("cost_usd", -0.5),
        ("cost_usd", float("inf")),
        ("cost_usd", "free"),
        ("elapsed_s", float("-inf")),
        ("elapsed_s", b"\x00"),
        ("created_s", "yesterday"),
    ],
)
async def test_tampered_row_is_a_miss(store: SqliteStore, path: Path, column: str, value: object) -> None:
    """Row 49. The row beside it is not harmed."""
    await store.put(KEY, REPLY)
    await store.put(OTHER, REPLY)
    with other_program(path) as connection:
        connection.execute(f"UPDATE replies SET {column} = ? WHERE key = ?", (value, KEY))
    assert await store.get([KEY, OTHER]) == {OTHER: REPLY}
    store.summary()


async def test_prompts_are_not_in_the_file(store: SqliteStore, path: Path) -> None:
    await store.put(KEY, dataclasses.replace(REPLY, messages=(Message("user", "my secret prompt"),)))
    store.close()
    content = path.read_bytes()
    assert b"Hello" in content
    assert b"secret prompt" not in content


# Files


async def test_nothing_is_made_before_the_first_put(store: SqliteStore, path: Path) -> None:
    assert await store.get([KEY]) == {}
    assert store.summary().rows == 0
    assert store.clear() == 0
    assert not path.parent.exists()
    await store.put(KEY, REPLY)
    assert path.exists()


@posix_only
async def test_directories_and_files_are_closed_to_others(tmp_path: Path) -> None:
    """Row 37."""
    path = tmp_path / "a" / "b" / "replies.sqlite3"
    before = os.umask(0o022)
    try:
        store = SqliteStore(path)
        await store.put(KEY, REPLY)
        await store.get([KEY])
        assert {stat.S_IMODE(d.stat().st_mode) for d in (tmp_path / "a", path.parent)} == {0o700}
        files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        assert files == {path.name + suffix: 0o600 for suffix in ("", "-wal", "-shm")}
        store.close()
    finally:
        os.umask(before)


@posix_only
async def test_a_link_to_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    store = SqliteStore(tmp_path / "link")
    await store.put(KEY, REPLY)
    store.close()
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o600


async def test_store_goes_on_after_close(store: SqliteStore, path: Path) -> None:
    for number in range(3):
        await store.put(key_of(number), REPLY)
        store.close()
        store.close()
        assert not path.with_name(path.name + "-wal").exists()
    assert len(await store.get([key_of(number) for number in range(3)])) == 3


@posix_only
async def test_file_that_is_deleted_under_our_feet_is_made_again(store: SqliteStore, path: Path) -> None:
    await store.put(KEY, REPLY)
    await store.get([KEY])
    for file in list(path.parent.iterdir()):
        file.unlink()
    await store.put(OTHER, REPLY)
    assert rows_in(path, "replies") == 1
    assert await store.get([KEY, OTHER]) == {OTHER: REPLY}


async def test_summary_and_clear(path: Path) -> None:
    now_s = 1_000_000.0
    store = SqliteStore(path, clock=lambda: now_s)
    for number in range(300):
        await store.put(key_of(number), Reply(text="x" * 5000))
        now_s += 1
    summary = store.summary()
    assert (summary.path, summary.rows, summary.is_persistent) == (path, 300, True)
    assert summary.oldest is not None
    assert summary.newest is not None
    assert (summary.oldest.timestamp(), summary.newest.timestamp()) == (1_000_000, 1_000_299)
    assert summary.size_bytes > 1_500_000
    assert store.clear() == 300
    assert await store.get([key_of(0)]) == {}
    assert store.summary().rows == 0
    assert store.summary().size_bytes < 100_000
    store.close()


async def test_nothing_goes_by_itself_however_large_the_file_and_one_line_says_so(path: Path) -> None:
    """Row 120."""
    now_s = 1e9
    store = SqliteStore(path, clock=lambda: now_s, soft_limit_bytes=200_000)
    with pytest.warns(UserWarning, match=r"none is removed by itself\. %aichat store prune --older 90d") as caught:
        for number in range(1200):
            now_s += 86_400  # years go by, too
            await store.put(key_of(number), Reply(text="x" * 1000))
        store.close()
    assert len(caught) == 1
    assert path.stat().st_size > 1_200_000
    assert len(await store.get([key_of(number) for number in range(1200)])) == 1200
    assert store.summary().soft_limit_bytes == 200_000
    store.close()


async def test_file_below_the_soft_limit_is_passed_over_in_silence(path: Path) -> None:
    store = SqliteStore(path, soft_limit_bytes=10_000_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(100):
            await store.put(key_of(number), Reply(text="x" * 1000))
        store.close()


async def test_old_replies_are_misses_and_stay_in_the_file(path: Path) -> None:
    now_s = 1000.0
    store = SqliteStore(path, clock=lambda: now_s, max_age_s=60)
    long = Reply(text="x" * 10_000)
    await store.put(KEY, long)
    now_s += 59
    await store.put(OTHER, long)
    assert len(await store.get([KEY, OTHER])) == 2
    now_s += 2
    assert await store.get([KEY, OTHER]) == {OTHER: long}
    store.close()
    assert rows_in(path, "replies") == 2


# Many at once


async def test_put_returns_when_others_can_read_the_reply(store: SqliteStore, path: Path) -> None:
    await store.put(KEY, REPLY)
    with other_program(path) as connection:

        async def put(number: int) -> None:
            await store.put(key_of(number), REPLY)
            sql = "SELECT count(*) FROM replies WHERE key = ?"
            assert connection.execute(sql, (key_of(number),)).fetchone() == (1,)

        await asyncio.gather(*(put(number) for number in range(200)))


async def test_one_store_in_several_loops_and_threads(store: SqliteStore) -> None:
    async def work(part: int) -> None:
        keys = [key_of(number) for number in range(part * 200, part * 200 + 200)]
        await asyncio.gather(*(store.put(key, REPLY) for key in keys))
        assert len(await store.get(keys)) == 200

    threads = [threading.Thread(target=asyncio.run, args=(work(part),)) for part in range(4)]
    for thread in threads:
        thread.start()
    await work(4)
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert len(await store.get([key_of(number) for number in range(1000)])) == 1000


async def test_put_that_is_cancelled_is_written_all_the_same(store: SqliteStore) -> None:
    task = asyncio.create_task(store.put(KEY, REPLY))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    store.close()
    assert await store.get([KEY]) == {KEY: REPLY}


def test_what_is_waiting_is_written_at_the_end_of_the_program(path: Path) -> None:
    program = run_program(
        """
        import asyncio, pathlib, sys
        from aichat_magic.core.messages import Reply
        from aichat_magic.store.sqlite import SqliteStore
        store = SqliteStore(pathlib.Path(sys.argv[1]))
        async def main():
            tasks = [asyncio.create_task(store.put(bytes([n]) * 32, Reply(text="a"))) for n in range(200)]
            await asyncio.sleep(0)
        asyncio.run(main())
        """,
        str(path),
    )
    program.communicate(timeout=PATIENCE_S)
    assert program.returncode == 0
    assert rows_in(path, "replies") == 200


async def test_store_that_is_dropped_leaves_no_thread(path: Path) -> None:
    store = SqliteStore(path)
    await store.put(KEY, REPLY)
    assert any(thread.name == "aichat_magic store" for thread in threading.enumerate())
    del store
    assert not any(thread.name == "aichat_magic store" for thread in threading.enumerate())


WRITE = """
    import asyncio, hashlib, os, pathlib, sys
    from aichat_magic.core.messages import Reply
    from aichat_magic.store.sqlite import SqliteStore
    store, part = SqliteStore(pathlib.Path(sys.argv[1])), sys.argv[2]
    numbers = iter(range(int(sys.argv[3])))
    async def putter():
        for number in numbers:
            key = hashlib.sha256(f"{part}-{number}".encode()).digest()
            await store.put(key, Reply(text=f"{part} {number}" * 20))
            os.write(1, key.hex().encode() + b"\\n")
    async def main():
        await asyncio.gather(*(putter() for _ in range(16)))
    asyncio.run(main())
"""


@pytest.mark.slow
@posix_only
def test_twenty_five_kills_lose_no_acknowledged_reply(path: Path) -> None:
    """Row 27."""
    chance = random.Random(27)
    acknowledged: set[bytes] = set()
    for turn in range(25):
        program = run_program(WRITE, str(path), str(turn), "1000000")
        assert program.stdout is not None
        lines = [program.stdout.readline() for _ in range(chance.randrange(1, 200))]
        program.send_signal(signal.SIGKILL)
        lines += program.stdout.read().splitlines(keepends=True)
        program.wait()
        program.stdout.close()
        acknowledged |= {bytes.fromhex(line) for line in lines if line.endswith("\n")}
    assert is_intact(path)
    store = SqliteStore(path)
    assert len(acknowledged) > 500
    assert acknowledged == set(asyncio.run(store.get(list(acknowledged))))
    store.close()
    assert is_intact(path)


def test_two_processes_write_into_one_store(path: Path) -> None:
    """Row 31. They make the file at the same moment, too."""
    programs = [run_program(WRITE, str(path), str(part), "2000") for part in range(2)]
    for program in programs:
        program.communicate(timeout=PATIENCE_S)
        assert program.returncode == 0
    assert rows_in(path, "replies") == 4000
    assert is_intact(path)


@posix_only
def test_child_after_fork_has_its_own_connection(path: Path) -> None:
    program = run_program(
        """
        import asyncio, hashlib, os, pathlib, sys, warnings
        warnings.simplefilter("ignore")
        from aichat_magic.core.messages import Reply
        from aichat_magic.store.sqlite import SqliteStore
        store = SqliteStore(pathlib.Path(sys.argv[1]))
        async def work(part):
            keys = [hashlib.sha256(f"{part}-{n}".encode()).digest() for n in range(100)]
            await asyncio.gather(*(store.put(key, Reply(text="a")) for key in keys))
            assert len(await store.get(keys)) == 100
        asyncio.run(work("first"))
        child = os.fork()
        asyncio.run(work("child" if child == 0 else "parent"))
        if child == 0:
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        asyncio.run(work("last"))
        """,
        str(path),
    )
    program.communicate(timeout=PATIENCE_S)
    assert program.returncode == 0
    assert rows_in(path, "replies") == 400
    assert is_intact(path)


# Trouble


async def has_time_beside(task: "asyncio.Task[object]") -> bool:
    """Whether the loop goes on while the task waits for a lock: then it is not done when the loop has turned."""
    for _ in range(20):
        await asyncio.sleep(0.005)
    return not task.done()


@pytest.mark.slow
async def test_locked_store_keeps_the_reply_and_writes_it_later(path: Path) -> None:
    """Row 32."""
    store = SqliteStore(path, patience_s=1)
    await store.put(KEY, REPLY)
    with other_program(path) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.warns(UserWarning, match="locked by another program") as caught:
            await store.put(OTHER, REPLY)
            # From now on nobody waits; who did would wait for ever.
            writer = store._state().writer
            writer._limits = dataclasses.replace(writer._limits, patience_s=1e9)
            await asyncio.gather(*(store.put(key_of(number), REPLY) for number in range(10)))
            assert len(await store.get([KEY, OTHER, key_of(9)])) == 3
        assert len(caught) == 1
        assert not store.summary().is_persistent
        connection.execute("ROLLBACK")
    store.close()
    assert rows_in(path, "replies") == 12
    await store.put(KEY, REPLY)
    assert store.summary().is_persistent
    store.close()


async def test_lock_that_is_soon_free_is_waited_for_without_a_word(path: Path) -> None:
    """Row 32: the lock is let go by the loop, which is not blocked meanwhile."""
    store = SqliteStore(path, patience_s=20)
    await store.put(KEY, REPLY)
    with other_program(path) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        put = asyncio.create_task(store.put(OTHER, REPLY))
        assert await has_time_beside(put)
        connection.execute("ROLLBACK")
        await put
    assert rows_in(path, "replies") == 2
    store.close()


@contextlib.contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Another program has the file for itself alone."""
    with other_program(path) as connection:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("UPDATE replies SET id = id")
        yield


async def test_store_that_cannot_even_be_read_for_a_lock(path: Path) -> None:
    store = SqliteStore(path, patience_s=0.5)
    await store.put(KEY, REPLY)
    store.close()
    with unreadable(path):
        with pytest.warns(UserWarning, match="locked by another program") as caught:
            assert await store.get([KEY]) == {}
        assert len(caught) == 1
    assert await store.get([KEY]) == {KEY: REPLY}
    store.close()


async def test_loop_goes_on_while_a_store_cannot_be_read_for_a_lock(path: Path) -> None:
    """Row 32: were it blocked, nobody would let go of the lock, and the reply would not be found."""
    store = SqliteStore(path, patience_s=20)
    await store.put(KEY, REPLY)
    store.close()
    with unreadable(path):
        get = asyncio.create_task(store.get([KEY]))
        assert await has_time_beside(get)
    assert await get == {KEY: REPLY}
    store.close()


async def test_full_disk_loses_nothing(path: Path) -> None:
    """Row 33."""
    store = SqliteStore(path, max_pages=12)
    with pytest.warns(UserWarning, match="full") as caught:
        for number in range(40):
            await store.put(key_of(number), Reply(text="x" * 2000))
    assert len(caught) == 1
    assert len(await store.get([key_of(number) for number in range(40)])) == 40
    assert is_intact(path)
    assert 0 < rows_in(path, "replies") < 40
    with pytest.warns(UserWarning, match="could not be written"):
        store.close()


async def test_no_reply_is_given_up_while_the_disk_is_full(path: Path) -> None:
    """Row 120."""
    store = SqliteStore(path, max_pages=12)
    with pytest.warns(UserWarning, match="full"):
        for number in range(100):
            await store.put(key_of(number), Reply(text="x" * 2000))
    assert len(await store.get([key_of(number) for number in range(100)])) == 100
    with pytest.warns(UserWarning, match="could not be written"):
        store.close()


@pytest.mark.parametrize("first", ["put", "get"])
async def test_garbage_is_moved_aside_and_kept(store: SqliteStore, path: Path, first: str) -> None:
    """Row 34."""
    path.parent.mkdir()
    path.write_bytes(b"garbage " * 1000)
    path.with_name(path.name + "-wal").write_bytes(b"old journal")
    with pytest.warns(UserWarning, match=r"is damaged .* kept as .*corrupt-") as caught:
        if first == "get":
            assert await store.get([KEY]) == {}
        await store.put(KEY, REPLY)
    assert len(caught) == 1
    (aside,) = path.parent.glob("*.corrupt-????????T??????-*-1")
    assert str(aside) in str(caught[0].message)
    assert aside.read_bytes() == b"garbage " * 1000
    assert aside.with_name(aside.name + "-wal").read_bytes() == b"old journal"
    assert await store.get([KEY]) == {KEY: REPLY}
    assert rows_in(path, "replies") == 1


@posix_only
@pytest.mark.parametrize("first", ["put", "get"])
async def test_damage_that_shows_later_is_moved_aside_too(store: SqliteStore, path: Path, first: str) -> None:
    for number in range(200):
        await store.put(key_of(number), Reply(text="x" * 500))
    store.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))
    with pytest.warns(UserWarning, match="is damaged") as caught:
        if first == "get":
            assert await store.get([key_of(0)]) == {}
        await store.put(KEY, REPLY)
    assert len(caught) == 1
    assert await store.get([KEY, key_of(0)]) == {KEY: REPLY}
    assert is_intact(path)
    assert store.summary().is_persistent


async def test_place_that_cannot_be_written_means_memory(tmp_path: Path) -> None:
    """Row 35."""
    (tmp_path / "file").write_text("no directory")
    store = SqliteStore(tmp_path / "file" / "replies.sqlite3")
    with pytest.warns(UserWarning, match="kept in memory only") as caught:
        for number in range(10):
            await store.put(key_of(number), REPLY)
        assert len(await store.get([key_of(number) for number in range(10)])) == 10
    assert len(caught) == 1
    assert not store.summary().is_persistent
    assert store.summary().rows == 10
    with pytest.warns(UserWarning, match="10 replies could not be written"):
        store.close()


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
async def test_directory_that_is_read_only_means_memory(read_only_folder: Path) -> None:
    store = SqliteStore(read_only_folder / "sub" / "replies.sqlite3")
    with pytest.warns(UserWarning, match="kept in memory only"):
        await store.put(KEY, REPLY)
    assert await store.get([KEY]) == {KEY: REPLY}
    read_only_folder.chmod(0o700)
    store.close()


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["PRAGMA user_version=99"], "newer version"),
        (["PRAGMA application_id=7"], "another program"),
    ],
)
async def test_file_of_somebody_else_is_left_alone(path: Path, statements: list[str], words: str) -> None:
    store = SqliteStore(path)
    await store.put(KEY, REPLY)
    store.close()
    with other_program(path) as connection:
        for statement in statements:
            connection.execute(statement)
    before = path.read_bytes()
    with pytest.warns(UserWarning, match=words) as caught:
        assert await store.get([KEY]) == {}
        await store.put(OTHER, REPLY)
        assert await store.get([KEY, OTHER]) == {OTHER: REPLY}
    assert len(caught) == 1
    store.close()
    assert path.read_bytes() == before


async def test_database_of_another_program_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with other_program(path) as connection:
        connection.execute("CREATE TABLE history (line TEXT)")
    before = path.read_bytes()
    store = SqliteStore(path)
    with pytest.warns(UserWarning, match="another program"):
        await store.put(KEY, REPLY)
    store.close()
    assert path.read_bytes() == before


async def test_trouble_is_logged_where_warnings_are_errors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("no directory")
    store = SqliteStore(tmp_path / "file" / "replies.sqlite3")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await store.put(KEY, REPLY)
        store.close()
    assert "kept in memory only" in caplog.text


# In memory, and where the store is


async def test_memory_store_keeps_all_and_says_once_that_it_is_large() -> None:
    """Row 120."""
    now_s = 0.0
    store = MemoryStore(clock=lambda: now_s, soft_limit_bytes=3000, max_age_s=60)
    with pytest.warns(UserWarning, match="none is removed by itself") as caught:
        for number in range(10):
            await store.put(key_of(number), Reply(text="x" * 850))
    assert len(caught) == 1
    assert len(await store.get([key_of(number) for number in range(10)])) == 10
    assert (store.summary().rows, store.summary().path, store.summary().is_persistent) == (10, None, False)
    now_s = 61.0
    assert await store.get([key_of(9)]) == {}
    assert store.clear() == 10
    assert store.summary().size_bytes == 0


@pytest.mark.parametrize("word", ["none", "memory", "NONE"])
def test_environment_can_say_memory(word: str) -> None:
    assert isinstance(open_store(environ={"AICHAT_STORE": word}), MemoryStore)


def test_environment_can_name_the_file(tmp_path: Path) -> None:
    store = open_store(environ={"AICHAT_STORE": str(tmp_path / "x.sqlite3")})
    assert store.summary().path == tmp_path / "x.sqlite3"
    assert open_store(tmp_path / "y", environ={"AICHAT_STORE": "none"}).summary().path == tmp_path / "y"


def test_store_is_in_the_users_data_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(platformdirs, "user_data_path", lambda name, appauthor: tmp_path / name)
    assert open_store(environ={}).summary().path == tmp_path / "aichat_magic" / "replies.sqlite3"
    assert list(tmp_path.iterdir()) == []


def test_user_without_a_home_gets_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platformdirs, "user_data_path", lambda name, appauthor: Path("~/.local/share") / name)
    with pytest.warns(UserWarning, match="no home directory"):
        assert isinstance(open_store(environ={}), MemoryStore)
