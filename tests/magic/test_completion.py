"""Tab on the line of a magic: the words alone, then in a shell, then through a kernel."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from frame_kinds import KINDS, FrameKind
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from kernels import Kernel
from needs import lacking
from servers import MODEL, ChatServer
from traitlets.config import Config

import aichat_magic.chat.chat
from aichat_magic.chat.chat import Chat
from aichat_magic.core import sync as bridge
from aichat_magic.core.errors import ConfigError
from aichat_magic.core.settings import Settings
from aichat_magic.magic.arguments import COMMANDS
from aichat_magic.magic.completion import Completion, CompletionSources, complete_line
from aichat_magic.magic.flags import cell_parser

FRAME = pd.DataFrame({"title": ["a"], "body text": ["b"], 3: [0]})
KNOWN = CompletionSources(
    variables={"df": FRAME, "dfs": [FRAME], "answer": "x", "_hidden": FRAME, "pd": pd, "Review": dict, "prompt": "p"},
    models=lambda: ("openai/", "openai/gpt-5-mini", "ollama/", "fast", "local/smollm2-135m"),
    conversations=lambda: ("main", "other one", "it's", "münchen"),
    templates=lambda: {"fix": (), "summary": ("text", "audience")},
    settings=lambda: ("model", "temperature", "timeout", "keep_history"),
)


def at(line: str, after: str = "") -> tuple[str, ...]:
    """The candidates at the end of a line."""
    completed = complete_line(line, KNOWN, after=after)
    assert completed is not None
    assert line.endswith(completed.fragment)
    return completed.candidates


@pytest.mark.parametrize(
    "line", ["", "x = 1", "%%aichat", "%aichat", "%%aichatter ", "%%time ", "aichat ", "a %aichat "]
)
def test_line_that_is_none_of_ours_is_left_alone(line: str) -> None:
    assert complete_line(line, KNOWN) is None


def test_every_long_flag_is_offered_on_an_empty_cell_line() -> None:
    flags = {flag for action in cell_parser()._actions for flag in action.option_strings if flag.startswith("--")}
    assert set(at("%%aichat ")) == flags


@pytest.mark.parametrize(
    ("line", "candidates"),
    [
        ("%%aichat --te", ("--temperature",)),
        ("  %%aichat --te", ("--temperature",)),
        ("%%aichat -t 0.5 --te", ()),
        ("%%aichat --stop x --st", ("--stop", "--strict-options", "--strict")),
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
        ("%%aichat -f ", ("markdown", "text", "json", "code")),
        ("%%aichat --reasoning h", ("high",)),
        ("%%aichat --tier=f", ("flex", "flex,auto")),
        ("%%aichat -O ", ()),
        ("%%aichat --schema R", ("Review",)),
        ("%%aichat -i e", ("err",)),
    ],
)
def test_on_the_line_of_a_cell(line: str, candidates: tuple[str, ...]) -> None:
    assert at(line) == candidates


def test_single_dash_offers_short_and_long_flags() -> None:
    assert {"-m", "--model", "-t", "--temperature"} <= set(at("%%aichat -"))


def test_quote_that_stands_behind_the_cursor_is_not_doubled() -> None:
    assert at("%%aichat -c 'oth", after="' --new") == ("'other one",)


def test_every_command_is_offered_on_an_empty_line() -> None:
    assert at("%aichat ") == tuple(command.name for command in COMMANDS)


@pytest.mark.parametrize(
    ("line", "candidates"),
    [
        ("%aichat sw", ("switch",)),
        ("%aichat use gpt", ("openai/gpt-5-mini",)),
        ("%aichat use fast ", ("--base-url",)),
        ("%aichat key o", ("openai", "ollama")),
        ("%aichat key openai ", ("--save", "--forget")),
        ("%aichat models o", ("openai/", "ollama/")),
        ("%aichat switch ", ("main", "'other one'", '"it\'s"', "münchen")),
        ("%aichat show m", ("main", "münchen")),
        ("%aichat reset m", ("main", "münchen")),
        ("%aichat delete oth", ("'other one'",)),
        ("%aichat fork m", ()),
        ("%aichat set te", ("temperature",)),
        ("%aichat set model fa", ("fast",)),
        ("%aichat set keep-history ", ("true", "false", "default")),
        ("%aichat set temperature ", ("unset", "default")),
        ("%aichat set reasoning m", ("minimal", "medium", "max")),
        ("%aichat set tier ", ("auto", "flex", "priority", "flex,auto", "unset", "default")),
        ("%aichat set strict-options ", ("true", "false", "default")),
        ("%aichat store ", ("clear", "prune")),
        ("%aichat store prune ", ("--older", "--larger")),
        ("%aichat store prune --older 90d --", ("--larger",)),
        ("%aichat store prune --older ", ()),
        ("%aichat ask wh", ()),
        ("%aichat nonsense wh", ()),
    ],
)
def test_on_a_line(line: str, candidates: tuple[str, ...]) -> None:
    assert at(line) == candidates


@given(st.text(min_size=1, alphabet=st.characters(blacklist_categories=["C", "Z"], whitelist_characters=" '\"\\")))
def test_candidate_is_read_as_the_name_itself(name: str) -> None:
    known = CompletionSources(variables={}, conversations=lambda: (name,))
    for line in ("%%aichat -c ", "%%aichat -c '", '%%aichat -c "'):
        completed = complete_line(line, known)
        assert completed is not None
        for candidate in completed.candidates:
            assert shlex.split(line.removesuffix(completed.fragment) + candidate)[2:] == [name]


@given(st.text())
def test_nothing_that_is_typed_makes_it_fail(text: str) -> None:
    for magic in ("%%aichat ", "%aichat ", "%aichat run ", "%%aichat --batch "):
        line = magic + text
        completed = complete_line(line, KNOWN)
        assert isinstance(completed, Completion)
        assert line.endswith(completed.fragment)


def test_no_code_of_a_variable_runs() -> None:
    class Trap:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

    known = CompletionSources(variables={"trap": Trap()})
    for line in ("%%aichat --batch ", "%%aichat --batch trap --into ", "%%aichat -o "):
        assert complete_line(line, known) is not None


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_frames_of_every_kind_and_their_columns_are_offered(kind: FrameKind) -> None:
    if reason := lacking(*kind.needs):
        pytest.skip(reason)
    known = dataclasses.replace(KNOWN, variables={"rows": kind.make({"body": ["a"], "x y": [1]}), "text": "a"})
    for line, offered in (("%%aichat --batch ", ("rows",)), ("%%aichat --batch rows --into ", ("body", "'x y'"))):
        completed = complete_line(line, known)
        assert completed is not None
        assert completed.candidates == offered


@pytest.mark.parametrize(
    ("line", "candidates"),
    [
        ("%aichat run ", ("fix", "summary")),
        ("%aichat run summary ", ("text=", "audience=")),
        ("%aichat run summary text=x ", ("audience=",)),
        ("%aichat run summary text=", ()),
        ("%aichat doc Re", ("Review",)),
        ("%aichat fix --te", ("--temperature",)),
        ("%aichat fix -m gpt", ("openai/gpt-5-mini",)),
        ("%aichat fix ", ()),
        ("%aichat import x.json m", ("main", "münchen")),
    ],
)
def test_on_a_line_that_asks_by_a_template(line: str, candidates: tuple[str, ...]) -> None:
    assert at(line) == candidates


@pytest.mark.parametrize("line", ["%aichat export ", "%aichat import no", "%%aichat --attach da"])
def test_names_of_files_are_left_to_others(line: str) -> None:
    completed = complete_line(line, KNOWN)
    assert completed is not None
    assert (completed.kind, completed.candidates) == ("file", ())


# In a shell


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.csv").write_text("a\n1\n")
    chat = Chat(settings=lambda: Settings(model="echo/echo", aliases={"fast": "openai/gpt-5-nano"}))
    monkeypatch.setattr(aichat_magic.chat.chat, "shared_chat", lambda: chat)
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell(config=config)
    shell.run_line_magic("load_ext", "aichat_magic")
    shell.user_ns["df"] = FRAME
    yield shell
    shell.run_line_magic("unload_ext", "aichat_magic")
    bridge.run_sync(chat.http.aclose())


def tab(shell: InteractiveShell, cell: str, cursor: int | None = None) -> list[str]:
    """What Tab offers, as whole texts of the cell up to the cursor."""
    before = cell if cursor is None else cell[:cursor]
    with provisionalcompleter():
        return [before[: found.start] + found.text for found in shell.Completer.completions(cell, len(before))]


def test_tab_completes_flags_values_and_commands(shell: InteractiveShell) -> None:
    assert tab(shell, "%%aichat --te") == ["%%aichat --temperature"]
    assert tab(shell, "%%aichat -t 0 -m fa") == ["%%aichat -t 0 -m fast"]
    assert tab(shell, "%%aichat --batch ") == ["%%aichat --batch df"]
    assert tab(shell, "%%aichat --batch df --into 'bo") == ["%%aichat --batch df --into 'body text'"]
    assert tab(shell, "%aichat swi") == ["%aichat switch"]
    assert "%aichat run explain" in tab(shell, "%aichat run ")
    assert "%aichat set max_retries" in tab(shell, "%aichat set m")
    models = tab(shell, "%aichat use ")
    assert {"%aichat use openai/", "%aichat use echo/echo", "%aichat use local/smollm2-135m"} <= set(models)


def test_tab_knows_conversations_and_models_of_the_session(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_cell("%%aichat -c 'other one' -m echo/seen\nhello")
    assert tab(shell, "%aichat switch o") == ["%aichat switch 'other one'"]
    assert tab(shell, "%%aichat -m seen") == ["%%aichat -m echo/seen"]
    with ChatServer() as server:
        shell.run_line_magic("config", f"AIChat.base_url = '{server.url}'")
        assert tab(shell, f"%%aichat -m {MODEL}") == []
        shell.run_cell("%aichat models openai/")
        n_requests = len(server.requests)
        assert tab(shell, f"%%aichat -m {MODEL}") == [f"%%aichat -m openai/{MODEL}"]
        assert len(server.requests) == n_requests


@pytest.mark.parametrize("line", ["%%aichat -t ", "%%aichat -s ", "%%aichat --zzz", "%aichat ask ", "%%aichat -t d"])
def test_neither_files_nor_names_flood_the_line(shell: InteractiveShell, line: str) -> None:
    assert tab(shell, line) == []


def test_files_are_offered_where_a_file_is_meant(shell: InteractiveShell) -> None:
    assert tab(shell, "%%aichat --attach da") == ["%%aichat --attach data.csv"]
    assert tab(shell, "%aichat import da") == ["%aichat import data.csv"]


def test_prompt_and_other_cells_are_not_touched(shell: InteractiveShell) -> None:
    offered = [
        text
        for cell in (
            "%%aichat\n--te",
            "%%aichat\n%aichat swi",
            "%%aichat\n%%aichat --te",
            "%%time\n%aichat swi",
            "--te",
        )
        for text in tab(shell, cell)
    ]
    assert not [text for text in offered if text.endswith(("--temperature", "switch"))]
    assert tab(shell, "df.colum") == ["df.columns"]


def test_line_magic_is_completed_on_every_line_of_a_plain_cell(shell: InteractiveShell) -> None:
    assert tab(shell, "x = 1\n%aichat swi") == ["x = 1\n%aichat switch"]
    assert tab(shell, "\n\n%%aichat --te") == ["\n\n%%aichat --temperature"]


def test_setting_that_cannot_be_used_does_not_fail_tab(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> Settings:
        raise ConfigError("broken")

    monkeypatch.setattr(aichat_magic.chat.chat.shared_chat(), "_load", broken)
    assert "%%aichat -m x" not in tab(shell, "%%aichat -m ")
    assert capsys.readouterr() == ("", "")


def test_matcher_goes_with_the_extension_and_comes_back_once(shell: InteractiveShell) -> None:
    def ours() -> int:
        return sum("AIChat" in str(getattr(matcher, "matcher_identifier", "")) for matcher in matchers)

    matchers = shell.Completer.custom_matchers
    assert ours() == 1
    shell.run_line_magic("reload_ext", "aichat_magic")
    assert ours() == 1
    shell.run_line_magic("unload_ext", "aichat_magic")
    assert ours() == 0
    assert tab(shell, "%%aichat --te") == []
    shell.run_line_magic("load_ext", "aichat_magic")
    assert tab(shell, "%%aichat --te") == ["%%aichat --temperature"]


# Through a kernel, as JupyterLab asks


@pytest.mark.slow
def test_kernel_completes_the_line_and_nothing_below_it() -> None:
    with Kernel() as kernel:
        assert kernel.run("%load_ext aichat_magic").status == "ok"
        assert kernel.run("rows = 1").status == "ok"
        line = "%%aichat --te\nprompt"
        reply = kernel.complete(line, len("%%aichat --te"))
        assert reply["matches"] == ["--temperature"]
        assert line[: reply["cursor_start"]] == "%%aichat "
        assert kernel.complete("%%aichat -o ro")["matches"] == ["rows"]
        assert kernel.complete("%%aichat -t ")["matches"] == []
        assert "local/smollm2-135m" in kernel.complete("%aichat use smol")["matches"]
        assert kernel.complete("%%aichat\n--te")["matches"] == []
        assert not [path for path in kernel.home.rglob("*") if "aichat" in path.name], "Tab wrote a file"
