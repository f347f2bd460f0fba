"""Which notebook a kernel serves: each line of the table in CONTRIBUTING, without a shell."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from desks import Disk, Kernel

from aichat_magic.core.errors import AichatError, BadInputError
from aichat_magic.core.messages import Reply
from aichat_magic.magic.notebook_identity import NotebookFiles, is_inherited, outlives_kernel
from aichat_magic.store.conversations import (
    ConversationStore,
    MemoryConversations,
    Origin,
    SqliteConversations,
    TurnRecord,
)

# As nbformat, JupyterLab, Deepnote and Colab make them.
ONE, TWO = "1f0e3dad", "70efdf2e-c9b8-4a22-9f5a-0c1d2e3f4a5b"
THREE, FOUR = "6f4922f45568161a8cdf4ad2299f6d23", "lIYdn1woOS1n"
UNTITLED, ANALYSIS = "/nb/Untitled.ipynb", "/nb/analysis.ipynb"
URI = "vscode-notebook-cell:/nb/a.ipynb#W0sZmlsZQ%3D%3D"


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def store() -> MemoryConversations:
    return MemoryConversations()


@pytest.fixture
def old(store: MemoryConversations, disk: Disk) -> Kernel:
    """Untitled.ipynb with two turns, saved."""
    kernel = Kernel(store, disk, UNTITLED)
    kernel.run(ONE, "q1")
    kernel.run(TWO, "q2")
    return kernel


def turns_of(store: ConversationStore, scope: str) -> list[str]:
    found = store.load(scope, "main")
    return [turn.prompt for turn in found.turns] if found is not None else []


BEFORE = ["q1", "q1", "q2", "q2"]


def test_restarted_kernel_goes_on_though_nothing_was_saved(store: MemoryConversations, disk: Disk) -> None:
    disk.save(UNTITLED, {})
    first = Kernel(store, disk, UNTITLED, is_saved=False, id_of_kernel="k")
    first.run(ONE, "q1")
    again = Kernel(store, disk, UNTITLED, is_saved=False, id_of_kernel="k")
    assert again.run(TWO, "q2") == ["q1", "q1", "q2"]
    assert again.notes == []


def test_reopened_notebook_goes_on(store: MemoryConversations, disk: Disk, old: Kernel) -> None:
    assert Kernel(store, disk, UNTITLED).run(ONE, "again") == ["again"]
    assert turns_of(store, old.scope) == ["again", "q2"]


def test_reopened_notebook_goes_on_with_a_new_cell(store: MemoryConversations, disk: Disk, old: Kernel) -> None:
    """A cell that stands in the file has run before: `%load_ext`."""
    disk.notebooks[UNTITLED][FOUR] = "%load_ext aichat_magic"  # type: ignore[index]  # it has ids
    again = Kernel(store, disk, UNTITLED, is_saved=False)
    again.see(FOUR, "%load_ext aichat_magic")
    assert again.run(THREE, "q3") == [*BEFORE, "q3"]


def test_two_kernels_on_one_notebook_share(store: MemoryConversations, disk: Disk, old: Kernel) -> None:
    other = Kernel(store, disk, UNTITLED)
    assert other.run(THREE, "q3") == [*BEFORE, "q3"]
    assert old.run(FOUR, "q4") == [*BEFORE, "q3", "q3", "q4"]


def test_renamed_notebook_goes_on_and_back(store: MemoryConversations, disk: Disk, old: Kernel) -> None:
    disk.rename(UNTITLED, ANALYSIS)
    assert Kernel(store, disk, ANALYSIS).run(THREE, "q3") == [*BEFORE, "q3"]
    disk.rename(ANALYSIS, UNTITLED)
    back = Kernel(store, disk, UNTITLED)
    assert back.run(FOUR, "q4") == [*BEFORE, "q3", "q3", "q4"]
    assert back.notes == []


def test_new_notebook_at_an_old_path_sends_nothing_of_the_old_one(
    store: MemoryConversations, disk: Disk, old: Kernel
) -> None:
    """Row 90."""
    disk.rename(UNTITLED, ANALYSIS)
    disk.save(UNTITLED, {})
    new = Kernel(store, disk, UNTITLED)
    assert new.run(THREE, "n1") == ["n1"]
    assert len(new.notes) == 1
    assert "Untitled.ipynb (2 turns" in new.notes[0]
    assert re.search(r"%aichat switch main@[0-9a-f]{6}$", new.notes[0])
    assert new.run(FOUR, "n2") == ["n1", "n1", "n2"]
    assert len(new.notes) == 1
    # The old one is where it was, also beside the new one.
    assert Kernel(store, disk, ANALYSIS).run(ONE, "again") == ["again"]
    assert turns_of(store, old.scope) == ["again", "q2"]
    assert turns_of(store, new.scope) == ["n1", "n2"]
    assert Kernel(store, disk, UNTITLED).run(ONE[::-1], "n3") == ["n1", "n1", "n2", "n2", "n3"]


def test_file_that_was_deleted_and_another_one_in_its_place_begins_anew(
    store: MemoryConversations, disk: Disk, old: Kernel
) -> None:
    cells = disk.notebooks[UNTITLED]
    disk.delete(UNTITLED)
    new = Kernel(store, disk, UNTITLED)
    assert new.run(THREE, "n1") == ["n1"]
    disk.save("/nb/restored.ipynb", cells)
    assert Kernel(store, disk, "/nb/restored.ipynb").run(FOUR, "q3") == [*BEFORE, "q3"]


def test_copy_begins_anew_and_neither_writes_into_the_other(
    store: MemoryConversations, disk: Disk, old: Kernel
) -> None:
    disk.copy(UNTITLED, ANALYSIS)
    copy = Kernel(store, disk, ANALYSIS)
    assert copy.run(ONE, "of the copy") == ["of the copy"]
    assert "these cells are also in Untitled.ipynb" in copy.notes[0]
    assert Kernel(store, disk, UNTITLED).run(THREE, "q3") == [*BEFORE, "q3"]
    assert Kernel(store, disk, ANALYSIS).run(FOUR, "more") == ["of the copy", "of the copy", "more"]
    # Whichever of them is renamed keeps its own.
    disk.rename(UNTITLED, "/nb/final.ipynb")
    assert Kernel(store, disk, "/nb/final.ipynb").run("0123abcd", "q4") == [*BEFORE, "q3", "q3", "q4"]


def test_copy_and_original_that_both_moved_are_not_confused(
    store: MemoryConversations, disk: Disk, old: Kernel
) -> None:
    disk.copy(UNTITLED, ANALYSIS)
    Kernel(store, disk, ANALYSIS).run(ONE, "of the copy")
    disk.rename(UNTITLED, "/nb/b.ipynb")
    disk.rename(ANALYSIS, "/nb/c.ipynb")
    unknown = Kernel(store, disk, "/nb/c.ipynb")
    assert unknown.run(THREE, "n1") == ["n1"]
    assert "1 more" in unknown.notes[0]


def test_saved_as_is_a_copy_for_the_next_kernel(store: MemoryConversations, disk: Disk) -> None:
    kernel = Kernel(store, disk, UNTITLED, id_of_kernel="k")
    kernel.run(ONE, "q1")
    disk.copy(UNTITLED, ANALYSIS)
    assert Kernel(store, disk, ANALYSIS, id_of_kernel="k").run(TWO, "n1") == ["n1"]


def test_renamed_notebook_does_not_take_what_is_at_its_old_path_by_now(
    store: MemoryConversations, disk: Disk, old: Kernel
) -> None:
    """The kernel of another notebook that was called so has run no `%%aichat` cell yet."""
    late = Kernel(store, disk, UNTITLED, is_saved=False)
    late.see(FOUR, "%load_ext aichat_magic")
    assert late.run(THREE, "n1") == ["n1"]


@pytest.mark.parametrize(
    "cell_id",
    [
        "initial_id",
        "cell-1",
        "1",
        "00000001",
        "deadbeef",
        "introduction",
        "cell_id_7",
        # As people and models write them.
        "a1b2c3d4",
        "b2c3d4e5",
        "a1b2c3d4-e5f6-7890-abcd-ef1234567890",
        "importCell1",
    ],
)
def test_id_that_other_notebooks_have_tells_only_with_the_prompt(
    store: MemoryConversations, disk: Disk, cell_id: str
) -> None:
    Kernel(store, disk, UNTITLED).run(cell_id, "q1\nmore")
    disk.delete(UNTITLED)
    other = Kernel(store, disk, UNTITLED)
    assert other.run(cell_id, "another thing") == ["another thing"]
    assert len(other.notes) == 1
    disk.save(UNTITLED, {cell_id: "%%aichat -m echo/echo\nq1\nmore\n", "new": ""})
    again = Kernel(store, disk, UNTITLED)
    again.see("new", "")
    assert again.run("new", "q2") == ["q1\nmore", "q1\nmore", "q2"]


def test_notebook_with_nothing_but_a_common_id_is_not_offered(
    store: MemoryConversations, disk: Disk, capsys: pytest.CaptureFixture[str]
) -> None:
    Kernel(store, disk, UNTITLED).run("initial_id", "q1")
    other = Kernel(store, disk, ANALYSIS)
    assert other.run("initial_id", "another thing") == ["another thing"]
    assert other.notes == []
    other.command("chats")
    assert "main@" not in capsys.readouterr().out


def test_line_of_ask_with_an_id_that_others_have_tells_with_its_prompt(store: MemoryConversations, disk: Disk) -> None:
    Kernel(store, disk, UNTITLED).command("ask Why?", "cell-1")
    assert Kernel(store, disk, UNTITLED).run("cell-2", "Really?") == ["Why?", "Why?", "Really?"]


def test_notebook_without_ids_goes_on_after_a_restart_only(store: MemoryConversations, disk: Disk) -> None:
    """The front end makes other ids up each time the page is loaded."""
    disk.save(UNTITLED, None)
    Kernel(store, disk, UNTITLED, id_of_kernel="k").run(ONE, "q1")
    assert Kernel(store, disk, UNTITLED, id_of_kernel="k").run(TWO, "q2") == ["q1", "q1", "q2"]
    later = Kernel(store, disk, UNTITLED, id_of_kernel="l")
    assert later.run(THREE, "q1") == ["q1"]
    assert len(later.notes) == 1


def test_handle_of_a_window_is_good_for_this_kernel_only(store: MemoryConversations, disk: Disk) -> None:
    """Row 93: the same URI names another cell once the notebook was opened again."""
    saved = {ONE: "%%aichat \nq1", TWO: "%%aichat \nq2", THREE: "%%aichat \nq3"}
    disk.save(UNTITLED, saved)
    kernel = Kernel(store, disk, UNTITLED, is_saved=False)
    kernel.run(URI, "q1")
    kernel.run(URI, "q2")
    assert turns_of(store, kernel.scope) == ["q2"]
    again = Kernel(store, disk, UNTITLED, is_saved=False)
    assert again.run(URI, "q3") == ["q2", "q2", "q3"]
    assert again.run(URI, "q4") == ["q2", "q2", "q4"]
    assert turns_of(store, kernel.scope) == ["q2", "q4"]


def test_notebook_in_vs_code_goes_on_where_its_file_shows_it(store: MemoryConversations, disk: Disk) -> None:
    """Turns made in JupyterLab name cells; VS Code opens the same file."""
    Kernel(store, disk, UNTITLED).run(ONE, "q1")
    disk.save(UNTITLED, {ONE: "%%aichat \nq1", TWO: "%%aichat \nq2"})
    in_vs_code = Kernel(store, disk, UNTITLED, is_saved=False)
    assert in_vs_code.run(URI, "q2") == ["q1", "q1", "q2"]


def test_notebook_that_was_never_elsewhere_than_in_vs_code_goes_on(store: MemoryConversations, disk: Disk) -> None:
    disk.save(UNTITLED, {ONE: "%%aichat \nq1", TWO: "%%aichat \nsame", THREE: "%%aichat \nsame"})
    Kernel(store, disk, UNTITLED, is_saved=False).run(URI, "q1")
    again = Kernel(store, disk, UNTITLED, is_saved=False)
    assert again.run(URI, "same") == ["q1", "q1", "same"]
    assert [known.cells for known in store.notebooks(path=UNTITLED)] == [{ONE}]


@pytest.mark.parametrize("is_own_path", [True, False])
def test_front_end_that_names_no_cell_is_told_by_the_text_in_its_own_file(
    store: MemoryConversations, disk: Disk, is_own_path: bool
) -> None:
    Kernel(store, disk, UNTITLED).run(ONE, "q1")
    disk.save(UNTITLED, {ONE: "%%aichat \nq1", TWO: "%%aichat \nq2"})
    classic = Kernel(store, disk, UNTITLED, has_cell_ids=False, is_own_path=is_own_path, is_saved=False)
    assert classic.run("", "q2") == (["q1", "q1", "q2"] if is_own_path else ["q2"])


@pytest.mark.parametrize("text", ["import pandas as pd", "%aichat", "%load_ext aichat_magic", "%%aichat --help\n"])
def test_text_that_is_no_question_tells_nothing(store: MemoryConversations, disk: Disk, text: str) -> None:
    """It may stand in any notebook: the kernel of a renamed one knows the path only, where another one may be."""
    Kernel(store, disk, UNTITLED).run(ONE, "q1")
    disk.save(UNTITLED, {ONE: "%%aichat \nq1", TWO: text})
    late = Kernel(store, disk, UNTITLED, has_cell_ids=False, is_saved=False)
    late.see("", text)
    assert late.session._history.load("main").turns == ()


def test_text_that_is_not_in_the_file_tells_nothing(store: MemoryConversations, disk: Disk) -> None:
    Kernel(store, disk, UNTITLED).run(ONE, "q1")
    classic = Kernel(store, disk, UNTITLED, has_cell_ids=False, is_saved=False)
    assert classic.run("", "unsaved") == ["unsaved"]


def test_file_out_of_sight_goes_on_by_the_id_that_is_sent_at_the_same_path_only(
    store: MemoryConversations, disk: Disk
) -> None:
    """Colab, remote contents."""
    Kernel(store, disk, UNTITLED, is_saved=False).run(ONE, "q1")
    assert Kernel(store, disk, ANALYSIS, is_saved=False).run(ONE, "q1") == ["q1"]
    again = Kernel(store, disk, UNTITLED, is_saved=False)
    again.run(ONE, "again")
    assert again.run(TWO, "q2") == ["again", "again", "q2"]


def test_kernel_without_a_path_has_its_own(store: MemoryConversations, disk: Disk, old: Kernel) -> None:
    """Rows 91 and 92: nbclient, papermill, qtconsole; a kernel inside a kernel; papermill many times."""
    for _ in range(3):
        run = Kernel(store, disk, "", has_cell_ids=False)
        assert run.run("", "q1") == ["q1"]
        assert run.run("", "q1") == ["q1", "q1", "q1"]
        assert run.notes == []
    assert turns_of(store, old.scope) == ["q1", "q2"]
    assert [known.scope for known in store.notebooks(path=UNTITLED)] == [old.scope]


def test_turn_is_stored_where_its_past_came_from(store: MemoryConversations, disk: Disk) -> None:
    """Meanwhile another kernel of this notebook has made the first turn, and it was saved."""
    disk.save(UNTITLED, {})
    kernel = Kernel(store, disk, UNTITLED, is_saved=False)
    kernel.execution = 1
    kernel.see(TWO, "")
    mine = kernel.scope
    other = Kernel(store, disk, UNTITLED)
    other.run(ONE, "q1")
    disk.notebooks[UNTITLED][TWO] = ""  # type: ignore[index]  # it has ids
    kernel.run(TWO, "q2")
    assert kernel.scope == mine
    assert turns_of(store, other.scope) == ["q1"]


# What can be done with an older one


def test_older_conversation_is_taken_up_as_a_copy(
    store: MemoryConversations, disk: Disk, old: Kernel, capsys: pytest.CaptureFixture[str]
) -> None:
    disk.rename(UNTITLED, ANALYSIS)
    disk.save(UNTITLED, {})
    new = Kernel(store, disk, UNTITLED)
    new.run(THREE, "n1")
    name = re.findall(r"main@\w+", new.notes[0])[0]
    new.command("chats")
    assert re.search(f"{name} .*2 .*q1", capsys.readouterr().out)
    new.command(f"show {name}")
    assert "q2" in capsys.readouterr().out
    with pytest.raises(BadInputError, match=f"switch {name}"):
        new.run(FOUR, "q3", f"-c {name}")
    new.command(f"switch {name}")
    assert "continued from" in capsys.readouterr().out
    assert new.run(FOUR, "q3") == [*BEFORE, "q3"]
    # It stays with this notebook, the old one stays as it was.
    assert Kernel(store, disk, UNTITLED).run("0123abcd", "q4") == [*BEFORE, "q3", "q3", "q4"]
    assert turns_of(store, old.scope) == ["q1", "q2"]
    assert Kernel(store, disk, ANALYSIS).run("0123abce", "q5") == [*BEFORE, "q5"]


def test_copy_that_took_the_conversation_up_replaces_its_own_turns(
    store: MemoryConversations, disk: Disk, old: Kernel
) -> None:
    disk.copy(UNTITLED, ANALYSIS)
    copy = Kernel(store, disk, ANALYSIS)
    copy.command("chats", THREE)
    copy.command("switch " + copy.session._history.older()[0][0])
    assert copy.run(TWO, "again") == ["q1", "q1", "again"]
    assert turns_of(store, copy.scope) == ["q1", "again"]
    assert turns_of(store, old.scope) == ["q1", "q2"]
    assert copy.notes == []


def test_taking_up_costs_nothing(store: MemoryConversations, disk: Disk, old: Kernel) -> None:
    before = store.usage()
    other = Kernel(store, disk, ANALYSIS)
    found = store.search("q2")[0]
    name = other.session._history.name_with_owner(found).partition(" ")[0]
    other.command(f"switch {name}")
    assert other.run(THREE, "q3") == [*BEFORE, "q3"]
    assert sum(row.replies for row in store.usage()) == sum(row.replies for row in before) + 1


def test_older_conversation_can_be_deleted(store: MemoryConversations, disk: Disk, old: Kernel) -> None:
    new = Kernel(store, disk, UNTITLED)
    disk.save(UNTITLED, {})
    new.command("chats")
    name = new.session._history.older()[0][0]
    new.command(f"delete {name}")
    assert store.load(old.scope, "main") is None
    assert store.notebooks(path=UNTITLED) == []
    new.run(THREE, "n1")
    assert new.notes == []


def test_unknown_older_one_is_a_new_name(store: MemoryConversations, disk: Disk) -> None:
    kernel = Kernel(store, disk)
    with pytest.raises(AichatError, match="no conversation"):
        kernel.command("show main@000000")


# The file of 0.1

LAYOUT_1 = (
    "CREATE TABLE said (id INTEGER PRIMARY KEY, created_s REAL NOT NULL, finish_reason TEXT NOT NULL, "
    "model BLOB NOT NULL, input_tokens INTEGER, output_tokens INTEGER, cached_tokens INTEGER, "
    "cost_usd REAL, elapsed_s REAL NOT NULL, "
    "cell_id BLOB NOT NULL, notebook BLOB NOT NULL, options BLOB NOT NULL, prompt BLOB NOT NULL, text BLOB NOT NULL)",
    "CREATE TABLE turns (id INTEGER PRIMARY KEY AUTOINCREMENT, parent INTEGER, conversation INTEGER NOT NULL, "
    "said INTEGER NOT NULL)",
    "CREATE TABLE conversations (id INTEGER PRIMARY KEY AUTOINCREMENT, scope BLOB NOT NULL, name BLOB NOT NULL, "
    "head INTEGER, system BLOB NOT NULL, updated_s REAL NOT NULL, UNIQUE (scope, name))",
    "CREATE TABLE spent (id INTEGER PRIMARY KEY, created_s REAL NOT NULL, model BLOB NOT NULL, input_tokens INTEGER, "
    "output_tokens INTEGER, cached_tokens INTEGER, cost_usd REAL, replies INTEGER NOT NULL, conversation INTEGER)",
    "CREATE INDEX said_by_time ON said (created_s)",
    "CREATE INDEX turns_by_parent ON turns (parent)",
    "CREATE INDEX turns_by_conversation ON turns (conversation)",
    "CREATE INDEX turns_by_said ON turns (said)",
    "CREATE INDEX spent_by_time ON spent (created_s)",
    "PRAGMA application_id=1634290994",
    "PRAGMA user_version=1",
)


def file_of_0_1(path: Path, notebook: str, turns: dict[str, str], name: str = "main") -> SqliteConversations:
    """A file as 0.1 wrote it: `main` of a notebook by its path, with a turn for each cell."""
    is_new = not path.exists()
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in LAYOUT_1 if is_new else ():
        connection.execute(statement)
    scope = f"notebook:{notebook}"
    owner = connection.execute(
        "INSERT INTO conversations (scope, name, head, system, updated_s) VALUES (?, ?, NULL, x'', 1e9)",
        (scope.encode() if name == "main" else b"", name.encode()),
    ).lastrowid
    parent = None
    for cell, prompt in turns.items():
        said = connection.execute(
            "INSERT INTO said (created_s, finish_reason, model, elapsed_s, cell_id, notebook, options, prompt, text) "
            "VALUES (1e9, 'stop', ?, 0.0, ?, ?, ?, ?, ?)",
            (b"m", f"{scope}#{cell}".encode(), notebook.encode(), b"{}", prompt.encode(), prompt.encode()),
        ).lastrowid
        sql = "INSERT INTO turns (parent, conversation, said) VALUES (?, ?, ?)"
        parent = connection.execute(sql, (parent, owner, said)).lastrowid
        connection.execute("UPDATE conversations SET head = ? WHERE id = ?", (parent, owner))
    connection.close()
    return SqliteConversations(path)


@pytest.mark.parametrize("path", [UNTITLED, "/w#rk/ünd#.ipynb"])
def test_conversation_of_0_1_goes_on_where_all_its_cells_stand(tmp_path: Path, disk: Disk, path: str) -> None:
    store = file_of_0_1(tmp_path / "c.sqlite3", path, {ONE: "q1", f"{TWO}#2": "q2"})
    disk.save(path, {ONE: "%%aichat\nq1", TWO: "for ...", THREE: ""})
    kernel = Kernel(store, disk, path)
    assert kernel.run(THREE, "q3") == [*BEFORE, "q3"]
    assert kernel.run(ONE, "again") == ["again"]
    # Known from now on: a cell may go.
    disk.save(path, {THREE: "%%aichat \nq3"})
    assert Kernel(store, disk, path).run(FOUR, "q4")[:2] == ["again", "again"]
    store.close()


def test_conversation_of_0_1_that_moved_goes_on(tmp_path: Path, disk: Disk) -> None:
    store = file_of_0_1(tmp_path / "c.sqlite3", UNTITLED, {ONE: "q1"})
    disk.save(ANALYSIS, {ONE: "%%aichat\nq1"})
    assert Kernel(store, disk, ANALYSIS).run(TWO, "q2") == ["q1", "q1", "q2"]
    store.close()


@pytest.mark.parametrize(
    "turns",
    [
        {ONE: "q1", TWO: "of the notebook that had the name before"},
        {"#0123456789abcdef": "q1"},
        {URI: "q1"},
        {ONE: "q1", URI: "q2"},
    ],
    ids=["two notebooks", "no ids", "handle", "partly handles"],
)
def test_conversation_of_0_1_that_may_be_of_two_notebooks_is_listed_only(
    tmp_path: Path, disk: Disk, turns: dict[str, str]
) -> None:
    store = file_of_0_1(tmp_path / "c.sqlite3", UNTITLED, turns)
    disk.save(UNTITLED, {ONE: "%%aichat\nq1"})
    kernel = Kernel(store, disk, UNTITLED)
    assert kernel.run(ONE, "q1") == ["q1"]
    name = re.findall(r"main@\w+", kernel.notes[0])[0]
    assert turns_of(store, f"notebook:{UNTITLED}") == list(turns.values())
    kernel.command(f"switch {name}")
    assert kernel.run(THREE, "n")[-1:] == ["n"]
    assert turns_of(store, kernel.scope) == [*turns.values(), "n"]
    assert turns_of(store, f"notebook:{UNTITLED}") == list(turns.values())
    store.close()


def test_file_of_0_1_keeps_all_it_had(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite3"
    file_of_0_1(path, UNTITLED, {ONE: "q1"}).close()
    store = file_of_0_1(path, UNTITLED, {TWO: "shared"}, name="plan")
    assert turns_of(store, f"notebook:{UNTITLED}") == ["q1"]
    assert [turn.prompt for turn in store.load("", "plan").turns] == ["shared"]  # type: ignore[union-attr]  # it is there
    (known,) = store.notebooks(path=UNTITLED)
    assert (known.cells, known.is_certain) == ({ONE}, False)
    store.close()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# The parts


@pytest.mark.parametrize("cell_id", [URI, "", "a b", "a#b", "x" * 65, "ü"])
def test_name_that_no_notebook_can_hold_does_not_outlive_the_kernel(cell_id: str) -> None:
    assert not outlives_kernel(cell_id)


@pytest.mark.parametrize("cell_id", [ONE, TWO, THREE, FOUR, "cell-1", "x" * 64])
def test_id_of_a_notebook_outlives_the_kernel(cell_id: str) -> None:
    assert outlives_kernel(cell_id)


def test_cells_of_a_file_are_read_again_once_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    files = NotebookFiles()
    assert files.cells(str(path)) is None
    for cell_id in ("x", "xx"):
        cells = [{"id": cell_id, "source": ["a\n", "b"]}, {"id": URI, "source": "x"}, {"source": ""}]
        path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "cells": cells}))
        assert files.cells(str(path)) == {cell_id: "a\nb"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "[" * 100_000,
        '{"cells": 1}',
        '{"cells": [], "nbformat": "4"}',
        '{"cells": [{"id": "a"}], "nbformat": 4, "nbformat_minor": 4}',
        '{"cells": [{"id": "a"}], "nbformat": 3, "nbformat_minor": 9}',
    ],
)
def test_file_without_ids_tells_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text(text)
    assert NotebookFiles().cells(str(path)) is None


def test_cells_of_any_shape_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    cells = [7, {"id": 7}, {"id": "a", "source": 7}, {"id": "b", "source": [7, "x"]}]
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "cells": cells}))
    assert NotebookFiles().cells(str(path)) == {"a": "", "b": "x"}


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
@pytest.mark.parametrize(
    ("theirs", "ours", "is_theirs"),
    [("/a.ipynb", "/a.ipynb", True), ("/a.ipynb", "/b.ipynb", False), (None, "/a.ipynb", False)],
)
def test_name_is_inherited_where_the_launcher_has_the_same(theirs: str | None, ours: str, is_theirs: bool) -> None:
    environ = {"OTHER": "x"} | ({} if theirs is None else {"JPY_SESSION_NAME": theirs})
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as launcher:
        assert launcher.stdout is not None
        launcher.stdout.readline()
        found = is_inherited({"JPY_PARENT_PID": str(launcher.pid), "JPY_SESSION_NAME": ours})
        launcher.communicate(b"\n")
    assert found is is_theirs


@pytest.mark.parametrize("pid", ["", "x", "999999999"])
def test_launcher_that_cannot_be_seen_tells_nothing(pid: str) -> None:
    assert is_inherited({"JPY_PARENT_PID": pid, "JPY_SESSION_NAME": "/a.ipynb"}) is None


@pytest.mark.parametrize("kind", ["memory", "file", "waiting"])
def test_store_knows_notebooks_by_cell_path_and_kernel(tmp_path: Path, kind: str) -> None:
    store: ConversationStore = MemoryConversations()
    if kind != "memory":
        store = SqliteConversations(tmp_path / "c.sqlite3", busy_timeout_s=0.0)

    def note(scope: str, path: str, kernel: str, cell: str) -> None:
        origin = Origin(scope=scope, path=path, kernel=kernel, cell=cell)
        store.append(scope, "main", TurnRecord(prompt="p", reply=Reply(text="r", model="m"), origin=origin))

    def found(cells: tuple[str, ...] = (), path: str = "", kernel: str = "") -> set[str]:
        return {known.scope for known in store.notebooks(cells=cells, path=path, kernel=kernel)}

    note("a", "/a", "k", ONE)
    blocker = sqlite3.connect(tmp_path / "c.sqlite3", isolation_level=None)
    if kind == "waiting":
        blocker.execute("BEGIN IMMEDIATE")
    try:
        with pytest.warns(UserWarning, match="locked") if kind == "waiting" else contextlib.nullcontext():
            note("b", "/b", "", TWO)
        note("a", "/c", "k", THREE)
        assert found((ONE,)) == found((THREE,)) == found(path="/c") == found(kernel="k") == {"a"}
        assert found(path="/a") == found() == found(("", FOUR)) == set()
        assert found((ONE, TWO)) == found((*(f"x{n}" for n in range(2000)), ONE), path="/b") == {"a", "b"}
        assert sorted(store.scopes("main")) == ["a", "b"]
        (known,) = store.notebooks(cells=[ONE])
        assert (known.path, known.kernel, known.cells, known.is_certain) == ("/c", "k", {ONE, THREE}, True)
        store.delete("a", "main")
        assert found((ONE,)) == set()
        assert store.scopes("main") == ["b"]
    finally:
        blocker.close()
    store.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE notebooks SET path = 5",
        "UPDATE notebooks SET kernel = x'ff'",
        "UPDATE notebooks SET updated_s = 'x'",
        "UPDATE notebooks SET is_certain = 'x'",
        "UPDATE notebooks SET scope = 7",
        "UPDATE cells SET scope = x'ff'",
        "UPDATE cells SET cell = 7",
        "DELETE FROM notebooks",
    ],
)
def test_no_tampering_with_notebooks_raises(tmp_path: Path, disk: Disk, statement: str) -> None:
    """Row 49."""
    store = SqliteConversations(tmp_path / "c.sqlite3")
    Kernel(store, disk, UNTITLED).run(ONE, "q1")
    with contextlib.closing(sqlite3.connect(tmp_path / "c.sqlite3", isolation_level=None)) as connection:
        connection.execute(statement)
    assert Kernel(store, disk, UNTITLED).run(TWO, "q2")[-1] == "q2"
    assert store.load(store.notebooks(path=UNTITLED)[0].scope, "main") is not None
    store.close()
