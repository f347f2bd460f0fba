"""The table of faults and attacks is whole, and what it names exists."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
from acceptance import ROWS, Row

HERE = Path(__file__).parent
ROOT = HERE.parent


@cache
def names_in(path: str) -> frozenset[str]:
    """The names of the test functions of a file, from its text."""
    tree = ast.parse((HERE / path).read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


def by_number(row: Row) -> str:
    return str(row.number)


def test_every_row_is_there_once() -> None:
    numbers = [row.number for row in ROWS]
    assert len(set(numbers)) == len(numbers)
    assert set(range(1, 69)) <= set(numbers)


@pytest.mark.parametrize("row", ROWS, ids=by_number)
def test_row_names_tests_that_exist(row: Row) -> None:
    assert row.tests, "no test shows it"
    named = {*row.tests, *(test for removal in row.removals for test in removal.tests)}
    for test in sorted(named):
        path, _, name = test.partition("::")
        assert (HERE / path).is_file(), f"{path} does not exist"
        assert name in names_in(path), f"{path} has no {name}"


@pytest.mark.parametrize("row", ROWS, ids=by_number)
def test_row_can_be_made_to_fail(row: Row) -> None:
    assert row.removals, "nothing says how to see its tests red"
    for removal in row.removals:
        found = (ROOT / removal.file).read_text(encoding="utf-8").count(removal.old)
        assert found == 1, f"{found} times in {removal.file}: {removal.old!r}"
        assert removal.old != removal.new
        assert set(removal.tests) <= set(row.tests)
