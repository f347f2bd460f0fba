"""Conversations whose file is locked, full, damaged or not ours: changes wait in memory, with one warning."""

# ruff: noqa: PT031  # that several calls together warn once is what is tested

import asyncio
import os
import warnings
from pathlib import Path

import pytest
from sqlite_files import is_intact, other_program, posix_only
from stored_turns import SCOPE, a_turn, append_words, prompts

from aichat_magic.core.messages import Reply
from aichat_magic.store.conversations import SqliteConversations
from aichat_magic.store.sqlite import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "conversations.sqlite3"


def test_locked_file_keeps_turns_and_writes_them_later(path: Path) -> None:
    """Row 32. One wait, one warning; what waits is seen, and is written in order behind what others wrote."""
    store = SqliteConversations(path, busy_timeout_s=0.2)
    ids = append_words(store, "a b")
    database = store._log()._database
    assert database is not None
    statements: list[str] = []
    database.connection.set_trace_callback(statements.append)
    with other_program(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.warns(UserWarning, match="locked by another program") as caught:
            waiting = store.append(SCOPE, "main", a_turn("c"))
            assert statements.count("PRAGMA busy_timeout=200") == 1
            append_words(store, "d e")
            store.replace(SCOPE, "main", waiting.id, a_turn("C"))
            store.append("", "fresh", a_turn("x"))
            assert statements.count("PRAGMA busy_timeout=200") == 1  # nobody waits again
            assert waiting.id > 2**52 > ids[0]
            assert prompts(store) == "a b C d e"
            assert [one.name for one in store.names(SCOPE)] == ["fresh", "main"]
            assert [hit.turn.prompt for hit in store.search("d")] == ["d"]
            assert sum(row.replies for row in store.usage()) == 7
        assert len(caught) == 1
        connection.execute("ROLLBACK")
        assert prompts(SqliteConversations(path)) == "a b"
    assert prompts(store) == "a b C d e"
    assert prompts(SqliteConversations(path)) == "a b C d e"
    assert sum(row.replies for row in store.usage()) == 7
    store.close()


def test_name_of_a_turn_holds_after_it_was_written(path: Path) -> None:
    store = SqliteConversations(path, busy_timeout_s=0)
    append_words(store, "a")
    with other_program(path) as connection, pytest.warns(UserWarning, match="locked"):
        connection.execute("BEGIN IMMEDIATE")
        ids = append_words(store, "b c")
        connection.execute("ROLLBACK")
    store.replace(SCOPE, "main", ids[0], a_turn("B"))
    assert prompts(store) == "a B c"
    store.rewind(SCOPE, "main", ids[1])
    assert prompts(store) == "a b c"
    store.close()


def test_turns_that_waited_follow_what_others_wrote_meanwhile(path: Path) -> None:
    store, other = (SqliteConversations(path, busy_timeout_s=0) for _ in range(2))
    append_words(store, "a")
    with other_program(path) as connection, pytest.warns(UserWarning, match="locked"):
        connection.execute("BEGIN IMMEDIATE")
        append_words(store, "mine")
        store.fork(SCOPE, "main", "", "twin")
        connection.execute("ROLLBACK")
    append_words(other, "theirs")
    append_words(other, "x", "twin", "")
    with pytest.warns(UserWarning, match="'twin' already"):
        assert prompts(store) == "a theirs mine"
    assert prompts(store, "twin", "") == "x"
    store.close()
    other.close()


def test_what_waits_is_written_at_the_end(path: Path) -> None:
    store = SqliteConversations(path, busy_timeout_s=0)
    append_words(store, "a")
    with other_program(path) as connection, pytest.warns(UserWarning, match="locked"):
        connection.execute("BEGIN IMMEDIATE")
        append_words(store, "b")
        connection.execute("ROLLBACK")
    store.close()
    assert prompts(SqliteConversations(path)) == "a b"


def test_full_disk_loses_nothing(path: Path) -> None:
    """Row 33."""
    store = SqliteConversations(path, max_pages=24)
    with pytest.warns(UserWarning, match="full") as caught:
        for number in range(40):
            store.append(SCOPE, "main", a_turn(str(number), reply=Reply(text="x" * 2000)))
    assert len(caught) == 1
    assert prompts(store) == " ".join(map(str, range(40)))
    assert is_intact(path)
    with pytest.warns(UserWarning, match="changes of conversations could not be written"):
        store.close()
    written = (prompts(SqliteConversations(path)) or "").split()
    assert 0 < len(written) < 40
    roomy = SqliteConversations(path)
    append_words(roomy, "more")
    assert prompts(roomy) == " ".join([*written, "more"])
    roomy.close()


@pytest.mark.parametrize("first", ["append", "load"])
def test_garbage_is_moved_aside_and_kept(path: Path, first: str) -> None:
    """Row 34."""
    store = SqliteConversations(path)
    path.parent.mkdir()
    path.write_bytes(b"garbage " * 1000)
    with pytest.warns(UserWarning, match=r"is damaged .* kept as .*corrupt-") as caught:
        if first == "load":
            assert store.load(SCOPE, "main") is None
        append_words(store, "a")
    assert len(caught) == 1
    (aside,) = path.parent.glob("*.corrupt-????????T??????-*-1")
    assert aside.read_bytes() == b"garbage " * 1000
    assert prompts(store) == "a"
    store.close()
    assert prompts(SqliteConversations(path)) == "a"


@posix_only
@pytest.mark.parametrize("first", ["append", "load"])
def test_damage_that_shows_later_is_moved_aside_too(path: Path, first: str) -> None:
    store = SqliteConversations(path)
    for number in range(100):
        store.append(SCOPE, "main", a_turn(str(number) * 500))
    store.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))
    with pytest.warns(UserWarning, match="is damaged") as caught:
        if first == "load":
            store.load(SCOPE, "main")
        append_words(store, "a")
    assert len(caught) == 1
    assert prompts(store) == "a"
    assert is_intact(path)
    store.close()


def test_place_that_cannot_be_written_means_memory(tmp_path: Path) -> None:
    """Row 35."""
    (tmp_path / "file").write_text("no directory")
    store = SqliteConversations(tmp_path / "file" / "c.sqlite3")
    assert store.load(SCOPE, "main") is None
    with pytest.warns(UserWarning, match="kept in memory only") as caught:
        ids = append_words(store, "a b c")
        store.rewind(SCOPE, "main", ids[1])
        append_words(store, "d")
    assert len(caught) == 1
    assert prompts(store) == "a b d"
    with pytest.warns(UserWarning, match="5 changes of conversations could not be written"):
        store.close()


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_directory_that_is_read_only_means_memory(read_only_folder: Path) -> None:
    store = SqliteConversations(read_only_folder / "sub" / "c.sqlite3")
    with pytest.warns(UserWarning, match="kept in memory only"):
        append_words(store, "a")
    assert prompts(store) == "a"
    read_only_folder.chmod(0o700)
    store.close()
    assert prompts(SqliteConversations(read_only_folder / "sub" / "c.sqlite3")) == "a"


@pytest.mark.parametrize(
    ("statement", "words"),
    [("PRAGMA user_version=99", "newer version"), ("PRAGMA application_id=7", "another program")],
)
def test_file_of_somebody_else_is_left_alone(path: Path, statement: str, words: str) -> None:
    store = SqliteConversations(path)
    append_words(store, "a")
    store.close()
    with other_program(path) as connection:
        connection.execute(statement)
    before = path.read_bytes()
    store = SqliteConversations(path)
    with pytest.warns(UserWarning, match=words) as caught:
        assert store.load(SCOPE, "main") is None
        append_words(store, "b c")
        assert prompts(store) == "b c"
    assert len(caught) == 1
    store.close()
    assert path.read_bytes() == before


def test_store_of_replies_is_not_taken_for_one_of_conversations(path: Path) -> None:
    store = SqliteConversations(path)
    append_words(store, "a")
    store.close()
    with pytest.warns(UserWarning, match="another program"):
        assert asyncio.run(SqliteStore(path).get([b"k" * 32])) == {}


def test_trouble_is_logged_where_warnings_are_errors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("no directory")
    store = SqliteConversations(tmp_path / "file" / "c.sqlite3")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        append_words(store, "a")
        store.close()
    assert "kept in memory only" in caplog.text


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("said", "text", 7),
        ("said", "text", b"\xff\xfe"),
        ("said", "text", b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94"),
        ("said", "prompt", 1.5),
        ("said", "prompt", b"\xff"),
        ("said", "cell_id", 7),
        ("said", "notebook", b"\xff"),
        ("said", "options", 7),
        ("said", "model", b"\xff"),
        ("said", "finish_reason", "truncated"),
        ("said", "input_tokens", -1),
        ("said", "input_tokens", "many"),
        ("said", "cost_usd", float("inf")),
        ("said", "elapsed_s", b"\x00"),
        ("said", "created_s", "yesterday"),
        ("said", "id", 77),
    ],
)
def test_tampered_turn_is_left_out(path: Path, table: str, column: str, value: object) -> None:
    """Row 49. The turns beside it are not harmed."""
    store = SqliteConversations(path)
    append_words(store, "a b c")
    with other_program(path) as connection:
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE id = 2", (value,))
    assert prompts(store) == "a c"
    assert [hit.turn.prompt for hit in store.search("")] == ["c", "a"]
    store.names(SCOPE)
    store.fork(SCOPE, "main", "", "twin")
    append_words(store, "d")
    assert prompts(store) == "a c d"
    store.delete(SCOPE, "main")
    store.close()


@pytest.mark.parametrize("options", [b"\xff", b"[1]", b"{", b"[" * 100_000, b'{"a": ' * 10_000])
def test_options_that_are_none_are_left_out(path: Path, options: bytes) -> None:
    store = SqliteConversations(path)
    append_words(store, "a")
    with other_program(path) as connection:
        connection.execute("UPDATE said SET options = ?", (options,))
    found = store.load(SCOPE, "main")
    assert found is not None
    assert found.turns[0].options == {}
    store.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE turns SET parent = id",
        "UPDATE turns SET parent = 3 WHERE id = 1",
        "UPDATE turns SET parent = 'x' WHERE id = 2",
        "UPDATE turns SET conversation = x'00'",
        "UPDATE turns SET said = 'x'",
        "UPDATE conversations SET head = 'x'",
        "UPDATE conversations SET head = 999",
        "UPDATE conversations SET system = 5",
        "UPDATE conversations SET updated_s = 'x'",
        "UPDATE conversations SET name = 5",
        "UPDATE spent SET model = 5, replies = 'x'",
        "UPDATE spent SET created_s = 'x'",
        "UPDATE spent SET created_s = 1e300",
        "UPDATE spent SET replies = -1",
        "UPDATE spent SET reasoning_tokens = 'x', cache_write_tokens = -1",
        "DELETE FROM turns",
        "DELETE FROM said",
    ],
)
def test_no_tampering_raises_or_hangs(path: Path, statement: str) -> None:
    """Row 49."""
    store = SqliteConversations(path)
    ids = append_words(store, "a b c")
    with other_program(path) as connection:
        connection.execute(statement)
    store.load(SCOPE, "main")
    store.names(SCOPE)
    store.search("a")
    store.usage()
    store.replace(SCOPE, "main", ids[1], a_turn("B"))
    assert (prompts(store) or "").split()[-1] in "Bc"
    append_words(store, "d")
    assert (prompts(store) or "").endswith("d")
    store.delete(SCOPE, "main")
    assert store.load(SCOPE, "main") is None
    store.close()


def test_missing_table_means_memory(path: Path) -> None:
    store = SqliteConversations(path)
    append_words(store, "a")
    with other_program(path) as connection:
        connection.execute("DROP TABLE turns")
    with pytest.warns(UserWarning, match="no such table"):
        append_words(store, "b")
    assert prompts(store) == "b"
    with pytest.warns(UserWarning, match="could not be written"):
        store.close()
