"""What a cell makes of replies that think, that hold no answer, that were cut, and of requests that are too long."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from servers import Answer, ChatServer, Received, event_stream, status, text

from aichat_magic.chat.chat import Chat
from aichat_magic.chat.conversation import Conversation, History
from aichat_magic.core.errors import ContextLengthError, EmptyReplyError, ProviderError
from aichat_magic.core.json_text import SchemaError
from aichat_magic.core.messages import Message, Reply
from aichat_magic.core.settings import Settings
from aichat_magic.core.sync import run_sync as run
from aichat_magic.core.usage import Usage
from aichat_magic.magic.notebook_identity import CellLocation
from aichat_magic.magic.session import Session
from aichat_magic.store.conversations import SqliteConversations

USAGE = {"prompt_tokens": 10, "completion_tokens": 5}
SECRET = "Hm, the user wants a number"


def answer(*deltas: dict[str, Any], reason: str = "stop") -> Answer:
    """A stream of these pieces of a message."""
    events = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}], "usage": USAGE}
    return event_stream([f"data: {json.dumps(event)}\n\n" for event in (*events, last)] + ["data: [DONE]\n\n"])


class View:
    """A view that records all it is told."""

    def __init__(self) -> None:
        self.thoughts: list[str] = []
        self.texts: list[str] = []
        self.notes: list[str] = []
        self.last: tuple[Reply | None, str] | None = None

    def note(self, line: str) -> None:
        self.notes.append(line)

    def status(self, text: str, done: int = 0, total: int = 0) -> None: ...

    def think(self, thinking_so_far: str) -> None:
        self.thoughts.append(thinking_so_far)

    def update(self, text_so_far: str) -> None:
        self.texts.append(text_so_far)

    def finish(self, reply: Reply | None, *, note: str = "") -> None:
        self.last = (reply, note)


class Desk:
    """A notebook with its conversations in a file, at a server that answers by the last word of a prompt."""

    def __init__(self, path: Path, answers: dict[str, Any]) -> None:
        self.path = path
        self.store = SqliteConversations(path)
        self.variables: dict[str, Any] = {}
        self.views: list[View] = []
        self.shown: list[Reply] = []
        self._tries: dict[str, int] = {}

        def choose(received: Received, attempt: int) -> Answer:
            word = (received.last_message.split() or [""])[-1]
            found = answers.get(word) or text(f"echo: {word}")
            self._tries[word] = self._tries.get(word, 0) + 1
            return found[min(self._tries[word], len(found)) - 1] if isinstance(found, list) else found

        self.server = ChatServer(choose)

    def begin(self) -> None:
        settings = Settings(model="vllm/m", base_url=self.server.url, max_history_tokens=100_000)
        self.chat = Chat(settings=lambda: settings, random=lambda: 0.0)
        self.session = Session(
            self.chat,
            self.variables,
            view=self._view,
            shown=self.shown.append,
            location=lambda: CellLocation(notebook="a.ipynb", is_notebook=True),
            store=lambda: self.store,
        )

    def _view(self, is_streamed: bool) -> View:
        self.views.append(View())
        return self.views[-1]

    def ask(self, prompt: str, line: str = "") -> Reply:
        reply = self.session.cell(line, prompt)
        assert isinstance(reply, Reply)
        return reply

    @property
    def view(self) -> View:
        return self.views[-1]

    @property
    def sent(self) -> list[str]:
        return [message["content"] for message in self.server.requests[-1].json["messages"]]


@pytest.fixture
def answers() -> dict[str, Any]:
    return {}


@pytest.fixture
def desk(tmp_path: Path, answers: dict[str, Any]) -> Iterator[Desk]:
    desk = Desk(tmp_path / "c.sqlite3", answers)
    with desk.server:
        desk.begin()
        yield desk
        desk.store.close()
        run(desk.chat.http.aclose())


# Thinking ----------------------------------------------------------------------------------------------------------


def test_thinking_grows_before_the_text_and_is_in_nothing_that_is_sent_kept_or_exported(
    desk: Desk, answers: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers["field"] = answer({"reasoning_content": SECRET}, {"reasoning_content": "."}, {"content": "Four."})
    answers["tags"] = answer({"content": f"<think>{SECRET}."}, {"content": "</think>"}, {"content": "\n\nFour."})
    answers["eaten"] = answer({"content": f"{SECRET}.\n"}, {"content": "</think>"}, {"content": "\n\nFour."})
    for word in ("field", "tags", "eaten"):
        reply = desk.ask(word, "-o kept")
        assert (reply.text, reply.thinking) == ("Four.", f"{SECRET}.")
        assert desk.variables["kept"] is reply
        assert desk.view.last == (reply, "")
        assert desk.view.texts[-1] == "Four."
    assert desk.views[0].thoughts == [SECRET, f"{SECRET}."]
    assert desk.views[1].thoughts[-1] == f"{SECRET}."
    assert desk.views[2].texts[0] == f"{SECRET}.\n"  # before anything told that it is thinking
    desk.ask("again")
    assert desk.sent == ["field", "Four.", "tags", "Four.", "eaten", "Four.", "again"]
    for line in (f"export {tmp_path}/a.json", f"export {tmp_path}/a.md", f"export {tmp_path}/a.ipynb", "show", "usage"):
        desk.session.command(line)
    desk.store.close()
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    assert len(files) >= 4
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    assert SECRET not in capsys.readouterr().out


def test_thinking_that_was_all_that_came_is_shown_and_a_retry_begins_it_anew(
    desk: Desk, answers: dict[str, Any]
) -> None:
    broken = event_stream(
        [f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'reasoning': SECRET}}]})}\n\n"], abrupt=True
    )
    answers["mended"] = [broken, answer({"reasoning": "Ah."}, {"content": "Four."})]
    reply = desk.ask("mended")
    assert (reply.text, reply.thinking) == ("Four.", "Ah.")
    assert desk.view.thoughts == [SECRET, "Ah."]
    answers["broken"] = broken
    with pytest.raises(ProviderError):
        desk.ask("broken")
    assert desk.view.last is not None
    last, _ = desk.view.last
    assert last is not None
    assert (last.thinking, last.text, last.finish_reason) == (SECRET, "", "truncated")


def test_model_version_and_tokens_of_thinking_are_kept_with_a_conversation(desk: Desk, tmp_path: Path) -> None:
    desk.ask("hello")
    desk.session.command(f"export {tmp_path}/a.json")
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["turns"][0]["model_version"] == "m"
    document["turns"][0]["usage"].update(reasoning_tokens=7, cache_write_tokens=9)
    document["turns"][0] |= {"model_version": "y-1", "model": "x/y", "reply": "Four.", "thinking": "Hm."}
    (tmp_path / "b.json").write_text(json.dumps(document))
    desk.session.command(f"import {tmp_path}/b.json other")
    found = desk.store.load("", "other")
    assert found is not None
    stored = found.turns[0].reply
    assert (stored.model_version, stored.usage.reasoning_tokens, stored.usage.cache_write_tokens) == ("y-1", 7, 9)
    assert stored.thinking == ""
    desk.store.record_run("x/y", Usage(reasoning_tokens=7, cache_write_tokens=9), 1)
    rows = [row.usage for row in desk.store.usage() if row.model == "x/y"]
    assert [(usage.reasoning_tokens, usage.cache_write_tokens) for usage in rows] == [(7, 9)]


# Answers that are none ---------------------------------------------------------------------------------------------

NONE = {
    "length": (answer({"reasoning": SECRET}, reason="length"), "Raise max_tokens", "no answer · cut by max_tokens"),
    "filtered": (answer({"content": None}, reason="content_filter"), "content filter", "content filter"),
    "refused": (answer({"refusal": "I cannot help."}), "refused to answer", "no answer · refused"),
    "blank": (answer({"content": " \n"}), "gave no reason", "no answer"),
}


@pytest.mark.parametrize("word", NONE)
def test_answer_that_is_none_is_shown_as_what_it_is_and_is_no_turn(
    word: str, desk: Desk, answers: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    answers[word], advice, note = NONE[word]
    desk.ask("hello")
    with pytest.raises(EmptyReplyError, match=advice) as failed:
        desk.ask(word, "--max-tokens 5 -o kept")
    assert desk.view.last is not None
    shown, shown_note = desk.view.last
    assert shown == failed.value.reply == desk.variables["kept"]
    assert note in shown_note
    assert shown is not None
    assert shown.thinking == (SECRET if word == "length" else "")
    assert (shown.text == "I cannot help.") == (word == "refused")
    desk.ask("again")
    assert desk.sent == ["hello", "echo: hello", "again"]
    assert [reply.text for reply in desk.shown] == ["echo: hello", "echo: again"]
    # It was paid for.
    usage = desk.store.usage()
    assert sum(row.replies for row in usage) == 3
    assert sum(row.usage.output_tokens or 0 for row in usage) >= 5 + 4


def test_reply_in_the_wrong_format_is_no_turn_and_was_paid_for(desk: Desk) -> None:
    with pytest.raises(SchemaError):
        desk.ask("hello", "--format json")
    assert not desk.shown
    usage = desk.store.usage()
    assert sum(row.replies for row in usage) == 1
    assert sum(row.usage.output_tokens or 0 for row in usage) > 0


def test_answer_that_is_none_leaves_the_turn_of_its_cell_as_it_was(desk: Desk, answers: dict[str, Any]) -> None:
    answers["flaky"] = [text("fine"), NONE["refused"][0]]
    desk.ask("flaky", "--chat c")
    with pytest.raises(EmptyReplyError):
        desk.ask("flaky", "--chat c")
    found = desk.store.load("", "c")
    assert found is not None
    assert [turn.reply.text for turn in found.turns] == ["fine"]


def test_json_that_is_none_is_not_asked_for_twice(desk: Desk, answers: dict[str, Any]) -> None:
    answers["words."] = NONE["refused"][0]  # the last word of the instructions
    with pytest.raises(EmptyReplyError, match="refused to answer"):
        desk.ask("a number", "--format json")
    assert len(desk.server.requests) == 1


# Cut ---------------------------------------------------------------------------------------------------------------


def test_text_that_was_cut_stays_and_is_a_turn_and_the_cell_says_what_cut_it(
    desk: Desk, answers: dict[str, Any]
) -> None:
    answers["cut"] = answer({"content": "One two"}, reason="length")
    reply = desk.ask("cut", "--max-tokens 5")
    assert reply.text == "One two"
    assert desk.view.last is not None
    assert "cut at max_tokens=5: raise max_tokens" in desk.view.last[1]
    desk.ask("more")
    assert desk.sent == ["cut", "One two", "more"]


# Too long ----------------------------------------------------------------------------------------------------------


class TooLong:
    """Makes each request fail as one with too many tokens, as the servers' own errors do."""

    def __init__(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        async def stream(*_: Any, **__: Any) -> Any:
            raise ContextLengthError("The server said: at most 8192 tokens.", status=400, provider="vllm")
            yield

        monkeypatch.setattr(type(desk.chat), "_chunks", stream)
        monkeypatch.setattr(type(desk.chat), "ask", lambda *_, **__: anext(stream()))


def test_request_that_is_too_long_names_what_takes_the_space_and_the_ways_out(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.variables |= {"df": pd.DataFrame({"a": range(500)}), "small": "a few words", "words": "word " * 4000}
    for number in range(3):
        desk.ask(f"{'long ' * 100}{number}")
    TooLong(desk, monkeypatch)
    with pytest.raises(ContextLengthError) as failed:
        desk.ask("What is in {words}?", "-i df -i small")
    said = str(failed.value)
    assert said.startswith("The server said: at most 8192 tokens. Of about ")
    for words in (
        "the 3 turns before the prompt about 4",
        "to send less: --new, %aichat undo, or %aichat set max_history_tokens N",
        "words, the largest of what is included, about 5,0",
    ):
        assert words in said
    assert "\n" not in said
    assert desk.view.last == (None, "")
    with pytest.raises(ContextLengthError) as failed:
        desk.ask("What?", "--new")
    assert "nearly all are the prompt's own" in str(failed.value)
    assert "--new" not in str(failed.value)  # it is that already
    with pytest.raises(ContextLengthError, match=r"small, the largest of what is included, about \d\."):
        desk.ask("What?", "--new -i small")


def test_conversation_of_a_script_names_its_own_ways_out(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = Conversation(chat=desk.chat)
    conversation.ask("hello")
    TooLong(desk, monkeypatch)
    for ask in (conversation.ask, lambda prompt: list(conversation.stream(prompt))):
        with pytest.raises(ContextLengthError, match=r"the turn before the prompt about \d+ .*undo\(\), reset\(\)"):
            ask("more")
    assert len(conversation.turns) == 1


def test_advice_counts_pictures_and_the_system_message() -> None:
    history = History((Message("system", "s" * 400), Message("user", "p" * 40)), 0, 0, 0)
    assert history.length_advice() == "Of about 118 tokens, nearly all are the prompt's own."


def test_server_that_says_so_is_understood(desk: Desk, answers: dict[str, Any]) -> None:
    body = {
        "error": {
            "message": "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.",
            "code": "context_length_exceeded",
        }
    }
    answers["much"] = status(400, body=body)
    desk.ask("hello")
    with pytest.raises(ProviderError, match="maximum context length") as failed:
        desk.ask("much")
    if isinstance(failed.value, ContextLengthError):
        assert "the turn before the prompt" in str(failed.value)
