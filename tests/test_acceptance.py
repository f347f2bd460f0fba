"""The table of faults and attacks is whole, what it names exists, and its defences can be taken out."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from acceptance import ROWS, Removal, Row
from acceptance.removals import PACKAGE, VARIABLE, NothingToRemoveError, remove
from paths import ROOT, TESTS

SITE = TESTS / "removals_site"


@cache
def names_in(path: str) -> frozenset[str]:
    """The names of the test functions of a file, from its text."""
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


def by_number(row: Row) -> str:
    return f"{row.number}{row.part}"


def test_every_row_is_there_once() -> None:
    names = [by_number(row) for row in ROWS]
    assert len(set(names)) == len(names)
    assert set(range(1, 69)) <= {row.number for row in ROWS}


@pytest.mark.parametrize("row", ROWS, ids=by_number)
def test_row_names_tests_that_exist(row: Row) -> None:
    assert row.tests, "no test shows it"
    named = {*row.tests, *row.checks, *(test for removal in row.removals for test in removal.tests)}
    for test in sorted(named):
        path, _, name = test.partition("::")
        assert (TESTS / path).is_file(), f"{path} does not exist"
        assert name in names_in(path), f"{path} has no {name}"


def without(removal: Removal) -> CodeType:
    """The module of a removal without its defence, compiled and not run."""
    module, _, name = removal.where.partition(":")
    path = ROOT.joinpath(PACKAGE, *module.split(".")) if module else ROOT / PACKAGE
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = remove(path.read_text("utf-8"), str(path), name, removal.what, removal.by)
    return compile(tree, str(path), "exec")


@pytest.mark.parametrize("row", ROWS, ids=by_number)
def test_row_can_be_made_to_fail(row: Row) -> None:
    assert row.removals or row.checks, "nothing says how to see its tests red"
    for removal in row.removals:
        without(removal)
        assert set(removal.tests) <= set(row.tests)


# Taking something out.


SOURCE = """
import math
from typing import overload

LIMIT: int = 10
WORDS = {"a": 1, "b": 2}
ALL = [*WORDS]
if LIMIT:
    def late(): return 1
else:
    OTHER = 1

class Refused(Exception):
    pass

class Door:
    height = 2

    def __init__(self, limit=LIMIT):
        self._limit = limit

    @property
    def is_open(self):
        return self._limit < 5

    def check(self, size):
        if size > self._limit:
            raise Refused("too large")
        self._limit -= 1
        return math.floor(size)

    async def enter(self):
        await self.wait_for(1)
        return self.height

    async def wait_for(self, size):
        raise Refused

def outer(text):
    def inner(part):
        return part.strip()
    return inner(text)

@overload
def twice(x: int) -> int: ...
@overload
def twice(x: str) -> str: ...
def twice(x):
    return x * 2
"""


def made(name: str, what: str, by: str) -> dict[str, Any]:
    """The names of `SOURCE` without something."""
    names: dict[str, Any] = {"__name__": "source"}
    exec(compile(remove(SOURCE, "source.py", name, what, by), "source.py", "exec"), names)
    return names


def test_constant_has_another_value() -> None:
    assert made("LIMIT", "", "3")["LIMIT"] == 3
    assert made("LIMIT", "", "original + 1")["LIMIT"] == 11
    assert made("OTHER", "", "1")["ALL"] == ["a", "b"]


def test_what_is_made_of_a_constant_is_made_of_the_other_one() -> None:
    assert made("WORDS", "", "{**original, 'c': 3}")["ALL"] == ["a", "b", "c"]


def test_function_is_replaced_wherever_it_stands() -> None:
    assert made("twice", "", "lambda x: original(x) + original(x)")["twice"](2) == 8
    assert made("late", "", "lambda: 2")["late"]() == 2
    assert made("outer.inner", "", "lambda part: part")["outer"](" a ") == " a "


def test_method_property_and_attribute_of_a_class_are_replaced() -> None:
    assert made("Door.check", "", "lambda self, size: size")["Door"](1).check(7) == 7
    assert made("Door.is_open", "", "property(lambda self: not original.fget(self))")["Door"](9).is_open
    assert made("Door.height", "", "original * 2")["Door"].height == 4


def test_error_that_is_raised_no_longer_is() -> None:
    assert made("Door.check", "Refused", "None")["Door"](1).check(7.5) == 7


def test_use_of_a_name_is_replaced_and_its_assignment_is_not() -> None:
    door = made("Door.check", "self._limit", "100")["Door"](1)
    assert door.check(7.5) == 7
    assert door._limit == 0


def test_call_is_replaced_with_its_arguments_or_wrapped() -> None:
    assert made("Door.check", "math.floor", "size")["Door"]().check(7.5) == 7.5
    assert made("Door.check", "floor", "original + 1")["Door"]().check(7.5) == 8
    assert made("outer", "strip", "part")["outer"](" a ") == " a "


def test_await_goes_with_its_call() -> None:
    with pytest.raises(StopIteration) as end:
        made("Door.enter", "self.wait_for", "None")["Door"]().enter().send(None)
    assert end.value.value == 2


def test_end_of_a_name_is_whole_words() -> None:
    with pytest.raises(NothingToRemoveError, match="does not use limit"):
        made("Door.check", "limit", "1")


@pytest.mark.parametrize(
    ("name", "what", "by"),
    [
        ("Door.close", "", "None"),
        ("Window", "", "None"),
        ("height", "", "1"),  # it is Door's
        ("inner", "", "None"),  # it is outer's
        ("Door.check", "print", "None"),
        ("Door.check", "Refused", "nonsense"),
        ("", "", "None"),
    ],
)
def test_what_is_not_there_is_told(name: str, what: str, by: str) -> None:
    with pytest.raises(NothingToRemoveError):
        made(name, what, by)


def test_every_process_does_without_and_no_file_changes(tmp_path: Path) -> None:
    removal = Removal(where="text.words:shorten", by="lambda text, most=0: 'gone'")
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, TESTS, SITE))),
        VARIABLE: removal.as_json(),
    }
    program = "from aichat_magic.text.words import shorten; print(shorten('a', 9))"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {program!r}], check=True)"

    def printed(environ: dict[str, str]) -> str:
        command = [sys.executable, "-c", outer]
        return subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert printed(environ).strip() == "gone"
    del environ[VARIABLE]
    assert printed(environ).strip() == "a"


def test_removal_is_handed_over_whole() -> None:
    removal = Removal(where="a:b", what="c", by="'\"\\ü'")
    assert json.loads(removal.as_json()) == {"where": "a:b", "what": "c", "by": "'\"\\ü'"}
    assert str(removal) == "a:b without c: '\"\\ü'"
    assert str(Removal(where="a:b", by="None")) == "a:b: None"
