"""Notices: what was cut of a reply or of a prompt, and what to know of a model before its first reply."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from desks import View
from servers import Answer, ChatServer, Received, event_stream, payload, sse, status

from aichat_magic.batching.api import batch
from aichat_magic.chat import chat as chat_module
from aichat_magic.chat.api import ask, stream
from aichat_magic.chat.chat import Chat
from aichat_magic.chat.conversation import Conversation
from aichat_magic.core.messages import Reply
from aichat_magic.core.options import Options
from aichat_magic.core.settings import Settings
from aichat_magic.core.sync import run_sync as run
from aichat_magic.http.client import HttpClient
from aichat_magic.magic.live import StreamedView, UpdatedView
from aichat_magic.magic.notebook_identity import CellLocation
from aichat_magic.magic.session import Session
from aichat_magic.magic.views import LiveReply
from aichat_magic.providers.llama import engine
from aichat_magic.providers.llama.engine import close_all
from aichat_magic.providers.llama.weights import SMOLLM2
from aichat_magic.store.keys import request_key
from aichat_magic.text.reply_view import reply_bundle, summary_line

MODEL = f"local/{SMOLLM2.name}"
DEMONSTRATION = "local/smollm2-135m is a demonstration model with 135 million parameters"
DISTRUST = "Do not rely on its code, its tables or the values that it extracts."


def answer(
    received: Received, content: str = "ok", *, reason: str = "stop", read: int | None = 10, written: int | None = 2
) -> Answer:
    """A reply with its usage, as a stream where one was asked for."""
    usage = None if read is None else {"prompt_tokens": read, "completion_tokens": written}
    if not received.json.get("stream"):
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": reason}
        return payload({"model": "m", "choices": [choice], "usage": usage})
    pieces = [{"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": None}]}]
    pieces += [{"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}, {"choices": [], "usage": usage}]  # type: ignore[list-item]  # choices of two kinds
    return event_stream([*map(sse, pieces), sse("[DONE]")])


class Embedded:
    """The embedded model, whose server's answers are made up here."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reason, self.written = "stop", 2
        self.bodies: list[dict[str, Any]] = []
        self.said: list[str] = []
        http = HttpClient(mock=httpx.MockTransport(self.answer))
        self.chat = Chat(settings=lambda: Settings(model=MODEL), http=http, say=self.said.append)
        monkeypatch.setattr(chat_module, "shared_chat", lambda: self.chat)
        self.notes: list[str] = []
        self.session = Session(
            self.chat, {}, view=lambda is_streamed: View(self.notes), shown=lambda reply: None,
            location=lambda: CellLocation(scope="kernel:1", cell_id=str(len(self.bodies))),
        )  # fmt: skip

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(json.loads(request.content))
        usage = {"prompt_tokens": 10, "completion_tokens": self.written}
        if not self.bodies[-1].get("stream"):
            choice = {"message": {"content": '{"a": 1}'}, "finish_reason": self.reason}
            return httpx.Response(200, json={"choices": [choice], "usage": usage})
        events = [
            {"choices": [{"delta": {"content": '{"a": 1}'}}]},
            {"choices": [{"delta": {}, "finish_reason": self.reason}]},
            {"choices": [], "usage": usage},
        ]
        content = b"".join(map(sse, events)) + sse("[DONE]")
        return httpx.Response(200, content=content, headers={"content-type": "text/event-stream"})

    def cell(self, line: str = "", prompt: str = "Hello") -> Reply:
        reply = self.session.cell(line, prompt)
        assert isinstance(reply, Reply)
        return reply


@pytest.fixture
def embedded(model_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Embedded]:
    embedded = Embedded(monkeypatch)
    yield embedded
    run(embedded.chat.http.aclose())


# --- the demonstration model


def test_first_cell_of_a_process_says_that_it_is_a_demonstration_and_how_to_choose_another(embedded: Embedded) -> None:
    for _ in range(3):
        embedded.cell()
    (note,) = embedded.notes
    assert DEMONSTRATION in note
    assert "%aichat use PROVIDER/MODEL" in note
    assert DISTRUST not in note
    assert "\n" not in note
    assert not embedded.said, "it is above the reply, and not a second time on the error stream"


@pytest.mark.parametrize(
    "use",
    [
        lambda chat: ask("Hello", chat=chat),
        lambda chat: list(stream("Hello", chat=chat)),
        lambda chat: Conversation(chat=chat).ask("Hello"),
        lambda chat: list(Conversation(chat=chat).stream("Hello")),
    ],
    ids=["ask", "stream", "conversation", "conversation streams"],
)
def test_first_call_of_a_script_says_so_in_one_line(embedded: Embedded, use: Callable[[Chat], object]) -> None:
    for _ in range(3):
        use(embedded.chat)
    (line,) = embedded.said
    assert DEMONSTRATION in line
    embedded.cell()
    assert not embedded.notes, "the process has been told"


@pytest.mark.parametrize(
    "use",
    [
        lambda prompts, chat: batch(list(prompts), chat=chat, progress=False),
        lambda prompts, chat: prompts.aichat.complete(progress=False),
        lambda prompts, chat: prompts.aichat.extract(
            schema={"type": "object", "properties": {"a": {}}}, progress=False
        ),
    ],
    ids=["batch", "complete", "extract"],
)
def test_run_says_once_that_it_is_not_to_be_relied_on(
    embedded: Embedded, use: Callable[[pd.Series, Chat], object]
) -> None:
    embedded.cell()
    for number in range(2):
        use(pd.Series([f"{number} {row}" for row in range(30)]), embedded.chat)
    (line,) = embedded.said
    assert DEMONSTRATION in line
    assert DISTRUST in line


def test_run_of_a_cell_shows_it_in_its_view_only(embedded: Embedded) -> None:
    frame = pd.DataFrame({"a": ["x", "y"]})
    run = frame.aichat.run("{a}", progress=False)
    assert DISTRUST in " ".join(repr(run).split())
    assert DISTRUST in run._repr_mimebundle_()["text/html"]
    assert DISTRUST not in repr(frame.aichat.run("{a}!", progress=False))
    assert not embedded.said
    assert all("demonstration" not in body["messages"][-1]["content"] for body in embedded.bodies)


@pytest.mark.parametrize("line", ["--format json", "--code", "--schema Wanted"])
def test_values_and_code_are_not_to_be_relied_on(embedded: Embedded, line: str) -> None:
    embedded.session._variables["Wanted"] = {"type": "object"}
    embedded.cell()
    for _ in range(2):
        embedded.cell(line)
    assert len(embedded.notes) == 2
    assert DISTRUST in embedded.notes[1]


def test_commands_about_code_are_not_to_be_relied_on(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    def wanted() -> int:
        return 1

    embedded.session._variables["wanted"] = wanted
    embedded.session.command("doc wanted")
    (note,) = embedded.notes
    assert DISTRUST in note
    embedded.cell()
    assert len(embedded.notes) == 1, "the longer line holds the shorter one"


@pytest.mark.parametrize("model", ["echo/echo", "openai/m", "local//somewhere/other.gguf"])
def test_other_models_are_not_introduced(model: str, tmp_path: Path) -> None:
    file = tmp_path / "other.gguf"
    file.write_bytes(b"GGUF")
    chat = Chat(settings=lambda: Settings(base_url="http://localhost:1/v1"))
    call = Conversation(chat=chat, model=model.replace("/somewhere/other.gguf", str(file)))._call("x", {})[0]
    assert chat.introductions.line(call) == chat.introductions.line(call, is_relied_on=True) == ""


@pytest.mark.slow
def test_line_of_a_script_goes_to_the_error_stream_and_can_be_switched_off(model_cache: Path) -> None:
    code = "import aichat_magic\nfor _ in range(2): print(aichat_magic.ask('Hi', max_tokens=2).usage.output_tokens)"
    off = "import logging\nlogging.getLogger('aichat_magic').setLevel('ERROR')\n"
    shown = []
    for each in (code, off + code):
        done = subprocess.run(
            [sys.executable, "-c", each], env={**os.environ, "AICHAT_MODEL_DIR": str(model_cache)},
            capture_output=True, text=True, timeout=300, check=True,
        )  # fmt: skip
        assert done.stdout == "2\n2\n"
        shown.append(done.stderr)
    assert shown[0].count("\n") == 1
    assert DEMONSTRATION in shown[0]
    assert shown[1] == ""


# --- its limit


def test_reply_cut_by_the_limit_of_the_embedded_model_says_how_to_raise_it(embedded: Embedded) -> None:
    embedded.reason, embedded.written = "length", 256
    reply = embedded.cell()
    assert embedded.bodies[-1]["max_tokens"] == 256
    assert "cut after 256 tokens" in reply.notice
    assert "--max-tokens N" in reply.notice
    shown: list[dict[str, str]] = []
    LiveReply(UpdatedView(lambda bundle, display_id, is_update: shown.append(bundle))).finish(reply)
    written: list[str] = []
    LiveReply(StreamedView(written.append, width=0)).finish(reply)
    for place in (shown[-1]["text/html"], shown[-1]["text/plain"], "".join(written), reply_bundle(reply)["text/html"]):
        assert "cut after 256 tokens" in place
        assert "max_tokens" in place
    assert summary_line(reply).endswith("cut off")


def test_reply_cut_by_the_limit_of_the_user_is_marked_as_before(embedded: Embedded) -> None:
    embedded.reason, embedded.written = "length", 300
    reply = embedded.cell("--max-tokens 300")
    assert embedded.bodies[-1]["max_tokens"] == 300
    assert reply.notice == ""
    assert "cut by max_tokens" in reply_bundle(reply)["text/html"]


def test_script_is_told_once_of_replies_that_were_cut(embedded: Embedded) -> None:
    embedded.reason, embedded.written = "length", 256
    for _ in range(3):
        assert "cut after 256 tokens" in ask("Hello", chat=embedded.chat).notice
    assert len(embedded.said) == 2
    assert embedded.said[1].startswith(f"{MODEL}: cut after 256 tokens")


def test_reply_that_a_view_shows_is_not_told_on_the_error_stream(embedded: Embedded) -> None:
    embedded.reason, embedded.written = "length", 256
    call = Conversation(chat=embedded.chat)._call("x", {})[0]
    assert "cut after 256 tokens" in run(embedded.chat.ask(call, is_viewed=True)).notice
    assert not embedded.said


def test_limit_is_no_part_of_the_key(embedded: Embedded) -> None:
    """A stored reply to the same question stays a reply to it, whatever the default is in a later release."""
    call = Conversation(chat=embedded.chat)._call("x", {})[0]
    assert call.request.options == Options()
    keys = {request_key(provider="local", host="", request=each) for each in (call.request, call.request)}
    assert len(keys) == 1


# --- contexts that are full


class LlamaCpp:
    """A server with a context: it refuses a prompt that does not fit, and ends a reply where the context ends.

    Its tokenizer makes a token of two bytes, so that all estimates are too low.
    """

    def __init__(self, context: int) -> None:
        self.context = context
        self.read: list[int] = []

    def __call__(self, received: Received, attempt: int) -> Answer:
        read = sum(len(message["content"]) for message in received.json["messages"]) // 2
        self.read.append(read)
        if read >= self.context:
            return status(400, {"error": {"message": "the request exceeds the available context size", "code": 400}})
        written = min(self.context - read, received.json.get("max_tokens", 10**6))
        return answer(received, "ab" * written, reason="length", read=read, written=written)


@pytest.mark.parametrize("model", ["llamacpp/m", "vllm/m", "lmstudio/m", "openai/m"])
def test_reply_cut_by_the_end_of_the_context_is_told_and_the_next_cell_works(model: str) -> None:
    """Row 89d."""
    server = LlamaCpp(2048)
    with ChatServer(server) as at:
        chat = Chat(settings=lambda: Settings(model=model, base_url=at.url, max_retries=0))
        notes: list[str] = []
        session = Session(
            chat, {}, view=lambda is_streamed: View(notes), shown=lambda reply: None,
            location=lambda: CellLocation(scope="kernel:1", cell_id=str(len(server.read))),
        )  # fmt: skip
        first = session.cell("", "Tell me everything.")
        assert isinstance(first, Reply)
        assert f"the context of {model} is full" in first.notice
        assert "--new" in first.notice
        assert "max_history_tokens" in first.notice
        assert "llama-server -c" in first.notice or model != "llamacpp/m"
        for number in range(4):
            reply = session.cell("", f"And then? {number}")
            assert isinstance(reply, Reply)
            assert len(reply.text) > 1000, "there is room for a reply"
        assert max(server.read) < 2048
        run(chat.http.aclose())


@pytest.mark.parametrize(
    ("options", "read", "written", "words"),
    [
        ({}, 1000, 3096, "the context of llamacpp/m is full"),
        ({}, 1000, 3095, "the context of llamacpp/m is full"),
        ({"max_tokens": 5000}, 1000, 3096, "the context of llamacpp/m is full"),
        ({"max_tokens": 3096}, 1000, 3096, ""),
        ({"max_tokens": 500}, 1000, 500, ""),
        ({}, 900, 512, "cut after 512 tokens by a limit of llamacpp's own: set one with --max-tokens N"),
        ({}, 20, 236, "limit of llamacpp's own"),
        ({}, None, None, "cut by a limit of llamacpp's own"),
    ],
)
def test_cause_of_a_cut_is_told_from_the_tokens(
    options: dict[str, Any], read: int | None, written: int | None, words: str
) -> None:
    def cut(received: Received, attempt: int) -> Answer:
        return answer(received, reason="length", read=read, written=written)

    with ChatServer(cut) as server:
        said: list[str] = []
        chat = Chat(settings=Settings, say=said.append)
        reply = ask("x" * 5000, chat=chat, model="llamacpp/m", base_url=server.url, **options)
        assert words in reply.notice
        assert bool(words) == bool(reply.notice) == bool(said)
        run(chat.http.aclose())


def test_limit_of_a_server_is_not_taken_for_its_context() -> None:
    with ChatServer(lambda received, attempt: answer(received, reason="length", read=990, written=100)) as server:
        chat = Chat(settings=lambda: Settings(model="llamacpp/m", base_url=server.url), say=lambda line: None)
        talk = Conversation(chat=chat)
        for _ in range(4):
            talk.ask("x" * 4000)
        assert len(talk.call("x", Conversation._call.__globals__["CallOptions"]())[1].messages) == 9
        run(chat.http.aclose())


@pytest.mark.slow
def test_context_of_the_embedded_model_ends_in_a_cell_and_the_next_cell_works(
    model_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close_all()
    monkeypatch.setattr(engine, "_SMALL", (1, 1024))  # a whole one takes a minute to fill
    chat = Chat(settings=lambda: Settings(model=MODEL, options=Options(temperature=0)))
    replies: list[Reply] = []
    session = Session(
        chat, {}, view=lambda is_streamed: View([]), shown=replies.append,
        location=lambda: CellLocation(scope="kernel:1", cell_id=str(len(replies))),
    )  # fmt: skip
    session.cell("", "Go on: " + "one two three four five six seven eight nine ten " * 90)
    assert (replies[0].usage.input_tokens or 0) > 1024 - 256
    assert f"the context of {MODEL} is full" in replies[0].notice
    session.cell("--max-tokens 8", "What is the capital of Japan?")
    assert replies[1].text
    run(chat.http.aclose())
    close_all()


# --- prompts that are cut in silence


@pytest.mark.parametrize(
    ("model", "sent", "read", "is_cut"),
    [
        ("ollama/m", 40_000, 4096, True),  # exactly the context
        ("ollama/m", 40_000, 2100, True),  # whole messages were dropped
        ("lmstudio/m", 40_000, 4096, True),
        ("openai/m", 40_000, 4096, True),  # Ollama by its address
        ("ollama/m", 40_000, 9_800, False),
        ("ollama/m", 17_000, 4096, False),  # a prompt of this size by chance
        ("ollama/m", 3_000, 256, False),  # blanks make long tokens
        ("ollama/m", 40_000, None, False),  # not reported
        ("ollama/m", 40_000, 0, False),
    ],
)
def test_prompt_that_the_server_has_cut_is_told(model: str, sent: int, read: int | None, is_cut: bool) -> None:
    with ChatServer(lambda received, attempt: answer(received, read=read)) as server:
        said: list[str] = []
        chat = Chat(settings=lambda: Settings(model=model, base_url=server.url), say=said.append)
        reply = ask("word " * (sent // 5), chat=chat)
        assert ("context is full" in reply.notice) is is_cut
        assert bool(said) is is_cut
        if is_cut:
            assert f"has read only {read:,} of about 10,0" in reply.notice
            assert ("OLLAMA_CONTEXT_LENGTH" in reply.notice) is (model == "ollama/m")
            assert "cut after" not in reply_bundle(reply)["text/html"]
        run(chat.http.aclose())


def test_lines_for_users_are_output_in_a_kernel_and_logged_elsewhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class OutStream(io.StringIO):
        """Named like the stream of ipykernel."""

    line = f"{DEMONSTRATION}, and is often wrong. Do not rely on it."
    chat_module.say_line(line)
    assert caplog.messages == [line]
    caplog.clear()
    monkeypatch.setattr(sys, "stdout", stream := OutStream())
    chat_module.say_line(line)
    assert caplog.messages == []
    assert " ".join(stream.getvalue().split()) == line
    assert max(map(len, stream.getvalue().splitlines())) <= 72
