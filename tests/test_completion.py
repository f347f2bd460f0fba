"""Tab on the line of a magic: the words alone, then in a shell, then through a kernel."""

from __future__ import annotations

import shlex
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.arguments import COMMANDS, cell_parser
from aichat_magic.completion import Completed, Known, complete

FRAME = pd.DataFrame({"title": ["a"], "body text": ["b"], 3: [0]})
KNOWN = Known(
    variables={"df": FRAME, "dfs": [FRAME], "answer": "x", "_hidden": FRAME, "pd": pd, "Review": dict, "prompt": "p"},
    models=lambda: ("openai/", "openai/gpt-5-mini", "ollama/", "fast", "local/smollm2-135m"),
    conversations=lambda: ("main", "other one", "it's", "münchen"),
    templates=lambda: {"fix": (), "summary": ("text", "audience")},
    settings=lambda: ("model", "temperature", "timeout", "keep_history"),
)


def at(line: str, after: str = "") -> tuple[str, ...]:
    """The candidates at the end of a line."""
    completed = complete(line, KNOWN, after=after)
    assert completed is not None
    assert line.endswith(completed.fragment)
    return completed.candidates


@pytest.mark.parametrize(
    "line", ["", "x = 1", "%%aichat", "%aichat", "%%aichatter ", "%%time ", "aichat ", "a %aichat "]
)
def test_line_that_is_none_of_ours_is_left_alone(line: str) -> None:
    assert complete(line, KNOWN) is None


def test_every_long_flag_is_offered_on_an_empty_cell_line() -> None:
    flags = {flag for action in cell_parser()._actions for flag in action.option_strings if flag.startswith("--")}
    assert set(at("%%aichat ")) == flags


@pytest.mark.parametrize(
    ("line", "candidates"),
    [
        ("%%aichat --te", ("--temperature",)),
        ("  %%aichat --te", ("--temperature",)),
        ("%%aichat -t 0.5 --te", ()),
        ("%%aichat --stop x --st", ("--stop", "--strict")),
        ("%%aichat -m ", ("openai/", "openai/gpt-5-mini", "ollama/", "fast", "local/smollm2-135m")),
        ("%%aichat -m open", ("openai/", "openai/gpt-5-mini")),
        ("%%aichat --model=open", ("openai/", "openai/gpt-5-mini")),
        ("%%aichat -m gpt", ("openai/gpt-5-mini",)),
        ("%%aichat -m 'op", ("'openai/'", "'openai/gpt-5-mini'")),
        ("%%aichat -c ", ("main", "'other one'", '"it\'s"', "münchen")),
        ("%%aichat -c MÜ", ("münchen",)),
        ('%%aichat -c "oth', ('"other one"',)),
        ("%%aichat -c other\\ o", ("'other one'",)),
        ("%%aichat -o ", ("df", "dfs", "answer", "Review", "prompt")),
        ("%%aichat --batch ", ("df",)),
        ("%%aichat --batch df --into ", ("title", "'body text'")),
        ("%%aichat --batch=df --into=b", ("'body text'",)),
        ("%%aichat --into ", ()),
        ("%%aichat --batch answer --into ", ()),
        ("%%aichat -s ", ()),
        ("%%aichat -s 'be b", ()),
        ("%%aichat --zzz", ()),
    ],
)
def test_on_the_line_of_a_cell(line: str, candidates: tuple[str, ...]) -> None:
    assert at(line) == candidates


def test_single_dash_offers_short_and_long_flags() -> None:
    assert {"-m", "--model", "-t", "--temperature"} <= set(at("%%aichat -"))


def test_quote_that_stands_behind_the_cursor_is_not_doubled() -> None:
    assert at("%%aichat -c 'oth", after="' --new") == ("'other one",)


def test_every_command_is_offered_on_an_empty_line() -> None:
    assert at("%aichat ") == tuple(name for name, _, _ in COMMANDS)


@pytest.mark.parametrize(
    ("line", "candidates"),
    [
        ("%aichat sw", ("switch",)),
        ("%aichat use gpt", ("openai/gpt-5-mini",)),
        ("%aichat use fast ", ()),
        ("%aichat models o", ("openai/", "ollama/")),
        ("%aichat switch ", ("main", "'other one'", '"it\'s"', "münchen")),
        ("%aichat show m", ("main", "münchen")),
        ("%aichat reset m", ("main", "münchen")),
        ("%aichat delete oth", ("'other one'",)),
        ("%aichat fork m", ()),
        ("%aichat set te", ("temperature",)),
        ("%aichat set model fa", ("fast",)),
        ("%aichat set keep-history ", ("true", "false", "none")),
        ("%aichat set temperature ", ("none",)),
        ("%aichat store ", ("clear",)),
        ("%aichat ask wh", ()),
        ("%aichat nonsense wh", ()),
    ],
)
def test_on_a_line(line: str, candidates: tuple[str, ...]) -> None:
    assert at(line) == candidates


@given(st.text(min_size=1, alphabet=st.characters(blacklist_categories=["C", "Z"], whitelist_characters=" '\"\\")))
def test_candidate_is_read_as_the_name_itself(name: str) -> None:
    known = Known(variables={}, conversations=lambda: (name,))
    for line in ("%%aichat -c ", "%%aichat -c '", '%%aichat -c "'):
        completed = complete(line, known)
        assert completed is not None
        for candidate in completed.candidates:
            assert shlex.split(line.removesuffix(completed.fragment) + candidate)[2:] == [name]


@given(st.text())
def test_nothing_that_is_typed_makes_it_fail(text: str) -> None:
    for magic in ("%%aichat ", "%aichat ", "%aichat run ", "%%aichat --batch "):
        line = magic + text
        completed = complete(line, KNOWN)
        assert isinstance(completed, Completed)
        assert line.endswith(completed.fragment)


def test_no_code_of_a_variable_runs() -> None:
    class Trap:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

    known = Known(variables={"trap": Trap()})
    for line in ("%%aichat --batch ", "%%aichat --batch trap --into ", "%%aichat -o "):
        assert complete(line, known) is not None
