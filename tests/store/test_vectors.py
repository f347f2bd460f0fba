"""Vectors in the file of replies: kept, found again, removed on request, and never in the way of a run."""

import asyncio
import sqlite3
import warnings
from pathlib import Path
from typing import Any

import pytest

from aichat_magic.core.messages import Reply
from aichat_magic.store.memory import MemoryStore
from aichat_magic.store.sqlite import SqliteStore
from aichat_magic.store.vectors import TABLE, SqliteVectors, VectorKeys

ONE, TWO = b"\x00\x00\x80?" * 2, b"\x00\x00\x00@" * 2
KEY, OTHER = b"k" * 32, b"o" * 32


def keys(**changed: Any) -> VectorKeys:
    return VectorKeys(
        **{"provider": "p", "host": "h", "model": "m", "dimensions": None, "extra": None, **changed}  # type: ignore[arg-type]  # as the caller says
    )


def get(store: Any, *wanted: bytes) -> dict[bytes, bytes]:
    return asyncio.run(store.vectors.get(list(wanted)))  # type: ignore[no-any-return]  # any store


def put(store: Any, *vectors: tuple[bytes, bytes]) -> None:
    asyncio.run(store.vectors.put_many(list(vectors)))


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return SqliteStore(tmp_path / "replies.sqlite3") if request.param == "file" else MemoryStore()


def test_vectors_are_found_again_and_replaced(store: Any) -> None:
    assert get(store, KEY) == {}
    put(store, (KEY, ONE), (OTHER, TWO))
    assert get(store, KEY, OTHER, b"n" * 32) == {KEY: ONE, OTHER: TWO}
    put(store, (KEY, TWO))
    assert get(store, KEY) == {KEY: TWO}


def test_clear_removes_replies_and_vectors(store: Any) -> None:
    put(store, (KEY, ONE))
    asyncio.run(store.put(OTHER, Reply(text="paid")))
    assert (store.summary().rows, store.summary().vectors) == (1, 1)
    assert store.clear() == 2
    assert (store.summary().rows, store.summary().vectors) == (0, 0)
    assert get(store, KEY) == {}


def test_more_vectors_than_one_query_takes_are_found(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "replies.sqlite3")
    many = [(number.to_bytes(32, "big"), ONE) for number in range(1500)]
    put(store, *many)
    assert get(store, *(key for key, _ in many)) == dict(many)


@pytest.mark.parametrize(
    "changed", [{"provider": "q"}, {"host": "i"}, {"model": "n"}, {"dimensions": 3}, {"extra": "{}"}], ids=str
)
def test_key_is_of_everything_that_decides_the_vector(changed: dict[str, Any]) -> None:
    assert keys().key("a") == keys().key("a")
    assert keys().key("a") != keys().key("b")
    assert keys().key("a") != keys(**changed).key("a")
    assert len(keys().key("\ud800")) == 32


def test_file_of_a_release_without_vectors_opens_and_a_file_with_them_opens_there(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite3"
    store = SqliteStore(path)
    asyncio.run(store.put(KEY, Reply(text="old")))
    store.close()
    with sqlite3.connect(path) as file:
        before = file.execute("PRAGMA user_version").fetchone()
        assert file.execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (TABLE,)).fetchone() == (0,)
    assert get(SqliteStore(path), KEY) == {}
    put(SqliteStore(path), (KEY, ONE))
    with sqlite3.connect(path) as file:
        assert file.execute("PRAGMA user_version").fetchone() == before
    assert asyncio.run(SqliteStore(path).get([KEY]))[KEY].text == "old"


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_prune_removes_old_vectors_and_vectors_before_replies(kind: str, tmp_path: Path) -> None:
    now = [1000.0]
    path = tmp_path / "replies.sqlite3"
    clock: Any = lambda: now[0]  # noqa: E731  # one line
    store: Any = SqliteStore(path, clock=clock) if kind == "file" else MemoryStore(clock=clock)
    put(store, (KEY, ONE))
    now[0] = 2000.0
    put(store, (OTHER, TWO))
    asyncio.run(store.put(KEY, Reply(text="paid")))
    store.close()
    assert store.prune(older_s=500) == 1
    assert get(store, KEY, OTHER) == {OTHER: TWO}
    put(store, *((number.to_bytes(32, "big"), b"\x00" * 4000) for number in range(300)))
    assert store.prune(larger_bytes=200_000) > 200
    assert len(asyncio.run(store.get([KEY]))) == 1
    assert 0 < len(get(store, *(number.to_bytes(32, "big") for number in range(300)))) < 100


@pytest.mark.parametrize("value", [b"", b"abc", "texts", 3, None])
def test_what_is_no_vector_is_left_out(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite3"
    put(SqliteStore(path), (OTHER, ONE))
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA ignore_check_constraints = 1")
        file.execute(f"DROP TABLE {TABLE}")
        file.execute(f"CREATE TABLE {TABLE} (id INTEGER PRIMARY KEY, key, created_s, vector)")
        file.execute(f"INSERT INTO {TABLE} (key, created_s, vector) VALUES (?, 1.0, ?)", (KEY, value))
    assert get(SqliteStore(path), KEY) == {}


@pytest.mark.parametrize("trouble", ["directory", "another program", "newer"])
def test_file_that_cannot_be_used_costs_one_warning_and_no_run(trouble: str, tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite3"
    if trouble == "directory":
        path.mkdir()
    else:
        with sqlite3.connect(path) as file:
            file.execute("CREATE TABLE things (x)")
            file.execute(f"PRAGMA user_version = {999 if trouble == 'newer' else 1}")
    vectors = SqliteVectors(path)
    with pytest.warns(UserWarning, match=r"vectors of this run are not kept, because the file .* cannot be used"):
        asyncio.run(vectors.put_many([(KEY, ONE)]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(vectors.put_many([(KEY, ONE)]))
        assert asyncio.run(vectors.get([KEY])) == {}
