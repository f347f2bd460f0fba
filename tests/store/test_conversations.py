"""Conversations in a file: no turn is lost to other kernels, kills, locks, full disks and damaged files."""

# that several calls together warn once is what is tested

import dataclasses
import os
import random
import signal
import stat
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import platformdirs
import pytest
from effort import PATIENCE_S, calls_of
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_files import is_intact, other_program, posix_only, run_program
from stored_turns import SCOPE, USAGE, a_turn, append_words, prompts

from aichat_magic.core.errors import BadInputError, UnknownNameError
from aichat_magic.core.messages import FinishReason, Message, Reply
from aichat_magic.core.usage import Usage
from aichat_magic.store.conversations import (
    ConversationStore,
    MemoryConversations,
    SqliteConversations,
    StoredConversation,
    TurnRecord,
    open_conversations,
)


class Clock:
    """A clock that goes forward one second at each look."""

    def __init__(self, now_s: float = 1_700_000_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        self.now_s += 1
        return self.now_s


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "conversations.sqlite3"


@pytest.fixture
def file_store(path: Path) -> Iterator[SqliteConversations]:
    store = SqliteConversations(path, clock=Clock())
    yield store
    store.close()


@pytest.fixture(params=["file", "memory", "waiting"])
def store(request: pytest.FixtureRequest, path: Path) -> Iterator[ConversationStore]:
    """Each kind of store; the last one is over a file that is locked all the time."""
    if request.param == "memory":
        yield MemoryConversations(clock=Clock())
        return
    store = SqliteConversations(path, clock=Clock(), busy_timeout_s=0.01)
    if request.param == "file":
        yield store
        store.close()
        return
    store.append("", "another", a_turn("unrelated", created=5.0))
    store.delete("", "another")
    with other_program(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield store
        connection.execute("ROLLBACK")
    store.close()


# What is stored


def test_turn_comes_back_as_it_was_without_its_messages(file_store: SqliteConversations, path: Path) -> None:
    reply = Reply(
        text="Hello",
        model="echo/m",
        usage=USAGE,
        finish_reason="length",
        elapsed_s=1.5,
        messages=(Message("user", "x"),),
    )
    record = TurnRecord(
        prompt="Hi", reply=reply, options={"temperature": 0, "stop": ["a"]}, cell_id="c-1", notebook="/n.ipynb"
    )
    stored = file_store.append(SCOPE, "main", record, system="Be brief.")
    file_store.close()
    assert SqliteConversations(path).load(SCOPE, "main") == StoredConversation(system="Be brief.", turns=(stored,))
    assert stored.reply == Reply(text="Hello", model="echo/m", usage=USAGE, finish_reason="length", elapsed_s=1.5)
    assert (stored.prompt, stored.cell_id, stored.notebook) == ("Hi", "c-1", "/n.ipynb")
    assert stored.options == {"temperature": 0, "stop": ["a"]}
    assert 1_700_000_000 < stored.created < 1_700_000_010


def test_what_is_not_there_is_none(store: ConversationStore) -> None:
    assert store.load(SCOPE, "main") is None
    assert store.names(SCOPE) == []
    assert store.search("x") == []
    assert store.usage() == []
    assert store.delete(SCOPE, "main") is False
    store.rewind(SCOPE, "main", None)
    assert store.load(SCOPE, "main") is None


def test_turns_are_in_order_and_conversations_apart(store: ConversationStore) -> None:
    append_words(store, "a b c")
    append_words(store, "x", scope="")
    append_words(store, "y z", name="other")
    assert (prompts(store), prompts(store, scope=""), prompts(store, "other")) == ("a b c", "x", "y z")


def test_system_message_stays_until_there_is_another(store: ConversationStore) -> None:
    for system in ("one", "", "two", ""):
        store.append(SCOPE, "main", a_turn("a"), system=system)
        found = store.load(SCOPE, "main")
        assert found is not None
        assert found.system == {"": found.system}.get(system, system)
    assert found.system == "two"


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "\udfff\x00é😀", "\x00", ""])
def test_any_text_survives(store: ConversationStore, text: str) -> None:
    """Row 18."""
    record = TurnRecord(
        prompt=text, reply=Reply(text=text, model=text), options={"stop": [text]}, cell_id=text, notebook=text
    )
    stored = store.append(text, text + "n", record, system=text)
    found = store.load(text, text + "n")
    assert found == StoredConversation(system=text, turns=(stored,))
    assert (stored.prompt, stored.reply.text, stored.cell_id, stored.notebook) == (text,) * 4
    assert stored.options == {"stop": [text]}
    assert store.names(text)[0].first_prompt == text


@pytest.mark.parametrize("reason", ["refusal", "tool_calls", "content_filter", "length"])
def test_turn_keeps_why_its_reply_ended(store: ConversationStore, reason: FinishReason) -> None:
    store.append(SCOPE, "main", a_turn("a", reply=Reply(text="No.", finish_reason=reason)))
    found = store.load(SCOPE, "main")
    assert found is not None
    assert found.turns[0].reply.finish_reason == reason


def test_reply_that_is_not_whole_is_refused(store: ConversationStore) -> None:
    with pytest.raises(BadInputError, match="whole"):
        store.append(SCOPE, "main", a_turn("a", reply=Reply(text="par", finish_reason="interrupted")))
    assert store.load(SCOPE, "main") is None
    append_words(store, "b")
    assert prompts(store) == "b"


def test_numbers_that_are_none_do_not_lose_the_turn(store: ConversationStore) -> None:
    odd = Reply(text="A", usage=Usage(input_tokens=-1, cost_usd=float("nan")), elapsed_s=float("inf"))
    store.append(SCOPE, "main", a_turn("a", reply=odd, options={"seed": float("nan"), "x": object(), "y": 1}))
    found = store.load(SCOPE, "main")
    assert found is not None
    assert found.turns[0].reply == Reply(text="A")
    assert found.turns[0].options == {"y": 1}
    store.record_run("m", Usage(output_tokens=2**70), 3)
    assert {(row.replies, row.usage) for row in store.usage()} == {(1, Usage()), (3, Usage())}


# Branches


def test_only_one_turn_is_replaced(store: ConversationStore) -> None:
    """Row 68."""
    ids = append_words(store, "a b c d")
    new = store.replace(SCOPE, "main", ids[1], a_turn("B"))
    assert prompts(store) == "a B c d"
    found = store.load(SCOPE, "main")
    assert found is not None
    assert [turn.id for turn in found.turns][:2] == [ids[0], new.id]
    assert found.turns[2].created < new.created
    store.replace(SCOPE, "main", found.turns[3].id, a_turn("D"))
    store.replace(SCOPE, "main", ids[0], a_turn("A"))
    assert prompts(store) == "A B c D"
    append_words(store, "e")
    assert prompts(store) == "A B c D e"


def test_turn_is_added_when_the_one_to_replace_is_gone(store: ConversationStore) -> None:
    ids = append_words(store, "a b")
    store.rewind(SCOPE, "main", ids[0])
    store.replace(SCOPE, "main", ids[1], a_turn("B"))
    assert prompts(store) == "a B"
    store.replace(SCOPE, "fresh", 10**30, a_turn("x"))
    assert prompts(store, "fresh") == "x"


def test_turns_that_are_dropped_leave_the_later_ones(store: ConversationStore) -> None:
    ids = append_words(store, "a b c d e")
    store.drop(SCOPE, "main", [ids[1], ids[3], 10**30])
    assert prompts(store) == "a c e"
    append_words(store, "f")
    assert prompts(store) == "a c e f"
    store.rewind(SCOPE, "main", ids[4])
    assert prompts(store) == "a b c d e"
    store.drop(SCOPE, "main", ids)
    assert prompts(store) == ""
    store.drop(SCOPE, "nobody", ids)


def test_going_back_destroys_nothing(store: ConversationStore) -> None:
    ids = append_words(store, "a b c")
    store.rewind(SCOPE, "main", ids[0])
    assert prompts(store) == "a"
    append_words(store, "x")
    assert prompts(store) == "a x"
    store.rewind(SCOPE, "main", ids[2])
    assert prompts(store) == "a b c"
    store.rewind(SCOPE, "main", None)
    assert prompts(store) == ""
    assert store.names(SCOPE)[0].turns == 0
    store.append(SCOPE, "main", a_turn("new"))
    assert prompts(store) == "new"


def test_new_branch_leaves_the_old_one(store: ConversationStore) -> None:
    ids = append_words(store, "a b")
    store.append(SCOPE, "main", a_turn("x"), is_new=True)
    assert prompts(store) == "x"
    store.rewind(SCOPE, "main", ids[-1])
    assert prompts(store) == "a b"


def test_fork_shares_the_past_only(store: ConversationStore) -> None:
    store.append(SCOPE, "main", a_turn("a"), system="Be brief.")
    store.fork(SCOPE, "main", "", "twin")
    append_words(store, "b")
    append_words(store, "x", "twin", "")
    assert (prompts(store), prompts(store, "twin", "")) == ("a b", "a x")
    twin = store.load("", "twin")
    assert twin is not None
    assert twin.system == "Be brief."


def test_what_cannot_be_done_is_said_and_leaves_no_trace(store: ConversationStore) -> None:
    ids = append_words(store, "a")
    other = append_words(store, "x", "other")
    for wrong in (other[0], 999, -999, 2**80):
        with pytest.raises(UnknownNameError, match="no turn"):
            store.rewind(SCOPE, "main", wrong)
    with pytest.raises(UnknownNameError, match="no conversation 'none'"):
        store.rewind(SCOPE, "none", ids[0])
    with pytest.raises(UnknownNameError, match="no conversation 'none'"):
        store.fork(SCOPE, "none", SCOPE, "more")
    with pytest.raises(BadInputError, match="'other' already"):
        store.fork(SCOPE, "main", SCOPE, "other")
    assert (prompts(store), prompts(store, "other"), prompts(store, "more")) == ("a", "x", None)


def test_delete_destroys_what_no_other_conversation_has(store: ConversationStore) -> None:
    ids = append_words(store, "a b c")
    store.rewind(SCOPE, "main", ids[1])
    append_words(store, "d")
    store.fork(SCOPE, "main", SCOPE, "twin")
    append_words(store, "e")
    append_words(store, "f", "twin")
    assert store.delete(SCOPE, "main") is True
    assert store.delete(SCOPE, "main") is False
    assert (prompts(store), prompts(store, "twin")) == (None, "a b d f")
    assert {found.turn.prompt: found.name for found in store.search("")} == dict.fromkeys("abdf", "twin")
    store.fork(SCOPE, "twin", SCOPE, "third")
    store.delete(SCOPE, "twin")
    assert prompts(store, "third") == "a b d f"
    store.delete(SCOPE, "third")
    assert store.search("") == []
    assert append_words(store, "g")[0] not in ids


def test_turns_of_a_branch_that_was_left_keep_their_past(store: ConversationStore) -> None:
    """The twin has left its own branch when the conversation it came from is deleted."""
    append_words(store, "a b")
    store.fork(SCOPE, "main", SCOPE, "twin")
    ids = append_words(store, "c", "twin")
    store.rewind(SCOPE, "twin", None)
    store.delete(SCOPE, "main")
    store.rewind(SCOPE, "twin", ids[0])
    assert prompts(store, "twin") == "a b c"


def test_what_is_deleted_is_gone_from_the_disk(file_store: SqliteConversations, path: Path) -> None:
    append_words(file_store, "topsecretword another")
    assert file_store.delete(SCOPE, "main")
    assert all(b"topsecretword" not in file.read_bytes().lower() for file in path.parent.iterdir())
    assert [row.conversation for row in file_store.usage()] == [""]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 2), st.booleans()),
        st.tuples(st.just("replace"), st.integers(0, 2), st.integers(0, 5)),
        st.tuples(st.just("rewind"), st.integers(0, 2), st.integers(0, 5)),
        st.tuples(st.just("fork"), st.integers(0, 2), st.integers(0, 2)),
        st.tuples(st.just("delete"), st.integers(0, 2), st.just(0)),
    ),
    max_size=25,
)


@pytest.mark.slow
@given(steps)
@settings(deadline=None, max_examples=60)
def test_file_and_memory_and_lists_agree(tmp_path_factory: pytest.TempPathFactory, steps: list[Any]) -> None:
    path = tmp_path_factory.mktemp("agree") / "c.sqlite3"
    locked = SqliteConversations(path, clock=Clock(), busy_timeout_s=0)
    stores: list[ConversationStore] = [SqliteConversations(path.with_name("d"), clock=Clock())]
    stores += [MemoryConversations(clock=Clock()), locked]
    expected: dict[str, list[str]] = {}
    locked.record_run("m", Usage(), 0)
    with other_program(path) as connection, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        connection.execute("BEGIN IMMEDIATE")
        for number, (verb, which, value) in enumerate(steps):
            if number == len(steps) // 2:
                connection.execute("ROLLBACK")
                prompts(locked)
                connection.execute("BEGIN IMMEDIATE")
            name, text = f"name{which}", f"p{number}"
            model = expected.get(name, [])
            ids = [[turn.id for turn in found.turns] if (found := s.load("", name)) else [] for s in stores]
            if verb == "append":
                expected[name] = [text] if value else [*model, text]
                for one in stores:
                    one.append("", name, a_turn(text), is_new=value)
            elif verb == "replace" and value < len(model):
                expected[name] = [*model[:value], text, *model[value + 1 :]]
                for one, own in zip(stores, ids, strict=True):
                    one.replace("", name, own[value], a_turn(text))
            elif verb == "rewind" and value <= len(model):
                expected.update({name: model[:value]} if name in expected else {})
                for one, own in zip(stores, ids, strict=True):
                    one.rewind("", name, own[value - 1] if value else None)
            elif verb == "fork" and name in expected and f"name{value}" not in expected:
                expected[f"name{value}"] = list(model)
                for one in stores:
                    one.fork("", name, "", f"name{value}")
            elif verb == "delete":
                assert {one.delete("", name) for one in stores} == {expected.pop(name, None) is not None}
            for one in stores:
                assert {s.name: prompts(one, s.name, "") for s in one.names("")} == {
                    name: " ".join(words) for name, words in expected.items()
                }
        found = [[(hit.turn.prompt, hit.excerpt) for hit in one.search("", limit=99)] for one in stores]
        assert found[0] == found[1] == found[2]
        connection.execute("ROLLBACK")
    assert [(hit.turn.prompt, hit.excerpt) for hit in locked.search("", limit=99)] == found[0]
    assert [s.turns for s in locked.names("")] == [len(words) for _, words in sorted(expected.items())]
    assert sum(row.replies for row in locked.usage()) == sum(row.replies for row in stores[1].usage())
    for one in stores:
        one.close()


# Lists


def test_names_are_those_of_the_scope_and_the_shared_ones(store: ConversationStore) -> None:
    append_words(store, "mine more")
    append_words(store, "shared", "z", "")
    append_words(store, "theirs", "main", "/other.ipynb")
    append_words(store, "x", "empty")
    store.rewind(SCOPE, "empty", None)
    listed = [(one.scope, one.name, one.turns, one.first_prompt) for one in store.names(SCOPE)]
    assert listed == [(SCOPE, "empty", 0, ""), (SCOPE, "main", 2, "mine"), ("", "z", 1, "shared")]
    assert [one.name for one in store.names("")] == ["z"]
    first, second, _ = store.names(SCOPE)
    assert first.updated > second.updated > 1_700_000_000


def test_first_prompt_is_cut_between_characters(store: ConversationStore) -> None:
    store.append(SCOPE, "main", a_turn("é" * 5000))
    assert store.names(SCOPE)[0].first_prompt == "é" * 200


def test_search_finds_prompts_and_replies_of_all_conversations(store: ConversationStore) -> None:
    store.append("", "one", a_turn("Die Straße nach Ärgerhausen"))
    store.append(SCOPE, "two", a_turn("b", reply=Reply(text="long " * 100 + "viel\närger hier" + " tail" * 100)))
    store.append(SCOPE, "two", a_turn("100% of a_b"))
    hits = store.search("ärger")
    assert [(hit.scope, hit.name) for hit in hits] == [(SCOPE, "two"), ("", "one")]
    assert hits[0].excerpt.startswith("…")
    assert "viel ärger hier" in hits[0].excerpt
    assert hits[0].excerpt.endswith("…")
    assert hits[1].excerpt == "Die Straße nach Ärgerhausen"
    assert len(store.search("ärger", limit=1)) == 1
    assert [hit.turn.prompt for hit in store.search("0% OF a_")] == ["100% of a_b"]
    assert store.search("%") == store.search("100%")
    assert store.search("'; DROP TABLE said; --") == []


def test_search_shows_a_turn_once_however_many_branches_have_it(store: ConversationStore) -> None:
    ids = append_words(store, "a later")
    store.fork(SCOPE, "main", SCOPE, "twin")
    new = store.replace(SCOPE, "main", ids[0], a_turn("b"))
    (hit,) = store.search("later")
    found = store.load(SCOPE, "main")
    assert found is not None
    assert (hit.name, hit.turn) == ("main", found.turns[1])
    assert found.turns[0] == new


# Usage


def test_usage_is_by_day_model_and_conversation(path: Path) -> None:
    clock = Clock(time.mktime((2026, 3, 1, 23, 59, 0, 0, 0, -1)))
    for store in (SqliteConversations(path, clock=clock), MemoryConversations(clock=clock)):
        clock.now_s = time.mktime((2026, 3, 1, 12, 0, 0, 0, 0, -1))
        append_words(store, "a b")
        append_words(store, "x", "other")
        noon_s = clock.now_s
        clock.now_s += 86_400
        store.append(SCOPE, "main", a_turn("c", reply=Reply(text="C", model="n", usage=Usage(input_tokens=1))))
        store.record_run("echo/m", Usage(input_tokens=100, cost_usd=2.0), 40)
        first, second, third, fourth = store.usage()
        assert (first.day, first.model, first.conversation, first.replies) == ("2026-03-01", "echo/m", "main", 2)
        assert first.usage == USAGE + USAGE
        assert (second.conversation, second.replies) == ("other", 1)
        assert (third.day, third.conversation, third.replies) == ("2026-03-02", "", 40)
        assert third.usage == Usage(input_tokens=100, cost_usd=2.0)
        assert (fourth.model, fourth.usage) == ("n", Usage(input_tokens=1))
        assert store.usage(since=noon_s + 1) == [third, fourth]
        store.close()


def test_thinking_and_cache_writes_are_recorded(store: ConversationStore) -> None:
    used = Usage(
        input_tokens=9, output_tokens=5, cached_tokens=1, cache_write_tokens=2, reasoning_tokens=4, cost_usd=0.5
    )
    store.record_run("m", used, 3)
    store.append(SCOPE, "main", dataclasses.replace(a_turn("q"), reply=Reply(text="a", model="n", usage=used)))
    assert [(row.model, row.usage) for row in store.usage()] == [("m", used), ("n", used)]


@pytest.mark.parametrize("bad", [-1, 2**63])
def test_usage_with_an_impossible_count_is_recorded_without_it(store: ConversationStore, bad: int) -> None:
    store.record_run("m", Usage(input_tokens=9, reasoning_tokens=bad, cost_usd=float("inf")), 1)
    (row,) = store.usage()
    assert row.usage == Usage(input_tokens=9)


def test_what_was_spent_stays_spent(store: ConversationStore) -> None:
    ids = append_words(store, "a b c")
    store.replace(SCOPE, "main", ids[0], a_turn("A"))  # copies two turns, which cost nothing
    store.fork(SCOPE, "main", SCOPE, "twin")
    store.rewind(SCOPE, "main", None)
    store.append(SCOPE, "main", a_turn("old", created=5.0))  # from elsewhere
    (row,) = store.usage()
    assert (row.conversation, row.replies) == ("main", 4)
    store.delete(SCOPE, "main")
    assert sum(row.replies for row in store.usage()) == 4


def test_turn_from_elsewhere_keeps_its_time(store: ConversationStore) -> None:
    assert store.append(SCOPE, "main", a_turn("old", created=5.0)).created == 5.0


# Files


def test_nothing_is_made_before_the_first_turn(file_store: SqliteConversations, path: Path) -> None:
    assert file_store.load(SCOPE, "main") is None
    assert (file_store.names(""), file_store.search("a"), file_store.usage()) == ([], [], [])
    assert file_store.delete(SCOPE, "main") is False
    file_store.rewind(SCOPE, "main", None)
    with pytest.raises(UnknownNameError):
        file_store.fork(SCOPE, "main", SCOPE, "x")
    file_store.close()
    assert not path.parent.exists()
    append_words(file_store, "a")
    assert path.exists()


@posix_only
def test_directories_and_files_are_closed_to_others(tmp_path: Path) -> None:
    """Row 37."""
    path = tmp_path / "a" / "b" / "c.sqlite3"
    before = os.umask(0o022)
    try:
        store = SqliteConversations(path)
        append_words(store, "a")
        assert {stat.S_IMODE(d.stat().st_mode) for d in (tmp_path / "a", path.parent)} == {0o700}
        files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        assert files == {path.name + suffix: 0o600 for suffix in ("", "-wal", "-shm")}
        store.close()
    finally:
        os.umask(before)


def test_store_goes_on_after_close(file_store: SqliteConversations, path: Path) -> None:
    for word in "abc":
        append_words(file_store, word)
        file_store.close()
        file_store.close()
        assert not path.with_name(path.name + "-wal").exists()
    assert prompts(file_store) == "a b c"


@posix_only
def test_file_that_is_deleted_under_our_feet_is_made_again(file_store: SqliteConversations, path: Path) -> None:
    append_words(file_store, "a")
    for file in list(path.parent.iterdir()):
        file.unlink()
    assert prompts(file_store) is None
    assert not path.exists()
    append_words(file_store, "b")
    assert prompts(file_store) == "b"


def test_thousand_turns_are_loaded_by_a_few_statements_and_a_few_calls_each(file_store: SqliteConversations) -> None:
    """19 calls a turn: about 6 ms for all."""
    append_words(file_store, "word " * 1000)
    found = file_store.load(SCOPE, "main")
    assert found is not None
    assert len(found.turns) == 1000
    assert calls_of(lambda: file_store.load(SCOPE, "main")) <= 25 * 1000
    database = file_store._log()._database
    assert database is not None
    statements: list[str] = []
    database.connection.set_trace_callback(statements.append)
    file_store.load(SCOPE, "main")
    database.connection.set_trace_callback(None)
    assert 0 < len(statements) <= 10


# Many at once

WRITE = """
    import os, pathlib, sys
    from aichat_magic.core.messages import Reply
    from aichat_magic.store.conversations import SqliteConversations, TurnRecord
    store, part = SqliteConversations(pathlib.Path(sys.argv[1]), busy_timeout_s=20), sys.argv[2]
    for number in range(int(sys.argv[3])):
        prompt = f"{part}-{number}"
        store.append("", "main", TurnRecord(prompt=prompt, reply=Reply(text=prompt * 50)))
        os.write(1, prompt.encode() + b"\\n")
"""


@pytest.mark.slow
@posix_only
def test_kills_lose_no_acknowledged_turn(path: Path) -> None:
    """Row 27, for conversations."""
    chance = random.Random(27)
    acknowledged: list[str] = []
    for turn in range(12):
        program = run_program(WRITE, str(path), str(turn), "1000000")
        assert program.stdout is not None
        lines = [program.stdout.readline() for _ in range(chance.randrange(1, 40))]
        program.send_signal(signal.SIGKILL)
        lines += program.stdout.read().splitlines(keepends=True)
        program.wait()
        program.stdout.close()
        acknowledged += [line.strip() for line in lines if line.endswith("\n")]
    assert is_intact(path)
    found = (prompts(SqliteConversations(path), scope="") or "").split()
    assert len(acknowledged) > 100
    assert [word for word in found if word in set(acknowledged)] == acknowledged
    assert len(found) <= len(acknowledged) + 12  # at most the turn in flight of each


def test_two_kernels_on_one_conversation_lose_no_turn(path: Path) -> None:
    """Row 31. They make the file at the same moment, too."""
    programs = [run_program(WRITE, str(path), str(part), "300") for part in range(2)]
    for program in programs:
        program.communicate(timeout=PATIENCE_S)
        assert program.returncode == 0
    found = (prompts(SqliteConversations(path), scope="") or "").split()
    assert len(found) == 600
    for part in range(2):
        assert [word for word in found if word.startswith(f"{part}-")] == [f"{part}-{n}" for n in range(300)]


def test_turn_of_another_kernel_is_seen_and_followed(path: Path) -> None:
    one, two = SqliteConversations(path), SqliteConversations(path)
    ids = append_words(one, "a")
    append_words(two, "b")
    append_words(one, "c")
    assert prompts(one) == prompts(two) == "a b c"
    two.replace(SCOPE, "main", ids[0], a_turn("A"))
    append_words(one, "d")
    assert prompts(one) == "A b c d"
    one.close()
    two.close()


def test_many_threads_share_one_store(store: ConversationStore) -> None:
    failures: list[BaseException] = []

    def work(part: int) -> None:
        try:
            for number in range(20):
                store.append(SCOPE, "main", a_turn(f"{part}-{number}"))
                assert store.load(SCOPE, "main") is not None
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len((prompts(store) or "").split()) == 80


@posix_only
def test_child_after_fork_has_its_own_connection(path: Path) -> None:
    program = run_program(
        """
        import os, pathlib, sys, threading, warnings
        warnings.simplefilter("ignore")
        from aichat_magic.core.messages import Reply
        from aichat_magic.store.conversations import MemoryConversations, SqliteConversations, TurnRecord
        def append(store, prompt):
            store.append("", "main", TurnRecord(prompt=prompt, reply=Reply(text="x")))
        store, memory = SqliteConversations(pathlib.Path(sys.argv[1]), busy_timeout_s=20), MemoryConversations()
        append(store, "first")
        append(memory, "first")
        store._log().lock.acquire()  # as another thread may at that moment
        memory._locks[os.getpid()].acquire()
        child = os.fork()
        if child == 0:
            append(memory, "child")
            for _ in range(50):
                append(store, "child")
            sys.exit(0)
        store._log().lock.release()
        for _ in range(50):
            append(store, "parent")
        assert os.waitpid(child, 0)[1] == 0
        append(store, "last")
        """,
        str(path),
    )
    program.communicate(timeout=PATIENCE_S)
    assert program.returncode == 0
    words = (prompts(SqliteConversations(path), scope="") or "").split()
    assert (words[0], words[-1], words.count("child"), words.count("parent")) == ("first", "last", 50, 50)
    assert is_intact(path)


@posix_only
def test_what_waits_is_written_by_the_parent_only(path: Path) -> None:
    program = run_program(
        """
        import os, pathlib, sqlite3, sys, warnings
        warnings.simplefilter("ignore")
        from aichat_magic.core.messages import Reply
        from aichat_magic.store.conversations import SqliteConversations, TurnRecord
        def append(prompt):
            store.append("", "main", TurnRecord(prompt=prompt, reply=Reply(text="x")))
        store = SqliteConversations(pathlib.Path(sys.argv[1]), busy_timeout_s=0)
        append("first")
        other = sqlite3.connect(sys.argv[1], isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        append("waiting")
        child = os.fork()
        if child == 0:
            store.load("", "main")
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        other.execute("ROLLBACK")
        """,
        str(path),
    )
    program.communicate(timeout=PATIENCE_S)
    assert program.returncode == 0
    assert prompts(SqliteConversations(path), scope="") == "first waiting"


# Where the file is


@pytest.mark.parametrize("word", ["none", "memory", "NONE"])
def test_environment_can_say_memory(word: str) -> None:
    assert isinstance(open_conversations(environ={"AICHAT_CONVERSATIONS": word}), MemoryConversations)


def test_environment_can_name_the_file(tmp_path: Path) -> None:
    store = open_conversations(environ={"AICHAT_CONVERSATIONS": str(tmp_path / "x.sqlite3")})
    append_words(store, "a")
    store.close()
    assert (tmp_path / "x.sqlite3").exists()
    store = open_conversations(tmp_path / "y", environ={"AICHAT_CONVERSATIONS": "none"})
    append_words(store, "a")
    store.close()
    assert (tmp_path / "y").exists()


def test_file_is_in_the_users_data_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(platformdirs, "user_data_path", lambda name, appauthor: tmp_path / name)
    store = open_conversations(environ={})
    assert list(tmp_path.iterdir()) == []
    append_words(store, "a")
    store.close()
    assert [file.name for file in (tmp_path / "aichat_magic").iterdir()] == ["conversations.sqlite3"]


def test_user_without_a_home_gets_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platformdirs, "user_data_path", lambda name, appauthor: Path("~/.local/share") / name)
    with pytest.warns(UserWarning, match="no home directory"):
        assert isinstance(open_conversations(environ={}), MemoryConversations)
