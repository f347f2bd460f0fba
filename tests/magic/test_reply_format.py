"""The form of a reply that a cell asks for: what is sent, checked and shown, alone and in a shell."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from picky import no_response_format, picky
from servers import Answer, ChatServer, Received, hang, status, text, usage_of
from traitlets.config import Config

import aichat_magic.chat.chat
from aichat_magic.chat.chat import Chat
from aichat_magic.core import sync as bridge
from aichat_magic.core.errors import AichatError, BadInputError, ChatInterrupt, UnknownNameError
from aichat_magic.core.json_text import SchemaError
from aichat_magic.core.settings import Settings
from aichat_magic.magic.reply_format import ReplyFormat, reply_format_of


@dataclass
class City:
    name: str
    people: int


LISBON = '{"name": "Lisbon", "people": 545796}'


@pytest.mark.parametrize(
    ("format", "said", "in_notebook", "in_terminal"),
    [
        ("markdown", "**a**", "**a**", "**a**"),
        ("text", "**a**", "```\n**a**\n```", "**a**"),
        ("text", "```\na\n```", "````\n```\na\n```\n````", "```\na\n```"),
        ("json", 'Sure: {"a": 1}', '```json\n{\n  "a": 1\n}\n```', '{\n  "a": 1\n}'),
        ("json", "none", "none", "none"),
        ("code", "Sure:\n```py\na\n```\nor\n~~~\nb\n~~~", "```py\na\n```\n\n```\nb\n```", "a\n\nb"),
        ("code", "no code", "no code", "no code"),
    ],
)
def test_what_is_shown(format: str, said: str, in_notebook: str, in_terminal: str) -> None:
    reply_format = ReplyFormat(format=format)
    assert reply_format.shown(said, is_notebook=True) == in_notebook
    assert reply_format.shown(said, is_notebook=False) == in_terminal


def test_schema_is_a_name_of_the_notebook() -> None:
    assert reply_format_of("", "City", {"City": City}).schema is not None
    with pytest.raises(UnknownNameError, match="Did you mean 'City'"):
        reply_format_of("", "Citty", {"City": City})
    with pytest.raises(BadInputError, match="cannot be a schema"):
        reply_format_of("json", "x", {"x": 3})
    with pytest.raises(BadInputError, match="Use only one of them"):
        reply_format_of("code", "City", {"City": City})


# In a shell

Cell = Callable[[str], Any]


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer() as server:
        yield server


@pytest.fixture
def shell(server: ChatServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    chat = Chat(settings=lambda: Settings(model="openai/m", base_url=server.url))
    monkeypatch.setattr(aichat_magic.chat.chat, "shared_chat", lambda: chat)
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell(config=config)
    shell.run_line_magic("load_ext", "aichat_magic")
    shell.user_ns["City"] = City
    yield shell
    shell.run_line_magic("unload_ext", "aichat_magic")
    bridge.run_sync(chat.http.aclose())


@pytest.fixture
def run(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> Cell:
    def run(source: str) -> Any:
        capsys.readouterr()
        result = shell.run_cell(source, store_history=True)
        printed = capsys.readouterr()
        return result, printed.out + printed.err

    return run


def saying(*texts: str) -> Callable[[Received, int], Answer]:
    """Answers in turn."""
    waiting = list(texts)
    return lambda received, attempt: text(waiting.pop(0))


def sent(server: ChatServer) -> list[str]:
    return [message["content"] for message in server.bodies[-1]["messages"]]


def test_schema_is_sent_and_its_value_stands_beside_the_text(
    run: Cell, server: ChatServer, shell: InteractiveShell
) -> None:
    server.answer = saying(LISBON)
    result, printed = run("%%aichat --schema City -o answer\nLargest city of Portugal?")
    assert server.bodies[0]["response_format"]["json_schema"]["name"] == "City"
    assert sent(server) == ["Largest city of Portugal?"]
    assert result.result.value == City("Lisbon", 545796)
    assert shell.user_ns["answer"].value == City("Lisbon", 545796)
    assert shell.user_ns["answer"].text == LISBON
    assert printed.count('"name": "Lisbon"') == 1


def test_wrong_reply_is_asked_for_once_more_with_what_was_wrong(run: Cell, server: ChatServer) -> None:
    server.answer = saying('{"name": "Lisbon"}', LISBON, "next")
    result, _ = run("%%aichat --schema City\nLargest city of Portugal?")
    assert result.result.value == City("Lisbon", 545796)
    assert len(server.requests) == 2
    assert sent(server)[1] == '{"name": "Lisbon"}'
    assert "people" in sent(server)[2]
    assert [message.content for message in result.result.messages] == ["Largest city of Portugal?"]
    counts = [
        usage_of(said, received)["completion_tokens"]
        for said, received in zip(('{"name": "Lisbon"}', LISBON), server.requests, strict=True)
    ]
    assert result.result.usage.output_tokens == sum(counts)
    run("%%aichat\nmore")
    assert sent(server) == ["Largest city of Portugal?", LISBON, "more"]


def test_reply_that_stays_wrong_is_an_error_and_its_text_is_kept(
    run: Cell, server: ChatServer, shell: InteractiveShell
) -> None:
    server.answer = saying("no", "no again", "next")
    result, printed = run("%%aichat --schema City -o answer\nLargest city of Portugal?")
    assert isinstance(result.error_in_exec, SchemaError)
    assert len(server.requests) == 2
    assert shell.user_ns["answer"].text == "no again"
    assert shell.user_ns["answer"].value is None
    assert "no again" in printed
    assert "answer.text" in printed
    run("%%aichat\nmore")
    assert sent(server) == ["more"]


def test_reply_is_kept_and_counted_when_asking_again_fails(
    run: Cell, server: ChatServer, shell: InteractiveShell
) -> None:
    server.answer = lambda received, attempt: text("no") if len(server.requests) == 1 else status(400)
    result, printed = run("%%aichat --schema City -o answer\nLargest city of Portugal?")
    assert isinstance(result.error_in_exec, SchemaError)
    assert "Asking again failed" in printed
    assert "twice" not in printed
    assert shell.user_ns["answer"].text == "no"
    assert "1 reply" in run("%aichat")[1]


def test_reply_is_kept_and_counted_when_asking_again_is_interrupted(
    run: Cell, server: ChatServer, shell: InteractiveShell
) -> None:
    server.answer = lambda received, attempt: text("no") if len(server.requests) == 1 else hang()

    def interrupt() -> None:
        assert server.wait_until(lambda server: len(server.requests) == 2 and server.in_flight == 1)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    result, printed = run("%%aichat --schema City -o answer\nLargest city of Portugal?")
    thread.join()
    assert isinstance(result.error_in_exec, ChatInterrupt)
    assert "no\n" in printed
    assert shell.user_ns["answer"].text == "no"
    assert "1 reply" in run("%aichat")[1]
    server.answer = saying("next")
    run("%%aichat\nmore")
    assert sent(server) == ["more"]


def test_provider_without_schemas_is_told_in_words(
    run: Cell, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aichat_magic.providers.openai.OpenAI.supports_schema", False)
    server.answer = saying(LISBON, "next")
    result, _ = run("%%aichat --schema City\nLargest?")
    assert "response_format" not in server.bodies[0]
    assert "JSON schema" in sent(server)[0]
    assert result.result.value == City("Lisbon", 545796)
    run("%%aichat\nmore")
    assert sent(server) == ["Largest?", LISBON, "more"]


@pytest.mark.parametrize(
    ("finish", "words"),
    [("length", "cut at max_tokens=7; raise max_tokens"), ("content_filter", "content filter")],
)
def test_reply_that_was_cut_is_named_and_not_asked_for_again(
    run: Cell, server: ChatServer, finish: str, words: str
) -> None:
    server.answer = lambda received, attempt: text('{"name": "Lis', finish=finish)
    result, printed = run("%%aichat --schema City --max-tokens 7 -o answer\nLargest city of Portugal?")
    assert isinstance(result.error_in_exec, SchemaError)
    assert words in printed
    assert "twice" not in printed
    assert len(server.requests) == 1


def test_second_reply_that_was_cut_is_named(run: Cell, server: ChatServer) -> None:
    server.answer = lambda received, attempt: (
        text("no") if len(server.requests) == 1 else text('{"name": "Lis', finish="length")
    )
    _, printed = run("%%aichat --schema City --max-tokens 7\nLargest city of Portugal?")
    assert "cut at max_tokens=7" in printed


def test_schema_that_a_server_does_not_take_is_asked_for_in_words_and_told(run: Cell, server: ChatServer) -> None:
    server.answer = picky(no_response_format, answer=saying(LISBON, "next"))
    result, printed = run("%%aichat --schema City\nLargest?")
    assert result.result.value == City("Lisbon", 545796)
    assert "asked for in words; every answer is checked" in printed
    assert [m["role"] for m in server.bodies[-1]["messages"]] == ["system", "user"]
    run("%%aichat\nmore")
    assert sent(server) == ["Largest?", LISBON, "more"]  # the words do not enter the conversation


def test_json_is_asked_for_checked_and_shown(run: Cell, server: ChatServer) -> None:
    server.answer = saying('Sure:\n```json\n{"a": [1, 2]}\n```')
    result, printed = run("%%aichat --format json\nNumbers?")
    assert "JSON only" in sent(server)[0]
    assert result.result.value == {"a": [1, 2]}
    assert json.loads(printed[printed.index("{") : printed.rindex("}") + 1]) == {"a": [1, 2]}
    assert "Sure" not in printed


def test_text_and_code_are_shown_as_such(run: Cell, server: ChatServer) -> None:
    server.answer = saying("**bold**", "Sure:\n```py\na = 1\n```")
    assert "**bold**" in run("%%aichat -f text\nhello")[1]
    result, printed = run("%%aichat -f code\nhello")
    assert "a = 1" in printed
    assert "Sure" not in printed
    assert result.result.code == "a = 1"


@pytest.mark.parametrize(
    "line", ["-f xml", "--schema Nothing", "--schema City -f code", "--batch df --into x --schema City", "--schema"]
)
def test_wrong_line_sends_nothing(run: Cell, server: ChatServer, line: str) -> None:
    result, printed = run(f"%%aichat {line}\nhello")
    assert isinstance(result.error_in_exec, AichatError)
    assert len(printed.strip().splitlines()) <= 5
    assert server.requests == []


def test_dry_run_shows_what_is_asked_for_a_form(run: Cell, server: ChatServer) -> None:
    _, printed = run("%%aichat --format json --dry-run\nNumbers?")
    assert "JSON only" in printed
    assert server.requests == []
