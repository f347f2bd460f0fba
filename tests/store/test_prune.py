"""Removal of old replies, on request only."""

import asyncio
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from sqlite_files import is_intact, other_program

from aichat_magic.core.messages import Reply
from aichat_magic.store import prune
from aichat_magic.store.memory import MemoryStore
from aichat_magic.store.sqlite import SqliteStore

pytestmark = pytest.mark.anyio


def key_of(number: int) -> bytes:
    return sha256(str(number).encode()).digest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "replies.sqlite3"


@pytest.fixture(params=["file", "memory"])
def pruned(request: pytest.FixtureRequest, path: Path) -> Iterator[SqliteStore | MemoryStore]:
    """A store with 300 replies of 1 kB, the first stored at 1e9 and each a day after the one before."""
    now_s = 1e9

    def clock() -> float:
        return now_s

    store = SqliteStore(path, clock=clock) if request.param == "file" else MemoryStore(clock=clock)

    async def fill() -> None:
        nonlocal now_s
        for number in range(300):
            await store.put(key_of(number), Reply(text="x" * 1000))
            now_s += 86_400

    asyncio.run(fill())
    yield store
    store.close()


async def numbers_in(store: SqliteStore | MemoryStore) -> list[int]:
    return [number for number in range(300) if await store.get([key_of(number)])]


def left_in(store: SqliteStore | MemoryStore) -> list[int]:
    return asyncio.run(numbers_in(store))


def test_pruning_by_age_removes_what_is_older(pruned: SqliteStore | MemoryStore) -> None:
    before = pruned.summary().size_bytes
    assert pruned.prune(older_s=90.5 * 86_400) == 210
    assert left_in(pruned) == list(range(210, 300))
    assert pruned.summary().rows == 90
    assert pruned.summary().size_bytes < before / 2
    assert pruned.prune(older_s=90.5 * 86_400) == 0


def test_pruning_by_size_removes_the_oldest_and_no_more_than_it_must(pruned: SqliteStore | MemoryStore) -> None:
    removed = pruned.prune(larger_bytes=200_000)
    assert pruned.summary().size_bytes <= 200_000
    assert left_in(pruned) == list(range(removed, 300))
    assert pruned.summary().size_bytes > 150_000
    assert pruned.prune(larger_bytes=200_000) == 0


def test_pruning_by_both_removes_what_either_says(pruned: SqliteStore | MemoryStore) -> None:
    removed = pruned.prune(older_s=250.5 * 86_400, larger_bytes=100_000)
    assert removed > 200
    assert left_in(pruned) == list(range(removed, 300))


def test_pruning_to_next_to_nothing_ends(pruned: SqliteStore | MemoryStore) -> None:
    assert pruned.prune(larger_bytes=1) == 300
    assert left_in(pruned) == []
    assert pruned.summary().rows == 0


def test_reply_stored_anew_is_the_newest(pruned: SqliteStore | MemoryStore) -> None:
    asyncio.run(pruned.put(key_of(0), Reply(text="new")))
    pruned.prune(larger_bytes=100_000)
    assert 0 in left_in(pruned)
    assert 1 not in left_in(pruned)


def test_pruning_where_there_is_no_file_makes_none(path: Path) -> None:
    assert SqliteStore(path).prune(older_s=1, larger_bytes=1) == 0
    assert not path.parent.exists()


@pytest.mark.slow
async def test_pruning_while_another_program_reads_keeps_the_file_usable(path: Path) -> None:
    store = SqliteStore(path, patience_s=0.1)
    for number in range(300):
        await store.put(key_of(number), Reply(text="x" * 1000))
    with other_program(path) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM replies").fetchone()
        assert 0 < store.prune(larger_bytes=200_000) < 300
        connection.execute("COMMIT")
    assert key_of(299) in await store.get([key_of(299)])
    assert is_intact(path)
    store.close()


async def test_pruning_goes_in_parts_so_that_others_can_write_in_between(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune, "_ROWS_AT_ONCE", 7)
    now_s = 1e9
    store = SqliteStore(path, clock=lambda: now_s)
    for number in range(30):
        now_s += 1
        await store.put(key_of(number), Reply(text="x" * 1000))
    assert store.prune(older_s=9.5) == 20
    assert store.prune(larger_bytes=20_000) > 0
    assert (await numbers_in(store))[-1] == 29
    store.close()


@pytest.mark.parametrize("kind", ["file", "memory"])
async def test_thinking_counts_for_the_size(kind: str, path: Path) -> None:
    store = SqliteStore(path) if kind == "file" else MemoryStore()
    for number in range(20):
        await store.put(key_of(number), Reply(text="x", thinking="y" * 50_000 if number < 10 else ""))
    assert store.summary().size_bytes > 500_000
    removed = store.prune(larger_bytes=300_000)
    assert 4 <= removed <= 6
    assert store.summary().size_bytes <= 300_000
    assert len(await store.get([key_of(number) for number in range(20)])) == 20 - removed
    store.close()
