"""What is told of an exception: cell, places, values; and what is not."""

from __future__ import annotations

import json
import linecache
from typing import Any

import pandas as pd
import pytest

from aichat_magic.magic.context.last_error import LastError, last_error_of, names_in, previous_cell


class Notebook:
    """Runs cells as IPython does: each compiled under a file name of its own."""

    def __init__(self) -> None:
        self.cells = [""]
        self.variables: dict[str, Any] = {"__name__": "__main__"}

    def run(self, source: str) -> BaseException | None:
        number = len(self.cells)
        self.cells.append(source)
        name = f"/tmp/ipykernel_1/{number}.py"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        try:
            exec(compile(source, name, "exec"), self.variables)
        except BaseException as error:
            return error
        return None

    def number_of(self, name: str) -> int | None:
        return int(name.split("/")[-1][:-3]) if name.startswith("/tmp/ipykernel_1/") else None

    def failure(self, source: str) -> LastError:
        error = self.run(source)
        assert error is not None
        return last_error_of(error, self.cells, self.variables, number_of=self.number_of)


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


def test_cell_place_and_message_are_told(notebook: Notebook) -> None:
    notebook.run("def half(n):\n    return n / 0\n")
    failure = notebook.failure("a = 1\nb = half(a)\n")
    assert failure.cell == "a = 1\nb = half(a)\n"
    assert failure.traceback.splitlines() == [
        "In[2], line 2:",
        "    b = half(a)",
        "In[1], line 2, in half:",
        "    return n / 0",
        "ZeroDivisionError: division by zero",
    ]


def test_failing_cell_is_found_when_others_ran_since(notebook: Notebook) -> None:
    error = notebook.run("1 / 0")
    notebook.run("fine = 1")
    assert error is not None
    assert last_error_of(error, notebook.cells, {}, number_of=notebook.number_of).cell == "1 / 0"


def test_syntax_error_is_told_with_its_line(notebook: Notebook) -> None:
    failure = notebook.failure("x = 1\ny = (\n")
    assert failure.cell == "x = 1\ny = (\n"
    assert "In[1], line 2" in failure.traceback
    assert "SyntaxError" in failure.traceback
    assert "/tmp" not in failure.traceback


def test_only_names_of_the_cell_that_exist_are_told(notebook: Notebook) -> None:
    notebook.run("used = 41\nunused = 'UNUSED'\n_private = 'PRIVATE'\nimport os")
    failure = notebook.failure("os.sep\nused + _private + missing")
    assert failure.values == "used (int):\n41"


@pytest.mark.parametrize("name", ["api_key", "TOKEN", "my_secret", "dbPassword", "AUTH_HEADER"])
def test_value_of_a_secret_name_is_not_told(notebook: Notebook, name: str) -> None:
    notebook.variables[name] = "CANARY"
    notebook.variables["config"] = {name: "CANARY", "deep": {name: "CANARY", "city": "Lisbon"}}
    failure = notebook.failure(f"call({name}, config)")
    assert "CANARY" not in failure.values
    assert "Lisbon" in failure.values


def test_author_is_no_secret(notebook: Notebook) -> None:
    notebook.variables["author"] = "Saramago"
    assert "Saramago" in notebook.failure("author + 1").values


def test_values_stay_inside_their_budget(notebook: Notebook) -> None:
    notebook.variables |= {f"v{n}": "x" * 50_000 for n in range(30)}
    notebook.variables["v0"] = list(range(1_000_000))
    failure = notebook.failure("[" + ",".join(f"v{n}" for n in range(30)) + "] + None")
    assert len(failure.values) < 12_000
    assert "v0 (list)" in failure.values


def test_table_is_told_by_columns_and_first_rows(notebook: Notebook) -> None:
    notebook.variables["df"] = pd.DataFrame({"city": ["Lisbon"], "n": [1]})
    failure = notebook.failure("df['town']")
    assert "Lisbon" in failure.values
    assert "1 rows x 2 columns" in failure.values
    assert failure.traceback.splitlines()[0] == "In[1], line 1:"
    assert "raised inside pandas/" in failure.traceback
    assert failure.traceback.count("pandas/") == 1
    assert "KeyError: 'town'" in failure.traceback


def test_function_of_the_notebook_is_told_and_one_of_a_library_is_not(notebook: Notebook) -> None:
    notebook.run("def half(n):\n    return n / 0\n")
    notebook.variables["dumps"] = json.dumps
    failure = notebook.failure("dumps(half(1))")
    assert "half (function)" in failure.values
    assert "return n / 0" in failure.values
    assert "dumps (" not in failure.values


def test_cause_and_group_are_told(notebook: Notebook) -> None:
    failure = notebook.failure("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ValueError('worse') from e")
    assert "ValueError: worse" in failure.traceback
    assert "Caused by:" in failure.traceback
    assert "ZeroDivisionError" in failure.traceback
    failure = notebook.failure("raise ExceptionGroup('many', [KeyError('k'), ValueError('v')])")
    assert "- KeyError: 'k'" in failure.traceback


def test_error_that_cannot_be_shown_is_named(notebook: Notebook) -> None:
    failure = notebook.failure("class E(Exception):\n    def __str__(self): raise RuntimeError\nraise E")
    assert "E" in failure.traceback.splitlines()[-1]
    notebook.run("class Bad:\n    def __repr__(self): raise RuntimeError('no')\nbad = Bad()")
    assert "cannot be shown" in notebook.failure("bad + 1").values


def test_recursion_is_cut_to_its_end(notebook: Notebook) -> None:
    failure = notebook.failure("def f():\n    return f()\nf()")
    assert len(failure.traceback.splitlines()) < 20
    assert "outer calls left out" in failure.traceback


def test_long_message_is_cut(notebook: Notebook) -> None:
    assert len(notebook.failure("raise ValueError('x' * 100_000)").traceback) < 3_000


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("a = b + c.d\nf(a)", ("a", "b", "c", "f")),
        ("%matplotlib inline\nfiles = !ls\n  \nx = %time y\nplot(z)", ("plot", "z")),
        ("%%time\nx", ()),
        ("not python at", ()),
        ("\0", ()),
    ],
)
def test_names_of_a_cell(source: str, names: tuple[str, ...]) -> None:
    assert names_in(source) == names


def test_previous_cell_is_the_last_that_is_not_ours() -> None:
    ours = ["%aichat explain", "%%aichat -t 0\nhello", "  %aichat", "get_ipython().run_cell_magic('aichat', '', 'x')"]
    assert previous_cell(["", "a", "b", *ours, "  "]) == "b"
    assert previous_cell(["", *ours]) == ""
